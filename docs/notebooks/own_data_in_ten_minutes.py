# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Own data in ten minutes
#
# A folder of pictures, one sub-folder a class; a recipe; a run; its measures; a look inside; a second run that starts
# from the first. Everything is written to a temporary folder. The pictures are scikit-learn's digits, written as PNG
# files, so that the notebook needs nothing from elsewhere: put your own folder in their place.

# %%
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image
from sklearn.datasets import load_digits
from transformers import pipeline

from crate_transformers.recipes import load_recipe
from crate_transformers.training import train

work = Path(tempfile.mkdtemp())
digits = load_digits()
parts = ["train", "train", "train", "validation", "test"]  # of every five pictures


def write_folder(name: str, label_of) -> Path:
    """FOLDER/PART/CLASS/NUMBER.png"""
    for number, (picture, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        file = work / name / parts[number % 5] / label_of(digit) / f"{number:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture * 15.9).astype("uint8")).save(file)
    return work / name


pictures = write_folder("pictures", lambda digit: f"digit-{digit}")
for part in sorted(pictures.iterdir()):
    print(part.name, len(list(part.rglob("*.png"))), "pictures in", len(list(part.iterdir())), "classes")

# %% [markdown]
# A folder with `train` and `validation` and `test` is read as it is divided. A folder that has the classes at once is
# divided by fractions and a seed.
#
# ## Train
#
# `digits` is the shipped recipe; every key can be changed, on the command line by `--set key=value`, here by a table.
# The same run as a command: `crate train digits --data imagefolder:PICTURES --set train.num_train_epochs=8 --output
# RUN`.

# %%
settings = {"data.source": f"imagefolder:{pictures}", "train.num_train_epochs": 8, "train.eval_steps": 40}
result = train(load_recipe("digits", settings), work / "first")
print(json.dumps(result.metrics["test"], indent=2))
print(sorted(path.name for path in (work / "first").iterdir()))

# %% [markdown]
# `report.html` holds the curves; it is one file. The folder is a Hugging Face model with its image processor.

# %%
classify = pipeline("image-classification", model=str(work / "first"))
for path in sorted((pictures / "test" / "digit-3").iterdir())[:3]:
    best = classify(str(path))[0]
    print(path.name, best["label"], round(best["score"], 3))

# %% [markdown]
# ## Evaluate
#
# A single accuracy hides how sure it is and which classes fail. `crate evaluate RUN` knows from the run's recipe what
# the data were; it writes tables on a terminal and JSON elsewhere.


# %%
def crate(*words: str | Path) -> str:
    """What a command prints; the same as `crate WORDS` in a terminal."""
    command = [sys.executable, "-m", "crate_transformers", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


measured = json.loads(crate("evaluate", work / "first"))
low, high = measured["intervals"]["accuracy"]
print(f"accuracy {measured['accuracy']:.3f} on {measured['images']} pictures, interval {low:.3f} to {high:.3f}")
print(f"calibration error {measured['expected_calibration_error']:.3f}, Brier score {measured['brier']:.3f}")
accuracies = {entry["class"]: entry["accuracy"] for entry in measured["per_class"]}
figure, axis = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
axis.bar(range(len(accuracies)), list(accuracies.values()), tick_label=list(accuracies))
axis.tick_params(axis="x", rotation=40)
axis.set(ylabel="accuracy", ylim=(0, 1))
assert abs(measured["accuracy"] - result.metrics["test"]["accuracy"]) < 1e-6
assert low < measured["accuracy"] < high

# %% [markdown]
# The model is right more often than it is sure: it was trained for a few epochs, with labels smoothed by 0.1.
#
# ## Look inside
#
# `crate inspect` writes figures, a table, and a page that can be clicked (`report.html`). Say with `--data` what to
# look at: without it, that is the built-in digits.

# %%
source = f"imagefolder:{pictures}"
print(crate("inspect", work / "first", "--data", source, "--limit", "60", "--output", work / "inside").splitlines()[0])
for name in ("layers.png", "attention.png"):
    display(Image.open(work / "inside" / name).convert("RGB").reduce(2))  # noqa: F821 (a notebook's own)

# %% [markdown]
# ## Go on from it
#
# `model.from` starts at a saved model. Here the same pictures have other classes, even and odd, so the head is new, and
# the run says so. Every picture stays in its part: the first run saw none of the pictures on which the second is
# tested. A run from random weights, otherwise the same, stands beside it.

# %%
parity = write_folder("parity", lambda digit: "even" if digit % 2 == 0 else "odd")
short = {
    "data.source": f"imagefolder:{parity}",
    "train.num_train_epochs": 2,
    "train.warmup_epochs": 0,
    "train.learning_rate": 0.001,
}
tuned = train(load_recipe("digits", {**short, "model.from": str(work / "first")}), work / "tuned")
fresh = train(load_recipe("digits", short), work / "fresh")
for name, run in (("from the first run", tuned), ("from random weights", fresh)):
    print(f"{name:20} accuracy {run.metrics['test']['accuracy']:.3f}")

# %%
tested = {path.name for path in (parity / "test").rglob("*.png")}
assert tested.isdisjoint(path.name for path in (pictures / "train").rglob("*.png"))
assert tested.isdisjoint(path.name for path in (pictures / "validation").rglob("*.png"))
assert result.metrics["test"]["accuracy"] > 0.85
assert tuned.metrics["test"]["accuracy"] > fresh.metrics["test"]["accuracy"] + 0.1
