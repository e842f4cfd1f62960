# Each target works alone: it makes the environment in $(VENV) the first time, and again when setup.cfg changes.
#   make sample | test | test-slow | lint | clean        PYTHON=python3.12 picks the interpreter, EXTRAS=cuda the accelerator,
#   CONSTRAINTS=constraints/oldest.txt the versions
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?=
CONSTRAINTS ?=
FORMULA ?= GaInSSe2

comma := ,
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet $(addprefix --constraint ,$(CONSTRAINTS))
RUN_STAMP := $(VENV)/.installed-run$(addprefix -,$(subst $(comma),-,$(EXTRAS)))
DEV_STAMP := $(VENV)/.installed-dev$(addprefix -,$(subst $(comma),-,$(EXTRAS)))

.PHONY: sample test test-slow lint clean

sample: $(RUN_STAMP)
	$(BIN)/python sample.py --target_formula=$(FORMULA) --overwrite

test: $(DEV_STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist=loadfile --no-loadscope-reorder

test-slow: $(DEV_STAMP)
	$(BIN)/python -m pytest -q -m slow

lint: $(DEV_STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy vdw_jax

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "vdw_jax needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1 | head -n 1). Try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(RUN_STAMP): setup.cfg pyproject.toml | $(VENV)/.created
	$(INSTALL) --editable '.$(if $(EXTRAS),[$(EXTRAS)])'
	@touch $@

$(DEV_STAMP): setup.cfg pyproject.toml | $(VENV)/.created
	$(INSTALL) --editable '.[dev$(addprefix $(comma),$(EXTRAS))]'
	@touch $@
