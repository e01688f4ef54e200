/* server_options.h - what kalm-server was asked to do. */
#ifndef KALM_SERVER_OPTIONS_H
#define KALM_SERVER_OPTIONS_H

typedef struct server_options {
    const char *model, *store, *host, *api_key_file, *allow_origin, *allow_host, *log;
    const char *instruction, *system;
    uint32_t    port, body_mb, documents, tokens, queue, connections;
    uint32_t    timeout, read_timeout, drain;          /* seconds */
    uint32_t    warm_mb, ratio, bits, state_bits;
    int         log_text, read_only;
    kalm_config config;
} server_options;

#endif
