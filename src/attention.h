/* attention.h - grouped-query attention for one block of queries of one sequence: softmax over document rows (cross) and
   the sequence's own keys (self) in one pass, block of keys by block of keys, with no n x n buffer. It is two matmuls of
   the kernel set around a running softmax: the keys lie packed as a matrix whose outputs are keys, the values as one
   whose inputs are keys.

   Keys and values are kept as floats beside float weights. Beside quantised ones values are int8 with a scale a key (they
   come rotated out of their matrix, ops.h), and softmax weights are wide (kernels.h), since with 8 bits the small weights of a
   long document vanish beside a few large ones: wherever they do, see kalm__weight_unit. Keys are int8 too, rotated, in the
   encoder; words in the decoder. Measured on the tiny model (Kendall tau to float32, r = 4 / 32), decoder: floats .9943 /
   .9930, keys int8 .9935 / .9926, values int8 .9944 / .9929, keys and values of 12 bits .9945 / .9933; encoder: no
   difference. Softmax weights of 7 bits: .983 / .984.

   A result depends on nothing but its own query and the keys it sees: key blocks begin at fixed multiples of
   KALM__KEY_BLOCK, a key outside a query's window adds an exact zero, and a block with none in sight changes nothing. */
#ifndef KALM__ATTENTION_H
#define KALM__ATTENTION_H

#include "base.h"
#include "format.h"
#include "matmul.h"

enum {
    KALM__KEY_BLOCK = KALM__SPLIT16_COLS, /* keys whose scores are held at once */
    KALM__KEY_STEP = 32,               /* capacities are multiples of it: the q8 layout packs 32 values together */
    KALM__QUERY_ROWS = 64              /* queries x heads of a kv head done together, when that many are there */
};

/* What all keys of a stack have in common. */
typedef struct kalm__heads {
    size_t   heads, kv_heads, head_dim;
    uint32_t type;                     /* of the keys: KALM__F32, KALM__Q8 or KALM__Q16 */
} kalm__heads;

/* Packed keys and values of one sequence in one layer, one piece a kv head, each part at a multiple of 64 bytes:
     float      keys     float [capacity / 16][head_dim][16]             panels of 16 keys
                values   float [head_dim16 / 16][capacity][16]           panels of 16 channels
     quantised  keys     q8: int8 [capacity / 16][head_dim32 / 4][16][4], int32 sum[capacity];
                         q16: int16 [capacity / 16][head_dim32 / 2][16][2]; both: float scale[capacity]
                values   int8 [head_dim16 / 16][capacity / 4][16][4], float scale[capacity]
   capacity is a multiple of 32; head_dim16 and head_dim32 are head_dim rounded up. */
typedef struct kalm__keys {
    unsigned char *data;
    size_t         count, capacity;
} kalm__keys;

typedef struct kalm__key_parts {
    size_t key_scale, key_sum, value, value_scale, size;   /* offsets in a kv head's piece; its size */
} kalm__key_parts;

KALM__FN kalm__key_parts kalm__key_layout(const kalm__heads *h, size_t capacity)
{
    kalm__key_parts p;
    size_t channels = kalm__round_up(h->head_dim, 16), panels = kalm__panel_bytes(h->type, h->head_dim) / 16;
    p.key_scale = kalm__mul(capacity, panels);
    if (h->type == KALM__F32) {
        p.key_sum = p.value_scale = 0;
        p.value = p.key_scale;
        p.size = kalm__add(p.value, kalm__mul(capacity, channels * 4));
    } else {
        p.key_sum = kalm__add(p.key_scale, kalm__mul(capacity, 4));
        p.value = kalm__add(p.key_sum, h->type == KALM__Q8 ? kalm__mul(capacity, 4) : 0);
        p.value_scale = kalm__add(p.value, kalm__mul(capacity, channels));
        p.size = kalm__add(p.value_scale, kalm__mul(capacity, 4));
    }
    return p;
}

/* Bytes of all kv heads' pieces. Proportional to the capacity, so that sequences can share a buffer end to end. */
KALM__FN size_t kalm__key_bytes(const kalm__heads *h, size_t capacity)
{
    return kalm__mul(kalm__key_layout(h, capacity).size, h->kv_heads);
}

/* ---- putting keys in --------------------------------------------------------------------------------------------- */

/* Quantised keys of one head at places first ... first + n - 1; k: the first of them, `stride` floats apart. */
KALM__FN void kalm__store_quantised_keys(const kalm__heads *h, const kalm__ops *ops, unsigned char *piece,
                                         const kalm__key_parts *part, size_t first, size_t n, const float *k, size_t stride)
{
    size_t i, d, dim = h->head_dim, wide = kalm__round_up(dim, 32);
    void *scale = piece + part->key_scale, *sum = piece + part->key_sum;
    int16_t words[KALM__MAX_HEAD_DIM];
    void *bytes = words;
    int8_t *q = (int8_t *)bytes;
    for (i = first; i < first + n; i++, k += stride) {
        unsigned char *panel = piece + i / 16 * kalm__panel_bytes(h->type, dim) + i % 16 * 4;
        if (h->type == KALM__Q8) {
            int32_t total = 0;
            ((float *)scale)[i] = ops->quantise(q, k, dim);
            for (d = 0; d < dim; d++) total += q[d];
            for (d = dim; d < wide; d++) q[d] = 0;
            for (d = 0; d < wide; d += 4) memcpy(panel + d * 16, q + d, 4);
            ((int32_t *)sum)[i] = total;
        } else {
            ((float *)scale)[i] = ops->quantise_int16(words, k, dim, (float)kalm__int16_limit(dim));
            for (d = dim; d < wide; d++) words[d] = 0;
            for (d = 0; d < wide; d += 2) memcpy(panel + d * 32, words + d, 4);
        }
    }
}

/* The same with values, which lie four keys together: whole lines of them where that many are at hand. */
KALM__FN void kalm__store_quantised_values(const kalm__heads *h, const kalm__ops *ops, unsigned char *piece,
                                           const kalm__key_parts *part, size_t capacity, size_t first, size_t n, const float *v,
                                           size_t stride)
{
    int8_t q[4][KALM__MAX_HEAD_DIM];
    void *scale = piece + part->value_scale;
    size_t i = first, j, d, lane, some, dim = h->head_dim, channels = kalm__round_up(dim, 16);
    for (; i < first + n; i += some) {
        some = kalm__min(4 - i % 4, first + n - i);
        for (j = 0; j < some; j++, v += stride) {
            ((float *)scale)[i + j] = ops->quantise(q[j], v, dim);
            for (d = dim; d < channels; d++) q[j][d] = 0;
        }
        for (d = 0; d < channels; d += 16) {
            unsigned char *line = piece + part->value + d * capacity + i / 4 * 64;
            if (some == 4) ops->interleave(line, q[0] + d, q[1] + d, q[2] + d, q[3] + d);
            else
                for (j = 0; j < some; j++)
                    for (lane = 0; lane < 16; lane++) line[lane * 4 + i % 4 + j] = (unsigned char)q[j][d + lane];
        }
    }
}

/* Put keys and values (all kv heads, [kv_heads][head_dim] each, `stride` floats from one key to the next) at places first ...
   first + n - 1. kalm__end_keys follows once all are in. */
KALM__FN void kalm__store_keys(const kalm__heads *h, const kalm__ops *ops, const kalm__keys *keys, size_t first, size_t n,
                               const float *k, const float *v, size_t stride)
{
    kalm__key_parts part = kalm__key_layout(h, keys->capacity);
    size_t head, i, d, dim = h->head_dim;
    for (head = 0; head < h->kv_heads; head++, k += dim, v += dim) {
        unsigned char *piece = keys->data + head * part.size;
        void *place = piece, *values = piece + part.value;
        if (h->type != KALM__F32) {
            kalm__store_quantised_keys(h, ops, piece, &part, first, n, k, stride);
            kalm__store_quantised_values(h, ops, piece, &part, keys->capacity, first, n, v, stride);
            continue;
        }
        for (i = 0; i < n; i++) {
            const float *key = k + i * stride, *value = v + i * stride;
            float *panel = (float *)place + ((first + i) / 16 * 16 * dim + (first + i) % 16);
            float *out = (float *)values + (first + i) * 16;
            for (d = 0; d < dim; d++) panel[d * 16] = key[d];
            for (d = 0; d + 16 <= dim; d += 16) memcpy(out + d * keys->capacity, value + d, 16 * sizeof(float));
            if (d < dim) {
                memset(out + d * keys->capacity, 0, 16 * sizeof(float));
                memcpy(out + d * keys->capacity, value + d, (dim - d) * sizeof(float));
            }
        }
    }
}

/* Zero the quantised values behind the last key that its group of 32 has: whole groups are multiplied, by zeros there, and
   nothing should depend on memory that nobody wrote. */
KALM__FN void kalm__end_keys(const kalm__heads *h, const kalm__keys *keys)
{
    kalm__key_parts part = kalm__key_layout(h, keys->capacity);
    size_t head, channels = kalm__round_up(h->head_dim, 16), d, i, lane;
    if (h->type == KALM__F32) return;
    for (head = 0; head < h->kv_heads; head++)
        for (d = 0; d < channels; d += 16) {
            unsigned char *panel = keys->data + head * part.size + part.value + d * keys->capacity;
            for (i = keys->count; i % 4; i++)
                for (lane = 0; lane < 16; lane++) panel[i / 4 * 64 + lane * 4 + i % 4] = 0;
            memset(panel + i * 16, 0, (kalm__round_up(i, KALM__KEY_STEP) - i) * 16);
        }
}

/* ---- attending ------------------------------------------------------------------------------------------------------ */

typedef struct kalm__attention {
    const kalm__backend *backend;
    kalm__heads shape;
    kalm__keys  cross, self;           /* either may have count 0, not both */
    /* the query at position i sees own keys [i - left, i + right], as far as they exist; SIZE_MAX for no limit */
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
    float *product, *sum;              /* [rows][head_dim]: weights times values, of wide ones the low bytes */
    float *product_high;               /* [head_dim]: the high bytes of one row */
    float *top, *total;                /* [rows]: running maximum, running sum */
    float *factor;                     /* [rows]: what the new maximum leaves of the sums so far */
    float *unit, *inverse;             /* [rows]: of wide weights, and what makes them of floats */
    float *ones;                       /* [head_dim16] */
    int32_t *zeros;                    /* [head_dim16] */
    uint8_t *high;                     /* [rows][KEY_BLOCK]: the high bytes of wide weights */
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
   whole, among keys that get less than one step. With 2047 steps only the largest weights need a second byte; a key that takes
   nearly everything beside a long tail needs up to 32639. Looks at its own row alone. */
KALM__FN float kalm__weight_unit(const kalm__ops *ops, const float *p, size_t n, float most, float *inverse)
{
    float steps = 2047.0f, all, tail;
    for (; steps < (float)KALM__SPLIT16_MAX; steps *= 4.0f) {
        tail = ops->sum_below(p, n, kalm__over(most, steps), &all);
        if (kalm__times(tail, 128.0f) < all) break;
    }
    return kalm__row_scale(most, steps < (float)KALM__SPLIT16_MAX ? steps : (float)KALM__SPLIT16_MAX, inverse);
}

/* Scores of row r in keys [first, end) become weights: e^(score - top), zero for keys out of sight, with the sums so far
   rescaled where the maximum has grown; times the values' scales where those are quantised. */
KALM__FN void kalm__online_softmax(const kalm__attention *a, const kalm__attention_scratch *s, size_t r, size_t first, size_t end,
                           size_t from, size_t to, const float *value_scale)
{
    const kalm__ops *ops = a->backend->ops;
    float *p = s->scores + r * KALM__KEY_BLOCK, *seen = p + (from - first);
    s->factor[r] = 1.0f;
    if (value_scale) s->unit[r] = s->inverse[r] = 0.0f;
    if (to > from) {
        float top = ops->row_max(seen, to - from), sum, most;
        if (top < s->top[r]) top = s->top[r];
        s->factor[r] = s->total[r] > 0.0f ? kalm__exp_one(s->top[r] - top) : 0.0f;
        if (value_scale) {
            sum = ops->exp_weigh(seen, to - from, top, value_scale + from, &most);
            s->unit[r] = kalm__weight_unit(ops, seen, to - from, most, &s->inverse[r]);
        } else sum = ops->exp_sum(seen, to - from, top);
        s->total[r] = kalm__plus(kalm__times(s->total[r], s->factor[r]), sum);
        s->top[r] = top;
    }
    memset(p, 0, (from - first) * sizeof(float));
    memset(p + (to - first), 0, (end - to) * sizeof(float));
}

/* What a block of keys adds: sum[r] = sum[r] * factor[r] + p[r] . values, m being their range. The first block has no sum yet,
   the last one divides by the total and leaves the results in place. */
KALM__FN void kalm__add_values(const kalm__attention *a, const kalm__attention_scratch *s, const kalm__matrix *m, size_t rows,
                               size_t query, size_t kv_head, int first, int last)
{
    const kalm__kernels *kern = a->backend->kernels;
    size_t dim = a->shape.head_dim, group = a->shape.heads / a->shape.kv_heads, r;
    int wide = a->shape.type != KALM__F32;
    kalm__block block = kalm__block_of(m->type, rows, m->cols, s->acts_p);
    if (wide) kalm__pack_split16(kern, block, s->high, s->scores, KALM__KEY_BLOCK, s->inverse);
    else kalm__pack(kern, block, 0, rows, s->scores, KALM__KEY_BLOCK);
    kalm__multiply_block(kern, m, &block, s->product, dim, s->matmul);
    for (r = 0; r < rows; r++) {
        float *sum = s->sum + r * dim;
        float *out = a->out + ((query + r / group) * a->shape.heads + kv_head * group + r % group) * dim;
        int two = wide && kern->multiply_high && kern->multiply_high(m, s->high + r * KALM__KEY_BLOCK, s->product_high);
        a->backend->ops->add_split16(last ? out : sum, first ? NULL : sum, s->factor[r], wide ? s->unit[r] : 1.0f,
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
    size_t dim = h->head_dim, group = h->heads / h->kv_heads, n = end - first, r;
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

    for (r = 0; r < rows; r++) {
        size_t from = first, to = end;
        if (keys == &a->self) {
            size_t at = a->position + query + r / group;
            if (at > a->left && at - a->left > from) from = at - a->left;
            if (a->right < end && at + a->right + 1 < end) to = at + a->right + 1;
        }
        if (from >= to) from = to = first;         /* nothing in sight: weights of zero, and the sums stay as they are */
        kalm__online_softmax(a, s, r, first, end, from, to, quantised ? (const float *)value_scale : NULL);
    }

    m.rows = (uint32_t)dim;
    m.cols = (uint32_t)n;
    if (quantised) {
        m.type = KALM__Q8;
        m.data = piece + part.value + first * 16;
        m.stride = keys->capacity * 16;
        m.scale = s->ones;
        m.sum = s->zeros;
    } else {
        m.data = piece + part.value + first * 16 * sizeof(float);
        m.stride = keys->capacity * 16 * sizeof(float);
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

    if (a->self.count) {               /* own keys that some of the queries sees: [low, high) */
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
