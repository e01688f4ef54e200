/* blocks.h - the memory layout of quantised weights, for the kernels that read them and the converter that writes them. How the
   scales are chosen stands in quantize/codecs.h, how tensors lie in a file in format.h. */
/* docs/FORMAT.md: */
/* A weight matrix W has one row for each output and one column for each input: y[n] = sum over k of W[n][k] * x[k]. It is
   stored in panels of 16 rows. The number of rows is padded with zeros to a multiple of 16, the number of columns to a
   multiple of 32; the padded number of columns is called cols32. Every panel begins at a multiple of 64 bytes.

   A q8 panel has 16 * cols32 bytes, each an int8 from -127 to 127. A LINE of 64 bytes holds 4 consecutive inputs of all 16
   outputs, which is what one dot-product instruction on a 64-byte register takes:

       line t:   [output 0: k = 4t, 4t+1, 4t+2, 4t+3] [output 1: the same k] ... [output 15]

   A q4 panel holds the same lines in 4.25 bits a weight. A group of 32 inputs, which is 8 lines of a q8 panel, becomes 4 lines of
   nibbles (half bytes):

       nibble line t (0..3) of a group, byte b:   low nibble  -> byte b of q8 line t
                                                  high nibble -> byte b of q8 line t + 4

       [cols32 / 32][4][64] nibble lines,  then [cols32 / 32][16] multipliers, one for each group and output,
       then zeros up to a multiple of 64 bytes

   A nibble v in a group whose multiplier is m (1 to 64; with 0 the whole group is zero) stands for the q8 value

       (m * kalm__q4_codebook[v] + 32) >> 6        where the shift rounds down, also below zero

   The values of the codebook suit weights that are normally distributed, as rotated weights nearly are. They were found by Lloyd's
   algorithm (60 rounds) on 20,000 groups of 32 normal values, each group scaled by the factor that suits it best, the values
   kept symmetric. Their relative squared error is 0.0058; that of the best set with a value near zero is 0.0059, of 16 even
   steps 0.0072, of the integers -8 to 7 0.0073.

   So a q4 panel is unpacked to a q8 panel, and products are sums of integers for both. Both have one float scale for each output,
   which is stored apart (format.h). */
/* end of docs/FORMAT.md */
#ifndef KALM__BLOCKS_H
#define KALM__BLOCKS_H

#include "base.h"

enum {
    KALM__PANEL = 16,                  /* rows (outputs) of a panel                           */
    KALM__GROUP = 32,                  /* inputs of a q4 group; columns are padded to this    */
    KALM__Q4_MAX_MULTIPLIER = 64       /* with which the values are those of the codebook     */
};

typedef struct kalm__q8_line {
    int8_t q[KALM__PANEL][4];
} kalm__q8_line;
KALM__ASSERT_SIZE(q8_line, sizeof(kalm__q8_line) == 64);

typedef struct kalm__q4_lines {
    uint8_t nibbles[4][64];
} kalm__q4_lines;
KALM__ASSERT_SIZE(q4_lines, sizeof(kalm__q4_lines) == 256);

typedef struct kalm__q4_multipliers {
    uint8_t of[KALM__PANEL];
} kalm__q4_multipliers;
KALM__ASSERT_SIZE(q4_multipliers, sizeof(kalm__q4_multipliers) == 16);

/* The 16 values of a nibble (docs/FORMAT.md). */
static const int8_t kalm__q4_codebook[16] = {
    -127, -98, -77, -60, -45, -31, -18, -6, 6, 18, 31, 45, 60, 77, 98, 127
};

/* The q8 value of a nibble. */
KALM__INLINE int8_t kalm__q4_value(unsigned nibble, unsigned multiplier)
{
    /* 128 * 64 is added and 128 taken off again, since C99 does not say what >> does with negative numbers */
    int32_t v = (int32_t)multiplier * kalm__q4_codebook[nibble] + 32 + 128 * 64;
    return (int8_t)((int32_t)((uint32_t)v >> 6) - 128);
}

KALM__INLINE size_t kalm__cols32(size_t cols) { return kalm__round_up(cols, KALM__GROUP); }

KALM__INLINE size_t kalm__q8_panel_bytes(size_t cols) { return kalm__mul(KALM__PANEL, kalm__cols32(cols)); }

KALM__INLINE size_t kalm__q4_panel_bytes(size_t cols)
{
    return kalm__round_up(kalm__mul(kalm__cols32(cols) / KALM__GROUP, 256 + 16), 64);
}

/* The multipliers of a q4 panel: [cols32 / 32][16]. */
KALM__INLINE const uint8_t *kalm__q4_panel_multipliers(const void *panel, size_t cols)
{
    return (const uint8_t *)panel + kalm__cols32(cols) / KALM__GROUP * sizeof(kalm__q4_lines);
}

#endif
