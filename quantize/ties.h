/* ties.h - one embedding table may stand in a checkpoint under several names: which of them stand for the same numbers, and
   which table each side of the model and its head use. Compares weights; checkpoint.h has found the tensors.

   The names: model.encoder.embed_tokens.weight (or model.encoder.text_model.embed_tokens.weight, its newer spelling),
   model.decoder.embed_tokens.weight and lm_head.out_proj.weight. The rules, which are those of transformers except where noted:

     tie_word_embeddings true    The table may have any one of these names, since savers keep only one of tied weights and
                                 differ about which. A decoder table with other numbers is a table of the decoder's own. A
                                 head with other numbers is refused: old and new versions of transformers read such a
                                 checkpoint differently.
     tie_word_embeddings false   The encoder's table and the head must be there. A decoder without a table uses the
                                 encoder's.

   Where decoder.tie_word_embeddings alone is true, a head with other numbers is refused as well: some versions of transformers look
   there.

   In either case both spellings of the encoder's table may be there if they hold the same numbers. The vector of the
   end-of-image token (eoi_embedding) stands beside the encoder's and the decoder's table and follows the same rules. */
#ifndef KALM__TIES_H
#define KALM__TIES_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "checkpoint.h"
#include "numbers.h"

/* Two spellings of one name: the tensor that is there; where both are, they must be equal. NULL: neither. */
KALM__FN kalm__st_tensor *kalm__ties_spelling(const kalm__checkpoint *c, kalm__st_tensor *flat, kalm__st_tensor *nested,
                                              kalm_result *r, kalm_error *err)
{
    if (*r || !flat || !nested) return flat ? flat : nested;
    if (!kalm__same_tensor(&c->st, flat, nested, r, err) && !*r)
        *r = kalm__fail(err, KALM_BAD_FILE, "tensors %s and %s are two spellings of one name and differ", flat->shown,
                        nested->shown);
    return flat;
}

/* Set c->embed, c->eoi and c->head from c->found. */
KALM__FN kalm_result kalm__ties_resolve(kalm__checkpoint *c, kalm_error *err)
{
    kalm__st_tensor *const *table = c->found_table, *const *eoi = c->found_eoi, *head = c->found_head;
    kalm_result r = KALM_OK;
    c->embed[0] = kalm__ties_spelling(c, table[KALM__FOUND_FLAT], table[KALM__FOUND_NESTED], &r, err);
    c->eoi[0] = kalm__ties_spelling(c, eoi[KALM__FOUND_FLAT], eoi[KALM__FOUND_NESTED], &r, err);
    if (r) return r;
    if (!c->embed[0] && c->tied) c->embed[0] = table[KALM__FOUND_DECODER] ? table[KALM__FOUND_DECODER] : head;
    if (!c->eoi[0] && c->tied) c->eoi[0] = eoi[KALM__FOUND_DECODER];
    c->embed[1] = table[KALM__FOUND_DECODER];
    if (c->embed[1] && (c->embed[1] == c->embed[0] || kalm__same_tensor(&c->st, c->embed[0], c->embed[1], &r, err)))
        c->embed[1] = NULL;
    c->eoi[1] = eoi[KALM__FOUND_DECODER];
    if (!r && c->eoi[0] && c->eoi[1] && (c->eoi[1] == c->eoi[0] || kalm__same_tensor(&c->st, c->eoi[0], c->eoi[1], &r, err)))
        c->eoi[1] = NULL;
    if (!r && (c->tied || c->decoder_tied) && head && head != c->embed[0] && !kalm__same_tensor(&c->st, c->embed[0], head, &r, err) && !r)
        return c->tied ? kalm__fail(err, KALM_BAD_FILE, "tensor %s differs from %s, and config.json says that they are one: "
                                    "tie_word_embeddings is true", head->shown, c->embed[0]->shown)
                       : kalm__fail(err, KALM_BAD_FILE, "config.json contradicts itself: tie_word_embeddings is false and "
                                    "decoder.tie_word_embeddings true, and tensor %s differs from %s", head->shown, c->embed[0]->shown);
    c->head = c->tied ? c->embed[0] : head;
    return r;
}

#endif
