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
       json_close(&j); */
#ifndef KALM_JSON_OUT_H
#define KALM_JSON_OUT_H

#include "../base.h"
#include "json.h"
#include <stdio.h>

enum { JSON_OUT_DEPTH = 16 };

typedef struct json_out {
    FILE *f;
    int   depth, keyed, broken;        /* keyed: a key was written, its value is next; broken: a newline is next */
    char  open[JSON_OUT_DEPTH];        /* '{' or '[' */
    char  some[JSON_OUT_DEPTH];        /* has it an element? */
} json_out;

KALM__FN void json_begin(json_out *j, FILE *f)
{
    memset(j, 0, sizeof *j);
    j->f = f;
}

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
    if (j->depth && j->some[j->depth - 1] && !closing) fputs(j->broken ? "," : ", ", j->f);
    if (j->broken) {
        fputc('\n', j->f);
        for (i = closing ? 2 : 1; i < j->depth; i++) fputs("  ", j->f);
    }
    if (j->depth) j->some[j->depth - 1] = 1;
    j->broken = 0;
}

/* A string with its quotes and nothing around it; see the top for ill-formed bytes. */
KALM__FN void cmd_json(FILE *f, kalm_text t)
{
    size_t i, n;
    fputc('"', f);
    for (i = 0; i < t.size; i += n) {
        char out[8];
        n = kalm__json_utf8((const unsigned char *)t.data + i, t.size - i);
        if (!n) {
            fputs("\xef\xbf\xbd", f);
            n = 1;
        } else if (n > 1) fwrite(t.data + i, 1, n, f);
        else fwrite(out, 1, kalm__json_escape(t.data + i, 1, out), f);
    }
    fputc('"', f);
}

KALM__FN void json_open(json_out *j, char bracket)
{
    json__before(j, 0);
    fputc(bracket, j->f);
    KALM_ASSERT(j->depth < JSON_OUT_DEPTH);
    j->open[j->depth] = bracket;
    j->some[j->depth++] = 0;
}

KALM__FN void json_close(json_out *j)
{
    if (j->broken) json__before(j, 1);
    fputc(j->open[--j->depth] == '{' ? '}' : ']', j->f);
    if (!j->depth) fputc('\n', j->f);
}

KALM__FN void json_text(json_out *j, kalm_text t)
{
    json__before(j, 0);
    cmd_json(j->f, t);
}

KALM__FN void json_key(json_out *j, const char *name)
{
    json_text(j, kalm__text(name));
    fputs(": ", j->f);
    j->keyed = 1;
}

KALM__FN void json_uint(json_out *j, uint64_t v)
{
    json__before(j, 0);
    fprintf(j->f, "%llu", (unsigned long long)v);
}

/* With as many digits as tell apart all floats (9) or doubles (17), or fewer. */
KALM__FN void json_float(json_out *j, double v, int digits)
{
    json__before(j, 0);
    if (v - v >= 0) fprintf(j->f, "%.*g", digits, v);      /* inf - inf is NaN, and no comparison with NaN holds */
    else fputs("null", j->f);
}

/* true, false or null as a word, or JSON that is already written. */
KALM__FN void json_raw(json_out *j, const char *s)
{
    json__before(j, 0);
    fputs(s, j->f);
}

KALM__FN void json_bool(json_out *j, int v) { json_raw(j, v ? "true" : "false"); }

#endif
