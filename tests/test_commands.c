/* test_commands.c - kalm-rerank, kalm-eval and the first program as a user runs them: what goes in, what comes out, exit
   codes, sentences of errors. */
#define _POSIX_C_SOURCE 200809L
#include "../src/tools/json.h"
#include "test.h"
#include <sys/wait.h>
#ifdef HAVE_UTF8PROC
#  include <utf8proc.h>
#endif

#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif
#define RERANK TEST_BUILD "/kalm-rerank"
#define EVAL TEST_BUILD "/kalm-eval"
#define MODEL TEST_BUILD "/tiny.kalm"
#define FILE_A TEST_BUILD "/tmp/commands.a"
#define FILE_B TEST_BUILD "/tmp/commands.b"

static char out[1 << 20];              /* of the last run, standard output (and error, where a command says 2>&1) */
static size_t out_size;

static int run(const char *command)
{
    FILE *f = popen(command, "r");
    int status;
    out_size = 0;
    out[0] = 0;
    if (!CHECKF(f != NULL, "%s: cannot be started", command)) return -1;
    out_size = fread(out, 1, sizeof out - 1, f);
    out[out_size] = 0;
    status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

#define EXPECT(code, command)                                                                              \
    do {                                                                                                   \
        int got_ = run(command);                                                                           \
        CHECKF(got_ == (code), "exit %d instead of %d: %s\n%s", got_, code, command, out);                 \
    } while (0)
#define SAYS(text) CHECKF(strstr(out, text) != NULL, "'%s' is not in: %s", text, out)

static void write_file(const char *path, const char *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(data, 1, size, f) == size);
    if (f) fclose(f);
}

/* ---- JSON out ---------------------------------------------------------------------------------------------------- */

static kalm__json json;

static uint32_t parse(void)
{
    kalm_error err;
    kalm_result r = kalm__json_parse(&json, "output", out, out_size, &err);
    CHECKF(r == KALM_OK, "%s in: %s", r ? err.text : "", out);
    return r ? 0 : kalm__json_get(&json, 0, "results");
}

static double num(uint32_t node, const char *key)
{
    double v = -1e9;
    CHECKF(kalm__json_double(&json, kalm__json_get(&json, node, key), &v), "no number %s in: %s", key, out);
    return v;
}

/* results[i] */
static uint32_t nth(uint32_t array, unsigned i)
{
    uint32_t at = array + 1;
    while (i-- && at < json.nodes[array].next) at = json.nodes[at].next;
    return at;
}

static void test_json(void)
{
    uint32_t results, at, i;
    double last = 1e9;
    EXPECT(0, RERANK " " MODEL " 'program to retouch photos' --json 'Vim is a text editor.' 'GIMP is a picture editor to retouch photos.' "
              "'a \"quoted\"\ttab' ''");
    results = parse();
    if (!CHECK(results && json.nodes[results].size == 4)) return;
    for (at = results + 1, i = 0; at < json.nodes[results].next; at = json.nodes[at].next, i++) {
        double margin = num(at, "margin"), score = num(at, "score");
        CHECK(margin <= last && num(at, "rank") == i + 1 && fabs(score - 1 / (1 + exp(-margin))) < 1e-6);
        last = margin;
    }
    at = nth(results, 0);
    CHECK(num(at, "index") == 1 && kalm__json_is(&json, kalm__json_get(&json, at, "text"), "GIMP is a picture editor to retouch photos."));
    CHECK(kalm__json_is(&json, kalm__json_get(&json, 0, "query"), "program to retouch photos"));
    EXPECT(0, RERANK " " MODEL " q --json --top-k=2 a b c d");
    results = parse();
    CHECK(results && json.nodes[results].size == 2 && num(0, "documents") == 4);
}

/* ---- documents in -------------------------------------------------------------------------------------------------- */

/* Long: a list of inputs and what kalm-rerank must say to each. */
static void test_documents(void)
{
    static const char lines[] = "\xef\xbb\xbf" "first\r\n\r\n   \nsecond line\n{not json}\nlast, without an end";
    static const char jsonl[] =
        "{\"id\": \"a\", \"text\": \"first\"}\n"
        "\n"
        "{\"_id\": 7, \"title\": \"The head\", \"text\": \"and \\u00fc the body\\nin two lines\", \"more\": [1, {}]}\n"
        "{\"text\": \"no id\"}";
    static const char bad[] = "{\"text\": \"first\"}\n{\"text\": 5}\n", worse[] = "{\"text\": \"first\"}\n\n{\"text\": \"x\n";
    static const char hostile[] = "ill-formed \xff\xc3( and \x1b[31m escape and \xe2\x80\xae turned\n";
    static const char nul[] = "a\0b\nsecond\n";
    uint32_t results;
    int seen = 0;
    unsigned i;
    write_file(FILE_A, lines, sizeof lines - 1);
    EXPECT(0, RERANK " " MODEL " query --json --documents " FILE_A);
    results = parse();
    if (CHECK(results && json.nodes[results].size == 4))
        for (i = 0, seen = 0; i < 4; i++) {
            static const char *const want[4] = { "first", "second line", "{not json}", "last, without an end" };
            unsigned index = (unsigned)num(nth(results, i), "index");
            CHECK(index < 4 && kalm__json_is(&json, kalm__json_get(&json, nth(results, i), "text"), want[index % 4]));
            seen |= 1 << index;
        }
    CHECK(seen == 15);
    EXPECT(0, RERANK " " MODEL " query --json < " FILE_A);
    results = parse();
    CHECK(results && json.nodes[results].size == 4);
    EXPECT(0, "cat " FILE_A " | " RERANK " " MODEL " query --json --documents -");
    results = parse();
    CHECK(results && json.nodes[results].size == 4);

    write_file(FILE_A, jsonl, sizeof jsonl - 1);
    EXPECT(0, RERANK " " MODEL " query --json --documents " FILE_A);
    results = parse();
    if (CHECK(results && json.nodes[results].size == 3))
        for (i = 0; i < 3; i++) {
            uint32_t at = nth(results, i), id = kalm__json_get(&json, at, "id");
            unsigned index = (unsigned)num(at, "index");
            CHECK(index == 0 ? kalm__json_is(&json, id, "a") : index == 1 ? kalm__json_is(&json, id, "7") : !id);
            if (index == 1)
                CHECK(kalm__json_is(&json, kalm__json_get(&json, at, "text"), "The head and \xc3\xbc the body\nin two lines"));
        }

    write_file(FILE_A, bad, sizeof bad - 1);
    /* a bad line is named and left out, and the status says that there was one */
    EXPECT(3, RERANK " " MODEL " query --documents " FILE_A " 2>&1");
    SAYS(FILE_A ":2: an object with a string \"text\" must stand here\n");
    SAYS("first");
    EXPECT(1, RERANK " " MODEL " query --strict --documents " FILE_A " 2>&1");
    SAYS(FILE_A ":2: ");
    write_file(FILE_A, worse, sizeof worse - 1);
    EXPECT(3, RERANK " " MODEL " query --documents " FILE_A " 2>&1");
    SAYS(FILE_A ":3: column ");
    write_file(FILE_A, "\n\n", 2);
    EXPECT(1, RERANK " " MODEL " query --documents " FILE_A " 2>&1");
    SAYS("no documents");
    EXPECT(1, RERANK " " MODEL " query --documents no/such/file 2>&1");
    SAYS("no/such/file");
    EXPECT(1, RERANK " " MODEL " query --documents tests 2>&1");
    SAYS("directory");
    EXPECT(1, RERANK " " MODEL " query --documents '' 2>&1");
    SAYS("the name of a file is empty");
    /* forms and encodings are in test_reader.c; here that the command takes them, by name, by content and from pipes */
    write_file(FILE_A, "[\n {\"id\": \"a\", \"text\": \"play chess\"},\n {\"id\": \"b\", \"text\": \"view images\"}\n]\n", 76);
    EXPECT(0, RERANK " " MODEL " chess --json --documents " FILE_A);
    results = parse();
    CHECK(results && json.nodes[results].size == 2 && kalm__json_is(&json, kalm__json_get(&json, nth(results, 0), "id"), "a"));
    EXPECT(0, "cat " FILE_A " | " RERANK " " MODEL " chess --json");
    results = parse();
    CHECK(results && json.nodes[results].size == 2);
    EXPECT(0, "while IFS= read -r l; do printf '%s\\n' \"$l\"; sleep 0.01; done < " FILE_A " | " RERANK " " MODEL " chess --json --documents /dev/stdin");
    results = parse();
    CHECK(results && json.nodes[results].size == 2);
    EXPECT(0, RERANK " " MODEL " chess --json --format lines --documents " FILE_A);
    results = parse();
    CHECK(results && json.nodes[results].size == 4);
    write_file(FILE_A, "\xff\xfe" "p\0l\0a\0y\0 \0c\0h\0e\0s\0s\0\r\0\n\0v\0i\0e\0w\0", 34);
    EXPECT(0, RERANK " " MODEL " chess --json --documents " FILE_A);
    results = parse();
    CHECK(results && json.nodes[results].size == 2 && kalm__json_is(&json, kalm__json_get(&json, nth(results, 0), "text"), "play chess"));
    /* the file of the documents as a document */
    EXPECT(0, RERANK " " MODEL " chess " FILE_A " 2>&1");
    SAYS("'" FILE_A "' is ranked as a text; to rank what that file holds: --documents " FILE_A);
    EXPECT(0, "gzip -c README.md > " FILE_B " && ! " RERANK " " MODEL " chess --documents " FILE_B " 2>&1");
    SAYS(FILE_B ": is compressed by gzip");
    remove(FILE_B);
    EXPECT(2, RERANK " " MODEL " query --documents " FILE_A " another 2>&1");

    /* bytes from strangers: valid JSON all the same, and no escape reaches the terminal */
    write_file(FILE_A, hostile, sizeof hostile - 1);
    EXPECT(0, RERANK " " MODEL " query --json --documents " FILE_A " 2>/dev/null");
    results = parse();
    CHECK(results != 0);
    EXPECT(0, RERANK " " MODEL " query --documents " FILE_A " 2>&1 >/dev/null");
    SAYS(FILE_A ":1: byte 11 of the text is not UTF-8; it is read as U+FFFD");
    EXPECT(0, RERANK " " MODEL " query --documents " FILE_A " 2>/dev/null");
    CHECK(!strchr(out, 0x1b) && !strstr(out, "\xe2\x80\xae") && strstr(out, "ill-formed"));
    write_file(FILE_A, nul, sizeof nul - 1);
    EXPECT(0, RERANK " " MODEL " query --json --documents " FILE_A);
    results = parse();
    CHECK(results && json.nodes[results].size == 2 && strstr(out, "a\\u0000b"));
    remove(FILE_A);
}

/* ---- the table ------------------------------------------------------------------------------------------------------- */

static int width_of(const char *s, size_t n)
{
    int width = 0;
#ifdef HAVE_UTF8PROC
    size_t i;
    for (i = 0; i < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)(n - i), &c);
        if (k < 1) return -1000;
        width += utf8proc_charwidth(c);
        i += (size_t)k;
    }
#else
    size_t i;
    for (i = 0; i < n; i++) width += ((unsigned char)s[i] & 0xc0) != 0x80;
#endif
    return width;
}

/* Every text begins with "@": in the same column of every line, and no line is wider than asked. */
static void test_table(void)
{
    static const char jsonl[] =
        "{\"id\": \"plain\", \"text\": \"@plain words\"}\n"
        "{\"id\": \"\xe6\xbc\xa2\xe5\xad\x97\", \"text\": \"@\xe5\x8c\x97\xe4\xba\xac\xe6\x98\xaf\xe4\xb8\xad\xe5\x9b\xbd\xe7\x9a\x84\xe9\xa6\x96\xe9\x83\xbd\xe3\x80\x82\"}\n"
        "{\"id\": \"\xd8\xb9\xd8\xb1\xd8\xa8\", \"text\": \"@\xd8\xa8\xd9\x83\xd9\x8a\xd9\x86\"}\n"
        "{\"id\": \"e\xcc\x81\xcc\x82t\", \"text\": \"@combining e\xcc\x81\xcc\x82 marks\"}\n"
        "{\"id\": \"\xf0\x9f\x98\x80\", \"text\": \"@emoji\"}\n"
        "{\"id\": \"\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8\xe0\xa5\x8d\xe0\xa4\xa6\xe0\xa5\x80\", \"text\": \"@hindi\"}\n"
        "{\"id\": \"an-id-that-is-longer-than-the-column-can-be\", \"text\": \"@w\\n\\n   s\"}\n"
        "{\"text\": \"@none\"}\n";
    char *line, *at;
    int column = -1, lines = 0;
    write_file(FILE_A, jsonl, sizeof jsonl - 1);
    EXPECT(0, RERANK " " MODEL " query --width 60 --documents " FILE_A);
    for (line = strtok(out, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        int wide = width_of(line, strlen(line));
        CHECKF(wide >= 0 && wide <= 60, "%d columns: %s", wide, line);
        at = strstr(line, lines ? "@" : "text");
        if (!CHECKF(at != NULL, "no text in: %s", line)) continue;
        if (column < 0) column = width_of(line, (size_t)(at - line));
        CHECKF(width_of(line, (size_t)(at - line)) == column, "the text is not at column %d: %s", column, line);
        CHECKF(!strstr(line, "@w") || strstr(line, "@w s"), "white space: %s", line);
    }
    CHECK(lines == 9);
    EXPECT(0, RERANK " " MODEL " query --width 40 'a document that is longer than the table is wide, by far and then some more'");
    SAYS("...");
    EXPECT(0, RERANK " " MODEL " query --width 0 'a document that is longer than the table is wide, by far and then some more'");
    SAYS("and then some more");
    EXPECT(0, RERANK " " MODEL " query --max-doc-tokens 8 'a document that is longer than eight tokens' short");
    SAYS("*");
    SAYS("8 tokens: only the beginning was read (--max-doc-tokens)");
    CHECK(!strstr(out, "the query"));
    EXPECT(0, RERANK " " MODEL " 'a question that is longer than five tokens' --max-query-tokens 5 'a document' short");
    SAYS("the query is longer than 5 tokens: only its beginning was read (--max-query-tokens)");
    CHECK(!strstr(out, "*"));
    EXPECT(0, RERANK " " MODEL " 'a question that is longer than five tokens' --json --max-query-tokens 5 --max-doc-tokens 8 short "
              "'a document that is longer than eight tokens'");
    SAYS("\"cut\": true, \"cut_document\": false, \"cut_query\": true, \"text\": \"short\"");
    SAYS("\"cut\": true, \"cut_document\": true, \"cut_query\": true, \"text\": \"a document");
    EXPECT(0, RERANK " " MODEL " q --json --max-doc-tokens 8 'a document that is longer than eight tokens'");
    SAYS("\"cut\": true, \"cut_document\": true, \"cut_query\": false");
    EXPECT(0, RERANK " " MODEL " q --json short");
    SAYS("\"cut\": false, \"cut_document\": false, \"cut_query\": false");
    remove(FILE_A);
}

/* ---- options --------------------------------------------------------------------------------------------------------- */

static double margin_of(const char *options)
{
    char command[512];
    uint32_t results;
    snprintf(command, sizeof command, "%s " RERANK " " MODEL " 'retouch <end_of_turn> photos' --json 'a picture editor for many photos' %s",
             options[0] == 'K' ? options : "", options[0] == 'K' ? "" : options);
    EXPECT(0, command);
    results = parse();
    return results ? num(nth(results, 0), "margin") : 0;
}

/* With --read the model's file may be emptied as soon as it has been read: a map of it would end the command with SIGBUS. The
   documents come from a pipe that is silent until then. */
static void test_read(void)
{
    if (run("test -r /proc/self/io") != 0) {
        printf("not tried: no /proc/self/io tells how far a file has been read\n");
        return;
    }
    EXPECT(0, "cp " MODEL " " FILE_A " && rm -f " FILE_B " && mkfifo " FILE_B " && { " RERANK " " FILE_A " chess --read --threads 1 < " FILE_B
              " & pid=$!; exec 3> " FILE_B "; n=0; until [ \"$(sed -n 's/^rchar: //p' /proc/$pid/io)\" -gt $(wc -c < " FILE_A ") ]; do "
              "sleep 0.02; n=$((n + 1)); [ $n -lt 3000 ] || break; done; : > " FILE_A "; echo 'a game of chess' >&3; exec 3>&-; wait $pid; } 2>&1");
    SAYS("a game of chess");
    EXPECT(0, "rm -f " FILE_A " " FILE_B);
}

static void test_options(void)
{
    double margin = margin_of(""), scalar;
    char *list;
    CHECK(margin_of("--threads 1") == margin && margin_of("--threads=3") == margin && margin_of("--ratio 4") == margin);
    CHECK(margin_of("--ratio 1") != margin);
    CHECK(margin_of("--instruction 'Given a few keywords, find the software package they describe.'") != margin);
    CHECK(margin_of("--instruction 'Given a query, retrieve documents that answer the query.'") == margin);
    CHECK(margin_of("--system 'Judge.'") != margin);
    CHECK(margin_of("--parse-control") != margin);
    scalar = margin_of("--kernels scalar");
    CHECKF(fabs(scalar - margin) < 0.02, "scalar %g, best %g", scalar, margin);
    CHECK(margin_of("KALM_KERNELS=scalar") == scalar);
    CHECK(margin_of("--read") == margin);
    EXPECT(0, RERANK " --version");
    SAYS("kalm-rerank 0.");
    list = strstr(out, "first:");
    CHECK(list && strstr(list, "scalar"));
    EXPECT(1, RERANK " " MODEL " query a --kernels abacus 2>&1");
    SAYS("abacus");
    EXPECT(0, RERANK " --help");
    SAYS("Usage: kalm-rerank");
    SAYS("--parse-control");
    EXPECT(2, RERANK " 2>&1");
    EXPECT(2, RERANK " " MODEL " 2>&1");
    EXPECT(2, RERANK " " MODEL " q a --frobnicate 2>&1");
    SAYS("--frobnicate");
    CHECK(!strstr(out, "did you mean"));
    EXPECT(2, RERANK " " MODEL " q a --topk 2 2>&1");
    SAYS("there is no option --topk; did you mean --top-k?");
    EXPECT(2, RERANK " " MODEL " q a --max_doc_tokens=2 2>&1");
    SAYS("did you mean --max-doc-tokens?");
    EXPECT(2, RERANK " " MODEL " q a --jsno 2>&1");
    SAYS("did you mean --json?");
    EXPECT(2, RERANK " " MODEL " q a --doc f 2>&1");
    SAYS("did you mean --documents?");
    EXPECT(2, RERANK " " MODEL " q a --json=1 2>&1");
    SAYS("--json takes no value");
    EXPECT(2, RERANK " " MODEL " q a --ratio 0 2>&1");
    EXPECT(2, RERANK " " MODEL " q a --ratio x 2>&1");
    EXPECT(2, RERANK " " MODEL " q a --top-k -1 2>&1");
    EXPECT(2, RERANK " " MODEL " q a --threads 2>&1");
    EXPECT(0, RERANK " " MODEL " -- -q --json");
    SAYS("--json");
    EXPECT(1, RERANK " no/such.kalm q a 2>&1");
    SAYS("no/such.kalm");
    EXPECT(1, RERANK " Makefile q a 2>&1");
    EXPECT(0, RERANK " " MODEL " q a --time 2>&1");
    SAYS("ms");
    EXPECT(1, RERANK " " MODEL " q a > /dev/full 2>/dev/null");
}

/* Every command answers --help and --version, and its help names every option that begins a line of it. */
static void test_every_command(void)
{
    static const char *const names[] = { "kalm-rerank", "kalm-quantize", "kalm-tokenize", "kalm-eval", "kalm-random-checkpoint",
                                         "kalm-bench" };
    char command[256], first[64];
    size_t i;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(command, sizeof command, TEST_BUILD "/%s --help", names[i]);
        EXPECT(0, command);
        snprintf(first, sizeof first, "Usage: %s ", names[i]);
        CHECKF(!strncmp(out, first, strlen(first)), "%s --help begins: %.60s", names[i], out);
        SAYS("\n  --version  ");
        SAYS("Exit status: 0 ");
        snprintf(command, sizeof command, TEST_BUILD "/%s --version", names[i]);
        EXPECT(0, command);
        snprintf(first, sizeof first, "%s 0.", names[i]);
        CHECKF(!strncmp(out, first, strlen(first)), "%s --version begins: %.60s", names[i], out);
        snprintf(command, sizeof command, TEST_BUILD "/%s --verison 2>&1", names[i]);
        EXPECT(2, command);
        SAYS("did you mean --version?");
    }
}

/* What make demo prints can be pasted: its commands, run, print the same answers. */
static void test_demo(void)
{
    EXPECT(0, "COLUMNS= sh examples/demo.sh " TEST_BUILD " > " FILE_A);
    EXPECT(0, "grep '^" TEST_BUILD "/' " FILE_A " > " FILE_B " && test $(wc -l < " FILE_B ") -eq 3 && "
              "grep -v '^" TEST_BUILD "/' " FILE_A " | grep . > " FILE_A ".answers && sh " FILE_B " | cmp - " FILE_A ".answers");
    remove(FILE_A);
    remove(FILE_A ".answers");
    remove(FILE_B);
}

static void test_first(void)
{
    EXPECT(0, TEST_BUILD "/first " MODEL);
    SAYS("The capital of China is Beijing.");
    CHECKF(strstr(out, "Beijing") < strstr(out, "Gravity"), "the order is: %s", out);
    EXPECT(1, TEST_BUILD "/first no/such.kalm 2>&1");
}

/* ---- kalm-eval -------------------------------------------------------------------------------------------------------- */

static void test_eval(void)
{
    uint32_t ratios, at;
    EXPECT(0, EVAL " " MODEL " examples/tiny/eval --queries 8 --depth 10 --ratio 2,6 --json");
    parse();
    ratios = kalm__json_get(&json, nth(kalm__json_get(&json, 0, "models"), 0), "ratios");
    if (CHECK(ratios && json.nodes[ratios].size == 2)) {
        at = nth(ratios, 1);
        CHECK(num(at, "ratio") == 6 && num(at, "ndcg10") > 0.3 && num(at, "ndcg10") <= 1 && num(at, "mrr10") <= 1);
        CHECK(num(at, "first") <= num(at, "mrr10") && num(at, "mrr10") <= num(at, "ndcg10") && num(at, "ndcg10") <= num(at, "recall10"));
        at = kalm__json_get(&json, 0, "candidates");
        CHECK(at && num(at, "ndcg10") > 0.3);
        CHECK(num(0, "pairs") == 80);
    }
    /* a run written and read again, and the model against itself: no difference */
    EXPECT(0, EVAL " " MODEL " examples/tiny/eval --queries 8 --depth 10 --ratio 4 --save-run " FILE_A);
    EXPECT(0, EVAL " " MODEL " examples/tiny/eval --queries 8 --depth 10 --ratio 4 --compare-run " FILE_A " --json --min-tau 1 --max-delta 0");
    parse();
    ratios = kalm__json_get(&json, nth(kalm__json_get(&json, 0, "models"), 1), "ratios");
    if (CHECK(ratios != 0)) CHECK(num(nth(ratios, 0), "tau") == 1 && num(nth(ratios, 0), "delta_ndcg10") == 0);
    EXPECT(0, EVAL " " MODEL " examples/tiny/eval --queries 8 --depth 10 --run " FILE_A);
    /* the old run stays where a new one cannot be written (here its size is limited); a pipe is written to as it is */
    EXPECT(0, "cp " FILE_A " " FILE_B " && ! (ulimit -f 1; " EVAL " " MODEL " examples/tiny/eval --queries 20 --depth 20 --save-run " FILE_A
              " 2>&1) && cmp " FILE_A " " FILE_B " && ! ls " FILE_A ".tmp-* 2> /dev/null");
    SAYS("cannot write " FILE_A);
    EXPECT(0, EVAL " " MODEL " examples/tiny/eval --queries 8 --depth 10 --ratio 4 --save-run /dev/stdout | grep -v : | grep ' Q0 ' | cmp - " FILE_A);
    EXPECT(0, EVAL " " MODEL " examples/tiny/eval --queries 4 --depth 10 --compare " MODEL " --min-tau 1 --max-delta 0");
    SAYS("tau");
    EXPECT(1, EVAL " " MODEL " examples/tiny/eval --queries 4 --depth 10 --compare " MODEL " --min-tau 1.5");
    SAYS("worse");
    EXPECT(1, EVAL " " MODEL " examples/tiny 2>&1");
    SAYS("corpus.jsonl");
    EXPECT(1, EVAL " " MODEL " examples/tiny/eval --run no/such.run 2>&1");
    SAYS("no/such.run");
    write_file(FILE_B, "t001 Q0 nobody 1 1.0 x\n", 23);
    EXPECT(1, EVAL " " MODEL " examples/tiny/eval --run " FILE_B " 2>&1");
    SAYS("nobody");
    EXPECT(2, EVAL " " MODEL " 2>&1");
    EXPECT(2, EVAL " " MODEL " examples/tiny/eval --ratio 1,,2 2>&1");
    EXPECT(2, EVAL " " MODEL " examples/tiny/eval --min-tau 1 2>&1");
    EXPECT(0, EVAL " --help");
    remove(FILE_A);
    remove(FILE_B);
}

/* Numbers of a command line, about the borders of what an option takes. */
static void test_numbers(void)
{
    static const struct { const char *command, *option, *least, *most; } whole[] = {
        { RERANK, "--ratio", "1", "1048576" }, { RERANK, "--threads", "1", "4096" }, { RERANK, "--top-k", "1", "4294967295" },
        { RERANK, "--width", "0", "1048576" }, { EVAL, "--rounds", "100", "10000000" }, { EVAL, "--longest", "64", "131072" }
    };
    static const char *const no_number[] = { "", "-1", "+5", "100.5", "0x64", " 100", "100 ", "100a", "99999999999999999999999", "1e3" };
    static const char *const no_real[] = { "", "inf", "-inf", "nan", "1e999", " 1", "1 ", "1x", "x", "0.5,0.6" };
    char command[300], words[200];
    size_t i, k;
    for (i = 0; i < sizeof whole / sizeof *whole; i++) {
        unsigned long long least = strtoull(whole[i].least, NULL, 10), most = strtoull(whole[i].most, NULL, 10);
        for (k = 0; k < (i ? 4 : 4 + sizeof no_number / sizeof *no_number); k++) {
            char value[40];
            if (k < 4) sprintf(value, "%llu", k == 0 ? least : k == 1 ? most : k == 2 ? most + 1 : least ? least - 1 : most + 2);
            else strcpy(value, no_number[k - 4]);
            sprintf(command, "%s '%s=%s' --nothing 2>&1", whole[i].command, whole[i].option, value);
            EXPECT(2, command);
            sprintf(words, "%s must be a whole number from %s to %s, not '%s'", whole[i].option, whole[i].least, whole[i].most, value);
            if (k < 2) SAYS("there is no option --nothing");
            else SAYS(words);
        }
    }
    EXPECT(2, EVAL " --b -0.5e0 --k1 +7 --nothing 2>&1");
    SAYS("there is no option --nothing");
    for (k = 0; k < sizeof no_real / sizeof *no_real; k++) {
        sprintf(command, EVAL " '--b=%s' --nothing 2>&1", no_real[k]);
        EXPECT(2, command);
        sprintf(words, "--b must be a number, not '%s'", no_real[k]);
        SAYS(words);
    }
}

int main(void)
{
    int ok;
    kalm_allocator allocator = kalm__allocator(NULL, &ok);
    kalm__json_begin(&json, &allocator);
    setenv("ASAN_OPTIONS", "detect_leaks=0", 0);       /* a command ends with its texts in its hands */
    test_json();
    test_documents();
    test_table();
    test_options();
    test_numbers();
    test_read();
    test_every_command();
    test_demo();
    test_first();
    test_eval();
    kalm__json_end(&json);
    return test_end();
}
