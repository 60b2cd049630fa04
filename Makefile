PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
CPP = $(wildcard csrc/*.h csrc/*/*.h csrc/*/*.cpp csrc/*/*.cu tests/cuda_on_cpu/*.h tests/cuda_on_cpu/*.cpp tests/cuda_on_cpu/*.cu)
# One more than there are cores, as some tests wait, and at most 4: each takes up to 2 GB.
WORKERS := $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n + 1 : 4)))
TEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 20
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: help inpaint train-demo test test-all wheel lint format quality clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

inpaint: .venv/run  ## fill the hole in the example photograph: out/china.png and out/china_comparison.png
	mkdir -p out
	$(BIN)/lbam-fast inpaint docs/example/china.jpg docs/example/china_mask.png -o out/china.png --comparison out/china_comparison.png

train-demo: .venv/train  ## train a small network for two minutes on nine photographs: out/train-demo/grid.png
	rm -rf out/train-demo
	$(BIN)/lbam-fast train --config docs/example/train-demo.yaml

test: .venv/dev  ## run every test, the slow ones with a sample of their cases
	$(TEST)

test-all: .venv/dev  ## run every test with every case
	LBAM_TEST_ALL=1 $(TEST)

wheel: .venv/dev  ## make a wheel of this version, compiled kernels included: dist/*.whl
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

lint: .venv/dev  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CPP)
	$(BIN)/mypy

format: .venv/dev  ## rewrite the code in the project's style
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)
	$(BIN)/ruff check --fix .

quality: .venv/dev  ## print the quality table of the embedded network, alone and with its options
	$(BIN)/python benchmarks/quality.py --options detail=auto passes=8 detail=auto,passes=8

clean:  ## remove what the other targets made
	rm -rf .venv out build dist *.egg-info

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/run: .venv/python pyproject.toml setup.py constraints.txt
	$(INSTALL) --editable .
	touch $@

.venv/train: .venv/python pyproject.toml setup.py constraints.txt
	$(INSTALL) --editable '.[train]'
	touch $@ .venv/run

.venv/dev: .venv/python pyproject.toml setup.py constraints.txt st-lpips.txt
	$(INSTALL) --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement st-lpips.txt
	touch $@ .venv/run
