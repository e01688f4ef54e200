/* checkpoint.h - understands a Hugging Face checkpoint of a T5Gemma2 model: config.json, in its old and new spellings, becomes a
   kalm__shape, and each tensor of such a model is found by its name and checked. What is missing, left over or contradictory is
   refused by its name, because a wrong guess would only show as bad rankings. Reads no weights.

   Taken from config.json, where side stands for encoder.text_config and for decoder:
     side.{vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim,
     max_position_embeddings, sliding_window, rms_norm_eps, query_pre_attn_scalar, hidden_activation}
     side.layer_types, or else side.sliding_window_pattern = n: every n-th layer has full attention (6 where neither is given)
     side.rope_parameters.{sliding_attention, full_attention}.{rope_type, rope_theta, factor}, or in older files
     side.{rope_local_base_freq, rope_theta, rope_scaling}, where the scaling is that of layers with full attention; beside
     rope_parameters these must say the same
     decoder.final_logit_softcapping, tie_word_embeddings (true where not given), eoi_token_index (also in encoder)
   side.attn_logit_softcapping is not read: transformers has the key and uses it nowhere in this model. */
#ifndef KALM__CHECKPOINT_H
#define KALM__CHECKPOINT_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/format.h"
#include "../src/modelfile.h"
#include "../src/tools/json.h"
#include "safetensors.h"
#include <stdio.h>

/* The places where a checkpoint may have a table: the encoder's in its two spellings, and the decoder's. */
enum { KALM__FOUND_FLAT, KALM__FOUND_NESTED, KALM__FOUND_DECODER, KALM__FOUND };

/* A tensor of the model and where the checkpoint has it. */
typedef struct kalm__wanted {
    uint32_t         kind, layer;
    kalm__st_tensor *from;
} kalm__wanted;

typedef struct kalm__checkpoint {
    kalm__st      st;
    kalm__json    json;                /* of config.json */
    char         *config;              /* its text; owned */
    size_t        config_size;
    kalm__shape   shape;               /* `weights`, yes_id and no_id are the caller's */
    uint8_t      *full[2];             /* [layers] a side; owned */
    int           tied, decoder_tied;  /* tie_word_embeddings, of the whole and of the decoder: transformers asks the one or the
                                          other, by its version */
    kalm__wanted *wanted;              /* layers' tensors and final norms, sorted by kind and layer; owned */
    size_t        wanted_count;
    int              nested;           /* the encoder's tensors are called model.encoder.text_model.... */
    kalm__st_tensor *found_table[KALM__FOUND], *found_eoi[KALM__FOUND], *found_head;  /* under their names; NULL: not there */
    /* Of each side, what kalm__ties_resolve makes of them. [1] is NULL where the decoder uses the encoder's. */
    kalm__st_tensor *embed[2], *eoi[2], *head;
} kalm__checkpoint;

KALM__FN void kalm__checkpoint_begin(kalm__checkpoint *c)
{
    memset(c, 0, sizeof *c);
    kalm__st_begin(&c->st);
    kalm__json_begin(&c->json, &c->st.allocator);
}

KALM__FN void kalm__checkpoint_end(kalm__checkpoint *c)
{
    kalm__json_end(&c->json);
    kalm__st_end(&c->st);
    free(c->config);
    free(c->full[0]);
    free(c->full[1]);
    free(c->wanted);
    memset(c, 0, sizeof *c);
}

/* ---- config.json ------------------------------------------------------------------------------------------------- */

/* An object of config.json, and its name in errors: "decoder.", or "" for the whole file. After the first error the functions
   below do nothing, so that callers look at `result` once. */
typedef struct kalm__config_at {
    const kalm__json *j;
    uint32_t          node;
    const char       *name;
    kalm_error       *err;
    kalm_result       result;
} kalm__config_at;

/* Report "config.json:12:7: decoder.head_dim must be ...", with the place of node i, or of the object where i is 0. key NULL: the
   error is about the object itself, which is not the whole file. */
KALM__FN void kalm__config_fail(kalm__config_at *at, uint32_t i, const char *key, const char *what)
{
    char text[220];
    if (at->result) return;
    if (key) snprintf(text, sizeof text, "%s%.60s %s", at->name, key, what);
    else snprintf(text, sizeof text, "%.*s %s", (int)strlen(at->name) - 1, at->name, what);
    at->result = kalm__json_fail_node(at->j, i ? i : at->node, at->err, text);
}

/* The object `key` of `up`. Its node is 0 where there is none, or null. */
KALM__FN kalm__config_at kalm__config_object(const kalm__config_at *up, const char *key, const char *name)
{
    kalm__config_at at = *up;
    at.name = name;
    at.node = up->result ? 0 : kalm__json_get(up->j, up->node, key);
    if (kalm__json_type(at.j, at.node) == KALM__JSON_NULL) at.node = 0;
    if (!at.node) return at;
    if (kalm__json_type(at.j, at.node) != KALM__JSON_OBJECT) kalm__config_fail(&at, 0, NULL, "must be an object");
    return at;
}

/* The node of a member, or 0 where it is missing or null. */
KALM__FN uint32_t kalm__config_member(const kalm__config_at *at, const char *key)
{
    uint32_t i = at->result ? 0 : kalm__json_get(at->j, at->node, key);
    return i && kalm__json_type(at->j, i) != KALM__JSON_NULL ? i : 0;
}

KALM__FN uint32_t kalm__config_uint(kalm__config_at *at, const char *key, uint32_t low, uint32_t high)
{
    uint32_t i = kalm__config_member(at, key);
    uint64_t v = 0;
    char what[80];
    if (at->result) return 0;
    snprintf(what, sizeof what, i ? "must be a whole number from %lu to %lu" : "is missing", (unsigned long)low,
             (unsigned long)high);
    if (!i || !kalm__json_uint(at->j, i, &v) || v < low || v > high) kalm__config_fail(at, i, key, what);
    return (uint32_t)v;
}

KALM__FN float kalm__config_number(kalm__config_at *at, const char *key, double low, double high)
{
    uint32_t i = kalm__config_member(at, key);
    double v = 0;
    char what[80];
    if (at->result) return 0;
    snprintf(what, sizeof what, i ? "must be a number from %g to %g" : "is missing", low, high);
    if (!i || !kalm__json_double(at->j, i, &v) || !(v >= low && v <= high)) kalm__config_fail(at, i, key, what);
    return (float)v;
}

KALM__FN int kalm__config_bool(kalm__config_at *at, const char *key, int otherwise)
{
    uint32_t i = kalm__config_member(at, key), type = kalm__json_type(at->j, i);
    if (!i) return otherwise;
    if (type != KALM__JSON_TRUE && type != KALM__JSON_FALSE) kalm__config_fail(at, i, key, "must be true or false");
    return type == KALM__JSON_TRUE;
}

/* All of a head is rotated: a setting, or a side for all of its settings, may say no other part. */
KALM__FN void kalm__config_all_rotary(kalm__config_at *at)
{
    uint32_t i = kalm__config_member(at, "partial_rotary_factor");
    double part;
    if (i && (!kalm__json_double(at->j, i, &part) || part < 1 || part > 1))
        kalm__config_fail(at, i, "partial_rotary_factor", "other than 1 is not supported");
}

/* One rotary setting: {"rope_type": "default" or "linear", "rope_theta": ..., "factor": ...}. Without with_theta, rope_theta is
   not read. */
KALM__FN void kalm__config_rotary(kalm__config_at *rope, int with_theta, float *theta, float *factor)
{
    uint32_t type = kalm__config_member(rope, "rope_type");
    if (!type) type = kalm__config_member(rope, "type");       /* an older name */
    *factor = 1;
    if (with_theta) *theta = kalm__config_number(rope, "rope_theta", 1, 1e12);
    if (!type) kalm__config_fail(rope, 0, "rope_type", "is missing");
    else if (kalm__json_is(rope->j, type, "linear")) *factor = kalm__config_number(rope, "factor", 1e-6, 1e6);
    else if (!kalm__json_is(rope->j, type, "default"))
        kalm__config_fail(rope, type, "rope_type", "is unknown here: only \"default\" and \"linear\" are");
    kalm__config_all_rotary(rope);
}

/* An older key, which may stand beside rope_parameters, must say the same. */
KALM__FN void kalm__config_same(kalm__config_at *at, const char *key, int matters, float theta)
{
    if (matters && kalm__config_member(at, key) && kalm__config_number(at, key, 1, 1e12) != theta)
        kalm__config_fail(at, kalm__config_member(at, key), key, "differs from what rope_parameters says");
}

KALM__FN void kalm__config_rotaries(kalm__config_at *at, kalm__side *s, int any_sliding, int any_full)
{
    int decoder = at->name[0] == 'd';
    float factor = 1;
    kalm__config_at rope = kalm__config_object(at, "rope_parameters", decoder ? "decoder.rope_parameters."
                                                                              : "encoder.text_config.rope_parameters.");
    kalm__config_at scaling = kalm__config_object(at, "rope_scaling", decoder ? "decoder.rope_scaling."
                                                                              : "encoder.text_config.rope_scaling.");
    kalm__config_all_rotary(at);
    if (scaling.node && !scaling.result) kalm__config_rotary(&scaling, 0, NULL, &factor);
    if (scaling.result) at->result = scaling.result;
    s->theta_sliding = s->theta_full = 10000;
    s->factor_sliding = s->factor_full = 1;
    if (rope.node && !rope.result) {
        kalm__config_at sliding = kalm__config_object(&rope, "sliding_attention",
                                                      decoder ? "decoder.rope_parameters.sliding_attention."
                                                              : "encoder.text_config.rope_parameters.sliding_attention.");
        kalm__config_at full = kalm__config_object(&rope, "full_attention",
                                                   decoder ? "decoder.rope_parameters.full_attention."
                                                           : "encoder.text_config.rope_parameters.full_attention.");
        if (!sliding.node && any_sliding) kalm__config_fail(&rope, 0, "sliding_attention", "is missing");
        if (!full.node && any_full) kalm__config_fail(&rope, 0, "full_attention", "is missing");
        if (sliding.node && !rope.result) kalm__config_rotary(&sliding, 1, &s->theta_sliding, &s->factor_sliding);
        if (full.node && !rope.result) kalm__config_rotary(&full, 1, &s->theta_full, &s->factor_full);
        if (!at->result) at->result = rope.result ? rope.result : sliding.result ? sliding.result : full.result;
        kalm__config_same(at, "rope_theta", any_full, s->theta_full);
        kalm__config_same(at, "rope_local_base_freq", any_sliding, s->theta_sliding);
        if (any_full && scaling.node && !at->result && factor != s->factor_full)
            kalm__config_fail(at, scaling.node, "rope_scaling", "differs from what rope_parameters says");
        return;
    }
    if (!at->result) at->result = rope.result;
    if (any_full || kalm__config_member(at, "rope_theta")) s->theta_full = kalm__config_number(at, "rope_theta", 1, 1e12);
    if (any_sliding || kalm__config_member(at, "rope_local_base_freq"))
        s->theta_sliding = kalm__config_number(at, "rope_local_base_freq", 1, 1e12);
    if (scaling.node && !at->result) s->factor_full = factor;
}

/* Read one side of the model. *full [layers] is allocated here. */
KALM__FN kalm_result kalm__config_side(kalm__config_at *at, kalm__side *s, uint32_t *vocabulary, uint32_t *hidden,
                                       uint8_t **full)
{
    uint32_t i, types, any_full = 0;
    s->layers = kalm__config_uint(at, "num_hidden_layers", 1, KALM__MAX_LAYERS);
    *vocabulary = kalm__config_uint(at, "vocab_size", 2, KALM__MAX_VOCABULARY);
    *hidden = kalm__config_uint(at, "hidden_size", 1, KALM__MAX_HIDDEN);
    s->mlp = kalm__config_uint(at, "intermediate_size", 1, KALM__MAX_MLP);
    s->heads = kalm__config_uint(at, "num_attention_heads", 1, KALM__MAX_HEADS);
    s->kv_heads = kalm__config_uint(at, "num_key_value_heads", 1, KALM__MAX_HEADS);
    s->head_dim = kalm__config_uint(at, "head_dim", 2, KALM__MAX_HEAD_DIM);
    s->max_positions = kalm__config_uint(at, "max_position_embeddings", 1, KALM__MAX_POSITIONS);
    s->norm_eps = kalm__config_number(at, "rms_norm_eps", 0, 1);
    s->query_scalar = kalm__config_number(at, "query_pre_attn_scalar", 1e-6, 1e9);
    if (!at->result && s->heads % s->kv_heads)
        kalm__config_fail(at, kalm__config_member(at, "num_key_value_heads"), "num_key_value_heads",
                          "does not divide num_attention_heads");
    if (!at->result && s->head_dim % 2)
        kalm__config_fail(at, kalm__config_member(at, "head_dim"), "head_dim", "is odd, and rotary positions need pairs");
    if (!at->result && !kalm__config_member(at, "hidden_activation"))
        kalm__config_fail(at, 0, "hidden_activation", "is missing");
    if (!at->result && !kalm__json_is(at->j, kalm__config_member(at, "hidden_activation"), "gelu_pytorch_tanh"))
        kalm__config_fail(at, kalm__config_member(at, "hidden_activation"), "hidden_activation",
                          "is unknown here: only \"gelu_pytorch_tanh\" is");
    if (kalm__config_bool(at, "attention_bias", 0))
        kalm__config_fail(at, kalm__config_member(at, "attention_bias"), "attention_bias", "is not supported");
    if (kalm__config_bool(at, "use_bidirectional_attention", 0))
        kalm__config_fail(at, kalm__config_member(at, "use_bidirectional_attention"), "use_bidirectional_attention",
                          "is not supported: it would change the sliding window");
    if (at->result) return at->result;
    *full = (uint8_t *)calloc(s->layers, 1);
    if (!*full) return at->result = kalm__fail(at->err, KALM_NO_MEMORY, "no memory for %u layers", (unsigned)s->layers);
    s->full = *full;
    types = kalm__config_member(at, "layer_types");
    if (types) {
        uint32_t node = types + 1;
        if (kalm__json_type(at->j, types) != KALM__JSON_ARRAY || at->j->nodes[types].size != s->layers) {
            char what[80];
            snprintf(what, sizeof what, "must list num_hidden_layers = %lu layers", (unsigned long)s->layers);
            kalm__config_fail(at, types, "layer_types", what);
            return at->result;
        }
        for (i = 0; i < s->layers; i++, node = at->j->nodes[node].next) {
            if (kalm__json_is(at->j, node, "full_attention")) (*full)[i] = 1;
            else if (!kalm__json_is(at->j, node, "sliding_attention")) {
                kalm__config_fail(at, node, "layer_types",
                                  "has an unknown type: only \"sliding_attention\" and \"full_attention\" are known");
                return at->result;
            }
        }
    } else {
        const char *key = kalm__config_member(at, "sliding_window_pattern") ? "sliding_window_pattern"
                                                                            : "_sliding_window_pattern";
        uint32_t every = kalm__config_member(at, key) ? kalm__config_uint(at, key, 1, 1024) : 6;
        for (i = 0; !at->result && i < s->layers; i++) (*full)[i] = (i + 1) % every == 0;
    }
    for (i = 0; i < s->layers; i++) any_full += (*full)[i];
    s->window = KALM__MAX_POSITIONS;   /* a model without sliding layers may say nothing */
    if (any_full < s->layers || kalm__config_member(at, "sliding_window"))
        s->window = kalm__config_uint(at, "sliding_window", 1, KALM__MAX_POSITIONS);
    if (!at->result) kalm__config_rotaries(at, s, any_full < s->layers, any_full > 0);
    return at->result;
}

/* Read config.json into c->shape, c->full and c->tied. */
KALM__FN kalm_result kalm__config_read(kalm__checkpoint *c, const char *text, size_t size, kalm_error *err)
{
    kalm__json *j = &c->json;
    kalm__config_at top, encoder, side[2];
    kalm__shape *m = &c->shape;
    uint32_t vocabulary[2], hidden[2], i, eoi[2];
    kalm_result r = kalm__json_parse(j, "config.json", text, size, err);
    if (r) return r;
    if (kalm__json_type(j, 0) != KALM__JSON_OBJECT) return kalm__json_fail(j, 0, err, "this must be an object");
    top.j = j;
    top.node = 0;
    top.name = "";
    top.err = err;
    top.result = KALM_OK;
    encoder = kalm__config_object(&top, "encoder", "encoder.");
    if (encoder.result) return encoder.result;
    side[1] = kalm__config_object(&top, "decoder", "decoder.");
    if (side[1].result) return side[1].result;
    if (!encoder.node || !side[1].node)
        return kalm__fail(err, KALM_BAD_FILE, "config.json has no \"%s\": this is no T5Gemma2 encoder-decoder",
                          encoder.node ? "decoder" : "encoder");
    side[0] = kalm__config_object(&encoder, "text_config", "encoder.text_config.");
    if (side[0].result) return side[0].result;
    if (!side[0].node) return kalm__fail(err, KALM_BAD_FILE, "config.json has no \"text_config\" in \"encoder\"");
    for (i = 0; i < 2; i++) {
        r = kalm__config_side(&side[i], &m->side[i], &vocabulary[i], &hidden[i], &c->full[i]);
        if (r) return r;
    }
    if (vocabulary[0] != vocabulary[1])
        kalm__config_fail(&side[1], kalm__config_member(&side[1], "vocab_size"), "vocab_size", "differs from the encoder's");
    if (hidden[0] != hidden[1])
        kalm__config_fail(&side[1], kalm__config_member(&side[1], "hidden_size"), "hidden_size",
                          "differs from the encoder's, whose rows the decoder reads");
    if (kalm__config_member(&side[1], "final_logit_softcapping"))
        m->softcap = kalm__config_number(&side[1], "final_logit_softcapping", 1e-3, 1e6);
    if (side[1].result) return side[1].result;
    m->vocabulary = vocabulary[0];
    m->hidden_size = hidden[0];
    c->tied = kalm__config_bool(&top, "tie_word_embeddings", 1);
    c->decoder_tied = kalm__config_bool(&side[1], "tie_word_embeddings", c->tied);
    if (side[1].result) return side[1].result;
    m->eoi_id = 0xffffffffu;
    eoi[0] = kalm__config_member(&top, "eoi_token_index");
    eoi[1] = kalm__config_member(&encoder, "eoi_token_index");
    if (eoi[1]) m->eoi_id = kalm__config_uint(&encoder, "eoi_token_index", 0, m->vocabulary - 1);
    if (eoi[0] && !encoder.result) {
        uint32_t id = kalm__config_uint(&top, "eoi_token_index", 0, m->vocabulary - 1);
        if (eoi[1] && id != m->eoi_id) kalm__config_fail(&top, eoi[0], "eoi_token_index", "differs from encoder.eoi_token_index");
        m->eoi_id = id;
    }
    return encoder.result ? encoder.result : top.result;
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

/* What a tensor of the layers is called behind "layers.N.". */
KALM__FN const char *kalm__source_name(uint32_t what)
{
    static const char *const names[KALM__T_LAYER_KINDS] = {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
        "mlp.down_proj", "self_attn.q_norm", "self_attn.k_norm", "pre_self_attn_layernorm", "post_self_attn_layernorm",
        "pre_feedforward_layernorm", "post_feedforward_layernorm"
    };
    return names[what];
}

/* The tensor `name`, with `dims` dimensions: [rows][cols], or [cols]. Returns NULL and sets *r when its type or shape is not what
   config.json makes it. Where there is none, returns NULL, and sets *r if it is needed. */
KALM__FN kalm__st_tensor *kalm__checkpoint_tensor(kalm__checkpoint *c, const char *name, uint32_t dims, uint64_t rows,
                                                  uint64_t cols, int needed, kalm_result *r, kalm_error *err)
{
    kalm__st_tensor *t = *r ? NULL : kalm__st_find(&c->st, name, strlen(name));
    char has[KALM__MAX_DIMS * 22 + 3], wants[50];
    size_t n = 0;
    uint32_t i;
    if (*r) return NULL;
    if (!t) {
        if (needed) *r = kalm__fail(err, KALM_BAD_FILE, "tensor %s is missing", name);
        return NULL;
    }
    t->used = 1;
    if (t->type == KALM__OTHER_DTYPE) {
        *r = kalm__fail(err, KALM_BAD_FILE, "tensor %s is %s; weights must be F32, F16 or BF16", name, t->dtype);
        return NULL;
    }
    if (t->dims == dims && t->shape[dims - 1] == cols && (dims == 1 || t->shape[0] == rows)) return t;
    has[n++] = '[';
    for (i = 0; i < t->dims; i++)
        n += (size_t)snprintf(has + n, sizeof has - n, i ? ", %llu" : "%llu", (unsigned long long)t->shape[i]);
    snprintf(has + n, sizeof has - n, "]");
    if (dims == 1) snprintf(wants, sizeof wants, "[%llu]", (unsigned long long)cols);
    else snprintf(wants, sizeof wants, "[%llu, %llu]", (unsigned long long)rows, (unsigned long long)cols);
    *r = kalm__fail(err, KALM_BAD_FILE, "tensor %s has shape %s; config.json makes it %s", name, has, wants);
    return NULL;
}

/* Is this a tensor of the image side, which reranking does not need? */
KALM__FN int kalm__is_vision(const kalm__st_tensor *t)
{
    static const char *const parts[2] = { "vision_tower", "multi_modal_projector" };
    size_t i, at;
    for (i = 0; i < 2; i++) {
        size_t n = strlen(parts[i]);
        for (at = 0; at + n < t->name_size; at++)
            if ((!at || t->name[at - 1] == '.') && t->name[at + n] == '.' && !memcmp(t->name + at, parts[i], n)) return 1;
    }
    return 0;
}

static const char *const kalm__found_prefix[KALM__FOUND] = { "model.encoder.", "model.encoder.text_model.", "model.decoder." };

/* What the names of a side's tensors begin with. */
KALM__FN const char *kalm__checkpoint_prefix(const kalm__checkpoint *c, uint32_t side)
{
    return kalm__found_prefix[side == KALM__DECODER ? KALM__FOUND_DECODER : c->nested ? KALM__FOUND_NESTED : KALM__FOUND_FLAT];
}

/* The tensors of the layers, and the final norms, into c->wanted. */
KALM__FN kalm_result kalm__checkpoint_layers(kalm__checkpoint *c, kalm_error *err)
{
    const kalm__shape *m = &c->shape;
    size_t most = ((size_t)m->side[0].layers + m->side[1].layers) * KALM__T_LAYER_KINDS + 2;
    uint32_t side, what, layer, rows, cols;
    char name[160];
    kalm_result r = KALM_OK;
    c->wanted = (kalm__wanted *)calloc(most, sizeof *c->wanted);
    if (!c->wanted) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %z tensors", most);
    for (side = 0; side < 2 && !r; side++)
        for (what = 0; what <= KALM__T_LAYER_KINDS && !r; what++)
            for (layer = 0; layer < (what < KALM__T_LAYER_KINDS ? m->side[side].layers : 1) && !r; layer++) {
                kalm__wanted *w = &c->wanted[c->wanted_count];
                const char *prefix = kalm__checkpoint_prefix(c, side);
                w->kind = KALM__KIND(side, what);
                w->layer = layer;
                kalm__tensor_shape(m, w->kind, &rows, &cols);
                if (what < KALM__T_LAYER_KINDS)
                    snprintf(name, sizeof name, "%slayers.%lu.%s.weight", prefix, (unsigned long)layer, kalm__source_name(what));
                else snprintf(name, sizeof name, "%snorm.weight", prefix);
                w->from = kalm__checkpoint_tensor(c, name, what <= KALM__T_DOWN ? 2 : 1, rows, cols, 1, &r, err);
                c->wanted_count++;
            }
    return r;
}

/* The tables, wherever they may stand; ties.h says what they are to each other. */
KALM__FN kalm_result kalm__checkpoint_tables(kalm__checkpoint *c, kalm_error *err)
{
    const kalm__shape *m = &c->shape;
    char name[160];
    unsigned i;
    kalm_result r = KALM_OK;
    for (i = 0; i < KALM__FOUND; i++) {
        snprintf(name, sizeof name, "%sembed_tokens.weight", kalm__found_prefix[i]);
        c->found_table[i] = kalm__checkpoint_tensor(c, name, 2, m->vocabulary, m->hidden_size, 0, &r, err);
        snprintf(name, sizeof name, "%sembed_tokens.eoi_embedding", kalm__found_prefix[i]);
        c->found_eoi[i] = kalm__checkpoint_tensor(c, name, 1, 1, m->hidden_size, 0, &r, err);
        if (!r && c->found_eoi[i] && m->eoi_id == 0xffffffffu)
            r = kalm__fail(err, KALM_BAD_FILE, "config.json has no eoi_token_index for tensor %s", name);
    }
    c->found_head = kalm__checkpoint_tensor(c, "lm_head.out_proj.weight", 2, m->vocabulary, m->hidden_size, !c->tied, &r, err);
    if (!r && !c->found_table[KALM__FOUND_FLAT] && !c->found_table[KALM__FOUND_NESTED]
        && !(c->tied && (c->found_table[KALM__FOUND_DECODER] || c->found_head)))
        r = kalm__fail(err, KALM_BAD_FILE, "tensor %sembed_tokens.weight is missing", kalm__checkpoint_prefix(c, 0));
    if (!r && m->eoi_id != 0xffffffffu && !c->found_eoi[KALM__FOUND_FLAT] && !c->found_eoi[KALM__FOUND_NESTED]
        && !(c->tied && c->found_eoi[KALM__FOUND_DECODER]))
        r = kalm__fail(err, KALM_BAD_FILE, "tensor %sembed_tokens.eoi_embedding is missing", kalm__checkpoint_prefix(c, 0));
    return r;
}

KALM__FN int kalm__st_begins(const kalm__st_tensor *t, const char *begin)
{
    return t->name_size > strlen(begin) && !memcmp(t->name, begin, strlen(begin));
}

/* Find every tensor of the model; none may be left over but those of the image side. */
KALM__FN kalm_result kalm__checkpoint_tensors(kalm__checkpoint *c, kalm_error *err)
{
    static const char flat[] = "model.encoder.layers.", nested[] = "model.encoder.text_model.layers.";
    size_t i, spelled[2] = { 0, 0 };
    kalm_result r;
    for (i = 0; i < c->st.count; i++) {            /* the spelling of most layers; the others are then left over */
        spelled[0] += (size_t)kalm__st_begins(&c->st.tensors[i], flat);
        spelled[1] += (size_t)kalm__st_begins(&c->st.tensors[i], nested);
    }
    c->nested = spelled[1] > spelled[0];
    r = kalm__checkpoint_layers(c, err);
    if (!r) r = kalm__checkpoint_tables(c, err);
    for (i = 0; i < c->st.count && !r; i++) {
        const kalm__st_tensor *t = &c->st.tensors[i];
        if (!t->used && !kalm__is_vision(t))
            r = kalm__fail(err, KALM_BAD_FILE, "tensor %s of %s has no place in this model", t->shown,
                           c->st.shards[t->shard].name);
    }
    return r;
}

/* Read all about the checkpoint in folder `dir` but its weights and its tokenizer. kalm__checkpoint_end is due even after a
   failure. */
KALM__FN kalm_result kalm__checkpoint_read(kalm__checkpoint *c, const char *dir, kalm_error *err)
{
    char *path;
    kalm_result r;
    if (!kalm__directory_exists(dir))
        return kalm__fail(err, KALM_CANNOT_READ, "%s: %s", kalm__shown(dir), kalm__file_exists(dir) ? "it is not a folder" : "no such folder");
    path = kalm__join_path(dir, "config.json");
    if (!path) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a path");
    r = kalm__read_expected(path, (uint64_t)16 << 20, "JSON", &c->config, &c->config_size, err);
    free(path);
    if (!r) r = kalm__config_read(c, c->config, c->config_size, err);
    if (!r) r = kalm__st_read(&c->st, dir, err);
    if (!r) r = kalm__checkpoint_tensors(c, err);
    return r;
}

#endif
