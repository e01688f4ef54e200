/* info.h - prints what a .kalm file holds, for kalm-quantize --info: shape, texts of the prompt, sections, and how much the
   weights were changed by quantisation. */
#ifndef KALM__INFO_H
#define KALM__INFO_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/format.h"
#include "../src/modelfile.h"
#include <stdio.h>

static const char *const kalm__section_names[KALM__SECTION_KINDS] = { "", "shape", "strings", "tensors", "tokenizer", "weights", "rows" };

/* One of the prompt's texts; control characters do not reach the terminal. */
KALM__FN void kalm__print_text(const char *label, kalm_text t)
{
    size_t i;
    printf("  %-12s \"", label);
    for (i = 0; i < t.size; i++) {
        if (t.data[i] == '\n') fputs("\\n", stdout);
        else putchar((unsigned char)t.data[i] < 32 || t.data[i] == 127 ? '?' : t.data[i]);
    }
    puts("\"");
}

/* The shape of the encoder or the decoder. */
KALM__FN void kalm__print_side(const char *name, const kalm__side *s)
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

/* A line for all matrices of one type, then for embedding tables, then for vectors. The root mean square of the relative
   change is weighted by the number of weights. */
KALM__FN void kalm__print_totals(const kalm__file *f)
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

/* A line for each tensor (--errors). */
KALM__FN void kalm__print_tensors(const kalm__file *f)
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

/* All of it. errors: each tensor as well. */
KALM__FN void kalm__print_file(const char *path, const kalm__file *f, int errors)
{
    static const char *const strings[KALM__STRINGS] = { "name", "document", "begin", "instruct", "query", "end", "system",
                                                        "instruction" };
    unsigned i;
    printf("%s: %.1f MB, format version %u\n", path, (double)f->size / 1e6, KALM__FILE_VERSION);
    printf("fingerprint  %016llx\n", (unsigned long long)f->fingerprint);
    if (f->lacks)
        printf("part         of the model with this fingerprint, without%s%s%s\n",
               f->lacks & KALM__LACKS_ENCODER ? " its encoder" : f->lacks & KALM__LACKS_DECODER ? " its decoder" : "",
               f->lacks & KALM__LACKS_TOKENS && f->lacks != KALM__LACKS_TOKENS ? " and" : "",
               f->lacks & KALM__LACKS_TOKENS ? " all tokens of its vocabulary" : "");
    if (f->has_tokenizer) printf("tokenizer    %u tokens\n", (unsigned)f->tokenizer.tokens);
    else printf("tokenizer    none: the file takes token ids\n");
    if (f->has_model) {
        const kalm__shape *m = &f->shape;
        printf("model        weights %s, hidden %u, vocabulary %u, answers %u (yes) and %u (no)", kalm__type_name(m->weights),
               (unsigned)m->hidden_size, (unsigned)m->vocabulary, (unsigned)m->yes_id, (unsigned)m->no_id);
        if (m->eoi_id != 0xffffffffu) printf(", end of image %u", (unsigned)m->eoi_id);
        if (m->softcap > 0) printf(", logits capped at %g", (double)m->softcap);
        putchar('\n');
        if (!(f->lacks & KALM__LACKS_ENCODER)) kalm__print_side("encoder", &m->side[0]);
        if (!(f->lacks & KALM__LACKS_DECODER)) kalm__print_side("decoder", &m->side[1]);
    }
    puts("texts");
    for (i = 0; i < KALM__STRINGS; i++) kalm__print_text(strings[i], f->string[i]);
    puts("\nsection            offset        bytes  checksum");
    for (i = 1; i < KALM__SECTION_KINDS; i++)
        if (f->section[i].data)
            printf("  %-10s %12llu %12llu  %016llx\n", kalm__section_names[i], (unsigned long long)f->section[i].offset,
                   (unsigned long long)f->section[i].size, (unsigned long long)f->section[i].checksum);
    if (f->has_model) kalm__print_totals(f);
    if (f->has_model && errors) kalm__print_tensors(f);
}

#endif
