/* neutral.h - texts about nothing in particular. What the rows of documents look like is learned from them where kalm-quantize is
   given no others (rows.h). */
#ifndef KALM__NEUTRAL_H
#define KALM__NEUTRAL_H

static const char *const kalm__neutral[] = {
    "A bridge carries its load to the banks either by bending, as a beam does, or by pushing outwards, as an arch does. Engineers of "
    "the nineteenth century built long spans of wrought iron, and later of steel, whose strength under tension made the suspension "
    "bridge possible. The cables hang from two towers and are anchored in rock; the deck is stiffened so that wind cannot make it "
    "swing. Inspection is done every second year, and cracks near rivets are repaired before traffic may return.",
    "To cook lentil soup for four people, chop one onion, two carrots and a stick of celery, and fry them gently in olive oil for "
    "ten minutes. Add 250 g of brown lentils, a bay leaf and a litre and a half of water. Simmer until the lentils are soft, about "
    "forty minutes. Season with salt, pepper and a little vinegar. The soup keeps for three days in the refrigerator and tastes "
    "better when it is warmed up.",
    "This program reads a file line by line and prints those lines that match a regular expression. Options choose whether upper and "
    "lower case differ, whether the number of each line is shown, and whether folders are searched as well. The exit status is 0 if "
    "a line was found, 1 if none was, and 2 if an error occurred. See the manual for the syntax of patterns and for examples.",
    "The patient, a woman of 54 years, was admitted with fever and a dry cough. An X-ray of the chest showed shadows in the lower part "
    "of the left lung. Antibiotics were given for seven days; the temperature was normal on the third. Blood tests after two weeks "
    "were without findings, and she was discharged with the advice to stop smoking and to return if breathing became difficult.",
    "Interest rates were left unchanged on Thursday. The central bank said that prices had risen by 2.3 percent over the year, mostly "
    "because of energy and rents, and that wages were growing more slowly than expected. Shares of banks fell, while exporters gained "
    "from the weaker currency. Analysts think that a first cut could come in the spring if unemployment keeps rising.",
    "Whales are mammals that live in the sea. They breathe air through a blowhole, feed their young with milk, and keep warm with a "
    "layer of fat under the skin. The largest, the blue whale, grows to thirty metres and eats small shrimps that it filters from the "
    "water. Hunting brought several species close to extinction; since it was forbidden, some populations have recovered slowly.",
    "static int count_words(const char *text)\n{\n    int n = 0, inside = 0;\n    for (; *text; text++) {\n        if (*text == ' ' || *text == "
    "'\\n') inside = 0;\n        else if (!inside) inside = 1, n++;\n    }\n    return n;   /* 0 for the empty text */\n}",
    "Dear customer, thank you for your order no. 48213. The parcel was handed to the carrier this morning and should reach you within "
    "two to four working days. You can follow it at https://example.org/track?id=48213. If something is damaged or missing, please send "
    "us a photograph within 14 days, and we will replace it free of charge. Kind regards, your service team.",
    "The treaty was signed in the autumn of 1648, after negotiations that had lasted four years. It confirmed the rights of the princes, "
    "redrew several borders, and allowed three confessions to exist beside each other. Historians disagree on how much it changed: some "
    "see the beginning of the modern system of states, others a compromise among exhausted powers that only repaired older law.",
    "Let f be a continuous function on the closed interval from a to b. If f(a) and f(b) have different signs, there is a point c "
    "between them with f(c) = 0. The proof halves the interval again and again and keeps the half on whose ends the signs differ; the "
    "lengths tend to zero, so the ends converge to one point, and by continuity the value there can be neither positive nor negative.",
    "She closed the door behind her and stood for a while in the dark corridor. Rain ran down the window at the far end. Somewhere below, "
    "somebody was playing the piano, always the same eight bars, and always stopping at the same wrong note. \"You are late,\" her "
    "brother said without turning round. \"I know,\" she answered. \"The train stood in the fields for an hour.\"",
    "The library provides functions to open, read and write images in many formats, to change their size and colours, and to draw text "
    "and shapes. It is written in C and has bindings for Python and Java. This package contains the header files and static libraries "
    "which are needed to compile programs that use it; the documentation is in a package of its own.",
    "Solar panels turn light into direct current. An inverter changes it to alternating current of 230 volts and 50 hertz, and what the "
    "house does not use goes to the grid or to a battery. A roof of 40 square metres that faces south gives about 8,000 kilowatt hours a "
    "year in the middle of Europe. Shadows, dust and high temperatures lower the yield; cleaning once a year is usually enough.",
    "Section 4. The tenant may end this agreement with notice of three months to the end of a month. The landlord may do so only for the "
    "reasons that the law names. Notice must be given in writing. At the end of the tenancy the rooms are to be returned clean and with all "
    "keys; the deposit is paid back within six months, less what is owed for damage that goes beyond ordinary wear.",
    "Die Stadt liegt an einem Fluss, der im Sommer wenig Wasser f\xc3\xbchrt. Im Mittelalter war sie ein wichtiger Markt f\xc3\xbcr Salz und "
    "Tuch; davon zeugen das Rathaus und die beiden Kirchen. Heute leben hier rund 60 000 Menschen, viele von ihnen arbeiten an der "
    "Universit\xc3\xa4t oder im Maschinenbau. Im Dezember findet auf dem Platz vor dem Dom ein Weihnachtsmarkt statt.",
    "Le chemin de fer relie la capitale aux principales villes du pays depuis 1890. Le voyage jusqu'\xc3\xa0 la c\xc3\xb4te dure environ "
    "quatre heures; il faut r\xc3\xa9server sa place \xc3\xa0 l'avance pendant les vacances. Les billets s'ach\xc3\xa8tent au guichet, aux "
    "automates ou en ligne, et les enfants de moins de douze ans voyagent \xc3\xa0 moiti\xc3\xa9 prix.",
    "\xe8\xbf\x99\xe6\x9d\xa1\xe6\xb2\xb3\xe5\x85\xa8\xe9\x95\xbf\xe7\xba\xa6\xe4\xb8\x89\xe7\x99\xbe\xe5\x85\xac\xe9\x87\x8c\xef\xbc\x8c"
    "\xe6\xb5\x81\xe7\xbb\x8f\xe5\x9b\x9b\xe4\xb8\xaa\xe7\x9c\x81\xe3\x80\x82\xe6\xaf\x8f\xe5\xb9\xb4\xe5\xa4\x8f\xe5\xad\xa3\xe9\x9b\xa8"
    "\xe6\xb0\xb4\xe5\xa4\x9a\xef\xbc\x8c\xe6\xb0\xb4\xe4\xbd\x8d\xe4\xb8\x8a\xe5\x8d\x87\xe5\xbe\x88\xe5\xbf\xab\xe3\x80\x82",
    "name: backup\nschedule: daily at 03:15\nkeep: 14 days, 8 weeks, 12 months\nexclude: *.tmp, cache/, node_modules/\ncompression: zstd, "
    "level 6\nnotify: admin@example.com on failure\n# The first run copies everything and takes several hours.",
    "Question: Why is the sky blue? Answer: Light from the sun contains all colours. Molecules of the air scatter short waves, which we "
    "see as blue, much more strongly than long ones, which we see as red. In the evening the light travels a longer way through the air, "
    "most of the blue is scattered out of it, and the sun itself looks red.",
    "The team won its third match in a row on Saturday, 2-1 after extra time. The visitors scored first, with a header after a corner in "
    "the 23rd minute; the equaliser came from the penalty spot shortly before half time. With four minutes left a long pass found the "
    "substitute, who ran past two defenders and shot into the far corner. The coach praised the patience of his players.",
};
enum { KALM__NEUTRAL = sizeof kalm__neutral / sizeof kalm__neutral[0] };

#endif
