/* exact.h - arithmetic that leaves the same bits on every machine. IEEE fixes each operation; what machines differ in is
   whether a product is rounded before it is added (fused multiply-adds), how wide floats are while computed (x87), what
   flags like -fassociative-math allow the compiler to fold, and libm. So operations are fenced, and what a model needs of libm
   beyond the square root stands here, in doubles: it is used a few times a document or when a context is made. The errors
   are those of tests/test_ops.c. */
#ifndef KALM__EXACT_H
#define KALM__EXACT_H

#include "base.h"

/* v rounded to a float (a double) here and now. */
KALM__INLINE float kalm__rounded(float v)
{
#ifdef KALM__FENCE
    KALM__FENCE(v);
    return v;
#else
    volatile float t = v;
    return t;
#endif
}
KALM__INLINE double kalm__rounded_double(double v)
{
#ifdef KALM__FENCE
    KALM__FENCE(v);
    return v;
#else
    volatile double t = v;
    return t;
#endif
}

/* A sum and a product that are not folded or fused with what they come from or go into. */
KALM__INLINE float kalm__plus(float a, float b) { return kalm__rounded(a + b); }
KALM__INLINE float kalm__times(float a, float b) { return kalm__rounded(a * b); }

/* All of this is for rounding to nearest; a program may have set otherwise. 2^-25 is a quarter of the step behind 1. */
KALM__FN kalm_result kalm__need_rounding(kalm_error *err)
{
    volatile float one = 1.0f, quarter = 2.9802322e-8f;
    if (kalm__plus(one, quarter) <= 1.0f && kalm__plus(one, 3.0f * quarter) > 1.0f) return KALM_OK;
    return kalm__fail(err, KALM_BAD_ARGUMENT, "the processor does not round to nearest: call fesetround(FE_TONEAREST)");
}

KALM__INLINE double kalm__times_double(double a, double b) { return kalm__rounded_double(a * b); }

/* a / b. The fence makes b a number that nobody knows and no other division has: else -freciprocal-math multiplies by 1 / b
   where b is constant or several divisions have it. */
KALM__INLINE double kalm__over_double(double a, double b)
{
#ifdef KALM__FENCE
    KALM__FENCE_AFTER(b, a);
    return kalm__rounded_double(a / b);
#else
    volatile double d = b;
    return kalm__rounded_double(a / d);
#endif
}

/* In doubles, as the root below: -mrecip estimates quotients of floats. */
KALM__INLINE float kalm__over(float a, float b) { return kalm__rounded((float)kalm__over_double((double)a, (double)b)); }

/* The square root, correctly rounded: in doubles, since clang estimates those of floats under -funsafe-math-optimizations. A
   double has more than twice a float's digits and two, so rounding twice gives what rounding once does. */
KALM__INLINE float kalm__root(float v) { return (float)kalm__rounded_double(sqrt(kalm__rounded_double((double)v))); }

/* The whole number nearest to |x| < 2^51, ties to even: the addition pushes the fraction out of the mantissa. */
KALM__INLINE double kalm__nearest_double(double x)
{
    const double shift = 6755399441055744.0;   /* 1.5 * 2^52 */
    return kalm__rounded_double(kalm__rounded_double(x + shift) - shift);
}

/* sum of c[i] x^i, i < n */
KALM__FN double kalm__polynomial(const double *c, unsigned n, double x)
{
    double sum = c[--n];
    while (n--) sum = kalm__rounded_double(kalm__times_double(sum, x) + c[n]);
    return sum;
}

/* 2^n for n in -1022..1023 */
KALM__FN double kalm__power_of_two(int n)
{
    uint64_t u = (uint64_t)(n + 1023) << 52;
    double v;
    memcpy(&v, &u, 8);
    return v;
}

/* e^x; |x| beyond 700 counts as 700. x = n ln 2 + r, Taylor to r^13 for |r| <= ln(2) / 2. */
KALM__FN double kalm__exp(double x)
{
    static const double c[14] = {
        1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800,
        1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800
    };
    double n, r;
    x = x > 700.0 ? 700.0 : x >= -700.0 ? x : -700.0;      /* NaN as well */
    n = kalm__nearest_double(kalm__times_double(x, 1.4426950408889634));
    r = kalm__rounded_double(x - kalm__times_double(n, 0.6931471805598903));      /* ln 2 in two parts: the first has */
    r = kalm__rounded_double(r - kalm__times_double(n, 5.497923018708371e-14));   /* room for n, so its product is exact */
    return kalm__times_double(kalm__polynomial(c, 14, r), kalm__power_of_two((int)n));
}

/* ln x for normal x > 0: y += 2 (x - e^y) / (x + e^y) cubes the error, which is below 0.7 at first. */
KALM__FN double kalm__log(double x)
{
    uint64_t u;
    double y;
    int i;
    memcpy(&u, &x, 8);
    y = kalm__times_double((double)((int)(u >> 52 & 2047) - 1023), 0.6931471805599453);
    for (i = 0; i < 5; i++) {
        double e = kalm__exp(y);
        y = kalm__rounded_double(y + kalm__over_double(2.0 * kalm__rounded_double(x - e), kalm__rounded_double(x + e)));
    }
    return y;
}

/* Sine and cosine of a in 0..2^30, which larger ones count as. a = k pi/2 + r, pi/2 in three parts of which two have room
   for k; Taylor. */
KALM__FN void kalm__sine_cosine(double a, double *sine, double *cosine)
{
    static const double s[8] = {
        1.0, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000.0
    };
    static const double c[9] = {
        1.0, -1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600, -1.0 / 87178291200.0,
        1.0 / 20922789888000.0
    };
    double k, r, r2, sin_r, cos_r;
    unsigned quarter;
    if (!(a <= 1073741824.0)) a = 1073741824.0;
    k = kalm__nearest_double(kalm__times_double(a, 0.63661977236758134));
    quarter = (unsigned)k & 3u;
    r = kalm__rounded_double(a - kalm__times_double(k, 1.570796251296997));
    r = kalm__rounded_double(r - kalm__times_double(k, 7.549789415861596e-08));
    r = kalm__rounded_double(r - kalm__times_double(k, 5.390302858158119e-15));
    r2 = kalm__times_double(r, r);
    sin_r = kalm__times_double(r, kalm__polynomial(s, 8, r2));
    cos_r = kalm__polynomial(c, 9, r2);
    *sine = quarter & 1 ? cos_r : sin_r;
    *cosine = quarter & 1 ? sin_r : cos_r;
    if (quarter & 2) *sine = -*sine;
    if (quarter == 1 || quarter == 2) *cosine = -*cosine;
}

/* tanh z = (1 - e^-2z) / (1 + e^-2z); the numerator of small z by its series, since 1 - e^-2z would lose digits. */
KALM__FN double kalm__tanh(double z)
{
    double size = z < 0 ? -z : z, t, u = -2.0 * size;
    static const double c[9] = { 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880 };
    double less = size < 0.05 ? kalm__times_double(-u, kalm__polynomial(c, 9, u)) :
                  kalm__rounded_double(1.0 - kalm__exp(u));
    t = kalm__over_double(less, kalm__rounded_double(2.0 - less));
    return z < 0 ? -t : t;
}

#endif
