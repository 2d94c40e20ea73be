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
# with the coding rate $R(Z) = \tfrac12 \log\det(I + \tfrac{d}{N\varepsilon^2} Z^\top Z)$ and the rate within the heads'
# subspaces $R^c(Z; U) = \sum_k \tfrac12 \log\det(I + \tfrac{p}{N\varepsilon^2} (U_k^\top Z)^\top (U_k^\top Z))$.
# Each layer takes two half-steps. One is meant to lower $R^c$, one to raise $R - \lambda\lVert Z\rVert_0$. A white box
# can be asked whether it does. This notebook asks a trained network and, beside it, three with random weights: what
# random weights do too is not learnt.

# %%
import matplotlib.pyplot as plt
import torch

from crate_transformers import CrateForImageClassification, demo
from crate_transformers.analysis import descent_angles, measure_half_steps, measure_layers, trace
from crate_transformers.objective import coding_rate, sparsity, subspace_coding_rate
from crate_transformers.ops import attend

shown = demo.load("fashion")
model = shown.model
pixels = torch.cat([shown.processor(image, return_tensors="pt")["pixel_values"] for image in shown.pictures.images])


def untrained(seed: int) -> CrateForImageClassification:
    torch.manual_seed(seed)
    return CrateForImageClassification(model.config).eval()


UNTRAINED, MODES = [f"untrained {seed}" for seed in range(3)], ("official", "paper")
models = {"trained": model} | {name: untrained(seed) for seed, name in enumerate(UNTRAINED)}
styles = {name: {"color": "tab:gray", "alpha": 0.7} for name in UNTRAINED} | {"trained": {"color": "tab:blue"}}

# %% [markdown]
# ## The figures of the papers, read in two ways
#
# Figures 3 and 4 of [2306.01129](https://arxiv.org/abs/2306.01129) show $R^c$ and the fraction of non-zero entries by
# layer. The page speaks of $Z^{\ell+1/2}$, the tokens after the compression, as they are: `mode="paper"`. The public
# script measures $\mathrm{LN}(Z^\ell)$, what goes *into* the compression, with every projected token scaled to length
# 1: `mode="official"`. The code, and so its sparsity, is the same in both.

# %%
measures = {(name, mode): measure_layers(net, pixels, mode=mode) for name, net in models.items() for mode in MODES}
columns = {"coding_rate": "$R^c$ (nats)", "rate": "$R$ (nats)", "rate_reduction": r"$\Delta R = R - R^c$ (nats)"}
columns["nonzero_fraction"] = "fraction of non-zero entries"
figure, axes = plt.subplots(2, 4, figsize=(12, 5), layout="constrained", sharex=True)
for row, mode in zip(axes, MODES, strict=True):
    row[0].set_ylabel(f"mode {mode}")
    for axis, (column, title) in zip(row, columns.items(), strict=True):
        for name in models:
            mean, std = (getattr(measures[name, mode], f"{column}_{of}") for of in ("mean", "std"))
            axis.errorbar(range(len(mean)), mean, std, marker="o", markersize=4, label=name, **styles[name])
        axis.set_title(title)
for axis in axes[1]:
    axis.set_xlabel("layer")
_ = figure.legend(*axes[0, 0].get_legend_handles_labels(), frameon=False, loc="outside right center")

# %% [markdown]
# **What holds.** Read as the public script reads it, training lowers $R^c$ in every layer, and from the third layer on
# it falls from layer to layer. The code grows sparser down to the fourth layer.
#
# **What does not.** Read as the page is written, the trained network has *more* $R^c$ than random weights, in every
# layer, and less $\Delta R$: that reading is not invariant to the lengths of the tokens and of $U$. By the script's
# reading $\Delta R$ is below 0: every head's projections are scaled to length 1 anew, so that six heads hold six times
# the energy of the tokens that $R$ is of. Random weights make the code sparser, too. And the last layer's code is dense
# again: it is the one that the classifier reads.

# %%
rate = {key: torch.tensor(found.coding_rate_mean) for key, found in measures.items()}
reduction = {key: torch.tensor(found.rate_reduction_mean) for key, found in measures.items()}
nonzero = {name: torch.tensor(measures[name, "paper"].nonzero_fraction_mean) for name in models}
for name in UNTRAINED:
    assert (rate["trained", "official"] < rate[name, "official"]).all()
    assert (rate["trained", "paper"] > rate[name, "paper"]).all()
    assert (reduction["trained", "paper"] < reduction[name, "paper"]).all()
    assert (nonzero[name][:4].diff() < 0).all()
assert all((reduction[name, "official"] < 0).all() for name in models)
assert (rate["trained", "official"][2:].diff() < 0).all()
assert (nonzero["trained"][:4].diff() < 0).all()
assert nonzero["trained"][-1] > 1.5 * nonzero["trained"][3]

# %% [markdown]
# ## The measures are functions of tensors
#
# Nothing is hidden in the figure: the tokens of a layer can be taken and measured by hand.

# %%
record = trace(model, pixels, ("tokens", "half_tokens", "codes", "compression_inputs", "projections")).layers[3]
by_hand = subspace_coding_rate(record.get("projections"), epsilon=0.1, mode="official")  # (B,)
print(f"R^c of layer 3: {by_hand.mean():.3f} nats, in the figure {rate['trained', 'official'][3]:.3f}")
print(f"R of the code of layer 3: {coding_rate(record.get('codes'), epsilon=0.1).mean():.1f} nats")
kept = sparsity(record.get("codes")).mean()
print(f"entries that are not zero: {kept:.3f}, in the figure {nonzero['trained'][3]:.3f}")
assert abs(by_hand.mean() - rate["trained", "official"][3]) < 1e-2
assert abs(kept - nonzero["trained"][3]) < 1e-4

# %% [markdown]
# ## The ladder: does a compression compress?
#
# `measure_half_steps` measures three points of each layer, as the tokens come, after they were compressed, and after
# they were sparsified, all under the layer's own $U$. Below is what the compression changes in $R^c$; the theory wants
# it below 0.

# %%
ladders = {(name, mode): measure_half_steps(net, pixels, mode=mode) for name, net in models.items() for mode in MODES}


def step(name: str, mode: str, column: str, end: int) -> torch.Tensor:
    """What the half-step that ends at a point (1 compressed, 2 sparsified) changes in a measure, (L,)."""
    values = ladders[name, mode].of(column)
    return values[:, end] - values[:, end - 1]


figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.2), layout="constrained")
for axis, mode in zip(axes, MODES, strict=True):
    for name in models:
        axis.plot(step(name, mode, "coding_rate", 1), marker="o", label=name, **styles[name])
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set(title=f"mode {mode}", xlabel="layer", ylabel="$R^c$ after - before (nats)")
_ = figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside right center")
for mode in MODES:
    found = [layer for layer, done in enumerate(ladders["trained", mode].compresses) if done]
    print(f"mode {mode}: the compression of the trained model lowers R^c in layers {found} of 0 to 5")

# %% [markdown]
# Half of the steps or fewer compress, and no layer compresses by both readings. Random weights change $R^c$ by less
# than 2 nats, the trained ones by up to 15.

# %%
official, paper = (ladders["trained", mode].compresses for mode in MODES)
assert 0 < sum(official) <= 3
assert 0 < sum(paper) <= 3
assert not any(a and b for a, b in zip(official, paper, strict=True))
for mode in MODES:
    quiet = max(step(name, mode, "coding_rate", 1).abs().max().item() for name in UNTRAINED)
    assert quiet < 2 < 10 < step("trained", mode, "coding_rate", 1).abs().max()

# %% [markdown]
# ## In which direction does a compression go?
#
# A step may fail because it goes the wrong way, or because it goes the right way too far. The angle between the step
# taken, $Z^{\ell+1/2} - Z^\ell$, and steepest descent, $-\nabla_Z R^c$, tells: 0 degrees is steepest descent, 90 a step
# that changes nothing to first order, more an ascent. There are $N d = 4800$ directions: a step drawn at random lies
# within 2 degrees of 90, nearly always. Bars are from the least to the largest of the 40 pictures.

# %%
records = ("tokens", "half_tokens", "compression_inputs", "projections")
angles = {
    (name, mode): descent_angles(net, trace(net, pixels, records), mode=mode)  # (L, B)
    for name, net in models.items()
    for mode in MODES
}
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.2), layout="constrained", sharey=True)
for axis, mode in zip(axes, MODES, strict=True):
    for place, name in enumerate(models):
        found = angles[name, mode]
        mean = found.mean(1)
        spread = torch.stack([mean - found.amin(1), found.amax(1) - mean])
        layers = torch.arange(len(mean)) + 0.12 * place
        axis.errorbar(layers, mean, spread, fmt="o", markersize=4, label=name, **styles[name])
    axis.axhline(90, color="black", linewidth=0.8)
    axis.set(title=f"mode {mode}", xlabel="layer", ylabel="degrees from steepest descent")
_ = figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside right center")

# %% [markdown]
# By the page's reading the trained network goes downhill in every layer, a little below 90 degrees, on most pictures;
# random weights go either way. In the first layer and the last two $R^c$ rises all the same: the step is right to first
# order, and too long. By the script's reading the layers in the middle go uphill, on every picture.

# %%
assert (angles["trained", "paper"].mean(1) < 90).all()
assert (angles["trained", "paper"] < 90).float().mean() > 0.75
assert (angles["trained", "official"][1:5] > 90).all()
for name in UNTRAINED:
    mean = angles[name, "paper"].mean(1)
    assert (mean < 90).any()
    assert (mean > 90).any()
assert (step("trained", "paper", "coding_rate", 1)[[0, 4, 5]] > 0).all()

# %% [markdown]
# ## The step as it is derived
#
# The network's step has a LayerNorm before it and a learned output projection after it. The derivation has neither:
# with orthonormal bases $U = [U_1 \ldots U_K]$ it is
#
# $$Z \leftarrow (1 - a) Z + a \sum_k \mathrm{softmax}(W_k W_k^\top / \sqrt{p})\, W_k U_k^\top, \qquad W_k = Z U_k.$$
#
# Here it is on the same tokens, with the network's own bases made orthonormal.

# %%
K, P = model.config.num_attention_heads, model.config.head_dim
LENGTHS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
for number, traced in enumerate(trace(model, pixels, ("tokens",)).layers):
    tokens = traced.get("tokens_in").double()
    bases = torch.linalg.qr(
        model.crate.layers[number].compression.attention.subspaces.weight.detach().double().mT
    ).Q  # (d, K p)
    heads = (tokens @ bases).unflatten(-1, (K, P)).transpose(1, 2)  # W_k, (B, K, N, p)
    mixed = attend(heads, heads, heads, None, P**-0.5, causal=False).transpose(1, 2)  # (B, K, N, p)
    rates = torch.stack([subspace_coding_rate((1 - a) * heads + a * mixed) for a in LENGTHS])  # (lengths, B)
    axis.plot(LENGTHS, rates.mean(1), marker="o", label=f"layer {number}")
    assert (rates.diff(dim=0) < 0).all()  # on every picture, and the longer the step the lower
axis.set(xlabel="step $a$", ylabel="$R^c$ (nats)", ylim=0)
_ = figure.legend(frameon=False, loc="outside right center")

# %% [markdown]
# It lowers $R^c$ in every layer, on every picture, at every length. So the measure is not at fault; LayerNorm, the
# learned projection and bases that overlap are what stands between the derivation and the network.

# %% [markdown]
# ## Does a sparsification sparsify?
#
# The other half-step should raise $R - \lambda\lVert Z\rVert_0$. It does, in every layer, and this proves little:

# %%
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.2), layout="constrained")
gains = {}
for name in models:
    ladder = ladders[name, "official"]
    counts = ladder.of("nonzero_fraction") * ladder.entries  # (L, 3)
    gains[name] = (step(name, "official", "rate", 2), -ladder.sparsity_weight * (counts[:, 2] - counts[:, 1]))
    for axis, gain in zip(axes, gains[name], strict=True):
        axis.plot(gain, marker="o", label=name, **styles[name])
    print(f"{name}: {sum(ladder.sparsifies)} of {len(ladder.sparsifies)} raise R - lambda ||Z||_0")
for axis, title in zip(axes, ("$R$", r"$-\lambda \Vert Z \Vert_0$"), strict=True):
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set(xlabel="layer", ylabel="gain of the step (nats)", title=title)
_ = figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside right center")

# %% [markdown]
# The tokens before the step have no entry that is exactly 0, and a ReLU makes thousands of them: a gain of 230 nats and
# more, with trained weights as with random ones. $R$ alone *falls* in the trained network's middle layers. That these
# steps do their part says that there is a ReLU, not that something was learnt. What is learnt shows in the official
# $R^c$ by layer, at the top of this page.

# %%
for name in models:
    expansion, zeros = gains[name]
    assert all(ladders[name, "official"].sparsifies)
    assert (ladders[name, "official"].of("nonzero_fraction")[:, 1] > 0.999).all()
    assert (zeros > 230).all()
    assert (expansion[2:5] < zeros[2:5] / 10).all()
assert (gains["trained"][0][2:5] < 0).all()
