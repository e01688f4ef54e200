/* forms.c - other ways to write the same rows, side by side with the one that documents have: docs/rows/rows.py compiles and runs it for
   docs/ROWS.md.

       forms MODEL.kalm TRAINING TEXTS...      # files of texts, a line each; TRAINING is what tables and predictions are made from

   Prints a line for each form: "form BITS NAME BYTES ERROR CHANGE", bytes of a number, squared error of a component as a share of the
   error of the rows as they are stored, and the mean change of the margin, where rows with that error rank their text for its own first
   words and for those of the next text. Components are those of the model's section ROWS, in which errors of the same size change the
   margin equally; ratio 4.

   stored        the rows of documents: as many bytes each, a step of its own in each
   stream        the same levels in one stream a document, with the same tables: nothing is lost for full bytes, steps or ends of rows
   counted       the same, with a table of its own for each component and quantiser, counted in the training texts
   fixed         no entropy coder: whole bits for each component by its variance, Lloyd-Max levels of the training texts
   scalar        each component rounded to its nearest step, the same step in all rows, so that rows differ in length; the length is
                 that of an ideal code with a table for each component from the training texts
   predicted     the same of what is left when each row is predicted from the mean static embedding of its tokens (least squares over the
                 training texts); the text, which the store has, gives these embeddings
   same          how many bytes "predicted" needs for the error of the stored rows

   Streams are written by rANS and read again; those of "scalar" and "predicted" are lengths. */
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include <stdio.h>
#include <stdlib.h>

enum { RATIO = 4, RATIO_CLASS = 2, MOST_TEXTS = 256, SPAN = 1023, SCALE = 20, SYMBOLS = 2 * SPAN + 1 };

/* Rows of some texts. */
typedef struct rows {
    size_t count, docs, width;
    size_t first[MOST_TEXTS + 1];      /* row of each document */
    float *y, *embedding;              /* [count][width]: components; mean static embedding of the tokens */
    int   *level[5], *quantiser[5];    /* [count][width], for each number of bits, as documents have them */
    double error[5], bytes[5];         /* of a number */
    kalm_doc *doc[MOST_TEXTS];         /* as they are encoded, 32 bits */
    char   query[MOST_TEXTS][64];      /* the first words */
} rows;

static kalm_model *model;
static kalm_context *ctx;
static const kalm__rowcode *code;
static const kalm__kernels *kernels;
static kalm__row_work work;

static void fail(const char *what)
{
    fprintf(stderr, "forms: %s\n", what);
    exit(1);
}

static void *zeros(size_t count, size_t size)
{
    void *p = calloc(count + 1, size);
    if (!p) fail("no memory");
    return p;
}

/* ---- rows ---------------------------------------------------------------------------------------------------------------- */

/* The levels of a row, as kalm__row_read reads them. */
static void read_levels(unsigned b, const unsigned char *bytes, size_t size, int *level, int *quantiser)
{
    const uint8_t *classes = code->classes + (b * KALM__ROWS_RATIOS + RATIO_CLASS) * (size_t)code->width;
    kalm__row_reader in;
    unsigned state = 0;
    uint32_t i;
    in.x = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];
    in.at = bytes + 3;
    in.end = bytes + size;
    for (i = 0; i < code->count[b][RATIO_CLASS]; i++) {
        unsigned q = state & 1, shift = classes[i] >> 5;
        unsigned symbol = kalm__row_symbol(&in, code->start + ((classes[i] & 31u) * 2 + q) * KALM__ROWS_SYMBOLS);
        int32_t v = (int32_t)symbol - 7;
        if (symbol == KALM__ROWS_SYMBOLS - 1) {
            unsigned n = kalm__row_bits(&in, 4);
            int negative = kalm__row_bits(&in, 1) != 0;
            v = 7 + (int32_t)(1u << n | kalm__row_bits(&in, n));
            if (negative) v = -v;
        }
        if (shift) v = v * (1 << shift) - (1 << (shift - 1)) + (int32_t)kalm__row_bits(&in, shift);
        level[i] = v;
        quantiser[i] = (int)q;
        state = kalm__trellis[state][(uint32_t)v & 1];
    }
}

/* Rows of 32 bits of a text, and the mean embedding of each one's tokens. */
static void add_text(rows *t, const char *line, size_t size)
{
    static const char before[] = "<Document>: ";
    const kalm__stack *s = &model->file.stack[KALM__ENCODER];
    static int32_t ids[1024];
    static float x[256 * 1024], one[4096];
    char *text = (char *)zeros(size + sizeof before, 1);
    kalm_text all;
    kalm_ids list;
    kalm_params p;
    kalm_doc *doc;
    kalm_doc_info info;
    kalm_error err;
    size_t count, i, k, j, bytes, rows_now;
    const unsigned char *at;
    memcpy(text, before, sizeof before - 1);
    memcpy(text + sizeof before - 1, line, size);
    all.data = text;
    all.size = size + sizeof before - 1;
    if (kalm_tokenize(model, all, 0, ids, 1024, &count, &err)) fail(err.text);
    list.data = ids;
    list.count = kalm__min(count, 1024);
    memset(&p, 0, sizeof p);
    p.ratio = RATIO;
    p.bits = 32;
    if (kalm_encode_ids(ctx, &list, 1, &p, &doc, &err)) fail(err.text);
    kalm_doc_get_info(doc, &info);
    rows_now = info.rows;
    at = (const unsigned char *)kalm_doc_bytes(doc, &bytes) + KALM__DOC_HEADER;
    t->y = (float *)realloc(t->y, (t->count + rows_now) * t->width * sizeof *t->y);
    t->embedding = (float *)realloc(t->embedding, (t->count + rows_now) * t->width * sizeof *t->embedding);
    if (!t->y || !t->embedding || t->width > 4096 || t->width * KALM__ROWS_TOGETHER > sizeof x / sizeof *x) fail("no memory for rows");
    for (i = 0; i < rows_now; i += KALM__ROWS_TOGETHER) {
        size_t n = kalm__min((size_t)KALM__ROWS_TOGETHER, rows_now - i);
        for (k = 0; k < n * t->width; k++) x[k] = kalm__f32(at + 4 * (i * t->width + k));
        kalm__rows_to_components(code, kernels, &work, work.y, x, n);
        memcpy(t->y + (t->count + i) * t->width, work.y, n * t->width * sizeof *x);
    }
    for (i = 0; i < rows_now; i++) {
        float *mean = t->embedding + (t->count + i) * t->width;
        size_t end = kalm__min((i + 1) * RATIO, list.count);
        memset(mean, 0, t->width * sizeof *mean);
        for (k = i * RATIO; k < end; k++) {
            kalm__embedding_row(s->embed_type, s->embed + (size_t)ids[k] * s->embed_row, t->width, one);
            for (j = 0; j < t->width; j++) mean[j] += one[j] / (float)(end - i * RATIO);
        }
    }
    t->count += rows_now;
    t->doc[t->docs] = doc;
    snprintf(t->query[t->docs], sizeof t->query[0], "%.*s", (int)kalm__min(size, 60), line);
    while (((unsigned char)t->query[t->docs][strlen(t->query[t->docs]) - 1] & 0xc0) == 0x80) t->query[t->docs][strlen(t->query[t->docs]) - 1] = 0;
    t->first[++t->docs] = t->count;
    free(text);
}

/* The first tab-separated column is left out where there are two. */
static void read_texts(rows *t, const char *path)
{
    static char line[1 << 16];
    FILE *f = fopen(path, "rb");
    if (!f) fail(path);
    while (t->docs < MOST_TEXTS && fgets(line, sizeof line, f)) {
        const char *tab = strchr(line, '\t'), *from = tab ? tab + 1 : line;
        size_t n = strcspn(from, "\n");
        if (n > 20) add_text(t, from, n);
    }
    fclose(f);
}

/* The margins of each text, whose rows have components y (NULL: as they are encoded), for its own first words and the next one's. */
static void margins(const rows *t, const float *y, float *margin)
{
    static float x[256 * 1024], some[256 * 1024];
    size_t d, i, k;
    for (d = 0; d < t->docs; d++) {
        kalm_error err;
        kalm_doc *doc = t->doc[d];
        size_t size;
        unsigned char *bytes = NULL;
        const void *from = kalm_doc_bytes(doc, &size);
        if (y) {
            bytes = (unsigned char *)zeros(size, 1);
            memcpy(bytes, from, size);
            for (i = t->first[d]; i < t->first[d + 1]; i += KALM__ROWS_TOGETHER) {
                size_t n = kalm__min((size_t)KALM__ROWS_TOGETHER, t->first[d + 1] - i);
                memcpy(some, y + i * t->width, n * t->width * sizeof *y);
                kalm__rows_from_components(code, kernels, &work, x, some, n);
                for (k = 0; k < n * t->width; k++) kalm__put_f32(bytes + KALM__DOC_HEADER + 4 * ((i - t->first[d]) * t->width + k), x[k]);
            }
            memset(bytes + 40, 0, 8);
            kalm__put_u64(bytes + 40, kalm__hash(bytes, size));
            if (kalm_doc_open(model, bytes, size, 0, &doc, &err)) fail(err.text);
        }
        for (k = 0; k < 2; k++) {
            kalm_text query;
            kalm_score score;
            query.data = t->query[(d + k) % t->docs];
            query.size = strlen(query.data);
            if (kalm_rerank(ctx, query, (const kalm_doc *const *)&doc, 1, NULL, &score, &err)) fail(err.text);
            margin[2 * d + k] = score.margin;
        }
        if (y) kalm_doc_free(doc);
        free(bytes);
    }
}

static double change_of(const rows *t, const float *exact, const float *y)
{
    float *margin = (float *)zeros(2 * t->docs, sizeof *margin);
    double sum = 0;
    size_t i;
    margins(t, y, margin);
    for (i = 0; i < 2 * t->docs; i++) sum += fabs((double)margin[i] - (double)exact[i]);
    free(margin);
    return sum / (double)(2 * t->docs);
}

/* Write each row as documents have it, and keep its levels; stored[bits] gets the components that are read. */
static void store_rows(rows *t, float *stored[5])
{
    float *back = (float *)zeros(t->width, sizeof *back);
    unsigned b;
    size_t i, k;
    for (b = 0; b < KALM__ROWS_BITS; b++) {
        size_t size = kalm__coded_row_bytes(t->width, 4 - b);
        unsigned char *all = (unsigned char *)zeros(KALM__ROWS_TOGETHER * size, 1);
        t->level[4 - b] = (int *)zeros(t->count * t->width, sizeof(int));
        t->quantiser[4 - b] = (int *)zeros(t->count * t->width, sizeof(int));
        stored[4 - b] = (float *)zeros(t->count * t->width, sizeof(float));
        for (i = 0; i < t->count; i++) {
            const float *y = t->y + i * t->width;
            const unsigned char *bytes = all + i % KALM__ROWS_TOGETHER * size;
            if (i % KALM__ROWS_TOGETHER == 0)
                kalm__row_code(code, kernels->ops, &work, b, RATIO_CLASS, y, kalm__min((size_t)KALM__ROWS_TOGETHER, t->count - i), all);
            kalm__row_read(code, b, RATIO_CLASS, bytes, size, back);
            memcpy(stored[4 - b] + i * t->width, back, t->width * sizeof *back);
            read_levels(b, bytes, size, t->level[4 - b] + i * t->width, t->quantiser[4 - b] + i * t->width);
            for (k = 0; k < t->width; k++) t->error[4 - b] += (double)(y[k] - back[k]) * (double)(y[k] - back[k]);
        }
        t->error[4 - b] /= (double)(t->count * t->width);
        t->bytes[4 - b] = (double)size / (double)t->width;
        free(all);
    }
    free(back);
}

/* ---- streams --------------------------------------------------------------------------------------------------------------- */

/* rANS with a number of 2^23 to 2^31 and tables of 2^SCALE in all, written from the last symbol on. */
typedef struct stream {
    unsigned char *bytes;
    size_t at, size;
    uint32_t x;
} stream;

static void put(stream *s, uint32_t start, uint32_t size)
{
    while (s->x >= (uint64_t)size << (31 - SCALE)) {
        if (!s->at) fail("a stream is too long");
        s->bytes[--s->at] = (unsigned char)s->x;
        s->x >>= 8;
    }
    s->x = (s->x / size << SCALE) + s->x % size + start;
}

/* Which symbol, by a table of starts [symbols + 1]. */
static unsigned get(stream *s, const uint32_t *start, unsigned symbols)
{
    uint32_t slot = s->x & ((1u << SCALE) - 1);
    unsigned low = 0, high = symbols;
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (start[middle] <= slot) low = middle;
        else high = middle;
    }
    s->x = (start[low + 1] - start[low]) * (s->x >> SCALE) + slot - start[low];
    while (s->x < 1u << 23 && s->at < s->size) s->x = s->x << 8 | s->bytes[s->at++];
    return low;
}

/* A table of starts for counts, each at least 1. */
static void table_of(const double *count, unsigned symbols, uint32_t *start)
{
    double all = 0;
    uint32_t at = 0, most = 0;
    unsigned i, best = 0;
    for (i = 0; i < symbols; i++) all += count[i];
    for (i = 0; i < symbols; i++) {
        start[i] = 1 + (uint32_t)(count[i] / all * ((1u << SCALE) - symbols));
        if (start[i] > most) most = start[i], best = i;
        at += start[i];
    }
    start[best] += (1u << SCALE) - at;
    for (i = 0, at = 0; i <= symbols; i++) {
        uint32_t size = i < symbols ? start[i] : 0;
        start[i] = at;
        at += size;
    }
}

static unsigned symbol_of(int level) { return level < -SPAN ? 0 : level > SPAN ? SYMBOLS - 1 : (unsigned)(level + SPAN); }

/* The model file's own probabilities of a component's levels. */
static void own_counts(unsigned b, size_t component, int quantiser, double *count)
{
    unsigned c = code->classes[(b * KALM__ROWS_RATIOS + RATIO_CLASS) * (size_t)code->width + component], shift = c >> 5;
    const uint16_t *start = code->start + ((c & 31u) * 2 + (unsigned)quantiser) * KALM__ROWS_SYMBOLS;
    int level;
    for (level = -SPAN; level <= SPAN; level++) {
        int32_t high = kalm__level_high(level, shift);
        unsigned symbol = (uint32_t)(high + 7) < KALM__ROWS_SYMBOLS - 1 ? (unsigned)(high + 7) : KALM__ROWS_SYMBOLS - 1;
        double p = (double)((symbol + 1 < KALM__ROWS_SYMBOLS ? start[symbol + 1] : KALM__ROWS_TOTAL) - start[symbol]) / (1u << shift);
        if (symbol == KALM__ROWS_SYMBOLS - 1) p /= 32.0 * (double)(1u << kalm__log2((uint32_t)(high < 0 ? -high : high) - 7));
        count[symbol_of(level)] += p;
    }
}

/* One stream for each document, with the model's tables or those of the training texts. Bytes of a number; what is written is read again. */
static double streams(const rows *train, const rows *t, unsigned bits, int counted)
{
    unsigned b = 4 - bits;
    size_t n = code->count[b][RATIO_CLASS], i, k, d, bytes = 0, room = t->count * t->width * 4;
    uint32_t *start = (uint32_t *)zeros(n * 2 * (SYMBOLS + 1), sizeof *start);
    double *count = (double *)zeros(SYMBOLS, sizeof *count);
    unsigned char *out = (unsigned char *)zeros(room, 1);
    for (k = 0; k < n; k++)
        for (i = 0; i < 2; i++) {
            size_t row;
            memset(count, 0, SYMBOLS * sizeof *count);
            own_counts(b, k, (int)i, count);
            for (row = 0; counted && row < train->count; row++)
                if (train->quantiser[bits][row * t->width + k] == (int)i) count[symbol_of(train->level[bits][row * t->width + k])] += .2;
            table_of(count, SYMBOLS, start + (k * 2 + i) * (SYMBOLS + 1));
        }
    for (d = 0; d < t->docs; d++) {
        stream s;
        s.bytes = out;
        s.at = s.size = room;
        s.x = 1u << 23;
        for (i = t->first[d + 1]; i-- > t->first[d]; )
            for (k = n; k--; ) {
                const uint32_t *of = start + (k * 2 + (size_t)t->quantiser[bits][i * t->width + k]) * (SYMBOLS + 1);
                int level = t->level[bits][i * t->width + k];
                unsigned symbol = symbol_of(level);
                if (level < -SPAN || level > SPAN) fail("a level is beyond the tables of streams");
                put(&s, of[symbol], of[symbol + 1] - of[symbol]);
            }
        bytes += room - s.at + 4 + (t->first[d + 1] - t->first[d]) * 11 / 8;       /* each row's step still takes 11 bits */
        for (i = t->first[d]; i < t->first[d + 1]; i++)
            for (k = 0; k < n; k++) {
                const uint32_t *of = start + (k * 2 + (size_t)t->quantiser[bits][i * t->width + k]) * (SYMBOLS + 1);
                if (get(&s, of, SYMBOLS) != symbol_of(t->level[bits][i * t->width + k])) fail("a stream reads otherwise than it was written");
            }
    }
    free(start);
    free(count);
    free(out);
    return (double)bytes / (double)(t->count * t->width);
}

/* ---- without entropy coder --------------------------------------------------------------------------------------------------- */

/* Lloyd-Max levels of a component for so many bits, then the squared error of the test rows. */
static double lloyd(const rows *train, const rows *t, size_t k, unsigned bits, float *out)
{
    static double level[256], sum[256], count[256];
    size_t n = (size_t)1 << bits, i, j, round;
    double error = 0, mean = 0, spread = 0;
    for (i = 0; i < train->count; i++) mean += (double)train->y[i * t->width + k];
    mean /= (double)train->count;
    for (i = 0; i < train->count; i++) spread += fabs((double)train->y[i * t->width + k] - mean);
    spread /= (double)train->count;
    for (j = 0; j < n; j++) level[j] = mean + spread * (n > 1 ? 5 * ((double)j / (double)(n - 1) - .5) : 0);
    for (round = 0; round < 30; round++) {
        const rows *from = round == 29 ? t : train;
        memset(sum, 0, sizeof sum);
        memset(count, 0, sizeof count);
        for (i = 0; i < from->count; i++) {
            double v = (double)from->y[i * t->width + k];
            size_t best = 0;
            for (j = 1; j < n && fabs(v - level[j]) <= fabs(v - level[j - 1]); j++) best = j;
            sum[best] += v;
            count[best]++;
            if (round == 29) {
                error += (v - level[best]) * (v - level[best]);
                out[i * t->width + k] = (float)level[best];
            }
        }
        for (j = 0; j < n && round < 28; j++)
            if (count[j] > 0) level[j] = sum[j] / count[j];
    }
    return error;
}

static double fixed(const rows *train, const rows *t, unsigned bits, float *out)
{
    double *variance = (double *)zeros(t->width, sizeof *variance), error = 0;
    unsigned *given = (unsigned *)zeros(t->width, sizeof *given);
    size_t i, k, left;
    for (i = 0; i < train->count; i++)
        for (k = 0; k < t->width; k++) variance[k] += (double)train->y[i * t->width + k] * (double)train->y[i * t->width + k];
    for (left = bits * t->width; left; left--) {
        size_t best = 0;
        for (k = 1; k < t->width; k++)
            if (variance[k] > variance[best]) best = k;
        variance[best] = given[best] < 7 ? variance[best] / (given[best] ? 4 : 2.75) : 0;      /* the first bit of a Gaussian: 1 / (1 - 2 / pi) */
        given[best] += given[best] < 7;
    }
    for (k = 0; k < t->width; k++) error += lloyd(train, t, k, given[k], out);
    free(variance);
    free(given);
    return error / (double)(t->count * t->width);
}

/* ---- one step for all rows, and the prediction ------------------------------------------------------------------------------- */

static int rounded(double v) { return (int)floor(v + .5); }

/* Ideal bits of a number with this step, by tables of the training rows, and the squared error. */
static double rate(const rows *train, const float *a, const rows *t, const float *y, double step, double *error)
{
    static double count[SYMBOLS];
    double bits = 0;
    size_t i, k;
    *error = 0;
    for (k = 0; k < t->width; k++) {
        double all = 0, spread = 0;
        int v;
        for (i = 0; i < train->count; i++) spread += fabs((double)a[i * t->width + k] / step);
        spread = spread / (double)train->count + .05;
        for (v = 0; v < SYMBOLS; v++) count[v] = 0;
        for (v = -SPAN; v <= SPAN; v++) count[symbol_of(v)] = 4 * exp(-fabs((double)v) / spread) / (2 * spread + 1) + 1e-6;      /* what was not seen */
        for (i = 0; i < train->count; i++) count[symbol_of(rounded((double)a[i * t->width + k] / step))]++;
        for (v = 0; v < SYMBOLS; v++) all += count[v];
        for (i = 0; i < t->count; i++) {
            double x = (double)y[i * t->width + k];
            v = rounded(x / step);
            bits += log(all / count[symbol_of(v)]) / log(2);
            if (v < -SPAN || v > SPAN) bits += 2 * log(fabs((double)v)) / log(2);      /* an escape */
            *error += (x - v * step) * (x - v * step);
        }
    }
    *error /= (double)(t->count * t->width);
    return bits / (double)(t->count * t->width);
}

/* The error where the ideal code takes so many bits; out: y as it is then read. */
static double at_bits(const rows *train, const float *a, const rows *t, const float *y, double bits, float *out)
{
    double low = 1e-4, high = 1e3, error = 0;
    size_t i;
    for (i = 0; i < 24; i++) {
        double middle = sqrt(low * high);
        if (rate(train, a, t, y, middle, &error) > bits) low = middle;
        else high = middle;
    }
    for (i = 0; i < t->count * t->width; i++) out[i] = (float)(rounded((double)y[i] / high) * high);
    return error;
}

/* The bytes of a number that the ideal code takes for this error. */
static double bytes_at(const rows *train, const float *a, const rows *t, const float *y, double error)
{
    double low = 1e-4, high = 1e3, bits = 0, got;
    int i;
    for (i = 0; i < 24; i++) {
        double middle = sqrt(low * high);
        bits = rate(train, a, t, y, middle, &got);
        if (got < error) low = middle;
        else high = middle;
    }
    return bits / 8;
}

/* What is left of rows when B times their embeddings (and 1) is taken off: B by ridge regression over the training rows. */
static void predict(const rows *train, const rows *t, float **left_train, float **left)
{
    size_t n = t->width + 1, w = t->width, i, j, k;
    double *g = (double *)zeros(n * n, sizeof *g), *c = (double *)zeros(n * w, sizeof *c), *e = (double *)zeros(n, sizeof *e), trace = 0;
    for (i = 0; i < train->count; i++) {
        for (k = 0; k < w; k++) e[k] = (double)train->embedding[i * w + k];
        e[w] = 1;
        for (j = 0; j < n; j++) {
            for (k = 0; k <= j; k++) g[j * n + k] += e[j] * e[k];
            for (k = 0; k < w; k++) c[j * w + k] += e[j] * (double)train->y[i * w + k];
        }
    }
    for (j = 0; j < w; j++) trace += g[j * n + j];
    for (j = 0; j < n; j++) g[j * n + j] += 1e-3 * trace / (double)w;
    for (j = 0; j < n; j++) {          /* Cholesky, then both triangles for each column of c */
        for (k = 0; k <= j; k++) {
            double v = g[j * n + k];
            for (i = 0; i < k; i++) v -= g[j * n + i] * g[k * n + i];
            g[j * n + k] = j == k ? sqrt(v) : v / g[k * n + k];
        }
        for (k = 0; k < w; k++) {
            for (i = 0; i < j; i++) c[j * w + k] -= g[j * n + i] * c[i * w + k];
            c[j * w + k] /= g[j * n + j];
        }
    }
    for (j = n; j--; )
        for (k = 0; k < w; k++) {
            for (i = j + 1; i < n; i++) c[j * w + k] -= g[i * n + j] * c[i * w + k];
            c[j * w + k] /= g[j * n + j];
        }
    for (i = 0; i < 2; i++) {
        const rows *of = i ? t : train;
        float *out = (float *)zeros(of->count * w, sizeof *out);
        size_t row;
        for (row = 0; row < of->count; row++)
            for (k = 0; k < w; k++) {
                double v = (double)of->y[row * w + k] - c[w * w + k];
                for (j = 0; j < w; j++) v -= (double)of->embedding[row * w + j] * c[j * w + k];
                out[row * w + k] = (float)v;
            }
        *(i ? left : left_train) = out;
    }
    free(g);
    free(c);
    free(e);
}

int main(int argc, char **argv)
{
    static rows train, test;
    kalm_error err;
    float *left_train = NULL, *left = NULL, *stored[5], *unused[5], *out, *exact;
    double all = 0, rest = 0;
    unsigned bits;
    size_t i, n;
    void *room;
    if (argc < 4) fail("MODEL.kalm TRAINING TEXTS...");
    if (kalm_model_open(argv[1], NULL, &model, &err) || kalm_context_new(model, NULL, &ctx, &err)) fail(err.text);
    code = &model->file.rows;
    if (!code->fingerprint) fail("the model has no section ROWS");
    kernels = ctx->backend.kernels;
    room = zeros(kalm__row_work_plan(&work, NULL, kernels, code->width) + 64, 1);
    kalm__row_work_plan(&work, kalm__align64(room), kernels, code->width);
    train.width = test.width = code->width;
    read_texts(&train, argv[2]);
    for (i = 3; i < (size_t)argc; i++) read_texts(&test, argv[i]);
    store_rows(&train, unused);
    store_rows(&test, stored);
    predict(&train, &test, &left_train, &left);
    n = test.count * test.width;
    for (i = 0; i < n; i++) {
        all += (double)test.y[i] * (double)test.y[i];
        rest += (double)left[i] * (double)left[i];
    }
    out = (float *)zeros(n, sizeof *out);
    exact = (float *)zeros(2 * test.docs, sizeof *exact);
    margins(&test, NULL, exact);
    printf("rows %lu %lu %.4f %.5f\n", (unsigned long)train.count, (unsigned long)test.count, rest / all, change_of(&test, exact, test.y));
    for (bits = 4; bits >= 2; bits--) {
        double one = test.error[bits], bytes = test.bytes[bits], change = change_of(&test, exact, stored[bits]), error;
        printf("form %u stored %.4f 1 %.4f\n", bits, bytes, change);
        printf("form %u stream %.4f 1 %.4f\n", bits, streams(&train, &test, bits, 0), change);
        printf("form %u counted %.4f 1 %.4f\n", bits, streams(&train, &test, bits, 1), change);
        error = fixed(&train, &test, bits, out);
        printf("form %u fixed %.4f %.3f %.4f\n", bits, bits / 8.0, error / one, change_of(&test, exact, out));
        error = at_bits(&train, train.y, &test, test.y, 8 * bytes, out);
        printf("form %u scalar %.4f %.3f %.4f\n", bits, bytes, error / one, change_of(&test, exact, out));
        error = at_bits(&train, left_train, &test, left, 8 * bytes, out);
        for (i = 0; i < n; i++) out[i] += test.y[i] - left[i];         /* the prediction */
        printf("form %u predicted %.4f %.3f %.4f\n", bits, bytes, error / one, change_of(&test, exact, out));
        printf("form %u same %.4f 1 %.4f\n", bits, bytes_at(&train, left_train, &test, left, one), change);
        fflush(stdout);
    }
    return 0;
}
