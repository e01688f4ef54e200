/* documents.h - an encoded document is its bytes. This part says how they lie, writes and reads rows, and checks bytes that
   come from a stranger. It does not know how rows are computed or used. */
/* docs/FORMAT.md: */
/* HEADER, 64 bytes, little-endian
      0   4  "KDOC"                   4   4  version: 1; 2 where bits is 4, 3 or 2
      8   8  fingerprint of the model that made it (format.h)
     16   4  tokens of the text      20   4  tokens that were read: fewer when it was cut
     24   4  ratio: tokens a row     28   4  rows = ceil(tokens read / ratio)
     32   4  width, numbers a row    36   4  bits of a number: 32, 16, 8, 4, 3 or 2
     40   8  kalm__hash of all bytes with this field zero
     48   8  the vocabulary that the text was read with: 0 the model's whole one, else kalm_model_info.cut_vocabulary
     56   8  version 2: hash of the model's section ROWS, by which the rows are read; else zero
   ROWS, each
     bits 32  float [width]
     bits 16  half  [width]          largest magnitude 65504, beyond it clipped
     bits 8   half scale[ceil(width / 64)], int8 q[width]: x[i] = scale[i / 64] * q[i]
     bits 4, 3, 2   ceil(width * bits / 8) + 1 bytes, drawn in rowcode.h; the first is not zero
   All of these numbers are finite. */
/* end of docs/FORMAT.md */
#ifndef KALM__DOCUMENTS_H
#define KALM__DOCUMENTS_H

#include "base.h"
#include "exact.h"
#include "rowcode.h"

#define KALM__DOC_HEADER 64u
#define KALM__DOC_VERSION 2u
#define KALM__DOC_GROUP 64u

struct kalm_doc {
    kalm_allocator alloc;
    size_t         block;              /* bytes of this block, the document's own bytes included when not borrowed */
    const unsigned char *bytes;
    size_t         size;
    kalm_doc_info  info;
};

KALM__FN kalm_result kalm__no_rowcode(kalm_result code, uint32_t bits, kalm_error *err)
{
    return kalm__fail(err, code, "rows of %u bits need a model file with the section ROWS: convert the checkpoint again "
                      "with this version's kalm-quantize, without --no-rows", bits);
}

/* Bytes of a row; 0 for bits that are none. */
KALM__FN size_t kalm__doc_row_bytes(size_t width, uint32_t bits)
{
    if (bits == 32) return width * 4;
    if (bits == 16) return width * 2;
    if (kalm__is_coded(bits)) return kalm__coded_row_bytes(width, bits);
    return bits == 8 ? (width + KALM__DOC_GROUP - 1) / KALM__DOC_GROUP * 2 + width : 0;
}

#define KALM__NOT_FINITE ((uint16_t)0x7e00u)     /* a half that is none */

/* A row of 32, 16 or 8 bits. One whose numbers are not finite (infinite, or no number at all) is written as such, for
   kalm__doc_overflow to find. */
KALM__FN void kalm__doc_write_row(unsigned char *out, const float *x, size_t width, uint32_t bits)
{
    size_t i, g;
    if (bits == 32) {
        for (i = 0; i < width; i++) kalm__put_f32(out + 4 * i, x[i]);
        return;
    }
    if (bits == 16) {
        for (i = 0; i < width; i++) {
            float v = x[i] > 65504.0f ? 65504.0f : x[i] < -65504.0f ? -65504.0f : x[i];
            uint16_t h = kalm__to_f16(kalm__is_finite(x[i]) ? v : x[i]);
            out[2 * i] = (unsigned char)h;
            out[2 * i + 1] = (unsigned char)(h >> 8);
        }
        return;
    }
    for (g = 0; g * KALM__DOC_GROUP < width; g++) {
        size_t first = g * KALM__DOC_GROUP, end = kalm__min(first + KALM__DOC_GROUP, width);
        unsigned char *q = out + (width + KALM__DOC_GROUP - 1) / KALM__DOC_GROUP * 2;
        float most = 0.0f, scale;
        int finite = 1;
        uint16_t h;
        for (i = first; i < end; i++) {
            most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
            finite &= kalm__is_finite(x[i]);
        }
        scale = kalm__over(most, 127.0f);
        h = finite ? kalm__to_f16(scale > 65504.0f ? 65504.0f : scale) : KALM__NOT_FINITE;
        scale = kalm__from_f16(h);
        out[2 * g] = (unsigned char)h;
        out[2 * g + 1] = (unsigned char)(h >> 8);
        for (i = first; i < end; i++) {
            float v = scale > 0.0f ? kalm__over(x[i], scale) : 0.0f;
            v = v > 127.0f ? 127.0f : v >= -127.0f ? v : -127.0f;     /* NaN as well */
            q[i] = (unsigned char)(int8_t)kalm__rounded(v < 0.0f ? v - 0.5f : v + 0.5f);
        }
    }
}

/* A row of a document of 32, 16 or 8 bits. */
KALM__FN void kalm__doc_read_row(const kalm_doc *doc, size_t row, float *x)
{
    size_t width = doc->info.width, i;
    const unsigned char *p = doc->bytes + KALM__DOC_HEADER + row * kalm__doc_row_bytes(width, doc->info.bits);
    if (doc->info.bits == 32)
        for (i = 0; i < width; i++) x[i] = kalm__f32(p + 4 * i);
    else if (doc->info.bits == 16)
        for (i = 0; i < width; i++) x[i] = kalm__from_f16((uint16_t)kalm__u16(p + 2 * i));
    else {
        const unsigned char *q = p + (width + KALM__DOC_GROUP - 1) / KALM__DOC_GROUP * 2;
        for (i = 0; i < width; i++)
            x[i] = kalm__from_f16((uint16_t)kalm__u16(p + i / KALM__DOC_GROUP * 2)) *
                   (float)(q[i] < 128 ? (int)q[i] : (int)q[i] - 256);
    }
}

/* Whether `count` floats or halves, little-endian, are all finite: exponent bits that are all ones carry into the bit above
   when one is added to them. */
KALM__FN int kalm__all_finite(const unsigned char *p, size_t count, int halves)
{
    const uint64_t exponent = halves ? 0x7c007c007c007c00u : 0x7f8000007f800000u;
    const uint64_t one = halves ? 0x0400040004000400u : 0x0080000000800000u;
    const uint64_t above = halves ? 0x8000800080008000u : 0x8000000080000000u;
    size_t bytes = count * (halves ? 2 : 4), i = 0, k;
    uint64_t bad = 0;
    for (; i + 32 <= bytes; i += 32)
        bad |= ((kalm__u64(p + i) & exponent) + one) | ((kalm__u64(p + i + 8) & exponent) + one) |
               ((kalm__u64(p + i + 16) & exponent) + one) | ((kalm__u64(p + i + 24) & exponent) + one);
    for (; i + 8 <= bytes; i += 8) bad |= (kalm__u64(p + i) & exponent) + one;
    if (i < bytes) {
        uint64_t last = 0;
        for (k = i; k < bytes; k++) last |= (uint64_t)p[k] << (k - i) * 8;
        bad |= (last & exponent) + one;
    }
    return (bad & above) == 0;
}

/* The first row with a number that is not finite; info->rows where there is none. */
KALM__FN uint32_t kalm__doc_overflow(const unsigned char *rows, const kalm_doc_info *info)
{
    size_t size = kalm__doc_row_bytes(info->width, info->bits);
    size_t numbers = info->bits == 8 ? (info->width + KALM__DOC_GROUP - 1) / KALM__DOC_GROUP : info->width;
    uint32_t i = 0;
    if (kalm__is_coded(info->bits)) {              /* these say finite numbers, but for the mark of kalm__doc_write_rows */
        while (i < info->rows && rows[i * size]) i++;
        return i;
    }
    while (i < info->rows && kalm__all_finite(rows + i * size, numbers, info->bits != 32)) i++;
    return i;
}

/* Rows of 4, 3 or 2 bits: n of them, from x [n][width], which are used up; `out` has their bytes one behind the other. Rows with
   numbers that are not finite begin with a zero, which no other does. */
KALM__FN void kalm__doc_write_rows(const kalm__rowcode *c, const kalm__kernels *k, const kalm__row_work *w, unsigned char *out,
                                   float *x, size_t n, uint32_t bits, uint32_t ratio)
{
    size_t size = kalm__coded_row_bytes(c->width, bits), i, j, some;
    for (; n; n -= some, x += some * c->width) {
        uint32_t finite = 0;
        some = kalm__min(n, KALM__ROWS_TOGETHER);
        for (i = 0; i < some; i++) {
            const float *row = x + i * c->width;
            for (j = 0; j < c->width && kalm__is_finite(row[j]); j++) { }
            finite |= (uint32_t)(j == c->width) << i;
        }
        kalm__rows_to_components(c, k, w, w->y, x, some);
        kalm__row_code(c, k->ops, w, 4 - bits, kalm__ratio_class(ratio), w->y, some, out);
        for (i = 0; i < some; i++, out += size)
            if (!(finite >> i & 1)) memset(out, 0, size);
    }
}

/* n rows from `first` on into x [n][width], whatever their bits. */
KALM__FN void kalm__doc_read_rows(const kalm__rowcode *c, const kalm__kernels *k, const kalm__row_work *w, const kalm_doc *doc,
                                  size_t first, size_t n, float *x)
{
    size_t width = doc->info.width, size = kalm__doc_row_bytes(width, doc->info.bits), some, i;
    const unsigned char *p = doc->bytes + KALM__DOC_HEADER + first * size;
    unsigned r = kalm__ratio_class(doc->info.ratio);
    if (!kalm__is_coded(doc->info.bits)) {
        for (i = 0; i < n; i++) kalm__doc_read_row(doc, first + i, x + i * width);
        return;
    }
    for (; n; n -= some, x += some * width) {
        some = kalm__min(n, KALM__ROWS_TOGETHER);
        for (i = 0; i < some; i++, p += size) kalm__row_read(c, 4 - doc->info.bits, r, p, size, w->y + i * width);
        kalm__rows_from_components(c, k, w, x, w->y, some);
    }
}

KALM__FN void kalm__doc_release(kalm_doc *doc)
{
    kalm_allocator alloc;
    if (!doc) return;
    alloc = doc->alloc;
    kalm__release(&alloc, doc, doc->block);
}

KALM__FN uint64_t kalm__doc_checksum(const unsigned char *bytes, size_t size)
{
    unsigned char head[KALM__DOC_HEADER];
    kalm__hasher h;
    memcpy(head, bytes, sizeof head);
    memset(head + 40, 0, 8);
    kalm__hash_begin(&h);
    kalm__hash_add(&h, head, sizeof head);
    kalm__hash_add(&h, bytes + sizeof head, size - sizeof head);
    return kalm__hash_end(&h);
}

/* A document of its own bytes with the header written and rows to fill in; NULL when memory is short. */
KALM__FN kalm_doc *kalm__doc_new(const kalm_allocator *alloc, const kalm_doc_info *info, unsigned char **rows)
{
    size_t own = kalm__round_up(sizeof(kalm_doc), 64), row = kalm__doc_row_bytes(info->width, info->bits);
    size_t size = kalm__add(kalm__mul(info->rows, row), KALM__DOC_HEADER), block = kalm__add(size, own);
    kalm_doc *doc = (kalm_doc *)kalm__alloc(alloc, block);
    unsigned char *p;
    if (!doc) return NULL;
    doc->alloc = *alloc;
    doc->block = block;
    doc->size = size;
    doc->info = *info;
    p = (unsigned char *)doc + own;
    doc->bytes = p;
    memset(p, 0, KALM__DOC_HEADER);
    memcpy(p, "KDOC", 4);
    kalm__put_u32(p + 4, kalm__is_coded(info->bits) ? 2u : 1u);
    kalm__put_u64(p + 8, info->fingerprint);
    kalm__put_u32(p + 16, info->tokens);
    kalm__put_u32(p + 20, info->tokens_used);
    kalm__put_u32(p + 24, info->ratio);
    kalm__put_u32(p + 28, info->rows);
    kalm__put_u32(p + 32, info->width);
    kalm__put_u32(p + 36, info->bits);
    kalm__put_u64(p + 48, info->vocabulary);
    kalm__put_u64(p + 56, info->transform);
    *rows = p + KALM__DOC_HEADER;
    return doc;
}

/* Once the rows are written. `rows` as kalm__doc_new gave it. */
KALM__FN void kalm__doc_seal(kalm_doc *doc, unsigned char *rows)
{
    kalm__put_u64(rows - KALM__DOC_HEADER + 40, kalm__doc_checksum(doc->bytes, doc->size));
}

/* Everything a stranger's bytes must satisfy before anyone reads a row. transform: the hash of the model's section ROWS, 0 where it
   has none; NULL: the model is not at hand, and any will do. */
KALM__FN kalm_result kalm__doc_check(const unsigned char *p, size_t size, kalm_doc_info *info, uint64_t fingerprint,
                                     uint32_t width, const uint64_t *transform, kalm_error *err)
{
    uint64_t need;
    uint32_t bad;
    if (size < KALM__DOC_HEADER || memcmp(p, "KDOC", 4) != 0)
        return kalm__fail(err, KALM_BAD_FILE, "these %z bytes are no encoded document", size);
    if (!kalm__u32(p + 4) || kalm__u32(p + 4) > KALM__DOC_VERSION)
        return kalm__fail(err, KALM_BAD_VERSION, "the document has format version %u, this library reads %u", kalm__u32(p + 4),
                          KALM__DOC_VERSION);
    info->fingerprint = kalm__u64(p + 8);
    info->tokens = kalm__u32(p + 16);
    info->tokens_used = kalm__u32(p + 20);
    info->ratio = kalm__u32(p + 24);
    info->rows = kalm__u32(p + 28);
    info->width = kalm__u32(p + 32);
    info->bits = kalm__u32(p + 36);
    info->vocabulary = kalm__u64(p + 48);
    info->transform = kalm__u64(p + 56);
    if (info->fingerprint != fingerprint)
        return kalm__fail(err, KALM_MISMATCH, "the document was made by model %X, this one is %X", info->fingerprint, fingerprint);
    if (kalm__u32(p + 4) == 1 && kalm__u64(p + 56))
        return kalm__fail(err, KALM_BAD_FILE, "bytes 56 to 63 of the document's header are not zero");
    if (info->width != width || !kalm__doc_row_bytes(info->width, info->bits))
        return kalm__fail(err, KALM_BAD_FILE, "the document has rows of %u numbers of %u bits, the model has %u", info->width,
                          info->bits, width);
    if (kalm__is_coded(info->bits) != (kalm__u32(p + 4) == 2) || (!info->transform) != !kalm__is_coded(info->bits))
        return kalm__fail(err, KALM_BAD_FILE, "the document has rows of %u bits in format version %u and transform %X", info->bits,
                          kalm__u32(p + 4), info->transform);
    if (transform && info->transform && !*transform) return kalm__no_rowcode(KALM_MISMATCH, info->bits, err);
    if (transform && info->transform && info->transform != *transform)
        return kalm__fail(err, KALM_MISMATCH, "the document's rows of %u bits were made with transform %X, the model file has %X",
                          info->bits, info->transform, *transform);
    if (!info->ratio || !info->tokens_used || info->tokens_used > info->tokens ||
        info->rows != (info->tokens_used - 1) / info->ratio + 1)
        return kalm__fail(err, KALM_BAD_FILE, "the document says %u rows of %u tokens for %u of %u tokens", info->rows,
                          info->ratio, info->tokens_used, info->tokens);
    need = KALM__DOC_HEADER + (uint64_t)info->rows * kalm__doc_row_bytes(info->width, info->bits);
    if (size != need)
        return kalm__fail(err, KALM_BAD_FILE, "the document has %z bytes, its header asks for %U", size, need);
    if (kalm__doc_checksum(p, size) != kalm__u64(p + 40))
        return kalm__fail(err, KALM_BAD_FILE, "the document is damaged: its checksum does not match");
    bad = kalm__doc_overflow(p + KALM__DOC_HEADER, info);
    if (bad < info->rows) return kalm__fail(err, KALM_BAD_FILE, "row %u of the document has a number that is not finite", bad);
    return KALM_OK;
}

#endif
