"""A study of what a user names: numbers without a file, or files; a folder is left alone where the model is none."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
from zoo import IMAGE, baseline, text_model, vision_model

from crate_transformers.analysis import StudyOptions, measure_layers
from crate_transformers.analysis.study import SHOWN_NEURONS
from crate_transformers.evaluation.inspection import Subject, inspect_source, study_source


@pytest.fixture
def subject(tmp_path):
    vision_model().save_pretrained(tmp_path / "crate")
    baseline("vit").save_pretrained(tmp_path / "vit")
    images = torch.rand(5, 3, *IMAGE, generator=torch.Generator().manual_seed(1))
    save_file({"pixel_values": images}, tmp_path / "images.safetensors")
    return Subject(
        str(tmp_path / "crate"),
        baseline=str(tmp_path / "vit"),
        data=f"tensors:{tmp_path / 'images.safetensors'}",
        limit=4,
    )


def test_a_study_without_a_file(subject, tmp_path):
    before, shown = set(tmp_path.rglob("*")), []

    def progress(batches, count, what):
        shown.append((count, what))
        return batches

    study = study_source(subject, StudyOptions(num_pictures=2, mode="paper"), progress=progress)
    assert set(tmp_path.rglob("*")) == before
    assert shown == [(4, "measuring")] * 2
    assert list(study.measures) == ["crate", "vit"]
    assert study.on == "images.safetensors"
    images = torch.rand(5, 3, *IMAGE, generator=torch.Generator().manual_seed(1))
    assert study.measures["vit"] == measure_layers(baseline("vit"), images[:4], "paper")


def test_it_is_written_where_it_is_asked_for(subject, tmp_path):
    study = inspect_source(subject, tmp_path / "out", StudyOptions(num_pictures=0))
    assert (tmp_path / "out" / "measures.csv").read_text().count("\n") == 1 + len(study.rows())
    with pytest.raises(ValueError, match="no model"):
        inspect_source(Subject(str(tmp_path / "none")), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_data_may_be_called_text_where_text_is_read(subject, tmp_path):
    text_model(vocab_size=30).save_pretrained(tmp_path / "words")
    words = WordLevel({f"w{i}": i for i in range(30)}, unk_token="w0")
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), unk_token="w0").save_pretrained(tmp_path / "words")
    (tmp_path / "a.txt").write_text("w3")
    by_data, by_text = (
        study_source(Subject(str(tmp_path / "words"), **{option: f"{prefix}{tmp_path / 'a.txt'}"}))
        for option, prefix in (("data", "text:"), ("text", ""))
    )
    assert by_data.to_dict() == by_text.to_dict()
    assert by_data.text.attention.tokens == ("w3",)
    assert len(by_data.text.shown) <= SHOWN_NEURONS
    for data, text, message in (("text:a.txt", None, "text:a.txt"), (None, "words", "pass --data, not --text")):
        with pytest.raises(ValueError, match=message):
            study_source(Subject(subject.model, data=data, text=text))


def test_a_missing_processor_is_said(subject, tmp_path):
    from PIL import Image

    from crate_transformers.models.image_processing import image_processor_of

    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 30), (90, 40, 10)).save(tmp_path / "pictures" / "a.png")
    image_processor_of(vision_model().config, center_crop=False).save_pretrained(tmp_path / "crate")
    said = []
    asked = replace(subject, data=str(tmp_path / "pictures"))
    study = study_source(asked, StudyOptions(num_pictures=1), on_note=said.append)
    told = [line for line in said if "has no image processor beside it" in line]
    assert [line.split()[0] for line in told] == ["vit"]
    assert told[0] in study.facts["mind"]
    assert study.baseline_pictures.pictures.shape == study.pictures.pictures.shape
    quiet = []
    study_source(subject, StudyOptions(num_pictures=0), on_note=quiet.append)  # exact tensors need none
    assert not any("processor" in line for line in quiet)
