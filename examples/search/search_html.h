/* search_html.h - the text of a page of HTML, and its title, with libxml2 (HAVE_LIBXML2): scripts, styles and tags go, blocks become
   lines. Nothing is fetched. Included behind command.h. */
#ifndef KALM_SEARCH_HTML_H
#define KALM_SEARCH_HTML_H

/* A text that grows. */
typedef struct search_buffer {
    char  *data;                       /* owned */
    size_t size, room;
} search_buffer;

KALM__FN void search_put(search_buffer *b, const char *data, size_t size)
{
    if (b->size + size + 1 > b->room) b->data = (char *)cmd_grow(b->data, b->room = cmd_twice(kalm__add(b->size, size + 1)));
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = 0;
}

#ifdef HAVE_LIBXML2
#include <libxml/HTMLparser.h>

/* libxml2 gets memory from functions that end the command where there is none, as those of the rest of it do. By itself it lives with
   that in ways of its own: it gives half of a page as the whole one, or tries the same piece for ever. */
KALM__FN void *search_xml_alloc(size_t size) { return cmd_alloc(size); }
KALM__FN void *search_xml_grow(void *p, size_t size) { return cmd_grow(p, size); }
KALM__FN char *search_xml_copy(const char *s) { return cmd_copy(kalm__text(s)); }

/* A newline, unless one or two are there already (`most`), or nothing. */
KALM__FN void search_html_break(search_buffer *b, size_t most)
{
    size_t n = 0;
    while (b->size && (b->data[b->size - 1] == ' ')) b->size--;
    while (n < b->size && b->data[b->size - 1 - n] == '\n') n++;
    if (b->size) for (; n < most; n++) search_put(b, "\n", 1);
}

/* Runs of white space become one space. */
KALM__FN void search_html_words(search_buffer *b, const char *s)
{
    for (; *s; s++) {
        int space = strchr(" \t\r\n\f", *s) != NULL;
        if (!space) search_put(b, s, 1);
        else if (b->size && b->data[b->size - 1] != ' ' && b->data[b->size - 1] != '\n') search_put(b, " ", 1);
    }
}

KALM__FN int search_html_is(const char *name, const char *names)
{
    size_t n = strlen(name);
    const char *at = names;
    while ((at = strstr(at, name)) != NULL) {
        if ((at == names || at[-1] == ' ') && (at[n] == ' ' || !at[n])) return 1;
        at++;
    }
    return 0;
}

#define SEARCH_HTML_HIDDEN "script style noscript template head svg math iframe object canvas"
#define SEARCH_HTML_PARAGRAPHS "p h1 h2 h3 h4 h5 h6 article section blockquote table ul ol dl pre figure header footer nav main aside form"
#define SEARCH_HTML_LINES "div br li tr dt dd hr address option caption"

/* 0: the bytes are no HTML that libxml2 makes anything of; 2: only the beginning was read, for elements lie too deep in each other. */
KALM__FN int search_html(const char *data, size_t size, search_buffer *text, search_buffer *title)
{
    int how = HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING | HTML_PARSE_NONET | HTML_PARSE_COMPACT;
    kalm_text all;
    htmlDocPtr doc;
    xmlNodePtr node;
    xmlErrorPtr last;
    int result = 1;
    all.data = data;
    all.size = size;
    if (size > INT32_MAX) return 0;
    xmlMemSetup(free, search_xml_alloc, search_xml_grow, search_xml_copy);
    xmlResetLastError();
    doc = htmlReadMemory(data, (int)size, NULL, store_bad_byte(all) == size ? "UTF-8" : NULL, how);
    if (!doc) return 0;
    last = xmlGetLastError();
    if (last && last->code == XML_ERR_INTERNAL_ERROR) result = 2;
    node = xmlDocGetRootElement(doc);
    while (node) {
        int go_in = node->type == XML_ELEMENT_NODE || node->type == XML_DOCUMENT_NODE;
        const char *name = node->name ? (const char *)node->name : "";
        if (node->type == XML_TEXT_NODE && node->content) search_html_words(text, (const char *)node->content);
        if (node->type == XML_ELEMENT_NODE) {
            if (!strcmp(name, "head") || !strcmp(name, "title")) {
                xmlNodePtr t = !strcmp(name, "title") ? node : node->children;
                while (t && t != node && strcmp(t->name ? (const char *)t->name : "", "title") != 0) t = t->next;
                if (t && !title->size) {
                    xmlChar *content = xmlNodeGetContent(t);
                    if (content) search_html_words(title, (const char *)content);
                    xmlFree(content);
                }
            }
            if (search_html_is(name, SEARCH_HTML_HIDDEN " title")) go_in = 0;
            else if (search_html_is(name, SEARCH_HTML_PARAGRAPHS)) search_html_break(text, 2);
            else if (search_html_is(name, SEARCH_HTML_LINES)) search_html_break(text, 1);
            else if (search_html_is(name, "td th")) search_put(text, " ", text->size != 0);
        }
        if (go_in && node->children) {
            node = node->children;
            continue;
        }
        while (node && !node->next) {
            node = node->parent;
            if (node && node->type == XML_ELEMENT_NODE && search_html_is((const char *)node->name, SEARCH_HTML_PARAGRAPHS))
                search_html_break(text, 2);
        }
        if (node) node = node->next;
    }
    xmlFreeDoc(doc);
    while (text->size && strchr(" \n", text->data[text->size - 1])) text->size--;
    while (title->size && title->data[title->size - 1] == ' ') title->size--;
    return result;
}

#else

KALM__FN int search_html(const char *data, size_t size, search_buffer *text, search_buffer *title)
{
    (void)data, (void)size, (void)text, (void)title;
    return 0;
}

#endif
#endif
