"""The commands of `crate`, in the order of its help page. A new command is a file beside this one and a line here."""

from collections.abc import Callable
from typing import Any

from .bench import bench
from .consolidate import consolidate
from .convert import convert
from .evaluate import evaluate
from .explore import explore
from .export import export
from .features import features
from .generate import generate
from .inspect import inspect
from .neurons import neurons
from .plan import plan
from .predict import predict
from .probe import probe
from .publish import publish
from .reconstruct import reconstruct
from .segment import segment
from .shard import shard
from .submit import submit
from .train import recipes, train

COMMANDS: dict[str, Callable[..., Any]] = {
    "train": train,
    "submit": submit,
    "recipes": recipes,
    "plan": plan,
    "consolidate": consolidate,
    "evaluate": evaluate,
    "predict": predict,
    "generate": generate,
    "convert": convert,
    "export": export,
    "inspect": inspect,
    "explore": explore,
    "segment": segment,
    "probe": probe,
    "features": features,
    "reconstruct": reconstruct,
    "neurons": neurons,
    "publish": publish,
    "shard": shard,
    "bench": bench,
}

__all__ = ["COMMANDS"]
