"""How far the tiny, small or base classifier is from what torch's own operators allow on this machine (inference).

    python benchmarks/roofline.py [tiny|small|base] [--batch 16] [--repetitions 9] [--output FILE.json]

Times each operator that a layer cannot do without, on the layer's shapes, in the same rounds as the model and its
public formulation. `floor` is the sum over all layers: no change of the library's Python can go below it. `reachable`
is the public formulation's median over that floor, the ratio that a perfect library would show; `reached` is ours.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from crate_transformers import CrateForImageClassification, CrateVisionConfig
from crate_transformers.analysis.output import write_json
from crate_transformers.bench import interleave, ratio
from crate_transformers.bench.machine import describe_machine, load_average, matrix_product
from crate_transformers.bench.public_formulation import from_library

TOKENS = 197


def operators(config: CrateVisionConfig, batch: int) -> dict[str, Callable[[], Any]]:
    """The operators of one layer, on inputs of its shapes: tokens are rows (B N, d)."""
    width, heads = config.hidden_size, config.num_attention_heads
    x, weight, bias = torch.randn(batch * TOKENS, width), torch.randn(width, width), torch.randn(width)
    projected = x.view(batch, TOKENS, heads, -1).transpose(1, 2)
    scale = (width // heads) ** -0.5
    return {
        "two LayerNorms": lambda: [F.layer_norm(x, (width,), bias, bias) for _ in range(2)],
        "projection to the subspaces": lambda: F.linear(x, weight),
        "attention": lambda: F.scaled_dot_product_attention(projected, projected, projected, scale=scale),
        "output projection": lambda: F.linear(x, weight, bias),
        "sum of tokens and update": lambda: x + x,
        "D - D^T D": lambda: torch.addmm(weight, weight.mT, weight, alpha=-1),
        "ISTA product and relu": lambda: F.relu(F.linear(x, weight, bias), inplace=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="?", default="tiny")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--output", type=Path, default=None)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_grad_enabled(False)

    config = CrateVisionConfig.from_size(arguments.size, num_labels=1000)
    ours = CrateForImageClassification(config).eval()
    public = from_library(ours)
    images = torch.randn(arguments.batch, 3, 224, 224)
    parts = operators(config, arguments.batch)
    product, operations = matrix_product()
    timings = interleave(
        {"crate": lambda: ours(images), "public": lambda: public(images), **parts, "matrix product": product},
        arguments.repetitions,
    )
    layers, rate = config.num_hidden_layers, operations / timings["matrix product"].median
    floor = layers * sum(timings[name].median for name in parts)
    products = layers * config.hidden_size**2 * (3 * arguments.batch * TOKENS + config.hidden_size) * 2
    attention = layers * 4 * arguments.batch * TOKENS**2 * config.hidden_size
    record = {
        "machine": describe_machine(),
        "load_average": load_average(),
        "size": arguments.size,
        "batch": arguments.batch,
        "matrix_rate_gflops": rate / 1e9,
        "attention_rate_gflops": attention / layers / timings["attention"].median / 1e9,
        "seconds_of_products_at_the_matrix_rate": products / rate,
        "seconds_of_attention_at_the_matrix_rate": attention / rate,
        "median_s": {name: timing.median for name, timing in timings.items()},
        "floor_s": floor,
        "reached": ratio(timings["public"], timings["crate"]).value,
        "reachable": timings["public"].median / floor,
    }
    for name in parts:
        print(f"{name}: {1e3 * timings[name].median:.2f} ms a layer")
    print(f"model {timings['crate'].median:.3f} s, floor of its operators {floor:.3f} s")
    print(f"against the public formulation: reached {record['reached']:.2f}x, reachable {record['reachable']:.2f}x")
    if arguments.output is not None:
        write_json(arguments.output, record)
        print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
