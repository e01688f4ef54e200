/* context.h - a context: the working memory of one caller, its threads, and the kernel set it runs on. All memory is one block,
   which kalm__context_plan cuts into pieces; run without a block it only counts, for kalm_context_bytes. */
#ifndef KALM__CONTEXT_H
#define KALM__CONTEXT_H

#include "base.h"
#include "cores.h"
#include "threads.h"
#include "kernel_sets.h"
#include "matmul.h"
#include "attention.h"
#include "rotary.h"
#include "state.h"
#include "model.h"

enum {
    KALM__CHUNK = 256,                 /* rows taken through a layer together, so that their activations stay in the
                                          processor's cache */
    KALM__PROMPT_ROOM = 512,           /* tokens of a prompt beside its query */
    KALM__PROMPT_ROWS = 1024           /* rows of prompts run together, where documents are longer than that */
};

/* A sequence: one text on its way through the encoder, or one prompt beside its document through the decoder. */
typedef struct kalm__seq {
    size_t     row, count;             /* its rows in the batch: x[row] ... x[row + count - 1] */
    size_t     position;               /* of the first of them */
    kalm__keys self, cross;            /* keys and values of the layer at hand: of its own tokens, of its document's rows */
    size_t     place, cross_place;     /* how many keys have room before those in memory.self and memory.cross */
    size_t     item;                   /* which text or document of the caller's it is */
    size_t     tokens;                 /* of a text that is encoded: before it was cut */
    kalm__state *state;                /* kept keys and values of its document; NULL: none */
} kalm__seq;

/* Rows [row, row + count) of one sequence in one chunk; `task`: the number of their first task of attention. */
typedef struct kalm__part {
    size_t seq, row, count, task;
} kalm__part;

typedef struct kalm__memory {
    float  *x;                         /* [rows][hidden]: residual stream */
    void   *acts_in;                   /* rows of a batch, normed and packed for q, k, v */
    void   *acts_doc;                  /* document rows and their rounding losses, packed for the decoder's k, v */
    unsigned char *self;               /* keys and values of all sequences (keys.h), for `rows` keys; prompt_rows in the decoder */
    unsigned char *cross;              /* the same of document rows */
    float  *q, *attended;              /* [chunk][heads * head_dim]: queries, and what attention gives */
    float  *first_q;                   /* the same: layer 0's queries, which all documents of a query share */
    float  *h;                         /* [chunk][mlp]: inside the MLP; or [2][chunk][2][kv_heads * head_dim]: keys and values
                                          of a chunk before they are stored */
    float  *y;                         /* [chunk + MAX_RESIDUAL][hidden]: what o and down give */
    float  *residual;                  /* [ROW_STEP + MAX_RESIDUAL][the longest row]: a chunk's last rows, and the rounding losses
                                          of its residual rows (matmul.h) behind them */
    void   *acts;                      /* [chunk + MAX_RESIDUAL] rows packed for o, gate and up, down */
    kalm__seq  *seqs;                  /* [rows / KEY_STEP] */
    kalm__state **states;              /* [rows / KEY_STEP]: of the documents decoded together */
    kalm__part *parts;                 /* [chunk] */
    uint32_t   *row_seq;               /* [rows]: the sequence a row belongs to */
    uint8_t    *overflow;              /* [rows] of the batch at hand, then [rows] of document rows: 1 where a row, its keys,
                                          values or queries are not finite */
    int32_t    *ids;                   /* [max(rows, 2 * (max_prompt + 8))]: tokens of the texts at hand */
    int32_t    *prompt;                /* [rows]: tokens of the prompt of this call */
    unsigned char *scratch;
    size_t      scratch_size;          /* a worker's */
} kalm__memory;

struct kalm_context {
    const kalm_model *model;
    kalm_allocator alloc;
    void          *block;
    size_t         block_size;
    kalm__pool     pool;
    kalm__backend  backend;
    size_t         rows;               /* of a batch of texts, and of documents' rows in a batch of prompts: the limit */
    size_t         prompt_rows;        /* of a batch of prompts; both multiples of KEY_STEP */
    size_t         chunk;              /* a multiple of KALM__ACTS_STEP */
    size_t         max_doc, max_query, max_prompt;   /* tokens */
    kalm__rotary   rotary[2][2];       /* [side][full attention] */
    kalm__memory   memory;
    kalm__cache    cache;
    uint32_t       state_bits;         /* 0, 8 or 4: see kalm_config */
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
        if (!s->layers) continue;      /* a part of a model that lacks this side */
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
    if (!result) result = kalm__need_rounding(err);         /* the context's threads will round as this one */
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

#endif
