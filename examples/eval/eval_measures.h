/* eval_measures.h - the measures of a ranking, equal to those of NIST's trec_eval: nDCG, average precision, reciprocal rank,
   recall, precision and success at any cutoff, and the capped recall of LMEB. Nothing here reads or prints.

   What "equal to trec_eval" means (tag v9.0.8; its sources were read, nothing is copied):
   - Documents are ordered by their scores as 32-bit floats, the highest first; documents of equal score by their ids, compared
     byte by byte, the *last* id first. The rank column of a run has no influence.
   - A document is relevant when its grade is at least the relevance level (1 unless -l says otherwise). Grades below zero, and
     documents that nobody judged, are not relevant and gain nothing.
   - nDCG's gain is the grade itself (not 2^grade - 1), its discount log2(rank + 1), and its ideal takes every judged document
     of the query, whether the run has it or not.
   - A cutoff beyond the end of the ranking is no error: what is missing is not relevant.
   - The mean is over the queries that have both judgements and results, those without any relevant document included, each of
     which counts 0. With `complete` (trec_eval -c) it is over all judged queries, and one without results counts 0. */
#ifndef EVAL_MEASURES_H
#define EVAL_MEASURES_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#  define EV__FN static __attribute__((unused))
#else
#  define EV__FN static
#endif

/* ---- which measure -------------------------------------------------------------------------------------------- */

typedef enum ev_kind {
    EV_NDCG, EV_MAP, EV_MRR, EV_RECALL, EV_PRECISION, EV_SUCCESS, EV_RCAP,
    EV_NUM_RET, EV_NUM_REL, EV_NUM_REL_RET, EV_NUM_Q, EV_KINDS
} ev_kind;

typedef struct ev_measure {
    ev_kind  kind;
    uint32_t cut;                      /* the k of "@k"; 0: the whole ranking */
} ev_measure;

/* needs: 1 where the measure has no meaning without a cutoff, -1 where it takes none */
typedef struct ev__name { const char *table, *trec, *trec_cut, *also; int needs; } ev__name;

EV__FN const ev__name *ev__names(void)
{
    static const ev__name names[EV_KINDS] = {
        { "nDCG", "ndcg", "ndcg_cut", "ndcg", 0 },
        { "MAP", "map", "map_cut", "map", 0 },
        { "MRR", "recip_rank", "recip_rank_cut", "mrr", 0 },
        { "Recall", "recall", "recall", "recall", 1 },
        { "P", "P", "P", "precision", 1 },
        { "Success", "success", "success", "success", 1 },
        { "R_cap", "R_cap", "R_cap", "recall_cap", 1 },
        { "num_ret", "num_ret", "num_ret", "num_ret", -1 },
        { "num_rel", "num_rel", "num_rel", "num_rel", -1 },
        { "num_rel_ret", "num_rel_ret", "num_rel_ret", "num_rel_ret", -1 },
        { "num_q", "num_q", "num_q", "num_q", -1 }
    };
    return names;
}

/* Counts are summed over the queries, everything else is averaged. */
EV__FN int ev_is_count(ev_measure m) { return m.kind >= EV_NUM_RET; }

EV__FN int ev__same_name(const char *s, size_t n, const char *name)
{
    size_t i;
    for (i = 0; i < n && name[i]; i++) {
        char a = s[i], b = name[i];
        if (a >= 'A' && a <= 'Z') a = (char)(a + 32);
        if (b >= 'A' && b <= 'Z') b = (char)(b + 32);
        if (a != b) return 0;
    }
    return i == n && !name[i];
}

/* "nDCG@10", "ndcg_cut.10", "ndcg_cut_10", "map", "recip_rank", "MRR@10", "R_cap@5", ...: a name and, behind '@', '.' or '_',
   a cutoff. 0: there is no such measure, or its cutoff is missing or no whole number from 1 to 1,000,000,000. */
EV__FN int ev_measure_read(ev_measure *m, const char *s, size_t n)
{
    const ev__name *names = ev__names();
    size_t digits = 0, stem = n, i;
    uint32_t cut = 0;
    int kind;
    while (digits < n && s[n - 1 - digits] >= '0' && s[n - 1 - digits] <= '9') digits++;
    if (digits && digits < n && strchr("@._", s[n - 1 - digits])) {
        if (digits > 9) return 0;
        for (i = n - digits; i < n; i++) cut = cut * 10 + (uint32_t)(s[i] - '0');
        if (!cut) return 0;
        stem = n - digits - 1;
    }
    for (kind = 0; kind < EV_KINDS; kind++) {
        int needs = names[kind].needs;
        if (!ev__same_name(s, stem, names[kind].table) && !ev__same_name(s, stem, names[kind].also)
            && !ev__same_name(s, stem, cut ? names[kind].trec_cut : names[kind].trec)) continue;
        if ((needs == 1 && !cut) || (needs == -1 && cut)) return 0;
        m->kind = (ev_kind)kind;
        m->cut = cut;
        return 1;
    }
    return 0;
}

/* "nDCG@10", for tables; or "ndcg_cut_10", as trec_eval prints it. room: at least 32 bytes. */
EV__FN void ev_measure_name(ev_measure m, int trec, char *name)
{
    const ev__name *n = &ev__names()[m.kind];
    if (m.cut) sprintf(name, trec ? "%s_%lu" : "%s@%lu", trec ? n->trec_cut : n->table, (unsigned long)m.cut);
    else strcpy(name, trec ? n->trec : n->table);
}

/* ---- one query ------------------------------------------------------------------------------------------------ */

typedef struct ev_hit {                /* a document of a run */
    const char *id;                    /* [id_size], no NUL needed */
    size_t      id_size;
    float       score;
    uint32_t    user;                  /* the caller's own; stays with its hit */
} ev_hit;

/* Byte by byte, as strcmp orders them: negative, 0, positive. */
EV__FN int ev_compare_ids(const char *a, size_t a_size, const char *b, size_t b_size)
{
    int c = memcmp(a, b, a_size < b_size ? a_size : b_size);
    return c ? c : a_size < b_size ? -1 : a_size > b_size;
}

EV__FN int ev__by_score(const void *pa, const void *pb)
{
    const ev_hit *a = (const ev_hit *)pa, *b = (const ev_hit *)pb;
    if (a->score > b->score) return -1;
    if (a->score < b->score) return 1;
    return ev_compare_ids(b->id, b->id_size, a->id, a->id_size);
}

/* Best first, as trec_eval orders them. No score may be NaN. */
EV__FN void ev_rank(ev_hit *hits, size_t count)
{
    if (count) qsort(hits, count, sizeof *hits, ev__by_score);
}

#define EV_UNJUDGED (-1)               /* the grade of a document that nobody judged */

typedef struct ev_ranking {
    const int32_t *grade;              /* [count] of the ranked documents, best first; below zero: not relevant */
    size_t         count;
    const int32_t *judged;             /* [judged_count] all grades of the query, the highest first */
    size_t         judged_count;
    int32_t        level;              /* the least grade that is relevant; at least 1 */
} ev_ranking;

EV__FN int ev__grades_down(const void *pa, const void *pb)
{
    int32_t a = *(const int32_t *)pa, b = *(const int32_t *)pb;
    return a < b ? 1 : a > b ? -1 : 0;
}

/* Puts all grades of a query into the order that ev_ranking.judged asks for. */
EV__FN void ev_sort_grades(int32_t *grades, size_t count)
{
    if (count) qsort(grades, count, sizeof *grades, ev__grades_down);
}

/* Discounted cumulative gain of the first n grades: grade / log2(rank + 1). */
EV__FN double ev__dcg(const int32_t *grade, size_t n)
{
    double sum = 0;
    size_t i;
    for (i = 0; i < n; i++)
        if (grade[i] > 0) sum += (double)grade[i] / log2((double)(i + 2));
    return sum;
}

/* What the first relevant documents tell: how many there are among the first n, the rank of the first (0: none), and the sum
   of the precisions at each. */
typedef struct ev__hits { size_t found, first; double precisions; } ev__hits;

EV__FN ev__hits ev__count(const ev_ranking *r, size_t n)
{
    ev__hits h = { 0, 0, 0 };
    size_t i;
    for (i = 0; i < n; i++) {
        if (r->grade[i] < r->level) continue;
        if (!h.found++) h.first = i + 1;
        h.precisions += (double)h.found / (double)(i + 1);
    }
    return h;
}

EV__FN size_t ev__relevant(const ev_ranking *r)
{
    size_t n = 0;
    while (n < r->judged_count && r->judged[n] >= r->level) n++;
    return n;
}

/* The measure of one query. NaN: it is not defined (capped recall of a query without relevant documents), and LMEB leaves such
   queries out of its mean. */
EV__FN double ev_value(ev_measure m, const ev_ranking *r)
{
    size_t n = m.cut && m.cut < r->count ? m.cut : r->count, relevant = ev__relevant(r);
    ev__hits h = ev__count(r, n);
    double best;
    switch (m.kind) {
    case EV_NDCG:
        best = ev__dcg(r->judged, m.cut && m.cut < r->judged_count ? m.cut : r->judged_count);
        return best > 0 ? ev__dcg(r->grade, n) / best : 0;
    case EV_MAP: return h.found ? h.precisions / (double)relevant : 0;
    case EV_MRR: return h.found ? 1.0 / (double)h.first : 0;
    case EV_RECALL: return relevant ? (double)h.found / (double)relevant : 0;
    case EV_PRECISION: return (double)h.found / (double)m.cut;
    case EV_SUCCESS: return h.found ? 1 : 0;
    case EV_RCAP:
        if (!relevant) return (double)NAN;
        return (double)h.found / (double)(relevant < m.cut ? relevant : m.cut);
    case EV_NUM_RET: return (double)r->count;
    case EV_NUM_REL: return (double)relevant;
    case EV_NUM_REL_RET: return (double)h.found;
    case EV_NUM_Q: return 1;
    case EV_KINDS: break;
    }
    return 0;
}

/* ---- many queries --------------------------------------------------------------------------------------------- */

/* The mean (of a count: the sum) of the values of `count` queries, which stand in the order of their ids, as trec_eval adds
   them up. NaN among them: such a query has no value and takes no part. NaN: no query has one. */
EV__FN double ev_mean(ev_measure m, const double *value, size_t count)
{
    double sum = 0;
    size_t i, defined = 0;
    for (i = 0; i < count; i++) {
        if (value[i] != value[i]) continue;
        sum += value[i];
        defined++;
    }
    if (ev_is_count(m)) return sum;
    return defined ? sum / (double)defined : (double)NAN;
}

#endif
