/* kalm-quantize - a Hugging Face checkpoint becomes one .kalm file; also tells what such a file holds and verifies it.

   The command reads block by block (16 rows of a matrix at a time), so its memory does not grow with the model: threads
   code the rows of one batch while one of them writes the batch before. The file gets its name when it is whole. */
#include "files.h"                     /* before all else, see there */
#define KALM_RERANK_IMPLEMENTATION
#include "../src/kalm_rerank_in.h"
#include "checkpoint.h"
#include "codecs.h"
#include "../tokenizer/import.h"
#include <stdio.h>
#include <stdlib.h>

static const char usage[] =
    "usage: kalm-quantize CHECKPOINT_FOLDER OUT.kalm [options]\n"
    "       kalm-quantize --info FILE.kalm [--errors]\n"
    "       kalm-quantize --verify FILE.kalm\n"
    "\n"
    "Makes one .kalm file from a Hugging Face checkpoint of a T5Gemma2 reranker: config.json, model.safetensors (or its\n"
    "shards with model.safetensors.index.json; BF16, F16 or F32) and tokenizer.json or tokenizer.model.\n"
    "\n"
    "  --weights TYPE      of the matrices: f32, f16, bf16, q8 (default) or q4\n"
    "  --embedding TYPE    of the embedding table: default q8 for q8 and q4 weights (it changes a row by half a percent,\n"
    "                      less than either does to the matrices, and the table is most of a small file), else the type\n"
    "                      it has in the checkpoint, which loses nothing, but f32 only for f32 weights\n"
    "  --tokenizer FILE    default: tokenizer.json in the folder, else tokenizer.model; 'none': token ids only\n"
    "  --yes-id N --no-id N   the answer tokens; default: the last tokens of \"yes\" and \"no\"\n"
    "  --name TEXT         the name the file carries; default: that of the folder\n"
    "  --system TEXT       the system sentence of the prompt, and\n"
    "  --instruction TEXT  the instruction used where the user of the library gives none\n"
    "  --threads N         default: one per core\n"
    "  --quiet             print errors only\n"
    "\n"
    "  --info FILE         print shape, sections, sizes and checksums of a .kalm file; with --errors also each tensor\n"
    "                      and how much rounding changed it (root mean square, relative to that of its weights)\n"
    "  --verify FILE       read the whole file and compare every section with its checksum\n";

typedef struct options {
    const char *input, *output, *info, *verify, *tokenizer, *name, *system, *instruction;
    uint32_t    weights, embedding, yes_id, no_id, threads;
    int         errors, quiet;
} options;

enum { NO_ID = 0x7fffffff };

static int complain(const char *text)
{
    fprintf(stderr, "kalm-quantize: %s\n", text);
    return 1;
}

/* ---- progress ------------------------------------------------------------------------------------------------------ */

typedef struct progress {
    double   begun, drawn;
    uint64_t done, total;              /* bytes of the checkpoint */
    int      width;                    /* of the terminal; 0: lines instead of a bar */
    int      quiet, shown;
} progress;

static void progress_clear(progress *p)
{
    if (p->shown) fprintf(stderr, "\r%*s\r", p->width - 1, "");
    p->shown = 0;
}

static void progress_step(progress *p, const char *what)
{
    if (p->quiet || p->width) return;
    fprintf(stderr, "%5.1f s  %3.0f %%  %s\n", kalm__now() - p->begun,
            p->total ? 100.0 * (double)p->done / (double)p->total : 0.0, what);
}

static void progress_draw(progress *p, const char *what)
{
    double now = kalm__now(), passed = now - p->begun, share, rate;
    char line[240], bar[31];
    int i, n;
    if (p->quiet || !p->width || now - p->drawn < 0.1) return;
    p->drawn = now;
    share = p->total ? (double)p->done / (double)p->total : 0;
    rate = passed > 0 ? (double)p->done / passed : 0;
    for (i = 0; i < 30; i++) bar[i] = i < (int)(share * 30) ? '#' : '.';
    bar[30] = 0;
    n = snprintf(line, sizeof line, "[%s] %3.0f %%  %.0f MB/s", bar, share * 100, rate / 1e6);
    if (rate > 0 && passed > 0.5)
        n += snprintf(line + n, sizeof line - (size_t)n, "  %.0f s left", (double)(p->total - p->done) / rate);
    snprintf(line + n, sizeof line - (size_t)n, "  %s", what);
    fprintf(stderr, "\r%-*.*s", p->width - 1, p->width - 1, line);
    p->shown = 1;
}

/* ---- the plan: which tensors the file has and where -------------------------------------------------------------------- */

enum { ITEM_VECTOR, ITEM_HEAD, ITEM_MATRIX, ITEM_TABLE };
enum { TABLE_ROWS = 256 };             /* rows of a table coded at a time: always a multiple of 64 bytes */

typedef struct item {
    kalm__tensor           t;
    int                    what;
    const kalm__st_tensor *from;
    uint32_t               turn_out, turn_in;   /* heads' size where V's rows or O's columns are rotated with the heads */
    uint64_t               sum, bytes;          /* bytes in the file: data, scales and sums, padded to 64 */
    size_t                 units;
} item;

typedef struct plan {
    kalm__checkpoint c;
    item    *items;                    /* in the order of the file */
    size_t   count;
    uint64_t weights_bytes, source_bytes;
    uint32_t head_id[2];
} plan;

static void plan_item(plan *p, int what, uint32_t kind, uint32_t layer, uint32_t type, const kalm__st_tensor *from)
{
    item *it = &p->items[p->count++];
    const kalm__shape *m = &p->c.shape;
    const kalm__side *s = &m->side[kind / 32];
    memset(it, 0, sizeof *it);
    it->what = what;
    it->from = from;
    it->t.kind = kind;
    it->t.layer = layer;
    it->t.type = type;
    kalm__tensor_shape(m, kind, &it->t.rows, &it->t.cols);
    it->units = 1;
    if (what == ITEM_MATRIX) {
        uint64_t padded;
        it->units = ((size_t)it->t.rows + KALM__PANEL - 1) / KALM__PANEL;
        padded = (uint64_t)it->units * KALM__PANEL;
        it->t.size = (uint64_t)it->units * kalm__panel_bytes(type, it->t.cols);
        it->bytes = it->t.size;
        if (kalm__is_quantised(type)) {
            it->t.scale = it->bytes;   /* relative to the tensor for now */
            it->t.sum = it->bytes + padded * 4;
            it->bytes += padded * 8;
            switch (kind % 32) {
            case KALM__T_Q: case KALM__T_K: case KALM__T_GATE: case KALM__T_UP: it->t.rotated = 1; break;
            case KALM__T_V: it->t.rotated = 1, it->turn_out = s->head_dim; break;
            case KALM__T_O: it->turn_in = s->head_dim; break;
            default: it->t.rotated = type == KALM__Q4; break;      /* DOWN: costs nothing measurable at 8 bits */
            }
        }
    } else if (what == ITEM_TABLE) {
        it->units = ((size_t)it->t.rows + TABLE_ROWS - 1) / TABLE_ROWS;
        it->t.size = it->bytes = (uint64_t)it->t.rows * kalm__embedding_row_bytes(type, it->t.cols);
    } else {
        it->t.size = it->bytes = (uint64_t)it->t.rows * it->t.cols * 4;
    }
    it->bytes = (it->bytes + 63) / 64 * 64;
    p->source_bytes += what == ITEM_HEAD ? 0 : from->size;
}

/* Small vectors first, so that opening a model touches few pages of them; then the layers in the order of use, then the
   tables. `table`: the decoder has a table of its own. */
static kalm_result plan_make(plan *p, uint32_t weights, uint32_t embedding, int table, int eoi, kalm_error *err)
{
    const kalm__shape *m = &p->c.shape;
    const kalm__wanted *w = p->c.wanted, *end = w + p->c.wanted_count;
    uint32_t side, layer;
    uint64_t at = 0;
    size_t i;
    p->items = (item *)calloc(p->c.wanted_count + 8, sizeof *p->items);
    if (!p->items) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the plan");
    for (; w < end; w++)
        if (w->kind % 32 >= KALM__T_Q_NORM) plan_item(p, ITEM_VECTOR, w->kind, w->layer, KALM__F32, w->from);
    for (side = 0; side < 2; side++)
        if (p->c.eoi[side] && (!side || eoi))
            plan_item(p, ITEM_VECTOR, KALM__KIND(side, KALM__T_EOI), 0, KALM__F32, p->c.eoi[side]);
    plan_item(p, ITEM_HEAD, KALM__KIND(KALM__DECODER, KALM__T_HEAD), 0, KALM__F32,
              p->c.tied ? p->c.embed[0] : p->c.head);
    for (side = 0; side < 2; side++)
        for (layer = 0; layer < m->side[side].layers; layer++)
            for (w = p->c.wanted; w < end; w++)
                if (w->kind / 32 == side && w->layer == layer && w->kind % 32 <= KALM__T_DOWN)
                    plan_item(p, ITEM_MATRIX, w->kind, layer, weights, w->from);
    for (side = 0; side < 2; side++)
        if (p->c.embed[side] && (!side || table))
            plan_item(p, ITEM_TABLE, KALM__KIND(side, KALM__T_EMBED), 0, embedding, p->c.embed[side]);
    for (i = 0; i < p->count; i++) {
        item *it = &p->items[i];
        it->t.offset = at;             /* within the section for now */
        if (it->t.scale) it->t.scale += at, it->t.sum += at;
        at += it->bytes;
    }
    p->weights_bytes = at;
    return KALM_OK;
}

/* ---- floats from the checkpoint ------------------------------------------------------------------------------------------ */

static size_t element_bytes(uint32_t type) { return type == KALM__F32 ? 4 : 2; }

/* out [n] from raw little-endian numbers; returns the index of the first that is not finite, or n. */
static size_t widen(uint32_t type, const unsigned char *raw, size_t n, float *out)
{
    size_t i;
    uint32_t bad = 0;
    if (type == KALM__F32) for (i = 0; i < n; i++) out[i] = kalm__f32(raw + 4 * i);
    else if (type == KALM__F16) for (i = 0; i < n; i++) out[i] = kalm__from_f16((uint16_t)kalm__u16(raw + 2 * i));
    else for (i = 0; i < n; i++) out[i] = kalm__from_bf16((uint16_t)kalm__u16(raw + 2 * i));
    for (i = 0; i < n; i++) bad |= !(fabsf(out[i]) <= 3.402823466e38f);
    if (!bad) return n;
    for (i = 0; fabsf(out[i]) <= 3.402823466e38f; i++) {}
    return i;
}

/* ---- coding one batch of units ------------------------------------------------------------------------------------------- */

typedef struct worker_space {
    unsigned char *raw;
    float         *block, *rows;       /* block: V's heads before their rotation; rows: what is coded */
    float         *turn;               /* [head_dim] */
    void          *scratch;
} worker_space;

enum { UNIT_FINE, UNIT_UNREADABLE, UNIT_NOT_FINITE, UNIT_OVERFLOW };

typedef struct unit_result {
    kalm__loss loss;
    int        state;
    uint64_t   row, col;               /* of what is wrong */
} unit_result;

typedef struct writer {
    kalm__sink     sink;
    kalm__hasher   hash;
    uint64_t       at;                 /* in the file */
    unsigned char *pending;            /* coded, not written */
    size_t         pending_size;
    kalm_result    result;
    kalm_error     err;
} writer;

typedef struct batch {
    const plan     *p;
    const item     *it;
    size_t          first;             /* unit */
    unsigned char  *out;
    size_t          stride;            /* bytes of a unit */
    float          *scale;             /* [rows padded] of the tensor */
    int32_t        *sum;
    worker_space   *spaces;
    unit_result    *results;           /* [units of the batch] */
    writer         *w;
} batch;

static int unit_read(const batch *b, worker_space *s, size_t row, size_t n, float *out, size_t stride, unit_result *r)
{
    const item *it = b->it;
    size_t cols = it->t.cols, bytes = element_bytes(it->from->type), i, bad;
    if (!kalm__input_read(&b->p->c.st.shards[it->from->shard].source, it->from->begin + (uint64_t)row * cols * bytes,
                           s->raw, n * cols * bytes)) {
        r->state = UNIT_UNREADABLE;
        return 0;
    }
    for (i = 0; i < n; i++) {
        bad = widen(it->from->type, s->raw + i * cols * bytes, cols, out + i * stride);
        if (bad < cols) {
            r->state = UNIT_NOT_FINITE;
            r->row = row + i;
            r->col = bad;
            return 0;
        }
        memset(out + i * stride + cols, 0, (stride - cols) * sizeof *out);
    }
    return 1;
}

/* Rows [row, row + n) of a matrix as they are coded: [16][cols32], rotated where the item says so. */
static int unit_rows(const batch *b, worker_space *s, size_t row, size_t n, unit_result *r)
{
    const item *it = b->it;
    size_t cols32 = kalm__cols32(it->t.cols), i, k, c, h;
    memset(s->rows + n * cols32, 0, (KALM__PANEL - n) * cols32 * sizeof *s->rows);
    if (!it->turn_out) {
        if (!unit_read(b, s, row, n, s->rows, cols32, r)) return 0;
    } else {                           /* row i of a head becomes sum over k of R[i][k] row k: only k of its block count */
        size_t dim = it->turn_out, low = row - row % dim % KALM__ROTATION, high = row + n;
        high += KALM__ROTATION - 1;    /* blocks end at a multiple of 64 within the head, or with it */
        if (high > it->t.rows) high = it->t.rows;
        if (!unit_read(b, s, low, high - low, s->block, cols32, r)) return 0;
        for (i = 0; i < n; i++) {
            size_t head = (row + i) / dim * dim;
            float *to = s->rows + i * cols32;
            memset(s->turn, 0, dim * sizeof *s->turn);
            s->turn[row + i - head] = 1;
            kalm__hadamard_scalar(s->turn, dim);
            memset(to, 0, cols32 * sizeof *to);
            for (k = 0; k < dim; k++) {
                const float *from;
                if (s->turn[k] == 0) continue;
                from = s->block + (head + k - low) * cols32;
                for (c = 0; c < it->t.cols; c++) to[c] += s->turn[k] * from[c];
            }
        }
    }
    for (i = 0; i < n; i++) {
        float *to = s->rows + i * cols32;
        if (it->turn_in) for (h = 0; h < it->t.cols; h += it->turn_in) kalm__hadamard_scalar(to + h, it->turn_in);
        if (it->t.rotated) kalm__hadamard_scalar(to, it->t.cols);
    }
    return 1;
}

static void code_unit(const batch *b, size_t i, worker_space *s)
{
    const item *it = b->it;
    size_t unit = b->first + i, cols = it->t.cols, n, k, row;
    unsigned char *out = b->out + i * b->stride;
    unit_result *r = &b->results[i];
    memset(r, 0, sizeof *r);
    switch (it->what) {
    case ITEM_MATRIX:
        row = unit * KALM__PANEL;
        n = kalm__min(KALM__PANEL, it->t.rows - row);
        if (!unit_rows(b, s, row, n, r)) return;
        for (k = 0; k < n * kalm__cols32(cols); k++)
            if (!(fabsf(s->rows[k]) <= kalm__largest_weight(it->t.type))) {
                r->state = UNIT_OVERFLOW;
                r->row = row + k / kalm__cols32(cols);
                return;
            }
        kalm__encode_panel(it->t.type, s->rows, cols, out, b->scale + row, b->sum + row, &r->loss, s->scratch);
        break;
    case ITEM_TABLE:
        row = unit * TABLE_ROWS;
        n = kalm__min(TABLE_ROWS, it->t.rows - row);
        if (!unit_read(b, s, row, n, s->block, kalm__cols32(cols), r)) return;
        for (k = 0; k < n; k++) {
            kalm__loss loss;
            if (!kalm__encode_row(it->t.type, s->block + k * kalm__cols32(cols), cols,
                                  out + k * kalm__embedding_row_bytes(it->t.type, cols), s->rows, &loss)) {
                r->state = UNIT_OVERFLOW;
                r->row = row + k;
                return;
            }
            r->loss.change += loss.change;
            r->loss.weight += loss.weight;
        }
        break;
    case ITEM_HEAD:
        for (k = 0; k < 2; k++) {
            if (!unit_read(b, s, b->p->head_id[k], 1, s->rows, kalm__cols32(cols), r)) return;
            for (n = 0; n < cols; n++) kalm__put_f32(out + (k * cols + n) * 4, s->rows[n]);
        }
        break;
    default: {
        float plus = it->t.kind % 32 == KALM__T_EOI ? 0.0f : 1.0f;
        if (!unit_read(b, s, 0, 1, s->rows, kalm__cols32(cols), r)) return;
        for (n = 0; n < cols; n++) kalm__put_f32(out + n * 4, plus + s->rows[n]);
        break;
    }
    }
}

static void write_pending(writer *w)
{
    if (w->result || !w->pending_size) return;
    kalm__hash_add(&w->hash, w->pending, w->pending_size);
    w->result = kalm__sink_write(&w->sink, w->at, w->pending, w->pending_size, &w->err);
    w->at += w->pending_size;
    w->pending_size = 0;
}

static void batch_task(void *arg, size_t i, unsigned worker)
{
    const batch *b = (const batch *)arg;
    if (!i) write_pending(b->w);
    else code_unit(b, i - 1, &b->spaces[worker]);
}

/* ---- streaming all tensors ---------------------------------------------------------------------------------------------- */

typedef struct streamer {
    kalm__pool     pool;
    kalm__worker   workers[KALM__MAX_THREADS];
    worker_space   spaces[KALM__MAX_THREADS];
    void          *space;              /* one block for all of the above */
    unsigned char *out[2];
    unit_result   *results;
    float         *scale;
    int32_t       *sum;
    size_t         batch_bytes, batch_units;
} streamer;

enum { BATCH_BYTES = 8 << 20 };

static void streamer_end(streamer *s)
{
    kalm__pool_stop(&s->pool);
    free(s->space);
    free(s->out[0]);
    free(s->out[1]);
    free(s->results);
    free(s->scale);
    free(s->sum);
}

static size_t unit_bytes(const item *it)
{
    if (it->what == ITEM_MATRIX) return kalm__panel_bytes(it->t.type, it->t.cols);
    if (it->what == ITEM_TABLE) return TABLE_ROWS * kalm__embedding_row_bytes(it->t.type, it->t.cols);
    return (size_t)it->bytes;
}

static kalm_result streamer_begin(streamer *s, const plan *p, unsigned threads, kalm_error *err)
{
    size_t i, raw = 0, block = 0, rows = 0, turn = 0, scratch = 0, each, all, out = 0, most = 1, tail = 0;
    kalm_allocator alloc;
    memset(s, 0, sizeof *s);
    kalm__pool_start(&s->pool, threads, s->workers, NULL);
    threads = s->pool.size;
    for (i = 0; i < p->count; i++) {
        const item *it = &p->items[i];
        size_t cols32 = kalm__cols32(it->t.cols), n = it->what == ITEM_MATRIX ? KALM__PANEL : 1, blocks = 0;
        if (it->turn_out) blocks = KALM__PANEL + 2 * KALM__ROTATION;
        if (it->what == ITEM_TABLE) blocks = TABLE_ROWS;
        raw = kalm__max(raw, kalm__mul(kalm__max(n, blocks), kalm__mul(cols32, 4)));
        block = kalm__max(block, kalm__mul(blocks, kalm__mul(cols32, 4)));
        rows = kalm__max(rows, kalm__mul(n, kalm__mul(cols32, 4)));
        turn = kalm__max(turn, (size_t)it->turn_out * 4);
        if (it->what == ITEM_MATRIX) {
            scratch = kalm__max(scratch, kalm__encode_scratch(it->t.cols));
            tail = kalm__max(tail, kalm__round_up(it->t.rows, KALM__PANEL));
        }
        most = kalm__max(most, it->units);
        out = kalm__max(out, unit_bytes(it));
    }
    s->batch_units = kalm__min(most, kalm__max((size_t)4 * threads, 1024));
    s->batch_bytes = kalm__max(BATCH_BYTES, kalm__mul(out, threads));
    raw = kalm__round_up(raw, 64), block = kalm__round_up(block, 64), rows = kalm__round_up(rows, 64);
    turn = kalm__round_up(turn, 64), scratch = kalm__round_up(scratch, 64);
    each = kalm__add(kalm__add(raw, block), kalm__add(kalm__add(rows, turn), scratch));
    all = kalm__add(kalm__mul(each, threads), 64);
    alloc = p->c.st.allocator;         /* which refuses a size that overflowed */
    s->space = kalm__alloc(&alloc, all);
    for (i = 0; i < 2; i++)
        s->out[i] = (unsigned char *)kalm__alloc(&alloc, kalm__add(s->batch_bytes, kalm__add(kalm__mul(tail, 8), 64)));
    s->results = (unit_result *)calloc(s->batch_units, sizeof *s->results);
    s->scale = (float *)kalm__alloc(&alloc, kalm__mul(tail, 4));
    s->sum = (int32_t *)kalm__alloc(&alloc, kalm__mul(tail, 4));
    if (!s->space || !s->out[0] || !s->out[1] || !s->results || !s->scale || !s->sum)
        return kalm__fail(err, KALM_NO_MEMORY, "no memory for %u threads: %z bytes each", threads, each);
    for (i = 0; i < threads; i++) {
        unsigned char *at = kalm__align64(s->space) + i * each;
        s->spaces[i].raw = at;
        s->spaces[i].block = (float *)(void *)(at + raw);
        s->spaces[i].rows = (float *)(void *)(at + raw + block);
        s->spaces[i].turn = (float *)(void *)(at + raw + block + rows);
        s->spaces[i].scratch = at + raw + block + rows + turn;
    }
    return KALM_OK;
}

static kalm_result unit_fail(const plan *p, const item *it, const unit_result *r, kalm_error *err)
{
    const char *file = p->c.st.shards[it->from->shard].name;
    if (r->state == UNIT_UNREADABLE)
        return kalm__fail(err, KALM_CANNOT_READ, "%s: tensor %s cannot be read", file, it->from->shown);
    if (r->state == UNIT_NOT_FINITE)
        return kalm__fail(err, KALM_BAD_FILE, "tensor %s has a NaN or an infinity at [%U, %U]", it->from->shown, r->row, r->col);
    return kalm__fail(err, KALM_BAD_FILE, "tensor %s has a number too large for %s in row %U", it->from->shown, kalm__type_name(it->t.type), r->row);
}

static kalm_result stream(streamer *s, plan *p, writer *w, progress *show, kalm_error *err)
{
    size_t i, u, k;
    unsigned current = 0;
    int stage = -1;
    batch b;
    memset(&b, 0, sizeof b);
    b.p = p;
    b.w = w;
    b.spaces = s->spaces;
    b.results = s->results;
    b.scale = s->scale;
    b.sum = s->sum;
    for (i = 0; i < p->count; i++) {
        item *it = &p->items[i];
        kalm__loss loss = { 0, 0 };
        char name[32];
        size_t each = unit_bytes(it), batch_units = kalm__min(s->batch_units, kalm__max(1, s->batch_bytes / each));
        int now = it->what == ITEM_MATRIX ? 1 + (int)(it->t.kind / 32) : it->what == ITEM_TABLE ? 3 : 0;
        static const char *const stages[4] = { "vectors", "layers of the encoder", "layers of the decoder", "embedding" };
        kalm__tensor_name(name, it->t.kind, it->t.layer);
        if (now != stage) progress_step(show, stages[stage = now]);
        b.it = it;
        b.stride = each;
        for (u = 0; u < it->units; u += batch_units) {
            size_t n = kalm__min(batch_units, it->units - u), size = n * each, tail = 0;
            b.first = u;
            b.out = s->out[current];
            if (kalm__interrupted) return kalm__fail(err, KALM_CANCELLED, "interrupted");
            kalm__parallel(&s->pool, n + 1, batch_task, &b);
            if (w->result) {
                if (err) *err = w->err;
                return w->result;
            }
            for (k = 0; k < n; k++) {
                if (s->results[k].state) return unit_fail(p, it, &s->results[k], err);
                loss.change += s->results[k].loss.change;
                loss.weight += s->results[k].loss.weight;
            }
            if (u + n == it->units) {
                size = (size_t)(it->t.size - (uint64_t)u * each);
                if (it->t.scale) {
                    tail = it->units * KALM__PANEL;
                    for (k = 0; k < tail; k++) {
                        kalm__put_f32(b.out + size + 4 * k, s->scale[k]);
                        kalm__put_u32(b.out + size + 4 * (tail + k), (uint32_t)s->sum[k]);
                    }
                    size += tail * 8;
                }
                memset(b.out + size, 0, (64 - size % 64) % 64);
                size = kalm__round_up(size, 64);
            }
            w->pending = b.out;
            w->pending_size = size;
            current = !current;
            show->done += it->what == ITEM_HEAD ? 0 : it->from->size * n / it->units;
            progress_draw(show, name);
        }
        it->t.error = loss.weight > 0 ? (float)sqrt(loss.change / loss.weight) : 0;
    }
    write_pending(w);
    if (w->result && err) *err = w->err;
    return w->result;
}

/* ---- the small sections --------------------------------------------------------------------------------------------------- */

typedef struct section {
    uint64_t       offset, size, hash;
    unsigned char *data;               /* owned; NULL: absent, or the weights, which are on the disk */
} section;

static kalm_result section_shape(section *s, const kalm__shape *m, kalm_error *err)
{
    unsigned char *p;
    unsigned side;
    s->size = KALM__SHAPE_BYTES + 2 * KALM__SIDE_BYTES + m->side[0].layers + m->side[1].layers;
    p = s->data = (unsigned char *)malloc((size_t)s->size);
    if (!p) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %U bytes", s->size);
#define PUT_u32(value) kalm__put_u32(p, value)
#define PUT_f32(value) kalm__put_f32(p, value)
#define PUT(type, name) PUT_##type(m->name), p += 4;
    KALM__SHAPE_FIELDS(PUT)
#undef PUT
#define PUT(type, name) PUT_##type(m->side[side].name), p += 4;
    for (side = 0; side < 2; side++) { KALM__SIDE_FIELDS(PUT) }
#undef PUT
    for (side = 0; side < 2; side++) {
        memcpy(p, m->side[side].full, m->side[side].layers);
        p += m->side[side].layers;
    }
    return KALM_OK;
}

static kalm_result section_strings(section *s, const char *const *strings, kalm_error *err)
{
    size_t i, at = (size_t)KALM__STRINGS * 8, n;
    for (i = 0; i < KALM__STRINGS; i++) {
        const unsigned char *c = (const unsigned char *)strings[i];
        for (n = strlen(strings[i]); n;) {
            size_t k = kalm__json_utf8(c, n);
            if (!k) return kalm__fail(err, KALM_BAD_ARGUMENT, "the text %q is not UTF-8", strings[i], strlen(strings[i]));
            c += k;
            n -= k;
        }
        at += strlen(strings[i]);
    }
    s->size = at;
    s->data = (unsigned char *)malloc(at);
    if (!s->data) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %z bytes", at);
    at = (size_t)KALM__STRINGS * 8;
    for (i = 0; i < KALM__STRINGS; i++) {
        n = strlen(strings[i]);
        kalm__put_u32(s->data + 8 * i, (uint32_t)at);
        kalm__put_u32(s->data + 8 * i + 4, (uint32_t)n);
        memcpy(s->data + at, strings[i], n);
        at += n;
    }
    return KALM_OK;
}

static int item_order(const void *a, const void *b)
{
    const kalm__tensor *s = (const kalm__tensor *)a, *t = (const kalm__tensor *)b;
    if (s->kind != t->kind) return s->kind < t->kind ? -1 : 1;
    return s->layer < t->layer ? -1 : s->layer > t->layer;
}

/* weights_at: where the section of the weights begins in the file. */
static kalm_result section_tensors(section *s, const plan *p, uint64_t weights_at, kalm_error *err)
{
    kalm__tensor *sorted = (kalm__tensor *)malloc(p->count * sizeof *sorted);
    size_t i;
    s->data = (unsigned char *)calloc(p->count, KALM__TENSOR_BYTES);
    if (!s->data || !sorted) {
        free(sorted);
        return kalm__fail(err, KALM_NO_MEMORY, "no memory for %z tensors", p->count);
    }
    for (i = 0; i < p->count; i++) sorted[i] = p->items[i].t;
    qsort(sorted, p->count, sizeof *sorted, item_order);
    for (i = 0; i < p->count; i++) {
        const kalm__tensor *t = &sorted[i];
        unsigned char *at = s->data + i * KALM__TENSOR_BYTES;
        kalm__put_u32(at, t->kind);
        kalm__put_u32(at + 4, t->layer);
        kalm__put_u32(at + 8, t->type);
        kalm__put_u32(at + 12, t->rotated);
        kalm__put_u32(at + 16, t->rows);
        kalm__put_u32(at + 20, t->cols);
        kalm__put_u64(at + 24, weights_at + t->offset);
        kalm__put_u64(at + 32, t->size);
        kalm__put_u64(at + 40, t->scale ? weights_at + t->scale : 0);
        kalm__put_u64(at + 48, t->sum ? weights_at + t->sum : 0);
        kalm__put_f32(at + 56, t->error);
    }
    free(sorted);
    return KALM_OK;
}

/* ---- converting ------------------------------------------------------------------------------------------------------------ */

/* Do two tensors of one shape hold the same numbers? *r is set when they cannot be read. */
static int same_tensor(const kalm__checkpoint *c, const kalm__st_tensor *a, const kalm__st_tensor *b, kalm_result *r,
                       kalm_error *err)
{
    enum { CHUNK = 1 << 18 };
    unsigned char *raw = (unsigned char *)malloc((size_t)CHUNK * 8);
    float *wide = (float *)malloc((size_t)CHUNK * 8);
    uint64_t at, total = a->size / element_bytes(a->type);
    int same = 1;
    if (!raw || !wide) *r = kalm__fail(err, KALM_NO_MEMORY, "no memory to compare two tensors");
    for (at = 0; at < total && same && !*r; at += CHUNK) {
        size_t n = (size_t)(total - at < CHUNK ? total - at : CHUNK), i = element_bytes(a->type), k = element_bytes(b->type);
        if (!kalm__input_read(&c->st.shards[a->shard].source, a->begin + at * i, raw, n * i)
            || !kalm__input_read(&c->st.shards[b->shard].source, b->begin + at * k, raw + (size_t)CHUNK * 4, n * k)) {
            *r = kalm__fail(err, KALM_CANNOT_READ, "tensor %s cannot be read", b->shown);
            break;
        }
        if (a->type == b->type) same = !memcmp(raw, raw + (size_t)CHUNK * 4, n * i);
        else {
            widen(a->type, raw, n, wide);
            widen(b->type, raw + (size_t)CHUNK * 4, n, wide + CHUNK);
            same = !memcmp(wide, wide + CHUNK, n * 4);
        }
    }
    free(raw);
    free(wide);
    return same;
}

static char *folder_name(const char *path)
{
    size_t end = strlen(path), begin;
    char *name;
    while (end > 1 && path[end - 1] == '/') end--;
    begin = end;
    while (begin && path[begin - 1] != '/') begin--;
    name = (char *)malloc(end - begin + 1);
    if (!name) return NULL;
    memcpy(name, path + begin, end - begin);
    name[end - begin] = 0;
    return name;
}

/* The last id of `word`, as the published code takes the answer tokens. */
static kalm_result answer_id(const kalm__tokenizer *t, const kalm_allocator *alloc, const char *word, uint32_t *id,
                             kalm_error *err)
{
    int32_t ids[16];
    size_t count;
    kalm_result r = kalm__tokenize(t, alloc, kalm__text(word), 0, ids, 16, &count, err);
    if (r) return r;
    if (!count || count > 16)
        return kalm__fail(err, KALM_BAD_FILE, "the tokenizer makes %z tokens of \"%s\", the answer: say --%s-id N", count,
                          word, word);
    *id = (uint32_t)ids[count - 1];
    return KALM_OK;
}

/* The tokenizer's section, from --tokenizer or the checkpoint's folder, and the answer tokens that are not given. */
static kalm_result read_tokenizer(const options *o, section *s, uint32_t *yes, uint32_t *no, kalm_error *err)
{
    static const char *const names[2] = { "tokenizer.json", "tokenizer.model" };
    kalm_allocator alloc;
    kalm__tokenizer t;
    char *path = NULL, *data;
    const char *file = o->tokenizer;
    size_t size, blob_size, i;
    kalm_result r;
    int ok;
    if (file && !strcmp(file, "none")) return KALM_OK;
    for (i = 0; !file && i < 2; i++) {
        path = kalm__join_path(o->input, names[i]);
        if (!path) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a path");
        if (kalm__file_exists(path)) file = names[i];
        else free(path), path = NULL;
    }
    if (!file) return KALM_OK;
    alloc = kalm__allocator(NULL, &ok);
    r = kalm__read_whole(path ? path : file, (uint64_t)1 << 30, &data, &size, err);
    free(path);
    if (r) return r;
    r = kalm__import_tokenizer(file, data, size, &alloc, &s->data, &blob_size, err);
    free(data);
    if (r) return r;
    s->size = blob_size;
    r = kalm__tokenizer_open(&t, s->data, blob_size, err);
    if (!r && *yes == NO_ID) r = answer_id(&t, &alloc, "yes", yes, err);
    if (!r && *no == NO_ID) r = answer_id(&t, &alloc, "no", no, err);
    return r;
}

/* The order of sections in the file: the prompt last, so that no offset, and so no fingerprint, depends on it. */
static const int file_order[5] = { KALM__SECTION_SHAPE, KALM__SECTION_TENSORS, KALM__SECTION_TOKENIZER,
                                   KALM__SECTION_WEIGHTS, KALM__SECTION_STRINGS };

static kalm_result write_file(plan *p, section *sections, const char *output, unsigned threads, progress *show,
                              uint64_t *file_size, kalm_error *err)
{
    streamer *s = (streamer *)malloc(sizeof *s);
    writer w;
    unsigned char *front = NULL, *at;
    uint64_t weights_at, size, room, hash;
    size_t i, used = 0;
    kalm__hasher fingerprint;
    kalm_result r;
    memset(&w, 0, sizeof w);
    w.sink.fd = -1;
    if (!s) return kalm__fail(err, KALM_NO_MEMORY, "no memory");
    sections[KALM__SECTION_TENSORS].size = (uint64_t)p->count * KALM__TENSOR_BYTES;
    sections[KALM__SECTION_WEIGHTS].size = p->weights_bytes;
    for (i = 1; i < KALM__SECTION_KINDS; i++) used += sections[i].size > 0;
    size = KALM__HEADER_BYTES + used * KALM__SECTION_BYTES;
    for (i = 0; i < 5; i++) {
        section *one = &sections[file_order[i]];
        uint64_t step = file_order[i] == KALM__SECTION_WEIGHTS ? 4096 : 64;
        if (!one->size) continue;
        one->offset = (size + step - 1) / step * step;
        size = one->offset + one->size;
    }
    weights_at = sections[KALM__SECTION_WEIGHTS].offset;
    *file_size = size;
    r = streamer_begin(s, p, threads, err);
    if (!r) r = kalm__sink_open(&w.sink, output, err);
    if (!r) {
        room = kalm__free_space(&w.sink);
        if (size > room)
            r = kalm__fail(err, KALM_CANNOT_READ, "%s needs %U MB, the disk has %U MB left", kalm__shown(output),
                           size / 1000000 + 1, room / 1000000);
    }
    w.at = weights_at;
    kalm__hash_begin(&w.hash);
    if (!r) r = stream(s, p, &w, show, err);
    if (!r) {
        sections[KALM__SECTION_WEIGHTS].hash = kalm__hash_end(&w.hash);
        r = section_tensors(&sections[KALM__SECTION_TENSORS], p, weights_at, err);
    }
    if (!r) {
        front = (unsigned char *)calloc(1, (size_t)weights_at);
        if (!front) r = kalm__fail(err, KALM_NO_MEMORY, "no memory for the header");
    }
    if (!r) {
        for (i = 1; i < KALM__SECTION_KINDS; i++)
            if (sections[i].data) {
                sections[i].hash = kalm__hash(sections[i].data, (size_t)sections[i].size);
                if (sections[i].offset < weights_at)
                    memcpy(front + sections[i].offset, sections[i].data, (size_t)sections[i].size);
            }
        memcpy(front, KALM__MAGIC, 8);
        kalm__put_u32(front + 8, KALM__FILE_VERSION);
        kalm__put_u32(front + 12, (uint32_t)used);
        kalm__put_u64(front + 16, size);
        at = front + KALM__HEADER_BYTES;
        kalm__hash_begin(&fingerprint);
        {
            unsigned char table[KALM__SECTION_KINDS * KALM__SECTION_BYTES];
            size_t n = 0;
            for (i = 1; i < KALM__SECTION_KINDS; i++) {
                if (!sections[i].size) continue;
                kalm__put_u32(at, (uint32_t)i);
                kalm__put_u64(at + 8, sections[i].offset);
                kalm__put_u64(at + 16, sections[i].size);
                kalm__put_u64(at + 24, sections[i].hash);
                if (i != KALM__SECTION_STRINGS) {
                    memcpy(table + n, at, KALM__SECTION_BYTES);
                    n += KALM__SECTION_BYTES;
                }
                at += KALM__SECTION_BYTES;
            }
            kalm__put_u64(front + 24, kalm__hash(table, n));
        }
        hash = kalm__hash(front, (size_t)(at - front));
        kalm__put_u64(front + 32, hash);
        r = kalm__sink_write(&w.sink, 0, front, (size_t)weights_at, err);
    }
    if (!r && sections[KALM__SECTION_STRINGS].offset > w.at) {
        static const unsigned char zeros[64] = { 0 };
        r = kalm__sink_write(&w.sink, w.at, zeros, (size_t)(sections[KALM__SECTION_STRINGS].offset - w.at), err);
    }
    if (!r) r = kalm__sink_write(&w.sink, sections[KALM__SECTION_STRINGS].offset, sections[KALM__SECTION_STRINGS].data,
                                 (size_t)sections[KALM__SECTION_STRINGS].size, err);
    if (!r && kalm__interrupted) r = kalm__fail(err, KALM_CANCELLED, "interrupted");
    if (!r) r = kalm__sink_close(&w.sink, err);
    if (!r) {                          /* what the library will not open must not get the name */
        kalm_model *model;
        r = kalm_model_open(w.sink.temporary, NULL, &model, err);
        if (!r) kalm_model_close(model);
    }
    if (!r) r = kalm__sink_finish(&w.sink, err);
    if (r) kalm__sink_abandon(&w.sink);
    streamer_end(s);
    free(s);
    free(front);
    return r;
}

#define DEFAULT_SYSTEM \
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. " \
    "Note that the answer can only be \"yes\" or \"no\"."

static uint32_t default_embedding(uint32_t weights, const kalm__checkpoint *c, int table)
{
    uint32_t has = c->embed[0]->type;
    if (kalm__is_quantised(weights)) return KALM__Q8;
    if (table && c->embed[1]->type != has) has = KALM__F32;
    return has == KALM__F32 ? weights : has;
}

static kalm_result convert(const options *o, progress *show, kalm_error *err)
{
    static const char *const prompt[KALM__STRINGS] = {      /* as the published code has them */
        "", "<Document>: ", "<bos><start_of_turn>user\n", "\n\n<Instruct>: ", "\n<Query>: ",
        "<end_of_turn>\n<start_of_turn>model\n\n\n\n",
        DEFAULT_SYSTEM,
        "Given a query, retrieve documents that answer the query."
    };
    const char *strings[KALM__STRINGS];
    section sections[KALM__SECTION_KINDS];
    plan p;
    char *name = folder_name(o->input), line[200];
    uint32_t embedding = o->embedding;
    int table = 0, eoi = 0;
    uint64_t size = 0;
    size_t i;
    kalm_result r;
    memset(&p, 0, sizeof p);
    memset(sections, 0, sizeof sections);
    memcpy(strings, prompt, sizeof strings);
    strings[KALM__STRING_NAME] = o->name ? o->name : name ? name : "";
    if (o->system) strings[KALM__STRING_SYSTEM] = o->system;
    if (o->instruction) strings[KALM__STRING_INSTRUCTION] = o->instruction;
    kalm__checkpoint_begin(&p.c);
    r = kalm__checkpoint_read(&p.c, o->input, err);
    if (!r) {
        uint32_t yes = o->yes_id, no = o->no_id;
        progress_step(show, "tokenizer");
        r = read_tokenizer(o, &sections[KALM__SECTION_TOKENIZER], &yes, &no, err);
        if (r) {
        } else if (yes == NO_ID || no == NO_ID)
            r = kalm__fail(err, KALM_BAD_ARGUMENT, "%s has no tokenizer: say --yes-id N --no-id N", kalm__shown(o->input));
        else if (yes >= p.c.shape.vocabulary || no >= p.c.shape.vocabulary || yes == no)
            r = kalm__fail(err, KALM_BAD_ARGUMENT, "the answer tokens %u and %u must be two ids below %u", yes, no,
                           p.c.shape.vocabulary);
        p.c.shape.weights = o->weights;
        p.c.shape.yes_id = p.head_id[0] = yes;
        p.c.shape.no_id = p.head_id[1] = no;
    }
    if (!r) {
        snprintf(line, sizeof line, "%lu tensors in %lu file(s): %lu + %lu layers, hidden %lu, vocabulary %lu",
                 (unsigned long)p.c.st.count, (unsigned long)p.c.st.shard_count, (unsigned long)p.c.shape.side[0].layers,
                 (unsigned long)p.c.shape.side[1].layers, (unsigned long)p.c.shape.hidden,
                 (unsigned long)p.c.shape.vocabulary);
        progress_step(show, line);
    }
    if (!r && p.c.embed[1]) table = !same_tensor(&p.c, p.c.embed[0], p.c.embed[1], &r, err);
    if (!r && p.c.eoi[0] && p.c.eoi[1]) eoi = !same_tensor(&p.c, p.c.eoi[0], p.c.eoi[1], &r, err);
    if (!r) {
        if (embedding == KALM__TYPES) embedding = default_embedding(o->weights, &p.c, table);
        r = plan_make(&p, o->weights, embedding, table, eoi, err);
    }
    if (!r) r = section_shape(&sections[KALM__SECTION_SHAPE], &p.c.shape, err);
    if (!r) r = section_strings(&sections[KALM__SECTION_STRINGS], strings, err);
    show->total = p.source_bytes;
    if (!r) r = write_file(&p, sections, o->output, o->threads, show, &size, err);
    progress_clear(show);
    if (!r && !o->quiet) {
        double passed = kalm__now() - show->begun;
        fprintf(stderr, "%s: %.1f MB (weights %s, embedding %s) from %.1f MB in %.1f s\n", o->output, (double)size / 1e6,
                kalm__type_name(o->weights), kalm__type_name(embedding), (double)p.source_bytes / 1e6, passed);
    }
    for (i = 0; i < KALM__SECTION_KINDS; i++) free(sections[i].data);
    free(p.items);
    kalm__checkpoint_end(&p.c);
    free(name);
    return r;
}

/* ---- telling about a file ----------------------------------------------------------------------------------------------- */

static const char *const section_names[KALM__SECTION_KINDS] = { "", "shape", "strings", "tensors", "tokenizer", "weights" };

static void print_text(const char *label, kalm_text t)
{
    size_t i;
    printf("  %-12s \"", label);
    for (i = 0; i < t.size; i++) {
        if (t.data[i] == '\n') fputs("\\n", stdout);
        else putchar((unsigned char)t.data[i] < 32 || t.data[i] == 127 ? '?' : t.data[i]);
    }
    puts("\"");
}

static void print_side(const char *name, const kalm__side *s)
{
    uint32_t i, full = 0;
    for (i = 0; i < s->layers; i++) full += s->full[i];
    printf("%-12s %u layers, MLP %u, %u heads of %u on %u, window %u, positions %u, scale %g^-0.5, eps %g\n", name,
           (unsigned)s->layers, (unsigned)s->mlp, (unsigned)s->heads, (unsigned)s->head_dim, (unsigned)s->kv_heads,
           (unsigned)s->window, (unsigned)s->max_positions, (double)s->query_scalar, (double)s->norm_eps);
    printf("%-12s rotary base %g, positions / %g; full layers %g, / %g: %u of %u:", "", (double)s->theta_sliding,
           (double)s->factor_sliding, (double)s->theta_full, (double)s->factor_full, (unsigned)full, (unsigned)s->layers);
    for (i = 0; i < s->layers; i++) if (s->full[i]) printf(" %u", (unsigned)i);
    putchar('\n');
}

/* Tensors of one type together: the matrices, then tables and vectors. */
static void print_totals(const kalm__file *f)
{
    const kalm__section *s = &f->section[KALM__SECTION_TENSORS];
    static const char *const groups[3] = { "matrices", "embedding", "vectors" };
    unsigned group;
    uint32_t type;
    uint64_t i;
    puts("\ntensors            type  count      weights        bytes  bits/weight  rms change");
    for (group = 0; group < 3; group++)
        for (type = 0; type < KALM__TYPES; type++) {
            double weights = 0, bytes = 0, change = 0;
            unsigned long count = 0;
            for (i = 0; i < s->size / KALM__TENSOR_BYTES; i++) {
                kalm__tensor t;
                uint32_t what;
                double n;
                kalm__read_tensor(&t, s->data + i * KALM__TENSOR_BYTES);
                what = t.kind % 32;
                if (t.type != type || group != (what <= KALM__T_DOWN ? 0u : what == KALM__T_EMBED ? 1u : 2u)) continue;
                n = (double)t.rows * (double)t.cols;
                count++;
                weights += n;
                bytes += (double)t.size + (t.scale ? 8.0 * (double)kalm__round_up(t.rows, KALM__PANEL) : 0);
                change += n * (double)t.error * (double)t.error;
            }
            if (count)
                printf("  %-15s  %-4s %6lu %12.0f %12.0f %12.2f %11.5f\n", groups[group], kalm__type_name(type), count, weights,
                       bytes, 8 * bytes / weights, sqrt(change / weights));
        }
}

static void print_tensors(const kalm__file *f)
{
    const kalm__section *s = &f->section[KALM__SECTION_TENSORS];
    uint64_t i;
    puts("\ntensor                          type     rows    cols  rotated        bytes  rms change");
    for (i = 0; i < s->size / KALM__TENSOR_BYTES; i++) {
        kalm__tensor t;
        char name[32];
        kalm__read_tensor(&t, s->data + i * KALM__TENSOR_BYTES);
        printf("  %-28s  %-4s %8u %7u  %-7s %12llu %11.5f\n", kalm__tensor_name(name, t.kind, t.layer), kalm__type_name(t.type),
               (unsigned)t.rows, (unsigned)t.cols, t.rotated ? "yes" : "", (unsigned long long)t.size, (double)t.error);
    }
}

static void print_file(const char *path, const kalm__file *f, int errors)
{
    static const char *const strings[KALM__STRINGS] = { "name", "document", "begin", "instruct", "query", "end", "system",
                                                        "instruction" };
    unsigned i;
    printf("%s: %.1f MB, format version %u\n", path, (double)f->size / 1e6, KALM__FILE_VERSION);
    printf("fingerprint  %016llx\n", (unsigned long long)f->fingerprint);
    if (f->has_tokenizer) printf("tokenizer    %u tokens\n", (unsigned)f->tokenizer.tokens);
    else printf("tokenizer    none: the file takes token ids\n");
    if (f->has_model) {
        const kalm__shape *m = &f->shape;
        printf("model        weights %s, hidden %u, vocabulary %u, answers %u (yes) and %u (no)", kalm__type_name(m->weights),
               (unsigned)m->hidden, (unsigned)m->vocabulary, (unsigned)m->yes_id, (unsigned)m->no_id);
        if (m->eoi_id != 0xffffffffu) printf(", end of image %u", (unsigned)m->eoi_id);
        if (m->softcap > 0) printf(", logits capped at %g", (double)m->softcap);
        putchar('\n');
        print_side("encoder", &m->side[0]);
        print_side("decoder", &m->side[1]);
    }
    puts("texts");
    for (i = 0; i < KALM__STRINGS; i++) print_text(strings[i], f->string[i]);
    puts("\nsection            offset        bytes  checksum");
    for (i = 1; i < KALM__SECTION_KINDS; i++)
        if (f->section[i].data)
            printf("  %-10s %12llu %12llu  %016llx\n", section_names[i], (unsigned long long)f->section[i].offset,
                   (unsigned long long)f->section[i].size, (unsigned long long)f->section[i].checksum);
    if (f->has_model) print_totals(f);
    if (f->has_model && errors) print_tensors(f);
}

/* --info and --verify: the library opens the file, so that all of it has been checked. */
static kalm_result look(const options *o, kalm_error *err)
{
    const char *path = o->info ? o->info : o->verify;
    kalm_model *model;
    kalm_allocator alloc;
    kalm__mapping map;
    kalm__file f;
    int ok;
    kalm_result r = kalm_model_open(path, NULL, &model, err);
    if (r) return r;
    if (o->verify) r = kalm_model_verify(model, err);
    kalm_model_close(model);
    if (!r && o->verify && !o->quiet) printf("%s: all checksums match\n", path);
    if (r || o->verify) return r;
    alloc = kalm__allocator(NULL, &ok);
    r = kalm__map_file(&map, path, &alloc, err);
    if (r) return r;
    r = kalm__file_open(&f, map.data, map.size, err);
    if (!r) print_file(path, &f, o->errors);
    kalm__unmap_file(&map, &alloc);
    return r;
}

/* ---- the command --------------------------------------------------------------------------------------------------------------- */

static int parse_type(const char *text, uint32_t *type)
{
    for (*type = 0; *type < KALM__TYPES; ++*type)
        if (!strcmp(text, kalm__type_name(*type))) return 1;
    return 0;
}

static int parse_number(const char *text, uint32_t most, uint32_t *n)
{
    unsigned long long v = 0;
    const char *c = text;
    for (; *c >= '0' && *c <= '9' && v <= most; c++) v = v * 10 + (unsigned)(*c - '0');
    *n = (uint32_t)v;
    return c != text && !*c && v <= most;
}

static int parse_options(options *o, int argc, char **argv)
{
    static const char *const valued[] = { "--weights", "--embedding", "--tokenizer", "--yes-id", "--no-id", "--name",
                                          "--system", "--instruction", "--threads", "--info", "--verify" };
    char text[200];
    int i, plain = 0, embedding = 0;
    size_t k;
    memset(o, 0, sizeof *o);
    o->weights = KALM__Q8;
    o->yes_id = o->no_id = NO_ID;
    for (i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        int good = 1;
        if (!strcmp(a, "--errors")) o->errors = 1;
        else if (!strcmp(a, "--quiet")) o->quiet = 1;
        else if (!strcmp(a, "--") && !plain) plain = 1;
        else if (plain != 1 && a[0] == '-' && a[1]) {
            for (k = 0; k < sizeof valued / sizeof *valued && strcmp(a, valued[k]); k++) {}
            if (k == sizeof valued / sizeof *valued) {
                snprintf(text, sizeof text, "unknown option %.100s; see --help", a);
                return complain(text);
            }
            if (!v) {
                snprintf(text, sizeof text, "%s needs a value; see --help", a);
                return complain(text);
            }
            i++;
            switch (k) {
            case 0: good = parse_type(v, &o->weights); break;
            case 1: good = embedding = parse_type(v, &o->embedding); break;
            case 2: o->tokenizer = v; break;
            case 3: good = parse_number(v, NO_ID - 1, &o->yes_id); break;
            case 4: good = parse_number(v, NO_ID - 1, &o->no_id); break;
            case 5: o->name = v; break;
            case 6: o->system = v; break;
            case 7: o->instruction = v; break;
            case 8: good = parse_number(v, KALM__MAX_THREADS, &o->threads) && o->threads; break;
            case 9: o->info = v; break;
            default: o->verify = v; break;
            }
            if (!good) {
                snprintf(text, sizeof text, "%s cannot be %.100s; see --help", a, v);
                return complain(text);
            }
        } else if (!o->input) o->input = a;
        else if (!o->output) o->output = a;
        else return complain("more than a folder and a file; see --help");
    }
    if (!embedding) o->embedding = KALM__TYPES;    /* by weights and checkpoint, see default_embedding */
    if (!o->threads) o->threads = kalm__cores() < KALM__MAX_THREADS ? kalm__cores() : KALM__MAX_THREADS;
    if (o->info || o->verify) {
        if (o->input || (o->info && o->verify)) return complain("--info and --verify take one file and nothing else");
        return 0;
    }
    if (!o->input || !o->output) return complain("a checkpoint folder and an output file are needed; see --help");
    return 0;
}

int main(int argc, char **argv)
{
    options o;
    progress show;
    kalm_error err;
    kalm_result r;
    int i;
    kalm__utf8_arguments(&argc, &argv);
    for (i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            fputs(usage, stdout);
            return 0;
        }
    if (parse_options(&o, argc, argv)) return 2;
    kalm__no_error(&err);
    memset(&show, 0, sizeof show);
    show.begun = kalm__now();
    show.width = o.quiet ? 0 : kalm__terminal_width();
    show.quiet = o.quiet;
    kalm__catch_signals();
    r = o.info || o.verify ? look(&o, &err) : convert(&o, &show, &err);
    if (r) complain(err.text);
    return r == KALM_CANCELLED ? 128 + (int)kalm__interrupted : r ? 1 : 0;
}
