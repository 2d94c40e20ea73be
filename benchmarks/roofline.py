"""How far the classifiers are from what their operators allow on this machine: inference and training step.

    python benchmarks/roofline.py [--sizes tiny small base] [--batch 16] [--repetitions 7] [--budget 120] [--output DIR]

Times each operator that a layer cannot do without, torch's and the library's attention, on the layer's shapes, in the
same rounds as the model, its public formulation and a ViT of the same width and depth. `floor` is the sum over all
layers, of the last one only what the class token, the one that is read, needs of the others: no change of the
library's Python can go below it. `reachable` is another model's time over that floor; `reached` is that over our
model's. The floor leaves out patches, positions, head and loss, so what is reachable is a little less. Torch's own
attention and product are timed beside, and not counted. Both are given from medians, and from the fastest repetition
of each: on a shared machine that is the one that others disturbed least.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from crate_transformers import CrateVisionConfig
from crate_transformers.bench import interleave
from crate_transformers.bench.contenders import Case, build
from crate_transformers.bench.machine import describe_machine, load_average, matrix_product
from crate_transformers.files import write_bytes
from crate_transformers.layers.attention_names import sdpa_attention
from crate_transformers.ops import linear, rectified_linear
from crate_transformers.ops.ista.descent_matrix import descent_matrix
from crate_transformers.report.writing import write_json

TOKENS = 197


def operators(config: CrateVisionConfig, batch: int, training: bool) -> dict[str, tuple[int, Callable[[], Any]]]:
    """The operators of the layers: how often each is used, and a run of it on inputs of its shapes.

    Tokens are rows (B N, d). In training a run is the operator and its gradients.
    """
    width, heads = config.hidden_size, config.num_attention_heads
    x, weight, bias = torch.randn(batch * TOKENS, width), torch.randn(width, width), torch.randn(width)
    projected = torch.randn(batch, TOKENS, heads, width // heads).transpose(1, 2)
    scale = (width // heads) ** -0.5

    def run(forward: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], Any]:
        if not training:
            return lambda: forward(*inputs)
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        above = torch.ones_like(forward(*inputs))

        def forward_and_backward() -> Any:
            with torch.enable_grad():
                output = forward(*leaves)
            return torch.autograd.grad(output, leaves, above)

        return forward_and_backward

    def attend(tokens: Tensor) -> Tensor:
        return sdpa_attention(torch.nn.Identity(), tokens, tokens, tokens, None, scaling=scale)[0]

    def attend_by_torch(tokens: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(tokens, tokens, tokens, scale=scale)

    def ista(tokens: Tensor, step: Tensor) -> Tensor:
        return rectified_linear(tokens, step.mT, tokens.new_full((width,), -0.01))

    layers = config.num_hidden_layers
    whole = layers - 1  # the last makes the class token alone
    return {
        "LayerNorm": (
            whole + layers,
            run(lambda x, scale, shift: F.layer_norm(x, (width,), scale, shift), x, bias, bias),
        ),
        "projection to the subspaces": (whole, run(linear, x, weight)),
        "projection by torch": (0, run(F.linear, x, weight)),
        "attention": (whole, run(attend, projected)),
        "attention by torch": (0, run(attend_by_torch, projected)),
        "output projection": (whole, run(linear, x, weight, bias)),
        "sum of tokens and update": (whole * (1 + training), lambda: x + x),  # of two gradients in the backward pass
        "D - D^T D": (whole, run(descent_matrix, weight)),
        "ISTA product and relu": (whole, run(ista, x, weight)),
    }


def against_floor(times: dict[str, float], counts: dict[str, int]) -> dict[str, Any]:
    """The floor in seconds, and what was reached and is reachable against the two other models."""
    floor = sum(count * times[name] for name, count in counts.items())
    others = {name: times[name] for name in ("public", "vit")}
    return {
        "floor_s": floor,
        "reached": {name: time / times["crate"] for name, time in others.items()},
        "reachable": {name: time / floor for name, time in others.items()},
    }


def measure(size: str, batch: int, training: bool, repetitions: int, budget: float) -> dict[str, Any]:
    """One row of the results."""
    config = CrateVisionConfig.from_size(size)
    parts = operators(config, batch, training)
    case = Case(task="vision", size=size, batch=batch, training=training)
    models = {name: build(name, case).run for name in ("crate", "public", "vit")}
    product, operations = matrix_product()
    runs = {name: run for name, (_, run) in parts.items()}
    timings = interleave({**models, **runs, "matrix product": product}, repetitions, budget=budget)
    counts = {name: count for name, (count, _) in parts.items()}
    medians = {name: timing.median for name, timing in timings.items()}
    least = {name: timing.least for name, timing in timings.items()}
    rate = operations / timings["matrix product"].median
    passes = 3 if training else 1  # but two for the ISTA matrix
    whole = counts["attention"]
    rows = 3 * batch * TOKENS * passes + config.hidden_size * min(passes, 2)
    products = whole * config.hidden_size**2 * rows * 2
    projection = passes * 2 * batch * TOKENS * config.hidden_size**2
    attention = passes * 4 * batch * TOKENS**2 * config.hidden_size  # of one layer
    return {
        "size": size,
        "batch": batch,
        "what": "training step" if training else "inference",
        "load_average": load_average(),
        "matrix_rate_gflops": rate / 1e9,
        "torch_projection_rate_gflops": projection / timings["projection by torch"].median / 1e9,
        "attention_rate_gflops": attention / timings["attention"].median / 1e9,
        "torch_attention_rate_gflops": attention / timings["attention by torch"].median / 1e9,
        "products_at_the_matrix_rate_s": products / rate,
        "attention_at_the_matrix_rate_s": whole * attention / rate,
        "repetitions": len(timings["crate"].seconds),
        "median_s": medians,
        "least_s": least,
        "by_median": against_floor(medians, counts),
        "by_least": against_floor(least, counts),
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "# The floor that the operators set, and what was reached",
        "",
        "`python benchmarks/roofline.py`; every row was timed in rounds of its own. `reachable` is the other model's",
        "time over the floor of our operators, `reached` its time over our model's; by medians, and by the fastest",
        "repetition of each.",
        "",
        "| | rounds | our model, floor, s | against public: reached / reachable | against ViT | "
        "fastest: our model, floor, s | public | ViT | "
        "matrix rate, GFLOP/s | torch's product | attention | torch's attention |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row['size']}, {row['what']}, batch {row['batch']}", str(row["repetitions"])]
        for times, floor in ((row["median_s"], row["by_median"]), (row["least_s"], row["by_least"])):
            cells.append(f"{times['crate']:.3f}, {floor['floor_s']:.3f}")
            cells += [f"{floor['reached'][name]:.2f} / {floor['reachable'][name]:.2f}" for name in ("public", "vit")]
        names = ("matrix", "torch_projection", "attention", "torch_attention")
        rates = [f"{name}_rate_gflops" for name in names]
        lines.append(f"| {' | '.join(cells + [f'{row[rate]:.0f}' for rate in rates])} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small", "base"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds a row, after which no new round starts")
    parser.add_argument("--output", type=Path, default=None)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    for size in arguments.sizes:
        for training in (False, True):
            with torch.set_grad_enabled(training):
                rows.append(measure(size, arguments.batch, training, arguments.repetitions, arguments.budget))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
            if arguments.output is not None:
                write_json(arguments.output / "roofline.json", {"machine": describe_machine(), "rows": rows})
                write_bytes(arguments.output / "roofline.md", table(rows).encode())


if __name__ == "__main__":
    main()
