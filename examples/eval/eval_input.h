/* eval_input.h - reading what others publish: lines of a file that may be packed with gzip or zstd, sets of ids that no choice
   of ids can make slow, and notes: what was odd about the input, each kind counted and told once. Files that cannot be read at
   all end the command with a sentence; a bad line never does. */
#ifndef EVAL_INPUT_H
#define EVAL_INPUT_H

#include "../../src/tools/command.h"
#include "../../src/tools/output.h"
#include "../../src/tools/secret.h"
#include "../../src/tools/siphash.h"
#include "eval_stats.h"
#ifdef HAVE_ZLIB
#  include <zlib.h>
#endif
#ifdef HAVE_ZSTD
#  include <zstd.h>
#endif

#define EV_NONE UINT32_MAX             /* no such element */
#define EV_LINE_MOST ((size_t)1 << 26) /* bytes of the longest line that is read; longer ones are noted and left out */

/* ---- notes ---------------------------------------------------------------------------------------------------- */

typedef struct ev_note { char *file, *text; uint64_t first, count; } ev_note;
typedef struct ev_notes { ev_note *note; size_t count, room; } ev_notes;

EV__FN char *ev_copy(const char *s)
{
    return cmd_copy(kalm__text(s));
}

/* One more of what `text` says, at `line` of `file` (0: of the file as a whole). notes NULL: nobody wants to know. */
EV__FN void ev_notice(ev_notes *n, const char *file, uint64_t line, const char *text)
{
    size_t i;
    if (!n) return;
    for (i = 0; i < n->count; i++)
        if (strcmp(n->note[i].text, text) == 0 && strcmp(n->note[i].file, file) == 0) {
            n->note[i].count++;
            return;
        }
    if (n->count == n->room) n->note = (ev_note *)cmd_grow(n->note, (n->room = n->room ? n->room * 2 : 8) * sizeof *n->note);
    n->note[n->count].file = ev_copy(file);
    n->note[n->count].text = ev_copy(text);
    n->note[n->count].first = line;
    n->note[n->count++].count = 1;
}

/* The same `count` times at once; nothing for 0. */
EV__FN void ev_notice_many(ev_notes *n, const char *file, uint64_t line, const char *text, uint64_t count)
{
    size_t i;
    if (!n || !count) return;
    ev_notice(n, file, line, text);
    for (i = 0; i < n->count; i++)
        if (strcmp(n->note[i].text, text) == 0 && strcmp(n->note[i].file, file) == 0) n->note[i].count += count - 1;
}

/* "file, line 7 and 2 more: text" */
EV__FN void ev_print_note(FILE *f, const ev_note *n)
{
    char *file = ev_copy(n->file);
    cmd_clean_name(file, strlen(file) + 1, file);
    fprintf(f, "%s", file);
    free(file);
    if (n->first) fprintf(f, ", line %llu", (unsigned long long)n->first);
    if (n->first && n->count > 1) fprintf(f, " and %llu more", (unsigned long long)(n->count - 1));
    if (!n->first && n->count > 1) fprintf(f, ", %llu times", (unsigned long long)n->count);
    fprintf(f, ": %s", n->text);
}

EV__FN void ev_notes_end(ev_notes *n)
{
    size_t i;
    for (i = 0; i < n->count; i++) free(n->note[i].file), free(n->note[i].text);
    free(n->note);
    memset(n, 0, sizeof *n);
}

EV__FN void ev_print_notes(FILE *f, const ev_notes *n)
{
    size_t i;
    for (i = 0; i < n->count; i++) {
        fprintf(f, "%s: note: ", cmd_name);
        ev_print_note(f, &n->note[i]);
        fputc('\n', f);
    }
}

/* ---- bytes of a file, unpacked -------------------------------------------------------------------------------- */

typedef enum ev_packing { EV_PLAIN, EV_GZIP, EV_ZSTD } ev_packing;

typedef struct ev_file {
    const char *path;                  /* borrowed */
    ev_notes   *notes;                 /* may be NULL */
    FILE       *f;
    ev_packing  packing;
#ifdef HAVE_ZLIB
    gzFile      gz;
#endif
#ifdef HAVE_ZSTD
    ZSTD_DStream *zstd;
    char         *packed;              /* [ZSTD_DStreamInSize()] */
    ZSTD_inBuffer in;
    size_t        hint;                /* what the decoder wants next; 0: a frame has ended */
#endif
    char       *data;                  /* [room] */
    size_t      at, size, room;        /* data[at ... size) is unread */
    uint64_t    line, bytes;           /* lines given out; bytes taken from the disk, for progress */
    int         ended;
} ev_file;

EV__FN void ev_remove(const char *path)
{
#if defined(_WIN32)
    WCHAR *wide = kalm__wide_path(path);
    if (wide) DeleteFileW(wide);
    free(wide);
#else
    remove(path);
#endif
}

/* Up to `room` more bytes of the unpacked file; 0: it has ended. */
EV__FN size_t ev__fill(ev_file *r, char *to, size_t room)
{
    size_t n = 0;
#ifdef HAVE_ZLIB
    if (r->packing == EV_GZIP) {
        int got = gzread(r->gz, to, (unsigned)kalm__min(room, (size_t)1 << 30)), code;
        const char *what = gzerror(r->gz, &code);
        if (got < 0 || (code != Z_OK && code != Z_STREAM_END))
            die("%s cannot be unpacked to its end: %s", r->path, code == Z_BUF_ERROR ? "it is cut off" : what);
        r->bytes = (uint64_t)gzoffset(r->gz);
        return (size_t)got;
    }
#endif
#ifdef HAVE_ZSTD
    if (r->packing == EV_ZSTD) {
        ZSTD_outBuffer out;
        out.dst = to;
        out.size = room;
        out.pos = 0;
        while (!out.pos) {
            if (r->in.pos == r->in.size) {
                r->in.size = fread(r->packed, 1, ZSTD_DStreamInSize(), r->f);
                r->in.pos = 0;
                r->bytes += r->in.size;
                if (ferror(r->f)) die("cannot read %s: %s", r->path, strerror(errno));
                if (!r->in.size) {
                    if (r->hint) die("%s cannot be unpacked to its end: it is cut off", r->path);
                    return 0;
                }
            }
            r->hint = ZSTD_decompressStream(r->zstd, &out, &r->in);
            if (ZSTD_isError(r->hint)) die("%s cannot be unpacked: %s", r->path, ZSTD_getErrorName(r->hint));
        }
        return out.pos;
    }
#endif
    n = fread(to, 1, room, r->f);
    if (ferror(r->f)) die("cannot read %s: %s", r->path, strerror(errno));
    r->bytes += n;
    return n;
}

/* Refuses by name what is no text at all. */
EV__FN void ev__check_start(const ev_file *r)
{
    static const char pointer[] = "version https://git-lfs.github.com/spec/";
    const unsigned char *b = (const unsigned char *)r->data;
    if (r->size >= 2 && ((b[0] == 0xff && b[1] == 0xfe) || (b[0] == 0xfe && b[1] == 0xff)))
        die("%s is UTF-16, which is not read here; save it as UTF-8", r->path);
    if (r->size >= 4 && ((!b[0] && b[1] && !b[2]) || (b[0] && !b[1] && b[2] && !b[3])))
        die("%s has a zero byte beside every letter: it is UTF-16, which is not read here; save it as UTF-8", r->path);
    if (r->size >= sizeof pointer - 1 && memcmp(b, pointer, sizeof pointer - 1) == 0)
        die("%s is not the file but a Git LFS pointer to it; `git lfs pull` fetches the file", r->path);
}

EV__FN void ev_open(ev_file *r, const char *path, ev_notes *notes)
{
    unsigned char magic[4] = { 0, 0, 0, 0 };
    size_t n;
    memset(r, 0, sizeof *r);
    r->path = path;
    r->notes = notes;
    if (kalm__directory_exists(path)) die("cannot read %s: it is a folder", path);
    r->f = cmd_fopen(path, "rb");
    if (!r->f) die("cannot read %s: %s", path, strerror(errno));
    n = fread(magic, 1, 4, r->f);
    r->packing = n >= 2 && magic[0] == 0x1f && magic[1] == 0x8b ? EV_GZIP
               : n == 4 && memcmp(magic, "\x28\xb5\x2f\xfd", 4) == 0 ? EV_ZSTD : EV_PLAIN;
    r->room = 1 << 18;
    r->data = (char *)cmd_alloc(r->room);
    if (r->packing == EV_GZIP) {
#ifdef HAVE_ZLIB
        fclose(r->f);
        r->f = NULL;
        r->gz = gzopen(path, "rb");
        if (!r->gz) die("cannot read %s: %s", path, strerror(errno));
        gzbuffer(r->gz, 1 << 17);
#else
        die("%s is packed with gzip, and this kalm-eval was built without zlib: unpack it first", path);
#endif
    } else if (r->packing == EV_ZSTD) {
#ifdef HAVE_ZSTD
        rewind(r->f);
        r->zstd = ZSTD_createDStream();
        r->packed = (char *)cmd_alloc(ZSTD_DStreamInSize());
        if (!r->zstd) die("no memory to unpack %s", path);
        r->in.src = r->packed;
        r->hint = 1;
#else
        die("%s is packed with zstd, and this kalm-eval was built without libzstd: unpack it first", path);
#endif
    } else {
        memcpy(r->data, magic, n);
        r->size = n;
        r->bytes = n;
    }
    while (r->size < 64 && (n = ev__fill(r, r->data + r->size, r->room - r->size)) > 0) r->size += n;
    ev__check_start(r);
    if (r->size >= 3 && memcmp(r->data, "\xef\xbb\xbf", 3) == 0) r->at = 3;    /* a byte order mark is no part of the text */
}

EV__FN void ev_close(ev_file *r)
{
#ifdef HAVE_ZLIB
    if (r->gz) gzclose(r->gz);
#endif
#ifdef HAVE_ZSTD
    ZSTD_freeDStream(r->zstd);
    free(r->packed);
#endif
    if (r->f) fclose(r->f);
    free(r->data);
    memset(r, 0, sizeof *r);
}

/* Drops the rest of a line that is longer than EV_LINE_MOST. */
EV__FN void ev__skip_line(ev_file *r)
{
    for (;;) {
        const char *end = (const char *)memchr(r->data, '\n', r->size);
        if (end) {
            r->at = (size_t)(end - r->data) + 1;
            return;
        }
        r->at = r->size = 0;
        r->size = ev__fill(r, r->data, r->room);
        if (!r->size) {
            r->ended = 1;
            return;
        }
    }
}

/* The next line without its end (LF or CRLF), borrowed until the next call; 0: there is none. r->line is its number. */
EV__FN int ev_next_line(ev_file *r, kalm_text *line)
{
    size_t seen = 0;                   /* of the unread bytes, those without a line's end */
    for (;;) {
        const char *start = r->data + r->at, *end = (const char *)memchr(start + seen, '\n', r->size - r->at - seen);
        size_t n;
        if (end || (r->ended && r->at < r->size)) {
            line->data = start;
            line->size = end ? (size_t)(end - start) : r->size - r->at;
            r->at += line->size + (end ? 1 : 0);
            if (line->size && line->data[line->size - 1] == '\r') line->size--;
            r->line++;
            return 1;
        }
        if (r->ended) return 0;
        seen = r->size - r->at;
        if (seen > EV_LINE_MOST) {
            ev_notice(r->notes, r->path, r->line + 1, "the line is longer than 64 MB; it is left out");
            r->line++;
            r->at = r->size = 0;
            ev__skip_line(r);
            seen = 0;
            continue;
        }
        memmove(r->data, start, seen);
        r->at = 0;
        r->size = seen;
        if (r->room - r->size < r->room / 2) r->data = (char *)cmd_grow(r->data, r->room *= 2);
        n = ev__fill(r, r->data + r->size, r->room - r->size);
        r->size += n;
        if (!n) r->ended = 1;
    }
}

/* A whole file, unpacked; a NUL behind it; to be freed. */
EV__FN kalm_text ev_read_all(const char *path, ev_notes *notes)
{
    ev_file r;
    kalm_text t;
    char *data;
    size_t n, size, room;
    ev_open(&r, path, notes);
    size = r.size - r.at;
    room = r.room * 2;
    data = (char *)cmd_alloc(room + 1);
    memcpy(data, r.data + r.at, size);
    while ((n = ev__fill(&r, data + size, room - size)) > 0) {
        size += n;
        if (size == room) data = (char *)cmd_grow(data, (room *= 2) + 1);
    }
    data[size] = 0;
    ev_close(&r);
    t.data = data;
    t.size = size;
    return t;
}

/* ---- sets of ids ---------------------------------------------------------------------------------------------- */

/* Strings that are to stay, in blocks, given back all together. The first bytes of a block are a pointer to the one before. */
typedef struct ev_pool { char *block; size_t used, room; } ev_pool;

EV__FN kalm_text ev_keep(ev_pool *p, kalm_text t)
{
    kalm_text kept;
    char *to;
    if (p->room - p->used < t.size + 1) {
        char *before = p->block;
        p->room = kalm__max((size_t)1 << 20, t.size + 1 + sizeof before);
        p->block = (char *)cmd_alloc(p->room);
        memcpy(p->block, &before, sizeof before);
        p->used = sizeof before;
    }
    to = p->block + p->used;
    if (t.size) memcpy(to, t.data, t.size);
    to[t.size] = 0;
    p->used += t.size + 1;
    kept.data = to;
    kept.size = t.size;
    return kept;
}

EV__FN void ev_pool_end(ev_pool *p)
{
    while (p->block) {
        char *before;
        memcpy(&before, p->block, sizeof before);
        free(p->block);
        p->block = before;
    }
    memset(p, 0, sizeof *p);
}

/* Numbers 0, 1, 2, ... for strings, in the order in which they came. */
typedef struct ev_set {
    kalm_text *id;                     /* [count], each with a NUL behind it */
    size_t     count, room, slots;
    uint32_t  *slot;                   /* [slots] number + 1; 0: free */
    uint64_t   key[2];
    ev_pool    pool;
} ev_set;

EV__FN size_t ev__slot(const ev_set *s, kalm_text id)
{
    size_t at = (size_t)kalm__siphash(s->key, id.data, id.size) & (s->slots - 1);
    while (s->slot[at]) {
        if (kalm__same_text(s->id[s->slot[at] - 1], id)) break;
        at = (at + 1) & (s->slots - 1);
    }
    return at;
}

EV__FN void ev__more_slots(ev_set *s)
{
    size_t i;
    if (!s->slots) cmd_secret(s->key); /* so that no ids are chosen to collide; the numbers do not depend on it */
    s->slots = s->slots ? s->slots * 2 : 256;
    free(s->slot);
    s->slot = (uint32_t *)cmd_alloc(s->slots * sizeof *s->slot);
    memset(s->slot, 0, s->slots * sizeof *s->slot);
    for (i = 0; i < s->count; i++) s->slot[ev__slot(s, s->id[i])] = (uint32_t)(i + 1);
}

/* EV_NONE: the set lacks it. */
EV__FN uint32_t ev_find(const ev_set *s, kalm_text id)
{
    return s->slots ? s->slot[ev__slot(s, id)] - 1 : EV_NONE;
}

/* The number of `id`, which is copied into the set if it is new. */
EV__FN uint32_t ev_add(ev_set *s, kalm_text id)
{
    size_t at;
    if (s->count * 2 >= s->slots) ev__more_slots(s);
    at = ev__slot(s, id);
    if (s->slot[at]) return s->slot[at] - 1;
    if (s->count >= UINT32_MAX - 1) die("more than four thousand million ids");
    if (s->count == s->room) s->id = (kalm_text *)cmd_grow(s->id, (s->room = s->room ? s->room * 2 : 256) * sizeof *s->id);
    s->id[s->count] = ev_keep(&s->pool, id);
    s->slot[at] = (uint32_t)++s->count;
    return (uint32_t)(s->count - 1);
}

EV__FN void ev_set_end(ev_set *s)
{
    free(s->id);
    free(s->slot);
    ev_pool_end(&s->pool);
    memset(s, 0, sizeof *s);
}

#endif
