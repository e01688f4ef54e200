/* api.h - the public declarations. What a user may call, with shapes, units, ownership and errors. */
#ifndef KALM_RERANK_H
#define KALM_RERANK_H

#include <stddef.h>
#include <stdint.h>

#define KALM_VERSION_MAJOR 0
#define KALM_VERSION_MINOR 1
#define KALM_VERSION_PATCH 0

#ifndef KALM_API
#  if !defined(KALM_RERANK_STATIC)
#    define KALM_API extern
#  elif defined(__GNUC__)
#    define KALM_API static __attribute__((__unused__))
#  else
#    define KALM_API static
#  endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Of the compiled implementation: (major << 16) | (minor << 8) | patch. */
KALM_API uint32_t kalm_version(void);

/* ---- results ------------------------------------------------------------------------------------------------- */

typedef enum kalm_result {
    KALM_OK = 0,
    KALM_BAD_ARGUMENT,                 /* a NULL where none is allowed, an option out of range, ...          */
    KALM_NO_MEMORY,                    /* the allocator said no; the text says for how many bytes            */
    KALM_CANNOT_READ,                  /* the file is missing, or the system refused to read or map it       */
    KALM_BAD_FILE,                     /* not a model or document, damaged, or cut short                     */
    KALM_BAD_VERSION,                  /* well-formed, but of a format this version does not read            */
    KALM_MISMATCH,                     /* a document that other weights made                                 */
    KALM_NO_KERNELS,                   /* the kernel set asked for cannot run on this machine                */
    KALM_CANCELLED,                    /* a callback asked to stop                                           */
    KALM_OVERFLOW                      /* the numbers of a document outgrew 32-bit floats: a damaged or hostile model or
                                          document. The text names the document                              */
} kalm_result;

/* One sentence for a person that names the offending thing: "tensor encoder.3.wq ends at byte 8812, the file has
   8000". Nothing to free. */
typedef struct kalm_error {
    kalm_result code;
    char        text[248];
} kalm_error;

/* ---- small things -------------------------------------------------------------------------------------------- */

#define KALM_NUL ((size_t)-1)          /* as a length: the text ends at its NUL                              */
typedef struct kalm_text {
    const char *data;                  /* UTF-8; NULL is the empty text, or "default" in an option           */
    size_t      size;                  /* bytes, or KALM_NUL                                                 */
} kalm_text;

typedef struct kalm_ids {
    const int32_t *data;               /* token ids                                                          */
    size_t         count;
} kalm_ids;

/* Both functions or neither. alloc returns NULL on failure; release gets the size back, so an arena or a fixed buffer
   is three lines. The library calls them from the thread that called it, never from its own workers. */
typedef struct kalm_allocator {
    void *(*alloc)(void *user, size_t size);
    void  (*release)(void *user, void *ptr, size_t size);
    void   *user;
} kalm_allocator;

/* kalm_config.load */
#define KALM_LOAD_MAP  0u              /* the file becomes part of the address space: opening costs nothing, processes share the
                                          memory, and only what is used is read. The file must then stay as it is: if it is
                                          cut short, or its network file system goes away, the next look at a lost page ends
                                          the process with SIGBUS                                            */
#define KALM_LOAD_READ 1u              /* the file is read into memory of the allocator and may change or go away afterwards;
                                          one that is cut short while it is read gives KALM_CANNOT_READ. For files that others
                                          write to and for network file systems                              */

/* How to set up a model or a context. A model reads `allocator` and `load` alone. */
typedef struct kalm_config {
    kalm_allocator allocator;          /* default: KALM_MALLOC and KALM_FREE                                 */
    uint32_t       threads;            /* default: one per core that this process may use, within its mask of
                                          cores and its limit of processor time (cgroup); 1: never starts one */
    /* Your job system: call task(arg, i) once for every i below `count`, on any threads, and return when all are done.
       Default: threads of the library's own. `count` is at most `threads`. */
    void         (*parallel)(void *user, size_t count, void (*task)(void *arg, size_t i), void *arg);
    void          *parallel_user;
    uint32_t       max_doc_tokens;     /* longer documents are cut; default 1024, at most the model's limit  */
    uint32_t       max_query_tokens;   /* longer queries are cut; default 512, at most what the decoder reads */
    size_t         cache_bytes;        /* decoder state kept per document for the next query with the same
                                          instruction; default: none                                         */
    const char    *kernels;            /* a name from kalm_kernels; default: the best one                    */
    uint32_t       load;               /* of kalm_model_open: KALM_LOAD_MAP (default) or KALM_LOAD_READ      */
} kalm_config;

#define KALM_PARSE_CONTROL 2u          /* flag: "<end_of_turn>" and its like, found in the texts of users, are marks of
                                          the prompt, as the published code has it; default: they are those characters
                                          and nothing more */

/* The bits of kalm_score.cut. A text is cut at kalm_config.max_doc_tokens or max_query_tokens; two documents, or two queries,
   that are equal up to there get equal scores. */
#define KALM_CUT_DOCUMENT 1u           /* only the beginning of the document was read                        */
#define KALM_CUT_QUERY    2u           /* only the beginning of the query was read                           */

typedef struct kalm_score {
    uint32_t index;                    /* of the document in the call's array                                */
    uint32_t cut;                      /* 0, or KALM_CUT_DOCUMENT, KALM_CUT_QUERY or both                    */
    float    margin;                   /* logit of "yes" minus that of "no": unbounded                       */
    float    score;                    /* P(yes) = 1 / (1 + exp(-margin)), 0 to 1                            */
} kalm_score;

/* How to do one job. kalm_encode reads `ratio` and `bits`, kalm_rerank the two texts, both the other fields. */
typedef struct kalm_params {
    uint32_t  ratio;                   /* tokens pooled into one document row (MEP), any number from 1; default 4.
                                          Twice the ratio: half the bytes to keep, half the rows to attend to */
    uint32_t  bits;                    /* of each number a document keeps: 32, 16 or 8; default 16           */
    uint32_t  flags;                   /* 0 or KALM_PARSE_CONTROL                                            */
    kalm_text system, instruction;     /* default (NULL data): the model's own sentences                     */
    int     (*progress)(void *user, size_t done, size_t total);   /* on the calling thread, after every layer of work, and
                                          at least once in 64 KB of text that is tokenised (then with the same `done` as
                                          before); units are layers x documents; non-zero: stop, KALM_CANCELLED */
    void     *progress_user;
    int     (*on_score)(void *user, const kalm_score *score);     /* kalm_rerank and its like: on the calling thread, each
                                          score once, as batches are done; non-zero: stop, KALM_CANCELLED    */
    void     *on_score_user;
    uint32_t  prefix_tokens;           /* kalm_rerank_ids: how many of the prompt's first tokens come again with other
                                          queries, for the cache; default none. Texts find this by themselves */
    uint32_t  coarse_ratio;            /* kalm_rerank_top: a first pass over all documents at this coarser ratio  */
    uint32_t  coarse_keep;             /* documents that pass it; default: 4 x top_k                         */
} kalm_params;

/* ---- kernels ------------------------------------------------------------------------------------------------- */

/* The i-th kernel set this build can run on this machine, best first ("avx512vnni", "avx2", ...); the last is
   "scalar", then NULL. Tests put each in kalm_config.kernels: there is no global switch. "avx512bf16" stands behind
   "avx512vnni" though it is faster with bf16 weights: it rounds activations to bf16, so only who asks for it gets it. */
KALM_API const char *kalm_kernels(size_t i);

/* ---- model --------------------------------------------------------------------------------------------------- */

typedef struct kalm_model kalm_model;
typedef struct kalm_model_info {
    const char *name;                  /* as the converter wrote it; lives as long as the model              */
    const char *weights;               /* "f32", "f16", "bf16", "q8", "q4", or "none": a tokenizer alone      */
    uint32_t    vocabulary, layers, width;   /* ids, layers a side, floats in a document row                 */
    uint32_t    max_tokens;            /* longest passage                                                    */
    int         has_tokenizer;         /* 0: only the functions that take token ids work                     */
    int32_t     yes_id, no_id;         /* the answer tokens                                                  */
    uint64_t    bytes;                 /* of the file, mapped or in memory                                   */
    uint64_t    fingerprint;           /* documents carry it                                                 */
} kalm_model_info;

#ifndef KALM_NO_STDIO
/* Map the file at `path` (UTF-8) and check it: header, directory, every tensor inside the file. Takes milliseconds:
   weights are paged in as they are used. The file must not shrink while the model is open. */
KALM_API kalm_result kalm_model_open(const char *path, const kalm_config *config, kalm_model **model, kalm_error *err);
#endif

/* The same from memory: an asset linked into the program, a buffer that JavaScript filled. `data` is borrowed until
   kalm_model_close and must be aligned to 64 bytes. */
KALM_API kalm_result kalm_model_open_memory(const void *data, size_t size, const kalm_config *config,
                                            kalm_model **model, kalm_error *err);

/* Close after the model's last context; its documents may live on. NULL is allowed. */
KALM_API void kalm_model_close(kalm_model *model);
KALM_API void kalm_model_get_info(const kalm_model *model, kalm_model_info *info);

/* Read the whole file and compare every section with its checksum; opening does not, to stay fast. */
KALM_API kalm_result kalm_model_verify(const kalm_model *model, kalm_error *err);

/* ---- tokenizer ----------------------------------------------------------------------------------------------- */

/* Token ids of a text alone, no begin mark added; flags: 0 or KALM_PARSE_CONTROL. Writes the first `capacity` ids and
   sets *count to how many there are: capacity 0 asks for the size. Ill-formed UTF-8 counts as one U+FFFD for each
   maximal ill-formed part, as browsers and Python have it. Threads: any, at the same time. */
KALM_API kalm_result kalm_tokenize(const kalm_model *model, kalm_text text, uint32_t flags,
                                   int32_t *ids, size_t capacity, size_t *count, kalm_error *err);

/* The text of token ids, as Hugging Face decodes them (special tokens kept, no clean-up). Writes the first `capacity`
   bytes, no NUL, and sets *size to how many there are. */
KALM_API kalm_result kalm_detokenize(const kalm_model *model, const int32_t *ids, size_t count,
                                     char *text, size_t capacity, size_t *size, kalm_error *err);

/* The bytes of one token as the vocabulary has it, maybe part of a character; data == NULL for an id the vocabulary
   lacks. Lives as long as the model. */
KALM_API kalm_text kalm_token_bytes(const kalm_model *model, int32_t id);

/* ---- context ------------------------------------------------------------------------------------------------- */

/* The working memory and the threads of one caller at a time: one context per calling thread. */
typedef struct kalm_context kalm_context;

/* Takes the working memory for `config` and starts all the threads the context will ever use. Jobs allocate the
   documents they return, and what tokenising long texts needs while it runs. */
KALM_API kalm_result kalm_context_new(const kalm_model *model, const kalm_config *config,
                                      kalm_context **ctx, kalm_error *err);
KALM_API void        kalm_context_free(kalm_context *ctx);

/* The bytes kalm_context_new will ask the allocator for, in one block: the exact working memory of such a context, threads'
   stacks apart. What jobs allocate comes on top: documents they return, cache_bytes, and while a call lasts a few bytes for
   each byte of the text being tokenised (tokenizer/text.h has the bounds). */
KALM_API kalm_result kalm_context_bytes(const kalm_model *model, const kalm_config *config, size_t *bytes, kalm_error *err);

/* ---- documents ----------------------------------------------------------------------------------------------- */

/* An encoded document is its bytes: position-independent, readable on every machine, and, made by quantised weights, the
   same whichever machine made them. Keep them in a file, a database row, IndexedDB. */
typedef struct kalm_doc kalm_doc;
typedef struct kalm_doc_info {
    uint32_t tokens;                   /* of the text, its prefix included                                   */
    uint32_t tokens_used;              /* fewer when the text was cut at max_doc_tokens                      */
    uint32_t rows, ratio, width, bits; /* rows = ceil(tokens_used / ratio), of `width` numbers of `bits`     */
    uint64_t fingerprint;              /* of the model that made it                                          */
} kalm_doc_info;

/* Encode `count` texts. docs[i] is NULL for each one not made (all of them when the call fails). Texts are packed into
   common batches, so one call with many is faster than many calls with one; the bytes are the same either way. */
KALM_API kalm_result kalm_encode(kalm_context *ctx, const kalm_text *texts, size_t count,
                                 const kalm_params *params, kalm_doc **docs, kalm_error *err);

/* The same from token ids, which must be the whole input of the encoder ("<Document>: " included). */
KALM_API kalm_result kalm_encode_ids(kalm_context *ctx, const kalm_ids *texts, size_t count,
                                     const kalm_params *params, kalm_doc **docs, kalm_error *err);

/* What to store. The pointer lives as long as the document. */
KALM_API const void *kalm_doc_bytes(const kalm_doc *doc, size_t *size);

/* A document from stored bytes, checked against `model`. The bytes are copied, or with KALM_BORROW must outlive the
   document, be aligned to 4 and not change: a mapped file of a million opens at no cost. (Bytes that change all the same give
   meaningless scores, and no worse: sizes are those that were checked here.) Allocates with the model's allocator. */
#define KALM_BORROW 1u
KALM_API kalm_result kalm_doc_open(const kalm_model *model, const void *data, size_t size, uint32_t flags,
                                   kalm_doc **doc, kalm_error *err);

/* The document at a coarser ratio, a multiple of its own, without encoding again: the mean of the means, weighted by
   their tokens; differs from encoding at that ratio by rounding alone. bits: 32, 16, 8, or 0 for those of `doc`. */
KALM_API kalm_result kalm_doc_repool(const kalm_model *model, const kalm_doc *doc, uint32_t ratio, uint32_t bits,
                                     kalm_doc **coarser, kalm_error *err);

KALM_API void kalm_doc_get_info(const kalm_doc *doc, kalm_doc_info *info);
KALM_API void kalm_doc_free(kalm_doc *doc);

/* ---- reranking ----------------------------------------------------------------------------------------------- */

/* Score every document against the query: scores[i] is that of docs[i], and never NaN: where a document's numbers overflow,
   the call fails with KALM_OVERFLOW and names the document. */
KALM_API kalm_result kalm_rerank(kalm_context *ctx, kalm_text query, const kalm_doc *const *docs, size_t count,
                                 const kalm_params *params, kalm_score *scores, kalm_error *err);

/* The same with the decoder's whole input as token ids (prompt, query and closing included). */
KALM_API kalm_result kalm_rerank_ids(kalm_context *ctx, kalm_ids prompt, const kalm_doc *const *docs, size_t count,
                                     const kalm_params *params, kalm_score *scores, kalm_error *err);

/* Encode, score and forget, a batch at a time: memory does not grow with `count`. */
KALM_API kalm_result kalm_rerank_texts(kalm_context *ctx, kalm_text query, const kalm_text *texts, size_t count,
                                       const kalm_params *params, kalm_score *scores, kalm_error *err);

/* The best `top_k`, sorted: *found of them, at most top_k, into scores [top_k]. With params.coarse_ratio, a multiple of
   every document's ratio, all documents are scored at that ratio first and the best coarse_keep again at their own: the
   scores that come back are exactly those of a full run, but a document that the first pass ranks too low is missed.
   on_score hears of the last pass alone. */
KALM_API kalm_result kalm_rerank_top(kalm_context *ctx, kalm_text query, const kalm_doc *const *docs, size_t count,
                                     size_t top_k, const kalm_params *params, kalm_score *scores, size_t *found,
                                     kalm_error *err);

/* What cache_bytes keeps between queries: for each document and instruction the keys and values of its rows and of the
   prompt up to the query, in every layer. The next query with that instruction runs its own tokens only; scores are the
   same bits as without. Least recently used go first. */
typedef struct kalm_cache_info {
    uint64_t hits, misses, dropped;    /* documents found, not found, removed to make room, since the context was made */
    size_t   documents, bytes, limit;  /* held now; of cache_bytes                                            */
} kalm_cache_info;
KALM_API void kalm_context_get_cache(const kalm_context *ctx, kalm_cache_info *info);
KALM_API void kalm_context_clear_cache(kalm_context *ctx);

/* What the cache keeps for one document and the instruction of `params`, as bytes to store beside the document, so that a
   fresh process starts warm: computed if it is not there. Writes it when `capacity` has room and sets *size to what it takes
   (capacity 0 asks). The context needs cache_bytes for it. About 20 times the document's own bytes: keep it for the few
   documents that are asked for all the time. */
KALM_API kalm_result kalm_state_save(kalm_context *ctx, const kalm_doc *doc, const kalm_params *params, void *data,
                                     size_t capacity, size_t *size, kalm_error *err);

/* Put stored state into the cache, checked against model, document and instruction; `data` is copied. Scores are the same
   bits as without; with float weights, where the same kernel set saved it. A state is as good as who wrote it: its checksums
   are against accidents, and forged numbers give forged scores, but nothing worse. */
KALM_API kalm_result kalm_state_load(kalm_context *ctx, const kalm_doc *doc, const kalm_params *params, const void *data,
                                     size_t size, kalm_error *err);

/* Best first; equal margins keep the order of their index. */
KALM_API void kalm_sort(kalm_score *scores, size_t count);

#ifdef __cplusplus
}
#endif
#endif /* KALM_RERANK_H */
