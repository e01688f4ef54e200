# amalgamate.awk - expand the spine into one header, which goes to standard output:
#     awk -f src/amalgamate.awk src/kalm_rerank_in.h > kalm_rerank.h
# Each quoted #include (its # in column 1) is replaced by a banner and the file, where it is met first; a
# *_template.h each time, but with its comments only where it is met first. Of an include guard only the #define is left, so
# that a program that includes a part behind the header, as tests do, does not get it twice. All else passes as it is, comments
# # too, but that below the declarations code is indented by tabs (of four columns: .editorconfig), which makes the header a
# fourteenth smaller. Lines between "/* converter: */" and "/* end of converter */" are left out: the converter and the tests, which
# are built on the parts, need them, and no program that reranks. The output depends on the sources alone.

function folder(path)
{
    return sub(/[^\/]*$/, "", path) ? path : ""
}

# A line of a template met again: what is left of it without comments. No string of a template has the signs of one.
function bare(line,    at, end, left)
{
    for (left = ""; ; line = substr(line, end + 2)) {
        if (!inside) {
            at = index(line, "/*")
            if (!at) break
            left = left substr(line, 1, at - 1)
            line = substr(line, at + 2)
            inside = 1
        }
        end = index(line, "*/")
        if (!end) { line = ""; break }
        inside = 0
    }
    line = left line
    sub(/[ \t]+$/, "", line)
    return line
}

# A line as it goes out: where users do not read first, and outside comments, each four leading spaces are a tab, and what stands at
# the end of a line, a comment or a backslash, in no column.
function put(path, line,    at, tabs)
{
    if (path !~ /(manual|api|license|kalm_rerank_in)\.h$/ && !within && match(line, /^ +/)) {
        at = int(RLENGTH / 4)
        line = substr(line, 4 * at + 1)
        for (tabs = ""; at > 0; at--) tabs = tabs "\t"
        line = tabs line
    }
    if (path !~ /(manual|api|license|kalm_rerank_in)\.h$/ && !within) {
        sub(/   +\\$/, " \\", line)
        sub(/  +\*\/$/, " */", line)
        if (match(line, /[^ \t]   +\/\*/)) line = substr(line, 1, RSTART) "  " substr(line, RSTART + RLENGTH - 2)
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

function expand(path, depth,    line, name, n, again, guard, last, held)
{
    if (depth > 20) fail(path ": includes itself")
    again = met[path]++
    guard = guard_of(path)
    for (n = 0; (status = (getline line < path)) > 0; n++) {
        sub(/\r$/, "", line)
        if (line ~ /^ *\/\* converter: \*\/$/) apart = 1
        if (apart) {
            if (line ~ /^ *\/\* end of converter \*\/$/) apart = 0
            continue
        }
        if (again && (line = bare(line)) == "") continue
        if (line == "#ifndef " guard || line == "#define " guard) {
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
        expand(name, depth + 1)
        if (name ~ /_template\.h$/) print "/* ---- more of " path " ---- */"
    }
    if (status < 0) fail("cannot read " path)
    if (n == 0) fail(path " is empty")
    if (apart) fail(path ": no \"end of converter\"")
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
