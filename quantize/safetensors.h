/* safetensors.h - the list of a checkpoint's tensors: which lies where, in one file or in several (shards) with an index. Reads
   headers, never weights, trusts nothing that it reads, and knows no model (checkpoint.h does).

     file:   u64 n, little-endian | n bytes of JSON, padded with spaces | data
     JSON:   { "name": { "dtype": "BF16", "shape": [640, 2048], "data_offsets": [begin, end] }, "__metadata__": {...} }
             offsets count from the first byte of the data; the tensors cover the data without gaps or overlaps
     index:  model.safetensors.index.json: { "weight_map": { "name": "model-00001-of-00002.safetensors", ... } } */
#ifndef KALM__SAFETENSORS_H
#define KALM__SAFETENSORS_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/kernels.h"
#include "../src/recognise.h"
#include "../src/tools/json.h"

enum {
    KALM__MAX_DIMS = 8,
    KALM__MAX_SHARDS = 4096,
    KALM__OTHER_DTYPE = 100            /* what weights never have; fine in tensors that nobody reads */
};
#define KALM__MAX_ST_HEADER ((uint64_t)100 << 20)          /* the limit of the reference implementation as well */

typedef struct kalm__st_tensor {
    const char *name;                  /* inside the directory's texts, not NUL-terminated */
    size_t      name_size;
    uint32_t    shard, type;           /* KALM__F32, KALM__F16, KALM__BF16 or KALM__OTHER_DTYPE */
    char        dtype[16];             /* as written: printable, cut, NUL-terminated */
    char        shown[100];            /* the name for errors: printable, cut, NUL-terminated */
    uint32_t    dims;
    uint64_t    shape[KALM__MAX_DIMS];
    uint64_t    begin, size;           /* in the file, in bytes */
    uint32_t    used;                  /* checkpoint.h sets it for tensors that it has a place for */
} kalm__st_tensor;

typedef struct kalm__st_shard {
    char        *name, *path;          /* of the file; owned */
    kalm__input source;
    char        *header;               /* owned: the JSON text, which names point into */
    kalm__json   json;                 /* and its unescaped strings */
} kalm__st_shard;

typedef struct kalm__st {
    kalm_allocator   allocator;
    kalm__st_shard  *shards;
    uint32_t         shard_count;
    kalm__st_tensor *tensors;          /* sorted by name when the directory is complete */
    size_t           count, capacity;
} kalm__st;

KALM__FN void kalm__st_begin(kalm__st *st)
{
    memset(st, 0, sizeof *st);
    st->allocator.alloc = kalm__default_alloc;
    st->allocator.release = kalm__default_release;
}

KALM__FN void kalm__st_end(kalm__st *st)
{
    uint32_t i;
    for (i = 0; i < st->shard_count; i++) {
        kalm__input_close(&st->shards[i].source);
        kalm__json_end(&st->shards[i].json);
        free(st->shards[i].header);
        free(st->shards[i].name);
        free(st->shards[i].path);
    }
    free(st->shards);
    free(st->tensors);
    memset(st, 0, sizeof *st);
}

/* Copy a name as errors show it to `to`, which has room for 100 bytes; real names have up to 80. */
KALM__FN const char *kalm__st_show(char *to, const char *name, size_t size)
{
    size_t n = kalm__min(size, 96), i;
    for (i = 0; i < n; i++) to[i] = (char)(name[i] >= 32 && name[i] != 127 ? name[i] : '?');
    memcpy(to + n, size > n ? "..." : "", size > n ? 4 : 1);
    return to;
}

KALM__FN int kalm__st_compare(const kalm__st_tensor *a, const char *name, size_t size)
{
    return kalm__name_order(a->name, a->name_size, name, size);
}
KALM__FN int kalm__st_by_name(const void *a, const void *b)
{
    const kalm__st_tensor *t = (const kalm__st_tensor *)b;
    return kalm__st_compare((const kalm__st_tensor *)a, t->name, t->name_size);
}
KALM__FN int kalm__st_by_offset(const void *a, const void *b)
{
    const kalm__st_tensor *s = (const kalm__st_tensor *)a, *t = (const kalm__st_tensor *)b;
    if (s->begin != t->begin) return s->begin < t->begin ? -1 : 1;
    if (s->size != t->size) return s->size < t->size ? -1 : 1;     /* empty tensors before the one at their place */
    return kalm__st_by_name(a, b);
}

/* Bits of an element; 0 for a dtype that is not known here, as next year's may be. */
KALM__FN uint64_t kalm__st_dtype(kalm_text t, uint32_t *type)
{
    static const struct { char name[12]; uint32_t type, bits; } known[] = {
        { "F32", KALM__F32, 32 }, { "F16", KALM__F16, 16 }, { "BF16", KALM__BF16, 16 }, { "F64", KALM__OTHER_DTYPE, 64 },
        { "I64", KALM__OTHER_DTYPE, 64 }, { "U64", KALM__OTHER_DTYPE, 64 }, { "I32", KALM__OTHER_DTYPE, 32 },
        { "U32", KALM__OTHER_DTYPE, 32 }, { "I16", KALM__OTHER_DTYPE, 16 }, { "U16", KALM__OTHER_DTYPE, 16 },
        { "I8", KALM__OTHER_DTYPE, 8 }, { "U8", KALM__OTHER_DTYPE, 8 }, { "BOOL", KALM__OTHER_DTYPE, 8 },
        { "F8_E4M3", KALM__OTHER_DTYPE, 8 }, { "F8_E5M2", KALM__OTHER_DTYPE, 8 }, { "F8_E8M0", KALM__OTHER_DTYPE, 8 },
        { "F8_E4M3FNUZ", KALM__OTHER_DTYPE, 8 }, { "F8_E5M2FNUZ", KALM__OTHER_DTYPE, 8 }, { "F6_E2M3", KALM__OTHER_DTYPE, 6 },
        { "F6_E3M2", KALM__OTHER_DTYPE, 6 }, { "F4", KALM__OTHER_DTYPE, 4 }, { "C64", KALM__OTHER_DTYPE, 64 }
    };
    size_t i;
    *type = KALM__OTHER_DTYPE;
    for (i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = 0;
        while (n < sizeof known[i].name && known[i].name[n]) n++;
        if (t.data && t.size == n && !memcmp(t.data, known[i].name, n)) {
            *type = known[i].type;
            return known[i].bits;
        }
    }
    return 0;
}

/* The dtype of a member and how many bits an element has. */
KALM__FN kalm_result kalm__st_member_dtype(kalm__st_tensor *t, const kalm__json *j, uint32_t value, uint64_t *bits,
                                           kalm_error *err)
{
    uint32_t node = kalm__json_get(j, value, "dtype");
    kalm_text dtype = kalm__json_text(j, node);
    size_t i;
    if (!node || !dtype.data) return kalm__fail(err, KALM_BAD_FILE, "%s: tensor %s has no dtype", j->name, t->shown);
    *bits = kalm__st_dtype(dtype, &t->type);
    for (i = 0; i < dtype.size && i + 1 < sizeof t->dtype; i++)
        t->dtype[i] = (char)(dtype.data[i] > 32 && dtype.data[i] < 127 ? dtype.data[i] : '?');
    return KALM_OK;
}

/* The shape of a member, and how many bytes it needs: 0 bits an element are not known, and neither are the bytes then. */
KALM__FN kalm_result kalm__st_member_shape(kalm__st_tensor *t, const kalm__json *j, uint32_t value, uint64_t bits,
                                           uint64_t *bytes, kalm_error *err)
{
    uint32_t shape = kalm__json_get(j, value, "shape"), at;
    uint64_t size = bits ? bits : 1;
    if (!shape || kalm__json_type(j, shape) != KALM__JSON_ARRAY || j->nodes[shape].size > KALM__MAX_DIMS)
        return kalm__fail(err, KALM_BAD_FILE, "%s: tensor %s has no shape of at most %d numbers", j->name, t->shown,
                          (int)KALM__MAX_DIMS);
    for (at = shape + 1; at < j->nodes[shape].next; at = j->nodes[at].next) {
        uint64_t n;
        if (!kalm__json_uint(j, at, &n))
            return kalm__fail(err, KALM_BAD_FILE, "%s: the shape of tensor %s is not made of whole numbers", j->name, t->shown);
        if (n && size > UINT64_MAX / n)
            return kalm__fail(err, KALM_BAD_FILE, "%s: tensor %s has a shape of more than 2^61 bytes", j->name, t->shown);
        size *= n;
        t->shape[t->dims++] = n;
    }
    if (size % 8 && bits)
        return kalm__fail(err, KALM_BAD_FILE, "%s: tensor %s has %U bits, which are no whole bytes", j->name, t->shown, size);
    *bytes = size / 8;
    return KALM_OK;
}

/* Add one tensor of a header: it is called `key` and described by node `value`. data: the bytes behind the header. */
KALM__FN kalm_result kalm__st_member(kalm__st *st, const kalm__json *j, uint32_t key, uint32_t value, uint64_t data_at,
                                     uint64_t data, uint32_t shard, kalm_error *err)
{
    kalm_text name = kalm__json_text(j, key);
    kalm__st_tensor t;
    uint32_t offsets = kalm__json_get(j, value, "data_offsets");
    uint64_t bits = 0, bytes = 0, begin, end;
    kalm_result r;
    memset(&t, 0, sizeof t);
    t.name = name.data;
    t.name_size = name.size;
    kalm__st_show(t.shown, name.data, name.size);
    t.shard = shard;
    if (!name.size) return kalm__json_fail_node(j, key, err, "a tensor without a name");
    r = kalm__st_member_dtype(&t, j, value, &bits, err);
    if (!r) r = kalm__st_member_shape(&t, j, value, bits, &bytes, err);
    if (r) return r;
    if (!offsets || kalm__json_type(j, offsets) != KALM__JSON_ARRAY || j->nodes[offsets].size != 2
        || !kalm__json_uint(j, offsets + 1, &begin) || !kalm__json_uint(j, offsets + 2, &end))
        return kalm__fail(err, KALM_BAD_FILE, "%s: tensor %s has no data_offsets of two whole numbers", j->name, t.shown);
    if (begin > end)
        return kalm__fail(err, KALM_BAD_FILE, "%s: tensor %s ends at %U, before it begins at %U", j->name, t.shown, end, begin);
    if (end > data)
        return kalm__fail(err, KALM_BAD_FILE, "%s: tensor %s ends at byte %U of the data, which has %U: the file was cut short",
                          j->name, t.shown, end, data);
    if (bits && end - begin != bytes)
        return kalm__fail(err, KALM_BAD_FILE, "%s: tensor %s has %U bytes, its shape needs %U", j->name, t.shown, end - begin, bytes);
    t.begin = data_at + begin;
    t.size = end - begin;
    if (st->count == st->capacity) {
        size_t capacity = st->capacity ? st->capacity * 2 : 1024;
        kalm__st_tensor *more = (kalm__st_tensor *)realloc(st->tensors, kalm__mul(capacity, sizeof *more));
        if (!more) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %z tensors", capacity);
        st->tensors = more;
        st->capacity = capacity;
    }
    st->tensors[st->count++] = t;
    return KALM_OK;
}

/* Add the tensors of one file, whose JSON header is `text` [n]. The names point into it, so it stays with the shard. The file has
   file_size bytes in all. */
KALM__FN kalm_result kalm__st_header(kalm__st *st, uint32_t shard, const char *name, const char *text, size_t n,
                                     uint64_t file_size, kalm_error *err)
{
    kalm__json *j = &st->shards[shard].json;
    size_t first = st->count, i;
    uint64_t data_at = 8 + (uint64_t)n, end = data_at;
    uint32_t at;
    kalm_result r = kalm__json_parse(j, name, text, n, err);
    if (r) return r;
    if (kalm__json_type(j, 0) != KALM__JSON_OBJECT)
        return kalm__fail(err, KALM_BAD_FILE, "%s: the header is not a JSON object", name);
    for (at = 1; at < j->nodes[0].next; at = j->nodes[at + 1].next) {
        if (kalm__json_is(j, at, "__metadata__")) continue;
        r = kalm__st_member(st, j, at, at + 1, data_at, file_size - data_at, shard, err);
        if (r) return r;
    }
    if (st->count > first) qsort(st->tensors + first, st->count - first, sizeof *st->tensors, kalm__st_by_offset);
    for (i = first; i < st->count; i++) {
        const kalm__st_tensor *t = &st->tensors[i];
        if (t->begin < end)
            return kalm__fail(err, KALM_BAD_FILE, "%s: tensor %s overlaps tensor %s", name, t->shown, t[-1].shown);
        if (t->begin > end)
            return kalm__fail(err, KALM_BAD_FILE, "%s: %U bytes before tensor %s belong to no tensor", name,
                              t->begin - end, t->shown);
        end = t->begin + t->size;
    }
    if (end != file_size)
        return kalm__fail(err, KALM_BAD_FILE, "%s: the last %U bytes belong to no tensor", name, file_size - end);
    return KALM_OK;
}

/* Open shard number `shard`, whose name and path are set, and read its header. */
KALM__FN kalm_result kalm__st_open(kalm__st *st, uint32_t shard, kalm_error *err)
{
    kalm__st_shard *s = &st->shards[shard];
    unsigned char first[512];
    const char *what;
    uint64_t n;
    size_t seen;
    kalm_result r = kalm__input_open(&s->source, s->path, err);
    if (r) return r;
    if (!s->source.size) return kalm__fail(err, KALM_BAD_FILE, "%s: the file is empty", s->name);
    seen = s->source.size < sizeof first ? (size_t)s->source.size : sizeof first;
    memset(first, 0, 16);
    if (!kalm__input_read(&s->source, 0, first, seen)) return kalm__fail(err, KALM_CANNOT_READ, "%s: cannot be read", s->name);
    n = kalm__u64(first);
    if (seen < 9 || n >> 40 || (first[8] != '{' && first[8] != ' ')) {      /* no header begins here */
        what = kalm__recognise(first, seen);
        if (what) return kalm__fail(err, KALM_BAD_FILE, "%s: not a safetensors file but %s", s->name, what);
    }
    if (seen < 8) return kalm__fail(err, KALM_BAD_FILE, "%s: %z bytes are no safetensors file", s->name, seen);
    if (n > s->source.size - 8)
        return kalm__fail(err, KALM_BAD_FILE, "%s: the header should have %U bytes, the file has %U: it was cut short, or is "
                          "something else", s->name, n, s->source.size);
    if (n > KALM__MAX_ST_HEADER)
        return kalm__fail(err, KALM_BAD_FILE, "%s: a header of %U bytes is too large", s->name, n);
    s->header = (char *)malloc((size_t)n + 1);
    if (!s->header) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the header of %s", s->name);
    if (!kalm__input_read(&s->source, 8, s->header, (size_t)n))
        return kalm__fail(err, KALM_CANNOT_READ, "%s: the header cannot be read", s->name);
    return kalm__st_header(st, shard, s->name, s->header, (size_t)n, s->source.size, err);
}

KALM__FN kalm_result kalm__st_add_shard(kalm__st *st, const char *dir, const char *name, size_t name_size, kalm_error *err)
{
    kalm__st_shard *s;
    if (st->shard_count == KALM__MAX_SHARDS) return kalm__fail(err, KALM_BAD_FILE, "the index names too many files");
    s = (kalm__st_shard *)realloc(st->shards, (st->shard_count + 1) * sizeof *s);
    if (!s) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the list of shards");
    st->shards = s;
    s += st->shard_count;
    memset(s, 0, sizeof *s);
    kalm__json_begin(&s->json, &st->allocator);
    s->name = (char *)malloc(name_size + 1);
    if (s->name) {
        memcpy(s->name, name, name_size);
        s->name[name_size] = 0;
        s->path = kalm__join_path(dir, s->name);
    }
    st->shard_count++;
    return s->path ? KALM_OK : kalm__fail(err, KALM_NO_MEMORY, "no memory for the name of a shard");
}

KALM__FN kalm__st_tensor *kalm__st_find(const kalm__st *st, const char *name, size_t size)
{
    size_t low = 0, high = st->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int c = kalm__st_compare(&st->tensors[middle], name, size);
        if (!c) return &st->tensors[middle];
        if (c < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

/* Sort the tensors by name, and refuse two of one name. */
KALM__FN kalm_result kalm__st_sort(kalm__st *st, kalm_error *err)
{
    size_t i;
    if (st->count) qsort(st->tensors, st->count, sizeof *st->tensors, kalm__st_by_name);
    for (i = 1; i < st->count; i++) {
        const kalm__st_tensor *t = &st->tensors[i];
        if (!kalm__st_compare(t - 1, t->name, t->name_size))
            return kalm__fail(err, KALM_BAD_FILE, "tensor %s appears twice, in %s and %s", t->shown,
                              st->shards[t[-1].shard].name, st->shards[t->shard].name);
    }
    return KALM_OK;
}

/* Check that the index and the files agree. map: the node of weight_map. */
KALM__FN kalm_result kalm__st_check_index(const kalm__st *st, const kalm__json *j, uint32_t map, kalm_error *err)
{
    char shown[100];
    uint32_t at;
    size_t i, listed = 0;
    unsigned char *seen = (unsigned char *)calloc(st->count + 1, 1);
    kalm_result r = KALM_OK;
    if (!seen) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %z tensors", st->count);
    for (at = map + 1; !r && at < j->nodes[map].next; at = j->nodes[at + 1].next) {
        kalm_text name = kalm__json_text(j, at), file = kalm__json_text(j, at + 1);
        const kalm__st_tensor *t = kalm__st_find(st, name.data, name.size);
        if (!t || !kalm__same_text(kalm__text(st->shards[t->shard].name), file))
            r = kalm__fail(err, KALM_BAD_FILE, "%s: tensor %s is not in %q", j->name, kalm__st_show(shown, name.data, name.size),
                           file.data, file.size);
        else {
            seen[t - st->tensors] = 1;
            listed++;
        }
    }
    for (i = 0; !r && listed < st->count && i < st->count; i++)
        if (!seen[i])
            r = kalm__fail(err, KALM_BAD_FILE, "%s: tensor %s of %s is not listed", j->name, st->tensors[i].shown,
                           st->shards[st->tensors[i].shard].name);
    free(seen);
    return r;
}

#define KALM__ST_FILE "model.safetensors"
#define KALM__ST_INDEX "model.safetensors.index.json"

/* A single file beside the index that is none of its shards: transformers would read that and not look at the index. */
KALM__FN kalm_result kalm__st_only(const kalm__st *st, const char *dir, kalm_error *err)
{
    char *path = kalm__join_path(dir, KALM__ST_FILE);
    uint32_t i;
    int both = path && kalm__file_exists(path);
    free(path);
    if (!path) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a path");
    for (i = 0; i < st->shard_count; i++)
        if (!strcmp(st->shards[i].name, KALM__ST_FILE)) both = 0;
    if (both) return kalm__fail(err, KALM_BAD_FILE, KALM__ST_FILE " is there, and " KALM__ST_INDEX " names other files: only one of them "
                                "can be the model");
    return KALM_OK;
}

KALM__FN kalm_result kalm__st_read_index(kalm__st *st, const char *dir, const char *text, size_t size, kalm_error *err)
{
    kalm__json j;
    kalm_text *files = NULL;           /* of all tensors; sorted, so that each name is seen once, however many there are */
    size_t listed = 0, n;
    char shown[100];
    uint32_t map, at, i;
    kalm_result r;
    kalm__json_begin(&j, &st->allocator);
    r = kalm__json_parse(&j, KALM__ST_INDEX, text, size, err);
    map = r ? 0 : kalm__json_get(&j, 0, "weight_map");
    if (!r && (!map || kalm__json_type(&j, map) != KALM__JSON_OBJECT))
        r = kalm__fail(err, KALM_BAD_FILE, KALM__ST_INDEX ": there is no object \"weight_map\"");
    if (!r) files = (kalm_text *)malloc(kalm__mul((size_t)j.nodes[map].size + 1, sizeof *files));
    if (!r && !files) r = kalm__fail(err, KALM_NO_MEMORY, "no memory for the names of %u files", j.nodes[map].size);
    for (at = map + 1; !r && at < j.nodes[map].next; at = j.nodes[at + 1].next) {
        kalm_text file = kalm__json_text(&j, at + 1);
        size_t k;
        if (kalm__json_type(&j, at + 1) != KALM__JSON_STRING || !file.size)
            r = kalm__fail(err, KALM_BAD_FILE, KALM__ST_INDEX ": tensor %s has no file name",
                           kalm__st_show(shown, kalm__json_text(&j, at).data, kalm__json_text(&j, at).size));
        for (k = 0; k < file.size && !r; k++)      /* a name beside the index, never a path to elsewhere */
            if (file.data[k] == '/' || file.data[k] == '\\' || file.data[k] == ':' || !file.data[k])
                r = kalm__fail(err, KALM_BAD_FILE, KALM__ST_INDEX ": %q is not the name of a file beside it", file.data,
                               file.size);
        if (!r) files[listed++] = file;
    }
    if (!r) qsort(files, listed, sizeof *files, kalm__text_order);
    for (n = 0; !r && n < listed; n++)
        if (!n || kalm__text_order(&files[n], &files[n - 1])) r = kalm__st_add_shard(st, dir, files[n].data, files[n].size, err);
    free(files);
    if (!r) r = kalm__st_only(st, dir, err);
    for (i = 0; !r && i < st->shard_count; i++) r = kalm__st_open(st, i, err);
    if (!r) r = kalm__st_sort(st, err);
    if (!r) r = kalm__st_check_index(st, &j, map, err);
    kalm__json_end(&j);
    return r;
}

/* Read the list of the checkpoint in folder `dir`: by its index where it has one, else from its single file. kalm__st_end is due
   even after a failure. */
KALM__FN kalm_result kalm__st_read(kalm__st *st, const char *dir, kalm_error *err)
{
    char *path = kalm__join_path(dir, KALM__ST_INDEX);
    kalm_result r;
    if (!path) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a path");
    if (kalm__file_exists(path)) {
        char *text;
        size_t size;
        r = kalm__read_expected(path, KALM__MAX_ST_HEADER, "JSON", &text, &size, err);
        if (!r) {
            r = kalm__st_read_index(st, dir, text, size, err);
            free(text);
        }
    } else {
        r = kalm__st_add_shard(st, dir, KALM__ST_FILE, strlen(KALM__ST_FILE), err);
        if (!r) r = kalm__st_open(st, 0, err);
        if (!r) r = kalm__st_sort(st, err);
    }
    free(path);
    return r;
}

#endif
