"""On a GPU: every family gives a CPU's numbers, in half precision nearly so; compiled, averaged, traced, served.

Kernels and forms are tried in ops/test_forms.py and layers/test_attention_names.py. TF32 stays off, as torch has it.
"""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from families import MODELS, OVERCOMPLETE
from reference import largest_difference
from small_runs import SMALL
from zoo import build, decoder_config, enable_checkpointing, images, mae_model, text_model, token_ids, vision_config

from crate_transformers import CrateForCausalLM, CrateForImageClassification, CrateForMaskedLM, fuse
from crate_transformers.analysis import (
    Edit,
    StudyOptions,
    attention_maps,
    cluster_heads,
    code_of_token,
    compression_shares,
    film_of_token,
    find_neurons,
    joint_pca,
    mask_cut,
    measure_half_steps,
    measure_layers,
    patch_features,
    run_edited,
    steer_and_generate,
    study_model,
    token_attention,
    trace,
)
from crate_transformers.objective import subspace_coding_rate

pytestmark = pytest.mark.cuda
DEVICE = "cuda"


def on_gpu(model):
    return copy.deepcopy(model).to(DEVICE)


def there(inputs):
    return {name: value.to(DEVICE) for name, value in inputs.items()}


def trained(model, inputs):
    """The loss, and the gradients that its backward pass gives."""
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    return loss.detach().cpu(), {n: p.grad.float().cpu() for n, p in model.named_parameters() if p.grad is not None}


def of_seed(name):
    """A model with weights of a seed, and its inputs on the CPU, ids and labels other than one."""
    kind, config, inputs = MODELS[name]
    model = build(kind, config())
    with torch.random.fork_rng():
        torch.manual_seed(1)
        given = inputs("cpu")
        if "input_ids" in given:
            given["input_ids"] = torch.randint(3, 90, given["input_ids"].shape)
    if name == "masked autoencoder":
        given["noise"] = torch.rand(2, 15, generator=torch.Generator().manual_seed(2))
    return model, given


@pytest.mark.parametrize("attention", ["sdpa", "mssa", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_a_family_gives_the_numbers_of_a_cpu(name, attention):
    model, given = of_seed(name)
    model.set_attn_implementation("eager")
    expected, wanted = trained(model, given)
    moved = on_gpu(model)
    moved.set_attn_implementation(attention)
    loss, gradients = trained(moved, there(given))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    largest = max(gradient.abs().max().item() for gradient in wanted.values())
    assert set(gradients) == set(wanted)
    for parameter, gradient in gradients.items():
        assert largest_difference(gradient, wanted[parameter]) <= 1e-3 * max(1.0, largest), parameter


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", MODELS)
def test_a_family_under_autocast(name, dtype):
    model, given = of_seed(name)
    model, given = on_gpu(model).train(), there(given)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    expected = model(**given).loss.item()
    for attention in ("sdpa", "mssa"):
        model.set_attn_implementation(attention)
        with torch.autocast(DEVICE, dtype=dtype):
            loss = model(**given).loss
        (16.0 * loss).backward()
        assert loss.item() == pytest.approx(expected, rel=0.1)
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
@pytest.mark.parametrize("name", ["decoder", "over-complete decoder", "tost, text"])
def test_generation(name):
    kind, config, _ = MODELS[name]
    model = build(kind, config())
    ids = token_ids(2, 5)
    options = {"max_new_tokens": 7, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    moved, ids = on_gpu(model), ids.to(DEVICE)
    for attention in ("sdpa", "mssa"):
        moved.set_attn_implementation(attention)
        found = moved.generate(ids, attention_mask=torch.ones_like(ids), **options)
        assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("attention", ["sdpa", "mssa"])
def test_compiled_and_checkpointed(attention):
    model = build(CrateForImageClassification, vision_config(pool="mean")).to(DEVICE)
    model.set_attn_implementation(attention)
    given = {"pixel_values": images(model.config, 3).to(DEVICE), "labels": torch.tensor([0, 1, 2], device=DEVICE)}
    expected, wanted = trained(model, given)
    checkpointed = copy.deepcopy(model).train()
    enable_checkpointing(checkpointed)
    compiled = copy.deepcopy(model)
    compiled.compile()
    for other in (checkpointed, compiled):
        loss, gradients = trained(other, given)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        assert all(largest_difference(gradients[name], wanted[name]) <= 1e-4 for name in wanted)


@torch.no_grad()
def test_a_fused_model_in_cuda_graphs():
    model = build(CrateForImageClassification, vision_config(pool="mean")).to(DEVICE)
    pixels = images(model.config, 3).to(DEVICE)
    expected = model(pixels).logits
    served = fuse(model)
    assert largest_difference(served(pixels).logits, expected) <= 1e-5
    served.compile(mode="reduce-overhead")
    for _ in range(3):
        assert largest_difference(served(pixels).logits.clone(), expected) <= 1e-5


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap has no rule for torch's attention
def test_functions_of_torch_take_the_model_with_the_kernels():
    """torch.func and vmap know no kernel of ours: they get torch's operators."""
    model = build(CrateForImageClassification, vision_config(**OVERCOMPLETE, patch_embedding="convolution")).to(DEVICE)
    model.set_attn_implementation("mssa")
    pixels = images(model.config, 3).to(DEVICE)
    state = dict(model.named_parameters())

    def total(weights, one):
        return torch.func.functional_call(model, weights, (one[None],)).logits.square().sum()

    each = torch.func.vmap(torch.func.grad(total), in_dims=(None, 0))(state, pixels)
    model(pixels).logits.square().sum().backward()
    for name, parameter in state.items():
        assert largest_difference(each[name].sum(dim=0), parameter.grad) <= 1e-3, name


@pytest.mark.parametrize("precision", [{}, {"train.bf16": True}, {"train.fp16": True}, {"train.torch_compile": True}])
def test_a_run_with_an_average(tmp_path, precision):
    """Trained, averaged, evaluated, saved."""
    from crate_transformers.training import load_recipe, train

    recipe = load_recipe("digits", {**SMALL, **precision})
    assert recipe.train.ema_decay
    result = train(recipe, tmp_path / "run", on_note=lambda line: None)
    assert result.status == "finished"
    assert math.isfinite(result.metrics["test"]["loss"])
    model = CrateForImageClassification.from_pretrained(tmp_path / "run")
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("mode", ["official", "paper"])
def test_measures_are_those_of_a_cpu(mode):
    model = build(CrateForImageClassification, vision_config())
    pixels = images(model.config, 4)
    here, gpu = measure_layers(model, pixels, mode), measure_layers(on_gpu(model), pixels, mode)
    ladder, other = measure_half_steps(model, pixels, mode), measure_half_steps(on_gpu(model), pixels, mode)
    for one, two in ((here, gpu), (ladder, other)):
        for field in dataclasses.fields(one):
            a, b = getattr(one, field.name), getattr(two, field.name)
            if isinstance(a, tuple) and a and isinstance(a[0], float):
                np.testing.assert_allclose(b, a, rtol=2e-3, atol=2e-3, equal_nan=True, err_msg=field.name)


def test_a_look_at_a_picture_model(tmp_path):
    model = on_gpu(build(CrateForImageClassification, vision_config()))
    pixels = images(model.config, 4)
    study_model(model, pixels, StudyOptions(num_pictures=2)).write(tmp_path)
    assert (tmp_path / "report.html").is_file()
    maps, features = attention_maps(model, pixels), patch_features(model, pixels)
    cluster_heads(maps)
    joint_pca(features)
    mask_cut(features.features[0], features.grid)
    record = trace(model, pixels[:1], ("tokens", "half_tokens", "codes", "projections"))
    assert code_of_token(model, record, 0, 3).residuals
    assert film_of_token(model, record, 0, 3, steps=4).codes.shape[0] > 1
    layer = record.layers[0]
    weight = model.crate.layers[0].compression.attention.subspaces.weight
    assert compression_shares(layer.tokens_in, layer.half_tokens, weight, 3).isfinite().all()
    run = run_edited(model, pixels[:1], Edit(sparsity_weights={1: 0.5}, neurons={(0, 3): 1.0}))
    assert run.outputs["logits"].isfinite().all()


def test_a_look_at_a_text_model():
    writer = on_gpu(build(CrateForCausalLM, decoder_config()))
    ids = token_ids(3, 11)
    find_neurons(writer, ids, examples=3)
    token_attention(writer, ids[:1])
    plain, steered = steer_and_generate(writer, ids[:1], 0, {3: 9.0}, max_new_tokens=3, pad_token_id=0)
    assert plain.shape == steered.shape
    measure_layers(on_gpu(text_model()), ids)
    measure_half_steps(on_gpu(text_model()), ids)


def test_the_explorer_answers_from_a_gpu():
    from crate_transformers.explore.parts import PARTS
    from crate_transformers.explore.service import Service
    from crate_transformers.explore.state import State
    from crate_transformers.explore.subjects import open_subjects

    for name, state in (("demo:fashion", State(picture=3)), ("demo:python", State(text="def f(x):"))):
        service = Service(open_subjects(name, "untrained"))
        assert service.look.subjects.model.model.device.type == DEVICE
        service.describe(state)
        for part in PARTS:
            service.answer(state, (part,))
        if state.text:
            assert len(service.grow(state, temperature=1.0).data["text"]) >= len(state.text)


@torch.no_grad()
def test_a_mask_is_drawn_where_the_pictures_are():
    model = on_gpu(mae_model())
    outputs = model(images(model.config).to(DEVICE))
    assert outputs.loss.isfinite()
    assert outputs.mask.device.type == DEVICE


@torch.no_grad()
def test_rates_in_half_precision_are_taken_in_float32():
    heads = torch.randn(2, 3, 17, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = subspace_coding_rate(heads.float(), mode="official")
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        found = subspace_coding_rate(heads.to(DEVICE), mode="official")
    torch.testing.assert_close(found.cpu().float(), expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("kind", [CrateForMaskedLM, CrateForCausalLM])
def test_a_model_opened_in_half_precision(kind, tmp_path):
    model = text_model(causal=kind is CrateForCausalLM)
    model.save_pretrained(tmp_path)
    ids = token_ids()
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    for dtype in (torch.bfloat16, torch.float16):
        opened = kind.from_pretrained(tmp_path, dtype=dtype).to(DEVICE).eval()
        logits = opened(ids.to(DEVICE), attention_mask=mask.to(DEVICE)).logits[:, 3:].float().cpu()
        expected = model(ids, attention_mask=mask).logits[:, 3:]
        assert (logits - expected).norm() <= 0.1 * expected.norm()
