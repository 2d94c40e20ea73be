"""Saved folders load where the package was not imported, by `trust_remote_code=True`."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import crate_transformers
from crate_transformers import demo
from crate_transformers.configuration import MODEL_FAMILIES
from crate_transformers.configuration.remote_code import CODE_FILE, auto_map_of, code_of

IMPORTED_NOWHERE = """
import sys
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoTokenizer, pipeline
from transformers import AutoModelForImageClassification
assert "crate_transformers" not in sys.modules
folder = sys.argv[1]
trust = {"trust_remote_code": True}
tokenizer = AutoTokenizer.from_pretrained(folder + "/python", **trust)
AutoImageProcessor.from_pretrained(folder + "/fashion", **trust)
model = AutoModelForImageClassification.from_pretrained(folder + "/fashion", **trust)
print(type(model).__name__, type(AutoModel.from_pretrained(folder + "/fashion", **trust)).__name__)
model.save_pretrained(folder + "/again")  # as after fine-tuning
print(type(AutoModelForImageClassification.from_pretrained(folder + "/again", **trust)).__name__)
model = AutoModelForCausalLM.from_pretrained(folder + "/python", **trust)
ids = tokenizer("def f(", return_tensors="pt").input_ids
print(model.generate(ids, max_new_tokens=3, do_sample=False).shape[1] - ids.shape[1])
"""
WITHOUT_THE_PACKAGE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "crate_transformers":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from transformers import AutoModel
AutoModel.from_pretrained(sys.argv[1] + "/fashion", trust_remote_code=True)
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    for name in ("fashion", "python"):
        shown = demo.load(name)
        shown.model.save_pretrained(folder / name)
        beside = shown.processor or shown.tokenizer
        beside.save_pretrained(folder / name)
    return folder


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_MODULES_CACHE": str(folder / "modules"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([sys.executable, "-c", code, folder], env=environment, capture_output=True, text=True)


def test_a_process_that_never_imported_the_package_loads_and_saves_again(folders: Path) -> None:
    done = run(IMPORTED_NOWHERE, folders)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "CrateForImageClassification", "CrateVisionModel", "CrateForImageClassification", "3"
    ]  # fmt: skip
    assert (folders / "again" / CODE_FILE).is_file()


def test_without_the_package_one_reads_what_to_install(folders: Path) -> None:
    done = run(WITHOUT_THE_PACKAGE, folders)
    assert done.returncode != 0
    assert "pip install crate_transformers" in done.stderr.splitlines()[-1] or "crate_transformers" in done.stderr


@pytest.mark.parametrize("model_type", MODEL_FAMILIES)
def test_the_code_file_holds_imports_of_public_names_alone(model_type: str) -> None:
    family = MODEL_FAMILIES[model_type]
    tree = ast.parse(code_of(family))
    assert [type(node) for node in tree.body] == [ast.Expr, ast.ImportFrom, ast.Assign]
    names = {alias.name for alias in tree.body[1].names}
    assert names <= set(crate_transformers.__all__)
    assert {value.removeprefix("crate_code.") for value in auto_map_of(family).values()} == names


def test_every_save_writes_it(tmp_path: Path) -> None:
    family = MODEL_FAMILIES["crate"]
    family.config_class()(hidden_size=32, num_attention_heads=2, num_hidden_layers=1).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == auto_map_of(family)
    assert (tmp_path / CODE_FILE).read_bytes() == code_of(family)
