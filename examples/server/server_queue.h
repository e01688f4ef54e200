/* server_queue.h - the scheduler: one thread computes, on all cores, for all requests. It works in slices of some documents
   that take a fraction of a second, and every request that waits gets its share of the next slice: so a short request is
   answered after a slice or two, whatever long one runs beside it. The texts of all requests in a slice are encoded in common
   batches, which is faster than one by one and changes no bit of a score (the library promises that); each request then is
   scored for itself, since its query is its own.

   Two contexts: `plain` for texts that come with a request, `warm` for kept documents, with a cache of decoder states. */
#ifndef KALM_SERVER_QUEUE_H
#define KALM_SERVER_QUEUE_H

#include "server_forms.h"
#include "server_kept.h"
#include "server_metrics.h"

enum { SLICE_SHARES = 64, SLICE_DOCUMENTS = 128, QUEUE_ASKED = 1 << 16 };

/* Seconds that a slice shall take: where others wait, and where nobody does, but may come. Shorter ones cost more: with a
   model of Nano's shape on two cores a slice of two texts of 256 tokens takes 7% longer for each than one of many. */
#define SLICE_SHARED 0.2
#define SLICE_ALONE  0.6

typedef struct slice_share {
    job   *j;
    size_t first, count;               /* documents of the job, or for a new kept document: itself */
    size_t pieces;                     /* JOB_ADD: where its pieces of this slice begin */
    int    encoded;
} slice_share;

typedef struct server_queue {
    const server_options *o;
    const kalm_model *model;
    kalm_context     *plain, *warm;    /* warm: NULL without a store */
    kept_store       *kept;            /* NULL: no store */
    server_metrics   *metrics;
    void            (*finished)(job *j);       /* on the queue's thread: the job has its status; called once for each */
    pthread_t         thread;
    pthread_mutex_t   lock;            /* of what follows, and of job.gone */
    pthread_cond_t    some;
    job              *ring;            /* whose turn is next; NULL: nobody's */
    size_t            waiting;         /* jobs that are accepted and not finished, those in the store's hands as well */
    int               ending;
    kalm_cache_info   cache;           /* as of the last slice */
    /* the thread's own */
    slice_share       share[SLICE_SHARES];
    size_t            shares;
    kalm_text         text[SLICE_DOCUMENTS * 2];
    kalm_doc         *made[SLICE_DOCUMENTS];           /* of share documents, in their order */
    job              *alone;           /* the only job of the slice: it may be stopped within */
    double            looked;          /* when queue__progress last looked for jobs whose time is over */
    double            per_unit, per_kept;              /* seconds for a unit of cost of texts; for a kept document */
    uint8_t           asked[QUEUE_ASKED];              /* how often kept documents were asked for, by hash */
    uint32_t          asks;
    double            warmth;          /* mean of `asked` among documents that are served warm */
} server_queue;

/* ---- the ring ---------------------------------------------------------------------------------------------------- */

/* Behind all others: before the one whose turn is next. */
KALM__FN void queue__link(server_queue *q, job *j)
{
    if (!q->ring) {
        q->ring = j->before = j->after = j;
        return;
    }
    j->after = q->ring;
    j->before = q->ring->before;
    j->before->after = j;
    q->ring->before = j;
}

KALM__FN void queue__unlink(server_queue *q, job *j)
{
    if (j->after == j) q->ring = NULL;
    else {
        j->before->after = j->after;
        j->after->before = j->before;
        if (q->ring == j) q->ring = j->after;
    }
    j->before = j->after = NULL;
}

/* Take a job to be computed, or for the store alone. 0: the queue is full, or the server is ending; *retry is then when to ask
   again, in seconds. */
KALM__FN int queue_add(server_queue *q, job *j, double *retry)
{
    int taken, direct = j->kind != JOB_RERANK && j->kind != JOB_ADD;
    pthread_mutex_lock(&q->lock);
    taken = q->waiting < q->o->queue && !q->ending;
    if (taken) {
        q->waiting++;
        if (direct) j->before = j->after = NULL;
        else queue__link(q, j);
        pthread_cond_signal(&q->some);
    } else {
        double seconds = (double)q->waiting * SLICE_SHARED / 8;
        *retry = seconds < 1 ? 1 : seconds > 60 ? 60 : seconds;
    }
    pthread_mutex_unlock(&q->lock);
    if (taken && direct) kept_add_job(q->kept, j);
    return taken;
}

/* The job is nobody's any more: it gets its answer. */
KALM__FN void queue_finish(server_queue *q, job *j)
{
    pthread_mutex_lock(&q->lock);
    q->waiting--;
    pthread_mutex_unlock(&q->lock);
    q->finished(j);
}

/* ---- what a slice holds ------------------------------------------------------------------------------------------ */

/* What a text costs, in units that are about a byte: what will be cut costs nothing. */
KALM__FN double queue__units(const server_queue *q, const job_document *d)
{
    size_t most = kalm__mul(q->o->config.max_doc_tokens ? q->o->config.max_doc_tokens : 1024, 6);
    return (double)(64 + kalm__min(d->text.size + d->title.size, most));
}

/* What a document costs, in seconds. */
KALM__FN double queue__cost(const server_queue *q, const job *j, size_t i)
{
    if (j->by_key) return q->per_kept;
    return q->per_unit * queue__units(q, &j->doc[i]);
}

/* The job's next documents, as many as fit into `seconds`, at least one. Returns what they cost. */
KALM__FN double queue__take(server_queue *q, job *j, double seconds, size_t *room)
{
    slice_share *s = q->shares && q->share[q->shares - 1].j == j ? &q->share[q->shares - 1] : NULL;
    double cost = 0, one;
    size_t begin = j->next;
    while (j->next < j->count && *room) {
        one = queue__cost(q, j, j->next);
        if (j->next > begin && cost + one > seconds) break;
        cost += one;
        j->next++;
        --*room;
    }
    if (j->next == begin) return 0;
    if (s && s->first + s->count == begin) s->count += j->next - begin;
    else {
        s = &q->share[q->shares++];
        memset(s, 0, sizeof *s);
        s->j = j;
        s->first = begin;
        s->count = j->next - begin;
    }
    return cost;
}

/* Has the job's time come to end? The lock is held. */
KALM__FN int queue__over(const job *j, double now)
{
    return j->status || j->gone || (j->has_deadline && now >= j->deadline) || now >= j->limit;
}

/* Everybody's share of a slice, from the one whose turn it is on; what the short ones leave goes to the long. The lock is
   held. */
KALM__FN void queue__gather(server_queue *q, double now)
{
    double length = q->ring->after == q->ring ? SLICE_ALONE : SLICE_SHARED, used = 0;
    size_t room = SLICE_DOCUMENTS, active = 0, i;
    job *j = q->ring;
    q->shares = 0;
    do {
        active++;
        /* a slice that a deadline cuts is lost, so there are several before it */
        if (j->has_deadline && (j->deadline - now) / 4 < length) length = j->deadline > now ? (j->deadline - now) / 4 : 0;
        j = j->after;
    } while (j != q->ring);
    for (i = 0; i < active && q->shares < SLICE_SHARES && room && (used < length || !i); i++) {
        j = q->ring;
        used += queue__take(q, j, length / (double)active, &room);
        q->ring = j->after;
    }
    for (j = q->ring, i = 0; i < active && used < length && room && q->shares < SLICE_SHARES; i++, j = j->after)
        if (j->next < j->count && queue__cost(q, j, j->next) <= length - used) used += queue__take(q, j, length - used, &room);
    q->alone = q->shares ? q->share[0].j : NULL;
    for (i = 0; i < q->shares; i++) {
        q->share[i].j->taken = 1;
        if (q->share[i].j != q->alone) q->alone = NULL;
    }
}

/* ---- computing --------------------------------------------------------------------------------------------------- */

/* Jobs whose time is over, or that are done, leave the ring, but for those that have documents in the slice at work. Returns
   how many, at most SLICE_SHARES. The lock is held. */
KALM__FN size_t queue__out(server_queue *q, double now, job **out)
{
    job *j = q->ring, *after;
    size_t outs = 0, i;
    int more = j != NULL;
    for (; more && outs < SLICE_SHARES; j = after) {
        after = j->after;
        more = after != q->ring;
        if (!j->taken && (queue__over(j, now) || j->next == j->count)) out[outs++] = j;
    }
    for (i = 0; i < outs; i++) queue__unlink(q, out[i]);
    return outs;
}

KALM__FN void queue__leave(server_queue *q, job *j);

/* The library asks after every layer: shall the call go on? Where the slice is of one job, it ends with that. Other jobs whose
   deadline comes while a slice is at work are answered from here. */
KALM__FN int queue__progress(void *user, size_t done, size_t total)
{
    server_queue *q = (server_queue *)user;
    job *out[SLICE_SHARES];
    double now = kalm__now();
    size_t outs = 0, i;
    int stop;
    (void)done, (void)total;
    pthread_mutex_lock(&q->lock);
    stop = q->alone && queue__over(q->alone, now);
    if (now - q->looked > 0.005) {
        outs = queue__out(q, now, out);
        q->looked = now;
    }
    pthread_mutex_unlock(&q->lock);
    for (i = 0; i < outs; i++) queue__leave(q, out[i]);
    return stop;
}

typedef struct queue_scores {
    job     *j;
    size_t   first;                    /* scores with index 0 are this document's */
    size_t  *place;                    /* NULL, or which document each is of */
    int64_t *window;
} queue_scores;

KALM__FN int queue__on_score(void *user, const kalm_score *s)
{
    queue_scores *to = (queue_scores *)user;
    size_t i = to->place ? to->place[s->index] : to->first + s->index;
    job_document *d = &to->j->doc[i];
    if (to->window && d->done && d->margin >= s->margin) return 0;     /* the best window counts */
    d->margin = s->margin;
    d->score = s->score;
    d->cut |= s->cut;
    if (to->window) d->window = to->window[s->index];
    d->done = 1;
    return 0;
}

KALM__FN void queue__params(const server_queue *q, const job *j, kalm_params *p)
{
    memset(p, 0, sizeof *p);
    p->instruction = j->instruction.data ? j->instruction : kalm__text(q->o->instruction);
    p->system = j->system.data ? j->system : kalm__text(q->o->system);
    if (!p->instruction.data) p->instruction.size = 0;
    if (!p->system.data) p->system.size = 0;
    p->progress = queue__progress;
    p->progress_user = (void *)(uintptr_t)q;
    p->on_score = queue__on_score;
}

/* A call of the library failed. What a deadline or a client that left has stopped is no failure. */
KALM__FN void queue__failed(const job *one, job *j, const kalm_error *err)
{
    if (err->code == KALM_CANCELLED && one) return;
    if (err->code == KALM_BAD_ARGUMENT) job_fail(j, j->form ? j->form->invalid : 400, "%s", err->text);
    else job_fail(j, err->code == KALM_NO_MEMORY ? 503 : err->code == KALM_INCOMPLETE ? 501 : 500, "%s", err->text);
}

/* Tokens of a text; 0 where the job has failed. */
KALM__FN size_t queue__tokens(const server_queue *q, job *j, kalm_text t)
{
    size_t n = 0;
    kalm_error err;
    if (!kalm_tokenize(q->model, t, 0, NULL, 0, &n, &err)) return n;
    queue__failed(NULL, j, &err);
    return 0;
}

/* The beginning of the text that has `most` tokens (max_tokens_per_doc), where it has more. */
KALM__FN int queue__shorten(const server_queue *q, job *j, job_document *d, uint32_t most)
{
    int32_t *ids;
    char *text = NULL;
    size_t n = 0, size = 0;
    kalm_error err;
    kalm_text shorter = { NULL, 0 };
    if (d->text.size <= most) return 1;                    /* a token is a byte or more */
    ids = (int32_t *)malloc(most * sizeof *ids);
    if (ids && !kalm_tokenize(q->model, d->text, 0, ids, most, &n, &err)) {
        if (n <= most) {
            free(ids);
            return 1;
        }
        if (!kalm_detokenize(q->model, ids, most, NULL, 0, &size, &err)) text = (char *)malloc(size + 1);
        if (text && !kalm_detokenize(q->model, ids, most, text, size, &size, &err)) shorter = job_keep(j, text, size);
    }
    free(ids);
    free(text);
    if (!shorter.data) return job_fail(j, 503, "there is no memory to shorten a document");
    d->text = shorter;
    d->cut |= KALM_CUT_DOCUMENT;
    return 1;
}

/* Before a job's first document: its queries' tokens, and whether it has too many in all. Bytes bound tokens, so that few texts
   are counted. */
KALM__FN void queue__prepare(const server_queue *q, job *j)
{
    size_t i, bytes = 0, tokens = 0;
    uint32_t most = q->o->config.max_doc_tokens ? q->o->config.max_doc_tokens : 1024;
    j->prepared = 1;
    j->waited = kalm__now() - j->arrived;
    for (i = 0; i < j->queries; i++) j->tokens += queue__tokens(q, j, j->query[i]);
    for (i = 0; i < j->count; i++) bytes += j->doc[i].text.size;
    if (bytes > q->o->tokens)
        for (i = 0; i < j->count && tokens <= q->o->tokens; i++) tokens += kalm__min(queue__tokens(q, j, j->doc[i].text), most);
    if (tokens + j->tokens > q->o->tokens)
        job_fail(j, j->form ? j->form->too_many : 400, "the texts have more than %lu tokens, which this server takes at a time",
                 (unsigned long)q->o->tokens);
    if (j->max_tokens && !j->by_key)
        for (i = 0; i < j->count && !j->status; i++) queue__shorten(q, j, &j->doc[i], j->max_tokens);
}

/* Shares whose texts may be encoded in one call. */
KALM__FN int queue__alike(const server_queue *q, const slice_share *a, const slice_share *b)
{
    uint32_t ratio = q->o->ratio ? q->o->ratio : 4;
    if (a->j->kind != b->j->kind) return 0;
    return a->j->kind == JOB_ADD || (a->j->ratio ? a->j->ratio : ratio) == (b->j->ratio ? b->j->ratio : ratio);
}

/* Encode the texts of shares [count] of rankings into docs, in their order. */
KALM__FN kalm_result queue__encode(server_queue *q, slice_share *const *shares, size_t count, kalm_doc **docs, kalm_error *err)
{
    kalm_params p;
    size_t n = 0, i, k;
    job *j = shares[0]->j;
    for (i = 0; i < count; i++)
        for (k = 0; k < shares[i]->count; k++) q->text[n++] = shares[i]->j->doc[shares[i]->first + k].text;
    memset(&p, 0, sizeof p);
    p.ratio = j->ratio ? j->ratio : q->o->ratio;
    p.bits = 32;                       /* nothing is kept, so nothing need be rounded; as kalm_rerank_texts has it */
    p.progress = queue__progress;
    p.progress_user = q;
    metrics_add(q->metrics, &q->metrics->batches, 1);
    if (count > 1) metrics_add(q->metrics, &q->metrics->shared, 1);
    return kalm_encode(q->plain, q->text, n, &p, docs, err);
}

/* Tokens of a document that was encoded for a ranking; a text that had to be whole and is not ends its job. */
KALM__FN void queue__count(job *j, size_t at, const kalm_doc *doc)
{
    kalm_doc_info info;
    kalm_doc_get_info(doc, &info);
    j->doc[at].tokens = info.tokens_used;
    j->tokens += info.tokens_used;
    if (info.tokens > info.tokens_used) j->doc[at].cut |= KALM_CUT_DOCUMENT;
    if (j->whole && j->doc[at].cut & KALM_CUT_DOCUMENT)
        job_fail(j, j->form->too_many, "%s[%lu] has %lu tokens, this server reads %lu: allow it to be truncated", j->form->texts,
                 (unsigned long)at, (unsigned long)info.tokens, (unsigned long)info.tokens_used);
}

/* Score the documents of a share, which are encoded. */
KALM__FN void queue__score(server_queue *q, slice_share *s, kalm_doc *const *docs)
{
    kalm_params p;
    kalm_error err;
    kalm_score scores[SLICE_DOCUMENTS];
    queue_scores to;
    job *j = s->j;
    size_t i, step = j->queries > 1 ? 1 : s->count;
    queue__params(q, j, &p);
    memset(&to, 0, sizeof to);
    to.j = j;
    p.on_score_user = &to;
    for (i = 0; i < s->count; i++) queue__count(j, s->first + i, docs[i]);
    for (i = 0; i < s->count && !j->status; i += step) {
        to.first = s->first + i;
        if (kalm_rerank(q->plain, j->query[j->queries > 1 ? to.first : 0], (const kalm_doc *const *)docs + i, step, &p, scores, &err))
            queue__failed(q->alone, j, &err);
    }
    for (i = 0; i < s->count && j->whole; i++)
        if (j->doc[s->first + i].cut & KALM_CUT_QUERY)
            job_fail(j, j->form->too_many, "the query is longer than %lu tokens: allow it to be truncated",
                     (unsigned long)(q->o->config.max_query_tokens ? q->o->config.max_query_tokens : 512));
}

/* Rankings of texts: all shares that are alike at once. If that fails and there are several, each for itself, so that one bad
   document fails its own job alone. */
KALM__FN void queue__run_texts(server_queue *q, slice_share *first)
{
    slice_share *alike[SLICE_SHARES], *end = q->share + q->shares, *s;
    kalm_error err;
    size_t count = 1, i, k, n = 0;
    alike[0] = first;
    first->encoded = 1;
    for (s = first + 1; s < end; s++) {
        if (s->encoded || s->j->status || s->j->by_key || !queue__alike(q, first, s)) continue;
        s->encoded = 1;
        alike[count++] = s;
    }
    if (queue__encode(q, alike, count, q->made, &err)) {
        for (i = 0; i < count; i++) {
            if (count == 1) queue__failed(q->alone, alike[i]->j, &err);
            else if (queue__encode(q, &alike[i], 1, q->made, &err)) queue__failed(NULL, alike[i]->j, &err);
            else {
                queue__score(q, alike[i], q->made);
                for (k = 0; k < alike[i]->count; k++) kalm_doc_free(q->made[k]);
            }
        }
        return;
    }
    for (i = 0; i < count; i++) {
        queue__score(q, alike[i], q->made + n);
        n += alike[i]->count;
    }
    for (i = 0; i < n; i++) kalm_doc_free(q->made[i]);
}

/* ---- kept documents ---------------------------------------------------------------------------------------------- */

/* Shall this document's state be kept warm? While there is room: yes. In a full cache, where each one that comes in drives
   another out: if it was asked for at least half as often as those that are there. So one request for a thousand rare
   documents does not drive out the ten that everybody asks for. */
KALM__FN int queue__warms(server_queue *q, int64_t number)
{
    unsigned char bytes[8];
    uint8_t *n;
    size_t i, state = q->cache.documents ? q->cache.bytes / q->cache.documents : 0;
    kalm__put_u64(bytes, (uint64_t)number);
    n = &q->asked[kalm__hash(bytes, 8) % QUEUE_ASKED];
    if (*n < 255) ++*n;
    if (++q->asks == 8 * QUEUE_ASKED) {                    /* what was asked for long ago counts less and less */
        for (i = 0; i < QUEUE_ASKED; i++) q->asked[i] /= 2;
        q->warmth /= 2;
        q->asks = 0;
    }
    if (!q->cache.limit) return 0;
    if (q->cache.bytes + 2 * state > q->cache.limit && (*n < 2 || *n < q->warmth / 2)) return 0;
    q->warmth += (*n - q->warmth) / 256;
    return 1;
}

/* Score rows [count] of kept documents in one of the contexts. */
KALM__FN void queue__score_rows(server_queue *q, job *j, kept_rows *rows, int warm)
{
    kalm_params p;
    kalm_error err;
    kalm_score *scores;
    const kalm_doc **docs;
    queue_scores to;
    size_t i, n = 0;
    if (!rows->count || j->status) return;
    scores = (kalm_score *)malloc(rows->count * (sizeof *scores + sizeof(kalm_doc *) + sizeof *to.place + sizeof *to.window));
    if (!scores) {
        job_fail(j, 503, "there is no memory for the scores of %lu documents", (unsigned long)rows->count);
        return;
    }
    memset(&to, 0, sizeof to);
    to.j = j;
    to.window = (int64_t *)(void *)(scores + rows->count);
    docs = (const kalm_doc **)(void *)(to.window + rows->count);
    to.place = (size_t *)(void *)(docs + rows->count);
    for (i = 0; i < rows->count; i++) {
        if (rows->row[i].warm != warm) continue;
        docs[n] = rows->row[i].doc;
        to.place[n] = rows->row[i].of;
        to.window[n++] = rows->row[i].window;
    }
    queue__params(q, j, &p);
    p.on_score_user = &to;
    if (n && kalm_rerank(warm ? q->warm : q->plain, j->query[0], docs, n, &p, scores, &err)) queue__failed(q->alone, j, &err);
    free(scores);
}

KALM__FN void queue__run_kept(server_queue *q, slice_share *s)
{
    kalm_cache_info before, after;
    kept_rows rows;
    size_t i, cold = 0;
    job *j = s->j;
    memset(&rows, 0, sizeof rows);
    for (i = 0; i < s->count && !j->status; i++) kept_open(q->kept, j, s->first + i, &rows);
    for (i = 0; i < rows.count; i++) {
        kalm_doc_info info;
        kalm_doc_get_info(rows.row[i].doc, &info);
        j->tokens += info.tokens_used;
        j->doc[rows.row[i].of].tokens += info.tokens_used;
        if (info.tokens > info.tokens_used) j->doc[rows.row[i].of].cut |= KALM_CUT_DOCUMENT;
        rows.row[i].warm = queue__warms(q, rows.row[i].number);
        cold += !rows.row[i].warm;
    }
    kalm_context_get_cache(q->warm, &before);
    queue__score_rows(q, j, &rows, 1);
    queue__score_rows(q, j, &rows, 0);
    kalm_context_get_cache(q->warm, &after);
    kept_close(&rows);
    j->hits += after.hits - before.hits;
    metrics_add(q->metrics, &q->metrics->warm_hits, after.hits - before.hits);
    metrics_add(q->metrics, &q->metrics->warm_misses, after.misses - before.misses + cold);
    pthread_mutex_lock(&q->lock);
    q->cache = after;
    pthread_mutex_unlock(&q->lock);
}

/* Encode new documents to keep, those that the store does not have as they are. */
KALM__FN void queue__run_added(server_queue *q, slice_share *s)
{
    kalm_params p;
    kalm_error err;
    kalm_doc *made[SLICE_DOCUMENTS];
    job *j = s->j;
    size_t i, k, first = j->pieces, n;
    for (i = 0; i < s->count && !j->status; i++)
        if (kept_known(q->kept, j, s->first + i)) kept_split(q->kept, j, s->first + i);
    memset(&p, 0, sizeof p);
    p.ratio = q->kept->reader.meta.ratio;
    p.bits = q->kept->reader.meta.bits;
    p.progress = queue__progress;
    p.progress_user = q;
    for (i = first; i < j->pieces && !j->status; i += n) {
        n = kalm__min(j->pieces - i, SLICE_DOCUMENTS);
        for (k = 0; k < n; k++) q->text[k] = j->piece[i + k].encoded;
        metrics_add(q->metrics, &q->metrics->batches, 1);
        if (kalm_encode(q->warm, q->text, n, &p, made, &err)) {
            queue__failed(q->alone, j, &err);
            break;
        }
        for (k = 0; k < n; k++) kept_encoded(j, i + k, made[k]);
    }
}

/* ---- the thread -------------------------------------------------------------------------------------------------- */

KALM__FN void queue__run(server_queue *q)
{
    slice_share *s, *end = q->share + q->shares;
    double begun = kalm__now(), seconds, units = 0;
    size_t texts = 0, keys = 0, n = 0, i;
    for (s = q->share; s < end; s++) {
        if (!s->j->prepared) queue__prepare(q, s->j);
        for (i = 0; i < s->count && !s->j->by_key; i++) units += queue__units(q, &s->j->doc[s->first + i]);
        if (s->j->by_key) keys += s->count;
        else texts += s->count;
        n += s->count;
    }
    for (s = q->share; s < end; s++) {
        if (s->encoded || s->j->status) continue;
        if (s->j->kind == JOB_ADD) queue__run_added(q, s);
        else if (s->j->by_key) queue__run_kept(q, s);
        else queue__run_texts(q, s);
    }
    seconds = kalm__now() - begun;
    for (s = q->share; s < end; s++) s->j->computed += seconds * (double)s->count / (double)n;
    /* what the next slices will take, slowly forgetting: a slice of both kinds teaches nothing */
    if (texts && !keys) q->per_unit += (seconds / units - q->per_unit) / 4;
    if (keys && !texts) q->per_kept += (seconds / (double)keys - q->per_kept) / 4;
    metrics_add(q->metrics, &q->metrics->slices, 1);
    metrics_add(q->metrics, &q->metrics->documents, n);
}

/* Is something of the job not done? */
KALM__FN int queue__undone(const job *j)
{
    size_t i;
    for (i = 0; i < j->count; i++)
        if (!j->doc[i].done) return 1;
    return 0;
}

/* The job is out of the ring: on to the store with new documents, or to its answer. */
KALM__FN void queue__leave(server_queue *q, job *j)
{
    int late = j->has_deadline && kalm__now() >= j->deadline, gone;
    pthread_mutex_lock(&q->lock);
    gone = j->gone;
    pthread_mutex_unlock(&q->lock);
    if (!gone && !j->status && late && queue__undone(j)) metrics_add(q->metrics, &q->metrics->late, 1);
    else if (!gone && !j->status && queue__undone(j))
        job_fail(j, 504, "not done within %lu seconds: send fewer documents, or say deadline_ms to get what is done by then",
                 (unsigned long)q->o->timeout);
    if (gone) job_fail(j, 499, "the client hung up");
    if (!j->status && j->kind == JOB_ADD) {
        kept_add_job(q->kept, j);
        return;
    }
    if (!j->status && j->by_key && j->echo) kept_texts(q->kept, j);
    if (!j->status) j->status = 200;
    metrics_add(q->metrics, &q->metrics->tokens, j->tokens);
    queue_finish(q, j);
}

KALM__FN void *queue__thread(void *arg)
{
    server_queue *q = (server_queue *)arg;
    job *out[SLICE_SHARES];
    size_t outs, i;
    double now;
    pthread_mutex_lock(&q->lock);
    for (;;) {
        while (!q->ring && !q->ending) pthread_cond_wait(&q->some, &q->lock);
        if (!q->ring) break;
        now = kalm__now();
        outs = queue__out(q, now, out);
        q->shares = 0;
        if (!outs && q->ring) queue__gather(q, now);
        pthread_mutex_unlock(&q->lock);
        for (i = 0; i < outs; i++) queue__leave(q, out[i]);
        if (q->shares) queue__run(q);
        pthread_mutex_lock(&q->lock);
        for (i = 0; i < q->shares; i++) q->share[i].j->taken = 0;
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

/* How fast this model is on this machine, and its weights read in: two rankings of a short text, the second one timed. */
KALM__FN void queue__try(server_queue *q)
{
    static const char words[] = "A short text of a few plain words stands for those that will come: it tells how long they take.";
    kalm_text text = kalm__text(words);
    kalm_model_info info;
    kalm_score score;
    kalm_error err;
    double begun = 0;
    int i;
    kalm_model_get_info(q->model, &info);
    q->per_kept = 0.01;
    if (!info.has_encoder) return;     /* kept documents alone; the first of them will tell */
    for (i = 0; i < 2; i++) {
        begun = kalm__now();
        if (kalm_rerank_texts(q->plain, text, &text, 1, NULL, &score, &err)) die("%s: %s", q->o->model, err.text);
    }
    q->per_unit = (kalm__now() - begun) / (64 + sizeof words);
    q->per_kept = (kalm__now() - begun) / 2;
}

KALM__FN void queue_begin(server_queue *q)
{
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->some, NULL);
    queue__try(q);
    if (q->warm) kalm_context_get_cache(q->warm, &q->cache);
    if (pthread_create(&q->thread, NULL, queue__thread, q)) die("the system gives no thread to compute on");
}

/* No new jobs; those that are there are finished. */
KALM__FN void queue_end(server_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->ending = 1;
    pthread_cond_signal(&q->some);
    pthread_mutex_unlock(&q->lock);
    pthread_join(q->thread, NULL);     /* the lock stays: jobs in the store's hands are counted until it ends as well */
}

#endif
