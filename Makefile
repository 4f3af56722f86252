# make demo   the whole job on handwritten digits, with pictures in demo-output/
# make s-curve  three straight lines and a gate against one line: a picture, and a check that exits 1
# make gallery  docs/GALLERY.md and its pictures anew: every kind, minutes
# make test   formatting, lint, types, import rules and all tests, as CI runs them
# Nothing needs to be done first: each target makes .venv when it is missing or out of date.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo s-curve gallery sensor soak web c-host test lint bench device platforms wheel clean

help:
	@sed -n 's/^# make/make/p' Makefile

# The pins of constraints.txt were made on Python 3.11; another Python takes what fits it.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "expected python3.11 or python3, got neither; run: apt-get install python3 python3-venv" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "expected Python 3.10 or newer, got $$($(PYTHON) --version); run: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "expected the venv module of $(PYTHON), got none; run: apt-get install python3-venv" >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	pins=$$($(BIN)/python -c 'import sys; print("-c constraints.txt" if sys.version_info[:2] == (3, 11) else "")'); \
		$(BIN)/python -m pip install --quiet $$pins -e '.[desktop,dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/moe-edge demo

s-curve: $(STAMP)
	$(BIN)/python demos/s_curve/run.py

gallery: $(STAMP)
	$(BIN)/python demos/gallery/run.py --page docs/GALLERY.md

test: lint
	$(BIN)/pytest

# make lint   formatting, lint, types, import rules
lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# make sensor a motion sensor replayed in the terminal: labels, experts, and an alarm when it is turned
sensor: $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[demos]'
	$(BIN)/python demos/raspberry_pi/run.py --speed 20 --windows 600 --turn z90 --turn-after 300

# make soak   a day of that sensor in minutes: gaps, a full disk, a restart, turns; exits 1 on a broken promise
soak: $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[demos]'
	$(BIN)/python demos/raspberry_pi/soak.py

# make bench  the benchmarks, into benchmarks/RESULTS.md
bench: $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	for script in file_sizes startup speed forest; do $(BIN)/python benchmarks/$$script.py; done

# make device the table of docs/RASPBERRY_PI.md, on emulated boards
device: $(STAMP)
	$(BIN)/python benchmarks/device.py

# make platforms  the table of docs/PLATFORMS.md: the same rows on every processor, runtime and language
platforms: $(STAMP)
	$(BIN)/python benchmarks/platforms.py

# make c-host  the host in C (demos/c) beside Python on a small mixture: the same bits, and times
c-host: $(STAMP)
	$(BIN)/python demos/c/compare.py

# make web    the same files in a web page: builds it, serves it, prints its address (node and npm needed)
web: $(STAMP)
	$(BIN)/python demos/web/build.py --serve

# make wheel  the wheel, in dist/
wheel: $(STAMP)
	$(BIN)/python -m build --wheel --outdir dist .

# make clean  remove what make made, .venv included
clean:
	rm -rf $(VENV) .device .cross demos/c/build demos/web/dist demos/web/node_modules build dist demo-output .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
