/* index_options.h - what kalm-index was asked to do. */
#ifndef KALM_INDEX_OPTIONS_H
#define KALM_INDEX_OPTIONS_H

enum { DO_ENCODE, DO_INFO, DO_VERIFY, DO_EXPORT, DO_DELETE, DO_MERGE, DO_STATES };
enum { STATES_ALL = -1 };            /* of options.states */
enum { CHANGED_REPLACE, CHANGED_KEEP, CHANGED_STOP };

typedef struct options {
    const char  *model, *store;
    const char  *asked, *instruction, *system;     /* of --states */
    int64_t      states;               /* of how many documents */
    const char **word;                 /* [words]: inputs, keys or other stores */
    size_t       words;
    int          action, strict, quiet, bytes, again;
    int          has_split, has_overlap;   /* 0 means something as well */
    uint32_t     format, changed, ratio, bits, batch, split, overlap, window;
    size_t       others;               /* with --merge: how many words stood before it */
    kalm_config  config;
} options;

#endif
