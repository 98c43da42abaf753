# `make demo` shows a backup and a restore through the server; `make test` runs every test.
# Both do all their set-up: Debian packages (as root), a virtual environment, real borg clients.

PYTHON ?= python3
VENV := .venv
STAGE := .cache/stage
SOURCES := $(shell find borg_serve_lib cli -name '*.py') pyproject.toml README.md
export BORG_CLIENTS_CACHE := $(CURDIR)/.cache/clients

.PHONY: demo test lint docs dist bench bench-profile bench-scale clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(PYTHON) scripts/borg_clients.py 1.2.4
	$(VENV)/bin/python demo/demo.py

# The tests run beside copies of what they use, so that they see the installed package and never the source tree; those
# of the policies by themselves, as each line and branch of the policies must be covered by them.
test: $(VENV)/installed
	$(PYTHON) scripts/borg_clients.py
	rm -rf $(STAGE) && mkdir -p $(STAGE)
	cp -r tests scripts benchmarks demo examples Makefile pyproject.toml mkdocs.yml README.md docs $(STAGE)
	cd $(STAGE) && BORG_SERVE_LIB_INSTALLED=yes $(CURDIR)/$(VENV)/bin/python -m pytest -n 2 --dist worksteal --ignore tests/policy
	cd $(STAGE) && BORG_SERVE_LIB_INSTALLED=yes $(CURDIR)/$(VENV)/bin/python -m pytest tests/policy \
		--cov=borg_serve_lib.policy --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# The site comes into .cache/site; any warning is an error.
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict

# Wheel, source distribution and zipapp come into dist/, each tried.
dist: $(VENV)/installed-dist
	$(VENV)/bin/python scripts/distributions.py

# In turn with borg serve, the same requests; then a real client. The tables go into docs/performance.md.
# Both servers run in the same interpreter, which is borg's: another build of the same version can be a third slower.
BENCH_VENV := .cache/bench
BENCH = $(BENCH_VENV)/bin/python -m
SERVERS = --borg "$(BORG_CLIENTS_CACHE)/1.4.5/bin/borg serve" --ours "$(CURDIR)/$(BENCH_VENV)/bin/borg-serve"
bench: $(BENCH_VENV)/installed
	mkdir -p $(STAGE) && $(BENCH) benchmarks.compare $(SERVERS) --disk $(STAGE) --save docs/performance.md
	$(BENCH) benchmarks.clients --client "$(BORG_CLIENTS_CACHE)/1.4.5/bin/borg" $(SERVERS) --save docs/performance.md

bench-profile: $(BENCH_VENV)/installed
	$(BENCH) benchmarks.profiles --python $(BENCH_VENV)/bin/python --save docs/performance.md

# A quarter of an hour, and 10 GB of memory.
bench-scale: $(BENCH_VENV)/installed
	$(BENCH) benchmarks.scale $(SERVERS) --save docs/performance.md

# A virtual environment needs a Debian package, which the script installs where it is missing.
$(VENV)/installed: $(SOURCES)
	$(PYTHON) scripts/borg_clients.py 1.2.4
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --no-input --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --no-input --force-reinstall --no-deps .
	$(VENV)/bin/python -m pip install --quiet --no-input '.[test]'
	touch $@

$(BENCH_VENV)/installed: $(SOURCES)
	$(PYTHON) scripts/borg_clients.py 1.4.5
	$(BORG_CLIENTS_CACHE)/1.4.5/bin/python -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --no-input --upgrade pip
	$(BENCH_VENV)/bin/python -m pip install --quiet --no-input --force-reinstall --no-deps .
	$(BENCH_VENV)/bin/python -m pip install --quiet --no-input .
	touch $@

$(VENV)/installed-docs $(VENV)/installed-dist: $(VENV)/installed-%: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --no-input '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) .cache dist build
