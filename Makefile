# Needs Python 3.11 or newer and make. Everything goes into .venv; each target works again and again.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: run test check bench train install install-train clean install-service remove-service test-systemd

run: $(VENV)/run.done  ## start the watcher on inbox/
	$(BIN)/python -m watcher run

test: $(VENV)/dev.done  ## run the tests
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

test-systemd: $(VENV)/dev.done  ## as root: the service in a systemd booted for it
	$(BIN)/python -m pytest tests/test_systemd.py $(ARGS)

check: $(VENV)/dev.done  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

train: $(VENV)/train.done  ## make model/ again from MNIST
	$(BIN)/python -m train fit $(ARGS)

bench: $(VENV)/train.done  ## what README.md's figures on speed come from; ARGS="flood trickle" for some of the cases
	$(BIN)/python -m benchmarks $(ARGS)

install: $(VENV)/run.done  ## only install what running needs

install-train: $(VENV)/train.done  ## only install what training needs

install-service:  ## as root: install or upgrade the systemd service; NAME=… for one of several inboxes
	@sh systemd/service.sh install "$(NAME)"

remove-service:  ## as root: take it away again; PURGE=1 with its data
	@PURGE=$(PURGE) sh systemd/service.sh remove "$(NAME)"

clean:  ## remove what make made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache

$(VENV)/run.done: pyproject.toml | $(VENV)
	@echo "Installing what running needs into $(VENV): LiteRT, OpenCV, matplotlib (0.5 GB, a minute or two) …"
	@$(PIP) --editable .
	@touch $@

$(VENV)/train.done: pyproject.toml | $(VENV)/run.done
	@echo "Installing what training needs into $(VENV): TensorFlow (2 GB, some minutes) …"
	@$(PIP) --editable '.[train]'
	@touch $@

$(VENV)/dev.done: pyproject.toml | $(VENV)/train.done
	@echo "Installing what testing needs into $(VENV): pytest, ruff, mypy …"
	@$(PIP) --editable '.[train,dev]'
	@touch $@

$(VENV):
	@test -n "$(PYTHON)" || { echo "Digitdrop needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) …"
	@$(PYTHON) -m venv $@ || { rm -rf $@; echo "$(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv"; exit 1; }
