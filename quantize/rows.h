/* rows.h - kalm-quantize fits the section ROWS: how rows of documents are kept in 4, 3 and 2 bits (src/rowcode.h). The model file
   is written first; then texts go through its encoder, and the transform, the classes and the probabilities are made from the rows
   that come out and from what the decoder makes of rows.

   The texts are those of --calibrate; without them, a few built-in paragraphs and as many random tokens. Measured on the bundled
   model (rows of 2 bits at ratio 4, 1500 pairs, mean change of the margin with the metric of keys): 512 descriptions like those
   that are ranked .115, 64 of them .116; random tokens alone .139, paragraphs of a licence .132, both together .122.

   What an error of a row costs is judged by the gradient of the margin (gradient.h). Mean change of the margin at ratio 4, 1500 pairs, 4
   and 2 bits: keys of the decoder alone, without texts (1000 pairs) .034 .134; gradient, without texts .023 .102; gradient and 256
   descriptions .018 .082. Few texts are worse than none (2 bits, 1500 pairs of 30 queries): 8 .219, 32 .099, none .096, 64 .088, 128 .082.
   With a damping of .02 instead of .005: .023 .124; .019 .086. Gradients of 192 pairs instead of 512: 2 bits, 7500 pairs, .0803 for
   .0796. */
#ifndef KALM__ROWS_H
#define KALM__ROWS_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/exact.h"
#include "../src/public.h"
#include "../src/rowcode.h"
#include "../src/tools/texts.h"
#include "eigen.h"
#include "gradient.h"
#include "neutral.h"

enum {
    KALM__ROWS_TEXTS = 512,            /* of --calibrate that are used */
    KALM__ROWS_FEWEST = 64,            /* with fewer, rows are fitted as without texts */
    KALM__ROWS_RANDOM = 24, KALM__ROWS_RANDOM_TOKENS = 96,
    KALM__ROWS_FIT_RATIO = 4,          /* the transform is fitted to rows of this ratio, and serves all */
    KALM__ROWS_SAMPLE = 256,           /* rows of each ratio by which classes and steps are chosen */
    KALM__ROWS_ROUNDS = 3,
    KALM__ROWS_PAIR_TOKENS = 96,       /* of a document whose gradient is taken */
    KALM__ROWS_PAIRS = 128,            /* whose gradients are taken at once: what memory holds */
    KALM__ROWS_WIDEST = 8192           /* no section for wider rows: it would take a gigabyte */
};

#define KALM__ROWS_KEY_SHARE .1

typedef struct kalm__rows_fit {
    kalm_model   *model;
    kalm_context *c;
    size_t        width, docs, sample;
    kalm_doc    **doc;                 /* [docs], ratio 1, 32 bits */
    double       *mean, *s;            /* [width], [width][width]: of rows of FIT_RATIO */
    double       *metric;              /* [width][width]; later its Cholesky factor */
    double       *t, *back;            /* [width][width]: rows of T; columns of T^-1, each as a row */
    double       *work;                /* [width][width] */
    double       *small;               /* [4 width] */
    float        *y[KALM__ROWS_RATIOS];            /* [have][width]: components of rows of each ratio */
    size_t        have[KALM__ROWS_RATIOS];
    void         *section_block;
    unsigned char *section;            /* [at.size], at a multiple of 64 in its block */
    kalm__rows_layout at;
    kalm__rowcode code;
    kalm__row_work row_work;
    void         *row_block;
    double        seen[KALM__ROWS_CLASSES][2][KALM__ROWS_SYMBOLS];
} kalm__rows_fit;

/* Whether a model of this width can have the section; else *note says why not. */
KALM__FN int kalm__rows_possible(uint32_t width, kalm_error *note)
{
    if (width >= KALM__ROWS_NARROWEST && width <= KALM__ROWS_WIDEST) return 1;
    kalm__fail(note, KALM_BAD_ARGUMENT, "rows have %u numbers; from %u to %u are possible", width, (unsigned)KALM__ROWS_NARROWEST,
               (unsigned)KALM__ROWS_WIDEST);
    return 0;
}

/* ---- rows -------------------------------------------------------------------------------------------------------------- */

/* The number `i` of a fixed sequence that looks random. */
KALM__INLINE uint32_t kalm__rows_draw(uint64_t i)
{
    uint64_t x = (i + 1) * (uint64_t)KALM__HASH_A;
    x = (x ^ x >> 31) * (uint64_t)KALM__HASH_B;
    return (uint32_t)(x >> 32);
}

/* Encode the texts, or paragraphs and random tokens: f->doc. */
KALM__FN kalm_result kalm__rows_encode(kalm__rows_fit *f, const kalm__texts *texts, kalm_error *err)
{
    const kalm__file *file = &f->model->file;
    size_t count = texts ? kalm__min(texts->count, KALM__ROWS_TEXTS) : file->has_tokenizer ? KALM__NEUTRAL : 0, i, j;
    size_t random = texts ? 0 : KALM__ROWS_RANDOM;
    int32_t *ids = (int32_t *)malloc(KALM__ROWS_RANDOM_TOKENS * sizeof *ids);
    kalm_params p;
    kalm_result r = KALM_OK;
    memset(&p, 0, sizeof p);
    p.ratio = 1;
    p.bits = 32;
    f->doc = (kalm_doc **)calloc(count + random, sizeof *f->doc);
    if (!f->doc || !ids) r = kalm__fail(err, KALM_NO_MEMORY, "no memory for documents");
    f->docs = r ? 0 : count + random;
    for (i = 0; !r && i < count + random; i++) {
        kalm_text text;
        kalm_ids some;
        if (kalm__interrupted) r = kalm__fail(err, KALM_CANCELLED, "interrupted");
        else if (i < count) {
            text = texts ? texts->text[i * texts->count / count] : kalm__text(kalm__neutral[i]);
            r = kalm_encode(f->c, &text, 1, &p, &f->doc[i], err);
        } else {
            for (j = 0; j < KALM__ROWS_RANDOM_TOKENS; j++)
                ids[j] = (int32_t)(kalm__rows_draw((i - count) * KALM__ROWS_RANDOM_TOKENS + j) % file->shape.vocabulary);
            some.data = ids;
            some.count = kalm__min(KALM__ROWS_RANDOM_TOKENS, file->shape.side[KALM__ENCODER].max_positions);
            r = kalm_encode_ids(f->c, &some, 1, &p, &f->doc[i], err);
        }
    }
    free(ids);
    return r;
}

/* Call `take` with each row of each document at `ratio`. */
KALM__FN void kalm__rows_each(kalm__rows_fit *f, size_t ratio, void (*take)(kalm__rows_fit *f, const double *row, size_t number, size_t r),
                              size_t r)
{
    size_t number = 0, i, k, j, d;
    double *sum = f->small;
    for (i = 0; i < f->docs; i++) {
        size_t rows = f->doc[i]->info.rows;
        const unsigned char *p = f->doc[i]->bytes + KALM__DOC_HEADER;
        for (k = 0; k < rows; k += ratio, number++) {
            size_t end = kalm__min(k + ratio, rows);
            memset(sum, 0, f->width * sizeof *sum);
            for (j = k; j < end; j++)
                for (d = 0; d < f->width; d++) sum[d] += (double)kalm__f32(p + 4 * (j * f->width + d));
            for (d = 0; d < f->width; d++) sum[d] /= (double)(end - k);
            take(f, sum, number, r);
        }
    }
}

KALM__FN void kalm__rows_add_mean(kalm__rows_fit *f, const double *row, size_t number, size_t r)
{
    kalm__add_double(f->mean, 1, row, f->width);
    f->have[r] = number + 1;
}

KALM__FN void kalm__rows_add_moment(kalm__rows_fit *f, const double *row, size_t number, size_t r)
{
    double *x = f->small + f->width;
    size_t i;
    (void)number;
    (void)r;
    for (i = 0; i < f->width; i++) x[i] = row[i] - f->mean[i];
    for (i = 0; i < f->width; i++) kalm__add_double(f->s + i * f->width, x[i], x, i + 1);
}

/* Mean and covariance of the rows. A little of the mean variance is added to each, so that what few texts do not show is not taken for
   what never happens. */
KALM__FN void kalm__rows_moments(kalm__rows_fit *f)
{
    size_t n = f->width, i, j, count, r = kalm__ratio_class(KALM__ROWS_FIT_RATIO);
    double trace = 0;
    memset(f->mean, 0, n * sizeof *f->mean);
    memset(f->s, 0, n * n * sizeof *f->s);
    kalm__rows_each(f, KALM__ROWS_FIT_RATIO, kalm__rows_add_mean, r);
    count = f->have[r];
    for (i = 0; i < n; i++) f->mean[i] /= (double)count;
    kalm__rows_each(f, KALM__ROWS_FIT_RATIO, kalm__rows_add_moment, r);
    for (i = 0; i < n; i++) {
        for (j = 0; j <= i; j++) f->s[j * n + i] = f->s[i * n + j] /= (double)count;
        trace += f->s[i * n + i];
    }
    for (i = 0; i < n; i++) f->s[i * n + i] += .005 * trace / (double)n;
}

/* ---- the metric -------------------------------------------------------------------------------------------------------- */

/* w [outputs][width] = the key matrix of a decoder layer, whatever its type: the engine's products with the unit rows. */
KALM__FN kalm_result kalm__rows_keys(kalm__rows_fit *f, const kalm__layer *l, float *w, kalm_error *err)
{
    const kalm__matrix *m = &l->matrix[KALM__T_K];
    const kalm__kernels *k = f->c->backend.kernels;
    size_t n = f->width, outputs = m->rows, i, j, some, d;
    size_t rows = KALM__ROWS_TOGETHER, acts = kalm__round_up(kalm__acts_bytes(k, m->type, rows, n), 64);
    size_t scratch = kalm__round_up(kalm__matmul_scratch(k, m->type, n), 64), x_bytes = kalm__round_up(rows * n * 4, 64);
    unsigned char *block = (unsigned char *)malloc(64 + acts + scratch + x_bytes + rows * outputs * 4), *at;
    float *x, *y;
    if (!block) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a matrix of %z inputs", n);
    at = kalm__align64(block);
    x = (float *)(void *)(at + acts + scratch);
    y = (float *)(void *)(at + acts + scratch + x_bytes);
    for (i = 0; i < n; i += some) {
        kalm__block b;
        some = kalm__min(rows, n - i);
        memset(x, 0, some * n * sizeof *x);
        for (j = 0; j < some; j++) {
            x[j * n + i + j] = 1.0f;
            if (l->rotated[KALM__T_K]) k->ops->hadamard(x + j * n, x + j * n, n);
        }
        b = kalm__block_of(m->type, some, n, at);
        kalm__pack(k, b, 0, some, x, n);
        kalm__multiply_block(k, m, &b, y, outputs, at + acts);
        for (j = 0; j < some; j++)
            for (d = 0; d < outputs; d++) w[d * n + i + j] = y[j * outputs + d];
    }
    free(block);
    return KALM_OK;
}

/* The metric by which errors of rows are judged, from the weights: the sum over the decoder's layers of K^T diag(gain^2) K, where K
   makes keys of rows, divided by the mean square of the keys, as the norm of keys does. */
KALM__FN kalm_result kalm__rows_key_metric(kalm__rows_fit *f, kalm_error *err)
{
    const kalm__stack *s = &f->model->file.stack[KALM__DECODER];
    size_t n = f->width, dim = s->shape.head_dim, outputs = s->shape.kv_heads * dim, i, d;
    float *w = (float *)malloc(kalm__mul(outputs, n * sizeof *w));
    double *x = f->small, *sx = f->small + n;
    uint32_t l;
    kalm_result r = w ? KALM_OK : kalm__fail(err, KALM_NO_MEMORY, "no memory for the keys of a layer");
    memset(f->metric, 0, n * n * sizeof *f->metric);
    for (l = 0; !r && l < s->shape.layers; l++) {
        const float *gain = s->layers[l].norm[KALM__T_K_NORM];
        double square = 0, by;
        r = kalm__rows_keys(f, &s->layers[l], w, err);
        if (!r && kalm__interrupted) r = kalm__fail(err, KALM_CANCELLED, "interrupted");
        for (d = 0; !r && d < outputs; d++) {
            double at_mean;
            for (i = 0; i < n; i++) x[i] = (double)w[d * n + i];
            at_mean = kalm__dot_double(x, f->mean, n);
            for (i = 0; i < n; i++) sx[i] = kalm__dot_double(x, f->s + i * n, n);
            square += at_mean * at_mean + kalm__dot_double(x, sx, n);
        }
        if (r || !(square > 0)) continue;
        for (d = 0; d < outputs; d++) {
            by = (double)gain[d % dim] * (double)gain[d % dim] / square;
            for (i = 0; i < n; i++) x[i] = (double)w[d * n + i];
            for (i = 0; i < n; i++) kalm__add_double(f->metric + i * n, by * x[i], x, i + 1);
        }
    }
    free(w);
    return r;
}

/* The prompt around the first words of a text. */
KALM__FN kalm_result kalm__rows_prompt(kalm__rows_fit *f, kalm_text query, kalm__gradient_pair *p, kalm_error *err)
{
    kalm_params params;
    kalm__prompt prompt;
    kalm__job job;
    kalm_result r;
    memset(&params, 0, sizeof params);
    kalm__job_begin(&job, &params, 0, 0);
    r = kalm__take_prompt(f->c, query, &job, &prompt, err);
    if (r) return r;
    p->tokens = prompt.tokens;
    p->ids = (int32_t *)malloc(p->tokens * sizeof *p->ids);
    if (!p->ids) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a prompt");
    memcpy(p->ids, prompt.ids, p->tokens * sizeof *p->ids);
    return KALM_OK;
}

/* Give back what the pairs have, so that others can take their places. */
KALM__FN void kalm__rows_pairs_end(kalm__gradient *g)
{
    size_t i;
    for (i = 0; i < g->pairs; i++) {
        free(g->pair[i].ids);
        free(g->pair[i].doc);
        free(g->pair[i].x);
    }
    memset(g->pair, 0, g->pairs * sizeof *g->pair);
}

/* A document and a query beside each other: rows pooled at FIT_RATIO, and memory for the passes. */
KALM__FN kalm_result kalm__rows_pair(kalm__rows_fit *f, kalm__gradient_pair *p, size_t doc, kalm_text query, kalm_error *err)
{
    const kalm_doc *d = f->doc[doc];
    size_t n = f->width, rows = kalm__min(d->info.rows, KALM__ROWS_PAIR_TOKENS), i, k, j;
    size_t layers = f->model->file.shape.side[KALM__DECODER].layers;
    const unsigned char *from = d->bytes + KALM__DOC_HEADER;
    kalm_result r = kalm__rows_prompt(f, query, p, err);
    if (r) return r;
    p->rows = (rows + KALM__ROWS_FIT_RATIO - 1) / KALM__ROWS_FIT_RATIO;
    p->doc = (float *)malloc(2 * p->rows * n * sizeof(float));
    p->x = (float *)malloc(kalm__mul((layers + 2) * p->tokens, n * sizeof(float)));
    if (!p->doc || !p->x) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the gradient of a document");
    p->d_doc = p->doc + p->rows * n;
    p->dx = p->x + (layers + 1) * p->tokens * n;
    for (i = 0; i < p->rows; i++) {
        size_t first = i * KALM__ROWS_FIT_RATIO, end = kalm__min(first + KALM__ROWS_FIT_RATIO, rows);
        for (k = 0; k < n; k++) {
            double sum = 0;
            for (j = first; j < end; j++) sum += (double)kalm__f32(from + 4 * (j * n + k));
            p->doc[i * n + k] = (float)(sum / (double)(end - first));
        }
    }
    return KALM_OK;
}

/* The metric by which errors of rows are judged, from gradients: the mean of g g^T, g the gradient of the margin by a row, over texts
   with their own queries and with those of others; and a tenth of the metric of keys, for what the pairs do not show. Leaves f->metric
   as it is where the work would be too much. */
KALM__FN kalm_result kalm__rows_gradient_metric(kalm__rows_fit *f, const kalm__texts *texts, kalm_error *err)
{
    const kalm__side *s = &f->model->file.shape.side[KALM__DECODER];
    size_t n = f->width, plain = texts ? f->docs : KALM__NEUTRAL, wanted = texts ? 512 : 2 * KALM__NEUTRAL, pair, i, k, j;
    double work = (double)s->layers * (double)n * (3.0 * s->mlp + 2.0 * (s->heads + s->kv_heads) * s->head_dim) * 3 * 90;
    double most = (texts ? 2e13 : 2e12) / work, key_trace = 0, trace = 0;
    float margin = 0;
    kalm__gradient g;
    kalm_result r = KALM_OK;
    if (!f->model->file.has_tokenizer || most < 16) return KALM_OK;
    if ((double)wanted > most) wanted = (size_t)most;
    memset(&g, 0, sizeof g);
    g.c = f->c;
    g.pair = (kalm__gradient_pair *)calloc(KALM__ROWS_PAIRS, sizeof *g.pair);
    if (!g.pair) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %u pairs", (unsigned)KALM__ROWS_PAIRS);
    for (i = 0; i < n; i++) key_trace += f->metric[i * n + i];
    memset(f->work, 0, n * n * sizeof *f->work);
    for (pair = 0; !r && pair < wanted; ) {
        for (g.pairs = 0; !r && g.pairs < KALM__ROWS_PAIRS && pair < wanted; g.pairs++, pair++) {      /* half of the queries fit */
            size_t doc = pair / 2 * plain / ((wanted + 1) / 2) % plain, other = pair % 2 ? (doc + plain / 2) % plain : doc;
            kalm_text query = texts ? texts->query[other * texts->count / plain] : kalm__first_words(kalm__text(kalm__neutral[other]));
            r = kalm__rows_pair(f, &g.pair[g.pairs], doc, query, err);
        }
        if (!r) r = kalm__gradient_run(&g, &margin, err);
        for (i = 0; !r && i < g.pairs; i++)
            for (k = 0; k < g.pair[i].rows; k++) {
                double *x = f->small;
                for (j = 0; j < n; j++) x[j] = (double)g.pair[i].d_doc[k * n + j];
                for (j = 0; j < n; j++) kalm__add_double(f->work + j * n, x[j], x, j + 1);
            }
        kalm__rows_pairs_end(&g);
    }
    free(g.pair);
    for (i = 0; i < n; i++) trace += f->work[i * n + i];
    if (!r && trace > 0 && key_trace > 0 && trace < 1e300)
        for (i = 0; i < n; i++)
            for (j = 0; j <= i; j++)
                f->metric[i * n + j] = f->work[i * n + j] / trace + KALM__ROWS_KEY_SHARE * f->metric[i * n + j] / key_trace;
    return r;
}

/* ---- the transform ----------------------------------------------------------------------------------------------------- */

/* With the metric G = A^T A, damped by a 200th of its mean, and the covariance S: T = U A and T^-1 = A^-1 U^T, where the rows of U
   are the eigenvectors of A S A^T (the Karhunen-Loeve transform). A = L^T, the Cholesky factor. */
KALM__FN kalm_result kalm__rows_transform(kalm__rows_fit *f, kalm_error *err)
{
    size_t n = f->width, i, j, k;
    double trace = 0, *g = f->metric, *d = f->small, *work = f->small + n;
    for (i = 0; i < n; i++) trace += g[i * n + i];
    if (!(trace > 0)) {
        for (i = 0; i < n; i++) g[i * n + i] = 1;
        trace = (double)n;
    }
    for (i = 0; i < n; i++) {
        for (j = 0; j <= i; j++) g[i * n + j] *= (double)n / trace;
        g[i * n + i] += .005;
    }
    if (!kalm__cholesky(g, n)) return kalm__fail(err, KALM_BAD_FILE, "the decoder's keys have no finite metric");
    /* back = S L, work = L^T S L; below the diagonal g has L */
    for (i = 0; i < n; i++) {
        memset(f->back + i * n, 0, n * sizeof *f->back);
        for (k = 0; k < n; k++) kalm__add_double(f->back + i * n, f->s[i * n + k], g + k * n, k + 1);
    }
    memset(f->work, 0, n * n * sizeof *f->work);
    for (k = 0; k < n; k++)
        for (i = 0; i <= k; i++) kalm__add_double(f->work + i * n, g[k * n + i], f->back + k * n, n);
    if (!kalm__eigenvectors(f->work, n, f->back, d, work))
        return kalm__fail(err, KALM_BAD_FILE, "the rows of the texts have no finite covariance");
    for (k = 0; k < n; k++) {          /* a row u of U: T's row is L u; T^-1's column solves L^T z = u */
        double *u = f->back + k * n, *t = f->t + k * n;
        for (j = 0; j < n; j++) t[j] = kalm__dot_double(u, g + j * n, j + 1);
        for (j = n; j--; ) {
            u[j] /= g[j * n + j];
            kalm__add_double(u, -u[j], g + j * n, j);
        }
    }
    return KALM_OK;
}

/* A matrix of type q16: element (output o, input i) = m[o * rows + i * cols]. */
KALM__FN void kalm__rows_pack(unsigned char *to, size_t scales, const double *m, size_t n, size_t rows, size_t cols, size_t first_output,
                              size_t first_input)
{
    double limit = (double)kalm__int16_limit(n);
    size_t o, i, panel = kalm__panel_bytes(KALM__Q16, n);
    for (o = first_output; o < n; o++) {
        double most = 0;
        float scale;
        unsigned char *p = to + scales + o / 16 * panel + o % 16 * 4;
        for (i = first_input; i < n; i++) most = fabs(m[o * rows + i * cols]) > most ? fabs(m[o * rows + i * cols]) : most;
        scale = (float)(most / limit);
        kalm__put_f32(to + 4 * o, scale);
        for (i = first_input; i < n && scale > 0; i++) {
            double v = m[o * rows + i * cols] / (double)scale;
            int32_t q = (int32_t)(v < 0 ? v - .5 : v + .5);
            q = q > (int32_t)limit ? (int32_t)limit : q < -(int32_t)limit ? -(int32_t)limit : q;
            p[i / 2 * 64 + i % 2 * 2] = (unsigned char)q;
            p[i / 2 * 64 + i % 2 * 2 + 1] = (unsigned char)((uint32_t)q >> 8);
        }
    }
}

KALM__FN void kalm__rows_put_numbers(unsigned char *to, const double *v, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) kalm__put_f32(to + 4 * i, (float)v[i]);
}

/* mean, T and T^-1 into the section, with `heavy` components as floats. */
KALM__FN void kalm__rows_put_transform(kalm__rows_fit *f, uint32_t heavy)
{
    size_t n = f->width;
    memset(f->section + f->at.mean, 0, f->at.size - f->at.mean);
    kalm__put_u32(f->section + 8, heavy);
    kalm__rows_put_numbers(f->section + f->at.mean, f->mean, n);
    kalm__rows_put_numbers(f->section + f->at.rows, f->t, heavy * n);
    kalm__rows_put_numbers(f->section + f->at.cols, f->back, heavy * n);
    kalm__rows_pack(f->section + f->at.forward, f->at.scales, f->t, n, n, 1, heavy, 0);
    kalm__rows_pack(f->section + f->at.inverse, f->at.scales, f->back, n, 1, n, 0, heavy);
}

/* ---- classes and probabilities ------------------------------------------------------------------------------------------- */

/* A row of ratio class r, every so many of them, as components. */
KALM__FN void kalm__rows_keep(kalm__rows_fit *f, const double *row, size_t number, size_t r)
{
    size_t every = (f->sample + KALM__ROWS_SAMPLE - 1) / KALM__ROWS_SAMPLE, i;
    float *x = (float *)(void *)(f->small + f->width);
    if (number % every) return;
    for (i = 0; i < f->width; i++) x[i] = (float)row[i];
    kalm__rows_to_components(&f->code, f->c->backend.kernels, &f->row_work, f->y[r] + f->have[r]++ * f->width, x, 1);
}

KALM__FN void kalm__rows_count(kalm__rows_fit *f, const double *row, size_t number, size_t r)
{
    (void)row;
    (void)r;
    f->sample = number + 1;
}

/* The class and shift of a component with standard deviation `sigma` steps: class i is for 2^((i - 8) / 4). */
KALM__FN uint8_t kalm__rows_class(double sigma)
{
    double octaves = kalm__log(sigma > 1e-6 ? sigma : 1e-6) / 0.6931471805599453;
    int shift = (int)octaves - 1, i;
    shift = shift < 0 ? 0 : shift > 7 ? 7 : shift;
    i = (int)kalm__nearest_double(4 * (octaves - shift)) + 8;
    return (uint8_t)((i < 0 ? 0 : i > KALM__ROWS_CLASSES - 1 ? KALM__ROWS_CLASSES - 1 : i) | shift << 5);
}

/* What f->seen begins with: normal distributions. They also stand in for classes that no component has. */
KALM__FN void kalm__rows_expect(kalm__rows_fit *f)
{
    int i, q, h, k;
    for (i = 0; i < KALM__ROWS_CLASSES; i++) {
        double sigma = kalm__exp((i - 8) * (0.6931471805599453 / 4));
        for (q = 0; q < 2; q++) {
            double sum = 0, all = 0, *p = f->seen[i][q];
            for (h = -7; h < 8; h++) {
                double center = 2 * h - (q ? (h > 0) - (h < 0) : 0), density = 0;
                for (k = -8; k <= 8; k++) {
                    double z = (center + k / 8.0) / sigma;
                    density += kalm__exp(-z * z / 2);
                }
                p[h + 7] = density / (8.5 * 2.5066282746310002 * sigma) + 2e-4;
                sum += p[h + 7];
            }
            p[15] = sum < 1 ? 1 - sum + 3e-4 : 3e-4;
            for (h = 0; h < KALM__ROWS_SYMBOLS; h++) all += p[h];
            for (h = 0; h < KALM__ROWS_SYMBOLS; h++) p[h] *= 20 / all;
        }
    }
}

/* Intervals and costs from f->seen. */
KALM__FN void kalm__rows_put_tables(kalm__rows_fit *f)
{
    unsigned i, k;
    for (i = 0; i < KALM__ROWS_CLASSES * 2; i++) {
        const double *p = f->seen[i / 2][i % 2];
        unsigned size[KALM__ROWS_SYMBOLS], start = 0, most = 0, rest = KALM__ROWS_TOTAL - KALM__ROWS_SYMBOLS;
        double all = 0;
        for (k = 0; k < KALM__ROWS_SYMBOLS; k++) all += p[k];
        for (k = 0; k < KALM__ROWS_SYMBOLS; k++) {
            unsigned share = (unsigned)(p[k] / all * (KALM__ROWS_TOTAL - KALM__ROWS_SYMBOLS));
            share = share < rest ? share : rest;
            size[k] = 1 + share;
            rest -= share;
            if (size[k] > size[most]) most = k;
        }
        size[most] += rest;
        for (k = 0; k < KALM__ROWS_SYMBOLS; k++) {
            size_t place = 2 * ((size_t)i * KALM__ROWS_SYMBOLS + k);
            unsigned cost = (unsigned)(64 / 0.6931471805599453 * kalm__log((double)KALM__ROWS_TOTAL / size[k]) + .5);
            f->section[KALM__ROWS_TABLES + place] = (unsigned char)start;
            f->section[KALM__ROWS_TABLES + place + 1] = (unsigned char)(start >> 8);
            f->section[f->at.cost + place] = (unsigned char)cost;
            f->section[f->at.cost + place + 1] = (unsigned char)(cost >> 8);
            start += size[k];
        }
    }
}

/* A step with which components of these deviations take about the budget [1/64 bits]: each log2(sigma / step) + 1 bits. */
KALM__FN double kalm__rows_first_step(const double *sigma, size_t n, double budget)
{
    double low = 1e-9, high = 1e6;
    int i;
    for (i = 0; i < 60; i++) {
        double middle = sqrt(low * high), bits = 0;
        size_t k;
        for (k = 0; k < n; k++)
            if (2 * sigma[k] > middle) bits += kalm__log(2 * sigma[k] / middle) / 0.6931471805599453;
        if (bits * 64 > budget) low = middle;
        else high = middle;
    }
    return high;
}

/* Classes and count for components of these deviations in steps; components that hardly ever have a level are left out. */
KALM__FN void kalm__rows_put_classes(kalm__rows_fit *f, unsigned b, unsigned r, double step, const double *sigma)
{
    size_t place = 4 * (KALM__ROWS_RATIOS * b + r), i;
    uint8_t *classes = f->section + f->at.classes + (b * KALM__ROWS_RATIOS + r) * f->width;
    uint32_t count = 1;
    for (i = 0; i < f->width; i++) {
        classes[i] = kalm__rows_class(sigma[i]);
        if (sigma[i] > .5) count = (uint32_t)i + 1;
    }
    kalm__put_f32(f->section + 16 + place, (float)step);
    kalm__put_u32(f->section + 88 + place, count);
}

/* Read the section anew, as far as it is. */
KALM__FN kalm_result kalm__rows_reopen(kalm__rows_fit *f, kalm_error *err)
{
    return kalm__rowcode_open(&f->code, f->section, f->at.size, 1, (uint32_t)f->width, err);
}

/* Code the sample of one kind of rows: count symbols, and move step and classes to what came out. */
KALM__FN void kalm__rows_round(kalm__rows_fit *f, unsigned b, unsigned r)
{
    double *square = f->small, octaves = 0, step;
    size_t n = f->width, i, k, lane, some;
    memset(square, 0, n * sizeof *square);
    for (k = 0; k < f->have[r]; k += some) {
        const float *y = f->y[r] + k * n;
        kalm__row_coding q;
        some = kalm__min(f->have[r] - k, KALM__ROWS_TOGETHER);
        kalm__row_begin(&q, &f->code, f->c->backend.kernels->ops, &f->row_work, b, r, y, some);
        kalm__row_search(&q);
        for (lane = 0; lane < some; lane++, y += n) {
            uint32_t s = kalm__row_finish(&q, lane, (unsigned char *)(void *)(f->small + n));
            octaves += ((double)s - KALM__ROWS_MIDDLE) / KALM__ROWS_OCTAVE;
            step = (double)kalm__row_step(&f->code, b, r, s);
            for (i = 0; i < n; i++) square[i] += (double)y[i] / step * ((double)y[i] / step);
            for (i = 0; i < q.count; i++) {
                int32_t place = q.row[lane].fit[i];
                uint32_t symbol = (uint32_t)(kalm__level_high(kalm__row_level(place), q.classes[i] >> 5) + 7);
                f->seen[q.classes[i] & 31][place & 1][symbol < 15 ? symbol : 15] += 1;
            }
        }
    }
    for (i = 0; i < n; i++) square[i] = sqrt(square[i] / (double)f->have[r]);
    step = (double)f->code.step[b][r] * kalm__exp(octaves / (double)f->have[r] * 0.6931471805599453);
    kalm__rows_put_classes(f, b, r, step, square);
}

/* Everything about levels: steps, classes, probabilities, in a few rounds of coding the sample. */
KALM__FN kalm_result kalm__rows_levels(kalm__rows_fit *f, kalm_error *err)
{
    size_t n = f->width, i, k;
    unsigned b, r, round;
    double *sigma = f->small;
    kalm_result result;
    for (b = 0; b < KALM__ROWS_BITS; b++)
        for (r = 0; r < KALM__ROWS_RATIOS; r++) {
            double budget = (double)(8 * kalm__coded_row_bytes(n, 4 - b) - 12) * 64, step;
            memset(sigma, 0, n * sizeof *sigma);
            for (k = 0; k < f->have[r]; k++)
                for (i = 0; i < n; i++) sigma[i] += (double)f->y[r][k * n + i] * (double)f->y[r][k * n + i];
            for (i = 0; i < n; i++) sigma[i] = sqrt(sigma[i] / (double)f->have[r]);
            step = kalm__rows_first_step(sigma, n, budget);
            for (i = 0; i < n; i++) sigma[i] /= step;
            kalm__rows_put_classes(f, b, r, step, sigma);
        }
    kalm__rows_expect(f);
    kalm__rows_put_tables(f);
    result = kalm__rows_reopen(f, err);
    for (round = 0; !result && round < KALM__ROWS_ROUNDS; round++) {
        kalm__rows_expect(f);
        for (b = 0; b < KALM__ROWS_BITS; b++)
            for (r = 0; r < KALM__ROWS_RATIOS; r++) kalm__rows_round(f, b, r);
        kalm__rows_put_tables(f);
        result = kalm__rows_reopen(f, err);
        if (!result && kalm__interrupted) result = kalm__fail(err, KALM_CANCELLED, "interrupted");
    }
    return result;
}

/* ---- all of it ----------------------------------------------------------------------------------------------------------- */

KALM__FN void kalm__rows_end(kalm__rows_fit *f)
{
    size_t i;
    for (i = 0; i < f->docs; i++) kalm_doc_free(f->doc[i]);
    for (i = 0; i < KALM__ROWS_RATIOS; i++) free(f->y[i]);
    free(f->doc);
    free(f->mean);
    free(f->s);
    free(f->metric);
    free(f->t);
    free(f->back);
    free(f->work);
    free(f->small);
    free(f->section_block);
    free(f->row_block);
    kalm_context_free(f->c);
    kalm_model_close(f->model);
    memset(f, 0, sizeof *f);
}

KALM__FN kalm_result kalm__rows_begin(kalm__rows_fit *f, const char *path, unsigned threads, const char *kernels, kalm_error *err)
{
    kalm_config config;
    size_t n, square, work;
    kalm_result r;
    memset(f, 0, sizeof *f);
    memset(&config, 0, sizeof config);
    config.threads = threads;
    config.kernels = kernels;
    r = kalm_model_open(path, NULL, &f->model, err);
    if (!r) r = kalm_context_new(f->model, &config, &f->c, err);
    if (r) return r;
    n = f->width = f->model->file.shape.hidden_size;
    square = n * n * sizeof(double);
    f->at = kalm__rows_places(n);
    f->mean = (double *)malloc(n * sizeof(double));
    f->s = (double *)malloc(square);
    f->metric = (double *)malloc(square);
    f->t = (double *)malloc(square);
    f->back = (double *)malloc(square);
    f->work = (double *)malloc(square);
    f->small = (double *)malloc(4 * n * sizeof(double));
    f->section_block = calloc(1, f->at.size + 64);
    work = kalm__row_work_plan(&f->row_work, NULL, f->c->backend.kernels, n);
    f->row_block = malloc(work + 64);
    if (!f->mean || !f->s || !f->metric || !f->t || !f->back || !f->work || !f->small || !f->section_block || !f->row_block)
        return kalm__fail(err, KALM_NO_MEMORY, "no memory for matrices of %z x %z", n, n);
    kalm__row_work_plan(&f->row_work, kalm__align64(f->row_block), f->c->backend.kernels, n);
    f->section = kalm__align64(f->section_block);
    return KALM_OK;
}

/* How many of the first components vary so much, against the step of 4 bits, that integers of the product would say them too roughly. d:
   the variances of components, which are replaced by their roots. */
KALM__FN uint32_t kalm__rows_heavy(const kalm__rows_fit *f, double *d)
{
    double budget = (double)(8 * kalm__coded_row_bytes(f->width, 4)) * 64, step;
    uint32_t heavy = 0;
    size_t i;
    for (i = 0; i < f->width; i++) d[i] = sqrt(d[i] > 0 ? d[i] : 0);
    step = kalm__rows_first_step(d, f->width, budget);
    while (heavy < KALM__ROWS_HEAVY && heavy < f->width && d[heavy] > 64 * step) heavy++;
    return heavy;
}

/* The sample of rows of every ratio, as components. */
KALM__FN kalm_result kalm__rows_samples(kalm__rows_fit *f, kalm_error *err)
{
    size_t r;
    for (r = 0; r < KALM__ROWS_RATIOS; r++) {
        kalm__rows_each(f, (size_t)1 << r, kalm__rows_count, r);
        f->have[r] = 0;
        f->y[r] = (float *)malloc(KALM__ROWS_SAMPLE * f->width * sizeof(float));
        if (!f->y[r]) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %u rows", (unsigned)KALM__ROWS_SAMPLE);
        kalm__rows_each(f, (size_t)1 << r, kalm__rows_keep, r);
    }
    return KALM_OK;
}

/* Fit the section of the model file at `path`. texts: NULL where none are given, and fewer than KALM__ROWS_FEWEST are not
   used. On success f->section [f->at.size] is the section;
   kalm__rows_end is due in any case. */
KALM__FN kalm_result kalm__rows_fit_file(kalm__rows_fit *f, const char *path, const kalm__texts *texts, unsigned threads,
                                         const char *kernels, kalm_error *err)
{
    uint32_t heavy = 0;
    kalm_result r = kalm__rows_begin(f, path, threads, kernels, err);
    if (texts && texts->count < KALM__ROWS_FEWEST) texts = NULL;
    if (!r) r = kalm__rows_encode(f, texts, err);
    if (!r) {
        kalm__rows_moments(f);
        r = kalm__rows_key_metric(f, err);
    }
    if (!r) r = kalm__rows_gradient_metric(f, texts, err);
    if (!r) r = kalm__rows_transform(f, err);
    if (!r) {
        unsigned i;
        heavy = kalm__rows_heavy(f, f->small);
        kalm__put_u32(f->section, KALM__ROWS_VERSION);
        kalm__put_u32(f->section + 4, (uint32_t)f->width);
        for (i = 0; i < KALM__ROWS_BITS * KALM__ROWS_RATIOS; i++) kalm__put_f32(f->section + 16 + 4 * i, 1.0f);
        kalm__rows_expect(f);
        kalm__rows_put_tables(f);
        kalm__rows_put_transform(f, heavy);
        r = kalm__rows_reopen(f, err);
    }
    if (!r) r = kalm__rows_samples(f, err);
    if (!r) r = kalm__rows_levels(f, err);
    return r;
}

#endif
