# man.awk -v name=kalm-rerank -v version=0.1.0 -v date=2026-11-26 - a manual page from what `kalm-rerank --help` prints: the usage
# lines, paragraphs that say what the command does (the first sentence is its name's), options under headings, each of which
# begins with two spaces and a dash, and paragraphs of notes.
BEGIN {
    printf ".TH %s 1 \"%s\" \"kalm_rerank %s\" \"User Commands\"\n", toupper(name), date, version
    part = "usage"
}
# A line that roff prints as it is.
function plain(s) {
    gsub(/\\/, "\\e", s)
    gsub(/-/, "\\-", s)
    if (s ~ /^[.']/) s = "\\&" s
    return s
}
function section(title) { printf ".SH %s\n", title }
{ sub(/[ \t]+$/, "") }
part == "usage" {
    if ($0 == "") {
        part = "about"
        next
    }
    sub(/^Usage: /, "")
    sub(/^       /, "")
    usage = usage (usage == "" ? "" : ".br\n") plain($0) "\n"
    next
}
# Headings and options begin where a line is no part of a paragraph any more: an option has two spaces before its dash.
part == "about" {
    held[++n] = $0
    if ($0 !~ /^  -/) next
    heading = held[n - 1]
    last = n - 2
    if (heading ~ /^ / || heading == "") last = n - 1
    while (last && held[last] == "") last--
    about = ""
    for (i = 1; i <= last; i++) {
        brief = brief (i == 1 ? "" : " ") held[i]
        about = about (held[i] == "" ? ".PP\n" : plain(held[i]) "\n")
    }
    sub(/\.( .*)?$/, "", brief)
    sub(/: .*/, "", brief)
    section("NAME")
    printf "%s \\- %s\n", plain(name), plain(tolower(substr(brief, 1, 1)) substr(brief, 2))
    section("SYNOPSIS")
    printf "%s", usage
    section("DESCRIPTION")
    printf "%s", about
    section("OPTIONS")
    if (heading !~ /^ / && heading != "" && heading != "Options") printf ".SS %s\n", plain(heading)
    part = "options"
}
part == "options" {
    if ($0 == "") {
        part = "notes"
        section("NOTES")
        next
    }
    if ($0 ~ /^  -/) {
        option = substr($0, 3)
        words = ""
        if (match(option, /   *[^ ]/)) {
            words = substr(option, RSTART)
            sub(/^ +/, "", words)
            option = substr(option, 1, RSTART - 1)
        }
        printf ".TP\n.B %s\n", plain(option)
        if (words != "") print plain(words)
    } else if ($0 ~ /^   /) {
        sub(/^ +/, "")
        # the values of an option, each explained behind a colon, begin lines of their own
        word = $0
        sub(/[: ].*/, "", word)
        if ($0 ~ /^[a-z]+( \(default\))?: / && index(option "|", word "|")) print ".br"
        print plain($0)
    } else printf ".SS %s\n", plain($0)
    next
}
part == "notes" { print $0 == "" ? ".PP" : plain($0) }
