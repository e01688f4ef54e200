#!/usr/bin/env python3
"""peers.py - other engines beside this library, in one run on one machine: makes the peers' models (shape.py), then lets each read a
passage in turns with kalm-bench, which measures its yardstick meanwhile. A turn counts only if the yardstick just before it and just
behind it was within some percent of its best: else something else was running. Writes peers.txt, peers.json and, where gnuplot is
installed, peers.svg.

    tests/peers/peers.py --model build/bench/nano-q8.kalm --llama-bench ~/llama.cpp/build/bin/llama-bench \\
        --onnxruntime ~/peers/node_modules --ctranslate2

Peers are built by you; nothing is fetched. tests/peers/README.md says how the figures that are published were made."""
import argparse
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

import shape

HERE = os.path.dirname(os.path.abspath(__file__))


def run(command, timeout):
    """What a command prints; a failure ends the program with the command's own last line."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, universal_newlines=True)
    except (OSError, subprocess.TimeoutExpired) as e:
        sys.exit("peers.py: %s: %s" % (command[0], e))
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        sys.exit("peers.py: %s: status %d: %s" % (command[0], done.returncode, lines[-1]))
    return done.stdout


def read_json(text, command):
    try:
        return json.loads(text)
    except ValueError:
        sys.exit("peers.py: %s printed no JSON: %.60r" % (command, text))


# ---- engines: each gives tokens a second, and what it calls itself -------------------------------------------------------

class Kalm:
    """This library; every measurement also probes the yardstick."""
    def __init__(self, bench, model, folder):
        self.bench, self.model, self.json = bench, model, os.path.join(folder, "kalm.json")
        self.name, self.version = "kalm_rerank.h, q8", ""

    def measure(self, tokens, threads):
        """tokens a second, and the yardstick in GOPS"""
        run([self.bench, "--quick", "--only", "encode_%d" % tokens, "--threads", str(threads), "--json", self.json, self.model], 600)
        with open(self.json) as f:
            text = f.read()
        data = read_json(text, self.bench)
        figures = {(f["name"], f["threads"]): f for f in data["figures"]}
        rate = figures.get(("encode_%d_tokens" % tokens, threads))
        peak = figures.get(("encode_%d" % tokens, threads))
        if not rate or not peak or not peak["peak"]:
            sys.exit("peers.py: %s measured no encode_%d on %d threads with a yardstick" % (self.bench, tokens, threads))
        return rate["value"], peak["peak"]


class Llama:
    """llama-bench of llama.cpp, or of ik_llama.cpp, whose weights are laid out anew for its fastest kernels (-rtr 1)."""
    def __init__(self, path, model):
        self.path, self.model = path, model
        self.flags = ["-rtr", "1"] if "-rtr" in run_any([path, "--help"]) else []
        self.name, self.version = ("ik_llama.cpp, Q8_0" if self.flags else "llama.cpp, Q8_0"), ""

    def measure(self, tokens, threads):
        text = run([self.path, "-m", self.model, "-p", str(tokens), "-n", "0", "-t", str(threads), "-fa", "1", "-r", "4", "-o", "json"]
                   + self.flags, 600)
        rows = read_json(text[text.find("["):], self.path)
        self.version = rows[0].get("build_commit", "")
        return max(rows[0]["samples_ts"])


class Onnx:
    def __init__(self, modules, model):
        self.modules, self.model = modules, model
        self.name, self.version = "ONNX Runtime, dynamic int8", ""

    def measure(self, tokens, threads):
        command = ["node", os.path.join(HERE, "onnxruntime.cjs"), self.modules, self.model, str(tokens), str(threads), "2"]
        got = read_json(run(command, 600), "node")
        self.version = got["version"]
        return got["tokens_per_second"]


class CTranslate2:
    """The one peer that has the model's own architecture; its package makes the model at the first measurement."""
    def __init__(self, python, library, model):
        self.command = [python, os.path.join(HERE, "ctranslate2_rate.py"), library, model]
        self.name, self.version = "CTranslate2, int8", ""

    def measure(self, tokens, threads):
        got = read_json(run(self.command + [str(tokens), str(threads), "2"], 600), self.command[0])
        self.version = got["version"]
        return got["tokens_per_second"]


def run_any(command):
    """What a command prints, whatever its status."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, universal_newlines=True)
    except (OSError, subprocess.TimeoutExpired) as e:
        sys.exit("peers.py: %s: %s" % (command[0], e))
    return done.stdout


# ---- rounds -------------------------------------------------------------------------------------------------------------

def measure_all(kalm, peers, cases, rounds, within):
    """{(engine, tokens, threads): [rates of undisturbed turns]}, the best yardstick by threads, and how many turns were thrown away."""
    turns, best = [], {}
    for number in range(rounds):
        for tokens, threads in cases:
            rate, before = kalm.measure(tokens, threads)
            for peer in peers:
                other = peer.measure(tokens, threads)
                again, behind = kalm.measure(tokens, threads)
                best[threads] = max(best.get(threads, 0), before, behind)
                turns.append((peer.name, tokens, threads, other, min(before, behind)))
                turns.append((kalm.name, tokens, threads, max(rate, again), min(before, behind)))
                rate, before = again, behind
        print("round %d of %d" % (number + 1, rounds), file=sys.stderr)
    kept, dropped = {}, 0
    for name, tokens, threads, rate, yardstick in turns:
        if yardstick >= (1 - within / 100) * best[threads]:
            kept.setdefault((name, tokens, threads), []).append(rate)
        else:
            dropped += 1
    return kept, best, dropped, len(turns)


def machine():
    name = platform.machine()
    try:
        with open("/proc/cpuinfo") as f:
            found = re.search(r"^model name\s*: (.*)$", f.read(), re.M)
        name = found.group(1) if found else name
    except OSError:
        pass
    return "%s, %d cores, %s %s" % (name, os.cpu_count() or 1, platform.system(), platform.machine())


def write_text(out, result):
    names = [e["name"] for e in result["engines"]]
    width = max(len(n) for n in names)
    out.write("%s\nyardstick, GOPS: %s; %d of %d turns left out as disturbed\n\n" % (
        result["machine"], ", ".join("%.0f on %s" % (v, k) for k, v in result["yardstick"].items()), result["dropped"], result["turns"]))
    for e in result["engines"]:
        out.write("%s  %s\n" % (e["name"].ljust(width), e["version"]))
    out.write("\n%s %8s %8s %14s %8s %8s\n" % ("engine".ljust(width), "tokens", "threads", "best tokens/s", "median", "turns"))
    for f in result["figures"]:
        out.write("%s %8d %8d %14.0f %8.0f %8d\n" % (f["engine"].ljust(width), f["tokens"], f["threads"], f["best"], f["median"], f["turns"]))


def draw(path, result, folder):
    """Bars by engine, a cluster for each case."""
    if not shutil.which("gnuplot"):
        return
    cases = sorted({(f["tokens"], f["threads"]) for f in result["figures"]})
    found = {(f["engine"], f["tokens"], f["threads"]): f["best"] for f in result["figures"]}
    data = os.path.join(folder, "bars")
    with open(data, "w") as f:
        for tokens, threads in cases:
            rates = [found.get((e["name"], tokens, threads)) for e in result["engines"]]
            f.write('"%d tokens,\\n%d thread%s" %s\n' % (tokens, threads, "s" * (threads > 1), " ".join("?" if r is None else "%.1f" % r for r in rates)))
    bars = ", ".join('"%s" using %d:xtic(1) title "%s"' % (data if not i else "", i + 2, e["name"]) for i, e in enumerate(result["engines"]))
    run(["gnuplot", "-e", 'set terminal svg noenhanced background "white" size 760,380 font "sans-serif,12"; set output "%s"; set style data histograms; '
         'set style fill solid; set yrange [0:*]; set ylabel "tokens read a second"; set key above horizontal; set xtics out nomirror; set bmargin 4; set datafile missing "?"; '
         'set title "%s"; plot %s' % (path, result["machine"].replace('"', ""), bars)], 60)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="a model of Nano's shape for kalm-bench: make bench makes build/bench/nano-q8.kalm")
    p.add_argument("--kalm-bench", default=os.path.join(HERE, "..", "..", "build", "kalm-bench"))
    p.add_argument("--llama-bench", action="append", default=[], help="of llama.cpp or ik_llama.cpp; may be given twice")
    p.add_argument("--onnxruntime", action="append", default=[], help="a folder node_modules with onnxruntime-node in it")
    p.add_argument("--ctranslate2", metavar="FOLDER", nargs="?", const="", help="the package ctranslate2, which is in FOLDER or installed")
    p.add_argument("--ctranslate2-python", metavar="FILE", default=sys.executable, help="the Python that it was built for")
    p.add_argument("--tokens", default="512,128", help="lengths of the passage, of 32, 128, 512 and 1024")
    p.add_argument("--threads", default="1,2")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--within", type=float, default=3, help="percent that a yardstick may be below the best one")
    p.add_argument("--commit", default="", help="what was measured of this library")
    p.add_argument("--out", default="build/peers", help="folder of the results")
    o = p.parse_args()
    try:
        cases = [(int(n), int(t)) for n in o.tokens.split(",") for t in o.threads.split(",")]
    except ValueError:
        p.error("--tokens and --threads are whole numbers, separated by commas")
    if not o.llama_bench and not o.onnxruntime and o.ctranslate2 is None:
        p.error("no peer: give --llama-bench, --onnxruntime or --ctranslate2")
    if o.rounds < 1 or any(n not in (32, 128, 512, 1024) or t < 1 for n, t in cases):
        p.error("kalm-bench measures passages of 32, 128, 512 and 1024 tokens; rounds and threads begin at 1")
    os.makedirs(o.out, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        gguf, onnx = os.path.join(folder, "nano.gguf"), os.path.join(folder, "nano.onnx")
        if o.llama_bench:
            shape.write_gguf(gguf)
        if o.onnxruntime:
            shape.write_onnx(onnx)
        kalm = Kalm(o.kalm_bench, o.model, folder)
        kalm.version = o.commit
        peers = [Llama(path, gguf) for path in o.llama_bench] + [Onnx(path, onnx) for path in o.onnxruntime]
        if o.ctranslate2 is not None:
            peers.append(CTranslate2(o.ctranslate2_python, o.ctranslate2, os.path.join(folder, "nano-ct2")))
        kept, best, dropped, turns = measure_all(kalm, peers, cases, o.rounds, o.within)
        result = {"machine": machine(), "commit": o.commit or "unknown", "date": datetime.date.today().isoformat(),
                  "flags": "; ".join(["this library's are those of the Makefile"] + ["llama-bench -fa 1 -r 4 " + " ".join(p.flags) for p in peers
                                                                                     if isinstance(p, Llama)]),
                  "command": " ".join(sys.argv), "load": "%.2f %.2f %.2f" % os.getloadavg(), "yardstick": {str(k): v for k, v in best.items()}, "within_percent": o.within, "turns": turns,
                  "dropped": dropped, "engines": [{"name": e.name, "version": e.version} for e in [kalm] + peers],
                  "figures": [{"engine": n, "tokens": k, "threads": t, "best": max(r), "median": sorted(r)[len(r) // 2], "turns": len(r)}
                              for (n, k, t), r in sorted(kept.items())]}
        with open(os.path.join(o.out, "peers.json"), "w") as f:
            json.dump(result, f, indent=1)
            f.write("\n")
        with open(os.path.join(o.out, "peers.txt"), "w") as f:
            write_text(f, result)
        write_text(sys.stdout, result)
        draw(os.path.join(o.out, "peers.svg"), result, folder)
    if not kept:
        sys.exit("peers.py: every turn was disturbed: nothing is known")


if __name__ == "__main__":
    main()
