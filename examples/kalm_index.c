/* kalm_index.c - the command kalm-index: a corpus in, a store of encoded documents out. */
#include "../src/tools/command.h"
#include "store.h"
#include "readers.h"

enum { DO_ENCODE, DO_INFO, DO_VERIFY, DO_EXPORT, DO_DELETE, DO_MERGE };
enum { CHANGED_REPLACE, CHANGED_KEEP, CHANGED_STOP };

typedef struct options {
    const char  *model, *store;
    const char **word;                 /* [words]: inputs, keys or other stores */
    size_t       words;
    int          action, strict, quiet, bytes;
    int          has_split, has_overlap;   /* 0 means something as well */
    uint32_t     format, changed, ratio, bits, batch, split, overlap, window;
    size_t       others;               /* with --merge: how many words stood before it */
    kalm_config  config;
} options;

/* ---- a job ---------------------------------------------------------------------------------------------------------- */

/* One text to encode: a whole document's or a window's. */
typedef struct piece {
    kalm_text text;                    /* of the window, in the job's block */
    kalm_text encoded;                 /* title and text */
    size_t    start;
    uint32_t  window, windows;
    size_t    doc;
} piece;

typedef struct waiting {               /* a document of the batch */
    kalm_text key, title, metadata;
    char      hash[17];
    int       replaces;                /* the store has another text of this key */
} waiting;

typedef struct seen { uint64_t key, content; } seen;   /* hashes; key 0: empty */

typedef struct job {
    const options *o;
    store         s;
    kalm_model   *model;
    kalm_context *ctx;
    corpus        in;
    waiting      *doc;                 /* [docs] */
    piece        *piece;               /* [pieces] */
    size_t        docs, doc_room, pieces, piece_room;
    char        **block;               /* [blocks]: what the batch's texts lie in */
    size_t        blocks, block_room, held;
    seen         *slot;                /* keys of this run's input */
    size_t        slots, taken;
    sqlite3_stmt *find, *insert, *drop, *update;
    /* figures of this run */
    size_t        encoded, stored, replaced, kept, bad, windows, cut, tokens, fresh_metadata;
    double        encoding;            /* seconds */
    cmd_progress  show;
    uint64_t      first_byte;          /* of input, when the first text went to be encoded */
    double        first_time;
} job;

/* part: of the batch that is being encoded. */
static void show_progress(job *j, double part)
{
    double share, left = -1, spent = kalm__now() - j->first_time;
    double done = (double)j->encoded + part * (double)j->docs, all = (double)j->in.total, at;
    char note[160];
    int n;
    if (!cmd_progress_due(&j->show)) return;
    at = (double)corpus_done(&j->in);
    if (part < 1) at -= (1 - part) * (double)j->held;      /* what is read and waits in the batch is not done yet */
    share = all > 0 ? at / all : 0;
    n = snprintf(note, sizeof note, "%.0f documents", done);
    if (j->encoding > 0)
        snprintf(note + n, sizeof note - (size_t)n, "  %.1f/s  %.0f tokens/s", done / spent, (double)j->tokens / j->encoding);
    if (j->in.known_size && j->first_time > 0 && at > (double)j->first_byte && spent > 1)
        left = spent / (at - (double)j->first_byte) * (all - at);
    cmd_progress_line(&j->show, !j->in.known_size ? -1 : share < 0 ? 0 : share, note, left);
}

static int on_progress(void *user, size_t done, size_t total)
{
    show_progress((job *)user, total ? (double)done / (double)total : 1);
    return kalm__interrupted != 0;
}

/* ---- windows -------------------------------------------------------------------------------------------------------- */

/* Where each token of `text` begins: at [count + 1], of bytes; 0: the tokens do not spell the text. Tokens are bytes of
   the text but for spaces, which Gemma's vocabulary writes as U+2581, one of them perhaps added in front. */
static int token_offsets(const kalm_model *model, kalm_text text, const int32_t *ids, size_t count, size_t *at)
{
    size_t i, k, used = 0;
    for (i = 0; i < count; i++) {
        kalm_text t = kalm_token_bytes(model, ids[i]);
        at[i] = used;
        for (k = 0; k < t.size;) {
            int space = t.size - k >= 3 && memcmp(t.data + k, "\xe2\x96\x81", 3) == 0;
            if (used < text.size && t.data[k] == text.data[used]) k++, used++;
            else if (space && used < text.size && text.data[used] == ' ') k += 3, used++;
            else if (space && !used) k += 3;
            else return 0;
        }
    }
    at[count] = used;
    return used == text.size;
}

static int inside_character(kalm_text t, size_t at) { return at < t.size && ((unsigned char)t.data[at] & 0xc0) == 0x80; }

static piece *add_piece(job *j)
{
    if (j->pieces == j->piece_room) {
        j->piece_room = j->piece_room ? j->piece_room * 2 : 256;
        j->piece = (piece *)cmd_grow(j->piece, j->piece_room * sizeof *j->piece);
    }
    memset(&j->piece[j->pieces], 0, sizeof *j->piece);
    j->piece[j->pieces].doc = j->docs;
    return &j->piece[j->pieces++];
}

/* Windows of `text` as pieces of the document about to be added: one of it all, or of `split` tokens from every
   (split - overlap)th on, the last ending with the text. 0: they cannot be told. */
static int split_text(job *j, kalm_text text)
{
    uint32_t split = j->s.meta.split, step = split - j->s.meta.overlap, w, windows = 1;
    size_t count = 0, room = text.size + 8, *at = NULL;
    int32_t *ids = NULL;
    kalm_error err;
    int good = 1;
    piece *p;
    if (split) {
        ids = (int32_t *)cmd_alloc(room * sizeof *ids);   /* a token is a byte or more */
        if (kalm_tokenize(j->model, text, 0, ids, room, &count, &err)) die("%s", err.text);
        if (count > room) die("%lu bytes gave %lu tokens", (unsigned long)text.size, (unsigned long)count);
        if (count > split) {
            at = (size_t *)cmd_alloc((count + 1) * sizeof *at);
            good = token_offsets(j->model, text, ids, count, at);
            windows = (uint32_t)((count - split + step - 1) / step + 1);
        }
    }
    for (w = 0; w < windows && good; w++) {
        size_t from = 0, to = text.size;
        if (windows > 1) {
            from = at[(size_t)w * step];
            to = at[kalm__min((size_t)w * step + split, count)];
            while (inside_character(text, from)) from--;
            while (inside_character(text, to)) to++;
        }
        p = add_piece(j);
        p->text.data = text.data + from;
        p->text.size = to - from;
        p->start = from;
        p->window = w;
        p->windows = windows;
    }
    free(ids);
    free(at);
    return good;
}

/* ---- the batch ------------------------------------------------------------------------------------------------------ */

static char *take_block(job *j, size_t size)
{
    if (j->blocks == j->block_room) {
        j->block_room = j->block_room ? j->block_room * 2 : 256;
        j->block = (char **)cmd_grow(j->block, j->block_room * sizeof *j->block);
    }
    j->held += size;
    return j->block[j->blocks++] = (char *)cmd_alloc(size);
}

static kalm_text keep_text(job *j, kalm_text t)
{
    char *s = take_block(j, t.size + 1);
    if (t.size) memcpy(s, t.data, t.size);
    s[t.size] = 0;
    t.data = s;
    return t;
}

static void drop_batch(job *j)
{
    size_t i;
    for (i = 0; i < j->blocks; i++) free(j->block[i]);
    j->blocks = j->held = j->docs = j->pieces = 0;
}

static void bind_piece(job *j, const piece *p, const kalm_doc *doc)
{
    const waiting *w = &j->doc[p->doc];
    sqlite3_stmt *q = j->insert;
    kalm_doc_info info;
    size_t size;
    const void *bytes = kalm_doc_bytes(doc, &size);
    kalm_doc_get_info(doc, &info);
    store_bind(&j->s, q, 1, w->key);
    store_check(&j->s, sqlite3_bind_int64(q, 2, p->window));
    store_check(&j->s, sqlite3_bind_int64(q, 3, p->windows));
    store_check(&j->s, sqlite3_bind_int64(q, 4, (sqlite3_int64)p->start));
    store_bind(&j->s, q, 5, kalm__text(w->hash));
    store_check(&j->s, sqlite3_bind_int64(q, 6, info.tokens));
    store_check(&j->s, sqlite3_bind_int64(q, 7, info.tokens_used));
    store_bind(&j->s, q, 8, w->title);
    store_bind(&j->s, q, 9, p->text);
    store_bind(&j->s, q, 10, w->metadata);
    store_check(&j->s, sqlite3_bind_blob64(q, 11, bytes, size, SQLITE_STATIC));
    j->tokens += info.tokens_used;
    j->cut += info.tokens > info.tokens_used;
}

/* Encode what waits and store it, in one transaction. */
static void flush_batch(job *j)
{
    kalm_text *texts;
    kalm_doc **docs;
    kalm_params params;
    kalm_error err;
    double begun = kalm__now();
    size_t i;
    if (!j->pieces) return;
    texts = (kalm_text *)cmd_alloc(j->pieces * sizeof *texts);
    docs = (kalm_doc **)cmd_alloc(j->pieces * sizeof *docs);
    for (i = 0; i < j->pieces; i++) texts[i] = j->piece[i].encoded;
    memset(&params, 0, sizeof params);
    params.ratio = j->s.meta.ratio;
    params.bits = j->s.meta.bits;
    params.progress = on_progress;
    params.progress_user = j;
    if (kalm_encode(j->ctx, texts, j->pieces, &params, docs, &err)) {
        cmd_progress_clear(&j->show);
        if (err.code == KALM_CANCELLED && kalm__interrupted && !j->o->quiet)
            fprintf(stderr, "%s holds what was encoded before; the same command goes on from there\n", j->s.path);
        exit(cmd_failed(&err));
    }
    store_exec(&j->s, "BEGIN IMMEDIATE");
    for (i = 0; i < j->pieces; i++) {
        if (j->piece[i].window == 0) {     /* another text of the key, or another kalm-index that was faster */
            store_bind(&j->s, j->drop, 1, j->doc[j->piece[i].doc].key);
            store_step(&j->s, j->drop);
            store_check(&j->s, sqlite3_reset(j->drop));
        }
        bind_piece(j, &j->piece[i], docs[i]);
        store_step(&j->s, j->insert);
        store_check(&j->s, sqlite3_reset(j->insert));
        kalm_doc_free(docs[i]);
    }
    store_exec(&j->s, "COMMIT");
    for (i = 0; i < j->docs; i++)
        if (j->doc[i].replaces) j->replaced++;
    j->encoded += j->docs;
    j->windows += j->pieces;
    j->encoding += kalm__now() - begun;
    drop_batch(j);
    show_progress(j, 1);
    free(docs);
    free(texts);
}

/* Has this run's input had the key? 0: no; 1: with this content; 2: with another. */
static int seen_before(job *j, uint64_t key, uint64_t content)
{
    size_t at, i;
    if (!key) key = 1;
    if (j->taken * 2 >= j->slots) {
        seen *old = j->slot;
        size_t before = j->slots;
        j->slots = before ? before * 2 : 1 << 12;
        j->slot = (seen *)cmd_alloc(j->slots * sizeof *j->slot);
        memset(j->slot, 0, j->slots * sizeof *j->slot);
        for (i = 0; i < before; i++) {
            if (!old[i].key) continue;
            for (at = (size_t)old[i].key & (j->slots - 1); j->slot[at].key; at = (at + 1) & (j->slots - 1)) ;
            j->slot[at] = old[i];
        }
        free(old);
    }
    for (at = (size_t)key & (j->slots - 1); j->slot[at].key; at = (at + 1) & (j->slots - 1))
        if (j->slot[at].key == key) return j->slot[at].content == content ? 1 : 2;
    j->slot[at].key = key;
    j->slot[at].content = content;
    j->taken++;
    return 0;
}

/* Of title and text, a NUL between them. */
static uint64_t content_hash(kalm_text title, kalm_text text)
{
    uint64_t two[2];
    unsigned char both[16];
    two[0] = kalm__hash(title.data ? title.data : "", title.size);
    two[1] = kalm__hash(text.data ? text.data : "", text.size);
    kalm__put_u64(both, two[0]);
    kalm__put_u64(both + 8, two[1]);
    return kalm__hash(both, 16);
}

static void write_hash(char *out, uint64_t h)
{
    sprintf(out, "%08lx%08lx", (unsigned long)(h >> 32), (unsigned long)(h & 0xffffffffu));
}

static void bad_input(job *j, const char *why)
{
    cmd_progress_clear(&j->show);
    if (j->in.line) fprintf(stderr, "%s:%lu: %s\n", corpus_name(&j->in), j->in.line, why);
    else fprintf(stderr, "%s: %s\n", corpus_name(&j->in), why);
    j->bad++;
    if (j->o->strict) {
        flush_batch(j);
        cmd_progress_clear(&j->show);
        die("stopped at bad input (--strict); what came before it is stored");
    }
}

static void take_record(job *j, const record *r)
{
    uint64_t content = content_hash(r->title, r->text);
    char hash[17], why[320];
    waiting *w;
    size_t i, first;
    int replaces = 0, known;
    write_hash(hash, content);
    known = seen_before(j, kalm__hash(r->key.data, r->key.size), content);
    if (known == 1) {
        j->stored++;
        return;
    }
    if (known == 2) {
        snprintf(why, sizeof why, "the key '%.*s' came before with another text", (int)kalm__min(r->key.size, 200), r->key.data);
        bad_input(j, why);
        return;
    }
    store_bind(&j->s, j->find, 1, r->key);
    if (store_step(&j->s, j->find)) {
        kalm_text old = store_column(j->find, 0), metadata = store_column(j->find, 1);
        int same_text = old.size == 16 && memcmp(old.data, hash, 16) == 0;
        int same_metadata = metadata.size == r->metadata.size && memcmp(metadata.data, r->metadata.data, metadata.size) == 0;
        store_check(&j->s, sqlite3_reset(j->find));
        if (same_text) {
            if (!same_metadata) {
                store_bind(&j->s, j->update, 1, r->key);
                store_bind(&j->s, j->update, 2, r->metadata);
                store_step(&j->s, j->update);
                store_check(&j->s, sqlite3_reset(j->update));
                j->fresh_metadata++;
            }
            j->stored++;
            if (!(j->stored & 1023)) show_progress(j, 0);
            return;
        }
        if (j->o->changed == CHANGED_KEEP) {
            j->kept++;
            return;
        }
        if (j->o->changed == CHANGED_STOP) {
            flush_batch(j);
            cmd_progress_clear(&j->show);
            die("%s:%lu: the store has another text of the key '%.*s' (--changed stop)", corpus_name(&j->in), j->in.line,
                (int)kalm__min(r->key.size, 200), r->key.data);
        }
        replaces = 1;
    }
    store_check(&j->s, sqlite3_reset(j->find));

    first = j->pieces;
    {
        kalm_text title = keep_text(j, r->title), text = keep_text(j, r->text);
        if (!split_text(j, text)) {
            bad_input(j, "cannot be split: its tokens do not spell the text");
            return;
        }
        if (j->docs == j->doc_room) {
            j->doc_room = j->doc_room ? j->doc_room * 2 : 128;
            j->doc = (waiting *)cmd_grow(j->doc, j->doc_room * sizeof *j->doc);
        }
        w = &j->doc[j->docs++];
        w->key = keep_text(j, r->key);
        w->title = title;
        w->metadata = keep_text(j, r->metadata);
        memcpy(w->hash, hash, sizeof hash);
        w->replaces = replaces;
        for (i = first; i < j->pieces; i++) {
            piece *p = &j->piece[i];
            char *both;
            p->encoded = p->text;
            if (!title.size) continue;
            both = take_block(j, title.size + 1 + p->text.size);
            memcpy(both, title.data, title.size);
            both[title.size] = ' ';
            memcpy(both + title.size + 1, p->text.data, p->text.size);
            p->encoded.data = both;
            p->encoded.size = title.size + 1 + p->text.size;
        }
    }
    if (j->first_time <= 0) {
        j->first_time = kalm__now();
        j->first_byte = corpus_done(&j->in) - kalm__min((size_t)corpus_done(&j->in), j->held);
    }
    if (j->pieces >= j->o->batch || j->held > 8u << 20) flush_batch(j);
}

static void summary(const job *j)
{
    double spent = kalm__now() - j->show.begun;
    fprintf(stderr, "%lu documents encoded", (unsigned long)j->encoded);
    if (j->s.meta.split) fprintf(stderr, " as %lu windows", (unsigned long)j->windows);
    if (j->encoded)
        fprintf(stderr, " in %.1f s: %.1f/s, %.0f tokens/s", spent, (double)j->encoded / spent, (double)j->tokens / j->encoding);
    if (j->replaced) fprintf(stderr, "; %lu of them replace another text", (unsigned long)j->replaced);
    if (j->stored) fprintf(stderr, "; %lu were there already", (unsigned long)j->stored);
    if (j->fresh_metadata) fprintf(stderr, ", %lu of them with new metadata", (unsigned long)j->fresh_metadata);
    if (j->kept) fprintf(stderr, "; %lu have changed and were kept as they are", (unsigned long)j->kept);
    if (j->cut) fprintf(stderr, "; %lu were longer than %lu tokens and were cut", (unsigned long)j->cut,
                        (unsigned long)j->s.meta.max_doc_tokens);
    if (j->bad) fprintf(stderr, "; %lu pieces of bad input were left out", (unsigned long)j->bad);
    fputc('\n', stderr);
}

/* ---- encoding ------------------------------------------------------------------------------------------------------- */

static void demand_number(const store *s, const char *option, int given, uint32_t wanted, uint32_t has)
{
    if (given && wanted != has)
        die("%s was made with %s %lu, not %lu", s->path, option, (unsigned long)has, (unsigned long)wanted);
}

/* The settings of a new store. */
static void new_meta(store_meta *m, const options *o, const kalm_model_info *info)
{
    memset(m, 0, sizeof *m);
    snprintf(m->model, sizeof m->model, "%s", info->name);
    snprintf(m->weights, sizeof m->weights, "%s", info->weights);
    write_hash(m->fingerprint, info->fingerprint);
    m->width = info->width;
    m->ratio = o->ratio ? o->ratio : 4;
    m->bits = o->bits ? o->bits : 16;
    m->split = o->split;
    m->overlap = o->overlap;
    /* of windows, room for the title and for a window's tokens not being those of the whole text at its edges */
    m->max_doc_tokens = o->config.max_doc_tokens ? o->config.max_doc_tokens
                      : (uint32_t)kalm__min(kalm__max(1024, m->split ? (size_t)m->split + 256 : 0), info->max_tokens);
    if (m->max_doc_tokens > info->max_tokens)
        die("--max-doc-tokens is %lu, the model reads %lu", (unsigned long)m->max_doc_tokens, (unsigned long)info->max_tokens);
    if (m->split > m->max_doc_tokens)
        die("--split is %lu, documents have at most %lu tokens (--max-doc-tokens)", (unsigned long)m->split,
            (unsigned long)m->max_doc_tokens);
}

static int run_encode(const options *o)
{
    job j;
    kalm_model_info info;
    kalm_config config = o->config;
    kalm_error err;
    record r;
    size_t i;
    int what;
    memset(&j, 0, sizeof j);
    j.o = o;
    if (!o->model) die_usage("no model");
    corpus_begin(&j.in, (int)o->format);
    for (i = 0; i < o->words; i++) {
        if (strcmp(o->word[i], o->store) == 0) die_usage("%s is input and store", o->store);
        corpus_take(&j.in, o->word[i]);
    }
    if (!o->words) {
        if (isatty(0)) die_usage("no input");
        corpus_take(&j.in, "-");
    }
    if (kalm_model_open(o->model, NULL, &j.model, &err)) return cmd_failed(&err);
    kalm_model_get_info(j.model, &info);
    if (!info.has_tokenizer) die("%s holds no tokenizer: texts cannot be encoded", o->model);
    if (!store_open(&j.s, o->store, STORE_CREATE)) {
        store_meta m;
        new_meta(&m, o, &info);
        store_create(&j.s, &m);
    }
    store_demand(&j.s, o->model, &info);
    demand_number(&j.s, "--ratio", o->ratio != 0, o->ratio, j.s.meta.ratio);
    demand_number(&j.s, "--bits", o->bits != 0, o->bits, j.s.meta.bits);
    demand_number(&j.s, "--max-doc-tokens", config.max_doc_tokens != 0, config.max_doc_tokens, j.s.meta.max_doc_tokens);
    demand_number(&j.s, "--split", o->has_split, o->split, j.s.meta.split);
    demand_number(&j.s, "--overlap", o->has_overlap, o->overlap, j.s.meta.overlap);
    config.max_doc_tokens = j.s.meta.max_doc_tokens;
    if (kalm_context_new(j.model, &config, &j.ctx, &err)) return cmd_failed(&err);
    store_begin_writing(&j.s);
    j.find = store_prepare(&j.s, "SELECT hash, metadata FROM documents WHERE key = ?1 AND window = 0");
    j.insert = store_prepare(&j.s, "INSERT INTO documents (key, window, windows, start, hash, tokens, tokens_used, title, text, metadata, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)");
    j.drop = store_prepare(&j.s, "DELETE FROM documents WHERE key = ?1");
    j.update = store_prepare(&j.s, "UPDATE documents SET metadata = ?2 WHERE key = ?1");
    kalm__catch_signals();
    cmd_progress_begin(&j.show, "");
    j.show.patience = 0;
    j.show.every = 2;
    j.show.quiet = o->quiet;
    while ((what = corpus_next(&j.in, &r)) != CORPUS_END && !kalm__interrupted) {
        if (what == CORPUS_RECORD) take_record(&j, &r);
        else bad_input(&j, j.in.why);
    }
    if (!kalm__interrupted) flush_batch(&j);
    cmd_progress_clear(&j.show);
    if (!o->quiet) summary(&j);
    sqlite3_finalize(j.find);
    sqlite3_finalize(j.insert);
    sqlite3_finalize(j.drop);
    sqlite3_finalize(j.update);
    store_close(&j.s);
    drop_batch(&j);
    free(j.block);
    free(j.doc);
    free(j.piece);
    free(j.slot);
    corpus_end(&j.in);
    kalm_context_free(j.ctx);
    kalm_model_close(j.model);
    if (kalm__interrupted) {
        fprintf(stderr, "%s: interrupted; the same command goes on from there\n", cmd_name);
        return EXIT_INTERRUPTED;
    }
    return j.bad ? EXIT_BAD_INPUT : EXIT_OK;
}

/* ---- what else ------------------------------------------------------------------------------------------------------ */

static int run_info(const options *o)
{
    store s;
    sqlite3_stmt *q;
    store_open(&s, o->store, STORE_READ);
    printf("model           %s, %s weights, fingerprint %s\n", s.meta.model, s.meta.weights, s.meta.fingerprint);
    printf("documents kept  at ratio %lu, rows of %lu numbers of %lu bits, at most %lu tokens\n", (unsigned long)s.meta.ratio,
           (unsigned long)s.meta.width, (unsigned long)s.meta.bits, (unsigned long)s.meta.max_doc_tokens);
    if (s.meta.split)
        printf("windows         of %lu tokens, sharing %lu\n", (unsigned long)s.meta.split, (unsigned long)s.meta.overlap);
    q = store_prepare(&s, "SELECT count(*), coalesce(sum(window = 0), 0), coalesce(sum(tokens_used), 0), coalesce(sum(tokens > "
                          "tokens_used), 0), coalesce(sum(length(document)), 0), coalesce(sum(length(CAST(text AS BLOB))), 0), "
                          "(SELECT page_count * page_size FROM pragma_page_count, pragma_page_size), "
                          "(SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size) FROM documents");
    if (store_step(&s, q)) {
        double rows = (double)sqlite3_column_int64(q, 0), bytes = (double)sqlite3_column_int64(q, 4);
        printf("documents       %.0f", (double)sqlite3_column_int64(q, 1));
        if (s.meta.split) printf(" in %.0f windows", rows);
        printf("\ntokens          %.0f", (double)sqlite3_column_int64(q, 2));
        if (rows > 0) printf(", %.1f a row of the store", (double)sqlite3_column_int64(q, 2) / rows);
        printf("\ncut             %.0f\n", (double)sqlite3_column_int64(q, 3));
        printf("bytes           %.0f of encoded documents", bytes);
        if (rows > 0) printf(", %.0f each", bytes / rows);
        printf("; %.0f of texts; %.0f of the file, %.0f of them free\n", (double)sqlite3_column_int64(q, 5),
               (double)sqlite3_column_int64(q, 6), (double)sqlite3_column_int64(q, 7));
    }
    sqlite3_finalize(q);
    store_close(&s);
    return EXIT_OK;
}

/* One document of `key` as the input had it: windows put together again. */
static void export_json(const store *s, kalm_text key)
{
    sqlite3_stmt *q = store_prepare(s, "SELECT start, title, text, metadata FROM documents WHERE key = ?1 ORDER BY window");
    kalm_text whole, part;
    char *text = NULL, *title = NULL, *metadata = NULL;
    memset(&whole, 0, sizeof whole);
    store_bind(s, q, 1, key);
    while (store_step(s, q)) {
        size_t start = (size_t)sqlite3_column_int64(q, 0);
        if (!text) {
            title = cmd_copy(store_column(q, 1));
            metadata = cmd_copy(store_column(q, 3));
        }
        part = store_column(q, 2);
        if (start > whole.size) die("%s: '%s' lacks a window", s->path, key.data);
        text = (char *)cmd_grow(text, start + part.size + 1);
        memcpy(text + start, part.data, part.size);
        whole.size = start + part.size;
    }
    sqlite3_finalize(q);
    if (!text) die("%s has no document '%s'", s->path, key.data);
    whole.data = text;
    fputs("{\"_id\": ", stdout);
    cmd_json(stdout, key);
    if (*title) {
        fputs(", \"title\": ", stdout);
        cmd_json(stdout, kalm__text(title));
    }
    fputs(", \"text\": ", stdout);
    cmd_json(stdout, whole);
    if (*metadata == '{' && metadata[1] != '}') printf(", %s\n", metadata + 1);
    else fputs("}\n", stdout);
    free(title);
    free(metadata);
    free(text);
}

static int run_export(const options *o)
{
    store s;
    size_t i;
    store_open(&s, o->store, STORE_READ);
    if (o->bytes && (o->words != 1 || isatty(1))) die_usage("--bytes: one key, and not to a terminal");
    for (i = 0; i < o->words; i++) {
        if (o->bytes) {
            sqlite3_stmt *q = store_prepare(&s, "SELECT document FROM documents WHERE key = ?1 AND window = ?2");
            const void *bytes;
            size_t size;
            store_bind(&s, q, 1, kalm__text(o->word[i]));
            store_check(&s, sqlite3_bind_int64(q, 2, o->window));
            if (!store_step(&s, q)) die("%s has no window %lu of '%s'", s.path, (unsigned long)o->window, o->word[i]);
            bytes = sqlite3_column_blob(q, 0);
            size = (size_t)sqlite3_column_bytes(q, 0);
#if defined(_WIN32)
            _setmode(1, 0x8000);
#endif
            if (bytes) fwrite(bytes, 1, size, stdout);
            sqlite3_finalize(q);
        } else {
            export_json(&s, kalm__text(o->word[i]));
        }
    }
    cmd_flush();
    store_close(&s);
    return EXIT_OK;
}

/* All the keys or none. */
static int run_delete(const options *o)
{
    store s;
    sqlite3_stmt *q;
    size_t i;
    store_open(&s, o->store, STORE_WRITE);
    store_exec(&s, "BEGIN IMMEDIATE");
    q = store_prepare(&s, "DELETE FROM documents WHERE key = ?1");
    for (i = 0; i < o->words; i++) {
        store_bind(&s, q, 1, kalm__text(o->word[i]));
        store_step(&s, q);
        if (!sqlite3_changes(s.db)) die("%s has no document '%s'; nothing was deleted", s.path, o->word[i]);
        store_check(&s, sqlite3_reset(q));
    }
    sqlite3_finalize(q);
    store_exec(&s, "COMMIT");
    store_close(&s);
    return EXIT_OK;
}

static int run_verify(const options *o)
{
    store s;
    kalm_model *model = NULL;
    kalm_model_info info;
    kalm_error err;
    sqlite3_stmt *q;
    size_t rows = 0, documents = 0, bad = 0;
    uint64_t fingerprint;
    char *whole = NULL;                /* the text of the windows so far */
    size_t whole_size = 0;
    int64_t window, windows = 0, expected = 0;
    store_open(&s, o->store, STORE_READ);
    if (o->model) {
        if (kalm_model_open(o->model, NULL, &model, &err)) return cmd_failed(&err);
        kalm_model_get_info(model, &info);
        store_demand(&s, o->model, &info);
    }
    fingerprint = (uint64_t)strtoull(s.meta.fingerprint, NULL, 16);
    kalm__catch_signals();
    q = store_prepare(&s, "PRAGMA quick_check(1)");
    if (!store_step(&s, q) || strcmp(store_column(q, 0).data, "ok") != 0)
        die("%s is damaged: %s", s.path, store_column(q, 0).data);
    sqlite3_finalize(q);
    q = store_prepare(&s, "SELECT number, key, window, windows, start, hash, tokens, tokens_used, title, text, document "
                          "FROM documents ORDER BY key, window");
    while (store_step(&s, q)) {
        const void *data = sqlite3_column_blob(q, 10);
        size_t size = (size_t)sqlite3_column_bytes(q, 10), start = (size_t)sqlite3_column_int64(q, 4);
        kalm_text title = store_column(q, 8), text = store_column(q, 9);
        kalm_doc_info d;
        kalm_doc *doc = NULL;
        const char *why = NULL;
        if (kalm__interrupted) {
            fprintf(stderr, "%s: interrupted\n", cmd_name);
            return EXIT_INTERRUPTED;
        }
        memset(&d, 0, sizeof d);
        kalm__no_error(&err);
        if (!data) data = "";
        if (model) {
            if (kalm_doc_open(model, data, size, 0, &doc, &err)) why = err.text;
            kalm_doc_get_info(doc, &d);
            kalm_doc_free(doc);
        } else if (kalm__doc_check((const unsigned char *)data, size, &d, fingerprint, s.meta.width, &err)) {
            why = err.text;
        }
        window = sqlite3_column_int64(q, 2);
        if (window == 0) {
            if (expected != windows) why = "the text before it lacks windows";
            documents++;
            whole_size = 0;
            expected = 0;
            windows = sqlite3_column_int64(q, 3);
        }
        if (!why && (d.ratio != s.meta.ratio || d.bits != s.meta.bits)) why = "its ratio or bits are not those of the store";
        if (!why && (d.tokens != sqlite3_column_int64(q, 6) || d.tokens_used != sqlite3_column_int64(q, 7)))
            why = "its tokens are not those of the document";
        if (!why && (window != expected || windows != sqlite3_column_int64(q, 3) || start > whole_size))
            why = "its windows do not follow each other";
        expected++;
        if (!why) {
            whole = (char *)cmd_grow(whole, start + text.size + 1);
            memcpy(whole + start, text.data, text.size);
            whole_size = start + text.size;
            if (window == windows - 1) {
                kalm_text all;
                char hash[17];
                all.data = whole;
                all.size = whole_size;
                write_hash(hash, content_hash(title, all));
                if (strcmp(hash, store_column(q, 5).data) != 0) why = "its text is not what was encoded";
            }
        }
        if (why) {
            fprintf(stderr, "%s: row %ld, '%s': %s\n", s.path, (long)sqlite3_column_int64(q, 0), store_column(q, 1).data, why);
            bad++;
        }
        rows++;
    }
    if (expected != windows) {
        fprintf(stderr, "%s: the last text lacks windows\n", s.path);
        bad++;
    }
    sqlite3_finalize(q);
    free(whole);
    store_close(&s);
    kalm_model_close(model);
    if (bad) die("%lu of the %lu rows of %s are damaged", (unsigned long)bad, (unsigned long)rows, o->store);
    if (!o->quiet) printf("%lu documents in %lu rows are whole\n", (unsigned long)documents, (unsigned long)rows);
    return EXIT_OK;
}

static void demand_same(const store *a, const store *b, const char *what, uint32_t x, uint32_t y)
{
    if (x != y) die("%s has %s %lu, %s has %lu", a->path, what, (unsigned long)x, b->path, (unsigned long)y);
}

static int run_merge(const options *o)
{
    store s, other;
    size_t i, added = 0;
    int there;
    for (i = 0; i < o->words; i++)
        if (!kalm__file_exists(o->word[i])) die("there is no store %s", o->word[i]);
    there = store_open(&s, o->store, STORE_CREATE);
    kalm__catch_signals();
    for (i = 0; i < o->words && !kalm__interrupted; i++) {
        sqlite3_stmt *q;
        int64_t at = 0, last;
        if (strcmp(o->word[i], o->store) == 0) die("%s cannot be merged with itself", o->store);
        store_open(&other, o->word[i], STORE_READ);
        if (!there) store_create(&s, &other.meta);
        there = 1;
        if (strcmp(s.meta.fingerprint, other.meta.fingerprint) != 0)
            die("%s holds documents of the model %s (%s, fingerprint %s), %s those of %s (%s, fingerprint %s)", s.path,
                s.meta.model, s.meta.weights, s.meta.fingerprint, other.path, other.meta.model, other.meta.weights,
                other.meta.fingerprint);
        demand_same(&s, &other, "ratio", s.meta.ratio, other.meta.ratio);
        demand_same(&s, &other, "bits", s.meta.bits, other.meta.bits);
        demand_same(&s, &other, "max_doc_tokens", s.meta.max_doc_tokens, other.meta.max_doc_tokens);
        demand_same(&s, &other, "split", s.meta.split, other.meta.split);
        demand_same(&s, &other, "overlap", s.meta.overlap, other.meta.overlap);
        sqlite3_close(other.db);

        if (i == 0) store_begin_writing(&s);
        q = store_prepare(&s, "ATTACH DATABASE ?1 AS other");
        store_bind(&s, q, 1, kalm__text(o->word[i]));
        store_step(&s, q);
        sqlite3_finalize(q);
        q = store_prepare(&s, "SELECT a.key FROM other.documents a JOIN main.documents b ON b.key = a.key AND b.window = 0 "
                              "WHERE a.window = 0 AND a.hash <> b.hash LIMIT 1");
        if (store_step(&s, q))
            die("%s and %s have different texts of the key '%s'; nothing of %s was added", s.path, o->word[i],
                store_column(q, 0).data, o->word[i]);
        sqlite3_finalize(q);
        last = store_number(&s, "SELECT coalesce(max(number), 0) FROM other.documents");
        /* OR IGNORE: what both have; a transaction every thousand rows, so that the journal stays small */
        q = store_prepare(&s, "INSERT OR IGNORE INTO main.documents (key, window, windows, start, hash, tokens, tokens_used, "
                              "title, text, metadata, document) SELECT key, window, windows, start, hash, tokens, tokens_used, "
                              "title, text, metadata, document FROM other.documents WHERE number > ?1 AND number <= ?2 "
                              "ORDER BY number");
        for (; at < last && !kalm__interrupted; at += 1000) {
            store_check(&s, sqlite3_bind_int64(q, 1, at));
            store_check(&s, sqlite3_bind_int64(q, 2, at + 1000));
            store_step(&s, q);
            added += (size_t)sqlite3_changes(s.db);
            store_check(&s, sqlite3_reset(q));
        }
        sqlite3_finalize(q);
        store_exec(&s, "DETACH DATABASE other");
    }
    if (!o->quiet) fprintf(stderr, "%lu rows added to %s\n", (unsigned long)added, s.path);
    store_close(&s);
    if (kalm__interrupted) {
        fprintf(stderr, "%s: interrupted; the same command goes on from there\n", cmd_name);
        return EXIT_INTERRUPTED;
    }
    return EXIT_OK;
}

/* ---- options -------------------------------------------------------------------------------------------------------- */

static int is_model(const char *path)
{
    char head[8];
    kalm__input f;
    kalm_error err;
    int is;
    if (kalm__input_open(&f, path, &err)) return 0;
    is = f.size >= 8 && kalm__input_read(&f, 0, head, 8) && memcmp(head, KALM__MAGIC, 8) == 0;
    kalm__input_close(&f);
    return is;
}

static void act(cmd_args *a, int action, const char *value)
{
    options *o = (options *)a->to;
    if (o->action && o->action != action) die_usage("one of --info, --verify, --export, --delete and --merge at a time");
    if (action == DO_MERGE && o->action != DO_MERGE) o->others = a->words;
    o->action = action;
    if (value) o->word[o->words++] = value;
}

static void act_info(cmd_args *a, const char *name, const char *value) { (void)name, act(a, DO_INFO, value); }
static void act_verify(cmd_args *a, const char *name, const char *value) { (void)name, act(a, DO_VERIFY, value); }
static void act_export(cmd_args *a, const char *name, const char *value) { (void)name, act(a, DO_EXPORT, value); }
static void act_delete(cmd_args *a, const char *name, const char *value) { (void)name, act(a, DO_DELETE, value); }
static void act_merge(cmd_args *a, const char *name, const char *value) { (void)name, act(a, DO_MERGE, value); }

static const cmd_option table[] = {
    CMD_HEADING("Input: files, folders, or - for standard input, which is also read when there is none"),
    CMD_CHOICE("--format", "auto|jsonl|tsv|lines|files|store", options, format,
               "jsonl: an object a line: \"_id\" or \"id\", \"text\", maybe \"title\", which is encoded before the text; other members are "
               "kept as metadata\n"
               "tsv: key TAB text a line; or columns as the first line names them\n"
               "lines: a text a line; its key is FILE:LINE\n"
               "files: a text a file; its key is the path, in a folder that from there\n"
               "store: another store: its texts, to be encoded by this model\n"
               "auto (default): .jsonl .ndjson .json and .tsv by name, stores by their first bytes, standard input by its first "
               "line, other files as one text"),
    CMD_FLAG("--strict", options, strict, "stop at bad input; default: name it, count it, leave it out"),
    CMD_CHOICE("--changed", "replace|keep|stop", options, changed, "of a text that the store has otherwise: replace it (default), "
               "keep what is stored, or stop"),
    CMD_HEADING("How to encode; a store has one answer for all its documents, the first command's"),
    CMD_NUMBER("--ratio", "N", options, ratio, 1, 1u << 20, "tokens pooled into one row (default 4)"),
    CMD_NUMBER("--bits", "32|16|8", options, bits, 8, 32, "kept of each number (default 16)"),
    CMD_NUMBER("--max-doc-tokens", "N", options, config.max_doc_tokens, 1, 1u << 30, "longer documents are cut (default 1024, or what "
               "--split needs)"),
    CMD_NUMBER("--split", "N", options, split, 0, 1u << 30, "texts of more than N tokens become windows of N tokens; the best "
               "window's score counts"),
    CMD_NUMBER("--overlap", "M", options, overlap, 0, 1u << 30, "tokens that a window shares with the one before (default 0)"),
    CMD_NUMBER("--threads", "N", options, config.threads, 1, 4096, "default: one for each core"),
    CMD_TEXT("--kernels", "NAME", options, config.kernels, "instruction set to use (default: the best one; the environment variable "
             "KALM_KERNELS says the same)"),
    CMD_NUMBER("--batch", "N", options, batch, 1, 1u << 20, "documents stored at a time (default 64): at most so many are encoded "
               "again after a kill"),
    CMD_FLAG("--quiet", options, quiet, "no progress, no summary"),
    CMD_HEADING("What else can be done with a store"),
    CMD_CALL("--info", NULL, act_info, "what the store holds"),
    CMD_CALL("--verify", NULL, act_verify, "check each document and its text against their checksums"),
    CMD_CALL("--export", "KEY", act_export, "print a document as a line of JSON; may be given many times"),
    CMD_FLAG("--bytes", options, bytes, "with --export: its encoded bytes instead"),
    CMD_NUMBER("--window", "W", options, window, 0, UINT32_MAX, "with --bytes: which window of a text that was split (default 0)"),
    CMD_CALL("--delete", "KEY", act_delete, "remove a document; may be given many times"),
    CMD_CALL("--merge", "OTHER.db...", act_merge, "add the documents of other stores of the same model and settings")
};

static const cmd_program program = {
    "kalm-index",
    "MODEL.kalm STORE.db [INPUT...] [options]\n"
    "STORE.db --info | --export KEY | --delete KEY | --merge OTHER.db...\n"
    "[MODEL.kalm] STORE.db --verify",
    "Encode documents once and keep them in a store: STORE.db, a SQLite database that `kalm-rerank --store` ranks from and any "
    "other tool can read.\n"
    "\n"
    "Documents that the store has already are passed over, so the same command goes on where another was stopped or killed, and "
    "adds what is new. A document whose text changed under its key is encoded again (see --changed).",
    table, sizeof table / sizeof *table,
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 done but bad input was left out, 130 interrupted (what was stored stays).",
    NULL
};

static void read_options(options *o, int argc, char **argv)
{
    cmd_args a;
    size_t i = 0, k, end;
    memset(o, 0, sizeof *o);
    o->batch = 64;
    o->word = (const char **)cmd_alloc((size_t)argc * sizeof *o->word);
    o->config.kernels = getenv("KALM_KERNELS");
    if (o->config.kernels && !*o->config.kernels) o->config.kernels = NULL;
    cmd_parse(&a, &program, o, argc, argv);
    o->has_split = cmd_given(&a, "--split");
    o->has_overlap = cmd_given(&a, "--overlap");
    if (o->bits && o->bits != 8 && o->bits != 16 && o->bits != 32) die_usage("--bits must be 32, 16 or 8");
    if (o->has_overlap && !o->has_split && !o->action && o->overlap) die_usage("--overlap is for --split");
    if (o->split && o->overlap >= o->split) die_usage("--overlap must be less than --split");
    /* of --merge A STORE B C: words behind the store are stores as well */
    end = o->action == DO_MERGE ? kalm__min(a.words, kalm__max(o->others, 1)) : a.words;
    for (k = end; k < a.words; k++) o->word[o->words++] = a.word[k];
    if (o->action == DO_ENCODE || (end > 1 && is_model(a.word[0]))) {
        if (!end) die_usage("no model");
        o->model = a.word[i++];
    }
    if (i == end) die_usage("no store");
    o->store = a.word[i++];
    if (o->action == DO_ENCODE)
        while (i < end) o->word[o->words++] = a.word[i++];
    if (i < end) die_usage("what is %s for?", a.word[i]);
    cmd_args_end(&a);
    if (is_model(o->store)) die_usage("%s is a model, not a store", o->store);
}

int main(int argc, char **argv)
{
    options o;
    int status;
    kalm__utf8_arguments(&argc, &argv);
    cmd_name = program.name;
    read_options(&o, argc, argv);
    status = o.action == DO_INFO ? run_info(&o) : o.action == DO_VERIFY ? run_verify(&o) : o.action == DO_EXPORT ? run_export(&o) :
             o.action == DO_DELETE ? run_delete(&o) : o.action == DO_MERGE ? run_merge(&o) : run_encode(&o);
    free((void *)o.word);
    return status;
}
