"""Jobs of Slurm, without a Slurm: the script, the command of a node, and what a job does at the signal."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from typer.testing import CliRunner

from crate_transformers.cli.app import app
from crate_transformers.cli.submit import minutes_of
from crate_transformers.errors import UserError
from crate_transformers.launcher import run_identity
from crate_transformers.lock import LOCK_FILE, locked
from crate_transformers.training.folder import claimed
from crate_transformers.training.slurm import Job, train_arguments

submitit = pytest.importorskip("submitit")


def submitted(*arguments):
    return CliRunner().invoke(app, ["submit", "digits", *arguments])


def test_a_dry_run_prints_the_script_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = "--nodes 2 --gpus-per-node 4 --partition gpu --time 1-2:30 --account me --slurm cpus-per-task=12"
    done = submitted(*options.split(), "--slurm", "qos=high", "--set", "train.fsdp=true", "--dry-run")
    assert done.exit_code == 0, done.output
    for line in ("nodes=2", "ntasks-per-node=1", "gpus-per-node=4", "partition=gpu", "account=me", "cpus-per-task=12",
                 "qos=high", "time=1590", "signal=USR2@120", "job-name=digits"):  # fmt: skip
        assert f"#SBATCH --{line}\n" in done.output
    assert "--nnodes=2 --nproc-per-node=4" in done.output
    assert f"train digits --output {tmp_path}/runs/digits --set train.fsdp=true --resume" in done.output
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_is_told_before_anything_is_submitted(tmp_path):
    for arguments, told in (
        (["--set", "train.fdsp=true"], "did you mean 'fsdp'"),
        (["--time", "soon"], "--time must be minutes"),
        (["--slurm", "qos"], "--slurm must be NAME=VALUE"),
        (["--slurm", "partitoin=gpu", "--dry-run"], "partitoin"),
        ([], "srun"),  # there is no Slurm here
    ):
        done = submitted("--output", str(tmp_path / "run"), *arguments)
        assert isinstance(done.exception, UserError)
        assert told in str(done.exception)
    assert minutes_of("2-0:00") == 2880


def test_the_command_of_a_node():
    job = Job(train_arguments("digits", "/runs/a", "digits", ["train.seed=1"]), processes=8, max_restarts=2)
    line = job.line(nodes=4, head="node017", job="123456")
    assert "--rdzv-endpoint=node017:23456" in line
    assert line[-8:] == ["digits", "--output", "/runs/a", "--data", "digits", "--set", "train.seed=1", "--resume"]


def test_at_the_signal_the_processes_are_stopped_and_the_job_is_handed_over():
    job = Job(["digits"], processes=2, max_restarts=5)
    waits = "import signal, time; signal.signal(15, lambda *_: exit(0)); print(flush=True); time.sleep(60)"
    job._agent = subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE)
    job._agent.stdout.readline()
    following = job.checkpoint()
    assert job._agent.wait() == 0
    job._agent.stdout.close()
    assert following.function == Job(["digits"], processes=2, max_restarts=5)
    assert following.function._agent is None


HOLDER = """
import fcntl, json, os, socket, time
file = open({path!r}, "w")
fcntl.lockf(file, fcntl.LOCK_EX)
json.dump({{"host": socket.gethostname(), "process": os.getpid(), "run": "slurm 77"}}, file)
file.flush()
print(flush=True)
time.sleep(60)
"""


def test_a_run_that_is_started_anew_waits_for_its_processes_of_before(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert run_identity() == "slurm 77"
    holder = HOLDER.format(path=str(tmp_path / LOCK_FILE))
    before = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE)
    before.stdout.readline()
    with monkeypatch.context() as other:
        other.setenv("SLURM_JOB_ID", "78")
        with pytest.raises(UserError, match=f"process {before.pid}"):
            locked(tmp_path).__enter__()
    started, kill = time.monotonic(), threading.Timer(1.0, before.kill)
    kill.start()
    with locked(tmp_path):
        assert before.wait(1) == -signal.SIGKILL
    assert 0.9 < time.monotonic() - started < 20
    before.stdout.close()


def test_logs_of_a_job_are_no_run_of_others(tmp_path):
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "1_0_log.out").touch()
    with claimed(tmp_path, resume=True, overwrite=False, is_main_process=True):
        assert (tmp_path / LOCK_FILE).exists()
