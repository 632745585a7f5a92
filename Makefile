# One word per chore. `make serve` and `make test` set everything up; they need only Python 3.11+ and make.
PY ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
PORT ?= 8000
JOBS ?= 2
DATA ?= ../shared/data
# TORCH=cpu installs the CPU-only builds of torch and torchvision (0.3 GB instead of 5.4 GB with CUDA); see CONTRIBUTING.md.
TORCH ?= default
TORCH_BACKEND := $(if $(filter-out default,$(TORCH)),--torch-backend=$(TORCH))

# Containers often set it. Each of the 40 processes of the suite that import torch would then compile 2,800 modules again:
# 7 s of processor time instead of 3 for each, and 26 s instead of 11 to collect the tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install serve test quick test-avx2 check format options bench scale gpu zoo samples soak mutants docs help

help:  ## show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

install: $(STAMP)  ## create .venv with everything (TORCH=cpu for CPU-only builds)

$(STAMP): pyproject.toml constraints.txt
	@$(PY) -c 'import sys; sys.exit("found Python %s, expected 3.11 or later. Fix: make PY=python3.12 ..." % sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	@test -x $(BIN)/python || $(PY) -m venv $(VENV) || { echo "python3 -m venv failed. Fix on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing into $(VENV) (torch is large: this takes up to a minute with a fast network, and no time the next time) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check "uv>=0.9" || echo "uv is unavailable; using pip instead"
	@if test -x $(BIN)/uv; then VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install -q $(TORCH_BACKEND) -c constraints.txt -e ".[dev]"; \
	 else $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"; fi
	@touch $@

serve: $(STAMP)  ## serve the shipped adapters at http://127.0.0.1:8000 (PORT=...)
	@exec $(BIN)/lensmount serve --port $(PORT)

test: $(STAMP)  ## run the complete test suite, in JOBS=2 processes of one thread each; fresh ones for each half, for 5 GB
	@failed=0; for half in "tests/adapters" "tests --ignore tests/adapters"; do \
	  OMP_NUM_THREADS=1 MALLOC_ARENA_MAX=2 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $$half || failed=1; \
	done; exit $$failed

quick: $(STAMP)  ## run the fast tests in two processes: no browser, no PostgreSQL, no network
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not soak and not gpu and not browser and not postgresql"

test-avx2: $(STAMP)  ## run the same suite with AVX2 only: no AVX-512, AMX or bfloat16
	OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

check: $(STAMP)  ## check formatting, lint and types; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

options: $(STAMP)  ## write the client's copies: options, and which files are data
	$(BIN)/python -m lensmount_adapters.options.copies

bench: $(STAMP)  ## measure every serving figure into benchmarks/results.json (about 20 minutes)
	@$(BIN)/python -c "import litserve" 2>/dev/null || $(BIN)/uv pip install -q -c constraints.txt -e ".[dev,bench]" || true
	$(BIN)/python benchmarks/engine.py --results
	$(BIN)/python benchmarks/serving.py --results
	$(BIN)/python benchmarks/memory.py --results
	$(BIN)/python benchmarks/start.py --results
	$(BIN)/python benchmarks/swap.py
	$(BIN)/python benchmarks/drift.py
	$(BIN)/python benchmarks/shared/results.py

scale: $(STAMP)  ## simulate 1,000 servers and 1,000,000 adapters in JOBS=2 processes, and write docs/scaling.md (about 30 minutes)
	$(BIN)/python -m benchmarks.scale.study --jobs $(JOBS)
	$(BIN)/python -m benchmarks.scale.plots
	$(BIN)/python -m benchmarks.scale.tables

gpu:  ## one table of every figure that needs a CUDA GPU, in under 10 minutes (OUT=build/gpu); installs nothing
	@bash benchmarks/gpu/run.sh --out $(or $(OUT),build/gpu)

zoo: $(STAMP)  ## train the shipped adapters from DATA (../shared/data)
	$(BIN)/python adapters/zoo/train.py --data $(DATA)

docs: $(STAMP)  ## write the site of the documentation into build/site, and check every link
	$(BIN)/python -m docs.site.pages
	$(BIN)/zensical build --strict
	@echo "Read it: $(BIN)/python -m http.server -d build/site -b 127.0.0.1 8001"

samples: $(STAMP)  ## redraw the sample images and the training set
	$(BIN)/python samples/draw.py

soak: $(STAMP)  ## run the full-length exactness, cross-talk, isolation, OpenAPI, kill, fault and fuzz tests
	$(BIN)/python -m pytest -m soak
	LENSMOUNT_SOAK=1 $(BIN)/python -m pytest tests/fuzz -o log_cli=true -o log_cli_level=INFO

mutants: $(STAMP)  ## plant each bug of tests/mutants into a copy of the source; the test that it names must fail
	$(BIN)/python -m tests.mutants --jobs $(JOBS)
