PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

.PHONY: install quickstart oc20-demo report test clean

install: $(VENV)/.installed

# setup.py says what is needed, constraints.txt which versions are known to work together.
$(VENV)/.installed: setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e ".[qm9,dev]"
	touch $@

quickstart: install
	$(BIN)/python -m ocp_physmol.experiments.quickstart

oc20-demo: install
	$(BIN)/python -m ocp_physmol.experiments.oc20_demo

report: install
	$(BIN)/python -m ocp_physmol.experiments.report

test: install
	$(BIN)/ruff check .
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) data/quickstart data/emt runs/quickstart runs/oc20-demo report
