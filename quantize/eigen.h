/* eigen.h - dense linear algebra for symmetric matrices of a few thousand rows, in doubles: eigenvectors, and the Cholesky
   factor. Matrices lie row behind row. Every operation is one of IEEE's in a fixed order, so every machine leaves the same bits. */
#ifndef KALM__EIGEN_H
#define KALM__EIGEN_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include <math.h>

KALM__FN double kalm__dot_double(const double *a, const double *b, size_t n)
{
    double sum[4] = { 0, 0, 0, 0 };
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        sum[0] += a[i] * b[i];
        sum[1] += a[i + 1] * b[i + 1];
        sum[2] += a[i + 2] * b[i + 2];
        sum[3] += a[i + 3] * b[i + 3];
    }
    for (; i < n; i++) sum[0] += a[i] * b[i];
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

KALM__FN void kalm__add_double(double *y, double by, const double *x, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) y[i] += by * x[i];
}

/* g [n][n] = L L^T: L takes the place of g's lower triangle. Returns 0 where g is not positive definite. */
KALM__FN int kalm__cholesky(double *g, size_t n)
{
    size_t i, j;
    for (i = 0; i < n; i++) {
        double *row = g + i * n, rest;
        for (j = 0; j < i; j++) row[j] = (row[j] - kalm__dot_double(row, g + j * n, j)) / g[j * n + j];
        rest = row[i] - kalm__dot_double(row, row, i);
        if (!(rest > 0)) return 0;
        row[i] = sqrt(rest);
    }
    return 1;
}

/* Householder's reflections bring a [n][n] to three diagonals, d and e: a = Q t Q^T. The vector of reflection k, whose length is the
   root of 2, takes the place of a's row k from place k + 1 on. w: [n] */
KALM__FN void kalm__tridiagonal(double *a, size_t n, double *d, double *e, double *w)
{
    size_t k, i;
    for (k = 0; k + 2 < n; k++) {
        double *v = a + k * n + k + 1, length, first, mix;
        size_t m = n - k - 1;
        d[k] = a[k * n + k];
        length = sqrt(kalm__dot_double(v, v, m));
        e[k] = v[0] > 0 ? -length : length;
        first = v[0] - e[k];
        v[0] = first;
        length = kalm__dot_double(v, v, m);
        if (!(length > 0)) {
            memset(v, 0, m * sizeof *v);
            continue;
        }
        length = sqrt(2 / length);
        for (i = 0; i < m; i++) v[i] *= length;
        for (i = 0; i < m; i++) w[i] = kalm__dot_double(a + (k + 1 + i) * n + k + 1, v, m);
        mix = kalm__dot_double(v, w, m) / 2;
        kalm__add_double(w, -mix, v, m);
        for (i = 0; i < m; i++) {
            kalm__add_double(a + (k + 1 + i) * n + k + 1, -v[i], w, m);
            kalm__add_double(a + (k + 1 + i) * n + k + 1, -w[i], v, m);
        }
    }
    for (; k < n; k++) {
        d[k] = a[k * n + k];
        e[k] = k + 1 < n ? a[k * n + k + 1] : 0;
    }
}

/* Implicit QL steps with Wilkinson's shift bring the three diagonals to one; z [n][n] has its rows turned along. Returns 0 where
   that takes too long, as with numbers that are none. */
KALM__FN int kalm__diagonal(double *d, double *e, double *z, size_t n)
{
    size_t l, m, i, k, steps = 0;
    for (l = 0; l < n; l++)
        for (;;) {
            double g, r, s = 1, c = 1, p = 0;
            for (m = l; m + 1 < n; m++)
                if (fabs(e[m]) <= 1e-16 * (fabs(d[m]) + fabs(d[m + 1]))) break;
            if (m == l) break;
            if (steps++ > 60 * n) return 0;
            g = (d[l + 1] - d[l]) / (2 * e[l]);
            r = sqrt(g * g + 1);
            g = d[m] - d[l] + e[l] / (g + (g < 0 ? -r : r));
            for (i = m; i-- > l; ) {
                double f = s * e[i], b = c * e[i], *low = z + i * n, *high = low + n;
                r = sqrt(f * f + g * g);
                e[i + 1] = r;
                if (!(r > 0)) {
                    d[i + 1] -= p;
                    e[m] = 0;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                r = (d[i] - g) * s + 2 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
                for (k = 0; k < n; k++) {
                    double t = high[k];
                    high[k] = s * low[k] + c * t;
                    low[k] = c * low[k] - s * t;
                }
            }
            if (i + 1 > l) continue;               /* ended early */
            d[l] -= p;
            e[l] = g;
            e[m] = 0;
        }
    return 1;
}

/* The eigenvectors of a [n][n], as rows of z [n][n], by falling eigenvalue d [n]; a is used up. work: [2 n]. Returns 0 on failure. */
KALM__FN int kalm__eigenvectors(double *a, size_t n, double *z, double *d, double *work)
{
    double *e = work, *w = work + n;
    size_t i, j, k;
    kalm__tridiagonal(a, n, d, e, w);
    memset(z, 0, n * n * sizeof *z);
    for (i = 0; i < n; i++) z[i * n + i] = 1;
    if (!kalm__diagonal(d, e, z, n)) return 0;
    for (i = 0; i < n; i++)
        for (k = n > 2 ? n - 2 : 0; k--; ) {
            const double *v = a + k * n + k + 1;
            kalm__add_double(z + i * n + k + 1, -kalm__dot_double(v, z + i * n + k + 1, n - k - 1), v, n - k - 1);
        }
    for (i = 0; i < n; i++) {
        size_t best = i;
        for (j = i + 1; j < n; j++)
            if (d[j] > d[best]) best = j;
        if (best != i) {
            double t = d[i];
            d[i] = d[best];
            d[best] = t;
            for (k = 0; k < n; k++) t = z[i * n + k], z[i * n + k] = z[best * n + k], z[best * n + k] = t;
        }
    }
    return 1;
}

#endif
