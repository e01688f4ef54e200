/* attention.h - attention of one block of queries of one sequence. Each query attends to two sets of keys, the rows of a document
   ("cross"; decoder only) and the tokens of its own sequence ("self"), under one softmax: this is the merged attention of
   T5Gemma 2. It goes through the keys in blocks with a running maximum and a running sum (online softmax), so no buffer is as
   long as the text: scores of a block are one product of the matmul kernels, weights times values another. */
/* docs/KERNELS.md: */
/* Several query heads share one head of keys and values (grouped-query attention); they are rows of the same product.

   Beside quantised weights the softmax weights of a block are 16-bit integers in two bytes (split16, kernels.h). In 8 bits the
   many small weights of a long document would be zero beside a few large ones: on the tiny model Kendall tau to float32 falls
   from .994 to .983.

   A result depends on its own query and the keys that it attends to alone: blocks of keys begin at fixed multiples of
   KALM__KEY_BLOCK, a key outside of a query's window adds an exact zero, a block without any key in the window nothing. */
/* end of docs/KERNELS.md */
#ifndef KALM__ATTENTION_H
#define KALM__ATTENTION_H

#include "base.h"
#include "keys.h"

enum {
    KALM__KEY_BLOCK = KALM__SPLIT16_COLS, /* keys whose scores are held at once */
    KALM__QUERY_ROWS = 64              /* queries x heads of a kv head done together, when that many are there */
};

typedef struct kalm__attention {
    const kalm__backend *backend;
    kalm__heads shape;
    kalm__keys  cross, self;           /* either may have count 0, not both */
    /* the query at position i attends to the own keys [i - left, i + right], as far as they exist; SIZE_MAX for no limit */
    size_t      left, right;
    size_t      position;              /* of query 0 */
    const float *q;                    /* [queries][heads][head_dim], normed, scaled, rotated by position (and by ops.h) */
    float       *out;                  /* the same shape */
} kalm__attention;

/* Queries in one block, so that with their heads they make KALM__QUERY_ROWS rows. */
KALM__INLINE size_t kalm__query_block(const kalm__heads *h)
{
    return kalm__max(1, KALM__QUERY_ROWS / (h->heads / h->kv_heads));
}

typedef struct kalm__attention_scratch {
    float *q;                          /* [rows][head_dim] */
    float *scores;                     /* [rows][KEY_BLOCK], then softmax weights */
    float *product, *sum;              /* [rows][head_dim]: weights times values; of int16 weights the low bytes */
    float *product_high;               /* [head_dim]: the high bytes of one row */
    float *top, *total;                /* [rows]: running maximum, running sum */
    float *factor;                     /* [rows]: what the new maximum leaves of the sums so far */
    float *unit, *inverse;             /* [rows]: of int16 weights: the scale, and its inverse */
    float *ones;                       /* [head_dim16] */
    int32_t *zeros;                    /* [head_dim16] */
    uint8_t *high;                     /* [rows][KEY_BLOCK]: the high bytes of int16 weights */
    void  *acts_q, *acts_p, *matmul;
} kalm__attention_scratch;

/* Bytes a block of queries works in; fills in *s when base is there. */
KALM__FN size_t kalm__attention_scratch_plan(kalm__attention_scratch *s, unsigned char *base, const kalm__kernels *k,
                                             const kalm__heads *h, size_t rows)
{
    uint32_t values = h->type == KALM__F32 ? KALM__F32 : KALM__Q8;
    size_t channels = kalm__round_up(h->head_dim, 16), f = sizeof(float);
    kalm__arena a;
    a.base = base;
    a.taken = 0;
    a.size = SIZE_MAX;
    memset(s, 0, sizeof *s);
    s->q = (float *)kalm__take(&a, rows * h->head_dim * f);
    s->scores = (float *)kalm__take(&a, rows * KALM__KEY_BLOCK * f);
    s->product = (float *)kalm__take(&a, rows * h->head_dim * f);
    s->sum = (float *)kalm__take(&a, rows * h->head_dim * f);
    s->top = (float *)kalm__take(&a, rows * f);
    s->total = (float *)kalm__take(&a, rows * f);
    s->factor = (float *)kalm__take(&a, rows * f);
    s->acts_q = kalm__take(&a, kalm__acts_bytes(k, h->type, rows, h->head_dim));
    s->acts_p = kalm__take(&a, kalm__acts_bytes(k, values, rows, KALM__KEY_BLOCK));
    s->matmul = kalm__take(&a, kalm__max(kalm__matmul_scratch(k, h->type, h->head_dim),
                                           kalm__matmul_scratch(k, values, KALM__KEY_BLOCK)));
    if (h->type == KALM__F32) return a.taken;
    s->product_high = (float *)kalm__take(&a, h->head_dim * f);
    s->high = (uint8_t *)kalm__take(&a, rows * KALM__KEY_BLOCK);
    s->unit = (float *)kalm__take(&a, rows * f);
    s->inverse = (float *)kalm__take(&a, rows * f);
    s->ones = (float *)kalm__take(&a, channels * f);
    s->zeros = (int32_t *)kalm__take(&a, channels * sizeof(int32_t));
    return a.taken;
}

/* The unit that quantised weights p[n] are whole numbers of: the coarsest that leaves next to nothing, below 1/128 of the
   whole, among keys that get less than one step. With 2047 steps only the largest weights need a second byte; a key that
   takes nearly everything beside a long tail needs up to 32639. Looks at its own row alone. */
KALM__FN float kalm__weight_unit(const kalm__ops *ops, const float *p, size_t n, float most, float *inverse)
{
    float steps = 2047.0f, all, tail;
    for (; steps < (float)KALM__SPLIT16_MAX; steps *= 4.0f) {
        tail = ops->sum_below(p, n, kalm__over(most, steps), &all);
        if (kalm__times(tail, 128.0f) < all) break;
    }
    return kalm__row_scale(most, steps < (float)KALM__SPLIT16_MAX ? steps : (float)KALM__SPLIT16_MAX, inverse);
}

/* Scores of all rows in keys [first, end) become weights: e^(score - top), zero for keys outside of the query's window, with the sums so
   far rescaled where the maximum has grown; times the values' scales where those are quantised. `query`: of row 0; own: the keys are
   those of the sequence. First the maxima and factors of all rows: one by one each would wait for its own. */
KALM__FN void kalm__online_softmax(const kalm__attention *a, const kalm__attention_scratch *s, int own, size_t rows, size_t query,
                                   size_t first, size_t end, const float *value_scale)
{
    const kalm__ops *ops = a->backend->ops;
    size_t group = a->shape.heads / a->shape.kv_heads, i, r, from, to;
    for (i = 0; i < 2 * rows; i++) {   /* all rows for their factors, then all for their weights */
        float *p, *seen, top, most, sum;
        r = i < rows ? i : i - rows, from = first, to = end;
        if (own) {
            size_t at = a->position + query + r / group;
            if (at > a->left && at - a->left > from) from = at - a->left;
            if (a->right < end && at + a->right + 1 < end) to = at + a->right + 1;
        }
        if (from >= to) from = to = first;         /* no key within the window: weights of zero, and the sums stay as they are */
        p = s->scores + r * KALM__KEY_BLOCK, seen = p + (from - first), top = s->top[r];
        if (i < rows) {
            if (to > from) top = ops->row_max(seen, to - from);
            if (top < s->top[r]) top = s->top[r];
            s->factor[r] = top > s->top[r] ? s->top[r] - top : 0.0f;
            s->top[r] = top;
            if (i + 1 == rows) (void)ops->exp_sum(s->factor, rows, 0.0f, NULL, NULL);
            continue;
        }
        if (value_scale) s->unit[r] = s->inverse[r] = 0.0f;
        if (to > from) {
            sum = ops->exp_sum(seen, to - from, top, value_scale ? value_scale + from : NULL, &most);
            if (value_scale) s->unit[r] = kalm__weight_unit(ops, seen, to - from, most, &s->inverse[r]);
            s->total[r] = kalm__plus(kalm__times(s->total[r], s->factor[r]), sum);
        }
        memset(p, 0, (from - first) * sizeof(float));
        memset(p + (to - first), 0, (end - to) * sizeof(float));
    }
}

/* What a block of keys adds: sum[r] = sum[r] * factor[r] + p[r] . values, m being their range. The first block has no sum
   yet, the last one divides by the total and leaves the results in place. */
KALM__FN void kalm__add_values(const kalm__attention *a, const kalm__attention_scratch *s, const kalm__matrix *m, size_t rows,
                               size_t query, size_t kv_head, int first, int last)
{
    const kalm__kernels *kern = a->backend->kernels;
    size_t dim = a->shape.head_dim, group = a->shape.heads / a->shape.kv_heads, r;
    int is_split16 = a->shape.type != KALM__F32;
    kalm__block block = kalm__block_of(m->type, rows, m->cols, s->acts_p);
    if (is_split16) kalm__pack_split16(kern, block, s->high, s->scores, KALM__KEY_BLOCK, s->inverse);
    else kalm__pack(kern, block, 0, rows, s->scores, KALM__KEY_BLOCK);
    kalm__multiply_block(kern, m, &block, s->product, dim, s->matmul);
    for (r = 0; r < rows; r++) {
        float *sum = s->sum + r * dim;
        float *out = a->out + ((query + r / group) * a->shape.heads + kv_head * group + r % group) * dim;
        int two = is_split16 && kern->multiply_high && kern->multiply_high(m, s->high + r * KALM__KEY_BLOCK, s->product_high);
        a->backend->ops->add_split16(last ? out : sum, first ? NULL : sum, s->factor[r], is_split16 ? s->unit[r] : 1.0f,
                                  two ? s->product_high : NULL, s->product + r * dim,
                                  last ? kalm__over(1.0f, s->total[r]) : 1.0f, dim);
    }
}

/* One block of at most KEY_BLOCK keys [first, end), first a multiple of KEY_STEP: scores, running softmax, values. */
KALM__FN void kalm__attend_block(const kalm__attention *a, const kalm__attention_scratch *s, const kalm__keys *keys,
                                 size_t kv_head, size_t first, size_t end, size_t rows, size_t query, int is_first,
                                 int is_last)
{
    const kalm__kernels *kern = a->backend->kernels;
    const kalm__heads *h = &a->shape;
    const kalm__key_parts part = kalm__key_layout(h, keys->capacity);
    const unsigned char *piece = keys->data + kv_head * part.size;
    const void *key_scale = piece + part.key_scale, *key_sum = piece + part.key_sum, *value_scale = piece + part.value_scale;
    size_t dim = h->head_dim, n = end - first;
    int quantised = h->type != KALM__F32;
    kalm__matrix m;
    kalm__block block;
    KALM_ASSERT(first % KALM__KEY_STEP == 0);

    /* scores[r][j] = q[r] . k[first + j] */
    memset(&m, 0, sizeof m);
    m.type = h->type;
    m.rows = (uint32_t)n;
    m.cols = (uint32_t)dim;
    m.data = piece + first / 16 * kalm__panel_bytes(h->type, dim);
    if (quantised) m.scale = (const float *)key_scale + first;
    if (h->type == KALM__Q8) m.sum = (const int32_t *)key_sum + first;
    block = kalm__block_of(h->type, rows, dim, s->acts_q);
    kalm__multiply_block(kern, &m, &block, s->scores, KALM__KEY_BLOCK, s->matmul);

    kalm__online_softmax(a, s, keys == &a->self, rows, query, first, end, quantised ? (const float *)value_scale : NULL);

    m.rows = (uint32_t)dim;
    m.cols = (uint32_t)n;
    if (quantised) {
        m.type = KALM__Q8;
        m.data = piece + part.value + first * 16;
        m.stride = part.value_panel;
        m.scale = s->ones;
        m.sum = s->zeros;
    } else {
        m.data = piece + part.value + first * 16 * sizeof(float);
        m.stride = part.value_panel;
    }
    kalm__add_values(a, s, &m, rows, query, kv_head, is_first, is_last);
}

/* Attention of queries [query, query + count) and the heads of one kv head; count at most kalm__query_block. */
KALM__FN void kalm__attend(const kalm__attention *a, size_t query, size_t count, size_t kv_head, unsigned char *scratch)
{
    const kalm__kernels *kern = a->backend->kernels;
    size_t group = a->shape.heads / a->shape.kv_heads, rows = count * group, dim = a->shape.head_dim, row = a->shape.heads * dim;
    size_t r, b, low = 0, high = 0;
    const float *q = a->q + query * row;
    kalm__attention_scratch s;
    (void)kalm__attention_scratch_plan(&s, scratch, kern, &a->shape, rows);

    if (a->shape.kv_heads > 1) {       /* else they lie one behind the other already */
        for (r = 0; r < count; r++)
            memcpy(s.q + r * group * dim, q + r * row + kv_head * group * dim, group * dim * sizeof(float));
        q = s.q;
    }
    kalm__pack(kern, kalm__block_of(a->shape.type, rows, dim, s.acts_q), 0, rows, q, dim);
    for (r = 0; r < rows; r++) {
        s.top[r] = -INFINITY;
        s.total[r] = 0.0f;
    }
    for (r = 0; s.ones && r < kalm__round_up(dim, 16); r++) s.ones[r] = 1.0f, s.zeros[r] = 0;

    if (a->self.count) {               /* own keys that some of the queries attend to: [low, high) */
        low = a->position + query, high = low + count;
        low = low > a->left ? (low - a->left) / KALM__KEY_STEP * KALM__KEY_STEP : 0;
        high = a->right < a->self.count && high + a->right < a->self.count ? high + a->right : a->self.count;
    }
    for (b = 0; b < a->cross.count; b += KALM__KEY_BLOCK)
        kalm__attend_block(a, &s, &a->cross, kv_head, b, kalm__min(b + KALM__KEY_BLOCK, a->cross.count), rows, query, b == 0,
                           b + KALM__KEY_BLOCK >= a->cross.count && !high);
    for (b = low / KALM__KEY_BLOCK * KALM__KEY_BLOCK; b < high; b += KALM__KEY_BLOCK)
        kalm__attend_block(a, &s, &a->self, kv_head, kalm__max(b, low), kalm__min(b + KALM__KEY_BLOCK, high), rows, query,
                           b <= low && !a->cross.count, b + KALM__KEY_BLOCK >= high);
}

#endif
