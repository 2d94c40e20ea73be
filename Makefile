.PHONY: format check test versions docs

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

# the site, offline, every warning an error; needs the extra [docs]
docs:
	HF_HUB_OFFLINE=1 python -m sphinx -E -W --keep-going -q -d build/doctrees -b html docs build/docs
