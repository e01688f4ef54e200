/* format.h - the model file, byte by byte. Shared by the runtime, which reads it in place (modelfile.h), and by the
   converter, which writes it (quantize/). All numbers are little-endian; all offsets count from the file's first byte.

   HEADER, 64 bytes
      0   8  magic "\x89KALM\r\n\x1a"      (a text-mode copy destroys it, so that damage shows at once)
      8   4  version, 1
     12   4  number of sections, 1 to 16
     16   8  size of the file
     24   8  fingerprint: kalm__hash of the section table without its STRINGS entry; it changes with any weight, shape
             or vocabulary, and not with the prompt
     32   8  kalm__hash of header and section table with this field zero
     40  24  zero
   SECTION TABLE, 32 bytes an entry, in order of type, each type at most once
      0   4  type (below)          4   4  zero
      8   8  offset, a multiple of 64; 16   8  size in bytes;   24   8  kalm__hash of the section's bytes
   SECTIONS, anywhere behind the table, not overlapping
      1 SHAPE      u32 or f32 fields in the order of KALM__SHAPE_FIELDS, 4 bytes each: the model, then the encoder's and
                   the decoder's KALM__SIDE_FIELDS, then one byte a layer, encoder first: 0 sliding, 1 full attention
      2 STRINGS    KALM__STRINGS x { u32 offset within the section, u32 size }, then the bytes (UTF-8, no NUL)
      3 TENSORS    64 bytes an entry, sorted by (kind, layer), described at kalm__tensor
      4 TOKENIZER  described in tokenizer/vocab.h
      5 WEIGHTS    the tensors' bytes, each at a multiple of 64; the section itself begins at a multiple of 4096
   A file without SHAPE, TENSORS and WEIGHTS is a tokenizer alone. A file without TOKENIZER takes token ids only. */
#ifndef KALM__FORMAT_H
#define KALM__FORMAT_H

#include "base.h"

#define KALM__MAGIC "\x89KALM\r\n\x1a"
#define KALM__FILE_VERSION 1u
#define KALM__HEADER_BYTES 64u
#define KALM__SECTION_BYTES 32u
#define KALM__TENSOR_BYTES 64u
#define KALM__MAX_SECTIONS 16u

enum {
    KALM__SECTION_SHAPE = 1, KALM__SECTION_STRINGS = 2, KALM__SECTION_TENSORS = 3, KALM__SECTION_TOKENIZER = 4,
    KALM__SECTION_WEIGHTS = 5, KALM__SECTION_KINDS = 6
};

/* Fields of SHAPE, f(type, name): reader and writer both walk these lists. */
#define KALM__SHAPE_FIELDS(f)                                                                                   \
    f(u32, weights)                    /* type of the matrices, KALM__F32 ... KALM__Q4                       */ \
    f(u32, vocabulary)                                                                                          \
    f(u32, hidden_size)                /* of both sides: document rows enter the decoder                     */ \
    f(u32, yes_id) f(u32, no_id)                                                                                \
    f(u32, eoi_id)                     /* its embedding is a vector of its own, unscaled; 0xffffffff: none   */ \
    f(f32, softcap)                    /* final_logit_softcapping; 0: none                                   */ \
    f(u32, reserved)

#define KALM__SIDE_FIELDS(f)                                                                                    \
    f(u32, layers) f(u32, mlp)                                                                                  \
    f(u32, heads) f(u32, kv_heads) f(u32, head_dim)                                                             \
    f(u32, window)                     /* sliding_window, as the checkpoint has it                           */ \
    f(u32, max_positions)                                                                                       \
    f(f32, norm_eps)                                                                                            \
    f(f32, query_scalar)               /* query_pre_attn_scalar: scores are times its -1/2 power             */ \
    f(f32, theta_sliding) f(f32, factor_sliding)   /* rotary base; positions are divided by the factor       */ \
    f(f32, theta_full) f(f32, factor_full)                                                                      \
    f(u32, side_reserved)

typedef struct kalm__side {
#define KALM__FIELD_u32(name) uint32_t name;
#define KALM__FIELD_f32(name) float name;
#define KALM__FIELD(type, name) KALM__FIELD_##type(name)
    KALM__SIDE_FIELDS(KALM__FIELD)
    const uint8_t *full;               /* [layers]: 1 where attention is full */
} kalm__side;

typedef struct kalm__shape {
    KALM__SHAPE_FIELDS(KALM__FIELD)
    kalm__side side[2];                /* encoder, decoder */
} kalm__shape;
enum { KALM__ENCODER = 0, KALM__DECODER = 1 };

#define KALM__COUNT_FIELD(type, name) + 1
#define KALM__SHAPE_BYTES (4u * (0u KALM__SHAPE_FIELDS(KALM__COUNT_FIELD)))
#define KALM__SIDE_BYTES (4u * (0u KALM__SIDE_FIELDS(KALM__COUNT_FIELD)))

/* Limits of a sane model. They keep every product below 2^63, so that the arithmetic on untrusted numbers needs no
   further care; the largest published model is far inside (hidden 2560, 34 layers). */
enum {
    KALM__MAX_HIDDEN = 1 << 16, KALM__MAX_MLP = 1 << 18, KALM__MAX_HEADS = 1 << 10, KALM__MAX_HEAD_DIM = 1 << 10,
    KALM__MAX_LAYERS = 1 << 10, KALM__MAX_VOCABULARY = 1 << 24, KALM__MAX_POSITIONS = 1 << 28
};

/* The texts around the user's, so that the prompt travels with the weights it was trained with:
     encoder: DOCUMENT + document
     decoder: BEGIN + system + INSTRUCT + instruction + QUERY + query + END */
enum {
    KALM__STRING_NAME, KALM__STRING_DOCUMENT, KALM__STRING_BEGIN, KALM__STRING_INSTRUCT, KALM__STRING_QUERY,
    KALM__STRING_END, KALM__STRING_SYSTEM, KALM__STRING_INSTRUCTION, KALM__STRINGS
};

/* Tensors. A kind is side * 32 + one of these; per layer except the last four, whose layer is 0.
     NORM vectors hold 1 + w as f32, [1][n]; matrices are kalm__matrix panels (kernels.h);
     EMBED is row-major [vocabulary][hidden], see embedding.h; the decoder's only where it differs from the encoder's;
     EOI f32 [1][hidden]; HEAD (decoder) f32 [2][hidden], the rows of "yes" and "no". */
enum {
    KALM__T_Q, KALM__T_K, KALM__T_V, KALM__T_O, KALM__T_GATE, KALM__T_UP, KALM__T_DOWN,
    KALM__T_Q_NORM, KALM__T_K_NORM, KALM__T_PRE_ATTENTION, KALM__T_POST_ATTENTION, KALM__T_PRE_MLP, KALM__T_POST_MLP,
    KALM__T_LAYER_KINDS,
    KALM__T_NORM = KALM__T_LAYER_KINDS, KALM__T_EMBED, KALM__T_EOI, KALM__T_HEAD, KALM__T_KINDS
};
#define KALM__KIND(side, what) ((uint32_t)(side) * 32u + (uint32_t)(what))

/* An entry of TENSORS:
      0  4  kind        4  4  layer      8  4  type (KALM__F32 ...)
     12  4  1: the inputs are rotated, so rows go through kalm__hadamard (ops.h) before this matrix; else 0
     16  4  rows       20  4  cols
     24  8  offset of the data           32  8  its size in bytes
     40  8  offset of the scales (f32, q8 and q4 matrices; else 0)    48  8  offset of the sums (int32, likewise)
     56  4  f32: root mean square of what rounding changed, relative to that of the weights
     60  4  zero */
typedef struct kalm__tensor {
    uint32_t kind, layer, type, rotated, rows, cols;
    uint64_t offset, size, scale, sum;
    float    error;
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

/* "encoder.3.q": how errors and --info name a tensor. `name` has room for 32 bytes. */
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
    kalm__put_text(&w, side, 8);
    if (k < KALM__T_LAYER_KINDS) {
        kalm__put_number(&w, layer, 10, 1);
        kalm__put(&w, '.');
    }
    kalm__put_text(&w, k < KALM__T_KINDS ? what[k] : "?", k < KALM__T_KINDS ? strlen(what[k]) : 1);
    *w.at = 0;
    return name;
}

/* Rows and columns that a tensor must have in a model of this shape; 0 when the kind is none of the model's. */
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

#endif
