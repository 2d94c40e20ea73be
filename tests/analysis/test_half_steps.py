"""The ladder of half-steps, edits, runs that go on from an earlier one, tokens as sums of atoms."""

import pytest
import torch
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, ViTConfig, ViTForImageClassification

from crate_transformers import (
    CrateConfig,
    CrateForCausalLM,
    CrateForImageClassification,
    CrateVisionConfig,
    CrateVisionModel,
    TostForImageClassification,
    TostVisionConfig,
)
from crate_transformers.analysis import (
    Edit,
    code_of_token,
    compression_shares,
    descent_angles,
    edited,
    film_of_token,
    measure_half_steps,
    measure_layers,
    run_edited,
    trace,
)
from crate_transformers.analysis.half_steps import LadderMeter
from crate_transformers.analysis.tracing import by_head
from crate_transformers.objective import coding_rate, ista_step

SIZES = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2}
IMAGES = {**SIZES, "image_size": 12, "patch_size": 4}


def crate(**fields):
    return CrateForImageClassification(CrateVisionConfig(**IMAGES, num_labels=3, **fields))


MODELS = {
    "mssa": crate,
    "mean": lambda: crate(pool="mean"),
    "tssa": lambda: crate(compression="tssa", sparsification="mlp"),
    "cbsa": lambda: crate(compression="cbsa", representatives=(2, 2)),
    "mhsa": lambda: crate(compression="mhsa", sparsification="mlp", qkv_bias=True),
    "alpha": lambda: crate(dictionary_ratio=3, ista_steps=2, tie_dictionary=False, ista_residual=True),
    "backbone": lambda: CrateVisionModel(CrateVisionConfig(**IMAGES)),
    "tost": lambda: TostForImageClassification(
        TostVisionConfig(**{**SIZES, "hidden_size": 16}, image_size=32, patch_size=16, num_labels=3)
    ),
    "vit": lambda: ViTForImageClassification(ViTConfig(**IMAGES, intermediate_size=31, num_labels=3)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(n_embd=12, n_layer=3, n_head=2, vocab_size=37, n_positions=23, bos_token_id=0, eos_token_id=0)
    ),
    "bert": lambda: BertModel(BertConfig(**SIZES, intermediate_size=31, vocab_size=37)),
    "decoder": lambda: CrateForCausalLM(
        CrateConfig.from_size("gpt2-tiny", **SIZES, vocab_size=37, bos_token_id=0, eos_token_id=0)
    ),
}


def model_and_inputs(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    model.set_attn_implementation("eager")
    if model.main_input_name == "input_ids":
        return model, torch.randint(5, 37, (2, 7))
    size = model.config.image_size
    return model, torch.rand(2, 3, size, size)


@pytest.mark.parametrize("mode", ["official", "paper"])
@pytest.mark.parametrize("name", MODELS)
def test_a_ladder_agrees_with_the_measures_of_layers(name, mode):
    model, inputs = model_and_inputs(name)
    ladder, layers = measure_half_steps(model, inputs, mode), measure_layers(model, inputs, mode)
    place = 0 if mode == "official" or name in ("tssa", "tost") else 1
    rate_place = 0 if mode == "official" else 1
    assert ladder.of("coding_rate")[:, place].tolist() == pytest.approx(layers.coding_rate_mean, abs=1e-9)
    assert ladder.of("rate")[:, rate_place].tolist() == pytest.approx(layers.rate_mean, abs=1e-9)
    assert ladder.of("nonzero_fraction")[:, 2].tolist() == pytest.approx(layers.nonzero_fraction_mean, abs=1e-9)


def test_the_signs_of_a_ladder_are_those_of_its_numbers():
    model, inputs = model_and_inputs("mssa")
    ladder = measure_half_steps(model, inputs)
    record = trace(model, inputs, ("tokens", "half_tokens"))
    for index, layer in enumerate(model.crate.layers):
        operator = layer.compression
        rates, gains = [], []
        for tokens in (
            record.layers[index].tokens_in,
            record.layers[index].half_tokens,
            record.layers[index].tokens_out,
        ):
            with torch.no_grad():
                normed = operator.norm(tokens)
                projected = by_head(operator.attention.subspaces(normed), 2)
            unit = [torch.nn.functional.normalize(t.double(), dim=-1) for t in (projected, normed)]
            rates.append(coding_rate(unit[0], 0.1).sum(dim=-1).mean().item())
            nonzeros = (tokens != 0).sum(dim=(1, 2)).double()
            gains.append((coding_rate(unit[1], 0.1) - 0.1 * nonzeros).mean().item())
        assert ladder.of("coding_rate")[index].tolist() == pytest.approx(rates, abs=1e-4)
        assert ladder.compresses[index] == (rates[1] < rates[0])
        assert ladder.sparsifies[index] == (gains[2] > gains[1])


def test_padding_does_not_count():
    model, ids = model_and_inputs("bert")
    mask = torch.ones_like(ids)
    padded = {"input_ids": torch.cat([ids, ids[:, :3]], 1), "attention_mask": torch.cat([mask, 0 * mask[:, :3]], 1)}
    alone = measure_half_steps(model, ids)
    assert measure_half_steps(model, padded).values == pytest.approx(alone.values, abs=1e-4)
    assert measure_half_steps(model, padded).sparsifies == alone.sparsifies


@pytest.mark.parametrize("name", ["mssa", "mhsa", "cbsa", "vit", "gpt2"])
def test_a_small_step_down_the_gradient_lowers_the_rate(name):
    """The angle is to minus the true gradient: finite differences of the ladder's own R^c say the same."""
    model, inputs = model_and_inputs(name)
    record = trace(model, inputs[:1], LadderMeter.records)
    meter = LadderMeter(model, "paper")
    layer = record.layers[1]
    step = layer.half_tokens - layer.tokens_in

    def rate(tokens):
        moved = torch.utils._pytree.tree_map(lambda x: x, layer.__dict__)
        at = type(layer)(**{**moved, "tokens_in": tokens.float()})
        values, _ = meter.values(
            type(record)(**{**record.__dict__, "layers": (record.layers[0], at, record.layers[2])})
        )
        return values[0, 1, 0, 0].item()

    slope = (rate(layer.tokens_in + 1e-3 * step) - rate(layer.tokens_in - 1e-3 * step)) / 2e-3
    angle = descent_angles(model, record, "paper")[1, 0].item()
    assert (slope < 0) == (angle < 90)
    assert abs(slope) > 1e-4


def test_the_shares_of_the_tokens_add_up_to_the_change_of_the_rate():
    torch.manual_seed(0)
    before, after, weight = torch.randn(2, 7, 10), torch.randn(2, 7, 10), torch.randn(6, 10)
    shares = compression_shares(before, after, weight, num_heads=2, points=24)

    def rates(tokens):
        return coding_rate(by_head(tokens.double() @ weight.double().mT, 2), 0.1)

    assert shares.shape == (2, 2, 7)
    assert shares.sum(dim=-1) == pytest.approx(rates(after) - rates(before), abs=1e-5)
    still = after.clone()
    still[:, 3] = before[:, 3]  # a token that does not move has no share
    assert compression_shares(before, still, weight, 2)[..., 3].abs().max() == 0


EDITS = {
    "nothing": Edit(),
    "lambda": Edit(sparsity_weights={1: 0.7}),
    "eta": Edit(step_sizes={2: 0.3}),
    "heads": Edit(heads_off=frozenset({(1, 1), (2, 0)})),
    "neurons": Edit(neurons={(1, 3): 2.0, (0, 5): 0.0}),
    "one token": Edit(neurons={(1, 3): 2.0}, tokens=(2,)),
}


def tensors(run):
    found = {name: value for name, value in run.outputs.items() if isinstance(value, torch.Tensor)}
    for index, layer in enumerate(run.trace.layers):
        found |= {f"{index}/{name}": value for name, value in vars(layer).items() if value is not None}
    return found


@pytest.mark.parametrize("what", EDITS)
@pytest.mark.parametrize("name", MODELS)
def test_a_run_that_goes_on_equals_a_run_from_the_start(name, what):
    model, inputs = model_and_inputs(name)
    edit = EDITS[what]
    if what in ("lambda", "eta") and name in ("tssa", "mhsa", "tost", "vit", "gpt2", "bert"):
        with pytest.raises(ValueError, match="takes no step of ISTA"):
            run_edited(model, inputs, edit)
        return
    plain = run_edited(model, inputs)
    whole, on = tensors(run_edited(model, inputs, edit)), tensors(run_edited(model, inputs, edit, before=plain))
    assert whole.keys() == on.keys()
    assert all(torch.equal(whole[key], on[key]) for key in whole)
    back = tensors(run_edited(model, inputs, before=run_edited(model, inputs, edit)))
    assert all(torch.equal(value, back[key]) for key, value in tensors(plain).items())
    with torch.no_grad(), edited(model, edit):
        outputs = model(inputs)
    for key in ("logits", "last_hidden_state"):
        if key in outputs:
            assert outputs[key] == pytest.approx(whole[key], abs=1e-5)
    changed = any(not torch.equal(whole[key], value) for key, value in tensors(plain).items())
    assert changed == (what != "nothing")


def test_an_edit_does_what_it_says():
    model, images = model_and_inputs("mssa")
    clamped = run_edited(model, images, EDITS["one token"]).trace.layers[1].codes
    plain = run_edited(model, images).trace.layers[1].codes
    assert clamped[:, 2, 3].tolist() == [2.0, 2.0]
    clamped[:, 2, 3] = plain[:, 2, 3]
    assert torch.equal(clamped, plain)
    layer = model.crate.layers[1]
    with edited(model, Edit(sparsity_weights={1: 0.7}, step_sizes={1: 0.3})):
        record = trace(model, images, ("half_tokens", "codes")).layers[1]
        signal = layer.sparsification.norm(record.half_tokens)
        expected = ista_step(signal, signal, layer.sparsification.coding.dictionary, 0.3, 0.7)
        assert record.codes == pytest.approx(expected.detach(), abs=1e-5)
    off = trace_without_head(model, images)
    operator = layer.compression
    with torch.no_grad():
        weights = off.attention @ off.projections  # (B, K, N, p)
        weights[:, 1] = 0
        half = off.tokens_in + operator.attention.output(weights.transpose(1, 2).flatten(2))
    assert off.half_tokens == pytest.approx(half, abs=1e-5)


def trace_without_head(model, images):
    return run_edited(model, images, Edit(heads_off=frozenset({(1, 1)}))).trace.layers[1]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (Edit(sparsity_weights={3: 0.1}), "there is no layer 3"),
        (Edit(sparsity_weights={0: -0.1}), "lambda must be a finite number >= 0"),
        (Edit(sparsity_weights={0: float("nan")}), "lambda must be"),
        (Edit(step_sizes={0: 0.0}), "eta must be a finite number > 0"),
        (Edit(heads_off=frozenset({(0, 2)})), "there is no head 2"),
        (Edit(neurons={(0, 12): 1.0}), "there is no neuron 12"),
    ],
)
def test_wrong_edits_are_refused_and_leave_nothing(edit, says):
    model, images = model_and_inputs("mssa")
    before = run_edited(model, images).outputs.logits
    with pytest.raises(ValueError, match=says), edited(model, edit):
        pass
    assert torch.equal(run_edited(model, images).outputs.logits, before)


def test_heads_of_a_tied_output_cannot_be_switched_off():
    model = crate(attention_output="tied")
    with (
        pytest.raises(ValueError, match="own bases"),
        edited(model, Edit(heads_off=frozenset({(0, 1)}))),
    ):
        pass


def test_a_token_is_a_sum_of_its_atoms():
    model, images = model_and_inputs("alpha")
    record = trace(model, images[:1], ("tokens", "half_tokens", "codes"))
    code = code_of_token(model, record, 2, 4)
    layer, block = record.layers[2], model.crate.layers[2].sparsification
    assert code.of == "written"
    assert code.residuals[-1] < 1e-6  # exactly: all that the layer writes
    assert list(code.values) == sorted(code.values, reverse=True)
    atoms = block.decoder_dictionary.detach()[:, list(code.neurons)].T * torch.tensor(code.values)[:, None]
    total = atoms.sum(dim=0)
    assert layer.half_tokens[0, 4] + total == pytest.approx(layer.tokens_out[0, 4], abs=1e-5)
    half = len(code.neurons) // 2
    some = atoms[:half].sum(dim=0)
    assert code.residuals[half] == pytest.approx(((total - some).norm() / total.norm()).item(), abs=1e-5)


def test_a_square_dictionary_codes_what_it_reads():
    model, images = model_and_inputs("mssa")
    record = trace(model, images[:1], ("half_tokens", "codes"))
    code = code_of_token(model, record, 0, 1)
    block = model.crate.layers[0].sparsification
    signal = block.norm(record.layers[0].half_tokens)[0, 1]
    left = signal - record.layers[0].codes[0, 1] @ block.coding.dictionary.mT
    assert code.of == "read"
    assert code.residuals[-1] == pytest.approx((left.norm() / signal.norm()).item(), abs=1e-5)
    assert len(code.neurons) == int((record.layers[0].codes[0, 1] > 0).sum())


@pytest.mark.parametrize("name", ["mssa", "alpha"])
def test_the_film_passes_through_the_code_of_the_layer(name):
    model, images = model_and_inputs(name)
    record = trace(model, images[:1], ("half_tokens", "codes"))
    film = film_of_token(model, record, 1, 3, steps=40)
    assert film.codes[film.taken] == pytest.approx(record.layers[1].codes[0, 3], abs=1e-5)
    assert film.codes.shape[0] == len(film.objective) == len(film.nonzeros) == 41
    assert all(after <= before + 1e-6 for before, after in zip(film.objective[1:], film.objective[2:], strict=False))


@pytest.mark.parametrize(
    ("name", "layer", "token", "says"), [("vit", 0, 0, "no sparse code"), ("mssa", 0, 99, "token 99")]
)
def test_a_token_or_code_that_is_not_there(name, layer, token, says):
    model, inputs = model_and_inputs(name)
    record = trace(model, inputs[:1], ("half_tokens", "codes"))
    with pytest.raises(ValueError, match=says):
        code_of_token(model, record, layer, token)
