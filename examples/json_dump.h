/* json_dump.h - a value of jansson as text. json_dumps of jansson 2.14 and before loses a closing quote when its buffer cannot grow, and
   reports success; so the text is measured first, and written to memory that is there. Included behind jansson.h. No part of the library. */
#ifndef KALM_JSON_DUMP_H
#define KALM_JSON_DUMP_H

#include <stdlib.h>

/* v as compact JSON with a NUL behind it, any value; to be freed. NULL: there is no memory, or v is NULL. */
KALM__FN char *json_dump_text(const json_t *v)
{
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
    size_t size = v ? json_dumpb(v, NULL, 0, flags) : 0;
    char *text = size ? (char *)malloc(size + 1) : NULL;
    if (!text) return NULL;
    if (json_dumpb(v, text, size, flags) != size) {
        free(text);
        return NULL;
    }
    text[size] = 0;
    return text;
}

#endif
