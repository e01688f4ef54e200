# doc_commands.awk - the commands that pages show, a line each: PAGE TAB COMMAND. A command is a line of a block without a language, or
# of one of shell, that begins with one of the words below or with "$ "; lines that end with a backslash go on in the next one.
#     awk -f tests/doc_commands.awk README.md docs/*.md
FNR == 1 { within = on = 0; joined = "" }
/^ *```/ {
    within = !within
    on = within && /^ *```(sh|bash|console)?[ \t]*$/
    next
}
!on { next }
{
    line = $0
    sub(/^ */, "", line)
    if (joined != "") line = joined " " line
    joined = ""
    if (line ~ /\\$/) {
        sub(/ *\\$/, "", line)
        joined = line
        next
    }
    if (line !~ /^(\$ |build\/|make( [a-z].*)?$|cc |sh |pip |npm |python3 |git |cmake |meson |curl |apt-get |parallel |dask-|kalm-)/) next
    sub(/^\$ /, "", line)
    sub(/ +# .*$/, "", line)
    print FILENAME "\t" line
}
