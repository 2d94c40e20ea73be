"""Model cards, and what `crate publish` would send and sends; the hub itself is played by a recording."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import LocalTokenNotFoundError
from typer.testing import CliRunner

from crate_transformers import CrateForImageClassification, CrateVisionConfig, demo
from crate_transformers.cli.app import app
from crate_transformers.errors import UserError
from crate_transformers.evaluation.publishing import card_of_folder, publish

DEMO = Path(demo.__file__).parent / "fashion"


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A folder as a run leaves it, with the files that must stay at home."""
    folder = tmp_path / "fashion-run"
    shutil.copytree(DEMO, folder)
    (folder / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    (folder / "checkpoints" / "checkpoint-5" / "model.safetensors").write_bytes(b"old")
    for name in ("optimizer.pt", "trainer_state.json", ".run.lock", "report.html"):
        (folder / name).write_text("x")
    (folder / "layers.csv").write_text("layer,coding_rate_mean,nonzero_fraction_mean\n0,12.5,0.25\n1,11.5,0.125\n")
    return folder


class Hub:
    """Records what is sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.repos, self.uploads = [], []
        monkeypatch.setattr(HfApi, "create_repo", self.create)
        monkeypatch.setattr(HfApi, "upload_folder", self.upload)

    def create(self, repo_id, *, private, exist_ok):
        self.repos.append((repo_id, private))

        class Url(str):
            pass

        url = Url(f"hub://{repo_id}")
        url.repo_id = f"me/{repo_id}" if "/" not in repo_id else repo_id
        return url

    def upload(self, *, repo_id, folder_path, allow_patterns, commit_message):
        sent = {name for name in allow_patterns if (Path(folder_path) / name).is_file()}
        self.uploads.append((repo_id, sent, len(allow_patterns)))


def test_a_card_says_what_the_folder_holds(run_folder: Path) -> None:
    card = ModelCard(card_of_folder(run_folder))
    assert card.data.pipeline_tag == "image-classification"
    results = {(result.dataset_split, result.metric_type): result.metric_value for result in card.data.eval_results}
    assert results["test", "accuracy"] == json.loads((run_folder / "metrics.json").read_text())["test"]["accuracy"]
    text = card.text
    assert "176,458 parameters" in text
    assert "AutoModelForImageClassification.from_pretrained" in text
    assert "learning_rate: 0.003" in text
    assert "| 1 | 11.5 | 0.125 |" in text
    assert "| test | accuracy | 0.8458 |" in text


def test_a_card_names_no_place_of_this_machine(run_folder: Path) -> None:
    recipe = yaml.safe_load((run_folder / "recipe.yaml").read_text())
    recipe["data"] |= {"source": "imagefolder:/home/somebody/flowers", "root": "/home/somebody/cache"}
    (run_folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    card = card_of_folder(run_folder)
    assert "somebody" not in card
    assert "imagefolder:flowers" in card
    notes: list[str] = []
    publish(run_folder, dry_run=True, on_note=notes.append)
    assert any("/home/somebody/flowers" in note and "/home/somebody/cache" in note for note in notes)


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    config = CrateVisionConfig(hidden_size=14, num_attention_heads=2, num_hidden_layers=2, image_size=8, patch_size=4)
    CrateForImageClassification(config).save_pretrained(tmp_path)
    card = card_of_folder(tmp_path)
    assert "Not measured." in card
    assert "This folder does not say." in card
    assert "What the layers do" not in card


def test_dry_run_writes_and_sends_nothing(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    before = {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}
    done = publish(run_folder, "me/fashion", dry_run=True)
    assert {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()} == before
    assert not hub.repos
    assert not hub.uploads
    assert done.address == ""
    assert set(done.written) == {"README.md", "crate_code.py", "config.json"}  # the demonstration was saved before


def test_publish_sends_what_others_need_and_no_more(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    done = publish(run_folder, "me/fashion", private=True, license_name="mit", benchmark="zalando/fashion:test")
    assert hub.repos == [("me/fashion", True)]
    assert done.address == "hub://me/fashion"
    [(repo, sent, asked)] = hub.uploads
    assert repo == "me/fashion"
    assert len(sent) == asked
    assert {"README.md", "crate_code.py", "config.json", "model.safetensors", "metrics.json", "recipe.yaml"} <= sent
    assert not any(name.startswith(("checkpoints", "optimizer", "trainer_state", ".run")) for name in sent)
    assert sent == set(done.files)
    assert "checkpoints" in done.left_out
    assert "optimizer.pt" in done.left_out
    entry = yaml.safe_load((run_folder / ".eval_results" / "fashion.yaml").read_text())
    assert entry == [{"dataset": {"id": "zalando/fashion", "task_id": "test"}, "value": 0.8458, "notes": "accuracy"}]
    assert ModelCard((run_folder / "README.md").read_text()).data.license == "mit"
    assert (
        json.loads((run_folder / "config.json").read_text())["auto_map"]["AutoModel"] == "crate_code.CrateVisionModel"
    )
    model = CrateForImageClassification.from_pretrained(run_folder)  # what was rewritten still loads
    assert torch.isfinite(model(torch.zeros(1, 1, 28, 28)).logits).all()


def test_a_card_of_the_users_own_is_kept(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(monkeypatch)
    (run_folder / "README.md").write_text("# Mine\n")
    notes: list[str] = []
    assert publish(run_folder, on_note=notes.append).card == "# Mine\n"
    assert "README.md is kept as it is" in notes
    with pytest.raises(UserError, match=r"README\.md is there and is kept"):
        publish(run_folder, license_name="mit")


def test_wrong_folders_and_a_hub_that_refuses_end_in_one_line(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="is no folder"):
        publish(tmp_path / "nothing")
    with pytest.raises(UserError, match="OWNER/DATASET:TASK"):
        publish(run_folder, dry_run=True, benchmark="fashion")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no config\.json"):
        publish(tmp_path / "empty")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE|cannot be reached"):
        publish(run_folder)

    def unknown(*_args, **_options):
        raise LocalTokenNotFoundError("no token")

    monkeypatch.setattr(HfApi, "create_repo", unknown)
    with pytest.raises(UserError, match="hf auth login"):
        publish(run_folder)
    monkeypatch.setattr(HfApi, "create_repo", lambda *_a, **_o: SimpleNamespace(repo_id="me/x"))

    def broken(*_args, **_options):
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(HfApi, "upload_folder", broken)
    with pytest.raises(UserError, match="cannot be reached: reset by peer"):
        publish(run_folder)


def test_the_command_shows_the_card_and_the_files(run_folder: Path) -> None:
    shown = CliRunner().invoke(app, ["publish", str(run_folder), "--dry-run", "--repo", "me/clothes"]).output
    assert "# clothes" in shown
    assert "model.safetensors" in shown
    assert "stays here: .run.lock, checkpoints" in shown
    assert "nothing was written or sent" in shown
