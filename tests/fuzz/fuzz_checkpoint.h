/* fuzz_checkpoint.h - targets "safetensors" (a header), "index" and "config": the texts of a checkpoint. They are refused with a
   sentence or understood, and what is understood lies inside its file. */
#ifndef FUZZ_CHECKPOINT_H
#define FUZZ_CHECKPOINT_H

#include "fuzz.h"
#include "fuzz_model.h"
#include "fuzz_tokenizers.h"

/* A header that is accepted has tensors that cover the data, apart from each other, named once. The first two bytes: how much
   data there is. */
static void fuzz_safetensors_one(const uint8_t *data, size_t size)
{
    kalm__st st;
    kalm_error err;
    kalm_result r;
    uint64_t file_size;
    size_t i;
    char *exact;
    if (size < 2) return;
    exact = (char *)fuzz_exact(data + 2, size -= 2);
    file_size = 8 + (uint64_t)size + fuzz_get(data, 2);
    kalm__st_begin(&st);
    kalm__no_error(&err);
    r = kalm__st_add_shard(&st, "", "model.safetensors", 17, &err);
    if (!r) r = kalm__st_header(&st, 0, "model.safetensors", exact, size, file_size, &err);
    if (!r) r = kalm__st_sort(&st, &err);
    if (r) fuzz_check_error(r, &err);
    else {
        uint64_t covered = 0;
        for (i = 0; i < st.count; i++) {
            const kalm__st_tensor *t = &st.tensors[i];
            FUZZ_CHECK(t->begin >= 8 + size && t->begin <= file_size && t->size <= file_size - t->begin && t->dims <= KALM__MAX_DIMS,
                       "tensor %lu of %lu", (unsigned long)i, (unsigned long)st.count);
            FUZZ_CHECK(kalm__st_find(&st, t->name, t->name_size) == t, "%s", "a tensor is not found by its name");
            FUZZ_CHECK(!i || kalm__st_compare(t - 1, t->name, t->name_size) < 0, "%s", "two tensors of one name");
            covered += t->size;
        }
        FUZZ_CHECK(covered == file_size - 8 - size, "%lu bytes covered", (unsigned long)covered);
    }
    kalm__st_end(&st);
    if (!r && (i = fuzz_json_cut(data + 2, size)) != 0) {      /* cut, the data behind it as they were */
        kalm__st_begin(&st);
        r = kalm__st_add_shard(&st, "", "model.safetensors", 17, &err);
        if (!r) r = kalm__st_header(&st, 0, "model.safetensors", exact, i, file_size - size + i, &err);
        FUZZ_CHECK(r, "%s", "a cut header is taken");
        kalm__st_end(&st);
    }
    free(exact);
}

static void fuzz_safetensors_seeds(fuzz_taker *take)
{
    static const char *const text[4] = {
        "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},\"b\":{\"dtype\":\"BF16\",\"shape\":[4],"
        "\"data_offsets\":[24,32]},\"c.d\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[32,34]}}",
        "{\"x\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[26,34]},\"e\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[0,0]},"
        "\"y\":{\"dtype\":\"I64\",\"shape\":[3],\"data_offsets\":[2,26]},\"z\":{\"dtype\":\"BOOL\",\"shape\":[1,2,1],\"data_offsets\":[0,2]}}",
        "{}", "{\"a\":{\"data_offsets\":[0,34],\"shape\":[34],\"dtype\":\"U8\"}}   "
    };
    unsigned i;
    for (i = 0; i < 4; i++) {
        size_t n = strlen(text[i]);
        uint8_t *p = (uint8_t *)malloc(n + 2);
        char name[16];
        if (!p) abort();
        fuzz_put(p, 2, i == 2 ? 0 : 34);
        memcpy(p + 2, text[i], n);
        sprintf(name, "header-%u", i);
        take(name, p, n + 2);
        free(p);
    }
}

static const fuzz_target fuzz_safetensors_target = {
    "safetensors", 1 << 13, 4000, fuzz_safetensors_one, fuzz_json_change, NULL, fuzz_safetensors_seeds, fuzz_json_words
};

/* An index names files that are not there, so it never ends well; it must end. */
static void fuzz_index_one(const uint8_t *data, size_t size)
{
    kalm__st st;
    kalm_error err;
    kalm_result r;
    char *exact = (char *)fuzz_exact(data, size);
    kalm__st_begin(&st);
    kalm__no_error(&err);
    r = kalm__st_read_index(&st, "/nowhere/at/all", exact, size, &err);
    if (r) fuzz_check_error(r, &err);
    kalm__st_end(&st);
    free(exact);
}
static void fuzz_index_seeds(fuzz_taker *take)
{
    static const char text[] = "{\"metadata\": {\"total_size\": 20}, \"weight_map\": {\"a.b\": \"model-1.safetensors\", \"c\": \"model-2.safetensors\", \"d\": \"model-1.safetensors\"}}";
    take("index", text, sizeof text - 1);
    static const char terminal[] = "{\"weight_map\": {\"a\": \"\\u001b[31mred\\u007f.safetensors\"}}";
    take("empty", "{\"weight_map\":{}}", 17);
    take("terminal", terminal, sizeof terminal - 1);
}
static const fuzz_target fuzz_index_target = { "index", 1 << 12, 3000, fuzz_index_one, fuzz_json_change, NULL, fuzz_index_seeds, fuzz_json_words };

/* A config that is accepted gives a shape whose products are small enough to compute with. */
static void fuzz_config_one(const uint8_t *data, size_t size)
{
    kalm__checkpoint c;
    kalm_error err;
    kalm_result r;
    size_t i;
    char *exact = (char *)fuzz_exact(data, size);
    kalm__checkpoint_begin(&c);
    kalm__no_error(&err);
    r = kalm__config_read(&c, exact, size, &err);
    if (r) fuzz_check_error(r, &err);
    else {
        unsigned k;
        for (i = 0; i < 2; i++) {
            const kalm__side *s = &c.shape.side[i];
            FUZZ_CHECK(s->layers >= 1 && s->layers <= KALM__MAX_LAYERS && s->mlp <= KALM__MAX_MLP && s->kv_heads && s->heads % s->kv_heads == 0 &&
                       s->head_dim % 2 == 0 && s->head_dim <= KALM__MAX_HEAD_DIM && s->window >= 1, "side %u", (unsigned)i);
            for (k = 0; k < s->layers; k++) FUZZ_CHECK(s->full[k] <= 1, "layer %u", k);
        }
        FUZZ_CHECK(c.shape.hidden_size >= 1 && c.shape.hidden_size <= KALM__MAX_HIDDEN && c.shape.vocabulary <= KALM__MAX_VOCABULARY, "hidden %u", (unsigned)c.shape.hidden_size);
        r = kalm__checkpoint_tensors(&c, &err);            /* of an empty directory */
        FUZZ_CHECK(r, "%s", "tensors out of nothing");
        fuzz_check_error(r, &err);
    }
    kalm__checkpoint_end(&c);
    if ((i = fuzz_json_cut(data, size)) != 0) {
        kalm__checkpoint_begin(&c);
        FUZZ_CHECK(kalm__config_read(&c, exact, i, &err), "%s", "a cut config is taken");
        kalm__checkpoint_end(&c);
    }
    free(exact);
}
#define FUZZ_SIDE                                                                                                                    \
    "\"vocab_size\":64,\"hidden_size\":8,\"intermediate_size\":16,\"num_hidden_layers\":2,\"num_attention_heads\":2,\"num_key_value_heads\":1," \
    "\"head_dim\":8,\"hidden_activation\":\"gelu_pytorch_tanh\",\"max_position_embeddings\":512,\"rms_norm_eps\":1e-06,\"attention_bias\":false,"  \
    "\"query_pre_attn_scalar\":8,\"sliding_window\":4,\"layer_types\":[\"sliding_attention\",\"full_attention\"],\"final_logit_softcapping\":null," \
    "\"attn_logit_softcapping\":null,\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"linear\",\"rope_theta\":1000000.0,\"factor\":8.0},"   \
    "\"sliding_attention\":{\"rope_type\":\"default\",\"rope_theta\":10000.0}}"
#define FUZZ_CONFIG(tied)                                                                                                               \
    "{\"architectures\":[\"T5Gemma2ForConditionalGeneration\"],\"model_type\":\"t5gemma2\",\"is_encoder_decoder\":true,\"vocab_size\":64,"    \
    "\"tie_word_embeddings\":" tied ",\"eoi_token_index\":6,\"encoder\":{\"model_type\":\"t5gemma2_encoder\",\"eoi_token_index\":6,"         \
    "\"tie_word_embeddings\":" tied ",\"text_config\":{" FUZZ_SIDE ",\"model_type\":\"t5gemma2_text\"}},\"decoder\":{" FUZZ_SIDE               \
    ",\"model_type\":\"t5gemma2_decoder\"}}"
static const char *const fuzz_config_text[2] = { FUZZ_CONFIG("true"), FUZZ_CONFIG("false") };
static void fuzz_config_seeds(fuzz_taker *take) { take("nested", fuzz_config_text[0], strlen(fuzz_config_text[0])); }
static const fuzz_target fuzz_config_target = { "config", 1 << 13, 2000, fuzz_config_one, fuzz_json_change, NULL, fuzz_config_seeds, fuzz_json_words };

#endif
