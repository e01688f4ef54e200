/* arena.c - no heap, no threads, no files inside the library: a model in memory, and one fixed array for everything else.

     cc -O2 -I. examples/arena.c -o arena -lm
     ./arena tiny.kalm "program to retouch photos" "GIMP edits pictures" "vi edits text"

   A microcontroller would have the model in its flash and no main; tests/freestanding runs this very file on an
   emulated Cortex-M7 with newlib. Here the file is read with fopen, which is the program's business, not the library's. */
#define KALM_NO_STDIO
#define KALM_NO_THREADS
#define KALM_MALLOC(size) ((void)(size), (void *)0)      /* nothing may come from here */
#define KALM_FREE(ptr) ((void)(ptr))
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include <stdio.h>

#ifndef ARENA_BYTES
#  define ARENA_BYTES (7u << 20)
#endif
#ifndef MODEL_BYTES
#  define MODEL_BYTES (8u << 20)
#endif

/* The allocator: hands out from the front, takes nothing back; what a query used is dropped as a whole. */
typedef struct arena {
    unsigned char *data;
    size_t         size, used, most;
} arena;

static void *take(void *user, size_t size)
{
    arena *a = (arena *)user;
    void *p = a->data + a->used;
    size = (size + 15) & ~(size_t)15;
    if (size > a->size - a->used) return NULL;
    a->used += size;
    if (a->used > a->most) a->most = a->used;
    return p;
}

static void drop(void *user, void *ptr, size_t size) { (void)user, (void)ptr, (void)size; }

static union { unsigned char bytes[ARENA_BYTES]; double align; void *align_too; } memory;
static unsigned char model_bytes[MODEL_BYTES + 64];

int main(int argc, char **argv)
{
    enum { MOST = 16 };
    unsigned char *data = model_bytes + (64 - ((uintptr_t)model_bytes & 63)) % 64;
    kalm_text query, texts[MOST];
    kalm_score scores[MOST];
    kalm_model *model = NULL;
    kalm_context *ctx = NULL;
    kalm_config config;
    kalm_error err;
    arena a;
    size_t size, count, i, mark, bytes;
    FILE *f = argc > 3 && argc <= 3 + MOST ? fopen(argv[1], "rb") : NULL;
    if (!f) {
        puts("usage: arena MODEL.kalm QUERY TEXT... (1 to 16 texts; a model that can be read)");
        return 2;
    }
    size = fread(data, 1, MODEL_BYTES, f);
    fclose(f);

    a.data = memory.bytes;
    a.size = sizeof memory.bytes;
    a.used = a.most = 0;
    memset(&config, 0, sizeof config);
    config.allocator.alloc = take;
    config.allocator.release = drop;
    config.allocator.user = &a;
    config.threads = 1;
    config.max_doc_tokens = 128;
    config.max_query_tokens = 64;
    if (kalm_model_open_memory(data, size, &config, &model, &err)) return puts(err.text), 1;
    if (kalm_context_bytes(model, &config, &bytes, &err)) return puts(err.text), 1;
    printf("bytes of the arena: %lu for the model, %lu for the context, ", (unsigned long)a.used, (unsigned long)bytes);
    if (kalm_context_new(model, &config, &ctx, &err)) return puts(err.text), 1;

    query.data = argv[2];
    query.size = KALM_NUL;
    count = (size_t)argc - 3;
    for (i = 0; i < count; i++) texts[i].data = argv[3 + i], texts[i].size = KALM_NUL;
    mark = a.used;                                       /* every query begins here again */
    if (kalm_rerank_texts(ctx, query, texts, count, NULL, scores, &err)) return puts(err.text), 1;
    a.used = mark;

    printf("%lu at most in all\n", (unsigned long)a.most);
    kalm_sort(scores, count);
    for (i = 0; i < count; i++)
        printf("%lu %.4f %s\n", (unsigned long)scores[i].index, (double)scores[i].score, texts[scores[i].index].data);
    kalm_context_free(ctx);
    kalm_model_close(model);
    return 0;
}
