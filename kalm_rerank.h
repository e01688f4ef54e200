/* kalm_rerank.h - generated from the parts in src/, tokenizer/ and quantize/ by `make header`: edit those. */
/* kalm_rerank_in.h - the spine: the parts in teaching order, each from above what needs it, and nothing else.
   It is valid C: tests include it; `make header` expands it into kalm_rerank.h. */
/* ---- begin src/manual.h ---- */
/*
kalm_rerank.h - a library in one file of C99: it ranks passages of text by how well they answer a query, with the neural
network KaLM-Reranker-V1, on any CPU.

In ONE .c or .cpp file write

    #define KALM_RERANK_IMPLEMENTATION
    #include "kalm_rerank.h"

and in every other file that calls it the #include alone. Build: cc -O2 program.c -lm -lpthread. There is nothing else
to install. A model is one file, which kalm-quantize makes of a checkpoint from Hugging Face:

    kalm-quantize KaLM-Reranker-V1-Nano nano.kalm --weights q8


THE FIRST PROGRAM

    #include <stdio.h>
    #define KALM_RERANK_IMPLEMENTATION
    #include "kalm_rerank.h"

    int main(void)
    {
        kalm_text query = { "What is the capital of China?", KALM_NUL };
        kalm_text texts[2] = { { "The capital of China is Beijing.", KALM_NUL },
                               { "Gravity attracts bodies toward one another.", KALM_NUL } };
        kalm_model *model = NULL;
        kalm_context *ctx = NULL;
        kalm_score scores[2];
        kalm_error err;
        if (kalm_model_open("nano.kalm", NULL, &model, &err)
            || kalm_context_new(model, NULL, &ctx, &err)
            || kalm_rerank_texts(ctx, query, texts, 2, NULL, scores, &err)) return puts(err.text), 1;
        kalm_sort(scores, 2);
        printf("%.3f %s\n", (double)scores[0].score, texts[scores[0].index].data);
        kalm_context_free(ctx);
        kalm_model_close(model);
        return 0;
    }


HOW IT WORKS, AND WHAT TO KEEP

The model has two halves. The encoder reads a passage alone and leaves one row of numbers for every `ratio` tokens (words
and parts of words): that is a kalm_doc, and it is the same for every query. The decoder reads an instruction and the
query, attends to the rows, and answers yes or no. So a program that has its passages before its queries does the greater
part of the work beforehand:

    once       kalm_encode(ctx, texts, n, NULL, docs, &err);          then kalm_doc_bytes(docs[i], &size), and store
    at start   kalm_doc_open(model, bytes, size, KALM_BORROW, &docs[i], &err);
    each query kalm_rerank(ctx, query, (const kalm_doc *const *)docs, n, NULL, scores, &err);

kalm_params.ratio trades quality for space and time: twice the ratio is half the bytes and half the rows to attend to. The
model was trained for this, which its authors call Matryoshka embedding pooling (MEP). docs/MODEL.md says exactly what is
computed, and explains the words.


TWO NUMBERS

A kalm_score has two. `margin` is the logit of "yes" minus the logit of "no", of any size. `score` is the probability of
"yes" that follows, 1 / (1 + exp(-margin)), from 0 to 1: show it, compare it with a threshold. Both order documents alike,
but near 0 and 1 many margins round to the same score, so kalm_sort looks at the margin. A score needs no further sigmoid.


RULES

  - Zero is the default: memset an option struct to 0 (or pass NULL for all of it) and set what you want to change.
  - Functions return KALM_OK, which is 0, or the code of an error; kalm_error (NULL is allowed) then has a sentence that
    names the file, tensor, byte or token. What could not be made is NULL. No call leaves half of its work behind.
  - The library prints nothing, never ends the process, reads no environment variable and has no global state.
  - A model and its documents never change and may be used from any number of threads. A context belongs to one thread
    at a time: one context for each thread that calls. If the system refuses a thread, a context works with fewer. Its threads
    block signals, which are for the program's own: all but SIGPROF and those that a thread's own instructions raise.
  - After fork the child may use and free all that its parent made, except contexts that other threads were using at that
    moment; those it may only free. A context starts new threads in the child when it first needs them.
  - Memory comes from kalm_config.allocator, else from KALM_MALLOC. A context takes its working memory when it is made.
  - A score is the same alone or in a batch, with one thread or many, today and tomorrow. With q8 and q4 weights it is the
    same bits on every kernel set and every machine, and so are document bytes; with f32, f16 and bf16 weights sets differ
    by rounding alone. A program that makes the processor round otherwise than to nearest (fesetround) gets KALM_BAD_ARGUMENT.
  - Texts are UTF-8; ill-formed bytes count as U+FFFD. A document or query that is too long is cut, and kalm_score.cut says
    which of the two was. Words like "<end_of_turn>" in a text are plain characters unless KALM_PARSE_CONTROL is set: no
    text can end the prompt it stands in.
  - Scores are finite numbers. Where the numbers of a document outgrow 32-bit floats, as they may with a damaged or hostile
    model or document, the call fails with KALM_OVERFLOW.
  - Model files, document bytes and stored states may come from strangers: every count, offset and length is checked before
    use, and a context with cache_bytes finds what it keeps by comparing bytes, never by a checksum alone. Whatever the bytes
    are, a call returns a result or an error and touches no memory but its own.
  - Checksums and the model's fingerprint are against accidents: a bad disk, a cut download, the wrong model. They are no
    signatures: anybody can make a document, a state or a model that carries the checksum or fingerprint of another and gives
    whatever scores its maker wants. Where that matters, keep the bytes where strangers cannot write, or sign them.
    kalm_model_verify finds damage that opening cannot see, by comparing the model's checksums.


SWITCHES, for the file with the implementation (KALM_RERANK_STATIC and KALM_API: for all files)

  KALM_RERANK_STATIC     make every function static: a private copy in this file
  KALM_API               what stands before every public declaration, such as __declspec(dllexport); default: extern
  KALM_MALLOC(size), KALM_FREE(ptr)   the default allocator, both or neither; default: malloc and free
  KALM_ASSERT(x)         default: nothing; assert(x) with KALM_DEBUG. No input can fail one
  KALM_NO_STDIO          no files: kalm_model_open is gone, kalm_model_open_memory stays
  KALM_NO_THREADS        no threads of the library's own (kalm_config.parallel still works); no -lpthread
  KALM_NO_SIMD           plain C alone
  KALM_ALLOW_FAST_MATH   compile although the compiler says that it was given -ffast-math, -Ofast, -funsafe-math-optimizations,
                         -fassociative-math, -freciprocal-math, -ffinite-math-only (GCC; of these clang tells -ffast-math, -Ofast
                         and -ffinite-math-only) or /fp:fast (MSVC), which are refused otherwise. With GCC and clang q8 and q4
                         models give the same bits under each of them. What is lost: with f32, f16 and bf16 weights scores may
                         differ from those of another build by rounding; with -ffinite-math-only, which -ffast-math includes,
                         numbers that overflow or are NaN, as a stranger's file can cause, give any score; with MSVC all
                         promises about equal scores. GCC's -fsingle-precision-constant is always refused. Other flags cost
                         nothing: -march=native, -O3, -ffp-contract=fast


PLATFORMS

C99, C11, C17, C++11 to C++20. Instruction sets are chosen when a context is made, from those that the machine has: no
-m flags are needed, and one binary serves all machines of an architecture. kalm_kernels lists them,
kalm_config.kernels picks one.


NAMES

Everything that this file declares or defines begins with kalm_ or KALM_, and no macro of yours is redefined or taken back.
Macros of yours in capitals do no harm, nor do those in lower case of <windows.h>, <complex.h> and other system headers. These
words stand in the declarations, and must not be macros in any file that includes this one:

    alloc allocator arg bits bytes cache_bytes capacity coarse_keep coarse_ratio coarser code config count ctx cut
    cut_vocabulary data doc docs documents done dropped err fingerprint flags found has_decoder has_encoder
    has_tokenizer hits i id ids index info instruction kernels layers limit load margin max_doc_tokens
    max_query_tokens max_tokens misses model name no_id on_score on_score_user parallel parallel_user params path
    prefix_tokens progress progress_user prompt ptr query ratio release rows score scores size state_bits system task text
    texts threads tokens tokens_used top_k total transform user vocabulary weights width yes_id

The implementation uses about a thousand more, the names of its variables: include it before any macro in lower case is defined.


HOW TO READ THIS FILE

It is generated from parts, each of which opens with what it is for: look for "---- begin". The declarations come first
and carry their contracts; the code follows in teaching order, from bytes to scores. The licence (MIT) is at the end.
*/
/* ---- begin src/api.h ---- */
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

/* ---- results ---- */

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

/* ---- texts, tokens, memory ---- */

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

/* ---- kernels ---- */

/* The name of the i-th kernel set, the code for one instruction set, that this build can run on this machine: best first
   ("amx", "avx512vnni", ...), "scalar" last, then NULL. One that comes behind a slower one, as "avx512bf16" does, rounds
   differently (activations to bf16), so it is used only where kalm_config.kernels names it. The names are static. A context
   that runs "amx" asks Linux for its registers, which the process then has for good: sigaltstack refuses less than 12 KB. */
KALM_API const char *kalm_kernels(size_t i);

/* ---- model ---- */

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

/* ---- tokenizer ---- */

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

/* ---- context ---- */

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

/* ---- documents ---- */

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

/* ---- reranking ---- */

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

#if defined(__INTELLISENSE__) && !defined(KALM_RERANK_IMPLEMENTATION)
#define KALM_RERANK_IMPLEMENTATION     /* so that editors colour what follows */
#endif

/* ---- That was all a user needs to read. Below is the implementation. ---- */

#ifdef KALM_RERANK_IMPLEMENTATION
#ifndef KALM__IMPLEMENTED
#define KALM__IMPLEMENTED

/* gcc's own intrinsics warn about their insides where they are used: their undefined vectors (its bug 105593), and without
   optimisation, when they are macros, their mask constants. C's casts are old style to C++. */
#ifdef __GNUC__
#pragma GCC diagnostic push
#ifdef __cplusplus
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#ifndef __OPTIMIZE__
#pragma GCC diagnostic ignored "-Wsign-conversion"
#endif
#endif
#endif

/* The ground: compilers, errors, sizes, files, threads. */
/* ---- begin src/config.h ---- */
/* config.h - compilers, attributes, hooks and build switches. The one place for compiler extensions. */
#define KALM__CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <stdarg.h>
#include <math.h>

/* Flags that let a compiler change what float operations give. Every operation that a result depends on is fenced (below), so
	none of them changes a result with q8 or q4 weights (tests/test_flags.sh). They are refused nevertheless where a compiler
	tells: the manual says what is lost. */
#if !defined(KALM_ALLOW_FAST_MATH)
#  if defined(__FAST_MATH__) || defined(_M_FP_FAST)
#    error "kalm_rerank.h: compile without -ffast-math (/fp:fast), or define KALM_ALLOW_FAST_MATH (see manual)"
#  elif defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__)
#    error "kalm_rerank.h: compile without -fassociative-math, -freciprocal-math, or define KALM_ALLOW_FAST_MATH (see manual)"
#  elif defined(__FINITE_MATH_ONLY__)
#    if __FINITE_MATH_ONLY__
#      error "kalm_rerank.h: compile without -ffinite-math-only, or define KALM_ALLOW_FAST_MATH (see manual)"
#    endif
#  endif
#endif
/* no macro tells of this flag, which makes constants such as ln 2 floats */
typedef char kalm__compile_without_fsingle_precision_constant[sizeof 1.0 == sizeof(double) ? 1 : -1];

#if defined(KALM_MALLOC) != defined(KALM_FREE)
#  error "kalm_rerank.h: define both KALM_MALLOC and KALM_FREE, or neither"
#endif
#ifndef KALM_MALLOC
#  include <stdlib.h>
#  define KALM_MALLOC(size) malloc(size)
#  define KALM_FREE(ptr) free(ptr)
#endif

#ifndef KALM_ASSERT
#  ifdef KALM_DEBUG
#    include <assert.h>
#    define KALM_ASSERT(x) assert(x)
#  else
#    define KALM_ASSERT(x) ((void)0)
#  endif
#endif

/* Private functions: static, and silent when a build switch leaves them unused. (clang-cl defines no __GNUC__.) The Makefile
	gives KALM__FN, to compile the library once for many programs, and KALM__INLINE, to count its branches. */
#if defined(__GNUC__) || defined(__clang__)
#  ifndef KALM__FN
#    define KALM__FN static __attribute__((__unused__))
#  endif
#  define KALM__SMALL_FN static __inline__ __attribute__((__unused__))
#  ifndef KALM__INLINE
#    define KALM__INLINE static __inline__ __attribute__((__unused__, __always_inline__))
#  endif
#  define KALM__NOINLINE __attribute__((__noinline__))
#  define KALM__RESTRICT __restrict__
#  define KALM__ALIGNED(n) __attribute__((__aligned__(n)))
#  define KALM__LIKELY(x) __builtin_expect(!!(x), 1)
#  define KALM__PREFETCH(p) __builtin_prefetch(p)
#else
#  define KALM__FN static
#  define KALM__LIKELY(x) (x)
#  define KALM__PREFETCH(p) ((void)(p))
#  if defined(_MSC_VER)
#    define KALM__SMALL_FN static __inline
#    define KALM__INLINE static __forceinline
#    define KALM__NOINLINE __declspec(noinline)
#    define KALM__RESTRICT __restrict
#    define KALM__ALIGNED(n) __declspec(align(n))
#  else
#    define KALM__SMALL_FN static
#    define KALM__INLINE static
#    define KALM__NOINLINE
#    define KALM__RESTRICT
#    define KALM__ALIGNED(n)
#  endif
#endif

/* An empty statement that claims to change the float or double v, so that the compiler rounds it here, and can neither fuse a
	product with a sum (as GCC does unless told not to) nor fold it with other operations (as -fassociative-math allows). The
	letter is the kind of register that holds floats; without one, or where floats are computed wider (x87), a store and a load do. KALM__FENCE_AFTER(v, w) claims
	that the change depends on w as well, so that what is done with v stays beside w, in a loop too.
	KALM__FENCE_V does the same to a vector. */
#if defined(__FLT_EVAL_METHOD__)
#  if __FLT_EVAL_METHOD__ != 0
#    define KALM__WIDE_FLOATS 1
#  endif
#endif
#ifndef KALM__WIDE_FLOATS
#  define KALM__WIDE_FLOATS 0
#endif
#if defined(__GNUC__) && !KALM__WIDE_FLOATS
#  if defined(__x86_64__) || defined(__i386__)
#    define KALM__FENCE(v) __asm__("" : "+x"(v))
#    define KALM__FENCE_AFTER(v, w) __asm__("" : "+x"(v) : "x"(w))
#  elif defined(__aarch64__)
#    define KALM__FENCE(v) __asm__("" : "+w"(v))
#    define KALM__FENCE_AFTER(v, w) __asm__("" : "+w"(v) : "w"(w))
#  elif (defined(__riscv) && defined(__riscv_flen)) || defined(__s390x__) || defined(__powerpc64__) || \
	   defined(__loongarch_hard_float)
#    define KALM__FENCE(v) __asm__("" : "+f"(v))
#    define KALM__FENCE_AFTER(v, w) __asm__("" : "+f"(v) : "f"(w))
#  elif defined(__wasm__)
#    define KALM__FENCE(v) __asm__("" : "+r"(v))
#    define KALM__FENCE_AFTER(v, w) __asm__("" : "+r"(v) : "r"(w))
#  endif
#elif defined(_MSC_VER) && !defined(__clang__) && !KALM__WIDE_FLOATS
#  define KALM__FENCE(v) ((void)0)  /* /fp:precise, the default, neither fuses nor folds; /fp:fast is refused above */
#  define KALM__FENCE_AFTER(v, w) ((void)0)
#endif
#if !defined(__GNUC__)
#  define KALM__FENCE_V(v) ((void)0)
#elif defined(__x86_64__) || defined(__i386__)
#  define KALM__FENCE_V(v) __asm__("" : "+v"(v))
#elif defined(__wasm__)
#  define KALM__FENCE_V(v) __asm__("" : "+r"(v))
#else
#  define KALM__FENCE_V(v) __asm__("" : "+w"(v))
#endif

/* Which families of kernels this compiler and target can build. Each function carries its own target attribute, so
	no -m flag is needed; what the machine can run is decided by cpu.h at run time. */
#ifndef KALM_NO_SIMD
#  if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#    define KALM__X86 1
#    define KALM__TARGET(features) __attribute__((__target__(features)))
#    if defined(__clang__)
#      if __clang_major__ >= 12
#        define KALM__HAVE_AVXVNNI 1
#      endif
#      if __clang_major__ >= 8
#        define KALM__HAVE_AVX512 1
#      endif
#      if __clang_major__ >= 9 && defined(__GNUC__)
#        define KALM__HAVE_AVX512BF16 1
#      endif
#    else
#      if __GNUC__ >= 12
#        define KALM__HAVE_AVXVNNI 1
#      endif
#      if __GNUC__ >= 9
#        define KALM__HAVE_AVX512 1
#      endif
#      if __GNUC__ >= 10
#        define KALM__HAVE_AVX512BF16 1
#      endif
#    endif
#  elif (defined(_M_X64) || defined(_M_IX86)) && defined(_MSC_VER)
#    define KALM__X86 1
#    define KALM__TARGET(features)
#    if _MSC_VER >= 1930
#      define KALM__HAVE_AVXVNNI 1
#    endif
#    if _MSC_VER >= 1920
#      define KALM__HAVE_AVX512 1
#    endif
#  endif
#  if (defined(__aarch64__) || defined(_M_ARM64)) && !defined(__ARM_BIG_ENDIAN)
#    define KALM__NEON 1
#    define KALM__NEON64 1
#  elif defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN)
#    define KALM__NEON 1
#  endif
#  if defined(__riscv_v) && defined(__riscv_v_intrinsic) && !defined(KALM__RVV)
#    define KALM__RVV 1
#  endif
#  if defined(__wasm_simd128__)
#    define KALM__WASM 1
#    if defined(__wasm_relaxed_simd__) && __clang_major__ >= 16  /* earlier ones speak a draft */
#      define KALM__WASM_RELAXED 1
#    endif
#  endif
#endif
/* How the set avxvnni encodes its instructions. Tests define KALM__EVEX_VNNI, so that processors that have only AVX-512's form
	of them (Ice Lake, Zen 4) run the set as well. */
#ifdef KALM__EVEX_VNNI
#  define KALM__VEX "%{evex%} "
#else
#  define KALM__VEX "%{vex%} "
#endif
#ifndef KALM__X86
#  define KALM__X86 0
#endif
#ifndef KALM__HAVE_AVXVNNI
#  define KALM__HAVE_AVXVNNI 0
#endif
#ifndef KALM__HAVE_AVX512
#  define KALM__HAVE_AVX512 0
#endif
#ifndef KALM__HAVE_AVX512BF16
#  define KALM__HAVE_AVX512BF16 0
#endif
/* AMX, which only Linux is asked for (cpu.h) */
#if KALM__HAVE_AVX512 && defined(__linux__) && defined(__LP64__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#  define KALM__HAVE_AMX 1
#else
#  define KALM__HAVE_AMX 0
#endif
#ifndef KALM__NEON
#  define KALM__NEON 0
#endif
#ifndef KALM__NEON64
#  define KALM__NEON64 0
#endif
#ifndef KALM__RVV
#  define KALM__RVV 0
#endif
#ifndef KALM__WASM
#  define KALM__WASM 0
#endif
#ifndef KALM__WASM_RELAXED
#  define KALM__WASM_RELAXED 0
#endif

/* clang 18 to 20 have a feature of its own for the wide registers of AVX-512. "avx512f" implies it, unless the build has turned it
	off for the rest of the program, as Zig does for every feature that a processor need not have. */
#if defined(__clang__) && !defined(__apple_build_version__) && __clang_major__ >= 18 && __clang_major__ <= 20
#  define KALM__AVX512F "evex512,avx512f"
#else
#  define KALM__AVX512F "avx512f"
#endif

#if defined(__BYTE_ORDER__) && defined(__ORDER_BIG_ENDIAN__)
#  if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#    define KALM__BIG_ENDIAN 1
#  endif
#endif
#ifndef KALM__BIG_ENDIAN
#  define KALM__BIG_ENDIAN 0
#endif

/* As Microsoft's compiler, clang leaves most of immintrin.h out where the build has no -mavx. */
#if KALM__X86 && defined(__clang__) && defined(_MSC_VER)
#  include <immintrin.h>
#  include <pmmintrin.h>
#  include <tmmintrin.h>
#  include <smmintrin.h>
#  include <avxintrin.h>
#  include <avx2intrin.h>
#  include <f16cintrin.h>
#  include <fmaintrin.h>
#  include <avxvnniintrin.h>
#  include <avx512fintrin.h>
#  include <avx512vlintrin.h>
#  include <avx512bwintrin.h>
#  include <avx512dqintrin.h>
#  include <avx512vlbwintrin.h>
#  include <avx512vldqintrin.h>
#  include <avx512vnniintrin.h>
#  include <avx512vlvnniintrin.h>
#endif

/* Windows: files, threads, and on ARM what the processor can do. Without the macros min and max, which break C++, and
	without the parts of <windows.h> that programs seldom want; the two words are taken back, for they are not ours. A program that
	wants all of <windows.h> includes it before this header. */
#if defined(_WIN32)
#  ifndef NOMINMAX
#    define NOMINMAX
#    define KALM__OWN_NOMINMAX
#  endif
#  ifndef WIN32_LEAN_AND_MEAN
#    define WIN32_LEAN_AND_MEAN
#    define KALM__OWN_LEAN
#  endif
#  include <windows.h>
#  ifdef KALM__OWN_NOMINMAX
#    undef NOMINMAX
#  endif
#  ifdef KALM__OWN_LEAN
#    undef WIN32_LEAN_AND_MEAN
#  endif
#endif

/* C99 has no _Static_assert: an array of negative length stops the compiler instead. */
#define KALM__ASSERT_SIZE(name, condition) typedef char kalm__assert_##name[(condition) ? 1 : -1]

/* ---- begin src/base.h ---- */
/* base.h - what every part uses: error messages, checked sizes, little-endian numbers, 16-bit floats, the hash, allocation. */
#define KALM__BASE_H


/* ---- errors ---- */

/* A small formatter, because the library must not need stdio. Its letters:
	  %s const char*, control characters as '?'   %d int   %u unsigned   %z size_t   %U uint64_t
	  %X uint64_t in 16 hex digits   %c int, one character   %% percent
	  %q const char*, size_t: that many bytes, cut at 60, all but printable ASCII as '?' */
typedef struct kalm__writer {
	char *at;
	size_t room;  /* without the NUL */
} kalm__writer;

KALM__FN void kalm__put(kalm__writer *w, char c)
{
	if (w->room) {
		*w->at++ = c;
		w->room--;
	}
}

KALM__FN void kalm__put_word(kalm__writer *w, const char *s)
{
	for (; *s; s++) kalm__put(w, *s);
}

/* Names in an error come from strangers' files: no control character reaches a terminal. Bytes of UTF-8 pass. */
KALM__INLINE char kalm__printable(char c) { return ((unsigned char)c < 32 || c == 127) ? '?' : c; }

KALM__FN void kalm__put_number(kalm__writer *w, uint64_t v, unsigned base, int digits)
{
	char text[24];
	int n = 0;
	do {
		text[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v || n < digits);
	while (n) kalm__put(w, text[--n]);
}

KALM__FN void kalm__put_format(kalm__writer *w, const char *pattern, va_list args)
{
	for (; *pattern; pattern++) {
		if (*pattern != '%') {
			kalm__put(w, *pattern);
			continue;
		}
		switch (*++pattern) {
		case 's': {
			const char *s = va_arg(args, const char *);
			for (s = s ? s : "(null)"; *s; s++) kalm__put(w, kalm__printable(*s));
			break;
		}
		case 'q': {
			const char *s = va_arg(args, const char *);
			size_t n = va_arg(args, size_t), i;
			for (i = 0; i < n && i < 60; i++) kalm__put(w, (unsigned char)s[i] < 128 ? kalm__printable(s[i]) : '?');
			if (n > 60) kalm__put_word(w, "...");
			if (!n) kalm__put_word(w, "\"\"");
			break;
		}
		case 'd': {
			int v = va_arg(args, int);
			if (v < 0) kalm__put(w, '-');
			kalm__put_number(w, v < 0 ? 0u - (uint64_t)(int64_t)v : (uint64_t)v, 10, 1);
			break;
		}
		case 'u': kalm__put_number(w, va_arg(args, unsigned), 10, 1); break;
		case 'z': kalm__put_number(w, va_arg(args, size_t), 10, 1); break;
		case 'U': kalm__put_number(w, va_arg(args, uint64_t), 10, 1); break;
		case 'X': kalm__put_number(w, va_arg(args, uint64_t), 16, 16); break;
		case 'c': kalm__put(w, (char)va_arg(args, int)); break;
		case '%': kalm__put(w, '%'); break;
		default: return;
		}
	}
}

/* Fill in *err, which may be NULL, and return the code, so that a failing line reads `return kalm__fail(...)`. */
KALM__FN kalm_result kalm__fail(kalm_error *err, kalm_result code, const char *pattern, ...)
{
	if (err) {
		kalm__writer w;
		va_list args;
		w.at = err->text;
		w.room = sizeof err->text - 1;
		va_start(args, pattern);
		kalm__put_format(&w, pattern, args);
		va_end(args);
		*w.at = 0;
		err->code = code;
	}
	return code;
}

KALM__FN void kalm__no_error(kalm_error *err)
{
	if (err) {
		err->code = KALM_OK;
		err->text[0] = 0;
	}
}

/* ---- sizes ---- */

/* Products and sums that stay at SIZE_MAX where they would overflow. kalm__alloc refuses that size, and no bound admits it. */
KALM__INLINE size_t kalm__mul(size_t a, size_t b) { return b && a > SIZE_MAX / b ? SIZE_MAX : a * b; }
KALM__INLINE size_t kalm__add(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }
/* a rounded up to a multiple of b, or SIZE_MAX where that would overflow */
KALM__INLINE size_t kalm__round_up(size_t a, size_t b) { return a > SIZE_MAX - (b - 1) ? SIZE_MAX : (a + b - 1) / b * b; }
KALM__INLINE size_t kalm__min(size_t a, size_t b) { return a < b ? a : b; }
KALM__INLINE size_t kalm__max(size_t a, size_t b) { return a > b ? a : b; }

/* ---- little-endian bytes, at any alignment ---- */

KALM__INLINE uint32_t kalm__u16(const void *p)
{
	const unsigned char *b = (const unsigned char *)p;
	return (uint32_t)b[0] | (uint32_t)b[1] << 8;
}
KALM__INLINE uint32_t kalm__u32(const void *p)
{
	const unsigned char *b = (const unsigned char *)p;
	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
KALM__INLINE uint64_t kalm__u64(const void *p)
{
	const unsigned char *b = (const unsigned char *)p;
	return (uint64_t)kalm__u32(b) | (uint64_t)kalm__u32(b + 4) << 32;
}
KALM__INLINE void kalm__put_u32(void *p, uint32_t v)
{
	unsigned char *b = (unsigned char *)p;
	b[0] = (unsigned char)v, b[1] = (unsigned char)(v >> 8), b[2] = (unsigned char)(v >> 16), b[3] = (unsigned char)(v >> 24);
}
KALM__INLINE void kalm__put_u64(void *p, uint64_t v)
{
	kalm__put_u32(p, (uint32_t)v);
	kalm__put_u32((unsigned char *)p + 4, (uint32_t)(v >> 32));
}
KALM__INLINE float kalm__f32(const void *p)
{
	uint32_t u = kalm__u32(p);
	float f;
	memcpy(&f, &u, 4);
	return f;
}
KALM__INLINE void kalm__put_f32(void *p, float f)
{
	uint32_t u;
	memcpy(&u, &f, 4);
	kalm__put_u32(p, u);
}

/* Not infinite and not NaN. By the bits of the number: comparisons may be folded away where a compiler is told that all
	numbers are finite. */
KALM__INLINE int kalm__is_finite(float x)
{
	uint32_t u;
	memcpy(&u, &x, 4);
	return (u & 0x7f800000u) != 0x7f800000u;
}
KALM__INLINE float kalm__not_a_number(void)
{
	uint32_t u = 0x7fc00000u;
	float x;
	memcpy(&x, &u, 4);
	return x;
}

/* ---- half precisions ---- */

KALM__INLINE float kalm__from_bf16(uint16_t h)
{
	uint32_t u = (uint32_t)h << 16;
	float f;
	memcpy(&f, &u, 4);
	return f;
}
KALM__INLINE float kalm__from_f16(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = h >> 10 & 31u, m = h & 1023u, u;
	float f;
	if (e == 31) u = sign | 0x7f800000u | m << 13;
	else if (e) u = sign | (e + 112) << 23 | m << 13;
	else {  /* zero or subnormal: m * 2^-24 is exact in a float */
		f = (float)m * (1.0f / 16777216.0f);
		memcpy(&u, &f, 4);
		u |= sign;
	}
	memcpy(&f, &u, 4);
	return f;
}
/* to nearest, ties to even; beyond 65504 becomes infinity */
KALM__INLINE uint16_t kalm__to_f16(float f)
{
	uint32_t u, sign, a, r;
	memcpy(&u, &f, 4);
	sign = u >> 16 & 0x8000u;
	a = u & 0x7fffffffu;
	if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
	if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
	if (a < 0x38800000u) {  /* subnormal half: adding 0.5 leaves m in the low mantissa bits, rounded */
		float x;
		memcpy(&x, &a, 4);
		x += 0.5f;
		memcpy(&r, &x, 4);
		return (uint16_t)(sign | (r - 0x3f000000u));
	}
	r = a - 0x38000000u;
	return (uint16_t)(sign | (r + 0xfffu + (r >> 13 & 1)) >> 13);
}

/* ---- hash ---- */

/* 64-bit checksum of our own: eight lanes of multiply and xor-shift over 64-byte blocks, so that a vectorising compiler
	or a plain loop both run at memory speed. It finds damage; it is no defence against forgery.
	Data may come in pieces: all but the last must be multiples of 64 bytes for the same sum as in one call. */
#define KALM__HASH_A 0x9e3779b97f4a7c15u
#define KALM__HASH_B 0xc2b2ae3d27d4eb4fu
typedef struct kalm__hasher {
	uint64_t lane[8];
	uint64_t bytes;
} kalm__hasher;

KALM__FN void kalm__hash_begin(kalm__hasher *h)
{
	unsigned i;
	for (i = 0; i < 8; i++) h->lane[i] = (i + 1) * (uint64_t)KALM__HASH_A;
	h->bytes = 0;
}
KALM__INLINE uint64_t kalm__hash_mix(uint64_t lane, uint64_t number)
{
	lane = (lane ^ number) * (uint64_t)KALM__HASH_A;
	return lane ^ lane >> 29;
}
KALM__FN void kalm__hash_add(kalm__hasher *h, const void *data, size_t size)
{
	const unsigned char *p = (const unsigned char *)data;
	unsigned i;
	h->bytes += size;
	for (; size >= 64; size -= 64, p += 64)
		for (i = 0; i < 8; i++) h->lane[i] = kalm__hash_mix(h->lane[i], kalm__u64(p + 8 * i));
	if (size) {
		unsigned char last[64];
		memset(last, 0, sizeof last);
		memcpy(last, p, size);
		for (i = 0; i < 8; i++) h->lane[i] = kalm__hash_mix(h->lane[i], kalm__u64(last + 8 * i));
	}
}
KALM__FN uint64_t kalm__hash_end(const kalm__hasher *h)
{
	uint64_t sum = h->bytes * (uint64_t)KALM__HASH_B;
	unsigned i;
	for (i = 0; i < 8; i++) sum = kalm__hash_mix(sum, h->lane[i]) * (uint64_t)KALM__HASH_B;
	return sum ^ sum >> 32;
}
KALM__FN uint64_t kalm__hash(const void *data, size_t size)
{
	kalm__hasher h;
	kalm__hash_begin(&h);
	kalm__hash_add(&h, data, size);
	return kalm__hash_end(&h);
}

/* ---- memory ---- */

KALM__FN void *kalm__default_alloc(void *user, size_t size)
{
	(void)user;
	return KALM_MALLOC(size);
}
KALM__FN void kalm__default_release(void *user, void *ptr, size_t size)
{
	(void)user, (void)size;
	KALM_FREE(ptr);
}
/* The allocator of a config, or the default one. *ok becomes 0 when only one of its two functions is given. */
KALM__FN kalm_allocator kalm__allocator(const kalm_config *config, int *ok)
{
	kalm_allocator a;
	memset(&a, 0, sizeof a);
	*ok = 1;
	if (config) {
		a = config->allocator;
		*ok = !a.alloc == !a.release;
	}
	if (!a.alloc) {
		a.alloc = kalm__default_alloc;
		a.release = kalm__default_release;
		a.user = NULL;
	}
	return a;
}

KALM__FN kalm_result kalm__take_allocator(const kalm_config *config, kalm_allocator *a, kalm_error *err)
{
	int ok;
	*a = kalm__allocator(config, &ok);
	return ok ? KALM_OK : kalm__fail(err, KALM_BAD_ARGUMENT, "the allocator has only one of its two functions");
}
KALM__FN void *kalm__alloc(const kalm_allocator *a, size_t size)
{
	return size == SIZE_MAX ? NULL : a->alloc(a->user, size ? size : 1);
}
KALM__FN void kalm__release(const kalm_allocator *a, void *ptr, size_t size)
{
	if (ptr) a->release(a->user, ptr, size ? size : 1);
}

/* One block of memory cut into pieces that are aligned to 64 bytes. Code that lays something out runs twice: first with base
	NULL, which only counts how much is needed, then with a block of that size. */
typedef struct kalm__arena {
	unsigned char *base;
	size_t taken, size;
} kalm__arena;

KALM__FN void *kalm__take(kalm__arena *a, size_t size)
{
	size_t at = a->taken;
	a->taken = kalm__add(a->taken, kalm__round_up(size, 64));
	return a->base && a->taken <= a->size ? a->base + at : NULL;
}

/* The pointer rounded up to a multiple of 64. A block of size + 63 bytes has room for `size` bytes from there. */
KALM__INLINE unsigned char *kalm__align64(void *p)
{
	return (unsigned char *)p + (64 - ((uintptr_t)p & 63)) % 64;
}

KALM__FN kalm_text kalm__text(const char *s)
{
	kalm_text t;
	t.data = s;
	t.size = s ? strlen(s) : 0;
	return t;
}
/* A caller's text with its length: KALM_NUL is replaced by strlen, and NULL data is the empty text. */
KALM__FN kalm_text kalm__resolve(kalm_text t)
{
	if (!t.data) t.size = 0;
	else if (t.size == KALM_NUL) t.size = strlen(t.data);
	return t;
}

/* ---- begin src/exact.h ---- */
/* exact.h - arithmetic that leaves the same bits on every machine. IEEE fixes each operation; what machines differ in is
	whether a product is rounded before it is added (fused multiply-adds), how wide floats are while computed (x87), what
	flags like -fassociative-math allow the compiler to fold, and libm. So operations are fenced, and what a model needs of libm
	beyond the square root stands here, in doubles: it is used a few times a document or when a context is made. The errors
	are those of tests/test_ops.c. */
#define KALM__EXACT_H


/* v rounded to a float (a double) here and now. */
KALM__INLINE float kalm__rounded(float v)
{
#ifdef KALM__FENCE
	KALM__FENCE(v);
	return v;
#else
	volatile float t = v;
	return t;
#endif
}
KALM__INLINE double kalm__rounded_double(double v)
{
#ifdef KALM__FENCE
	KALM__FENCE(v);
	return v;
#else
	volatile double t = v;
	return t;
#endif
}

/* A sum and a product that are not folded or fused with what they come from or go into. */
KALM__INLINE float kalm__plus(float a, float b) { return kalm__rounded(a + b); }
KALM__INLINE float kalm__times(float a, float b) { return kalm__rounded(a * b); }

/* All of this is for rounding to nearest; a program may have set otherwise. 2^-25 is a quarter of the step behind 1. */
KALM__FN kalm_result kalm__need_rounding(kalm_error *err)
{
	volatile float one = 1.0f, quarter = 2.9802322e-8f;
	if (kalm__plus(one, quarter) <= 1.0f && kalm__plus(one, 3.0f * quarter) > 1.0f) return KALM_OK;
	return kalm__fail(err, KALM_BAD_ARGUMENT, "the processor does not round to nearest: call fesetround(FE_TONEAREST)");
}

KALM__INLINE double kalm__times_double(double a, double b) { return kalm__rounded_double(a * b); }

/* a / b. The fence makes b a number that nobody knows and no other division has: else -freciprocal-math multiplies by 1 / b
	where b is constant or several divisions have it. */
KALM__INLINE double kalm__over_double(double a, double b)
{
#ifdef KALM__FENCE
	KALM__FENCE_AFTER(b, a);
	return kalm__rounded_double(a / b);
#else
	volatile double d = b;
	return kalm__rounded_double(a / d);
#endif
}

/* In doubles, as the root below: -mrecip estimates quotients of floats. */
KALM__INLINE float kalm__over(float a, float b) { return kalm__rounded((float)kalm__over_double((double)a, (double)b)); }

/* The square root, correctly rounded: in doubles, since clang estimates those of floats under -funsafe-math-optimizations. A
	double has more than twice a float's digits and two, so rounding twice gives what rounding once does. */
KALM__INLINE float kalm__root(float v) { return (float)kalm__rounded_double(sqrt(kalm__rounded_double((double)v))); }

/* The whole number nearest to |x| < 2^51, ties to even: the addition pushes the fraction out of the mantissa. */
KALM__INLINE double kalm__nearest_double(double x)
{
	const double shift = 6755399441055744.0;  /* 1.5 * 2^52 */
	return kalm__rounded_double(kalm__rounded_double(x + shift) - shift);
}

/* sum of c[i] x^i, i < n */
KALM__FN double kalm__polynomial(const double *c, unsigned n, double x)
{
	double sum = c[--n];
	while (n--) sum = kalm__rounded_double(kalm__times_double(sum, x) + c[n]);
	return sum;
}

/* 2^n for n in -1022..1023 */
KALM__FN double kalm__power_of_two(int n)
{
	uint64_t u = (uint64_t)(n + 1023) << 52;
	double v;
	memcpy(&v, &u, 8);
	return v;
}

/* e^x; |x| beyond 700 counts as 700. x = n ln 2 + r, Taylor to r^13 for |r| <= ln(2) / 2. */
KALM__FN double kalm__exp(double x)
{
	static const double c[14] = {
		1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800,
		1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800
	};
	double n, r;
	x = x > 700.0 ? 700.0 : x >= -700.0 ? x : -700.0;  /* NaN as well */
	n = kalm__nearest_double(kalm__times_double(x, 1.4426950408889634));
	r = kalm__rounded_double(x - kalm__times_double(n, 0.6931471805598903));  /* ln 2 in two parts: the first has */
	r = kalm__rounded_double(r - kalm__times_double(n, 5.497923018708371e-14));  /* room for n, so its product is exact */
	return kalm__times_double(kalm__polynomial(c, 14, r), kalm__power_of_two((int)n));
}

/* ln x for normal x > 0: y += 2 (x - e^y) / (x + e^y) cubes the error, which is below 0.7 at first. */
KALM__FN double kalm__log(double x)
{
	uint64_t u;
	double y;
	int i;
	memcpy(&u, &x, 8);
	y = kalm__times_double((double)((int)(u >> 52 & 2047) - 1023), 0.6931471805599453);
	for (i = 0; i < 5; i++) {
		double e = kalm__exp(y);
		y = kalm__rounded_double(y + kalm__over_double(2.0 * kalm__rounded_double(x - e), kalm__rounded_double(x + e)));
	}
	return y;
}

/* Sine and cosine of a in 0..2^30, which larger ones count as. a = k pi/2 + r, pi/2 in three parts of which two have room
	for k; Taylor. */
KALM__FN void kalm__sine_cosine(double a, double *sine, double *cosine)
{
	static const double s[8] = {
		1.0, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000.0
	};
	static const double c[9] = {
		1.0, -1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600, -1.0 / 87178291200.0,
		1.0 / 20922789888000.0
	};
	double k, r, r2, sin_r, cos_r;
	unsigned quarter;
	if (!(a <= 1073741824.0)) a = 1073741824.0;
	k = kalm__nearest_double(kalm__times_double(a, 0.63661977236758134));
	quarter = (unsigned)k & 3u;
	r = kalm__rounded_double(a - kalm__times_double(k, 1.570796251296997));
	r = kalm__rounded_double(r - kalm__times_double(k, 7.549789415861596e-08));
	r = kalm__rounded_double(r - kalm__times_double(k, 5.390302858158119e-15));
	r2 = kalm__times_double(r, r);
	sin_r = kalm__times_double(r, kalm__polynomial(s, 8, r2));
	cos_r = kalm__polynomial(c, 9, r2);
	*sine = quarter & 1 ? cos_r : sin_r;
	*cosine = quarter & 1 ? sin_r : cos_r;
	if (quarter & 2) *sine = -*sine;
	if (quarter == 1 || quarter == 2) *cosine = -*cosine;
}

/* tanh z = (1 - e^-2z) / (1 + e^-2z); the numerator of small z by its series, since 1 - e^-2z would lose digits. */
KALM__FN double kalm__tanh(double z)
{
	double size = z < 0 ? -z : z, t, u = -2.0 * size;
	static const double c[9] = { 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880 };
	double less = size < 0.05 ? kalm__times_double(-u, kalm__polynomial(c, 9, u)) :
				  kalm__rounded_double(1.0 - kalm__exp(u));
	t = kalm__over_double(less, kalm__rounded_double(2.0 - less));
	return z < 0 ? -t : t;
}

/* ---- begin src/platform.h ---- */
/* platform.h - the operating system's own headers, included here for the parts that need them (mapping.h, cores.h, threads.h),
	and a hint about pages of memory. */
#define KALM__PLATFORM_H


#if !defined(_WIN32) && (defined(__unix__) || defined(__APPLE__) || defined(__linux__))
#  if !defined(__EMSCRIPTEN__)
#    define KALM__MMAP 1
#  endif
#  include <unistd.h>
#endif
#ifndef KALM__MMAP
#  define KALM__MMAP 0
#endif
#if KALM__MMAP && !defined(KALM_NO_STDIO)
#  include <errno.h>
#  include <fcntl.h>
#  include <sys/mman.h>
#  include <sys/stat.h>
#endif

/* Tell the system how memory will be used; it may ignore that. Large pages are for memory of our own. The rows of a mapped
	embedding table are read at random: the system would read up to megabytes around each. What is wanted soon it begins to read.
	Strict C99 hides Linux's names. */
enum { KALM__AT_RANDOM = 1, KALM__SOON = 3, KALM__LARGE_PAGES = 14 };
#if defined(__linux__) && KALM__MMAP && !defined(KALM_NO_STDIO)
#  if !defined(MADV_NORMAL)
extern int madvise(void *address, size_t length, int advice);
#  endif
#  define KALM__MADVISE 1
#endif
KALM__FN void kalm__advise(const void *data, size_t size, int advice)
{
#ifdef KALM__MADVISE
	uintptr_t page = 65536, rest = advice == KALM__SOON ? 0 : page - 1;  /* pages that it touches, or those inside */
	uintptr_t first = ((uintptr_t)data + rest) / page * page, end = ((uintptr_t)data + size + page - 1 - rest) / page * page;
	if (end > first) (void)madvise((void *)first, end - first, advice);
#else
	(void)data, (void)size, (void)advice;
#endif
}

/* ---- begin src/mapping.h ---- */
/* mapping.h - a model file made visible as bytes in memory: mapped by the system, or read into memory of the allocator. The only
	part of the library that opens model files. POSIX and Windows do either; a system with neither gets fopen and reads.

	Mapping costs nothing: pages come from the disk when they are first used, and processes share them. But the file must stay as it
	is: if it is cut short, or a network file system loses it, the next look at a lost page ends the process (SIGBUS; a structured
	exception on Windows). Reading (KALM_LOAD_READ) takes time and memory, and is independent of the file from then on. */
#define KALM__MAPPING_H


/* A read-only view of a file, and how to give it back. */
typedef struct kalm__mapping {
	const unsigned char *data;  /* at a multiple of 64 bytes; NULL when empty */
	size_t size;
	int mapped;  /* 1: by the system; 0: in a block of `block_size` bytes from the allocator */
	void *block;
	size_t block_size;
} kalm__mapping;

#ifndef KALM_NO_STDIO

/* Memory for `size` bytes of a file, which has `size` > 0; returns where they go, or NULL and *r set. */
KALM__FN unsigned char *kalm__mapping_block(kalm__mapping *m, uint64_t size, const char *path, const kalm_allocator *alloc,
											kalm_result *r, kalm_error *err)
{
	m->block_size = size > SIZE_MAX - 64 ? SIZE_MAX : (size_t)size + 63;
	m->block = kalm__alloc(alloc, m->block_size);
	if (!m->block) {
		*r = kalm__fail(err, KALM_NO_MEMORY, "no memory for the %U bytes of %q", size, path, strlen(path));
		return NULL;
	}
	kalm__advise(m->block, m->block_size, KALM__LARGE_PAGES);
	m->data = kalm__align64(m->block);
	m->size = (size_t)size;
	return kalm__align64(m->block);
}

/* A file that ends or fails while it is read: the memory is given back. */
KALM__FN kalm_result kalm__mapping_failed(kalm__mapping *m, size_t at, int failed, const char *path, const kalm_allocator *alloc,
										  kalm_error *err)
{
	size_t size = m->size;
	kalm__release(alloc, m->block, m->block_size);
	memset(m, 0, sizeof *m);
	if (failed) return kalm__fail(err, KALM_CANNOT_READ, "%q: the system cannot read it at byte %z", path, strlen(path), at);
	return kalm__fail(err, KALM_CANNOT_READ, "%q: ends at byte %z, and had %z when it was opened", path, strlen(path), at, size);
}

#if KALM__MMAP || defined(_WIN32)

/* Bytes from an open file: how many, of at most `size`; 0 at its end, -1 where the system fails. */
#  if KALM__MMAP
typedef int kalm__open_file;
KALM__FN long kalm__read_some(int fd, unsigned char *to, size_t size)
{
	ssize_t n;
	do n = read(fd, to, size);
	while (n < 0 && errno == EINTR);
	return (long)n;
}
#  else
typedef HANDLE kalm__open_file;
KALM__FN long kalm__read_some(HANDLE file, unsigned char *to, size_t size)
{
	DWORD n = 0;
	return ReadFile(file, to, (DWORD)size, &n, NULL) ? (long)n : -1;
}
#  endif

/* All bytes of an open file into memory. */
KALM__FN kalm_result kalm__read_file(kalm__mapping *m, kalm__open_file file, uint64_t size, const char *path,
									 const kalm_allocator *alloc, kalm_error *err)
{
	size_t at = 0;
	kalm_result r = KALM_OK;
	unsigned char *data = kalm__mapping_block(m, size, path, alloc, &r, err);
	while (data && at < m->size) {
		long n = kalm__read_some(file, data + at, kalm__min(m->size - at, (size_t)1 << 26));
		if (n <= 0) return kalm__mapping_failed(m, at, n < 0, path, alloc, err);
		at += (size_t)n;
	}
	return r;
}
#else
#  include <stdio.h>
#endif

/* load: KALM_LOAD_MAP or KALM_LOAD_READ. To be given back with kalm__unmap_file; on failure there is nothing to give back. */
#if KALM__MMAP
KALM__FN kalm_result kalm__map_file(kalm__mapping *m, const char *path, uint32_t load, const kalm_allocator *alloc,
									kalm_error *err)
{
	struct stat st;
	int fd, flags = O_RDONLY | O_NONBLOCK;  /* a FIFO or a terminal must not make the caller wait */
	kalm_result r = KALM_OK;
	void *p;
	memset(m, 0, sizeof *m);
#  ifdef O_CLOEXEC
	flags |= O_CLOEXEC;
#  endif
	fd = open(path, flags);
	if (fd < 0)
		return kalm__fail(err, KALM_CANNOT_READ, "%q: %s", path, strlen(path),
						  errno == ENOENT ? "no such file" : errno == EACCES ? "permission denied" : "cannot be opened");
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		r = kalm__fail(err, KALM_CANNOT_READ, S_ISDIR(st.st_mode) ? "%q: a folder, not a file" : "%q: not a regular file", path,
					   strlen(path));
	else if (st.st_size <= 0) r = kalm__fail(err, KALM_BAD_FILE, "%q: the file is empty", path, strlen(path));
	else if ((uint64_t)st.st_size > SIZE_MAX)
		r = kalm__fail(err, KALM_CANNOT_READ, "%q: %U bytes do not fit the address space", path, strlen(path),
					   (uint64_t)st.st_size);
	else if (load == KALM_LOAD_READ) r = kalm__read_file(m, fd, (uint64_t)st.st_size, path, alloc, err);
	else if ((p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0)) != MAP_FAILED) {
		m->block = p;
		m->data = (const unsigned char *)p;
		m->size = (size_t)st.st_size;
		m->mapped = 1;
	} else if (errno == ENODEV)  /* a file system that cannot map */
		r = kalm__read_file(m, fd, (uint64_t)st.st_size, path, alloc, err);
	else
		r = kalm__fail(err, KALM_CANNOT_READ, "%q: the system cannot map %U bytes", path, strlen(path), (uint64_t)st.st_size);
	close(fd);
	return r;
}

#elif defined(_WIN32)
KALM__FN kalm_result kalm__map_file(kalm__mapping *m, const char *path, uint32_t load, const kalm_allocator *alloc,
									kalm_error *err)
{
	int wide = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
	WCHAR *name;
	HANDLE file;
	LARGE_INTEGER size;
	kalm_result r = KALM_OK;
	memset(m, 0, sizeof *m);
	if (wide <= 0) return kalm__fail(err, KALM_CANNOT_READ, "the path %q is not UTF-8", path, strlen(path));
	name = (WCHAR *)kalm__alloc(alloc, (size_t)wide * sizeof *name);
	if (!name) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a path of %d characters", wide);
	MultiByteToWideChar(CP_UTF8, 0, path, -1, name, wide);
	/* shared with writers, as elsewhere: the converter opens what it has just written */
	file = CreateFileW(name, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
					   FILE_ATTRIBUTE_NORMAL, NULL);
	kalm__release(alloc, name, (size_t)wide * sizeof *name);
	if (file == INVALID_HANDLE_VALUE) {
		DWORD e = GetLastError();
		return kalm__fail(err, KALM_CANNOT_READ, "%q: %s", path, strlen(path),
						  e == ERROR_FILE_NOT_FOUND || e == ERROR_PATH_NOT_FOUND ? "no such file"
						  : e == ERROR_ACCESS_DENIED ? "permission denied" : "cannot be opened");
	}
	if (GetFileType(file) != FILE_TYPE_DISK) r = kalm__fail(err, KALM_CANNOT_READ, "%q: not a regular file", path, strlen(path));
	else if (!GetFileSizeEx(file, &size) || size.QuadPart <= 0 || (uint64_t)size.QuadPart > SIZE_MAX)
		r = kalm__fail(err, KALM_BAD_FILE, "%q: the file is empty or too large to map", path, strlen(path));
	else if (load == KALM_LOAD_READ) r = kalm__read_file(m, file, (uint64_t)size.QuadPart, path, alloc, err);
	else {
		HANDLE map = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
		m->data = map ? (const unsigned char *)MapViewOfFile(map, FILE_MAP_READ, 0, 0, 0) : NULL;
		if (map) CloseHandle(map);
		if (m->data) {
			m->size = (size_t)size.QuadPart;
			m->mapped = 1;
		} else
			r = kalm__fail(err, KALM_CANNOT_READ, "%q: the system cannot map %U bytes", path, strlen(path), (uint64_t)size.QuadPart);
	}
	CloseHandle(file);
	return r;
}

#else
KALM__FN kalm_result kalm__map_file(kalm__mapping *m, const char *path, uint32_t load, const kalm_allocator *alloc,
									kalm_error *err)
{
	FILE *f = fopen(path, "rb");
	long size;
	size_t n;
	unsigned char *data;
	kalm_result r = KALM_OK;
	(void)load;  /* there is only one way here */
	memset(m, 0, sizeof *m);
	if (!f) return kalm__fail(err, KALM_CANNOT_READ, "%q: cannot be opened", path, strlen(path));
	if (fseek(f, 0, SEEK_END) || (size = ftell(f)) <= 0 || fseek(f, 0, SEEK_SET)) {
		fclose(f);
		return kalm__fail(err, KALM_BAD_FILE, "%q: the file is empty or cannot be measured", path, strlen(path));
	}
	data = kalm__mapping_block(m, (uint64_t)size, path, alloc, &r, err);
	n = data ? fread(data, 1, (size_t)size, f) : 0;
	if (data && n != (size_t)size) r = kalm__mapping_failed(m, n, ferror(f), path, alloc, err);
	fclose(f);
	return r;
}
#endif

KALM__FN void kalm__unmap_file(kalm__mapping *m, const kalm_allocator *alloc)
{
#if KALM__MMAP
	if (m->mapped) {
		munmap(m->block, m->size);
		m->block = NULL;
	}
#elif defined(_WIN32)
	if (m->mapped) UnmapViewOfFile(m->data);
#endif
	kalm__release(alloc, m->block, m->block_size);
	memset(m, 0, sizeof *m);
}
#endif  /* KALM_NO_STDIO */

/* ---- begin src/cores.h ---- */
/* cores.h - how many threads a context starts when it is not told: as many as this process may use at the same time. That is not
	the machine's number of cores where

	  - a mask of allowed cores is set (taskset, cpusets, SetProcessAffinityMask);
	  - a control group limits processor time, as containers do (docker --cpus): Linux tells the limit in files, cpu.max of
	    version 2 or cpu.cfs_quota_us of version 1. More threads than that would be stopped until the next
	    period, and each job would wait for them.

	A limit of 1.5 cores counts as 2. The files are not read with KALM_NO_STDIO. Nothing is read from the environment. */
#define KALM__CORES_H


#if defined(__linux__) && !defined(__EMSCRIPTEN__)
#  include <sched.h>
#  if defined(CPU_SETSIZE)
#    define KALM__CPU_MASK cpu_set_t
#  else  /* strict C99 hides type and prototype */
#    define KALM__CPU_MASK void
extern int sched_getaffinity(int pid, size_t size, void *mask);
#  endif
#  define KALM__MASK_BYTES 1024  /* 8192 cores */

/* The cores that the calling thread is allowed, a bit each. Returns how many; 0 where the system does not tell. */
KALM__FN unsigned kalm__core_mask(unsigned char mask[KALM__MASK_BYTES])
{
	void *bytes = mask;
	unsigned count = 0, i;
	memset(mask, 0, KALM__MASK_BYTES);
	if (sched_getaffinity(0, KALM__MASK_BYTES, (KALM__CPU_MASK *)bytes) < 0) return 0;
	for (i = 0; i < KALM__MASK_BYTES; i++) {
		unsigned b = mask[i];
		for (; b; b &= b - 1) count++;
	}
	return count;
}

/* How many, without the mask. */
KALM__FN unsigned kalm__allowed_cores(void)
{
	unsigned char mask[KALM__MASK_BYTES];
	return kalm__core_mask(mask);
}

#  if KALM__MMAP && !defined(KALM_NO_STDIO)

/* The beginning of a small text file: at most `room` - 1 bytes, and a NUL. 0 where it cannot be read. */
KALM__FN int kalm__read_text(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY);
	size_t at = 0;
	text[0] = 0;
	if (fd < 0) return 0;
	while (at < room - 1) {
		ssize_t n = read(fd, text + at, room - 1 - at);
		if (n < 0 && errno == EINTR) continue;
		if (n <= 0) break;
		at += (size_t)n;
	}
	close(fd);
	text[at] = 0;
	return at > 0;
}

/* A number at *text, which is moved behind it and a space; negative ones ("-1": no limit) and words count as 0. */
KALM__FN uint64_t kalm__read_number(const char **text)
{
	uint64_t v = 0;
	for (; **text >= '0' && **text <= '9'; ++*text)
		if (v < (uint64_t)1 << 50) v = v * 10 + (uint64_t)(**text - '0');
	while (**text && **text != ' ' && **text != '\n') {
		v = 0;
		++*text;
	}
	while (**text == ' ') ++*text;
	return v;
}

/* What one control group allows, in cores; 0: no limit. folder: a path that ends in no '/'; version 1 or 2. */
KALM__FN unsigned kalm__group_limit(const char *folder, int version)
{
	char path[1200], text[64];
	const char *at = text;
	uint64_t quota, period;
	kalm__writer w;
	int part;
	for (quota = period = 0, part = 0; part < 2; part++) {
		const char *name = version == 2 ? "/cpu.max" : part ? "/cpu.cfs_period_us" : "/cpu.cfs_quota_us";
		w.at = path;
		w.room = sizeof path - 1;
		kalm__put_word(&w, folder);
		kalm__put_word(&w, name);
		*w.at = 0;
		if (!w.room || (!(version == 2 && part) && !kalm__read_text(path, text, sizeof text))) return 0;
		if (version == 1) at = text;
		if (part) period = kalm__read_number(&at);
		else quota = kalm__read_number(&at);
	}
	if (!quota || !period) return 0;
	quota = (quota + period - 1) / period;
	return quota < 1u << 16 ? (unsigned)quota : 0;
}

/* The least that the group of this process and the groups around it allow, in cores; 0: no limit. root: "" (tests have a folder
	that stands for "/"). */
KALM__FN unsigned kalm__group_cores(const char *root)
{
	char text[4096], path[1024];
	const char *line, *next, *mount;
	kalm__writer w;
	unsigned least = 0;
	w.at = path;
	w.room = sizeof path - 1;
	kalm__put_word(&w, root);
	kalm__put_word(&w, "/proc/self/cgroup");
	*w.at = 0;
	if (!kalm__read_text(path, text, sizeof text)) return 0;
	/* lines "0::/path" (version 2) and "4:cpu,cpuacct:/path" (version 1) */
	for (line = text; *line; line = next) {
		const char *end = strchr(line, '\n'), *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
		size_t base, n, i;
		int version = 0;
		if (!end) end = line + strlen(line);
		next = *end ? end + 1 : end;
		if (!group || group > end) continue;
		names++;
		if (names == group) version = 2;
		for (i = 0; names + i + 3 <= group; i++)
			if ((!i || names[i - 1] == ',') && !memcmp(names + i, "cpu", 3) && (names + i + 3 == group || names[i + 3] == ','))
				version = 1;
		if (!version) continue;
		mount = version == 2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
		w.at = path;
		w.room = sizeof path - 1;
		kalm__put_word(&w, root);
		kalm__put_word(&w, mount);
		base = (size_t)(w.at - path);
		group++;
		if (group + 1 < end) while (group < end) kalm__put(&w, *group++);
		if (!w.room) continue;
		/* upwards; in a container the path may be the host's, and only the topmost folder is there */
		for (n = (size_t)(w.at - path);; ) {
			unsigned limit;
			path[n] = 0;
			limit = kalm__group_limit(path, version);
			if (limit && (!least || limit < least)) least = limit;
			if (n <= base) break;
			while (n > base && path[--n] != '/') {}
		}
	}
	return least;
}
#  endif
#endif

/* At least 1. */
KALM__FN unsigned kalm__cores(void)
{
#if defined(_WIN32)
	SYSTEM_INFO info;
	DWORD_PTR mask = 0, machine;
	unsigned count = 0;
	GetSystemInfo(&info);
	if (GetProcessAffinityMask(GetCurrentProcess(), &mask, &machine))
		for (; mask; mask &= mask - 1) count++;  /* 0 where the process spans groups of 64 cores */
	if (!count) count = (unsigned)info.dwNumberOfProcessors;
	return count ? count : 1;
#else
	unsigned count = 0;
#  if defined(__linux__) && !defined(__EMSCRIPTEN__)
	count = kalm__allowed_cores();
#  endif
#  if (defined(__unix__) || defined(__APPLE__) || defined(__linux__)) && defined(_SC_NPROCESSORS_ONLN)
	if (!count) {
		long n = sysconf(_SC_NPROCESSORS_ONLN);
		count = n > 0 ? (unsigned)n : 1;
	}
#  endif
#  if defined(__linux__) && KALM__MMAP && !defined(KALM_NO_STDIO)
	{
		unsigned limit = count > 1 ? kalm__group_cores("") : 0;
		if (limit && limit < count) count = limit;
	}
#  endif
	return count ? count : 1;
#endif
}

/* ---- begin src/recognise.h ---- */
/* recognise.h - what a file is that is not what it should be. People hand over what a broken download left, or another program's
	file; a sentence that names it saves them the search. Looks at the first bytes alone, and decides nothing. */
#define KALM__RECOGNISE_H


/* Do the bytes begin with `text`? Letters of `text` are lower case and match either case. */
KALM__FN int kalm__begins(const unsigned char *data, size_t size, const char *text)
{
	size_t i;
	for (i = 0; text[i]; i++) {
		int c = i < size ? data[i] : -1;
		if (c >= 'A' && c <= 'Z' && text[i] >= 'a' && text[i] <= 'z') c += 'a' - 'A';
		if (c != (unsigned char)text[i]) return 0;
	}
	return 1;
}

/* Where the text begins: behind a byte order mark and white space. */
KALM__FN size_t kalm__text_begins(const unsigned char *data, size_t size)
{
	size_t at = kalm__begins(data, size, "\xef\xbb\xbf") ? 3 : 0;
	while (at < size && (data[at] == ' ' || data[at] == '\t' || data[at] == '\r' || data[at] == '\n')) at++;
	return at;
}

/* An object or an array. */
KALM__FN int kalm__begins_json(const void *bytes, size_t size)
{
	const unsigned char *data = (const unsigned char *)bytes;
	size_t at = kalm__text_begins(data, size);
	return at < size && (data[at] == '{' || data[at] == '[');
}

/* The end of a sentence that began "not a .kalm file but ", or NULL where the bytes are nothing known. */
KALM__FN const char *kalm__recognise(const void *bytes, size_t size)
{
	static const struct {
		const char *begin, *what;
	} known[] = {
		{ "version https://git-lfs.", "a Git LFS pointer, which stands for a file that was not fetched: run git lfs pull" },
		{ "version https://hawser.", "a Git LFS pointer, which stands for a file that was not fetched: run git lfs pull" },
		{ "/annex/objects/", "a git-annex pointer, which stands for a file that was not fetched: run git annex get" },
		{ "\x89kalm\r\n\x1a", "a .kalm file, which is converted already" },
		{ "\x89kalm", "a .kalm file that was damaged by a copy in text mode: copy it as binary" },
		{ "gguf", "a GGUF file of llama.cpp; kalm-quantize makes .kalm files of Hugging Face checkpoints" },
		{ "pk\x03\x04", "a ZIP archive, or a checkpoint of PyTorch (.bin, .pt): save it as safetensors" },
		{ "\x1f\x8b", "a file packed with gzip: unpack it first" },
		{ "\x28\xb5\x2f\xfd", "a file packed with zstd: unpack it first" },
		{ "\xfd" "7zxz", "a file packed with xz: unpack it first" },
		{ "bzh", "a file packed with bzip2: unpack it first" },
		{ "sqlite format 3", "an SQLite database, perhaps a store of kalm-index" },
		{ "%pdf-", "a PDF" },
		{ "\x80\x02", "a Python pickle: save the checkpoint as safetensors" }
	};
	const unsigned char *data = (const unsigned char *)bytes;
	size_t i, at;
	/* first: its length may begin as a pickle does */
	if (size > 9 && kalm__u64(data) < (uint64_t)1 << 40 && (data[8] == '{' || data[8] == ' '))
		return "a safetensors file: kalm-quantize makes a .kalm file of the folder it is in";
	for (i = 0; i < sizeof known / sizeof *known; i++)
		if (kalm__begins(data, size, known[i].begin)) return known[i].what;
	for (i = 0; i < size && i < 4096 && !data[i]; i++) {}
	if (size >= 64 && (i == size || i == 4096)) return "zeros, as of a download that never came to its end";
	if (kalm__begins_json(data, size)) return "a JSON text";
	at = kalm__text_begins(data, size);
	data += at;
	size -= at;
	if (kalm__begins(data, size, "<!doctype") || kalm__begins(data, size, "<html") || kalm__begins(data, size, "<head")
		|| kalm__begins(data, size, "<!--"))
		return "a web page, saved in its place: download the file itself";
	if (kalm__begins(data, size, "<?xml")) return "an XML text, perhaps a server's answer that something is wrong";
	return NULL;
}

/* ---- begin src/format.h ---- */
/* format.h - the model file, byte by byte: what the converter writes (quantize/) and the library reads in place (modelfile.h).
	All numbers are little-endian, all offsets count from the first byte of the file unless said otherwise, and a hash is that
	of kalm__hash (base.h). A reader can be written from the drawings here and in the parts that they name. */
/* More is in docs/FORMAT.md. */
#define KALM__FORMAT_H


#define KALM__MAGIC "\x89KALM\r\n\x1a"
#define KALM__FILE_VERSION 1u
#define KALM__HEADER_BYTES 64u
#define KALM__SECTION_BYTES 32u
#define KALM__TENSOR_BYTES 64u
#define KALM__MAX_SECTIONS 16u

enum {
	KALM__SECTION_SHAPE = 1, KALM__SECTION_STRINGS = 2, KALM__SECTION_TENSORS = 3, KALM__SECTION_TOKENIZER = 4,
	KALM__SECTION_WEIGHTS = 5, KALM__SECTION_ROWS = 6, KALM__SECTION_KINDS = 7
};

/* What a part of a model lacks. */
enum { KALM__LACKS_ENCODER = 1, KALM__LACKS_DECODER = 2, KALM__LACKS_TOKENS = 4, KALM__LACKS_ALL = 7 };

/* The fields of SHAPE, f(type, name), in their order in the file. The reader and the writer both walk these lists. */
#define KALM__SHAPE_FIELDS(f) \
	f(u32, weights) /* type of the matrices: f32 0, f16 1, bf16 2, q8 3, q4 4     */ \
	f(u32, vocabulary) /* number of tokens: rows of the embedding table              */ \
	f(u32, hidden_size) /* numbers in a row between layers, the same in both sides    */ \
	f(u32, yes_id) /* token whose logit counts for the document ...              */ \
	f(u32, no_id) /* ... and the one that counts against it                     */ \
	f(u32, eoi_id) /* token that has the vector EOI; 0xffffffff: none            */ \
	f(f32, softcap) /* final_logit_softcapping c: c tanh(logit / c); 0: none      */ \
	f(u32, reserved)  /* 0 */

#define KALM__SIDE_FIELDS(f) \
	f(u32, layers) /* number of layers                                           */ \
	f(u32, mlp) /* width of the MLP                                           */ \
	f(u32, heads) /* query heads                                                */ \
	f(u32, kv_heads) /* key and value heads; divides heads                         */ \
	f(u32, head_dim) /* numbers in a head; even                                    */ \
	f(u32, window) /* sliding_window w, as the checkpoint has it: docs/MODEL.md  */ \
	f(u32, max_positions) /* longest sequence, in tokens                                */ \
	f(f32, norm_eps) /* of RMSNorm: x / sqrt(mean(x^2) + norm_eps)                 */ \
	f(f32, query_scalar) /* query_pre_attn_scalar: q k is times its power -1/2         */ \
	f(f32, theta_sliding) /* base of the rotary angles in sliding layers ...            */ \
	f(f32, factor_sliding) /* ... and what positions are divided by there                */ \
	f(f32, theta_full) /* the same in layers of full attention                       */ \
	f(f32, factor_full) \
	f(u32, side_reserved)  /* 0 */

typedef struct kalm__side {
#define KALM__FIELD_u32(name) uint32_t name;
#define KALM__FIELD_f32(name) float name;
#define KALM__FIELD(type, name) KALM__FIELD_##type(name)
	KALM__SIDE_FIELDS(KALM__FIELD)
	const uint8_t *full;  /* [layers]: 1 where attention is full */
} kalm__side;

typedef struct kalm__shape {
	KALM__SHAPE_FIELDS(KALM__FIELD)
	kalm__side side[2];  /* KALM__ENCODER, KALM__DECODER */
} kalm__shape;
enum { KALM__ENCODER = 0, KALM__DECODER = 1 };

#define KALM__COUNT_FIELD(type, name) + 1
#define KALM__SHAPE_BYTES (4u * (0u KALM__SHAPE_FIELDS(KALM__COUNT_FIELD)))
#define KALM__SIDE_BYTES (4u * (0u KALM__SIDE_FIELDS(KALM__COUNT_FIELD)))

/* The largest values that a file may have. With them no product of sizes reaches 2^63, so arithmetic on numbers from a stranger's
	file cannot overflow once they are checked. The largest published model is far below (hidden size 2560, 34 layers). */
enum {
	KALM__MAX_HIDDEN = 1 << 16, KALM__MAX_MLP = 1 << 18, KALM__MAX_HEADS = 1 << 10, KALM__MAX_HEAD_DIM = 1 << 10,
	KALM__MAX_LAYERS = 1 << 10, KALM__MAX_VOCABULARY = 1 << 24, KALM__MAX_POSITIONS = 1 << 28
};

/* More is in docs/FORMAT.md. */
enum {
	KALM__STRING_NAME, KALM__STRING_DOCUMENT, KALM__STRING_BEGIN, KALM__STRING_INSTRUCT, KALM__STRING_QUERY,
	KALM__STRING_END, KALM__STRING_SYSTEM, KALM__STRING_INSTRUCTION, KALM__STRINGS
};

/* More is in docs/FORMAT.md. */
enum {
	KALM__T_Q, KALM__T_K, KALM__T_V, KALM__T_O, KALM__T_GATE, KALM__T_UP, KALM__T_DOWN,
	KALM__T_Q_NORM, KALM__T_K_NORM, KALM__T_PRE_ATTENTION, KALM__T_POST_ATTENTION, KALM__T_PRE_MLP, KALM__T_POST_MLP,
	KALM__T_LAYER_KINDS,
	KALM__T_NORM = KALM__T_LAYER_KINDS, KALM__T_EMBED, KALM__T_EOI, KALM__T_HEAD, KALM__T_KINDS
};
#define KALM__KIND(side, what) ((uint32_t)(side) * 32u + (uint32_t)(what))

/* More is in docs/FORMAT.md. */
typedef struct kalm__tensor {
	uint32_t kind, layer, type, rotated, rows, cols;
	uint64_t offset, size, scale, sum;
	float error;
} kalm__tensor;

KALM__FN void kalm__read_tensor(kalm__tensor *t, const unsigned char *p)
{
	t->kind = kalm__u32(p);
	t->layer = kalm__u32(p + 4);
	t->type = kalm__u32(p + 8);
	t->rotated = kalm__u32(p + 12);
	t->rows = kalm__u32(p + 16);
	t->cols = kalm__u32(p + 20);
	t->offset = kalm__u64(p + 24);
	t->size = kalm__u64(p + 32);
	t->scale = kalm__u64(p + 40);
	t->sum = kalm__u64(p + 48);
	t->error = kalm__f32(p + 56);
}

/* How errors and kalm-quantize --info name a tensor: "encoder.3.q". `name` has room for 32 bytes. Returns it. */
KALM__FN const char *kalm__tensor_name(char *name, uint32_t kind, uint32_t layer)
{
	static const char *const what[KALM__T_KINDS] = {
		"q", "k", "v", "o", "gate", "up", "down", "q_norm", "k_norm", "pre_attention_norm", "post_attention_norm",
		"pre_mlp_norm", "post_mlp_norm", "norm", "embed", "eoi", "head"
	};
	const char *side = kind / 32 == KALM__ENCODER ? "encoder." : "decoder.";
	kalm__writer w;
	uint32_t k = kind % 32;
	w.at = name;
	w.room = 31;
	kalm__put_word(&w, side);
	if (k < KALM__T_LAYER_KINDS) {
		kalm__put_number(&w, layer, 10, 1);
		kalm__put(&w, '.');
	}
	kalm__put_word(&w, k < KALM__T_KINDS ? what[k] : "?");
	*w.at = 0;
	return name;
}

/* The rows and columns that a tensor of this kind has in a model of this shape. Returns 0 where no model has such a kind. */
KALM__FN int kalm__tensor_shape(const kalm__shape *m, uint32_t kind, uint32_t *rows, uint32_t *cols)
{
	const kalm__side *s;
	if (kind >= 64 || kind % 32 >= KALM__T_KINDS) return 0;
	s = &m->side[kind / 32];
	*rows = 1;
	*cols = m->hidden_size;
	switch (kind % 32) {
	case KALM__T_Q: *rows = s->heads * s->head_dim; break;
	case KALM__T_K: case KALM__T_V: *rows = s->kv_heads * s->head_dim; break;
	case KALM__T_O: *rows = m->hidden_size; *cols = s->heads * s->head_dim; break;
	case KALM__T_GATE: case KALM__T_UP: *rows = s->mlp; break;
	case KALM__T_DOWN: *rows = m->hidden_size; *cols = s->mlp; break;
	case KALM__T_Q_NORM: case KALM__T_K_NORM: *cols = s->head_dim; break;
	case KALM__T_EMBED: *rows = m->vocabulary; break;
	case KALM__T_HEAD: *rows = 2; return kind / 32 == KALM__DECODER;
	default: break;
	}
	return 1;
}

KALM__FN const char *kalm__type_name(uint32_t type)
{
	static const char *const names[5] = { "f32", "f16", "bf16", "q8", "q4" };
	return type < 5 ? names[type] : "?";
}

/* ---- begin src/blocks.h ---- */
/* blocks.h - the memory layout of quantised weights, for the kernels that read them and the converter that writes them. How the
	scales are chosen stands in quantize/codecs.h, how tensors lie in a file in format.h. */
/* More is in docs/FORMAT.md. */
#define KALM__BLOCKS_H


enum {
	KALM__PANEL = 16,  /* rows (outputs) of a panel */
	KALM__GROUP = 32,  /* inputs of a q4 group; columns are padded to this */
	KALM__Q4_MAX_MULTIPLIER = 64  /* with which the values are those of the codebook */
};

typedef struct kalm__q8_line {
	int8_t q[KALM__PANEL][4];
} kalm__q8_line;
KALM__ASSERT_SIZE(q8_line, sizeof(kalm__q8_line) == 64);

typedef struct kalm__q4_lines {
	uint8_t nibbles[4][64];
} kalm__q4_lines;
KALM__ASSERT_SIZE(q4_lines, sizeof(kalm__q4_lines) == 256);

typedef struct kalm__q4_multipliers {
	uint8_t of[KALM__PANEL];
} kalm__q4_multipliers;
KALM__ASSERT_SIZE(q4_multipliers, sizeof(kalm__q4_multipliers) == 16);

/* The 16 values of a nibble (docs/FORMAT.md). */
static const int8_t kalm__q4_codebook[16] = {
	-127, -98, -77, -60, -45, -31, -18, -6, 6, 18, 31, 45, 60, 77, 98, 127
};

/* The q8 value of a nibble. */
KALM__INLINE int8_t kalm__q4_value(unsigned nibble, unsigned multiplier)
{
	/* 128 * 64 is added and 128 taken off again, since C99 does not say what >> does with negative numbers */
	int32_t v = (int32_t)multiplier * kalm__q4_codebook[nibble] + 32 + 128 * 64;
	return (int8_t)((int32_t)((uint32_t)v >> 6) - 128);
}

KALM__INLINE size_t kalm__cols32(size_t cols) { return kalm__round_up(cols, KALM__GROUP); }

KALM__INLINE size_t kalm__q8_panel_bytes(size_t cols) { return kalm__mul(KALM__PANEL, kalm__cols32(cols)); }

KALM__INLINE size_t kalm__q4_panel_bytes(size_t cols)
{
	return kalm__round_up(kalm__mul(kalm__cols32(cols) / KALM__GROUP, 256 + 16), 64);
}

/* The multipliers of a q4 panel: [cols32 / 32][16]. */
KALM__INLINE const uint8_t *kalm__q4_panel_multipliers(const void *panel, size_t cols)
{
	return (const uint8_t *)panel + kalm__cols32(cols) / KALM__GROUP * sizeof(kalm__q4_lines);
}

/* ---- begin src/threads.h ---- */
/* threads.h - a pool of worker threads that lives as long as its context, and kalm__parallel, which runs the tasks of one
	job on all of them. Built on pthreads, Windows threads, no threads at all (KALM_NO_THREADS), or the user's own job system.

	One job at a time: the calling thread publishes it, works on it as worker number 0, and returns when every task is done.
	Workers take tasks from a shared counter. A worker without a task first spins for some microseconds, because the next job of a
	forward pass comes soon, and then sleeps.

	Busy neighbours. Where another process wants a worker's core, the system takes it away for some milliseconds, most likely in
	the middle of a task, and all others wait for that task. So a worker offers its core every other millisecond, between two
	tasks, when nobody waits for it; where nobody wants the core, that takes less than a microsecond. The calling thread does not,
	because everybody waits for the next job. docs/SPEED.md has figures.

	Stopping. The calling thread asks the caller of the library between jobs, whenever they have added up to some milliseconds,
	whether to go on. Once the answer is no, no job is run any more, and the layer at hand ends at once with numbers that mean
	nothing and are thrown away.

	Threads and fork. A child process gets a copy of the pool but none of its threads. A pool therefore remembers the process that
	started it. In another one it never touches the copied lock and condition variables, which may be in the middle of an
	operation: kalm__pool_stop forgets the threads, and kalm__parallel starts new ones. No pthread_atfork: a handler could not be
	taken back when the library is unloaded.

	Threads and signals. Workers block them: a signal is for the program's own threads, of which one may wait for it (sigwait).
	Open stay those that an instruction of the worker itself raises, and a profiler's. */
#define KALM__THREADS_H


/* What KALM__THREADS can be. */
#define KALM__THREADS_NONE 0
#define KALM__THREADS_POSIX 1
#define KALM__THREADS_WINDOWS 2
#define KALM__PTHREADS (KALM__THREADS == KALM__THREADS_POSIX)

#if defined(KALM_NO_THREADS) || (defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__))
#  define KALM__THREADS KALM__THREADS_NONE
#elif defined(_WIN32)
#  define KALM__THREADS KALM__THREADS_WINDOWS
#elif defined(__unix__) || defined(__APPLE__) || defined(__linux__)
#  define KALM__THREADS KALM__THREADS_POSIX
#  include <pthread.h>
#  include <sched.h>
#  include <signal.h>
#  include <time.h>
#else
#  define KALM__THREADS KALM__THREADS_NONE
#endif

#define KALM__MAX_THREADS 256u

/* ---- atomics: sequentially consistent, on 32 bits, which every target has without a library ---- */

#if defined(__GNUC__)
typedef uint32_t kalm__atomic;
KALM__INLINE uint32_t kalm__atomic_get(const volatile kalm__atomic *a) { return __atomic_load_n(a, __ATOMIC_SEQ_CST); }
KALM__INLINE void kalm__atomic_set(volatile kalm__atomic *a, uint32_t v) { __atomic_store_n(a, v, __ATOMIC_SEQ_CST); }
KALM__INLINE uint32_t kalm__atomic_add(volatile kalm__atomic *a, uint32_t v)
{
	return __atomic_fetch_add(a, v, __ATOMIC_SEQ_CST);
}
/* a = v if it was `was`; tells whether */
KALM__INLINE int kalm__atomic_swap(volatile kalm__atomic *a, uint32_t was, uint32_t v)
{
	return __atomic_compare_exchange_n(a, &was, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
#elif defined(_MSC_VER)
#  include <intrin.h>
typedef long kalm__atomic;
KALM__INLINE uint32_t kalm__atomic_get(const volatile kalm__atomic *a)
{
	return (uint32_t)_InterlockedOr((volatile long *)a, 0);
}
KALM__INLINE void kalm__atomic_set(volatile kalm__atomic *a, uint32_t v) { _InterlockedExchange(a, (long)v); }
KALM__INLINE uint32_t kalm__atomic_add(volatile kalm__atomic *a, uint32_t v)
{
	return (uint32_t)_InterlockedExchangeAdd(a, (long)v);
}
KALM__INLINE int kalm__atomic_swap(volatile kalm__atomic *a, uint32_t was, uint32_t v)
{
	return _InterlockedCompareExchange(a, (long)v, (long)was) == (long)was;
}
#else
typedef uint32_t kalm__atomic;  /* no atomics known: no threads either (below) */
KALM__INLINE uint32_t kalm__atomic_get(const volatile kalm__atomic *a) { return *a; }
KALM__INLINE void kalm__atomic_set(volatile kalm__atomic *a, uint32_t v) { *a = v; }
KALM__INLINE uint32_t kalm__atomic_add(volatile kalm__atomic *a, uint32_t v) { uint32_t old = *a; *a += v; return old; }
KALM__INLINE int kalm__atomic_swap(volatile kalm__atomic *a, uint32_t was, uint32_t v)
{
	if (*a != was) return 0;
	*a = v;
	return 1;
}
#  undef KALM__THREADS
#  define KALM__THREADS KALM__THREADS_NONE
#endif

KALM__INLINE void kalm__pause(void)
{
#if KALM__X86 && defined(__GNUC__)
	__builtin_ia32_pause();
#elif KALM__X86
	_mm_pause();
#elif KALM__NEON64 && defined(__GNUC__)
	__asm__ volatile("yield");
#endif
}

/* Tests set these: how often a waiting thread looks again before it sleeps, and code to run at the places where the order of
	two threads matters (see tests/test_threads.c). */
#ifndef KALM__SPINS
/* About 20 microseconds: longer than the gap between two jobs of one layer, shorter than anybody notices. With a quarter of
	the spins an idle machine is a quarter slower. */
#  define KALM__SPINS 2000
#endif
#ifndef KALM__TURN
/* Microseconds after which a worker offers its core. A little more than a system's time slice would make the offer come too late,
	and the slices of Linux end at the first tick of its clock, of 1 to 4 ms, behind 1.4 to 3 ms. */
#  define KALM__TURN 1500u
#endif
#ifndef KALM__RACE
#  define KALM__RACE()
#endif

/* One task of a job: called once for every i below the job's count. worker is below the pool's size, and no two tasks that run
	at the same time have the same. */
typedef void (*kalm__task)(void *arg, size_t i, unsigned worker);

typedef struct kalm__pool kalm__pool;

/* Multiplications between two questions whether to go on: a millisecond of one core with fast kernels. */
#ifndef KALM__ASK_AFTER
#  define KALM__ASK_AFTER ((uint64_t)1 << 27)
#endif

typedef struct kalm__worker {
	kalm__pool *pool;
	unsigned index;
#if KALM__PTHREADS
	pthread_t thread;
#elif KALM__THREADS == KALM__THREADS_WINDOWS
	HANDLE thread;
#endif
} kalm__worker;

struct kalm__pool {
	unsigned size;  /* workers, the calling thread (number 0) included */
	unsigned wanted;  /* workers asked for */
	int started;  /* lock, condition variables and threads exist */
	unsigned jobs;  /* run so far; wraps */
	void (*parallel)(void *, size_t, void (*)(void *, size_t), void *);
	void *parallel_user;  /* the user's job system; NULL: threads of our own */
	int (*ask)(void *ask_user);  /* non-zero: stop; NULL: nobody is asked */
	void *ask_user;
	uint64_t work;  /* multiplications announced since the last question, see kalm__pool_announce */
	int stopped;  /* the answer was to stop */
	kalm__task task;  /* the job at hand */
	void *arg;
	size_t count;
	kalm__worker *workers;  /* [wanted] */
	char pad0[64];  /* counters that all workers change have cache lines of their own */
	volatile kalm__atomic left;  /* tasks that nobody has taken */
	char pad1[64];
	volatile kalm__atomic unfinished;  /* tasks that are not done */
	char pad2[64];
	volatile kalm__atomic sleepers;  /* workers asleep, or about to be */
	volatile kalm__atomic stop;  /* 1: workers shall end */
	volatile kalm__atomic core;  /* which the caller was on when it last woke the workers */
#if KALM__PTHREADS
	long process;  /* which started the threads */
	pthread_mutex_t lock;
	pthread_cond_t wake, done;
#elif KALM__THREADS == KALM__THREADS_WINDOWS
	CRITICAL_SECTION lock;
	CONDITION_VARIABLE wake, done;
#endif
};

/* ---- turns and places ---- */

#if KALM__PTHREADS && !defined(CLOCK_MONOTONIC) && defined(__linux__)
#  define KALM__MONOTONIC 1  /* strict C99 hides the name, and the prototype with it */
extern int clock_gettime(int clock, struct timespec *t);
#elif KALM__PTHREADS && defined(CLOCK_MONOTONIC)
#  define KALM__MONOTONIC CLOCK_MONOTONIC
#endif

/* Microseconds from some moment on; wraps. Always 0 where no clock is known: then no turn ends. */
KALM__FN uint32_t kalm__microseconds(void)
{
#if defined(KALM__MONOTONIC)
	struct timespec t;
	memset(&t, 0, sizeof t);
	if (clock_gettime(KALM__MONOTONIC, &t)) return 0;
	return (uint32_t)t.tv_sec * 1000000u + (uint32_t)t.tv_nsec / 1000u;
#elif KALM__THREADS == KALM__THREADS_WINDOWS
	LARGE_INTEGER now, second;
	if (!QueryPerformanceFrequency(&second) || !QueryPerformanceCounter(&now)) return 0;
	return (uint32_t)(now.QuadPart / second.QuadPart) * 1000000u +
		   (uint32_t)(now.QuadPart % second.QuadPart * 1000000 / second.QuadPart);
#else
	return 0;
#endif
}

/* Linux likes to wake a worker on the core of the caller, even if another core is idle or has only a neighbour on it: the two
	would then take turns on one core for the rest of the call. A worker that finds itself there moves once. */
#if KALM__PTHREADS && defined(__linux__) && !defined(__EMSCRIPTEN__)
#  define KALM__MOVES 1
#  if !defined(CPU_SETSIZE)  /* strict C99 hides the prototypes */
extern int sched_getcpu(void);
extern int sched_setaffinity(int pid, size_t size, const void *mask);
#  endif
#else
#  define KALM__MOVES 0
#endif

/* The core that the calling thread is on; UINT32_MAX where the system does not tell. */
KALM__FN uint32_t kalm__this_core(void)
{
#if KALM__MOVES
	return (uint32_t)sched_getcpu();
#else
	return UINT32_MAX;
#endif
}

/* The calling thread moves to another core than `core`, where it is allowed at least `size` of them. Its mask of allowed cores is
	afterwards what it was. */
KALM__FN void kalm__leave_core(uint32_t core, unsigned size)
{
#if KALM__MOVES
	unsigned char mask[KALM__MASK_BYTES];
	void *bytes = mask;
	unsigned bit = 1u << core % 8, count;
	if (core >= 8 * sizeof mask) return;
	count = kalm__core_mask(mask);
	if (count < 2 || count < size || !(mask[core / 8] & bit)) return;
	for (count = 0; count < 2; count++) {
		mask[core / 8] = (unsigned char)(mask[core / 8] ^ bit);
		(void)sched_setaffinity(0, sizeof mask, (KALM__CPU_MASK *)bytes);
	}
#else
	(void)core, (void)size;
#endif
}

/* Whose turn began at *since offers the core if it has had it for long. */
KALM__FN void kalm__offer_core(uint32_t *since)
{
	if (kalm__microseconds() - *since < KALM__TURN) return;
#if KALM__PTHREADS
	sched_yield();
#elif KALM__THREADS == KALM__THREADS_WINDOWS
	SwitchToThread();
#endif
	*since = kalm__microseconds();
}

/* Take and do tasks until none is left. Returns 1 if it finished the job's last task. since: when the worker's turn began; NULL:
	it offers its core to nobody.

	A worker that wakes late finds `left` zero, or takes a task of the next job instead. It reads task, arg and count only after
	it has taken a task: from then on they cannot change, because the job cannot end before that task is done. So the caller
	never has to wait for a worker that has taken nothing. */
KALM__FN int kalm__pool_share(kalm__pool *p, unsigned worker, uint32_t *since)
{
	int last = 0;
	for (;;) {
		uint32_t left;
		if (since && !last) kalm__offer_core(since);
		left = kalm__atomic_get(&p->left);
		if (!left) return last;
		if (!kalm__atomic_swap(&p->left, left, left - 1)) continue;
		p->task(p->arg, p->count - left, worker);
		last = kalm__atomic_add(&p->unfinished, (uint32_t)-1) == 1;
	}
}

#if KALM__THREADS != KALM__THREADS_NONE

#if KALM__PTHREADS
#  define KALM__THREAD_FN KALM__FN void *
#  define KALM__THREAD_DONE NULL
KALM__INLINE void kalm__pool_lock(kalm__pool *p) { pthread_mutex_lock(&p->lock); }
KALM__INLINE void kalm__pool_unlock(kalm__pool *p) { pthread_mutex_unlock(&p->lock); }
KALM__INLINE void kalm__pool_wait(kalm__pool *p, pthread_cond_t *until) { pthread_cond_wait(until, &p->lock); }
KALM__INLINE void kalm__pool_tell(pthread_cond_t *waiting) { pthread_cond_broadcast(waiting); }
#  if defined(__EMSCRIPTEN__)  /* knows no signals */
#  elif defined(SIG_BLOCK) && defined(SIGPROF)
typedef sigset_t kalm__signals;
#    define KALM__BLOCK SIG_BLOCK
#    define KALM__SETMASK SIG_SETMASK
#    if defined(__GLIBC__) && !defined(_BITS_SIGTHREAD_H)  /* POSIX of before 1995 hides this one */
extern int pthread_sigmask(int how, const sigset_t *set, sigset_t *before);
#    endif
#  elif defined(__linux__)  /* strict C99 hides all but the numbers */
typedef struct { unsigned long words[16]; } kalm__signals;
#    define KALM__BLOCK 0  /* MIPS refuses it: no mask there */
#    define KALM__SETMASK 2
extern int sigfillset(kalm__signals *set), sigdelset(kalm__signals *set, int signal);
extern int pthread_sigmask(int how, const kalm__signals *set, kalm__signals *before);
#  endif
#else
#  define KALM__THREAD_FN KALM__FN DWORD WINAPI
#  define KALM__THREAD_DONE 0
KALM__INLINE void kalm__pool_lock(kalm__pool *p) { EnterCriticalSection(&p->lock); }
KALM__INLINE void kalm__pool_unlock(kalm__pool *p) { LeaveCriticalSection(&p->lock); }
KALM__INLINE void kalm__pool_wait(kalm__pool *p, CONDITION_VARIABLE *until) { SleepConditionVariableCS(until, &p->lock, INFINITE); }
KALM__INLINE void kalm__pool_tell(CONDITION_VARIABLE *waiting) { WakeAllConditionVariable(waiting); }
#endif

/* What a worker thread does until the pool stops. */
KALM__THREAD_FN kalm__pool_thread(void *arg)
{
	kalm__worker *w = (kalm__worker *)arg;
	kalm__pool *p = w->pool;
	unsigned spins = 0;
	uint32_t since = kalm__microseconds(), core;
	while (!kalm__atomic_get(&p->stop)) {
		if (kalm__atomic_get(&p->left)) {
			spins = 0;
			if (kalm__pool_share(p, w->index, &since)) {
				KALM__RACE();
				/* Signalled under the lock: the caller looks at `unfinished` and falls asleep under it, so the signal cannot
					come between the two and be lost. */
				kalm__pool_lock(p);
				kalm__pool_tell(&p->done);
				kalm__pool_unlock(p);
			}
		} else if (++spins < KALM__SPINS) {
			kalm__pause();
		} else {
			/* First say "asleep", then look once more for a task. The caller does the reverse, publishing tasks and then looking
				for sleepers, so at least one of the two notices the other. */
			spins = 0;
			kalm__pool_lock(p);
			KALM__RACE();
			kalm__atomic_add(&p->sleepers, 1);
			while (!kalm__atomic_get(&p->left) && !kalm__atomic_get(&p->stop)) {
				KALM__RACE();
				kalm__pool_wait(p, &p->wake);
			}
			kalm__atomic_add(&p->sleepers, (uint32_t)-1);
			kalm__pool_unlock(p);
			since = kalm__microseconds();
			core = kalm__atomic_get(&p->core);
			if (kalm__this_core() == core) kalm__leave_core(core, p->size);
		}
	}
	return KALM__THREAD_DONE;
}

/* Start threads until there are p->wanted workers, or the system refuses one: the pool is then smaller. */
KALM__FN void kalm__pool_start_threads(kalm__pool *p)
{
#ifdef KALM__BLOCK
	static const unsigned char kept[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGPROF };
	kalm__signals mask, before;
	size_t i;
	int masked;
#endif
	p->size = 1;
	p->started = 0;
	kalm__atomic_set(&p->sleepers, 0);
	kalm__atomic_set(&p->stop, 0);
	if (p->wanted < 2) return;
#if KALM__PTHREADS
	p->process = (long)getpid();
	if (pthread_mutex_init(&p->lock, NULL)) return;
	if (!pthread_cond_init(&p->wake, NULL)) {
		if (!pthread_cond_init(&p->done, NULL)) p->started = 1;
		else pthread_cond_destroy(&p->wake);
	}
	if (!p->started) {
		pthread_mutex_destroy(&p->lock);
		return;
	}
#else
	InitializeCriticalSection(&p->lock);
	InitializeConditionVariable(&p->wake);
	InitializeConditionVariable(&p->done);
	p->started = 1;
#endif
#ifdef KALM__BLOCK
	sigfillset(&mask);
	for (i = 0; i < sizeof kept; i++) sigdelset(&mask, kept[i]);
	masked = !pthread_sigmask(KALM__BLOCK, &mask, &before);
#endif
	while (p->size < p->wanted) {
		kalm__worker *w = &p->workers[p->size];
		w->pool = p;
		w->index = p->size;
#if KALM__PTHREADS
		if (pthread_create(&w->thread, NULL, kalm__pool_thread, w)) break;
#else
		w->thread = CreateThread(NULL, 0, kalm__pool_thread, w, 0, NULL);
		if (!w->thread) break;
#endif
		p->size++;
	}
#ifdef KALM__BLOCK
	if (masked) pthread_sigmask(KALM__SETMASK, &before, NULL);
#endif
}
#endif

/* workers: [size], owned by the caller, alive until kalm__pool_stop. The pool may be smaller than `size`: without threads, or
	where the system refuses to start one. p->size tells; results are the same. */
KALM__FN void kalm__pool_start(kalm__pool *p, unsigned size, kalm__worker *workers, const kalm_config *config)
{
	memset(p, 0, sizeof *p);
	p->size = 1;
	p->wanted = size;
	p->workers = workers;
	if (config && config->parallel) {
		p->parallel = config->parallel;
		p->parallel_user = config->parallel_user;
		p->size = size;
		return;
	}
#if KALM__THREADS != KALM__THREADS_NONE
	kalm__pool_start_threads(p);
#endif
}

/* End the threads and wait for them. In a child process there is nothing to wait for. May be called twice. */
KALM__FN void kalm__pool_stop(kalm__pool *p)
{
#if KALM__THREADS != KALM__THREADS_NONE
	unsigned i;
	if (!p->started) return;
	p->started = 0;
#if KALM__PTHREADS
	if (p->process != (long)getpid()) return;
#endif
	kalm__pool_lock(p);
	kalm__atomic_set(&p->stop, 1);
	kalm__pool_tell(&p->wake);
	kalm__pool_unlock(p);
#if KALM__PTHREADS
	for (i = 1; i < p->size; i++) pthread_join(p->workers[i].thread, NULL);
	pthread_cond_destroy(&p->done);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
#else
	for (i = 1; i < p->size; i++) {
		WaitForSingleObject(p->workers[i].thread, INFINITE);
		CloseHandle(p->workers[i].thread);
	}
	DeleteCriticalSection(&p->lock);
#endif
#else
	(void)p;
#endif
}

/* From here on `ask` is asked now and then whether to go on; NULL: nobody is. */
KALM__FN void kalm__pool_watch(kalm__pool *p, int (*ask)(void *ask_user), void *ask_user)
{
	p->ask = ask;
	p->ask_user = ask_user;
	p->work = 0;
	p->stopped = 0;
}

/* The next job takes about so many multiplications. Small jobs need not say it. */
KALM__INLINE void kalm__pool_announce(kalm__pool *p, size_t rows, size_t each) { p->work += (uint64_t)rows * each; }

/* Is the next job to be run? */
KALM__FN int kalm__pool_goes_on(kalm__pool *p)
{
	if (p->ask && !p->stopped && p->work >= KALM__ASK_AFTER) {
		p->work = 0;
		p->stopped = p->ask(p->ask_user) != 0;
	}
	return !p->stopped;
}

/* A task of the user's job system: one of our workers. */
KALM__FN void kalm__pool_user_task(void *arg, size_t i)
{
	(void)kalm__pool_share((kalm__pool *)arg, (unsigned)i, NULL);
}

/* Run task(arg, i, worker) for every i below count, which is less than 2^31; returns when all are done. Runs none when the
	pool was stopped. */
KALM__FN void kalm__parallel(kalm__pool *p, size_t count, kalm__task task, void *arg)
{
	if (!kalm__pool_goes_on(p)) return;
	if (p->size < 2 || count < 2) {
		size_t i;
		for (i = 0; i < count; i++) task(arg, i, 0);
		return;
	}
	KALM_ASSERT(count < 0x7fffffff);
	p->task = task;
	p->arg = arg;
	p->count = count;
	kalm__atomic_set(&p->unfinished, (uint32_t)count);
	KALM__RACE();
	kalm__atomic_set(&p->left, (uint32_t)count);  /* last: from here on workers take tasks */
	if (p->parallel) {
		p->parallel(p->parallel_user, kalm__min(p->size, count), kalm__pool_user_task, p);
		return;
	}
#if KALM__THREADS != KALM__THREADS_NONE
	KALM__RACE();
#if KALM__PTHREADS
	/* Is this still the process that has the threads? Asked where it costs nothing beside waking, since only there the lock is
		taken, and now and then besides: without its threads a pool gives right results, but slowly. The system has freed the
		memory of the old ones. */
	if ((kalm__atomic_get(&p->sleepers) || ++p->jobs % 64 == 0) && p->process != (long)getpid()) kalm__pool_start_threads(p);
#endif
	if (kalm__atomic_get(&p->sleepers)) {
		kalm__atomic_set(&p->core, kalm__this_core());
		kalm__pool_lock(p);
		kalm__pool_tell(&p->wake);
		kalm__pool_unlock(p);
	}
	(void)kalm__pool_share(p, 0, NULL);
	{
		unsigned spins = 0;
		while (kalm__atomic_get(&p->unfinished)) {
			if (++spins < KALM__SPINS) {
				kalm__pause();
				continue;
			}
			kalm__pool_lock(p);
			while (kalm__atomic_get(&p->unfinished)) {
				KALM__RACE();
				kalm__pool_wait(p, &p->done);
			}
			kalm__pool_unlock(p);
		}
	}
#endif
}


/* Text to tokens and back. */
/* ---- begin tokenizer/vocab.h ---- */
/* vocab.h - the tokenizer as a model file carries it, and the view that reads it in place.
	We call those bytes "the blob". Opening one parses, hashes and copies nothing, and takes a few microseconds: tokenising
	reads the tables where they lie. The converter (import.h) makes blobs. This part knows the tables and no algorithm. */
/* More is in docs/FORMAT.md. */
#define KALM__VOCAB_H


enum {  /* flags */
	KALM__TOK_ESCAPE = 1,  /* a space and U+2581 are the same to the vocabulary */
	KALM__TOK_SPM = 2,  /* SentencePiece's rules: normalise the whole text, then match the added tokens */
	KALM__TOK_BYTES = 4,  /* a character the vocabulary lacks becomes its bytes */
	KALM__TOK_FUSE = 8,  /* neighbouring unknown characters become one unknown token */
	KALM__TOK_PREFIX = 16,  /* a space goes before each stretch between added tokens (SPM: the text) */
	KALM__TOK_UNLESS = 32,  /* ... unless one is there */
	KALM__TOK_FIRST = 64,  /* ... and only where the stretch begins the text */
	KALM__TOK_TRIM = 128,  /* leading and trailing spaces go, runs of spaces become one */
	KALM__TOK_SUFFIX = 256,  /* SPM: the added space goes last instead */
	KALM__TOK_UNUSED = 512,  /* some tokens are made by merging and split again (KALM__KIND_UNUSED) */
	KALM__TOK_STRIP = 1024,  /* decoding takes one leading space away */
	KALM__TOK_FORM_AT = 12,  /* two bits, with KALM__TOK_NORMAL: 0 NFC, 1 NFKC, 2 NFD, 3 NFKD */
	KALM__TOK_NORMAL = 16384,  /* a Unicode normal form is asked for (needs KALM_UTF8PROC) */
	KALM__TOK_DENORMAL = 1 << 20,  /* SPM: decoded text goes through rules of its own */
	KALM__TOK_KNOWN = 32767 | KALM__TOK_DENORMAL,  /* in version 1 */
	KALM__TOK_WORDS = 32768,  /* unigram: each word, with the space before it, is segmented alone */
	KALM__TOK_WHITE = 1 << 16,  /* words are what any white space separates */
	KALM__TOK_COLLAPSE = 1 << 17,  /* runs of spaces become one space */
	KALM__TOK_TRIM_LEFT = 1 << 18,  /* leading white space goes */
	KALM__TOK_TRIM_RIGHT = 1 << 19,  /* trailing white space goes */
	KALM__TOK_KNOWN2 = (1 << 21) - 1  /* in version 2 */
};

enum { KALM__MODEL_BPE, KALM__MODEL_UNIGRAM, KALM__MODEL_WORD, KALM__MODELS };

enum {
	KALM__KIND_TEXT, KALM__KIND_BYTE, KALM__KIND_CONTROL, KALM__KIND_UNKNOWN, KALM__KIND_UNUSED, KALM__KIND_NONE,
	KALM__KIND_LEFT = 8,  /* added to the others, in version 2 alone: the token takes the white space to its */
	KALM__KIND_RIGHT = 16  /* left or right */
};

enum {  /* when an added token is found in a text */
	KALM__CLASS_TEXT,  /* always: runs of white space, tags of HTML, user-defined words */
	KALM__CLASS_CONTROL,  /* in the template, and in users' texts with KALM_PARSE_CONTROL */
	KALM__CLASS_TEMPLATE  /* in the template alone: control symbols of SentencePiece */
};

#define KALM__TOK_NONE 0xffffffffu
#define KALM__WALK_MOST 254  /* bytes of a token that merging makes, of an added token, of what a rule replaces */
#define KALM__RULE_MOST 1024  /* bytes that a rule of the charsmap puts in their place */
#define KALM__TOKEN_MOST 4096  /* bytes of any token's text */
#define KALM__PIECE_MARK (1u << 24)  /* of a trie's value in version 2 */
#define KALM__WHOLE_AT 25  /* in the same value: six bits */
#define KALM__BUCKET_MOST 48  /* pairs in a bucket; 4 on average, and 20 are rare */
#define KALM__TOK_HEADER 384
#define KALM__TOK_SECTIONS 20

enum {
	KALM__SEC_STARTS, KALM__SEC_POOL, KALM__SEC_KINDS, KALM__SEC_TRIE, KALM__SEC_LENGTHS, KALM__SEC_SPLITS,
	KALM__SEC_BUCKETS, KALM__SEC_PAIRS, KALM__SEC_RANKS, KALM__SEC_ADDED, KALM__SEC_FIRST, KALM__SEC_JOINS,
	KALM__SEC_BYTES, KALM__SEC_RUNS, KALM__SEC_RULES, KALM__SEC_TEXTS, KALM__SEC_FILTER,
	KALM__SEC_UNKNOWN, KALM__SEC_SCORES, KALM__SEC_CUTS
};

/* A view into a blob, which must stay where it is. Read-only after opening: any thread may use it. */
typedef struct kalm__tokenizer {
	unsigned char plain[256]; /* 1: no added token begins with this ASCII byte, and no rule begins with it and another
			(or the end of the text) */
	const unsigned char *part[KALM__TOK_SECTIONS];
	size_t size[KALM__TOK_SECTIONS];  /* bytes */
	uint32_t tokens, symbols, flags, unknown, longest_run, bucket_bits, model;
	double unknown_score;
	uint32_t trie_units, added_units, rule_units, denormal_texts, pairs;
} kalm__tokenizer;

/* One number of a section of u32; the caller has compared i with the count. */
KALM__INLINE uint32_t kalm__word(const unsigned char *section, size_t i) { return kalm__u32(section + 4 * i); }

/* A double of a section; the caller has compared i with the count. */
KALM__INLINE double kalm__score(const unsigned char *section, size_t i)
{
	uint64_t bits = kalm__u64(section + 8 * i);
	double v;
	memcpy(&v, &bits, 8);
	return v;
}

/* The header's numbers. `size` is how many bytes there are. */
KALM__FN kalm_result kalm__tokenizer_header(kalm__tokenizer *t, const unsigned char *b, size_t size, kalm_error *err)
{
	int second;
	if (size < KALM__TOK_HEADER || memcmp(b, "KALMTOK", 7))
		return kalm__fail(err, KALM_BAD_FILE, "the tokenizer section is no tokenizer of this library");
	if (b[7] != '1' && b[7] != '2')
		return kalm__fail(err, KALM_BAD_VERSION, "the tokenizer is of version %c, this library reads 1 and 2",
						  b[7] > 32 && b[7] < 127 ? b[7] : '?');
	if (kalm__u64(b + 8) > size)
		return kalm__fail(err, KALM_BAD_FILE, "the tokenizer should have %U bytes and has %z", kalm__u64(b + 8), size);
	second = b[7] == '2';
	t->tokens = kalm__u32(b + 16);
	t->symbols = kalm__u32(b + 20);
	t->flags = kalm__u32(b + 24);
	t->unknown = kalm__u32(b + 28);
	t->longest_run = kalm__u32(b + 32);
	t->bucket_bits = kalm__u32(b + 36);
	t->rule_units = kalm__u32(b + 44);
	t->denormal_texts = kalm__u32(b + 56);
	if (second) {
		t->model = kalm__u32(b + 40);
		t->unknown_score = kalm__score(b + 48, 0);
	}
	if (!t->tokens || t->tokens > t->symbols || t->symbols > 1u << 20 || (second && t->symbols != t->tokens))
		return kalm__fail(err, KALM_BAD_FILE, "the tokenizer says it has %u tokens and %u symbols", t->tokens, t->symbols);
	if (t->flags & ~(uint32_t)(second ? KALM__TOK_KNOWN2 : KALM__TOK_KNOWN))
		return kalm__fail(err, KALM_BAD_VERSION, "the tokenizer asks for something this version does not know (flags %u)",
						  t->flags);
	if ((second ? t->bucket_bits || t->longest_run || !t->model : t->bucket_bits < 8 || t->bucket_bits > 24)
		|| t->longest_run > 255 || t->model >= KALM__MODELS || (t->unknown != KALM__TOK_NONE && t->unknown >= t->tokens)
		|| !(t->unknown_score - t->unknown_score >= 0))  /* infinities and NaN fail this */
		return kalm__fail(err, KALM_BAD_FILE, "the tokenizer's header holds numbers that cannot be");
	return KALM_OK;
}

/* Where the sections lie, and that each has the size that the header asks for. `size` is that of the blob. */
KALM__FN kalm_result kalm__tokenizer_sections(kalm__tokenizer *t, const unsigned char *b, size_t size, kalm_error *err)
{
	static const char names[KALM__TOK_SECTIONS][8] = {
		"starts", "pool", "kinds", "trie", "lengths", "splits", "buckets", "pairs", "ranks", "added", "first", "joins",
		"bytes", "runs", "rules", "texts", "filter", "unknown", "scores", "cuts"
	};
	uint64_t want[KALM__TOK_SECTIONS], bpe = t->model == KALM__MODEL_BPE;
	unsigned i;
	for (i = 0; i < KALM__TOK_SECTIONS; i++) {
		uint64_t at = kalm__u64(b + 64 + 16 * i), bytes = kalm__u64(b + 72 + 16 * i);
		if (at > size || bytes > size - at || bytes > 0xffffffffu)
			return kalm__fail(err, KALM_BAD_FILE, "section %u of the tokenizer: %U bytes at byte %U, the tokenizer has %z", i,
							  bytes, at, size);
		t->part[i] = b + (size_t)at;
		t->size[i] = (size_t)bytes;
		want[i] = bytes;
	}
	want[KALM__SEC_STARTS] = 4 * ((uint64_t)t->tokens + 1);
	want[KALM__SEC_KINDS] = t->tokens;
	want[KALM__SEC_TRIE] &= ~(uint64_t)3;
	want[KALM__SEC_LENGTHS] = bpe * t->symbols;
	want[KALM__SEC_SPLITS] = bpe * 8 * t->symbols;
	want[KALM__SEC_BUCKETS] = bpe * 4 * (((uint64_t)1 << t->bucket_bits) + 1);
	want[KALM__SEC_FILTER] = bpe * ((uint64_t)4 << t->bucket_bits);
	want[KALM__SEC_PAIRS] &= bpe ? ~(uint64_t)3 : 0;
	want[KALM__SEC_RANKS] = t->size[KALM__SEC_PAIRS];
	want[KALM__SEC_ADDED] &= ~(uint64_t)3;
	want[KALM__SEC_FIRST] = 256;
	want[KALM__SEC_JOINS] = bpe * 8192;
	want[KALM__SEC_BYTES] = 1024;
	want[KALM__SEC_RUNS] = t->longest_run ? 4 * ((uint64_t)t->longest_run + 1) : 0;
	want[KALM__SEC_RULES] &= ~(uint64_t)3;
	want[KALM__SEC_SCORES] = t->model == KALM__MODEL_UNIGRAM ? 8 * (uint64_t)t->tokens : 0;
	want[KALM__SEC_CUTS] = t->model == KALM__MODEL_UNIGRAM && t->size[KALM__SEC_CUTS] ? 8192 : 0;
	for (i = 0; i < KALM__TOK_SECTIONS; i++)
		if (t->size[i] != want[i])
			return kalm__fail(err, KALM_BAD_FILE, "section %s of the tokenizer has %z bytes instead of %U", names[i],
							  t->size[i], want[i]);
	return KALM_OK;
}

/* Fill t->plain, from what is open. */
KALM__FN void kalm__tokenizer_plain(kalm__tokenizer *t)
{
	const unsigned char *rules = t->part[KALM__SEC_RULES];
	uint32_t unit = t->rule_units ? kalm__u32(rules) : 0, root = unit >> 10 << ((unit & 512u) >> 6), c, next;
	for (c = 0; c < 128; c++) {
		uint32_t at = root ^ c;
		t->plain[c] = !t->part[KALM__SEC_FIRST][c];
		if (at >= t->rule_units) continue;
		unit = kalm__word(rules, at);
		if ((unit & 0x800000ffu) != c) continue;  /* no rule begins with c */
		if (unit & 256u) t->plain[c] = 0;  /* one is c alone */
		at ^= unit >> 10 << ((unit & 512u) >> 6);
		for (next = 1; next < 128; next++)
			if ((at ^ next) < t->rule_units && (kalm__word(rules, at ^ next) & 0x800000ffu) == next) t->plain[c] = 0;
	}
}

/* Look at a blob of at most `size` bytes, which must stay where it is while *t is used. */
KALM__FN kalm_result kalm__tokenizer_open(kalm__tokenizer *t, const void *blob, size_t size, kalm_error *err)
{
	const unsigned char *b = (const unsigned char *)blob;
	kalm_result r;
	memset(t, 0, sizeof *t);
	r = kalm__tokenizer_header(t, b, size, err);
	if (!r) r = kalm__tokenizer_sections(t, b, (size_t)kalm__u64(b + 8), err);
	if (r) return r;
	t->trie_units = (uint32_t)(t->size[KALM__SEC_TRIE] / 4);
	t->added_units = (uint32_t)(t->size[KALM__SEC_ADDED] / 4);
	if (!(t->flags & KALM__TOK_DENORMAL)) t->rule_units = (uint32_t)(t->size[KALM__SEC_RULES] / 4);
	else if (t->rule_units > t->size[KALM__SEC_RULES] / 4 || t->denormal_texts >= t->size[KALM__SEC_TEXTS])
		return kalm__fail(err, KALM_BAD_FILE, "the tokenizer's denormalizer is damaged");
	t->pairs = (uint32_t)(t->size[KALM__SEC_PAIRS] / 4);
	if (!t->trie_units || !t->added_units)
		return kalm__fail(err, KALM_BAD_FILE, "a trie of the tokenizer is empty");
	if (t->size[KALM__SEC_UNKNOWN] > KALM__TOKEN_MOST)
		return kalm__fail(err, KALM_BAD_FILE, "the text of the tokenizer's unknown token has %z bytes, allowed are %d",
						  t->size[KALM__SEC_UNKNOWN], KALM__TOKEN_MOST);
	if (t->size[KALM__SEC_RULES] && (!t->size[KALM__SEC_TEXTS] || t->part[KALM__SEC_TEXTS][t->size[KALM__SEC_TEXTS] - 1]))
		return kalm__fail(err, KALM_BAD_FILE, "the normalisation texts of the tokenizer have no end");
#if !defined(KALM_UTF8PROC)
	if (t->flags & KALM__TOK_NORMAL)
		return kalm__fail(err, KALM_BAD_VERSION,
						  "the tokenizer needs Unicode normal forms: compile with KALM_UTF8PROC and link utf8proc");
#endif
	kalm__tokenizer_plain(t);
	return KALM_OK;
}

/* The bytes of a token as the vocabulary has it (a byte token: that byte); data NULL for an id it lacks. */
KALM__FN kalm_text kalm__token_bytes(const kalm__tokenizer *t, int32_t id)
{
	kalm_text r;
	uint32_t from, to;
	r.data = NULL;
	r.size = 0;
	if (id < 0 || (uint32_t)id >= t->tokens || t->part[KALM__SEC_KINDS][id] == KALM__KIND_NONE) return r;
	from = kalm__word(t->part[KALM__SEC_STARTS], (size_t)id);
	to = kalm__word(t->part[KALM__SEC_STARTS], (size_t)id + 1);
	if (from > to || to > t->size[KALM__SEC_POOL] || to - from > KALM__TOKEN_MOST) return r;
	r.data = (const char *)t->part[KALM__SEC_POOL] + from;
	r.size = to - from;
	return r;
}

/* Rank + 1 of the merge of two symbols, or KALM__TOK_NONE. *steps grows by the entries that were looked at. */
KALM__INLINE uint32_t kalm__pair_rank(const kalm__tokenizer *t, uint32_t left, uint32_t right, size_t *steps)
{
	uint64_t hash = (((uint64_t)left << 20 | right) * (uint64_t)KALM__HASH_A) & 0xffffffffffu;
	uint32_t shift = 40 - t->bucket_bits, rest = (uint32_t)(hash & (((uint64_t)1 << shift) - 1));
	size_t at = (size_t)(hash >> shift);
	uint32_t filter = kalm__word(t->part[KALM__SEC_FILTER], at), i, end;
	const unsigned char *bucket, *pairs;
	++*steps;
	if (!(filter >> (rest & 31) & filter >> (rest >> 5 & 31) & 1)) return KALM__TOK_NONE;
	bucket = t->part[KALM__SEC_BUCKETS] + 4 * at;
	pairs = t->part[KALM__SEC_PAIRS];
	i = kalm__u32(bucket);
	end = kalm__u32(bucket + 4);
	if (end > t->pairs || i > end) return KALM__TOK_NONE;
	if (end - i > KALM__BUCKET_MOST) end = i + KALM__BUCKET_MOST;
	*steps += end - i;
	for (; i < end; i++)
		if (kalm__word(pairs, i) == rest) return kalm__word(t->part[KALM__SEC_RANKS], i);
	return KALM__TOK_NONE;
}

/* The child of a trie's node for byte c, or KALM__TOK_NONE. */
KALM__INLINE uint32_t kalm__trie_step(const unsigned char *trie, uint32_t units, uint32_t node, unsigned c)
{
	uint32_t at = (node >> 9 & 0x3fffffu) ^ c, unit;
	if (at >= units) return KALM__TOK_NONE;
	unit = kalm__word(trie, at);
	return (unit & 0x800000ffu) == c ? unit : KALM__TOK_NONE;
}
KALM__INLINE uint32_t kalm__trie_value(const unsigned char *trie, uint32_t units, uint32_t node)
{
	uint32_t at = node >> 9 & 0x3fffffu;
	return at < units ? kalm__word(trie, at) & 0x7fffffffu : 0x7fffffffu;
}
/* The value of exactly text[0 .. n) in a trie, or KALM__TOK_NONE. */
KALM__FN uint32_t kalm__trie_find(const unsigned char *trie, uint32_t units, const void *text, size_t n)
{
	const unsigned char *c = (const unsigned char *)text;
	uint32_t node = kalm__u32(trie);
	for (; n && node != KALM__TOK_NONE; n--) node = kalm__trie_step(trie, units, node, *c++);
	return node != KALM__TOK_NONE && (node & 0x100) ? kalm__trie_value(trie, units, node) : KALM__TOK_NONE;
}

/* ---- begin tokenizer/ids.h ---- */
/* ids.h - what the ways to cut a text into tokens (bpe.h, unigram.h) share: the array that the ids go to, the bound on the
	work for a text, and what becomes of a character that the vocabulary lacks. It knows no way of cutting. */
#define KALM__IDS_H


/* A caller that may want to stop: `call` is asked on the calling thread while a long text is tokenised, at least once in
	64 KB of it; when it returns non-zero, tokenising ends with KALM_CANCELLED. */
typedef struct kalm__interrupt {
	int (*call)(void *user);
	void *user;
} kalm__interrupt;

/* More is in docs/TOKENIZER.md. */
/* They bound the work for a text, whatever the tables say. */
#define KALM__STEPS_BASE ((uint64_t)1 << 20)
#define KALM__STEPS_PER_BYTE ((uint64_t)512)
#define KALM__STEPS_BETWEEN ((uint64_t)1 << 16)  /* between two questions to the caller */

typedef struct kalm__meter {
	const kalm__interrupt *interrupt;  /* NULL: nobody is asked */
	uint64_t steps, pause, most;  /* taken; when kalm__meter_pause is due; allowed */
} kalm__meter;

KALM__FN void kalm__meter_begin(kalm__meter *m, const kalm__interrupt *interrupt, size_t bytes)
{
	m->interrupt = interrupt && interrupt->call ? interrupt : NULL;
	m->steps = 0;
	m->most = KALM__STEPS_BASE + KALM__STEPS_PER_BYTE * (uint64_t)bytes;  /* no text has 2^54 bytes */
	m->pause = KALM__STEPS_BETWEEN;
}

KALM__NOINLINE KALM__FN kalm_result kalm__meter_pause(kalm__meter *m, kalm_error *err)
{
	if (m->steps > m->most)
		return kalm__fail(err, KALM_BAD_FILE, "the tokenizer's tables are damaged: a text takes more than %U steps", m->most);
	if (m->interrupt && m->interrupt->call(m->interrupt->user))
		return kalm__fail(err, KALM_CANCELLED, "cancelled while a text was tokenised");
	m->pause = m->steps + KALM__STEPS_BETWEEN;
	return KALM_OK;
}

/* After `steps` more steps: KALM_OK, or why the text is given up. */
KALM__INLINE kalm_result kalm__meter_add(kalm__meter *m, size_t steps, kalm_error *err)
{
	m->steps += steps;
	return KALM__LIKELY(m->steps < m->pause) ? KALM_OK : kalm__meter_pause(m, err);
}

/* The ids of one text on their way to the caller. */
typedef struct kalm__ids {
	const kalm__tokenizer *t;
	const kalm_allocator *alloc;
	kalm_error *err;
	int32_t *ids;  /* the caller's: the first `capacity` ids are written */
	size_t capacity, count;  /* count: of all ids, written or not */
	int after_unknown;  /* the id before is the unknown token's, and a neighbour may join it */
	kalm__meter meter;
} kalm__ids;

KALM__INLINE void kalm__ids_put(kalm__ids *o, uint32_t id)
{
	if (o->count < o->capacity) o->ids[o->count] = (int32_t)id;
	o->count++;
	o->after_unknown = 0;
}

/* Bytes of the character at p, which is well-formed. */
KALM__INLINE size_t kalm__char_bytes(const unsigned char *p)
{
	return *p < 0x80 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
}

/* `wanted` bytes instead of old[0 .. size), of which the first `kept` stay; NULL: no memory. `local` is not the allocator's. */
KALM__NOINLINE KALM__FN void *kalm__grow(const kalm_allocator *alloc, kalm_error *err, void *old, const void *local,
										 size_t size, size_t wanted, size_t kept)
{
	void *bigger = kalm__alloc(alloc, wanted);
	if (!bigger) {
		(void)kalm__fail(err, KALM_NO_MEMORY, "no memory to tokenise: %z bytes", wanted);
		return NULL;
	}
	memcpy(bigger, old, kept);
	if (old != local) kalm__release(alloc, old, size);
	return bigger;
}

/* A character (or word) that the vocabulary lacks becomes its bytes, where there are tokens for all of them, or the unknown
	token. A space of inner form (bpe.h) has the bytes of U+2581. */
KALM__FN void kalm__ids_unknown(kalm__ids *o, const unsigned char *text, size_t n)
{
	const kalm__tokenizer *t = o->t;
	int all = (t->flags & KALM__TOK_BYTES) != 0, joins = o->after_unknown && (t->flags & KALM__TOK_FUSE);
	size_t before = o->count, i, k;
	for (i = 0; all && i < n; i++) {
		int is_space = (t->flags & KALM__TOK_ESCAPE) && text[i] == ' ';
		for (k = is_space ? 3 : 1; all && k; k--) {
			uint32_t id = kalm__word(t->part[KALM__SEC_BYTES], is_space ? (unsigned char)"\x81\x96\xe2"[k - 1] : text[i]);
			all = id < t->tokens;
			if (all) kalm__ids_put(o, id);
		}
	}
	if (all) return;
	o->count = before;
	if (t->unknown != KALM__TOK_NONE && !joins) kalm__ids_put(o, t->unknown);
	o->after_unknown = 1;
}

/* ---- begin tokenizer/normal.h ---- */
/* normal.h - normalisation: a text, or a stretch of one, into inner form (bpe.h says what that is). Ill-formed UTF-8, literal
	U+2581, Unicode normal forms, rules of a charsmap, and what Hugging Face's Unigram tokenizers do with white space. What
	SentencePiece does with a whole text is in text.h, because user-defined symbols take part in it. */
#define KALM__NORMAL_H

#if defined(KALM_UTF8PROC)
#  include <utf8proc.h>
#endif

#define KALM__LOCAL_TEXT 1024
#define KALM__GROWTH_STEPS 8 /* a byte that a rule puts in costs so many steps, so that no file makes a text more
		than 64 times as long; NFKC makes one at most 11 times as long */

/* A buffer that is on the stack while it is short. */
typedef struct kalm__buffer {
	const kalm_allocator *alloc;
	unsigned char *data;
	size_t size, room;
	unsigned char local[KALM__LOCAL_TEXT];
} kalm__buffer;

KALM__FN void kalm__buffer_begin(kalm__buffer *b, const kalm_allocator *alloc)
{
	b->alloc = alloc;
	b->data = b->local;
	b->size = 0;
	b->room = sizeof b->local;
}
KALM__FN void kalm__buffer_end(kalm__buffer *b)
{
	if (b->data != b->local) kalm__release(b->alloc, b->data, b->room);
}
/* Room for `more` bytes behind what is there. */
KALM__FN kalm_result kalm__buffer_room(kalm__buffer *b, size_t more, kalm_error *err)
{
	size_t wanted = kalm__add(b->size, more);
	void *bigger;
	if (wanted <= b->room) return KALM_OK;
	wanted = kalm__max(wanted, kalm__add(b->room, b->room / 2));
	bigger = kalm__grow(b->alloc, err, b->data, b->local, b->room, wanted, b->size);
	if (!bigger) return KALM_NO_MEMORY;
	b->data = (unsigned char *)bigger;
	b->room = wanted;
	return KALM_OK;
}

/* ---- UTF-8 ---- */

/* Length of the character at p, 1 .. 4, or minus the length of the maximal ill-formed part. n > 0. */
KALM__INLINE int kalm__utf8(const unsigned char *p, size_t n)
{
	unsigned c = p[0], low = 0x80, high = 0xbf;
	int need, i;
	if (c < 0x80) return 1;
	if (c < 0xc2 || c > 0xf4) return -1;
	if (c < 0xe0) need = 2;
	else if (c < 0xf0) {
		need = 3;
		if (c == 0xe0) low = 0xa0;
		else if (c == 0xed) high = 0x9f;
	} else {
		need = 4;
		if (c == 0xf0) low = 0x90;
		else if (c == 0xf4) high = 0x8f;
	}
	for (i = 1; i < need; i++) {
		if ((size_t)i >= n || p[i] < low || p[i] > high) return -i;
		low = 0x80, high = 0xbf;
	}
	return need;
}

KALM__INLINE int kalm__is_escaped_space(const unsigned char *p, size_t n)
{
	return n >= 3 && p[0] == 0xe2 && p[1] == 0x96 && p[2] == 0x81;
}

/* Bytes behind what is there, every U+2581 as a space where the vocabulary escapes spaces. */
KALM__FN kalm_result kalm__put_inner(kalm__buffer *out, const unsigned char *bytes, size_t n, int escape, kalm_error *err)
{
	kalm_result r = kalm__buffer_room(out, n, err);
	size_t k;
	if (r) return r;
	if (!escape || !memchr(bytes, 0xe2, n)) {
		memcpy(out->data + out->size, bytes, n);
		out->size += n;
		return KALM_OK;
	}
	for (k = 0; k < n;)
		if (kalm__is_escaped_space(bytes + k, n - k)) {
			out->data[out->size++] = ' ';
			k += 3;
		} else out->data[out->size++] = bytes[k++];
	return KALM_OK;
}

/* ---- rules ---- */

/* The longest rule of the charsmap at text[0 .. n): how many bytes it replaces, and its text. *steps grows by the units
	of the trie that were looked at. */
KALM__FN size_t kalm__rule_at(const kalm__tokenizer *t, const unsigned char *text, size_t n, const char **with, size_t *steps)
{
	const unsigned char *rules = t->part[KALM__SEC_RULES];
	uint32_t at = 0, unit;
	size_t i, found = 0;
	if (!t->rule_units) return 0;
	unit = kalm__u32(rules);
	at ^= unit >> 10 << ((unit & 512u) >> 6);
	if (n > KALM__WALK_MOST) n = KALM__WALK_MOST;
	for (i = 0; i < n; i++) {
		at ^= text[i];
		if (at >= t->rule_units) break;
		unit = kalm__word(rules, at);
		if ((unit & 0x800000ffu) != text[i]) break;
		at ^= unit >> 10 << ((unit & 512u) >> 6);
		if (unit & 256u) {
			uint32_t value = at < t->rule_units ? kalm__word(rules, at) & 0x7fffffffu : KALM__TOK_NONE;
			if (value < t->size[KALM__SEC_TEXTS]) {
				*with = (const char *)t->part[KALM__SEC_TEXTS] + value;
				found = i + 1;
			}
		}
	}
	*steps += i;
	return found;
}

/* Text that a rule puts in, which begins at `with` in the texts: its bytes, or SIZE_MAX where it has no end. */
KALM__FN size_t kalm__rule_bytes(const kalm__tokenizer *t, const char *with)
{
	size_t left = t->size[KALM__SEC_TEXTS] - (size_t)((const unsigned char *)(const void *)with - t->part[KALM__SEC_TEXTS]);
	const void *end = memchr(with, 0, kalm__min(left, (size_t)KALM__RULE_MOST + 1));
	return end ? (size_t)((const char *)end - with) : SIZE_MAX;
}

/* ---- Hugging Face ---- */

/* The code point of the character at p, whose bytes go to *bytes; 0 where it has four or is ill-formed. n > 0. */
KALM__FN unsigned kalm__code_at(const unsigned char *p, size_t n, int *bytes)
{
	*bytes = kalm__utf8(p, n);
	return *bytes == 1 ? *p : *bytes == 2 ? (*p & 31u) << 6 | (p[1] & 63u)
		 : *bytes == 3 ? (*p & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u) : 0;
}

/* Bytes of the white space character (Unicode's property White_Space) at p; 0: none. n > 0. */
KALM__FN unsigned kalm__white_bytes(const unsigned char *p, size_t n)
{
	int bytes;
	unsigned c = kalm__code_at(p, n, &bytes);
	return c == ' ' || (c >= 9 && c <= 13) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a)
		|| c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000 ? (unsigned)bytes : 0;
}

/* Does a mark of two or three bytes that joins the character before it begin at p? */
KALM__FN int kalm__joins_before(const unsigned char *p, size_t n)
{
	static const unsigned short ranges[][2] = {
		{ 0x300, 0x36f }, { 0x483, 0x489 }, { 0x591, 0x5bd }, { 0x5bf, 0x5bf }, { 0x5c1, 0x5c2 }, { 0x5c4, 0x5c5 },
		{ 0x5c7, 0x5c7 }, { 0x610, 0x61a }, { 0x64b, 0x65f }, { 0x670, 0x670 }, { 0x6d6, 0x6dc }, { 0x6df, 0x6e4 }, { 0x6e7, 0x6e8 },
		{ 0x6ea, 0x6ed },
		{ 0x711, 0x711 }, { 0x730, 0x74a }, { 0x7a6, 0x7b0 }, { 0x7eb, 0x7f3 }, { 0x1ab0, 0x1aff }, { 0x1dc0, 0x1dff },
		{ 0x200c, 0x200d }, { 0x20d0, 0x20f0 }, { 0x302a, 0x302f }, { 0x3099, 0x309a }, { 0xfe00, 0xfe0f }, { 0xfe20, 0xfe2f }
	};
	int bytes;
	unsigned c = kalm__code_at(p, n, &bytes), i;
	for (i = 0; i < sizeof ranges / sizeof *ranges; i++)
		if (c >= ranges[i][0] && c <= ranges[i][1]) return 1;
	return 0;
}

/* The part of text[0 .. n) that Hugging Face's "Precompiled" normalizer replaces as a whole: how many bytes, and by what. It
	looks at a grapheme of fewer than six bytes, and takes the shortest rule that begins there for all of it; else at one
	character. Graphemes are a character and the marks behind it, and CR LF. */
KALM__FN kalm_result kalm__precompiled_at(const kalm__tokenizer *t, const unsigned char *text, size_t n, size_t *took,
										  const unsigned char **with, size_t *size, size_t *steps, kalm_error *err)
{
	int k = kalm__utf8(text, n);
	size_t whole, one, found = 0, tries;
	const char *rule = NULL;
	*with = text;
	*took = *size = (size_t)(k < 0 ? -k : k);
	if (k < 0) {
		*with = (const unsigned char *)"\xef\xbf\xbd";
		*size = 3;
		return KALM_OK;
	}
	if (!t->rule_units) return KALM_OK;
	one = whole = (size_t)k;
	if (*text == '\r' && n > 1 && text[1] == '\n') whole = 2;
	else while (whole < n && whole < 6 && kalm__joins_before(text + whole, n - whole)) whole += kalm__char_bytes(text + whole);
	for (tries = 0; tries < 2 && !found; tries++) {
		size_t most = tries ? one : whole, i;
		if (most >= 6) continue;
		for (i = 1; i <= most && !found; i++) found = kalm__rule_at(t, text, i, &rule, steps) == i ? most : 0;
		if (whole == one) break;
	}
	if (!found) return KALM_OK;
	*took = found;
	*with = (const unsigned char *)(const void *)rule;
	*size = kalm__rule_bytes(t, rule);
	if (*size == SIZE_MAX) return kalm__fail(err, KALM_BAD_FILE, "the tokenizer's rules are damaged: one has no end");
	*steps += KALM__GROWTH_STEPS * *size;
	return KALM_OK;
}

#if defined(KALM_UTF8PROC)
/* What the buffer holds, well-formed, into a Unicode normal form. */
KALM__FN kalm_result kalm__normal_form(const kalm__tokenizer *t, kalm__buffer *out, kalm_error *err)
{
	static const int forms[4] = {
		UTF8PROC_STABLE | UTF8PROC_COMPOSE, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
		UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT
	};
	utf8proc_uint8_t *made = NULL;
	utf8proc_ssize_t size = utf8proc_map(out->data, (utf8proc_ssize_t)out->size, &made,
										 (utf8proc_option_t)forms[t->flags >> KALM__TOK_FORM_AT & 3]);
	kalm_result r;
	if (size < 0) return kalm__fail(err, KALM_NO_MEMORY, "utf8proc could not normalise a text of %z bytes", out->size);
	r = kalm__buffer_room(out, (size_t)size, err);
	if (r == KALM_OK) memcpy(out->data, made, out->size = (size_t)size);
	free(made);  /* utf8proc takes it from malloc */
	return r;
}
#endif

/* One stretch between added tokens into inner form, by Hugging Face's rules: the charsmap, then white space, then the prefix,
	then a normal form. out: empty. */
KALM__FN kalm_result kalm__stretch(const kalm__tokenizer *t, const unsigned char *text, size_t n, int first, kalm__buffer *out,
								   kalm__meter *meter, kalm_error *err)
{
	int white = (t->flags & KALM__TOK_WHITE) != 0, collapse = (t->flags & KALM__TOK_COLLAPSE) != 0, space = 0;
	int prefix = (t->flags & KALM__TOK_PREFIX) && (first || !(t->flags & KALM__TOK_FIRST));
	int unless = (t->flags & KALM__TOK_UNLESS) != 0, left = (t->flags & KALM__TOK_TRIM_LEFT) != 0;
	size_t i = 0, kept = 0;  /* kept: where the last that is no white space ends */
	kalm_result r = KALM_OK;
	while (i < n) {
		const unsigned char *with;
		size_t took, size, steps = 1, k, bytes;
		r = kalm__precompiled_at(t, text + i, n - i, &took, &with, &size, &steps, err);
		if (!r) r = kalm__meter_add(meter, steps, err);
		if (!r) r = kalm__buffer_room(out, kalm__mul(size + 1, 2), err);
		if (r) return r;
		i += took;
		for (k = 0; k < size; k += bytes) {
			const unsigned char *p = with + k;
			unsigned gap = kalm__white_bytes(p, size - k);
			int escaped = kalm__is_escaped_space(p, size - k), spaced = escaped || *p == ' ';
			bytes = gap ? gap : kalm__min(kalm__char_bytes(p), size - k);
			if (gap && white) {  /* separates words, whatever it is */
				space = 1;
				continue;
			}
			if (gap && left && !out->size) continue;
			if (*p == ' ' && collapse && space) continue;
			if (out->size ? white && space && !spaced : prefix && !(unless && spaced)) out->data[out->size++] = ' ';
			space = *p == ' ';
			if (escaped && (t->flags & KALM__TOK_ESCAPE)) out->data[out->size++] = ' ';
			else {
				memcpy(out->data + out->size, p, bytes);
				out->size += bytes;
			}
			if (!gap) kept = out->size;
		}
	}
	if (t->flags & KALM__TOK_TRIM_RIGHT) out->size = kept;
#if defined(KALM_UTF8PROC)
	if (t->flags & KALM__TOK_NORMAL) r = kalm__normal_form(t, out, err);
#endif
	return r;
}

/* ---- begin tokenizer/bpe.h ---- */
/* bpe.h - byte-pair encoding (BPE) of one stretch of text, in time linear in its length. Added tokens, normalisation and text
	that is not valid UTF-8 are dealt with in text.h, which calls this part with stretches in "inner form".

	INNER FORM is valid UTF-8. Where the vocabulary writes spaces as U+2581, the inner form has plain spaces in their place (the
	tables do as well), so that a text without a literal U+2581 is its own inner form and need not be copied.

	Tokens are taken from left to right, the longest first, each of them "stable" beside the one before: merging the text of the two
	alone gives these two. That this leaves what the definition of BPE does, which merges pairs by rank, is shown in
	docs/TOKENIZER.md. */
/* More is in docs/TOKENIZER.md. */
#define KALM__BPE_H


#define KALM__BPE_PENDING 512
#define KALM__BPE_DEAD 512  /* bytes of marks */
#define KALM__BPE_IRREGULAR 0xffffffu

typedef struct kalm__bpe {
	kalm__ids *out;
	uint32_t *pending;  /* [depth] tokens since the last cut; a shorter one may still take the place of the last */
	size_t depth, pending_size;  /* tokens in `pending`, and how many it has room for */
	unsigned char *dead;  /* bit i is 1: no token ends i bytes after the last cut */
	size_t dead_size;  /* bytes */
	int any_dead;
	uint32_t local_pending[KALM__BPE_PENDING];
	unsigned char local_dead[KALM__BPE_DEAD];
} kalm__bpe;

KALM__FN void kalm__bpe_begin(kalm__bpe *e, kalm__ids *out)
{
	e->out = out;
	e->depth = 0;
	e->any_dead = 0;
	e->pending = e->local_pending;
	e->pending_size = KALM__BPE_PENDING;
	e->dead = e->local_dead;
	e->dead_size = KALM__BPE_DEAD;
	memset(e->local_dead, 0, sizeof e->local_dead);
}

KALM__FN void kalm__bpe_end(kalm__bpe *e)
{
	if (e->pending != e->local_pending) kalm__release(e->out->alloc, e->pending, e->pending_size * sizeof *e->pending);
	if (e->dead != e->local_dead) kalm__release(e->out->alloc, e->dead, e->dead_size);
}

/* Write the id of a symbol that merging has produced. Three cases are not simply a token's id: a character that is no token
	becomes byte tokens or the unknown token; a piece that SentencePiece marks as unused is split into the two symbols that it was
	merged from, and so on. A symbol is split only if the lengths of its two parts add up to its own. So a hostile table cannot
	make this run long: there are fewer than 2 * 255 parts, and the stack never holds more than 255. */
KALM__FN void kalm__bpe_emit_rare(kalm__bpe *e, uint32_t symbol, const unsigned char *text, size_t n)
{
	const kalm__tokenizer *t = e->out->t;
	const unsigned char *lengths = t->part[KALM__SEC_LENGTHS];
	uint32_t stack[256];
	size_t depth = 0, taken = 0;
	stack[depth++] = symbol;
	while (depth) {
		uint32_t s = stack[--depth], left, right;
		uint64_t split;
		size_t size;
		if (s >= t->symbols) continue;
		size = lengths[s];
		split = kalm__u64(t->part[KALM__SEC_SPLITS] + 8 * (size_t)s);
		left = (uint32_t)(split & 0xfffff);
		right = (uint32_t)(split >> 20 & 0xfffff);
		if (s < t->tokens && t->part[KALM__SEC_KINDS][s] != KALM__KIND_UNUSED) {
			kalm__ids_put(e->out, s);
		} else if (split >> 40 && left < t->symbols && right < t->symbols && lengths[left] && lengths[right]
				   && (size_t)lengths[left] + lengths[right] == size && depth + 2 <= 256) {
			stack[depth++] = right;
			stack[depth++] = left;
			continue;
		} else if (s < t->tokens) {
			kalm__ids_put(e->out, s);
		} else if (taken < n) kalm__ids_unknown(e->out, text + taken, kalm__min(size, n - taken));
		taken += size;
	}
}

KALM__INLINE void kalm__bpe_emit(kalm__bpe *e, uint32_t symbol, const unsigned char *text, size_t n)
{
	if (KALM__LIKELY(symbol < e->out->t->tokens && !(e->out->t->flags & KALM__TOK_UNUSED))) {
		kalm__ids_put(e->out, symbol);
	} else kalm__bpe_emit_rare(e, symbol, text, n);
}

/* The tokens that are prefixes of a text, the shortest first. */
typedef struct kalm__bpe_found {
	uint32_t node[KALM__WALK_MOST];  /* where the walk through the trie stood */
	unsigned char size[KALM__WALK_MOST];  /* bytes */
} kalm__bpe_found;

/* Find the tokens that are prefixes of text[0 .. n); returns how many there are. *steps grows by the number of units of the trie
	that were looked at. */
KALM__INLINE size_t kalm__bpe_find(const kalm__tokenizer *t, const unsigned char *text, size_t n, kalm__bpe_found *f,
								   size_t *steps)
{
	const unsigned char *trie = t->part[KALM__SEC_TRIE];
	uint32_t node = kalm__u32(trie), units = t->trie_units;
	size_t i = 0, count = 0;
	if (n > KALM__WALK_MOST) n = KALM__WALK_MOST;
	while (i < n) {
		node = kalm__trie_step(trie, units, node, text[i++]);
		if (node == KALM__TOK_NONE) break;
		if (node & 0x100) {
			f->node[count] = node;
			f->size[count++] = (unsigned char)i;
		}
	}
	*steps += i + 1;
	return count;
}

/* The rank of merging two symbols, KALM__TOK_NONE if they do not merge. */
KALM__FN uint32_t kalm__bpe_rank_of(const kalm__tokenizer *t, const uint32_t *two, size_t *steps)
{
	return two[0] >= t->symbols || two[1] >= t->symbols ? KALM__TOK_NONE : kalm__pair_rank(t, two[0], two[1], steps);
}

/* Are two neighbouring tokens stable (see above)? This version merges their text by the definition; it is for irregular tokens.
	text[0 .. left) is the first token, the next `right` bytes are the second; a token has at most 255 bytes. The answer is no as
	soon as a merge crosses the border. */
KALM__NOINLINE KALM__FN int kalm__bpe_tolerates_slowly(const kalm__tokenizer *t, const unsigned char *text, size_t left,
													   size_t right, size_t *steps)
{
	const unsigned char *trie = t->part[KALM__SEC_TRIE];
	uint32_t symbol[512], rank[512];  /* rank[i]: of merging symbols i and i + 1 */
	unsigned char size[512];
	size_t n = 0, at = 0, i, best, border, all = left + right, bytes;
	while (at < all && n < 512) {
		bytes = kalm__min(kalm__char_bytes(text + at), all - at);
		symbol[n] = kalm__trie_find(trie, t->trie_units, text + at, bytes);
		size[n++] = (unsigned char)bytes;
		at += bytes;
	}
	for (i = 0; i + 1 < n; i++) rank[i] = kalm__bpe_rank_of(t, symbol + i, steps);
	for (; n > 1; n--) {
		*steps += n / 4 + all;
		for (i = best = 0; i + 1 < n; i++)
			if (rank[i] < rank[best]) best = i;
		if (rank[best] == KALM__TOK_NONE) break;
		for (i = border = 0; i <= best; i++) border += size[i];
		if (border == left) return 0;
		/* the merged symbol is found by its text */
		bytes = (size_t)size[best] + size[best + 1];
		symbol[best] = kalm__trie_find(trie, t->trie_units, text + border - size[best], bytes);
		size[best] = (unsigned char)bytes;
		for (i = best + 1; i + 1 < n; i++) {
			symbol[i] = symbol[i + 1];
			size[i] = size[i + 1];
			rank[i] = rank[i + 1];
		}
		if (best) rank[best - 1] = kalm__bpe_rank_of(t, symbol + best - 1, steps);
		if (best + 2 < n) rank[best] = kalm__bpe_rank_of(t, symbol + best, steps);
	}
	return 1;
}

/* The same for tokens a and b in general: undo their merges one after the other and compare ranks across the border. */
KALM__FN int kalm__bpe_tolerates(const kalm__tokenizer *t, uint32_t a, uint32_t b, const unsigned char *text, size_t left,
								 size_t right, size_t *steps)
{
	const unsigned char *splits = t->part[KALM__SEC_SPLITS];
	uint64_t split_a = kalm__u64(splits + 8 * (size_t)a), split_b = kalm__u64(splits + 8 * (size_t)b);
	uint32_t limit = KALM__TOK_NONE, rank_a = (uint32_t)(split_a >> 40), rank_b = (uint32_t)(split_b >> 40);
	unsigned guard;
	if (rank_a == KALM__BPE_IRREGULAR || rank_b == KALM__BPE_IRREGULAR)
		return kalm__bpe_tolerates_slowly(t, text, left, right, steps);
	for (guard = 0; guard < 512; guard++) {  /* tokens of a sound table come apart in at most 2 * 254 steps */
		if (kalm__pair_rank(t, a, b, steps) < limit) return 0;
		if (rank_a > rank_b) {
			limit = rank_a;
			a = (uint32_t)(split_a >> 20 & 0xfffff);
			if (a >= t->symbols) return 0;
			split_a = kalm__u64(splits + 8 * (size_t)a);
			rank_a = (uint32_t)(split_a >> 40);
		} else {
			if (!rank_b) return 1;  /* both are single characters now */
			limit = rank_b + 1;
			b = (uint32_t)(split_b & 0xfffff);
			if (b >= t->symbols) return 0;
			split_b = kalm__u64(splits + 8 * (size_t)b);
			rank_b = (uint32_t)(split_b >> 40);
		}
	}
	return 0;
}

KALM__NOINLINE KALM__FN kalm_result kalm__bpe_push_grow(kalm__bpe *e)
{
	size_t bytes = kalm__mul(e->pending_size, sizeof *e->pending);
	void *bigger = kalm__grow(e->out->alloc, e->out->err, e->pending, e->local_pending, bytes, kalm__mul(bytes, 2), bytes);
	if (!bigger) return KALM_NO_MEMORY;
	e->pending = (uint32_t *)bigger;
	e->pending_size *= 2;
	return KALM_OK;
}

/* Mark the position `at` bytes after the last cut as dead. room: bytes from the last cut to the end of the stretch. */
KALM__NOINLINE KALM__FN kalm_result kalm__bpe_mark_dead(kalm__bpe *e, size_t at, size_t room)
{
	if (at / 8 >= e->dead_size) {
		size_t wanted = room / 8 + 1;
		void *bigger = kalm__grow(e->out->alloc, e->out->err, e->dead, e->local_dead, e->dead_size, wanted, e->dead_size);
		if (!bigger) return KALM_NO_MEMORY;
		e->dead = (unsigned char *)bigger;
		memset(e->dead + e->dead_size, 0, wanted - e->dead_size);
		e->dead_size = wanted;
	}
	e->dead[at / 8] = (unsigned char)(e->dead[at / 8] | 1u << (at & 7));
	e->any_dead = 1;
	return KALM_OK;
}

/* The pending tokens are final: write their ids. Their text begins at `text` and has n bytes. */
KALM__FN void kalm__bpe_flush(kalm__bpe *e, const unsigned char *text, size_t n)
{
	size_t i, at = 0;
	for (i = 0; i < e->depth; i++) {
		size_t size = e->out->t->part[KALM__SEC_LENGTHS][e->pending[i]];
		kalm__bpe_emit(e, e->pending[i], text + kalm__min(at, n), n - kalm__min(at, n));
		at += size;
	}
	e->depth = 0;
	if (e->any_dead) {
		memset(e->dead, 0, kalm__min(e->dead_size, n / 8 + 1));
		e->any_dead = 0;
	}
}

/* Tokenise text[0 .. n), which is in inner form, without regard to what stands before or after it. */
KALM__FN kalm_result kalm__bpe_run(kalm__bpe *e, const unsigned char *text, size_t n)
{
	const kalm__tokenizer *t = e->out->t;
	const unsigned char *joins = t->part[KALM__SEC_JOINS], *lengths = t->part[KALM__SEC_LENGTHS];
	const unsigned char *trie = t->part[KALM__SEC_TRIE];
	kalm__bpe_found f;
	size_t base = 0, pos = 0, steps = 0, size, found;
	uint32_t id, previous = KALM__TOK_NONE;
	kalm_result r;
	e->out->after_unknown = 0;
	while (pos < n) {
		if (t->longest_run && text[pos] == ' ' && pos + 1 < n && text[pos + 1] == ' ') {
			size_t run = 2;
			kalm__bpe_flush(e, text + base, pos - base);
			while (pos + run < n && text[pos + run] == ' ') run++;
			for (; run > 1; run -= size) {  /* a single space that remains belongs to the next word */
				size = kalm__min(run, t->longest_run);
				id = kalm__word(t->part[KALM__SEC_RUNS], size);
				if (size < 2 || id >= t->tokens)
					return kalm__fail(e->out->err, KALM_BAD_FILE, "the tokenizer's runs are damaged");
				if ((r = kalm__meter_add(&e->out->meter, size, e->out->err)) != KALM_OK) return r;
				kalm__ids_put(e->out, id);
				pos += size;
			}
			base = pos;
			previous = KALM__TOK_NONE;
			continue;
		}
		found = kalm__bpe_find(t, text + pos, n - pos, &f, &steps);
		if ((r = kalm__meter_add(&e->out->meter, steps, e->out->err)) != KALM_OK) return r;
		steps = 0;
		if (!found) {
			kalm__bpe_flush(e, text + base, pos - base);
			size = kalm__min(kalm__char_bytes(text + pos), n - pos);
			kalm__ids_unknown(e->out, text + pos, size);
			base = pos += size;
			previous = KALM__TOK_NONE;
			continue;
		}
		for (;;) {
			size_t end, place;
			if (!found) {  /* no token fits here: mark the position, and replace the token before by a shorter one */
				if (!e->depth) return kalm__fail(e->out->err, KALM_BAD_FILE, "the tokenizer's merges contradict its tokens");
				r = kalm__bpe_mark_dead(e, pos - base, n - base);
				if (r) return r;
				size = lengths[e->pending[--e->depth]];
				pos -= size;
				previous = e->depth ? e->pending[e->depth - 1] : KALM__TOK_NONE;
				found = kalm__bpe_find(t, text + pos, size - 1, &f, &steps);
				if ((r = kalm__meter_add(&e->out->meter, steps, e->out->err)) != KALM_OK) return r;
				steps = 0;
				continue;
			}
			size = f.size[--found];
			id = kalm__trie_value(trie, t->trie_units, f.node[found]);
			if (id >= t->symbols) return kalm__fail(e->out->err, KALM_BAD_FILE, "the tokenizer's trie is damaged");
			end = pos + size;
			place = end - base;
			if (e->any_dead && place / 8 < e->dead_size && (e->dead[place / 8] >> (place & 7) & 1)) continue;
			if (previous != KALM__TOK_NONE
				&& !kalm__bpe_tolerates(t, previous, id, text + pos - lengths[previous], lengths[previous], size, &steps))
				continue;
			if (end == n || !(joins[32u * text[end - 1] + text[end] / 8] >> (text[end] & 7) & 1)) {
				if (e->depth || e->any_dead) kalm__bpe_flush(e, text + base, place);
				kalm__bpe_emit(e, id, text + pos, size);
				base = end;
				previous = KALM__TOK_NONE;
			} else {
				if (size != lengths[id]) return kalm__fail(e->out->err, KALM_BAD_FILE, "the tokenizer's lengths are damaged");
				if (e->depth == e->pending_size && (r = kalm__bpe_push_grow(e)) != KALM_OK) return r;
				e->pending[e->depth++] = previous = id;
			}
			pos = end;
			break;
		}
	}
	return KALM_OK;
}

/* ---- begin tokenizer/unigram.h ---- */
/* unigram.h - SentencePiece's "unigram" and "word": a normalised text is cut into pieces of the vocabulary. It knows nothing
	of added tokens, normalisation or ill-formed text: text.h hands it stretches in inner form (bpe.h). Of all
	ways to cut a text the one with the largest sum of scores is found by Viterbi's algorithm, to SentencePiece's last bit. */
/* More is in docs/TOKENIZER.md. */
#define KALM__UNIGRAM_H


#define KALM__UNIGRAM_PLACES 384
#define KALM__UNIGRAM_WORST (-1e300)  /* below every sum of logarithms */
#define KALM__UNIGRAM_UNKNOWN (1u << 31)  /* of kalm__unigram_place.piece */
#define KALM__UNIGRAM_SIZE_AT 20

typedef struct kalm__unigram_place {
	double best;  /* the largest sum of a cut of the text up to here */
	uint32_t piece;  /* the last piece of that cut: bits 0..19 id, 20..30 bytes */
} kalm__unigram_place;

typedef struct kalm__unigram {
	kalm__ids *out;
	kalm__unigram_place *place;  /* [places] place i is i bytes behind the last cut; place[0].best carries the sum */
	size_t places;
	double sum;  /* of all that went out before this stretch */
	kalm__unigram_place local[KALM__UNIGRAM_PLACES];
} kalm__unigram;

KALM__FN void kalm__unigram_begin(kalm__unigram *u, kalm__ids *out)
{
	u->out = out;
	u->place = u->local;
	u->places = KALM__UNIGRAM_PLACES;
	u->sum = 0;
}

KALM__FN void kalm__unigram_end(kalm__unigram *u)
{
	if (u->place != u->local) kalm__release(u->out->alloc, u->place, u->places * sizeof *u->place);
}

/* The best cut of text[0 .. n) goes out, all of it since the last cut. Each place knows the piece that ends there; they are
	turned round in place, so that each knows the piece that begins there. */
KALM__FN void kalm__unigram_flush(kalm__unigram *u, const unsigned char *text, size_t n)
{
	kalm__unigram_place *place = u->place;
	uint32_t piece = place[n].piece, before;
	size_t at = n, size;
	while (at) {
		size = piece >> KALM__UNIGRAM_SIZE_AT & 0x7ff;
		at -= kalm__min(size, at);  /* never more: a piece begins at a place of this stretch */
		before = place[at].piece;
		place[at].piece = piece;
		piece = before;
	}
	for (; at < n; at += size) {
		piece = place[at].piece;
		size = piece >> KALM__UNIGRAM_SIZE_AT & 0x7ff;
		if (piece & KALM__UNIGRAM_UNKNOWN) kalm__ids_unknown(u->out, text + at, size);
		else kalm__ids_put(u->out, piece & 0xfffff);
	}
}

/* Token `id` goes out without having been looked for. */
KALM__FN void kalm__unigram_pass(kalm__unigram *u, uint32_t id)
{
	const kalm__tokenizer *t = u->out->t;
	if (id < t->tokens) u->sum = (double)(float)(kalm__score(t->part[KALM__SEC_SCORES], id) + u->sum);
}

/* A piece that ends at place `end` makes `sum` there. Without a branch on which is better, which nobody can predict. */
KALM__INLINE void kalm__unigram_offer(kalm__unigram_place *place, size_t *furthest, size_t end, double sum, uint32_t piece,
									  int spm)
{
	int better;
	while (*furthest < end) {
		place[++*furthest].best = KALM__UNIGRAM_WORST;
		place[*furthest].piece = KALM__UNIGRAM_UNKNOWN | 1u << KALM__UNIGRAM_SIZE_AT;  /* stays where scores are damaged */
	}
	place += end;
	better = sum > place->best;
	sum = spm ? (double)(float)sum : sum;
	place->best = better ? sum : place->best;
	place->piece = better ? piece : place->piece;
}

/* From the cut at text[0] to the next, *took bytes on: at each character all pieces that begin there, and the unknown token if
	none is just the character. words, spm: flags, constant at each call, so that each has its own code. */
KALM__INLINE kalm_result kalm__unigram_search(kalm__unigram *u, const unsigned char *text, size_t n, int words, int spm,
											  size_t *took)
{
	const kalm__tokenizer *t = u->out->t;
	const unsigned char *trie = t->part[KALM__SEC_TRIE], *scores = t->part[KALM__SEC_SCORES];
	uint32_t units = t->trie_units, tokens = t->tokens;
	kalm__unigram_place *place = u->place;
	size_t at = 0, furthest = 0;
	kalm_result r;
	do {
		size_t bytes = kalm__min(kalm__char_bytes(text + at), n - at), most = kalm__min((size_t)KALM__WALK_MOST, n - at), i;
		uint32_t node = kalm__u32(trie);
		int alone = 0;
		double here;
		if (u->places < at + KALM__WALK_MOST + 1) {
			size_t size = kalm__mul(u->places, sizeof *place);
			place = (kalm__unigram_place *)kalm__grow(u->out->alloc, u->out->err, place, u->local, size,
													  kalm__mul(size, 2), (furthest + 1) * sizeof *place);
			if (!place) return KALM_NO_MEMORY;
			u->place = place;
			u->places *= 2;
		}
		here = place[at].best;
		for (i = 0; i < most && !(words && i && text[at + i] == ' ');) {
			node = kalm__trie_step(trie, units, node, text[at + i++]);
			if (node == KALM__TOK_NONE) break;
			if (node & 0x100) {
				uint32_t id = kalm__trie_value(trie, units, node) & 0xfffff;
				if (id >= tokens) continue;
				kalm__unigram_offer(place, &furthest, at + i, kalm__score(scores, id) + here,
									id | (uint32_t)i << KALM__UNIGRAM_SIZE_AT, spm);
				alone |= i == bytes;
			}
		}
		if (!alone)
			kalm__unigram_offer(place, &furthest, at + bytes,
								spm ? (double)((float)t->unknown_score + (float)here) : t->unknown_score + here,
								KALM__UNIGRAM_UNKNOWN | (uint32_t)bytes << KALM__UNIGRAM_SIZE_AT, spm);
		at += bytes;
		if ((r = kalm__meter_add(&u->out->meter, i + 1, u->out->err)) != KALM_OK) return r;
	} while (at < furthest);
	place->best = place[at].best;
	kalm__unigram_flush(u, text, at);
	*took = at;
	return KALM_OK;
}

/* The piece that is all of text[0 .. n) up to the next cut goes out if it must be the best way: its bytes, or 0. */
KALM__INLINE size_t kalm__unigram_whole(kalm__unigram *u, const unsigned char *text, size_t n, int spm)
{
	const kalm__tokenizer *t = u->out->t;
	const unsigned char *trie = t->part[KALM__SEC_TRIE], *cuts = t->part[KALM__SEC_CUTS];
	uint32_t node = kalm__u32(trie), units = t->trie_units, id, code;
	size_t i = 0, most = kalm__min((size_t)KALM__WALK_MOST, n);
	uint64_t carried;  /* the bits of the sum */
	double sum;
	do {
		if (i == most) return 0;
		node = kalm__trie_step(trie, units, node, text[i++]);
		if (node == KALM__TOK_NONE) return 0;
	} while (!(node & 0x100) || (i < n && cuts[32u * text[i - 1] + text[i] / 8] >> (text[i] & 7) & 1));
	id = kalm__trie_value(trie, units, node);
	code = id >> KALM__WHOLE_AT & 63;
	id &= 0xfffff;
	memcpy(&carried, &u->place->best, 8);
	if (!code || (carried >> 52 & 0x7ff) >= 1023 + code || id >= t->tokens) return 0;  /* its exponent: |sum| < 2^code */
	sum = kalm__score(t->part[KALM__SEC_SCORES], id) + u->place->best;
	u->place->best = spm ? (double)(float)sum : sum;
	kalm__ids_put(u->out, id);
	return i;
}

/* Tokenise text[0 .. n), in inner form, on its own. */
KALM__FN kalm_result kalm__unigram_run(kalm__unigram *u, const unsigned char *text, size_t n)
{
	kalm__ids *o = u->out;
	int words = (o->t->flags & KALM__TOK_WORDS) != 0, spm = (o->t->flags & KALM__TOK_SPM) != 0;
	int known = o->t->size[KALM__SEC_CUTS] != 0;
	size_t pos, took;
	kalm_result r;
	o->after_unknown = 0;
	u->place->best = spm ? u->sum : 0;
	for (pos = 0; pos < n; pos += took) {  /* from cut to cut */
		const unsigned char *at = text + pos;
		size_t left = n - pos;
		if (words && *at == ' ') u->place->best = 0, o->after_unknown = 0;
		took = known ? kalm__unigram_whole(u, at, left, spm) : 0;
		if (took) r = kalm__meter_add(&o->meter, took, o->err);
		else if (spm) r = kalm__unigram_search(u, at, left, 0, 1, &took);
		else r = words ? kalm__unigram_search(u, at, left, 1, 0, &took) : kalm__unigram_search(u, at, left, 0, 0, &took);
		if (r) return r;
	}
	u->sum = u->place->best;
	return KALM_OK;
}

/* The token that is all of text[0 .. n), or KALM__TOK_NONE. marks: tokens that users may not write are found too. */
KALM__FN uint32_t kalm__word_token(const kalm__tokenizer *t, const unsigned char *text, size_t n, int marks)
{
	uint32_t value = kalm__trie_find(t->part[KALM__SEC_TRIE], t->trie_units, text, n);
	return value == KALM__TOK_NONE || ((value & KALM__PIECE_MARK) && !marks) ? KALM__TOK_NONE : value & 0xfffff;
}

/* The same as kalm__unigram_run for a vocabulary of words. Where spaces are not escaped, words begin at U+2581 all the same,
	as SentencePiece has it. */
KALM__FN kalm_result kalm__word_run(kalm__ids *o, const unsigned char *text, size_t n, int marks)
{
	const kalm__tokenizer *t = o->t;
	int escape = (t->flags & KALM__TOK_ESCAPE) != 0;
	size_t begin = 0, end;
	kalm_result r;
	o->after_unknown = 0;
	while (begin < n) {
		uint32_t id;
		for (end = begin + 1; end < n; end++)
			if (escape ? text[end] == ' ' : n - end >= 3 && !memcmp(text + end, "\xe2\x96\x81", 3)) break;
		id = kalm__word_token(t, text + begin, end - begin, marks);
		if (id < t->tokens) kalm__ids_put(o, id);
		else kalm__ids_unknown(o, text + begin, end - begin);
		if ((r = kalm__meter_add(&o->meter, end - begin, o->err)) != KALM_OK) return r;
		begin = end;
	}
	return KALM_OK;
}

/* ---- begin tokenizer/text.h ---- */
/* text.h - from a text to token ids, the whole way: added tokens and who may write them, SentencePiece's normalisation of a
	whole text, and the stretches between, which normal.h brings into inner form and bpe.h or unigram.h cuts into tokens. */
/* More is in docs/TOKENIZER.md. */
#define KALM__TEXT_H


typedef struct kalm__piece {
	kalm_text text;
	int trusted;
} kalm__piece;

/* Stretches of equal trust, the last one ends the text. */
typedef struct kalm__zone {
	size_t end;
	int trusted;
} kalm__zone;

#define KALM__LOCAL_ZONES 16

/* ---- added tokens ---- */

/* The longest added token at text[at] that may stand there; *id and its length, or 0. raw: the text is not normalised
	yet; by SentencePiece's rules a token with U+2581 has one form for before and one for after that. *steps grows by the
	units of the trie that were looked at. */
KALM__FN size_t kalm__added_at(const kalm__tokenizer *t, const unsigned char *text, size_t at, size_t n,
							   const kalm__zone *zone, int parse, int raw, uint32_t *id, size_t *steps)
{
	const unsigned char *trie = t->part[KALM__SEC_ADDED];
	uint32_t node = kalm__u32(trie), units = t->added_units;
	size_t i, found = 0;
	if (n - at > KALM__WALK_MOST) n = at + KALM__WALK_MOST;
	for (i = at; i < n; i++) {
		node = kalm__trie_step(trie, units, node, text[i]);
		if (node == KALM__TOK_NONE) break;
		if (node & 0x100) {
			uint32_t value = kalm__trie_value(trie, units, node), kind = value >> 24 & 3;
			int inside = zone->trusted && i < zone->end;
			if ((value & 0xffffffu) < t->tokens && !(value >> (raw ? 26 : 27) & 1)
				&& (kind == KALM__CLASS_TEXT || inside || (kind == KALM__CLASS_CONTROL && parse))) {
				found = i + 1 - at;
				*id = value & 0xffffffu;
			}
		}
	}
	*steps += i - at;
	return found;
}

/* ---- normalisation ---- */

/* How many bytes at text[0 .. n) SentencePiece's rules leave as they are: ASCII with single spaces in it, where neither a
	rule nor an added token begins. The text ends at `whole`, not before n. `space`: a space stands before. */
KALM__FN size_t kalm__plain_bytes(const kalm__tokenizer *t, const unsigned char *text, size_t n, size_t whole, int space)
{
	int trim = (t->flags & KALM__TOK_TRIM) != 0;
	size_t i;
	if (n > KALM__STEPS_BETWEEN) n = (size_t)KALM__STEPS_BETWEEN;
	for (i = 0; i < n && t->plain[text[i]]; i++) {
		int is_space = text[i] == ' ';
		if (is_space & space & trim) break;
		space = is_space;
	}
	if (i && i < whole && text[i] >= 0x80) i--;  /* a rule may begin with the byte before, and this one */
	return i;
}

/* One part of a text that normalisation treats as a whole. */
typedef struct kalm__normal_part {
	size_t take, size;  /* bytes of the text; bytes that stand for them ... */
	const unsigned char *with;  /* ... and which */
} kalm__normal_part;

/* The part at text[i]: an added token, else what a rule replaces, else a character. *steps grows by the work. */
KALM__FN kalm_result kalm__normal_part_at(const kalm__tokenizer *t, const unsigned char *text, size_t i, size_t n,
										  const kalm__zone *zone, int parse, kalm__normal_part *part, size_t *steps,
										  kalm_error *err)
{
	const char *with = NULL;
	uint32_t id;
	int c;
	part->with = text + i;
	part->take = part->size = t->part[KALM__SEC_FIRST][text[i]] ? kalm__added_at(t, text, i, n, zone, parse, 1, &id, steps) : 0;
	if (part->take) return KALM_OK;
	part->take = kalm__rule_at(t, text + i, n - i, &with, steps);
	if (part->take) {
		part->with = (const unsigned char *)(const void *)with;
		part->size = kalm__rule_bytes(t, with);
		if (part->size == SIZE_MAX)
			return kalm__fail(err, KALM_BAD_FILE, "the tokenizer's rules are damaged: one has no end");
		*steps += KALM__GROWTH_STEPS * part->size;
		return KALM_OK;
	}
	c = kalm__utf8(text + i, n - i);
	part->take = part->size = (size_t)(c < 0 ? -c : c);
	if (c < 0) {
		part->with = (const unsigned char *)"\xef\xbf\xbd";
		part->size = 3;
		return KALM_OK;
	}
	for (;;) {  /* and all that follow which are left as they are */
		size_t at = i + part->take;
		if (at >= kalm__min(zone->end, n) || text[at] < 0x80 || *steps > 4096 || t->part[KALM__SEC_FIRST][text[at]]) break;
		if (kalm__rule_at(t, text + at, n - at, &with, steps) || (c = kalm__utf8(text + at, n - at)) < 0) break;
		part->size = part->take += (size_t)c;
		*steps += (size_t)c;
	}
	return KALM_OK;
}

/* The whole text by SentencePiece's rules into inner form; the ends of the zones move along. */
KALM__FN kalm_result kalm__normalize_spm(const kalm__tokenizer *t, const unsigned char *text, size_t n, kalm__zone *zones,
										 size_t zone_count, int parse, kalm__buffer *out, kalm__meter *meter,
										 kalm_error *err)
{
	int escape = (t->flags & KALM__TOK_ESCAPE) != 0, trim = (t->flags & KALM__TOK_TRIM) != 0;
	int prefix = (t->flags & KALM__TOK_PREFIX) != 0, suffix = (t->flags & KALM__TOK_SUFFIX) != 0;
	int begun = 0, after_space = trim;
	size_t i = 0, z = 0;
	kalm_result r;
	while (i < n) {
		kalm__normal_part part;
		size_t steps = 1;
		while (z + 1 < zone_count && i >= zones[z].end) zones[z++].end = out->size;
		part.with = text + i;
		part.take = part.size = begun ? kalm__plain_bytes(t, text + i, kalm__min(zones[z].end, n) - i, n - i, after_space) : 0;
		steps += part.take;
		if (!part.take && (r = kalm__normal_part_at(t, text, i, n, zones + z, parse, &part, &steps, err)) != KALM_OK) return r;
		if ((r = kalm__meter_add(meter, steps, err)) != KALM_OK) return r;
		i += part.take;
		if (!begun) {  /* spaces before the first other thing go without a trace */
			if (trim && part.size == 1 && *part.with == ' ') continue;
			begun = 1;
			if (prefix && !suffix && (r = kalm__put_inner(out, (const unsigned char *)" ", 1, 0, err)) != KALM_OK) return r;
		}
		while (after_space && part.size && *part.with == ' ') part.with++, part.size--;
		if (!part.size) continue;
		after_space = trim && part.with[part.size - 1] == ' ';
		if ((r = kalm__put_inner(out, part.with, part.size, escape, err)) != KALM_OK) return r;
	}
	if (begun) {
		while (trim && out->size && out->data[out->size - 1] == ' ') out->size--;
		if (prefix && suffix && (r = kalm__put_inner(out, (const unsigned char *)" ", 1, 0, err)) != KALM_OK) return r;
	}
	for (; z < zone_count; z++) zones[z].end = out->size;
	while (z--) zones[z].end = kalm__min(zones[z].end, out->size);
	return KALM_OK;
}

/* ---- the whole way ---- */

/* What cuts a stretch into tokens, by the kind of vocabulary. */
typedef struct kalm__cutter {
	kalm__ids out;
	int parse;  /* KALM_PARSE_CONTROL */
	union {
		kalm__bpe bpe;
		kalm__unigram unigram;
	} by;
} kalm__cutter;

KALM__FN void kalm__cutter_begin(kalm__cutter *c, const kalm__tokenizer *t, const kalm_allocator *alloc, int32_t *ids,
								 size_t capacity, int parse, kalm_error *err)
{
	c->out.t = t, c->out.alloc = alloc, c->out.err = err, c->out.ids = ids, c->out.capacity = capacity;
	c->out.count = 0;
	c->out.after_unknown = 0;
	c->parse = parse;
	if (t->model == KALM__MODEL_BPE) kalm__bpe_begin(&c->by.bpe, &c->out);
	if (t->model == KALM__MODEL_UNIGRAM) kalm__unigram_begin(&c->by.unigram, &c->out);
}

KALM__FN void kalm__cutter_end(kalm__cutter *c)
{
	if (c->out.t->model == KALM__MODEL_BPE) kalm__bpe_end(&c->by.bpe);
	if (c->out.t->model == KALM__MODEL_UNIGRAM) kalm__unigram_end(&c->by.unigram);
}

KALM__FN kalm_result kalm__cut_stretch(kalm__cutter *c, const unsigned char *inner, size_t n)
{
	if (c->out.t->model == KALM__MODEL_BPE) return kalm__bpe_run(&c->by.bpe, inner, n);
	if (c->out.t->model == KALM__MODEL_UNIGRAM) return kalm__unigram_run(&c->by.unigram, inner, n);
	return kalm__word_run(&c->out, inner, n, c->parse);
}

/* A stretch that holds no added token. plain: it is its own inner form. */
KALM__FN kalm_result kalm__tokenize_stretch(kalm__cutter *c, const unsigned char *text, size_t n, int plain, int first)
{
	kalm__buffer inner;
	kalm_result r;
	if (!n) return KALM_OK;
	if (plain) return kalm__cut_stretch(c, text, n);
	kalm__buffer_begin(&inner, c->out.alloc);
	r = kalm__stretch(c->out.t, text, n, first, &inner, &c->out.meter, c->out.err);
	if (r == KALM_OK) r = kalm__cut_stretch(c, inner.data, inner.size);
	kalm__buffer_end(&inner);
	return r;
}

/* Added token `id` stands at text[pos], *size bytes; what is before it since `start` ends at *end. Some tokens of Hugging
	Face's take the white space to their left or right as well. */
KALM__FN void kalm__added_spaces(const kalm__tokenizer *t, uint32_t id, const unsigned char *text, size_t start, size_t *end,
								 size_t pos, size_t n, size_t *size)
{
	unsigned kind = t->part[KALM__SEC_KINDS][id], bytes;
	if (kind & KALM__KIND_LEFT)
		while (*end > start) {
			size_t back = *end - 1;
			while (back > start && *end - back < 3 && (text[back] & 0xc0) == 0x80) back--;
			bytes = kalm__white_bytes(text + back, *end - back);
			if (bytes != *end - back) break;
			*end = back;
		}
	if (kind & KALM__KIND_RIGHT)
		while (pos + *size < n && (bytes = kalm__white_bytes(text + pos + *size, n - pos - *size)) != 0) *size += bytes;
}

/* text[0 .. n) in its zones; by SentencePiece's rules it is normalised already. */
KALM__FN kalm_result kalm__tokenize_zones(kalm__cutter *c, const unsigned char *text, size_t n, const kalm__zone *zone)
{
	const kalm__tokenizer *t = c->out.t;
	const unsigned char *begins = t->part[KALM__SEC_FIRST];
	int escape = (t->flags & KALM__TOK_ESCAPE) != 0, normalized = (t->flags & KALM__TOK_SPM) != 0;
	int changes = !normalized && ((t->flags & KALM__TOK_PREFIX) || t->model != KALM__MODEL_BPE), plain = !changes;
	size_t pos = 0, start = 0, steps = 0;
	kalm_result r;
	while (pos < n) {
		unsigned value = text[pos];
		if (begins[value]) {
			size_t size;
			uint32_t id = 0;
			while (pos >= zone->end) zone++;  /* the last zone ends at n */
			size = kalm__added_at(t, text, pos, n, zone, c->parse, 0, &id, &steps);
			if ((r = kalm__meter_add(&c->out.meter, steps, c->out.err)) != KALM_OK) return r;
			steps = 0;
			if (size) {
				size_t end = pos;
				if (t->model != KALM__MODEL_BPE) kalm__added_spaces(t, id, text, start, &end, pos, n, &size);
				r = kalm__tokenize_stretch(c, text + start, end - start, plain, start == 0);
				if (r) return r;
				if (t->model == KALM__MODEL_UNIGRAM && normalized) kalm__unigram_pass(&c->by.unigram, id);
				kalm__ids_put(&c->out, id);
				start = pos += size;
				plain = !changes;
				continue;
			}
		}
		if (value < 0x80) pos++;
		else {
			int k = kalm__utf8(text + pos, n - pos);
			if (!normalized && (k < 0 || (t->flags & KALM__TOK_NORMAL)
								|| (escape && kalm__is_escaped_space(text + pos, n - pos)))) plain = 0;
			pos += (size_t)(k < 0 ? -k : k);
		}
	}
	return kalm__tokenize_stretch(c, text + start, n - start, plain, start == 0);
}

/* The ids of pieces that are tokenised as one text: merges and added tokens cross their borders. Writes the first
	`capacity` ids and sets *count to how many there are. `interrupt` is asked while a long text is tokenised (bpe.h); NULL:
	nobody is. */
KALM__FN kalm_result kalm__tokenize_pieces(const kalm__tokenizer *t, const kalm_allocator *alloc,
										   const kalm__interrupt *interrupt, const kalm__piece *pieces, size_t n,
										   uint32_t flags, int32_t *ids, size_t capacity, size_t *count, kalm_error *err)
{
	kalm__cutter c;
	kalm__buffer whole, inner;
	kalm__zone local_zones[KALM__LOCAL_ZONES], *zones = local_zones;
	size_t zone_count = 0, total = 0, i;
	int parse = (flags & KALM_PARSE_CONTROL) != 0;
	const unsigned char *text = NULL;
	kalm_result r = KALM_OK;
	*count = 0;
	if (n > KALM__LOCAL_ZONES) {
		zones = (kalm__zone *)kalm__alloc(alloc, kalm__mul(n, sizeof *zones));
		if (!zones) return kalm__fail(err, KALM_NO_MEMORY, "no memory to tokenise %z pieces of text", n);
	}
	kalm__buffer_begin(&whole, alloc);
	kalm__buffer_begin(&inner, alloc);
	for (i = 0; i < n; i++) total = kalm__add(total, kalm__resolve(pieces[i].text).size);
	if (n > 1) r = kalm__buffer_room(&whole, total, err);
	for (i = 0; i < n && r == KALM_OK; i++) {
		kalm_text one = kalm__resolve(pieces[i].text);
		if (!one.size) continue;
		if (n > 1) memcpy(whole.data + whole.size, one.data, one.size);
		else text = (const unsigned char *)one.data;
		whole.size += one.size;
		if (zone_count && !zones[zone_count - 1].trusted == !pieces[i].trusted) zone_count--;
		zones[zone_count].trusted = pieces[i].trusted;
		zones[zone_count++].end = whole.size;
	}
	if (n > 1) text = whole.data;
	if (r == KALM_OK && total) {
		kalm__cutter_begin(&c, t, alloc, ids, capacity, parse, err);
		kalm__meter_begin(&c.out.meter, interrupt, total);
		if (t->flags & KALM__TOK_SPM) {
			r = kalm__normalize_spm(t, text, total, zones, zone_count, parse, &inner, &c.out.meter, err);
			text = inner.data;
			total = inner.size;
		}
		if (r == KALM_OK) r = kalm__tokenize_zones(&c, text, total, zones);
		if (r == KALM_OK) *count = c.out.count;
		kalm__cutter_end(&c);
	}
	kalm__buffer_end(&inner);
	kalm__buffer_end(&whole);
	if (zones != local_zones) kalm__release(alloc, zones, n * sizeof *zones);
	return r;
}

/* The ids of one text of a user. */
KALM__FN kalm_result kalm__tokenize(const kalm__tokenizer *t, const kalm_allocator *alloc, const kalm__interrupt *interrupt,
									kalm_text text, uint32_t flags, int32_t *ids, size_t capacity, size_t *count,
									kalm_error *err)
{
	kalm__piece piece;
	piece.text = text;
	piece.trusted = 0;
	return kalm__tokenize_pieces(t, alloc, interrupt, &piece, 1, flags, ids, capacity, count, err);
}

/* ---- begin tokenizer/decode.h ---- */
/* decode.h - token ids back to text. A tokenizer follows one of two sets of rules. */
/* More is in docs/TOKENIZER.md. */
#define KALM__DECODE_H


/* Text of which the first `capacity` bytes are written, and all are counted. */
typedef struct kalm__text_out {
	char *text;
	size_t capacity, size;  /* size: of the whole text, also of what was not written */
	const kalm__tokenizer *rules;  /* of a denormalizer, or NULL */
	size_t held;  /* bytes in `ahead` */
	int begun;  /* some text came */
	unsigned char ahead[4 * KALM__WALK_MOST];
} kalm__text_out;

KALM__FN void kalm__out_write(kalm__text_out *o, const void *s, size_t n)
{
	if (o->size < o->capacity) memcpy(o->text + o->size, s, kalm__min(n, o->capacity - o->size));
	o->size = kalm__add(o->size, n);  /* SIZE_MAX if it is too large for a size_t */
}

/* What is held goes out by the rules, up to its last `keep` bytes. */
KALM__FN void kalm__out_denormalized(kalm__text_out *o, size_t keep)
{
	size_t i, take, size, steps = 0;
	for (i = 0; i + keep < o->held; i += take) {
		const unsigned char *at = o->ahead + i;
		const char *with = NULL;
		take = kalm__rule_at(o->rules, at, o->held - i, &with, &steps);
		size = take ? kalm__rule_bytes(o->rules, with) : SIZE_MAX;
		if (size == SIZE_MAX) {  /* none fits, or it is damaged */
			int c = kalm__utf8(at, o->held - i);
			take = size = (size_t)(c < 0 ? -c : c);
			with = (const char *)at;
			if (c < 0) with = "\xef\xbf\xbd", size = 3;
		}
		kalm__out_write(o, with, size);
	}
	memmove(o->ahead, o->ahead + i, o->held -= i);
}

KALM__FN void kalm__out(kalm__text_out *o, const char *s, size_t n)
{
	o->begun |= n > 0;
	if (!o->rules) kalm__out_write(o, s, n);
	else
		while (n) {
			size_t some = kalm__min(n, sizeof o->ahead - o->held);
			memcpy(o->ahead + o->held, s, some);
			o->held += some, s += some, n -= some;
			if (o->held == sizeof o->ahead) kalm__out_denormalized(o, KALM__WALK_MOST + 3);  /* a rule, or a character */
		}
}

/* The byte that a byte token stands for; -1 if the id is not one of a byte token. */
KALM__FN int kalm__token_byte(const kalm__tokenizer *t, int32_t id)
{
	kalm_text s;
	if (id < 0 || (uint32_t)id >= t->tokens || t->part[KALM__SEC_KINDS][id] != KALM__KIND_BYTE) return -1;
	s = kalm__token_bytes(t, id);
	return s.size == 1 ? (unsigned char)s.data[0] : -1;
}

/* Write the text of ids[from .. to), all of which are byte tokens or ids that the vocabulary lacks. By Hugging Face's rules a
	first pass asks whether all of it is UTF-8. */
KALM__FN void kalm__decode_bytes(const kalm__tokenizer *t, const int32_t *ids, size_t from, size_t to, kalm__text_out *o)
{
	unsigned char bytes[4];
	int pass, whole = 1, k;
	for (pass = (t->flags & KALM__TOK_SPM) != 0; pass < 2; pass++) {
		size_t i = from, n = 0;
		for (;;) {
			for (; n < 4 && i < to; i++)
				if ((k = kalm__token_byte(t, ids[i])) >= 0) bytes[n++] = (unsigned char)k;
			if (!n) break;
			k = kalm__utf8(bytes, n);
			if (!pass && k < 0) whole = 0;
			if (k > 0 && whole) {
				if (pass) kalm__out(o, (const char *)bytes, (size_t)k);
			} else {
				if (pass) kalm__out(o, "\xef\xbf\xbd", 3);
				k = 1;
			}
			n -= (size_t)k;
			memmove(bytes, bytes + k, n);
		}
	}
}

/* kalm_detokenize of api.h, for a tokenizer. */
KALM__FN kalm_result kalm__detokenize(const kalm__tokenizer *t, const int32_t *ids, size_t count, char *text,
									  size_t capacity, size_t *size, kalm_error *err)
{
	const unsigned char *kinds = t->part[KALM__SEC_KINDS];
	int spm = (t->flags & KALM__TOK_SPM) != 0, escape = spm || (t->flags & KALM__TOK_ESCAPE) != 0, at_start = 1, took = 0;
	int strip = (t->flags & KALM__TOK_STRIP) != 0;
	kalm__text_out o;
	kalm__tokenizer denormalizer;
	size_t i = 0, k;
	o.text = text, o.capacity = capacity, o.size = o.held = 0;
	o.begun = 0;
	o.rules = NULL;
	if (t->flags & KALM__TOK_DENORMAL) {
		o.rules = &denormalizer;
		denormalizer = *t;
		denormalizer.part[KALM__SEC_RULES] += 4 * (size_t)t->rule_units;
		denormalizer.rule_units = (uint32_t)(t->size[KALM__SEC_RULES] / 4) - t->rule_units;
		denormalizer.part[KALM__SEC_TEXTS] += t->denormal_texts;
		denormalizer.size[KALM__SEC_TEXTS] -= t->denormal_texts;
	}
	while (i < count) {
		int32_t id = ids[i];
		kalm_text s;
		if (kalm__token_byte(t, id) >= 0) {
			size_t from = i;
			while (i < count && (kalm__token_byte(t, ids[i]) >= 0 || (!spm && !kalm__token_bytes(t, ids[i]).data))) i++;
			kalm__decode_bytes(t, ids, from, i, &o);
			strip = 0;
			continue;
		}
		i++;
		s = kalm__token_bytes(t, id);
		if (!s.data) {
			if (spm) return kalm__fail(err, KALM_BAD_ARGUMENT, "token id %d is not in the vocabulary of %u", (int)id,
									   t->tokens);
			continue;
		}
		if (spm) {
			if (took || o.begun) at_start = 0;
			took = 0;
			if (kinds[id] == KALM__KIND_CONTROL) continue;
			if (kinds[id] == KALM__KIND_UNKNOWN) {
				kalm__out(&o, (const char *)t->part[KALM__SEC_UNKNOWN], t->size[KALM__SEC_UNKNOWN]);
				continue;
			}
			if (at_start && (t->flags & (KALM__TOK_PREFIX | KALM__TOK_TRIM))
				&& kalm__is_escaped_space((const unsigned char *)s.data, s.size)) {
				s.data += 3;
				s.size -= 3;
				took = !(t->flags & KALM__TOK_TRIM);
			}
		}
		for (k = 0; k < s.size;) {
			size_t from = k;
			while (k < s.size && !(escape && kalm__is_escaped_space((const unsigned char *)s.data + k, s.size - k))) k++;
			if (k > from) {
				size_t skip = strip && s.data[from] == ' ';
				kalm__out(&o, s.data + from + skip, k - from - skip);
				strip = 0;
			}
			if (k < s.size) {
				if (!strip) kalm__out(&o, " ", 1);
				strip = 0;
				k += 3;
			}
		}
	}
	if (o.rules) kalm__out_denormalized(&o, 0);
	*size = o.size;
	return KALM_OK;
}


/* Matrix products and the float work between them: one constant table for each instruction set. */
/* ---- begin src/cpu.h ---- */
/* cpu.h - what this machine can run. Asks the processor and, where registers must be saved by it, the system: on x86
	CPUID and XCR0 both (feature bits alone crash on systems that mask AVX-512), on ARM the system; and what WebAssembly's
	relaxed dot product is on this engine, by trying it. Says nothing about which set is best (kernel_sets.h). */
#define KALM__CPU_H


#if KALM__X86
#  if defined(_MSC_VER)
#    include <intrin.h>
#  else
#    include <cpuid.h>
#  endif
#elif KALM__NEON
#  if defined(__linux__) || defined(__ANDROID__)
#    include <sys/auxv.h>
#  elif defined(__APPLE__)
#    include <sys/types.h>
#    include <sys/sysctl.h>
#  endif
#elif KALM__WASM_RELAXED
#  include <wasm_simd128.h>
#elif KALM__RVV && defined(__linux__)
#  include <sys/auxv.h>
#endif

/* Bits of kalm__cpu_features(). */
enum {
	KALM__CPU_AVX2 = 1,  /* with FMA and F16C: every AVX2 machine but one early VIA has them */
	KALM__CPU_AVXVNNI = 2,  /* vpdpbusd on ymm, VEX encoded */
	KALM__CPU_AVX512VNNI = 4,  /* with F, BW, DQ, VL */
	KALM__CPU_NEON = 16,
	KALM__CPU_DOTPROD = 32,
	KALM__CPU_I8MM = 64,
	KALM__CPU_AVX512BF16 = 128,
	KALM__CPU_RVV = 8,  /* RISC-V's vectors, 1.0 */
	KALM__CPU_SDOT = 256,  /* WebAssembly's relaxed_dot is that of ARM: sdot, or smull */
	KALM__CPU_VNNI = 512,  /* it is vpdpbusd */
	KALM__CPU_VNNI8 = 1024,  /* it is vpdpbssd */
	KALM__CPU_AMX = 2048  /* AMX-INT8, with what AVX512VNNI stands for; see kalm__may_use_tiles */
};

#if KALM__X86
KALM__FN void kalm__cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
#  if defined(_MSC_VER)
	int v[4];
	__cpuidex(v, (int)leaf, (int)sub);
	r[0] = (uint32_t)v[0], r[1] = (uint32_t)v[1], r[2] = (uint32_t)v[2], r[3] = (uint32_t)v[3];
#  else
	__cpuid_count(leaf, sub, r[0], r[1], r[2], r[3]);
#  endif
}

/* The low 32 bits of XCR0: which registers the system saves. Only valid when CPUID says OSXSAVE. */
KALM__FN uint32_t kalm__xcr0(void)
{
#  if defined(_MSC_VER) && !defined(__clang__)
	return (uint32_t)_xgetbv(0);
#  else
	uint32_t low, high;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	(void)high;
	return low;
#  endif
}

#  if KALM__HAVE_AMX
KALM__FN long kalm__arch_prctl(long code, uintptr_t arg)
{
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "a"(158L), "D"(code), "S"(arg) : "rcx", "r11", "memory");
	return r;
}
#  endif

/* Linux must be asked, ARCH_REQ_XCOMP_PERM(XTILEDATA), by whoever will use tiles and by nobody else: the answer is for the whole
	process and for good. No, where a thread's alternate stack for signals cannot hold tiles; after a yes none may be set that cannot. */
KALM__FN int kalm__may_use_tiles(void)
{
#  if KALM__HAVE_AMX && !defined(KALM__TILE_DOT)
	return kalm__arch_prctl(0x1023, 18) == 0;
#  else
	return 1;
#  endif
}

KALM__FN unsigned kalm__cpu_features(void)
{
	uint32_t r[4], leaf1, leaf7b, leaf7c, leaf7d, saved, leaves;
	unsigned found = 0;
	kalm__cpuid(0, 0, r);
	leaves = r[0];
	if (leaves < 7) return 0;
	kalm__cpuid(1, 0, r);
	leaf1 = r[2];
	if (!(leaf1 >> 27 & 1)) return 0;  /* OSXSAVE */
	saved = kalm__xcr0();
	kalm__cpuid(7, 0, r);
	leaf7b = r[1], leaf7c = r[2], leaf7d = r[3];
	if ((saved & 0x06) == 0x06 && (leaf1 >> 28 & 1) && (leaf1 >> 12 & 1) && (leaf1 >> 29 & 1) && (leaf7b >> 5 & 1)) {
		uint32_t leaf71a = 0;
		if (r[0] >= 1) {  /* subleaves */
			kalm__cpuid(7, 1, r);
			leaf71a = r[0];
		}
		found |= KALM__CPU_AVX2;  /* AVX, FMA, F16C, AVX2; xmm and ymm saved */
		if (leaf71a >> 4 & 1) found |= KALM__CPU_AVXVNNI;
		/* F 16, DQ 17, BW 30, VL 31; VNNI 11; opmask, upper zmm and zmm 16..31 saved */
		if ((saved & 0xe6) == 0xe6 && (leaf7b & 0xc0030000u) == 0xc0030000u && (leaf7c >> 11 & 1)) {
			found |= KALM__CPU_AVX512VNNI;
#  if defined(KALM__TILE_DOT)  /* tests */
			found |= KALM__CPU_AMX;
#  elif KALM__HAVE_AMX
			uint64_t known = 0;  /* ARCH_GET_XCOMP_SUPP */
			if ((leaf7d >> 24 & 3) == 3 && (saved & 0x60000) == 0x60000 && kalm__arch_prctl(0x1021, (uintptr_t)&known) == 0 && known >> 18 & 1)
				found |= KALM__CPU_AMX;
#  endif
			if (leaf71a >> 5 & 1) found |= KALM__CPU_AVX512BF16;
#  if defined(KALM__EVEX_VNNI) && defined(__GNUC__)
			found |= KALM__CPU_AVXVNNI;
#  endif
		}
	}
	(void)leaf7d;
	return found;
}
#elif KALM__NEON64
#  if defined(__APPLE__)
KALM__FN int kalm__sysctl_flag(const char *name)
{
	int value = 0;
	size_t size = sizeof value;
	return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value;
}
#  endif
KALM__FN unsigned kalm__cpu_features(void)
{
	unsigned found = KALM__CPU_NEON;
#  if defined(__linux__) || defined(__ANDROID__)
	/* the kernel's HWCAP_ASIMDDP and HWCAP2_I8MM; by number, since old headers lack the names */
	if (getauxval(16) >> 20 & 1) found |= KALM__CPU_DOTPROD;
	if ((found & KALM__CPU_DOTPROD) && (getauxval(26) >> 13 & 1)) found |= KALM__CPU_I8MM;
#  elif defined(__APPLE__)
	if (kalm__sysctl_flag("hw.optional.arm.FEAT_DotProd")) found |= KALM__CPU_DOTPROD;
	if ((found & KALM__CPU_DOTPROD) && kalm__sysctl_flag("hw.optional.arm.FEAT_I8MM")) found |= KALM__CPU_I8MM;
#  elif defined(_WIN32)
	/* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE, PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE */
	if (IsProcessorFeaturePresent(43)) found |= KALM__CPU_DOTPROD;
	if ((found & KALM__CPU_DOTPROD) && IsProcessorFeaturePresent(66)) found |= KALM__CPU_I8MM;
#  else  /* no way to ask: what the compiler was told to assume */
#    if defined(__ARM_FEATURE_DOTPROD)
	found |= KALM__CPU_DOTPROD;
#    endif
#    if defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8)
	found |= KALM__CPU_I8MM;
#    endif
#  endif
	return found;
}
#elif KALM__RVV
KALM__FN unsigned kalm__cpu_features(void)
{
#  if defined(__linux__)
	return getauxval(16) >> ('V' - 'A') & 1 ? KALM__CPU_RVV : 0;  /* AT_HWCAP has a bit for each letter */
#  else
	return KALM__CPU_RVV;  /* compiled for it */
#  endif
}
#elif KALM__NEON
KALM__FN unsigned kalm__cpu_features(void) { return KALM__CPU_NEON; }  /* compiled for it, so it is there */
#elif KALM__WASM_RELAXED
/* acc + a . b, four products of bytes in each dword, of a with its sign; what the sign of b is, and whether pairs of products
	saturate in 16 bits, the standard leaves to the engine. clang's header has names for relaxed instructions from 17 on. */
KALM__INLINE v128_t kalm__relaxed_dot(v128_t acc, v128_t a, v128_t b)
{
#  if defined(KALM__SIGNED_DOT) || defined(KALM__UNSIGNED_DOT)  /* tests: sdot, vpdpbusd */
#    if defined(KALM__SIGNED_DOT)
	v128_t low = wasm_i16x8_extend_low_i8x16(b), high = wasm_i16x8_extend_high_i8x16(b);
#    else
	v128_t low = wasm_u16x8_extend_low_u8x16(b), high = wasm_u16x8_extend_high_u8x16(b);
#    endif
	low = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(a), low);
	high = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(a), high);
	acc = wasm_i32x4_add(acc, wasm_i32x4_shuffle(low, high, 0, 2, 4, 6));
	return wasm_i32x4_add(acc, wasm_i32x4_shuffle(low, high, 1, 3, 5, 7));
#  elif __clang_major__ >= 17
	return wasm_i32x4_relaxed_dot_i8x16_i7x16_add(a, b, acc);
#  else
	return (v128_t)__builtin_wasm_relaxed_dot_i8x16_i7x16_add_s_i32x4((__i8x16)a, (__i8x16)b, (__i32x4)acc);
#  endif
}

/* WebAssembly does not tell its processor, so two products are tried. Sums of pairs that 16 bits cannot hold tell vpdpbusd from
	pmaddubsw, which saturates them; a negative byte tells sdot from both. Whether a signed product is ARM's or x86's, the sign of
	a NaN that the processor makes says: x86 sets it. Only speed depends on these answers (kernels_wasm_relaxed.h checks what it
	computes). */
KALM__FN unsigned kalm__cpu_features(void)
{
#  if defined(KALM__ALL_DOTS)  /* tests */
	return KALM__CPU_SDOT | KALM__CPU_VNNI | KALM__CPU_VNNI8;
#  else
	volatile float zero = 0.0f;
	float nan = zero / zero;
	uint32_t bits;
	v128_t acc = wasm_i32x4_splat((int)zero), w = wasm_i8x16_splat(127);
	int negative = wasm_i32x4_extract_lane(kalm__relaxed_dot(acc, w, wasm_i8x16_splat(-127)), 0);
	int large = wasm_i32x4_extract_lane(kalm__relaxed_dot(acc, w, wasm_i8x16_splat(-1)), 0);
	memcpy(&bits, &nan, 4);
	if (negative == -4 * 127 * 127) return bits >> 31 ? KALM__CPU_VNNI8 : KALM__CPU_SDOT;
	return large == 4 * 127 * 255 ? KALM__CPU_VNNI : 0;
#  endif
}
#else
KALM__FN unsigned kalm__cpu_features(void) { return 0; }
#endif

/* ---- begin src/kernels.h ---- */
/* kernels.h - the contract of the kernel sets: how matrices and activations are packed, what a product computes, and the table by
	which each instruction set says what it has. Knows nothing of layers or attention. */
/* More is in docs/FORMAT.md. */
#define KALM__KERNELS_H


enum {
	KALM__F32 = 0, KALM__F16 = 1, KALM__BF16 = 2, KALM__Q8 = 3, KALM__Q4 = 4,
	KALM__TYPES = 5,  /* that a file may have */
	KALM__Q16 = 5
};

typedef struct kalm__matrix {
	uint32_t type;  /* KALM__F32 ... KALM__Q4 */
	uint32_t rows, cols;  /* outputs n, inputs k */
	const void *data;  /* panels, 64-byte aligned */
	size_t stride; /* bytes from a panel to the next, a multiple of 64; 0: kalm__panel_bytes().
			With it data may be a range of the inputs of a larger matrix: whole groups
			of 32 of q8 (with sums of their own), any of f32, even ones of f16, bf16 */
	const float *scale;  /* [round_up(rows, 16)], NULL for float types */
	const int32_t *sum;  /* [round_up(rows, 16)], NULL for float types */
} kalm__matrix;

KALM__INLINE int kalm__is_quantised(uint32_t type) { return type == KALM__Q8 || type == KALM__Q4; }

/* The largest L with cols * L * L < 2^31, so that no sum of products of int16 overflows: 2896 for 256 inputs. cols is at
	most 2^21. */
KALM__FN int32_t kalm__int16_limit(size_t cols)
{
	uint32_t below = 0x7fffffffu / (uint32_t)kalm__round_up(cols ? cols : 1, KALM__GROUP), bit, root = 0;
	for (bit = 1u << 14; bit; bit >>= 1)
		if ((root + bit) * (root + bit) <= below) root += bit;
	return (int32_t)root;
}

/* The largest split16 activation, 127 * 256 + 127: two signed bytes. */
enum { KALM__SPLIT16_MAX = 32639, KALM__SPLIT16_COLS = 256 };

/* Bytes of one panel (16 outputs) of a matrix with `cols` inputs. */
KALM__FN size_t kalm__panel_bytes(uint32_t type, size_t cols)
{
	switch (type) {
	case KALM__F32: return kalm__mul(64, cols);
	case KALM__F16:
	case KALM__BF16: return kalm__round_up(kalm__mul(32, cols), 64);
	case KALM__Q8: return kalm__q8_panel_bytes(cols);
	case KALM__Q16: return kalm__mul(2, kalm__q8_panel_bytes(cols));
	default: return kalm__q4_panel_bytes(cols);
	}
}

KALM__INLINE size_t kalm__panel_stride(const kalm__matrix *w)
{
	return w->stride ? w->stride : kalm__panel_bytes(w->type, w->cols);
}

/* A block: rows that are packed together, as activations for a matrix of `type` with `cols` inputs. Work on it may be cut by
	rows, for threads or caches: a piece begins at a multiple of KALM__ACTS_STEP and ends where the next begins, or at `rows`.
	Results do not depend on the cuts. */
typedef struct kalm__block {
	uint32_t type;
	size_t rows, cols;
	void *acts;  /* kalm__acts_bytes() (kernels_tiles.h), at a multiple of 64 */
} kalm__block;
enum { KALM__ACTS_STEP = 48 };

KALM__INLINE kalm__block kalm__block_of(uint32_t type, size_t rows, size_t cols, void *acts)
{
	kalm__block b;
	b.type = type, b.rows = rows, b.cols = cols, b.acts = acts;
	return b;
}

/* A product: rows [row0, row0 + n) of a block that was packed for w, times panels [panel0, panel0 + panels) of w. y[r - row0]
	[16 * p + j - 16 * panel0], rows `stride` floats apart; columns at or behind w->rows are not written. Fast when n is 128 to
	512 (a q4 panel is unpacked once a call) and panels at least 4. */
typedef struct kalm__matmul_job {
	const kalm__matrix *w;
	const void *acts;
	size_t rows;  /* of the block */
	size_t row0, n, panel0, panels;
	float *y;
	size_t stride;
	void *scratch;  /* kalm__matmul_scratch() bytes, at a multiple of 64 */
	const void *next;  /* panels that the caller wants next, asked for during the last of these; or NULL */
} kalm__matmul_job;

/* One instruction set: its name, its operations on floats (ops.h), and how it multiplies matrices of each type (kernels_tiles.h).
	The sets are constant tables; a context holds a pointer to one. */
struct kalm__ops;
struct kalm__tiles;
struct kalm__four_rows;
typedef struct kalm__kernels {
	const char *name;
	const struct kalm__ops *ops;
	const struct kalm__tiles *tiles[KALM__TYPES + 1];  /* by type; NULL: plain C, kernels_scalar.h */
	/* Pack four rows of split16 activations: the low bytes into the tile, the high ones into `high`. NULL: the set's q8 tiles
		hold int16 and take them whole. */
	void (*pack_split16)(const struct kalm__four_rows *f);
	/* y[w->rows] = (float)(sum of high * q_w) of one row of high bytes [KALM__SPLIT16_COLS]; 0, and y as it was, where all of
		them are 0. NULL where pack_split16 is NULL. */
	int (*multiply_high)(const kalm__matrix *w, const uint8_t *high, float *y);
} kalm__kernels;

/* Rows whose largest value is below this count as zero: 2^-100, far under what a float model computes with, and far
	enough above FLT_MIN that 127 / m is finite and m / 127 is not subnormal. */
#define KALM__TINY_ROW 7.8886091e-31f

/* The scale of a row from its largest magnitude m, and what to multiply the row by; limit: L above. */
KALM__INLINE float kalm__row_scale(float m, float limit, float *inverse)
{
	if (!(m >= KALM__TINY_ROW)) {
		*inverse = 0.0f;
		return 0.0f;
	}
	*inverse = kalm__over(limit, m);
	return kalm__times(m, kalm__over(1.0f, limit));
}

/* KALM__REP_n(each): each(0) each(1) ... each(n - 1) */
#define KALM__REP_1(each) each(0)
#define KALM__REP_2(each) KALM__REP_1(each) each(1)
#define KALM__REP_3(each) KALM__REP_2(each) each(2)
#define KALM__REP_4(each) KALM__REP_3(each) each(3)
#define KALM__REP_5(each) KALM__REP_4(each) each(4)
#define KALM__REP_6(each) KALM__REP_5(each) each(5)
#define KALM__REP_7(each) KALM__REP_6(each) each(6)
#define KALM__REP_8(each) KALM__REP_7(each) each(7)
#define KALM__REP_9(each) KALM__REP_8(each) each(8)
#define KALM__REP_10(each) KALM__REP_9(each) each(9)
#define KALM__REP_11(each) KALM__REP_10(each) each(10)
#define KALM__REP_12(each) KALM__REP_11(each) each(11)

/* ---- begin src/ops.h ---- */
/* ops.h - the float work between matmuls (norms, rotary, GeGLU, softmax pieces, dots), for every instruction set: the
	vector vocabularies, and the choice of one table. The algorithms stand in ops_template.h; all tables give the same bits. */
/* More is in docs/KERNELS.md. */
#define KALM__OPS_H


#if KALM__X86
#  include <immintrin.h>
#endif
#if KALM__NEON
#  include <arm_neon.h>
#endif
#if KALM__WASM
#  include <wasm_simd128.h>
#endif

/* Contracts at the functions' definitions in ops_template.h. */
typedef struct kalm__ops {
	void (*rms_norm)(float *y, const float *x, const float *gain, size_t n, float eps, size_t rows);
	void (*add_norm)(float *x, const float *y, const float *gain, size_t n, float eps, size_t rows);
	void (*norm_rotate)(float *y, const float *x, const float *gain, size_t dim, float eps, float scale, const float *angles,
					  size_t heads);
	void (*add_angles)(float *out, const float *a, const float *b, size_t half);
	void (*geglu)(float *h, const float *gate, const float *up, size_t n);
	float (*row_max)(const float *x, size_t n);
	float (*exp_sum)(float *p, size_t n, float top, const float *scale, float *most);
	float (*sum_below)(const float *p, size_t n, float limit, float *all);
	void (*scale_add)(float *y, float scale, const float *x, size_t n);
	void (*scale_row)(float *y, const float *x, float scale, size_t n);
	float (*dot)(const float *x, const float *y, size_t n);
	void (*hadamard)(float *y, const float *x, size_t n);
	float (*quantise)(int8_t *q, const float *x, size_t n);
	float (*quantise_int16)(int16_t *q, const float *x, size_t n, float most);
	void (*rounding_loss)(float *y, const float *x, size_t n);
	void (*interleave)(unsigned char *line, const int8_t *a, const int8_t *b, const int8_t *c, const int8_t *d);
	void (*add_split16)(float *out, const float *y, float scale, float unit, const float *high, const float *low, float finish,
					  size_t n);
	void (*trellis)(float *cost, int16_t *floors, int16_t *from, const float *y, const float *unit, const float *rate,
					 const uint8_t *classes, size_t n, size_t rows);
} kalm__ops;

enum {
	KALM__TRELLIS = 16,  /* rows of a trellis, a multiple of every KALM__W */
	KALM__NORMED = 4  /* rows normed side by side */
};

/* More is in docs/KERNELS.md. */
#define KALM__ROTATION 64u

/* One block of n = 2^k <= 64 numbers. */
KALM__FN void kalm__hadamard_block(float *x, size_t n)
{
	size_t half, i, j;
	float scale = kalm__over(1.0f, kalm__root((float)n));
	for (half = 1; half < n; half *= 2)
		for (i = 0; i < n; i += 2 * half)
			for (j = i; j < i + half; j++) {
				float a = x[j], b = x[j + half];
				x[j] = kalm__plus(a, b);
				x[j + half] = kalm__plus(a, -b);
			}
	for (i = 0; i < n; i++) x[i] = kalm__times(x[i], scale);
}
KALM__FN void kalm__hadamard_rest(float *x, size_t n)
{
	while (n) {
		size_t block = KALM__ROTATION;
		while (block > n) block /= 2;
		kalm__hadamard_block(x, block);
		x += block;
		n -= block;
	}
}

/* ---- plain C: four floats at a time, so that the lanes are those of the other sets ---- */

typedef struct kalm__four {
	float v[4];
} kalm__four;

KALM__INLINE kalm__four kalm__four_of(float a, float b, float c, float d)
{
	kalm__four r;
	r.v[0] = a, r.v[1] = b, r.v[2] = c, r.v[3] = d;
	return r;
}
KALM__INLINE kalm__four kalm__load_four(const float *p) { return kalm__four_of(p[0], p[1], p[2], p[3]); }
KALM__INLINE void kalm__store_four(float *p, kalm__four a)
{
	p[0] = a.v[0], p[1] = a.v[1], p[2] = a.v[2], p[3] = a.v[3];
}
#define KALM__FOUR(name, expression) \
	KALM__INLINE float kalm__lane_##name(float x, float y) { return expression; } \
	KALM__INLINE kalm__four kalm__##name##_four(kalm__four a, kalm__four b) \
	{ \
		return kalm__four_of(kalm__lane_##name(a.v[0], b.v[0]), kalm__lane_##name(a.v[1], b.v[1]), \
							 kalm__lane_##name(a.v[2], b.v[2]), kalm__lane_##name(a.v[3], b.v[3])); \
	}
KALM__FOUR(add, kalm__plus(x, y))
KALM__FOUR(sub, kalm__plus(x, -y))
KALM__FOUR(mul, kalm__times(x, y))
KALM__FOUR(min, x < y ? x : y)
KALM__FOUR(max, x > y ? x : y)
KALM__FOUR(below, x < y ? x : 0.0f)
KALM__INLINE uint32_t kalm__bits(float f)
{
	uint32_t u;
	memcpy(&u, &f, 4);
	return u;
}
KALM__INLINE float kalm__of_bits(uint32_t u)
{
	float f;
	memcpy(&f, &u, 4);
	return f;
}
KALM__FOUR(scale2, kalm__of_bits(kalm__bits(x) + (kalm__bits(y) << 23)))
KALM__FOUR(bits, kalm__of_bits(kalm__bits(x) - kalm__bits(y)))
KALM__INLINE float kalm__sum_four(kalm__four a)
{
	return kalm__plus(kalm__plus(a.v[0], a.v[2]), kalm__plus(a.v[1], a.v[3]));
}
KALM__INLINE float kalm__hmax_four(kalm__four a)
{
	return kalm__lane_max(kalm__lane_max(a.v[0], a.v[1]), kalm__lane_max(a.v[2], a.v[3]));
}
KALM__INLINE kalm__four kalm__lanes_four(kalm__four a)
{
	float p = kalm__plus(a.v[0], a.v[1]), m = kalm__plus(a.v[0], -a.v[1]);
	float q = kalm__plus(a.v[2], a.v[3]), n = kalm__plus(a.v[2], -a.v[3]);
	return kalm__four_of(kalm__plus(p, q), kalm__plus(m, n), kalm__plus(p, -q), kalm__plus(m, -n));
}
/* NaN, which a conversion must not get, is caught by the comparisons of the callers' limits: it became one of them. */
KALM__INLINE void kalm__store8_four(int8_t *p, kalm__four a)
{
	p[0] = (int8_t)a.v[0], p[1] = (int8_t)a.v[1], p[2] = (int8_t)a.v[2], p[3] = (int8_t)a.v[3];
}
KALM__INLINE void kalm__store16_four(int16_t *p, kalm__four a)
{
	p[0] = (int16_t)a.v[0], p[1] = (int16_t)a.v[1], p[2] = (int16_t)a.v[2], p[3] = (int16_t)a.v[3];
}

KALM__FN void kalm__interleave_scalar(unsigned char *line, const int8_t *a, const int8_t *b, const int8_t *c, const int8_t *d)
{
	size_t i;
	for (i = 0; i < 16; i++, line += 4) {
		line[0] = (unsigned char)a[i], line[1] = (unsigned char)b[i];
		line[2] = (unsigned char)c[i], line[3] = (unsigned char)d[i];
	}
}

#define KALM__V(name) kalm__##name##_scalar
#define KALM__INTERLEAVED kalm__interleave_scalar
#define KALM__VT
#define KALM__VF kalm__four
#define KALM__W 4
#define KALM__LOAD(p) kalm__load_four(p)
#define KALM__STORE(p, v) kalm__store_four(p, v)
#define KALM__SHORT(what) KALM__BUFFER_##what
#define KALM__SET(x) kalm__four_of(x, x, x, x)
#define KALM__ADD(a, b) kalm__add_four(a, b)
#define KALM__SUB(a, b) kalm__sub_four(a, b)
#define KALM__MUL(a, b) kalm__mul_four(a, b)
#define KALM__MIN(a, b) kalm__min_four(a, b)
#define KALM__MAX(a, b) kalm__max_four(a, b)
#define KALM__SCALE2(v, m) kalm__scale2_four(v, m)
#define KALM__BITS(c, v) kalm__bits_four(KALM__SET(kalm__of_bits(c)), v)
#define KALM__BELOW(v, l) kalm__below_four(v, l)
#define KALM__SUM(a) kalm__sum_four(a)
#define KALM__HMAX(a) kalm__hmax_four(a)
#define KALM__HADAMARD(a) kalm__lanes_four(a)
#define KALM__STORE8(p, v) kalm__store8_four(p, v)
#define KALM__STORE16(p, v) kalm__store16_four(p, v)
/* ---- begin src/ops_template.h ---- */
/* More is in docs/KERNELS.md. */

/* The first n floats of p, all of a vector if there are as many; `fill` in the other lanes. What is shorter goes through a buffer where a
	set has no masks. */
#define KALM__BUFFER_loading KALM__LOAD(part)
#define KALM__BUFFER_storing (KALM__STORE(part, v), (void)memcpy(p, part, n * sizeof(float)))
#define KALM__T_LOAD_SOME \
KALM__VT KALM__SMALL_FN KALM__VF KALM__V(load_some)(const float *p, size_t n, float fill) \
{ \
	float part[KALM__W]; \
	size_t i; \
	if (n >= KALM__W) return KALM__LOAD(p); \
	for (i = 0; i < KALM__W; i++) part[i] = i < n ? p[i] : fill; \
	(void)part; \
	return KALM__SHORT(loading); \
}
#define KALM__T_STORE_SOME \
KALM__VT KALM__SMALL_FN void KALM__V(store_some)(float *p, size_t n, KALM__VF v) \
{ \
	float part[KALM__W]; \
	(void)part; \
	if (n >= KALM__W) KALM__STORE(p, v); \
	else KALM__SHORT(storing); \
}
#define KALM__LOADN(p, n) KALM__V(load_some)(p, n, 0.0f)
#define KALM__STOREN KALM__V(store_some)

/* The whole number nearest to v, ties to even, |v| < 2^22: with 1.5 * 2^23 added it is the last bits of the sum. */
#define KALM__SHIFT KALM__SET(12582912.0f)
#define KALM__NEAREST(v) KALM__SUB(KALM__ADD(v, KALM__SHIFT), KALM__SHIFT)

/* y[i] = formula for all i below n: whole vectors, then the rest. The formula gets the macro that makes a vector of
	p[i] and what follows. */
#define KALM__WHOLE(p) KALM__LOAD((p) + i)
#define KALM__REST(p) KALM__LOADN((p) + i, n - i)
#define KALM__FOR_ALL(y, formula) \
	for (i = 0; i + KALM__W <= n; i += KALM__W) KALM__STORE(y + i, formula(KALM__WHOLE)); \
	if (i < n) KALM__STOREN(y + i, n - i, formula(KALM__REST));

/* The 32 lanes of a sum, KALM__W in each of s0, s1, ...: each(0) each(1) ..., and what they add up to. */
#define KALM__PARTS(each) KALM__JOIN(KALM__PARTS_, KALM__W)(each)
#define KALM__PARTS_16(each) KALM__REP_2(each)
#define KALM__PARTS_8(each) KALM__REP_4(each)
#define KALM__PARTS_4(each) KALM__REP_8(each)
#define KALM__TOTAL(s) KALM__JOIN(KALM__TOTAL_, KALM__W)(s)
#define KALM__TOTAL_16(s) KALM__SUM(KALM__ADD(s##0, s##1))
#define KALM__TOTAL_8(s) KALM__SUM(KALM__ADD(KALM__ADD(s##0, s##2), KALM__ADD(s##1, s##3)))
#define KALM__TOTAL_4(s) \
	KALM__SUM(KALM__ADD(KALM__ADD(KALM__ADD(s##0, s##4), KALM__ADD(s##2, s##6)), \
						KALM__ADD(KALM__ADD(s##1, s##5), KALM__ADD(s##3, s##7))))
#define KALM__JOIN(a, b) KALM__JOINED(a, b)
#define KALM__JOINED(a, b) a##b
#define KALM__ZERO(i) KALM__VF s##i = KALM__SET(0.0f);

/* Polynomials are long chains of operations, so four vectors of numbers, in a GeGLU with 32 registers eight, stand side by side: all take
	a step, then all take the next. A processor that finds the next independent operation a whole chain away finds few of them. */
#define KALM__SIDES(each) KALM__JOIN(KALM__SIDES_, KALM__W)(each)
#define KALM__SIDES_16(each) KALM__REP_8(each)
#define KALM__SIDES_8(each) KALM__REP_4(each)
#define KALM__SIDES_4(each) KALM__REP_4(each)
#define KALM__SIDE ((KALM__W == 16 ? 8 : 4) * KALM__W)  /* floats of a GeGLU side by side */
#define KALM__THREE(i) KALM__VF t##i, m##i, p##i;

/* p = 2^t for t in -125..126; what is below counts as -125. t = n + f, 2^f for f in -1/2..1/2 by a polynomial with 2^0 exactly
	1, its coefficients searched for the least relative error of this very arithmetic: 1.7e-7. */
#define KALM__EXP2_WHOLE(i) \
	t##i = KALM__MAX(t##i, KALM__SET(-125.0f)); \
	m##i = KALM__ADD(t##i, KALM__SHIFT); \
	t##i = KALM__SUB(t##i, KALM__SUB(m##i, KALM__SHIFT));
#define KALM__EXP2_1(i) p##i = KALM__ADD(KALM__MUL(t##i, KALM__SET(1.33447547e-3f)), KALM__SET(9.66920238e-3f));
#define KALM__EXP2_2(i) p##i = KALM__ADD(KALM__MUL(p##i, t##i), KALM__SET(5.55038191e-2f));
#define KALM__EXP2_3(i) p##i = KALM__ADD(KALM__MUL(p##i, t##i), KALM__SET(0.240222916f));
#define KALM__EXP2_4(i) p##i = KALM__ADD(KALM__MUL(p##i, t##i), KALM__SET(0.693147361f));
#define KALM__EXP2_5(i) p##i = KALM__SCALE2(KALM__ADD(KALM__MUL(p##i, t##i), KALM__SET(1.0f)), m##i);
#define KALM__EXP2(all) \
	all(KALM__EXP2_WHOLE) all(KALM__EXP2_1) all(KALM__EXP2_2) all(KALM__EXP2_3) all(KALM__EXP2_4) all(KALM__EXP2_5)

/* sum of x[i] * y[i] */
#define KALM__DOT_STEP(i) s##i = KALM__ADD(s##i, KALM__MUL(KALM__LOAD(a + i * KALM__W), KALM__LOAD(b + i * KALM__W)));
#define KALM__T_DOT \
KALM__VT static float KALM__V(dot)(const float *x, const float *y, size_t n) \
{ \
	const float *a = x, *b = y; \
	float rest[2][32]; \
	KALM__PARTS(KALM__ZERO) \
	for (; n >= 32; n -= 32, a += 32, b += 32) { KALM__PARTS(KALM__DOT_STEP) } \
	if (n) { \
		memset(rest, 0, sizeof rest); \
		memcpy(rest[0], a, n * sizeof(float)); \
		memcpy(rest[1], b, n * sizeof(float)); \
		a = rest[0], b = rest[1]; \
		KALM__PARTS(KALM__DOT_STEP) \
	} \
	return KALM__TOTAL(s); \
}

/* What RMSNorm multiplies a row by beside its gain, 1 / sqrt(mean(x^2) + eps) (docs/MODEL.md). This is a long chain of operations, so
	it is computed for KALM__NORMED rows of n together, where `row` is the first of them, and kept in ahead[]. Where the sum of squares
	is too large for a float this would be zero, and the row lost without a word; NaN is found (layer.h). */
#define KALM__T_INVERSE_RMS \
KALM__VT KALM__SMALL_FN float KALM__V(inverse_rms)(float *ahead, const float *x, size_t n, float eps, size_t row, size_t rows) \
{ \
	size_t i, some = row % KALM__NORMED ? 0 : kalm__min(rows - row, KALM__NORMED); \
	for (i = 0; i < some; i++) { \
		float mean = kalm__over(KALM__V(dot)(x + i * n, x + i * n, n), (float)n); \
		ahead[i] = kalm__is_finite(mean) ? kalm__over(1.0f, kalm__root(kalm__plus(mean, eps))) : kalm__not_a_number(); \
	} \
	return ahead[row % KALM__NORMED]; \
}

/* y = x / sqrt(mean(x^2) + eps) * gain, gain = 1 + w; rows of n, one behind the other. x and y may be the same. */
#define KALM__RMS_NORM_FORMULA(at) KALM__MUL(KALM__MUL(at(x), r), at(gain))
#define KALM__T_RMS_NORM \
KALM__VT static void KALM__V(rms_norm)(float *y, const float *x, const float *gain, size_t n, float eps, size_t rows) \
{ \
	float ahead[KALM__NORMED]; \
	size_t i, row; \
	for (row = 0; row < rows; row++, x += n, y += n) { \
		KALM__VF r = KALM__SET(KALM__V(inverse_rms)(ahead, x, n, eps, row, rows)); \
		KALM__FOR_ALL(y, KALM__RMS_NORM_FORMULA) \
	} \
}

/* x += rms_norm(y): what a layer's block gives back to the residual stream. */
#define KALM__ADD_NORM_FORMULA(at) KALM__ADD(at(x), KALM__MUL(KALM__MUL(at(y), r), at(gain)))
#define KALM__T_ADD_NORM \
KALM__VT static void KALM__V(add_norm)(float *x, const float *y, const float *gain, size_t n, float eps, size_t rows) \
{ \
	float ahead[KALM__NORMED]; \
	size_t i, row; \
	for (row = 0; row < rows; row++, x += n, y += n) { \
		KALM__VF r = KALM__SET(KALM__V(inverse_rms)(ahead, y, n, eps, row, rows)); \
		KALM__FOR_ALL(x, KALM__ADD_NORM_FORMULA) \
	} \
}

/* Heads of one row: q or k of `dim` numbers, normed, times `scale`, then rotated by the half-split pairs (i, i + dim/2); angles: the
	dim / 2 cosines, then the sines, NULL for no rotation (document keys). x and y may be the same. */
#define KALM__T_NORM_ROTATE \
KALM__VT static void KALM__V(norm_rotate)(float *y, const float *x, const float *gain, size_t dim, float eps, float scale, \
										  const float *angles, size_t heads) \
{ \
	float ahead[KALM__NORMED]; \
	size_t half = dim / 2, i, n, head; \
	for (head = 0; head < heads; head++, x += dim, y += dim) { \
		KALM__VF r = KALM__SET(kalm__times(KALM__V(inverse_rms)(ahead, x, dim, eps, head, heads), scale)); \
		for (i = 0; !angles && i < dim; i += KALM__W) \
			KALM__STOREN(y + i, dim - i, KALM__MUL(KALM__MUL(KALM__LOADN(x + i, dim - i), r), \
													  KALM__LOADN(gain + i, dim - i))); \
		for (i = 0; angles && i < half; i += KALM__W) { \
			KALM__VF a, b, c, s; \
			n = half - i; \
			a = KALM__MUL(KALM__MUL(KALM__LOADN(x + i, n), r), KALM__LOADN(gain + i, n)); \
			b = KALM__MUL(KALM__MUL(KALM__LOADN(x + half + i, n), r), KALM__LOADN(gain + half + i, n)); \
			c = KALM__LOADN(angles + i, n); \
			s = KALM__LOADN(angles + half + i, n); \
			KALM__STOREN(y + i, n, KALM__SUB(KALM__MUL(a, c), KALM__MUL(b, s))); \
			KALM__STOREN(y + half + i, n, KALM__ADD(KALM__MUL(a, s), KALM__MUL(b, c))); \
		} \
	} \
}

/* The rotation by a after that by b; each [half] cosines, then [half] sines (rotary.h). */
#define KALM__T_ADD_ANGLES \
KALM__VT static void KALM__V(add_angles)(float *out, const float *a, const float *b, size_t half) \
{ \
	size_t i, n; \
	for (i = 0; i < half; i += KALM__W) { \
		KALM__VF ca, sa, cb, sb; \
		n = half - i; \
		ca = KALM__LOADN(a + i, n), sa = KALM__LOADN(a + half + i, n); \
		cb = KALM__LOADN(b + i, n), sb = KALM__LOADN(b + half + i, n); \
		KALM__STOREN(out + i, n, KALM__SUB(KALM__MUL(ca, cb), KALM__MUL(sa, sb))); \
		KALM__STOREN(out + half + i, n, KALM__ADD(KALM__MUL(sa, cb), KALM__MUL(ca, sb))); \
	} \
}

/* More is in docs/KERNELS.md. */
#define KALM__GEGLU_Z(i) \
	m##i = KALM__LOAD(g + i * KALM__W); \
	t##i = KALM__ADD(KALM__MUL(KALM__MUL(m##i, m##i), KALM__SET(-0.10294324f)), KALM__SET(-2.3022082f)); \
	t##i = KALM__MIN(KALM__MUL(m##i, t##i), KALM__SET(115.0f));
#define KALM__GEGLU_START(i) \
	p##i = KALM__ADD(KALM__SET(1.0f), p##i); \
	t##i = KALM__BITS(0x7ef311c7, p##i);
#define KALM__GEGLU_NEWTON(i) t##i = KALM__MUL(t##i, KALM__SUB(KALM__SET(2.0f), KALM__MUL(p##i, t##i)));
#define KALM__GEGLU_END(i) \
	KALM__STORE(y + i * KALM__W, KALM__MUL(KALM__MUL(KALM__LOAD(g + i * KALM__W), t##i), KALM__LOAD(u + i * KALM__W)));
#define KALM__T_GEGLU \
KALM__VT static void KALM__V(geglu)(float *h, const float *gate, const float *up, size_t n) \
{ \
	float rest[2][KALM__SIDE], *y = h; \
	const float *g = gate, *u = up; \
	size_t some = KALM__SIDE; \
	for (; n; n -= some, y += some, g += some, u += some) { \
		KALM__SIDES(KALM__THREE) \
		if (n < some) { \
			h = y, some = n; \
			memset(rest, 0, sizeof rest); \
			memcpy(rest[0], g, n * sizeof(float)); \
			memcpy(rest[1], u, n * sizeof(float)); \
			y = rest[0], g = rest[0], u = rest[1]; \
		} \
		KALM__SIDES(KALM__GEGLU_Z) \
		KALM__EXP2(KALM__SIDES) \
		KALM__SIDES(KALM__GEGLU_START) \
		KALM__SIDES(KALM__GEGLU_NEWTON) KALM__SIDES(KALM__GEGLU_NEWTON) KALM__SIDES(KALM__GEGLU_NEWTON) \
		KALM__SIDES(KALM__GEGLU_END) \
		if (y == rest[0]) memcpy(h, y, n * sizeof(float)); \
	} \
}

#define KALM__T_ROW_MAX \
KALM__VT static float KALM__V(row_max)(const float *x, size_t n) \
{ \
	KALM__VF m = KALM__SET(-INFINITY); \
	size_t i = 0; \
	for (; i + KALM__W <= n; i += KALM__W) m = KALM__MAX(m, KALM__LOAD(x + i)); \
	if (i < n) m = KALM__MAX(m, KALM__V(load_some)(x + i, n - i, -INFINITY)); \
	return KALM__HMAX(m); \
}

/* p[i] = e^(p[i] - top), p[i] - top <= 87, their sum returned; then, unless scale is NULL, p[i] *= scale[i], scale >= 0, and *most is the
	largest. What is behind the n-th counts as zero. */
#define KALM__EXP_IN(v) KALM__MUL(KALM__SUB(v, t), KALM__SET(1.44269504f))
#define KALM__EXP_WHOLE(i) t##i = KALM__EXP_IN(KALM__LOAD(p + at + i * KALM__W));
#define KALM__EXP_OUT(i) KALM__STORE(p + at + i * KALM__W, p##i);
#define KALM__LEFT(i) (n > i * KALM__W ? n - i * KALM__W : 0)
#define KALM__FROM(p, i) KALM__LOADN(p + i * KALM__W, KALM__LEFT(i))
#define KALM__SUM_STEP(i) s##i = KALM__ADD(s##i, KALM__LOAD(p + i * KALM__W));
#define KALM__SUM_REST(i) s##i = KALM__ADD(s##i, KALM__FROM(p, i));
#define KALM__WEIGH_STEP(i) \
	w = KALM__MUL(KALM__LOAD(p + i * KALM__W), KALM__LOAD(scale + i * KALM__W)); \
	KALM__STORE(p + i * KALM__W, w); \
	m = KALM__MAX(m, w);
#define KALM__WEIGH_REST(i) \
	w = KALM__MUL(KALM__FROM(p, i), KALM__FROM(scale, i)); \
	KALM__STOREN(p + i * KALM__W, KALM__LEFT(i), w); \
	m = KALM__MAX(m, w);
#define KALM__T_EXP_SUM \
KALM__VT static float KALM__V(exp_sum)(float *p, size_t n, float top, const float *scale, float *most) \
{ \
	KALM__VF t = KALM__SET(top), m = KALM__SET(0.0f), w; \
	size_t at; \
	KALM__PARTS(KALM__ZERO) \
	KALM__SIDES(KALM__THREE) \
	for (at = 0; n - at >= KALM__SIDE; at += KALM__SIDE) { \
		KALM__SIDES(KALM__EXP_WHOLE) \
		KALM__EXP2(KALM__SIDES) \
		KALM__SIDES(KALM__EXP_OUT) \
	} \
	for (; at < n; at += KALM__W) { \
		t0 = KALM__EXP_IN(KALM__LOADN(p + at, n - at)); \
		KALM__EXP2(KALM__REP_1) \
		KALM__STOREN(p + at, n - at, p0); \
	} \
	for (; n >= 32; n -= 32, p += 32) { \
		KALM__PARTS(KALM__SUM_STEP) \
		if (!scale) continue; \
		KALM__PARTS(KALM__WEIGH_STEP) \
		scale += 32; \
	} \
	if (n) { KALM__PARTS(KALM__SUM_REST) } \
	if (n && scale) { KALM__PARTS(KALM__WEIGH_REST) } \
	if (scale) *most = KALM__HMAX(m); \
	return KALM__TOTAL(s); \
}

/* The sum of those p[i] >= 0 that are below `limit`; *all is the sum of all. */
#define KALM__ZERO_BELOW(i) KALM__VF b##i = KALM__SET(0.0f);
#define KALM__SUM_BELOW(i) \
	s##i = KALM__ADD(s##i, v); \
	b##i = KALM__ADD(b##i, KALM__BELOW(v, l));
#define KALM__SUM_BELOW_STEP(i) v = KALM__LOAD(p + i * KALM__W); KALM__SUM_BELOW(i)
#define KALM__SUM_BELOW_REST(i) v = KALM__FROM(p, i); KALM__SUM_BELOW(i)
#define KALM__T_SUM_BELOW \
KALM__VT static float KALM__V(sum_below)(const float *p, size_t n, float limit, float *all) \
{ \
	KALM__VF l = KALM__SET(limit), v; \
	KALM__PARTS(KALM__ZERO) \
	KALM__PARTS(KALM__ZERO_BELOW) \
	for (; n >= 32; n -= 32, p += 32) { KALM__PARTS(KALM__SUM_BELOW_STEP) } \
	if (n) { KALM__PARTS(KALM__SUM_BELOW_REST) } \
	*all = KALM__TOTAL(s); \
	return KALM__TOTAL(b); \
}

/* y = y * scale + x */
#define KALM__SCALE_ADD_FORMULA(at) KALM__ADD(KALM__MUL(at(y), s), at(x))
#define KALM__T_SCALE_ADD \
KALM__VT static void KALM__V(scale_add)(float *y, float scale, const float *x, size_t n) \
{ \
	KALM__VF s = KALM__SET(scale); \
	size_t i; \
	KALM__FOR_ALL(y, KALM__SCALE_ADD_FORMULA) \
}

/* y = x * scale */
#define KALM__SCALE_ROW_FORMULA(at) KALM__MUL(at(x), s)
#define KALM__T_SCALE_ROW \
KALM__VT static void KALM__V(scale_row)(float *y, const float *x, float scale, size_t n) \
{ \
	KALM__VF s = KALM__SET(scale); \
	size_t i; \
	KALM__FOR_ALL(y, KALM__SCALE_ROW_FORMULA) \
}

/* y = rotated x (ops.h, Rotation); they may be the same. Butterflies between vectors stay in registers, since every index is a constant;
	those inside a vector go through KALM__HADAMARD, which leaves lane i holding the Walsh-Hadamard sum i of its KALM__W lanes. */
#define KALM__BUTTERFLY(i, j) b = v[j], v[j] = KALM__SUB(v[i], b), v[i] = KALM__ADD(v[i], b);
#define KALM__BUTTERFLIES(i, s) \
	KALM__BUTTERFLY(i, i + s) KALM__BUTTERFLY(i + 2 * s, i + 3 * s) \
	KALM__BUTTERFLY(i, i + 2 * s) KALM__BUTTERFLY(i + s, i + 3 * s)
#define KALM__BETWEEN KALM__JOIN(KALM__BETWEEN_, KALM__W)
#define KALM__BETWEEN_16 KALM__BUTTERFLIES(0, 1)
#define KALM__BETWEEN_8 \
	KALM__BUTTERFLIES(0, 1) KALM__BUTTERFLIES(4, 1) \
	KALM__BUTTERFLY(0, 4) KALM__BUTTERFLY(1, 5) KALM__BUTTERFLY(2, 6) KALM__BUTTERFLY(3, 7)
#define KALM__BETWEEN_4 \
	KALM__BUTTERFLIES(0, 1) KALM__BUTTERFLIES(4, 1) KALM__BUTTERFLIES(8, 1) KALM__BUTTERFLIES(12, 1) \
	KALM__BUTTERFLIES(0, 4) KALM__BUTTERFLIES(1, 4) KALM__BUTTERFLIES(2, 4) KALM__BUTTERFLIES(3, 4)
#define KALM__INSIDE_AT(i) v[i] = KALM__HADAMARD(KALM__MUL(KALM__LOAD(x + (i) * KALM__W), scale));
#define KALM__INSIDE(i) KALM__INSIDE_AT(i) KALM__INSIDE_AT(i + 32 / KALM__W)
#define KALM__OUTSIDE(i) KALM__STORE(y + i * KALM__W, v[i]); KALM__STORE(y + i * KALM__W + 32, v[i + 32 / KALM__W]);
#define KALM__T_HADAMARD \
KALM__VT static void KALM__V(hadamard)(float *y, const float *x, size_t n) \
{ \
	KALM__VF scale = KALM__SET(0.125f), v[KALM__ROTATION / KALM__W], b; /* 64^-1/2 */ \
	for (; n >= KALM__ROTATION; n -= KALM__ROTATION, x += KALM__ROTATION, y += KALM__ROTATION) { \
		KALM__PARTS(KALM__INSIDE) \
		KALM__BETWEEN \
		KALM__PARTS(KALM__OUTSIDE) \
	} \
	memmove(y, x, n * sizeof(float)); \
	kalm__hadamard_rest(y, n); \
}

#define KALM__T_ABS_MAX \
KALM__VT static float KALM__V(abs_max)(const float *x, size_t n) \
{ \
	KALM__VF m = KALM__SET(0.0f); \
	size_t i = 0; \
	for (; i < n; i += KALM__W) { \
		KALM__VF v = KALM__LOADN(x + i, n - i); \
		m = KALM__MAX(m, KALM__MAX(v, KALM__SUB(KALM__SET(0.0f), v))); \
	} \
	return KALM__HMAX(m); \
}

/* v * inverse to the nearest whole number within +-limit; NaN becomes one of the two. */
#define KALM__QUANTISED(v, inverse, limit) \
	KALM__MIN(KALM__MAX(KALM__NEAREST(KALM__MUL(v, inverse)), KALM__SUB(KALM__SET(0.0f), limit)), limit)

/* q[i] = nearest(x[i] * 127 / max|x|), scale returned, by the rule of kernels.h. */
#define KALM__T_QUANTISE \
KALM__VT static float KALM__V(quantise)(int8_t *q, const float *x, size_t n) \
{ \
	float inverse, scale = kalm__row_scale(KALM__V(abs_max)(x, n), 127.0f, &inverse); \
	KALM__VF by = KALM__SET(inverse), limit = KALM__SET(127.0f); \
	size_t i = 0; \
	for (; i + KALM__W <= n; i += KALM__W) KALM__STORE8(q + i, KALM__QUANTISED(KALM__LOAD(x + i), by, limit)); \
	if (i < n) { \
		int8_t part[KALM__W]; \
		KALM__STORE8(part, KALM__QUANTISED(KALM__LOADN(x + i, n - i), by, limit)); \
		memcpy(q + i, part, n - i); \
	} \
	return scale; \
}

/* The same as int16, up to +-most. */
#define KALM__T_QUANTISE_INT16 \
KALM__VT static float KALM__V(quantise_int16)(int16_t *q, const float *x, size_t n, float most) \
{ \
	float inverse, scale = kalm__row_scale(KALM__V(abs_max)(x, n), most, &inverse); \
	KALM__VF by = KALM__SET(inverse), limit = KALM__SET(most); \
	size_t i = 0; \
	for (; i + KALM__W <= n; i += KALM__W) KALM__STORE16(q + i, KALM__QUANTISED(KALM__LOAD(x + i), by, limit)); \
	if (i < n) { \
		int16_t part[KALM__W]; \
		KALM__STORE16(part, KALM__QUANTISED(KALM__LOADN(x + i, n - i), by, limit)); \
		memcpy(q + i, part, (n - i) * sizeof *q); \
	} \
	return scale; \
}

/* y = what quantising x to int8 by the rule of kernels.h leaves behind: x - scale * q. */
#define KALM__T_ROUNDING_LOSS \
KALM__VT static void KALM__V(rounding_loss)(float *y, const float *x, size_t n) \
{ \
	float inverse, scale = kalm__row_scale(KALM__V(abs_max)(x, n), 127.0f, &inverse); \
	KALM__VF by = KALM__SET(inverse), s = KALM__SET(scale); \
	size_t i = 0; \
	if (inverse <= 0.0f) { /* a row that counts as zero leaves nothing */ \
		memset(y, 0, n * sizeof(float)); \
		return; \
	} \
	for (; i < n; i += KALM__W) { \
		KALM__VF v = KALM__LOADN(x + i, n - i); \
		KALM__STOREN(y + i, n - i, KALM__SUB(v, KALM__MUL(KALM__NEAREST(KALM__MUL(v, by)), s))); \
	} \
}

/* out = (y * scale + unit * (256 * high + low)) * finish, where the inner sum is a whole number rounded once: its parts are
	below 2^24 if there are two. high NULL: zeros; y NULL: likewise. out and y may be the same. */
#define KALM__T_ADD_SPLIT16 \
KALM__VT static void KALM__V(add_split16)(float *out, const float *y, float scale, float unit, const float *high, \
										  const float *low, float finish, size_t n) \
{ \
	KALM__VF s = KALM__SET(scale), u = KALM__SET(unit), step = KALM__SET(256.0f), f = KALM__SET(finish); \
	size_t i = 0; \
	for (; i < n; i += KALM__W) { \
		KALM__VF v = KALM__LOADN(low + i, n - i); \
		if (high) v = KALM__ADD(KALM__MUL(KALM__LOADN(high + i, n - i), step), v); \
		v = KALM__MUL(u, v); \
		if (y) v = KALM__ADD(KALM__MUL(KALM__LOADN(y + i, n - i), s), v); \
		KALM__STOREN(out + i, n - i, KALM__MUL(v, f)); \
	} \
}

/* More is in docs/KERNELS.md. */
#define KALM__SQUARE(v) KALM__MUL(v, v)
#define KALM__MORE(a, b, value) /* a > b ? value : 0 */ \
	KALM__MIN(KALM__MAX(KALM__MUL(KALM__SUB(a, b), KALM__SET(1e30f)), KALM__SET(0.0f)), KALM__SET(value))
#define KALM__COST(l, off) \
	off = KALM__SUB(l, off); \
	off = KALM__SQUARE(off); \
	l = KALM__ADD(KALM__ADD(off, KALM__MUL(l, KALM__ADD(KALM__MUL(l, KALM__SET(r[0])), KALM__SET(r[1])))), KALM__SET(r[2]));
#define KALM__BEST(q, even, odd, zero) /* what the best even and odd levels of quantiser q cost; their squared errors in one and two */ \
	one = two = KALM__ADD(size, KALM__SET(q)); \
	even = KALM__MAX(KALM__NEAREST(one), KALM__SET(1.0f)); \
	odd = KALM__ADD(KALM__NEAREST(KALM__SUB(one, KALM__SET(0.5f))), KALM__SET(0.5f)); \
	KALM__COST(even, one) \
	KALM__COST(odd, two) \
	odd = KALM__ADD(odd, KALM__SET(r[3])); \
	ways = KALM__ADD(ways, KALM__MORE(even, square, zero)); \
	even = KALM__ADD(KALM__MIN(even, square), KALM__SET(r[3]));
#define KALM__REACH(s, first_way, second_way) \
	one = KALM__ADD first_way; \
	two = KALM__ADD second_way; \
	ways = KALM__ADD(ways, KALM__MORE(one, two, (float)(1 << s))); \
	n##s = KALM__MIN(two, one);
#define KALM__FAR(s) KALM__VF n##s, c##s = KALM__SET(s ? 1e6f : 0.0f);
#define KALM__NEXT(s) c##s = n##s;
#define KALM__LAST(s) KALM__STORE(cost + s * KALM__TRELLIS + lane, c##s);
#define KALM__T_TRELLIS \
KALM__VT static void KALM__V(trellis)(float *cost, int16_t *floors, int16_t *from, const float *y, const float *unit, const float *rate, \
									  const uint8_t *classes, size_t n, size_t rows) \
{ \
	size_t lane, i; \
	for (lane = 0; lane < rows; lane += KALM__W) { \
		KALM__VF by = KALM__LOAD(unit + lane), size, square, e0, o0, e1, o1, one, two, ways; \
		KALM__PARTS_4(KALM__FAR) \
		for (i = 0; i < n; i++) { \
			const float *r = rate + classes[i] * 8; \
			size_t at = i * KALM__TRELLIS + lane; \
			size = KALM__MUL(KALM__LOAD(y + at), by); \
			size = KALM__MAX(KALM__MIN(size, KALM__SET(8000.0f)), KALM__SET(-8000.0f)); \
			ways = KALM__NEAREST(KALM__SUB(KALM__MUL(size, KALM__SET(4.0f)), KALM__SET(0.5f))); \
			if (from) KALM__STORE16(floors + at, ways); \
			size = KALM__MAX(size, KALM__SUB(KALM__SET(0.0f), size)); \
			square = KALM__SQUARE(size); \
			ways = KALM__SET(0.0f); \
			KALM__BEST(0.0f, e0, o0, 256.0f) \
			if (!from) { \
				c0 = KALM__ADD(c0, KALM__SUB(KALM__MIN(e0, o0), KALM__MIN(KALM__MIN(one, two), square))); \
				continue; \
			} \
			r += 4; \
			KALM__BEST(0.25f, e1, o1, 512.0f) \
			KALM__REACH(0, (c0, e0), (c4, o0)) /* as kalm__row_trace has it */ \
			KALM__REACH(1, (c2, e0), (c6, o0)) \
			KALM__REACH(2, (c0, o0), (c4, e0)) \
			KALM__REACH(3, (c2, o0), (c6, e0)) \
			KALM__REACH(4, (c3, o1), (c5, e1)) \
			KALM__REACH(5, (c1, e1), (c7, o1)) \
			KALM__REACH(6, (c3, e1), (c5, o1)) \
			KALM__REACH(7, (c1, o1), (c7, e1)) \
			KALM__PARTS_4(KALM__NEXT) \
			KALM__STORE16(from + at, ways); \
		} \
		KALM__PARTS_4(KALM__LAST) \
	} \
}

#define KALM__T_TABLE \
static const kalm__ops KALM__V(table) = { \
	KALM__V(rms_norm), KALM__V(add_norm), KALM__V(norm_rotate), KALM__V(add_angles), KALM__V(geglu), KALM__V(row_max), \
	KALM__V(exp_sum), KALM__V(sum_below), KALM__V(scale_add), KALM__V(scale_row), KALM__V(dot), \
	KALM__V(hadamard), KALM__V(quantise), KALM__V(quantise_int16), KALM__V(rounding_loss), KALM__INTERLEAVED, \
	KALM__V(add_split16), KALM__V(trellis) \
};

#define KALM__T_ALL \
	KALM__T_LOAD_SOME KALM__T_STORE_SOME KALM__T_DOT KALM__T_INVERSE_RMS KALM__T_RMS_NORM \
	KALM__T_ADD_NORM KALM__T_NORM_ROTATE KALM__T_ADD_ANGLES KALM__T_GEGLU KALM__T_ROW_MAX \
	KALM__T_EXP_SUM KALM__T_SUM_BELOW KALM__T_SCALE_ADD KALM__T_SCALE_ROW KALM__T_HADAMARD \
	KALM__T_ABS_MAX KALM__T_QUANTISE KALM__T_QUANTISE_INT16 KALM__T_ROUNDING_LOSS KALM__T_ADD_SPLIT16 \
	KALM__T_TRELLIS KALM__T_TABLE
KALM__T_ALL
#undef KALM__V
#undef KALM__VT
#undef KALM__INTERLEAVED
#undef KALM__VF
#undef KALM__W
#undef KALM__LOAD
#undef KALM__STORE
#undef KALM__SHORT
#undef KALM__SET
#undef KALM__ADD
#undef KALM__SUB
#undef KALM__MUL
#undef KALM__MIN
#undef KALM__MAX
#undef KALM__SCALE2
#undef KALM__BITS
#undef KALM__SUM
#undef KALM__HMAX
#undef KALM__HADAMARD
#undef KALM__BELOW
#undef KALM__STORE8
#undef KALM__STORE16
/* ---- more of src/ops.h ---- */

/* An operation on vectors, rounded here: see KALM__FENCE. */
#define KALM__FENCED(name, type, operation) \
	KALM__VT KALM__INLINE type kalm__##name(type a, type b) \
	{ \
		a = operation(a, b); \
		KALM__FENCE_V(a); \
		return a; \
	}

/* ---- AVX2 ---- */

#if KALM__X86

#define KALM__VT KALM__TARGET("avx2")
KALM__FENCED(add_avx2, __m256, _mm256_add_ps)
KALM__FENCED(sub_avx2, __m256, _mm256_sub_ps)
KALM__FENCED(mul_avx2, __m256, _mm256_mul_ps)
KALM__VT KALM__INLINE float kalm__sum_avx2(__m256 v)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	KALM__FENCE_V(s);
	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	KALM__FENCE_V(s);
	return kalm__rounded(_mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s))));
}
KALM__VT KALM__INLINE float kalm__hmax_avx2(__m256 v)
{
	__m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	s = _mm_max_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
/* Stage by stage: the partner lanes in one vector, the own ones with their signs in another. */
KALM__VT KALM__INLINE __m256 kalm__lanes_avx2(__m256 v)
{
	const __m256 flip1 = _mm256_setr_ps(0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f);
	const __m256 flip2 = _mm256_setr_ps(0.0f, 0.0f, -0.0f, -0.0f, 0.0f, 0.0f, -0.0f, -0.0f);
	const __m256 flip4 = _mm256_setr_ps(0.0f, 0.0f, 0.0f, 0.0f, -0.0f, -0.0f, -0.0f, -0.0f);
	v = kalm__add_avx2(_mm256_xor_ps(v, flip1), _mm256_permute_ps(v, 0xb1));
	v = kalm__add_avx2(_mm256_xor_ps(v, flip2), _mm256_permute_ps(v, 0x4e));
	return kalm__add_avx2(_mm256_xor_ps(v, flip4), _mm256_permute2f128_ps(v, v, 1));
}
KALM__VT KALM__INLINE __m128i kalm__int16_avx2(__m256 v)
{
	__m256i w = _mm256_cvtps_epi32(v);
	return _mm_packs_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
}
KALM__VT KALM__FN void kalm__interleave_avx2(unsigned char *line, const int8_t *a, const int8_t *b, const int8_t *c,
											 const int8_t *d)
{
	__m128i va = _mm_loadu_si128((const __m128i *)(const void *)a), vb = _mm_loadu_si128((const __m128i *)(const void *)b);
	__m128i vc = _mm_loadu_si128((const __m128i *)(const void *)c), vd = _mm_loadu_si128((const __m128i *)(const void *)d);
	__m128i ab = _mm_unpacklo_epi8(va, vb), cd = _mm_unpacklo_epi8(vc, vd), *out = (__m128i *)(void *)line;
	_mm_storeu_si128(out, _mm_unpacklo_epi16(ab, cd));
	_mm_storeu_si128(out + 1, _mm_unpackhi_epi16(ab, cd));
	ab = _mm_unpackhi_epi8(va, vb), cd = _mm_unpackhi_epi8(vc, vd);
	_mm_storeu_si128(out + 2, _mm_unpacklo_epi16(ab, cd));
	_mm_storeu_si128(out + 3, _mm_unpackhi_epi16(ab, cd));
}
#define KALM__V(name) kalm__##name##_avx2
#define KALM__INTERLEAVED kalm__interleave_avx2
#define KALM__VF __m256
#define KALM__W 8
#define KALM__LOAD(p) _mm256_loadu_ps(p)
#define KALM__STORE(p, v) _mm256_storeu_ps(p, v)
#define KALM__SHORT(what) KALM__BUFFER_##what
#define KALM__SET(x) _mm256_set1_ps(x)
#define KALM__ADD(a, b) kalm__add_avx2(a, b)
#define KALM__SUB(a, b) kalm__sub_avx2(a, b)
#define KALM__MUL(a, b) kalm__mul_avx2(a, b)
#define KALM__MIN(a, b) _mm256_min_ps(a, b)
#define KALM__MAX(a, b) _mm256_max_ps(a, b)
#define KALM__SCALE2(v, m) \
	_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32(_mm256_castps_si256(m), 23)))
#define KALM__BITS(c, v) _mm256_castsi256_ps(_mm256_sub_epi32(_mm256_set1_epi32(c), _mm256_castps_si256(v)))
#define KALM__BELOW(v, l) _mm256_and_ps(_mm256_cmp_ps(v, l, _CMP_LT_OQ), v)
#define KALM__SUM(a) kalm__sum_avx2(a)
#define KALM__HMAX(a) kalm__hmax_avx2(a)
#define KALM__HADAMARD(a) kalm__lanes_avx2(a)
#define KALM__STORE8(p, v) \
	_mm_storel_epi64((__m128i *)(void *)(p), _mm_packs_epi16(kalm__int16_avx2(v), _mm_setzero_si128()))
#define KALM__STORE16(p, v) _mm_storeu_si128((__m128i *)(void *)(p), kalm__int16_avx2(v))
#endif  /* KALM__X86 */

/* ---- NEON ---- */

#if KALM__NEON
#define KALM__VT
KALM__FENCED(add_neon, float32x4_t, vaddq_f32)
KALM__FENCED(sub_neon, float32x4_t, vsubq_f32)
KALM__FENCED(mul_neon, float32x4_t, vmulq_f32)
KALM__INLINE float kalm__sum_neon(float32x4_t v)
{
	float32x2_t s = vadd_f32(vget_low_f32(v), vget_high_f32(v));
	KALM__FENCE_V(s);
	return kalm__plus(vget_lane_f32(s, 0), vget_lane_f32(s, 1));
}
KALM__INLINE float kalm__hmax_neon(float32x4_t v)
{
	float32x2_t s = vmax_f32(vget_low_f32(v), vget_high_f32(v));
	return vget_lane_f32(s, 0) > vget_lane_f32(s, 1) ? vget_lane_f32(s, 0) : vget_lane_f32(s, 1);
}
KALM__INLINE float32x4_t kalm__lanes_neon(float32x4_t v)
{
	static const uint32_t signs[8] = { 0, 0x80000000u, 0, 0x80000000u, 0, 0, 0x80000000u, 0x80000000u };
	v = kalm__add_neon(vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(v), vld1q_u32(signs))), vrev64q_f32(v));
	return kalm__add_neon(vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(v), vld1q_u32(signs + 4))), vextq_f32(v, v, 2));
}
KALM__INLINE void kalm__store8_neon(int8_t *p, float32x4_t v)
{
	int16x4_t w = vmovn_s32(vcvtq_s32_f32(v));
	int8x8_t b = vmovn_s16(vcombine_s16(w, w));
	vst1_lane_s32((int32_t *)(void *)p, vreinterpret_s32_s8(b), 0);
}
KALM__FN void kalm__interleave_neon(unsigned char *line, const int8_t *a, const int8_t *b, const int8_t *c, const int8_t *d)
{
	int8x16x4_t all;
	all.val[0] = vld1q_s8(a), all.val[1] = vld1q_s8(b), all.val[2] = vld1q_s8(c), all.val[3] = vld1q_s8(d);
	vst4q_s8((int8_t *)line, all);
}
#define KALM__V(name) kalm__##name##_neon
#define KALM__INTERLEAVED kalm__interleave_neon
#define KALM__VF float32x4_t
#define KALM__W 4
#define KALM__LOAD(p) vld1q_f32(p)
#define KALM__STORE(p, v) vst1q_f32(p, v)
#define KALM__SHORT(what) KALM__BUFFER_##what
#define KALM__SET(x) vdupq_n_f32(x)
#define KALM__ADD(a, b) kalm__add_neon(a, b)
#define KALM__SUB(a, b) kalm__sub_neon(a, b)
#define KALM__MUL(a, b) kalm__mul_neon(a, b)
#define KALM__MIN(a, b) vminq_f32(a, b)
#define KALM__MAX(a, b) vmaxq_f32(a, b)
#define KALM__SCALE2(v, m) \
	vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(v), vshlq_n_u32(vreinterpretq_u32_f32(m), 23)))
#define KALM__BITS(c, v) vreinterpretq_f32_u32(vsubq_u32(vdupq_n_u32(c), vreinterpretq_u32_f32(v)))
#define KALM__BELOW(v, l) vreinterpretq_f32_u32(vandq_u32(vcltq_f32(v, l), vreinterpretq_u32_f32(v)))
#define KALM__SUM(a) kalm__sum_neon(a)
#define KALM__HMAX(a) kalm__hmax_neon(a)
#define KALM__HADAMARD(a) kalm__lanes_neon(a)
#define KALM__STORE8(p, v) kalm__store8_neon(p, v)
#define KALM__STORE16(p, v) vst1_s16(p, vmovn_s32(vcvtq_s32_f32(v)))
#endif

/* ---- WebAssembly ---- */

#if KALM__WASM
#define KALM__VT
KALM__FENCED(add_wasm, v128_t, wasm_f32x4_add)
KALM__FENCED(sub_wasm, v128_t, wasm_f32x4_sub)
KALM__FENCED(mul_wasm, v128_t, wasm_f32x4_mul)
KALM__INLINE float kalm__sum_wasm(v128_t v)
{
	return kalm__plus(kalm__plus(wasm_f32x4_extract_lane(v, 0), wasm_f32x4_extract_lane(v, 2)),
					  kalm__plus(wasm_f32x4_extract_lane(v, 1), wasm_f32x4_extract_lane(v, 3)));
}
KALM__INLINE float kalm__hmax_wasm(v128_t v)
{
	v128_t s = wasm_f32x4_pmax(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
	s = wasm_f32x4_pmax(s, wasm_i32x4_shuffle(s, s, 1, 0, 3, 2));
	return wasm_f32x4_extract_lane(s, 0);
}
KALM__INLINE v128_t kalm__lanes_wasm(v128_t v)
{
	const v128_t flip1 = wasm_f32x4_make(0.0f, -0.0f, 0.0f, -0.0f), flip2 = wasm_f32x4_make(0.0f, 0.0f, -0.0f, -0.0f);
	v = kalm__add_wasm(wasm_v128_xor(v, flip1), wasm_i32x4_shuffle(v, v, 1, 0, 3, 2));
	return kalm__add_wasm(wasm_v128_xor(v, flip2), wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
}
KALM__INLINE v128_t kalm__int16_wasm(v128_t v)
{
	v = wasm_i32x4_trunc_sat_f32x4(v);
	return wasm_i16x8_narrow_i32x4(v, v);
}
#define KALM__V(name) kalm__##name##_wasm
#define KALM__INTERLEAVED kalm__interleave_scalar
#define KALM__VF v128_t
#define KALM__W 4
#define KALM__LOAD(p) wasm_v128_load(p)
#define KALM__STORE(p, v) wasm_v128_store(p, v)
#define KALM__SHORT(what) KALM__BUFFER_##what
#define KALM__SET(x) wasm_f32x4_splat(x)
#define KALM__ADD(a, b) kalm__add_wasm(a, b)
#define KALM__SUB(a, b) kalm__sub_wasm(a, b)
#define KALM__MUL(a, b) kalm__mul_wasm(a, b)
/* one instruction each, where min and max, which must order zeros and NaN, take many */
#define KALM__MIN(a, b) wasm_f32x4_pmin(b, a)
#define KALM__MAX(a, b) wasm_f32x4_pmax(b, a)
#define KALM__SCALE2(v, m) wasm_i32x4_add(v, wasm_i32x4_shl(m, 23))
#define KALM__BITS(c, v) wasm_i32x4_sub(wasm_i32x4_splat(c), v)
#define KALM__BELOW(v, l) wasm_v128_and(wasm_f32x4_lt(v, l), v)
#define KALM__SUM(a) kalm__sum_wasm(a)
#define KALM__HMAX(a) kalm__hmax_wasm(a)
#define KALM__HADAMARD(a) kalm__lanes_wasm(a)
#define KALM__STORE8(p, v) wasm_v128_store32_lane(p, wasm_i8x16_narrow_i16x8(kalm__int16_wasm(v), kalm__int16_wasm(v)), 0)
#define KALM__STORE16(p, v) wasm_v128_store64_lane(p, kalm__int16_wasm(v), 0)
#endif

/* What the target has of these: none, or one. */
#ifdef KALM__VF
/* ---- begin src/ops_template.h ---- */
KALM__T_ALL
#undef KALM__V
#undef KALM__VT
#undef KALM__INTERLEAVED
#undef KALM__VF
#undef KALM__W
#undef KALM__LOAD
#undef KALM__STORE
#undef KALM__SHORT
#undef KALM__SET
#undef KALM__ADD
#undef KALM__SUB
#undef KALM__MUL
#undef KALM__MIN
#undef KALM__MAX
#undef KALM__SCALE2
#undef KALM__BITS
#undef KALM__SUM
#undef KALM__HMAX
#undef KALM__HADAMARD
#undef KALM__BELOW
#undef KALM__STORE8
#undef KALM__STORE16
/* ---- more of src/ops.h ---- */
#endif

/* ---- AVX-512 ---- */

#if KALM__HAVE_AVX512
#define KALM__VT KALM__TARGET(KALM__AVX512F ",avx512bw,avx512vl,avx512dq,avx2")
KALM__FENCED(add_avx512, __m512, _mm512_add_ps)
KALM__FENCED(sub_avx512, __m512, _mm512_sub_ps)
KALM__FENCED(mul_avx512, __m512, _mm512_mul_ps)
KALM__VT KALM__INLINE float kalm__sum_avx512(__m512 v)
{
	return kalm__sum_avx2(kalm__add_avx2(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}
KALM__VT KALM__INLINE float kalm__hmax_avx512(__m512 v)
{
	__m256 w = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
	__m128 s = _mm_max_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1));
	s = _mm_max_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
/* A product with 1 or -1 is exact: here fusing changes nothing. */
KALM__VT KALM__INLINE __m512 kalm__lanes_avx512(__m512 v)
{
	const __m512 flip1 = _mm512_setr_ps(1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1);
	const __m512 flip2 = _mm512_setr_ps(1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1);
	const __m512 flip4 = _mm512_setr_ps(1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1);
	const __m512 flip8 = _mm512_setr_ps(1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1);
	v = _mm512_fmadd_ps(v, flip1, _mm512_permute_ps(v, 0xb1));
	v = _mm512_fmadd_ps(v, flip2, _mm512_permute_ps(v, 0x4e));
	v = _mm512_fmadd_ps(v, flip4, _mm512_shuffle_f32x4(v, v, 0xb1));
	return _mm512_fmadd_ps(v, flip8, _mm512_shuffle_f32x4(v, v, 0x4e));
}
#define KALM__V(name) kalm__##name##_avx512
#define KALM__INTERLEAVED kalm__interleave_avx2
#define KALM__VF __m512
#define KALM__W 16
#define KALM__LOAD(p) _mm512_loadu_ps(p)
#define KALM__STORE(p, v) _mm512_storeu_ps(p, v)
#define KALM__SHORT(what) KALM__MASK_##what
#define KALM__MASK_loading _mm512_mask_loadu_ps(_mm512_set1_ps(fill), (__mmask16)((1u << n) - 1), p)
#define KALM__MASK_storing _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v)
#define KALM__SET(x) _mm512_set1_ps(x)
#define KALM__ADD(a, b) kalm__add_avx512(a, b)
#define KALM__SUB(a, b) kalm__sub_avx512(a, b)
#define KALM__MUL(a, b) kalm__mul_avx512(a, b)
#define KALM__MIN(a, b) _mm512_min_ps(a, b)
#define KALM__MAX(a, b) _mm512_max_ps(a, b)
#define KALM__SCALE2(v, m) \
	_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), _mm512_slli_epi32(_mm512_castps_si512(m), 23)))
#define KALM__BITS(c, v) _mm512_castsi512_ps(_mm512_sub_epi32(_mm512_set1_epi32(c), _mm512_castps_si512(v)))
#define KALM__BELOW(v, l) _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, l, _CMP_LT_OQ), v)
#define KALM__SUM(a) kalm__sum_avx512(a)
#define KALM__HMAX(a) kalm__hmax_avx512(a)
#define KALM__HADAMARD(a) kalm__lanes_avx512(a)
#define KALM__STORE8(p, v) _mm_storeu_si128((__m128i *)(void *)(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)))
#define KALM__STORE16(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(v)))
/* ---- begin src/ops_template.h ---- */
KALM__T_ALL
#undef KALM__V
#undef KALM__VT
#undef KALM__INTERLEAVED
#undef KALM__VF
#undef KALM__W
#undef KALM__LOAD
#undef KALM__STORE
#undef KALM__SHORT
#undef KALM__SET
#undef KALM__ADD
#undef KALM__SUB
#undef KALM__MUL
#undef KALM__MIN
#undef KALM__MAX
#undef KALM__SCALE2
#undef KALM__BITS
#undef KALM__SUM
#undef KALM__HMAX
#undef KALM__HADAMARD
#undef KALM__BELOW
#undef KALM__STORE8
#undef KALM__STORE16
/* ---- more of src/ops.h ---- */
#endif

/* ---- begin src/embedding.h ---- */
/* embedding.h - the embedding table, which has a row of numbers for each token of the vocabulary, and how to read a row from
	where it lies in the file. The factor
	sqrt(hidden) and the vector of the end-of-image token are left to layer.h, choosing scales to the converter
	(quantize/codecs.h). */
/* More is in docs/FORMAT.md. */
#define KALM__EMBEDDING_H


#define KALM__EMBEDDING_BLOCK 32u

/* Bytes of one row; 0 for a type that is none. Saturates, as kalm__mul does. */
KALM__FN size_t kalm__embedding_row_bytes(uint32_t type, size_t hidden_size)
{
	size_t blocks = kalm__round_up(hidden_size, KALM__EMBEDDING_BLOCK) / KALM__EMBEDDING_BLOCK;
	switch (type) {
	case KALM__F32: return kalm__mul(hidden_size, 4);
	case KALM__F16: case KALM__BF16: return kalm__mul(hidden_size, 2);
	case KALM__Q8: return kalm__mul(blocks, 2 + KALM__EMBEDDING_BLOCK);
	case KALM__Q4: return kalm__mul(blocks, 2 + KALM__EMBEDDING_BLOCK / 2);
	default: return 0;
	}
}

/* out [hidden]: the row as floats. */
KALM__FN void kalm__embedding_row(uint32_t type, const void *row, size_t hidden_size, float *out)
{
	const unsigned char *p = (const unsigned char *)row;
	size_t blocks = kalm__round_up(hidden_size, KALM__EMBEDDING_BLOCK) / KALM__EMBEDDING_BLOCK, i;
	const unsigned char *q = p + 2 * blocks;
	float scale = 0.0f;
	switch (type) {
	case KALM__F32:
		for (i = 0; i < hidden_size; i++) out[i] = kalm__f32(p + 4 * i);
		break;
	case KALM__F16:
		for (i = 0; i < hidden_size; i++) out[i] = kalm__from_f16((uint16_t)kalm__u16(p + 2 * i));
		break;
	case KALM__BF16:
		for (i = 0; i < hidden_size; i++) out[i] = kalm__from_bf16((uint16_t)kalm__u16(p + 2 * i));
		break;
	case KALM__Q8: case KALM__Q4:
		for (i = 0; i < hidden_size; i++) {
			if (i % KALM__EMBEDDING_BLOCK == 0) scale = kalm__from_f16((uint16_t)kalm__u16(p + i / KALM__EMBEDDING_BLOCK * 2));
			out[i] = scale * (float)(type == KALM__Q8 ? (int8_t)q[i] : kalm__q4_codebook[q[i / 2] >> (i % 2 * 4) & 15]);
		}
		break;
	default: memset(out, 0, hidden_size * sizeof *out);
	}
}

/* ---- begin src/kernels_scalar.h ---- */
/* kernels_scalar.h - the reference kernels in plain C: the oracle of every test, and the fallback of machines without
	vectors. Written to be read; nothing here is tuned. */
#define KALM__KERNELS_SCALAR_H


/* Rows packed for quantised types: float scale [rows] rounded up to 64 bytes, then int16 [rows][cols32]; for float types: float
	[rows][cols]. The scales come first in every set's activations. */
KALM__INLINE size_t kalm__scales_bytes(size_t rows) { return kalm__round_up(kalm__mul(4, rows), 64); }

/* Room for rows packed so. */
KALM__FN size_t kalm__acts_bytes_scalar(uint32_t type, size_t rows, size_t cols)
{
	if (!kalm__is_quantised(type) && type != KALM__Q16) return kalm__mul(kalm__mul(4, rows), cols);
	return kalm__add(kalm__scales_bytes(rows), kalm__mul(kalm__mul(2, rows), kalm__cols32(cols)));
}

/* Nearest, ties to even, by the addition that pushes the fraction out of the mantissa; within low..limit, |v| < 2^22. NaN
	becomes low. */
KALM__INLINE int16_t kalm__round_to_int16(float v, float low, float limit)
{
	const float shift = 12582912.0f;  /* 1.5 * 2^23 = 0x4b400000 */
	float t;
	uint32_t u;
	if (!(v >= low)) v = low;
	if (v > limit) v = limit;
	t = kalm__rounded(v + shift);
	memcpy(&u, &t, 4);
	return (int16_t)((int32_t)u - 0x4b400000);
}

KALM__FN void kalm__pack_acts_scalar(uint32_t type, void *acts, size_t rows, size_t row0, size_t n, const float *x,
									 size_t stride, size_t cols)
{
	size_t r, k, cols32 = kalm__cols32(cols);
	float limit = type == KALM__Q16 ? (float)kalm__int16_limit(cols) : 127.0f;
	if (!kalm__is_quantised(type) && type != KALM__Q16) {
		for (r = 0; r < n; r++) memcpy((float *)acts + (row0 + r) * cols, x + r * stride, cols * sizeof(float));
		return;
	}
	for (r = 0; r < n; r++) {
		const float *row = x + r * stride;
		void *at = (unsigned char *)acts + kalm__scales_bytes(rows);
		int16_t *q = (int16_t *)at + (row0 + r) * cols32;
		float m = 0.0f, inverse;
		for (k = 0; k < cols; k++) {
			float a = fabsf(row[k]);
			if (a > m) m = a;
		}
		((float *)acts)[row0 + r] = kalm__row_scale(m, limit, &inverse);
		for (k = 0; k < cols; k++) q[k] = kalm__round_to_int16(kalm__times(row[k], inverse), -limit, limit);
		for (; k < cols32; k++) q[k] = 0;
	}
}

KALM__FN void kalm__pack_split16_scalar(void *acts, size_t n, const float *x, size_t stride, const float *inverse, size_t cols)
{
	size_t r, k, cols32 = kalm__cols32(cols);
	void *at = (unsigned char *)acts + kalm__scales_bytes(n);
	int16_t *q = (int16_t *)at;
	for (r = 0; r < n; r++, x += stride, q += cols32) {
		((float *)acts)[r] = 1.0f;
		for (k = 0; k < cols; k++) q[k] = kalm__round_to_int16(kalm__times(x[k], inverse[r]), 0.0f, (float)KALM__SPLIT16_MAX);
		for (; k < cols32; k++) q[k] = 0;
	}
}

/* A q4 panel as the q8 panel it stands for. */
KALM__FN void kalm__unpack_q4_scalar(const void *panel, size_t cols, void *out)
{
	size_t groups = kalm__cols32(cols) / KALM__GROUP, g, t, b;
	const uint8_t *nibbles = (const uint8_t *)panel, *multiplier = kalm__q4_panel_multipliers(panel, cols);
	int8_t *q = (int8_t *)out;
	for (g = 0; g < groups; g++, multiplier += 16, nibbles += 256, q += 512)
		for (t = 0; t < 4; t++)
			for (b = 0; b < 64; b++) {
				unsigned v = nibbles[64 * t + b], m = multiplier[b / 4];
				q[64 * t + b] = kalm__q4_value(v & 15, m);
				q[64 * (t + 4) + b] = kalm__q4_value(v >> 4, m);
			}
}

KALM__FN size_t kalm__matmul_scratch_scalar(uint32_t type, size_t cols)
{
	if (type == KALM__Q4) return kalm__q8_panel_bytes(cols);
	return type == KALM__F16 || type == KALM__BF16 ? kalm__panel_bytes(KALM__F32, cols) : 0;
}

/* An f16 or bf16 panel as the f32 panel it stands for. */
KALM__FN const float *kalm__float_panel_scalar(uint32_t type, const void *panel, size_t cols, void *scratch)
{
	const uint16_t *half = (const uint16_t *)panel;
	float *out = (float *)scratch;
	size_t i;
	if (type == KALM__F32) return (const float *)panel;
	for (i = 0; i < 16 * cols; i++) out[i] = type == KALM__F16 ? kalm__from_f16(half[i]) : kalm__from_bf16(half[i]);
	return out;
}

KALM__INLINE float kalm__fma(float a, float b, float c)
{
#if defined(__FP_FAST_FMAF)
	return fmaf(a, b, c);
#else
	return c + kalm__times(a, b);
#endif
}

/* acc[j] += row . weights of output j, panels of int8 or of int16. Modulo 2^32: no sum of a sane model overflows, and
	weights come from strangers. */
KALM__FN void kalm__sum_int8_scalar(uint32_t acc[16], const int16_t *a, const int8_t *q, size_t cols32)
{
	size_t k, j;
	for (k = 0; k < cols32; k += 4, a += 4)
		for (j = 0; j < 16; j++, q += 4) acc[j] += (uint32_t)(a[0] * q[0] + a[1] * q[1] + a[2] * q[2] + a[3] * q[3]);
}
KALM__FN void kalm__sum_int16_scalar(uint32_t acc[16], const int16_t *a, const int16_t *q, size_t cols32)
{
	size_t k, j;
	for (k = 0; k < cols32; k += 2, a += 2)
		for (j = 0; j < 16; j++, q += 2) acc[j] += (uint32_t)(a[0] * q[0]) + (uint32_t)(a[1] * q[1]);
}

/* Panel p of w, read from `panel`, times row r: 16 outputs, of which those that w has are written. */
KALM__FN void kalm__dot_integers_scalar(const kalm__matmul_job *m, const void *panel, size_t p, size_t r)
{
	const kalm__matrix *w = m->w;
	size_t cols32 = kalm__cols32(w->cols), outputs = kalm__min(16, w->rows - 16 * p), j;
	const void *at = (const unsigned char *)m->acts + kalm__scales_bytes(m->rows);
	const int16_t *a = (const int16_t *)at + r * cols32;
	float s = ((const float *)m->acts)[r], *out = m->y + (r - m->row0) * m->stride + 16 * (p - m->panel0);
	uint32_t acc[16] = {0};
	if (w->type == KALM__Q16) kalm__sum_int16_scalar(acc, a, (const int16_t *)panel, cols32);
	else kalm__sum_int8_scalar(acc, a, (const int8_t *)panel, cols32);
	for (j = 0; j < outputs; j++)
		out[j] = kalm__times(kalm__times(kalm__rounded((float)(int32_t)acc[j]), w->scale[16 * p + j]), s);
}
KALM__FN void kalm__dot_floats_scalar(const kalm__matmul_job *m, const float *panel, size_t p, size_t r)
{
	size_t cols = m->w->cols, outputs = kalm__min(16, m->w->rows - 16 * p), k, j;
	const float *a = (const float *)m->acts + r * cols;
	float acc[16] = {0}, *out = m->y + (r - m->row0) * m->stride + 16 * (p - m->panel0);
	for (k = 0; k < cols; k++)
		for (j = 0; j < 16; j++) acc[j] = kalm__fma(a[k], panel[16 * k + j], acc[j]);
	for (j = 0; j < outputs; j++) out[j] = acc[j];
}

KALM__FN void kalm__matmul_scalar(const kalm__matmul_job *m)
{
	const kalm__matrix *w = m->w;
	size_t p, r, bytes = kalm__panel_stride(w);
	for (p = m->panel0; p < m->panel0 + m->panels; p++) {
		const void *panel = (const unsigned char *)w->data + p * bytes;
		if (w->type == KALM__Q4) {
			kalm__unpack_q4_scalar(panel, w->cols, m->scratch);
			panel = m->scratch;
		}
		if (kalm__is_quantised(w->type) || w->type == KALM__Q16) {
			for (r = m->row0; r < m->row0 + m->n; r++) kalm__dot_integers_scalar(m, panel, p, r);
		} else {
			const float *v = kalm__float_panel_scalar(w->type, panel, w->cols, m->scratch);
			for (r = m->row0; r < m->row0 + m->n; r++) kalm__dot_floats_scalar(m, v, p, r);
		}
	}
}

static const kalm__kernels kalm__kernels_scalar = {
	"scalar", &kalm__table_scalar, { NULL, NULL, NULL, NULL, NULL, NULL }, NULL, NULL
};

/* ---- begin src/kernels_tiles.h ---- */
/* kernels_tiles.h - the one driver of all vector sets: it packs rows and walks through panels and rows, calling for each register
	tile the function that the set's table names. A set is tiles, packers and tables of them alone; kernels_scalar.h,
	the oracle of their tests, shares nothing with it. */
/* More is in docs/KERNELS.md. */
#define KALM__KERNELS_TILES_H


/* ---- what a set says of itself ---- */

/* What every tile of a call needs. */
typedef struct kalm__tile_job {
	const unsigned char *weights;  /* the first panel */
	size_t panel;  /* bytes from a panel to the next */
	size_t steps;  /* lines of 64 bytes in a panel */
	const int32_t *sum;  /* [panels * 16] of these panels, or NULL */
	const float *scale;  /* [panels * 16] of these panels, or NULL */
	const unsigned char *acts;  /* the tile */
	const float *row_scale;  /* [height] */
	size_t height;  /* rows of the tile */
	float *y;  /* the tile's first row, the first panel's first output */
	size_t stride;  /* floats from a row of y to the next */
	size_t outputs;  /* valid outputs from there on, at most 16 a panel are written */
	const unsigned char *ahead;  /* what to prefetch, ... */
	size_t ahead_step;  /* ... this many bytes further at every step; may be 0 */
	void *late;  /* [kalm__tiles.late] lines, the call's */
} kalm__tile_job;
typedef void (*kalm__tile_fn)(const kalm__tile_job *job);

/* Up to four rows on their way into a tile. */
typedef struct kalm__four_rows {
	unsigned char *tile;
	size_t height, first, n;  /* rows of the tile; rows [first, first + n) of it are these, n from 1 to 4 */
	const float *x[4];  /* [cols] each; behind the n-th the last one again */
	float scale[4];
	float inverse[4];  /* what to multiply the rows by */
	size_t cols;
	size_t further;  /* floats from a row to the one four rows on, to prefetch */
	uint8_t *high;  /* pack_split16: [n][KALM__SPLIT16_COLS] */
} kalm__four_rows;

/* How a set multiplies matrices of one type. (kernels_avx2.h has a table of it with the names of the fields beside.) */
typedef struct kalm__tiles {
	uint8_t most;  /* rows of the highest tile: a divisor of KALM__ACTS_STEP */
	uint8_t even;  /* 1: tiles are cut in pairs of rows, so only a block's last one can be odd */
	uint8_t direct; /* Tiles of at most so many rows are `direct`: they read a panel as it lies in
			memory, from where it comes while they work; others find it in the cache. */
	uint8_t form; /* the type as which direct tiles read panels: F32, Q8 or Q16. unpack makes it
			of other types. */
	uint8_t prepared;  /* the type whose size the panels of other tiles have; == form: the same panels */
	uint8_t input_bytes;  /* of a packed input */
	uint8_t sums;  /* 1: the tiles begin from the matrix' sums */
	uint8_t late;  /* lines of 64 bytes for sums that tiles store later */
	/* scale and inverse of rows; NULL: rows have none */
	void (*row_scales)(kalm__four_rows *f, float limit);
	void (*pack)(const kalm__four_rows *f);
	void (*unpack)(uint32_t type, const void *panel, size_t cols, void *out);  /* NULL: no type but `form` */
	void (*prepare)(const unsigned char *panel, size_t n, unsigned char *out);  /* NULL: prepared == form */
	const kalm__tile_fn *direct_tiles;  /* [direct]: one panel */
	const kalm__tile_fn *one;  /* [most]: one panel */
	const kalm__tile_fn *two;  /* [most]: two panels at once, or NULL */
	void (*frame)(void *late, int begin);  /* NULL, or called before (1) and behind (0) tiles above `direct` */
} kalm__tiles;

#if KALM__NEON || KALM__WASM  /* sets of four lanes */
KALM__FN void kalm__pack_floats(const kalm__four_rows *f)
{
	size_t height = f->height, cols = f->cols, k, i;
	for (i = 0; i < f->n; i++) {
		float *out = (float *)(void *)f->tile + f->first + i;
		const float *x = f->x[i];
		for (k = 0; k < cols; k++) out[k * height] = x[k];
	}
}

/* largest: magnitudes in four lanes of a row */
KALM__FN float kalm__scale_of_four(float *largest, float limit, float *inverse)
{
	largest[0] = largest[1] > largest[0] ? largest[1] : largest[0];
	largest[2] = largest[3] > largest[2] ? largest[3] : largest[2];
	return kalm__row_scale(largest[2] > largest[0] ? largest[2] : largest[0], limit, inverse);
}
#endif

/* ---- tiles ---- */

/* Rows of the tile that begins at row r of a block; r must be 0 or the end of another tile. */
KALM__INLINE size_t kalm__tile_rows(size_t rows, size_t r, size_t step, size_t most)
{
	size_t cut = r / step * step, at = cut;
	unsigned between = (unsigned)kalm__min(step, rows - cut), tiles = (between + (unsigned)most - 1) / (unsigned)most;
	for (;; tiles--) {
		unsigned tile = (between + tiles - 1) / tiles;
		if (at >= r) return tile;
		at += tile;
		between -= tile;
	}
}

KALM__INLINE size_t kalm__tile_height(const kalm__tiles *t, size_t rows, size_t r)
{
	if (r / KALM__ACTS_STEP * KALM__ACTS_STEP + KALM__ACTS_STEP <= rows) return t->most;  /* a whole step has whole tiles */
	if (!t->even) return kalm__tile_rows(rows, r, KALM__ACTS_STEP, t->most);
	return kalm__min(rows - r, 2 * kalm__tile_rows((rows + 1) / 2, r / 2, KALM__ACTS_STEP / 2, t->most / 2u));
}

/* Inputs of a packed row. */
KALM__INLINE size_t kalm__tile_inputs(const kalm__tiles *t, size_t cols)
{
	return t->form == KALM__F32 ? cols : kalm__cols32(cols);
}
KALM__INLINE size_t kalm__tile_scales(const kalm__tiles *t, size_t rows) { return t->row_scales ? kalm__scales_bytes(rows) : 0; }

/* Bytes for `rows` packed rows of `cols` for a matrix of `type`. A tile in pairs of rows may have one more. */
KALM__FN size_t kalm__acts_bytes(const kalm__kernels *k, uint32_t type, size_t rows, size_t cols)
{
	const kalm__tiles *t = k->tiles[type];
	if (!t) return kalm__acts_bytes_scalar(type, rows, cols);
	return kalm__add(kalm__tile_scales(t, rows), kalm__mul(kalm__mul(t->input_bytes, kalm__add(rows, rows & t->even)),
														   kalm__tile_inputs(t, cols)));
}

/* Scratch bytes that one call of kalm__matmul needs; the same for every call of a matrix. */
KALM__FN size_t kalm__matmul_scratch(const kalm__kernels *k, uint32_t type, size_t cols)
{
	const kalm__tiles *t = k->tiles[type];
	size_t bytes = 0;
	if (!t) return kalm__matmul_scratch_scalar(type, cols);
	if (t->form != type) bytes = kalm__panel_bytes(t->form, cols);
	if (t->prepare) bytes = kalm__add(bytes, kalm__panel_bytes(t->prepared, cols));
	return kalm__add((size_t)64 * t->late, kalm__mul(t->two ? 2 : 1, bytes));
}

/* ---- packing ---- */

/* Tile by tile, four rows at a time. split, inverse [rows], high [rows][KALM__SPLIT16_COLS]: for split16 rows; else NULL. */
KALM__FN void kalm__pack_tiles(const kalm__tiles *t, const kalm__block *b, size_t row0, size_t n, const float *x, size_t stride,
							   void (*split)(const kalm__four_rows *f), const float *inverse, uint8_t *high)
{
	float limit = b->type == KALM__Q16 ? (float)kalm__int16_limit(b->cols) : 127.0f, *scales = (float *)b->acts;
	size_t r, j, height, row_bytes = kalm__tile_inputs(t, b->cols) * t->input_bytes;
	kalm__four_rows f;
	f.high = high;
	f.cols = b->cols;
	f.further = 4 * stride;
	for (r = row0; r < row0 + n; r += height) {
		height = kalm__tile_height(t, b->rows, r);
		f.tile = (unsigned char *)b->acts + kalm__tile_scales(t, b->rows) + r * row_bytes;
		f.height = height;
		for (f.first = 0; f.first < height; f.first += 4) {
			size_t row = r + f.first;
			f.n = kalm__min(4, height - f.first);
			for (j = 0; j < 4; j++) f.x[j] = x + (row - row0 + kalm__min(j, f.n - 1)) * stride;
			if (inverse)
				for (j = 0; j < 4; j++) f.scale[j] = 1.0f, f.inverse[j] = inverse[row + kalm__min(j, f.n - 1)];
			else if (t->row_scales) t->row_scales(&f, limit);
			for (j = 0; t->row_scales && j < f.n; j++) scales[row + j] = f.scale[j];
			if (split) {
				f.high = high + row * KALM__SPLIT16_COLS;
				split(&f);
			} else t->pack(&f);
		}
	}
}

/* Pack rows [row0, row0 + n) of a block; x is the row `row0`, rows `stride` floats apart. */
KALM__FN void kalm__pack(const kalm__kernels *k, kalm__block b, size_t row0, size_t n, const float *x, size_t stride)
{
	const kalm__tiles *t = k->tiles[b.type];
	if (t) kalm__pack_tiles(t, &b, row0, n, x, stride, NULL, NULL, NULL);
	else kalm__pack_acts_scalar(b.type, b.acts, b.rows, row0, n, x, stride, b.cols);
}

/* Pack a whole block of split16 rows; inverse [rows]. Room: that of q8. high [rows][KALM__SPLIT16_COLS] gets the high bytes, and
	zeros up to cols32, where the set has multiply_high. */
KALM__FN void kalm__pack_split16(const kalm__kernels *k, kalm__block b, uint8_t *high, const float *x, size_t stride,
								 const float *inverse)
{
	const kalm__tiles *t = k->tiles[b.type];
	if (t) kalm__pack_tiles(t, &b, 0, b.rows, x, stride, k->pack_split16, inverse, high);
	else kalm__pack_split16_scalar(b.acts, b.rows, x, stride, inverse, b.cols);
}

/* ---- products ---- */

/* Direct tiles get their weights from memory, and ask for them a page ahead. */
enum { KALM__FAR_AHEAD = 4096 };

/* Which part of the next panels a call's tile number `tile` of `tiles` prefetches, a little at every step. */
KALM__INLINE void kalm__look_ahead(kalm__tile_job *job, size_t tile, size_t tiles, const unsigned char *next, size_t bytes)
{
	size_t spread = tiles < 4 ? tiles : tiles * 3 / 4, share = bytes / spread;
	job->ahead = tile < spread ? next + tile * share : next;
	job->ahead_step = tile < spread ? share / job->steps : 0;
}

/* Lines of 64 bytes in a panel of a type that tiles read. */
KALM__INLINE size_t kalm__tile_lines(unsigned form, size_t cols)
{
	return form == KALM__F32 ? cols : form == KALM__Q8 ? kalm__cols32(cols) / 4 : kalm__cols32(cols) / 2;
}

/* A tile of one panel, on each of two. */
KALM__INLINE void kalm__one_by_one(kalm__tile_fn tile, const kalm__tile_job *of)
{
	kalm__tile_job job = *of;
	tile(&job);
	job.weights += job.panel;
	if (job.sum) job.sum += 16;
	if (job.scale) job.scale += 16;
	job.y += 16;
	job.outputs -= 16;
	tile(&job);
}

KALM__FN void kalm__matmul_tiles(const kalm__tiles *t, const kalm__matmul_job *m)
{
	const kalm__matrix *w = m->w;
	size_t cols = w->cols, bytes = kalm__panel_stride(w), row_bytes = kalm__tile_inputs(t, cols) * t->input_bytes;
	size_t form_lines = kalm__tile_lines(t->form, cols), form_bytes = w->type == t->form ? bytes : 64 * form_lines;
	size_t prepared_lines = kalm__tile_lines(t->prepared, cols), prepared_bytes = 64 * prepared_lines;
	size_t tiles = (m->n + t->most - 1) / t->most, end = m->row0 + m->n, p, count, i, r, height, tile;
	/* with few rows no panel is used twice, so there is no reason to hold two in the cache */
	size_t together = t->two && m->n > t->direct ? 2 : 1;
	int high = kalm__tile_height(t, m->rows, m->row0) > t->direct, prepare = high && t->prepare;  /* the first tile is the highest */
	const unsigned char *rows = (const unsigned char *)m->acts + kalm__tile_scales(t, m->rows);
	kalm__tile_job job;
	memset(&job, 0, sizeof job);
	job.stride = m->stride;
	job.late = m->scratch;
	if (high && t->frame) t->frame(job.late, 1);
	for (p = m->panel0; p < m->panel0 + m->panels; p += count) {
		const unsigned char *source = (const unsigned char *)w->data + p * bytes, *panel = source, *ready;
		const unsigned char *next = (const unsigned char *)m->next;
		unsigned char *scratch = (unsigned char *)job.late + (size_t)64 * t->late;
		count = kalm__min(together, m->panel0 + m->panels - p);
		if (!next || p + count < m->panel0 + m->panels) next = source + count * bytes;
		if (w->type != t->form) {
			for (i = 0; i < count; i++) t->unpack(w->type, source + i * bytes, cols, scratch + i * form_bytes);
			panel = scratch;
			scratch += count * form_bytes;
		}
		ready = panel;
		if (prepare) {
			for (i = 0; i < count; i++) t->prepare(panel + i * form_bytes, form_lines, scratch + i * prepared_bytes);
			ready = scratch;
		}
		if (t->sums) job.sum = w->sum + 16 * p;
		if (t->row_scales) job.scale = w->scale + 16 * p;
		job.outputs = w->rows - 16 * p;
		for (r = m->row0, tile = 0; r < end; r += height, tile++) {
			height = kalm__tile_height(t, m->rows, r);
			job.height = height;
			job.acts = rows + r * row_bytes;
			job.row_scale = (const float *)m->acts + r;
			job.y = m->y + (r - m->row0) * m->stride + 16 * (p - m->panel0);
			if (height <= t->direct) {
				job.weights = panel;
				job.panel = form_bytes;
				job.steps = form_lines;
				if (next != source + bytes)  /* nobody else asks for what a worker begins with */
					for (i = 0; i < KALM__FAR_AHEAD; i += 64) KALM__PREFETCH(next + i);
				job.ahead = source + KALM__FAR_AHEAD;
				job.ahead_step = 64;
				if (count == 2) kalm__one_by_one(t->direct_tiles[height - 1], &job);
				else t->direct_tiles[height - 1](&job);
			} else {
				job.weights = ready;
				job.panel = prepare ? prepared_bytes : form_bytes;
				job.steps = prepared_lines;
				kalm__look_ahead(&job, tile, tiles, next, count * bytes);
				if (count == 2) t->two[height - 1](&job);
				else t->one[height - 1](&job);
			}
		}
	}
	if (high && t->frame) t->frame(job.late, 0);
}

KALM__INLINE void kalm__matmul(const kalm__kernels *k, const kalm__matmul_job *job)
{
	const kalm__tiles *t = k->tiles[job->w->type];
	if (t) kalm__matmul_tiles(t, job);
	else kalm__matmul_scalar(job);
}

/* All rows of a block times all panels of w. */
KALM__FN void kalm__multiply_block(const kalm__kernels *k, const kalm__matrix *w, const kalm__block *b, float *y, size_t stride,
								   void *scratch)
{
	kalm__matmul_job m;
	m.w = w;
	m.acts = b->acts;
	m.rows = m.n = b->rows;
	m.row0 = m.panel0 = 0;
	m.panels = ((size_t)w->rows + 15) / 16;
	m.y = y;
	m.stride = stride;
	m.scratch = scratch;
	m.next = NULL;
	kalm__matmul(k, &m);
}

/* ---- what tiles are written with ---- */

/* The lines of 4 inputs of high[cols32] that are not all zero, and how many they are. */
KALM__INLINE size_t kalm__find_lines(const uint8_t *high, size_t cols32, uint8_t live[KALM__SPLIT16_COLS / 4])
{
	size_t i, count = 0;
	for (i = 0; i < cols32; i += 8) {
		uint64_t two;
		memcpy(&two, high + i, 8);
		if (!two) continue;
		if (high[i] | high[i + 1] | high[i + 2] | high[i + 3]) live[count++] = (uint8_t)(i / 4);
		if (high[i + 4] | high[i + 5] | high[i + 6] | high[i + 7]) live[count++] = (uint8_t)(i / 4 + 1);
	}
	return count;
}

/* KALM__TILES_n(a, b): a1b, a2b, ... anb, the tiles of 1 to n rows */
#define KALM__TILES_1(a, b) a##1##b
#define KALM__TILES_2(a, b) KALM__TILES_1(a, b), a##2##b
#define KALM__TILES_3(a, b) KALM__TILES_2(a, b), a##3##b
#define KALM__TILES_4(a, b) KALM__TILES_3(a, b), a##4##b
#define KALM__TILES_6(a, b) KALM__TILES_4(a, b), a##5##b, a##6##b
#define KALM__TILES_12(a, b) KALM__TILES_6(a, b), a##7##b, a##8##b, a##9##b, a##10##b, a##11##b, a##12##b

/* ---- begin src/kernels_avx2.h ---- */
/* kernels_avx2.h - the ymm sets "avx2" and "avxvnni", which share packing, float tiles and q4. */
/* More is in docs/KERNELS.md. */
#define KALM__KERNELS_AVX2_H


#if KALM__X86

#include <immintrin.h>

#define KALM__256 KALM__TARGET("avx2,fma,f16c")

enum { KALM__256_TILE = 6, KALM__256_DIRECT = 3 };

/* ---- activations ---- */

/* The first n of eight lanes, n from 0 to 8. */
KALM__256 KALM__INLINE __m256i kalm__first_256(size_t n)
{
	static const int32_t mask[16] = { -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0 };
	return _mm256_loadu_si256((const __m256i *)(const void *)(mask + 8 - n));
}

/* Eight floats at x + k, zeros behind cols, which is not read. */
KALM__256 KALM__INLINE __m256 kalm__load_256(const float *x, size_t k, size_t cols)
{
	if (k + 8 <= cols) return _mm256_loadu_ps(x + k);
	if (k >= cols) return _mm256_setzero_ps();
	return _mm256_maskload_ps(x + k, kalm__first_256(cols - k));
}

KALM__256 KALM__INLINE float kalm__largest_256(__m256 m)
{
	__m128 v = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
	v = _mm_max_ps(v, _mm_movehl_ps(v, v));
	return _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps(v, v, 1)));
}

/* Four rows' scales at once, two chains a row to hide the latency of max. */
#define KALM__256_MAX2(r) \
	m##r = _mm256_max_ps(_mm256_and_ps(bits, _mm256_loadu_ps(x[r] + k)), m##r); \
	n##r = _mm256_max_ps(_mm256_and_ps(bits, _mm256_loadu_ps(x[r] + k + 8)), n##r);
#define KALM__256_MAX1(r) m##r = _mm256_max_ps(_mm256_and_ps(bits, kalm__load_256(x[r], k, cols)), m##r);
#define KALM__256_SCALE(r) f->scale[r] = kalm__row_scale(kalm__largest_256(_mm256_max_ps(m##r, n##r)), limit, &f->inverse[r]);
KALM__256 KALM__FN void kalm__row_scales_avx2(kalm__four_rows *f, float limit)
{
	const __m256 bits = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
	const float *const x[4] = { f->x[0], f->x[1], f->x[2], f->x[3] };
	__m256 m0 = _mm256_setzero_ps(), m1 = m0, m2 = m0, m3 = m0, n0 = m0, n1 = m0, n2 = m0, n3 = m0;
	size_t k, cols = f->cols;
	for (k = 0; k + 16 <= cols; k += 16) {
		KALM__REP_4(KALM__256_MAX2)
	}
	for (; k < cols; k += 8) {
		KALM__REP_4(KALM__256_MAX1)
	}
	KALM__REP_4(KALM__256_SCALE)
}

/* The first n dwords of v. No masked store: gcc folds it with an extract into a masked vextracti32x4, which faults on bytes
	that the mask excludes. */
KALM__TARGET("avx2") KALM__INLINE void kalm__store_dwords_avx2(void *out, size_t n, __m128i v)
{
	if (n == 4) {
		_mm_storeu_si128((__m128i *)out, v);
		return;
	}
	if (n >= 2) _mm_storel_epi64((__m128i *)out, v);
	if (n != 2) {
		int32_t odd = n == 1 ? _mm_cvtsi128_si32(v) : _mm_extract_epi32(v, 2);
		memcpy((unsigned char *)out + 4 * (n - 1), &odd, 4);
	}
}

KALM__256 KALM__INLINE __m256i kalm__quantise_256(__m256 x, __m256 inverse)
{
	return _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse));
}

/* Four rows into a tile, 8 inputs of each at a time: as int16, dwords of two inputs [cols32 / 2][height][2] or, for direct tiles, qwords
	of four [cols32 / 4][height][4]; or for vpdpbusd, which takes them unsigned, as bytes [cols32 / 4][height][4]: q + 128, or the low
	ones of split16 rows, the high ones row by row. */
enum { KALM__256_PAIRS, KALM__256_FOURS, KALM__256_BYTES, KALM__256_SPLIT };
KALM__256 KALM__INLINE void kalm__pack_256(const kalm__four_rows *f, int as)
{
	size_t height = f->height, n = f->n, cols = f->cols, cols32 = kalm__cols32(cols), further = f->further, k, j;
	const float *const x[4] = { f->x[0], f->x[1], f->x[2], f->x[3] };
	unsigned char *out = f->tile + 4 * f->first;
	__m256 i0 = _mm256_set1_ps(f->inverse[0]), i1 = _mm256_set1_ps(f->inverse[1]);
	__m256 i2 = _mm256_set1_ps(f->inverse[2]), i3 = _mm256_set1_ps(f->inverse[3]);
	for (k = 0; k < cols32; k += 8, out += (as >= KALM__256_BYTES ? 8 : 16) * height) {
		__m256i a = _mm256_packs_epi32(kalm__quantise_256(kalm__load_256(x[0], k, cols), i0),
									   kalm__quantise_256(kalm__load_256(x[1], k, cols), i1));
		__m256i b = _mm256_packs_epi32(kalm__quantise_256(kalm__load_256(x[2], k, cols), i2),
									   kalm__quantise_256(kalm__load_256(x[3], k, cols), i3));
		if ((k & 15) == 0) {
			KALM__PREFETCH(x[0] + further + k), KALM__PREFETCH(x[1] + further + k);
			KALM__PREFETCH(x[2] + further + k), KALM__PREFETCH(x[3] + further + k);
		}
		if (as >= KALM__256_BYTES) {
			__m256i q = _mm256_xor_si256(_mm256_packs_epi16(a, b), _mm256_set1_epi8('\x80'));
			if (as == KALM__256_SPLIT) {
				const __m256i low = _mm256_set1_epi16(255);
				unsigned char h[32];
				_mm256_storeu_si256((__m256i *)(void *)h, _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8)));
				for (j = 0; j < n; j++) {
					memcpy(f->high + j * KALM__SPLIT16_COLS + k, h + 4 * j, 4);
					memcpy(f->high + j * KALM__SPLIT16_COLS + k + 4, h + 16 + 4 * j, 4);
				}
				q = _mm256_packus_epi16(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
			}
			kalm__store_dwords_avx2(out, n, _mm256_castsi256_si128(q));
			kalm__store_dwords_avx2(out + 4 * height, n, _mm256_extracti128_si256(q, 1));
		} else if (as == KALM__256_FOURS) {  /* a: 4 inputs of row 0, of row 1; the next 4 of both; b: rows 2, 3 */
			__m128i b0 = _mm256_castsi256_si128(b), b1 = _mm256_extracti128_si256(b, 1);
			kalm__store_dwords_avx2(out, n >= 2 ? 4 : 2, _mm256_castsi256_si128(a));
			if (n == 3) _mm_storel_epi64((__m128i *)(void *)(out + 16), b0);
			kalm__store_dwords_avx2(out + 8 * height, n >= 2 ? 4 : 2, _mm256_extracti128_si256(a, 1));
			if (n == 3) _mm_storel_epi64((__m128i *)(void *)(out + 8 * height + 16), b1);
		} else {
			__m256 fa = _mm256_castsi256_ps(a), fb = _mm256_castsi256_ps(b);
			__m256i even = _mm256_castps_si256(_mm256_shuffle_ps(fa, fb, 0x88));
			__m256i odd = _mm256_castps_si256(_mm256_shuffle_ps(fa, fb, 0xdd));
			kalm__store_dwords_avx2(out, n, _mm256_castsi256_si128(even));
			kalm__store_dwords_avx2(out + 4 * height, n, _mm256_castsi256_si128(odd));
			kalm__store_dwords_avx2(out + 8 * height, n, _mm256_extracti128_si256(even, 1));
			kalm__store_dwords_avx2(out + 12 * height, n, _mm256_extracti128_si256(odd, 1));
		}
	}
}

KALM__256 KALM__FN void kalm__pack_q8_avx2(const kalm__four_rows *f)
{
	if (f->height <= KALM__256_DIRECT) kalm__pack_256(f, KALM__256_FOURS);
	else kalm__pack_256(f, KALM__256_PAIRS);
}
KALM__256 KALM__FN void kalm__pack_q16_avx2(const kalm__four_rows *f) { kalm__pack_256(f, KALM__256_PAIRS); }
KALM__256 KALM__FN void kalm__pack_bytes_avx2(const kalm__four_rows *f) { kalm__pack_256(f, KALM__256_BYTES); }
KALM__256 KALM__FN void kalm__pack_split16_avx2(const kalm__four_rows *f) { kalm__pack_256(f, KALM__256_SPLIT); }

/* Four float rows into a tile [cols][height] */
KALM__256 KALM__FN void kalm__pack_floats_avx2(const kalm__four_rows *f)
{
	float *out = (float *)(void *)f->tile + f->first;
	const float *const x[4] = { f->x[0], f->x[1], f->x[2], f->x[3] };
	size_t height = f->height, n = f->n, cols = f->cols, k = 0, i;
	if (n == 4)
		for (; k + 4 <= cols; k += 4) {
			__m128 a = _mm_loadu_ps(x[0] + k), b = _mm_loadu_ps(x[1] + k);
			__m128 c = _mm_loadu_ps(x[2] + k), d = _mm_loadu_ps(x[3] + k);
			__m128 ab = _mm_unpacklo_ps(a, b), cd = _mm_unpacklo_ps(c, d);
			__m128 ef = _mm_unpackhi_ps(a, b), gh = _mm_unpackhi_ps(c, d);
			_mm_storeu_ps(out + k * height, _mm_movelh_ps(ab, cd));
			_mm_storeu_ps(out + (k + 1) * height, _mm_movehl_ps(cd, ab));
			_mm_storeu_ps(out + (k + 2) * height, _mm_movelh_ps(ef, gh));
			_mm_storeu_ps(out + (k + 3) * height, _mm_movehl_ps(gh, ef));
		}
	for (i = 0; i < n; i++) {
		const float *row = f->x[i];
		size_t at;
		for (at = k; at < cols; at++) out[at * height + i] = row[at];
	}
}

/* ---- results ---- */

/* Eight outputs from `first` on, of which those below job->outputs are written. */
KALM__256 KALM__INLINE void kalm__write_256(const kalm__tile_job *job, size_t r, size_t first, __m256 v)
{
	float *y = job->y + r * job->stride + first;
	if (job->outputs >= first + 8) _mm256_storeu_ps(y, v);
	else if (job->outputs > first) _mm256_maskstore_ps(y, kalm__first_256(job->outputs - first), v);
}

KALM__256 KALM__INLINE void kalm__store_256(const kalm__tile_job *job, size_t r, size_t first, __m256i acc)
{
	__m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(job->scale + first));
	KALM__FENCE_V(v);
	kalm__write_256(job, r, first, _mm256_mul_ps(v, _mm256_set1_ps(job->row_scale[r])));
}

/* ---- int16 tiles ---- */

KALM__256 KALM__INLINE __m256i kalm__broadcast4_256(const unsigned char *p)
{
	int32_t v;
	memcpy(&v, p, 4);
	return _mm256_set1_epi32(v);
}

KALM__256 KALM__INLINE __m256i kalm__broadcast8_256(const unsigned char *p)
{
	int64_t v;
	memcpy(&v, p, 8);
	return _mm256_set1_epi64x(v);
}

/* acc + two products in each dword. In asm because 12 accumulators, two weights, x and the products are just the 16
	registers there are, and gcc 12 spills: 66% of the peak with intrinsics. */
KALM__256 KALM__INLINE __m256i kalm__madd_256(__m256i acc, __m256i x, __m256i w)
{
#if defined(__GNUC__)
	__m256i products;
	__asm__("vpmaddwd {%3, %2, %1|%1, %2, %3}\n\tvpaddd {%1, %0, %0|%0, %0, %1}"
			: "+x"(acc), "=&x"(products) : "x"(x), "x"(w));
	return acc;
#else
	return _mm256_add_epi32(acc, _mm256_madd_epi16(x, w));
#endif
}

/* A tile of n rows by one panel, two accumulators a row. The macros whose names begin with `kind` say what is done: M int16 by vpmaddwd,
	F float, V q8 and W int16 by VNNI. BEGIN and ZERO: what sums begin with; STEP: what a row adds; STORE: where the sums go. */
#define KALM__256_X1(target, kind, vector, load, name, n) \
	target KALM__FN void name(const kalm__tile_job *job) \
	{ \
		const unsigned char *a = job->acts, *b = job->weights, *ahead = job->ahead; \
		size_t step, steps = job->steps, ahead_step = job->ahead_step; \
		vector w0, w1, x; \
		KALM__256_##kind##BEGIN \
		KALM__REP_##n(KALM__256_##kind##ZERO) \
		for (step = 0; step < steps; step++, a += 4 * n, b += 64, ahead += ahead_step) { \
			w0 = load(b); \
			w1 = load(b + 32); \
			KALM__PREFETCH(ahead); \
			KALM__REP_##n(KALM__256_##kind##STEP) \
		} \
		KALM__REP_##n(KALM__256_##kind##STORE) \
	}

/* int16 [cols32 / 2][16][2]: q16, or q8 prepared */
#define KALM__256_MBEGIN
#define KALM__256_MZERO(r) __m256i c##r = _mm256_setzero_si256(), d##r = _mm256_setzero_si256();
#define KALM__256_MLOAD(at) _mm256_load_si256((const __m256i *)(const void *)(at))
#define KALM__256_MSTEP(r) \
	x = kalm__broadcast4_256(a + 4 * r); \
	c##r = kalm__madd_256(c##r, x, w0); \
	d##r = kalm__madd_256(d##r, x, w1);
#define KALM__256_MSTORE(r) kalm__store_256(job, r, 0, c##r); kalm__store_256(job, r, 8, d##r);
#define KALM__256_INT16(n) KALM__256_X1(KALM__256, M, __m256i, KALM__256_MLOAD, kalm__int16_##n##x1_avx2, n)
KALM__256_INT16(1) KALM__256_INT16(2) KALM__256_INT16(3) KALM__256_INT16(4) KALM__256_INT16(5) KALM__256_INT16(6)

static const kalm__tile_fn kalm__int16_tiles_avx2[KALM__256_TILE] = {
	KALM__TILES_6(kalm__int16_, x1_avx2)
};

/* Up to three rows x one q8 panel, widened line by line: four accumulators a row, each with the two halves of the sums
	of four outputs side by side. */
#define KALM__256_DZERO(r) \
	__m256i c##r = _mm256_setzero_si256(), d##r = _mm256_setzero_si256(), e##r = c##r, f##r = c##r;
#define KALM__256_DMADD(r) \
	x = kalm__broadcast8_256(a + 8 * r); \
	c##r = kalm__madd_256(c##r, x, w0); \
	d##r = kalm__madd_256(d##r, x, w1); \
	e##r = kalm__madd_256(e##r, x, w2); \
	f##r = kalm__madd_256(f##r, x, w3);
/* hadd leaves outputs 0 1 4 5 | 2 3 6 7 */
#define KALM__256_DSTORE(r) \
	kalm__store_256(job, r, 0, _mm256_permute4x64_epi64(_mm256_hadd_epi32(c##r, d##r), 0xd8)); \
	kalm__store_256(job, r, 8, _mm256_permute4x64_epi64(_mm256_hadd_epi32(e##r, f##r), 0xd8));
#define KALM__256_LINE(at) _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)(const void *)(at)))
#define KALM__256_DIRECT_TILE(n) \
	KALM__256 KALM__FN void kalm__q8_##n##x1_avx2(const kalm__tile_job *job) \
	{ \
		const unsigned char *a = job->acts, *b = job->weights, *ahead = job->ahead; \
		size_t step, steps = job->steps, ahead_step = job->ahead_step; \
		__m256i w0, w1, w2, w3, x; \
		KALM__REP_##n(KALM__256_DZERO) \
		for (step = 0; step < steps; step++, a += 8 * n, b += 64, ahead += ahead_step) { \
			w0 = KALM__256_LINE(b); \
			w1 = KALM__256_LINE(b + 16); \
			w2 = KALM__256_LINE(b + 32); \
			w3 = KALM__256_LINE(b + 48); \
			KALM__PREFETCH(ahead); \
			KALM__REP_##n(KALM__256_DMADD) \
		} \
		KALM__REP_##n(KALM__256_DSTORE) \
	}
KALM__256_DIRECT_TILE(1) KALM__256_DIRECT_TILE(2) KALM__256_DIRECT_TILE(3)

static const kalm__tile_fn kalm__q8_tiles_avx2[KALM__256_DIRECT] = { KALM__TILES_3(kalm__q8_, x1_avx2) };

/* A q8 panel as int16 [cols32 / 2][16][2]; out may not be the panel */
KALM__256 KALM__FN void kalm__widen_avx2(const unsigned char *panel, size_t n, unsigned char *out)
{
	/* of four outputs' 4 inputs: the first two of each, then the last two */
	const __m128i halves = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
	for (; n; n--, panel += 64, out += 128) {
		const __m128i *line = (const __m128i *)(const void *)panel;
		__m256i *to = (__m256i *)(void *)out;
		__m256i a = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(_mm_load_si128(line), halves));
		__m256i b = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(_mm_load_si128(line + 1), halves));
		__m256i c = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(_mm_load_si128(line + 2), halves));
		__m256i d = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(_mm_load_si128(line + 3), halves));
		_mm256_store_si256(to, _mm256_permute2x128_si256(a, b, 0x20));
		_mm256_store_si256(to + 1, _mm256_permute2x128_si256(c, d, 0x20));
		_mm256_store_si256(to + 2, _mm256_permute2x128_si256(a, b, 0x31));
		_mm256_store_si256(to + 3, _mm256_permute2x128_si256(c, d, 0x31));
	}
}

/* ---- q4 ---- */

/* 32 nibbles in bytes: codebook entries times their outputs' multipliers, rounded (see blocks.h). */
KALM__256 KALM__INLINE __m256i kalm__q4_bytes_256(__m256i nibbles, __m256i codebook, __m256i twice)
{
	const __m256i high = _mm256_set1_epi16(-256);
	__m256i v = _mm256_shuffle_epi8(codebook, nibbles);
	__m256i odd = _mm256_mulhrs_epi16(_mm256_and_si256(v, high), twice);
	__m256i even = _mm256_mulhrs_epi16(_mm256_slli_epi16(v, 8), twice);
	return _mm256_or_si256(_mm256_slli_epi16(odd, 8), _mm256_andnot_si256(high, even));
}

KALM__256 KALM__FN void kalm__unpack_q4_avx2(uint32_t type, const void *panel, size_t cols, void *out)
{
	size_t groups = kalm__cols32(cols) / KALM__GROUP, g, t;
	const unsigned char *nibbles = (const unsigned char *)panel, *m = kalm__q4_panel_multipliers(panel, cols);
	unsigned char *q = (unsigned char *)out;
	const __m256i low = _mm256_set1_epi8(15);
	const __m128i levels = _mm_loadu_si128((const __m128i *)(const void *)kalm__q4_codebook);
	const __m256i codebook = _mm256_broadcastsi128_si256(levels);
	(void)type;
	for (g = 0; g < groups; g++, m += 16, nibbles += 256, q += 512) {
		__m128i bytes = _mm_load_si128((const __m128i *)(const void *)m);
		__m256i m0 = _mm256_cvtepu8_epi32(bytes), m1 = _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8));
		m0 = _mm256_or_si256(_mm256_slli_epi32(m0, 1), _mm256_slli_epi32(m0, 17));
		m1 = _mm256_or_si256(_mm256_slli_epi32(m1, 1), _mm256_slli_epi32(m1, 17));
		for (t = 0; t < 4; t++) {
			__m256i v0 = _mm256_load_si256((const __m256i *)(const void *)(nibbles + 64 * t));
			__m256i v1 = _mm256_load_si256((const __m256i *)(const void *)(nibbles + 64 * t + 32));
			__m256i *to = (__m256i *)(void *)(q + 64 * t), *to4 = (__m256i *)(void *)(q + 64 * (t + 4));
			_mm256_store_si256(to, kalm__q4_bytes_256(_mm256_and_si256(v0, low), codebook, m0));
			_mm256_store_si256(to + 1, kalm__q4_bytes_256(_mm256_and_si256(v1, low), codebook, m1));
			_mm256_store_si256(to4, kalm__q4_bytes_256(_mm256_and_si256(_mm256_srli_epi16(v0, 4), low), codebook, m0));
			_mm256_store_si256(to4 + 1,
							   kalm__q4_bytes_256(_mm256_and_si256(_mm256_srli_epi16(v1, 4), low), codebook, m1));
		}
	}
}

/* ---- float tiles: one fma chain an output, along all inputs ---- */

#define KALM__256_FBEGIN
#define KALM__256_FZERO(r) __m256 c##r = _mm256_setzero_ps(), d##r = _mm256_setzero_ps();
#define KALM__256_FLOAD(at) _mm256_load_ps((const float *)(const void *)(at))
#define KALM__256_FSTEP(r) \
	x = _mm256_broadcast_ss((const float *)(const void *)a + r); \
	c##r = _mm256_fmadd_ps(x, w0, c##r); \
	d##r = _mm256_fmadd_ps(x, w1, d##r);
#define KALM__256_FSTORE(r) kalm__write_256(job, r, 0, c##r); kalm__write_256(job, r, 8, d##r);
#define KALM__256_FTILE(n) KALM__256_X1(KALM__256, F, __m256, KALM__256_FLOAD, kalm__f32_##n##x1_avx2, n)
KALM__256_FTILE(1) KALM__256_FTILE(2) KALM__256_FTILE(3) KALM__256_FTILE(4) KALM__256_FTILE(5) KALM__256_FTILE(6)

static const kalm__tile_fn kalm__f32_tiles_avx2[KALM__256_TILE] = {
	KALM__TILES_6(kalm__f32_, x1_avx2)
};

KALM__256 KALM__FN void kalm__unpack_half_avx2(uint32_t type, const void *panel, size_t cols, void *out)
{
	const uint16_t *half = (const uint16_t *)panel;
	float *v = (float *)out;
	size_t k;
	if (type == KALM__F16)
		for (k = 0; k < 16 * cols; k += 8)
			_mm256_store_ps(v + k, _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)(half + k))));
	else
		for (k = 0; k < 16 * cols; k += 8) {
			__m256i dwords = _mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)(const void *)(half + k)));
			_mm256_store_ps(v + k, _mm256_castsi256_ps(_mm256_slli_epi32(dwords, 16)));
		}
}

/* ---- the set ---- */

static const kalm__tiles kalm__tiles_f32_avx2 = {
	KALM__256_TILE, 1, 0,  /* most, even, direct */
	KALM__F32, KALM__F32, 4, 0, 0,  /* form, prepared, input_bytes, sums, late */
	NULL, kalm__pack_floats_avx2, kalm__unpack_half_avx2, NULL,
	NULL, kalm__f32_tiles_avx2, NULL, NULL  /* direct_tiles, one, two, frame */
};
static const kalm__tiles kalm__tiles_q8_avx2 = {
	KALM__256_TILE, 1, KALM__256_DIRECT,
	KALM__Q8, KALM__Q16, 2, 0, 0,
	kalm__row_scales_avx2, kalm__pack_q8_avx2, kalm__unpack_q4_avx2, kalm__widen_avx2,
	kalm__q8_tiles_avx2, kalm__int16_tiles_avx2, NULL, NULL
};
static const kalm__tiles kalm__tiles_q16_avx2 = {
	KALM__256_TILE, 1, 0,
	KALM__Q16, KALM__Q16, 2, 0, 0,
	kalm__row_scales_avx2, kalm__pack_q16_avx2, NULL, NULL,
	NULL, kalm__int16_tiles_avx2, NULL, NULL
};
static const kalm__kernels kalm__kernels_avx2 = {
	"avx2", &kalm__table_avx2,
	{ &kalm__tiles_f32_avx2, &kalm__tiles_f32_avx2, &kalm__tiles_f32_avx2,
	  &kalm__tiles_q8_avx2, &kalm__tiles_q8_avx2, &kalm__tiles_q16_avx2 },
	NULL, NULL
};

/* ---- avxvnni ---- */

#if KALM__HAVE_AVXVNNI

#define KALM__VNNI KALM__TARGET("avx2,fma,f16c,avxvnni")

/* acc + four products in each dword; in asm for the reason given in kernels_avx512.h */
KALM__VNNI KALM__INLINE __m256i kalm__dpbusd_256(__m256i acc, __m256i x, __m256i w)
{
#if defined(__GNUC__)
	__asm__(KALM__VEX "vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+x"(acc) : "x"(x), "x"(w));
	return acc;
#else
	return _mm256_dpbusd_avx_epi32(acc, x, w);
#endif
}

/* acc + two products of int16 in each dword */
KALM__VNNI KALM__INLINE __m256i kalm__dpwssd_256(__m256i acc, __m256i x, __m256i w)
{
#if defined(__GNUC__)
	__asm__(KALM__VEX "vpdpwssd {%2, %1, %0|%0, %1, %2}" : "+x"(acc) : "x"(x), "x"(w));
	return acc;
#else
	return _mm256_dpwssd_avx_epi32(acc, x, w);
#endif
}

KALM__VNNI KALM__FN int kalm__multiply_high_avxvnni(const kalm__matrix *w, const uint8_t *high, float *y)
{
	uint8_t live[KALM__SPLIT16_COLS / 4];
	size_t count = kalm__find_lines(high, kalm__cols32(w->cols), live), p, l, bytes = kalm__panel_stride(w);
	kalm__tile_job job;
	float ones[16];
	if (!count) return 0;
	memset(&job, 0, sizeof job);
	for (l = 0; l < 16; l++) ones[l] = 1.0f;
	job.row_scale = job.scale = ones;
	for (p = 0; 16 * p < w->rows; p++) {
		const unsigned char *panel = (const unsigned char *)w->data + p * bytes;
		__m256i a = _mm256_setzero_si256(), b = a;
		for (l = 0; l < count; l++) {
			__m256i x = kalm__broadcast4_256(high + 4 * live[l]);
			const unsigned char *line = panel + 64 * (size_t)live[l];
			a = kalm__dpbusd_256(a, x, _mm256_load_si256((const __m256i *)(const void *)line));
			b = kalm__dpbusd_256(b, x, _mm256_load_si256((const __m256i *)(const void *)(line + 32)));
		}
		job.y = y + 16 * p;
		job.outputs = w->rows - 16 * p;
		kalm__store_256(&job, 0, 0, a);
		kalm__store_256(&job, 0, 8, b);
	}
	return 1;
}

KALM__VNNI KALM__INLINE __m256i kalm__start_256(const kalm__tile_job *job, size_t first)
{
	__m256i sum = _mm256_loadu_si256((const __m256i *)(const void *)(job->sum + first));
	return _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(sum, 7));
}

#define KALM__256_VBEGIN __m256i start0 = kalm__start_256(job, 0), start1 = kalm__start_256(job, 8);
#define KALM__256_VZERO(r) __m256i c##r = start0, d##r = start1;
#define KALM__256_VSTEP(r) \
	x = kalm__broadcast4_256(a + 4 * r); \
	c##r = kalm__dpbusd_256(c##r, x, w0); \
	d##r = kalm__dpbusd_256(d##r, x, w1);
#define KALM__256_VSTORE KALM__256_MSTORE
#define KALM__VNNI_TILE(n) KALM__256_X1(KALM__VNNI, V, __m256i, KALM__256_MLOAD, kalm__q8_##n##x1_avxvnni, n)
KALM__VNNI_TILE(3) KALM__VNNI_TILE(4) KALM__VNNI_TILE(5) KALM__VNNI_TILE(6)

/* Direct tiles: lines in two phases with accumulators of their own, for the latency. */
#define KALM__VNNI_DECLARE2(r) \
	__m256i c##r = start0, d##r = start1, e##r = _mm256_setzero_si256(), f##r = _mm256_setzero_si256();
#define KALM__VNNI_STEP2(r) \
	c##r = kalm__dpbusd_256(c##r, kalm__broadcast4_256(a + 4 * r), w0); \
	d##r = kalm__dpbusd_256(d##r, kalm__broadcast4_256(a + 4 * r), w1); \
	e##r = kalm__dpbusd_256(e##r, kalm__broadcast4_256(a + row + 4 * r), w2); \
	f##r = kalm__dpbusd_256(f##r, kalm__broadcast4_256(a + row + 4 * r), w3);
#define KALM__VNNI_STORE2(r) \
	kalm__store_256(job, r, 0, _mm256_add_epi32(c##r, e##r)); \
	kalm__store_256(job, r, 8, _mm256_add_epi32(d##r, f##r));
#define KALM__VNNI_TILE2(n) \
	KALM__VNNI KALM__FN void kalm__q8_##n##x1_avxvnni(const kalm__tile_job *job) \
	{ \
		const unsigned char *a = job->acts, *b = job->weights, *ahead = job->ahead; \
		size_t step, steps = job->steps, ahead_step = job->ahead_step; \
		__m256i start0 = kalm__start_256(job, 0), start1 = kalm__start_256(job, 8), w0, w1, w2, w3; \
		enum { row = 4 * n }; \
		KALM__REP_##n(KALM__VNNI_DECLARE2) \
		for (step = 0; step < steps; step += 2, a += 2 * row, b += 128, ahead += 2 * ahead_step) { \
			w0 = KALM__256_MLOAD(b); \
			w1 = KALM__256_MLOAD(b + 32); \
			w2 = KALM__256_MLOAD(b + 64); \
			w3 = KALM__256_MLOAD(b + 96); \
			KALM__PREFETCH(ahead); \
			KALM__PREFETCH(ahead + ahead_step); \
			KALM__REP_##n(KALM__VNNI_STEP2) \
		} \
		KALM__REP_##n(KALM__VNNI_STORE2) \
	}
KALM__VNNI_TILE2(1) KALM__VNNI_TILE2(2)

#define KALM__256_WBEGIN
#define KALM__256_WZERO KALM__256_MZERO
#define KALM__256_WSTEP(r) \
	x = kalm__broadcast4_256(a + 4 * r); \
	c##r = kalm__dpwssd_256(c##r, x, w0); \
	d##r = kalm__dpwssd_256(d##r, x, w1);
#define KALM__256_WSTORE KALM__256_MSTORE
#define KALM__VNNI_INT16(n) KALM__256_X1(KALM__VNNI, W, __m256i, KALM__256_MLOAD, kalm__int16_##n##x1_avxvnni, n)
KALM__VNNI_INT16(1) KALM__VNNI_INT16(2) KALM__VNNI_INT16(3) KALM__VNNI_INT16(4) KALM__VNNI_INT16(5) KALM__VNNI_INT16(6)

static const kalm__tile_fn kalm__int16_tiles_avxvnni[KALM__256_TILE] = {
	KALM__TILES_6(kalm__int16_, x1_avxvnni)
};

static const kalm__tile_fn kalm__q8_tiles_avxvnni[KALM__256_TILE] = {
	KALM__TILES_6(kalm__q8_, x1_avxvnni)
};

enum { KALM__VNNI_DIRECT = 2 };
static const kalm__tiles kalm__tiles_q8_avxvnni = {
	KALM__256_TILE, 1, KALM__VNNI_DIRECT,
	KALM__Q8, KALM__Q8, 1, 1, 0,
	kalm__row_scales_avx2, kalm__pack_bytes_avx2, kalm__unpack_q4_avx2, NULL,
	kalm__q8_tiles_avxvnni, kalm__q8_tiles_avxvnni, NULL, NULL
};
static const kalm__tiles kalm__tiles_q16_avxvnni = {
	KALM__256_TILE, 1, 0,
	KALM__Q16, KALM__Q16, 2, 0, 0,
	kalm__row_scales_avx2, kalm__pack_q16_avx2, NULL, NULL,
	NULL, kalm__int16_tiles_avxvnni, NULL, NULL
};
static const kalm__kernels kalm__kernels_avxvnni = {
	"avxvnni", &kalm__table_avx2,
	{ &kalm__tiles_f32_avx2, &kalm__tiles_f32_avx2, &kalm__tiles_f32_avx2,
	  &kalm__tiles_q8_avxvnni, &kalm__tiles_q8_avxvnni, &kalm__tiles_q16_avxvnni },
	kalm__pack_split16_avx2, kalm__multiply_high_avxvnni
};

#endif

#endif
/* ---- begin src/kernels_avx512.h ---- */
/* kernels_avx512.h - the set "avx512vnni": vpdpbusd on zmm, 64 multiply-adds an instruction, two a cycle. */
/* More is in docs/KERNELS.md. */
#define KALM__KERNELS_AVX512_H


#if KALM__HAVE_AVX512

#include <immintrin.h>

#define KALM__512 KALM__TARGET(KALM__AVX512F ",avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,popcnt")

enum {
	KALM__512_TILE = 12,
	KALM__512_SHORT = 6,  /* rows of a tile of q16, and of bf16 pairs: they hide the latency, with half the code */
	KALM__512_DIRECT = 4
};

/* ---- activations ---- */

/* Mask of the floats of a vector that begins at k and are inside cols. */
KALM__512 KALM__INLINE __mmask16 kalm__inside_512(size_t k, size_t cols)
{
	return (__mmask16)(k + 16 <= cols ? 0xffffu : k < cols ? (1u << (cols - k)) - 1u : 0u);
}

/* max(|m|, |x|) in one instruction: vrangeps with 3 = larger magnitude, 8 = sign cleared */
KALM__512 KALM__INLINE __m512 kalm__max_abs_512(__m512 m, __m512 x)
{
	return _mm512_range_ps(m, x, 11);
}

/* Four rows' scales at once. Two chains a row, to hide the latency of 4. */
#define KALM__512_MAX2(r) \
	m##r = kalm__max_abs_512(m##r, _mm512_loadu_ps(x[r] + k)); \
	n##r = kalm__max_abs_512(n##r, _mm512_loadu_ps(x[r] + k + 16));
#define KALM__512_MAX1(r) m##r = kalm__max_abs_512(m##r, _mm512_maskz_loadu_ps(in, x[r] + k));
#define KALM__512_SCALE(r) f->scale[r] = kalm__row_scale(_mm512_reduce_max_ps(_mm512_max_ps(m##r, n##r)), limit, &f->inverse[r]);
KALM__512 KALM__FN void kalm__row_scales_avx512(kalm__four_rows *f, float limit)
{
	const float *const x[4] = { f->x[0], f->x[1], f->x[2], f->x[3] };
	__m512 m0 = _mm512_setzero_ps(), m1 = m0, m2 = m0, m3 = m0, n0 = m0, n1 = m0, n2 = m0, n3 = m0;
	size_t k, cols = f->cols;
	for (k = 0; k + 32 <= cols; k += 32) {
		KALM__REP_4(KALM__512_MAX2)
	}
	for (; k < cols; k += 16) {
		__mmask16 in = kalm__inside_512(k, cols);
		KALM__REP_4(KALM__512_MAX1)
	}
	KALM__REP_4(KALM__512_SCALE)
}

/* What packers begin with, and the next 16 inputs of four rows as dwords a, b, c, d, zeros behind cols, which is not read. */
#define KALM__512_ROWS \
	size_t height = f->height, n = f->n, cols = f->cols, cols32 = kalm__cols32(cols), k; \
	const float *const x[4] = { f->x[0], f->x[1], f->x[2], f->x[3] }; \
	const __m512 i0 = _mm512_set1_ps(f->inverse[0]), i1 = _mm512_set1_ps(f->inverse[1]); \
	const __m512 i2 = _mm512_set1_ps(f->inverse[2]), i3 = _mm512_set1_ps(f->inverse[3]);
#define KALM__512_LOAD(v, r, from) v = _mm512_cvtps_epi32(_mm512_mul_ps(from, i##r));
#define KALM__512_NEXT(v, r) KALM__512_LOAD(v, r, _mm512_maskz_loadu_ps(in, x[r] + at))
#define KALM__512_MASKED KALM__512_NEXT(a, 0) KALM__512_NEXT(b, 1) KALM__512_NEXT(c, 2) KALM__512_NEXT(d, 3)
#define KALM__512_FOUR \
	size_t at = kalm__min(k, cols); \
	__mmask16 in = kalm__inside_512(k, cols); \
	__m512i a, b, c, d; \
	KALM__512_MASKED
#define KALM__512_OUT(four_rows) \
	a = four_rows; \
	kalm__store_dwords_avx2(out, n, _mm512_castsi512_si128(a)); \
	kalm__store_dwords_avx2(out + 4 * height, n, _mm512_extracti32x4_epi32(a, 1)); \
	kalm__store_dwords_avx2(out + 8 * height, n, _mm512_extracti32x4_epi32(a, 2)); \
	kalm__store_dwords_avx2(out + 12 * height, n, _mm512_extracti32x4_epi32(a, 3));

/* Four rows into a tile. Packing the dwords of four rows into int16 and bytes leaves, in each 128-bit lane, 4 inputs of row 0, of
	row 1, 2 and 3: a tile's order without a shuffle. The next four rows are prefetched. */
KALM__512 KALM__FN void kalm__pack_q8_avx512(const kalm__four_rows *f)
{
	KALM__512_ROWS
	size_t further = f->further;
	unsigned char *out = f->tile + 4 * f->first;
	const __m512i to_unsigned = _mm512_set1_epi8('\x80');
	for (k = 0; k < cols32; k += 16, out += 16 * height) {
		size_t at = kalm__min(k, cols);
		__mmask16 in = kalm__inside_512(k, cols);
		__m512i a, b, c, d;
		if (k + 16 <= cols) {  /* a tenth faster than with a mask */
			KALM__512_LOAD(a, 0, _mm512_loadu_ps(x[0] + k)) KALM__512_LOAD(b, 1, _mm512_loadu_ps(x[1] + k))
			KALM__512_LOAD(c, 2, _mm512_loadu_ps(x[2] + k)) KALM__512_LOAD(d, 3, _mm512_loadu_ps(x[3] + k))
		} else {
			KALM__512_MASKED
		}
		KALM__PREFETCH(x[0] + further + k), KALM__PREFETCH(x[1] + further + k);
		KALM__PREFETCH(x[2] + further + k), KALM__PREFETCH(x[3] + further + k);
		a = _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
		KALM__512_OUT(_mm512_xor_si512(a, to_unsigned))
	}
}

/* The low bytes of four split16 rows into a tile, and the high ones row by row; vpdpbusd takes both unsigned as they are. */
KALM__512 KALM__FN void kalm__pack_split16_avx512(const kalm__four_rows *f)
{
	KALM__512_ROWS
	unsigned char *out = f->tile + 4 * f->first;
	uint8_t *high = f->high;
	const __m512i low = _mm512_set1_epi32(255);
	uint8_t *h1 = high + (n > 1 ? KALM__SPLIT16_COLS : 0), *h2 = high + (n > 2 ? 2 * KALM__SPLIT16_COLS : 0);
	uint8_t *h3 = high + (n > 3 ? 3 * KALM__SPLIT16_COLS : 0);
	for (k = 0; k < cols32; k += 16, out += 16 * height) {
		KALM__512_FOUR
		/* rows that are not there write to the first one's place before it does */
		_mm_storeu_si128((__m128i *)(void *)(h3 + k), _mm512_cvtepi32_epi8(_mm512_srli_epi32(d, 8)));
		_mm_storeu_si128((__m128i *)(void *)(h2 + k), _mm512_cvtepi32_epi8(_mm512_srli_epi32(c, 8)));
		_mm_storeu_si128((__m128i *)(void *)(h1 + k), _mm512_cvtepi32_epi8(_mm512_srli_epi32(b, 8)));
		_mm_storeu_si128((__m128i *)(void *)(high + k), _mm512_cvtepi32_epi8(_mm512_srli_epi32(a, 8)));
		a = _mm512_packs_epi32(_mm512_and_si512(a, low), _mm512_and_si512(b, low));
		c = _mm512_packs_epi32(_mm512_and_si512(c, low), _mm512_and_si512(d, low));
		KALM__512_OUT(_mm512_packus_epi16(a, c))
	}
}

/* ---- q8 tiles ---- */

KALM__512 KALM__INLINE __m512i kalm__broadcast4_512(const unsigned char *p)
{
	int32_t v;
	memcpy(&v, p, 4);
	return _mm512_set1_epi32(v);
}

KALM__512 KALM__INLINE __mmask16 kalm__outputs_512(const kalm__tile_job *job, size_t panel)
{
	size_t left = job->outputs - 16 * panel;
	return (__mmask16)(left >= 16 ? 0xffffu : (1u << left) - 1u);
}

KALM__512 KALM__INLINE void kalm__store_512(float *y, __mmask16 outputs, __m512i acc, __m512 scale, float row_scale)
{
	__m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), scale);
	KALM__FENCE_V(v);
	_mm512_mask_storeu_ps(y, outputs, _mm512_mul_ps(v, _mm512_set1_ps(row_scale)));
}

/* What the stores of a tile need, read before the first of them: behind a store the compiler would read it again. */
#define KALM__512_RESULTS1 \
	float *y = job->y; \
	const float *row_scale = job->row_scale; \
	size_t stride = job->stride; \
	__m512 scale0 = _mm512_loadu_ps(job->scale); \
	__mmask16 some0 = kalm__outputs_512(job, 0);
#define KALM__512_RESULTS2 \
	KALM__512_RESULTS1 \
	__m512 scale1 = _mm512_loadu_ps(job->scale + 16); \
	__mmask16 some1 = kalm__outputs_512(job, 1);

KALM__512 KALM__INLINE __m512i kalm__start_512(const kalm__tile_job *job, size_t panel)
{
	return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(_mm512_loadu_si512(job->sum + 16 * panel), 7));
}

/* acc + four products in each dword. In asm: gcc 12 spills accumulators around the intrinsic. */
KALM__512 KALM__INLINE __m512i kalm__dpbusd_512(__m512i acc, __m512i x, __m512i w)
{
#if defined(__GNUC__)
	__asm__("vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+v"(acc) : "v"(x), "v"(w));
	return acc;
#else
	return _mm512_dpbusd_epi32(acc, x, w);
#endif
}

/* A tile of n rows by one panel (X1) or two (X2), one accumulator a row and panel. The macros whose names begin with `kind` say what is
	done: Q q8, W q16, F float, B bf16 (kernels_avx512bf16.h). BEGIN and ZERO: what sums begin with;
	AHEAD: what is prefetched; STEP: what a row adds; RESULTS and STORE: where the sums go. */
#define KALM__512_X1(target, kind, vector, load, name, n) \
	target KALM__FN void name(const kalm__tile_job *job) \
	{ \
		const unsigned char *a = job->acts, *b = job->weights; \
		size_t step, steps = job->steps; \
		vector w0; \
		KALM__REP_##n(KALM__512_##kind##ZERO1) \
		for (step = 0; step < steps; step++, a += 4 * n, b += 64) { \
			w0 = load(b); \
			KALM__REP_##n(KALM__512_##kind##STEP1) \
		} \
		{ \
			KALM__512_##kind##RESULTS1 \
			KALM__REP_##n(KALM__512_##kind##STORE1) \
		} \
	}
#define KALM__512_X2(target, kind, vector, load, name, n) \
	target KALM__FN void name(const kalm__tile_job *job) \
	{ \
		const unsigned char *a = job->acts, *b = job->weights, *ahead = job->ahead; \
		size_t panel = job->panel, step, steps = job->steps, ahead_step = job->ahead_step; \
		vector w0, w1, x; \
		KALM__512_##kind##BEGIN2 \
		KALM__REP_##n(KALM__512_##kind##ZERO2) \
		for (step = 0; step < steps; step++, a += 4 * n, b += 64, ahead += ahead_step) { \
			w0 = load(b); \
			w1 = load(b + panel); \
			KALM__512_##kind##AHEAD \
			KALM__REP_##n(KALM__512_##kind##STEP2) \
		} \
		{ \
			KALM__512_##kind##RESULTS2 \
			KALM__REP_##n(KALM__512_##kind##STORE2) \
		} \
	}

#define KALM__512_QAHEAD KALM__PREFETCH(ahead);
#define KALM__512_QBEGIN2 __m512i start0 = kalm__start_512(job, 0), start1 = kalm__start_512(job, 1);
#define KALM__512_QZERO2(r) __m512i c##r = start0, d##r = start1;
#define KALM__512_QSTEP2(r) \
	x = kalm__broadcast4_512(a + 4 * r); \
	c##r = kalm__dpbusd_512(c##r, x, w0); \
	d##r = kalm__dpbusd_512(d##r, x, w1);
#define KALM__512_QRESULTS2 KALM__512_RESULTS2
#define KALM__512_QSTORE2(r) \
	kalm__store_512(y + r * stride, some0, c##r, scale0, row_scale[r]); \
	kalm__store_512(y + r * stride + 16, some1, d##r, scale1, row_scale[r]);
#define KALM__512_TILE2(n) KALM__512_X2(KALM__512, Q, __m512i, _mm512_load_si512, kalm__q8_##n##x2_avx512, n)
KALM__512_TILE2(5) KALM__512_TILE2(6) KALM__512_TILE2(7) KALM__512_TILE2(8)
KALM__512_TILE2(9) KALM__512_TILE2(10) KALM__512_TILE2(11) KALM__512_TILE2(12)

/* One panel, n rows. Lines are taken in two or (few rows) four phases with accumulators of their own, so that there are
	enough of them to hide the latency of vpdpbusd; whole numbers, so the order does not matter. A panel has a multiple
	of 8 lines. */
#define KALM__512_PHASE(p, acc, r) acc##r = kalm__dpbusd_512(acc##r, kalm__broadcast4_512(a + p * row + 4 * r), w##p);
#define KALM__512_LINE(p) w##p = _mm512_load_si512(b + 64 * p);
#define KALM__512_ASK(p) KALM__PREFETCH(ahead + p * ahead_step);
#define KALM__512_PZERO2(r) __m512i c##r = start0, d##r = _mm512_setzero_si512();
#define KALM__512_PSTEP2(r) KALM__512_PHASE(0, c, r) KALM__512_PHASE(1, d, r)
#define KALM__512_PSUM2(r) _mm512_add_epi32(c##r, d##r)
#define KALM__512_PSTORE2(r) kalm__store_512(y + r * stride, some0, KALM__512_PSUM2(r), scale0, row_scale[r]);
#define KALM__512_PZERO4(r) KALM__512_PZERO2(r) __m512i e##r = d##r, f##r = d##r;
#define KALM__512_PSTEP4(r) KALM__512_PSTEP2(r) KALM__512_PHASE(2, e, r) KALM__512_PHASE(3, f, r)
#define KALM__512_PSTORE4(r) \
	kalm__store_512(y + r * stride, some0, _mm512_add_epi32(KALM__512_PSUM2(r), _mm512_add_epi32(e##r, f##r)), scale0, row_scale[r]);
#define KALM__512_PHASES(phases, n) \
	KALM__512 KALM__FN void kalm__q8_##n##x1_avx512(const kalm__tile_job *job) \
	{ \
		const unsigned char *a = job->acts, *b = job->weights, *ahead = job->ahead; \
		size_t step, steps = job->steps, ahead_step = job->ahead_step; \
		__m512i start0 = kalm__start_512(job, 0), KALM__512_W##phases; \
		enum { row = 4 * n }; \
		KALM__REP_##n(KALM__512_PZERO##phases) \
		for (step = 0; step < steps; step += phases, a += phases * row, b += phases * 64, ahead += phases * ahead_step) { \
			KALM__REP_##phases(KALM__512_LINE) \
			KALM__REP_##phases(KALM__512_ASK) \
			KALM__REP_##n(KALM__512_PSTEP##phases) \
		} \
		{ \
			KALM__512_RESULTS1 \
			KALM__REP_##n(KALM__512_PSTORE##phases) \
		} \
	}
#define KALM__512_W2 w0, w1
#define KALM__512_W4 w0, w1, w2, w3
KALM__512_PHASES(4, 1) KALM__512_PHASES(4, 2) KALM__512_PHASES(4, 3) KALM__512_PHASES(4, 4)
KALM__512_PHASES(2, 5) KALM__512_PHASES(2, 6) KALM__512_PHASES(2, 7) KALM__512_PHASES(2, 8)
KALM__512_PHASES(2, 9) KALM__512_PHASES(2, 10) KALM__512_PHASES(2, 11) KALM__512_PHASES(2, 12)

static const kalm__tile_fn kalm__q8_tiles_avx512[2][KALM__512_TILE] = {
	{ KALM__TILES_12(kalm__q8_, x1_avx512) },
	{ NULL, NULL, NULL, NULL, kalm__q8_5x2_avx512, kalm__q8_6x2_avx512, kalm__q8_7x2_avx512, kalm__q8_8x2_avx512,
	  kalm__q8_9x2_avx512, kalm__q8_10x2_avx512, kalm__q8_11x2_avx512, kalm__q8_12x2_avx512 }
};

/* ---- the high bytes of a split16 row ---- */

/* Eight panels at a time, so that their sums do not wait for each other; what is left one by one. */
#define KALM__512_HIGH_ZERO(i) __m512i c##i = _mm512_setzero_si512();
#define KALM__512_HIGH_STEP(i) c##i = kalm__dpbusd_512(c##i, x, _mm512_load_si512(line + i * bytes));
#define KALM__512_HIGH_STORE(i) _mm512_storeu_ps(y + 16 * (p + i), _mm512_cvtepi32_ps(c##i));
KALM__512 KALM__FN int kalm__multiply_high_avx512(const kalm__matrix *w, const uint8_t *high, float *y)
{
	const __m512i number = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	uint8_t live[KALM__SPLIT16_COLS / 4 + 16];
	size_t count = 0, cols32 = kalm__cols32(w->cols), p, l, bytes = kalm__panel_stride(w);
	for (l = 0; l < cols32; l += 64) {
		__mmask64 in = cols32 - l >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (cols32 - l)) - 1;
		__m512i v = _mm512_maskz_loadu_epi8(in, high + l), all = _mm512_add_epi32(number, _mm512_set1_epi32((int)(l / 4)));
		__mmask16 some = _mm512_test_epi32_mask(v, v);
		_mm_storeu_si128((__m128i *)(void *)(live + count), _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(some, all)));
		count += (size_t)_mm_popcnt_u32(some);
	}
	if (!count) return 0;
	for (p = 0; 16 * (p + 8) <= w->rows; p += 8) {
		const unsigned char *panel = (const unsigned char *)w->data + p * bytes;
		KALM__REP_8(KALM__512_HIGH_ZERO)
		for (l = 0; l < count; l++) {
			__m512i x = kalm__broadcast4_512(high + 4 * live[l]);
			const unsigned char *line = panel + 64 * (size_t)live[l];
			KALM__REP_8(KALM__512_HIGH_STEP)
		}
		KALM__REP_8(KALM__512_HIGH_STORE)
	}
	for (; 16 * p < w->rows; p++) {
		const unsigned char *panel = (const unsigned char *)w->data + p * bytes;
		size_t left = w->rows - 16 * p;
		__m512i c = _mm512_setzero_si512();
		for (l = 0; l < count; l++)
			c = kalm__dpbusd_512(c, kalm__broadcast4_512(high + 4 * live[l]), _mm512_load_si512(panel + 64 * (size_t)live[l]));
		_mm512_mask_storeu_ps(y + 16 * p, (__mmask16)(left >= 16 ? 0xffffu : (1u << left) - 1u), _mm512_cvtepi32_ps(c));
	}
	return 1;
}

/* ---- q16 tiles: vpdpwssd, two products of int16 in each dword ---- */

KALM__512 KALM__INLINE __m512i kalm__dpwssd_512(__m512i acc, __m512i x, __m512i w)
{
#if defined(__GNUC__)
	__asm__("vpdpwssd {%2, %1, %0|%0, %1, %2}" : "+v"(acc) : "v"(x), "v"(w));
	return acc;
#else
	return _mm512_dpwssd_epi32(acc, x, w);
#endif
}

#define KALM__512_WAHEAD (void)ahead;
#define KALM__512_WBEGIN2
#define KALM__512_WZERO1(r) __m512i c##r = _mm512_setzero_si512();
#define KALM__512_WZERO2(r) __m512i c##r = _mm512_setzero_si512(), d##r = _mm512_setzero_si512();
#define KALM__512_WSTEP1(r) c##r = kalm__dpwssd_512(c##r, kalm__broadcast4_512(a + 4 * r), w0);
#define KALM__512_WSTEP2(r) \
	x = kalm__broadcast4_512(a + 4 * r); \
	c##r = kalm__dpwssd_512(c##r, x, w0); \
	d##r = kalm__dpwssd_512(d##r, x, w1);
#define KALM__512_WRESULTS1 KALM__512_RESULTS1
#define KALM__512_WRESULTS2 KALM__512_RESULTS2
#define KALM__512_WSTORE1(r) kalm__store_512(y + r * stride, some0, c##r, scale0, row_scale[r]);
#define KALM__512_WSTORE2 KALM__512_QSTORE2
#define KALM__512_WTILE(n) \
	KALM__512_X1(KALM__512, W, __m512i, _mm512_load_si512, kalm__int16_##n##x1_avx512, n) \
	KALM__512_X2(KALM__512, W, __m512i, _mm512_load_si512, kalm__int16_##n##x2_avx512, n)
KALM__512_WTILE(1) KALM__512_WTILE(2) KALM__512_WTILE(3) KALM__512_WTILE(4) KALM__512_WTILE(5) KALM__512_WTILE(6)

static const kalm__tile_fn kalm__int16_tiles_avx512[2][KALM__512_SHORT] = {
	{ KALM__TILES_6(kalm__int16_, x1_avx512) },
	{ KALM__TILES_6(kalm__int16_, x2_avx512) }
};

/* ---- float tiles: one fma chain an output, along all inputs ---- */

KALM__512 KALM__INLINE __m512 kalm__one_512(const unsigned char *a, size_t r)
{
	return _mm512_set1_ps(((const float *)(const void *)a)[r]);
}

KALM__512 KALM__INLINE void kalm__store_floats_512(const kalm__tile_job *job, size_t r, size_t panel, __m512 acc)
{
	_mm512_mask_storeu_ps(job->y + r * job->stride + 16 * panel, kalm__outputs_512(job, panel), acc);
}

#define KALM__512_FAHEAD KALM__PREFETCH(ahead);
#define KALM__512_FBEGIN2
#define KALM__512_FZERO1(r) __m512 c##r = _mm512_setzero_ps();
#define KALM__512_FZERO2(r) __m512 c##r = _mm512_setzero_ps(), d##r = _mm512_setzero_ps();
#define KALM__512_FSTEP1(r) c##r = _mm512_fmadd_ps(kalm__one_512(a, r), w0, c##r);
#define KALM__512_FSTEP2(r) \
	x = kalm__one_512(a, r); \
	c##r = _mm512_fmadd_ps(x, w0, c##r); \
	d##r = _mm512_fmadd_ps(x, w1, d##r);
#define KALM__512_FRESULTS1
#define KALM__512_FRESULTS2
#define KALM__512_FSTORE1(r) kalm__store_floats_512(job, r, 0, c##r);
#define KALM__512_FSTORE2(r) kalm__store_floats_512(job, r, 0, c##r); kalm__store_floats_512(job, r, 1, d##r);
#define KALM__512_FTILE(n) \
	KALM__512_X1(KALM__512, F, __m512, _mm512_load_ps, kalm__f32_##n##x1_avx512, n) \
	KALM__512_X2(KALM__512, F, __m512, _mm512_load_ps, kalm__f32_##n##x2_avx512, n)
KALM__512_FTILE(1) KALM__512_FTILE(2) KALM__512_FTILE(3) KALM__512_FTILE(4) KALM__512_FTILE(5) KALM__512_FTILE(6)
KALM__512_FTILE(7) KALM__512_FTILE(8) KALM__512_FTILE(9) KALM__512_FTILE(10) KALM__512_FTILE(11) KALM__512_FTILE(12)

static const kalm__tile_fn kalm__f32_tiles_avx512[2][KALM__512_TILE] = {
	{ KALM__TILES_12(kalm__f32_, x1_avx512) },
	{ KALM__TILES_12(kalm__f32_, x2_avx512) }
};

KALM__512 KALM__FN void kalm__unpack_half_avx512(uint32_t type, const void *panel, size_t cols, void *out)
{
	const uint16_t *half = (const uint16_t *)panel;
	float *v = (float *)out;
	size_t k;
	if (type == KALM__F16)
		for (k = 0; k < 16 * cols; k += 16)
			_mm512_store_ps(v + k, _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)(half + k))));
	else
		for (k = 0; k < 16 * cols; k += 16) {
			__m512i dwords = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)(const void *)(half + k)));
			_mm512_store_ps(v + k, _mm512_castsi512_ps(_mm512_slli_epi32(dwords, 16)));
		}
}

/* ---- q4 ---- */

/* 64 bytes of levels (codebook entries in the high bytes of words) times their outputs' multipliers, rounded: see
	blocks.h. */
KALM__512 KALM__INLINE __m512i kalm__q4_line_512(__m512i nibbles, __m512i codebook, __m512i multiplier)
{
	const __m512i high = _mm512_set1_epi16(-256);
	__m512i v = _mm512_shuffle_epi8(codebook, nibbles);
	__m512i odd = _mm512_mulhrs_epi16(_mm512_and_si512(v, high), multiplier);
	__m512i even = _mm512_mulhrs_epi16(_mm512_slli_epi16(v, 8), multiplier);
	return _mm512_mask_blend_epi8(0x5555555555555555u, _mm512_slli_epi16(odd, 8), even);
}

KALM__512 KALM__FN void kalm__unpack_q4_avx512(uint32_t type, const void *panel, size_t cols, void *out)
{
	size_t groups = kalm__cols32(cols) / KALM__GROUP, g, t;
	const unsigned char *nibbles = (const unsigned char *)panel, *m = kalm__q4_panel_multipliers(panel, cols);
	unsigned char *q = (unsigned char *)out;
	const __m512i low = _mm512_set1_epi8(15);
	const __m512i codebook = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)kalm__q4_codebook));
	(void)type;
	for (g = 0; g < groups; g++, m += 16, nibbles += 256, q += 512) {
		__m512i dwords = _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)(const void *)m));
		__m512i twice = _mm512_or_si512(_mm512_slli_epi32(dwords, 1), _mm512_slli_epi32(dwords, 17));
		for (t = 0; t < 4; t++) {
			__m512i v = _mm512_load_si512(nibbles + 64 * t);
			_mm512_store_si512(q + 64 * t, kalm__q4_line_512(_mm512_and_si512(v, low), codebook, twice));
			_mm512_store_si512(q + 64 * (t + 4),
							   kalm__q4_line_512(_mm512_and_si512(_mm512_srli_epi16(v, 4), low), codebook, twice));
		}
	}
}

/* ---- the set ---- */

static const kalm__tiles kalm__tiles_f32_avx512 = {
	KALM__512_TILE, 1, 0,
	KALM__F32, KALM__F32, 4, 0, 0,
	NULL, kalm__pack_floats_avx2, kalm__unpack_half_avx512, NULL,
	NULL, kalm__f32_tiles_avx512[0], kalm__f32_tiles_avx512[1], NULL
};
static const kalm__tiles kalm__tiles_q8_avx512 = {
	KALM__512_TILE, 1, KALM__512_DIRECT,
	KALM__Q8, KALM__Q8, 1, 1, 0,
	kalm__row_scales_avx512, kalm__pack_q8_avx512, kalm__unpack_q4_avx512, NULL,
	kalm__q8_tiles_avx512[0], kalm__q8_tiles_avx512[0], kalm__q8_tiles_avx512[1], NULL
};
static const kalm__tiles kalm__tiles_q16_avx512 = {
	KALM__512_SHORT, 1, 0,
	KALM__Q16, KALM__Q16, 2, 0, 0,
	kalm__row_scales_avx512, kalm__pack_q16_avx2, NULL, NULL,
	NULL, kalm__int16_tiles_avx512[0], kalm__int16_tiles_avx512[1], NULL
};
static const kalm__kernels kalm__kernels_avx512vnni = {
	"avx512vnni", &kalm__table_avx512,
	{ &kalm__tiles_f32_avx512, &kalm__tiles_f32_avx512, &kalm__tiles_f32_avx512,
	  &kalm__tiles_q8_avx512, &kalm__tiles_q8_avx512, &kalm__tiles_q16_avx512 },
	kalm__pack_split16_avx512, kalm__multiply_high_avx512
};

#endif
/* ---- begin src/kernels_avx512bf16.h ---- */
/* kernels_avx512bf16.h - the set "avx512bf16": avx512vnni, but for bf16 weights, whose products vdpbf16ps makes in pairs, 32
	multiply-adds an instruction, twice the rate of fused multiply-adds on zmm. */
/* More is in docs/KERNELS.md. */
#define KALM__KERNELS_AVX512BF16_H


#if KALM__HAVE_AVX512BF16

#define KALM__BF16_512 KALM__TARGET(KALM__AVX512F ",avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c,popcnt")

/* Sixteen floats as bf16, to nearest, ties to even */
KALM__BF16_512 KALM__INLINE __m256i kalm__halves_avx512bf16(__m512 x)
{
	__m512i u = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
	return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16));
}

/* Four rows as bf16 into a tile, [cols32 / 2][height][2] */
KALM__BF16_512 KALM__FN void kalm__pack_halves_avx512bf16(const kalm__four_rows *f)
{
	size_t height = f->height, n = f->n, cols = f->cols, cols32 = kalm__cols32(cols), k, l;
	const float *const x[4] = { f->x[0], f->x[1], f->x[2], f->x[3] };
	unsigned char *out = f->tile + 4 * f->first;
	for (k = 0; k < cols32; k += 16, out += 32 * height) {
		size_t at = kalm__min(k, cols);
		__mmask16 in = kalm__inside_512(k, cols);
		KALM__ALIGNED(64) uint32_t pairs[4][8], row[8][4];
		for (l = 0; l < 4; l++)
			_mm256_store_si256((__m256i *)(void *)pairs[l], kalm__halves_avx512bf16(_mm512_maskz_loadu_ps(in, x[l] + at)));
		for (l = 0; l < 8; l++) {
			row[l][0] = pairs[0][l], row[l][1] = pairs[1][l];
			row[l][2] = pairs[2][l], row[l][3] = pairs[3][l];
		}
		for (l = 0; l < 8; l++)
			kalm__store_dwords_avx2(out + 4 * height * l, n, _mm_load_si128((const __m128i *)(const void *)row[l]));
	}
}

/* A panel [cols][16] as [cols32 / 2][16][2], zeros behind cols */
KALM__BF16_512 KALM__FN void kalm__pair_avx512bf16(uint32_t type, const void *from, size_t cols, void *to)
{
	const unsigned char *panel = (const unsigned char *)from;
	unsigned char *out = (unsigned char *)to;
	const __m512i pairs = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
										   20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
	size_t k, cols32 = kalm__cols32(cols);
	(void)type;
	for (k = 0; k + 2 <= cols; k += 2, panel += 64, out += 64)
		_mm512_store_si512(out, _mm512_permutexvar_epi16(pairs, _mm512_loadu_si512(panel)));
	for (; k < cols32; k += 2, out += 64)
		_mm512_store_si512(out, k >= cols ? _mm512_setzero_si512() :
								_mm512_permutexvar_epi16(pairs, _mm512_maskz_loadu_epi32(0xff, panel)));
}

/* acc + two products in each dword; in asm, since compilers differ in the types its intrinsic takes */
KALM__BF16_512 KALM__INLINE __m512 kalm__dpbf16_512(__m512 acc, __m512i x, __m512i w)
{
	__asm__("vdpbf16ps {%2, %1, %0|%0, %1, %2}" : "+v"(acc) : "v"(x), "v"(w));
	return acc;
}

#define KALM__512_BAHEAD KALM__PREFETCH(ahead);
#define KALM__512_BBEGIN2
#define KALM__512_BZERO1 KALM__512_FZERO1
#define KALM__512_BZERO2 KALM__512_FZERO2
#define KALM__512_BSTEP1(r) c##r = kalm__dpbf16_512(c##r, kalm__broadcast4_512(a + 4 * r), w0);
#define KALM__512_BSTEP2(r) \
	x = kalm__broadcast4_512(a + 4 * r); \
	c##r = kalm__dpbf16_512(c##r, x, w0); \
	d##r = kalm__dpbf16_512(d##r, x, w1);
#define KALM__512_BRESULTS1
#define KALM__512_BRESULTS2
#define KALM__512_BSTORE1 KALM__512_FSTORE1
#define KALM__512_BSTORE2 KALM__512_FSTORE2
#define KALM__BF16_TILE(n) \
	KALM__512_X1(KALM__BF16_512, B, __m512i, _mm512_load_si512, kalm__bf16_##n##x1_avx512bf16, n) \
	KALM__512_X2(KALM__BF16_512, B, __m512i, _mm512_load_si512, kalm__bf16_##n##x2_avx512bf16, n)
KALM__BF16_TILE(1) KALM__BF16_TILE(2) KALM__BF16_TILE(3) KALM__BF16_TILE(4) KALM__BF16_TILE(5) KALM__BF16_TILE(6)

static const kalm__tile_fn kalm__bf16_tiles_avx512bf16[2][KALM__512_SHORT] = {
	{ KALM__TILES_6(kalm__bf16_, x1_avx512bf16) },
	{ KALM__TILES_6(kalm__bf16_, x2_avx512bf16) }
};

/* Two bf16 take the room of two int16: a panel of pairs has the bytes of one of q16. */
static const kalm__tiles kalm__tiles_bf16_avx512bf16 = {
	KALM__512_SHORT, 1, 0,
	KALM__Q16, KALM__Q16, 2, 0, 0,
	NULL, kalm__pack_halves_avx512bf16, kalm__pair_avx512bf16, NULL,
	NULL, kalm__bf16_tiles_avx512bf16[0], kalm__bf16_tiles_avx512bf16[1], NULL
};
static const kalm__kernels kalm__kernels_avx512bf16 = {
	"avx512bf16", &kalm__table_avx512,
	{ &kalm__tiles_f32_avx512, &kalm__tiles_f32_avx512, &kalm__tiles_bf16_avx512bf16,
	  &kalm__tiles_q8_avx512, &kalm__tiles_q8_avx512, &kalm__tiles_q16_avx512 },
	kalm__pack_split16_avx512, kalm__multiply_high_avx512
};

#endif
/* ---- begin src/kernels_amx.h ---- */
/* kernels_amx.h - the set "amx" (Sapphire Rapids on, 64-bit Linux): avx512vnni, but tiles of 13 to 48 q8 or q4 rows by tdpbusd. */
/* More is in docs/KERNELS.md. */
#define KALM__KERNELS_AMX_H


#if KALM__HAVE_AMX

#define KALM__AMX KALM__TARGET(KALM__AVX512F ",avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,popcnt,amx-tile,amx-int8")

enum { KALM__AMX_TILE = 48, KALM__AMX_DIRECT = 12 };

#ifndef KALM__TILE_DOT  /* tests have them in C */
#  define KALM__TILE_CONFIG(p) __asm__ volatile("ldtilecfg %0" : : "m"(*(p)))
#  define KALM__TILE_RELEASE() __asm__ volatile("tilerelease")
#  define KALM__TILE_ZERO(t) __asm__ volatile("tilezero {%%tmm" #t "|tmm" #t "}" : :);
#  define KALM__TILE_LOAD(t, p) \
	__asm__ volatile("tileloadd {(%0,%1,1), %%tmm" #t "|tmm" #t ", [%0+%1]}" : : "r"(p), "r"((size_t)64) : "memory");
#  define KALM__TILE_STORE(t, p) \
	__asm__ volatile("tilestored {%%tmm" #t ", (%0,%1,1)|[%0+%1], tmm" #t "}" : : "r"(p), "r"((size_t)64) : "memory");
#  define KALM__TILE_DOT(t) __asm__ volatile("tdpbusd {%%tmm7, %%tmm6, %%tmm" #t "|tmm" #t ", tmm6, tmm7}" : :);  /* t += 6 * 7 */
#endif

/* Four rows of bytes into a tile; of split16 rows the low ones, and the high ones row by row. Rows that are not there write to the
	first one's place before it does. */
#define KALM__AMX_PUT(v, r) \
	if (split) _mm_storeu_si128((__m128i *)(void *)(f->high + (r < n ? r * KALM__SPLIT16_COLS : 0) + k), \
								_mm512_cvtepi32_epi8(_mm512_srli_epi32(v, 8))); \
	_mm_storeu_si128((__m128i *)(void *)(out + (r < n ? r * wide : 0)), split ? _mm512_cvtepi32_epi8(v) \
					 : _mm_xor_si128(_mm512_cvtsepi32_epi8(v), _mm_set1_epi8('\x80')));
KALM__AMX KALM__INLINE void kalm__pack_amx(const kalm__four_rows *f, int split)
{
	KALM__512_ROWS
	for (k = 0; k < cols32; k += 16) {
		size_t begin = k / 64 * 64, wide = kalm__min(64, cols32 - begin);
		unsigned char *out = f->tile + begin * height + f->first * wide + k - begin;
		KALM__512_FOUR
		KALM__AMX_PUT(d, 3) KALM__AMX_PUT(c, 2) KALM__AMX_PUT(b, 1) KALM__AMX_PUT(a, 0)
	}
}
KALM__AMX KALM__FN void kalm__pack_q8_amx(const kalm__four_rows *f)
{
	if (f->height <= KALM__AMX_DIRECT) kalm__pack_q8_avx512(f);
	else kalm__pack_amx(f, 0);
}
KALM__AMX KALM__FN void kalm__pack_split16_amx(const kalm__four_rows *f)
{
	if (f->height <= KALM__AMX_DIRECT) kalm__pack_split16_avx512(f);
	else kalm__pack_amx(f, 1);
}

/* Seven tiles of so many rows, and one of 16 lines of weights; 0: the thread has none any more, and little to keep. */
KALM__AMX KALM__FN void kalm__shape_amx(size_t rows)
{
	KALM__ALIGNED(64) unsigned char config[64] = { 1 };
	size_t t;
	for (t = 0; t < 8; t++) config[16 + 2 * t] = 64, config[48 + t] = (unsigned char)(t < 7 ? rows : 16);
	if (rows) KALM__TILE_CONFIG(&config);
	else KALM__TILE_RELEASE();
}

/* A tile's sums, whose rows from r on the next tile stores while its products are made. */
typedef struct kalm__amx_late {
	int32_t sums[2 * KALM__AMX_TILE * 16];
	kalm__tile_job job;
	size_t second, r;  /* 1: of two panels */
} kalm__amx_late;

KALM__AMX KALM__INLINE void kalm__store_late_amx(kalm__amx_late *late, size_t rows)
{
	const kalm__tile_job *job = &late->job;
	size_t second = late->second, r = late->r, end = kalm__min(r + rows, job->height);
	KALM__512_RESULTS1
	__m512 scale1 = _mm512_loadu_ps(job->scale + 16 * second);
	__m512i start0 = kalm__start_512(job, 0), start1 = kalm__start_512(job, second);
	__mmask16 some1 = kalm__outputs_512(job, second);
	for (y += r * stride; r < end; r++, y += stride) {
		const int32_t *sum = late->sums + 16 * r;
		kalm__store_512(y, some0, _mm512_add_epi32(start0, _mm512_load_si512(sum)), scale0, row_scale[r]);
		sum += 16 * KALM__AMX_TILE * second;
		kalm__store_512(y + 16 * second, some1, _mm512_add_epi32(start1, _mm512_load_si512(sum)), scale1, row_scale[r]);
	}
	late->r = end;
}
KALM__AMX KALM__FN void kalm__frame_amx(void *memory, int begin)
{
	kalm__amx_late *late = (kalm__amx_late *)memory;
	if (begin) late->r = late->job.height = 0;
	else if (late->r < late->job.height) kalm__store_late_amx(late, KALM__AMX_TILE);
	kalm__shape_amx(begin ? 16 : 0);
}

#define KALM__AMX_SECOND(t) if (panels == 2) KALM__TILE_DOT(t);
#define KALM__AMX_SUMS(t, u, row) \
	KALM__TILE_STORE(t, late->sums + (row) * 16); KALM__TILE_STORE(u, late->sums + (KALM__AMX_TILE + (row)) * 16);
KALM__AMX KALM__INLINE void kalm__tile_amx(const kalm__tile_job *job, size_t panels)
{
	KALM__ALIGNED(64) unsigned char rest[80 * 64];  /* 48 rows, 2 * 16 lines */
	kalm__amx_late *late = (kalm__amx_late *)job->late;
	const unsigned char *a = job->acts, *b = job->weights, *ahead = job->ahead;
	size_t second = panels - 1, panel = second * job->panel, left, height = job->height, r;
	size_t middle = kalm__min(16, height - kalm__min(16, height)), last = height - kalm__min(16, height);
	size_t pace = (KALM__AMX_TILE * 16 + job->steps - 1) / job->steps;
	if (height < 16) kalm__shape_amx(height);
	KALM__TILE_ZERO(0) KALM__TILE_ZERO(1) KALM__TILE_ZERO(2) KALM__TILE_ZERO(3) KALM__TILE_ZERO(4) KALM__TILE_ZERO(5)
	for (left = job->steps; left; left -= kalm__min(16, left), a += 64 * height, b += 1024) {
		if (left < 16) {
			memset(rest, 0, sizeof rest);
			for (r = 0; r < height; r++) memcpy(rest + 64 * r, a + 32 * r, 32);
			for (r = 0; r < panels; r++) memcpy(rest + 3072 + 1024 * r, b + r * panel, 512);
			a = rest, b = rest + 3072, panel = 1024 * second;
		}
		for (r = 0; r < 16; r++, ahead += job->ahead_step) _mm_prefetch((const char *)ahead, _MM_HINT_T1);
		KALM__TILE_LOAD(6, a) KALM__TILE_LOAD(7, b) KALM__TILE_DOT(0)
		KALM__TILE_LOAD(7, b + panel) KALM__AMX_SECOND(3)
		if (height > 16) {
			KALM__TILE_LOAD(6, a + 64 * middle) KALM__AMX_SECOND(4)
			KALM__TILE_LOAD(7, b) KALM__TILE_DOT(1)
		}
		if (height > 32) {
			KALM__TILE_LOAD(6, a + 64 * last) KALM__TILE_DOT(2)
			KALM__TILE_LOAD(7, b + panel) KALM__AMX_SECOND(5)
		}
		if (late->r < late->job.height) kalm__store_late_amx(late, pace);
	}
	KALM__AMX_SUMS(0, 3, 0)
	if (height > 16) { KALM__AMX_SUMS(1, 4, middle) }
	if (height > 32) { KALM__AMX_SUMS(2, 5, last) }
	if (height < 16) kalm__shape_amx(16);
	late->job = *job;
	late->second = second;
	late->r = 0;
}
KALM__AMX KALM__FN void kalm__q8_x1_amx(const kalm__tile_job *job) { kalm__tile_amx(job, 1); }
KALM__AMX KALM__FN void kalm__q8_x2_amx(const kalm__tile_job *job) { kalm__tile_amx(job, 2); }

/* One function for all heights. */
#define KALM__AMX_X1(i) kalm__q8_x1_amx, kalm__q8_x1_amx, kalm__q8_x1_amx, kalm__q8_x1_amx,
#define KALM__AMX_X2(i) kalm__q8_x2_amx, kalm__q8_x2_amx, kalm__q8_x2_amx, kalm__q8_x2_amx,
static const kalm__tile_fn kalm__q8_tiles_amx[2][KALM__AMX_TILE] = { { KALM__REP_12(KALM__AMX_X1) }, { KALM__REP_12(KALM__AMX_X2) } };
static const kalm__tiles kalm__tiles_q8_amx = {
	KALM__AMX_TILE, 0, KALM__AMX_DIRECT,
	KALM__Q8, KALM__Q8, 1, 1, (sizeof(kalm__amx_late) + 63) / 64,
	kalm__row_scales_avx512, kalm__pack_q8_amx, kalm__unpack_q4_avx512, NULL,
	kalm__q8_tiles_avx512[0], kalm__q8_tiles_amx[0], kalm__q8_tiles_amx[1], kalm__frame_amx
};
static const kalm__kernels kalm__kernels_amx = {
	"amx", &kalm__table_avx512,
	{ &kalm__tiles_f32_avx512, &kalm__tiles_f32_avx512, &kalm__tiles_f32_avx512,
	  &kalm__tiles_q8_amx, &kalm__tiles_q8_amx, &kalm__tiles_q16_avx512 },
	kalm__pack_split16_amx, kalm__multiply_high_avx512
};

#endif
/* ---- begin src/kernels_neon.h ---- */
/* kernels_neon.h - the ARM sets "i8mm", "dotprod" and "neon" (AArch64, and ARMv7 in half the registers). */
/* More is in docs/KERNELS.md. */
#define KALM__KERNELS_NEON_H


#if KALM__NEON

#include <arm_neon.h>

/* Which compilers know sdot and smmla, and what a function needs to use them. GCC inlines only what asks for no more than the caller,
	so there the attribute must add to what the file is compiled for: nothing if it has the instruction already, a feature from ARMv8.1
	on (known by its QRDMX; 8.1 itself then fails in the assembler: compile for 8 or 8.2), a whole architecture below. */
#if !KALM__NEON64
#  define KALM__HAVE_DOT 0
#  define KALM__HAVE_MM 0
#elif !defined(__GNUC__)
#  define KALM__HAVE_DOT 1
#  define KALM__HAVE_MM 1
#  define KALM__DOT
#  define KALM__MM
#elif defined(__clang__)
#  define KALM__HAVE_DOT (__clang_major__ >= 7)
#  define KALM__HAVE_MM (__clang_major__ >= 11)
#  define KALM__DOT __attribute__((__target__("dotprod")))
#  define KALM__MM __attribute__((__target__("i8mm")))
#else
#  define KALM__HAVE_DOT (__GNUC__ >= 8)
#  define KALM__HAVE_MM (__GNUC__ >= 10)
#  if defined(__ARM_FEATURE_QRDMX)
#    define KALM__ARM(feature) __attribute__((__target__(feature)))
#  else
#    define KALM__ARM(feature) __attribute__((__target__("arch=armv8.2-a" feature)))
#  endif
#  ifdef __ARM_FEATURE_DOTPROD
#    define KALM__DOT
#  else
#    define KALM__DOT KALM__ARM("+dotprod")
#  endif
#  ifdef __ARM_FEATURE_MATMUL_INT8
#    define KALM__MM
#  else
#    define KALM__MM KALM__ARM("+i8mm")
#  endif
#endif

enum {
	KALM__DOT_TILE = 6,  /* sdot, smmla: 24 accumulators */
#if KALM__NEON64
	KALM__NEON_TILE = 2,  /* 16 accumulators */
	KALM__NEON_WTILE = 4,
	KALM__NEON_FTILE = 6,
#else
	KALM__NEON_TILE = 1,
	KALM__NEON_WTILE = 2,
	KALM__NEON_FTILE = 2,
#endif
	KALM__MM_DIRECT = 3  /* tiles that i8mm leaves to sdot */
};

/* ---- activations ---- */

/* Four floats at x + k, zeros behind cols, which is not read. */
KALM__INLINE float32x4_t kalm__load_neon(const float *x, size_t k, size_t cols)
{
	float some[4] = { 0.0f, 0.0f, 0.0f, 0.0f };
	if (k + 4 <= cols) return vld1q_f32(x + k);
	if (k < cols) memcpy(some, x + k, (cols - k) * sizeof(float));
	return vld1q_f32(some);
}

KALM__FN float kalm__one_scale_neon(const float *x, size_t cols, float limit, float *inverse)
{
	float32x4_t m = vdupq_n_f32(0.0f), n = m, o = m, p = m;
	size_t k;
	float largest[4];
	for (k = 0; k + 16 <= cols; k += 16) {
		m = vmaxq_f32(m, vabsq_f32(vld1q_f32(x + k)));
		n = vmaxq_f32(n, vabsq_f32(vld1q_f32(x + k + 4)));
		o = vmaxq_f32(o, vabsq_f32(vld1q_f32(x + k + 8)));
		p = vmaxq_f32(p, vabsq_f32(vld1q_f32(x + k + 12)));
	}
	for (; k < cols; k += 4) m = vmaxq_f32(m, vabsq_f32(kalm__load_neon(x, k, cols)));
	vst1q_f32(largest, vmaxq_f32(vmaxq_f32(m, n), vmaxq_f32(o, p)));
	return kalm__scale_of_four(largest, limit, inverse);
}

KALM__FN void kalm__row_scales_neon(kalm__four_rows *f, float limit)
{
	size_t i;
	for (i = 0; i < f->n; i++) f->scale[i] = kalm__one_scale_neon(f->x[i], f->cols, limit, &f->inverse[i]);
}

/* Nearest, ties to even. ARMv7 has no such conversion: adding 1.5 * 2^23 leaves the number in the low bits. */
KALM__INLINE int16x4_t kalm__round_neon(float32x4_t x, float32x4_t inverse)
{
#if KALM__NEON64
	return vmovn_s32(vcvtnq_s32_f32(vmulq_f32(x, inverse)));
#else
	return vmovn_s32(vreinterpretq_s32_f32(vaddq_f32(vmulq_f32(x, inverse), vdupq_n_f32(12582912.0f))));
#endif
}

/* A row, eight inputs at a time, as bytes: 4 and 4 to out, `half` bytes apart, then `apart` bytes on. Of a split16 row these
	are the low bytes, signed, and high gets the others, rounded accordingly; NULL for a row of bytes. */
KALM__FN void kalm__pack_row_neon(unsigned char *out, size_t half, size_t apart, const float *x, float inverse, size_t cols,
								  uint8_t *high)
{
	size_t cols32 = kalm__cols32(cols), k;
	float32x4_t i = vdupq_n_f32(inverse);
	for (k = 0; k < cols32; k += 8, out += apart) {
		int16x8_t w = vcombine_s16(kalm__round_neon(kalm__load_neon(x, k, cols), i),
								   kalm__round_neon(kalm__load_neon(x, k + 4, cols), i));
		int8x8_t q = vmovn_s16(w);
		if (high) vst1_u8(high + k, vreinterpret_u8_s8(vrshrn_n_s16(w, 8)));
		if (half == 4) vst1_s8((int8_t *)out, q);
		else {
			uint32_t pair[2];
			vst1_u32(pair, vreinterpret_u32_s8(q));
			memcpy(out, &pair[0], 4);
			memcpy(out + half, &pair[1], 4);
		}
	}
}

/* Four rows as int16 into a tile, [cols32 / 2][height][2] */
KALM__FN void kalm__pack_q16_neon(const kalm__four_rows *f)
{
	size_t height = f->height, cols = f->cols, cols32 = kalm__cols32(cols), k, i;
	for (i = 0; i < f->n; i++) {
		const float *x = f->x[i];
		float32x4_t by = vdupq_n_f32(f->inverse[i]);
		unsigned char *out = f->tile + 4 * (f->first + i);
		for (k = 0; k < cols32; k += 4, out += 8 * height) {
			uint32_t pair[2];
			vst1_u32(pair, vreinterpret_u32_s16(kalm__round_neon(kalm__load_neon(x, k, cols), by)));
			memcpy(out, &pair[0], 4);
			memcpy(out + 4 * height, &pair[1], 4);
		}
	}
}

/* Four rows as bytes into a tile, [cols32 / 4][height][4] */
KALM__FN void kalm__pack_q8_neon(const kalm__four_rows *f)
{
	size_t height = f->height, cols = f->cols, cols32 = kalm__cols32(cols), k, i;
	const float *x0 = f->x[0], *x1 = f->x[1], *x2 = f->x[2], *x3 = f->x[3];
	float32x4_t i0 = vdupq_n_f32(f->inverse[0]), i1 = vdupq_n_f32(f->inverse[1]);
	float32x4_t i2 = vdupq_n_f32(f->inverse[2]), i3 = vdupq_n_f32(f->inverse[3]);
	unsigned char *out = f->tile + 4 * f->first;
	if (f->n < 4) {
		for (i = 0; i < f->n; i++) kalm__pack_row_neon(out + 4 * i, 4 * height, 8 * height, f->x[i], f->inverse[i], cols, NULL);
		return;
	}
	for (k = 0; k < cols32; k += 4, out += 4 * height) {
		int16x8_t a = vcombine_s16(kalm__round_neon(kalm__load_neon(x0, k, cols), i0),
								   kalm__round_neon(kalm__load_neon(x1, k, cols), i1));
		int16x8_t b = vcombine_s16(kalm__round_neon(kalm__load_neon(x2, k, cols), i2),
								   kalm__round_neon(kalm__load_neon(x3, k, cols), i3));
		vst1q_s8((int8_t *)out, vcombine_s8(vmovn_s16(a), vmovn_s16(b)));
	}
}

/* The low bytes of four split16 rows into such a tile, and the high ones row by row */
KALM__FN void kalm__pack_split16_neon(const kalm__four_rows *f)
{
	size_t i;
	for (i = 0; i < f->n; i++)
		kalm__pack_row_neon(f->tile + 4 * (f->first + i), 4 * f->height, 8 * f->height, f->x[i], f->inverse[i], f->cols,
							f->high + i * KALM__SPLIT16_COLS);
}

#if KALM__HAVE_MM
/* For smmla: [cols32 / 8][height, made even][8], zeros for the row that is not there; high NULL: rows of bytes */
KALM__FN void kalm__pack_pairs_neon(const kalm__four_rows *f, uint8_t *high)
{
	size_t even = f->height + (f->height & 1), i, k;
	for (i = 0; i < f->n; i++)
		kalm__pack_row_neon(f->tile + 8 * (f->first + i), 4, 8 * even, f->x[i], f->inverse[i], f->cols,
							high ? high + i * KALM__SPLIT16_COLS : NULL);
	if (even > f->height && f->first + f->n == f->height)
		for (k = 0; k < kalm__cols32(f->cols) / 8; k++) memset(f->tile + (k * even + f->height) * 8, 0, 8);
}
KALM__FN void kalm__pack_q8_i8mm(const kalm__four_rows *f)
{
	if (f->height <= KALM__MM_DIRECT) kalm__pack_q8_neon(f);
	else kalm__pack_pairs_neon(f, NULL);
}
KALM__FN void kalm__pack_split16_i8mm(const kalm__four_rows *f)
{
	if (f->height <= KALM__MM_DIRECT) kalm__pack_split16_neon(f);
	else kalm__pack_pairs_neon(f, f->high);
}
#endif

/* The sums of neighbours, of a and then of b */
KALM__INLINE int32x4_t kalm__pairs_neon(int32x4_t a, int32x4_t b)
{
	return vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)), vpadd_s32(vget_low_s32(b), vget_high_s32(b)));
}

/* Rows of high bytes are few and short: the plain products, four inputs of four outputs at a time. */
KALM__FN int kalm__multiply_high_neon(const kalm__matrix *w, const uint8_t *high, float *y)
{
	uint8_t live[KALM__SPLIT16_COLS / 4];
	size_t count = kalm__find_lines(high, kalm__cols32(w->cols), live), p, l, i, bytes = kalm__panel_stride(w);
	if (!count) return 0;
	for (p = 0; 16 * p < w->rows; p++) {
		const unsigned char *panel = (const unsigned char *)w->data + p * bytes;
		int32x4_t sum[4];
		float all[16];
		for (i = 0; i < 4; i++) sum[i] = vdupq_n_s32(0);
		for (l = 0; l < count; l++) {
			int32_t four;
			int8x8_t x;
			memcpy(&four, high + 4 * (size_t)live[l], 4);
			x = vreinterpret_s8_s32(vdup_n_s32(four));
			for (i = 0; i < 4; i++) {
				int8x16_t v = vld1q_s8((const int8_t *)panel + 64 * (size_t)live[l] + 16 * i);
				sum[i] = vaddq_s32(sum[i], kalm__pairs_neon(vpaddlq_s16(vmull_s8(vget_low_s8(v), x)),
															vpaddlq_s16(vmull_s8(vget_high_s8(v), x))));
			}
		}
		for (i = 0; i < 4; i++) vst1q_f32(all + 4 * i, vcvtq_f32_s32(sum[i]));
		memcpy(y + 16 * p, all, kalm__min(16, w->rows - 16 * p) * sizeof *y);
	}
	return 1;
}

/* ---- results ---- */

/* Row r of a tile, 16 outputs, of which those below job->outputs are written. */
KALM__INLINE void kalm__write_neon(const kalm__tile_job *job, size_t r, float32x4_t a, float32x4_t b, float32x4_t c,
								   float32x4_t d)
{
	float *y = job->y + r * job->stride, all[16];
	int whole = job->outputs >= 16;
	float *to = whole ? y : all;
	vst1q_f32(to, a), vst1q_f32(to + 4, b), vst1q_f32(to + 8, c), vst1q_f32(to + 12, d);
	if (!whole) memcpy(y, all, job->outputs * sizeof(float));
}

KALM__INLINE float32x4_t kalm__scaled_neon(int32x4_t acc, const float *scale, float32x4_t s)
{
	float32x4_t v = vmulq_f32(vcvtq_f32_s32(acc), vld1q_f32(scale));
	KALM__FENCE_V(v);
	return vmulq_f32(v, s);
}

KALM__INLINE void kalm__store_neon(const kalm__tile_job *job, size_t r, int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d)
{
	float32x4_t s = vdupq_n_f32(job->row_scale[r]);
	kalm__write_neon(job, r, kalm__scaled_neon(a, job->scale, s), kalm__scaled_neon(b, job->scale + 4, s),
					 kalm__scaled_neon(c, job->scale + 8, s), kalm__scaled_neon(d, job->scale + 12, s));
}

KALM__INLINE int8x16_t kalm__bytes_neon(const unsigned char *p) { return vld1q_s8((const int8_t *)p); }

/* ---- plain tiles ---- */

#define KALM__NEON_ZERO(r) int32x4_t c##r = vdupq_n_s32(0), d##r = c##r, e##r = c##r, f##r = c##r;
#define KALM__NEON_ZERO8(r) KALM__NEON_ZERO(r) int32x4_t g##r = c##r, h##r = c##r, i##r = c##r, j##r = c##r;
#define KALM__NEON_PUT(r) kalm__store_neon(job, r, c##r, d##r, e##r, f##r);

/* Two lines a pass: products of the first by x, to which those of the second by y are added, two registers of each at a time. The order
	is for cores that keep it, as Cortex-A53 does: what needs a product comes eight instructions behind it, loads before sums that wait
	for nothing. In asm, since compilers change it. */
#if KALM__NEON64 && defined(__GNUC__)
#  define KALM__SMULL(t, u, w, x) \
	__asm__ volatile("smull %0.8h, %2.8b, %3.8b\n\tsmull2 %1.8h, %2.16b, %3.16b" : "=&w"(t), "=w"(u) : "w"(w), "w"(x));
#  define KALM__SMLAL(t, u, w, x) \
	__asm__ volatile("smlal %0.8h, %2.8b, %3.8b\n\tsmlal2 %1.8h, %2.16b, %3.16b" : "+w"(t), "+w"(u) : "w"(w), "w"(x));
#  define KALM__SADALP(acc, t) __asm__ volatile("sadalp %0.4s, %1.8h" : "+w"(acc) : "w"(t));
#  define KALM__NEON_W(v, w, at) __asm__ volatile("ldp %q0, %q1, [%2, " #at "]" : "=w"(v), "=w"(w) : "r"(b) : "memory");
#  define KALM__NEON_X(x, lane) __asm__ volatile("dup %0.4s, %1.s[" #lane "]" : "=w"(x) : "w"(raw));
#else
#  define KALM__SMULL(t, u, w, x) t = vmull_s8(vget_low_s8(w), vget_low_s8(x)), u = vmull_s8(vget_high_s8(w), vget_high_s8(x));
#  define KALM__SMLAL(t, u, w, x) t = vmlal_s8(t, vget_low_s8(w), vget_low_s8(x)), u = vmlal_s8(u, vget_high_s8(w), vget_high_s8(x));
#  define KALM__SADALP(acc, t) acc = vpadalq_s16(acc, t);
#  define KALM__NEON_W(v, w, at) v = kalm__bytes_neon(b + at), w = kalm__bytes_neon(b + at + 16);
#  define KALM__NEON_X(x, lane) x = vreinterpretq_s8_s32(vdupq_n_s32(vgetq_lane_s32(vreinterpretq_s32_s8(raw), lane)));
#endif
#define KALM__NEON_DECLARE(r) int8x16_t x##r, y##r; int16x8_t k##r, l##r, m##r, n##r;
#define KALM__NEON_FIRST(r) KALM__SMULL(k##r, l##r, w0, x##r) KALM__SMULL(m##r, n##r, w1, x##r)
#define KALM__NEON_SECOND(r) KALM__SMLAL(k##r, l##r, w2, y##r) KALM__SMLAL(m##r, n##r, w3, y##r)
#define KALM__NEON_LOW(r) KALM__SADALP(c##r, k##r) KALM__SADALP(d##r, l##r) KALM__SADALP(e##r, m##r) KALM__SADALP(f##r, n##r)
#define KALM__NEON_HIGH(r) KALM__SADALP(g##r, k##r) KALM__SADALP(h##r, l##r) KALM__SADALP(i##r, m##r) KALM__SADALP(j##r, n##r)
#define KALM__NEON_RAW_1 raw = vcombine_s8(vld1_s8((const int8_t *)a), vdup_n_s8(0));
#define KALM__NEON_RAW_2 raw = kalm__bytes_neon(a);
#define KALM__NEON_XY_1 KALM__NEON_X(x0, 0) KALM__NEON_X(y0, 1)
#define KALM__NEON_XY_2 KALM__NEON_X(x0, 0) KALM__NEON_X(x1, 1) KALM__NEON_X(y0, 2) KALM__NEON_X(y1, 3)
#define KALM__NEON_LINES(n) KALM__NEON_RAW_##n KALM__NEON_W(w0, w1, 0) KALM__NEON_W(w2, w3, 64) KALM__NEON_XY_##n
#define KALM__NEON_PUT8(r) \
	kalm__store_neon(job, r, kalm__pairs_neon(c##r, d##r), kalm__pairs_neon(e##r, f##r), kalm__pairs_neon(g##r, h##r), \
					 kalm__pairs_neon(i##r, j##r));
#define KALM__NEON_PLAIN_TILE(n) \
	KALM__FN void kalm__q8_##n##x1_neon(const kalm__tile_job *job) \
	{ \
		const unsigned char *a = job->acts, *b = job->weights; \
		size_t steps = job->steps; \
		int8x16_t w0, w1, w2, w3, raw; \
		KALM__REP_##n(KALM__NEON_ZERO8) \
		KALM__REP_##n(KALM__NEON_DECLARE) \
		KALM__NEON_LINES(n) \
		do { \
			steps -= 2; \
			KALM__REP_##n(KALM__NEON_FIRST) KALM__REP_##n(KALM__NEON_SECOND) \
			KALM__NEON_W(w0, w1, 32) KALM__NEON_W(w2, w3, 96) \
			KALM__REP_##n(KALM__NEON_LOW) \
			KALM__REP_##n(KALM__NEON_FIRST) KALM__REP_##n(KALM__NEON_SECOND) \
			if (steps) a += 8 * n, b += 128; /* the last lines are read twice */ \
			KALM__NEON_LINES(n) \
			KALM__REP_##n(KALM__NEON_HIGH) \
		} while (steps); \
		KALM__REP_##n(KALM__NEON_PUT8) \
	}
KALM__NEON_PLAIN_TILE(1)
#if KALM__NEON64
KALM__NEON_PLAIN_TILE(2)
#endif

static const kalm__tile_fn kalm__q8_tiles_neon[KALM__NEON_TILE] = {
	kalm__q8_1x1_neon
#if KALM__NEON64
	, kalm__q8_2x1_neon
#endif
};

/* ---- int16 tiles: smlal, 4 multiply-adds an instruction on every machine ---- */

#define KALM__WMLA_low(acc, w, lane) acc = vmlal_lane_s16(acc, vget_low_s16(w), x, lane);
#if KALM__NEON64
#  define KALM__WMLA_high(acc, w, lane) acc = vmlal_high_lane_s16(acc, w, x, lane);
#else
#  define KALM__WMLA_high(acc, w, lane) acc = vmlal_lane_s16(acc, vget_high_s16(w), x, lane);
#endif
/* x: two inputs of two rows, or of one row and the two behind them. u, v: input 0 and input 1 of outputs 0 to 7 and 8 to 15 */
#define KALM__INT16_X(i) x = vld1_s16((const int16_t *)(const void *)(a + 8 * (i)));
#define KALM__INT16_W(i) \
	u = vld2q_s16((const int16_t *)(const void *)(b + 64 * (i))); \
	v = vld2q_s16((const int16_t *)(const void *)(b + 64 * (i) + 32));
#define KALM__INT16_INPUT(r, i, lane) \
	KALM__WMLA_low(c##r, u.val[i], lane) KALM__WMLA_high(d##r, u.val[i], lane) \
	KALM__WMLA_low(e##r, v.val[i], lane) KALM__WMLA_high(f##r, v.val[i], lane)
#define KALM__INT16_FIRST(r) KALM__INT16_INPUT(r, 0, 0) KALM__INT16_INPUT(r, 1, 1)
#define KALM__INT16_SECOND(r) KALM__INT16_INPUT(r, 0, 2) KALM__INT16_INPUT(r, 1, 3)
#define KALM__NEON_INT16_TILE(n, at_once, body) \
	KALM__FN void kalm__int16_##n##x1_neon(const kalm__tile_job *job) \
	{ \
		const unsigned char *a = job->acts, *b = job->weights; \
		size_t step, steps = job->steps; \
		KALM__REP_##n(KALM__NEON_ZERO) \
		for (step = 0; step < steps; step += at_once, a += 4 * n * at_once, b += 64 * at_once) { \
			int16x8x2_t u, v; \
			int16x4_t x; \
			body \
		} \
		KALM__REP_##n(KALM__NEON_PUT) \
	}

KALM__NEON_INT16_TILE(1, 2,
	KALM__INT16_X(0) KALM__INT16_W(0) KALM__INT16_FIRST(0)
					 KALM__INT16_W(1) KALM__INT16_SECOND(0))
KALM__NEON_INT16_TILE(2, 1,
	KALM__INT16_X(0) KALM__INT16_W(0) KALM__INT16_FIRST(0) KALM__INT16_SECOND(1))
#if KALM__NEON64
KALM__NEON_INT16_TILE(3, 2,
	KALM__INT16_X(0) KALM__INT16_W(0) KALM__INT16_FIRST(0) KALM__INT16_SECOND(1)
	KALM__INT16_X(1) KALM__INT16_FIRST(2)
					 KALM__INT16_W(1) KALM__INT16_SECOND(0)
	KALM__INT16_X(2) KALM__INT16_FIRST(1) KALM__INT16_SECOND(2))
KALM__NEON_INT16_TILE(4, 1,
	KALM__INT16_X(0) KALM__INT16_W(0) KALM__INT16_FIRST(0) KALM__INT16_SECOND(1)
	KALM__INT16_X(1) KALM__INT16_FIRST(2) KALM__INT16_SECOND(3))
#endif

static const kalm__tile_fn kalm__int16_tiles_neon[KALM__NEON_WTILE] = {
	KALM__TILES_2(kalm__int16_, x1_neon)
#if KALM__NEON64
	, kalm__int16_3x1_neon, kalm__int16_4x1_neon
#endif
};

/* ---- sdot tiles ---- */

#if KALM__HAVE_DOT

/* acc + four products in each dword, the four inputs being dword `lane` (0..3) of x */
#if defined(__GNUC__)
#  define KALM__SDOT(acc, w, x, lane) \
	__asm__("sdot %0.4s, %1.16b, %2.4b[" #lane "]" : "+w"(acc) : "w"(w), "w"(x))
#else
#  define KALM__SDOT(acc, w, x, lane) acc = vdotq_laneq_s32(acc, w, x, lane)
#endif

/* Rows are packed dword by dword, so one pass of the loop takes as many inputs as fill whole registers: x holds the four dwords at hand. */
#define KALM__DOT_X(i) x = kalm__bytes_neon(a + 16 * (i));
#define KALM__DOT_W(i) \
	w0 = kalm__bytes_neon(b + 64 * (i)), w1 = kalm__bytes_neon(b + 64 * (i) + 16); \
	w2 = kalm__bytes_neon(b + 64 * (i) + 32), w3 = kalm__bytes_neon(b + 64 * (i) + 48);
#define KALM__DOT_ROW(r, lane) \
	KALM__SDOT(c##r, w0, x, lane); KALM__SDOT(d##r, w1, x, lane); \
	KALM__SDOT(e##r, w2, x, lane); KALM__SDOT(f##r, w3, x, lane);
#define KALM__DOT_TILE_OF(n, at_once, body) \
	KALM__DOT KALM__FN void kalm__q8_##n##x1_dot(const kalm__tile_job *job) \
	{ \
		const unsigned char *a = job->acts, *b = job->weights; \
		size_t step, steps = job->steps; \
		KALM__REP_##n(KALM__NEON_ZERO) \
		for (step = 0; step < steps; step += at_once, a += 4 * n * at_once, b += 64 * at_once) { \
			int8x16_t w0, w1, w2, w3, x; \
			body \
		} \
		KALM__REP_##n(KALM__NEON_PUT) \
	}

KALM__DOT_TILE_OF(1, 4,
	KALM__DOT_X(0) KALM__DOT_W(0) KALM__DOT_ROW(0, 0)
				   KALM__DOT_W(1) KALM__DOT_ROW(0, 1)
				   KALM__DOT_W(2) KALM__DOT_ROW(0, 2)
				   KALM__DOT_W(3) KALM__DOT_ROW(0, 3))
KALM__DOT_TILE_OF(2, 2,
	KALM__DOT_X(0) KALM__DOT_W(0) KALM__DOT_ROW(0, 0) KALM__DOT_ROW(1, 1)
				   KALM__DOT_W(1) KALM__DOT_ROW(0, 2) KALM__DOT_ROW(1, 3))
KALM__DOT_TILE_OF(3, 4,
	KALM__DOT_X(0) KALM__DOT_W(0) KALM__DOT_ROW(0, 0) KALM__DOT_ROW(1, 1) KALM__DOT_ROW(2, 2)
				   KALM__DOT_W(1) KALM__DOT_ROW(0, 3)
	KALM__DOT_X(1) KALM__DOT_ROW(1, 0) KALM__DOT_ROW(2, 1)
				   KALM__DOT_W(2) KALM__DOT_ROW(0, 2) KALM__DOT_ROW(1, 3)
	KALM__DOT_X(2) KALM__DOT_ROW(2, 0)
				   KALM__DOT_W(3) KALM__DOT_ROW(0, 1) KALM__DOT_ROW(1, 2) KALM__DOT_ROW(2, 3))
KALM__DOT_TILE_OF(4, 1,
	KALM__DOT_X(0) KALM__DOT_W(0) KALM__DOT_ROW(0, 0) KALM__DOT_ROW(1, 1) KALM__DOT_ROW(2, 2) KALM__DOT_ROW(3, 3))
KALM__DOT_TILE_OF(5, 4,
	KALM__DOT_X(0) KALM__DOT_W(0) KALM__DOT_ROW(0, 0) KALM__DOT_ROW(1, 1) KALM__DOT_ROW(2, 2) KALM__DOT_ROW(3, 3)
	KALM__DOT_X(1) KALM__DOT_ROW(4, 0)
				   KALM__DOT_W(1) KALM__DOT_ROW(0, 1) KALM__DOT_ROW(1, 2) KALM__DOT_ROW(2, 3)
	KALM__DOT_X(2) KALM__DOT_ROW(3, 0) KALM__DOT_ROW(4, 1)
				   KALM__DOT_W(2) KALM__DOT_ROW(0, 2) KALM__DOT_ROW(1, 3)
	KALM__DOT_X(3) KALM__DOT_ROW(2, 0) KALM__DOT_ROW(3, 1) KALM__DOT_ROW(4, 2)
				   KALM__DOT_W(3) KALM__DOT_ROW(0, 3)
	KALM__DOT_X(4) KALM__DOT_ROW(1, 0) KALM__DOT_ROW(2, 1) KALM__DOT_ROW(3, 2) KALM__DOT_ROW(4, 3))
KALM__DOT_TILE_OF(6, 2,
	KALM__DOT_X(0) KALM__DOT_W(0) KALM__DOT_ROW(0, 0) KALM__DOT_ROW(1, 1) KALM__DOT_ROW(2, 2) KALM__DOT_ROW(3, 3)
	KALM__DOT_X(1) KALM__DOT_ROW(4, 0) KALM__DOT_ROW(5, 1)
				   KALM__DOT_W(1) KALM__DOT_ROW(0, 2) KALM__DOT_ROW(1, 3)
	KALM__DOT_X(2) KALM__DOT_ROW(2, 0) KALM__DOT_ROW(3, 1) KALM__DOT_ROW(4, 2) KALM__DOT_ROW(5, 3))

static const kalm__tile_fn kalm__q8_tiles_dot[KALM__DOT_TILE] = {
	KALM__TILES_6(kalm__q8_, x1_dot)
};

#endif

/* ---- smmla tiles ---- */

#if KALM__HAVE_MM

/* acc [2 rows][2 outputs] + x [2 rows][8 inputs] times w [2 outputs][8 inputs] */
#if defined(__GNUC__)
#  define KALM__SMMLA(acc, x, w) \
	__asm__("smmla %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(x), "w"(w))
#else
#  define KALM__SMMLA(acc, x, w) acc = vmmlaq_s32(acc, x, w)
#endif

/* Eight accumulators a pair of rows, each 2 rows x 2 outputs; pair 0 is x0, c0..j0, and so on. */
#define KALM__MM_LOAD(r) x##r = kalm__bytes_neon(a + 16 * r);
#define KALM__MM_DECLARE(r) int8x16_t x##r;
#define KALM__MM_W_2(v, at) w = kalm__bytes_neon(b + at); KALM__SMMLA(v##0, x0, w); KALM__SMMLA(v##1, x1, w);
#define KALM__MM_W_3(v, at) KALM__MM_W_2(v, at) KALM__SMMLA(v##2, x2, w);
#define KALM__MM_JOIN(half, a, b) \
	vreinterpretq_s32_s64(vcombine_s64(vget_##half##_s64(vreinterpretq_s64_s32(a)), \
									   vget_##half##_s64(vreinterpretq_s64_s32(b))))
#define KALM__MM_PUT(r) \
	kalm__store_neon(job, 2 * r, KALM__MM_JOIN(low, c##r, d##r), KALM__MM_JOIN(low, e##r, f##r), \
					 KALM__MM_JOIN(low, g##r, h##r), KALM__MM_JOIN(low, i##r, j##r)); \
	if (2 * r + 1 < rows) \
		kalm__store_neon(job, 2 * r + 1, KALM__MM_JOIN(high, c##r, d##r), KALM__MM_JOIN(high, e##r, f##r), \
						 KALM__MM_JOIN(high, g##r, h##r), KALM__MM_JOIN(high, i##r, j##r));
#define KALM__MM_TILE(pairs) \
	KALM__MM KALM__FN void kalm__q8_##pairs##x1_i8mm(const kalm__tile_job *job) \
	{ \
		const unsigned char *a = job->acts, *b = job->weights; \
		size_t step, steps = job->steps, rows = job->height; \
		KALM__REP_##pairs(KALM__NEON_ZERO8) \
		for (step = 0; step < steps; step += 2, a += 16 * pairs, b += 128) { \
			int8x16_t w; \
			KALM__REP_##pairs(KALM__MM_DECLARE) \
			KALM__REP_##pairs(KALM__MM_LOAD) \
			KALM__MM_W_##pairs(c, 0) KALM__MM_W_##pairs(d, 16) KALM__MM_W_##pairs(e, 32) KALM__MM_W_##pairs(f, 48) \
			KALM__MM_W_##pairs(g, 64) KALM__MM_W_##pairs(h, 80) KALM__MM_W_##pairs(i, 96) KALM__MM_W_##pairs(j, 112) \
		} \
		KALM__REP_##pairs(KALM__MM_PUT) \
	}
KALM__MM_TILE(2) KALM__MM_TILE(3)

/* by rows; those of up to KALM__MM_DIRECT are sdot's */
static const kalm__tile_fn kalm__q8_tiles_i8mm[KALM__DOT_TILE] = {
	NULL, NULL, NULL, kalm__q8_2x1_i8mm, kalm__q8_3x1_i8mm, kalm__q8_3x1_i8mm
};

/* A q8 panel [cols32 / 4][16][4] as [cols32 / 8][16][8] */
KALM__FN void kalm__zip_neon(const unsigned char *panel, size_t n, unsigned char *out)
{
	size_t line, i;
	for (line = 0; line < n; line += 2, panel += 128, out += 128)
		for (i = 0; i < 4; i++) {
			int32x4_t a = vreinterpretq_s32_s8(kalm__bytes_neon(panel + 16 * i));
			int32x4_t b = vreinterpretq_s32_s8(kalm__bytes_neon(panel + 64 + 16 * i));
			vst1q_s32((int32_t *)(void *)(out + 32 * i), vzip1q_s32(a, b));
			vst1q_s32((int32_t *)(void *)(out + 32 * i + 16), vzip2q_s32(a, b));
		}
}
#endif

/* ---- q4 ---- */

/* 16 nibbles in bytes: codebook entries times their outputs' multipliers; vrshrn is the rounding blocks.h asks for. */
KALM__INLINE void kalm__q4_bytes_neon(unsigned char *out, uint8x16_t nibbles, int8x16_t codebook, int8x16_t m)
{
	int8x16_t v;
#if KALM__NEON64
	v = vqtbl1q_s8(codebook, nibbles);
#else
	int8x8x2_t table;
	table.val[0] = vget_low_s8(codebook), table.val[1] = vget_high_s8(codebook);
	v = vcombine_s8(vtbl2_s8(table, vreinterpret_s8_u8(vget_low_u8(nibbles))),
					vtbl2_s8(table, vreinterpret_s8_u8(vget_high_u8(nibbles))));
#endif
	vst1q_s8((int8_t *)out, vcombine_s8(vrshrn_n_s16(vmull_s8(vget_low_s8(v), vget_low_s8(m)), 6),
										vrshrn_n_s16(vmull_s8(vget_high_s8(v), vget_high_s8(m)), 6)));
}

KALM__FN void kalm__unpack_q4_neon(uint32_t type, const void *panel, size_t cols, void *out)
{
	size_t groups = kalm__cols32(cols) / KALM__GROUP, g, t, i;
	const unsigned char *nibbles = (const unsigned char *)panel, *m = kalm__q4_panel_multipliers(panel, cols);
	unsigned char *q = (unsigned char *)out;
	int8x16_t codebook = vld1q_s8(kalm__q4_codebook);
	(void)type;
	for (g = 0; g < groups; g++, m += 16, nibbles += 256, q += 512) {
		uint8x16_t bytes = vld1q_u8(m);
		uint8x16x2_t twice = vzipq_u8(bytes, bytes);
		uint16x8x2_t low = vzipq_u16(vreinterpretq_u16_u8(twice.val[0]), vreinterpretq_u16_u8(twice.val[0]));
		uint16x8x2_t high = vzipq_u16(vreinterpretq_u16_u8(twice.val[1]), vreinterpretq_u16_u8(twice.val[1]));
		int8x16_t of[4];
		of[0] = vreinterpretq_s8_u16(low.val[0]), of[1] = vreinterpretq_s8_u16(low.val[1]);
		of[2] = vreinterpretq_s8_u16(high.val[0]), of[3] = vreinterpretq_s8_u16(high.val[1]);
		for (t = 0; t < 4; t++)
			for (i = 0; i < 4; i++) {
				uint8x16_t v = vld1q_u8(nibbles + 64 * t + 16 * i);
				kalm__q4_bytes_neon(q + 64 * t + 16 * i, vandq_u8(v, vdupq_n_u8(15)), codebook, of[i]);
				kalm__q4_bytes_neon(q + 64 * (t + 4) + 16 * i, vshrq_n_u8(v, 4), codebook, of[i]);
			}
	}
}

/* ---- float tiles ---- */

KALM__INLINE float32x4_t kalm__fma_neon(float32x4_t acc, float32x4_t x, float32x4_t w)
{
#if KALM__NEON64
	return vfmaq_f32(acc, x, w);
#else
	return vmlaq_f32(acc, x, w);
#endif
}

#define KALM__NEON_FZERO(r) float32x4_t c##r = vdupq_n_f32(0.0f), d##r = c##r, e##r = c##r, f##r = c##r;
#define KALM__NEON_FSTEP(r) \
	x = vld1q_dup_f32(a + r); \
	c##r = kalm__fma_neon(c##r, x, w0); \
	d##r = kalm__fma_neon(d##r, x, w1); \
	e##r = kalm__fma_neon(e##r, x, w2); \
	f##r = kalm__fma_neon(f##r, x, w3);
#define KALM__NEON_FPUT(r) kalm__write_neon(job, r, c##r, d##r, e##r, f##r);
#define KALM__NEON_FTILE_OF(n) \
	KALM__FN void kalm__f32_##n##x1_neon(const kalm__tile_job *job) \
	{ \
		const float *a = (const float *)(const void *)job->acts, *b = (const float *)(const void *)job->weights; \
		size_t step, steps = job->steps; \
		KALM__REP_##n(KALM__NEON_FZERO) \
		for (step = 0; step < steps; step++, a += n, b += 16) { \
			float32x4_t w0 = vld1q_f32(b), w1 = vld1q_f32(b + 4), w2 = vld1q_f32(b + 8), w3 = vld1q_f32(b + 12), x; \
			KALM__REP_##n(KALM__NEON_FSTEP) \
		} \
		KALM__REP_##n(KALM__NEON_FPUT) \
	}
KALM__NEON_FTILE_OF(1) KALM__NEON_FTILE_OF(2)
#if KALM__NEON64
KALM__NEON_FTILE_OF(3) KALM__NEON_FTILE_OF(4) KALM__NEON_FTILE_OF(5) KALM__NEON_FTILE_OF(6)
#endif

static const kalm__tile_fn kalm__f32_tiles_neon[KALM__NEON_FTILE] = {
	KALM__TILES_2(kalm__f32_, x1_neon)
#if KALM__NEON64
	, kalm__f32_3x1_neon, kalm__f32_4x1_neon, kalm__f32_5x1_neon, kalm__f32_6x1_neon
#endif
};

KALM__FN void kalm__unpack_half_neon(uint32_t type, const void *panel, size_t cols, void *out)
{
	const uint16_t *half = (const uint16_t *)panel;
	float *v = (float *)out;
	size_t k;
	if (type == KALM__BF16)
		for (k = 0; k < 16 * cols; k += 4)
			vst1q_f32(v + k, vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vld1_u16(half + k)), 16)));
	else
		for (k = 0; k < 16 * cols; k += 4) {
#if KALM__NEON64
			vst1q_f32(v + k, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(half + k))));
#else  /* the conversion is an extension there */
			v[k] = kalm__from_f16(half[k]), v[k + 1] = kalm__from_f16(half[k + 1]);
			v[k + 2] = kalm__from_f16(half[k + 2]), v[k + 3] = kalm__from_f16(half[k + 3]);
#endif
		}
}

/* ---- the sets ---- */

static const kalm__tiles kalm__tiles_f32_neon = {
	KALM__NEON_FTILE, 0, 0,
	KALM__F32, KALM__F32, 4, 0, 0,
	NULL, kalm__pack_floats, kalm__unpack_half_neon, NULL,
	NULL, kalm__f32_tiles_neon, NULL, NULL
};
static const kalm__tiles kalm__tiles_q8_neon = {
	KALM__NEON_TILE, 0, 0,
	KALM__Q8, KALM__Q8, 1, 0, 0,
	kalm__row_scales_neon, kalm__pack_q8_neon, kalm__unpack_q4_neon, NULL,
	NULL, kalm__q8_tiles_neon, NULL, NULL
};
static const kalm__tiles kalm__tiles_q16_neon = {
	KALM__NEON_WTILE, 0, 0,
	KALM__Q16, KALM__Q16, 2, 0, 0,
	kalm__row_scales_neon, kalm__pack_q16_neon, NULL, NULL,
	NULL, kalm__int16_tiles_neon, NULL, NULL
};
static const kalm__kernels kalm__kernels_neon = {
	"neon", &kalm__table_neon,
	{ &kalm__tiles_f32_neon, &kalm__tiles_f32_neon, &kalm__tiles_f32_neon,
	  &kalm__tiles_q8_neon, &kalm__tiles_q8_neon, &kalm__tiles_q16_neon },
	kalm__pack_split16_neon, kalm__multiply_high_neon
};

#if KALM__HAVE_DOT
static const kalm__tiles kalm__tiles_q8_dotprod = {
	KALM__DOT_TILE, 0, 0,
	KALM__Q8, KALM__Q8, 1, 0, 0,
	kalm__row_scales_neon, kalm__pack_q8_neon, kalm__unpack_q4_neon, NULL,
	NULL, kalm__q8_tiles_dot, NULL, NULL
};
static const kalm__kernels kalm__kernels_dotprod = {
	"dotprod", &kalm__table_neon,
	{ &kalm__tiles_f32_neon, &kalm__tiles_f32_neon, &kalm__tiles_f32_neon,
	  &kalm__tiles_q8_dotprod, &kalm__tiles_q8_dotprod, &kalm__tiles_q16_neon },
	kalm__pack_split16_neon, kalm__multiply_high_neon
};
#endif

#if KALM__HAVE_DOT && KALM__HAVE_MM
static const kalm__tiles kalm__tiles_q8_i8mm = {
	KALM__DOT_TILE, 1, KALM__MM_DIRECT,
	KALM__Q8, KALM__Q8, 1, 0, 0,
	kalm__row_scales_neon, kalm__pack_q8_i8mm, kalm__unpack_q4_neon, kalm__zip_neon,
	kalm__q8_tiles_dot, kalm__q8_tiles_i8mm, NULL, NULL
};
static const kalm__kernels kalm__kernels_i8mm = {
	"i8mm", &kalm__table_neon,
	{ &kalm__tiles_f32_neon, &kalm__tiles_f32_neon, &kalm__tiles_f32_neon,
	  &kalm__tiles_q8_i8mm, &kalm__tiles_q8_i8mm, &kalm__tiles_q16_neon },
	kalm__pack_split16_i8mm, kalm__multiply_high_neon
};
#endif

#endif
/* ---- begin src/kernels_rvv.h ---- */
/* kernels_rvv.h - the set "rvv": the RISC-V vector extension 1.0, any register length from 128 bits on. Known at compile time
	(-march=rv64gcv and the like): the compilers that have its intrinsics do not yet let a single function ask for it. */
/* More is in docs/KERNELS.md. */
#define KALM__KERNELS_RVV_H


#if KALM__RVV

#include <riscv_vector.h>

enum { KALM__RVV_TILE = 6, KALM__RVV_DIRECT = 2 };

/* ---- activations: int16 [cols32][height], floats [cols][height] ---- */

KALM__FN void kalm__row_scales_rvv(kalm__four_rows *f, float limit)
{
	size_t i, k, vl;
	for (i = 0; i < f->n; i++) {
		vfloat32m1_t largest = __riscv_vfmv_s_f_f32m1(0.0f, 1);
		for (k = 0; k < f->cols; k += vl) {
			vl = __riscv_vsetvl_e32m8(f->cols - k);
			largest = __riscv_vfredmax_vs_f32m8_f32m1(__riscv_vfabs_v_f32m8(__riscv_vle32_v_f32m8(f->x[i] + k, vl), vl), largest, vl);
		}
		f->scale[i] = kalm__row_scale(__riscv_vfmv_f_s_f32m1_f32(largest), limit, &f->inverse[i]);
	}
}

KALM__FN void kalm__pack_int16_rvv(const kalm__four_rows *f)
{
	size_t cols32 = kalm__cols32(f->cols), i, k, vl;
	for (i = 0; i < f->n; i++) {
		void *tile = f->tile;
		int16_t *out = (int16_t *)tile + f->first + i;
		for (k = 0; k < f->cols; k += vl, out += vl * f->height) {
			vfloat32m8_t v;
			vl = __riscv_vsetvl_e32m8(f->cols - k);
			v = __riscv_vfmul_vf_f32m8(__riscv_vle32_v_f32m8(f->x[i] + k, vl), f->inverse[i], vl);
			/* to nearest, ties to even: the rounding of this thread, as in every C program that does not change it */
			__riscv_vsse16_v_i16m4(out, (ptrdiff_t)(2 * f->height), __riscv_vfncvt_x_f_w_i16m4(v, vl), vl);
		}
		for (; k < cols32; k++, out += f->height) *out = 0;
	}
}

KALM__FN void kalm__pack_floats_rvv(const kalm__four_rows *f)
{
	size_t i, k, vl;
	for (i = 0; i < f->n; i++) {
		void *tile = f->tile;
		float *out = (float *)tile + f->first + i;
		for (k = 0; k < f->cols; k += vl, out += vl * f->height) {
			vl = __riscv_vsetvl_e32m8(f->cols - k);
			__riscv_vsse32_v_f32m8(out, (ptrdiff_t)(4 * f->height), __riscv_vle32_v_f32m8(f->x[i] + k, vl), vl);
		}
	}
}

/* ---- panels ---- */

/* Of 16 pairs of int16: the first ones, the second ones */
#define KALM__RVV_FIRST(pairs) __riscv_vnsra_wx_i16m2(pairs, 0, 16)
#define KALM__RVV_SECOND(pairs) __riscv_vnsra_wx_i16m2(pairs, 16, 16)
/* Of 16 pairs of int8, as int16 */
#define KALM__RVV_LOW(pairs) __riscv_vsra_vx_i16m2(__riscv_vsll_vx_i16m2(pairs, 8, 16), 8, 16)
#define KALM__RVV_HIGH(pairs) __riscv_vsra_vx_i16m2(pairs, 8, 16)
KALM__INLINE vint32m4_t kalm__line_rvv(const unsigned char *line)
{
	return __riscv_vle32_v_i32m4((const int32_t *)(const void *)line, 16);
}

/* A q8 panel, or a q4 panel unpacked to one, as int16 [cols32][16] */
KALM__FN void kalm__widen_rvv(const unsigned char *panel, size_t n, unsigned char *to)
{
	void *at = to;
	int16_t *out = (int16_t *)at;
	for (; n; n--, panel += 64, out += 64) {
		vint32m4_t line = kalm__line_rvv(panel);
		vint16m2_t first = KALM__RVV_FIRST(line), second = KALM__RVV_SECOND(line);
		__riscv_vse16_v_i16m2(out, KALM__RVV_LOW(first), 16);
		__riscv_vse16_v_i16m2(out + 16, KALM__RVV_HIGH(first), 16);
		__riscv_vse16_v_i16m2(out + 32, KALM__RVV_LOW(second), 16);
		__riscv_vse16_v_i16m2(out + 48, KALM__RVV_HIGH(second), 16);
	}
}

/* f16 and bf16 panels as f32, q4 as q8: once a call, so plain C will do */
KALM__FN void kalm__unpack_rvv(uint32_t type, const void *panel, size_t cols, void *out)
{
	if (type == KALM__Q4) kalm__unpack_q4_scalar(panel, cols, out);
	else (void)kalm__float_panel_scalar(type, panel, cols, out);
}

/* ---- tiles ---- */

KALM__INLINE void kalm__store_rvv(const kalm__tile_job *job, size_t r, vint32m4_t acc)
{
	vfloat32m4_t v = __riscv_vfmul_vv_f32m4(__riscv_vfcvt_f_x_v_f32m4(acc, 16), __riscv_vle32_v_f32m4(job->scale, 16), 16);
	__asm__("" : "+vr"(v));  /* the products in this order: see KALM__FENCE */
	__riscv_vse32_v_f32m4(job->y + r * job->stride, __riscv_vfmul_vf_f32m4(v, job->row_scale[r], 16), kalm__min(16, job->outputs));
}

#define KALM__RVV_ZERO(r) vint32m4_t c##r = __riscv_vmv_v_x_i32m4(0, 16);
#define KALM__RVV_MADD(r) c##r = __riscv_vwmacc_vx_i32m4(c##r, a[r], w, 16);
#define KALM__RVV_PUT(r) kalm__store_rvv(job, r, c##r);

/* n rows x one widened panel: a line of 64 bytes is two inputs */
#define KALM__RVV_TILE_OF(n) \
	KALM__FN void kalm__int16_##n##x1_rvv(const kalm__tile_job *job) \
	{ \
		const int16_t *a = (const int16_t *)(const void *)job->acts, *b = (const int16_t *)(const void *)job->weights; \
		size_t step, steps = 2 * job->steps; \
		KALM__REP_##n(KALM__RVV_ZERO) \
		for (step = 0; step < steps; step++, a += n, b += 16) { \
			vint16m2_t w = __riscv_vle16_v_i16m2(b, 16); \
			KALM__REP_##n(KALM__RVV_MADD) \
		} \
		KALM__REP_##n(KALM__RVV_PUT) \
	} \
	/* n rows x one q16 panel [cols32 / 2][16][2] */ \
	KALM__FN void kalm__q16_##n##x1_rvv(const kalm__tile_job *job) \
	{ \
		const int16_t *a = (const int16_t *)(const void *)job->acts; \
		const unsigned char *b = job->weights; \
		size_t step, steps = job->steps; \
		KALM__REP_##n(KALM__RVV_ZERO) \
		for (step = 0; step < steps; step++, a += n, b += 64) { \
			vint32m4_t line = kalm__line_rvv(b); \
			vint16m2_t w = KALM__RVV_FIRST(line); \
			KALM__REP_##n(KALM__RVV_MADD) \
			w = KALM__RVV_SECOND(line); \
			a += n; \
			KALM__REP_##n(KALM__RVV_MADD) \
		} \
		KALM__REP_##n(KALM__RVV_PUT) \
	} \
	/* n rows x one float panel */ \
	KALM__FN void kalm__f32_##n##x1_rvv(const kalm__tile_job *job) \
	{ \
		const float *a = (const float *)(const void *)job->acts, *b = (const float *)(const void *)job->weights; \
		size_t step, steps = job->steps, outputs = kalm__min(16, job->outputs); \
		KALM__REP_##n(KALM__RVV_FZERO) \
		for (step = 0; step < steps; step++, a += n, b += 16) { \
			vfloat32m4_t w = __riscv_vle32_v_f32m4(b, 16); \
			KALM__REP_##n(KALM__RVV_FMADD) \
		} \
		KALM__REP_##n(KALM__RVV_FPUT) \
	}
#define KALM__RVV_FZERO(r) vfloat32m4_t c##r = __riscv_vfmv_v_f_f32m4(0.0f, 16);
#define KALM__RVV_FMADD(r) c##r = __riscv_vfmacc_vf_f32m4(c##r, a[r], w, 16);
#define KALM__RVV_FPUT(r) __riscv_vse32_v_f32m4(job->y + r * job->stride, c##r, outputs);
KALM__RVV_TILE_OF(1) KALM__RVV_TILE_OF(2) KALM__RVV_TILE_OF(3) KALM__RVV_TILE_OF(4) KALM__RVV_TILE_OF(5) KALM__RVV_TILE_OF(6)

/* One or two rows x one q8 panel as it lies */
#define KALM__RVV_INPUT(n, input) w = input; KALM__REP_##n(KALM__RVV_MADD) a += n;
#define KALM__RVV_DIRECT_OF(n) \
	KALM__FN void kalm__q8_##n##x1_rvv(const kalm__tile_job *job) \
	{ \
		const int16_t *a = (const int16_t *)(const void *)job->acts; \
		const unsigned char *b = job->weights, *ahead = job->ahead; \
		size_t step, steps = job->steps, ahead_step = job->ahead_step; \
		KALM__REP_##n(KALM__RVV_ZERO) \
		for (step = 0; step < steps; step++, b += 64, ahead += ahead_step) { \
			vint32m4_t line = kalm__line_rvv(b); \
			vint16m2_t first = KALM__RVV_FIRST(line), second = KALM__RVV_SECOND(line), w; \
			KALM__PREFETCH(ahead); \
			KALM__RVV_INPUT(n, KALM__RVV_LOW(first)) KALM__RVV_INPUT(n, KALM__RVV_HIGH(first)) \
			KALM__RVV_INPUT(n, KALM__RVV_LOW(second)) KALM__RVV_INPUT(n, KALM__RVV_HIGH(second)) \
		} \
		KALM__REP_##n(KALM__RVV_PUT) \
	}
KALM__RVV_DIRECT_OF(1) KALM__RVV_DIRECT_OF(2)

/* ---- the set ---- */

static const kalm__tile_fn kalm__q8_tiles_rvv[KALM__RVV_DIRECT] = { KALM__TILES_2(kalm__q8_, x1_rvv) };
static const kalm__tile_fn kalm__int16_tiles_rvv[KALM__RVV_TILE] = { KALM__TILES_6(kalm__int16_, x1_rvv) };
static const kalm__tile_fn kalm__q16_tiles_rvv[KALM__RVV_TILE] = { KALM__TILES_6(kalm__q16_, x1_rvv) };
static const kalm__tile_fn kalm__f32_tiles_rvv[KALM__RVV_TILE] = { KALM__TILES_6(kalm__f32_, x1_rvv) };

static const kalm__tiles kalm__tiles_f32_rvv = {
	KALM__RVV_TILE, 0, 0,
	KALM__F32, KALM__F32, 4, 0, 0,
	NULL, kalm__pack_floats_rvv, kalm__unpack_rvv, NULL,
	NULL, kalm__f32_tiles_rvv, NULL, NULL
};
static const kalm__tiles kalm__tiles_q8_rvv = {
	KALM__RVV_TILE, 0, KALM__RVV_DIRECT,
	KALM__Q8, KALM__Q16, 2, 0, 0,
	kalm__row_scales_rvv, kalm__pack_int16_rvv, kalm__unpack_rvv, kalm__widen_rvv,
	kalm__q8_tiles_rvv, kalm__int16_tiles_rvv, NULL, NULL
};
static const kalm__tiles kalm__tiles_q16_rvv = {
	KALM__RVV_TILE, 0, 0,
	KALM__Q16, KALM__Q16, 2, 0, 0,
	kalm__row_scales_rvv, kalm__pack_int16_rvv, NULL, NULL,
	NULL, kalm__q16_tiles_rvv, NULL, NULL
};
static const kalm__kernels kalm__kernels_rvv = {
	"rvv", &kalm__table_scalar,
	{ &kalm__tiles_f32_rvv, &kalm__tiles_f32_rvv, &kalm__tiles_f32_rvv,
	  &kalm__tiles_q8_rvv, &kalm__tiles_q8_rvv, &kalm__tiles_q16_rvv },
	NULL, NULL
};

#endif
/* ---- begin src/kernels_wasm.h ---- */
/* kernels_wasm.h - the set "wasm": fixed-width SIMD of WebAssembly, known at compile time (-msimd128). */
/* More is in docs/KERNELS.md. */
#define KALM__KERNELS_WASM_H


#if KALM__WASM

#include <wasm_simd128.h>

enum { KALM__WASM_TILE = 2, KALM__WASM_DIRECT = 1 };

/* ---- activations ---- */

/* Four floats at x + k, zeros behind cols, which is not read. */
KALM__INLINE v128_t kalm__load_wasm(const float *x, size_t k, size_t cols)
{
	float some[4] = { 0.0f, 0.0f, 0.0f, 0.0f };
	if (k + 4 <= cols) return wasm_v128_load(x + k);
	if (k < cols) memcpy(some, x + k, (cols - k) * sizeof(float));
	return wasm_v128_load(some);
}

KALM__FN float kalm__one_scale_wasm(const float *x, size_t cols, float limit, float *inverse)
{
	v128_t m = wasm_f32x4_splat(0.0f), n = m;
	size_t k;
	float largest[4];
	/* pmax(a, b) is a < b ? b : a, one instruction where max, which must order zeros and NaN, takes many */
	for (k = 0; k + 8 <= cols; k += 8) {
		m = wasm_f32x4_pmax(m, wasm_f32x4_abs(wasm_v128_load(x + k)));
		n = wasm_f32x4_pmax(n, wasm_f32x4_abs(wasm_v128_load(x + k + 4)));
	}
	for (; k < cols; k += 4) m = wasm_f32x4_pmax(m, wasm_f32x4_abs(kalm__load_wasm(x, k, cols)));
	wasm_v128_store(largest, wasm_f32x4_pmax(m, n));
	return kalm__scale_of_four(largest, limit, inverse);
}

/* Nearest, ties to even, in the low half of each lane: adding 1.5 * 2^23 pushes the fraction out. */
KALM__INLINE v128_t kalm__round_wasm(v128_t x, v128_t inverse)
{
	v128_t v = wasm_f32x4_add(wasm_f32x4_mul(x, inverse), wasm_f32x4_splat(12582912.0f));
	return wasm_i32x4_sub(v, wasm_i32x4_splat(0x4b400000));
}

KALM__FN void kalm__row_scales_wasm(kalm__four_rows *f, float limit)
{
	size_t i;
	for (i = 0; i < f->n; i++) f->scale[i] = kalm__one_scale_wasm(f->x[i], f->cols, limit, &f->inverse[i]);
}

/* Rows as int16 into a tile, [cols32 / 2][height][2] */
KALM__FN void kalm__pack_int16_wasm(const kalm__four_rows *f)
{
	size_t height = f->height, cols = f->cols, cols32 = kalm__cols32(cols), k, i;
	for (i = 0; i < f->n; i++) {
		const float *x = f->x[i];
		v128_t by = wasm_f32x4_splat(f->inverse[i]);
		unsigned char *out = f->tile + 4 * (f->first + i);
		for (k = 0; k < cols32; k += 8, out += 16 * height) {
			v128_t q = wasm_i16x8_narrow_i32x4(kalm__round_wasm(kalm__load_wasm(x, k, cols), by),
											   kalm__round_wasm(kalm__load_wasm(x, k + 4, cols), by));
			if (height == 1) wasm_v128_store(out, q);
			else {
				wasm_v128_store32_lane(out, q, 0);
				wasm_v128_store32_lane(out + 4 * height, q, 1);
				wasm_v128_store32_lane(out + 8 * height, q, 2);
				wasm_v128_store32_lane(out + 12 * height, q, 3);
			}
		}
	}
}

/* ---- results ---- */

KALM__INLINE void kalm__write_wasm(const kalm__tile_job *job, size_t r, v128_t a, v128_t b, v128_t c, v128_t d)
{
	float *y = job->y + r * job->stride, all[16];
	int whole = job->outputs >= 16;
	float *to = whole ? y : all;
	wasm_v128_store(to, a), wasm_v128_store(to + 4, b), wasm_v128_store(to + 8, c), wasm_v128_store(to + 12, d);
	if (!whole) memcpy(y, all, job->outputs * sizeof(float));
}

KALM__INLINE v128_t kalm__scaled_wasm(v128_t acc, const float *scale, v128_t s)
{
	v128_t v = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(acc), wasm_v128_load(scale));
	KALM__FENCE_V(v);
	return wasm_f32x4_mul(v, s);
}

KALM__INLINE void kalm__store_wasm(const kalm__tile_job *job, size_t r, v128_t a, v128_t b, v128_t c, v128_t d)
{
	v128_t s = wasm_f32x4_splat(job->row_scale[r]);
	kalm__write_wasm(job, r, kalm__scaled_wasm(a, job->scale, s), kalm__scaled_wasm(b, job->scale + 4, s),
					 kalm__scaled_wasm(c, job->scale + 8, s), kalm__scaled_wasm(d, job->scale + 12, s));
}

/* ---- q8 tiles ---- */

KALM__INLINE v128_t kalm__dot16_wasm(v128_t acc, v128_t x, v128_t w)
{
	return wasm_i32x4_add(acc, wasm_i32x4_dot_i16x8(x, w));
}

/* Two rows x one panel of int16 [cols32 / 2][16][2]: q16, or q8 widened */
KALM__FN void kalm__int16_2x1_wasm(const kalm__tile_job *job)
{
	const unsigned char *a = job->acts, *b = job->weights;
	size_t step, steps = job->steps;
	v128_t c0 = wasm_i32x4_splat(0), d0 = c0, e0 = c0, f0 = c0, c1 = c0, d1 = c0, e1 = c0, f1 = c0, w;
	for (step = 0; step < steps; step++, a += 8, b += 64) {
		v128_t x = wasm_v128_load32_splat(a), z = wasm_v128_load32_splat(a + 4);
		w = wasm_v128_load(b), c0 = kalm__dot16_wasm(c0, x, w), c1 = kalm__dot16_wasm(c1, z, w);
		w = wasm_v128_load(b + 16), d0 = kalm__dot16_wasm(d0, x, w), d1 = kalm__dot16_wasm(d1, z, w);
		w = wasm_v128_load(b + 32), e0 = kalm__dot16_wasm(e0, x, w), e1 = kalm__dot16_wasm(e1, z, w);
		w = wasm_v128_load(b + 48), f0 = kalm__dot16_wasm(f0, x, w), f1 = kalm__dot16_wasm(f1, z, w);
	}
	kalm__store_wasm(job, 0, c0, d0, e0, f0);
	kalm__store_wasm(job, 1, c1, d1, e1, f1);
}

/* One row */
KALM__FN void kalm__int16_1x1_wasm(const kalm__tile_job *job)
{
	const unsigned char *a = job->acts, *b = job->weights;
	size_t step, steps = job->steps;
	v128_t c = wasm_i32x4_splat(0), d = c, e = c, f = c;
	for (step = 0; step < steps; step++, a += 4, b += 64) {
		v128_t x = wasm_v128_load32_splat(a);
		c = kalm__dot16_wasm(c, x, wasm_v128_load(b)), d = kalm__dot16_wasm(d, x, wasm_v128_load(b + 16));
		e = kalm__dot16_wasm(e, x, wasm_v128_load(b + 32)), f = kalm__dot16_wasm(f, x, wasm_v128_load(b + 48));
	}
	kalm__store_wasm(job, 0, c, d, e, f);
}

/* The sums of a's and b's neighbouring lanes */
KALM__INLINE v128_t kalm__add_pairs_wasm(v128_t a, v128_t b)
{
	return wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));
}

/* One row x one q8 panel, widened as it goes: each accumulator has two halves of the sums of two outputs. */
KALM__FN void kalm__q8_1x1_wasm(const kalm__tile_job *job)
{
	const unsigned char *a = job->acts, *b = job->weights;
	size_t step, steps = job->steps;
	v128_t c = wasm_i32x4_splat(0), d = c, e = c, f = c, g = c, h = c, i = c, j = c, w;
	for (step = 0; step < steps; step++, a += 8, b += 64) {
		v128_t x = wasm_v128_load64_splat(a);
		w = wasm_v128_load(b);
		c = kalm__dot16_wasm(c, x, wasm_i16x8_extend_low_i8x16(w)), d = kalm__dot16_wasm(d, x, wasm_i16x8_extend_high_i8x16(w));
		w = wasm_v128_load(b + 16);
		e = kalm__dot16_wasm(e, x, wasm_i16x8_extend_low_i8x16(w)), f = kalm__dot16_wasm(f, x, wasm_i16x8_extend_high_i8x16(w));
		w = wasm_v128_load(b + 32);
		g = kalm__dot16_wasm(g, x, wasm_i16x8_extend_low_i8x16(w)), h = kalm__dot16_wasm(h, x, wasm_i16x8_extend_high_i8x16(w));
		w = wasm_v128_load(b + 48);
		i = kalm__dot16_wasm(i, x, wasm_i16x8_extend_low_i8x16(w)), j = kalm__dot16_wasm(j, x, wasm_i16x8_extend_high_i8x16(w));
	}
	kalm__store_wasm(job, 0, kalm__add_pairs_wasm(c, d), kalm__add_pairs_wasm(e, f), kalm__add_pairs_wasm(g, h),
					 kalm__add_pairs_wasm(i, j));
}

/* A q8 panel as int16 [cols32 / 2][16][2] */
KALM__FN void kalm__widen_wasm(const unsigned char *panel, size_t n, unsigned char *out)
{
	size_t i;
	for (; n; n--, panel += 64, out += 128)
		for (i = 0; i < 4; i++) {
			v128_t w = wasm_v128_load(panel + 16 * i);
			v128_t halves = wasm_i8x16_shuffle(w, w, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
			wasm_v128_store(out + 16 * i, wasm_i16x8_extend_low_i8x16(halves));
			wasm_v128_store(out + 64 + 16 * i, wasm_i16x8_extend_high_i8x16(halves));
		}
}

/* ---- q4 ---- */

/* 16 nibbles in bytes: codebook entries times their outputs' multipliers, rounded (see blocks.h). */
KALM__INLINE v128_t kalm__q4_bytes_wasm(v128_t nibbles, v128_t codebook, v128_t m)
{
	v128_t v = wasm_i8x16_swizzle(codebook, nibbles), half = wasm_i16x8_splat(32);
	v128_t low = wasm_i16x8_shr(wasm_i16x8_add(wasm_i16x8_extmul_low_i8x16(v, m), half), 6);
	v128_t high = wasm_i16x8_shr(wasm_i16x8_add(wasm_i16x8_extmul_high_i8x16(v, m), half), 6);
	return wasm_i8x16_narrow_i16x8(low, high);
}

KALM__FN void kalm__unpack_q4_wasm(uint32_t type, const void *panel, size_t cols, void *out)
{
	size_t groups = kalm__cols32(cols) / KALM__GROUP, g, t, i;
	const unsigned char *nibbles = (const unsigned char *)panel, *m = kalm__q4_panel_multipliers(panel, cols);
	unsigned char *q = (unsigned char *)out;
	v128_t codebook = wasm_v128_load(kalm__q4_codebook);
	(void)type;
	for (g = 0; g < groups; g++, m += 16, nibbles += 256, q += 512) {
		v128_t all = wasm_v128_load(m), of[4];
		of[0] = wasm_i8x16_shuffle(all, all, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
		of[1] = wasm_i8x16_shuffle(all, all, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7);
		of[2] = wasm_i8x16_shuffle(all, all, 8, 8, 8, 8, 9, 9, 9, 9, 10, 10, 10, 10, 11, 11, 11, 11);
		of[3] = wasm_i8x16_shuffle(all, all, 12, 12, 12, 12, 13, 13, 13, 13, 14, 14, 14, 14, 15, 15, 15, 15);
		for (t = 0; t < 4; t++)
			for (i = 0; i < 4; i++) {
				v128_t v = wasm_v128_load(nibbles + 64 * t + 16 * i);
				wasm_v128_store(q + 64 * t + 16 * i,
								kalm__q4_bytes_wasm(wasm_v128_and(v, wasm_i8x16_splat(15)), codebook, of[i]));
				wasm_v128_store(q + 64 * (t + 4) + 16 * i, kalm__q4_bytes_wasm(wasm_u8x16_shr(v, 4), codebook, of[i]));
			}
	}
}

/* ---- float tiles ---- */

KALM__INLINE v128_t kalm__multiply_add_wasm(v128_t acc, v128_t x, v128_t w)
{
	return wasm_f32x4_add(acc, wasm_f32x4_mul(x, w));
}

KALM__FN void kalm__f32_2x1_wasm(const kalm__tile_job *job)
{
	const float *a = (const float *)(const void *)job->acts, *b = (const float *)(const void *)job->weights;
	size_t step, steps = job->steps;
	v128_t c0 = wasm_f32x4_splat(0.0f), d0 = c0, e0 = c0, f0 = c0, c1 = c0, d1 = c0, e1 = c0, f1 = c0, w;
	for (step = 0; step < steps; step++, a += 2, b += 16) {
		v128_t x = wasm_v128_load32_splat(a), z = wasm_v128_load32_splat(a + 1);
		w = wasm_v128_load(b), c0 = kalm__multiply_add_wasm(c0, x, w), c1 = kalm__multiply_add_wasm(c1, z, w);
		w = wasm_v128_load(b + 4), d0 = kalm__multiply_add_wasm(d0, x, w), d1 = kalm__multiply_add_wasm(d1, z, w);
		w = wasm_v128_load(b + 8), e0 = kalm__multiply_add_wasm(e0, x, w), e1 = kalm__multiply_add_wasm(e1, z, w);
		w = wasm_v128_load(b + 12), f0 = kalm__multiply_add_wasm(f0, x, w), f1 = kalm__multiply_add_wasm(f1, z, w);
	}
	kalm__write_wasm(job, 0, c0, d0, e0, f0);
	kalm__write_wasm(job, 1, c1, d1, e1, f1);
}

KALM__FN void kalm__f32_1x1_wasm(const kalm__tile_job *job)
{
	const float *a = (const float *)(const void *)job->acts, *b = (const float *)(const void *)job->weights;
	size_t step, steps = job->steps;
	v128_t c = wasm_f32x4_splat(0.0f), d = c, e = c, f = c;
	for (step = 0; step < steps; step++, a++, b += 16) {
		v128_t x = wasm_v128_load32_splat(a);
		c = kalm__multiply_add_wasm(c, x, wasm_v128_load(b)), d = kalm__multiply_add_wasm(d, x, wasm_v128_load(b + 4));
		e = kalm__multiply_add_wasm(e, x, wasm_v128_load(b + 8)), f = kalm__multiply_add_wasm(f, x, wasm_v128_load(b + 12));
	}
	kalm__write_wasm(job, 0, c, d, e, f);
}

KALM__FN void kalm__unpack_half_wasm(uint32_t type, const void *panel, size_t cols, void *out)
{
	const uint16_t *half = (const uint16_t *)panel;
	float *v = (float *)out;
	size_t k;
	if (type == KALM__BF16)
		for (k = 0; k < 16 * cols; k += 4)
			wasm_v128_store(v + k, wasm_i32x4_shl(wasm_u32x4_load16x4(half + k), 16));
	else
		for (k = 0; k < 16 * cols; k++) v[k] = kalm__from_f16(half[k]);
}

/* ---- the set ---- */

static const kalm__tile_fn kalm__q8_tiles_wasm[KALM__WASM_DIRECT] = { kalm__q8_1x1_wasm };
static const kalm__tile_fn kalm__int16_tiles_wasm[KALM__WASM_TILE] = { KALM__TILES_2(kalm__int16_, x1_wasm) };
static const kalm__tile_fn kalm__f32_tiles_wasm[KALM__WASM_TILE] = { KALM__TILES_2(kalm__f32_, x1_wasm) };

static const kalm__tiles kalm__tiles_f32_wasm = {
	KALM__WASM_TILE, 0, 0,
	KALM__F32, KALM__F32, 4, 0, 0,
	NULL, kalm__pack_floats, kalm__unpack_half_wasm, NULL,
	NULL, kalm__f32_tiles_wasm, NULL, NULL
};
static const kalm__tiles kalm__tiles_q8_wasm = {
	KALM__WASM_TILE, 0, KALM__WASM_DIRECT,
	KALM__Q8, KALM__Q16, 2, 0, 0,
	kalm__row_scales_wasm, kalm__pack_int16_wasm, kalm__unpack_q4_wasm, kalm__widen_wasm,
	kalm__q8_tiles_wasm, kalm__int16_tiles_wasm, NULL, NULL
};
static const kalm__tiles kalm__tiles_q16_wasm = {
	KALM__WASM_TILE, 0, 0,
	KALM__Q16, KALM__Q16, 2, 0, 0,
	kalm__row_scales_wasm, kalm__pack_int16_wasm, NULL, NULL,
	NULL, kalm__int16_tiles_wasm, NULL, NULL
};
static const kalm__kernels kalm__kernels_wasm = {
	"wasm", &kalm__table_wasm,
	{ &kalm__tiles_f32_wasm, &kalm__tiles_f32_wasm, &kalm__tiles_f32_wasm,
	  &kalm__tiles_q8_wasm, &kalm__tiles_q8_wasm, &kalm__tiles_q16_wasm },
	NULL, NULL
};

#endif
/* ---- begin src/kernels_wasm_relaxed.h ---- */
/* kernels_wasm_relaxed.h - relaxed SIMD of WebAssembly, known at compile time (-mrelaxed-simd): "wasmdot", "wasmvnni8" and
	"wasmvnni" multiply bytes, "wasmfma" multiplies int16 as kernels_wasm.h does; float weights are fused in all four. */
/* More is in docs/KERNELS.md. */
#define KALM__KERNELS_WASM_RELAXED_H


#if KALM__WASM_RELAXED

/* rows of a tile of bytes: accumulators for 32 registers, for 16 */
enum { KALM__WASM_DOT_ROWS = 4, KALM__WASM_VNNI_ROWS = 2 };

/* ---- float tiles ---- */

KALM__INLINE v128_t kalm__fma_wasm(v128_t acc, v128_t x, v128_t w)
{
#if __clang_major__ >= 17
	return wasm_f32x4_relaxed_madd(x, w, acc);
#else
	return (v128_t)__builtin_wasm_relaxed_madd_f32x4((__f32x4)x, (__f32x4)w, (__f32x4)acc);
#endif
}

#define KALM__WASM_ZERO(r) v128_t c##r = wasm_i32x4_splat(0), d##r = c##r, e##r = c##r, f##r = c##r;
#define KALM__WASM_FMA(r) \
	x = wasm_v128_load32_splat(a + r); \
	c##r = kalm__fma_wasm(c##r, x, w0), d##r = kalm__fma_wasm(d##r, x, w1); \
	e##r = kalm__fma_wasm(e##r, x, w2), f##r = kalm__fma_wasm(f##r, x, w3);
#define KALM__WASM_FPUT(r) kalm__write_wasm(job, r, c##r, d##r, e##r, f##r);
#define KALM__WASM_FMA_TILE(n) \
	KALM__FN void kalm__f32_##n##x1_wasmfma(const kalm__tile_job *job) \
	{ \
		const float *a = (const float *)(const void *)job->acts, *b = (const float *)(const void *)job->weights; \
		size_t step, steps = job->steps; \
		KALM__REP_##n(KALM__WASM_ZERO) \
		for (step = 0; step < steps; step++, a += n, b += 16) { \
			v128_t w0 = wasm_v128_load(b), w1 = wasm_v128_load(b + 4); \
			v128_t w2 = wasm_v128_load(b + 8), w3 = wasm_v128_load(b + 12), x; \
			KALM__REP_##n(KALM__WASM_FMA) \
		} \
		KALM__REP_##n(KALM__WASM_FPUT) \
	}
KALM__WASM_FMA_TILE(1) KALM__WASM_FMA_TILE(2)

static const kalm__tile_fn kalm__f32_tiles_wasmfma[KALM__WASM_TILE] = { KALM__TILES_2(kalm__f32_, x1_wasmfma) };
static const kalm__tiles kalm__tiles_f32_wasmfma = {
	KALM__WASM_TILE, 0, 0,
	KALM__F32, KALM__F32, 4, 0, 0,
	NULL, kalm__pack_floats, kalm__unpack_half_wasm, NULL,
	NULL, kalm__f32_tiles_wasmfma, NULL, NULL
};
static const kalm__kernels kalm__kernels_wasmfma = {
	"wasmfma", &kalm__table_wasm,
	{ &kalm__tiles_f32_wasmfma, &kalm__tiles_f32_wasmfma, &kalm__tiles_f32_wasmfma,
	  &kalm__tiles_q8_wasm, &kalm__tiles_q8_wasm, &kalm__tiles_q16_wasm },
	NULL, NULL
};

/* ---- activations of q8 and q4: bytes, [cols32 / 4][height][4] ---- */

/* Rows into a tile, with their signs or + 128. high: the rows are split16, and these are their high bytes: rounded where the low
	ones have a sign. */
KALM__INLINE void kalm__pack_bytes_wasm(const kalm__four_rows *f, int with_sign, uint8_t *high)
{
	size_t height = f->height, cols = f->cols, cols32 = kalm__cols32(cols), k, i;
	v128_t flip = wasm_i16x8_splat(with_sign ? 0 : 128);
	for (i = 0; i < f->n; i++) {
		const float *x = f->x[i];
		v128_t by = wasm_f32x4_splat(f->inverse[i]);
		unsigned char *out = f->tile + 4 * (f->first + i);
		for (k = 0; k < cols32; k += 8, out += 8 * height) {
			v128_t u = wasm_i16x8_narrow_i32x4(kalm__round_wasm(kalm__load_wasm(x, k, cols), by),
											   kalm__round_wasm(kalm__load_wasm(x, k + 4, cols), by));
			if (high) {
				v128_t h = wasm_i16x8_shr(with_sign ? wasm_i16x8_add(u, wasm_i16x8_splat(128)) : u, 8);
				wasm_v128_store64_lane(high + i * KALM__SPLIT16_COLS + k, wasm_u8x16_narrow_i16x8(h, h), 0);
				u = wasm_i16x8_sub(u, wasm_i16x8_shl(h, 8));
			} else u = wasm_i16x8_add(u, flip);
			u = with_sign ? wasm_i8x16_narrow_i16x8(u, u) : wasm_u8x16_narrow_i16x8(u, u);
			if (height == 1) wasm_v128_store64_lane(out, u, 0);
			else {
				wasm_v128_store32_lane(out, u, 0);
				wasm_v128_store32_lane(out + 4 * height, u, 1);
			}
		}
	}
}
KALM__FN void kalm__pack_signed_wasm(const kalm__four_rows *f) { kalm__pack_bytes_wasm(f, 1, NULL); }
KALM__FN void kalm__pack_unsigned_wasm(const kalm__four_rows *f) { kalm__pack_bytes_wasm(f, 0, NULL); }
KALM__FN void kalm__split_signed_wasm(const kalm__four_rows *f) { kalm__pack_bytes_wasm(f, 1, f->high); }
KALM__FN void kalm__split_unsigned_wasm(const kalm__four_rows *f) { kalm__pack_bytes_wasm(f, 0, f->high); }

/* ---- q8 tiles ---- */

/* Does the instruction, here and now, multiply as it was when it was tried? One more product onto a sum that is there, of the
	bytes in which engines differ. job->sum: bytes are without a sign. */
KALM__INLINE int kalm__dot_holds(const kalm__tile_job *job, v128_t acc)
{
	v128_t more = kalm__relaxed_dot(acc, wasm_i8x16_splat(127), wasm_i8x16_splat(job->sum ? -1 : -127));
	return wasm_i32x4_extract_lane(wasm_i32x4_sub(more, acc), 0) == (job->sum ? 4 * 127 * 255 : -4 * 127 * 127);
}

/* The same sum from instructions that leave nothing open */
KALM__INLINE v128_t kalm__plain_dot_wasm(const kalm__tile_job *job, v128_t acc, v128_t w, v128_t x)
{
	v128_t low = job->sum ? wasm_u16x8_extend_low_u8x16(x) : wasm_i16x8_extend_low_i8x16(x);
	return wasm_i32x4_add(acc, kalm__add_pairs_wasm(wasm_i32x4_dot_i16x8(low, wasm_i16x8_extend_low_i8x16(w)),
													wasm_i32x4_dot_i16x8(low, wasm_i16x8_extend_high_i8x16(w))));
}

/* What four outputs' sums begin with: bytes + 128 give 128 times the sum of the weights too much */
KALM__INLINE v128_t kalm__begin_wasm(const kalm__tile_job *job, size_t at)
{
	return job->sum ? wasm_i32x4_neg(wasm_i32x4_shl(wasm_v128_load(job->sum + at), 7)) : wasm_i32x4_splat(0);
}

/* A tile of height rows, row by row: for engines that were not what they seemed */
KALM__NOINLINE KALM__FN void kalm__q8_plainly_wasm(const kalm__tile_job *job, size_t height)
{
	size_t r, step;
	for (r = 0; r < height; r++) {
		const unsigned char *a = job->acts + 4 * r, *b = job->weights;
		v128_t c = kalm__begin_wasm(job, 0), d = kalm__begin_wasm(job, 4);
		v128_t e = kalm__begin_wasm(job, 8), f = kalm__begin_wasm(job, 12);
		for (step = 0; step < job->steps; step++, a += 4 * height, b += 64) {
			v128_t x = wasm_v128_load32_splat(a);
			c = kalm__plain_dot_wasm(job, c, wasm_v128_load(b), x);
			d = kalm__plain_dot_wasm(job, d, wasm_v128_load(b + 16), x);
			e = kalm__plain_dot_wasm(job, e, wasm_v128_load(b + 32), x);
			f = kalm__plain_dot_wasm(job, f, wasm_v128_load(b + 48), x);
		}
		kalm__store_wasm(job, r, c, d, e, f);
	}
}

#define KALM__WASM_BEGIN(r) v128_t c##r = c, d##r = d, e##r = e, f##r = f;
#define KALM__WASM_DOTS(r) \
	c##r = kalm__relaxed_dot(c##r, w0, x), d##r = kalm__relaxed_dot(d##r, w1, x); \
	e##r = kalm__relaxed_dot(e##r, w2, x), f##r = kalm__relaxed_dot(f##r, w3, x);
#define KALM__WASM_DOT(r) x = wasm_v128_load32_splat(a + 4 * r); KALM__WASM_DOTS(r)
/* Four rows' inputs in one load: then a dup each, where V8 makes two additions and a load of a load32_splat */
#define KALM__WASM_DOT_OF4(r) x = wasm_i32x4_shuffle(four, four, r, r, r, r); KALM__WASM_DOTS(r)
#define KALM__WASM_PUT(r) kalm__store_wasm(job, r, c##r, d##r, e##r, f##r);
#define KALM__WASM_DOT_TILE(n, load, each_row) \
	KALM__FN void kalm__q8_##n##x1_relaxed(const kalm__tile_job *job) \
	{ \
		const unsigned char *a = job->acts, *b = job->weights; \
		size_t step, steps = job->steps; \
		v128_t c = kalm__begin_wasm(job, 0), d = kalm__begin_wasm(job, 4); \
		v128_t e = kalm__begin_wasm(job, 8), f = kalm__begin_wasm(job, 12); \
		int held = kalm__dot_holds(job, c); \
		KALM__REP_##n(KALM__WASM_BEGIN) \
		for (step = 0; step < steps; step++, a += 4 * n, b += 64) { \
			v128_t w0 = wasm_v128_load(b), w1 = wasm_v128_load(b + 16); \
			v128_t w2 = wasm_v128_load(b + 32), w3 = wasm_v128_load(b + 48), x load; \
			each_row \
		} \
		if (!KALM__LIKELY(held && kalm__dot_holds(job, c0))) { \
			kalm__q8_plainly_wasm(job, n); \
			return; \
		} \
		KALM__REP_##n(KALM__WASM_PUT) \
	}
#define KALM__WASM_FOUR , four = wasm_v128_load(a)
KALM__WASM_DOT_TILE(1, , KALM__REP_1(KALM__WASM_DOT))
KALM__WASM_DOT_TILE(2, , KALM__REP_2(KALM__WASM_DOT))
KALM__WASM_DOT_TILE(3, , KALM__REP_3(KALM__WASM_DOT))
KALM__WASM_DOT_TILE(4, KALM__WASM_FOUR, KALM__REP_4(KALM__WASM_DOT_OF4))

static const kalm__tile_fn kalm__q8_tiles_relaxed[KALM__WASM_DOT_ROWS] = {
	KALM__TILES_4(kalm__q8_, x1_relaxed)
};

/* High bytes have seven bits: here the instruction is exact as it is promised. */
KALM__FN int kalm__multiply_high_relaxed(const kalm__matrix *w, const uint8_t *high, float *y)
{
	uint8_t live[KALM__SPLIT16_COLS / 4];
	size_t count = kalm__find_lines(high, kalm__cols32(w->cols), live), p, l, bytes = kalm__panel_stride(w);
	if (!count) return 0;
	for (p = 0; 16 * p < w->rows; p++) {
		v128_t c = wasm_i32x4_splat(0), d = c, e = c, f = c;
		float all[16];
		for (l = 0; l < count; l++) {
			const unsigned char *b = (const unsigned char *)w->data + p * bytes + 64 * (size_t)live[l];
			v128_t x = wasm_v128_load32_splat(high + 4 * (size_t)live[l]);
			c = kalm__relaxed_dot(c, wasm_v128_load(b), x), d = kalm__relaxed_dot(d, wasm_v128_load(b + 16), x);
			e = kalm__relaxed_dot(e, wasm_v128_load(b + 32), x), f = kalm__relaxed_dot(f, wasm_v128_load(b + 48), x);
		}
		wasm_v128_store(all, wasm_f32x4_convert_i32x4(c)), wasm_v128_store(all + 4, wasm_f32x4_convert_i32x4(d));
		wasm_v128_store(all + 8, wasm_f32x4_convert_i32x4(e)), wasm_v128_store(all + 12, wasm_f32x4_convert_i32x4(f));
		memcpy(y + 16 * p, all, kalm__min(16, w->rows - 16 * p) * sizeof *y);
	}
	return 1;
}

/* ---- the sets ---- */

#define KALM__RELAXED_SET(name, most, sums, sign) \
	static const kalm__tiles kalm__tiles_q8_##name = { \
		most, 0, 0, \
		KALM__Q8, KALM__Q8, 1, sums, 0, \
		kalm__row_scales_wasm, kalm__pack_##sign##_wasm, kalm__unpack_q4_wasm, NULL, \
		NULL, kalm__q8_tiles_relaxed, NULL, NULL \
	}; \
	static const kalm__kernels kalm__kernels_##name = { \
		#name, &kalm__table_wasm, \
		{ &kalm__tiles_f32_wasmfma, &kalm__tiles_f32_wasmfma, &kalm__tiles_f32_wasmfma, \
		  &kalm__tiles_q8_##name, &kalm__tiles_q8_##name, &kalm__tiles_q16_wasm }, \
		kalm__split_##sign##_wasm, kalm__multiply_high_relaxed \
	};
KALM__RELAXED_SET(wasmdot, KALM__WASM_DOT_ROWS, 0, signed)
KALM__RELAXED_SET(wasmvnni8, KALM__WASM_VNNI_ROWS, 0, signed)
KALM__RELAXED_SET(wasmvnni, KALM__WASM_VNNI_ROWS, 1, unsigned)

#endif
/* ---- begin src/kernel_sets.h ---- */
/* kernel_sets.h - the kernel sets in this build, best first, and the choice among them: by what the machine can run, or
	by name. The choice is a pointer to a constant table that the context holds; nothing global is written. */
#define KALM__KERNEL_SETS_H


typedef struct kalm__set_entry {
	unsigned needs;  /* KALM__CPU_ bits */
	const kalm__kernels *kernels;
} kalm__set_entry;

static const kalm__set_entry kalm__set_table[] = {
#if KALM__HAVE_AMX
	{ KALM__CPU_AMX, &kalm__kernels_amx },
#endif
#if KALM__HAVE_AVX512
	{ KALM__CPU_AVX512VNNI, &kalm__kernels_avx512vnni },
#endif
#if KALM__HAVE_AVX512BF16
	{ KALM__CPU_AVX512VNNI | KALM__CPU_AVX512BF16, &kalm__kernels_avx512bf16 },  /* by name alone, see there */
#endif
#if KALM__HAVE_AVXVNNI
	{ KALM__CPU_AVX2 | KALM__CPU_AVXVNNI, &kalm__kernels_avxvnni },
#endif
#if KALM__X86
	{ KALM__CPU_AVX2, &kalm__kernels_avx2 },
#endif
#if KALM__NEON
#  if KALM__HAVE_DOT && KALM__HAVE_MM
	{ KALM__CPU_DOTPROD | KALM__CPU_I8MM, &kalm__kernels_i8mm },
#  endif
#  if KALM__HAVE_DOT
	{ KALM__CPU_DOTPROD, &kalm__kernels_dotprod },
#  endif
	{ KALM__CPU_NEON, &kalm__kernels_neon },
#endif
#if KALM__RVV
	{ KALM__CPU_RVV, &kalm__kernels_rvv },
#endif
#if KALM__WASM_RELAXED
	{ KALM__CPU_SDOT, &kalm__kernels_wasmdot },
	{ KALM__CPU_VNNI8, &kalm__kernels_wasmvnni8 },
	{ KALM__CPU_VNNI, &kalm__kernels_wasmvnni },
	{ 0, &kalm__kernels_wasmfma },
#endif
#if KALM__WASM
	{ 0, &kalm__kernels_wasm },
#endif
	{ 0, &kalm__kernels_scalar }
};

/* The i-th set that this machine can run, best first, "scalar" last, of those of that name (NULL: of all); NULL behind it. use: it
	is to run, so the system is asked for leave where it must be. */
KALM__FN const kalm__kernels *kalm__kernel_set(size_t i, const char *name, int use)
{
	unsigned have = kalm__cpu_features();
	size_t at;
	for (at = 0; at < sizeof kalm__set_table / sizeof kalm__set_table[0]; at++) {
		const kalm__set_entry *e = &kalm__set_table[at];
		if (e->needs & ~have || (name && strcmp(name, e->kernels->name) != 0)) continue;
#if KALM__X86
		if (use && e->needs & KALM__CPU_AMX && !kalm__may_use_tiles()) continue;
#endif
		if (i-- == 0) return e->kernels;
	}
	(void)use;
	return NULL;
}

/* ---- begin src/rowcode.h ---- */
/* rowcode.h - rows of documents in 4, 3 and 2 bits a number. A row x [width] is a sum of components, chosen so that an error of
	the same size in any of them changes the decoder's answer equally: y = T (x - mean), and x = mean + T^-1 y. The numbers y are
	rounded to whole steps, and the whole numbers, called levels, are written by an entropy coder. mean, T, T^-1 and the
	probabilities of levels are fitted by kalm-quantize (quantize/rows.h) and stand in the section ROWS of the model file. */
/* More is in docs/FORMAT.md. */
#define KALM__ROWCODE_H


enum {
	KALM__ROWS_VERSION = 2, KALM__ROWS_BITS = 3, KALM__ROWS_RATIOS = 6, KALM__ROWS_HEAVY = 8,
	KALM__ROWS_CLASSES = 32, KALM__ROWS_SYMBOLS = 16,
	KALM__ROWS_TABLES = 256,  /* where the tables begin in the section */
	KALM__ROWS_TOTAL = 4096,  /* of the intervals of all symbols */
	KALM__ROWS_STEPS = 2048,  /* s is below */
	KALM__ROWS_MIDDLE = 256,  /* the s of a row whose step is step[b][r] */
	KALM__ROWS_OCTAVE = 64,  /* so many s double the step */
	KALM__ROWS_NARROWEST = 16  /* width; fewer numbers leave no room behind the coder's own bytes */
};

typedef struct kalm__rowcode {
	uint64_t fingerprint;  /* hash of the section; 0: there is none */
	uint32_t width, heavy;
	float step[KALM__ROWS_BITS][KALM__ROWS_RATIOS];
	uint32_t count[KALM__ROWS_BITS][KALM__ROWS_RATIOS];
	const uint16_t *start, *cost;  /* [CLASSES][2][SYMBOLS] */
	const uint8_t *classes;  /* [BITS][RATIOS][width] */
	const float *mean;  /* [width] */
	const float *rows, *cols;  /* [HEAVY][width]: of T and T^-1 */
	kalm__matrix forward, inverse;  /* T, T^-1 */
} kalm__rowcode;

/* Bytes of a row of 4, 3 or 2 bits. */
KALM__INLINE size_t kalm__coded_row_bytes(size_t width, uint32_t bits) { return (width * bits + 7) / 8 + 1; }
KALM__INLINE int kalm__is_coded(uint32_t bits) { return bits >= 2 && bits <= 4; }

KALM__FN unsigned kalm__ratio_class(uint32_t ratio)
{
	unsigned c = 0;
	while (c < KALM__ROWS_RATIOS - 1 && ratio > 1u << c) c++;
	return c;
}

/* Where the parts of the section lie. */
typedef struct kalm__rows_layout {
	size_t cost, classes, mean, rows, cols, forward, inverse, size;
	size_t scales;  /* bytes of a matrix' scales, before its panels */
} kalm__rows_layout;

KALM__FN kalm__rows_layout kalm__rows_places(size_t width)
{
	kalm__rows_layout l;
	size_t line = kalm__round_up(width * sizeof(float), 64), heavy = kalm__round_up(KALM__ROWS_HEAVY * width * sizeof(float), 64);
	size_t matrix;
	l.scales = kalm__round_up(width, 16) * sizeof(float);
	matrix = kalm__add(l.scales, kalm__mul(l.scales / 64, kalm__panel_bytes(KALM__Q16, width)));
	l.cost = KALM__ROWS_TABLES + KALM__ROWS_CLASSES * 2 * KALM__ROWS_SYMBOLS * sizeof(uint16_t);
	l.classes = l.cost + KALM__ROWS_CLASSES * 2 * KALM__ROWS_SYMBOLS * sizeof(uint16_t);
	l.mean = kalm__round_up(l.classes + KALM__ROWS_BITS * KALM__ROWS_RATIOS * width, 64);
	l.rows = l.mean + line;
	l.cols = l.rows + heavy;
	l.forward = l.cols + heavy;
	l.inverse = kalm__add(l.forward, matrix);
	l.size = kalm__add(l.inverse, matrix);
	return l;
}

KALM__FN void kalm__rows_matrix(kalm__matrix *m, const unsigned char *p, size_t width, size_t scales)
{
	const void *scale = p;
	memset(m, 0, sizeof *m);
	m->type = KALM__Q16;
	m->rows = m->cols = (uint32_t)width;
	m->scale = (const float *)scale;
	m->data = p + scales;
}

/* Read the section, which stays where it is, at a multiple of 64. What could lead astray is checked: sizes, and that the
	intervals of symbols rise. Numbers that are none make rows of none, which are found where rows are used. */
KALM__FN kalm_result kalm__rowcode_open(kalm__rowcode *c, const unsigned char *p, uint64_t size, uint64_t fingerprint,
										uint32_t width, kalm_error *err)
{
	kalm__rows_layout l = kalm__rows_places(width);
	const void *at;
	unsigned b, r, i, k;
	memset(c, 0, sizeof *c);
	if (width < KALM__ROWS_NARROWEST)
		return kalm__fail(err, KALM_BAD_FILE, "the model has a ROWS section for rows of %u numbers; %u are the fewest", width,
						  (unsigned)KALM__ROWS_NARROWEST);
	if (size >= 4 && kalm__u32(p) != KALM__ROWS_VERSION)
		return kalm__fail(err, KALM_BAD_VERSION, "the ROWS section has version %u, this library reads %u", kalm__u32(p),
						  (unsigned)KALM__ROWS_VERSION);
	if (size != l.size)
		return kalm__fail(err, KALM_BAD_FILE, "the ROWS section has %U bytes, rows of %u numbers ask for %z", size, width, l.size);
	c->width = kalm__u32(p + 4);
	c->heavy = kalm__u32(p + 8);
	if (c->width != width || c->heavy > KALM__ROWS_HEAVY)
		return kalm__fail(err, KALM_BAD_FILE, "the ROWS section is for rows of %u numbers with %u heavy components; the model has %u",
						  c->width, c->heavy, width);
	for (b = 0; b < KALM__ROWS_BITS; b++)
		for (r = 0; r < KALM__ROWS_RATIOS; r++) {
			size_t place = 4 * (KALM__ROWS_RATIOS * b + r);
			c->step[b][r] = kalm__f32(p + 16 + place);
			c->count[b][r] = kalm__u32(p + 88 + place);
			if (!(c->step[b][r] > 1e-12f && c->step[b][r] < 1e12f) || c->count[b][r] > width)
				return kalm__fail(err, KALM_BAD_FILE, "the ROWS section has an impossible step or count for %u bits", 4 - b);
		}
	at = p + KALM__ROWS_TABLES;
	c->start = (const uint16_t *)at;
	at = p + l.cost;
	c->cost = (const uint16_t *)at;
	for (i = 0; i < KALM__ROWS_CLASSES * 2; i++)
		for (k = 0; k < KALM__ROWS_SYMBOLS; k++) {
			unsigned v = c->start[i * KALM__ROWS_SYMBOLS + k], before = k ? c->start[i * KALM__ROWS_SYMBOLS + k - 1] : 0;
			if ((k ? v <= before || v >= KALM__ROWS_TOTAL : v != 0) || c->cost[i * KALM__ROWS_SYMBOLS + k] > 64 * 12)
				return kalm__fail(err, KALM_BAD_FILE, "the ROWS section has impossible probabilities or costs in class %u", i / 2);
		}
	c->classes = p + l.classes;
	at = p + l.mean;
	c->mean = (const float *)at;
	at = p + l.rows;
	c->rows = (const float *)at;
	at = p + l.cols;
	c->cols = (const float *)at;
	kalm__rows_matrix(&c->forward, p + l.forward, width, l.scales);
	kalm__rows_matrix(&c->inverse, p + l.inverse, width, l.scales);
	c->fingerprint = fingerprint ? fingerprint : 1;
	return KALM_OK;
}

/* ---- what coder and decoder share ---- */

/* The state that follows a state and the parity of its level; odd states use quantiser 1. */
static const uint8_t kalm__trellis[8][2] = { { 0, 2 }, { 5, 7 }, { 1, 3 }, { 6, 4 }, { 2, 0 }, { 4, 6 }, { 3, 1 }, { 7, 5 } };

KALM__INLINE int32_t kalm__level_steps(unsigned quantiser, int32_t level)
{
	return 2 * level - (quantiser ? (level > 0) - (level < 0) : 0);
}

/* h of a level; see above. */
KALM__INLINE int32_t kalm__level_high(int32_t level, unsigned shift)
{
	int32_t positive = level + (1 << 24) + (shift ? 1 << (shift - 1) : 0);
	return (positive >> shift) - ((1 << 24) >> shift);
}

KALM__INLINE unsigned kalm__log2(uint32_t v)
{
	unsigned n = 0;
	while (v >>= 1) n++;
	return n;
}

KALM__FN float kalm__row_step(const kalm__rowcode *c, unsigned b, unsigned r, uint32_t s)
{
	double part = kalm__times_double((double)(s % KALM__ROWS_OCTAVE), 0.6931471805599453 / (double)KALM__ROWS_OCTAVE);
	double octave = kalm__power_of_two((int)(s / KALM__ROWS_OCTAVE) - KALM__ROWS_MIDDLE / KALM__ROWS_OCTAVE);
	return (float)kalm__times_double(kalm__times_double((double)c->step[b][r], kalm__exp(part)), octave);
}

/* Rows that are transformed together, so that a matrix is read once for all of them, and whose levels are sought together. */
enum { KALM__ROWS_TOGETHER = KALM__TRELLIS };

/* A worker's memory while it codes rows, each part at a multiple of 64. */
typedef struct kalm__row_work {
	float *y;  /* [ROWS_TOGETHER][width] components */
	void *acts, *scratch;  /* of the products with T and T^-1 */
	float *turned;  /* [width][ROWS_TOGETHER] components */
	int16_t *floors;  /* [2][width][ROWS_TOGETHER]: what ops->trellis leaves */
	float *rate;  /* [256][2][4], for ops->trellis, by class and shift */
	int32_t *path;  /* [ROWS_TOGETHER][3][width] levels */
	unsigned char *bytes;  /* [5 width], at most 39 bits a level */
} kalm__row_work;

/* Hand out the parts from `base`, or count them where it is NULL. Returns the bytes. */
KALM__FN size_t kalm__row_work_plan(kalm__row_work *w, void *base, const kalm__kernels *k, size_t width)
{
	size_t size[8], total = 0, i;
	void *part[8];
	size[0] = size[3] = size[6] = KALM__ROWS_TOGETHER * width * sizeof(float);
	size[1] = kalm__acts_bytes(k, KALM__Q16, KALM__ROWS_TOGETHER, width);
	size[2] = kalm__matmul_scratch(k, KALM__Q16, width);
	size[4] = 2 * KALM__ROWS_TOGETHER * width * sizeof(int16_t);
	size[5] = 256 * 8 * sizeof(float);
	size[6] *= 3;
	size[7] = 5 * width;
	for (i = 0; i < 8; i++) {
		part[i] = base ? (unsigned char *)base + total : NULL;
		total = kalm__add(total, kalm__round_up(size[i], 64));
	}
	w->y = (float *)part[0];
	w->acts = part[1];
	w->scratch = part[2];
	w->turned = (float *)part[3];
	w->floors = (int16_t *)part[4];
	w->rate = (float *)part[5];
	w->path = (int32_t *)part[6];
	w->bytes = (unsigned char *)part[7];
	return total;
}

/* y [n][width] = x [n][width] times T or T^-1 without its heavy part. */
KALM__FN void kalm__row_product(const kalm__kernels *k, const kalm__matrix *m, const kalm__row_work *w, float *y, const float *x,
								size_t n)
{
	kalm__block block = kalm__block_of(KALM__Q16, n, m->cols, w->acts);
	kalm__pack(k, block, 0, n, x, m->cols);
	kalm__multiply_block(k, m, &block, y, m->cols, w->scratch);
}

/* ---- reading ---- */

/* The coder's number and the bytes that it takes in. */
typedef struct kalm__row_reader {
	const unsigned char *at, *end;
	uint32_t x;
} kalm__row_reader;

KALM__INLINE void kalm__row_refill(kalm__row_reader *in)
{
	if (in->end - in->at >= 2) {  /* none, one or two bytes, without a branch that nobody can foresee */
		unsigned n = (unsigned)(in->x < 1u << 16) + (unsigned)(in->x < 1u << 8);
		in->x = in->x << 8 * n | ((uint32_t)in->at[0] << 8 | in->at[1]) >> (16 - 8 * n);
		in->at += n;
	} else {
		unsigned i;
		for (i = 0; i < 2 && in->x < 1u << 16 && in->at < in->end; i++) in->x = in->x << 8 | *in->at++;
	}
}

/* n bits, at most 16 */
KALM__INLINE uint32_t kalm__row_bits(kalm__row_reader *in, unsigned n)
{
	uint32_t v = in->x & ((1u << n) - 1);
	in->x >>= n;
	kalm__row_refill(in);
	return v;
}

/* s, from the last value. */
KALM__INLINE uint32_t kalm__row_last(uint32_t x)
{
	while (x < KALM__ROWS_STEPS) x = x << 1 | (x == 0);  /* no encoder leaves so little */
	while (x >= 2 * KALM__ROWS_STEPS) x >>= 1;
	return x - KALM__ROWS_STEPS;
}

KALM__INLINE unsigned kalm__row_symbol(kalm__row_reader *in, const uint16_t *start)
{
	uint32_t slot = in->x & (KALM__ROWS_TOTAL - 1), size;
	unsigned i = slot >= start[8] ? 8 : 0;
	i += slot >= start[i + 4] ? 4u : 0u;
	i += slot >= start[i + 2] ? 2u : 0u;
	i += slot >= start[i + 1] ? 1u : 0u;
	size = (i + 1 < KALM__ROWS_SYMBOLS ? start[i + 1] : (uint32_t)KALM__ROWS_TOTAL) - start[i];
	in->x = size * (in->x >> 12) + slot - start[i];
	kalm__row_refill(in);
	return i;
}

/* The components of a row, from its bytes. */
KALM__FN void kalm__row_read(const kalm__rowcode *c, unsigned b, unsigned r, const unsigned char *bytes, size_t size, float *y)
{
	const uint8_t *classes = c->classes + (b * KALM__ROWS_RATIOS + r) * (size_t)c->width;
	kalm__row_reader in;
	unsigned state = 0;
	float step;
	uint32_t i;
	in.x = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];
	in.at = bytes + 3;
	in.end = bytes + size;
	for (i = 0; i < c->count[b][r]; i++) {
		unsigned quantiser = state & 1, shift = classes[i] >> 5;
		unsigned symbol = kalm__row_symbol(&in, c->start + ((classes[i] & 31u) * 2 + quantiser) * KALM__ROWS_SYMBOLS);
		int32_t level = (int32_t)symbol - 7;
		if (symbol == KALM__ROWS_SYMBOLS - 1) {
			unsigned n = kalm__row_bits(&in, 4);
			int negative = kalm__row_bits(&in, 1) != 0;
			level = 7 + (int32_t)(1u << n | kalm__row_bits(&in, n));
			if (negative) level = -level;
		}
		if (shift) level = level * (1 << shift) - (1 << (shift - 1)) + (int32_t)kalm__row_bits(&in, shift);
		y[i] = (float)kalm__level_steps(quantiser, level);
		state = kalm__trellis[state][(uint32_t)level & 1];
	}
	step = kalm__row_step(c, b, r, kalm__row_last(in.x));
	for (i = 0; i < c->count[b][r]; i++) y[i] = kalm__times(y[i], step);
	for (; i < c->width; i++) y[i] = 0.0f;
}

/* row += by times column j of T^-1; room: [width] */
KALM__INLINE void kalm__add_column(const kalm__rowcode *c, const kalm__kernels *k, float *row, size_t j, float by, float *room)
{
	k->ops->scale_row(room, c->cols + j * c->width, by, c->width);
	k->ops->scale_add(row, 1.0f, room, c->width);
}

/* x [n][width] from components y [n][width], n at most ROWS_TOGETHER; y is used up. */
KALM__FN void kalm__rows_from_components(const kalm__rowcode *c, const kalm__kernels *k, const kalm__row_work *w, float *x, float *y,
										 size_t n)
{
	float heavy[KALM__ROWS_TOGETHER][KALM__ROWS_HEAVY];
	size_t i, j, width = c->width;
	for (i = 0; i < n; i++)
		for (j = 0; j < c->heavy; j++) {
			heavy[i][j] = y[i * width + j];
			y[i * width + j] = 0.0f;
		}
	kalm__row_product(k, &c->inverse, w, x, y, n);
	for (i = 0; i < n; i++) {
		k->ops->scale_add(x + i * width, 1.0f, c->mean, width);
		for (j = 0; j < c->heavy; j++) kalm__add_column(c, k, x + i * width, j, heavy[i][j], y);
	}
}

/* ---- writing ---- */

/* y [n][width] from x [n][width], n at most ROWS_TOGETHER; x is used up. */
KALM__FN void kalm__rows_to_components(const kalm__rowcode *c, const kalm__kernels *k, const kalm__row_work *w, float *y, float *x,
									   size_t n)
{
	float heavy[KALM__ROWS_TOGETHER][KALM__ROWS_HEAVY];
	size_t i, j, width = c->width;
	for (i = 0; i < n; i++) {
		float *row = x + i * width;
		k->ops->scale_add(row, -1.0f, c->mean, width);  /* mean - x */
		k->ops->scale_row(row, row, -1.0f, width);
		for (j = 0; j < c->heavy; j++) heavy[i][j] = k->ops->dot(c->rows + j * width, row, width);
		for (j = 0; j < c->heavy; j++) kalm__add_column(c, k, row, j, -heavy[i][j], y);
	}
	kalm__row_product(k, &c->forward, w, y, x, n);
	for (i = 0; i < n; i++)
		for (j = 0; j < c->heavy; j++) y[i * width + j] = heavy[i][j];
}

/* Bits of a level, in 1/64. */
KALM__INLINE uint32_t kalm__level_cost(const uint16_t *cost, unsigned shift, int32_t level)
{
	int32_t high = kalm__level_high(level, shift);
	uint32_t symbol = (uint32_t)(high + 7);
	if (symbol < KALM__ROWS_SYMBOLS - 1) return cost[symbol] + 64 * shift;
	return cost[KALM__ROWS_SYMBOLS - 1] + 64 * (5 + shift + kalm__log2((uint32_t)(high < 0 ? -high : high) - 7));
}

/* A row on its way. s: the step that is tried; least, most: one with which the row takes too many bits, one with which it fits (-1,
	ROWS_STEPS: not known yet); over, under: 1/64 bits that `least` takes beyond the budget, that `most` leaves. more, fit, next [width]: the levels of `least`, those of `most`, and room; each with the state before it, as
	kalm__row_place makes it. */
typedef struct kalm__row_way {
	int32_t s, least, most, over, under;
	int32_t *more, *fit, *next;
} kalm__row_way;

/* Up to ROWS_TOGETHER rows on their way. */
typedef struct kalm__row_coding {
	const kalm__rowcode *c;
	const kalm__row_work *w;
	const kalm__ops *ops;
	const uint8_t *classes;
	unsigned b, r;
	int32_t budget;  /* the bits of a row, in 1/64 */
	uint32_t count;
	size_t size, rows;  /* bytes of a row; how many rows */
	kalm__row_way row[KALM__ROWS_TOGETHER];
	float unit[KALM__ROWS_TOGETHER];  /* 1 / (4 step) */
} kalm__row_coding;

KALM__INLINE int32_t kalm__row_place(int32_t level, unsigned state) { return level * 8 + (int32_t)state; }
KALM__INLINE int32_t kalm__row_level(int32_t place) { return (place - (place & 7)) / 8; }
KALM__INLINE int32_t kalm__row_steps(int32_t place) { return kalm__level_steps((unsigned)place & 1, kalm__row_level(place)); }

/* What a 64th of a bit is worth, in squares of four steps. */
#define KALM__ROWS_LAMBDA (3.0f / 8192.0f)

/* The costs of a class as ops->trellis has them. */
KALM__FN void kalm__row_rate(float *rate, const uint16_t *cost, unsigned shift)
{
	int32_t at[4], bent, i;
	float by = kalm__over(2.0f, (float)(1 << shift));  /* levels / 2^shift to what stands for 1 */
	for (i = 1; i < 4; i++) at[i] = (cost[7 + i] + cost[7 - i]) / 2 - cost[7];
	bent = at[3] - 2 * at[2] + at[1];
	if (bent < 0) bent = 0;
	rate[0] = kalm__times((float)bent, kalm__times(kalm__times(by, by), KALM__ROWS_LAMBDA / 2));
	rate[1] = kalm__times((float)(2 * (at[2] - at[1]) - 3 * bent), kalm__times(by, KALM__ROWS_LAMBDA / 2));
	rate[2] = kalm__times((float)(2 * at[1] - at[2] + bent), KALM__ROWS_LAMBDA);
	rate[3] = kalm__times((float)(cost[7] + 64 * shift), KALM__ROWS_LAMBDA);
}

/* Begin with n rows of components y [n][width]. Numbers that are none count as 0. */
KALM__FN void kalm__row_begin(kalm__row_coding *q, const kalm__rowcode *c, const kalm__ops *ops, const kalm__row_work *w, unsigned b,
							  unsigned r, const float *y, size_t n)
{
	uint32_t i, j;
	memset(q, 0, sizeof *q);
	q->c = c;
	q->w = w;
	q->ops = ops;
	q->classes = c->classes + (b * KALM__ROWS_RATIOS + r) * (size_t)c->width;
	q->b = b;
	q->r = r;
	q->count = c->count[b][r];
	q->size = kalm__coded_row_bytes(c->width, 4 - b);
	q->budget = (int32_t)(8 * q->size - 12) * 64;  /* the coder begins with 12 bits for s */
	q->rows = n;
	for (i = 0; i < 256; i++) w->rate[i * 8 + 3] = -1.0f;
	for (i = 0; i < q->count; i++) {
		unsigned class_ = q->classes[i];
		float *rate = w->rate + class_ * 8;
		if (rate[3] < 0.0f)
			for (j = 0; j < 2; j++)
				kalm__row_rate(rate + j * 4, c->cost + ((class_ & 31u) * 2 + j) * KALM__ROWS_SYMBOLS, class_ >> 5);
		for (j = 0; j < KALM__TRELLIS; j++) {
			float v = j < n ? y[j * c->width + i] : 0.0f;
			w->turned[i * KALM__TRELLIS + j] = kalm__is_finite(v) ? v : 0.0f;
		}
	}
	for (j = 0; j < KALM__TRELLIS; j++) {
		kalm__row_way *way = &q->row[j];
		way->s = KALM__ROWS_MIDDLE;
		way->least = -1;
		way->most = KALM__ROWS_STEPS;
		way->more = w->path + 3 * j * c->width;
		way->fit = way->more + c->width;
		way->next = way->fit + c->width;
	}
}

/* s = `to`, or what is nearest to it of the steps that are open. */
KALM__FN void kalm__row_move(kalm__row_way *way, int32_t to)
{
	to = to < way->most ? to : way->most - 1;
	way->s = to > way->least ? to : way->least + 1;
}

KALM__INLINE float kalm__within(float v, float most) { return v > most ? most : v < -most ? -most : v; }
KALM__FN float kalm__row_unit(const kalm__row_coding *q, int32_t s) { return kalm__over(0.25f, kalm__row_step(q->c, q->b, q->r, (uint32_t)s)); }

/* The levels that ops->trellis has found for the rows of `left`, into `next`; bits: theirs, in 1/64. */
KALM__FN void kalm__row_trace(const kalm__row_coding *q, uint32_t left, const float *cost, int32_t *bits)
{
	static const uint8_t reached[16] = {  /* state * 2 + parity, from which each state is reached: kalm__trellis turned */
		0, 9, 4, 13, 1, 8, 5, 12, 7, 10, 2, 15, 6, 11, 3, 14
	};
	static const uint8_t half[4] = { 2, 0, 3, 1 };  /* by quantiser and parity: to the nearest such level */
	unsigned last[KALM__TRELLIS], state;
	uint32_t row[KALM__TRELLIS], rows = 0, i, j, k;
	for (j = 0; j < q->rows; j++) {
		if (!(left >> j & 1)) continue;
		row[rows++] = j;
		for (bits[j] = 0, last[j] = 0, state = 1; state < 8; state++)
			if (cost[state * KALM__TRELLIS + j] < cost[last[j] / 2 * KALM__TRELLIS + j]) last[j] = 2 * state;
	}
	for (i = q->count; i--; ) {
		const uint16_t *table = q->c->cost + (q->classes[i] & 31u) * 2 * KALM__ROWS_SYMBOLS;
		const int16_t *floors = q->w->floors + i * KALM__TRELLIS, *from = floors + q->c->width * KALM__TRELLIS;
		unsigned shift = q->classes[i] >> 5;
		for (k = 0; k < rows; k++) {  /* all rows at once: each step waits for the one before */
			int32_t size, sign, level;
			unsigned way, quantiser, ways;
			j = row[k];
			size = floors[j];
			sign = -(size < 0);
			ways = (unsigned)from[j];
			last[j] = way = reached[(last[j] & 14) | (ways >> (last[j] >> 1) & 1)];
			quantiser = way >> 1 & 1;
			level = (((size ^ sign) + half[way & 3]) >> 2) * 2 + (int32_t)(way & 1);
			level &= (int32_t)(ways >> (8 + quantiser) & ~way & 1) - 1;
			level = (level ^ sign) - sign;
			quantiser *= KALM__ROWS_SYMBOLS;
			bits[j] += shift || (uint32_t)(level + 7) > 14 ? (int32_t)kalm__level_cost(table + quantiser, shift, level)
														   : table[(int32_t)quantiser + level + 7];
			q->row[j].next[i] = kalm__row_place(level, way >> 1);
		}
	}
}

enum { KALM__ROWS_GUESSES = 7, KALM__ROWS_PASSES = 4 };

/* Steps on both sides of the budget, and the levels of both, for all rows. First by what quantiser 0 alone would take, of which the
	trellis takes about a 32nd more. More steps are tried for fewer bits, which do not fall as evenly. */
KALM__FN void kalm__row_search(kalm__row_coding *q)
{
	float cost[8][KALM__TRELLIS];
	int32_t bits[KALM__TRELLIS], pass, active = (int32_t)(q->count * (5 - q->b) / 6) + 1;  /* about how many levels are not 0 */
	uint32_t left = ((uint32_t)1 << q->rows) - 1, j;
	for (pass = -KALM__ROWS_GUESSES; left && pass < 40; pass++) {
		int16_t *from = pass < 0 ? NULL : q->w->floors + q->c->width * KALM__TRELLIS;
		for (j = 0; j < KALM__TRELLIS; j++) q->unit[j] = kalm__row_unit(q, q->row[j].s);
		q->ops->trellis(cost[0], q->w->floors, from, q->w->turned, q->unit, q->w->rate, q->classes, q->count, q->rows);
		if (from) kalm__row_trace(q, left, cost[0], bits);
		for (j = 0; j < q->rows; j++) {
			kalm__row_way *way = &q->row[j];
			int32_t over, by, *levels = way->next;
			if (!(left >> j & 1)) continue;
			over = from ? bits[j] - q->budget : (int32_t)kalm__within(kalm__over(cost[0][j], KALM__ROWS_LAMBDA), 1e9f) - q->budget / 32 * 31;
			by = over / active;  /* a component that is not 0 loses a bit with each octave */
			by = by > 128 ? 128 : by < -128 ? -128 : by;
			if (!from) {
				kalm__row_move(way, way->s + by);
				continue;
			}
			if (over > 0) {
				way->next = way->more;
				way->more = levels;
				way->least = way->s;
				way->over = over;
			} else {
				way->next = way->fit;
				way->fit = levels;
				way->most = way->s;
				way->under = -over;
			}
			if (way->least + 1 >= way->most || (over <= 0 && over > -64) || (pass + 1 >= KALM__ROWS_PASSES + (int32_t)q->b && way->most < KALM__ROWS_STEPS))
				left &= ~((uint32_t)1 << j);
			if (way->least < 0 || way->most == KALM__ROWS_STEPS)
				kalm__row_move(way, way->s + by + (over > 0 ? pass + 1 : -pass - 1));
			else kalm__row_move(way, way->most + (int32_t)((int64_t)(way->least - way->most) * way->under / (way->over + way->under)));
		}
	}
}

/* The coder's number, and where the bytes that it gives off begin: the last one was given off first. */
typedef struct kalm__row_writer {
	unsigned char *at;
	uint32_t x;
} kalm__row_writer;

/* None, one or two bytes, without a branch that nobody can foresee. */
KALM__INLINE void kalm__row_give(kalm__row_writer *out, uint32_t limit)
{
	unsigned n = (unsigned)(out->x >= limit) + (unsigned)(out->x >> 8 >= limit);
	out->at[-1] = (unsigned char)out->x;
	out->at[-2] = (unsigned char)(out->x >> 8);
	out->at -= n;
	out->x >>= 8 * n;
}

KALM__INLINE void kalm__row_put_bits(kalm__row_writer *out, uint32_t v, unsigned n)
{
	kalm__row_give(out, 1u << (24 - n));
	out->x = out->x << n | v;
}

/* Write levels, beginning with the coder's number x, into `to`. Returns the bytes that they take; more than q->size are not written. */
KALM__FN size_t kalm__row_put(const kalm__row_coding *q, const int32_t *places, uint32_t x, unsigned char *to)
{
	unsigned char *end = q->w->bytes + 5 * (size_t)q->c->width;
	kalm__row_writer out;
	size_t bytes;
	uint32_t i;
	out.at = end;
	out.x = x;
	for (i = q->count; i--; ) {  /* what is read first is written last */
		unsigned shift = q->classes[i] >> 5;
		int32_t level = kalm__row_level(places[i]), high = kalm__level_high(level, shift);
		const uint16_t *start = q->c->start + ((q->classes[i] & 31u) * 2 + ((unsigned)places[i] & 1)) * KALM__ROWS_SYMBOLS;
		uint32_t symbol = (uint32_t)(high + 7), size;
		if (shift) kalm__row_put_bits(&out, (uint32_t)(level + (1 << (shift - 1)) - high * (1 << shift)), shift);
		if (symbol >= KALM__ROWS_SYMBOLS - 1) {
			uint32_t rest = (uint32_t)(high < 0 ? -high : high) - 7;
			unsigned n = kalm__log2(rest);
			kalm__row_put_bits(&out, rest - (1u << n), n);
			kalm__row_put_bits(&out, high < 0, 1);
			kalm__row_put_bits(&out, n, 4);
			symbol = KALM__ROWS_SYMBOLS - 1;
		}
		size = (symbol + 1 < KALM__ROWS_SYMBOLS ? start[symbol + 1] : (uint32_t)KALM__ROWS_TOTAL) - start[symbol];
		kalm__row_give(&out, size << 12);
		out.x = (out.x / size << 12) + out.x % size + start[symbol];
	}
	bytes = 3 + (size_t)(end - out.at);
	if (bytes > q->size) return bytes;
	memset(to, 0, q->size);
	to[0] = (unsigned char)(out.x >> 16);
	to[1] = (unsigned char)(out.x >> 8);
	to[2] = (unsigned char)out.x;
	memcpy(to + 3, out.at, bytes - 3);
	return bytes;
}

/* Component i of row j in units of 1/32 step. */
KALM__INLINE int32_t kalm__row_fixed(const kalm__row_coding *q, size_t j, uint32_t i, float unit)
{
	float v = kalm__within(kalm__times(q->w->turned[i * KALM__TRELLIS + j], kalm__times(unit, 128.0f)), 32.0f * 32000.0f);
	return (int32_t)kalm__plus(kalm__plus(v, 12582912.0f), -12582912.0f);
}

/* Levels that fit leave some bits, those of a smaller step take too many. Where both come by the same state, one can go on as the other:
	first as those that fit, then, where components are small, as the others. Take the place with the least error. */
KALM__FN void kalm__row_splice(const kalm__row_coding *q, size_t j, kalm__row_way *way, float unit)
{
	int64_t bits = 0, error = 0, least = 0;  /* by which the others, from i on, exceed those that fit */
	int32_t under = way->under, k;
	uint32_t i, place = q->count;
	for (i = q->count; i-- > q->count / 2; ) {
		int32_t level[2], fixed;
		if (way->more[i] == way->fit[i]) continue;
		level[0] = way->more[i];
		level[1] = way->fit[i];
		fixed = kalm__row_fixed(q, j, i, unit);
		for (k = 0; k < 2; k++) {
			int64_t off = 32 * kalm__row_steps(level[k]) - fixed;
			const uint16_t *cost = q->c->cost + ((q->classes[i] & 31u) * 2 + ((unsigned)level[k] & 1)) * KALM__ROWS_SYMBOLS;
			error += (1 - 2 * k) * off * off;
			bits += (1 - 2 * k) * (int64_t)kalm__level_cost(cost, q->classes[i] >> 5, kalm__row_level(level[k]));
		}
		if (((level[0] ^ level[1]) & 7) == 0 && bits <= under && error < least) {
			least = error;
			place = i;
			way->under = under - (int32_t)bits;
		}
	}
	memcpy(way->fit + place, way->more + place, (q->count - place) * sizeof *way->fit);
}

/* The s with which levels leave the least error, where they were chosen for way->most. */
KALM__FN uint32_t kalm__row_refit(const kalm__row_coding *q, size_t j, const kalm__row_way *way, float unit)
{
	int64_t both = 0, square = 0, s = way->most;
	uint32_t i;
	for (i = 0; i < q->count; i++) {
		int64_t steps = kalm__row_steps(way->fit[i]);
		both += steps * kalm__row_fixed(q, j, i, unit);
		square += 32 * steps * steps;
	}
	if (both > 0)  /* ln x is about 2 (x - 1) / (x + 1) */
		s += (int64_t)kalm__nearest_double(kalm__times_double(kalm__over_double((double)(both - square), (double)(both + square)),
															  2 * KALM__ROWS_OCTAVE / 0.6931471805599453));
	return s < 0 ? 0u : s >= KALM__ROWS_STEPS ? KALM__ROWS_STEPS - 1u : (uint32_t)s;
}

/* Write row j, for which kalm__row_search has found levels. Returns its s; its levels are in `fit`. */
KALM__FN uint32_t kalm__row_finish(kalm__row_coding *q, size_t j, unsigned char *to)
{
	kalm__row_way *way = &q->row[j];
	uint32_t i, n = q->count, s;
	int tight;
	float unit;
	if (way->most == KALM__ROWS_STEPS) {  /* no step is large enough: as many levels as fit */
		way->fit = way->more;
		way->most = way->least;
		way->least = -1;
	}
	unit = kalm__row_unit(q, way->most);
	if (way->least >= 0) kalm__row_splice(q, j, way, unit);
	tight = way->under < 5 * 64;
	for (;;) {
		s = kalm__row_refit(q, j, way, unit);
		for (i = 0; i < 2; i++, tight = !tight) {
			size_t bytes = kalm__row_put(q, way->fit, tight ? KALM__ROWS_STEPS + s : 32 * (KALM__ROWS_STEPS + s), to);
			if (bytes == q->size || (bytes < q->size && !tight)) return s;
		}
		if (!n) break;  /* costs are rounded: a row may be a few bits longer than they say */
		for (i = n -= n / 32 + 1; i < q->count; i++)
			way->fit[i] = i ? kalm__trellis[way->fit[i - 1] & 7][kalm__row_level(way->fit[i - 1]) & 1] : 0;
	}
	memset(to, 0, q->size);  /* the model's tables are not what kalm-quantize makes */
	to[0] = 1;
	return s;
}

/* n rows of components y [n][width], n at most ROWS_TOGETHER, into `to`, one behind the other. */
KALM__FN void kalm__row_code(const kalm__rowcode *c, const kalm__ops *ops, const kalm__row_work *w, unsigned b, unsigned r,
							 const float *y, size_t n, unsigned char *to)
{
	kalm__row_coding q;
	size_t j;
	kalm__row_begin(&q, c, ops, w, b, r, y, n);
	kalm__row_search(&q);
	for (j = 0; j < n; j++) kalm__row_finish(&q, j, to + j * q.size);
}


/* Products among threads, and attention. */
/* ---- begin src/matmul.h ---- */
/* matmul.h - matrix products of many rows, shared among threads: cuts a product into tiles of rows and panels and calls
	the kernel set on each. Threads split outputs, never sums, so the cut does not show in the result. */
#define KALM__MATMUL_H


/* What a product runs on. scratch[worker] has scratch_size bytes, 64-byte aligned. */
typedef struct kalm__backend {
	const kalm__kernels *kernels;
	const kalm__ops *ops;  /* kernels->ops */
	kalm__pool *pool;
	unsigned char *scratch;  /* [workers][scratch_size] */
	size_t scratch_size;
} kalm__backend;

KALM__INLINE unsigned char *kalm__scratch(const kalm__backend *m, unsigned worker)
{
	return m->scratch + worker * m->scratch_size;
}

/* A cut of [rows) x [panels) into pieces of row_step x panel_step. */
typedef struct kalm__cut {
	size_t rows, panels, row_step, panel_step, across;  /* across: pieces side by side */
} kalm__cut;

enum { KALM__TILE_PANELS = 4, KALM__TILES_A_THREAD = 4, KALM__FEW_ROWS = 48 };

/* Returns the number of pieces. Panels are cut first, since a piece then reads its own weights only; rows after, when that
	gives too few pieces to keep the threads equally busy, unless rows must stay together (`whole`). Few rows are cut into narrower
	pieces where there are few panels, and into wider ones where they do little but read weights; those of gate and up (`gated`) have
	TILE_PANELS. */
KALM__FN size_t kalm__plan_cut(kalm__cut *c, size_t rows, size_t panels, unsigned threads, int whole, int gated)
{
	size_t wanted = threads > 1 ? (size_t)threads * KALM__TILES_A_THREAD : 1;
	c->rows = rows;
	c->panels = panels;
	c->row_step = rows;
	c->panel_step = KALM__TILE_PANELS;
	if (rows <= KALM__FEW_ROWS && threads > 1 && !gated && (rows <= 4 || panels / KALM__TILE_PANELS < wanted))
		c->panel_step = kalm__max(1, panels / wanted);
	while ((panels + c->panel_step - 1) / c->panel_step * ((rows + c->row_step - 1) / c->row_step) < wanted &&
		   c->row_step > 2 * KALM__FEW_ROWS && !whole)
		c->row_step = kalm__round_up((c->row_step + 1) / 2, KALM__ACTS_STEP);
	c->across = (panels + c->panel_step - 1) / c->panel_step;
	return c->across * ((rows + c->row_step - 1) / c->row_step);
}

/* Rows [row, row + n), panels [panel, panel + panels). */
typedef struct kalm__share {
	size_t row, n, panel, panels;
} kalm__share;

KALM__FN kalm__share kalm__share_of(const kalm__cut *c, size_t i)
{
	kalm__share p;
	p.panel = i % c->across * c->panel_step;
	p.panels = kalm__min(c->panel_step, c->panels - p.panel);
	p.row = i / c->across * c->row_step;
	p.n = kalm__min(c->row_step, c->rows - p.row);
	return p;
}

/* ---- y = x W^T ---- */

/* Rows that a quantised product takes in two terms: behind the n rows of a block stand, from row `at` on, what rounding
	lost of rows row[0], row[1], ..., packed as rows of their own; their products are added to those of their rows. */
enum { KALM__MAX_RESIDUAL = KALM__ACTS_STEP };  /* a chunk is cut at multiples of it, so fewer could leave no row */
typedef struct kalm__residual {
	size_t count, at;
	size_t row[KALM__MAX_RESIDUAL];
} kalm__residual;

typedef struct kalm__product {
	const kalm__backend *backend;
	const kalm__residual *residual;  /* NULL: none */
	const kalm__matrix *w[2];  /* gate and up, or one matrix */
	const void *acts;
	size_t block, row0;  /* rows packed in acts; first of them to use */
	float *y;
	size_t stride;
	int rotate;  /* of h: see kalm__gated */
	kalm__cut cut;
} kalm__product;

/* y, rows `stride` apart and `width` long: the products of residual rows are added to those of their rows. */
KALM__FN void kalm__add_residual(const kalm__backend *m, const kalm__residual *residual, float *y, size_t stride, size_t width)
{
	size_t i;
	for (i = 0; i < residual->count; i++)
		m->ops->scale_add(y + residual->row[i] * stride, 1.0f, y + (residual->at + i) * stride, width);
}

/* What a piece's task multiplies, of w[which]; `next` is the panel of w[then] that its worker will most likely want next: tasks are
	taken in turn, so with two threads every other piece. */
KALM__INLINE void kalm__multiply(const kalm__product *p, int which, const kalm__share *at, float *y, size_t stride, int then,
								 size_t next, void *scratch)
{
	kalm__matmul_job m;
	m.w = p->w[which];
	m.acts = p->acts;
	m.rows = p->block;
	m.row0 = p->row0 + at->row;
	m.n = at->n;
	m.panel0 = at->panel;
	m.panels = at->panels;
	m.y = y;
	m.stride = stride;
	m.scratch = scratch;
	m.next = next < p->cut.panels ? (const unsigned char *)p->w[then]->data + next * kalm__panel_stride(p->w[then]) : NULL;
	kalm__matmul(p->backend->kernels, &m);
}

/* The first panel of the piece that the worker of piece i takes next, if there is one. */
KALM__INLINE size_t kalm__next_panel(const kalm__product *p, size_t i)
{
	return (i + p->backend->pool->size) * p->cut.panel_step;
}

KALM__FN void kalm__linear_task(void *arg, size_t i, unsigned worker)
{
	const kalm__product *p = (const kalm__product *)arg;
	kalm__share at = kalm__share_of(&p->cut, i);
	float *y = p->y + at.row * p->stride + at.panel * 16;
	kalm__multiply(p, 0, &at, y, p->stride, 0, kalm__next_panel(p, i), kalm__scratch(p->backend, worker));
	if (p->residual)
		kalm__add_residual(p->backend, p->residual, y, p->stride, kalm__min(at.panels * 16, p->w[0]->rows - at.panel * 16));
}

/* Cut a product into pieces and do them; `up` NULL for a plain one. */
KALM__FN void kalm__run_product(const kalm__backend *m, const kalm__matrix *w, const kalm__matrix *up, const void *acts,
								size_t block, size_t row0, size_t n, float *y, size_t stride, const kalm__residual *residual,
								int rotate, kalm__task task)
{
	kalm__product p;
	if (!n) return;
	p.backend = m;
	p.residual = residual && residual->count ? residual : NULL;
	p.w[0] = w;
	p.w[1] = up;
	p.acts = acts;
	p.block = block;
	p.row0 = row0;
	p.y = y;
	p.stride = stride;
	p.rotate = rotate;
	kalm__pool_announce(m->pool, n, (up ? 2 : 1) * (size_t)w->rows * w->cols);
	kalm__parallel(m->pool, kalm__plan_cut(&p.cut, n, ((size_t)w->rows + 15) / 16, m->pool->size, p.residual != NULL, up != NULL),
				   task, &p);
}

/* y[i][n] = rows row0 + i of acts times w, for i below n; acts holds `block` rows, row0 is a multiple of KALM__ACTS_STEP. With
	residual rows, n counts those as well, and y has room for them. */
KALM__FN void kalm__linear(const kalm__backend *m, const kalm__matrix *w, const void *acts, size_t block, size_t row0,
						   size_t n, float *y, size_t stride, const kalm__residual *residual)
{
	kalm__run_product(m, w, NULL, acts, block, row0, n, y, stride, residual, 0, kalm__linear_task);
}

/* ---- h = gelu(x gate^T) * (x up^T) ---- */

/* Rows done at a time: two tiles of GEGLU_ROWS x 64 floats stay in the second-level cache. */
enum { KALM__GEGLU_ROWS = 256 + KALM__MAX_RESIDUAL };

KALM__FN size_t kalm__geglu_scratch(void)
{
	return (size_t)2 * KALM__GEGLU_ROWS * KALM__TILE_PANELS * 16 * sizeof(float);
}

KALM__FN void kalm__geglu_task(void *arg, size_t i, unsigned worker)
{
	const kalm__product *p = (const kalm__product *)arg;
	const kalm__ops *ops = p->backend->ops;
	kalm__share at = kalm__share_of(&p->cut, i);
	size_t n = at.n, r, tile_width = KALM__TILE_PANELS * 16, width = kalm__min(at.panels * 16, p->w[0]->rows - at.panel * 16);
	unsigned char *scratch = kalm__scratch(p->backend, worker);
	void *tile = scratch;
	float *gate = (float *)tile, *up = gate + KALM__GEGLU_ROWS * tile_width, *h = p->y + at.row * p->stride + at.panel * 16;
	scratch += kalm__geglu_scratch();
	kalm__multiply(p, 0, &at, gate, tile_width, 1, at.panel, scratch);
	kalm__multiply(p, 1, &at, up, tile_width, 0, kalm__next_panel(p, i), scratch);
	if (p->residual) {
		kalm__add_residual(p->backend, p->residual, gate, tile_width, width);
		kalm__add_residual(p->backend, p->residual, up, tile_width, width);
		n = p->residual->at;
	}
	for (r = 0; r < n; r++, h += p->stride, gate += tile_width, up += tile_width) {
		if (width < tile_width || n < 2) ops->geglu(gate, gate, up, width);
		else if (r % 2 == 0) ops->geglu(gate, gate, up, 2 * width);  /* the tile has room for the last one's partner */
		if (p->rotate) ops->hadamard(h, gate, width);
		else memcpy(h, gate, width * sizeof(float));
	}
}

/* n at most KALM__GEGLU_ROWS. rotate: rows of h are rotated (kalm__hadamard, ops.h): a piece is a block of the rotation. */
KALM__FN void kalm__gated(const kalm__backend *m, const kalm__matrix *gate, const kalm__matrix *up, const void *acts,
						  size_t block, size_t row0, size_t n, float *h, size_t stride, const kalm__residual *residual, int rotate)
{
	kalm__run_product(m, gate, up, acts, block, row0, n, h, stride, residual, rotate, kalm__geglu_task);
}

/* ---- packing rows ---- */

/* Rows that a task prepares and packs at once. */
enum { KALM__ROW_STEP = KALM__ACTS_STEP };

/* ---- begin src/rotary.h ---- */
/* rotary.h - rotary position embedding: a token's place in its text enters attention by rotating pairs of a query's or key's
	numbers by angles that grow with the position. This part has the cosines and sines of those angles. The rotation by
	position p = 64 a + b is the rotation by 64 a and then that by b, so two short tables, computed in double precision, serve
	every position. */
#define KALM__ROTARY_H


#define KALM__ROTARY_FINE 64u

typedef struct kalm__rotary {
	float theta, factor;  /* angle = position / factor * theta^(-2 i / head_dim) */
	size_t head_dim, positions;
	float *fine, *coarse;  /* [64] and [positions / 64] rows of head_dim: head_dim / 2 cosines, then sines */
} kalm__rotary;

KALM__FN void kalm__rotary_plan(kalm__rotary *r, kalm__arena *a)
{
	size_t row = kalm__mul(r->head_dim, sizeof(float));
	r->fine = (float *)kalm__take(a, kalm__mul(KALM__ROTARY_FINE, row));
	r->coarse = (float *)kalm__take(a, kalm__mul((r->positions + KALM__ROTARY_FINE - 1) / KALM__ROTARY_FINE, row));
}

KALM__FN void kalm__rotary_rows(const kalm__rotary *r, float *table, size_t rows, size_t step)
{
	size_t half = r->head_dim / 2, i, p;
	double log_theta = kalm__log((double)r->theta);
	for (i = 0; i < half; i++) {
		double power = kalm__over_double(-2.0 * (double)i, (double)r->head_dim);
		double frequency = kalm__over_double(kalm__exp(kalm__times_double(power, log_theta)), (double)r->factor);
		for (p = 0; p < rows; p++) {
			double sine, cosine;
			kalm__sine_cosine(kalm__times_double((double)(p * step), frequency), &sine, &cosine);
			table[p * r->head_dim + i] = (float)cosine;
			table[p * r->head_dim + half + i] = (float)sine;
		}
	}
}

KALM__FN void kalm__rotary_fill(const kalm__rotary *r)
{
	kalm__rotary_rows(r, r->fine, KALM__ROTARY_FINE, 1);
	kalm__rotary_rows(r, r->coarse, (r->positions + KALM__ROTARY_FINE - 1) / KALM__ROTARY_FINE, KALM__ROTARY_FINE);
}

/* out [head_dim]: the cosines of position p, then its sines. */
KALM__INLINE void kalm__rotary_at(const kalm__rotary *r, const kalm__ops *ops, size_t p, float *out)
{
	ops->add_angles(out, r->fine + p % KALM__ROTARY_FINE * r->head_dim, r->coarse + p / KALM__ROTARY_FINE * r->head_dim,
			  r->head_dim / 2);
}

/* ---- begin src/keys.h ---- */
/* keys.h - how the keys and values of a sequence lie in memory, and how they get there. Attention multiplies queries by keys
	and then weights by values with the matmul kernels (kernels.h), so both are stored as the matrices those want: keys as a
	matrix whose outputs are the keys, values as one whose inputs are the keys. */
/* More is in docs/KERNELS.md. */
#define KALM__KEYS_H


enum { KALM__KEY_STEP = 32 };  /* capacities are multiples of it: the q8 kernels take 32 values at a time */

/* What all keys of a stack have in common. `heads` query heads share `kv_heads` heads of keys and values. */
typedef struct kalm__heads {
	size_t heads, kv_heads, head_dim;
	uint32_t type;  /* of the keys: KALM__F32, KALM__Q8 or KALM__Q16 */
	uint32_t bits;  /* state_bits: 8 or 4 of values, 8 of keys, so that they can be packed; 0: not rounded */
	int rotate;  /* keys and queries are rotated (kalm__hadamard, ops.h) */
} kalm__heads;

/* More is in docs/FORMAT.md. */
/* Keys and values of one sequence in one layer, as docs/FORMAT.md draws them. */
typedef struct kalm__keys {
	unsigned char *data;
	size_t count, capacity;
} kalm__keys;

/* Where the parts of a piece begin, in bytes; key_sum is for q8 keys alone, the scales for quantised ones. */
typedef struct kalm__key_parts {
	size_t key_scale, key_sum;
	size_t value, value_panel;  /* the values, and the bytes of their panel of 16 channels */
	size_t value_scale;
	size_t size;  /* of a piece */
} kalm__key_parts;

KALM__FN kalm__key_parts kalm__key_layout(const kalm__heads *h, size_t capacity)
{
	kalm__key_parts p;
	size_t panels = kalm__round_up(h->head_dim, 16) / 16, key = kalm__panel_bytes(h->type, h->head_dim) / 16;
	memset(&p, 0, sizeof p);
	p.key_scale = kalm__mul(capacity, key);
	if (h->type == KALM__F32) {
		p.value = p.key_scale;
		p.value_panel = kalm__mul(capacity, 16 * sizeof(float));
		p.size = kalm__add(p.value, kalm__mul(panels, p.value_panel));
	} else {
		p.key_sum = kalm__add(p.key_scale, kalm__mul(capacity, 4));
		p.value = kalm__add(p.key_sum, h->type == KALM__Q8 ? kalm__mul(capacity, 4) : 0);
		p.value_panel = kalm__mul(capacity, 16);
		p.value_scale = kalm__add(p.value, kalm__mul(panels, p.value_panel));
		p.size = kalm__add(p.value_scale, kalm__mul(capacity, 4));
	}
	return p;
}

/* Bytes of all kv heads' pieces. Proportional to the capacity, so that sequences can share a buffer end to end. */
KALM__FN size_t kalm__key_bytes(const kalm__heads *h, size_t capacity)
{
	return kalm__mul(kalm__key_layout(h, capacity).size, h->kv_heads);
}

/* ---- putting keys in ---- */

KALM__FN void kalm__store_float_keys(const kalm__heads *h, unsigned char *piece, const kalm__key_parts *part, size_t first, size_t n,
									 const float *k, const float *v, size_t stride)
{
	size_t i, d, dim = h->head_dim, place;
	void *keys = piece, *values = piece + part->value;
	for (place = first, i = 0; i < n; i++, place++) {
		float *panel = (float *)keys + (place / 16 * 16 * dim + place % 16);
		float *out = (float *)values + place * 16;
		const float *key = k + i * stride, *value = v + i * stride;
		for (d = 0; d < dim; d++) panel[d * 16] = key[d];
		for (d = 0; d < dim; d += 16, out += part->value_panel / sizeof(float)) {
			size_t channels = kalm__min(16, dim - d);
			if (channels < 16) memset(out, 0, 16 * sizeof(float));
			memcpy(out, value + d, channels * sizeof(float));
		}
	}
}

/* Quantised keys of one head at places first ... first + n - 1; k: the first of them, `stride` floats apart. Returns 0 where
	one has numbers that are not finite, which no int8 or int16 can say. */
KALM__FN int kalm__store_quantised_keys(const kalm__heads *h, const kalm__ops *ops, unsigned char *piece,
										 const kalm__key_parts *part, size_t first, size_t n, const float *k, size_t stride)
{
	size_t i, d, dim = h->head_dim, padded = kalm__round_up(dim, 32);
	void *scale = piece + part->key_scale, *sum = piece + part->key_sum;
	int16_t q16[KALM__MAX_HEAD_DIM];
	void *bytes = q16;
	int8_t *q = (int8_t *)bytes;
	int finite = 1;
	for (i = first; i < first + n; i++, k += stride) {
		unsigned char *panel = piece + i / 16 * kalm__panel_bytes(h->type, dim) + i % 16 * 4;
		if (h->type == KALM__Q8) {
			int32_t total = 0;
			((float *)scale)[i] = ops->quantise(q, k, dim);
			for (d = dim; d < padded; d++) q[d] = 0;
			for (d = 0; d < padded; d += 4) {
				memcpy(panel + d * 16, q + d, 4);
				total += q[d] + q[d + 1] + q[d + 2] + q[d + 3];
			}
			((int32_t *)sum)[i] = total;
		} else {
			((float *)scale)[i] = ops->quantise_int16(q16, k, dim, h->bits ? 127.0f : (float)kalm__int16_limit(dim));
			for (d = dim; d < padded; d++) q16[d] = 0;
			for (d = 0; d < padded; d += 2) memcpy(panel + d * 32, q16 + d, 4);
		}
		finite &= kalm__is_finite(((float *)scale)[i]) && kalm__is_finite(k[0]);
	}
	return finite;
}

/* x in 4 bits: q[i] is one of the odd numbers from -15 to 15, the middle of a sixteenth of the range, and the scale max|x| / 16. */
KALM__FN float kalm__quantise4(const kalm__ops *ops, int8_t *q, const float *x, size_t n)
{
	int16_t fine[KALM__MAX_HEAD_DIM];
	float scale = ops->quantise_int16(fine, x, n, 16383.0f);
	size_t i;
	for (i = 0; i < n; i++) q[i] = (int8_t)((fine[i] + 16384) / 2048 * 2 - 15);
	return kalm__times(scale, 1024.0f);
}

/* The same with values. Four keys lie together: a whole line of them is written where all four are at hand. */
KALM__FN int kalm__store_quantised_values(const kalm__heads *h, const kalm__ops *ops, unsigned char *piece,
										   const kalm__key_parts *part, size_t first, size_t n, const float *v, size_t stride)
{
	int8_t q[4][KALM__MAX_HEAD_DIM];
	void *scale = piece + part->value_scale;
	size_t i = first, j, d, lane, some, dim = h->head_dim, channels = kalm__round_up(dim, 16);
	int finite = 1;
	for (; i < first + n; i += some) {
		unsigned char *line = piece + part->value + i / 4 * 64;
		some = kalm__min(4 - i % 4, first + n - i);
		for (j = 0; j < some; j++, v += stride) {
			((float *)scale)[i + j] = h->bits == 4 ? kalm__quantise4(ops, q[j], v, dim) : ops->quantise(q[j], v, dim);
			finite &= kalm__is_finite(((float *)scale)[i + j]) && kalm__is_finite(v[0]);
			for (d = dim; d < channels; d++) q[j][d] = 0;
		}
		for (d = 0; d < channels; d += 16, line += part->value_panel) {
			if (some == 4) ops->interleave(line, q[0] + d, q[1] + d, q[2] + d, q[3] + d);
			else
				for (j = 0; j < some; j++)
					for (lane = 0; lane < 16; lane++) line[lane * 4 + i % 4 + j] = (unsigned char)q[j][d + lane];
		}
	}
	return finite;
}

/* Put keys and values (all kv heads, [kv_heads][head_dim] each, `stride` floats from one key to the next) at places first ...
	first + n - 1; kalm__end_keys follows. Returns 0 where numbers have overflowed: a norm then gives NaN in every place
	(ops_template.h), a product infinity in some, and int8 would hide either. */
KALM__FN int kalm__store_keys(const kalm__heads *h, const kalm__ops *ops, const kalm__keys *keys, size_t first, size_t n,
							   const float *k, const float *v, size_t stride)
{
	kalm__key_parts part = kalm__key_layout(h, keys->capacity);
	size_t head, i;
	int finite = 1;
	for (head = 0; head < h->kv_heads; head++, k += h->head_dim, v += h->head_dim) {
		unsigned char *piece = keys->data + head * part.size;
		if (h->type == KALM__F32) {
			kalm__store_float_keys(h, piece, &part, first, n, k, v, stride);
			for (i = 0; i < n; i++) finite &= kalm__is_finite(k[i * stride]);
		} else {
			finite &= kalm__store_quantised_keys(h, ops, piece, &part, first, n, k, stride);
			finite &= kalm__store_quantised_values(h, ops, piece, &part, first, n, v, stride);
		}
	}
	return finite;
}

/* The kernels multiply a query with whole panels of 16 keys. Zero the places behind the last key: their products are not looked
	at, but no kernel computes with memory that nobody wrote. */
KALM__FN void kalm__end_key_panel(const kalm__heads *h, unsigned char *piece, const kalm__key_parts *part, size_t count)
{
	size_t bytes = kalm__panel_bytes(h->type, h->head_dim), at, lane = count % 16;
	unsigned char *panel = piece + count / 16 * bytes;
	if (!lane) return;
	for (at = 0; at < bytes; at += 64) memset(panel + at + lane * 4, 0, 64 - lane * 4);
	if (h->type == KALM__F32) return;
	memset(piece + part->key_scale + count * 4, 0, 64 - lane * 4);
	if (h->type == KALM__Q8) memset(piece + part->key_sum + count * 4, 0, 64 - lane * 4);
}

/* They multiply quantised values in whole groups of 32 keys: the places behind the last key up to the end of its group are zero. */
KALM__FN void kalm__end_keys(const kalm__heads *h, const kalm__keys *keys)
{
	kalm__key_parts part = kalm__key_layout(h, keys->capacity);
	size_t head, d, i, lane;
	for (head = 0; head < h->kv_heads; head++) {
		unsigned char *panel = keys->data + head * part.size + part.value;
		kalm__end_key_panel(h, keys->data + head * part.size, &part, keys->count);
		if (h->type == KALM__F32) continue;
		for (d = 0; d < h->head_dim; d += 16, panel += part.value_panel) {
			for (i = keys->count; i % 4; i++)
				for (lane = 0; lane < 16; lane++) panel[i / 4 * 64 + lane * 4 + i % 4] = 0;
			memset(panel + i * 16, 0, (kalm__round_up(i, KALM__KEY_STEP) - i) * 16);
		}
	}
}

/* More is in docs/FORMAT.md. */
KALM__FN size_t kalm__packed_bytes(const kalm__heads *h, size_t n)
{
	size_t numbers = kalm__round_up(h->head_dim, 32) + kalm__round_up(h->head_dim, 16) * h->bits / 8;
	return kalm__mul(kalm__round_up(n, 16), h->kv_heads * (numbers + 2 * sizeof(float)));
}

/* n packed values and keys back to their places. Every query goes this way: in copies, of which compilers make vectors, since
	they cannot overlap. */
KALM__FN void kalm__unpack_values(int8_t *q, const unsigned char *p, size_t n)
{
	int8_t out[64];
	unsigned char in[32];
	size_t i;
	for (; n; n -= 64, q += 64, p += 32) {
		memcpy(in, p, 32);
		for (i = 0; i < 32; i++) out[i] = (int8_t)(in[i] % 16 * 2 - 15);
		for (i = 0; i < 32; i++) out[i + 32] = (int8_t)(in[i] / 16 * 2 - 15);
		memcpy(q, out, 64);
	}
}
KALM__FN void kalm__unpack_keys(int16_t *q, const unsigned char *p, size_t n)
{
	int8_t in[32];
	int16_t out[32];
	size_t i;
	for (; n; n -= 32, q += 32, p += 32) {
		memcpy(in, p, 32);
		for (i = 0; i < 32; i++) out[i] = in[i];
		memcpy(q, out, sizeof out);
	}
}

/* Pack keys [0, keys->count) into `stored`, which is zero; or, as every query does, unpack them to their places. */
KALM__FN void kalm__pack_keys(const kalm__heads *h, const kalm__keys *keys, unsigned char *stored, int unpack)
{
	kalm__key_parts part = kalm__key_layout(h, keys->capacity);
	size_t n = kalm__round_up(keys->count, 16), numbers = n * kalm__round_up(h->head_dim, 32), head, i, j;
	for (head = 0; head < h->kv_heads; head++) {
		unsigned char *piece = keys->data + head * part.size;
		void *keys16 = piece;
		if (unpack) kalm__unpack_keys((int16_t *)keys16, stored, numbers);
		else for (i = 0; i < numbers; i++) stored[i] = (unsigned char)((int16_t *)keys16)[i];
		stored += numbers;
		for (i = 0; i < h->head_dim; i += 16, stored += n * 2 * h->bits) {
			void *panel = piece + part.value + i / 16 * part.value_panel;
			if (h->bits == 8) memcpy(unpack ? panel : stored, unpack ? stored : panel, n * 16);
			else if (unpack) kalm__unpack_values((int8_t *)panel, stored, n * 16);
			else for (j = 0; j < n * 8; j++) {
				const int8_t *q = (const int8_t *)panel + j / 32 * 64 + j % 32;
				stored[j] = (unsigned char)((q[0] + 15) / 2 + (q[32] + 15) / 2 * 16);
			}
		}
		for (i = 0; i < 2; i++, stored += n * sizeof(float)) {
			unsigned char *scale = piece + (i ? part.value_scale : part.key_scale);
			memcpy(unpack ? scale : stored, unpack ? stored : scale, keys->count * sizeof(float));
		}
	}
	if (unpack) kalm__end_keys(h, keys);
}

/* Copy keys [0, from->count) to the same places of `to`, whose capacity may differ. */
KALM__FN void kalm__copy_keys(const kalm__heads *h, const kalm__keys *to, const kalm__keys *from)
{
	kalm__key_parts a = kalm__key_layout(h, to->capacity), b = kalm__key_layout(h, from->capacity);
	size_t head, d, n = from->count;
	size_t values = h->type == KALM__F32 ? n * 16 * sizeof(float) : kalm__round_up(n, 4) * 16;  /* of a panel */
	for (head = 0; head < h->kv_heads; head++) {
		unsigned char *out = to->data + head * a.size;
		const unsigned char *in = from->data + head * b.size;
		memcpy(out, in, kalm__round_up(n, 16) / 16 * kalm__panel_bytes(h->type, h->head_dim));
		for (d = 0; d * 16 < h->head_dim; d++)
			memcpy(out + a.value + d * a.value_panel, in + b.value + d * b.value_panel, values);
		if (h->type == KALM__F32) continue;
		memcpy(out + a.key_scale, in + b.key_scale, n * 4);
		if (h->type == KALM__Q8) memcpy(out + a.key_sum, in + b.key_sum, n * 4);
		memcpy(out + a.value_scale, in + b.value_scale, n * 4);
	}
}

/* ---- begin src/attention.h ---- */
/* attention.h - attention of one block of queries of one sequence. Each query attends to two sets of keys, the rows of a document
	("cross"; decoder only) and the tokens of its own sequence ("self"), under one softmax: this is the merged attention of
	T5Gemma 2. It goes through the keys in blocks with a running maximum and a running sum (online softmax), so no buffer is as
	long as the text: scores of a block are one product of the matmul kernels, weights times values another. */
/* More is in docs/KERNELS.md. */
#define KALM__ATTENTION_H


enum {
	KALM__KEY_BLOCK = KALM__SPLIT16_COLS,  /* keys whose scores are held at once */
	KALM__QUERY_ROWS = 64  /* queries x heads of a kv head done together, when that many are there */
};

typedef struct kalm__attention {
	const kalm__backend *backend;
	kalm__heads shape;
	kalm__keys cross, self;  /* either may have count 0, not both */
	/* the query at position i attends to the own keys [i - left, i + right], as far as they exist; SIZE_MAX for no limit */
	size_t left, right;
	size_t position;  /* of query 0 */
	const float *q;  /* [queries][heads][head_dim], normed, scaled, rotated by position (and by ops.h) */
	float *out;  /* the same shape */
} kalm__attention;

/* Queries in one block, so that with their heads they make KALM__QUERY_ROWS rows. */
KALM__INLINE size_t kalm__query_block(const kalm__heads *h)
{
	return kalm__max(1, KALM__QUERY_ROWS / (h->heads / h->kv_heads));
}

typedef struct kalm__attention_scratch {
	float *q;  /* [rows][head_dim] */
	float *scores;  /* [rows][KEY_BLOCK], then softmax weights */
	float *product, *sum;  /* [rows][head_dim]: weights times values; of int16 weights the low bytes */
	float *product_high;  /* [head_dim]: the high bytes of one row */
	float *top, *total;  /* [rows]: running maximum, running sum */
	float *factor;  /* [rows]: what the new maximum leaves of the sums so far */
	float *unit, *inverse;  /* [rows]: of int16 weights: the scale, and its inverse */
	float *ones;  /* [head_dim16] */
	int32_t *zeros;  /* [head_dim16] */
	uint8_t *high;  /* [rows][KEY_BLOCK]: the high bytes of int16 weights */
	void *acts_q, *acts_p, *matmul;
} kalm__attention_scratch;

/* Bytes a block of queries works in; fills in *s when base is there. */
KALM__FN size_t kalm__attention_scratch_plan(kalm__attention_scratch *s, unsigned char *base, const kalm__kernels *k,
											 const kalm__heads *h, size_t rows)
{
	uint32_t values = h->type == KALM__F32 ? KALM__F32 : KALM__Q8;
	size_t channels = kalm__round_up(h->head_dim, 16), f = sizeof(float);
	kalm__arena a;
	a.base = base;
	a.taken = 0;
	a.size = SIZE_MAX;
	memset(s, 0, sizeof *s);
	s->q = (float *)kalm__take(&a, rows * h->head_dim * f);
	s->scores = (float *)kalm__take(&a, rows * KALM__KEY_BLOCK * f);
	s->product = (float *)kalm__take(&a, rows * h->head_dim * f);
	s->sum = (float *)kalm__take(&a, rows * h->head_dim * f);
	s->top = (float *)kalm__take(&a, rows * f);
	s->total = (float *)kalm__take(&a, rows * f);
	s->factor = (float *)kalm__take(&a, rows * f);
	s->acts_q = kalm__take(&a, kalm__acts_bytes(k, h->type, rows, h->head_dim));
	s->acts_p = kalm__take(&a, kalm__acts_bytes(k, values, rows, KALM__KEY_BLOCK));
	s->matmul = kalm__take(&a, kalm__max(kalm__matmul_scratch(k, h->type, h->head_dim),
										   kalm__matmul_scratch(k, values, KALM__KEY_BLOCK)));
	if (h->type == KALM__F32) return a.taken;
	s->product_high = (float *)kalm__take(&a, h->head_dim * f);
	s->high = (uint8_t *)kalm__take(&a, rows * KALM__KEY_BLOCK);
	s->unit = (float *)kalm__take(&a, rows * f);
	s->inverse = (float *)kalm__take(&a, rows * f);
	s->ones = (float *)kalm__take(&a, channels * f);
	s->zeros = (int32_t *)kalm__take(&a, channels * sizeof(int32_t));
	return a.taken;
}

/* The unit that quantised weights p[n] are whole numbers of: the coarsest that leaves next to nothing, below 1/128 of the
	whole, among keys that get less than one step. With 2047 steps only the largest weights need a second byte; a key that
	takes nearly everything beside a long tail needs up to 32639. Looks at its own row alone. */
KALM__FN float kalm__weight_unit(const kalm__ops *ops, const float *p, size_t n, float most, float *inverse)
{
	float steps = 2047.0f, all, tail;
	for (; steps < (float)KALM__SPLIT16_MAX; steps *= 4.0f) {
		tail = ops->sum_below(p, n, kalm__over(most, steps), &all);
		if (kalm__times(tail, 128.0f) < all) break;
	}
	return kalm__row_scale(most, steps < (float)KALM__SPLIT16_MAX ? steps : (float)KALM__SPLIT16_MAX, inverse);
}

/* Scores of all rows in keys [first, end) become weights: e^(score - top), zero for keys outside of the query's window, with the sums so
	far rescaled where the maximum has grown; times the values' scales where those are quantised. `query`: of row 0; own: the keys are
	those of the sequence. First the maxima and factors of all rows: one by one each would wait for its own. */
KALM__FN void kalm__online_softmax(const kalm__attention *a, const kalm__attention_scratch *s, int own, size_t rows, size_t query,
								   size_t first, size_t end, const float *value_scale)
{
	const kalm__ops *ops = a->backend->ops;
	size_t group = a->shape.heads / a->shape.kv_heads, i, r, from, to;
	for (i = 0; i < 2 * rows; i++) {  /* all rows for their factors, then all for their weights */
		float *p, *seen, top, most, sum;
		r = i < rows ? i : i - rows, from = first, to = end;
		if (own) {
			size_t at = a->position + query + r / group;
			if (at > a->left && at - a->left > from) from = at - a->left;
			if (a->right < end && at + a->right + 1 < end) to = at + a->right + 1;
		}
		if (from >= to) from = to = first;  /* no key within the window: weights of zero, and the sums stay as they are */
		p = s->scores + r * KALM__KEY_BLOCK, seen = p + (from - first), top = s->top[r];
		if (i < rows) {
			if (to > from) top = ops->row_max(seen, to - from);
			if (top < s->top[r]) top = s->top[r];
			s->factor[r] = top > s->top[r] ? s->top[r] - top : 0.0f;
			s->top[r] = top;
			if (i + 1 == rows) (void)ops->exp_sum(s->factor, rows, 0.0f, NULL, NULL);
			continue;
		}
		if (value_scale) s->unit[r] = s->inverse[r] = 0.0f;
		if (to > from) {
			sum = ops->exp_sum(seen, to - from, top, value_scale ? value_scale + from : NULL, &most);
			if (value_scale) s->unit[r] = kalm__weight_unit(ops, seen, to - from, most, &s->inverse[r]);
			s->total[r] = kalm__plus(kalm__times(s->total[r], s->factor[r]), sum);
		}
		memset(p, 0, (from - first) * sizeof(float));
		memset(p + (to - first), 0, (end - to) * sizeof(float));
	}
}

/* What a block of keys adds: sum[r] = sum[r] * factor[r] + p[r] . values, m being their range. The first block has no sum
	yet, the last one divides by the total and leaves the results in place. */
KALM__FN void kalm__add_values(const kalm__attention *a, const kalm__attention_scratch *s, const kalm__matrix *m, size_t rows,
							   size_t query, size_t kv_head, int first, int last)
{
	const kalm__kernels *kern = a->backend->kernels;
	size_t dim = a->shape.head_dim, group = a->shape.heads / a->shape.kv_heads, r;
	int is_split16 = a->shape.type != KALM__F32;
	kalm__block block = kalm__block_of(m->type, rows, m->cols, s->acts_p);
	if (is_split16) kalm__pack_split16(kern, block, s->high, s->scores, KALM__KEY_BLOCK, s->inverse);
	else kalm__pack(kern, block, 0, rows, s->scores, KALM__KEY_BLOCK);
	kalm__multiply_block(kern, m, &block, s->product, dim, s->matmul);
	for (r = 0; r < rows; r++) {
		float *sum = s->sum + r * dim;
		float *out = a->out + ((query + r / group) * a->shape.heads + kv_head * group + r % group) * dim;
		int two = is_split16 && kern->multiply_high && kern->multiply_high(m, s->high + r * KALM__KEY_BLOCK, s->product_high);
		a->backend->ops->add_split16(last ? out : sum, first ? NULL : sum, s->factor[r], is_split16 ? s->unit[r] : 1.0f,
								  two ? s->product_high : NULL, s->product + r * dim,
								  last ? kalm__over(1.0f, s->total[r]) : 1.0f, dim);
	}
}

/* One block of at most KEY_BLOCK keys [first, end), first a multiple of KEY_STEP: scores, running softmax, values. */
KALM__FN void kalm__attend_block(const kalm__attention *a, const kalm__attention_scratch *s, const kalm__keys *keys,
								 size_t kv_head, size_t first, size_t end, size_t rows, size_t query, int is_first,
								 int is_last)
{
	const kalm__kernels *kern = a->backend->kernels;
	const kalm__heads *h = &a->shape;
	const kalm__key_parts part = kalm__key_layout(h, keys->capacity);
	const unsigned char *piece = keys->data + kv_head * part.size;
	const void *key_scale = piece + part.key_scale, *key_sum = piece + part.key_sum, *value_scale = piece + part.value_scale;
	size_t dim = h->head_dim, n = end - first;
	int quantised = h->type != KALM__F32;
	kalm__matrix m;
	kalm__block block;
	KALM_ASSERT(first % KALM__KEY_STEP == 0);

	/* scores[r][j] = q[r] . k[first + j] */
	memset(&m, 0, sizeof m);
	m.type = h->type;
	m.rows = (uint32_t)n;
	m.cols = (uint32_t)dim;
	m.data = piece + first / 16 * kalm__panel_bytes(h->type, dim);
	if (quantised) m.scale = (const float *)key_scale + first;
	if (h->type == KALM__Q8) m.sum = (const int32_t *)key_sum + first;
	block = kalm__block_of(h->type, rows, dim, s->acts_q);
	kalm__multiply_block(kern, &m, &block, s->scores, KALM__KEY_BLOCK, s->matmul);

	kalm__online_softmax(a, s, keys == &a->self, rows, query, first, end, quantised ? (const float *)value_scale : NULL);

	m.rows = (uint32_t)dim;
	m.cols = (uint32_t)n;
	if (quantised) {
		m.type = KALM__Q8;
		m.data = piece + part.value + first * 16;
		m.stride = part.value_panel;
		m.scale = s->ones;
		m.sum = s->zeros;
	} else {
		m.data = piece + part.value + first * 16 * sizeof(float);
		m.stride = part.value_panel;
	}
	kalm__add_values(a, s, &m, rows, query, kv_head, is_first, is_last);
}

/* Attention of queries [query, query + count) and the heads of one kv head; count at most kalm__query_block. */
KALM__FN void kalm__attend(const kalm__attention *a, size_t query, size_t count, size_t kv_head, unsigned char *scratch)
{
	const kalm__kernels *kern = a->backend->kernels;
	size_t group = a->shape.heads / a->shape.kv_heads, rows = count * group, dim = a->shape.head_dim, row = a->shape.heads * dim;
	size_t r, b, low = 0, high = 0;
	const float *q = a->q + query * row;
	kalm__attention_scratch s;
	(void)kalm__attention_scratch_plan(&s, scratch, kern, &a->shape, rows);

	if (a->shape.kv_heads > 1) {  /* else they lie one behind the other already */
		for (r = 0; r < count; r++)
			memcpy(s.q + r * group * dim, q + r * row + kv_head * group * dim, group * dim * sizeof(float));
		q = s.q;
	}
	kalm__pack(kern, kalm__block_of(a->shape.type, rows, dim, s.acts_q), 0, rows, q, dim);
	for (r = 0; r < rows; r++) {
		s.top[r] = -INFINITY;
		s.total[r] = 0.0f;
	}
	for (r = 0; s.ones && r < kalm__round_up(dim, 16); r++) s.ones[r] = 1.0f, s.zeros[r] = 0;

	if (a->self.count) {  /* own keys that some of the queries attend to: [low, high) */
		low = a->position + query, high = low + count;
		low = low > a->left ? (low - a->left) / KALM__KEY_STEP * KALM__KEY_STEP : 0;
		high = a->right < a->self.count && high + a->right < a->self.count ? high + a->right : a->self.count;
	}
	for (b = 0; b < a->cross.count; b += KALM__KEY_BLOCK)
		kalm__attend_block(a, &s, &a->cross, kv_head, b, kalm__min(b + KALM__KEY_BLOCK, a->cross.count), rows, query, b == 0,
						   b + KALM__KEY_BLOCK >= a->cross.count && !high);
	for (b = low / KALM__KEY_BLOCK * KALM__KEY_BLOCK; b < high; b += KALM__KEY_BLOCK)
		kalm__attend_block(a, &s, &a->self, kv_head, kalm__max(b, low), kalm__min(b + KALM__KEY_BLOCK, high), rows, query,
						   b <= low && !a->cross.count, b + KALM__KEY_BLOCK >= high);
}


/* The network: from an open file to rows and margins. */
/* ---- begin src/modelfile.h ---- */
/* modelfile.h - opens a .kalm file: checks everything that format.h promises against the file's own size, reads the
	shape, and binds each tensor to its place in the mapping. After this part nobody looks at offsets again. */
#define KALM__MODELFILE_H


typedef struct kalm__section {
	const unsigned char *data;  /* NULL: the file has none */
	uint64_t size, offset, checksum;
} kalm__section;

/* The weights of one layer. */
typedef struct kalm__layer {
	kalm__matrix matrix[KALM__T_DOWN + 1];  /* KALM__T_Q ... KALM__T_DOWN */
	const float *norm[KALM__T_LAYER_KINDS];  /* KALM__T_Q_NORM ... KALM__T_POST_MLP hold 1 + w; lower indices are unused */
	int rotated[KALM__T_DOWN + 1];  /* 1: the matrix takes rotated inputs (kalm__hadamard in ops.h) */
	int full;  /* 1: full attention; 0: a sliding window */
} kalm__layer;

/* One side of the model. */
typedef struct kalm__stack {
	kalm__side shape;  /* of what the file has: 0 layers where it lacks this side */
	kalm__layer *layers;  /* [shape.layers] */
	const float *norm;  /* [hidden] */
	const float *eoi;  /* [hidden]; NULL: none */
	uint32_t embed_type;
	const unsigned char *embed;  /* [vocabulary] rows of embed_row bytes */
	size_t embed_row;
} kalm__stack;

typedef struct kalm__file {
	const unsigned char *data;
	size_t size;
	uint64_t fingerprint;  /* of the whole model, where the file is a part of one: what documents carry */
	uint64_t vocabulary;  /* hash of the tokenizer where the vocabulary lacks tokens of the whole one; else 0 */
	uint32_t lacks;  /* KALM__LACKS_...; else 0 */
	kalm__section section[KALM__SECTION_KINDS];
	kalm__shape shape;
	kalm__stack stack[2];  /* encoder, decoder */
	const float *head;  /* [2][hidden]: yes, no */
	kalm_text string[KALM__STRINGS];
	kalm__tokenizer tokenizer;
	kalm__rowcode rows;  /* fingerprint 0: the file has none */
	int has_model, has_tokenizer;
} kalm__file;

KALM__FN kalm_result kalm__read_sections(kalm__file *f, kalm_error *err)
{
	const unsigned char *p = f->data;
	unsigned char head[KALM__HEADER_BYTES + KALM__MAX_SECTIONS * KALM__SECTION_BYTES];
	uint32_t count, i, j, last = 0, front;  /* front: bytes of header and table */
	uint64_t size;
	if (f->size < KALM__HEADER_BYTES || memcmp(p, KALM__MAGIC, 8) != 0) {
		const char *what = f->size >= 8 && !memcmp(p, KALM__MAGIC, 8) ? "the beginning of one: it was cut short"
																	  : kalm__recognise(p, f->size);
		return what ? kalm__fail(err, KALM_BAD_FILE, "not a .kalm file but %s", what)
					: kalm__fail(err, KALM_BAD_FILE, "not a .kalm file: it does not begin with the KALM signature");
	}
	if (kalm__u32(p + 8) != KALM__FILE_VERSION)
		return kalm__fail(err, KALM_BAD_VERSION, "the model file has format version %u, this library reads %u",
						  kalm__u32(p + 8), KALM__FILE_VERSION);
	count = kalm__u32(p + 12);
	front = KALM__HEADER_BYTES + count * KALM__SECTION_BYTES;
	size = kalm__u64(p + 16);
	if (size != f->size)
		return kalm__fail(err, KALM_BAD_FILE, "the model file says it has %U bytes, it has %z%s", size, f->size,
						  f->size < size ? ": the download or copy was cut short" : "");
	if (count < 1 || count > KALM__MAX_SECTIONS || f->size < front)
		return kalm__fail(err, KALM_BAD_FILE, "the model file's header speaks of %u sections", count);
	f->fingerprint = kalm__u64(p + 24);
	memcpy(head, p, front);
	memset(head + 32, 0, 8);
	if (kalm__hash(head, front) != kalm__u64(p + 32))
		return kalm__fail(err, KALM_BAD_FILE, "the model file's header is damaged: its checksum does not match");
	for (i = 0; i < count; i++) {
		const unsigned char *e = p + KALM__HEADER_BYTES + i * KALM__SECTION_BYTES;
		uint32_t type = kalm__u32(e);
		kalm__section *s;
		if (type <= last || type >= KALM__SECTION_KINDS)
			return kalm__fail(err, KALM_BAD_FILE, "section %u of the model file has type %u, which is unknown or out of order",
							  i, type);
		last = type;
		s = &f->section[type];
		s->offset = kalm__u64(e + 8);
		s->size = kalm__u64(e + 16);
		s->checksum = kalm__u64(e + 24);
		if (s->offset % 64 || s->offset < front || s->offset > f->size || s->size > f->size - s->offset)
			return kalm__fail(err, KALM_BAD_FILE, "section %u of the model file lies at byte %U with %U bytes, the file has %z",
							  type, s->offset, s->size, f->size);
		s->data = p + s->offset;
		for (j = 1; j < type; j++)
			if (f->section[j].data && s->offset < f->section[j].offset + f->section[j].size &&
				f->section[j].offset < s->offset + s->size)
				return kalm__fail(err, KALM_BAD_FILE, "sections %u and %u of the model file overlap", j, type);
	}
	return KALM_OK;
}

/* What the header says of the whole that the file is a part of; the sections are read. */
KALM__FN kalm_result kalm__read_part(kalm__file *f, kalm_error *err)
{
	uint64_t whole = kalm__u64(f->data + 40);
	f->lacks = kalm__u32(f->data + 48);
	if (f->lacks > KALM__LACKS_ALL)
		return kalm__fail(err, KALM_BAD_VERSION, "the model file lacks parts that this library does not know (%u)", f->lacks);
	if (kalm__u32(f->data + 52) || kalm__u64(f->data + 56))
		return kalm__fail(err, KALM_BAD_FILE, "bytes 52 to 63 of the model file's header are not zero");
	if (!f->lacks != !whole || (f->lacks & 3) == 3 || (f->lacks && !f->section[KALM__SECTION_SHAPE].data)
		|| (f->lacks & KALM__LACKS_TOKENS && !f->section[KALM__SECTION_TOKENIZER].data))
		return kalm__fail(err, KALM_BAD_FILE, "the model file says that it is a part of model %X and lacks parts %u, which cannot be",
						  whole, f->lacks);
	if (whole) f->fingerprint = whole;
	if (f->lacks & KALM__LACKS_TOKENS) f->vocabulary = f->section[KALM__SECTION_TOKENIZER].checksum | 1;
	return KALM_OK;
}

/* The fingerprint that the header must have: the hash of the section table without the entries of STRINGS and ROWS. */
KALM__FN uint64_t kalm__table_fingerprint(const unsigned char *table, uint32_t count)
{
	unsigned char kept[KALM__MAX_SECTIONS * KALM__SECTION_BYTES];
	uint32_t i, n = 0;
	for (i = 0; i < count; i++)
		if (kalm__u32(table + i * KALM__SECTION_BYTES) != KALM__SECTION_STRINGS &&
			kalm__u32(table + i * KALM__SECTION_BYTES) != KALM__SECTION_ROWS)
			memcpy(kept + KALM__SECTION_BYTES * n++, table + i * KALM__SECTION_BYTES, KALM__SECTION_BYTES);
	return kalm__hash(kept, n * KALM__SECTION_BYTES);
}

#define KALM__READ_u32(p) kalm__u32(p)
#define KALM__READ_f32(p) kalm__f32(p)

KALM__FN int kalm__sane_float(float v, float low, float high) { return v >= low && v <= high; }

KALM__FN kalm_result kalm__read_shape(kalm__file *f, kalm_error *err)
{
	const kalm__section *s = &f->section[KALM__SECTION_SHAPE];
	const unsigned char *p = s->data;
	kalm__shape *m = &f->shape;
	uint64_t need = KALM__SHAPE_BYTES + 2 * KALM__SIDE_BYTES;
	int i;
	if (s->size < need)
		return kalm__fail(err, KALM_BAD_FILE, "the SHAPE section has %U bytes, %U are needed", s->size, need);
#define KALM__READ(type, name) m->name = KALM__READ_##type(p), p += 4;
	KALM__SHAPE_FIELDS(KALM__READ)
#undef KALM__READ
	for (i = 0; i < 2; i++) {
		kalm__side *d = &m->side[i];
#define KALM__READ(type, name) d->name = KALM__READ_##type(p), p += 4;
		KALM__SIDE_FIELDS(KALM__READ)
#undef KALM__READ
	}
	if (m->weights >= KALM__TYPES || m->hidden_size < 1 || m->hidden_size > KALM__MAX_HIDDEN || m->vocabulary < 1 ||
		m->vocabulary > KALM__MAX_VOCABULARY)
		return kalm__fail(err, KALM_BAD_FILE, "the model has weights of type %u, hidden size %u and %u tokens: beyond the limits",
						  m->weights, m->hidden_size, m->vocabulary);
	if (m->yes_id >= m->vocabulary || m->no_id >= m->vocabulary)
		return kalm__fail(err, KALM_BAD_FILE, "the answer tokens %u and %u are not both in the vocabulary of %u", m->yes_id,
						  m->no_id, m->vocabulary);
	if (!kalm__sane_float(m->softcap, 0.0f, 1e6f))
		return kalm__fail(err, KALM_BAD_FILE, "final_logit_softcapping is not a number from 0 to a million");
	for (i = 0; i < 2; i++) {
		kalm__side *d = &m->side[i];
		const char *side = i == KALM__ENCODER ? "encoder" : "decoder";
		uint32_t k;
		if (d->layers < 1 || d->layers > KALM__MAX_LAYERS || d->mlp < 1 || d->mlp > KALM__MAX_MLP || d->heads < 1 ||
			d->heads > KALM__MAX_HEADS || d->kv_heads < 1 || d->kv_heads > d->heads || d->heads % d->kv_heads ||
			d->head_dim < 2 || d->head_dim > KALM__MAX_HEAD_DIM || d->head_dim % 2)
			return kalm__fail(err, KALM_BAD_FILE, "the %s's shape is impossible: %u layers, MLP %u, %u heads, %u kv heads, "
							  "head_dim %u", side, d->layers, d->mlp, d->heads, d->kv_heads, d->head_dim);
		if (d->window < 1 || d->window > KALM__MAX_POSITIONS || d->max_positions < 1 ||
			d->max_positions > KALM__MAX_POSITIONS || !kalm__sane_float(d->norm_eps, 0.0f, 1.0f) ||
			!kalm__sane_float(d->query_scalar, 1e-6f, 1e9f) || !kalm__sane_float(d->theta_sliding, 1.0f, 1e12f) ||
			!kalm__sane_float(d->theta_full, 1.0f, 1e12f) || !kalm__sane_float(d->factor_sliding, 1e-6f, 1e6f) ||
			!kalm__sane_float(d->factor_full, 1e-6f, 1e6f))
			return kalm__fail(err, KALM_BAD_FILE, "the %s's window, norm_eps, query scalar or rotary settings are impossible",
							  side);
		need += d->layers;
		if (s->size < need)
			return kalm__fail(err, KALM_BAD_FILE, "the SHAPE section has %U bytes, %U are needed", s->size, need);
		d->full = p;
		for (k = 0; k < d->layers; k++)
			if (p[k] > 1)
				return kalm__fail(err, KALM_BAD_FILE, "layer %u of the %s has attention type %u, known are 0 and 1", k, side,
								  (unsigned)p[k]);
		p += d->layers;
	}
	if (s->size != need)
		return kalm__fail(err, KALM_BAD_FILE, "the SHAPE section has %U bytes, %U are needed", s->size, need);
	return KALM_OK;
}

KALM__FN kalm_result kalm__read_strings(kalm__file *f, kalm_error *err)
{
	const kalm__section *s = &f->section[KALM__SECTION_STRINGS];
	uint32_t i;
	if (!s->data) return KALM_OK;
	if (s->size < KALM__STRINGS * 8)
		return kalm__fail(err, KALM_BAD_FILE, "the STRINGS section has %U bytes, too few for its %u entries", s->size,
						  (unsigned)KALM__STRINGS);
	for (i = 0; i < KALM__STRINGS; i++) {
		uint64_t at = kalm__u32(s->data + 8 * i), n = kalm__u32(s->data + 8 * i + 4);
		if (at > s->size || n > s->size - at || n > 1u << 20)
			return kalm__fail(err, KALM_BAD_FILE, "string %u of the model file lies outside its section", i);
		f->string[i].data = (const char *)s->data + at;
		f->string[i].size = (size_t)n;
	}
	return KALM_OK;
}

/* The bytes that a tensor's data must have. */
KALM__FN uint64_t kalm__tensor_bytes(const kalm__tensor *t)
{
	uint32_t what = t->kind % 32;
	if (what == KALM__T_EMBED) return (uint64_t)t->rows * kalm__embedding_row_bytes(t->type, t->cols);
	if (what <= KALM__T_DOWN) return ((uint64_t)t->rows + 15) / 16 * kalm__panel_bytes(t->type, t->cols);
	return (uint64_t)t->rows * t->cols * 4;
}

/* Let the model point to a tensor that has been checked. */
KALM__FN void kalm__bind_tensor(kalm__file *f, const kalm__tensor *t)
{
	kalm__stack *s = &f->stack[t->kind / 32];
	const unsigned char *data = f->data + t->offset;
	const void *vdata = data;
	uint32_t what = t->kind % 32;
	if (what <= KALM__T_DOWN) {
		kalm__matrix *m = &s->layers[t->layer].matrix[what];
		memset(m, 0, sizeof *m);
		m->type = t->type;
		m->rows = t->rows;
		m->cols = t->cols;
		m->data = data;
		if (kalm__is_quantised(t->type)) {  /* the offsets of other types are not checked */
			const void *vscale = f->data + t->scale, *vsum = f->data + t->sum;
			m->scale = (const float *)vscale;
			m->sum = (const int32_t *)vsum;
		}
		s->layers[t->layer].rotated[what] = (int)t->rotated;
	} else if (what < KALM__T_LAYER_KINDS) {
		s->layers[t->layer].norm[what] = (const float *)vdata;
	} else if (what == KALM__T_NORM) {
		s->norm = (const float *)vdata;
	} else if (what == KALM__T_EMBED) {
		s->embed_type = t->type;
		s->embed = data;
		s->embed_row = kalm__embedding_row_bytes(t->type, t->cols);
	} else if (what == KALM__T_EOI) {
		s->eoi = (const float *)vdata;
	} else {
		f->head = (const float *)vdata;
	}
}

KALM__FN kalm_result kalm__check_tensor(const kalm__file *f, const kalm__tensor *t, const char *name, kalm_error *err)
{
	uint64_t begin = f->section[KALM__SECTION_WEIGHTS].offset, end = begin + f->section[KALM__SECTION_WEIGHTS].size;
	uint64_t scales = ((uint64_t)t->rows + 15) / 16 * 64;
	uint32_t rows, cols, what = t->kind % 32;
	if (!kalm__tensor_shape(&f->shape, t->kind, &rows, &cols) ||
		t->layer >= (what < KALM__T_LAYER_KINDS ? f->stack[t->kind / 32].shape.layers : 1))
		return kalm__fail(err, KALM_BAD_FILE, "the model file has a tensor of kind %u, layer %u, which no model has", t->kind,
						  t->layer);
	if (t->rows != rows || t->cols != cols)
		return kalm__fail(err, KALM_BAD_FILE, "tensor %s is %u x %u, the model's shape asks for %u x %u", name, t->rows,
						  t->cols, rows, cols);
	if (t->type >= KALM__TYPES || (what > KALM__T_DOWN && what != KALM__T_EMBED && t->type != KALM__F32) || t->rotated > 1)
		return kalm__fail(err, KALM_BAD_FILE, "tensor %s has type %u, rotation %u, which it cannot have", name, t->type,
						  t->rotated);
	if (t->size != kalm__tensor_bytes(t))
		return kalm__fail(err, KALM_BAD_FILE, "tensor %s has %U bytes, its shape asks for %U", name, t->size,
						  kalm__tensor_bytes(t));
	if (t->offset % 64 || t->offset < begin || t->offset > end || t->size > end - t->offset)
		return kalm__fail(err, KALM_BAD_FILE, "tensor %s lies at byte %U with %U bytes, the weights from %U to %U", name,
						  t->offset, t->size, begin, end);
	if (what <= KALM__T_DOWN && kalm__is_quantised(t->type) &&
		(t->scale % 64 || t->sum % 64 || t->scale < begin || t->sum < begin || t->scale > end || t->sum > end ||
		 scales > end - t->scale || scales > end - t->sum))
		return kalm__fail(err, KALM_BAD_FILE, "the scales of tensor %s lie outside the weights", name);
	return KALM_OK;
}

/* Check every tensor and point to it. The caller has made room for the layers: f->stack[i].layers [f->stack[i].shape.layers]. */
KALM__FN kalm_result kalm__read_tensors(kalm__file *f, kalm_error *err)
{
	const kalm__section *s = &f->section[KALM__SECTION_TENSORS];
	uint64_t count = s->size / KALM__TENSOR_BYTES, i, last = 0;
	char name[32];
	int side;
	if (s->size % KALM__TENSOR_BYTES)
		return kalm__fail(err, KALM_BAD_FILE, "the TENSORS section has %U bytes, no multiple of %u", s->size,
						  KALM__TENSOR_BYTES);
	for (i = 0; i < count; i++) {
		kalm__tensor t;
		uint64_t order;
		kalm_result r;
		kalm__read_tensor(&t, s->data + i * KALM__TENSOR_BYTES);
		kalm__tensor_name(name, t.kind, t.layer);
		order = ((uint64_t)t.kind << 32 | t.layer) + 1;
		if (order <= last)
			return kalm__fail(err, KALM_BAD_FILE, "tensor %s comes twice or out of order", name);
		last = order;
		r = kalm__check_tensor(f, &t, name, err);
		if (r) return r;
		kalm__bind_tensor(f, &t);
	}
	for (side = 0; side < 2; side++) {
		kalm__stack *k = &f->stack[side];
		uint32_t layer, what;
		if (!k->shape.layers) continue;  /* a part that lacks this side */
		for (layer = 0; layer < k->shape.layers; layer++) {
			kalm__layer *l = &k->layers[layer];
			for (what = 0; what < KALM__T_LAYER_KINDS; what++)
				if (what <= KALM__T_DOWN ? !l->matrix[what].data : !l->norm[what])
					return kalm__fail(err, KALM_BAD_FILE, "tensor %s is missing",
									  kalm__tensor_name(name, KALM__KIND(side, what), layer));
			/* a row is packed once for q, k and v together, and once for gate and up */
			if (l->matrix[KALM__T_Q].type != l->matrix[KALM__T_K].type || l->matrix[KALM__T_Q].type != l->matrix[KALM__T_V].type ||
				l->rotated[KALM__T_Q] != l->rotated[KALM__T_K] || l->rotated[KALM__T_Q] != l->rotated[KALM__T_V] ||
				l->matrix[KALM__T_GATE].type != l->matrix[KALM__T_UP].type ||
				l->rotated[KALM__T_GATE] != l->rotated[KALM__T_UP])
				return kalm__fail(err, KALM_BAD_FILE, "layer %u of the %s mixes types or rotations among q, k, v or gate, up",
								  layer, side ? "decoder" : "encoder");
			l->full = k->shape.full[layer];
		}
		/* document rows are packed once for k and v of all layers of the decoder */
		if (side == KALM__DECODER)
			for (layer = 1; layer < k->shape.layers; layer++)
				if (k->layers[layer].matrix[KALM__T_K].type != k->layers[0].matrix[KALM__T_K].type ||
					k->layers[layer].rotated[KALM__T_K] != k->layers[0].rotated[KALM__T_K])
					return kalm__fail(err, KALM_BAD_FILE, "layer %u of the decoder has keys of another type than layer 0", layer);
		if (!k->norm)
			return kalm__fail(err, KALM_BAD_FILE, "tensor %s is missing", kalm__tensor_name(name, KALM__KIND(side, KALM__T_NORM), 0));
	}
	if (!f->stack[KALM__ENCODER].embed && !(f->lacks & KALM__LACKS_ENCODER && f->stack[KALM__DECODER].embed))
		return kalm__fail(err, KALM_BAD_FILE, "tensor encoder.embed is missing");
	if (!f->head && !(f->lacks & KALM__LACKS_DECODER)) return kalm__fail(err, KALM_BAD_FILE, "tensor decoder.head is missing");
	if (!f->stack[KALM__DECODER].embed) {
		f->stack[KALM__DECODER].embed = f->stack[KALM__ENCODER].embed;
		f->stack[KALM__DECODER].embed_row = f->stack[KALM__ENCODER].embed_row;
		f->stack[KALM__DECODER].embed_type = f->stack[KALM__ENCODER].embed_type;
	}
	if (!f->stack[KALM__DECODER].eoi) f->stack[KALM__DECODER].eoi = f->stack[KALM__ENCODER].eoi;
	return KALM_OK;
}

/* The first half of opening a file: everything but the tensors, for whose layers the caller needs memory first. data must be
	aligned to 64 bytes and stay where it is. Costs no more than the small sections: weights are not read. */
KALM__FN kalm_result kalm__file_open(kalm__file *f, const void *data, size_t size, kalm_error *err)
{
	kalm_result r;
	int has[KALM__SECTION_KINDS], i;
	memset(f, 0, sizeof *f);
	f->data = (const unsigned char *)data;
	f->size = size;
#if KALM__BIG_ENDIAN
	return kalm__fail(err, KALM_BAD_FILE, "model files hold little-endian weights that are read in place; this machine is "
					  "big-endian");
#endif
	r = kalm__read_sections(f, err);
	if (r) return r;
	for (i = 0; i < KALM__SECTION_KINDS; i++) has[i] = f->section[i].data != NULL;
	f->has_model = has[KALM__SECTION_SHAPE];
	f->has_tokenizer = has[KALM__SECTION_TOKENIZER];
	if (has[KALM__SECTION_SHAPE] != has[KALM__SECTION_TENSORS] || has[KALM__SECTION_SHAPE] != has[KALM__SECTION_WEIGHTS])
		return kalm__fail(err, KALM_BAD_FILE, "the model file lacks one of SHAPE, TENSORS and WEIGHTS");
	if (!f->has_model && !f->has_tokenizer)
		return kalm__fail(err, KALM_BAD_FILE, "the file holds neither a model nor a tokenizer");
	if (kalm__table_fingerprint(f->data + KALM__HEADER_BYTES, kalm__u32(f->data + 12)) != f->fingerprint)
		return kalm__fail(err, KALM_BAD_FILE, "the model file's fingerprint does not match its sections");
	r = kalm__read_part(f, err);
	if (!r) r = kalm__read_strings(f, err);
	if (!r && f->has_tokenizer)
		r = kalm__tokenizer_open(&f->tokenizer, f->section[KALM__SECTION_TOKENIZER].data,
								 (size_t)f->section[KALM__SECTION_TOKENIZER].size, err);
	if (!r && f->has_model) {
		r = kalm__read_shape(f, err);
		f->stack[0].shape = f->shape.side[0];
		f->stack[1].shape = f->shape.side[1];
		if (f->lacks & KALM__LACKS_ENCODER) f->stack[KALM__ENCODER].shape.layers = 0;
		if (f->lacks & KALM__LACKS_DECODER) f->stack[KALM__DECODER].shape.layers = 0;
	}
	if (!r && has[KALM__SECTION_ROWS]) {
		const kalm__section *s = &f->section[KALM__SECTION_ROWS];
		if (!f->has_model) return kalm__fail(err, KALM_BAD_FILE, "the model file has a section ROWS and no model");
		r = kalm__rowcode_open(&f->rows, s->data, s->size, s->checksum, f->shape.hidden_size, err);
	}
	return r;
}

/* Compare every section with its hash in the section table. Reads the whole file. */
KALM__FN kalm_result kalm__file_verify(const kalm__file *f, kalm_error *err)
{
	static const char *const names[KALM__SECTION_KINDS] = { "", "SHAPE", "STRINGS", "TENSORS", "TOKENIZER", "WEIGHTS", "ROWS" };
	int i;
	for (i = 1; i < KALM__SECTION_KINDS; i++) {
		const kalm__section *s = &f->section[i];
		if (s->data && kalm__hash(s->data, (size_t)s->size) != s->checksum)
			return kalm__fail(err, KALM_BAD_FILE, "section %s of the model file is damaged: its checksum does not match", names[i]);
	}
	return KALM_OK;
}

/* ---- begin src/model.h ---- */
/* model.h - an open model: the file, its layers, its texts. It does not change once it is open, so any number of contexts
	share it. */
#define KALM__MODEL_H


struct kalm_model {
	kalm_allocator alloc;
	kalm__mapping mapping;  /* empty when the memory is the caller's */
	kalm__file file;
	size_t block;  /* bytes of this block: the struct, the layers, the name */
	char *name;
};

KALM__FN kalm_result kalm__model_new(const void *data, size_t size, const kalm_config *config, const kalm__mapping *mapping,
									 kalm_model **out, kalm_error *err)
{
	kalm__file file;
	kalm_allocator alloc;
	kalm_model *m;
	kalm__arena a;
	void *block;
	size_t bytes;
	int side;
	kalm_result r = kalm__take_allocator(config, &alloc, err);
	if (!r) r = kalm__file_open(&file, data, size, err);
	if (r) return r;
	bytes = kalm__round_up(sizeof *m, 64) + 64 + kalm__round_up(file.string[KALM__STRING_NAME].size + 1, 64);
	for (side = 0; side < 2; side++)
		bytes += kalm__round_up((size_t)file.stack[side].shape.layers * sizeof(kalm__layer), 64);
	block = kalm__alloc(&alloc, bytes);
	if (!block) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the %z bytes of an open model", bytes);
	memset(block, 0, bytes);
	m = (kalm_model *)block;
	m->alloc = alloc;
	m->block = bytes;
	a.base = kalm__align64((unsigned char *)block + sizeof *m);
	a.taken = 0;
	a.size = (size_t)((unsigned char *)block + bytes - a.base);
	for (side = 0; side < 2; side++)
		file.stack[side].layers = (kalm__layer *)kalm__take(&a, (size_t)file.stack[side].shape.layers * sizeof(kalm__layer));
	m->name = (char *)kalm__take(&a, file.string[KALM__STRING_NAME].size + 1);
	KALM_ASSERT(m->name);
	if (file.string[KALM__STRING_NAME].size)
		memcpy(m->name, file.string[KALM__STRING_NAME].data, file.string[KALM__STRING_NAME].size);
	m->file = file;
	r = file.has_model ? kalm__read_tensors(&m->file, err) : KALM_OK;
	if (r) {
		kalm__release(&alloc, block, bytes);
		return r;
	}
	if (mapping) m->mapping = *mapping;
	*out = m;
	return KALM_OK;
}

/* ---- begin src/state.h ---- */
/* state.h - what the decoder computed for a document and for the prompt's tokens before the query, kept for the next query:
	keys and values of the document's rows and of those tokens, in every layer. They depend on the document and the instruction
	alone, so going on from a state gives the same bits as computing everything again. This part is the cache that holds states:
	it drops the least recently used, is limited in bytes, and belongs to one context.

	A checksum can be forged (base.h), so it chooses a bucket, no more: then everything that a state's size and content depend on
	is compared, the document's bytes and the prompt's tokens included. Each state has its own copy of both. */
#define KALM__STATE_H


/* What a state is found by: all that its size and content depend on, beside the model and the kernel set, which belong to the
	context as the cache does. The bits and the ratio of a document stand in its bytes. */
typedef struct kalm__state_key {
	const unsigned char *doc;  /* the document's bytes, header and rows */
	size_t doc_size;
	const int32_t *prefix;  /* the prompt's first tokens */
	size_t tokens;  /* how many those are */
	uint32_t rows; /* of the document, as they were checked when it was opened: the bytes of a borrowed
			document may have changed since */
	size_t size;  /* bytes of the state's data */
	uint64_t doc_sum, prefix_sum;  /* checksums of both: for the bucket */
} kalm__state_key;

typedef struct kalm__state kalm__state;
struct kalm__state {
	kalm__state *chain;  /* next in the bucket */
	kalm__state *newer, *older;
	kalm__state_key key;  /* doc and prefix point to copies in this block */
	size_t block;  /* bytes, this struct and the copies included */
	int pinned;  /* how many times the call at hand uses it */
	int fresh;  /* KALM__STATE_...: what its data are */
	unsigned char *data;  /* [key.size], aligned to 64 */
};
enum { KALM__STATE_COMPUTED, KALM__STATE_FRESH, KALM__STATE_UNDER_WAY };  /* values of `fresh` */

enum {
	KALM__STATE_BUCKETS = 256,
	KALM__STATE_TWINS = 4 /* states kept with the same two checksums: more than one is forgery, and comparing their
			bytes takes time */
};
typedef struct kalm__cache {
	kalm__state *bucket[KALM__STATE_BUCKETS];
	kalm__state *newest, *oldest;
	size_t limit, bytes, count;
	uint64_t hits, misses, dropped;
} kalm__cache;

KALM__INLINE kalm__state **kalm__state_bucket(kalm__cache *c, const kalm__state_key *key)
{
	return &c->bucket[(key->doc_sum ^ key->prefix_sum * (uint64_t)KALM__HASH_A) >> 56];
}

KALM__FN void kalm__state_unlink(kalm__cache *c, kalm__state *s)
{
	if (s->newer) s->newer->older = s->older;
	else c->newest = s->older;
	if (s->older) s->older->newer = s->newer;
	else c->oldest = s->newer;
}
KALM__FN void kalm__state_make_newest(kalm__cache *c, kalm__state *s)
{
	s->newer = NULL;
	s->older = c->newest;
	if (c->newest) c->newest->newer = s;
	else c->oldest = s;
	c->newest = s;
}

KALM__FN void kalm__state_drop(kalm__cache *c, const kalm_allocator *alloc, kalm__state *s)
{
	kalm__state **at = kalm__state_bucket(c, &s->key);
	while (*at != s) at = &(*at)->chain;
	*at = s->chain;
	kalm__state_unlink(c, s);
	c->bytes -= s->block;
	c->count--;
	kalm__release(alloc, s, s->block);
}

KALM__FN void kalm__cache_clear(kalm__cache *c, const kalm_allocator *alloc)
{
	while (c->newest) kalm__state_drop(c, alloc, c->newest);
}

KALM__INLINE int kalm__state_twin(const kalm__state_key *a, const kalm__state_key *b)
{
	return a->doc_sum == b->doc_sum && a->prefix_sum == b->prefix_sum;
}
KALM__FN int kalm__state_fits(const kalm__state_key *a, const kalm__state_key *b)
{
	return kalm__state_twin(a, b) && a->size == b->size && a->rows == b->rows && a->tokens == b->tokens &&
		   a->doc_size == b->doc_size && memcmp(a->prefix, b->prefix, a->tokens * sizeof *a->prefix) == 0 &&
		   memcmp(a->doc, b->doc, a->doc_size) == 0;
}

/* The state, pinned, or NULL. */
KALM__FN kalm__state *kalm__state_find(kalm__cache *c, const kalm__state_key *key)
{
	kalm__state *s = *kalm__state_bucket(c, key);
	while (s && !kalm__state_fits(&s->key, key)) s = s->chain;
	if (!s) return NULL;
	kalm__state_unlink(c, s);
	kalm__state_make_newest(c, s);
	s->pinned++;
	return s;
}

/* Room for one more state with the checksums of `key`: drops the oldest of those that have them when there are too many.
	Returns 0 when these are all pinned. */
KALM__FN int kalm__state_limit_twins(kalm__cache *c, const kalm_allocator *alloc, const kalm__state_key *key)
{
	kalm__state *s, *oldest = NULL;  /* a bucket's chain begins with the state that was made last */
	size_t count = 0;
	for (s = *kalm__state_bucket(c, key); s; s = s->chain) {
		if (!kalm__state_twin(&s->key, key)) continue;
		count++;
		if (!s->pinned) oldest = s;
	}
	if (count < KALM__STATE_TWINS) return 1;
	if (!oldest) return 0;
	kalm__state_drop(c, alloc, oldest);
	c->dropped++;
	return 1;
}

/* A new state with key->size bytes of data, pinned and fresh; NULL when the limit or the allocator does not grant it. Drops
	the states least recently used to make room. */
KALM__FN kalm__state *kalm__state_new(kalm__cache *c, const kalm_allocator *alloc, const kalm__state_key *key)
{
	size_t own = kalm__add(kalm__round_up(sizeof(kalm__state), 64), 64), prefix = kalm__mul(key->tokens, sizeof *key->prefix);
	size_t data = kalm__round_up(key->size, 64);
	size_t block = kalm__add(kalm__add(own, data), kalm__add(prefix, key->doc_size));
	kalm__state *s, **at;
	int32_t *tokens;
	unsigned char *doc;
	if (block > c->limit || !kalm__state_limit_twins(c, alloc, key)) return NULL;
	for (s = c->oldest; c->bytes > c->limit - block;) {
		kalm__state *next;
		while (s && s->pinned) s = s->newer;
		if (!s) return NULL;
		next = s->newer;
		kalm__state_drop(c, alloc, s);
		c->dropped++;
		s = next;
	}
	s = (kalm__state *)kalm__alloc(alloc, block);
	if (!s) return NULL;
	memset(s, 0, sizeof *s);
	s->data = kalm__align64((unsigned char *)s + sizeof *s);
	tokens = (int32_t *)(void *)(s->data + data);
	doc = s->data + data + prefix;
	memset(s->data, 0, key->size);  /* what lies between keys is written out with them */
	memcpy(tokens, key->prefix, prefix);
	memcpy(doc, key->doc, key->doc_size);
	s->key = *key;
	s->key.prefix = tokens;
	s->key.doc = doc;
	s->block = block;
	s->pinned = 1;
	s->fresh = KALM__STATE_FRESH;
	at = kalm__state_bucket(c, &s->key);
	s->chain = *at;
	*at = s;
	kalm__state_make_newest(c, s);
	c->bytes += block;
	c->count++;
	return s;
}

/* The call at hand is done with it. What it was to compute and did not is dropped. */
KALM__FN void kalm__state_unpin(kalm__cache *c, const kalm_allocator *alloc, kalm__state *s)
{
	s->pinned--;
	if (s->fresh && !s->pinned) kalm__state_drop(c, alloc, s);
}

/* ---- as bytes: what kalm_state_save writes ---- */

/* More is in docs/FORMAT.md. */
#define KALM__STATE_HEADER 64u
#define KALM__STATE_VERSION 2u

KALM__FN void kalm__state_header(unsigned char *p, uint64_t fingerprint, const kalm__state_key *key, uint32_t bits)
{
	memset(p, 0, KALM__STATE_HEADER);
	memcpy(p, "KSTA", 4);
	kalm__put_u32(p + 4, KALM__STATE_VERSION + (bits != 0));
	kalm__put_u64(p + 8, fingerprint);
	kalm__put_u64(p + 16, key->doc_sum);
	kalm__put_u64(p + 24, key->prefix_sum);
	kalm__put_u32(p + 32, (uint32_t)key->tokens);
	kalm__put_u32(p + 36, key->rows);
	kalm__put_u64(p + 40, key->size);
	kalm__put_u64(p + 56, bits);
}

KALM__FN uint64_t kalm__state_checksum(const unsigned char *p, const void *data, size_t size)
{
	unsigned char head[KALM__STATE_HEADER];
	kalm__hasher h;
	memcpy(head, p, sizeof head);
	memset(head + 48, 0, 8);
	kalm__hash_begin(&h);
	kalm__hash_add(&h, head, sizeof head);
	kalm__hash_add(&h, data, size);
	return kalm__hash_end(&h);
}

/* ---- begin src/context.h ---- */
/* context.h - a context: the working memory of one caller, its threads, and the kernel set it runs on. All memory is one block,
	which kalm__context_plan cuts into pieces; run without a block it only counts, for kalm_context_bytes. */
#define KALM__CONTEXT_H


enum {
	KALM__CHUNK = 256, /* rows taken through a layer together, so that their activations stay in the
			processor's cache */
	KALM__PROMPT_ROOM = 512,  /* tokens of a prompt beside its query */
	KALM__PROMPT_ROWS = 1024  /* rows of prompts run together, where documents are longer than that */
};

/* A sequence: one text on its way through the encoder, or one prompt beside its document through the decoder. */
typedef struct kalm__seq {
	size_t row, count;  /* its rows in the batch: x[row] ... x[row + count - 1] */
	size_t position;  /* of the first of them */
	kalm__keys self, cross;  /* keys and values of the layer at hand: of its own tokens, of its document's rows */
	size_t place, cross_place;  /* how many keys have room before those in memory.self and memory.cross */
	size_t item;  /* which text or document of the caller's it is */
	size_t tokens;  /* of a text that is encoded: before it was cut */
	kalm__state *state;  /* kept keys and values of its document; NULL: none */
} kalm__seq;

/* Rows [row, row + count) of one sequence in one chunk; `task`: the number of their first task of attention. */
typedef struct kalm__part {
	size_t seq, row, count, task;
} kalm__part;

typedef struct kalm__memory {
	float *x;  /* [rows][hidden]: residual stream */
	void *acts_in;  /* rows of a batch, normed and packed for q, k, v */
	void *acts_doc;  /* document rows and their rounding losses, packed for the decoder's k, v */
	unsigned char *self;  /* keys and values of all sequences (keys.h), for `rows` keys; prompt_rows in the decoder */
	unsigned char *cross;  /* the same of document rows */
	float *q, *attended;  /* [chunk][heads * head_dim]: queries, and what attention gives */
	float *first_q;  /* the same: layer 0's queries, which all documents of a query share */
	float *h; /* [chunk][mlp]: inside the MLP; or [2][chunk][2][kv_heads * head_dim]: keys and values
			of a chunk before they are stored */
	float *y;  /* [chunk + MAX_RESIDUAL][hidden]: what o and down give */
	float *residual; /* [ROW_STEP + MAX_RESIDUAL][the longest row]: a chunk's last rows, and the rounding losses
			of its residual rows (matmul.h) behind them */
	void *acts;  /* [chunk + MAX_RESIDUAL] rows packed for o, gate and up, down */
	kalm__seq *seqs;  /* [rows / KEY_STEP] */
	kalm__state **states;  /* [rows / KEY_STEP]: of the documents decoded together */
	kalm__part *parts;  /* [chunk] */
	uint32_t *row_seq;  /* [rows]: the sequence a row belongs to */
	uint8_t *overflow; /* [rows] of the batch at hand, then [rows] of document rows: 1 where a row, its keys,
			values or queries are not finite */
	int32_t *ids;  /* [max(rows, 2 * (max_prompt + 8))]: tokens of the texts at hand */
	int32_t *prompt;  /* [rows]: tokens of the prompt of this call */
	unsigned char *scratch;
	size_t scratch_size;  /* a worker's */
} kalm__memory;

struct kalm_context {
	const kalm_model *model;
	kalm_allocator alloc;
	void *block;
	size_t block_size;
	kalm__pool pool;
	kalm__backend backend;
	size_t rows;  /* of a batch of texts, and of documents' rows in a batch of prompts: the limit */
	size_t prompt_rows;  /* of a batch of prompts; both multiples of KEY_STEP */
	size_t chunk;  /* a multiple of KALM__ACTS_STEP */
	size_t max_doc, max_query, max_prompt;  /* tokens */
	kalm__rotary rotary[2][2];  /* [side][full attention] */
	kalm__memory memory;
	kalm__cache cache;
	uint32_t state_bits;  /* 0, 8 or 4: see kalm_config */
};

/* How a layer attends. Beside quantised weights and with state_bits its keys are int8 in the encoder, int16 in the decoder: keys.h
	has the measurements. (Attention is a seventh of the work for a passage, a twentieth for a prompt, where the wider keys go.) */
KALM__FN kalm__heads kalm__layer_heads(const kalm_context *c, int side, uint32_t layer)
{
	const kalm__stack *s = &c->model->file.stack[side];
	kalm__heads h;
	h.heads = s->shape.heads;
	h.kv_heads = s->shape.kv_heads;
	h.head_dim = s->shape.head_dim;
	h.bits = side == KALM__DECODER ? c->state_bits : 0;
	h.type = KALM__F32;
	if (h.bits || kalm__is_quantised(s->layers[layer].matrix[KALM__T_Q].type))
		h.type = side == KALM__ENCODER ? KALM__Q8 : KALM__Q16;
	h.rotate = h.bits || h.type == KALM__Q8;
	return h;
}

/* The most bytes that `rows` rows take, packed for any of the matrices first ... last of a stack. */
KALM__FN size_t kalm__acts_room(const kalm__stack *s, const kalm__kernels *k, int first, int last, size_t rows)
{
	size_t most = 0;
	uint32_t l;
	int what;
	for (l = 0; l < s->shape.layers; l++)
		for (what = first; what <= last; what++) {
			const kalm__matrix *m = &s->layers[l].matrix[what];
			most = kalm__max(most, kalm__acts_bytes(k, m->type, rows, m->cols));
		}
	return most;
}

KALM__FN size_t kalm__matmul_room(const kalm__stack *s, const kalm__kernels *k)
{
	size_t most = 0;
	uint32_t l;
	int what;
	for (l = 0; l < s->shape.layers; l++)
		for (what = 0; what <= KALM__T_DOWN; what++)
			most = kalm__max(most, kalm__matmul_scratch(k, s->layers[l].matrix[what].type, s->layers[l].matrix[what].cols));
	return most;
}

/* A task that makes or reads coded rows begins its scratch with so many bytes of them as floats ... */
KALM__INLINE size_t kalm__row_floats(size_t width)
{
	return kalm__round_up(kalm__mul(KALM__ROW_STEP, width * sizeof(float)), 64);
}

/* ... and the coder's memory (rowcode.h) behind them. */
KALM__FN kalm__row_work kalm__context_row_work(const kalm_context *c, unsigned worker)
{
	kalm__row_work w;
	size_t width = c->model->file.shape.hidden_size;
	kalm__row_work_plan(&w, kalm__scratch(&c->backend, worker) + kalm__row_floats(width), c->backend.kernels, width);
	return w;
}

/* Hand out (or, with a->base NULL, count) everything that lies in the context's block. */
KALM__FN void kalm__context_plan(kalm_context *c, kalm__arena *a, unsigned threads)
{
	const kalm__file *f = &c->model->file;
	const kalm__kernels *k = c->backend.kernels;
	kalm__memory *m = &c->memory;
	const kalm__stack *enc = &f->stack[KALM__ENCODER], *dec = &f->stack[KALM__DECODER];
	size_t hidden_size = f->shape.hidden_size, heads_width = 0, mlp = 0, keys = 0, cross = 0, kv = 0, scratch = 0, row, rows = c->rows;
	kalm__row_work work;
	uint32_t l;
	int side, full;
	for (side = 0; side < 2; side++) {
		const kalm__side *s = &f->stack[side].shape;
		kalm__attention_scratch nothing;
		for (full = 0; full < 2; full++) kalm__rotary_plan(&c->rotary[side][full], a);
		if (!s->layers) continue;  /* a part of a model that lacks this side */
		heads_width = kalm__max(heads_width, (size_t)s->heads * s->head_dim);
		mlp = kalm__max(mlp, s->mlp);
		kv = kalm__max(kv, (size_t)s->kv_heads * s->head_dim);
		for (l = 0; l < s->layers; l++) {
			kalm__heads h = kalm__layer_heads(c, side, l);
			keys = kalm__max(keys, kalm__key_bytes(&h, side == KALM__ENCODER ? rows : c->prompt_rows));
			if (side == KALM__DECODER) cross = kalm__max(cross, kalm__key_bytes(&h, rows));
			scratch = kalm__max(scratch, kalm__attention_scratch_plan(&nothing, NULL, k, &h,
																	  kalm__query_block(&h) * (h.heads / h.kv_heads)));
		}
		scratch = kalm__max(scratch, kalm__geglu_scratch() + kalm__matmul_room(&f->stack[side], k));
	}
	row = kalm__mul(hidden_size, sizeof(float));
	/* a task that prepares rows holds them as floats, the longest being the hidden rows of the MLP; and one rotation */
	scratch = kalm__max(scratch, kalm__mul(KALM__ROW_STEP, kalm__max(mlp, kalm__max(heads_width, hidden_size)) * sizeof(float)) +
						kalm__round_up(kalm__max(enc->shape.head_dim, dec->shape.head_dim) * sizeof(float), 64));
	if (f->rows.fingerprint)
		scratch = kalm__max(scratch, kalm__add(kalm__row_floats(hidden_size), kalm__row_work_plan(&work, NULL, k, hidden_size)));
	scratch = kalm__round_up(scratch, 4096);

	m->x = (float *)kalm__take(a, kalm__mul(rows, row));
	m->acts_in = kalm__take(a, kalm__max(kalm__acts_room(enc, k, KALM__T_Q, KALM__T_V, rows),
										 kalm__acts_room(dec, k, KALM__T_Q, KALM__T_V, c->prompt_rows)));
	m->acts_doc = kalm__take(a, kalm__acts_room(dec, k, KALM__T_K, KALM__T_V, 2 * rows + KALM__ROW_STEP));
	m->self = (unsigned char *)kalm__take(a, keys);
	m->cross = (unsigned char *)kalm__take(a, cross);
	m->q = (float *)kalm__take(a, kalm__mul(c->chunk, heads_width * sizeof(float)));
	m->attended = (float *)kalm__take(a, kalm__mul(c->chunk, heads_width * sizeof(float)));
	m->first_q = (float *)kalm__take(a, kalm__mul(c->chunk, heads_width * sizeof(float)));
	m->h = (float *)kalm__take(a, kalm__mul(c->chunk, kalm__max(mlp, 4 * kv) * sizeof(float)));
	m->y = (float *)kalm__take(a, kalm__mul(c->chunk + KALM__MAX_RESIDUAL, row));
	m->residual = (float *)kalm__take(a, kalm__mul((size_t)KALM__MAX_RESIDUAL + KALM__ROW_STEP,
											   kalm__max(mlp, kalm__max(heads_width, hidden_size)) * sizeof(float)));
	m->acts = kalm__take(a, kalm__max(kalm__acts_room(enc, k, KALM__T_O, KALM__T_DOWN, c->chunk + KALM__MAX_RESIDUAL),
									  kalm__acts_room(dec, k, KALM__T_O, KALM__T_DOWN, c->chunk + KALM__MAX_RESIDUAL)));
	m->seqs = (kalm__seq *)kalm__take(a, kalm__mul(rows / KALM__KEY_STEP, sizeof *m->seqs));
	m->states = (kalm__state **)kalm__take(a, kalm__mul(rows / KALM__KEY_STEP, sizeof *m->states));
	m->parts = (kalm__part *)kalm__take(a, kalm__mul(c->chunk, sizeof *m->parts));
	m->row_seq = (uint32_t *)kalm__take(a, kalm__mul(rows, sizeof *m->row_seq));
	m->overflow = (uint8_t *)kalm__take(a, kalm__mul(rows, 2));
	m->ids = (int32_t *)kalm__take(a, kalm__mul(kalm__max(rows, 2 * (c->max_prompt + 8)), sizeof *m->ids));
	m->prompt = (int32_t *)kalm__take(a, kalm__mul(rows, sizeof *m->prompt));
	c->pool.workers = (kalm__worker *)kalm__take(a, threads * sizeof(kalm__worker));
	m->scratch = (unsigned char *)kalm__take(a, kalm__mul(threads, scratch));
	m->scratch_size = scratch;
}

/* The first of n weights that is beyond 2^30 or no number; n where there is none. */
KALM__FN uint32_t kalm__impossible(const float *w, uint32_t n)
{
	uint32_t i = 0;
	while (i < n && (kalm__u32(w + i) & 0x7fffffffu) <= 0x4e800000u) i++;
	return i;
}

/* Gains of norms and scales of quantised matrices set the size of all numbers in the network. A huge one (published ones are far
	below 10^5), or one that is no number, is damage or malice, and integers would hide what comes of it. Weights that are floats
	are not looked at: where these are too large, numbers overflow and are found. First all are asked for: they lie all over the file,
	and reading them from a disk one after the other took most of the time until the first score. */
KALM__FN kalm_result kalm__check_weights(const kalm__file *f, kalm_error *err)
{
	char name[32];
	uint32_t l, what;
	int turn, side;
	for (turn = 0; turn < 4; turn++)
		for (side = turn % 2, l = 0; l < f->stack[side].shape.layers; l++)
			for (what = 0; what < KALM__T_LAYER_KINDS; what++) {
				const kalm__layer *layer = &f->stack[side].layers[l];
				int gain = what >= KALM__T_Q_NORM;
				const float *w = gain ? layer->norm[what] : layer->matrix[what].scale;
				uint32_t n = !gain ? layer->matrix[what].rows : what <= KALM__T_K_NORM ? f->stack[side].shape.head_dim
																					   : f->shape.hidden_size;
				uint32_t bad = n;
				if (w && turn < 2) kalm__advise(w, n * sizeof *w, KALM__SOON);
				else if (w) bad = kalm__impossible(w, n);
				if (bad < n)
					return kalm__fail(err, KALM_BAD_FILE, "%s %u of tensor %s is beyond 2^30, or no number",
									  gain ? "weight" : "the scale of row", bad,
									  kalm__tensor_name(name, KALM__KIND(side, what), l));
			}
	return KALM_OK;
}

/* *n: what is wanted, or as many as usual, of at most so many. */
KALM__FN kalm_result kalm__token_limit(size_t *n, uint32_t wanted, uint32_t usual, uint32_t most, const char *refusal, kalm_error *err)
{
	*n = wanted ? wanted : kalm__min(usual, most);
	return *n <= most ? KALM_OK : kalm__fail(err, KALM_BAD_ARGUMENT, refusal, *n, most);
}

/* The sizes a config asks for, checked; *threads is how many workers there will be. */
KALM__FN kalm_result kalm__context_sizes(kalm_context *c, const kalm_model *model, const kalm_config *config,
										 unsigned *threads, kalm_error *err)
{
	const kalm__shape *s = &model->file.shape;
	uint32_t wanted = config && config->threads ? config->threads : kalm__cores();
	int side;
	kalm_result result;
	memset(c, 0, sizeof *c);
	c->model = model;
	result = kalm__take_allocator(config, &c->alloc, err);
	if (!result) result = kalm__need_rounding(err);  /* the context's threads will round as this one */
	if (result) return result;
	if (!model->file.has_model)
		return kalm__fail(err, KALM_BAD_ARGUMENT, "the file holds a tokenizer alone, no model to run");
	c->backend.kernels = kalm__kernel_set(0, config ? config->kernels : NULL, 1);
	if (!c->backend.kernels)
		return kalm__fail(err, KALM_NO_KERNELS, "kernel set %q cannot run on this machine", config->kernels,
						  strlen(config->kernels));
	c->backend.ops = c->backend.kernels->ops;
	result = kalm__token_limit(&c->max_doc, config ? config->max_doc_tokens : 0, 1024, s->side[KALM__ENCODER].max_positions,
							   "max_doc_tokens is %z, the model's encoder reads %u", err);
	if (!result) result = kalm__token_limit(&c->max_query, config ? config->max_query_tokens : 0, 512, s->side[KALM__DECODER].max_positions,
											"max_query_tokens is %z, the model's decoder reads %u", err);
	if (result) return result;
	c->max_prompt = kalm__min(c->max_query + KALM__PROMPT_ROOM, s->side[KALM__DECODER].max_positions);
	c->rows = kalm__round_up(kalm__max(c->max_doc, c->max_prompt), KALM__KEY_STEP);
	c->prompt_rows = kalm__round_up(kalm__max(c->max_prompt, kalm__min(c->rows, KALM__PROMPT_ROWS)), KALM__KEY_STEP);
	c->chunk = (size_t)KALM__CHUNK / KALM__ACTS_STEP * KALM__ACTS_STEP;
	c->cache.limit = config ? config->cache_bytes : 0;
	c->state_bits = config ? config->state_bits : 0;
	if (c->state_bits && c->state_bits != 8 && c->state_bits != 4)
		return kalm__fail(err, KALM_BAD_ARGUMENT, "state_bits is %u; it is 8, 4 or 0", c->state_bits);
	result = kalm__check_weights(&model->file, err);
	if (result) return result;
	*threads = (unsigned)kalm__min(wanted, KALM__MAX_THREADS);
#if KALM__THREADS == KALM__THREADS_NONE
	if (!config || !config->parallel) *threads = 1;
#endif
	for (side = 0; side < 2; side++) {
		const kalm__side *d = &s->side[side];
		kalm__rotary *r = c->rotary[side];
		r[0].theta = d->theta_sliding;
		r[0].factor = d->factor_sliding;
		r[1].theta = d->theta_full;
		r[1].factor = d->factor_full;
		r[0].head_dim = r[1].head_dim = d->head_dim;
		r[0].positions = r[1].positions = c->rows;
	}
	return KALM_OK;
}

/* Sizes and plan, with nothing taken yet: *bytes is what the block will need. */
KALM__FN kalm_result kalm__context_measure(kalm_context *plan, const kalm_model *model, const kalm_config *config,
										   unsigned *threads, size_t *bytes, kalm_error *err)
{
	kalm__arena a;
	kalm_result r = kalm__context_sizes(plan, model, config, threads, err);
	if (r) return r;
	memset(&a, 0, sizeof a);
	kalm__context_plan(plan, &a, *threads);
	*bytes = kalm__add(a.taken, kalm__round_up(sizeof *plan, 64) + 64);
	if (*bytes < SIZE_MAX) return KALM_OK;
	*bytes = 0;
	return kalm__fail(err, KALM_NO_MEMORY, "a context for documents of %z tokens and queries of %z needs more than %z bytes",
					  plan->max_doc, plan->max_query, SIZE_MAX);
}

KALM__FN kalm_result kalm__context_new(const kalm_model *model, const kalm_config *config, kalm_context **out, kalm_error *err)
{
	kalm_context plan, *c;
	kalm__arena a;
	unsigned threads = 1;
	void *block;
	size_t bytes = 0;
	int side, full;
	kalm_result r = kalm__context_measure(&plan, model, config, &threads, &bytes, err);
	if (r) return r;
	block = kalm__alloc(&plan.alloc, bytes);
	if (!block) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the %z bytes of a context", bytes);
	kalm__advise(block, bytes, KALM__LARGE_PAGES);
	c = (kalm_context *)(void *)kalm__align64(block);
	*c = plan;
	c->block = block;
	c->block_size = bytes;
	a.base = (unsigned char *)c + kalm__round_up(sizeof *c, 64);
	a.size = bytes;
	a.taken = 0;
	kalm__context_plan(c, &a, threads);
	for (side = 0; side < 2; side++)
		for (full = 0; full < 2; full++) kalm__rotary_fill(&c->rotary[side][full]);
	kalm__pool_start(&c->pool, threads, c->pool.workers, config);
	c->backend.pool = &c->pool;
	c->backend.scratch = c->memory.scratch;
	c->backend.scratch_size = c->memory.scratch_size;
	*out = c;
	return KALM_OK;
}

/* ---- begin src/layer.h ---- */
/* layer.h - one transformer layer over a batch of sequences, the same code for encoder and decoder (docs/MODEL.md):

	  x += post_attention_norm( o( attention( pre_attention_norm(x) ) ) )
	  x += post_mlp_norm( down( gelu(gate(a)) * up(a) ) ),   a = pre_mlp_norm(x)

	Every query needs all keys of its sequence, so kalm__layer_keys computes and stores the keys and values of all rows, then
	kalm__layer_rows takes the rows through the rest, a chunk at a time. Between two matrices stands a step (kalm__step): rows are
	normed, rotated and packed for the next matrix. Rows meet in attention alone, so sequences can be batched in any way. */
#define KALM__LAYER_H


struct kalm__layer_run;
struct kalm__step;
struct kalm__chunk;

/* One layer at work on one batch. */
typedef struct kalm__layer_run {
	kalm_context *c;
	const kalm__stack *stack;
	const kalm__layer *layer;
	const kalm__rotary *rotary;
	int side;
	kalm__heads heads;
	size_t rows, seqs;  /* of the batch: c->memory.x and c->memory.seqs */
	size_t prefix;  /* tokens of a prompt whose keys states hold: they are rounded to state_bits */
	int no_residual;  /* no prompt ends in this batch, so no row is read at the end */
} kalm__layer_run;

/* Rows of the batch that go through the layer together. Residual rows (matmul.h), whose rounding loss is a second row, are beside
	quantised weights the last of each prompt, where the margin is read. */
typedef struct kalm__chunk {
	size_t row0, n;
	kalm__residual residual;
} kalm__chunk;

/* What happens to the rows of a chunk between two matrices, in this order; each may be left out. */
typedef struct kalm__step {
	const float *from;  /* [n][width]: what a matrix gave, or the residual stream */
	size_t width;
	const float *add_norm; /* [width]: add the rows, normed with this gain, to the residual stream, whose rows then go
			on in their place */
	const float *norm;  /* [width]: the gain of the norm before the next matrix */
	int rotate;  /* the next matrix takes rotated rows (kalm__hadamard, ops.h) */
	const kalm__matrix *into;  /* the next matrix; NULL: none, the rows end in the residual stream */
	void *out;  /* its rows, packed */
} kalm__step;

KALM__FN void kalm__layer_begin(kalm__layer_run *r, kalm_context *c, int side, uint32_t layer, size_t rows, size_t seqs)
{
	memset(r, 0, sizeof *r);
	r->c = c;
	r->side = side;
	r->stack = &c->model->file.stack[side];
	r->layer = &r->stack->layers[layer];
	r->heads = kalm__layer_heads(c, side, layer);
	r->rotary = &c->rotary[side][r->layer->full];
	r->rows = rows;
	r->seqs = seqs;
}

/* Where the sequences' keys lie: side by side, in the layout of this layer. */
KALM__FN void kalm__place_keys(const kalm__layer_run *r)
{
	const kalm__memory *m = &r->c->memory;
	size_t i;
	for (i = 0; i < r->seqs; i++) {
		m->seqs[i].self.data = m->self + kalm__key_bytes(&r->heads, m->seqs[i].place);
		m->seqs[i].cross.data = m->cross + kalm__key_bytes(&r->heads, m->seqs[i].cross_place);
	}
}

/* ---- steps ---- */

typedef struct kalm__step_task {
	const kalm__layer_run *run;
	const kalm__chunk *chunk;
	const kalm__step *step;
	size_t residual, rows;  /* rounding losses to pack, and rows in all: chunk->n and those */
} kalm__step_task;

/* Some of the chunk's rows: [x += norm(row)], [norm], [rotate], a few rows at a time while they are in the first-level cache, then pack. The
	last piece of a chunk with residual rows is left in memory.residual, rounding losses behind it, for kalm__run_step to pack:
	the kernels pack whole pieces. */
KALM__FN void kalm__step_rows(void *arg, size_t i, unsigned worker)
{
	const kalm__step_task *t = (const kalm__step_task *)arg;
	const kalm__step *s = t->step;
	const kalm__chunk *chunk = t->chunk;
	const kalm__memory *memory = &t->run->c->memory;
	const kalm__backend *m = &t->run->c->backend;
	const kalm__ops *ops = m->ops;
	size_t piece = KALM__ROW_STEP, first = i * piece, count = kalm__min(piece, chunk->n - first), k, f, some;
	size_t width = s->width, last = (chunk->n - 1) / piece * piece;
	int later = t->residual && first == last, prepare = s->into && (s->norm || s->rotate || later);
	float eps = t->run->stack->shape.norm_eps;
	void *scratch = kalm__scratch(m, worker);
	float *rows = later ? memory->residual : (float *)scratch;
	const float *ready = prepare ? rows : s->from + first * width;
	for (k = 0; (prepare || s->add_norm) && k < count; k += some) {
		const float *x = s->from + (first + k) * width;
		float *out = rows + k * width;
		some = kalm__min(count - k, KALM__NORMED);
		if (s->add_norm) {
			float *stream = memory->x + (chunk->row0 + first + k) * width;
			ops->add_norm(stream, x, s->add_norm, width, eps, some);
			x = stream;
		}
		if (!prepare) continue;
		if (s->norm) {
			ops->rms_norm(out, x, s->norm, width, eps, some);
			for (f = 0; f < some; f++)  /* else they would be packed as zeros, and nobody would know */
				if (!kalm__is_finite(out[f * width])) memory->overflow[chunk->row0 + first + k + f] = 1;
		} else if (!s->rotate) memcpy(out, x, some * width * sizeof(float));
		for (f = 0; s->rotate && f < some; f++) ops->hadamard(out + f * width, (s->norm ? out : x) + f * width, width);
	}
	if (!s->into) return;
	for (f = 0; f < t->residual; f++) {
		size_t row = chunk->residual.row[f];
		if (row < first || row >= first + count) continue;
		ops->rounding_loss(memory->residual + (chunk->n - last + f) * width, ready + (row - first) * width, width);
	}
	if (!later) kalm__pack(m->kernels, kalm__block_of(s->into->type, t->rows, width, s->out), first, count, ready, width);
}

/* Do a step for the chunk; `what`: the next matrix of the layer. Returns how many rows it multiplies: the chunk's and their
	rounding losses. */
KALM__FN size_t kalm__run_step(const kalm__layer_run *r, const kalm__chunk *chunk, const kalm__step *step, int what)
{
	const kalm__backend *m = &r->c->backend;
	size_t piece = KALM__ROW_STEP, last = (chunk->n - 1) / piece * piece;
	kalm__step_task task;
	task.run = r;
	task.chunk = chunk;
	task.step = step;
	task.residual = step->into && kalm__is_quantised(step->into->type) ? chunk->residual.count : 0;
	task.rows = chunk->n + task.residual;
	kalm__parallel(&r->c->pool, (chunk->n + piece - 1) / piece, kalm__step_rows, &task);
	(void)what;  /* told to the observer alone */
	if (task.residual)
		kalm__pack(m->kernels, kalm__block_of(step->into->type, task.rows, step->width, step->out), last, task.rows - last,
				   r->c->memory.residual, step->width);
	return task.rows;
}

/* A step into matrix `what`: norm NULL for none; add_norm and `out` are the caller's to set. */
KALM__FN kalm__step kalm__step_into(const kalm__layer_run *r, int what, const float *from, const float *norm, void *out)
{
	kalm__step s;
	s.from = from;
	s.width = r->layer->matrix[what].cols;
	s.add_norm = NULL;
	s.norm = norm;
	s.rotate = r->layer->rotated[what];
	s.into = &r->layer->matrix[what];
	s.out = out;
	return s;
}

/* All rows of the batch from the residual stream, normed and packed for q, k and v, into memory.acts_in. */
KALM__FN void kalm__pack_inputs(const kalm__layer_run *r)
{
	kalm__step s = kalm__step_into(r, KALM__T_Q, r->c->memory.x, r->layer->norm[KALM__T_PRE_ATTENTION], r->c->memory.acts_in);
	kalm__chunk all;
	all.row0 = 0;
	all.n = r->rows;
	all.residual.count = 0;
	(void)kalm__run_step(r, &all, &s, KALM__T_Q);
}

/* More is in docs/KERNELS.md. */
/* The rows of a chunk that are residual rows. Shortens the chunk where they would be too many. */
KALM__FN void kalm__find_residual(const kalm__layer_run *r, kalm__chunk *chunk)
{
	const kalm__memory *m = &r->c->memory;
	kalm__residual *found = &chunk->residual;
	size_t i, step = KALM__ACTS_STEP;
	found->count = 0;
	found->at = chunk->n;
	if (r->side != KALM__DECODER || r->no_residual || !kalm__is_quantised(r->layer->matrix[KALM__T_O].type)) return;
	for (i = 0; i < chunk->n; i++) {
		const kalm__seq *q = &m->seqs[m->row_seq[chunk->row0 + i]];
		if (chunk->row0 + i + 1 != q->row + q->count) continue;
		if (found->count == KALM__MAX_RESIDUAL) {
			found->at = chunk->n = i / step * step;  /* the next chunk must begin at a multiple of step */
			while (found->count && found->row[found->count - 1] >= chunk->n) found->count--;
			return;
		}
		found->row[found->count++] = i;
	}
}

/* ---- keys and values ---- */

typedef struct kalm__rows_task {
	const kalm__layer_run *run;
	const kalm__chunk *chunk;
} kalm__rows_task;

/* Norm and rotate the keys of one row; angles: of its position, or NULL. */
KALM__FN void kalm__finish_keys(const kalm__layer_run *r, float *key, const float *angles)
{
	const kalm__side *s = &r->stack->shape;
	const kalm__ops *ops = r->c->backend.ops;
	size_t h;
	ops->norm_rotate(key, key, r->layer->norm[KALM__T_K_NORM], s->head_dim, s->norm_eps, 1.0f, angles, s->kv_heads);
	for (h = 0; r->heads.rotate && h < s->kv_heads; h++, key += s->head_dim) ops->hadamard(key, key, s->head_dim);
}

/* Norm, rotate and store the keys of 16 rows; the values beside them. */
KALM__FN void kalm__store_keys_task(void *arg, size_t i, unsigned worker)
{
	const kalm__layer_run *r = ((const kalm__rows_task *)arg)->run;
	const kalm__chunk *chunk = ((const kalm__rows_task *)arg)->chunk;
	const kalm__memory *m = &r->c->memory;
	const kalm__side *s = &r->stack->shape;
	const kalm__ops *ops = r->c->backend.ops;
	size_t all = (size_t)s->kv_heads * s->head_dim, k = i * 16, end = kalm__min(k + 16, chunk->n), j, n;
	void *scratch = kalm__scratch(&r->c->backend, worker);
	float *angles = (float *)scratch;
	for (; k < end; k += n) {  /* n rows of one sequence */
		size_t row = chunk->row0 + k;
		const kalm__seq *q = &m->seqs[m->row_seq[row]];
		size_t at = q->position + (row - q->row);
		float *keys = m->h + k * 2 * all;
		kalm__heads heads = r->heads;
		n = kalm__min(end - k, q->row + q->count - row);
		if (at < r->prefix) n = kalm__min(n, r->prefix - at);
		else heads.bits = 0;
		for (j = 0; j < n; j++) {
			kalm__rotary_at(r->rotary, ops, at + j, angles);
			kalm__finish_keys(r, keys + j * 2 * all, angles);
		}
		if (!kalm__store_keys(&heads, ops, &q->self, at, n, keys, keys + all, 2 * all)) m->overflow[row] = 1;
	}
}

/* Norm and pack all rows of the batch, and store their keys and values: those of the first `seqs` sequences. */
KALM__FN void kalm__layer_keys(const kalm__layer_run *r, size_t seqs)
{
	kalm__memory *m = &r->c->memory;
	const kalm__backend *b = &r->c->backend;
	size_t all = (size_t)r->stack->shape.kv_heads * r->stack->shape.head_dim, i;
	kalm__chunk chunk;
	kalm__rows_task task;
	task.run = r;
	task.chunk = &chunk;
	kalm__pack_inputs(r);
	chunk.residual.count = 0;
	for (chunk.row0 = 0; chunk.row0 < r->rows; chunk.row0 += r->c->chunk) {
		chunk.n = kalm__min(r->c->chunk, r->rows - chunk.row0);
		kalm__linear(b, &r->layer->matrix[KALM__T_K], m->acts_in, r->rows, chunk.row0, chunk.n, m->h, 2 * all, NULL);
		kalm__linear(b, &r->layer->matrix[KALM__T_V], m->acts_in, r->rows, chunk.row0, chunk.n, m->h + all, 2 * all, NULL);
		kalm__parallel(&r->c->pool, (chunk.n + 15) / 16, kalm__store_keys_task, &task);
	}
	for (i = 0; i < seqs; i++) kalm__end_keys(&r->heads, &m->seqs[i].self);
}

/* ---- queries and attention ---- */

typedef struct kalm__query_task {
	const kalm__layer_run *run;
	const kalm__chunk *chunk;
	float *q;  /* [n][heads][head_dim] */
} kalm__query_task;

KALM__FN void kalm__rotate_queries_task(void *arg, size_t i, unsigned worker)
{
	const kalm__query_task *t = (const kalm__query_task *)arg;
	const kalm__layer_run *r = t->run;
	const kalm__memory *m = &r->c->memory;
	const kalm__side *s = &r->stack->shape;
	const kalm__ops *ops = r->c->backend.ops;
	size_t dim = s->head_dim, first = i * 16, end = kalm__min(first + 16, t->chunk->n), h, k;
	float scale = kalm__over(1.0f, kalm__root(s->query_scalar));
	void *scratch = kalm__scratch(&r->c->backend, worker);
	float *angles = (float *)scratch;
	for (k = first; k < end; k++) {
		size_t row = t->chunk->row0 + k;
		const kalm__seq *seq = &m->seqs[m->row_seq[row]];
		float *q = t->q + k * s->heads * dim;
		kalm__rotary_at(r->rotary, ops, seq->position + (row - seq->row), angles);
		ops->norm_rotate(q, q, r->layer->norm[KALM__T_Q_NORM], dim, s->norm_eps, scale, angles, s->heads);
		for (h = 0; h < s->heads; h++, q += dim) {
			if (!kalm__is_finite(q[0])) m->overflow[row] = 1;
			if (r->heads.rotate) ops->hadamard(q, q, dim);
		}
	}
}

/* q [chunk][heads][head_dim]: the queries of the chunk, whose rows lie packed in acts_in. */
KALM__FN void kalm__layer_queries(const kalm__layer_run *r, const kalm__chunk *chunk, float *q)
{
	const kalm__side *s = &r->stack->shape;
	kalm__query_task task;
	task.run = r;
	task.chunk = chunk;
	task.q = q;
	kalm__linear(&r->c->backend, &r->layer->matrix[KALM__T_Q], r->c->memory.acts_in, r->rows, chunk->row0, chunk->n, q,
				 (size_t)s->heads * s->head_dim, NULL);
	kalm__parallel(&r->c->pool, (chunk->n + 15) / 16, kalm__rotate_queries_task, &task);
}

typedef struct kalm__attention_work {
	const kalm__layer_run *run;
	const kalm__chunk *chunk;
	const float *q;
	int by_position;  /* q is the queries of one sequence, which all sequences share: row = place in it */
	size_t parts;  /* in memory.parts: see kalm__part */
} kalm__attention_work;

KALM__FN void kalm__attention_task(void *arg, size_t i, unsigned worker)
{
	const kalm__attention_work *w = (const kalm__attention_work *)arg;
	const kalm__layer_run *r = w->run;
	const kalm__side *s = &r->stack->shape;
	const kalm__memory *m = &r->c->memory;
	size_t low = 0, high = w->parts, block = kalm__query_block(&r->heads), query, row = (size_t)s->heads * s->head_dim;
	const kalm__part *p;
	const kalm__seq *q;
	kalm__attention a;
	while (high - low > 1) {  /* the part that task i belongs to */
		size_t middle = (low + high) / 2;
		if (m->parts[middle].task <= i) low = middle;
		else high = middle;
	}
	p = &m->parts[low];
	q = &m->seqs[p->seq];
	i -= p->task;
	query = i / s->kv_heads * block;
	a.backend = &r->c->backend;
	a.shape = r->heads;
	a.cross = q->cross;
	a.self = q->self;
	if (r->layer->full) {
		a.left = SIZE_MAX;
		a.right = r->side == KALM__ENCODER ? SIZE_MAX : 0;
	} else if (r->side == KALM__ENCODER) {  /* a window of w keys: (w + 1) / 2 - 1 to the left and w / 2 to the right */
		a.left = (size_t)(s->window + 1) / 2 - 1;
		a.right = (size_t)s->window / 2;
	} else {
		a.left = (size_t)s->window - 1;
		a.right = 0;
	}
	a.position = q->position + (p->row - q->row);
	a.q = w->q + (w->by_position ? p->row - q->row : p->row - w->chunk->row0) * row;
	a.out = m->attended + (p->row - w->chunk->row0) * row;
	kalm__attend(&a, query, kalm__min(block, p->count - query), i % s->kv_heads, kalm__scratch(&r->c->backend, worker));
}

/* Attention of all queries of the chunk into memory.attended. `shared`: queries that all sequences have in common; NULL: the
	chunk's own are in memory.q. */
KALM__FN void kalm__layer_attention(const kalm__layer_run *r, const kalm__chunk *chunk, const float *shared)
{
	const kalm__side *s = &r->stack->shape;
	kalm__memory *m = &r->c->memory;
	size_t row = chunk->row0, tasks = 0, block = kalm__query_block(&r->heads);
	kalm__attention_work work;
	work.run = r;
	work.chunk = chunk;
	work.q = shared ? shared : m->q;
	work.by_position = shared != NULL;
	work.parts = 0;
	while (row < chunk->row0 + chunk->n) {
		kalm__part *p = &m->parts[work.parts++];
		const kalm__seq *q;
		p->seq = m->row_seq[row];
		q = &m->seqs[p->seq];
		p->row = row;
		p->count = kalm__min(q->row + q->count, chunk->row0 + chunk->n) - row;
		p->task = tasks;
		tasks += (p->count + block - 1) / block * s->kv_heads;
		kalm__pool_announce(&r->c->pool, p->count, 2 * (q->self.count + q->cross.count) * s->heads * s->head_dim);
		row += p->count;
	}
	kalm__parallel(&r->c->pool, tasks, kalm__attention_task, &work);
}

/* ---- the rest of the layer ---- */

/* Rows of the next chunk of at most `most` when `left` are left: equal chunks, since a short last one would use the kernels badly. */
KALM__FN size_t kalm__even_chunk(size_t most, size_t left)
{
	size_t chunks = (left + most - 1) / most;
	return kalm__min(left, kalm__round_up((left + chunks - 1) / chunks, KALM__ACTS_STEP));
}

/* The chunk's residual rows, where the step before has packed them: float and quantised matrices may stand in one layer. */
KALM__INLINE const kalm__residual *kalm__step_residual(const kalm__chunk *chunk, size_t n)
{
	return n > chunk->n ? &chunk->residual : NULL;
}

/* Everything behind the attention of a chunk: o, then the MLP, both added to the residual stream. */
KALM__FN void kalm__layer_mlp(const kalm__layer_run *r, const kalm__chunk *chunk)
{
	kalm__memory *m = &r->c->memory;
	const kalm__backend *b = &r->c->backend;
	const kalm__layer *l = r->layer;
	size_t hidden_size = r->c->model->file.shape.hidden_size, n;
	kalm__step into_o = kalm__step_into(r, KALM__T_O, m->attended, NULL, m->acts);
	kalm__step into_mlp = kalm__step_into(r, KALM__T_GATE, m->y, l->norm[KALM__T_PRE_MLP], m->acts);
	kalm__step into_down = kalm__step_into(r, KALM__T_DOWN, m->h, NULL, m->acts);
	kalm__step into_stream;
	into_mlp.add_norm = l->norm[KALM__T_POST_ATTENTION];
	memset(&into_stream, 0, sizeof into_stream);
	into_stream.from = m->y;
	into_stream.width = hidden_size;
	into_stream.add_norm = l->norm[KALM__T_POST_MLP];

	n = kalm__run_step(r, chunk, &into_o, KALM__T_O);
	kalm__linear(b, &l->matrix[KALM__T_O], m->acts, n, 0, n, m->y, hidden_size, kalm__step_residual(chunk, n));
	n = kalm__run_step(r, chunk, &into_mlp, KALM__T_GATE);
	kalm__gated(b, &l->matrix[KALM__T_GATE], &l->matrix[KALM__T_UP], m->acts, n, 0, n, m->h, r->stack->shape.mlp,
				kalm__step_residual(chunk, n), into_down.rotate);
	into_down.rotate = 0;
	n = kalm__run_step(r, chunk, &into_down, KALM__T_DOWN);
	kalm__linear(b, &l->matrix[KALM__T_DOWN], m->acts, n, 0, n, m->y, hidden_size, kalm__step_residual(chunk, n));
	(void)kalm__run_step(r, chunk, &into_stream, -1);
}

/* The layer for all rows of the batch, whose keys are stored and whose inputs lie packed in acts_in. `shared`: see
	kalm__layer_attention. */
KALM__FN void kalm__layer_rows(const kalm__layer_run *r, const float *shared)
{
	kalm__chunk chunk;
	for (chunk.row0 = 0; chunk.row0 < r->rows; chunk.row0 += chunk.n) {
		chunk.n = kalm__even_chunk(r->c->chunk, r->rows - chunk.row0);
		kalm__find_residual(r, &chunk);
		if (!shared) kalm__layer_queries(r, &chunk, r->c->memory.q);
		kalm__layer_attention(r, &chunk, shared);
		kalm__layer_mlp(r, &chunk);
	}
}

/* ---- tokens into rows ---- */

/* x [hidden_size] = embedding[id] * sqrt(hidden_size); the end-of-image token has a vector of its own, unscaled. id is in the
	vocabulary. */
KALM__FN void kalm__embed(const kalm__file *f, int side, int32_t id, float *x)
{
	const kalm__stack *s = &f->stack[side];
	size_t hidden_size = f->shape.hidden_size, i;
	float scale = kalm__root((float)hidden_size);
	if ((uint32_t)id == f->shape.eoi_id && s->eoi) {
		memcpy(x, s->eoi, hidden_size * sizeof(float));
		return;
	}
	kalm__embedding_row(s->embed_type, s->embed + (size_t)id * s->embed_row, hidden_size, x);
	for (i = 0; i < hidden_size; i++) x[i] *= scale;
}

/* ---- begin src/documents.h ---- */
/* documents.h - an encoded document is its bytes. This part says how they lie, writes and reads rows, and checks bytes that
	come from a stranger. It does not know how rows are computed or used. */
/* More is in docs/FORMAT.md. */
#define KALM__DOCUMENTS_H


#define KALM__DOC_HEADER 64u
#define KALM__DOC_VERSION 2u
#define KALM__DOC_GROUP 64u

struct kalm_doc {
	kalm_allocator alloc;
	size_t block;  /* bytes of this block, the document's own bytes included when not borrowed */
	const unsigned char *bytes;
	size_t size;
	kalm_doc_info info;
};

KALM__FN kalm_result kalm__no_rowcode(kalm_result code, uint32_t bits, kalm_error *err)
{
	return kalm__fail(err, code, "rows of %u bits need a model file with the section ROWS: convert the checkpoint again "
					  "with this version's kalm-quantize, without --no-rows", bits);
}

/* Bytes of a row; 0 for bits that are none. */
KALM__FN size_t kalm__doc_row_bytes(size_t width, uint32_t bits)
{
	if (bits == 32) return width * 4;
	if (bits == 16) return width * 2;
	if (kalm__is_coded(bits)) return kalm__coded_row_bytes(width, bits);
	return bits == 8 ? (width + KALM__DOC_GROUP - 1) / KALM__DOC_GROUP * 2 + width : 0;
}

#define KALM__NOT_FINITE ((uint16_t)0x7e00u)  /* a half that is none */

/* A row of 32, 16 or 8 bits. One whose numbers are not finite (infinite, or no number at all) is written as such, for
	kalm__doc_overflow to find. */
KALM__FN void kalm__doc_write_row(unsigned char *out, const float *x, size_t width, uint32_t bits)
{
	size_t i, g;
	if (bits == 32) {
		for (i = 0; i < width; i++) kalm__put_f32(out + 4 * i, x[i]);
		return;
	}
	if (bits == 16) {
		for (i = 0; i < width; i++) {
			float v = x[i] > 65504.0f ? 65504.0f : x[i] < -65504.0f ? -65504.0f : x[i];
			uint16_t h = kalm__to_f16(kalm__is_finite(x[i]) ? v : x[i]);
			out[2 * i] = (unsigned char)h;
			out[2 * i + 1] = (unsigned char)(h >> 8);
		}
		return;
	}
	for (g = 0; g * KALM__DOC_GROUP < width; g++) {
		size_t first = g * KALM__DOC_GROUP, end = kalm__min(first + KALM__DOC_GROUP, width);
		unsigned char *q = out + (width + KALM__DOC_GROUP - 1) / KALM__DOC_GROUP * 2;
		float most = 0.0f, scale;
		int finite = 1;
		uint16_t h;
		for (i = first; i < end; i++) {
			most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
			finite &= kalm__is_finite(x[i]);
		}
		scale = kalm__over(most, 127.0f);
		h = finite ? kalm__to_f16(scale > 65504.0f ? 65504.0f : scale) : KALM__NOT_FINITE;
		scale = kalm__from_f16(h);
		out[2 * g] = (unsigned char)h;
		out[2 * g + 1] = (unsigned char)(h >> 8);
		for (i = first; i < end; i++) {
			float v = scale > 0.0f ? kalm__over(x[i], scale) : 0.0f;
			v = v > 127.0f ? 127.0f : v >= -127.0f ? v : -127.0f;  /* NaN as well */
			q[i] = (unsigned char)(int8_t)kalm__rounded(v < 0.0f ? v - 0.5f : v + 0.5f);
		}
	}
}

/* A row of a document of 32, 16 or 8 bits. */
KALM__FN void kalm__doc_read_row(const kalm_doc *doc, size_t row, float *x)
{
	size_t width = doc->info.width, i;
	const unsigned char *p = doc->bytes + KALM__DOC_HEADER + row * kalm__doc_row_bytes(width, doc->info.bits);
	if (doc->info.bits == 32)
		for (i = 0; i < width; i++) x[i] = kalm__f32(p + 4 * i);
	else if (doc->info.bits == 16)
		for (i = 0; i < width; i++) x[i] = kalm__from_f16((uint16_t)kalm__u16(p + 2 * i));
	else {
		const unsigned char *q = p + (width + KALM__DOC_GROUP - 1) / KALM__DOC_GROUP * 2;
		for (i = 0; i < width; i++)
			x[i] = kalm__from_f16((uint16_t)kalm__u16(p + i / KALM__DOC_GROUP * 2)) *
				   (float)(q[i] < 128 ? (int)q[i] : (int)q[i] - 256);
	}
}

/* Whether `count` floats or halves, little-endian, are all finite: exponent bits that are all ones carry into the bit above
	when one is added to them. */
KALM__FN int kalm__all_finite(const unsigned char *p, size_t count, int halves)
{
	const uint64_t exponent = halves ? 0x7c007c007c007c00u : 0x7f8000007f800000u;
	const uint64_t one = halves ? 0x0400040004000400u : 0x0080000000800000u;
	const uint64_t above = halves ? 0x8000800080008000u : 0x8000000080000000u;
	size_t bytes = count * (halves ? 2 : 4), i = 0, k;
	uint64_t bad = 0;
	for (; i + 32 <= bytes; i += 32)
		bad |= ((kalm__u64(p + i) & exponent) + one) | ((kalm__u64(p + i + 8) & exponent) + one) |
			   ((kalm__u64(p + i + 16) & exponent) + one) | ((kalm__u64(p + i + 24) & exponent) + one);
	for (; i + 8 <= bytes; i += 8) bad |= (kalm__u64(p + i) & exponent) + one;
	if (i < bytes) {
		uint64_t last = 0;
		for (k = i; k < bytes; k++) last |= (uint64_t)p[k] << (k - i) * 8;
		bad |= (last & exponent) + one;
	}
	return (bad & above) == 0;
}

/* The first row with a number that is not finite; info->rows where there is none. */
KALM__FN uint32_t kalm__doc_overflow(const unsigned char *rows, const kalm_doc_info *info)
{
	size_t size = kalm__doc_row_bytes(info->width, info->bits);
	size_t numbers = info->bits == 8 ? (info->width + KALM__DOC_GROUP - 1) / KALM__DOC_GROUP : info->width;
	uint32_t i = 0;
	if (kalm__is_coded(info->bits)) {  /* these say finite numbers, but for the mark of kalm__doc_write_rows */
		while (i < info->rows && rows[i * size]) i++;
		return i;
	}
	while (i < info->rows && kalm__all_finite(rows + i * size, numbers, info->bits != 32)) i++;
	return i;
}

/* Rows of 4, 3 or 2 bits: n of them, from x [n][width], which are used up; `out` has their bytes one behind the other. Rows with
	numbers that are not finite begin with a zero, which no other does. */
KALM__FN void kalm__doc_write_rows(const kalm__rowcode *c, const kalm__kernels *k, const kalm__row_work *w, unsigned char *out,
								   float *x, size_t n, uint32_t bits, uint32_t ratio)
{
	size_t size = kalm__coded_row_bytes(c->width, bits), i, j, some;
	for (; n; n -= some, x += some * c->width) {
		uint32_t finite = 0;
		some = kalm__min(n, KALM__ROWS_TOGETHER);
		for (i = 0; i < some; i++) {
			const float *row = x + i * c->width;
			for (j = 0; j < c->width && kalm__is_finite(row[j]); j++) { }
			finite |= (uint32_t)(j == c->width) << i;
		}
		kalm__rows_to_components(c, k, w, w->y, x, some);
		kalm__row_code(c, k->ops, w, 4 - bits, kalm__ratio_class(ratio), w->y, some, out);
		for (i = 0; i < some; i++, out += size)
			if (!(finite >> i & 1)) memset(out, 0, size);
	}
}

/* n rows from `first` on into x [n][width], whatever their bits. */
KALM__FN void kalm__doc_read_rows(const kalm__rowcode *c, const kalm__kernels *k, const kalm__row_work *w, const kalm_doc *doc,
								  size_t first, size_t n, float *x)
{
	size_t width = doc->info.width, size = kalm__doc_row_bytes(width, doc->info.bits), some, i;
	const unsigned char *p = doc->bytes + KALM__DOC_HEADER + first * size;
	unsigned r = kalm__ratio_class(doc->info.ratio);
	if (!kalm__is_coded(doc->info.bits)) {
		for (i = 0; i < n; i++) kalm__doc_read_row(doc, first + i, x + i * width);
		return;
	}
	for (; n; n -= some, x += some * width) {
		some = kalm__min(n, KALM__ROWS_TOGETHER);
		for (i = 0; i < some; i++, p += size) kalm__row_read(c, 4 - doc->info.bits, r, p, size, w->y + i * width);
		kalm__rows_from_components(c, k, w, x, w->y, some);
	}
}

KALM__FN void kalm__doc_release(kalm_doc *doc)
{
	kalm_allocator alloc;
	if (!doc) return;
	alloc = doc->alloc;
	kalm__release(&alloc, doc, doc->block);
}

KALM__FN uint64_t kalm__doc_checksum(const unsigned char *bytes, size_t size)
{
	unsigned char head[KALM__DOC_HEADER];
	kalm__hasher h;
	memcpy(head, bytes, sizeof head);
	memset(head + 40, 0, 8);
	kalm__hash_begin(&h);
	kalm__hash_add(&h, head, sizeof head);
	kalm__hash_add(&h, bytes + sizeof head, size - sizeof head);
	return kalm__hash_end(&h);
}

/* A document of its own bytes with the header written and rows to fill in; NULL when memory is short. */
KALM__FN kalm_doc *kalm__doc_new(const kalm_allocator *alloc, const kalm_doc_info *info, unsigned char **rows)
{
	size_t own = kalm__round_up(sizeof(kalm_doc), 64), row = kalm__doc_row_bytes(info->width, info->bits);
	size_t size = kalm__add(kalm__mul(info->rows, row), KALM__DOC_HEADER), block = kalm__add(size, own);
	kalm_doc *doc = (kalm_doc *)kalm__alloc(alloc, block);
	unsigned char *p;
	if (!doc) return NULL;
	doc->alloc = *alloc;
	doc->block = block;
	doc->size = size;
	doc->info = *info;
	p = (unsigned char *)doc + own;
	doc->bytes = p;
	memset(p, 0, KALM__DOC_HEADER);
	memcpy(p, "KDOC", 4);
	kalm__put_u32(p + 4, kalm__is_coded(info->bits) ? 2u : 1u);
	kalm__put_u64(p + 8, info->fingerprint);
	kalm__put_u32(p + 16, info->tokens);
	kalm__put_u32(p + 20, info->tokens_used);
	kalm__put_u32(p + 24, info->ratio);
	kalm__put_u32(p + 28, info->rows);
	kalm__put_u32(p + 32, info->width);
	kalm__put_u32(p + 36, info->bits);
	kalm__put_u64(p + 48, info->vocabulary);
	kalm__put_u64(p + 56, info->transform);
	*rows = p + KALM__DOC_HEADER;
	return doc;
}

/* Once the rows are written. `rows` as kalm__doc_new gave it. */
KALM__FN void kalm__doc_seal(kalm_doc *doc, unsigned char *rows)
{
	kalm__put_u64(rows - KALM__DOC_HEADER + 40, kalm__doc_checksum(doc->bytes, doc->size));
}

/* Everything a stranger's bytes must satisfy before anyone reads a row. transform: the hash of the model's section ROWS, 0 where it
	has none; NULL: the model is not at hand, and any will do. */
KALM__FN kalm_result kalm__doc_check(const unsigned char *p, size_t size, kalm_doc_info *info, uint64_t fingerprint,
									 uint32_t width, const uint64_t *transform, kalm_error *err)
{
	uint64_t need;
	uint32_t bad;
	if (size < KALM__DOC_HEADER || memcmp(p, "KDOC", 4) != 0)
		return kalm__fail(err, KALM_BAD_FILE, "these %z bytes are no encoded document", size);
	if (!kalm__u32(p + 4) || kalm__u32(p + 4) > KALM__DOC_VERSION)
		return kalm__fail(err, KALM_BAD_VERSION, "the document has format version %u, this library reads %u", kalm__u32(p + 4),
						  KALM__DOC_VERSION);
	info->fingerprint = kalm__u64(p + 8);
	info->tokens = kalm__u32(p + 16);
	info->tokens_used = kalm__u32(p + 20);
	info->ratio = kalm__u32(p + 24);
	info->rows = kalm__u32(p + 28);
	info->width = kalm__u32(p + 32);
	info->bits = kalm__u32(p + 36);
	info->vocabulary = kalm__u64(p + 48);
	info->transform = kalm__u64(p + 56);
	if (info->fingerprint != fingerprint)
		return kalm__fail(err, KALM_MISMATCH, "the document was made by model %X, this one is %X", info->fingerprint, fingerprint);
	if (kalm__u32(p + 4) == 1 && kalm__u64(p + 56))
		return kalm__fail(err, KALM_BAD_FILE, "bytes 56 to 63 of the document's header are not zero");
	if (info->width != width || !kalm__doc_row_bytes(info->width, info->bits))
		return kalm__fail(err, KALM_BAD_FILE, "the document has rows of %u numbers of %u bits, the model has %u", info->width,
						  info->bits, width);
	if (kalm__is_coded(info->bits) != (kalm__u32(p + 4) == 2) || (!info->transform) != !kalm__is_coded(info->bits))
		return kalm__fail(err, KALM_BAD_FILE, "the document has rows of %u bits in format version %u and transform %X", info->bits,
						  kalm__u32(p + 4), info->transform);
	if (transform && info->transform && !*transform) return kalm__no_rowcode(KALM_MISMATCH, info->bits, err);
	if (transform && info->transform && info->transform != *transform)
		return kalm__fail(err, KALM_MISMATCH, "the document's rows of %u bits were made with transform %X, the model file has %X",
						  info->bits, info->transform, *transform);
	if (!info->ratio || !info->tokens_used || info->tokens_used > info->tokens ||
		info->rows != (info->tokens_used - 1) / info->ratio + 1)
		return kalm__fail(err, KALM_BAD_FILE, "the document says %u rows of %u tokens for %u of %u tokens", info->rows,
						  info->ratio, info->tokens_used, info->tokens);
	need = KALM__DOC_HEADER + (uint64_t)info->rows * kalm__doc_row_bytes(info->width, info->bits);
	if (size != need)
		return kalm__fail(err, KALM_BAD_FILE, "the document has %z bytes, its header asks for %U", size, need);
	if (kalm__doc_checksum(p, size) != kalm__u64(p + 40))
		return kalm__fail(err, KALM_BAD_FILE, "the document is damaged: its checksum does not match");
	bad = kalm__doc_overflow(p + KALM__DOC_HEADER, info);
	if (bad < info->rows) return kalm__fail(err, KALM_BAD_FILE, "row %u of the document has a number that is not finite", bad);
	return KALM_OK;
}

/* ---- begin src/encoder.h ---- */
/* encoder.h - from the tokens of texts to documents: a batch of texts goes through the encoder's layers, and the rows that
	come out are pooled, `ratio` of them to one row of the document (Matryoshka embedding pooling, MEP: the plain mean). Also
	what calls of the user have in common: progress and the numbering of documents. */
#define KALM__ENCODER_H


/* One call of the caller's: how it wants things done, how far it is, and how it numbers the documents at hand. */
typedef struct kalm__job {
	const kalm_params *params;  /* checked, zeros replaced by defaults */
	size_t done, total;  /* of what the progress callback is told: layers x documents */
	const uint32_t *place;  /* the caller's number of each document at hand; NULL: base, base + 1, ... */
	size_t base;
} kalm__job;

KALM__FN void kalm__job_begin(kalm__job *j, const kalm_params *params, size_t documents, size_t layers)
{
	memset(j, 0, sizeof *j);
	j->params = params;
	j->total = kalm__mul(documents, layers);
}

KALM__INLINE size_t kalm__job_number(const kalm__job *j, size_t item) { return j->place ? j->place[item] : j->base + item; }

/* Shall the job go on? Asked in the middle of a layer, or of a long text. */
KALM__FN int kalm__ask_progress(void *user)
{
	const kalm__job *j = (const kalm__job *)user;
	return j->params->progress(j->params->progress_user, j->done, kalm__max(j->done, j->total));
}

/* A forward pass begins, in which the job may be stopped. */
KALM__FN void kalm__job_watch(kalm__job *j, kalm_context *c)
{
	kalm__pool_watch(&c->pool, j->params->progress ? kalm__ask_progress : NULL, j);
}

KALM__FN kalm_result kalm__job_cancelled(kalm_error *err)
{
	return kalm__fail(err, KALM_CANCELLED, "cancelled by the progress callback");
}

/* The forward pass has ended, with `result`. */
KALM__FN kalm_result kalm__job_unwatch(kalm_context *c, kalm_result result)
{
	kalm__pool_watch(&c->pool, NULL, NULL);
	return result;
}

/* One layer is done with `documents` more. */
KALM__FN kalm_result kalm__job_step(kalm__job *j, size_t documents, kalm_error *err)
{
	j->done += documents;
	if (j->params->progress && j->params->progress(j->params->progress_user, j->done, kalm__max(j->done, j->total)))
		return kalm__job_cancelled(err);
	return KALM_OK;
}

/* The same, where no row of the batch at hand has overflowed: else the document is named. */
KALM__FN kalm_result kalm__layer_end(const kalm__layer_run *r, kalm__job *j, size_t documents, kalm_error *err)
{
	const kalm__memory *m = &r->c->memory;
	const void *found = memchr(m->overflow, 1, r->rows);
	if (r->c->pool.stopped) return kalm__job_cancelled(err);
	if (found) {
		size_t row = (size_t)((const uint8_t *)found - m->overflow);
		return kalm__fail(err, KALM_OVERFLOW, "numbers overflowed in document %z: a token, key, value or query is not finite",
						  kalm__job_number(j, m->seqs[m->row_seq[row]].item));
	}
	return kalm__job_step(j, documents, err);
}

/* Sequences that go through a stack together, their rows one behind the other. */
typedef struct kalm__batch {
	kalm_context *c;
	size_t rows, seqs;  /* so far; the sequences are in memory.seqs */
	size_t limit;  /* rows it may have: the context's rows, or prompt_rows in the decoder */
	size_t self_room;  /* room for keys that is handed out in memory.self, in keys */
	const int32_t *ids;  /* [rows] */
} kalm__batch;

/* One more sequence of `count` rows at `position`; 0 when the batch is full. */
KALM__FN int kalm__batch_add(kalm__batch *b, size_t count, size_t position, size_t item)
{
	kalm__memory *m = &b->c->memory;
	size_t room = kalm__round_up(position + count, KALM__KEY_STEP), i;
	kalm__seq *q;
	if (room > b->limit - b->self_room || count > b->limit - b->rows || b->seqs == b->limit / KALM__KEY_STEP)
		return 0;
	q = &m->seqs[b->seqs];
	memset(q, 0, sizeof *q);
	q->row = b->rows;
	q->count = count;
	q->position = position;
	q->item = item;
	q->self.count = position + count;
	q->self.capacity = room;
	q->place = b->self_room;
	for (i = 0; i < count; i++) m->row_seq[b->rows + i] = (uint32_t)b->seqs;
	b->rows += count;
	b->self_room += room;
	b->seqs++;
	return 1;
}

KALM__FN void kalm__embed_task(void *arg, size_t i, unsigned worker)
{
	const kalm__batch *b = (const kalm__batch *)arg;
	size_t first = i * 16, end = kalm__min(first + 16, b->rows), hidden_size = b->c->model->file.shape.hidden_size;
	(void)worker;
	for (; first < end; first++)
		kalm__embed(&b->c->model->file, KALM__ENCODER, b->ids[first], b->c->memory.x + first * hidden_size);
}

/* The forward pass of the encoder: the tokens of a batch through all layers. x then holds the residual stream before the
	final norm. */
KALM__FN kalm_result kalm__encode_batch(kalm__batch *b, kalm__job *job, kalm_error *err)
{
	kalm_context *c = b->c;
	kalm_result result = KALM_OK;
	uint32_t l;
	kalm__job_watch(job, c);
	memset(c->memory.overflow, 0, c->rows);
	kalm__parallel(&c->pool, (b->rows + 15) / 16, kalm__embed_task, b);
	for (l = 0; l < c->model->file.stack[KALM__ENCODER].shape.layers && !result; l++) {
		kalm__layer_run r;
		kalm__layer_begin(&r, c, KALM__ENCODER, l, b->rows, b->seqs);
		kalm__place_keys(&r);
		kalm__layer_keys(&r, b->seqs);
		kalm__layer_rows(&r, NULL);
		result = kalm__layer_end(&r, job, b->seqs, err);
	}
	return kalm__job_unwatch(c, result);
}

typedef struct kalm__pooling {
	kalm_context *c;
	const kalm__seq *seq;
	size_t ratio, row_bytes;
	size_t count, step;  /* rows of the document, and of a task: coded rows are made several at a time */
	uint32_t bits;
	unsigned char *rows;
} kalm__pooling;

/* Rows [i * step, (i + 1) * step) of a document. Row j is the mean of the rows [j * ratio, (j + 1) * ratio) of the text, as far
	as it goes, each normed first. */
KALM__FN void kalm__pool_task(void *arg, size_t i, unsigned worker)
{
	const kalm__pooling *p = (const kalm__pooling *)arg;
	const kalm__file *f = &p->c->model->file;
	const kalm__ops *ops = p->c->backend.ops;
	const kalm__stack *s = &f->stack[KALM__ENCODER];
	size_t hidden_size = f->shape.hidden_size, at = i * p->step, n = kalm__min(p->step, p->count - at), j, k;
	void *scratch = kalm__scratch(&p->c->backend, worker);
	float *sums = (float *)scratch, *row = sums + p->step * hidden_size;
	for (j = 0; j < n; j++) {
		float *sum = sums + j * hidden_size;
		size_t first = (at + j) * p->ratio, end = kalm__min(first + p->ratio, p->seq->count);
		memset(sum, 0, hidden_size * sizeof(float));
		for (k = first; k < end; k++) {
			ops->rms_norm(row, p->c->memory.x + (p->seq->row + k) * hidden_size, s->norm, hidden_size, s->shape.norm_eps, 1);
			ops->scale_add(sum, 1.0f, row, hidden_size);
		}
		ops->scale_row(sum, sum, kalm__over(1.0f, (float)(end - first)), hidden_size);
	}
	if (kalm__is_coded(p->bits)) {
		kalm__row_work work = kalm__context_row_work(p->c, worker);
		kalm__doc_write_rows(&f->rows, p->c->backend.kernels, &work, p->rows + at * p->row_bytes, sums, n, p->bits,
							 (uint32_t)p->ratio);
	} else kalm__doc_write_row(p->rows + at * p->row_bytes, sums, hidden_size, p->bits);
}

/* The document of sequence `seq` of an encoded batch into *doc; `number` is its place in the caller's array. */
KALM__FN kalm_result kalm__pool_document(kalm_context *c, const kalm__seq *seq, size_t number, uint32_t ratio, uint32_t bits,
										 kalm_doc **doc, kalm_error *err)
{
	kalm_doc_info info;
	kalm__pooling p;
	uint32_t bad;
	memset(&info, 0, sizeof info);
	info.tokens = (uint32_t)kalm__min(seq->tokens, UINT32_MAX);
	info.tokens_used = (uint32_t)seq->count;
	info.ratio = ratio;
	info.rows = (uint32_t)((seq->count - 1) / ratio + 1);
	info.width = c->model->file.shape.hidden_size;
	info.bits = bits;
	info.fingerprint = c->model->file.fingerprint;
	info.vocabulary = c->model->file.vocabulary;
	info.transform = kalm__is_coded(bits) ? c->model->file.rows.fingerprint : 0;
	*doc = kalm__doc_new(&c->alloc, &info, &p.rows);
	if (!*doc) return kalm__fail(err, KALM_NO_MEMORY, "no memory for document %z of %z tokens", number, seq->count);
	p.c = c;
	p.seq = seq;
	p.ratio = ratio;
	p.bits = bits;
	p.row_bytes = kalm__doc_row_bytes(info.width, bits);
	p.count = info.rows;
	p.step = kalm__is_coded(bits) ? KALM__ROWS_TOGETHER : 1;
	kalm__parallel(&c->pool, (p.count + p.step - 1) / p.step, kalm__pool_task, &p);
	bad = kalm__doc_overflow(p.rows, &info);
	if (bad < info.rows) {
		kalm__doc_release(*doc);
		*doc = NULL;
		return kalm__fail(err, KALM_OVERFLOW, "numbers overflowed in document %z: row %u is not finite", number, bad);
	}
	kalm__doc_seal(*doc, p.rows);
	return KALM_OK;
}

/* ---- begin src/decoder.h ---- */
/* decoder.h - the forward pass of the decoder: the tokens of a prompt and the rows of documents through all layers, to the
	margin. In every layer each token of the prompt attends to the rows of its document and to the tokens before it, under one
	softmax (merged attention). All documents of a batch get the same prompt, each in a sequence of its own.

	Work that documents share is done once: in layer 0 the prompt's keys, values and queries depend on no document. In the last
	layer only the last token is read, so only it has a query.

	A pass begins from nothing, or from the states of documents (state.h), or makes these. scoring.h chooses the documents. */
#define KALM__DECODER_H


/* A batch at work. memory.seqs has a sequence for each document: `item` is its place in docs. */
typedef struct kalm__decoding {
	kalm_context *c;
	const int32_t *ids;  /* [tokens]: those to run, at positions first, first + 1, ... */
	size_t tokens, first;
	size_t prefix;  /* the prompt's first tokens, whose keys states hold; 0: there are no states */
	const kalm_doc *const *docs;
	kalm__batch batch;
	int warm;  /* the documents' keys come from states */
	size_t doc_rows;  /* rows of all documents of the batch, packed in acts_doc */
	size_t cross_room;  /* capacity handed out in memory.cross */
	size_t parts;  /* 2 beside quantised weights: the rows, then their residual rows, what rounding lost */
	size_t residual, in_all;  /* the first residual row in acts_doc, and the number of all rows there */
} kalm__decoding;

/* ---- document rows ---- */

/* The sequence that row i of the batch's documents, in the order of the sequences, belongs to, and its number there. */
KALM__FN const kalm__seq *kalm__doc_row_seq(const kalm__decoding *d, size_t i, size_t *within)
{
	const kalm__seq *q = d->c->memory.seqs;
	while (i >= q->cross.count) {
		i -= q->cross.count;
		q++;
	}
	*within = i;
	return q;
}

/* Read rows of documents, rotate them where the matrices want that, and pack them, once for all layers. All that is known of a
	document passes through them, so beside quantised weights they are residual rows: packed twice, the second time what rounding
	lost the first time (two-term quantisation). */
KALM__FN void kalm__pack_docs_task(void *arg, size_t i, unsigned worker)
{
	const kalm__decoding *d = (const kalm__decoding *)arg;
	const kalm__backend *m = &d->c->backend;
	const kalm__layer *l = &d->c->model->file.stack[KALM__DECODER].layers[0];
	uint32_t type = l->matrix[KALM__T_K].type;
	size_t step = KALM__ROW_STEP, first = i * step, count = kalm__min(step, d->doc_rows - first), hidden_size, k, n, within;
	void *scratch = kalm__scratch(m, worker);
	float *rows = (float *)scratch;
	kalm__row_work work;
	hidden_size = d->c->model->file.shape.hidden_size;
	if (d->c->model->file.rows.fingerprint) work = kalm__context_row_work(d->c, worker);
	for (k = 0; k < count; k += n) {  /* n rows of one document */
		const kalm__seq *q = kalm__doc_row_seq(d, first + k, &within);
		n = kalm__min(count - k, q->cross.count - within);
		kalm__doc_read_rows(&d->c->model->file.rows, m->kernels, &work, d->docs[q->item], within, n, rows + k * hidden_size);
	}
	for (k = 0; k < count && l->rotated[KALM__T_K]; k++)
		m->ops->hadamard(rows + k * hidden_size, rows + k * hidden_size, hidden_size);
	if (d->parts == 1) {
		kalm__pack(m->kernels, kalm__block_of(type, d->in_all, hidden_size, d->c->memory.acts_doc), first, count,
				   rows, hidden_size);
		return;
	}
	memset(rows + count * hidden_size, 0, (step - count) * hidden_size * sizeof(float));  /* fills up to the residual rows */
	kalm__pack(m->kernels, kalm__block_of(type, d->in_all, hidden_size, d->c->memory.acts_doc), first, step, rows, hidden_size);
	for (k = 0; k < count; k++) m->ops->rounding_loss(rows + k * hidden_size, rows + k * hidden_size, hidden_size);
	kalm__pack(m->kernels, kalm__block_of(type, d->in_all, hidden_size, d->c->memory.acts_doc), d->residual + first, count,
			   rows, hidden_size);
}

KALM__FN void kalm__pack_docs(kalm__decoding *d)
{
	kalm_context *c = d->c;
	size_t step = KALM__ROW_STEP;
	d->parts = kalm__is_quantised(c->model->file.stack[KALM__DECODER].layers[0].matrix[KALM__T_K].type) ? 2 : 1;
	d->residual = d->parts == 2 ? kalm__round_up(d->doc_rows, step) : d->doc_rows;
	d->in_all = d->parts == 2 ? d->residual + d->doc_rows : d->doc_rows;
	kalm__parallel(&c->pool, (d->doc_rows + step - 1) / step, kalm__pack_docs_task, d);
}

typedef struct kalm__doc_chunk {
	const kalm__decoding *d;
	const kalm__layer_run *run;
	size_t row0, n;  /* of the batch's document rows */
} kalm__doc_chunk;

KALM__FN void kalm__store_docs_task(void *arg, size_t i, unsigned worker)
{
	const kalm__doc_chunk *chunk = (const kalm__doc_chunk *)arg;
	const kalm__decoding *d = chunk->d;
	const kalm__layer_run *r = chunk->run;
	const kalm__side *s = &r->stack->shape;
	const kalm__ops *ops = d->c->backend.ops;
	size_t all = (size_t)s->kv_heads * s->head_dim, k = i * 16, end = kalm__min(k + 16, chunk->n), j, n, within;
	kalm__heads heads = r->heads;
	(void)worker;
	if (!d->prefix) heads.bits = 0;
	for (; k < end; k += n) {  /* n rows of one document */
		const kalm__seq *q = kalm__doc_row_seq(d, chunk->row0 + k, &within);
		float *keys = d->c->memory.h + k * 2 * all, *second = d->c->memory.h + (d->c->chunk + k) * 2 * all;
		n = kalm__min(end - k, q->cross.count - within);
		for (j = 0; j < n; j++) {
			float *key = keys + j * 2 * all;
			if (d->parts == 2) ops->scale_add(key, 1.0f, second + j * 2 * all, 2 * all);
			kalm__finish_keys(r, key, NULL);
		}
		if (!kalm__store_keys(&heads, ops, &q->cross, within, n, keys, keys + all, 2 * all))
			d->c->memory.overflow[d->c->rows + chunk->row0 + k] = 1;
	}
}

/* Keys and values of the documents' rows in one layer. */
KALM__FN void kalm__cross_keys(const kalm__decoding *d, const kalm__layer_run *r)
{
	kalm__memory *m = &d->c->memory;
	const kalm__backend *b = &d->c->backend;
	size_t all = (size_t)r->stack->shape.kv_heads * r->stack->shape.head_dim, part, i;
	kalm__doc_chunk chunk;
	chunk.d = d;
	chunk.run = r;
	for (chunk.row0 = 0; chunk.row0 < d->doc_rows; chunk.row0 += d->c->chunk) {
		chunk.n = kalm__min(d->c->chunk, d->doc_rows - chunk.row0);
		for (part = 0; part < d->parts; part++) {
			float *out = m->h + part * d->c->chunk * 2 * all;
			size_t row = chunk.row0 + part * d->residual;
			kalm__linear(b, &r->layer->matrix[KALM__T_K], m->acts_doc, d->in_all, row, chunk.n, out, 2 * all, NULL);
			kalm__linear(b, &r->layer->matrix[KALM__T_V], m->acts_doc, d->in_all, row, chunk.n, out + all, 2 * all, NULL);
		}
		kalm__parallel(&d->c->pool, (chunk.n + 15) / 16, kalm__store_docs_task, &chunk);
	}
	for (i = 0; i < r->seqs; i++) kalm__end_keys(&r->heads, &m->seqs[i].cross);
	for (i = 0; i < d->doc_rows; i++)  /* an overflow of a document is one of its sequence */
		if (m->overflow[d->c->rows + i]) m->overflow[kalm__doc_row_seq(d, i, &part)->row] = 1;
}

/* ---- the first layer and the last ---- */

/* The prompt as rows of the residual stream, and no overflow so far. */
KALM__FN void kalm__embed_prompt(const kalm__decoding *d)
{
	const kalm__file *f = &d->c->model->file;
	size_t i;
	memset(d->c->memory.overflow, 0, 2 * d->c->rows);
	for (i = 0; i < d->tokens; i++) kalm__embed(f, KALM__DECODER, d->ids[i], d->c->memory.x + i * f->shape.hidden_size);
}

/* Layer 0: the prompt's keys and values, stored once, in the place of the first sequence; every sequence gets its rows of the
	residual stream. */
KALM__FN void kalm__prompt_keys(const kalm__decoding *d, const kalm__layer_run *r)
{
	kalm__memory *m = &d->c->memory;
	size_t hidden_size = d->c->model->file.shape.hidden_size, i;
	kalm__layer_run prompt = *r;
	prompt.rows = d->tokens;
	kalm__layer_keys(&prompt, 1);
	for (i = 1; i < r->seqs; i++) {
		memcpy(m->x + m->seqs[i].row * hidden_size, m->x, d->tokens * hidden_size * sizeof(float));
		m->seqs[i].self = m->seqs[0].self;
	}
}

/* Layer 0: the prompt's queries, computed once; the prompt's rows lie packed in acts_in. NULL where the prompt is longer than a
	chunk, for which memory.first_q has room: then the rows of all sequences are packed, and queries computed for each. */
KALM__FN const float *kalm__prompt_queries(const kalm__decoding *d, const kalm__layer_run *r)
{
	kalm__layer_run prompt = *r;
	kalm__chunk chunk;
	if (d->tokens > d->c->chunk) {
		kalm__pack_inputs(r);
		return NULL;
	}
	prompt.rows = chunk.n = d->tokens;
	chunk.row0 = chunk.residual.count = 0;
	kalm__layer_queries(&prompt, &chunk, d->c->memory.first_q);
	return d->c->memory.first_q;
}

/* The last layer, once keys are stored: keep the last row of every sequence, which is all that is read of it. */
KALM__FN void kalm__keep_last_rows(kalm__layer_run *r)
{
	kalm__memory *m = &r->c->memory;
	size_t hidden_size = r->c->model->file.shape.hidden_size, i;
	for (i = 0; i < r->seqs; i++) {
		kalm__seq *q = &m->seqs[i];
		size_t last = q->row + q->count - 1;
		m->overflow[i] = memchr(m->overflow + q->row, 1, q->count) != NULL;
		memmove(m->x + i * hidden_size, m->x + last * hidden_size, hidden_size * sizeof(float));
		q->position += q->count - 1;
		q->count = 1;
		q->row = i;
		m->row_seq[i] = (uint32_t)i;
	}
	r->rows = r->seqs;  /* rows behind these are no longer looked at */
	kalm__pack_inputs(r);
}

/* The logits of yes and no from the last row of a prompt, x [hidden_size], capped where the model caps them (docs/MODEL.md); normed
	[hidden_size] is room to work in. Returns 0 when numbers have overflowed on the way. */
KALM__FN int kalm__read_logits(const kalm_context *c, const float *x, float *normed, float *yes_logit, float *no_logit)
{
	const kalm__file *f = &c->model->file;
	const kalm__stack *s = &f->stack[KALM__DECODER];
	size_t hidden_size = f->shape.hidden_size;
	float yes, no, cap = f->shape.softcap;
	int finite;
	c->backend.ops->rms_norm(normed, x, s->norm, hidden_size, s->shape.norm_eps, 1);
	yes = c->backend.ops->dot(normed, f->head, hidden_size);
	no = c->backend.ops->dot(normed, f->head + hidden_size, hidden_size);
	finite = kalm__is_finite(yes) && kalm__is_finite(no);
	if (cap > 0.0f) {
		yes = (float)kalm__times_double((double)cap, kalm__tanh((double)kalm__over(yes, cap)));
		no = (float)kalm__times_double((double)cap, kalm__tanh((double)kalm__over(no, cap)));
	}
	*yes_logit = yes;
	*no_logit = no;
	return finite;
}

/* Margin and score from the same row: margin = yes - no, score = 1 / (1 + e^-margin) (docs/MODEL.md). */
KALM__FN int kalm__read_margin(const kalm_context *c, const float *x, float *normed, kalm_score *score)
{
	float yes, no;
	int finite = kalm__read_logits(c, x, normed, &yes, &no);
	score->margin = kalm__rounded(yes - no);
	score->score = (float)kalm__over_double(1.0, kalm__rounded_double(1.0 + kalm__exp(-(double)score->margin)));
	return finite && kalm__is_finite(score->margin);
}

/* ---- states ---- */

KALM__FN size_t kalm__kept_bytes(const kalm__heads *h, size_t n)
{
	return h->bits ? kalm__packed_bytes(h, n) : kalm__key_bytes(h, kalm__round_up(n, KALM__KEY_STEP));
}

/* Bytes of a state's data before layer `layer`: for each, the keys and values of the document's rows, then the prefix's. */
KALM__FN size_t kalm__state_bytes(const kalm_context *c, uint32_t layer, size_t rows, size_t prefix)
{
	size_t bytes = 0;
	uint32_t l;
	for (l = 0; l < layer; l++) {
		kalm__heads h = kalm__layer_heads(c, KALM__DECODER, l);
		bytes = kalm__add(bytes, kalm__add(kalm__kept_bytes(&h, rows), kalm__kept_bytes(&h, prefix)));
	}
	return bytes;
}

/* Keys of a sequence's document and of the prompt's first tokens into its state, or back. Where they are not packed, attention
	reads the document's in the state. */
KALM__FN void kalm__keep_keys_task(void *arg, size_t i, unsigned worker)
{
	const kalm__layer_run *r = (const kalm__layer_run *)arg;
	const kalm__heads *h = &r->heads;
	kalm__seq *q = &r->c->memory.seqs[i];
	kalm__keys prefix = q->self, cross = q->cross, kept;
	int back = !r->no_residual;
	(void)worker;
	prefix.count = r->prefix;
	kept = prefix;
	kept.capacity = kalm__round_up(r->prefix, KALM__KEY_STEP);
	cross.data = q->state->data + kalm__state_bytes(r->c, (uint32_t)(r->layer - r->stack->layers), cross.count, r->prefix);
	kept.data = cross.data + kalm__kept_bytes(h, cross.count);
	if (h->bits) {
		kalm__pack_keys(h, &q->cross, cross.data, back);
		kalm__pack_keys(h, &prefix, kept.data, back);
	} else if (back) {
		q->cross.data = cross.data;
		kalm__copy_keys(h, &prefix, &kept);
	} else {
		kalm__copy_keys(h, &cross, &q->cross);
		kalm__copy_keys(h, &kept, &prefix);
	}
}

/* ---- the forward passes ---- */

enum { KALM__COLD, KALM__BUILD, KALM__WARM };

/* KALM__COLD: from nothing. KALM__WARM: from states for the prompt's first d->first tokens. After either x[i] is the residual
	stream of the last token of sequence i. KALM__BUILD: the states of the batch's documents for the tokens of d. */
KALM__FN kalm_result kalm__decode(kalm__decoding *d, int pass, kalm__job *job, kalm_error *err)
{
	uint32_t l, layers = d->c->model->file.stack[KALM__DECODER].shape.layers;
	kalm_result result = KALM_OK;
	kalm__job_watch(job, d->c);
	kalm__embed_prompt(d);
	if (pass != KALM__WARM) kalm__pack_docs(d);
	for (l = 0; l < layers && !result; l++) {
		int last = l + 1 == layers;
		kalm__layer_run r;
		const float *shared = NULL;
		kalm__layer_begin(&r, d->c, KALM__DECODER, l, d->batch.rows, d->batch.seqs);
		r.no_residual = pass == KALM__BUILD;
		r.prefix = d->prefix;
		kalm__place_keys(&r);
		if (pass == KALM__WARM) kalm__parallel(&d->c->pool, r.seqs, kalm__keep_keys_task, &r);
		else kalm__cross_keys(d, &r);
		if (l == 0) kalm__prompt_keys(d, &r);
		else kalm__layer_keys(&r, r.seqs);
		if (pass == KALM__BUILD) kalm__parallel(&d->c->pool, r.seqs, kalm__keep_keys_task, &r);
		else if (last) kalm__keep_last_rows(&r);
		if (l == 0 && !last) shared = kalm__prompt_queries(d, &r);
		if (!last || pass != KALM__BUILD) kalm__layer_rows(&r, shared);
		result = kalm__layer_end(&r, job, pass == KALM__BUILD ? 0 : r.seqs, err);  /* documents count when they are scored */
	}
	return kalm__job_unwatch(d->c, result);
}

/* ---- begin src/scoring.h ---- */
/* scoring.h - which documents go through the decoder together, with states of the cache or without, and how their margins
	become scores. The forward passes themselves stand in decoder.h. */
#define KALM__SCORING_H


/* What the decoder reads: instruction and query as tokens. */
typedef struct kalm__prompt {
	const int32_t *ids;
	size_t tokens;
	size_t prefix;  /* the first ones, which come again with other queries: see state.h. 0: none known */
	uint32_t cut;  /* KALM_CUT_QUERY or 0 */
} kalm__prompt;

/* ---- a batch ---- */

KALM__FN void kalm__decoding_begin(kalm__decoding *d, kalm_context *c, const int32_t *ids, size_t first, size_t tokens,
								   const kalm_doc *const *docs, int warm)
{
	memset(d, 0, sizeof *d);
	d->c = c;
	d->ids = ids + first;
	d->first = first;
	d->tokens = tokens;
	d->docs = docs;
	d->warm = warm;
	d->batch.c = c;
	d->batch.limit = c->prompt_rows;
}

/* One more document in the batch; 0 when it is full. Document rows take room where they are computed or unpacked. */
KALM__FN int kalm__decoding_add(kalm__decoding *d, size_t item, kalm__state *state)
{
	size_t rows = d->docs[item]->info.rows, capacity = kalm__round_up(rows, KALM__KEY_STEP);
	kalm__seq *q;
	int placed = !d->warm || d->c->state_bits;  /* a packed state is unpacked into memory.cross */
	if (placed && capacity > d->c->rows - d->cross_room) return 0;
	if (!kalm__batch_add(&d->batch, d->tokens, d->first, item)) return 0;
	q = &d->c->memory.seqs[d->batch.seqs - 1];
	q->cross.count = rows;
	q->cross.capacity = capacity;
	q->state = state;
	q->cross_place = d->cross_room;
	if (placed) d->cross_room += capacity;
	if (!d->warm) d->doc_rows += rows;
	return 1;
}

/* Scores of a batch that has run; tells the caller's callback. */
KALM__FN kalm_result kalm__decoding_scores(kalm__decoding *d, const kalm__prompt *prompt, const kalm__job *job, kalm_score *scores,
										   kalm_error *err)
{
	const kalm_context *c = d->c;
	const kalm_params *p = job->params;
	size_t i, hidden_size = c->model->file.shape.hidden_size;
	for (i = 0; i < d->batch.seqs; i++) {
		size_t item = c->memory.seqs[i].item, number = kalm__job_number(job, item);
		const kalm_doc_info *info = &d->docs[item]->info;
		kalm_score *s = &scores[item];
		s->index = (uint32_t)number;
		s->cut = prompt->cut | (info->tokens_used < info->tokens ? KALM_CUT_DOCUMENT : 0);
		if (!kalm__read_margin(c, c->memory.x + i * hidden_size, c->memory.y, s))
			return kalm__fail(err, KALM_OVERFLOW, "numbers overflowed in document %z: its margin is not finite", number);
		if (p->on_score && p->on_score(p->on_score_user, s))
			return kalm__fail(err, KALM_CANCELLED, "cancelled by the score callback");
	}
	return KALM_OK;
}

/* Documents [*next, ...) without states, as far as one batch goes, but not beyond `end`. */
KALM__FN kalm_result kalm__score_cold(kalm_context *c, const kalm__prompt *prompt, const kalm_doc *const *docs, size_t *next,
									   size_t end, kalm__job *job, kalm_score *scores, kalm_error *err)
{
	kalm__decoding d;
	kalm_result r;
	kalm__decoding_begin(&d, c, prompt->ids, 0, prompt->tokens, docs, 0);
	if (prompt->prefix < prompt->tokens) d.prefix = prompt->prefix;
	while (*next < end && kalm__decoding_add(&d, *next, NULL)) ++*next;
	r = kalm__decode(&d, KALM__COLD, job, err);
	return r ? r : kalm__decoding_scores(&d, prompt, job, scores, err);
}

/* ---- with states ---- */

/* For the state of a document and of a prompt's first `prefix` tokens. */
KALM__FN kalm__state_key kalm__state_key_of(const kalm_context *c, const kalm_doc *doc, const int32_t *ids, size_t prefix)
{
	kalm__state_key key;
	key.doc = doc->bytes;
	key.doc_size = doc->size;
	key.prefix = ids;
	key.tokens = prefix;
	key.rows = doc->info.rows;
	key.size = kalm__state_bytes(c, c->model->file.stack[KALM__DECODER].shape.layers, doc->info.rows, prefix);
	key.doc_sum = kalm__u64(doc->bytes + 40);
	key.prefix_sum = kalm__hash(ids, prefix * sizeof *ids);
	return key;
}

/* Compute the fresh ones among states[0 .. count), of documents first, first + 1, ... A document that comes twice has one
	state, computed once. */
KALM__FN kalm_result kalm__build_states(kalm_context *c, const int32_t *ids, size_t prefix, const kalm_doc *const *docs, size_t first,
										kalm__state **states, size_t count, kalm__job *job, kalm_error *err)
{
	size_t i = 0, k;
	while (i < count) {
		kalm__decoding d;
		size_t begin = i;
		kalm_result r;
		kalm__decoding_begin(&d, c, ids, 0, prefix, docs, 0);
		d.prefix = prefix;
		for (; i < count; i++) {
			if (states[i]->fresh != KALM__STATE_FRESH) continue;
			if (!kalm__decoding_add(&d, first + i, states[i])) break;
			states[i]->fresh = KALM__STATE_UNDER_WAY;
		}
		if (!d.batch.seqs) continue;
		r = kalm__decode(&d, KALM__BUILD, job, err);
		if (r) return r;
		for (k = begin; k < i; k++) states[k]->fresh = KALM__STATE_COMPUTED;
	}
	return KALM_OK;
}

/* Documents [*next, ...) with states, as far as one batch goes. Leaves *next alone where the cache has no room for one. */
KALM__FN kalm_result kalm__score_warm(kalm_context *c, const kalm__prompt *prompt, const kalm_doc *const *docs, size_t *next,
									   size_t count, kalm__job *job, kalm_score *scores, kalm_error *err)
{
	kalm__decoding d;
	kalm__state **states = c->memory.states;
	size_t n = 0, first = *next, i, prefix = prompt->prefix, room = kalm__round_up(prompt->tokens, KALM__KEY_STEP);
	size_t most = c->prompt_rows / room;
	kalm_result r;
	for (; n < most && first + n < count; n++) {
		kalm__state_key key = kalm__state_key_of(c, docs[first + n], prompt->ids, prefix);
		kalm__state *s = kalm__state_find(&c->cache, &key);
		if (s) {
			c->cache.hits++;
		} else {
			s = kalm__state_new(&c->cache, &c->alloc, &key);
			if (!s) break;
			c->cache.misses++;
		}
		states[n] = s;
	}
	r = kalm__build_states(c, prompt->ids, prefix, docs, first, states, n, job, err);
	if (!r && n) {
		kalm__decoding_begin(&d, c, prompt->ids, prefix, prompt->tokens - prefix, docs, 1);
		d.prefix = prefix;
		for (i = 0; i < n && kalm__decoding_add(&d, first + i, states[i]); i++) ++*next;
		r = kalm__decode(&d, KALM__WARM, job, err);
		if (!r) r = kalm__decoding_scores(&d, prompt, job, scores, err);
	}
	for (i = 0; i < n; i++) kalm__state_unpin(&c->cache, &c->alloc, states[i]);
	return r;
}

/* ---- all documents of a call ---- */

/* Score docs[0..count) against a prompt of 1 to max_prompt tokens of the vocabulary; the documents fit the context. */
KALM__FN kalm_result kalm__score_docs(kalm_context *c, const kalm__prompt *prompt, const kalm_doc *const *docs, size_t count,
								  kalm__job *job, kalm_score *scores, kalm_error *err)
{
	size_t next = 0;
	int warm = prompt->prefix && prompt->prefix < prompt->tokens && c->cache.limit;
	kalm_result r = KALM_OK;
	while (!r && next < count) {
		size_t before = next;
		if (warm) r = kalm__score_warm(c, prompt, docs, &next, count, job, scores, err);
		if (!r && next == before)  /* no cache, or none with room for this one */
			r = kalm__score_cold(c, prompt, docs, &next, warm ? next + 1 : count, job, scores, err);
	}
	return r;
}

/* ---- begin src/rerank.h ---- */
/* rerank.h - from the caller's texts to token ids as the model was trained to see them (docs/MODEL.md), the checks of what
	the caller gave, and encoding any number of texts in batches. */
#define KALM__RERANK_H


KALM__FN kalm_result kalm__check_params(const kalm_params *p, kalm_params *out, kalm_error *err)
{
	memset(out, 0, sizeof *out);
	if (p) *out = *p;
	if (!out->ratio) out->ratio = 4;
	if (!out->bits) out->bits = 16;
	if (!kalm__doc_row_bytes(1, out->bits))
		return kalm__fail(err, KALM_BAD_ARGUMENT, "params.bits is %u; documents keep 32, 16, 8, 4, 3 or 2", out->bits);
	if (out->flags & ~KALM_PARSE_CONTROL)
		return kalm__fail(err, KALM_BAD_ARGUMENT, "params.flags has bits that mean nothing: %u", out->flags);
	return kalm__need_rounding(err);
}

KALM__FN kalm_result kalm__need_tokenizer(const kalm_model *m, kalm_error *err)
{
	if (m->file.has_tokenizer) return KALM_OK;
	return kalm__fail(err, KALM_BAD_ARGUMENT, "this model file holds no tokenizer: give token ids");
}

/* A part of a model may lack one side. */
KALM__FN kalm_result kalm__need_side(const kalm_model *m, int side, kalm_error *err)
{
	if (m->file.stack[side].shape.layers) return KALM_OK;
	return side == KALM__ENCODER
		 ? kalm__fail(err, KALM_INCOMPLETE, "this model file holds the decoder alone, which cannot read the text of a document: "
					  "give documents that the whole model or its encoder has encoded")
		 : kalm__fail(err, KALM_INCOMPLETE, "this model file holds the encoder alone, which cannot score: rank with the whole "
					  "model or its decoder");
}

KALM__FN kalm_result kalm__check_ids(const kalm_context *c, const char *what, size_t index, const int32_t *ids, size_t n,
									 kalm_error *err)
{
	size_t i;
	for (i = 0; i < n; i++)
		if (ids[i] < 0 || (uint32_t)ids[i] >= c->model->file.shape.vocabulary)
			return kalm__fail(err, KALM_BAD_ARGUMENT, "%s %z has token %d at place %z; the vocabulary has %u", what, index,
							  (int)ids[i], i, c->model->file.shape.vocabulary);
	return KALM_OK;
}

KALM__FN kalm__piece kalm__one_piece(kalm_text text, int trusted)
{
	kalm__piece p;
	p.text = kalm__resolve(text);
	p.trusted = trusted;
	return p;
}

/* While a long text is tokenised the progress callback is asked whether to go on. */
KALM__FN kalm__interrupt kalm__job_interrupt(kalm__job *j)
{
	kalm__interrupt i;
	i.call = j->params->progress ? kalm__ask_progress : NULL;
	i.user = j;
	return i;
}

/* "<Document>: {text}": the first `capacity` ids, and how many there are. */
KALM__FN kalm_result kalm__document_ids(const kalm_context *c, kalm_text text, kalm__job *job, int32_t *ids, size_t capacity,
										size_t *count, kalm_error *err)
{
	kalm__interrupt ask = kalm__job_interrupt(job);
	kalm__piece pieces[2];
	pieces[0] = kalm__one_piece(c->model->file.string[KALM__STRING_DOCUMENT], 1);
	pieces[1] = kalm__one_piece(text, 0);
	return kalm__tokenize_pieces(&c->model->file.tokenizer, &c->alloc, &ask, pieces, 2, job->params->flags, ids, capacity, count,
								 err);
}

/* The whole prompt around a query that is short enough: the first `capacity` ids, and how many there are. */
KALM__FN kalm_result kalm__wrap_query(const kalm_context *c, kalm_text query, kalm__job *job, int32_t *ids, size_t capacity,
									  size_t *count, kalm_error *err)
{
	const kalm__file *f = &c->model->file;
	const kalm_params *p = job->params;
	kalm__interrupt ask = kalm__job_interrupt(job);
	kalm__piece pieces[7];
	pieces[0] = kalm__one_piece(f->string[KALM__STRING_BEGIN], 1);
	pieces[1] = kalm__one_piece(p->system.data ? p->system : f->string[KALM__STRING_SYSTEM], !p->system.data);
	pieces[2] = kalm__one_piece(f->string[KALM__STRING_INSTRUCT], 1);
	pieces[3] = kalm__one_piece(p->instruction.data ? p->instruction : f->string[KALM__STRING_INSTRUCTION], !p->instruction.data);
	pieces[4] = kalm__one_piece(f->string[KALM__STRING_QUERY], 1);
	pieces[5] = kalm__one_piece(query, 0);
	pieces[6] = kalm__one_piece(f->string[KALM__STRING_END], 1);
	return kalm__tokenize_pieces(&f->tokenizer, &c->alloc, &ask, pieces, 7, p->flags, ids, capacity, count, err);
}

/* The query as the published code puts it into the prompt: cut to its first max_query tokens, decoded, tokenised again
	as a part of the whole. Into memory.prompt, at most max_prompt ids; prompt->tokens may be more. */
KALM__FN kalm_result kalm__prompt_ids(kalm_context *c, kalm_text query, kalm__job *job, kalm__prompt *prompt, kalm_error *err)
{
	const kalm__tokenizer *t = &c->model->file.tokenizer;
	kalm__interrupt ask = kalm__job_interrupt(job);
	kalm_text kept;
	int32_t *ids = c->memory.ids;  /* [rows], and max_query is no more */
	char *text = NULL;
	size_t room = 0, n = 0;
	kalm_result r = kalm__tokenize(t, &c->alloc, &ask, kalm__resolve(query), job->params->flags, ids, c->max_query, &n, err);
	prompt->cut = n > c->max_query ? KALM_CUT_QUERY : 0;
	n = kalm__min(n, c->max_query);
	if (!r) r = kalm__detokenize(t, ids, n, NULL, 0, &room, err);
	if (!r) {
		text = (char *)kalm__alloc(&c->alloc, room);
		if (!text) r = kalm__fail(err, KALM_NO_MEMORY, "no memory for the %z bytes of a query", room);
	}
	if (!r) r = kalm__detokenize(t, ids, n, text, room, &room, err);
	kept.data = text;
	kept.size = room;
	if (!r) r = kalm__wrap_query(c, kept, job, c->memory.prompt, c->max_prompt, &prompt->tokens, err);
	kalm__release(&c->alloc, text, room);
	return r;
}

/* The prompt's first tokens that are the same whatever the query: what two prompts with very different queries have in
	common (no merge reaches across). Into memory.ids; *prefix is 0 where no prompt with these tokens fits into the context: with 8
	places more than a prompt has, in which the probes have their tokens, the answer is the same in every context that takes the prompt. */
KALM__FN kalm_result kalm__prefix_ids(kalm_context *c, kalm__job *job, size_t *prefix, kalm_error *err)
{
	static const char *const probes[2] = { "a", "\xe4\xb8\x80" };
	size_t count[2], half = kalm__max(c->rows / 2, c->max_prompt + 8), n = 0;
	int32_t *ids = c->memory.ids;
	int i;
	*prefix = 0;
	for (i = 0; i < 2; i++) {
		kalm_result r = kalm__wrap_query(c, kalm__text(probes[i]), job, ids + (size_t)i * half, half, &count[i], err);
		if (r) return r;
		if (count[i] > half) return KALM_OK;
	}
	while (n < count[0] && n < count[1] && ids[n] == ids[half + n]) n++;
	*prefix = n;
	return kalm__check_ids(c, "prompt", 0, ids, n, err);
}

/* Everything the decoder needs to know of a query, tokenised once for all documents of a call. Its ids are in memory.prompt.
	*/
KALM__FN kalm_result kalm__take_prompt(kalm_context *c, kalm_text query, kalm__job *job, kalm__prompt *prompt, kalm_error *err)
{
	kalm_result r;
	memset(prompt, 0, sizeof *prompt);
	prompt->ids = c->memory.prompt;
	r = kalm__prompt_ids(c, query, job, prompt, err);
	if (r) return r;
	if (!prompt->tokens)
		return kalm__fail(err, KALM_BAD_ARGUMENT, "the prompt has no tokens: the query is empty, and so is the model's text around it");
	if (prompt->tokens > c->max_prompt)
		return kalm__fail(err, KALM_BAD_ARGUMENT, "the prompt has %z tokens, this context takes %z (max_query_tokens)",
						  prompt->tokens, c->max_prompt);
	r = kalm__check_ids(c, "prompt", 0, prompt->ids, prompt->tokens, err);
	if (r || (!c->cache.limit && !c->state_bits)) return r;
	r = kalm__prefix_ids(c, job, &prompt->prefix, err);
	if (prompt->prefix >= prompt->tokens || memcmp(c->memory.ids, prompt->ids, prompt->prefix * sizeof *prompt->ids) != 0)
		prompt->prefix = 0;  /* a merge has reached across after all */
	return r;
}

/* ---- encode ---- */

/* What is to be encoded: texts, or token ids where texts is NULL. */
typedef struct kalm__passages {
	const kalm_text *texts;
	const kalm_ids *ids;
} kalm__passages;

/* Token ids of passage i into ids[0..room); *count is how many it has, which may be more. */
KALM__FN kalm_result kalm__passage_ids(const kalm_context *c, const kalm__passages *s, kalm__job *job, size_t i, int32_t *ids,
									  size_t room, size_t *count, kalm_error *err)
{
	size_t number = kalm__job_number(job, i);
	kalm_result r;
	if (s->texts) {
		r = kalm__document_ids(c, s->texts[i], job, ids, room, count, err);
		if (!r) r = kalm__check_ids(c, "document", number, ids, kalm__min(*count, room), err);
	} else {
		*count = s->ids[i].count;
		if (*count && !s->ids[i].data) return kalm__fail(err, KALM_BAD_ARGUMENT, "document %z is NULL", number);
		if (*count) memcpy(ids, s->ids[i].data, kalm__min(*count, room) * sizeof *ids);
		r = kalm__check_ids(c, "document", number, ids, kalm__min(*count, room), err);
	}
	if (!r && !*count) r = kalm__fail(err, KALM_BAD_ARGUMENT, "document %z has no tokens", number);
	return r;
}

/* Encode documents [*next, ...) as far as one batch goes; docs[i] for each. */
KALM__FN kalm_result kalm__encode_some(kalm_context *c, const kalm__passages *s, size_t *next, size_t count, kalm__job *job,
									   kalm_doc **docs, kalm_error *err)
{
	kalm__memory *m = &c->memory;
	kalm__batch b;
	size_t i;
	kalm_result r;
	memset(&b, 0, sizeof b);
	b.c = c;
	b.limit = c->rows;
	b.ids = m->ids;
	while (*next < count) {
		size_t room = c->rows - b.rows, n = 0, taken;
		/* a text that does not fit is tokenised again at the head of the next batch; at worst twice each */
		r = kalm__passage_ids(c, s, job, *next, m->ids + b.rows, kalm__min(room, c->max_doc), &n, err);
		if (r) return r;
		taken = kalm__min(n, c->max_doc);
		if (taken > room || !kalm__batch_add(&b, taken, 0, *next)) break;
		m->seqs[b.seqs - 1].tokens = n;
		++*next;
	}
	r = kalm__encode_batch(&b, job, err);
	for (i = 0; !r && i < b.seqs; i++) {
		const kalm__seq *q = &m->seqs[i];
		r = kalm__pool_document(c, q, kalm__job_number(job, q->item), job->params->ratio, job->params->bits, &docs[q->item], err);
	}
	return r;
}

/* docs[0 .. count), all of them or, when it fails, none. */
KALM__FN kalm_result kalm__encode_all(kalm_context *c, const kalm__passages *s, size_t count, kalm__job *job, kalm_doc **docs,
									  kalm_error *err)
{
	size_t next = 0, i;
	kalm_result r = KALM_OK;
	for (i = 0; i < count; i++) docs[i] = NULL;
	if (kalm__is_coded(job->params->bits) && !c->model->file.rows.fingerprint) return kalm__no_rowcode(KALM_BAD_ARGUMENT, job->params->bits, err);
	while (!r && next < count) r = kalm__encode_some(c, s, &next, count, job, docs, err);
	for (i = 0; r && i < count; i++) {
		kalm__doc_release(docs[i]);
		docs[i] = NULL;
	}
	return r;
}

/* ---- score ---- */

KALM__FN kalm_result kalm__check_docs(const kalm_context *c, const kalm_doc *const *docs, size_t count, kalm_error *err)
{
	size_t i;
	for (i = 0; i < count; i++) {
		if (!docs[i]) return kalm__fail(err, KALM_BAD_ARGUMENT, "document %z is NULL", i);
		if (docs[i]->info.fingerprint != c->model->file.fingerprint)
			return kalm__fail(err, KALM_MISMATCH, "document %z was made by model %X, this one is %X", i, docs[i]->info.fingerprint,
							  c->model->file.fingerprint);
		if (docs[i]->info.transform && docs[i]->info.transform != c->model->file.rows.fingerprint)
			return kalm__fail(err, KALM_MISMATCH, "the rows of document %z were made with transform %X, the model file has %X", i,
							  docs[i]->info.transform, c->model->file.rows.fingerprint);
		/* a forged model file can carry the fingerprint of another */
		if (docs[i]->info.width != c->model->file.shape.hidden_size)
			return kalm__fail(err, KALM_MISMATCH, "document %z has rows of %u numbers, this model has %u", i, docs[i]->info.width,
							  c->model->file.shape.hidden_size);
		if (docs[i]->info.rows > c->rows)
			return kalm__fail(err, KALM_BAD_ARGUMENT, "document %z has %u rows, this context takes %z (max_doc_tokens)", i,
							  docs[i]->info.rows, c->rows);
	}
	return KALM_OK;
}

/* ---- begin src/public.h ---- */
/* public.h - the functions of api.h up to documents: check what the caller gave, then call the part that does the work. */
#define KALM__PUBLIC_H


#ifdef __cplusplus
extern "C" {
#endif

/* Every call clears what it will fill in, so that a failure leaves nothing stale behind. */
#define KALM__NEED(pointer) \
	do { \
		if (!(pointer)) return kalm__fail(err, KALM_BAD_ARGUMENT, #pointer " is NULL"); \
	} while (0)

KALM_API uint32_t kalm_version(void)
{
	return (uint32_t)KALM_VERSION_MAJOR << 16 | (uint32_t)KALM_VERSION_MINOR << 8 | (uint32_t)KALM_VERSION_PATCH;
}

KALM_API const char *kalm_kernels(size_t i)
{
	const kalm__kernels *k = kalm__kernel_set(i, NULL, 0);
	return k ? k->name : NULL;
}

/* ---- model ---- */

#ifndef KALM_NO_STDIO
KALM_API kalm_result kalm_model_open(const char *path, const kalm_config *config, kalm_model **model, kalm_error *err)
{
	kalm__mapping mapping;
	kalm_allocator alloc;
	kalm_result r;
	kalm__no_error(err);
	KALM__NEED(model);
	*model = NULL;
	KALM__NEED(path);
	r = kalm__take_allocator(config, &alloc, err);
	if (r) return r;
	if (config && config->load > KALM_LOAD_READ)
		return kalm__fail(err, KALM_BAD_ARGUMENT, "load is %u; it is KALM_LOAD_MAP or KALM_LOAD_READ", (unsigned)config->load);
	r = kalm__map_file(&mapping, path, config ? config->load : KALM_LOAD_MAP, &alloc, err);
	if (r) return r;
	r = kalm__model_new(mapping.data, mapping.size, config, &mapping, model, err);
	if (r) kalm__unmap_file(&mapping, &alloc);
	else if (mapping.mapped) {
		const kalm__file *f = &(*model)->file;
		kalm__advise(f->stack[0].embed, f->shape.vocabulary * f->stack[0].embed_row, KALM__AT_RANDOM);
		if (f->stack[1].embed != f->stack[0].embed) kalm__advise(f->stack[1].embed, f->shape.vocabulary * f->stack[1].embed_row, KALM__AT_RANDOM);
	}
	return r;
}
#endif

KALM_API kalm_result kalm_model_open_memory(const void *data, size_t size, const kalm_config *config, kalm_model **model,
											kalm_error *err)
{
	kalm__no_error(err);
	KALM__NEED(model);
	*model = NULL;
	KALM__NEED(data);
	if ((uintptr_t)data & 63) return kalm__fail(err, KALM_BAD_ARGUMENT, "the model's bytes are not aligned to 64");
	return kalm__model_new(data, size, config, NULL, model, err);
}

KALM_API void kalm_model_close(kalm_model *model)
{
	kalm_allocator alloc;
	if (!model) return;
	alloc = model->alloc;
#ifndef KALM_NO_STDIO
	kalm__unmap_file(&model->mapping, &alloc);
#endif
	kalm__release(&alloc, model, model->block);
}

KALM_API void kalm_model_get_info(const kalm_model *model, kalm_model_info *info)
{
	const kalm__file *f;
	if (!info) return;
	memset(info, 0, sizeof *info);
	if (!model) return;
	f = &model->file;
	info->name = model->name;
	info->weights = f->has_model ? kalm__type_name(f->shape.weights) : "none";
	info->vocabulary = f->shape.vocabulary;
	info->layers = f->shape.side[KALM__ENCODER].layers;
	info->width = f->shape.hidden_size;
	info->max_tokens = f->shape.side[KALM__ENCODER].max_positions;
	info->has_tokenizer = f->has_tokenizer;
	info->yes_id = (int32_t)f->shape.yes_id;
	info->no_id = (int32_t)f->shape.no_id;
	info->bytes = f->size;
	info->fingerprint = f->fingerprint;
	info->cut_vocabulary = f->vocabulary;
	info->has_encoder = f->has_model && !(f->lacks & KALM__LACKS_ENCODER);
	info->has_decoder = f->has_model && !(f->lacks & KALM__LACKS_DECODER);
	info->transform = f->rows.fingerprint;
}

KALM_API kalm_result kalm_model_verify(const kalm_model *model, kalm_error *err)
{
	kalm__no_error(err);
	KALM__NEED(model);
	return kalm__file_verify(&model->file, err);
}

/* ---- tokenizer ---- */

KALM_API kalm_result kalm_tokenize(const kalm_model *model, kalm_text text, uint32_t flags, int32_t *ids, size_t capacity,
								   size_t *count, kalm_error *err)
{
	kalm_result r;
	kalm__no_error(err);
	KALM__NEED(count);
	*count = 0;
	KALM__NEED(model);
	if (capacity) KALM__NEED(ids);
	if (flags & ~KALM_PARSE_CONTROL) return kalm__fail(err, KALM_BAD_ARGUMENT, "flags has bits that mean nothing: %u", flags);
	r = kalm__need_tokenizer(model, err);
	if (!r) r = kalm__need_rounding(err);
	return r ? r : kalm__tokenize(&model->file.tokenizer, &model->alloc, NULL, kalm__resolve(text), flags, ids, capacity, count,
								  err);
}

KALM_API kalm_result kalm_detokenize(const kalm_model *model, const int32_t *ids, size_t count, char *text, size_t capacity,
									 size_t *size, kalm_error *err)
{
	kalm_result r;
	kalm__no_error(err);
	KALM__NEED(size);
	*size = 0;
	KALM__NEED(model);
	if (count) KALM__NEED(ids);
	if (capacity) KALM__NEED(text);
	r = kalm__need_tokenizer(model, err);
	return r ? r : kalm__detokenize(&model->file.tokenizer, ids, count, text, capacity, size, err);
}

KALM_API kalm_text kalm_token_bytes(const kalm_model *model, int32_t id)
{
	kalm_text none;
	none.data = NULL;
	none.size = 0;
	return model && model->file.has_tokenizer ? kalm__token_bytes(&model->file.tokenizer, id) : none;
}

/* ---- context ---- */

KALM_API kalm_result kalm_context_new(const kalm_model *model, const kalm_config *config, kalm_context **ctx, kalm_error *err)
{
	kalm__no_error(err);
	KALM__NEED(ctx);
	*ctx = NULL;
	KALM__NEED(model);
	return kalm__context_new(model, config, ctx, err);
}

KALM_API kalm_result kalm_context_bytes(const kalm_model *model, const kalm_config *config, size_t *bytes, kalm_error *err)
{
	kalm_context plan;
	unsigned threads;
	kalm__no_error(err);
	KALM__NEED(bytes);
	*bytes = 0;
	KALM__NEED(model);
	return kalm__context_measure(&plan, model, config, &threads, bytes, err);
}

KALM_API void kalm_context_free(kalm_context *ctx)
{
	kalm_allocator alloc;
	if (!ctx) return;
	kalm__pool_stop(&ctx->pool);
	alloc = ctx->alloc;
	kalm__cache_clear(&ctx->cache, &alloc);
	kalm__release(&alloc, ctx->block, ctx->block_size);
}

/* ---- documents ---- */

/* kalm_encode (is_text) and kalm_encode_ids. */
KALM__FN kalm_result kalm__encode_call(kalm_context *ctx, const kalm_text *texts, const kalm_ids *ids, int is_text, size_t count,
									   const kalm_params *params, kalm_doc **docs, kalm_error *err)
{
	kalm__passages s;
	kalm_params p;
	kalm__job job;
	kalm_result r;
	size_t i;
	kalm__no_error(err);
	if (count) KALM__NEED(docs);
	for (i = 0; i < count; i++) docs[i] = NULL;
	KALM__NEED(ctx);
	if (count && !ids) KALM__NEED(texts);
	r = kalm__check_params(params, &p, err);
	if (!r) r = kalm__need_side(ctx->model, KALM__ENCODER, err);
	if (!r && is_text) r = kalm__need_tokenizer(ctx->model, err);
	if (r) return r;
	s.texts = texts;
	s.ids = ids;
	kalm__job_begin(&job, &p, count, ctx->model->file.shape.side[KALM__ENCODER].layers);
	return kalm__encode_all(ctx, &s, count, &job, docs, err);
}

KALM_API kalm_result kalm_encode(kalm_context *ctx, const kalm_text *texts, size_t count, const kalm_params *params,
								 kalm_doc **docs, kalm_error *err)
{
	return kalm__encode_call(ctx, texts, NULL, 1, count, params, docs, err);
}

KALM_API kalm_result kalm_encode_ids(kalm_context *ctx, const kalm_ids *texts, size_t count, const kalm_params *params,
									 kalm_doc **docs, kalm_error *err)
{
	return kalm__encode_call(ctx, NULL, texts, 0, count, params, docs, err);
}

KALM_API const void *kalm_doc_bytes(const kalm_doc *doc, size_t *size)
{
	if (size) *size = doc ? doc->size : 0;
	return doc ? doc->bytes : NULL;
}

KALM_API kalm_result kalm_doc_open(const kalm_model *model, const void *data, size_t size, uint32_t flags, kalm_doc **doc,
								   kalm_error *err)
{
	kalm_doc_info info;
	kalm_doc *d;
	unsigned char *rows;
	kalm_result r;
	kalm__no_error(err);
	KALM__NEED(doc);
	*doc = NULL;
	KALM__NEED(model);
	KALM__NEED(data);
	if (flags & ~KALM_BORROW) return kalm__fail(err, KALM_BAD_ARGUMENT, "flags has bits that mean nothing: %u", flags);
	if (flags & KALM_BORROW && (uintptr_t)data & 3)
		return kalm__fail(err, KALM_BAD_ARGUMENT, "the borrowed bytes are not aligned to 4");
	if (!model->file.has_model) return kalm__fail(err, KALM_BAD_ARGUMENT, "the file holds a tokenizer alone, no model");
	memset(&info, 0, sizeof info);
	r = kalm__doc_check((const unsigned char *)data, size, &info, model->file.fingerprint, model->file.shape.hidden_size,
						&model->file.rows.fingerprint, err);
	if (r) return r;
	if (flags & KALM_BORROW) {
		d = (kalm_doc *)kalm__alloc(&model->alloc, sizeof *d);
		if (!d) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a document");
		d->alloc = model->alloc;
		d->block = sizeof *d;
		d->bytes = (const unsigned char *)data;
		d->size = size;
		d->info = info;
	} else {
		d = kalm__doc_new(&model->alloc, &info, &rows);
		if (!d) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a document of %z bytes", size);
		memcpy(rows - KALM__DOC_HEADER, data, size);
	}
	*doc = d;
	return KALM_OK;
}

/* Memory for coarser rows. code: NULL where none has 4, 3 or 2 bits. */
typedef struct kalm__repooling {
	void *block;
	size_t size;
	const kalm__kernels *kernels;
	const kalm__rowcode *code;
	float *sums, *row;  /* [n][width], [width] */
	kalm__row_work work;
} kalm__repooling;

KALM__FN int kalm__repool_begin(kalm__repooling *p, const kalm_model *model, size_t width, const kalm__rowcode *code, size_t n)
{
	size_t own = kalm__round_up((n + 1) * width * sizeof(float), 64);
	unsigned char *at;
	memset(p, 0, sizeof *p);
	p->code = code;
	p->kernels = kalm__kernel_set(0, NULL, 0);  /* vectors alone, no tiles */
	p->size = own + 64 + (code ? kalm__row_work_plan(&p->work, NULL, p->kernels, width) : 0);
	p->block = kalm__alloc(&model->alloc, p->size);
	if (!p->block) return 0;
	at = kalm__align64(p->block);
	p->sums = (float *)(void *)at;
	p->row = p->sums + n * width;
	if (code) kalm__row_work_plan(&p->work, at + own, p->kernels, width);
	return 1;
}

/* Row i of a document with a row for each `step` rows of `doc`, into sum [width]. */
KALM__FN void kalm__repool_row(const kalm__repooling *p, const kalm_doc *doc, size_t step, size_t i, float *sum)
{
	size_t width = doc->info.width, end = kalm__min((i + 1) * step, doc->info.rows), tokens = 0, k, d;
	memset(sum, 0, width * sizeof *sum);
	for (k = i * step; k < end; k++) {
		size_t mine = kalm__min(doc->info.ratio, doc->info.tokens_used - k * doc->info.ratio);
		kalm__doc_read_rows(p->code, p->kernels, &p->work, doc, k, 1, p->row);
		for (d = 0; d < width; d++) sum[d] = kalm__plus(sum[d], kalm__times(p->row[d], (float)mine));
		tokens += mine;
	}
	for (d = 0; d < width; d++) sum[d] = kalm__over(sum[d], (float)tokens);
}

KALM_API kalm_result kalm_doc_repool(const kalm_model *model, const kalm_doc *doc, uint32_t ratio, uint32_t bits,
									 kalm_doc **coarser, kalm_error *err)
{
	kalm_doc_info info;
	kalm_doc *out;
	unsigned char *rows;
	kalm__repooling p;
	const kalm__rowcode *code = NULL;
	uint32_t bad;
	size_t row_bytes, i, k, n;
	kalm_result r;
	kalm__no_error(err);
	KALM__NEED(coarser);
	*coarser = NULL;
	KALM__NEED(model);
	KALM__NEED(doc);
	r = kalm__need_rounding(err);
	if (r) return r;
	info = doc->info;
	if (!ratio || ratio % info.ratio)
		return kalm__fail(err, KALM_BAD_ARGUMENT, "ratio %u is no multiple of the document's, %u", ratio, info.ratio);
	info.bits = bits ? bits : info.bits;
	if (!kalm__doc_row_bytes(info.width, info.bits))
		return kalm__fail(err, KALM_BAD_ARGUMENT, "bits is %u; documents keep 32, 16, 8, 4, 3 or 2", bits);
	if (kalm__is_coded(info.bits) || info.transform) {
		code = &model->file.rows;
		if (!code->fingerprint)
			return info.transform ? kalm__no_rowcode(KALM_MISMATCH, doc->info.bits, err)
								  : kalm__no_rowcode(KALM_BAD_ARGUMENT, info.bits, err);
		if (code->width != info.width || (info.transform && info.transform != code->fingerprint))
			return kalm__fail(err, KALM_MISMATCH, "the document's rows were made with transform %X, the model file has %X",
							  info.transform, code->fingerprint);
	}
	info.transform = kalm__is_coded(info.bits) ? code->fingerprint : 0;
	info.ratio = ratio;
	info.rows = (info.tokens_used - 1) / ratio + 1;
	row_bytes = kalm__doc_row_bytes(info.width, info.bits);
	n = kalm__is_coded(info.bits) ? KALM__ROWS_TOGETHER : 1;
	if (!kalm__repool_begin(&p, model, info.width, code, n))
		return kalm__fail(err, KALM_NO_MEMORY, "no memory for rows of %u numbers", info.width);
	out = kalm__doc_new(&model->alloc, &info, &rows);
	for (i = 0; out && i < info.rows; i += n) {
		n = kalm__min(n, info.rows - i);
		for (k = 0; k < n; k++) kalm__repool_row(&p, doc, ratio / doc->info.ratio, i + k, p.sums + k * info.width);
		if (kalm__is_coded(info.bits))
			kalm__doc_write_rows(code, p.kernels, &p.work, rows + i * row_bytes, p.sums, n, info.bits, ratio);
		else kalm__doc_write_row(rows + i * row_bytes, p.sums, info.width, info.bits);
	}
	kalm__release(&model->alloc, p.block, p.size);
	if (!out) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a document of %u rows", info.rows);
	bad = kalm__doc_overflow(rows, &info);
	if (bad < info.rows) {
		kalm__doc_release(out);
		return kalm__fail(err, KALM_OVERFLOW, "numbers overflowed: row %u of the coarser document is not finite", bad);
	}
	kalm__doc_seal(out, rows);
	*coarser = out;
	return KALM_OK;
}

KALM_API void kalm_doc_get_info(const kalm_doc *doc, kalm_doc_info *info)
{
	if (!info) return;
	memset(info, 0, sizeof *info);
	if (doc) *info = doc->info;
}

KALM_API void kalm_doc_free(kalm_doc *doc) { kalm__doc_release(doc); }

#ifdef __cplusplus
}
#endif

/* ---- begin src/public_rerank.h ---- */
/* public_rerank.h - the functions of api.h that score: reranking, the best few, what the cache keeps, sorting. */
#define KALM__PUBLIC_RERANK_H


#ifdef __cplusplus
extern "C" {
#endif

enum { KALM__TOGETHER = 64 };

/* Score documents that exist for that alone, KALM__TOGETHER at a time: those of docs at the coarse ratio, or (docs NULL) those
	that texts become. scores[i] is that of number i, index set. */
KALM__FN kalm_result kalm__score_made(kalm_context *ctx, const kalm__prompt *prompt, const kalm_doc *const *docs,
									  const kalm_text *texts, size_t count, kalm__job *job, kalm_score *scores, kalm_error *err)
{
	kalm_doc *made[KALM__TOGETHER];
	kalm__passages source;
	size_t first, i;
	kalm_result r = KALM_OK;
	memset(&source, 0, sizeof source);
	for (first = 0; !r && first < count; first += KALM__TOGETHER) {
		size_t n = kalm__min(count - first, KALM__TOGETHER);
		for (i = 0; i < n; i++) made[i] = NULL;
		job->base = first;
		for (i = 0; docs && !r && i < n; i++)
			r = kalm_doc_repool(ctx->model, docs[first + i], job->params->coarse_ratio, 0, &made[i], err);
		if (!docs) {
			source.texts = texts + first;
			r = kalm__encode_all(ctx, &source, n, job, made, err);
		}
		if (!r) r = kalm__score_docs(ctx, prompt, (const kalm_doc *const *)made, n, job, scores + first, err);
		for (i = 0; i < n; i++) kalm__doc_release(made[i]);
	}
	job->base = 0;
	return r;
}

/* The prompt is that of the query or, where ids is not NULL, these. What is ranked: texts (is_text), else docs. */
KALM__FN kalm_result kalm__rank(kalm_context *ctx, kalm_text query, const kalm_ids *ids, const kalm_doc *const *docs, int is_text,
								const kalm_text *texts, size_t count, const kalm_params *params, kalm_score *scores, kalm_error *err)
{
	kalm_params p;
	kalm__job job;
	kalm__prompt prompt;
	kalm_result r;
	kalm__no_error(err);
	KALM__NEED(ctx);
	if (count && is_text) KALM__NEED(texts);
	if (count && !is_text) KALM__NEED(docs);
	if (count) KALM__NEED(scores);
	if (count) memset(scores, 0, count * sizeof *scores);
	if (ids && (!ids->count || !ids->data)) return kalm__fail(err, KALM_BAD_ARGUMENT, "the prompt has no tokens");
	if (ids && ids->count > ctx->max_prompt)
		return kalm__fail(err, KALM_BAD_ARGUMENT, "the prompt has %z tokens, this context takes %z (max_query_tokens)",
						  ids->count, ctx->max_prompt);
	r = kalm__check_params(params, &p, err);
	if (is_text && (!params || !params->bits)) p.bits = 32;  /* nothing is kept, so nothing need be rounded */
	kalm__job_begin(&job, &p, count, (size_t)ctx->model->file.shape.side[KALM__DECODER].layers +
									 (is_text ? ctx->model->file.shape.side[KALM__ENCODER].layers : 0));
	if (!r && is_text) r = kalm__need_side(ctx->model, KALM__ENCODER, err);
	if (!r) r = kalm__need_side(ctx->model, KALM__DECODER, err);
	memset(&prompt, 0, sizeof prompt);
	if (ids) {
		prompt.ids = ctx->memory.prompt;
		prompt.tokens = ids->count;
		prompt.prefix = p.prefix_tokens;
		memcpy(ctx->memory.prompt, ids->data, ids->count * sizeof *ids->data);  /* callbacks cannot change it any more */
		if (!r) r = kalm__check_ids(ctx, "prompt", 0, prompt.ids, prompt.tokens, err);
	} else if (!r) r = kalm__need_tokenizer(ctx->model, err);
	if (!r && !is_text) r = kalm__check_docs(ctx, docs, count, err);
	if (!r && !ids) r = kalm__take_prompt(ctx, query, &job, &prompt, err);
	if (!r) r = is_text ? kalm__score_made(ctx, &prompt, NULL, texts, count, &job, scores, err)
						: kalm__score_docs(ctx, &prompt, docs, count, &job, scores, err);
	if (r && count) memset(scores, 0, count * sizeof *scores);
	return r;
}

KALM_API kalm_result kalm_rerank(kalm_context *ctx, kalm_text query, const kalm_doc *const *docs, size_t count,
								 const kalm_params *params, kalm_score *scores, kalm_error *err)
{
	return kalm__rank(ctx, query, NULL, docs, 0, NULL, count, params, scores, err);
}

KALM_API kalm_result kalm_rerank_ids(kalm_context *ctx, kalm_ids ids, const kalm_doc *const *docs, size_t count,
									 const kalm_params *params, kalm_score *scores, kalm_error *err)
{
	return kalm__rank(ctx, kalm__text(""), &ids, docs, 0, NULL, count, params, scores, err);
}

KALM_API void kalm_context_get_cache(const kalm_context *ctx, kalm_cache_info *info)
{
	if (!info) return;
	memset(info, 0, sizeof *info);
	if (!ctx) return;
	info->hits = ctx->cache.hits;
	info->misses = ctx->cache.misses;
	info->dropped = ctx->cache.dropped;
	info->documents = ctx->cache.count;
	info->bytes = ctx->cache.bytes;
	info->limit = ctx->cache.limit;
}

KALM_API void kalm_context_clear_cache(kalm_context *ctx)
{
	if (ctx) kalm__cache_clear(&ctx->cache, &ctx->alloc);
}

/* The document's state for the instruction of `params`, pinned, computed or fresh; the tokens it is for are in memory.ids. */
KALM__FN kalm_result kalm__open_state(kalm_context *ctx, const kalm_doc *doc, const kalm_params *params, kalm__state **state,
									  kalm_error *err)
{
	kalm_params p;
	kalm__job job;
	kalm__state_key key;
	size_t tokens = 0;
	kalm_result r = kalm__check_params(params, &p, err);
	p.progress = NULL;  /* layers x documents is no measure of this */
	kalm__job_begin(&job, &p, 0, 0);
	if (!r) r = kalm__need_side(ctx->model, KALM__DECODER, err);
	if (!r) r = kalm__need_tokenizer(ctx->model, err);
	if (!r) r = kalm__check_docs(ctx, &doc, 1, err);
	if (!r) r = kalm__prefix_ids(ctx, &job, &tokens, err);
	if (!r && !tokens) r = kalm__fail(err, KALM_BAD_ARGUMENT, "no tokens of the prompt come before the query");
	if (!r && tokens > ctx->max_prompt)
		r = kalm__fail(err, KALM_BAD_ARGUMENT, "the instruction does not fit the %z tokens of a prompt", ctx->max_prompt);
	if (r) return r;
	key = kalm__state_key_of(ctx, doc, ctx->memory.ids, tokens);
	*state = kalm__state_find(&ctx->cache, &key);
	if (!*state) *state = kalm__state_new(&ctx->cache, &ctx->alloc, &key);
	if (!*state) return kalm__fail(err, KALM_NO_MEMORY, "no room for a state of %z bytes in the cache of %z", key.size, ctx->cache.limit);
	return KALM_OK;
}

KALM_API kalm_result kalm_state_save(kalm_context *ctx, const kalm_doc *doc, const kalm_params *params, void *data,
									 size_t capacity, size_t *size, kalm_error *err)
{
	kalm_params quiet;
	kalm__job job;
	kalm__state *s = NULL;
	unsigned char *out = (unsigned char *)data;
	kalm_result r;
	kalm__no_error(err);
	KALM__NEED(size);
	*size = 0;
	KALM__NEED(ctx);
	KALM__NEED(doc);
	if (capacity) KALM__NEED(data);
	r = kalm__open_state(ctx, doc, params, &s, err);
	if (r) return r;
	*size = s->key.size + KALM__STATE_HEADER;
	if (capacity >= *size) {
		memset(&quiet, 0, sizeof quiet);
		kalm__job_begin(&job, &quiet, 0, 0);
		r = kalm__build_states(ctx, s->key.prefix, s->key.tokens, &doc, 0, &s, 1, &job, err);
		if (!r) {
			kalm__state_header(out, ctx->model->file.fingerprint, &s->key, ctx->state_bits);
			memcpy(out + KALM__STATE_HEADER, s->data, s->key.size);
			kalm__put_u64(out + 48, kalm__state_checksum(out, s->data, s->key.size));
		}
	}
	kalm__state_unpin(&ctx->cache, &ctx->alloc, s);
	if (r) *size = 0;
	return r;
}

KALM_API kalm_result kalm_state_load(kalm_context *ctx, const kalm_doc *doc, const kalm_params *params, const void *data,
									 size_t size, kalm_error *err)
{
	const unsigned char *p = (const unsigned char *)data;
	unsigned char want[KALM__STATE_HEADER];
	kalm__state *s = NULL;
	size_t need;
	uint32_t version, bits;
	kalm_result r;
	kalm__no_error(err);
	KALM__NEED(ctx);
	KALM__NEED(doc);
	KALM__NEED(data);
	if (size < KALM__STATE_HEADER || memcmp(p, "KSTA", 4) != 0)
		return kalm__fail(err, KALM_BAD_FILE, "these %z bytes are no stored state", size);
	version = kalm__u32(p + 4);
	bits = version > KALM__STATE_VERSION ? kalm__u32(p + 56) : 0;
	if (version != KALM__STATE_VERSION + (bits != 0))
		return kalm__fail(err, KALM_BAD_VERSION, "the state has format version %u, this library reads 2 and 3", version);
	if (bits != ctx->state_bits)
		return kalm__fail(err, KALM_MISMATCH, "the state was made with state_bits %u, this context has %u", bits, ctx->state_bits);
	r = kalm__open_state(ctx, doc, params, &s, err);
	if (r) return r;
	need = s->key.size + KALM__STATE_HEADER;  /* what the document and the prompt at hand ask for, not the header */
	kalm__state_header(want, ctx->model->file.fingerprint, &s->key, bits);
	if (memcmp(want, p, 48) != 0)
		r = kalm__fail(err, KALM_MISMATCH, "the state was made by another model, for another document or for another instruction");
	else if (size != need)
		r = kalm__fail(err, KALM_BAD_FILE, "the state has %z bytes, its header asks for %z", size, need);
	else if (kalm__u64(p + 56) != bits)
		r = kalm__fail(err, KALM_BAD_FILE, "bytes %u to 63 of the state's header are not zero", bits ? 60 : 56);
	else if (kalm__state_checksum(p, p + KALM__STATE_HEADER, s->key.size) != kalm__u64(p + 48))
		r = kalm__fail(err, KALM_BAD_FILE, "the state is damaged: its checksum does not match");
	else if (s->fresh) {
		memcpy(s->data, p + KALM__STATE_HEADER, s->key.size);
		s->fresh = KALM__STATE_COMPUTED;
	}
	kalm__state_unpin(&ctx->cache, &ctx->alloc, s);
	return r;
}

KALM_API kalm_result kalm_rerank_top(kalm_context *ctx, kalm_text query, const kalm_doc *const *docs, size_t count,
									 size_t top_k, const kalm_params *params, kalm_score *scores, size_t *found,
									 kalm_error *err)
{
	kalm_params p;
	kalm__job job;
	kalm__prompt prompt;
	kalm_score *all = NULL;
	const kalm_doc **chosen = NULL;
	uint32_t *place = NULL;
	size_t keep = count, i, bytes;
	kalm_result r;
	kalm__no_error(err);
	KALM__NEED(found);
	*found = 0;
	KALM__NEED(ctx);
	if (count) KALM__NEED(docs);
	if (top_k) KALM__NEED(scores);
	r = kalm__check_params(params, &p, err);
	if (!r) r = kalm__need_side(ctx->model, KALM__DECODER, err);
	if (!r) r = kalm__need_tokenizer(ctx->model, err);
	if (!r) r = kalm__check_docs(ctx, docs, count, err);
	if (r) return r;
	if (p.coarse_ratio) keep = kalm__min(count, kalm__max(top_k, p.coarse_keep ? p.coarse_keep : kalm__mul(top_k, 4)));
	kalm__job_begin(&job, &p, p.coarse_ratio ? count + keep : keep, ctx->model->file.shape.side[KALM__DECODER].layers);
	r = kalm__take_prompt(ctx, query, &job, &prompt, err);
	if (r || !count || !top_k) return r;
	bytes = kalm__mul(count, sizeof *all + sizeof *chosen + sizeof *place);
	all = (kalm_score *)kalm__alloc(&ctx->alloc, bytes);
	if (!all) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the scores of %z documents", count);
	{
		void *behind = all + count;
		chosen = (const kalm_doc **)behind;
		behind = chosen + count;
		place = (uint32_t *)behind;
	}
	for (i = 0; i < count; i++) place[i] = (uint32_t)i;
	if (p.coarse_ratio) {
		kalm_params quiet = p;
		quiet.on_score = NULL;  /* the last pass alone tells its scores */
		job.params = &quiet;
		r = kalm__score_made(ctx, &prompt, docs, NULL, count, &job, all, err);
		job.params = &p;
		if (!r) kalm_sort(all, count);
		for (i = 0; !r && i < count; i++) place[i] = all[i].index;
	}
	for (i = 0; i < keep; i++) chosen[i] = docs[place[i]];
	job.place = place;
	if (!r) r = kalm__score_docs(ctx, &prompt, chosen, keep, &job, all, err);
	if (!r) {
		kalm_sort(all, keep);
		*found = kalm__min(keep, top_k);
		memcpy(scores, all, *found * sizeof *scores);
	}
	kalm__release(&ctx->alloc, all, bytes);
	return r;
}

KALM_API kalm_result kalm_rerank_texts(kalm_context *ctx, kalm_text query, const kalm_text *texts, size_t count,
									   const kalm_params *params, kalm_score *scores, kalm_error *err)
{
	return kalm__rank(ctx, query, NULL, NULL, 1, texts, count, params, scores, err);
}

KALM__FN int kalm__before(const kalm_score *a, const kalm_score *b)
{
	return a->margin > b->margin || (a->margin >= b->margin && a->index < b->index);
}

/* Heap sort: in place, n log n whatever comes; (margin, index) are distinct pairs, so the order is total. */
KALM_API void kalm_sort(kalm_score *scores, size_t count)
{
	size_t start = count / 2, end = count;
	if (!scores) return;
	while (end > 1) {
		size_t root, child;
		kalm_score moving;
		if (start) {
			moving = scores[--start];
		} else {
			moving = scores[--end];
			scores[end] = scores[0];
		}
		for (root = start; (child = 2 * root + 1) < end; root = child) {
			if (child + 1 < end && kalm__before(&scores[child], &scores[child + 1])) child++;
			if (!kalm__before(&moving, &scores[child])) break;
			scores[root] = scores[child];
		}
		scores[root] = moving;
	}
}

#ifdef __cplusplus
}
#endif


#ifdef __GNUC__
#pragma GCC diagnostic pop
#endif

#endif /* KALM__IMPLEMENTED */
#endif /* KALM_RERANK_IMPLEMENTATION */

/* ---- begin src/license.h ---- */
/* ---- licence: MIT ---------------------------------------------------------------------------------------------

Copyright (c) 2026 the kalm_rerank.h authors

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE. */
