/* fuzz_commands.h - targets that run whole commands on files of strangers: "corpus" (JSON Lines, TSV, lines, whole files, through
   kalm-index), "store" (SQLite databases, through kalm-index and kalm-rerank --store), "kept" (the same, as kalm-server reads and changes them), "documents" (kalm-rerank --documents), "runs"
   (runs and judgements, kalm-eval --measure), "collection" (the folder that kalm-eval reads), "request" (bodies that kalm-server is sent, in
   every wire form). A command ends with a status it has
   explained, and says why on standard error whenever that is not 0. */
#ifndef FUZZ_COMMANDS_H
#define FUZZ_COMMANDS_H

#include "fuzz.h"
#include "fuzz_tokenizers.h"
#define FUZZ_WORLD_ITSELF
#include "command_world.h"
#include <sys/stat.h>
#include <unistd.h>

/* ---- files ---------------------------------------------------------------------------------------------------------------- */

static char fuzz_folder[64];

FUZZ_FN const char *fuzz_path(const char *name)
{
    static char path[8][128];
    static unsigned next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", fuzz_folder, name);
    return p;
}

FUZZ_FN void fuzz_write(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!f || (size && fwrite(data, size, 1, f) != 1) || fclose(f)) fuzz_broken(__FILE__, __LINE__, "the fuzzer's own file", "%s", path);
}

FUZZ_FN void fuzz_remove(const char *name)
{
    static const char *const ends[] = { "", "-journal", "-wal", "-shm" };
    unsigned i;
    for (i = 0; i < 4; i++) {
        char path[160];
        snprintf(path, sizeof path, "%s/%s%s", fuzz_folder, name, ends[i]);
        remove(path);
    }
}

FUZZ_FN void fuzz_clean_up(void)
{
    static const char *const names[] = { "m.kalm", "store.db", "store.db.states", "other.db", "input", "run", "qrels", "eval/corpus.jsonl", "eval/corpus.jsonl.gz", "eval/corpus.jsonl.zst",
                                         "eval/queries.jsonl", "eval/qrels/test.tsv", "eval/qrels", "eval/bm25.run", "eval/qrels.tsv", "eval/candidates.jsonl", "eval/collection.tsv",
                                         "eval/topics.txt", "eval/qrels.txt", "eval/instructions.json", "eval/other.run", "eval", "part.kalm", "again.kalm", "out" };
    unsigned i;
    for (i = 0; i < sizeof names / sizeof *names; i++) fuzz_remove(names[i]);
    rmdir(fuzz_folder);
}

/* A folder with a model of bytes and a tokenizer; once. It lies in KALM_FUZZ_FOLDER, which many.sh makes and removes, since libFuzzer
   ends without atexit; else in memory, where there is such a place. */
FUZZ_FN void fuzz_enter(void)
{
    fuzz_shape s = fuzz_some_shape(3);
    const char *where = getenv("KALM_FUZZ_FOLDER");
    struct stat st;
    uint8_t *bytes;
    size_t size;
    if (fuzz_folder[0]) return;
    snprintf(fuzz_folder, sizeof fuzz_folder, "%s/kalm-fuzz.XXXXXX", where ? where : stat("/dev/shm", &st) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(fuzz_folder)) fuzz_broken(__FILE__, __LINE__, "the fuzzer's own folder", "%s", fuzz_folder);
    mkdir(fuzz_path("eval"), 0700);
    mkdir(fuzz_path("eval/qrels"), 0700);
    atexit(fuzz_clean_up);
    bytes = fuzz_model_bytes(&s, 7, &size);
    fuzz_write(fuzz_path("m.kalm"), bytes, size);
    free(bytes);
}

/* What a command may end with, and that it says so: lines without control characters. */
FUZZ_FN void fuzz_check_command(int status)
{
    const char *text = fuzz_command_said(), *p;
    FUZZ_CHECK(status >= 0 && status <= 3, "status %d: %s", status, text);
    FUZZ_CHECK(!status || *text, "status %d without a word", status);
    for (p = text; *p; p++) FUZZ_CHECK((unsigned char)*p >= 32 ? *p != 127 : *p == '\n', "byte %d in: %s", *p, text);
}

/* ---- corpus: byte 0 the format, byte 1 options ------------------------------------------------------------------------------ */

static void fuzz_corpus_one(const uint8_t *data, size_t size)
{
    static const char *const formats[5] = { "jsonl", "tsv", "lines", "files", "csv" };
    const char *how;
    if (size < 2) return;
    fuzz_enter();
    how = data[1] & 1 ? "--strict" : "--quiet";
    fuzz_write(fuzz_path("input"), data + 2, size - 2);
    fuzz_remove("store.db");
    fuzz_check_command(fuzz_command(fuzz_main_index, fuzz_path("m.kalm"), fuzz_path("store.db"), fuzz_path("input"), "--threads", "1", "--quiet",
                                    "--max-doc-tokens", "40", "--format", formats[data[0] % 5], how, data[1] & 2 ? "--split" : NULL, "20", "--overlap",
                                    data[1] & 4 ? "19" : "3", NULL));
    if (data[1] & 8)                   /* a second time: all of it is there */
        fuzz_check_command(fuzz_command(fuzz_main_index, fuzz_path("m.kalm"), fuzz_path("store.db"), fuzz_path("input"), "--threads", "1", data[1] & 64 ? "--strict" : "--quiet",
                                        "--format", formats[data[0] % 5], "--changed", data[1] & 16 ? "keep" : "replace", NULL));
    if (data[1] & 32) {
        int status = fuzz_command(fuzz_main_index, fuzz_path("m.kalm"), fuzz_path("store.db"), "--verify", data[1] & 64 ? "--again" : NULL, NULL);
        FUZZ_CHECK(!status || strstr(fuzz_command_said(), "no store"), "what kalm-index wrote does not pass --verify: %s", fuzz_command_said());
    }
}

/* A text with NULs: its size is that of the array. */
#define FUZZ_TAKE(name, text)                           \
    do {                                                \
        static const char bytes[] = text;               \
        take(name, bytes, sizeof bytes - 1);            \
    } while (0)

static void fuzz_corpus_seeds(fuzz_taker *take)
{
    FUZZ_TAKE("jsonl", "\0\1{\"_id\": \"a\", \"title\": \"ab\", \"text\": \"ab aba\", \"url\": \"x\", \"n\": [1, {\"b\": null}]}\n{\"id\": 7, \"text\": \"b\\u0061\\ud83d\\ude00\"}\r\n\n");
    FUZZ_TAKE("tsv", "\1\0a\tab aba b\nb\tbb aa\n");
    FUZZ_TAKE("tsv-names", "\1\10id\ttitle\ttext\tmore\na\tt\tab\tx\nb\t\tba\ty\n");
    FUZZ_TAKE("csv", "\4\50id,\"title\",text,more\na,t,\"ab, \"\"ab\"\"\nb\",x\nb,,ba,y\n");
    FUZZ_TAKE("csv-no-key", "\4\0text;n\r\nab;1\r\n\"b;b\"\"\";2\r\n\"a\n");
    FUZZ_TAKE("sequence", "\0\0\x1e{\"docid\": \"a\",\n \"contents\": \"ab\"}\n\x1e{\"id\": 2, \"body\": \"b\"}\n");
    FUZZ_TAKE("lines", "\2\2ab aba b\n\n b\xff\nabababababababababababababababababab\n");
    FUZZ_TAKE("file", "\3\40\xef\xbb\xbf" "ab\nab");
    FUZZ_TAKE("csv", "\4\150\"id\",text,\"a \"\"title\"\"\"\r\nx,\"ab, b\naba\",t\r\ny,ab,\n");
    FUZZ_TAKE("windows", "\5\142a\tab ab. b ab ab ab? a b a b ab aba b.\\nab b ab a a b ab b ab. ab b ab! b ab ab ab ab b b b a b\xe3\x80\x82 ab b ab ab ab b ab ab\n");
    FUZZ_TAKE("again", "\0\70{\"_id\": \"a\", \"text\": \"ab\"}\n{\"_id\": \"a\", \"text\": \"abb\"}\n");
}

/* A change of bytes behind the first ones, which choose. */
FUZZ_FN size_t fuzz_change_behind(uint8_t *p, size_t size, size_t room, size_t first, uint64_t *random)
{
    if (size < first || fuzz_below(random, 16) == 0) {
        if (size) p[fuzz_below(random, size < first ? size : first)] = (uint8_t)fuzz_random(random);
        return size;
    }
    return first + fuzz_change_bytes(p + first, size - first, room - first, fuzz_json_words, random);
}
static size_t fuzz_corpus_change(uint8_t *p, size_t size, size_t room, uint64_t *random) { return fuzz_change_behind(p, size, room, 2, random); }

static const fuzz_target fuzz_corpus_target = { "corpus", 1 << 12, 20, fuzz_corpus_one, fuzz_corpus_change, NULL, fuzz_corpus_seeds, fuzz_json_words };

/* ---- documents: byte 0 options ----------------------------------------------------------------------------------------------- */

static void fuzz_documents_one(const uint8_t *data, size_t size)
{
    if (!size) return;
    fuzz_enter();
    fuzz_write(fuzz_path("input"), data + 1, size - 1);
    fuzz_check_command(fuzz_command(fuzz_main_rerank, fuzz_path("m.kalm"), "ab", "--documents", fuzz_path("input"), "--threads", "1", "--max-doc-tokens", "40",
                                    data[0] & 1 ? "--json" : NULL, NULL));
}
static void fuzz_documents_seeds(fuzz_taker *take)
{
    static const char json[] = "\1{\"_id\": \"a\", \"title\": \"ab\", \"text\": \"ab aba\"}\n{\"id\": 7, \"text\": \"b\\u0061\"}\n";
    static const char lines[] = "\0ab aba\n\nb\xff\n ab \xef\xbc\xa1\xf0\x9f\x98\x80\n";
    static const char utf16[] = "\0\xff\xfe" "a\0b\0\n\0b\0";
    take("jsonl", json, sizeof json - 1);
    take("lines", lines, sizeof lines - 1);
    take("utf16", utf16, sizeof utf16 - 1);
    FUZZ_TAKE("array", "\1[{\"text\": \"ab\"}, {\"text\": \"b\"}]");
}
static size_t fuzz_documents_change(uint8_t *p, size_t size, size_t room, uint64_t *random) { return fuzz_change_behind(p, size, room, 1, random); }
static const fuzz_target fuzz_documents_target = { "documents", 1 << 12, 20, fuzz_documents_one, fuzz_documents_change, NULL, fuzz_documents_seeds, fuzz_json_words };

/* ---- store: byte 0 what is done with it, byte 1: 0 a script of changes to a sound store follows, else a database --------------- */

/* The sound store, small pages so that a database of strangers is small; made once, by the command itself. */
FUZZ_FN const uint8_t *fuzz_sound_store(size_t *size)
{
    static uint8_t data[1 << 16];
    static size_t bytes;
    if (!bytes) {
        static const char corpus[] = "{\"_id\": \"a\", \"title\": \"ab\", \"text\": \"ab aba\", \"url\": \"x\"}\n{\"_id\": \"b\", \"text\": \"b ab b ab b ab b ab b ab b ab b ab b ab\"}\n"
                                     "{\"_id\": \"c\", \"text\": \"aa\"}\n";
        sqlite3 *db = NULL;
        FILE *f;
        int status;
        fuzz_enter();
        fuzz_write(fuzz_path("input"), corpus, sizeof corpus - 1);
        fuzz_remove("store.db");
        status = fuzz_command(fuzz_main_index, fuzz_path("m.kalm"), fuzz_path("store.db"), fuzz_path("input"), "--threads", "1", "--quiet", "--format", "jsonl", "--split",
                              "20", "--overlap", "4", NULL);
        if (status || sqlite3_open(fuzz_path("store.db"), &db) || sqlite3_exec(db, "PRAGMA journal_mode=DELETE; PRAGMA page_size=512; VACUUM", NULL, NULL, NULL))
            fuzz_broken(__FILE__, __LINE__, "a sound store", "%d %s", status, fuzz_command_said());
        sqlite3_close(db);
        f = fopen(fuzz_path("store.db"), "rb");
        bytes = f ? fread(data, 1, sizeof data, f) : 0;
        if (f) fclose(f);
        if (!bytes || bytes == sizeof data) abort();
    }
    *size = bytes;
    return data;
}

/* Changes by SQL: what a stranger with sqlite3 does. */
FUZZ_FN void fuzz_change_store(fuzz_input *in)
{
    static const char *const columns[12] = { "number", "key", "window", "windows", "start", "hash", "tokens", "tokens_used", "title", "text", "metadata", "document" };
    static const char *const metas[9] = { "model", "weights", "fingerprint", "width", "ratio", "bits", "max_doc_tokens", "split", "overlap" };
    static const char *const values[30] = {
        "0", "1", "-1", "2", "3", "7", "4294967296", "9223372036854775807", "-9223372036854775808", "NULL", "''", "'x'", "'1'", "1.5", "1e300", "x'00'", "x''", "zeroblob(70000)",
        "char(0)", "printf('%.*c', 5000, 'a')", "x'ff'", "'ab'", "document || document", "20",
        "key || 'x'", "windows + 1", "window + 1", "tokens + 1", "text || 'x'", "start + 1"
    };
    static const char *const others[10] = {
        "CREATE TRIGGER t AFTER INSERT ON documents BEGIN DELETE FROM documents; END", "DROP TABLE meta", "CREATE VIEW v AS SELECT * FROM documents",
        "ALTER TABLE documents RENAME TO d; CREATE VIEW documents AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000) SELECT i number, i key, 0 window, "
        "1 windows, 0 start, '' hash, 1 tokens, 1 tokens_used, '' title, 'ab' text, '{}' metadata, x'00' document FROM n",
        "CREATE INDEX i ON documents (text)", "PRAGMA user_version=2", "PRAGMA application_id=7", "DELETE FROM documents WHERE window=0",
        "INSERT INTO documents SELECT number + 10, key || 'x', window, windows, start, hash, tokens, tokens_used, title, text, metadata, document FROM documents",
        "PRAGMA encoding='UTF-16'; PRAGMA journal_mode=WAL"
    };
    sqlite3 *db = NULL;
    char sql[512];
    unsigned steps = 0;
    if (sqlite3_open(fuzz_path("store.db"), &db)) abort();
    sqlite3_exec(db, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
    while (in->at < in->end && steps++ < 6) {
        unsigned what = fuzz_byte(in), a = fuzz_byte(in), b = fuzz_byte(in);
        if (what % 4 == 0) snprintf(sql, sizeof sql, "UPDATE meta SET value=%s WHERE name='%s'", what & 16 ? "value" : values[b % 22], metas[a % 9]);
        else if (what % 4 == 3) snprintf(sql, sizeof sql, "%s", others[a % 10]);
        else if (what & 32) snprintf(sql, sizeof sql, "UPDATE documents SET %s=%s", columns[a % 12], values[b % 30]);
        else snprintf(sql, sizeof sql, "UPDATE documents SET %s=%s WHERE number=%u", columns[a % 12], values[b % 30], 1 + what / 4 % 4);
        (void)sqlite3_exec(db, sql, NULL, NULL, NULL);
        if (what & 64) {               /* a byte of a document */
            snprintf(sql, sizeof sql, "UPDATE documents SET document=CAST(substr(document, 1, %u) || x'%02x' || substr(document, %u) AS BLOB) WHERE number=%u", a, b, a + 2, 1 + what / 4 % 4);
            (void)sqlite3_exec(db, sql, NULL, NULL, NULL);
        }
    }
    sqlite3_close(db);
}

/* The stranger's store that an input describes, in "store.db". */
FUZZ_FN void fuzz_write_store(const uint8_t *data, size_t size)
{
    fuzz_input in;
    size_t sound;
    const uint8_t *bytes = fuzz_sound_store(&sound);
    fuzz_remove("store.db");
    in.at = data + 2;
    in.end = data + size;
    if (data[1]) fuzz_write(fuzz_path("store.db"), data + 2, size - 2);
    else {
        fuzz_write(fuzz_path("store.db"), bytes, sound);
        fuzz_change_store(&in);
    }
}

static void fuzz_store_one(const uint8_t *data, size_t size)
{
    size_t sound;
    const uint8_t *bytes;
    const char *model, *store;
    if (size < 2) return;
    bytes = fuzz_sound_store(&sound);
    fuzz_write_store(data, size);
    model = fuzz_path("m.kalm");
    store = fuzz_path("store.db");
    switch (data[0] % 8) {
    case 0: fuzz_check_command(fuzz_command(fuzz_main_index, store, "--info", NULL)); break;
    case 1: fuzz_check_command(fuzz_command(fuzz_main_index, model, store, "--verify", NULL)); break;
    case 2: fuzz_check_command(fuzz_command(fuzz_main_index, store, "--export", data[0] & 8 ? "a" : "b", data[0] & 16 ? "--bytes" : NULL, NULL)); break;
    case 3: fuzz_check_command(fuzz_command(fuzz_main_index, store, "--delete", "b", NULL)); break;
    case 4:
        fuzz_remove("other.db");
        fuzz_write(fuzz_path("other.db"), bytes, sound);
        fuzz_check_command(fuzz_command(fuzz_main_index, fuzz_path("other.db"), "--merge", store, NULL));
        FUZZ_CHECK(!fuzz_command(fuzz_main_index, model, fuzz_path("other.db"), "--verify", NULL), "merging damaged a store: %s", fuzz_command_said());
        break;
    case 5:
        fuzz_remove("other.db");
        fuzz_check_command(fuzz_command(fuzz_main_index, model, fuzz_path("other.db"), store, "--threads", "1", "--quiet", NULL));
        break;
    case 6:
        fuzz_write(fuzz_path("input"), "a\tab\nz\tb b\n", 12);
        fuzz_check_command(fuzz_command(fuzz_main_index, model, store, fuzz_path("input"), "--format", "tsv", "--threads", "1", "--quiet", NULL));
        break;
    default:
        fuzz_check_command(fuzz_command(fuzz_main_rerank, model, "ab", "--store", store, "--threads", "1", data[0] & 8 ? "--ratio" : NULL, "8", data[0] & 16 ? "--keys" : NULL,
                                        "a,b,zz", NULL));
        if (data[0] & 32) {            /* the stranger's bytes also name the documents */
            fuzz_write(fuzz_path("input"), data + 2, size - 2);
            fuzz_check_command(fuzz_command(fuzz_main_rerank, model, "ab", "--store", store, "--threads", "1", "--candidates", fuzz_path("input"), NULL));
        }
    }
}

/* Two seeds for each thing that a target does with a database: 1 and the database, and 0 and a script of changes to it, in turns. */
static void fuzz_database_seeds(fuzz_taker *take, const uint8_t *bytes, size_t size, const uint8_t (*script)[5], unsigned scripts)
{
    unsigned i;
    char name[16];
    for (i = 0; i < 2 * scripts; i++) {
        uint8_t *p = (uint8_t *)malloc(size + 2);
        if (!p) abort();
        p[0] = (uint8_t)i;
        p[1] = 1;
        memcpy(p + 2, bytes, size);
        sprintf(name, "database-%u", i);
        take(name, p, size + 2);
        p[1] = 0;
        memcpy(p + 2, script[i % scripts], 5);
        sprintf(name, "script-%u", i);
        take(name, p, 7);
        free(p);
    }
}

static void fuzz_store_seeds(fuzz_taker *take)
{
    static const uint8_t script[4][5] = { { 0, 7, 0, 0, 0 }, { 33, 1, 24, 1, 6 }, { 3, 3, 0, 0, 4 }, { 64, 90, 17, 2, 2 } };
    size_t size;
    const uint8_t *bytes = fuzz_sound_store(&size);
    fuzz_database_seeds(take, bytes, size, script, 4);
}

/* A script by bytes; a database by the places where SQLite keeps its structure: the first bytes of pages, or anywhere. */
static size_t fuzz_store_change(uint8_t *p, size_t size, size_t room, uint64_t *random)
{
    if (size < 3) return size;
    if (fuzz_below(random, 16) == 0) {
        p[0] = (uint8_t)fuzz_random(random);
        return size;
    }
    if (!p[1]) {
        if (fuzz_below(random, 2) && size + 3 <= room) {
            fuzz_put(p + size, 3, fuzz_random(random));
            return size + 3;
        }
        p[2 + fuzz_below(random, size - 2)] = (uint8_t)fuzz_random(random);
        return size;
    }
    if (fuzz_below(random, 3) == 0) {
        p[2 + (fuzz_below(random, (size - 2 + 511) / 512) * 512 + fuzz_below(random, 32)) % (size - 2)] = (uint8_t)fuzz_edge(random);
        return size;
    }
    return 2 + fuzz_change_bytes(p + 2, size - 2, room - 2, NULL, random);
}
static const fuzz_target fuzz_store_target = { "store", 1 << 14, 20, fuzz_store_one, fuzz_store_change, NULL, fuzz_store_seeds, NULL };

/* ---- kept: as store, but what kalm-server does with the documents that it keeps there (command_server.c says what must hold). Byte 0: bit 0
   the store is read alone, bit 1 ranked at a coarser ratio ------------------------------------------------------------------------- */

#if defined(FUZZ_SERVER)
static void fuzz_kept_one(const uint8_t *data, size_t size)
{
    char how[4];
    unsigned n = 0;
    if (size < 2) return;
    fuzz_write_store(data, size);
    if (data[0] & 1) how[n++] = 'r';
    if (data[0] & 2) how[n++] = '8';
    if (!data[1]) how[n++] = 's';
    how[n] = 0;
    fuzz_check_command(fuzz_command(fuzz_main_kept, fuzz_path("m.kalm"), fuzz_path("store.db"), how, NULL));
    FUZZ_CHECK(!strstr(fuzz_command_said(), "broken promise"), "%s", fuzz_command_said());
}
static const fuzz_target fuzz_kept_target = { "kept", 1 << 14, 20, fuzz_kept_one, fuzz_store_change, NULL, fuzz_store_seeds, NULL };
#endif

/* ---- runs: byte 0 options; judgements, a NUL, a run ----------------------------------------------------------------------------- */

static void fuzz_runs_one(const uint8_t *data, size_t size)
{
    const uint8_t *nul;
    size_t first;
    if (!size) return;
    fuzz_enter();
    nul = (const uint8_t *)memchr(data + 1, 0, size - 1);
    first = nul ? (size_t)(nul - data - 1) : size - 1;
    fuzz_write(fuzz_path("qrels"), data + 1, first);
    fuzz_write(fuzz_path("run"), nul ? nul + 1 : data, nul ? size - 2 - first : 0);
    fuzz_check_command(fuzz_command(fuzz_main_eval, "--measure", fuzz_path("qrels"), fuzz_path("run"), data[0] & 1 ? "--json" : NULL, NULL));
}
static void fuzz_runs_seeds(fuzz_taker *take)
{
    static const char trec[] = "\0q1 0 d1 1\nq1 0 d2 0\nq2 0 d1 2\n\0q1 Q0 d1 1 3.5 tag\nq1 Q0 d2 2 3.5 tag\nq2 Q0 d3 1 -1e3 tag\nq2 Q0 d1 2 -2e3 tag\n";
    static const char beir[] = "\1query-id\tcorpus-id\tscore\nq 1\td 1\t1\nq2\td2\t3\n\0q 1\tQ0\td 1\t1\t3.5\ttag\nq2\tQ0\td2\t2\t0.5\ttag\n";
    static const char bom[] = "\0\xef\xbb\xbfq1 0 d1 1\r\n\0{\"q1\": {\"d1\": 1.5, \"d2\": 2}}";
    take("trec", trec, sizeof trec - 1);
    take("beir", beir, sizeof beir - 1);
    take("bom", bom, sizeof bom - 1);
}
static const char *const fuzz_run_words[] = { "q1", "d1", " ", "\t", "\n", "Q0", "nan", "inf", "-inf", "1e999", "-1", "9223372036854775808", "4294967296", "0x10", "query-id\tcorpus-id\tscore\n", "\xef\xbb\xbf", NULL };
static size_t fuzz_runs_change(uint8_t *p, size_t size, size_t room, uint64_t *random) { return fuzz_change_bytes(p, size, room, fuzz_run_words, random); }
static const fuzz_target fuzz_runs_target = { "runs", 1 << 12, 40, fuzz_runs_one, fuzz_runs_change, NULL, fuzz_runs_seeds, fuzz_run_words };

/* ---- collection: corpus, queries, judgements and a run, apart by NULs; or a packed corpus beside sound others ------------------------ */

static const char fuzz_collection_others[] = "{\"_id\": \"q1\", \"text\": \"ab\"}\n\0query-id\tcorpus-id\tscore\nq1\td1\t1\n\0q1 Q0 d1 1 3.5 t\nq1 Q0 d2 2 3 t\n";

/* How the parts lie in the folder; 0 where the input does not begin with one of the others. */
static const struct { const char *name[5]; const char *option[4]; } fuzz_layouts[6] = {
    { { "corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "bm25.run", NULL }, { NULL } },
    { { "corpus.jsonl", "queries.jsonl", "qrels/test.tsv", NULL }, { "--first", "bm25", "-q", NULL } },
    { { "corpus.jsonl", "queries.jsonl", "qrels.tsv", "candidates.jsonl", NULL }, { NULL } },                     /* LMEB */
    { { "collection.tsv", "topics.txt", "qrels.txt", "bm25.run", NULL }, { "--json", NULL } },                     /* TREC */
    { { "corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "bm25.run", "instructions.json" }, { NULL } },
    { { "corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "bm25.run", "other.run" }, { NULL } }
};
static void fuzz_collection_one(const uint8_t *data, size_t size)
{
    const uint8_t *at = data, *end = data + size;
    unsigned i = 0, k, layout = size && *data < 6 ? *data : 0;
    const char *packed = size > 4 && !memcmp(data, "\x1f\x8b", 2) ? "eval/corpus.jsonl.gz" : size > 4 && !memcmp(data, "\x28\xb5\x2f\xfd", 4) ? "eval/corpus.jsonl.zst" : NULL;
    const char *const *option = fuzz_layouts[layout].option;
    char extra[160];
    fuzz_enter();
    for (k = 0; k < 6; k++)
        for (i = 0; i < 5 && fuzz_layouts[k].name[i]; i++) {
            snprintf(extra, sizeof extra, "eval/%s", fuzz_layouts[k].name[i]);
            remove(fuzz_path(extra));
        }
    remove(fuzz_path("eval/corpus.jsonl.gz"));
    remove(fuzz_path("eval/corpus.jsonl.zst"));
    i = 0;
    if (layout) at++;
    if (packed) {
        fuzz_write(fuzz_path(packed), data, size);
        at = (const uint8_t *)fuzz_collection_others;
        end = at + sizeof fuzz_collection_others - 1;
        i = 1;
    }
    for (; i < 5 && fuzz_layouts[layout].name[i]; i++) {
        const uint8_t *nul = at < end ? (const uint8_t *)memchr(at, 0, (size_t)(end - at)) : NULL;
        const uint8_t *stop = nul ? nul : end;
        snprintf(extra, sizeof extra, "eval/%s", fuzz_layouts[layout].name[i]);
        fuzz_write(fuzz_path(extra), at, (size_t)(stop - at));
        at = nul ? nul + 1 : end;
    }
    if (layout > 3)
        fuzz_check_command(fuzz_command(fuzz_main_eval, fuzz_path("m.kalm"), fuzz_path("eval"), "--threads", "1", layout == 4 ? "--instructions" : "--compare-run",
                                        fuzz_path(layout == 4 ? "eval/instructions.json" : "eval/other.run"), NULL));
    else fuzz_check_command(fuzz_command(fuzz_main_eval, fuzz_path("m.kalm"), fuzz_path("eval"), "--threads", "1", option[0], option[0] ? option[1] : NULL, option[2], NULL));
}
static void fuzz_collection_seeds(fuzz_taker *take)
{
    static const char some[] = "{\"_id\": \"d1\", \"title\": \"ab\", \"text\": \"ab aba\"}\n{\"_id\": \"d2\", \"text\": \"b\"}\n\0{\"_id\": \"q1\", \"text\": \"ab\"}\n"
                               "{\"_id\": \"q2\", \"text\": \"b\"}\n\0query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t2\n\0q1 Q0 d1 1 3.5 t\nq1 Q0 d2 2 3 t\nq2 Q0 d2 1 2 t\n";
    static const uint8_t gzip[] = {
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 138, 207, 76, 81, 178, 82, 80, 74, 49, 84, 210, 81, 80, 42, 201, 44, 201, 73, 5, 113, 19,
        147, 192, 220, 212, 138, 18, 8, 79, 33, 49, 41, 81, 169, 150, 171, 26, 174, 220, 8, 89, 62, 9, 40, 5, 0, 197, 184, 115, 141, 74, 0,
        0, 0
    };
    static const uint8_t zstd[] = {
        40, 181, 47, 253, 32, 74, 181, 1, 0, 226, 2, 10, 17, 176, 169, 3, 143, 47, 155, 52, 124, 119, 176, 65, 119, 148, 34, 184, 231, 4,
        182, 70, 97, 235, 195, 107, 38, 147, 23, 140, 119, 199, 6, 229, 201, 11, 14, 229, 142, 203, 33, 171, 3, 0, 67, 113, 33, 213, 54,
        138, 97, 62, 1
    };
    FUZZ_TAKE("bm25", "\1{\"_id\": \"d1\", \"title\": \"ab\", \"text\": \"ab aba\"}\n{\"_id\": \"d2\", \"text\": \"b ab\"}\n\0{\"_id\": \"q1\", \"text\": \"ab\"}\n\0query-id\tcorpus-id\tscore\nq1\td1\t1\n");
    FUZZ_TAKE("scenes", "\2{\"id\": \"a_7_1\", \"title\": \"\", \"text\": \"ab aba\"}\n{\"id\": \"2\", \"text\": \"b\"}\n\0{\"id\": \"a_7_q\", \"text\": \"ab\"}\n\0a_7_q\ta_7_1\t1\n\0"
                        "{\"scene_id\": \"a_7\", \"candidate_doc_ids\": [\"a_7_1\", \"2\"]}\n");
    FUZZ_TAKE("trec", "\3d1\tab aba\nd2\tb\n\0<top>\n<num> Number: 301\n<title> ab b\n<desc> Description:\nx\n</top>\n<topic number=\"2\"><query>b</query></topic>\n\0" "301 0 d1 1\n2 0 d2 1\n\0" "301 Q0 d1 1 3.5 t\n2 Q0 d2 1 3 t\n");
    FUZZ_TAKE("instructions", "\4{\"_id\": \"d1\", \"text\": \"ab aba\"}\n\0{\"_id\": \"q1\", \"text\": \"ab\"}\n\0q1\td1\t1\n\0q1 Q0 d1 1 3.5 t\n\0{\"eval\": \"b\", \"Set\": {\"one\": \"ab\"}}");
    FUZZ_TAKE("two-runs", "\5{\"_id\": \"d1\", \"text\": \"ab aba\"}\n\0{\"_id\": \"q1\", \"text\": \"ab\"}\n\0q1\td1\t1\n\0q1 Q0 d1 1 3.5 t\n\0q1 Q0 d1 1 0.25 t\n");
    take("some", some, sizeof some - 1);
    take("gzip", gzip, sizeof gzip);
    take("zstd", zstd, sizeof zstd);
}
static const fuzz_target fuzz_collection_target = { "collection", 1 << 12, 20, fuzz_collection_one, fuzz_json_change, NULL, fuzz_collection_seeds, fuzz_json_words };

/* ---- request: byte 0 the path, byte 1 the client, then the body; byte 0 from 8 on: byte 1 what the server demands, then a whole request
   (command_server.c says what must hold) ---------------------------- */

#if defined(FUZZ_SERVER)
static void fuzz_request_one(const uint8_t *data, size_t size)
{
    static const char *const clients[4] = { "", "cohere/5.0", "voyageai", "python-requests" };
    static const char *const demands[8] = { "", "k", "o", "ko", "s", "ks", "os", "kos" };
    char place[3];
    int status;
    if (size < 2) return;
    fuzz_enter();
    snprintf(place, sizeof place, "%u", data[0] & 8 ? 8u : data[0] % 8u);
    fuzz_write(fuzz_path("input"), data + 2, size - 2);
    status = fuzz_command(fuzz_main_request, place, data[0] & 8 ? demands[data[1] % 8] : clients[data[1] % 4], fuzz_path("input"), NULL);
    FUZZ_CHECK(status == 0 || (data[0] & 8 && strstr(fuzz_command_said(), "no request")), "status %d: %s", status, fuzz_command_said());
}
static const char *const fuzz_request_words[] = {
    "\"query\"", "\"documents\"", "\"texts\"", "\"text\"", "\"text_1\"", "\"text_2\"", "\"data_1\"", "\"items\"", "\"ids\"", "\"id\"", "\"document_ids\"", "\"metadata\"", "\"metadatas\"",
    "\"title\"", "\"top_n\"", "\"topN\"", "\"top_k\"", "\"rank_fields\"", "\"rankFields\"", "\"return_documents\"", "\"return_text\"", "\"raw_scores\"", "\"truncate\"", "\"truncation\"",
    "\"max_tokens_per_doc\"", "\"maxTokensPerDoc\"", "\"ratio\"", "\"deadline_ms\"", "\"return_margin\"", "\"instruction\"", "\"system\"", "\"model\"", "\"rerank-v3.5\"",
    "\"rerank-2\"", "\"jina-reranker\"", "true", "false", "null", "1e999", "-0", "3.0", "9223372036854775808", "\\ud83d", "\\ud83d\\ude00", "\\u0000", "[]", "{}", ",", ":", "\xef\xbb\xbf",
    "GET ", "POST ", "DELETE ", "OPTIONS ", "HEAD ", "/v1/rerank", "/v2/", "/api/", "/tei/", "/documents/", "/health", "/metrics", "/models", "/info", "//", "\nAuthorization: Bearer secret", "\nOrigin: https://a.b", "\nSec-Fetch-Site: cross-site",
    "\nContent-Length: ", "\nContent-Encoding: gzip", "\nContent-Encoding: identity", "\nX-Client-Name: Cohere", "\nX-Fern-SDK-Name: x", "\nUser-Agent: ", "\n?limit: 5", "\n?after: 0", "\n\n", "1048577", "99999999999999999999", NULL
};
static size_t fuzz_request_change(uint8_t *p, size_t size, size_t room, uint64_t *random)
{
    if (size < 2 || fuzz_below(random, 12) == 0) {
        if (size) p[fuzz_below(random, size < 2 ? size : 2)] = (uint8_t)fuzz_random(random);
        return size;
    }
    return 2 + fuzz_change_bytes(p + 2, size - 2, room - 2, fuzz_request_words, random);
}
static void fuzz_request_seeds(fuzz_taker *take)
{
    FUZZ_TAKE("any", "\0\0{\"query\": \"ab\", \"documents\": [\"a\", {\"text\": \"b\"}], \"top_n\": 1, \"ratio\": 8, \"return_margin\": true, \"deadline_ms\": 5.5}");
    FUZZ_TAKE("cohere1", "\0\1{\"model\": \"rerank-english-v3.0\", \"query\": \"ab\", \"documents\": [{\"a\": \"x\", \"b\": [1, 2.5e3]}], \"rank_fields\": [\"a\", \"b\"], \"return_documents\": true}");
    FUZZ_TAKE("cohere2", "\1\1{\"query\": \"ab\", \"documents\": [\"a\\ud83d\", \"\\ud83d\\ude00\\u0000\"], \"maxTokensPerDoc\": 3.0}");
    FUZZ_TAKE("tei", "\2\0{\"query\": \"ab\", \"texts\": [\"a\", \"b\"], \"raw_scores\": true, \"return_text\": true, \"truncate\": false}");
    FUZZ_TAKE("jina", "\3\0{\"model\": \"jina-reranker-v2\", \"query\": {\"text\": \"ab\"}, \"documents\": [{\"text\": \"a\", \"n\": 1}], \"instruction\": \"i\", \"system\": \"s\"}");
    FUZZ_TAKE("voyage", "\4\2{\"query\": \"ab\", \"documents\": [\"a\"], \"top_k\": 2, \"truncation\": true}");
    FUZZ_TAKE("score", "\5\3{\"text_1\": [\"a\", {\"text\": \"b\"}], \"text_2\": [\"c\", {\"text\": \"d\"}]}");
    FUZZ_TAKE("score-one", "\5\0{\"queries\": \"a\", \"items\": {\"text\": \"d\"}}");
    FUZZ_TAKE("kept", "\0\0{\"query\": \"a\", \"document_ids\": [\"x\", \"y\"]}");
    FUZZ_TAKE("add", "\6\0{\"documents\": [{\"id\": \"x\", \"title\": \"t\", \"text\": \"a\", \"metadata\": {\"a\": [null]}}, {\"id\": \"y\", \"text\": \"\"}]}");
    FUZZ_TAKE("add-columns", "\6\0{\"ids\": [\"x\", \"y\"], \"texts\": [\"a\", \"b\"], \"metadatas\": [null, {\"k\": 1}]}");
    FUZZ_TAKE("delete", "\7\0{\"ids\": [\"x\"]}");
    FUZZ_TAKE("whole", "\10\7POST /v1/rerank\nAuthorization: bearer secret\nOrigin: https://a.b\nContent-Length: 40\nUser-Agent: VoyageAI\n\n{\"query\": \"a\", \"documents\": [\"b\"]}");
    FUZZ_TAKE("list", "\10\4GET /v1/documents\n?limit: 20\n?after: 3\n\n");
    FUZZ_TAKE("one", "\10\4DELETE /api/v1/documents/a%20b\n\n");
    FUZZ_TAKE("health", "\10\1GET /health\n\n");
    FUZZ_TAKE("metrics", "\10\1GET /metrics\nAuthorization: Bearer another\n\n");
    FUZZ_TAKE("models", "\10\0GET /v1/models\nSec-Fetch-Site: none\n\n");
    FUZZ_TAKE("info", "\10\0GET /tei/info\n\n");
    FUZZ_TAKE("preflight", "\10\2OPTIONS /v2/rerank\nOrigin: https://a.b\n\n");
    FUZZ_TAKE("names-twice", "\0\1{\"query\": \"a\", \"documents\": [{\"a\": \"long long long long\"}], \"rank_fields\": [\"a\", \"a\"]}");
}
static const fuzz_target fuzz_request_target = { "request", 1 << 12, 200, fuzz_request_one, fuzz_request_change, NULL, fuzz_request_seeds, fuzz_request_words };
#endif

#endif
