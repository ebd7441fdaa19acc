# SPDX-License-Identifier: BSD-2-Clause
#
# The two commands, and the rest: a thin front over meson.
#
#	make demo	install what is needed, build, run the main job on real parts
#	make check	install, build, run all tests
#
# `make help` lists the others.

BUILD := build
# Without the jobs of a make that runs it: what tests make is made by itself.
PYTEST := env -u MAKEFLAGS -u MFLAGS /usr/bin/python3 -m pytest -c tests/pytest.ini --rootdir=. -p no:cacheprovider
GUEST_TESTS := tests/guest tests/interop tests/front
BALLOON_TESTS := tests/balloon tests/kmod
VDPA_TESTS := tests/vdpa
FUZZ_SECONDS := 60
FUZZ_LEISURE_SECONDS := 3600
BENCH_ROUNDS := 5

.PHONY: help all deps build demo check check-code check-machines check-unit check-sanitizers check-threads \
	check-valgrind check-proof check-fuzz check-guests check-balloon check-vdpa check-docs fuzz proof-long soak \
	bench-ring bench-shadow bench-returns bench-balloon draw-balloon install format clean

all: build

help:
	@echo 'make demo             install what is needed, build, switch the shadow of a live guest,'
	@echo '                      take memory from a guest and give it back'
	@echo 'make check            install, build, run all tests, in two halves side by side'
	@echo 'make build            build into $(BUILD)/'
	@echo 'make check-unit       unit, model, race and program tests'
	@echo 'make check-sanitizers the same under clang, AddressSanitizer and UBSan'
	@echo 'make check-threads    the race tests under ThreadSanitizer'
	@echo 'make check-valgrind   the unit tests under valgrind'
	@echo 'make check-proof      the models in proof/, every execution within bounds'
	@echo 'make check-fuzz       each fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo 'make check-guests     tests with real guests and back-ends'
	@echo 'make check-balloon    the balloon and the guest driver in kmod/, in real guests'
	@echo 'make check-vdpa       the shadow before real vDPA devices, in an emulated guest'
	@echo 'make fuzz             each fuzz target for FUZZ_LEISURE_SECONDS=$(FUZZ_LEISURE_SECONDS)'
	@echo 'make proof-long       the models with wider bounds (up to 8 GiB)'
	@echo 'make soak             the storms of docs/reliability.md, some hundreds of rounds each (an hour)'
	@echo 'make bench-ring       ring benchmark into $(BUILD)/bench/ring.jsonl'
	@echo 'make bench-shadow     disk benchmark into $(BUILD)/bench/shadow.jsonl'
	@echo 'make bench-returns    how long a guest waits for a back-end that returns'
	@echo 'make bench-balloon    balloon benchmark into $(BUILD)/bench/balloon.jsonl (15 to 25 minutes)'
	@echo 'make draw-balloon     take these figures over into docs/, and draw them'
	@echo 'make install          install the program, the library and the manual (DESTDIR, PREFIX)'

deps:
	@scripts/install-deps

# --- building -----------------------------------------------------------------

# $(call configure,FOLDER,ENVIRONMENT,OPTIONS)
configure = test -f $(1)/build.ninja || $(2) meson setup $(1) --werror $(3)

build: deps
	@$(call configure,$(BUILD),CC=gcc,$(if $(PREFIX),--prefix=$(PREFIX)))
	@ninja -C $(BUILD) --quiet

build-asan: deps
	@$(call configure,$@,CC=clang,-Db_sanitize=address$(comma)undefined -Db_lundef=false)
	@ninja -C $@ --quiet

build-tsan: deps
	@$(call configure,$@,CC=clang,-Db_sanitize=thread -Db_lundef=false)
	@ninja -C $@ --quiet

build-fuzz: deps
	@$(call configure,$@,CC=clang,-Dfuzz=true -Dtests=false -Db_sanitize=address$(comma)undefined -Db_lundef=false)
	@ninja -C $@ --quiet

.PHONY: build-asan build-tsan build-fuzz
comma := ,

install: build
	meson install -C $(BUILD)

# --- running ------------------------------------------------------------------

demo: build
	/usr/bin/python3 demo/shadow.py
	@echo
	/usr/bin/python3 demo/balloon.py

# Two halves side by side: an emulated guest keeps one processor busy, and who waits
# for a guest keeps none.  What the second half says comes when it ends.
check: build
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line check-code check-machines
	@echo 'make check: everything passed'

# One after the other, whatever the number of jobs.
check-code:
	@set -e; for check in unit docs proof sanitizers threads valgrind fuzz; do \
		$(MAKE) --no-print-directory check-$$check; \
	done

# Not built here: neither half may be built under the other.
check-machines:
	@echo 'tests with guests: begun'
	$(PYTEST) $(GUEST_TESTS) $(BALLOON_TESTS) $(VDPA_TESTS)

check-unit: build
	meson test -C $(BUILD) --print-errorlogs

check-sanitizers: build-asan
	ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		meson test -C build-asan --print-errorlogs --no-suite race
	UMBRA_BUILD=build-asan $(PYTEST) tests/guest -k 'long-chains or killed_guest'
	ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		UMBRA_BUILD=build-asan $(PYTEST) tests/balloon/test_device_memory.py

check-threads: build-tsan
	TSAN_OPTIONS=halt_on_error=1 meson test -C build-tsan --print-errorlogs --suite race
	TSAN_OPTIONS=halt_on_error=1 UMBRA_BUILD=build-tsan $(PYTEST) tests/guest -k many-small
	TSAN_OPTIONS=halt_on_error=1 UMBRA_BUILD=build-tsan $(PYTEST) tests/balloon/test_device_memory.py

check-valgrind: build
	meson test -C $(BUILD) --print-errorlogs --suite unit --timeout-multiplier 100 \
		--wrap='valgrind --quiet --error-exitcode=99 --leak-check=full --track-fds=no'

check-docs: build
	clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h' ':!kmod')
	scripts/check-house --build=$(BUILD)
	$(PYTEST) -q tests/house tests/cli/test_manual.py
	$(PYTEST) -qq --collect-only $(GUEST_TESTS) $(BALLOON_TESTS) $(VDPA_TESTS) >/dev/null

check-proof: deps
	scripts/check-proof $(BUILD)/proof

proof-long: deps
	scripts/check-proof --long $(BUILD)/proof-long

check-fuzz: build-fuzz
	scripts/fuzz build-fuzz $(FUZZ_SECONDS)

fuzz: build-fuzz
	scripts/fuzz build-fuzz $(FUZZ_LEISURE_SECONDS)

# What each storm did is a line of $(BUILD)/soak.jsonl, once it has held to its end.
soak: build
	@rm -f $(BUILD)/soak.jsonl
	UMBRA_SOAK=$(abspath $(BUILD))/soak.jsonl $(PYTEST) tests/guest/test_storms.py
	@cat $(BUILD)/soak.jsonl

check-guests: build
	$(PYTEST) $(GUEST_TESTS)

# Fetches kernels and their sources from Debian's mirror the first time.
check-balloon: build
	$(PYTEST) $(BALLOON_TESTS)

check-vdpa: build
	$(PYTEST) $(VDPA_TESTS)

bench-ring: build
	@mkdir -p $(BUILD)/bench
	/usr/bin/python3 bench/ring.py --rounds=$(BENCH_ROUNDS) --output=$(BUILD)/bench/ring.jsonl

bench-shadow: build
	@mkdir -p $(BUILD)/bench
	/usr/bin/python3 bench/shadow.py --rounds=$(BENCH_ROUNDS) --output=$(BUILD)/bench/shadow.jsonl

bench-returns: build
	@mkdir -p $(BUILD)/bench
	/usr/bin/python3 bench/returns.py --output=$(BUILD)/bench/returns.jsonl

bench-balloon: build
	@mkdir -p $(BUILD)/bench
	/usr/bin/python3 bench/balloon.py --rounds=$(BENCH_ROUNDS) --output=$(BUILD)/bench/balloon.jsonl

# What docs/performance.md shows.
draw-balloon:
	cp $(BUILD)/bench/balloon.jsonl docs/balloon.jsonl
	/usr/bin/python3 bench/draw.py docs/balloon.jsonl --output=docs/balloon.svg

format:
	clang-format -i $$(git ls-files '*.c' '*.h' ':!kmod')

clean:
	rm -rf $(BUILD) build-asan build-tsan build-fuzz
