/* index_again.h - kalm-index --verify --again: encodes the texts of a store once more and compares the bytes. A checksum finds a
   document that was damaged; this also finds one that is whole and belongs to another text, or that somebody made. Included behind
   store.h and index_options.h. */
#ifndef KALM_INDEX_AGAIN_H
#define KALM_INDEX_AGAIN_H

enum { AGAIN_TOGETHER = 64 };          /* documents in one call of the encoder */

typedef struct again_row {
    int64_t   number;
    kalm_text key, text, document;     /* owned; title and text as they were encoded */
} again_row;

typedef struct again {
    const store        *s;
    const kalm_model   *model;
    kalm_context       *ctx;           /* NULL: not asked for */
    kalm_params         params;
    again_row           row[AGAIN_TOGETHER];
    size_t              rows, bad, other;          /* other: read with another vocabulary, so not compared */
} again;

KALM__FN void again_begin(again *a, const options *o, const store *s, const kalm_model *model, const kalm_model_info *info)
{
    kalm_config config = o->config;
    kalm_error err;
    memset(a, 0, sizeof *a);
    if (!o->again) return;
    if (!info->has_tokenizer || (info->has_decoder && !info->has_encoder)) die("%s cannot read texts, as --again asks for", o->model);
    a->s = s;
    a->model = model;
    a->params.ratio = s->meta.ratio;
    a->params.bits = s->meta.bits;
    config.max_doc_tokens = s->meta.max_doc_tokens;
    if (kalm_context_new(model, &config, &a->ctx, &err)) exit(cmd_failed(&err));
}

KALM__FN kalm_text again_keep(kalm_text first, kalm_text second)
{
    int both = first.size && second.data;
    char *s = (char *)cmd_alloc(first.size + second.size + 2);
    kalm_text t;
    if (first.size) memcpy(s, first.data, first.size);
    if (both) s[first.size] = ' ';
    if (second.size) memcpy(s + first.size + (both ? 1 : 0), second.data, second.size);
    t.data = s;
    t.size = first.size + second.size + (both ? 1 : 0);
    return t;
}

KALM__FN int again_differs(again *a, const again_row *r, const kalm_doc *made)
{
    kalm_doc *kept = NULL;
    kalm_doc_info now, then;
    kalm_error err;
    size_t size;
    const void *bytes = kalm_doc_bytes(made, &size);
    if (size == r->document.size && !memcmp(bytes, r->document.data, size)) return 0;
    if (kalm_doc_open(a->model, r->document.data, r->document.size, 0, &kept, &err)) return 1;
    kalm_doc_get_info(kept, &then);
    kalm_doc_get_info(made, &now);
    kalm_doc_free(kept);
    if (now.vocabulary == then.vocabulary) return 1;
    a->other++;
    return 0;
}

/* The rows that were collected. */
KALM__FN void again_flush(again *a)
{
    kalm_text text[AGAIN_TOGETHER];
    kalm_doc *made[AGAIN_TOGETHER];
    kalm_error err;
    size_t i;
    for (i = 0; i < a->rows; i++) text[i] = a->row[i].text;
    if (a->rows && kalm_encode(a->ctx, text, a->rows, &a->params, made, &err)) exit(cmd_failed(&err));
    for (i = 0; i < a->rows; i++) {
        again_row *r = &a->row[i];
        if (again_differs(a, r, made[i])) {
            say_plainly("%s: row %lld, '%s': its document is not what its text gives", a->s->path, (long long)r->number, store_shown(r->key));
            a->bad++;
        }
        kalm_doc_free(made[i]);
        free((void *)(uintptr_t)r->key.data);
        free((void *)(uintptr_t)r->text.data);
        free((void *)(uintptr_t)r->document.data);
    }
    a->rows = 0;
}

KALM__FN void again_add(again *a, const store_row *r)
{
    again_row *to = &a->row[a->rows];
    kalm_text none = { NULL, 0 };
    if (!a->ctx) return;
    to->number = r->number;
    to->key = again_keep(r->key, none);
    to->text = again_keep(r->title, r->text);
    to->document = again_keep(r->document, none);
    if (++a->rows == AGAIN_TOGETHER) again_flush(a);
}

KALM__FN void again_end(again *a)
{
    if (!a->ctx) return;
    again_flush(a);
    if (a->other)
        say_plainly("%s: %lu rows were read with another vocabulary than the model's, and were not compared", a->s->path, (unsigned long)a->other);
    kalm_context_free(a->ctx);
}

#endif
