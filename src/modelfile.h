/* modelfile.h - opens a .kalm file: checks everything that format.h promises against the file's own size, reads the
   shape, and binds each tensor to its place in the mapping. After this part nobody looks at offsets again. */
#ifndef KALM__MODELFILE_H
#define KALM__MODELFILE_H

#include "base.h"
#include "format.h"
#include "kernels.h"
#include "recognise.h"
#include "embedding.h"
#include "rowcode.h"
#include "../tokenizer/vocab.h"

typedef struct kalm__section {
    const unsigned char *data;         /* NULL: the file has none */
    uint64_t             size, offset, checksum;
} kalm__section;

/* The weights of one layer. */
typedef struct kalm__layer {
    kalm__matrix matrix[KALM__T_DOWN + 1];          /* KALM__T_Q ... KALM__T_DOWN */
    const float *norm[KALM__T_LAYER_KINDS];         /* KALM__T_Q_NORM ... KALM__T_POST_MLP hold 1 + w; lower indices are unused */
    int          rotated[KALM__T_DOWN + 1];         /* 1: the matrix takes rotated inputs (kalm__hadamard in ops.h) */
    int          full;                              /* 1: full attention; 0: a sliding window */
} kalm__layer;

/* One side of the model. */
typedef struct kalm__stack {
    kalm__side     shape;              /* of what the file has: 0 layers where it lacks this side */
    kalm__layer   *layers;             /* [shape.layers] */
    const float   *norm;               /* [hidden] */
    const float   *eoi;                /* [hidden]; NULL: none */
    uint32_t       embed_type;
    const unsigned char *embed;        /* [vocabulary] rows of embed_row bytes */
    size_t         embed_row;
} kalm__stack;

typedef struct kalm__file {
    const unsigned char *data;
    size_t         size;
    uint64_t       fingerprint;        /* of the whole model, where the file is a part of one: what documents carry */
    uint64_t       vocabulary;         /* hash of the tokenizer where the vocabulary lacks tokens of the whole one; else 0 */
    uint32_t       lacks;              /* KALM__LACKS_...; else 0 */
    kalm__section  section[KALM__SECTION_KINDS];
    kalm__shape    shape;
    kalm__stack    stack[2];           /* encoder, decoder */
    const float   *head;               /* [2][hidden]: yes, no */
    kalm_text      string[KALM__STRINGS];
    kalm__tokenizer tokenizer;
    kalm__rowcode  rows;               /* fingerprint 0: the file has none */
    int            has_model, has_tokenizer;
} kalm__file;

KALM__FN kalm_result kalm__read_sections(kalm__file *f, kalm_error *err)
{
    const unsigned char *p = f->data;
    unsigned char head[KALM__HEADER_BYTES + KALM__MAX_SECTIONS * KALM__SECTION_BYTES];
    uint32_t count, i, j, last = 0, front;     /* front: bytes of header and table */
    uint64_t size;
    if (f->size < KALM__HEADER_BYTES || memcmp(p, KALM__MAGIC, 8) != 0) {
        const char *what = f->size >= 8 && !memcmp(p, KALM__MAGIC, 8) ? "the beginning of one: it was cut short"
                                                                      : kalm__recognise(p, f->size);
        return what ? kalm__fail(err, KALM_BAD_FILE, "not a .kalm file but %s", what)
                    : kalm__fail(err, KALM_BAD_FILE, "not a .kalm file: it does not begin with the KALM signature");
    }
    if (kalm__u32(p + 8) != KALM__FILE_VERSION)
        return kalm__fail(err, KALM_BAD_VERSION, "the model file has format version %u, this library reads %u",
                          kalm__u32(p + 8), KALM__FILE_VERSION);
    count = kalm__u32(p + 12);
    front = KALM__HEADER_BYTES + count * KALM__SECTION_BYTES;
    size = kalm__u64(p + 16);
    if (size != f->size)
        return kalm__fail(err, KALM_BAD_FILE, "the model file says it has %U bytes, it has %z%s", size, f->size,
                          f->size < size ? ": the download or copy was cut short" : "");
    if (count < 1 || count > KALM__MAX_SECTIONS || f->size < front)
        return kalm__fail(err, KALM_BAD_FILE, "the model file's header speaks of %u sections", count);
    f->fingerprint = kalm__u64(p + 24);
    memcpy(head, p, front);
    memset(head + 32, 0, 8);
    if (kalm__hash(head, front) != kalm__u64(p + 32))
        return kalm__fail(err, KALM_BAD_FILE, "the model file's header is damaged: its checksum does not match");
    for (i = 0; i < count; i++) {
        const unsigned char *e = p + KALM__HEADER_BYTES + i * KALM__SECTION_BYTES;
        uint32_t type = kalm__u32(e);
        kalm__section *s;
        if (type <= last || type >= KALM__SECTION_KINDS)
            return kalm__fail(err, KALM_BAD_FILE, "section %u of the model file has type %u, which is unknown or out of order",
                              i, type);
        last = type;
        s = &f->section[type];
        s->offset = kalm__u64(e + 8);
        s->size = kalm__u64(e + 16);
        s->checksum = kalm__u64(e + 24);
        if (s->offset % 64 || s->offset < front || s->offset > f->size || s->size > f->size - s->offset)
            return kalm__fail(err, KALM_BAD_FILE, "section %u of the model file lies at byte %U with %U bytes, the file has %z",
                              type, s->offset, s->size, f->size);
        s->data = p + s->offset;
        for (j = 1; j < type; j++)
            if (f->section[j].data && s->offset < f->section[j].offset + f->section[j].size &&
                f->section[j].offset < s->offset + s->size)
                return kalm__fail(err, KALM_BAD_FILE, "sections %u and %u of the model file overlap", j, type);
    }
    return KALM_OK;
}

/* What the header says of the whole that the file is a part of; the sections are read. */
KALM__FN kalm_result kalm__read_part(kalm__file *f, kalm_error *err)
{
    uint64_t whole = kalm__u64(f->data + 40);
    f->lacks = kalm__u32(f->data + 48);
    if (f->lacks > KALM__LACKS_ALL)
        return kalm__fail(err, KALM_BAD_VERSION, "the model file lacks parts that this library does not know (%u)", f->lacks);
    if (kalm__u32(f->data + 52) || kalm__u64(f->data + 56))
        return kalm__fail(err, KALM_BAD_FILE, "bytes 52 to 63 of the model file's header are not zero");
    if (!f->lacks != !whole || (f->lacks & 3) == 3 || (f->lacks && !f->section[KALM__SECTION_SHAPE].data)
        || (f->lacks & KALM__LACKS_TOKENS && !f->section[KALM__SECTION_TOKENIZER].data))
        return kalm__fail(err, KALM_BAD_FILE, "the model file says that it is a part of model %X and lacks parts %u, which cannot be",
                          whole, f->lacks);
    if (whole) f->fingerprint = whole;
    if (f->lacks & KALM__LACKS_TOKENS) f->vocabulary = f->section[KALM__SECTION_TOKENIZER].checksum | 1;
    return KALM_OK;
}

/* The fingerprint that the header must have: the hash of the section table without the entries of STRINGS and ROWS. */
KALM__FN uint64_t kalm__table_fingerprint(const unsigned char *table, uint32_t count)
{
    unsigned char kept[KALM__MAX_SECTIONS * KALM__SECTION_BYTES];
    uint32_t i, n = 0;
    for (i = 0; i < count; i++)
        if (kalm__u32(table + i * KALM__SECTION_BYTES) != KALM__SECTION_STRINGS &&
            kalm__u32(table + i * KALM__SECTION_BYTES) != KALM__SECTION_ROWS)
            memcpy(kept + KALM__SECTION_BYTES * n++, table + i * KALM__SECTION_BYTES, KALM__SECTION_BYTES);
    return kalm__hash(kept, n * KALM__SECTION_BYTES);
}

#define KALM__READ_u32(p) kalm__u32(p)
#define KALM__READ_f32(p) kalm__f32(p)

KALM__FN int kalm__sane_float(float v, float low, float high) { return v >= low && v <= high; }

KALM__FN kalm_result kalm__read_shape(kalm__file *f, kalm_error *err)
{
    const kalm__section *s = &f->section[KALM__SECTION_SHAPE];
    const unsigned char *p = s->data;
    kalm__shape *m = &f->shape;
    uint64_t need = KALM__SHAPE_BYTES + 2 * KALM__SIDE_BYTES;
    int i;
    if (s->size < need)
        return kalm__fail(err, KALM_BAD_FILE, "the SHAPE section has %U bytes, %U are needed", s->size, need);
#define KALM__READ(type, name) m->name = KALM__READ_##type(p), p += 4;
    KALM__SHAPE_FIELDS(KALM__READ)
#undef KALM__READ
    for (i = 0; i < 2; i++) {
        kalm__side *d = &m->side[i];
#define KALM__READ(type, name) d->name = KALM__READ_##type(p), p += 4;
        KALM__SIDE_FIELDS(KALM__READ)
#undef KALM__READ
    }
    if (m->weights >= KALM__TYPES || m->hidden_size < 1 || m->hidden_size > KALM__MAX_HIDDEN || m->vocabulary < 1 ||
        m->vocabulary > KALM__MAX_VOCABULARY)
        return kalm__fail(err, KALM_BAD_FILE, "the model has weights of type %u, hidden size %u and %u tokens: beyond the limits",
                          m->weights, m->hidden_size, m->vocabulary);
    if (m->yes_id >= m->vocabulary || m->no_id >= m->vocabulary)
        return kalm__fail(err, KALM_BAD_FILE, "the answer tokens %u and %u are not both in the vocabulary of %u", m->yes_id,
                          m->no_id, m->vocabulary);
    if (!kalm__sane_float(m->softcap, 0.0f, 1e6f))
        return kalm__fail(err, KALM_BAD_FILE, "final_logit_softcapping is not a number from 0 to a million");
    for (i = 0; i < 2; i++) {
        kalm__side *d = &m->side[i];
        const char *side = i == KALM__ENCODER ? "encoder" : "decoder";
        uint32_t k;
        if (d->layers < 1 || d->layers > KALM__MAX_LAYERS || d->mlp < 1 || d->mlp > KALM__MAX_MLP || d->heads < 1 ||
            d->heads > KALM__MAX_HEADS || d->kv_heads < 1 || d->kv_heads > d->heads || d->heads % d->kv_heads ||
            d->head_dim < 2 || d->head_dim > KALM__MAX_HEAD_DIM || d->head_dim % 2)
            return kalm__fail(err, KALM_BAD_FILE, "the %s's shape is impossible: %u layers, MLP %u, %u heads, %u kv heads, "
                              "head_dim %u", side, d->layers, d->mlp, d->heads, d->kv_heads, d->head_dim);
        if (d->window < 1 || d->window > KALM__MAX_POSITIONS || d->max_positions < 1 ||
            d->max_positions > KALM__MAX_POSITIONS || !kalm__sane_float(d->norm_eps, 0.0f, 1.0f) ||
            !kalm__sane_float(d->query_scalar, 1e-6f, 1e9f) || !kalm__sane_float(d->theta_sliding, 1.0f, 1e12f) ||
            !kalm__sane_float(d->theta_full, 1.0f, 1e12f) || !kalm__sane_float(d->factor_sliding, 1e-6f, 1e6f) ||
            !kalm__sane_float(d->factor_full, 1e-6f, 1e6f))
            return kalm__fail(err, KALM_BAD_FILE, "the %s's window, norm_eps, query scalar or rotary settings are impossible",
                              side);
        need += d->layers;
        if (s->size < need)
            return kalm__fail(err, KALM_BAD_FILE, "the SHAPE section has %U bytes, %U are needed", s->size, need);
        d->full = p;
        for (k = 0; k < d->layers; k++)
            if (p[k] > 1)
                return kalm__fail(err, KALM_BAD_FILE, "layer %u of the %s has attention type %u, known are 0 and 1", k, side,
                                  (unsigned)p[k]);
        p += d->layers;
    }
    if (s->size != need)
        return kalm__fail(err, KALM_BAD_FILE, "the SHAPE section has %U bytes, %U are needed", s->size, need);
    return KALM_OK;
}

KALM__FN kalm_result kalm__read_strings(kalm__file *f, kalm_error *err)
{
    const kalm__section *s = &f->section[KALM__SECTION_STRINGS];
    uint32_t i;
    if (!s->data) return KALM_OK;
    if (s->size < KALM__STRINGS * 8)
        return kalm__fail(err, KALM_BAD_FILE, "the STRINGS section has %U bytes, too few for its %u entries", s->size,
                          (unsigned)KALM__STRINGS);
    for (i = 0; i < KALM__STRINGS; i++) {
        uint64_t at = kalm__u32(s->data + 8 * i), n = kalm__u32(s->data + 8 * i + 4);
        if (at > s->size || n > s->size - at || n > 1u << 20)
            return kalm__fail(err, KALM_BAD_FILE, "string %u of the model file lies outside its section", i);
        f->string[i].data = (const char *)s->data + at;
        f->string[i].size = (size_t)n;
    }
    return KALM_OK;
}

/* The bytes that a tensor's data must have. */
KALM__FN uint64_t kalm__tensor_bytes(const kalm__tensor *t)
{
    uint32_t what = t->kind % 32;
    if (what == KALM__T_EMBED) return (uint64_t)t->rows * kalm__embedding_row_bytes(t->type, t->cols);
    if (what <= KALM__T_DOWN) return ((uint64_t)t->rows + 15) / 16 * kalm__panel_bytes(t->type, t->cols);
    return (uint64_t)t->rows * t->cols * 4;
}

/* Let the model point to a tensor that has been checked. */
KALM__FN void kalm__bind_tensor(kalm__file *f, const kalm__tensor *t)
{
    kalm__stack *s = &f->stack[t->kind / 32];
    const unsigned char *data = f->data + t->offset;
    const void *vdata = data;
    uint32_t what = t->kind % 32;
    if (what <= KALM__T_DOWN) {
        kalm__matrix *m = &s->layers[t->layer].matrix[what];
        memset(m, 0, sizeof *m);
        m->type = t->type;
        m->rows = t->rows;
        m->cols = t->cols;
        m->data = data;
        if (kalm__is_quantised(t->type)) {                   /* the offsets of other types are not checked */
            const void *vscale = f->data + t->scale, *vsum = f->data + t->sum;
            m->scale = (const float *)vscale;
            m->sum = (const int32_t *)vsum;
        }
        s->layers[t->layer].rotated[what] = (int)t->rotated;
    } else if (what < KALM__T_LAYER_KINDS) {
        s->layers[t->layer].norm[what] = (const float *)vdata;
    } else if (what == KALM__T_NORM) {
        s->norm = (const float *)vdata;
    } else if (what == KALM__T_EMBED) {
        s->embed_type = t->type;
        s->embed = data;
        s->embed_row = kalm__embedding_row_bytes(t->type, t->cols);
    } else if (what == KALM__T_EOI) {
        s->eoi = (const float *)vdata;
    } else {
        f->head = (const float *)vdata;
    }
}

KALM__FN kalm_result kalm__check_tensor(const kalm__file *f, const kalm__tensor *t, const char *name, kalm_error *err)
{
    uint64_t begin = f->section[KALM__SECTION_WEIGHTS].offset, end = begin + f->section[KALM__SECTION_WEIGHTS].size;
    uint64_t scales = ((uint64_t)t->rows + 15) / 16 * 64;
    uint32_t rows, cols, what = t->kind % 32;
    if (!kalm__tensor_shape(&f->shape, t->kind, &rows, &cols) ||
        t->layer >= (what < KALM__T_LAYER_KINDS ? f->stack[t->kind / 32].shape.layers : 1))
        return kalm__fail(err, KALM_BAD_FILE, "the model file has a tensor of kind %u, layer %u, which no model has", t->kind,
                          t->layer);
    if (t->rows != rows || t->cols != cols)
        return kalm__fail(err, KALM_BAD_FILE, "tensor %s is %u x %u, the model's shape asks for %u x %u", name, t->rows,
                          t->cols, rows, cols);
    if (t->type >= KALM__TYPES || (what > KALM__T_DOWN && what != KALM__T_EMBED && t->type != KALM__F32) || t->rotated > 1)
        return kalm__fail(err, KALM_BAD_FILE, "tensor %s has type %u, rotation %u, which it cannot have", name, t->type,
                          t->rotated);
    if (t->size != kalm__tensor_bytes(t))
        return kalm__fail(err, KALM_BAD_FILE, "tensor %s has %U bytes, its shape asks for %U", name, t->size,
                          kalm__tensor_bytes(t));
    if (t->offset % 64 || t->offset < begin || t->offset > end || t->size > end - t->offset)
        return kalm__fail(err, KALM_BAD_FILE, "tensor %s lies at byte %U with %U bytes, the weights from %U to %U", name,
                          t->offset, t->size, begin, end);
    if (what <= KALM__T_DOWN && kalm__is_quantised(t->type) &&
        (t->scale % 64 || t->sum % 64 || t->scale < begin || t->sum < begin || t->scale > end || t->sum > end ||
         scales > end - t->scale || scales > end - t->sum))
        return kalm__fail(err, KALM_BAD_FILE, "the scales of tensor %s lie outside the weights", name);
    return KALM_OK;
}

/* Check every tensor and point to it. The caller has made room for the layers: f->stack[i].layers [f->stack[i].shape.layers]. */
KALM__FN kalm_result kalm__read_tensors(kalm__file *f, kalm_error *err)
{
    const kalm__section *s = &f->section[KALM__SECTION_TENSORS];
    uint64_t count = s->size / KALM__TENSOR_BYTES, i, last = 0;
    char name[32];
    int side;
    if (s->size % KALM__TENSOR_BYTES)
        return kalm__fail(err, KALM_BAD_FILE, "the TENSORS section has %U bytes, no multiple of %u", s->size,
                          KALM__TENSOR_BYTES);
    for (i = 0; i < count; i++) {
        kalm__tensor t;
        uint64_t order;
        kalm_result r;
        kalm__read_tensor(&t, s->data + i * KALM__TENSOR_BYTES);
        kalm__tensor_name(name, t.kind, t.layer);
        order = ((uint64_t)t.kind << 32 | t.layer) + 1;
        if (order <= last)
            return kalm__fail(err, KALM_BAD_FILE, "tensor %s comes twice or out of order", name);
        last = order;
        r = kalm__check_tensor(f, &t, name, err);
        if (r) return r;
        kalm__bind_tensor(f, &t);
    }
    for (side = 0; side < 2; side++) {
        kalm__stack *k = &f->stack[side];
        uint32_t layer, what;
        if (!k->shape.layers) continue;          /* a part that lacks this side */
        for (layer = 0; layer < k->shape.layers; layer++) {
            kalm__layer *l = &k->layers[layer];
            for (what = 0; what < KALM__T_LAYER_KINDS; what++)
                if (what <= KALM__T_DOWN ? !l->matrix[what].data : !l->norm[what])
                    return kalm__fail(err, KALM_BAD_FILE, "tensor %s is missing",
                                      kalm__tensor_name(name, KALM__KIND(side, what), layer));
            /* a row is packed once for q, k and v together, and once for gate and up */
            if (l->matrix[KALM__T_Q].type != l->matrix[KALM__T_K].type || l->matrix[KALM__T_Q].type != l->matrix[KALM__T_V].type ||
                l->rotated[KALM__T_Q] != l->rotated[KALM__T_K] || l->rotated[KALM__T_Q] != l->rotated[KALM__T_V] ||
                l->matrix[KALM__T_GATE].type != l->matrix[KALM__T_UP].type ||
                l->rotated[KALM__T_GATE] != l->rotated[KALM__T_UP])
                return kalm__fail(err, KALM_BAD_FILE, "layer %u of the %s mixes types or rotations among q, k, v or gate, up",
                                  layer, side ? "decoder" : "encoder");
            l->full = k->shape.full[layer];
        }
        /* document rows are packed once for k and v of all layers of the decoder */
        if (side == KALM__DECODER)
            for (layer = 1; layer < k->shape.layers; layer++)
                if (k->layers[layer].matrix[KALM__T_K].type != k->layers[0].matrix[KALM__T_K].type ||
                    k->layers[layer].rotated[KALM__T_K] != k->layers[0].rotated[KALM__T_K])
                    return kalm__fail(err, KALM_BAD_FILE, "layer %u of the decoder has keys of another type than layer 0", layer);
        if (!k->norm)
            return kalm__fail(err, KALM_BAD_FILE, "tensor %s is missing", kalm__tensor_name(name, KALM__KIND(side, KALM__T_NORM), 0));
    }
    if (!f->stack[KALM__ENCODER].embed && !(f->lacks & KALM__LACKS_ENCODER && f->stack[KALM__DECODER].embed))
        return kalm__fail(err, KALM_BAD_FILE, "tensor encoder.embed is missing");
    if (!f->head && !(f->lacks & KALM__LACKS_DECODER)) return kalm__fail(err, KALM_BAD_FILE, "tensor decoder.head is missing");
    if (!f->stack[KALM__DECODER].embed) {
        f->stack[KALM__DECODER].embed = f->stack[KALM__ENCODER].embed;
        f->stack[KALM__DECODER].embed_row = f->stack[KALM__ENCODER].embed_row;
        f->stack[KALM__DECODER].embed_type = f->stack[KALM__ENCODER].embed_type;
    }
    if (!f->stack[KALM__DECODER].eoi) f->stack[KALM__DECODER].eoi = f->stack[KALM__ENCODER].eoi;
    return KALM_OK;
}

/* The first half of opening a file: everything but the tensors, for whose layers the caller needs memory first. data must be
   aligned to 64 bytes and stay where it is. Costs no more than the small sections: weights are not read. */
KALM__FN kalm_result kalm__file_open(kalm__file *f, const void *data, size_t size, kalm_error *err)
{
    kalm_result r;
    int has[KALM__SECTION_KINDS], i;
    memset(f, 0, sizeof *f);
    f->data = (const unsigned char *)data;
    f->size = size;
#if KALM__BIG_ENDIAN
    return kalm__fail(err, KALM_BAD_FILE, "model files hold little-endian weights that are read in place; this machine is "
                      "big-endian");
#endif
    r = kalm__read_sections(f, err);
    if (r) return r;
    for (i = 0; i < KALM__SECTION_KINDS; i++) has[i] = f->section[i].data != NULL;
    f->has_model = has[KALM__SECTION_SHAPE];
    f->has_tokenizer = has[KALM__SECTION_TOKENIZER];
    if (has[KALM__SECTION_SHAPE] != has[KALM__SECTION_TENSORS] || has[KALM__SECTION_SHAPE] != has[KALM__SECTION_WEIGHTS])
        return kalm__fail(err, KALM_BAD_FILE, "the model file lacks one of SHAPE, TENSORS and WEIGHTS");
    if (!f->has_model && !f->has_tokenizer)
        return kalm__fail(err, KALM_BAD_FILE, "the file holds neither a model nor a tokenizer");
    if (kalm__table_fingerprint(f->data + KALM__HEADER_BYTES, kalm__u32(f->data + 12)) != f->fingerprint)
        return kalm__fail(err, KALM_BAD_FILE, "the model file's fingerprint does not match its sections");
    r = kalm__read_part(f, err);
    if (!r) r = kalm__read_strings(f, err);
    if (!r && f->has_tokenizer)
        r = kalm__tokenizer_open(&f->tokenizer, f->section[KALM__SECTION_TOKENIZER].data,
                                 (size_t)f->section[KALM__SECTION_TOKENIZER].size, err);
    if (!r && f->has_model) {
        r = kalm__read_shape(f, err);
        f->stack[0].shape = f->shape.side[0];
        f->stack[1].shape = f->shape.side[1];
        if (f->lacks & KALM__LACKS_ENCODER) f->stack[KALM__ENCODER].shape.layers = 0;
        if (f->lacks & KALM__LACKS_DECODER) f->stack[KALM__DECODER].shape.layers = 0;
    }
    if (!r && has[KALM__SECTION_ROWS]) {
        const kalm__section *s = &f->section[KALM__SECTION_ROWS];
        if (!f->has_model) return kalm__fail(err, KALM_BAD_FILE, "the model file has a section ROWS and no model");
        r = kalm__rowcode_open(&f->rows, s->data, s->size, s->checksum, f->shape.hidden_size, err);
    }
    return r;
}

/* Compare every section with its hash in the section table. Reads the whole file. */
KALM__FN kalm_result kalm__file_verify(const kalm__file *f, kalm_error *err)
{
    static const char *const names[KALM__SECTION_KINDS] = { "", "SHAPE", "STRINGS", "TENSORS", "TOKENIZER", "WEIGHTS", "ROWS" };
    int i;
    for (i = 1; i < KALM__SECTION_KINDS; i++) {
        const kalm__section *s = &f->section[i];
        if (s->data && kalm__hash(s->data, (size_t)s->size) != s->checksum)
            return kalm__fail(err, KALM_BAD_FILE, "section %s of the model file is damaged: its checksum does not match", names[i]);
    }
    return KALM_OK;
}

#endif
