#!/usr/bin/env python3
"""loop_bounds.py BUILD - how fast the inner loops of the 8-bit matrix products can be on ARM cores that are not at hand.

llvm-mca simulates each loop, as compiled, on LLVM's model of a core: cycles of an iteration once the loop runs, all loads in the
first-level cache. What a loop multiplies is counted from its instructions. From both come multiply-adds a cycle and, with the
core's clock and number of cores, the tokens a second that an encoder of Nano's shape could read if it did nothing but these
loops: an estimate by model from above, not a measurement.

How much such a bound is worth is tried where the truth is known: the loops of this x86 machine are simulated the same way, and the
share of the register peak that the model gives a loop stands beside the share that kalm-bench measures for the whole product
(BUILD/bench.json, if make bench has been run): quantising, packing and cache misses are in the second and not in the first.

    MCA=llvm-mca-16 CLANG=clang-16 python3 tests/loop_bounds.py build [COMMIT]

With COMMIT, BUILD/bounds.json gets the loops that 8-bit weights use, as docs/speed wants it.

LLVM 16 has no model of its own for the Cortex-A72, A76, Neoverse N1 and Apple's cores: it lends them others, which are named in the
table. A model can also be too low: LLVM's Zen 4 gives the x86 loops 80% of the peak where the whole product is measured at 97%.
"""
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

MCA = os.environ.get("MCA", "llvm-mca-16")
CLANG = os.environ.get("CLANG", "clang-16")
ARM_GCC = os.environ.get("ARM_GCC", "aarch64-linux-gnu-gcc")
ITERATIONS = 200

# int8 operations of one token through the encoder, two for a multiply-add: what kalm-bench's encode_512 is divided by
# encode_512_tokens, for Nano's shape
NANO_OPS = 2.3e8

# What the board is, LLVM's name of the core, the model that LLVM takes for it, GHz, cores, tiles of the best set that it can run.
CORES = [
    ("Raspberry Pi 3 (A53)", "cortex-a53", "its own, in order", 1.2, 4, "neon"),
    ("Raspberry Pi 4 (A72)", "cortex-a72", "Cortex-A57", 1.8, 4, "neon"),
    ("Raspberry Pi 5 (A76)", "cortex-a76", "Cortex-A57", 2.4, 4, "dot"),
    ("Neoverse N1", "neoverse-n1", "Cortex-A57", 2.6, 4, "dot"),
    ("Apple M1, fast cores", "apple-m1", "Cyclone", 3.2, 4, "dot"),
]
TILES = {"neon": [r"kalm__q8_2x1_neon", r"kalm__int16_4x1_neon"], "dot": [r"kalm__q8_6x1_dot", r"kalm__q8_4x1_dot"]}
X86 = [("znver4", "avx512vnni", r"kalm__q8_\d+x\d_avx512\w*", "matmul_q8_512", 64)]


def run(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


def lanes(operands, sizes):
    """How many numbers the first operand holds: v3.4s -> 4."""
    m = re.match(r"\{?v\d+\.(\d+)([bhsd])", operands)
    return int(m.group(1)) if m and m.group(2) in sizes else 0


def multiplies(op, operands):
    """Multiply-adds of 8- or 16-bit numbers that one instruction does."""
    if op == "sdot":
        return 4 * lanes(operands, "s")
    if op == "smmla":
        return 32
    if op in ("smull", "smull2", "smlal", "smlal2"):
        return lanes(operands, "hs")
    registers = re.findall(r"%([xyz])mm\d+", operands)
    width = {"x": 16, "y": 32, "z": 64}[registers[-1]] if registers else 0
    if op in ("vpdpbusd", "{vex}vpdpbusd"):
        return width
    if op == "vpmaddwd":
        return width // 2
    return 0


def functions(objdump, path):
    """name -> [(address, mnemonic, operands)]"""
    found, name = {}, None
    comment = r"\s*//.*$" if "aarch64" in objdump else r"\s*#.*$"         # "#" is a number's on ARM
    for line in run(objdump, "-d", "--no-show-raw-insn", path).splitlines():
        m = re.match(r"[0-9a-f]+ <([^>]+)>:$", line)
        if m:
            name = m.group(1)
            found[name] = []
            continue
        m = re.match(r" *([0-9a-f]+):\t(\{\w+\} )?(\S+)\s*(.*)$", line)
        if m and name:
            operands = re.sub(comment, "", m.group(4))
            found[name].append((int(m.group(1), 16), (m.group(2) or "").strip() + m.group(3), operands))
    return found


def inner_loop(code):
    """The run of code between a backward branch and where it goes that multiplies most a pass: (instructions, multiplies)."""
    place = {address: i for i, (address, _, _) in enumerate(code)}
    best = ([], 0)
    for i, (_, op, operands) in enumerate(code):
        if not re.match(r"(b\.\w+|cbn?z|tbn?z|j(?!mp)\w+)$", op):
            continue
        target = re.search(r"([0-9a-f]+) <", operands)
        start = place.get(int(target.group(1), 16)) if target else None
        if start is None or start > i:
            continue
        body = code[start:i]
        if any(re.match(r"(b|bl|ret|jmp|call)$", o) for _, o, _ in body):
            continue
        count = sum(multiplies(o, a) for _, o, a in body)
        density = count / len(body) if body else 0
        if count and (not best[1] or density > best[1] / len(best[0])):
            best = (body, count)
    return best


def cycles(loop, triple, cpu, attributes):
    """Of one pass, simulated; branches inside are left out, as none is taken in the steady state."""
    text = "\n".join(f"{op.replace('{vex}', '{vex} ')} {operands}" for _, op, operands in loop
                     if not re.match(r"(b\.|cb|tb|j)", op)) + "\n"
    with tempfile.NamedTemporaryFile("w", suffix=".s") as f:
        f.write(text)
        f.flush()
        out = run(MCA, f"-mtriple={triple}", f"-mcpu={cpu}", f"-mattr={attributes}", f"-iterations={ITERATIONS}", f.name)
    if int(re.search(r"Instructions: +(\d+)", out).group(1)) != ITERATIONS * text.count("\n"):
        sys.exit("loop_bounds.py: " + MCA + " did not understand all of a loop's instructions:\n" + text)
    return int(re.search(r"Total Cycles: +(\d+)", out).group(1)) / ITERATIONS


def widest(found, patterns):
    """Every loop of those functions."""
    for name in sorted(found):
        if any(re.fullmatch(p + r"(\.(constprop|isra|part)[.\d]*)?", name) for p in patterns):
            loop, count = inner_loop(found[name])
            if count:
                yield name, loop, count


def write_bounds(path, commit, bounds):
    """The best loop of 8-bit weights on each core, a figure a line."""
    best = {}
    for b in bounds:
        if "_q8_" in "_" + b["loop"] and b["value"] >= best.get(b["name"], b)["value"]:
            best[b["name"]] = b
    head = {"machine": run(MCA, "--version").splitlines()[0].strip() + ", models of cores", "commit": commit,
            "date": datetime.date.today().isoformat(), "flags": "-O2, %s and %s" % (CLANG, ARM_GCC), "command": "make bounds"}
    with open(path, "w") as f:
        f.write("{\n%s,\n \"figures\": [\n%s\n ]\n}\n" % (",\n".join(" %s: %s" % (json.dumps(k), json.dumps(v)) for k, v in head.items()),
                                                          ",\n".join("  " + json.dumps(b) for b in best.values())))


def main():
    build = sys.argv[1] if len(sys.argv) > 1 else "build"
    folder = os.path.join(build, "targets")
    os.makedirs(folder, exist_ok=True)
    source = os.path.join(folder, "loop_bounds.c")
    with open(source, "w") as f:
        f.write('#define KALM_RERANK_IMPLEMENTATION\n#include "kalm_rerank.h"\n')
    arm, x86 = os.path.join(folder, "loops_arm.o"), os.path.join(folder, "loops_x86.o")
    run(CLANG, "--target=x86_64-linux-gnu", "-O2", "-I.", "-c", source, "-o", x86)
    passed = failed = 0
    bounds = []

    print(run(MCA, "--version").splitlines()[0].strip())
    print(f"\n{'core':22} {'model':18} {'by':6} {'loop':20} {'cycles':>7} {'mul-adds':>8} {'a cycle':>8} {'GOPS, one core':>15} {'tokens/s, all':>14}")
    for by, compiler in (("clang", [CLANG, "--target=aarch64-linux-gnu"]), ("gcc", [ARM_GCC])):
        if not shutil.which(compiler[0]):
            print(f"{compiler[0]} is not here: its loops are left out")
            continue
        run(*compiler, "-O2", "-I.", "-c", source, "-o", arm)
        found = functions("aarch64-linux-gnu-objdump", arm)
        for board, cpu, model, ghz, cores, tiles in CORES:
            rows = list(widest(found, TILES[tiles]))
            passed, failed = (passed + 1, failed) if rows else (passed, failed + 1)
            for name, loop, count in rows:
                c = cycles(loop, "aarch64-linux-gnu", cpu, "+dotprod")
                gops = 2 * count / c * ghz
                print(f"{board:22} {model:18} {by:6} {name[6:]:20} {c:7.1f} {count:8} {count / c:8.1f} {gops:15.1f} {gops * 1e9 * cores / NANO_OPS:14.0f}")
                bounds.append({"name": cpu + "_" + by, "threads": 1, "value": round(count / c, 2), "unit": "multiply-adds/cycle", "loop": name[6:],
                               "cycles": round(c, 1), "gops": round(gops, 1), "tokens": round(gops * 1e9 * cores / NANO_OPS)})
    if len(sys.argv) > 2:
        write_bounds(os.path.join(build, "bounds.json"), sys.argv[2], bounds)

    print("\nthe same of this processor's loops, and what kalm-bench measures for the whole product")
    print(f"{'model':10} {'loop':24} {'cycles':>7} {'mul-adds':>8} {'of the peak by model':>21} {'measured':>9} {'measured / model':>17}")
    try:
        with open(os.path.join(build, "bench.json")) as f:
            figures = json.load(f)["figures"]
    except (OSError, ValueError, KeyError, TypeError):
        figures = []
    found = functions("objdump", x86)
    for cpu, kernels, pattern, figure, width in X86:
        peak_loop = [(0, "vpdpbusd", f"%zmm{30}, %zmm{31}, %zmm{i}") for i in range(24)]
        peak = sum(multiplies(o, a) for _, o, a in peak_loop) / cycles(peak_loop, "x86_64-linux-gnu", cpu, "+avx512vnni")
        rows = list(widest(found, [pattern]))
        passed, failed = (passed + 1, failed) if rows else (passed, failed + 1)
        measured = [f["ratio"] for f in figures if f["name"] == figure and f["threads"] == 1 and f["ratio"]]
        best = 0
        for name, loop, count in rows:
            c = cycles(loop, "x86_64-linux-gnu", cpu, "+avx512vnni")
            share = count / c / peak
            best = max(best, share)
            print(f"{cpu:10} {name[6:]:24} {c:7.1f} {count:8} {100 * share:20.1f}%")
        if measured:
            print(f"{'':10} {figure + ', ' + kernels:24} {'':7} {'':8} {100 * best:20.1f}% {100 * measured[0]:8.1f}% {measured[0] / best:17.3f}")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
