/* bench_figures.h - the figures of kalm-bench: printed as they come, written as JSON with the machine that they are of, and two such
   files compared.

   The file is one object: "machine", "commit", "date", "command", "compiler", "flags", "load" (texts: what was measured where, when
   and how), "figures": [{"name", "threads", "value", "unit", "peak", "ratio", "noise"}]. `peak` is the yardstick in the same unit, `ratio` the figure to its yardstick, `noise` how far
   the ratio may be off, as a share of it: null where there is none. A figure stands on a line of its own, for line-based tools. */
#ifndef BENCH_FIGURES_H
#define BENCH_FIGURES_H

#include "../src/tools/files.h"
#include "../src/tools/json.h"
#include "../src/tools/json_out.h"
#include "../src/tools/messages.h"
#include <math.h>

typedef struct figure {
    char        name[48], unit_read[16];               /* unit_read: where `unit` points in a figure that comes from a file */
    unsigned    threads;
    double      value, peak, ratio, noise;             /* 0: none */
    const char *unit;
} figure;

typedef struct figure_set {
    figure   one[512];
    size_t   count;
    char     machine[128], commit[64], date[16], command[1024], load[32];
} figure_set;

/* What the Makefile compiled this with. */
#ifndef BENCH_FLAGS
#  define BENCH_FLAGS "unknown"
#endif

static figure_set figures;
static int figures_csv;

static void csv_text(const char *s)
{
    putchar('"');
    for (; *s; s++) printf(*s == '"' ? "\"\"" : "%c", *s);
    putchar('"');
}

static void add_figure(const char *name, const figure *given, const char *note)
{
    figure *f = &figures.one[figures.count];
    if (figures.count == sizeof figures.one / sizeof figures.one[0]) die("too many figures");
    figures.count++;
    *f = *given;
    snprintf(f->name, sizeof f->name, "%s", name);
    if (figures_csv) {
        printf("%s,%u,%.6g,%s,", name, f->threads, f->value, f->unit);
        if (f->peak > 0) printf("%.6g", f->peak);
        putchar(',');
        if (f->ratio > 0) printf("%.4f", f->ratio);
        putchar(',');
        csv_text(note);
        putchar('\n');
    } else {
        printf("%-24s %3u %11.5g %-11s", name, f->threads, f->value, f->unit);
        if (f->peak > 0) printf(" %9.5g", f->peak);
        else printf(" %9s", "");
        if (f->ratio > 0) printf(" %6.1f%%", 100 * f->ratio);
        else printf(" %7s", "");
        printf("  %s\n", note);
    }
    fflush(stdout);
}

static void heading(const char *text)
{
    if (!figures_csv) printf("\n%-24s %3s %11s %-11s %9s %7s  %s\n", text, "thr", "value", "unit", "peak", "ratio", "");
}

/* ---- the file ------------------------------------------------------------------------------------------ */

static void json_member(json_out *j, const char *name, const char *value)
{
    json_newline(j);
    json_key(j, name);
    json_text(j, kalm__text(value));
}

static void json_maybe(json_out *j, const char *name, double value, int digits)
{
    json_key(j, name);
    if (value > 0) json_float(j, value, digits);
    else json_raw(j, "null");
}

static void write_figures(const char *path)
{
    FILE *f = fopen(path, "wb");
    json_out j;
    size_t i;
    if (!f) die("cannot write %s: %s", path, kalm__os_error());
    json_begin(&j, f);
    json_open(&j, '{');
    json_member(&j, "machine", figures.machine);
    json_member(&j, "commit", figures.commit);
    json_member(&j, "date", figures.date);
    json_member(&j, "command", figures.command);
#ifdef __VERSION__
    json_member(&j, "compiler", __VERSION__);
#endif
    json_member(&j, "flags", BENCH_FLAGS);
    json_member(&j, "load", figures.load);
    json_newline(&j);
    json_key(&j, "figures");
    json_open(&j, '[');
    for (i = 0; i < figures.count; i++) {
        const figure *g = &figures.one[i];
        json_newline(&j);
        json_open(&j, '{');
        json_key(&j, "name");
        json_text(&j, kalm__text(g->name));
        json_key(&j, "threads");
        json_uint(&j, g->threads);
        json_key(&j, "value");
        json_float(&j, g->value, 6);
        json_key(&j, "unit");
        json_text(&j, kalm__text(g->unit));
        json_maybe(&j, "peak", g->peak, 6);
        json_maybe(&j, "ratio", g->ratio, 4);
        json_maybe(&j, "noise", g->noise, 4);
        json_close(&j);
    }
    json_newline(&j);
    json_close(&j);
    json_newline(&j);
    json_close(&j);
    if (ferror(f) | fclose(f)) die("cannot write %s: %s", path, kalm__os_error());
}

static void copy_text(const kalm__json *j, uint32_t node, char *to, size_t room)
{
    kalm_text t = kalm__json_type(j, node) == KALM__JSON_STRING ? kalm__json_text(j, node) : kalm__text("");
    size_t n = kalm__min(t.size, room - 1);
    if (n) memcpy(to, t.data, n);
    to[n] = 0;
}

static double number_of(const kalm__json *j, uint32_t object, const char *name)
{
    double v = 0;
    uint32_t node = kalm__json_get(j, object, name);
    return node && kalm__json_double(j, node, &v) && v == v ? v : 0;
}

static void read_figures(figure_set *s, const char *path)
{
    kalm_allocator heap;
    kalm__json j;
    kalm_error err;
    char *data;
    size_t size;
    uint32_t list, i;
    int ok;
    memset(s, 0, sizeof *s);
    heap = kalm__allocator(NULL, &ok);
    if (kalm__read_expected(path, (uint64_t)16 << 20, "figures of kalm-bench, as JSON", &data, &size, &err)) die("%s", err.text);
    kalm__json_begin(&j, &heap);
    if (kalm__json_parse(&j, path, data, size, &err)) die("%s", err.text);
    list = kalm__json_type(&j, 0) == KALM__JSON_OBJECT ? kalm__json_get(&j, 0, "figures") : 0;
    if (!list || kalm__json_type(&j, list) != KALM__JSON_ARRAY)
        die("%s: these are not figures of kalm-bench (an object with a list \"figures\")", path);
    copy_text(&j, kalm__json_get(&j, 0, "machine"), s->machine, sizeof s->machine);
    copy_text(&j, kalm__json_get(&j, 0, "commit"), s->commit, sizeof s->commit);
    for (i = list + 1; i < j.nodes[list].next; i = j.nodes[i].next) {
        figure *f = &s->one[s->count];
        uint64_t threads = 0;
        uint32_t node = kalm__json_type(&j, i) == KALM__JSON_OBJECT ? kalm__json_get(&j, i, "threads") : 0;
        if (!node || !kalm__json_uint(&j, node, &threads) || threads > 65535 || s->count == sizeof s->one / sizeof s->one[0])
            die("%s: figure %u of the list is none, or there are too many", path, (unsigned)s->count + 1);
        copy_text(&j, kalm__json_get(&j, i, "name"), f->name, sizeof f->name);
        copy_text(&j, kalm__json_get(&j, i, "unit"), f->unit_read, sizeof f->unit_read);
        f->unit = f->unit_read;
        f->threads = (unsigned)threads;
        f->value = number_of(&j, i, "value");
        f->peak = number_of(&j, i, "peak");
        f->ratio = number_of(&j, i, "ratio");
        f->noise = number_of(&j, i, "noise");
        s->count++;
    }
    kalm__json_end(&j);
    free(data);
}

/* ---- two files compared -------------------------------------------------------------------------------- */

static int counts_down(const figure *f)               /* less is better */
{
    return strstr(f->unit, "byte") || !strcmp(f->unit, "ms") || !strcmp(f->unit, "ms/doc") || !strcmp(f->unit, "s");
}

/* Compares what may be compared: ratios to the yardstick, wherever both files are from; counts of bytes; seconds and rates only where
   the machine is the same and no yardstick stands beside them, and those decide nothing. A change counts when it is larger than
   what the rounds of both runs differ by among themselves, and than 1%; where a run has no such noise, than 5%. Returns how many
   figures are worse. */
static unsigned compare_figures(const char *old_path, const char *new_path)
{
    static figure_set was, is;
    unsigned worse = 0, better = 0, alike = 0, alone = 0;
    size_t i, k;
    int same_machine;
    read_figures(&was, old_path);
    read_figures(&is, new_path);
    same_machine = was.machine[0] && !strcmp(was.machine, is.machine);
    printf("old: %s, %s, %s\nnew: %s, %s, %s\n", old_path, was.machine, was.commit, new_path, is.machine, is.commit);
    if (!same_machine) puts("These are two machines, or two loads of one: only ratios to the yardstick and bytes are compared.");
    printf("\n%-28s %3s %12s %12s %8s %8s\n", "figure", "thr", "old", "new", "change", "noise");
    for (i = 0; i < is.count; i++) {
        const figure *b = &is.one[i], *a = NULL;
        double change, bound, x, y;
        const char *word;
        int bytes = strstr(b->unit, "byte") != NULL, by_ratio;
        for (k = 0; k < was.count && !a; k++)
            if (was.one[k].threads == b->threads && !strcmp(was.one[k].name, b->name)) a = &was.one[k];
        if (!a) {
            alone++;
            continue;
        }
        by_ratio = a->ratio > 0 && b->ratio > 0;
        if (!by_ratio && !bytes && !same_machine) continue;
        x = by_ratio ? a->ratio : a->value;
        y = by_ratio ? b->ratio : b->value;
        if (!(x > 0) || !(y > 0)) continue;
        change = y / x - 1;
        bound = bytes ? 0.005 : by_ratio && a->noise > 0 && b->noise > 0 ? a->noise + b->noise : 0.05;
        if (!bytes && bound < 0.01) bound = 0.01;
        if (!by_ratio && counts_down(b)) change = -change;
        if (!by_ratio && !bytes) word = "";
        else if (change < -bound) word = "WORSE", worse++;
        else if (change > bound) word = "better", better++;
        else word = "", alike++;
        if (by_ratio) printf("%-28s %3u %11.1f%% %11.1f%%", b->name, b->threads, 100 * x, 100 * y);
        else printf("%-28s %3u %12.5g %12.5g", b->name, b->threads, x, y);
        printf(" %+7.1f%% %7.1f%%  %s\n", 100 * change, 100 * bound, word);
    }
    for (k = 0; k < was.count; k++) {
        for (i = 0; i < is.count; i++)
            if (was.one[k].threads == is.one[i].threads && !strcmp(was.one[k].name, is.one[i].name)) break;
        alone += i == is.count;
    }
    printf("\n%u worse, %u better, %u alike within the noise; %u stand in one of the files only\n", worse, better, alike, alone);
    return worse;
}

#endif
