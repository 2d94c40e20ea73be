"""What an autoencoder rebuilds, and what guesses cost that do not look."""

import pytest
import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining
from zoo import IMAGE, PATCHES, build, images, mae_config

from crate_transformers import CrateMAEForPreTraining
from crate_transformers.evaluation.reconstruction import ConstantGuess, reconstruct, target_patches


def test_constant_guesses():
    config = mae_config(mask_ratio=0.5)
    torch.manual_seed(0)
    batches = [{"pixel_values": torch.randn(4, 2, *IMAGE), "noise": torch.rand(4, PATCHES)} for _ in range(2)]
    guess = ConstantGuess.of(batches, config)
    whole = torch.cat([target_patches(batch["pixel_values"], config) for batch in batches]).double()
    assert torch.allclose(guess.image, whole.mean(dim=0))
    assert torch.allclose(guess.patch, whole.mean(dim=(0, 1)))
    hidden = torch.cat([batch["noise"] for batch in batches]).argsort(1).argsort(1) >= 7
    errors = (whole - guess.patch).square().mean(dim=-1)
    assert guess.losses(batches, config)[0] == pytest.approx(errors[hidden].mean().item())


def test_a_reconstruction_keeps_what_is_visible():
    config = mae_config(mask_ratio=0.6, norm_pix_loss=True)
    model = build(CrateMAEForPreTraining, config)
    pixel_values, noise = images(config), torch.rand(2, PATCHES, generator=torch.Generator().manual_seed(1))
    rebuilt = reconstruct(model, pixel_values, noise)
    shown = ~torch.isnan(rebuilt.masked)
    assert torch.equal(rebuilt.composite[shown], pixel_values[shown])
    assert torch.allclose(rebuilt.composite[~shown], rebuilt.reconstruction[~shown])
    assert shown.float().mean().item() == pytest.approx(6 / PATCHES)
    # the model's own loss is the error of what it predicts, in normalised patches
    patches = model.patchify(rebuilt.reconstruction), model.patchify(pixel_values)
    deviation = (patches[1].var(dim=-1, keepdim=True) + 1e-6).sqrt()
    error = ((patches[0] - patches[1]) / deviation).square().mean(dim=-1)[rebuilt.mask.bool()].mean()
    assert error.item() == pytest.approx(model(pixel_values, noise=noise).loss.item(), rel=1e-4)


def test_vit_mae_rebuilds_too():
    fields = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 13}
    decoder = {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    config = ViTMAEConfig(**fields, **decoder, decoder_intermediate_size=11, image_size=14, patch_size=7)
    rebuilt = reconstruct(ViTMAEForPreTraining(config).eval(), torch.randn(2, 3, 14, 14), torch.rand(2, 4))
    assert rebuilt.composite.shape == (2, 3, 14, 14)
    assert rebuilt.mask.sum(dim=1).tolist() == [3, 3]
