/* layer.h - one transformer layer over a batch of sequences, the same code for encoder and decoder (docs/MODEL.md):

     x += post_attention_norm( o( attention( pre_attention_norm(x) ) ) )
     x += post_mlp_norm( down( gelu(gate(a)) * up(a) ) ),   a = pre_mlp_norm(x)

   Every query needs all keys of its sequence, so kalm__layer_keys computes and stores the keys and values of all rows, then
   kalm__layer_rows takes the rows through the rest, a chunk at a time. Between two matrices stands a step (kalm__step): rows are
   normed, rotated and packed for the next matrix. Rows meet in attention alone, so sequences can be batched in any way. */
#ifndef KALM__LAYER_H
#define KALM__LAYER_H

#include "base.h"
#include "context.h"

struct kalm__layer_run;
struct kalm__step;
struct kalm__chunk;

/* One layer at work on one batch. */
typedef struct kalm__layer_run {
    kalm_context      *c;
    const kalm__stack *stack;
    const kalm__layer *layer;
    const kalm__rotary *rotary;
    int                side;
    kalm__heads        heads;
    size_t             rows, seqs;     /* of the batch: c->memory.x and c->memory.seqs */
    size_t             prefix;         /* tokens of a prompt whose keys states hold: they are rounded to state_bits */
    int                no_residual;    /* no prompt ends in this batch, so no row is read at the end */
    /* converter: */
    /* quantize/calibrate.h is told of the rows of a step before matrix `what` multiplies them; NULL: nobody is. */
    void             (*observe)(void *observer, const struct kalm__layer_run *r, const struct kalm__chunk *chunk,
                                const struct kalm__step *step, int what);
    void              *observer;
    /* end of converter */
} kalm__layer_run;

/* Rows of the batch that go through the layer together. Residual rows (matmul.h), whose rounding loss is a second row, are beside
   quantised weights the last of each prompt, where the margin is read. */
typedef struct kalm__chunk {
    size_t row0, n;
    kalm__residual residual;
} kalm__chunk;

/* What happens to the rows of a chunk between two matrices, in this order; each may be left out. */
typedef struct kalm__step {
    const float *from;                 /* [n][width]: what a matrix gave, or the residual stream */
    size_t       width;
    const float *add_norm;             /* [width]: add the rows, normed with this gain, to the residual stream, whose rows then go
                                          on in their place */
    const float *norm;                 /* [width]: the gain of the norm before the next matrix */
    int          rotate;               /* the next matrix takes rotated rows (kalm__hadamard, ops.h) */
    const kalm__matrix *into;          /* the next matrix; NULL: none, the rows end in the residual stream */
    void        *out;                  /* its rows, packed */
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

/* ---- steps ---------------------------------------------------------------------------------------------------------- */

typedef struct kalm__step_task {
    const kalm__layer_run *run;
    const kalm__chunk *chunk;
    const kalm__step *step;
    size_t residual, rows;             /* rounding losses to pack, and rows in all: chunk->n and those */
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
            for (f = 0; f < some; f++)             /* else they would be packed as zeros, and nobody would know */
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
    (void)what;                        /* told to the observer alone */
    /* converter: */
    if (r->observe && step->into) r->observe(r->observer, r, chunk, step, what);
    /* end of converter */
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

/* docs/KERNELS.md: */
/* Residual rows. The last row of each prompt, where the margin is read, and the rows of documents are multiplied in two terms, what
   rounding lost being a second row (matmul.h). Measured on the tiny model, Kendall tau to float32 at ratio 4 / 32: .9941 / .9930 with
   both, .9933 / .9924 without those of prompts, .9932 / .9906 without both. */
/* end of docs/KERNELS.md */
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
            found->at = chunk->n = i / step * step;   /* the next chunk must begin at a multiple of step */
            while (found->count && found->row[found->count - 1] >= chunk->n) found->count--;
            return;
        }
        found->row[found->count++] = i;
    }
}

/* ---- keys and values ----------------------------------------------------------------------------------------------- */

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
    for (; k < end; k += n) {          /* n rows of one sequence */
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

/* ---- queries and attention -------------------------------------------------------------------------------------------- */

typedef struct kalm__query_task {
    const kalm__layer_run *run;
    const kalm__chunk *chunk;
    float *q;                          /* [n][heads][head_dim] */
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
    int          by_position;          /* q is the queries of one sequence, which all sequences share: row = place in it */
    size_t       parts;                /* in memory.parts: see kalm__part */
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
    if (r->layer->full) {
        a.left = SIZE_MAX;
        a.right = r->side == KALM__ENCODER ? SIZE_MAX : 0;
    } else if (r->side == KALM__ENCODER) {           /* a window of w keys: (w + 1) / 2 - 1 to the left and w / 2 to the right */
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

/* ---- the rest of the layer -------------------------------------------------------------------------------------------- */

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

/* ---- tokens into rows ------------------------------------------------------------------------------------------------ */

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

#endif
