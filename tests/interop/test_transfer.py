"""The encoder of an autoencoder as a classifier: the same numbers, and refusals that say what does not fit."""

import pytest
import torch
from safetensors.torch import load_file
from zoo import build, images, mae_config, vision_config

from crate_transformers import CrateForImageClassification, CrateMAEForPreTraining, CrateMAEModel, convert_checkpoint
from crate_transformers.interop import classifier_of_autoencoder
from crate_transformers.layers import resample_positions


def normed_token(classifier, pixel_values):
    return classifier.norm(classifier.crate(pixel_values).pooler_output)


@pytest.mark.parametrize("kind", [CrateMAEModel, CrateMAEForPreTraining])
def test_the_normed_token_is_the_encoders(kind):
    config = mae_config(ista_lambda=0.37, dictionary_ratio=3, tie_dictionary=False, ista_residual=True, ista_steps=2)
    encoder = build(kind, config)
    with torch.no_grad():
        for number, parameter in enumerate(encoder.parameters()):  # norms away from 1 and 0, so that they count
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    classifier = classifier_of_autoencoder(encoder, num_labels=11)
    pixel_values = images(config)
    expected = encoder.base_model(pixel_values).last_hidden_state[:, 0]
    assert torch.equal(normed_token(classifier, pixel_values), expected)
    assert classifier(pixel_values).logits.shape == (2, 11)
    assert (classifier.config.ista_lambda, classifier.norm.eps) == (0.37, 1e-6)


def test_the_public_layout():
    tensors = load_file(f"{__file__.rpartition('/')[0]}/../golden/crate_mae.safetensors")
    state = {name.removeprefix("state_dict/"): t for name, t in tensors.items() if name.startswith("state_dict/")}
    heads = 4 if state["norm.weight"].shape[0] % 3 else 3
    encoder = convert_checkpoint(state, num_attention_heads=heads)
    pixel_values = torch.randn(2, encoder.config.num_channels, *_size(encoder.config))
    expected = encoder.eval().base_model(pixel_values).last_hidden_state[:, 0]
    assert torch.equal(normed_token(classifier_of_autoencoder(encoder), pixel_values), expected)


def _size(config):
    size = config.image_size
    return (size, size) if isinstance(size, int) else tuple(size)


def test_another_image_size_resamples_the_table():
    encoder = build(CrateMAEModel, mae_config())
    classifier = classifier_of_autoencoder(encoder, image_size=(25, 42))
    expected = resample_positions(encoder.embeddings.position_embeddings, (3, 5), (5, 6))
    assert torch.equal(classifier.crate.embeddings.position_embeddings, expected)
    config = classifier.config
    pixel_values = images(config)
    whole = encoder(pixel_values, interpolate_pos_encoding=True).last_hidden_state[:, 0]
    assert torch.allclose(normed_token(classifier, pixel_values), whole, atol=1e-6)


def test_saved_and_read_again(tmp_path):
    classifier = classifier_of_autoencoder(build(CrateMAEModel, mae_config()), num_labels=7)
    classifier.save_pretrained(tmp_path)
    again = type(classifier).from_pretrained(tmp_path)
    pixel_values = images(classifier.config)
    assert torch.equal(again(pixel_values).logits, classifier(pixel_values).logits)


def test_the_encoder_stays_as_it_is():
    encoder = build(CrateMAEModel, mae_config())
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    classifier = classifier_of_autoencoder(encoder)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def test_what_does_not_fit_is_named():
    encoder = build(CrateMAEModel, mae_config())
    with pytest.raises(ValueError, match="hidden_size is 20 in the encoder's weights, got 24"):
        classifier_of_autoencoder(encoder, hidden_size=24)
    with pytest.raises(ValueError, match="patch_embedding must be 'convolution'"):
        classifier_of_autoencoder(encoder, patch_embedding="normalized")
    with pytest.raises(ValueError, match="expected CrateMAEModel or CrateMAEForPreTraining, got CrateForImage"):
        classifier_of_autoencoder(build(CrateForImageClassification, vision_config()))
