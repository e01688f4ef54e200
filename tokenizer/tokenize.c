/* tokenize.c - the command kalm-tokenize: text to token ids and back, with a model, a tokenizer alone, or the published
   files of one. */
#if defined(HAVE_UTF8PROC) && !defined(KALM_UTF8PROC)
#  define KALM_UTF8PROC
#endif
#include "../src/tools/command.h"
#include "../src/tools/sink.h"
#include "import.h"

typedef struct options {
    const char *file, *convert;
    int         jsonl, decode, whole, count, pieces, info, timing;
    uint32_t    flags;
} options;

static const cmd_option table[] = {
    CMD_HEADING("What comes in"),
    CMD_FLAG("--jsonl", options, jsonl, "lines of JSON: {\"text\": \"...\"} or {\"hex\": \"c3a9...\"} (bytes, which need not be UTF-8) "
             "give {\"ids\": [...]}; {\"ids\": [...]} gives {\"text\": \"...\"}; of several the first counts, other members are "
             "passed over"),
    CMD_FLAG("--decode", options, decode, "lines (or TEXTs) of ids, give text"),
    CMD_FLAG("--whole", options, whole, "all of standard input is one text, its newlines included"),
    CMD_BITS("--parse-control", options, flags, KALM_PARSE_CONTROL, "marks like <end_of_turn> in a text are the tokens of that "
             "name, as the published tokenizer has it; without it they are plain characters"),
    CMD_HEADING("What comes out"),
    CMD_FLAG("--count", options, count, "how many ids, not which"),
    CMD_FLAG("--pieces", options, pieces, "each id with its bytes, one a line"),
    CMD_TEXT("--convert", "OUT", options, convert, "write a .kalm file that holds this tokenizer alone"),
    CMD_FLAG("--time", options, timing, "processor time of tokenising, on standard error (--whole: best of five)"),
    CMD_FLAG("--info", options, info, "what the tokenizer is")
};

static const cmd_program program = {
    "kalm-tokenize",
    "FILE [OPTION...] [TEXT...]\n"
    "FILE [OPTION...] < LINES\n"
    "FILE --convert OUT.kalm",
    "Print the token ids of each TEXT, or of each line of standard input.\n"
    "FILE is a .kalm file, a tokenizer.json (BPE) or a tokenizer.model (SentencePiece).",
    table, sizeof table / sizeof *table,
    "Ill-formed UTF-8 counts as one U+FFFD for each maximal ill-formed part.\n"
    "Exit status: 0 done, 1 failed (one line on standard error says why), 2 wrong usage.",
    NULL
};

typedef struct state {
    const options  *o;
    kalm__tokenizer t;
    kalm_allocator  alloc;
    int32_t        *ids;
    size_t          ids_room;
    char           *text;              /* decoded, or from hex */
    size_t          text_room;
    unsigned long   line;
    double          seconds, bytes;    /* spent on tokenising how much */
} state;

/* Ids of a text in s->ids; how many. */
static size_t encode(state *s, kalm_text text)
{
    kalm_error err;
    size_t n;
    if (s->ids_room < text.size / 2 + 64) {
        s->ids_room = text.size / 2 + 64;
        s->ids = (int32_t *)cmd_grow(s->ids, s->ids_room * sizeof *s->ids);
    }
    if (kalm__tokenize(&s->t, &s->alloc, NULL, text, s->o->flags, s->ids, s->ids_room, &n, &err)) die("%s", err.text);
    if (n > s->ids_room) {
        s->ids_room = n;
        s->ids = (int32_t *)cmd_grow(s->ids, n * sizeof *s->ids);
        if (kalm__tokenize(&s->t, &s->alloc, NULL, text, s->o->flags, s->ids, s->ids_room, &n, &err)) die("%s", err.text);
    }
    return n;
}

/* The same under the clock. */
static size_t timed_encode(state *s, kalm_text text)
{
    int again = s->o->timing && s->o->whole ? 5 : 1;
    double best = -1;
    size_t n = 0;
    if (!s->o->timing) return encode(s, text);
    while (again--) {
        clock_t begun = clock();       /* of the processor: other programs do not count */
        double took;
        n = encode(s, text);
        took = (double)(clock() - begun) / CLOCKS_PER_SEC;
        if (best < 0 || took < best) best = took;
    }
    s->seconds += best;
    s->bytes += (double)text.size;
    return n;
}

static kalm_text decode(state *s, size_t count)
{
    kalm_error err;
    kalm_text r;
    size_t n;
    if (kalm__detokenize(&s->t, s->ids, count, s->text, s->text_room, &n, &err)) die("line %lu: %s", s->line, err.text);
    if (n > s->text_room) {
        s->text_room = n + n / 2;
        s->text = (char *)cmd_grow(s->text, s->text_room);
        if (kalm__detokenize(&s->t, s->ids, count, s->text, s->text_room, &n, &err)) die("%s", err.text);
    }
    r.data = s->text;
    r.size = n;
    return r;
}

static void add_id(state *s, size_t n, int64_t id)
{
    if (n == s->ids_room) {
        s->ids_room = n + n / 2 + 64;
        s->ids = (int32_t *)cmd_grow(s->ids, s->ids_room * sizeof *s->ids);
    }
    s->ids[n] = id > INT32_MAX || id < INT32_MIN ? INT32_MAX : (int32_t)id;     /* none of the vocabulary's */
}

/* A number and a character, without the cost of printf: there may be a hundred million. */
static void print_id(long v, char last)
{
    char digits[24];
    int n = 0;
    unsigned long u = v < 0 ? 0ul - (unsigned long)v : (unsigned long)v;
    do digits[n++] = (char)('0' + u % 10);
    while ((u /= 10) != 0);
    if (v < 0) putchar('-');
    while (n) putchar(digits[--n]);
    if (last) putchar(last);
}

static void print_ids(const state *s, size_t n)
{
    size_t i;
    if (s->o->pieces) {
        for (i = 0; i < n; i++) {
            kalm_text bytes = kalm__token_bytes(&s->t, s->ids[i]);
            size_t k;
            print_id(s->ids[i], '\t');
            if (bytes.size == 1 && (unsigned char)bytes.data[0] >= 0x80) printf("\\x%02x", (unsigned char)bytes.data[0]);
            else for (k = 0; k < bytes.size; k++) {
                unsigned char c = (unsigned char)bytes.data[k];
                if (c == '\n') fputs("\\n", stdout);
                else if (c == '\t') fputs("\\t", stdout);
                else if (c < 32 || c == 127) printf("\\x%02x", c);
                else putchar(c);
            }
            putchar('\n');
        }
        return;
    }
    for (i = 0; i < n; i++) print_id(s->ids[i], i + 1 < n ? ' ' : 0);
    putchar('\n');
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void json_line(state *s, kalm__json *j, kalm_text line)
{
    kalm_error err;
    uint32_t node, at;
    size_t n = 0, i;
    char name[64];
    snprintf(name, sizeof name, "line %lu", s->line);
    if (kalm__json_parse(j, name, line.data, line.size, &err)) die("%s", err.text);
    for (at = 1; kalm__json_type(j, 0) == KALM__JSON_OBJECT && at < j->nodes[0].next; at = j->nodes[at + 1].next)
        if (kalm__json_is(j, at, "text") || kalm__json_is(j, at, "hex") || kalm__json_is(j, at, "ids")) break;
    node = kalm__json_type(j, 0) == KALM__JSON_OBJECT && at < j->nodes[0].next ? at + 1 : 0;
    if (!node) die("%s: there is neither \"text\" nor \"hex\" nor \"ids\"", name);
    if (kalm__json_is(j, at, "ids")) {
        if (kalm__json_type(j, node) != KALM__JSON_ARRAY) die("%s: \"ids\" is no array", name);
        for (at = node + 1; at < j->nodes[node].next; at = j->nodes[at].next) {
            double v;
            if (!kalm__json_double(j, at, &v)) die("%s: an id is no number", name);
            if (!(v >= -2147483648.0 && v <= 2147483647.0)) v = 2147483647.0;
            add_id(s, n++, (int64_t)v);
        }
        if (s->o->count) printf("{\"count\": %lu}\n", (unsigned long)n);
        else {
            printf("{\"text\": ");
            cmd_json(stdout, decode(s, n));
            printf("}\n");
        }
    } else {
        kalm_text text = kalm__json_text(j, node);
        if (kalm__json_type(j, node) != KALM__JSON_STRING) die("%s: the text is no string", name);
        if (kalm__json_is(j, at, "hex")) {
            kalm_text hex = text;
            if (hex.size % 2) die("%s: \"hex\" has an odd number of digits", name);
            if (s->text_room < hex.size / 2 + 1) s->text = (char *)cmd_grow(s->text, s->text_room = hex.size / 2 + 1);
            for (i = 0; i < hex.size; i += 2) {
                int high = hex_digit(hex.data[i]), low = hex_digit(hex.data[i + 1]);
                if (high < 0 || low < 0) die("%s: \"hex\" has a character that is no digit", name);
                s->text[i / 2] = (char)(high * 16 + low);
            }
            text.data = s->text;
            text.size = hex.size / 2;
        }
        n = timed_encode(s, text);
        if (s->o->count) printf("{\"count\": %lu}\n", (unsigned long)n);
        else {
            printf("{\"ids\": [");
            for (i = 0; i < n; i++) {
                if (i) fputs(", ", stdout);
                print_id(s->ids[i], 0);
            }
            printf("]}\n");
        }
    }
    fflush(stdout);                    /* somebody may wait for each answer */
}

static void one_text(state *s, kalm_text text)
{
    size_t n = 0, i;
    if (s->o->decode) {
        for (i = 0; i < text.size;) {
            char *end;
            long v;
            if (strchr(" \t,[]\r", text.data[i])) {
                i++;
                continue;
            }
            v = strtol(text.data + i, &end, 10);
            if (end == text.data + i || end > text.data + text.size) die("line %lu: \"%.20s\" is no id", s->line, text.data + i);
            add_id(s, n++, v);
            i = (size_t)(end - text.data);
        }
        if (s->o->count) printf("%lu\n", (unsigned long)n);
        else {
            kalm_text t = decode(s, n);
            if (t.size) fwrite(t.data, 1, t.size, stdout);
            putchar('\n');
        }
        return;
    }
    n = timed_encode(s, text);
    if (s->o->count) printf("%lu\n", (unsigned long)n);
    else print_ids(s, n);
}

/* The next line of standard input without its end, a NUL behind it; 0 at the end of input. */
static int read_line(char **line, size_t *room, size_t *size)
{
    int c;
    size_t n = 0;
    while ((c = getchar()) != EOF && c != '\n') {
        if (n + 2 > *room) *line = (char *)cmd_grow(*line, *room = cmd_twice(kalm__add(n, 2048)));
        (*line)[n++] = (char)c;
    }
    if (!*line) *line = (char *)cmd_grow(NULL, *room = 4096);
    (*line)[n] = 0;
    *size = n;
    if (ferror(stdin)) die("cannot read standard input: %s", strerror(errno));
    return n || c != EOF;
}

/* A .kalm file with one section. */
static void convert(const unsigned char *blob, size_t size, const char *path)
{
    size_t front = KALM__HEADER_BYTES + KALM__SECTION_BYTES, at = kalm__round_up(front, 64);
    unsigned char head[256];
    kalm__sink sink;
    kalm_error err;
    kalm__catch_signals();             /* there will be a file to remove, also where it may not grow (SIGXFSZ) */
    memset(head, 0, sizeof head);
    memcpy(head, KALM__MAGIC, 8);
    kalm__put_u32(head + 8, KALM__FILE_VERSION);
    kalm__put_u32(head + 12, 1);
    kalm__put_u64(head + 16, (uint64_t)at + size);
    kalm__put_u32(head + 64, KALM__SECTION_TOKENIZER);
    kalm__put_u64(head + 72, at);
    kalm__put_u64(head + 80, size);
    kalm__put_u64(head + 88, kalm__hash(blob, size));
    kalm__put_u64(head + 24, kalm__table_fingerprint(head + 64, 1));
    kalm__put_u64(head + 32, kalm__hash(head, front));
    if (kalm__sink_open(&sink, path, &err) || kalm__sink_write(&sink, 0, head, at, &err)
        || kalm__sink_write(&sink, at, blob, size, &err) || kalm__sink_finish(&sink, &err)) {
        kalm__sink_abandon(&sink);
        die("%s", err.text);
    }
}

static void info(const state *s, size_t size)
{
    static const char *const forms[4] = { "NFC", "NFKC", "NFD", "NFKD" };
    static const char *const models[KALM__MODELS] = { "BPE", "unigram", "word" };
    const kalm__tokenizer *t = &s->t;
    uint32_t i, kinds[8] = { 0, 0, 0, 0, 0, 0, 0, 0 };
    for (i = 0; i < t->tokens; i++) kinds[t->part[KALM__SEC_KINDS][i] & 7]++;
    printf("rules          %s\n", t->flags & KALM__TOK_SPM ? "SentencePiece" : "Hugging Face");
    printf("model          %s\n", models[t->model]);
    printf("ids            %lu, %lu of them without a token\n", (unsigned long)t->tokens, (unsigned long)kinds[KALM__KIND_NONE]);
    printf("byte tokens    %lu%s\n", (unsigned long)kinds[KALM__KIND_BYTE],
           t->flags & KALM__TOK_BYTES ? "" : " (not used: unknown characters give the unknown token)");
    if (t->model == KALM__MODEL_BPE) printf("merges         %lu\n", (unsigned long)t->pairs);
    if (t->model == KALM__MODEL_BPE) printf("runs of spaces %s\n", t->longest_run ? "counted" : "merged");
    printf("normalisation  %s%s%s\n", t->flags & KALM__TOK_NORMAL ? forms[t->flags >> KALM__TOK_FORM_AT & 3] :
           t->rule_units ? "the file's own rules" : "none", t->flags & KALM__TOK_TRIM ? ", spaces trimmed" : "",
           t->flags & KALM__TOK_PREFIX ? ", a space put first" : "");
    printf("size           %lu bytes\n", (unsigned long)size);
}

int main(int argc, char **argv)
{
    options o;
    state s;
    cmd_args a;
    kalm_error err;
    kalm__mapping data;
    kalm_text line;
    kalm__file file;
    unsigned char *blob = NULL;
    const unsigned char *view;
    size_t size = 0, room = 0, k;
    kalm__json json;
    char *buffer = NULL;
    size_t texts = 0;
    int ok;
    kalm__utf8_arguments(&argc, &argv);
    cmd_name = "kalm-tokenize";
    memset(&o, 0, sizeof o);
    memset(&s, 0, sizeof s);
    cmd_parse(&a, &program, &o, argc, argv);
    if (a.words) {
        o.file = a.word[0];
        texts = a.words - 1;
    }
    if (!o.file) die_usage("the name of a file is missing");
    if (o.jsonl + o.decode + o.whole > 1) die_usage("only one of --jsonl, --decode and --whole can be given");
    if (texts && (o.jsonl || o.whole)) die_usage("--jsonl and --whole read standard input, not arguments");
    s.o = &o;
    s.alloc = kalm__allocator(NULL, &ok);
    if (kalm__map_file(&data, o.file, KALM_LOAD_MAP, &s.alloc, &err)) die("%s", err.text);
    if (data.size >= 8 && !memcmp(data.data, KALM__MAGIC, 8)) {
        if (kalm__file_open(&file, data.data, data.size, &err)) die("%s: %s", o.file, err.text);
        if (!file.has_tokenizer) die("%s holds no tokenizer", o.file);
        s.t = file.tokenizer;
        view = file.section[KALM__SECTION_TOKENIZER].data;
        size = (size_t)file.section[KALM__SECTION_TOKENIZER].size;
    } else {
        if (kalm__import_tokenizer(o.file, data.data, data.size, &s.alloc, &blob, &size, &err)) die("%s", err.text);
        kalm__unmap_file(&data, &s.alloc);
        memset(&data, 0, sizeof data);
        if (kalm__tokenizer_open(&s.t, blob, size, &err)) die("%s: %s", o.file, err.text);
        view = blob;
    }
    if (o.convert) {
        convert(view, size, o.convert);
        return EXIT_OK;
    }
    if (o.info) {
        info(&s, size);
        return EXIT_OK;
    }
    if (texts)
        for (k = 1; k <= texts; k++) {
            s.line++;
            one_text(&s, kalm__text(a.word[k]));
        }
    else if (o.whole) one_text(&s, cmd_read_as("-", 1));
    else {
        kalm__json_begin(&json, &s.alloc);
        while (read_line(&buffer, &room, &line.size)) {
            s.line++;
            line.data = buffer;
            if (!o.jsonl) one_text(&s, line);
            else if (!cmd_blank(line)) json_line(&s, &json, line);
        }
        kalm__json_end(&json);
    }
    if (o.timing) fprintf(stderr, "%.3f MB in %.4f s: %.1f MB/s\n", s.bytes / 1e6, s.seconds, s.bytes / 1e6 / s.seconds);
    cmd_flush();
    cmd_args_end(&a);
    free(buffer);
    free(s.ids);
    free(s.text);
    kalm__release(&s.alloc, blob, size);
    if (data.data) kalm__unmap_file(&data, &s.alloc);
    return EXIT_OK;
}
