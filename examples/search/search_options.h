/* search_options.h - what kalm-search was asked to do. */
#ifndef KALM_SEARCH_OPTIONS_H
#define KALM_SEARCH_OPTIONS_H

enum { SEARCH_ASK, SEARCH_ADD, SEARCH_UPDATE, SEARCH_FORGET, SEARCH_INFO, SEARCH_MCP };
enum { MARK_AUTO, MARK_BOLD, MARK_STARS, MARK_NONE };

typedef struct options {
    const char  *model, *database, *instruction;
    const char **word;                 /* [words]: paths, or what the question is made of */
    size_t       words;
    int          action, json, quiet, watch, has_split, has_overlap;
    uint32_t     limit, candidates, mark, ratio, bits, split, overlap, max_mib, cache_mib, batch, poll, width;
    kalm_config  config;
} options;

#endif
