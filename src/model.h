/* model.h - an open model: the file, its layers, its texts. It does not change once it is open, so any number of contexts
   share it. */
#ifndef KALM__MODEL_H
#define KALM__MODEL_H

#include "base.h"
#include "mapping.h"
#include "modelfile.h"

struct kalm_model {
    kalm_allocator alloc;
    kalm__mapping  mapping;            /* empty when the memory is the caller's */
    kalm__file     file;
    size_t         block;              /* bytes of this block: the struct, the layers, the name */
    char          *name;
};

KALM__FN kalm_result kalm__model_new(const void *data, size_t size, const kalm_config *config, const kalm__mapping *mapping,
                                     kalm_model **out, kalm_error *err)
{
    kalm__file file;
    kalm_allocator alloc;
    kalm_model *m;
    kalm__arena a;
    void *block;
    size_t bytes;
    int side;
    kalm_result r = kalm__take_allocator(config, &alloc, err);
    if (!r) r = kalm__file_open(&file, data, size, err);
    if (r) return r;
    bytes = kalm__round_up(sizeof *m, 64) + 64 + kalm__round_up(file.string[KALM__STRING_NAME].size + 1, 64);
    for (side = 0; side < 2; side++)
        bytes += kalm__round_up((size_t)file.stack[side].shape.layers * sizeof(kalm__layer), 64);
    block = kalm__alloc(&alloc, bytes);
    if (!block) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the %z bytes of an open model", bytes);
    memset(block, 0, bytes);
    m = (kalm_model *)block;
    m->alloc = alloc;
    m->block = bytes;
    a.base = kalm__align64((unsigned char *)block + sizeof *m);
    a.taken = 0;
    a.size = (size_t)((unsigned char *)block + bytes - a.base);
    for (side = 0; side < 2; side++)
        file.stack[side].layers = (kalm__layer *)kalm__take(&a, (size_t)file.stack[side].shape.layers * sizeof(kalm__layer));
    m->name = (char *)kalm__take(&a, file.string[KALM__STRING_NAME].size + 1);
    KALM_ASSERT(m->name);
    if (file.string[KALM__STRING_NAME].size)
        memcpy(m->name, file.string[KALM__STRING_NAME].data, file.string[KALM__STRING_NAME].size);
    m->file = file;
    r = file.has_model ? kalm__read_tensors(&m->file, err) : KALM_OK;
    if (r) {
        kalm__release(&alloc, block, bytes);
        return r;
    }
    if (mapping) m->mapping = *mapping;
    *out = m;
    return KALM_OK;
}

#endif
