"""What a page holds of attention and codes: few bits a number, the same numbers, and no more than it may."""

import base64

import numpy as np
import pytest
import torch
from zoo import text_model, vision_model

from crate_transformers import TostVisionConfig
from crate_transformers.analysis import StudyOptions, study_model, trace
from crate_transformers.analysis.inside import held_layers, look_inside
from crate_transformers.report.viewer import Looked

PICTURE = Looked("one", picture=np.zeros((15, 35, 3), dtype=np.uint8))


def unpacked(layer):
    """(weights (K, Q, N), codes (N, m), non-zeros (N,)) as the page's script opens them."""

    def array(name, kind):
        return np.frombuffer(base64.b64decode(packed[name]), kind)

    packed = layer.packed()
    weights, tops = array("weights", np.uint8).reshape(layer.weights.shape), array("tops", "<f4")
    codes = array("codes", np.int8).reshape(-1, packed["width"]) if packed["width"] else None
    weights = weights / 255 * tops.reshape(layer.tops.shape)[..., None]
    return weights, codes if codes is None else codes / 127 * packed["top"], array("nonzeros", "<u4")


def test_a_page_holds_what_the_model_makes(images):
    model = vision_model()
    view = look_inside(model, images[:2], [PICTURE, PICTURE], start=1)
    assert (view.grid, view.prefix, view.layers, view.heads, view.kept) == ((3, 5), 1, (0, 1), 3, 0)
    assert list(view.notes) == []
    for i, sample in enumerate(view.samples):
        record = trace(model, images[i : i + 1], ("attention", "codes"))
        for held, made in zip(sample.layers, record.layers, strict=True):
            weights, codes, nonzeros = unpacked(held)
            true, code = made.attention[0].numpy(), made.codes[0].numpy()
            assert weights.shape == true.shape == (3, 16, 16)
            assert (np.abs(weights - true) <= true.max(axis=-1, keepdims=True) / 510 * 1.001).all()
            assert np.array_equal(codes != 0, code != 0)
            assert np.abs(codes - code).max() <= code.max() / 127
            assert np.array_equal(nonzeros, (code != 0).sum(axis=-1))
    assert 0 < (code == 0).mean() < 1


def test_signs_of_a_baseline_are_kept(images):
    from zoo import baseline

    vit = baseline("vit")
    view = look_inside(vit, images[:1], [PICTURE], start=0)
    code = trace(vit, images[:1], ("codes",)).layers[1].codes[0].numpy()
    assert (code < 0).any()
    assert np.array_equal(np.sign(unpacked(view.samples[0].layers[1])[1]), np.sign(code))


def test_no_more_than_it_may_hold(images):
    model = vision_model()
    layer = 3 * 16 * 16 + 16 * 13  # bytes
    whole = look_inside(model, images[:2], [PICTURE, PICTURE], 1, most=3 * layer)
    assert [[held.weights.shape[1] for held in sample.layers] for sample in whole.samples] == [[16, 16], [1, 1]]
    assert "for the first 1 of 2 pictures" in whole.notes[0]
    one = look_inside(model, images[:2], [PICTURE, PICTURE], 1, most=layer)
    assert [[held.weights.shape[1] for held in sample.layers] for sample in one.samples] == [[1, 16], [1, 1]]
    assert "in layers 1 of 2" in one.notes[0]
    none = look_inside(model, images[:2], [PICTURE, PICTURE], 1, most=layer - 1)
    assert "not held" in none.notes[0]
    true = trace(model, images[:1], ("attention",)).layers[0].attention[0].numpy()
    assert np.allclose(unpacked(none.samples[0].layers[0])[0], true[:, :1], atol=true.max() / 255)
    assert held_layers([5, 5, 5, 5], 1, 2, 15) == [{1, 2, 3}]


def test_the_last_token_of_a_text_is_kept(token_ids):
    model = text_model(causal=True)
    words = Looked("words", tokens=tuple("abcdefghijklmnopq"))
    view = look_inside(model, token_ids[:1], [words], 1, most=1)
    assert (view.grid, view.prefix, view.kept) == ((1, 17), 0, 16)
    true = trace(model, token_ids[:1], ("attention",)).layers[0].attention[0].numpy()
    assert np.allclose(unpacked(view.samples[0].layers[0])[0], true[:, 16:], atol=1 / 255)


def test_memberships_have_no_query():
    from crate_transformers import TostForImageClassification

    torch.manual_seed(0)
    config = TostVisionConfig.from_size("tiny", image_size=32, num_hidden_layers=2, num_labels=3)
    model = TostForImageClassification(config).eval()
    picture = Looked("one", picture=np.zeros((32, 32, 3), dtype=np.uint8))
    images = torch.rand(1, 3, 32, 32)
    view = look_inside(model, images, [picture], 0)
    true = trace(model, images, ("memberships",)).layers[1].memberships[0].mT.numpy()
    assert view.is_membership
    held = unpacked(view.samples[0].layers[1])[0]
    assert held.shape[:2] == (config.num_attention_heads, 1)
    assert np.allclose(held[:, 0], true, atol=1 / 255)


def test_pictures_are_those_that_were_asked_for(images):
    options = StudyOptions(num_pictures=9, places=(3, 1), names=("dog", "cat"))
    study = study_model(vision_model(), images, options)
    assert np.array_equal(study.pictures.attention.maps[1:], study_model(
        vision_model(), images[1:2], StudyOptions(num_pictures=1)
    ).pictures.attention.maps)  # fmt: skip
    names = [sample.name for sample in study.pictures.view.samples]
    assert [name.split(";")[0] for name in names] == ["dog", "cat"]
    logits = vision_model()(images[3:4]).logits.detach().softmax(-1)
    assert f"read as LABEL_{int(logits.argmax())} ({float(logits.max()):.0%})" in names[0]
    assert study.measures["model"].num_samples == len(images)
    with pytest.raises(ValueError, match="shorter|longer"):
        study_model(vision_model(), images, StudyOptions(places=(3, 1), names=("dog",)))
