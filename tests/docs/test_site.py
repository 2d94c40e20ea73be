"""The site builds offline without a warning, and what it holds asks nothing of elsewhere.

`make docs` runs every notebook; test_notebooks.py has done so, and here one is run.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import crate_transformers

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.sphinx
NOTEBOOKS = sorted(path.stem for path in (ROOT / "docs" / "notebooks").glob("*.py"))
RUN_HERE = "emergence_of_segmentation"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built as `make docs` builds it, but for notebooks that are not run."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-E", "-W", "--keep-going", "-q", "-b", "html", "-t", "one_notebook"]
    process = subprocess.run(
        [*command, "-d", folder / "doctrees", ROOT / "docs", folder / "html"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.returncode == 0, process.stderr
    return folder / "html"


def test_nothing_is_fetched_from_elsewhere(site):
    found = []
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=\"([^\"]+)\"", text)
        loaded += re.findall(r"<link\b(?![^>]*rel=\"(?:next|prev|index|search)\")[^>]*\bhref=\"([^\"]+)\"", text)
        found += [(page.name, source) for source in loaded if re.match(r"(?:https?:)?//", source)]
    for style in site.rglob("*.css"):
        found += re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)\s]+", style.read_text("utf-8"))
    assert found == []


def test_every_public_name_can_be_linked(site):
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    names = {line.split(b" ")[0].decode() for line in zlib.decompress(inventory).splitlines()}
    for room in (
        "models",
        "configuration",
        "interop",
        "objective",
        "ops",
        "layers",
        "analysis",
        "data",
        "demo",
        "bench",
    ):
        module = f"crate_transformers.{room}"
        assert {f"{module}.{name}" for name in importlib.import_module(module).__all__} - names == set()
    package = (site / "api" / "package.html").read_text("utf-8")
    assert [name for name in crate_transformers.__all__ if name not in package] == []


def test_figures_are_drawn_for_either_scheme(site):
    text = (site / "concepts" / "objective.html").read_text("utf-8")
    shown = re.findall(r"src=\"\.\./_images/([\w-]+)\.svg\"", text)
    assert sorted(shown) == [
        f"{name}-{scheme}" for name in ("objective-by-layer", "objective") for scheme in ("dark", "light")
    ]
    assert all((site / "_images" / f"{name}.svg").stat().st_size > 10_000 for name in shown)


def test_equations_are_mathml(site):
    text = (site / "concepts" / "compression.html").read_text("utf-8")
    assert text.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"') == 2
    assert "MathJax" not in text


def test_a_notebook_can_be_downloaded_as_it_was_run(site):
    files = {path.stem: path for path in (site / "_downloads").rglob("*.ipynb")}
    assert sorted(files) == NOTEBOOKS
    for name, file in files.items():
        link = file.relative_to(site).as_posix()
        assert f'href="../{link}"' in (site / "notebooks" / f"{name}.html").read_text("utf-8")
        cells = json.loads(file.read_text("utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        assert any("image/png" in output.get("data", {}) for output in outputs) == (name == RUN_HERE)


def test_the_reference_of_recipes_is_on_its_page(site):
    from crate_transformers.recipes.reference import recipe_reference

    text = (site / "recipes.html").read_text("utf-8")
    assert [key.name for key in recipe_reference() if f">{key.name}<" not in text] == []
