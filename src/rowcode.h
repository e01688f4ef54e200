/* rowcode.h - rows of documents in 4, 3 and 2 bits a number. A row x [width] is a sum of components, chosen so that an error of
   the same size in any of them changes the decoder's answer equally: y = T (x - mean), and x = mean + T^-1 y. The numbers y are
   rounded to whole steps, and the whole numbers, called levels, are written by an entropy coder. mean, T, T^-1 and the
   probabilities of levels are fitted by kalm-quantize (quantize/rows.h) and stand in the section ROWS of the model file. */
/* docs/FORMAT.md: */
/* A coded row has ceil(width * bits / 8) + 1 bytes, whatever its numbers are, so any row can be read by itself: each row has a
   step of its own, the smallest with which it fits. Any bytes are some row, so damage cannot lead astray.

   Rounding is dependent quantisation (a trellis of eight states): there are two quantisers, whose levels stand for
       0:  2 level                             1:  2 level - sign(level)
   steps, and the parity of each level chooses the quantiser of the next component. For a given number of bits this leaves about a
   tenth less error than rounding each component to its nearest step (measured on the bundled model, 2 bits: .419 to .470 in squares).

   How levels are chosen is the encoder's affair; any will be read. Ours finds those that cost least in squared error and bits
   together (Viterbi's algorithm), 16 rows at once in the lanes of vectors. A bit counts 3/8 of a squared step (between 2/8 and 4/8 the
   error is flat). The cost of a level is a parabola through the table's levels 1, 2 and 3, or a line where that would bend down, so
   that nothing is looked up: errors are .999 to 1.004 times those with the table itself. Four to six steps are tried, which meet the budget
   from both sides; then the levels that fit go on as those that take too many bits, from the component on where that leaves
   the least error (1% less error at 2 bits); then s is the step with which these levels leave the least error.

   The entropy coder is rANS (range asymmetric numeral systems, J. Duda, arXiv 1311.2540), a number in 2^16 ... 2^24 that takes
   in bytes while the row has some. Its first value is written into three bytes, the highest first; its last value, in binary, is
   a 1, then the 11 bits of s, then zeros. s says the row's step: step[bits][ratio] * 2^((s - 256) / 64). The encoder begins with
   2^16 + 32 s, so that zero bytes may follow what it gives off; where one byte is lacking it begins with 2^11 + s, which saves 5
   bits, and which the reader understands where the row is full to its last byte.

   Every machine leaves the same bytes, and reads the same numbers: products are sums of integers, and the float operations
   between are those of exact.h and ops.h.

SECTION ROWS, with b = 0, 1, 2 for 4, 3, 2 bits and r = 0 ... 5 for ratios 1, 2, up to 4, 8, 16, and above 16
     0       4  version of the section, 2
     4       4  width
     8       4  heavy, 0 to 8: the first components, which vary so much that they are computed in floats
    12       4  zero
    16      72  f32 step[b][r]
    88      72  u32 count[b][r], at most width: components from this one on are 0 and not written
   160      96  not read; older converters left a hint for the encoder here
   256    2048  u16 start[class][quantiser][16]: where the symbols' intervals begin in 0 ... 4095, rising from 0. class is 0 to 31
  2304    2048  u16 cost[class][quantiser][16]: bits of a symbol in units of 1/64, at most 12 * 64, for the encoder
  4352          u8 class[b][r][width]: the class, and 32 times the shift
   then, each at a multiple of 64: f32 mean[width]; f32 T[8][width], the rows of T for heavy components; f32 T^-1[8][width], its
   columns; T without its heavy rows and T^-1 without its heavy columns (these are zero), each as f32 scale[width rounded up to
   16] and panels of type q16 (kernels.h)

   A level v of a class with shift k has h = floor((v + 2^(k - 1)) / 2^k), or v where k is 0. Symbols 0 to 14 are h from -7 to 7;
   15 is followed by n (4 bits), the sign of h (1 bit, set when negative) and n bits, with |h| = 7 + (1 << n | bits). The k bits
   v + 2^(k - 1) - h 2^k follow. Bits that are not symbols are coded as such, each number at once, as the low bits of the coder's
   number. */
/* end of docs/FORMAT.md */
#ifndef KALM__ROWCODE_H
#define KALM__ROWCODE_H

#include "base.h"
#include "exact.h"
#include "ops.h"
#include "kernels_tiles.h"

enum {
    KALM__ROWS_VERSION = 2, KALM__ROWS_BITS = 3, KALM__ROWS_RATIOS = 6, KALM__ROWS_HEAVY = 8,
    KALM__ROWS_CLASSES = 32, KALM__ROWS_SYMBOLS = 16,
    KALM__ROWS_TABLES = 256,           /* where the tables begin in the section */
    KALM__ROWS_TOTAL = 4096,           /* of the intervals of all symbols */
    KALM__ROWS_STEPS = 2048,           /* s is below */
    KALM__ROWS_MIDDLE = 256,           /* the s of a row whose step is step[b][r] */
    KALM__ROWS_OCTAVE = 64,            /* so many s double the step */
    KALM__ROWS_NARROWEST = 16          /* width; fewer numbers leave no room behind the coder's own bytes */
};

typedef struct kalm__rowcode {
    uint64_t     fingerprint;          /* hash of the section; 0: there is none */
    uint32_t     width, heavy;
    float        step[KALM__ROWS_BITS][KALM__ROWS_RATIOS];
    uint32_t     count[KALM__ROWS_BITS][KALM__ROWS_RATIOS];
    const uint16_t *start, *cost;      /* [CLASSES][2][SYMBOLS] */
    const uint8_t *classes;            /* [BITS][RATIOS][width] */
    const float *mean;                 /* [width] */
    const float *rows, *cols;          /* [HEAVY][width]: of T and T^-1 */
    kalm__matrix forward, inverse;     /* T, T^-1 */
} kalm__rowcode;

/* Bytes of a row of 4, 3 or 2 bits. */
KALM__INLINE size_t kalm__coded_row_bytes(size_t width, uint32_t bits) { return (width * bits + 7) / 8 + 1; }
KALM__INLINE int kalm__is_coded(uint32_t bits) { return bits >= 2 && bits <= 4; }

KALM__FN unsigned kalm__ratio_class(uint32_t ratio)
{
    unsigned c = 0;
    while (c < KALM__ROWS_RATIOS - 1 && ratio > 1u << c) c++;
    return c;
}

/* Where the parts of the section lie. */
typedef struct kalm__rows_layout {
    size_t cost, classes, mean, rows, cols, forward, inverse, size;
    size_t scales;                     /* bytes of a matrix' scales, before its panels */
} kalm__rows_layout;

KALM__FN kalm__rows_layout kalm__rows_places(size_t width)
{
    kalm__rows_layout l;
    size_t line = kalm__round_up(width * sizeof(float), 64), heavy = kalm__round_up(KALM__ROWS_HEAVY * width * sizeof(float), 64);
    size_t matrix;
    l.scales = kalm__round_up(width, 16) * sizeof(float);
    matrix = kalm__add(l.scales, kalm__mul(l.scales / 64, kalm__panel_bytes(KALM__Q16, width)));
    l.cost = KALM__ROWS_TABLES + KALM__ROWS_CLASSES * 2 * KALM__ROWS_SYMBOLS * sizeof(uint16_t);
    l.classes = l.cost + KALM__ROWS_CLASSES * 2 * KALM__ROWS_SYMBOLS * sizeof(uint16_t);
    l.mean = kalm__round_up(l.classes + KALM__ROWS_BITS * KALM__ROWS_RATIOS * width, 64);
    l.rows = l.mean + line;
    l.cols = l.rows + heavy;
    l.forward = l.cols + heavy;
    l.inverse = kalm__add(l.forward, matrix);
    l.size = kalm__add(l.inverse, matrix);
    return l;
}

KALM__FN void kalm__rows_matrix(kalm__matrix *m, const unsigned char *p, size_t width, size_t scales)
{
    const void *scale = p;
    memset(m, 0, sizeof *m);
    m->type = KALM__Q16;
    m->rows = m->cols = (uint32_t)width;
    m->scale = (const float *)scale;
    m->data = p + scales;
}

/* Read the section, which stays where it is, at a multiple of 64. What could lead astray is checked: sizes, and that the
   intervals of symbols rise. Numbers that are none make rows of none, which are found where rows are used. */
KALM__FN kalm_result kalm__rowcode_open(kalm__rowcode *c, const unsigned char *p, uint64_t size, uint64_t fingerprint,
                                        uint32_t width, kalm_error *err)
{
    kalm__rows_layout l = kalm__rows_places(width);
    const void *at;
    unsigned b, r, i, k;
    memset(c, 0, sizeof *c);
    if (width < KALM__ROWS_NARROWEST)
        return kalm__fail(err, KALM_BAD_FILE, "the model has a ROWS section for rows of %u numbers; %u are the fewest", width,
                          (unsigned)KALM__ROWS_NARROWEST);
    if (size >= 4 && kalm__u32(p) != KALM__ROWS_VERSION)
        return kalm__fail(err, KALM_BAD_VERSION, "the ROWS section has version %u, this library reads %u", kalm__u32(p),
                          (unsigned)KALM__ROWS_VERSION);
    if (size != l.size)
        return kalm__fail(err, KALM_BAD_FILE, "the ROWS section has %U bytes, rows of %u numbers ask for %z", size, width, l.size);
    c->width = kalm__u32(p + 4);
    c->heavy = kalm__u32(p + 8);
    if (c->width != width || c->heavy > KALM__ROWS_HEAVY)
        return kalm__fail(err, KALM_BAD_FILE, "the ROWS section is for rows of %u numbers with %u heavy components; the model has %u",
                          c->width, c->heavy, width);
    for (b = 0; b < KALM__ROWS_BITS; b++)
        for (r = 0; r < KALM__ROWS_RATIOS; r++) {
            size_t place = 4 * (KALM__ROWS_RATIOS * b + r);
            c->step[b][r] = kalm__f32(p + 16 + place);
            c->count[b][r] = kalm__u32(p + 88 + place);
            if (!(c->step[b][r] > 1e-12f && c->step[b][r] < 1e12f) || c->count[b][r] > width)
                return kalm__fail(err, KALM_BAD_FILE, "the ROWS section has an impossible step or count for %u bits", 4 - b);
        }
    at = p + KALM__ROWS_TABLES;
    c->start = (const uint16_t *)at;
    at = p + l.cost;
    c->cost = (const uint16_t *)at;
    for (i = 0; i < KALM__ROWS_CLASSES * 2; i++)
        for (k = 0; k < KALM__ROWS_SYMBOLS; k++) {
            unsigned v = c->start[i * KALM__ROWS_SYMBOLS + k], before = k ? c->start[i * KALM__ROWS_SYMBOLS + k - 1] : 0;
            if ((k ? v <= before || v >= KALM__ROWS_TOTAL : v != 0) || c->cost[i * KALM__ROWS_SYMBOLS + k] > 64 * 12)
                return kalm__fail(err, KALM_BAD_FILE, "the ROWS section has impossible probabilities or costs in class %u", i / 2);
        }
    c->classes = p + l.classes;
    at = p + l.mean;
    c->mean = (const float *)at;
    at = p + l.rows;
    c->rows = (const float *)at;
    at = p + l.cols;
    c->cols = (const float *)at;
    kalm__rows_matrix(&c->forward, p + l.forward, width, l.scales);
    kalm__rows_matrix(&c->inverse, p + l.inverse, width, l.scales);
    c->fingerprint = fingerprint ? fingerprint : 1;
    return KALM_OK;
}

/* ---- what coder and decoder share ------------------------------------------------------------------------------------- */

/* The state that follows a state and the parity of its level; odd states use quantiser 1. */
static const uint8_t kalm__trellis[8][2] = { { 0, 2 }, { 5, 7 }, { 1, 3 }, { 6, 4 }, { 2, 0 }, { 4, 6 }, { 3, 1 }, { 7, 5 } };

KALM__INLINE int32_t kalm__level_steps(unsigned quantiser, int32_t level)
{
    return 2 * level - (quantiser ? (level > 0) - (level < 0) : 0);
}

/* h of a level; see above. */
KALM__INLINE int32_t kalm__level_high(int32_t level, unsigned shift)
{
    int32_t positive = level + (1 << 24) + (shift ? 1 << (shift - 1) : 0);
    return (positive >> shift) - ((1 << 24) >> shift);
}

KALM__INLINE unsigned kalm__log2(uint32_t v)
{
    unsigned n = 0;
    while (v >>= 1) n++;
    return n;
}

KALM__FN float kalm__row_step(const kalm__rowcode *c, unsigned b, unsigned r, uint32_t s)
{
    double part = kalm__times_double((double)(s % KALM__ROWS_OCTAVE), 0.6931471805599453 / (double)KALM__ROWS_OCTAVE);
    double octave = kalm__power_of_two((int)(s / KALM__ROWS_OCTAVE) - KALM__ROWS_MIDDLE / KALM__ROWS_OCTAVE);
    return (float)kalm__times_double(kalm__times_double((double)c->step[b][r], kalm__exp(part)), octave);
}

/* Rows that are transformed together, so that a matrix is read once for all of them, and whose levels are sought together. */
enum { KALM__ROWS_TOGETHER = KALM__TRELLIS };

/* A worker's memory while it codes rows, each part at a multiple of 64. */
typedef struct kalm__row_work {
    float   *y;                        /* [ROWS_TOGETHER][width] components */
    void    *acts, *scratch;           /* of the products with T and T^-1 */
    float   *turned;                   /* [width][ROWS_TOGETHER] components */
    int16_t *floors;                   /* [2][width][ROWS_TOGETHER]: what ops->trellis leaves */
    float   *rate;                     /* [256][2][4], for ops->trellis, by class and shift */
    int32_t *path;                     /* [ROWS_TOGETHER][3][width] levels */
    unsigned char *bytes;              /* [5 width], at most 39 bits a level */
} kalm__row_work;

/* Hand out the parts from `base`, or count them where it is NULL. Returns the bytes. */
KALM__FN size_t kalm__row_work_plan(kalm__row_work *w, void *base, const kalm__kernels *k, size_t width)
{
    size_t size[8], total = 0, i;
    void *part[8];
    size[0] = size[3] = size[6] = KALM__ROWS_TOGETHER * width * sizeof(float);
    size[1] = kalm__acts_bytes(k, KALM__Q16, KALM__ROWS_TOGETHER, width);
    size[2] = kalm__matmul_scratch(k, KALM__Q16, width);
    size[4] = 2 * KALM__ROWS_TOGETHER * width * sizeof(int16_t);
    size[5] = 256 * 8 * sizeof(float);
    size[6] *= 3;
    size[7] = 5 * width;
    for (i = 0; i < 8; i++) {
        part[i] = base ? (unsigned char *)base + total : NULL;
        total = kalm__add(total, kalm__round_up(size[i], 64));
    }
    w->y = (float *)part[0];
    w->acts = part[1];
    w->scratch = part[2];
    w->turned = (float *)part[3];
    w->floors = (int16_t *)part[4];
    w->rate = (float *)part[5];
    w->path = (int32_t *)part[6];
    w->bytes = (unsigned char *)part[7];
    return total;
}

/* y [n][width] = x [n][width] times T or T^-1 without its heavy part. */
KALM__FN void kalm__row_product(const kalm__kernels *k, const kalm__matrix *m, const kalm__row_work *w, float *y, const float *x,
                                size_t n)
{
    kalm__block block = kalm__block_of(KALM__Q16, n, m->cols, w->acts);
    kalm__pack(k, block, 0, n, x, m->cols);
    kalm__multiply_block(k, m, &block, y, m->cols, w->scratch);
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

/* The coder's number and the bytes that it takes in. */
typedef struct kalm__row_reader {
    const unsigned char *at, *end;
    uint32_t x;
} kalm__row_reader;

KALM__INLINE void kalm__row_refill(kalm__row_reader *in)
{
    if (in->end - in->at >= 2) {       /* none, one or two bytes, without a branch that nobody can foresee */
        unsigned n = (unsigned)(in->x < 1u << 16) + (unsigned)(in->x < 1u << 8);
        in->x = in->x << 8 * n | ((uint32_t)in->at[0] << 8 | in->at[1]) >> (16 - 8 * n);
        in->at += n;
    } else {
        unsigned i;
        for (i = 0; i < 2 && in->x < 1u << 16 && in->at < in->end; i++) in->x = in->x << 8 | *in->at++;
    }
}

/* n bits, at most 16 */
KALM__INLINE uint32_t kalm__row_bits(kalm__row_reader *in, unsigned n)
{
    uint32_t v = in->x & ((1u << n) - 1);
    in->x >>= n;
    kalm__row_refill(in);
    return v;
}

/* s, from the last value. */
KALM__INLINE uint32_t kalm__row_last(uint32_t x)
{
    while (x < KALM__ROWS_STEPS) x = x << 1 | (x == 0);    /* no encoder leaves so little */
    while (x >= 2 * KALM__ROWS_STEPS) x >>= 1;
    return x - KALM__ROWS_STEPS;
}

KALM__INLINE unsigned kalm__row_symbol(kalm__row_reader *in, const uint16_t *start)
{
    uint32_t slot = in->x & (KALM__ROWS_TOTAL - 1), size;
    unsigned i = slot >= start[8] ? 8 : 0;
    i += slot >= start[i + 4] ? 4u : 0u;
    i += slot >= start[i + 2] ? 2u : 0u;
    i += slot >= start[i + 1] ? 1u : 0u;
    size = (i + 1 < KALM__ROWS_SYMBOLS ? start[i + 1] : (uint32_t)KALM__ROWS_TOTAL) - start[i];
    in->x = size * (in->x >> 12) + slot - start[i];
    kalm__row_refill(in);
    return i;
}

/* The components of a row, from its bytes. */
KALM__FN void kalm__row_read(const kalm__rowcode *c, unsigned b, unsigned r, const unsigned char *bytes, size_t size, float *y)
{
    const uint8_t *classes = c->classes + (b * KALM__ROWS_RATIOS + r) * (size_t)c->width;
    kalm__row_reader in;
    unsigned state = 0;
    float step;
    uint32_t i;
    in.x = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];
    in.at = bytes + 3;
    in.end = bytes + size;
    for (i = 0; i < c->count[b][r]; i++) {
        unsigned quantiser = state & 1, shift = classes[i] >> 5;
        unsigned symbol = kalm__row_symbol(&in, c->start + ((classes[i] & 31u) * 2 + quantiser) * KALM__ROWS_SYMBOLS);
        int32_t level = (int32_t)symbol - 7;
        if (symbol == KALM__ROWS_SYMBOLS - 1) {
            unsigned n = kalm__row_bits(&in, 4);
            int negative = kalm__row_bits(&in, 1) != 0;
            level = 7 + (int32_t)(1u << n | kalm__row_bits(&in, n));
            if (negative) level = -level;
        }
        if (shift) level = level * (1 << shift) - (1 << (shift - 1)) + (int32_t)kalm__row_bits(&in, shift);
        y[i] = (float)kalm__level_steps(quantiser, level);
        state = kalm__trellis[state][(uint32_t)level & 1];
    }
    step = kalm__row_step(c, b, r, kalm__row_last(in.x));
    for (i = 0; i < c->count[b][r]; i++) y[i] = kalm__times(y[i], step);
    for (; i < c->width; i++) y[i] = 0.0f;
}

/* row += by times column j of T^-1; room: [width] */
KALM__INLINE void kalm__add_column(const kalm__rowcode *c, const kalm__kernels *k, float *row, size_t j, float by, float *room)
{
    k->ops->scale_row(room, c->cols + j * c->width, by, c->width);
    k->ops->scale_add(row, 1.0f, room, c->width);
}

/* x [n][width] from components y [n][width], n at most ROWS_TOGETHER; y is used up. */
KALM__FN void kalm__rows_from_components(const kalm__rowcode *c, const kalm__kernels *k, const kalm__row_work *w, float *x, float *y,
                                         size_t n)
{
    float heavy[KALM__ROWS_TOGETHER][KALM__ROWS_HEAVY];
    size_t i, j, width = c->width;
    for (i = 0; i < n; i++)
        for (j = 0; j < c->heavy; j++) {
            heavy[i][j] = y[i * width + j];
            y[i * width + j] = 0.0f;
        }
    kalm__row_product(k, &c->inverse, w, x, y, n);
    for (i = 0; i < n; i++) {
        k->ops->scale_add(x + i * width, 1.0f, c->mean, width);
        for (j = 0; j < c->heavy; j++) kalm__add_column(c, k, x + i * width, j, heavy[i][j], y);
    }
}

/* ---- writing ------------------------------------------------------------------------------------------------------------ */

/* y [n][width] from x [n][width], n at most ROWS_TOGETHER; x is used up. */
KALM__FN void kalm__rows_to_components(const kalm__rowcode *c, const kalm__kernels *k, const kalm__row_work *w, float *y, float *x,
                                       size_t n)
{
    float heavy[KALM__ROWS_TOGETHER][KALM__ROWS_HEAVY];
    size_t i, j, width = c->width;
    for (i = 0; i < n; i++) {
        float *row = x + i * width;
        k->ops->scale_add(row, -1.0f, c->mean, width);         /* mean - x */
        k->ops->scale_row(row, row, -1.0f, width);
        for (j = 0; j < c->heavy; j++) heavy[i][j] = k->ops->dot(c->rows + j * width, row, width);
        for (j = 0; j < c->heavy; j++) kalm__add_column(c, k, row, j, -heavy[i][j], y);
    }
    kalm__row_product(k, &c->forward, w, y, x, n);
    for (i = 0; i < n; i++)
        for (j = 0; j < c->heavy; j++) y[i * width + j] = heavy[i][j];
}

/* Bits of a level, in 1/64. */
KALM__INLINE uint32_t kalm__level_cost(const uint16_t *cost, unsigned shift, int32_t level)
{
    int32_t high = kalm__level_high(level, shift);
    uint32_t symbol = (uint32_t)(high + 7);
    if (symbol < KALM__ROWS_SYMBOLS - 1) return cost[symbol] + 64 * shift;
    return cost[KALM__ROWS_SYMBOLS - 1] + 64 * (5 + shift + kalm__log2((uint32_t)(high < 0 ? -high : high) - 7));
}

/* A row on its way. s: the step that is tried; least, most: one with which the row takes too many bits, one with which it fits (-1,
   ROWS_STEPS: not known yet); over, under: 1/64 bits that `least` takes beyond the budget, that `most` leaves. more, fit, next [width]: the levels of `least`, those of `most`, and room; each with the state before it, as
   kalm__row_place makes it. */
typedef struct kalm__row_way {
    int32_t s, least, most, over, under;
    int32_t *more, *fit, *next;
} kalm__row_way;

/* Up to ROWS_TOGETHER rows on their way. */
typedef struct kalm__row_coding {
    const kalm__rowcode *c;
    const kalm__row_work *w;
    const kalm__ops *ops;
    const uint8_t *classes;
    unsigned       b, r;
    int32_t        budget;             /* the bits of a row, in 1/64 */
    uint32_t       count;
    size_t         size, rows;         /* bytes of a row; how many rows */
    kalm__row_way  row[KALM__ROWS_TOGETHER];
    float          unit[KALM__ROWS_TOGETHER];      /* 1 / (4 step) */
} kalm__row_coding;

KALM__INLINE int32_t kalm__row_place(int32_t level, unsigned state) { return level * 8 + (int32_t)state; }
KALM__INLINE int32_t kalm__row_level(int32_t place) { return (place - (place & 7)) / 8; }
KALM__INLINE int32_t kalm__row_steps(int32_t place) { return kalm__level_steps((unsigned)place & 1, kalm__row_level(place)); }

/* What a 64th of a bit is worth, in squares of four steps. */
#define KALM__ROWS_LAMBDA (3.0f / 8192.0f)

/* The costs of a class as ops->trellis has them. */
KALM__FN void kalm__row_rate(float *rate, const uint16_t *cost, unsigned shift)
{
    int32_t at[4], bent, i;
    float by = kalm__over(2.0f, (float)(1 << shift));      /* levels / 2^shift to what stands for 1 */
    for (i = 1; i < 4; i++) at[i] = (cost[7 + i] + cost[7 - i]) / 2 - cost[7];
    bent = at[3] - 2 * at[2] + at[1];
    if (bent < 0) bent = 0;
    rate[0] = kalm__times((float)bent, kalm__times(kalm__times(by, by), KALM__ROWS_LAMBDA / 2));
    rate[1] = kalm__times((float)(2 * (at[2] - at[1]) - 3 * bent), kalm__times(by, KALM__ROWS_LAMBDA / 2));
    rate[2] = kalm__times((float)(2 * at[1] - at[2] + bent), KALM__ROWS_LAMBDA);
    rate[3] = kalm__times((float)(cost[7] + 64 * shift), KALM__ROWS_LAMBDA);
}

/* Begin with n rows of components y [n][width]. Numbers that are none count as 0. */
KALM__FN void kalm__row_begin(kalm__row_coding *q, const kalm__rowcode *c, const kalm__ops *ops, const kalm__row_work *w, unsigned b,
                              unsigned r, const float *y, size_t n)
{
    uint32_t i, j;
    memset(q, 0, sizeof *q);
    q->c = c;
    q->w = w;
    q->ops = ops;
    q->classes = c->classes + (b * KALM__ROWS_RATIOS + r) * (size_t)c->width;
    q->b = b;
    q->r = r;
    q->count = c->count[b][r];
    q->size = kalm__coded_row_bytes(c->width, 4 - b);
    q->budget = (int32_t)(8 * q->size - 12) * 64;          /* the coder begins with 12 bits for s */
    q->rows = n;
    for (i = 0; i < 256; i++) w->rate[i * 8 + 3] = -1.0f;
    for (i = 0; i < q->count; i++) {
        unsigned class_ = q->classes[i];
        float *rate = w->rate + class_ * 8;
        if (rate[3] < 0.0f)
            for (j = 0; j < 2; j++)
                kalm__row_rate(rate + j * 4, c->cost + ((class_ & 31u) * 2 + j) * KALM__ROWS_SYMBOLS, class_ >> 5);
        for (j = 0; j < KALM__TRELLIS; j++) {
            float v = j < n ? y[j * c->width + i] : 0.0f;
            w->turned[i * KALM__TRELLIS + j] = kalm__is_finite(v) ? v : 0.0f;
        }
    }
    for (j = 0; j < KALM__TRELLIS; j++) {
        kalm__row_way *way = &q->row[j];
        way->s = KALM__ROWS_MIDDLE;
        way->least = -1;
        way->most = KALM__ROWS_STEPS;
        way->more = w->path + 3 * j * c->width;
        way->fit = way->more + c->width;
        way->next = way->fit + c->width;
    }
}

/* s = `to`, or what is nearest to it of the steps that are open. */
KALM__FN void kalm__row_move(kalm__row_way *way, int32_t to)
{
    to = to < way->most ? to : way->most - 1;
    way->s = to > way->least ? to : way->least + 1;
}

KALM__INLINE float kalm__within(float v, float most) { return v > most ? most : v < -most ? -most : v; }
KALM__FN float kalm__row_unit(const kalm__row_coding *q, int32_t s) { return kalm__over(0.25f, kalm__row_step(q->c, q->b, q->r, (uint32_t)s)); }

/* The levels that ops->trellis has found for the rows of `left`, into `next`; bits: theirs, in 1/64. */
KALM__FN void kalm__row_trace(const kalm__row_coding *q, uint32_t left, const float *cost, int32_t *bits)
{
    static const uint8_t reached[16] = {           /* state * 2 + parity, from which each state is reached: kalm__trellis turned */
        0, 9, 4, 13, 1, 8, 5, 12, 7, 10, 2, 15, 6, 11, 3, 14
    };
    static const uint8_t half[4] = { 2, 0, 3, 1 };         /* by quantiser and parity: to the nearest such level */
    unsigned last[KALM__TRELLIS], state;
    uint32_t row[KALM__TRELLIS], rows = 0, i, j, k;
    for (j = 0; j < q->rows; j++) {
        if (!(left >> j & 1)) continue;
        row[rows++] = j;
        for (bits[j] = 0, last[j] = 0, state = 1; state < 8; state++)
            if (cost[state * KALM__TRELLIS + j] < cost[last[j] / 2 * KALM__TRELLIS + j]) last[j] = 2 * state;
    }
    for (i = q->count; i--; ) {
        const uint16_t *table = q->c->cost + (q->classes[i] & 31u) * 2 * KALM__ROWS_SYMBOLS;
        const int16_t *floors = q->w->floors + i * KALM__TRELLIS, *from = floors + q->c->width * KALM__TRELLIS;
        unsigned shift = q->classes[i] >> 5;
        for (k = 0; k < rows; k++) {   /* all rows at once: each step waits for the one before */
            int32_t size, sign, level;
            unsigned way, quantiser, ways;
            j = row[k];
            size = floors[j];
            sign = -(size < 0);
            ways = (unsigned)from[j];
            last[j] = way = reached[(last[j] & 14) | (ways >> (last[j] >> 1) & 1)];
            quantiser = way >> 1 & 1;
            level = (((size ^ sign) + half[way & 3]) >> 2) * 2 + (int32_t)(way & 1);
            level &= (int32_t)(ways >> (8 + quantiser) & ~way & 1) - 1;
            level = (level ^ sign) - sign;
            quantiser *= KALM__ROWS_SYMBOLS;
            bits[j] += shift || (uint32_t)(level + 7) > 14 ? (int32_t)kalm__level_cost(table + quantiser, shift, level)
                                                           : table[(int32_t)quantiser + level + 7];
            q->row[j].next[i] = kalm__row_place(level, way >> 1);
        }
    }
}

enum { KALM__ROWS_GUESSES = 7, KALM__ROWS_PASSES = 4 };

/* Steps on both sides of the budget, and the levels of both, for all rows. First by what quantiser 0 alone would take, of which the
   trellis takes about a 32nd more. More steps are tried for fewer bits, which do not fall as evenly. */
KALM__FN void kalm__row_search(kalm__row_coding *q)
{
    float cost[8][KALM__TRELLIS];
    int32_t bits[KALM__TRELLIS], pass, active = (int32_t)(q->count * (5 - q->b) / 6) + 1;     /* about how many levels are not 0 */
    uint32_t left = ((uint32_t)1 << q->rows) - 1, j;
    for (pass = -KALM__ROWS_GUESSES; left && pass < 40; pass++) {
        int16_t *from = pass < 0 ? NULL : q->w->floors + q->c->width * KALM__TRELLIS;
        for (j = 0; j < KALM__TRELLIS; j++) q->unit[j] = kalm__row_unit(q, q->row[j].s);
        q->ops->trellis(cost[0], q->w->floors, from, q->w->turned, q->unit, q->w->rate, q->classes, q->count, q->rows);
        if (from) kalm__row_trace(q, left, cost[0], bits);
        for (j = 0; j < q->rows; j++) {
            kalm__row_way *way = &q->row[j];
            int32_t over, by, *levels = way->next;
            if (!(left >> j & 1)) continue;
            over = from ? bits[j] - q->budget : (int32_t)kalm__within(kalm__over(cost[0][j], KALM__ROWS_LAMBDA), 1e9f) - q->budget / 32 * 31;
            by = over / active;        /* a component that is not 0 loses a bit with each octave */
            by = by > 128 ? 128 : by < -128 ? -128 : by;
            if (!from) {
                kalm__row_move(way, way->s + by);
                continue;
            }
            if (over > 0) {
                way->next = way->more;
                way->more = levels;
                way->least = way->s;
                way->over = over;
            } else {
                way->next = way->fit;
                way->fit = levels;
                way->most = way->s;
                way->under = -over;
            }
            if (way->least + 1 >= way->most || (over <= 0 && over > -64) || (pass + 1 >= KALM__ROWS_PASSES + (int32_t)q->b && way->most < KALM__ROWS_STEPS))
                left &= ~((uint32_t)1 << j);
            if (way->least < 0 || way->most == KALM__ROWS_STEPS)
                kalm__row_move(way, way->s + by + (over > 0 ? pass + 1 : -pass - 1));
            else kalm__row_move(way, way->most + (int32_t)((int64_t)(way->least - way->most) * way->under / (way->over + way->under)));
        }
    }
}

/* The coder's number, and where the bytes that it gives off begin: the last one was given off first. */
typedef struct kalm__row_writer {
    unsigned char *at;
    uint32_t x;
} kalm__row_writer;

/* None, one or two bytes, without a branch that nobody can foresee. */
KALM__INLINE void kalm__row_give(kalm__row_writer *out, uint32_t limit)
{
    unsigned n = (unsigned)(out->x >= limit) + (unsigned)(out->x >> 8 >= limit);
    out->at[-1] = (unsigned char)out->x;
    out->at[-2] = (unsigned char)(out->x >> 8);
    out->at -= n;
    out->x >>= 8 * n;
}

KALM__INLINE void kalm__row_put_bits(kalm__row_writer *out, uint32_t v, unsigned n)
{
    kalm__row_give(out, 1u << (24 - n));
    out->x = out->x << n | v;
}

/* Write levels, beginning with the coder's number x, into `to`. Returns the bytes that they take; more than q->size are not written. */
KALM__FN size_t kalm__row_put(const kalm__row_coding *q, const int32_t *places, uint32_t x, unsigned char *to)
{
    unsigned char *end = q->w->bytes + 5 * (size_t)q->c->width;
    kalm__row_writer out;
    size_t bytes;
    uint32_t i;
    out.at = end;
    out.x = x;
    for (i = q->count; i--; ) {        /* what is read first is written last */
        unsigned shift = q->classes[i] >> 5;
        int32_t level = kalm__row_level(places[i]), high = kalm__level_high(level, shift);
        const uint16_t *start = q->c->start + ((q->classes[i] & 31u) * 2 + ((unsigned)places[i] & 1)) * KALM__ROWS_SYMBOLS;
        uint32_t symbol = (uint32_t)(high + 7), size;
        if (shift) kalm__row_put_bits(&out, (uint32_t)(level + (1 << (shift - 1)) - high * (1 << shift)), shift);
        if (symbol >= KALM__ROWS_SYMBOLS - 1) {
            uint32_t rest = (uint32_t)(high < 0 ? -high : high) - 7;
            unsigned n = kalm__log2(rest);
            kalm__row_put_bits(&out, rest - (1u << n), n);
            kalm__row_put_bits(&out, high < 0, 1);
            kalm__row_put_bits(&out, n, 4);
            symbol = KALM__ROWS_SYMBOLS - 1;
        }
        size = (symbol + 1 < KALM__ROWS_SYMBOLS ? start[symbol + 1] : (uint32_t)KALM__ROWS_TOTAL) - start[symbol];
        kalm__row_give(&out, size << 12);
        out.x = (out.x / size << 12) + out.x % size + start[symbol];
    }
    bytes = 3 + (size_t)(end - out.at);
    if (bytes > q->size) return bytes;
    memset(to, 0, q->size);
    to[0] = (unsigned char)(out.x >> 16);
    to[1] = (unsigned char)(out.x >> 8);
    to[2] = (unsigned char)out.x;
    memcpy(to + 3, out.at, bytes - 3);
    return bytes;
}

/* Component i of row j in units of 1/32 step. */
KALM__INLINE int32_t kalm__row_fixed(const kalm__row_coding *q, size_t j, uint32_t i, float unit)
{
    float v = kalm__within(kalm__times(q->w->turned[i * KALM__TRELLIS + j], kalm__times(unit, 128.0f)), 32.0f * 32000.0f);
    return (int32_t)kalm__plus(kalm__plus(v, 12582912.0f), -12582912.0f);
}

/* Levels that fit leave some bits, those of a smaller step take too many. Where both come by the same state, one can go on as the other:
   first as those that fit, then, where components are small, as the others. Take the place with the least error. */
KALM__FN void kalm__row_splice(const kalm__row_coding *q, size_t j, kalm__row_way *way, float unit)
{
    int64_t bits = 0, error = 0, least = 0;        /* by which the others, from i on, exceed those that fit */
    int32_t under = way->under, k;
    uint32_t i, place = q->count;
    for (i = q->count; i-- > q->count / 2; ) {
        int32_t level[2], fixed;
        if (way->more[i] == way->fit[i]) continue;
        level[0] = way->more[i];
        level[1] = way->fit[i];
        fixed = kalm__row_fixed(q, j, i, unit);
        for (k = 0; k < 2; k++) {
            int64_t off = 32 * kalm__row_steps(level[k]) - fixed;
            const uint16_t *cost = q->c->cost + ((q->classes[i] & 31u) * 2 + ((unsigned)level[k] & 1)) * KALM__ROWS_SYMBOLS;
            error += (1 - 2 * k) * off * off;
            bits += (1 - 2 * k) * (int64_t)kalm__level_cost(cost, q->classes[i] >> 5, kalm__row_level(level[k]));
        }
        if (((level[0] ^ level[1]) & 7) == 0 && bits <= under && error < least) {
            least = error;
            place = i;
            way->under = under - (int32_t)bits;
        }
    }
    memcpy(way->fit + place, way->more + place, (q->count - place) * sizeof *way->fit);
}

/* The s with which levels leave the least error, where they were chosen for way->most. */
KALM__FN uint32_t kalm__row_refit(const kalm__row_coding *q, size_t j, const kalm__row_way *way, float unit)
{
    int64_t both = 0, square = 0, s = way->most;
    uint32_t i;
    for (i = 0; i < q->count; i++) {
        int64_t steps = kalm__row_steps(way->fit[i]);
        both += steps * kalm__row_fixed(q, j, i, unit);
        square += 32 * steps * steps;
    }
    if (both > 0)                      /* ln x is about 2 (x - 1) / (x + 1) */
        s += (int64_t)kalm__nearest_double(kalm__times_double(kalm__over_double((double)(both - square), (double)(both + square)),
                                                              2 * KALM__ROWS_OCTAVE / 0.6931471805599453));
    return s < 0 ? 0u : s >= KALM__ROWS_STEPS ? KALM__ROWS_STEPS - 1u : (uint32_t)s;
}

/* Write row j, for which kalm__row_search has found levels. Returns its s; its levels are in `fit`. */
KALM__FN uint32_t kalm__row_finish(kalm__row_coding *q, size_t j, unsigned char *to)
{
    kalm__row_way *way = &q->row[j];
    uint32_t i, n = q->count, s;
    int tight;
    float unit;
    if (way->most == KALM__ROWS_STEPS) {           /* no step is large enough: as many levels as fit */
        way->fit = way->more;
        way->most = way->least;
        way->least = -1;
    }
    unit = kalm__row_unit(q, way->most);
    if (way->least >= 0) kalm__row_splice(q, j, way, unit);
    tight = way->under < 5 * 64;
    for (;;) {
        s = kalm__row_refit(q, j, way, unit);
        for (i = 0; i < 2; i++, tight = !tight) {
            size_t bytes = kalm__row_put(q, way->fit, tight ? KALM__ROWS_STEPS + s : 32 * (KALM__ROWS_STEPS + s), to);
            if (bytes == q->size || (bytes < q->size && !tight)) return s;
        }
        if (!n) break;                 /* costs are rounded: a row may be a few bits longer than they say */
        for (i = n -= n / 32 + 1; i < q->count; i++)
            way->fit[i] = i ? kalm__trellis[way->fit[i - 1] & 7][kalm__row_level(way->fit[i - 1]) & 1] : 0;
    }
    memset(to, 0, q->size);            /* the model's tables are not what kalm-quantize makes */
    to[0] = 1;
    return s;
}

/* n rows of components y [n][width], n at most ROWS_TOGETHER, into `to`, one behind the other. */
KALM__FN void kalm__row_code(const kalm__rowcode *c, const kalm__ops *ops, const kalm__row_work *w, unsigned b, unsigned r,
                             const float *y, size_t n, unsigned char *to)
{
    kalm__row_coding q;
    size_t j;
    kalm__row_begin(&q, c, ops, w, b, r, y, n);
    kalm__row_search(&q);
    for (j = 0; j < n; j++) kalm__row_finish(&q, j, to + j * q.size);
}

#endif
