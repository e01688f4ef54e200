/* progress.h - how far a job is, the same for every command: on a terminal one line that is drawn again, with a bar, what the
   caller says of its rate, and the time left; elsewhere a line from time to time, or nothing. Always on standard error. */
#ifndef KALM_PROGRESS_H
#define KALM_PROGRESS_H

#include "files.h"
#include <stdio.h>

typedef struct cmd_progress {
    const char *what;                  /* the job in a word, "ranking", before the bar; "": nothing */
    double      begun, drawn_at;       /* seconds, see kalm__now */
    double      patience;              /* a job that takes fewer seconds shows nothing */
    double      every;                 /* where there is no terminal: seconds between two lines; 0: no lines */
    uint64_t    done, total;           /* of what the caller counts; total 0: unknown */
    int         width;                 /* of the terminal; 0: there is none */
    int         quiet, drawn;
} cmd_progress;

/* A job that shows itself on a terminal alone, from its second half second on. */
KALM__FN void cmd_progress_begin(cmd_progress *p, const char *what)
{
    memset(p, 0, sizeof *p);
    p->what = what;
    p->begun = p->drawn_at = kalm__now();
    p->patience = 0.5;
    p->width = kalm__terminal_width();
}

/* Take the line away, for something else to be printed. */
KALM__FN void cmd_progress_clear(cmd_progress *p)
{
    if (p->drawn) fprintf(stderr, "\r%*s\r", p->width - 1, "");
    p->drawn = 0;
}

KALM__FN void cmd_progress_end(cmd_progress *p) { cmd_progress_clear(p); }

/* Is it time to draw again? Asked before what costs time to find out. */
KALM__FN int cmd_progress_due(const cmd_progress *p)
{
    double now = kalm__now();
    if (p->quiet || (!p->width && p->every <= 0)) return 0;
    return now - p->begun >= p->patience && now - p->drawn_at >= (p->width ? 0.1 : p->every);
}

/* "40 s", "12 min", "3.5 h" into out; returns its length. */
KALM__FN int cmd__time(char *out, size_t room, double seconds)
{
    if (seconds < 100) return snprintf(out, room, "%.0f s", seconds);
    if (seconds < 6000) return snprintf(out, room, "%.0f min", seconds / 60);
    return snprintf(out, room, "%.1f h", seconds / 3600);
}

/* One line: the bar and the percentage for 0 <= share <= 1 (below 0: unknown), `note`, and the time left when it is known
   (below 0: it is not). The caller has asked cmd_progress_due. */
KALM__FN void cmd_progress_line(cmd_progress *p, double share, const char *note, double left)
{
    char line[400], bar[31];
    int n = 0, i, cells = p->width - 48;
    share = share > 1 ? 1 : share;
    if (*p->what) n += snprintf(line + n, sizeof line - (size_t)n, "%.60s ", p->what);
    cells = cells > 30 ? 30 : cells;
    if (share >= 0 && cells > 4) {
        for (i = 0; i < cells; i++) bar[i] = i < (int)(share * cells) ? '#' : '.';
        n += snprintf(line + n, sizeof line - (size_t)n, "[%.*s] ", cells, bar);
    }
    if (share >= 0) n += snprintf(line + n, sizeof line - (size_t)n, "%3.0f %%", share * 100);
    if (*note) n += snprintf(line + n, sizeof line - (size_t)n, "  %.200s", note);
    if (left >= 0) {
        n += snprintf(line + n, sizeof line - (size_t)n, "  ");
        n += cmd__time(line + n, sizeof line - (size_t)n, left);
        snprintf(line + n, sizeof line - (size_t)n, " left");
    }
    if (p->width) fprintf(stderr, "\r%-*.*s", p->width - 1, p->width - 1, line);
    else fprintf(stderr, "%s\n", line);
    fflush(stderr);
    p->drawn = p->width != 0;
    p->drawn_at = kalm__now();
}

/* The library's callback (kalm_params.progress, user a cmd_progress): draws, and cancels the call when a signal came. */
KALM__FN int cmd_progress_step(void *user, size_t done, size_t total)
{
    cmd_progress *p = (cmd_progress *)user;
    if (cmd_progress_due(p)) {
        double share = total ? (double)done / (double)total : 1;
        cmd_progress_line(p, share, "", share > 0.02 ? (kalm__now() - p->begun) / share * (1 - share) : -1);
    }
    return kalm__interrupted != 0;
}

/* Of a job that counts bytes in p->done and p->total: the share, the rate, what is being done. */
KALM__FN void cmd_progress_bytes(cmd_progress *p, const char *what)
{
    double passed = kalm__now() - p->begun, rate = passed > 0 ? (double)p->done / passed : 0;
    char note[240];
    if (!p->width || !cmd_progress_due(p)) return;
    snprintf(note, sizeof note, "%.0f MB/s  %s", rate / 1e6, what);
    cmd_progress_line(p, p->total ? (double)p->done / (double)p->total : 0, note,
                      rate > 0 && passed > 0.5 ? (double)(p->total - p->done) / rate : -1);
}

/* A step of such a job begins; where there is no terminal, a line says so. */
KALM__FN void cmd_progress_stage(cmd_progress *p, const char *what)
{
    if (p->quiet || p->width) return;
    fprintf(stderr, "%5.1f s  %3.0f %%  %s\n", kalm__now() - p->begun,
            p->total ? 100.0 * (double)p->done / (double)p->total : 0.0, what);
}

#endif
