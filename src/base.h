/* base.h - what every part uses: error messages, checked sizes, little-endian numbers, 16-bit floats, the hash, allocation. */
#ifndef KALM__BASE_H
#define KALM__BASE_H

#include "config.h"
#include "api.h"

/* ---- errors -------------------------------------------------------------------------------------------------- */

/* A small formatter, because the library must not need stdio. Its letters:
     %s const char*, control characters as '?'   %d int   %u unsigned   %z size_t   %U uint64_t
     %X uint64_t in 16 hex digits   %c int, one character   %% percent
     %q const char*, size_t: that many bytes, cut at 60, all but printable ASCII as '?' */
typedef struct kalm__writer {
    char  *at;
    size_t room;                       /* without the NUL */
} kalm__writer;

KALM__FN void kalm__put(kalm__writer *w, char c)
{
    if (w->room) {
        *w->at++ = c;
        w->room--;
    }
}

KALM__FN void kalm__put_word(kalm__writer *w, const char *s)
{
    for (; *s; s++) kalm__put(w, *s);
}

/* Names in an error come from strangers' files: no control character reaches a terminal. Bytes of UTF-8 pass. */
KALM__INLINE char kalm__printable(char c) { return ((unsigned char)c < 32 || c == 127) ? '?' : c; }

KALM__FN void kalm__put_number(kalm__writer *w, uint64_t v, unsigned base, int digits)
{
    char text[24];
    int n = 0;
    do {
        text[n++] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v || n < digits);
    while (n) kalm__put(w, text[--n]);
}

KALM__FN void kalm__put_format(kalm__writer *w, const char *pattern, va_list args)
{
    for (; *pattern; pattern++) {
        if (*pattern != '%') {
            kalm__put(w, *pattern);
            continue;
        }
        switch (*++pattern) {
        case 's': {
            const char *s = va_arg(args, const char *);
            for (s = s ? s : "(null)"; *s; s++) kalm__put(w, kalm__printable(*s));
            break;
        }
        case 'q': {
            const char *s = va_arg(args, const char *);
            size_t n = va_arg(args, size_t), i;
            for (i = 0; i < n && i < 60; i++) kalm__put(w, (unsigned char)s[i] < 128 ? kalm__printable(s[i]) : '?');
            if (n > 60) kalm__put_word(w, "...");
            if (!n) kalm__put_word(w, "\"\"");
            break;
        }
        case 'd': {
            int v = va_arg(args, int);
            if (v < 0) kalm__put(w, '-');
            kalm__put_number(w, v < 0 ? 0u - (uint64_t)(int64_t)v : (uint64_t)v, 10, 1);
            break;
        }
        case 'u': kalm__put_number(w, va_arg(args, unsigned), 10, 1); break;
        case 'z': kalm__put_number(w, va_arg(args, size_t), 10, 1); break;
        case 'U': kalm__put_number(w, va_arg(args, uint64_t), 10, 1); break;
        case 'X': kalm__put_number(w, va_arg(args, uint64_t), 16, 16); break;
        case 'c': kalm__put(w, (char)va_arg(args, int)); break;
        case '%': kalm__put(w, '%'); break;
        default: return;
        }
    }
}

/* Fill in *err, which may be NULL, and return the code, so that a failing line reads `return kalm__fail(...)`. */
KALM__FN kalm_result kalm__fail(kalm_error *err, kalm_result code, const char *pattern, ...)
{
    if (err) {
        kalm__writer w;
        va_list args;
        w.at = err->text;
        w.room = sizeof err->text - 1;
        va_start(args, pattern);
        kalm__put_format(&w, pattern, args);
        va_end(args);
        *w.at = 0;
        err->code = code;
    }
    return code;
}

KALM__FN void kalm__no_error(kalm_error *err)
{
    if (err) {
        err->code = KALM_OK;
        err->text[0] = 0;
    }
}

/* ---- sizes --------------------------------------------------------------------------------------------------- */

/* Products and sums that stay at SIZE_MAX where they would overflow. kalm__alloc refuses that size, and no bound admits it. */
KALM__INLINE size_t kalm__mul(size_t a, size_t b) { return b && a > SIZE_MAX / b ? SIZE_MAX : a * b; }
KALM__INLINE size_t kalm__add(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }
/* a rounded up to a multiple of b, or SIZE_MAX where that would overflow */
KALM__INLINE size_t kalm__round_up(size_t a, size_t b) { return a > SIZE_MAX - (b - 1) ? SIZE_MAX : (a + b - 1) / b * b; }
KALM__INLINE size_t kalm__min(size_t a, size_t b) { return a < b ? a : b; }
KALM__INLINE size_t kalm__max(size_t a, size_t b) { return a > b ? a : b; }

/* ---- little-endian bytes, at any alignment --------------------------------------------------------------------- */

KALM__INLINE uint32_t kalm__u16(const void *p)
{
    const unsigned char *b = (const unsigned char *)p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8;
}
KALM__INLINE uint32_t kalm__u32(const void *p)
{
    const unsigned char *b = (const unsigned char *)p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
KALM__INLINE uint64_t kalm__u64(const void *p)
{
    const unsigned char *b = (const unsigned char *)p;
    return (uint64_t)kalm__u32(b) | (uint64_t)kalm__u32(b + 4) << 32;
}
KALM__INLINE void kalm__put_u32(void *p, uint32_t v)
{
    unsigned char *b = (unsigned char *)p;
    b[0] = (unsigned char)v, b[1] = (unsigned char)(v >> 8), b[2] = (unsigned char)(v >> 16), b[3] = (unsigned char)(v >> 24);
}
KALM__INLINE void kalm__put_u64(void *p, uint64_t v)
{
    kalm__put_u32(p, (uint32_t)v);
    kalm__put_u32((unsigned char *)p + 4, (uint32_t)(v >> 32));
}
KALM__INLINE float kalm__f32(const void *p)
{
    uint32_t u = kalm__u32(p);
    float f;
    memcpy(&f, &u, 4);
    return f;
}
KALM__INLINE void kalm__put_f32(void *p, float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    kalm__put_u32(p, u);
}

/* Not infinite and not NaN. By the bits of the number: comparisons may be folded away where a compiler is told that all
   numbers are finite. */
KALM__INLINE int kalm__is_finite(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return (u & 0x7f800000u) != 0x7f800000u;
}
KALM__INLINE float kalm__not_a_number(void)
{
    uint32_t u = 0x7fc00000u;
    float x;
    memcpy(&x, &u, 4);
    return x;
}

/* ---- half precisions ------------------------------------------------------------------------------------------- */

KALM__INLINE float kalm__from_bf16(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
KALM__INLINE float kalm__from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = h >> 10 & 31u, m = h & 1023u, u;
    float f;
    if (e == 31) u = sign | 0x7f800000u | m << 13;
    else if (e) u = sign | (e + 112) << 23 | m << 13;
    else {                             /* zero or subnormal: m * 2^-24 is exact in a float */
        f = (float)m * (1.0f / 16777216.0f);
        memcpy(&u, &f, 4);
        u |= sign;
    }
    memcpy(&f, &u, 4);
    return f;
}
/* to nearest, ties to even; beyond 65504 becomes infinity */
KALM__INLINE uint16_t kalm__to_f16(float f)
{
    uint32_t u, sign, a, r;
    memcpy(&u, &f, 4);
    sign = u >> 16 & 0x8000u;
    a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (a < 0x38800000u) {             /* subnormal half: adding 0.5 leaves m in the low mantissa bits, rounded */
        float x;
        memcpy(&x, &a, 4);
        x += 0.5f;
        memcpy(&r, &x, 4);
        return (uint16_t)(sign | (r - 0x3f000000u));
    }
    r = a - 0x38000000u;
    return (uint16_t)(sign | (r + 0xfffu + (r >> 13 & 1)) >> 13);
}

/* ---- hash ------------------------------------------------------------------------------------------------------ */

/* 64-bit checksum of our own: eight lanes of multiply and xor-shift over 64-byte blocks, so that a vectorising compiler
   or a plain loop both run at memory speed. It finds damage; it is no defence against forgery.
   Data may come in pieces: all but the last must be multiples of 64 bytes for the same sum as in one call. */
#define KALM__HASH_A 0x9e3779b97f4a7c15u
#define KALM__HASH_B 0xc2b2ae3d27d4eb4fu
typedef struct kalm__hasher {
    uint64_t lane[8];
    uint64_t bytes;
} kalm__hasher;

KALM__FN void kalm__hash_begin(kalm__hasher *h)
{
    unsigned i;
    for (i = 0; i < 8; i++) h->lane[i] = (i + 1) * (uint64_t)KALM__HASH_A;
    h->bytes = 0;
}
KALM__INLINE uint64_t kalm__hash_mix(uint64_t lane, uint64_t number)
{
    lane = (lane ^ number) * (uint64_t)KALM__HASH_A;
    return lane ^ lane >> 29;
}
KALM__FN void kalm__hash_add(kalm__hasher *h, const void *data, size_t size)
{
    const unsigned char *p = (const unsigned char *)data;
    unsigned i;
    h->bytes += size;
    for (; size >= 64; size -= 64, p += 64)
        for (i = 0; i < 8; i++) h->lane[i] = kalm__hash_mix(h->lane[i], kalm__u64(p + 8 * i));
    if (size) {
        unsigned char last[64];
        memset(last, 0, sizeof last);
        memcpy(last, p, size);
        for (i = 0; i < 8; i++) h->lane[i] = kalm__hash_mix(h->lane[i], kalm__u64(last + 8 * i));
    }
}
KALM__FN uint64_t kalm__hash_end(const kalm__hasher *h)
{
    uint64_t sum = h->bytes * (uint64_t)KALM__HASH_B;
    unsigned i;
    for (i = 0; i < 8; i++) sum = kalm__hash_mix(sum, h->lane[i]) * (uint64_t)KALM__HASH_B;
    return sum ^ sum >> 32;
}
KALM__FN uint64_t kalm__hash(const void *data, size_t size)
{
    kalm__hasher h;
    kalm__hash_begin(&h);
    kalm__hash_add(&h, data, size);
    return kalm__hash_end(&h);
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

KALM__FN void *kalm__default_alloc(void *user, size_t size)
{
    (void)user;
    return KALM_MALLOC(size);
}
KALM__FN void kalm__default_release(void *user, void *ptr, size_t size)
{
    (void)user, (void)size;
    KALM_FREE(ptr);
}
/* The allocator of a config, or the default one. *ok becomes 0 when only one of its two functions is given. */
KALM__FN kalm_allocator kalm__allocator(const kalm_config *config, int *ok)
{
    kalm_allocator a;
    memset(&a, 0, sizeof a);
    *ok = 1;
    if (config) {
        a = config->allocator;
        *ok = !a.alloc == !a.release;
    }
    if (!a.alloc) {
        a.alloc = kalm__default_alloc;
        a.release = kalm__default_release;
        a.user = NULL;
    }
    return a;
}

KALM__FN kalm_result kalm__take_allocator(const kalm_config *config, kalm_allocator *a, kalm_error *err)
{
    int ok;
    *a = kalm__allocator(config, &ok);
    return ok ? KALM_OK : kalm__fail(err, KALM_BAD_ARGUMENT, "the allocator has only one of its two functions");
}
KALM__FN void *kalm__alloc(const kalm_allocator *a, size_t size)
{
    return size == SIZE_MAX ? NULL : a->alloc(a->user, size ? size : 1);
}
KALM__FN void kalm__release(const kalm_allocator *a, void *ptr, size_t size)
{
    if (ptr) a->release(a->user, ptr, size ? size : 1);
}

/* One block of memory cut into pieces that are aligned to 64 bytes. Code that lays something out runs twice: first with base
   NULL, which only counts how much is needed, then with a block of that size. */
typedef struct kalm__arena {
    unsigned char *base;
    size_t         taken, size;
} kalm__arena;

KALM__FN void *kalm__take(kalm__arena *a, size_t size)
{
    size_t at = a->taken;
    a->taken = kalm__add(a->taken, kalm__round_up(size, 64));
    return a->base && a->taken <= a->size ? a->base + at : NULL;
}

/* The pointer rounded up to a multiple of 64. A block of size + 63 bytes has room for `size` bytes from there. */
KALM__INLINE unsigned char *kalm__align64(void *p)
{
    return (unsigned char *)p + (64 - ((uintptr_t)p & 63)) % 64;
}

KALM__FN kalm_text kalm__text(const char *s)
{
    kalm_text t;
    t.data = s;
    t.size = s ? strlen(s) : 0;
    return t;
}
/* A caller's text with its length: KALM_NUL is replaced by strlen, and NULL data is the empty text. */
KALM__FN kalm_text kalm__resolve(kalm_text t)
{
    if (!t.data) t.size = 0;
    else if (t.size == KALM_NUL) t.size = strlen(t.data);
    return t;
}

#endif
