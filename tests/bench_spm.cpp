/* bench_spm.cpp - our tokenizer beside SentencePiece's in one run, on one text and one thread:
       c++ -O2 -Isrc/parts -I. tests/bench_spm.cpp -o build/bench_spm -lsentencepiece
       build/bench_spm MODEL.model TEXT
   Lines of TEXT are encoded to ids one by one; the best of five passes, processor time. The ids must be the same. */
#include <sentencepiece_processor.h>
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "../tokenizer/import.h"
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

int main(int argc, char **argv)
{
    if (argc < 3) return fprintf(stderr, "usage: bench_spm MODEL.model TEXT\n"), 2;
    std::vector<std::string> lines;
    std::string model, line;
    size_t bytes = 0;
    for (int k = 1; k < 3; k++) {
        FILE *f = fopen(argv[k], "rb");
        if (!f) return perror(argv[k]), 1;
        for (int c; (c = getc(f)) != EOF;) {
            if (k == 1) model += (char)c;
            else if (c != '\n') line += (char)c;
            else if (!line.empty()) bytes += line.size(), lines.push_back(line), line.clear();
        }
        fclose(f);
    }
    sentencepiece::SentencePieceProcessor sp;
    if (!sp.LoadFromSerializedProto(model).ok()) return fprintf(stderr, "SentencePiece refuses %s\n", argv[1]), 1;
    int ok;
    kalm_allocator a = kalm__allocator(NULL, &ok);
    kalm_error err;
    kalm__tokenizer t;
    unsigned char *blob;
    size_t size, different = 0;
    if (kalm__import_tokenizer(argv[1], model.data(), model.size(), &a, &blob, &size, &err)
        || kalm__tokenizer_open(&t, blob, size, &err)) return fprintf(stderr, "%s\n", err.text), 1;
    std::vector<int32_t> ours(1 << 20);
    std::vector<int> theirs;
    double best[2] = { 1e9, 1e9 };
    for (int pass = 0; pass < 10; pass++) {
        clock_t begun = clock();
        for (const std::string &s : lines) {
            if (pass % 2) sp.Encode(s, &theirs).IgnoreError();
            else {
                kalm_text text = { s.data(), s.size() };
                size_t n;
                kalm__tokenize(&t, &a, NULL, text, KALM_PARSE_CONTROL, ours.data(), ours.size(), &n, &err);
            }
        }
        double took = (double)(clock() - begun) / CLOCKS_PER_SEC;
        if (took < best[pass % 2]) best[pass % 2] = took;
    }
    for (const std::string &s : lines) {
        kalm_text text = { s.data(), s.size() };
        size_t n, i;
        kalm__tokenize(&t, &a, NULL, text, KALM_PARSE_CONTROL, ours.data(), ours.size(), &n, &err);
        sp.Encode(s, &theirs).IgnoreError();
        for (i = 0; i < n && i < theirs.size() && ours[i] == theirs[i]; i++) {}
        different += n != theirs.size() || i < n;
    }
    printf("%.2f MB in %lu lines: kalm %.1f MB/s, SentencePiece %.2f MB/s, %.1f times as fast; %lu lines differ\n", (double)bytes / 1e6,
           (unsigned long)lines.size(), (double)bytes / 1e6 / best[0], (double)bytes / 1e6 / best[1], best[1] / best[0], (unsigned long)different);
    return different != 0;
}
