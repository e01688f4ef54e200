/* bench_kernels.h - microbenchmarks of the kernel sets, for kalm-bench: each shape in GOPS (a multiply-add counts two)
   and as a ratio to the set's register peak, measured in the same process and in turn with it, since machines drift.
   A program includes the library's parts first. Single-threaded: a caller that wants two runs it in two. */
#ifndef KALM_BENCH_KERNELS_H
#define KALM_BENCH_KERNELS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Seconds, from any fixed start. */
static double bench__now(void)
{
#if defined(_WIN32)
    return (double)clock() / CLOCKS_PER_SEC;
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#endif
}

/* ---- register peaks ----------------------------------------------------------------------------------------------
   Written as asm so that no compiler merges or moves the instructions. Each runs n turns and returns the multiply-adds
   it made. The sources are irregular bytes, so that the power drawn, and with it the clock, is a real one. */

/* 256 bytes: irregular as bytes, small and finite as floats (the top byte of each is 0x3c or 0xbc). */
KALM__FN const unsigned char *bench__sources(void)
{
    static KALM__ALIGNED(64) unsigned char bytes[256];
    uint32_t seed = 1;
    int i;
    for (i = 0; i < 256; i++) {
        seed = seed * 1664525u + 1013904223u;
        bytes[i] = (unsigned char)(i % 4 == 3 ? 0x3c | (seed >> 24 & 0x80) : seed >> 24);
    }
    return bytes;
}

#if KALM__X86 && defined(__GNUC__)
#  define BENCH__12(I, S, P) \
    I " " S P "4\n\t" I " " S P "5\n\t" I " " S P "6\n\t" I " " S P "7\n\t" I " " S P "8\n\t" I " " S P "9\n\t" \
    I " " S P "10\n\t" I " " S P "11\n\t" I " " S P "12\n\t" I " " S P "13\n\t" I " " S P "14\n\t" I " " S P "15\n\t"
#  define BENCH__24(I, S, P) BENCH__12(I, S, P) \
    I " " S P "16\n\t" I " " S P "17\n\t" I " " S P "18\n\t" I " " S P "19\n\t" I " " S P "20\n\t" I " " S P "21\n\t" \
    I " " S P "22\n\t" I " " S P "23\n\t" I " " S P "24\n\t" I " " S P "25\n\t" I " " S P "26\n\t" I " " S P "27\n\t"
#  define BENCH__LOW "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
    "xmm12", "xmm13", "xmm14", "xmm15"
#  define BENCH__HIGH "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", \
    "xmm27"
/* the float peaks begin with zeroed registers: no NaN, no subnormal */
#  if defined(__x86_64__)
#    define BENCH__YMM \
    "vzeroall\n\tvmovdqu (%1),%%ymm0\n\tvmovdqu 64(%1),%%ymm1\n\tvmovdqu 128(%1),%%ymm2\n\tvmovdqu 192(%1),%%ymm3\n\t"
#    define BENCH__LOOP BENCH__YMM "1:\n\t"
#    define BENCH__ZMM \
    "vzeroall\n\tvmovdqu32 (%1),%%zmm0\n\tvmovdqu32 64(%1),%%zmm1\n\tvpxord %%zmm16,%%zmm16,%%zmm16\n\t" \
    "vmovaps %%zmm16,%%zmm17\n\tvmovaps %%zmm16,%%zmm18\n\tvmovaps %%zmm16,%%zmm19\n\tvmovaps %%zmm16,%%zmm20\n\t" \
    "vmovaps %%zmm16,%%zmm21\n\tvmovaps %%zmm16,%%zmm22\n\tvmovaps %%zmm16,%%zmm23\n\tvmovaps %%zmm16,%%zmm24\n\t" \
    "vmovaps %%zmm16,%%zmm25\n\tvmovaps %%zmm16,%%zmm26\n\tvmovaps %%zmm16,%%zmm27\n\t1:\n\t"
#    define BENCH__END "dec %0\n\tjnz 1b\n\tvzeroupper"
#    if KALM__HAVE_AVX512
KALM__TARGET("avx512f,avx512vnni") static double bench__peak_vnni512(long n)
{
    double made = 24.0 * 64.0 * (double)n;
    __asm__ volatile(BENCH__ZMM BENCH__24("vpdpbusd", "%%zmm1,%%zmm0,", "%%zmm") BENCH__END
                     : "+r"(n) : "r"(bench__sources()) : "cc", BENCH__LOW, BENCH__HIGH);
    return made;
}
KALM__TARGET("avx512f") static double bench__peak_fma512(long n)
{
    double made = 24.0 * 16.0 * (double)n;
    __asm__ volatile(BENCH__ZMM BENCH__24("vfmadd231ps", "%%zmm1,%%zmm0,", "%%zmm") BENCH__END
                     : "+r"(n) : "r"(bench__sources()) : "cc", BENCH__LOW, BENCH__HIGH);
    return made;
}
#    endif
#    if KALM__HAVE_AMX
/* as the others: never run yet */
KALM__TARGET("amx-tile,amx-int8") static double bench__peak_amx(long n)
{
    KALM__ALIGNED(64) unsigned char config[64] = { 1 };
    double made = 6.0 * 16.0 * 16.0 * 64.0 * (double)n;
    int i;
    for (i = 0; i < 8; i++) config[16 + 2 * i] = 64, config[48 + i] = 16;
    __asm__ volatile("ldtilecfg %1\n\t1:\n\ttdpbusd %%tmm7,%%tmm6,%%tmm0\n\ttdpbusd %%tmm7,%%tmm6,%%tmm1\n\ttdpbusd %%tmm7,%%tmm6,%%tmm2\n\t"
                     "tdpbusd %%tmm7,%%tmm6,%%tmm3\n\ttdpbusd %%tmm7,%%tmm6,%%tmm4\n\ttdpbusd %%tmm7,%%tmm6,%%tmm5\n\t"
                     "dec %0\n\tjnz 1b\n\ttilerelease" : "+r"(n) : "m"(config) : "cc");
    return made;
}
#    endif
#    if KALM__HAVE_AVX512BF16
KALM__TARGET("avx512f,avx512bf16") static double bench__peak_bf16(long n)
{
    double made = 24.0 * 32.0 * (double)n;
    __asm__ volatile(BENCH__ZMM BENCH__24("vdpbf16ps", "%%zmm1,%%zmm0,", "%%zmm") BENCH__END
                     : "+r"(n) : "r"(bench__sources()) : "cc", BENCH__LOW, BENCH__HIGH);
    return made;
}
#    endif
#    if KALM__HAVE_AVXVNNI
KALM__TARGET("avx2,avxvnni") static double bench__peak_avxvnni(long n)
{
    double made = 12.0 * 32.0 * (double)n;
    __asm__ volatile(BENCH__LOOP BENCH__12(KALM__VEX "vpdpbusd", "%%ymm1,%%ymm0,", "%%ymm") BENCH__END
                     : "+r"(n) : "r"(bench__sources()) : "cc", BENCH__LOW);
    return made;
}
#    endif
KALM__TARGET("avx2,fma") static double bench__peak_fma256(long n)
{
    double made = 12.0 * 8.0 * (double)n;
    __asm__ volatile(BENCH__LOOP BENCH__12("vfmadd231ps", "%%ymm1,%%ymm0,", "%%ymm") BENCH__END
                     : "+r"(n) : "r"(bench__sources()) : "cc", BENCH__LOW);
    return made;
}
/* exact products of signed bytes on AVX2 take 16-bit words: vpmaddwd and vpaddd for 16 multiply-adds */
#    define BENCH__MADD(A, T) "vpmaddwd %%ymm1,%%ymm0,%%ymm" T "\n\tvpaddd %%ymm" T ",%%ymm" A ",%%ymm" A "\n\t"
KALM__TARGET("avx2") static double bench__peak_madd16(long n)
{
    double made = 6.0 * 16.0 * (double)n;
    __asm__ volatile(BENCH__LOOP BENCH__MADD("4", "10") BENCH__MADD("5", "11") BENCH__MADD("6", "12")
                     BENCH__MADD("7", "13") BENCH__MADD("8", "14") BENCH__MADD("9", "15") BENCH__END
                     : "+r"(n) : "r"(bench__sources()) : "cc", BENCH__LOW);
    return made;
}
/* bytes to words to dwords, 32 multiply-adds in three instructions; with full-range signed bytes vpmaddubsw saturates,
   so this is a yardstick, not a way to the same sums */
#    define BENCH__MADDUBS(A, T) "vpmaddubsw %%ymm1,%%ymm0,%%ymm" T "\n\tvpmaddwd %%ymm2,%%ymm" T ",%%ymm" T \
    "\n\tvpaddd %%ymm" T ",%%ymm" A ",%%ymm" A "\n\t"
KALM__TARGET("avx2") static double bench__peak_maddubs(long n)
{
    double made = 6.0 * 32.0 * (double)n;
    __asm__ volatile(BENCH__LOOP BENCH__MADDUBS("4", "10") BENCH__MADDUBS("5", "11") BENCH__MADDUBS("6", "12")
                     BENCH__MADDUBS("7", "13") BENCH__MADDUBS("8", "14") BENCH__MADDUBS("9", "15") BENCH__END
                     : "+r"(n) : "r"(bench__sources()) : "cc", BENCH__LOW);
    return made;
}
#  endif
#endif

typedef double (*bench__peak_fn)(long n);

/* The peak that a set's matmuls of a type are measured against, and its name; NULL where none is written. "maddubs" is
   the yardstick's AVX2 peak, which saturates. */
static bench__peak_fn bench_peak(const char *set, uint32_t type, const char **name)
{
    *name = "";
#if KALM__X86 && defined(__GNUC__) && defined(__x86_64__)
#  if KALM__HAVE_AVX512BF16
    if (strcmp(set, "avx512bf16") == 0 && type == KALM__BF16) {
        *name = "vdpbf16ps zmm";
        return bench__peak_bf16;
    }
#  endif
#  if KALM__HAVE_AMX
    if (strcmp(set, "amx") == 0 && kalm__is_quantised(type)) {
        *name = "tdpbusd";
        return bench__peak_amx;
    }
#  endif
#  if KALM__HAVE_AVX512
    if (strncmp(set, "avx512", 6) == 0 || strcmp(set, "amx") == 0) {
        *name = kalm__is_quantised(type) ? "vpdpbusd zmm" : "vfmadd231ps zmm";
        return kalm__is_quantised(type) ? bench__peak_vnni512 : bench__peak_fma512;
    }
#  endif
#  if KALM__HAVE_AVXVNNI
    if (strcmp(set, "avxvnni") == 0 && kalm__is_quantised(type)) {
        *name = "vpdpbusd ymm";
        return bench__peak_avxvnni;
    }
#  endif
    if (strcmp(set, "maddubs") == 0) {
        *name = "vpmaddubsw+vpmaddwd+vpaddd ymm";
        return bench__peak_maddubs;
    }
    if (strcmp(set, "avx2") == 0 && kalm__is_quantised(type)) {
        *name = "vpmaddwd+vpaddd ymm";
        return bench__peak_madd16;
    }
    if (strcmp(set, "avx2") == 0 || strcmp(set, "avxvnni") == 0) {
        *name = "vfmadd231ps ymm";
        return bench__peak_fma256;
    }
#endif
    (void)set, (void)type;
    return NULL;
}

/* ---- matmuls ------------------------------------------------------------------------------------------- */

typedef struct bench_shape {
    const char *name;
    uint32_t    outputs, inputs;
    int         passing;               /* results go to a small tile that the next operation reads at once, as gate's and
                                          up's do, and not to a [rows][outputs] array */
} bench_shape;

static const bench_shape bench_shapes[] = {
    { "nano_qkv", 1536, 640, 0 },     { "nano_o", 640, 1024, 0 },
    { "nano_gate_up", 4096, 640, 1 }, { "nano_down", 640, 2048, 0 },
    { "small_qkv", 1536, 1152, 0 },   { "small_o", 1152, 1024, 0 },
    { "small_gate_up", 13824, 1152, 1 }, { "small_down", 1152, 6912, 0 },
    { "large_qkv", 4096, 2560, 0 },   { "large_o", 2560, 2048, 0 },
    { "large_gate_up", 20480, 2560, 1 }, { "large_down", 2560, 10240, 0 }
};
enum { BENCH_SHAPES = sizeof bench_shapes / sizeof bench_shapes[0] };

typedef struct bench_result {
    double gops, peak, ratio;          /* best of all rounds, and of these the ratio                                      */
    double median;                     /* of the rounds' ratios to the peak measured just behind each                     */
    double pack_share;                 /* part of the time spent in pack_acts */
    double read;                       /* GB/s of weights read */
} bench_result;

static int bench__order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static unsigned char *bench__alloc(void **block, size_t size)
{
    *block = calloc(size + 64, 1);
    if (!*block) {
        fprintf(stderr, "bench: no memory for %lu bytes\n", (unsigned long)size);
        exit(EXIT_FAILURE);
    }
    return kalm__align64(*block);
}

/* y = x W^T with `set`, rows in blocks of at most `block` and `wide` panels a call, the activations packed anew each time.
   copies: how many weight matrices are used in turn (more than the caches hold shows the speed from memory).
   Long: the measured loop stands among the buffers that it is about, so that a reader sees all that is and is not timed. */
static bench_result bench_matmul(const kalm__kernels *set, uint32_t type, size_t rows, bench_shape shape, size_t block,
                                 size_t wide, size_t copies, int rounds)
{
    size_t cols = shape.inputs, outputs = shape.outputs, panels = (outputs + 15) / 16, i, r, n, p, c = 0;
    size_t bytes = panels * kalm__panel_bytes(type, cols), stride = shape.passing ? wide * 16 : panels * 16;
    void *blocks[7];
    unsigned char *data = bench__alloc(&blocks[0], bytes * copies), *acts, *scratch;
    float *x = (float *)(void *)bench__alloc(&blocks[1], rows * cols * 4);
    float *y = (float *)(void *)bench__alloc(&blocks[2], rows * stride * 4);
    float *scale = (float *)(void *)bench__alloc(&blocks[3], panels * 64);
    int32_t *sum = (int32_t *)(void *)bench__alloc(&blocks[4], panels * 64);
    uint32_t seed = 12345;
    double macs = (double)rows * (double)outputs * (double)cols, ratios[256], best = 1e30, best_peak = 0, packing = 0;
    double all = 0;
    long turns = 20000;
    const char *peak_name;
    bench__peak_fn peak = bench_peak(set->name, type, &peak_name);
    bench_result result;
    kalm__matrix w;
    kalm__matmul_job job;
    int round, repeat = 1;
    acts = bench__alloc(&blocks[5], kalm__acts_bytes(set, type, rows, cols));
    scratch = bench__alloc(&blocks[6], kalm__matmul_scratch(set, type, cols));
    memset(&w, 0, sizeof w);
    w.type = type, w.rows = (uint32_t)outputs, w.cols = (uint32_t)cols;
    if (kalm__is_quantised(type)) w.scale = scale, w.sum = sum;
    for (i = 0; i < bytes * copies; i++) {
        seed = seed * 1664525u + 1013904223u;
        data[i] = (unsigned char)(kalm__is_quantised(type) ? seed >> 24 & 63 :       /* floats: no subnormals */
                                  i % (type == KALM__F32 ? 4 : 2) == (type == KALM__F32 ? 3 : 1) ? 0x3c : 0x11);
    }
    for (i = 0; i < panels * 16; i++) scale[i] = 0.01f;
    for (i = 0; i < rows * cols; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)seed * 1e-9f;
    }
    block = kalm__max(KALM__ACTS_STEP, block / KALM__ACTS_STEP * KALM__ACTS_STEP);
    if (rounds > 256) rounds = 256;
    job.next = NULL, job.w = &w, job.acts = acts, job.rows = rows, job.stride = stride, job.scratch = scratch;
    for (round = -1; round < rounds; round++) {
        double t0, t1 = 0, t2, rate, peak_rate = 0;
        int k;
        t0 = bench__now();
        for (k = 0, packing = 0; k < repeat; k++, c = (c + 1) % copies) {
            double before = bench__now();
            w.data = data + c * bytes;
            kalm__pack(set, kalm__block_of(type, rows, cols, acts), 0, rows, x, cols);
            packing += bench__now() - before;
            for (p = 0; p < panels; p += wide)
                for (r = 0; r < rows; r += n) {
                    n = kalm__min(block, rows - r);
                    job.row0 = r, job.n = n, job.panel0 = p, job.panels = kalm__min(wide, panels - p);
                    job.y = shape.passing ? y : y + r * stride + 16 * p;
                    kalm__matmul(set, &job);
                }
        }
        t1 = bench__now();
        if (round < 0) {               /* rounds of about 2 ms if they can, the peak of about 1 ms: short, so that some
                                          of them meet no neighbour */
            repeat = (int)(0.002 * repeat / (t1 - t0 + 1e-9)) + 1;
            if (peak) {
                t0 = bench__now();
                peak(turns);
                turns = (long)(0.001 * (double)turns / (bench__now() - t0 + 1e-9)) + 1;
            }
            continue;
        }
        rate = 2e-9 * macs * repeat / (t1 - t0);
        if (peak) {
            double made = peak(turns);
            t2 = bench__now();
            peak_rate = 2e-9 * made / (t2 - t1);
        }
        ratios[round] = peak ? rate / peak_rate : 0;
        if (peak_rate > best_peak) best_peak = peak_rate;
        if ((t1 - t0) / repeat < best) {
            best = (t1 - t0) / repeat;
            all = packing / (t1 - t0);
        }
    }
    qsort(ratios, (size_t)rounds, sizeof ratios[0], bench__order);
    result.gops = 2e-9 * macs / best;
    result.peak = best_peak;
    result.ratio = peak ? result.gops / best_peak : 0;
    result.median = ratios[rounds / 2];
    result.pack_share = all;
    result.read = 1e-9 * (double)bytes / best;
    for (i = 0; i < 7; i++) free(blocks[i]);
    return result;
}

/* ---- reads ------------------------------------------------------------------------------------------------------- */

#if KALM__X86 && defined(__GNUC__)
#  include <immintrin.h>
KALM__TARGET("avx2") static uint64_t bench__read(const unsigned char *p, size_t bytes)
{
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    uint64_t sum[4];
    size_t i;
    for (i = 0; i + 128 <= bytes; i += 128) {
        a = _mm256_xor_si256(a, _mm256_load_si256((const __m256i *)(const void *)(p + i)));
        b = _mm256_xor_si256(b, _mm256_load_si256((const __m256i *)(const void *)(p + i + 32)));
        c = _mm256_xor_si256(c, _mm256_load_si256((const __m256i *)(const void *)(p + i + 64)));
        d = _mm256_xor_si256(d, _mm256_load_si256((const __m256i *)(const void *)(p + i + 96)));
    }
    _mm256_storeu_si256((__m256i *)(void *)sum, _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d)));
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
}
#else
static uint64_t bench__read(const unsigned char *p, size_t bytes)
{
    uint64_t a = 0, b = 0, c = 0, d = 0, w[4];
    size_t i;
    for (i = 0; i + 32 <= bytes; i += 32) {
        memcpy(w, p + i, 32);
        a ^= w[0], b ^= w[1], c ^= w[2], d ^= w[3];
    }
    return a ^ b ^ c ^ d;
}
#endif

/* GB/s at which one thread reads a buffer of `bytes`, over and over: what a matmul of few rows is measured against, with
   as many bytes as its weights have. x86: needs AVX2. */
static double bench_read_rate(size_t bytes, int rounds)
{
    void *block;
    unsigned char *p = bench__alloc(&block, bytes);
    double best = 1e30;
    volatile uint64_t sink = 0;
    int round;
    memset(p, 1, bytes);
    for (round = 0; round < rounds; round++) {
        double t = bench__now();
        sink ^= bench__read(p, bytes);
        t = bench__now() - t;
        if (t < best) best = t;
    }
    (void)sink;
    free(block);
    return 1e-9 * (double)bytes / best;
}

#endif
