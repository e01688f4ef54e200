# check_layers.awk - hold the direction of includes:
#     awk -f tests/check_layers.awk src/*.h src/tools/*.h tokenizer/*.h quantize/*.h
# 1. A part includes only parts from above its own line of the list. Parts of one line know nothing of each other.
# 2. Quoted includes stand at the top, before any code, and in no #if but the part's guard: an unlucky branch could
#    swallow what the amalgamation expands there. Templates (*_template.h) may stand anywhere.
# 3. The spine has every part of the list, each behind those that it includes.
# src/tools/ is what the commands share; quantize/ and tokenizer/ have parts beside the list that are for the commands as
# well. These may use everything above them, and no part of the header may use them.

BEGIN {
    lines = split("manual license api;" \
                  "config;" \
                  "base;" \
                  "exact;" \
                  "platform format blocks recognise;" \
                  "mapping cores cpu kernels tokenizer/vocab;" \
                  "threads embedding ops tokenizer/ids;" \
                  "tokenizer/bpe tokenizer/unigram tokenizer/normal;" \
                  "tokenizer/text;" \
                  "tokenizer/decode kernels_scalar;" \
                  "kernels_tiles;" \
                  "rowcode;" \
                  "kernels_avx2;" \
                  "kernels_avx512;" \
                  "kernels_*;" \
                  "kernels_wasm_relaxed;" \
                  "kernel_sets modelfile;" \
                  "matmul rotary model;" \
                  "keys;" \
                  "attention state;" \
                  "context documents;" \
                  "layer;" \
                  "encoder;" \
                  "decoder;" \
                  "scoring;" \
                  "rerank;" \
                  "public;" \
                  "public_rerank;" \
                  "tools/files tools/json;" \
                  "tools/messages tools/memory_out;" \
                  "tools/reader_bytes;" \
                  "tools/reader_json tools/reader_table;" \
                  "tools/*;" \
                  "tools/texts tools/output;" \
                  "tools/command;" \
                  "commands;" \
                  "kalm_rerank_in", line, ";")
    for (i = 1; i <= lines; i++) {
        n = split(line[i], one, " ")
        for (k = 1; k <= n; k++) layer[one[k]] = i
    }
}

# "src/base.h" and "quantize/../src/base.h" are base, "src/tools/json.h" is tools/json
function part(path)
{
    sub(/^\.\//, "", path)
    while (sub(/[^\/]+\/\.\.\//, "", path)) ;
    sub(/^src\//, "", path)
    sub(/\.h$/, "", path)
    return path
}

function layer_of(p)
{
    if (p in layer) return layer[p]
    if (p ~ /^kernels_[a-z0-9_]+$/ || p ~ /_template$/) return layer["kernels_*"]
    if (p ~ /^tools\//) return layer["tools/*"]
    if (p ~ /^(quantize|tokenizer)\//) return layer["commands"]
    return 0
}

function complain(text)
{
    print FILENAME ":" FNR ": " text
    complaints++
}

FNR == 1 {
    me = part(FILENAME)
    mine = layer_of(me)
    if (!mine) complain("the list in tests/check_layers.awk does not have '" me "'")
    code = comment = depth = 0
}

{
    text = $0
    if (comment) {
        if (!index(text, "*/")) next
        text = substr(text, index(text, "*/") + 2)
        comment = 0
    }
    while ((at = index(text, "/*")) > 0) {
        rest = substr(text, at + 2)
        text = substr(text, 1, at - 1)
        if (!index(rest, "*/")) {
            comment = 1
            break
        }
        text = text " " substr(rest, index(rest, "*/") + 2)
    }
    if (text ~ /^[ \t]*$/) next
    if (text ~ /^[ \t]*#[ \t]*if/) depth++
    if (text ~ /^[ \t]*#[ \t]*endif/) depth--
    if (text !~ /^[ \t]*#/) code = 1
    if (text !~ /^[ \t]*#[ \t]*include[ \t]*"/) next

    name = text
    sub(/^[^"]*"/, "", name)
    sub(/".*$/, "", name)
    folder = FILENAME
    sub(/[^\/]*$/, "", folder)
    if (name == "kalm_rerank.h") next      # the whole header, from a part for the commands
    it = part(folder name)
    its = layer_of(it)
    if (!its) complain("the list in tests/check_layers.awk does not have '" it "'")
    if (me == "kalm_rerank_in") {
        spine[it] = ++parts_in_spine
    } else if (it ~ /_template$/) {
        next
    } else {
        if (code || depth > 1) complain("an include must stand at the top, before any code, in no #if")
        if (its >= mine && mine < layer["commands"]) complain("'" me "' includes '" it "', which is not above it")
        edge[me " " it]
    }
}

END {
    for (e in edge) {
        split(e, two, " ")
        if (layer_of(two[1]) >= layer["tools/files"]) continue
        if (!(two[1] in spine)) print "src/kalm_rerank_in.h: lacks '" two[1] "'"
        else if (!(two[2] in spine) || spine[two[2]] > spine[two[1]]) print "src/kalm_rerank_in.h: '" two[1] "' must stand behind '" two[2] "'"
        else continue
        complaints++
    }
    if (complaints) print complaints " complaints about layers"
    exit complaints > 0
}
