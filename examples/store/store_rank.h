/* store_rank.h - ranks the documents of a store: all of them or those that are named, a batch at a time, so that memory does
   not grow with what they hold. Of a text that was split, the best window counts. Documents of which a state is kept are ranked
   from it (store_states.h), with the same scores. Included behind store.h and store_states.h. */
#ifndef KALM_STORE_RANK_H
#define KALM_STORE_RANK_H

/* What a ranking keeps: 24 bytes a document. Documents are opened a batch at a time. */
typedef struct store_ranking {
    kalm_score *score;                 /* [count] of the best window; index: in the order of the store or of the keys */
    int64_t    *row;                   /* [count] number of that window */
    size_t      count, room;
    const store *from;
    kalm_context *ctx;
    const kalm_model *model;
    kalm_text   query;
    const kalm_params *params;
    cmd_progress *progress;
    size_t      done, total;           /* rows */
    uint32_t    ratio;                 /* 0: as stored */
    states     *kept;                  /* states of documents, open or not */
    int64_t     window, windows;       /* of the row before: the next window of that text, and how many it has */
    kalm_doc   *doc[64];               /* [pending] */
    int64_t     doc_row[64];
    size_t      doc_of[64];            /* which of `count` */
    int         doc_warm[64];          /* its state is in the cache of kept->ctx */
    size_t      pending, bytes;
} store_ranking;

enum { STORE_TOGETHER = 64, STORE_BYTES = 32 << 20 };

/* Within a batch: a signal alone; the bar moves from batch to batch. */
KALM__FN int store_progress(void *user, size_t done, size_t total)
{
    (void)user, (void)done, (void)total;
    return kalm__interrupted != 0;
}

/* Score those of the batch that have a state (warm), or those that have none. */
KALM__FN void store_score(store_ranking *r, kalm_context *ctx, int warm, kalm_score *scores)
{
    const kalm_doc *doc[STORE_TOGETHER];
    kalm_score some[STORE_TOGETHER];
    kalm_error err;
    size_t i, n = 0;
    for (i = 0; i < r->pending; i++)
        if (r->doc_warm[i] == warm) doc[n++] = r->doc[i];
    if (!n) return;
    if (kalm_rerank(ctx, r->query, doc, n, r->params, some, &err)) {
        cmd_progress_end(r->progress);
        exit(cmd_failed(&err));
    }
    for (i = r->pending; i--;)
        if (r->doc_warm[i] == warm) scores[i] = some[--n];
}

KALM__FN void store_flush(store_ranking *r)
{
    kalm_score scores[STORE_TOGETHER];
    size_t i;
    if (!r->pending) return;
    memset(scores, 0, sizeof scores);
    store_score(r, r->kept->ctx, 1, scores);
    store_score(r, r->ctx, 0, scores);
    states_forget(r->kept);
    for (i = 0; i < r->pending; i++) {
        size_t d = r->doc_of[i];
        if (!r->row[d] || scores[i].margin > r->score[d].margin) {
            r->score[d] = scores[i];
            r->score[d].index = (uint32_t)d;
            r->row[d] = r->doc_row[i];
        }
        kalm_doc_free(r->doc[i]);
    }
    r->done += r->pending;
    r->pending = r->bytes = 0;
    if (cmd_progress_step(r->progress, r->done, r->total)) {
        cmd_progress_end(r->progress);
        fprintf(stderr, "%s: interrupted\n", cmd_name);
        exit(EXIT_INTERRUPTED);
    }
}

#define STORE_RANK_COLUMNS "number, window, windows, document"

/* The row that `q` stands at (STORE_RANK_COLUMNS) belongs to the last document, or is the first of the next one. */
KALM__FN void store_rank_row(store_ranking *r, sqlite3_stmt *q)
{
    const store *s = r->from;
    kalm_doc *doc, *coarser;
    kalm_doc_info info;
    kalm_error err;
    int64_t number = store_int(s, q, 0, sqlite3_column_int64(q, 0), 1, STORE_LAST_NUMBER);
    int64_t windows = store_int(s, q, 2, number, 1, UINT32_MAX), window = store_int(s, q, 1, number, 0, windows - 1);
    kalm_text data = store_document(s, q, 3, number);
    if (window == 0) {
        if (r->count == r->room) {
            r->room = r->room ? r->room * 2 : 1024;
            r->score = (kalm_score *)cmd_grow(r->score, r->room * sizeof *r->score);
            r->row = (int64_t *)cmd_grow(r->row, r->room * sizeof *r->row);
        }
        if (r->count == UINT32_MAX) die("%s: more documents than one ranking takes", s->path);
        r->row[r->count++] = 0;
    }
    if (window != r->window || (window ? windows != r->windows : r->windows != 0))
        die("%s: row %lld: its windows do not follow each other", s->path, (long long)number);
    r->window = window + 1 == windows ? 0 : window + 1;
    r->windows = window + 1 == windows ? 0 : windows;
    if (kalm_doc_open(r->model, data.data, data.size, 0, &doc, &err)) die("%s: row %lld: %s", s->path, (long long)number, err.text);
    kalm_doc_get_info(doc, &info);
    if (info.ratio != s->meta.ratio || info.bits != s->meta.bits || info.tokens_used > s->meta.max_doc_tokens)
        die("%s: row %lld: its ratio, bits or tokens are not those of the store", s->path, (long long)number);
    if (r->ratio && r->ratio != s->meta.ratio) {
        if (kalm_doc_repool(r->model, doc, r->ratio, 32, &coarser, &err)) exit(cmd_failed(&err));
        kalm_doc_free(doc);
        doc = coarser;                 /* states are those of documents as they are stored */
        r->doc_warm[r->pending] = 0;
    } else r->doc_warm[r->pending] = states_take(r->kept, number, doc);
    r->doc[r->pending] = doc;
    r->doc_row[r->pending] = number;
    r->doc_of[r->pending++] = r->count - 1;
    r->bytes += data.size;
    if (r->pending == STORE_TOGETHER || r->bytes >= STORE_BYTES || r->kept->held >= STATES_MOST) store_flush(r);
}

/* The next key of "a,b,c" or of lines; 0 at the end. */
KALM__FN int store_key(kalm_text *keys, int lines, kalm_text *key)
{
    const char *end;
    if (lines) {
        while (cmd_line(keys, key))
            if (!cmd_blank(*key)) return 1;
        return 0;
    }
    if (!keys->size) return 0;
    end = (const char *)memchr(keys->data, ',', keys->size);
    key->data = keys->data;
    key->size = end ? (size_t)(end - keys->data) : keys->size;
    keys->size -= key->size + (end ? 1 : 0);
    keys->data += key->size + (end ? 1 : 0);
    return 1;
}

/* Scores of all documents (keys.data NULL) or of those named: r->score and r->row, not yet sorted. */
KALM__FN void store_rank(store_ranking *r, kalm_text keys, int lines)
{
    const store *s = r->from;
    sqlite3_stmt *q;
    kalm_text key;
    if (r->ratio && r->ratio % s->meta.ratio)
        die("%s keeps documents at ratio %lu: --ratio %lu is no multiple of that", s->path, (unsigned long)s->meta.ratio,
            (unsigned long)r->ratio);
    store_exec(s, "BEGIN");            /* one state of the store, whatever a kalm-index adds meanwhile */
    if (!keys.data) {
        r->total = (size_t)store_number(s, "SELECT count(*) FROM documents");
        q = store_prepare(s, "SELECT " STORE_RANK_COLUMNS " FROM documents ORDER BY number");
        while (store_step(s, q)) store_rank_row(r, q);
        if (r->windows) die("%s: the last text lacks windows", s->path);
    } else {
        kalm_text count = keys;
        while (store_key(&count, lines, &key)) r->total++;
        q = store_prepare(s, "SELECT " STORE_RANK_COLUMNS " FROM documents WHERE key = ?1 ORDER BY window");
        while (store_key(&keys, lines, &key)) {
            store_bind(s, q, 1, key);
            if (!store_step(s, q)) die("%s has no document '%s'", s->path, store_shown(key));
            do store_rank_row(r, q); while (store_step(s, q));
            if (r->windows) die("%s: '%s' lacks a window", s->path, store_shown(key));
            store_check(s, sqlite3_reset(q));
        }
    }
    store_flush(r);
    sqlite3_finalize(q);               /* the transaction goes on until store_texts has read what is shown */
}

/* Keys and texts of the first `shown` scores, as kalm-rerank would have read them: texts->text[i] is that of score[i], and
   window[i] says which of the document's it is. */
KALM__FN void store_texts(const store_ranking *r, size_t shown, cmd_texts *texts, uint32_t *window)
{
    const store *s = r->from;
    sqlite3_stmt *q = store_prepare(s, "SELECT key, title, text, window FROM documents WHERE number = ?1");
    size_t i;
    for (i = 0; i < shown; i++) {
        int64_t row = r->row[r->score[i].index];
        kalm_text key, title, text;
        char *both;
        store_check(s, sqlite3_bind_int64(q, 1, row));
        if (!store_step(s, q)) die("%s: a document went away while it was ranked", s->path);
        key = store_text(s, q, 0, row);
        title = store_text(s, q, 1, row);
        text = store_text(s, q, 2, row);
        window[i] = (uint32_t)store_int(s, q, 3, row, 0, UINT32_MAX);
        key.data = cmd_copy(key);
        both = (char *)cmd_alloc(title.size + text.size + 2);
        memcpy(both, title.data, title.size);
        if (title.size) both[title.size++] = ' ';
        memcpy(both + title.size, text.data, text.size);
        text.data = both;
        text.size += title.size;
        both[text.size] = 0;
        cmd_add(texts, key, text);
        store_check(s, sqlite3_reset(q));
    }
    sqlite3_finalize(q);
    store_exec(s, "COMMIT");
}

#endif
