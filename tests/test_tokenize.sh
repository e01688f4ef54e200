#!/bin/sh
# test_tokenize.sh BUILD - the command kalm-tokenize: the ids of Hugging Face for the bundled tokenizer (tests/tokenizer_cases.jsonl) from
# each kind of file, both ways, every form of input and output, Unicode normal forms, and bad input by name.
build=$1
dir=$build/tmp/tokenize.$$
mkdir -p "$dir"
tokenize=$build/kalm-tokenize model=$build/tiny.kalm json=examples/tiny/tokenizer.json
passed=0 failed=0
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED: $*"; }
equal() { if [ "$1" = "$2" ]; then ok; else bad "$3: '$1' instead of '$2'"; fi; }
# gives TEXT ARGUMENT...: standard output, of what stands in $input
gives() {
    want=$1
    shift
    equal "$(printf "$input" | "$tokenize" "$@" 2>&1)" "$want" "$*"
}
# fails STATUS WORDS ARGUMENT...: with that status and these words on standard error, and nothing more on standard output
fails() {
    want=$1 words=$2
    shift 2
    printf "$input" | "$tokenize" "$@" > "$dir/out" 2> "$dir/err"
    status=$?
    if [ $status -eq "$want" ] && grep -q -F -e "$words" "$dir/err"; then ok; else bad "$*: status $status, $(head -n 1 "$dir/err") instead of '$words'"; fi
}

# ---- ids that are known, from a model, from what was published, and from a file of the tokenizer alone ----
grep '^{"text"' tests/tokenizer_cases.jsonl > "$dir/cases"
grep '^{"ids"' tests/tokenizer_cases.jsonl > "$dir/back"
sed 's/^.*"ids": /{"ids": /' "$dir/cases" > "$dir/ids"
[ "$(wc -l < "$dir/ids")" -ge 200 ] && [ "$(wc -l < "$dir/back")" -ge 100 ] && ok || bad 'hardly any cases'
if "$tokenize" $json --convert "$dir/alone.kalm"; then ok; else bad 'a file of the tokenizer alone'; fi
for file in "$model" $json "$dir/alone.kalm"; do
    if "$tokenize" "$file" --jsonl --parse-control < "$dir/cases" | cmp -s - "$dir/ids"; then ok; else bad "the ids of $file"; fi
done
"$tokenize" "$model" --jsonl --parse-control --count < "$dir/cases" > "$dir/counts"
if awk '{ n = gsub(/,/, ","); print "{\"count\": " (/\[\]/ ? 0 : n + 1) "}" }' "$dir/ids" | cmp -s - "$dir/counts"; then ok; else bad counts; fi
if command -v python3 > /dev/null; then
    if "$tokenize" "$model" --jsonl < "$dir/back" | python3 -c '
import json, sys
want = [json.loads(line)["text"] for line in open(sys.argv[1])]
sys.exit([json.loads(line)["text"] for line in sys.stdin] != want)' "$dir/back"; then ok; else bad 'texts of ids'; fi
fi

# ---- forms of input and output ----
input='play chess\n\nplay\n'
gives "1004 7141

1004" "$model"
gives '2
0
1' "$model" --count
gives '1004 7141
1004' "$model" 'play chess' play
input='play\nchess'                   # one text, its newline a token
gives '1004 10 385 381' "$model" --whole
gives '4' "$model" --whole --count
printf 'play chess' | "$tokenize" "$model" --whole --time > "$dir/out" 2> "$dir/err"
equal "$(cat "$dir/out")" '1004 7141' 'with --time'
grep -q -E '^0.000 MB in [0-9.]+ s: ([0-9.]+|inf|-?nan) MB/s$' "$dir/err" && ok || bad "--time: $(cat "$dir/err")"
input='1004 7141\n[1004,\t7141]\n\n'
gives 'play chess
play chess' "$model" --decode
gives '2
2
0' "$model" --decode --count
gives 'play chess' "$model" --decode '1004 7141'
gives '' "$model" --decode '4294967303 -4294967289'            # no numbers of 32 bits: not 7
# each token with its bytes; those that are no characters by themselves are written as numbers
input='Z\303\274rich\n\ta'
gives "8173	Z
228	\\xc3
221	\\xbc
6038	rich
10	\\n
42	\\t
8095	a" "$model" --whole --pieces
input='{"hex": "5aC3BC72696368"}\n\n{"text": "Z\303\274rich"}\n{"hex": "fF"}\n{"text": "\357\277\275"}\n{"other": 1, "ids": [1004, 7141], "text": "x"}\n'
gives '{"ids": [8173, 228, 221, 6038]}
{"ids": [8173, 228, 221, 6038]}
{"ids": [272, 224, 222]}
{"ids": [272, 224, 222]}
{"text": "play chess"}' "$model" --jsonl
input='{"ids": [1004, 7141]}\n'
gives '{"count": 2}' "$model" --jsonl --count
# ids that the vocabulary does not have are nothing, as in Hugging Face
input='{"ids": [1004, -1, 8192, 1e300, 7141]}\n'
gives '{"text": "play chess"}' "$model" --jsonl
input='1004 -7 99999999999999999999 7141'
gives 'play chess' "$model" --decode
# a mark is text, or the token of that name
input=
gives "$("$tokenize" "$model" '<end_of_turn>' --count)" "$model" --count '<end_of_turn>'
[ "$("$tokenize" "$model" '<end_of_turn>' --count)" -gt 1 ] && ok || bad 'a mark is one token without --parse-control'
gives 1 "$model" --parse-control --count '<end_of_turn>'
# longer than any room that was made at first
awk 'BEGIN { for (i = 0; i < 3000; i++) printf "%s", "play chess "; print "" }' > "$dir/long"
equal "$("$tokenize" "$model" < "$dir/long" | "$tokenize" "$model" --decode)" "$(cat "$dir/long")" 'a long line, there and back'
equal "$("$tokenize" "$model" < "$dir/long" | sed 's/ /, /g; s/.*/{"ids": [&]}/' | "$tokenize" "$model" --jsonl)" "{\"text\": \"$(cat "$dir/long")\"}" 'and as JSON'

# ---- what a file is ----
"$tokenize" $json --info > "$dir/info"
for line in 'rules          Hugging Face' 'model          BPE' 'ids            8192, 0 of them without a token' 'byte tokens    256' 'normalisation  none'; do
    grep -q -x -F -e "$line" "$dir/info" && ok || bad "--info lacks '$line'"
done
"$tokenize" examples/tiny/tokenizer.model --info | grep -q -x 'rules          SentencePiece' && ok || bad '--info of a tokenizer.model'

# ---- Unicode normal forms, by utf8proc where the command was built with it: a text gives the ids of its normal form ----
form() {
    awk -v form="$1" '
        /^ "normalizer": \{/ { print " \"normalizer\": {\"type\": \"" form "\"},"; skip = 1 }
        /^ "pre_tokenizer": \{/ { print " \"pre_tokenizer\": null,"; skip = 1 }
        !skip { print }
        /^ \},?$/ { skip = 0 }' $json > "$dir/$1.json"
}
whole=$(printf 'Z\303\274rich') apart=$(printf 'Zu\314\210rich') joined=$(printf '\357\254\201')
for f in NFC NFD NFKC NFKD; do
    form $f
    if "$tokenize" "$dir/$f.json" --info > "$dir/info" 2>&1; then
        grep -q -x "normalisation  $f" "$dir/info" && ok || bad "--info of $f: $(cat "$dir/info")"
        case $f in NF*C) normal=$whole ;; *) normal=$apart ;; esac
        for text in "$whole" "$apart"; do equal "$("$tokenize" "$dir/$f.json" "$text")" "$("$tokenize" $json "$normal")" "$f of $text"; done
        case $f in NFK*) normal=fi ;; *) normal=$joined ;; esac
        equal "$("$tokenize" "$dir/$f.json" "$joined")" "$("$tokenize" $json "$normal")" "$f of a ligature"
    else
        grep -q 'compile with KALM_UTF8PROC' "$dir/info" && ok || bad "$f: $(cat "$dir/info")"
    fi
done

# ---- what is wrong is named ----
input='{"text": 1}\n'
fails 1 'line 1: the text is no string' "$model" --jsonl
input='{"text": "a"}\n{"txt": "a"}\n'
fails 1 'line 2: there is neither "text" nor "hex" nor "ids"' "$model" --jsonl
input='[1]\n'
fails 1 'line 1: there is neither' "$model" --jsonl
input='{"text": "a"\n'
fails 1 'line 1' "$model" --jsonl
input='{"hex": "abc"}\n'
fails 1 'line 1: "hex" has an odd number of digits' "$model" --jsonl
input='{"hex": "ag"}\n'
fails 1 'line 1: "hex" has a character that is no digit' "$model" --jsonl
input='{"ids": 7}\n'
fails 1 'line 1: "ids" is no array' "$model" --jsonl
input='{"ids": [7, "8"]}\n'
fails 1 'line 1: an id is no number' "$model" --jsonl
input='7\n8 nine\n'
fails 1 'line 2: "nine" is no id' "$model" --decode
input=
fails 2 'the name of a file is missing'
fails 2 'only one of --jsonl, --decode and --whole can be given' "$model" --jsonl --whole
fails 2 'read standard input, not arguments' "$model" --whole text
fails 1 'no/such.kalm' no/such.kalm
fails 1 'README.md' README.md
fails 1 "$dir/no/out.kalm" $json --convert "$dir/no/out.kalm"
head -c 3000 "$model" > "$dir/cut.kalm"
fails 1 "$dir/cut.kalm" "$dir/cut.kalm"
head -c 3000 $json > "$dir/cut.json"
fails 1 "$dir/cut.json" "$dir/cut.json"
"$build/kalm-random-checkpoint" hidden=32 mlp=48 layers=1 heads=2 kv_heads=1 head_dim=16 window=4 vocabulary=64 --quiet "$dir/checkpoint" &&
    "$build/kalm-quantize" "$dir/checkpoint" "$dir/none.kalm" --tokenizer none --yes-id 4 --no-id 9 --no-rows --quiet
fails 1 'holds no tokenizer' "$dir/none.kalm"
if [ -w /dev/full ]; then
    "$tokenize" "$model" play > /dev/full 2> "$dir/err"
    equal "$?" 1 'a full disk'
fi
# a file that may not grow leaves nothing behind
if (ulimit -f 1; exec "$tokenize" "$model" --convert "$dir/large.kalm" > "$dir/err" 2>&1); then bad 'a file beyond the limit'; else ok; fi
equal "$(ls "$dir" | grep -c '^large')$(grep -c 'cannot write' "$dir/err")" 01 'what is left of it'

rm -rf "$dir"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
