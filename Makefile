# Everything a fresh machine needs: Python 3.11 or newer, gcc and make.
#   make demo            set up, train, build the index, serve at http://127.0.0.1:8000   (SERVE=0: all but serve)
#   make test            set up and run the whole test suite, in two processes   (TEST_PROCESSES=4: in four)
#   make test-full       the tests that need services, several processes or the container image; root, 16 GB of free disk
#   make test-gpu        the tests that need a CUDA device
#   make demo-artifact   trains the model that ships with the package, for a service's first start
#   make image           builds the container image by buildah, runs it, and writes docs/results/image.json
PYTHON ?= python3
SERVE ?= 1
TEST_PROCESSES ?= 2
BIN := .venv/bin
# mamba-ssm without its CUDA kernels: tests compare the state-space block with its pure-Python part
MAMBA := MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE
SERVICES := postgresql buildah debootstrap docker-compose
DEMO := var/indexes/demo/CURRENT

.PHONY: demo demo-artifact image test test-full services test-gpu lint alignment chromium clean

demo: .venv/installed $(DEMO)
	$(BIN)/crossbit evaluate demo
	@echo "What it retrieves, to look at: var/runs/demo/report/index.html"
	@echo "The index 'demo' is ready under var/. Next: make demo, or .venv/bin/crossbit search --text 'a flag with a star'"
ifneq ($(SERVE),0)
	$(BIN)/crossbit serve
endif

$(DEMO): | var/artifacts/demo/manifest.json
	$(BIN)/crossbit index build demo --artifact demo --data openclipart

var/artifacts/demo/manifest.json: | .venv/installed
	$(BIN)/crossbit train crossbit --data openclipart --name demo

# trains the model that ships with the package: `baseline` in three eighths of its width, so that it takes 3 MB
demo-artifact: .venv/installed
	rm -rf build/demo && CROSSBIT_HOME=build/demo $(BIN)/crossbit train baseline --data openclipart --name demo \
	  --set config.width=192 --set config.hidden=384
	mkdir -p model/artifacts/demo && cp build/demo/artifacts/demo/* model/artifacts/demo/

# a file of tests stays in one process, as what it prepares is made once; slow files come first, in their order
test: .venv/installed chromium
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

# what `make test` leaves out but for a GPU: Milvus, PostgreSQL, an S3 server, torchrun, the container image
test-full: .venv/installed .venv-moto/installed services
	mkdir -p build
	CROSSBIT_TEST_MOTO=.venv-moto/bin/moto_server CROSSBIT_IMAGE_REPORT=build/image.json \
	  $(BIN)/pytest -m "milvus or postgres or s3 or torchrun or image" --durations=10

# what only a CUDA device can show; skipped, with the reason, where there is none
test-gpu: .venv/installed
	$(BIN)/pytest -m gpu -rs

# the container image, built, run and measured; needs root
image: .venv/installed services
	CROSSBIT_IMAGE_REPORT=docs/results/image.json $(BIN)/pytest -m image -s tests/image

# Debian's packages that the tests of test-full start: PostgreSQL, and what builds the image and reads the compose file
services:
	@test -d /usr/lib/postgresql && which buildah debootstrap docker-compose >/dev/null || { command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -y -qq --no-install-recommends $(SERVICES) >/dev/null; } \
	  || echo "install $(SERVICES), or the tests that need them fail"

# moto needs an older python-dateutil than Crossbit
.venv-moto/installed: Makefile
	test -x .venv-moto/bin/python || $(PYTHON) -m venv .venv-moto
	.venv-moto/bin/pip install -q 'moto[s3]==5.2.5' flask flask-cors
	touch $@

# the tests of the page drive Debian's Chromium
chromium:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
	  || echo "no chromium on the PATH: install it (on Debian: apt-get install chromium), or the tests of the page fail"

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# rebuilds the alignment head that ships with the default backbone and compares it with the committed one
alignment: .venv/installed
	$(BIN)/python -m model.training.alignment

# A torch that is already in .venv (a CPU build, say) is kept; otherwise the pinned one is installed.
.venv/installed: pyproject.toml setup.py $(wildcard index/kernel/*.[ch]) constraints.txt constraints-torch.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -c 'import torch, torchvision' 2>/dev/null || $(BIN)/pip install -q -c constraints-torch.txt torch torchvision
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	$(MAMBA) $(BIN)/pip install -q -c constraints.txt --no-build-isolation --no-deps mamba-ssm
	touch $@

clean:
	rm -rf .venv .venv-moto var build
