"""Make the demonstration that comes with the package (src/crate_transformers/demo/) again.

    python scripts/make_demo.py --root FOLDER [--runs FOLDER]

FOLDER holds torchvision's FashionMNIST; it is downloaded there where it is missing. On two CPU cores it takes about an
hour. Runs that are finished are taken as they are, those that were cut off go on.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from crate_transformers.data import load_image_source
from crate_transformers.data.text import load_text_source
from crate_transformers.files import give_usual_modes
from crate_transformers.models.opening import open_model

DEMO = Path(__file__).resolve().parents[1] / "src" / "crate_transformers" / "demo"
COMMANDS = {
    "fashion": ["fashion"],
    "fashion-vit": ["fashion", "--set", "model.family=vit", "--set", "train.learning_rate=0.001"],
    "fashion-mae": ["mae-fashion"],
    "python": ["clm-small"],
}
KEPT = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
A_CLASS = 4  # pictures of each class


def train(name: str, runs: Path, root: Path) -> Path:
    """Train one of the models, and give the folder of its run."""
    output = runs / name
    data = [] if name == "python" else ["--set", f"data.root={root}"]
    command = [sys.executable, "-m", "crate_transformers", "train", *COMMANDS[name], *data]
    subprocess.run([*command, "--output", str(output), "--resume"], check=True)
    return output


def ship(name: str, run: Path) -> None:
    """Copy a model into the package, its weights in float16, its recipe without the folder of this machine."""
    folder = DEMO / name
    shutil.rmtree(folder, ignore_errors=True)
    open_model(run, None).half().save_pretrained(folder)
    for file in KEPT[1:]:
        if (run / file).is_file():
            shutil.copyfile(run / file, folder / file)
    lines = (run / "recipe.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.strip().startswith("root:")]
    command = " ".join(["crate", "train", *COMMANDS[name]])
    (folder / "recipe.yaml").write_text(f"# {command}\n" + "".join(kept), encoding="utf-8")
    shutil.copyfile(run / "metrics.json", folder / "metrics.json")
    give_usual_modes(folder)


def ship_pictures(root: Path) -> None:
    """The first pictures of each class of the test part, class by class, on one sheet."""
    splits = load_image_source("torchvision:FashionMNIST", root=root, validation_fraction=0.05)
    test = splits.test
    chosen = [int(i) for place in range(A_CLASS) for i in _nth_of_each(np.asarray(test.labels), place)]
    tiles = [np.asarray(test.read(i, 1)) for i in chosen]
    rows = [np.concatenate(tiles[start : start + 10], axis=1) for start in range(0, len(tiles), 10)]
    Image.fromarray(np.concatenate(rows)).save(DEMO / "pictures.png", optimize=True)
    labels = [splits.classes[test.labels[i]] for i in chosen]
    (DEMO / "pictures.json").write_text(json.dumps({"labels": labels, "of_test": chosen}), encoding="utf-8")


def _nth_of_each(labels: np.ndarray, place: int) -> list[int]:
    return [int(np.flatnonzero(labels == label)[place]) for label in np.unique(labels)]


def ship_texts() -> None:
    """The first sentences of the paragraphs of the test part."""
    splits = load_text_source("python-reference", 0.05, 0.05, 0, "text", False)
    paragraphs = [" ".join(part.split()) for text in splits.test.pieces() for part in text.split("\n\n")]
    found = [part[: part.find(". ") + 1] for part in paragraphs if 60 < part.find(". ") < 300 and part[0].isupper()]
    (DEMO / "texts.json").write_text(json.dumps(found[:24], indent=0, ensure_ascii=False), encoding="utf-8")


def main() -> None:
    """Train what is missing, and write the package's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/demo"))
    parser.add_argument("--only", choices=COMMANDS, help="make one of the models alone")
    arguments = parser.parse_args()
    for name in [arguments.only] if arguments.only else COMMANDS:
        ship(name, train(name, arguments.runs, arguments.root))
    ship_pictures(arguments.root)
    ship_texts()


if __name__ == "__main__":
    main()
