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
# \mathrm{MSSA}(\mathrm{LN}(X))$, minus where the encoder has plus. This notebook masks, rebuilds and measures with
# the demonstration that comes with the package.

# %%
import matplotlib.pyplot as plt
import torch

from crate_transformers import demo

shown = demo.load("fashion-mae")
model = shown.model
pixels = torch.cat([shown.processor(image, return_tensors="pt")["pixel_values"] for image in shown.pictures.images])

# %% [markdown]
# ## Mask and rebuild
#
# `noise` decides which patches stay: those of lowest noise. The same noise gives the same mask. The model returns the
# predicted patches (`logits`); with `norm_pix_loss`, as here or not, each is normalised by the mean and deviation of
# the true patch, which is undone below.


# %%
def rebuilt(kept: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(patches of the pictures, patches as predicted, (B, N) whether a patch was hidden), with a share of them kept."""
    noise = torch.rand(len(pixels), model.config.num_patches, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        output = model(pixels, noise=noise, mask_ratio=1 - kept)
    patches, predicted = model.patchify(pixels), output.logits
    if model.config.norm_pix_loss:
        deviation = (patches.var(-1, keepdim=True) + 1e-6).sqrt()
        predicted = predicted * deviation + patches.mean(-1, keepdim=True)
    return patches, predicted, output.mask.bool()


patches, predicted, hidden = rebuilt(0.25)
panels = {
    "picture": patches,
    "shown": patches.masked_fill(hidden[..., None], patches.min().item()),
    "rebuilt": torch.where(hidden[..., None], predicted, patches),
}
figure, axes = plt.subplots(3, 8, figsize=(8.5, 3.4), layout="constrained")
for row, (name, shown_patches) in zip(axes, panels.items(), strict=True):
    for axis, picture in zip(row, model.unpatchify(shown_patches)[::5], strict=True):
        axis.imshow(picture[0].numpy(), cmap="gray", vmin=patches.min(), vmax=patches.max())
        axis.set_xticks([])
        axis.set_yticks([])
    row[0].set_ylabel(name)

# %% [markdown]
# ## Is it better than a guess?
#
# The plainest guess for a hidden patch is the mean of the shown patches of its picture. A model that learnt nothing
# about garments can reach that.


# %%
def errors(kept: float) -> tuple[float, float]:
    """Mean squared error on the hidden patches: (of the model, of the mean of the shown patches)."""
    patches, predicted, hidden = rebuilt(kept)
    mean = (patches * ~hidden[..., None]).sum(1, keepdim=True) / (~hidden).sum(1)[:, None, None]
    guess = mean.expand_as(patches)
    return ((predicted - patches)[hidden] ** 2).mean().item(), ((guess - patches)[hidden] ** 2).mean().item()


shares = (0.1, 0.25, 0.4, 0.6, 0.8)
found = [errors(kept) for kept in shares]
figure, axis = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
axis.plot(shares, [model_error for model_error, _ in found], marker="o", label="CRATE autoencoder")
axis.plot(shares, [guess for _, guess in found], marker="s", label="mean of the shown patches")
axis.set(xlabel="share of the patches that is shown", ylabel="error on the hidden ones", ylim=0)
axis.legend(frameon=False)
for kept, (model_error, guess) in zip(shares, found, strict=True):
    print(f"shown {kept:.0%}: model {model_error:.3f}, mean patch {guess:.3f}, ratio {model_error / guess:.2f}")

# %% [markdown]
# The model halves the error of the guess at every share. It is best near the quarter that it was trained with: to be
# shown much more is as unusual for it as to be shown much less.

# %%
assert all(model_error < 0.5 * guess for model_error, guess in found[1:])
assert min(found) == found[1] or min(found) == found[2]

# %% [markdown]
# ## Between two pictures
#
# The encoder's tokens of two pictures can be mixed and decoded. Beside it stands the double exposure that the same
# mixture of pixels is. The decoder was never shown such tokens.

# %%
first, second, shares = pixels[4:5], pixels[12:13], torch.linspace(0, 1, 6)[:, None, None]
with torch.no_grad():
    tokens = [model.crate(picture).last_hidden_state for picture in (first, second)]
    decoded = model.decoder((1 - shares) * tokens[0] + shares * tokens[1]).last_hidden_state
mixed = {
    "pixels mixed": (1 - shares[..., None]) * first + shares[..., None] * second,
    "tokens mixed": model.unpatchify(decoded),
}
figure, axes = plt.subplots(2, 6, figsize=(8, 2.8), layout="constrained")
for row, (name, pictures) in zip(axes, mixed.items(), strict=True):
    for axis, picture in zip(row, pictures, strict=True):
        axis.imshow(picture[0].numpy(), cmap="gray", vmin=patches.min(), vmax=patches.max())
        axis.set_xticks([])
        axis.set_yticks([])
    row[0].set_ylabel(name)
