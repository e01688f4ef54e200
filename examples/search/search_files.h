/* search_files.h - which files there are below the files and folders that were named. Nothing is opened. Names that begin with a
   dot, links below a named folder, and what is no regular file (pipes, devices, sockets) are passed over, so a walk ends.
   Names are bytes: a name may hold a newline or be no UTF-8. Included behind command.h. */
#ifndef KALM_SEARCH_FILES_H
#define KALM_SEARCH_FILES_H

#include <dirent.h>

enum { SEARCH_DEEPEST = 128 };         /* folders within folders */

typedef struct search_file {
    char   *path;                      /* from the root, owned */
    int64_t size, modified;            /* bytes; nanoseconds since 1970 */
    int     mail;                      /* in the folder cur or new of a Maildir: one message */
    int     done;                      /* nothing is left to do for it in this pass */
} search_file;

typedef struct search_files {
    search_file *file;                 /* [count] sorted by path when the walk is done */
    size_t       count, room;
    char       **folder;               /* [folders] that were walked: what --watch looks at */
    size_t       folders, folder_room;
    char       **closed;               /* [closeds] folders that could not be read: what lies in them is not gone */
    size_t       closeds, closed_room;
    size_t       unread;               /* files and folders that could not be looked at, as was said */
    struct stat  own[STORE_FILES];     /* the database and what lies beside it: no input */
    int          owns;
    int          quiet;
} search_files;

KALM__FN void search_list_add(char ***list, size_t *count, size_t *room, const char *path)
{
    if (*count == *room) *list = (char **)cmd_grow(*list, (*room = *room ? *room * 2 : 64) * sizeof(char *));
    (*list)[(*count)++] = cmd_copy(kalm__text(path));
}

KALM__FN int64_t search_modified(const struct stat *st)
{
#if defined(__APPLE__)
    return (int64_t)st->st_mtimespec.tv_sec * 1000000000 + st->st_mtimespec.tv_nsec;
#else
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
#endif
}

KALM__FN void search_files_begin(search_files *f, const char *database)
{
    size_t i;
    memset(f, 0, sizeof *f);
    for (i = 0; i < STORE_FILES; i++) {
        char *name = (char *)cmd_alloc(strlen(database) + 16);
        sprintf(name, "%s%s", database, store_files[i]);
        if (!stat(name, &f->own[f->owns])) f->owns++;
        free(name);
    }
}

KALM__FN int search_is_own(const search_files *f, const struct stat *st)
{
    int i;
    for (i = 0; i < f->owns; i++)
        if (f->own[i].st_dev == st->st_dev && f->own[i].st_ino == st->st_ino) return 1;
    return 0;
}

KALM__FN void search_files_put(search_files *f, char *path, const struct stat *st, int mail)
{
    search_file *one;
    if (f->count == f->room) f->file = (search_file *)cmd_grow(f->file, (f->room = f->room ? f->room * 2 : 256) * sizeof *f->file);
    one = &f->file[f->count++];
    one->path = path;
    one->size = (int64_t)st->st_size;
    one->modified = search_modified(st);
    one->mail = mail;
    one->done = 0;
}

/* 1, 0, or -1 where nobody can tell. */
KALM__FN int search_is_folder(const char *path, const char *name)
{
    char *whole = kalm__join_path(path, name);
    struct stat st;
    int is;
    if (!whole) die("no memory for a path");
    if (!lstat(whole, &st)) is = S_ISDIR(st.st_mode) != 0;
    else is = errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : -1;     /* EACCES: its folder may not be entered at all */
    free(whole);
    return is;
}

/* A Maildir has these three folders; messages that are being delivered lie in tmp. -1: nobody can tell. */
KALM__FN int search_is_maildir(const char *path)
{
    static const char *const names[] = { "cur", "new", "tmp" };
    int i, is = 1;
    for (i = 0; i < 3 && is > 0; i++) is = search_is_folder(path, names[i]);
    return is;
}

KALM__FN void search_cannot(search_files *f, const char *path, const char *why)
{
    say_plainly("%s: %s", path, why);
    f->unread++;
    search_list_add(&f->closed, &f->closeds, &f->closed_room, path);
}

/* mail: the folder is cur or new of a Maildir. Folders are walked one at a time, so that few are open. */
KALM__FN void search_walk(search_files *f, const char *path, int mail, int depth)
{
    int maildir = mail || depth > SEARCH_DEEPEST ? 0 : search_is_maildir(path);
    DIR *d = depth > SEARCH_DEEPEST || maildir < 0 ? NULL : opendir(path);
    struct dirent *e = NULL;
    char **inner = NULL;
    size_t inners = 0, room = 0, i;
    if (!d) {
        search_cannot(f, path, depth > SEARCH_DEEPEST ? "more than 128 folders deep: left out" : kalm__os_error());
        return;
    }
    search_list_add(&f->folder, &f->folders, &f->folder_room, path);
    while (!kalm__interrupted && (errno = 0, e = readdir(d)) != NULL) {
        struct stat st;
        char *whole;
        if (e->d_name[0] == '.') continue;
        whole = kalm__join_path(path, e->d_name);
        if (!whole) die("no memory for a path");
        if (lstat(whole, &st)) {       /* it went away meanwhile, or its folder may be listed but not entered */
            if (errno != ENOENT) search_cannot(f, whole, kalm__os_error());
        } else if (S_ISDIR(st.st_mode)) {
            if (!maildir || strcmp(e->d_name, "tmp")) search_list_add(&inner, &inners, &room, whole);
        } else if (S_ISREG(st.st_mode) && !search_is_own(f, &st)) {
            search_files_put(f, whole, &st, mail);
            continue;
        }
        free(whole);
    }
    if (!e && errno && !kalm__interrupted) search_cannot(f, path, kalm__os_error());    /* what it did not list is not gone */
    closedir(d);
    for (i = 0; i < inners; i++) {
        const char *name = strrchr(inner[i], '/') + 1;
        if (!kalm__interrupted) search_walk(f, inner[i], maildir && (!strcmp(name, "cur") || !strcmp(name, "new")), depth + 1);
        free(inner[i]);
    }
    free(inner);
}

/* A path that the user named, in its one form from the root (realpath). 0: there is nothing of that name any more; -1: it cannot be
   looked at, as was said. */
KALM__FN int search_files_add(search_files *f, const char *path)
{
    struct stat st;
    if (stat(path, &st)) {
        if (errno == ENOENT || errno == ENOTDIR) return 0;
        search_cannot(f, path, kalm__os_error());
        return -1;
    }
    if (S_ISDIR(st.st_mode)) {
        const char *name = strrchr(path, '/');
        char *above = cmd_copy(kalm__text(path));
        int mail = 0;
        if (name && name > path) {     /* the folder cur of a Maildir is named by itself */
            above[name - path] = 0;
            mail = !strcmp(name, "/cur") || !strcmp(name, "/new") ? search_is_maildir(above) : 0;
        }
        free(above);
        if (mail < 0) search_cannot(f, path, kalm__os_error());
        else search_walk(f, path, mail, 0);
    } else if (S_ISREG(st.st_mode) && !search_is_own(f, &st)) search_files_put(f, cmd_copy(kalm__text(path)), &st, 0);
    return 1;
}

KALM__FN int search_by_path(const void *pa, const void *pb)
{
    return strcmp(((const search_file *)pa)->path, ((const search_file *)pb)->path);
}

/* Sorted, and each file once, though it lies below two that were named. */
KALM__FN void search_files_sort(search_files *f)
{
    size_t i, kept = 0;
    if (f->count) qsort(f->file, f->count, sizeof *f->file, search_by_path);
    for (i = 0; i < f->count; i++) {
        if (kept && !strcmp(f->file[kept - 1].path, f->file[i].path)) {
            f->file[kept - 1].mail |= f->file[i].mail;
            free(f->file[i].path);
        } else f->file[kept++] = f->file[i];
    }
    f->count = kept;
}

/* Is `path` the same as `above`, or below it? */
KALM__FN int search_is_below(const char *path, size_t size, const char *above)
{
    size_t n = strlen(above);
    if (n && above[n - 1] == '/') n--; /* the root folder alone */
    return size >= n && !memcmp(path, above, n) && (size == n || path[n] == '/');
}

KALM__FN void search_list_end(char **list, size_t count)
{
    size_t i;
    for (i = 0; i < count; i++) free(list[i]);
    free(list);
}

KALM__FN void search_files_end(search_files *f)
{
    size_t i;
    for (i = 0; i < f->count; i++) free(f->file[i].path);
    free(f->file);
    search_list_end(f->folder, f->folders);
    search_list_end(f->closed, f->closeds);
    memset(f, 0, sizeof *f);
}

#endif
