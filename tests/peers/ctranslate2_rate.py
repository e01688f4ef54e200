#!/usr/bin/env python3
"""ctranslate2_rate.py LIBRARY MODEL TOKENS THREADS SECONDS - how fast CTranslate2 reads one passage, as JSON, for peers.py.

LIBRARY is the folder with the package ctranslate2 in it, "" where it is installed; MODEL a checkpoint that its own converter has
converted. Its Python has no function that runs the encoder alone, so this asks for the score of one token behind the passage: one
row of the decoder is in the time, and a row of 512 tokens weighs little."""
import json
import os
import sys
import time


def vocabulary(folder):
    """The tokens of a converted model."""
    for name in ("source_vocabulary.json", "shared_vocabulary.json", "vocabulary.json"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                return json.load(f)
    sys.exit("ctranslate2_rate.py: %s has no vocabulary: it is no model that ct2-transformers-converter wrote" % folder)


def main():
    if len(sys.argv) != 6:
        sys.exit("usage: ctranslate2_rate.py LIBRARY MODEL TOKENS THREADS SECONDS")
    library, model, tokens, threads, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
    if library:
        sys.path.insert(0, library)
    try:
        import ctranslate2
    except ImportError as e:
        sys.exit("ctranslate2_rate.py: no package ctranslate2 %s: %s" % ("in " + library if library else "is installed", e))
    words = vocabulary(model)
    if len(words) < 2000:
        sys.exit("ctranslate2_rate.py: the vocabulary of %s has only %d tokens" % (model, len(words)))
    passage = [words[1000 + i * 7919 % (len(words) - 1000)] for i in range(tokens)]
    try:
        engine = ctranslate2.Translator(model, device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads)
    except (RuntimeError, ValueError) as e:
        sys.exit("ctranslate2_rate.py: %s: %s" % (model, e))
    best, end = 0.0, 0.0
    while not best or time.monotonic() < end:
        begun = time.monotonic()
        end = end or begun + seconds
        engine.score_batch([passage], [[words[1000]]])
        best = max(best, tokens / (time.monotonic() - begun))
    json.dump({"tokens_per_second": best, "version": ctranslate2.__version__}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
