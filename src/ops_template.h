/* ops_template.h - the float work between matmuls, written once over a small vector vocabulary; ops.h includes it for
   every instruction set. Not a part of its own: expanded each time it is included.

   The vocabulary:  KALM__V(name) -> name with the set's suffix     KALM__VT -> the set's target attribute
     VF vector of V_W floats, 4, 8 or 16     V_LOAD(p) V_STORE(p, v) V_SET(x)     V_ADD V_SUB V_MIN V_MAX
     V_MUL: rounded before it goes into a sum
     V_BELOW(v, l): v where it is below l, else 0
     V_STORE8(p, v), V_STORE16(p, v): whole numbers within the type, as int8, as int16
     V_SCALE2(v, m): the bits of v plus 2^23 times the last bits of m      V_BITS(c, v): c minus the bits of v
     V_SUM(v): the upper half is added to the lower until one is left       V_HMAX(v)     V_HADAMARD(v): butterflies
     between lanes

   Every set leaves the same bits: operations are IEEE's, none is fused, and a sum has 32 lanes, of which lane l adds
   elements l, l + 32, ..., and then l + 16, l + 8, l + 4, l + 2, l + 1 are added to it. So a row gives the same wherever it
   stands, on any machine. (ARMv7's vectors take subnormal numbers for zero. None of 2^-100 and more depends on one.) */

/* The rest of a row whose length is no multiple of V_W goes through a buffer, filled up with `fill`. */
KALM__VT static inline VF KALM__V(load_rest)(const float *p, size_t n, float fill)
{
    float part[V_W];
    size_t i;
    for (i = 0; i < V_W; i++) part[i] = i < n ? p[i] : fill;
    return V_LOAD(part);
}
KALM__VT static inline void KALM__V(store_rest)(float *p, size_t n, VF v)
{
    float part[V_W];
    size_t i;
    V_STORE(part, v);
    for (i = 0; i < n; i++) p[i] = part[i];
}
KALM__VT static inline VF KALM__V(load_some)(const float *p, size_t n)
{
    return n < V_W ? KALM__V(load_rest)(p, n, 0.0f) : V_LOAD(p);
}
KALM__VT static inline void KALM__V(store_some)(float *p, size_t n, VF v)
{
    if (n < V_W) KALM__V(store_rest)(p, n, v);
    else V_STORE(p, v);
}

/* The whole number nearest to v, ties to even, |v| < 2^22: with 1.5 * 2^23 added it is the last bits of the sum. */
#define V_SHIFT V_SET(12582912.0f)
#define V_NEAREST(v) V_SUB(V_ADD(v, V_SHIFT), V_SHIFT)

/* The 32 lanes of a sum, V_W in each of s0, s1, ...: M(0) M(1) ..., and what they add up to. */
#if V_W == 16
#  define V_PARTS(M) M(0) M(1)
#  define V_TOTAL(s) V_SUM(V_ADD(s##0, s##1))
#elif V_W == 8
#  define V_PARTS(M) M(0) M(1) M(2) M(3)
#  define V_TOTAL(s) V_SUM(V_ADD(V_ADD(s##0, s##2), V_ADD(s##1, s##3)))
#else
#  define V_PARTS(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
#  define V_TOTAL(s) V_SUM(V_ADD(V_ADD(V_ADD(s##0, s##4), V_ADD(s##2, s##6)), V_ADD(V_ADD(s##1, s##5), V_ADD(s##3, s##7))))
#endif
#define V_ZERO(i) VF s##i = V_SET(0.0f);

/* 2^t for t in -125..126; what is below counts as -125. t = n + f, 2^f for f in -1/2..1/2 by a polynomial with 2^0 exactly
   1, its coefficients searched for the least relative error of this very arithmetic: 1.7e-7. */
KALM__VT static inline VF KALM__V(exp2)(VF t)
{
    VF m, f, p;
    t = V_MAX(t, V_SET(-125.0f));
    m = V_ADD(t, V_SHIFT);
    f = V_SUB(t, V_SUB(m, V_SHIFT));
    p = V_ADD(V_MUL(f, V_SET(1.33447547e-3f)), V_SET(9.66920238e-3f));
    p = V_ADD(V_MUL(p, f), V_SET(5.55038191e-2f));
    p = V_ADD(V_MUL(p, f), V_SET(0.240222916f));
    p = V_ADD(V_MUL(p, f), V_SET(0.693147361f));
    p = V_ADD(V_MUL(p, f), V_SET(1.0f));
    return V_SCALE2(p, m);
}
/* e^x for x <= 87 */
KALM__VT static inline VF KALM__V(exp)(VF x) { return KALM__V(exp2)(V_MUL(x, V_SET(1.44269504f))); }

/* 1 / v for v in 1..2^120, to 2 units in the last place: division takes longer, and has no vectors on ARMv7. The start,
   from the bits of v, is within 12%; each of Newton's steps squares the error. */
KALM__VT static inline VF KALM__V(reciprocal)(VF v)
{
    VF r = V_BITS(0x7ef311c7, v);
    r = V_MUL(r, V_SUB(V_SET(2.0f), V_MUL(v, r)));
    r = V_MUL(r, V_SUB(V_SET(2.0f), V_MUL(v, r)));
    return V_MUL(r, V_SUB(V_SET(2.0f), V_MUL(v, r)));
}

/* sum of x[i] * y[i] */
#define V_STEP(i) s##i = V_ADD(s##i, V_MUL(V_LOAD(a + i * V_W), V_LOAD(b + i * V_W)));
KALM__VT static float KALM__V(dot)(const float *x, const float *y, size_t n)
{
    const float *a = x, *b = y;
    float rest[2][32];
    V_PARTS(V_ZERO)
    for (; n >= 32; n -= 32, a += 32, b += 32) { V_PARTS(V_STEP) }
    if (n) {
        memset(rest, 0, sizeof rest);
        memcpy(rest[0], a, n * sizeof(float));
        memcpy(rest[1], b, n * sizeof(float));
        a = rest[0], b = rest[1];
        V_PARTS(V_STEP)
    }
    return V_TOTAL(s);
}
#undef V_STEP

/* What RMSNorm multiplies a row by beside its gain, 1 / sqrt(mean(x^2) + eps) (MODEL.md, Encoder). */
KALM__VT static inline float KALM__V(inverse_rms)(const float *x, size_t n, float eps)
{
    float mean = kalm__rounded(KALM__V(dot)(x, x, n) / (float)n);
    return kalm__rounded(1.0f / kalm__rounded(sqrtf(kalm__rounded(mean + eps))));
}

/* y = x / sqrt(mean(x^2) + eps) * gain, gain = 1 + w. x and y may be the same. */
KALM__VT static void KALM__V(rms_norm)(float *y, const float *x, const float *gain, size_t n, float eps)
{
    VF r = V_SET(KALM__V(inverse_rms)(x, n, eps));
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) V_STORE(y + i, V_MUL(V_MUL(V_LOAD(x + i), r), V_LOAD(gain + i)));
    if (i < n)
        KALM__V(store_rest)(y + i, n - i, V_MUL(V_MUL(KALM__V(load_rest)(x + i, n - i, 0.0f), r),
                                                KALM__V(load_rest)(gain + i, n - i, 0.0f)));
}

/* x += rms_norm(y): what a layer's block gives back to the residual stream. */
KALM__VT static void KALM__V(add_norm)(float *x, const float *y, const float *gain, size_t n, float eps)
{
    VF r = V_SET(KALM__V(inverse_rms)(y, n, eps));
    size_t i = 0;
    for (; i + V_W <= n; i += V_W)
        V_STORE(x + i, V_ADD(V_LOAD(x + i), V_MUL(V_MUL(V_LOAD(y + i), r), V_LOAD(gain + i))));
    if (i < n) {
        VF v = V_MUL(V_MUL(KALM__V(load_rest)(y + i, n - i, 0.0f), r), KALM__V(load_rest)(gain + i, n - i, 0.0f));
        KALM__V(store_rest)(x + i, n - i, V_ADD(KALM__V(load_rest)(x + i, n - i, 0.0f), v));
    }
}

/* One head: q or k of `dim` numbers, normed, times `scale`, then rotated by the half-split pairs (i, i + dim/2); turn: the
   dim / 2 cosines, then the sines, NULL for no rotation (document keys). x and y may be the same. */
KALM__VT static void KALM__V(norm_rotate)(float *y, const float *x, const float *gain, size_t dim, float eps, float scale,
                                          const float *turn)
{
    VF r = V_SET(kalm__times(KALM__V(inverse_rms)(x, dim, eps), scale));
    size_t half = dim / 2, i, n;
    if (!turn) {
        for (i = 0; i < dim; i += V_W)
            KALM__V(store_some)(y + i, dim - i, V_MUL(V_MUL(KALM__V(load_some)(x + i, dim - i), r),
                                                      KALM__V(load_some)(gain + i, dim - i)));
        return;
    }
    for (i = 0; i < half; i += V_W) {
        VF a, b, c, s;
        n = half - i;
        a = V_MUL(V_MUL(KALM__V(load_some)(x + i, n), r), KALM__V(load_some)(gain + i, n));
        b = V_MUL(V_MUL(KALM__V(load_some)(x + half + i, n), r), KALM__V(load_some)(gain + half + i, n));
        c = KALM__V(load_some)(turn + i, n);
        s = KALM__V(load_some)(turn + half + i, n);
        KALM__V(store_some)(y + i, n, V_SUB(V_MUL(a, c), V_MUL(b, s)));
        KALM__V(store_some)(y + half + i, n, V_ADD(V_MUL(a, s), V_MUL(b, c)));
    }
}

/* The rotation by a after that by b; each [half] cosines, then [half] sines (rotary.h). */
KALM__VT static void KALM__V(turn)(float *out, const float *a, const float *b, size_t half)
{
    size_t i, n;
    for (i = 0; i < half; i += V_W) {
        VF ca, sa, cb, sb;
        n = half - i;
        ca = KALM__V(load_some)(a + i, n), sa = KALM__V(load_some)(a + half + i, n);
        cb = KALM__V(load_some)(b + i, n), sb = KALM__V(load_some)(b + half + i, n);
        KALM__V(store_some)(out + i, n, V_SUB(V_MUL(ca, cb), V_MUL(sa, sb)));
        KALM__V(store_some)(out + half + i, n, V_ADD(V_MUL(sa, cb), V_MUL(ca, sb)));
    }
}

/* h = gelu_tanh(gate) * up. With z = sqrt(2/pi) (g + 0.044715 g^3): g (1 + tanh z) / 2 = g / (1 + e^-2z), which needs one
   exponential and loses no digits near zero. The constants carry -2 / ln 2. */
KALM__VT static inline VF KALM__V(geglu_one)(VF g, VF u)
{
    VF t = V_MUL(g, V_ADD(V_MUL(V_MUL(g, g), V_SET(-0.10294324f)), V_SET(-2.3022082f)));
    VF e = KALM__V(exp2)(V_MIN(t, V_SET(115.0f)));
    return V_MUL(V_MUL(g, KALM__V(reciprocal)(V_ADD(V_SET(1.0f), e))), u);
}
KALM__VT static void KALM__V(geglu)(float *h, const float *gate, const float *up, size_t n)
{
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) V_STORE(h + i, KALM__V(geglu_one)(V_LOAD(gate + i), V_LOAD(up + i)));
    if (i < n)
        KALM__V(store_rest)(h + i, n - i, KALM__V(geglu_one)(KALM__V(load_rest)(gate + i, n - i, 0.0f),
                                                             KALM__V(load_rest)(up + i, n - i, 0.0f)));
}

KALM__VT static float KALM__V(row_max)(const float *x, size_t n)
{
    VF m = V_SET(-INFINITY);
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) m = V_MAX(m, V_LOAD(x + i));
    if (i < n) m = V_MAX(m, KALM__V(load_rest)(x + i, n - i, -INFINITY));
    return V_HMAX(m);
}

/* p[i] = e^(p[i] - top), their sum returned. */
#define V_STEP(i) \
    e = KALM__V(exp)(V_SUB(V_LOAD(p + i * V_W), t)); \
    V_STORE(p + i * V_W, e); \
    s##i = V_ADD(s##i, e);
#define V_LAST(i) s##i = V_ADD(s##i, V_LOAD(rest + i * V_W));
KALM__VT static float KALM__V(exp_sum)(float *p, size_t n, float top)
{
    VF t = V_SET(top), e;
    float rest[32];
    size_t i;
    V_PARTS(V_ZERO)
    for (; n >= 32; n -= 32, p += 32) { V_PARTS(V_STEP) }
    if (n) {
        memset(rest, 0, sizeof rest);
        for (i = 0; i < n; i += V_W) {
            KALM__V(store_some)(p + i, n - i, KALM__V(exp)(V_SUB(KALM__V(load_some)(p + i, n - i), t)));
            KALM__V(store_some)(rest + i, n - i, KALM__V(load_some)(p + i, n - i));
        }
        V_PARTS(V_LAST)
    }
    return V_TOTAL(s);
}
#undef V_STEP

/* The same with p[i] = e^(p[i] - top) * scale[i], scale >= 0; *most is the largest of them. */
#define V_STEP(i) \
    e = KALM__V(exp)(V_SUB(V_LOAD(p + i * V_W), t)); \
    s##i = V_ADD(s##i, e); \
    e = V_MUL(e, V_LOAD(scale + i * V_W)); \
    V_STORE(p + i * V_W, e); \
    m = V_MAX(m, e);
KALM__VT static float KALM__V(exp_weigh)(float *p, size_t n, float top, const float *scale, float *most)
{
    VF t = V_SET(top), m = V_SET(0.0f), e;
    float rest[32];
    size_t i;
    V_PARTS(V_ZERO)
    for (; n >= 32; n -= 32, p += 32, scale += 32) { V_PARTS(V_STEP) }
    if (n) {
        memset(rest, 0, sizeof rest);
        for (i = 0; i < n; i += V_W) {
            e = KALM__V(exp)(V_SUB(KALM__V(load_some)(p + i, n - i), t));
            KALM__V(store_some)(rest + i, n - i, e);
            KALM__V(store_some)(p + i, n - i, V_MUL(e, KALM__V(load_some)(scale + i, n - i)));
            m = V_MAX(m, KALM__V(load_some)(p + i, n - i));
        }
        V_PARTS(V_LAST)
    }
    *most = V_HMAX(m);
    return V_TOTAL(s);
}
#undef V_STEP
#undef V_LAST

/* The sum of those p[i] >= 0 that are below `limit`; *all is the sum of all. */
#define V_ZERO2(i) VF b##i = V_SET(0.0f);
#define V_STEP(i) \
    v = V_LOAD(p + i * V_W); \
    s##i = V_ADD(s##i, v); \
    b##i = V_ADD(b##i, V_BELOW(v, l));
KALM__VT static float KALM__V(sum_below)(const float *p, size_t n, float limit, float *all)
{
    VF l = V_SET(limit), v;
    float rest[32];
    V_PARTS(V_ZERO)
    V_PARTS(V_ZERO2)
    for (; n >= 32; n -= 32, p += 32) { V_PARTS(V_STEP) }
    if (n) {
        memset(rest, 0, sizeof rest);
        memcpy(rest, p, n * sizeof(float));
        p = rest;
        V_PARTS(V_STEP)
    }
    *all = V_TOTAL(s);
    return V_TOTAL(b);
}
#undef V_STEP
#undef V_ZERO2

/* y = y * scale + x */
KALM__VT static void KALM__V(scale_add)(float *y, float scale, const float *x, size_t n)
{
    VF s = V_SET(scale);
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) V_STORE(y + i, V_ADD(V_MUL(V_LOAD(y + i), s), V_LOAD(x + i)));
    if (i < n)
        KALM__V(store_rest)(y + i, n - i, V_ADD(V_MUL(KALM__V(load_rest)(y + i, n - i, 0.0f), s),
                                                KALM__V(load_rest)(x + i, n - i, 0.0f)));
}

/* y = x * scale */
KALM__VT static void KALM__V(scale_row)(float *y, const float *x, float scale, size_t n)
{
    VF s = V_SET(scale);
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) V_STORE(y + i, V_MUL(V_LOAD(x + i), s));
    if (i < n) KALM__V(store_rest)(y + i, n - i, V_MUL(KALM__V(load_rest)(x + i, n - i, 0.0f), s));
}

/* x = rotated x, in place (ops.h, Rotation). Butterflies between vectors stay in registers; those inside a vector go
   through V_HADAMARD, which leaves lane i holding the Walsh-Hadamard sum i of its V_W lanes. */
KALM__VT static void KALM__V(hadamard)(float *x, size_t n)
{
    enum { COUNT = KALM__ROTATION / V_W };
    VF scale = V_SET(0.125f);          /* 64^-1/2 */
    for (; n >= KALM__ROTATION; n -= KALM__ROTATION, x += KALM__ROTATION) {
        VF v[COUNT];
        size_t half, i, j;
        for (i = 0; i < COUNT; i++) v[i] = V_HADAMARD(V_MUL(V_LOAD(x + i * V_W), scale));
        for (half = 1; half < COUNT; half *= 2)
            for (i = 0; i < COUNT; i += 2 * half)
                for (j = i; j < i + half; j++) {
                    VF a = v[j], b = v[j + half];
                    v[j] = V_ADD(a, b);
                    v[j + half] = V_SUB(a, b);
                }
        for (i = 0; i < COUNT; i++) V_STORE(x + i * V_W, v[i]);
    }
    kalm__hadamard_rest(x, n);
}

KALM__VT static float KALM__V(abs_max)(const float *x, size_t n)
{
    VF m = V_SET(0.0f);
    size_t i = 0;
    for (; i < n; i += V_W) {
        VF v = KALM__V(load_some)(x + i, n - i);
        m = V_MAX(m, V_MAX(v, V_SUB(V_SET(0.0f), v)));
    }
    return V_HMAX(m);
}

/* v * inverse to the nearest whole number within +-limit; NaN becomes one of the two. */
#define V_QUANTISED(v, inverse, limit) V_MIN(V_MAX(V_NEAREST(V_MUL(v, inverse)), V_SUB(V_SET(0.0f), limit)), limit)

/* q[i] = nearest(x[i] * 127 / max|x|), scale returned, by the rule of kernels.h. */
KALM__VT static float KALM__V(quantise)(int8_t *q, const float *x, size_t n)
{
    float inverse, scale = kalm__row_scale(KALM__V(abs_max)(x, n), 127.0f, &inverse);
    VF by = V_SET(inverse), limit = V_SET(127.0f);
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) V_STORE8(q + i, V_QUANTISED(V_LOAD(x + i), by, limit));
    if (i < n) {
        int8_t part[V_W];
        V_STORE8(part, V_QUANTISED(KALM__V(load_rest)(x + i, n - i, 0.0f), by, limit));
        memcpy(q + i, part, n - i);
    }
    return scale;
}

/* The same in words, up to +-most. */
KALM__VT static float KALM__V(quantise_int16)(int16_t *q, const float *x, size_t n, float most)
{
    float inverse, scale = kalm__row_scale(KALM__V(abs_max)(x, n), most, &inverse);
    VF by = V_SET(inverse), limit = V_SET(most);
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) V_STORE16(q + i, V_QUANTISED(V_LOAD(x + i), by, limit));
    if (i < n) {
        int16_t part[V_W];
        V_STORE16(part, V_QUANTISED(KALM__V(load_rest)(x + i, n - i, 0.0f), by, limit));
        memcpy(q + i, part, (n - i) * sizeof *q);
    }
    return scale;
}

/* y = what quantising x to int8 by the rule of kernels.h leaves behind: x - scale * q. */
KALM__VT static void KALM__V(rounding_loss)(float *y, const float *x, size_t n)
{
    float inverse, scale = kalm__row_scale(KALM__V(abs_max)(x, n), 127.0f, &inverse);
    VF by = V_SET(inverse), s = V_SET(scale);
    size_t i = 0;
    if (inverse <= 0.0f) {             /* a row that counts as zero leaves nothing */
        memset(y, 0, n * sizeof(float));
        return;
    }
    for (; i < n; i += V_W) {
        VF v = KALM__V(load_some)(x + i, n - i);
        KALM__V(store_some)(y + i, n - i, V_SUB(v, V_MUL(V_NEAREST(V_MUL(v, by)), s)));
    }
}

/* out = (y * scale + unit * (256 * high + low)) * finish, where the inner sum is a whole number rounded once: its parts are
   below 2^24 if there are two. high NULL: zeros; y NULL: likewise. out and y may be the same. */
KALM__VT static void KALM__V(add_split16)(float *out, const float *y, float scale, float unit, const float *high, const float *low,
                                       float finish, size_t n)
{
    VF s = V_SET(scale), u = V_SET(unit), step = V_SET(256.0f), f = V_SET(finish);
    size_t i = 0;
    for (; i < n; i += V_W) {
        VF v = KALM__V(load_some)(low + i, n - i);
        if (high) v = V_ADD(V_MUL(KALM__V(load_some)(high + i, n - i), step), v);
        v = V_MUL(u, v);
        if (y) v = V_ADD(V_MUL(KALM__V(load_some)(y + i, n - i), s), v);
        KALM__V(store_some)(out + i, n - i, V_MUL(v, f));
    }
}

static const kalm__ops KALM__V(table) = {
    KALM__V(rms_norm), KALM__V(add_norm), KALM__V(norm_rotate), KALM__V(turn), KALM__V(geglu), KALM__V(row_max),
    KALM__V(exp_sum), KALM__V(exp_weigh), KALM__V(sum_below), KALM__V(scale_add), KALM__V(scale_row), KALM__V(dot),
    KALM__V(hadamard), KALM__V(quantise), KALM__V(quantise_int16), KALM__V(rounding_loss), KALM__V(interleave), KALM__V(add_split16)
};

#undef KALM__V
#undef KALM__VT
#undef VF
#undef V_W
#undef V_LOAD
#undef V_STORE
#undef V_SET
#undef V_ADD
#undef V_SUB
#undef V_MUL
#undef V_MIN
#undef V_MAX
#undef V_SCALE2
#undef V_BITS
#undef V_SUM
#undef V_HMAX
#undef V_HADAMARD
#undef V_BELOW
#undef V_STORE8
#undef V_STORE16
#undef V_SHIFT
#undef V_NEAREST
#undef V_PARTS
#undef V_TOTAL
#undef V_ZERO
#undef V_QUANTISED
