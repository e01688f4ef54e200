/* test_attention.c - attention by itself: kalm__attend on every kernel set and kind of keys against softmax in doubles, with
   weights of every shape (alike, a few large ones, one that takes nearly everything while the rest decides), windows,
   document rows, several heads to a kv head; quantised results the same bits on every set. Keys, queries, results and scratch end
   at an unreadable page, or begin at one. */
#include "guard.h"
#define KALM__EVEX_VNNI                /* see config.h */
#ifdef TEST_BUILD                      /* by make: the header, compiled apart */
#  define KALM_RERANK_IMPLEMENTATION
#  include "kalm_rerank.h"
#else                                  /* for another target: these parts alone */
#  include "../src/kernel_sets.h"
#  include "../src/attention.h"
#endif
#include "test.h"
#include <math.h>

enum { DIM = 64, HEADS = 4, KV = 2, GROUP = HEADS / KV, MOST = 700, QUERIES = 20, ROW = HEADS * DIM };
enum { ALIKE, MIXED, SHARP, SINK, DISTANT, SHAPES };
static const char *const shapes[] = { "alike", "mixed", "sharp", "sink", "far" };

typedef struct problem {
    size_t cross, self, position, left, right, queries;
    int    shape;
    float  q[QUERIES * ROW], k[MOST * KV * DIM], v[MOST * KV * DIM];   /* keys and values: document rows, then own ones */
    double want[QUERIES * ROW];
} problem;

static problem p;
static uint64_t state = 5;

static void make(size_t cross, size_t self, size_t position, size_t left, size_t right, int shape)
{
    static const float sharpness[SHAPES] = { 0.05f, 1.0f, 3.0f, 0.3f, 0.3f };
    size_t i, h, d, q, j;
    p.cross = cross, p.self = self, p.position = position, p.left = left, p.right = right, p.shape = shape;
    p.queries = self ? (self - position < QUERIES ? self - position : QUERIES) : QUERIES;
    for (i = 0; i < QUERIES * ROW; i++) p.q[i] = test_random_float(&state) * 1.7f * sharpness[shape] / 8.0f;
    for (i = 0; i < MOST * KV * DIM; i++) p.k[i] = test_random_float(&state) * 1.7f, p.v[i] = test_random_float(&state);
    if (shape == SINK) {               /* key 0 of each kv head points where every query does, and has one channel to itself */
        for (i = 0; i < MOST * KV * DIM; i++) p.v[i] = i % DIM ? 0.5f + 0.5f * p.v[i] : 0.0f;
        for (h = 0; h < KV; h++)
            for (d = 0; d < DIM; d++) p.k[h * DIM + d] = d ? 0.0f : 12.0f, p.v[h * DIM + d] = d ? 0.0f : 1.0f;
    }
    if (shape == DISTANT) {                /* e^x of these scores is no float: 200 falling to -200, and -200, 200, -200 again */
        for (i = 0; i < MOST; i++) {
            p.k[i * KV * DIM] = 20.0f - 40.0f * (float)i / (float)(cross + self);
            p.k[(i * KV + 1) * DIM] = i * 3 / (cross + self) == 1 ? 20.0f : -20.0f;
        }
        for (q = 0; q < QUERIES; q++)
            for (h = 0; h < HEADS; h++) p.q[q * ROW + h * DIM] = 10.0f;
    }
    for (q = 0; shape == SINK && q < QUERIES; q++)
        for (h = 0; h < HEADS; h++) p.q[q * ROW + h * DIM] = 0.75f;
    for (q = 0; q < p.queries; q++)
        for (h = 0; h < HEADS; h++) {
            double score[MOST], top = -1e300, total = 0;
            size_t at = position + q;
            for (j = 0; j < cross + self; j++) {
                size_t own = j - cross;
                score[j] = -1e300;
                if (j >= cross && (own < at ? at - own > left : own - at > right)) continue;
                for (score[j] = 0, d = 0; d < DIM; d++)
                    score[j] += (double)p.q[q * ROW + h * DIM + d] * (double)p.k[(j * KV + h / GROUP) * DIM + d];
                if (score[j] > top) top = score[j];
            }
            for (d = 0; d < DIM; d++) p.want[q * ROW + h * DIM + d] = 0;
            for (j = 0; j < cross + self; j++) {
                double e = score[j] > -1e299 ? exp(score[j] - top) : 0;
                total += e;
                for (d = 0; d < DIM && e > 0; d++) p.want[q * ROW + h * DIM + d] += e * (double)p.v[(j * KV + h / GROUP) * DIM + d];
            }
            for (d = 0; d < DIM; d++) p.want[q * ROW + h * DIM + d] /= total;
        }
}

/* As layer.h does it: int8 keys and their queries are rotated. */
static void put(const kalm__heads *h, const kalm__ops *ops, kalm__keys *keys, size_t first, size_t count)
{
    float *k = (float *)malloc(count * KV * DIM * sizeof *k);
    size_t i;
    if (!k) exit(EXIT_FAILURE);
    memcpy(k, p.k + first * KV * DIM, count * KV * DIM * sizeof *k);
    for (i = 0; i < count * KV && h->type == KALM__Q8; i++) ops->hadamard(k + i * DIM, k + i * DIM, DIM);
    for (i = 0; i < count; i += 7)     /* in pieces, as rows come */
        (void)kalm__store_keys(h, ops, keys, i, kalm__min(7, count - i), k + i * KV * DIM, p.v + (first + i) * KV * DIM, KV * DIM);
    kalm__end_keys(h, keys);
    free(k);
}

static void attend(const kalm__kernels *set, uint32_t type, float *out)
{
    kalm__pool pool;
    kalm__worker worker;
    kalm__backend backend;
    kalm__attention a;
    kalm__attention_scratch plan;
    size_t bytes, q, h, i, block;
    buffer memory[3], queries = take(p.queries * ROW * sizeof(float), 4), result = take(p.queries * ROW * sizeof(float), 4);
    float *x = (float *)(void *)queries.data;
    memset(&backend, 0, sizeof backend), memset(&a, 0, sizeof a);
    kalm__pool_start(&pool, 1, &worker, NULL);
    backend.kernels = set, backend.ops = set->ops, backend.pool = &pool;
    a.backend = &backend;
    a.shape.heads = HEADS, a.shape.kv_heads = KV, a.shape.head_dim = DIM, a.shape.type = type;
    a.left = p.left, a.right = p.right, a.position = p.position;
    a.cross.count = p.cross, a.cross.capacity = kalm__round_up(p.cross, KALM__KEY_STEP);
    a.self.count = p.self, a.self.capacity = kalm__round_up(p.self, KALM__KEY_STEP);
    block = kalm__query_block(&a.shape);
    bytes = kalm__attention_scratch_plan(&plan, NULL, set, &a.shape, block * GROUP);
    for (i = 0; i < 3; i++) {          /* full of ones: nothing may depend on it */
        size_t size = i == 0 ? bytes : kalm__key_bytes(&a.shape, i == 1 ? a.cross.capacity : a.self.capacity);
        memory[i] = take(size, 64);
        memset(memory[i].data, 0xff, size);
    }
    a.cross.data = memory[1].data, a.self.data = memory[2].data;
    if (p.cross) put(&a.shape, backend.ops, &a.cross, 0, p.cross);
    if (p.self) put(&a.shape, backend.ops, &a.self, p.cross, p.self);
    memcpy(x, p.q, p.queries * ROW * sizeof(float));
    for (i = 0; i < p.queries * HEADS && type == KALM__Q8; i++) backend.ops->hadamard(x + i * DIM, x + i * DIM, DIM);
    a.q = x, a.out = (float *)(void *)result.data;
    for (q = 0; q < p.queries; q += block)
        for (h = 0; h < KV; h++) kalm__attend(&a, q, kalm__min(block, p.queries - q), h, memory[0].data);
    memcpy(out, result.data, p.queries * ROW * sizeof(float));
    for (i = 0; i < 3; i++) give(memory[i]);
    give(queries), give(result);
    kalm__pool_stop(&pool);
}

/* Errors relative to the size of the result, root mean square: about twice what is found. */
static double bound(uint32_t type, int shape)
{
    if (shape == DISTANT) return type == KALM__F32 ? 1e-4 : 1.0;         /* scores of 200 leave less to what tells keys apart */
    if (type == KALM__F32) return 2e-6;
    return type == KALM__Q8 ? 0.03 : 0.009;
}

static void check(size_t cross, size_t self, size_t position, size_t left, size_t right)
{
    static const uint32_t types[] = { KALM__F32, KALM__Q8, KALM__Q16 };
    static float got[QUERIES * ROW], first[QUERIES * ROW];
    size_t t, i, k;
    int shape;
    for (shape = 0; shape < SHAPES; shape++) {
        uint64_t kept = state;
        make(cross, self, position, left, right, shape);
        if (shape == DISTANT) state = kept;    /* the other shapes' numbers stay those that the bounds were found with */
        for (t = 0; t < 3; t++) {
            const kalm__kernels *set;
            for (k = 0; (set = kalm__kernel_set(k, NULL, 1)) != NULL; k++) {
                double error = 0, size = 0;
                size_t n = p.queries * ROW;
                guard_front = (int)((k + t + (size_t)shape) % 2);
                attend(set, types[t], got);
                for (i = 0; i < n; i++) {
                    double e = (double)got[i] - p.want[i];
                    error += e * e, size += p.want[i] * p.want[i];
                }
                CHECKF(sqrt(error) <= bound(types[t], shape) * sqrt(size), "%s, keys %u, %zu + %zu keys, weights %s: off by %.2g of the result",
                       set->name, (unsigned)types[t], cross, self, shapes[shape], sqrt(error / size));
                if (!k) memcpy(first, got, sizeof first);
                CHECKF(types[t] == KALM__F32 || !memcmp(first, got, n * sizeof(float)), "%s, keys %u, weights %s: not the bits of %s",
                       set->name, (unsigned)types[t], shapes[shape], kalm__kernel_set(0, NULL, 1)->name);
            }
        }
    }
}

/* What a function that is called next finds in its local variables. */
static unsigned char spoil_stack(unsigned char with)
{
    volatile unsigned char room[16384];
    size_t i;
    for (i = 0; i < sizeof room; i++) room[i] = with;
    return room[with];
}

/* Kernels multiply 32 channels at a time, so behind those of a head of 16 there are zeros, whatever was in memory before. */
static void narrow_heads(void)
{
    static const uint32_t types[] = { KALM__Q8, KALM__Q16 };
    const kalm__ops *ops = kalm__kernels_scalar.ops;
    size_t t, i, d, wrong = 0;
    for (t = 0; t < 2; t++) {
        kalm__heads h;
        kalm__keys keys;
        unsigned char (*volatile spoil)(unsigned char) = spoil_stack;
        void *memory;
        size_t width = types[t] == KALM__Q8 ? 1 : 2;
        memset(&h, 0, sizeof h), memset(&keys, 0, sizeof keys);
        h.heads = 1, h.kv_heads = 1, h.head_dim = 16, h.type = types[t];
        keys.count = 20, keys.capacity = kalm__round_up(keys.count, KALM__KEY_STEP);
        memory = malloc(kalm__key_bytes(&h, keys.capacity) + 64);
        if (!memory) exit(EXIT_FAILURE);
        memset(memory, 0xff, kalm__key_bytes(&h, keys.capacity) + 64);
        keys.data = kalm__align64(memory);
        spoil(0x55);
        CHECK(kalm__store_keys(&h, ops, &keys, 0, keys.count, p.k, p.v, 16));
        for (i = 0; i < keys.count; i++)
            for (d = 16 * width; d < 32 * width; d++)
                wrong += ((unsigned char *)keys.data)[i / 16 * kalm__panel_bytes(h.type, 16) + i % 16 * 4 + d / 4 * 64 + d % 4] != 0;
        free(memory);
    }
    CHECK(wrong == 0);
}

/* Out of 65 heads that share one of keys, more than a block has rows for, each comes out as it does alone. */
static void many_heads(void)
{
    enum { MANY = 65, WIDE = 16, KEYS = 20 };
    static const uint32_t types[] = { KALM__F32, KALM__Q8, KALM__Q16 };
    const kalm__kernels *set = kalm__kernel_set(0, NULL, 1);
    size_t t, i, alone;
    for (t = 0; t < 3; t++) {
        float *out[2];
        for (alone = 0; alone < 2; alone++) {
            kalm__pool pool;
            kalm__worker worker;
            kalm__backend backend;
            kalm__attention a;
            kalm__attention_scratch plan;
            buffer keys, scratch;
            out[alone] = (float *)malloc(MANY * WIDE * sizeof(float));
            if (!out[alone]) exit(EXIT_FAILURE);
            memset(&backend, 0, sizeof backend), memset(&a, 0, sizeof a);
            kalm__pool_start(&pool, 1, &worker, NULL);
            backend.kernels = set, backend.ops = set->ops, backend.pool = &pool;
            a.backend = &backend;
            a.shape.heads = alone ? 1 : MANY, a.shape.kv_heads = 1, a.shape.head_dim = WIDE, a.shape.type = types[t];
            a.left = a.right = SIZE_MAX;
            a.self.count = KEYS, a.self.capacity = kalm__round_up(KEYS, KALM__KEY_STEP);
            CHECK(alone || kalm__query_block(&a.shape) == 1);
            keys = take(kalm__key_bytes(&a.shape, a.self.capacity), 64);
            scratch = take(kalm__attention_scratch_plan(&plan, NULL, set, &a.shape, a.shape.heads), 64);
            a.self.data = keys.data;
            CHECK(kalm__store_keys(&a.shape, set->ops, &a.self, 0, KEYS, p.k, p.v, WIDE));
            kalm__end_keys(&a.shape, &a.self);
            for (i = 0; i < (alone ? MANY : 1); i++) {
                a.q = p.q + i * WIDE, a.out = out[alone] + i * WIDE;
                kalm__attend(&a, 0, 1, 0, scratch.data);
            }
            give(keys), give(scratch);
            kalm__pool_stop(&pool);
        }
        CHECKF(!memcmp(out[0], out[1], MANY * WIDE * sizeof(float)), "65 heads beside each other, keys %u, are not those alone", (unsigned)types[t]);
        free(out[0]), free(out[1]);
    }
}

int main(void)
{
    narrow_heads();
    check(1, 0, 0, 0, 0);
    many_heads();
    check(0, 1, 0, SIZE_MAX, 0);
    check(65, 20, 0, SIZE_MAX, 0);     /* a prompt beside a document, causal */
    check(300, 90, 70, SIZE_MAX, 0);
    check(40, 600, 580, 511, 0);       /* with a window */
    check(0, 700, 300, SIZE_MAX, SIZE_MAX);        /* a passage: all of it, and a window */
    check(0, 700, 340, 255, 256);
    check(0, 33, 0, 3, 2);
    return test_end();
}
