# make demo · make test · make test-all · make lint · make docs-knobs · make figures; each sets everything up by itself.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all lint docs-knobs figures clean

demo: $(READY)
	$(BIN)/python src/run.py -m rsc=true,false ratio=0.3,0.5,0.7

# Compiled once, not in each of the many processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE

# Two processes of two threads each would wait for one another on two cores.
test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder

# File by file; RESUME=1 goes on after a break, and repeats what failed.
test-all: $(READY)
	$(BIN)/python tests/slow.py $(if $(RESUME),--resume)

lint: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

docs-knobs: $(READY)
	$(BIN)/python sweeps/search_ratios.py --help markdown > docs/knobs.md

figures: $(READY)
	$(BIN)/python analysis/figures.py $(or $(RUNS),runs)
	$(BIN)/python analysis/report.py $(or $(RUNS),runs)

# torch goes first and pinned, so that nothing else decides which build arrives.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,launchers,report,dashboard,search,deploy]"
	touch $@

clean:
	rm -rf $(VENV) runs store .pytest_cache .mypy_cache .ruff_cache .hypothesis
