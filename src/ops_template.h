/* ops_template.h - the float work between matmuls, written once over a small vector vocabulary; ops.h includes it for
   every instruction set. Not a part of its own: expanded each time it is included.

   The vocabulary:  KALM__V(name) -> name with the set's suffix     KALM__VT -> the set's target attribute
     VF vector of V_W floats      V_LOAD(p) V_STORE(p, v) V_SET(x)      V_ADD V_SUB V_MUL V_DIV V_MIN V_MAX
     V_STORE8(p, v): whole numbers within -128..127 as int8
     V_DIV(a, b): b in 1..2^126
     V_FMA(a, b, c) = a * b + c   V_ROUND(v) to nearest                 V_EXP2I(v) = 2^v for whole v in -126..127
     V_SUM(v), V_HMAX(v): across lanes, in one fixed order   V_HADAMARD(v): butterflies between lanes

   Order of sums: lane l of the accumulator adds elements l, l + V_W, ...; then V_SUM. The same for a row wherever it
   stands in a batch. */

/* Rows whose length is no multiple of V_W: the rest goes through a buffer, filled up with `fill`. */
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

/* e^x for x <= 88; 0 below -87 (the smallest normal float is e^-87.3). Cody-Waite reduction to |r| <= ln(2)/2 and the
   Taylor polynomial of degree 7: error below 2 units in the last place. */
KALM__VT static inline VF KALM__V(exp)(VF x)
{
    VF n, r, p, zero_below = V_MAX(x, V_SET(-87.0f));
    n = V_ROUND(V_MUL(zero_below, V_SET(1.44269504f)));
    r = V_FMA(n, V_SET(-0.693145751953125f), zero_below);
    r = V_FMA(n, V_SET(-1.42860682030941723e-6f), r);
    p = V_FMA(r, V_SET(1.98412698e-4f), V_SET(1.38888889e-3f));
    p = V_FMA(p, r, V_SET(8.33333333e-3f));
    p = V_FMA(p, r, V_SET(4.16666667e-2f));
    p = V_FMA(p, r, V_SET(1.66666667e-1f));
    p = V_FMA(p, r, V_SET(0.5f));
    p = V_FMA(p, r, V_SET(1.0f));
    p = V_FMA(p, r, V_SET(1.0f));
    return V_MUL(p, V_EXP2I(n));
}

KALM__VT static float KALM__V(sum_squares)(const float *x, size_t n)
{
    VF a = V_SET(0.0f), b = V_SET(0.0f);
    size_t i = 0;
    for (; i + 2 * V_W <= n; i += 2 * V_W) {
        VF u = V_LOAD(x + i), v = V_LOAD(x + i + V_W);
        a = V_FMA(u, u, a);
        b = V_FMA(v, v, b);
    }
    for (; i < n; i += V_W) {
        VF u = n - i < V_W ? KALM__V(load_rest)(x + i, n - i, 0.0f) : V_LOAD(x + i);
        a = V_FMA(u, u, a);
    }
    a = V_ADD(a, b);
    return V_SUM(a);
}

/* y = x / sqrt(mean(x^2) + eps) * gain, gain = 1 + w (MODEL.md, Encoder). x and y may be the same. */
KALM__VT static void KALM__V(rms_norm)(float *y, const float *x, const float *gain, size_t n, float eps)
{
    float r = 1.0f / sqrtf(KALM__V(sum_squares)(x, n) / (float)n + eps);
    VF vr = V_SET(r);
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) V_STORE(y + i, V_MUL(V_MUL(V_LOAD(x + i), vr), V_LOAD(gain + i)));
    for (; i < n; i++) y[i] = x[i] * r * gain[i];
}

/* x += rms_norm(y): what a layer's block gives back to the residual stream. */
KALM__VT static void KALM__V(add_norm)(float *x, const float *y, const float *gain, size_t n, float eps)
{
    float r = 1.0f / sqrtf(KALM__V(sum_squares)(y, n) / (float)n + eps);
    VF vr = V_SET(r);
    size_t i = 0;
    for (; i + V_W <= n; i += V_W)
        V_STORE(x + i, V_ADD(V_LOAD(x + i), V_MUL(V_MUL(V_LOAD(y + i), vr), V_LOAD(gain + i))));
    for (; i < n; i++) x[i] += y[i] * r * gain[i];
}

/* One head: q or k of `dim` numbers, normed, times `scale`, then rotated by the half-split pairs (i, i + dim/2); cosine
   and sine [dim / 2], NULL for no rotation (document keys). x and y may be the same. */
KALM__VT static void KALM__V(norm_rotate)(float *y, const float *x, const float *gain, size_t dim, float eps, float scale,
                                          const float *cosine, const float *sine)
{
    float r = 1.0f / sqrtf(KALM__V(sum_squares)(x, dim) / (float)dim + eps) * scale;
    VF vr = V_SET(r);
    size_t half = dim / 2, i = 0;
    if (!cosine) {
        for (; i + V_W <= dim; i += V_W) V_STORE(y + i, V_MUL(V_MUL(V_LOAD(x + i), vr), V_LOAD(gain + i)));
        for (; i < dim; i++) y[i] = x[i] * r * gain[i];
        return;
    }
    for (; i + V_W <= half; i += V_W) {
        VF a = V_MUL(V_MUL(V_LOAD(x + i), vr), V_LOAD(gain + i));
        VF b = V_MUL(V_MUL(V_LOAD(x + half + i), vr), V_LOAD(gain + half + i));
        VF c = V_LOAD(cosine + i), s = V_LOAD(sine + i);
        V_STORE(y + i, V_SUB(V_MUL(a, c), V_MUL(b, s)));
        V_STORE(y + half + i, V_FMA(a, s, V_MUL(b, c)));
    }
    for (; i < half; i++) {
        float a = x[i] * r * gain[i], b = x[half + i] * r * gain[half + i];
        y[i] = a * cosine[i] - b * sine[i];
        y[half + i] = a * sine[i] + b * cosine[i];
    }
}

/* h = gelu_tanh(gate) * up. With z = sqrt(2/pi) (g + 0.044715 g^3): g (1 + tanh z) / 2 = g / (1 + e^-2z), which needs one
   exponential and loses no digits near zero. */
KALM__VT static inline VF KALM__V(geglu_one)(VF g, VF u)
{
    VF g2 = V_MUL(g, g);
    VF z2 = V_MUL(g, V_FMA(g2, V_SET(-2.0f * 0.7978845608f * 0.044715f), V_SET(-2.0f * 0.7978845608f)));
    VF e = KALM__V(exp)(V_MIN(z2, V_SET(87.0f)));
    return V_MUL(V_DIV(g, V_ADD(V_SET(1.0f), e)), u);
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

/* p[i] = e^(s[i] - top), their sum returned. s and p may be the same. */
KALM__VT static float KALM__V(exp_sum)(float *p, const float *s, size_t n, float top)
{
    VF t = V_SET(top), sum = V_SET(0.0f);
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) {
        VF e = KALM__V(exp)(V_SUB(V_LOAD(s + i), t));
        V_STORE(p + i, e);
        sum = V_ADD(sum, e);
    }
    if (i < n) {
        size_t k, rest = n - i;
        float part[V_W];
        V_STORE(part, KALM__V(exp)(V_SUB(KALM__V(load_rest)(s + i, rest, 0.0f), t)));
        for (k = rest; k < V_W; k++) part[k] = 0.0f;
        for (k = 0; k < rest; k++) p[i + k] = part[k];
        sum = V_ADD(sum, V_LOAD(part));
    }
    return V_SUM(sum);
}

/* y = y * scale + x */
KALM__VT static void KALM__V(scale_add)(float *y, float scale, const float *x, size_t n)
{
    VF s = V_SET(scale);
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) V_STORE(y + i, V_FMA(V_LOAD(y + i), s, V_LOAD(x + i)));
    for (; i < n; i++) y[i] = y[i] * scale + x[i];
}

/* y = x * scale */
KALM__VT static void KALM__V(scale_row)(float *y, const float *x, float scale, size_t n)
{
    VF s = V_SET(scale);
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) V_STORE(y + i, V_MUL(V_LOAD(x + i), s));
    for (; i < n; i++) y[i] = x[i] * scale;
}

KALM__VT static float KALM__V(dot)(const float *a, const float *b, size_t n)
{
    VF s = V_SET(0.0f), t = V_SET(0.0f);
    size_t i = 0;
    for (; i + 2 * V_W <= n; i += 2 * V_W) {
        s = V_FMA(V_LOAD(a + i), V_LOAD(b + i), s);
        t = V_FMA(V_LOAD(a + i + V_W), V_LOAD(b + i + V_W), t);
    }
    for (; i < n; i += V_W)
        s = n - i < V_W ? V_FMA(KALM__V(load_rest)(a + i, n - i, 0.0f), KALM__V(load_rest)(b + i, n - i, 0.0f), s)
                        : V_FMA(V_LOAD(a + i), V_LOAD(b + i), s);
    s = V_ADD(s, t);
    return V_SUM(s);
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
        VF v = n - i < V_W ? KALM__V(load_rest)(x + i, n - i, 0.0f) : V_LOAD(x + i);
        m = V_MAX(m, V_MAX(v, V_SUB(V_SET(0.0f), v)));
    }
    return V_HMAX(m);
}

/* q[i] = nearest(x[i] * 127 / max|x|), scale returned, by the rule of kernels.h. */
KALM__VT static float KALM__V(quantise)(int8_t *q, const float *x, size_t n)
{
    float most = KALM__V(abs_max)(x, n), inverse;
    size_t i = 0;
    if (!(most >= KALM__TINY_ROW)) {
        memset(q, 0, n);
        return 0.0f;
    }
    inverse = 127.0f / most;
    for (; i < n; i += V_W) {
        VF v = n - i < V_W ? KALM__V(load_rest)(x + i, n - i, 0.0f) : V_LOAD(x + i);
        v = V_MUL(v, V_SET(inverse));
        v = V_MAX(V_SUB(V_ADD(v, V_SET(12582912.0f)), V_SET(12582912.0f)), V_SET(-127.0f));
        v = V_MIN(v, V_SET(127.0f));   /* NaN became one of the two */
        if (n - i >= V_W) {
            V_STORE8(q + i, v);
        } else {
            int8_t part[V_W];
            V_STORE8(part, v);
            memcpy(q + i, part, n - i);
        }
    }
    return most * (1.0f / 127.0f);
}

/* y = what quantising x to int8 by the rule of kernels.h leaves behind: x - scale * q. */
KALM__VT static void KALM__V(rounding_loss)(float *y, const float *x, size_t n)
{
    float most = KALM__V(abs_max)(x, n), inverse, scale;
    size_t i = 0;
    if (!(most >= KALM__TINY_ROW)) {
        memset(y, 0, n * sizeof(float));
        return;
    }
    inverse = 127.0f / most;
    scale = most * (1.0f / 127.0f);
    for (; i < n; i += V_W) {
        VF v = n - i < V_W ? KALM__V(load_rest)(x + i, n - i, 0.0f) : V_LOAD(x + i);
        VF q = V_SUB(V_ADD(V_MUL(v, V_SET(inverse)), V_SET(12582912.0f)), V_SET(12582912.0f));
        v = V_SUB(v, V_MUL(q, V_SET(scale)));
        if (n - i < V_W) KALM__V(store_rest)(y + i, n - i, v);
        else V_STORE(y + i, v);
    }
}

/* w[i] = p[i] * scale[i] >= 0 as unit * (high[i] + low[i]): high whole, 0 to 127, low what is left of it, within 1/2; the
   unit is returned. */
KALM__VT static float KALM__V(split)(float *high, float *low, const float *p, const float *scale, size_t n)
{
    VF m = V_SET(0.0f);
    float most, inverse;
    size_t i = 0;
    for (; i + V_W <= n; i += V_W) m = V_MAX(m, V_MUL(V_LOAD(p + i), V_LOAD(scale + i)));
    if (i < n) m = V_MAX(m, V_MUL(KALM__V(load_rest)(p + i, n - i, 0.0f), KALM__V(load_rest)(scale + i, n - i, 0.0f)));
    most = V_HMAX(m);
    inverse = most < KALM__TINY_ROW ? 0.0f : 127.0f / most;
    for (i = 0; i < n; i += V_W) {
        size_t rest = n - i < V_W ? n - i : V_W;
        VF w = rest < V_W ? V_MUL(KALM__V(load_rest)(p + i, rest, 0.0f), KALM__V(load_rest)(scale + i, rest, 0.0f))
                          : V_MUL(V_LOAD(p + i), V_LOAD(scale + i));
        VF whole;
        w = V_MUL(w, V_SET(inverse));
        whole = V_SUB(V_ADD(w, V_SET(12582912.0f)), V_SET(12582912.0f));
        w = V_SUB(w, whole);
        if (rest < V_W) {
            KALM__V(store_rest)(high + i, rest, whole);
            KALM__V(store_rest)(low + i, rest, w);
        } else {
            V_STORE(high + i, whole);
            V_STORE(low + i, w);
        }
    }
    return most < KALM__TINY_ROW ? 0.0f : most * (1.0f / 127.0f);
}

/* y = y * scale + unit * (high + low) */
KALM__VT static void KALM__V(add_planes)(float *y, float scale, float unit, const float *high, const float *low, size_t n)
{
    VF s = V_SET(scale), u = V_SET(unit);
    size_t i = 0;
    for (; i + V_W <= n; i += V_W)
        V_STORE(y + i, V_FMA(V_LOAD(y + i), s, V_MUL(u, V_ADD(V_LOAD(high + i), V_LOAD(low + i)))));
    for (; i < n; i++) y[i] = y[i] * scale + unit * (high[i] + low[i]);
}

static const kalm__ops KALM__V(table) = {
    KALM__V(rms_norm), KALM__V(add_norm), KALM__V(norm_rotate), KALM__V(geglu), KALM__V(row_max), KALM__V(exp_sum),
    KALM__V(scale_add), KALM__V(scale_row), KALM__V(dot), KALM__V(hadamard),
    KALM__V(quantise), KALM__V(rounding_loss), KALM__V(split), KALM__V(add_planes)
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
#undef V_DIV
#undef V_MIN
#undef V_MAX
#undef V_FMA
#undef V_ROUND
#undef V_EXP2I
#undef V_SUM
#undef V_HMAX
#undef V_HADAMARD
#undef V_STORE8
