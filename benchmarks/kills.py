"""Runs killed at random moments and resumed: weights and figures must be those of a run that was never stopped.

    python benchmarks/kills.py --kills 60 --output FOLDER

Five kinds of run in turn, each small: plain, with EMA, with loader workers, masked autoencoder, self-distillation. A
run is killed by SIGKILL, with its worker processes, at a moment drawn from its whole length (its first fifth, which
loads libraries, left out), and resumed by the same command with --resume. Every weight must be equal to the last bit,
every figure of metrics.json but times too. One thread each, so that sums are taken in one order.
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

TIMES = ("seconds", "samples_per_second", "data_wait_fraction")
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


def run(line: list[str], killed_after: float | None = None) -> tuple[bool, str]:
    """(whether it came to its end, what it said). It is killed with its children after so many seconds."""
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_ENVIRONMENT, start_new_session=True
    )
    try:
        said, _ = process.communicate(timeout=killed_after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return False, ""
    return process.returncode == 0, said


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
    """One run, killed once (one in four: twice), resumed to its end, compared."""
    draw, kills, at_steps = random.Random(seed), [], []
    more: tuple[str, ...] = ()
    for _ in range(2 if seed % 4 == 3 else 1):
        moment = draw.uniform(0.2 * seconds, seconds)
        ended, _ = run(command(kind, folder, *more), moment)
        more = ("--resume",)
        kills.append(round(moment, 2))
        at_steps.append(max((int(p.name[11:]) for p in folder.glob("checkpoints/checkpoint-*")), default=0))
        if ended:
            break
    ended, said = run(command(kind, folder, "--resume"))
    wrong = difference(whole, folder) if ended else f"it did not end: {said[-2000:]}"
    shutil.rmtree(folder, ignore_errors=True)
    return {"kind": kind, "seed": seed, "killed_after_s": kills, "checkpoint": at_steps, "wrong": wrong}


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
            started, folder = time.perf_counter(), root / f"whole {kind}"
            ended, said = run(command(kind, folder))
            assert ended, said
            wholes[kind] = folder, time.perf_counter() - started
            print(f"{kind}: never stopped, {wholes[kind][1]:.1f} s", flush=True)
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
    print(f"{len(rows)} runs killed and resumed: {len(rows) - len(wrong)} equal to the run never stopped")
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        content = {"seed": arguments.seed, "kills": len(rows), "torch": torch.__version__, "rows": rows}
        (arguments.output / "kills.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
