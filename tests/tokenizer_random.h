/* tokenizer_random.h - the part of test_tokenizer.c that compares with merging by the definition of BPE: the definition written down
   plainly, and random tokenizers and texts for both. To be included behind the helpers of test_tokenizer.c. */
#ifndef TOKENIZER_RANDOM_H
#define TOKENIZER_RANDOM_H

typedef struct toy {
    char     piece[128][24];           /* text of each id; ids from 0: <unk>, bytes 1 .. 256 are added when written */
    unsigned pieces;
    struct { unsigned left, right, made; } merge[256];
    unsigned merges;
    char     added[6][24];
    unsigned added_tokens;
} toy;

static unsigned toy_find(const toy *y, const char *s, size_t n)
{
    unsigned i;
    for (i = 0; i < y->pieces; i++)
        if (strlen(y->piece[i]) == n && !memcmp(y->piece[i], s, n)) return i;
    return 999;
}

static void toy_make(toy *y, uint64_t *state)
{
    static const char *const letters[] = { "a", "b", "c", "\xe2\x96\x81", ">", "\xc3\xa9", "\xe4\xb8\x80", "\n" };
    static const char *const added[] = { "<b>", "\xe2\x96\x81\xe2\x96\x81", "\n\n", "ab", "<end_of_turn>", "<b>c" };
    unsigned letter_count = 2 + (unsigned)(test_random(state) % 7), i, tries;
    int tame = test_random(state) % 4 == 0;
    memset(y, 0, sizeof *y);
    for (i = 0; i < letter_count; i++) strcpy(y->piece[y->pieces++], letters[test_random(state) % 3 ? i : (i * 3) % 8]);
    for (i = 0; i < y->pieces; i++)    /* no letter twice */
        if (toy_find(y, y->piece[i], strlen(y->piece[i])) != i) strcpy(y->piece[i], i % 2 ? "x" : "y");
    for (i = 1; i < y->pieces; i++)
        if (toy_find(y, y->piece[i], strlen(y->piece[i])) != i) y->pieces = i;
    if (tame) {                        /* runs of spaces first, as Gemma has them: the longest made first */
        unsigned longest = 2 + (unsigned)(test_random(state) % 4), one = toy_find(y, "\xe2\x96\x81", 3), l;
        if (one == 999) strcpy(y->piece[one = y->pieces++], "\xe2\x96\x81");
        for (i = 2; i <= longest; i++)
            for (l = 0, y->piece[y->pieces + i - 2][0] = 0; l < i; l++)
                strcat(y->piece[y->pieces + i - 2], "\xe2\x96\x81");
        for (i = longest; i >= 2; i--)
            for (l = i - 1; l >= 1; l--) {
                y->merge[y->merges].left = l == 1 ? one : y->pieces + l - 2;
                y->merge[y->merges].right = i - l == 1 ? one : y->pieces + i - l - 2;
                y->merge[y->merges++].made = y->pieces + i - 2;
            }
        y->pieces += longest - 1;
    }
    for (tries = 0; tries < 120 && y->pieces < 60; tries++) {
        unsigned l = (unsigned)(test_random(state) % y->pieces), r = (unsigned)(test_random(state) % y->pieces), m;
        char both[64];
        if (test_random(state) % 4 == 0) r = l;
        sprintf(both, "%s%s", y->piece[l], y->piece[r]);
        if (strlen(both) > 20) continue;
        if (tame && (strstr(both, "\xe2\x96\x81\xe2\x96\x81") || !strcmp(both + strlen(both) - kalm__min(3, strlen(both)), "\xe2\x96\x81"))) continue;
        for (m = 0; m < y->merges && !(y->merge[m].left == l && y->merge[m].right == r); m++) {}
        if (m < y->merges || y->merges == 256) continue;
        m = toy_find(y, both, strlen(both));
        if (m == 999) strcpy(y->piece[m = y->pieces++], both);
        y->merge[y->merges].left = l, y->merge[y->merges].right = r, y->merge[y->merges++].made = m;
    }
    /* sane: every split of a piece is a merge. insane: ranks in any order */
    if (!tame && test_random(state) % 2)
        for (i = 0; i < y->pieces; i++) {
            size_t k, n = strlen(y->piece[i]);
            for (k = 1; k < n; k++) {
                unsigned l = toy_find(y, y->piece[i], k), r = toy_find(y, y->piece[i] + k, n - k), m;
                if (l == 999 || r == 999) continue;
                for (m = 0; m < y->merges && !(y->merge[m].left == l && y->merge[m].right == r); m++) {}
                if (m < y->merges || y->merges == 256) continue;
                y->merge[y->merges].left = l, y->merge[y->merges].right = r, y->merge[y->merges++].made = i;
            }
        }
    if (!tame && test_random(state) % 2)
        for (i = 0; i < y->merges; i++) {
            unsigned k = (unsigned)(test_random(state) % y->merges), l = y->merge[i].left, r = y->merge[i].right,
                     m = y->merge[i].made;
            y->merge[i] = y->merge[k];
            y->merge[k].left = l, y->merge[k].right = r, y->merge[k].made = m;
        }
    for (i = 0; i < 6; i++)
        if (test_random(state) % 4 == 0) strcpy(y->added[y->added_tokens++], added[i]);
}

static void toy_json(const toy *y, char *out)
{
    char *p = out, quoted[160];
    unsigned i, id = 0;
    p += sprintf(p, "{\"added_tokens\": [");
    for (i = 0; i < y->added_tokens; i++) {
        unsigned known = toy_find(y, y->added[i], strlen(y->added[i]));
        quoted[kalm__json_escape(y->added[i], strlen(y->added[i]), quoted)] = 0;
        p += sprintf(p, "%s{\"id\": %u, \"content\": \"%s\", \"special\": false}", i ? ", " : "",
                     known == 999 ? 257 + y->pieces + i : 257 + known, quoted);
    }
    p += sprintf(p, "], \"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xe2\x96\x81\"},"
                    "\"model\": {\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"byte_fallback\": true, \"fuse_unk\": true, \"vocab\": {\"<unk>\": 0");
    for (i = 0; i < 256; i++) p += sprintf(p, ", \"<0x%02X>\": %u", i, ++id);
    for (i = 0; i < y->pieces; i++) {
        quoted[kalm__json_escape(y->piece[i], strlen(y->piece[i]), quoted)] = 0;
        p += sprintf(p, ", \"%s\": %u", quoted, ++id);
    }
    p += sprintf(p, "}, \"merges\": [");
    for (i = 0; i < y->merges; i++) {
        quoted[kalm__json_escape(y->piece[y->merge[i].left], strlen(y->piece[y->merge[i].left]), quoted)] = 0;
        p += sprintf(p, "%s[\"%s\", ", i ? ", " : "", quoted);
        quoted[kalm__json_escape(y->piece[y->merge[i].right], strlen(y->piece[y->merge[i].right]), quoted)] = 0;
        p += sprintf(p, "\"%s\"]", quoted);
    }
    sprintf(p, "]}}");
}

/* One stretch without added tokens, by the definition: symbols are 257 + piece, or 1 + byte. */
static size_t toy_merge(const toy *y, const char *text, size_t n, int32_t *out)
{
    int32_t s[4096];
    size_t count = 0, i, at;
    char inner[8192];
    size_t size = 0;
    for (at = 0; at < n; at++)
        if (text[at] == ' ') memcpy(inner + size, "\xe2\x96\x81", 3), size += 3;
        else inner[size++] = text[at];
    for (at = 0; at < size;) {
        size_t k = kalm__char_bytes((const unsigned char *)inner + at);
        unsigned p = toy_find(y, inner + at, k);
        if (p != 999) s[count++] = (int32_t)(257 + p);
        else for (i = 0; i < k; i++) s[count++] = 1 + (unsigned char)inner[at + i];
        at += k;
    }
    for (;;) {
        unsigned best = 999, m;
        size_t where = 0;
        for (i = 0; i + 1 < count; i++)
            for (m = 0; m < y->merges && m < best; m++)
                if (s[i] == (int32_t)(257 + y->merge[m].left) && s[i + 1] == (int32_t)(257 + y->merge[m].right)) {
                    best = m;
                    where = i;
                }
        if (best == 999) break;
        s[where] = (int32_t)(257 + y->merge[best].made);
        memmove(s + where + 1, s + where + 2, (count - where - 2) * sizeof *s);
        count--;
    }
    memcpy(out, s, count * sizeof *s);
    return count;
}

static size_t toy_encode(const toy *y, const char *text, size_t n, int parse, int32_t *out)
{
    size_t at = 0, start = 0, count = 0;
    while (at < n) {
        size_t longest = 0;
        unsigned i, which = 0;
        for (i = 0; i < y->added_tokens; i++) {
            size_t k = strlen(y->added[i]);
            if (!parse && !strcmp(y->added[i], "<end_of_turn>")) continue;
            if (k > longest && k <= n - at && !memcmp(text + at, y->added[i], k)) longest = k, which = i;
        }
        if (longest) {
            unsigned known = toy_find(y, y->added[which], longest);
            count += toy_merge(y, text + start, at - start, out + count);
            out[count++] = (int32_t)(known == 999 ? 257 + y->pieces + which : 257 + known);
            start = at += longest;
        } else at++;
    }
    return count + toy_merge(y, text + start, n - start, out + count);
}

static void test_definition(void)
{
    static const char *const bits[] = {
        "a", "b", "c", " ", "\xe2\x96\x81", ">", "\xc3\xa9", "\xe4\xb8\x80", "\n", "<b>", "<end_of_turn>", "  ", "x", "\xf0\x9f\x98\x80",
        "ab", "aa", "   ", "y"
    };
    static int32_t want[8192];
    static char json[1 << 17];
    uint64_t state = 20;
    unsigned round, wrong = 0, irregular = 0, runs = 0;
    toy *y = (toy *)malloc(sizeof *y);
    for (round = 0; round < 400; round++) {
        tok k;
        unsigned texts, i;
        toy_make(y, &state);
        toy_json(y, json);
        if (!tok_from(&k, "toy", json, strlen(json))) continue;
        runs += k.t.longest_run > 0;
        for (i = 0; i < k.t.symbols; i++)
            irregular += kalm__u64(k.t.part[KALM__SEC_SPLITS] + 8 * i) >> 40 == 0xffffff;
        for (texts = 0; texts < 60; texts++) {
            char text[2048];
            size_t n = 0, count, got, pieces = (size_t)(test_random(&state) % (texts % 10 ? 24 : 150));
            unsigned few = 1 + (unsigned)(test_random(&state) % 18);
            int parse = (int)(test_random(&state) % 2);
            while (pieces--) {
                const char *bit = bits[test_random(&state) % few];
                memcpy(text + n, bit, strlen(bit));
                n += strlen(bit);
            }
            text[n] = 0;
            count = toy_encode(y, text, n, parse, want);
            got = encode(&k, text, n, parse ? KALM_PARSE_CONTROL : 0);
            if (!CHECKF(got == count && !memcmp(want, ids_of, count * sizeof *want), "toy %u: \"%s\"", round, text)) wrong++;
        }
        tok_close(&k);
        if (wrong > 5) break;
    }
    free(y);
    CHECKF(irregular > 100 && runs > 10, "the toys are too tame: %u irregular tokens, %u with the run rule", irregular, runs);
    CHECK(live_bytes == 0);
}

#endif
