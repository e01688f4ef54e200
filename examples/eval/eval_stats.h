/* eval_stats.h - how much a difference between two rankings means: Kendall's tau, the paired bootstrap and the paired
   randomisation test. The same seed gives the same figures on every machine. Nothing here reads or prints. */
#ifndef EVAL_STATS_H
#define EVAL_STATS_H

#include "eval_measures.h"

/* The next of a stream of random numbers (splitmix64); *state may start anywhere. */
EV__FN uint64_t ev_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

typedef struct ev_test {
    double difference;                 /* mean of b minus mean of a */
    double low, high;                  /* the bootstrap's 95% interval of the difference */
    double p;                          /* two-sided, of the randomisation test: how often chance alone does as much */
    size_t queries;                    /* that have both values */
} ev_test;

EV__FN int ev__doubles_up(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;
    return a < b ? -1 : a > b;
}

/* Whether b is better than a over the same queries. Both are [count], NaN where a query has no value, and then the query does
   not take part. `rounds` samples (10,000 is usual) for each of the two methods: queries drawn with replacement (paired
   bootstrap, Efron and Tibshirani 1993; percentile interval), and signs of the differences drawn anew (randomisation test,
   Smucker et al. 2007; p = (as extreme + 1) / (rounds + 1), so it is never 0). Returns 0 without memory. */
EV__FN int ev_compare(ev_test *t, const double *a, const double *b, size_t count, size_t rounds, uint64_t seed)
{
    double *change = (double *)malloc((count ? count : 1) * sizeof *change);
    double *means = (double *)malloc((rounds ? rounds : 1) * sizeof *means), sum = 0;
    size_t i, k, n = 0, extreme = 0;
    memset(t, 0, sizeof *t);
    t->p = 1;
    if (!change || !means) {
        free(change);
        free(means);
        return 0;
    }
    for (i = 0; i < count; i++)
        if (a[i] == a[i] && b[i] == b[i]) sum += change[n++] = b[i] - a[i];
    t->queries = n;
    if (n && rounds) {
        t->difference = sum / (double)n;
        for (k = 0; k < rounds; k++) {
            double drawn = 0, flipped = 0;
            uint64_t bits = 0;
            for (i = 0; i < n; i++) drawn += change[(size_t)((ev_random(&seed) >> 32) * (uint64_t)n >> 32)];
            for (i = 0; i < n; i++) {
                if (i % 64 == 0) bits = ev_random(&seed);
                flipped += bits >> (i % 64) & 1 ? change[i] : -change[i];
            }
            means[k] = drawn / (double)n;
            /* a hair of slack: the same sum in another order differs by rounding, and is as extreme */
            if (fabs(flipped) >= fabs(sum) - 1e-12 * (double)n) extreme++;
        }
        qsort(means, rounds, sizeof *means, ev__doubles_up);
        t->low = means[(size_t)((double)(rounds - 1) * 0.025)];
        t->high = means[(size_t)((double)(rounds - 1) * 0.975)];
        t->p = (double)(extreme + 1) / (double)(rounds + 1);
    }
    free(change);
    free(means);
    return 1;
}

/* Kendall's tau-a of two scores of the same n documents; a tie in one of them counts 0, a tie in both (texts that are the
   same) as agreement. NaN: fewer than two documents. */
EV__FN double ev_kendall(const float *a, const float *b, size_t n)
{
    size_t i, k;
    double agree = 0;
    if (n < 2) return (double)NAN;
    for (i = 0; i < n; i++)
        for (k = i + 1; k < n; k++) {
            int x = (a[i] > a[k]) - (a[i] < a[k]), y = (b[i] > b[k]) - (b[i] < b[k]);
            agree += !x && !y ? 1 : x * y;
        }
    return agree / ((double)n * (double)(n - 1) / 2);
}

#endif
