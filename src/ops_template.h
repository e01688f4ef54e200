/* docs/KERNELS.md: */
/* ops_template.h - the float work between matmuls, written once over a small vector vocabulary; ops.h includes it for
   every instruction set, and each time leaves one function of every kind below. (In kalm_rerank.h the functions stand once, as
   macros: see src/amalgamate.awk.) Macros of the vocabulary are taken back at its end. ops.h describes the
   vocabulary and the order of sums. */
/* end of docs/KERNELS.md */

/* The first n floats of p, all of a vector if there are as many; `fill` in the other lanes. What is shorter goes through a buffer where a
   set has no masks. */
#define KALM__BUFFER_loading KALM__LOAD(part)
#define KALM__BUFFER_storing (KALM__STORE(part, v), (void)memcpy(p, part, n * sizeof(float)))
KALM__VT KALM__SMALL_FN KALM__VF KALM__V(load_some)(const float *p, size_t n, float fill)
{
    float part[KALM__W];
    size_t i;
    if (n >= KALM__W) return KALM__LOAD(p);
    for (i = 0; i < KALM__W; i++) part[i] = i < n ? p[i] : fill;
    (void)part;
    return KALM__SHORT(loading);
}
KALM__VT KALM__SMALL_FN void KALM__V(store_some)(float *p, size_t n, KALM__VF v)
{
    float part[KALM__W];
    (void)part;
    if (n >= KALM__W) KALM__STORE(p, v);
    else KALM__SHORT(storing);
}
#define KALM__LOADN(p, n) KALM__V(load_some)(p, n, 0.0f)
#define KALM__STOREN KALM__V(store_some)

/* The whole number nearest to v, ties to even, |v| < 2^22: with 1.5 * 2^23 added it is the last bits of the sum. */
#define KALM__SHIFT KALM__SET(12582912.0f)
#define KALM__NEAREST(v) KALM__SUB(KALM__ADD(v, KALM__SHIFT), KALM__SHIFT)

/* y[i] = formula for all i below n: whole vectors, then the rest. The formula gets the macro that makes a vector of
   p[i] and what follows. */
#define KALM__WHOLE(p) KALM__LOAD((p) + i)
#define KALM__REST(p) KALM__LOADN((p) + i, n - i)
#define KALM__FOR_ALL(y, formula) \
    for (i = 0; i + KALM__W <= n; i += KALM__W) KALM__STORE(y + i, formula(KALM__WHOLE)); \
    if (i < n) KALM__STOREN(y + i, n - i, formula(KALM__REST));

/* The 32 lanes of a sum, KALM__W in each of s0, s1, ...: each(0) each(1) ..., and what they add up to. */
#define KALM__PARTS(each) KALM__JOIN(KALM__PARTS_, KALM__W)(each)
#define KALM__PARTS_16(each) KALM__REP_2(each)
#define KALM__PARTS_8(each) KALM__REP_4(each)
#define KALM__PARTS_4(each) KALM__REP_8(each)
#define KALM__TOTAL(s) KALM__JOIN(KALM__TOTAL_, KALM__W)(s)
#define KALM__TOTAL_16(s) KALM__SUM(KALM__ADD(s##0, s##1))
#define KALM__TOTAL_8(s) KALM__SUM(KALM__ADD(KALM__ADD(s##0, s##2), KALM__ADD(s##1, s##3)))
#define KALM__TOTAL_4(s) \
    KALM__SUM(KALM__ADD(KALM__ADD(KALM__ADD(s##0, s##4), KALM__ADD(s##2, s##6)), \
                        KALM__ADD(KALM__ADD(s##1, s##5), KALM__ADD(s##3, s##7))))
#define KALM__JOIN(a, b) KALM__JOINED(a, b)
#define KALM__JOINED(a, b) a##b
#define KALM__ZERO(i) KALM__VF s##i = KALM__SET(0.0f);

/* Polynomials are long chains of operations, so four vectors of numbers, in a GeGLU with 32 registers eight, stand side by side: all take
   a step, then all take the next. A processor that finds the next independent operation a whole chain away finds few of them. */
#define KALM__SIDES(each) KALM__JOIN(KALM__SIDES_, KALM__W)(each)
#define KALM__SIDES_16(each) KALM__REP_8(each)
#define KALM__SIDES_8(each) KALM__REP_4(each)
#define KALM__SIDES_4(each) KALM__REP_4(each)
#define KALM__SIDE ((KALM__W == 16 ? 8 : 4) * KALM__W)      /* floats of a GeGLU side by side */
#define KALM__THREE(i) KALM__VF t##i, m##i, p##i;

/* p = 2^t for t in -125..126; what is below counts as -125. t = n + f, 2^f for f in -1/2..1/2 by a polynomial with 2^0 exactly
   1, its coefficients searched for the least relative error of this very arithmetic: 1.7e-7. */
#define KALM__EXP2_WHOLE(i) \
    t##i = KALM__MAX(t##i, KALM__SET(-125.0f)); \
    m##i = KALM__ADD(t##i, KALM__SHIFT); \
    t##i = KALM__SUB(t##i, KALM__SUB(m##i, KALM__SHIFT));
#define KALM__EXP2_1(i) p##i = KALM__ADD(KALM__MUL(t##i, KALM__SET(1.33447547e-3f)), KALM__SET(9.66920238e-3f));
#define KALM__EXP2_2(i) p##i = KALM__ADD(KALM__MUL(p##i, t##i), KALM__SET(5.55038191e-2f));
#define KALM__EXP2_3(i) p##i = KALM__ADD(KALM__MUL(p##i, t##i), KALM__SET(0.240222916f));
#define KALM__EXP2_4(i) p##i = KALM__ADD(KALM__MUL(p##i, t##i), KALM__SET(0.693147361f));
#define KALM__EXP2_5(i) p##i = KALM__SCALE2(KALM__ADD(KALM__MUL(p##i, t##i), KALM__SET(1.0f)), m##i);
#define KALM__EXP2(all) \
    all(KALM__EXP2_WHOLE) all(KALM__EXP2_1) all(KALM__EXP2_2) all(KALM__EXP2_3) all(KALM__EXP2_4) all(KALM__EXP2_5)

/* sum of x[i] * y[i] */
#define KALM__DOT_STEP(i) s##i = KALM__ADD(s##i, KALM__MUL(KALM__LOAD(a + i * KALM__W), KALM__LOAD(b + i * KALM__W)));
KALM__VT static float KALM__V(dot)(const float *x, const float *y, size_t n)
{
    const float *a = x, *b = y;
    float rest[2][32];
    KALM__PARTS(KALM__ZERO)
    for (; n >= 32; n -= 32, a += 32, b += 32) { KALM__PARTS(KALM__DOT_STEP) }
    if (n) {
        memset(rest, 0, sizeof rest);
        memcpy(rest[0], a, n * sizeof(float));
        memcpy(rest[1], b, n * sizeof(float));
        a = rest[0], b = rest[1];
        KALM__PARTS(KALM__DOT_STEP)
    }
    return KALM__TOTAL(s);
}

/* What RMSNorm multiplies a row by beside its gain, 1 / sqrt(mean(x^2) + eps) (docs/MODEL.md). This is a long chain of operations, so
   it is computed for KALM__NORMED rows of n together, where `row` is the first of them, and kept in ahead[]. Where the sum of squares
   is too large for a float this would be zero, and the row lost without a word; NaN is found (layer.h). */
KALM__VT KALM__SMALL_FN float KALM__V(inverse_rms)(float *ahead, const float *x, size_t n, float eps, size_t row, size_t rows)
{
    size_t i, some = row % KALM__NORMED ? 0 : kalm__min(rows - row, KALM__NORMED);
    for (i = 0; i < some; i++) {
        float mean = kalm__over(KALM__V(dot)(x + i * n, x + i * n, n), (float)n);
        ahead[i] = kalm__is_finite(mean) ? kalm__over(1.0f, kalm__root(kalm__plus(mean, eps))) : kalm__not_a_number();
    }
    return ahead[row % KALM__NORMED];
}

/* y = x / sqrt(mean(x^2) + eps) * gain, gain = 1 + w; rows of n, one behind the other. x and y may be the same. */
#define KALM__RMS_NORM_FORMULA(at) KALM__MUL(KALM__MUL(at(x), r), at(gain))
KALM__VT static void KALM__V(rms_norm)(float *y, const float *x, const float *gain, size_t n, float eps, size_t rows)
{
    float ahead[KALM__NORMED];
    size_t i, row;
    for (row = 0; row < rows; row++, x += n, y += n) {
        KALM__VF r = KALM__SET(KALM__V(inverse_rms)(ahead, x, n, eps, row, rows));
        KALM__FOR_ALL(y, KALM__RMS_NORM_FORMULA)
    }
}

/* x += rms_norm(y): what a layer's block gives back to the residual stream. */
#define KALM__ADD_NORM_FORMULA(at) KALM__ADD(at(x), KALM__MUL(KALM__MUL(at(y), r), at(gain)))
KALM__VT static void KALM__V(add_norm)(float *x, const float *y, const float *gain, size_t n, float eps, size_t rows)
{
    float ahead[KALM__NORMED];
    size_t i, row;
    for (row = 0; row < rows; row++, x += n, y += n) {
        KALM__VF r = KALM__SET(KALM__V(inverse_rms)(ahead, y, n, eps, row, rows));
        KALM__FOR_ALL(x, KALM__ADD_NORM_FORMULA)
    }
}

/* Heads of one row: q or k of `dim` numbers, normed, times `scale`, then rotated by the half-split pairs (i, i + dim/2); angles: the
   dim / 2 cosines, then the sines, NULL for no rotation (document keys). x and y may be the same. */
KALM__VT static void KALM__V(norm_rotate)(float *y, const float *x, const float *gain, size_t dim, float eps, float scale,
                                          const float *angles, size_t heads)
{
    float ahead[KALM__NORMED];
    size_t half = dim / 2, i, n, head;
    for (head = 0; head < heads; head++, x += dim, y += dim) {
        KALM__VF r = KALM__SET(kalm__times(KALM__V(inverse_rms)(ahead, x, dim, eps, head, heads), scale));
        for (i = 0; !angles && i < dim; i += KALM__W)
            KALM__STOREN(y + i, dim - i, KALM__MUL(KALM__MUL(KALM__LOADN(x + i, dim - i), r),
                                                      KALM__LOADN(gain + i, dim - i)));
        for (i = 0; angles && i < half; i += KALM__W) {
            KALM__VF a, b, c, s;
            n = half - i;
            a = KALM__MUL(KALM__MUL(KALM__LOADN(x + i, n), r), KALM__LOADN(gain + i, n));
            b = KALM__MUL(KALM__MUL(KALM__LOADN(x + half + i, n), r), KALM__LOADN(gain + half + i, n));
            c = KALM__LOADN(angles + i, n);
            s = KALM__LOADN(angles + half + i, n);
            KALM__STOREN(y + i, n, KALM__SUB(KALM__MUL(a, c), KALM__MUL(b, s)));
            KALM__STOREN(y + half + i, n, KALM__ADD(KALM__MUL(a, s), KALM__MUL(b, c)));
        }
    }
}

/* The rotation by a after that by b; each [half] cosines, then [half] sines (rotary.h). */
KALM__VT static void KALM__V(add_angles)(float *out, const float *a, const float *b, size_t half)
{
    size_t i, n;
    for (i = 0; i < half; i += KALM__W) {
        KALM__VF ca, sa, cb, sb;
        n = half - i;
        ca = KALM__LOADN(a + i, n), sa = KALM__LOADN(a + half + i, n);
        cb = KALM__LOADN(b + i, n), sb = KALM__LOADN(b + half + i, n);
        KALM__STOREN(out + i, n, KALM__SUB(KALM__MUL(ca, cb), KALM__MUL(sa, sb)));
        KALM__STOREN(out + half + i, n, KALM__ADD(KALM__MUL(sa, cb), KALM__MUL(ca, sb)));
    }
}

/* docs/KERNELS.md: */
/* h = gelu_tanh(gate) * up. With z = sqrt(2/pi) (g + 0.044715 g^3): g (1 + tanh z) / 2 = g / (1 + e^-2z), which needs one
   exponential and loses no digits near zero. The constants carry -2 / ln 2.
   1 / p for p in 1..2^120 to 2 units in the last place: division takes longer, and has no vectors on ARMv7. The start, from the bits
   of p, is within 12%; each of Newton's steps squares the error. */
/* end of docs/KERNELS.md */
#define KALM__GEGLU_Z(i) \
    m##i = KALM__LOAD(g + i * KALM__W); \
    t##i = KALM__ADD(KALM__MUL(KALM__MUL(m##i, m##i), KALM__SET(-0.10294324f)), KALM__SET(-2.3022082f)); \
    t##i = KALM__MIN(KALM__MUL(m##i, t##i), KALM__SET(115.0f));
#define KALM__GEGLU_START(i) \
    p##i = KALM__ADD(KALM__SET(1.0f), p##i); \
    t##i = KALM__BITS(0x7ef311c7, p##i);
#define KALM__GEGLU_NEWTON(i) t##i = KALM__MUL(t##i, KALM__SUB(KALM__SET(2.0f), KALM__MUL(p##i, t##i)));
#define KALM__GEGLU_END(i) \
    KALM__STORE(y + i * KALM__W, KALM__MUL(KALM__MUL(KALM__LOAD(g + i * KALM__W), t##i), KALM__LOAD(u + i * KALM__W)));
KALM__VT static void KALM__V(geglu)(float *h, const float *gate, const float *up, size_t n)
{
    float rest[2][KALM__SIDE], *y = h;
    const float *g = gate, *u = up;
    size_t some = KALM__SIDE;
    for (; n; n -= some, y += some, g += some, u += some) {
        KALM__SIDES(KALM__THREE)
        if (n < some) {
            h = y, some = n;
            memset(rest, 0, sizeof rest);
            memcpy(rest[0], g, n * sizeof(float));
            memcpy(rest[1], u, n * sizeof(float));
            y = rest[0], g = rest[0], u = rest[1];
        }
        KALM__SIDES(KALM__GEGLU_Z)
        KALM__EXP2(KALM__SIDES)
        KALM__SIDES(KALM__GEGLU_START)
        KALM__SIDES(KALM__GEGLU_NEWTON) KALM__SIDES(KALM__GEGLU_NEWTON) KALM__SIDES(KALM__GEGLU_NEWTON)
        KALM__SIDES(KALM__GEGLU_END)
        if (y == rest[0]) memcpy(h, y, n * sizeof(float));
    }
}

KALM__VT static float KALM__V(row_max)(const float *x, size_t n)
{
    KALM__VF m = KALM__SET(-INFINITY);
    size_t i = 0;
    for (; i + KALM__W <= n; i += KALM__W) m = KALM__MAX(m, KALM__LOAD(x + i));
    if (i < n) m = KALM__MAX(m, KALM__V(load_some)(x + i, n - i, -INFINITY));
    return KALM__HMAX(m);
}

/* p[i] = e^(p[i] - top), p[i] - top <= 87, their sum returned; then, unless scale is NULL, p[i] *= scale[i], scale >= 0, and *most is the
   largest. What is behind the n-th counts as zero. */
#define KALM__EXP_IN(v) KALM__MUL(KALM__SUB(v, t), KALM__SET(1.44269504f))
#define KALM__EXP_WHOLE(i) t##i = KALM__EXP_IN(KALM__LOAD(p + at + i * KALM__W));
#define KALM__EXP_OUT(i) KALM__STORE(p + at + i * KALM__W, p##i);
#define KALM__LEFT(i) (n > i * KALM__W ? n - i * KALM__W : 0)
#define KALM__FROM(p, i) KALM__LOADN(p + i * KALM__W, KALM__LEFT(i))
#define KALM__SUM_STEP(i) s##i = KALM__ADD(s##i, KALM__LOAD(p + i * KALM__W));
#define KALM__SUM_REST(i) s##i = KALM__ADD(s##i, KALM__FROM(p, i));
#define KALM__WEIGH_STEP(i) \
    w = KALM__MUL(KALM__LOAD(p + i * KALM__W), KALM__LOAD(scale + i * KALM__W)); \
    KALM__STORE(p + i * KALM__W, w); \
    m = KALM__MAX(m, w);
#define KALM__WEIGH_REST(i) \
    w = KALM__MUL(KALM__FROM(p, i), KALM__FROM(scale, i)); \
    KALM__STOREN(p + i * KALM__W, KALM__LEFT(i), w); \
    m = KALM__MAX(m, w);
KALM__VT static float KALM__V(exp_sum)(float *p, size_t n, float top, const float *scale, float *most)
{
    KALM__VF t = KALM__SET(top), m = KALM__SET(0.0f), w;
    size_t at;
    KALM__PARTS(KALM__ZERO)
    KALM__SIDES(KALM__THREE)
    for (at = 0; n - at >= KALM__SIDE; at += KALM__SIDE) {
        KALM__SIDES(KALM__EXP_WHOLE)
        KALM__EXP2(KALM__SIDES)
        KALM__SIDES(KALM__EXP_OUT)
    }
    for (; at < n; at += KALM__W) {
        t0 = KALM__EXP_IN(KALM__LOADN(p + at, n - at));
        KALM__EXP2(KALM__REP_1)
        KALM__STOREN(p + at, n - at, p0);
    }
    for (; n >= 32; n -= 32, p += 32) {
        KALM__PARTS(KALM__SUM_STEP)
        if (!scale) continue;
        KALM__PARTS(KALM__WEIGH_STEP)
        scale += 32;
    }
    if (n) { KALM__PARTS(KALM__SUM_REST) }
    if (n && scale) { KALM__PARTS(KALM__WEIGH_REST) }
    if (scale) *most = KALM__HMAX(m);
    return KALM__TOTAL(s);
}

/* The sum of those p[i] >= 0 that are below `limit`; *all is the sum of all. */
#define KALM__ZERO_BELOW(i) KALM__VF b##i = KALM__SET(0.0f);
#define KALM__SUM_BELOW(i) \
    s##i = KALM__ADD(s##i, v); \
    b##i = KALM__ADD(b##i, KALM__BELOW(v, l));
#define KALM__SUM_BELOW_STEP(i) v = KALM__LOAD(p + i * KALM__W); KALM__SUM_BELOW(i)
#define KALM__SUM_BELOW_REST(i) v = KALM__FROM(p, i); KALM__SUM_BELOW(i)
KALM__VT static float KALM__V(sum_below)(const float *p, size_t n, float limit, float *all)
{
    KALM__VF l = KALM__SET(limit), v;
    KALM__PARTS(KALM__ZERO)
    KALM__PARTS(KALM__ZERO_BELOW)
    for (; n >= 32; n -= 32, p += 32) { KALM__PARTS(KALM__SUM_BELOW_STEP) }
    if (n) { KALM__PARTS(KALM__SUM_BELOW_REST) }
    *all = KALM__TOTAL(s);
    return KALM__TOTAL(b);
}

/* y = y * scale + x */
#define KALM__SCALE_ADD_FORMULA(at) KALM__ADD(KALM__MUL(at(y), s), at(x))
KALM__VT static void KALM__V(scale_add)(float *y, float scale, const float *x, size_t n)
{
    KALM__VF s = KALM__SET(scale);
    size_t i;
    KALM__FOR_ALL(y, KALM__SCALE_ADD_FORMULA)
}

/* y = x * scale */
#define KALM__SCALE_ROW_FORMULA(at) KALM__MUL(at(x), s)
KALM__VT static void KALM__V(scale_row)(float *y, const float *x, float scale, size_t n)
{
    KALM__VF s = KALM__SET(scale);
    size_t i;
    KALM__FOR_ALL(y, KALM__SCALE_ROW_FORMULA)
}

/* y = rotated x (ops.h, Rotation); they may be the same. Butterflies between vectors stay in registers, since every index is a constant;
   those inside a vector go through KALM__HADAMARD, which leaves lane i holding the Walsh-Hadamard sum i of its KALM__W lanes. */
#define KALM__BUTTERFLY(i, j) b = v[j], v[j] = KALM__SUB(v[i], b), v[i] = KALM__ADD(v[i], b);
#define KALM__BUTTERFLIES(i, s) \
    KALM__BUTTERFLY(i, i + s) KALM__BUTTERFLY(i + 2 * s, i + 3 * s) \
    KALM__BUTTERFLY(i, i + 2 * s) KALM__BUTTERFLY(i + s, i + 3 * s)
#define KALM__BETWEEN KALM__JOIN(KALM__BETWEEN_, KALM__W)
#define KALM__BETWEEN_16 KALM__BUTTERFLIES(0, 1)
#define KALM__BETWEEN_8 \
    KALM__BUTTERFLIES(0, 1) KALM__BUTTERFLIES(4, 1) \
    KALM__BUTTERFLY(0, 4) KALM__BUTTERFLY(1, 5) KALM__BUTTERFLY(2, 6) KALM__BUTTERFLY(3, 7)
#define KALM__BETWEEN_4 \
    KALM__BUTTERFLIES(0, 1) KALM__BUTTERFLIES(4, 1) KALM__BUTTERFLIES(8, 1) KALM__BUTTERFLIES(12, 1) \
    KALM__BUTTERFLIES(0, 4) KALM__BUTTERFLIES(1, 4) KALM__BUTTERFLIES(2, 4) KALM__BUTTERFLIES(3, 4)
#define KALM__INSIDE_AT(i) v[i] = KALM__HADAMARD(KALM__MUL(KALM__LOAD(x + (i) * KALM__W), scale));
#define KALM__INSIDE(i) KALM__INSIDE_AT(i) KALM__INSIDE_AT(i + 32 / KALM__W)
#define KALM__OUTSIDE(i) KALM__STORE(y + i * KALM__W, v[i]); KALM__STORE(y + i * KALM__W + 32, v[i + 32 / KALM__W]);
KALM__VT static void KALM__V(hadamard)(float *y, const float *x, size_t n)
{
    KALM__VF scale = KALM__SET(0.125f), v[KALM__ROTATION / KALM__W], b;          /* 64^-1/2 */
    for (; n >= KALM__ROTATION; n -= KALM__ROTATION, x += KALM__ROTATION, y += KALM__ROTATION) {
        KALM__PARTS(KALM__INSIDE)
        KALM__BETWEEN
        KALM__PARTS(KALM__OUTSIDE)
    }
    memmove(y, x, n * sizeof(float));
    kalm__hadamard_rest(y, n);
}

KALM__VT static float KALM__V(abs_max)(const float *x, size_t n)
{
    KALM__VF m = KALM__SET(0.0f);
    size_t i = 0;
    for (; i < n; i += KALM__W) {
        KALM__VF v = KALM__LOADN(x + i, n - i);
        m = KALM__MAX(m, KALM__MAX(v, KALM__SUB(KALM__SET(0.0f), v)));
    }
    return KALM__HMAX(m);
}

/* v * inverse to the nearest whole number within +-limit; NaN becomes one of the two. */
#define KALM__QUANTISED(v, inverse, limit) \
    KALM__MIN(KALM__MAX(KALM__NEAREST(KALM__MUL(v, inverse)), KALM__SUB(KALM__SET(0.0f), limit)), limit)

/* q[i] = nearest(x[i] * 127 / max|x|), scale returned, by the rule of kernels.h. */
KALM__VT static float KALM__V(quantise)(int8_t *q, const float *x, size_t n)
{
    float inverse, scale = kalm__row_scale(KALM__V(abs_max)(x, n), 127.0f, &inverse);
    KALM__VF by = KALM__SET(inverse), limit = KALM__SET(127.0f);
    size_t i = 0;
    for (; i + KALM__W <= n; i += KALM__W) KALM__STORE8(q + i, KALM__QUANTISED(KALM__LOAD(x + i), by, limit));
    if (i < n) {
        int8_t part[KALM__W];
        KALM__STORE8(part, KALM__QUANTISED(KALM__LOADN(x + i, n - i), by, limit));
        memcpy(q + i, part, n - i);
    }
    return scale;
}

/* The same as int16, up to +-most. */
KALM__VT static float KALM__V(quantise_int16)(int16_t *q, const float *x, size_t n, float most)
{
    float inverse, scale = kalm__row_scale(KALM__V(abs_max)(x, n), most, &inverse);
    KALM__VF by = KALM__SET(inverse), limit = KALM__SET(most);
    size_t i = 0;
    for (; i + KALM__W <= n; i += KALM__W) KALM__STORE16(q + i, KALM__QUANTISED(KALM__LOAD(x + i), by, limit));
    if (i < n) {
        int16_t part[KALM__W];
        KALM__STORE16(part, KALM__QUANTISED(KALM__LOADN(x + i, n - i), by, limit));
        memcpy(q + i, part, (n - i) * sizeof *q);
    }
    return scale;
}

/* y = what quantising x to int8 by the rule of kernels.h leaves behind: x - scale * q. */
KALM__VT static void KALM__V(rounding_loss)(float *y, const float *x, size_t n)
{
    float inverse, scale = kalm__row_scale(KALM__V(abs_max)(x, n), 127.0f, &inverse);
    KALM__VF by = KALM__SET(inverse), s = KALM__SET(scale);
    size_t i = 0;
    if (inverse <= 0.0f) {             /* a row that counts as zero leaves nothing */
        memset(y, 0, n * sizeof(float));
        return;
    }
    for (; i < n; i += KALM__W) {
        KALM__VF v = KALM__LOADN(x + i, n - i);
        KALM__STOREN(y + i, n - i, KALM__SUB(v, KALM__MUL(KALM__NEAREST(KALM__MUL(v, by)), s)));
    }
}

/* out = (y * scale + unit * (256 * high + low)) * finish, where the inner sum is a whole number rounded once: its parts are
   below 2^24 if there are two. high NULL: zeros; y NULL: likewise. out and y may be the same. */
KALM__VT static void KALM__V(add_split16)(float *out, const float *y, float scale, float unit, const float *high,
                                          const float *low, float finish, size_t n)
{
    KALM__VF s = KALM__SET(scale), u = KALM__SET(unit), step = KALM__SET(256.0f), f = KALM__SET(finish);
    size_t i = 0;
    for (; i < n; i += KALM__W) {
        KALM__VF v = KALM__LOADN(low + i, n - i);
        if (high) v = KALM__ADD(KALM__MUL(KALM__LOADN(high + i, n - i), step), v);
        v = KALM__MUL(u, v);
        if (y) v = KALM__ADD(KALM__MUL(KALM__LOADN(y + i, n - i), s), v);
        KALM__STOREN(out + i, n - i, KALM__MUL(v, f));
    }
}

/* docs/KERNELS.md: */
/* Viterbi's algorithm for up to 16 rows at once, a row in each lane (rowcode.h). y [n][16] are components, unit [16] is 1 / (4 step),
   so that the even levels of quantiser 0 stand for whole numbers, the odd ones for halves between, and those of quantiser 1 for a
   quarter less. With r = rate[class][quantiser], level 0 costs (y unit)^2 + r[3], and one that stands for l, a quarter added for
   quantiser 1, costs its squared error + r[2] + r[1] l + r[0] l^2 + r[3]. Leaves cost [8][16] of the best way to each state;
   floors [n][16] of y / step; and from [n][16], with bit s set where state s is reached by its second way, bits 8 and 9 where 0 is the best
   even level of quantisers 0 and 1. Where `from` is NULL, cost [16] is about the sum of rates with quantiser 0 alone. */
/* end of docs/KERNELS.md */
#define KALM__SQUARE(v) KALM__MUL(v, v)
#define KALM__MORE(a, b, value) /* a > b ? value : 0 */ \
    KALM__MIN(KALM__MAX(KALM__MUL(KALM__SUB(a, b), KALM__SET(1e30f)), KALM__SET(0.0f)), KALM__SET(value))
#define KALM__COST(l, off) \
    off = KALM__SUB(l, off); \
    off = KALM__SQUARE(off); \
    l = KALM__ADD(KALM__ADD(off, KALM__MUL(l, KALM__ADD(KALM__MUL(l, KALM__SET(r[0])), KALM__SET(r[1])))), KALM__SET(r[2]));
#define KALM__BEST(q, even, odd, zero) /* what the best even and odd levels of quantiser q cost; their squared errors in one and two */ \
    one = two = KALM__ADD(size, KALM__SET(q)); \
    even = KALM__MAX(KALM__NEAREST(one), KALM__SET(1.0f)); \
    odd = KALM__ADD(KALM__NEAREST(KALM__SUB(one, KALM__SET(0.5f))), KALM__SET(0.5f)); \
    KALM__COST(even, one) \
    KALM__COST(odd, two) \
    odd = KALM__ADD(odd, KALM__SET(r[3])); \
    ways = KALM__ADD(ways, KALM__MORE(even, square, zero)); \
    even = KALM__ADD(KALM__MIN(even, square), KALM__SET(r[3]));
#define KALM__REACH(s, first_way, second_way) \
    one = KALM__ADD first_way; \
    two = KALM__ADD second_way; \
    ways = KALM__ADD(ways, KALM__MORE(one, two, (float)(1 << s))); \
    n##s = KALM__MIN(two, one);
#define KALM__FAR(s) KALM__VF n##s, c##s = KALM__SET(s ? 1e6f : 0.0f);
#define KALM__NEXT(s) c##s = n##s;
#define KALM__LAST(s) KALM__STORE(cost + s * KALM__TRELLIS + lane, c##s);
KALM__VT static void KALM__V(trellis)(float *cost, int16_t *floors, int16_t *from, const float *y, const float *unit, const float *rate,
                                      const uint8_t *classes, size_t n, size_t rows)
{
    size_t lane, i;
    for (lane = 0; lane < rows; lane += KALM__W) {
        KALM__VF by = KALM__LOAD(unit + lane), size, square, e0, o0, e1, o1, one, two, ways;
        KALM__PARTS_4(KALM__FAR)
        for (i = 0; i < n; i++) {
            const float *r = rate + classes[i] * 8;
            size_t at = i * KALM__TRELLIS + lane;
            size = KALM__MUL(KALM__LOAD(y + at), by);
            size = KALM__MAX(KALM__MIN(size, KALM__SET(8000.0f)), KALM__SET(-8000.0f));
            ways = KALM__NEAREST(KALM__SUB(KALM__MUL(size, KALM__SET(4.0f)), KALM__SET(0.5f)));
            if (from) KALM__STORE16(floors + at, ways);
            size = KALM__MAX(size, KALM__SUB(KALM__SET(0.0f), size));
            square = KALM__SQUARE(size);
            ways = KALM__SET(0.0f);
            KALM__BEST(0.0f, e0, o0, 256.0f)
            if (!from) {
                c0 = KALM__ADD(c0, KALM__SUB(KALM__MIN(e0, o0), KALM__MIN(KALM__MIN(one, two), square)));
                continue;
            }
            r += 4;
            KALM__BEST(0.25f, e1, o1, 512.0f)
            KALM__REACH(0, (c0, e0), (c4, o0))         /* as kalm__row_trace has it */
            KALM__REACH(1, (c2, e0), (c6, o0))
            KALM__REACH(2, (c0, o0), (c4, e0))
            KALM__REACH(3, (c2, o0), (c6, e0))
            KALM__REACH(4, (c3, o1), (c5, e1))
            KALM__REACH(5, (c1, e1), (c7, o1))
            KALM__REACH(6, (c3, e1), (c5, o1))
            KALM__REACH(7, (c1, o1), (c7, e1))
            KALM__PARTS_4(KALM__NEXT)
            KALM__STORE16(from + at, ways);
        }
        KALM__PARTS_4(KALM__LAST)
    }
}

static const kalm__ops KALM__V(table) = {
    KALM__V(rms_norm), KALM__V(add_norm), KALM__V(norm_rotate), KALM__V(add_angles), KALM__V(geglu), KALM__V(row_max),
    KALM__V(exp_sum), KALM__V(sum_below), KALM__V(scale_add), KALM__V(scale_row), KALM__V(dot),
    KALM__V(hadamard), KALM__V(quantise), KALM__V(quantise_int16), KALM__V(rounding_loss), KALM__INTERLEAVED,
    KALM__V(add_split16), KALM__V(trellis)
};

#undef KALM__V
#undef KALM__VT
#undef KALM__INTERLEAVED
#undef KALM__VF
#undef KALM__W
#undef KALM__LOAD
#undef KALM__STORE
#undef KALM__SHORT
#undef KALM__SET
#undef KALM__ADD
#undef KALM__SUB
#undef KALM__MUL
#undef KALM__MIN
#undef KALM__MAX
#undef KALM__SCALE2
#undef KALM__BITS
#undef KALM__SUM
#undef KALM__HMAX
#undef KALM__HADAMARD
#undef KALM__BELOW
#undef KALM__STORE8
#undef KALM__STORE16
