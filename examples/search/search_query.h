/* search_query.h - a question to a database: BM25 over the words of all passages finds the candidates, the model ranks them, and of
   each document the best passage stays. Included behind search_schema.h and search_snippet.h.

   The question reaches FTS5 as words of letters and digits in double quotes with OR between them, never as it was written. Words
   that very many passages have are left out while rarer ones are there: they would cost most of the time and decide
   nothing. */
#ifndef KALM_SEARCH_QUERY_H
#define KALM_SEARCH_QUERY_H

#define SEARCH_SCORED 6000             /* passages that BM25 shall score, about two microseconds each, unless one word has more */

typedef struct search_hit {
    kalm_score score;                  /* index: place among the candidates, by BM25 */
    int64_t    number;                 /* of the row */
    double     bm25;
    /* of those that are shown: owned */
    char      *key, *title, *text, *metadata;
    size_t     text_size, path_size;   /* path_size: bytes of the key that are the file's path */
    int64_t    window, windows, start;
} search_hit;

typedef struct search_engine {
    store         s;
    kalm_model   *model;
    kalm_model_info info;
    kalm_context *ctx;
    sqlite3_stmt *count_term, *match, *document, *row, *file, *passages;
    kalm_params   params;
    size_t        candidates_most;
    char          why[STORE_WHY];      /* of a damaged row */
    /* of the last question */
    search_term   term[SEARCH_TERMS];
    size_t        terms;
    int64_t       all;                 /* passages of the database */
    search_hit   *hit;                 /* [hits] the best passage of each document, best first */
    size_t        hits, candidates, damaged;
    double        bm25_time, read_time, rank_time;
} search_engine;

/* ---- words ------------------------------------------------------------------------------------------------------------- */

typedef struct search_words_set {
    search_term *term;                 /* [count] */
    size_t       count, room;
} search_words_set;

KALM__FN int search_is_stop_word(const char *word)
{
    size_t i;
    for (i = 0; terms_stop_words[i]; i++)
        if (!strcmp(word, terms_stop_words[i])) return 1;
    return 0;
}

KALM__FN void search_collect(void *user, const char *word, size_t size, size_t from, size_t to)
{
    search_words_set *set = (search_words_set *)user;
    search_term t;
    size_t i;
    (void)from, (void)to;
    if (set->count == 4096) return;    /* a question of a megabyte */
    memset(&t, 0, sizeof t);
    memcpy(t.word, word, size);
    t.stop = search_is_stop_word(t.word);
    t.size = search_stem(t.word, size);
    t.word[t.size] = 0;
    for (i = 0; i < set->count; i++)
        if (set->term[i].size == t.size && !memcmp(set->term[i].word, t.word, t.size)) return;
    if (set->count == set->room) set->term = (search_term *)cmd_grow(set->term, (set->room = set->room ? set->room * 2 : 64) * sizeof t);
    set->term[set->count++] = t;
}

KALM__FN int search_rarest_first(const void *pa, const void *pb)
{
    const search_term *a = (const search_term *)pa, *b = (const search_term *)pb;
    if (a->passages != b->passages) return a->passages < b->passages ? -1 : 1;
    return strcmp(a->word, b->word);
}

/* The question's words that the database has, the rarest first, into e->term. */
KALM__FN void search_find_terms(search_engine *e, kalm_text question)
{
    search_words_set set;
    size_t i, kept = 0;
    memset(&set, 0, sizeof set);
    terms_of(question, TERMS_FOLD, search_collect, &set);
    for (i = 0; i < set.count; i++) {
        search_term *t = &set.term[i];
        kalm_text word;
        word.data = t->word;
        word.size = t->size;
        store_bind(&e->s, e->count_term, 1, word);
        t->passages = store_step(&e->s, e->count_term) ? sqlite3_column_int64(e->count_term, 0) : 0;
        store_check(&e->s, sqlite3_reset(e->count_term));
        if (t->passages > 0) set.term[kept++] = *t;
    }
    for (i = 0; i < kept && set.term[i].stop; i++) {}
    if (i < kept) {                    /* not of stop words alone, such as "to be or not to be": they go */
        size_t all = kept;
        for (i = kept = 0; i < all; i++)
            if (!set.term[i].stop) set.term[kept++] = set.term[i];
    }
    if (kept) qsort(set.term, kept, sizeof *set.term, search_rarest_first);
    e->terms = kalm__min(kept, SEARCH_TERMS);
    for (i = 0; i < e->terms; i++) {
        double with = (double)set.term[i].passages, without = (double)e->all > with ? (double)e->all - with : 0;
        e->term[i] = set.term[i];
        e->term[i].weight = log(1 + (without + 0.5) / (with + 0.5));
    }
    free(set.term);
}

/* `"a" OR "b"` of the words that are asked for. all: AND, of every word. */
KALM__FN char *search_match(search_engine *e, int all)
{
    char *text = (char *)cmd_alloc(e->terms * (TERMS_LONGEST + 16) + 1), *at = text;
    size_t i;
    *at = 0;
    for (i = 0; i < e->terms; i++)
        if (all || e->term[i].asked) at += sprintf(at, "%s\"%s\"", at == text ? "" : all ? " AND " : " OR ", e->term[i].word);
    return text;
}

/* ---- candidates -------------------------------------------------------------------------------------------------------- */

KALM__FN void search_free_hits(search_engine *e)
{
    size_t i;
    for (i = 0; i < e->hits; i++) {
        free(e->hit[i].key);
        free(e->hit[i].title);
        free(e->hit[i].text);
        free(e->hit[i].metadata);
    }
    free(e->hit);
    e->hit = NULL;
    e->hits = 0;
}

/* The best passages by BM25 into hit [most]; how many. */
KALM__FN size_t search_bm25(search_engine *e, int all, search_hit *hit, size_t most)
{
    char *match = search_match(e, all);
    size_t n = 0;
    store_bind(&e->s, e->match, 1, kalm__text(match));
    store_check(&e->s, sqlite3_bind_int64(e->match, 2, (sqlite3_int64)most));
    while (n < most && store_step(&e->s, e->match)) {
        memset(&hit[n], 0, sizeof *hit);
        hit[n].number = sqlite3_column_int64(e->match, 0);
        hit[n].bm25 = -sqlite3_column_double(e->match, 1);
        n++;
    }
    store_check(&e->s, sqlite3_reset(e->match));
    free(match);
    return n;
}

/* Which words FTS5 is asked for, and the candidates. */
KALM__FN size_t search_candidates(search_engine *e, search_hit *hit, size_t most)
{
    int64_t scored = 0;
    size_t i, n = 0;
    for (i = 0; i < e->terms; i++) {
        e->term[i].asked = !i || scored + e->term[i].passages <= SEARCH_SCORED;
        if (e->term[i].asked) scored += e->term[i].passages;
    }
    if (!e->terms) return 0;
    if (scored > SEARCH_SCORED && e->terms > 1) n = search_bm25(e, 1, hit, most);   /* all are common: those that have every one */
    return n >= kalm__min(most, 10) ? n : search_bm25(e, 0, hit, most);
}

/* The encoded documents of the candidates; those that are damaged are left out. Returns how many are left. */
KALM__FN size_t search_open_documents(search_engine *e, search_hit *hit, size_t count, kalm_doc **doc)
{
    size_t i, kept = 0;
    for (i = 0; i < count; i++) {
        kalm_doc_info info;
        kalm_error err;
        kalm_text data;
        e->why[0] = 0;
        store_check(&e->s, sqlite3_bind_int64(e->document, 1, hit[i].number));
        if (store_step(&e->s, e->document)) {
            data = store_document(&e->s, e->document, 0, hit[i].number);
            if (e->why[0] || kalm_doc_open(e->model, data.data, data.size, 0, &doc[kept], &err)) {
                if (!e->why[0] && err.code == KALM_NO_MEMORY) die("%s", err.text);     /* nothing is wrong with the passage */
                e->damaged++;
            } else {
                kalm_doc_get_info(doc[kept], &info);
                if (info.tokens_used > e->s.meta.max_doc_tokens) {
                    kalm_doc_free(doc[kept]);
                    e->damaged++;
                } else hit[kept++] = hit[i];
            }
        } else e->damaged++;           /* words of a passage that is none */
        store_check(&e->s, sqlite3_reset(e->document));
    }
    return kept;
}

KALM__FN int search_best_first(const void *pa, const void *pb)
{
    const search_hit *a = (const search_hit *)pa, *b = (const search_hit *)pb;
    if (a->score.margin != b->score.margin) return a->score.margin > b->score.margin ? -1 : 1;
    return a->score.index < b->score.index ? -1 : a->score.index > b->score.index;
}

/* How much of a key is the path of a file of the database: the rest is a record's. */
KALM__FN size_t search_path_size(search_engine *e, kalm_text key)
{
    size_t n = key.size;
    while (n) {
        int there;
        store_check(&e->s, sqlite3_bind_blob64(e->file, 1, key.data, n, SQLITE_STATIC));
        there = store_step(&e->s, e->file);
        store_check(&e->s, sqlite3_reset(e->file));
        if (there) return n;
        while (n && key.data[n - 1] != '/') n--;
        if (n) n--;
    }
    return key.size;
}

/* Key and texts of a hit. 0: its row is damaged. */
KALM__FN int search_read_hit(search_engine *e, search_hit *h)
{
    sqlite3_stmt *q = e->row;
    int good;
    e->why[0] = 0;
    store_check(&e->s, sqlite3_bind_int64(q, 1, h->number));
    good = store_step(&e->s, q);
    if (good) {
        kalm_text key = store_text(&e->s, q, 0, h->number), title = store_text(&e->s, q, 1, h->number), text = store_text(&e->s, q, 2, h->number);
        kalm_text metadata = store_text(&e->s, q, 3, h->number);
        h->windows = store_int(&e->s, q, 5, h->number, 1, UINT32_MAX);
        h->window = store_int(&e->s, q, 4, h->number, 0, h->windows - 1);
        h->start = store_int(&e->s, q, 6, h->number, 0, INT32_MAX);
        store_check_metadata(&e->s, metadata, h->number);
        if (!key.size) store_bad_row(&e->s, h->number, "its key is empty");
        good = !e->why[0];
        if (good) {
            h->key = cmd_copy(key);
            h->title = cmd_copy(title);
            h->text = cmd_copy(text);
            h->text_size = text.size;
            h->metadata = cmd_copy(metadata);
        }
    }
    store_check(&e->s, sqlite3_reset(q));
    if (good) h->path_size = search_path_size(e, kalm__text(h->key));
    return good;
}

/* Of each document the best passage stays, the best documents first, `most` of them with their texts. */
KALM__FN void search_gather(search_engine *e, search_hit *hit, size_t count, size_t most)
{
    size_t i, k;
    qsort(hit, count, sizeof *hit, search_best_first);
    e->hit = (search_hit *)cmd_alloc(count * sizeof *hit);
    e->hits = 0;
    for (i = 0; i < count; i++) {
        search_hit h = hit[i];
        if (!search_read_hit(e, &h)) {
            e->damaged++;
            continue;
        }
        for (k = 0; k < e->hits && strcmp(e->hit[k].key, h.key) != 0; k++) {}
        if (k == e->hits && e->hits < most) {
            e->hit[e->hits++] = h;
            continue;
        }
        free(h.key), free(h.title), free(h.text), free(h.metadata);
    }
}

/* ---- a question ---------------------------------------------------------------------------------------------------------- */

/* The answer is in e->hit. One state of the database, whatever another command writes meanwhile. */
KALM__FN kalm_result search_ask(search_engine *e, kalm_text question, size_t most, kalm_error *err)
{
    search_hit *hit = (search_hit *)cmd_alloc(e->candidates_most * sizeof *hit);
    kalm_doc **doc = (kalm_doc **)cmd_alloc(e->candidates_most * sizeof(kalm_doc *));
    kalm_score *score = (kalm_score *)cmd_alloc(e->candidates_most * sizeof *score);
    kalm_result r = KALM_OK;
    double at = kalm__now();
    size_t i, n;
    search_free_hits(e);
    e->damaged = 0;
    kalm__no_error(err);
    store_exec(&e->s, "BEGIN");
    e->all = 0;
    if (store_step(&e->s, e->passages)) e->all = sqlite3_column_int64(e->passages, 0);
    store_check(&e->s, sqlite3_reset(e->passages));
    search_find_terms(e, question);
    n = search_candidates(e, hit, e->candidates_most);
    e->bm25_time = kalm__now() - at;
    at = kalm__now();
    n = search_open_documents(e, hit, n, doc);
    e->candidates = n;
    e->read_time = kalm__now() - at;
    at = kalm__now();
    if (n) r = kalm_rerank(e->ctx, question, (const kalm_doc *const *)doc, n, &e->params, score, err);
    e->rank_time = kalm__now() - at;
    at = kalm__now();
    for (i = 0; i < n; i++) {
        hit[i].score = score[i];
        kalm_doc_free(doc[i]);
    }
    if (n && !r) search_gather(e, hit, n, most);
    store_exec(&e->s, "COMMIT");
    e->read_time += kalm__now() - at;
    free(hit);
    free(doc);
    free(score);
    return r;
}

/* Was the question longer than what the model reads of one? */
KALM__FN int search_cut_question(const search_engine *e) { return e->hits && (e->hit[0].score.cut & KALM_CUT_QUERY); }

KALM__FN void search_engine_begin(search_engine *e, const options *o, size_t cache_bytes)
{
    kalm_config config = o->config;
    kalm_error err;
    char *path;
    memset(e, 0, sizeof *e);
    store_open(&e->s, o->database, STORE_READ | STORE_SEARCH);
    if (!e->s.searched) die("%s was made by kalm-index, which keeps no words to search by", e->s.path);
    search_bound_memory(&e->s, 0);
    search_demand_words(&e->s);
    store_exec(&e->s, "PRAGMA cache_size=-65536");
    path = search_model_path(&e->s, o->model);
    search_open_model(o, &e->s, path, &e->model, &e->info);
    free(path);
    config.max_doc_tokens = e->s.meta.max_doc_tokens;
    config.cache_bytes = cache_bytes;
    if (kalm_context_new(e->model, &config, &e->ctx, &err)) exit(cmd_failed(&err));
    e->s.why = e->why;                 /* one damaged row does not end a search */
    e->candidates_most = o->candidates;
    if (o->instruction) e->params.instruction = kalm__text(o->instruction);
    store_exec(&e->s, "CREATE VIRTUAL TABLE temp.search_terms USING fts5vocab(main, search_words, row)");
    e->count_term = store_prepare(&e->s, "SELECT doc FROM temp.search_terms WHERE term = ?1");
    /* the function of the rank is named here: a database may say another */
    e->match = store_prepare(&e->s, "SELECT rowid, rank FROM search_words WHERE search_words MATCH ?1 AND rank MATCH 'bm25()' ORDER BY rank LIMIT ?2");
    e->document = store_prepare(&e->s, "SELECT document FROM documents WHERE number = ?1");
    e->row = store_prepare(&e->s, "SELECT key, title, text, metadata, window, windows, start FROM documents WHERE number = ?1");
    e->file = store_prepare(&e->s, "SELECT 1 FROM search_files WHERE path = ?1");
    e->passages = store_prepare(&e->s, "SELECT count(*) FROM search_words_docsize");
}

KALM__FN void search_engine_end(search_engine *e)
{
    search_free_hits(e);
    sqlite3_finalize(e->count_term);
    sqlite3_finalize(e->match);
    sqlite3_finalize(e->document);
    sqlite3_finalize(e->row);
    sqlite3_finalize(e->file);
    sqlite3_finalize(e->passages);
    store_close(&e->s);
    kalm_context_free(e->ctx);
    kalm_model_close(e->model);
}

#endif
