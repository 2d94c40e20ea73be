"""The layers and the objective are the algorithm: they ask nothing of the runtime. Operators and plans do."""

import re
from pathlib import Path

import pytest

import crate_transformers

ROOT = Path(crate_transformers.__file__).parent
QUESTIONS = (
    r"hooks|compiler|autocast|is_grad_enabled|requires_grad\b(?!_)|is_inference|isinstance|\btype\(|is_cuda|jit\."
)


@pytest.mark.parametrize(
    "file", [*ROOT.glob("layers/**/*.py"), *ROOT.glob("objective/*.py")], ids=lambda file: file.name
)
def test_no_question_about_the_runtime(file):
    allowed = {"kept_steps.py": {"isinstance"}, "cache.py": {"isinstance"}}  # which blocks, which caches
    assert not set(re.findall(QUESTIONS, file.read_text())) - allowed.get(file.name, set())
