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
# # The layers, measured
#
# CRATE is derived from an objective,
#
# $$\max\; R(Z) - R^c(Z; U_{1..K}) - \lambda \lVert Z \rVert_0,$$
#
# with $R(Z) = \tfrac12 \log\det(I + \tfrac{d}{N\varepsilon^2} Z^\top Z)$ and $R^c$ the sum of the same over the heads'
# subspaces. Each layer takes two half-steps: one is meant to lower $R^c$, one to raise $R - \lambda\lVert Z\rVert_0$. A
# white box can be asked whether it does. This notebook asks, and shows the steps that do not, too.

# %%
import matplotlib.pyplot as plt
import torch

from crate_transformers import CrateForImageClassification, demo
from crate_transformers.analysis import descent_angles, measure_half_steps, measure_layers, trace
from crate_transformers.objective import coding_rate, sparsity

shown = demo.load("fashion")
model = shown.model
pixels = torch.cat([shown.processor(image, return_tensors="pt")["pixel_values"] for image in shown.pictures.images])
torch.manual_seed(0)
untrained = CrateForImageClassification(model.config).eval()
models = {"trained": model, "untrained": untrained}

# %% [markdown]
# ## The figure of the papers
#
# $R^c$ and the fraction of non-zero entries after each layer, as in Figures 3 and 4 of
# [2306.01129](https://arxiv.org/abs/2306.01129): `mode="official"` measures as the public script does, `mode="paper"`
# as the page is written.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for name, net in models.items():
    measures = measure_layers(net, pixels)
    axes[0].errorbar(range(len(measures)), measures.coding_rate_mean, measures.coding_rate_std, marker="o", label=name)
    axes[1].errorbar(
        range(len(measures)), measures.nonzero_fraction_mean, measures.nonzero_fraction_std, marker="o", label=name
    )
axes[0].set(xlabel="layer", ylabel="R^c (nats)")
axes[1].set(xlabel="layer", ylabel="fraction of non-zero entries")
axes[0].legend(frameon=False)

# %% [markdown]
# ## The measures are functions of tensors
#
# Nothing is hidden in the figure: the tokens of a layer can be taken and measured by hand.

# %%
record = trace(model, pixels[:1], ("tokens", "half_tokens", "codes", "projections"))
layer = record.layers[3]
code = layer.get("codes")
print(f"R of layer 3's code: {coding_rate(code, epsilon=0.1).item():.1f} nats")
print(f"entries that are not zero: {sparsity(code).item():.1%}")
assert abs(sparsity(code).item() - (code != 0).double().mean().item()) < 1e-6

# %% [markdown]
# ## The ladder
#
# Three points a layer: as the tokens come, after they were compressed, after they were sparsified; $R^c$ is taken under
# the layer's own $U$ each time.

# %%
ladders = {name: measure_half_steps(net, pixels) for name, net in models.items()}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for axis, (name, ladder) in zip(axes, ladders.items(), strict=True):
    rate = ladder.of("coding_rate").numpy()
    for layer_number, (before, compressed, _) in enumerate(rate.tolist()):
        color = "tab:blue" if compressed < before else "tab:red"
        axis.annotate(
            "", (layer_number, compressed), (layer_number, before), arrowprops={"arrowstyle": "->", "color": color}
        )
    axis.plot(rate[:, 0], "o", color="gray", markersize=3)
    axis.set(
        title=name, xlabel="layer", ylabel="R^c before and after the compression", ylim=(rate.min() - 5, rate.max() + 5)
    )

for name, ladder in ladders.items():
    compresses, sparsifies = sum(ladder.compresses), sum(ladder.sparsifies)
    print(
        f"{name}: {compresses} of {len(ladder.compresses)} compressions lower R^c, "
        f"{sparsifies} of {len(ladder.sparsifies)} sparsifications raise R - lambda ||Z||_0"
    )

# %% [markdown]
# ## In which direction does a compression go?
#
# The step of the theory is minus the gradient of $R^c$. The angle between that and the step that was taken is 0 degrees
# for steepest descent, 90 for a step that changes nothing to first order, more for one that climbs.

# %%
for name, net in models.items():
    records = ("tokens", "half_tokens", "compression_inputs", "projections")
    angles = descent_angles(net, trace(net, pixels[:8], records))
    print(
        name,
        [
            f"{angle:.0f}"
            for angle in torch.as_tensor(angles).float().reshape(len(net.crate.layers), -1).mean(-1).tolist()
        ],
    )

# %% [markdown]
# **What one sees.** Every sparsification of the trained model raises its half of the objective. Of its compressions,
# some lower $R^c$ and some raise it: LayerNorm, a learned output projection and a finite step stand between the
# derivation and the network. That is not a fault of the measure; the paper's own form of the step, with orthonormal
# bases and a small step, lowers $R^c$ (it is a test of this library).

# %%
trained = ladders["trained"]
assert all(trained.sparsifies)
assert 0 < sum(trained.compresses) < len(trained.compresses)
