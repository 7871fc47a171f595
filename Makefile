# `make setup` builds .venv once from the lock; every other target needs it and brings it up to date first.
PYTHON ?= python3
BIN := .venv/bin
PROTOC := $(BIN)/uv run --no-project --with grpcio-tools==1.76.0 --with googleapis-common-protos python
LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url

.PHONY: setup demo test test-slow parity loop check lock proto released-contract classifier saliency clean
.DELETE_ON_ERROR:

setup: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(f"onepixel needs Python 3.11 or newer; $(PYTHON) is {sys.version.split()[0]}. Say which: make setup PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/onepixel demo --out runs/demo --resume

test: setup
	$(BIN)/python -m pytest

test-slow: setup
	$(BIN)/python -m pytest -m slow

# TorchServe in an environment of its own: the same frames through it and through our server.
parity: .venv-torchserve/.installed
	.venv-torchserve/bin/python -m serving.torchserve.parity

.venv-torchserve/.installed: serving/torchserve/requirements.lock pyproject.toml
	@command -v java >/dev/null || { echo "make parity: TorchServe needs Java 17, and there is no java; on Debian: apt-get install openjdk-17-jre-headless" >&2; exit 2; }
	@$(MAKE) --no-print-directory setup
	test -x .venv-torchserve/bin/python || $(PYTHON) -m venv .venv-torchserve
	$(BIN)/uv pip sync --quiet --python .venv-torchserve/bin/python --require-hashes serving/torchserve/requirements.lock
	$(BIN)/uv pip install --quiet --python .venv-torchserve/bin/python --no-deps --editable .
	touch $@

loop: setup
	$(BIN)/python -m training.loop --root ../shared/data/camvid --weights ../shared/weights/mobilenet_v2_imagenet.safetensors --out runs/loop

check: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

lock: setup
	$(BIN)/uv pip compile pyproject.toml --extra dev $(LOCK) -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra serving --extra cpu --extra torchserve -c requirements.lock $(LOCK) -o serving/torchserve/requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra serving --extra cpu --extra registry -c requirements.lock $(LOCK) -o deploy/serving.lock
	$(BIN)/uv pip compile pyproject.toml --extra serving --extra gpu --extra registry -c requirements.lock $(LOCK) -o deploy/serving-gpu.lock

proto: setup
	$(PROTOC) proto/generate.py

# After a release: what later contracts are compared with, by tests/proto.
released-contract: setup
	$(PROTOC) proto/generate.py tests/proto/released.binpb

classifier: setup
	$(BIN)/python -m training.features.crop_classifier --out training/features/crop_classifier.safetensors

saliency: setup
	$(BIN)/python -m training.features.saliency.embedded --out training/features/saliency/forest.onnx

clean:
	rm -rf .venv build dist
