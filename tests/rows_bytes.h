/* rows_bytes.h - a section ROWS (src/rowcode.h) made by hand, the same on every machine. Includes nothing of the converter: what writes
   and what checks should not share a mistake. Behind kalm_rerank.h. */
#ifndef ROWS_BYTES_H
#define ROWS_BYTES_H

static uint32_t rows_draw(uint64_t *state, uint32_t below)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % below;
}

/* A section ROWS of kalm__rows_places(width).size bytes at p: T is a rotation by signs and a mirrored order, the first component is heavy, classes and steps are of all kinds. */
static void rows_bytes(unsigned char *p, uint32_t width, uint64_t state)
{
    kalm__rows_layout l = kalm__rows_places(width);
    size_t panel = kalm__panel_bytes(KALM__Q16, width);
    int32_t limit = kalm__int16_limit(width);
    uint32_t i, k, at;
    memset(p, 0, l.size);
    kalm__put_u32(p, 2);
    kalm__put_u32(p + 4, width);
    kalm__put_u32(p + 8, 1);
    for (i = 0; i < 18; i++) {
        kalm__put_f32(p + 16 + 4 * i, 0.02f * (float)(1u << i / 6) + 0.01f * (float)(i % 6));
        kalm__put_u32(p + 88 + 4 * i, width - i % 3 - i / 6 * (width / 4));
    }
    for (i = 0; i < 64; i++)           /* a third of the interval for 0, less and less on both sides */
        for (k = 0, at = 0; k < 16; k++) {
            uint32_t off = k < 7 ? 7 - k : k - 7, size = k == 15 ? 8 : off > 5 ? 16 : (i / 2 % 3 ? 900u : 1300u) >> off, cost = 0;
            p[256 + 2 * (16 * i + k)] = (unsigned char)at;
            p[257 + 2 * (16 * i + k)] = (unsigned char)(at >> 8);
            if (k < 15) at += size;
            while (size << cost < 4096) cost++;    /* about 64 log2(4096 / size) */
            cost = 64 * cost - (size << cost) / 64 + 64;
            p[l.cost + 2 * (16 * i + k)] = (unsigned char)cost;
            p[l.cost + 2 * (16 * i + k) + 1] = (unsigned char)(cost >> 8);
        }
    for (i = 0; i < 18 * width; i++) p[l.classes + i] = (unsigned char)(rows_draw(&state, 32) | (i % 7 == 6 && width >= 64 ? 32 * rows_draw(&state, 8) : 0));
    for (i = 0; i < width; i++) {
        uint32_t other = width - 1 - i;
        int32_t q = i % 3 ? limit : -limit;
        unsigned char *forward = p + l.forward + l.scales + i / 16 * panel + i % 16 * 4 + other / 2 * 64 + other % 2 * 2;
        unsigned char *inverse = p + l.inverse + l.scales + other / 16 * panel + other % 16 * 4 + i / 2 * 64 + i % 2 * 2;
        kalm__put_f32(p + l.mean + 4 * i, 0.1f * ((float)rows_draw(&state, 200) / 100.0f - 1.0f));
        kalm__put_f32(p + l.forward + 4 * i, i ? 1.0f / (float)limit : 0.0f);
        kalm__put_f32(p + l.inverse + 4 * other, i ? 1.0f / (float)limit : 0.0f);
        if (i) {
            forward[0] = inverse[0] = (unsigned char)q;
            forward[1] = inverse[1] = (unsigned char)((uint32_t)q >> 8);
        } else {
            kalm__put_f32(p + l.rows + 4 * other, -1.0f);
            kalm__put_f32(p + l.cols + 4 * other, -1.0f);
        }
    }
}

#endif
