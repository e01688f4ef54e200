/* bf16.h - floats as bf16, for the converter and for tests; the library only reads them (base.h). */
#ifndef KALM__BF16_H
#define KALM__BF16_H

#include "../src/base.h"

/* To the nearest, ties to even; NaN stays NaN. */
KALM__INLINE uint16_t kalm__to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 64);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

#endif
