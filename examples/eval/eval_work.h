/* eval_work.h - the folder in which kalm-eval --tables keeps what it has computed. It holds all that the tables are made of, so
   the folders of shards can be put together and the tables made again without models or data:

     queries/DATA.jsonl            what was asked: each query's candidates with the scores of the first stage, and its judgements
     margins/DATA,MODEL,KEY.journal   one model over one data set with one instruction; KEY is a hash of all that margins
     depend on lock                          held by the process that works here */
#ifndef EVAL_WORK_H
#define EVAL_WORK_H

#include "eval_instructions.h"
#include "eval_rank.h"
#if !defined(_WIN32)
#  include <sys/wait.h>
#endif

EV__FN void ev_make_folder(const char *path)
{
#if defined(_WIN32)
    WCHAR *wide = kalm__wide_path(path);
    if (wide) _wmkdir(wide);
    free(wide);
#else
    if (mkdir(path, 0777) && errno != EEXIST) die("cannot make the folder %s: %s", path, strerror(errno));
#endif
    if (!kalm__directory_exists(path)) die("cannot make the folder %s", path);
}

/* Two processes would write over each other's results; the second one ends here. The lock goes when the process does. */
EV__FN void ev_lock(const char *out)
{
#if !defined(_WIN32)
    char *path = ev_join(out, "lock");
    struct flock lock;
    int fd = open(path, O_RDWR | O_CREAT, 0666);
    if (fd < 0) die("cannot write %s: %s", path, strerror(errno));
    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (fcntl(fd, F_SETLK, &lock) && (errno == EACCES || errno == EAGAIN)) die("another kalm-eval is at work in %s", out);
    free(path);                        /* fd stays open */
#else
    (void)out;
#endif
}

EV__FN void ev_begin_work(const char *out)
{
    char *path;
    ev_make_folder(out);
    ev_lock(out);
    path = ev_join(out, "queries");
    ev_make_folder(path);
    free(path);
    path = ev_join(out, "margins");
    ev_make_folder(path);
    free(path);
}

/* A file name of any text: letters, digits, '-', '.' and '+' stay. At most 60 bytes. */
EV__FN void ev__put_name(ev_string *s, const char *text)
{
    size_t i;
    for (i = 0; text[i] && i < 60; i++) ev_put(s, ev__word(text[i]) || (strchr("-.+", text[i]) && i) ? text + i : "_", 1);
}

/* ---- what was asked ------------------------------------------------------------------------------------------- */

EV__FN void ev__write_line(FILE *f, ev_string *line)
{
    fprintf(f, "%016llx %s\n", (unsigned long long)ev_plain_hash(line->data, line->size), line->data);
    line->size = 0;
}

EV__FN void ev__query_line(ev_string *line, const ev_data *d, uint32_t q)
{
    size_t i;
    int some = 0;
    ev_printf(line, "{\"t\": \"query\", \"id\": ");
    ev_put_json(line, d->queries.id[q]);
    ev_printf(line, ", \"docs\": [");
    for (i = d->run.first[q]; i < d->run.first[q + 1]; i++) {
        if (i > d->run.first[q]) ev_put(line, ", ", 2);
        ev_put_json(line, d->docs.id[d->run.at[i].doc]);
    }
    ev_printf(line, "], \"scores\": [");
    for (i = d->run.first[q]; i < d->run.first[q + 1]; i++)
        ev_printf(line, i > d->run.first[q] ? ", %.9g" : "%.9g", fmin(fmax((double)d->run.at[i].score, -3.4e38), 3.4e38));
    ev_printf(line, "], \"lost\": [");         /* candidates that the corpus lacks */
    for (i = d->run.first[q]; i < d->run.first[q + 1]; i++) {
        if (d->doc_text[d->run.at[i].doc].data) continue;
        ev_printf(line, some++ ? ", %lu" : "%lu", (unsigned long)(i - d->run.first[q]));
    }
    ev_printf(line, "], \"judged\": [");
    for (i = d->qrels.first[q]; i < d->qrels.first[q + 1]; i++) {
        if (i > d->qrels.first[q]) ev_put(line, ", ", 2);
        ev_put_json(line, d->docs.id[d->qrels.at[i].doc]);
    }
    ev_printf(line, "], \"grades\": [");
    for (i = d->qrels.first[q]; i < d->qrels.first[q + 1]; i++)
        ev_printf(line, i > d->qrels.first[q] ? ", %ld" : "%ld", (long)d->qrels.at[i].grade);
    ev_printf(line, "]}");
}

/* Writes OUT/queries/DATA.jsonl, whole or not at all. */
EV__FN void ev_write_queries(const char *out, const ev_data *d)
{
    ev_string path = { NULL, 0, 0 }, line = { NULL, 0, 0 };
    cmd_output file;
    FILE *f;
    size_t u;
    ev_printf(&path, "%.400s/queries/", out);
    ev__put_name(&path, d->source.name);
    ev_printf(&path, ".jsonl");
    f = cmd_output_begin(&file, path.data);
    ev_printf(&line, "{\"t\": \"data\", \"name\": ");
    ev_put_json(&line, kalm__text(d->source.name));
    ev_printf(&line, ", \"layout\": \"%s\", \"first\": ", ev_layout_name(d->source.layout));
    ev_put_json(&line, kalm__text(d->first_stage));
    ev_printf(&line, "}");
    ev__write_line(f, &line);
    for (u = 0; u < d->uses; u++)
        if (d->run.first[d->use[u] + 1] > d->run.first[d->use[u]]) {
            ev__query_line(&line, d, d->use[u]);
            ev__write_line(f, &line);
        }
    cmd_output_end(&file);
    free(path.data), free(line.data);
}

/* ---- one job -------------------------------------------------------------------------------------------------- */

typedef struct ev_asked {
    const char    *label;              /* "published", "default" or "given" */
    ev_instruction instruction;
} ev_asked;

/* The header line, which is also what the key of the job is made from. */
EV__FN void ev__job_line(ev_string *line, const ev_data *d, const ev_job *job, const kalm_model_info *info, const ev_asked *asked)
{
    ev_printf(line, "{\"t\": \"job\", \"data\": ");
    ev_put_json(line, kalm__text(d->source.name));
    ev_printf(line, ", \"model\": ");
    ev_put_json(line, kalm__text(info->name));
    ev_printf(line, ", \"weights\": \"%.12s\", \"fingerprint\": \"%016llx\", \"width\": %lu, \"asked\": \"%s\", "
                    "\"instruction\": ", info->weights,
              (unsigned long long)info->fingerprint, (unsigned long)info->width, asked->label);
    ev_put_json(line, kalm__text(asked->instruction.text ? asked->instruction.text : ""));
    ev_printf(line, ", \"system\": ");
    ev_put_json(line, job->params.system.data ? job->params.system : kalm__text(""));
    ev_printf(line, ", \"max_doc_tokens\": %lu}", (unsigned long)(job->config.max_doc_tokens ? job->config.max_doc_tokens
                                                                  : 1024));
}

/* One model over one data set, going on where it was. */
EV__FN void ev_do_job(const char *out, const ev_data *d, ev_job *job, const ev_asked *asked, ev_ranked *ranked)
{
    ev_journal journal;
    ev_string path = { NULL, 0, 0 }, line = { NULL, 0, 0 }, spool = { NULL, 0, 0 };
    kalm_model *model = NULL;
    kalm_model_info info;
    kalm_error err;
    kalm_text header;
    int open_end;
    ev_check(kalm_model_open(job->path, NULL, &model, &err), &err);
    kalm_model_get_info(model, &info);
    ev__job_line(&line, d, job, &info, asked);
    ev_printf(&path, "%.400s/margins/", out);
    ev__put_name(&path, d->source.name);
    ev_put(&path, ",", 1);
    ev__put_name(&path, info.name);
    ev_printf(&path, "-%.12s,%016llx.journal", info.weights, (unsigned long long)ev_plain_hash(line.data, line.size));
    kalm_model_close(model);
    ev_put(&spool, path.data, path.size - strlen("journal"));
    ev_put(&spool, "spool", 5);
    memset(&journal, 0, sizeof journal);
    journal.path = path.data;
    journal.spool_path = spool.data;
    header.data = line.data;
    header.size = line.size;
    if (!ev_journal_has(path.data, header, &open_end)) {   /* it is new, or the run that began it was killed, or its line is damaged */
        ev_journal_open(&journal, open_end);
        journal.line = line;
        ev_journal_write(&journal);
        line = journal.line;
        if (fclose(journal.f)) die("cannot write %s: %s", path.data, strerror(errno));
        journal.f = NULL;
    }
    free(line.data);
    job->journal = &journal;
    ev_rank_all(ranked, d, job);
    if (journal.damaged)
        say("%s: %llu lines were damaged or cut off; what they held was computed again", path.data,
            (unsigned long long)journal.damaged);
    job->journal = NULL;
    free(path.data);
    free(spool.data);
}

/* ---- shards --------------------------------------------------------------------------------------------------- */

/* (What two shards both say, as the first line, is in the file twice: readers take it once.) */
EV__FN void ev__append_file(const char *from, FILE *to, const char *to_path)
{
    ev_file f;
    kalm_text line;
    ev_open(&f, from, NULL);
    while (ev_next_line(&f, &line)) {
        if (!ev_is_sound(line)) continue;
        if (fwrite(line.data, 1, line.size, to) != line.size || fputc('\n', to) == EOF)
            die("cannot write %s: %s", to_path, strerror(errno));
    }
    ev_close(&f);
}

/* Puts the results of shards together in OUT, which is made anew from them; lines that are damaged are left out. */
EV__FN void ev_merge(const char *out, const char *const *shard, size_t shards)
{
    static const char *const folders[2] = { "queries", "margins" };
    size_t i, k, n;
    ev_begin_work(out);
    for (k = 0; k < 2; k++) {
        char *dir = ev_join(out, folders[k]);
        ev_list l = ev_folder(dir);
        if (l.count) die("%s has results already; merge into a new folder", out);
        free(dir);
    }
    for (i = 0; i < shards; i++)
        for (k = 0; k < 2; k++) {
            char *from = ev_join(shard[i], folders[k]), *to = ev_join(out, folders[k]);
            ev_list l = ev_folder(from);
            if (!kalm__directory_exists(from)) die("%s has no results of kalm-eval --tables in it", shard[i]);
            for (n = 0; n < l.count; n++) {
                char *source = ev_join(from, l.name[n]), *target = ev_join(to, l.name[n]);
                FILE *f;
                if (!ev_ends_with(l.name[n], ".journal") && !ev_ends_with(l.name[n], ".jsonl")) continue;
                f = cmd_fopen(target, "ab");
                if (!f) die("cannot write %s: %s", target, strerror(errno));
                ev__append_file(source, f, target);
                if (fclose(f)) die("cannot write %s: %s", target, strerror(errno));
                free(source);
                free(target);
            }
            free(from);
            free(to);
        }
}

#endif
