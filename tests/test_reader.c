/* test_reader.c - src/tools/reader.h: the same documents in every form and every encoding, what is bad and where it is said to
   be, names of columns, long files whose pieces meet inside characters, and JSON out; and the commands' hashes. */
#include "../src/tools/files.h"        /* before all else, see there */
#define READ_LONGEST ((size_t)3 << 20) /* tests/test_security.sh looks that the commands have 1 GiB */
#include "../src/tools/reader.h"
#include "../src/tools/json_out.h"
#include "../src/tools/secret.h"
#include "../src/tools/sha256.h"
#include "../src/tools/siphash.h"
#include "command.h"
#include <time.h>

#define TMP TEST_BUILD "/tmp/reader.txt"

static const char *const texts[] = { "play chess", "sch\xc3\xb6n \"quoted\" \\ and \xe5\x8c\x97\xe4\xba\xac", "\xf0\x9f\x98\x80 [emoji], {more}" };
static const char *const json_texts[] = { "play chess", "sch\xc3\xb6n \\\"quoted\\\" \\\\ and \xe5\x8c\x97\xe4\xba\xac",
                                          "\\ud83d\\ude00 [emoji], {more}" };

/* ---- encodings ------------------------------------------------------------------------------------------------------- */

enum { UTF8, UTF8_MARK, LE16, BE16, LE16_MARK, BE16_MARK, LE32, BE32, LE32_MARK, BE32_MARK, ENCODINGS };

static size_t put_unit(unsigned char *to, uint32_t c, unsigned bytes, int big)
{
    unsigned i;
    for (i = 0; i < bytes; i++) to[big ? bytes - 1 - i : i] = (unsigned char)(c >> 8 * i);
    return bytes;
}

/* UTF-8 text into `to` in another encoding; its size. */
static size_t encode(unsigned char *to, const char *s, size_t size, int encoding)
{
    unsigned unit = encoding < LE16 ? 1 : encoding < LE32 ? 2 : 4;
    int big = encoding == BE16 || encoding == BE16_MARK || encoding == BE32 || encoding == BE32_MARK;
    int mark = encoding == UTF8_MARK || encoding == LE16_MARK || encoding == BE16_MARK || encoding == LE32_MARK || encoding == BE32_MARK;
    size_t n = 0, i = 0, k;
    if (unit == 1) {
        if (mark) memcpy(to, "\xef\xbb\xbf", n = 3);
        memcpy(to + n, s, size);
        return n + size;
    }
    if (mark) n += put_unit(to, 0xfeff, unit, big);
    while (i < size) {
        size_t bytes = kalm__json_utf8((const unsigned char *)s + i, size - i);
        uint32_t c = (unsigned char)s[i];
        if (bytes > 1) c &= 0x7fu >> bytes;
        for (k = 1; k < bytes; k++) c = c << 6 | ((unsigned char)s[i + k] & 63);
        i += bytes;
        if (unit == 2 && c >= 0x10000) {
            n += put_unit(to + n, 0xd800 + ((c - 0x10000) >> 10), 2, big);
            n += put_unit(to + n, 0xdc00 + ((c - 0x10000) & 0x3ff), 2, big);
        } else n += put_unit(to + n, c, unit, big);
    }
    return n;
}

/* ---- forms ----------------------------------------------------------------------------------------------------------- */

typedef struct form { const char *name, *begin, *each[3], *between, *end; int format, keys; } form;

#define OBJECT(i, a, b) "{" a "\"_id\": \"k" #i "\"," b " \"text\": \"%s\", \"more\": [1, {\"x\": null}]" a "}"
#define PLAIN(i) OBJECT(i, "", "")
#define PRETTY(i) OBJECT(i, "\n  ", "\n  ")
#define THREE(M) { M(0), M(1), M(2) }

static const form forms[] = {
    { "JSON Lines", "", THREE(PLAIN), "\n", "\n", READ_JSON, 1 },
    { "JSON Lines, CR LF, without an end", "", THREE(PLAIN), "\r\n", "", READ_JSON, 1 },
    { "JSON Lines, indented, with blank lines", "\n  ", THREE(PLAIN), "\n \n\t", "\n\n", READ_JSON, 1 },
    { "array on one line", "[", THREE(PLAIN), ", ", "]", READ_JSON, 1 },
    { "array on many lines", " [\n ", THREE(PLAIN), ",\n ", "\n]\n", READ_JSON, 1 },
    { "array, pretty", "[\r\n", THREE(PRETTY), " ,\r\n", "\r\n]\r\n", READ_JSON, 1 },
    { "objects over many lines", "", THREE(PRETTY), "\n", "\n", READ_JSON, 1 },
    { "array of strings", "[", { "\"%s\"", "\"%s\"", "\"%s\"" }, ",\n", "]", READ_JSON, 0 },
    { "TSV", "", { "k0\t%s", "k1\t%s", "k2\t%s" }, "\r\n", "\r\n", READ_TSV, 1 },
    { "TSV with names", "Title\tcontents\tdocno\n", { "\t%s\tk0", "\t%s\tk1", "\t%s\tk2" }, "\n", "", READ_TSV, 1 },
    { "JSON text sequence", "\x1e", THREE(PLAIN), "\n\x1e", "\n", READ_JSON, 1 },
    { "JSON text sequence over lines", "\x1e", THREE(PRETTY), "\n\x1e", "\n", READ_JSON, 1 },
    { "CSV", "docid,contents,Title\n", { "k0,%s,T", "k1,\"sch\xc3\xb6n \"\"quoted\"\" \\ and \xe5\x8c\x97\xe4\xba\xac\",", "k2,\"%s\",T" }, "\n", "", READ_CSV, 1 },
    { "CSV with semicolons, CR LF, names quoted", "\"id\";\"n\";\"text\"\r\n", { "k0;1;%s", "k1;\"2\";%s", "\"k2\";;\"%s\"" }, "\r\n\r\n", "\r\n",
      READ_CSV, 1 },
    { "lines", "", { "%s", "%s", "%s" }, "\n\n", "\n", READ_LINES, 0 }
};

static size_t write_form(char *out, size_t room, const form *f)
{
    size_t i, n = (size_t)snprintf(out, room, "%s", f->begin);
    for (i = 0; i < 3; i++) {
        const char *text = f->format == READ_JSON ? json_texts[i] : texts[i];
        char *mark;
        char each[256];
        strcpy(each, f->each[i]);
        mark = strstr(each, "%s");
        if (mark) *mark = 0;           /* else the text stands there as it is written in this form */
        n += (size_t)snprintf(out + n, room - n, "%s%s%s%s", each, mark ? text : "", mark ? mark + 2 : "", i < 2 ? f->between : f->end);
    }
    return n;
}

static int is(kalm_text t, const char *s) { return t.size == strlen(s) && !memcmp(t.data, s, t.size); }

static void test_forms(void)
{
    static char plain[4096];
    static unsigned char bytes[4 * 4096];
    size_t f;
    int e;
    for (f = 0; f < sizeof forms / sizeof *forms; f++)
        for (e = 0; e < ENCODINGS; e++) {
            size_t n = write_form(plain, sizeof plain, &forms[f]), i;
            reader r;
            text_record t;
            char key[8];
            write_bytes(TMP, bytes, encode(bytes, plain, n, e));
            if (!CHECK(reader_begin(&r, TMP, READ_AUTO))) continue;
            r.format = reader_guess(&r, 1);
            if (!CHECKF(r.format == forms[f].format, "%s, encoding %d: format %d", forms[f].name, e, r.format)) r.format = forms[f].format;
            r.with_metadata = 1;
            for (i = 0; i < 3; i++) {
                int what = reader_next(&r, &t);
                if (!CHECKF(what == READ_RECORD, "%s, encoding %d, text %d: %d, line %lu, %s", forms[f].name, e, (int)i, what, r.line, r.why))
                    break;
                sprintf(key, "k%d", (int)i);
                CHECKF(is(t.text, texts[i]), "%s, encoding %d, text %d: %.*s", forms[f].name, e, (int)i, (int)t.text.size, t.text.data);
                CHECKF(forms[f].keys ? is(t.key, key) : !t.key.data, "%s, encoding %d: key of text %d", forms[f].name, e, (int)i);
                if (strstr(forms[f].each[0], "more")) CHECK(is(t.metadata, "{\"more\":[1,{\"x\":null}]}"));
            }
            CHECKF(reader_next(&r, &t) == READ_END, "%s, encoding %d: more than three texts", forms[f].name, e);
            CHECK(reader_next(&r, &t) == READ_END);
            reader_end(&r);
        }
}

/* ---- what is bad ------------------------------------------------------------------------------------------------------- */

/* Everything of a file as one line: "K=TEXT;" for a record, "LINE: why;" for bad input. */
static const char *all_of(const char *bytes, size_t size, int format, int strict)
{
    static char out[4096];
    size_t n = 0;
    reader r;
    text_record t;
    int what, turns = 0;
    write_bytes(TMP, bytes, size);
    if (!CHECK(reader_begin(&r, TMP, format))) return "";
    r.strict_utf8 = strict;
    r.with_metadata = 1;
    if (!r.format) r.format = reader_guess(&r, 0);
    while ((what = reader_next(&r, &t)) != READ_END && turns++ < 100) {
        if (what == READ_BAD) n += (size_t)snprintf(out + n, sizeof out - n, "%lu: %s;", r.line, r.why);
        else n += (size_t)snprintf(out + n, sizeof out - n, "%.*s=%.*s;", (int)t.key.size, t.key.data ? t.key.data : "",
                                   (int)t.text.size, t.text.data);
    }
    CHECK(turns < 100);
    out[n] = 0;
    reader_end(&r);
    return out;
}

static void expect(const char *bytes, int format, const char *words)
{
    const char *got = all_of(bytes, strlen(bytes), format, 1);
    CHECKF(!strcmp(got, words), "%s\n  gave:     %s\n  expected: %s", bytes, got, words);
}

/* A table whose fields may be quoted: what it holds, and where it is bad. */
static void test_csv(void)
{
    char wide[400], *big;
    size_t i, n;
    double seconds[2];
    expect("id,text\n1,\"a\nb\r\n\"\n2,c\n", READ_CSV, "1=a\nb\r\n;2=c;");
    expect("id,text\n1,\"\"\"a\"\",\"\n2,\"\"\n\"3\",c\"d\"\"", READ_CSV, "1=\"a\",;2=;3=c\"d\"\";");
    expect("id,text\n1,\"a\nb\nc,\"d\"e\n4,f\n", READ_CSV, "2: a field's quotation marks do not close, or text stands behind them;4=f;");
    expect("id,text\n1,\"a\nb\n2,c\n", READ_CSV, "2: a field's quotation marks do not close, or text stands behind them;3: 1 columns, the first line names 2;2=c;");
    expect("id,text\n1,\"a\"b\n2,\"c\" \n3,d", READ_CSV, "2: a field's quotation marks do not close, or text stands behind them;"
           "3: a field's quotation marks do not close, or text stands behind them;3=d;");
    expect("id,text\n1,a,b\n2\n,c\n", READ_CSV, "2: 3 columns, the first line names 2;3: 1 columns, the first line names 2;=c;");
    expect("id,text\n1,\"a\nb\"\n\n2,\xff\n", READ_CSV, "1=a\nb;5: byte 0 of the text is not UTF-8;");      /* the line in which a row begins */
    expect("text\na\n\"b, c\"\n", READ_CSV, "=a;=b, c;");                       /* a key need not be there */
    expect("label,body\nx,a;b\n", READ_CSV, "=a;b;");
    expect("id,words\nx,a;b\n", READ_CSV, "x=a;b;");                              /* of two columns the other is the text */
    expect("id;text\n1;a,b\n", READ_CSV, "1=a,b;");
    expect("id\ttext\n1\t\"a\tb\"\n", READ_CSV, "1=a\tb;");
    expect("a,b,c\n1,2,3\n", READ_CSV, "1: the first row of CSV names the columns, and none here is the text (text, contents, passage, body ...);");
    expect("text,\"id\n1,2", READ_CSV, "1: the first row names more than 64 columns, or its quotation marks do not close;");
    for (n = 0, i = 0; i < 64; i++) n += (size_t)sprintf(wide + n, "%s,", i == 63 ? "text" : "c");
    expect(wide, READ_CSV, "1: the first row names more than 64 columns, or its quotation marks do not close;");
    strcpy(wide + n - 1, "\n");
    for (i = 0; i < 63; i++) strcat(wide, ",");
    strcat(wide, "a\n");
    expect(wide, READ_CSV, "=a;");
    /* what nothing but its first line says to be CSV */
    expect("id,text\n1,\"a\"\n", READ_AUTO, "1=a;");
    expect("Title;Passage\nT;a\n", READ_AUTO, "=a;");
    expect("text,label\n1,a\n", READ_AUTO, "=text,label;=1,a;");
    expect("id,,text\n1,2,a\n", READ_AUTO, "=id,,text;=1,2,a;");
    expect("id,text,and a name that is longer than forty bytes\n", READ_AUTO, "=id,text,and a name that is longer than forty bytes;");
    /* a mark that is missing costs its line, and the time of one reading, also where every row lacks one */
    for (i = 0; i < 2; i++) {
        const char *begin = "id,text\n", *row = i ? "1,\"a\n" : "1,aaa\n";
        reader r;
        text_record t;
        size_t rows = 150000, good = 0;
        clock_t from;
        int what;
        big = (char *)malloc(16 + 6 * rows);
        n = strlen(begin);
        memcpy(big, begin, n);
        for (; rows; rows--, n += strlen(row)) memcpy(big + n, row, strlen(row));
        write_bytes(TMP, big, n);
        free(big);
        from = clock();
        if (!CHECK(reader_begin(&r, TMP, READ_CSV))) return;
        while ((what = reader_next(&r, &t)) != READ_END) good += what == READ_RECORD;
        CHECKF(good == (i ? 0u : 150000u), "%lu rows were read", (unsigned long)good);
        CHECKF(r.lines == 150001, "%lu lines", r.lines);
        reader_end(&r);
        seconds[i] = (double)(clock() - from) / CLOCKS_PER_SEC;
    }
    CHECKF(seconds[1] < 20 * seconds[0] + 1, "rows without a closing mark took %.2f s, good ones %.2f", seconds[1], seconds[0]);
}

static void test_markup(void)
{
#define MARKUP ": is a page of HTML or another file of marked up text, not a file of texts: kalm-search reads HTML;"
    expect("<!DOCTYPE html>\n<p>a\n", READ_AUTO, "0" MARKUP);
    expect("\n \t<html lang=en>\n", READ_AUTO, "2" MARKUP);
    expect("<?xml version=\"1.0\"?>\n<a/>\n", READ_AUTO, "0" MARKUP);
    expect("<DOC>\n<DOCNO>1</DOCNO>\n", READ_AUTO, "0" MARKUP);
    expect("<!DOCTYPE html>\n", READ_LINES, "=<!DOCTYPE html>;");     /* when they are said to be lines, lines they are */
    expect("<b>a</b>\n", READ_AUTO, "=<b>a</b>;");
    expect("{\\rtf1 a}\n", READ_AUTO, "0: is an RTF file: take its text out first;");
}

/* Strings, numbers and members that only look right. */
static void test_bad_json(void)
{
    expect("{\"text\": \"\\udc00\\udc00\"}\n{\"text\": \"\\udc00x\"}\n{\"text\": \"\\ud800\\ud800\"}\n{\"text\": \"\\ud83d\\ude00\"}\n", READ_AUTO,
           "1: column 11: an escaped surrogate has no partner;2: column 11: an escaped surrogate has no partner;"
           "3: column 11: an escaped surrogate has no partner;=\xf0\x9f\x98\x80;");
    expect("{\"text\": \"a\", \"id\": 1, \"text\": \"b\", \"id\": 2}\n", READ_AUTO,
           "1: column 25: \"text\" stands there twice;");         /* nobody can know which is meant */
    expect("{\"text\": \"a\", \"x\": 01}\n{\"text\": \"b\", \"x\": -0}\n{\"text\": \"c\", \"x\": -00.5}\n{\"text\": \"d\", \"x\": 0.05e-01}\n", READ_AUTO,
           "1: column 20: this is no number that JSON knows;=b;3: column 20: this is no number that JSON knows;=d;");
}

static void test_bad(void)
{
    static const char lone[] = "\xff\xfe" "a\0\n\0" "\x00\xd8\n\0" "b\0";
    static const char compressed[] = "\x1f\x8b\x08\0\0\0\0\0";
    const char *got;
    /* one line of JSON Lines is bad, the others are read */
    expect("{\"text\": \"a\"}\n{\"text\": NaN}\n{\"text\": \"b\", \"x\": NaN}\n{\"text\": \"\\ud800\"}\n{\"id\": 5, \"text\": \"c\"}", READ_AUTO,
           "=a;2: column 10: a value must stand here;3: column 20: a value must stand here;"
           "4: column 11: an escaped surrogate has no partner;5=c;");
    expect("{\"text\": \"a\n{\"text\": \"b\"}\n", READ_AUTO, "1: column 10: a string has no closing quote;=b;");
    expect("{\"text\": \n{\"text\": \"b\"}\n{\"text\": \"c\"}\n", READ_AUTO, "1: column 10: the text ends too early;=b;=c;");
    expect("{\"text\": \"a\"}\n{\"text\": \"b\"\n{\"text\": \"c\"}\n{\"text\": \"d\"\n", READ_AUTO,
           "=a;2: column 13: the text ends too early;=c;4: column 13: the text ends too early;");
    expect("{\"text\": \"a\"} {\"text\": \"b\"}\n{\"text\": \"c\"}", READ_AUTO, "1: column 15: something stands behind the end;=c;");
    expect("{\"text\": 5}\n{}\n[]\n\"x\"\n7\nnull\n", READ_JSON,
           "1: an object with a string \"text\" must stand here;2: an object with a string \"text\" must stand here;"
           "3: an object with a string \"text\" must stand here;4: an object with a string \"text\" must stand here;"
           "5: an object with a string \"text\" must stand here;6: an object with a string \"text\" must stand here;");
    expect("{\"_id\": {}, \"text\": \"a\"}\n{\"id\": null, \"text\": \"b\"}\n{\"_id\": null, \"id\": \"k\", \"text\": \"c\"}\n{\"text\": \"d\", \"title\": 1}",
           READ_AUTO, "1: the id is no string and no number;=b;k=c;4: the title is no string;");
    expect("{\n \"text\": \"a\",\n \"x\": y\n}\n{\"text\": \"b\"}\n", READ_AUTO,
           "3: column 7: a value must stand here;=b;");
    /* arrays: a bad element is left out, a bad array is told once */
    expect("[{\"text\": \"a\"},\n {\"text\": 1},\n {\"text\": tru}, {\"text\": \"b\"}]", READ_AUTO,
           "=a;2: an object with a string \"text\" must stand here;3: column 11: a value must stand here;=b;");
    expect("[]", READ_AUTO, "");
    expect("[\"a\", 1, null, \"b\"]", READ_AUTO, "=a;1: an object with a string \"text\" must stand here;"
           "1: an object with a string \"text\" must stand here;=b;");
    expect("[\"a\"", READ_AUTO, "=a;1: the array has no end: the file is cut off;");
    expect("[\"a\",", READ_AUTO, "=a;1: the array has no end: the file is cut off;");
    expect("[\"a\",\n\"b", READ_AUTO, "=a;2: the value that begins here does not end;");
    expect("[{\"text\": \"a\"}\n{\"text\": \"b\"}]", READ_AUTO, "=a;2: ',' or ']' must stand here;");
    expect("[\"a\",]", READ_AUTO, "=a;1: a value must stand behind the comma;");
    expect("[\"a\"]\n[\"b\"]", READ_AUTO, "=a;2: something stands behind the end of the array;");
    expect("[,\"a\"]", READ_JSON, "1: ',' or ']' must stand here;");
    /* what only looks like JSON */
    expect("[1] first\n[2] second\n", READ_AUTO, "=[1] first;=[2] second;");
    expect("first\n{not json}\n", READ_AUTO, "=first;={not json};");
    expect("{not json}\n", READ_LINES, "={not json};");
    expect("", READ_AUTO, "");
    expect(" \n\t\r\n", READ_AUTO, "");
    /* columns */
    expect("doc_id\tpassage\n1\ta\n", READ_TSV, "1=a;");
    expect("ID\tBody\n1\ta\n", READ_TSV, "1=a;");
    expect("id\tsomething\n1\ta\n", READ_TSV, "1=a;");
    expect("name\ttext\n1\ta\n", READ_TSV, "1=a;");
    expect("_id\tid\ttext\n1\t2\ta\n", READ_TSV, "1=a;");
    expect("id\turl\twords\n1\tu\ta\n", READ_TSV, "1: the first line names columns, but none of them is the text (text, contents, passage, body ...);");
    expect("1\ta\n2\tid\n", READ_TSV, "1=a;2=id;");
    expect("id\ttext\n1\t\"a\n", READ_TSV, "1=\"a;");                   /* nothing is quoted */
    expect("id\ttext\n1\ta\tb\n2\n3\tc", READ_TSV, "2: 3 columns, the first line names 2;3: 1 columns, the first line names 2;3=c;");
    expect("1\ta\tb\n", READ_TSV, "1: 3 columns; without names in the first line they are 2, key and text;");
    expect("1\t\xff\n2\tb", READ_TSV, "1: byte 0 of the text is not UTF-8;2=b;");
    /* bytes */
    expect("a\n\xff\nb", READ_LINES, "=a;2: byte 0 of the text is not UTF-8;=b;");
    CHECK(!strcmp(all_of("a\nb\xff", 4, READ_LINES, 0), "=a;=b\xff;"));
    got = all_of(lone, sizeof lone - 1, READ_AUTO, 1);
    CHECKF(!strcmp(got, "=a;2: byte 0 of the text is not UTF-8;=b;"), "half of a pair in UTF-16: %s", got);
    got = all_of("\xff\xfe" "a\0\n\0" "b", 7, READ_AUTO, 1);
    CHECKF(!strcmp(got, "=a;2: byte 0 of the text is not UTF-8;"), "half of a unit in UTF-16: %s", got);
    got = all_of("a\0b\nsecond\n", 11, READ_AUTO, 1);
    CHECKF(!strcmp(got, "=a;=second;") || strlen(got) > 5, "a NUL in UTF-8: %s", got);
    got = all_of(compressed, sizeof compressed - 1, READ_AUTO, 1);
    CHECKF(!strncmp(got, "0: is compressed by gzip", 24), "gzip: %s", got);
    expect("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", READ_AUTO,
           "0: is a pointer of Git LFS, not the file itself: git lfs pull fetches it;");
    expect("%PDF-1.4\n", READ_WHOLE, "0: is a PDF file: take its text out first (pdftotext);");
    expect("BZh is a word\n", READ_AUTO, "=BZh is a word;");
    {
        reader r;
        text_record t;
        CHECK(!reader_begin(&r, "", READ_AUTO) && strstr(r.why, "empty") && reader_next(&r, &t) != READ_RECORD);
        reader_end(&r);
        CHECK(!reader_begin(&r, TEST_BUILD, READ_AUTO) && strstr(r.why, "directory"));
        reader_end(&r);
        CHECK(!reader_begin(&r, TEST_BUILD "/tmp/no/such", READ_AUTO) && strstr(r.why, "No such file"));
        reader_end(&r);
    }
}

/* Every member of the one record of a file, "key|title|text|query|metadata", or why it is bad. */
static void expect_record(const char *bytes, int format, const char *words)
{
    static char out[8192];
    reader r;
    text_record t;
    int what;
    write_bytes(TMP, bytes, strlen(bytes));
    if (!CHECK(reader_begin(&r, TMP, format))) return;
    r.with_metadata = 1;
    what = reader_next(&r, &t);
    if (what == READ_RECORD) snprintf(out, sizeof out, "%.*s|%.*s|%.*s|%.*s|%.*s", (int)t.key.size, t.key.data ? t.key.data : "", (int)t.title.size,
                                      t.title.data ? t.title.data : "", (int)t.text.size, t.text.data, (int)t.query.size,
                                      t.query.data ? t.query.data : "", (int)t.metadata.size, t.metadata.data);
    else snprintf(out, sizeof out, "%lu: %s", r.line, r.why);
    CHECKF(what != READ_END && !strcmp(out, words), "%s\n  gave:     %s\n  expected: %s", bytes, out, words);
    reader_end(&r);
}

/* What a record has beside its text: every kind of JSON value is kept as it stands, what says the text again is not. */
static void test_members(void)
{
    char deep[600];
    size_t i, n;
    expect_record("{\"_id\": \"k\", \"title\": \"T\", \"text\": \"a\", \"query\": \"q\"}", READ_JSON, "k|T|a|q|{\"query\":\"q\"}");
    expect_record("{\"title\": null, \"text\": \"a\", \"query\": 7}", READ_JSON, "||a||{\"query\":7}");
    expect_record("{\"text\": \"a\", \"n\": -1.50e3, \"t\": true, \"f\": false, \"z\": null, \"s\": \"\\u0001\\\"\", \"l\": [1, [], {}], \"o\": {\"p\": [], \"q\": 2}}",
                  READ_JSON, "||a||{\"n\":-1.50e3,\"t\":true,\"f\":false,\"z\":null,\"s\":\"\\u0001\\\"\",\"l\":[1,[],{}],\"o\":{\"p\":[],\"q\":2}}");
    expect_record("{\"text\": \"a\", \"n\": 1, \"o\": {\"n\": 2, \"n\": 3}}", READ_JSON, "1: column 38: \"n\" stands there twice");
    expect_record("{\"_id\": 1, \"id\": 2, \"text\": \"a\"}", READ_JSON, "1||a||{\"id\":2}");
    expect_record("{\"docid\": 7, \"contents\": \"a\", \"heading\": \"T\", \"url\": \"u\"}", READ_JSON, "7|T|a||{\"url\":\"u\"}");
    expect_record("{\"passage\": \"b\", \"text\": null, \"body\": \"c\", \"id\": null, \"key\": \"k\"}", READ_JSON, "k||b||{\"body\":\"c\",\"id\":null}");
    expect_record("{\"contents\": \"no\", \"n\": 1, \"contents\": \"a\"}", READ_JSON, "1: column 29: \"contents\" stands there twice");
    expect_record("id,\"a \"\"b\"\"\",text\nk,\"1\"\"\",a\n", READ_CSV, "k||a||{\"a \\\"b\\\"\":\"1\\\"\"}");
    expect_record("text,n\na,1\n", READ_CSV, "||a||{\"n\":\"1\"}");
    expect_record("[\"a\"]", READ_JSON, "||a||{}");
    /* a hundred levels of metadata are kept, one more is named */
    for (i = 100; i < 102; i++) {
        n = (size_t)sprintf(deep, "{\"text\": \"a\", \"m\": ");
        memset(deep + n, '[', i);
        memset(deep + n + i, ']', i);
        strcpy(deep + n + 2 * i, "}");
        write_bytes(TMP, deep, strlen(deep));
        {
            const char *got = all_of(deep, strlen(deep), READ_JSON, 1);
            CHECKF(!strcmp(got, i == 100 ? "=a;" : "1: metadata nested more than 100 deep;"), "%u levels: %s", (unsigned)i, got);
        }
    }
    expect_record("id\tyear\ttext\ttitle\tplace\nk\t1999\ta\tT\tX\"Y\n", READ_TSV, "k|T|a||{\"year\":\"1999\",\"place\":\"X\\\"Y\"}");
    expect_record("id\tyear\ttext\nk\t\xff\ta\n", READ_TSV, "2: byte 0 of the metadata is not UTF-8");
    expect_record("id\ttitle\ttext\nk\t\xff\ta\n", READ_TSV, "2: byte 0 of the title is not UTF-8");
    expect_record("id\ttext\n\xff\ta\n", READ_TSV, "2: byte 0 of the key is not UTF-8");
    expect_record("id\ttitle\nk\ta\n", READ_TSV, "k||a||{}");             /* of two columns the other is the text, whatever its name */
    expect_record("1\t\n", READ_TSV, "1||||{}");
    expect_record("a text\nof two lines", READ_WHOLE, "||a text\nof two lines||{}");
    expect_record("a text that is \xff", READ_WHOLE, "0: byte 15 of the text is not UTF-8");
}

/* Bytes that are, or only look like, another encoding or another kind of file. */
static void test_guesses(void)
{
    static char chinese[200], names[1000];
    static unsigned char bytes[800];
    const char *got;
    size_t n = 0, i;
    int e;
    /* a text of Chinese in UTF-16 or UTF-32 without a mark has few characters of ASCII: it is told by what it cannot be */
    for (i = 0; i < 20; i++) n += (size_t)sprintf(chinese + n, "\xe5\x8c\x97\xe4\xba\xac%s", i == 9 ? "\n" : "");
    for (e = UTF8; e < ENCODINGS; e++) {
        size_t size = encode(bytes, chinese, n, e);
        got = all_of((const char *)bytes, size, READ_LINES, 1);
        CHECKF(got[0] == '=' && strlen(got) == n + 3 && !memcmp(got + 1, chinese, 60) && !memcmp(got + 63, chinese + 61, 60), "encoding %d: %s", e, got);
    }
    /* UTF-8 that could be UTF-16 as well is UTF-8: Chinese with a NUL behind a line's end */
    got = all_of("\xe4\xba\x8c\xe4\xba\x8c\xe4\xba\x8c\xe4\xba\x8c\n\0\xe4\xba\x8c\xe4\xba\x8c", 20, READ_LINES, 1);
    CHECKF(!strncmp(got, "=\xe4\xba\x8c\xe4\xba\x8c\xe4\xba\x8c\xe4\xba\x8c;", 14), "%s", got);
    /* halves of pairs, half of a unit, numbers that are no character: named, in both orders, and what is beside them is read */
    got = all_of("\xff\xfe" "a\0\n\0" "b\0\x00\xd8", 10, READ_LINES, 1);
    CHECKF(!strcmp(got, "=a;2: byte 1 of the text is not UTF-8;"), "half of a pair at the end: %s", got);
    got = all_of("\xff\xfe" "a\0\n\0" "\x00\xd8" "b\0", 10, READ_LINES, 1);
    CHECKF(!strcmp(got, "=a;2: byte 0 of the text is not UTF-8;"), "half of a pair before a character: %s", got);
    got = all_of("\xff\xfe\0\0" "a\0\0\0\n\0\0\0" "\0\0\x11\0", 16, READ_LINES, 1);
    CHECKF(!strcmp(got, "=a;2: byte 0 of the text is not UTF-8;"), "above Unicode's last: %s", got);
    got = all_of("\0\0\xfe\xff" "\0\0\0a" "\0\0\0\n" "\0\0\xd8\0", 16, READ_LINES, 1);
    CHECKF(!strcmp(got, "=a;2: byte 0 of the text is not UTF-8;"), "half of a pair in UTF-32: %s", got);
    got = all_of("a\0\0\0\0\xd8\0\0\n\0\0\0b\0\0\0", 16, READ_LINES, 1);        /* no mark: with that it cannot be UTF-32 */
    CHECKF(!strncmp(got, "1: byte 5 of the text is not UTF-8;", 35), "%s", got);
    got = all_of("\x1b[1mbold\n", 9, READ_LINES, 1);
    CHECKF(!strcmp(got, "=\x1b[1mbold;"), "%s", got);
    /* files of other kinds by their first bytes, and texts that only begin like them */
    expect("BZh9 and more", READ_AUTO, "0: is compressed by bzip2: unpack it first (bunzip2 -c);");
    expect("BZh", READ_AUTO, "=BZh;");
    expect("BZh0 is no level", READ_AUTO, "=BZh0 is no level;");
    got = all_of("KALMTOK1\0\0\0\0\0\0\0\0", 16, READ_AUTO, 1);
    CHECKF(!strcmp(got, "0: is a model file, not a file of texts;"), "%s", got);
    expect("KALM is a word", READ_AUTO, "=KALM is a word;");
    got = all_of("KALM is a word that stands before a \0", 38, READ_AUTO, 1);
    CHECKF(!strncmp(got, "=KALM is a word", 15), "%s", got);
    expect("PK is a word", READ_AUTO, "=PK is a word;");
    /* brackets: JSON where what follows could be */
    expect("[", READ_AUTO, "1: the array has no end: the file is cut off;");
    expect("[ \n\t", READ_AUTO, "2: the array has no end: the file is cut off;");
    expect(" \t[ \"a\" ]", READ_AUTO, "=a;");
    got = all_of("[\0]", 3, READ_JSON, 1);
    CHECKF(!strcmp(got, "1: column 2: a value must stand here;"), "%s", got);
    got = all_of("[7\0]", 4, READ_JSON, 1);
    CHECKF(strstr(got, "1: ") == got && strlen(got) < 200, "%s", got);
    expect("[1]", READ_JSON, "1: an object with a string \"text\" must stand here;");
    expect("[1", READ_JSON, "1: an object with a string \"text\" must stand here;1: the array has no end: the file is cut off;");
    expect("[\"a\"]]", READ_JSON, "=a;1: something stands behind the end of the array;");
    expect("[\"a\nb\"]", READ_JSON, "1: the value that begins here does not end;");
    /* columns: a document whose line says "text" names none, and sixty-four are the most */
    expect("text\tof\tthree fields\n", READ_TSV, "1: 3 columns; without names in the first line they are 2, key and text;");
    for (i = n = 0; i < 64; i++) n += (size_t)sprintf(names + n, "%s\t", i == 3 ? "id" : i == 5 ? "text" : "x");
    sprintf(names + n - 1, "\n");
    for (i = 0; i < 64; i++) strcat(names, i == 3 ? "k\t" : i == 5 ? "a\t" : "y\t");
    names[strlen(names) - 1] = '\n';
    expect(names, READ_TSV, "k=a;");
    names[n - 1] = '\t';
    names[n] = 'x';
    names[n + 1] = '\n';
    names[n + 2] = 0;
    expect(names, READ_TSV, "1: the first line names more than 64 columns;");
}

/* ---- long files: pieces meet inside characters, pairs, lines and objects ---------------------------------------------- */

static void test_long(void)
{
    enum { COUNT = 3000 };
    static char plain[1 << 21];
    static unsigned char bytes[4 << 21];
    int e, pretty;
    for (pretty = 0; pretty < 3; pretty++)
        for (e = 0; e < ENCODINGS; e++) {
            uint64_t seed = 5;
            size_t n = 0, i, k;
            reader r;
            text_record t;
            plain[0] = pretty == 2 ? '[' : ' ';
            n = 1;
            for (i = 0; i < COUNT; i++) {
                n += (size_t)sprintf(plain + n, "{%s\"id\": %d,%s \"text\": \"", pretty ? "\n" : "", (int)i, pretty ? "\n" : "");
                for (k = (size_t)(test_random(&seed) % 40); k; k--)
                    n += (size_t)sprintf(plain + n, "%s", k % 4 == 0 ? "\xf0\x9f\x98\x80" : k % 4 == 1 ? "\xe5\x8c\x97" : k % 4 == 2 ? "{\\\"" : "x");
                n += (size_t)sprintf(plain + n, "\"}%s\n", pretty == 2 ? i + 1 < COUNT ? "," : "]" : "");
            }
            write_bytes(TMP, bytes, encode(bytes, plain, n, e));
            if (!CHECK(reader_begin(&r, TMP, READ_AUTO))) continue;
            r.format = reader_guess(&r, 0);
            seed = 5;
            for (i = 0; i < COUNT; i++) {
                int what = reader_next(&r, &t);
                size_t want = 0;
                for (k = (size_t)(test_random(&seed) % 40); k; k--) want += k % 4 == 0 ? 4 : k % 4 == 1 ? 3 : k % 4 == 2 ? 2 : 1;
                if (!CHECKF(what == READ_RECORD && t.text.size == want, "form %d, encoding %d, text %d of %lu bytes: %d, line %lu, %s", pretty, e,
                            (int)i, (unsigned long)want, what, r.line, r.why)) break;
            }
            CHECK(reader_next(&r, &t) == READ_END);
            reader_end(&r);
        }
}

/* What is as long as READ_LONGEST is read, one byte more is named and left out, and what comes behind it is read. */
static void test_longest(void)
{
    static unsigned char bytes[READ_LONGEST + 100];
    static const struct { int format; const char *before, *after; size_t count; } kinds[] = {
        { READ_LINES, "", "\nbehind\n", 2 }, { READ_TSV, "a\t", "\nb\tbehind\n", 2 },
        { READ_JSON, "{\"text\": \"", "\"}\n{\"text\": \"behind\"}\n", 2 }, { READ_WHOLE, "", "", 1 }
    };
    size_t f, more;
    for (f = 0; f < sizeof kinds / sizeof *kinds; f++)
        for (more = 0; more < 2; more++) {
            size_t before = strlen(kinds[f].before), last = strcspn(kinds[f].after, "\n"), n, good = 0, bad = 0;
            reader r;
            text_record t;
            int what;
            memset(bytes, 'x', sizeof bytes);
            memcpy(bytes, kinds[f].before, before);
            n = READ_LONGEST - last + more;
            memcpy(bytes + n, kinds[f].after, strlen(kinds[f].after));
            write_bytes(TMP, bytes, n + strlen(kinds[f].after));
            if (!CHECK(reader_begin(&r, TMP, kinds[f].format))) continue;
            while ((what = reader_next(&r, &t)) != READ_END && good + bad < 10) {
                if (what == READ_RECORD) {
                    good++;
                    CHECK(t.text.size == (good + bad == 2 ? 6 : n - before));
                } else {
                    bad++;
                    CHECKF(strstr(r.why, "longer than") != NULL, "%s", r.why);
                }
            }
            CHECKF(good == kinds[f].count - more && bad == more, "form %u, %u bytes too many: %u texts, %u bad", (unsigned)f, (unsigned)more,
                   (unsigned)good, (unsigned)bad);
            reader_end(&r);
        }
}

/* ---- JSON out ---------------------------------------------------------------------------------------------------------- */

static void print_json(json_out *j)
{
    double zero = 0;
    kalm_text odd;
    odd.data = "x\"\\\n\1\xff";
    odd.size = 6;
    json_open(j, '{');
    json_key(j, "a");
    json_text(j, odd);
    json_key(j, "b");
    json_open(j, '[');
    json_newline(j);
    json_uint(j, 1);
    json_newline(j);
    json_open(j, '{');
    json_key(j, "c");
    json_bool(j, 1);
    json_key(j, "d");
    json_float(j, zero / zero, 9);
    json_close(j);
    json_newline(j);
    json_open(j, '[');
    json_close(j);
    json_newline(j);
    json_close(j);
    json_key(j, "e");
    json_float(j, 0.1, 9);
    json_key(j, "f");
    json_float(j, 1 / zero, 9);
    json_close(j);
}

static void test_json_out(void)
{
    static const char want[] = "{\"a\": \"x\\\"\\\\\\n\\u0001\xef\xbf\xbd\", \"b\": [\n  1,\n  {\"c\": true, \"d\": null},\n  []\n], \"e\": 0.1, \"f\": null}\n";
    json_out j;
    memory_out m;
    FILE *f = fopen(TMP, "wb");
    unsigned char *got;
    char *text, large[2000];
    size_t n = 0, i;
    if (!CHECK(f != NULL)) return;
    json_begin(&j, f);
    print_json(&j);
    fclose(f);
    got = test_read_file(TMP, &n);
    CHECKF(got && n == sizeof want - 1 && !memcmp(got, want, n), "%s\n%s", got ? (char *)got : "", want);
    free(got);
    memset(&m, 0, sizeof m);           /* the same into memory */
    json_begin_memory(&j, &m);
    for (i = 0; i < 100; i++) print_json(&j);
    n = m.size;
    text = memory_out_end(&m);
    if (CHECK(text && n == 100 * (sizeof want - 1) && !text[n])) {
        for (i = 0; i < 100; i++) CHECK(!memcmp(text + i * (sizeof want - 1), want, sizeof want - 1));
    }
    free(text);
    text = memory_out_end(&m);         /* nothing was printed */
    CHECK(text && !*text);
    free(text);
    memset(large, 'x', sizeof large - 1), large[sizeof large - 1] = 0;
    memset(&m, 0, sizeof m);           /* what has no room is not left out in silence */
    memory_out_format(&m, "%d %s", 7, "seven");
    CHECK(!m.lost && m.size == 7 && !strcmp(m.text, "7 seven"));
    memory_out_format(&m, "%s", large);
    CHECK(m.lost);
    memory_out_put(&m, "more", 4);
    CHECK(!memory_out_end(&m));
    memset(&m, 0, sizeof m);
    m.size = SIZE_MAX - 10;            /* a size that wraps */
    memory_out_put(&m, large, 100);
    CHECK(m.lost && !memory_out_end(&m));
}

/* ---- hashes ---------------------------------------------------------------------------------------------------------- */

static void is_sha256(const unsigned char sum[KALM__SHA256_BYTES], const char *want)
{
    char digits[2 * KALM__SHA256_BYTES + 1];
    size_t i;
    for (i = 0; i < KALM__SHA256_BYTES; i++) sprintf(digits + 2 * i, "%02x", sum[i]);
    CHECK(!strcmp(digits, want));
}

/* As their authors publish them: SipHash-2-4 in appendix A of the paper, and without a byte among the vectors of its program; SHA-256 in
   NIST's examples (FIPS 180), and of nothing. */
static void test_hashes(void)
{
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    unsigned char bytes[1000], sum[KALM__SHA256_BYTES];
    uint64_t key[2], other[2];
    kalm__sha256 h;
    kalm_text a = kalm__text("a"), ab = kalm__text("ab"), b = kalm__text("b"), none = kalm__text("");
    size_t i, n, left;
    for (i = 0; i < 16; i++) bytes[i] = (unsigned char)i;
    key[0] = kalm__u64(bytes), key[1] = kalm__u64(bytes + 8);
    CHECK(kalm__siphash(key, bytes, 15) == 0xa129ca6149be45e5u);
    CHECK(kalm__siphash(key, NULL, 0) == 0x726fdb47dd0e0e31u);
    CHECK(kalm__siphash(key, bytes, 8) != kalm__siphash(key, bytes, 7) && kalm__siphash(key, bytes, 16) != kalm__siphash(key, bytes, 15));
    CHECK(kalm__siphash_both(key, a, b) != kalm__siphash_both(key, ab, none));
    CHECK(kalm__siphash_both(key, ab, none) != kalm__siphash_both(key, none, ab));
    cmd_secret(key);
    cmd_secret(other);
    CHECK(key[0] != other[0] && key[1] != other[1] && key[0] != key[1]);
    kalm__sha256_of("abc", 3, sum);
    is_sha256(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    kalm__sha256_of(two_blocks, sizeof two_blocks - 1, sum);
    is_sha256(sum, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    kalm__sha256_of(NULL, 0, sum);
    is_sha256(sum, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    memset(bytes, 'a', sizeof bytes);  /* a million of them, in pieces of all sizes */
    kalm__sha256_begin(&h);
    for (left = 1000000, n = 1; left; left -= i, n = n % 999 + 1) kalm__sha256_add(&h, bytes, i = kalm__min(n, left));
    kalm__sha256_end(&h, sum);
    is_sha256(sum, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

int main(void)
{
    test_hashes();
    test_forms();
    test_bad();
    test_bad_json();
    test_csv();
    test_markup();
    test_members();
    test_guesses();
    test_long();
    test_longest();
    test_json_out();
    remove(TMP);
    return test_end();
}
