/* index_encode.h - the main work of kalm-index: it reads the records of a corpus, skips those that the store already has, and
   hands the others to store_fill.h, which encodes and stores them. To be included after store_fill.h, store_same.h and corpus.h. */
#ifndef KALM_INDEX_ENCODE_H
#define KALM_INDEX_ENCODE_H

/* ---- a job ---------------------------------------------------------------------------------------------------------- */

/* An entry of the hash table of keys that this run has read: hashes of the key and of title and text, with the key of this run, so that
   nobody can choose two that pass for one. key 0: the entry is free. */
typedef struct seen { uint64_t key, content; } seen;

typedef struct job {
    const options *o;
    store         s;
    kalm_model   *model;
    kalm_context *ctx;
    corpus        in;
    fill          f;                   /* what encodes and stores */
    seen         *slot;                /* [slots], a power of two; `taken` of them are in use */
    size_t        slots, taken;
    uint64_t      secret[2];           /* the key of their hashes */
    sqlite3_stmt *find, *update;
    /* counts of this run, for the summary */
    size_t        stored, kept, bad, fresh_metadata;
    cmd_progress  show;
    uint64_t      first_byte;          /* how much input had been read when the first text was handed over, and when that was */
    double        first_time;
} job;

/* One line on the terminal: how far, documents and tokens a second, time left. */
KALM__FN void show_progress(void *user)
{
    job *j = (job *)user;
    double share, left = -1, spent = kalm__now() - j->first_time, done, all = (double)j->in.total, at;
    char note[160];
    int n;
    if (!cmd_progress_due(&j->show)) return;
    done = fill_done(&j->f);
    at = (double)corpus_done(&j->in) - fill_waiting(&j->f);    /* what was read and is not yet encoded is not done */
    share = all > 0 ? at / all : 0;
    n = snprintf(note, sizeof note, "%.0f documents", done);
    if (j->f.seconds > 0)
        snprintf(note + n, sizeof note - (size_t)n, "  %.1f/s  %.0f tokens/s", done / spent, (double)j->f.tokens / j->f.seconds);
    if (j->in.known_size && j->first_time > 0 && at > (double)j->first_byte && spent > 1)
        left = spent / (at - (double)j->first_byte) * (all - at);
    cmd_progress_line(&j->show, !j->in.known_size ? -1 : share < 0 ? 0 : share, note, left);
}

/* Enter a key; returns 0 if it is new to this run, 1 if it came before with the same content, 2 if with another. */
KALM__FN int seen_before(job *j, uint64_t key, uint64_t content)
{
    size_t at, i;
    if (!key) key = 1;
    if (j->taken * 2 >= j->slots) {
        seen *old = j->slot;
        size_t before = j->slots;
        j->slots = before ? before * 2 : 1 << 12;
        j->slot = (seen *)cmd_alloc(j->slots * sizeof *j->slot);
        memset(j->slot, 0, j->slots * sizeof *j->slot);
        for (i = 0; i < before; i++) {
            if (!old[i].key) continue;
            for (at = (size_t)old[i].key & (j->slots - 1); j->slot[at].key; at = (at + 1) & (j->slots - 1)) ;
            j->slot[at] = old[i];
        }
        free(old);
    }
    for (at = (size_t)key & (j->slots - 1); j->slot[at].key; at = (at + 1) & (j->slots - 1))
        if (j->slot[at].key == key) return j->slot[at].content == content ? 1 : 2;
    j->slot[at].key = key;
    j->slot[at].content = content;
    j->taken++;
    return 0;
}

/* Say what is wrong at the place that was read last, and count it; with --strict the command ends here. */
KALM__FN void bad_input(job *j, const char *why)
{
    cmd_progress_clear(&j->show);
    if (j->in.line) say_plainly("%s:%lu: %s", corpus_name(&j->in), j->in.line, why);
    else say_plainly("%s: %s", corpus_name(&j->in), why);
    j->bad++;
    if (j->o->strict) {
        fill_finish(&j->f);
        cmd_progress_clear(&j->show);
        die("stopped at bad input (--strict); what came before it is stored");
    }
}

enum { NEW_TEXT, CHANGED_TEXT, KNOWN_TEXT };

/* Compare a record with what the store has under its key. If only the metadata differ, they are updated here. If the text
   differs, --changed decides: the record is encoded again (CHANGED_TEXT), or left as it is (KNOWN_TEXT), or the command ends.
   */
KALM__FN int look_up(job *j, const text_record *r, const char *hash)
{
    same_text same;
    int known, same_metadata;
    store_bind(&j->s, j->find, 1, r->key);
    if (!store_step(&j->s, j->find)) {
        store_check(&j->s, sqlite3_reset(j->find));
        return NEW_TEXT;
    }
    same_metadata = kalm__same_text(store_text(&j->s, j->find, 6, 0), r->metadata);
    same_begin(&same, r->title, r->text, hash);
    known = same_rows(&same, &j->s, j->find);
    store_check(&j->s, sqlite3_reset(j->find));
    if (known) {
        if (!same_metadata) {
            store_bind(&j->s, j->update, 1, r->key);
            store_bind(&j->s, j->update, 2, r->metadata);
            store_run(&j->s, j->update);
            j->fresh_metadata++;
        }
        j->stored++;
        if (!(j->stored & 1023)) show_progress(j);
        return KNOWN_TEXT;
    }
    if (j->o->changed == CHANGED_KEEP) {
        j->kept++;
        return KNOWN_TEXT;
    }
    if (j->o->changed == CHANGED_STOP) {
        fill_finish(&j->f);
        cmd_progress_clear(&j->show);
        die("%s:%lu: the store has another text of the key '%s' (--changed stop)", corpus_name(&j->in), j->in.line,
            store_shown(r->key));
    }
    return CHANGED_TEXT;
}

/* Deal with one record of the input: skip it, report it as bad, or hand it over to be encoded and stored. */
KALM__FN void take_record(job *j, const text_record *r)
{
    char hash[17], why[320];
    int known = seen_before(j, kalm__siphash(j->secret, r->key.data, r->key.size), kalm__siphash_both(j->secret, r->title, r->text)), state;
    if (known == 1) {
        j->stored++;
        return;
    }
    if (known == 2) {
        snprintf(why, sizeof why, "the key '%s' came before with another text", store_shown(r->key));
        bad_input(j, why);
        return;
    }
    store_write_hash(hash, fill_hash(r->title, r->text));
    state = look_up(j, r, hash);
    if (state == KNOWN_TEXT) return;
    if (j->first_time <= 0) {
        j->first_time = kalm__now();
        j->first_byte = corpus_done(&j->in) - kalm__min((size_t)corpus_done(&j->in), r->text.size);
    }
    if (!fill_add(&j->f, r->key, r->title, r->text, r->metadata, hash, state == CHANGED_TEXT))
        bad_input(j, "cannot be split: its tokens do not spell the text");
}

/* One sentence at the end: what was encoded, what was there already, what was left out. */
KALM__FN void summary(const job *j)
{
    double spent = kalm__now() - j->show.begun;
    fprintf(stderr, "%lu documents encoded", (unsigned long)j->f.encoded);
    if (j->s.meta.split) fprintf(stderr, " as %lu windows", (unsigned long)j->f.windows);
    if (j->f.encoded)
        fprintf(stderr, " in %.1f s: %.1f/s, %.0f tokens/s", spent, (double)j->f.encoded / spent, (double)j->f.tokens /
        j->f.seconds);
    if (j->f.replaced) fprintf(stderr, "; %lu of them replace another text", (unsigned long)j->f.replaced);
    if (j->stored) fprintf(stderr, "; %lu were there already", (unsigned long)j->stored);
    if (j->fresh_metadata) fprintf(stderr, ", %lu of them with new metadata", (unsigned long)j->fresh_metadata);
    if (j->kept) fprintf(stderr, "; %lu have changed and were kept as they are", (unsigned long)j->kept);
    if (j->f.cut) fprintf(stderr, "; %lu were longer than %lu tokens and were cut", (unsigned long)j->f.cut,
                        (unsigned long)j->s.meta.max_doc_tokens);
    if (j->bad) fprintf(stderr, "; %lu pieces of bad input were left out", (unsigned long)j->bad);
    fputc('\n', stderr);
}

/* ---- encoding ------------------------------------------------------------------------------------------------------- */

/* The settings of a new store. */
KALM__FN void new_meta(store_meta *m, const options *o, const kalm_model_info *info)
{
    store_new_meta(m, info, o->ratio, o->bits);
    m->split = o->split;
    m->overlap = o->overlap;
    /* A window is encoded with its title, and at its edges it may have other tokens than the whole text has there: 256 tokens
       of room. */
    m->max_doc_tokens = o->config.max_doc_tokens ? o->config.max_doc_tokens
                      : (uint32_t)kalm__min(kalm__max(1024, m->split ? (size_t)m->split + 256 : 0), info->max_tokens);
    if (m->max_doc_tokens > info->max_tokens)
        die("--max-doc-tokens is %lu, the model reads %lu", (unsigned long)m->max_doc_tokens, (unsigned long)info->max_tokens);
    if (m->split > m->max_doc_tokens)
        die("--split is %lu, documents have at most %lu tokens (--max-doc-tokens)", (unsigned long)m->split,
            (unsigned long)m->max_doc_tokens);
}

/* kalm-index MODEL STORE INPUT...: returns the exit status. */
KALM__FN int run_encode(const options *o)
{
    job j;
    kalm_model_info info;
    kalm_config config = o->config;
    kalm_error err;
    store_meta m;
    text_record r;
    size_t i;
    int what;
    memset(&j, 0, sizeof j);
    j.o = o;
    if (!o->model) die_usage("the model file is missing");
    cmd_secret(j.secret);
    corpus_begin(&j.in, (int)o->format, o->store);
    if (!*o->store) die_usage("the name of the store is empty");
    for (i = 0; i < o->words; i++) corpus_take(&j.in, o->word[i]);
    j.bad = j.in.unreadable;
    if (!o->words) {
        if (isatty(0)) die_usage("the input is missing");
        corpus_take(&j.in, "-");
    }
    if (kalm_model_open(o->model, &o->config, &j.model, &err)) return cmd_failed(&err);
    kalm_model_get_info(j.model, &info);
    if (!info.has_tokenizer) die("%s holds no tokenizer: texts cannot be encoded", o->model);
    if (info.has_decoder && !info.has_encoder)
        die("%s holds the decoder alone, which cannot read texts: encode with the whole model or its encoder", o->model);
    if (!kalm__file_exists(o->store)) new_meta(&m, o, &info);      /* what the model cannot do is said before there is a file */
    if (!store_open(&j.s, o->store, STORE_CREATE)) {
        new_meta(&m, o, &info);
        store_create(&j.s, &m);
    }
    store_demand(&j.s, o->model, &info);
    store_demand_number(&j.s, "--ratio", o->ratio != 0, o->ratio, j.s.meta.ratio);
    store_demand_number(&j.s, "--bits", o->bits != 0, o->bits, j.s.meta.bits);
    store_demand_number(&j.s, "--max-doc-tokens", config.max_doc_tokens != 0, config.max_doc_tokens, j.s.meta.max_doc_tokens);
    store_demand_number(&j.s, "--split", o->has_split, o->split, j.s.meta.split);
    store_demand_number(&j.s, "--overlap", o->has_overlap, o->overlap, j.s.meta.overlap);
    config.max_doc_tokens = j.s.meta.max_doc_tokens;
    if (kalm_context_new(j.model, &config, &j.ctx, &err)) return cmd_failed(&err);
    store_begin_writing(&j.s);
    j.find = store_prepare(&j.s, STORE_SAME_ROWS(", metadata"));
    fill_begin(&j.f, &j.s, j.model, j.ctx, o->batch, config.threads);
    j.f.look = show_progress;
    j.f.user = &j;
    j.f.show = &j.show;
    j.f.quiet = o->quiet;
    j.update = store_prepare(&j.s, "UPDATE documents SET metadata = ?2 WHERE key = ?1");
    cmd_catch_signals(CMD_END_IN_ORDER);
    cmd_progress_begin(&j.show, "");
    j.show.patience = 0;
    j.show.every = 2;
    j.show.quiet = o->quiet;
    while ((what = corpus_next(&j.in, &r)) != READ_END && !kalm__interrupted) {
        if (what == READ_RECORD) take_record(&j, &r);
        else bad_input(&j, j.in.why);
    }
    if (!kalm__interrupted) fill_finish(&j.f);
    fill_end(&j.f);
    cmd_progress_clear(&j.show);
    if (!o->quiet) summary(&j);
    sqlite3_finalize(j.find);
    sqlite3_finalize(j.update);
    store_close(&j.s);
    free(j.slot);
    corpus_end(&j.in);
    kalm_context_free(j.ctx);
    kalm_model_close(j.model);
    if (kalm__interrupted) {
        fprintf(stderr, "%s: interrupted; the same command goes on from there\n", cmd_name);
        return EXIT_INTERRUPTED;
    }
    return j.bad ? EXIT_BAD_INPUT : EXIT_OK;
}

#endif
