"""ToST and CBT beside their equations written plainly: time, memory in training, time a token, growth with the picture.

    python benchmarks/family.py [--repetitions 15] [--threads 2]

Both sides run in one process, in turns; medians of the ratio with their quartiles. On stdout, one JSON object.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from crate_transformers import (
    CrateForImageClassification,
    CrateVisionConfig,
    TostConfig,
    TostForCausalLM,
    TostForImageClassification,
    TostVisionConfig,
)
from crate_transformers.ops import use_forms
from crate_transformers.planning.step import LiveBytes

CHOICES = ("equation", "all")


def seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def in_turns(run: Callable[[], Any], repetitions: int) -> dict[str, Any]:
    """Median seconds of each side, and of the ratio equation / all with its quartiles."""
    times: dict[str, list[float]] = {choice: [] for choice in CHOICES}
    for repetition in range(repetitions + 1):
        for choice in CHOICES if repetition % 2 else reversed(CHOICES):
            with use_forms(choice):
                took = seconds(run)
            if repetition:  # the first one warms up
                times[choice].append(took)
    ratios = [plain / fast for plain, fast in zip(*times.values(), strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    found = {f"seconds_{choice}": statistics.median(times[choice]) for choice in CHOICES}
    return {**found, "ratio": middle, "quartiles": [low, high]}


def vision(name: str, image_size: int = 224) -> torch.nn.Module:
    torch.manual_seed(0)
    if name == "tost":
        return TostForImageClassification(TostVisionConfig.from_size("small", num_labels=1000))
    size = {"cbt": "cbt-small", "crate": "small"}[name]
    return CrateForImageClassification(CrateVisionConfig.from_size(size, num_labels=1000, image_size=image_size))


def step(model: torch.nn.Module, images: torch.Tensor) -> None:
    model.zero_grad()
    model(images, labels=torch.zeros(len(images), dtype=torch.long)).loss.backward()


def kept_bytes(model: TostForCausalLM, ids: torch.Tensor) -> int:
    """Bytes that the graph of one forward keeps for its backward pass, each storage once, without the parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model.crate(ids).last_hidden_state.sum()
        total = sum(storages.values())
    del loss
    return total


def peak_bytes(model: TostForCausalLM, ids: torch.Tensor) -> int:
    """The most bytes of a forward and backward pass that are alive at once, beside the weights."""
    model.zero_grad()
    with LiveBytes() as live:
        live.add([*model.parameters(), *model.buffers()])
        weights = live.peak
        model.crate(ids).last_hidden_state.sum().backward()
    return live.peak - weights


@torch.no_grad()
def decoding(lengths: tuple[int, ...], repetitions: int) -> dict[str, Any]:
    """Milliseconds a token, and bytes of the state, after so many tokens, in two layers of ToST-base."""
    model = TostForCausalLM(
        TostConfig.from_size("base", num_hidden_layers=2, max_position_embeddings=max(lengths) + 64)
    ).eval()
    found = {}
    for length in lengths:
        cache, left = None, length
        while left:
            piece = torch.randint(2, 50_000, (1, min(left, 4096)))
            cache, left = (
                model(piece, past_key_values=cache, use_cache=True, logits_to_keep=1).cache,
                left - piece.shape[1],
            )
        token = torch.tensor([[5]])
        times = [seconds(lambda: model(token, past_key_values=cache, use_cache=True)) for _ in range(repetitions)]  # noqa: B023
        state = sum(tensor.numel() * 4 for layer in cache.layers for tensor in layer.statistics)
        found[str(length)] = {"milliseconds": 1000 * statistics.median(times), "bytes": state}
    return found


@torch.no_grad()
def growth(name: str, sides: tuple[int, ...]) -> dict[str, Any]:
    """Seconds of one picture by its number of patches, and the exponent of their growth between the ends."""
    found = {}
    for side in sides:
        model = vision(name, side * 16).eval()
        image = torch.randn(1, 3, side * 16, side * 16)
        model(image)
        found[side * side] = statistics.median(seconds(lambda: model(image)) for _ in range(5))  # noqa: B023
    (few, fast), *_, (many, slow) = found.items()
    exponent = torch.tensor([slow / fast, many / few]).log()
    return {"seconds": found, "exponent": (exponent[0] / exponent[1]).item()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images, result = torch.randn(16, 3, 224, 224), {}
    for name in ("tost", "cbt"):
        model = vision(name).eval()
        with torch.no_grad():
            result[f"{name} inference"] = in_turns(lambda: model(images), options.repetitions)  # noqa: B023
        model.train()
        result[f"{name} training"] = in_turns(lambda: step(model, images), options.repetitions // 2 + 1)  # noqa: B023
    language = TostForCausalLM(TostConfig.from_size("base", num_hidden_layers=2))
    ids = torch.randint(2, 50_000, (1, 1024))
    whole = TostForCausalLM(TostConfig.from_size("base"))
    measures = {
        "text, bytes kept in training at 1,024 tokens": lambda: kept_bytes(language, ids),
        "text, peak of a step of ToST-base at 1,024 tokens, bytes": lambda: peak_bytes(whole, ids),
    }
    for name, measure in measures.items():
        found = {}
        for choice in CHOICES:
            with use_forms(choice):
                found[choice] = measure()
        result[name] = {**found, "ratio": found["all"] / found["equation"]}
    result["text, decoding"] = decoding((128, 1024, 8192, 100_000), 40)
    for name in ("tost", "cbt", "crate"):
        result[f"{name} growth"] = growth(name, (14, 28, 56))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
