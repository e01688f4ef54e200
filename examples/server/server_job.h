/* server_job.h - one request between its wire form and its computing: what is asked, in no form's words, and what came of it.
   server_forms.h makes it of JSON and prints its answer; server_queue.h computes rankings and server_kept.h keeps documents.
   A job belongs to one of them at a time: to the HTTP thread that reads it, then to the queue or the store, then to HTTP
   again. */
#ifndef KALM_SERVER_JOB_H
#define KALM_SERVER_JOB_H

#include <jansson.h>
#include <setjmp.h>
#include "../json_dump.h"

/* Memory that a request's JSON lies in (server_json.h): `room` bytes behind this. */
typedef struct json_block {
    struct json_block *before;
    size_t             used, room;
} json_block;

KALM__FN void json_blocks_end(json_block *b)
{
    while (b) {
        json_block *before = b->before;
        free(b);
        b = before;
    }
}

typedef enum job_kind { JOB_NONE, JOB_RERANK, JOB_ADD, JOB_GET, JOB_LIST, JOB_DELETE } job_kind;

/* What is known of one document of a job. */
typedef struct job_document {
    kalm_text   text;                  /* to be encoded; of a kept document that an answer shows, a copy (job.made) */
    kalm_text   key;                   /* of a kept document, or of one to keep */
    kalm_text   title;                 /* of one to keep: encoded before the text, a space between */
    kalm_text   metadata;              /* of one to keep: a JSON object */
    json_t     *original;              /* as the request has it, to be shown again; borrowed from job.body */
    float       margin, score;
    uint32_t    cut;                   /* as in kalm_score */
    uint32_t    tokens;                /* that were read of it */
    int64_t     window;                /* of a kept text that was split: which one is the best */
    int         done;                  /* it has a score, or is encoded */
    int         known;                 /* of one to keep: DOCUMENT_... */
} job_document;

enum { DOCUMENT_NEW, DOCUMENT_CHANGED, DOCUMENT_SAME };

struct form;
struct kept_piece;

typedef struct job {
    job_kind           kind;
    const struct form *form;           /* whose words it came in, and will be answered in */
    json_t            *body;           /* has the texts; lies in `blocks` */
    json_block        *blocks;         /* owned */
    json_t            *made;           /* an array: owns the texts that were put together */

    /* what is asked */
    kalm_text         *query;          /* [queries] */
    size_t             queries;        /* 1, or `count`: document i is for query i */
    job_document      *doc;            /* [count] */
    size_t             count;
    kalm_text          model, system, instruction;     /* data NULL: not given */
    size_t             top;            /* so many results at most */
    uint32_t           ratio;          /* 0: the server's, or of kept documents the store's */
    uint32_t           max_tokens;     /* of each text; 0: the server's */
    int                by_key;         /* documents are kept ones */
    int                echo;           /* show the documents */
    int                margin;         /* show margins */
    int                raw;            /* the score is the margin (raw_scores) */
    int                whole;          /* a text that is too long is an error (truncate: false) */
    int                has_deadline;
    double             arrived;        /* kalm__now() */
    double             deadline;       /* give what there is at this time */
    double             limit;          /* give up at this time */
    size_t             list_limit;     /* of JOB_LIST */
    int64_t            list_after;

    /* how far it is; the queue's alone while the job is there */
    size_t             next;           /* documents before this one are taken up */
    size_t             done;
    int                prepared;
    int                taken;          /* it has documents in the slice at work */
    struct job        *before, *after; /* in the queue's ring */
    struct kept_piece *piece;          /* [pieces] of JOB_ADD: encoded documents on their way into the store */
    size_t             pieces, piece_room;
    int                gone;           /* its client hung up: no answer is wanted */

    /* what came of it */
    uint64_t           tokens;         /* of documents and queries */
    uint64_t           hits;           /* documents whose decoder state was warm */
    int                status;         /* of HTTP; 0: still going, 200: well */
    double             retry_after;    /* seconds; 0: not said */
    char               why[400];       /* one sentence where it is not well */
    char              *answer;         /* JSON that is already written: of store jobs; to be freed */
    double             waited, computed;   /* seconds in the queue before the first slice; of slices */
    void              *owner;          /* the exchange of server_http.h */
} job;

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4), unused))
#endif
static int job_fail(job *j, int status, const char *format, ...);
/* The job ends with this status, unless it has ended before. Returns 0. */
static int job_fail(job *j, int status, const char *format, ...)
{
    va_list args;
    if (j->status) return 0;
    j->status = status;
    va_start(args, format);
    vsnprintf(j->why, sizeof j->why, format, args);
    va_end(args);
    return 0;
}

/* A text of the job's own, which lives as long as the job. data NULL: there is no memory. */
KALM__FN kalm_text job_keep(job *j, const char *data, size_t size)
{
    kalm_text t = { NULL, 0 };
    json_t *s = json_stringn_nocheck(data, size);
    if (!j->made) j->made = json_array();
    if (!s || json_array_append_new(j->made, s)) return t;
    t.data = json_string_value(s);
    t.size = size;
    return t;
}

KALM__FN void kept_drop_pieces(job *j);

KALM__FN void job_end(job *j)
{
    kept_drop_pieces(j);
    json_blocks_end(j->blocks);
    json_decref(j->made);
    free(j->query);
    free(j->doc);
    free(j->answer);
    memset(j, 0, sizeof *j);
}

#endif
