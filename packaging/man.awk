# man.awk -v version=0.1.0 -v name=kalm-rerank - a manual page from what `kalm-rerank --help` prints: the usage lines, one
# paragraph that says what it does, and the rest, lines that begin with two spaces and an option, or headings.
BEGIN {
    printf ".TH %s 1 \"\" \"kalm_rerank %s\" \"User Commands\"\n", toupper(name), version
}
function plain(s) {
    gsub(/\\/, "\\e", s)
    gsub(/-/, "\\-", s)
    if (s ~ /^[.']/) s = "\\&" s
    return s
}
{ line[++n] = $0 }
END {
    for (i = 1; i <= n && line[i] != ""; i++) {
        s = line[i]
        sub(/^[Uu]sage: /, "", s)
        sub(/^       /, "", s)
        usage = usage plain(s) "\n"
    }
    for (i++; i <= n && line[i] != ""; i++) about = about (about ? " " : "") line[i]
    brief = about
    sub(/[.:] .*/, "", brief)
    sub(/[.:]$/, "", brief)
    printf ".SH NAME\n%s \\- %s\n", plain(name), plain(tolower(substr(brief, 1, 1)) substr(brief, 2))
    printf ".SH SYNOPSIS\n.nf\n%s.fi\n", usage
    printf ".SH DESCRIPTION\n%s\n.PP\n.nf\n", plain(about)
    for (; i <= n; i++) print plain(line[i])
    print ".fi"
}
