"""What the tests of the commands share: `crate` as a function, and models made in this session."""

import pytest
import torch
from typer.testing import CliRunner


@pytest.fixture(scope="session")
def crate():
    """crate("inspect", folder, ...) -> what it printed; errors come through as they are."""
    from crate_transformers.cli.app import app

    def run(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.fixture(scope="session")
def digits_model(crate, tmp_path_factory):
    """A small CRATE, trained for a moment on the digits: 16 patches, 4 heads, 2 layers."""
    folder = tmp_path_factory.mktemp("models") / "digits"
    settings = (
        "model.num_hidden_layers=2", "model.hidden_size=48", "model.num_attention_heads=4", "model.image_size=8",
        "model.patch_size=2", "train.max_steps=20", "train.measure_every=10",
    )  # fmt: skip
    crate("train", "digits", "--output", folder, *(part for setting in settings for part in ("--set", setting)))
    return folder


@pytest.fixture(scope="session")
def digits_vit(tmp_path_factory):
    """A ViT for the same pictures."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=8, patch_size=2,
        num_channels=1, num_labels=10,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "vit"
    ViTForImageClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text_model_folder(tmp_path_factory):
    """A small causal language model with a tokenizer of whole words: 24 neurons, 2 layers."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from crate_transformers import CrateConfig, CrateForCausalLM

    words = ["[UNK]", "[END]", *["the", "cat", "sat", "on", "mat", ".", "dog", "log"]]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = CrateConfig.from_size(
        "gpt2-tiny", vocab_size=len(words), hidden_size=24, num_attention_heads=3, num_hidden_layers=2,
        max_position_embeddings=64, bos_token_id=1, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "words"
    CrateForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[END]").save_pretrained(folder)
    return folder
