# make demo · make test · make test-long · make test-all · make lint · make docs · make docs-knobs · make figures; each sets everything up by itself.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-long test-all lint docs docs-knobs figures clean

demo: $(READY)
	$(BIN)/python src/run.py -m rsc=true,false ratio=0.3,0.5,0.7

# Compiled once, not in each of the many processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE

# Two processes of two threads each would wait for one another on two cores. A test that stands still ends its process
# after five minutes, and is named with where it stood; the run goes on.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 1 \
	--override-ini faulthandler_timeout=300 --override-ini faulthandler_exit_on_timeout=true

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2
	$(PYTEST) -m "not slow and not long"

# Whole jobs, kills, engines, browsers. CI runs both.
test-long: $(READY)
	$(PYTEST) -m "long and not slow"

# File by file; RESUME=1 goes on after a break, and repeats what failed.
test-all: $(READY)
	$(BIN)/python tests/slow.py $(if $(RESUME),--resume)

lint: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

# The site, into site/: open site/index.html.
docs: $(READY)
	$(BIN)/python docs/drawings/draw.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

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
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,launchers,report,dashboard,tensorboard,search,deploy,cloud,page,docs]"
	touch $@

clean:
	rm -rf $(VENV) runs store site .pytest_cache .mypy_cache .ruff_cache .hypothesis
