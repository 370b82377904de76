# Everything starts here: `make demo` and `make test` set up what they need, once, and nothing twice.
# Paths are relative, so the project may stand in a folder with spaces in its name.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# What the comparisons install, each in an environment of its own.
LOCKS := benchmarks/shared/locks
COMPARED := litert loadgen mnn ncnn openvino tract

.PHONY: demo test lint guard guard-update setup data reference benchmarks harness portability c-targets quantization architectures training device peers slow zoo runtimes readme lock lock-device quantization-aware clean help

help:
	@echo "make demo        train, export, quantize, verify and time the reference model (exported/demo)"
	@echo "make test        lint, types, import rules, counted work and all tests"
	@echo "make guard       what the single-image path costs, counted, against benchmarks/guard/bounds.toml"
	@echo "make guard-update  the same as new bounds"
	@echo "make setup       only the virtual environment"
	@echo "make reference   retrain and re-export the committed artifact exported/fashion-mnist"
	@echo "make benchmarks  measure what the README states, into benchmarks/results/"
	@echo "make harness     figures about the measuring itself: its overhead, its false alarms, what it can tell apart"
	@echo "make portability the int8 files here and on emulated CPUs (fetches what that takes, once)"
	@echo "make c-targets   the int8 model's C code on every target, native and emulated (needs Debian's cross compilers)"
	@echo "make quantization  what portable scales cost, over five trained models"
	@echo "make quantization-aware   what int4 loses with and without training for it"
	@echo "make architectures  every kind of model with default options, here and on two emulated CPUs"
	@echo "make training    every recipe with several seeds: accuracy, spread, time (hours)"
	@echo "make device      what the device side costs, beside the bare runtime and beside LiteRT (fetches what that takes)"
	@echo "make peers       the same model through other runtimes and MLPerf's load generator (fetches what that takes, once)"
	@echo "make slow        the longest tests"
	@echo "make zoo         many kinds of Keras models, trained and opened from files"
	@echo "make runtimes    the reference bundle on Python 3.9 to 3.13, old onnxruntimes and emulated CPUs"
	@echo "make readme      write the measured figures and the command help into README.md"
	@echo "make lock        resolve the dependencies anew (needs uv on PATH)"
	@echo "make lock-device only what bundles install on a device (part of make lock)"

demo: setup
	$(BIN)/toolkit run --output exported/demo

# Nothing of lint or guard is timed, so they share the cores. Compiled modules spare each command in the tests a fifth of
# a second where the environment forbids Python to write them (PYTHONDONTWRITEBYTECODE, as in many containers).
# The order of test files is that of tests/conftest.py: the longest first.
test: setup
	$(MAKE) -j 2 lint guard
	$(BIN)/python -m compileall -q toolkit
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=40

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Instructions, allocations, modules, nodes and bytes; no clock. Instructions only where valgrind is installed.
guard: setup
	$(BIN)/python -m benchmarks.guard

guard-update: setup
	$(BIN)/python -m benchmarks.guard --update

setup: $(READY)

# The stamp is the last thing written, so an interrupted set-up starts over.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "error: $(PYTHON) is not Python 3.11 to 3.13; give one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 3; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

data: setup
	$(BIN)/toolkit data

# The committed artifact, the golden answers that tests hold the predictor against, and the figures that follow: about
# half an hour, most of it teachers.
reference: setup
	$(BIN)/toolkit run --recipe best --output exported/fashion-mnist --cpu all
	$(BIN)/python -m tests.golden.make

# About ten minutes, most of it a fresh clone with all its downloads.
benchmarks: setup
	$(BIN)/toolkit bench exported/fashion-mnist --json > benchmarks/results/bench.json
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/fresh_clone.py

# What the benchmark itself adds, and how often it is wrong: about half an hour on a quiet machine.
harness: setup
	$(BIN)/python -m benchmarks.harness

# The int8 files on all emulated CPUs, portable and plain; exits 1 if a portable one answers otherwise there.
portability: setup
	$(BIN)/python benchmarks/portability.py

# The reference model as C on every target: about three minutes. A missing compiler is named and left out.
c-targets: setup
	$(BIN)/python benchmarks/c_targets.py

# Five models trained and exported in every form: about ten minutes.
quantization: setup
	$(BIN)/python benchmarks/quantization.py

quantization-aware: setup
	$(BIN)/python benchmarks/quantization_aware.py

# Every kind of model with default options, here and on two emulated CPUs: about twenty minutes.
architectures: setup
	$(BIN)/python -m benchmarks.architectures --cpu

# What the device side costs, beside the bare runtime and beside LiteRT: about seven minutes.
device: setup
	$(BIN)/python -m benchmarks.device

# The same trained model through other runtimes in turn, and under MLPerf's load generator: about ten minutes, and once
# some 700 MB of wheels.
peers: setup
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.mlperf

# The longest tests: about ten minutes. What they show in the main, shorter ones show in `make test`.
slow: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow

# Many kinds of Keras models, trained and opened from each kind of file: about two minutes.
zoo: setup
	$(BIN)/python -m pytest -q -m zoo tests/test_zoo.py

# The reference bundle's self-test on every Python found here, with old onnxruntimes and on emulated CPUs: about ten
# minutes and 600 MB of wheels.
runtimes: setup
	$(BIN)/python benchmarks/runtimes.py

# Every recipe with several seeds: hours, most of them for `best`. `python benchmarks/training.py default` does one.
training: setup
	$(BIN)/python benchmarks/training.py

readme: setup
	$(BIN)/python benchmarks/readme.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra train --extra sweep --extra sign --group dev --no-strip-extras \
		--generate-hashes --no-header --no-annotate --quiet -o requirements.lock
	uv pip compile pyproject.toml --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet -c requirements.lock -o requirements-core.lock
	for name in $(COMPARED); do uv pip compile $(LOCKS)/$$name.in --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet -c requirements-core.lock -o $(LOCKS)/$$name.lock || exit; done
	uv pip compile $(LOCKS)/nncf.in --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet -o $(LOCKS)/nncf.lock  # it refuses our numpy on newer Pythons
	uv pip compile $(LOCKS)/pnnx.in --no-deps --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet -o $(LOCKS)/pnnx.lock  # its program needs no torch
	$(MAKE) lock-device

# What bundles install, for every Python and architecture; asks pip, with a network.
lock-device: setup
	$(BIN)/python -m toolkit.bundle.lock
