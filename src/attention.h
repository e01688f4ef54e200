/* attention.h - grouped-query attention for one block of queries of one sequence: softmax over document rows (cross) and
   the sequence's own keys (self) in one pass, block of keys by block of keys, with no n x n buffer. It is two matmuls of
   the kernel set around a running softmax: the keys lie packed as a matrix whose outputs are keys, the values as one
   whose inputs are keys.

   Keys and values are kept as floats beside float weights, and as int8 with a scale a key beside quantised ones. Then
   queries and keys are rotated first (ops.h; values come rotated out of their matrix), and the softmax weights are split
   into two int8 planes, 15 bits together: with one plane the small weights of a long document vanish. Measured on the
   tiny model (Kendall tau to float32, r = 4 / 32): float attention .994 / .992, one plane .983 / .984.

   A result depends on nothing but its own query and the keys it sees: key blocks begin at fixed multiples of
   KALM__KEY_BLOCK, a key outside a query's window adds an exact zero, and a block with none in sight changes nothing. */
#ifndef KALM__ATTENTION_H
#define KALM__ATTENTION_H

#include "base.h"
#include "format.h"
#include "matmul.h"

enum {
    KALM__KEY_BLOCK = 256,             /* keys whose scores are held at once */
    KALM__KEY_STEP = 32,               /* capacities are multiples of it: the q8 layout packs 32 values together */
    KALM__QUERY_ROWS = 64              /* queries x heads of a kv head done together, when that many are there */
};

/* What all keys of a stack have in common. */
typedef struct kalm__heads {
    size_t heads, kv_heads, head_dim;
    int    quantised;
} kalm__heads;

/* Packed keys and values of one sequence in one layer, one piece a kv head, each part at a multiple of 64 bytes:
     float      keys     float [capacity / 16][head_dim][16]             panels of 16 keys
                values   float [head_dim16 / 16][capacity][16]           panels of 16 channels
     quantised  keys     int8 [capacity / 16][head_dim32 / 4][16][4], float scale[capacity], int32 sum[capacity]
                values   int8 [head_dim16 / 16][capacity / 4][16][4], float scale[capacity],
                         int32 sum[capacity / 32][head_dim16]            of each 32 keys' values
   capacity is a multiple of 32; head_dim16 and head_dim32 are head_dim rounded up. */
typedef struct kalm__keys {
    unsigned char *data;
    size_t         count, capacity;
} kalm__keys;

typedef struct kalm__key_parts {
    size_t key_scale, key_sum, value, value_scale, value_sum, size;   /* offsets in a kv head's piece; its size */
} kalm__key_parts;

KALM__FN kalm__key_parts kalm__key_layout(const kalm__heads *h, size_t capacity)
{
    kalm__key_parts p;
    size_t channels = kalm__round_up(h->head_dim, 16);
    if (h->quantised) {
        p.key_scale = kalm__mul(capacity, kalm__round_up(h->head_dim, 32));
        p.key_sum = kalm__add(p.key_scale, kalm__mul(capacity, 4));
        p.value = kalm__add(p.key_sum, kalm__mul(capacity, 4));
        p.value_scale = kalm__add(p.value, kalm__mul(capacity, channels));
        p.value_sum = kalm__add(p.value_scale, kalm__mul(capacity, 4));
        p.size = kalm__add(p.value_sum, kalm__mul(capacity / 32, channels * 4));
    } else {
        p.key_scale = p.key_sum = p.value_scale = p.value_sum = 0;
        p.value = kalm__mul(capacity, h->head_dim * 4);
        p.size = kalm__add(p.value, kalm__mul(capacity, channels * 4));
    }
    return p;
}

/* Bytes of all kv heads' pieces. Proportional to the capacity, so that sequences can share a buffer end to end. */
KALM__FN size_t kalm__key_bytes(const kalm__heads *h, size_t capacity)
{
    return kalm__mul(kalm__key_layout(h, capacity).size, h->kv_heads);
}

/* ---- putting keys in --------------------------------------------------------------------------------------------- */

/* Put one key and one value (all kv heads, [kv_heads][head_dim]) at place i. The sums of quantised values follow, once all
   are in, by kalm__sum_values. */
KALM__FN void kalm__store_key(const kalm__heads *h, const kalm__ops *ops, const kalm__keys *keys, size_t i, const float *k,
                              const float *v)
{
    kalm__key_parts part = kalm__key_layout(h, keys->capacity);
    size_t head, d, dim = h->head_dim;
    for (head = 0; head < h->kv_heads; head++, k += dim, v += dim) {
        unsigned char *piece = keys->data + head * part.size;
        if (h->quantised) {
            int8_t q[KALM__MAX_HEAD_DIM];
            size_t wide = kalm__round_up(dim, 32), channels = kalm__round_up(dim, 16);
            unsigned char *panel = piece + i / 16 * 16 * wide + i % 16 * 4;
            unsigned char *out = piece + part.value + i / 4 * 64 + i % 4;
            void *scale = piece + part.key_scale, *sum = piece + part.key_sum, *value_scale = piece + part.value_scale;
            int32_t total = 0;
            ((float *)scale)[i] = ops->quantise(q, k, dim);
            for (d = 0; d < dim; d++) total += q[d];
            for (d = dim; d < wide; d++) q[d] = 0;
            for (d = 0; d < wide; d += 4) memcpy(panel + d * 16, q + d, 4);
            ((int32_t *)sum)[i] = total;
            ((float *)value_scale)[i] = ops->quantise(q, v, dim);
            for (d = dim; d < channels; d++) q[d] = 0;
            for (d = 0; d < channels; d++) out[d / 16 * 16 * keys->capacity + d % 16 * 4] = (unsigned char)q[d];
        } else {
            void *place = piece, *values = piece + part.value;
            float *panel = (float *)place + (i / 16 * 16 * dim + i % 16), *out = (float *)values + i * 16;
            for (d = 0; d < dim; d++) panel[d * 16] = k[d];
            for (d = 0; d + 16 <= dim; d += 16) memcpy(out + d * keys->capacity, v + d, 16 * sizeof(float));
            if (d < dim) {
                memset(out + d * keys->capacity, 0, 16 * sizeof(float));
                memcpy(out + d * keys->capacity, v + d, (dim - d) * sizeof(float));
            }
        }
    }
}

/* Zero the places behind the last key that its group of 32 has, and sum the quantised values of each group from `first`
   on: what the kernel sets that shift activations to unsigned bytes take off again. */
KALM__FN void kalm__sum_values(const kalm__heads *h, const kalm__keys *keys, size_t first)
{
    kalm__key_parts part = kalm__key_layout(h, keys->capacity);
    size_t head, channels = kalm__round_up(h->head_dim, 16), d, g, i;
    if (!h->quantised) return;
    for (head = 0; head < h->kv_heads; head++) {
        unsigned char *piece = keys->data + head * part.size;
        void *place = piece + part.value_sum;
        int32_t *sums = (int32_t *)place;
        for (g = first / 32; g * 32 < keys->count; g++)
            for (d = 0; d < channels; d += 16) {
                unsigned char *panel = piece + part.value + d * keys->capacity + g * 512;
                int32_t s[16];
                for (i = keys->count - g * 32; i < 32; i++) {
                    size_t lane;
                    for (lane = 0; lane < 16; lane++) panel[i / 4 * 64 + lane * 4 + i % 4] = 0;
                }
                for (i = 0; i < 16; i++) s[i] = 0;
                for (i = 0; i < 512; i++) s[i / 4 % 16] += (int8_t)panel[i];
                memcpy(sums + g * channels + d, s, sizeof s);
            }
    }
}

/* ---- attending ------------------------------------------------------------------------------------------------------ */

typedef struct kalm__attention {
    const kalm__machine *machine;
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
    float *planes;                     /* quantised: [2 rows][KEY_BLOCK] */
    float *product, *sum;              /* [rows, quantised 2 rows][head_dim]; [rows][head_dim] */
    float *top, *total;                /* [rows]: running maximum, running sum */
    float *factor;                     /* [rows]: what the new maximum leaves of the sums so far */
    float *unit;                       /* [rows]: of the planes */
    float *ones;                       /* [head_dim16] */
    int32_t *sums;                     /* [head_dim16] */
    void  *acts_q, *acts_p, *matmul;
} kalm__attention_scratch;

/* Bytes a block of queries works in; fills in *s when base is there. */
KALM__FN size_t kalm__attention_scratch_plan(kalm__attention_scratch *s, unsigned char *base, const kalm__kernels *k,
                                             const kalm__heads *h, size_t rows)
{
    uint32_t type = h->quantised ? KALM__Q8 : KALM__F32;
    size_t channels = kalm__round_up(h->head_dim, 16), planes = h->quantised ? 2 * rows : rows, f = sizeof(float);
    kalm__arena a;
    a.base = base;
    a.used = 0;
    a.size = SIZE_MAX;
    s->q = (float *)kalm__take(&a, rows * h->head_dim * f);
    s->scores = (float *)kalm__take(&a, rows * KALM__KEY_BLOCK * f);
    s->planes = h->quantised ? (float *)kalm__take(&a, planes * KALM__KEY_BLOCK * f) : s->scores;
    s->product = (float *)kalm__take(&a, planes * h->head_dim * f);
    s->sum = (float *)kalm__take(&a, rows * h->head_dim * f);
    s->top = (float *)kalm__take(&a, rows * f);
    s->total = (float *)kalm__take(&a, rows * f);
    s->factor = (float *)kalm__take(&a, rows * f);
    s->unit = (float *)kalm__take(&a, rows * f);
    s->ones = (float *)kalm__take(&a, channels * f);
    s->sums = (int32_t *)kalm__take(&a, channels * sizeof(int32_t));
    s->acts_q = kalm__take(&a, k->acts_bytes(type, rows, h->head_dim));
    s->acts_p = kalm__take(&a, k->acts_bytes(type, planes, KALM__KEY_BLOCK));
    s->matmul = kalm__take(&a, kalm__max(k->matmul_scratch(type, h->head_dim), k->matmul_scratch(type, KALM__KEY_BLOCK)));
    return a.used;
}

/* One block of at most KEY_BLOCK keys [first, end), first a multiple of KEY_STEP: scores, running softmax, values. */
KALM__FN void kalm__attend_block(const kalm__attention *a, const kalm__attention_scratch *s, const kalm__keys *keys,
                                 size_t kv_head, size_t first, size_t end, size_t rows, size_t group, size_t query,
                                 int is_self)
{
    const kalm__kernels *kern = a->machine->kernels;
    const kalm__ops *ops = a->machine->ops;
    const kalm__heads *h = &a->shape;
    const kalm__key_parts part = kalm__key_layout(h, keys->capacity);
    const unsigned char *piece = keys->data + kv_head * part.size;
    const void *key_scale = piece + part.key_scale, *key_sum = piece + part.key_sum;
    const void *value_scale = piece + part.value_scale, *value_sum = piece + part.value_sum;
    size_t dim = h->head_dim, channels = kalm__round_up(dim, 16), n = end - first, r, i, g;
    kalm__matrix m;
    KALM_ASSERT(first % KALM__KEY_STEP == 0);

    /* scores[r][j] = q[r] . k[first + j] */
    memset(&m, 0, sizeof m);
    m.type = h->quantised ? KALM__Q8 : KALM__F32;
    m.rows = (uint32_t)n;
    m.cols = (uint32_t)dim;
    if (h->quantised) {
        m.data = piece + first * kalm__round_up(dim, 32);
        m.scale = (const float *)key_scale + first;
        m.sum = (const int32_t *)key_sum + first;
    } else {
        m.data = piece + first * dim * sizeof(float);
    }
    kern->matmul(&m, s->acts_q, rows, 0, rows, 0, (n + 15) / 16, s->scores, KALM__KEY_BLOCK, s->matmul);

    for (r = 0; r < rows; r++) {
        float *p = s->scores + r * KALM__KEY_BLOCK, *high = s->planes + r * KALM__KEY_BLOCK;
        float *low = s->planes + (rows + r) * KALM__KEY_BLOCK, top;
        size_t from = first, to = end;
        if (is_self) {
            size_t at = a->position + query + r / group;
            if (at > a->left && at - a->left > from) from = at - a->left;
            if (a->right < end && at + a->right + 1 < end) to = at + a->right + 1;
        }
        if (from >= to) from = to = first;         /* nothing in sight: weights of zero, and the sums stay as they are */
        s->factor[r] = 1.0f;
        if (to > from) {
            top = ops->row_max(p + (from - first), to - from);
            if (top < s->top[r]) top = s->top[r];
            s->factor[r] = s->total[r] > 0.0f ? expf(s->top[r] - top) : 0.0f;
            s->total[r] = s->total[r] * s->factor[r] + ops->exp_sum(p + (from - first), p + (from - first), to - from, top);
            s->top[r] = top;
        }
        if (h->quantised) {
            s->unit[r] = ops->split(high + (from - first), low + (from - first), p + (from - first),
                                    (const float *)value_scale + from, to - from);
            memset(low, 0, (from - first) * sizeof(float));
            memset(low + (to - first), 0, (end - to) * sizeof(float));
        }
        memset(high, 0, (from - first) * sizeof(float));
        memset(high + (to - first), 0, (end - to) * sizeof(float));
    }

    /* sum[r] = sum[r] * factor[r] + p[r] . values */
    m.rows = (uint32_t)dim;
    m.cols = (uint32_t)n;
    if (h->quantised) {
        m.data = piece + part.value + first * 16;
        m.stride = keys->capacity * 16;
        m.scale = s->ones;
        m.sum = s->sums;
        memset(s->sums, 0, channels * sizeof *s->sums);
        for (g = first / 32; g * 32 < end; g++)
            for (i = 0; i < channels; i++) s->sums[i] += ((const int32_t *)value_sum)[g * channels + i];
        kern->pack_acts(KALM__Q8, s->acts_p, 2 * rows, 0, 2 * rows, s->planes, KALM__KEY_BLOCK, n);
        kern->matmul(&m, s->acts_p, 2 * rows, 0, 2 * rows, 0, channels / 16, s->product, dim, s->matmul);
        for (r = 0; r < rows; r++)
            ops->add_planes(s->sum + r * dim, s->factor[r], s->unit[r], s->product + r * dim, s->product + (rows + r) * dim, dim);
    } else {
        m.data = piece + part.value + first * 16 * sizeof(float);
        m.stride = keys->capacity * 16 * sizeof(float);
        kern->pack_acts(KALM__F32, s->acts_p, rows, 0, rows, s->scores, KALM__KEY_BLOCK, n);
        kern->matmul(&m, s->acts_p, rows, 0, rows, 0, channels / 16, s->product, dim, s->matmul);
        for (r = 0; r < rows; r++) ops->scale_add(s->sum + r * dim, s->factor[r], s->product + r * dim, dim);
    }
}

/* Attention of queries [query, query + count) and the heads of one kv head; count at most kalm__query_block. */
KALM__FN void kalm__attend(const kalm__attention *a, size_t query, size_t count, size_t kv_head, unsigned char *scratch)
{
    const kalm__kernels *kern = a->machine->kernels;
    size_t group = a->shape.heads / a->shape.kv_heads, rows = count * group, dim = a->shape.head_dim, row = a->shape.heads * dim;
    size_t r, b;
    kalm__attention_scratch s;
    (void)kalm__attention_scratch_plan(&s, scratch, kern, &a->shape, rows);

    for (r = 0; r < count; r++)
        memcpy(s.q + r * group * dim, a->q + (query + r) * row + kv_head * group * dim, group * dim * sizeof(float));
    kern->pack_acts(a->shape.quantised ? KALM__Q8 : KALM__F32, s.acts_q, rows, 0, rows, s.q, dim, dim);
    memset(s.sum, 0, rows * dim * sizeof(float));
    for (r = 0; r < rows; r++) {
        s.top[r] = -INFINITY;
        s.total[r] = 0.0f;
    }
    for (r = 0; r < kalm__round_up(dim, 16); r++) s.ones[r] = 1.0f;

    for (b = 0; b < a->cross.count; b += KALM__KEY_BLOCK)
        kalm__attend_block(a, &s, &a->cross, kv_head, b, kalm__min(b + KALM__KEY_BLOCK, a->cross.count), rows, group, query, 0);
    if (a->self.count) {
        size_t low = a->position + query, high = low + count - 1;
        low = low > a->left ? (low - a->left) / KALM__KEY_STEP * KALM__KEY_STEP : 0;
        high = a->right < a->self.count && high + a->right + 1 < a->self.count ? high + a->right + 1 : a->self.count;
        for (b = low / KALM__KEY_BLOCK * KALM__KEY_BLOCK; b < high; b += KALM__KEY_BLOCK)
            kalm__attend_block(a, &s, &a->self, kv_head, kalm__max(b, low), kalm__min(b + KALM__KEY_BLOCK, high), rows, group,
                               query, 1);
    }

    for (r = 0; r < rows; r++)
        a->machine->ops->scale_row(a->out + (query + r / group) * row + (kv_head * group + r % group) * dim, s.sum + r * dim,
                                   1.0f / s.total[r], dim);
}

#endif
