.PHONY: format check test versions

format:
	ruff format .
	ruff check --fix .

check:
	ruff format --check .
	ruff check .
	lint-imports
	mypy

test:
	pytest

versions:
	python tests/versions.py
