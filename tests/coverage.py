"""coverage.py BUILD - what the programs that ran in BUILD (make config=coverage test) reached of src, tokenizer and quantize: lines and
branches of each file, then the lines that none reached. A header's counts are added up over all programs that include it; kernels of
other machines are not compiled here and do not count (tests/targets.sh runs them under emulators). Status 1 below 98% of the lines or
90% of the branches."""
import collections
import glob
import json
import os
import subprocess
import sys

build = sys.argv[1]
root = os.getcwd()
lines = collections.defaultdict(dict)                   # file -> line -> count
branches = collections.defaultdict(dict)                # file -> (line, how many the line has) -> counts
for data in glob.glob(os.path.join(build, "**", "*.gcda"), recursive=True):
    made = subprocess.run(["gcov", "--json-format", "--stdout", "-b", data], capture_output=True, text=True)
    for text in made.stdout.splitlines():
        for f in json.loads(text)["files"]:
            path = os.path.relpath(os.path.realpath(f["file"]), root)
            if not path.startswith(("src/", "tokenizer/", "quantize/")):
                continue
            for l in f["lines"]:
                n = l["line_number"]
                lines[path][n] = lines[path].get(n, 0) + l["count"]
                counts = [b["count"] for b in l.get("branches", []) if not b.get("throw")]
                if counts:
                    old = branches[path].get((n, len(counts)), [0] * len(counts))
                    branches[path][n, len(counts)] = [a + b for a, b in zip(old, counts)]

total = [0, 0, 0, 0]
missed = []
print("%-34s %14s %16s" % ("file", "lines", "branches"))
for path in sorted(lines):
    source = open(path, encoding="utf-8").read().split("\n")
    source += [""] * (max(lines[path]) - len(source))                      # of a file that has changed since
    skip = {n for n in lines[path] if "KALM_ASSERT" in source[n - 1]}      # no input can fail one
    fewest = {}                        # a line that a program has inlined several times has more: one alone is what is counted
    for n, count in branches[path]:
        fewest[n] = min(fewest.get(n, count), count)
    seen = sum(1 for n, c in lines[path].items() if c and n not in skip)
    every = len(lines[path].keys() - skip)
    taken = [c > 0 for (n, count), cs in branches[path].items() if count == fewest[n] and n not in skip and lines[path].get(n) for c in cs]
    print("%-34s %5d/%-5d %3.0f%% %5d/%-5d %3.0f%%" % (path, seen, every, 100 * seen / max(every, 1), sum(taken), len(taken), 100 * sum(taken) / max(len(taken), 1)))
    for i, v in enumerate((seen, every, sum(taken), len(taken))):
        total[i] += v
    missed += ["%s:%d: %s" % (path, n, source[n - 1].strip()) for n, c in sorted(lines[path].items()) if not c and n not in skip]
print("\nnot reached:")
print("\n".join(missed))
l, b = 100 * total[0] / max(total[1], 1), 100 * total[2] / max(total[3], 1)
print("\n%d of %d lines (%.1f%%), %d of %d branches of the lines that were reached (%.1f%%)" % (total[0], total[1], l, total[2], total[3], b))
sys.exit(l < 98 or b < 90)
