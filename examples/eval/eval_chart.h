/* eval_chart.h - kalm-eval --chart FILE.svg: what rows of few bits and large ratios cost in quality, as one picture. Across, on a scale of
   powers of 2, the bytes of a stored document; up, the first measure of the ranking; a curve for each row type, a point for each ratio.
   Written as SVG by this part alone, so that nothing need be installed. */
#ifndef EVAL_CHART_H
#define EVAL_CHART_H

#include "eval_report.h"

enum { EV_CHART_MOST = EV_KINDS_MOST };

typedef struct ev_chart_point { uint32_t bits, ratio; double bytes, quality; } ev_chart_point;

typedef struct ev_chart {
    ev_chart_point point[EV_CHART_MOST];
    size_t points;
    char   measure[32];
} ev_chart;

/* One ranking's ratios become points. Points beyond the chart's room are left out. */
EV__FN void ev_chart_add(ev_chart *c, const ev_report *r, const ev_ranked *m, uint32_t bits)
{
    double *mean = (double *)cmd_alloc(r->s->measures * sizeof *mean);
    size_t k;
    ev_measure_name(r->s->measure[0], 0, c->measure);
    for (k = 0; m->documents && k < r->kinds && c->points < EV_CHART_MOST; k++) {
        ev_chart_point *p = &c->point[c->points++];
        ev_means_of(r, m->margin[k], mean);
        p->bits = bits;
        p->ratio = r->kind[k].ratio;
        p->bytes = m->bytes[k] / (double)m->documents;
        p->quality = mean[0];
    }
    free(mean);
}

enum { EV_CHART_WIDTH = 760, EV_CHART_HEIGHT = 460, EV_CHART_LEFT = 70, EV_CHART_RIGHT = 640, EV_CHART_TOP = 30, EV_CHART_BOTTOM = 400 };

/* What the axes span: powers of 2 of bytes, hundredths of the measure. */
typedef struct ev_chart_axes { int least_power, most_power, low, high; } ev_chart_axes;

EV__FN ev_chart_axes ev__chart_axes(const ev_chart *c)
{
    ev_chart_axes a = { 62, 0, 100, 0 };
    size_t i;
    for (i = 0; i < c->points; i++) {
        const ev_chart_point *p = &c->point[i];
        int power = 0;
        while (power < 61 && p->bytes >= ldexp(1, power + 1)) power++;
        if (power < a.least_power) a.least_power = power;
        if (power + 1 > a.most_power) a.most_power = power + 1;
        if ((int)floor(100 * p->quality) < a.low) a.low = (int)floor(100 * p->quality);
        if ((int)ceil(100 * p->quality) > a.high) a.high = (int)ceil(100 * p->quality);
    }
    if (a.high <= a.low) a.high = a.low + 1;
    return a;
}

EV__FN double ev__chart_x(const ev_chart_axes *a, double bytes)
{
    double share = (log(bytes) / log(2.0) - a->least_power) / (a->most_power - a->least_power);
    return EV_CHART_LEFT + share * (EV_CHART_RIGHT - EV_CHART_LEFT);
}

EV__FN double ev__chart_y(const ev_chart_axes *a, double quality)
{
    return EV_CHART_BOTTOM - (100 * quality - a->low) / (a->high - a->low) * (EV_CHART_BOTTOM - EV_CHART_TOP);
}

EV__FN void ev__chart_grid(FILE *f, const ev_chart_axes *a, const char *measure)
{
    int i, every = (a->high - a->low + 9) / 10;
    for (i = a->least_power; i <= a->most_power; i++) {
        double x = ev__chart_x(a, ldexp(1, i));
        fprintf(f, "<path d=\"M%.1f %dV%d\" stroke=\"#ddd\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f%s</text>\n", x, EV_CHART_TOP,
                EV_CHART_BOTTOM, x, EV_CHART_BOTTOM + 18, ldexp(1, i < 10 ? i : i - 10), i < 10 ? "" : "k");
    }
    for (i = a->low; i <= a->high; i += every) {
        double y = ev__chart_y(a, i / 100.0);
        fprintf(f, "<path d=\"M%d %.1fH%d\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.2f</text>\n", EV_CHART_LEFT, y,
                EV_CHART_RIGHT, EV_CHART_LEFT - 8, y + 4, i / 100.0);
    }
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">bytes a document</text><text x=\"%d\" y=\"18\">%s</text>\n",
            (EV_CHART_LEFT + EV_CHART_RIGHT) / 2, EV_CHART_BOTTOM + 42, EV_CHART_LEFT - 50, measure);
}

/* The chart into the file at `path`, whole or not at all. */
EV__FN void ev_chart_write(const ev_chart *c, const char *path)
{
    static const char *const colours[6] = { "#000000", "#0072b2", "#009e73", "#e69f00", "#d55e00", "#cc79a7" };   /* told apart by all eyes */
    cmd_output out;
    FILE *f = cmd_output_begin(&out, path);
    ev_chart_axes a = ev__chart_axes(c);
    size_t i, k, curve = 0;
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
               "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n", EV_CHART_WIDTH, EV_CHART_HEIGHT);
    ev__chart_grid(f, &a, c->measure);
    for (i = 0; i < c->points; i = k, curve++) {
        const char *colour = colours[curve % 6];
        fprintf(f, "<g stroke=\"%s\" fill=\"none\" stroke-width=\"2\"><path d=\"", colour);
        for (k = i; k < c->points && c->point[k].bits == c->point[i].bits; k++)
            fprintf(f, "%c%.1f %.1f", k == i ? 'M' : 'L', ev__chart_x(&a, c->point[k].bytes), ev__chart_y(&a, c->point[k].quality));
        fputs("\"/>", f);
        for (k = i; k < c->points && c->point[k].bits == c->point[i].bits; k++)
            fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"><title>%lu bits, ratio %lu: %.0f bytes, %.4f</title></circle>",
                    ev__chart_x(&a, c->point[k].bytes), ev__chart_y(&a, c->point[k].quality), colour, (unsigned long)c->point[k].bits,
                    (unsigned long)c->point[k].ratio, c->point[k].bytes, c->point[k].quality);
        fprintf(f, "</g>\n<path d=\"M%d %dh24\" stroke=\"%s\" stroke-width=\"2\"/><text x=\"%d\" y=\"%d\">%lu bits</text>\n", EV_CHART_RIGHT + 20,
                EV_CHART_TOP + 20 * (int)curve + 8, colour, EV_CHART_RIGHT + 52, EV_CHART_TOP + 20 * (int)curve + 12,
                (unsigned long)c->point[i].bits);
    }
    fputs("</svg>\n", f);
    cmd_output_end(&out);
}

#endif
