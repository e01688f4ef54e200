/* progress.h - how far a conversion is: a bar with rate and time left on a terminal, else one line a step, both on
   standard error. */
#ifndef KALM__PROGRESS_H
#define KALM__PROGRESS_H

#include "files.h"
#include <stdio.h>

typedef struct kalm__bar {
    double   begun, drawn;
    uint64_t done, total;              /* bytes of the checkpoint */
    int      width;                    /* of the terminal; 0: lines instead of a bar */
    int      quiet, shown;
} kalm__bar;

KALM__FN void kalm__bar_clear(kalm__bar *p)
{
    if (p->shown) fprintf(stderr, "\r%*s\r", p->width - 1, "");
    p->shown = 0;
}

KALM__FN void kalm__bar_step(kalm__bar *p, const char *what)
{
    if (p->quiet || p->width) return;
    fprintf(stderr, "%5.1f s  %3.0f %%  %s\n", kalm__now() - p->begun,
            p->total ? 100.0 * (double)p->done / (double)p->total : 0.0, what);
}

KALM__FN void kalm__bar_draw(kalm__bar *p, const char *what)
{
    double now = kalm__now(), passed = now - p->begun, share, rate;
    char line[240], bar[31];
    int i, n;
    if (p->quiet || !p->width || now - p->drawn < 0.1) return;
    p->drawn = now;
    share = p->total ? (double)p->done / (double)p->total : 0;
    rate = passed > 0 ? (double)p->done / passed : 0;
    for (i = 0; i < 30; i++) bar[i] = i < (int)(share * 30) ? '#' : '.';
    bar[30] = 0;
    n = snprintf(line, sizeof line, "[%s] %3.0f %%  %.0f MB/s", bar, share * 100, rate / 1e6);
    if (rate > 0 && passed > 0.5)
        n += snprintf(line + n, sizeof line - (size_t)n, "  %.0f s left", (double)(p->total - p->done) / rate);
    snprintf(line + n, sizeof line - (size_t)n, "  %s", what);
    fprintf(stderr, "\r%-*.*s", p->width - 1, p->width - 1, line);
    p->shown = 1;
}

#endif
