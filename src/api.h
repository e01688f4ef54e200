/* api.h - what a program may call: types, functions, and for each its shapes, units, ownership, threads and errors.

   For every function that returns kalm_result:
     - KALM_OK is 0. Anything else is an error: outputs are then NULL, zero or empty, and *err (NULL is allowed) has the code and
       a sentence. KALM_BAD_ARGUMENT and KALM_NO_MEMORY are possible everywhere; other codes are named at the function.
     - Pointers to inputs are read during the call and not kept, unless it says "borrowed".
   Threads: a model and its documents do not change once they are made, so any number of threads may use them at the same
   time. A context is for one call at a time. */
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

/* The version of the compiled implementation, (major << 16) | (minor << 8) | patch: may differ from the macros above where
   the program links a library of another version. */
KALM_API uint32_t kalm_version(void);

/* ---- results ------------------------------------------------------------------------------------------------- */

typedef enum kalm_result {
    KALM_OK = 0,
    KALM_BAD_ARGUMENT,                 /* a NULL where none is allowed, an option out of range, ...          */
    KALM_NO_MEMORY,                    /* the allocator returned NULL; the text says for how many bytes      */
    KALM_CANNOT_READ,                  /* the file is missing, or the system refused to read or map it       */
    KALM_BAD_FILE,                     /* not a model, document or state, or damaged, or cut short           */
    KALM_BAD_VERSION,                  /* well-formed, but in a format that this version does not read       */
    KALM_MISMATCH,                     /* a document or state that was made by another model, or a state that was
                                          made for another document or instruction                           */
    KALM_NO_KERNELS,                   /* the kernel set asked for cannot run on this machine                */
    KALM_CANCELLED,                    /* a callback asked to stop                                           */
    KALM_OVERFLOW,                     /* the numbers of a document outgrew 32-bit floats: a damaged or hostile model or
                                          document. The text names the document                              */
    KALM_INCOMPLETE                    /* the model file is a part of a model (kalm-quantize --side) and lacks what the call
                                          needs: the encoder to read documents, or the decoder to score them */
} kalm_result;

/* What went wrong, in one sentence for a person. It names the file, tensor, byte, document or token: "tensor encoder.3.q ends
   at byte 8812, the file has 8000". UTF-8, ends with NUL, no full stop; nothing to free. */
typedef struct kalm_error {
    kalm_result code;
    char        text[248];
} kalm_error;

/* ---- texts, tokens, memory ------------------------------------------------------------------------------------- */

#define KALM_NUL ((size_t)-1)          /* as the size of a text: it ends at its NUL                          */
typedef struct kalm_text {
    const char *data;                  /* UTF-8; NULL: the empty text, or the default where it is an option  */
    size_t      size;                  /* in bytes, or KALM_NUL                                              */
} kalm_text;

typedef struct kalm_ids {
    const int32_t *data;               /* [count] token ids, each from 0 to vocabulary - 1                   */
    size_t         count;
} kalm_ids;

/* Where memory comes from. Set both functions or neither. `alloc` returns NULL when it has no memory, else `size` bytes that
   are aligned as malloc aligns; `release` gets the same size back, so it need not keep it. Both are called on the thread that
   called the library. */
typedef struct kalm_allocator {
    void *(*alloc)(void *user, size_t size);
    void  (*release)(void *user, void *ptr, size_t size);
    void   *user;
} kalm_allocator;

/* kalm_config.load: how kalm_model_open takes a file into memory. */
#define KALM_LOAD_MAP  0u              /* the file becomes part of the address space: opening costs nothing, processes share the
                                          memory, and only what is used is read. The file must then stay as it is: if it is
                                          cut short, or its network file system goes away, the next look at a lost page ends
                                          the process with SIGBUS                                            */
#define KALM_LOAD_READ 1u              /* the file is read into memory of the allocator and may change or go away afterwards;
                                          one that is cut short while it is read gives KALM_CANNOT_READ. For files that others
                                          write to, for network file systems, and for speed: Linux is asked for large pages
                                          (docs/SPEED.md)                                                    */

/* Options of models and contexts. Zero, or NULL for all of it, is the default. A model reads `allocator` and `load` alone. */
typedef struct kalm_config {
    kalm_allocator allocator;          /* default: KALM_MALLOC and KALM_FREE                                 */
    uint32_t       threads;            /* default: one per core that this process may use, within its mask of cores and its
                                          limit of processor time (cgroup); 1: never starts one; at most 256 are used */
    /* Run the work on threads of your own: call task(arg, i) once for every i from 0 to count - 1, in any order, on any threads
       that round to nearest, and return when all have returned. `count` is at most `threads`. Default: threads of the context's own. */
    void         (*parallel)(void *user, size_t count, void (*task)(void *arg, size_t i), void *arg);
    void          *parallel_user;
    uint32_t       max_doc_tokens;     /* longer documents are cut; default 1024, at most what the encoder reads */
    uint32_t       max_query_tokens;   /* longer queries are cut; default 512, at most what the decoder reads */
    size_t         cache_bytes;        /* memory for what the decoder computed for documents, kept from one query to the next
                                          with the same instruction: see kalm_cache_info. Default: none is kept */
    const char    *kernels;            /* a name from kalm_kernels; default: the best one                    */
    uint32_t       load;               /* of kalm_model_open: KALM_LOAD_MAP (default) or KALM_LOAD_READ      */
    uint32_t       state_bits;         /* 8 or 4: states take two thirds or half of the bytes; default 0: they are exact. See
                                          kalm_cache_info                                                    */
} kalm_config;

/* A flag: the model's control words, such as "<end_of_turn>", act as such where they stand in the texts of a call, as they do
   in the published code. Without it they are the characters that they are written with, and no text can end the prompt it
   stands in. */
#define KALM_PARSE_CONTROL 2u

/* The bits of kalm_score.cut. A text is cut at kalm_config.max_doc_tokens or max_query_tokens; two documents, or two queries,
   that are equal up to there get equal scores. */
#define KALM_CUT_DOCUMENT 1u           /* only the beginning of the document was read                        */
#define KALM_CUT_QUERY    2u           /* only the beginning of the query was read                           */

/* The model answers "yes" or "no" to whether a document meets the query. */
typedef struct kalm_score {
    uint32_t index;                    /* of the document in the call's array                                */
    uint32_t cut;                      /* 0, or KALM_CUT_DOCUMENT, KALM_CUT_QUERY or both                    */
    float    margin;                   /* logit of "yes" minus logit of "no"; finite, of any size            */
    float    score;                    /* probability of "yes" among the two, 1 / (1 + exp(-margin)): 0 to 1 */
} kalm_score;

/* Options of a call. Zero, or NULL for all of it, is the default. kalm_encode reads `ratio` and `bits`; functions that score
   read the rest; both read `flags` and the callbacks. Callbacks run on the thread that made the call, return (no longjmp, no
   exception), and must not use its context. */
typedef struct kalm_params {
    uint32_t  ratio;                   /* tokens to a document row, 1 or more; default 4. The model was trained so that the mean
                                          of neighbouring rows stands for them (Matryoshka embedding pooling, MEP): twice the
                                          ratio is half the bytes to keep and half the rows to look at, for some quality */
    uint32_t  bits;                    /* of each number that a document keeps: 32, 16, 8, 4, 3 or 2; default 16.
                                          4, 3 and 2 need a model file with the section ROWS, which kalm-quantize
                                          writes: kalm_model_info.transform                                  */
    uint32_t  flags;                   /* 0 or KALM_PARSE_CONTROL                                            */
    kalm_text system, instruction;     /* of the prompt; default (data is NULL): the model's own sentences   */
    int     (*progress)(void *user, size_t done, size_t total);   /* called after every layer of work, with layers x documents
                                          that are done and that there are; and, with the same `done` as before, at least once in
                                          64 KB of text that is tokenised, and several times in a layer that takes long (between
                                          two products of matrices). Non-zero: stop with KALM_CANCELLED */
    void     *progress_user;
    int     (*on_score)(void *user, const kalm_score *score);     /* called with each score once, as
                                          batches are done. Non-zero: stop with KALM_CANCELLED               */
    void     *on_score_user;
    uint32_t  prefix_tokens;           /* kalm_rerank_ids with cache_bytes: how many tokens at the start of the prompt are the
                                          same for other queries; default none. Where queries are texts this is found out */
    uint32_t  coarse_ratio;            /* kalm_rerank_top: the ratio of a first pass over all documents; default: no such pass */
    uint32_t  coarse_keep;             /* how many documents pass it; default: 4 x top_k                     */
} kalm_params;

/* ---- kernels ------------------------------------------------------------------------------------------------- */

/* The name of the i-th kernel set, the code for one instruction set, that this build can run on this machine: best first
   ("amx", "avx512vnni", ...), "scalar" last, then NULL. One that comes behind a slower one, as "avx512bf16" does, rounds
   differently (activations to bf16), so it is used only where kalm_config.kernels names it. The names are static. A context
   that runs "amx" asks Linux for its registers, which the process then has for good: sigaltstack refuses less than 12 KB. */
KALM_API const char *kalm_kernels(size_t i);

/* ---- model --------------------------------------------------------------------------------------------------- */

typedef struct kalm_model kalm_model;
typedef struct kalm_model_info {
    const char *name;                  /* as the converter wrote it; lives as long as the model              */
    const char *weights;               /* "f32", "f16", "bf16", "q8", "q4", or "none": a tokenizer alone     */
    uint32_t    vocabulary;            /* token ids are below it                                             */
    uint32_t    layers;                /* of the encoder                                                     */
    uint32_t    width;                 /* numbers in a document row                                          */
    uint32_t    max_tokens;            /* of a document: what the encoder reads                              */
    int         has_tokenizer;         /* 0: only the functions that take token ids work                     */
    int32_t     yes_id, no_id;         /* the tokens of the two answers                                      */
    uint64_t    bytes;                 /* of the file, mapped or in memory                                   */
    uint64_t    fingerprint;           /* of weights, shape and vocabulary; documents carry that of their model. A part of a
                                          model has that of the whole: they exchange documents               */
    uint64_t    cut_vocabulary;        /* 0, or where the vocabulary lacks tokens of the whole model's (kalm-quantize
                                          --vocabulary) a hash of it                                         */
    int         has_encoder, has_decoder;    /* 0: a part of a model (kalm-quantize --side); without the encoder no text of a
                                          document is read, without the decoder nothing is scored            */
    uint64_t    transform;             /* hash of the section ROWS, by which rows of 4, 3 and 2 bits are written and read;
                                          0: the file has none, and keeps rows in 32, 16 and 8 bits alone    */
} kalm_model_info;

#ifndef KALM_NO_STDIO
/* Open the model file at `path` (UTF-8) and check it: header, sections, and that every tensor lies inside of the file. Takes
   milliseconds: weights are read as they are used, or at once with KALM_LOAD_READ. A mapped file must not change while the
   model is open. Errors: KALM_CANNOT_READ, KALM_BAD_FILE, KALM_BAD_VERSION. */
KALM_API kalm_result kalm_model_open(const char *path, const kalm_config *config, kalm_model **model, kalm_error *err);
#endif

/* The same from `size` bytes in memory: an asset linked into the program, a buffer that JavaScript filled. `data` is borrowed
   until kalm_model_close and is aligned to 64 bytes. */
KALM_API kalm_result kalm_model_open_memory(const void *data, size_t size, const kalm_config *config,
                                            kalm_model **model, kalm_error *err);

/* Close a model after its last context was freed. Its documents may live on. NULL is allowed. */
KALM_API void kalm_model_close(kalm_model *model);
KALM_API void kalm_model_get_info(const kalm_model *model, kalm_model_info *info);

/* Read the whole file and compare every section with its checksum, which opening leaves out to stay fast. Finds accidents,
   not forgeries. Error: KALM_BAD_FILE. */
KALM_API kalm_result kalm_model_verify(const kalm_model *model, kalm_error *err);

/* ---- tokenizer ----------------------------------------------------------------------------------------------- */

/* The token ids of a text, with nothing added before or behind. Writes the first `capacity` of them to ids and sets *count to
   how many there are, so capacity 0 (ids may be NULL) asks for the size. flags: 0 or KALM_PARSE_CONTROL. Ill-formed UTF-8
   counts as one U+FFFD for each maximal ill-formed part, as in browsers and Python. Error: KALM_BAD_FILE where the
   tokenizer's tables turn out damaged. */
KALM_API kalm_result kalm_tokenize(const kalm_model *model, kalm_text text, uint32_t flags,
                                   int32_t *ids, size_t capacity, size_t *count, kalm_error *err);

/* The text of token ids, as Hugging Face decodes them (special tokens kept, no clean-up). Writes the first `capacity` bytes,
   with no NUL, and sets *size to how many there are. */
KALM_API kalm_result kalm_detokenize(const kalm_model *model, const int32_t *ids, size_t count,
                                     char *text, size_t capacity, size_t *size, kalm_error *err);

/* The bytes of one token as the vocabulary has them, which may be a part of a character; data is NULL for an id that the
   vocabulary lacks. They live as long as the model. */
KALM_API kalm_text kalm_token_bytes(const kalm_model *model, int32_t id);

/* ---- context ------------------------------------------------------------------------------------------------- */

/* The working memory and the threads of one caller. Make one for each thread that calls the library. */
typedef struct kalm_context kalm_context;

/* Take the working memory that `config` asks for, and start the context's threads. Later calls allocate the documents that
   they return, what cache_bytes allows, and memory for long texts while they are tokenised. Errors: KALM_NO_KERNELS;
   KALM_BAD_FILE where scales or the weights of a norm are impossible. */
KALM_API kalm_result kalm_context_new(const kalm_model *model, const kalm_config *config,
                                      kalm_context **ctx, kalm_error *err);
KALM_API void        kalm_context_free(kalm_context *ctx);       /* NULL is allowed */

/* How many bytes kalm_context_new will ask the allocator for, in one block: all of the context's working memory but the
   stacks of its threads. Later calls allocate what kalm_context_new names; tokenising takes a few bytes for each byte of the
   text while it lasts (tokenizer/text.h has the bounds). Errors as kalm_context_new. */
KALM_API kalm_result kalm_context_bytes(const kalm_model *model, const kalm_config *config, size_t *bytes, kalm_error *err);

/* ---- documents ----------------------------------------------------------------------------------------------- */

/* A document as the encoder leaves it: rows of numbers that stand for its text. It is its bytes, to be kept in a file, a
   database or anywhere: they hold no pointers, any machine reads them, and with q8 and q4 weights every machine makes the
   same ones. */
typedef struct kalm_doc kalm_doc;
typedef struct kalm_doc_info {
    uint32_t tokens;                   /* of the text, with the words before it ("<Document>: ")             */
    uint32_t tokens_used;              /* fewer where the text was cut at max_doc_tokens                     */
    uint32_t rows, ratio, width, bits; /* rows = ceil(tokens_used / ratio), each of `width` numbers of `bits` bits */
    uint64_t fingerprint;              /* of the model that made it                                          */
    uint64_t vocabulary;               /* that its text was read with: 0 the model's whole one, else what
                                          kalm_model_info.cut_vocabulary is there: docs/DOCUMENTS.md         */
    uint64_t transform;                /* bits 4, 3 and 2: that of the model file (kalm_model_info); else 0  */
} kalm_doc_info;

/* Encode `count` texts into docs [count], each to be freed with kalm_doc_free; all are NULL when the call fails. Texts are
   computed in common batches, so one call with many texts is faster than many calls with one; the bytes are the same either
   way. A text that is longer than max_doc_tokens is cut. Errors: KALM_OVERFLOW, KALM_CANCELLED, KALM_INCOMPLETE. */
KALM_API kalm_result kalm_encode(kalm_context *ctx, const kalm_text *texts, size_t count,
                                 const kalm_params *params, kalm_doc **docs, kalm_error *err);

/* The same from token ids, which are the whole input of the encoder, the words before a document included. */
KALM_API kalm_result kalm_encode_ids(kalm_context *ctx, const kalm_ids *texts, size_t count,
                                     const kalm_params *params, kalm_doc **docs, kalm_error *err);

/* The bytes of a document, *size of them, to store. They live as long as the document. docs/FORMAT.md describes them. */
KALM_API const void *kalm_doc_bytes(const kalm_doc *doc, size_t *size);

/* A document from stored bytes, which are checked against `model`. They are copied; with the flag KALM_BORROW they are not,
   must outlive the document, are aligned to 4 bytes, and must not change: a mapped file of a million documents opens without
   copying. (Bytes that change all the same give meaningless scores and no worse: every size that is used was checked here.)
   Memory comes from the model's allocator. Errors: KALM_BAD_FILE, KALM_BAD_VERSION, KALM_MISMATCH. */
#define KALM_BORROW 1u
KALM_API kalm_result kalm_doc_open(const kalm_model *model, const void *data, size_t size, uint32_t flags,
                                   kalm_doc **doc, kalm_error *err);

/* A document with fewer rows, made of one with more, without encoding again. `ratio` is a multiple of the document's own;
   each new row is the mean of the old ones that it covers, weighted by their tokens, and differs from encoding at that ratio
   by rounding alone. bits: 32, 16, 8, 4, 3, 2, or 0 for those of `doc`. Memory comes from the model's allocator. Errors:
   KALM_BAD_ARGUMENT, KALM_MISMATCH, KALM_OVERFLOW. */
KALM_API kalm_result kalm_doc_repool(const kalm_model *model, const kalm_doc *doc, uint32_t ratio, uint32_t bits,
                                     kalm_doc **coarser, kalm_error *err);

KALM_API void kalm_doc_get_info(const kalm_doc *doc, kalm_doc_info *info);
KALM_API void kalm_doc_free(kalm_doc *doc);          /* NULL is allowed */

/* ---- reranking ----------------------------------------------------------------------------------------------- */

/* Score `count` documents against a query: scores[i] is that of docs[i]. The bits of a score do not depend on which other
   documents are in the call, nor on threads. Errors: KALM_MISMATCH, KALM_OVERFLOW, KALM_CANCELLED, KALM_INCOMPLETE; scores
   are then all zero. */
KALM_API kalm_result kalm_rerank(kalm_context *ctx, kalm_text query, const kalm_doc *const *docs, size_t count,
                                 const kalm_params *params, kalm_score *scores, kalm_error *err);

/* The same where the decoder's whole input is given as token ids: system text, instruction, query and what closes the prompt.
   At most max_query_tokens + 512 of them; more is an error, nothing is cut. */
KALM_API kalm_result kalm_rerank_ids(kalm_context *ctx, kalm_ids prompt, const kalm_doc *const *docs, size_t count,
                                     const kalm_params *params, kalm_score *scores, kalm_error *err);

/* Encode texts, score them and forget them, 64 at a time, so that memory does not grow with `count`. params.bits is 32 unless
   it is set, since nothing is kept. scores[i] is that of texts[i]. */
KALM_API kalm_result kalm_rerank_texts(kalm_context *ctx, kalm_text query, const kalm_text *texts, size_t count,
                                       const kalm_params *params, kalm_score *scores, kalm_error *err);

/* The best `top_k` documents, best first, into scores [top_k]; *found is how many there are. With params.coarse_ratio, a
   multiple of every document's ratio, all documents are scored at that ratio first, and the best params.coarse_keep of them
   again at their own (a cascade): each score that comes back is that of a full run, but a good document that the first pass
   ranks too low is missed. on_score is told of the last pass alone. */
KALM_API kalm_result kalm_rerank_top(kalm_context *ctx, kalm_text query, const kalm_doc *const *docs, size_t count,
                                     size_t top_k, const kalm_params *params, kalm_score *scores, size_t *found,
                                     kalm_error *err);

/* The cache of a context with cache_bytes. For each pair of document and instruction it keeps a state: the decoder's keys and
   values, in every layer, of the document's rows and of the prompt up to the query. The next query with the same instruction
   then runs only its own tokens through the decoder, and its scores are the same bits as without. A state takes about 20
   times the document's bytes; the least recently used go first. With state_bits keys have 8 bits and values so many, and scores
   change a little (docs/DOCUMENTS.md), by the same bits whether a state was made, found, loaded or had no room. */
typedef struct kalm_cache_info {
    uint64_t hits, misses, dropped;    /* states found, made, and removed to make room, since the context was made */
    size_t   documents, bytes, limit;  /* states held now; the memory they take, of cache_bytes              */
} kalm_cache_info;
KALM_API void kalm_context_get_cache(const kalm_context *ctx, kalm_cache_info *info);
KALM_API void kalm_context_clear_cache(kalm_context *ctx);

/* The state of a document for the instruction of `params`, as bytes to store, so that another process starts with it. It is
   computed where the cache does not have it. *size is set to how many bytes it takes, and they are written if `capacity` is
   no less (capacity 0, with data NULL, asks). The context needs cache_bytes that hold a state, else KALM_NO_MEMORY. Errors:
   KALM_MISMATCH. */
KALM_API kalm_result kalm_state_save(kalm_context *ctx, const kalm_doc *doc, const kalm_params *params, void *data,
                                     size_t capacity, size_t *size, kalm_error *err);

/* Put stored bytes of a state into the cache, after checking them against model, document and instruction; `data` is copied.
   Scores are the same bits as without it, with float weights on the kernel set that saved it. The checksums inside are
   against accidents: a forged state gives forged scores, and no worse. Errors: KALM_BAD_FILE, KALM_BAD_VERSION,
   KALM_MISMATCH. */
KALM_API kalm_result kalm_state_load(kalm_context *ctx, const kalm_doc *doc, const kalm_params *params, const void *data,
                                     size_t size, kalm_error *err);

/* Sort scores [count] by margin, largest first; equal margins are in order of their index. */
KALM_API void kalm_sort(kalm_score *scores, size_t count);

#ifdef __cplusplus
}
#endif
#endif /* KALM_RERANK_H */
