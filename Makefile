# make demo and make test set everything up by themselves.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help demo test test-all check format bench clean

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	@touch $@

demo: $(INSTALLED)  ## Set up, then train the small world's models and show the table and the page.
	$(BIN)/steerclear demo

# As many workers as cores, and one thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal

test: $(INSTALLED)  ## Set up, then run the tests but for the slow ones.
	$(PYTEST) -m 'not slow'

test-all: $(INSTALLED)  ## Run all tests: before a release, and after a change of launching, ranks, workers or benchmarks.
	$(PYTEST)

check: $(INSTALLED)  ## Lint, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## Apply the formatter and the safe fixes of the linter.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The rows in the page come from a model and files of one's own: make bench STEP="--model M --benign B --unsafe U" GENERATE="--model M --prompts P"
bench: $(INSTALLED)  ## Run the benchmarks (half an hour), print their tables, and keep their rows in benchmarks/results.
	$(BIN)/python benchmarks/bench_losses.py
	$(BIN)/python benchmarks/bench_step.py $(STEP)
	$(BIN)/python benchmarks/bench_generate.py $(GENERATE)
	$(BIN)/python benchmarks/bench_report.py
	$(BIN)/python benchmarks/page.py

clean:  ## Remove the environment, caches and outputs.
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis runs demo-out
