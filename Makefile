# SPDX-License-Identifier: MIT
# Everything that people and CI run. Each target sets up what it needs: on a fresh Debian with gcc and make, `make serve`
# is the first command. `make help` lists the targets.

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

DIR ?= .
LISTEN ?= 127.0.0.1:8080
FUZZ_SECONDS ?= 60
SOAK_REQUESTS ?= 1000000
PYTEST_ARGS ?=
BENCH_ARGS ?=
PYTHON ?=
export PYTHON

HERE := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
ifneq ($(CURDIR),$(HERE))

# Called with -f from elsewhere: do it there. DIR stays relative to the caller.
ALL := $(or $(MAKECMDGOALS),help)
$(firstword $(ALL)):
	@$(MAKE) -C $(HERE) $(ALL) DIR='$(abspath $(DIR))'
ifneq ($(wordlist 2,99,$(ALL)),)
$(wordlist 2,99,$(ALL)): $(firstword $(ALL)) ; @:
endif

else

VENV := .venv
BIN := $(VENV)/bin
export PATH := $(HERE)/$(BIN):$(PATH)
PIP := $(BIN)/python -m pip --quiet install
SOURCES := $(shell find src meson.build meson.options pyproject.toml -type f \
	-not -name '*.pyc' -not -path '*/.*' 2>/dev/null)

## serve: serve DIR (default: this folder) on LISTEN (default: 127.0.0.1:8080)
.PHONY: serve
serve: $(VENV)/.installed
	@exec $(BIN)/tux serve '$(DIR)' --listen '$(LISTEN)'

## build: the virtual environment in .venv with the package, as users get it
.PHONY: build
build: $(VENV)/.installed

## test: the whole test suite (PYTEST_ARGS='-k word -x' for a part)
.PHONY: test
test: $(VENV)/.installed $(VENV)/.test $(VENV)/.fuzz
	@tools/setup.sh clang
	@tools/setup.sh lists
	$(BIN)/python -m pytest $(PYTEST_ARGS)

## soak: random traffic through the kernel tier, SOAK_REQUESTS of it (TUX_SEED=N repeats a run)
.PHONY: soak
soak: $(VENV)/.installed $(VENV)/.test
	TUX_SEED=$${TUX_SEED:-$$RANDOM} TUX_SOAK_REQUESTS=$(SOAK_REQUESTS) EXPECT_FEATURES=kernel \
		$(BIN)/python -m pytest tests/kernel/test_traffic.py -k test_soak $(PYTEST_ARGS)

## lint: ruff, mypy, cython-lint, C warnings as errors, the repository's rules
.PHONY: lint
lint: $(VENV)/.build $(VENV)/.test $(VENV)/.lint
	@tools/setup.sh clang
	$(BIN)/python -m tools.lint

## format: rewrite the Python sources as lint wants them
.PHONY: format
format: $(VENV)/.lint
	$(BIN)/ruff check --fix --quiet; $(BIN)/ruff format

## docs: write the generated parts of docs/reference anew
.PHONY: docs
docs: $(VENV)/.installed
	$(BIN)/python -m tux.config.reference >docs/reference/configuration.md
	$(BIN)/python -m tux.cli.reference >docs/reference/command-line.md

## bench: measure against nginx, lighttpd, h2o and the floor (BENCH_ARGS for a part)
.PHONY: bench
bench: $(VENV)/.installed $(VENV)/.test $(VENV)/.bench
	@tools/setup.sh lists
	$(BIN)/python -m bench $(BENCH_ARGS)

## sanitize: the C tests under ASan+UBSan and under TSan, the extension under ASan
.PHONY: sanitize
sanitize: $(VENV)/.installed $(VENV)/.test
	$(BIN)/python -m tools.sanitize

## fuzz: every fuzz target for FUZZ_SECONDS (default: 60)
.PHONY: fuzz
fuzz: $(VENV)/.installed $(VENV)/.test $(VENV)/.fuzz
	@tools/setup.sh clang
	$(BIN)/python -m tools.fuzz --seconds $(FUZZ_SECONDS)

## dist: sdist and wheel in dist/, checked
.PHONY: dist
dist: $(VENV)/.installed $(VENV)/.test
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	TUX_DIST=dist $(BIN)/python -m pytest tests/test_dist.py

## clean: remove what was built (.venv too; .cache with the unpacked peers stays)
.PHONY: clean
clean:
	rm -rf .venv build dist .cache/build-* .cache/mypy .cache/pytest .cache/ruff

## help: this list
.PHONY: help
help:
	@sed -n 's/^## //p' $(HERE)/Makefile

# ---- The environment. Each stamp is newer than what it was made from.

# Each group is installed by itself, so that `make serve` does not wait for the tests' tools.
define pip-group
	@$(PIP) -r <($(BIN)/python tools/requirements.py $(1))
	@touch $@
endef

$(VENV)/.created: tools/setup.sh
	@tools/setup.sh venv
	@touch $@

$(VENV)/.build: $(VENV)/.created pyproject.toml
	$(call pip-group,build run)

$(VENV)/.test: $(VENV)/.created pyproject.toml
	$(call pip-group,test)

$(VENV)/.bench: $(VENV)/.created pyproject.toml
	$(call pip-group,bench)

$(VENV)/.lint: $(VENV)/.created pyproject.toml
	$(call pip-group,lint)

$(VENV)/.fuzz: $(VENV)/.created pyproject.toml
	$(call pip-group,fuzz)

# Once: a machine that cannot have it is not asked each time.
$(VENV)/.bpf: $(VENV)/.created
	@tools/setup.sh bpf
	@touch $@

# Not an editable install: what is tested is what users get. The lock is for two makes at once.
$(VENV)/.installed: $(VENV)/.build $(VENV)/.bpf $(SOURCES)
	@flock $(VENV) $(PIP) --no-deps --no-build-isolation --force-reinstall --config-settings=build-dir=build/py .
	@touch $@

endif
