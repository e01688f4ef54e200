/* test_codecs.c - what the converter does to numbers: every type against the plainest decoding, the error it states
   against the error there is, and rows that trip scale searches. */
#define _POSIX_C_SOURCE 200809L
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "../quantize/codecs.h"
#include "test.h"

static const char *const types[5] = { "f32", "f16", "bf16", "q8", "q4" };

/* Relative root mean square errors that normal weights may have: half a step of f16 and bf16 mantissas at the worst, 8 bits with the
   largest of a long row at 127, and Lloyd's bound for 16 levels in groups of 32 (0.0762) with a little room. */
static const double bound[5] = { 0, 0.0005, 0.0040, 0.0105, 0.079 };

/* About normal: the sum of 12 uniform numbers. */
static float normal(uint64_t *state)
{
    float x = 0;
    int i;
    for (i = 0; i < 12; i++) x += test_random_float(state);
    return x * 0.5f;
}

/* Weight (n, k) of a panel, as blocks.h and kernels.h draw it. */
static float decode(uint32_t type, const unsigned char *panel, const float *scale, size_t cols, size_t n, size_t k)
{
    size_t cols32 = kalm__cols32(cols), g = k / 32;
    unsigned byte, nibble;
    switch (type) {
    case KALM__F32: return kalm__f32(panel + (k * 16 + n) * 4);
    case KALM__F16: return kalm__from_f16((uint16_t)kalm__u16(panel + (k * 16 + n) * 2));
    case KALM__BF16: return kalm__from_bf16((uint16_t)kalm__u16(panel + (k * 16 + n) * 2));
    case KALM__Q8: byte = panel[k / 4 * 64 + n * 4 + k % 4]; return scale[n] * (float)(byte < 128 ? (int)byte : (int)byte - 256);
    default:
        byte = panel[g * 256 + k % 16 / 4 * 64 + n * 4 + k % 4];
        nibble = k % 32 < 16 ? byte & 15 : byte >> 4;
        return scale[n] * (float)kalm__q4_value(nibble, panel[cols32 / 32 * 256 + g * 16 + n]);
    }
}

typedef struct outcome { double stated, change, weight; } outcome;

/* Encode rows [16][cols32] in a buffer of exactly the size promised and decode again. */
static outcome round_trip(uint32_t type, const float *rows, size_t cols)
{
    size_t bytes = kalm__panel_bytes(type, cols), cols32 = kalm__cols32(cols), n, k;
    unsigned char *panel = (unsigned char *)malloc(bytes);
    void *scratch = malloc(kalm__encode_scratch(cols));
    float scale[16];
    int32_t sum[16];
    kalm__loss loss;
    outcome o;
    memset(&o, 0, sizeof o);
    if (!CHECK(panel && scratch)) exit(1);
    memset(panel, 0xa5, bytes);
    memset(scale, 0, sizeof scale);
    memset(sum, 0, sizeof sum);
    kalm__encode_panel(type, rows, cols, panel, scale, sum, &loss, scratch);
    o.stated = loss.weight > 0 ? sqrt(loss.change / loss.weight) : 0;
    for (n = 0; n < 16; n++) {
        double total = 0;
        CHECKF(scale[n] - scale[n] == 0 && (scale[n] >= 0 || !kalm__is_quantised(type)), "%s: scale %g", types[type], (double)scale[n]);
        for (k = 0; k < cols; k++) {
            double w = (double)rows[n * cols32 + k], d = w - (double)decode(type, panel, scale, cols, n, k);
            o.change += d * d;
            o.weight += w * w;
        }
        if (!kalm__is_quantised(type)) continue;
        for (k = 0; k < cols32; k++) total += (double)decode(type, panel, scale, cols, n, k);
        CHECKF(scale[n] == 0 || fabs(total / (double)scale[n] - (double)sum[n]) < 0.01 * (double)cols32,
               "%s: the sum is not that of the panel", types[type]);
    }
    if (bytes > kalm__panel_bytes(KALM__F32, cols) && type == KALM__F32) CHECK(0);
    free(panel);
    free(scratch);
    return o;
}

static void fill(float *rows, size_t cols, uint64_t *state)
{
    size_t cols32 = kalm__cols32(cols), n, k;
    memset(rows, 0, 16 * cols32 * sizeof *rows);
    for (n = 0; n < 16; n++) for (k = 0; k < cols; k++) rows[n * cols32 + k] = 0.03f * normal(state);
}

static void test_panels(void)
{
    static const size_t widths[] = { 1, 2, 31, 32, 33, 64, 100, 640, 2048, 10240 };
    float *rows = (float *)malloc(16 * 10240 * sizeof *rows);
    uint64_t state = 1;
    uint32_t type;
    size_t i;
    if (!CHECK(rows != NULL)) return;
    for (i = 0; i < sizeof widths / sizeof *widths; i++)
        for (type = 0; type < KALM__TYPES; type++) {
            outcome o;
            double error;
            fill(rows, widths[i], &state);
            o = round_trip(type, rows, widths[i]);
            error = o.weight > 0 ? sqrt(o.change / o.weight) : 0;
            CHECKF(error <= bound[type], "%s, %lu inputs: error %g", types[type], (unsigned long)widths[i], error);
            CHECKF(fabs(error - o.stated) <= 1e-4 * error + 1e-9, "%s, %lu inputs: error %g, stated %g", types[type],
                   (unsigned long)widths[i], error, o.stated);
        }
    free(rows);
}

/* Rows made to trip a search: whatever comes out is finite and no worse than leaving the row out. */
static void test_rows(void)
{
    enum { COLS = 96, CASES = 12 };
    float rows[16 * COLS];
    uint64_t state = 7;
    uint32_t type;
    size_t c, n, k;
    for (c = 0; c < CASES; c++) {
        for (n = 0; n < 16; n++)
            for (k = 0; k < COLS; k++) {
                float w = normal(&state), *at = &rows[n * COLS + k];
                switch (c) {
                case 0: *at = 0; break;
                case 1: *at = k == n ? 1.0f : 0.0f; break;
                case 2: *at = k == n ? -1e9f : w; break;            /* one weight dwarfs the row */
                case 3: *at = k < 32 ? w : k < 64 ? w * 1e-6f : 0; break;   /* groups of every size */
                case 4: *at = w * 1e-38f; break;                    /* subnormal steps */
                case 5: *at = w * 1e-45f; break;
                case 6: *at = w * 1e14f; break;
                case 7: *at = k % 2 ? 0.5f : -0.5f; break;
                case 8: *at = 0.25f; break;
                case 9: *at = n ? w : 0; break;                     /* a row of zeros among others */
                case 10: *at = w * w * w * w * w; break;            /* long tails */
                default: *at = -fabsf(w); break;
                }
            }
        for (type = 0; type < KALM__TYPES; type++) {
            outcome o;
            if (type == KALM__F16 && (c == 2 || c == 6)) continue;  /* the converter refuses them before */
            o = round_trip(type, rows, COLS);
            CHECKF(o.change <= o.weight && o.change - o.change == 0, "%s, rows %lu: change %g of %g", types[type],
                   (unsigned long)c, o.change, o.weight);
            if (type == KALM__Q4 && (c == 7 || c == 8))
                CHECKF(o.change <= 0.003 * o.weight, "q4, rows %lu: change %g of %g", (unsigned long)c, o.change, o.weight);
        }
    }
}

static void test_embedding(void)
{
    static const size_t widths[] = { 1, 31, 32, 33, 192, 640, 1152 };
    float w[1152 + 32], back[1152], work[1152 + 32];
    uint64_t state = 3;
    uint32_t type;
    size_t i, k;
    for (i = 0; i < sizeof widths / sizeof *widths; i++)
        for (type = 0; type < KALM__TYPES; type++) {
            size_t bytes = kalm__embedding_row_bytes(type, widths[i]), shift = i % 3;
            unsigned char *block = (unsigned char *)malloc(bytes + shift), *row;
            double change = 0, weight = 0, error, stated;
            kalm__loss loss;
            if (!CHECK(block != NULL)) return;
            row = block + shift;       /* rows lie at any alignment */
            memset(w, 0, sizeof w);
            for (k = 0; k < widths[i]; k++) w[k] = 0.04f * normal(&state);
            CHECK(kalm__encode_row(type, w, widths[i], row, work, &loss));
            kalm__embedding_row(type, row, widths[i], back);
            for (k = 0; k < widths[i]; k++) {
                change += ((double)w[k] - (double)back[k]) * ((double)w[k] - (double)back[k]);
                weight += (double)w[k] * (double)w[k];
            }
            error = weight > 0 ? sqrt(change / weight) : 0;
            stated = loss.weight > 0 ? sqrt(loss.change / loss.weight) : 0;
            CHECKF(error <= (type == KALM__Q4 ? 0.11 : bound[type]), "%s, %lu wide: error %g", types[type],
                   (unsigned long)widths[i], error);
            CHECKF(fabs(error - stated) <= 1e-4 * error + 1e-9, "%s, %lu wide: error %g, stated %g", types[type],
                   (unsigned long)widths[i], error, stated);
            free(block);
        }
    /* zeros stay zeros, what does not fit is told */
    memset(w, 0, sizeof w);
    for (type = 0; type < KALM__TYPES; type++) {
        unsigned char row[64 * 4];
        kalm__loss loss;
        CHECK(kalm__encode_row(type, w, 40, row, work, &loss));
        kalm__embedding_row(type, row, 40, back);
        for (k = 0; k < 40; k++) CHECK(back[k] == 0);
        w[39] = type == KALM__BF16 ? 3.4e38f : 1e10f;
        CHECKF(kalm__encode_row(type, w, 40, row, work, &loss) == (type == KALM__F32), "%s takes %g", types[type], (double)w[39]);
        w[39] = 0;
    }
    CHECK(kalm__embedding_row_bytes(KALM__TYPES, 40) == 0);
    CHECK(kalm__embedding_row_bytes(KALM__F32, SIZE_MAX / 2) == SIZE_MAX);
}

/* The short cuts of the search against the codebook itself. */
static void test_codebook(void)
{
    float a;
    unsigned v, m;
    for (a = 0; a < 140; a += 0.25f) {
        float closest = 1e9f;
        for (v = 8; v < 16; v++)
            if (fabsf((float)kalm__q4_codebook[v] - a) < fabsf(closest - a)) closest = (float)kalm__q4_codebook[v];
        CHECKF(fabsf(kalm__q4_nearest(a) - a) <= fabsf(closest - a), "nearest to %g is %g, not %g", (double)a, (double)closest,
               (double)kalm__q4_nearest(a));
    }
    for (m = 0; m <= KALM__Q4_MAX_MULTIPLIER; m++)
        for (v = 0; v < 15; v++) CHECK(kalm__q4_value(v, m) <= kalm__q4_value(v + 1, m));
    for (v = 0; v < 16; v++) CHECK(kalm__q4_value(v, KALM__Q4_MAX_MULTIPLIER) == kalm__q4_codebook[v] && kalm__q4_value(v, 0) == 0);
}

/* Each half comes back as itself; a float between two becomes the nearer one, in the middle the even one; from 65520 on it is infinite. */
static void test_halves(void)
{
    unsigned h;
    for (h = 0; h < 0x7c00; h++) {
        float low = kalm__from_f16((uint16_t)h), high = h == 0x7bff ? 65536.0f : kalm__from_f16((uint16_t)(h + 1));
        float middle = low + (high - low) / 2, below = nextafterf(middle, low), above = nextafterf(middle, high);
        unsigned even = h + (h & 1);
        if (!CHECKF(kalm__to_f16(low) == h && kalm__to_f16(-low) == (h | 0x8000u), "%#x comes back as %#x", h, kalm__to_f16(low))) break;
        if (!CHECKF(kalm__to_f16(below) == h && kalm__to_f16(middle) == even && kalm__to_f16(above) == h + 1, "behind %#x: %#x, %#x, %#x", h,
                    kalm__to_f16(below), kalm__to_f16(middle), kalm__to_f16(above))) break;
        if (!CHECKF(kalm__to_f16(-middle) == (even | 0x8000u), "behind -%#x: %#x", h, kalm__to_f16(-middle))) break;
    }
    CHECK(kalm__to_f16(INFINITY) == 0x7c00 && kalm__to_f16(-INFINITY) == 0xfc00 && kalm__to_f16(3e38f) == 0x7c00);
    CHECK((kalm__to_f16(NAN) & 0x7c00) == 0x7c00 && (kalm__to_f16(NAN) & 0x3ff) != 0);
}

/* To the nearest whole number, in the middle of two to the even one. */
static void test_nearest(void)
{
    static const float from[10] = { 0.0f, 0.495f, 0.5f, 0.505f, 1.495f, 1.5f, 2.5f, 126.495f, 126.505f, 4194303.5f };
    static const float to[10] = { 0, 0, 0, 1, 1, 2, 2, 126, 127, 4194304 };
    size_t i;
    for (i = 0; i < 10; i++)
        CHECKF(!(fabsf(kalm__nearest(from[i]) - to[i]) > 0 || fabsf(kalm__nearest(-from[i]) + to[i]) > 0), "%g becomes %g and %g", (double)from[i],
               (double)kalm__nearest(from[i]), (double)kalm__nearest(-from[i]));
}

int main(void)
{
    test_halves();
    test_nearest();
    test_codebook();
    test_panels();
    test_rows();
    test_embedding();
    return test_end();
}
