#!/bin/sh
# make.sh [check] - writes docs/FORMAT.md, TOKENIZER.md, KERNELS.md and MAP.md from the comments of the sources, so that they cannot fall behind them:
# `make docs`. With "check" it compares instead, and fails where they differ.
cd "$(dirname "$0")/.." || exit 1
mkdir -p build
awk=${AWK:-awk}

# comment FILE TEXT: the comment of FILE whose first line has TEXT, without its marks
comment() {
    $awk -v text="$2" '
        !on && index($0, text) && /\/\*/ { on = 1; sub(/^.*\/\* ?/, "") }
        on { done = index($0, "*/"); sub(/ *\*\/.*$/, ""); sub(/^   /, ""); print; if (done) { found = 1; exit } }
        END { if (!found) exit 1 }' "$1" || { echo "docs/make.sh: $1 has no comment with '$2'" >&2; exit 1; }
}
# drawn FILE TEXT...: these comments of FILE, one below the other
drawn() {
    file=$1 gap=
    shift
    printf '\n```\n'
    for text; do
        printf "$gap"
        comment "$file" "$text"
        gap='\n'
    done
    printf '```\n'
}
# lines FILE FIRST LAST: from the line with FIRST to the next one that is LAST
lines() {
    printf '\n```c\n'
    $awk -v first="$2" -v last="$3" '!on && index($0, first) { on = 1 } on { print; if ($0 ~ last) exit }' "$1" | sed 's/ *\\$//'
    printf '```\n'
}

format() {
    cat <<'END'
# Files and bytes

Everything that the library stores, for whoever writes another reader. `make docs` copies the drawings from the comments of the parts that
read them; `tests/read_format.py` is a reader of model files and documents that was written from this page alone.

All numbers are little-endian. A hash is the 64-bit checksum at the end of this page: it finds damage and is no defence against forgery.

## The model file (`.kalm`)
END
    drawn src/format.h 'format.h - ' 'The bytes of a model file'
    printf '\nThe fields of SHAPE, in order; `u32` is an unsigned integer, `f32` a float, of four bytes each:\n'
    lines src/format.h '#define KALM__SHAPE_FIELDS' '^$'
    lines src/format.h '#define KALM__SIDE_FIELDS' '^$'
    printf '\nStrings and tensors:\n'
    drawn src/format.h 'The texts around the user'
    lines src/format.h '    KALM__STRING_NAME,' '^};$'
    drawn src/format.h 'Tensors. A kind is'
    lines src/format.h '    KALM__T_Q,' '^};$'
    drawn src/format.h 'An entry of TENSORS'
    printf '\n## Matrices\n'
    drawn src/kernels.h 'kernels.h - ' 'A matrix W ['
    drawn src/blocks.h 'blocks.h - ' 'A weight matrix W'
    printf '\n## The embedding table\n'
    drawn src/embedding.h 'embedding.h - ' 'A table is'
    printf '\n## Documents\n'
    drawn src/documents.h 'documents.h - ' 'HEADER, 64 bytes'
    printf '\n## Rows of 4, 3 and 2 bits\n'
    drawn src/rowcode.h 'rowcode.h - ' 'A coded row has'
    printf '\nThe states of the two quantisers, and how a row is read; state 0 comes first, and odd states have quantiser 1:\n'
    lines src/rowcode.h 'static const uint8_t kalm__trellis' '^$'
    lines src/rowcode.h 'KALM__FN void kalm__row_read(' '^}$'
    printf '\n## Kept states of the decoder\n\nA state is for the library of the version that wrote it: its keys and values lie as the kernels read them.\n'
    drawn src/state.h 'HEADER of a state'
    drawn src/keys.h 'Keys and values of one sequence'
    drawn src/keys.h 'Packed keys and values'
    printf '\n## Tokenizer\n'
    drawn tokenizer/vocab.h 'vocab.h - ' 'THE BLOB.'
    printf '\n## The hash\n'
    drawn src/base.h '64-bit checksum'
    lines src/base.h '#define KALM__HASH_A' '^KALM__FN uint64_t kalm__hash\(' | sed '$d' | sed '/^KALM__FN uint64_t kalm__hash(/d'
    printf '```\n'
}

tokenizer() {
    cat <<'END'
# From a text to tokens

What the tokenizer does, and why its short cuts leave what the definitions say: for whoever changes it or writes another. `make docs` copies
this page from the comments of the parts; the tables that they read are drawn in [FORMAT.md](FORMAT.md).

## The whole way
END
    drawn tokenizer/text.h 'text.h - ' 'HUGGING FACE'
    printf '\n## Normalisation\n'
    drawn tokenizer/normal.h 'normal.h - '
    printf '\n## Byte-pair encoding\n'
    drawn tokenizer/bpe.h 'bpe.h - ' 'THE DEFINITION of BPE'
    printf '\n## Unigram and word\n'
    drawn tokenizer/unigram.h 'unigram.h - ' 'UNIGRAM. Every'
    printf '\n## A bound for the work\n'
    drawn tokenizer/ids.h 'THE METER'
    printf '\n## Back to text\n'
    drawn tokenizer/decode.h 'decode.h - ' 'Those of Hugging'
}

kernels() {
    cat <<'END'
# How the kernels multiply

What each set of kernels does and why, for whoever reads or writes one: the matrices that they multiply are drawn in
[FORMAT.md](FORMAT.md), what they reach stands in [SPEED.md](SPEED.md). `make docs` copies this page from the comments of the parts.

## The driver that all sets share
END
    drawn src/kernels_tiles.h 'kernels_tiles.h - ' 'Packed activations'
    printf '\n## x86\n'
    drawn src/kernels_avx512.h 'kernels_avx512.h - ' 'vpdpbusd multiplies unsi'
    drawn src/kernels_avx512bf16.h 'kernels_avx512bf16.h - ' 'It wants both sides'
    drawn src/kernels_amx.h 'kernels_amx.h - ' 'tdpbusd adds 16 rows x '
    drawn src/kernels_avx2.h 'kernels_avx2.h - ' 'avx2: the byte product v'
    printf '\n## ARM\n'
    drawn src/kernels_neon.h 'kernels_neon.h - ' 'dotprod: sdot by element'
    printf '\n## RISC-V\n'
    drawn src/kernels_rvv.h 'kernels_rvv.h - ' 'There is no dot product '
    printf '\n## WebAssembly\n'
    drawn src/kernels_wasm.h 'kernels_wasm.h - ' 'i32x4.dot_i16x8_s multip'
    drawn src/kernels_wasm_relaxed.h 'kernels_wasm_relaxed.h - ' 'i32x4.relaxed_dot_i8x16_'
    printf '\n## The work between products\n'
    drawn src/ops_template.h 'ops_template.h - ' 'h = gelu_tanh(gate) * up' "Viterbi's algorithm for"
    drawn src/ops.h 'The vocabulary that is' 'Rotation. The input rows'
    drawn src/layer.h 'Residual rows. The last'
    printf '\n## Attention\n'
    drawn src/attention.h 'attention.h - ' 'Several query heads'
    drawn src/keys.h 'keys.h - ' 'Beside float weights'
}

map() {
    cat <<'END'
# The map of the house

Every part and its one job, from the first lines of the files; `make docs` writes this page. `make check` holds the direction of
includes (`tests/check_layers.awk`).
END
    for folder in src src/tools tokenizer quantize examples examples/eval examples/index examples/search examples/server examples/store \
        examples/postgres examples/python examples/python/adapters examples/scaling examples/sqlite examples/wasm examples/wasm/adapters tests \
        tests/fuzz tests/mcp docs docs/speed packaging .ci; do
        ls -d "$folder" > /dev/null 2>&1 || continue
        case $folder in
        src) what='the library: the parts of `kalm_rerank.h`, in the order of the spine' ;;
        src/tools) what='what commands, converter and tokenizer share; no part of the header' ;;
        tokenizer) what='text to tokens and back (in the header), and the readers of tokenizer files (in the converter)' ;;
        quantize) what='the converter from a checkpoint to a model file' ;;
        tests/fuzz) what='targets for libFuzzer and AFL++, which `make test` also runs for a moment' ;;
        .ci) what='what runs before a change is taken' ;;
        examples) what='programs: the first one, kalm-rerank, and folders for what is larger' ;;
        examples/eval) what='the command kalm-eval' ;;
        examples/index) what='the command kalm-index' ;;
        examples/search) what='the command kalm-search' ;;
        examples/server) what='the command kalm-server' ;;
        docs/speed) what='the runs that the pages state speeds of, and what fills them in' ;;
        examples/store) what='encoded documents in SQLite, which the commands share' ;;
        tests) what='tests, checks and benchmarks' ;;
        *) what= ;;
        esac
        printf '\n## %s\n%s\n' "$folder" "${what:+
$what
}"
        {
            [ "$folder" != src ] || sed -n 's/^#include "\([a-z0-9_]*\.h\)".*/src\/\1/p' src/kalm_rerank_in.h
            for f in "$folder"/*; do [ -f "$f" ] && echo "$f"; done
        } | $awk '!seen[$0]++' | while read -r f; do
            case $f in *.md|*.svg|*.in|*.png|*.json|*.txt|*.jsonl|*.tsv|*.css|*.html|*.model|*.cmake) continue ;; esac
            # the first sentence behind "name - " in the first lines
            $awk -v file="$f" '
                NR > 8 { exit }
                { gsub(/^[ \t]*(\/\*|#|\/\/|"""|\*)?[ \t]*/, ""); gsub(/[ \t]*\*\/.*$/, ""); all = all " " $0 }
                END {
                    n = split(file, path, "/"); name = path[n]; at = index(all, name)
                    if (!at) exit
                    all = substr(all, at + length(name))
                    if (!match(all, /(^| )- /)) { if (!match(all, /: /)) exit }
                    all = substr(all, RSTART + RLENGTH)
                    if (match(all, /[.:;]( |$)/)) all = substr(all, 1, RSTART - 1)
                    gsub(/`/, "", all)
                    printf "- `%s`: %s\n", name, all
                }' "$f"
        done
    done
}

status=0
for page in FORMAT TOKENIZER KERNELS MAP; do
    case $page in FORMAT) format ;; TOKENIZER) tokenizer ;; KERNELS) kernels ;; MAP) map ;; esac > "build/$page.md" || status=1
    if [ "${1:-}" = check ]; then
        cmp -s "build/$page.md" "docs/$page.md" || { echo "docs/$page.md is not what the sources say: make docs"; status=1; }
    else
        cp "build/$page.md" "docs/$page.md"
    fi
done
exit $status
