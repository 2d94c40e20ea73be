.PHONY: doors format check test versions

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

doors: # other libraries that are too heavy for every day: pip install lm-eval nnsight captum trl, then this
	pytest -m doors

versions:
	python tests/versions.py
