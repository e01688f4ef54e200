/* server_forms.h - the wire forms of rerankers, as data: what a request calls its parts and what an answer is made of. A
   request of any form becomes a job (server_job.h), and a job's answer or error is printed in the form it came in. To add a
   form, add a row to `forms` and a line to form_of_body that tells it by.

   A form is told by the path (/v2/rerank, /score, or a segment that names it, /voyage/v1/rerank), by what only it has (texts,
   top_k), by the client that says its name, and by the models that the client's service has. What is left is asked in words
   that Cohere's v1, Jina, llama-server and vLLM have in common, and is answered with what any of them looks for. */
#ifndef KALM_SERVER_FORMS_H
#define KALM_SERVER_FORMS_H

#include "server_json.h"

/* What an answer has beside its results. */
enum {
    HAS_ID = 1, HAS_OBJECT = 2, HAS_MODEL = 4, HAS_USAGE = 8, HAS_META = 16, HAS_CREATED = 32,
    IS_ARRAY = 64,                     /* the answer is the array of results */
    IN_ORDER = 128,                    /* results stay in the order of the request */
    OF_OBJECTS = 256,                  /* each result is an "object": "score" */
    TEXT_AS_STRING = 512               /* shown documents are strings; else {"text": ...}, or as they were sent */
};

/* How an error is written. */
enum { ERROR_ANY, ERROR_MESSAGE, ERROR_DETAIL, ERROR_TEI, ERROR_VLLM };

typedef struct form {
    const char *name;                  /* in paths, logs and metrics */
    unsigned    has;
    const char *list, *score, *shown;  /* names in an answer */
    const char *texts, *echo;          /* names in a request */
    int         echoes;                /* documents are shown unless the request says no */
    const char *version;               /* of meta.api_version */
    int         error;
    int         invalid;               /* status of a request that makes no sense */
    int         too_many;              /* status of one with too many documents or tokens */
} form;

enum { FORM_ANY, FORM_COHERE1, FORM_COHERE2, FORM_JINA, FORM_TEI, FORM_VOYAGE, FORM_SCORE, FORMS };

static const form forms[FORMS] = {
    { "any", HAS_ID | HAS_OBJECT | HAS_MODEL | HAS_USAGE | HAS_META, "results", "relevance_score", "document",
      "documents", "return_documents", 0, "1", ERROR_ANY, 400, 400 },
    { "cohere1", HAS_ID | HAS_META, "results", "relevance_score", "document",
      "documents", "return_documents", 0, "1", ERROR_MESSAGE, 400, 400 },
    { "cohere2", HAS_ID | HAS_META, "results", "relevance_score", "document",
      "documents", "return_documents", 0, "2", ERROR_MESSAGE, 400, 400 },
    { "jina", HAS_OBJECT | HAS_MODEL | HAS_USAGE, "results", "relevance_score", "document",
      "documents", "return_documents", 1, NULL, ERROR_DETAIL, 422, 422 },
    { "tei", IS_ARRAY, NULL, "score", "text",
      "texts", "return_text", 0, NULL, ERROR_TEI, 422, 413 },
    { "voyage", HAS_OBJECT | HAS_MODEL | HAS_USAGE | TEXT_AS_STRING, "data", "relevance_score", "document",
      "documents", "return_documents", 0, NULL, ERROR_DETAIL, 400, 400 },
    { "score", HAS_ID | HAS_OBJECT | HAS_CREATED | HAS_MODEL | HAS_USAGE | IN_ORDER | OF_OBJECTS, "data", "score", "document",
      "text_2", "return_documents", 0, NULL, ERROR_VLLM, 400, 400 }
};

/* ---- which form -------------------------------------------------------------------------------------------------- */

/* The form that a segment of a path names, or -1. */
KALM__FN int form_named(const char *s, size_t n)
{
    static const struct { const char *name; int form; } names[] = {
        { "cohere", FORM_COHERE2 }, { "jina", FORM_JINA }, { "llama", FORM_ANY }, { "tei", FORM_TEI }, { "voyage", FORM_VOYAGE },
        { "vllm", FORM_ANY }
    };
    size_t i;
    for (i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].name) == n && !memcmp(names[i].name, s, n)) return names[i].form;
    return -1;
}

KALM__FN int form__begins(const char *s, const char *with) { return s && !strncmp(s, with, strlen(with)); }

/* By what the body has, and by `client`: User-Agent, X-Fern-SDK-Name and X-Client-Name, in lower case. */
KALM__FN int form_of_body(const json_t *body, const char *client)
{
    const char *model = json_string_value(json_member(body, "model"));
    if (json_member(body, "texts")) return FORM_TEI;
    if (strstr(client, "voyage") || json_member(body, "top_k") || json_member(body, "truncation")) return FORM_VOYAGE;
    if (strstr(client, "cohere") || json_member(body, "rank_fields") || json_member(body, "max_tokens_per_doc") ||
        json_member(body, "max_chunks_per_doc")) return FORM_COHERE1;
    if (form__begins(model, "rerank-v") || form__begins(model, "rerank-english") || form__begins(model, "rerank-multilingual"))
        return FORM_COHERE1;
    if (form__begins(model, "rerank-1") || form__begins(model, "rerank-2") || form__begins(model, "rerank-lite"))
        return FORM_VOYAGE;
    if (form__begins(model, "jina-")) return FORM_JINA;
    return FORM_ANY;
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

/* The sentence of a value that is not as it should be has the form's status. */
KALM__FN int form_refuse(job *j)
{
    if (j->status == 400 && j->form) j->status = j->form->invalid;
    return 0;
}

/* Names of one thing; those of text_1 and text_2 in /score alone. */
enum { FORM_NAMES = 4 };
static const struct { int score; const char *name[FORM_NAMES]; } form_synonyms[] = {
    { 0, { "top_n", "top_k", NULL, NULL } }, { 0, { "truncate", "truncation", NULL, NULL } }, { 0, { "return_documents", "return_text", NULL, NULL } },
    { 0, { "documents", "texts", NULL, NULL } }, { 0, { "document_ids", "texts", NULL, NULL } }, { 0, { "metadata", "metadatas", NULL, NULL } },
    { 1, { "text_1", "data_1", "queries", "query" } }, { 1, { "text_2", "data_2", "documents", "items" } }
};

KALM__FN int form__unlike(job *j, const json_t *a, const json_t *b, const char *name, const char *other)
{
    if (!a || !b || json_is_null(a) || json_is_null(b) || json_equal(a, b)) return 1;
    job_fail(j, 400, "\"%.40s\" and \"%.40s\" are one thing and say two, and nobody can know which is meant", name, other);
    return form_refuse(j);
}

/* A body that gives one thing under two names, or as JavaScript writes a name besides, must say the same by both. */
KALM__FN int form_check_names(job *j)
{
    const size_t rows = sizeof form_synonyms / sizeof *form_synonyms;
    size_t row, i, k;
    const char *name;
    json_t *v;
    json_object_foreach(j->body, name, v) {
        char snake[80];
        size_t n = 0;
        for (i = 0; name[i] && n + 2 < sizeof snake; i++) {
            if (name[i] >= 'A' && name[i] <= 'Z') snake[n++] = '_', snake[n++] = (char)(name[i] - 'A' + 'a');
            else snake[n++] = name[i];
        }
        snake[n] = 0;
        if (n > i && !name[i] && !form__unlike(j, v, json_object_get(j->body, snake), name, snake)) return 0;
    }
    for (row = 0; row < rows; row++)
        for (i = 0; i < FORM_NAMES && (!form_synonyms[row].score || j->form->has & OF_OBJECTS); i++)
            for (k = i + 1; k < FORM_NAMES; k++) {
                const char *a = form_synonyms[row].name[i], *b = form_synonyms[row].name[k];
                if (a && b && !form__unlike(j, json_member(j->body, a), json_member(j->body, b), a, b)) return 0;
            }
    return 1;
}

KALM__FN int form__rooms(job *j, size_t queries, size_t count)
{
    j->queries = queries;
    j->count = count;
    j->query = (kalm_text *)calloc(queries + 1, sizeof *j->query);
    j->doc = (job_document *)calloc(count + 1, sizeof *j->doc);
    if (!j->query || !j->doc) return job_fail(j, 503, "there is no memory for %lu documents", (unsigned long)count);
    return 1;
}

/* The text of a document that is an object: its fields `fields` (an array of names; NULL: "text" alone) one behind the other, as
   Cohere's rank_fields has it. */
KALM__FN int form__fields(job *j, const json_t *object, const json_t *fields, size_t at, kalm_text *to)
{
    const json_t *v;
    char *all = NULL, *number = NULL, *grown;
    size_t i, n = 0;
    if (!fields) {
        v = json_object_get(object, "text");
        if (!json_is_string(v))
            return job_fail(j, 400, "%s[%lu] has no string \"text\"; rank_fields names other fields", j->form->texts,
                            (unsigned long)at);
        *to = json_string_text(v);
        return 1;
    }
    for (i = 0; i < json_array_size(fields); i++) {
        kalm_text t = { NULL, 0 };
        v = json_object_get(object, json_string_value(json_array_get(fields, i)));
        if (!v || json_is_null(v)) continue;
        if (json_is_string(v)) t = json_string_text(v);
        else {
            number = json_dump_text(v);
            t = kalm__text(number);
        }
        grown = t.data ? (char *)realloc(all, n + t.size + 2) : NULL;
        if (!grown) {
            free(all);
            free(number);
            return job_fail(j, 503, "there is no memory for the fields of %s[%lu]", j->form->texts, (unsigned long)at);
        }
        all = grown;
        if (n) all[n++] = ' ';
        if (t.size) memcpy(all + n, t.data, t.size);
        n += t.size;
        free(number);
        number = NULL;
    }
    if (!all) return job_fail(j, 400, "%s[%lu] has none of the rank_fields", j->form->texts, (unsigned long)at);
    *to = job_keep(j, all, n);
    free(all);
    return to->data ? 1 : job_fail(j, 503, "there is no memory for the fields of %s[%lu]", j->form->texts, (unsigned long)at);
}

/* rank_fields: names, none of them twice, and not so many that to look for each in each document costs much. A name that came a
   thousand times would make a thousand copies of each text. */
enum { FORM_FIELDS = 64 };

KALM__FN int form__names(job *j, const json_t *fields)
{
    json_t *seen;
    size_t i;
    if (json_array_size(fields) > FORM_FIELDS)
        return job_fail(j, 400, "rank_fields has %lu names, this server takes %d", (unsigned long)json_array_size(fields), FORM_FIELDS);
    seen = json_object();
    for (i = 0; i < json_array_size(fields) && !j->status; i++) {
        const json_t *v = json_array_get(fields, i);
        const char *name = json_string_value(v);
        if (!name) job_fail(j, 400, "rank_fields must be an array of names");
        else if (json_object_get(seen, name)) job_fail(j, 400, "rank_fields has '%.120s' twice", name);
        else if (json_object_set_new(seen, name, json_true())) job_fail(j, 503, "there is no memory for rank_fields");
    }
    json_decref(seen);
    return !j->status;
}

KALM__FN int form__take_documents(job *j, const json_t *list)
{
    const json_t *fields = json_member(j->body, "rank_fields");
    size_t i;
    if (fields) {
        if (!json_is_array(fields)) return job_fail(j, 400, "rank_fields must be an array of names");
        if (!form__names(j, fields)) return 0;
        if (!json_array_size(fields)) fields = NULL;
    }
    for (i = 0; i < j->count; i++) {
        json_t *v = json_array_get(list, i);
        j->doc[i].original = v;
        if (json_is_string(v)) j->doc[i].text = json_string_text(v);
        else if (!json_is_object(v))
            return job_fail(j, 400, "%s[%lu] must be a string or an object", j->form->texts, (unsigned long)i);
        else if (!form__fields(j, v, fields, i, &j->doc[i].text)) return 0;
    }
    return 1;
}

/* Ids of kept documents. */
KALM__FN int form_take_keys(job *j, const json_t *list, const char *name)
{
    size_t i;
    for (i = 0; i < j->count; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_string(v) || !json_string_length(v) || memchr(json_string_value(v), 0, json_string_length(v)))
            return job_fail(j, 400, "%s[%lu] must be a string with no NUL in it, and not empty", name, (unsigned long)i);
        j->doc[i].key = json_string_text(v);
    }
    return 1;
}

KALM__FN int form__count(job *j, const json_t *list, const char *name, size_t most)
{
    size_t n = json_array_size(list);
    if (!json_is_array(list)) return job_fail(j, 400, "%s must be an array", name);
    if (!n) return job_fail(j, 400, "%s must not be empty", name);
    if (n > most)
        return job_fail(j, j->form->too_many, "%s has %lu entries, this server takes %lu at a time", name, (unsigned long)n,
                        (unsigned long)most);
    return 1;
}

/* vLLM's /score: one text against many, or as many pairs; text_1 and text_2 under all the names that it has had. */
KALM__FN int form__take_pairs(job *j, size_t most)
{
    static const char *const first[] = { "text_1", "data_1", "queries", "query" };
    static const char *const second[] = { "text_2", "data_2", "documents", "items" };
    const json_t *a = NULL, *b = NULL;
    size_t i, n, m;
    for (i = 0; i < 4 && !a; i++) a = json_member(j->body, first[i]);
    for (i = 0; i < 4 && !b; i++) b = json_member(j->body, second[i]);
    if (!a || !b) return job_fail(j, 400, "text_1 and text_2 must be there: texts, or arrays of texts");
    if (json_is_string(a) || json_is_object(a)) n = 1;
    else if (form__count(j, a, "text_1", most)) n = json_array_size(a);
    else return 0;
    if (json_is_string(b) || json_is_object(b)) m = 1;
    else if (form__count(j, b, "text_2", most)) m = json_array_size(b);
    else return 0;
    if (n != 1 && n != m)
        return job_fail(j, 400, "text_1 has %lu texts and text_2 %lu: they must be as many, or text_1 one", (unsigned long)n,
                        (unsigned long)m);
    if (!form__rooms(j, n, m)) return 0;
    for (i = 0; i < n; i++) {
        const json_t *v = json_is_array(a) ? json_array_get(a, i) : a;
        if (json_is_object(v)) v = json_object_get(v, "text");
        if (!json_is_string(v)) return job_fail(j, 400, "text_1 must be a text or an array of texts");
        j->query[i] = json_string_text(v);
    }
    if (json_is_array(b)) return form__take_documents(j, b);
    j->doc[0].original = json_member(j->body, "text_2");
    if (json_is_string(b)) j->doc[0].text = json_string_text(b);
    else if (!form__fields(j, b, NULL, 0, &j->doc[0].text)) return 0;
    return 1;
}

/* What all forms call the same: the extensions, and what Cohere, TEI and Voyage have for long texts. */
KALM__FN int form__take_rest(job *j)
{
    json_int_t top = 0, ratio = 0, tokens = 0;
    double deadline = -1;
    int truncate = 1, truncation = 1;
    if (!json_take_text(j, "model", &j->model) || !json_take_text(j, "system", &j->system) ||
        !json_take_text(j, "instruction", &j->instruction) || !json_take_number(j, "top_n", 0, INT32_MAX, &top) ||
        !json_take_number(j, "top_k", 0, INT32_MAX, &top) || !json_take_number(j, "ratio", 1, 1 << 20, &ratio) ||
        !json_take_number(j, "max_tokens_per_doc", 1, 1 << 30, &tokens) || !json_take_flag(j, "return_margin", &j->margin) ||
        !json_take_flag(j, "raw_scores", &j->raw) || !json_take_flag(j, j->form->echo, &j->echo) ||
        !json_take_flag(j, "truncate", &truncate) || !json_take_flag(j, "truncation", &truncation) ||
        !json_take_real(j, "deadline_ms", 0, 1e9, &deadline)) return 0;
    j->top = top ? (size_t)top : j->count;
    if (j->top > j->count || j->form->has & IN_ORDER) j->top = j->count;
    j->ratio = (uint32_t)ratio;
    j->max_tokens = (uint32_t)tokens;
    j->whole = !truncate || !truncation;
    j->has_deadline = deadline >= 0;
    j->deadline = j->arrived + deadline / 1000;
    return 1;
}

/* A request to rank: j->body becomes the rest of the job. 0: j->status and j->why say what is wrong. */
KALM__FN int form_read_rerank(job *j, size_t most)
{
    const json_t *query = json_member(j->body, "query"), *list = json_member(j->body, j->form->texts);
    const json_t *keys = json_member(j->body, "document_ids");
    j->kind = JOB_RERANK;
    j->echo = j->form->echoes;
    if (j->form->has & OF_OBJECTS && !keys) return (form__take_pairs(j, most) && form__take_rest(j)) || form_refuse(j);
    if (json_is_object(query)) query = json_object_get(query, "text");
    if (!json_is_string(query)) {
        job_fail(j, 400, "query must be a string");
        return form_refuse(j);
    }
    if (!list && j->form->texts[0] != 'd') list = json_member(j->body, "documents");
    if (list && keys) job_fail(j, 400, "documents or document_ids, not both");
    else if (!list && !keys) job_fail(j, 400, "%s must be an array of texts", j->form->texts);
    else if (form__count(j, keys ? keys : list, keys ? "document_ids" : j->form->texts, most) &&
             form__rooms(j, 1, json_array_size(keys ? keys : list))) {
        j->query[0] = json_string_text(query);
        j->by_key = keys != NULL;
        if ((keys ? form_take_keys(j, keys, "document_ids") : form__take_documents(j, list)) && form__take_rest(j)) return 1;
    }
    return form_refuse(j);
}

/* ---- answers ----------------------------------------------------------------------------------------------------- */

KALM__FN void form__show_document(const job *j, const job_document *d, json_out *out)
{
    const form *f = j->form;
    char *dump;
    json_key(out, f->shown);
    if (f->has & (TEXT_AS_STRING | IS_ARRAY)) {
        json_text(out, d->text);
    } else if (json_is_object(d->original)) {
        dump = json_dump_text(d->original);
        if (!dump) out->memory->lost = 1;
        json_raw(out, dump ? dump : "null");
        free(dump);
    } else {
        json_open(out, '{');
        json_key(out, "text");
        json_text(out, d->text);
        json_close(out);
    }
}

KALM__FN void form__result(const job *j, size_t index, json_out *out)
{
    const form *f = j->form;
    const job_document *d = &j->doc[index];
    json_open(out, '{');
    json_key(out, "index");
    json_uint(out, index);
    if (f->has & OF_OBJECTS) {
        json_key(out, "object");
        json_text(out, kalm__text("score"));
    }
    if (d->key.data) {
        json_key(out, "document_id");
        json_text(out, d->key);
    }
    if (j->echo && f->has & IS_ARRAY) form__show_document(j, d, out);
    json_key(out, f->score);
    json_float(out, (double)(j->raw ? d->margin : d->score), 9);
    if (j->margin) {
        json_key(out, "margin");
        if (d->done) json_float(out, (double)d->margin, 9);
        else json_raw(out, "null");
    }
    if (j->margin && d->cut) {
        json_key(out, "cut");
        json_bool(out, 1);
    }
    if (j->has_deadline && !d->done) {
        json_key(out, "scored");
        json_bool(out, 0);
    }
    if (j->echo && !(f->has & IS_ARRAY)) form__show_document(j, d, out);
    json_close(out);
}

/* Documents in the order of the answer: those with a score, best first, then the others as they came. 0: there is no memory. */
KALM__FN int form_order(const job *j, uint32_t *order)
{
    kalm_score *s;
    size_t i, n = 0, rest;
    for (i = 0; i < j->count; i++) order[i] = (uint32_t)i;
    if (j->form->has & IN_ORDER) return 1;
    s = (kalm_score *)malloc((j->count + 1) * sizeof *s);
    if (!s) return 0;
    for (i = 0; i < j->count; i++) {
        if (!j->doc[i].done) continue;
        memset(&s[n], 0, sizeof s[n]);
        s[n].index = (uint32_t)i;
        s[n++].margin = j->doc[i].margin;
    }
    kalm_sort(s, n);
    for (i = 0; i < n; i++) order[i] = s[i].index;
    for (i = 0, rest = n; i < j->count; i++)
        if (!j->doc[i].done) order[rest++] = (uint32_t)i;
    free(s);
    return 1;
}

KALM__FN void form__usage(const job *j, json_out *out)
{
    json_key(out, "usage");
    json_open(out, '{');
    json_key(out, "prompt_tokens");
    json_uint(out, j->tokens);
    json_key(out, "total_tokens");
    json_uint(out, j->tokens);
    json_close(out);
}

/* Of how many documents, and of any query, only the beginning was read. */
KALM__FN void form_cuts(const job *j, size_t *documents, int *query)
{
    size_t i;
    *documents = 0;
    *query = 0;
    for (i = 0; i < j->count; i++) {
        *documents += (j->doc[i].cut & KALM_CUT_DOCUMENT) != 0;
        *query |= (j->doc[i].cut & KALM_CUT_QUERY) != 0;
    }
}

KALM__FN void form__meta(const job *j, json_out *out)
{
    char warning[160];
    size_t cut;
    int query;
    form_cuts(j, &cut, &query);
    json_key(out, "meta");
    json_open(out, '{');
    json_key(out, "api_version");
    json_open(out, '{');
    json_key(out, "version");
    json_text(out, kalm__text(j->form->version));
    json_close(out);
    json_key(out, "billed_units");
    json_open(out, '{');
    json_key(out, "search_units");
    json_uint(out, 1);
    json_close(out);
    if (cut || query) {
        snprintf(warning, sizeof warning, "of %lu documents only the beginning was read: they are too long", (unsigned long)cut);
        json_key(out, "warnings");
        json_open(out, '[');
        if (cut) json_text(out, kalm__text(warning));
        if (query) json_text(out, kalm__text("of the query only the beginning was read: it is too long"));
        json_close(out);
    }
    json_close(out);
}

/* The answer of a ranking. `id` is the request's, `name` the model's. */
KALM__FN void form_print_ranking(const job *j, const char *id, const char *name, const uint32_t *order, memory_out *to)
{
    const form *f = j->form;
    json_out out;
    size_t i, scored = 0;
    json_begin_memory(&out, to);
    if (!(f->has & IS_ARRAY)) json_open(&out, '{');
    if (f->has & HAS_ID) {
        json_key(&out, "id");
        json_text(&out, kalm__text(id));
    }
    if (f->has & HAS_OBJECT) {
        json_key(&out, "object");
        json_text(&out, kalm__text("list"));
    }
    if (f->has & HAS_CREATED) {
        json_key(&out, "created");
        json_uint(&out, (uint64_t)time(NULL));
    }
    if (f->has & HAS_MODEL) {
        json_key(&out, "model");
        json_text(&out, j->model.size ? j->model : kalm__text(name));
    }
    if (f->has & HAS_USAGE) form__usage(j, &out);
    if (f->list) json_key(&out, f->list);
    json_open(&out, '[');
    for (i = 0; i < j->top; i++) form__result(j, order[i], &out);
    json_close(&out);
    if (f->has & HAS_META) form__meta(j, &out);
    if (j->has_deadline && !(f->has & IS_ARRAY)) {
        for (i = 0; i < j->count; i++) scored += j->doc[i].done != 0;
        json_key(&out, "scored");
        json_uint(&out, scored);
        json_key(&out, "complete");
        json_bool(&out, scored == j->count);
    }
    if (!(f->has & IS_ARRAY)) json_close(&out);
}

/* The error types that OpenAI's servers, and vLLM and llama-server after them, write beside a status. */
KALM__FN const char *form__error_type(int status)
{
    return status == 401 ? "authentication_error" : status == 404 ? "not_found_error" : status == 503 ? "unavailable_error"
         : status >= 500 ? "server_error" : "invalid_request_error";
}

KALM__FN const char *form__tei_type(int status)
{
    return status == 413 || status == 400 ? "Validation" : status == 422 ? "Tokenizer"
         : status == 503 || status == 429 ? "Overloaded" : status >= 500 ? "Backend" : "Validation";
}

KALM__FN void form_print_error(const form *f, int status, const char *why, memory_out *to)
{
    json_out out;
    int kind = f ? f->error : ERROR_ANY;
    json_begin_memory(&out, to);
    json_open(&out, '{');
    if (kind == ERROR_MESSAGE || kind == ERROR_ANY) {
        json_key(&out, "message");
        json_text(&out, kalm__text(why));
    }
    if (kind == ERROR_DETAIL || kind == ERROR_ANY) {
        json_key(&out, "detail");
        json_text(&out, kalm__text(why));
    }
    if (kind == ERROR_TEI) {
        json_key(&out, "error");
        json_text(&out, kalm__text(why));
        json_key(&out, "error_type");
        json_text(&out, kalm__text(form__tei_type(status)));
    }
    if (kind == ERROR_VLLM || kind == ERROR_ANY) {
        json_key(&out, "error");
        json_open(&out, '{');
        json_key(&out, "message");
        json_text(&out, kalm__text(why));
        json_key(&out, "type");
        json_text(&out, kalm__text(form__error_type(status)));
        json_key(&out, "param");
        json_raw(&out, "null");
        json_key(&out, "code");
        json_uint(&out, (uint64_t)status);
        json_close(&out);
    }
    json_close(&out);
}

#endif
