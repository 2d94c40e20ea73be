"""The figures of the site, drawn by the library on the models and pictures that come with it.

    python docs/figures.py FOLDER       all figures of the site
    python docs/figures.py --readme     the README's picture, docs/pictures/, which is kept in the repository

Each figure is a function of no argument that returns a matplotlib figure; it is drawn twice, for light and dark pages.
Nothing is drawn from a generator that is not seeded here, and the files carry no date.
"""

import hashlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import evidence_figures
import matplotlib
import matplotlib.patches
import numpy as np
import torch
from matplotlib.figure import Figure

from crate_transformers import demo
from crate_transformers.analysis import film_of_token, measure_half_steps, measure_layers, trace
from crate_transformers.configuration.blocks import COMPRESSIONS, SPARSIFICATIONS
from crate_transformers.configuration.published import PUBLISHED
from crate_transformers.objective import coding_rate, sparsity, subspace_coding_rate
from crate_transformers.ops.cbsa.equation import extraction, representatives
from crate_transformers.ops.mssa.equation import attention, mssa
from crate_transformers.ops.tssa.equation import memberships
from crate_transformers.report.colors import BLUE, GREEN, ORANGE, RED, SKY
from crate_transformers.report.layers import layers_figure

SCHEMES = {"light": "#1f2328", "dark": "#d8dee4"}  # the ink; the page shows through
CLASSES = ("Bag", "Trouser", "Ankle boot", "Coat")
LAYER = 4  # whose maps are shown: the second-to-last of six
_FONT = 9


@cache
def _shown(name: str) -> tuple[Any, torch.Tensor, list[np.ndarray]]:
    """A demonstration's model, the input of four pictures of different classes, the pictures as arrays."""
    demonstration = demo.load(name)
    demonstration.model.set_attn_implementation("eager")  # which gives the maps
    shown = dict(zip(demonstration.pictures.labels, demonstration.pictures.images, strict=True))  # one a class
    pictures = [shown[label] for label in CLASSES]
    pixels = torch.cat([demonstration.processor(picture, return_tensors="pt")["pixel_values"] for picture in pictures])
    return demonstration.model, pixels, [np.asarray(picture) for picture in pictures]


@cache
def _all_pixels(name: str) -> torch.Tensor:
    demonstration = demo.load(name)
    images = demonstration.pictures.images
    return torch.cat([demonstration.processor(image, return_tensors="pt")["pixel_values"] for image in images])


def _axes(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, np.asarray(figure.subplots(rows, columns, squeeze=False))


def _picture(axis: Any, values: np.ndarray, title: str = "", cmap: str = "gray", **limits: Any) -> None:
    axis.imshow(values, cmap=cmap, **limits)
    axis.set_xticks([])
    axis.set_yticks([])
    if title:
        axis.set_title(title, fontsize=_FONT)


def _curve_axis(axis: Any, label: str, across: str = "layer") -> None:
    axis.set_xlabel(across, fontsize=_FONT)
    axis.set_ylabel(label, fontsize=_FONT)
    axis.tick_params(labelsize=_FONT - 1)
    axis.grid(alpha=0.25)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


# -- the objective ----------------------------------------------------------------------------------------------------


def objective() -> Figure:
    """Tokens in the plane near two lines: as they come, compressed to the lines, turned so that the lines are axes."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.tensor([20.0, 75.0]).deg2rad()
    lines = torch.stack([angles.cos(), angles.sin()], dim=-1)  # two unit vectors, U_1 and U_2
    along = torch.randn(2, 40, 1, generator=generator)
    noise = 0.28 * torch.randn(2, 40, 2, generator=generator)
    compressed = along * lines[:, None] + 0.05 * noise
    turned = compressed @ torch.linalg.inv(lines)  # takes the lines to the axes
    turned = torch.where(turned.abs() > 0.06, turned, 0.0)
    states = (
        ("tokens as they come", along * lines[:, None] + noise, lines),
        ("compressed", compressed, lines),
        ("compressed and sparse", turned, torch.eye(2)),
    )
    figure, panels = _axes(1, 3, 9.0, 3.7)
    for panel, (title, groups, bases) in zip(panels[0], states, strict=True):
        for group, base, color in zip(groups, bases, (BLUE, RED), strict=True):
            panel.axline((0, 0), tuple(base.tolist()), color=color, linewidth=0.8, alpha=0.6)
            panel.scatter(*group.T.numpy(), s=9, color=color, linewidths=0)
        panel.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")
        panel.set_xticks([])
        panel.set_yticks([])
        tokens = groups.flatten(0, 1)
        panel.set_title(
            f"{title}\nall tokens {coding_rate(tokens):.1f} nats, a group {coding_rate(groups).mean():.1f} nats\n"
            f"{sparsity(tokens):.0%} of the entries are not zero",
            fontsize=_FONT,
        )
    return figure


def objective_by_layer() -> Figure:
    """R, R^c and the objective of the demonstration by layer."""
    measures = measure_layers(_shown("fashion")[0], _all_pixels("fashion"))
    figure, panels = _axes(1, 3, 9.0, 2.9)
    for panel, column, label, color in (
        (panels[0, 0], "rate_mean", "R (nats)", GREEN),
        (panels[0, 1], "coding_rate_mean", "R^c (nats)", BLUE),
        (panels[0, 2], "rate_reduction_mean", "ΔR = R - R^c (nats)", ORANGE),
    ):
        panel.plot(getattr(measures, column), color=color, marker="o", markersize=4)
        _curve_axis(panel, label)
    return figure


# -- compression ------------------------------------------------------------------------------------------------------


def compression() -> Figure:
    """Where the class token looks in each head, and what the step does to R^c."""
    model, pixels, pictures = _shown("fashion")
    record = trace(model, pixels, ("attention",))
    maps = record.layers[LAYER].get("attention")[:, :, 0, 1:].unflatten(-1, record.grid)  # (B, K, rows, columns)
    heads = maps.shape[1]
    figure, panels = _axes(3, 1 + heads, 1.35 * (1 + heads), 4.3)
    for row in range(3):
        _picture(panels[row, 0], pictures[row], "picture" if row == 0 else "")
        for head in range(heads):
            _picture(panels[row, 1 + head], maps[row, head].numpy(), f"head {head}" if row == 0 else "", "viridis")
    return figure


def compression_rate() -> Figure:
    """R^c before and after the step that compresses, layer by layer, in the paper's measure and the public script's."""
    figure, panels = _axes(1, 2, 8.0, 3.0)
    for panel, mode in zip(panels[0], ("official", "paper"), strict=True):
        rate = measure_half_steps(_shown("fashion")[0], _all_pixels("fashion"), mode=mode).of("coding_rate")
        layers = np.arange(len(rate))
        panel.bar(layers - 0.2, rate[:, 0], 0.38, color=SKY, label="before")
        panel.bar(layers + 0.2, rate[:, 1], 0.38, color=BLUE, label="after")
        _curve_axis(panel, "R^c (nats)")
        panel.set_title(f"mode {mode}", fontsize=_FONT)
        panel.legend(frameon=False, fontsize=_FONT - 1)
    return figure


# -- sparsification ---------------------------------------------------------------------------------------------------


def sparsification() -> Figure:
    """All tokens of a picture before the step and after it, and the objective of further steps on one of them."""
    model, pixels, _ = _shown("fashion")
    record = trace(model, pixels[:1], ("tokens", "half_tokens", "codes"))
    layer = record.layers[LAYER]
    before, after = layer.get("half_tokens")[0].numpy(), layer.get("codes")[0].numpy()
    film = film_of_token(model, record, LAYER, 25, 20)
    figure = Figure(figsize=(9.0, 3.1), layout="constrained")
    panels = figure.subplots(1, 3)
    most, highest = np.quantile(np.abs(before), 0.99), np.quantile(after, 0.99)
    _picture(panels[0], before, "Z_half: tokens x channels", "RdBu_r", vmin=-most, vmax=most, aspect="auto")
    _picture(
        panels[1],
        after,
        f"the code: {np.mean(after > 0):.0%} are not zero",
        "viridis",
        vmin=0,
        vmax=highest,
        aspect="auto",
    )
    panels[2].plot(film.objective, color=RED, marker="o", markersize=3)
    panels[2].axvline(film.taken, color="gray", linewidth=0.8, linestyle=":")
    _curve_axis(panels[2], "½‖x - Dz‖² + λ‖z‖₁", "steps (the layer takes one)")
    return figure


def sparsity_by_layer() -> Figure:
    """The fraction of entries that are not zero, by layer."""
    measures = measure_layers(_shown("fashion")[0], _all_pixels("fashion"))
    figure, panels = _axes(1, 1, 5.4, 2.9)
    panels[0, 0].plot(measures.nonzero_fraction_mean, color=RED, marker="o", markersize=4)
    _curve_axis(panels[0, 0], "fraction of non-zero entries")
    return figure


# -- the layer --------------------------------------------------------------------------------------------------------


def ladder() -> Figure:
    """Three points a layer: before, compressed, sparsified."""
    steps = measure_half_steps(_shown("fashion")[0], _all_pixels("fashion"))
    places = (np.arange(len(steps.values))[:, None] + np.array([0.0, 0.33, 0.66])).ravel()
    figure, panels = _axes(1, 2, 9.0, 3.2)
    for panel, column, label in (
        (panels[0, 0], "coding_rate", "R^c under the layer's U (nats)"),
        (panels[0, 1], "nonzero_fraction", "fraction of non-zero entries"),
    ):
        values = steps.of(column)
        for layer in range(len(values)):
            panel.plot(places.reshape(-1, 3)[layer], values[layer], color="gray", linewidth=0.9)
        for point, (name, color) in enumerate((("before", SKY), ("compressed", BLUE), ("sparsified", RED))):
            panel.plot(places.reshape(-1, 3)[:, point], values[:, point], "o", color=color, markersize=5, label=name)
        _curve_axis(panel, label)
    panels[0, 0].legend(frameon=False, fontsize=_FONT - 1)
    return figure


# -- the README -------------------------------------------------------------------------------------------------------


def readme() -> Figure:
    """Where the class token looks, and what each half-step does to the objective: a picture that a white box allows."""
    model, pixels, pictures = _shown("fashion")
    maps = trace(model, pixels, ("attention",)).layers[LAYER].get("attention")[:, :, 0, 1:].unflatten(-1, (7, 7))
    steps = measure_half_steps(model, _all_pixels("fashion"))
    figure = Figure(figsize=(10.0, 3.0), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.0, 1.15))
    heads = (0, 1, 3, 4)
    panels = np.asarray(left.subplots(3, 1 + len(heads)))
    for row in range(3):
        _picture(panels[row, 0], pictures[row], "input" if row == 0 else "")
        for column, head in enumerate(heads):
            title = f"head {head}" if row == 0 else ""
            _picture(panels[row, 1 + column], maps[row, head].numpy(), title, "viridis")
    rates, sparse = right.subplots(1, 2)
    _half_steps(rates, steps.of("coding_rate"), "Rᶜ: what the subspaces cost (nats)")
    _half_steps(sparse, steps.of("nonzero_fraction"), "fraction of non-zero entries")
    right.legend(*rates.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=_FONT)
    return figure


def _half_steps(axis: Any, values: np.ndarray, label: str) -> None:
    """Three points a layer, joined: as it comes, after it compressed, after it sparsified."""
    places = np.arange(len(values))[:, None] + np.array([0.0, 0.33, 0.66])
    axis.plot(places.ravel(), values.ravel(), color="gray", linewidth=0.7)
    for point, (name, color) in enumerate((("layer's input", SKY), ("compressed", BLUE), ("sparsified", RED))):
        axis.plot(places[:, point], values[:, point], "o", color=color, markersize=5, label=name)
    _curve_axis(axis, label)


# -- the autoencoder --------------------------------------------------------------------------------------------------


def autoencoder() -> Figure:
    """A picture, what the autoencoder is shown of it, what it makes of that."""
    model, pixels, pictures = _shown("fashion-mae")
    patch, grid = model.config.patch_size, model.config.patch_grid
    noise = torch.rand(len(pixels), model.config.num_patches, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = model(pixels, noise=noise)
    hidden = output.mask.unflatten(1, grid).repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    patches = output.logits.unflatten(1, grid).unflatten(-1, (patch, patch, -1))  # (B, rows, columns, h, w, C)
    rebuilt = patches.permute(0, 1, 3, 2, 4, 5).flatten(1, 2).flatten(2, 3)[..., 0]
    own = pixels[:, 0]
    composite = torch.where(hidden.bool(), rebuilt, own)
    low, high = own.min().item(), own.max().item()
    figure, panels = _axes(3, 4, 5.6, 4.4)
    for column in range(4):
        _picture(panels[0, column], pictures[column])
        _picture(panels[1, column], np.ma.masked_where(hidden[column].numpy() > 0, own[column].numpy()))
        _picture(panels[2, column], composite[column].numpy(), vmin=low, vmax=high)
    for row, name in enumerate(("picture", "shown", "rebuilt")):
        panels[row, 0].set_ylabel(name, fontsize=_FONT)
    return figure


def autoencoder_rate() -> Figure:
    """R^c through the encoder and the decoder."""
    model, pixels = _shown("fashion-mae")[0], _all_pixels("fashion-mae")
    encoder = measure_layers(model, pixels, part="encoder").coding_rate_mean
    decoder = measure_layers(model, pixels, part="decoder").coding_rate_mean
    figure, panels = _axes(1, 1, 6.4, 2.9)
    axis = panels[0, 0]
    axis.plot(range(len(encoder)), encoder, color=BLUE, marker="o", markersize=4, label="encoder")
    later = range(len(encoder), len(encoder) + len(decoder))
    axis.plot(later, decoder, color=RED, marker="s", markersize=4, label="decoder")
    _curve_axis(axis, "R^c (nats)", "layer of the encoder, then of the decoder")
    axis.legend(frameon=False, fontsize=_FONT - 1)
    return figure


# -- the other operators ----------------------------------------------------------------------------------------------


def operators() -> Figure:
    """The four maps on one picture: three operators on the same projected tokens, and the baseline's attention."""
    model, pixels, pictures = _shown("fashion")
    record = trace(model, pixels[:1], ("projections",))
    projected = record.layers[LAYER].get("projections")  # W (1, K, N, p)
    by_token = projected.transpose(1, 2)  # (1, N, K, p)
    heads, width = projected.shape[1], projected.shape[3]
    asked = attention(projected, projected, None, width**-0.5, causal=False)[0, :, 0, 1:]
    belongs = memberships(by_token, torch.full((heads, 1), 10.0))[0, 1:].T
    pooled = extraction(by_token, representatives(by_token, (3, 3)))  # A (1, K, m, N)
    shared = (pooled.mT @ pooled)[0, :, 0, 1:]
    baseline, own_pixels, _ = _shown("fashion-vit")
    dense = trace(baseline, own_pixels[:1], ("attention",)).layers[LAYER].get("attention")[0, :, 0, 1:]
    rows = (("mssa", asked), ("tssa", belongs), ("cbsa", shared), ("mhsa", dense))
    most = max(len(maps) for _, maps in rows)
    figure, panels = _axes(4, 1 + most, 1.3 * (1 + most), 5.4)
    for row, (name, maps) in enumerate(rows):
        _picture(panels[row, 0], pictures[0])
        panels[row, 0].set_ylabel(name, fontsize=_FONT)
        for head in range(most):
            if head < len(maps):
                _picture(panels[row, 1 + head], maps[head].unflatten(0, record.grid).numpy(), cmap="viridis")
                if row == 0:
                    panels[row, 1 + head].set_title(f"head {head}", fontsize=_FONT)
            else:
                panels[row, 1 + head].set_visible(False)
    return figure


# -- how to -----------------------------------------------------------------------------------------------------------


def _models_by_place() -> dict[tuple[str, str], list[str]]:
    """(compression, sparsification) -> the published models that stand there, "name, year"; and transformers' ViT."""
    places: dict[tuple[str, str], list[str]] = {("mhsa", "mlp"): ["ViT, 2020"]}
    for one in PUBLISHED:
        config = one.config()
        places.setdefault((config.compression, config.sparsification), []).append(f"{one.name}, {one.year}")
    return places


def grid() -> Figure:
    """The family as a grid: who compresses (rows) by who sparsifies (columns), and the published models at each place.

    A place is filled in the colour of what compression costs in tokens; one without a published model is empty.
    """
    costs = {"mssa": ("N²", BLUE), "tssa": ("N", GREEN), "cbsa": ("N m", ORANGE), "mhsa": ("N²", BLUE)}
    words = {
        "mssa": "attention within\nsubspaces",
        "tssa": "second moments\nof soft groups",
        "cbsa": "by way of m\nrepresentatives",
        "mhsa": "ordinary\nattention",
    }
    titles = {"ista": "ista\nsparse codes in a dictionary", "mlp": "mlp\ntwo maps and gelu", "none": "none\nnothing"}
    places, rows, columns = _models_by_place(), list(COMPRESSIONS), list(SPARSIFICATIONS)
    ink = matplotlib.rcParams["text.color"]
    figure, panels = _axes(1, 1, 9.0, 5.4)
    axis = panels[0, 0]
    for column, sparsification in enumerate(columns):
        axis.text(column + 0.5, -0.12, titles[sparsification], ha="center", va="bottom", fontsize=_FONT + 1)
        for row, compression in enumerate(rows):
            models = places.get((compression, sparsification), [])
            cost, color = costs[compression]
            box = matplotlib.patches.FancyBboxPatch(
                (column + 0.06, row + 0.06), 0.88, 0.88, boxstyle="round,pad=0,rounding_size=0.07",
                facecolor=(color, 0.22 if models else 0.0), edgecolor=(color, 1.0) if models else (ink, 0.3),
                linewidth=1.2 if models else 0.8, linestyle="-" if models else (0, (4, 3)),
            )  # fmt: skip
            axis.add_patch(box)
            axis.text(
                column + 0.5, row + 0.5, "\n".join(models) or "builds and trains,\nno published model", ha="center",
                va="center", fontsize=_FONT if models else _FONT - 1, alpha=1.0 if models else 0.55, linespacing=1.3,
            )  # fmt: skip
    for row, compression in enumerate(rows):
        cost, color = costs[compression]
        axis.text(-0.62, row + 0.33, compression, ha="left", va="center", fontsize=_FONT + 1)
        axis.text(-0.62, row + 0.62, words[compression], ha="left", va="center", fontsize=_FONT - 1, alpha=0.75)
        axis.text(len(columns) + 0.05, row + 0.5, cost, ha="left", va="center", fontsize=_FONT + 2, color=color)
    axis.text(len(columns) + 0.05, -0.12, "cost in\ntokens", ha="left", va="bottom", fontsize=_FONT)
    axis.set(xlim=(-0.65, len(columns) + 0.4), ylim=(len(rows), -0.55))
    axis.axis("off")
    return figure


def figures_3_and_4() -> Figure:
    """What `crate inspect` writes as `layers`: the demonstration beside the ViT of its width and depth."""
    measures = {
        name: measure_layers(_shown(folder)[0], _all_pixels(folder))
        for name, folder in (("CRATE", "fashion"), ("ViT", "fashion-vit"))
    }
    return layers_figure(measures)


def paper_form() -> Figure:
    """The claim where the theory holds exactly: orthonormal subspaces; the step with its 1 - a, and without."""
    generator = torch.Generator().manual_seed(0)
    width, heads, num, step = 24, 4, 64, 0.1
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
    bases = basis.T.reshape(heads, width // heads, width)  # U_k^T, orthonormal
    start = torch.randn(num, width, generator=generator)
    figure, panels = _axes(1, 1, 6.4, 2.9)
    for keep, label, color in ((1 - step, "(1 - a) Z + a MSSA(Z)", BLUE), (1.0, "Z + a MSSA(Z)", ORANGE)):
        tokens, rates = start, []
        for _ in range(12):
            projected = torch.einsum("nd,kpd->knp", tokens, bases)
            rates.append(subspace_coding_rate(projected).item())
            tokens = keep * tokens + step * mssa(tokens[None], bases, basis)[0]
        panels[0, 0].plot(rates, color=color, marker="o", markersize=4, label=label)
    _curve_axis(panels[0, 0], "R^c (nats)", "steps, a = 0.1")
    panels[0, 0].legend(frameon=False, fontsize=_FONT - 1)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "objective": objective,
    "objective-by-layer": objective_by_layer,
    "compression": compression,
    "compression-rate": compression_rate,
    "paper-form": paper_form,
    "sparsification": sparsification,
    "sparsity-by-layer": sparsity_by_layer,
    "ladder": ladder,
    "autoencoder": autoencoder,
    "autoencoder-rate": autoencoder_rate,
    "operators": operators,
    "grid": grid,
    "figures-3-and-4": figures_3_and_4,
    **evidence_figures.FIGURES,
}


def draw_all(folder: Path) -> None:
    """Draw every figure as NAME-light.svg and NAME-dark.svg, unless the same scripts and results drew them already."""
    sources = (Path(__file__), Path(evidence_figures.__file__), evidence_figures.STORED)
    stamp = folder / "drawn-by"
    wanted = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    _draw(folder, FIGURES, "svg")
    stamp.write_text(wanted)


def _draw(folder: Path, figures: dict[str, Callable[[], Figure]], kind: str) -> None:
    """Each figure in each scheme, with no ground of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for scheme, ink in SCHEMES.items():
        names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
        colors = dict.fromkeys(names, ink)
        with matplotlib.rc_context({**colors, "axes.facecolor": "none", "svg.hashsalt": "site"}):
            for name, draw in figures.items():
                figure = draw()
                for part in (figure, *figure.subfigs):
                    part.patch.set_alpha(0)
                metadata = {"Date": None} if kind == "svg" else {"Software": None}
                figure.savefig(folder / f"{name}-{scheme}.{kind}", dpi=160, metadata=metadata)


if __name__ == "__main__":
    if sys.argv[1] == "--readme":
        _draw(Path(__file__).parent / "pictures", {"readme": readme}, "png")
    else:
        draw_all(Path(sys.argv[1]))
