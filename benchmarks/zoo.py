"""All families, the same data, the same budget, several seeds: every number of docs/evidence.md from one command.

    python benchmarks/zoo.py --root FOLDER [--jobs N] [--budget SECONDS] [--only GROUP ...]    train what is missing
    python benchmarks/zoo.py --quick                   the same path at tiny sizes, on digits: minutes on two cores
    python benchmarks/zoo.py --time                    seconds of a training step of every model, in turns, one thread
    python benchmarks/zoo.py --collect                 what is in the cache, as benchmarks/results/zoo/results.json
    python benchmarks/zoo.py --pages                   the tables of docs/evidence.md and docs/findings.md
    python benchmarks/zoo.py --row GROUP DATA MODEL    make one row of the tables again, beside what is stored

FOLDER is where torchvision keeps Fashion-MNIST. A run that is finished is a small file in the cache, named by a digest
of what defines it, and is not made again: a plan can be stopped, continued, extended. Runs are made in the order in
which they matter; --budget starts no run that would not end in time. --bundle FILE writes the cache as one file,
--from FILE fills the cache with one. N workers have one thread each and share the GPU, where there is one.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker has one thread; before torch is imported
sys.path.insert(0, str(Path(__file__).parent))  # of workers too

from evidence.experiments import FULL, QUICK, Experiments, Run
from evidence.pages import fill
from evidence.pictures import keep
from evidence.results import collect, versions
from evidence.stored import Stored
from evidence.work import execute

RESULTS = Path(__file__).parent / "results" / "zoo"
SECONDS = RESULTS / "seconds.json"
PAGES = Path(__file__).parents[1] / "docs"
BUNDLE_EVERY = 20.0  # seconds


# -- the cache ---------------------------------------------------------------------------------------------------------


class Cache:
    """Finished runs: a file each, by key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.results = {file.stem: json.loads(file.read_text()) for file in folder.glob("*.json")}

    def add(self, key: str, result: dict[str, Any]) -> None:
        """Keep a run; the file is there as a whole, or not at all."""
        staging = self.folder / f"{key}.part"
        staging.write_text(json.dumps(result, separators=(",", ":")))
        staging.replace(self.folder / f"{key}.json")
        self.results[key] = result

    def write(self, bundle: Path) -> None:
        """All runs as one file."""
        bundle.parent.mkdir(parents=True, exist_ok=True)
        staging = bundle.with_name(f"{bundle.name}.part")
        staging.write_text(json.dumps(self.results, separators=(",", ":")))
        staging.replace(bundle)

    def fill(self, bundle: Path) -> None:
        for key, result in json.loads(bundle.read_text()).items():
            if key not in self.results:
                self.add(key, result)


# -- workers -----------------------------------------------------------------------------------------------------------


def prepare() -> None:
    """Once a worker: one thread, and no lines beside those of the driver."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def work(run: Run, kept: str) -> dict[str, Any]:
    """A run; a fault of one is told and does not end the others."""
    started = time.time()
    try:
        return {**execute(run, Path(kept)), **versions(), "started": round(started)}
    except Exception:
        return {"fault": traceback.format_exc()}


class Plan:
    """Hands out the runs that are missing, the most important first; those that wait for trials come when these end."""

    def __init__(self, experiments: Experiments, cache: Cache, only: list[str], models: list[str]) -> None:
        self.experiments, self.cache, self.only, self.models = experiments, cache, only, models
        self.begun: set[str] = set()
        self.queue: list[Run] = []
        self.replan()

    def replan(self) -> None:
        runs = self.experiments.all(self.cache.results)
        wanted = [run for run in runs if self._asked(run)]
        self.queue = [run for run in wanted if run.key not in self.cache.results and run.key not in self.begun]

    def _asked(self, run: Run) -> bool:
        if self.models and run.model not in self.models:
            return False
        if run.group == "language choice":
            return not self.only or any(group.startswith("language") for group in self.only)
        if run.group == "choice":
            others = {"map"} if "lion" in run.setting else {"width", "parameters", "time", "patches", "map"}
            return not self.only or not others.isdisjoint(self.only)
        return not self.only or run.group in self.only

    def take(self) -> Run | None:
        while self.queue:
            run = self.queue.pop(0)
            if run.key not in self.begun:
                self.begun.add(run.key)
                return run
        return None


class Clock:
    """When no further run is started: a run is expected to take as long a step as the slowest of its kind so far."""

    def __init__(self, budget: float | None) -> None:
        self.end = None if budget is None else time.time() + budget
        self.slowest: dict[str, float] = {}

    def saw(self, run: Run, seconds: float) -> None:
        each = seconds / _steps(run)
        self.slowest[_kind(run)] = max(self.slowest.get(_kind(run), 0.0), each)

    def allows(self, run: Run) -> bool:
        expected = self.slowest.get(_kind(run), 0.0) * _steps(run)
        return self.end is None or time.time() + expected < self.end


def _steps(run: Run) -> int:
    return int(run.content.get("train", {}).get("max_steps", 1))


def _kind(run: Run) -> str:
    return "trial" if run.group.endswith("choice") else run.group.split(",")[0]


def train_all(
    plan: Plan, cache: Cache, finished: Iterator[tuple[Run, dict[str, Any]]], clock: Clock, bundle: Path | None
) -> None:
    """Put the runs of a plan into the cache as they end, and now and then into the bundle."""
    bundled = time.time()
    for run, result in finished:
        if bundle and time.time() - bundled > BUNDLE_EVERY:
            cache.write(bundle)
            bundled = time.time()
        name = f"{run.group} | {run.data} | {run.model} {run.setting} | seed {run.seed}"
        if "fault" in result:
            print(f"FAULT {name}\n{result['fault']}", flush=True)
            continue
        cache.add(run.key, {**result, "place": run.place})
        clock.saw(run, result["seconds"])
        print(f"{len(cache.results)} {name}: {_told(result)}, {result['seconds']:.1f} s", flush=True)
        if run.group.endswith("choice"):
            plan.replan()


def _told(result: dict[str, Any]) -> str:
    if "diverged" in result:
        return "diverged"
    shown = result.get("metrics", {}).get("test", {})
    return ", ".join(f"{name} {value:.4g}" for name, value in shown.items() if isinstance(value, float)) or "done"


def _finished(
    plan: Plan, jobs: int, clock: Clock, kept: Path, data: list[tuple[Any, ...]]
) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Runs as they end; with one job they are made here. data: arguments of `keep`, one for each data set."""
    if jobs == 1:
        prepare()
        for task in data:
            keep(*task)
        while (run := plan.take()) is not None:
            if clock.allows(run):
                yield run, work(run, str(kept))
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would share the state of a GPU
    with ProcessPoolExecutor(jobs, spawn, prepare) as pool:
        for task in data:
            pool.submit(keep, *task)  # runs wait for the data that they need
        running: dict[Future[dict[str, Any]], Run] = {}
        while True:
            while len(running) < jobs and (run := plan.take()) is not None:
                if clock.allows(run):
                    running[pool.submit(work, run, str(kept))] = run
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


# -- one row again -----------------------------------------------------------------------------------------------------


def row_again(place: list[str], stored: dict[str, Any], kept: Path) -> bool:
    """Train a row of a table anew, with the recipe that is stored, and compare it with its interval."""
    row = next(row for row in stored["rows"] if [row["group"], row["data"], row["model"]] == place)
    prepare()
    found = []
    for seed, before in zip(row["seeds"], row["by_seed"]["test accuracy"], strict=True):
        recipe = {**row["recipe"], "train": {**row["recipe"]["train"], "seed": seed}}
        run = Run(row["group"], row["data"], row["model"], seed, recipe)
        found.append(execute(run, kept)["metrics"]["test"]["accuracy"])
        print(f"seed {seed}: accuracy {found[-1]:.4f}, stored {before:.4f}", flush=True)
    (mean, half), again = row["values"]["test accuracy"], sum(found) / len(found)
    inside = abs(again - mean) <= half
    print(f"{', '.join(place)}: {again:.4f}; stored {mean:.4f} +- {half:.4f}: {'inside' if inside else 'OUTSIDE'}")
    return inside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="where torchvision keeps Fashion-MNIST")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--budget", type=float, help="seconds after which no run is started")
    parser.add_argument("--only", nargs="+", default=[], help="groups: width, parameters, time, map, patches, ...")
    parser.add_argument("--models", nargs="+", default=[])
    parser.add_argument("--folder", type=Path, default=Path("runs/zoo"), help="cache and data")
    parser.add_argument("--from", type=Path, dest="source", help="a bundle to start from")
    parser.add_argument("--bundle", type=Path, help="the cache as one file, written at the end")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--collect", action="store_true")
    parser.add_argument("--pages", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--row", nargs=3, metavar=("GROUP", "DATA", "MODEL"))
    options = parser.parse_args()
    if options.pages:
        for name in ("evidence.md", "findings.md"):
            fill(PAGES / name, Stored.read())
        return
    started, scale = time.time(), QUICK if options.quick else FULL
    timed = json.loads(SECONDS.read_text()) if SECONDS.is_file() and not options.quick else {"seconds": _equal(scale)}
    experiments = Experiments(scale, timed["seconds"])
    cache = Cache(options.folder / ("cache-quick" if options.quick else "cache"))
    kept = options.folder / ("data-quick" if options.quick else "data")
    if options.source:
        cache.fill(options.source)
    data = [
        (name, kept / name, options.root, scale.counts, fields["model.image_size"])
        for name, fields in scale.data.items()
    ]
    if options.time:
        from evidence.timing import time_steps

        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / SECONDS.name).write_text(json.dumps(time_steps(experiments), indent=1) + "\n")
    elif options.row:
        for task in data:
            keep(*task)
        row_again(options.row, json.loads((RESULTS / "results.json").read_text()), kept)
    else:
        if not options.collect:
            clock = Clock(options.budget and options.budget - (time.time() - started))
            plan = Plan(experiments, cache, options.only, options.models)
            train_all(plan, cache, _finished(plan, options.jobs, clock, kept, data), clock, options.bundle)
        if options.bundle:
            cache.write(options.bundle)
        file = collect(
            experiments, cache.results, options.output, "--quick" if options.quick else "--root FOLDER", timed
        )
        print(f"{len(cache.results)} runs in {cache.folder}, tables in {file}, {time.time() - started:.0f} s")


def _equal(scale: Any) -> dict[str, dict[str, float]]:
    """Equal seconds for all models, where none were measured: a step of one is as long as a step of another."""
    from evidence.models import GRID, LANGUAGE

    return {**{data: dict.fromkeys(GRID, 1.0) for data in scale.data}, "python": dict.fromkeys(LANGUAGE, 1.0)}


if __name__ == "__main__":
    main()
