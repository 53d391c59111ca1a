# The project's one runner. The first target that is called makes .venv, pinned by constraints/.

PYTHON ?= python3
PINS := constraints/airflow-3.3.txt
BIN := .venv/bin
READY := .venv/.ready
OURS := --editable server --editable '.[local]'
PACKAGES := --constraint $(PINS) $(OURS) --group dev
# where there is no uv, or it cannot reach the packages' index, pip does it
WITH_UV = { command -v uv >/dev/null 2>&1 && uv venv --quiet --clear --python $(PYTHON) .venv && \
  uv pip install --quiet --python $(BIN)/python --compile-bytecode $(PACKAGES); }
WITH_PIP = { $(PYTHON) -m venv --clear .venv && \
  $(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' && \
  $(BIN)/python -m pip install --quiet $(PACKAGES); }
PEERS := databricks airbyte dbt-cloud
# the peers' newest releases ask for a newer common-compat than this Airflow was released with
BENCH_PINS := .work/bench-pins.txt
WITH_PEERS := --constraint $(BENCH_PINS) $(OURS) \
  $(PEERS:%=apache-airflow-providers-%) pytest
RELEASE := .work/release
KEEP ?=
ROUNDS ?= 40
SEED ?=
AIRFLOW ?=
SHAPES ?=

# Airflow starts two to three times faster with its bytecode written
unexport PYTHONDONTWRITEBYTECODE

# Airflow's other versions have environments of their own; what runs there is what Airflow touches
OLDER := 3.1 3.2 3.4
# each on another Python, if the machine has it, pyenv's included
PYTHON_OF_3.1 := 3.11
PYTHON_OF_3.2 := 3.12
PYTHON_OF_3.4 := 3.13
FIND_PYTHON = $(shell for python in python$(1) $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$(1).*/bin/python; do \
  $$python -c "" 2>/dev/null && echo $$python && exit; done; echo $(PYTHON))
OLDER_TESTS := tests/triggers tests/operators tests/task tests/submit tests/sensors tests/decorators tests/links tests/hooks \
  tests/test_package.py
E2E_OF_3.4 := $(addprefix tests/e2e/test_,loops.py commands.py waits.py)
OLDER_NEEDS := pytest pytest-asyncio pytest-mock pytest-xdist hypothesis jsonschema asyncpg \
  psycopg2-binary

# most tests wait more than they work
FAST := $(BIN)/python -m pytest -m "not e2e" --numprocesses 4 --dist worksteal

.PHONY: help demo test test-fast test-older test-slurm crash bench lint types docs pictures dist release clean

help:
	@echo "make demo        the main job, end to end, on a Clusterra and an Airflow of its own"
	@echo "make demo KEEP=1 the same, and leave it up to look at"
	@echo "make test        all tests, those on a real Airflow included"
	@echo "make test-fast   all tests but those"
	@echo "make test-older  the tests of what Airflow touches, on Airflow 3.1, 3.2 and 3.4, and what only 3.4 has"
	@echo "make test-slurm  what a real Slurm has to say; sets one up in a chroot (root on Debian)"
	@echo "make crash       kill tasks, cut connections, count jobs: ROUNDS=40, a SEED to play again, AIRFLOW=3.4"
	@echo "make bench       speed and cost beside curl and the peers; writes bench/RESULTS.md"
	@echo "make lint        style, imports, spelling"
	@echo "make types       mypy, strict"
	@echo "make docs        the documentation as a site, in .work/docs/index.html"
	@echo "make pictures    the docs' pictures, taken anew by the tests' browser"
	@echo "make dist        wheels and sdists of both distributions, checked, in dist/"
	@echo "make release     the same, installed in a new environment, with the sdist's own tests; publishes nothing"
	@echo "make clean       remove what the other targets made"

demo: $(READY)
	@KEEP=$(KEEP) $(BIN)/python -m tests.e2e.demo

test: $(READY)
	$(FAST)
	$(BIN)/python -m pytest -m e2e

test-fast: $(READY)
	$(FAST)

test-older: $(OLDER:%=.venv-%/.ready)
	@set -e; for version in $(OLDER); do echo "Airflow $$version"; \
	  .venv-$$version/bin/python -m pytest -q --numprocesses 4 $(OLDER_TESTS); done
	@echo "Airflow 3.4, with all of its parts"
	.venv-3.4/bin/python -m pytest -q -m e2e $(E2E_OF_3.4)

test-slurm: $(READY)
	$(BIN)/python -m pytest -m slurm tests/behaviour tests/slurm
	$(BIN)/python -m tests.crash --slurm --rounds 14 --seed 11

crash: $(if $(AIRFLOW),.venv-$(AIRFLOW)/.ready,$(READY))
	$(if $(AIRFLOW),.venv-$(AIRFLOW)/bin,$(BIN))/python -m tests.crash --rounds $(ROUNDS) \
	  $(if $(SEED),--seed $(SEED)) $(if $(SHAPES),--shapes $(SHAPES))

bench: .venv-bench/.ready
	@.venv-bench/bin/python -m bench

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/validate-pyproject pyproject.toml server/pyproject.toml

types: $(READY)
	$(BIN)/mypy

# autodoc imports Airflow, which makes its home
docs: $(READY)
	AIRFLOW_HOME=$(CURDIR)/.work/airflow $(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs .work/docs

pictures: $(READY)
	PICTURES=docs/pictures $(BIN)/python -m pytest -q -m e2e -k pictures tests/e2e

dist: $(READY)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python -m build --no-isolation --outdir dist server
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

release: dist
	rm -rf $(RELEASE)
	$(PYTHON) -m venv $(RELEASE)/venv
	$(RELEASE)/venv/bin/python -m pip install --quiet --constraint $(PINS) dist/*.whl
	cd $(RELEASE) && AIRFLOW_HOME=$(CURDIR)/$(RELEASE)/airflow venv/bin/airflow providers get airflow-provider-clusterra
	$(RELEASE)/venv/bin/clusterra-server --version
	for sdist in dist/*.tar.gz; do tar --extract --gzip --file $$sdist --directory $(RELEASE); done
	$(MAKE) --directory $(RELEASE)/airflow_provider_clusterra-* test-fast
	@ls dist
	@echo "Nothing is published. To publish: date the version in CHANGELOG.md, tag the commit v<version>, twine upload dist/*"

clean:
	rm -rf .venv .venv-* .work dist

$(READY): pyproject.toml server/pyproject.toml $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with make PYTHON=..., e.g. python3.12"; exit 1; }
	@echo "Setting up .venv; the first time this downloads Airflow."
	@$(WITH_UV) || $(WITH_PIP)
	@touch $(READY)

.venv-%/.ready: pyproject.toml server/pyproject.toml constraints/airflow-%.txt
	$(eval OTHER := $(call FIND_PYTHON,$(PYTHON_OF_$*)))
	@echo "Setting up .venv-$* with Airflow $* on $$($(OTHER) --version)."
	@{ command -v uv >/dev/null 2>&1 && uv venv --quiet --clear --python $(OTHER) .venv-$* && \
	  uv pip install --quiet --python .venv-$*/bin/python --compile-bytecode \
	    --constraint constraints/airflow-$*.txt $(OURS) $(OLDER_NEEDS); } || \
	  { $(OTHER) -m venv --clear .venv-$* && .venv-$*/bin/python -m pip install --quiet \
	    --constraint constraints/airflow-$*.txt $(OURS) $(OLDER_NEEDS); }
	@touch $@

.venv-bench/.ready: pyproject.toml server/pyproject.toml $(PINS) constraints/bench.txt
	@echo "Setting up .venv-bench with the peers that the benches compare with."
	@mkdir -p $(dir $(BENCH_PINS))
	@grep -v common-compat $(PINS) | cat - constraints/bench.txt > $(BENCH_PINS)
	@{ command -v uv >/dev/null 2>&1 && uv venv --quiet --clear --python $(PYTHON) .venv-bench && \
	  uv pip install --quiet --python .venv-bench/bin/python --compile-bytecode $(WITH_PEERS); } || \
	  { $(PYTHON) -m venv --clear .venv-bench && \
	    .venv-bench/bin/python -m pip install --quiet $(WITH_PEERS); }
	@touch $@
