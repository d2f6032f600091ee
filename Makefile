PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
LIGHT   = .venv-light

.PHONY: help install light quickstart oc20-demo report docs check test test-fast campaign clean

help:  ## This list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## */\t/' | column -t -s "$$(printf '\t')"

install: $(VENV)/.installed  ## Install everything into .venv (6 GB, most of it PyTorch)

# pyproject.toml says what is needed, requirements.lock which files are known to work together, with
# the Pythons and the processor that LOCKED names; elsewhere pip finds its own.
LOCKED = import platform as p, sys; \
	sys.exit(not ((3, 11, 5) <= sys.version_info < (3, 13) and p.system() == "Linux" and p.machine() == "x86_64"))
$(VENV)/.installed: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	if $(BIN)/python -c '$(LOCKED)'; then \
		$(BIN)/python -m pip install --require-hashes -r requirements.lock && \
		$(BIN)/python -m pip install --no-deps --no-build-isolation -e .; \
	else $(BIN)/python -m pip install -e ".[qm9,xtb,dev]"; fi
	touch $@

quickstart: install  ## Data, training and evaluation on QM9's small molecules, in 20 minutes
	$(BIN)/ocp-physmol quickstart

oc20-demo: install  ## Every OC20 task on made-up data, in 12 minutes
	$(BIN)/ocp-physmol oc20-demo

report: install  ## Tables and figures of the records, in report/
	$(BIN)/ocp-physmol report

docs: install  ## The documentation as a web site, in site/; a warning is an error
	$(BIN)/mkdocs build --strict --quiet

check: install  # what needs no run: style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The newest versions of what the potential needs, beside the locked ones of the plugin.
light:  ## The potential alone, without fairchem and PyTorch, in .venv-light: a relaxation with it
	rm -rf build
	test -x $(LIGHT)/bin/python || $(PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager ".[xtb]"
	$(LIGHT)/bin/ocp-physmol relax --smiles CCO --output $(LIGHT)/relaxed

test: check docs light  ## All checks and tests, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: check  ## Style, types and the tests that take seconds: within two minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

campaign: install  ## Thousands of unfit inputs, kills and full disks, and how they are taken; an hour
	PYTHONPATH=tests $(BIN)/python -m campaign
	PYTHONPATH=tests $(BIN)/python -m campaign.kills
	PYTHONPATH=tests $(BIN)/python -m campaign.limits

clean:  ## Remove .venv and what the quickstart, the demo, the report and the docs made
	rm -rf $(VENV) $(LIGHT) data/quickstart data/quickstart-gfn2 data/emt runs/quickstart runs/oc20-demo report site
