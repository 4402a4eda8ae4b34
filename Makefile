# Everything that a developer or CI runs. Each target sets up what it needs.
#
#   make demo          all of sinfer on this machine, every result checked;
#                      PRODUCT=soe shows that product instead of the example
#   make test          linters, types and all tests
#   make test-long     the proofs that take minutes: clean installs, many rounds of each fault
#   make test-install  those of them that CI runs: clean installs, a real MLServer, a rolling
#                      change of versions, how far a message travels through the code
#   make model-servers install MLServer, which some of the long tests ask
#   make check         linters, types and declared dependencies alone
#   make test-oldest   the tests against the oldest versions that pyproject.toml admits
#   make stops         fifty workers in a row are told to end, and do so in time
#   make chaos         a product under load while everything breaks; SEED=n repeats a run
#   make fuzz          20,000 hostile messages among as many good ones; SEED=n repeats a run
#   make bench         how fast it is here, beside other ways to do the same
#   make trips         how far a message and a window travel through the code
#   make docs          the documentation as a site in build/docs; a broken link is an error
#   make servers       install PostgreSQL, PgBouncer, MariaDB and RabbitMQ for the tests (Debian, root)
#   make audit         known vulnerabilities in constraints.txt, where a data source answers
#   make release       whether version, changelog and commit agree; then wheel and source in dist/
#   make lock          write constraints.txt from scratch, with the newest versions
#   make clean         remove what the others made
#
# PYTHON=python3.13 chooses the interpreter: 3.11 or later.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
LOCK := .venv-lock
AUDIT := .venv-audit
MLSERVER := .venv-mlserver
DOCS := .venv-docs
# Files of tests at once. They wait for half of their time, so that three keep two cores busy.
AT_ONCE ?= 3
PIP_INSTALL := -m pip --quiet --disable-pip-version-check install

.PHONY: setup demo test test-long test-install stops check test-oldest chaos fuzz bench
.PHONY: servers trips model-servers docs audit release lock clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(call new-venv,$(VENV))
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/sinfer demo $(if $(PRODUCT),--product $(PRODUCT))

test: check
	tools/servers.sh
	$(BIN)/python -m pytest --numprocesses $(AT_ONCE) --dist loadfile --no-loadscope-reorder

test-long: setup model-servers
	$(BIN)/python -m pytest -m long --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-install: setup model-servers
	$(BIN)/python -m pytest -m long --numprocesses 2 \
	  tests/install tests/integration/inference/test_mlserver.py tests/integration/test_trips.py

model-servers: $(MLSERVER)/.ready

$(MLSERVER)/.ready: constraints-mlserver.txt
	@$(call new-venv,$(MLSERVER))
	$(MLSERVER)/bin/python $(PIP_INSTALL) --constraint constraints-mlserver.txt mlserver
	@touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/deptry .
	$(BIN)/deptry . --exclude '\.venv' --ignore DEP002,DEP004

docs: $(DOCS)/.ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs --quiet build

$(DOCS)/.ready: pyproject.toml constraints.txt constraints-docs.txt
	@$(call new-venv,$(DOCS))
	$(DOCS)/bin/python $(PIP_INSTALL) --constraint constraints.txt --constraint constraints-docs.txt \
	  mkdocs-material 'mkdocstrings[python]' ruff --editable '.[testing]'
	@touch $@

# What make test does by itself in CI.
servers:
	tools/servers.sh --install

test-oldest: $(OLDEST)/.ready
	$(OLDEST)/bin/python -m pytest --numprocesses $(AT_ONCE) --dist loadfile --no-loadscope-reorder

$(OLDEST)/.ready: pyproject.toml constraints-oldest.txt
	@$(call new-venv,$(OLDEST))
	$(OLDEST)/bin/python $(PIP_INSTALL) --constraint constraints-oldest.txt --editable '.[dev]'
	@touch $@

stops: setup
	$(BIN)/python -m pytest -m 'long or not long' tests/e2e/test_stopping.py

# CHAOS_OPTIONS takes further options, such as --faults 50; see python -m tests.chaos --help.
chaos: setup
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(CHAOS_OPTIONS)

fuzz: setup
	$(BIN)/python -m tests.chaos.live_fuzz $(if $(SEED),--seed $(SEED)) $(FUZZ_OPTIONS)

bench: $(VENV)/.ready-bench
	$(BIN)/python -m benchmarks $(BENCH_OPTIONS)

trips: setup
	$(BIN)/python -m tools.trips $(TRIPS_OPTIONS)

# celery-batches runs with Celery 5.7 but asks for an older one, hence --no-deps. toolz and zict are
# what streamz needs; py-spy is for python -m benchmarks.profile.
$(VENV)/.ready-bench: $(VENV)/.ready
	$(BIN)/python $(PIP_INSTALL) --no-deps 'celery-batches==0.11' \
	  'streamz==0.6.6' 'toolz==1.2.0' 'zict==3.0.0' 'py-spy==0.4.3'
	@touch $@

# It has an environment of its own, since it is not needed for anything else.
audit:
	@test -x $(AUDIT)/bin/pip-audit || { $(call new-venv,$(AUDIT)); \
	  $(AUDIT)/bin/python $(PIP_INSTALL) 'pip-audit>=2.10'; } \
	  || { rm -rf $(AUDIT); echo "audit is skipped: pip-audit cannot be installed"; }
	@test ! -x $(AUDIT)/bin/pip-audit || $(AUDIT)/bin/python tools/audit.py constraints.txt

release: setup
	$(BIN)/python tools/release.py

lock:
	@$(call new-venv,$(LOCK))
	$(LOCK)/bin/python $(PIP_INSTALL) --editable '.[dev]'
	$(LOCK)/bin/python -m pip freeze --exclude-editable --exclude sinfer > constraints.txt
	rm -rf $(LOCK)

clean:
	rm -rf $(VENV) $(OLDEST) $(LOCK) $(AUDIT) $(MLSERVER) $(DOCS) build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis

# $(call new-venv,DIRECTORY): an empty virtual environment, or a word on why there is none.
define new-venv
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || { echo "sinfer needs Python 3.11 or later; name one: make PYTHON=python3.12" >&2; exit 1; }; \
$(PYTHON) -m venv --clear $(1) \
  || { echo "$(PYTHON) has no venv module; on Debian: apt install python3-venv" >&2; exit 1; }
endef
