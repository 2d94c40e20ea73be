"""One run on 1, 2 and 4 processes, by DDP and by FSDP2, never stopped or resumed elsewhere: how far apart it ends.

    python benchmarks/topologies.py --output FOLDER

Four small kinds of run in float32, on CPUs (gloo), one thread each, at one global batch: plain with an average of
the weights, a stem with BatchNorms, a masked autoencoder, and self-distillation with its teacher. Of each:

* never stopped, on every topology, against one process
* killed by SIGKILL after its first checkpoint, resumed on the same topology, against never stopped: to the last bit
* killed so on one topology and resumed on another one, against one process

A distance is the largest absolute difference of any weight or buffer of the model that the run keeps. It grows with the
steps, as what rounding changes does in any training.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

TOPOLOGIES = {"1": (1, False), "DDP 2": (2, False), "FSDP2 2": (2, True), "DDP 4": (4, False), "FSDP2 4": (4, True)}
RESUMED = (("FSDP2 2", "DDP 2"), ("DDP 2", "FSDP2 2"), ("FSDP2 2", "1"), ("1", "FSDP2 4"), ("FSDP2 4", "DDP 2"))
_BATCH, _STEPS, _EVERY = 64, 15, 5
_COMMON = {
    "model.hidden_size": 24,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 3,
    "train.max_steps": _STEPS,
    "train.eval_steps": _EVERY,
    "train.save_steps": _EVERY,
    "train.save_total_limit": 20,
    "train.load_best_model_at_end": False,
}
_STEM = {"model.patch_embedding": "conv_stem", "model.image_size": 16, "model.patch_size": 8}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain, EMA": ("digits", {**_COMMON, "train.ema_decay": 0.9}),
    "BatchNorm, EMA": ("digits", {**_COMMON, **_STEM, "train.ema_decay": 0.9}),
    "masked autoencoder": ("mae-digits", _COMMON),
    "self-distillation": ("simdino-digits", {**_COMMON, "train.head_hidden_size": 24}),
}
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(kind: str, folder: Path, topology: str) -> list[str]:
    recipe, settings = KINDS[kind]
    processes, shared = TOPOLOGIES[topology]
    own = {"train.per_device_train_batch_size": _BATCH // processes, "train.fsdp": shared}
    sets = [part for key, value in {**settings, **own}.items() for part in ("--set", f"{key}={value}")]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    start = [sys.executable, *launcher, "-m", "crate_transformers", "train", recipe]
    return [*start, "--output", str(folder), *sets, "--resume"]


def run(line: list[str]) -> None:
    done = subprocess.run(line, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def kill(line: list[str], folder: Path) -> None:
    """Kill the main process of a run after its first checkpoint, and keep that alone."""
    process = subprocess.Popen(line, env=_ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (folder / "checkpoints" / f"checkpoint-{_EVERY}").is_dir():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    os.kill(json.loads((folder / ".lock").read_text())["process"], signal.SIGKILL)
    process.wait(120)
    for path in (folder / "checkpoints").iterdir():
        if path.name != f"checkpoint-{_EVERY}":
            shutil.rmtree(path)


def settle(folder: Path, processes: int) -> None:
    """Let a run that was begun with other processes ask for its first batch again: the checkpoint says how many."""
    text = (folder / "recipe.yaml").read_text(encoding="utf-8").splitlines()
    key = "per_device_train_batch_size"
    changed = [line.split(key)[0] + f"{key}: {_BATCH // processes}" if key in line else line for line in text]
    (folder / "recipe.yaml").write_text("\n".join(changed) + "\n", encoding="utf-8")


def distance(a: Path, b: Path) -> float:
    ours, theirs = (load_file(path / "model.safetensors") for path in (a, b))
    assert ours.keys() == theirs.keys()
    return max(float((ours[name].double() - theirs[name].double()).abs().max()) for name in ours)


def measure(kind: str, root: Path) -> dict[str, Any]:
    whole: dict[str, Path] = {}
    found: dict[str, Any] = {"never stopped": {}, "same topology": {}, "resumed": {}}
    for topology in TOPOLOGIES:
        whole[topology] = root / f"{kind} {topology}"
        run(command(kind, whole[topology], topology))
        found["never stopped"][topology] = distance(whole["1"], whole[topology])
        print(kind, topology, found["never stopped"][topology], flush=True)
    for first, then in [*((name, name) for name in TOPOLOGIES), *RESUMED]:
        folder = root / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        kill(command(kind, folder, first), folder)
        settle(folder, TOPOLOGIES[then][0])
        run(command(kind, folder, then))
        if first == then:
            found["same topology"][first] = distance(whole[first], folder)
        else:
            found["resumed"][f"{first} -> {then}"] = distance(whole["1"], folder)
        print(kind, first, "->", then, distance(whole[first], folder), distance(whole["1"], folder), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--output", type=Path, default=None, help="a folder for topologies.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = {kind: measure(kind, Path(folder)) for kind in arguments.kinds}
    print(json.dumps(rows, indent=1))
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        content = {"torch": torch.__version__, "global_batch": _BATCH, "steps": _STEPS, "kinds": rows}
        (arguments.output / "topologies.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    unequal = [kind for kind, found in rows.items() if any(found["same topology"].values())]
    sys.exit(bool(unequal))


if __name__ == "__main__":
    main()
