/* embedding.h - the embedding table, which has a row of numbers for each token of the vocabulary, and how to read a row from
   where it lies in the file. The factor
   sqrt(hidden) and the vector of the end-of-image token are left to layer.h, choosing scales to the converter
   (quantize/codecs.h). */
/* docs/FORMAT.md: */
/* A table is [vocabulary] rows of kalm__embedding_row_bytes, one behind the other without padding; rows lie at any alignment.
   B = hidden rounded up to 32, n = hidden. Little-endian:

     f32         float  [n]
     f16, bf16   uint16 [n]
     q8          +-------------------+--------------------------------+
                 | f16 scale[B / 32] | int8 q[B], zeros behind n      |    x[i] = scale[i / 32] * q[i]
                 +-------------------+--------------------------------+
     q4          +-------------------+--------------------------------+
                 | f16 scale[B / 32] | uint8 q[B / 2]                 |    x[i] = scale[i / 32] * codebook[nibble(i)]
                 +-------------------+--------------------------------+
                 nibble(i) is the low half of q[i / 2] for even i, the high half for odd i; codebook: that of q4
                 matrices, kalm__q4_codebook */
/* end of docs/FORMAT.md */
#ifndef KALM__EMBEDDING_H
#define KALM__EMBEDDING_H

#include "base.h"
#include "kernels.h"

#define KALM__EMBEDDING_BLOCK 32u

/* Bytes of one row; 0 for a type that is none. Saturates, as kalm__mul does. */
KALM__FN size_t kalm__embedding_row_bytes(uint32_t type, size_t hidden_size)
{
    size_t blocks = kalm__round_up(hidden_size, KALM__EMBEDDING_BLOCK) / KALM__EMBEDDING_BLOCK;
    switch (type) {
    case KALM__F32: return kalm__mul(hidden_size, 4);
    case KALM__F16: case KALM__BF16: return kalm__mul(hidden_size, 2);
    case KALM__Q8: return kalm__mul(blocks, 2 + KALM__EMBEDDING_BLOCK);
    case KALM__Q4: return kalm__mul(blocks, 2 + KALM__EMBEDDING_BLOCK / 2);
    default: return 0;
    }
}

/* out [hidden]: the row as floats. */
KALM__FN void kalm__embedding_row(uint32_t type, const void *row, size_t hidden_size, float *out)
{
    const unsigned char *p = (const unsigned char *)row;
    size_t blocks = kalm__round_up(hidden_size, KALM__EMBEDDING_BLOCK) / KALM__EMBEDDING_BLOCK, i;
    const unsigned char *q = p + 2 * blocks;
    float scale = 0.0f;
    switch (type) {
    case KALM__F32:
        for (i = 0; i < hidden_size; i++) out[i] = kalm__f32(p + 4 * i);
        break;
    case KALM__F16:
        for (i = 0; i < hidden_size; i++) out[i] = kalm__from_f16((uint16_t)kalm__u16(p + 2 * i));
        break;
    case KALM__BF16:
        for (i = 0; i < hidden_size; i++) out[i] = kalm__from_bf16((uint16_t)kalm__u16(p + 2 * i));
        break;
    case KALM__Q8: case KALM__Q4:
        for (i = 0; i < hidden_size; i++) {
            if (i % KALM__EMBEDDING_BLOCK == 0) scale = kalm__from_f16((uint16_t)kalm__u16(p + i / KALM__EMBEDDING_BLOCK * 2));
            out[i] = scale * (float)(type == KALM__Q8 ? (int8_t)q[i] : kalm__q4_codebook[q[i / 2] >> (i % 2 * 4) & 15]);
        }
        break;
    default: memset(out, 0, hidden_size * sizeof *out);
    }
}

#endif
