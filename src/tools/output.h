/* output.h - a text file that a command writes line by line with stdio, and that nobody sees before it is whole: sink.h with a
   FILE. What is no regular file (a pipe, /dev/stdout) is written to as it is. Every failure ends the command with a sentence. */
#ifndef KALM_OUTPUT_H
#define KALM_OUTPUT_H

#include "files.h"
#include "messages.h"
#include "sink.h"

typedef struct cmd_output {
    FILE       *f;
    kalm__sink  sink;                  /* sink.path NULL: f is the target itself */
    char       *path;
} cmd_output;

/* fopen with a path in UTF-8 */
KALM__FN FILE *cmd_fopen(const char *path, const char *mode)
{
#if defined(_WIN32)
    WCHAR wide_mode[8], *wide = kalm__wide_path(path);
    FILE *f = NULL;
    size_t i;
    for (i = 0; i < 7 && mode[i]; i++) wide_mode[i] = (WCHAR)mode[i];
    wide_mode[i] = 0;
    if (wide) f = _wfopen(wide, wide_mode);
    free(wide);
    return f;
#else
    return fopen(path, mode);
#endif
}

/* The file to print to, open. */
KALM__FN FILE *cmd_output_begin(cmd_output *o, const char *path)
{
    kalm_error err;
    int fd;
    memset(o, 0, sizeof *o);
    o->sink.fd = -1;
    o->path = cmd_copy(kalm__text(path));
#if !defined(_WIN32)
    {
        struct stat st;
        if (!stat(path, &st) && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
            o->f = cmd_fopen(path, "wb");
            if (!o->f) die("cannot write %s: %s", path, kalm__os_error());
            return o->f;
        }
    }
#endif
    if (kalm__sink_open(&o->sink, path, &err)) die("%s", err.text);
#if defined(_WIN32)
    fd = _dup(o->sink.fd);
    o->f = fd >= 0 ? _fdopen(fd, "wb") : NULL;
#else
    fd = dup(o->sink.fd);
    o->f = fd >= 0 ? fdopen(fd, "wb") : NULL;
#endif
    if (!o->f) {
        kalm__sink_abandon(&o->sink);
        die("cannot write %s: %s", path, kalm__os_error());
    }
    return o->f;
}

/* All is printed: the file gets its name. */
KALM__FN void cmd_output_end(cmd_output *o)
{
    kalm_error err;
    int bad = fflush(o->f) || ferror(o->f), why = errno;
    if (fclose(o->f)) {
        if (!bad) why = errno;
        bad = 1;
    }
    if (bad) {
        kalm__sink_abandon(&o->sink);
        die("cannot write %s: %s", o->path, strerror(why));
    }
    if (o->sink.path && kalm__sink_finish(&o->sink, &err)) {
        kalm__sink_abandon(&o->sink);
        die("%s", err.text);
    }
    free(o->path);
}

#endif
