/* command_search.c - kalm-search as a function, and two smaller commands that fuzz_search.h runs, see command_world.h:

   TEXTS PATH         what search_text.h takes out of a file, and what is made of each text (words for the index, snippets): valid UTF-8, of
                      bounded size, and the same when it is done again
   PEER INPUT OUTPUT  what kalm-search --mcp answered on OUTPUT to the lines of INPUT, held against JSON-RPC 2.0
   JSON FILE          FILE is one JSON value

   They end with status 0, or say which promise is broken. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include "command_world.h"
#include <jansson.h>
#define json_set_alloc_funcs(take, give) json_set_alloc_funcs(fuzz_malloc, fuzz_free)      /* its own name for free is the system's */
#ifdef HAVE_LIBXML2
#  include <libxml/xmlmemory.h>
/* What libxml2 keeps from one page to the next is no command's memory, and must not be given back with it. */
#  define xmlMemSetup(give, take, grow, copy) ((void)(take), (void)(grow), (void)(copy))
#endif
#define main fuzz_main_search_itself
fuzz_main fuzz_main_search_itself;
#include "../../examples/search/kalm_search.c"

/* What jansson holds when a command ends early is given back like the command's own memory. */
static void search_begin_world(void)
{
    cmd_name = "kalm-search";
    json_set_alloc_funcs(fuzz_malloc, fuzz_free);
}

int fuzz_main_search(int argc, char **argv)
{
    search_begin_world();
    return fuzz_main_search_itself(argc, argv);
}

/* ---- texts --------------------------------------------------------------------------------------------------------------- */

enum { TEXTS_LARGEST = 1 << 16 };      /* bytes of one text: what is larger is left out */

typedef struct texts_found {
    uint64_t hash;
    size_t   documents, bad, bytes;
    int      many;                     /* the file holds records or messages */
    FILE    *nowhere;
} texts_found;

static void texts_mix(texts_found *f, const void *data, size_t size)
{
    unsigned char two[16];
    kalm__put_u64(two, f->hash);
    kalm__put_u64(two + 8, kalm__hash(data, size) + size);
    f->hash = kalm__hash(two, 16);
}

static void texts_check(texts_found *f, const char *what, kalm_text t)
{
    if (!t.data && t.size) die("broken promise: %s of %lu bytes is nowhere", what, (unsigned long)t.size);
    if (store_bad_byte(t) != t.size) die("broken promise: byte %lu of %s is no UTF-8", (unsigned long)store_bad_byte(t), what);
    f->bytes += t.size;
    texts_mix(f, t.data ? t.data : "", t.size);
}

static int texts_at_character(kalm_text t, size_t at) { return at == t.size || ((unsigned char)t.data[at] & 0xc0) != 0x80; }

/* The stretch of `t` that is shown for a question of the words in `question`: it lies within the text, and so do its marks. */
static void texts_check_snippet(texts_found *f, kalm_text t, kalm_text question)
{
    static search_term term[SEARCH_TERMS];
    search_words_set set;
    search_snippet s;
    size_t i, terms;
    memset(&set, 0, sizeof set);
    memset(&s, 0, sizeof s);
    if (!t.data) t = kalm__text("");   /* the text of a row is never nowhere */
    terms_of(question, TERMS_FOLD, search_collect, &set);
    terms = kalm__min(set.count, SEARCH_TERMS);
    for (i = 0; i < terms; i++) {
        if (set.term[i].size > TERMS_LONGEST + 3 || strlen(set.term[i].word) != set.term[i].size) die("broken promise: a word of %lu bytes", (unsigned long)set.term[i].size);
        term[i] = set.term[i];
        term[i].weight = 1.0 + (double)(i % 7);
    }
    search_make_snippet(&s, t, term, terms, SEARCH_SNIPPET);
    if (s.text.size) {
        size_t from = (size_t)(s.text.data - t.data);
        if (from > t.size || s.text.size > t.size - from) die("broken promise: the snippet is not within its text");
        if (!texts_at_character(t, from) || !texts_at_character(t, from + s.text.size)) die("broken promise: the snippet cuts a character");
        if (s.text.size > SEARCH_SNIPPET + SEARCH_SNIPPET / 8 + 8) die("broken promise: a snippet of %lu bytes", (unsigned long)s.text.size);
    }
    for (i = 0; i < s.marks; i++)
        if (s.mark[i].from >= s.mark[i].to || s.mark[i].to > s.text.size || (i && s.mark[i].from < s.mark[i - 1].to) ||
            !texts_at_character(s.text, s.mark[i].from) || !texts_at_character(s.text, s.mark[i].to))
            die("broken promise: mark %lu of a snippet", (unsigned long)i);
    texts_mix(f, s.text.size ? s.text.data : "", s.text.size);
    search_print_snippet(f->nowhere, &s, 30 + t.size % 90, 4, "**", "**");
    free(s.mark);
    free(set.term);
}

static void texts_take(void *user, const search_doc *d, unsigned long line)
{
    texts_found *f = (texts_found *)user;
    search_words words;
    kalm_text own, id = d->id;
    store nobody;
    (void)line;
    memset(&nobody, 0, sizeof nobody);
    nobody.path = "broken promise";
    memset(&words, 0, sizeof words);
    texts_check(f, "the key", d->id);
    texts_check(f, "the title", d->title);
    texts_check(f, "the text", d->text);
    texts_check(f, "the metadata", d->metadata);
    store_check_metadata(&nobody, d->metadata, 0);
    if (d->text.size > TEXTS_LARGEST && f->many) die("broken promise: a text of %lu bytes", (unsigned long)d->text.size);
    if (!f->many && (d->id.size || d->title.size > 300)) die("broken promise: the key or a long title of a file that is one text");
    if (!search_trim(d->text).size && !d->title.size) die("broken promise: a document without a text");
    if (!id.data) id = kalm__text(""); /* a key is never nowhere */
    search_words_of(&words, id, d->title, d->text);
    own.data = words.text;
    own.size = words.size;
    texts_check(f, "its words", own);
    free(words.text);
    texts_check_snippet(f, d->text, d->title);
    texts_check_snippet(f, d->text, d->text);
    texts_check_snippet(f, d->title, d->id);
    f->documents++;
}

static void texts_bad(void *user, unsigned long line, const char *why)
{
    texts_found *f = (texts_found *)user;
    (void)line;
    if (!*why) die("broken promise: what is left out has no reason");
    f->bad++;
    texts_mix(f, why, strlen(why));
}

static texts_found texts_of(const search_file *file, FILE *nowhere)
{
    static const uint64_t secret[2] = { 1, 2 };
    char hash[17], head[4096];
    size_t size;
    search_taker to;
    texts_found f;
    memset(&f, 0, sizeof f);
    memset(&to, 0, sizeof to);
    f.nowhere = nowhere;
    to.take = texts_take;
    to.bad = texts_bad;
    to.user = &f;
    to.largest = TEXTS_LARGEST;
    if (!search_file_hash(file, secret, hash, head, &size, sizeof head)) die("broken promise: a file that cannot be read");
    if (!store_is_hash(hash, strlen(hash))) die("broken promise: the hash of a file");
    f.many = search_kind(file, head, size) >= SEARCH_JSON;
    search_take_file(&to, file, head, size);
    if (to.place > (uint64_t)file->size) die("broken promise: the reader is behind the end of its file: %lu", (unsigned long)to.place);
    return f;
}

int fuzz_main_texts(int argc, char **argv)
{
    search_file file;
    struct stat st;
    texts_found once, again;
    FILE *nowhere = fopen("/dev/null", "w");
    search_begin_world();
    if (argc != 2 || stat(argv[1], &st) || !nowhere) die("no file");
    memset(&file, 0, sizeof file);
    file.path = argv[1];
    file.size = (int64_t)st.st_size;
    file.mail = strstr(argv[1], "/cur-") != NULL;
    once = texts_of(&file, nowhere);
    /* every byte is said once, and metadata writes a control character in six; the words are a second copy, with spaces and with the key */
    if (once.bytes > 24 * (size_t)st.st_size + 4096) die("broken promise: %lu bytes of text from %lu", (unsigned long)once.bytes, (unsigned long)st.st_size);
    again = texts_of(&file, nowhere);
    if (once.hash != again.hash || once.documents != again.documents || once.bad != again.bad) die("broken promise: the file reads otherwise the second time");
    fclose(nowhere);
    return 0;
}

/* ---- answers --------------------------------------------------------------------------------------------------------------- */

static kalm_text answers_read(const char *path)
{
    static const size_t room = 1 << 22;
    FILE *f = fopen(path, "rb");
    char *data = (char *)cmd_alloc(room);
    kalm_text t;
    if (!f) die("no file %s", path);
    t.data = data;
    t.size = fread(data, 1, room, f);
    if (t.size == room) die("broken promise: four megabytes of answers");
    fclose(f);
    return t;
}

int fuzz_main_json(int argc, char **argv)
{
    kalm_allocator allocator;
    kalm__json j;
    kalm_error err;
    kalm_text all;
    int ok;
    search_begin_world();
    if (argc != 2) die("no file");
    all = answers_read(argv[1]);
    allocator = kalm__allocator(NULL, &ok);
    kalm__json_begin(&j, &allocator);
    j.repeats = 1;                     /* metadata of a stranger's store is printed as it is */
    if (kalm__json_parse(&j, "the answer", all.data, all.size, &err)) die("broken promise: %s", err.text);
    kalm__json_end(&j);
    return 0;
}

/* What a message must be answered with. */
enum { PEER_NOTHING, PEER_ERROR_OF_NOBODY, PEER_ANSWER, PEER_MAY_BE_CANCELLED };

static int peer_expects(json_t *message)
{
    json_t *id = json_object_get(message, "id"), *method = json_object_get(message, "method");
    if (!json_is_object(message)) return PEER_ERROR_OF_NOBODY;
    if (!json_is_string(method) && (json_object_get(message, "result") || json_object_get(message, "error"))) return PEER_NOTHING;
    if (id && !json_is_string(id) && !json_is_integer(id)) return PEER_ERROR_OF_NOBODY;
    if (!id) return json_is_string(method) ? PEER_NOTHING : PEER_ERROR_OF_NOBODY;
    return json_is_string(method) && !strcmp(json_string_value(method), "tools/call") ? PEER_MAY_BE_CANCELLED : PEER_ANSWER;
}

/* One answer: version, the id, and a result or an error with a code and a sentence. */
static int peer_fits(json_t *answer, int expects, json_t *message)
{
    json_t *id = json_object_get(answer, "id"), *error = json_object_get(answer, "error"), *result = json_object_get(answer, "result"), *code;
    const char *version = json_string_value(json_object_get(answer, "jsonrpc")), *said = json_string_value(json_object_get(error, "message"));
    if (!json_is_object(answer) || !version || strcmp(version, "2.0") != 0) die("broken promise: an answer without its version");
    code = json_object_get(error, "code");
    if (!error == !result) die("broken promise: an answer has a result or an error");
    if (error && (!json_is_integer(code) || json_integer_value(code) < -32768 || json_integer_value(code) > -32000 || !said || !*said))
        die("broken promise: an error without code and sentence");
    if (expects == PEER_ERROR_OF_NOBODY) return error && json_is_null(id);
    return json_equal(id, json_object_get(message, "id"));
}

/* A line that could cancel the question `id` stands somewhere in the input. */
static int peer_is_cancelled(kalm_text all, json_t *id)
{
    kalm_text line;
    while (cmd_line(&all, &line)) {
        json_t *v = json_loadb(line.data, line.size, JSON_ALLOW_NUL, NULL);
        int is = json_equal(json_object_get(json_object_get(v, "params"), "requestId"), id);
        json_decref(v);
        if (is) return 1;
    }
    return 0;
}

/* The answers [*at, ...) to one message. */
static void peer_check(kalm_text all, json_t *message, json_t *const *answer, size_t count, size_t *at)
{
    int expects = peer_expects(message);
    if (expects == PEER_NOTHING) return;
    if (*at < count && peer_fits(answer[*at], expects, message)) {
        ++*at;
        return;
    }
    if (expects != PEER_MAY_BE_CANCELLED || !peer_is_cancelled(all, json_object_get(message, "id")))
        die("broken promise: answer %lu is not that of its message", (unsigned long)*at);
}

int fuzz_main_peer(int argc, char **argv)
{
    kalm_text in, out, rest, line;
    json_t **answer;
    size_t answers = 0, at = 0, inner, i;
    search_begin_world();
    if (argc != 3) die("no files");
    in = answers_read(argv[1]);
    out = rest = answers_read(argv[2]);
    answer = (json_t **)cmd_alloc((out.size + 1) * sizeof *answer);
    while (cmd_line(&rest, &line)) {
        json_t *v = json_loadb(line.data, line.size, JSON_ALLOW_NUL, NULL);
        if (!v) die("broken promise: an answer is no JSON: %s", store_shown(line));
        answer[answers++] = v;
    }
    rest = in;
    while (cmd_line(&rest, &line)) {
        json_t *message;
        if (mcp_blank(line)) continue;
        message = json_loadb(line.data, line.size, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_array(message) || !json_array_size(message)) {
            peer_check(in, message, answer, answers, &at);
        } else if (at < answers && json_is_array(answer[at])) {                    /* a batch is answered by one */
            json_t **own = (json_t **)cmd_alloc((json_array_size(answer[at]) + 1) * sizeof *own);
            inner = 0;
            for (i = 0; i < json_array_size(answer[at]); i++) own[i] = json_array_get(answer[at], i);
            if (!i) die("broken promise: an empty batch of answers");
            for (i = 0; i < json_array_size(message); i++) peer_check(in, json_array_get(message, i), own, json_array_size(answer[at]), &inner);
            if (inner != json_array_size(answer[at])) die("broken promise: more answers than messages in a batch");
            free(own);
            at++;
        } else
            for (i = 0; i < json_array_size(message); i++) peer_check(in, json_array_get(message, i), answer, 0, &at);
        json_decref(message);
    }
    if (at != answers) die("broken promise: %lu answers too many", (unsigned long)(answers - at));
    return 0;
}
