# Everything is one header: nothing here has to be built to use it. This file makes the header from its parts, the
# commands, and the tests. CC, CXX, CFLAGS, CXXFLAGS, LDFLAGS and AWK are yours to set. No -march=native: the kernels
# choose by the machine they run on.

CC  ?= cc
CXX ?= c++
AWK ?= awk
PREFIX ?= /usr/local
config ?= release

# What one `make test` runs at once; V=1 shows every command and everything that the tests print.
JOBS ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
Q := $(if $(V),,@)

.DELETE_ON_ERROR:                      # a rule that fails half way leaves no file that looks made

B := build$(if $(filter-out release,$(config)),/$(config))

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wcast-qual -Wdouble-promotion -Wundef -Wvla
WARN_C := $(WARN) -Wstrict-prototypes -Wmissing-prototypes
OPT_release  := -O2
OPT_debug    := -O0 -g -DKALM_DEBUG
# (float-cast-overflow, a number that its integer cannot hold, is no part of `undefined`)
OPT_sanitize := -O1 -g -DKALM_DEBUG -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_thread   := -O1 -g -DKALM_DEBUG -fsanitize=thread
# Branches are counted where they are written: a function that is inlined would have its own in every caller.
OPT_coverage := -Og -g -fno-inline --coverage -DKALM__INLINE=static -Wno-unused-function
ifeq ($(origin OPT_$(config)),undefined)
  $(error config=$(config): it is one of release, debug, sanitize, thread, coverage)
endif
# What the deadlines of tests are multiplied by, since these programs are so much slower.
PATIENCE_debug := 3
PATIENCE_sanitize := 4
PATIENCE_thread := 20
PATIENCE_coverage := 6
PATIENCE ?= $(or $(PATIENCE_$(config)),1)
FLAGS = -std=c99 $(WARN_C) $(OPT_$(config))
LIBS := -lm -lpthread

# The commands read what strangers send, so they are built hardened where the compiler can: position-independent, the tables
# of the linker read-only, guards on the stack, checks in the C library. HARDEN=no leaves that out. The header needs none of it.
HARDEN ?= $(if $(filter release,$(config)),yes,no)
HARD_ALL := -fPIE -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -Wformat -Wformat-security -pie -Wl,-z,relro,-z,now
HARD = $(eval HARD := $(shell mkdir -p $(B)/tmp; [ '$(HARDEN)' = yes ] && echo 'int main(void) { return 0; }' > $(B)/tmp/hard.c && \
    $(CC) -O2 -Werror $(HARD_ALL) -o $(B)/tmp/hard $(B)/tmp/hard.c $(LDFLAGS) 2>/dev/null && echo '$(HARD_ALL)'))$(HARD)

# Columns of a terminal: with utf8proc where it is installed, else one for each code point.
UTF8PROC := $(shell pkg-config --exists libutf8proc 2>/dev/null && echo yes)
ifeq ($(UTF8PROC),yes)
  TEXT_FLAGS := -DHAVE_UTF8PROC $(shell pkg-config --cflags libutf8proc)
  TEXT_LIBS := $(shell pkg-config --libs libutf8proc)
endif

# The store of encoded documents; without SQLite there is no kalm-index and kalm-rerank has no --store.
SQLITE := $(shell pkg-config --exists sqlite3 2>/dev/null && echo yes)
ifeq ($(SQLITE),yes)
  TEXT_FLAGS += -DHAVE_SQLITE3 $(shell pkg-config --cflags sqlite3)
  TEXT_LIBS += $(shell pkg-config --libs sqlite3)
endif

# Published test collections come packed; without these libraries kalm-eval reads plain files alone.
ifeq ($(shell pkg-config --exists zlib 2>/dev/null && echo yes),yes)
  PACKED_FLAGS += -DHAVE_ZLIB $(shell pkg-config --cflags zlib)
  PACKED_LIBS += $(shell pkg-config --libs zlib)
endif
ifeq ($(shell pkg-config --exists libzstd 2>/dev/null && echo yes),yes)
  PACKED_FLAGS += -DHAVE_ZSTD $(shell pkg-config --cflags libzstd)
  PACKED_LIBS += $(shell pkg-config --libs libzstd)
endif

PARTS := $(wildcard src/*.h src/tools/*.h tokenizer/*.h quantize/*.h)

# The library is compiled once for the commands (library.o, of the parts) and once for most tests (header.o, of the generated header),
# with its private functions for the linker to see; programs that are linked with it read a header without the functions' bodies
# (src/declare.awk), which takes a tenth of the time. WHOLE_TESTS have a library of their own, as a user's program has (golden where
# nothing slows it down); SHARE=no makes all of them so. Coverage is counted by parts: there the tests, too, are linked with library.o.
SHARE ?= yes
WHOLE_TESTS := test_amx test_platform $(if $(filter release,$(config)),golden)
PARTS_TESTS := test_calibrate test_codecs test_eval
ifeq ($(SHARE),yes)
  LIBRARY := $(B)/library.o
  HEADER_O := $(if $(filter coverage,$(config)),,$(B)/tests/header.o)
endif
# (library.o is what the shared library is made of, too, where the private functions stay hidden)
SHAREABLE := -fPIC -fvisibility=hidden -DKALM_API='extern __attribute__((__visibility__("default")))'
OF_LIBRARY := -Wno-missing-prototypes -ffp-contract=off -DKALM__FN=extern -DKALM_RERANK_IMPLEMENTATION -c -x c
# of_tool, of_test NAME: where its kalm_rerank.h lies; with_test: what it is linked with
of_tool := -I$(if $(LIBRARY),$(B)/parts,src/parts)

.PHONY: help all header check-header check docs check-quick built quick-built quality test sanitize demo bench speed-figures search-speed few-bit-store install shared sqlite postgres postgres-install postgres-test scaling targets dist man clean
help:
	@echo 'make all           the commands: $(TOOLS)'
	@echo 'make demo          convert the bundled tiny model and rerank real text'
	@echo 'make test          every test, a line each; ends with "N passed, N failed"; V=1 shows all that they print'
	@echo 'make check-quick   the tests that an edit is most likely to break, in under a minute'
	@echo 'make quality       what q8 and q4 weights keep of the ranking, at all six ratios'
	@echo 'make check         layers, every part alone, symbols, size, nothing unused; header and docs/ up to date'
	@echo 'make docs          docs/FORMAT.md, TOKENIZER.md, KERNELS.md and MAP.md from the sources, figures in the pages from docs/speed and docs/rows'
	@echo 'make sanitize      make test under AddressSanitizer and UndefinedBehaviorSanitizer'
	@echo 'make thread        what runs several threads, library and commands, under ThreadSanitizer'
	@echo 'make bench         speed of this machine, as a table and $(B)/bench.json; options: BENCH=--quick, see kalm-bench --help;'
	@echo '                   then what a query costs for passages of up to LONGEST=2048 tokens (kalm-eval --cost)'
	@echo 'make speed-figures  measures the speeds that the pages state, writes docs/speed and the pages; SPEED="bench cost load search wasm bounds"'
	@echo 'make search-speed  kalm-index and kalm-search beside kalm_encode, and questions to 100,000 documents; SEARCH="COUNT MODEL ROUNDS"'
	@echo 'make fuzz          hostile bytes to every reader, TIME=60 seconds each; FUZZ=NAME SET=KERNELS CORES=N;'
	@echo '                   fuzz-record: how long each target has run in all;  fuzz-cover: lines that none reaches'
	@echo 'make faults        every allocation, read, write, open, sync, rename of the commands fails in turn; STEP=10: a tenth'
	@echo 'make few-bit-store  a million rows of 4 and 2 bits in a store, opened, ranked from and damaged on purpose; ROWS=1000000'
	@echo 'make load          kalm-server beside the library, 1 to 500 clients, kept documents: the figures of docs/SERVER.md'
	@echo 'make soak          TIME=60 seconds of mixed work in one process: memory flat, scores as they were'
	@echo 'make server-soak   TIME=60 seconds of mixed requests to kalm-server: memory and descriptors flat, answers as they were'
	@echo 'make static        gcc -fanalyzer, clang --analyze, clang-tidy, cppcheck: clean, or a reason in tests/static.tsv'
	@echo 'make coverage      what the tests reach of src, tokenizer, quantize'
	@echo 'make valgrind      tests and every command under memcheck;  m32: the tests as 32-bit programs'
	@echo 'make bounds        what models of ARM cores say of the inner loops, beside x86 loops that were measured'
	@echo 'make header        kalm_rerank.h from src/, tokenizer/, quantize/;  check-header: is it up to date?'
	@echo 'make install       header, commands, manual pages, shared library, pkg-config and CMake files to PREFIX=$(PREFIX)'
	@echo 'make dist          build/kalm_rerank-$(VERSION).tar.gz, and the data of the tests in another;  man: packaging/man from --help'
	@echo 'make shared        $(B)/libkalm_rerank.so, for examples/python and other languages'
	@echo 'make sqlite        $(B)/kalm.so, reranking inside SQLite: examples/sqlite/README.md'
	@echo 'make postgres      $(B)/postgres/kalm.so, reranking inside PostgreSQL: examples/postgres/README.md;  postgres-test'
	@echo 'make scaling       several machines on this one: Dask, PostgreSQL, nginx: docs/SCALING.md'
	@echo 'make targets       cross-build and run everywhere; the table of targets to $(B)/targets/table.md;  clean;  tags'
	@echo 'config=release|debug|sanitize|thread|coverage   CC=$(CC) CXX=$(CXX)   results go to build/'

# ---- the header ----
HEADER = $(AWK) -f src/amalgamate.awk src/kalm_rerank_in.h
header:
	@mkdir -p build
	$(Q)$(HEADER) > build/header.$$$$ && { cmp -s build/header.$$$$ kalm_rerank.h && rm build/header.$$$$ || mv build/header.$$$$ kalm_rerank.h; }
kalm_rerank.h: src/kalm_rerank_in.h src/amalgamate.awk $(PARTS)
	@$(MAKE) --no-print-directory header && touch $@
check-header:
	@mkdir -p build
	@$(HEADER) > build/header.check
	@cmp build/header.check kalm_rerank.h || { echo 'kalm_rerank.h is not what its parts say: make header'; exit 1; }
check: check-header
	@$(AWK) -f tests/check_layers.awk $(PARTS)
	@AWK='$(AWK)' CC='$(CC)' sh tests/check_parts.sh $(WARN_C)
	@AWK='$(AWK)' CC='$(CC)' sh tests/check_symbols.sh
	@$(AWK) -f tests/check_long.awk $(PARTS) $(wildcard quantize/*.c tokenizer/*.c examples/*.c examples/*/*.[ch] tests/*.[ch] tests/*/*.[ch])
	@[ $$(wc -c < kalm_rerank.h) -lt 593000 ] || { echo 'kalm_rerank.h has 593,000 bytes or more; sh tests/size.sh says where they are'; exit 1; }
	$(if $(filter x86_64 aarch64 arm64,$(shell uname -m)),@for switch in '' -DKALM_NO_SIMD; do \
	    $(CC) -E -DKALM_RERANK_IMPLEMENTATION $$switch -x c kalm_rerank.h; done | $(AWK) -f tests/check_unused.awk)
	@bash tests/mutate.sh -l                # each mistake of the list still has its line
	@AWK='$(AWK)' sh docs/make.sh check
	@if command -v python3 > /dev/null; then python3 tests/coverage.py check && python3 docs/rows/rows.py check && python3 docs/speed/figures.py check; else echo 'no python3: figures of the pages were not checked'; fi
docs:
	@AWK='$(AWK)' sh docs/make.sh
	@if command -v python3 > /dev/null; then python3 docs/rows/rows.py make && python3 docs/speed/figures.py make; else echo 'no python3: figures of the pages are as they were'; fi

# ---- the commands: name and source ----
TOOLS :=
define tool
TOOLS += $(1)
$(B)/$(1): $(2) $(LIBRARY) | $(B)/tmp
	@echo '  CC  $(1)'
	$(Q)$(CC) $(FLAGS) $$(HARD) $(TEXT_FLAGS) $(3) $(of_tool) $(CFLAGS) -MMD -MP -MF $$@.d -o $$@ $(2) $(LIBRARY) $(LDFLAGS) $(LIBS) $(TEXT_LIBS) $(4)
-include $(B)/$(1).d
endef
tool_if = $(if $(wildcard $(2)),$(eval $(call tool,$(1),$(2),$(3),$(4))))
$(call tool_if,kalm-rerank,examples/kalm_rerank.c)
$(call tool_if,kalm-quantize,quantize/kalm_quantize.c)
$(call tool_if,kalm-tokenize,tokenizer/tokenize.c)
$(call tool_if,kalm-random-checkpoint,quantize/random_checkpoint.c)
ifeq ($(SQLITE),yes)
$(call tool_if,kalm-index,examples/index/kalm_index.c)
endif
# Search for people wants a JSON library as well; pages of HTML and mail are read where libxml2 and GMime are there.
ifeq ($(shell pkg-config --exists libxml-2.0 2>/dev/null && echo yes),yes)
  SEARCH_FLAGS += -DHAVE_LIBXML2 $(subst -I,-isystem ,$(shell pkg-config --cflags libxml-2.0))
  SEARCH_LIBS += $(shell pkg-config --libs libxml-2.0)
endif
ifeq ($(shell pkg-config --exists gmime-3.0 2>/dev/null && echo yes),yes)
  SEARCH_FLAGS += -DHAVE_GMIME $(subst -I,-isystem ,$(shell pkg-config --cflags gmime-3.0))
  SEARCH_LIBS += $(shell pkg-config --libs gmime-3.0)
endif
ifeq ($(SQLITE)$(shell pkg-config --exists jansson 2>/dev/null && echo yes),yesyes)
$(call tool_if,kalm-search,examples/search/kalm_search.c,$(SEARCH_FLAGS) $(shell pkg-config --cflags jansson),$(SEARCH_LIBS) $(shell pkg-config --libs jansson))
endif
# The server, where SQLite and both of its libraries are.
ifeq ($(SQLITE)$(shell pkg-config --exists libmicrohttpd jansson 2>/dev/null && echo yes),yesyes)
$(call tool_if,kalm-server,examples/server/kalm_server.c,$(shell pkg-config --cflags libmicrohttpd jansson),$(shell pkg-config --libs libmicrohttpd jansson))
endif
$(call tool_if,kalm-eval,examples/eval/kalm_eval.c,$(PACKED_FLAGS),$(PACKED_LIBS))
$(call tool_if,kalm-bench,tests/bench.c,-DBENCH_FLAGS='"$(subst ",,$(strip -std=c99 $(OPT_$(config)) $(CFLAGS)))"')
$(call tool_if,first,examples/first.c)

ifneq ($(LIBRARY),)
$(LIBRARY): $(B)/parts/kalm_rerank.h Makefile
	@echo '  CC  library.o'
	$(Q)$(CC) $(FLAGS) $(filter-out -Wl% -pie,$(HARD)) -D_FILE_OFFSET_BITS=64 $(if $(filter coverage,$(config)),-include tests/hooks.h) $(CFLAGS) $(SHAREABLE) $(OF_LIBRARY) src/kalm_rerank_in.h -o $@
$(B)/parts/kalm_rerank.h: src/kalm_rerank_in.h src/amalgamate.awk src/declare.awk $(PARTS)
	@mkdir -p $(@D)
	$(Q)$(AWK) -v whole=1 -f src/amalgamate.awk $< > $@.whole && $(AWK) -f src/declare.awk $@.whole > $@
endif

all: $(TOOLS:%=$(B)/%)

$(B)/tmp $(B)/tests:
	@mkdir -p $@

# ---- tests. Each is built once: those of PARTS_TESTS on the parts, the others on the generated header, as a user has it.
# (Coverage is counted by parts.)
# (Coverage leaves golden out, which is about values and would take minutes there.)
TESTS := $(basename $(notdir $(wildcard tests/test_*.c $(if $(filter coverage,$(config)),,tests/golden.c) tests/fuzz.c tests/fuzz_tokenizer.c)))
BINARIES := $(TESTS:%=$(B)/tests/%)
# these do not look at what config builds, or bring a library of their own under it
OF_RELEASE := compile faults flags fuzz_record install leaks packages peers python run sqlite
SCRIPTS := $(filter-out $(if $(filter release,$(config)),,$(OF_RELEASE:%=tests/test_%.sh)),$(wildcard tests/test_*.sh))
QUICK := $(addprefix $(B)/tests/,test_api test_online test_ops test_kernels test_attention test_codecs test_tokenizer test_convert)
ON_PARTS := $(if $(filter coverage,$(config)),%,$(PARTS_TESTS))
of_test = -I$(if $(call with_test,$(1)),$(B)/$(if $(filter $(ON_PARTS),$(1)),parts,header),$(if $(filter $(ON_PARTS),$(1)),src/parts,.))
with_test = $(if $(LIBRARY),$(if $(filter $(WHOLE_TESTS),$(1)),,$(if $(filter $(ON_PARTS),$(1)),$(LIBRARY),$(HEADER_O))))
# The library in the tests takes its memory from tests/fence.c, which looks at every block: sanitizers do that in their own way.
ifeq ($(config),release)
FENCE := -include tests/fence.h
FENCE_O := $(B)/tests/fence.o
$(FENCE_O): tests/fence.c tests/fence.h | $(B)/tests
	$(Q)$(CC) $(FLAGS) $(CFLAGS) -c $< -o $@
endif
ifneq ($(HEADER_O),)
# (-ftree-vectorize: plain C, with which the tests compare everything, runs in half the time)
$(HEADER_O): $(B)/header/kalm_rerank.h $(if $(FENCE),tests/fence.h) tests/hooks.h | $(B)/tests
	@echo '  CC  header.o'
	$(Q)$(CC) $(FLAGS) $(if $(filter release,$(config)),-ftree-vectorize) -D_FILE_OFFSET_BITS=64 -DKALM__EVEX_VNNI $(FENCE) -include tests/hooks.h $(CFLAGS) $(OF_LIBRARY) kalm_rerank.h -o $@
$(B)/header/kalm_rerank.h: kalm_rerank.h src/declare.awk
	@mkdir -p $(@D)
	$(Q)$(AWK) -f src/declare.awk $< > $@
endif
# One test with all the optimiser does and says: the right values hold there too, and its warnings, which are other ones, are errors.
$(B)/tests/golden: private OPT_release := -O3 -Werror
# this one changes the library by macros, and needs no speed
$(B)/tests/test_amx: private OPT_release := -O1 -ftree-vectorize
$(B)/tests/test_platform: private OPT_release := -O0 -DKALM_NO_SIMD
.SECONDEXPANSION:
$(B)/tests/%: tests/%.c kalm_rerank.h $$(call with_test,$$*) $(FENCE_O) | $(B)/tests $(B)/tmp
	@echo '  CC  $*'
	$(Q)$(CC) $(FLAGS) $(TEXT_FLAGS) -DTEST_BUILD='"$(B)"' $(FENCE) $(CFLAGS) -MMD -MP -MF $@.d -o $@ $< $(call of_test,$*) $(call with_test,$*) $(FENCE_O) $(LDFLAGS) $(LIBS) $(TEXT_LIBS)
-include $(wildcard $(B)/tests/*.d)

# The slowest first, so that no core waits for one at the end.
RUN := KALM_PATIENCE='$(PATIENCE)' CC='$(CC)' CXX='$(CXX)' AWK='$(AWK)' V='$(V)' LONGEST='test_tiny test_compile golden test_api' sh tests/run.sh $(B) $(JOBS)
built: all $(B)/tiny.kalm $(BINARIES)
quick-built: $(B)/kalm-quantize $(B)/kalm-rerank $(B)/kalm-random-checkpoint $(B)/tiny.kalm $(QUICK)
test:
	@$(MAKE) --no-print-directory $(if $(findstring j,$(firstword $(MAKEFLAGS))),,-j$(JOBS)) built
	@$(RUN) $(BINARIES) $(SCRIPTS)
check-quick:
	@$(MAKE) --no-print-directory $(if $(findstring j,$(firstword $(MAKEFLAGS))),,-j$(JOBS)) quick-built
	@$(RUN) $(QUICK)
quality: $(B)/kalm-eval $(B)/kalm-quantize
	@sh tests/test_tiny.sh $(B) 1,2,4,8,16,32
sanitize:
	$(MAKE) config=sanitize test

$(B)/tiny.kalm: $(B)/kalm-quantize $(wildcard examples/tiny/*.json examples/tiny/model.safetensors)
	$(Q)$(B)/kalm-quantize examples/tiny $@ --quiet
demo: $(B)/kalm-rerank $(B)/tiny.kalm
	@sh examples/demo.sh $(B)
# Models of Nano's shape with random weights, made once; the checkpoint they come from is not kept. BENCH='--quick' and others.
BENCH_MODELS := $(foreach w,q8 q4 f32,$(B)/bench/nano-$(w).kalm)
# A store of a million rows of 4 and of 2 bits: filled, opened, ranked from, damaged on purpose; minutes. ROWS=3000 is in make test.
ROWS ?= 1000000
few-bit-store: $(B)/kalm-index $(B)/kalm-rerank $(B)/tiny.kalm
	@mkdir -p $(B)/tmp
	@python3 tests/few_bit_store.py $(B) $(ROWS) --json $(B)/store.json
# Rates of kalm-index and kalm-search beside kalm_encode, and the time of a question: SEARCH="100000 nano 3" (documents, model, rounds).
search-speed: $(B)/kalm-search $(B)/kalm-index $(B)/tiny.kalm $(B)/kalm-random-checkpoint $(B)/kalm-quantize
	CC='$(CC)' sh tests/search_speed.sh $(B) $(SEARCH)
# The figures of the pages, measured again (docs/speed): SPEED="bench cost load search search_nano store wasm bounds", BENCH=--quick.
SPEED ?= bench
COMMIT = $(shell git describe --always --dirty 2>/dev/null || echo $(VERSION))
speed-figures: $(B)/kalm-bench $(B)/kalm-eval $(B)/bench/made
	@MAKE='$(MAKE)' BENCH='$(BENCH)' sh docs/speed/measure.sh $(B) $(COMMIT) $(SPEED)
LONGEST ?= 2048
bench: $(B)/kalm-bench $(B)/kalm-eval $(B)/tiny.kalm $(B)/bench/made
	$(B)/kalm-bench --tokenizer $(B)/tiny.kalm --json $(B)/bench.json \
	    --commit "$(COMMIT)" $(BENCH) $(BENCH_MODELS)
	$(B)/kalm-eval --cost $(B)/bench/cost $(word 1,$(BENCH_MODELS)) --longest $(LONGEST)
	@CC='$(CC)' AWK='$(AWK)' sh tests/size.sh $(B)
$(B)/bench/made: $(wildcard quantize/*.c quantize/*.h) src/format.h | $(B)/kalm-quantize $(B)/kalm-random-checkpoint
	@mkdir -p $(B)/bench
	$(B)/kalm-random-checkpoint nano $(B)/bench/checkpoint --quiet
	for w in q8 q4 f32; do $(B)/kalm-quantize $(B)/bench/checkpoint $(B)/bench/nano-$$w.kalm --weights $$w --tokenizer none \
	    --yes-id 1000 --no-id 1001 --name 'Nano-shaped, random' --quiet || exit 1; done
	rm -rf $(B)/bench/checkpoint
	@touch $@

VERSION := $(shell sed -n 's/^.define KALM_VERSION_[MP][A-Z]* //p' src/api.h | tr '\n' . | sed 's/.$$//')
quoted = '$(subst ','\'',$(1))'
SONAME := libkalm_rerank.so.$(basename $(VERSION))
install: all shared
	@DESTDIR=$(call quoted,$(DESTDIR)) LIBDIR=$(call quoted,$(LIBDIR)) PYTHONDIR=$(call quoted,$(PYTHONDIR)) \
	    sh packaging/install.sh $(B) $(call quoted,$(PREFIX)) $(filter-out first,$(TOOLS))
shared: $(B)/libkalm_rerank.so
$(B)/libkalm_rerank.so: $(or $(LIBRARY),kalm_rerank.h) | $(B)/tmp
	@echo '  CC  libkalm_rerank.so'
	$(Q)$(CC) $(FLAGS) $(CFLAGS) -shared -fPIC $(SHARED_LINK) $(or $(LIBRARY),-DKALM_RERANK_IMPLEMENTATION -x c kalm_rerank.h) -o $@ $(LDFLAGS) $(LIBS)
# Only where the linker knows names of shared libraries; before 1.0 a minor version may change the interface.
SHARED_LINK = $(if $(filter Linux FreeBSD,$(shell uname -s)),-Wl$(comma)-soname$(comma)$(SONAME))
comma := ,
# The extension for SQLite, see examples/sqlite.
sqlite: $(B)/kalm.so
$(B)/kalm.so: examples/sqlite/kalm_sqlite.c kalm_rerank.h | $(B)/tmp
	@echo '  CC  kalm.so'
	$(Q)$(CC) $(FLAGS) $(CFLAGS) -shared -fPIC $(shell pkg-config --cflags sqlite3) -I. -o $@ $< $(LDFLAGS) $(LIBS)
# The extension for PostgreSQL, see examples/postgres: built by the server's own rules (PGXS), so with the server's flags.
PGXS_MAKE = MAKEFLAGS= $(MAKE) $(if $(V),,-s) -C $(B)/postgres -f $(CURDIR)/examples/postgres/Makefile PG_CONFIG=$(call quoted,$(PG_CONFIG))
PG_CONFIG ?= pg_config
postgres: kalm_rerank.h
	@mkdir -p $(B)/postgres
	$(Q)$(PGXS_MAKE)
postgres-install: postgres
	$(Q)$(PGXS_MAKE) install DESTDIR=$(call quoted,$(DESTDIR))
# Starts a server of its own; needs PostgreSQL 15 or newer and its headers (Debian: postgresql, postgresql-server-dev-all).
postgres-test: postgres $(B)/tiny.kalm $(B)/kalm-rerank
	@sh tests/postgres.sh $(B)
# The recipes of docs/SCALING.md, small: they need python3-distributed, PostgreSQL as above, nginx.
scaling: shared postgres $(B)/tiny.kalm $(B)/kalm-server
	@for recipe in dask postgres nginx; do echo "$$recipe:"; sh examples/scaling/$$recipe.sh $(B) || exit 1; done
# The manual pages are kept, so that an install runs nothing: it may be for another machine.
man: all
	@sh packaging/man.sh $(B) $(filter-out first,$(TOOLS))
targets: $(B)/kalm-rerank $(B)/kalm-quantize
	@CC='$(CC)' sh tests/targets.sh $(B)
dist: header
	@VERSION='$(VERSION)' sh packaging/dist.sh
# fuzzing, injected faults, soak, static analysis, coverage
include tests/nets.mk
# for editors, of the parts and programs and not of the generated header
tags: $(PARTS) $(wildcard examples/*.c examples/*/*.[ch] quantize/*.c tokenizer/*.c tests/*.[ch])
	@command -v ctags > /dev/null || { echo 'make tags needs ctags (Debian: universal-ctags)'; exit 1; }
	ctags -f $@ $^

clean:
	rm -rf build tags
