/* eval_instructions.h - which instruction goes with which data set. The built-in table has what the authors publish:

   - LMEB: the instruction of each of its tasks, from task_instructions.json of the benchmark
     (github.com/KaLM-Embedding/LMEB, read in November 2026). Data sets whose tasks all have one instruction stand here once.
   - BEIR, MIRACL: the authors' evaluation code (github.com/HITsz-TMG/KaLM-Embedding, evaluate/utils.py) gives every
     retrieval task the sentence that is the reranker's own default. With which instructions the paper's figures of the
     reranker were made is NOT KNOWN; kalm-eval says so where it uses this one.
   - Everything else: not known; the model's default.

   --instructions FILE goes before the table: {"data set": "instruction"} or {"data set": {"task": "instruction"}}. Names are
   compared without case and without anything but letters and digits. */
#ifndef EVAL_INSTRUCTIONS_H
#define EVAL_INSTRUCTIONS_H

#include "eval_source.h"

#define EV_DEFAULT_INSTRUCTION "Given a query, retrieve documents that answer the query."

typedef struct ev_instruction {
    const char *text;                  /* NULL: the model's default */
    const char *origin;                /* where it is from, for people */
} ev_instruction;

typedef struct ev__published { const char *dataset, *task, *text; } ev__published;    /* task NULL: all of them */

/* Long: it is a table. */
EV__FN const ev__published *ev__published_table(size_t *count)
{
    static const ev__published table[] = {
        { "EPBench", "Entities",
          "Given a specific event with time or location constraints, retrieve documents identifying the protagonists "
          "involved" },
        { "EPBench", "Event_contents",
          "Given a query, retrieve documents that answer the query" },
        { "EPBench", "Full_event_details",
          "Given time, location, entities, and event content, retrieve relevant documents about the event(s), including "
          "what occurred and any other pertinent information" },
        { "EPBench", "Other_entities",
          "Given an event description with time/location and a known entities, retrieve passages describing the event "
          "and naming any additional involved entities" },
        { "EPBench", "Spaces",
          "Given a query with constraints, retrieve passages that explicitly mention associated locations that satisfy "
          "those constraints" },
        { "EPBench", "Times",
          "Given a specific event description, retrieve passages that contain when the event occurred" },
        { "KnowMeBench", "adversarial_abstention",
          "Given a query, retrieve documents that answer the query" },
        { "KnowMeBench", "information_extraction",
          "Given a query, retrieve documents that answer the query" },
        { "KnowMeBench", "mind-body_interaction",
          "Given a mind-body interaction query, retrieve passages linking physical actions with internal states to "
          "answer the query" },
        { "KnowMeBench", "mnestic_trigger_analysis",
          "Given a mnestic trigger query, retrieve passages where sensory or associative cues trigger memories, "
          "highlighting the cue, recalled event, and context to answer the query" },
        { "KnowMeBench", "temporal_reasoning",
          "Given a temporally constrained query, retrieve passages that answer the question" },
        { "LoCoMo", "adversarial",
          "Given a query, retrieve documents that answer the query" },
        { "LoCoMo", "multi_hop",
          "Given a multi-hop question, retrieve documents from multiple sessions to answer the question" },
        { "LoCoMo", "open_domain",
          "Given a question, retrieve user-provided context or external world-knowledge passages that answer the question" },
        { "LoCoMo", "single_hop",
          "Given a query, retrieve documents that answer the query" },
        { "LoCoMo", "temporal_reasoning",
          "Given a temporally grounded query, retrieve relevant passages that answer the question" },
        { "LongMemEval", "knowledge_update",
          "Given a question, retrieve the latest information to answer the question" },
        { "LongMemEval", "multi_session",
          "Given a query, retrieve documents that answer the query" },
        { "LongMemEval", "single_session_assistant",
          "Given a query, retrieve documents that answer the query" },
        { "LongMemEval", "single_session_preference",
          "Given a query, retrieve the user's stated preferences that can help answer the query" },
        { "LongMemEval", "single_session_user",
          "Given a query, retrieve documents that answer the query" },
        { "LongMemEval", "temporal_reasoning",
          "Given a temporal query, retrieve relevant passages that answer the query" },
        { "REALTALK", "commonsense",
          "Given a query, retrieve documents that answer the query" },
        { "REALTALK", "multi_hop",
          "Given a multi-hop question, retrieve relevant passages that answer the query" },
        { "REALTALK", "temporal_reasoning",
          "Given a temporal query, retrieve relevant passages that answer the query" },
        { "TMD", "content_time_qs",
          "Given a temporal query, retrieve relevant passages that answer the query" },
        { "TMD", "date_span_time_qs",
          "Given an absolute date span (DATE1\xe2\x80\x93" "DATE2), retrieve dialogue occurring within this period" },
        { "TMD", "dates_time_qs",
          "Given a specific absolute date, retrieve dialogue from that date" },
        { "TMD", "day_span_time_qs",
          "Given a rolling recent window and the current date, retrieve dialogue that occurred within that period" },
        { "TMD", "earlier_today_time_qs",
          "Given an intra-day time cue and the current date, retrieve dialogue that occurred earlier today" },
        { "TMD", "last_named_day_time_qs",
          "Given a query for a specific weekday with the current date, retrieve dialogue from the most recent matching "
          "weekday" },
        { "TMD", "month_time_qs",
          "Given a specific month and the current date, retrieve dialogue occurring within that month" },
        { "TMD", "rel_day_time_qs",
          "Given a relative-day query and the current date, retrieve dialogue from the resolved date corresponding to "
          "that number of days ago" },
        { "TMD", "rel_month_time_qs",
          "Given a relative-month query with the current date, retrieve dialogue from the month corresponding to that "
          "number of months ago" },
        { "TMD", "rel_session_time_qs",
          "Given a relative-session query with current session index, retrieve dialogue from the session corresponding "
          "to that number of sessions ago" },
        { "TMD", "session_span_time_qs",
          "Given a session-span query (S1\xe2\x80\x93" "S2), retrieve dialogue from sessions that fall within the "
          "specified range" },
        { "TMD", "session_time_qs",
          "Given a query for a specific session, retrieve dialogue from that session" },
        { "MemBench", "aggregative",
          "Given a query, retrieve documents that answer the query" },
        { "MemBench", "comparative",
          "Given a query, retrieve documents that answer the query" },
        { "MemBench", "emotion",
          "Given a query with a timestamp, retrieve documents that capture emotional cues to infer most likely user "
          "sentiment" },
        { "MemBench", "knowledge_updating",
          "Given a question, retrieve the latest information to answer the question" },
        { "MemBench", "multi_hop",
          "Given a multi-hop query, retrieve documents that answer the query" },
        { "MemBench", "multi_session_assistant",
          "Given a query, retrieve assistant messages containing past recommendations that help answer the query" },
        { "MemBench", "post_processing",
          "Given a query, retrieve documents that answer the query" },
        { "MemBench", "preference",
          "Given a query, retrieve the user's stated preferences that can help answer the query" },
        { "MemBench", "single_hop",
          "Given a query, retrieve documents that answer the query" },
        { "MemBench", "single_session_assistant",
          "Given a query, retrieve assistant messages containing past recommendations that help answer the query" },
        { "ConvoMem", "abstention_evidence",
          "Given a query, retrieve documents that answer the query" },
        { "ConvoMem", "assistant_facts_evidence",
          "Given a query, retrieve assistant messages that answer the query" },
        { "ConvoMem", "changing_evidence",
          "Given a question, retrieve the latest information to answer the question" },
        { "ConvoMem", "implicit_connection_evidence",
          "Given a query, retrieve documents that answer the query" },
        { "ConvoMem", "preference_evidence",
          "Given a query, retrieve the user's stated preferences that can help answer the query" },
        { "ConvoMem", "user_evidence",
          "Given a query, retrieve documents that answer the query" },
        { "QASPER", NULL,
          "Given a query, retrieve documents that answer the query" },
        { "NovelQA", "Character",
          "Given a query, retrieve documents that answer the query" },
        { "NovelQA", "Meaning",
          "Given a query, retrieve documents that answer the query" },
        { "NovelQA", "Plot",
          "Given a query, retrieve documents that answer the query" },
        { "NovelQA", "Relation",
          "Given a query, retrieve documents that answer the query" },
        { "NovelQA", "Setting",
          "Given a query, retrieve documents that answer the query" },
        { "NovelQA", "Span",
          "Given a query, retrieve documents that answer the query" },
        { "NovelQA", "Times",
          "Given a query, retrieve all passages mentioning the event to answer the query" },
        { "PeerQA", NULL,
          "Given a query, retrieve documents that answer the query" },
        { "Covid-QA", NULL,
          "Given a query on COVID-19, retrieve documents that answer the query" },
        { "ESG-Reports", NULL,
          "Given a query, retrieve documents that answer the query" },
        { "MLDR", NULL,
          "Given a query, retrieve documents that answer the query" },
        { "LooGLE", "LongDepQA",
          "Given a long-dependency question, retrieve documents that answer the query" },
        { "LooGLE", "ShortDepQA",
          "Given a query, retrieve documents that answer the query" },
        { "SciFact", NULL,
          "Given a scientific claim, retrieve documents that support or refute the claim" },
        { "Gorilla", "gorilla_huggingface",
          "Given a task query, retrieve HuggingFace models to complete it" },
        { "Gorilla", "gorilla_pytorch",
          "Given a task query, retrieve TorchHub APIs to fulfill the query's needs" },
        { "Gorilla", "gorilla_tensor",
          "Given a task query, retrieve TensorHub APIs to meet the query\xe2\x80\x99" "s requirements" },
        { "ToolBench", NULL,
          "Given a tool-use query, retrieve API documentations aligned with the needs of the query" },
        { "ReMe", "generalized_query",
          "Given a generalized query, retrieve experience that is suitable for this query" },
        { "ReMe", "task_query",
          "Given a query, retrieve the most relevant experience that aligns with the specified task requirements" },
        { "Proced_mem_bench", NULL,
          "Given a query, retrieve useful procedures applicable to this query" },
        { "MemGovern", NULL,
          "Given a query, retrieve experiences or solutions that help to solve the query" },
        { "DeepPlanning", NULL,
          "Given a query, retrieve items that satisfy the requirements" }
    };
    *count = sizeof table / sizeof *table;
    return table;
}

EV__FN int ev__word(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* Are two names the same but for case and punctuation? n: bytes of a. */
EV__FN int ev__alike(const char *a, size_t n, const char *b)
{
    size_t i = 0, k = 0;
    for (;;) {
        while (i < n && !ev__word(a[i])) i++;
        while (b[k] && !ev__word(b[k])) k++;
        if (i == n || !b[k]) return i == n && !b[k];
        if ((a[i] >= 'A' && a[i] <= 'Z' ? a[i] + 32 : a[i]) != (b[k] >= 'A' && b[k] <= 'Z' ? b[k] + 32 : b[k])) return 0;
        i++, k++;
    }
}

/* Is `name` one of the last four folders of the path, or the data set's name? */
EV__FN int ev__on_path(const ev_source *s, const char *name)
{
    const char *end = s->dir + strlen(s->dir), *at;
    int parts = 0;
    if (ev__alike(s->name, strlen(s->name), name)) return 1;
    while (end > s->dir && parts++ < 4) {
        for (at = end; at > s->dir && at[-1] != '/'; at--) {}
        if (at < end && ev__alike(at, (size_t)(end - at), name)) return 1;
        end = at > s->dir ? at - 1 : at;
    }
    return 0;
}

/* The last folder alone: the task. */
EV__FN int ev__is_task(const ev_source *s, const char *name)
{
    const char *slash = strrchr(s->name, '/');
    slash = slash ? slash + 1 : s->name;
    return ev__alike(slash, strlen(slash), name);
}

/* From a file of the user's; NULL: it has none for this data set. */
EV__FN const char *ev__instruction_of(const kalm__json *j, const ev_source *s)
{
    uint32_t key, task;
    for (key = 1; key < j->nodes[0].next; key = j->nodes[key + 1].next) {
        char *name = cmd_copy(kalm__json_text(j, key));
        int mine = ev__on_path(s, name);
        free(name);
        if (!mine) continue;
        if (kalm__json_type(j, key + 1) == KALM__JSON_STRING) return cmd_copy(kalm__json_text(j, key + 1));
        if (kalm__json_type(j, key + 1) != KALM__JSON_OBJECT) continue;
        for (task = key + 2; task < j->nodes[key + 1].next; task = j->nodes[task + 1].next) {
            name = cmd_copy(kalm__json_text(j, task));
            mine = ev__is_task(s, name) || j->nodes[key + 1].size == 1;
            free(name);
            if (mine && kalm__json_type(j, task + 1) == KALM__JSON_STRING) return cmd_copy(kalm__json_text(j, task + 1));
        }
    }
    return NULL;
}

/* The instruction for a data set. file: the parsed --instructions, or NULL. */
EV__FN ev_instruction ev_find_instruction(const ev_source *s, const kalm__json *file)
{
    ev_instruction i = { NULL, "the model's default" };
    const ev__published *table;
    size_t count, k;
    if (file) {
        i.text = ev__instruction_of(file, s);
        if (i.text) i.origin = "from --instructions";
        if (i.text) return i;
    }
    table = ev__published_table(&count);
    for (k = 0; s->layout == EV_LMEB && k < count; k++)
        if (ev__on_path(s, table[k].dataset) && (!table[k].task || ev__is_task(s, table[k].task))) {
            i.text = table[k].text;
            i.origin = "LMEB's task_instructions.json";
            return i;
        }
    if (s->layout == EV_MIRACL) {
        i.text = EV_DEFAULT_INSTRUCTION;
        i.origin = "the authors' default; the one behind their figures is not known";
    }
    return i;
}

/* Reads --instructions FILE; the file's text stays in memory. */
EV__FN void ev_read_instructions(kalm__json *j, const char *path)
{
    kalm_error err;
    kalm_allocator allocator = cmd_allocator();
    kalm_text all = ev_read_all(path, NULL);
    kalm__json_begin(j, &allocator);
    if (kalm__json_parse(j, path, all.data, all.size, &err)) die("%s", err.text);
    if (kalm__json_type(j, 0) != KALM__JSON_OBJECT) die("%s: instructions are an object {\"data set\": \"instruction\"}", path);
}

#endif
