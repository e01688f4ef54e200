/* kernels.h - the contract of the kernel sets: packed matrices, packed activations, and the table of functions that each
   instruction set fills in. Knows nothing of layers or attention.

   A matrix W [rows = outputs n][cols = inputs k] is stored in PANELS of 16 outputs, padded with zeros to a whole panel;
   every set reads these bytes in place from the mapped file:

     f32         panel p: float  [cols][16]                    element (k, j) = W[16 p + j][k]
     f16, bf16   panel p: uint16 [cols][16]
     q8          panel p: int8   [cols4 / 4][16][4]            cols4 = cols rounded up to 32, zeros behind cols;
                 W[n][k] = scale[n] * q[n][k], q in -127..127
     q4          see quantize/blocks.h; a panel unpacks to a q8 panel, with the same scale[n]

   scale: float [panels * 16]; sum: int32 [panels * 16], the sum over k of q[n][k] (what a set that shifts its
   activations to unsigned bytes subtracts). Both only for q8 and q4.

   Activations x [rows][cols] are packed ("acts") in whatever form the set likes; q8/q4 matrices quantise each row to
   int8 with one scale, s = max|x| / 127, q = round-to-nearest-even(x * (127 / max|x|)), so that all sets hold the same integers.
   Then y[r][n] = ((float)(sum over k of q_x * q_w) * scale[n]) * s[r], in this order: the same bits on every set.
   Float matrices: y[r][n] = fma chain over k = 0, 1, ... from +0, so that sets with FMA agree to the bit.
   A row's result never depends on the rows packed beside it. */
#ifndef KALM__KERNELS_H
#define KALM__KERNELS_H

#include "base.h"

enum { KALM__F32 = 0, KALM__F16 = 1, KALM__BF16 = 2, KALM__Q8 = 3, KALM__Q4 = 4, KALM__TYPES = 5 };

typedef struct kalm__matrix {
    uint32_t       type;               /* KALM__F32 ... KALM__Q4                        */
    uint32_t       rows, cols;         /* outputs n, inputs k                           */
    const void    *data;               /* panels, 64-byte aligned                       */
    const float   *scale;              /* [round_up(rows, 16)], NULL for float types    */
    const int32_t *sum;                /* [round_up(rows, 16)], NULL for float types    */
} kalm__matrix;

/* Bytes of one panel (16 outputs) of a matrix with `cols` inputs. */
KALM__FN size_t kalm__panel_bytes(uint32_t type, size_t cols);

/* One instruction set's functions. The sets are constant tables; a context holds a pointer to one. */
typedef struct kalm__kernels {
    const char *name;

    /* Bytes for `rows` packed activation rows of `cols` for a matrix of `type`. */
    size_t (*acts_bytes)(uint32_t type, size_t rows, size_t cols);
    /* Rows of x may be packed from several threads in pieces: each piece begins at a multiple of acts_step. */
    size_t acts_step;
    /* Pack rows [row0, row0 + n) of a block of `rows` into acts (64-byte aligned); x is the row `row0`, rows `stride`
       floats apart. */
    void (*pack_acts)(uint32_t type, void *acts, size_t rows, size_t row0, size_t n, const float *x, size_t stride,
                      size_t cols);
    /* Scratch bytes one call of matmul needs (a panel unpacked to cache), 64-byte aligned. */
    size_t (*matmul_scratch)(uint32_t type, size_t cols);
    /* y[r - row0][16 * p + j - 16 * panel0] for rows [row0, row0 + n) (row0 a multiple of acts_step) and panels
       [panel0, panel0 + panels), y rows `stride` floats apart; columns at or behind w->rows are not written. */
    void (*matmul)(const kalm__matrix *w, const void *acts, size_t rows, size_t row0, size_t n, size_t panel0,
                   size_t panels, float *y, size_t stride, void *scratch);
} kalm__kernels;

#endif
