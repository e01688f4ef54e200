/* attention.h - grouped-query attention for one block of queries of one sequence: softmax over document rows (cross) and
   the sequence's own keys (self) in one pass, block of keys by block of keys, with no n x n buffer. It is two matmuls of
   the kernel set around a running softmax: the keys lie packed as a matrix whose outputs are keys, the values as one
   whose inputs are keys.

   A result depends on nothing but its own query and the keys it sees: key blocks begin at fixed multiples of
   KALM__KEY_BLOCK, a key outside a query's window adds an exact zero, and a block with none in sight changes nothing. */
#ifndef KALM__ATTENTION_H
#define KALM__ATTENTION_H

#include "base.h"
#include "matmul.h"

enum {
    KALM__KEY_BLOCK = 128,             /* keys whose scores are held at once */
    KALM__QUERY_ROWS = 64              /* queries x heads of a kv head done together, when that many are there */
};

/* Packed keys and values of one sequence in one layer: float
     k  [kv_heads][capacity / 16][head_dim][16]          panels of 16 keys
     v  [kv_heads][head_dim16 / 16][capacity][16]        panels of 16 channels
   capacity is a multiple of 16; head_dim16 is head_dim rounded up to 16. */
typedef struct kalm__keys {
    float *k, *v;
    size_t count, capacity;
} kalm__keys;

KALM__INLINE size_t kalm__key_floats(size_t capacity, size_t kv_heads, size_t head_dim)
{
    return kalm__mul(kalm__mul(capacity, kv_heads), head_dim);
}
KALM__INLINE size_t kalm__value_floats(size_t capacity, size_t kv_heads, size_t head_dim)
{
    return kalm__mul(kalm__mul(capacity, kv_heads), kalm__round_up(head_dim, 16));
}

/* Put one key and one value (all kv heads, [kv_heads][head_dim]) at place i. */
KALM__FN void kalm__store_key(const kalm__keys *keys, size_t i, const float *k, const float *v, size_t kv_heads,
                              size_t head_dim)
{
    size_t h, d, wide = kalm__round_up(head_dim, 16);
    for (h = 0; h < kv_heads; h++) {
        float *panel = keys->k + ((h * keys->capacity + i / 16 * 16) * head_dim + i % 16);
        float *out = keys->v + (h * wide * keys->capacity + i * 16);
        for (d = 0; d < head_dim; d++) panel[d * 16] = k[h * head_dim + d];
        for (d = 0; d + 16 <= head_dim; d += 16)
            memcpy(out + d * keys->capacity, v + h * head_dim + d, 16 * sizeof(float));
        if (d < head_dim) {
            memset(out + d * keys->capacity, 0, 16 * sizeof(float));
            memcpy(out + d * keys->capacity, v + h * head_dim + d, (head_dim - d) * sizeof(float));
        }
    }
}

typedef struct kalm__attention {
    const kalm__machine *machine;
    size_t      heads, kv_heads, head_dim;
    kalm__keys  cross, self;           /* either may have count 0, not both */
    /* the query at position i sees own keys [i - left, i + right], as far as they exist; SIZE_MAX for no limit */
    size_t      left, right;
    size_t      position;              /* of query 0 */
    const float *q;                    /* [queries][heads][head_dim], normed, scaled and rotated */
    float       *out;                  /* the same shape */
} kalm__attention;

/* Queries in one block, so that with their heads they make KALM__QUERY_ROWS rows. */
KALM__INLINE size_t kalm__query_block(size_t heads, size_t kv_heads)
{
    size_t group = heads / kv_heads;
    return kalm__max(1, KALM__QUERY_ROWS / group);
}

typedef struct kalm__attention_scratch {
    float *q;                          /* [rows][head_dim] */
    float *scores;                     /* [rows][KEY_BLOCK] */
    float *product, *sum;              /* [rows][head_dim] */
    float *top, *total;                /* [rows]: running maximum, running sum */
    float *factor;                     /* [rows]: what the new maximum leaves of the sums so far */
    void  *acts_q, *acts_p, *matmul;
} kalm__attention_scratch;

/* Bytes a block of queries works in; fills in *s when base is there. */
KALM__FN size_t kalm__attention_scratch_plan(kalm__attention_scratch *s, unsigned char *base, const kalm__kernels *k,
                                             size_t rows, size_t head_dim)
{
    kalm__arena a;
    a.base = base;
    a.used = 0;
    a.size = SIZE_MAX;
    s->q = (float *)kalm__take(&a, rows * head_dim * sizeof(float));
    s->scores = (float *)kalm__take(&a, rows * KALM__KEY_BLOCK * sizeof(float));
    s->product = (float *)kalm__take(&a, rows * head_dim * sizeof(float));
    s->sum = (float *)kalm__take(&a, rows * head_dim * sizeof(float));
    s->top = (float *)kalm__take(&a, rows * sizeof(float));
    s->total = (float *)kalm__take(&a, rows * sizeof(float));
    s->factor = (float *)kalm__take(&a, rows * sizeof(float));
    s->acts_q = kalm__take(&a, k->acts_bytes(KALM__F32, rows, head_dim));
    s->acts_p = kalm__take(&a, k->acts_bytes(KALM__F32, rows, KALM__KEY_BLOCK));
    s->matmul = kalm__take(&a, kalm__max(k->matmul_scratch(KALM__F32, head_dim),
                                         k->matmul_scratch(KALM__F32, KALM__KEY_BLOCK)));
    return a.used;
}

/* One block of at most KEY_BLOCK keys [first, end): scores, running softmax, values. `see` gives for each query row the
   keys it sees as [see[0], see[1]). */
KALM__FN void kalm__attend_block(const kalm__attention *a, const kalm__attention_scratch *s, const kalm__keys *keys,
                                 size_t kv_head, size_t first, size_t end, size_t rows, size_t group, size_t query,
                                 int is_self)
{
    const kalm__kernels *kern = a->machine->kernels;
    const kalm__ops *ops = a->machine->ops;
    size_t dim = a->head_dim, wide = kalm__round_up(dim, 16), n = end - first, r;
    kalm__matrix m;
    KALM_ASSERT(first % 16 == 0);

    /* scores[r][j] = q[r] . k[first + j] */
    memset(&m, 0, sizeof m);
    m.type = KALM__F32;
    m.rows = (uint32_t)n;
    m.cols = (uint32_t)dim;
    m.data = keys->k + (kv_head * keys->capacity + first) * dim;
    kern->matmul(&m, s->acts_q, rows, 0, rows, 0, (n + 15) / 16, s->scores, KALM__KEY_BLOCK, s->matmul);

    for (r = 0; r < rows; r++) {
        float *p = s->scores + r * KALM__KEY_BLOCK, top;
        size_t from = first, to = end, i;
        if (is_self) {
            size_t at = a->position + query + r / group;
            if (at > a->left && at - a->left > from) from = at - a->left;
            if (a->right < end && at + a->right + 1 < end) to = at + a->right + 1;
        }
        if (from >= to) {              /* nothing in sight: weights of zero, and the sum stays as it is */
            for (i = 0; i < n; i++) p[i] = 0.0f;
            s->factor[r] = 1.0f;
            continue;
        }
        top = ops->row_max(p + (from - first), to - from);
        if (top < s->top[r]) top = s->top[r];
        s->factor[r] = s->total[r] > 0.0f ? expf(s->top[r] - top) : 0.0f;
        s->total[r] = s->total[r] * s->factor[r] + ops->exp_sum(p + (from - first), p + (from - first), to - from, top);
        s->top[r] = top;
        for (i = 0; i < from - first; i++) p[i] = 0.0f;
        for (i = to - first; i < n; i++) p[i] = 0.0f;
    }

    /* sum[r] = sum[r] * factor[r] + p[r] . values */
    kern->pack_acts(KALM__F32, s->acts_p, rows, 0, rows, s->scores, KALM__KEY_BLOCK, n);
    m.rows = (uint32_t)dim;
    m.cols = (uint32_t)n;
    m.data = keys->v + (kv_head * wide * keys->capacity + first * 16);
    m.stride = keys->capacity * 16 * sizeof(float);
    kern->matmul(&m, s->acts_p, rows, 0, rows, 0, wide / 16, s->product, dim, s->matmul);
    for (r = 0; r < rows; r++) ops->scale_add(s->sum + r * dim, s->factor[r], s->product + r * dim, dim);
}

/* Attention of queries [query, query + count) and the heads of one kv head; count at most kalm__query_block. */
KALM__FN void kalm__attend(const kalm__attention *a, size_t query, size_t count, size_t kv_head, unsigned char *scratch)
{
    const kalm__kernels *kern = a->machine->kernels;
    size_t group = a->heads / a->kv_heads, rows = count * group, dim = a->head_dim, row = a->heads * dim, r, b;
    kalm__attention_scratch s;
    (void)kalm__attention_scratch_plan(&s, scratch, kern, rows, dim);

    for (r = 0; r < count; r++)
        memcpy(s.q + r * group * dim, a->q + (query + r) * row + kv_head * group * dim, group * dim * sizeof(float));
    kern->pack_acts(KALM__F32, s.acts_q, rows, 0, rows, s.q, dim, dim);
    memset(s.sum, 0, rows * dim * sizeof(float));
    for (r = 0; r < rows; r++) {
        s.top[r] = -INFINITY;
        s.total[r] = 0.0f;
    }

    for (b = 0; b < a->cross.count; b += KALM__KEY_BLOCK)
        kalm__attend_block(a, &s, &a->cross, kv_head, b, kalm__min(b + KALM__KEY_BLOCK, a->cross.count), rows, group, query, 0);
    if (a->self.count) {
        size_t low = a->position + query, high = low + count - 1;
        low = low > a->left ? (low - a->left) / 16 * 16 : 0;
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
