/* search_mcp.h - kalm-search DB --mcp: the Model Context Protocol on standard input and output, for assistants and editors that start
   the command as a server. One tool, `search`. Messages are JSON-RPC 2.0, one a line (https://modelcontextprotocol.io, versions
   2024-11-05 to 2025-11-25); jansson reads and writes them. Standard output carries nothing else; what is said to a person goes
   to standard error.

   Whatever a line holds, the server answers it with an error and goes on. A line of more than MCP_LONGEST bytes is passed over. While
   a question is worked on, what comes in is looked through for its cancellation. The server ends with its input.
   Included behind search_query.h and search_print.h. */
#ifndef KALM_SEARCH_MCP_H
#define KALM_SEARCH_MCP_H

#if defined(__GNUC__)
#  pragma GCC diagnostic push
#  pragma GCC diagnostic ignored "-Wconversion"
#endif
#include <jansson.h>
#if defined(__GNUC__)
#  pragma GCC diagnostic pop
#endif
#include "../json_dump.h"
#include <poll.h>

#define MCP_LONGEST ((size_t)4 << 20)  /* bytes of a line */
#define MCP_WAITING ((size_t)16 << 20) /* of lines that wait while a question is worked on: no more is read */

enum { MCP_PARSE = -32700, MCP_REQUEST = -32600, MCP_METHOD = -32601, MCP_PARAMS = -32602, MCP_INTERNAL = -32603 };

typedef struct mcp {
    search_engine e;
    const options *o;
    char   *buffer;                    /* [from, to): read and not yet taken */
    size_t  from, to, room, looked;    /* lines that end before `looked` are not a cancellation of the question at hand */
    int     ended, skipping;           /* skipping: inside a line that is too long */
    json_t *id;                        /* of the question at hand; borrowed */
    int     cancelled;
} mcp;

/* ---- lines --------------------------------------------------------------------------------------------------------------- */

/* What has come in; waits for it where `wait` is set. */
KALM__FN void mcp_read(mcp *m, int wait)
{
    struct pollfd p;
    ssize_t n;
    p.fd = 0;
    p.events = POLLIN;
    p.revents = 0;
    if (m->ended || (poll(&p, 1, wait ? -1 : 0) <= 0 && !wait) || (!wait && !p.revents)) return;
    if (m->from == m->to) m->from = m->to = m->looked = 0;
    if (m->from > m->room / 2) {
        memmove(m->buffer, m->buffer + m->from, m->to - m->from);
        m->to -= m->from;
        m->looked = m->looked > m->from ? m->looked - m->from : 0;
        m->from = 0;
    }
    if (m->room - m->to < 65536) m->buffer = (char *)cmd_grow(m->buffer, m->room = cmd_twice(kalm__add(m->to, 65536)));
    n = read(0, m->buffer + m->to, 65536);
    if (n > 0) m->to += (size_t)n;
    else if (n == 0 || (errno != EINTR && errno != EAGAIN)) m->ended = 1;
}

/* The next line, without its end; lives until the next mcp_read. 1: there is one; 0: the input ended; -1: one was too long. */
KALM__FN int mcp_line(mcp *m, kalm_text *line)
{
    size_t seen = 0;
    for (;;) {
        char *end = m->to > m->from + seen ? (char *)memchr(m->buffer + m->from + seen, '\n', m->to - m->from - seen) : NULL;
        if (end || (m->ended && m->to > m->from)) {
            size_t size = end ? (size_t)(end - m->buffer) - m->from : m->to - m->from;
            int skipped = m->skipping || size > MCP_LONGEST;
            line->data = m->buffer + m->from;
            line->size = size;
            m->from += size + (end ? 1 : 0);
            m->skipping = 0;
            return skipped ? -1 : 1;
        }
        if (m->ended) {
            int skipped = m->skipping; /* the input ended with a line that was too long */
            m->skipping = 0;
            return skipped ? -1 : 0;
        }
        seen = m->to - m->from;
        if (seen > MCP_LONGEST) {      /* what is behind its first bytes is not kept */
            m->skipping = 1;
            m->from = m->to = seen = 0;
        }
        mcp_read(m, 1);
    }
}

/* Adds a new value; what has no room is not left out in silence. */
KALM__FN void mcp_append(json_t *list, json_t *value)
{
    if (json_array_append_new(list, value)) die("no memory for an answer");
}

/* White space alone is no message. */
KALM__FN int mcp_blank(kalm_text line)
{
    while (line.size && strchr(" \t\r", line.data[line.size - 1]) && line.data[line.size - 1]) line.size--;
    return !line.size;
}

KALM__FN void mcp_send(json_t *message)
{
    char *text = json_dump_text(message);
    json_decref(message);
    if (!text) die("no memory for an answer");
    puts(text);
    free(text);
    cmd_flush();
}

/* ---- answers: each is a new value ------------------------------------------------------------------------------------------ */

/* A message that got no answer could not be told from one that was cancelled. */
KALM__FN json_t *mcp_made(json_t *value)
{
    if (!value) die("no memory for an answer");
    return value;
}

KALM__FN json_t *mcp_result(json_t *id, json_t *result)
{
    return mcp_made(json_pack("{s:s, s:O, s:o}", "jsonrpc", "2.0", "id", id, "result", result));
}

KALM__FN json_t *mcp_error(json_t *id, int code, const char *text)
{
    json_t *null = json_null();
    return mcp_made(json_pack("{s:s, s:O, s:{s:i, s:s}}", "jsonrpc", "2.0", "id", id ? id : null, "error", "code", code, "message", text));
}

/* The tool could not do what it was asked: for the model that asked to read. */
KALM__FN json_t *mcp_tool_error(const char *text)
{
    return mcp_made(json_pack("{s:[{s:s, s:s}], s:b}", "content", "type", "text", "text", text, "isError", 1));
}

KALM__FN json_t *mcp_initialize(json_t *params)
{
    static const char *const versions[] = { "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05" };
    const char *asked = json_string_value(json_object_get(params, "protocolVersion")), *version = versions[0];
    char own[32];
    size_t i;
    for (i = 0; asked && i < sizeof versions / sizeof *versions; i++)
        if (!strcmp(asked, versions[i])) version = versions[i];
    sprintf(own, "%d.%d.%d", KALM_VERSION_MAJOR, KALM_VERSION_MINOR, KALM_VERSION_PATCH);
    return json_pack("{s:s, s:{s:{}}, s:{s:s, s:s, s:s}, s:s}", "protocolVersion", version, "capabilities", "tools", "serverInfo", "name",
                     "kalm-search", "title", "Search of local files", "version", own, "instructions",
                     "The tool search finds passages in the user's files. Ask in full sentences or with the words that the text would use.");
}

KALM__FN json_t *mcp_tools(const mcp *m)
{
    size_t count, i;
    char **sources = search_sources(&m->e.s, &count), text[1024];
    size_t n = (size_t)snprintf(text, sizeof text, "Find the passages in the user's files that answer a question best. The files:");
    json_t *input, *result, *output;
    for (i = 0; i < count && n < 800; i++) n += (size_t)snprintf(text + n, sizeof text - n, " %.150s", store_shown(kalm__text(sources[i])));
    search_list_end(sources, count);
    text[store_bad_byte(kalm__text(text))] = 0;    /* a path may be no UTF-8 */
    input = json_pack("{s:s, s:{s:{s:s, s:s}, s:{s:s, s:s, s:i, s:i, s:i}}, s:[s]}", "type", "object", "properties", "query", "type", "string",
                      "description", "What to look for, in words or as a question", "limit", "type", "integer", "description",
                      "How many documents at most", "minimum", 1, "maximum", 50, "default", 5, "required", "query");
    result = json_pack("{s:s, s:{s:{s:s}, s:{s:s}, s:{s:s}, s:{s:s}, s:{s:s}, s:{s:s}}, s:[s, s, s]}", "type", "object", "properties", "path",
                       "type", "string", "id", "type", "string", "title", "type", "string", "score", "type", "number", "start", "type", "integer",
                       "text", "type", "string", "required", "path", "score", "text");
    output = json_pack("{s:s, s:{s:{s:s, s:o}, s:{s:s, s:s}}, s:[s, s]}", "type", "object", "properties", "results", "type", "array", "items",
                       result, "cut_query", "type", "boolean", "description", "The model read only the beginning of the question", "required",
                       "results", "cut_query");
    return json_pack("{s:[{s:s, s:s, s:s, s:o, s:o, s:{s:b, s:b, s:b}}]}", "tools", "name", "search", "title", "Search the user's files", "description",
                     text, "inputSchema", input, "outputSchema", output, "annotations", "readOnlyHint", 1, "idempotentHint", 1, "openWorldHint", 0);
}

/* ---- the tool ---------------------------------------------------------------------------------------------------------------- */

/* Is this line the cancellation of the question at hand? */
KALM__FN int mcp_cancels(const mcp *m, const char *line, size_t size)
{
    json_t *j, *id;
    int is = 0;
    if (size > 4096) return 0;
    j = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    id = json_object_get(json_object_get(j, "params"), "requestId");
    if (id && !strcmp(json_string_value(json_object_get(j, "method")) ? json_string_value(json_object_get(j, "method")) : "", "notifications/cancelled"))
        is = json_equal(id, m->id);
    json_decref(j);
    return is;
}

/* The library's callback. */
KALM__FN int mcp_progress(void *user, size_t done, size_t total)
{
    mcp *m = (mcp *)user;
    (void)done, (void)total;
    if (m->to - m->from < MCP_WAITING) mcp_read(m, 0);
    if (m->looked < m->from) m->looked = m->from;
    while (!m->cancelled && m->looked < m->to) {
        char *end = (char *)memchr(m->buffer + m->looked, '\n', m->to - m->looked);
        if (!end) break;
        m->cancelled = mcp_cancels(m, m->buffer + m->looked, (size_t)(end - m->buffer) - m->looked);
        m->looked = (size_t)(end - m->buffer) + 1;
    }
    return m->cancelled || kalm__interrupted != 0;
}

/* What the model that asked reads, and the same as data. */
KALM__FN json_t *mcp_answer(mcp *m)
{
    search_buffer text;
    static const char cut[] = "\n\nThe question is long: the model read its beginning alone.";
    json_t *list = json_array(), *content;
    size_t i;
    char line[256];
    memset(&text, 0, sizeof text);
    for (i = 0; i < m->e.hits; i++) {
        const search_hit *h = &m->e.hit[i];
        kalm_text path = search_hit_path(h), id = search_hit_id(h);
        mcp_append(list, json_pack("{s:s%, s:s%, s:s, s:f, s:I, s:s%}", "path", path.data, path.size, "id", id.data, id.size, "title", h->title,
                                   "score", (double)h->score.score, "start", (json_int_t)h->start, "text", h->text, h->text_size));
        search_put(&text, line, (size_t)sprintf(line, "%s%lu. ", i ? "\n\n" : "", (unsigned long)i + 1));
        search_put(&text, path.data, path.size);
        if (id.size) search_put(&text, " ", 1), search_put(&text, id.data, id.size);
        if (*h->title) search_put(&text, " - ", 3), search_put(&text, h->title, strlen(h->title));
        search_put(&text, line, (size_t)sprintf(line, " (score %.3f, passage %lld of %lld)\n", (double)h->score.score, (long long)h->window + 1,
                                                (long long)h->windows));
        search_put(&text, h->text, h->text_size);
    }
    if (!m->e.hits) search_put(&text, "No passage has a word of the question.", 38);
    if (search_cut_question(&m->e)) search_put(&text, cut, strlen(cut));
    content = json_pack("{s:s, s:s%}", "type", "text", "text", text.data, text.size);
    free(text.data);
    return mcp_made(json_pack("{s:[o], s:{s:o, s:b}, s:b}", "content", content, "structuredContent", "results", list, "cut_query",
                              search_cut_question(&m->e), "isError", 0));
}

/* NULL: it was cancelled, and gets no answer. */
KALM__FN json_t *mcp_search(mcp *m, json_t *id, json_t *arguments)
{
    json_t *query = json_object_get(arguments, "query"), *limit = json_object_get(arguments, "limit");
    json_int_t most = 5;
    kalm_text question;
    kalm_error err;
    kalm_result r;
    if (!json_is_string(query)) return mcp_tool_error("query must be a string");
    if (limit && json_is_real(limit) && json_real_value(limit) >= 1 && json_real_value(limit) <= 50) most = (json_int_t)json_real_value(limit);
    else if (limit && !json_is_null(limit)) {
        if (!json_is_integer(limit) || json_integer_value(limit) < 1 || json_integer_value(limit) > 50)
            return mcp_tool_error("limit must be a whole number from 1 to 50");
        most = json_integer_value(limit);
    }
    question.data = json_string_value(query);
    question.size = json_string_length(query);
    if (!search_trim(question).size) return mcp_tool_error("the query is empty");
    m->id = id;
    m->cancelled = 0;
    m->looked = m->from;
    r = search_ask(&m->e, question, (size_t)most, &err);
    m->id = NULL;
    if (r && m->cancelled) return NULL;
    return r ? mcp_tool_error(err.text) : mcp_answer(m);
}

KALM__FN json_t *mcp_call(mcp *m, json_t *id, json_t *params)
{
    const char *name = json_string_value(json_object_get(params, "name"));
    json_t *arguments = json_object_get(params, "arguments"), *result;
    if (!name) return mcp_error(id, MCP_PARAMS, "tools/call needs the name of a tool");
    if (strcmp(name, "search") != 0) return mcp_error(id, MCP_PARAMS, "there is no such tool: the only one is search");
    result = mcp_search(m, id, arguments);
    return result ? mcp_result(id, result) : NULL;
}

/* The answer to one message, or NULL where it gets none. */
KALM__FN json_t *mcp_message(mcp *m, json_t *message)
{
    json_t *id = json_object_get(message, "id"), *params = json_object_get(message, "params");
    const char *method = json_string_value(json_object_get(message, "method"));
    if (!json_is_object(message)) return mcp_error(NULL, MCP_REQUEST, "a message must be an object");
    if (!method && (json_object_get(message, "result") || json_object_get(message, "error"))) return NULL;   /* we asked nothing */
    if (id && !json_is_string(id) && !json_is_integer(id)) return mcp_error(NULL, MCP_REQUEST, "the id must be a string or a whole number");
    if (!method) return mcp_error(id, MCP_REQUEST, "a message must have a method");
    if (!id) return NULL;              /* a notification */
    if (params && !json_is_object(params)) return mcp_error(id, MCP_PARAMS, "params must be an object");
    if (!strcmp(method, "initialize")) return mcp_result(id, mcp_initialize(params));
    if (!strcmp(method, "ping")) return mcp_result(id, json_object());
    if (!strcmp(method, "tools/list")) return mcp_result(id, mcp_tools(m));
    if (!strcmp(method, "tools/call")) return mcp_call(m, id, params);
    return mcp_error(id, MCP_METHOD, "there is no such method");
}

/* A line: a message, or a batch of them in an array. */
KALM__FN void mcp_take(mcp *m, kalm_text line)
{
    json_error_t where;
    json_t *message = json_loadb(line.data, line.size, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &where), *answer, *answers;
    char why[sizeof where.text + 64];
    size_t i;
    if (!message) {
        snprintf(why, sizeof why, "%s%s, column %d", json_error_code(&where) == json_error_duplicate_key ? "a member stands there twice: " : "no JSON: ",
                 where.text, where.column);
        mcp_send(mcp_error(NULL, MCP_PARSE, store_bad_byte(kalm__text(why)) == strlen(why) ? why : "no JSON"));
        return;
    }
    if (json_is_array(message) && json_array_size(message)) {
        answers = json_array();
        for (i = 0; i < json_array_size(message); i++) {
            answer = mcp_message(m, json_array_get(message, i));
            if (answer) mcp_append(answers, answer);
        }
        if (json_array_size(answers)) mcp_send(answers);
        else json_decref(answers);
    } else {
        answer = mcp_message(m, message);
        if (answer) mcp_send(answer);
    }
    json_decref(message);
}

KALM__FN int run_mcp(const options *o)
{
    mcp *m = (mcp *)cmd_alloc(sizeof *m);
    kalm_text line;
    int what;
    /* jansson (2.14 and before) loses a byte of a string for which there is no memory, and may then read beyond it: here no
       allocation fails, the command ends */
    json_set_alloc_funcs(cmd_alloc, free);
    memset(m, 0, sizeof *m);
    m->o = o;
    search_engine_begin(&m->e, o, cmd_mebibytes(o->cache_mib));
    m->e.params.progress = mcp_progress;
    m->e.params.progress_user = m;
    if (isatty(0) && !o->quiet) fprintf(stderr, "%s: waits for messages of the Model Context Protocol, a line each; Ctrl-D ends it\n", cmd_name);
    while ((what = mcp_line(m, &line)) != 0) {
        if (what < 0) mcp_send(mcp_error(NULL, MCP_REQUEST, "the message is longer than 4 MiB"));
        else if (!mcp_blank(line)) {
            char *own = cmd_copy(line);            /* what comes in during a question moves the buffer */
            line.data = own;
            mcp_take(m, line);
            free(own);
        }
    }
    search_engine_end(&m->e);
    free(m->buffer);
    free(m);
    return EXIT_OK;
}

#endif
