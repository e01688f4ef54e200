/* vocabulary.h - kalm-quantize --vocabulary: which tokens of a model stay. Understands what the option names, scripts and files of
   texts, hands it to tokenizer/import_subset.h, and counts afterwards how many texts read as before. Writes no file. */
#ifndef KALM__VOCABULARY_H
#define KALM__VOCABULARY_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/modelfile.h"
#include "../src/tools/reader.h"
#include "../src/tools/texts.h"
#include "../tokenizer/import_subset.h"

/* What becomes of the vocabulary of one model. */
typedef struct kalm__vocabulary {
    const kalm__file *f;               /* the model */
    kalm__subset   subset;
    int            begun;
    unsigned char *blob;               /* the new TOKENIZER section; owned */
    size_t         blob_size;
    uint32_t      *rows;               /* [count]: the row of the old table that each new id has; owned */
    uint32_t       count;
    uint64_t       texts, same;        /* texts that were looked at afterwards, and those that read as before */
} kalm__vocabulary;

KALM__FN void kalm__vocabulary_end(kalm__vocabulary *v)
{
    kalm_allocator alloc = v->subset.m.alloc;
    if (!v->begun) return;
    kalm__release(&alloc, v->blob, v->blob_size);
    kalm__subset_end(&v->subset);
    free(v->rows);
}

/* ---- texts as the model reads them ------------------------------------------------------------------------------------- */

enum { KALM__READINGS = 3 };           /* of a text: alone, as a document, as a query in the prompt */

/* A text in one of the ways that the model may read it; pieces has room for 9. Returns how many there are. */
KALM__FN size_t kalm__reading(const kalm__file *f, int way, kalm_text title, kalm_text text, kalm__piece *pieces)
{
    static const int before[6] = { KALM__STRING_BEGIN, KALM__STRING_SYSTEM, KALM__STRING_INSTRUCT, KALM__STRING_INSTRUCTION,
                                   KALM__STRING_QUERY, -1 };
    size_t n = 0, i;
    memset(pieces, 0, 9 * sizeof *pieces);
    if (way == 1) pieces[n].trusted = 1, pieces[n++].text = f->string[KALM__STRING_DOCUMENT];
    for (i = 0; way == 2 && before[i] >= 0; i++) pieces[n].trusted = 1, pieces[n++].text = f->string[before[i]];
    if (title.size) {
        pieces[n++].text = title;
        pieces[n].text.data = " ", pieces[n++].text.size = 1;
    }
    pieces[n++].text = text;
    if (way == 2) pieces[n].trusted = 1, pieces[n++].text = f->string[KALM__STRING_END];
    return n;
}

/* Keep what the text needs (small NULL), or find out whether `small` reads it as before: then *same. */
KALM__FN kalm_result kalm__vocabulary_text(kalm__vocabulary *v, const kalm__tokenizer *small, kalm_text title, kalm_text text,
                                           int *same)
{
    kalm__piece pieces[9];
    int way, one = 1;
    kalm_result r = KALM_OK;
    *same = 1;
    if (!text.size && !title.size) return KALM_OK;
    for (way = 0; way < KALM__READINGS && !r && *same; way++) {
        size_t n = kalm__reading(v->f, way, title, text, pieces);
        r = small ? kalm__subset_same(&v->subset, small, pieces, n, &one) : kalm__subset_text(&v->subset, pieces, n);
        *same = one;
    }
    return r;
}

/* All texts of a file: what they need stays (small NULL), or v->texts and v->same count them. */
KALM__FN kalm_result kalm__vocabulary_texts(kalm__vocabulary *v, const kalm__tokenizer *small, const char *path, kalm_error *err)
{
    const char *name = kalm__shown(path);
    kalm_result k = KALM_OK;
    kalm_text none;
    uint64_t found = 0;
    reader r;
    text_record c;
    int what;
    none.data = NULL, none.size = 0;
    if (!reader_begin(&r, path, READ_AUTO)) k = kalm__fail(err, KALM_CANNOT_READ, "%s: %s", name, r.why);
    else r.format = reader_guess(&r, 0);
    r.strict_utf8 = 0;                 /* ill-formed bytes are read as the model would */
    while (!k && (what = reader_next(&r, &c)) != READ_END) {
        int same = 1, query = 1;
        if (what == READ_RECORD) {
            found++;
            k = kalm__vocabulary_text(v, small, c.title, c.text, &same);
            if (!k && c.query.size) k = kalm__vocabulary_text(v, small, none, c.query, &query);
            if (small && !k) v->texts++, v->same += same && query;
        } else if (!r.line) k = kalm__fail(err, KALM_BAD_FILE, "%s: %s", name, r.why);
        else k = kalm__fail(err, KALM_BAD_FILE, strncmp(r.why, "column ", 7) ? "%s, line %z: %s" : "%s, line %z, %s", name,
                            (size_t)r.line, r.why);
        if (!k && kalm__interrupted) k = kalm__fail(err, KALM_CANCELLED, "interrupted");
    }
    reader_end(&r);
    if (!k && !found) k = kalm__fail(err, KALM_BAD_FILE, "%s has no text in it", name);
    return k;
}

/* ---- what the option names ------------------------------------------------------------------------------------------------ */

/* The number of a script's name, in any case, "-" as "_"; KALM__SCRIPTS: there is none. */
KALM__FN uint32_t kalm__vocabulary_script(const char *name, size_t n)
{
    uint32_t i;
    size_t k;
    for (i = 0; i < KALM__SCRIPTS; i++) {
        const char *is = kalm__script_names[i];
        if (strlen(is) != n) continue;
        for (k = 0; k < n; k++) {
            char a = name[k] >= 'A' && name[k] <= 'Z' ? (char)(name[k] + 32) : name[k] == '-' ? '_' : name[k];
            if (a != is[k]) break;
        }
        if (k == n) return i;
    }
    return KALM__SCRIPTS;
}

/* Walk over `what`, "latin,greek,texts.txt". scripts: the scripts go there, *ascii is set; NULL: the files' texts are read. */
KALM__FN kalm_result kalm__vocabulary_items(kalm__vocabulary *v, const char *what, unsigned char *scripts, int *ascii,
                                            const kalm__tokenizer *small, kalm_error *err)
{
    kalm_result r = KALM_OK;
    int more = 1;
    while (!r && more) {
        size_t n = strcspn(what, ",");
        uint32_t script = kalm__vocabulary_script(what, n);
        int plain = n == 5 && !memcmp(what, "ascii", 5);
        char *path = (char *)malloc(n + 1);
        if (!path) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a path");
        memcpy(path, what, n);
        path[n] = 0;
        if (plain) *ascii = 1;
        else if (script < KALM__SCRIPTS) {
            if (scripts) scripts[script] = 1;
        } else if (!kalm__file_exists(path))
            r = kalm__fail(err, KALM_BAD_ARGUMENT, "--vocabulary: \"%q\" is neither a file nor a script (ascii, or a name of "
                           "Unicode's: latin, cyrillic, greek, han, hiragana, arabic, devanagari ...)", path, n);
        else if (!scripts) r = kalm__vocabulary_texts(v, small, path, err);
        free(path);
        more = what[n] == ',';
        what += n + 1;
    }
    return r;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------------- */

/* The rows of the old table that stay: those of the tokens that do, and behind them ids that the tokenizer does not know and the
   model uses all the same. */
KALM__FN kalm_result kalm__vocabulary_rows(kalm__vocabulary *v, kalm_error *err)
{
    const kalm__shape *m = &v->f->shape;
    uint32_t special[3], i, k;
    special[0] = m->yes_id, special[1] = m->no_id, special[2] = m->eoi_id;
    v->rows = (uint32_t *)malloc(((size_t)v->subset.tokens + 3) * sizeof *v->rows);
    if (!v->rows) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %u rows", v->subset.tokens);
    for (i = 0; i < v->subset.tokens; i++) {
        if (v->subset.ids[i] >= m->vocabulary)
            return kalm__fail(err, KALM_BAD_FILE, "token %u of the tokenizer has no row in the embedding table of %u", v->subset.ids[i],
                              m->vocabulary);
        v->rows[i] = v->subset.ids[i];
    }
    v->count = v->subset.tokens;
    for (;;) {                         /* the smallest that is larger than all before */
        uint32_t next = 0xffffffffu;
        for (k = 0; k < 3; k++)
            if (special[k] < m->vocabulary && special[k] < next && special[k] >= v->f->tokenizer.tokens
                && (v->count == v->subset.tokens || special[k] > v->rows[v->count - 1])) next = special[k];
        if (next == 0xffffffffu) return KALM_OK;
        v->rows[v->count++] = next;
    }
}

/* The new id of an old one that stays; 0xffffffff stays what it is. */
KALM__FN uint32_t kalm__vocabulary_id(const kalm__vocabulary *v, uint32_t old)
{
    uint32_t low = 0, high = v->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (v->rows[middle] < old) low = middle + 1;
        else high = middle;
    }
    return low < v->count && v->rows[low] == old ? low : 0xffffffffu;
}

/* Cut the vocabulary of model f to `what`, and of what its texts need to the `most` most frequent tokens (0: all); held_out (or NULL): a file whose texts are counted beside those of `what`. `name` is
   the model's, for errors. kalm__vocabulary_end is due even after a failure. */
KALM__FN kalm_result kalm__vocabulary_cut(kalm__vocabulary *v, const kalm__file *f, const char *what, const char *held_out,
                                          uint32_t most, const char *name, kalm_error *err)
{
    unsigned char scripts[KALM__SCRIPTS];
    kalm__tokenizer small;
    kalm_allocator alloc;
    kalm_text empty;
    uint32_t special[3], i;
    int ok, ascii = 0, any = 0;
    kalm_result r;
    memset(v, 0, sizeof *v);
    memset(scripts, 0, sizeof scripts);
    empty.data = "", empty.size = 0;
    v->f = f;
    if (!f->has_tokenizer) return kalm__fail(err, KALM_BAD_ARGUMENT, "%s has no tokenizer whose vocabulary could be cut", name);
    r = kalm__vocabulary_items(v, what, scripts, &ascii, NULL, err);
    if (r) return r;
    alloc = kalm__allocator(NULL, &ok);
    v->begun = 1;
    r = kalm__subset_begin(&v->subset, &f->tokenizer, name, &alloc, err);
    for (i = 0; i < KALM__SCRIPTS; i++) any |= scripts[i];
    if (!r && (any || ascii)) r = kalm__subset_scripts(&v->subset, scripts, ascii);
    special[0] = f->shape.yes_id, special[1] = f->shape.no_id, special[2] = f->shape.eoi_id;
    for (i = 0; i < 3 && !r; i++)
        if (special[i] < f->tokenizer.tokens) kalm__subset_keep(&v->subset, special[i]);
    for (i = 1; i < KALM__READINGS && !r; i++) {           /* the words around the user's */
        kalm__piece pieces[9];
        size_t n = kalm__reading(f, (int)i, empty, empty, pieces);
        r = kalm__subset_text(&v->subset, pieces, n);
    }
    if (!r) r = kalm__subset_used(&v->subset, 0);
    if (!r) r = kalm__vocabulary_items(v, what, NULL, &ascii, NULL, err);
    if (!r) r = kalm__subset_used(&v->subset, most);
    if (!r) r = kalm__subset_finish(&v->subset, &v->blob, &v->blob_size);
    if (!r) r = kalm__vocabulary_rows(v, err);
    if (!r) r = kalm__tokenizer_open(&small, v->blob, v->blob_size, err);
    if (!r) r = kalm__vocabulary_items(v, what, NULL, &ascii, &small, err);
    if (!r && held_out) {
        v->texts = v->same = 0;
        r = kalm__vocabulary_texts(v, &small, held_out, err);
    }
    return r;
}

#endif
