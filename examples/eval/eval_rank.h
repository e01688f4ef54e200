/* eval_rank.h - one model over one test collection: every candidate is encoded once and pooled from that to each ratio and row
   type, and every query scores its candidates at each of them. Documents are encoded in groups that fit into a given memory; a
   group's documents meet all their queries before the next group begins, so neither many documents nor many ratios need more.
   With a journal every result is on disk when its call is done. */
#ifndef EVAL_RANK_H
#define EVAL_RANK_H

#include "eval_journal.h"

enum { EV_KINDS_MOST = 64, EV_CHUNK = 64 };

typedef struct ev_kind_of_rows { uint32_t ratio, bits; } ev_kind_of_rows;

typedef struct ev_job {
    const char     *path;              /* of the model */
    kalm_config     config;
    kalm_params     params;            /* system and instruction */
    ev_kind_of_rows kind[EV_KINDS_MOST];
    size_t          kinds;
    uint32_t        base;              /* the ratio at which documents are encoded; divides all others */
    int             direct;            /* there is one ratio and row type: documents are encoded at it and not pooled again */
    size_t          memory;            /* bytes of encoded documents held at a time */
    ev_journal     *journal;           /* NULL: none */
} ev_job;

typedef struct ev_ranked {
    char      name[64], weights[16], kernels[32];
    uint32_t  width;
    uint64_t  fingerprint;
    float    *margin[EV_KINDS_MOST];   /* [run.count], in the order of the run; NaN: not ranked, its text is missing */
    double    rank_seconds[EV_KINDS_MOST], encode_seconds;
    double    bytes[EV_KINDS_MOST];    /* of all documents */
    uint32_t *tokens_of;               /* [docs.count] that were read of each document; 0: it was not encoded */
    size_t    documents, tokens;
    uint64_t  encoded_now, ranked_now, ranked_before;      /* documents and pairs: in this process, and found in the journal */
} ev_ranked;

typedef struct ev__work {              /* while a job runs */
    const ev_data *d;
    ev_job        *job;
    ev_ranked     *out;
    kalm_model    *model;
    kalm_context  *ctx;
    uint32_t      *todo;               /* [todos] documents to be encoded, in the order in which queries want them */
    size_t         todos, at;
    size_t        *first, *entry;      /* [docs + 1], [run.count]: which places of the run have each document */
    ev_sum        *text_sum;           /* [docs] */
    uint64_t      *old_hash;           /* [docs] what old lines of the journal have instead; NULL: there was none yet */
    uint32_t      *slot;               /* [docs] place in the group */
    ev_kept       *kept;               /* [docs] from the spool */
    kalm_doc     **fine, **pooled;     /* [group] */
    uint32_t      *group;              /* [group_count] documents */
    size_t         group_count, group_room;
    cmd_progress   progress;
    uint64_t       pairs, pairs_done;
} ev__work;

EV__FN void ev_check(kalm_result r, const kalm_error *err)
{
    if (r) exit(cmd_failed(err));
}

/* ---- what the journal knows ----------------------------------------------------------------------------------- */

enum { EV__TEXT_DIGITS = 2 * KALM__SHA256_BYTES, EV__OLD_DIGITS = 16 };

/* What "text" of a line is: of the query, EV_NONE: none, and of n documents. */
EV__FN void ev__texts_sum(const ev__work *w, uint32_t query, const uint32_t *doc, size_t n, char digits[EV__TEXT_DIGITS + 1])
{
    kalm__sha256 h;
    ev_sum sum;
    size_t i;
    kalm_text q = { NULL, 0 };
    if (query != EV_NONE) q = w->d->query_text[query];
    kalm__sha256_of(q.data, q.size, sum);
    kalm__sha256_begin(&h);
    kalm__sha256_add(&h, sum, sizeof sum);
    for (i = 0; i < n; i++) kalm__sha256_add(&h, w->text_sum[doc[i]], sizeof sum);
    kalm__sha256_end(&h, sum);
    for (i = 0; i < sizeof sum; i++) sprintf(digits + 2 * i, "%02x", sum[i]);
}

/* What it was before: made of ev_plain_hash. */
EV__FN void ev__texts_hash(ev__work *w, uint32_t query, const uint32_t *doc, size_t n, char digits[EV__OLD_DIGITS + 1])
{
    uint64_t *all = (uint64_t *)cmd_alloc((n + 1) * sizeof *all);
    size_t i;
    kalm_text q = { NULL, 0 };
    if (!w->old_hash) {
        w->old_hash = (uint64_t *)cmd_alloc(w->d->docs.count * sizeof *w->old_hash);
        for (i = 0; i < w->d->docs.count; i++)
            w->old_hash[i] = w->d->doc_text[i].data ? ev_plain_hash(w->d->doc_text[i].data, w->d->doc_text[i].size) : 0;
    }
    if (query != EV_NONE) q = w->d->query_text[query];
    all[0] = ev_plain_hash(q.data, q.size);
    for (i = 0; i < n; i++) all[i + 1] = w->old_hash[doc[i]];
    sprintf(digits, "%016llx", (unsigned long long)ev_plain_hash(all, (n + 1) * sizeof *all));
    free(all);
}

EV__FN int ev__is(const kalm__json *j, uint32_t node, const char *word)
{
    return node && kalm__same_text(kalm__json_text(j, node), kalm__text(word));
}

/* The documents of a line; NULL: one is unknown, or the texts have changed. *n: how many. To be freed. */
EV__FN uint32_t *ev__line_docs(ev__work *w, const kalm__json *j, uint32_t query, size_t *n)
{
    uint32_t list = kalm__json_get(j, 0, "docs"), text = kalm__json_get(j, 0, "text"), node, *doc;
    char digits[EV__TEXT_DIGITS + 1];
    *n = 0;
    if (!list || kalm__json_type(j, list) != KALM__JSON_ARRAY) return NULL;
    doc = (uint32_t *)cmd_alloc(j->nodes[list].size * sizeof *doc);
    for (node = list + 1; node < j->nodes[list].next; node = j->nodes[node].next) {
        doc[*n] = ev_find(&w->d->docs, kalm__json_text(j, node));
        if (doc[(*n)++] == EV_NONE) break;
    }
    if (*n && doc[*n - 1] != EV_NONE) {
        if (text && kalm__json_text(j, text).size == EV__OLD_DIGITS) ev__texts_hash(w, query, doc, *n, digits);
        else ev__texts_sum(w, query, doc, *n, digits);
        if (ev__is(j, text, digits)) return doc;
    }
    free(doc);
    return NULL;
}

EV__FN size_t ev__entry_of(const ev__work *w, uint32_t query, uint32_t doc)
{
    size_t i;
    for (i = w->first[doc]; i < w->first[doc + 1]; i++)
        if (w->d->run.at[w->entry[i]].query == query) return w->entry[i];
    return SIZE_MAX;
}

EV__FN void ev__known_ranks(ev__work *w, const kalm__json *j)
{
    uint32_t query = ev_find(&w->d->queries, kalm__json_text(j, kalm__json_get(j, 0, "query")));
    uint32_t list = kalm__json_get(j, 0, "margins"), node, *doc;
    uint64_t ratio = 0, bits = 0;
    size_t n, i, k, taken = 0;
    double seconds = 0, margin;
    if (query == EV_NONE || !list || !kalm__json_uint(j, kalm__json_get(j, 0, "ratio"), &ratio)
        || !kalm__json_uint(j, kalm__json_get(j, 0, "bits"), &bits)) return;
    for (k = 0; k < w->job->kinds; k++)
        if (w->job->kind[k].ratio == ratio && w->job->kind[k].bits == bits) break;
    if (k == w->job->kinds) return;
    doc = ev__line_docs(w, j, query, &n);
    if (!doc) return;
    for (i = 0, node = list + 1; i < n && node < j->nodes[list].next; i++, node = j->nodes[node].next) {
        size_t e = ev__entry_of(w, query, doc[i]);
        if (e == SIZE_MAX || !kalm__json_double(j, node, &margin) || w->out->margin[k][e] == w->out->margin[k][e]) continue;
        w->out->margin[k][e] = (float)margin;
        taken++;
    }
    w->out->ranked_before += taken;
    if (taken && kalm__json_double(j, kalm__json_get(j, 0, "seconds"), &seconds)) w->out->rank_seconds[k] += seconds;
    free(doc);
}

EV__FN void ev__known_tokens(ev__work *w, const kalm__json *j)
{
    uint32_t list = kalm__json_get(j, 0, "tokens"), node, *doc;
    size_t n, i, fresh = 0;
    double seconds = 0;
    uint64_t tokens;
    if (!list || !(doc = ev__line_docs(w, j, EV_NONE, &n))) return;
    for (i = 0, node = list + 1; i < n && node < j->nodes[list].next; i++, node = j->nodes[node].next) {
        if (!kalm__json_uint(j, node, &tokens) || tokens > UINT32_MAX) continue;
        fresh += !w->out->tokens_of[doc[i]];
        w->out->tokens_of[doc[i]] = (uint32_t)tokens;
    }
    if (fresh && kalm__json_double(j, kalm__json_get(j, 0, "seconds"), &seconds)) w->out->encode_seconds += seconds;
    free(doc);
}

EV__FN void ev__known_line(void *user, const kalm__json *j)
{
    uint32_t type = kalm__json_get(j, 0, "t");
    if (ev__is(j, type, "ranked")) ev__known_ranks((ev__work *)user, j);
    if (ev__is(j, type, "encoded")) ev__known_tokens((ev__work *)user, j);
}

EV__FN void ev__note_encoded(ev__work *w, const uint32_t *doc, size_t n, double seconds)
{
    ev_journal *o = w->job->journal;
    char digits[EV__TEXT_DIGITS + 1];
    size_t i;
    if (!o || !n) return;
    ev_printf(&o->line, "{\"t\": \"encoded\", \"seconds\": %.6f, \"docs\": [", seconds);
    for (i = 0; i < n; i++) {
        if (i) ev_put(&o->line, ", ", 2);
        ev_put_json(&o->line, w->d->docs.id[doc[i]]);
    }
    ev_printf(&o->line, "], \"tokens\": [");
    for (i = 0; i < n; i++) ev_printf(&o->line, i ? ", %lu" : "%lu", (unsigned long)w->out->tokens_of[doc[i]]);
    ev__texts_sum(w, EV_NONE, doc, n, digits);
    ev_printf(&o->line, "], \"text\": \"%s\"}", digits);
    ev_journal_write(o);
}

EV__FN void ev__note_ranked(ev__work *w, size_t k, uint32_t query, const size_t *entry, size_t n, double seconds)
{
    ev_journal *o = w->job->journal;
    char digits[EV__TEXT_DIGITS + 1];
    uint32_t *doc;
    size_t i;
    if (!o) return;
    doc = (uint32_t *)cmd_alloc(n * sizeof *doc);
    ev_printf(&o->line, "{\"t\": \"ranked\", \"query\": ");
    ev_put_json(&o->line, w->d->queries.id[query]);
    ev_printf(&o->line, ", \"ratio\": %lu, \"bits\": %lu, \"seconds\": %.6f, \"docs\": [", (unsigned long)w->job->kind[k].ratio,
              (unsigned long)w->job->kind[k].bits, seconds);
    for (i = 0; i < n; i++) {
        doc[i] = w->d->run.at[entry[i]].doc;
        if (i) ev_put(&o->line, ", ", 2);
        ev_put_json(&o->line, w->d->docs.id[doc[i]]);
    }
    ev_printf(&o->line, "], \"margins\": [");
    for (i = 0; i < n; i++) ev_printf(&o->line, i ? ", %.9g" : "%.9g", (double)w->out->margin[k][entry[i]]);
    ev__texts_sum(w, query, doc, n, digits);
    ev_printf(&o->line, "], \"text\": \"%s\"}", digits);
    ev_journal_write(o);
    free(doc);
}

/* ---- the plan ------------------------------------------------------------------------------------------------- */

/* Which places of the run each document has. */
EV__FN void ev__index_run(ev__work *w)
{
    const ev_data *d = w->d;
    size_t i;
    w->first = (size_t *)cmd_alloc((d->docs.count + 2) * sizeof *w->first);
    w->entry = (size_t *)cmd_alloc(d->run.count * sizeof *w->entry);
    memset(w->first, 0, (d->docs.count + 2) * sizeof *w->first);
    for (i = 0; i < d->run.count; i++) w->first[d->run.at[i].doc + 2]++;
    for (i = 0; i <= d->docs.count; i++) w->first[i + 1] += w->first[i];
    for (i = 0; i < d->run.count; i++) w->entry[w->first[d->run.at[i].doc + 1]++] = i;
}

EV__FN int ev__has_gap(const ev__work *w, uint32_t doc)
{
    size_t i, k;
    for (k = 0; k < w->job->kinds; k++)
        for (i = w->first[doc]; i < w->first[doc + 1]; i++) {
            float m = w->out->margin[k][w->entry[i]];
            if (m != m) return 1;
        }
    return 0;
}

EV__FN void ev__plan(ev__work *w)
{
    const ev_data *d = w->d;
    unsigned char *seen = (unsigned char *)cmd_alloc(d->docs.count);
    size_t u, i, k;
    memset(seen, 0, d->docs.count);
    w->todo = (uint32_t *)cmd_alloc(d->docs.count * sizeof *w->todo);
    for (u = 0; u < d->uses; u++)
        for (i = d->run.first[d->use[u]]; i < d->run.first[d->use[u] + 1]; i++) {
            uint32_t doc = d->run.at[i].doc;
            if (seen[doc] || !d->doc_text[doc].data) continue;
            seen[doc] = 1;
            if (ev__has_gap(w, doc)) w->todo[w->todos++] = doc;
        }
    memset(seen, 0, d->docs.count);
    for (i = 0; i < w->todos; i++) {
        seen[w->todo[i]] = 1;
        for (k = 0; k < w->job->kinds; k++) {
            size_t e;
            for (e = w->first[w->todo[i]]; e < w->first[w->todo[i] + 1]; e++) {
                float m = w->out->margin[k][w->entry[e]];
                w->pairs += m != m;
            }
        }
    }
    if (w->job->journal) ev_spool_load(w->job->journal, d, w->model, (const ev_sum *)w->text_sum, seen, w->kept);
    free(seen);
}

/* ---- the work ------------------------------------------------------------------------------------------------- */

EV__FN void ev__stop_if_asked(ev__work *w)
{
    if (!kalm__interrupted) return;
    cmd_progress_end(&w->progress);
    say("interrupted");
    exit(EXIT_INTERRUPTED);
}

EV__FN void ev__add_to_group(ev__work *w, uint32_t doc, kalm_doc *fine)
{
    kalm_doc_info info;
    if (w->group_count == w->group_room) {
        w->group_room = w->group_room ? w->group_room * 2 : 256;
        w->group = (uint32_t *)cmd_grow(w->group, w->group_room * sizeof *w->group);
        w->fine = (kalm_doc **)cmd_grow(w->fine, w->group_room * sizeof *w->fine);
        w->pooled = (kalm_doc **)cmd_grow(w->pooled, w->group_room * sizeof *w->pooled);
    }
    kalm_doc_get_info(fine, &info);
    w->out->tokens_of[doc] = info.tokens_used;
    w->out->width = info.width;
    w->slot[doc] = (uint32_t)w->group_count;
    w->group[w->group_count] = doc;
    w->fine[w->group_count++] = fine;
}

/* Encodes the next few documents, or takes them from the spool; returns their bytes. */
EV__FN size_t ev__encode_chunk(ev__work *w)
{
    kalm_text texts[EV_CHUNK];
    kalm_doc *docs[EV_CHUNK];
    uint32_t number[EV_CHUNK];
    kalm_params params = w->job->params;
    kalm_error err;
    double seconds;
    size_t n = 0, i, bytes = 0, size;
    for (; w->at < w->todos && n < EV_CHUNK; w->at++) {
        uint32_t doc = w->todo[w->at];
        if (w->kept[doc].doc) {
            int known = w->out->tokens_of[doc] != 0;
            ev__add_to_group(w, doc, w->kept[doc].doc);
            kalm_doc_bytes(w->kept[doc].doc, &size);
            bytes += size;
            if (!known) {
                w->out->encode_seconds += w->kept[doc].seconds;
                ev__note_encoded(w, &doc, 1, w->kept[doc].seconds);
            }
            w->kept[doc].doc = NULL;
            continue;
        }
        texts[n] = w->d->doc_text[doc];
        number[n++] = doc;
    }
    if (!n) return bytes;
    params.ratio = w->job->base;
    params.bits = w->job->direct ? w->job->kind[0].bits : 32;
    seconds = kalm__now();
    ev_check(kalm_encode(w->ctx, texts, n, &params, docs, &err), &err);
    seconds = kalm__now() - seconds;
    for (i = 0; i < n; i++) {
        const void *data = kalm_doc_bytes(docs[i], &size);
        bytes += size;
        ev__add_to_group(w, number[i], docs[i]);
        if (w->job->journal)
            ev__spool_put(w->job->journal, w->job->journal->spool, w->d->docs.id[number[i]], w->text_sum[number[i]],
                          seconds / (double)n, data, size);
    }
    w->out->encode_seconds += seconds;
    w->out->encoded_now += n;
    ev__note_encoded(w, number, n, seconds);
    return bytes;
}

EV__FN int ev__places_up(const void *pa, const void *pb)
{
    size_t a = *(const size_t *)pa, b = *(const size_t *)pb;
    return a < b ? -1 : a > b;
}

/* One query's documents of the group, at one ratio and row type. */
EV__FN void ev__rank_some(ev__work *w, size_t k, const size_t *entry, size_t n)
{
    const ev_run *run = &w->d->run;
    uint32_t query = run->at[entry[0]].query;
    const kalm_doc **docs = (const kalm_doc **)cmd_alloc(n * sizeof *docs);
    kalm_score *scores = (kalm_score *)cmd_alloc(n * sizeof *scores);
    kalm_params params = w->job->params;
    kalm_error err;
    double seconds = kalm__now();
    size_t i;
    for (i = 0; i < n; i++) docs[i] = w->pooled[w->slot[run->at[entry[i]].doc]];
    ev_check(kalm_rerank(w->ctx, w->d->query_text[query], docs, n, &params, scores, &err), &err);
    seconds = kalm__now() - seconds;
    for (i = 0; i < n; i++) w->out->margin[k][entry[i]] = scores[i].margin;
    w->out->rank_seconds[k] += seconds;
    w->out->ranked_now += n;
    ev__note_ranked(w, k, query, entry, n, seconds);
    w->pairs_done += n;
    cmd_progress_step(&w->progress, (size_t)w->pairs_done, (size_t)w->pairs);
    ev__stop_if_asked(w);
    free(scores);
    free((void *)docs);
}

EV__FN void ev__rank_group(ev__work *w)
{
    size_t k, i, e, count = 0, *entry;
    for (i = 0; i < w->group_count; i++) count += w->first[w->group[i] + 1] - w->first[w->group[i]];
    entry = (size_t *)cmd_alloc(count * sizeof *entry);
    for (k = 0; k < w->job->kinds; k++) {
        kalm_error err;
        size_t n = 0, from;
        for (i = 0; i < w->group_count; i++)
            for (e = w->first[w->group[i]]; e < w->first[w->group[i] + 1]; e++) {
                float m = w->out->margin[k][w->entry[e]];
                if (m != m) entry[n++] = w->entry[e];
            }
        if (!n) continue;
        qsort(entry, n, sizeof *entry, ev__places_up);
        for (i = 0; i < w->group_count; i++) {
            if (w->job->direct) w->pooled[i] = w->fine[i];
            else ev_check(kalm_doc_repool(w->model, w->fine[i], w->job->kind[k].ratio, w->job->kind[k].bits, &w->pooled[i],
                                          &err), &err);
        }
        for (from = 0; from < n; from = e) {
            for (e = from + 1; e < n && w->d->run.at[entry[e]].query == w->d->run.at[entry[from]].query; e++) {}
            ev__rank_some(w, k, entry + from, e - from);
        }
        for (i = 0; i < w->group_count && !w->job->direct; i++) kalm_doc_free(w->pooled[i]);
    }
    free(entry);
    for (i = 0; i < w->group_count; i++) kalm_doc_free(w->fine[i]);
    w->group_count = 0;
}

/* Bytes of a document's rows as stored: see documents.h. */
EV__FN double ev_doc_size(uint32_t tokens, uint32_t width, ev_kind_of_rows k)
{
    return 64 + ceil((double)tokens / (double)k.ratio) * (double)kalm__doc_row_bytes(width, k.bits);
}

EV__FN void ev__totals(ev__work *w)
{
    size_t i, k;
    ev_ranked *o = w->out;
    for (i = 0; i < w->d->docs.count; i++) {
        if (!o->tokens_of[i]) continue;
        o->documents++;
        o->tokens += o->tokens_of[i];
        for (k = 0; k < w->job->kinds; k++) o->bytes[k] += ev_doc_size(o->tokens_of[i], o->width, w->job->kind[k]);
    }
}

/* Half a model (kalm-quantize --side) cannot evaluate: it is refused before any text is read. */
EV__FN void ev_demand_whole(const char *path)
{
    kalm_model *model = NULL;
    kalm_model_info info;
    kalm_error err;
    ev_check(kalm_model_open(path, NULL, &model, &err), &err);
    kalm_model_get_info(model, &info);
    if (info.has_encoder != info.has_decoder)
        die("%s holds the %s alone: an evaluation reads documents and ranks them, which needs the whole model", path,
            info.has_encoder ? "encoder" : "decoder");
    kalm_model_close(model);
}

EV__FN void ev__begin_work(ev__work *w, ev_ranked *out, const ev_data *d, ev_job *job)
{
    kalm_model_info info;
    kalm_error err;
    size_t i, k;
    memset(w, 0, sizeof *w);
    memset(out, 0, sizeof *out);
    w->d = d;
    w->job = job;
    w->out = out;
    ev_check(kalm_model_open(job->path, &job->config, &w->model, &err), &err);
    ev_check(kalm_context_new(w->model, &job->config, &w->ctx, &err), &err);
    kalm_model_get_info(w->model, &info);
    cmd_clean_name(out->name, sizeof out->name, info.name);
    sprintf(out->weights, "%.12s", info.weights);
    sprintf(out->kernels, "%.30s", job->config.kernels ? job->config.kernels : kalm_kernels(0));
    out->fingerprint = info.fingerprint;
    out->width = info.width;
    out->tokens_of = (uint32_t *)cmd_alloc(d->docs.count * sizeof *out->tokens_of);
    memset(out->tokens_of, 0, d->docs.count * sizeof *out->tokens_of);
    w->text_sum = (ev_sum *)cmd_alloc(d->docs.count * sizeof *w->text_sum);
    memset(w->text_sum, 0, d->docs.count * sizeof *w->text_sum);
    for (i = 0; i < d->docs.count; i++)
        if (d->doc_text[i].data) kalm__sha256_of(d->doc_text[i].data, d->doc_text[i].size, w->text_sum[i]);
    w->slot = (uint32_t *)cmd_alloc(d->docs.count * sizeof *w->slot);
    w->kept = (ev_kept *)cmd_alloc(d->docs.count * sizeof *w->kept);
    memset(w->kept, 0, d->docs.count * sizeof *w->kept);
    for (k = 0; k < job->kinds; k++) {
        out->margin[k] = (float *)cmd_alloc(d->run.count * sizeof(float));
        for (i = 0; i < d->run.count; i++) out->margin[k][i] = (float)NAN;
    }
    ev__index_run(w);
}

/* Everything that the journal does not have already. */
EV__FN void ev_rank_all(ev_ranked *out, const ev_data *d, ev_job *job)
{
    ev__work w;
    ev__begin_work(&w, out, d, job);
    if (job->journal) {
        int open_end;
        job->journal->damaged = ev_read_journal(job->journal->path, ev__known_line, &w, &open_end);
        ev_journal_open(job->journal, open_end);
    }
    ev__plan(&w);
    cmd_progress_begin(&w.progress, "ranking");
    while (w.at < w.todos) {
        size_t bytes = 0;
        while (w.at < w.todos && bytes < job->memory) {
            bytes += ev__encode_chunk(&w);
            ev__stop_if_asked(&w);
            cmd_progress_step(&w.progress, (size_t)w.pairs_done, (size_t)w.pairs);
        }
        ev__rank_group(&w);
        if (job->journal) ev_spool_clear(job->journal);
    }
    cmd_progress_end(&w.progress);
    ev__totals(&w);
    if (job->journal) ev_journal_close(job->journal);
    free(w.todo), free(w.first), free(w.entry), free(w.text_sum), free(w.old_hash), free(w.slot);
    free(w.kept), free(w.fine), free(w.pooled), free(w.group);
    kalm_context_free(w.ctx);
    kalm_model_close(w.model);
}

EV__FN void ev_ranked_end(ev_ranked *r, size_t kinds)
{
    size_t k;
    for (k = 0; k < kinds; k++) free(r->margin[k]);
    free(r->tokens_of);
    memset(r, 0, sizeof *r);
}

/* The run that margins make: the same candidates in the order of the margins. Candidates without one stand behind. */
EV__FN void ev_reranked(ev_run *to, const ev_data *d, const float *margin)
{
    size_t q, i;
    *to = d->run;
    to->at = (ev_candidate *)cmd_alloc(d->run.count * sizeof *to->at);
    for (i = 0; i < d->run.count; i++) {
        to->at[i] = d->run.at[i];
        to->at[i].score = margin[i] == margin[i] ? margin[i] : -(float)INFINITY;
    }
    for (q = 0; q < d->queries.count; q++) ev_order(to->at + to->first[q], to->first[q + 1] - to->first[q], &d->docs);
}

#endif
