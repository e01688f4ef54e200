#!/bin/sh
# test_leaks.sh BUILD - the header and the macros of the program that includes it. Nothing but KALM_ is defined or taken back, so
# a program's own macros are afterwards what they were before; and names that programs and system headers are known to define as
# macros do not occur in it, so they do no harm. Two ways: the text is read, every target's branches included, and programs that
# define such names before the #include are compiled and run.
build=$1
dir=$build/tmp/leaks.$$
mkdir -p "$dir"
passed=0 failed=0
AWK=${AWK:-awk}

expect() {
    what=$1
    shift
    if "$@" > "$dir/log" 2>&1; then passed=$((passed + 1)); return; fi
    failed=$((failed + 1))
    echo "FAILED: $what: $*"
    head -n 20 "$dir/log"
}

# Words that hosts define. <windows.h>: near, far, small, min, max, interface, hyper, pascal, cdecl, IN, OUT, ... <complex.h>: I,
# complex, imaginary. <iso646.h>: and, or, not, ... <stdbool.h>, <stdalign.h>, <stdnoreturn.h>, <threads.h>. Boards: byte, word,
# boolean, HIGH, LOW. <term.h>: columns, lines. Short words for attributes, in many a program. Names that this header used once.
words='near far small min max interface hyper pascal cdecl huge environ uint uchar ushort ulong
    complex imaginary and or not xor bitand bitor compl and_eq or_eq not_eq xor_eq
    bool true false alignas alignof noreturn thread_local static_assert
    byte boolean major minor unix linux sun check verify require nil
    columns lines bell tab newline buttons signals slots emit foreach forever current
    unused used always_inline noinline forceinline aligned packed target optimize hidden visibility weak pure cold hot
    format likely unlikely fallthrough deprecated nonnull malloc_like restrict_ inline_ force naked section_ alias constructor
    destructor export import internal public_ packed_struct may_alias warn_unused_result assume unreachable countof
    ERROR SUCCESS FAILED IN OUT OPTIONAL CONST VOID DELETE ABSOLUTE RELATIVE IGNORE STRICT THIS TRUE FALSE BOOL BYTE WORD
    MIN MAX ABS SWAP ALIGN ALIGNED UNUSED USED INLINE NOINLINE RESTRICT LIKELY UNLIKELY PREFETCH TARGET STATIC EXTERN API FN
    COUNT TOGETHER STEP STEPS TILE TILES ROWS COLS ROW COL PANEL PANELS LOAD STORE BODY TURN SET ADD SUB MUL SUM DOT ZERO ONE
    LINE LINES LAST FIRST NEXT REST TAIL HEAD SIZE LENGTH WIDTH HEIGHT DEPTH KEY KEYS VALUE VALUES QUERY WEIGHT WEIGHTS BIAS
    SCALE SHIFT MASK LOW HIGH INPUT OUTPUT DEFAULT BLOCK BLOCKS GROUP CHUNK LAYER LAYERS TYPE TYPES NONE ANY ALL END BEGIN START
    LIMIT PAD PACK UNPACK REP REPEAT V4 V8 V16 F32 F16 BF16 Q8 Q4 Q16 I8 I16 I32 U8 U16 U32 U64 VF VT V_ADD V_MUL V_SUB V_SET V_LOAD
    V_STORE V_W V_STEP V_SUM V_MAX V_MIN V_ZERO V_PARTS V_TOTAL V_SHIFT V_NEAREST NAN_ ASSERT CHECK TEST DEBUG TRACE LOG VERSION
    u8 u16 u32 u64 i8 i16 i32 i64 f16 f32 f64 s8 s16 s32 s64'
letters='A B C D E F G H I J K L M N O P Q R S T U V W X Y Z'

# ---- the text ----

# Identifiers of the header, each once, without comments, strings, #include, #error and #pragma lines.
identifiers() {
    $AWK '
    function strip(line,    out, c, at) {
        for (out = ""; line != "";) {
            if (inside) {
                at = index(line, "*/")
                if (!at) return out
                line = substr(line, at + 2)
                inside = 0
                out = out " "
                continue
            }
            c = substr(line, 1, 1)
            if (substr(line, 1, 2) == "/*") { inside = 1; line = substr(line, 3); continue }
            if (c == "\"" || c == "\047") {
                for (at = 2; at <= length(line) && substr(line, at, 1) != c; at++) if (substr(line, at, 1) == "\\") at++
                line = substr(line, at + 1)
                out = out " "
                continue
            }
            out = out c
            line = substr(line, 2)
        }
        return out
    }
    {
        line = strip($0)
        if (line ~ /^[ \t]*#[ \t]*(include|error|pragma)/ || line ~ /__declspec/) next      # it has no other spelling
        gsub(/##[ \t]*[A-Za-z0-9_]+/, " ", line)          # the end of a longer name: never a name by itself, and never expanded
        gsub(/[^A-Za-z0-9_]/, " ", line)
        n = split(line, word, " ")
        for (i = 1; i <= n; i++) if (word[i] ~ /^[A-Za-z_]/ && !seen[word[i]]++) print word[i]
    }' "$1" | sort
}
identifiers kalm_rerank.h > "$dir/identifiers"

# Capitals that are not ours: the C library, POSIX, Windows, and the words of utf8proc under KALM_ switches.
allowed='^(NULL|FILE|SIG[A-Z_]+|INFINITY|SIZE_MAX|U?INT[0-9]+_MAX|E[A-Z]+|O_[A-Z]+|S_IS[A-Z]+|SEEK_(SET|END)|MAP_[A-Z]+|MADV_[A-Z]+|PROT_READ
|INFINITE|CONDITION_VARIABLE|CRITICAL_SECTION|CP_UTF8|DWORD|HANDLE|WCHAR|LPVOID|LARGE_INTEGER|SYSTEM_INFO|WINAPI|ERROR_[A-Z_]+|FILE_[A-Z_]+
|BOOL|DWORD_PTR|CPU_[A-Z]+|GENERIC_READ|INVALID_HANDLE_VALUE|OPEN_EXISTING|PAGE_READONLY|MB_ERR_INVALID_CHARS|CLOCK_MONOTONIC|NOMINMAX|WIN32_LEAN_AND_MEAN|UTF8PROC_[A-Z]+)$'
allowed=$(printf '%s' "$allowed" | tr -d '\n')
# The letters are kinds of tiles, in arguments of ## as below: KALM__512_##kind##STEP.
grep -E '^[A-Z][A-Z0-9_]*$' "$dir/identifiers" | grep -vE '^KALM_|^[BFMQVW]$' | grep -vE "$allowed" > "$dir/capitals"
expect "names in capitals are KALM_ or the system's" sh -c "cat '$dir/capitals'; [ ! -s '$dir/capitals' ]"
for word in $words; do echo "$word"; done | sort > "$dir/words"
# The names that arguments of ## have (min of kalm__min_four, u32 of KALM__READ_u32) are not looked up as macros, nor is a
# parameter of a macro (target); BOOL is the type that <windows.h> calls so, in Windows' branch. The hostile program below has them all.
comm -12 "$dir/words" "$dir/identifiers" | grep -vxE 'min|max|u32|f32|target|BOOL' > "$dir/both"
expect "no word that hosts are known to define" sh -c "cat '$dir/both'; [ ! -s '$dir/both' ]"
# The two words that <windows.h> looks for are defined around it where the program did not, and taken back.
grep -nE '^[ \t]*#[ \t]*(define|undef)[ \t]' kalm_rerank.h | grep -vE '(define|undef)[ \t]+KALM_' |
    grep -vE '(define|undef) (NOMINMAX|WIN32_LEAN_AND_MEAN)$' > "$dir/defines"
expect "every #define and #undef is of a KALM_ name" sh -c "cat '$dir/defines'; [ ! -s '$dir/defines' ]"
expect "what is defined around <windows.h> is taken back" sh -c "[ \$(grep -cE '#[ ]*(define|undef) (NOMINMAX|WIN32_LEAN_AND_MEAN)\$' kalm_rerank.h) -eq 4 ]"
# attributes in their spelling that no macro meets; MSVC has no other for these
grep -noE '__attribute__ *\(\( *[a-z][a-z_]*' kalm_rerank.h > "$dir/attributes"
expect "attributes are spelt __so__" sh -c "cat '$dir/attributes'; [ ! -s '$dir/attributes' ]"

# The manual lists the words in lower case that the declarations use.
identifiers src/api.h | grep -E '^[a-z]' | grep -vE '^kalm_|^u?int[0-9]+_t$' |
    grep -vxE 'char|const|define|defined|double|else|elif|endif|enum|extern|float|if|ifdef|ifndef|int|size_t|static|struct|typedef|unsigned|void' > "$dir/declared"
$AWK '/^NAMES$/ { on = 1 } on && /^    [a-z]/ { for (i = 1; i <= NF; i++) print $i } /^HOW TO READ/ { exit }' kalm_rerank.h | sort > "$dir/listed"
expect "the manual lists the words of the declarations" cmp "$dir/declared" "$dir/listed"

# ---- programs ----

{
    for word in $words $letters; do echo "#define $word leak_of_$word @"; done
    for a in $letters; do for b in $letters; do echo "#define $a$b leak_of_$a$b @"; done; done
} | grep -vE '^#define (and|or|not|xor|bitand|bitor|compl|and_eq|or_eq|not_eq|xor_eq|bool|true|false|alignas|alignof|static_assert|thread_local|export|import) ' |
    grep -vE '^#define (U8|IN|OUT|VF|V_ADD|R) ' > "$dir/hostile.h"
# what C++ has as keywords only C programs can define
for word in and or not xor bitand bitor compl and_eq or_eq not_eq xor_eq bool true false alignas alignof static_assert thread_local; do
    printf '#ifndef __cplusplus\n#define %s leak_of_%s @\n#endif\n' $word $word
done >> "$dir/hostile.h"
# The system's own headers come first: some spell attributes as they like, and typedef uint. (The intrinsics are in hostile.c.)
sed -n 's/^#[ ]*include \(<.*>\).*/\1/p' kalm_rerank.h | sort -u | grep -vE 'intrin|windows|cpuid|neon|wasm|riscv|sysctl|process|utf8proc' |
    while read -r name; do printf '#if __has_include(%s)\n#  include %s\n#endif\n' "$name" "$name"; done > "$dir/system.h"
cat > "$dir/hostile.c" <<'END'
#ifdef __has_include
#  if __has_include(<immintrin.h>)
#    include <immintrin.h>
#    include <cpuid.h>
#  endif
#endif
#include "system.h"
#include "hostile.h"
#define R 3
#define U8 unsigned char
#define IN
#define OUT /* as <windows.h> has it */
#define VF double
#define V_ADD(a, b) ((a) + (b) + R)
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "kalm_rerank.h"

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

/* its own words are what they were */
int main(void)
{
    VF sum = V_ADD(1.0, 2.0);
    U8 one = 1;
    IN OUT const char *count = STRING(COUNT), *i = STRING(I), *added = STRING(V_MUL), *where = STRING(small);
    if (sum != 6.0 || one != R - 2 || sizeof(VF) != sizeof(double)) return 1;
    if (strcmp(count, "leak_of_COUNT @") != 0 || strcmp(i, "leak_of_I @") != 0 || strcmp(added, "leak_of_V_MUL @") != 0) return 2;
    if (strcmp(where, "leak_of_small @") != 0 || strcmp(STRING(ZZ), "leak_of_ZZ @") != 0) return 3;
    return kalm_kernels(0) ? 0 : 4;
}
END
compilers() {
    for c in "$@"; do command -v "$c" > /dev/null 2>&1 && printf '%s\n' "$c"; done
}
for cc in $(compilers gcc clang); do
    # all kernels are read; what is linked and run are the macros, which they do not change
    expect "hostile macros, $cc" $cc -std=c99 -Wall -Wextra -Wpedantic -Werror -I. -I"$dir" -fsyntax-only "$dir/hostile.c"
    expect "hostile macros, $cc, linked" $cc -O0 -std=c99 -DKALM_NO_SIMD -I. -I"$dir" "$dir/hostile.c" -o "$dir/hostile" -lm -lpthread
    expect "hostile macros, $cc, run" "$dir/hostile"
    # every macro that the file defines or takes back, with the branches of this target and what the system's headers do beside
    expect "the preprocessor says so, $cc" sh -c "printf '#define KALM_RERANK_IMPLEMENTATION\n#include \"kalm_rerank.h\"\n' |
        $cc -std=c99 -I. -E -dD -x c - | $AWK '
        /^# [0-9]+ \"/ { ours = \$3 ~ /kalm_rerank\.h\"\$/ }
        ours && /^#(define|undef)/ { n++; if (\$2 !~ /^KALM_/) { print; bad = 1 } }
        END { exit bad || n < 100 }'"
    expect "gnu89, $cc" $cc -std=gnu89 -Wall -Wextra -Werror -I. -fsyntax-only -x c kalm_rerank.h -DKALM_RERANK_IMPLEMENTATION
done
for cxx in $(compilers g++ clang++); do
    expect "hostile macros, $cxx" $cxx -x c++ -std=c++11 -Wall -Wextra -Werror -I. -I"$dir" -fsyntax-only "$dir/hostile.c"
done
for cc in $(compilers clang); do
    expect "-Wreserved-identifier" $cc -std=c99 -Wreserved-identifier -Wreserved-macro-identifier -Werror -I. -fsyntax-only tests/compile/one.c
done
# another C compiler and another C library, where the machine has them; warnings are errors for neither. GCC with the other library
# reads the kernels, and compiles to the end what calls a library.
if command -v tcc > /dev/null 2>&1; then expect "tcc" tcc -I. tests/compile/one.c -o "$dir/tcc" -lm -lpthread; fi
if command -v musl-gcc > /dev/null 2>&1; then
    expect "musl-gcc reads" musl-gcc -I. -fsyntax-only tests/compile/one.c
    expect "musl-gcc" musl-gcc -DKALM_NO_SIMD -I. tests/compile/one.c -o "$dir/musl" -lm -lpthread
fi
for program in "$dir/tcc" "$dir/musl"; do [ ! -e "$program" ] || expect "$program runs" "$program"; done

rm -rf "$dir"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
