/* calibrate.h - kalm-quantize --calibrate: learns what the inputs of every matrix look like by running texts through the model,
   layer by layer, while the file is made. It holds one layer of weights and the rows of all texts between two layers, however
   deep the model is.

   For each layer: its weights are coded in q8, rotated as the plan says, and the texts go through it in the engine's own code,
   which reports every row that a matrix is about to multiply (observe in layer.h). The second moments of those rows (moments.h)
   then decide how the layer is rounded for the file (compensate.h). With q8 weights the engine gives the same bits on every
   machine, so the file depends only on the checkpoint, the texts, the options and the version of this program.

   Each text is encoded as a document, and its query makes a prompt that reads it, at ratios 1 to 32 in turn. Not every row counts
   the same:
     - the tokens that all prompts have in common at their beginning count once in all, not once for each prompt;
     - k and v of the decoder also multiply document rows. There are few of them, and everything that the decoder learns of a
       document passes through them, so together they weigh KALM__DOCUMENT_SHARE times as much as the prompts' rows.

   Measured on the bundled model, 150 queries x 50 candidates: Kendall's tau to f32 and mean change of a margin, means over
   ratios 1 to 32. 256 texts; descriptions of software, which the queries ask for, with their first words as queries:

     q4 without texts                                        tau .9657   margin .121
     descriptions from the collection (--calibrate examples/tiny/eval/corpus.jsonl)
                                                                 .9761          .070
     paragraphs of licences and manuals                          .9748          .078
     q8 without texts, with descriptions                         .9937, .9942   .0180, .0160

   and on the first 75 queries alone, with descriptions that are no candidates of theirs: .9662 and .118 become .9758 and .073.

   Tried in a prototype whose inputs came from float layers; means over ratios 4 and 16 and over three sets of 256 texts (of
   both kinds above). Differences of .001 are noise.

     without texts                                               .9650          .124
     as here                                                     .9747          .076
     the error of each input weighted by its mean square, no compensation
                                                                 .9647          .165
     all rows alike, the tokens that prompts have in common counted each time
                                                                 .9724          .087
     document rows half of the weight                            .9742          .078
     16, 32, 64, 128, 512, 1024 texts                            .9688, .9715, .9740, .9743, .9753, .9751
     damping .003, .03, .1                                       .9745, .9746, .9753   .077, .076, .082
     inputs behind layers that are coded already                 .9749          .076
     inputs by falling moment, groups and within groups          .9749          .075
     multipliers two to each side, none                          .9749, .9739   .076, .082
     steps of groups by D                                        .9746          .076
     the best of four scales a row by all of its D e^2           .9749          .075
     scale fitted to H afterwards                                .9749          .076
     two rounds of coordinate descent after the last input       .9750          .076
     errors of q and k also carried from row to row, by moments of the keys and queries that they meet
                                                                 no difference

   With a few channels 64 times as large in every layer, and weights to match, q4 has .9582 and .145 without texts (ratios 4 and
   16), .9755 and .075 with. */
#ifndef KALM__CALIBRATE_H
#define KALM__CALIBRATE_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/format.h"
#include "../src/model.h"
#include "../src/context.h"
#include "../src/layer.h"
#include "../src/encoder.h"
#include "../src/decoder.h"
#include "../src/scoring.h"
#include "../src/rerank.h"
#include "../src/public.h"
#include "moments.h"
#include "plan.h"
#include "../src/tools/texts.h"
#include "units.h"

enum {
    KALM__CALIBRATE_TOKENS = 256,      /* of a text that are read: 256 texts of width 2560 have at most 671 MB of rows */
    KALM__CALIBRATE_QUERY = 64,        /* of a query */
    KALM__DOCUMENT_SHARE = 3
};
#define KALM__DAMPING 0.01             /* of the mean second moment */

/* The kinds of rows whose moments are kept apart: inputs of q (in the encoder, of k and v too), of k and v, of o, of gate and up,
   and of down. */
enum { KALM__OBSERVED_Q, KALM__OBSERVED_KV, KALM__SEEN_O, KALM__SEEN_MLP, KALM__SEEN_DOWN, KALM__SEEN };

typedef struct kalm__calibration {
    kalm__texts    texts;              /* the caller's, as are the next four */
    const unsigned char *tokenizer;
    size_t         tokenizer_size;
    const char *const *strings;        /* [KALM__STRINGS] */
    const char    *kernels;            /* NULL: the best */
    const kalm__plan *p;
    kalm__crew    *crew;
    kalm_model     model;              /* one layer of q8 weights, the same for all its layers */
    kalm_context  *c;
    void          *block;              /* of layers, panels, scales, sums, vectors */
    unsigned char *panels[KALM__T_DOWN + 1];
    float         *scale[KALM__T_DOWN + 1];
    int32_t       *sum[KALM__T_DOWN + 1];
    int32_t       *ids[2];             /* [tokens]: documents, prompts */
    size_t        *first[2];           /* [texts + 1]: where a text's begin */
    float         *x[2];               /* [tokens][hidden]: residual rows before the layer at hand */
    kalm_doc     **docs;               /* [texts] */
    float         *row;                /* [CALIBRATE_TOKENS][hidden]: rows of a document */
    size_t         prefix;             /* tokens that all prompts begin with */
    double         doc_weight;         /* of a document row */
    float         *root;               /* [rows of a batch]: square roots of the rows' weights */
    kalm__moments  seen[KALM__SEEN];
    kalm__moment_work work;
    int            observe_q, observe_kv;      /* whether rows packed for q, k and v count for q, and for k and v */
} kalm__calibration;

/* The moments of the rows that matrix `what` of a side multiplies. */
KALM__FN kalm__moments *kalm__calibrate_moments(kalm__calibration *k, uint32_t side, uint32_t what)
{
    switch (what) {
    case KALM__T_Q: return &k->seen[KALM__OBSERVED_Q];
    case KALM__T_K: case KALM__T_V: return &k->seen[side == KALM__ENCODER ? KALM__OBSERVED_Q : KALM__OBSERVED_KV];
    case KALM__T_O: return &k->seen[KALM__SEEN_O];
    case KALM__T_GATE: case KALM__T_UP: return &k->seen[KALM__SEEN_MLP];
    default: return &k->seen[KALM__SEEN_DOWN];
    }
}

KALM__FN void kalm__calibrate_end(kalm__calibration *k)
{
    size_t i;
    for (i = 0; k->docs && i < k->texts.count; i++) kalm_doc_free(k->docs[i]);
    kalm_context_free(k->c);
    for (i = 0; i < 2; i++) {
        free(k->ids[i]);
        free(k->first[i]);
        free(k->x[i]);
    }
    for (i = 0; i < KALM__SEEN; i++) kalm__moments_end(&k->seen[i]);
    kalm__moment_work_end(&k->work);
    free(k->docs);
    free(k->row);
    free(k->root);
    free(k->block);
    kalm__texts_end(&k->texts);
    memset(k, 0, sizeof *k);
}

/* ---- from the checkpoint ------------------------------------------------------------------------------------------- */

/* One unit of a tensor, coded. */
KALM__FN void kalm__load_task(void *arg, size_t i, unsigned worker)
{
    const kalm__lot *b = (const kalm__lot *)arg;
    kalm__unit_code(b, i, &b->crew->spaces[worker]);
}

KALM__FN kalm_result kalm__load_item(const kalm__calibration *k, const kalm__item *it, uint32_t type, unsigned char *out,
                                     float *scale, int32_t *sum, kalm_error *err)
{
    kalm__item twin = *it;
    kalm__lot b;
    size_t n, i;
    twin.t.type = type;
    memset(&b, 0, sizeof b);
    b.p = k->p;
    b.it = &twin;
    b.stride = kalm__unit_bytes(&twin);
    b.scale = scale;
    b.sum = sum;
    b.crew = k->crew;
    for (b.first = 0; b.first < it->units; b.first += n) {
        n = kalm__min(k->crew->lot_units, it->units - b.first);
        b.out = out + b.first * b.stride;
        if (kalm__interrupted) return kalm__fail(err, KALM_CANCELLED, "interrupted");
        kalm__parallel(&k->crew->pool, n, kalm__load_task, &b);
        for (i = 0; i < n; i++)
            if (k->crew->results[i].state) return kalm__unit_fail(k->p, it, &k->crew->results[i], err);
    }
    return KALM_OK;
}

/* Code the matrices of a layer in q8, rotated as in the plan, into the model that the texts go through. */
KALM__FN kalm_result kalm__load_layer(const kalm__calibration *k, uint32_t side, uint32_t layer, kalm_error *err)
{
    size_t i;
    for (i = 0; i < k->p->count; i++) {
        const kalm__item *it = &k->p->items[i];
        uint32_t what = it->t.kind % 32;
        kalm_result r;
        if (it->what != KALM__ITEM_MATRIX || it->t.kind / 32 != side || it->t.layer != layer) continue;
        r = kalm__load_item(k, it, KALM__Q8, k->panels[what], k->scale[what], k->sum[what], err);
        if (r) return r;
    }
    return KALM_OK;
}

/* x [hidden] = what the file's table will give for a token of a side; see kalm__embed. w, work: [hidden rounded up to 32]. */
KALM__FN kalm_result kalm__load_token(const kalm__calibration *k, uint32_t side, const kalm__item *table, int32_t id, float *x,
                                      float *w, float *work, unsigned char *row, kalm_error *err)
{
    size_t hidden = k->p->c.shape.hidden_size, padded = kalm__cols32(hidden), i;
    float by = kalm__rounded(sqrtf((float)hidden));
    const kalm__st_tensor *eoi = k->p->c.eoi[side];
    kalm__item one = *table;
    kalm__unit_result r;
    kalm__loss loss;
    kalm__lot b;
    int as_is;
    if (!eoi) eoi = k->p->c.eoi[0];
    as_is = eoi && (uint32_t)id == k->p->c.shape.eoi_id;
    if (as_is) one.from = eoi;
    memset(&b, 0, sizeof b);
    memset(&r, 0, sizeof r);
    b.p = k->p;
    b.it = &one;
    if (!kalm__unit_read(&b, &k->crew->spaces[0], as_is ? 0 : (size_t)id, 1, w, padded, &r))
        return kalm__unit_fail(k->p, &one, &r, err);
    memcpy(x, w, hidden * sizeof *x);
    if (as_is) return KALM_OK;
    if (!kalm__encode_row(table->t.type, w, hidden, row, work, &loss)) {
        r.state = KALM__UNIT_OVERFLOW;
        r.row = (uint64_t)id;
        return kalm__unit_fail(k->p, table, &r, err);
    }
    if (table->t.type != KALM__F32) memcpy(x, work, hidden * sizeof *x);
    for (i = 0; i < hidden; i++) x[i] = kalm__times(x[i], by);
    return KALM_OK;
}

/* The rows that enter the first layer of a side: k->x[side]. */
KALM__FN kalm_result kalm__load_tokens(kalm__calibration *k, uint32_t side, kalm_error *err)
{
    size_t tokens = k->first[side][k->texts.count], hidden = k->p->c.shape.hidden_size, padded = kalm__cols32(hidden), i;
    const kalm__item *table = NULL;
    float *w = (float *)malloc(padded * 8);
    unsigned char *row;
    kalm_result r = KALM_OK;
    for (i = 0; i < k->p->count; i++)              /* the decoder's own comes behind the encoder's */
        if (k->p->items[i].what == KALM__ITEM_TABLE && k->p->items[i].t.kind / 32 <= side) table = &k->p->items[i];
    row = (unsigned char *)malloc(kalm__embedding_row_bytes(table->t.type, hidden));
    k->x[side] = (float *)malloc(kalm__mul(tokens, hidden * sizeof(float)));
    if (!w || !row || !k->x[side])
        r = kalm__fail(err, KALM_NO_MEMORY, "no memory for the %z rows of %z numbers of the calibration texts", tokens, hidden);
    for (i = 0; i < tokens && !r; i++)
        r = kalm__load_token(k, side, table, k->ids[side][i], k->x[side] + i * hidden, w, w + padded, row, err);
    free(w);
    free(row);
    return r;
}

/* ---- beginning ----------------------------------------------------------------------------------------------------- */

/* Lay out what the model points to, in one block; `vectors` gets the place of the norms. */
KALM__FN void kalm__calibrate_plan(kalm__calibration *k, kalm__arena *a, float **vectors)
{
    const kalm__shape *m = &k->p->c.shape;
    size_t numbers = 0, i;
    uint32_t side, what, rows, cols;
    for (side = 0; side < 2; side++)
        k->model.file.stack[side].layers = (kalm__layer *)kalm__take(a, (size_t)m->side[side].layers * sizeof(kalm__layer));
    for (what = 0; what <= KALM__T_DOWN; what++) {
        size_t bytes = 0, padded = 0;
        for (side = 0; side < 2; side++) {
            size_t panels;
            kalm__tensor_shape(m, KALM__KIND(side, what), &rows, &cols);
            panels = ((size_t)rows + KALM__PANEL - 1) / KALM__PANEL;
            padded = kalm__max(padded, panels * KALM__PANEL);
            bytes = kalm__max(bytes, kalm__mul(panels, kalm__panel_bytes(KALM__Q8, cols)));
        }
        k->panels[what] = (unsigned char *)kalm__take(a, bytes);
        k->scale[what] = (float *)kalm__take(a, padded * sizeof(float));
        k->sum[what] = (int32_t *)kalm__take(a, padded * sizeof(int32_t));
    }
    for (i = 0; i < k->p->count; i++)
        if (k->p->items[i].what == KALM__ITEM_VECTOR) numbers = kalm__add(numbers, kalm__round_up(k->p->items[i].t.cols, 16));
    *vectors = (float *)kalm__take(a, kalm__mul(numbers, sizeof(float)));
}

/* Make the model. All layers of a side point to the same matrices, those of the layer at hand. */
KALM__FN kalm_result kalm__calibrate_model(kalm__calibration *k, kalm_error *err)
{
    kalm__file *f = &k->model.file;
    kalm__arena a;
    float *vectors = NULL;
    size_t i;
    uint32_t side, layer;
    int ok;
    kalm_result r;
    k->model.alloc = kalm__allocator(NULL, &ok);
    f->shape = k->p->c.shape;
    f->has_model = f->has_tokenizer = 1;
    for (i = 0; i < KALM__STRINGS; i++) f->string[i] = kalm__text(k->strings[i]);
    r = kalm__tokenizer_open(&f->tokenizer, k->tokenizer, k->tokenizer_size, err);
    if (r) return r;
    memset(&a, 0, sizeof a);
    kalm__calibrate_plan(k, &a, &vectors);
    k->block = a.taken < SIZE_MAX - 64 ? calloc(1, a.taken + 64) : NULL;
    if (!k->block) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the %z bytes of a layer", a.taken);
    a.base = kalm__align64(k->block);
    a.size = a.taken;
    a.taken = 0;
    kalm__calibrate_plan(k, &a, &vectors);
    for (side = 0; side < 2; side++) {
        f->stack[side].shape = f->shape.side[side];
        for (layer = 0; layer < f->shape.side[side].layers; layer++)
            f->stack[side].layers[layer].full = f->shape.side[side].full[layer];
    }
    for (i = 0; i < k->p->count; i++) {
        const kalm__item *it = &k->p->items[i];
        uint32_t what = it->t.kind % 32;
        kalm__stack *s = &f->stack[it->t.kind / 32];
        if (it->what == KALM__ITEM_MATRIX) {
            kalm__matrix *w = &s->layers[it->t.layer].matrix[what];
            w->type = KALM__Q8;
            w->rows = it->t.rows;
            w->cols = it->t.cols;
            w->data = k->panels[what];
            w->scale = k->scale[what];
            w->sum = k->sum[what];
            s->layers[it->t.layer].rotated[what] = (int)it->t.rotated;
        } else if (it->what == KALM__ITEM_VECTOR) {
            void *bytes = vectors;     /* little-endian, as every machine that opens a model is */
            r = kalm__load_item(k, it, KALM__F32, (unsigned char *)bytes, NULL, NULL, err);
            if (r) return r;
            if (what < KALM__T_LAYER_KINDS) s->layers[it->t.layer].norm[what] = vectors;
            else if (what == KALM__T_NORM) s->norm = vectors;
            vectors += kalm__round_up(it->t.cols, 16);
        }
    }
    return KALM_OK;
}

/* Tokenise the texts and make the prompts: k->ids, k->first and k->prefix. */
KALM__FN kalm_result kalm__calibrate_ids(kalm__calibration *k, kalm_error *err)
{
    size_t n = k->texts.count, side, i, count = 0;
    size_t most[2];
    kalm_params params;
    kalm__job job;
    kalm__prompt prompt;
    kalm_result r = KALM_OK;
    memset(&params, 0, sizeof params);
    kalm__job_begin(&job, &params, 0, 0);
    most[0] = kalm__min(KALM__CALIBRATE_TOKENS, k->c->max_doc);
    most[1] = k->c->max_prompt;
    for (side = 0; side < 2; side++) {
        k->first[side] = (size_t *)calloc(n + 1, sizeof(size_t));
        k->ids[side] = (int32_t *)malloc(kalm__mul(n, most[side] * sizeof(int32_t)));
        if (!k->first[side] || !k->ids[side]) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the tokens of %z texts", n);
    }
    for (i = 0; i < n && !r; i++) {
        int32_t *to = k->ids[0] + k->first[0][i];
        r = kalm__document_ids(k->c, k->texts.text[i], &job, to, most[0], &count, err);
        count = kalm__min(count, most[0]);
        if (!r) r = kalm__check_ids(k->c, "calibration text", i, to, count, err);
        k->first[0][i + 1] = k->first[0][i] + count;
        if (!r) r = kalm__take_prompt(k->c, k->texts.query[i], &job, &prompt, err);
        if (r) break;
        memcpy(k->ids[1] + k->first[1][i], prompt.ids, prompt.tokens * sizeof(int32_t));
        k->first[1][i + 1] = k->first[1][i] + prompt.tokens;
    }
    return r ? r : kalm__prefix_ids(k->c, &job, &k->prefix, err);
}

/* The caller has set k->texts, tokenizer, tokenizer_size, strings and kernels; the rest is zero. p and crew must stay alive.
   kalm__calibrate_end is due even after a failure. */
KALM__FN kalm_result kalm__calibrate_begin(kalm__calibration *k, const kalm__plan *p, kalm__crew *crew, kalm_error *err)
{
    const kalm__shape *m = &p->c.shape;
    size_t most[KALM__SEEN], widest = 0, i;
    kalm_config config;
    kalm_result r;
    k->p = p;
    k->crew = crew;
    memset(&config, 0, sizeof config);
    config.threads = crew->pool.size;
    config.kernels = k->kernels;
    config.max_query_tokens = KALM__CALIBRATE_QUERY;
    r = kalm__calibrate_model(k, err);
    if (!r) r = kalm_context_new(&k->model, &config, &k->c, err);
    if (!r) r = kalm__calibrate_ids(k, err);
    if (r) return r;
    for (i = 0; i < KALM__SEEN; i++) most[i] = kalm__cols32(m->hidden_size);
    for (i = 0; i < 2; i++) {
        const kalm__side *s = &m->side[i];
        most[KALM__SEEN_O] = kalm__max(i ? most[KALM__SEEN_O] : 0, kalm__cols32((size_t)s->heads * s->head_dim));
        most[KALM__SEEN_DOWN] = kalm__max(i ? most[KALM__SEEN_DOWN] : 0, kalm__cols32(s->mlp));
    }
    for (i = 0; i < KALM__SEEN && !r; i++) {
        widest = kalm__max(widest, most[i]);
        r = kalm__moments_begin(&k->seen[i], most[i], KALM__MOMENT_BLOCK, err);
    }
    if (!r) r = kalm__moment_work_begin(&k->work, &k->c->backend, widest, err);
    k->docs = (kalm_doc **)calloc(k->texts.count, sizeof *k->docs);
    k->row = (float *)malloc(kalm__mul(KALM__CALIBRATE_TOKENS, m->hidden_size * sizeof(float)));
    k->root = (float *)malloc(kalm__max(k->c->rows, k->c->prompt_rows) * sizeof(float));
    if (!r && (!k->docs || !k->row || !k->root))
        r = kalm__fail(err, KALM_NO_MEMORY, "no memory for %z calibration texts", k->texts.count);
    return r;
}

/* ---- rows that matrices see ------------------------------------------------------------------------------------------ */

typedef struct kalm__observation {
    const kalm__calibration *k;
    kalm__moments *m;
    const float *from, *gain, *root;   /* rows; their norm, or NULL; roots of their weights, or NULL */
    size_t       width, n;
    float        eps, every;           /* every: the root where `root` is NULL */
    int          rotated;
} kalm__observation;

/* Sixteen rows on their way into the moments: normalised, rotated and weighted as the matrix will see them. */
KALM__FN void kalm__observe_task(void *arg, size_t i, unsigned worker)
{
    const kalm__observation *s = (const kalm__observation *)arg;
    const kalm__ops *ops = s->k->c->backend.ops;
    size_t row = i * 16, end = kalm__min(row + 16, s->n);
    (void)worker;
    for (; row < end; row++) {
        float *out = s->m->rows + (s->m->fill + row) * s->m->cols;
        const float *x = s->from + row * s->width;
        memset(out + s->width, 0, (s->m->cols - s->width) * sizeof *out);
        if (s->gain) ops->rms_norm(out, x, s->gain, s->width, s->eps, 1);
        else memcpy(out, x, s->width * sizeof *out);
        if (s->rotated) ops->hadamard(out, out, s->width);
        ops->scale_row(out, out, s->root ? s->root[row] : s->every, s->width);
    }
}

KALM__FN void kalm__observe(kalm__observation *s, kalm__moment_work *w, size_t rows)
{
    while (rows) {
        s->n = kalm__min(rows, KALM__MOMENT_ROWS - s->m->fill);
        kalm__parallel(w->backend->pool, (s->n + 15) / 16, kalm__observe_task, s);
        s->m->fill += s->n;
        s->from += s->n * s->width;
        if (s->root) s->root += s->n;
        rows -= s->n;
        if (s->m->fill == KALM__MOMENT_ROWS) kalm__moments_flush(s->m, w);
    }
}

/* The engine calls this with the rows of a batch that matrix `what` is about to multiply. */
KALM__FN void kalm__calibrate_observe(void *observer, const kalm__layer_run *r, const kalm__chunk *chunk, const kalm__step *step, int what)
{
    kalm__calibration *k = (kalm__calibration *)observer;
    unsigned i;
    for (i = 0; i < KALM__SEEN; i++) {
        kalm__observation s;
        int wanted = what == KALM__T_Q ? (i == KALM__OBSERVED_Q && k->observe_q) || (i == KALM__OBSERVED_KV && k->observe_kv)
                                       : (i == KALM__SEEN_O && what == KALM__T_O) || (i == KALM__SEEN_MLP && what == KALM__T_GATE)
                                         || (i == KALM__SEEN_DOWN && what == KALM__T_DOWN);
        if (!wanted) continue;
        memset(&s, 0, sizeof s);
        s.k = k;
        s.m = &k->seen[i];
        s.from = step->add_norm ? k->c->memory.x + chunk->row0 * step->width : step->from;
        s.gain = step->norm;
        s.root = k->root + chunk->row0;
        s.width = step->width;
        s.eps = r->stack->shape.norm_eps;
        s.rotated = step->rotate;
        kalm__observe(&s, &k->work, chunk->n);
    }
}

/* ---- how much a row counts ------------------------------------------------------------------------------------------- */

/* The root of the weight of prompt row j: the tokens that all prompts begin with count once, not once a prompt. */
KALM__FN float kalm__prompt_root(size_t j, size_t prefix, size_t texts)
{
    return j < prefix ? kalm__rounded(sqrtf(kalm__rounded(1.0f / (float)texts))) : 1.0f;
}

/* The weight of a document row for k and v of the decoder: all doc_rows together weigh KALM__DOCUMENT_SHARE times the rows of
   the prompts, which have prompt_rows in all, `prefix` of them common to all `texts`. */
KALM__FN double kalm__document_weight(size_t prompt_rows, size_t texts, size_t prefix, size_t doc_rows)
{
    return kalm__rounded_double((double)(KALM__DOCUMENT_SHARE * (prompt_rows - prefix * texts + prefix)) / (double)doc_rows);
}

/* ---- texts through a layer ------------------------------------------------------------------------------------------- */

KALM__FN kalm_result kalm__calibrate_encoder(kalm__calibration *k, uint32_t layer, kalm_error *err)
{
    static const uint32_t ratios[6] = { 1, 4, 2, 8, 16, 32 };
    kalm_context *c = k->c;
    size_t at = 0, first, i, n, hidden = k->p->c.shape.hidden_size;
    for (i = 0; i < c->rows; i++) k->root[i] = 1;
    k->observe_q = 1;
    k->observe_kv = 0;
    while (at < k->texts.count) {
        kalm__batch b;
        kalm__layer_run r;
        float *x = k->x[KALM__ENCODER] + k->first[0][at] * hidden;
        if (kalm__interrupted) return kalm__fail(err, KALM_CANCELLED, "interrupted");
        memset(&b, 0, sizeof b);
        b.c = c;
        b.limit = c->rows;
        first = at;
        for (; at < k->texts.count; at++) {
            n = k->first[0][at + 1] - k->first[0][at];
            if (!kalm__batch_add(&b, n, 0, at)) break;
            c->memory.seqs[b.seqs - 1].tokens = n;
        }
        memcpy(c->memory.x, x, b.rows * hidden * sizeof(float));
        kalm__layer_begin(&r, c, KALM__ENCODER, layer, b.rows, b.seqs);
        r.observe = kalm__calibrate_observe;
        r.observer = k;
        kalm__place_keys(&r);
        kalm__layer_keys(&r, b.seqs);
        kalm__layer_rows(&r, NULL);
        memcpy(x, c->memory.x, b.rows * hidden * sizeof(float));
        for (i = first; layer + 1 == k->p->c.shape.side[KALM__ENCODER].layers && i < at; i++) {
            kalm_result result = kalm__pool_document(c, &c->memory.seqs[i - first], i, ratios[i % 6], 32, &k->docs[i], err);
            if (result) return result;
        }
    }
    return KALM_OK;
}

/* A batch of prompts, each beside its document. */
KALM__FN void kalm__calibrate_batch(kalm__calibration *k, kalm__decoding *d, size_t *at)
{
    kalm__decoding_begin(d, k->c, k->ids[KALM__DECODER], 0, 0, (const kalm_doc *const *)k->docs, 0);
    for (; *at < k->texts.count; ++*at) {
        d->tokens = k->first[KALM__DECODER][*at + 1] - k->first[KALM__DECODER][*at];
        if (!kalm__decoding_add(d, *at, NULL)) break;
    }
    kalm__pack_docs(d);
}

KALM__FN kalm_result kalm__calibrate_decoder(kalm__calibration *k, uint32_t layer, kalm_error *err)
{
    kalm_context *c = k->c;
    int last = layer + 1 == k->p->c.shape.side[KALM__DECODER].layers;
    size_t at = 0, i, j, hidden = k->p->c.shape.hidden_size;
    while (at < k->texts.count) {
        kalm__decoding d;
        kalm__layer_run r;
        float *x = k->x[KALM__DECODER] + k->first[1][at] * hidden;
        if (kalm__interrupted) return kalm__fail(err, KALM_CANCELLED, "interrupted");
        kalm__calibrate_batch(k, &d, &at);
        memcpy(c->memory.x, x, d.batch.rows * hidden * sizeof(float));
        for (i = 0; i < d.batch.seqs; i++)
            for (j = 0; j < c->memory.seqs[i].count; j++) k->root[c->memory.seqs[i].row + j] = kalm__prompt_root(j, k->prefix, k->texts.count);
        kalm__layer_begin(&r, c, KALM__DECODER, layer, d.batch.rows, d.batch.seqs);
        r.observe = kalm__calibrate_observe;
        r.observer = k;
        kalm__place_keys(&r);
        kalm__cross_keys(&d, &r);
        k->observe_q = !last;              /* of the last layer only the last row has a query */
        k->observe_kv = 1;
        kalm__layer_keys(&r, d.batch.seqs);
        k->observe_q = 1;
        k->observe_kv = 0;
        if (last) {
            for (i = 0; i < d.batch.seqs; i++) k->root[i] = 1;
            kalm__keep_last_rows(&r);
        }
        kalm__layer_rows(&r, NULL);
        if (!last) memcpy(x, c->memory.x, d.batch.rows * hidden * sizeof(float));
    }
    for (at = 0; at < k->texts.count; at++) {      /* what k and v see besides */
        kalm__observation s;
        memset(&s, 0, sizeof s);
        for (i = 0; i < k->docs[at]->info.rows; i++) kalm__doc_read_row(k->docs[at], i, k->row + i * hidden);
        s.k = k;
        s.m = &k->seen[KALM__OBSERVED_KV];
        s.from = k->row;
        s.every = (float)kalm__rounded_double(sqrt(k->doc_weight));
        s.width = hidden;
        s.rotated = k->model.file.stack[KALM__DECODER].layers[layer].rotated[KALM__T_K];
        kalm__observe(&s, &k->work, k->docs[at]->info.rows);
    }
    return KALM_OK;
}

/* Run the texts through a layer and factor the moments of its matrices. To be called for each layer in order, the encoder's
   first, before its matrices are coded. */
KALM__FN kalm_result kalm__calibrate_layer(kalm__calibration *k, uint32_t side, uint32_t layer, kalm_error *err)
{
    const kalm__layer *l = &k->model.file.stack[side].layers[layer];
    static const int seen_by[KALM__SEEN] = { KALM__T_Q, KALM__T_K, KALM__T_O, KALM__T_GATE, KALM__T_DOWN };
    size_t i, rows = 0;
    kalm_result r = kalm__load_layer(k, side, layer, err);
    for (i = 0; i < KALM__SEEN; i++) kalm__moments_clear(&k->seen[i], kalm__cols32(l->matrix[seen_by[i]].cols));
    if (!r && !layer) r = kalm__load_tokens(k, side, err);
    if (!r && !layer && side == KALM__DECODER) {
        free(k->x[KALM__ENCODER]);
        k->x[KALM__ENCODER] = NULL;
        for (i = 0; i < k->texts.count; i++) rows += k->docs[i]->info.rows;
        k->doc_weight = kalm__document_weight(k->first[1][k->texts.count], k->texts.count, k->prefix, rows);
    }
    if (!r) r = side == KALM__ENCODER ? kalm__calibrate_encoder(k, layer, err) : kalm__calibrate_decoder(k, layer, err);
    for (i = 0; i < KALM__SEEN && !r; i++) {
        kalm__moments_flush(&k->seen[i], &k->work);
        kalm__moments_factor(&k->seen[i], &k->c->pool, KALM__DAMPING);
        if (kalm__interrupted) r = kalm__fail(err, KALM_CANCELLED, "interrupted");
    }
    return r;
}

#endif
