/* kalm.c - reranking inside PostgreSQL 15 or newer, as an extension. README.md is its manual, kalm--0.1.sql declares the functions:

     kalm_load(path)                                       -- choose the model of this session; returns its name
     kalm_encode(text [, ratio [, bits]])                  -- an encoded document, a bytea to keep in a column
     kalm_score(query, document [, instruction])           -- P(yes) from 0 to 1; document: a text, or what kalm_encode gave
     kalm_rerank(query, ids, documents [, k [, instruction]])   -- rows (id, score, margin, rank, cut), best first

   A backend (the server process of one session, or a parallel worker) has one model and one context. The setting kalm.model names
   the model; it is opened at the first call that needs it, and again when the setting has changed. Parallel workers get the
   settings of their leader, so they use the same model.

   Two rules of PostgreSQL shape this file.

   Errors. ereport(ERROR) leaves by longjmp, which must not skip frames of the library: its context would stay in the middle of a
   computation, and its documents would leak. So nothing that the library calls raises an error: the allocator returns NULL
   instead, and the progress callback catches the error of a cancelled statement, keeps it, and asks the library to stop. The
   error is thrown again after the library has returned. In turn, no function of PostgreSQL that may raise an error is called
   between the opening of a document and its freeing.

   Threads. Only the thread of the backend may touch anything of PostgreSQL, signal handlers included. The library calls the
   allocator and the callback on that thread; its own threads (setting kalm.threads) start with all signals blocked. */
#include "postgres.h"

#include <limits.h>
#include <signal.h>
#include <unistd.h>

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define KALM_RERANK_STATIC
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"

PG_MODULE_MAGIC;

void _PG_init(void);

/* ---- settings -------------------------------------------------------------------------------------------------------- */

static char *model_path;               /* kalm.model; "": none */
static int   thread_count;             /* kalm.threads */
static int   cache_kilobytes;          /* kalm.cache_size */
static int   state_bits;               /* kalm.state_bits */

/* A relative path would be relative to the folder of the database, where no model belongs. */
static bool check_model_path(char **value, void **extra, GucSource source)
{
    if (!**value || is_absolute_path(*value)) return true;
    GUC_check_errdetail("kalm.model must be an absolute path, or empty.");
    return false;
}

static bool check_state_bits(int *value, void **extra, GucSource source)
{
    if (*value == 0 || *value == 4 || *value == 8) return true;
    GUC_check_errdetail("kalm.state_bits must be 8, 4 or 0.");
    return false;
}

void _PG_init(void)
{
    /* Who may set kalm.model can make the server open any file; a thread is a core that other sessions may have wanted. So both
       are for superusers and for whom they GRANT SET ON PARAMETER. Memory is everybody's own to ask for, as work_mem is. */
    DefineCustomStringVariable("kalm.model", "The model file, an absolute path on the server.", NULL, &model_path, "", PGC_SUSET, 0,
                               check_model_path, NULL, NULL);
    DefineCustomIntVariable("kalm.threads", "How many threads one backend computes with.",
                            "Parallel workers are backends of their own.", &thread_count, 1, 1, 256, PGC_SUSET, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("kalm.cache_size", "Memory for decoder states of documents, kept from one query to the next; 0: none.",
                            NULL, &cache_kilobytes, 0, 0, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
    DefineCustomIntVariable("kalm.state_bits", "Bits of the values in decoder states, 8 or 4; 0: states are exact.",
                            "With 8 or 4 all scores change a little, and states take two thirds or half of the bytes.", &state_bits, 0, 0, 8,
                            PGC_USERSET, 0, check_state_bits, NULL, NULL);
    MarkGUCPrefixReserved("kalm");
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

/* All that the library takes comes from the memory context "kalm", where pg_backend_memory_contexts shows it. The library wants
   blocks aligned as malloc aligns them, to 16 bytes on many machines, where palloc aligns to 8. So a block is moved up by 8 or 16
   bytes, and what palloc returned stands before it. */
#define ALIGNMENT 16

static void *take(void *user, size_t size)
{
    char *base, *block;
    if (size > MaxAllocHugeSize - ALIGNMENT) return NULL;
    base = (char *)MemoryContextAllocExtended(*(MemoryContext *)user, size + ALIGNMENT, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
    if (!base) return NULL;
    block = (char *)TYPEALIGN_DOWN(ALIGNMENT, base + ALIGNMENT);
    memcpy(block - sizeof base, &base, sizeof base);
    return block;
}

static void give_back(void *user, void *block, size_t size)
{
    char *base;
    (void)user, (void)size;
    if (!block) return;
    memcpy(&base, (char *)block - sizeof base, sizeof base);
    pfree(base);
}

StaticAssertDecl(MAXIMUM_ALIGNOF >= sizeof(char *) && ALIGNMENT % MAXIMUM_ALIGNOF == 0, "there must be room for a pointer before a block");

/* ---- errors and interrupts ------------------------------------------------------------------------------------------- */

/* One call of the library: the error that an interrupt raised meanwhile, if one did. */
typedef struct call {
    MemoryContext memory;              /* where that error is kept */
    ErrorData    *interrupt;
} call;

/* The library's progress callback. What CHECK_FOR_INTERRUPTS does without raising an error, such as logging the backend's memory,
   is done at once, and the computation goes on. */
static int go_on(void *user, size_t done, size_t total)
{
    call *c = (call *)user;
    (void)done, (void)total;
    if (c->interrupt) return 1;
    if (!INTERRUPTS_PENDING_CONDITION()) return 0;
    PG_TRY();
    {
        CHECK_FOR_INTERRUPTS();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(c->memory);
        c->interrupt = CopyErrorData();
        FlushErrorState();
    }
    PG_END_TRY();
    return c->interrupt != NULL;
}

static void call_begin(call *c, kalm_params *params)
{
    CHECK_FOR_INTERRUPTS();
    c->memory = CurrentMemoryContext;
    c->interrupt = NULL;
    memset(params, 0, sizeof *params);
    params->progress = go_on;
    params->progress_user = c;
}

/* A sentence of the library's in the encoding of the database. It is UTF-8, but for a path in it, which is as it was given. */
static const char *sentence(const kalm_error *err)
{
    char *words = pstrdup(err->text), *p;
    if (GetDatabaseEncoding() != PG_UTF8 || !pg_verifymbstr(words, (int)strlen(words), true))
        for (p = words; *p; p++)
            if (IS_HIGHBIT_SET(*p)) *p = '?';
    return words;
}

static int sqlstate(kalm_result r)
{
    switch (r) {
    case KALM_BAD_ARGUMENT: return ERRCODE_INVALID_PARAMETER_VALUE;
    case KALM_NO_MEMORY:    return ERRCODE_OUT_OF_MEMORY;
    case KALM_CANNOT_READ:  return ERRCODE_IO_ERROR;
    case KALM_BAD_FILE:     return ERRCODE_INVALID_BINARY_REPRESENTATION;
    case KALM_BAD_VERSION:
    case KALM_NO_KERNELS:   return ERRCODE_FEATURE_NOT_SUPPORTED;
    case KALM_MISMATCH:     return ERRCODE_INVALID_PARAMETER_VALUE;
    case KALM_CANCELLED:    return ERRCODE_QUERY_CANCELED;
    case KALM_OVERFLOW:     return ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE;
    case KALM_INCOMPLETE:   return ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
    default:                return ERRCODE_INTERNAL_ERROR;     /* results of options that are not used here */
    }
}

/* After the library has returned: its error, or that of the interrupt, becomes the error of the statement. */
static void call_end(call *c, kalm_result r, const kalm_error *err)
{
    if (c->interrupt) ReThrowError(c->interrupt);
    if (r) ereport(ERROR, (errcode(sqlstate(r)), errmsg("kalm: %s", sentence(err))));
}

/* ---- the model of this backend --------------------------------------------------------------------------------------- */

static struct backend {
    MemoryContext memory;
    kalm_model   *model;               /* NULL: none is open */
    kalm_context *ctx;
    char         *path;                /* of the model; in `memory` */
    int           threads, cache, state_bits;      /* what the context was made with */
} backend;

/* The SQLSTATE of a model file that cannot be opened. */
static int file_state(const char *path, kalm_result r)
{
    if (r == KALM_BAD_FILE) return ERRCODE_CONFIG_FILE_ERROR;
    if (r != KALM_CANNOT_READ) return sqlstate(r);
    if (access(path, R_OK) == 0) return ERRCODE_IO_ERROR;
    return errno == ENOENT ? ERRCODE_UNDEFINED_FILE : errno == EACCES ? ERRCODE_INSUFFICIENT_PRIVILEGE : ERRCODE_IO_ERROR;
}

static void close_model(void)
{
    kalm_context_free(backend.ctx);
    kalm_model_close(backend.model);
    if (backend.path) pfree(backend.path);
    backend.ctx = NULL;
    backend.model = NULL;
    backend.path = NULL;
}

/* Opens the model at `path` with the settings of the moment. The one that was open is closed when all has gone well. */
static void open_model(const char *path)
{
    kalm_config config;
    kalm_model *model = NULL;
    kalm_context *ctx = NULL;
    kalm_error err;
    kalm_result r;
    sigset_t all, before;
    char *kept;
    if (!backend.memory) backend.memory = AllocSetContextCreate(TopMemoryContext, "kalm", ALLOCSET_DEFAULT_SIZES);
    kept = MemoryContextStrdup(backend.memory, path);
    memset(&config, 0, sizeof config);
    config.allocator.alloc = take;
    config.allocator.release = give_back;
    config.allocator.user = &backend.memory;
    config.threads = (uint32_t)thread_count;
    config.cache_bytes = (size_t)cache_kilobytes * 1024;
    config.state_bits = (uint32_t)state_bits;
    r = kalm_model_open(path, &config, &model, &err);
    if (!r) {
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &before);      /* threads start with the mask of whoever starts them */
        r = kalm_context_new(model, &config, &ctx, &err);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (r) {
        kalm_model_close(model);
        pfree(kept);
        ereport(ERROR, (errcode(file_state(path, r)),
                        errmsg("kalm: cannot use the model file \"%s\"", path), errdetail_internal("%s.", sentence(&err))));
    }
    close_model();
    backend.model = model;
    backend.ctx = ctx;
    backend.path = kept;
    backend.threads = thread_count;
    backend.cache = cache_kilobytes;
    backend.state_bits = state_bits;
}

/* Before each use: the model that kalm.model names is open. */
static void need_model(void)
{
    if (!model_path || !*model_path)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("kalm: no model is chosen"),
                        errhint("Set kalm.model to the path of a model file, or call kalm_load(path).")));
    if (!backend.model || strcmp(backend.path, model_path) != 0 || backend.threads != thread_count || backend.cache != cache_kilobytes ||
        backend.state_bits != state_bits)
        open_model(model_path);
}

/* ---- arguments ------------------------------------------------------------------------------------------------------- */

/* The bytes of a text or bytea, whatever its header, compression and place. */
static kalm_text bytes_of(Datum d)
{
    const struct varlena *v = PG_DETOAST_DATUM_PACKED(d);
    kalm_text t;
    t.data = VARDATA_ANY(v);
    t.size = VARSIZE_ANY_EXHDR(v);
    return t;
}

/* A text in UTF-8, converted where the database has another encoding; what has no counterpart there is an error. */
static kalm_text text_of(Datum d)
{
    kalm_text t = bytes_of(d);
    const char *converted = pg_server_to_any(t.data, (int)t.size, PG_UTF8);
    if (converted != t.data) {
        t.data = converted;
        t.size = strlen(converted);
    }
    return t;
}

/* Argument i as a text; the empty text with data NULL, which is the default of an option, where it is NULL or was not given. */
static kalm_text option_text(FunctionCallInfo fcinfo, int i)
{
    kalm_text none = { NULL, 0 };
    return i >= PG_NARGS() || PG_ARGISNULL(i) ? none : text_of(PG_GETARG_DATUM(i));
}

/* Argument i as a number from 1 to most; 0 where it is NULL or was not given. */
static uint32_t option_number(FunctionCallInfo fcinfo, int i, const char *name, int32 most)
{
    int32 n = i >= PG_NARGS() || PG_ARGISNULL(i) ? 0 : PG_GETARG_INT32(i);
    if (i < PG_NARGS() && !PG_ARGISNULL(i) && (n < 1 || n > most))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("kalm: %s is %d; it must be from 1 to %d", name, n, most)));
    return (uint32_t)n;
}

/* A document of stored bytes, for the time of one call. They are read where they lie if they lie well. */
static kalm_result open_document(kalm_text bytes, kalm_doc **doc, kalm_error *err)
{
    return kalm_doc_open(backend.model, bytes.data, bytes.size, (uintptr_t)bytes.data % 4 ? 0 : KALM_BORROW, doc, err);
}

/* ---- functions ------------------------------------------------------------------------------------------------------- */

PG_FUNCTION_INFO_V1(kalm_pg_load);
PG_FUNCTION_INFO_V1(kalm_pg_encode);
PG_FUNCTION_INFO_V1(kalm_pg_score_text);
PG_FUNCTION_INFO_V1(kalm_pg_score_document);
PG_FUNCTION_INFO_V1(kalm_pg_rerank_texts);
PG_FUNCTION_INFO_V1(kalm_pg_rerank_documents);

/* kalm_load(path): sets kalm.model for the session (the setting of before comes back when the transaction is rolled back) and
   opens the model afresh. NULL sets it to none and closes it. */
Datum kalm_pg_load(PG_FUNCTION_ARGS)
{
    const char *path = PG_ARGISNULL(0) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(0));
    kalm_model_info info;
    if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("kalm_load reads files of the server"),
                        errdetail("Only superusers and members of pg_read_server_files may do that.")));
    if (!PG_ARGISNULL(0) && !is_absolute_path(path))
        ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("kalm_load: the path must be absolute")));
    if (*path) open_model(path);
    else close_model();
    (void)set_config_option("kalm.model", path, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SET, true, ERROR, false);
    if (!*path) PG_RETURN_NULL();
    kalm_model_get_info(backend.model, &info);
    PG_RETURN_TEXT_P(cstring_to_text(pg_any_to_server(info.name, (int)strlen(info.name), PG_UTF8)));
}

/* kalm_encode(text [, ratio [, bits]]) */
Datum kalm_pg_encode(PG_FUNCTION_ARGS)
{
    kalm_text passage;
    kalm_params params;
    kalm_doc *doc = NULL;
    kalm_error err;
    kalm_result r;
    call c;
    bytea *result = NULL;
    if (PG_ARGISNULL(0)) PG_RETURN_NULL();
    need_model();
    call_begin(&c, &params);
    passage = text_of(PG_GETARG_DATUM(0));
    params.ratio = option_number(fcinfo, 1, "ratio", 1 << 20);
    params.bits = option_number(fcinfo, 2, "bits", 32);
    r = kalm_encode(backend.ctx, &passage, 1, &params, &doc, &err);
    if (!r) {
        size_t size;
        const void *bytes = kalm_doc_bytes(doc, &size);
        if (size <= MaxAllocSize - VARHDRSZ) result = (bytea *)palloc_extended(size + VARHDRSZ, MCXT_ALLOC_NO_OOM);
        if (result) {
            SET_VARSIZE(result, size + VARHDRSZ);
            memcpy(VARDATA(result), bytes, size);
        }
        kalm_doc_free(doc);
    }
    call_end(&c, r, &err);
    if (!result) ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("kalm: no memory for an encoded document")));
    PG_RETURN_BYTEA_P(result);
}

/* Both forms of kalm_score(query, document [, instruction]). */
static Datum score(FunctionCallInfo fcinfo, bool encoded)
{
    kalm_text query, document;
    kalm_params params;
    kalm_doc *doc = NULL;
    kalm_score one;
    kalm_error err;
    kalm_result r;
    call c;
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1)) PG_RETURN_NULL();
    need_model();
    call_begin(&c, &params);
    query = text_of(PG_GETARG_DATUM(0));
    params.instruction = option_text(fcinfo, 2);
    if (encoded) {
        document = bytes_of(PG_GETARG_DATUM(1));
        r = open_document(document, &doc, &err);
        if (!r) r = kalm_rerank(backend.ctx, query, (const kalm_doc *const *)&doc, 1, &params, &one, &err);
        kalm_doc_free(doc);
    } else {
        document = text_of(PG_GETARG_DATUM(1));
        r = kalm_rerank_texts(backend.ctx, query, &document, 1, &params, &one, &err);
    }
    call_end(&c, r, &err);
    PG_RETURN_FLOAT8((float8)one.score);
}

Datum kalm_pg_score_text(PG_FUNCTION_ARGS) { return score(fcinfo, false); }
Datum kalm_pg_score_document(PG_FUNCTION_ARGS) { return score(fcinfo, true); }

/* ---- kalm_rerank ----------------------------------------------------------------------------------------------------- */

/* What is ranked: the elements of two arrays, without those whose document is NULL. */
typedef struct candidates {
    Datum     *id;                     /* [count] */
    bool      *id_null;                /* [count] */
    kalm_text *document;               /* [count]: UTF-8, or the bytes of an encoded document */
    int       *place;                  /* [count]: its subscript in the array */
    size_t     count;
} candidates;

static ArrayType *plain_array(FunctionCallInfo fcinfo, int i, const char *name)
{
    ArrayType *a = PG_GETARG_ARRAYTYPE_P(i);
    if (ARR_NDIM(a) > 1)
        ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("kalm_rerank: %s must have one dimension, not %d", name, ARR_NDIM(a))));
    return a;
}

static void get_candidates(FunctionCallInfo fcinfo, bool encoded, candidates *all)
{
    ArrayType *ids = plain_array(fcinfo, 1, "ids"), *documents = plain_array(fcinfo, 2, "documents");
    Oid type = ARR_ELEMTYPE(ids);
    int16 length;
    bool by_value, *null;
    char align;
    int id_count, count, i;
    Datum *value;
    get_typlenbyvalalign(type, &length, &by_value, &align);
    deconstruct_array(ids, type, length, by_value, align, &all->id, &all->id_null, &id_count);
    deconstruct_array(documents, encoded ? BYTEAOID : TEXTOID, -1, false, TYPALIGN_INT, &value, &null, &count);
    if (id_count != count)
        ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("kalm_rerank: there are %d ids and %d documents", id_count, count)));
    all->document = (kalm_text *)palloc_extended((Size)(count + 1) * sizeof *all->document, MCXT_ALLOC_HUGE);
    all->place = (int *)palloc_extended((Size)(count + 1) * sizeof *all->place, MCXT_ALLOC_HUGE);
    for (i = 0, all->count = 0; i < count; i++) {
        if (null[i]) continue;
        CHECK_FOR_INTERRUPTS();
        all->id[all->count] = all->id[i];
        all->id_null[all->count] = all->id_null[i];
        all->place[all->count] = ARR_LBOUND(documents)[0] + i;
        all->document[all->count++] = encoded ? bytes_of(value[i]) : text_of(value[i]);
    }
}

/* Scores of encoded documents. Those of the array that cannot be opened are named by their subscript in it. */
static kalm_result score_documents(kalm_text query, const candidates *all, const kalm_params *params, kalm_score *scores, kalm_error *err)
{
    kalm_doc **docs = (kalm_doc **)palloc_extended((all->count + 1) * sizeof *docs, MCXT_ALLOC_HUGE);
    kalm_result r = KALM_OK;
    kalm_error why;
    size_t n = 0;
    while (n < all->count && !r) {
        r = params->progress(params->progress_user, 0, 0) ? KALM_CANCELLED : open_document(all->document[n], &docs[n], &why);
        if (!r) n++;
    }
    if (!r) r = kalm_rerank(backend.ctx, query, (const kalm_doc *const *)docs, n, params, scores, err);
    else if (r != KALM_CANCELLED) snprintf(err->text, sizeof err->text, "documents[%d]: %s", all->place[n], why.text);
    while (n) kalm_doc_free(docs[--n]);
    return r;
}

/* Both forms of kalm_rerank(query, ids, documents [, k [, instruction]]). */
static Datum rerank(FunctionCallInfo fcinfo, bool encoded)
{
    ReturnSetInfo *out = (ReturnSetInfo *)fcinfo->resultinfo;
    candidates all;
    kalm_text query;
    kalm_params params;
    kalm_score *scores;
    kalm_error err;
    kalm_result r;
    call c;
    size_t i, k;
    InitMaterializedSRF(fcinfo, 0);
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2)) return (Datum)0;
    need_model();
    call_begin(&c, &params);
    k = option_number(fcinfo, 3, "k", INT_MAX);
    query = text_of(PG_GETARG_DATUM(0));
    params.instruction = option_text(fcinfo, 4);
    get_candidates(fcinfo, encoded, &all);
    scores = (kalm_score *)palloc_extended((all.count + 1) * sizeof *scores, MCXT_ALLOC_HUGE);
    r = encoded ? score_documents(query, &all, &params, scores, &err)
                : kalm_rerank_texts(backend.ctx, query, all.document, all.count, &params, scores, &err);
    call_end(&c, r, &err);
    kalm_sort(scores, all.count);
    if (!k || k > all.count) k = all.count;
    for (i = 0; i < k; i++) {
        const kalm_score *s = &scores[i];
        Datum value[5];
        bool null[5] = { false, false, false, false, false };
        value[0] = all.id[s->index];
        null[0] = all.id_null[s->index];
        value[1] = Float8GetDatum((float8)s->score);
        value[2] = Float8GetDatum((float8)s->margin);
        value[3] = Int32GetDatum((int32)i + 1);
        value[4] = Int32GetDatum((int32)s->cut);
        tuplestore_putvalues(out->setResult, out->setDesc, value, null);
    }
    return (Datum)0;
}

Datum kalm_pg_rerank_texts(PG_FUNCTION_ARGS) { return rerank(fcinfo, false); }
Datum kalm_pg_rerank_documents(PG_FUNCTION_ARGS) { return rerank(fcinfo, true); }
