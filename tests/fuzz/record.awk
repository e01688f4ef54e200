# record.awk - adds up what many.sh recorded: for each fuzz target the time that it ran in all, inputs, crashes and commits, least time first.
# A crash stays in the record when its cause is gone: the commit beside it is the last one that crashed.
BEGIN { FS = "\t" }
NF != 9 { bad++; next }                        # a line that was cut by the end of its machine
{
    t = $2
    seconds[t] += $3; used[t] += $4; inputs[t] += $5; runs[t]++
    if ($6 + 0 > covered[t] + 0) covered[t] = $6
    if ($7 > 0) { crashes[t] += $7; crashed[t] = $8 }
    if (!((t, $8) in seen)) { seen[t, $8] = 1; commits[t]++ }
    if (!((t, "set " $9) in seen)) { seen[t, "set " $9] = 1; sets[t] = sets[t] (sets[t] ? "," : "") $9 }
    last[t] = $8
}
function duration(s) { return sprintf("%d:%02d:%02d", s / 3600, s % 3600 / 60, s % 60) }
function line(name, s, u, n, c, bad_runs, r, rest) { printf "%-16s %10s %10s %14.0f %8s %8d %6d  %s\n", name, duration(s), duration(u), n, c, bad_runs, r, rest }
END {
    printf "%-16s %10s %10s %14s %8s %8s %6s  %s\n", "target", "time", "processor", "inputs", "covered", "crashes", "runs", "commits, kernel sets"
    for (t in seconds) name[++count] = t
    for (i = 2; i <= count; i++)
        for (k = i; k > 1 && (seconds[name[k]] < seconds[name[k - 1]] || (seconds[name[k]] == seconds[name[k - 1]] && name[k] < name[k - 1])); k--) {
            t = name[k]; name[k] = name[k - 1]; name[k - 1] = t
        }
    for (i = 1; i <= count; i++) {
        t = name[i]
        line(t, seconds[t], used[t], inputs[t], covered[t], crashes[t], runs[t], \
             commits[t] " to " last[t] ", " sets[t] (crashes[t] ? ", last crash at " crashed[t] : ""))
        all_seconds += seconds[t]; all_used += used[t]; all_inputs += inputs[t]; all_crashes += crashes[t]; all_runs += runs[t]
    }
    line("all", all_seconds, all_used, all_inputs, "", all_crashes, all_runs, "")
    if (bad) printf "%d lines are not of the record's form\n", bad
}
