# The habits of this repository. `make` lists them.
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help build test full asan tsan fuzz bench lint format cross wheel docs ci

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## editable install with the tools of development; C is compiled again by `make build`
	$(PYTHON) -m pip install --editable ".[dev]" --config-settings=cmake.define.PYQWEN_TEST_EXTENSION=ON

test: ## the base tier of the test suite, on the installed package
	$(PYTHON) -m pytest

full: ## also the second tier, which needs trained models, other packages or minutes (CONTRIBUTING.md)
	PYQWEN_TEST_FULL=1 $(PYTHON) -m pytest -m ""

asan: ## C tests and the tests that feed C under the address and undefined-behavior sanitizers
	.ci/sanitize address,undefined

tsan: ## C tests under the thread sanitizer
	.ci/sanitize thread

fuzz: ## each fuzz target for a minute (clang); FUZZ_SECONDS=n for another time
	.ci/fuzz

wheel: ## build and repair a wheel in dist/, and run the README's example without a compiler
	.ci/wheel

docs: ## build the documentation strictly into build/site; pip install ".[docs]" first
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

bench: ## tokens per second and memory bandwidth of this machine, with the default model
	$(PYTHON) -m pyqwen bench

lint: ## ruff, mypy on the installed package, clang-format
	.ci/lint

format: ## rewrite Python and C in the house style
	ruff check --fix .
	ruff format .
	git ls-files '*.c' '*.h' | xargs clang-format -i

cross: ## compile the core for Windows and 64-bit Arm; run its C tests under qemu
	tests/cross_compile.sh

ci: ## all that must be green before a merge, from a new environment
	.ci/run
