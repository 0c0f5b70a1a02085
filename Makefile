# Everything a newcomer or CI types. `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The locks are for Python 3.11; another one can be named: make demo PYTHON=/path/to/python3.11
PYTHON ?= $(shell for name in python3.11 python3 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo "$$name" && break; done)
# Asked only when the ordinary index lacks torch's CPU wheel. Empty: never asked.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
UV ?= uv

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
LOCKS := infra/locks
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
# PyPI's torch for Linux brings CUDA; the local version +cpu names the build without. macOS has one build only.
TORCH := $(shell sed -n 's/^torch==/torch==/p' $(LOCKS)/cpu.txt)$(if $(filter Linux,$(shell uname -s)),+cpu)

# Tests wait more than they compute: two files at a time, each in one process to its end, the longest first.
SPREAD := -n 2 --dist loadfile --no-loadscope-reorder

# The models come inside packages; Ray on this machine answers only to its own driver.
export HF_HUB_OFFLINE := 1
export RAY_USAGE_STATS_ENABLED := 0
export TOKENIZERS_PARALLELISM := false

.PHONY: help
help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  %-12s %s\n' "$$name" "$$text"; done

.PHONY: install
install: $(STAMPS)/cpu $(STAMPS)/project ## Put the locked CPU set into .venv

.PHONY: demo
demo: install ## From nothing to a dataset, a student and a report, without a GPU
	@$(BIN)/nightshift run jobs/recipes/demo.yaml

.PHONY: format
format: $(STAMPS)/dev ## Rewrite the code in the house's format
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

.PHONY: check
check: static ## Format, lint, types, import contracts and unit tests: the fast half of test
	$(BIN)/pytest tests/unit --quiet $(SPREAD)

.PHONY: test
test: static $(STAMPS)/vllm $(STAMPS)/browser ## All of check, and every test that needs no GPU
	$(BIN)/pytest tests -m "not gpu" --durations 40 $(SPREAD)

.PHONY: static
static: install $(STAMPS)/dev $(STAMPS)/deepspeed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: lock
lock: ## Rewrite the locks from pyproject.toml (needs uv)
	UV="$(UV)" TORCH_INDEX="$(TORCH_INDEX)" $(LOCKS)/lock.sh

.PHONY: lock-check
lock-check: install $(STAMPS)/dev ## Do locks, pyproject.toml and what is installed agree?
	$(BIN)/pytest tests/unit/house/test_locks.py --quiet

.PHONY: clean
clean: ## Remove caches; .venv and runs stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(STAMPS)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 was not found; name it: make install PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "$(PYTHON) is not Python 3.11, which the locks are for; name one: make install PYTHON=..." >&2; exit 2; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment (Debian: apt install python3.11-venv)" >&2; exit 2; }
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/torch: $(LOCKS)/cpu.txt | $(STAMPS)/python
	@echo "Installing $(TORCH)"
	@$(PIP) install --no-deps "$(TORCH)" 2>$(STAMPS)/torch.log && touch $@ && exit 0; \
	grep -q "No matching distribution" $(STAMPS)/torch.log || { cat $(STAMPS)/torch.log >&2; exit 1; }; \
	test -n "$(TORCH_INDEX)" \
		|| { echo "$(TORCH) is not on the package index; set TORCH_INDEX to an index that has it" >&2; exit 2; }; \
	echo "Not on the package index; asking $(TORCH_INDEX)"; \
	$(PIP) install --no-deps --index-url "$(TORCH_INDEX)" "$(TORCH)" && touch $@ && exit 0; \
	echo "$(TORCH) could not be had; set TORCH_INDEX to an index that has it" >&2; exit 2

$(STAMPS)/cpu: $(LOCKS)/cpu.txt $(STAMPS)/torch
	@echo "Installing $(LOCKS)/cpu.txt (some minutes, once)"
	@$(PIP) install --no-deps -r $(LOCKS)/cpu.txt
	@! ls $(VENV)/lib/python3.11/site-packages 2>/dev/null | grep '^nvidia_.*dist-info$$' \
		|| { echo "these CUDA packages arrived, which the CPU set must not have; remove $(VENV) and try again" >&2; exit 1; }
	@$(BIN)/python -c 'import sys, torch; sys.exit(torch.version.cuda is not None)' \
		|| { echo "torch does not load, or is a CUDA build; remove $(VENV) and try again" >&2; exit 1; }
	@touch $@

$(STAMPS)/project: pyproject.toml $(STAMPS)/cpu
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/vllm $(STAMPS)/dev: $(STAMPS)/%: $(LOCKS)/cpu-%.txt $(STAMPS)/cpu
	@echo "Installing $<"
	@$(PIP) install --no-deps -r $<
	@touch $@

# Pages are tested in a browser where there is one, or one can be had from Debian; else those tests are skipped.
$(STAMPS)/browser: | $(STAMPS)/python
	@command -v chromium chromium-browser google-chrome >/dev/null && touch $@ && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing chromium (Debian)"; \
		{ apt-get install -y -qq chromium || { apt-get update -qq && apt-get install -y -qq chromium; }; } >/dev/null 2>&1 \
			|| echo "chromium could not be had: the pages are not tested in a browser" >&2; \
	else echo "no chromium here: the pages are not tested in a browser" >&2; fi; touch $@

# DeepSpeed comes as source and looks for torch when it is built; what it compiles, it compiles when it is used.
$(STAMPS)/deepspeed: $(LOCKS)/cpu-deepspeed.txt $(STAMPS)/cpu
	@echo "Installing $<"
	@DS_BUILD_OPS=0 DS_ACCELERATOR=cpu $(PIP) install --no-deps --no-build-isolation -r $<
	@touch $@
