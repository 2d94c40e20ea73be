"""Neurons, steering and attention over tokens: hand-made codes, awkward input, what the pages hold."""

import pytest
import torch
from zoo import IMAGE, NEURONS, WIDTH, baseline, text_model, vision_model

from crate_transformers.analysis import find_neurons, inspect_text, steer_and_generate, steered, token_attention, trace
from crate_transformers.analysis.neurons import NO_TOKEN
from crate_transformers.analysis.text import neurons_html
from crate_transformers.report.tokens import attention_html, steering_html


class Words:
    """A tokenizer of numbered words."""

    def decode(self, ids):
        return "".join(f"<w{i}>" for i in ids)


def by_hand(model, ids, layer):
    """Codes (tokens, m) and the ids, of the whole text at once."""
    codes = trace(model, ids, ("codes",)).layers[layer].codes
    return codes.flatten(0, 1), ids.flatten()


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_statistics_and_examples_equal_those_of_the_whole(token_ids, batch_size):
    model = text_model()
    codes, ids = by_hand(model, token_ids, 1)
    found = find_neurons(model, [token_ids[:3], token_ids[3:]], 1, examples=5, context=2, batch_size=batch_size)
    assert (found.num_tokens, len(found)) == (4 * 17, WIDTH)
    assert torch.allclose(found.fire_fraction, (codes > 0).float().mean(dim=0))
    neuron = int(found.fire_fraction.argmax())
    own = codes[:, neuron].double()
    assert found.mean_when_firing[neuron].item() == pytest.approx(own[own > 0].mean().item(), rel=1e-5)
    selectivity = (1 - own.mean() ** 2 / own.square().mean()) / (1 - 1 / 68)
    assert found.selectivity[neuron].item() == pytest.approx(selectivity.item(), rel=1e-4)
    values, places = own.topk(5)
    assert torch.allclose(found.values[neuron].double(), values, rtol=1e-5)
    for (value, context, middle), place in zip(found.tokens(neuron), places.tolist(), strict=True):
        assert context[middle] == ids[place]
        assert value == pytest.approx(own[place].item(), rel=1e-5)
        row, column = divmod(place, 17)
        assert context == token_ids[row, max(0, column - 2) : column + 3].tolist()


def test_selectivity_of_one_token_and_of_all():
    model = text_model()
    coding = model.crate.layers[-1].sparsification.coding

    def answer(module, arguments, output):
        code = torch.zeros_like(output)
        code[..., 0] = 2.0  # fires alike on every token
        code[0, 4, 1] = 3.0  # on one token
        return code

    handle = coding.register_forward_hook(answer, prepend=True)
    found = find_neurons(model, torch.arange(5, 18)[None], -1, examples=3, context=1)
    handle.remove()
    assert found.selectivity[:3].tolist() == pytest.approx([0, 1, 0], abs=1e-6)
    assert found.fire_fraction[:3].tolist() == pytest.approx([1, 1 / 13, 0])
    assert found.tokens(1) == [(3.0, [8, 9, 10], 1)]
    assert found.tokens(2) == []
    assert found.most_selective(1) == [1]
    assert found.most_selective(5, min_fire_fraction=0.5) == [0]


def test_padding_never_fires(token_ids):
    model = text_model()
    mask = torch.ones_like(token_ids)
    mask[0, 7:] = 0
    ids = token_ids.masked_fill(mask == 0, 1)
    found = find_neurons(model, {"input_ids": ids, "attention_mask": mask}, context=3)
    assert found.num_tokens == 4 * 17 - 10
    assert not (found.contexts == 1).any()
    assert (found.contexts == NO_TOKEN).any()


def test_baselines_have_neurons(token_ids):
    for name in ("bert", "gpt2"):
        assert len(find_neurons(baseline(name), token_ids, 0)) == NEURONS


def test_steering_sets_a_neuron_within_its_scope(token_ids):
    model = text_model(causal=True, pad_token_id=1, bos_token_id=1, eos_token_id=None)
    with steered(model, -1, {5: 7.0, 2: -1.0}):
        codes = trace(model, token_ids, ("codes",)).layers[-1].codes
        assert codes[..., 5].eq(7).all()
        assert codes[..., 2].eq(-1).all()
        changed = model(token_ids).logits
    plain = model(token_ids).logits
    assert not torch.allclose(changed, plain)
    with torch.no_grad():
        model.lm_head.decoder.weight.zero_()
        model.lm_head.decoder.weight[11, 5] = 1.0  # the neuron speaks for token 11
        model.lm_head.decoder.weight[12, 6] = 1e-3
    before, after = steer_and_generate(
        model, token_ids[:1, :3], -1, {5: 50.0}, max_new_tokens=4, min_new_tokens=4, do_sample=False
    )
    assert after[0, 3:].tolist() == [11] * 4
    assert before.shape == after.shape


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model, ids: find_neurons(model, ids, 2), "no layer 2"),
        (lambda model, ids: find_neurons(model, ids, examples=0), "examples"),
        (lambda model, ids: find_neurons(model, ids).tokens(WIDTH), "no neuron 13"),
        (lambda model, ids: steered(model, 0, {WIDTH: 1.0}).__enter__(), "no neuron 13"),
        (lambda model, ids: steered(model, 0, {-1: 1.0}).__enter__(), "no neuron -1"),
        (lambda model, ids: steered(model, 5, {0: 1.0}).__enter__(), "no layer 5"),
        (lambda model, ids: steer_and_generate(model, ids, 0, {0: 1.0}), "does not generate"),
        (lambda model, ids: token_attention(model, ids), "one sequence"),
        (lambda model, ids: find_neurons(vision_model(), torch.rand(1, 3, *IMAGE)), "text model"),
    ],
)
def test_bad_input_is_named(call, message, token_ids):
    with pytest.raises(ValueError, match=message):
        call(text_model(), token_ids)


def test_attention_over_tokens(token_ids):
    model = text_model(causal=True)
    attention = token_attention(model, token_ids[:1], Words(), layers=[-1])
    record = trace(model, token_ids[:1], ("attention",))
    assert attention.layers == (1,)
    assert torch.allclose(attention.weights[0], record.layers[1].attention[0])
    assert attention.weights.triu(1).eq(0).all()  # causal
    assert attention.tokens[0] == f"<w{token_ids[0, 0]}>"
    content = attention_html(attention)
    assert content.count("<span") == 17
    assert content.count("0.75)") == 1  # the largest weight of the last token
    assert "&lt;w" in content  # words are escaped


def test_pages_escape_what_models_write(token_ids, tmp_path):
    model = text_model(causal=True)
    found = find_neurons(model, token_ids)
    page = neurons_html(found, Words(), found.most_selective(3))
    assert page.count("<h3>") == 3
    assert "<w" not in page
    assert "<b>" not in steering_html("<b>", "<b>", "<b>", 0, {1: 2.0})
    result = inspect_text(model, [token_ids], tmp_path, "paper", tokenizer=Words())
    assert {path.name for path in result.files} == {path.name for path in tmp_path.iterdir()}
    assert "<w" not in (tmp_path / "report.html").read_text()
