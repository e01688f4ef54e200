/* import_json.h - reads a tokenizer.json of Hugging Face, and refuses what this library would not tokenise exactly, with the
   line and column of the part that it does not know. */
#ifndef KALM__IMPORT_JSON_H
#define KALM__IMPORT_JSON_H

#include "import_charsmap.h"

KALM__FN kalm_result kalm__import_refuse(const kalm__import *m, const kalm__json *j, uint32_t node, const char *what)
{
    return kalm__json_fail_node(j, node, m->err, what);
}

/* A member that is there and not null. */
KALM__FN uint32_t kalm__import_member(const kalm__json *j, uint32_t i, const char *key)
{
    uint32_t v = kalm__json_get(j, i, key);
    return v && kalm__json_type(j, v) != KALM__JSON_NULL ? v : 0;
}
KALM__FN int kalm__import_true(const kalm__json *j, uint32_t i, const char *key)
{
    return kalm__json_type(j, kalm__json_get(j, i, key)) == KALM__JSON_TRUE && kalm__json_get(j, i, key);
}

/* {"type": "Replace", "pattern": {"String": from}, "content": to} */
KALM__FN int kalm__import_replaces(const kalm__json *j, uint32_t i, const char *from, const char *to)
{
    return kalm__json_is(j, kalm__json_get(j, i, "type"), "Replace")
        && kalm__json_is(j, kalm__json_get(j, kalm__json_get(j, i, "pattern"), "String"), from)
        && kalm__json_is(j, kalm__json_get(j, i, "content"), to);
}

KALM__FN kalm_result kalm__import_normalizer(kalm__import *m, const kalm__json *j, uint32_t i)
{
    uint32_t list, at, type = kalm__json_get(j, i, "type");
    static const char forms[4][5] = { "NFC", "NFKC", "NFD", "NFKD" };
    uint32_t f;
    if (kalm__json_is(j, type, "Sequence")) {
        list = kalm__json_get(j, i, "normalizers");
        if (!list || kalm__json_type(j, list) != KALM__JSON_ARRAY)
            return kalm__import_refuse(m, j, i, "a sequence of normalizers has none");
        for (at = list + 1; at < j->nodes[list].next; at = j->nodes[at].next) {
            kalm_result r;
            if (kalm__json_is(j, kalm__json_get(j, at, "type"), "Sequence"))
                return kalm__import_refuse(m, j, at, "a normalizer is a sequence inside a sequence");
            r = kalm__import_normalizer(m, j, at);
            if (r) return r;
        }
        return KALM_OK;
    }
    if (kalm__import_replaces(j, i, " ", "\xe2\x96\x81")) {
        m->flags |= KALM__TOK_ESCAPE;
        return KALM_OK;
    }
    if (kalm__json_is(j, type, "Prepend") && kalm__json_is(j, kalm__json_get(j, i, "prepend"), "\xe2\x96\x81")
        && !(m->flags & (KALM__TOK_ESCAPE | KALM__TOK_PREFIX))) {
        m->flags |= KALM__TOK_PREFIX;
        return KALM_OK;
    }
    for (f = 0; f < 4; f++)
        if (kalm__json_is(j, type, forms[f])) {
            if (m->flags & (KALM__TOK_NORMAL | KALM__TOK_ESCAPE | KALM__TOK_PREFIX))
                return kalm__import_refuse(m, j, i, "a Unicode normal form must be the first normalizer, and the only one");
            m->flags |= KALM__TOK_NORMAL | f << KALM__TOK_FORM_AT;
            return KALM_OK;
        }
    return kalm__import_refuse(m, j, i, "this normalizer is none that the library knows");
}

KALM__FN kalm_result kalm__import_pre_tokenizer(kalm__import *m, const kalm__json *j, uint32_t i)
{
    uint32_t type = kalm__json_get(j, i, "type");
    if (kalm__json_is(j, type, "Split") && (m->flags & KALM__TOK_ESCAPE)
        && kalm__json_is(j, kalm__json_get(j, kalm__json_get(j, i, "pattern"), "String"), " "))
        return KALM_OK;                /* never matches: the normalizer has left no space */
    if (kalm__json_is(j, type, "Metaspace") && kalm__json_is(j, kalm__json_get(j, i, "replacement"), "\xe2\x96\x81")
        && kalm__json_type(j, kalm__json_get(j, i, "split")) == KALM__JSON_FALSE) {
        uint32_t scheme = kalm__json_get(j, i, "prepend_scheme");
        if (m->flags & KALM__TOK_PREFIX) return kalm__import_refuse(m, j, i, "two parts of it put a space first");
        m->flags |= KALM__TOK_ESCAPE;
        if (kalm__json_is(j, scheme, "always")) m->flags |= KALM__TOK_PREFIX | KALM__TOK_UNLESS;
        else if (kalm__json_is(j, scheme, "first")) m->flags |= KALM__TOK_PREFIX | KALM__TOK_UNLESS | KALM__TOK_FIRST;
        else if (!kalm__json_is(j, scheme, "never"))
            return kalm__import_refuse(m, j, i, "a Metaspace has no prepend_scheme that the library knows");
        return KALM_OK;
    }
    return kalm__import_refuse(m, j, i, "this pre-tokenizer is none that the library knows (it reads those of SentencePiece "
                                        "kind, which leave the text whole)");
}

KALM__FN kalm_result kalm__import_decoder(kalm__import *m, const kalm__json *j, uint32_t i)
{
    uint32_t list, at, type = kalm__json_get(j, i, "type");
    if (kalm__json_is(j, type, "Sequence")) {
        list = kalm__json_get(j, i, "decoders");
        if (!list || kalm__json_type(j, list) != KALM__JSON_ARRAY)
            return kalm__import_refuse(m, j, i, "a sequence of decoders has none");
        for (at = list + 1; at < j->nodes[list].next; at = j->nodes[at].next) {
            uint32_t t = kalm__json_get(j, at, "type");
            uint64_t n;
            if (kalm__import_replaces(j, at, "\xe2\x96\x81", " ") || kalm__json_is(j, t, "ByteFallback")
                || kalm__json_is(j, t, "Fuse")) continue;
            if (kalm__json_is(j, t, "Strip") && kalm__json_is(j, kalm__json_get(j, at, "content"), " ")
                && kalm__json_uint(j, kalm__json_get(j, at, "start"), &n) && n == 1
                && kalm__json_uint(j, kalm__json_get(j, at, "stop"), &n) && n == 0) {
                m->flags |= KALM__TOK_STRIP;
                continue;
            }
            return kalm__import_refuse(m, j, at, "this decoder is none that the library knows");
        }
        return KALM_OK;
    }
    if (kalm__json_is(j, type, "Metaspace")) {
        if (m->flags & KALM__TOK_PREFIX) m->flags |= KALM__TOK_STRIP;
        return KALM_OK;
    }
    return kalm__import_refuse(m, j, i, "this decoder is none that the library knows");
}

KALM__FN kalm_result kalm__import_json(kalm__import *m, const kalm__json *j)
{
    uint32_t model = kalm__json_get(j, 0, "model"), vocab, merges, added, node, at, most = 0, i;
    uint64_t id;
    kalm_result r;
    int on;
    if (kalm__json_type(j, 0) != KALM__JSON_OBJECT || !model || kalm__json_type(j, model) != KALM__JSON_OBJECT)
        return kalm__import_refuse(m, j, 0, "this is no tokenizer.json: it has no \"model\"");
    vocab = kalm__json_get(j, model, "vocab");
    merges = kalm__json_get(j, model, "merges");
    node = kalm__json_get(j, model, "type");
    if (node && !kalm__json_is(j, node, "BPE"))
        return kalm__import_refuse(m, j, node, "the model is not BPE; Unigram, WordPiece and WordLevel are not supported");
    if (!vocab || kalm__json_type(j, vocab) != KALM__JSON_OBJECT || !merges
        || kalm__json_type(j, merges) != KALM__JSON_ARRAY)
        return kalm__import_refuse(m, j, model, "the model has no vocab and merges, so it is not BPE");
    node = kalm__import_member(j, model, "dropout");
    if (node) {
        double p;
        if (!kalm__json_double(j, node, &p) || p > 0) return kalm__import_refuse(m, j, node, "a BPE dropout is not supported");
    }
    if ((node = kalm__import_member(j, model, "continuing_subword_prefix")) != 0 && !kalm__json_is(j, node, ""))
        return kalm__import_refuse(m, j, node, "a continuing_subword_prefix is not supported");
    if ((node = kalm__import_member(j, model, "end_of_word_suffix")) != 0 && !kalm__json_is(j, node, ""))
        return kalm__import_refuse(m, j, node, "an end_of_word_suffix is not supported");
    if (kalm__import_true(j, model, "ignore_merges"))
        return kalm__import_refuse(m, j, kalm__json_get(j, model, "ignore_merges"), "ignore_merges is not supported");
    if (kalm__import_true(j, model, "byte_fallback")) m->flags |= KALM__TOK_BYTES;
    if (kalm__import_true(j, model, "fuse_unk")) m->flags |= KALM__TOK_FUSE;
    if ((node = kalm__import_member(j, 0, "normalizer")) != 0 && (r = kalm__import_normalizer(m, j, node)) != KALM_OK) return r;
    if ((m->flags & KALM__TOK_PREFIX) && !(m->flags & KALM__TOK_ESCAPE))
        return kalm__import_refuse(m, j, node, "a prefix of U+2581 without spaces written so is not supported");
    if ((node = kalm__import_member(j, 0, "pre_tokenizer")) != 0 && (r = kalm__import_pre_tokenizer(m, j, node)) != KALM_OK)
        return r;
    if ((node = kalm__import_member(j, 0, "decoder")) != 0 && (r = kalm__import_decoder(m, j, node)) != KALM_OK) return r;

    /* tokens: the vocabulary's and the added ones */
    added = kalm__import_member(j, 0, "added_tokens");
    if (added && kalm__json_type(j, added) != KALM__JSON_ARRAY)
        return kalm__import_refuse(m, j, added, "added_tokens is no array");
    for (at = vocab + 1; at < j->nodes[vocab].next; at = j->nodes[at + 1].next) {
        if (!kalm__json_uint(j, at + 1, &id) || id >= 1u << 20)
            return kalm__import_refuse(m, j, at + 1, "a token's id is not a whole number below 1048576");
        if (id > most) most = (uint32_t)id;
    }
    if (added)
        for (at = added + 1; at < j->nodes[added].next; at = j->nodes[at].next) {
            if (!kalm__json_uint(j, kalm__json_get(j, at, "id"), &id) || id >= 1u << 20)
                return kalm__import_refuse(m, j, at, "an added token's id is not a whole number below 1048576");
            if (id > most) most = (uint32_t)id;
        }
    m->tokens = m->symbols = most + 1;
    m->symbol = (kalm__import_symbol *)kalm__import_alloc(m, kalm__mul(m->symbols, sizeof *m->symbol));
    if (!m->symbol || !kalm__import_index(m, m->symbols)) return KALM_NO_MEMORY;
    for (i = 0; i < m->symbols; i++) m->symbol[i].kind = KALM__KIND_NONE;
    for (at = vocab + 1; at < j->nodes[vocab].next; at = j->nodes[at + 1].next) {
        kalm__import_symbol *s;
        int byte;
        (void)kalm__json_uint(j, at + 1, &id);
        s = m->symbol + id;
        if (s->kind != KALM__KIND_NONE) return kalm__import_refuse(m, j, at + 1, "two tokens have this id");
        s->text = kalm__json_text(j, at);
        if (kalm__import_find(m, s->text) != KALM__TOK_NONE)
            return kalm__import_refuse(m, j, at, "this token is there twice");
        byte = m->flags & KALM__TOK_BYTES ? kalm__import_byte(s->text) : -1;
        s->kind = byte >= 0 ? KALM__KIND_BYTE : KALM__KIND_TEXT;
        s->merges = byte < 0 && s->text.size;
        if (byte >= 0) m->bytes[byte] = (uint32_t)id;
        kalm__import_enter(m, (uint32_t)id);
    }
    for (at = added ? added + 1 : 0; added && at < j->nodes[added].next; at = j->nodes[at].next) {
        uint32_t content = kalm__json_get(j, at, "content"), known;
        kalm_text text = kalm__json_text(j, content);
        kalm__import_symbol *s;
        (void)kalm__json_uint(j, kalm__json_get(j, at, "id"), &id);
        if (!content || kalm__json_type(j, content) != KALM__JSON_STRING)
            return kalm__import_refuse(m, j, at, "an added token has no content");
        if (!text.size) continue;
        if (kalm__import_true(j, at, "lstrip") || kalm__import_true(j, at, "rstrip") || kalm__import_true(j, at, "single_word"))
            return kalm__import_refuse(m, j, at, "an added token with lstrip, rstrip or single_word is not supported");
        if (kalm__import_true(j, at, "normalized")) {
            size_t k;
            for (k = 0; k < text.size; k++)
                if (text.data[k] == ' ' || (unsigned char)text.data[k] >= 0x80)
                    return kalm__import_refuse(m, j, at, "an added token that is normalized must be of ASCII without spaces");
        }
        s = m->symbol + id;
        known = kalm__import_find(m, text);
        if (known != KALM__TOK_NONE ? known != id : s->kind != KALM__KIND_NONE)
            return kalm__import_refuse(m, j, at, "an added token and the vocabulary disagree about this id");
        if (s->kind == KALM__KIND_NONE) {
            s->text = text;
            s->kind = KALM__KIND_TEXT;
            kalm__import_enter(m, (uint32_t)id);
        }
        on = kalm__import_true(j, at, "special") || kalm__import_is_mark(text);
        s->added = (uint8_t)(1 + (on ? KALM__CLASS_CONTROL : KALM__CLASS_TEXT));
        if (on) s->merges = 0;         /* a mark must not come about by merging what a user wrote */
    }
    node = kalm__import_member(j, model, "unk_token");
    if (node) {
        m->unknown = kalm__import_find(m, kalm__json_text(j, node));
        if (m->unknown == KALM__TOK_NONE) return kalm__import_refuse(m, j, node, "the unknown token is not in the vocabulary");
    }
    for (i = 0; i < 256 && m->bytes[i] != KALM__TOK_NONE; i++) {}
    if (m->unknown == KALM__TOK_NONE && (i < 256 || !(m->flags & KALM__TOK_BYTES)))
        return kalm__import_refuse(m, j, model, "it has neither all byte tokens nor an unknown token");

    m->merge = (kalm__import_merge *)kalm__import_alloc(m, kalm__mul(j->nodes[merges].size, sizeof *m->merge));
    if (!m->merge) return KALM_NO_MEMORY;
    if (j->nodes[merges].size > KALM__IMPORT_RANKS) return kalm__import_refuse(m, j, merges, "there are too many merges");
    for (at = merges + 1; at < j->nodes[merges].next; at = j->nodes[at].next) {
        kalm__import_merge *a = m->merge + m->merges;
        kalm_text left, right;
        if (kalm__json_type(j, at) == KALM__JSON_STRING) {
            const char *space;
            left = kalm__json_text(j, at);
            space = (const char *)memchr(left.data, ' ', left.size);
            if (!space || memchr(space + 1, ' ', left.size - (size_t)(space + 1 - left.data)))
                return kalm__import_refuse(m, j, at, "a merge is not two tokens with a space between them");
            right.data = space + 1;
            right.size = left.size - (size_t)(right.data - left.data);
            left.size = (size_t)(space - left.data);
        } else {
            if (kalm__json_type(j, at) != KALM__JSON_ARRAY || j->nodes[at].size != 2
                || kalm__json_type(j, at + 1) != KALM__JSON_STRING
                || kalm__json_type(j, j->nodes[at + 1].next) != KALM__JSON_STRING)
                return kalm__import_refuse(m, j, at, "a merge is not an array of two tokens");
            left = kalm__json_text(j, at + 1);
            right = kalm__json_text(j, j->nodes[at + 1].next);
        }
        if (!left.size || !right.size) return kalm__import_refuse(m, j, at, "a merge has an empty side");
        a->left = kalm__import_find(m, left);
        a->right = kalm__import_find(m, right);
        a->made = kalm__import_find2(m, left, right);
        a->rank = (uint32_t)m->merges++;
        if (a->left == KALM__TOK_NONE || a->right == KALM__TOK_NONE || a->made == KALM__TOK_NONE)
            return kalm__import_refuse(m, j, at, "a merge joins or makes what is no token");
        if (m->symbol[a->left].kind == KALM__KIND_BYTE || m->symbol[a->right].kind == KALM__KIND_BYTE)
            return kalm__import_refuse(m, j, at, "a merge of byte tokens is not supported");
    }
    return KALM_OK;
}

#endif
