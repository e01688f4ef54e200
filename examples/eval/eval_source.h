/* eval_source.h - where the files of a test collection are: the layout of a folder is found out by looking at it.

     BEIR     corpus.jsonl  queries.jsonl  qrels/test.tsv (or another split)
     LMEB     queries.jsonl  qrels.tsv, with corpus.jsonl and candidates.jsonl beside them or in the folder above
     MIRACL   topics/topics.miracl-v1.0-xx-dev.tsv  qrels/qrels.miracl-v1.0-xx-dev.tsv, the corpus in docs-*.jsonl.gz there, in a
              folder corpus, or in miracl-corpus-v1.0-xx beside the folder
     TREC     a file whose name begins with topics or queries, one with qrels, and corpus.* or collection.*

   Every file may end in .gz or .zst. */
#ifndef EVAL_SOURCE_H
#define EVAL_SOURCE_H

#include "eval_records.h"
#include <dirent.h>

typedef enum ev_layout { EV_NO_LAYOUT, EV_BEIR, EV_LMEB, EV_MIRACL, EV_TREC } ev_layout;

typedef struct ev_source {
    ev_layout layout;
    char     *name;                    /* of the data set, from its folders: "scifact", "LoCoMo/multi_hop", "miracl/sw" */
    char     *dir, *queries, *qrels, *run, *candidates;    /* paths; run and candidates may be NULL */
    char    **corpus;                  /* [corpora] */
    size_t    corpora;
    int       scene_whole;             /* LMEB: the scene of a query is its whole id, not the first two parts of it */
} ev_source;

typedef struct ev_where {              /* what the command line says about it; NULL: nothing */
    const char *split, *corpus, *queries, *qrels, *run, *candidates;
} ev_where;

EV__FN const char *ev_layout_name(ev_layout l)
{
    static const char *const names[] = { "?", "BEIR", "LMEB", "MIRACL", "TREC" };
    return names[l];
}

/* Is it one of these names? It becomes part of names of files. */
EV__FN int ev_is_layout(const char *name)
{
    int l = EV_BEIR;
    while (l <= EV_TREC && strcmp(name, ev_layout_name((ev_layout)l))) l++;
    return l <= EV_TREC;
}

/* ---- folders -------------------------------------------------------------------------------------------------- */

typedef struct ev_list { char **name; size_t count, room; } ev_list;

EV__FN void ev_list_add(ev_list *l, char *name)
{
    if (l->count == l->room) l->name = (char **)cmd_grow(l->name, (l->room = l->room ? l->room * 2 : 16) * sizeof *l->name);
    l->name[l->count++] = name;
}

EV__FN int ev__by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a folder, sorted, those that begin with a point apart; none if it is no folder. */
EV__FN ev_list ev_folder(const char *dir)
{
    ev_list l = { NULL, 0, 0 };
    DIR *d = opendir(dir);
    struct dirent *e;
    if (!d && errno != ENOENT && errno != ENOTDIR) die("%s: %s", dir, strerror(errno));
    if (!d) return l;
    while ((errno = 0, e = readdir(d)) != NULL)
        if (e->d_name[0] != '.') ev_list_add(&l, ev_copy(e->d_name));
    if (errno) die("%s: the folder cannot be read to its end: %s", dir, strerror(errno));      /* half of the data has other results */
    closedir(d);
    if (l.count) qsort(l.name, l.count, sizeof *l.name, ev__by_name);
    return l;
}

/* Ends the command where nobody can tell: data that are there must not be passed over. */
EV__FN int ev_is_folder(const char *path)
{
    int is;
    errno = 0;
    is = kalm__directory_exists(path);
    if (!is && kalm__cannot_look(errno)) die("%s: %s", path, strerror(errno));
    return is;
}

EV__FN char *ev_join(const char *dir, const char *name)
{
    char *path = kalm__join_path(dir, name);
    if (!path) die("no memory for a path");
    return path;
}

/* dir/name, packed or not; NULL: there is no such file. */
EV__FN char *ev__existing(const char *dir, const char *name)
{
    static const char *const ends[3] = { "", ".gz", ".zst" };
    char *path = ev_join(dir, name);
    size_t n = strlen(path), i;
    path = (char *)cmd_grow(path, n + 8);
    for (i = 0; i < 3; i++) {
        strcpy(path + n, ends[i]);
        if (kalm__file_exists(path)) return path;
    }
    free(path);
    return NULL;
}

EV__FN int ev__begins(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

/* Does the file name say that it is of this split: "dev.tsv", "qrels.miracl-v1.0-sw-dev.tsv", "topics.dev.txt"? */
EV__FN int ev__of_split(const char *name, const char *split)
{
    size_t n = strlen(split);
    const char *at = name;
    for (; (at = strstr(at, split)) != NULL; at++) {
        char before = at == name ? '-' : at[-1], after = at[n];
        if (strchr("-._", before) && (after == '.' || after == 0)) return 1;
    }
    return 0;
}

/* The file of a folder for a split; without one given: the first of `usual` that is there, else the only file. */
EV__FN char *ev__split_file(const char *dir, const char *split, const char *const *usual, size_t count, const char **found)
{
    ev_list l = ev_folder(dir);
    size_t i, k;
    if (split) usual = &split, count = 1;
    for (k = 0; k < count; k++)
        for (i = 0; i < l.count; i++)
            if (ev__of_split(l.name[i], usual[k])) {
                *found = usual[k];
                return ev_join(dir, l.name[i]);
            }
    if (split) die("%s has no file for the split %s", dir, split);
    if (l.count == 1) return ev_join(dir, l.name[0]);
    return NULL;
}

/* ---- the corpus ----------------------------------------------------------------------------------------------- */

/* The files of a corpus: a file, or the JSON Lines and tab-separated files of a folder. */
EV__FN void ev__corpus_at(ev_source *s, const char *path)
{
    ev_list l;
    size_t i;
    ev_list files = { NULL, 0, 0 };
    if (kalm__file_exists(path)) ev_list_add(&files, ev_copy(path));
    else {
        l = ev_folder(path);
        for (i = 0; i < l.count; i++)
            if (strstr(l.name[i], ".json") || ev_is_tsv(l.name[i])) {
                char *file = ev_join(path, l.name[i]);
                if (kalm__file_exists(file)) ev_list_add(&files, file);
            }
    }
    s->corpus = files.name;
    s->corpora = files.count;
}

EV__FN void ev__parts_of(ev_source *s, const char *dir, const char *begin)
{
    ev_list l = ev_folder(dir), files = { NULL, 0, 0 };
    size_t i;
    for (i = 0; i < l.count; i++)
        if (ev__begins(l.name[i], begin) && (strstr(l.name[i], ".json") || ev_is_tsv(l.name[i])))
            ev_list_add(&files, ev_join(dir, l.name[i]));
    s->corpus = files.name;
    s->corpora = files.count;
}

/* "sw" of ".../miracl-v1.0-sw" or ".../sw" */
EV__FN const char *ev__language(const char *name)
{
    const char *dash = strrchr(name, '-');
    return dash ? dash + 1 : name;
}

EV__FN void ev__miracl_corpus(ev_source *s, const char *name)
{
    static const char *const places[] = { "%s/corpus", "%s/../miracl-corpus-v1.0-%s",
                                         "%s/../../miracl-corpus/miracl-corpus-v1.0-%s",
                                          "%s/../../miracl-corpus-v1.0-%s", "%s/../../corpus/%s" };
    size_t i;
    ev__parts_of(s, s->dir, "docs");
    if (!s->corpora) ev__parts_of(s, s->dir, "corpus");
    for (i = 0; !s->corpora && i < sizeof places / sizeof *places; i++) {
        char *path = (char *)cmd_alloc(strlen(s->dir) + 2 * strlen(name) + 80);
        sprintf(path, places[i], s->dir, ev__language(name));
        if (ev_is_folder(path)) ev__corpus_at(s, path);
        free(path);
    }
}

/* ---- layouts -------------------------------------------------------------------------------------------------- */

/* The last part of a path, and the folder above it; both to be freed. */
EV__FN void ev__last_part(const char *path, char **above, char **name)
{
    char *copy = ev_copy(path), *slash;
    size_t n = strlen(copy);
    while (n > 1 && copy[n - 1] == '/') copy[--n] = 0;
    slash = strrchr(copy, '/');
    *name = ev_copy(slash ? slash + 1 : copy);
    if (slash == copy) *above = ev_copy("/");
    else if (slash) *slash = 0, *above = ev_copy(copy);
    else *above = ev_copy(strcmp(copy, ".") == 0 ? ".." : ".");
    free(copy);
}

EV__FN int ev__is_lmeb_whole(const char *dataset)
{
    static const char *const whole[] = { "Covid-QA", "CovidQA", "ESG-Reports", "ESGReports", "QASPER", "PeerQA", "MLDR",
                                        "NovelQA",
                                         "LooGLE", "DeepPlanning" };
    size_t i;
    for (i = 0; i < sizeof whole / sizeof *whole; i++)
        if (strcmp(dataset, whole[i]) == 0) return 1;
    return 0;
}

EV__FN void ev__lmeb(ev_source *s, const char *above, const char *name)
{
    char *corpus = ev__existing(s->dir, "corpus.jsonl"), *up, *dataset;
    int subset = !corpus;              /* the corpus is the data set's, and this folder one of its subsets */
    s->layout = EV_LMEB;
    if (!corpus) corpus = ev__existing(above, "corpus.jsonl");
    if (corpus) ev__corpus_at(s, corpus);
    s->candidates = ev__existing(s->dir, "candidates.jsonl");
    if (!s->candidates && subset) s->candidates = ev__existing(above, "candidates.jsonl");
    ev__last_part(above, &up, &dataset);
    /* a subset that has a corpus of its own stands in its data set's folder, too; the four kinds of memory are no data sets */
    if (!subset && strcmp(dataset, "Dialogue") && strcmp(dataset, "Episodic") && strcmp(dataset, "Procedural")
        && strcmp(dataset, "Semantic") && strcmp(dataset, ".") && strcmp(dataset, "..")) {
        char *sibling = ev__existing(above, "queries.jsonl");
        ev_list l = ev_folder(above);
        size_t i, k = 0;
        for (i = 0; i < l.count; i++) {
            char *folder = ev_join(above, l.name[i]), *q = ev__existing(folder, "qrels.tsv");
            k += q != NULL;
            free(q);
            free(folder);
        }
        subset = !sibling && (k > 1 || ev__is_lmeb_whole(dataset));
        free(sibling);
    }
    s->scene_whole = ev__is_lmeb_whole(name) || (subset && ev__is_lmeb_whole(dataset));
    if (subset) {
        s->name = (char *)cmd_alloc(strlen(dataset) + strlen(name) + 2);
        sprintf(s->name, "%s/%s", dataset, name);
    }
    free(up);
    free(dataset);
}

EV__FN int ev__trec(ev_source *s)
{
    ev_list l = ev_folder(s->dir);
    size_t i;
    for (i = 0; i < l.count; i++) {
        char *path = ev_join(s->dir, l.name[i]);
        if (!kalm__file_exists(path)) {
            free(path);
            continue;
        }
        if (!s->queries && (ev__begins(l.name[i], "topics") || ev__begins(l.name[i], "queries"))) s->queries = path;
        else if (!s->qrels && ev__begins(l.name[i], "qrels")) s->qrels = path;
        else if (!s->corpora && (ev__begins(l.name[i], "corpus") || ev__begins(l.name[i], "collection"))) ev__corpus_at(s, path);
        else free(path);
    }
    if (s->queries && s->qrels) s->layout = EV_TREC;
    return s->layout != EV_NO_LAYOUT;
}

/* A run in the folder itself: bm25.run, or the only file that ends in .run, .trec or their packed forms. */
EV__FN char *ev__own_run(const char *dir)
{
    char *path = ev__existing(dir, "bm25.run");
    ev_list l;
    size_t i;
    if (path) return path;
    l = ev_folder(dir);
    for (i = 0; i < l.count; i++)
        if (ev_ends_with(l.name[i], ".run") || ev_ends_with(l.name[i], ".run.gz") || ev_ends_with(l.name[i], ".run.zst")
            || ev_ends_with(l.name[i], ".trec")) {
            if (path) return NULL;
            path = ev_join(dir, l.name[i]);
        }
    return path;
}

/* CQADupStack is one data set of BEIR in twelve folders. */
EV__FN void ev__sub_forum(ev_source *s, const char *above, const char *name)
{
    char *up, *dataset;
    ev__last_part(above, &up, &dataset);
    if (strcmp(dataset, "cqadupstack") == 0) {
        s->name = (char *)cmd_alloc(strlen(dataset) + strlen(name) + 2);
        sprintf(s->name, "%s/%s", dataset, name);
    }
    free(up);
    free(dataset);
}

/* Looks at a folder. 0: it is no test collection, and nothing else is said. */
EV__FN int ev_find_source(ev_source *s, const char *dir, const ev_where *w)
{
    static const char *const usual[] = { "test", "dev", "validation" }, *const miracl[] = { "dev", "test", "test-a", "train" };
    char *above, *name, *qrels = ev_join(dir, "qrels"), *topics = ev_join(dir, "topics");
    const char *split = w->split;
    memset(s, 0, sizeof *s);
    s->dir = ev_copy(dir);
    ev__last_part(dir, &above, &name);
    s->queries = ev__existing(dir, "queries.jsonl");
    if (ev_is_folder(qrels) && ev_is_folder(topics)) {
        s->layout = EV_MIRACL;
        s->qrels = w->qrels ? NULL : ev__split_file(qrels, split, miracl, 4, &split);
        if (!w->queries) s->queries = ev__split_file(topics, split, miracl, 4, &split);
        ev__miracl_corpus(s, name);
        s->name = (char *)cmd_alloc(strlen(name) + 8);
        sprintf(s->name, "miracl/%s", ev__language(name));
    } else if (s->queries && (s->qrels = ev__existing(dir, "qrels.tsv")) != NULL) {
        ev__lmeb(s, above, name);
    } else if (s->queries && (w->qrels || ev_is_folder(qrels))) {
        char *corpus = ev__existing(dir, "corpus.jsonl");
        s->layout = EV_BEIR;
        if (!w->qrels) s->qrels = ev__split_file(qrels, split, usual, 3, &split);
        if (corpus) ev__corpus_at(s, corpus);
        ev__sub_forum(s, above, name);
    } else {
        free(s->queries);
        s->queries = NULL;
        ev__trec(s);
    }
    if (w->queries) s->queries = ev_copy(w->queries);
    if (w->qrels) s->qrels = ev_copy(w->qrels);
    if (w->corpus) ev__corpus_at(s, w->corpus);
    if (w->candidates) s->candidates = ev_copy(w->candidates);
    if (!s->layout && s->queries && s->qrels) s->layout = EV_TREC;
    s->run = w->run ? ev_copy(w->run) : ev__own_run(dir);
    if (!s->name) s->name = ev_copy(name);
    cmd_clean_name(s->name, strlen(s->name) + 1, s->name);     /* a folder of a stranger may be called anything */
    free(qrels);
    free(topics);
    free(above);
    free(name);
    return s->layout != EV_NO_LAYOUT;
}

/* What a source lacks, as a sentence that ends the command. */
EV__FN void ev_check_source(const ev_source *s, const char *dir)
{
    if (!ev_is_folder(dir)) die("%s is no folder", dir);
    if (!s->layout)
        die("%s is no test collection: it has neither corpus.jsonl and queries.jsonl with qrels/ or qrels.tsv, nor topics/ "
            "with qrels/, nor files topics* and qrels*", dir);
    if (!s->queries) die("%s: which file has the queries? --topics FILE says so", dir);
    if (!s->qrels) die("%s: which file has the judgements? --split NAME or --qrels FILE says so", dir);
    if (!s->corpora) die("%s: where is the corpus? --corpus FILE or FOLDER says so", dir);
}

/* All test collections in a folder and in the folders below it, in the order of their names. */
EV__FN void ev_find_sources(const char *dir, const ev_where *w, int depth, ev_source **found, size_t *count)
{
    ev_source s;
    ev_list l;
    size_t i;
    if (ev_find_source(&s, dir, w) && s.qrels && s.queries) {
        *found = (ev_source *)cmd_grow(*found, (*count + 1) * sizeof **found);
        (*found)[(*count)++] = s;
        return;
    }
    if (!depth) return;
    l = ev_folder(dir);
    for (i = 0; i < l.count; i++) {
        char *path = ev_join(dir, l.name[i]);
        if (ev_is_folder(path)) ev_find_sources(path, w, depth - 1, found, count);
        free(path);
    }
}

#endif
