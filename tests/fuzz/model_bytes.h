/* model_bytes.h - small, valid model files of any shape and weight type, made in memory in a moment, and changes to model files
   by their structure. Includes nothing of the converter's writer: what writes and what checks should not share a mistake. */
#ifndef FUZZ_MODEL_BYTES_H
#define FUZZ_MODEL_BYTES_H

#include "fuzz.h"
#include "../../quantize/bf16.h"
#include "../rows_bytes.h"
#include "tokenizer_bytes.h"

typedef struct fuzz_shape {
    uint32_t type, embed_type;
    uint32_t hidden, mlp, heads, kv_heads, head_dim, layers[2], window, vocabulary, positions;
    int      eoi, untied, rotated;
    int      tokenizer;                /* 0: none; else which of tokenizer_bytes.h, from 1 */
    int      no_rows;                  /* 1: no section ROWS */
    uint32_t lacks;                    /* KALM__LACKS_..., of a part of a model */
} fuzz_shape;

static const char *const fuzz_strings[KALM__STRINGS] = { "tiny", "<b>a: ", "<eot>aab\n\n", "\nb: ", "\nab: ", "<eot>\n", "aba b", "baa" };

FUZZ_FN void fuzz_align(fuzz_bytes *b, size_t to) { fuzz_grow(b, (to - b->size % to) % to); }

FUZZ_FN float fuzz_float(uint64_t *random) { return (float)(fuzz_random(random) >> 40) / 8388608.0f - 1.0f; }

/* The numbers of one weight matrix: small floats; or quantised bytes, whose sums are returned. */
FUZZ_FN void fuzz_fill_matrix(uint8_t *p, size_t bytes, uint32_t type, size_t rows, size_t cols, int32_t *sum, uint64_t *random)
{
    size_t panels = (rows + 15) / 16, panel = kalm__panel_bytes(type, cols), k, i, n, g, cols32 = kalm__cols32(cols);
    memset(p, 0, bytes);
    for (k = 0; k < panels; k++, p += panel)
        for (n = 0; n < 16 && k * 16 + n < rows; n++) {
            if (type == KALM__Q4)
                for (g = 0; g < cols32 / 32; g++) {
                    unsigned m = 1 + (unsigned)fuzz_below(random, 64);
                    p[cols32 / 32 * 256 + g * 16 + n] = (uint8_t)m;
                    for (i = 0; i < 32; i++) {
                        unsigned v = (unsigned)fuzz_below(random, 16), line = (unsigned)i / 4;
                        p[g * 256 + line % 4 * 64 + n * 4 + i % 4] |= (uint8_t)(line < 4 ? v : v << 4);
                        sum[k * 16 + n] += kalm__q4_value(v, m);
                    }
                }
            else
                for (i = 0; i < cols; i++) {
                    float x = fuzz_float(random) * 0.2f;
                    uint16_t half = type == KALM__F16 ? kalm__to_f16(x) : kalm__to_bf16(x);
                    if (type == KALM__F32) kalm__put_f32(p + 4 * (i * 16 + n), x);
                    else if (type == KALM__Q8) {
                        int q = (int)fuzz_below(random, 255) - 127;
                        p[i / 4 * 64 + n * 4 + i % 4] = (uint8_t)q;
                        sum[k * 16 + n] += q;
                    } else fuzz_put(p + 2 * (i * 16 + n), 2, half);
                }
        }
}

FUZZ_FN void fuzz_put_embedding(uint8_t *p, uint32_t type, size_t hidden, uint64_t *random)
{
    size_t blocks = (hidden + 31) / 32, i;
    for (i = 0; i < hidden; i++) {
        float x = fuzz_float(random) * 0.1f;
        if (type == KALM__F32) kalm__put_f32(p + 4 * i, x);
        else if (type == KALM__F16 || type == KALM__BF16) fuzz_put(p + 2 * i, 2, type == KALM__F16 ? kalm__to_f16(x) : kalm__to_bf16(x));
        else {
            fuzz_put(p + 2 * (i / 32), 2, kalm__to_f16(0.001f));
            if (type == KALM__Q8) p[2 * blocks + i] = (uint8_t)fuzz_random(random);
            else p[2 * blocks + i / 2] = (uint8_t)fuzz_random(random);
        }
    }
}

/* SHAPE of such a model, by the lists of format.h. */
FUZZ_FN void fuzz_put_shape(fuzz_bytes *b, const fuzz_shape *s)
{
    kalm__shape m;
    uint8_t *p;
    uint32_t side, k;
    memset(&m, 0, sizeof m);
    m.weights = s->type;
    m.vocabulary = s->vocabulary;
    m.hidden_size = s->hidden;
    m.yes_id = 15 % s->vocabulary;
    m.no_id = 16 % s->vocabulary;
    m.eoi_id = s->eoi ? 2 : 0xffffffffu;
    m.softcap = s->untied ? 30.0f : 0.0f;
    for (side = 0; side < 2; side++) {
        kalm__side *d = &m.side[side];
        d->layers = s->layers[side];
        d->mlp = s->mlp;
        d->heads = s->heads;
        d->kv_heads = s->kv_heads;
        d->head_dim = s->head_dim;
        d->window = s->window;
        d->max_positions = s->positions;
        d->norm_eps = 1e-6f;
        d->query_scalar = (float)s->head_dim;
        d->theta_sliding = 1e4f;
        d->factor_sliding = 1.0f;
        d->theta_full = 1e6f;
        d->factor_full = 8.0f;
    }
#define FUZZ_PUT_u32(v) kalm__put_u32(p, v)
#define FUZZ_PUT_f32(v) kalm__put_f32(p, v)
#define FUZZ_PUT(type, name) p = fuzz_grow(b, 4), FUZZ_PUT_##type(m.name);
    KALM__SHAPE_FIELDS(FUZZ_PUT)
#undef FUZZ_PUT
#define FUZZ_PUT(type, name) p = fuzz_grow(b, 4), FUZZ_PUT_##type(m.side[side].name);
    for (side = 0; side < 2; side++) { KALM__SIDE_FIELDS(FUZZ_PUT) }
#undef FUZZ_PUT
    for (side = 0; side < 2; side++)
        for (k = 0; k < s->layers[side]; k++) *fuzz_grow(b, 1) = (uint8_t)(k % 2);
}

/* Every tensor of the model: an entry to `table`, data to `weights`, whose first byte will lie at `base` in the file. */
FUZZ_FN void fuzz_put_tensors(fuzz_bytes *table, fuzz_bytes *weights, const fuzz_shape *s, const kalm__shape *m, uint64_t base, uint64_t *random)
{
    uint32_t kind, layer;
    for (kind = 0; kind < 64; kind++) {
        uint32_t what = kind % 32, side = kind / 32, rows, cols;
        if (what >= KALM__T_KINDS || (what == KALM__T_HEAD && side == KALM__ENCODER)) continue;
        if (what == KALM__T_EOI && !s->eoi) continue;
        if ((what == KALM__T_EMBED || what == KALM__T_EOI) && side == KALM__DECODER && !s->untied) continue;
        if (s->lacks & (side == KALM__ENCODER ? KALM__LACKS_ENCODER : KALM__LACKS_DECODER) &&
            !((what == KALM__T_EMBED || what == KALM__T_EOI) && side == KALM__ENCODER && !s->untied)) continue;
        if (!kalm__tensor_shape(m, kind, &rows, &cols)) continue;
        for (layer = 0; layer < (what < KALM__T_LAYER_KINDS ? s->layers[side] : 1); layer++) {
            int matrix = what <= KALM__T_DOWN, quantised;
            uint32_t type = matrix ? s->type : what == KALM__T_EMBED ? s->embed_type : KALM__F32, i;
            kalm__tensor t;
            uint8_t *p;
            int32_t *sum = NULL;
            memset(&t, 0, sizeof t);
            t.kind = kind;
            t.type = type;
            t.rows = rows;
            t.cols = cols;
            quantised = matrix && kalm__is_quantised(type);
            fuzz_align(weights, 64);
            t.offset = base + weights->size;
            t.size = kalm__tensor_bytes(&t);
            p = fuzz_grow(weights, (size_t)t.size);
            if (matrix) {
                sum = (int32_t *)calloc((rows + 15) / 16 * 16, sizeof *sum);
                if (!sum) abort();
                fuzz_fill_matrix(p, (size_t)t.size, type, rows, cols, sum, random);
            } else if (what == KALM__T_EMBED) {
                for (i = 0; i < rows; i++) fuzz_put_embedding(p + i * kalm__embedding_row_bytes(type, cols), type, cols, random);
            } else {
                float centre = what == KALM__T_EOI || what == KALM__T_HEAD ? 0.0f : 1.0f;
                for (i = 0; i < rows * cols; i++) kalm__put_f32(p + 4 * i, centre + 0.3f * fuzz_float(random));
            }
            if (quantised) {
                uint32_t padded = (rows + 15) / 16 * 16;
                fuzz_align(weights, 64);
                t.scale = base + weights->size;
                p = fuzz_grow(weights, 4 * (size_t)padded);
                for (i = 0; i < padded; i++) kalm__put_f32(p + 4 * i, 0.2f / 127.0f);
                fuzz_align(weights, 64);
                t.sum = base + weights->size;
                p = fuzz_grow(weights, 4 * (size_t)padded);
                for (i = 0; i < padded; i++) kalm__put_u32(p + 4 * i, (uint32_t)sum[i]);
            }
            free(sum);
            p = fuzz_grow(table, KALM__TENSOR_BYTES);
            kalm__put_u32(p, kind);
            kalm__put_u32(p + 4, layer);
            kalm__put_u32(p + 8, type);
            kalm__put_u32(p + 12, (uint32_t)(matrix && s->rotated));
            kalm__put_u32(p + 16, rows);
            kalm__put_u32(p + 20, cols);
            kalm__put_u64(p + 24, t.offset);
            kalm__put_u64(p + 32, t.size);
            kalm__put_u64(p + 40, t.scale);
            kalm__put_u64(p + 48, t.sum);
        }
    }
}

/* What quantised matrices bring along is the sum of each output's weights, over all of its columns with those that fill them up. Some
   kernel sets need it and others do not, so only where it is true all of them must say the same. Returns 1 where every matrix is quantised
   and its sums are true, or were made so (mend). */
FUZZ_FN int fuzz_sums(uint8_t *p, size_t size, int mend)
{
    uint32_t count = size < KALM__HEADER_BYTES ? 0 : kalm__u32(p + 12), i;
    uint64_t at = 0, bytes = 0, n, k;
    int good = 1;
    if (!count || count > KALM__MAX_SECTIONS || size < KALM__HEADER_BYTES + count * KALM__SECTION_BYTES) return 0;
    for (i = 0; i < count; i++) {
        const uint8_t *e = p + KALM__HEADER_BYTES + i * KALM__SECTION_BYTES;
        if (kalm__u32(e) == KALM__SECTION_TENSORS) at = kalm__u64(e + 8), bytes = kalm__u64(e + 16);
    }
    if (at > size || bytes > size - at) return 0;
    for (; bytes >= KALM__TENSOR_BYTES; at += KALM__TENSOR_BYTES, bytes -= KALM__TENSOR_BYTES) {
        const uint8_t *e = p + at;
        uint32_t type = kalm__u32(e + 8), rows = kalm__u32(e + 16), cols = kalm__u32(e + 20);
        uint64_t offset = kalm__u64(e + 24), length = kalm__u64(e + 32), sums = kalm__u64(e + 48);
        if (kalm__u32(e) % 32 > KALM__T_DOWN) continue;
        if (!kalm__is_quantised(type) || !rows || !cols || rows > size || cols > size || offset > size || length > size - offset || sums > size ||
            (rows + 15) / 16 * kalm__panel_bytes(type, cols) != length || ((uint64_t)rows + 15) / 16 * 64 > size - sums) {
            good = 0;
            continue;
        }
        for (n = 0; n < rows; n++) {
            const uint8_t *panel = p + offset + n / 16 * kalm__panel_bytes(type, cols);
            size_t j = n % 16, cols32 = kalm__cols32(cols);
            uint32_t sum = 0;
            for (k = 0; k < cols32; k++) {
                size_t group = (size_t)k / 32, line = (size_t)k % 32 / 4;
                uint8_t v = type == KALM__Q8 ? panel[k / 4 * 64 + j * 4 + k % 4] : panel[group * 256 + line % 4 * 64 + j * 4 + k % 4];
                int32_t q = type == KALM__Q8 ? (int8_t)v : kalm__q4_value(line < 4 ? v & 15 : v >> 4, panel[cols32 / 32 * 256 + group * 16 + j]);
                sum += (uint32_t)q;
            }
            if (mend) kalm__put_u32(p + sums + 4 * n, sum);
            good &= kalm__u32(p + sums + 4 * n) == sum;
        }
    }
    return good;
}

/* Header and checksums of whatever the bytes are, as far as their table makes sense; mostly the sums of weights as well. */
FUZZ_FN void fuzz_mend_model(uint8_t *p, size_t size)
{
    uint32_t count, i;
    size_t k;
    unsigned mixed = 0;
    for (k = 0; k < size; k += 37) mixed = mixed * 31 + p[k];
    if (mixed >> 3 & 7) (void)fuzz_sums(p, size, 1);
    if (size < KALM__HEADER_BYTES || memcmp(p, KALM__MAGIC, 8) != 0) return;
    count = kalm__u32(p + 12);
    if (count > KALM__MAX_SECTIONS || size < KALM__HEADER_BYTES + count * KALM__SECTION_BYTES) return;
    kalm__put_u64(p + 16, size);
    for (i = 0; i < count; i++) {
        uint8_t *e = p + KALM__HEADER_BYTES + i * KALM__SECTION_BYTES;
        uint64_t at = kalm__u64(e + 8), n = kalm__u64(e + 16);
        if (at <= size && n <= size - at) kalm__put_u64(e + 24, kalm__hash(p + at, (size_t)n));
    }
    kalm__put_u64(p + 24, kalm__table_fingerprint(p + KALM__HEADER_BYTES, count));
    kalm__put_u64(p + 32, 0);
    kalm__put_u64(p + 32, kalm__hash(p, KALM__HEADER_BYTES + count * KALM__SECTION_BYTES));
}

/* A whole model file; the caller frees it. */
FUZZ_FN uint8_t *fuzz_model_bytes(const fuzz_shape *s, uint64_t seed, size_t *size)
{
    fuzz_bytes part[KALM__SECTION_KINDS], file;
    kalm__shape m;
    uint64_t offset[KALM__SECTION_KINDS], at;
    uint32_t i, count = 0, n = 0;
    size_t blob_size;
    uint8_t *p;
    memset(part, 0, sizeof part);
    memset(&file, 0, sizeof file);
    memset(&m, 0, sizeof m);
    if (s->hidden) {
        fuzz_put_shape(&part[KALM__SECTION_SHAPE], s);
        m.hidden_size = s->hidden;
        m.vocabulary = s->vocabulary;
        for (i = 0; i < 2; i++) {
            m.side[i].heads = s->heads;
            m.side[i].kv_heads = s->kv_heads;
            m.side[i].head_dim = s->head_dim;
            m.side[i].mlp = s->mlp;
        }
    }
    p = fuzz_grow(&part[KALM__SECTION_STRINGS], 8 * KALM__STRINGS);
    for (i = 0; i < KALM__STRINGS; i++) {
        size_t len = strlen(fuzz_strings[i]), where = part[KALM__SECTION_STRINGS].size;
        memcpy(fuzz_grow(&part[KALM__SECTION_STRINGS], len), fuzz_strings[i], len);
        p = part[KALM__SECTION_STRINGS].data + 8 * i;
        kalm__put_u32(p, (uint32_t)where);
        kalm__put_u32(p + 4, (uint32_t)len);
    }
    if (s->tokenizer) {
        const unsigned char *blob = fuzz_tokenizer_blob((unsigned)s->tokenizer - 1, &blob_size);
        memcpy(fuzz_grow(&part[KALM__SECTION_TOKENIZER], blob_size), blob, blob_size);
    }
    /* entries have a fixed size, so a first round tells where the weights begin */
    if (s->hidden) {
        uint64_t random = seed;
        fuzz_put_tensors(&part[KALM__SECTION_TENSORS], &part[KALM__SECTION_WEIGHTS], s, &m, 0, &random);
    }
    if (s->hidden >= KALM__ROWS_NARROWEST && !s->no_rows) {
        rows_bytes(fuzz_grow(&part[KALM__SECTION_ROWS], kalm__rows_places(s->hidden).size), s->hidden, seed);
    }
    for (i = 1; i < KALM__SECTION_KINDS; i++) count += part[i].size != 0;
    at = kalm__round_up(KALM__HEADER_BYTES + count * KALM__SECTION_BYTES, 64);
    for (i = 1; i < KALM__SECTION_KINDS; i++) {
        offset[i] = at;
        at = kalm__round_up((size_t)at + part[i].size, 64);
    }
    if (s->hidden) {
        uint64_t random = seed;
        part[KALM__SECTION_TENSORS].size = part[KALM__SECTION_WEIGHTS].size = 0;
        fuzz_put_tensors(&part[KALM__SECTION_TENSORS], &part[KALM__SECTION_WEIGHTS], s, &m, offset[KALM__SECTION_WEIGHTS], &random);
    }
    p = fuzz_grow(&file, (size_t)at);
    memcpy(p, KALM__MAGIC, 8);
    kalm__put_u32(p + 8, KALM__FILE_VERSION);
    kalm__put_u32(p + 12, count);
    kalm__put_u64(p + 40, s->lacks ? 0x77686f6c65u : 0);           /* the whole's fingerprint */
    kalm__put_u32(p + 48, s->lacks);
    for (i = 1; i < KALM__SECTION_KINDS; i++) {
        if (part[i].size) {
            uint8_t *e = p + KALM__HEADER_BYTES + KALM__SECTION_BYTES * n++;
            kalm__put_u32(e, i);
            kalm__put_u64(e + 8, offset[i]);
            kalm__put_u64(e + 16, part[i].size);
            memcpy(p + offset[i], part[i].data, part[i].size);
        }
        free(part[i].data);
    }
    fuzz_mend_model(p, file.size);
    *size = file.size;
    return p;
}

/* Shapes that between them reach every path: one of each weight type, odd sizes, grouped heads, a table of its own. */
FUZZ_FN fuzz_shape fuzz_some_shape(unsigned i)
{
    fuzz_shape s;
    memset(&s, 0, sizeof s);
    s.type = s.embed_type = i % 5;
    s.hidden = i % 2 ? 32 : 8;
    s.mlp = i % 3 ? 16 : 40;
    s.heads = i % 3 == 1 ? 4 : 2;
    s.kv_heads = i % 2 ? 1 : 2;
    s.head_dim = i % 4 == 3 ? 16 : 8;
    s.layers[0] = 1 + i % 2;
    s.layers[1] = 2 - i % 2;
    s.window = 3 + i;
    s.vocabulary = 24;
    s.positions = 512;
    s.eoi = i % 2 == 0;
    s.untied = i % 3 == 2;
    s.tokenizer = i != 4;
    s.rotated = i == 4;
    if (i == 5) s.hidden = s.vocabulary = 0, s.tokenizer = 1;          /* a tokenizer alone */
    if (i == 6) s.type = KALM__Q8, s.embed_type = KALM__Q4, s.hidden = 64, s.rotated = 1;
    if (i == 7) s.type = KALM__Q4, s.embed_type = KALM__BF16, s.hidden = 48;
    if (i >= 8) s.type = s.embed_type = KALM__Q8, s.hidden = 32, s.tokenizer = 1, s.rotated = 0;
    if (i == 8) s.lacks = KALM__LACKS_ENCODER, s.untied = 0;       /* halves of models, with the table of the other and with their own */
    if (i == 9) s.lacks = KALM__LACKS_DECODER | KALM__LACKS_TOKENS;
    if (i == 10) s.lacks = KALM__LACKS_ENCODER | KALM__LACKS_TOKENS, s.untied = 1;
    if (i > 10) s.tokenizer = 2 + (int)i - 11;                     /* the other tokenizers */
    return s;
}
enum { FUZZ_SHAPES = 11 + FUZZ_BLOBS - 1 };

/* ---- changes by structure -------------------------------------------------------------------------------------------- */

/* One number of the tokenizer's header, section list or tables. */
FUZZ_FN void fuzz_change_blob(uint8_t *blob, size_t size, uint64_t *random)
{
    size_t i, at, bytes, word;
    if (size < KALM__TOK_HEADER) return;
    i = fuzz_below(random, KALM__TOK_SECTIONS);
    at = (size_t)kalm__u64(blob + 64 + 16 * i);
    bytes = (size_t)kalm__u64(blob + 72 + 16 * i);
    switch (fuzz_below(random, 8)) {
    case 0: kalm__put_u32(blob + 16 + 4 * fuzz_below(random, 6), (uint32_t)fuzz_edge(random)); return;
    case 1: {
        uint8_t *p = blob + 64 + 16 * i + 8 * fuzz_below(random, 2);
        kalm__put_u64(p, fuzz_below(random, 2) ? fuzz_edge(random) : kalm__u64(p) + fuzz_below(random, 129) - 64);
        return;
    }
    case 2: kalm__put_u32(blob + 24, kalm__u32(blob + 24) ^ 1u << fuzz_below(random, 16)); return;
    default: break;
    }
    if (at > size || bytes > size - at || bytes < 4) return;
    word = at + (fuzz_below(random, 4) ? fuzz_below(random, bytes / 4) : fuzz_below(random, kalm__min(bytes / 4, 4))) * 4;
    if (i == KALM__SEC_TRIE || i == KALM__SEC_ADDED || i == KALM__SEC_RULES) {
        /* a unit that goes somewhere: a label that texts have, a base inside the table, so that walks become circles */
        static const uint8_t labels[] = "ab <\n\xe2\x96\x81";
        uint32_t units = (uint32_t)(bytes / 4), to = (uint32_t)fuzz_below(random, units);
        uint32_t unit = labels[fuzz_below(random, sizeof labels - 1)] | (fuzz_below(random, 2) ? 256u : 0);
        kalm__put_u32(blob + word, unit | (i == KALM__SEC_RULES ? to << 10 : to << 9));
        return;
    }
    switch (fuzz_below(random, 3)) {
    case 0: kalm__put_u32(blob + word, (uint32_t)fuzz_edge(random)); return;
    case 1: blob[at + fuzz_below(random, bytes)] = (uint8_t)fuzz_random(random); return;
    default: kalm__put_u32(blob + word, kalm__u32(blob + at + fuzz_below(random, bytes / 4) * 4));
    }
}

/* The section ROWS: counts and steps in front, tables of 16 bits, classes of one byte, scales and sums. */
FUZZ_FN void fuzz_change_rows(uint8_t *rows, size_t n, uint64_t *random)
{
    uint8_t *front = rows + 4 * fuzz_below(random, kalm__min(n / 4, 64)), *any = rows + 4 * fuzz_below(random, n / 4);
    switch (fuzz_below(random, 4)) {
    case 0: kalm__put_u32(front, fuzz_below(random, 2) ? (uint32_t)fuzz_below(random, 80) : (uint32_t)fuzz_edge(random)); break;
    case 1: kalm__put_u32(front, fuzz_edge_float(random)); break;
    case 2: rows[fuzz_below(random, n)] = (uint8_t)fuzz_random(random); break;
    default: kalm__put_u32(any, fuzz_below(random, 2) ? fuzz_edge_float(random) : kalm__u32(any) + (uint32_t)fuzz_below(random, 5) - 2);
    }
}

/* A model file, changed at one place that means something. The caller mends the checksums. */
FUZZ_FN size_t fuzz_change_model(uint8_t *p, size_t size, size_t room, uint64_t *random)
{
    uint32_t count, type, k;
    uint8_t *e;
    size_t at, n;
    if (fuzz_below(random, 24) == 0) { /* another model altogether */
        fuzz_shape s = fuzz_some_shape((unsigned)fuzz_below(random, FUZZ_SHAPES));
        uint8_t *fresh;
        if (s.hidden) {
            s.hidden = 1 + (uint32_t)fuzz_below(random, 80);
            s.mlp = 1 + (uint32_t)fuzz_below(random, 80);
            s.kv_heads = 1 + (uint32_t)fuzz_below(random, 3);
            s.heads = s.kv_heads * (1 + (uint32_t)fuzz_below(random, 3));
            s.head_dim = 2 + 2 * (uint32_t)fuzz_below(random, 20);
            s.window = 1 + (uint32_t)fuzz_below(random, 40);
            s.vocabulary = 1 + (uint32_t)fuzz_below(random, 40);
        }
        fresh = fuzz_model_bytes(&s, fuzz_random(random), &n);
        if (n <= room) memcpy(p, fresh, size = n);
        free(fresh);
        return size;
    }
    if (size < KALM__HEADER_BYTES || (count = kalm__u32(p + 12)) > KALM__MAX_SECTIONS || !count ||
        size < KALM__HEADER_BYTES + count * KALM__SECTION_BYTES)
        return fuzz_change_bytes(p, size, room, NULL, random);
    e = p + KALM__HEADER_BYTES + fuzz_below(random, count) * KALM__SECTION_BYTES;
    type = kalm__u32(e);
    at = (size_t)kalm__u64(e + 8);
    n = (size_t)kalm__u64(e + 16);
    if (fuzz_below(random, 16) == 0) { /* the table itself */
        k = 4 * (uint32_t)fuzz_below(random, 6);
        if (k < 8) kalm__put_u32(e + k, (uint32_t)fuzz_edge(random) % 8);
        else kalm__put_u64(e + k / 8 * 8, fuzz_below(random, 2) ? fuzz_edge(random) : kalm__u64(e + k / 8 * 8) + 64 * (fuzz_below(random, 5) - 2));
        return size;
    }
    if (fuzz_below(random, 64) == 0) return fuzz_below(random, size);
    if (fuzz_below(random, 32) == 0) { /* what it is a part of, and what it lacks */
        if (fuzz_below(random, 4) == 0) kalm__put_u64(p + 40, fuzz_edge(random));
        kalm__put_u32(p + 48, fuzz_below(random, 8) ? (uint32_t)fuzz_below(random, 9) : (uint32_t)fuzz_edge(random));
        return size;
    }
    if (at > size || n > size - at || n < 4) return size;
    switch (type) {
    case KALM__SECTION_SHAPE:
        k = (uint32_t)fuzz_below(random, n / 4) * 4;
        if (fuzz_below(random, 4) == 0) kalm__put_u32(p + at + k, fuzz_edge_float(random));
        else if (fuzz_below(random, 2)) kalm__put_u32(p + at + k, (uint32_t)fuzz_edge(random));
        else kalm__put_u32(p + at + k, kalm__u32(p + at + k) + (uint32_t)fuzz_below(random, 5) - 2);
        if (fuzz_below(random, 8) == 0) p[at + n - 1 - fuzz_below(random, kalm__min(n, 8))] = (uint8_t)fuzz_below(random, 3);
        break;
    case KALM__SECTION_STRINGS:
        if (fuzz_below(random, 3) == 0) p[at + fuzz_below(random, n)] = (uint8_t)fuzz_random(random);
        else kalm__put_u32(p + at + 4 * fuzz_below(random, kalm__min(n / 4, 16)),
                           fuzz_below(random, 2) ? (uint32_t)fuzz_below(random, n + 2) : (uint32_t)fuzz_edge(random));
        break;
    case KALM__SECTION_TENSORS:
        if (n < KALM__TENSOR_BYTES) break;
        e = p + at + fuzz_below(random, n / KALM__TENSOR_BYTES) * KALM__TENSOR_BYTES;
        k = (uint32_t)fuzz_below(random, 10);
        if (k < 6) kalm__put_u32(e + 4 * k, fuzz_below(random, 2) ? (uint32_t)fuzz_below(random, 70) : (uint32_t)fuzz_edge(random));
        else {
            uint8_t *v = e + 24 + 8 * (k - 6);
            kalm__put_u64(v, fuzz_below(random, 2) ? fuzz_edge(random) : kalm__u64(v) + 64 * (uint64_t)fuzz_below(random, 9) - 256);
        }
        break;
    case KALM__SECTION_TOKENIZER: fuzz_change_blob(p + at, n, random); break;
    case KALM__SECTION_ROWS: fuzz_change_rows(p + at, n, random); break;
    default:
        k = (uint32_t)fuzz_below(random, n / 4) * 4;
        if (fuzz_below(random, 3)) kalm__put_u32(p + at + k, fuzz_edge_float(random));
        else kalm__put_u32(p + at + k, (uint32_t)fuzz_random(random));
        if (fuzz_below(random, 6) == 0) { /* a whole stretch of one value: sums overflow */
            uint32_t v = fuzz_edge_float(random);
            size_t i, stretch = kalm__min(n - k, 64 + fuzz_below(random, 4096));
            for (i = 0; i + 4 <= stretch; i += 4) kalm__put_u32(p + at + k + i, v);
        }
    }
    return size;
}

#endif
