/* recognise.h - what a file is that is not what it should be. People hand over what a broken download left, or another program's
   file; a sentence that names it saves them the search. Looks at the first bytes alone, and decides nothing. */
#ifndef KALM__RECOGNISE_H
#define KALM__RECOGNISE_H

#include "base.h"

/* Do the bytes begin with `text`? Letters of `text` are lower case and match either case. */
KALM__FN int kalm__begins(const unsigned char *data, size_t size, const char *text)
{
    size_t i;
    for (i = 0; text[i]; i++) {
        int c = i < size ? data[i] : -1;
        if (c >= 'A' && c <= 'Z' && text[i] >= 'a' && text[i] <= 'z') c += 'a' - 'A';
        if (c != (unsigned char)text[i]) return 0;
    }
    return 1;
}

/* Where the text begins: behind a byte order mark and white space. */
KALM__FN size_t kalm__text_begins(const unsigned char *data, size_t size)
{
    size_t at = kalm__begins(data, size, "\xef\xbb\xbf") ? 3 : 0;
    while (at < size && (data[at] == ' ' || data[at] == '\t' || data[at] == '\r' || data[at] == '\n')) at++;
    return at;
}

/* An object or an array. */
KALM__FN int kalm__begins_json(const void *bytes, size_t size)
{
    const unsigned char *data = (const unsigned char *)bytes;
    size_t at = kalm__text_begins(data, size);
    return at < size && (data[at] == '{' || data[at] == '[');
}

/* The end of a sentence that began "not a .kalm file but ", or NULL where the bytes are nothing known. */
KALM__FN const char *kalm__recognise(const void *bytes, size_t size)
{
    static const struct {
        const char *begin, *what;
    } known[] = {
        { "version https://git-lfs.", "a Git LFS pointer, which stands for a file that was not fetched: run git lfs pull" },
        { "version https://hawser.", "a Git LFS pointer, which stands for a file that was not fetched: run git lfs pull" },
        { "/annex/objects/", "a git-annex pointer, which stands for a file that was not fetched: run git annex get" },
        { "\x89kalm\r\n\x1a", "a .kalm file, which is converted already" },
        { "\x89kalm", "a .kalm file that was damaged by a copy in text mode: copy it as binary" },
        { "gguf", "a GGUF file of llama.cpp; kalm-quantize makes .kalm files of Hugging Face checkpoints" },
        { "pk\x03\x04", "a ZIP archive, or a checkpoint of PyTorch (.bin, .pt): save it as safetensors" },
        { "\x1f\x8b", "a file packed with gzip: unpack it first" },
        { "\x28\xb5\x2f\xfd", "a file packed with zstd: unpack it first" },
        { "\xfd" "7zxz", "a file packed with xz: unpack it first" },
        { "bzh", "a file packed with bzip2: unpack it first" },
        { "sqlite format 3", "an SQLite database, perhaps a store of kalm-index" },
        { "%pdf-", "a PDF" },
        { "\x80\x02", "a Python pickle: save the checkpoint as safetensors" }
    };
    const unsigned char *data = (const unsigned char *)bytes;
    size_t i, at;
    /* first: its length may begin as a pickle does */
    if (size > 9 && kalm__u64(data) < (uint64_t)1 << 40 && (data[8] == '{' || data[8] == ' '))
        return "a safetensors file: kalm-quantize makes a .kalm file of the folder it is in";
    for (i = 0; i < sizeof known / sizeof *known; i++)
        if (kalm__begins(data, size, known[i].begin)) return known[i].what;
    for (i = 0; i < size && i < 4096 && !data[i]; i++) {}
    if (size >= 64 && (i == size || i == 4096)) return "zeros, as of a download that never came to its end";
    if (kalm__begins_json(data, size)) return "a JSON text";
    at = kalm__text_begins(data, size);
    data += at;
    size -= at;
    if (kalm__begins(data, size, "<!doctype") || kalm__begins(data, size, "<html") || kalm__begins(data, size, "<head")
        || kalm__begins(data, size, "<!--"))
        return "a web page, saved in its place: download the file itself";
    if (kalm__begins(data, size, "<?xml")) return "an XML text, perhaps a server's answer that something is wrong";
    return NULL;
}

#endif
