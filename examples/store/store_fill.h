/* store_fill.h - texts into a store, for kalm-index and kalm-search: cut into windows where they are long, encoded a batch at a time,
   and stored, a batch in one transaction. A second thread encodes one batch while this one stores the batch before and takes the
   texts of the next, so that reading and writing cost no time of their own. All use of the database is on the caller's thread.
   With one thread (kalm_config.threads 1) nothing happens at the same time. Included behind store.h. */
#ifndef KALM_STORE_FILL_H
#define KALM_STORE_FILL_H

/* One text to encode: a whole document's or a window's. */
typedef struct fill_piece {
    kalm_text text;                    /* of the window, in the batch's blocks */
    kalm_text encoded;                 /* title and text */
    size_t    start;                   /* the byte of the whole text where it begins */
    uint32_t  window, windows;
    size_t    doc;
} fill_piece;

typedef struct fill_doc {              /* a document of the batch */
    kalm_text key, title, metadata;
    char      hash[17];
    int       replaces;                /* the store has another text of this key */
} fill_doc;

typedef struct fill_batch {
    fill_doc   *doc;                   /* [docs] */
    fill_piece *piece;                 /* [pieces] */
    size_t      docs, doc_room, pieces, piece_room;
    char      **block;                 /* [blocks]: what the texts lie in */
    size_t      blocks, block_room, held;          /* held: bytes of the blocks */
    uint64_t    number;                /* 1, 2, ... in the order in which they are stored */
    size_t      marks;                 /* fill_mark: `stored` is to be called even if there are no pieces */
    kalm_text  *text;                  /* [pieces] while it is encoded */
    kalm_doc  **made;                  /* [pieces] what came of it */
    kalm_result result;
    kalm_error  err;
    double      seconds;               /* that encoding took */
} fill_batch;

enum { FILL_IDLE, FILL_WORK, FILL_DONE, FILL_STOP };       /* what the encoder's thread is at */

typedef struct fill {
    /* set by the caller, behind fill_begin */
    void (*look)(void *user);                      /* from time to time while there is waiting to do; NULL: never */
    void (*dropped)(void *user, kalm_text key);    /* the rows of a key are about to be replaced; may be NULL */
    void (*added)(void *user, int64_t number, const fill_doc *doc, const fill_piece *piece);   /* a row was added; may be NULL */
    void (*stored)(void *user, uint64_t batch);    /* a batch is whole, its transaction still open; in the order of batches; may be NULL */
    void  *user;
    cmd_progress *show;                            /* taken away before the command ends with a message; may be NULL */
    int    natural;                                /* windows end where paragraphs, lines or sentences do, if they can */
    int    quiet;                                  /* say nothing when it is cancelled */
    /* the fill's own */
    const store  *s;
    const kalm_model *model;
    kalm_context *ctx;
    size_t        together, bytes;                 /* a batch has that many pieces, or bytes of texts, or a few more */
    uint64_t      batches;                         /* handed to the encoder */
    fill_batch    batch[3], *filling, *encoding, *spare;     /* each is one of batch */
    int           busy;                            /* `encoding` is being encoded, or waits to be stored */
    sqlite3_stmt *insert, *drop;
    volatile kalm__atomic part;                    /* of `encoding`, in 1/1000 */
    volatile kalm__atomic stop;                    /* a signal came: for the encoder's thread */
    int           threaded;
#if KALM__THREADS == KALM__THREADS_POSIX
    pthread_t       thread;
    pthread_mutex_t lock;
    pthread_cond_t  changed;
    int             state;
#endif
    /* figures of what was stored */
    size_t        encoded, windows, tokens, cut, replaced;
    double        seconds;                         /* of encoding */
} fill;

/* ---- windows -------------------------------------------------------------------------------------------------------- */

/* Where each token of `text` begins: at [count + 1], of bytes; 0: the tokens do not spell the text. Tokens are bytes of
   the text but for spaces, which Gemma's vocabulary writes as U+2581, one of them perhaps added in front. */
KALM__FN int fill_token_offsets(const kalm_model *model, kalm_text text, const int32_t *ids, size_t count, size_t *at)
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

KALM__FN int fill_inside_character(kalm_text t, size_t at) { return at < t.size && ((unsigned char)t.data[at] & 0xc0) == 0x80; }

/* How good a place byte `at` is to end a window: 4 a paragraph ends, 3 a line, 2 a sentence, 1 a word, 0 none of them. */
KALM__FN int fill_end_rank(kalm_text t, size_t at)
{
    const char *p = t.data + at;
    if (!at || at >= t.size) return 0;
    if (p[-1] == '\n' || *p == '\n') return at > 1 && p[-1] == '\n' && (p[-2] == '\n' || *p == '\n') ? 4 : 3;
    if (at > 2 && !memcmp(p - 3, "\xe3\x80\x82", 3)) return 2;         /* the full stop of Chinese and Japanese */
    if (*p == ' ' && strchr(".!?", p[-1])) return 2;
    return *p == ' ' || p[-1] == ' ';
}

/* The token before which a window that begins at token `from` ends, at most `to`: the last of the best places in its last third. */
KALM__FN size_t fill_natural_end(kalm_text text, const size_t *at, size_t from, size_t to)
{
    size_t i, best = to;
    int rank = 0;
    for (i = to; i > to - (to - from) / 3; i--) {
        int r = fill_end_rank(text, at[i]);
        if (r > rank) rank = r, best = i;
    }
    return best;
}

/* 0: there is no memory. */
KALM__FN int fill_add_piece(fill_batch *b, kalm_text text, size_t from, size_t to)
{
    fill_piece *p;
    if (b->pieces == b->piece_room) {
        size_t room = b->piece_room ? b->piece_room * 2 : 256;
        p = (fill_piece *)realloc(b->piece, room * sizeof *p);
        if (!p) return 0;
        b->piece = p;
        b->piece_room = room;
    }
    p = &b->piece[b->pieces++];
    memset(p, 0, sizeof *p);
    p->doc = b->docs;
    while (fill_inside_character(text, from)) from--;
    while (fill_inside_character(text, to)) to++;
    p->text.data = text.data + from;
    p->text.size = to - from;
    p->start = from;
    return 1;
}

/* Windows of `text` as pieces of the document about to be added: one of it all, or of `split` tokens (or fewer where they end
   at natural places), each beginning `overlap` tokens before the end of the one before. 0: the windows cannot be told; -1: there is
   no memory. */
KALM__FN int fill_split(fill *f, kalm_text text)
{
    fill_batch *b = f->filling;
    uint32_t split = f->s->meta.split, w;
    size_t count = 0, room = text.size + 8, *at = NULL, from = 0, to, first = b->pieces;
    int32_t *ids = NULL;
    kalm_error err;
    int good = 1;
    if (split && text.size > split) {              /* a token is a byte or more, so a text of fewer bytes is no longer */
        ids = (int32_t *)malloc(room * sizeof *ids);
        if (!ids || kalm_tokenize(f->model, text, 0, ids, room, &count, &err)) good = !ids || err.code == KALM_NO_MEMORY ? -1 : 0;
        else if (count > room) good = 0;
    }
    if (good > 0 && split && count > split) {
        at = (size_t *)malloc((count + 1) * sizeof *at);
        good = at ? fill_token_offsets(f->model, text, ids, count, at) : -1;
        while (good > 0) {
            to = kalm__min(from + split, count);
            if (f->natural && to < count) to = fill_natural_end(text, at, from, to);
            if (!fill_add_piece(b, text, at[from], at[to])) good = -1;
            if (to == count) break;
            from = to - kalm__min(f->s->meta.overlap, to - from - 1);
        }
    } else if (good > 0 && !fill_add_piece(b, text, 0, text.size)) good = -1;
    for (w = 0; w < b->pieces - first; w++) {
        b->piece[first + w].window = w;
        b->piece[first + w].windows = (uint32_t)(b->pieces - first);
    }
    free(ids);
    free(at);
    return good;
}

/* ---- a batch -------------------------------------------------------------------------------------------------------- */

KALM__FN char *fill_block(fill_batch *b, size_t size)
{
    if (b->blocks == b->block_room) {
        b->block_room = b->block_room ? b->block_room * 2 : 256;
        b->block = (char **)cmd_grow(b->block, b->block_room * sizeof *b->block);
    }
    b->held += size;
    return b->block[b->blocks++] = (char *)cmd_alloc(size);
}

KALM__FN kalm_text fill_keep(fill_batch *b, kalm_text t)
{
    char *s = fill_block(b, t.size + 1);
    if (t.size) memcpy(s, t.data, t.size);
    s[t.size] = 0;
    t.data = s;
    return t;
}

KALM__FN void fill_clear(fill_batch *b)
{
    size_t i;
    for (i = 0; i < b->blocks; i++) free(b->block[i]);
    free(b->text);
    free(b->made);
    b->text = NULL;
    b->made = NULL;
    b->blocks = b->held = b->docs = b->pieces = 0;
    b->marks = 0;
}

KALM__FN int fill_progress(void *user, size_t done, size_t total)
{
    fill *f = (fill *)user;
    kalm__atomic_set(&f->part, total ? (uint32_t)((double)done / (double)total * 1000) : 1000);
    if (f->threaded) return kalm__atomic_get(&f->stop) != 0;
    if (f->look) f->look(f->user);
    return kalm__interrupted != 0;
}

/* On the encoder's thread, or the caller's where there is none. */
KALM__FN void fill_encode(fill *f, fill_batch *b)
{
    kalm_params params;
    double begun = kalm__now();
    memset(&params, 0, sizeof params);
    params.ratio = f->s->meta.ratio;
    params.bits = f->s->meta.bits;
    params.progress = fill_progress;
    params.progress_user = f;
    b->result = kalm_encode(f->ctx, b->text, b->pieces, &params, b->made, &b->err);
    b->seconds = kalm__now() - begun;
}

KALM__FN void fill_store_piece(fill *f, const fill_batch *b, const fill_piece *p, const kalm_doc *doc)
{
    const store *s = f->s;
    const fill_doc *w = &b->doc[p->doc];
    sqlite3_stmt *q = f->insert;
    kalm_doc_info info;
    size_t size;
    const void *bytes = kalm_doc_bytes(doc, &size);
    kalm_doc_get_info(doc, &info);
    store_bind(s, q, 1, w->key);
    store_check(s, sqlite3_bind_int64(q, 2, p->window));
    store_check(s, sqlite3_bind_int64(q, 3, p->windows));
    store_check(s, sqlite3_bind_int64(q, 4, (sqlite3_int64)p->start));
    store_bind(s, q, 5, kalm__text(w->hash));
    store_check(s, sqlite3_bind_int64(q, 6, info.tokens));
    store_check(s, sqlite3_bind_int64(q, 7, info.tokens_used));
    store_bind(s, q, 8, w->title);
    store_bind(s, q, 9, p->text);
    store_bind(s, q, 10, w->metadata);
    store_check(s, sqlite3_bind_blob64(q, 11, bytes, size, SQLITE_STATIC));
    store_run(s, q);
    f->tokens += info.tokens_used;
    f->cut += info.tokens > info.tokens_used;
    if (f->added) f->added(f->user, sqlite3_last_insert_rowid(s->db), w, p);
}

/* What was encoded goes into the store, in one transaction. */
KALM__FN void fill_store(fill *f, fill_batch *b)
{
    size_t i;
    if (b->result) {
        if (f->show) cmd_progress_clear(f->show);
        if (b->result == KALM_CANCELLED && kalm__interrupted && !f->quiet)
            fprintf(stderr, "%s holds what was encoded before; the same command goes on from there\n", f->s->path);
        exit(cmd_failed(&b->err));
    }
    store_exec(f->s, "BEGIN IMMEDIATE");
    for (i = 0; i < b->pieces; i++) {
        const fill_piece *p = &b->piece[i];
        if (p->window == 0) {          /* another text of the key, or another command that was faster */
            if (f->dropped) f->dropped(f->user, b->doc[p->doc].key);
            store_bind(f->s, f->drop, 1, b->doc[p->doc].key);
            store_run(f->s, f->drop);
        }
        fill_store_piece(f, b, p, b->made[i]);
        kalm_doc_free(b->made[i]);
    }
    if (f->stored) f->stored(f->user, b->number);
    store_exec(f->s, "COMMIT");
    for (i = 0; i < b->docs; i++) f->replaced += b->doc[i].replaces != 0;
    f->encoded += b->docs;
    f->windows += b->pieces;
    f->seconds += b->seconds;
    fill_clear(b);
}

/* ---- two batches at once ---------------------------------------------------------------------------------------------- */

#if KALM__THREADS == KALM__THREADS_POSIX
static void *fill__thread(void *user)
{
    fill *f = (fill *)user;
    pthread_mutex_lock(&f->lock);
    for (;;) {
        while (f->state != FILL_WORK && f->state != FILL_STOP) pthread_cond_wait(&f->changed, &f->lock);
        if (f->state == FILL_STOP) break;
        pthread_mutex_unlock(&f->lock);
        fill_encode(f, f->encoding);
        pthread_mutex_lock(&f->lock);
        f->state = FILL_DONE;
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}
#endif

KALM__FN void fill_start(fill *f)
{
    fill_batch *b = f->encoding;
    size_t i;
    b->text = (kalm_text *)cmd_alloc(b->pieces * sizeof *b->text);
    b->made = (kalm_doc **)cmd_alloc(b->pieces * sizeof(kalm_doc *));
    for (i = 0; i < b->pieces; i++) b->text[i] = b->piece[i].encoded;
    kalm__atomic_set(&f->part, 0);
    b->result = KALM_OK;
    b->seconds = 0;
    f->busy = 1;
    if (!b->pieces) return;
#if KALM__THREADS == KALM__THREADS_POSIX
    if (f->threaded) {
        pthread_mutex_lock(&f->lock);
        f->state = FILL_WORK;
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
        return;
    }
#endif
    fill_encode(f, b);
}

/* Until `encoding` is encoded. */
KALM__FN void fill_wait(fill *f)
{
#if KALM__THREADS == KALM__THREADS_POSIX
    if (!f->threaded || !f->busy || !f->encoding->pieces) return;
    pthread_mutex_lock(&f->lock);
    while (f->state == FILL_WORK) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec += 20000000;
        if (t.tv_nsec >= 1000000000) t.tv_nsec -= 1000000000, t.tv_sec++;
        pthread_cond_timedwait(&f->changed, &f->lock, &t);
        if (kalm__interrupted) kalm__atomic_set(&f->stop, 1);
        if (f->state != FILL_WORK || !f->look) continue;
        pthread_mutex_unlock(&f->lock);
        f->look(f->user);
        pthread_mutex_lock(&f->lock);
    }
    f->state = FILL_IDLE;
    pthread_mutex_unlock(&f->lock);
#else
    (void)f;
#endif
}

/* The batch that was filled goes to the encoder; the one that was there is stored meanwhile. */
KALM__FN void fill_flush(fill *f)
{
    fill_batch *done = NULL, *next = f->filling;
    if (!next->pieces && !next->marks) return;
    next->number = ++f->batches;
    fill_wait(f);
    if (f->busy) done = f->encoding;
    if (done && done->result) fill_store(f, done); /* which ends the command */
    f->filling = f->spare;
    f->spare = f->encoding;                        /* empty once it is stored */
    f->encoding = next;
    fill_start(f);
    if (done) fill_store(f, done);
    if (!f->threaded) {
        fill_store(f, f->encoding);
        f->busy = 0;
    }
    if (f->look) f->look(f->user);
}

/* All that was added is stored when this returns. */
KALM__FN void fill_finish(fill *f)
{
    fill_flush(f);
    fill_wait(f);
    if (f->busy) fill_store(f, f->encoding);
    f->busy = 0;
    if (f->look) f->look(f->user);
}

/* ---- what the caller calls -------------------------------------------------------------------------------------------- */

/* config.threads 1: no thread is started. */
KALM__FN void fill_begin(fill *f, const store *s, const kalm_model *model, kalm_context *ctx, size_t together, uint32_t threads)
{
    memset(f, 0, sizeof *f);
    f->s = s;
    f->model = model;
    f->ctx = ctx;
    f->together = together;
    f->bytes = 8u << 20;
    f->filling = &f->batch[0];
    f->encoding = &f->batch[1];
    f->spare = &f->batch[2];
    f->insert = store_prepare(s, "INSERT INTO documents (key, window, windows, start, hash, tokens, tokens_used, title, text, metadata, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)");
    f->drop = store_prepare(s, "DELETE FROM documents WHERE key = ?1");
#if KALM__THREADS == KALM__THREADS_POSIX
    if (threads != 1 && !pthread_mutex_init(&f->lock, NULL)) {
        if (!pthread_cond_init(&f->changed, NULL)) f->threaded = !pthread_create(&f->thread, NULL, fill__thread, f);
    }
#else
    (void)threads;
#endif
}

/* What was not flushed is forgotten. */
KALM__FN void fill_end(fill *f)
{
    size_t i;
#if KALM__THREADS == KALM__THREADS_POSIX
    if (f->threaded) {
        fill_wait(f);
        pthread_mutex_lock(&f->lock);
        f->state = FILL_STOP;
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
        pthread_join(f->thread, NULL);
        pthread_cond_destroy(&f->changed);
        pthread_mutex_destroy(&f->lock);
    }
#endif
    if (f->busy && !f->encoding->result)
        for (i = 0; i < f->encoding->pieces; i++) kalm_doc_free(f->encoding->made[i]);
    for (i = 0; i < 3; i++) {
        fill_clear(&f->batch[i]);
        free(f->batch[i].block);
        free(f->batch[i].doc);
        free(f->batch[i].piece);
    }
    sqlite3_finalize(f->insert);
    sqlite3_finalize(f->drop);
}

/* `stored` is to be called for the batch that is being filled, even if nothing else is in it. Returns the batch's number. */
KALM__FN uint64_t fill_mark(fill *f)
{
    uint64_t number = f->batches + 1;
    if (++f->filling->marks == 1000) fill_flush(f);
    return number;
}

/* A document, as one piece or as windows, each with the title before it; the texts are copied. 0: it cannot be split. */
KALM__FN int fill_add(fill *f, kalm_text key, kalm_text title, kalm_text text, kalm_text metadata, const char *hash, int replaces)
{
    fill_batch *b = f->filling;
    size_t i, first = b->pieces;
    kalm_text own_title = fill_keep(b, title), own_text = fill_keep(b, text);
    fill_doc *w;
    int good = fill_split(f, own_text);
    if (good < 0) die("no memory for the windows of a text");
    if (!good) {
        b->pieces = first;
        return 0;
    }
    if (b->docs == b->doc_room) {
        b->doc_room = b->doc_room ? b->doc_room * 2 : 128;
        b->doc = (fill_doc *)cmd_grow(b->doc, b->doc_room * sizeof *b->doc);
    }
    w = &b->doc[b->docs++];
    w->key = fill_keep(b, key);
    w->title = own_title;
    w->metadata = fill_keep(b, metadata);
    memcpy(w->hash, hash, sizeof w->hash);
    w->replaces = replaces;
    for (i = first; i < b->pieces; i++) {
        fill_piece *p = &b->piece[i];
        char *both;
        p->encoded = p->text;
        if (!title.size) continue;
        both = fill_block(b, title.size + 1 + p->text.size);
        memcpy(both, title.data, title.size);
        both[title.size] = ' ';
        memcpy(both + title.size + 1, p->text.data, p->text.size);
        p->encoded.data = both;
        p->encoded.size = title.size + 1 + p->text.size;
    }
    if (b->pieces >= f->together || b->held > f->bytes) fill_flush(f);
    return 1;
}

/* Bytes of texts that wait to be encoded. */
KALM__FN double fill_waiting(fill *f)
{
    double bytes = (double)f->filling->held;
    if (f->busy) bytes += (double)f->encoding->held * (1 - (double)kalm__atomic_get(&f->part) / 1000);
    return bytes;
}

/* Documents that are encoded, with a fraction for the batch at work. */
KALM__FN double fill_done(fill *f)
{
    return (double)f->encoded + (f->busy ? (double)f->encoding->docs * (double)kalm__atomic_get(&f->part) / 1000 : 0);
}

/* Of title and text, a NUL between them: what tells that they changed. */
KALM__FN uint64_t fill_hash(kalm_text title, kalm_text text)
{
    uint64_t two[2];
    unsigned char both[16];
    two[0] = kalm__hash(title.data ? title.data : "", title.size);
    two[1] = kalm__hash(text.data ? text.data : "", text.size);
    kalm__put_u64(both, two[0]);
    kalm__put_u64(both + 8, two[1]);
    return kalm__hash(both, 16);
}

#endif
