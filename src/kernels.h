/* kernels.h - the contract of the kernel sets: how matrices and activations are packed, what a product computes, and the table by
   which each instruction set says what it has. Knows nothing of layers or attention. */
/* docs/FORMAT.md: */
/* A matrix W [rows = outputs n][cols = inputs k] is stored in PANELS of 16 outputs, padded with zeros to a whole panel;
   every set reads these bytes in place from the mapped file:

     f32         panel p: float  [cols][16]                    element (k, j) = W[16 p + j][k]
     f16, bf16   panel p: uint16 [cols][16]
     q8, q4      see blocks.h; W[n][k] = scale[n] * q[n][k] with q in -127..127
     q16         panel p: int16 [cols32 / 2][16][2], zeros behind cols; W[n][k] = scale[n] * q[n][k] with q in
                 +-kalm__int16_limit(cols). In memory only: keys of attention

   cols32 is cols rounded up to 32. scale: float [panels * 16]; sum: int32 [panels * 16], the sum of q[n][k] over all of cols32
   (what a set that shifts its activations to unsigned bytes subtracts; what q4 has behind cols counts too). sum only for q8 and
   q4. Panels follow each other kalm__panel_bytes() apart unless `stride` says otherwise.

   Activations are rows x [rows][cols], which are packed ("acts") in whatever form the set likes. For q8, q4 and q16 each row is
   quantised with one scale, so that all sets hold the same integers: with L = 127, for q16 kalm__int16_limit(cols),
       m = max|x|;  m < 2^-100: q = 0, s = 0 (L / m would overflow);  else q = nearest-even(x * (L / m)),
       s = m * (1 / L), all in float
   NaN or infinity in a row makes that row's results unspecified, and harms nothing else.
   The product is y[r][n] = ((float)(sum over k of q_x * q_w) * scale[n]) * s[r], in this order: the same bits on every set.
   Float matrices: y[r][n] = a chain of fused multiply-adds over k = 0, 1, ... from +0, so that sets with FMA agree to the bit;
   sets without FMA (scalar, WebAssembly's "wasm", ARMv7) round the product as well.
   A row's result never depends on the rows packed beside it.

   SPLIT16 activations have 16 bits though the matrix has 8: softmax weights times values, for example. The matrix is q8, has at
   most 256 inputs, its scales are 1 and its sums are 0; the activations are w = nearest-even(x * inverse[r]), from 0 to
   KALM__SPLIT16_MAX, and y = (float)(sum over k of w * q_w). A set whose kernels multiply int16 packs them as int16. A set whose
   kernels multiply bytes splits w = 256 * high + low: the product above is that of the low bytes, and multiply_high gives that
   of the high bytes for one row at a time. Most of them are 0, so it visits only groups of 4 inputs that have one that is not.
   add_split16 (ops_template.h) puts the two together. */
/* end of docs/FORMAT.md */
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

/* The largest L with cols * L * L < 2^31, so that no sum of products of int16 overflows: 2896 for 256 inputs. cols is at
   most 2^21. */
KALM__FN int32_t kalm__int16_limit(size_t cols)
{
    uint32_t below = 0x7fffffffu / (uint32_t)kalm__round_up(cols ? cols : 1, KALM__GROUP), bit, root = 0;
    for (bit = 1u << 14; bit; bit >>= 1)
        if ((root + bit) * (root + bit) <= below) root += bit;
    return (int32_t)root;
}

/* The largest split16 activation, 127 * 256 + 127: two signed bytes. */
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

/* A block: rows that are packed together, as activations for a matrix of `type` with `cols` inputs. Work on it may be cut by
   rows, for threads or caches: a piece begins at a multiple of KALM__ACTS_STEP and ends where the next begins, or at `rows`.
   Results do not depend on the cuts. */
typedef struct kalm__block {
    uint32_t type;
    size_t   rows, cols;
    void    *acts;                     /* kalm__acts_bytes() (kernels_tiles.h), at a multiple of 64 */
} kalm__block;
enum { KALM__ACTS_STEP = 48 };

KALM__INLINE kalm__block kalm__block_of(uint32_t type, size_t rows, size_t cols, void *acts)
{
    kalm__block b;
    b.type = type, b.rows = rows, b.cols = cols, b.acts = acts;
    return b;
}

/* A product: rows [row0, row0 + n) of a block that was packed for w, times panels [panel0, panel0 + panels) of w. y[r - row0]
   [16 * p + j - 16 * panel0], rows `stride` floats apart; columns at or behind w->rows are not written. Fast when n is 128 to
   512 (a q4 panel is unpacked once a call) and panels at least 4. */
typedef struct kalm__matmul_job {
    const kalm__matrix *w;
    const void         *acts;
    size_t              rows;          /* of the block */
    size_t              row0, n, panel0, panels;
    float              *y;
    size_t              stride;
    void               *scratch;       /* kalm__matmul_scratch() bytes, at a multiple of 64 */
    const void         *next;          /* panels that the caller wants next, asked for during the last of these; or NULL */
} kalm__matmul_job;

/* One instruction set: its name, its operations on floats (ops.h), and how it multiplies matrices of each type (kernels_tiles.h).
   The sets are constant tables; a context holds a pointer to one. */
struct kalm__ops;
struct kalm__tiles;
struct kalm__four_rows;
typedef struct kalm__kernels {
    const char               *name;
    const struct kalm__ops   *ops;
    const struct kalm__tiles *tiles[KALM__TYPES + 1];          /* by type; NULL: plain C, kernels_scalar.h */
    /* Pack four rows of split16 activations: the low bytes into the tile, the high ones into `high`. NULL: the set's q8 tiles
       hold int16 and take them whole. */
    void (*pack_split16)(const struct kalm__four_rows *f);
    /* y[w->rows] = (float)(sum of high * q_w) of one row of high bytes [KALM__SPLIT16_COLS]; 0, and y as it was, where all of
       them are 0. NULL where pack_split16 is NULL. */
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

/* KALM__REP_n(each): each(0) each(1) ... each(n - 1) */
#define KALM__REP_1(each) each(0)
#define KALM__REP_2(each) KALM__REP_1(each) each(1)
#define KALM__REP_3(each) KALM__REP_2(each) each(2)
#define KALM__REP_4(each) KALM__REP_3(each) each(3)
#define KALM__REP_5(each) KALM__REP_4(each) each(4)
#define KALM__REP_6(each) KALM__REP_5(each) each(5)
#define KALM__REP_7(each) KALM__REP_6(each) each(6)
#define KALM__REP_8(each) KALM__REP_7(each) each(7)
#define KALM__REP_9(each) KALM__REP_8(each) each(8)
#define KALM__REP_10(each) KALM__REP_9(each) each(9)
#define KALM__REP_11(each) KALM__REP_10(each) each(10)
#define KALM__REP_12(each) KALM__REP_11(each) each(11)

#endif
