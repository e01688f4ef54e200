/* rowcode.h - rows of documents in 4, 3 and 2 bits a number. A row x [width] is a sum of components, chosen so that an error of
   the same size in any of them changes the decoder's answer equally: y = T (x - mean), and x = mean + T^-1 y. The numbers y are
   rounded to whole steps, and the whole numbers, called levels, are written by an entropy coder. mean, T, T^-1 and the
   probabilities of levels are fitted by kalm-quantize (quantize/rows.h) and stand in the section ROWS of the model file. */
/* docs/FORMAT.md: */
/* A coded row has ceil(width * bits / 8) + 1 bytes, whatever its numbers are, so any row can be read by itself: each row has a
   step of its own, the smallest with which it fits. Any bytes are some row, so damage cannot lead astray.

   Rounding is dependent quantisation (a trellis of eight states): there are two quantisers, whose levels stand for
       0:  2 level                             1:  2 level - sign(level)
   steps, and the parity of each level chooses the quantiser of the next component. The encoder finds the levels that cost
   least in squared error and bits together (Viterbi's algorithm). For a given number of bits this leaves about a tenth less
   error than rounding each component to its nearest step (measured on the bundled model, 2 bits: .419 to .470 in squares).

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
   160      72  i32 bias[b][r], for the encoder, which is quicker with it: see kalm__row_search
   232      24  zero
   256    2048  u16 start[class][quantiser][16]: where the symbols' intervals begin in 0 ... 4095, rising from 0. class is 0 to 31
  2304    2048  u16 cost[class][quantiser][16]: bits of a symbol in units of 1/64, for the encoder
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
    KALM__ROWS_LEVEL = 32000,          /* the encoder writes no level beyond */
    KALM__ROWS_NARROWEST = 16          /* width; fewer numbers leave no room behind the coder's own bytes */
};

typedef struct kalm__rowcode {
    uint64_t     fingerprint;          /* hash of the section; 0: there is none */
    uint32_t     width, heavy;
    float        step[KALM__ROWS_BITS][KALM__ROWS_RATIOS];
    uint32_t     count[KALM__ROWS_BITS][KALM__ROWS_RATIOS];
    int32_t      bias[KALM__ROWS_BITS][KALM__ROWS_RATIOS];
    const uint16_t *start, *cost;      /* [CLASSES][2][SYMBOLS] */
    const uint8_t *classes;            /* [BITS][RATIOS][width] */
    const float *mean;                 /* [width] */
    const float *rows, *columns;       /* [HEAVY][width]: of T and T^-1 */
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
    size_t cost, classes, mean, rows, columns, forward, inverse, size;
    size_t scales;                     /* bytes of a matrix' scales, before its panels */
} kalm__rows_layout;

KALM__FN kalm__rows_layout kalm__rows_places(size_t width)
{
    kalm__rows_layout l;
    size_t line = kalm__round_up(width * sizeof(float), 64), heavy = kalm__round_up(KALM__ROWS_HEAVY * width * sizeof(float), 64);
    size_t matrix;
    l.scales = kalm__round_up(width, 16) * sizeof(float);
    matrix = l.scales + kalm__round_up(width, 16) / 16 * kalm__panel_bytes(KALM__Q16, width);
    l.cost = KALM__ROWS_TABLES + KALM__ROWS_CLASSES * 2 * KALM__ROWS_SYMBOLS * sizeof(uint16_t);
    l.classes = l.cost + KALM__ROWS_CLASSES * 2 * KALM__ROWS_SYMBOLS * sizeof(uint16_t);
    l.mean = kalm__round_up(l.classes + KALM__ROWS_BITS * KALM__ROWS_RATIOS * width, 64);
    l.rows = l.mean + line;
    l.columns = l.rows + heavy;
    l.forward = l.columns + heavy;
    l.inverse = l.forward + matrix;
    l.size = l.inverse + matrix;
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
            c->bias[b][r] = (int32_t)kalm__u32(p + 160 + place);
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
            if (k ? v <= before || v >= KALM__ROWS_TOTAL : v != 0)
                return kalm__fail(err, KALM_BAD_FILE, "the ROWS section has impossible probabilities in class %u", i / 2);
        }
    c->classes = p + l.classes;
    at = p + l.mean;
    c->mean = (const float *)at;
    at = p + l.rows;
    c->rows = (const float *)at;
    at = p + l.columns;
    c->columns = (const float *)at;
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

/* Rows that are transformed together, so that a matrix is read once for all of them. */
enum { KALM__ROWS_TOGETHER = 16 };

/* A worker's memory while it codes rows, each part at a multiple of 64. */
typedef struct kalm__row_work {
    float   *y;                        /* [ROWS_TOGETHER][width] components */
    void    *acts, *scratch;           /* of the products with T and T^-1 */
    int32_t *fixed;                    /* [width]: components in units of 1/32 step */
    uint16_t *from;                    /* [width]: which of its two ways each state is reached by, a bit a state; in bits 8 and 9
                                          whether the best even level of quantisers 0 and 1 is 0 though it is not the nearest */
    int16_t *level;                    /* [width] */
    uint8_t *state;                    /* [width]: before each level */
    unsigned char *bytes;              /* [row bytes] */
} kalm__row_work;

/* Hand out the parts from `base`, or count them where it is NULL. Returns the bytes. */
KALM__FN size_t kalm__row_work_plan(kalm__row_work *w, void *base, const kalm__kernels *k, size_t width)
{
    size_t size[7], total = 0, i;
    void *part[7];
    size[0] = KALM__ROWS_TOGETHER * width * sizeof(float);
    size[1] = kalm__acts_bytes(k, KALM__Q16, KALM__ROWS_TOGETHER, width);
    size[2] = kalm__matmul_scratch(k, KALM__Q16, width);
    size[3] = width * sizeof(int32_t);
    size[4] = width * sizeof(uint16_t);
    size[5] = width * sizeof(int16_t);
    size[6] = width + kalm__coded_row_bytes(width, 4);
    for (i = 0; i < 7; i++) {
        part[i] = base ? (unsigned char *)base + total : NULL;
        total = kalm__add(total, kalm__round_up(size[i], 64));
    }
    w->y = (float *)part[0];
    w->acts = part[1];
    w->scratch = part[2];
    w->fixed = (int32_t *)part[3];
    w->from = (uint16_t *)part[4];
    w->level = (int16_t *)part[5];
    w->state = (uint8_t *)part[6];
    w->bytes = base ? w->state + width : NULL;
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
    k->ops->scale_row(room, c->columns + j * c->width, by, c->width);
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

/* y / step in units of 1/32, limited to what levels can say. */
KALM__INLINE int32_t kalm__row_fixed(float y, float inverse)
{
    const float most = 2.0f * 32.0f * (float)KALM__ROWS_LEVEL;
    float v = kalm__times(y, inverse);
    v = v > most ? most : v >= -most ? v : -most;
    return (int32_t)kalm__rounded(v < 0.0f ? v - 0.5f : v + 0.5f);
}

/* One row on its way. */
typedef struct kalm__row_coding {
    const kalm__rowcode *c;
    const kalm__row_work *w;
    const float   *y;
    const uint8_t *classes;
    uint32_t       count;
    unsigned       b, r;
    size_t         size;               /* bytes of the row */
    uint32_t       budget;             /* its bits, in 1/64 */
    uint32_t       s, bits;            /* once it is written: its step, and what its levels cost, in 1/64 bits. (w->level may hold
                                          those of another step.) */
} kalm__row_coding;

KALM__FN float kalm__row_inverse(const kalm__row_coding *q, uint32_t s)
{
    return kalm__over(32.0f, kalm__row_step(q->c, q->b, q->r, s));
}

/* About how many bits the row takes with step s: those of quantiser 0 alone. *active: how many levels are not 0. */
KALM__FN uint32_t kalm__row_estimate(const kalm__row_coding *q, uint32_t s, uint32_t *active)
{
    float inverse = kalm__row_inverse(q, s);
    uint32_t i, sum = 0;
    *active = 0;
    for (i = 0; i < q->count; i++) {
        int32_t u = kalm__row_fixed(q->y[i], inverse);
        int32_t level = u < 0 ? -((32 - u) >> 6) : (u + 32) >> 6;
        sum += kalm__level_cost(q->c->cost + (q->classes[i] & 31u) * 2 * KALM__ROWS_SYMBOLS, q->classes[i] >> 5, level);
        *active += level != 0;
    }
    return sum;
}

/* What a bit is worth in squared error: 3/8 of a squared step; so a 64th of one counts 6 where a step's square is 1024. The least
   error for a given number of bits was found between 2/8 and 4/8, and is flat there. */
enum { KALM__ROWS_LAMBDA = 6 };

/* The level nearest to 0 of the two beside u that a quantiser has, without its sign, and whether the next one is even. */
KALM__INLINE int32_t kalm__row_low(int32_t size, unsigned quantiser) { return (size + 32 * (int32_t)quantiser) >> 6; }

/* For a component u of this class: what the best level of each quantiser and parity costs, into best[quantiser * 2 + parity].
   The even ones compete with 0. Returns bit `quantiser` set where 0 has won. */
KALM__INLINE unsigned kalm__row_candidates(const uint16_t *cost, unsigned shift, int32_t u, uint32_t best[4])
{
    int32_t size = u < 0 ? -u : u, way = u < 0 ? -1 : 1, low, inner, outer;
    unsigned zero = 0, quantiser;
    uint32_t one, two, even, none;
    if (!shift && size < 6 * 64) {     /* nearly always: all symbols are levels */
        const uint16_t *at = cost + 7;
        for (quantiser = 0; quantiser < 2; quantiser++, at += KALM__ROWS_SYMBOLS) {
            low = kalm__row_low(size, quantiser);
            outer = 64 * low + 64 - 32 * (int32_t)quantiser - size;
            inner = low ? 64 - outer : size;
            one = (uint32_t)(inner * inner) + KALM__ROWS_LAMBDA * (uint32_t)at[way * low];
            two = (uint32_t)(outer * outer) + KALM__ROWS_LAMBDA * (uint32_t)at[way * (low + 1)];
            none = (uint32_t)(size * size) + KALM__ROWS_LAMBDA * (uint32_t)at[0];
            even = low & 1 ? two : one;
            best[quantiser * 2 + 1] = low & 1 ? one : two;
            zero |= (unsigned)(none < even) << quantiser;
            best[quantiser * 2] = none < even ? none : even;
        }
        return zero;
    }
    for (quantiser = 0; quantiser < 2; quantiser++, cost += KALM__ROWS_SYMBOLS) {
        low = kalm__row_low(size, quantiser);
        outer = 64 * low + 64 - 32 * (int32_t)quantiser - size;
        inner = low ? 64 - outer : size;
        one = (uint32_t)(inner * inner) + KALM__ROWS_LAMBDA * kalm__level_cost(cost, shift, way * low);
        two = (uint32_t)(outer * outer) + KALM__ROWS_LAMBDA * kalm__level_cost(cost, shift, way * (low + 1));
        even = low & 1 ? two : one;
        best[quantiser * 2 + 1] = low & 1 ? one : two;
        if (size < 4 * 32) {
            none = (uint32_t)(size * size) + KALM__ROWS_LAMBDA * kalm__level_cost(cost, shift, 0);
            zero |= (unsigned)(none < even) << quantiser;
            if (none < even) even = none;
        }
        best[quantiser * 2] = even;
    }
    return zero;
}

/* The level that kalm__row_candidates meant; zero: what it returned. */
KALM__INLINE int32_t kalm__row_candidate(int32_t u, unsigned quantiser, unsigned parity, unsigned zero)
{
    int32_t size = u < 0 ? -u : u, low = kalm__row_low(size, quantiser);
    low += (low ^ (int32_t)parity) & 1;
    if (!parity && zero >> quantiser & 1) low = 0;
    return u < 0 ? -low : low;
}

/* *to = the lesser of two costs; 1 where it is the other. */
KALM__INLINE unsigned kalm__row_lesser(uint32_t *to, uint32_t one, uint32_t other)
{
    unsigned second = other < one;
    *to = second ? other : one;
    return second;
}

/* The levels of the row with step s, into w->level and w->state. Returns their bits, in 1/64. */
KALM__FN uint32_t kalm__row_levels(const kalm__row_coding *q, uint32_t s)
{
    static const uint8_t reached[8][2] = {         /* state * 2 + parity, from which each state is reached: kalm__trellis turned */
        { 0, 9 }, { 4, 13 }, { 1, 8 }, { 5, 12 }, { 7, 10 }, { 2, 15 }, { 6, 11 }, { 3, 14 }
    };
    const uint32_t never = 1u << 30;
    float inverse = kalm__row_inverse(q, s);
    uint32_t c[8], n[8], best[4], i, bits = 0;
    unsigned state, end = 0, from;
    for (state = 0; state < 8; state++) c[state] = state ? never : 0;
    for (i = 0; i < q->count; i++) {
        int32_t u = kalm__row_fixed(q->y[i], inverse);
        q->w->fixed[i] = u;
        from = kalm__row_candidates(q->c->cost + (q->classes[i] & 31u) * 2 * KALM__ROWS_SYMBOLS, q->classes[i] >> 5, u, best) << 8;
        from |= kalm__row_lesser(&n[0], c[0] + best[0], c[4] + best[1]);       /* as in `reached` */
        from |= kalm__row_lesser(&n[1], c[2] + best[0], c[6] + best[1]) << 1;
        from |= kalm__row_lesser(&n[2], c[0] + best[1], c[4] + best[0]) << 2;
        from |= kalm__row_lesser(&n[3], c[2] + best[1], c[6] + best[0]) << 3;
        from |= kalm__row_lesser(&n[4], c[3] + best[3], c[5] + best[2]) << 4;
        from |= kalm__row_lesser(&n[5], c[1] + best[2], c[7] + best[3]) << 5;
        from |= kalm__row_lesser(&n[6], c[3] + best[2], c[5] + best[3]) << 6;
        from |= kalm__row_lesser(&n[7], c[1] + best[3], c[7] + best[2]) << 7;
        q->w->from[i] = (uint16_t)from;
        memcpy(c, n, sizeof c);
    }
    for (state = 1; state < 8; state++)
        if (c[state] < c[end]) end = state;
    for (; i--; ) {
        unsigned way = reached[end][q->w->from[i] >> end & 1], quantiser = way >> 1 & 1;
        int32_t level = kalm__row_candidate(q->w->fixed[i], quantiser, way & 1, q->w->from[i] >> 8);
        bits += kalm__level_cost(q->c->cost + ((q->classes[i] & 31u) * 2 + quantiser) * KALM__ROWS_SYMBOLS, q->classes[i] >> 5, level);
        q->w->level[i] = (int16_t)level;
        end = way >> 1;
        q->w->state[i] = (uint8_t)end;
    }
    return bits;
}

/* The coder's number and the bytes that it gives off, from the last one on. */
typedef struct kalm__row_writer {
    unsigned char *bytes;
    size_t at;                         /* bytes [at, size) are written; SIZE_MAX: there were too many */
    uint32_t x;
} kalm__row_writer;

KALM__INLINE void kalm__row_give(kalm__row_writer *out, uint32_t limit)
{
    for (; out->x >= limit; out->x >>= 8) {
        if (out->at == SIZE_MAX || out->at <= 3) out->at = SIZE_MAX;
        else out->bytes[--out->at] = (unsigned char)out->x;
    }
}

KALM__INLINE void kalm__row_put_bits(kalm__row_writer *out, uint32_t v, unsigned n)
{
    kalm__row_give(out, 1u << (24 - n));
    out->x = out->x << n | v;
}

KALM__INLINE void kalm__row_put_symbol(kalm__row_writer *out, const uint16_t *start, unsigned symbol)
{
    uint32_t size = (symbol + 1 < KALM__ROWS_SYMBOLS ? start[symbol + 1] : (uint32_t)KALM__ROWS_TOTAL) - start[symbol];
    kalm__row_give(out, size << 12);
    out->x = (out->x / size << 12) + out->x % size + start[symbol];
}

/* Write the levels of w->level, beginning with the coder's number x, into w->bytes. */
KALM__FN kalm__row_writer kalm__row_put_from(const kalm__row_coding *q, uint32_t x)
{
    kalm__row_writer out;
    uint32_t i;
    out.bytes = q->w->bytes;
    out.at = q->size;
    out.x = x;
    for (i = q->count; i--; ) {        /* what is read first is written last */
        unsigned shift = q->classes[i] >> 5, quantiser = q->w->state[i] & 1;
        int32_t level = q->w->level[i], high = kalm__level_high(level, shift);
        uint32_t symbol = (uint32_t)(high + 7);
        if (shift) kalm__row_put_bits(&out, (uint32_t)(level + (1 << (shift - 1)) - high * (1 << shift)), shift);
        if (symbol >= KALM__ROWS_SYMBOLS - 1) {
            uint32_t rest = (uint32_t)(high < 0 ? -high : high) - 7;
            unsigned n = kalm__log2(rest);
            kalm__row_put_bits(&out, rest - (1u << n), n);
            kalm__row_put_bits(&out, high < 0, 1);
            kalm__row_put_bits(&out, n, 4);
            symbol = KALM__ROWS_SYMBOLS - 1;
        }
        kalm__row_put_symbol(&out, q->c->start + ((q->classes[i] & 31u) * 2 + quantiser) * KALM__ROWS_SYMBOLS, symbol);
    }
    return out;
}

/* Write the levels of w->level with step s into `to` [size]; 0 where they do not fit. */
KALM__FN int kalm__row_put(const kalm__row_coding *q, uint32_t s, unsigned char *to)
{
    kalm__row_writer out = kalm__row_put_from(q, 32 * (KALM__ROWS_STEPS + s));
    if (out.at == SIZE_MAX) {
        out = kalm__row_put_from(q, KALM__ROWS_STEPS + s);
        if (out.at != 3) return 0;
    }
    memset(to, 0, q->size);
    to[0] = (unsigned char)(out.x >> 16);
    to[1] = (unsigned char)(out.x >> 8);
    to[2] = (unsigned char)out.x;
    memcpy(to + 3, out.bytes + out.at, q->size - out.at);
    return 1;
}

KALM__FN uint32_t kalm__row_moved(int64_t s, int64_t by)
{
    int64_t to = s + by;
    return to < 0 ? 0u : to > KALM__ROWS_STEPS - 1 ? KALM__ROWS_STEPS - 1 : (uint32_t)to;
}

KALM__INLINE int64_t kalm__at_least(int64_t v, int64_t least) { return v < least ? least : v; }

/* By how much to change s so that `over` 1/64 bits fewer are taken: a component that is not 0 loses a bit with each octave. */
KALM__FN int64_t kalm__row_change(const kalm__row_coding *q, int64_t over, uint32_t active)
{
    int64_t change = over * KALM__ROWS_OCTAVE / 64 / (int64_t)(active + q->count / 16 + 1);
    return change > 4 * KALM__ROWS_OCTAVE ? 4 * KALM__ROWS_OCTAVE : change < -4 * KALM__ROWS_OCTAVE ? -4 * KALM__ROWS_OCTAVE : change;
}

/* A step with which the estimate, and the bias by which bits differ from it, meets the budget about. */
KALM__FN uint32_t kalm__row_search(const kalm__row_coding *q, uint32_t s, int64_t bias, uint32_t *active)
{
    unsigned i;
    for (i = 0; i < 4; i++) {
        int64_t over = (int64_t)kalm__row_estimate(q, s, active) + bias - q->budget, change = kalm__row_change(q, over, *active);
        s = kalm__row_moved(s, change);
        if (change >= -1 && change <= 1) break;
    }
    return s;
}

/* Choose the step, then the levels, then write them. Up to five steps are tried, until the row is full but for a 128th: bits do
   not fall evenly with the step. A row that no step makes fit (the model's tables are then not what kalm-quantize makes) becomes about the mean of all rows. */
KALM__FN void kalm__row_write(kalm__row_coding *q, unsigned char *to)
{
    uint32_t active = 0, s = kalm__row_search(q, KALM__ROWS_MIDDLE, q->c->bias[q->b][q->r], &active), i;
    int64_t goal = q->budget, slack = goal / 128, least = -1, most = KALM__ROWS_STEPS;   /* s that does not fit, and one that does */
    int64_t least_bits = 0, most_bits = 0;
    for (i = 0; i < 24; i++) {
        int64_t bits = kalm__row_levels(q, s), next;
        if (bits <= goal && kalm__row_put(q, s, to)) {
            most = q->s = s;
            most_bits = q->bits = (uint32_t)bits;
            if (goal - bits <= slack || i >= 4) return;
        } else {
            least = s;
            least_bits = bits > goal ? bits : goal + slack;        /* costs are rounded: it may be a few bits more than they say */
        }
        if (least + 1 >= most || (i >= 4 && most < KALM__ROWS_STEPS)) break;
        if (least >= 0 && most < KALM__ROWS_STEPS)           /* between the two, a little nearer to what fits */
            next = most - (most - least) * (goal - most_bits - slack / 3) / kalm__at_least(least_bits - most_bits, 1);
        else next = (int64_t)s + kalm__row_change(q, bits - goal + slack / 2, active) + (bits > goal ? (int64_t)i * i * 4 : 0);
        next = next <= least ? least + 1 : next >= most ? most - 1 : next;
        s = kalm__row_moved(next, 0);
    }
    if (most < KALM__ROWS_STEPS) return;
    memset(q->w->level, 0, q->count * sizeof *q->w->level);
    memset(q->w->state, 0, q->count);
    q->s = KALM__ROWS_MIDDLE;
    if (!kalm__row_put(q, KALM__ROWS_MIDDLE, to)) {
        memset(to, 0, q->size);
        to[0] = 1;
    }
}

KALM__FN void kalm__row_begin(kalm__row_coding *q, const kalm__rowcode *c, const kalm__row_work *w, unsigned b, unsigned r, const float *y)
{
    memset(q, 0, sizeof *q);
    q->c = c;
    q->w = w;
    q->y = y;
    q->b = b;
    q->r = r;
    q->classes = c->classes + (b * KALM__ROWS_RATIOS + r) * (size_t)c->width;
    q->count = c->count[b][r];
    q->size = kalm__coded_row_bytes(c->width, 4 - b);
    q->budget = (uint32_t)(8 * q->size - 12) * 64;         /* the coder begins with 12 bits for s */
}

/* A row of components y [width] into `to` [size of a row]. */
KALM__FN void kalm__row_code(const kalm__rowcode *c, const kalm__row_work *w, unsigned b, unsigned r, const float *y,
                             unsigned char *to)
{
    kalm__row_coding q;
    kalm__row_begin(&q, c, w, b, r, y);
    kalm__row_write(&q, to);
}

#endif
