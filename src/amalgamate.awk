# amalgamate.awk - expand the spine into one header, which goes to standard output:
#     awk -f src/amalgamate.awk src/kalm_rerank_in.h > kalm_rerank.h
# Each quoted #include (its # in column 1) is replaced by the file between two banners, where it is met first; a
# *_template.h each time. All else passes as it is, comments too. The output depends on the sources alone.

function folder(path)
{
    return sub(/[^\/]*$/, "", path) ? path : ""
}

function expand(path, depth,    line, name, n)
{
    if (depth > 20) fail(path ": includes itself")
    for (n = 0; (status = (getline line < path)) > 0; n++) {
        sub(/\r$/, "", line)
        if (line !~ /^#[ \t]*include[ \t]*"/) {
            print line
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
        print "/* ---- end " name " ---- */"
    }
    if (status < 0) fail("cannot read " path)
    if (n == 0) fail(path " is empty")
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
