/* index_encode.h - kalm-index at its main work: takes the records of a corpus, passes over what the store has, encodes the others
   a batch at a time and stores each batch in one transaction. Included behind store.h and corpus.h. */
#ifndef KALM_INDEX_ENCODE_H
#define KALM_INDEX_ENCODE_H

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
KALM__FN void show_progress(job *j, double part)
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

KALM__FN int on_progress(void *user, size_t done, size_t total)
{
    show_progress((job *)user, total ? (double)done / (double)total : 1);
    return kalm__interrupted != 0;
}

/* ---- windows -------------------------------------------------------------------------------------------------------- */

/* Where each token of `text` begins: at [count + 1], of bytes; 0: the tokens do not spell the text. Tokens are bytes of
   the text but for spaces, which Gemma's vocabulary writes as U+2581, one of them perhaps added in front. */
KALM__FN int token_offsets(const kalm_model *model, kalm_text text, const int32_t *ids, size_t count, size_t *at)
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

KALM__FN int inside_character(kalm_text t, size_t at) { return at < t.size && ((unsigned char)t.data[at] & 0xc0) == 0x80; }

KALM__FN piece *add_piece(job *j)
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
KALM__FN int split_text(job *j, kalm_text text)
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

KALM__FN char *take_block(job *j, size_t size)
{
    if (j->blocks == j->block_room) {
        j->block_room = j->block_room ? j->block_room * 2 : 256;
        j->block = (char **)cmd_grow(j->block, j->block_room * sizeof *j->block);
    }
    j->held += size;
    return j->block[j->blocks++] = (char *)cmd_alloc(size);
}

KALM__FN kalm_text keep_text(job *j, kalm_text t)
{
    char *s = take_block(j, t.size + 1);
    if (t.size) memcpy(s, t.data, t.size);
    s[t.size] = 0;
    t.data = s;
    return t;
}

KALM__FN void drop_batch(job *j)
{
    size_t i;
    for (i = 0; i < j->blocks; i++) free(j->block[i]);
    j->blocks = j->held = j->docs = j->pieces = 0;
}

KALM__FN void bind_piece(job *j, const piece *p, const kalm_doc *doc)
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
KALM__FN void flush_batch(job *j)
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
KALM__FN int seen_before(job *j, uint64_t key, uint64_t content)
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
KALM__FN uint64_t content_hash(kalm_text title, kalm_text text)
{
    uint64_t two[2];
    unsigned char both[16];
    two[0] = kalm__hash(title.data ? title.data : "", title.size);
    two[1] = kalm__hash(text.data ? text.data : "", text.size);
    kalm__put_u64(both, two[0]);
    kalm__put_u64(both + 8, two[1]);
    return kalm__hash(both, 16);
}

KALM__FN void bad_input(job *j, const char *why)
{
    cmd_progress_clear(&j->show);
    if (j->in.line) say_plainly("%s:%lu: %s", corpus_name(&j->in), j->in.line, why);
    else say_plainly("%s: %s", corpus_name(&j->in), why);
    j->bad++;
    if (j->o->strict) {
        flush_batch(j);
        cmd_progress_clear(&j->show);
        die("stopped at bad input (--strict); what came before it is stored");
    }
}

enum { NEW_TEXT, CHANGED_TEXT, KNOWN_TEXT };

/* What the store has under the key of a record. A known text whose metadata changed gets the new ones here; what is to be done
   with a changed text is the user's choice (--changed), which may end the command. */
KALM__FN int look_up(job *j, const text_record *r, const char *hash)
{
    kalm_text old, metadata;
    int same_text, same_metadata;
    store_bind(&j->s, j->find, 1, r->key);
    if (!store_step(&j->s, j->find)) {
        store_check(&j->s, sqlite3_reset(j->find));
        return NEW_TEXT;
    }
    old = store_text(&j->s, j->find, 0, 0);
    metadata = store_text(&j->s, j->find, 1, 0);
    same_text = old.size == 16 && memcmp(old.data, hash, 16) == 0;
    same_metadata = metadata.size == r->metadata.size && memcmp(metadata.data, r->metadata.data, metadata.size) == 0;
    store_check(&j->s, sqlite3_reset(j->find));
    if (same_text) {
        if (!same_metadata) {
            store_bind(&j->s, j->update, 1, r->key);
            store_bind(&j->s, j->update, 2, r->metadata);
            store_run(&j->s, j->update);
            j->fresh_metadata++;
        }
        j->stored++;
        if (!(j->stored & 1023)) show_progress(j, 0);
        return KNOWN_TEXT;
    }
    if (j->o->changed == CHANGED_KEEP) {
        j->kept++;
        return KNOWN_TEXT;
    }
    if (j->o->changed == CHANGED_STOP) {
        flush_batch(j);
        cmd_progress_clear(&j->show);
        die("%s:%lu: the store has another text of the key '%s' (--changed stop)", corpus_name(&j->in), j->in.line,
            store_shown(r->key));
    }
    return CHANGED_TEXT;
}

/* The record joins the batch, as one piece or as windows, each with the title before it. 0: it cannot be split. */
KALM__FN int add_document(job *j, const text_record *r, const char *hash, int replaces)
{
    size_t i, first = j->pieces;
    kalm_text title = keep_text(j, r->title), text = keep_text(j, r->text);
    waiting *w;
    if (!split_text(j, text)) return 0;
    if (j->docs == j->doc_room) {
        j->doc_room = j->doc_room ? j->doc_room * 2 : 128;
        j->doc = (waiting *)cmd_grow(j->doc, j->doc_room * sizeof *j->doc);
    }
    w = &j->doc[j->docs++];
    w->key = keep_text(j, r->key);
    w->title = title;
    w->metadata = keep_text(j, r->metadata);
    memcpy(w->hash, hash, sizeof w->hash);
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
    return 1;
}

/* One record of the input: it is passed over, told as bad, or joins the batch, which is encoded and stored when it is full. */
KALM__FN void take_record(job *j, const text_record *r)
{
    uint64_t content = content_hash(r->title, r->text);
    char hash[17], why[320];
    int known = seen_before(j, kalm__hash(r->key.data, r->key.size), content), state;
    store_write_hash(hash, content);
    if (known == 1) {
        j->stored++;
        return;
    }
    if (known == 2) {
        snprintf(why, sizeof why, "the key '%s' came before with another text", store_shown(r->key));
        bad_input(j, why);
        return;
    }
    state = look_up(j, r, hash);
    if (state == KNOWN_TEXT) return;
    if (!add_document(j, r, hash, state == CHANGED_TEXT)) {
        bad_input(j, "cannot be split: its tokens do not spell the text");
        return;
    }
    if (j->first_time <= 0) {
        j->first_time = kalm__now();
        j->first_byte = corpus_done(&j->in) - kalm__min((size_t)corpus_done(&j->in), j->held);
    }
    if (j->pieces >= j->o->batch || j->held > 8u << 20) flush_batch(j);
}

KALM__FN void summary(const job *j)
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

KALM__FN void demand_number(const store *s, const char *option, int given, uint32_t wanted, uint32_t has)
{
    if (given && wanted != has)
        die("%s was made with %s %lu, not %lu", s->path, option, (unsigned long)has, (unsigned long)wanted);
}

/* The settings of a new store. */
KALM__FN void new_meta(store_meta *m, const options *o, const kalm_model_info *info)
{
    memset(m, 0, sizeof *m);
    snprintf(m->model, sizeof m->model, "%s", info->name);
    snprintf(m->weights, sizeof m->weights, "%s", info->weights);
    store_write_hash(m->fingerprint, info->fingerprint);
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

KALM__FN int run_encode(const options *o)
{
    job j;
    kalm_model_info info;
    kalm_config config = o->config;
    kalm_error err;
    text_record r;
    size_t i;
    int what;
    memset(&j, 0, sizeof j);
    j.o = o;
    if (!o->model) die_usage("no model");
    corpus_begin(&j.in, (int)o->format, o->store);
    if (!*o->store) die_usage("the name of the store is empty");
    for (i = 0; i < o->words; i++) corpus_take(&j.in, o->word[i]);
    j.bad = j.in.unreadable;
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
    cmd_catch_signals(CMD_END_IN_ORDER);
    cmd_progress_begin(&j.show, "");
    j.show.patience = 0;
    j.show.every = 2;
    j.show.quiet = o->quiet;
    while ((what = corpus_next(&j.in, &r)) != READ_END && !kalm__interrupted) {
        if (what == READ_RECORD) take_record(&j, &r);
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

#endif
