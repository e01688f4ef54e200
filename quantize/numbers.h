/* numbers.h - the numbers of a checkpoint's tensors: raw little-endian F32, F16 and BF16 widened to float, and two tensors
   compared. Decides nothing. */
#ifndef KALM__NUMBERS_H
#define KALM__NUMBERS_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/kernels.h"
#include "safetensors.h"

KALM__FN size_t kalm__element_bytes(uint32_t type) { return type == KALM__F32 ? 4 : 2; }

/* out [n] from n raw numbers of `type`; returns the index of the first that is a NaN or an infinity, or n. */
KALM__FN size_t kalm__widen(uint32_t type, const unsigned char *raw, size_t n, float *out)
{
    size_t i;
    uint32_t bad = 0;
    if (type == KALM__F32) for (i = 0; i < n; i++) out[i] = kalm__f32(raw + 4 * i);
    else if (type == KALM__F16) for (i = 0; i < n; i++) out[i] = kalm__from_f16((uint16_t)kalm__u16(raw + 2 * i));
    else for (i = 0; i < n; i++) out[i] = kalm__from_bf16((uint16_t)kalm__u16(raw + 2 * i));
    for (i = 0; i < n; i++) bad |= !(fabsf(out[i]) <= 3.402823466e38f);
    if (!bad) return n;
    for (i = 0; fabsf(out[i]) <= 3.402823466e38f; i++) {}
    return i;
}

/* Do two tensors of one shape hold the same numbers? Their types may differ. A NaN equals only the NaN of the same bits, so
   that a damaged copy is found. *r is set, and the answer is 0, when they cannot be read. */
KALM__FN int kalm__same_tensor(const kalm__st *st, const kalm__st_tensor *a, const kalm__st_tensor *b, kalm_result *r,
                               kalm_error *err)
{
    enum { CHUNK = 1 << 18 };          /* numbers compared at a time */
    unsigned char *raw = (unsigned char *)malloc((size_t)CHUNK * 4), *raw_b = (unsigned char *)malloc((size_t)CHUNK * 4);
    float *floats = (float *)malloc((size_t)CHUNK * 4), *floats_b = (float *)malloc((size_t)CHUNK * 4);
    size_t a_bytes = kalm__element_bytes(a->type), b_bytes = kalm__element_bytes(b->type), n, i;
    uint64_t at, total = a->size / a_bytes;
    int same = 1;
    if (!raw || !raw_b || !floats || !floats_b) *r = kalm__fail(err, KALM_NO_MEMORY, "no memory to compare two tensors");
    for (at = 0; at < total && same && !*r; at += n) {
        n = (size_t)(total - at < CHUNK ? total - at : CHUNK);
        if (!kalm__input_read(&st->shards[a->shard].source, a->begin + at * a_bytes, raw, n * a_bytes))
            *r = kalm__fail(err, KALM_CANNOT_READ, "tensor %s cannot be read", a->shown);
        else if (!kalm__input_read(&st->shards[b->shard].source, b->begin + at * b_bytes, raw_b, n * b_bytes))
            *r = kalm__fail(err, KALM_CANNOT_READ, "tensor %s cannot be read", b->shown);
        else if (a->type != b->type || memcmp(raw, raw_b, n * a_bytes)) {
            kalm__widen(a->type, raw, n, floats);
            kalm__widen(b->type, raw_b, n, floats_b);
            for (i = 0; i < n && same; i++) same = floats[i] >= floats_b[i] && floats[i] <= floats_b[i];      /* 0 equals -0 */
        }
    }
    free(raw);
    free(raw_b);
    free(floats);
    free(floats_b);
    return same && !*r;
}

#endif
