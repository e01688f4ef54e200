/* blocks.h - how quantised weights lie in memory, drawn once for the kernels that read them and the converter that
   writes them. Knows nothing of how scales are chosen (codecs.h) nor of files (format.h).

   A matrix W [rows = outputs n][cols = inputs k] lies in panels of 16 outputs; rows are padded with zeros to whole
   panels, cols to whole groups of 32 ("cols32"). A panel begins at a multiple of 64 bytes.

   q8 panel: 16 * cols32 bytes, int8 in -127..127. One LINE of 64 bytes holds 4 inputs ("a k4 step") of all outputs:

       line t:   [output 0: k = 4t, 4t+1, 4t+2, 4t+3] [output 1: the same k] ... [output 15]

   q4 panel: such lines at 4.25 bits a weight. A group of 32 inputs is 8 q8 lines, kept as 4 lines of nibbles:

       nibble line t (0..3) of a group, byte b:   low nibble  -> byte b of q8 line t
                                                  high nibble -> byte b of q8 line t + 4

       [cols32 / 32][4][64] nibble lines,  then [cols32 / 32][16] multipliers (one per group and output),
       then zeros up to a multiple of 64 bytes

   A nibble v of a group with multiplier m (1..64; 0 makes a group of zeros) stands for the q8 value

       (m * kalm__q4_codebook[v] + 32) >> 6        the shift rounding down, as arithmetic shifts do

   so a panel unpacks to a q8 panel and sums stay whole numbers. Both kinds share one float scale per output. */
#ifndef KALM__BLOCKS_H
#define KALM__BLOCKS_H

#include "base.h"

enum {
    KALM__PANEL = 16,                  /* outputs in a panel                                  */
    KALM__GROUP = 32,                  /* inputs in a q4 group; every K is padded to this     */
    KALM__Q4_MAX_MULTIPLIER = 64       /* m = 64 gives the codebook itself                    */
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

/* Lloyd's iteration (60 rounds) on 20,000 groups of 32 normal values, each scaled by the factor that suits it best, held
   symmetric: relative squared error 0.0058, against 0.0059 for the best set with a level near zero, 0.0072 for 16 even
   steps, and 0.0073 for -8..7. Rotated weights are close to normal. */
static const int8_t kalm__q4_codebook[16] = {
    -127, -98, -77, -60, -45, -31, -18, -6, 6, 18, 31, 45, 60, 77, 98, 127
};

KALM__INLINE int8_t kalm__q4_value(unsigned nibble, unsigned multiplier)
{
    /* 128 * 64 makes it positive: C99 leaves x >> 6 below zero to the compiler */
    int32_t v = (int32_t)multiplier * kalm__q4_codebook[nibble] + 32 + 128 * 64;
    return (int8_t)((int32_t)((uint32_t)v >> 6) - 128);
}

KALM__INLINE size_t kalm__cols32(size_t cols) { return kalm__round_up(cols, KALM__GROUP); }

KALM__INLINE size_t kalm__q8_panel_bytes(size_t cols) { return kalm__mul(KALM__PANEL, kalm__cols32(cols)); }

KALM__INLINE size_t kalm__q4_panel_bytes(size_t cols)
{
    return kalm__round_up(kalm__mul(kalm__cols32(cols) / KALM__GROUP, 256 + 16), 64);
}

/* The multipliers of a q4 panel, [cols32 / 32][16] */
KALM__INLINE const uint8_t *kalm__q4_panel_multipliers(const void *panel, size_t cols)
{
    return (const uint8_t *)panel + kalm__cols32(cols) / KALM__GROUP * sizeof(kalm__q4_lines);
}

#endif
