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
# A folder of pictures, one sub-folder a class; a recipe; a run; its measures; a second run that starts from the first.
# Everything is written to a temporary folder. The pictures are scikit-learn's digits, written as PNG files, so that the
# notebook needs nothing from elsewhere: put your own folder in their place.

# %%
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image
from sklearn.datasets import load_digits
from transformers import pipeline

from crate_transformers.analysis import measure_layers
from crate_transformers.recipes import load_recipe
from crate_transformers.training import train

work = Path(tempfile.mkdtemp())
digits = load_digits()
for number, (picture, label) in enumerate(zip(digits.images, digits.target, strict=True)):
    folder = work / "pictures" / f"digit-{label}"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray((picture * 15.9).astype("uint8")).save(folder / f"{number:04}.png")
sorted(path.name for path in (work / "pictures").iterdir())[:3]

# %% [markdown]
# ## Train
#
# `digits` is the shipped recipe; every key can be changed, on the command line by `--set key=value`, here by a table.
# The same run as a command: `crate train digits --data imagefolder:PICTURES --set train.num_train_epochs=6 --output
# RUN`. Parts for validation and test are split off by fractions and a seed, because the folder has no `train` and
# `val`.

# %%
settings = {"data.source": f"imagefolder:{work / 'pictures'}", "train.num_train_epochs": 6, "train.eval_steps": 40}
result = train(load_recipe("digits", settings), work / "first")
print(json.dumps(result.metrics["test"], indent=2), sorted(path.name for path in (work / "first").iterdir()))

# %% [markdown]
# ## Use it
#
# The folder is a Hugging Face model with its image processor.

# %%
classify = pipeline("image-classification", model=str(work / "first"))
for path in sorted((work / "pictures" / "digit-3").iterdir())[:3]:
    best = classify(str(path))[0]
    print(path.name, best["label"], round(best["score"], 3))

# %% [markdown]
# ## Look inside
#
# What `crate inspect RUN --data imagefolder:PICTURES --output DIR` writes as a page, in three lines.

# %%
pixels = classify.image_processor(
    [Image.open(p).convert("RGB") for p in sorted(work.glob("pictures/*/*0.png"))], return_tensors="pt"
)
measures = measure_layers(classify.model, pixels["pixel_values"])
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
axes[0].plot(measures.coding_rate_mean, marker="o")
axes[0].set(xlabel="layer", ylabel="R^c (nats)")
axes[1].plot(measures.nonzero_fraction_mean, marker="o", color="tab:red")
axes[1].set(xlabel="layer", ylabel="fraction of non-zero entries")

# %% [markdown]
# ## Go on from it
#
# `model.from` starts at a saved model: here with other classes (even and odd), so the head is new and the run says so.

# %%
for path in work.glob("pictures/*/*.png"):
    parity = "even" if int(path.parent.name[-1]) % 2 == 0 else "odd"
    (work / "parity" / parity).mkdir(parents=True, exist_ok=True)
    (work / "parity" / parity / path.name).write_bytes(path.read_bytes())
settings = {
    "data.source": f"imagefolder:{work / 'parity'}",
    "model.from": str(work / "first"),
    "train.num_train_epochs": 2,
    "train.warmup_epochs": 0,
    "train.learning_rate": 0.001,
}
tuned = train(load_recipe("digits", settings), work / "second", on_note=print)
print("accuracy:", tuned.metrics["test"]["accuracy"])

# %%
assert result.metrics["test"]["accuracy"] > 0.8
assert tuned.metrics["test"]["accuracy"] > 0.8
