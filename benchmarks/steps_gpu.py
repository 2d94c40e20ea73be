"""A training step in several forms on one GPU: precision, compiler, kernels, weights sharded by FSDP2.

    python benchmarks/steps_gpu.py --output FOLDER [--sizes tiny base] [--batch 128] [--steps 20] [--device cpu]

Forward, backward and AdamW of an image classifier on random pictures of 224 pixels; FSDP2 with one process, which shows
what its wrapping costs and that its numbers are the same. Median milliseconds of a step, images a second, peak memory
above nothing, and the loss after the same steps. Writes steps.json.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import torch
from torch import distributed
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from crate_transformers import CrateForImageClassification, CrateVisionConfig
from crate_transformers.bench.machine import describe_machine
from crate_transformers.report.writing import write_json

FORMS = (
    "float32", "bf16", "bf16 mssa", "bf16 checkpointed", "fsdp2", "bf16 compiled", "bf16 mssa compiled",
)  # fmt: skip


def made(size, form, device):
    """(model, optimizer) in a form; weights of one seed."""
    torch.manual_seed(0)
    model = CrateForImageClassification(CrateVisionConfig.from_size(size, num_labels=1000)).to(device).train()
    words = form.split()
    if "mssa" in words:
        model.set_attn_implementation("mssa")
    if "checkpointed" in words:
        (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()
    if "fsdp2" in words:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        for layer in model.crate.layers:
            fully_shard(layer, mp_policy=policy)
        fully_shard(model, mp_policy=policy)
    if "compiled" in words:
        model.compile()
    return model, torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device == "cuda")


def finish(device):
    if device == "cuda":
        torch.cuda.synchronize()


def measure(size, form, batch, steps, device):
    """A row: what a step takes."""
    model, optimizer = made(size, form, device)
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(batch, 3, 224, 224, generator=generator).to(device)
    labels = torch.randint(0, 1000, (batch,), generator=generator).to(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds, began = [], time.perf_counter()
    for step in range(steps + 3):  # the first ones compile and warm up
        started = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=form.startswith("bf16")):
            loss = model(pixel_values=pixels, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        finish(device)
        if step == 0:
            first = time.perf_counter() - began
        if step >= 3:
            seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    return {
        "size": size,
        "form": form,
        "batch": batch,
        "step_ms": 1e3 * median,
        "images_a_second": batch / median,
        "first_step_s": first,
        "peak_MiB": torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None,
        "loss": loss.item(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "base"])
    parser.add_argument("--forms", nargs="+", default=list(FORMS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    os.environ.setdefault("MASTER_ADDR", "localhost")
    os.environ.setdefault("MASTER_PORT", "29517")
    backend = "nccl" if options.device == "cuda" else "gloo"
    distributed.init_process_group(backend, rank=0, world_size=1)
    record = {"machine": describe_machine(), "rows": []}
    for size in options.sizes:
        for form in options.forms:
            record["rows"].append(measure(size, form, options.batch, options.steps, options.device))
            print(record["rows"][-1], flush=True)
            write_json(options.output / "steps.json", record)  # a run that is cut off keeps what it measured
            torch._dynamo.reset()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
