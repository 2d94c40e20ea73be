"""Two versions of the library in turns: what a change of the house costs or gains, on the same machine in one run.

    python benchmarks/pairs.py BEFORE [AFTER] [--rounds 9] [--threads 2] [--only NAME ...] [--output FILE]

BEFORE and AFTER (HEAD where it is left out) are commits. Each is checked out into a folder of its own; every
measurement is a fresh process, of the one and the other version in turns. On stdout, a line a measurement: the median
seconds of both, and the median of the ratio before / after with its quartiles, above 1 where the later one is faster.
Both must know what is measured: classes, sizes and commands that they share.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

ROOT = Path(__file__).parents[1]

COMMANDS = {  # name -> words after `python`, whose whole time is measured
    "import": ["-c", "import crate_transformers"],
    "import of a class": ["-c", "from crate_transformers import CrateForImageClassification"],
    "crate --help": ["-m", "crate_transformers", "--help"],
    "crate recipes": ["-m", "crate_transformers", "recipes"],
    "crate train --help": ["-m", "crate_transformers", "train", "--help"],
}
STEPS = {  # name -> (class, configuration, size, inputs, whether it trains)
    "vision tiny, inference": ("CrateForImageClassification", "CrateVisionConfig", "tiny", "images", False),
    "vision tiny, training": ("CrateForImageClassification", "CrateVisionConfig", "tiny", "images", True),
    "vision small, inference": ("CrateForImageClassification", "CrateVisionConfig", "small", "images", False),
    "autoencoder tiny, training": ("CrateMAEForPreTraining", "CrateMAEConfig", "tiny", "pictures", True),
    "encoder, inference": ("CrateForMaskedLM", "CrateConfig", "bert-base", "ids", False),
    "decoder, training": ("CrateForCausalLM", "CrateConfig", "gpt2-base", "ids", True),
    "decoder, 32 new tokens": ("CrateForCausalLM", "CrateConfig", "gpt2-base", "generate", False),
}
TIMED = """
import json, sys, time, statistics, torch
import crate_transformers as library
model_class, config_class, size, inputs, trains, threads = json.loads(sys.argv[1])
torch.set_num_threads(threads)
torch.manual_seed(0)
shorter = {"num_hidden_layers": 4} if inputs in ("ids", "generate") else {}
model = getattr(library, model_class)(getattr(library, config_class).from_size(size, **shorter)).train(trains)
ids = torch.randint(2, 30_000, (4, 128))
given = {"images": {"pixel_values": torch.randn(8, 3, 224, 224)}, "ids": {"input_ids": ids}}
given["pictures"], given["generate"] = given["images"], {"input_ids": ids[:1]}
given = given[inputs]
if trains and inputs == "images":
    given["labels"] = torch.zeros(8, dtype=torch.long)
if trains and inputs == "ids":
    given["labels"] = ids
def run():
    if inputs == "generate":
        return model.generate(**given, max_new_tokens=32, min_new_tokens=32, do_sample=False, pad_token_id=1)
    output = model(**given)
    if trains:
        model.zero_grad()
        output.loss.backward()
times = []
with torch.set_grad_enabled(trains):
    for repetition in range(6):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
print(statistics.median(times[1:]))
"""


def timed(tree: Path, name: str, threads: int) -> float:
    """Seconds of one measurement of one version, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "HF_HUB_OFFLINE": "1"}
    if name in COMMANDS:
        inside = (
            "import subprocess, sys, time; began = time.perf_counter(); "
            "subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True); "
            "print(time.perf_counter() - began)"
        )
        words = [sys.executable, "-c", inside, *COMMANDS[name]]
    else:
        words = [sys.executable, "-c", TIMED, json.dumps([*STEPS[name], threads])]
    said = subprocess.run(words, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return float(said.splitlines()[-1])


def compared(before: Path, after: Path, name: str, rounds: int, threads: int) -> dict[str, Any]:
    """Both versions in turns; the first round warms up files and compiled code."""
    times: dict[Path, list[float]] = {before: [], after: []}
    for number in range(rounds + 1):
        for tree in (before, after) if number % 2 else (after, before):
            took = timed(tree, name, threads)
            if number:
                times[tree].append(took)
    ratios = [old / new for old, new in zip(times[before], times[after], strict=True)]
    low, middle, high = (round(value, 3) for value in statistics.quantiles(ratios, n=4))
    seconds = {word: round(statistics.median(times[tree]), 4) for word, tree in (("before", before), ("after", after))}
    return {"seconds": seconds, "before_over_after": middle, "quartiles": [low, high]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before")
    parser.add_argument("after", nargs="?", default="HEAD")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", choices=[*COMMANDS, *STEPS], default=[*COMMANDS, *STEPS])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    commits = {word: git("rev-parse", "--short", getattr(options, word)) for word in ("before", "after")}
    results: dict[str, Any] = {
        **commits,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "rounds": options.rounds,
        "threads": options.threads,
        "measured": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        trees = {word: Path(scratch) / word for word in commits}
        for word, commit in commits.items():
            git("worktree", "add", "--detach", str(trees[word]), commit)
        try:
            for name in options.only:
                found = compared(trees["before"], trees["after"], name, options.rounds, options.threads)
                results["measured"][name] = found
                print(f"{name}: {found}", flush=True)
                if options.output:
                    options.output.write_text(json.dumps(results, indent=1) + "\n")
        finally:
            for tree in trees.values():
                git("worktree", "remove", "--force", str(tree))


if __name__ == "__main__":
    main()
