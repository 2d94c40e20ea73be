"""Runs killed at random moments and resumed: weights and figures must be those of a run that was never stopped.

    python benchmarks/kills.py --kills 60 --output FOLDER

Five kinds of run in turn, each small: plain, with EMA, with loader workers, masked autoencoder, self-distillation. A
run is killed by SIGKILL, with its worker processes, at a random moment: after a checkpoint that is drawn (or the first
step), and a part of the time to the next one that is drawn too; so it may be in a step, an evaluation, a save, or at
the end. It is resumed by the same command with --resume. Every weight must be equal to the last bit, every figure of
metrics.json but times too. One thread each, so that sums are taken in one order.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

TIMES = ("seconds", "samples_per_second", "data_wait_fraction", "checkpoint_wait_seconds")
_SMALL = {
    "model.hidden_size": 24,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 3,
    "train.per_device_train_batch_size": 64,
    "train.max_steps": 60,
    "train.eval_steps": 10,
    "train.logging_steps": 7,
}
_PLAIN = {**_SMALL, "data.crop": "pad", "train.mixup_alpha": 0.5, "model.hidden_dropout_prob": 0.1}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("digits", _PLAIN),
    "ema": ("digits", {**_PLAIN, "train.ema_decay": 0.9}),
    "workers": ("digits", {**_PLAIN, "train.dataloader_num_workers": 2}),
    "masked autoencoder": ("mae-digits", {**_SMALL, "train.warmup_epochs": 0.5}),
    "self-distillation": (
        "dino-digits",
        {**_SMALL, "train.max_steps": 30, "train.prototypes": 16, "train.head_hidden_size": 24},
    ),
}
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(kind: str, folder: Path, *more: str) -> list[str]:
    recipe, settings = KINDS[kind]
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "crate_transformers", "train", recipe, "--output", str(folder), *sets, *more]


def start(line: list[str]) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(line, env=_ENVIRONMENT, start_new_session=True, **pipes)  # type: ignore[call-overload]


def run(line: list[str]) -> tuple[bool, str]:
    """(whether it came to its end, what it said)."""
    process = start(line)
    said, _ = process.communicate()
    return process.returncode == 0, said


def last_checkpoint(folder: Path) -> int:
    """Its step; 0 where training has begun, -1 where it has not."""
    steps = [int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoints/checkpoint-*")]
    return max(steps, default=0 if (folder / "recipe.yaml").is_file() else -1)


def kill_after(line: list[str], folder: Path, step: int, seconds: float) -> bool:
    """Kill a run with its children, so many seconds after the checkpoint of this step; False where it ended before."""
    process = start(line)
    while process.poll() is None and last_checkpoint(folder) < step:
        time.sleep(0.005)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    return False


def figures(folder: Path) -> dict[str, Any]:
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {part: {k: v for k, v in values.items() if k not in TIMES} for part, values in metrics.items()}


def difference(whole: Path, folder: Path) -> str:
    """What differs between two runs; empty where nothing does."""
    ours, theirs = (load_file(path / "model.safetensors") for path in (whole, folder))
    unequal = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    wrong = [f"{len(unequal)} of {len(ours)} weights"] if unequal or ours.keys() != theirs.keys() else []
    if figures(whole) != figures(folder):
        wrong.append(f"figures {figures(folder)} instead of {figures(whole)}")
    return "; ".join(wrong)


def kill_once(kind: str, whole: Path, seconds: float, folder: Path, seed: int) -> dict[str, Any]:
    """One run, killed once (one in four: twice), resumed, compared. seconds: from a checkpoint to the next."""
    draw, kills = random.Random(seed), []
    settings, more, begun = KINDS[kind][1], (), -1
    for _ in range(2 if seed % 4 == 3 else 1):
        steps = range(0, settings["train.max_steps"] + 1, settings["train.eval_steps"])
        after = draw.choice([step for step in steps if step > begun] or [steps[-1]])
        was_killed = kill_after(command(kind, folder, *more), folder, after, draw.uniform(0.0, seconds))
        begun, more = last_checkpoint(folder), ("--resume",)
        kills.append({"after_step": after, "was_killed": was_killed, "checkpoint": begun})
        if not was_killed:
            break
    ended, said = run(command(kind, folder, "--resume"))
    wrong = difference(whole, folder) if ended else f"it did not end: {said[-2000:]}"
    shutil.rmtree(folder, ignore_errors=True)
    return {"kind": kind, "seed": seed, "kills": kills, "wrong": wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, of one thread each")
    parser.add_argument("--output", type=Path, default=None, help="a folder for kills.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root, wholes = Path(temporary), {}
        for kind in KINDS:
            folder = root / f"whole {kind}"
            ended, said = run(command(kind, folder))
            assert ended, said
            seconds = json.loads((folder / "metrics.json").read_text())["train"]["seconds"]
            settings = KINDS[kind][1]
            wholes[kind] = folder, seconds * settings["train.eval_steps"] / settings["train.max_steps"]
            print(f"{kind}: never stopped, {seconds:.1f} s of training", flush=True)
        kinds = [list(KINDS)[number % len(KINDS)] for number in range(arguments.kills)]
        with ThreadPoolExecutor(arguments.jobs) as pool:
            tries = [
                pool.submit(kill_once, kind, *wholes[kind], root / f"killed {number}", arguments.seed + number)
                for number, kind in enumerate(kinds)
            ]
            rows = []
            for each in tries:
                rows.append(each.result())
                print(rows[-1], flush=True)
    wrong = [row for row in rows if row["wrong"]]
    kills = sum(kill["was_killed"] for row in rows for kill in row["kills"])
    equal = len(rows) - len(wrong)
    print(f"{len(rows)} runs killed {kills} times in all and resumed: {equal} equal to the run never stopped")
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        content = {"seed": arguments.seed, "kills": len(rows), "torch": torch.__version__, "rows": rows}
        (arguments.output / "kills.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
