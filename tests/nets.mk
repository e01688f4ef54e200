# nets.mk - what looks for faults beyond the tests, a part of the Makefile: fuzzing, injected faults, static analysis, soak, coverage.

.PHONY: fuzz fuzz-static fuzz-afl fuzz-record fuzz-cover

# ---- fuzzing: tests/fuzz.c says how the targets are built and run ----
# make fuzz TIME=60 FUZZ='model calls' CORES=1 SET=avx2 SEED=1: libFuzzer under AddressSanitizer and UndefinedBehaviorSanitizer, each
# target for TIME seconds. It needs clang; what it makes needs only the C library, so that it runs where there is none.
TIME ?= 60
CORES ?= 1
FUZZ_CLANG ?= clang
FUZZ_B ?= build/fuzz
FUZZ_WITH ?= -g -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -fno-omit-frame-pointer
FUZZ_FLAGS := -std=c99 -O1 -DKALM_DEBUG -fsanitize=fuzzer-no-link $(FUZZ_WITH) -DFUZZ_LIBFUZZER
FUZZ_SOURCES := $(wildcard tests/fuzz.c tests/fuzz/*.h tests/fuzz/*.c)
FUZZ_OBJECTS := $(FUZZ_B)/fuzz.o
ifeq ($(SQLITE),yes)                   # with it also the targets that run whole commands, all with one library (command_library.o)
  FUZZ_FLAGS += -DFUZZ_COMMANDS -DHAVE_SQLITE3
  FUZZ_OBJECTS += $(patsubst %,$(FUZZ_B)/command_%.o,world library index rerank eval quantize)
  FUZZ_LIBS := -l:libsqlite3.a $(PACKED_LIBS)
ifneq ($(filter $(B)/kalm-server,$(TOOLS:%=$(B)/%)),)
  FUZZ_FLAGS += -DFUZZ_SERVER $(shell pkg-config --cflags libmicrohttpd jansson)
  FUZZ_OBJECTS += $(FUZZ_B)/command_server.o
  FUZZ_LIBS += $(shell pkg-config --libs libmicrohttpd jansson)
endif
ifneq ($(filter $(B)/kalm-search,$(TOOLS:%=$(B)/%)),)
  FUZZ_FLAGS += -DFUZZ_SEARCH
  FUZZ_OBJECTS += $(FUZZ_B)/command_search.o
  FUZZ_LIBS += $(SEARCH_LIBS) $(shell pkg-config --libs jansson)
endif
endif
$(FUZZ_B)/command_search.o: FUZZ_FLAGS += $(SEARCH_FLAGS) $(shell pkg-config --cflags jansson)
$(FUZZ_B)/command_eval.o: FUZZ_FLAGS += $(PACKED_FLAGS)
$(FUZZ_B)/fuzz.o: tests/fuzz.c $(FUZZ_SOURCES) $(PARTS)
	@mkdir -p $(FUZZ_B)
	$(FUZZ_CLANG) $(FUZZ_FLAGS) -Isrc/parts -DKALM_RERANK_STATIC -c $< -o $@
$(FUZZ_B)/parts/kalm_rerank.h: src/kalm_rerank_in.h src/amalgamate.awk src/declare.awk $(PARTS)
	@mkdir -p $(@D)
	$(AWK) -v whole=1 -f src/amalgamate.awk $< > $@.whole && $(AWK) -f src/declare.awk $@.whole > $@
# The commands' models are sound, and no stranger's number is compared in a kernel: comparisons are not traced there (a fifth of the time)
$(FUZZ_B)/command_library.o: $(FUZZ_B)/parts/kalm_rerank.h tests/fuzz/command_world.h
	$(FUZZ_CLANG) $(FUZZ_FLAGS) -DFUZZ_APART -D_FILE_OFFSET_BITS=64 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -include tests/fuzz/command_world.h \
	    -fno-sanitize-coverage=trace-cmp $(OF_LIBRARY) src/kalm_rerank_in.h -o $@
$(FUZZ_B)/command_%.o: tests/fuzz/command_%.c $(FUZZ_SOURCES) $(FUZZ_B)/parts/kalm_rerank.h $(wildcard examples/*.[ch] examples/*/*.[ch] quantize/*.[ch] src/tools/*.h)
	$(FUZZ_CLANG) $(FUZZ_FLAGS) -DFUZZ_APART -I$(FUZZ_B)/parts -c $< -o $@
$(FUZZ_B)/fuzz: $(FUZZ_OBJECTS)
	$(FUZZ_CLANG)++ -fsanitize=fuzzer $(FUZZ_WITH) -static-libstdc++ -static-libgcc $^ -o $@ $(FUZZ_LIBS) $(LIBS)
	@git describe --always --exclude '*' --dirty=+ > $(FUZZ_B)/commit 2> /dev/null || echo unknown > $(FUZZ_B)/commit
# the short bout of make test: the library's and the converter's targets, on the parts, since it reaches into both
$(B)/tests/fuzz: tests/fuzz.c $(FUZZ_SOURCES) $(PARTS) $(LIBRARY) | $(B)/tests $(B)/tmp
	@echo '  CC  fuzz'
	$(Q)$(CC) $(FLAGS) $(CFLAGS) $(call of_tool,fuzz) -o $@ $< $(LIBRARY) $(LDFLAGS) $(LIBS)
fuzz-static: build/fuzz/fuzz
fuzz: build/fuzz/fuzz
	SET='$(SET)' bash tests/fuzz/many.sh $(CORES) $(TIME) $(FUZZ)
# make fuzz-record RECORDS='FILE...': how long each target has run in all, from the lines that many.sh keeps
RECORDS ?= build/fuzz/record.tsv
fuzz-record:
	@$(AWK) -f tests/fuzz/record.awk $(RECORDS)
# make fuzz-cover FUZZ='store states' OF='examples/store/*.h': which lines no input reaches, of what was found so far and the seeds (cover.sh)
fuzz-cover:
	$(MAKE) FUZZ_B=build/fuzz/cover FUZZ_WITH='-fprofile-instr-generate -fcoverage-mapping' build/fuzz/cover/fuzz
	bash tests/fuzz/cover.sh '$(OF)' $(FUZZ)
# AFL++ (Debian: afl++), the targets of the library and the converter; three CPU minutes to build. Then, with a folder OUT that exists:
# KALM_FUZZ=NAME AFL_SKIP_CPUFREQ=1 afl-fuzz -m none -t 5000 -i build/fuzz/afl-seeds/NAME -o OUT/NAME build/fuzz/fuzz-afl
fuzz-afl: $(FUZZ_SOURCES) $(PARTS)
	@mkdir -p build/fuzz
	AFL_USE_ASAN=1 AFL_USE_UBSAN=1 afl-clang-fast -std=gnu99 -O1 -g -DKALM_DEBUG -Isrc/parts -DFUZZ_AFL tests/fuzz.c -o build/fuzz/fuzz-afl $(LIBS)
	build/fuzz/fuzz-afl --seeds build/fuzz/afl-seeds

# ---- faults and long runs ----
.PHONY: faults soak
# make faults STEP=1 FAULTS_OF='search server': every allocation, read, write, open, sync, rename and thread of the commands fails in turn (tests/faults)
STEP ?= 1
faults: $(filter build/kalm-search build/kalm-server,$(TOOLS:%=build/%)) build/kalm-quantize build/kalm-index build/kalm-rerank build/kalm-eval \
    build/kalm-random-checkpoint
	CC='$(CC)' FAULTS_OF='$(FAULTS_OF)' sh tests/faults/run.sh build $(STEP)
# make soak TIME=1800: mixed work in one process; memory flat, known scores
$(B)/soak: tests/soak.c $(PARTS) | $(B)/tmp
	$(CC) $(FLAGS) $(CFLAGS) -Isrc/parts $< -o $@ $(LDFLAGS) $(LIBS)
soak: $(B)/soak $(B)/tiny.kalm
	$(B)/soak $(B)/tiny.kalm $(TIME)

# make server-soak TIME=1800: kalm-server under mixed work of many clients; memory and descriptors flat, known answers (tests/server/soak.py)
.PHONY: server-soak
server-soak: $(B)/kalm-server $(B)/kalm-rerank $(B)/kalm-index $(B)/tiny.kalm
	KALM_PATIENCE=$(PATIENCE) python3 tests/server/soak.py $(B) $(TIME)

# ---- load ----
.PHONY: load
# make load SECONDS=60: what kalm-server costs beside the library, many clients, 500 connections, kept documents (tests/load.c, load.sh)
SECONDS ?= 60
$(B)/kalm-load: tests/load.c $(PARTS) | $(B)/tmp
	$(Q)$(CC) $(FLAGS) $(TEXT_FLAGS) $(CFLAGS) -Isrc/parts -o $@ $< $(LDFLAGS) $(LIBS) $(TEXT_LIBS)
$(B)/bench/nano-q8-tokenizer.kalm: | $(B)/kalm-quantize $(B)/kalm-random-checkpoint
	@mkdir -p $(B)/bench
	$(B)/kalm-random-checkpoint nano $(B)/bench/load --quiet
	$(B)/kalm-quantize $(B)/bench/load $@ --weights q8 --tokenizer examples/tiny/tokenizer.json --name 'Nano-shaped, random' --quiet
	rm -rf $(B)/bench/load
load: $(B)/kalm-load $(B)/kalm-server $(B)/tiny.kalm $(B)/bench/nano-q8-tokenizer.kalm
	@sh tests/load.sh $(B) $(SECONDS)

# ---- WebAssembly ----
.PHONY: wasm-speed
# make wasm-speed: how fast the modules of examples/wasm/dist (sh examples/wasm/build.sh) read, beside the native addon (tests/wasm/speed.mjs);
# node is one that knows relaxed SIMD, or the modules with that are left out
NODE ?= node
wasm-speed: $(B)/bench/nano-q8-tokenizer.kalm
	@$(NODE) tests/wasm/speed.mjs $<

# ---- static analysis ----
.PHONY: static
# make static TOOL='tidy cppcheck' UNITS=library: gcc -fanalyzer, clang --analyze, clang-tidy and cppcheck; tests/static.sh says how findings are judged
static: $(B)/parts/kalm_rerank.h
	@mkdir -p $(B)/tmp
	@GCC='$(GCC)' CLANG='$(FUZZ_CLANG)' UNITS='$(UNITS)' DEFINES='$(strip $(TEXT_FLAGS) $(PACKED_FLAGS) $(SEARCH_FLAGS) \
	    $(shell pkg-config --cflags libmicrohttpd jansson 2>/dev/null))' sh tests/static.sh $(B) $(TOOL)

# ---- cores that are not at hand ----
.PHONY: bounds
# make bounds: how fast the inner loops can be on ARM cores, by LLVM's models of them (Debian: clang-16 llvm-16 binutils-aarch64-linux-gnu)
bounds:
	python3 tests/loop_bounds.py $(B)

# ---- coverage ----
.PHONY: coverage
# make coverage: every test but golden, and kalm-quantize and kalm-random-checkpoint on a system that fails (every COVER_STEP-th call), at
# -Og with counters; then lines and branches by file, and lines that are neither reached nor listed.
COVER_STEP ?= 31
coverage:
	$(MAKE) config=coverage test
	CC='$(CC)' FAULTS_OF='checkpoint' sh tests/faults/run.sh build/coverage 2
	CC='$(CC)' FAULTS_OF='quantize cut calibrate' sh tests/faults/run.sh build/coverage $(COVER_STEP)
	python3 tests/coverage.py build/coverage

# ---- threads ----
.PHONY: thread
# make thread: all that runs several threads, under ThreadSanitizer: the pool, one model under contexts of several threads, every
# callback, and the commands with their own tests. The rest of the tests have one thread, and take most of the time.
THREAD_TESTS ?= test_threads test_api test_online
THREAD_SCRIPTS ?= test_server test_search
# of test_server.sh what has several clients at a time, or ends while it works (tests/server/check.py); the others ask one after the other
THREAD_PARTS ?= together fair limits end_busy end
THREAD_SOAK ?= 30
thread: build/tiny.kalm
	$(MAKE) config=thread build/thread/kalm-quantize
	cp build/tiny.kalm build/thread/           # the same bytes, in seconds: there making it takes minutes
	KALM_PARTS='$(THREAD_PARTS)' $(MAKE) config=thread TESTS='$(THREAD_TESTS)' SCRIPTS='$(THREAD_SCRIPTS:%=tests/%.sh)' test
	$(MAKE) config=thread TIME=$(THREAD_SOAK) server-soak     # many clients at a time; its status is another where there was a report

# ---- memcheck ----
.PHONY: valgrind
# make valgrind: reads of memory that nobody has written, which the sanitizers do not see: in the library's parts (VALGRIND_TESTS) and in
# every command (the scenes of tests/faults, none of whose calls fails). Valgrind knows AVX2 but no AVX-512, so the kernel sets are avx2
# and plain C. Left out is what reads the same code again for minutes: golden, test_api, the texts of test_tokenizer.
VALGRIND ?= valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite
VALGRIND_TESTS ?= test_codecs test_modelfile test_reader test_attention test_ops test_kernels
valgrind: $(VALGRIND_TESTS:%=$(B)/tests/%) $(filter-out $(B)/first $(B)/kalm-bench,$(TOOLS:%=$(B)/%)) $(B)/tiny.kalm
	@for t in $(VALGRIND_TESTS); do echo "$$t:"; $(VALGRIND) $(B)/tests/$$t || exit 1; done
	@for set in avx2 scalar; do echo "commands, $$set:"; \
	    KALM_PATIENCE=40 KALM_KERNELS=$$set UNDER="$$(command -v valgrind) -q --error-exitcode=9" CC='$(CC)' sh tests/faults/run.sh $(B) 0 || exit 1; done
	@echo "tokens:"; $(VALGRIND) $(B)/kalm-tokenize $(B)/tiny.kalm < README.md > /dev/null

# ---- 32 bits ----
.PHONY: m32
# make m32: the tests that are programs as 32-bit ones, by Debian's cross compiler (gcc-i686-linux-gnu), which can be installed beside
# the others, as gcc-multilib cannot. They run on any x86-64. The commands come without SQLite and packed files.
M32_TESTS ?= golden test_api test_attention test_codecs test_commands test_convert test_kernels test_modelfile test_online test_ops test_parts \
    test_reader test_rows test_small test_spm test_threads test_tokenizer fuzz_tokenizer
M32 = B=build/m32 CC='i686-linux-gnu-gcc -msse2 -mfpmath=sse' LDFLAGS=-static UTF8PROC= SQLITE= PACKED_FLAGS= PACKED_LIBS= HARDEN=no
m32:
	$(MAKE) $(M32) all $(addprefix build/m32/,tiny.kalm $(M32_TESTS:%=tests/%))
	@sh tests/run.sh build/m32 1 $(M32_TESTS:%=build/m32/tests/%)
