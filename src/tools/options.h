/* options.h - the command line of every command, read by a table: each row of it is one option, with its name, its value,
   where the value goes and the sentence that --help prints. So what a command accepts and what its help says are the same.

       typedef struct options { const char *store; uint32_t ratio; int json; } options;
       static const cmd_option table[] = {
           CMD_HEADING("How"),
           CMD_NUMBER("--ratio", "N", options, ratio, 1, 1u << 20, "tokens pooled into one row (default 4)"),
           CMD_TEXT("--store", "FILE", options, store, "where the documents come from"),
           CMD_FLAG("--json", options, json, "one JSON object instead of a table")
       };
       static const cmd_program program = { "kalm-x", "MODEL.kalm", "Do x.", table, sizeof table / sizeof *table, "", NULL };
       ...
       options o;                                       -- zeroed, or with the defaults in it
       cmd_args a;
       cmd_parse(&a, &program, &o, argc, argv);         -- ends the program for --help, --version and mistakes
       a.word[0] ... a.word[a.words - 1]                -- what is no option, in its order
       cmd_args_end(&a);

   A value is the next word or follows "=": --ratio 4, --ratio=4. Behind "--" nothing is an option. Of an option that is given
   twice the last one counts. -h, --help and --version are every command's. */
#ifndef KALM_OPTIONS_H
#define KALM_OPTIONS_H

#include "messages.h"
#include "../base.h"
#include <errno.h>
#include <stddef.h>

typedef enum cmd_kind {
    CMD_IS_HEADING,                    /* no option: a line of --help */
    CMD_IS_FLAG,                       /* int: becomes 1 */
    CMD_IS_BITS,                       /* uint32_t: gets the bits of `least` */
    CMD_IS_TEXT,                       /* const char *: points into argv */
    CMD_IS_NUMBER,                     /* uint32_t from least to most */
    CMD_IS_REAL,                       /* double, finite */
    CMD_IS_CHOICE,                     /* uint32_t: which of the words in `value`, which are "a|b|c", from 0 */
    CMD_IS_LISTED,                     /* uint32_t: one of the whole numbers in `value`, which are "8|4" */
    CMD_IS_CALL                        /* handed to `call`, with the value or NULL where it takes none */
} cmd_kind;

typedef struct cmd_args cmd_args;
typedef void cmd_call(cmd_args *a, const char *name, const char *value);

typedef struct cmd_option {
    cmd_kind    kind;
    const char *name;                  /* "--ratio", or the words of a heading */
    const char *value;                 /* as --help calls it, "N"; NULL: the option takes none */
    const char *help;                  /* one paragraph; it is wrapped where it is printed */
    size_t      field;                 /* offset of the member in the command's structure */
    uint32_t    least, most;
    cmd_call   *call;
} cmd_option;

/* The offset of a member, which must have the size of `is`. */
#define CMD__FIELD(type, member, is) \
    (offsetof(type, member) + 0 * sizeof(char[sizeof(((type *)0)->member) == sizeof(is) ? 1 : -1]))

#define CMD_HEADING(words) { CMD_IS_HEADING, words, NULL, NULL, 0, 0, 0, NULL }
#define CMD_FLAG(name, type, member, help) { CMD_IS_FLAG, name, NULL, help, CMD__FIELD(type, member, int), 0, 0, NULL }
#define CMD_BITS(name, type, member, bits, help) \
    { CMD_IS_BITS, name, NULL, help, CMD__FIELD(type, member, uint32_t), bits, 0, NULL }
/* of every command that opens a model: kalm_config.load */
#define CMD_READ_MODEL(type, member) \
    CMD_BITS("--read", type, member, KALM_LOAD_READ, "read the model into memory, for a file that may change or go away " \
             "meanwhile, as on a network; without it the file is mapped, and processes share it")
#define CMD_TEXT(name, value, type, member, help) \
    { CMD_IS_TEXT, name, value, help, CMD__FIELD(type, member, const char *), 0, 0, NULL }
#define CMD_NUMBER(name, value, type, member, least, most, help) \
    { CMD_IS_NUMBER, name, value, help, CMD__FIELD(type, member, uint32_t), least, most, NULL }
#define CMD_REAL(name, value, type, member, help) \
    { CMD_IS_REAL, name, value, help, CMD__FIELD(type, member, double), 0, 0, NULL }
#define CMD_CHOICE(name, words, type, member, help) \
    { CMD_IS_CHOICE, name, words, help, CMD__FIELD(type, member, uint32_t), 0, 0, NULL }
#define CMD_LISTED(name, numbers, type, member, help) \
    { CMD_IS_LISTED, name, numbers, help, CMD__FIELD(type, member, uint32_t), 0, 0, NULL }
#define CMD_CALL(name, value, function, help) { CMD_IS_CALL, name, value, help, 0, 0, 0, function }

typedef struct cmd_program {
    const char       *name;
    const char       *usage;           /* one line for each way to call it, without the name: "MODEL QUERY\nMODEL --info" */
    const char       *about;           /* paragraphs; the first sentence is what the manual page calls it */
    const cmd_option *option;          /* [options] */
    size_t            options;
    const char       *notes;           /* paragraphs behind the options */
    void            (*version)(void);  /* what --version prints below the version; NULL: nothing */
} cmd_program;

struct cmd_args {
    const cmd_program *program;
    void              *to;             /* the command's structure */
    const char       **word;           /* [words]: what is no option; owned, the words are argv's */
    size_t             words;
    unsigned char     *given;          /* [program->options]: was the option there? owned */
};

enum { CMD__HELP_COLUMN = 26, CMD__HELP_WIDTH = 88 };

/* ---- --help and --version ---------------------------------------------------------------------------------------- */

/* `text` in lines of at most CMD__HELP_WIDTH columns, each from `indent` on; the cursor stands at `column`. A newline in the
   text stays one. */
KALM__FN void cmd__wrap(const char *text, size_t indent, size_t column)
{
    while (*text) {
        size_t n = strcspn(text, " \n"), columns = 0, i;
        for (i = 0; i < n; i++) columns += ((unsigned char)text[i] & 0xc0) != 0x80;
        if (column > indent && column + 1 + columns > CMD__HELP_WIDTH) {
            putchar('\n');
            column = 0;
        }
        if (column < indent) {
            for (; column < indent; column++) putchar(' ');
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        fwrite(text, 1, n, stdout);
        column += columns;
        text += n;
        if (*text == '\n') {
            putchar('\n');
            column = 0;
        }
        if (*text) text++;
    }
    putchar('\n');
}

KALM__FN void cmd__help_option(const cmd_option *o)
{
    size_t column;
    if (o->kind == CMD_IS_HEADING) {
        printf("%s\n", o->name);
        return;
    }
    column = 2 + strlen(o->name) + (o->value ? 1 + strlen(o->value) : 0);
    printf("  %s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
    if (column + 2 > CMD__HELP_COLUMN) {
        putchar('\n');
        column = 0;
    }
    for (; column < CMD__HELP_COLUMN; column++) putchar(' ');
    cmd__wrap(o->help, CMD__HELP_COLUMN, CMD__HELP_COLUMN);
}

KALM__FN void cmd_help(const cmd_program *p)
{
    const char *line = p->usage;
    size_t i, n;
    for (i = 0; *line; i++, line += n + (line[n] == '\n')) {
        n = strcspn(line, "\n");
        printf("%s%s %.*s\n", i ? "       " : "Usage: ", p->name, (int)n, line);
    }
    putchar('\n');
    cmd__wrap(p->about, 0, 0);
    putchar('\n');
    for (i = 0; i < p->options; i++) cmd__help_option(&p->option[i]);
    printf("  -h, --help              print this\n  --version               print the version\n");
    if (*p->notes) {
        putchar('\n');
        cmd__wrap(p->notes, 0, 0);
    }
}

KALM__FN void cmd_version(const cmd_program *p)
{
    printf("%s %d.%d.%d\n", p->name, KALM_VERSION_MAJOR, KALM_VERSION_MINOR, KALM_VERSION_PATCH);
    if (p->version) p->version();
}

/* ---- names that are none ------------------------------------------------------------------------------------------- */

/* How many letters must be put in, left out, changed or exchanged with their neighbour to make b of a (the distance of
   Damerau and Levenshtein, restricted to one edit a place); dashes and underscores are the same. Long names are cut. */
KALM__FN unsigned cmd__distance(const char *a, size_t n, const char *b)
{
    enum { MOST = 40 };
    unsigned row[3][MOST + 1], *two = row[0], *last = row[1], *now = row[2], *old;
    size_t m = kalm__min(strlen(b), (size_t)MOST), i, k;
    n = kalm__min(n, (size_t)MOST);
    for (k = 0; k <= m; k++) two[k] = last[k] = (unsigned)k;
    for (i = 1; i <= n; i++) {
        now[0] = (unsigned)i;
        for (k = 1; k <= m; k++) {
            char x = a[i - 1] == '_' ? '-' : a[i - 1], y = b[k - 1];
            unsigned d = last[k - 1] + (x != y);
            if (d > last[k] + 1) d = last[k] + 1;
            if (d > now[k - 1] + 1) d = now[k - 1] + 1;
            if (i > 1 && k > 1 && x == b[k - 2] && (a[i - 2] == '_' ? '-' : a[i - 2]) == y && d > two[k - 2] + 1) d = two[k - 2] + 1;
            now[k] = d;
        }
        old = two, two = last, last = now, now = old;
    }
    return last[m];
}

/* The option that was probably meant, or NULL: it begins with what was written, or differs from it in two letters. */
KALM__FN const char *cmd__meant(const cmd_program *p, const char *word, size_t n)
{
    static const char *const own[] = { "--help", "--version" };
    const char *best = NULL;
    unsigned least = 3;
    size_t i;
    while (n && *word == '-') word++, n--;
    if (!n) return NULL;
    for (i = 0; i < p->options + 2; i++) {
        const char *name = i < p->options ? p->option[i].name : own[i - p->options];
        unsigned d;
        if (i < p->options && p->option[i].kind == CMD_IS_HEADING) continue;
        d = cmd__distance(word, n, name + 2);
        if (n > 2 && !strncmp(word, name + 2, n) && d > 1) d = 1;
        if (d < least && d < n) least = d, best = name;
    }
    return best;
}

#if defined(__GNUC__)
__attribute__((noreturn))
#endif
KALM__FN void cmd__no_option(const cmd_program *p, const char *word)
{
    size_t n = strcspn(word, "=");
    const char *meant = cmd__meant(p, word, n);
    if (meant) die_usage("there is no option %.*s; did you mean %s?", (int)kalm__min(n, (size_t)100), word, meant);
    die_usage("there is no option %.*s", (int)kalm__min(n, (size_t)100), word);
}

/* ---- values ---------------------------------------------------------------------------------------------------------- */

/* A whole number from least to most, in decimal digits alone; else the program ends. */
KALM__FN uint32_t cmd_number(const char *name, const char *s, uint32_t least, uint32_t most)
{
    char *end;
    unsigned long long v;
    errno = 0;
    v = strtoull(s, &end, 10);
    if (*s < '0' || *s > '9' || *end || errno || v < least || v > most)
        die_usage("%s must be a whole number from %lu to %lu, not '%s'", name, (unsigned long)least, (unsigned long)most, s);
    return (uint32_t)v;
}

/* A finite number; else the program ends. */
KALM__FN double cmd_real(const char *name, const char *s)
{
    char *end;
    double v = strtod(s, &end);
    if (end == s || *end || !(v - v >= 0) || (unsigned char)*s <= ' ') die_usage("%s must be a number, not '%s'", name, s);
    return v;
}

/* Which of the words "a|b|c" s is, from 0; else the program ends. */
KALM__FN uint32_t cmd_choice(const char *name, const char *s, const char *words)
{
    const char *at = words;
    uint32_t i;
    for (i = 0;; i++) {
        size_t n = strcspn(at, "|");
        if (strlen(s) == n && !memcmp(s, at, n)) return i;
        if (!at[n]) die_usage("%s must be one of %s, not '%s'", name, words, s);
        at += n + 1;
    }
}

/* ---- reading a command line ------------------------------------------------------------------------------------------ */

KALM__FN void cmd__take(cmd_args *a, const cmd_option *o, const char *value)
{
    void *field = (char *)a->to + o->field;
    a->given[o - a->program->option] = 1;
    switch (o->kind) {
    case CMD_IS_HEADING: break;
    case CMD_IS_FLAG: *(int *)field = 1; break;
    case CMD_IS_BITS: *(uint32_t *)field |= o->least; break;
    case CMD_IS_TEXT: *(const char **)field = value; break;
    case CMD_IS_NUMBER: *(uint32_t *)field = cmd_number(o->name, value, o->least, o->most); break;
    case CMD_IS_REAL: *(double *)field = cmd_real(o->name, value); break;
    case CMD_IS_CHOICE: *(uint32_t *)field = cmd_choice(o->name, value, o->value); break;
    case CMD_IS_LISTED:
        cmd_choice(o->name, value, o->value);
        *(uint32_t *)field = (uint32_t)strtoul(value, NULL, 10);
        break;
    case CMD_IS_CALL: o->call(a, o->name, value); break;
    }
}

KALM__FN const cmd_option *cmd__find(const cmd_program *p, const char *word, size_t n)
{
    size_t i;
    for (i = 0; i < p->options; i++)
        if (p->option[i].kind != CMD_IS_HEADING && strlen(p->option[i].name) == n && !memcmp(word, p->option[i].name, n))
            return &p->option[i];
    return NULL;
}

/* See the top. `to` is the structure that the table's members are of. */
KALM__FN void cmd_parse(cmd_args *a, const cmd_program *program, void *to, int argc, char **argv)
{
    int i, plain = 0;
    a->program = program;
    a->to = to;
    a->words = 0;
    a->word = (const char **)cmd_alloc((size_t)argc * sizeof *a->word);
    a->given = (unsigned char *)cmd_alloc(program->options);
    memset(a->given, 0, program->options);
    for (i = 1; i < argc; i++) {
        const char *word = argv[i], *value = NULL;
        const cmd_option *o;
        size_t n;
        if (plain || word[0] != '-' || !word[1]) {
            a->word[a->words++] = word;
            continue;
        }
        if (!strcmp(word, "--")) {
            plain = 1;
            continue;
        }
        if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
            cmd_help(program);
            cmd_flush();
            exit(EXIT_OK);
        }
        if (!strcmp(word, "--version")) {
            cmd_version(program);
            cmd_flush();
            exit(EXIT_OK);
        }
        n = strcspn(word, "=");
        o = cmd__find(program, word, n);
        if (!o) cmd__no_option(program, word);
        if (!o->value && word[n]) die_usage("%s takes no value", o->name);
        if (o->value && word[n]) value = word + n + 1;
        else if (o->value) {
            if (i + 1 >= argc) die_usage("%s needs a value", o->name);
            value = argv[++i];
        }
        cmd__take(a, o, value);
    }
}

/* Was the option on the command line? */
KALM__FN int cmd_given(const cmd_args *a, const char *name)
{
    const cmd_option *o = cmd__find(a->program, name, strlen(name));
    return o && a->given[o - a->program->option];
}

KALM__FN void cmd_args_end(cmd_args *a)
{
    free((void *)a->word);
    free(a->given);
    a->word = NULL;
    a->given = NULL;
}

#endif
