# demo: the main job on real photographs. test: every test but the long trials. test-long: those. lint: style and types. bench: ratios against peers.
# gpu: measurements on a machine with an NVIDIA GPU. reproduce: of the paper's claims at toy scale what fits into an hour; writes docs/reproduce.md.
# `.venv/bin/python -m recipes.reproduce reproduce --long` does all of them: docs/reproduce.md says how long that takes.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# every process that tests start would compile all modules anew
unexport PYTHONDONTWRITEBYTECODE
# each takes up to 4 GB of memory
TEST_PROCESSES ?= 2
INSTALLED := $(VENV)/.installed

# Of a machine with a GPU: what has PyTorch, and what it has beside it. Its Python, for wheels to take there.
GPU_PYTHON ?= python3
GPU_PYTHON_VERSION ?= 3.12
HAVE ?= numpy pillow opencv-python-headless scipy scikit-image pyarrow

.PHONY: demo test test-long lint bench gpu gpu-wheels reproduce lock clean

demo: $(INSTALLED)
	$(BIN)/python -m recipes.demo demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal

test-long: $(INSTALLED)
	$(BIN)/python -m pytest -m long --timeout 7200 -n $(TEST_PROCESSES) --dist worksteal

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p controlmill

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.build
	$(BIN)/python -m benchmarks.sources
	$(BIN)/python -m benchmarks.urls
	$(BIN)/python -m benchmarks.annotators
	$(BIN)/python -m benchmarks.loader
	$(BIN)/python -m benchmarks.trainer
	$(BIN)/python -m benchmarks.export
	$(BIN)/python -m benchmarks.sampling
	$(BIN)/python -m benchmarks.shards
	$(BIN)/python -m benchmarks.cluster

# make gpu PART=annotators|training|jobs: at most 8 minutes each; results in gpu/, of all parts together in gpu/gpu.md.
gpu:
	@$(GPU_PYTHON) -m benchmarks.gpu $(PART)

# What the parts need beside PyTorch, to carry along: wheels/PART-cp3XX/*.whl
gpu-wheels: $(INSTALLED)
	@for part in $(or $(PART),annotators training jobs); do \
		$(BIN)/python -m benchmarks.gpu.wheels $$part wheels --python $(GPU_PYTHON_VERSION) --have $(HAVE) || exit 1; done

reproduce: $(INSTALLED)
	$(BIN)/python -m recipes.reproduce reproduce --page docs/reproduce.md

$(INSTALLED): requirements.lock setup.py
	@echo "Setting up $(VENV): downloads about 3 GB, installs about 5.5 GB (most of it is PyTorch with CUDA)."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Needs uv (https://docs.astral.sh/uv/); the result is installed by pip alone.
lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --all-extras \
		--no-emit-index-url --no-emit-find-links --no-header -o requirements.lock

clean:
	rm -rf build demo reproduce gpu wheels *.egg-info .pytest_cache .mypy_cache .ruff_cache
