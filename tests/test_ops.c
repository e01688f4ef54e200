/* test_ops.c - the float work between matmuls: every table that this machine can run against the scalar one, to the bit, for
   all lengths and tails, and between unreadable pages; the scalar one against doubles; and exact.h against libm. Says in the log which tables ran. */
#include "guard.h"
#define KALM__EVEX_VNNI                /* see config.h */
#ifdef TEST_BUILD                      /* by make: the header, compiled apart */
#  define KALM_RERANK_IMPLEMENTATION
#  include "kalm_rerank.h"
#else                                  /* for another target: these parts alone */
#  include "../src/kernel_sets.h"
#  include "../src/ops.h"
#endif
#include "test.h"
#include <math.h>

enum { MOST = 1100 };

static uint64_t state = 3;
static float x[MOST], y[MOST], gain[MOST], got[MOST], want[MOST];

/* Numbers of all sizes that a model has, some of them zero. */
static void fill(float *p, size_t n, float size)
{
    size_t i;
    for (i = 0; i < n; i++) {
        p[i] = size * test_random_float(&state);
        if (test_random(&state) % 16 == 0) p[i] *= 40.0f;
        if (test_random(&state) % 32 == 0) p[i] = test_random(&state) & 1 ? 0.0f : -0.0f;
    }
}

/* The same numbers: the same bits, but for the sign of zero. ARMv7's vectors flush subnormal numbers, which is promised. */
static int same(const float *a, const float *b, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) {
#if KALM__NEON && !KALM__NEON64
        if (a[i] - b[i] < 1e-37f && b[i] - a[i] < 1e-37f) continue;
#endif
        if (!(a[i] == b[i])) return 0;
    }
    return 1;
}

#define BOTH(what, n, call) do { \
        const kalm__ops *o = ops; \
        float *out = got; \
        memcpy(got, y, sizeof got), call; \
        o = &kalm__table_scalar, out = want; \
        memcpy(want, y, sizeof want), call; \
        CHECKF(same(got, want, MOST), "%s: %s of %zu numbers differs from the scalar table", set, what, (size_t)(n)); \
    } while (0)

static void check_table(const char *set, const kalm__ops *ops, size_t n, float size)
{
    float scale = 1.0f + test_random_float(&state), top, other[MOST];
    int8_t q[2][MOST];
    int16_t w[2][MOST];
    size_t i, even = n / 2 * 2;
    fill(x, MOST, size), fill(y, MOST, size), fill(gain, MOST, 1.0f);
    fill(other, MOST, 1.0f);
    BOTH("rms_norm", n, o->rms_norm(out, x, gain, n, 1e-6f, 1));
    BOTH("rms_norm in place", n, o->rms_norm(out, out, gain, n, 1e-6f, 1));
    BOTH("add_norm", n, o->add_norm(out, x, gain, n, 1e-6f, 1));
    if (n <= MOST / 9) {               /* several rows are what each of them is alone */
        BOTH("rms_norm of rows", n, o->rms_norm(out, x, gain, n, 1e-6f, 9));
        BOTH("add_norm of rows", n, o->add_norm(out, x, gain, n, 1e-6f, 7));
        if (even) BOTH("norm_rotate of heads", even, o->norm_rotate(out, out, gain, even, 1e-6f, 0.0625f, other, 6));
        memcpy(got, y, sizeof got), ops->add_norm(got, x, gain, n, 1e-6f, 6);
        memcpy(want, y, sizeof want);
        for (i = 0; i < 6; i++) kalm__table_scalar.add_norm(want + i * n, x + i * n, gain, n, 1e-6f, 1);
        CHECKF(same(got, want, MOST), "%s: 6 rows of %zu numbers are not normed as each alone", set, n);
    }
    if (even) {
        BOTH("norm_rotate", even, o->norm_rotate(out, x, gain, even, 1e-6f, 0.0625f, other, 1));
        BOTH("norm_rotate in place", even, o->norm_rotate(out, out, gain, even, 1e-6f, 0.0625f, other, 1));
        BOTH("norm_rotate without rotation", even, o->norm_rotate(out, x, gain, even, 1e-6f, 1.0f, NULL, 1));
        BOTH("add_angles", even, o->add_angles(out, gain, other, even / 2));
    }
    BOTH("geglu", n, o->geglu(out, x, gain, n));
    top = kalm__table_scalar.row_max(x, n);
    BOTH("row_max", n, out[0] = o->row_max(x, n));
    BOTH("exp_sum", n, (memcpy(out, x, n * sizeof(float)), out[MOST - 1] = o->exp_sum(out, n, top, NULL, NULL)));
    for (i = 0; i < MOST; i++) got[i] = fabsf(other[i]);
    memcpy(other, got, sizeof other);
    BOTH("exp_sum with scales", n, (memcpy(out, x, n * sizeof(float)), out[MOST - 1] = o->exp_sum(out, n, top, other, out + MOST - 2)));
    BOTH("scale_add", n, o->scale_add(out, scale, x, n));
    BOTH("scale_row", n, o->scale_row(out, x, scale, n));
    BOTH("dot", n, out[0] = o->dot(x, gain, n));
    BOTH("hadamard", n, o->hadamard(out, x, n));
    BOTH("hadamard in place", n, o->hadamard(out, out, n));
    BOTH("rounding_loss", n, o->rounding_loss(out, x, n));
    for (i = 0; i < MOST; i++) x[i] = fabsf(x[i]);
    BOTH("sum_below", n, out[0] = o->sum_below(x, n, 0.3f * size, out + 1));
    for (i = 0; i < MOST; i++) q[0][i] = (int8_t)test_random(&state), q[1][i] = 0;
    ops->interleave((unsigned char *)q[1], q[0], q[0] + 16, q[0] + 32, q[0] + 48);
    for (i = 0; i < 64 && q[1][i] == q[0][i % 4 * 16 + i / 4]; i++) {}
    CHECKF(i == 64 && q[1][64] == 0, "%s: interleave goes wrong at byte %zu", set, i);
    for (i = 0; i < MOST; i++) x[i] = (float)((int)(test_random(&state) % 8000000) - 4000000);
    BOTH("add_split16", n, o->add_split16(out, out, scale, 0.37f, x, x + MOST / 2, 1.25f, n < MOST / 2 ? n : MOST / 2));
    BOTH("add_split16 without high bytes", n, o->add_split16(out, gain, scale, 0.37f, NULL, x, 1.0f, n));
    BOTH("add_split16 to nothing", n, o->add_split16(out, NULL, scale, 0.37f, NULL, x, 0.7f, n));
    fill(x, MOST, size);
    if (n > 3) x[1] = 127.0f * size * 50.0f, x[2] = 0.5f * size * 50.0f, x[3] = -1.5f * size * 50.0f;     /* ties */
    memset(q, 77, sizeof q), memset(w, 77, sizeof w);
    got[0] = ops->quantise(q[0], x, n), want[0] = kalm__table_scalar.quantise(q[1], x, n);
    got[1] = ops->quantise_int16(w[0], x, n, 2896.0f), want[1] = kalm__table_scalar.quantise_int16(w[1], x, n, 2896.0f);
    CHECKF(same(got, want, 2) && !memcmp(q[0], q[1], sizeof q[0]) && !memcmp(w[0], w[1], sizeof w[0]),
           "%s: quantising %zu numbers differs from the scalar table", set, n);
}

/* NaN and infinity give something, and write nothing beyond. */
static void check_not_numbers(const kalm__ops *ops)
{
    int8_t q[40];
    int16_t w[40];
    size_t i;
    for (i = 0; i < 33; i++) x[i] = i % 3 == 0 ? (float)NAN : i % 3 == 1 ? (float)INFINITY : 1.0f;
    memset(q, 77, sizeof q), memset(w, 77, sizeof w);
    (void)ops->quantise(q, x, 33);
    (void)ops->quantise_int16(w, x, 33, 2896.0f);
    ops->geglu(got, x, x, 33);
    (void)ops->exp_sum(x, 33, (float)NAN, NULL, NULL);
    CHECK(q[33] == 77 && w[33] == 77 * 257);
}

/* Every operation on buffers of exactly the length that it is promised, beside an unreadable page. */
static void check_guards(const kalm__ops *ops, size_t n)
{
    size_t bytes = n * sizeof(float), even = n / 2 * 2;
    buffer a = take(bytes, 4), b = take(bytes, 4), c = take(bytes, 4), one = take(4, 4), angles = take(even * 4, 4);
    buffer other = take(even * 4, 4), out = take(even * 4, 4), bytes8 = take(n, 1), words = take(2 * n, 2);
    buffer line = take(64, 1), row = take(16, 1);
    float *p = (float *)(void *)a.data, *q = (float *)(void *)b.data, *r = (float *)(void *)c.data, *most = (float *)(void *)one.data;
    float *t = (float *)(void *)angles.data, *u = (float *)(void *)other.data, *v = (float *)(void *)out.data, sum = 0;
    const int8_t *inputs = (const int8_t *)row.data;
    fill(p, n, 1.0f), fill(q, n, 1.0f), fill(r, n, 1.0f), fill(t, even, 1.0f), fill(u, even, 1.0f);
    ops->rms_norm(p, q, r, n, 1e-6f, 1);
    ops->add_norm(p, q, r, n, 1e-6f, 1);
    if (even) {
        ops->norm_rotate(v, u, t, even, 1e-6f, 1.0f, t, 1);
        ops->norm_rotate(v, u, t, even, 1e-6f, 1.0f, NULL, 1);
        ops->add_angles(v, t, u, even / 2);
    }
    ops->geglu(p, q, r, n);
    sum += ops->exp_sum(p, n, ops->row_max(p, n), NULL, NULL);
    sum += ops->exp_sum(p, n, 1.0f, q, most);
    sum += ops->sum_below(p, n, 0.5f, most);
    ops->scale_add(p, 0.5f, q, n);
    ops->scale_row(p, q, 0.5f, n);
    sum += ops->dot(p, q, n);
    ops->hadamard(p, q, n);
    sum += ops->quantise((int8_t *)bytes8.data, q, n);
    sum += ops->quantise_int16((int16_t *)(void *)words.data, q, n, 2896.0f);
    ops->rounding_loss(p, q, n);
    ops->interleave(line.data, inputs, inputs, inputs, inputs);
    ops->add_split16(p, q, 0.5f, 0.5f, r, q, 1.0f, n);
    ops->add_split16(p, NULL, 0.5f, 0.5f, NULL, q, 1.0f, n);
    CHECK(sum - sum == 0.0f);          /* finite; that it got here is what is tested */
    give(a), give(b), give(c), give(one), give(angles), give(other), give(out), give(bytes8), give(words), give(line), give(row);
}

/* fmax makes a vector reduction that gcc 12 for ARM stumbles over */
static double larger(double a, double b) { return a > b ? a : b; }
static double error_of(double is, double should) { return fabs(is - should) / (fabs(should) + 1e-30); }

/* The scalar table against doubles: relative errors. */
static void check_accuracy(void)
{
    const kalm__ops *o = &kalm__table_scalar;
    double worst = 0, sum = 0;
    size_t i;
    for (i = 0; i < 40000; i++) {
        float g = (float)i * 0.0005f - 10.0f, one = 1.0f, h;
        double z = 0.79788456080286536 * ((double)g + 0.044715 * (double)g * (double)g * (double)g), exact;
        exact = (double)g / (1.0 + exp(-2.0 * z));
        o->geglu(&h, &g, &one, 1);
        if (fabs(exact) > 1e-30) worst = larger(worst, error_of((double)h, exact) / (1.0 + fabs(z)));
    }
    CHECKF(worst < 6e-7, "geglu: relative error %g (1 + |z|)", worst);
    for (worst = 0, i = 0; i < 86000; i++) {
        float s = -(float)i * 0.001f, p = s;
        double e;
        (void)o->exp_sum(&p, 1, 0.0f, NULL, NULL);
        e = error_of((double)p, exp((double)s)) / (1.0 - (double)s);
        if (e > worst) worst = e;
    }
    CHECKF(worst < 2.5e-7, "exp: relative error %g (1 + |x|)", worst);
    x[0] = 0.0f, x[1] = -1000.0f, x[2] = -(float)INFINITY;
    (void)o->exp_sum(x, 3, 0.0f, NULL, NULL);
    CHECK(x[0] == 1.0f && x[1] < 3e-38f && x[2] < 3e-38f);             /* attention wants exactly 1 */
    fill(x, 1000, 1.0f);
    for (i = 0; i < 1000; i++) sum += (double)x[i] * (double)x[i];
    CHECK(error_of((double)o->dot(x, x, 1000), sum) < 1e-6);
    for (i = 0; i < 1000; i++) gain[i] = 2.0f;
    o->rms_norm(got, x, gain, 1000, 0.0f, 1);
    CHECK(error_of((double)o->dot(got, got, 1000), 4000.0) < 1e-6);
    memcpy(got, x, sizeof got);
    o->hadamard(got, got, 1000), o->hadamard(got, got, 1000);                    /* its own inverse */
    for (worst = 0, i = 0; i < 1000; i++) worst = larger(worst, fabs((double)got[i] - (double)x[i]));
    CHECKF(worst < 2e-5, "hadamard twice: off by %g", worst);
}

static void check_exact(void)
{
    double worst[4] = { 0, 0, 0, 0 }, a, s, c;
    int i;
    for (i = -69000; i < 69000; i++) {
        a = i * 0.01 + 0.001234;
        worst[0] = larger(worst[0], error_of(kalm__exp(a), exp(a)));
        a = exp(i * 0.001);
        worst[1] = larger(worst[1], fabs(kalm__log(a) - log(a)));
        a = fabs(i * 3.7 + 0.1234567);
        kalm__sine_cosine(a, &s, &c);
        worst[2] = larger(worst[2], larger(fabs(s - sin(a)), fabs(c - cos(a))));
        a = i * 0.0003;
        worst[3] = larger(worst[3], error_of(kalm__tanh(a), tanh(a)));
    }
    CHECKF(worst[0] < 3e-14, "exp: relative error %g", worst[0]);
    CHECKF(worst[1] < 2e-14, "log: error %g", worst[1]);
    CHECKF(worst[2] < 1e-14, "sine, cosine: error %g", worst[2]);
    CHECKF(worst[3] < 1e-13, "tanh: relative error %g", worst[3]);
    for (a = 1e6; a < 1.1e9; a *= 1.7) {
        kalm__sine_cosine(a, &s, &c);
        /* to what a library knows that reduces by the x87's 66 bits of pi */
        CHECKF(fabs(s - sin(a)) < 3e-11 && fabs(c - cos(a)) < 3e-11, "sine and cosine of %g are %g and %g", a, s, c);
    }
    CHECK(kalm__exp(0.0) == 1.0 && kalm__tanh(0.0) == 0.0 && kalm__tanh(1e9) == 1.0 && kalm__tanh(-1e9) == -1.0);
    CHECK(kalm__exp(1e9) == kalm__exp(700.0) && kalm__exp((double)NAN) > 0);
    CHECK(kalm__int16_limit(256) == 2896 && kalm__int16_limit(64) == 5792 && kalm__int16_limit(4096) == 724);
}

int main(void)
{
    size_t i, n;
    const kalm__kernels *set;
    const kalm__ops *last = NULL;
    printf("tables:");
    for (i = 0; (set = kalm__kernel_set(i, NULL, 1)) != NULL; i++) {
        const kalm__ops *ops = set->ops;
        if (ops == last) continue;
        last = ops;
        printf(" that of %s", set->name);
        check_not_numbers(ops);
        for (n = 1; n <= 100; n++)
            for (guard_front = 0; guard_front < 2; guard_front++) check_guards(ops, n);
        for (n = 1; n <= 140; n++) check_table(set->name, ops, n, n % 3 ? 1.0f : 1e-3f);
        for (n = 256; n <= 1090; n += 139) check_table(set->name, ops, n, n % 2 ? 30.0f : 1e-6f);
    }
    printf("\n");
    check_accuracy();
    check_exact();
    return test_end();
}
