/* json_out.h - how every command prints JSON: values one after the other, the commas and quotes are put here. What comes out
   is always valid: ill-formed UTF-8 becomes U+FFFD, control characters are escaped, and a number that is not finite, which
   JSON does not have, becomes null.

       json_out j;
       json_begin(&j, stdout);
       json_open(&j, '{');
       json_key(&j, "query"); json_text(&j, query);
       json_key(&j, "results"); json_open(&j, '[');
       for (...) { json_newline(&j); json_open(&j, '{'); ... json_close(&j); }      -- an element on a line of its own
       json_newline(&j);
       json_close(&j);
       json_close(&j);

   Into memory instead of a file: json_begin_memory. */
#ifndef KALM_JSON_OUT_H
#define KALM_JSON_OUT_H

#include "../base.h"
#include "json.h"
#include "memory_out.h"
#include <stdio.h>

enum { JSON_OUT_DEPTH = 16 };

typedef struct json_out {
    FILE *f;                           /* NULL: memory */
    memory_out *memory;
    int   depth, keyed, broken;        /* keyed: a key was written, its value is next; broken: a newline is next */
    char  open[JSON_OUT_DEPTH];        /* '{' or '[' */
    char  some[JSON_OUT_DEPTH];        /* has it an element? */
} json_out;

KALM__FN void json_begin(json_out *j, FILE *f)
{
    memset(j, 0, sizeof *j);
    j->f = f;
}

KALM__FN void json_begin_memory(json_out *j, memory_out *memory)
{
    memset(j, 0, sizeof *j);
    j->memory = memory;
}

KALM__FN void json__write(json_out *j, const char *s, size_t n)
{
    if (j->memory) memory_out_put(j->memory, s, n);
    else fwrite(s, 1, n, j->f);
}

KALM__FN void json__words(json_out *j, const char *s) { json__write(j, s, strlen(s)); }

/* What comes next stands on a line of its own, indented by two spaces for each bracket but the outermost. */
KALM__FN void json_newline(json_out *j) { j->broken = 1; }

/* Before a key or a value: the comma, the space or the newline. */
KALM__FN void json__before(json_out *j, int closing)
{
    int i;
    if (j->keyed) {
        j->keyed = 0;
        return;
    }
    if (j->depth && j->some[j->depth - 1] && !closing) json__words(j, j->broken ? "," : ", ");
    if (j->broken) {
        json__words(j, "\n");
        for (i = closing ? 2 : 1; i < j->depth; i++) json__words(j, "  ");
    }
    if (j->depth) j->some[j->depth - 1] = 1;
    j->broken = 0;
}

/* A string with its quotes; see the top for ill-formed bytes. */
KALM__FN void json__string(json_out *j, kalm_text t)
{
    size_t i, n;
    json__words(j, "\"");
    for (i = 0; i < t.size; i += n) {
        char out[8];
        n = kalm__json_utf8((const unsigned char *)t.data + i, t.size - i);
        if (!n) {
            json__words(j, "\xef\xbf\xbd");
            n = 1;
        } else if (n > 1) json__write(j, t.data + i, n);
        else json__write(j, out, kalm__json_escape(t.data + i, 1, out));
    }
    json__words(j, "\"");
}

/* A string alone, with its quotes and nothing around it. */
KALM__FN void cmd_json(FILE *f, kalm_text t)
{
    json_out j;
    json_begin(&j, f);
    json__string(&j, t);
}

KALM__FN void json_open(json_out *j, char bracket)
{
    json__before(j, 0);
    json__write(j, &bracket, 1);
    KALM_ASSERT(j->depth < JSON_OUT_DEPTH);
    j->open[j->depth] = bracket;
    j->some[j->depth++] = 0;
}

KALM__FN void json_close(json_out *j)
{
    if (j->broken) json__before(j, 1);
    json__words(j, j->open[--j->depth] == '{' ? "}" : "]");
    if (!j->depth) json__words(j, "\n");
}

KALM__FN void json_text(json_out *j, kalm_text t)
{
    json__before(j, 0);
    json__string(j, t);
}

KALM__FN void json_key(json_out *j, const char *name)
{
    json_text(j, kalm__text(name));
    json__words(j, ": ");
    j->keyed = 1;
}

KALM__FN void json_uint(json_out *j, uint64_t v)
{
    char digits[24];
    json__before(j, 0);
    sprintf(digits, "%llu", (unsigned long long)v);
    json__words(j, digits);
}

/* With as many digits as tell apart all floats (9) or doubles (17), or fewer. */
KALM__FN void json_float(json_out *j, double v, int digits)
{
    char number[48];
    json__before(j, 0);
    if (v - v >= 0) snprintf(number, sizeof number, "%.*g", digits, v);        /* inf - inf is NaN, and no comparison with NaN holds */
    else strcpy(number, "null");
    json__words(j, number);
}

/* true, false or null as a word, or JSON that is already written. */
KALM__FN void json_raw(json_out *j, const char *s)
{
    json__before(j, 0);
    json__words(j, s);
}

KALM__FN void json_bool(json_out *j, int v) { json_raw(j, v ? "true" : "false"); }

#endif
