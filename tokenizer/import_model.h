/* import_model.h - reads a tokenizer.model of SentencePiece: a protobuf message ModelProto. Of its fields
       1 pieces (repeated): 1 text, 2 score (float), 3 type: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
       2 trainer_spec: 3 model type: 1 unigram, 2 BPE, 3 word, 4 char; 24 treat_whitespace_as_suffix; 35 byte_fallback;
         44 unk_surface
       3 normalizer_spec: 2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces, 5 escape_whitespaces
       5 denormalizer_spec: the same
   are read, and all others passed over. The id of a piece is its number. */
#ifndef KALM__IMPORT_MODEL_H
#define KALM__IMPORT_MODEL_H

#include <float.h>
#include "import_charsmap.h"

/* ---- protobuf -------------------------------------------------------------------------------------------------------- */

typedef struct kalm__proto {
    const unsigned char *at, *end;
    uint64_t field, value;             /* value: of a varint, or the bits of a fixed number */
    kalm_text bytes;                   /* of a length-delimited field */
    unsigned wire;
} kalm__proto;

KALM__FN int kalm__proto_varint(kalm__proto *p, uint64_t *value)
{
    unsigned shift = 0;
    *value = 0;
    while (p->at < p->end && shift < 64) {
        unsigned c = *p->at++;
        *value |= (uint64_t)(c & 127) << shift;
        if (!(c & 128)) return 1;
        shift += 7;
    }
    return 0;
}

/* The next field: 1, 0 at the end, -1 when it is damaged. */
KALM__FN int kalm__proto_next(kalm__proto *p)
{
    uint64_t tag;
    if (p->at == p->end) return 0;
    if (!kalm__proto_varint(p, &tag) || !(tag >> 3)) return -1;
    p->field = tag >> 3;
    p->wire = (unsigned)tag & 7;
    p->value = 0;
    p->bytes.data = NULL;
    p->bytes.size = 0;
    switch (p->wire) {
    case 0: return kalm__proto_varint(p, &p->value) ? 1 : -1;
    case 1:
        if (p->end - p->at < 8) return -1;
        p->value = kalm__u64(p->at);
        p->at += 8;
        return 1;
    case 2:
        if (!kalm__proto_varint(p, &p->value) || p->value > (uint64_t)(p->end - p->at)) return -1;
        p->bytes.data = (const char *)p->at;
        p->bytes.size = (size_t)p->value;
        p->at += p->bytes.size;
        return 1;
    case 5:
        if (p->end - p->at < 4) return -1;
        p->value = kalm__u32(p->at);
        p->at += 4;
        return 1;
    default: return -1;
    }
}
KALM__FN void kalm__proto_begin(kalm__proto *p, const char *data, size_t size)
{
    memset(p, 0, sizeof *p);
    p->at = (const unsigned char *)data;
    p->end = p->at + size;
}

/* ---- the specifications ------------------------------------------------------------------------------------------------ */

enum { KALM__SPM_UNIGRAM = 1, KALM__SPM_BPE, KALM__SPM_WORD, KALM__SPM_CHAR };   /* trainer_spec.model_type */
enum { KALM__PIECE_NORMAL = 1, KALM__PIECE_UNKNOWN, KALM__PIECE_CONTROL, KALM__PIECE_USER, KALM__PIECE_UNUSED, KALM__PIECE_BYTE };

typedef struct kalm__import_spec {
    uint64_t       model_type;
    int            prefix, trim, escape, suffix, byte_fallback, gemma;
    unsigned       denormal_spaces;    /* bits 3 to 5: what the denormalizer does with spaces, by the fields' numbers */
    kalm_text      charsmap, denormal, surface;
    unsigned char *types;              /* [tokens] */
} kalm__import_spec;

KALM__FN kalm_result kalm__import_trainer_spec(kalm__import *m, kalm__import_spec *spec, kalm__proto *q)
{
    int r;
    while ((r = kalm__proto_next(q)) > 0) {
        if (q->field == 3 && q->wire == 0) spec->model_type = q->value;
        if (q->field == 24 && q->wire == 0) spec->suffix = q->value != 0;
        if (q->field == 35 && q->wire == 0) spec->byte_fallback = q->value != 0;
        if (q->field == 44 && q->wire == 2) spec->surface = q->bytes;
    }
    return r < 0 ? kalm__fail(m->err, KALM_BAD_FILE, "%s: its trainer_spec is damaged", m->name) : KALM_OK;
}

KALM__FN kalm_result kalm__import_normalizer_spec(kalm__import *m, kalm__import_spec *spec, kalm__proto *q, int denormal)
{
    int r;
    while ((r = kalm__proto_next(q)) > 0) {
        if (q->field == 2 && q->wire == 2) *(denormal ? &spec->denormal : &spec->charsmap) = q->bytes;
        if (q->wire != 0 || q->field < 3 || q->field > 5) continue;
        if (denormal) {
            spec->denormal_spaces &= ~(1u << q->field);
            if (q->value) spec->denormal_spaces |= 1u << q->field;
            continue;
        }
        if (q->field == 3) spec->prefix = q->value != 0;
        if (q->field == 4) spec->trim = q->value != 0;
        if (q->field == 5) spec->escape = q->value != 0;
    }
    return r < 0 ? kalm__fail(m->err, KALM_BAD_FILE, "%s: its normalizer_spec is damaged", m->name) : KALM_OK;
}

/* Piece s into its symbol. */
KALM__FN kalm_result kalm__import_piece(kalm__import *m, kalm__import_spec *spec, kalm__proto *q, uint32_t s)
{
    static const unsigned char kinds[7] = {
        KALM__KIND_NONE, KALM__KIND_TEXT, KALM__KIND_UNKNOWN, KALM__KIND_CONTROL, KALM__KIND_TEXT, KALM__KIND_UNUSED,
        KALM__KIND_BYTE
    };
    kalm__import_symbol *piece = m->symbol + s;
    uint64_t type = KALM__PIECE_NORMAL;
    float score = 0;
    size_t i, k;
    int r;
    while ((r = kalm__proto_next(q)) > 0) {
        if (q->field == 1 && q->wire == 2) piece->text = q->bytes;
        if (q->field == 2 && q->wire == 5) {
            uint32_t word = (uint32_t)q->value;
            memcpy(&score, &word, 4);
        }
        if (q->field == 3 && q->wire == 0) type = q->value;
    }
    if (r < 0 || type < 1 || type > 6 || !(score - score >= 0))      /* infinities and NaN fail the last */
        return kalm__fail(m->err, KALM_BAD_FILE, "%s: piece %u is damaged", m->name, s);
    for (i = 0; i < piece->text.size; i += k) {
        k = kalm__import_char(piece->text.data + i, piece->text.size - i);
        if (!k) return kalm__fail(m->err, KALM_BAD_FILE, "%s: piece %u is not UTF-8", m->name, s);
    }
    piece->score = (double)score;
    piece->kind = kinds[type];
    spec->types[s] = (unsigned char)type;
    if (type == KALM__PIECE_UNKNOWN) m->unknown = s;
    if (type == KALM__PIECE_BYTE) {
        r = kalm__import_byte(piece->text);
        if (r < 0) return kalm__fail(m->err, KALM_BAD_FILE, "%s: byte piece %u is \"%q\"", m->name, s, piece->text.data,
                                     piece->text.size);
        m->bytes[r] = s;
    }
    return KALM_OK;
}

/* The whole message: symbols and *spec. */
KALM__FN kalm_result kalm__import_message(kalm__import *m, kalm__import_spec *spec, const char *data, size_t size)
{
    kalm__proto p, q;
    kalm_result result = KALM_OK;
    size_t pieces = 0;
    uint32_t s = 0;
    int r;
    kalm__proto_begin(&p, data, size);
    while ((r = kalm__proto_next(&p)) > 0)
        if (p.field == 1 && p.wire == 2) pieces++;
    if (r < 0)
        return kalm__fail(m->err, KALM_BAD_FILE, "%s is no tokenizer: no JSON, and as protobuf damaged at byte %z", m->name,
                          (size_t)(p.at - (const unsigned char *)data));
    if (!pieces) return kalm__fail(m->err, KALM_BAD_FILE, "%s is no tokenizer: it has no pieces", m->name);
    if (pieces > 1u << 20) return kalm__fail(m->err, KALM_BAD_FILE, "%s: %z pieces are too many", m->name, pieces);
    m->tokens = m->symbols = (uint32_t)pieces;
    m->symbol = (kalm__import_symbol *)kalm__import_alloc(m, kalm__mul(pieces * 2, sizeof *m->symbol));
    spec->types = m->symbol ? (unsigned char *)kalm__import_alloc(m, pieces) : NULL;
    if (!spec->types || !kalm__import_index(m, pieces * 2)) return KALM_NO_MEMORY;
    kalm__proto_begin(&p, data, size);
    while (result == KALM_OK && kalm__proto_next(&p) > 0) {
        if (p.wire != 2) continue;
        kalm__proto_begin(&q, p.bytes.data, p.bytes.size);
        if (p.field == 1) result = kalm__import_piece(m, spec, &q, s++);
        else if (p.field == 2) result = kalm__import_trainer_spec(m, spec, &q);
        else if (p.field == 3 || p.field == 5) result = kalm__import_normalizer_spec(m, spec, &q, p.field == 5);
    }
    return result;
}

/* ---- Gemma ------------------------------------------------------------------------------------------------------------- */

/* Gemma's own tokenizer.model is meant to be read by Hugging Face's rules (its pieces 0 .. 3 are found in raw text). */
KALM__FN int kalm__import_is_gemma(const kalm__import *m, const unsigned char *types)
{
    static const char *const begin[4] = { "<pad>", "<eos>", "<bos>", "<unk>" };
    static const struct { uint32_t id; const char *text; } more[3] = {
        { 105, "<start_of_turn>" }, { 106, "<end_of_turn>" }, { 255999, "<start_of_image>" }
    };
    unsigned i;
    if (m->tokens < 262144 || types[105] != 4) return 0;
    for (i = 0; i < 4; i++)
        if (m->symbol[i].text.size != 5 || memcmp(m->symbol[i].text.data, begin[i], 5)) return 0;
    for (i = 0; i < 3; i++)
        if (m->symbol[more[i].id].text.size != strlen(more[i].text)
            || memcmp(m->symbol[more[i].id].text.data, more[i].text, strlen(more[i].text))) return 0;
    return 1;
}

/* White space only, two or more of the same character: what Hugging Face's form of Gemma's file makes by merging. */
KALM__FN size_t kalm__import_white_run(kalm_text t)
{
    size_t unit = kalm__import_is_space(t.data, t.size) ? 3 : t.size && (t.data[0] == '\n' || t.data[0] == '\t') ? 1 : 0, i;
    if (!unit || t.size % unit || t.size == unit) return 0;
    for (i = unit; i < t.size; i += unit)
        if (memcmp(t.data, t.data + i, unit)) return 0;
    return t.size / unit;
}

/* ---- what each piece is for ---------------------------------------------------------------------------------------------- */

/* Which pieces are added tokens, for Gemma also which are read otherwise. */
KALM__FN void kalm__import_roles(kalm__import *m, const kalm__import_spec *spec)
{
    uint32_t s;
    for (s = 0; s < m->tokens; s++) {
        kalm__import_symbol *piece = m->symbol + s;
        unsigned type = spec->types[s];
        if (type == KALM__PIECE_USER)
            piece->added = (uint8_t)(1 + (kalm__import_is_mark(piece->text) ? KALM__CLASS_CONTROL : KALM__CLASS_TEXT));
        if (type == KALM__PIECE_CONTROL) piece->added = 1 + KALM__CLASS_TEMPLATE;
        if (!spec->gemma || (type != KALM__PIECE_CONTROL && type != KALM__PIECE_UNKNOWN)) continue;
        piece->added = 1 + KALM__CLASS_CONTROL;
        piece->kind = KALM__KIND_TEXT;
    }
}

/* Unigram: which pieces a text may be cut into, and their scores as SentencePiece computes them, in its types. */
KALM__FN void kalm__import_unigram_pieces(kalm__import *m, const kalm__import_spec *spec)
{
    float least = FLT_MAX, most = FLT_MIN;       /* the second is the smallest positive number: what SentencePiece takes */
    uint32_t s;
    for (s = 0; s < m->tokens; s++) {
        float score = (float)m->symbol[s].score;
        if (spec->types[s] != KALM__PIECE_NORMAL) continue;
        if (score < least) least = score;
        if (score > most) most = score;
    }
    m->unknown_score = (double)(least - 10.0f);
    for (s = 0; s < m->tokens; s++) {
        kalm__import_symbol *piece = m->symbol + s;
        unsigned type = spec->types[s];
        if (type == KALM__PIECE_USER) piece->score = (double)((float)piece->text.size * most) - 0.1;
        piece->piece = piece->text.size && (type == KALM__PIECE_NORMAL
                                            || (type == KALM__PIECE_USER && piece->added == 1 + KALM__CLASS_TEXT));
    }
}

/* Word: a word may be a normal, unused or user-defined piece; also a byte's name, as SentencePiece has it. */
KALM__FN void kalm__import_word_pieces(kalm__import *m, const kalm__import_spec *spec)
{
    uint32_t s;
    for (s = 0; s < m->tokens; s++) {
        unsigned type = spec->types[s];
        if (!m->symbol[s].text.size || type == KALM__PIECE_UNKNOWN || type == KALM__PIECE_CONTROL) continue;
        m->symbol[s].piece = type == KALM__PIECE_USER && m->symbol[s].added == 1 + KALM__CLASS_CONTROL ? 2 : 1;
    }
}

/* BPE and char: which pieces are symbols of merging. */
KALM__FN kalm_result kalm__import_bpe_pieces(kalm__import *m, const kalm__import_spec *spec)
{
    uint32_t s;
    for (s = 0; s < m->tokens; s++) {
        kalm__import_symbol *piece = m->symbol + s;
        unsigned type = spec->types[s];
        int word = type == KALM__PIECE_NORMAL || type == KALM__PIECE_UNUSED;
        if (type == KALM__PIECE_UNUSED) m->flags |= KALM__TOK_UNUSED;
        if (spec->gemma && type == KALM__PIECE_USER && kalm__import_white_run(piece->text)) word = 1;
        if (!piece->text.size || (spec->model_type == KALM__SPM_CHAR && !kalm__import_one_char(piece->text))) word = 0;
        piece->merges = (uint8_t)word;
        if (!word) continue;
        if (kalm__import_find(m, piece->text) != KALM__TOK_NONE)
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: piece %u is there twice", m->name, s);
        kalm__import_enter(m, s);
    }
    return KALM_OK;
}

/* ---- merges, from scores ----------------------------------------------------------------------------------------------- */

/* Symbols for the characters of pieces that are no pieces themselves. *splits: places at which pieces can be split. */
KALM__FN kalm_result kalm__import_characters(kalm__import *m, size_t *splits)
{
    uint32_t s;
    size_t i;
    *splits = 0;
    for (s = 0; s < m->tokens; s++) {
        const kalm__import_symbol *piece = m->symbol + s;
        if (!piece->merges) continue;
        for (i = 0; i < piece->text.size;) {
            kalm_text one;
            one.data = piece->text.data + i;
            one.size = kalm__import_char(one.data, piece->text.size - i);
            i += one.size;
            if (i < piece->text.size) ++*splits;
            if (kalm__import_find(m, one) != KALM__TOK_NONE) continue;
            if (m->symbols == 2 * m->tokens || m->symbols == 1u << 20)
                return kalm__fail(m->err, KALM_BAD_FILE, "%s: too many characters are no pieces", m->name);
            m->symbol[m->symbols].text = one;
            m->symbol[m->symbols].kind = KALM__KIND_NONE;
            m->symbol[m->symbols].merges = 1;
            kalm__import_enter(m, m->symbols++);
        }
    }
    return KALM_OK;
}

KALM__FN int kalm__import_score_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x > y ? -1 : x < y;         /* the best first */
}

/* The rank of a score among `count` different ones, the best first. */
KALM__FN uint32_t kalm__import_score_rank(const double *scores, size_t count, double score)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (scores[middle] > score) low = middle + 1;
        else high = middle;
    }
    return (uint32_t)low;
}

/* Every split of piece s into two symbols is a merge. */
KALM__FN void kalm__import_piece_merges(kalm__import *m, uint32_t s, uint32_t rank)
{
    const kalm__import_symbol *piece = m->symbol + s;
    size_t i = kalm__import_char(piece->text.data, piece->text.size);
    for (; i < piece->text.size; i += kalm__import_char(piece->text.data + i, piece->text.size - i)) {
        kalm__import_merge *one = m->merge + m->merges;
        kalm_text left, right;
        left.data = piece->text.data;
        left.size = i;
        right.data = left.data + i;
        right.size = piece->text.size - i;
        one->left = kalm__import_find(m, left);
        one->right = one->left != KALM__TOK_NONE ? kalm__import_find(m, right) : KALM__TOK_NONE;
        if (one->right == KALM__TOK_NONE) continue;
        one->made = s;
        one->rank = rank;
        m->merges++;
    }
}

/* The merges of BPE: equal scores are equal ranks. */
KALM__FN kalm_result kalm__import_score_merges(kalm__import *m, const kalm__import_spec *spec)
{
    double *scores = (double *)kalm__import_alloc(m, kalm__mul(m->tokens, sizeof *scores));
    size_t splits, all = 0, count, i;
    uint32_t s;
    kalm_result r = scores ? kalm__import_characters(m, &splits) : KALM_NO_MEMORY;
    if (r) return r;
    m->merge = (kalm__import_merge *)kalm__import_alloc(m, kalm__mul(splits + 1, sizeof *m->merge));
    if (!m->merge) return KALM_NO_MEMORY;
    for (s = 0; s < m->tokens; s++) {
        kalm__import_symbol *piece = m->symbol + s;
        if (!piece->merges) continue;
        if (spec->gemma && kalm__import_white_run(piece->text))      /* longest first, before all others */
            piece->score = 1e6 + (double)piece->text.size;
        scores[all++] = piece->score;
    }
    qsort(scores, all, sizeof *scores, kalm__import_score_order);
    for (i = 1, count = all ? 1 : 0; i < all; i++)
        if (scores[i] < scores[count - 1]) scores[count++] = scores[i];
    for (s = 0; s < m->tokens; s++)
        if (m->symbol[s].merges)
            kalm__import_piece_merges(m, s, kalm__import_score_rank(scores, count, m->symbol[s].score));
    return KALM_OK;
}

/* ---- all of it --------------------------------------------------------------------------------------------------------- */

KALM__FN kalm_result kalm__import_model(kalm__import *m, const char *data, size_t size)
{
    kalm__import_spec spec;
    kalm_result r;
    memset(&spec, 0, sizeof spec);
    spec.model_type = KALM__SPM_UNIGRAM;         /* the defaults of the message */
    spec.prefix = spec.trim = spec.escape = 1;
    spec.denormal_spaces = 1u << 3 | 1u << 4 | 1u << 5;
    spec.surface.data = " \xe2\x81\x87 ";        /* U+2047 between spaces */
    spec.surface.size = 5;
    r = kalm__import_message(m, &spec, data, size);
    if (r) return r;
    if (spec.model_type < KALM__SPM_UNIGRAM || spec.model_type > KALM__SPM_CHAR)
        return kalm__fail(m->err, KALM_BAD_FILE, "%s is a SentencePiece model of type %U; known are 1 to 4 (unigram, BPE, word, "
                          "char)", m->name, spec.model_type);
    if (spec.denormal.size && spec.denormal_spaces)
        return kalm__fail(m->err, KALM_BAD_FILE, "%s: a denormalizer that changes spaces is not supported; spm_train makes none",
                          m->name);
    if (m->unknown == KALM__TOK_NONE) return kalm__fail(m->err, KALM_BAD_FILE, "%s has no unknown piece", m->name);
    r = kalm__import_charsmap(m, (const unsigned char *)spec.charsmap.data, spec.charsmap.size);
    if (r) return r;
    spec.gemma = spec.model_type == KALM__SPM_BPE && spec.escape && !spec.prefix && !spec.trim && !spec.suffix
                 && spec.byte_fallback && !spec.charsmap.size && kalm__import_is_gemma(m, spec.types);
    m->flags = KALM__TOK_FUSE;
    if (spec.escape) m->flags |= KALM__TOK_ESCAPE;
    if (spec.byte_fallback) m->flags |= KALM__TOK_BYTES;
    if (!spec.gemma) {
        m->flags |= KALM__TOK_SPM;
        if (spec.prefix) m->flags |= KALM__TOK_PREFIX;
        if (spec.trim) m->flags |= KALM__TOK_TRIM;
        if (spec.suffix) m->flags |= KALM__TOK_SUFFIX;
    }
    r = kalm__import_denormalizer(m, (const unsigned char *)spec.denormal.data, spec.denormal.size);
    if (r) return r;
    m->unknown_text = spec.surface;
    kalm__import_roles(m, &spec);
    switch (spec.model_type) {
    case KALM__SPM_UNIGRAM:
        m->model = KALM__MODEL_UNIGRAM;
        kalm__import_unigram_pieces(m, &spec);
        return KALM_OK;
    case KALM__SPM_WORD:
        m->model = KALM__MODEL_WORD;
        kalm__import_word_pieces(m, &spec);
        return KALM_OK;
    case KALM__SPM_CHAR: return kalm__import_bpe_pieces(m, &spec);   /* no merges */
    default:
        r = kalm__import_bpe_pieces(m, &spec);
        return r ? r : kalm__import_score_merges(m, &spec);
    }
}

#endif
