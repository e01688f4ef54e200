/* gradient.h - how the decoder's answer depends on the rows of a document: the gradient of the margin by every row, for pairs of a
   query and a document. A second, plain forward pass of the decoder (docs/MODEL.md) and its derivative, in floats, a layer at a time;
   for the converter alone, which judges by it what errors of rows cost (rows.h).

   Matrices are read out of the model file, whatever their type, by multiplying unit rows with them. Both W and its transpose are
   kept, so that all products are dots of rows. Pairs are tasks of the pool; each adds up its own numbers in order. */
#ifndef KALM__GRADIENT_H
#define KALM__GRADIENT_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/exact.h"
#include "../src/public.h"

/* A matrix of a layer as floats. */
typedef struct kalm__dense {
    size_t out, in;
    float *w, *turned;                 /* [out][in], [in][out] */
} kalm__dense;

typedef struct kalm__gradient_pair {
    int32_t *ids;                      /* [tokens] of the prompt */
    size_t   tokens, rows;
    float   *doc, *d_doc;              /* [rows][hidden]: rows, and the gradient of the margin by them */
    float   *x;                        /* [layers + 1][tokens][hidden]: residual rows before each layer, and behind the last */
    float   *dx;                       /* [tokens][hidden] */
    int      failed;
} kalm__gradient_pair;

typedef struct kalm__gradient {
    kalm_context *c;
    kalm__gradient_pair *pair;         /* [pairs] */
    size_t        pairs;
    kalm__dense   m[KALM__T_DOWN + 1];
    float        *room;                /* of m */
    uint32_t      layer;
    int           back;                /* 1: the derivative */
} kalm__gradient;

/* All rows of w and turned, by products with unit rows. */
KALM__FN kalm_result kalm__dense_read(kalm__dense *m, const kalm_context *c, const kalm__layer *l, uint32_t what, kalm_error *err)
{
    const kalm__matrix *from = &l->matrix[what];
    const kalm__kernels *k = c->backend.kernels;
    size_t together = 48, i, j, o, some, acts, scratch;
    unsigned char *block, *at;
    float *x;
    acts = kalm__round_up(kalm__acts_bytes(k, from->type, together, m->in), 64);
    scratch = kalm__round_up(kalm__matmul_scratch(k, from->type, m->in), 64);
    block = (unsigned char *)malloc(64 + acts + scratch + together * m->in * sizeof *x);
    if (!block) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a matrix of %z inputs", m->in);
    at = kalm__align64(block);
    x = (float *)(void *)(at + acts + scratch);
    for (i = 0; i < m->in; i += some) {
        kalm__block b;
        some = kalm__min(together, m->in - i);
        memset(x, 0, some * m->in * sizeof *x);
        for (j = 0; j < some; j++) {
            x[j * m->in + i + j] = 1.0f;
            if (l->rotated[what]) k->ops->hadamard(x + j * m->in, x + j * m->in, m->in);
        }
        b = kalm__block_of(from->type, some, m->in, at);
        kalm__pack(k, b, 0, some, x, m->in);
        kalm__multiply_block(k, from, &b, m->turned + i * m->out, m->out, at + acts);
    }
    free(block);
    for (o = 0; o < m->out; o++)
        for (i = 0; i < m->in; i++) m->w[o * m->in + i] = m->turned[i * m->out + o];
    return KALM_OK;
}

/* y [n][out] = x [n][in] W^T, or with `more` added to what is there; `turned` rows make it x W. */
KALM__FN void kalm__dense_product(const kalm__ops *ops, float *y, const float *x, size_t n, const float *w, size_t out, size_t in, int more)
{
    size_t t, o;
    for (o = 0; o < out; o++)
        for (t = 0; t < n; t++) {
            float v = ops->dot(w + o * in, x + t * in, in);
            y[t * out + o] = more ? y[t * out + o] + v : v;
        }
}

/* dx += the derivative of y = gain x / rms(x) by x, times dy. */
KALM__FN void kalm__norm_back(float *dx, const float *x, const float *gain, const float *dy, size_t n, float eps)
{
    double square = 0, mix = 0, by;
    size_t i;
    for (i = 0; i < n; i++) square += (double)x[i] * (double)x[i];
    by = 1 / sqrt(square / (double)n + (double)eps);
    for (i = 0; i < n; i++) mix += (double)dy[i] * (double)gain[i] * (double)x[i];
    mix *= by * by / (double)n;
    for (i = 0; i < n; i++) dx[i] += (float)(by * ((double)dy[i] * (double)gain[i] - mix * (double)x[i]));
}

/* gelu by its tanh, and the derivative. */
KALM__FN double kalm__gelu(double x, double *slope)
{
    double t = kalm__tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
    *slope = (1 + t) / 2 + x / 2 * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
    return x / 2 * (1 + t);
}

/* Rotate `heads` heads of a row at `position`, or back. */
KALM__FN void kalm__gradient_rotate(float *x, size_t heads, size_t dim, const double *turn, int back)
{
    size_t h, i, half = dim / 2;
    for (h = 0; h < heads; h++, x += dim)
        for (i = 0; i < half; i++) {
            double a = (double)x[i], b = (double)x[i + half], c = turn[2 * i], s = back ? -turn[2 * i + 1] : turn[2 * i + 1];
            x[i] = (float)(a * c - b * s);
            x[i + half] = (float)(b * c + a * s);
        }
}

/* Where the numbers of one pair in one layer stand, in one block. */
typedef struct kalm__gradient_room {
    float *a, *da;                     /* [tokens][hidden] */
    float *q, *rq, *dq;                /* [tokens][heads dim]: raw, normed and turned */
    float *k, *rk, *dk, *v, *dv;       /* [tokens + rows][kv dim]: the document's rows behind the tokens */
    float *o, *d_o;                    /* [tokens][heads dim] */
    float *y, *dy, *mid;               /* [tokens][hidden] */
    float *gate, *up, *dgate, *dup;    /* [tokens][mlp] */
    float *p;                          /* [heads][tokens][tokens + rows] */
    double *turn;                      /* [tokens][dim] */
    void  *block;
} kalm__gradient_room;

KALM__FN int kalm__gradient_take(kalm__gradient_room *r, const kalm__side *s, size_t hidden, size_t t, size_t n)
{
    size_t rows = kalm__add(t, n), turn = kalm__mul(t, s->head_dim);         /* too large for a size_t: SIZE_MAX, in all that it goes into */
    size_t q = kalm__mul(turn, s->heads), k = kalm__mul(kalm__mul(rows, s->kv_heads), s->head_dim);
    size_t h = kalm__mul(t, hidden), m = kalm__mul(t, s->mlp), p = kalm__mul(kalm__mul(rows, t), s->heads);
    size_t floats = kalm__add(kalm__mul(kalm__add(kalm__add(h, q), k), 5), kalm__add(kalm__mul(m, 4), p));
    size_t bytes = kalm__add(kalm__mul(turn, sizeof *r->turn), kalm__mul(floats, sizeof *r->a));
    float *at;
    r->block = bytes < SIZE_MAX ? calloc(1, bytes) : NULL;
    if (!r->block) return 0;
    r->turn = (double *)r->block;
    at = (float *)(void *)(r->turn + turn);
    r->a = at, at += h, r->da = at, at += h, r->y = at, at += h, r->dy = at, at += h, r->mid = at, at += h;
    r->q = at, at += q, r->rq = at, at += q, r->dq = at, at += q, r->o = at, at += q, r->d_o = at, at += q;
    r->k = at, at += k, r->rk = at, at += k, r->dk = at, at += k, r->v = at, at += k, r->dv = at, at += k;
    r->gate = at, at += m, r->up = at, at += m, r->dgate = at, at += m, r->dup = at, at += m;
    r->p = at;
    return 1;
}

/* What token t sees of the keys 0 ... t, and then of all rows of the document. */
KALM__FN int kalm__gradient_sees(const kalm__side *s, int full, size_t t, size_t key, size_t tokens)
{
    return key >= tokens || (key <= t && (full || t - key < s->window));
}

/* Attention of the layer: r->p and r->o. */
KALM__FN void kalm__gradient_attend(const kalm__ops *ops, const kalm__side *s, int full, kalm__gradient_room *r, size_t tokens, size_t rows)
{
    size_t dim = s->head_dim, kv = s->kv_heads * dim, all = tokens + rows, h, t, j, d;
    double scale = 1 / sqrt((double)s->query_scalar);
    for (h = 0; h < s->heads; h++)
        for (t = 0; t < tokens; t++) {
            float *p = r->p + (h * tokens + t) * all, *o = r->o + (t * s->heads + h) * dim;
            const float *q = r->rq + (t * s->heads + h) * dim;
            size_t head = h / (s->heads / s->kv_heads) * dim;
            double most = -1e30, sum = 0;
            for (j = 0; j < all; j++) {
                if (!kalm__gradient_sees(s, full, t, j, tokens)) continue;
                p[j] = (float)(scale * (double)ops->dot(q, r->rk + j * kv + head, dim));
                if ((double)p[j] > most) most = (double)p[j];
            }
            for (j = 0; j < all; j++)
                if (kalm__gradient_sees(s, full, t, j, tokens)) {
                    p[j] = (float)kalm__exp((double)p[j] - most);
                    sum += (double)p[j];
                } else p[j] = 0;
            for (d = 0; d < dim; d++) o[d] = 0;
            for (j = 0; j < all; j++) {
                p[j] = (float)((double)p[j] / sum);
                if (p[j] > 0)
                    for (d = 0; d < dim; d++) o[d] += p[j] * r->v[j * kv + head + d];
            }
        }
}

/* From r->d_o: r->dq, r->dk and r->dv, of the normed and turned queries and keys. */
KALM__FN void kalm__gradient_attend_back(const kalm__ops *ops, const kalm__side *s, kalm__gradient_room *r, size_t tokens, size_t rows)
{
    size_t dim = s->head_dim, kv = s->kv_heads * dim, all = tokens + rows, h, t, j, d;
    float scale = (float)(1 / sqrt((double)s->query_scalar));
    for (h = 0; h < s->heads; h++)
        for (t = 0; t < tokens; t++) {
            const float *p = r->p + (h * tokens + t) * all, *q = r->rq + (t * s->heads + h) * dim;
            const float *go = r->d_o + (t * s->heads + h) * dim;
            float *dq = r->dq + (t * s->heads + h) * dim;
            size_t head = h / (s->heads / s->kv_heads) * dim;
            /* the sum over keys of p times its derivative is the output's: o . d_o */
            float mean = ops->dot(go, r->o + (t * s->heads + h) * dim, dim);
            for (j = 0; j < all; j++) {
                const float *key = r->rk + j * kv + head;
                float *dk = r->dk + j * kv + head, *dv = r->dv + j * kv + head, ds;
                if (!(p[j] > 0)) continue;
                ds = scale * p[j] * (ops->dot(go, r->v + j * kv + head, dim) - mean);
                for (d = 0; d < dim; d++) {
                    dq[d] += ds * key[d];
                    dk[d] += ds * q[d];
                    dv[d] += p[j] * go[d];
                }
            }
        }
}

/* A pair through a layer; with g->back its derivative afterwards: dx of what comes in from dx of what goes out, and d_doc.
   Long: the derivative reads beside the forward pass that it undoes, step by step in the opposite order. */
KALM__FN void kalm__gradient_task(void *arg, size_t i, unsigned worker)
{
    const kalm__gradient *g = (const kalm__gradient *)arg;
    kalm__gradient_pair *pair = &g->pair[i];
    const kalm__stack *st = &g->c->model->file.stack[KALM__DECODER];
    const kalm__layer *l = &st->layers[g->layer];
    const kalm__side *s = &st->shape;
    const kalm__ops *ops = g->c->backend.ops;
    const kalm__dense *w = g->m;
    size_t hidden = g->c->model->file.shape.hidden_size, dim = s->head_dim, wide = s->heads * dim, kv = s->kv_heads * dim, T = pair->tokens;
    size_t N = pair->rows, t, h, k;
    const float *x = pair->x + g->layer * T * hidden;
    float *out = pair->x + (g->layer + 1) * T * hidden, eps = s->norm_eps, *dx = pair->dx;
    kalm__gradient_room r;
    (void)worker;
    if (!kalm__gradient_take(&r, s, hidden, T, N)) {
        pair->failed = 1;
        return;
    }
    for (t = 0; t < T; t++)
        for (k = 0; k < dim / 2; k++) {
            double position = (double)t / (double)(l->full ? s->factor_full : s->factor_sliding);
            double angle = position * kalm__exp(-2.0 * (double)k / (double)dim * kalm__log((double)(l->full ? s->theta_full : s->theta_sliding)));
            kalm__sine_cosine(angle, &r.turn[t * dim + 2 * k + 1], &r.turn[t * dim + 2 * k]);
        }
    ops->rms_norm(r.a, x, l->norm[KALM__T_PRE_ATTENTION], hidden, eps, T);
    kalm__dense_product(ops, r.q, r.a, T, w[KALM__T_Q].w, wide, hidden, 0);
    kalm__dense_product(ops, r.k, r.a, T, w[KALM__T_K].w, kv, hidden, 0);
    kalm__dense_product(ops, r.v, r.a, T, w[KALM__T_V].w, kv, hidden, 0);
    kalm__dense_product(ops, r.k + T * kv, pair->doc, N, w[KALM__T_K].w, kv, hidden, 0);
    kalm__dense_product(ops, r.v + T * kv, pair->doc, N, w[KALM__T_V].w, kv, hidden, 0);
    for (t = 0; t < T + N; t++) {
        if (t < T) ops->rms_norm(r.rq + t * wide, r.q + t * wide, l->norm[KALM__T_Q_NORM], dim, eps, s->heads);
        ops->rms_norm(r.rk + t * kv, r.k + t * kv, l->norm[KALM__T_K_NORM], dim, eps, s->kv_heads);
        if (t < T) kalm__gradient_rotate(r.rq + t * wide, s->heads, dim, r.turn + t * dim, 0);
        if (t < T) kalm__gradient_rotate(r.rk + t * kv, s->kv_heads, dim, r.turn + t * dim, 0);
    }
    kalm__gradient_attend(ops, s, l->full, &r, T, N);
    kalm__dense_product(ops, r.y, r.o, T, w[KALM__T_O].w, hidden, wide, 0);
    ops->rms_norm(r.mid, r.y, l->norm[KALM__T_POST_ATTENTION], hidden, eps, T);
    for (k = 0; k < T * hidden; k++) r.mid[k] += x[k];
    ops->rms_norm(r.a, r.mid, l->norm[KALM__T_PRE_MLP], hidden, eps, T);
    kalm__dense_product(ops, r.gate, r.a, T, w[KALM__T_GATE].w, s->mlp, hidden, 0);
    kalm__dense_product(ops, r.up, r.a, T, w[KALM__T_UP].w, s->mlp, hidden, 0);
    for (k = 0; k < T * s->mlp; k++) {
        double slope, value = kalm__gelu((double)r.gate[k], &slope);
        r.dgate[k] = (float)(slope * (double)r.up[k]);             /* derivatives of the product by both */
        r.dup[k] = (float)value;
        r.gate[k] = (float)(value * (double)r.up[k]);
    }
    kalm__dense_product(ops, r.dy, r.gate, T, w[KALM__T_DOWN].w, hidden, s->mlp, 0);
    if (!g->back) {
        ops->rms_norm(out, r.dy, l->norm[KALM__T_POST_MLP], hidden, eps, T);
        for (k = 0; k < T * hidden; k++) out[k] += r.mid[k];
        free(r.block);
        return;
    }
    /* the MLP */
    memset(r.da, 0, T * hidden * sizeof(float));
    for (t = 0; t < T; t++) kalm__norm_back(r.da + t * hidden, r.dy + t * hidden, l->norm[KALM__T_POST_MLP], dx + t * hidden, hidden, eps);
    kalm__dense_product(ops, r.gate, r.da, T, w[KALM__T_DOWN].turned, s->mlp, hidden, 0);
    for (k = 0; k < T * s->mlp; k++) {
        r.dgate[k] *= r.gate[k];
        r.dup[k] *= r.gate[k];
    }
    kalm__dense_product(ops, r.da, r.dgate, T, w[KALM__T_GATE].turned, hidden, s->mlp, 0);
    kalm__dense_product(ops, r.da, r.dup, T, w[KALM__T_UP].turned, hidden, s->mlp, 1);
    for (t = 0; t < T; t++) kalm__norm_back(dx + t * hidden, r.mid + t * hidden, l->norm[KALM__T_PRE_MLP], r.da + t * hidden, hidden, eps);
    /* attention */
    memset(r.dy, 0, T * hidden * sizeof(float));
    for (t = 0; t < T; t++) kalm__norm_back(r.dy + t * hidden, r.y + t * hidden, l->norm[KALM__T_POST_ATTENTION], dx + t * hidden, hidden, eps);
    kalm__dense_product(ops, r.d_o, r.dy, T, w[KALM__T_O].turned, wide, hidden, 0);
    kalm__gradient_attend_back(ops, s, &r, T, N);
    for (t = 0; t < T + N; t++) {      /* o and rk make room for the derivatives by the raw queries and keys */
        if (t < T) kalm__gradient_rotate(r.dq + t * wide, s->heads, dim, r.turn + t * dim, 1);
        if (t < T) kalm__gradient_rotate(r.dk + t * kv, s->kv_heads, dim, r.turn + t * dim, 1);
        for (k = 0; t < T && k < wide; k++) r.o[t * wide + k] = 0;
        for (k = 0; k < kv; k++) r.rk[t * kv + k] = 0;
        for (h = 0; t < T && h < s->heads; h++)
            kalm__norm_back(r.o + t * wide + h * dim, r.q + t * wide + h * dim, l->norm[KALM__T_Q_NORM], r.dq + t * wide + h * dim, dim, eps);
        for (h = 0; h < s->kv_heads; h++)
            kalm__norm_back(r.rk + t * kv + h * dim, r.k + t * kv + h * dim, l->norm[KALM__T_K_NORM], r.dk + t * kv + h * dim, dim, eps);
    }
    kalm__dense_product(ops, pair->d_doc, r.rk + T * kv, N, w[KALM__T_K].turned, hidden, kv, 1);
    kalm__dense_product(ops, pair->d_doc, r.dv + T * kv, N, w[KALM__T_V].turned, hidden, kv, 1);
    kalm__dense_product(ops, r.da, r.o, T, w[KALM__T_Q].turned, hidden, wide, 0);
    kalm__dense_product(ops, r.da, r.rk, T, w[KALM__T_K].turned, hidden, kv, 1);
    kalm__dense_product(ops, r.da, r.dv, T, w[KALM__T_V].turned, hidden, kv, 1);
    for (t = 0; t < T; t++) kalm__norm_back(dx + t * hidden, x + t * hidden, l->norm[KALM__T_PRE_ATTENTION], r.da + t * hidden, hidden, eps);
    free(r.block);
}

/* The matrices of the layer, then all pairs through it. */
KALM__FN kalm_result kalm__gradient_layer(kalm__gradient *g, uint32_t layer, int back, kalm_error *err)
{
    const kalm__layer *l = &g->c->model->file.stack[KALM__DECODER].layers[layer];
    uint32_t what;
    size_t i;
    kalm_result r = KALM_OK;
    for (what = 0; what <= KALM__T_DOWN && !r; what++) r = kalm__dense_read(&g->m[what], g->c, l, what, err);
    if (!r && kalm__interrupted) r = kalm__fail(err, KALM_CANCELLED, "interrupted");
    if (r) return r;
    g->layer = layer;
    g->back = back;
    kalm__parallel(&g->c->pool, g->pairs, kalm__gradient_task, g);
    for (i = 0; i < g->pairs; i++)
        if (g->pair[i].failed) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the gradient of a document");
    return KALM_OK;
}

/* pair->d_doc of all pairs, whose ids, doc and sizes are set and whose x, dx and d_doc have room. *margin: of the first. */
KALM__FN kalm_result kalm__gradient_run(kalm__gradient *g, float *margin, kalm_error *err)
{
    const kalm__file *f = &g->c->model->file;
    const kalm__stack *s = &f->stack[KALM__DECODER];
    size_t hidden = f->shape.hidden_size, numbers = 0, i, t;
    uint32_t what, l;
    float *z = NULL, *at;
    kalm_result r = KALM_OK;
    for (what = 0; what <= KALM__T_DOWN; what++) {
        uint32_t rows, cols;
        kalm__tensor_shape(&f->shape, KALM__KIND(KALM__DECODER, what), &rows, &cols);
        g->m[what].out = rows;
        g->m[what].in = cols;
        numbers = kalm__add(numbers, kalm__mul(2 * (size_t)rows, cols));
    }
    at = g->room = (float *)malloc(kalm__mul(kalm__add(numbers, 2 * hidden), sizeof *at));
    if (!g->room) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the matrices of a layer");
    for (what = 0; what <= KALM__T_DOWN; what++) {
        g->m[what].w = at, at += g->m[what].out * g->m[what].in;
        g->m[what].turned = at, at += g->m[what].out * g->m[what].in;
    }
    z = at;
    for (i = 0; i < g->pairs; i++)
        for (t = 0; t < g->pair[i].tokens; t++) kalm__embed(f, KALM__DECODER, g->pair[i].ids[t], g->pair[i].x + t * hidden);
    for (l = 0; l < s->shape.layers && !r; l++) r = kalm__gradient_layer(g, l, 0, err);
    for (i = 0; i < g->pairs && !r; i++) {
        kalm__gradient_pair *p = &g->pair[i];
        const float *x = p->x + ((size_t)s->shape.layers * p->tokens + p->tokens - 1) * hidden;
        memset(p->dx, 0, p->tokens * hidden * sizeof(float));
        memset(p->d_doc, 0, p->rows * hidden * sizeof(float));
        for (t = 0; t < hidden; t++) z[t] = f->head[t] - f->head[hidden + t];
        kalm__norm_back(p->dx + (p->tokens - 1) * hidden, x, s->norm, z, hidden, s->shape.norm_eps);
        if (!i) {
            g->c->backend.ops->rms_norm(z + hidden, x, s->norm, hidden, s->shape.norm_eps, 1);
            *margin = g->c->backend.ops->dot(z, z + hidden, hidden);
        }
    }
    for (l = s->shape.layers; l-- && !r; ) r = kalm__gradient_layer(g, l, 1, err);
    free(g->room);
    return r;
}

#endif
