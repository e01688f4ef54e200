/* search_mail.h - messages of a mailbox (mbox), or one message of a file, with GMime (HAVE_GMIME): the subject is the title; the text is
   what is written in plain text, or of a message of HTML alone what search_html.h makes of it; attachments are left out. From,
   date and recipients are metadata. Included behind search_html.h. */
#ifndef KALM_SEARCH_MAIL_H
#define KALM_SEARCH_MAIL_H

typedef struct search_message {
    search_buffer id, title, text, metadata;
} search_message;

KALM__FN void search_message_end(search_message *m)
{
    free(m->id.data);
    free(m->title.data);
    free(m->text.data);
    free(m->metadata.data);
    memset(m, 0, sizeof *m);
}

#ifdef HAVE_GMIME
#if defined(__GNUC__)
#  pragma GCC diagnostic push
#  pragma GCC diagnostic ignored "-Wcast-qual"
#  pragma GCC diagnostic ignored "-Wpedantic"
#  pragma GCC diagnostic ignored "-Wconversion"
#endif
#include <gmime/gmime.h>
#if defined(__GNUC__)
#  pragma GCC diagnostic pop
#endif

typedef struct search_mail {
    FILE        *file;                 /* the stream's own; it alone knows the difference between its end and a disk that fails */
    GMimeStream *stream;
    GMimeParser *parser;
    int          many;                 /* a mailbox, not one message */
} search_mail;

/* The text parts of a message, each added to `plain` or `html`. */
typedef struct search_parts { search_buffer plain, html; } search_parts;

KALM__FN void search_mail_part(GMimeObject *parent, GMimeObject *part, gpointer user)
{
    search_parts *p = (search_parts *)user;
    GMimeContentDisposition *disposition = g_mime_object_get_content_disposition(part);
    GMimeContentType *type = g_mime_object_get_content_type(part);
    search_buffer *to;
    char *text;
    (void)parent;
    if (!GMIME_IS_TEXT_PART(part) || !type) return;
    if (disposition && g_mime_content_disposition_is_attachment(disposition)) return;
    if (g_mime_content_type_is_type(type, "text", "plain")) to = &p->plain;
    else if (g_mime_content_type_is_type(type, "text", "html")) to = &p->html;
    else return;
    text = g_mime_text_part_get_text((GMimeTextPart *)part);
    if (!text) return;
    if (to->size) search_put(to, "\n", 1);
    search_put(to, text, strlen(text));
    g_free(text);
}

/* ill-formed bytes become U+FFFD, white space at both ends goes */
KALM__FN void search_mail_text(search_buffer *to, const char *s)
{
    size_t n = s ? strlen(s) : 0, i, size;
    while (n && strchr(" \t\r\n", *s)) s++, n--;
    while (n && strchr(" \t\r\n", s[n - 1])) n--;
    for (i = 0; i < n; i += size) {
        size = kalm__json_utf8((const unsigned char *)s + i, n - i);
        if (size && s[i] != '\r') search_put(to, s + i, size);
        else if (!size) search_put(to, "\xef\xbf\xbd", 3);
        if (!size) size = 1;
    }
}

KALM__FN void search_mail_member(search_buffer *to, const char *name, const char *value)
{
    search_buffer clean;
    char out[8];
    size_t i, n;
    if (!value || !*value) return;
    memset(&clean, 0, sizeof clean);
    search_mail_text(&clean, value);
    search_put(to, to->size ? ", \"" : "{\"", to->size ? 3 : 2);
    search_put(to, name, strlen(name));
    search_put(to, "\": \"", 4);
    for (i = 0; i < clean.size; i += n) {
        n = kalm__json_utf8((const unsigned char *)clean.data + i, clean.size - i);
        if (n > 1) search_put(to, clean.data + i, n);
        else n = 1, search_put(to, out, kalm__json_escape(clean.data + i, 1, out));
    }
    search_put(to, "\"", 1);
    free(clean.data);
}

KALM__FN void search_mail_take(GMimeMessage *message, search_message *m)
{
    search_parts parts;
    InternetAddressList *list;
    GDateTime *date;
    char *shown;
    memset(&parts, 0, sizeof parts);
    m->id.size = m->title.size = m->text.size = m->metadata.size = 0;
    search_mail_text(&m->id, g_mime_message_get_message_id(message));
    search_mail_text(&m->title, g_mime_message_get_subject(message));
    list = g_mime_message_get_from(message);
    shown = list ? internet_address_list_to_string(list, NULL, FALSE) : NULL;
    search_mail_member(&m->metadata, "from", shown);
    g_free(shown);
    list = g_mime_message_get_to(message);
    shown = list ? internet_address_list_to_string(list, NULL, FALSE) : NULL;
    search_mail_member(&m->metadata, "to", shown);
    g_free(shown);
    date = g_mime_message_get_date(message);
    shown = date ? g_date_time_format(date, "%Y-%m-%dT%H:%M:%S%z") : NULL;
    search_mail_member(&m->metadata, "date", shown);
    g_free(shown);
    search_put(&m->metadata, m->metadata.size ? "}" : "{}", m->metadata.size ? 1 : 2);
    g_mime_message_foreach(message, search_mail_part, &parts);
    if (parts.plain.size) search_mail_text(&m->text, parts.plain.data);
    else if (parts.html.size) {
        search_buffer text, title;
        memset(&text, 0, sizeof text);
        memset(&title, 0, sizeof title);
        if (search_html(parts.html.data, parts.html.size, &text, &title)) search_mail_text(&m->text, text.data);
        free(text.data);
        free(title.data);
    }
    free(parts.plain.data);
    free(parts.html.data);
}

/* 0: the file cannot be opened. */
KALM__FN int search_mail_begin(search_mail *m, const char *path, int many)
{
    static int ready;
    int fd;
    memset(m, 0, sizeof *m);
    if (!ready) g_mime_init();
    ready = 1;
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    m->file = fd < 0 ? NULL : fdopen(fd, "rb");
    if (!m->file) {
        if (fd >= 0) close(fd);
        return 0;
    }
    m->stream = g_mime_stream_file_new(m->file);
    m->parser = g_mime_parser_new_with_stream(m->stream);
    m->many = many;
    g_mime_parser_set_format(m->parser, many ? GMIME_FORMAT_MBOX : GMIME_FORMAT_MESSAGE);
    return 1;
}

/* The next message; 0 behind the last. */
KALM__FN int search_mail_next(search_mail *m, search_message *to)
{
    GMimeMessage *message;
    if (g_mime_parser_eos(m->parser)) return 0;
    message = g_mime_parser_construct_message(m->parser, NULL);
    if (message && ferror(m->file)) {              /* what there is of it may be half of it */
        g_object_unref(message);
        message = NULL;
    }
    if (!message) return 0;
    search_mail_take(message, to);
    g_object_unref(message);
    return 1;
}

KALM__FN uint64_t search_mail_place(search_mail *m) { return (uint64_t)g_mime_parser_tell(m->parser); }

KALM__FN int search_mail_failed(const search_mail *m) { return ferror(m->file) != 0; }

KALM__FN void search_mail_end(search_mail *m)
{
    g_object_unref(m->parser);
    g_object_unref(m->stream);
}

#endif
#endif
