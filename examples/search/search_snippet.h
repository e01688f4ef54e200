/* search_snippet.h - the part of a passage that is shown: the stretch of at most so many bytes that has most of the question's words,
   rare words counting more; and where its words stand, to be marked. The passage itself was chosen by the model, of all
   passages of its document. Included behind search_schema.h. */
#ifndef KALM_SEARCH_SNIPPET_H
#define KALM_SEARCH_SNIPPET_H

/* A word of the question. */
typedef struct search_term {
    char   word[TERMS_LONGEST + 8];    /* folded, stemmed, a NUL behind it */
    size_t size;
    int64_t passages;                  /* that have it */
    double weight;                     /* its inverse document frequency, as BM25 has it */
    int    stop;                       /* one of terms_stop_words */
    int    asked;                      /* FTS5 was asked for it; common words are left out where there are rarer ones */
} search_term;

typedef struct search_mark { size_t from, to, term; } search_mark;

enum { SEARCH_TERMS = 64 };            /* words of a question that are looked at: the rarest */

typedef struct search_snippet {
    kalm_text    text;                 /* within the passage */
    search_mark *mark;                 /* [marks] bytes of `text`, in their order, none in another; owned */
    size_t       marks, room;
    int          cut_before, cut_after;
    /* while it is made */
    const search_term *term;
    size_t       terms;
} search_snippet;

KALM__FN void search_mark_term(void *user, const char *word, size_t size, size_t from, size_t to)
{
    search_snippet *s = (search_snippet *)user;
    char own[TERMS_LONGEST + 8];
    size_t i;
    memcpy(own, word, size);
    size = search_stem(own, size);
    for (i = 0; i < s->terms; i++) {
        if (s->term[i].size != size || memcmp(s->term[i].word, own, size)) continue;
        if (s->marks == s->room) s->mark = (search_mark *)cmd_grow(s->mark, (s->room = s->room ? s->room * 2 : 32) * sizeof *s->mark);
        s->mark[s->marks].from = from;
        s->mark[s->marks].to = to;
        s->mark[s->marks++].term = i;
        return;
    }
}

/* Of passage[0, size): where a sentence, a line or a word begins, at most `back` bytes before `at`. */
KALM__FN size_t search_snippet_begin(kalm_text t, size_t at, size_t back)
{
    size_t least = at > back ? at - back : 0, i, word = at, sentence = (size_t)-1;
    for (i = at; i > least; i--) {
        if (t.data[i - 1] == '\n' || (i > 1 && t.data[i - 1] == ' ' && strchr(".!?", t.data[i - 2]))) {
            sentence = i;
            break;
        }
        if (t.data[i - 1] == ' ') word = i;
    }
    if (i == 0) sentence = 0;
    return sentence != (size_t)-1 ? sentence : word;
}

/* The best stretch of about `most` bytes of the passage. s->mark and s->room may be of an earlier call. */
KALM__FN void search_make_snippet(search_snippet *s, kalm_text passage, const search_term *term, size_t terms, size_t most)
{
    size_t i, k, from = 0, to, kept = 0, begin = 0;
    double best = -1;
    s->term = term;
    s->terms = terms;
    s->marks = 0;
    terms_of(passage, TERMS_FOLD, search_mark_term, s);
    for (i = 0; i < s->marks; i++) {   /* the stretch that begins with this word */
        double sum = 0;
        unsigned char had[SEARCH_TERMS];
        memset(had, 0, sizeof had);
        for (k = i; k < s->marks && s->mark[k].to <= s->mark[i].from + most * 3 / 4; k++) {
            sum += had[s->mark[k].term] ? term[s->mark[k].term].weight * 0.1 : term[s->mark[k].term].weight;
            had[s->mark[k].term] = 1;
        }
        if (sum > best) best = sum, begin = s->mark[i].from;
    }
    if (s->marks) from = search_snippet_begin(passage, begin, most / 4);
    to = kalm__min(from + most, passage.size);
    if (to == passage.size && passage.size > most && from > passage.size - most)
        from = search_snippet_begin(passage, passage.size - most, most / 8);
    if (to < passage.size)             /* a whole word, if there are spaces */
        for (i = to; i > to - most / 8; i--)
            if (strchr(" \n", passage.data[i - 1])) {
                to = i;
                break;
            }
    while (from && ((unsigned char)passage.data[from] & 0xc0) == 0x80) from--;
    while (to < passage.size && ((unsigned char)passage.data[to] & 0xc0) == 0x80) to++;
    while (from < to && strchr(" \t\r\n", passage.data[from])) from++;
    while (to > from && strchr(" \t\r\n", passage.data[to - 1])) to--;
    for (i = 0; i < s->marks; i++) {
        search_mark m = s->mark[i];
        if (m.from < from || m.to > to) continue;
        m.from -= from, m.to -= from;
        if (kept && m.from < s->mark[kept - 1].to) s->mark[kept - 1].to = kalm__max(m.to, s->mark[kept - 1].to);  /* pairs of one script overlap */
        else s->mark[kept++] = m;
    }
    s->marks = kept;
    s->text.data = passage.data + from;
    s->text.size = to - from;
    for (i = 0; i < from && strchr(" \t\r\n", passage.data[i]); i++) {}
    s->cut_before = i < from;
    for (i = to; i < passage.size && strchr(" \t\r\n", passage.data[i]); i++) {}
    s->cut_after = i < passage.size;
}

#endif
