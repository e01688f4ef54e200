/* format.h - the model file, byte by byte: what the converter writes (quantize/) and the library reads in place (modelfile.h).
   All numbers are little-endian, all offsets count from the first byte of the file unless said otherwise, and a hash is that
   of kalm__hash (base.h). A reader can be written from the drawings here and in the parts that they name. */
/* docs/FORMAT.md: */
/* The bytes of a model file:

     byte 0            64              64 + 32 n
     +----------------+---------------+-------+---------+-----------+---------+---------+
     | header         | section table | SHAPE | TENSORS | TOKENIZER | WEIGHTS | STRINGS |
     +----------------+---------------+-------+---------+-----------+---------+---------+
                        n entries       sections, as the converter orders them; a reader finds each by its entry

   HEADER, 64 bytes
     offset  size
        0      8   the signature 89 "KALM" 0d 0a 1a; a copy that changes line ends destroys it, so that the damage shows at once
        8      4   version of the format: 1
       12      4   n, the number of sections, 1 to 16
       16      8   size of the file in bytes
       24      8   fingerprint: hash of the section table without the entries of STRINGS and ROWS. It names the model: it changes
                   with any weight, with the shape and the vocabulary, and not with the prompt. Documents carry it
       32      8   hash of the header and the section table, taken with these eight bytes zero
       40      8   of a part of a model (kalm-quantize --side, --vocabulary): the fingerprint of the whole model that it was cut
                   from. Documents carry this one, so that the parts of a model exchange them. Else 0
       48      4   what such a part lacks, a sum: 1 the encoder, 2 the decoder, 4 tokens of the vocabulary. Else 0
       52     12   zero

   SECTION TABLE, n entries of 32 bytes, in order of their type; no type comes twice
        0      4   type, 1 to 6 (below)
        4      4   zero
        8      8   offset of the section, a multiple of 64
       16      8   its size in bytes, without the padding behind it
       24      8   hash of its bytes (compared by kalm_model_verify, not when a file is opened)

   SECTIONS lie behind the table, do not overlap, and end within the file
     type
      1 SHAPE      the sizes of the model: the fields of KALM__SHAPE_FIELDS, then those of KALM__SIDE_FIELDS for the encoder, then
                   the same for the decoder, four bytes each without gaps; then one byte for each layer, the encoder's first:
                   1 where attention sees all positions, 0 where it sees a sliding window
      2 STRINGS    the texts around the user's (KALM__STRING_...): for each an offset within this section and a size, u32 both,
                   then the texts, UTF-8, without a NUL
      3 TENSORS    an entry of 64 bytes for each tensor (kalm__tensor below), sorted by kind, then by layer
      4 TOKENIZER  described in tokenizer/vocab.h
      5 WEIGHTS    what the entries of TENSORS point to. The section begins at a multiple of 4096, each array in it at one of 64
      6 ROWS       how rows of documents are kept in 4, 3 and 2 bits; described in rowcode.h. Documents of such rows carry the
                   hash of this section. A file without it keeps rows in 32, 16 and 8 bits alone

   A file without SHAPE, TENSORS and WEIGHTS is a tokenizer alone; these three come together or not at all. A file without
   TOKENIZER takes token ids only.

   A PART lacks the layers, the final norm and the head of the side that it lacks; SHAPE has both sides all the same. It keeps the
   embedding table and the vector EOI that its side uses, under their kinds in the whole. Where it lacks tokens of the vocabulary,
   ids count those that are left, in their old order, and so do the rows of the table and the ids in SHAPE. All that it keeps has
   the bytes that it had in the whole. */
/* end of docs/FORMAT.md */
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
    KALM__SECTION_WEIGHTS = 5, KALM__SECTION_ROWS = 6, KALM__SECTION_KINDS = 7
};

/* What a part of a model lacks. */
enum { KALM__LACKS_ENCODER = 1, KALM__LACKS_DECODER = 2, KALM__LACKS_TOKENS = 4, KALM__LACKS_ALL = 7 };

/* The fields of SHAPE, f(type, name), in their order in the file. The reader and the writer both walk these lists. */
#define KALM__SHAPE_FIELDS(f)                                                                   \
    f(u32, weights)         /* type of the matrices: f32 0, f16 1, bf16 2, q8 3, q4 4     */    \
    f(u32, vocabulary)      /* number of tokens: rows of the embedding table              */    \
    f(u32, hidden_size)     /* numbers in a row between layers, the same in both sides    */    \
    f(u32, yes_id)          /* token whose logit counts for the document ...              */    \
    f(u32, no_id)           /* ... and the one that counts against it                     */    \
    f(u32, eoi_id)          /* token that has the vector EOI; 0xffffffff: none            */    \
    f(f32, softcap)         /* final_logit_softcapping c: c tanh(logit / c); 0: none      */    \
    f(u32, reserved)        /* 0                                                          */

#define KALM__SIDE_FIELDS(f)                                                                    \
    f(u32, layers)          /* number of layers                                           */    \
    f(u32, mlp)             /* width of the MLP                                           */    \
    f(u32, heads)           /* query heads                                                */    \
    f(u32, kv_heads)        /* key and value heads; divides heads                         */    \
    f(u32, head_dim)        /* numbers in a head; even                                    */    \
    f(u32, window)          /* sliding_window w, as the checkpoint has it: docs/MODEL.md  */    \
    f(u32, max_positions)   /* longest sequence, in tokens                                */    \
    f(f32, norm_eps)        /* of RMSNorm: x / sqrt(mean(x^2) + norm_eps)                 */    \
    f(f32, query_scalar)    /* query_pre_attn_scalar: q k is times its power -1/2         */    \
    f(f32, theta_sliding)   /* base of the rotary angles in sliding layers ...            */    \
    f(f32, factor_sliding)  /* ... and what positions are divided by there                */    \
    f(f32, theta_full)      /* the same in layers of full attention                       */    \
    f(f32, factor_full)                                                                         \
    f(u32, side_reserved)   /* 0                                                          */

typedef struct kalm__side {
#define KALM__FIELD_u32(name) uint32_t name;
#define KALM__FIELD_f32(name) float name;
#define KALM__FIELD(type, name) KALM__FIELD_##type(name)
    KALM__SIDE_FIELDS(KALM__FIELD)
    const uint8_t *full;               /* [layers]: 1 where attention is full */
} kalm__side;

typedef struct kalm__shape {
    KALM__SHAPE_FIELDS(KALM__FIELD)
    kalm__side side[2];                /* KALM__ENCODER, KALM__DECODER */
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

/* docs/FORMAT.md: */
/* The texts around the user's, in the order of STRINGS. They stand in the file so that a model is always asked in the words that
   it was trained with. NAME is the model's name; SYSTEM and INSTRUCTION are used where the caller gives none.
     the encoder reads: DOCUMENT + document
     the decoder reads: BEGIN + system + INSTRUCT + instruction + QUERY + query + END */
/* end of docs/FORMAT.md */
enum {
    KALM__STRING_NAME, KALM__STRING_DOCUMENT, KALM__STRING_BEGIN, KALM__STRING_INSTRUCT, KALM__STRING_QUERY,
    KALM__STRING_END, KALM__STRING_SYSTEM, KALM__STRING_INSTRUCTION, KALM__STRINGS
};

/* docs/FORMAT.md: */
/* Tensors. A kind is one of these numbers for the encoder, 32 more for the decoder. Those before NORM belong to a layer; NORM,
   EMBED, EOI and HEAD belong to a side, and their layer is 0.
     Q, K, V, O     attention: rows are heads x head_dim (K, V: kv_heads x head_dim; O: hidden), cols the inputs
     GATE, UP, DOWN the MLP: rows mlp, mlp, hidden
                    These seven are matrices and lie in panels (kernels.h; q8 and q4 in blocks.h).
     ..._NORM, PRE_..., POST_...   RMSNorm: f32 [n], 1 + the checkpoint's weight. Q_NORM and K_NORM have head_dim numbers
     EMBED          the embedding table, [vocabulary] rows (embedding.h). The decoder has one only where it differs from the
                    encoder's
     EOI            f32 [hidden]: used in place of the row of eoi_id, and not scaled. The decoder's likewise
     HEAD           f32 [2][hidden], decoder only: the rows of "yes" and "no" of the output matrix */
/* end of docs/FORMAT.md */
enum {
    KALM__T_Q, KALM__T_K, KALM__T_V, KALM__T_O, KALM__T_GATE, KALM__T_UP, KALM__T_DOWN,
    KALM__T_Q_NORM, KALM__T_K_NORM, KALM__T_PRE_ATTENTION, KALM__T_POST_ATTENTION, KALM__T_PRE_MLP, KALM__T_POST_MLP,
    KALM__T_LAYER_KINDS,
    KALM__T_NORM = KALM__T_LAYER_KINDS, KALM__T_EMBED, KALM__T_EOI, KALM__T_HEAD, KALM__T_KINDS
};
#define KALM__KIND(side, what) ((uint32_t)(side) * 32u + (uint32_t)(what))

/* docs/FORMAT.md: */
/* An entry of TENSORS, 64 bytes:
     offset  size
        0      4   kind
        4      4   layer
        8      4   type: f32 0, f16 1, bf16 2, q8 3, q4 4. Vectors and HEAD are f32
       12      4   1: the weights are for rotated inputs, so rows go through kalm__hadamard (ops.h) before this matrix; else 0.
                   q, k and v of a layer agree in this and in their type, and so do gate and up
       16      4   rows: outputs of a matrix, tokens of a table, 1 of a vector
       20      4   cols: inputs
       24      8   offset of the data, a multiple of 64
       32      8   size of the data in bytes: that of all panels, or rows
       40      8   q8 and q4 matrices: offset of the scales, f32 [rows rounded up to 16]; else 0
       48      8   q8 and q4 matrices: offset of the sums of each output's integers, int32 [rows rounded up to 16]; else 0
       56      4   f32, for people: root mean square of what rounding changed, relative to that of the weights
       60      4   zero */
/* end of docs/FORMAT.md */
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

#endif
