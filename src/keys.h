/* keys.h - how the keys and values of a sequence lie in memory, and how they get there. Attention multiplies queries by keys
   and then weights by values with the matmul kernels (kernels.h), so both are stored as the matrices those want: keys as a
   matrix whose outputs are the keys, values as one whose inputs are the keys. */
/* docs/KERNELS.md: */
/* Beside float weights keys and values are floats. Beside quantised weights values are int8 with one scale a key; keys are
   int8 in the encoder and int16 in the decoder, with one scale a key. Measured on the tiny model (Kendall tau to float32 at
   ratio 4 / 32), decoder: floats .9943 / .9930, keys int8 .9935 / .9926, values int8 .9944 / .9929, keys and values of 12
   bits .9945 / .9933; encoder: no difference.

   With state_bits the keys that states hold are rotated and rounded to 8 bits, their values to 8 or 4, and packed. With keys in 4
   bits as well the margin would change by .108 on average, and not by .026. */
/* end of docs/KERNELS.md */
#ifndef KALM__KEYS_H
#define KALM__KEYS_H

#include "base.h"
#include "format.h"
#include "matmul.h"

enum { KALM__KEY_STEP = 32 };          /* capacities are multiples of it: the q8 kernels take 32 values at a time */

/* What all keys of a stack have in common. `heads` query heads share `kv_heads` heads of keys and values. */
typedef struct kalm__heads {
    size_t   heads, kv_heads, head_dim;
    uint32_t type;                     /* of the keys: KALM__F32, KALM__Q8 or KALM__Q16 */
    uint32_t bits;                     /* state_bits: 8 or 4 of values, 8 of keys, so that they can be packed; 0: not rounded */
    int      rotate;                   /* keys and queries are rotated (kalm__hadamard, ops.h) */
} kalm__heads;

/* docs/FORMAT.md: */
/* Keys and values of one sequence in one layer: one piece for each kv head, each part of it at a multiple of 64 bytes:
     float      keys     float [capacity / 16][head_dim][16]             panels of 16 keys
                values   float [head_dim16 / 16][capacity][16]           panels of 16 channels
     quantised  keys     q8: int8 [capacity / 16][head_dim32 / 4][16][4], int32 sum[capacity];
                         q16: int16 [capacity / 16][head_dim32 / 2][16][2]; both: float scale[capacity]
                values   int8 [head_dim16 / 16][capacity / 4][16][4], float scale[capacity]
   capacity is a multiple of 32; head_dim16 and head_dim32 are head_dim rounded up. */
/* end of docs/FORMAT.md */
/* Keys and values of one sequence in one layer, as docs/FORMAT.md draws them. */
typedef struct kalm__keys {
    unsigned char *data;
    size_t         count, capacity;
} kalm__keys;

/* Where the parts of a piece begin, in bytes; key_sum is for q8 keys alone, the scales for quantised ones. */
typedef struct kalm__key_parts {
    size_t key_scale, key_sum;
    size_t value, value_panel;         /* the values, and the bytes of their panel of 16 channels */
    size_t value_scale;
    size_t size;                       /* of a piece */
} kalm__key_parts;

KALM__FN kalm__key_parts kalm__key_layout(const kalm__heads *h, size_t capacity)
{
    kalm__key_parts p;
    size_t panels = kalm__round_up(h->head_dim, 16) / 16, key = kalm__panel_bytes(h->type, h->head_dim) / 16;
    memset(&p, 0, sizeof p);
    p.key_scale = kalm__mul(capacity, key);
    if (h->type == KALM__F32) {
        p.value = p.key_scale;
        p.value_panel = kalm__mul(capacity, 16 * sizeof(float));
        p.size = kalm__add(p.value, kalm__mul(panels, p.value_panel));
    } else {
        p.key_sum = kalm__add(p.key_scale, kalm__mul(capacity, 4));
        p.value = kalm__add(p.key_sum, h->type == KALM__Q8 ? kalm__mul(capacity, 4) : 0);
        p.value_panel = kalm__mul(capacity, 16);
        p.value_scale = kalm__add(p.value, kalm__mul(panels, p.value_panel));
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

KALM__FN void kalm__store_float_keys(const kalm__heads *h, unsigned char *piece, const kalm__key_parts *part, size_t first, size_t n,
                                     const float *k, const float *v, size_t stride)
{
    size_t i, d, dim = h->head_dim, place;
    void *keys = piece, *values = piece + part->value;
    for (place = first, i = 0; i < n; i++, place++) {
        float *panel = (float *)keys + (place / 16 * 16 * dim + place % 16);
        float *out = (float *)values + place * 16;
        const float *key = k + i * stride, *value = v + i * stride;
        for (d = 0; d < dim; d++) panel[d * 16] = key[d];
        for (d = 0; d < dim; d += 16, out += part->value_panel / sizeof(float)) {
            size_t channels = kalm__min(16, dim - d);
            if (channels < 16) memset(out, 0, 16 * sizeof(float));
            memcpy(out, value + d, channels * sizeof(float));
        }
    }
}

/* Quantised keys of one head at places first ... first + n - 1; k: the first of them, `stride` floats apart. Returns 0 where
   one has numbers that are not finite, which no int8 or int16 can say. */
KALM__FN int kalm__store_quantised_keys(const kalm__heads *h, const kalm__ops *ops, unsigned char *piece,
                                         const kalm__key_parts *part, size_t first, size_t n, const float *k, size_t stride)
{
    size_t i, d, dim = h->head_dim, padded = kalm__round_up(dim, 32);
    void *scale = piece + part->key_scale, *sum = piece + part->key_sum;
    int16_t q16[KALM__MAX_HEAD_DIM];
    void *bytes = q16;
    int8_t *q = (int8_t *)bytes;
    int finite = 1;
    for (i = first; i < first + n; i++, k += stride) {
        unsigned char *panel = piece + i / 16 * kalm__panel_bytes(h->type, dim) + i % 16 * 4;
        if (h->type == KALM__Q8) {
            int32_t total = 0;
            ((float *)scale)[i] = ops->quantise(q, k, dim);
            for (d = dim; d < padded; d++) q[d] = 0;
            for (d = 0; d < padded; d += 4) {
                memcpy(panel + d * 16, q + d, 4);
                total += q[d] + q[d + 1] + q[d + 2] + q[d + 3];
            }
            ((int32_t *)sum)[i] = total;
        } else {
            ((float *)scale)[i] = ops->quantise_int16(q16, k, dim, h->bits ? 127.0f : (float)kalm__int16_limit(dim));
            for (d = dim; d < padded; d++) q16[d] = 0;
            for (d = 0; d < padded; d += 2) memcpy(panel + d * 32, q16 + d, 4);
        }
        finite &= kalm__is_finite(((float *)scale)[i]) && kalm__is_finite(k[0]);
    }
    return finite;
}

/* x in 4 bits: q[i] is one of the odd numbers from -15 to 15, the middle of a sixteenth of the range, and the scale max|x| / 16. */
KALM__FN float kalm__quantise4(const kalm__ops *ops, int8_t *q, const float *x, size_t n)
{
    int16_t fine[KALM__MAX_HEAD_DIM];
    float scale = ops->quantise_int16(fine, x, n, 16383.0f);
    size_t i;
    for (i = 0; i < n; i++) q[i] = (int8_t)((fine[i] + 16384) / 2048 * 2 - 15);
    return kalm__times(scale, 1024.0f);
}

/* The same with values. Four keys lie together: a whole line of them is written where all four are at hand. */
KALM__FN int kalm__store_quantised_values(const kalm__heads *h, const kalm__ops *ops, unsigned char *piece,
                                           const kalm__key_parts *part, size_t first, size_t n, const float *v, size_t stride)
{
    int8_t q[4][KALM__MAX_HEAD_DIM];
    void *scale = piece + part->value_scale;
    size_t i = first, j, d, lane, some, dim = h->head_dim, channels = kalm__round_up(dim, 16);
    int finite = 1;
    for (; i < first + n; i += some) {
        unsigned char *line = piece + part->value + i / 4 * 64;
        some = kalm__min(4 - i % 4, first + n - i);
        for (j = 0; j < some; j++, v += stride) {
            ((float *)scale)[i + j] = h->bits == 4 ? kalm__quantise4(ops, q[j], v, dim) : ops->quantise(q[j], v, dim);
            finite &= kalm__is_finite(((float *)scale)[i + j]) && kalm__is_finite(v[0]);
            for (d = dim; d < channels; d++) q[j][d] = 0;
        }
        for (d = 0; d < channels; d += 16, line += part->value_panel) {
            if (some == 4) ops->interleave(line, q[0] + d, q[1] + d, q[2] + d, q[3] + d);
            else
                for (j = 0; j < some; j++)
                    for (lane = 0; lane < 16; lane++) line[lane * 4 + i % 4 + j] = (unsigned char)q[j][d + lane];
        }
    }
    return finite;
}

/* Put keys and values (all kv heads, [kv_heads][head_dim] each, `stride` floats from one key to the next) at places first ...
   first + n - 1; kalm__end_keys follows. Returns 0 where numbers have overflowed: a norm then gives NaN in every place
   (ops_template.h), a product infinity in some, and int8 would hide either. */
KALM__FN int kalm__store_keys(const kalm__heads *h, const kalm__ops *ops, const kalm__keys *keys, size_t first, size_t n,
                               const float *k, const float *v, size_t stride)
{
    kalm__key_parts part = kalm__key_layout(h, keys->capacity);
    size_t head, i;
    int finite = 1;
    for (head = 0; head < h->kv_heads; head++, k += h->head_dim, v += h->head_dim) {
        unsigned char *piece = keys->data + head * part.size;
        if (h->type == KALM__F32) {
            kalm__store_float_keys(h, piece, &part, first, n, k, v, stride);
            for (i = 0; i < n; i++) finite &= kalm__is_finite(k[i * stride]);
        } else {
            finite &= kalm__store_quantised_keys(h, ops, piece, &part, first, n, k, stride);
            finite &= kalm__store_quantised_values(h, ops, piece, &part, first, n, v, stride);
        }
    }
    return finite;
}

/* The kernels multiply a query with whole panels of 16 keys. Zero the places behind the last key: their products are not looked
   at, but no kernel computes with memory that nobody wrote. */
KALM__FN void kalm__end_key_panel(const kalm__heads *h, unsigned char *piece, const kalm__key_parts *part, size_t count)
{
    size_t bytes = kalm__panel_bytes(h->type, h->head_dim), at, lane = count % 16;
    unsigned char *panel = piece + count / 16 * bytes;
    if (!lane) return;
    for (at = 0; at < bytes; at += 64) memset(panel + at + lane * 4, 0, 64 - lane * 4);
    if (h->type == KALM__F32) return;
    memset(piece + part->key_scale + count * 4, 0, 64 - lane * 4);
    if (h->type == KALM__Q8) memset(piece + part->key_sum + count * 4, 0, 64 - lane * 4);
}

/* They multiply quantised values in whole groups of 32 keys: the places behind the last key up to the end of its group are zero. */
KALM__FN void kalm__end_keys(const kalm__heads *h, const kalm__keys *keys)
{
    kalm__key_parts part = kalm__key_layout(h, keys->capacity);
    size_t head, d, i, lane;
    for (head = 0; head < h->kv_heads; head++) {
        unsigned char *panel = keys->data + head * part.size + part.value;
        kalm__end_key_panel(h, keys->data + head * part.size, &part, keys->count);
        if (h->type == KALM__F32) continue;
        for (d = 0; d < h->head_dim; d += 16, panel += part.value_panel) {
            for (i = keys->count; i % 4; i++)
                for (lane = 0; lane < 16; lane++) panel[i / 4 * 64 + lane * 4 + i % 4] = 0;
            memset(panel + i * 16, 0, (kalm__round_up(i, KALM__KEY_STEP) - i) * 16);
        }
    }
}

/* docs/FORMAT.md: */
/* Packed keys and values [0, n) of a state with state_bits, for each kv head; n16 is n rounded up to 16:
     int8 keys[n16 * head_dim32]       the panels as they lie in memory, their numbers as bytes
     values [head_dim16 / 16]          the first n16 keys of each panel: state_bits 8: as they lie in memory; 4: each 64 numbers
                                       q in 32 bytes, byte i is (q[i] + 15) / 2 + (q[i + 32] + 15) / 2 * 16
     float key_scale[n16], value_scale[n16]                                          zeros behind the n-th in either */
/* end of docs/FORMAT.md */
KALM__FN size_t kalm__packed_bytes(const kalm__heads *h, size_t n)
{
    size_t numbers = kalm__round_up(h->head_dim, 32) + kalm__round_up(h->head_dim, 16) * h->bits / 8;
    return kalm__mul(kalm__round_up(n, 16), h->kv_heads * (numbers + 2 * sizeof(float)));
}

/* n packed values and keys back to their places. Every query goes this way: in copies, of which compilers make vectors, since
   they cannot overlap. */
KALM__FN void kalm__unpack_values(int8_t *q, const unsigned char *p, size_t n)
{
    int8_t out[64];
    unsigned char in[32];
    size_t i;
    for (; n; n -= 64, q += 64, p += 32) {
        memcpy(in, p, 32);
        for (i = 0; i < 32; i++) out[i] = (int8_t)(in[i] % 16 * 2 - 15);
        for (i = 0; i < 32; i++) out[i + 32] = (int8_t)(in[i] / 16 * 2 - 15);
        memcpy(q, out, 64);
    }
}
KALM__FN void kalm__unpack_keys(int16_t *q, const unsigned char *p, size_t n)
{
    int8_t in[32];
    int16_t out[32];
    size_t i;
    for (; n; n -= 32, q += 32, p += 32) {
        memcpy(in, p, 32);
        for (i = 0; i < 32; i++) out[i] = in[i];
        memcpy(q, out, sizeof out);
    }
}

/* Pack keys [0, keys->count) into `stored`, which is zero; or, as every query does, unpack them to their places. */
KALM__FN void kalm__pack_keys(const kalm__heads *h, const kalm__keys *keys, unsigned char *stored, int unpack)
{
    kalm__key_parts part = kalm__key_layout(h, keys->capacity);
    size_t n = kalm__round_up(keys->count, 16), numbers = n * kalm__round_up(h->head_dim, 32), head, i, j;
    for (head = 0; head < h->kv_heads; head++) {
        unsigned char *piece = keys->data + head * part.size;
        void *keys16 = piece;
        if (unpack) kalm__unpack_keys((int16_t *)keys16, stored, numbers);
        else for (i = 0; i < numbers; i++) stored[i] = (unsigned char)((int16_t *)keys16)[i];
        stored += numbers;
        for (i = 0; i < h->head_dim; i += 16, stored += n * 2 * h->bits) {
            void *panel = piece + part.value + i / 16 * part.value_panel;
            if (h->bits == 8) memcpy(unpack ? panel : stored, unpack ? stored : panel, n * 16);
            else if (unpack) kalm__unpack_values((int8_t *)panel, stored, n * 16);
            else for (j = 0; j < n * 8; j++) {
                const int8_t *q = (const int8_t *)panel + j / 32 * 64 + j % 32;
                stored[j] = (unsigned char)((q[0] + 15) / 2 + (q[32] + 15) / 2 * 16);
            }
        }
        for (i = 0; i < 2; i++, stored += n * sizeof(float)) {
            unsigned char *scale = piece + (i ? part.value_scale : part.key_scale);
            memcpy(unpack ? scale : stored, unpack ? stored : scale, keys->count * sizeof(float));
        }
    }
    if (unpack) kalm__end_keys(h, keys);
}

/* Copy keys [0, from->count) to the same places of `to`, whose capacity may differ. */
KALM__FN void kalm__copy_keys(const kalm__heads *h, const kalm__keys *to, const kalm__keys *from)
{
    kalm__key_parts a = kalm__key_layout(h, to->capacity), b = kalm__key_layout(h, from->capacity);
    size_t head, d, n = from->count;
    size_t values = h->type == KALM__F32 ? n * 16 * sizeof(float) : kalm__round_up(n, 4) * 16;       /* of a panel */
    for (head = 0; head < h->kv_heads; head++) {
        unsigned char *out = to->data + head * a.size;
        const unsigned char *in = from->data + head * b.size;
        memcpy(out, in, kalm__round_up(n, 16) / 16 * kalm__panel_bytes(h->type, h->head_dim));
        for (d = 0; d * 16 < h->head_dim; d++)
            memcpy(out + a.value + d * a.value_panel, in + b.value + d * b.value_panel, values);
        if (h->type == KALM__F32) continue;
        memcpy(out + a.key_scale, in + b.key_scale, n * 4);
        if (h->type == KALM__Q8) memcpy(out + a.key_sum, in + b.key_sum, n * 4);
        memcpy(out + a.value_scale, in + b.value_scale, n * 4);
    }
}

#endif
