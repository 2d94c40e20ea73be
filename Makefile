.PHONY: format check test

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
