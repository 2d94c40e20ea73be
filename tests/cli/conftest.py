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
def text_model_folder(crate, tmp_path_factory):
    """A small causal language model, trained for a moment; a token is a word, 24 neurons, 2 layers."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[UNK]", "[END]", *["the", "cat", "sat", "on", "mat", ".", "dog", "log"]]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "[UNK]", "bos_token": "[END]", "eos_token": "[END]", "pad_token": "[END]"}
    folder = tmp_path_factory.mktemp("words")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder / "tokenizer")
    (folder / "text.txt").write_text("the cat sat on the mat . the dog sat on the log .\n" * 400)
    settings = (
        "model.num_hidden_layers=2", "model.hidden_size=24", "model.num_attention_heads=3",
        "model.initializer_range=0.2",
        f"data.tokenizer={folder / 'tokenizer'}", "data.context_length=64", "train.max_steps=30", "train.eval_steps=30",
        "train.warmup_steps=5", "train.sample_every=0",
    )  # fmt: skip
    options = [part for setting in settings for part in ("--set", setting)]
    crate("train", "clm", "--data", f"text:{folder / 'text.txt'}", "--output", folder / "model", *options)
    return folder / "model"
