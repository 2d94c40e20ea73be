"""A study: numbers in memory from one pass over the inputs, drawn and written only when that is asked for."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from zoo import IMAGE, WIDTH, baseline, mae_model, text_model, vision_model

from crate_transformers.analysis import (
    Study,
    StudyOptions,
    attention_maps,
    cluster_heads,
    find_neurons,
    joint_pca,
    measure_layers,
    patch_features,
    study_model,
    token_attention,
)
from crate_transformers.analysis.batches import KeptSamples
from crate_transformers.analysis.gathering import gather
from crate_transformers.analysis.study import Baseline
from crate_transformers.analysis.text import token_components


def once(batches):
    """A stream that can be gone through once."""
    yield from batches


def same(one, other):
    """Equal but for the names of the drawing's parts, which matplotlib draws at random."""
    cut = (page.split("<section><h2>All measures")[1] for page in (one, other))
    return len({*cut}) == 1


def test_images_are_gone_through_once_and_nothing_is_lost(images):
    model, vit = vision_model(), baseline("vit")
    options = StudyOptions(num_pictures=3, patch=(2, 4), layer=0, batch_size=2)
    study = study_model(model, once([images[:3], images[3:]]), options, Baseline("vit", vit, once([images])))
    assert study.measures == {
        "model": measure_layers(model, [images[:3], images[3:]], batch_size=2),
        "vit": measure_layers(vit, images, batch_size=2),
    }
    look, maps = study.pictures, attention_maps(model, images[:3])
    assert look.pictures.shape == (3, *IMAGE, 3)
    assert torch.equal(look.attention.maps, maps.maps)
    assert torch.equal(look.pointed.maps, attention_maps(model, images[:3], [0], (2, 4)).maps)
    assert look.clusters.labels == cluster_heads(maps).labels
    assert torch.equal(look.components.colors, joint_pca(patch_features(model, images[:3], 0)).colors)
    assert study.text is None


def test_text_is_gone_through_once_and_nothing_is_lost(token_ids):
    model = text_model(causal=True)
    study = study_model(model, once([token_ids[:3], token_ids[3:]]), StudyOptions(num_neurons=3, layer=0))
    assert study.measures["model"] == measure_layers(model, [token_ids[:3], token_ids[3:]])
    found = find_neurons(model, [token_ids[:3], token_ids[3:]], 0)
    assert study.text.neurons.rows() == found.rows()
    assert torch.equal(study.text.neurons.contexts, found.contexts)
    assert [neuron.neuron for neuron in study.text.shown] == found.most_selective(3, 3 / 68)
    first = study.text.shown[0]
    value, ids, place = found.tokens(first.neuron)[0]
    assert (first.examples[0].value, first.examples[0].place) == (value, place)
    assert first.examples[0].tokens == tuple(f"[{i}]" for i in ids)
    assert torch.equal(study.text.attention.weights, token_attention(model, token_ids[:1]).weights)
    assert study.facts["tokens"] == 68
    assert study.pictures is None


def test_padding_is_left_out_of_the_attention_that_is_shown(token_ids):
    mask = torch.ones_like(token_ids)
    mask[0, 7:] = 0
    study = study_model(text_model(), {"input_ids": token_ids, "attention_mask": mask}, StudyOptions(num_neurons=1))
    assert len(study.text.attention.tokens) == 7


def test_it_is_plain_data(images, token_ids):
    model = vision_model()
    study = study_model(model, images, StudyOptions(num_pictures=2, name="tiny", on="noise"))
    told = json.loads(json.dumps(study.to_dict(), allow_nan=False))
    assert told["facts"] == {**study.facts, "model": "tiny (CrateForImageClassification)"}
    assert told["models"]["tiny"]["rate_mean"] == pytest.approx(study.measures["tiny"].rate_mean)
    assert np.allclose(told["pictures"]["attention"]["maps"], study.pictures.attention.maps)
    assert np.asarray(told["pictures"]["components"]["colors"]).shape == (2, 3, 5, 3)
    assert len(told["pictures"]["clusters"]["labels"]) == 6
    assert all(picture.startswith("data:image/png;base64,") for picture in told["pictures"]["pictures"])
    assert told["text"] is None
    told = json.loads(json.dumps(study_model(text_model(), token_ids, StudyOptions(num_neurons=2)).to_dict()))
    assert len(told["text"]["shown"]) == 2
    assert len(told["text"]["neurons"]) == WIDTH
    assert np.asarray(told["text"]["attention"]["weights"]).shape == (2, 3, 17, 17)
    assert told["pictures"] is None


def test_what_is_written_is_what_is_in_memory(images, tmp_path):
    study = study_model(vision_model(), images, StudyOptions(num_pictures=2, mode="paper"))
    files = study.write(tmp_path / "deep" / "out")
    folder = tmp_path / "deep" / "out"
    assert {path.name for path in files} == {path.name for path in folder.iterdir()}
    assert {"layers.png", "components.svg", "attention.npz", "report.html"} <= {path.name for path in files}
    with (folder / "measures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == study.rows()
    content = json.loads((folder / "measures.json").read_text())
    assert content["facts"] == study.facts
    assert content["models"]["model"]["rate_mean"] == content["rate_mean"]
    with np.load(folder / "attention.npz") as arrays:
        assert np.array_equal(arrays["attention"], study.pictures.attention.maps)
    assert same((folder / "report.html").read_text(), study.to_html())
    page = study.to_html()
    assert page.count("<figure>") == len(study.plates) + 1 == 7  # that of attention is there for where no script runs
    assert page.count("<noscript><figure>") == 1


def test_nothing_is_drawn_before_it_is_asked_for():
    code = """
import sys, torch
sys.path.insert(0, {tests!r})
from zoo import IMAGE, vision_model
from crate_transformers.analysis import StudyOptions, study_model
study = study_model(vision_model(), torch.rand(2, 3, *IMAGE), StudyOptions(patch=(0, 0)))
study.to_dict()
assert "matplotlib" not in sys.modules, "drawn"
study.to_html()
assert "matplotlib" in sys.modules
"""
    tests = next(path for path in sys.path if path.endswith("tests"))
    subprocess.run([sys.executable, "-c", code.format(tests=tests)], check=True)


def test_a_decoder_is_measured_alone(images):
    study = study_model(mae_model(num_channels=3), images, StudyOptions(part="decoder"))
    assert study.facts["part"] == "decoder"
    assert len(study.measures["model"]) == 3
    assert study.pictures is None


def test_what_does_not_fit_is_told_before_the_work(images, token_ids):
    def never():
        raise AssertionError("the inputs were read")
        yield

    vision, text = vision_model(), text_model()
    for model, options, other, message in (
        (vision, StudyOptions(layer=2), None, "no layer 2"),
        (text, StudyOptions(num_neurons=1, layer=2), None, "no layer 2"),
        (vision, StudyOptions(mode="other"), None, "'official' or 'paper'"),
        (vision, StudyOptions(part="decoder"), None, "decoder"),
        (vision, StudyOptions(name="a"), Baseline("a", vision, never()), "both called 'a'"),
    ):
        with pytest.raises(ValueError, match=message):
            study_model(model, never(), options, other)
    with pytest.raises(ValueError, match="no patch"):
        study_model(vision, images, StudyOptions(patch=(3, 0)))
    with pytest.raises(ValueError, match="needs a text model"):
        study_model(vision, images, StudyOptions(num_neurons=1))


def test_samples_are_kept_on_the_way():
    batches = [{"input_ids": torch.arange(6).view(3, 2), "note": "left out"}, torch.full((2, 2), 9)]
    first = KeptSamples(batches, range(4))
    assert [id(item) for item in first] == [id(item) for item in batches]
    assert first.of("input_ids").tolist() == [[0, 1], [2, 3], [4, 5], [9, 9]]
    assert first.of("pixel_values") is None
    batches[1].zero_()
    assert first.of("input_ids")[3].tolist() == [9, 9]  # copies: a loader may use its tensors again
    assert first.of("input_ids").shape == (4, 2)
    chosen = KeptSamples(once([torch.arange(6).view(3, 2), torch.full((2, 2), 9)]), (4, 1, 7))
    assert len(list(chosen)) == 2
    assert chosen.of("input_ids").tolist() == [[9, 9], [2, 3]]  # in the order asked; there is no eighth
    none = KeptSamples(torch.zeros(2, 3), ())
    assert len(list(none)) == 1
    assert none.kept == {}


def test_gatherers_share_a_pass(token_ids):
    class Counter:
        def __init__(self, *records):
            self.records, self.seen = records, []

        def update(self, trace):
            self.seen.append([len(trace), *(getattr(trace.layers[0], name) is not None for name in self.records)])

    codes, halves = Counter("codes"), Counter("half_tokens", "codes")
    gather(text_model(), once([token_ids]), [codes, halves], batch_size=3)
    assert codes.seen == [[3, True], [1, True]]
    assert halves.seen == [[3, True, True], [1, True, True]]


def test_a_study_may_be_made_by_hand(images, tmp_path):
    measures = {"one": measure_layers(vision_model(), images), "two": measure_layers(baseline("vit"), images)}
    study = Study("one", "noise", measures)
    assert [row["model"] for row in study.rows()] == ["one", "one", "two", "two"]
    assert [plate.name for plate in study.plates] == ["layers", "objective", "subspaces", "subspaces_2"]
    assert {path.suffix for path in study.write(tmp_path)} == {".csv", ".json", ".html", ".png", ".svg"}


def test_a_baseline_is_looked_at_too(images, tmp_path):
    model, vit = vision_model(), baseline("vit")
    options = StudyOptions(num_pictures=2, patch=(2, 4), layer=0)
    study = study_model(model, images, options, Baseline("vit", vit, once([images[:1], images[1:]])))
    look = study.baseline_pictures
    assert torch.equal(look.attention.maps, attention_maps(vit, images[:2]).maps)
    assert torch.equal(look.pointed.maps, attention_maps(vit, images[:2], [0], (2, 4)).maps)
    assert torch.equal(look.components.colors, joint_pca(patch_features(vit, images[:2], 0)).colors)
    names = [plate.name for plate in study.plates]
    drawn = ["attention_patch", "attention", "heads", "components"]
    assert names[-8:] == [*drawn, *(f"{name}_2" for name in drawn)]
    assert all("vit" in plate.caption for plate in study.plates[-4:])
    files = {path.name for path in study.write(tmp_path)}
    assert {"attention_2.png", "components_2.svg", "attention_2.npz"} <= files
    assert "Attention and codes, layer by layer (baseline)" in (tmp_path / "report.html").read_text()
    assert study.to_dict()["baseline_pictures"]["layer"] == 0
    assert study.remarks == ("model is 13 wide, vit 15: rates depend on the width too",)


@pytest.mark.parametrize(("name", "causal"), [("gpt2", True), ("bert", False)])
def test_a_baseline_of_text_is_looked_at_too(name, causal, token_ids, tmp_path):
    other = baseline(name)
    options = StudyOptions(num_neurons=3, name="own", layer=-2)
    study = study_model(text_model(causal=causal), token_ids, options, Baseline("other", other, token_ids))
    look = study.baseline_text
    assert look.neurons.rows() == find_neurons(other, token_ids, 0).rows()
    assert torch.equal(look.attention.weights, token_attention(other, token_ids[:1]).weights)
    assert look.components.layer == 0
    assert sum(look.components.explained) < 1
    assert study.measures["other"] == measure_layers(other, token_ids)
    page = study.to_html()
    for heading in ("Attention over tokens and codes, layer by layer", "Components of the tokens"):
        assert page.count(heading) >= 2
        assert f"{heading} (baseline)" in page
    assert len(study.to_dict()["baseline_text"]["components"]["colors"]) == 17
    if causal:
        assert {"neurons.csv", "neurons_2.csv"} <= {path.name for path in study.write(tmp_path)}


def test_components_of_tokens_tell_groups_apart(token_ids):
    """Tokens that are alike have one colour: here, of a model without positions, those of one id."""
    model = text_model()
    torch.nn.init.zeros_(model.base_model.embeddings.position_embeddings.weight)
    ids = torch.tensor([[5, 7, 5, 9, 7, 5]])
    found = token_components(model, ids, 0)
    assert torch.allclose(found.colors[0], found.colors[2], atol=1e-5)
    assert torch.allclose(found.colors[1], found.colors[4], atol=1e-5)
    assert (found.colors[0] - found.colors[1]).abs().max() > 0.5


def test_what_a_baseline_lacks_is_said(images):
    """A baseline of one layer and of patches of another size."""
    vit = baseline("vit")
    config = type(vit.config)(**{**vit.config.to_dict(), "num_hidden_layers": 1, "patch_size": 8, "hidden_size": 24})
    other = type(vit)(config).eval()
    options = StudyOptions(num_pictures=1, patch=(2, 4), layer=1)
    study = study_model(vision_model(), images, options, Baseline("vit", other, images))
    assert study.baseline_pictures.layer == 0
    assert study.baseline_pictures.pointed is None
    assert study.pictures.pointed is not None
    assert any("which has 1: layer 0 is drawn instead" in note for note in study.notes)
    assert any(note.startswith("where patch 2, 4 of vit looks: its grid has") for note in study.notes)
    measured = study.measures
    assert measured["model"].tokens_per_sample > measured["vit"].tokens_per_sample
    assert any("tokens a sample, vit" in remark for remark in study.remarks)
    assert any("vit 24: rates depend on the width" in remark for remark in study.remarks)
    assert "tokens a sample" in study.facts["mind"]
    short = study_model(
        vision_model(), images, StudyOptions(num_pictures=0), Baseline("vit", baseline("vit"), images[:1])
    )
    assert any("on 1" in remark for remark in short.remarks)


def test_tokens_are_counted_without_padding(token_ids):
    mask = torch.ones_like(token_ids)
    mask[0, 7:] = 0
    own = measure_layers(text_model(), {"input_ids": token_ids, "attention_mask": mask})
    count, length = token_ids.shape
    assert own.tokens_per_sample == pytest.approx((length * (count - 1) + 7) / count)
    alone = measure_layers(text_model(), token_ids[:1, :7])
    both = measure_layers(text_model(), {"input_ids": token_ids[:1], "attention_mask": mask[:1]})
    assert both.hoyer_sparsity_mean == pytest.approx(alone.hoyer_sparsity_mean, abs=1e-5)
