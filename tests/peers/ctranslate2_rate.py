#!/usr/bin/env python3
"""ctranslate2_rate.py LIBRARY MODEL TOKENS THREADS SECONDS - how fast CTranslate2 reads one passage, as JSON, for peers.py.

LIBRARY is the folder with the package ctranslate2 in it, "" where it is installed. MODEL is a folder; where it is not there yet, it is
made: an encoder of shape.py's shape with random weights, by the package's own description of models, in int8."""
import json
import os
import sys
import time

import shape


def spread(numpy, outputs, inputs):
    """Weights whose products neither vanish nor overflow in any of the layers."""
    page = numpy.frombuffer(shape.PAGE, dtype=numpy.int8).astype(numpy.float32)
    return numpy.resize(page, (outputs, inputs)) / numpy.float32(127 * inputs ** 0.5)


def make(ctranslate2, folder):
    """The encoder as the package's converter describes a T5Gemma 2; five of six layers have a window, as in Nano."""
    import numpy
    specs = ctranslate2.specs
    encoder = specs.TransformerEncoderSpec(
        num_layers=shape.LAYERS, num_heads=shape.HEADS, pre_norm=True, activation=specs.Activation.GELUTanh, ffn_glu=True, rms_norm=True,
        num_heads_kv=1, head_dim=shape.HEAD_DIM, rotary_dim=shape.HEAD_DIM, rotary_interleave=False, rotary_base=1000000,
        sliding_window=shape.WINDOW, qk_norm=True, pre_post_layer_norm=True)

    def norm(layer, width=shape.HIDDEN):
        layer.gamma = numpy.ones(width, dtype=numpy.float32)

    def product(layer, *names):
        layer.weight = numpy.concatenate([spread(numpy, shape.MATRICES[n][1], shape.MATRICES[n][0]) for n in names])

    encoder.embeddings[0].weight = spread(numpy, shape.VOCABULARY, shape.HIDDEN)
    norm(encoder.layer_norm)
    for number, layer in enumerate(encoder.layer):
        attention, whole = layer.self_attention, number % 6 == 5
        attention.rotary_base = numpy.float32(1000000 if whole else 10000)
        attention.sliding_window = numpy.int32(0 if whole else shape.WINDOW)
        product(attention.linear[0], "q", "k", "v")
        product(attention.linear[1], "o")
        norm(attention.q_norm, shape.HEAD_DIM)
        norm(attention.k_norm, shape.HEAD_DIM)
        for place in (layer.input_layer_norm, layer.post_attention_layer_norm, layer.pre_feedforward_layer_norm, layer.post_feedforward_layer_norm):
            norm(place)
        product(layer.ffn.linear_0, "gate")
        product(layer.ffn.linear_0_noact, "up")
        product(layer.ffn.linear_1, "down")
    model = specs.TransformerEncoderModelSpec(encoder)
    model.config.layer_norm_epsilon = 1e-6
    model.register_vocabulary(["<unk>"] + ["word%d" % i for i in range(1, shape.VOCABULARY)])
    model.validate()
    model.optimize("int8")
    os.makedirs(folder)
    model.save(folder)


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
    try:
        if not os.path.isdir(model):
            make(ctranslate2, model)
        engine = ctranslate2.Encoder(model, device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads)
    except (ImportError, AttributeError, RuntimeError, ValueError) as e:
        sys.exit("ctranslate2_rate.py: CTranslate2 %s: %s" % (ctranslate2.__version__, e))
    passage = [1 + i * 7919 % (shape.VOCABULARY - 1) for i in range(tokens)]
    best, end = 0.0, 0.0
    while not best or time.monotonic() < end:
        begun = time.monotonic()
        end = end or begun + seconds
        engine.forward_batch([passage])
        best = max(best, tokens / (time.monotonic() - begun))
    json.dump({"tokens_per_second": best, "version": ctranslate2.__version__}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
