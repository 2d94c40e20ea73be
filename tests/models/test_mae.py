"""The masked autoencoder: masks, loss, records, and a gradient for every parameter."""

import pytest
import torch
from transformers import AutoModel, AutoModelForPreTraining
from zoo import BATCH, PATCH, PATCHES, build, enable_checkpointing, gradients, images, mae_config

from crate_transformers import CrateMAEConfig, CrateMAEForPreTraining, CrateMAEModel
from crate_transformers.models.modeling_crate_mae import mask_of_noise

PATCH_DIM = PATCH[0] * PATCH[1] * 2


@pytest.fixture(scope="module")
def config():
    return mae_config()


@pytest.fixture
def model(config):
    return build(CrateMAEForPreTraining, config)


@pytest.fixture
def noise():
    return torch.rand(BATCH, PATCHES, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.75, 0.9])
def test_the_patches_of_lowest_noise_are_kept(noise, ratio):
    mask, kept = mask_of_noise(noise, ratio), int(PATCHES * (1 - ratio))
    assert mask.sum(dim=1).tolist() == [PATCHES - kept] * BATCH
    for row in range(BATCH):
        highest_kept = noise[row].sort().values[kept - 1]
        assert torch.equal(mask[row], (noise[row] > highest_kept).float())


@pytest.mark.parametrize("ratio", [0.0, 0.75])
@pytest.mark.parametrize("normalise", [False, True])
def test_every_parameter_has_a_gradient(noise, ratio, normalise):
    config = mae_config(mask_ratio=ratio, norm_pix_loss=normalise)
    model = build(CrateMAEForPreTraining, config).train()
    inputs = {"pixel_values": images(config), "noise": noise}
    plain = gradients(model, **inputs)  # fails where a parameter has none at all
    for name, gradient in plain.items():
        assert torch.isfinite(gradient).all()
        assert gradient.any() or (ratio == 0 and name.endswith("mask_token")), name
    enable_checkpointing(model)
    for name, gradient in gradients(model, **inputs).items():
        torch.testing.assert_close(gradient, plain[name], msg=name)


@torch.no_grad()
def test_the_loss_counts_removed_patches_only(model, config, noise):
    pixels = images(config)
    outputs = model(pixels, noise=noise)
    error = (outputs.logits - model.patchify(pixels)).square().mean(dim=-1)
    torch.testing.assert_close(outputs.loss, error[outputs.mask.bool()].mean())
    everything = model(pixels, noise=noise, mask_ratio=0.0)
    assert not everything.mask.any()
    all_error = (everything.logits - model.patchify(pixels)).square().mean()
    torch.testing.assert_close(everything.loss, all_error)


@torch.no_grad()
def test_removed_patches_are_not_seen(model, config, noise):
    pixels = images(config)
    mask = model(pixels, noise=noise).mask
    patches = model.patchify(pixels)
    changed = model.unpatchify(patches + 3 * mask.unsqueeze(-1))
    torch.testing.assert_close(model(changed, noise=noise).logits, model(pixels, noise=noise).logits)
    assert not torch.allclose(model.crate(changed).last_hidden_state, model.crate(pixels).last_hidden_state)


@torch.no_grad()
def test_the_encoder_masks_only_when_asked(config, noise):
    model = build(CrateMAEModel, config)
    pixels = images(config)
    assert model(pixels).mask is None
    assert torch.equal(model(pixels).last_hidden_state, model(pixels).last_hidden_state)
    assert model(pixels, noise=noise).mask.sum() == BATCH * (PATCHES - int(PATCHES * 0.25))
    assert model(pixels, mask_ratio=0.4).mask.sum() == BATCH * (PATCHES - 9)


@torch.no_grad()
def test_what_is_recorded(config, noise):
    model = build(CrateMAEForPreTraining, config, attn_implementation="eager")
    encoder = {"output_hidden_states": True, "output_attentions": True, "output_half_hidden_states": True}
    outputs = model(images(config), noise=noise, **encoder)
    assert [len(outputs[name]) for name in ("hidden_states", "attentions", "half_hidden_states")] == [3, 2, 2]
    assert outputs.decoder_hidden_states is None
    torch.testing.assert_close(
        model.crate.norm(outputs.hidden_states[-1]), model.crate(images(config), noise=noise).last_hidden_state
    )
    decoder = model(images(config), noise=noise, output_decoder_hidden_states=True, output_decoder_attentions=True)
    assert decoder.hidden_states is None
    assert [state.shape for state in decoder.decoder_hidden_states] == [(BATCH, PATCHES + 1, 20)] * 4
    assert [a.shape for a in decoder.decoder_attentions] == [(BATCH, 2, PATCHES + 1, PATCHES + 1)] * 3


@torch.no_grad()
def test_other_sizes_by_interpolation(model, config):
    wide = images(config, size=(10, 49))
    with pytest.raises(ValueError, match="interpolate_pos_encoding=True"):
        model(wide)
    outputs = model(wide, interpolate_pos_encoding=True)
    assert outputs.logits.shape == (BATCH, 14, PATCH_DIM)
    assert model.unpatchify(outputs.logits, grid=(2, 7)).shape == wide.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": torch.rand(BATCH, 16)}, r"noise must be .* \(2, 15\), got \(2, 16\)"),
        ({"mask_ratio": 1.0}, r"mask_ratio must be in \[0, 1\), got 1.0"),
        ({"mask_ratio": -0.1}, "mask_ratio"),
    ],
)
def test_a_wrong_mask_is_an_error(model, config, arguments, message):
    with pytest.raises(ValueError, match=message):
        model(images(config), **arguments)


@torch.no_grad()
def test_save_and_load(model, config, noise, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path)
    assert type(loaded) is CrateMAEForPreTraining
    torch.testing.assert_close(loaded(images(config), noise=noise).loss, model(images(config), noise=noise).loss)
    encoder = AutoModel.from_pretrained(tmp_path)
    assert type(encoder) is CrateMAEModel
    torch.testing.assert_close(encoder(images(config)).last_hidden_state, model.crate(images(config)).last_hidden_state)


@torch.no_grad()
def test_compiles_and_exports(model, config, noise):
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    expected = model(images(config), noise=noise)
    torch.testing.assert_close(compiled(images(config), noise=noise).loss, expected.loss)
    batch = {0: torch.export.Dim("batch")}
    shapes = {"pixel_values": batch, "noise": batch}
    program = torch.export.export(model, (images(config), noise), dynamic_shapes=shapes, strict=False)
    more = (images(config, batch=5), torch.rand(5, PATCHES))
    torch.testing.assert_close(program.module()(*more).logits, model(*more).logits)


@pytest.mark.parametrize(
    ("size", "parameters"), [("tiny", 11_555_328), ("small", 25_405_824), ("base", 44_638_464), ("large", 154_274_560)]
)
def test_parameter_counts_are_the_published_ones(size, parameters):
    with torch.device("meta"):
        model = CrateMAEForPreTraining(CrateMAEConfig.from_size(size))
    width, tokens = model.config.hidden_size, model.config.num_patches + 1
    unused = width * width + width + tokens * width + tokens * width  # decoder_embed, and both tables
    assert model.num_parameters() + unused == parameters
