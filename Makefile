# Everything a newcomer needs: make demo, make check, make test.
PYTHON ?= python3
BIN = .venv/bin
TOOLS = .venv/tools
# pip takes only files whose hashes the list names, and builds none from source
PINNED = --quiet --require-hashes --only-binary :all: --requirement
COMPILE = $(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --custom-compile-command "make lock"
# a process for each core, each with one thread: OpenMP reads the variable when torch is imported
PYTEST = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist worksteal

.PHONY: demo check test install install-test lint types docs audit lock release-checkpoints clean

demo: install
	$(BIN)/python train.py fit --config configs/dcgan_digits.yaml

# one list for all: what tests and docs add is small beside torch
install install-test: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(PINNED) constraints.txt
	$(BIN)/pip install --quiet --no-index --no-deps --no-build-isolation --editable .
	touch $@

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-test
	$(BIN)/basedpyright

# before a commit: two minutes on two cores
check: lint types
	$(PYTEST) -m "not slow" --ignore tests/core/security tests/cli tests/core tests/evaluation \
	    tests/metrics tests/report tests/test_architecture.py

test: lint types
	$(PYTEST) --durations=10

# the site, in site/; a page that refers to nothing is an error
docs: install-test
	$(BIN)/mkdocs build --strict --quiet

# known vulnerabilities of the pinned packages: asks PyPI, and fails if it does not answer
audit: $(TOOLS)/installed
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes --requirement constraints.txt \
	    || { echo "make audit failed: a package above is vulnerable, or PyPI gave no advisories for it"; exit 1; }

# after a change of dependencies; UPGRADE=--upgrade or "--upgrade-package NAME" takes newer releases
lock: $(TOOLS)/installed
	$(COMPILE) $(UPGRADE) --all-extras pyproject.toml --output-file constraints.txt
	$(COMPILE) $(UPGRADE) --group tools --output-file .ci/tools.txt

$(TOOLS)/installed: .ci/tools.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install $(PINNED) .ci/tools.txt
	touch $@

# the checkpoints of a release with their reports, in release/: half an hour and more on two cores
release-checkpoints: install
	$(BIN)/python .ci/release_checkpoints.py $(RELEASE)

clean:
	rm -rf .venv build dist site *.egg-info runs
