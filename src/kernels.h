/* kernels.h - the contract of the kernel sets: packed matrices, packed activations, and the table of functions that
   each instruction set fills in. Knows nothing of layers or attention.

   A matrix W [rows = outputs n][cols = inputs k] is stored in PANELS of 16 outputs, padded with zeros to a whole panel;
   every set reads these bytes in place from the mapped file:

     f32         panel p: float  [cols][16]                    element (k, j) = W[16 p + j][k]
     f16, bf16   panel p: uint16 [cols][16]
     q8, q4      see blocks.h; W[n][k] = scale[n] * q[n][k] with q in -127..127
     q16         panel p: int16 [cols32 / 2][16][2], zeros behind cols; W[n][k] = scale[n] * q[n][k] with q in
                 +-kalm__int16_limit(cols). In memory only: keys of attention

   scale: float [panels * 16]; sum: int32 [panels * 16], the sum of q[n][k] over all of cols32 (what a set that
   shifts its activations to unsigned bytes subtracts; what q4 has behind cols counts too). sum only for q8 and q4.
   Panels follow each other kalm__panel_bytes() apart unless `stride` says otherwise.

   Activations x [rows][cols] are packed ("acts") in whatever form the set likes. For q8, q4 and q16 each row is
   quantised with one scale, so that all sets hold the same integers: with L = 127, for q16 kalm__int16_limit(cols),
       m = max|x|;  m < 2^-100: q = 0, s = 0 (L / m would overflow);  else q = nearest-even(x * (L / m)),
       s = m * (1 / L), all in float
   NaN or infinity in a row makes that row's results unspecified, and harms nothing else.
   Then y[r][n] = ((float)(sum over k of q_x * q_w) * scale[n]) * s[r], in this order: the same bits on every set.
   WIDE activations, for a q8 matrix of at most 256 inputs whose scales are 1 and whose sums are 0: w = nearest-even(x *
   inverse[r]) in 0..KALM__SPLIT16_MAX, and y = (float)(sum of w * q_w). A set that multiplies words packs them so. One that
   multiplies bytes packs the low ones, w = 256 * high + low, and does the high ones, most of which are 0, row by row, in lines
   of 4 inputs; the parts are added afterwards (ops.h, add_split16).
   Float matrices: y[r][n] = fma chain over k = 0, 1, ... from +0, so that sets with FMA agree to the bit; sets without
   FMA (scalar, WebAssembly's "wasm", ARMv7) round the product as well.
   A row's result never depends on the rows packed beside it. */
#ifndef KALM__KERNELS_H
#define KALM__KERNELS_H

#include "base.h"
#include "exact.h"
#include "blocks.h"

enum {
    KALM__F32 = 0, KALM__F16 = 1, KALM__BF16 = 2, KALM__Q8 = 3, KALM__Q4 = 4,
    KALM__TYPES = 5,                   /* that a file may have */
    KALM__Q16 = 5
};

typedef struct kalm__matrix {
    uint32_t       type;               /* KALM__F32 ... KALM__Q4                        */
    uint32_t       rows, cols;         /* outputs n, inputs k                           */
    const void    *data;               /* panels, 64-byte aligned                       */
    size_t         stride;             /* bytes from a panel to the next, a multiple of 64; 0: kalm__panel_bytes().
                                          With it data may be a range of the inputs of a larger matrix: whole groups
                                          of 32 of q8 (with sums of their own), any of f32, even ones of f16, bf16 */
    const float   *scale;              /* [round_up(rows, 16)], NULL for float types    */
    const int32_t *sum;                /* [round_up(rows, 16)], NULL for float types    */
} kalm__matrix;

KALM__INLINE int kalm__is_quantised(uint32_t type) { return type == KALM__Q8 || type == KALM__Q4; }

/* The largest L with cols * L * L < 2^31, so that no sum of products of words overflows: 2896 for 256 inputs. cols is at
   most 2^21. */
KALM__FN int32_t kalm__int16_limit(size_t cols)
{
    uint32_t below = 0x7fffffffu / (uint32_t)kalm__round_up(cols ? cols : 1, KALM__GROUP), bit, root = 0;
    for (bit = 1u << 14; bit; bit >>= 1)
        if ((root + bit) * (root + bit) <= below) root += bit;
    return (int32_t)root;
}

/* Largest wide activation, 127 * 256 + 127: two signed bytes. */
enum { KALM__SPLIT16_MAX = 32639, KALM__SPLIT16_COLS = 256 };

/* Bytes of one panel (16 outputs) of a matrix with `cols` inputs. */
KALM__FN size_t kalm__panel_bytes(uint32_t type, size_t cols)
{
    switch (type) {
    case KALM__F32: return kalm__mul(64, cols);
    case KALM__F16:
    case KALM__BF16: return kalm__round_up(kalm__mul(32, cols), 64);
    case KALM__Q8: return kalm__q8_panel_bytes(cols);
    case KALM__Q16: return kalm__mul(2, kalm__q8_panel_bytes(cols));
    default: return kalm__q4_panel_bytes(cols);
    }
}

KALM__INLINE size_t kalm__panel_stride(const kalm__matrix *w)
{
    return w->stride ? w->stride : kalm__panel_bytes(w->type, w->cols);
}

/* One instruction set's functions. The sets are constant tables; a context holds a pointer to one.
   All buffers (acts, scratch, panels) begin at multiples of 64 bytes; x and y at multiples of 4. */
typedef struct kalm__kernels {
    const char *name;

    /* Bytes for `rows` packed activation rows of `cols` for a matrix of `type`. */
    size_t (*acts_bytes)(uint32_t type, size_t rows, size_t cols);
    /* Work on one block of `rows` may be cut by rows, for threads or caches: each piece begins at a multiple of
       acts_step (1 to 64) and ends at the next piece's begin or at `rows`. Results do not depend on the cuts. */
    size_t acts_step;
    /* Pack rows [row0, row0 + n) of a block of `rows` into acts; x is the row `row0`, rows `stride` floats apart. */
    void (*pack_acts)(uint32_t type, void *acts, size_t rows, size_t row0, size_t n, const float *x, size_t stride,
                      size_t cols);
    /* Scratch bytes one call of matmul needs (a panel unpacked to cache); the same for every call of a matrix. */
    size_t (*matmul_scratch)(uint32_t type, size_t cols);
    /* y[r - row0][16 * p + j - 16 * panel0] for rows [row0, row0 + n) and panels [panel0, panel0 + panels), y rows
       `stride` floats apart; columns at or behind w->rows are not written. Fast when n is 128 to 512 (a q4 panel is
       unpacked once a call) and panels at least 4. */
    void (*matmul)(const kalm__matrix *w, const void *acts, size_t rows, size_t row0, size_t n, size_t panel0,
                   size_t panels, float *y, size_t stride, void *scratch);

    /* Pack n wide rows, or their low bytes: x [n], `stride` floats apart, inverse [n]. Room: that of q8. high [n]
       [KALM__SPLIT16_COLS] gets the high bytes, and zeros up to cols32, where multiply_high is there. */
    void (*pack_split16)(void *acts, uint8_t *high, size_t n, const float *x, size_t stride, const float *inverse, size_t cols);
    /* y[w->rows] = (float)(sum of high * q_w) of one row; 0, and y as it was, where it has no high bytes. NULL: words. */
    int (*multiply_high)(const kalm__matrix *w, const uint8_t *high, float *y);
} kalm__kernels;

/* Rows whose largest value is below this count as zero: 2^-100, far under what a float model computes with, and far
   enough above FLT_MIN that 127 / m is finite and m / 127 is not subnormal. */
#define KALM__TINY_ROW 7.8886091e-31f

/* The scale of a row from its largest magnitude m, and what to multiply the row by; limit: L above. */
KALM__INLINE float kalm__row_scale(float m, float limit, float *inverse)
{
    if (!(m >= KALM__TINY_ROW)) {
        *inverse = 0.0f;
        return 0.0f;
    }
    *inverse = kalm__over(limit, m);
    return kalm__times(m, kalm__over(1.0f, limit));
}

#endif
