# amalgamate.awk - expand the spine into one header, which goes to standard output:
#     awk -f src/amalgamate.awk src/kalm_rerank_in.h > kalm_rerank.h
# Each quoted #include (its # in column 1) is replaced by a banner and the file, where it is met first. Of an include guard only the
# #define is left, so that a program that includes a part behind the header, as tests do, does not get it twice. All else passes as
# it is, comments too, but for what makes the header smaller and changes nothing that a compiler sees:
# - Below the declarations, lines are indented by tabs (of four columns: .editorconfig), and nothing stands in columns.
# - Lines between "/* converter: */" and "/* end of converter */" are left out. The converter and the tests, which are built on the
#   parts, need them, and no program that reranks.
# - Lines between "/* docs/PAGE.md: */" and "/* end of docs/PAGE.md */" are left out: drawings of bytes and explanations, which that
#   page is made of (docs/make.sh).
# - A template (*_template.h), which is included several times, stands in the header once. Each of its functions and tables becomes
#   a macro there, KALM__T_NAME for KALM__V(name), and an #include becomes KALM__T_ALL, the list of these macros. Those of the set that
#   are used within mean what they mean at that place, so the compiler sees the same as with an #include.
# With -v whole=1 the converter's lines and the guards stay: the parts as one file, which the Makefile makes declarations of
# (declare.awk). The output depends on the sources alone.

function folder(path)
{
    return sub(/[^\/]*$/, "", path) ? path : ""
}

# A line as it goes out. Below the declarations each four leading spaces are a tab, text within a comment hangs by one tab, and what
# stood in columns, a comment or a backslash or a name, is apart by one space or two.
function put(path, line,    at, tabs, rest, code)
{
    if (path ~ /(manual|api|license|kalm_rerank_in)\.h$/) {
        print line
        return
    }
    match(line, /^ */)
    rest = substr(line, RLENGTH + 1)
    if (within) {
        # `hang` is where the comment's text began; what stands further in keeps its distance
        at = RLENGTH > hang + 3 ? RLENGTH - hang - 3 : 0
        tabs = level + 1
        line = rest == "" ? "" : rest
    } else {
        tabs = level = int(RLENGTH / 4)
        at = RLENGTH % 4
        hang = RLENGTH
        code = index(rest, "/*")
        if (code > 1) {                                        # a comment behind code: where its second line begins is no distance
            hang = 1000
            level++
        }
        code = code ? substr(rest, 1, code - 1) : rest
        line = substr(rest, length(code) + 1)
        if (code !~ /^#|["']/) gsub(/  +/, " ", code)
        sub(/  +\\$/, " \\", code)
        if (line != "" && code ~ /[^ ]/) sub(/ *$/, line ~ /\*\/$/ ? "  " : " ", code)
        line = code line
    }
    sub(/  +\*\/$/, " */", line)
    sub(/  +\\$/, " \\", line)
    if (line != "") {
        while (at-- > 0) line = " " line
        while (tabs-- > 0) line = "\t" line
    }
    print line
    while ((at = index(line, within ? "*/" : "/*")) > 0) {
        within = !within
        line = substr(line, at + 2)
    }
}

# The guard of a part: KALM__NAME_H, the #endif that ends it being the last line of the file.
function guard_of(path)
{
    sub(/.*\//, "", path)
    sub(/\.h$/, "", path)
    return "KALM__" toupper(path) "_H"
}

# 1: the line belongs to what is left out, from its first mark to its last, which leaves a word that says where a page has it.
function apart_from(path, line)
{
    if (line ~ /^ *\/\* (converter|docs\/[A-Z]+\.md): \*\/$/ && !(whole && line ~ /converter/)) {
        if (apart != "") fail(path ": " line " within another")
        apart = line
        gsub(/^ *\/\* |: \*\/$/, "", apart)
    }
    if (apart == "") return 0
    if (line ~ "^ */[*] end of " apart " [*]/$") {
        if (apart != "converter") print "/* More is in " apart ". */"
        apart = ""
    }
    return 1
}

# A template. The first time its text goes out as macros, then and later the list of them. A function or table begins in the first
# column with KALM__VT or static and ends at the first line that is } or };, or at the end of its first line. #undef is repeated, since
# it makes room for the next set's macros; other directives and comments go out once.
function template(path,    line, name, first, begins, all)
{
    first = !(path in uses)
    while (first && (status = (getline line < path)) > 0) {
        if (apart_from(path, line)) continue
        begins = line ~ /^(KALM__VT|static) /
        if (begins) {
            if (name != "" || !match(line, /KALM__V\([a-z0-9_]+\)/)) fail(path ": not the beginning of a function: " line)
            name = "KALM__T_" toupper(substr(line, RSTART + 8, RLENGTH - 9))
            print "#define " name " \\"
            all = all (names++ % 5 ? " " : " \\\n\t") name
        }
        if (name != "" && line ~ /^#/) fail(path ": a directive within a function")
        if (line ~ /^#undef /) uses[path] = uses[path] line "\n"
        else if (name != "" && !(line ~ /^};?$/ || begins && line ~ /}$/)) put(path, line " \\")
        else {
            put(path, line)
            name = ""
        }
    }
    if (first && status < 0) fail("cannot read " path)
    if (name != "") fail(path ": a function without end")
    close(path)
    if (first && templates++) fail(path ": a second template, and KALM__T_ALL is one name")
    if (first) print "#define KALM__T_ALL" all
    printf "KALM__T_ALL\n%s", uses[path]
}

function expand(path, depth,    line, name, n, guard, last, held)
{
    if (depth > 20) fail(path ": includes itself")
    guard = guard_of(path)
    for (n = 0; (status = (getline line < path)) > 0; n++) {
        sub(/\r$/, "", line)
        if (apart_from(path, line)) continue
        if (!whole && (line == "#ifndef " guard || line == "#define " guard)) {
            if (guarded[path]++) print line
            continue
        }
        if (held) { print last; held = 0 }
        if (guarded[path] == 2 && line == "#endif") {          # the last one is the guard's
            last = line
            held = 1
            continue
        }
        if (line !~ /^#[ \t]*include[ \t]*"/) {
            if (line ~ /^\/\* ---- .*-----/) sub(/-----+ \*\/$/, "---- */", line)       # rules need not reach the margin
            put(path, line)
            continue
        }
        name = line
        sub(/^[^"]*"/, "", name)
        sub(/".*$/, "", name)
        name = folder(path) name
        while (sub(/[^\/]+\/\.\.\//, "", name)) ;
        if (name in done && name !~ /_template\.h$/) continue
        done[name] = 1
        print "/* ---- begin " name " ---- */"
        if (name !~ /_template\.h$/) expand(name, depth + 1)
        else {
            template(name)
            print "/* ---- more of " path " ---- */"
        }
    }
    if (status < 0) fail("cannot read " path)
    if (n == 0) fail(path " is empty")
    if (apart != "") fail(path ": no \"end of " apart "\"")
    close(path)
}

function fail(text)
{
    print "amalgamate.awk: " text > "/dev/stderr"
    failed = 1
    exit 1
}

BEGIN {
    if (ARGC != 2) fail("one argument: the spine")
    print "/* kalm_rerank.h - generated from the parts in src/, tokenizer/ and quantize/ by `make header`: edit those. */"
    expand(ARGV[1], 0)
    exit failed
}
