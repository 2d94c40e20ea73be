"""Two agents of torchrun on this machine, as on two machines: what becomes of a run when one is killed, or hangs.

    python benchmarks/elastic.py --output FOLDER

* killed: `torchrun --nnodes=1:2`; the agent that does not hold the meeting is killed by SIGKILL after a checkpoint. Its
  process dies with it, the other agent starts its own anew, and the run ends on one process: after how many seconds,
  and how far its weights are from those of a run of one process that was never stopped.
* hung: one process of two is stopped by SIGSTOP, as if its machine hung; `train.ddp_timeout` ends the run after how
  many seconds.

The weights are shared (FSDP2), so that what is left holds half of them and takes the other half from the checkpoint.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

_SETTINGS: dict[str, Any] = {
    "model.hidden_size": 24,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 3,
    "train.per_device_train_batch_size": 32,
    "train.max_steps": 60,
    "train.eval_steps": 10,
    "train.ema_decay": 0.9,
    "train.fsdp": True,
}
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
_HUNG_TIMEOUT = 15


def train_line(folder: Path, **more: Any) -> list[str]:
    sets = [part for key, value in {**_SETTINGS, **more}.items() for part in ("--set", f"{key}={value}")]
    return ["-m", "crate_transformers", "train", "digits", "--output", str(folder), *sets, "--resume"]


def start(line: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, *line], env=_ENVIRONMENT, stdout=file, stderr=subprocess.STDOUT)


def wait_for(what: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    while not what():
        assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
        time.sleep(0.02)


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoints/checkpoint-*"))


def children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8")
    return [int(number) for number in found.split()]


def killed(root: Path) -> dict[str, Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    agent = ["-m", "torch.distributed.run", "--nnodes=1:2", "--nproc-per-node=1", "--max-restarts=3",
             "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=elastic",
             "--rdzv-conf=last_call_timeout=10"]  # fmt: skip
    folder, logs = root / "killed", [root / "first.log", root / "second.log"]
    first = start([*agent, *train_line(folder)], logs[0])
    time.sleep(3)  # the first one holds the meeting
    second = start([*agent, *train_line(folder)], logs[1])
    wait_for(lambda: checkpoints(folder), first, logs[0])
    workers = children(second.pid)
    at = time.perf_counter()
    second.send_signal(signal.SIGKILL)
    second.wait()
    code = first.wait(300)
    seconds = time.perf_counter() - at
    said = logs[0].read_text(encoding="utf-8")
    assert code == 0, said[-4000:]
    alive = [number for number in workers if Path(f"/proc/{number}").exists()]
    one = root / "one"
    batch = 2 * _SETTINGS["train.per_device_train_batch_size"]
    never = start(train_line(one, **{"train.per_device_train_batch_size": batch}), root / "one.log")
    assert never.wait(600) == 0
    ours, theirs = (load_file(path / "model.safetensors") for path in (folder, one))
    return {
        "seconds_from_kill_to_end": round(seconds, 1),
        "processes_left_behind": len(alive),
        "distance": max(float((ours[name] - theirs[name]).abs().max()) for name in ours),
        "load_average": os.getloadavg()[0],
        "said": [line for line in said.splitlines() if "started with" in line or "continuing from" in line],
    }


def hung(root: Path) -> dict[str, Any]:
    folder, log = root / "hung", root / "hung.log"
    agent = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    process = start([*agent, *train_line(folder, **{"train.ddp_timeout": _HUNG_TIMEOUT})], log)
    wait_for(lambda: checkpoints(folder), process, log)
    main = json.loads((folder / ".lock").read_text(encoding="utf-8"))["process"]
    stopped = next(number for number in children(process.pid) if number != main)
    at = time.perf_counter()
    os.kill(stopped, signal.SIGSTOP)
    code = process.wait(300)
    return {"timeout": _HUNG_TIMEOUT, "seconds_to_end": round(time.perf_counter() - at, 1), "status": code}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=None, help="a folder for elastic.json")
    parser.add_argument("--parts", nargs="*", choices=("killed", "hung"), default=["killed", "hung"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {name: globals()[name](Path(folder)) for name in arguments.parts}
    print(json.dumps(found, indent=1))
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        content = {"torch": torch.__version__, **found}
        (arguments.output / "elastic.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
