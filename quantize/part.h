/* part.h - a part of a model file: one side of it (kalm-quantize --side), fewer tokens (--vocabulary), or both. Nothing is coded
   anew: every number that stays has the bytes that it had in the whole file, and so have documents and scores. */
#ifndef KALM__PART_H
#define KALM__PART_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/format.h"
#include "../src/modelfile.h"
#include "../src/model.h"
#include "../src/tools/progress.h"
#include "../src/tools/sink.h"
#include "container.h"
#include "plan.h"
#include "vocabulary.h"

/* One part on its way. */
typedef struct kalm__part_file {
    const char       *input, *name;    /* name: of the input, for messages */
    uint32_t          lacks;           /* KALM__LACKS_..., with what the input lacks already */
    kalm_model       *model;
    const kalm__file *f;               /* of the model */
    kalm__vocabulary  vocabulary;
    kalm__plan        p;               /* its items are the tensors that stay, in the order of the file */
    kalm__tensor     *old;             /* [p.count]: where each was; owned */
    kalm__out_section sections[KALM__SECTION_KINDS];
} kalm__part_file;

KALM__FN void kalm__part_end(kalm__part_file *t)
{
    size_t i;
    for (i = 0; i < KALM__SECTION_KINDS; i++) free(t->sections[i].data);
    kalm__vocabulary_end(&t->vocabulary);
    free(t->p.items);
    free(t->old);
    kalm_model_close(t->model);
}

/* Open the input and compare it with its checksums: what is damaged must not get new ones. */
KALM__FN kalm_result kalm__part_open(kalm__part_file *t, uint32_t lacks, kalm_error *err)
{
    kalm_result r = kalm_model_open(t->input, NULL, &t->model, err);
    if (!r) r = kalm_model_verify(t->model, err);
    if (r) return r;
    t->f = &t->model->file;
    if (!t->f->has_model) return kalm__fail(err, KALM_BAD_ARGUMENT, "%s holds a tokenizer alone, no model", t->name);
    t->lacks = t->f->lacks | lacks;
    if ((t->lacks & 3) == 3)
        return kalm__fail(err, KALM_BAD_ARGUMENT, "%s holds the %s alone: there is no %s to keep", t->name,
                          t->f->lacks & KALM__LACKS_ENCODER ? "decoder" : "encoder",
                          t->f->lacks & KALM__LACKS_ENCODER ? "encoder" : "decoder");
    return KALM_OK;
}

/* ---- tensors ------------------------------------------------------------------------------------------------------------- */

/* Does a tensor stay? decoders[what]: the decoder has one of its own. */
KALM__FN int kalm__part_keeps(const kalm__part_file *t, uint32_t kind, const unsigned char *decoders)
{
    uint32_t side = kind / 32, what = kind % 32;
    if (!(t->lacks & (side == KALM__ENCODER ? KALM__LACKS_ENCODER : KALM__LACKS_DECODER))) return 1;
    return side == KALM__ENCODER && (what == KALM__T_EMBED || what == KALM__T_EOI) && !decoders[what];
}

KALM__FN int kalm__part_order(const void *a, const void *b)
{
    const kalm__tensor *s = (const kalm__tensor *)a, *t = (const kalm__tensor *)b;
    return s->offset < t->offset ? -1 : s->offset > t->offset;
}

/* The tensors that stay and their new places, in the order that they had. */
KALM__FN kalm_result kalm__part_tensors(kalm__part_file *t, kalm_error *err)
{
    const kalm__section *s = &t->f->section[KALM__SECTION_TENSORS];
    size_t count = (size_t)(s->size / KALM__TENSOR_BYTES), i, k = 0;
    unsigned char decoders[32];
    uint64_t at = 0;
    memset(decoders, 0, sizeof decoders);
    t->old = (kalm__tensor *)calloc(count + 1, sizeof *t->old);
    t->p.items = (kalm__item *)calloc(count + 1, sizeof *t->p.items);
    if (!t->old || !t->p.items) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %z tensors", count);
    for (i = 0; i < count; i++) {
        kalm__read_tensor(&t->old[i], s->data + i * KALM__TENSOR_BYTES);
        if (t->old[i].kind / 32 == KALM__DECODER) decoders[t->old[i].kind % 32] = 1;
    }
    for (i = 0; i < count; i++)
        if (kalm__part_keeps(t, t->old[i].kind, decoders)) t->old[k++] = t->old[i];
    qsort(t->old, k, sizeof *t->old, kalm__part_order);
    t->p.count = k;
    for (i = 0; i < k; i++) {
        kalm__item *it = &t->p.items[i];
        it->t = t->old[i];
        it->t.offset = at;
        it->t.scale = it->t.sum = 0;
        if (it->t.kind % 32 == KALM__T_EMBED && t->vocabulary.begun) {
            it->t.rows = t->vocabulary.count;
            it->t.size = kalm__tensor_bytes(&it->t);
        }
        at += (it->t.size + 63) / 64 * 64;
        if (it->t.kind % 32 <= KALM__T_DOWN && kalm__is_quantised(it->t.type)) {
            uint64_t padded = (uint64_t)kalm__round_up(it->t.rows, KALM__PANEL) * 4;
            it->t.scale = at;
            it->t.sum = at + padded;
            at += 2 * padded;
        }
    }
    t->p.weights_bytes = at;
    return KALM_OK;
}

/* ---- the sections but WEIGHTS -------------------------------------------------------------------------------------------- */

KALM__FN kalm_result kalm__part_copy(kalm__out_section *to, const void *data, uint64_t size, kalm_error *err)
{
    to->size = size;
    to->data = (unsigned char *)malloc((size_t)size + 1);
    if (!to->data) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %U bytes", size);
    if (size) memcpy(to->data, data, (size_t)size);
    return KALM_OK;
}

KALM__FN kalm_result kalm__part_sections(kalm__part_file *t, kalm_error *err)
{
    kalm__shape shape = t->f->shape;
    uint32_t i;
    kalm_result r;
    if (t->vocabulary.begun) {
        shape.vocabulary = t->vocabulary.count;
        shape.yes_id = kalm__vocabulary_id(&t->vocabulary, shape.yes_id);
        shape.no_id = kalm__vocabulary_id(&t->vocabulary, shape.no_id);
        shape.eoi_id = kalm__vocabulary_id(&t->vocabulary, shape.eoi_id);
    }
    r = kalm__out_section_shape(&t->sections[KALM__SECTION_SHAPE], &shape, err);
    for (i = 1; i < KALM__SECTION_KINDS && !r; i++) {
        const kalm__section *s = &t->f->section[i];
        if (!s->data || i == KALM__SECTION_SHAPE || i == KALM__SECTION_TENSORS || i == KALM__SECTION_WEIGHTS) continue;
        if (i == KALM__SECTION_TOKENIZER && t->vocabulary.begun)
            r = kalm__part_copy(&t->sections[i], t->vocabulary.blob, t->vocabulary.blob_size, err);
        else r = kalm__part_copy(&t->sections[i], s->data, s->size, err);
    }
    return r;
}

/* ---- writing --------------------------------------------------------------------------------------------------------------- */

/* Bytes on their way into the file through a buffer, which is hashed as it goes out. */
typedef struct kalm__pourer {
    kalm__sink     sink;
    kalm__hasher   hash;
    uint64_t       at;                 /* in the file */
    unsigned char *buffer;
    size_t         filled;
    kalm_result    result;
} kalm__pourer;

enum { KALM__POUR_BYTES = 1 << 20 };   /* a multiple of 64, so that the hash is that of one piece */

KALM__FN void kalm__pour_out(kalm__pourer *w, kalm_error *err)
{
    if (w->result || !w->filled) return;
    if (kalm__interrupted) w->result = kalm__fail(err, KALM_CANCELLED, "interrupted");
    else w->result = kalm__sink_write(&w->sink, w->at, w->buffer, w->filled, err);
    kalm__hash_add(&w->hash, w->buffer, w->filled);
    w->at += w->filled;
    w->filled = 0;
}

KALM__FN void kalm__pour(kalm__pourer *w, const void *data, uint64_t size, kalm_error *err)
{
    const unsigned char *p = (const unsigned char *)data;
    while (size && !w->result) {
        size_t n = (size_t)(size < KALM__POUR_BYTES - w->filled ? size : KALM__POUR_BYTES - w->filled);
        memcpy(w->buffer + w->filled, p, n);
        w->filled += n;
        p += n;
        size -= n;
        if (w->filled == KALM__POUR_BYTES) kalm__pour_out(w, err);
    }
}

/* The bytes of one tensor: its data, zeros up to a multiple of 64, then scales and sums where it has them. */
KALM__FN void kalm__pour_tensor(kalm__pourer *w, const kalm__part_file *t, size_t i, kalm_error *err)
{
    static const unsigned char zeros[64] = { 0 };
    const kalm__tensor *old = &t->old[i], *now = &t->p.items[i].t;
    const unsigned char *data = t->f->data;
    uint64_t padded = (uint64_t)kalm__round_up(now->rows, KALM__PANEL) * 4;
    size_t row, k;
    if (now->kind % 32 == KALM__T_EMBED && t->vocabulary.begun) {
        row = kalm__embedding_row_bytes(now->type, now->cols);
        for (k = 0; k < t->vocabulary.count; k++) kalm__pour(w, data + old->offset + (uint64_t)t->vocabulary.rows[k] * row, row, err);
    } else kalm__pour(w, data + old->offset, now->size, err);
    kalm__pour(w, zeros, (64 - now->size % 64) % 64, err);
    if (!now->scale) return;
    kalm__pour(w, data + old->scale, padded, err);
    kalm__pour(w, data + old->sum, padded, err);
}

/* All sections in their places, and what goes before them. */
KALM__FN kalm_result kalm__part_fill(kalm__part_file *t, kalm__pourer *w, uint32_t count, uint64_t file_size, cmd_progress *show,
                                     kalm_error *err)
{
    static const unsigned char zeros[64] = { 0 };
    kalm__out_section *s = t->sections, *weights = &s[KALM__SECTION_WEIGHTS];
    unsigned char *front;
    uint64_t end;
    size_t i;
    kalm_result r;
    show->total = weights->size;
    w->at = weights->offset;
    kalm__hash_begin(&w->hash);
    for (i = 0; i < t->p.count && !w->result; i++) {
        kalm__pour_tensor(w, t, i, err);
        show->done = w->at - weights->offset;
        cmd_progress_bytes(show, "copying");
    }
    kalm__pour_out(w, err);
    r = w->result;
    if (r) return r;
    weights->hash = kalm__hash_end(&w->hash);
    r = kalm__out_section_tensors(&s[KALM__SECTION_TENSORS], &t->p, weights->offset, err);
    front = (unsigned char *)calloc(1, (size_t)weights->offset);
    if (!r && !front) r = kalm__fail(err, KALM_NO_MEMORY, "no memory for the header and what follows it");
    if (!r) {
        kalm__out_section_front(s, count, file_size, t->f->fingerprint, t->lacks, front);
        r = kalm__sink_write(&w->sink, 0, front, (size_t)weights->offset, err);
    }
    free(front);
    for (end = w->at;;) {              /* what lies behind the weights, in its order */
        const kalm__out_section *next = NULL;
        for (i = 1; i < KALM__SECTION_KINDS; i++)
            if (s[i].data && s[i].offset >= end && s[i].offset > weights->offset && (!next || s[i].offset < next->offset)) next = &s[i];
        if (!next || r) return r;
        r = kalm__sink_write(&w->sink, end, zeros, (size_t)(next->offset - end), err);
        if (!r) r = kalm__sink_write(&w->sink, next->offset, next->data, (size_t)next->size, err);
        end = next->offset + next->size;
    }
}

/* The file `output`; *file_size is what it takes. */
KALM__FN kalm_result kalm__part_write(kalm__part_file *t, const char *output, cmd_progress *show, uint64_t *file_size, kalm_error *err)
{
    kalm__pourer w;
    kalm_model *model;
    uint32_t count;
    uint64_t room;
    kalm_result r;
    memset(&w, 0, sizeof w);
    w.sink.fd = -1;
    t->sections[KALM__SECTION_TENSORS].size = (uint64_t)t->p.count * KALM__TENSOR_BYTES;
    t->sections[KALM__SECTION_WEIGHTS].size = t->p.weights_bytes;
    *file_size = kalm__out_section_places(t->sections, &count);
    w.buffer = (unsigned char *)malloc(KALM__POUR_BYTES);
    if (!w.buffer) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %u bytes", (unsigned)KALM__POUR_BYTES);
    r = kalm__sink_open(&w.sink, output, err);
    room = r ? 0 : kalm__free_space(&w.sink);
    if (!r && *file_size > room)
        r = kalm__fail(err, KALM_CANNOT_READ, "%s needs %U MB, the disk has %U MB left", kalm__shown(output),
                       *file_size / 1000000 + 1, room / 1000000);
    if (!r) r = kalm__part_fill(t, &w, count, *file_size, show, err);
    if (!r && kalm__interrupted) r = kalm__fail(err, KALM_CANCELLED, "interrupted");
    if (!r) r = kalm__sink_close(&w.sink, err);
    if (!r) {                          /* what the library will not open must not get the name */
        r = kalm_model_open(w.sink.temporary, NULL, &model, err);
        if (!r) kalm_model_close(model);
    }
    if (!r) r = kalm__sink_finish(&w.sink, err);
    if (r) kalm__sink_abandon(&w.sink);
    free(w.buffer);
    return r;
}

/* From the model file t->input the file `output` that lacks what t->lacks says; vocabulary, held_out and tokens: see
   kalm__vocabulary_cut, NULL where all tokens stay. kalm__part_end is due even after a failure. */
KALM__FN kalm_result kalm__part_make(kalm__part_file *t, const char *vocabulary, const char *held_out, uint32_t tokens,
                                     const char *output, cmd_progress *show, uint64_t *file_size, kalm_error *err)
{
    kalm_result r = kalm__part_open(t, t->lacks | (vocabulary ? (uint32_t)KALM__LACKS_TOKENS : 0u), err);
    if (!r && vocabulary) {
        cmd_progress_stage(show, "vocabulary");
        r = kalm__vocabulary_cut(&t->vocabulary, t->f, vocabulary, held_out, tokens, t->name, err);
    }
    if (!r) r = kalm__part_tensors(t, err);
    if (!r) r = kalm__part_sections(t, err);
    if (!r) cmd_progress_stage(show, "copying");
    return r ? r : kalm__part_write(t, output, show, file_size, err);
}

#endif
