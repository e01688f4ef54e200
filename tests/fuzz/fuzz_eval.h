/* fuzz_eval.h - target "journal": the folder in which kalm-eval --tables keeps what it has computed, as a stranger gives it to --merge,
   and as a killed run leaves it. Whatever is in it, the command ends with a sentence or with tables; a run that ended well leaves nothing
   for the next one to compute, and folders that are put together twice give the same tables. */
#ifndef FUZZ_EVAL_H
#define FUZZ_EVAL_H

#include "fuzz_commands.h"
#include "fuzz_engine.h"
#include <dirent.h>

/* Byte 0: 1 a run goes on where it was, 0 --merge. Then the questions (queries/eval.jsonl) and the journal, lines without their checksums,
   and the spool; NULs between. A line that begins with '!' is written as it is. */

static char fuzz_journal_name[128];    /* of the file, for the model and the collection of this target */

FUZZ_FN void fuzz_remove_tree(const char *path)
{
    char inner[512];
    struct dirent *e;
    DIR *d = opendir(path);
    while (d && (e = readdir(d)) != NULL) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
        if (unlink(inner)) fuzz_remove_tree(inner);
    }
    if (d) closedir(d);
    rmdir(path);
}

FUZZ_FN void fuzz_write_collection(void)
{
    static const char *const names[4] = { "eval/corpus.jsonl", "eval/queries.jsonl", "eval/qrels/test.tsv", "eval/bm25.run" };
    static const char *const texts[4] = {
        "{\"_id\": \"d1\", \"text\": \"ab aba\"}\n{\"_id\": \"d2\", \"text\": \"b\"}\n{\"_id\": \"d3\", \"text\": \"aaaa b ab\"}\n", "{\"_id\": \"q1\", \"text\": \"ab\"}\n{\"_id\": \"q2\", \"text\": \"b\"}\n",
        "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t2\n", "q1 Q0 d1 1 3.5 t\nq1 Q0 d2 2 3 t\nq2 Q0 d2 1 2 t\nq2 Q0 d3 2 1 t\n"
    };
    unsigned i;
    for (i = 0; i < 4; i++) fuzz_write(fuzz_path(names[i]), texts[i], strlen(texts[i]));
}

/* The tables over that collection, in the folder `work`. */
FUZZ_FN int fuzz_make_tables(void)
{
    return fuzz_command(fuzz_main_eval, "--tables", fuzz_path("work"), fuzz_path("eval"), fuzz_path("m.kalm"), "--ratio", "4,8", "--bits", "16,2", "--rounds", "100", "--threads", "1",
                        "-m", "nDCG@10,P@1", NULL);
}

/* FOLDER/queries and FOLDER/margins, empty. */
FUZZ_FN void fuzz_empty_work(const char *folder)
{
    char path[256];
    fuzz_remove_tree(folder);
    mkdir(folder, 0700);
    snprintf(path, sizeof path, "%s/queries", folder);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/margins", folder);
    mkdir(path, 0700);
}

/* Lines with their checksums. */
FUZZ_FN void fuzz_write_lines(const char *path, const uint8_t *p, size_t size)
{
    FILE *f = fopen(path, "wb");
    const uint8_t *end = p + size;
    if (!f) fuzz_broken(__FILE__, __LINE__, "the fuzzer's own file", "%s", path);
    while (p < end) {
        const uint8_t *stop = (const uint8_t *)memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((stop ? stop : end) - p);
        if (n && *p == '!') fwrite(p + 1, 1, n - 1, f);
        else {
            fprintf(f, "%016llx ", (unsigned long long)fuzz_eval_hash(p, n));
            fwrite(p, 1, n, f);
        }
        if (stop) putc('\n', f);
        p += n + 1;
    }
    fclose(f);
}

FUZZ_FN char *fuzz_read_text(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    char *p = (char *)malloc(1 << 16);
    if (!f || !p) fuzz_broken(__FILE__, __LINE__, "the fuzzer's own file", "%s", path);
    *size = fread(p, 1, 1 << 16, f);
    fclose(f);
    return p;
}

/* Once: the collection, and the name of its journal, by a run. */
FUZZ_FN void fuzz_enter_work(void)
{
    struct dirent *e;
    DIR *d;
    fuzz_enter();
    fuzz_write_collection();           /* another target may have been here */
    if (fuzz_journal_name[0]) return;
    fuzz_empty_work(fuzz_path("work"));
    if (fuzz_make_tables()) fuzz_broken(__FILE__, __LINE__, "tables", "%s", fuzz_command_said());
    d = opendir(fuzz_path("work/margins"));
    while (d && (e = readdir(d)) != NULL)
        if (strstr(e->d_name, ".journal")) snprintf(fuzz_journal_name, sizeof fuzz_journal_name, "%.120s", e->d_name);
    if (d) closedir(d);
    if (!fuzz_journal_name[0]) abort();
}

FUZZ_FN void fuzz_put_work(const char *folder, const uint8_t *data, size_t size)
{
    const uint8_t *at = data, *end = data + size;
    char path[400];
    unsigned i;
    fuzz_empty_work(folder);
    for (i = 0; i < 2; i++) {
        const uint8_t *nul = at < end ? (const uint8_t *)memchr(at, 0, (size_t)(end - at)) : NULL, *stop = nul ? nul : end;
        if (i) snprintf(path, sizeof path, "%s/margins/%s", folder, fuzz_journal_name);
        else snprintf(path, sizeof path, "%s/queries/eval.jsonl", folder);
        fuzz_write_lines(path, at, (size_t)(stop - at));
        at = nul ? nul + 1 : end;
    }
    strcpy(strstr(path, ".journal"), ".spool");
    if (at < end) fuzz_write(path, at, (size_t)(end - at));
}

static void fuzz_journal_one(const uint8_t *data, size_t size)
{
    int status;
    if (!size) return;
    fuzz_enter_work();
    if (data[0] & 1) {
        fuzz_put_work(fuzz_path("work"), data + 1, size - 1);
        status = fuzz_make_tables();
        fuzz_check_command(status);
        if (!status) {
            status = fuzz_make_tables();
            FUZZ_CHECK(!status && strstr(fuzz_command_said(), ": 0 documents encoded, 0 pairs scored, 16 were there; 16 of 16"), "a second run: status %d: %s", status, fuzz_command_said());
        }
    } else {
        fuzz_put_work(fuzz_path("shard"), data + 1, size - 1);
        fuzz_remove_tree(fuzz_path("work"));
        status = fuzz_command(fuzz_main_eval, "--merge", fuzz_path("work"), fuzz_path("shard"), "--rounds", "100", NULL);
        fuzz_check_command(status);
        if (!status && data[0] & 2) {
            fuzz_remove_tree(fuzz_path("twice"));
            status = fuzz_command(fuzz_main_eval, "--merge", fuzz_path("twice"), fuzz_path("work"), fuzz_path("shard"), "--rounds", "100", NULL);
            FUZZ_CHECK(!status && fuzz_same_files(fuzz_path("work/quality.json"), fuzz_path("twice/quality.json")), "other tables the second time: %s", fuzz_command_said());
        }
    }
#if defined(FUZZ_SEARCH)
    if (!status) {
        status = fuzz_command(fuzz_main_json, fuzz_path("work/quality.json"), NULL);
        FUZZ_CHECK(!status, "%s", fuzz_command_said());
    }
#endif
}

/* The spool behind the second NUL: 6 words of 8 bytes (magic, text, hash of the document, sizes of id and document, seconds), id, document. */
static void fuzz_journal_mend(uint8_t *p, size_t size)
{
    uint8_t *end = p + size, *nul = size > 1 ? (uint8_t *)memchr(p + 1, 0, size - 1) : NULL;
    nul = nul && nul + 1 < end ? (uint8_t *)memchr(nul + 1, 0, (size_t)(end - nul - 1)) : NULL;
    for (p = nul ? nul + 1 : end; (size_t)(end - p) > 48; ) {
        uint64_t id = fuzz_get(p + 24, 8), bytes = fuzz_get(p + 32, 8), left = (uint64_t)(end - p) - 48;
        fuzz_put(p, 8, 0x314c4f4f50534b4bu);
        if (id > left || bytes > left - id) return;
        fuzz_mend_document(p + 48 + id, (size_t)bytes, fuzz_get_engine(2)->fingerprint, fuzz_get_engine(2)->model->file.rows.fingerprint);
        fuzz_put(p + 16, 8, fuzz_eval_hash(p + 48 + id, (size_t)bytes));
        p += 48 + id + bytes;
    }
}

static const char *const fuzz_journal_words[] = {
    "{\"t\": \"job\", ", "{\"t\": \"ranked\", ", "{\"t\": \"encoded\", ", "{\"t\": \"query\", ", "{\"t\": \"data\", ", "\"data\": ", "\"layout\": \"LMEB\"", "\"layout\": \"MIRACL\"", "\"query\": ", "\"ratio\": ",
    "\"bits\": ", "\"docs\": [", "\"margins\": [", "\"scores\": [", "\"grades\": [", "\"judged\": [", "\"lost\": [", "\"tokens\": [", "\"seconds\": ", "\"width\": ", "\"d1\"", "\"q1\"", "\"a/b\"", "null", "[]", "{}",
    "1e999", "-1e39", "1e-320", "4294967296", "9223372036854775808", "-1", "0.5", "\\u0000", "\\ud83d", "\\n", "\n", "\n!", "!", ", ", "]", "}", NULL
};
static size_t fuzz_journal_change(uint8_t *p, size_t size, size_t room, uint64_t *random)
{
    if (size < 2 || fuzz_below(random, 24) == 0) {
        if (size) p[0] = (uint8_t)fuzz_random(random);
        return size;
    }
    return 1 + fuzz_change_bytes(p + 1, size - 1, room - 1, fuzz_journal_words, random);
}

/* What a run left, without the checksums: from line `first` on `lines` of them. */
FUZZ_FN size_t fuzz_lines_of(const char *path, uint8_t *to, size_t lines)
{
    size_t size, n = 0;
    char *all = fuzz_read_text(path, &size), *p = all, *end = all + size;
    while (p < end && lines--) {
        char *stop = (char *)memchr(p, '\n', (size_t)(end - p));
        if (!stop || stop - p < 17) break;
        memcpy(to + n, p + 17, (size_t)(stop + 1 - p) - 17);
        n += (size_t)(stop + 1 - p) - 17;
        p = stop + 1;
    }
    free(all);
    return n;
}

static void fuzz_journal_seeds(fuzz_taker *take)
{
    static const struct { const char *name; uint8_t how; size_t questions, lines; int spool; } seeds[7] = {
        { "merge", 0, 99, 99, 0 }, { "merge-twice", 2, 99, 99, 0 }, { "merge-some", 2, 2, 4, 0 }, { "whole", 1, 0, 99, 0 }, { "begun", 1, 0, 3, 1 }, { "spool", 1, 0, 1, 1 }, { "nothing", 1, 0, 0, 0 }
    };
    uint8_t *p = (uint8_t *)malloc(1 << 18);
    char path[400];
    size_t spool_size, n;
    char *spool;
    unsigned i;
    if (!p) abort();
    fuzz_enter_work();
    fuzz_empty_work(fuzz_path("work"));
    if (fuzz_make_tables()) fuzz_broken(__FILE__, __LINE__, "tables", "%s", fuzz_command_said());
    if (fuzz_command(fuzz_main_spool, fuzz_path("m.kalm"), fuzz_path("out"), "d1", "ab aba", "d2", "b", "d3", "aaaa b ab", NULL)) fuzz_broken(__FILE__, __LINE__, "a spool", "%s", fuzz_command_said());
    spool = fuzz_read_text(fuzz_path("out"), &spool_size);
    snprintf(path, sizeof path, "%s/%s", fuzz_path("work/margins"), fuzz_journal_name);
    for (i = 0; i < 7; i++) {
        p[0] = seeds[i].how;
        n = 1 + fuzz_lines_of(fuzz_path("work/queries/eval.jsonl"), p + 1, seeds[i].questions);
        p[n++] = 0;
        n += fuzz_lines_of(path, p + n, seeds[i].lines);
        p[n++] = 0;
        if (seeds[i].spool) memcpy(p + n, spool, spool_size), n += spool_size;
        take(seeds[i].name, p, n);
    }
    free(spool);
    free(p);
}
static const fuzz_target fuzz_journal_target = { "journal", 1 << 14, 20, fuzz_journal_one, fuzz_journal_change, fuzz_journal_mend, fuzz_journal_seeds, fuzz_journal_words };

#endif
