/* fuzz_search.h - targets for what kalm-search reads: "texts" (one file: pages of HTML, Markdown, mail, mailboxes, JSON, plain text), "folder"
   (files that come, change, move and go, and the database that follows them), "mcp" (lines of a peer) and "searched" (databases of
   strangers, with their index of words). command_search.c has the promises that need the command's own functions. */
#ifndef FUZZ_SEARCH_H
#define FUZZ_SEARCH_H

#include "fuzz_commands.h"
#include <errno.h>
#include <fcntl.h>

/* A command that must succeed, here one that looks for broken promises. */
#define FUZZ_RUN(...)                                                                   \
    do {                                                                                \
        int status_ = fuzz_command(__VA_ARGS__, NULL);                                  \
        FUZZ_CHECK(status_ == 0, "status %d: %s", status_, fuzz_command_said());        \
    } while (0)

/* ---- texts: byte 0 the kind of the file ------------------------------------------------------------------------------------------ */

static const char *const fuzz_text_names[10] = { "input.html", "input.md", "input", "input.eml", "cur-1", "input.jsonl", "input.json", "box", "input.txt", "input.htm" };

static void fuzz_texts_one(const uint8_t *data, size_t size)
{
    const char *name;
    if (!size) return;
    fuzz_enter();
    name = fuzz_text_names[data[0] % 10];
    fuzz_write(fuzz_path(name), data + 1, size - 1);
    FUZZ_RUN(fuzz_main_texts, fuzz_path(name));
}

#define FUZZ_MESSAGE(head, body) "From: =?utf-8?Q?Caf=C3=A9?= <a@b.c>\nTo: \"d, e\" <f@g.h>, =?x?B?4pyT?= <i@j>\nSubject: =?iso-8859-1?B?6Q==?= ab\n" \
    "Date: Mon, 1 Jan 2024 10:00:00 +0000\nMessage-ID: <one@x>\nMIME-Version: 1.0\n" head "\n\n" body

static void fuzz_texts_seeds(fuzz_taker *take)
{
    FUZZ_TAKE("html", "\0<!doctype html><html><head><title>A &amp; b</title><style>p{}</style></head><body><h1>ab</h1><p>one<br>two &eacute;&#x1f600;<ul><li>x<li>y</ul>"
                      "<table><tr><td>1<td>2</table><pre>a\n b</pre><script>x()</script><svg><title>no</title></svg></body></html>");
    FUZZ_TAKE("latin", "\0<html><head><meta charset=\"iso-8859-1\"><title>caf\xe9</title></head><body>na\xefve<!-- c --><![CDATA[x]]><p>\xff");
    FUZZ_TAKE("utf16-page", "\0\xff\xfe<\0p\0>\0a\0\xe9\0<\0/\0p\0>\0");
    FUZZ_TAKE("page-by-its-bytes", "\2 \n<!DOCTYPE HTML><p>by its first bytes");
    FUZZ_TAKE("markdown", "\1---\ntitle: \"ab \xc3\xa9\"\nother: x\n---\n# Heading #\n\ntext `code`\n```\n# no heading\n```\n~~~\n## x\n");
    FUZZ_TAKE("heading", "\1text\n\n###### deep ######\n####### none\n#none\n");
    FUZZ_TAKE("message", "\3" FUZZ_MESSAGE("Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable", "caf=E9 ab=\n cd\n=C3"));
    FUZZ_TAKE("html-message", "\4" FUZZ_MESSAGE("Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64", "PHA+PGI+YWI8L2I+IGNk\n"));
    FUZZ_TAKE("parts", "\3" FUZZ_MESSAGE("Content-Type: multipart/mixed; boundary=\"x\"", "--x\nContent-Type: multipart/alternative; boundary=y\n\n--y\nContent-Type: text/plain\n\nplain\n"
                       "--y\nContent-Type: text/html\n\n<p>rich\n--y--\n--x\nContent-Type: text/plain\nContent-Disposition: attachment; filename*=utf-8''%e2%82%ac\n\nsecret\n"
                       "--x\nContent-Type: message/rfc822\n\nSubject: inner\n\nbody\n--x--\n"));
    FUZZ_TAKE("uuencode", "\3" FUZZ_MESSAGE("Content-Type: text/plain; charset=utf-16\nContent-Transfer-Encoding: x-uuencode", "begin 644 a\n#86)C\n`\nend\n"));
    FUZZ_TAKE("mailbox", "\2From a@b Mon Jan  1 00:00:00 2024\nFrom: a@b\nSubject: one\nMessage-ID: <1@x>\n\n>From here\nbody\n\nFrom c@d Mon Jan  2 00:00:00 2024\nSubject: two\n\nab\n\n"
                         "From c@d Mon Jan  2 00:00:00 2024\n>From e Mon Jan  2 00:00:00 2024\nContent-Length: 3\nSubject: two\n\nab\n");
    FUZZ_TAKE("records", "\5{\"_id\": \"a\", \"title\": \"ab\", \"text\": \"ab aba\", \"n\": [1, {\"b\": null}]}\nno\n{\"text\": \"\\ud83d\\ude00 x\"}\r\n{\"id\": 7, \"text\": \"\\u0000\"}\n");
    FUZZ_TAKE("array", "\6[{\"id\": 1, \"text\": \"ab\"}, \"cd\", {\"id\": 2, \"text\": \"e\", \"title\": \"f\"}]");
    FUZZ_TAKE("other-json", "\6{\"name\": \"package\", \"version\": [1.0, 1e999]}");
    FUZZ_TAKE("plain", "\10Queries and classes of na\xc3\xafve cafe\xcc\x81s. \xe4\xb8\xad\xe6\x96\x87\xe5\xad\x97\xe7\xac\xa6 \xe0\xb8\xa0\xe0\xb8\xb2\xe0\xb8\xa9\xe0\xb8\xb2\n\n\tTabs \xf0\x9f\x98\x80 and\r\nlines.");
    FUZZ_TAKE("utf32", "\10\xff\xfe\0\0a\0\0\0b\0\0\0");
}
static const char *const fuzz_texts_words[] = {
    "<p>", "</p>", "<div>", "<br>", "<title>", "</title>", "<head>", "<body>", "<script>", "</script>", "<style>", "<table>", "<td>", "<li>", "<pre>", "<svg>", "<html", "<!doctype html>",
    "<meta charset=utf-16>", "<meta charset=\"x\">", "<!--", "-->", "<![CDATA[", "]]>", "&amp;", "&#0;", "&#xd800;", "&#x10ffff;", "&nGt;", "&eacute", "<?xml version=\"1.0\" encoding=\"UTF-7\"?>", "<!ENTITY a \"b\">",
    "---\n", "# ", "###### ", "```\n", "~~~\n", "title: ", "\n\n", "\r\n", "\n.\n",
    "From ", ">From ", "\nFrom a@b Mon Jan  1 00:00:00 2024\n", "Subject: ", "Message-ID: <", "Date: ", "To: ", "From: ", "Content-Type: ", "text/plain", "text/html", "multipart/mixed", "multipart/alternative", "multipart/signed",
    "message/rfc822", "message/partial", "message/external-body", "; boundary=x", "; charset=utf-16", "; charset=utf-7", "; charset=iso-2022-jp", "; charset=gb18030", "; charset=x", "; filename*0*=utf-8''", "--x\n", "--x--\n",
    "Content-Transfer-Encoding: ", "base64", "quoted-printable", "x-uuencode", "8bit", "Content-Disposition: attachment", "Content-Length: 5\n", "=?utf-8?Q?=C3?=", "=?utf-8?B?4pw=?=", "=?utf-16?B?AAA=?=", "=C3", "=\n", "=00",
    "{\"text\": \"", "\"title\": \"", "\"_id\": ", "\"}\n", "\\ud83d", "\\u0000", "null", "[", "]", "1e999", "\xef\xbb\xbf", "\xff\xfe", "\xe4\xb8\xad\xe6\x96\x87", "\xcc\x81", "\xc2\x85", "\xe2\x80\xae", NULL
};
static size_t fuzz_texts_change(uint8_t *p, size_t size, size_t room, uint64_t *random)
{
    if (size < 2 || fuzz_below(random, 16) == 0) {
        if (size) p[0] = (uint8_t)fuzz_below(random, 10);
        return size;
    }
    if (fuzz_below(random, 24) == 0) { /* many times the same: what is not linear shows */
        size_t at = 1 + fuzz_below(random, size - 1), len = 1 + fuzz_below(random, 12);
        if (len > size - at) len = size - at;
        while (size + len <= room && fuzz_below(random, 400)) {
            memmove(p + at + len, p + at, size - at);
            size += len;
        }
        return size;
    }
    return 1 + fuzz_change_bytes(p + 1, size - 1, room - 1, fuzz_texts_words, random);
}
static const fuzz_target fuzz_texts_target = { "texts", 1 << 13, 200, fuzz_texts_one, fuzz_texts_change, NULL, fuzz_texts_seeds, fuzz_texts_words };

/* ---- files: a folder that changes ---------------------------------------------------------------------------------------------------- */

static const char *const fuzz_file_names[16] = {
    "a.txt", "b.md", "c.html", "d.jsonl", "e.json", "box", "f.eml", "mail/cur/1:2,S", "mail/new/2", "sub/g.txt", "sub/deep/h.md", "no utf8 \xff%.txt", "new\nline.txt", ".hidden", "mail/tmp/3", "a.txt/x.md"
};

FUZZ_FN const char *fuzz_file_path(unsigned i)
{
    static char path[2][160];
    static unsigned turn;
    char *p = path[turn++ & 1];
    snprintf(p, sizeof path[0], "%s/files/%s", fuzz_folder, fuzz_file_names[i % 16]);
    return p;
}

/* An empty folder with the folders of the names above. */
FUZZ_FN void fuzz_empty_files(void)
{
    static const char *const folders[8] = { "files", "files/mail", "files/mail/cur", "files/mail/new", "files/mail/tmp", "files/sub", "files/sub/deep", "files/a.txt" };
    unsigned i;
    for (i = 16; i--; ) (void)unlink(fuzz_file_path(i));
    (void)rmdir(fuzz_path("files/a.txt"));
    for (i = 0; i < 7; i++) mkdir(fuzz_path(folders[i]), 0700);
}

FUZZ_FN void fuzz_remove_files(void)
{
    static const char *const folders[7] = { "files/sub/deep", "files/sub", "files/mail/tmp", "files/mail/new", "files/mail/cur", "files/mail", "files" };
    unsigned i;
    if (!fuzz_folder[0]) return;
    fuzz_empty_files();
    for (i = 0; i < 7; i++) rmdir(fuzz_path(folders[i]));
    for (i = 0; i < 10; i++) remove(fuzz_path(fuzz_text_names[i]));
    for (i = 0; i < 4; i++) {
        static const char *const names[4] = { "search.db", "fresh.db", "out", "lines" };
        fuzz_remove(names[i]);
    }
    fuzz_clean_up();
}

/* Once: what fuzz_enter makes, and the folder of files. */
FUZZ_FN void fuzz_enter_files(void)
{
    static int ready;
    fuzz_enter();
    if (!ready++) atexit(fuzz_remove_files);
    fuzz_empty_files();
}

/* The file gets a time of its own, long ago: only then does its time say whether it changed. */
FUZZ_FN void fuzz_age_file(unsigned i)
{
    static long now = 1000000000;
    struct timespec times[2];
    memset(times, 0, sizeof times);
    times[0].tv_sec = times[1].tv_sec = now++;
    (void)utimensat(AT_FDCWD, fuzz_file_path(i), times, 0);
}

FUZZ_FN void fuzz_write_to(unsigned i, const uint8_t *data, size_t size, const char *mode)
{
    FILE *f;
    struct stat st;
    if (i % 16 == 15) {                /* below what may be a file */
        (void)unlink(fuzz_file_path(0));
        mkdir(fuzz_path("files/a.txt"), 0700);
    } else if (i % 16 == 0) {
        (void)unlink(fuzz_file_path(15));
        (void)rmdir(fuzz_file_path(0));
    }
    if (!lstat(fuzz_file_path(i), &st) && S_ISLNK(st.st_mode)) (void)unlink(fuzz_file_path(i));    /* else the model would be written to */
    f = fopen(fuzz_file_path(i), mode);
    if (!f) return;
    fwrite(data, 1, size, f);
    fclose(f);
    fuzz_age_file(i);
}

/* One step: a byte what is done, a byte with which file, a byte how many bytes follow. 1: a pass over the files comes next. */
FUZZ_FN int fuzz_file_step(fuzz_input *in)
{
    unsigned what = fuzz_byte(in), which = fuzz_byte(in) % 16;
    size_t size = fuzz_byte(in);
    const uint8_t *data = in->at;
    if (size > (size_t)(in->end - in->at)) size = (size_t)(in->end - in->at);
    in->at += size;
    switch (what % 16) {
    default: fuzz_write_to(which, data, size, "wb"); return 0;
    case 8: case 9: fuzz_write_to(which, data, size, "ab"); return 0;
    case 10: case 11: (void)unlink(fuzz_file_path(which)); return 0;
    case 12: case 13: (void)rename(fuzz_file_path(which), fuzz_file_path(size ? data[0] : which + 1)); return 0;
    case 14: (void)symlink("../m.kalm", fuzz_file_path(which)); return 0;
    case 15: return 1;
    }
}

/* What the database holds and the words of its index, in one order, without numbers of rows and the hashes of files (which have a key of the
   database), as a hash. Every value is of its type, every text UTF-8, and of a bounded size in all. */
FUZZ_FN uint64_t fuzz_database_hash(const char *path, size_t *bytes)
{
    static const char *const queries[3] = {
        "SELECT key, window, windows, start, hash, tokens, tokens_used, title, text, metadata, document FROM main.documents ORDER BY key, window",
        "SELECT path, size, hash <> '0000000000000000', documents, note FROM main.search_files ORDER BY path", "SELECT term, doc, cnt FROM temp.v ORDER BY term"
    };
    sqlite3 *db = NULL;
    uint64_t hash = 1;
    unsigned i;
    int code, k;
    *bytes = 0;
    if (sqlite3_open(path, &db) || sqlite3_exec(db, "CREATE VIRTUAL TABLE temp.v USING fts5vocab(main, search_words, row)", NULL, NULL, NULL))
        fuzz_broken(__FILE__, __LINE__, "a database", "%s: %s", path, sqlite3_errmsg(db));
    for (i = 0; i < 3; i++) {
        sqlite3_stmt *q = NULL;
        if (sqlite3_prepare_v2(db, queries[i], -1, &q, NULL)) fuzz_broken(__FILE__, __LINE__, "its tables", "%s", sqlite3_errmsg(db));
        while ((code = sqlite3_step(q)) == SQLITE_ROW)
            for (k = 0; k < sqlite3_column_count(q); k++) {
                int type = sqlite3_column_type(q, k);
                const uint8_t *p = (const uint8_t *)(type == SQLITE_TEXT ? (const void *)sqlite3_column_text(q, k) : sqlite3_column_blob(q, k));
                size_t n = (size_t)sqlite3_column_bytes(q, k), at;
                for (at = 0; at < n; at++) hash = (hash ^ p[at]) * 0x100000001b3u;
                hash = (hash ^ (uint64_t)type) * 0x100000001b3u + n;
                if (type == SQLITE_TEXT) *bytes += n;
                for (at = 0; type == SQLITE_TEXT && at < n;) {
                    size_t one = p[at] ? kalm__json_utf8(p + at, n - at) : 0;
                    FUZZ_CHECK(one, "%s: byte %lu of a %s is no UTF-8: %s", path, (unsigned long)at, sqlite3_column_name(q, k), (const char *)p);
                    at += one;
                }
            }
        FUZZ_CHECK(code == SQLITE_DONE, "%s: %s", path, sqlite3_errmsg(db));
        sqlite3_finalize(q);
    }
    sqlite3_close(db);
    return hash;
}

/* Steps with passes between them: the first makes the database, the others bring it up to date. At the end it holds what a new database of the
   same files holds, to the byte, and a question to it is answered in JSON. */
static void fuzz_folder_one(const uint8_t *data, size_t size)
{
    fuzz_input in;
    const char *model, *db, *fresh, *files;
    size_t bytes, fresh_bytes;
    unsigned passes = 0, steps = 0;
    int done = 0, status;
    if (!size) return;
    fuzz_enter_files();
    model = fuzz_path("m.kalm"), db = fuzz_path("search.db"), fresh = fuzz_path("fresh.db"), files = fuzz_path("files");
    fuzz_remove("search.db");
    fuzz_remove("fresh.db");
    in.at = data + 1;
    in.end = data + size;
    while (!done) {
        while (in.at < in.end && steps++ < 64 && !fuzz_file_step(&in)) {}
        done = in.at >= in.end || steps >= 64 || passes == 4;
        if (!passes++)
            status = fuzz_command(fuzz_main_search, model, db, files, "--threads", "1", "--quiet", "--batch", data[0] & 1 ? "1" : "3", data[0] & 2 ? "--split" : NULL, "20", "--overlap", "3", NULL);
        else status = fuzz_command(fuzz_main_search, db, "--update", "--threads", "1", "--quiet", "--batch", data[0] & 1 ? "1" : "3", NULL);
        fuzz_check_command(status);
        FUZZ_CHECK(status == 0 || status == 3, "status %d: %s", status, fuzz_command_said());
    }
    if (data[0] & 4) {                 /* once more, with nothing new */
        status = fuzz_command(fuzz_main_search, db, "--update", "--threads", "1", "--quiet", NULL);
        FUZZ_CHECK(status == 0 || status == 3, "status %d: %s", status, fuzz_command_said());
    }
    FUZZ_RUN(fuzz_main_index, db, "--verify");
    status = fuzz_command(fuzz_main_search, model, fresh, files, "--threads", "1", "--quiet", data[0] & 2 ? "--split" : NULL, "20", "--overlap", "3", NULL);
    FUZZ_CHECK(status == 0 || status == 3, "status %d: %s", status, fuzz_command_said());
    FUZZ_CHECK(fuzz_database_hash(db, &bytes) == fuzz_database_hash(fresh, &fresh_bytes), "a database that followed its files (%lu bytes) is another than a new one (%lu)",
               (unsigned long)bytes, (unsigned long)fresh_bytes);
    FUZZ_CHECK(bytes <= 100 * size + 50000, "%lu bytes of texts from %lu", (unsigned long)bytes, (unsigned long)size);
    fuzz_command_streams(NULL, fuzz_path("out"));
    FUZZ_RUN(fuzz_main_search, db, "ab one text caf\xc3\xa9 chess", "--json", "--threads", "1");
    FUZZ_RUN(fuzz_main_json, fuzz_path("out"));
    FUZZ_RUN(fuzz_main_search, db, "--info");
}

#define FUZZ_STEP(what, which, size) what which size
static void fuzz_folder_seeds(fuzz_taker *take)
{
    FUZZ_TAKE("files", "\0" FUZZ_STEP("\0", "\0", "\5") "ab ab" FUZZ_STEP("\0", "\1", "\13") "# ab\n\ntext\n" FUZZ_STEP("\0", "\2", "\12") "<p>ab<p>cd" FUZZ_STEP("\0", "\11", "\3") "one"
                       FUZZ_STEP("\17", "\0", "\0") FUZZ_STEP("\10", "\0", "\3") " aa" FUZZ_STEP("\12", "\1", "\0"));
    FUZZ_TAKE("records", "\5" FUZZ_STEP("\0", "\3", "\65") "{\"_id\": \"a\", \"text\": \"ab\"}\n{\"_id\": \"b\", \"text\": \"bb\"}" FUZZ_STEP("\17", "\0", "\0")
                         FUZZ_STEP("\0", "\3", "\63") "{\"_id\": \"a\", \"text\": \"a\"}\n{\"_id\": \"a\", \"text\": \"x\"}");
    FUZZ_TAKE("renamed", "\6" FUZZ_STEP("\0", "\0", "\4") "abab" FUZZ_STEP("\0", "\12", "\4") "baba" FUZZ_STEP("\17", "\0", "\0") FUZZ_STEP("\14", "\0", "\1") "\11" FUZZ_STEP("\14", "\12", "\1") "\13");
    FUZZ_TAKE("mail", "\3" FUZZ_STEP("\0", "\5", "\107") "From a@b Mon Jan  1 00:00:00 2024\nSubject: s\nMessage-ID: <1@x>\n\nbody a\n" FUZZ_STEP("\0", "\7", "\21") "Subject: t\n\nbody\n"
                      FUZZ_STEP("\17", "\0", "\0") FUZZ_STEP("\14", "\7", "\1") "\10");
    FUZZ_TAKE("file-becomes-folder", "\4" FUZZ_STEP("\0", "\0", "\2") "ab" FUZZ_STEP("\17", "\0", "\0") FUZZ_STEP("\0", "\17", "\2") "ab" FUZZ_STEP("\17", "\0", "\0") FUZZ_STEP("\0", "\0", "\2") "ba");
    FUZZ_TAKE("odd-names", "\0" FUZZ_STEP("\0", "\13", "\2") "ab" FUZZ_STEP("\0", "\14", "\2") "ab" FUZZ_STEP("\0", "\15", "\2") "ab" FUZZ_STEP("\16", "\1", "\0"));
    FUZZ_TAKE("nothing", "\0");
}
static size_t fuzz_folder_change(uint8_t *p, size_t size, size_t room, uint64_t *random)
{
    size_t at = 1, pick = 0, seen = 0;
    if (!size) return size;
    if (fuzz_below(random, 16) == 0) p[0] = (uint8_t)fuzz_random(random);
    while (at + 3 <= size) {           /* one of the steps */
        if (fuzz_below(random, ++seen) == 0) pick = at;
        at += 3 + p[at + 2];
    }
    if (!pick || fuzz_below(random, 3) == 0) {                     /* a new step, at the end */
        static const uint8_t kinds[8] = { 0, 8, 10, 12, 12, 15, 15, 14 };
        size_t n = at > size ? size : at;
        if (n + 8 > room) return size;
        p[n] = kinds[fuzz_below(random, 8)];
        p[n + 1] = (uint8_t)fuzz_below(random, 16);
        p[n + 2] = (uint8_t)(p[n] == 12 ? 1 : p[n] == 15 ? 0 : fuzz_below(random, 5));
        memcpy(p + n + 3, fuzz_below(random, 2) ? "abab" : "b a\n", 4);
        if (p[n] == 12) p[n + 3] = (uint8_t)fuzz_below(random, 16);
        return n + 3 + p[n + 2];
    }
    if (fuzz_below(random, 3) == 0) {  /* another kind or another file */
        p[pick + fuzz_below(random, 2)] = (uint8_t)fuzz_below(random, 16);
        return size;
    }
    {                                  /* its bytes, the steps behind it stay what they are */
        size_t from = pick + 3, len = p[pick + 2], more;
        uint8_t own[600];
        if (len > size - from) len = size - from;
        memcpy(own, p + from, len);
        more = fuzz_change_bytes(own, len, 255, fuzz_texts_words, random);
        if (size - len + more > room) return size;
        memmove(p + from + more, p + from + len, size - from - len);
        memcpy(p + from, own, more);
        p[pick + 2] = (uint8_t)more;
        return size - len + more;
    }
}
static const fuzz_target fuzz_folder_target = { "folder", 1 << 12, 20, fuzz_folder_one, fuzz_folder_change, NULL, fuzz_folder_seeds, fuzz_texts_words };

/* ---- the database that the two targets below ask ---------------------------------------------------------------------------------------- */

/* A sound one of a few files, with small pages so that a stranger's is small; made once, by the command itself. */
FUZZ_FN const uint8_t *fuzz_sound_search(size_t *size)
{
    static uint8_t data[1 << 17];
    static size_t bytes;
    static const struct { unsigned which; const char *text; } files[6] = {
        { 0, "ab aba b" }, { 1, "# Title\n\nab cd one, and a longer text so that there are windows of it: ab b ab b ab b." }, { 2, "<title>t</title><p>caf\xc3\xa9" },
        { 3, "{\"_id\": \"r/1\", \"text\": \"ab b\", \"u\": 1}\n{\"_id\": \"r2\", \"text\": \"aa\"}\nbad\n" }, { 9, "one" }, { 11, "bab" }
    };
    unsigned i;
    if (!bytes) {
        sqlite3 *db = NULL;
        FILE *f;
        int status;
        fuzz_enter_files();
        for (i = 0; i < 6; i++) fuzz_write_to(files[i].which, (const uint8_t *)files[i].text, strlen(files[i].text), "wb");
        fuzz_remove("search.db");
        status = fuzz_command(fuzz_main_search, fuzz_path("m.kalm"), fuzz_path("search.db"), fuzz_path("files"), "--threads", "1", "--quiet", "--split", "20", "--overlap", "4", NULL);
        if (status != 3 || sqlite3_open(fuzz_path("search.db"), &db) || sqlite3_exec(db, "PRAGMA journal_mode=DELETE; PRAGMA page_size=512; VACUUM", NULL, NULL, NULL))
            fuzz_broken(__FILE__, __LINE__, "a sound database", "%d %s", status, fuzz_command_said());
        sqlite3_close(db);
        f = fopen(fuzz_path("search.db"), "rb");
        bytes = f ? fread(data, 1, sizeof data, f) : 0;
        if (f) fclose(f);
        if (!bytes || bytes == sizeof data) abort();
    }
    *size = bytes;
    return data;
}

/* ---- mcp: the lines of a peer -------------------------------------------------------------------------------------------------------------- */

static void fuzz_mcp_one(const uint8_t *data, size_t size)
{
    size_t bytes;
    static int ready;
    const uint8_t *sound = fuzz_sound_search(&bytes);
    if (!ready++) {
        fuzz_remove("search.db");
        fuzz_write(fuzz_path("search.db"), sound, bytes);
    }
    fuzz_write(fuzz_path("lines"), data, size);
    fuzz_command_streams(fuzz_path("lines"), fuzz_path("out"));
    FUZZ_RUN(fuzz_main_search, fuzz_path("search.db"), "--mcp", "--threads", "1", "--quiet", "--model", fuzz_path("m.kalm"));
    FUZZ_CHECK(!*fuzz_command_said(), "%s", fuzz_command_said());
    FUZZ_RUN(fuzz_main_peer, fuzz_path("lines"), fuzz_path("out"));
}
static void fuzz_mcp_seeds(fuzz_taker *take)
{
    FUZZ_TAKE("session", "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"initialize\", \"params\": {\"protocolVersion\": \"2025-06-18\", \"capabilities\": {}}}\n"
                         "{\"jsonrpc\": \"2.0\", \"method\": \"notifications/initialized\"}\n{\"jsonrpc\": \"2.0\", \"id\": \"l\", \"method\": \"tools/list\"}\n"
                         "{\"jsonrpc\": \"2.0\", \"id\": 2, \"method\": \"tools/call\", \"params\": {\"name\": \"search\", \"arguments\": {\"query\": \"ab\", \"limit\": 2}}}\n");
    FUZZ_TAKE("cancelled", "{\"id\": 3, \"method\": \"tools/call\", \"params\": {\"name\": \"search\", \"arguments\": {\"query\": \"one caf\\u00e9\"}}}\r\n"
                           "{\"method\": \"notifications/cancelled\", \"params\": {\"requestId\": 3}}\n{\"id\": 4, \"method\": \"ping\"}");
    FUZZ_TAKE("batch", "[{\"id\": 5, \"method\": \"ping\"}, {\"method\": \"x\"}, 7, {\"id\": 6, \"method\": \"tools/call\", \"params\": {\"name\": \"search\", \"arguments\": {\"query\": \"b\", \"limit\": 1.5}}}]\n[]\n[{\"method\": \"y\"}]\n");
    FUZZ_TAKE("wrong", "no JSON\n{\"id\": null, \"method\": \"ping\"}\n{\"id\": 1.5}\n{\"id\": 1, \"result\": {}}\n\n  \n#\n{\"id\": 9, \"method\": \"tools/call\", \"params\": []}\n"
                       "{\"id\": 8, \"method\": \"tools/call\", \"params\": {\"name\": \"other\"}}\n{\"id\": 7, \"method\": \"tools/call\", \"params\": {\"name\": \"search\", \"arguments\": {\"query\": \"\\u0000\", \"limit\": 99}}}\n");
}
static const char *const fuzz_mcp_words[] = {
    "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"tools/call\", \"params\": {\"name\": \"search\", \"arguments\": {\"query\": \"ab\"}}}\n", "{\"method\": \"notifications/cancelled\", \"params\": {\"requestId\": 1}}\n",
    "\"id\": ", "\"method\": ", "\"params\": {", "\"initialize\"", "\"ping\"", "\"tools/list\"", "\"tools/call\"", "\"name\": \"search\"", "\"arguments\": {", "\"query\": ", "\"limit\": ", "\"result\"", "\"error\"",
    "\"requestId\": ", "\"protocolVersion\": ", "\"2024-11-05\"", "\\u0000", "\\ud83d", "\\ud83d\\ude00", "null", "true", "1e999", "1e1", "50", "51", "9223372036854775808", "-0", "[", "]", "{", "}", ",", "\n", "\"", "\xff", "\xef\xbb\xbf", "#", NULL
};
static size_t fuzz_mcp_change(uint8_t *p, size_t size, size_t room, uint64_t *random) { return fuzz_change_bytes(p, size, room, fuzz_mcp_words, random); }
static const fuzz_target fuzz_mcp_target = { "mcp", 1 << 12, 40, fuzz_mcp_one, fuzz_mcp_change, NULL, fuzz_mcp_seeds, fuzz_mcp_words };

/* ---- searched: byte 0 what is done with it, byte 1: 0 a script of changes to a sound database follows, else a database ------------------- */

/* Changes by SQL: what a stranger with sqlite3 does. */
FUZZ_FN void fuzz_change_search(fuzz_input *in)
{
    static const char *const places[20] = {
        "search_files SET path=", "search_files SET size=", "search_files SET modified=", "search_files SET hash=", "search_files SET documents=", "search_files SET note=", "search_sources SET path=",
        "search_words_data SET block=", "search_words_data SET id=", "search_words_idx SET segid=", "search_words_idx SET term=", "search_words_idx SET pgno=", "search_words_docsize SET sz=",
        "search_words_docsize SET id=", "search_words_config SET v=", "search_words_config SET k=", "documents SET key=", "documents SET text=", "documents SET windows=", "documents SET number="
    };
    static const char *const values[32] = {
        "0", "1", "-1", "2", "9223372036854775807", "-9223372036854775808", "NULL", "''", "'x'", "1.5", "x'00'", "x''", "x'2f'", "x'2f00'", "zeroblob(70000)", "char(0)", "x'ff'", "CAST(x'ff' AS TEXT)", "'/'", "'rank'",
        "'pgsz'", "'0123456789abcdef'", "block || x'00'", "substr(block, 2)", "x'00000000000000'", "CAST(path || x'2f' AS BLOB)", "id + 1", NULL /* bytes */, "'../' || key", "replace(text, 'a', 'b')", "x'0000ffffffff'", "path"
    };
    static const char *const others[14] = {
        "UPDATE meta SET value='/nowhere' WHERE name='search_model'", "UPDATE meta SET value=2 WHERE name='search_words'", "DELETE FROM meta WHERE name='search_model'", "DELETE FROM search_files",
        "DELETE FROM search_sources", "DELETE FROM search_words_data", "DELETE FROM search_words_docsize", "DELETE FROM documents WHERE number=2", "INSERT INTO search_words_config VALUES ('rank', 'x()')",
        "DROP TABLE search_files", "INSERT INTO search_words (rowid, words) VALUES (77, 'ab one')", "INSERT INTO search_words (search_words) VALUES ('rebuild')", "INSERT INTO search_sources VALUES (x'2f6e6f7768657265')",
        "CREATE TRIGGER t AFTER UPDATE ON search_files BEGIN DELETE FROM documents; END"
    };
    sqlite3 *db = NULL;
    char sql[512], bytes[96];
    unsigned steps = 0, i;
    if (sqlite3_open(fuzz_path("search.db"), &db)) abort();
    sqlite3_exec(db, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
    while (in->at < in->end && steps++ < 6) {
        unsigned what = fuzz_byte(in), a = fuzz_byte(in), b = fuzz_byte(in);
        const char *value = values[b % 32];
        if (!value) {                  /* up to 40 that the input's own choose, so that it does the same every time */
            uint64_t random = fuzz_word(in);
            unsigned count = 4 + (unsigned)(random % 37);
            strcpy(bytes, "x'");
            for (i = 0; i < count; i++) sprintf(bytes + 2 + 2 * i, "%02x", (unsigned)(fuzz_random(&random) & 255));
            strcat(bytes, "'");
            value = bytes;
        }
        if (what % 8 == 0) snprintf(sql, sizeof sql, "%s", others[a % 14]);
        else if (what % 8 < 5)
            snprintf(sql, sizeof sql, "UPDATE OR REPLACE %s%s%s", places[a % 20], value, !(what & 8) ? "" : a % 20 < 7 ? " WHERE length(path) % 2" : what & 16 ? " WHERE rowid=1" : " WHERE rowid=10");
        else                           /* a byte of a block of the index, or of a document */
            snprintf(sql, sizeof sql, what & 8 ? "UPDATE search_words_data SET block=CAST(substr(block, 1, %u) || x'%02x' || substr(block, %u) AS BLOB) WHERE length(block) > %u"
                                               : "UPDATE documents SET document=CAST(substr(document, 1, %u) || x'%02x' || substr(document, %u) AS BLOB) WHERE length(document) > %u",
                     a, b, a + 2, a);
        (void)sqlite3_exec(db, sql, NULL, NULL, NULL);
    }
    sqlite3_close(db);
}

static void fuzz_searched_one(const uint8_t *data, size_t size)
{
    fuzz_input in;
    size_t sound;
    const uint8_t *bytes;
    const char *model, *db;
    int status;
    if (size < 2) return;
    bytes = fuzz_sound_search(&sound);
    fuzz_remove("search.db");
    in.at = data + 2;
    in.end = data + size;
    if (data[1]) fuzz_write(fuzz_path("search.db"), data + 2, size - 2);
    else {
        fuzz_write(fuzz_path("search.db"), bytes, sound);
        fuzz_change_search(&in);
    }
    model = fuzz_path("m.kalm");
    db = fuzz_path("search.db");
    switch (data[0] % 10) {
    case 0: fuzz_check_command(fuzz_command(fuzz_main_search, db, "ab one", "--threads", "1", NULL)); break;
    case 1:
        fuzz_command_streams(NULL, fuzz_path("out"));
        status = fuzz_command(fuzz_main_search, db, "ab b caf\xc3\xa9 the", "--json", "--threads", "1", "--model", model, NULL);
        fuzz_check_command(status);
        if (!status) FUZZ_RUN(fuzz_main_json, fuzz_path("out"));
        break;
    case 2: fuzz_check_command(fuzz_command(fuzz_main_search, db, "--info", NULL)); break;
    case 3: fuzz_check_command(fuzz_command(fuzz_main_search, db, "--update", "--threads", "1", "--quiet", NULL)); break;
    case 4: fuzz_check_command(fuzz_command(fuzz_main_search, db, "--forget", fuzz_path("files"), "--threads", "1", NULL)); break;
    case 5: {
        static const char lines[] = "{\"id\": 1, \"method\": \"tools/list\"}\n{\"id\": 2, \"method\": \"tools/call\", \"params\": {\"name\": \"search\", \"arguments\": {\"query\": \"ab one b\"}}}\n{\"id\": 3, \"method\": \"ping\"}\n";
        fuzz_write(fuzz_path("lines"), lines, sizeof lines - 1);
        fuzz_command_streams(fuzz_path("lines"), fuzz_path("out"));
        status = fuzz_command(fuzz_main_search, db, "--mcp", "--threads", "1", "--quiet", "--model", model, NULL);
        fuzz_check_command(status);
        if (!status) FUZZ_RUN(fuzz_main_peer, fuzz_path("lines"), fuzz_path("out"));
        break;
    }
    case 6: fuzz_check_command(fuzz_command(fuzz_main_search, model, db, fuzz_path("files/sub"), "--threads", "1", "--quiet", NULL)); break;
    case 7: fuzz_check_command(fuzz_command(fuzz_main_index, db, "--verify", NULL)); break;
    case 8: fuzz_check_command(fuzz_command(fuzz_main_rerank, model, "ab", "--store", db, "--threads", "1", NULL)); break;
    default: fuzz_check_command(fuzz_command(fuzz_main_index, db, "--export", NULL));
    }
}
static void fuzz_searched_seeds(fuzz_taker *take)
{
    static const uint8_t script[5][5] = { { 1, 7, 22, 0, 0 }, { 1, 0, 13, 8, 0 }, { 13, 12, 3, 5, 4 }, { 0, 8, 0, 1, 14 }, { 9, 3, 1, 2, 6 } };
    size_t size;
    const uint8_t *bytes = fuzz_sound_search(&size);
    fuzz_database_seeds(take, bytes, size, script, 5);
}
static const fuzz_target fuzz_searched_target = { "searched", 1 << 16, 20, fuzz_searched_one, fuzz_store_change, NULL, fuzz_searched_seeds, NULL };

#endif
