# check_long.awk - functions of more than 80 lines, which want a reason: the comment right before one says "Long: ..." and why it is not
# several.
#     awk -f tests/check_long.awk src/*.h tests/*.c ...
FNR == 1 { begins = 0; reason = 0; held = 0 }
/^\/\*|^   / && !begins { if (/^\/\*/) held = 0; if (/Long: /) held = 1 }
/^[A-Za-z_].*\(/ && !/;[ \t]*$/ && !/^(typedef|enum|struct)/ && !begins { head = $0; at = FNR; reason = held; held = 0 }
/^\{/ { begins = FNR }
/^\}/ {
    if (begins && FNR - begins - 1 > 80 && !reason) {
        printf "%s:%d: %d lines and no reason (\"Long: ...\"): %s\n", FILENAME, at, FNR - begins - 1, head
        bad = 1
    }
    begins = 0
    held = 0
}
END {
    if (!bad) print "functions: none is longer than 80 lines without a reason"
    exit bad
}
