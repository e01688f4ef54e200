# check_unused.awk - functions and tables of the header that no public function reaches, so that what only the converter or the
# tests use does not stay in it:
#     cc -E -DKALM_RERANK_IMPLEMENTATION kalm_rerank.h | awk -f tests/check_unused.awk
# The input may be several preprocessed texts, one behind the other, of different switches: what one of them reaches is used. Macros
# are expanded by then, so only what the preprocessor leaves counts: functions of other processors are seen by their compilers alone.

# Put the names of private functions and tables that `text` mentions into mentions[owner].
function mention(owner, text,    name) {
    while (match(text, /kalm_[A-Za-z0-9_]*/)) {
        name = substr(text, RSTART, RLENGTH)
        if (name != owner && index(mentions[owner], " " name " ") == 0) mentions[owner] = mentions[owner] " " name " "
        text = substr(text, RSTART + RLENGTH)
    }
}

# A whole definition at the outermost level: the name that it defines is the last one before the first ( [ or =.
function definition(text,    head, name) {
    if (text !~ /[{]/ || text ~ /^ *(typedef|enum|struct|union|extern) [^(=]*[{]/) return
    head = text
    gsub(/__attribute__ *\(\([^{]*\)\)|__asm__ *\([^{]*\)/, " ", head)
    if (!match(head, /kalm_[A-Za-z0-9_]* *[\[(=]/)) return
    name = substr(head, RSTART, RLENGTH)
    sub(/ *[\[(=]$/, "", name)
    mention(name, text)
    if (!(name in defined)) order[++count] = name
    defined[name] = 1
}

/^# [0-9]+ "/ { ours = $3 ~ /kalm_rerank\.h"/; next }
/^#/ || !ours { next }
{
    line = $0
    gsub(/"([^"\\]|\\.)*"|'([^'\\]|\\.)*'/, "0", line)
    while (match(line, /[{};]/)) {                 # a macro can leave several functions in one line
        brace = substr(line, RSTART, 1)
        chunk = chunk " " substr(line, 1, RSTART)
        line = substr(line, RSTART + 1)
        depth += (brace == "{") - (brace == "}")
        if (depth == 0 && (brace == ";" || (brace == "}" && line !~ /^ *;/))) {
            definition(chunk)
            chunk = ""
        }
    }
    chunk = chunk " " line
}
END {
    for (name in defined) if (name ~ /^kalm_[a-z]/) reached[name] = stack[++top] = name
    while (top > 0) {
        n = split(mentions[stack[top--]], names, " ")
        for (i = 1; i <= n; i++)
            if (names[i] in defined && !(names[i] in reached)) reached[names[i]] = stack[++top] = names[i]
    }
    for (i = 1; i <= count; i++)
        if (!(order[i] in reached)) {
            print "kalm_rerank.h: no public function reaches " order[i]
            bad = 1
        }
    if (!bad) print "unused: none of " count " functions and tables"
    exit bad
}
