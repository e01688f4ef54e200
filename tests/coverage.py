"""coverage.py BUILD [keep] - what the programs that ran in BUILD (make coverage) reached of src, tokenizer and quantize: lines and branches
of each file, then the lines that none reached. A header's counts are added up over all programs that include it; a branch counts where it
is written, once for all callers. Kernels of other machines are not compiled here and do not count (tests/targets.sh runs them under
emulators), nor do lines with KALM_ASSERT, which no input can fail. The commands of examples/ are rows of their own.

Every line that no test reaches stands in tests/coverage.tsv with the reason: file, the line's text or a part of it, reason; lines that
follow it and are not reached either belong to it. Status 1 where a line is neither reached nor listed, where a listed line is reached (but
for failures of the system, of which a run tries a sample), and below 98% of the lines or 90% of the branches. `keep` writes the figures to docs/coverage.json.

    coverage.py page     makes docs/COVERAGE.md of the list and the figures
    coverage.py check    is the page up to date, and does every line of the list still stand in its file? (make check)"""
import collections
import concurrent.futures
import datetime
import glob
import json
import os
import subprocess
import sys

LIST, FIGURES, PAGE = "tests/coverage.tsv", "docs/coverage.json", "docs/COVERAGE.md"
SAMPLED = "the system has no memory, or fails"         # reasons that begin so: whether the line is reached depends on the sample
OURS, COMMANDS = ("src/", "tokenizer/", "quantize/"), ("examples/",)


def source_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read().split("\n")


def listed():
    """(file, text, reason) of each line of the list."""
    with open(LIST, encoding="utf-8") as file:
        return [tuple(line.rstrip("\n").split("\t")) for line in file if line.strip() and not line.startswith("#")]


def gather(build):
    """Counts: lines[file][number], branches[file][number, how many the line has]."""
    root = os.getcwd()
    lines = collections.defaultdict(dict)
    branches = collections.defaultdict(dict)

    def gcov(data):
        return subprocess.run(["gcov", "--json-format", "--stdout", "-b", data], capture_output=True, text=True).stdout

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for made in pool.map(gcov, sorted(glob.glob(os.path.join(build, "**", "*.gcda"), recursive=True))):
            for text in made.splitlines():
                for f in json.loads(text)["files"]:
                    path = os.path.relpath(os.path.realpath(f["file"]), root)
                    if not path.startswith(OURS + COMMANDS):
                        continue
                    for l in f["lines"]:
                        n = l["line_number"]
                        lines[path][n] = lines[path].get(n, 0) + l["count"]
                        counts = [b["count"] for b in l.get("branches", []) if not b.get("throw")]
                        if counts:
                            old = branches[path].get((n, len(counts)), [0] * len(counts))
                            branches[path][n, len(counts)] = [a + b for a, b in zip(old, counts)]
    return lines, branches


def table(paths, lines, branches):
    """Prints a row for each file; gives their sums, the figures of each, and the runs of lines that were not reached."""
    total, figures, runs = [0, 0, 0, 0], {}, []
    print("%-40s %14s %16s" % ("file", "lines", "branches"))
    for path in sorted(paths):
        source = source_of(path)
        source += [""] * (max(lines[path]) - len(source))                  # of a file that has changed since
        skip = {n for n in lines[path] if "KALM_ASSERT" in source[n - 1]}
        fewest = {}                    # a line of a macro that is expanded several times has more: one expansion is what is counted
        for n, count in branches[path]:
            fewest[n] = min(fewest.get(n, count), count)
        seen = sum(1 for n, c in lines[path].items() if c and n not in skip)
        every = len(lines[path].keys() - skip)
        taken = [c > 0 for (n, count), cs in branches[path].items() if count == fewest[n] and n not in skip and lines[path].get(n) for c in cs]
        figures[path] = [seen, every, sum(taken), len(taken)]
        print("%-40s %5d/%-5d %3.0f%% %5d/%-5d %3.0f%%" % (path, seen, every, 100 * seen / max(every, 1), sum(taken), len(taken),
                                                            100 * sum(taken) / max(len(taken), 1)))
        total = [a + b for a, b in zip(total, figures[path])]
        run = None
        for n, count in sorted(lines[path].items()):
            if n in skip:
                continue
            if count:
                run = None
            elif run is None:
                runs.append((path, run := []))
            if run is not None:
                run.append((n, source[n - 1].strip()))
    return total, figures, runs


def percent(total):
    return 100 * total[0] / max(total[1], 1), 100 * total[2] / max(total[3], 1)


def measure(build, keep):
    lines, branches = gather(build)
    total, figures, runs = table([p for p in lines if p.startswith(OURS)], lines, branches)
    print()
    commands, _, _ = table([p for p in lines if p.startswith(COMMANDS)], lines, branches)
    # a run is explained by an entry that its first line holds; an entry may explain several
    entries = {(path, text): 0 for path, text, _ in listed()}
    sampled = {(path, text) for path, text, reason in listed() if reason.startswith(SAMPLED)}
    bad = 0
    print("\nnot reached, with no reason in %s:" % LIST)
    for path, run in runs:
        found = [key for key in entries if key[0] == path and key[1] in run[0][1]]
        for key in found:
            entries[key] += 1
        if not found:
            bad += len(run)
            print("\n".join("%s:%d: %s" % (path, n, text) for n, text in run))
    print("\nlisted, but reached:")
    for (path, text), times in entries.items():
        if not times and (path, text) not in sampled:
            bad += 1
            print("%s: %s" % (path, text))
    l, b = percent(total)
    print("\n%d of %d lines (%.1f%%), %d of %d branches of the lines that were reached (%.1f%%); examples %.1f%% and %.1f%%; %d lines of %s to mend"
          % (total[0], total[1], l, total[2], total[3], b, *percent(commands), bad, LIST))
    if keep:
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
        with open(FIGURES, "w", encoding="utf-8") as file:
            json.dump({"commit": commit, "day": datetime.date.today().isoformat(), "total": total, "examples": commands, "files": figures}, file)
            file.write("\n")
    return l < 98 or b < 90 or bad > 0


def page():
    """The text of the page."""
    with open(FIGURES, encoding="utf-8") as file:
        kept = json.load(file)
    folders = collections.defaultdict(lambda: [0, 0, 0, 0])
    for path, figures in kept["files"].items():
        folder = os.path.dirname(path)
        folders[folder] = [a + b for a, b in zip(folders[folder], figures)]
    out = ["# What the tests reach", "",
           "`make coverage` builds everything with gcc's counters, runs the tests but `golden`, then kalm-quantize and kalm-random-checkpoint with",
           "a sample of their calls of the system failing, and prints lines and branches of each file. This page is made of its figures",
           "(`docs/coverage.json`) and of the list of lines that no test reaches (`tests/coverage.tsv`) by `tests/coverage.py`; the target fails when a",
           "line is neither reached nor listed, and when a listed line is reached after all.", "",
           "Measured on %s at commit %s, on an x86-64 machine with AVX-512 VNNI and without AMX. %s" % (kept["day"], kept["commit"], kept.get("note", "")), "",
           "| folder | lines | branches |", "|---|---|---|"]
    for folder, figures in sorted(folders.items()) + [("together", kept["total"]), ("examples (commands)", kept["examples"])]:
        l, b = percent(figures)
        out.append("| %s | %d of %d, %.1f%% | %d of %d, %.1f%% |" % (folder, *figures[:2], l, *figures[2:], b))
    out += ["", "A branch is one way out of a condition; `a && b` has four. Branches are counted of lines that were reached, once for all callers of an",
            "inlined function, and not of `KALM_ASSERT`, which no input can fail. Kernels of other machines are not compiled here: `make targets`",
            "runs them under emulators.", "", "## Lines that no test reaches", ""]
    reasons = collections.OrderedDict()
    for path, text, reason in listed():
        reasons.setdefault(reason, []).append((path, text))
    for reason, entries in reasons.items():
        out += ["%s:" % reason, ""] + ["- %s: ``%s``" % entry for entry in entries] + [""]
    return "\n".join(out)


def check():
    good = True
    for entry in listed():
        if len(entry) != 3 or not any(entry[1] in line for line in source_of(entry[0])):
            print("%s: no such line any more: %s" % (LIST, "\t".join(entry)))
            good = False
    with open(PAGE, encoding="utf-8") as file:
        if file.read() != page():
            print("%s is not what %s and %s say: python3 tests/coverage.py page" % (PAGE, LIST, FIGURES))
            good = False
    return not good


if sys.argv[1] == "page":
    with open(PAGE, "w", encoding="utf-8") as to:
        to.write(page())
elif sys.argv[1] == "check":
    sys.exit(check())
else:
    sys.exit(measure(sys.argv[1], sys.argv[2:] == ["keep"]))
