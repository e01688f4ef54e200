/* server_json.h - JSON that strangers send, read by jansson: bounded before it is parsed, parsed into memory of the job's own, and
   members taken by name and type. */
#ifndef KALM_SERVER_JSON_H
#define KALM_SERVER_JSON_H

#include "server_job.h"

/* The four digits of \uXXXX at `s` (6 bytes are there), or 0. */
KALM__FN unsigned json__escape_value(const char *s)
{
    unsigned v = 0;
    int i;
    if (s[0] != '\\' || s[1] != 'u') return 0;
    for (i = 2; i < 6; i++) {
        char c = s[i];
        if (c >= '0' && c <= '9') v = v * 16 + (unsigned)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f') v = v * 16 + (unsigned)((c | 32) - 'a' + 10);
        else return 0;
    }
    return v;
}

/* A look over JSON before it is parsed. Returns how many values it has at most, which bounds the memory that parsing takes:
   jansson uses 100 bytes and more for an array that is two bytes long. Halves of surrogate pairs, which JavaScript and Python
   write as "\ud83d" where a text was cut within an emoji, become U+FFFD in place, as browsers and the library have it;
   jansson would refuse the whole request. */
KALM__FN size_t json_tidy(char *s, size_t size)
{
    size_t i = 0, values = 1;
    int quoted = 0;
    while (i < size) {
        char c = s[i];
        if (!quoted) {
            values += c == ',' || c == '[' || c == '{' || c == ':';
            quoted = c == '"';
            i++;
        } else if (c == '\\') {
            unsigned v = size - i >= 6 ? json__escape_value(s + i) : 0;
            if (v >= 0xd800 && v < 0xdc00 && size - i >= 12) {
                unsigned low = json__escape_value(s + i + 6);
                if (low >= 0xdc00 && low < 0xe000) {
                    i += 12;
                    continue;
                }
            }
            if (v >= 0xd800 && v < 0xe000) memcpy(s + i + 2, "fffd", 4);
            i += v ? 6 : 2;
        } else {
            quoted = c != '"';
            i++;
        }
    }
    return values;
}

/* ---- parsing ----------------------------------------------------------------------------------------------------- */

/* While jansson (2.14 and before) reads a string it does not look whether its buffer could grow. Where memory runs out there, a byte
   of the string is missing; where that byte is the closing quote, jansson reads and writes beyond its memory. So a request is
   parsed in an arena (json_block, server_job.h), and the first block that there is no memory for ends the parser at once. */

enum { JSON_BLOCK = 8192, JSON_BLOCK_MOST = 1 << 20, JSON_ALIGN = 16 };

typedef struct json_parser {
    json_block *blocks;                /* the newest first */
    jmp_buf     out;                   /* where no memory leads */
} json_parser;

static pthread_once_t json__once = PTHREAD_ONCE_INIT;
static pthread_key_t  json__key;       /* the json_parser that runs on this thread, or NULL */
static int            json__has_key;

/* jansson's allocator: of a parser that runs, its arena; else malloc. */
KALM__FN void *json__take(size_t size)
{
    json_parser *p = (json_parser *)pthread_getspecific(json__key);
    json_block *b;
    size_t head = kalm__round_up(sizeof *b, JSON_ALIGN), room;
    if (!p) return malloc(size);
    size = kalm__round_up(size, JSON_ALIGN);
    b = p->blocks;
    if (!b || size > b->room - b->used) {
        room = b ? kalm__min(2 * b->room, JSON_BLOCK_MOST) : JSON_BLOCK;
        room = kalm__max(room, size);
        b = size < SIZE_MAX / 2 ? (json_block *)malloc(head + room) : NULL;
        if (!b) longjmp(p->out, 1);
        b->before = p->blocks;
        b->used = 0;
        b->room = room;
        p->blocks = b;
    }
    b->used += size;
    return (char *)b + head + (b->used - size);
}

KALM__FN void json__give(void *memory)
{
    if (!pthread_getspecific(json__key)) free(memory);
}

KALM__FN void json__begin(void)
{
    json__has_key = !pthread_key_create(&json__key, NULL);
    if (json__has_key) json_set_alloc_funcs(json__take, json__give);
}

/* Before the first thread uses jansson. 0: the system has no room for it. */
KALM__FN int json_ready(void)
{
    pthread_once(&json__once, json__begin);
    return json__has_key;
}

KALM__FN json_t *json__run(json_parser *p, const char *text, size_t size, json_error_t *err)
{
    if (setjmp(p->out)) return NULL;
    return json_loadb(text, size, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, err);
}

/* The value of a request's body, which lives as long as *blocks: json_blocks_end, not json_decref. NULL: it is no JSON, and err says
   why; or there is no memory, and err->text is empty. */
KALM__FN json_t *json_parse(const char *text, size_t size, json_block **blocks, json_error_t *err)
{
    json_parser p;
    json_t *v;
    *blocks = NULL;
    p.blocks = NULL;
    err->text[0] = 0;
    if (!json_ready() || pthread_setspecific(json__key, &p)) return NULL;
    v = json__run(&p, text, size, err);
    pthread_setspecific(json__key, NULL);
    *blocks = p.blocks;                /* of what was not finished, too */
    return v;
}

/* ---- members ----------------------------------------------------------------------------------------------------- */

/* The member `name` of an object: also as JavaScript's clients write it, where some forget to translate (cohere-ai 8.1.0 sends
   maxTokensPerDoc to /v1/rerank). NULL where it is missing or null. */
KALM__FN json_t *json_member(const json_t *object, const char *name)
{
    char camel[40];
    size_t n = 0;
    json_t *v = json_object_get(object, name);
    if (!v) {
        for (; *name && n + 1 < sizeof camel; name++) {
            if (*name == '_' && name[1] >= 'a' && name[1] <= 'z') camel[n++] = (char)(*++name - 'a' + 'A');
            else camel[n++] = *name;
        }
        camel[n] = 0;
        v = json_object_get(object, camel);
    }
    return json_is_null(v) ? NULL : v;
}

KALM__FN kalm_text json_string_text(const json_t *v)
{
    kalm_text t;
    t.data = json_string_value(v);
    t.size = json_string_length(v);
    return t;
}

/* The following leave *to as it is where the member is missing, and fail the job where it is of another kind; 0: failed. */

KALM__FN int json_take_text(job *j, const char *name, kalm_text *to)
{
    json_t *v = json_member(j->body, name);
    if (!v) return 1;
    if (!json_is_string(v)) return job_fail(j, 400, "%s must be a string", name);
    *to = json_string_text(v);
    return 1;
}

KALM__FN int json_take_flag(job *j, const char *name, int *to)
{
    json_t *v = json_member(j->body, name);
    if (!v) return 1;
    if (!json_is_boolean(v)) return job_fail(j, 400, "%s must be true or false", name);
    *to = json_is_true(v);
    return 1;
}

/* A whole number from least to most; 3.0 is one. */
KALM__FN int json_take_number(job *j, const char *name, json_int_t least, json_int_t most, json_int_t *to)
{
    json_t *v = json_member(j->body, name);
    json_int_t n;
    if (!v) return 1;
    if (json_is_real(v) && json_real_value(v) >= -9e15 && json_real_value(v) <= 9e15) {
        n = (json_int_t)json_real_value(v);
        if ((double)n < json_real_value(v) || (double)n > json_real_value(v)) n = least - 1;
    } else if (json_is_integer(v)) n = json_integer_value(v);
    else n = least - 1;
    if (n < least || n > most)
        return job_fail(j, 400, "%s must be a whole number from %lld to %lld", name, (long long)least, (long long)most);
    *to = n;
    return 1;
}

KALM__FN int json_take_real(job *j, const char *name, double least, double most, double *to)
{
    json_t *v = json_member(j->body, name);
    double d;
    if (!v) return 1;
    d = json_number_value(v);
    if (!json_is_number(v) || !(d >= least && d <= most))
        return job_fail(j, 400, "%s must be a number from %g to %g", name, least, most);
    *to = d;
    return 1;
}

#endif
