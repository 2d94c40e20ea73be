"""Every number of an answer is the library's function's that it names; what is kept changes nothing."""

import os
import subprocess
import sys
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification

from crate_transformers import (
    CrateForImageClassification,
    CrateVisionConfig,
    TostForImageClassification,
    TostVisionConfig,
    demo,
)
from crate_transformers.analysis import (
    Edit,
    attention_maps,
    code_of_token,
    compression_shares,
    descent_angles,
    edited,
    film_of_token,
    joint_pca,
    measure_half_steps,
    patch_features,
    run_edited,
    trace,
)
from crate_transformers.explore.looking import MAX_UPLOAD_BYTES, MAX_UPLOADS
from crate_transformers.explore.packing import pack
from crate_transformers.explore.parts import PARTS
from crate_transformers.explore.scripts import script_of
from crate_transformers.explore.service import Service
from crate_transformers.explore.state import State
from crate_transformers.explore.subjects import open_subjects

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
EDITS = {
    "nothing": Edit(),
    "lambda": Edit(sparsity_weights={2: 0.4, 4: 0.0}),
    "heads": Edit(heads_off=frozenset({(3, 1)})),
    "a neuron": Edit(neurons={(5, 7): 1.5}),
    "one token": Edit(neurons={(1, 7): 1.5}, tokens=(9,)),
}


def pixels_of(service, number):
    subject = service.look.subjects.model
    return subject.model, subject.pixels(service.look.subjects.read(number))


@pytest.mark.parametrize("mode", ["official", "paper"])
@pytest.mark.parametrize("what", EDITS)
def test_the_ladder_is_that_of_the_library(service, what, mode):
    edit = EDITS[what]
    found = service.answer(State(picture=4, edit=edit, mode=mode), ("ladder",)).data["ladder"]["model"]
    model, pixels = pixels_of(service, 4)
    plain = measure_half_steps(model, pixels, mode)
    with edited(model, edit):
        ladder = measure_half_steps(model, pixels, mode)
    for column in ladder.columns:
        assert np.array(found["now"][column]) == pytest.approx(ladder.of(column).numpy(), rel=1e-6, abs=1e-6)
        assert np.array(found["before"][column]) == pytest.approx(plain.of(column).numpy(), rel=1e-6, abs=1e-6)
    assert found["now"]["compresses"] == list(ladder.compresses)
    assert found["now"]["sparsifies"] == list(ladder.sparsifies)


@pytest.mark.parametrize("what", EDITS)
def test_predictions_are_those_of_the_model(service, what):
    edit = EDITS[what]
    found = service.answer(State(picture=6, edit=edit), ("prediction",)).data["prediction"]
    model, pixels = pixels_of(service, 6)
    with torch.no_grad():
        before = model(pixels).logits.softmax(-1)[0]
        with edited(model, edit):
            now = model(pixels).logits.softmax(-1)[0]
    assert found["model"]["probabilities"] == pytest.approx(now.tolist(), abs=1e-6)
    assert found["model"]["before"] == pytest.approx(before.tolist(), abs=1e-6)
    assert found["model"]["best"] == model.config.id2label[int(now.argmax())]
    assert found["other"]["probabilities"] == found["other"]["before"]  # the change is of the model alone


def test_maps_shares_features_angles(service):
    edit = EDITS["heads"]
    state = State(picture=1, edit=edit, token=9, layer=4, head=2)
    answer = service.answer(state, ("maps", "shares", "features", "angles"))
    model, pixels = pixels_of(service, 1)
    with edited(model, edit):
        row, column = divmod(8, 7)
        maps = attention_maps(model, pixels, query=(row, column)).maps[0].flatten(-2)
        record = trace(model, pixels)
        angles = descent_angles(model, record)
        components = joint_pca(patch_features(model, pixels, 4, head=2))
    assert answer.arrays["maps/model"][..., 1:] == pytest.approx(maps.numpy(), abs=1e-6)
    assert answer.data["angles"]["model"] == pytest.approx(angles[:, 0].tolist(), abs=1e-4)
    weight = model.crate.layers[4].compression.attention.bases()
    shares = compression_shares(record.layers[4].tokens_in, record.layers[4].half_tokens, weight, 6)
    assert answer.arrays["shares/model"][4] == pytest.approx(shares[0].detach().numpy(), abs=1e-6)
    colors = (components.colors[0].numpy() * 255).round()
    assert np.abs(answer.arrays["features/model/colors"].astype(float) - colors).max() <= 1
    assert answer.arrays["features/model/masks"].shape == (6, 7, 7)


@pytest.mark.parametrize("what", EDITS)
def test_the_code_and_its_film(service, what):
    edit = EDITS[what]
    state = State(picture=2, edit=edit, layer=4, token=11)
    answer = service.answer(state, ("code", "film"))
    model, pixels = pixels_of(service, 2)
    with edited(model, edit):
        record = trace(model, pixels)
        code, film = code_of_token(model, record, 4, 11), film_of_token(model, record, 4, 11)
    assert answer.data["code"]["neurons"] == code.neurons
    assert answer.data["code"]["values"] == pytest.approx(code.values, abs=1e-6)
    assert answer.data["code"]["residuals"] == pytest.approx(code.residuals, abs=1e-6)
    firing = record.layers[4].codes[0][:, list(code.neurons[:12])].T
    assert answer.arrays["code/firing"] == pytest.approx(firing.numpy(), abs=1e-6)
    assert answer.data["film"]["objective"] == pytest.approx(film.objective, abs=1e-6)
    assert answer.arrays["film/codes"] == pytest.approx(film.codes.numpy(), abs=1e-6)


def test_a_neuron_s_page(service):
    state = State(picture=2, layer=3, token=11, neuron=5)
    found = service.answer(state, ("neuron",)).data["neuron"]
    model, pixels = pixels_of(service, 2)
    run = run_edited(model, pixels)
    off = run_edited(model, pixels, Edit(neurons={(3, 5): 0.0}))
    now, without = (one.outputs.logits.softmax(-1)[0] for one in (run, off))
    assert found["here"] == pytest.approx(run.trace.layers[3].codes[0, :, 5].tolist(), abs=1e-6)
    for label, share, other in zip(*(found["effect"][key] for key in ("labels", "with", "without")), strict=True):
        place = model.config.label2id[label]
        assert (share, other) == (
            pytest.approx(now[place].item(), abs=1e-6),
            pytest.approx(without[place].item(), abs=1e-6),
        )
    best = found["top"][0]
    values = [trace(model, pixels_of(service, i)[1], ("codes",)).layers[3].codes[0, :, 5] for i in range(40)]
    assert best["value"] == pytest.approx(max(v.max().item() for v in values), abs=1e-6)
    assert values[best["input"]][best["token"]].item() == pytest.approx(best["value"], abs=1e-6)


def test_painting_over_is_of_those_patches_alone(service):
    plain = service.answer(State(picture=3), ("tokens",)).arrays["tokens/picture"].astype(int)
    painted = service.answer(State(picture=3, painted=(8, 30)), ("tokens",)).arrays["tokens/picture"].astype(int)
    changed = (plain != painted).any(axis=-1).reshape(7, 4, 7, 4).any(axis=(1, 3)).flatten()
    assert set(np.flatnonzero(changed)) <= {8, 30}
    assert changed.any()
    with pytest.raises(ValueError, match="there is no patch 49"):
        service.answer(State(picture=3, painted=(49,)), ("tokens",))


def test_what_is_kept_changes_nothing(service):
    """The same questions in another order, after other questions, have the same answers."""
    states = [State(picture=p, edit=EDITS[what], layer=4, neuron=3) for p in (0, 5) for what in EDITS]
    first = [pack(service.answer(state, tuple(PARTS))) for state in states]
    fresh = Service(open_subjects("demo:fashion", "untrained"))
    again = [pack(fresh.answer(state, tuple(PARTS))) for state in reversed(states)]
    assert first == again[::-1]


def test_memory_stays_bounded(service):
    for i in range(60):
        edit = Edit(sparsity_weights={i % 6: 0.01 * i})
        service.answer(State(picture=i % 40, edit=edit), ("ladder", "maps"))
    look = service.look
    assert max(len(look._runs), len(look._changed), len(look.measures), len(look.codes)) <= 8


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (State(picture=40), "there is no picture 40"),
        (State(picture="upload-99"), "is gone"),
        (State(token=50), "there is no token 50"),
        (State(layer=6), "there is no layer 6"),
        (State(layer=0, neuron=96), "there is no neuron 96"),
        (State(edit=Edit(heads_off=frozenset({(0, 6)}))), "there is no head 6"),
        (State(edit=Edit(sparsity_weights={9: 0.1})), "there is no layer 9"),
        (State(other="nobody"), "there is no model 'nobody'"),
        (State(other="none", which="other"), "no model beside"),
    ],
)
def test_wrong_questions_are_refused_and_the_next_is_answered(service, state, says):
    with pytest.raises(ValueError, match=says):
        service.answer(state, ("maps", "code", "neuron"))
    assert service.answer(State(), ("prediction",)).data["prediction"]["model"]["best"]
    with pytest.raises(ValueError, match="unknown part 'everything'"):
        service.answer(State(), ("everything",))


def png(size, mode="RGB"):
    buffer = BytesIO()
    Image.new(mode, size, 128).save(buffer, format="png")
    return buffer.getvalue()


def test_pictures_that_are_opened():
    service = Service(open_subjects("demo:fashion", "untrained"))
    names = [service.upload(png((50 + i, 40))).data["picture"] for i in range(MAX_UPLOADS + 1)]
    assert service.answer(State(picture=names[-1]), ("prediction",)).data["prediction"]["model"]["best"]
    with pytest.raises(ValueError, match="is gone"):
        service.answer(State(picture=names[0]), ("prediction",))
    for content, says in (
        (b"no picture", "the file"),
        (png((50, 40))[:60], "the file"),
        (b"\0" * (MAX_UPLOAD_BYTES + 1), "larger than 20 MiB"),
        (png((8000, 8000), "1"), "more than the 40,000,000"),
    ):
        with pytest.raises(ValueError, match=says):
            service.upload(content)


def saved(folder, model):
    model.save_pretrained(folder)
    return str(folder)


SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "num_labels": 3}
OTHERS = {
    "alpha": lambda: CrateForImageClassification(
        CrateVisionConfig(**SIZES, patch_size=8, dictionary_ratio=2, ista_steps=2, ista_residual=True)
    ),
    "hybrid": lambda: CrateForImageClassification(
        CrateVisionConfig(
            **SIZES, patch_size=8, compression=["mssa", "tssa", "mhsa"], sparsification=["ista", "mlp", "none"]
        )
    ),
    "tied": lambda: CrateForImageClassification(CrateVisionConfig(**SIZES, patch_size=8, attention_output="tied")),
    "tost": lambda: TostForImageClassification(TostVisionConfig(**SIZES, patch_size=16)),
    "vit": lambda: ViTForImageClassification(ViTConfig(**SIZES, patch_size=8, intermediate_size=31)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_models_of_every_kind_open(name, tmp_path):
    torch.manual_seed(0)
    service = Service(open_subjects(saved(tmp_path / name, OTHERS[name]()), "demo:fashion"))
    about = service.describe(State()).data
    answer = service.answer(State(layer=1, neuron=2), tuple(PARTS))
    pack(answer)
    assert len(answer.data["ladder"]["model"]["now"]["rate"]) == 3
    assert about["other"]["name"] == "demo:fashion"
    has_code = name in ("alpha", "tied")
    assert ("left_out" in answer.data["code"]) != has_code
    assert [value is not None for value in about["model"]["lambda"]] == (
        [True, False, False] if name == "hybrid" else [has_code] * 3
    )
    assert about["model"]["heads_can_be_off"] == [name != "tied"] * 3


def test_many_patches_are_said_to_leave_something_out(tmp_path):
    fields = {**SIZES, "image_size": 384, "num_hidden_layers": 2}
    model = CrateForImageClassification(CrateVisionConfig(**fields, patch_size=8))
    service = Service(open_subjects(saved(tmp_path / "large", model), "untrained"))
    answer = service.answer(State(), ("maps", "ladder", "prediction", "code"))
    assert "2,304 patches are more than" in answer.data["maps"]["model"]["left_out"]
    assert len(answer.data["ladder"]["model"]["now"]["rate"]) == 2


def test_checkpoints_of_a_run_stand_beside_it(tmp_path):
    torch.manual_seed(0)
    run = tmp_path / "run"
    for step in (5, 10):
        saved(run / "checkpoints" / f"checkpoint-{step}", OTHERS["alpha"]())
    saved(run, OTHERS["alpha"]())
    service = Service(open_subjects(str(run)))
    assert service.describe(State()).data["others"] == ["untrained", "checkpoint-5", "checkpoint-10"]
    found = [
        service.answer(State(other=name), ("prediction",)).data["prediction"]["other"]["probabilities"]
        for name in ("checkpoint-5", "checkpoint-10", "checkpoint-5")
    ]
    assert found[0] == found[2] != found[1]
    (run / "checkpoints" / "checkpoint-10" / "model.safetensors").unlink()
    fresh = Service(open_subjects(str(run)))
    with pytest.raises(ValueError, match="checkpoint-10"):
        fresh.answer(State(other="checkpoint-10"), ("prediction",))
    assert fresh.answer(State(), ("prediction",)).data["prediction"]["model"]["best"]


@pytest.mark.parametrize(
    "state",
    [
        State(picture=3, edit=EDITS["lambda"], mode="paper", layer=2, token=5),
        State(picture=7, painted=(8, 9), edit=EDITS["one token"], layer=1, token=9),
        State(picture=5, which="other", edit=EDITS["heads"], layer=1, token=9),
    ],
)
def test_the_script_prints_the_numbers_of_the_screen(service, state, tmp_path):
    script = script_of(service, state, None)
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False, env=ONE_THREAD
    )
    assert printed.returncode == 0, printed.stderr
    answer = service.answer(state, ("ladder", "prediction"))
    rows = [line.split() for line in printed.stdout.splitlines()[: 6 * 3]]
    found = answer.data["ladder"][state.which]["now"]
    for row, (layer, place) in zip(rows, [(i, j) for i in range(6) for j in range(3)], strict=True):
        expected = [found[column][layer][place] for column in ("coding_rate", "rate", "nonzero_fraction")]
        assert [float(number) for number in row[2:]] == pytest.approx(expected, rel=1e-6, abs=1e-6)
    best = max(answer.data["prediction"][state.which]["probabilities"])
    assert f"{best:.4f}"[:5] in printed.stdout


def test_text(writer):
    texts = demo.texts()
    state = State(text=texts[1], token=6, layer=2)
    answer = writer.answer(state, tuple(PARTS))
    subject = writer.look.subjects.model
    ids = subject.ids(texts[1])
    assert answer.data["tokens"]["ids"] == ids[0].tolist()
    with torch.no_grad():
        logits = subject.model(ids).logits[0, 6].softmax(-1)
    top = logits.topk(8)
    assert answer.data["prediction"]["model"]["probabilities"] == pytest.approx(top.values.tolist(), abs=1e-6)
    ladder = measure_half_steps(subject.model, ids)
    now = answer.data["ladder"]["model"]["now"]
    assert np.array(now["coding_rate"]) == pytest.approx(ladder.of("coding_rate").numpy(), rel=1e-6, abs=1e-6)
    with pytest.raises(ValueError, match="type some words"):
        writer.answer(replace(state, text=""), ("tokens",))
    with pytest.raises(ValueError, match="shorten it"):
        writer.answer(replace(state, text="word " * 3000), ("tokens",))
    neuron = writer.answer(replace(state, neuron=3), ("neuron",)).data["neuron"]
    assert all(len(entry["around"]) > entry["at"] for entry in neuron["top"])


def test_text_grows_as_generate_writes_it(writer):
    subject = writer.look.subjects.model
    ids = subject.ids("The following table")
    made = subject.model.generate(ids, max_new_tokens=6, do_sample=False, attention_mask=torch.ones_like(ids))
    state = State(text="The following table")
    for _ in range(6):
        state = replace(state, text=writer.grow(state).data["text"])
    assert state.text == subject.tokenizer.decode(made[0])
    steered = replace(State(text="The following table"), edit=Edit(neurons={(4, 3): 9.0}))
    tokens = {writer.grow(replace(steered, edit=edit)).data["token"] for edit in (Edit(), steered.edit)}
    assert len(tokens) >= 1
    drawn = {writer.grow(State(text="The following table"), temperature=1.5).data["token"] for _ in range(3)}
    assert len(drawn) == 1  # the seed follows from the place: the same question, the same answer


def test_pictures_for_words_and_words_for_pictures():
    with pytest.raises(ValueError, match="reads images: pass --data"):
        open_subjects("demo:fashion", text="words")
    with pytest.raises(ValueError, match="reads text: pass --text"):
        open_subjects("demo:python", data="digits")
    with pytest.raises(ValueError, match="no baseline of it"):
        open_subjects("demo:fashion", "demo:python")
    with pytest.raises(ValueError, match="there is no demonstration"):
        open_subjects("demo:nothing")
