# Two commands: make demo, make test. All make the environment in .venv when it is missing or out of date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# PIP_CONSTRAINT also reaches the build environment, --constraint would not.
PIP := PIP_CONSTRAINT=requirements/constraints.txt $(BIN)/python -m pip --disable-pip-version-check install --quiet
SETUP := pyproject.toml requirements/constraints.txt

.PHONY: help demo test check fix docs notebooks browser install clean

help:
	@echo "make demo   install, then upsample the features of three photos into out/demo/"
	@echo "make test   install with the test extras, then linters, type checks and all tests"
	@echo "make fix    format and fix what the linter can"
	@echo "make docs   build the documentation site into out/site/"
	@echo "make notebooks  run the notebooks and keep their outputs in them"
	@echo "make browser    install Chromium (Debian, Ubuntu) for the tests of the web application; they skip without"
	@echo "make clean  remove the environment and all outputs"

demo: $(VENV)/installed
	$(BIN)/naf demo --output out/demo

test: $(VENV)/installed-test
	$(MAKE) --no-print-directory check

check:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses 2 --dist loadfile

fix: $(VENV)/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir out/site # the variable: no advertisement

# NAF_DATA=FOLDER holds CamVid, which one of them needs.
notebooks: $(VENV)/installed-test
	$(BIN)/python notebooks/execute.py

browser:
	command -v chromium || { apt-get update && \
		DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium fonts-dejavu-core; }

install: $(VENV)/installed

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) was found: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python $(SETUP)
	@echo "installing into $(VENV) (several GB with PyTorch; about a minute on a fast line)"
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed $(SETUP)
	$(PIP) --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) out .mypy_cache .pytest_cache .ruff_cache .hypothesis
