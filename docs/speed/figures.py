#!/usr/bin/env python3
"""figures.py - every speed that the pages state, out of the files beside this one: fills the marked parts of the pages, and finds speeds
that stand elsewhere.

    python3 docs/speed/figures.py make  [ROOT]        # fill the pages of a tree
    python3 docs/speed/figures.py check [ROOT]        # status 1 where a page is not what the files say, or states a speed of its own
    python3 docs/speed/figures.py collect load TEXT OUT.json COMMAND COMMIT [DATE]     # figures of what make load printed
    python3 docs/speed/figures.py collect search TEXT OUT.json COMMAND COMMIT [DATE]   # the same of make search-speed
    python3 docs/speed/figures.py collect cost CSV OUT.json COMMAND COMMIT [DATE]      # and of kalm-eval --cost
    python3 docs/speed/figures.py collect wasm TEXT OUT.json COMMAND COMMIT [DATE]     # and of make wasm-speed

A file NAME.json holds one run: "machine", "commit", "date", "flags", "command" (texts) and "figures". kalm-bench writes bench.json,
tests/peers/peers.py peers.json, tests/loop_bounds.py bounds.json; the others are collected from what a command prints.

In a page the lines between <!-- speed NAME --> and <!-- end of speed --> are made of those behind "== NAME" in PAGE.in here, where
PAGE is the page's name (README.md of examples/wasm: wasm.in). There {bench:encode_512_tokens/1} is the value of the figure of that
name and number of threads. More may follow the name: @ratio, another member of it; *100, what it is multiplied by; |.1f, Python's
format (default .0f); |bar FILE:FIGURE, a bar that is full where both are equal. {bench.machine} is a text of the file. A line that
begins with "? " is left out where a figure of it lacks; one that begins with "! " stands for what a command prints.

Elsewhere no page may state a speed: a number with a unit of time or rate. Those that are none (a timeout, what a screen showed) are
listed in other.tsv: page, a piece of the line, why."""
import datetime
import glob
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MUST = ("machine", "commit", "date", "flags", "command")
SPEED = re.compile(r"""(?<![\w.-])[\d.,]*\d\s?(?:ms|us|µs|s|seconds?|minutes?|hours?|[kMG]B/s|G?OPS|GOPS)(?![\w-])
    |\d\s?(?:tokens|documents|answers|queries|pairs|texts)(?:\s(?:read|encoded))?(?:/s|\sa\ssecond|\sper\ssecond)
    |\d%?\s(?:of|times)\s(?:the\s)?(?:yardstick|peak|AVX|one\sthread|`?vpmadd|as\sfast)
    |[\d.]+\stimes\s(?:faster|slower|as\sfast|as\slong|what|the\sRust)
    |[\d.]+%\s(?:faster|slower)""", re.X)


class Missing(Exception):
    """A figure that its file does not hold, or that cannot be written so."""


def read_file(path):
    """A run: its texts, and its figures by name and threads (of peers: engine, tokens, threads)."""
    try:
        with open(path, encoding="utf-8") as f:
            data = json.load(f)
    except (OSError, ValueError) as e:
        sys.exit("figures.py: %s: %s" % (path, e))
    if not isinstance(data, dict):
        sys.exit("figures.py: %s is no object" % path)
    for key in MUST:
        if not isinstance(data.get(key), str) or not data[key]:
            sys.exit("figures.py: %s does not say its %s" % (path, key))
    figures = {}
    try:
        for f in data["figures"]:
            name = "%s/%d" % (f["engine"], f["tokens"]) if "engine" in f else f["name"]
            figures["%s/%d" % (name, f["threads"])] = f
    except (KeyError, TypeError):
        sys.exit("figures.py: %s: its figures are no list of names and threads" % path)
    return data, figures


class Sources:
    """The files of a folder, read when they are asked for."""
    def __init__(self, folder):
        self.folder, self.files, self.used = folder, {}, set()

    def file(self, name):
        if name not in self.files:
            self.files[name] = read_file(os.path.join(self.folder, name + ".json"))
        self.used.add(name)
        return self.files[name]

    def value(self, name, figure):
        figure, _, times = figure.partition("*")
        figure, _, member = figure.partition("@")
        found = self.file(name)[1].get(figure)
        if found is None:
            raise Missing("%s.json has no figure %s" % (name, figure))
        value = found.get(member or ("value" if "value" in found else "best"))
        if not isinstance(value, (int, float)):
            raise Missing("%s.json: figure %s has no %s" % (name, figure, member or "value"))
        return value * float(times or 1)

    def reference(self, match):
        name, text, figure, form = match.group("file", "text", "figure", "form")
        if text:
            found = self.file(name)[0].get(text)
            if not isinstance(found, str):
                raise Missing("%s.json has no %s" % (name, text))
            return found
        value = self.value(name, figure)
        if form and form.startswith("bar "):
            other, _, whole = form[4:].partition(":")
            return "\u2588" * max(1, round(32 * value / self.value(other, whole)))
        try:
            return format(value, form or ".0f")
        except ValueError as e:
            raise Missing("{%s:%s|%s}: %s" % (name, figure, form, e)) from e

    def fill(self, line):
        return re.sub(r"\{(?P<file>[a-z0-9_]+)(?:\.(?P<text>[a-z]+)|:(?P<figure>[^{}|]+)(?:\|(?P<form>[^{}]*))?)\}", self.reference, line)


# ---- pages --------------------------------------------------------------------------------------------------------------

def page_of(path):
    """examples/wasm/README.md -> wasm, docs/SPEED.md -> SPEED"""
    folder, name = os.path.split(path)
    return os.path.basename(folder) if name == "README.md" and folder else name[:-3]


def blocks_of(path):
    """name -> lines, of a file PAGE.in"""
    blocks, name = {}, None
    try:
        with open(path, encoding="utf-8") as f:
            text = f.read()
    except OSError as e:
        sys.exit("figures.py: %s: %s" % (path, e))
    for line in text.split("\n"):
        if line.startswith("== "):
            name = line[3:].strip()
            blocks[name] = []
        elif name:
            blocks[name].append(line)
    for lines in blocks.values():
        while lines and not lines[-1]:
            lines.pop()
    return blocks


def make_block(root, sources, where, lines):
    made = []
    for line in lines:
        if line.startswith("! "):
            made += subprocess.run(line[2:], shell=True, check=True, cwd=root, stdout=subprocess.PIPE,
                                   universal_newlines=True).stdout.rstrip("\n").split("\n")
            continue
        optional = line.startswith("? ")
        try:
            made.append(sources.fill(line[2:] if optional else line))
        except Missing as e:
            if not optional:
                sys.exit("figures.py: %s: %s" % (where, e))
            continue
        if "{" in made[-1]:
            sys.exit("figures.py: %s: this is no figure: %s" % (where, made[-1][made[-1].index("{"):][:40]))
    return made


def fill_page(root, sources, path):
    """The page as it should be, and its lines outside of what is made: [(number, line)]."""
    with open(os.path.join(root, path), encoding="utf-8") as f:
        lines = f.read().split("\n")
    template = os.path.join(sources.folder, page_of(path) + ".in")
    blocks = blocks_of(template) if any(re.match(r"<!-- speed \w+ -->$", x) for x in lines) else {}
    made, own, i = [], [], 0
    while i < len(lines):
        made.append(lines[i])
        begin = re.match(r"<!-- speed (\w+) -->$", lines[i])
        if not begin:
            own.append((i + 1, lines[i]))
            i += 1
            continue
        name = begin.group(1)
        if name not in blocks:
            sys.exit("figures.py: %s:%d: %s has no block %s" % (path, i + 1, template, name))
        made += make_block(root, sources, "%s, %s" % (template, name), blocks[name])
        while i < len(lines) and lines[i] != "<!-- end of speed -->":
            i += 1
        if i == len(lines):
            sys.exit("figures.py: %s: <!-- speed %s --> has no end" % (path, name))
    return "\n".join(made), own


def pages(root):
    """Every page but those that are made of the sources' comments."""
    found = [p for pattern in ("*.md", "docs/*.md", "examples/*/README.md", "tests/*/README.md") for p in sorted(glob.glob(os.path.join(root, pattern)))]
    return [p for p in (os.path.relpath(p, root) for p in found) if p not in ("docs/FORMAT.md", "docs/MAP.md")]


def exceptions(folder):
    """(page, piece of a line, why)"""
    with open(os.path.join(folder, "other.tsv"), encoding="utf-8") as f:
        rows = [line.rstrip("\n").split("\t") for line in f if line.strip() and not line.startswith("#")]
    for row in rows:
        if len(row) != 3 or not all(row):
            sys.exit("figures.py: other.tsv: a line is a page, a piece of its line and why: %s" % row)
    return rows


def run_pages(root, check):
    folder = os.path.join(root, "docs", "speed")
    sources, faults = Sources(folder), 0
    allowed = exceptions(folder)
    needed = set()
    for path in pages(root):
        text, own = fill_page(root, sources, path)
        with open(os.path.join(root, path), encoding="utf-8") as f:
            same = f.read() == text
        if not same and check:
            print("%s does not say what docs/speed has: make docs" % path)
            faults += 1
        elif not same:
            with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                f.write(text)
        for number, line in own:
            rest = line
            for i, (page, piece, _) in enumerate(allowed):
                if page == path and piece in rest:
                    rest = rest.replace(piece, "")
                    needed.add(i)
            if SPEED.search(rest):
                print("%s:%d: a speed without a source (%s); docs/speed/figures.py says how one is written" % (path, number, SPEED.search(rest).group(0).strip()))
                faults += 1
    for i, (page, piece, _) in enumerate(allowed):
        if i not in needed:
            print("docs/speed/other.tsv: %s does not say '%s'" % (page, piece))
            faults += 1
    for path in glob.glob(os.path.join(folder, "*.json")):
        name = os.path.basename(path)[:-5]
        if name not in sources.used:
            print("docs/speed/%s.json: no page shows a figure of it" % name)
            faults += 1
    return 1 if check and faults else 0


# ---- collecting ---------------------------------------------------------------------------------------------------------

def collect_load(text):
    """What tests/load.sh prints: the machine, then a line for each measurement."""
    machine, figures, model = "", [], "tiny"
    for line in text.splitlines():
        numbers = [float(x) for x in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", line)]
        if re.search(r", \d+ cores, load ", line):
            machine = line
        elif line.startswith("a model of Nano's shape"):
            model = "nano"
        elif " rounds: library " in line:
            name = "%s_%d_documents" % (model, numbers[0])
            for what, at, unit in (("rounds", 1, "rounds"), ("library", 2, "ms"), ("library_median", 3, "ms"), ("http", 4, "ms"),
                                   ("http_median", 5, "ms"), ("library_processor", 8, "ms"), ("http_processor", 9, "ms")):
                figures.append((name + "_" + what, 2, numbers[at], unit))
        elif " clients, " in line:
            name = "clients_%d" % numbers[0]
            for what, at, unit in (("documents", 1, "documents"), ("seconds", 2, "s"), ("answers", 3, "answers"), ("rate", 4, "answers/s"),
                                   ("p50", 5, "ms"), ("p99", 6, "ms"), ("refused", 7, "answers"), ("broken", 8, "answers"),
                                   ("unanswered", 9, "answers"), ("memory", 12, "MB")):
                figures.append((name + "_" + what, 2, numbers[at], unit))
    return machine, figures


def collect_search(text):
    """What tests/search_speed.sh prints."""
    machine, figures = "", []
    for line in text.splitlines():
        m = re.match(r"(kalm\S+) +([\d.]+) s +([\d.]+) documents/s +([\d.]+)% +processor +([\d.]+) s", line)
        if m:
            name = m.group(1).replace("-", "_")
            for what, at, unit in (("wall", 2, "s"), ("rate", 3, "documents/s"), ("share", 4, "%"), ("processor", 5, "s")):
                figures.append((name + "_" + what, 2, float(m.group(at)), unit))
        m = re.match(r"question, (first|warm).* median +([\d.]+) ms \(words ([\d.]+), reading ([\d.]+), model ([\d.]+)\), slowest +([\d.]+) ms; (\d+) "
                     r"candidates of (\d+) passages", line)
        if m:
            for i, what in enumerate(("all", "words", "reading", "model", "slowest"), 2):
                figures.append(("question_%s_%s" % (m.group(1), what), 2, float(m.group(i)), "ms"))
            figures.append(("question_%s_candidates" % m.group(1), 2, float(m.group(7)), "passages"))
            figures.append(("passages", 2, float(m.group(8)), "passages"))
        if re.search(r", \d+ cores, load ", line):
            machine = line
    return machine, figures


def collect_cost(text):
    """cost_curve.csv of kalm-eval --cost on one thread: milliseconds a passage by tokens and ratio, and what they are to joint reading."""
    rows = [line.split(",") for line in text.splitlines()]
    figures = []
    for row in rows[1:]:
        cell = dict(zip(rows[0], row))
        for what in rows[0][2:]:
            figures.append(("cost_%s_%s_%s" % (cell["tokens"], cell["ratio"], what), 1, float(cell[what]), "ms" if what.endswith("_ms") else "x"))
    return None, figures


def collect_wasm(text):
    """What tests/wasm/speed.mjs prints: name, threads, value, unit."""
    return None, [(name, int(threads), float(value), unit) for name, threads, value, unit in map(str.split, text.splitlines())]


def this_machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        name = re.search(r"^model name\s*: (.*)$", f.read(), re.M)
    return "%s, %d cores, load %.2f" % (name.group(1) if name else "unknown", os.cpu_count(), os.getloadavg()[0])


COLLECT = {"load": collect_load, "search": collect_search, "cost": collect_cost, "wasm": collect_wasm}


def collect(kind, text_path, out, command, commit, date=""):
    with open(text_path, encoding="utf-8") as f:
        machine, figures = COLLECT[kind](f.read())
    if not figures:
        sys.exit("figures.py: %s is not what a run of that kind prints" % text_path)
    m = re.match(r"(.*, \d+ cores), load (.*)$", machine or this_machine())
    if not m:
        sys.exit("figures.py: '%s' is no machine, cores and load" % machine)
    head = {"machine": m.group(1), "load": m.group(2), "commit": commit, "date": date or datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
            "flags": "those of the Makefile", "command": command}
    seen, lines = set(), []
    for name, threads, value, unit in figures:
        if name not in seen:
            lines.append("  " + json.dumps({"name": name, "threads": threads, "value": value, "unit": unit}))
            seen.add(name)
    with open(out, "w", encoding="utf-8") as f:
        f.write("{\n%s,\n \"figures\": [\n%s\n ]\n}\n" % (",\n".join(" %s: %s" % (json.dumps(k), json.dumps(v)) for k, v in head.items()), ",\n".join(lines)))


def main():
    arguments = sys.argv[1:]
    if arguments[:1] in (["make"], ["check"]) and len(arguments) < 3:
        return run_pages(arguments[1] if len(arguments) > 1 else os.path.dirname(os.path.dirname(HERE)), arguments[0] == "check")
    if arguments[:1] == ["collect"] and len(arguments) in (6, 7) and arguments[1] in COLLECT:
        return collect(*arguments[1:])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
