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
# # Masked autoencoding
#
# A CRATE autoencoder ([2404.02446](https://arxiv.org/abs/2404.02446)) sees a quarter of the patches and rebuilds the
# rest. Its decoder's layers are the encoder's turned round: $X = A\,\mathrm{LN}(Y)$, then $Y_{next} = X -
# \mathrm{MSSA}(\mathrm{LN}(X))$, minus where the encoder has plus. This notebook masks, rebuilds, measures against
# guesses that need no network, and decodes what lies between two pictures, with the demonstration that comes with the
# package.

# %%
import matplotlib.pyplot as plt
import torch

from crate_transformers import demo

shown = demo.load("fashion-mae")
model = shown.model
pixels = torch.cat([shown.processor(image, return_tensors="pt")["pixel_values"] for image in shown.pictures.images])
patches = model.patchify(pixels)  # (B, N, h w C)
assert not model.config.norm_pix_loss  # so the model predicts pixels as they are
print(tuple(pixels.shape), tuple(patches.shape), f"trained with {model.config.mask_ratio:.0%} hidden")

# %% [markdown]
# ## Mask and rebuild
#
# `noise` decides which patches stay: those of lowest noise. The same noise gives the same mask. The model returns the
# predicted patches (`logits`) and the mask, 1 where a patch was hidden.


# %%
def rebuilt(hide: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(patches as predicted (B, N, h w C), whether each was hidden (B, N))."""
    noise = torch.rand(patches.shape[:2], generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        output = model(pixels, noise=noise, mask_ratio=hide)
    return output.logits, output.mask.bool()


def show(rows: dict[str, torch.Tensor]) -> None:
    """Pictures (n, C, H, W), a row a name."""
    count = len(next(iter(rows.values())))
    _, axes = plt.subplots(len(rows), count, figsize=(1.1 * count, 1.15 * len(rows)), layout="constrained")
    for row, (name, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture[0].numpy(), cmap="gray", vmin=patches.min(), vmax=patches.max())
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(name)


predicted, hidden = rebuilt(0.75)
panels = {
    "picture": patches,
    "shown": patches.masked_fill(hidden[..., None], patches.mean().item()),
    "rebuilt": torch.where(hidden[..., None], predicted, patches),
}
show({name: model.unpatchify(panel)[:8] for name, panel in panels.items()})

# %% [markdown]
# ## Is it better than a guess?
#
# Two guesses for a hidden patch. *The mean patch*: the mean of the shown patches of its picture. *The mean picture*:
# the mean of the other 39 pictures at its place, which knows that garments stand in the middle. A model that had only
# learnt where garments stand would be no better than the second.
#
# The error is the mean square over hidden pixels, $\frac{1}{|H|} \sum_{i \in H} \lVert \hat x_i - x_i \rVert^2$, of
# normalised pixels; three masks each.

# %%
others = (patches.sum(0) - patches) / (len(patches) - 1)
hide = (0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
table = torch.zeros(len(hide), 3, 3, dtype=torch.float64)  # ratios, masks, guesses
for i, ratio in enumerate(hide):
    for seed in range(3):
        predicted, hidden = rebuilt(ratio, seed)
        mean = (patches * ~hidden[..., None]).sum(1, keepdim=True) / (~hidden).sum(1)[:, None, None]
        for j, guess in enumerate((predicted, mean.expand_as(patches), others)):
            table[i, seed, j] = (guess - patches)[hidden].square().mean()
errors = table.mean(1)

figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
for j, name in enumerate(("CRATE autoencoder", "mean patch", "mean picture")):
    axis.errorbar(hide, errors[:, j], table[:, :, j].std(1), marker="o", label=name)
axis.axvline(model.config.mask_ratio, color="gray", linestyle=":", label="hidden in training")
axis.set(xlabel="share of the patches that is hidden", ylabel="error on the hidden ones", ylim=0)
_ = figure.legend(frameon=False, loc="outside right center")
for ratio, (own, mean, picture) in zip(hide, errors.tolist(), strict=True):
    print(f"hidden {ratio:.0%}: model {own:.2f}, mean patch {mean:.2f}, mean picture {picture:.2f}")

# %% [markdown]
# The model is better than both guesses at every share that was tried. Where most is hidden its lead shrinks: there is
# little left to go by. But it is also worse where *little* is hidden than where 60 % is: it was trained with three
# quarters hidden, and to be shown nearly everything is as unusual for it as to be shown nearly nothing.

# %%
assert (errors[:, 0] < errors[:, 1]).all()
assert (errors[:, 0] < errors[:, 2]).all()
assert (errors[:-2, 0] < 0.5 * errors[:-2, 2]).all()  # half of the better guess, up to 85 % hidden
assert 0.5 <= hide[errors[:, 0].argmin()] <= model.config.mask_ratio
assert errors[0, 0] > 1.2 * errors[:, 0].min()

# %% [markdown]
# ## Between two pictures
#
# The encoder's tokens of two pictures, $Z_0$ and $Z_1$, can be mixed and decoded: $x_t = \mathrm{decode}((1 - t) Z_0 +
# t Z_1)$. Both are masked with the same noise, as in training; the decoder was never shown a mixture. Beside it stands
# the double exposure $(1 - t) x_0 + t x_1$ of the two decoded ends, which mixes pixels.


# %%
def between(first: int, second: int, steps: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """(decoded mixtures of tokens, mixtures of the decoded ends), patches (steps, N, h w C) each."""
    share = torch.linspace(0, 1, steps)[:, None, None]
    noise = torch.rand(1, patches.shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ends = [model.crate(pixels[[n]], noise=noise, mask_ratio=0.75).last_hidden_state for n in (first, second)]
        decoded = model.decoder((1 - share) * ends[0] + share * ends[1]).last_hidden_state
    return decoded, (1 - share) * decoded[:1] + share * decoded[-1:]


for pair in ((1, 8), (0, 5)):
    decoded, exposed = between(*pair)
    show({"tokens mixed": model.unpatchify(decoded), "pixels mixed": model.unpatchify(exposed)})

# %% [markdown]
# Where tokens are mixed the ghost of the weaker picture is fainter, but it is there. A number says how far the two rows
# are apart: halfway, the distance of the decoded mixture from the double exposure as a share of the distance between
# the ends. 0 is a decoder that is linear along this line.

# %%
bends = []
for first in range(0, 20, 2):
    decoded, exposed = between(first, 39 - first)
    bends.append(((decoded - exposed).norm(dim=(1, 2)) / (decoded[0] - decoded[-1]).norm())[3].item())
print(f"halfway, ten pairs: {min(bends):.2f} to {max(bends):.2f}, mean {sum(bends) / len(bends):.2f}")

# %% [markdown]
# So the tokens of this small model do *not* form a space in which a trouser turns into a bag by way of garments.
# Between two pictures lies their double exposure, but for a quarter or so of their distance. The loss asks for no more.

# %%
assert 0.1 < min(bends) < max(bends) < 0.35
