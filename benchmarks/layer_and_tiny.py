"""Layer and tiny classifier against the public three-product formulation: inference and training step, eager.

    python benchmarks/layer_and_tiny.py [--batch 16] [--repetitions 9] [--threads 2] [--output FILE.json]

Both sides have the same weights, run in the same process, in rounds that rotate; the ratio is of medians. Asked for at
224 px and batch 16: at least 1.7x in inference and 1.4x in training.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from crate_transformers import CrateForImageClassification, CrateVisionConfig
from crate_transformers.bench import interleave, ratio
from crate_transformers.bench.machine import describe_machine, load_average
from crate_transformers.bench.public_formulation import from_library
from crate_transformers.report.writing import write_json


def inference(run: Callable[[Tensor], Tensor], inputs: Tensor) -> Callable[[], None]:
    def once() -> None:
        with torch.no_grad():
            run(inputs)

    return once


def training(run: Callable[[Tensor], Tensor], inputs: Tensor, module: nn.Module) -> Callable[[], None]:
    def once() -> None:
        module.zero_grad()
        run(inputs).square().mean().backward()

    return once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--output", type=Path, default=None)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    ours = CrateForImageClassification(CrateVisionConfig.from_size("tiny", num_labels=1000))
    public = from_library(ours)
    images = torch.randn(arguments.batch, 3, 224, 224)
    tokens = torch.randn(arguments.batch, 197, ours.config.hidden_size)
    sides = {
        "layer": (ours.crate.layers[0], public.layers[0], tokens),
        "tiny": (ours, public, images),
    }
    record = {"machine": describe_machine(), "load_average": load_average(), "batch": arguments.batch, "results": {}}
    for name, (library, formulation, inputs) in sides.items():
        run = (lambda x: ours(x).logits) if name == "tiny" else library
        with torch.no_grad():
            difference = (run(inputs) - formulation(inputs)).abs().max().item()
        assert difference < 1e-4, difference  # tokens of a layer are of order 10
        for kind, wrap in (("inference", inference), ("training", training)):
            pair = {
                "crate": wrap(run, inputs) if kind == "inference" else wrap(run, inputs, library),
                "public": wrap(formulation, inputs) if kind == "inference" else wrap(formulation, inputs, formulation),
            }
            timings = interleave(pair, arguments.repetitions)
            gain = ratio(timings["public"], timings["crate"])
            medians = {side: timing.median for side, timing in timings.items()}
            record["results"][f"{name} {kind}"] = {"median_s": medians, "gain": [gain.value, gain.low, gain.high]}
            print(f"{name} {kind}: {medians['crate']:.4f} s, public {medians['public']:.4f} s, {gain}", flush=True)
    record["load_average_after"] = load_average()
    if arguments.output is not None:
        write_json(arguments.output, record)
        print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
