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
