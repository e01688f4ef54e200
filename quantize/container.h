/* container.h - writes the model file around its tensors: the small sections, the header, the section table and the hashes. The
   file has a temporary name (sink.h) until the library has opened the result. */
#ifndef KALM__CONTAINER_H
#define KALM__CONTAINER_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/format.h"
#include "../src/modelfile.h"
#include "../src/tools/json.h"
#include "../src/tools/messages.h"
#include "plan.h"
#include "rows.h"
#include "../src/tools/progress.h"
#include "../src/tools/sink.h"
#include "stream.h"

/* A section of the file to be. */
typedef struct kalm__out_section {
    uint64_t       offset, size, hash;
    unsigned char *data;               /* owned; NULL: there is none, or it is WEIGHTS, which is never in memory as a whole */
} kalm__out_section;

KALM__FN kalm_result kalm__out_section_shape(kalm__out_section *s, const kalm__shape *m, kalm_error *err)
{
    unsigned char *p;
    unsigned side;
    s->size = KALM__SHAPE_BYTES + 2 * KALM__SIDE_BYTES + m->side[0].layers + m->side[1].layers;
    p = s->data = (unsigned char *)malloc((size_t)s->size);
    if (!p) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %U bytes", s->size);
#define KALM__PUT_u32(value) kalm__put_u32(p, value)
#define KALM__PUT_f32(value) kalm__put_f32(p, value)
#define KALM__PUT(type, name) KALM__PUT_##type(m->name), p += 4;
    KALM__SHAPE_FIELDS(KALM__PUT)
#undef KALM__PUT
#define KALM__PUT(type, name) KALM__PUT_##type(m->side[side].name), p += 4;
    for (side = 0; side < 2; side++) { KALM__SIDE_FIELDS(KALM__PUT) }
#undef KALM__PUT
    for (side = 0; side < 2; side++) {
        memcpy(p, m->side[side].full, m->side[side].layers);
        p += m->side[side].layers;
    }
    return KALM_OK;
}

KALM__FN kalm_result kalm__out_section_strings(kalm__out_section *s, const char *const *strings, kalm_error *err)
{
    size_t i, at = (size_t)KALM__STRINGS * 8, n;
    for (i = 0; i < KALM__STRINGS; i++) {
        const unsigned char *c = (const unsigned char *)strings[i];
        for (n = strlen(strings[i]); n;) {
            size_t k = kalm__json_utf8(c, n);
            if (!k) return kalm__fail(err, KALM_BAD_ARGUMENT, "the text %q is not UTF-8", strings[i], strlen(strings[i]));
            c += k;
            n -= k;
        }
        at += strlen(strings[i]);
    }
    s->size = at;
    s->data = (unsigned char *)malloc(at);
    if (!s->data) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %z bytes", at);
    at = (size_t)KALM__STRINGS * 8;
    for (i = 0; i < KALM__STRINGS; i++) {
        n = strlen(strings[i]);
        kalm__put_u32(s->data + 8 * i, (uint32_t)at);
        kalm__put_u32(s->data + 8 * i + 4, (uint32_t)n);
        memcpy(s->data + at, strings[i], n);
        at += n;
    }
    return KALM_OK;
}

KALM__FN int kalm__tensor_order(const void *a, const void *b)
{
    const kalm__tensor *s = (const kalm__tensor *)a, *t = (const kalm__tensor *)b;
    if (s->kind != t->kind) return s->kind < t->kind ? -1 : 1;
    return s->layer < t->layer ? -1 : s->layer > t->layer;
}

/* weights_at: where the section of the weights begins in the file. */
KALM__FN kalm_result kalm__out_section_tensors(kalm__out_section *s, const kalm__plan *p, uint64_t weights_at,
                                           kalm_error *err)
{
    kalm__tensor *sorted = (kalm__tensor *)malloc(p->count * sizeof *sorted);
    size_t i;
    s->data = (unsigned char *)calloc(p->count, KALM__TENSOR_BYTES);
    if (!s->data || !sorted) {
        free(sorted);
        return kalm__fail(err, KALM_NO_MEMORY, "no memory for %z tensors", p->count);
    }
    for (i = 0; i < p->count; i++) sorted[i] = p->items[i].t;
    qsort(sorted, p->count, sizeof *sorted, kalm__tensor_order);
    for (i = 0; i < p->count; i++) {
        const kalm__tensor *t = &sorted[i];
        unsigned char *at = s->data + i * KALM__TENSOR_BYTES;
        kalm__put_u32(at, t->kind);
        kalm__put_u32(at + 4, t->layer);
        kalm__put_u32(at + 8, t->type);
        kalm__put_u32(at + 12, t->rotated);
        kalm__put_u32(at + 16, t->rows);
        kalm__put_u32(at + 20, t->cols);
        kalm__put_u64(at + 24, weights_at + t->offset);
        kalm__put_u64(at + 32, t->size);
        kalm__put_u64(at + 40, t->scale ? weights_at + t->scale : 0);
        kalm__put_u64(at + 48, t->sum ? weights_at + t->sum : 0);
        kalm__put_f32(at + 56, t->error);
    }
    free(sorted);
    return KALM_OK;
}

/* Give every section its place. Returns the size of the file. The prompt's texts and ROWS come last, so that no other section's offset,
   and so not the fingerprint, depends on them. */
KALM__FN uint64_t kalm__out_section_places(kalm__out_section *sections, uint32_t *count)
{
    static const int order[6] = { KALM__SECTION_SHAPE, KALM__SECTION_TENSORS, KALM__SECTION_TOKENIZER,
                                  KALM__SECTION_WEIGHTS, KALM__SECTION_STRINGS, KALM__SECTION_ROWS };
    uint64_t size;
    unsigned i;
    for (*count = 0, i = 1; i < KALM__SECTION_KINDS; i++) *count += sections[i].size > 0;
    size = KALM__HEADER_BYTES + (*count + !sections[KALM__SECTION_ROWS].size) * KALM__SECTION_BYTES;    /* room for its entry */
    for (i = 0; i < 6; i++) {
        kalm__out_section *one = &sections[order[i]];
        uint64_t step = order[i] == KALM__SECTION_WEIGHTS ? 4096 : 64;
        if (!one->size) continue;
        one->offset = (size + step - 1) / step * step;
        size = one->offset + one->size;
    }
    return size;
}

/* Write all that lies before the weights into `front`, which holds zeros. whole, lacks: of a part of a model (format.h), else 0. */
KALM__FN void kalm__out_section_front(kalm__out_section *sections, uint32_t count, uint64_t file_size, uint64_t whole,
                                      uint32_t lacks, unsigned char *front)
{
    unsigned char *at = front + KALM__HEADER_BYTES;
    unsigned i;
    for (i = 1; i < KALM__SECTION_KINDS; i++) {
        kalm__out_section *c = &sections[i];
        if (!c->size) continue;
        if (c->data) c->hash = kalm__hash(c->data, (size_t)c->size);
        if (c->data && c->offset < sections[KALM__SECTION_WEIGHTS].offset) memcpy(front + c->offset, c->data, (size_t)c->size);
        kalm__put_u32(at, i);
        kalm__put_u64(at + 8, c->offset);
        kalm__put_u64(at + 16, c->size);
        kalm__put_u64(at + 24, c->hash);
        at += KALM__SECTION_BYTES;
    }
    memcpy(front, KALM__MAGIC, 8);
    kalm__put_u32(front + 8, KALM__FILE_VERSION);
    kalm__put_u32(front + 12, count);
    kalm__put_u64(front + 16, file_size);
    kalm__put_u64(front + 24, kalm__table_fingerprint(front + KALM__HEADER_BYTES, count));
    kalm__put_u64(front + 40, whole);
    kalm__put_u32(front + 48, lacks);
    kalm__put_u64(front + 32, kalm__hash(front, (size_t)(at - front)));
}

/* Add the section ROWS to a file that is whole without it: `front` [front_size] is all before the weights. Where the model's numbers
   overflow with harmless texts, or its rows are too narrow or wide, the file stays without it: *note then says why. */
KALM__FN kalm_result kalm__write_rows(kalm__out_section *sections, const kalm__texts *texts, const char *kernels, kalm__sink *sink,
                                      unsigned char *front, size_t front_size, unsigned threads, uint64_t *file_size, kalm_error *note,
                                      kalm_error *err)
{
    static const unsigned char zeros[64] = { 0 };
    kalm__out_section *rows = &sections[KALM__SECTION_ROWS];
    kalm__rows_fit f;
    uint64_t end = *file_size;
    uint32_t count;
    kalm_result r = kalm__rows_fit_file(&f, sink->temporary, texts, threads, kernels, err);
    if (r == KALM_OVERFLOW || r == KALM_BAD_FILE) {
        if (err) *note = *err;
        kalm__rows_end(&f);
        return KALM_OK;
    }
    if (!r) {
        rows->size = f.at.size;
        rows->data = f.section;
        *file_size = kalm__out_section_places(sections, &count);
        memset(front, 0, KALM__HEADER_BYTES + count * KALM__SECTION_BYTES);
        kalm__out_section_front(sections, count, *file_size, 0, 0, front);
        r = kalm__sink_write(sink, end, zeros, (size_t)(rows->offset - end), err);
        if (!r) r = kalm__sink_write(sink, rows->offset, rows->data, (size_t)rows->size, err);
        if (!r) r = kalm__sink_write(sink, 0, front, front_size, err);
        rows->data = NULL;
    }
    kalm__rows_end(&f);
    return r;
}

/* The whole file. sections: SHAPE, STRINGS and perhaps TOKENIZER are filled in; the caller frees their data and that of
   TENSORS. texts: see kalm__calibrate_begin; NULL where none are given. with_rows: whether to fit the section ROWS, for which
   `rows_texts` are used where they are given; *note says why it could not be. */
KALM__FN kalm_result kalm__write_file(kalm__plan *p, kalm__out_section *sections, kalm__calibration *texts, int with_rows,
                                      const kalm__texts *rows_texts, const char *output, unsigned threads, cmd_progress *show,
                                      uint64_t *file_size, kalm_error *note, kalm_error *err)
{
    static const unsigned char zeros[64] = { 0 };
    kalm__streamer *s = (kalm__streamer *)malloc(sizeof *s);
    kalm__out_section *weights = &sections[KALM__SECTION_WEIGHTS], *strings = &sections[KALM__SECTION_STRINGS];
    kalm__output w;
    unsigned char *front = NULL;
    uint32_t count;
    uint64_t room, needed;
    kalm_result r;
    if (!s) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the threads");
    memset(&w, 0, sizeof w);
    w.sink.fd = -1;
    sections[KALM__SECTION_TENSORS].size = (uint64_t)p->count * KALM__TENSOR_BYTES;
    weights->size = p->weights_bytes;
    kalm__no_error(note);
    if (with_rows && !kalm__rows_possible(p->c.shape.hidden_size, note)) with_rows = 0;
    if (with_rows) sections[KALM__SECTION_ROWS].size = kalm__rows_places(p->c.shape.hidden_size).size;
    needed = kalm__out_section_places(sections, &count);
    sections[KALM__SECTION_ROWS].size = 0;
    *file_size = kalm__out_section_places(sections, &count);
    r = kalm__streamer_begin(s, p, threads, err);
    if (!r && texts) r = kalm__calibrate_begin(texts, p, &s->crew, err);
    if (!r) r = kalm__sink_open(&w.sink, output, err);
    room = r ? 0 : kalm__free_space(&w.sink);
    if (!r && needed > room)
        r = kalm__fail(err, KALM_CANNOT_READ, "%s needs %U MB, the disk has %U MB left", kalm__shown(output),
                       needed / 1000000 + 1, room / 1000000);
    w.at = weights->offset;
    kalm__hash_begin(&w.hash);
    if (!r) r = kalm__stream(s, p, texts, &w, show, err);
    if (!r) {
        weights->hash = kalm__hash_end(&w.hash);
        r = kalm__out_section_tensors(&sections[KALM__SECTION_TENSORS], p, weights->offset, err);
    }
    if (!r && !(front = (unsigned char *)calloc(1, (size_t)weights->offset)))
        r = kalm__fail(err, KALM_NO_MEMORY, "no memory for the header and what follows it");
    if (!r) {
        kalm__out_section_front(sections, count, *file_size, 0, 0, front);
        r = kalm__sink_write(&w.sink, 0, front, (size_t)weights->offset, err);
    }
    if (!r) r = kalm__sink_write(&w.sink, w.at, zeros, (size_t)(strings->offset - w.at), err);
    if (!r) r = kalm__sink_write(&w.sink, strings->offset, strings->data, (size_t)strings->size, err);
    if (!r && with_rows) {
        cmd_progress_stage(show, "rows of 4, 3 and 2 bits");
        r = kalm__write_rows(sections, rows_texts, cmd_kernels(), &w.sink, front, (size_t)weights->offset, threads,
                             file_size, note, err);
    }
    if (!r && kalm__interrupted) r = kalm__fail(err, KALM_CANCELLED, "interrupted");
    if (!r) r = kalm__sink_close(&w.sink, err);
    if (!r) {                          /* what the library will not open must not get the name */
        kalm_model *model;
        r = kalm_model_open(w.sink.temporary, NULL, &model, err);
        if (!r) kalm_model_close(model);
    }
    if (!r) r = kalm__sink_finish(&w.sink, err);
    if (r) kalm__sink_abandon(&w.sink);
    kalm__streamer_end(s);
    free(s);
    free(front);
    return r;
}

#endif
