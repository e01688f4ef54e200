/* fuzz_states.h - target "states": files of states beside a store (kalm-index --states, examples/store/store_states.h), by strangers who have
   sqlite3 and the library, so that whatever a checksum or a hash covers is mended. kalm-rerank --store with such a file ranks as without
   it, or says in one sentence what it does not use. Bytes of a state that are as they were and stand at their own document may be used and
   no others, but for numbers of the state that were forged on purpose: then the scores are theirs, and finite. Afterwards kalm-index
   --states makes a file that is of use, or says why not, and the store has the bytes that it had. */
#ifndef FUZZ_STATES_H
#define FUZZ_STATES_H

#include "fuzz_commands.h"

/* Byte 0 what is done with the file, see below; byte 1: 0 a script of changes to a sound file follows, else a file. */
enum { FUZZ_STATES_HEAD = 2, FUZZ_STATES_MOST = 1 << 17 };

typedef struct fuzz_sound_states {
    uint8_t file[2][FUZZ_STATES_MOST]; /* exact; of --state-bits 8 */
    size_t  size[2];
    char    ranking[2][4096];          /* what kalm-rerank --json prints without a file of states */
} fuzz_sound_states;

FUZZ_FN size_t fuzz_read(const char *path, void *data, size_t room)
{
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(data, 1, room, f) : 0;
    if (f) fclose(f);
    return n;
}

FUZZ_FN int fuzz_states_rank(int rounded)
{
    fuzz_command_streams(NULL, fuzz_path("out"));
    return fuzz_command(fuzz_main_rerank, fuzz_path("m.kalm"), "ab", "--store", fuzz_path("store.db"), "--threads", "1", "--json", rounded ? "--state-bits" : NULL, "8", NULL);
}
FUZZ_FN int fuzz_states_make(int rounded)
{
    return fuzz_command(fuzz_main_index, fuzz_path("m.kalm"), fuzz_path("store.db"), "--states", "all", "--quiet", "--threads", "1", rounded ? "--state-bits" : NULL, "8", NULL);
}
/* What was printed, without the number of warm documents, which is returned; -1: there is none. */
FUZZ_FN int fuzz_states_printed(char *text, size_t room)
{
    char *warm, *end;
    int n = -1;
    text[fuzz_read(fuzz_path("out"), text, room - 1)] = 0;
    warm = strstr(text, "\"warm\": ");
    if (warm && (end = strchr(warm, ' ')) != NULL && (end = strchr(end + 1, ' ')) != NULL) {
        n = atoi(warm + 8);
        memmove(warm, end + 1, strlen(end + 1) + 1);
    }
    return n;
}

/* Made once, by the commands themselves; pages are small, so that the files are. */
FUZZ_FN const fuzz_sound_states *fuzz_get_states(void)
{
    static fuzz_sound_states s;
    size_t size;
    const uint8_t *bytes = fuzz_sound_store(&size);
    int i;
    if (s.size[0]) return &s;
    for (i = 0; i < 2; i++) {
        sqlite3 *db = NULL;
        fuzz_remove("store.db");
        fuzz_remove("store.db.states");
        fuzz_write(fuzz_path("store.db"), bytes, size);
        if (fuzz_states_rank(i) || fuzz_states_printed(s.ranking[i], sizeof s.ranking[i]) != -1 || fuzz_states_make(i) ||
            sqlite3_open(fuzz_path("store.db.states"), &db) || sqlite3_exec(db, "PRAGMA page_size=512; VACUUM", NULL, NULL, NULL))
            fuzz_broken(__FILE__, __LINE__, "a sound file of states", "%s", fuzz_command_said());
        sqlite3_close(db);
        s.size[i] = fuzz_read(fuzz_path("store.db.states"), s.file[i], FUZZ_STATES_MOST);
        if (!s.size[i] || s.size[i] == FUZZ_STATES_MOST) abort();
    }
    return &s;
}

/* A state of the file with a field of its header or numbers of its rows changed, and its checksum mended. Returns 1 where numbers were. */
FUZZ_FN int fuzz_forge_state(sqlite3 *db, unsigned row, unsigned how, unsigned what, fuzz_input *in)
{
    static uint8_t state[1 << 16];
    sqlite3_stmt *q = NULL;
    size_t size = 0, at;
    int numbers = 0;
    uint64_t random = (uint64_t)fuzz_byte(in) << 8 | what;
    char sql[96];
    snprintf(sql, sizeof sql, "SELECT state FROM states WHERE number=%u", row);
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW && (size_t)sqlite3_column_bytes(q, 0) < sizeof state - 64) {
        size = (size_t)sqlite3_column_bytes(q, 0);
        if (size) memcpy(state, sqlite3_column_blob(q, 0), size);
    }
    sqlite3_finalize(q);
    if (size < KALM__STATE_HEADER + 4) return 0;
    switch (how % 4) {
    case 0: kalm__put_u32(state + 4 * (what % (KALM__STATE_HEADER / 4)), (uint32_t)fuzz_edge(&random)); break;
    case 1: size = fuzz_below(&random, size + 64); break;                                        /* shorter, or longer by what is there */
    case 2: state[what % KALM__STATE_HEADER] ^= (uint8_t)(1u << fuzz_below(&random, 8)); break;
    default:
        at = KALM__STATE_HEADER + fuzz_below(&random, (size - KALM__STATE_HEADER) / 4) * 4;
        kalm__put_u32(state + at, fuzz_edge_float(&random));
        numbers = 1;
    }
    if (size >= KALM__STATE_HEADER && what & 1) {
        kalm__put_u64(state + 48, kalm__state_checksum(state, state + KALM__STATE_HEADER, size - KALM__STATE_HEADER));
    } else numbers = 0;                /* its checksum finds it */
    snprintf(sql, sizeof sql, "UPDATE states SET state=?1 WHERE number=%u", row);
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_bind_blob64(q, 1, state, size, SQLITE_STATIC) == SQLITE_OK) (void)sqlite3_step(q);
    sqlite3_finalize(q);
    return numbers;
}

/* Changes by SQL. Returns 1 where the numbers of a state may be others. */
FUZZ_FN int fuzz_change_states(fuzz_input *in)
{
    static const char *const values[24] = {
        "0", "1", "-1", "4", "8", "3", "9223372036854775807", "NULL", "''", "'x'", "1.5", "x'00'", "x''", "x'4b535441'", "zeroblob(70000)", "char(0)", "CAST(x'ff' AS TEXT)",
        "printf('%.*c', 5000, 'a')", "'0123456789abcdef'", "value || 'x'", "substr(value, 2)", "CAST(value AS BLOB)", "(SELECT value FROM meta ORDER BY name LIMIT 1)",
        "(SELECT value FROM meta WHERE name='system')"
    };
    static const char *const metas[5] = { "fingerprint", "kernels", "state_bits", "system", "instruction" };
    static const char *const rows[16] = {
        "document='0123456789abcdef'", "document=document || 'x'", "document=NULL", "document=7", "document=CAST(document AS BLOB)", "state=NULL", "state='text'", "state=x''",
        "state=CAST(state || x'00' AS BLOB)", "state=CAST(substr(state, 1, length(state) - 1) AS BLOB)", "state=zeroblob(length(state))", "state=zeroblob(70000)", "number=number + 1000", "number=-number",
        "document=upper(document)", "state=CAST(substr(state, 1, 64) || substr(state, 65) AS BLOB)"
    };
    static const char *const others[16] = {
        "CREATE TRIGGER t AFTER DELETE ON states BEGIN DELETE FROM meta; END", "CREATE VIEW v AS SELECT * FROM states", "CREATE INDEX i ON states (document)", "ALTER TABLE states ADD COLUMN more",
        "DROP TABLE meta", "DROP TABLE states", "DELETE FROM states WHERE number=2", "PRAGMA user_version=2", "PRAGMA application_id=7", "INSERT INTO meta VALUES ('more', 7)", "DELETE FROM meta WHERE name='kernels'",
        "PRAGMA journal_mode=WAL", "INSERT INTO states SELECT number + 10, document, state FROM states", "PRAGMA auto_vacuum=0; PRAGMA page_size=1024; VACUUM", "ANALYZE",
        "ALTER TABLE states RENAME TO s; CREATE VIEW states AS SELECT * FROM s"
    };
    sqlite3 *db = NULL;
    char sql[400];
    unsigned steps = 0;
    int numbers = 0;
    if (sqlite3_open(fuzz_path("store.db.states"), &db)) abort();
    sqlite3_exec(db, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
    while (in->at < in->end && steps++ < 6) {
        unsigned what = fuzz_byte(in), a = fuzz_byte(in), b = fuzz_byte(in), row = 1 + a % 6, other = 1 + b % 6;
        *sql = 0;
        switch (what % 8) {
        case 0: snprintf(sql, sizeof sql, "UPDATE meta SET value=%s WHERE name='%s'", values[b % 24], metas[a % 5]); break;
        case 1: snprintf(sql, sizeof sql, "%s", others[a % 16]); break;
        case 2: case 3: snprintf(sql, sizeof sql, "UPDATE OR REPLACE states SET %s WHERE number=%u%s", rows[b % 16], row, what & 16 ? " OR 1" : ""); break;
        case 4: snprintf(sql, sizeof sql, "UPDATE states SET state=(SELECT state FROM states WHERE number=%u) WHERE number=%u", other, row); break;
        case 5: snprintf(sql, sizeof sql, "UPDATE states SET (document, state)=(SELECT document, state FROM states WHERE number=%u) WHERE number=%u", other, row); break;
        default: numbers |= fuzz_forge_state(db, row, what / 8, b, in);
        }
        (void)sqlite3_exec(db, sql, NULL, NULL, NULL);
    }
    sqlite3_close(db);
    return numbers;
}

static void fuzz_states_one(const uint8_t *data, size_t size)
{
    static char printed[8192];
    static uint8_t again[1 << 16];
    const fuzz_sound_states *sound = fuzz_get_states();
    size_t store_size;
    const uint8_t *store = fuzz_sound_store(&store_size);
    fuzz_input in;
    int rounded, forged, status, warm;
    if (size < FUZZ_STATES_HEAD) return;
    rounded = data[0] & 1;
    fuzz_remove("store.db");
    fuzz_remove("store.db.states");
    fuzz_write(fuzz_path("store.db"), store, store_size);
    in.at = data + FUZZ_STATES_HEAD;
    in.end = data + size;
    if (data[1]) {
        fuzz_write(fuzz_path("store.db.states"), in.at, (size_t)(in.end - in.at));
        forged = 0;                    /* nobody mends their checksums */
    } else {
        /* sound for this question, or made for another form of states */
        fuzz_write(fuzz_path("store.db.states"), sound->file[data[0] >> 1 & 1], sound->size[data[0] >> 1 & 1]);
        forged = fuzz_change_states(&in);
    }
    status = fuzz_states_rank(rounded);
    fuzz_check_command(status);
    if (forged && status) FUZZ_CHECK(strstr(fuzz_command_said(), "finite"), "a ranking fails by its states: %s", fuzz_command_said());
    else FUZZ_CHECK(!status, "a ranking fails by its states: %s", fuzz_command_said());
    if (!status) {
        warm = fuzz_states_printed(printed, sizeof printed);
        FUZZ_CHECK(warm >= 0, "a file that is there goes unnoticed: %s", printed);
        if (!forged || !warm) FUZZ_CHECK(!strcmp(printed, sound->ranking[rounded]), "another ranking, %d from states:\n%s\n%s", warm, printed, sound->ranking[rounded]);
        FUZZ_CHECK(warm || data[1] || size > FUZZ_STATES_HEAD || (data[0] >> 1 & 1) != rounded, "sound states are not used: %s", fuzz_command_said());
        for (warm = 0; printed[warm]; warm++)
            FUZZ_CHECK(strncmp(printed + warm, "nan", 3) && strncmp(printed + warm, "inf", 3), "a score that is no number: %s", printed);
    }
    switch (data[0] >> 2 & 3) {
    case 0: status = fuzz_states_make(rounded); break;
    case 1: status = fuzz_command(fuzz_main_index, fuzz_path("m.kalm"), fuzz_path("store.db"), "--states", "1", "--quiet", "--threads", "1", "--instruction", "b", NULL); break;
    case 2: status = fuzz_command(fuzz_main_index, fuzz_path("store.db"), "--states", "0", NULL); break;
    default:                           /* the stranger's bytes also say which documents are asked for */
        fuzz_write(fuzz_path("input"), data + FUZZ_STATES_HEAD, size - FUZZ_STATES_HEAD);
        status = fuzz_command(fuzz_main_index, fuzz_path("m.kalm"), fuzz_path("store.db"), "--states", "2", "--asked", fuzz_path("input"), "--threads", "1", NULL);
    }
    fuzz_check_command(status);
    FUZZ_CHECK(fuzz_read(fuzz_path("store.db"), again, sizeof again) == store_size && !memcmp(again, store, store_size), "%s", "--states has changed the store");
    if (status || data[0] >> 2 & 3 || data[1] || forged) return;
    FUZZ_CHECK(!fuzz_states_rank(rounded), "%s", fuzz_command_said());
    warm = fuzz_states_printed(printed, sizeof printed);
    FUZZ_CHECK(warm > 0 && !*fuzz_command_said(), "%d from the states that were made: %s", warm, fuzz_command_said());
    FUZZ_CHECK(!strcmp(printed, sound->ranking[rounded]), "another ranking from the states that were made:\n%s\n%s", printed, sound->ranking[rounded]);
}

static void fuzz_states_seeds(fuzz_taker *take)
{
    static const struct { const char *name; uint8_t bytes[11]; } scripts[9] = {
        { "sound", { 0 } }, { "rounded", { 3 } }, { "other-form", { 1 } }, { "meta", { 0, 0, 0, 4, 23 } }, { "table", { 4, 0, 1, 0, 0, 1, 11, 0 } }, { "row", { 0, 0, 2, 1, 8, 3, 2, 10 } },
        { "exchanged", { 0, 0, 4, 0, 1, 5, 2, 3 } }, { "header", { 8, 0, 6, 1, 5, 9, 22, 2, 3 } }, { "numbers", { 0, 0, 30, 1, 5, 9, 30, 2, 7 } }
    };
    static const uint8_t lengths[9] = { 2, 2, 2, 5, 8, 8, 8, 9, 9 };
    const fuzz_sound_states *s = fuzz_get_states();
    unsigned i;
    FUZZ_TAKE("asked", "\14\0a\nb c d\nq1 Q0 a 1 2.5 tag\nq1 b 1\n\xff\n");
    for (i = 0; i < 9; i++) take(scripts[i].name, scripts[i].bytes, lengths[i]);
    for (i = 0; i < 2; i++) {
        uint8_t *p = (uint8_t *)malloc(s->size[i] + FUZZ_STATES_HEAD);
        if (!p) abort();
        p[0] = (uint8_t)(3 * i);
        p[1] = 1;
        memcpy(p + FUZZ_STATES_HEAD, s->file[i], s->size[i]);
        take(i ? "file-rounded" : "file", p, s->size[i] + FUZZ_STATES_HEAD);
        free(p);
    }
}
static const fuzz_target fuzz_states_target = { "states", FUZZ_STATES_MOST, 20, fuzz_states_one, fuzz_store_change, NULL, fuzz_states_seeds, NULL };

#endif
