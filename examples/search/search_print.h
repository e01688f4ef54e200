/* search_print.h - the answer to a question, for people and as JSON. Included behind search_query.h. */
#ifndef KALM_SEARCH_PRINT_H
#define KALM_SEARCH_PRINT_H

enum { SEARCH_SNIPPET = 280 };         /* bytes of a passage that are shown */

/* The path as the user would write it here: from the working directory where it lies below that. */
KALM__FN kalm_text search_near(kalm_text path)
{
    static char here[4096];
    size_t n;
    if (!*here && !getcwd(here, sizeof here)) strcpy(here, "/");
    n = strlen(here);
    if (n > 1 && path.size > 1 && path.data[1] != '/' && path.size > n + 1 && !memcmp(path.data, here, n) && path.data[n] == '/') path.data += n + 1, path.size -= n + 1;
    return path;
}

KALM__FN size_t search_next_word(kalm_text t, size_t i)
{
    size_t n, columns = 0;
    int w;
    for (; i < t.size; i += n) {
        if (cmd_char(t.data + i, t.size - i, &n, &w) == ' ') break;
        columns += (size_t)w;
    }
    return columns;
}

/* The snippet in lines of at most `width` columns, each behind `indent` spaces; words of the question between `on` and `off`. */
KALM__FN void search_print_snippet(FILE *f, const search_snippet *s, size_t width, size_t indent, const char *on, const char *off)
{
    kalm_text t = s->text;
    size_t i, n, column = 0, mark = 0;
    int w, space = 0, marked = 0;
    if (width < indent + 20) width = indent + 20;
    cmd_pad(f, 0, column = indent);
    if (s->cut_before) fputs("... ", f), column += 4;
    for (i = 0; i < t.size; i += n) {
        uint32_t c = cmd_char(t.data + i, t.size - i, &n, &w);
        if (marked && i >= s->mark[mark].to) fputs(off, f), marked = 0, mark++;
        if (c == ' ') {
            space = column > indent;
            continue;
        }
        if (column + (size_t)space + (space ? search_next_word(t, i) : (size_t)w) > width && column > indent) {
            fputc('\n', f);
            cmd_pad(f, 0, column = indent);
        } else if (space) fputc(' ', f), column++;
        space = 0;
        if (mark < s->marks && !marked && i >= s->mark[mark].from) fputs(on, f), marked = 1;
        if (c == 0xfffd) fputs("\xef\xbf\xbd", f);
        else if (c) fwrite(t.data + i, 1, n, f);
        column += (size_t)w;
    }
    if (marked) fputs(off, f);
    if (s->cut_after) fputs(" ...", f);
    fputc('\n', f);
}

KALM__FN kalm_text search_hit_path(const search_hit *h)
{
    kalm_text t;
    t.data = h->key;
    t.size = h->path_size;
    return t;
}

/* What a record is called within its file; empty where the file is one text. */
KALM__FN kalm_text search_hit_id(const search_hit *h)
{
    kalm_text t = kalm__text(h->key);
    size_t skip = kalm__min(t.size, h->path_size + 1);
    t.data += skip;
    t.size -= skip;
    return t;
}

KALM__FN kalm_text search_hit_text(const search_hit *h)
{
    kalm_text t;
    t.data = h->text;
    t.size = h->text_size;
    return t;
}

KALM__FN void search_print(const search_engine *e, const options *o, double total)
{
    size_t i, width = o->width ? o->width : cmd_width();
    int bold = o->mark == MARK_BOLD || (o->mark == MARK_AUTO && cmd_width());
    const char *on = o->mark == MARK_NONE ? "" : bold ? "\033[1m" : "**", *off = o->mark == MARK_NONE ? "" : bold ? "\033[0m" : "**";
    search_snippet s;
    memset(&s, 0, sizeof s);
    if (!width) width = 100;
    for (i = 0; i < e->hits; i++) {
        const search_hit *h = &e->hit[i];
        kalm_text id = search_hit_id(h);
        printf("%2lu  %.4f%c ", (unsigned long)i + 1, (double)h->score.score, h->score.cut & KALM_CUT_DOCUMENT ? '*' : ' ');
        cmd_print(stdout, search_near(search_hit_path(h)), (size_t)-1);
        if (id.size) fputc(' ', stdout), cmd_print(stdout, id, 60);
        if (*h->title) fputs("  ", stdout), cmd_print(stdout, kalm__text(h->title), 80);
        if (h->windows > 1) printf("  (passage %lld of %lld)", (long long)h->window + 1, (long long)h->windows);
        fputc('\n', stdout);
        search_make_snippet(&s, search_hit_text(h), e->term, e->terms, SEARCH_SNIPPET);
        if (s.text.size) search_print_snippet(stdout, &s, width, 4, on, off);
    }
    free(s.mark);
    if (!e->terms) fputs(e->all ? "no passage has a word of the question\n" : "the database holds no text\n", stdout);
    printf("%lu of %lu candidates among %lld passages; words %.1f ms, reading %.1f ms, model %.1f ms, %.1f ms in all\n", (unsigned long)e->hits,
           (unsigned long)e->candidates, (long long)e->all, e->bm25_time * 1e3, e->read_time * 1e3, e->rank_time * 1e3, total * 1e3);
    if (search_cut_question(e)) puts("the question is long: the model read its beginning alone");
    if (e->damaged) printf("%lu passages are damaged and were left out (kalm-index %s --verify)\n", (unsigned long)e->damaged, e->s.path);
}

/* Characters of `t` before byte `at`. */
KALM__FN uint64_t search_characters(kalm_text t, size_t at)
{
    size_t i;
    uint64_t n = 0;
    for (i = 0; i < at; i++) n += ((unsigned char)t.data[i] & 0xc0) != 0x80;
    return n;
}

/* One member "results" of an object that is open. */
KALM__FN void search_json_results(json_out *j, const search_engine *e)
{
    search_snippet s;
    size_t i, k;
    memset(&s, 0, sizeof s);
    json_key(j, "results");
    json_open(j, '[');
    for (i = 0; i < e->hits; i++) {
        const search_hit *h = &e->hit[i];
        kalm_text id = search_hit_id(h);
        search_make_snippet(&s, search_hit_text(h), e->term, e->terms, SEARCH_SNIPPET);
        json_newline(j);
        json_open(j, '{');
        json_key(j, "rank"), json_uint(j, i + 1);
        json_key(j, "score"), json_float(j, (double)h->score.score, 9);
        json_key(j, "margin"), json_float(j, (double)h->score.margin, 9);
        json_key(j, "bm25"), json_float(j, h->bm25, 6);
        json_key(j, "bm25_rank"), json_uint(j, (uint64_t)h->score.index + 1);
        json_key(j, "path"), json_text(j, search_hit_path(h));
        if (id.size) json_key(j, "id"), json_text(j, id);
        json_key(j, "key"), json_text(j, kalm__text(h->key));
        json_key(j, "title"), json_text(j, kalm__text(h->title));
        json_key(j, "passage"), json_uint(j, (uint64_t)h->window);
        json_key(j, "passages"), json_uint(j, (uint64_t)h->windows);
        json_key(j, "start"), json_uint(j, (uint64_t)h->start);
        json_key(j, "cut"), json_bool(j, h->score.cut != 0);
        json_key(j, "cut_document"), json_bool(j, (h->score.cut & KALM_CUT_DOCUMENT) != 0);
        json_key(j, "cut_query"), json_bool(j, (h->score.cut & KALM_CUT_QUERY) != 0);
        json_key(j, "snippet"), json_text(j, s.text);
        json_key(j, "highlights");
        json_open(j, '[');
        for (k = 0; k < s.marks; k++) {
            json_open(j, '[');
            json_uint(j, search_characters(s.text, s.mark[k].from));
            json_uint(j, search_characters(s.text, s.mark[k].to));
            json_close(j);
        }
        json_close(j);
        json_key(j, "text"), json_text(j, search_hit_text(h));
        json_key(j, "metadata"), json_raw(j, h->metadata);
        json_close(j);
    }
    json_newline(j);
    json_close(j);
    free(s.mark);
}

KALM__FN void search_print_json(const search_engine *e, kalm_text question, double total)
{
    json_out j;
    size_t i;
    json_begin(&j, stdout);
    json_open(&j, '{');
    json_key(&j, "question"), json_text(&j, question);
    json_key(&j, "words");
    json_open(&j, '[');
    for (i = 0; i < e->terms; i++) json_text(&j, kalm__text(e->term[i].word));
    json_close(&j);
    json_key(&j, "passages"), json_uint(&j, (uint64_t)e->all);
    json_key(&j, "candidates"), json_uint(&j, e->candidates);
    json_key(&j, "damaged"), json_uint(&j, e->damaged);
    search_json_results(&j, e);
    json_key(&j, "milliseconds");
    json_open(&j, '{');
    json_key(&j, "words"), json_float(&j, e->bm25_time * 1e3, 4);
    json_key(&j, "reading"), json_float(&j, e->read_time * 1e3, 4);
    json_key(&j, "model"), json_float(&j, e->rank_time * 1e3, 4);
    json_key(&j, "all"), json_float(&j, total * 1e3, 4);
    json_close(&j);
    json_close(&j);
}

#endif
