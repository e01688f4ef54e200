/* import_json.h - reads a tokenizer.json of Hugging Face, and refuses what this library would not tokenise exactly, with the
   line and column of the part that it does not know. */
#ifndef KALM__IMPORT_JSON_H
#define KALM__IMPORT_JSON_H

#include "import_charsmap.h"

/* Normalizers that must come behind the charsmap, or the library's order would not be the file's. */
#define KALM__IMPORT_LATE (KALM__TOK_TRIM_LEFT | KALM__TOK_TRIM_RIGHT | KALM__TOK_COLLAPSE | KALM__TOK_ESCAPE | KALM__TOK_PREFIX)

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

KALM__FN int kalm__import_base64_digit(char c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 : c >= '0' && c <= '9' ? c - '0' + 52
         : c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* A charsmap in base64. */
KALM__FN kalm_result kalm__import_base64(kalm__import *m, const kalm__json *j, uint32_t node)
{
    kalm_text t = kalm__json_text(j, node);
    unsigned char *data;
    size_t i, n = 0;
    uint32_t bits = 0, have = 0;
    if (kalm__json_type(j, node) != KALM__JSON_STRING) return kalm__import_refuse(m, j, node, "a charsmap is no string");
    data = (unsigned char *)kalm__import_alloc(m, t.size / 4 * 3 + 4);
    if (!data) return KALM_NO_MEMORY;
    while (t.size && t.data[t.size - 1] == '=') t.size--;
    for (i = 0; i < t.size; i++) {
        int d = kalm__import_base64_digit(t.data[i]);
        if (d < 0) return kalm__import_refuse(m, j, node, "a charsmap is not base64");
        bits = bits << 6 | (uint32_t)d;
        have += 6;
        if (have >= 8) {
            have -= 8;
            data[n++] = (unsigned char)(bits >> have);
        }
    }
    return kalm__import_charsmap(m, data, n);
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
    if (m->model == KALM__MODEL_UNIGRAM) {
        if (kalm__json_is(j, type, "Precompiled") && !m->rules && !(m->flags & KALM__IMPORT_LATE)) {
            uint32_t map = kalm__json_get(j, i, "precompiled_charsmap");
            if (!map) return kalm__import_refuse(m, j, i, "a Precompiled normalizer has no charsmap");
            return kalm__import_base64(m, j, map);
        }
        if (kalm__json_is(j, type, "Strip")) {
            if (kalm__import_true(j, i, "strip_left")) m->flags |= KALM__TOK_TRIM_LEFT;
            if (kalm__import_true(j, i, "strip_right")) m->flags |= KALM__TOK_TRIM_RIGHT;
            return KALM_OK;
        }
        if (kalm__json_is(j, type, "Replace")
            && kalm__json_is(j, kalm__json_get(j, kalm__json_get(j, i, "pattern"), "Regex"), " {2,}")
            && (kalm__json_is(j, kalm__json_get(j, i, "content"), " ")
                || kalm__json_is(j, kalm__json_get(j, i, "content"), "\xe2\x96\x81"))) {
            m->flags |= KALM__TOK_COLLAPSE;
            return KALM_OK;
        }
        if (!kalm__json_is(j, type, "Replace"))
            return kalm__import_refuse(m, j, i, "this normalizer is none that the library knows in a Unigram tokenizer");
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
    if (kalm__json_is(j, type, "Metaspace") && kalm__json_is(j, kalm__json_get(j, i, "replacement"), "\xe2\x96\x81")) {
        uint32_t scheme = kalm__import_member(j, i, "prepend_scheme"), split = kalm__json_get(j, i, "split");
        if (m->flags & KALM__TOK_PREFIX) return kalm__import_refuse(m, j, i, "two parts of it put a space first");
        if (!split || kalm__json_type(j, split) == KALM__JSON_TRUE) {      /* the default is to split */
            if (m->model == KALM__MODEL_BPE)
                return kalm__import_refuse(m, j, i, "a Metaspace that splits words is not supported in a BPE tokenizer");
            m->flags |= KALM__TOK_WORDS;
        }
        m->flags |= KALM__TOK_ESCAPE;
        if (!scheme) {                 /* older files */
            if (!kalm__json_get(j, i, "add_prefix_space") || kalm__import_true(j, i, "add_prefix_space"))
                m->flags |= KALM__TOK_PREFIX | KALM__TOK_UNLESS;
        } else if (kalm__json_is(j, scheme, "always")) m->flags |= KALM__TOK_PREFIX | KALM__TOK_UNLESS;
        else if (kalm__json_is(j, scheme, "first")) m->flags |= KALM__TOK_PREFIX | KALM__TOK_UNLESS | KALM__TOK_FIRST;
        else if (!kalm__json_is(j, scheme, "never"))
            return kalm__import_refuse(m, j, i, "a Metaspace has no prepend_scheme that the library knows");
        return KALM_OK;
    }
    if (m->model == KALM__MODEL_UNIGRAM && kalm__json_is(j, type, "Sequence")) {
        uint32_t list = kalm__json_get(j, i, "pretokenizers"), one = list + 1;
        kalm_result r;
        if (!list || kalm__json_type(j, list) != KALM__JSON_ARRAY || j->nodes[list].size != 2
            || !kalm__json_is(j, kalm__json_get(j, one, "type"), "WhitespaceSplit"))
            return kalm__import_refuse(m, j, i, "this sequence of pre-tokenizers is none that the library knows (it reads "
                                                "WhitespaceSplit and Metaspace)");
        r = kalm__import_pre_tokenizer(m, j, j->nodes[one].next);
        if (r) return r;
        if (!(m->flags & KALM__TOK_WORDS) || !(m->flags & KALM__TOK_PREFIX) || (m->flags & KALM__TOK_FIRST))
            return kalm__import_refuse(m, j, i, "behind a WhitespaceSplit a Metaspace must split and put a space first always");
        m->flags |= KALM__TOK_WHITE;
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

/* ---- the model ------------------------------------------------------------------------------------------------------- */

/* Switches of a BPE model that this library does not have. */
KALM__FN kalm_result kalm__import_bpe_switches(kalm__import *m, const kalm__json *j, uint32_t model)
{
    uint32_t node = kalm__import_member(j, model, "dropout");
    double p;
    if (node && (!kalm__json_double(j, node, &p) || p > 0))
        return kalm__import_refuse(m, j, node, "a BPE dropout is not supported");
    if ((node = kalm__import_member(j, model, "continuing_subword_prefix")) != 0 && !kalm__json_is(j, node, ""))
        return kalm__import_refuse(m, j, node, "a continuing_subword_prefix is not supported");
    if ((node = kalm__import_member(j, model, "end_of_word_suffix")) != 0 && !kalm__json_is(j, node, ""))
        return kalm__import_refuse(m, j, node, "an end_of_word_suffix is not supported");
    if (kalm__import_true(j, model, "ignore_merges"))
        return kalm__import_refuse(m, j, kalm__json_get(j, model, "ignore_merges"), "ignore_merges is not supported");
    return KALM_OK;
}

/* The parts around the model, which become flags. */
KALM__FN kalm_result kalm__import_pipeline(kalm__import *m, const kalm__json *j)
{
    uint32_t node = kalm__import_member(j, 0, "normalizer");
    kalm_result r = node ? kalm__import_normalizer(m, j, node) : KALM_OK;
    if (r) return r;
    if ((m->flags & KALM__TOK_PREFIX) && !(m->flags & KALM__TOK_ESCAPE))
        return kalm__import_refuse(m, j, node, "a prefix of U+2581 without spaces written so is not supported");
    if ((node = kalm__import_member(j, 0, "pre_tokenizer")) != 0 && (r = kalm__import_pre_tokenizer(m, j, node)) != KALM_OK)
        return r;
    return (node = kalm__import_member(j, 0, "decoder")) != 0 ? kalm__import_decoder(m, j, node) : KALM_OK;
}

/* Room for all tokens: those of the vocabulary and the added ones, whose highest id decides. */
KALM__FN kalm_result kalm__import_count_ids(kalm__import *m, const kalm__json *j, uint32_t vocab, uint32_t added)
{
    uint32_t at, most = 0, i;
    uint64_t id;
    if (m->model == KALM__MODEL_UNIGRAM) {
        if (!j->nodes[vocab].size || j->nodes[vocab].size > 1u << 20)
            return kalm__import_refuse(m, j, vocab, "the vocabulary is empty, or has more than 1048576 pieces");
        most = j->nodes[vocab].size - 1;
    } else
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
    return KALM_OK;
}

/* The token that stands at node `at` of the vocabulary. */
KALM__FN kalm_result kalm__import_token(kalm__import *m, const kalm__json *j, uint32_t at, uint32_t id)
{
    kalm__import_symbol *s = m->symbol + id;
    int value;
    if (s->kind != KALM__KIND_NONE) return kalm__import_refuse(m, j, at, "two tokens have this id");
    s->text = kalm__json_text(j, at);
    if (kalm__import_find(m, s->text) != KALM__TOK_NONE) return kalm__import_refuse(m, j, at, "this token is there twice");
    value = m->flags & KALM__TOK_BYTES ? kalm__import_byte(s->text) : -1;
    s->kind = value >= 0 ? KALM__KIND_BYTE : KALM__KIND_TEXT;
    s->merges = m->model == KALM__MODEL_BPE && value < 0 && s->text.size;
    s->piece = m->model == KALM__MODEL_UNIGRAM && s->text.size;
    if (value >= 0) m->bytes[value] = id;
    kalm__import_enter(m, id);
    return KALM_OK;
}

/* {"token": id, ...} */
KALM__FN kalm_result kalm__import_bpe_vocab(kalm__import *m, const kalm__json *j, uint32_t vocab)
{
    uint32_t at;
    uint64_t id = 0;
    kalm_result r;
    for (at = vocab + 1; at < j->nodes[vocab].next; at = j->nodes[at + 1].next) {
        (void)kalm__json_uint(j, at + 1, &id);
        r = kalm__import_token(m, j, at, (uint32_t)id);
        if (r) return r;
    }
    return KALM_OK;
}

/* [["piece", score], ...], the id is the place; unk_id. An unknown character scores 10 below the worst piece. */
KALM__FN kalm_result kalm__import_unigram_vocab(kalm__import *m, const kalm__json *j, uint32_t model, uint32_t vocab)
{
    uint32_t at, id = 0, unknown = kalm__import_member(j, model, "unk_id");
    double least = 0;
    uint64_t v;
    for (at = vocab + 1; at < j->nodes[vocab].next; at = j->nodes[at].next, id++) {
        kalm_result r;
        if (kalm__json_type(j, at) != KALM__JSON_ARRAY || j->nodes[at].size != 2
            || kalm__json_type(j, at + 1) != KALM__JSON_STRING
            || !kalm__json_double(j, j->nodes[at + 1].next, &m->symbol[id].score))
            return kalm__import_refuse(m, j, at, "a piece is not an array of a text and a score");
        r = kalm__import_token(m, j, at + 1, id);
        if (r) return r;
        if (!id || m->symbol[id].score < least) least = m->symbol[id].score;
    }
    m->unknown_score = least - 10.0;
    if (unknown) {
        if (!kalm__json_uint(j, unknown, &v) || v >= id)
            return kalm__import_refuse(m, j, unknown, "unk_id is no id of the vocabulary");
        m->unknown = (uint32_t)v;
        m->symbol[v].piece = 0;
    }
    return KALM_OK;
}

KALM__FN kalm_result kalm__import_added(kalm__import *m, const kalm__json *j, uint32_t added)
{
    uint32_t at;
    uint64_t id = 0;
    for (at = added ? added + 1 : 0; added && at < j->nodes[added].next; at = j->nodes[at].next) {
        uint32_t content = kalm__json_get(j, at, "content"), known;
        kalm_text text = kalm__json_text(j, content);
        kalm__import_symbol *s;
        int left = kalm__import_true(j, at, "lstrip"), right = kalm__import_true(j, at, "rstrip"), on;
        size_t k;
        (void)kalm__json_uint(j, kalm__json_get(j, at, "id"), &id);
        if (!content || kalm__json_type(j, content) != KALM__JSON_STRING)
            return kalm__import_refuse(m, j, at, "an added token has no content");
        if (!text.size) continue;
        if (kalm__import_true(j, at, "single_word") || (m->model == KALM__MODEL_BPE && (left || right)))
            return kalm__import_refuse(m, j, at, "an added token with lstrip, rstrip or single_word is not supported");
        for (k = 0; k < text.size && kalm__import_true(j, at, "normalized"); k++)
            if (text.data[k] == ' ' || (unsigned char)text.data[k] >= 0x80)
                return kalm__import_refuse(m, j, at, "an added token that is normalized must be of ASCII without spaces");
        s = m->symbol + id;
        known = kalm__import_find(m, text);
        if (known != KALM__TOK_NONE ? known != id : s->kind != KALM__KIND_NONE)
            return kalm__import_refuse(m, j, at, "an added token and the vocabulary disagree about this id");
        if (s->kind == KALM__KIND_NONE) {
            s->text = text;
            s->kind = KALM__KIND_TEXT;
            kalm__import_enter(m, (uint32_t)id);
        }
        if (s->kind == KALM__KIND_TEXT) s->kind = (uint8_t)((left ? KALM__KIND_LEFT : 0) | (right ? KALM__KIND_RIGHT : 0));
        on = kalm__import_true(j, at, "special") || kalm__import_is_mark(text);
        s->added = (uint8_t)(1 + (on ? KALM__CLASS_CONTROL : KALM__CLASS_TEXT));
        if (on) s->merges = s->piece = 0;        /* a mark must not come about from what a user wrote */
    }
    return KALM_OK;
}

/* ["l", "r"] or "l r": the rank is the place. */
KALM__FN kalm_result kalm__import_merge_list(kalm__import *m, const kalm__json *j, uint32_t merges)
{
    uint32_t at;
    m->merge = (kalm__import_merge *)kalm__import_alloc(m, kalm__mul(j->nodes[merges].size, sizeof *m->merge));
    if (!m->merge) return KALM_NO_MEMORY;
    if (j->nodes[merges].size > KALM__IMPORT_RANKS) return kalm__import_refuse(m, j, merges, "there are too many merges");
    for (at = merges + 1; at < j->nodes[merges].next; at = j->nodes[at].next) {
        kalm__import_merge *a = m->merge + m->merges;
        kalm_text left, right;
        if (kalm__json_type(j, at) == KALM__JSON_STRING) {
            const char *space;
            left = kalm__json_text(j, at);
            space = left.size ? (const char *)memchr(left.data, ' ', left.size) : NULL;
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

KALM__FN kalm_result kalm__import_json(kalm__import *m, const kalm__json *j)
{
    uint32_t model = kalm__json_get(j, 0, "model"), vocab, merges, added, node, i;
    kalm_result r;
    if (kalm__json_type(j, 0) != KALM__JSON_OBJECT || !model || kalm__json_type(j, model) != KALM__JSON_OBJECT)
        return kalm__import_refuse(m, j, 0, "this is no tokenizer.json: it has no \"model\"");
    vocab = kalm__json_get(j, model, "vocab");
    merges = kalm__json_get(j, model, "merges");
    node = kalm__json_get(j, model, "type");
    if (vocab && kalm__json_type(j, vocab) == KALM__JSON_ARRAY && (!node || kalm__json_is(j, node, "Unigram")))
        m->model = KALM__MODEL_UNIGRAM;
    else if (node && !kalm__json_is(j, node, "BPE"))
        return kalm__import_refuse(m, j, node, "the model is neither BPE nor Unigram; WordPiece and WordLevel are not supported");
    else if (!vocab || kalm__json_type(j, vocab) != KALM__JSON_OBJECT || !merges
             || kalm__json_type(j, merges) != KALM__JSON_ARRAY)
        return kalm__import_refuse(m, j, model, "the model has no vocab and merges, so it is not BPE");
    r = m->model == KALM__MODEL_BPE ? kalm__import_bpe_switches(m, j, model) : KALM_OK;
    if (r) return r;
    if (kalm__import_true(j, model, "byte_fallback")) m->flags |= KALM__TOK_BYTES;
    if (m->model == KALM__MODEL_UNIGRAM || kalm__import_true(j, model, "fuse_unk")) m->flags |= KALM__TOK_FUSE;
    r = kalm__import_pipeline(m, j);
    if (r) return r;
    added = kalm__import_member(j, 0, "added_tokens");
    if (added && kalm__json_type(j, added) != KALM__JSON_ARRAY)
        return kalm__import_refuse(m, j, added, "added_tokens is no array");
    r = kalm__import_count_ids(m, j, vocab, added);
    if (!r && m->model == KALM__MODEL_BPE) r = kalm__import_bpe_vocab(m, j, vocab);
    else if (!r) r = kalm__import_unigram_vocab(m, j, model, vocab);
    if (!r) r = kalm__import_added(m, j, added);
    if (r) return r;
    node = m->model == KALM__MODEL_BPE ? kalm__import_member(j, model, "unk_token") : 0;
    if (node) {
        m->unknown = kalm__import_find(m, kalm__json_text(j, node));
        if (m->unknown == KALM__TOK_NONE) return kalm__import_refuse(m, j, node, "the unknown token is not in the vocabulary");
    }
    for (i = 0; i < 256 && m->bytes[i] != KALM__TOK_NONE; i++) {}
    if (m->unknown == KALM__TOK_NONE && (i < 256 || !(m->flags & KALM__TOK_BYTES)))
        return kalm__import_refuse(m, j, model, "it has neither all byte tokens nor an unknown token");
    return m->model == KALM__MODEL_BPE ? kalm__import_merge_list(m, j, merges) : KALM_OK;
}

#endif
