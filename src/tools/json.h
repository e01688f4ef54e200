/* json.h - a strict JSON reader for the converter: config.json, tokenizer.json, safetensors headers, lines of JSONL.
   It is no writer and no part of the runtime; nothing here reaches kalm_rerank.h.

   A text becomes one flat array of nodes in the order of the text, so walking is adding and nothing recurses:

       [ 1, {"a": "b"} ]      node 0 ARRAY size 2, 1 NUMBER, 2 OBJECT size 1, 3 STRING a (key), 4 STRING b (value)

   Node 0 is the root. The first child of a container is the node after it, the next sibling of any node is
   `nodes[i].next`, a container's children end where `nodes[container].next` points. Members of an object are a key
   (always a STRING) and its value, alternately.

       kalm__json j;
       kalm__json_begin(&j, &allocator);
       if (kalm__json_parse(&j, "config.json", data, size, err) == KALM_OK) {
           uint32_t text = kalm__json_get(&j, 0, "text_config");             -- 0: no such member
           uint64_t heads;
           if (text && kalm__json_uint(&j, kalm__json_get(&j, text, "num_attention_heads"), &heads)) ...
       }
       kalm__json_end(&j);

   Strict: RFC 8259 and no more: UTF-8 must be well-formed, surrogate escapes must pair, one value and nothing after it,
   no comments, no trailing commas, no NaN. No object has two members of one name: Python would take the last, other readers the
   first, so nobody can know what is meant. Memory: 16 bytes a node (a number, a string, a bracket pair), and the
   unescaped form of strings that have escapes; the text itself is borrowed and must outlive the nodes. */
#ifndef KALM__JSON_H
#define KALM__JSON_H

#include "../base.h"
#include <stdlib.h>

enum {
    KALM__JSON_NONE,                   /* what kalm__json_type says of node 0xffffffff or of a missing member        */
    KALM__JSON_NULL, KALM__JSON_FALSE, KALM__JSON_TRUE, KALM__JSON_NUMBER, KALM__JSON_STRING, KALM__JSON_ARRAY,
    KALM__JSON_OBJECT,
    KALM__JSON_ESCAPED                 /* inside only: a string whose text is in the pool                            */
};

typedef struct kalm__json_node {
    uint32_t type;
    uint32_t at;                       /* offset in the text: of a string behind its quote, of anything else its first
                                          byte; of a KALM__JSON_ESCAPED string in the pool                            */
    uint32_t size;                     /* bytes of a string or number; elements of an array; members of an object    */
    uint32_t next;                     /* node behind this one and all it holds                                      */
} kalm__json_node;

typedef struct kalm__json {
    kalm_allocator   allocator;
    const char      *name;             /* of the file, for errors                                                    */
    const char      *text;
    size_t           size;
    kalm__json_node *nodes;
    size_t           count, capacity;
    char            *pool;             /* unescaped strings                                                          */
    size_t           pool_size, pool_capacity;
    int              repeats;          /* names may stand twice: the caller's choice, before a parse                 */
} kalm__json;

KALM__FN void kalm__json_begin(kalm__json *j, const kalm_allocator *allocator)
{
    memset(j, 0, sizeof *j);
    j->allocator = *allocator;
}

KALM__FN void kalm__json_end(kalm__json *j)
{
    kalm__release(&j->allocator, j->nodes, j->capacity * sizeof *j->nodes);
    kalm__release(&j->allocator, j->pool, j->pool_capacity);
    j->nodes = NULL, j->pool = NULL;
    j->count = j->capacity = j->pool_size = j->pool_capacity = 0;
}

/* "name:line:column: what", both from 1, the column in bytes. */
KALM__FN kalm_result kalm__json_fail(const kalm__json *j, size_t at, kalm_error *err, const char *what)
{
    size_t line = 1, start = 0, i;
    for (i = 0; i < at && i < j->size; i++)
        if (j->text[i] == '\n') {
            line++;
            start = i + 1;
        }
    return kalm__fail(err, KALM_BAD_FILE, "%s:%z:%z: %s", j->name, line, at - start + 1, what);
}

/* Where node i stands, for errors of the caller's own: strings with escapes are looked up by their neighbour. */
KALM__FN kalm_result kalm__json_fail_node(const kalm__json *j, uint32_t i, kalm_error *err, const char *what)
{
    while (i && (i >= j->count || j->nodes[i].type == KALM__JSON_ESCAPED)) i--;
    return kalm__json_fail(j, i < j->count ? j->nodes[i].at : 0, err, what);
}

KALM__FN int kalm__json_grow(kalm__json *j, void **block, size_t *capacity, size_t used, size_t more, size_t item)
{
    size_t wanted = kalm__max(kalm__add(used, more), kalm__add(*capacity, *capacity / 2));
    void *bigger = kalm__alloc(&j->allocator, kalm__mul(wanted, item));
    if (!bigger) return 0;
    if (used) memcpy(bigger, *block, used * item);
    kalm__release(&j->allocator, *block, *capacity * item);
    *block = bigger;
    *capacity = wanted;
    return 1;
}

KALM__FN int kalm__json_hex4(const char *p, uint32_t *value)
{
    int i;
    *value = 0;
    for (i = 0; i < 4; i++) {
        char c = p[i];
        uint32_t d = c >= '0' && c <= '9' ? (uint32_t)(c - '0') : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                   : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10) : 16u;
        if (d > 15) return 0;
        *value = *value << 4 | d;
    }
    return 1;
}

/* Length of the well-formed UTF-8 sequence at p, or 0. */
KALM__FN size_t kalm__json_utf8(const unsigned char *p, size_t room)
{
    unsigned c = p[0];
    if (c < 0x80) return 1;
    if (c < 0xc2 || c > 0xf4 || room < 2) return 0;
    if (c < 0xe0) return (p[1] & 0xc0) == 0x80 ? 2 : 0;
    if (p[1] < (c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80) || p[1] > (c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf)) return 0;
    if (room < 3 || (p[2] & 0xc0) != 0x80) return 0;
    if (c < 0xf0) return 3;
    return room >= 4 && (p[3] & 0xc0) == 0x80 ? 4 : 0;
}

/* The characters of a string from i on that stand for themselves; *end is the quote or backslash behind them. `quote` is where
   the string began, for the message when it never ends. */
KALM__FN kalm_result kalm__json_plain(const kalm__json *j, size_t quote, size_t i, size_t *end, kalm_error *err)
{
    const char *t = j->text;
    for (; i < j->size && t[i] != '"' && t[i] != '\\'; i++) {
        unsigned char c = (unsigned char)t[i];
        if (c < 32) return kalm__json_fail(j, i, err, "a control character stands unescaped in a string");
        if (c >= 0x80) {
            size_t n = kalm__json_utf8((const unsigned char *)t + i, j->size - i);
            if (!n) return kalm__json_fail(j, i, err, "a string is not well-formed UTF-8");
            i += n - 1;
        }
    }
    if (i >= j->size) return kalm__json_fail(j, quote, err, "a string has no closing quote");
    *end = i;
    return KALM_OK;
}

/* Code point c as UTF-8; returns its length. */
KALM__FN size_t kalm__json_put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800) return out[0] = (char)(0xc0 | c >> 6), out[1] = (char)(0x80 | (c & 63)), 2;
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12), out[1] = (char)(0x80 | (c >> 6 & 63)), out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18), out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63)), out[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* The escape whose backslash is at *at: its 1 to 4 bytes into out, *n of them; leaves *at behind it. */
KALM__FN kalm_result kalm__json_escape_at(const kalm__json *j, size_t *at, char *out, size_t *n, kalm_error *err)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *t = j->text, *found;
    size_t i = *at;
    uint32_t c, low;
    if (t[i + 1] != 'u') {
        found = t[i + 1] ? strchr(from, t[i + 1]) : NULL;
        if (!found) return kalm__json_fail(j, i, err, "a backslash stands before a character that is no escape");
        out[0] = to[found - from];
        *n = 1;
        *at = i + 2;
        return KALM_OK;
    }
    if (j->size - i < 6 || !kalm__json_hex4(t + i + 2, &c)) return kalm__json_fail(j, i, err, "\\u needs four hexadecimal digits");
    *at = i + 6;
    if (c >= 0xd800 && c < 0xe000) {   /* half of a pair */
        if (c >= 0xdc00 || j->size - i < 12 || t[i + 6] != '\\' || t[i + 7] != 'u' || !kalm__json_hex4(t + i + 8, &low)
            || low < 0xdc00 || low > 0xdfff)
            return kalm__json_fail(j, i, err, "an escaped surrogate has no partner");
        *at = i + 12;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    *n = kalm__json_put_utf8(out, c);
    return KALM_OK;
}

/* Bytes behind the unescaped strings; 0: no memory. */
KALM__FN int kalm__json_pool(kalm__json *j, const char *s, size_t n)
{
    if (j->pool_capacity - j->pool_size < n) {
        void *block = j->pool;
        if (!kalm__json_grow(j, &block, &j->pool_capacity, j->pool_size, n + 256, 1)) return 0;
        j->pool = (char *)block;
    }
    if (n) memcpy(j->pool + j->pool_size, s, n);
    j->pool_size += n;
    return 1;
}

/* The string whose opening quote is at *at; leaves *at behind the closing one. Without an escape it stays where it is, else
   its characters go to the pool. */
KALM__FN kalm_result kalm__json_string_at(kalm__json *j, size_t *at, kalm__json_node *node, kalm_error *err)
{
    size_t start = *at + 1, i;
    kalm_result r = kalm__json_plain(j, *at, start, &i, err);
    if (r) return r;
    node->type = KALM__JSON_STRING;
    node->at = (uint32_t)start;
    node->size = (uint32_t)(i - start);
    if (j->text[i] == '"') {
        *at = i + 1;
        return KALM_OK;
    }
    node->type = KALM__JSON_ESCAPED;
    node->at = (uint32_t)j->pool_size;
    for (;;) {                         /* i is at a backslash or quote; what is before `start` is in the pool */
        char out[4];
        size_t n = 0;
        if (!kalm__json_pool(j, j->text + start, i - start))
            return kalm__fail(err, KALM_NO_MEMORY, "no memory for the strings of %s", j->name);
        if (j->text[i] == '"') break;
        if (i + 1 >= j->size) return kalm__json_fail(j, *at, err, "a string has no closing quote");
        r = kalm__json_escape_at(j, &i, out, &n, err);
        if (r) return r;
        if (!kalm__json_pool(j, out, n)) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the strings of %s", j->name);
        start = i;
        r = kalm__json_plain(j, *at, start, &i, err);
        if (r) return r;
    }
    node->size = (uint32_t)(j->pool_size - node->at);
    *at = i + 1;
    return KALM_OK;
}

KALM__FN size_t kalm__json_digits(const kalm__json *j, size_t i)
{
    size_t n = 0;
    while (i + n < j->size && j->text[i + n] >= '0' && j->text[i + n] <= '9') n++;
    return n;
}

KALM__FN kalm_result kalm__json_number_at(kalm__json *j, size_t *at, kalm__json_node *node, kalm_error *err)
{
    const char *t = j->text;
    size_t i = *at, n;
    if (t[i] == '-') i++;
    n = kalm__json_digits(j, i);
    if (!n || (n > 1 && t[i] == '0')) return kalm__json_fail(j, *at, err, "this is no number that JSON knows");
    i += n;
    if (i < j->size && t[i] == '.') {
        n = kalm__json_digits(j, i + 1);
        if (!n) return kalm__json_fail(j, *at, err, "a number has no digit after its point");
        i += 1 + n;
    }
    if (i < j->size && (t[i] == 'e' || t[i] == 'E')) {
        i++;
        if (i < j->size && (t[i] == '+' || t[i] == '-')) i++;
        n = kalm__json_digits(j, i);
        if (!n) return kalm__json_fail(j, *at, err, "a number has no digit in its exponent");
        i += n;
    }
    node->type = KALM__JSON_NUMBER;
    node->at = (uint32_t)*at;
    node->size = (uint32_t)(i - *at);
    *at = i;
    return KALM_OK;
}

/* null, false or true */
KALM__FN kalm_result kalm__json_word_at(const kalm__json *j, size_t *at, kalm__json_node *node, kalm_error *err)
{
    static const char words[3][6] = { "null", "false", "true" };
    uint32_t w;
    for (w = 0; w < 3; w++) {
        size_t n = strlen(words[w]);
        if (j->size - *at < n || memcmp(j->text + *at, words[w], n)) continue;
        node->type = KALM__JSON_NULL + w;
        node->size = (uint32_t)n;
        *at += n;
        return KALM_OK;
    }
    return kalm__json_fail(j, *at, err, "a value must stand here");
}

/* The first byte from i on that is no white space, or the size of the text. */
KALM__FN size_t kalm__json_skip(const kalm__json *j, size_t i)
{
    while (i < j->size && (j->text[i] == ' ' || j->text[i] == '\n' || j->text[i] == '\t' || j->text[i] == '\r')) i++;
    return i;
}

/* A member's name and its colon; leaves *at at the value. */
KALM__FN kalm_result kalm__json_name_at(kalm__json *j, size_t *at, kalm_error *err)
{
    kalm__json_node node;
    kalm_result r;
    if (j->text[*at] != '"') return kalm__json_fail(j, *at, err, "a member's name must stand here");
    r = kalm__json_string_at(j, at, &node, err);
    if (r) return r;
    node.next = (uint32_t)(j->count + 1);
    j->nodes[j->count++] = node;
    *at = kalm__json_skip(j, *at);
    if (*at >= j->size || j->text[*at] != ':') return kalm__json_fail(j, *at, err, "':' must stand here");
    *at = kalm__json_skip(j, *at + 1);
    return *at < j->size ? KALM_OK : kalm__json_fail(j, j->size, err, "the text ends too early");
}

/* The characters of a string (unescaped) or number; data == NULL for anything else. */
KALM__FN kalm_text kalm__json_text(const kalm__json *j, uint32_t i)
{
    kalm_text t;
    t.data = NULL;
    t.size = 0;
    if (i >= j->count) return t;
    if (j->nodes[i].type == KALM__JSON_ESCAPED) t.data = j->pool + j->nodes[i].at;
    else if (j->nodes[i].type == KALM__JSON_STRING || j->nodes[i].type == KALM__JSON_NUMBER)
        t.data = j->text + j->nodes[i].at;
    if (t.data) t.size = j->nodes[i].size;
    return t;
}

/* An empty text may have no address, and memcmp takes none. */
KALM__FN int kalm__same_text(kalm_text a, kalm_text b) { return a.size == b.size && (!a.size || !memcmp(a.data, b.data, a.size)); }

/* The order of names by their bytes. */
KALM__FN int kalm__name_order(const char *a, size_t a_size, const char *b, size_t b_size)
{
    int c = memcmp(a, b, kalm__min(a_size, b_size));
    return c ? c : a_size < b_size ? -1 : a_size > b_size;
}
/* The same of two kalm_text that have an address, for qsort. */
KALM__FN int kalm__text_order(const void *a, const void *b)
{
    const kalm_text *x = (const kalm_text *)a, *y = (const kalm_text *)b;
    return kalm__name_order(x->data, x->size, y->data, y->size);
}

/* The inside of a JSON string, without the quotes, for those who print JSON: at most 6 bytes for each of the text's, the
   text must be UTF-8 (ill-formed bytes pass as they are). Returns how many bytes. */
KALM__FN size_t kalm__json_escape(const char *s, size_t n, char *out)
{
    static const char hex[] = "0123456789abcdef";
    size_t i, k = 0;
    for (i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\') out[k++] = '\\', out[k++] = (char)c;
        else if (c == '\n') out[k++] = '\\', out[k++] = 'n';
        else if (c == '\t') out[k++] = '\\', out[k++] = 't';
        else if (c < 32 || c == 127) {
            memcpy(out + k, "\\u00", 4);
            out[k + 4] = hex[c >> 4];
            out[k + 5] = hex[c & 15];
            k += 6;
        } else out[k++] = (char)c;
    }
    return k;
}

/* Names of an object are compared each with each up to here, and sorted beyond. */
#define KALM__JSON_FEW 12

/* The member's name `at` stands in the object a second time. */
KALM__FN kalm_result kalm__json_twice(const kalm__json *j, uint32_t at, kalm_error *err)
{
    kalm_text name = kalm__json_text(j, at);
    char said[480];
    size_t n = kalm__min(name.size, (size_t)60);
    while (n < name.size && n && ((unsigned char)name.data[n] & 0xc0) == 0x80) n--;      /* cut between characters */
    said[0] = '"';
    n = 1 + kalm__json_escape(name.data, n, said + 1);
    memcpy(said + n, "\" stands there twice", 21);
    return kalm__json_fail_node(j, at, err, said);
}

typedef struct kalm__json_name {
    kalm_text text;
    uint32_t  at;
} kalm__json_name;

KALM__FN int kalm__json_name_order(const void *pa, const void *pb)
{
    const kalm__json_name *a = (const kalm__json_name *)pa, *b = (const kalm__json_name *)pb;
    int order = kalm__text_order(&a->text, &b->text);
    return order ? order : a->at < b->at ? -1 : a->at > b->at;
}

/* Refuse an object that has two members of one name. It may have a million: sorted, since names can be chosen so that all of them
   fall on one place of a table of hashes. */
KALM__FN kalm_result kalm__json_unique(const kalm__json *j, uint32_t object, kalm_error *err)
{
    uint32_t n = j->nodes[object].size, at, other, twice = 0, i = 0;
    size_t bytes = kalm__mul(n, sizeof(kalm__json_name));
    kalm__json_name *name;
    if (n <= KALM__JSON_FEW) {
        for (at = object + 1; at < j->nodes[object].next; at = j->nodes[at + 1].next)
            for (other = object + 1; other < at; other = j->nodes[other + 1].next)
                if (kalm__same_text(kalm__json_text(j, at), kalm__json_text(j, other))) return kalm__json_twice(j, at, err);
        return KALM_OK;
    }
    name = (kalm__json_name *)kalm__alloc(&j->allocator, bytes);
    if (!name) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the %u names of an object of %s", n, j->name);
    for (at = object + 1; at < j->nodes[object].next; at = j->nodes[at + 1].next) {
        name[i].text = kalm__json_text(j, at);
        name[i++].at = at;
    }
    qsort(name, n, sizeof *name, kalm__json_name_order);
    for (i = 1; i < n; i++)            /* the first that stands there a second time */
        if ((!twice || name[i].at < twice) && kalm__same_text(name[i - 1].text, name[i].text)) twice = name[i].at;
    kalm__release(&j->allocator, name, bytes);
    return twice ? kalm__json_twice(j, twice, err) : KALM_OK;
}

/* Read `text`, which must stay until kalm__json_end or the next parse. The structure may be used again for another text:
   it keeps its memory. */
KALM__FN kalm_result kalm__json_parse(kalm__json *j, const char *name, const char *text, size_t size, kalm_error *err)
{
    size_t i = 0;
    uint32_t parent = 0xffffffffu;     /* the container being read; its `next` holds its own parent until it closes */
    int expect_value = 1, may_close = 0;  /* may_close: a bracket may close here though no value has come */
    j->name = name;
    j->text = text;
    j->size = size;
    j->count = j->pool_size = 0;
    if (size >= 0xfffffff0u)
        return kalm__fail(err, KALM_BAD_FILE, "%s is %z bytes, more than a JSON file may have here", name, size);
    for (;;) {
        kalm__json_node node;
        kalm_result r;
        int in_object = parent != 0xffffffffu && j->nodes[parent].type == KALM__JSON_OBJECT;
        i = kalm__json_skip(j, i);
        if (i >= size) {
            if (parent == 0xffffffffu && !expect_value) return KALM_OK;
            return kalm__json_fail(j, size, err, "the text ends too early");
        }
        if (!expect_value) {           /* behind a value */
            if (parent == 0xffffffffu) return kalm__json_fail(j, i, err, "something stands behind the end");
            if (text[i] == ',') {
                i++;
                expect_value = 1;
                may_close = 0;
                continue;
            }
            if (text[i] != (in_object ? '}' : ']'))
                return kalm__json_fail(j, i, err, in_object ? "',' or '}' must stand here" : "',' or ']' must stand here");
        }
        if (!expect_value || (may_close && text[i] == (in_object ? '}' : ']'))) {
            uint32_t up = j->nodes[parent].next;
            j->nodes[parent].next = (uint32_t)j->count;
            if (in_object && !j->repeats && (r = kalm__json_unique(j, parent, err)) != KALM_OK) return r;
            parent = up;
            expect_value = may_close = 0;
            i++;
            continue;
        }
        if (j->capacity - j->count < 2) {
            void *block = j->nodes;
            if (!kalm__json_grow(j, &block, &j->capacity, j->count, j->count ? 1024 : size / 16 + 16, sizeof node))
                return kalm__fail(err, KALM_NO_MEMORY, "no memory for the values of %s", name);
            j->nodes = (kalm__json_node *)block;
        }
        if (in_object && (r = kalm__json_name_at(j, &i, err)) != KALM_OK) return r;
        if (parent != 0xffffffffu) j->nodes[parent].size++;
        memset(&node, 0, sizeof node);
        node.at = (uint32_t)i;
        expect_value = may_close = text[i] == '{' || text[i] == '[';
        if (expect_value) {            /* a container begins */
            node.type = text[i] == '{' ? KALM__JSON_OBJECT : KALM__JSON_ARRAY;
            node.next = parent;
            parent = (uint32_t)j->count;
            j->nodes[j->count++] = node;
            i++;
            continue;
        }
        if (text[i] == '"') r = kalm__json_string_at(j, &i, &node, err);
        else if (text[i] == '-' || (text[i] >= '0' && text[i] <= '9')) r = kalm__json_number_at(j, &i, &node, err);
        else r = kalm__json_word_at(j, &i, &node, err);
        if (r) return r;
        node.next = (uint32_t)(j->count + 1);
        j->nodes[j->count++] = node;
    }
}

KALM__FN uint32_t kalm__json_type(const kalm__json *j, uint32_t i)
{
    if (i >= j->count) return KALM__JSON_NONE;
    return j->nodes[i].type == KALM__JSON_ESCAPED ? (uint32_t)KALM__JSON_STRING : j->nodes[i].type;
}

/* Is node i the string s? */
KALM__FN int kalm__json_is(const kalm__json *j, uint32_t i, const char *s)
{
    return kalm__json_type(j, i) == KALM__JSON_STRING && kalm__same_text(kalm__json_text(j, i), kalm__text(s));
}

/* The value of a member, or 0 (never a child's number): node i is no object or has no such member. Linear in the members. */
KALM__FN uint32_t kalm__json_get(const kalm__json *j, uint32_t i, const char *key)
{
    uint32_t at;
    if (kalm__json_type(j, i) != KALM__JSON_OBJECT) return 0;
    for (at = i + 1; at < j->nodes[i].next; at = j->nodes[at + 1].next)
        if (kalm__json_is(j, at, key)) return at + 1;
    return 0;
}

/* A whole number from 0 to 2^64-1, written without point or exponent; 0 when node i is not one. Node 0 as an argument
   is a missing member, or a root that is no number in any file of ours: not a number. */
KALM__FN int kalm__json_uint(const kalm__json *j, uint32_t i, uint64_t *value)
{
    kalm_text t = kalm__json_text(j, i);
    uint64_t v = 0;
    size_t k;
    if (!i || kalm__json_type(j, i) != KALM__JSON_NUMBER) return 0;
    for (k = 0; k < t.size; k++) {
        unsigned d = (unsigned)(t.data[k] - '0');
        if (d > 9 || v > (UINT64_MAX - d) / 10) return 0;
        v = v * 10 + d;
    }
    *value = v;
    return 1;
}

/* Any number, rounded to a double; 0 when node i is not one, is too long (255 characters) or not finite. The program
   must run in the "C" locale, as every C program does that never calls setlocale. */
KALM__FN int kalm__json_double(const kalm__json *j, uint32_t i, double *value)
{
    kalm_text t = kalm__json_text(j, i);
    char copy[256];
    double v;
    if (!i || kalm__json_type(j, i) != KALM__JSON_NUMBER || t.size >= sizeof copy) return 0;
    memcpy(copy, t.data, t.size);
    copy[t.size] = 0;
    v = strtod(copy, NULL);
    if (!(v - v >= 0)) return 0;       /* inf - inf is NaN */
    *value = v;
    return 1;
}

/* 1 and *value 0 or 1 for false and true; 0 for anything else. */
KALM__FN int kalm__json_bool(const kalm__json *j, uint32_t i, int *value)
{
    uint32_t type = kalm__json_type(j, i);
    if (!i || (type != KALM__JSON_TRUE && type != KALM__JSON_FALSE)) return 0;
    *value = type == KALM__JSON_TRUE;
    return 1;
}

#endif
