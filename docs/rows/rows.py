#!/usr/bin/env python3
"""rows.py - what rows of 32 to 2 bits do to a ranking: measures it, and makes docs/ROWS.md and its chart of the figures.

    python3 docs/rows/rows.py measure [--build build] [--threads N] [--queries N] [RUN...]   # docs/rows/rows.json and the page; without RUN all of
                                                # them, which takes half an hour of processor time; --queries: at most so many in each
    python3 docs/rows/rows.py make [ROOT]       # the page and the chart out of docs/rows/rows.json
    python3 docs/rows/rows.py check [ROOT]      # status 1 where they are not what the figures say

A run is a model over a collection at some ratios and row types; kalm-eval does the work. rows.json holds a line for each figure:
run, ratio, bits, ndcg (nDCG@10), change (of it, against rows of 32 bits at that ratio), tau, mean and most (of the margin's change), bytes
(of a document). In ROWS.in a line "== table ..." stands for a table of figures, and {run/ratio/bits/what|format} for one figure."""
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FEW = [32, 4, 3, 2]
TINY = "examples/tiny/eval"
# name: (how kalm-quantize makes the model, collection, ratios, bits, queries or 0 for all). The model is called as the word before the dot.
RUNS = {
    "f32": (TINY, [1, 2, 4, 8, 16, 32], [32, 16, 8, 4, 3, 2], 0),
    "f32plain": (TINY, [1, 2, 4, 8, 32], FEW, 0),
    "q8": (TINY, [1, 4, 32], [32, 8, 4, 3, 2], 0),
    "q4": (TINY, [1, 4, 32], [32, 8, 4, 3, 2], 0),
    "q8plain": (TINY, [1, 4, 32], [32, 4, 2], 50),
    "q4plain": (TINY, [1, 4, 32], [32, 4, 2], 50),
    "f32.manual": ("manual", [1, 4, 32], FEW, 0),
    "f32.german": ("german", [1, 4, 32], FEW, 0),
    "f32plain.manual": ("manual", [4], FEW, 0),
    "f32plain.german": ("german", [4], FEW, 0),
    "massive": (TINY, [1, 4, 32], [32, 8, 4, 3, 2], 50),
    "massiveplain": (TINY, [1, 4, 32], [32, 8, 4, 2], 50),
    "massiveq8": (TINY, [4], [32, 8, 4, 2], 50),
    # what the transform is fitted from, and to rows of which ratio: copies of the sources with a line changed
    "both": (TINY, [4], [32, 4, 2], 50),
    "neutral": (TINY, [4], [32, 4, 2], 50),
    "random": (TINY, [4], [32, 4, 2], 50),
    "fit1": (TINY, [1, 4, 32], [32, 4, 2], 50),
    "fit4": (TINY, [1, 4, 32], [32, 4, 2], 50),
    "fit32": (TINY, [1, 4, 32], [32, 4, 2], 50),
}
PLAIN = ("f32plain", "q8plain", "q4plain", "massiveplain", "both", "neutral", "random")
WEIGHTS = {"q8": "q8", "q8plain": "q8", "massiveq8": "q8", "q4": "q4", "q4plain": "q4"}
SAME = {"both": "f32plain", "fit4": "f32"}
# a line of quantize/rows.h, and what stands there instead
CHANGED = {
    "neutral": [("KALM__ROWS_RANDOM = 24,", "KALM__ROWS_RANDOM = 0,")],
    "random": [("KALM__ROWS_RANDOM = 24,", "KALM__ROWS_RANDOM = 2 * KALM__NEUTRAL,"), ("has_tokenizer ? KALM__NEUTRAL : 0", "has_tokenizer ? 0 : 0")],
    "fit1": [("KALM__ROWS_FIT_RATIO = 4,", "KALM__ROWS_FIT_RATIO = 1,")],
    "fit32": [("KALM__ROWS_FIT_RATIO = 4,", "KALM__ROWS_FIT_RATIO = 32,")],
}


# ---- measuring ----------------------------------------------------------------------------------------------------------

def command(*words, **more):
    return subprocess.run(words, check=True, universal_newlines=True, stdout=subprocess.PIPE, **more).stdout


def texts(build, what, *more):
    """A file or folder of build/rows that texts.py makes."""
    path = os.path.join(build, "rows", what)
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        command(sys.executable, os.path.join(HERE, "texts.py"), what.split(".")[0] if what != "german" else "manual", *more, path,
                *(["de"] if what == "german" else []))
    return path


def changed_quantize(build, name):
    """kalm-quantize of a copy of the sources, with some lines changed."""
    tree = os.path.join(build, "rows", "tree-" + name)
    command("rm", "-rf", tree)
    command("mkdir", "-p", tree)
    command("sh", "-c", 'git ls-files -z Makefile src tokenizer quantize kalm_rerank.h | xargs -0 cp --parents -t "$0"', tree)
    path = os.path.join(tree, "quantize", "rows.h")
    with open(path, encoding="utf-8") as f:
        source = f.read()
    for old, new in CHANGED[name]:
        if source.count(old) != 1:
            sys.exit("rows.py: quantize/rows.h has no single '%s'" % old)
        source = source.replace(old, new)
    with open(path, "w", encoding="utf-8") as f:
        f.write(source)
    command("cc", "-std=gnu99", "-O2", "-I" + os.path.join(tree, "src", "parts"), "-o", os.path.join(tree, "kalm-quantize"), os.path.join(tree, "quantize", "kalm_quantize.c"), "-lm", "-lpthread")
    return os.path.join(tree, "kalm-quantize")


def model_of(build, name, threads):
    name = SAME.get(name, name)
    path = os.path.join(build, "rows", name + ".kalm")
    source = "examples/tiny" if not name.startswith("massive") else texts(build, "massive", "examples/tiny")
    quantize = changed_quantize(build, name) if name in CHANGED else os.path.join(build, "kalm-quantize")
    words = [quantize, source, path, "--weights", WEIGHTS.get(name, "f32"), "--quiet", "--threads", threads]
    if name not in PLAIN:
        words += ["--calibrate", texts(build, "calibrate.tsv")]
    command(*words)
    return path


def run_model(build, run, threads, models, most):
    folder, ratios, bits, queries = RUNS[run]
    queries = min(queries or most, most or queries)
    name = run.split(".")[0]
    if name not in models:
        models[name] = model_of(build, name, threads)
    words = [os.path.join(build, "kalm-eval"), models[name], folder if folder == TINY else texts(build, folder), "--json", "--threads", threads,
             "--ratio", ",".join(map(str, ratios)), "--bits", ",".join(map(str, bits))]
    words += ["--queries", str(queries)] if queries else []
    words += ["--depth", "20"] if folder != TINY else []
    result = json.loads(command(*words, stderr=subprocess.DEVNULL))
    figures = []
    for model in result["models"]:
        for r in model["ratios"]:
            figures.append({"run": run, "ratio": r["ratio"], "bits": model["bits"], "pairs": result["pairs"], "ndcg": round(r["ndcg10"], 5),
                            "change": round(r.get("delta_ndcg10", 0), 5), "tau": round(r.get("tau", 1), 5),
                            "mean": round(r.get("mean_margin_change", 0), 6), "most": round(r.get("max_margin_change", 0), 4),
                            "bytes": round(r["doc_bytes"], 1)})
    return figures


def run_forms(build, threads, models):
    """docs/rows/forms.c over three kinds of texts."""
    if "f32" not in models:
        models["f32"] = model_of(build, "f32", threads)
    program = os.path.join(build, "rows", "forms")
    command("cc", "-std=c99", "-O2", "-I.", os.path.join(HERE, "forms.c"), "-o", program, "-lm", "-lpthread")
    found = []
    for name in ("descriptions", "manual", "german"):
        folder = TINY if name == "descriptions" else texts(build, name)
        lines = os.path.join(build, "rows", name + ".txt")
        with open(os.path.join(folder, "corpus.jsonl"), encoding="utf-8") as f, open(lines, "w", encoding="utf-8") as out:
            for line in f.readlines()[:200]:
                out.write(" ".join(json.loads(line)["text"].split()) + "\n")
        for line in command(program, models["f32"], texts(build, "calibrate.tsv"), lines).splitlines():
            words = line.split()
            if words[0] == "form":
                found.append({"texts": name, "bits": int(words[1]), "form": words[2], "bytes": float(words[3]), "error": float(words[4]),
                              "mean": float(words[5])})
    return found


def checksum(path):
    digest = hashlib.sha256()
    for name in sorted(os.listdir(path)) if os.path.isdir(path) else [""]:
        if not os.path.isdir(os.path.join(path, name)):
            with open(os.path.join(path, name) if name else path, "rb") as f:
                digest.update(f.read())
    return digest.hexdigest()[:16]


def load(root):
    with open(os.path.join(root, "docs", "rows", "rows.json"), encoding="utf-8") as f:
        return json.load(f)


def store(data):
    with open(os.path.join(HERE, "rows.json"), "w", encoding="utf-8") as f:
        parts = [" %s: %s" % (json.dumps(k), "[\n%s\n ]" % ",\n".join("  " + json.dumps(x) for x in v) if isinstance(v, list) else json.dumps(v))
                 for k, v in data.items()]
        f.write("{\n%s\n}\n" % ",\n".join(parts))


def measure(arguments):
    options = {"--build": "build", "--threads": str(os.cpu_count()), "--queries": "0"}
    while len(arguments) > 1 and arguments[0] in options:
        options[arguments[0]] = arguments[1]
        arguments = arguments[2:]
    build, threads, most = options["--build"], options["--threads"], int(options["--queries"])
    wanted, models = arguments or list(RUNS) + ["forms"], {}
    for run in wanted:
        if run not in RUNS and run != "forms":
            sys.exit("rows.py: no run called %s: %s, forms" % (run, ", ".join(RUNS)))
    try:
        data = load(os.path.dirname(os.path.dirname(HERE)))
    except FileNotFoundError:
        data = {"figures": []}
    commit = command("git", "describe", "--always", "--dirty").strip()
    data.setdefault("runs", {})
    for run in wanted:
        print(run, flush=True)
        if run == "forms":
            data["forms"] = run_forms(build, threads, models)
        else:
            figures = run_model(build, run, threads, models, most)
            data["figures"] = [x for x in data["figures"] if x["run"] != run] + figures
        data["figures"].sort(key=lambda x: list(RUNS).index(x["run"]))
        data["runs"][run] = "%s, commit %s" % (datetime.date.today().isoformat(), commit)
        data["texts"] = {what: checksum(os.path.join(build, "rows", what)) for what in ("calibrate.tsv", "manual", "german")
                         if os.path.exists(os.path.join(build, "rows", what))}
        store(data)
    return make(os.path.dirname(os.path.dirname(HERE)), False)


# ---- the page -------------------------------------------------------------------------------------------------------------

class Figures:
    def __init__(self, data):
        self.data = data
        self.by = {(x["run"], x["ratio"], x["bits"]): x for x in data["figures"]}

    def get(self, run, ratio, bits):
        return self.by.get((run, int(ratio), int(bits)))

    def one(self, match):
        run, ratio, bits, what, form = match.groups()
        found = self.get(run, ratio, bits)
        if not found:
            sys.exit("rows.py: rows.json has no figure %s" % match.group(0))
        return format(found[what], form or "")


def number(x, digits):
    """.0803 and not 0.0803, as the goals are written"""
    return ("%.*f" % (digits, x)).replace("0.", ".", 1) if abs(x) < 1 else "%.*f" % (digits, x)


def change(x):
    return ("+" if x > 0 else "") + number(x, 4) if round(x, 4) else "0"


# (bits, ratio at most) -> mean, tau of the issue that asked for them; without texts the mean may be 1.3 times as large
GOALS = {4: ((.02, .99), (.03, .988)), 3: ((.04, .983), (.06, .978)), 2: ((.08, .967), (.12, .956))}


def goal_of(bits, ratio):
    return GOALS[bits][ratio > 8]


def table_all(figures, run):
    lines = ["| ratio | bits | bytes | nDCG@10 | its change | tau | margin: mean / largest |", "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for (name, ratio, bits), x in sorted(figures.by.items(), key=lambda item: (item[0][1], -item[0][2])):
        if name == run:
            lines.append("| %d | %d | %s | %s | %s | %s | %s / %s |" % (ratio, bits, format(round(x["bytes"]), ","), "%.4f" % x["ndcg"], change(x["change"]),
                         "%.4f" % x["tau"], number(x["mean"], 4), number(x["most"], 2)))
    return lines


def table_goals(figures, run, plain):
    lines = ["| bits | ratio | mean: goal | calibrated | tau: goal | calibrated | mean without texts: goal | without texts |",
             "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for bits in (4, 3, 2):
        for ratio in (1, 2, 4, 8, 16, 32):
            x, y = figures.get(run, ratio, bits), figures.get(plain, ratio, bits)
            if not x or ratio == 16:
                continue
            mean, tau = goal_of(bits, ratio)
            most = 1.3 * mean
            lines.append("| %d | %d | %s | %s%s | %s | %s%s | %s | %s |" % (
                bits, ratio, number(mean, 2), number(x["mean"], 4), "" if x["mean"] <= mean else " **missed**", number(tau, 3), number(x["tau"], 4),
                "" if x["tau"] >= tau else " **missed**", number(most, 3), "–" if not y else number(y["mean"], 4) + ("" if y["mean"] <= most else " **missed**")))
    return lines


def table_budgets(figures, run):
    """For a passage of 256 tokens of width 640: what takes about so many bytes, from a quarter less to 6% more."""
    lines = ["| bytes | ratio, bits: nDCG@10 |", "| ---: | --- |"]
    for budget in (80, 40, 20, 10, 5):
        fit = []
        for (name, ratio, bits), x in figures.by.items():
            size = 64 + -(-256 // ratio) * {32: 2560, 16: 1280, 8: 660, 4: 321, 3: 241, 2: 161}[bits]
            if name == run and .74 * budget < size / 1000 < 1.06 * budget:
                fit.append((-x["ndcg"], ratio, bits, size))
        lines.append("| %d kB | %s |" % (budget, "; ".join("%sratio %d, %d bits (%.1f kB): %.4f%s" % ("**" if not i else "", r, b, size / 1000, -n, "**" if not i else "")
                                                           for i, (n, r, b, size) in enumerate(sorted(fit)[:5]))))
    return lines


def table_dates(data):
    """Which run was when, runs of one commit together."""
    when = {}
    for run in list(RUNS) + ["forms"]:
        if run in data["runs"]:
            when.setdefault(data["runs"][run], []).append(run)
    return ["- %s: %s" % (day, ", ".join("`%s`" % run for run in runs)) for day, runs in sorted(when.items())]


FORMS = (("stored", "as documents have them"), ("stream", "the same levels, one stream a document"), ("counted", "and tables of their own for each component"),
         ("fixed", "no entropy coder: whole bits, Lloyd-Max levels"), ("scalar", "no trellis, one step for all rows (ideal code)"),
         ("predicted", "the same, rows predicted from static embeddings"), ("same", "predicted, for the error of stored rows"))


def table_forms(data, kind):
    lines = ["| | " + " | ".join("%d bits: bytes, error, margin" % b for b in (4, 3, 2)) + " |", "| --- | ---: | ---: | ---: |"]
    by = {(x["form"], x["bits"]): x for x in data.get("forms", []) if x["texts"] == kind}
    for form, title in FORMS:
        cells = [by[form, b] for b in (4, 3, 2) if (form, b) in by]
        if cells:
            lines.append("| %s | %s |" % (title, " | ".join("%s, %s, %s" % (number(x["bytes"], 3), "%.2f" % x["error"], number(x["mean"], 3)) for x in cells)))
    return lines


def table_runs(figures, ratios, bits, runs):
    """A line for each run, a pair of columns for each ratio and row type: mean change and tau."""
    pairs = [(r, b) for r in ratios for b in bits]
    lines = ["| | " + " | ".join("%d bits, ratio %d" % (b, r) for r, b in pairs) + " |", "| --- |" + " ---: |" * len(pairs)]
    for run, title in runs:
        cells = []
        for r, b in pairs:
            x = figures.get(run, r, b)
            cells.append("%s / %s" % (number(x["mean"], 4), number(x["tau"], 3)) if x else "–")
        lines.append("| %s | %s |" % (title, " | ".join(cells)))
    return lines


def page(root, data):
    figures, made = Figures(data), []
    with open(os.path.join(root, "docs", "rows", "ROWS.in"), encoding="utf-8") as f:
        lines = f.read().split("\n")
    for line in lines:
        words = line.split(" ", 2)
        if line.startswith("== all "):
            made += table_all(figures, line[7:].strip())
        elif line.startswith("== budgets "):
            made += table_budgets(figures, words[2])
        elif line.startswith("== goals "):
            made += table_goals(figures, *line[9:].split())
        elif line.startswith("== runs "):
            ratios, bits, rest = line[8:].split(" ", 2)
            made += table_runs(figures, [int(x) for x in ratios.split(",")], [int(x) for x in bits.split(",")], [x.split(": ", 1) for x in rest.split("; ")])
        elif line == "== dates":
            made += table_dates(data)
        elif line.startswith("== forms "):
            made += table_forms(data, words[2])
        elif words[0] == "==":
            sys.exit("rows.py: ROWS.in: no such table: %s" % line)
        else:
            line = re.sub(r"\{date:([\w.]+)\}", lambda m: data["runs"][m[1]], line)
            made.append(re.sub(r"\{([\w.]+)/(\d+)/(\d+)/(\w+)(?:\|([^{}]*))?\}", figures.one, line))
    return keep_speeds(root, "\n".join(made))


def keep_speeds(root, text):
    """What docs/speed/figures.py fills in is its own."""
    mark = re.compile(r"(<!-- speed \w+ -->\n).*?(<!-- end of speed -->)", re.S)
    try:
        with open(os.path.join(root, "docs", "ROWS.md"), encoding="utf-8") as f:
            found = mark.search(f.read())
    except FileNotFoundError:
        return text
    return mark.sub(lambda m: found[0], text) if found else text


COLOURS = {32: "#999999", 16: "#555555", 8: "#0072b2", 4: "#009e73", 3: "#e69f00", 2: "#d55e00"}


def chart(data):
    """Change of the margin against bytes a document, both on logarithmic scales: nDCG of 150 queries is too coarse to tell row types apart."""
    import math
    points = {}
    for x in data["figures"]:
        if x["run"] == "f32":
            points.setdefault(x["bits"], []).append((x["bytes"], x["ndcg"], x["ratio"]))
    left, right, top, bottom = 70, 690, 20, 360
    across = lambda v: left + (right - left) * (math.log10(v) - 2.2) / (4.9 - 2.2)
    lowest, highest = .67, .81
    down = lambda v: bottom - (bottom - top) * (v - lowest) / (highest - lowest)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 420" font-family="sans-serif" font-size="13">',
           '<rect width="760" height="420" fill="white"/>']
    for v in (200, 500, 1000, 2000, 5000, 10000, 20000, 50000):
        out.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>'
                   % (across(v), top, across(v), bottom, across(v), bottom + 18, "%d" % v if v < 1000 else "%dk" % (v // 1000)))
    for i in range(8):
        v = .68 + .02 * i
        if v <= highest:
            out.append('<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.2f</text>'
                       % (left, down(v), right, down(v), left - 6, down(v) + 4, v))
    out.append('<text x="%d" y="%d" text-anchor="middle">bytes of a document of 76 tokens, width 192; points are ratios 1, 2, 4, 8, 16, 32 from the right</text>'
               % ((left + right) // 2, bottom + 42))
    out.append('<text x="16" y="%d" text-anchor="middle" transform="rotate(-90 16 %d)">nDCG@10</text>' % ((top + bottom) // 2, (top + bottom) // 2))
    for i, bits in enumerate(sorted(points, reverse=True)):
        row = sorted(points[bits])
        out.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>' % (" ".join("%.1f,%.1f" % (across(b), down(n)) for b, n, _ in row), COLOURS[bits]))
        out += ['<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"><title>%d bits, ratio %d: %d bytes, nDCG@10 %.4f</title></circle>'
                % (across(b), down(n), COLOURS[bits], bits, ratio, b, n) for b, n, ratio in row]
        out.append('<text x="%d" y="%d" fill="%s">%d bits</text>' % (right + 8, top + 16 + 20 * i, COLOURS[bits], bits))
    return "\n".join(out + ["</svg>", ""])


def make(root, check):
    data, wrong = load(root), 0
    for name, text in (("docs/ROWS.md", page(root, data)), ("docs/rows/rows.svg", chart(data))):
        path = os.path.join(root, name)
        try:
            with open(path, encoding="utf-8") as f:
                same = f.read() == text
        except FileNotFoundError:
            same = False
        if not same and check:
            print("%s does not say what docs/rows has: make docs" % name)
            wrong = 1
        elif not same:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
    return wrong


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == ["measure"]:
        return measure(arguments[1:])
    if arguments[:1] in (["make"], ["check"]) and len(arguments) < 3:
        return make(arguments[1] if len(arguments) > 1 else os.path.dirname(os.path.dirname(HERE)), arguments[0] == "check")
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
