# Every target works from a bare clone: what it needs is installed into .venv first, once.
#
# Variables you may set on the command line:  PYTHON=python3.12   HOST=0.0.0.0   PORT=9000   MODEL=path/to/model   ARGS='-k stream'
#                         TORCH_INDEX=https://download.pytorch.org/whl/cpu   (where pip takes torch from)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# Not ?=: shells and build machines export HOST and PORT for purposes of their own.
HOST = 127.0.0.1
PORT = 8000
MODEL =
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:cacheprovider -n auto --maxprocesses 4 --dist loadfile

.PHONY: help serve chat agent system-deps train-nano test test-all parity clients check format docs

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

serve: $(VENV)/.core ## install if needed, then serve the shipped model on 127.0.0.1:8000
	@exec $(BIN)/openk2 serve $(if $(MODEL),--model $(MODEL)) --host $(HOST) --port $(PORT)

chat: $(VENV)/.core ## talk to the shipped model in the terminal
	@exec $(BIN)/openk2 chat $(if $(MODEL),--model $(MODEL))

agent: export GOAL := $(GOAL)
agent: $(VENV)/.agent ## hand a task to an agent: make agent GOAL='…' (see openk2 agent --help)
	@exec $(BIN)/openk2 agent $${GOAL:+"$$GOAL"}

# What pip cannot bring. Each that is missing switches off only what needs it.
SYSTEM_PACKAGES = bubblewrap libseccomp2 util-linux chromium texlive-latex-base texlive-latex-recommended
SYSTEM_PROGRAMS = bwrap chromium pdflatex
system-deps: ## the Debian packages that the agent uses: sandbox, browser, LaTeX
	@missing=""; for program in $(SYSTEM_PROGRAMS); do command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
		echo "missing:$$missing; install $(SYSTEM_PACKAGES) with this system's package manager" >&2; exit 1; \
	fi; \
	sudo=""; if [ "$$(id -u)" != 0 ]; then sudo="sudo"; fi; \
	echo "installing $(SYSTEM_PACKAGES)"; \
	$$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $(SYSTEM_PACKAGES) >/dev/null

train-nano: $(VENV)/.dev ## train the shipped model again from the data in this repository
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec bash runs/nano.sh

test: $(VENV)/.dev ## the fast tests
	@$(PYTEST) $(ARGS)

test-all: $(VENV)/.dev $(VENV)/.peers $(VENV)/.clients ## the slow tests too, and the GPU tests where there is a GPU
	@$(PYTEST) -m '' $(ARGS)

parity: $(VENV)/.peers ## compare with every peer, and write docs/reference/parity.md from what passed
	@$(BIN)/python -m pytest -p no:cacheprovider -m parity --update-parity tests

clients: $(VENV)/.clients ## the coding agents and SDKs that the slow tests point at a server

check: $(VENV)/.dev ## formatting, lint, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright

format: $(VENV)/.dev ## format, and fix what lint can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.dev ## write the generated pages of docs/reference again
	@$(BIN)/python -m docs.reference.generate

# torch goes first and alone, so that pip takes one known build of it and nothing else decides.
$(VENV)/.core: pyproject.toml constraints.txt
	@$(find_python); \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "creating $(VENV) with $$python"; "$$python" -m venv $(VENV); \
	fi
	@echo "installing torch (once; can take minutes)"
	@$(PIP) install -c constraints.txt torch $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	@echo "installing openk2"
	@$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.agent: $(VENV)/.core
	@echo "installing the agent's tools"
	@$(PIP) install --quiet -c constraints.txt -e '.[agent]'
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "installing the training and development tools"
	@$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

# llama.cpp, for the tests that compare with it. They are skipped without, so this may fail.
$(VENV)/.peers: $(VENV)/.dev
	@if ! command -v cmake >/dev/null || ! command -v $${CXX:-c++} >/dev/null; then \
		echo "no C++ compiler or no cmake: the tests with llama.cpp are skipped" >&2; \
	else \
		echo "building llama.cpp for its tests (once; takes minutes)"; \
		if $(PIP) install --quiet -c constraints.txt -e '.[peers]'; then touch $@; \
		else echo "llama.cpp could not be built: its tests are skipped" >&2; fi; \
	fi

# Claude Code, Codex and the AI SDK, for the tests that run them; 700 MB. Skipped without Node.
# Their install scripts are not run: the packages hold finished programs.
$(VENV)/.clients: tests/clients/package.json $(VENV)/.dev
	@if ! command -v npm >/dev/null; then \
		echo "no npm: the tests with Node clients are skipped" >&2; \
	else \
		echo "installing the clients under test (once; takes a minute)"; \
		mkdir -p $(VENV)/clients && cp $< $(VENV)/clients/; \
		if npm install --prefix $(VENV)/clients --no-audit --no-fund --ignore-scripts --silent; then touch $@; \
		else echo "the clients could not be installed: their tests are skipped" >&2; fi; \
	fi

# A python3.x on the PATH may be a shim that does not run, so each candidate is asked for its version.
define find_python
python=""; for candidate in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; \
	then python="$$candidate"; break; fi; \
done; \
if [ -z "$$python" ]; then \
	echo "openk2 needs Python 3.11 to 3.14 and found none; install one or name it: make PYTHON=/path/to/python3" >&2; \
	exit 1; \
fi
endef
