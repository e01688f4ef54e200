/* layer.h - one transformer layer over a batch of sequences, the same for both sides (MODEL.md, Encoder and Decoder):

     x += post_attention_norm( o( attention( pre_attention_norm(x) ) ) )
     x += post_mlp_norm( down( gelu(gate(a)) * up(a) ) ),   a = pre_mlp_norm(x)

   In two steps, since every query needs all keys: kalm__layer_keys packs keys and values of all rows, then
   kalm__layer_rows takes the rows, a chunk at a time, through the rest. Sides differ only in what kalm__layer_run says:
   the windows and the document rows. Each step is a few parallel loops over rows or tiles. */
#ifndef KALM__LAYER_H
#define KALM__LAYER_H

#include "base.h"
#include "context.h"

typedef struct kalm__layer_run {
    kalm_context      *c;
    const kalm__stack *stack;
    const kalm__layer *layer;
    const kalm__rotary *rotary;
    int                side;
    kalm__heads        heads;
    size_t             rows, seqs;     /* of the batch, in c->memory.seqs */
    /* the piece of work at hand */
    size_t             row0, n;        /* rows of the chunk */
    const float       *from;           /* rows to pack */
    size_t             width;
    int                rotated;
    const kalm__matrix *matrix;        /* the matrix rows are packed for */
    const float       *gain;           /* norm before packing; NULL: none */
    const float       *gain_added;     /* norm of y on its way into x; NULL: none */
    size_t             parts;
    int                no_residual;        /* no prompt ends in this batch */
    kalm__residual         residual;           /* rows of the chunk taken in two planes: the last of each prompt */
    const float       *shared_q;       /* queries computed elsewhere, by position in the sequence */
    /* The converter's (quantize/calibrate.h): hears of the rows that matrix `what` is about to see. NULL: nobody */
    void             (*watch)(void *watcher, const struct kalm__layer_run *r, int what);
    void              *watcher;
} kalm__layer_run;

KALM__FN void kalm__layer_begin(kalm__layer_run *r, kalm_context *c, int side, uint32_t layer, size_t rows, size_t seqs)
{
    memset(r, 0, sizeof *r);
    r->c = c;
    r->side = side;
    r->stack = &c->model->file.stack[side];
    r->layer = &r->stack->layers[layer];
    r->heads = kalm__layer_heads(&c->model->file, side, layer);
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

/* ---- rows into packed activations --------------------------------------------------------------------------------- */

/* Pack rows for `target`: [x += norm(y)], [norm], [rotate], pack. One pass while a row is in the first-level cache; rows that
   need none of it are packed from where they are. Where there are residual rows the last piece is packed by kalm__pack_rows, since
   the second planes follow it. */
KALM__FN void kalm__pack_rows_task(void *arg, size_t i, unsigned worker)
{
    const kalm__layer_run *r = (const kalm__layer_run *)arg;
    const kalm__backend *m = &r->c->backend;
    const kalm__ops *ops = m->ops;
    size_t step = KALM__ROW_STEP, first = i * step, count = kalm__min(step, r->n - first), k, f;
    size_t hidden_size = r->c->model->file.shape.hidden_size, last = (r->n - 1) / step * step;
    int later = r->residual.count && first == last, prepare = r->matrix && (r->gain || r->rotated || later);
    float eps = r->stack->shape.norm_eps;
    void *scratch = kalm__scratch(m, worker);
    float *rows = later ? r->c->memory.residual : (float *)scratch;
    const float *source = prepare ? rows : r->from + first * r->width;
    for (k = 0; (prepare || r->gain_added) && k < count; k++) {
        const float *x = r->from + (first + k) * r->width;
        float *out = rows + k * r->width;
        if (r->gain_added) {
            float *stream = r->c->memory.x + (r->row0 + first + k) * hidden_size;
            ops->add_norm(stream, r->c->memory.y + (first + k) * hidden_size, r->gain_added, hidden_size, eps);
            x = stream;
        }
        if (!prepare) continue;
        if (r->gain) ops->rms_norm(out, x, r->gain, r->width, eps);
        else memcpy(out, x, r->width * sizeof(float));
        if (r->rotated) ops->hadamard(out, r->width);
    }
    if (!r->matrix) return;
    for (f = 0; f < r->residual.count; f++)
        if (r->residual.row[f] >= first && r->residual.row[f] < first + count)
            ops->rounding_loss(r->c->memory.residual + (r->n - last + f) * r->width, source + (r->residual.row[f] - first) * r->width,
                               r->width);
    if (later) return;
    if (r->matrix == &r->layer->matrix[KALM__T_Q])
        kalm__pack(m->kernels, kalm__block_of(r->matrix->type, r->n, r->width, r->c->memory.acts_in), first, count,
                   source, r->width);
    else
        kalm__pack(m->kernels, kalm__block_of(r->matrix->type, r->n + r->residual.count, r->width, r->c->memory.acts), first, count,
                   source, r->width);
}

/* Rows [0, n) of `from` for matrix `what` of the layer; what < 0: only x += norm(y). Returns the rows packed, second planes
   of residual rows included. */
KALM__FN size_t kalm__pack_rows(kalm__layer_run *r, const float *from, size_t n, int what, const float *gain)
{
    size_t step = KALM__ROW_STEP, residual = r->residual.count, last = (n - 1) / step * step;
    r->from = from;
    r->n = n;
    r->matrix = what < 0 ? NULL : &r->layer->matrix[what];
    r->rotated = what < 0 ? 0 : r->layer->rotated[what];
    r->width = what < 0 ? r->c->model->file.shape.hidden_size : r->matrix->cols;
    r->gain = gain;
    if (!r->matrix || !kalm__is_quantised(r->matrix->type)) r->residual.count = 0;
    r->residual.at = n;
    kalm__parallel(&r->c->pool, (n + step - 1) / step, kalm__pack_rows_task, r);
    if (r->watch && r->matrix) r->watch(r->watcher, r, what);
    n += r->residual.count;
    if (r->residual.count)
        kalm__pack(r->c->backend.kernels, kalm__block_of(r->matrix->type, n, r->width, r->c->memory.acts), last, n - last,
                   r->c->memory.residual, r->width);
    r->residual.count = residual;
    return n;
}

/* The rows of the chunk at row0 that go in two planes: each prompt's last, whose residual stream the margin is read from.
   Shortens the chunk where they would be too many. Tiny model, Kendall tau to float32 at r = 4 / 32: .9941 / .9930 with these and
   the second planes of document rows (decoder.h), .9933 / .9924 without these, .9932 / .9906 without both. */
KALM__FN void kalm__find_residual(kalm__layer_run *r)
{
    const kalm__memory *m = &r->c->memory;
    size_t i, step = KALM__ACTS_STEP;
    r->residual.count = 0;
    if (r->side != KALM__DECODER || r->no_residual || !kalm__is_quantised(r->layer->matrix[KALM__T_O].type)) return;
    for (i = 0; i < r->n; i++) {
        const kalm__seq *q = &m->seqs[m->row_seq[r->row0 + i]];
        if (r->row0 + i + 1 != q->row + q->count) continue;
        if (r->residual.count == KALM__MAX_RESIDUAL) {
            r->n = i / step * step;    /* the chunks must begin at multiples of step */
            while (r->residual.count && r->residual.row[r->residual.count - 1] >= r->n) r->residual.count--;
            return;
        }
        r->residual.row[r->residual.count++] = i;
    }
}

/* ---- keys and values ----------------------------------------------------------------------------------------------- */

/* Norm, rotate and pack the keys of 16 rows; the values beside them. */
KALM__FN void kalm__store_keys_task(void *arg, size_t i, unsigned worker)
{
    const kalm__layer_run *r = (const kalm__layer_run *)arg;
    const kalm__side *s = &r->stack->shape;
    const kalm__ops *ops = r->c->backend.ops;
    size_t dim = s->head_dim, all = s->kv_heads * dim, k = i * 16, end = kalm__min(k + 16, r->n), h, j, n;
    void *scratch = kalm__scratch(&r->c->backend, worker);
    float *turn = (float *)scratch;
    for (; k < end; k += n) {          /* of one sequence */
        const kalm__seq *q = &r->c->memory.seqs[r->c->memory.row_seq[r->row0 + k]];
        size_t at = q->position + (r->row0 + k - q->row);
        float *keys = r->c->memory.h + k * 2 * all;
        n = kalm__min(end - k, q->row + q->count - (r->row0 + k));
        for (j = 0; j < n; j++) {
            kalm__rotary_at(r->rotary, ops, at + j, turn);
            for (h = 0; h < s->kv_heads; h++) {
                float *key = keys + j * 2 * all + h * dim;
                ops->norm_rotate(key, key, r->layer->norm[KALM__T_K_NORM], dim, s->norm_eps, 1.0f, turn);
                if (r->heads.type == KALM__Q8) ops->hadamard(key, dim);
            }
        }
        kalm__store_keys(&r->heads, ops, &q->self, at, n, keys, keys + all, 2 * all);
    }
}

/* Norm and pack the rows of the batch, and keep the keys and values of all of them: those of the first
   `seqs` sequences. */
KALM__FN void kalm__layer_keys(kalm__layer_run *r, size_t seqs)
{
    kalm__memory *m = &r->c->memory;
    size_t all = (size_t)r->stack->shape.kv_heads * r->stack->shape.head_dim, i;
    r->row0 = 0;
    (void)kalm__pack_rows(r, m->x, r->rows, KALM__T_Q, r->layer->norm[KALM__T_PRE_ATTENTION]);
    for (r->row0 = 0; r->row0 < r->rows; r->row0 += r->c->chunk) {
        r->n = kalm__min(r->c->chunk, r->rows - r->row0);
        kalm__linear(&r->c->backend, &r->layer->matrix[KALM__T_K], m->acts_in, r->rows, r->row0, r->n, m->h, 2 * all, NULL);
        kalm__linear(&r->c->backend, &r->layer->matrix[KALM__T_V], m->acts_in, r->rows, r->row0, r->n, m->h + all, 2 * all, NULL);
        kalm__parallel(&r->c->pool, (r->n + 15) / 16, kalm__store_keys_task, r);
    }
    for (i = 0; i < seqs; i++) kalm__end_keys(&r->heads, &m->seqs[i].self);
}

/* ---- queries and the rest of the layer ------------------------------------------------------------------------------ */

KALM__FN void kalm__rotate_queries_task(void *arg, size_t i, unsigned worker)
{
    const kalm__layer_run *r = (const kalm__layer_run *)arg;
    const kalm__side *s = &r->stack->shape;
    const kalm__ops *ops = r->c->backend.ops;
    size_t dim = s->head_dim, first = i * 16, end = kalm__min(first + 16, r->n), h, k;
    float scale = kalm__over(1.0f, kalm__root(s->query_scalar));
    void *scratch = kalm__scratch(&r->c->backend, worker);
    float *turn = (float *)scratch;
    for (k = first; k < end; k++) {
        const kalm__seq *q = &r->c->memory.seqs[r->c->memory.row_seq[r->row0 + k]];
        float *row = r->c->memory.q + k * s->heads * dim;
        kalm__rotary_at(r->rotary, ops, q->position + (r->row0 + k - q->row), turn);
        for (h = 0; h < s->heads; h++) {
            ops->norm_rotate(row + h * dim, row + h * dim, r->layer->norm[KALM__T_Q_NORM], dim, s->norm_eps, scale, turn);
            if (r->heads.type == KALM__Q8) ops->hadamard(row + h * dim, dim);
        }
    }
}

/* q = norm_rotate(q(acts)) of the chunk */
KALM__FN void kalm__layer_queries(kalm__layer_run *r)
{
    const kalm__side *s = &r->stack->shape;
    kalm__linear(&r->c->backend, &r->layer->matrix[KALM__T_Q], r->c->memory.acts_in, r->rows, r->row0, r->n, r->c->memory.q,
                 (size_t)s->heads * s->head_dim, NULL);
    kalm__parallel(&r->c->pool, (r->n + 15) / 16, kalm__rotate_queries_task, r);
}

KALM__FN void kalm__attention_task(void *arg, size_t i, unsigned worker)
{
    const kalm__layer_run *r = (const kalm__layer_run *)arg;
    const kalm__side *s = &r->stack->shape;
    const kalm__memory *m = &r->c->memory;
    size_t low = 0, high = r->parts, block = kalm__query_block(&r->heads), query, wide = (size_t)s->heads * s->head_dim;
    const kalm__part *p;
    const kalm__seq *q;
    kalm__attention a;
    while (high - low > 1) {           /* the part that task i belongs to */
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
    if (r->side == KALM__ENCODER) {    /* window w sees (w + 1) / 2 - 1 to the left and w / 2 to the right */
        a.left = r->layer->full ? SIZE_MAX : (size_t)(s->window + 1) / 2 - 1;
        a.right = r->layer->full ? SIZE_MAX : (size_t)s->window / 2;
    } else {
        a.left = r->layer->full ? SIZE_MAX : (size_t)s->window - 1;
        a.right = 0;
    }
    a.position = q->position + (p->row - q->row);
    a.q = r->shared_q ? r->shared_q + (p->row - q->row) * wide : m->q + (p->row - r->row0) * wide;
    a.out = m->attended + (p->row - r->row0) * wide;
    kalm__attend(&a, query, kalm__min(block, p->count - query), i % s->kv_heads, kalm__scratch(&r->c->backend, worker));
}

KALM__FN void kalm__layer_attention(kalm__layer_run *r)
{
    const kalm__side *s = &r->stack->shape;
    kalm__memory *m = &r->c->memory;
    size_t row = r->row0, tasks = 0, block = kalm__query_block(&r->heads);
    r->parts = 0;
    while (row < r->row0 + r->n) {
        kalm__part *p = &m->parts[r->parts++];
        const kalm__seq *q;
        p->seq = m->row_seq[row];
        q = &m->seqs[p->seq];
        p->row = row;
        p->count = kalm__min(q->row + q->count, r->row0 + r->n) - row;
        p->task = tasks;
        tasks += (p->count + block - 1) / block * s->kv_heads;
        row += p->count;
    }
    kalm__parallel(&r->c->pool, tasks, kalm__attention_task, r);
}

/* Rows of the next chunk when `left` are left: equal chunks, since a short last one would use the kernels badly. */
KALM__FN size_t kalm__even_chunk(const kalm_context *c, size_t left)
{
    size_t chunks = (left + c->chunk - 1) / c->chunk;
    return kalm__min(left, kalm__round_up((left + chunks - 1) / chunks, KALM__ACTS_STEP));
}

/* Queries, attention and MLP of the rows whose acts lie in acts_in. shared_q: see kalm__layer_run. */
KALM__FN void kalm__layer_rows(kalm__layer_run *r, const float *shared_q)
{
    kalm__memory *m = &r->c->memory;
    const kalm__backend *backend = &r->c->backend;
    const kalm__layer *l = r->layer;
    size_t hidden_size = r->c->model->file.shape.hidden_size, mlp = r->stack->shape.mlp;
    size_t row0, n, all;
    r->shared_q = shared_q;
    for (row0 = 0; row0 < r->rows; row0 += n) {
        r->row0 = row0;
        r->n = kalm__even_chunk(r->c, r->rows - row0);
        kalm__find_residual(r);
        n = r->n;
        if (!shared_q) kalm__layer_queries(r);
        kalm__layer_attention(r);
        all = kalm__pack_rows(r, m->attended, n, KALM__T_O, NULL);
        kalm__linear(backend, &l->matrix[KALM__T_O], m->acts, all, 0, all, m->y, hidden_size, &r->residual);
        r->gain_added = l->norm[KALM__T_POST_ATTENTION];
        all = kalm__pack_rows(r, m->y, n, KALM__T_GATE, l->norm[KALM__T_PRE_MLP]);
        r->gain_added = NULL;
        kalm__gated(backend, &l->matrix[KALM__T_GATE], &l->matrix[KALM__T_UP], m->acts, all, 0, all, m->h, mlp, &r->residual);
        all = kalm__pack_rows(r, m->h, n, KALM__T_DOWN, NULL);
        kalm__linear(backend, &l->matrix[KALM__T_DOWN], m->acts, all, 0, all, m->y, hidden_size, &r->residual);
        r->gain_added = l->norm[KALM__T_POST_MLP];
        (void)kalm__pack_rows(r, m->y, n, -1, NULL);
        r->gain_added = NULL;
    }
    r->residual.count = 0;
}

/* ---- tokens into rows ------------------------------------------------------------------------------------------------ */

/* x = embedding[id] * sqrt(hidden); the end-of-image token has a vector of its own, unscaled. id is in the vocabulary. */
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

#endif
