/* test_eval.c - the parts of kalm-eval that need no model: measures worked out by hand, tests of significance, fields of lines,
   the reader of lines, sets of ids. */
#include "../src/tools/files.h"
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"         /* the parts, as the commands are built on them; command.h finds them included */
#include "../examples/eval/eval_trec.h"
#include "../examples/eval/eval_results.h"
#include "../examples/eval/eval_source.h"
#include "test.h"

#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif
#define TMP TEST_BUILD "/tmp/test_eval."

static int near(double a, double b) { return fabs(a - b) < 1e-12; }

static double value_of(const char *name, const int32_t *grade, size_t n, const int32_t *judged, size_t judged_count,
                       int32_t level)
{
    ev_measure m;
    ev_ranking r;
    if (!CHECKF(ev_measure_read(&m, name, strlen(name)), "%s is a measure", name)) return 0;
    r.grade = grade;
    r.count = n;
    r.judged = judged;
    r.judged_count = judged_count;
    r.level = level;
    return ev_value(m, &r);
}

/* Ranked: grades 0, 2, unjudged, 1, -1, 3; the query has grades 3, 2, 1, 1, 0, -1. */
static void test_measures(void)
{
    static const int32_t grade[6] = { 0, 2, EV_UNJUDGED, 1, -1, 3 }, judged[6] = { 3, 2, 1, 1, 0, -1 };
    static const int32_t zeros[2] = { 0, 0 };
    static const struct { const char *name; double value; } cases[] = {
        { "nDCG@1", 0 },
        /* 2 / log2(3) over 3 + 2 / log2(3) */
        { "nDCG@2", 2 / 1.5849625007211562 / (3 + 2 / 1.5849625007211562) },
        /* 2 / log2(3) + 1 / log2(5) + 3 / log2(7) over 3 + 2 / log2(3) + 1 / 2 + 1 / log2(5) */
        { "nDCG", (2 / 1.5849625007211562 + 1 / 2.321928094887362 + 3 / 2.807354922057604)
                  / (3 + 2 / 1.5849625007211562 + 0.5 + 1 / 2.321928094887362) },
        { "ndcg_cut_10", (2 / 1.5849625007211562 + 1 / 2.321928094887362 + 3 / 2.807354922057604)
                         / (3 + 2 / 1.5849625007211562 + 0.5 + 1 / 2.321928094887362) },
        /* precisions 1/2, 2/4, 3/6 at the three relevant of four */
        { "MAP", 1.5 / 4 }, { "MAP@4", 1.0 / 4 }, { "map_cut.2", 0.5 / 4 },
        { "MRR", 0.5 }, { "recip_rank", 0.5 }, { "MRR@1", 0 }, { "mrr@2", 0.5 },
        { "Recall@1", 0 }, { "recall.2", 0.25 }, { "Recall@4", 0.5 }, { "Recall@100", 0.75 },
        { "P@1", 0 }, { "P@2", 0.5 }, { "P_4", 0.5 }, { "P@10", 0.3 },
        { "Success@1", 0 }, { "success.2", 1 },
        { "R_cap@2", 0.5 }, { "R_cap@3", 1.0 / 3 }, { "R_cap@10", 0.75 },
        { "num_ret", 6 }, { "num_rel", 4 }, { "num_rel_ret", 3 }
    };
    size_t i;
    ev_measure m;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        double v = value_of(cases[i].name, grade, 6, judged, 6, 1);
        CHECKF(near(v, cases[i].value), "%s is %.15g instead of %.15g", cases[i].name, v, cases[i].value);
    }
    /* relevant from grade 2: two of them; nDCG does not change */
    CHECK(near(value_of("MAP", grade, 6, judged, 6, 2), (1.0 / 2 + 2.0 / 6) / 2));
    CHECK(near(value_of("Recall@5", grade, 6, judged, 6, 2), 0.5));
    CHECK(near(value_of("nDCG", grade, 6, judged, 6, 2), value_of("nDCG", grade, 6, judged, 6, 1)));
    /* nothing is relevant: 0, and R_cap has no value; nothing is retrieved: 0 */
    CHECK(value_of("nDCG@10", zeros, 2, zeros, 2, 1) == 0 && value_of("MAP", zeros, 2, zeros, 2, 1) == 0);
    CHECK(value_of("Recall@5", zeros, 2, zeros, 2, 1) == 0 && isnan(value_of("R_cap@5", zeros, 2, zeros, 2, 1)));
    CHECK(value_of("nDCG@10", grade, 0, judged, 6, 1) == 0 && value_of("R_cap@10", grade, 0, judged, 6, 1) == 0);
    CHECK(value_of("P@10", grade, 0, judged, 6, 1) == 0 && value_of("MRR", grade, 0, judged, 6, 1) == 0);
    for (i = 0; i < 12; i++) {
        static const char *const wrong[12] = { "", "nDCG@", "nDCG@0", "nDCG@-1", "ndcgs", "P", "Recall", "Success",
                                              "num_ret@3", "R_cap",
                                               "nDCG@9999999999", "@10" };
        CHECKF(!ev_measure_read(&m, wrong[i], strlen(wrong[i])), "'%s' is no measure", wrong[i]);
    }
}

static void test_mean(void)
{
    double v[4] = { 0.5, 0, 1, 0 }, none[2];
    ev_measure m = { EV_NDCG, 10 }, count = { EV_NUM_RET, 0 };
    v[3] = none[0] = none[1] = (double)NAN;
    CHECK(near(ev_mean(m, v, 4), 0.5));            /* three have a value */
    CHECK(isnan(ev_mean(m, none, 2)));
    CHECK(ev_mean(count, v, 3) == 1.5);
}

static void test_order(void)
{
    static const char *const ids[7] = { "b", "a", "a10", "a9", "B", "\xc3\xa9", "z" };
    static const double scores[7] = { 1, 1, 1, 1, 1, 1, 1.00000001 };   /* the last is 1 as a float */
    static const char *const right[7] = { "\xc3\xa9", "z", "b", "a9", "a10", "a", "B" };
    ev_hit hit[7];
    size_t i;
    for (i = 0; i < 7; i++) {
        hit[i].id = ids[i];
        hit[i].id_size = strlen(ids[i]);
        hit[i].score = (float)scores[i];
        hit[i].user = (uint32_t)i;
    }
    ev_rank(hit, 7);
    for (i = 0; i < 7; i++) CHECKF(strcmp(hit[i].id, right[i]) == 0, "place %d has %s", (int)i, hit[i].id);
    /* the better one is first, whatever the ids say and whichever was first before */
    for (i = 0; i < 4; i++) {
        memset(hit, 0, 2 * sizeof *hit);
        hit[0].id = i & 1 ? "z" : "a", hit[1].id = i & 1 ? "a" : "z";
        hit[0].id_size = hit[1].id_size = 1;
        hit[0].score = i & 2 ? 2.0f : 1.0f, hit[1].score = 3.0f - hit[0].score;
        ev_rank(hit, 2);
        CHECK(hit[0].score > hit[1].score);
    }
}

static void test_stats(void)
{
    double a[40], b[40], same[40], zero[16], half[16];
    ev_test t, again;
    size_t i;
    float x[4] = { 1, 2, 3, 4 }, y[4] = { 1, 2, 4, 3 }, tied[4] = { 1, 1, 3, 4 };
    for (i = 0; i < 40; i++) {
        a[i] = (double)(i % 7) / 7;
        b[i] = a[i] + (i % 5 ? 0.1 : -0.05);
        same[i] = a[i];
    }
    CHECK(ev_compare(&t, a, b, 40, 2000, 1) && ev_compare(&again, a, b, 40, 2000, 1));
    CHECK(memcmp(&t, &again, sizeof t) == 0);
    CHECK(near(t.difference, 0.07) && t.low > 0.04 && t.low < 0.07 && t.high > 0.07 && t.high < 0.1 && t.p < 0.001 && t.p > 0);
    /* Half of 16 differences are 1, the others 0: 16 times the mean of a sample is binomial, and 2.5% of that lie below 4 and above 12
       (5% would be 5 and 11). */
    for (i = 0; i < 16; i++) zero[i] = 0, half[i] = (double)(i & 1);
    CHECK(ev_compare(&t, zero, half, 16, 10000, 1) && near(t.low, 0.25) && near(t.high, 0.75));
    CHECK(ev_compare(&t, a, same, 40, 500, 1) && t.p == 1 && t.low == 0 && t.high == 0);
    /* one query of two: signs drawn anew are as extreme always */
    CHECK(ev_compare(&t, a, b, 1, 500, 1) && t.p == 1 && t.queries == 1);
    b[3] = (double)NAN;
    CHECK(ev_compare(&t, a, b, 40, 100, 1) && t.queries == 39);
    CHECK(ev_compare(&t, a, b, 0, 100, 1) && t.queries == 0 && t.p == 1);
    CHECK(near(ev_kendall(x, x, 4), 1) && near(ev_kendall(x, y, 4), 4.0 / 6) && near(ev_kendall(x, tied, 4), 5.0 / 6));
    CHECK(near(ev_kendall(tied, tied, 4), 1) && isnan(ev_kendall(x, y, 1)));
}

static void test_fields(void)
{
    static const struct { const char *line; size_t least, usual, count; const char *first, *last; } cases[] = {
        { "q1 Q0 d1 1 9 x", 3, 6, 6, "q1", "x" },
        { "  q1   Q0\td1 1 9 x  ", 3, 6, 6, "q1", "x" },
        { "q 1\tQ0\tAda Lovelace\t1\t9\tx", 3, 6, 6, "q 1", "x" },
        { "q1\tAda Lovelace\t1", 3, 4, 3, "q1", "1" },
        { "q1\t 0\tAda Lovelace \t1\t", 3, 4, 4, "q1", "1" },
        { "q1\t\td1 1", 3, 4, 3, "q1", "1" },      /* an empty field: parted at words */
        { "q1 d1\t1", 3, 4, 3, "q1", "1" },
        { "", 3, 4, 0, NULL, NULL }, { " \t ", 3, 4, 0, NULL, NULL }, { "a", 3, 4, 1, "a", "a" }
    };
    size_t i;
    double v;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        kalm_text f[6];
        size_t n = ev_fields(kalm__text(cases[i].line), f, cases[i].least, cases[i].usual);
        if (!CHECKF(n == cases[i].count, "'%s' has %d fields", cases[i].line, (int)n) || !n) continue;
        CHECKF(f[0].size == strlen(cases[i].first) && !memcmp(f[0].data, cases[i].first, f[0].size), "'%s': first",
               cases[i].line);
        CHECKF(f[n - 1].size == strlen(cases[i].last) && !memcmp(f[n - 1].data, cases[i].last, f[n - 1].size), "'%s': last",
               cases[i].line);
    }
    CHECK(ev_number(kalm__text("1.5e0"), &v) && v == 1.5);
    CHECK(ev_number(kalm__text("-3"), &v) && v == -3);
    CHECK(!ev_number(kalm__text("nan"), &v) && !ev_number(kalm__text(""), &v) && !ev_number(kalm__text("1x"), &v)
          && !ev_number(kalm__text("x"), &v) && !ev_number(kalm__text(" 1"), &v));
}

static void write_file(const char *path, const char *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!CHECK(f != NULL)) return;
    CHECK(fwrite(data, 1, size, f) == size);
    CHECK(fclose(f) == 0);
}

/* Lines of all lengths around the reader's first buffer; CRLF, a mark at the beginning, no end at the last line. */
static void test_lines(void)
{
    static const size_t lengths[] = { 0, 1, 100, 262141, 262142, 262143, 262144, 262145, 600000, 3 };
    size_t n = sizeof lengths / sizeof *lengths, i, k, total = 3;
    char *data;
    ev_file f;
    kalm_text line;
    for (i = 0; i < n; i++) total += lengths[i] + 2;
    data = (char *)malloc(total);
    if (!CHECK(data != NULL)) return;
    memcpy(data, "\xef\xbb\xbf", 3);
    for (i = 0, total = 3; i < n; i++) {
        for (k = 0; k < lengths[i]; k++) data[total++] = (char)('a' + (i + k) % 26);
        if (i + 1 == n) break;
        if (i % 2) data[total++] = '\r';
        data[total++] = '\n';
    }
    write_file(TMP "lines", data, total);
    ev_open(&f, TMP "lines", NULL);
    for (i = 0; i < n; i++) {
        if (!CHECKF(ev_next_line(&f, &line), "line %d", (int)i)) break;
        CHECKF(line.size == lengths[i], "line %d has %d bytes", (int)i, (int)line.size);
        for (k = 0; k < line.size && line.data[k] == (char)('a' + (i + k) % 26); k++) {}
        CHECK(k == line.size && f.line == i + 1);
    }
    CHECK(!ev_next_line(&f, &line));
    ev_close(&f);
    free(data);
    write_file(TMP "empty", "", 0);
    ev_open(&f, TMP "empty", NULL);
    CHECK(!ev_next_line(&f, &line));
    ev_close(&f);
    remove(TMP "lines");
    remove(TMP "empty");
}

static void test_set(void)
{
    ev_set s;
    char word[32];
    uint32_t i, *order;
    memset(&s, 0, sizeof s);
    CHECK(ev_find(&s, kalm__text("a")) == EV_NONE);
    for (i = 0; i < 20000; i++) {
        sprintf(word, "id%lu", (unsigned long)i * 7919);
        if (!CHECK(ev_add(&s, kalm__text(word)) == i)) return;
    }
    for (i = 0; i < 20000; i++) {
        sprintf(word, "id%lu", (unsigned long)i * 7919);
        if (!CHECK(ev_find(&s, kalm__text(word)) == i && ev_add(&s, kalm__text(word)) == i)) return;
    }
    CHECK(s.count == 20000 && ev_find(&s, kalm__text("id1")) == EV_NONE);
    order = ev_sorted(&s);
    for (i = 1; i < 20000; i++)
        if (!CHECK(strcmp(s.id[order[i - 1]].data, s.id[order[i]].data) < 0)) break;
    free(order);
    ev_set_end(&s);
}

/* A journal's record without an id asks for a text that has no address, as kalm__json_text gives it. The sanitizers see to the rest. */
static void test_set_empty(void)
{
    ev_set s;
    kalm_text none;
    none.data = NULL, none.size = 0;
    memset(&s, 0, sizeof s);
    CHECK(ev_add(&s, none) == 0 && ev_add(&s, none) == 0 && ev_add(&s, kalm__text("")) == 0 && ev_add(&s, kalm__text("a")) == 1);
    CHECK(ev_find(&s, none) == 0 && kalm__same_text(none, none) && kalm__same_text(kalm__text(""), none) && !kalm__same_text(none, kalm__text("a")));
    ev_set_end(&s);
}

/* A stranger's results whose only question has no candidates: nothing is sorted or put to zero that has no address. */
static void test_no_candidates(void)
{
    static const char *const lines[2] = {
        "{\"t\": \"data\", \"name\": \"bare\", \"layout\": \"BEIR\", \"first\": \"a run\"}",
        "{\"t\": \"query\", \"id\": \"q\", \"docs\": [], \"scores\": [], \"lost\": [], \"judged\": [\"d\"], \"grades\": [1]}"
    };
    static const char path[] = TMP "bare.jsonl";
    FILE *f = fopen(path, "wb");
    ev_settings s;
    ev_results r;
    ev_system first;
    ev_list none;
    size_t i;
    if (!CHECK(f)) return;
    for (i = 0; i < 2; i++) fprintf(f, "%016llx %s\n", (unsigned long long)ev_plain_hash(lines[i], strlen(lines[i])), lines[i]);
    fclose(f);
    memset(&s, 0, sizeof s), memset(&r, 0, sizeof r), memset(&first, 0, sizeof first), memset(&none, 0, sizeof none);
    ev_add_measures(&s, "P@1");
    r.s = &s;
    ev__system(&r, &first);
    ev__take_data(&r, ".", path, &none, NULL);
    if (CHECK(r.datas == 1 && r.data->cells == 1)) {
        CHECK(r.data->queries == 1 && r.data->candidates == 0 && !strcmp(r.data->name, "bare") && !(r.data->cell->value[0] > 0));
        free(r.data->cell->value), free(r.data->cell);
        free(r.data->name), free(r.data->group), free(r.data->layout), free(r.data->first);
    }
    free(r.data), free(r.system), free(s.measure);
    remove(path);
}

/* Grades that are no number of use are no judgements: what becomes of 1e30 as an integer no standard says. */
static void test_far_grades(void)
{
    static const char line[] = "{\"t\": \"query\", \"id\": \"q\", \"docs\": [], \"scores\": [], \"lost\": [], \"judged\": [\"a\", \"b\", \"c\", \"d\", \"e\"], "
                               "\"grades\": [2147483647, 2147483648, -1e30, 1e308, -2147483647]}";
    ev__asked_reader asked;
    kalm__json j;
    kalm_error err;
    kalm_allocator allocator = cmd_allocator();
    memset(&asked, 0, sizeof asked);
    kalm__json_begin(&j, &allocator);
    if (CHECK(!kalm__json_parse(&j, "line", line, strlen(line), &err))) ev__asked_line(&asked, &j);
    CHECK(asked.d.qrels.count == 2 && asked.d.qrels.at[0].grade == 2147483647 && asked.d.qrels.at[1].grade == -2147483647);
    kalm__json_end(&j);
    free(asked.lost);
    ev_data_end(&asked.d);
}

/* Numbers of a stranger's journal that no model makes, 2^32 and a sound one among them, which 32 bits would hold as the sound one. */
static void test_wide_numbers(void)
{
    static const struct { const char *line; int ok; uint32_t width; } jobs[] = {
        { "{\"t\": \"job\", \"width\": 640}", 1, 640 }, { "{\"t\": \"job\", \"width\": 65536}", 1, 65536 }, { "{\"t\": \"job\"}", 1, 7 },
        { "{\"t\": \"job\", \"width\": 65537}", 0, 7 }, { "{\"t\": \"job\", \"width\": 4294967936}", 0, 7 }, { "{\"t\": \"job\", \"width\": 0}", 0, 7 },
        { "{\"t\": \"job\", \"width\": -640}", 0, 7 }, { "{\"t\": \"job\", \"width\": \"640\"}", 0, 7 }
    };
    static const char encoded[] = "{\"t\": \"encoded\", \"seconds\": 1, \"docs\": [\"a\", \"b\"], \"tokens\": [4294967301, 4294967295]}";
    ev__asked_reader asked;
    ev__margins m;
    uint32_t tokens[2] = { 0, 0 };
    kalm__json j;
    kalm_error err;
    kalm_allocator allocator = cmd_allocator();
    size_t i;
    kalm__json_begin(&j, &allocator);
    for (i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        uint32_t width = 7;
        CHECK(!kalm__json_parse(&j, "line", jobs[i].line, strlen(jobs[i].line), &err));
        CHECKF(ev__width(&j, &width) == jobs[i].ok && width == jobs[i].width, "%s: %u", jobs[i].line, (unsigned)width);
    }
    memset(&asked, 0, sizeof asked), memset(&m, 0, sizeof m);
    ev_add(&asked.d.docs, kalm__text("a")), ev_add(&asked.d.docs, kalm__text("b"));
    m.asked = &asked;
    m.tokens = tokens;
    CHECK(!kalm__json_parse(&j, "line", encoded, strlen(encoded), &err));
    ev__margins_line(&m, &j);
    CHECK(tokens[0] == 0 && tokens[1] == UINT32_MAX);
    kalm__json_end(&j);
    ev_data_end(&asked.d);
}

/* ---- what kalm-eval --tables reads back ------------------------------------------------------------------------ */

/* A file of sound lines, as eval_journal.h writes them. */
static void write_journal(const char *path, const char *const *line, size_t lines)
{
    FILE *f = fopen(path, "wb");
    size_t i;
    for (i = 0; CHECK(f) && i < lines; i++) fprintf(f, "%016llx %s\n", (unsigned long long)ev_plain_hash(line[i], strlen(line[i])), line[i]);
    if (f) fclose(f);
}

/* Figures of a folder, worked out by hand: query q1 has twelve candidates of which d10 is relevant, q2 three of which b is. What a killed
   run computed twice costs its time once; a cascade takes the share of the fine pass that it needs. */
static void test_results(void)
{
#define TWELVE "[\"d00\",\"d01\",\"d02\",\"d03\",\"d04\",\"d05\",\"d06\",\"d07\",\"d08\",\"d09\",\"d10\",\"d11\"]"
#define RANKED(query, ratio, docs, margins, seconds) \
    "{\"t\":\"ranked\",\"query\":\"" query "\",\"ratio\":" ratio ",\"bits\":16,\"docs\":" docs ",\"margins\":" margins ",\"seconds\":" seconds "}"
    static const char *const asked[] = {
        "{\"t\":\"data\",\"name\":\"set\",\"layout\":\"BEIR\",\"first\":\"x\"}",
        "{\"t\":\"query\",\"id\":\"q2\",\"docs\":[\"a\",\"b\",\"c\"],\"scores\":[3,2,1],\"lost\":[2],\"judged\":[\"b\"],\"grades\":[1]}",
        "{\"t\":\"query\",\"id\":\"q1\",\"docs\":" TWELVE ",\"scores\":[12,11,10,9,8,7,6,5,4,3,2,1],\"lost\":[],\"judged\":[\"d10\"],\"grades\":[1]}"
    };
    static const char *const job[] = {
        "{\"t\":\"job\",\"model\":\"tiny\",\"weights\":\"q8\",\"asked\":\"default\",\"data\":\"set\",\"width\":64}",
        "{\"t\":\"encoded\",\"docs\":[\"b\"],\"tokens\":[4294967301],\"seconds\":8}",
        "{\"t\":\"encoded\",\"docs\":[\"d00\",\"d01\"],\"tokens\":[5,7],\"seconds\":0.25}",
        "{\"t\":\"encoded\",\"docs\":[\"d01\",\"a\"],\"tokens\":[7,9],\"seconds\":0.5}",
        "{\"t\":\"encoded\",\"docs\":[\"d00\"],\"tokens\":[5],\"seconds\":4}",
        RANKED("q1", "2", "[\"d00\",\"d01\",\"d02\",\"d03\",\"d04\",\"d05\"]", "[0,1,2,3,4,5]", "1.5"),
        RANKED("q1", "2", "[\"d06\",\"d07\",\"d08\",\"d09\",\"d10\",\"d11\"]", "[6,7,8,9,100,11]", "0.5"),
        RANKED("q1", "2", "[\"d06\",\"d07\"]", "[6,7]", "9"),
        RANKED("q2", "2", "[\"a\",\"b\",\"c\"]", "[1,2,0]", "0.25"),
        RANKED("q1", "4", TWELVE, "[0,-1,-2,-3,-4,-5,-6,-7,-8,-9,-10,-11]", "1"),
        RANKED("q2", "4", "[\"a\"]", "[1]", "0.5")
    };
    ev_kind_of_rows kind;
    ev_settings s;
    ev_results r;
    ev_system first;
    ev_list journals;
    char *journal = (char *)(uintptr_t)"test_eval.journal", *of = (char *)(uintptr_t)"set";
    ev_cell *c;
    size_t i, k;
    write_journal(TMP "asked", asked, sizeof asked / sizeof *asked);
    write_journal(TMP "journal", job, sizeof job / sizeof *job);
    memset(&s, 0, sizeof s);
    memset(&r, 0, sizeof r);
    memset(&first, 0, sizeof first);
    memset(&journals, 0, sizeof journals);
    memset(&kind, 0, sizeof kind);
    ev_add_measures(&s, "MRR");
    s.level = 1;
    r.s = &s;
    journals.name = &journal;
    journals.count = 1;
    ev__system(&r, &first);
    ev__take_data(&r, TEST_BUILD "/tmp", TMP "asked", &journals, &of);
    if (CHECKF(r.datas == 1 && r.systems == 4 && r.data[0].cells == 4, "%u systems: the first stage, two ratios, one cascade", (unsigned)r.systems)) {
        c = r.data[0].cell;
        CHECK(r.data[0].queries == 2 && r.data[0].candidates == 15 && near(r.data[0].encode_seconds, 0.75));
        CHECK(near(c[0].value[0], 1.0 / 11) && near(c[0].value[1], 0.5));
        CHECK(near(c[1].value[0], 1) && near(c[1].value[1], 1) && near(c[1].seconds, 2.25) && c[1].pairs == 15 && c[1].missing == 0);
        CHECK(near(c[2].value[0], 1.0 / 11) && near(c[2].seconds, 1.5) && c[2].pairs == 13 && c[2].missing == 1);
        CHECK(r.system[3].coarse == 4 && r.system[3].keep == 10 && near(c[3].value[0], 1.0 / 11) && near(c[3].seconds, 1 + 2 * 10.0 / 12 + 0.75) && c[3].pairs == 28);
        kind.ratio = 2;
        kind.bits = 16;
        CHECK(c[1].documents == 3 && near(c[1].bytes, ev_doc_size(5, 64, kind) + ev_doc_size(7, 64, kind) + ev_doc_size(9, 64, kind)));
    }
    for (i = 0; i < r.datas; i++) {
        for (k = 0; k < r.data[i].cells; k++) free(r.data[i].cell[k].value);
        free(r.data[i].cell), free(r.data[i].name), free(r.data[i].group), free(r.data[i].layout), free(r.data[i].first);
    }
    free(r.data);
    free(r.system);
    free(s.measure);
    remove(TMP "asked");
    remove(TMP "journal");
}

/* The word that a journal has for its layout becomes part of a file's name: four words are taken, whatever a stranger wrote. */
static void test_layouts(void)
{
    static const char *const refused[] = { "", "?", "BEI", "BEIR ", "beir", "x/../../pwned", "BEIR/..", "BEIR'" };
    size_t i;
    for (i = EV_BEIR; i <= EV_TREC; i++) CHECK(ev_is_layout(ev_layout_name((ev_layout)i)));
    for (i = 0; i < sizeof refused / sizeof *refused; i++) CHECKF(!ev_is_layout(refused[i]), "'%s' is taken for a layout", refused[i]);
}

int main(void)
{
    test_layouts();
    test_measures();
    test_mean();
    test_order();
    test_stats();
    test_fields();
    test_lines();
    test_set();
    test_set_empty();
    test_no_candidates();
    test_far_grades();
    test_wide_numbers();
    test_results();
    return test_end();
}
