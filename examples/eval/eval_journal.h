/* eval_journal.h - what has been computed, on disk, so that a run that was killed goes on where it was. Two files a job:

     NAME.journal   lines of text, "checksum JSON", appended one by one as results come:
                      {"t": "job", ...}                     what the job is: the first line, and once more where that was damaged
                      {"t": "encoded", "seconds": s, "docs": [ids], "tokens": [n, ...], "text": hash}
                      {"t": "ranked", "query": id, "ratio": r, "bits": b, "seconds": s, "docs": [ids], "margins": [m, ...],
                       "text": hash}
     NAME.spool     encoded documents that some result still needs; emptied when all have been used

   A line that was cut off or damaged fails its checksum, which is against accident, and counts as not written; so does one whose texts
   are no longer what they were: "text" is their SHA-256. Before that it was a hash of 16 digits; such lines still count. */
#ifndef EVAL_JOURNAL_H
#define EVAL_JOURNAL_H

#include "eval_data.h"
#include "../../src/tools/sha256.h"
#include "../../src/tools/sink.h"

EV__FN uint64_t ev_plain_hash(const void *data, size_t size)
{
    static const uint64_t key[2] = { 0x6b616c6d2d657661u, 0x6c2d6a6f75726e61u };
    return kalm__sip(key, data, size, 1, 3);
}

/* ---- a string that grows -------------------------------------------------------------------------------------- */

typedef struct ev_string { char *data; size_t size, room; } ev_string;

EV__FN void ev_put(ev_string *s, const char *data, size_t size)
{
    if (s->room - s->size < size + 1) s->data = (char *)cmd_grow(s->data, s->room = cmd_twice(kalm__add(s->size, size)));
    memcpy(s->data + s->size, data, size);
    s->size += size;
    s->data[s->size] = 0;
}

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
EV__FN void ev_printf(ev_string *s, const char *format, ...)
{
    va_list args;
    int n;
    if (s->room - s->size < 512) s->data = (char *)cmd_grow(s->data, s->room = cmd_twice(kalm__add(s->size, 512)));
    va_start(args, format);
    n = vsnprintf(s->data + s->size, 512, format, args);
    va_end(args);
    if (n > 0) s->size += kalm__min((size_t)n, 511);
}

EV__FN void ev_put_json(ev_string *s, kalm_text t)
{
    size_t i, n;
    ev_put(s, "\"", 1);
    for (i = 0; i < t.size; i += n) {
        char out[8];
        n = kalm__json_utf8((const unsigned char *)t.data + i, t.size - i);
        if (n > 1) ev_put(s, t.data + i, n);
        else if (n) ev_put(s, out, kalm__json_escape(t.data + i, 1, out));
        else ev_put(s, "\xef\xbf\xbd", 3), n = 1;
    }
    ev_put(s, "\"", 1);
}

/* ---- lines with checksums ------------------------------------------------------------------------------------- */

typedef struct ev_journal {
    char     *path, *spool_path;
    FILE     *f, *spool;
    ev_string line;
    uint64_t  damaged;                 /* lines that were passed over */
} ev_journal;

/* A line that was neither cut off nor damaged: its checksum is that of the rest. */
EV__FN int ev_is_sound(kalm_text line)
{
    char sum[24];
    if (line.size <= 17) return 0;
    sprintf(sum, "%016llx ", (unsigned long long)ev_plain_hash(line.data + 17, line.size - 17));
    return memcmp(sum, line.data, 17) == 0;
}

/* Is the line that was just read the file's last, cut off before its end? */
EV__FN int ev_is_open(const ev_file *f) { return f->ended && f->at == f->size && f->size && f->data[f->size - 1] != '\n'; }

typedef void ev_line_call(void *user, const kalm__json *j);

/* Calls for every sound line of the file; a file that is not there has none. Returns how many were damaged; *open_end: the last
   line has no end. */
EV__FN uint64_t ev_read_journal(const char *path, ev_line_call *call, void *user, int *open_end)
{
    ev_file f;
    kalm_text line;
    kalm__json j;
    kalm_error err;
    uint64_t damaged = 0;
    kalm_allocator allocator = cmd_allocator();
    *open_end = 0;
    if (!kalm__file_exists(path)) return 0;
    kalm__json_begin(&j, &allocator);
    ev_open(&f, path, NULL);
    while (ev_next_line(&f, &line)) {
        *open_end = ev_is_open(&f);
        if (!ev_is_sound(line) || kalm__json_parse(&j, path, line.data + 17, line.size - 17, &err)) damaged++;
        else call(user, &j);
    }
    ev_close(&f);
    kalm__json_end(&j);
    return damaged;
}

/* Does the file have this line, whole, which says what the job is? *open_end: the last line that was read has no end. That it is another job's
   ends the command: a journal's name has a hash of the job without a key. */
EV__FN int ev_journal_has(const char *path, kalm_text wanted, int *open_end)
{
    static const char job[] = "{\"t\": \"job\"";
    ev_file f;
    kalm_text line;
    int found = 0;
    *open_end = 0;
    if (!kalm__file_exists(path)) return 0;
    ev_open(&f, path, NULL);
    while (!found && ev_next_line(&f, &line)) {
        *open_end = ev_is_open(&f);
        found = line.size == wanted.size + 17 && !memcmp(line.data + 17, wanted.data, wanted.size) && ev_is_sound(line);
        if (!found && line.size > 17 + sizeof job && !memcmp(line.data + 17, job, sizeof job - 1) && ev_is_sound(line))
            die("%s is the journal of another job than its name says: move it away", path);
    }
    ev_close(&f);
    return found;
}

/* Appends journal->line, which is begun anew. */
EV__FN void ev_journal_write(ev_journal *w)
{
    fprintf(w->f, "%016llx %s\n", (unsigned long long)ev_plain_hash(w->line.data, w->line.size), w->line.data);
    if (fflush(w->f) || ferror(w->f)) die("cannot write %s: %s", w->path, strerror(errno));
    w->line.size = 0;
}

EV__FN void ev_journal_open(ev_journal *w, int open_end)
{
    w->f = cmd_fopen(w->path, "ab");
    if (!w->f) die("cannot write %s: %s", w->path, strerror(errno));
    if (open_end) fputc('\n', w->f);
    memset(&w->line, 0, sizeof w->line);
}

EV__FN void ev_journal_close(ev_journal *w)
{
    if (w->f && fclose(w->f)) die("cannot write %s: %s", w->path, strerror(errno));
    if (w->spool) fclose(w->spool);
    if (w->spool_path) ev_remove(w->spool_path);
    free(w->line.data);
    w->f = w->spool = NULL;
}

/* ---- the spool ------------------------------------------------------------------------------------------------ */

typedef unsigned char ev_sum[KALM__SHA256_BYTES];      /* of a text */
typedef struct ev__spooled { uint64_t magic; ev_sum text; uint64_t bytes, id, size; double seconds; } ev__spooled;
#define EV__SPOOL_MAGIC 0x324c4f4f50534b4bu

EV__FN void ev__spool_put(ev_journal *w, FILE *f, kalm_text id, const ev_sum text, double seconds, const void *data, size_t size)
{
    ev__spooled h;
    h.magic = EV__SPOOL_MAGIC;
    memcpy(h.text, text, sizeof h.text);
    h.bytes = ev_plain_hash(data, size);
    h.id = id.size;
    h.size = size;
    h.seconds = seconds;
    if (fwrite(&h, sizeof h, 1, f) != 1 || (id.size && fwrite(id.data, id.size, 1, f) != 1) || fwrite(data, size, 1, f) != 1
        || fflush(f))
        die("cannot write %s: %s", w->spool_path, strerror(errno));
}

/* Empties the spool. */
EV__FN void ev_spool_clear(ev_journal *w)
{
    if (w->spool) fclose(w->spool);
    w->spool = cmd_fopen(w->spool_path, "wb");
    if (!w->spool) die("cannot write %s: %s", w->spool_path, strerror(errno));
}

typedef struct ev_kept { kalm_doc *doc; double seconds; } ev_kept;

/* Documents of the spool that are still to be used: kept[doc] for those that `needed` names. What is whole is written to a new
   file first, so that a torn end does not stay. Returns how many there are. */
EV__FN size_t ev_spool_load(ev_journal *w, const ev_data *d, const kalm_model *model, const ev_sum *text_sum,
                            const unsigned char *needed, ev_kept *kept)
{
    FILE *f = cmd_fopen(w->spool_path, "rb");
    char *fresh = (char *)cmd_alloc(strlen(w->spool_path) + 8);
    size_t count = 0;
    sprintf(fresh, "%s.new", w->spool_path);
    w->spool = cmd_fopen(fresh, "wb");
    if (!w->spool) die("cannot write %s: %s", fresh, strerror(errno));
    while (f) {
        ev__spooled h;
        char *data;
        kalm_text id;
        uint32_t doc;
        kalm_error err;
        if (fread(&h, sizeof h, 1, f) != 1 || h.magic != EV__SPOOL_MAGIC || h.id > 1 << 20 || h.size > (uint64_t)1 << 31) break;
        data = (char *)cmd_alloc((size_t)(h.id + h.size));
        if (fread(data, 1, (size_t)(h.id + h.size), f) != h.id + h.size
            || ev_plain_hash(data + h.id, (size_t)h.size) != h.bytes) {
            free(data);
            break;
        }
        id.data = data;
        id.size = (size_t)h.id;
        doc = ev_find(&d->docs, id);
        if (doc != EV_NONE && needed[doc] && !memcmp(text_sum[doc], h.text, sizeof h.text) && !kept[doc].doc
            && kalm_doc_open(model, data + h.id, (size_t)h.size, 0, &kept[doc].doc, &err) == KALM_OK) {
            kept[doc].seconds = h.seconds;
            count++;
            ev__spool_put(w, w->spool, id, h.text, h.seconds, data + h.id, (size_t)h.size);
        }
        free(data);
    }
    if (f) fclose(f);
#if defined(_WIN32)
    fclose(w->spool);
    ev_remove(w->spool_path);
    if (rename(fresh, w->spool_path)) die("cannot rename %s: %s", fresh, strerror(errno));
    w->spool = cmd_fopen(w->spool_path, "ab");
    if (!w->spool) die("cannot write %s: %s", w->spool_path, strerror(errno));
#else
    if (rename(fresh, w->spool_path)) die("cannot rename %s: %s", fresh, strerror(errno));
#endif
    free(fresh);
    return count;
}

#endif
