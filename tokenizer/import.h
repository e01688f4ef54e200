/* import.h - from a published tokenizer to the blob of vocab.h. Reads tokenizer.json (Hugging Face, import_json.h) and
   tokenizer.model (SentencePiece, import_model.h), refuses what this library does not tokenise exactly, works out what the
   runtime must not have to work out (import_merges.h), and writes the tables (import_compile.h). For the converter and the
   tools; no part of kalm_rerank.h. Both files are bytes from strangers: every length is checked.

   MEMORY: about eight times the vocabulary's own bytes while it works, 130 MB for Gemma's tokenizer.json of 33 MB. */
#ifndef KALM__IMPORT_H
#define KALM__IMPORT_H

#include "import_compile.h"
#include "import_json.h"
#include "import_model.h"

/* The blob of a tokenizer.json or tokenizer.model, told apart by their first byte. *blob is from `alloc`, *blob_size bytes,
   and the caller's to release. `name` is for errors. */
KALM__FN kalm_result kalm__import_tokenizer(const char *name, const void *data, size_t size, const kalm_allocator *alloc,
                                            unsigned char **blob, size_t *blob_size, kalm_error *err)
{
    const char *text = size ? (const char *)data : "";       /* NULL has no place 0 to count from */
    kalm__import m;
    kalm__json j;
    kalm_error own;
    kalm_result r;
    size_t i = 0;
    if (!err) err = &own;
    kalm__no_error(err);
    *blob = NULL;
    *blob_size = 0;
    kalm__import_begin(&m, name, alloc, err);
    kalm__json_begin(&j, alloc);
    while (i < size && (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t')) i++;
    if (i < size && text[i] == '{' && (i == 0 || text[0] != '\n' || size < 2 || text[1] != '{')) {
        r = kalm__json_parse(&j, name, text, size, err);
        if (r == KALM_OK) r = kalm__import_json(&m, &j);
    } else r = kalm__import_model(&m, text, size);
    if (r == KALM_OK) r = kalm__import_compile(&m, blob, blob_size);
    kalm__json_end(&j);
    kalm__import_end(&m);
    return r;
}

#endif
