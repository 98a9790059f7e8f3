# Everything a newcomer needs: make demo, make test.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test install install-test lint clean

demo: install
	$(BIN)/python train.py fit --config configs/dcgan_digits.yaml

install: .venv/installed
install-test: .venv/installed-test

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(BIN)/pytest --durations=10

clean:
	rm -rf .venv build dist *.egg-info runs
