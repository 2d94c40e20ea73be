.PHONY: format check test doors versions docs notebooks

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

doors: # other libraries that are too heavy for every day: pip install lm-eval nnsight captum trl sae-lens, then this
	pytest -m doors

versions:
	python tests/versions.py

# the site, offline, every warning an error; needs the extra [docs]
docs:
	HF_HUB_OFFLINE=1 python -m sphinx -E -W --keep-going -q -d build/doctrees -b html docs build/docs

# the lessons of docs/notebooks, run; each as .ipynb and as one .html file; needs the extra [docs]
notebooks:
	HF_HUB_OFFLINE=1 python scripts/notebooks.py build/notebooks
