# declare.awk - of a header with the implementation, what a program needs that is linked with the library instead of compiling it:
#     awk -f src/declare.awk kalm_rerank.h
# Functions lose their bodies, private ones (KALM__FN) become extern as well; types, macros, tables and functions that are always
# inlined stay. Relies on the style of the parts: a function begins in column 1 with its attributes, and ends on the line that it began
# on, or with a "}" in column 1.

/^#/ { define = 1 }
define { print; define = /\\$/; next }
body { if (/^}/) body = 0; next }
head == "" && !comment && /^(KALM__[A-Z0-9]+(\([^)]*\))? )*(KALM__FN|KALM_API) / { head = " " }
{
    line = $0
    if (head != "") {
        sub(/KALM__FN/, "extern", line)
        at = match(line, /[{;]/)
        if (!at) { print line; next }
        head = ""
        if (substr(line, at, 1) == "{") {
            rest = substr(line, at)
            line = substr(line, 1, at - 1) ";"
            if (gsub(/{/, "{", rest) != gsub(/}/, "}", rest)) body = 1
        }
    }
    print line
    # are we inside a comment?
    while ((at = index(line, comment ? "*/" : "/*")) > 0) {
        comment = !comment
        line = substr(line, at + 2)
    }
}
