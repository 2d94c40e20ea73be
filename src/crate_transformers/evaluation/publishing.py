"""A model's folder for others: its card, the file that lets it load anywhere, and its way to the Hugging Face hub."""

import csv
import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, HfApi, eval_result_entries_to_yaml
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

from ..configuration.families import MODEL_FAMILIES
from ..configuration.remote_code import CODE_FILE, auto_map_of, code_of
from ..errors import UserError, one_line
from ..files import user_path, write_bytes
from ..models.opening import open_config
from ..models.stored import read_json, stored_size
from ..report.model_card import CardFacts, model_card
from ..report.writing import json_bytes
from .opening import open_model
from .run_folder import CHECKPOINTS, METRICS_FILE, RECIPE_FILE, recipe_beside

CARD_FILE, LAYERS_FILE, FIGURES, RESULTS = "README.md", "layers.csv", "figures", ".eval_results"
CAPTIONS = {"layers": "The layers, measured on the samples of the report", "curves": "The curves of the training"}
_OF_A_RUN = ("optimizer.*", "scheduler.*", "scaler.*", "rng_state*", "training_args.bin", "trainer_state.json",
             "*.part", "*.lock", "checksums.*")  # fmt: skip


@dataclass(frozen=True)
class Publication:
    """What `publish` sent, or would send.

    Attributes:
        files: path in the repository -> bytes. left_out: what of the folder stays here.
        written: files that were made, or would be made, for it. card: the text of README.md.
        address: of the model on the hub; "" where nothing was sent.
    """

    files: Mapping[str, int]
    left_out: Sequence[str]
    written: Sequence[str]
    card: str
    address: str = ""


def card_of_folder(folder: Path, title: str = "", license_name: str | None = None, origin: Sequence[str] = ()) -> str:
    """The model card of a folder, from the files in it.

    Args:
        folder: config.json and weights; of a run also recipe.yaml, metrics.json, layers.csv and figures.
        title: heading; "" is the folder's name.
        license_name: a name of the hub's list.
        origin: how the model was made, paragraphs of Markdown; of a run it follows from the recipe.

    Raises:
        UserError: the folder holds no model, or a damaged file.
    """
    metrics_file, recipe = folder / METRICS_FILE, recipe_beside(folder)
    metrics = read_json(metrics_file) if metrics_file.is_file() else {}
    content = _without_paths(recipe.to_dict()) if recipe is not None else {}
    if recipe is not None and not origin:
        versions = ", ".join(f"{name} {version(name)}" for name in ("crate-transformers", "torch", "transformers"))
        origin = [
            f"Trained with `crate train` ({versions}) by this recipe:",
            f"```yaml\n{yaml.safe_dump(content, sort_keys=False)}```",
        ]
    pictures = {f"{FIGURES}/{name}.png": caption for name, caption in CAPTIONS.items()}
    facts = CardFacts(
        title=title or folder.absolute().name,
        config=open_config(folder),
        parameters=metrics.get("model", {}).get("parameters") or stored_size(folder).numbers,
        origin=origin,
        metrics=metrics,
        data=content.get("data", {}).get("source") or "",
        layers=_layer_rows(folder / LAYERS_FILE),
        figures={name: caption for name, caption in pictures.items() if (folder / name).is_file()},
        license=license_name,
    )
    return model_card(facts)


def publish(
    folder: str | Path,
    repo: str | None = None,
    dry_run: bool = False,
    *,
    private: bool = False,
    license_name: str | None = None,
    benchmark: str | None = None,
    on_note: Callable[[str], None] = lambda line: None,
) -> Publication:
    """Send the folder of a model to the Hugging Face hub, with a model card and the file that lets it load anywhere.

    Checkpoints and optimizer states stay here. A README.md that is there is kept as it is.

    Args:
        folder: of a run, of a conversion, or of `save_pretrained`.
        repo: "owner/name" on the hub; None is the folder's name, below your own.
        dry_run: say what would be sent; write and send nothing.
        private: of a repository that is made.
        license_name: a name of the hub's list, for the card.
        benchmark: "owner/dataset:task" of a benchmark on the hub; the first measure of the test part is written for its
            leaderboard, `.eval_results/NAME.yaml`.
        on_note: receives lines for the user.

    Raises:
        UserError: no model in the folder, a damaged one; the hub refuses, or cannot be reached.
    """
    place = user_path(folder)
    if not place.is_dir():
        raise UserError(f"{folder} is no folder: name the folder of a run, a conversion or a saved model")
    open_model(place)  # whole and finite
    made = _files_to_make(place, repo, license_name, benchmark, on_note)
    card = made.get(CARD_FILE) or (place / CARD_FILE).read_bytes()
    names, left_out = _files_to_send(place)
    sizes = {name: len(made[name]) if name in made else (place / name).stat().st_size for name in {*names, *made}}
    publication = Publication(dict(sorted(sizes.items())), left_out, sorted(made), card.decode())
    _note_paths(place, on_note)
    if dry_run:
        return publication
    for name, content in made.items():
        write_bytes(place / name, content)
    address = _send(place, repo or place.absolute().name, private, list(sizes))
    return Publication(publication.files, left_out, publication.written, publication.card, address)


def _files_to_make(
    folder: Path, repo: str | None, license_name: str | None, benchmark: str | None, on_note: Callable[[str], None]
) -> dict[str, bytes]:
    """What the folder lacks, by name."""
    made: dict[str, bytes] = {}
    config = read_json(folder / "config.json")
    family = MODEL_FAMILIES.get(config["model_type"])
    if family is not None and config.get("auto_map") != auto_map_of(family):
        made["config.json"] = json_bytes({**config, "auto_map": auto_map_of(family)})
    if family is not None and not (folder / CODE_FILE).is_file():
        made[CODE_FILE] = code_of(family)
    if not (folder / CARD_FILE).is_file():
        made[CARD_FILE] = card_of_folder(folder, (repo or "").rpartition("/")[2], license_name).encode()
    elif license_name is not None:
        raise UserError(f"{folder / CARD_FILE} is there and is kept: write the licence into it, or delete it")
    else:
        on_note(f"{CARD_FILE} is kept as it is")
    if benchmark is not None:
        name, content = _benchmark_entry(folder, benchmark)
        made[name] = content
    return made


def _benchmark_entry(folder: Path, benchmark: str) -> tuple[str, bytes]:
    """(name, content) of the file that a leaderboard of the hub reads."""
    dataset, colon, task = benchmark.rpartition(":")
    values = read_json(folder / METRICS_FILE).get("test", {}) if (folder / METRICS_FILE).is_file() else {}
    measures = {name: value for name, value in values.items() if isinstance(value, int | float) and name != "loss"}
    if not (colon and dataset and task):
        raise UserError(f"a benchmark is named OWNER/DATASET:TASK, got {benchmark!r}")
    if not measures:
        raise UserError(f"{folder} holds no measure of a test part ({METRICS_FILE}) to send to {dataset}")
    name, value = next(iter(measures.items()))
    entry = EvalResultEntry(dataset_id=dataset, task_id=task, value=value, notes=name)
    text = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)
    return f"{RESULTS}/{dataset.rpartition('/')[2]}.yaml", text.encode()


def _files_to_send(folder: Path) -> tuple[list[str], list[str]]:
    """Names of what goes, and of what stays: states of a training, hidden files, links that lead elsewhere."""
    sent, kept = [], []
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") and path.name != RESULTS
        if hidden or path.name == CHECKPOINTS or any(path.match(pattern) for pattern in _OF_A_RUN):
            kept.append(path.name)
        elif path.is_file():
            sent.append(path.name)
        else:
            sent += [str(file.relative_to(folder)) for file in sorted(path.rglob("*")) if file.is_file()]
    return sent, kept


def _send(folder: Path, repo: str, private: bool, names: Sequence[str]) -> str:
    """Upload files of a folder; the address of the model."""
    api = HfApi()
    try:
        made = api.create_repo(repo, private=private, exist_ok=True)
        patterns = [glob.escape(name) for name in names]
        api.upload_folder(
            repo_id=made.repo_id, folder_path=folder, allow_patterns=patterns, commit_message="Model and card"
        )
    except LocalTokenNotFoundError as error:
        raise UserError("the hub does not know you: log in with `hf auth login`, or set HF_TOKEN") from error
    except (HFValidationError, HfHubHTTPError) as error:
        raise UserError(f"the hub refuses {repo}: {one_line(error)}") from error
    except OfflineModeIsEnabled as error:
        raise UserError("the hub is not asked (HF_HUB_OFFLINE): unset that to publish") from error
    except Exception as error:  # of the network library that this version of the hub's stands on
        raise UserError(f"the hub cannot be reached: {one_line(error)}") from error
    return str(made)


def _note_paths(folder: Path, on_note: Callable[[str], None]) -> None:
    recipe = recipe_beside(folder)
    found = sorted(set(_paths_in(recipe.to_dict()))) if recipe is not None else []
    if found:
        on_note(f"{RECIPE_FILE} and the report name paths of this machine, which others will read: {', '.join(found)}")


def _paths_in(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [path for item in value.values() for path in _paths_in(item)]
    if isinstance(value, list):
        return [path for item in value for path in _paths_in(item)]
    return [value] if isinstance(value, str) and _is_path(value) else []


def _is_path(text: str) -> bool:
    return text.rpartition(":")[2].startswith(("/", "~", "./", "../"))


def _without_paths(value: Any) -> Any:
    """The same, with the last name alone of every path: a card is for others."""
    if isinstance(value, Mapping):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    if isinstance(value, str) and _is_path(value):
        kind, colon, path = value.rpartition(":")
        return f"{kind}{colon}{Path(path).name}"
    return value


def _layer_rows(file: Path) -> list[dict[str, float]]:
    """The rows of layers.csv; none where there is no such file."""
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        try:
            return [
                {name: int(text) if name == "layer" else float(text or "nan") for name, text in row.items()}
                for row in csv.DictReader(lines)
            ]
        except (ValueError, TypeError) as error:
            raise UserError(f"{file} is damaged: {error}") from error


__all__ = ["CAPTIONS", "CARD_FILE", "FIGURES", "LAYERS_FILE", "Publication", "card_of_folder", "publish"]
