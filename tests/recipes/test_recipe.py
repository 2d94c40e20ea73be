"""Recipes are strict: what does not fit is an error that names the key and the nearest good one."""

import subprocess
import sys

import pytest
import yaml

from crate_transformers.errors import UserError
from crate_transformers.recipes import load_recipe, recipe_of, shipped_recipes
from crate_transformers.recipes.checks import RecipeError
from crate_transformers.recipes.families import FAMILIES


def test_recipes_are_read_in_a_process_that_has_loaded_nothing_else():
    """The attentions that a recipe may name are known, though no model was loaded."""
    call = "from crate_transformers.recipes import load_recipe; print(load_recipe('digits').model)"
    process = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "'attn_implementation': 'torch_sdpa'" in process.stdout


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_are_whole(name):
    recipe = load_recipe(name)
    header = shipped_recipes()[name]
    for word in ("command:", "hardware:", "expected:"):
        assert word in header
    assert recipe_of(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train.learning_rat": 1}, "unknown key train.learning_rat.*learning_rate"),
        ({"model.hidden_sise": 1}, "unknown key model.hidden_sise.*hidden_size"),
        ({"data.sorce": "x"}, "unknown key data.sorce.*source"),
        ({"learning_rate": 1}, "did you mean 'train.learning_rate'"),
        ({"model.family": "vitt"}, "model.family must be one of.*did you mean 'vit'"),
        ({"model.family": "gpt2"}, "does not do image-classification"),
        ({"train.optimizer": "sgd"}, "train.optimizer must be one of adamw, lion"),
        ({"data.flip": "yes"}, "data.flip must be bool"),
        ({"data.validation_fraction": "x"}, "data.validation_fraction must be float"),
        ({"train.ema_decay": 1.5}, "train.ema_decay"),
        ({"train.max_steps": "abc"}, "train.max_steps must be int, got 'abc'"),
        ({"train.max_steps": 0}, "train.max_steps must be at least 1"),
        ({"train.learning_rate": "abc"}, "train.learning_rate must be float"),
        ({"train.per_device_train_batch_size": 0}, "train.per_device_train_batch_size must be at least 1"),
        ({"train.num_train_epochs": 0}, "train.num_train_epochs must be positive"),
        ({"data.rand_augment": [2]}, "data.rand_augment must be a list of 2 numbers"),
        ({"data.crop_scale": [0.5]}, "data.crop_scale must be a list of 2 numbers"),
        ({"train.output_dir": "x"}, "unknown key train.output_dir"),
        # ranges
        ({"train.seed": -1}, r"train.seed must be in \[0, 4294967295\], got -1"),
        ({"train.seed": 10**400}, r"train.seed must be int, got an integer of 1329 bits"),
        ({"train.learning_rate": 10**400}, "train.learning_rate must be float, got an integer of"),
        ({"train.learning_rate": float("nan")}, "train.learning_rate must be float, got nan"),
        ({"data.validation_fraction": -0.1}, r"data.validation_fraction must be in \[0, 1\), got -0.1"),
        ({"data.test_fraction": 1.0}, r"data.test_fraction must be in \[0, 1\)"),
        ({"data.random_erasing": 1.5}, r"data.random_erasing must be in \[0, 1\]"),
        ({"data.crop": "padd"}, "data.crop must be one of none, random_resized, pad, got 'padd'; did you mean 'pad'"),
        ({"data.crop_scale": [1, 0.5]}, r"data.crop_scale must be \[smallest, largest\]"),
        ({"data.crop_scale": [0, 1]}, r"data.crop_scale must be \[smallest, largest\]"),
        ({"data.rand_augment": [2, 31]}, "data.rand_augment must be .*magnitude from 0 to 30"),
        ({"data.rand_augment": [2.5, 3]}, r"data.rand_augment must be list\[int\] | str"),
        ({"data.repeated_augmentation": 0}, "data.repeated_augmentation must be at least 1, got 0"),
        ({"data.interpolation": "cubic"}, "data.interpolation must be one of .*did you mean 'bicubic'"),
        ({"data.center_crop": True, "data.crop_fraction": 1.5}, r"data.crop_fraction must be a share in \(0, 1\]"),
        ({"data.center_crop": True, "data.crop_fraction": 0}, r"data.crop_fraction must be a share in \(0, 1\]"),
        (
            {"data.crop_fraction": 0.9},
            "data.crop_fraction is the share of a crop of the centre, and data.center_crop is",
        ),
        ({"data.color_jitter": -0.1}, r"data.color_jitter must be in \[0, 5\]"),
        ({"train.cooldown_epochs": 3}, "train.cooldown_epochs is of train.rate_by_epoch = true"),
        ({"train.warmup_learning_rate": 1e-6}, "train.warmup_learning_rate is of train.rate_by_epoch = true"),
        ({"train.rate_by_epoch": 1}, "train.rate_by_epoch must be bool"),
        (
            {"train.rate_by_epoch": True, "train.lr_scheduler_type": "linear"},
            "lr_scheduler_type is cosine or cosine_with_min_lr, got 'linear'",
        ),
        ({"train.rate_by_epoch": True, "train.lr_scheduler_kwargs": {"min_lr": 0.1}}, "min_lr for cosine_with_min_lr"),
        (
            {"train.rate_by_epoch": True, "train.lr_scheduler_type": "cosine_with_min_lr"},
            "holds min_lr for .*got {} for",
        ),
        ({"train.rate_by_epoch": True, "train.warmup_steps": 5}, "train.warmup_steps counts steps, and"),
        (
            {"train.rate_by_epoch": True, "train.warmup_learning_rate": 1e-6, "train.warmup_epochs": None},
            "train.warmup_learning_rate needs a warm-up",
        ),
        ({"data.rand_augment": "augmix-m5"}, "data.rand_augment must be .operations, magnitude. or timm's text"),
        ({"data.rand_augment": "rand-m9-mstd"}, "timm's text of m .*got 'rand-m9-mstd'"),
        ({"data.rand_augment": "rand-m9-m3"}, "each once"),
        ({"data.rand_augment": "rand-m9-inc2"}, "timm's text"),
        ({"data.rand_augment": "rand-m15-mstd0.5"}, "timm cuts magnitudes above 10 off: lower m, or raise mmax"),
        ({"data.mean": [0.1, 0.2]}, r"data.mean must be a list of one number, or of one a channel \(3\)"),
        ({"data.mean": []}, "data.mean must be a list of one number"),
        ({"data.std": [0.0]}, "data.std must be positive"),
        ({"data.std": [True]}, r"data.std must be list\[float\]"),
        ({"train.mixup_alpha": -1}, "train.mixup_alpha must be at least 0"),
        ({"train.measure_every": -1}, "train.measure_every must be at least 0"),
        ({"train.save_total_limit": 0}, "train.save_total_limit must be at least 1"),
        ({"train.warmup_epochs": -1}, "train.warmup_epochs must be at least 0"),
        ({"train.warmup_steps": 2.5}, "train.warmup_steps must be a whole number of steps, or a share"),
        ({"train.optimizer_betas": [0.9]}, "train.optimizer_betas must be a list of 2 numbers"),
        ({"train.optimizer_betas": [0.9, 1]}, r"train.optimizer_betas must be in \[0, 1\)"),
        ({"train.label_smoothing_factor": 2}, r"train.label_smoothing_factor must be in \[0, 1\]"),
        # names
        (
            {"train.lr_scheduler_type": "cosin"},
            "train.lr_scheduler_type must be one of linear, .*did you mean 'cosine'",
        ),
        ({"train.eval_strategy": "epochs"}, "train.eval_strategy must be one of no, steps, epoch, .*'epoch'"),
        ({"train.log_level": "loud"}, "train.log_level must be one of debug"),
        ({"train.report_to": 3}, r"train.report_to must be None \| str \| list\[str\], got 3"),
        ({"train.lr_scheduler_kwargs": [1]}, "train.lr_scheduler_kwargs must be dict"),
        # what is not read
        ({"train.warmup_ratio": 0.1}, "train.warmup_ratio is not set in a recipe: write train.warmup_steps"),
        ({"train.data_seed": 1}, "train.data_seed is not set in a recipe: train.seed"),
        ({"train.adam_beta1": 0.9, "train.optimizer": "lion"}, "train.adam_beta1 is of adamw"),
        ({"train.adam_beta1": 0.9, "train.optimizer_betas": [0.9, 0.99]}, "train.optimizer_betas exclude each other"),
        ({"train.sample_every": 5}, "train.sample_every is of causal-language-modeling; the task is image-class"),
        ({"train.prototypes": 5}, "train.prototypes is of self-distillation"),
        ({"data.tokenizer": "x"}, "data.tokenizer is of masked-language-modeling"),
        ({"data.mask_probability": 0.3}, "data.mask_probability is of masked-language-modeling"),
        ({"model.architectures": ["x"]}, "unknown key model.architectures"),
        ({"model.sub_configs_defaults": {}}, "unknown key model.sub_configs_defaults"),
    ],
)
def test_wrong_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        load_recipe("digits", settings)


def test_an_option_that_is_off_or_as_usual_is_not_one_that_is_ignored():
    settings = {"train.freeze_last_layer_epochs": 0.0, "data.mask_probability": 0.15}
    assert load_recipe("digits", settings).to_dict()["train"]["freeze_last_layer_epochs"] == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model.hidden_size": "abc"}, "model.hidden_size must be int, got 'abc'"),
        ({"model.hidden_size": True}, "model.hidden_size must be int, got True"),
        ({"model.image_size": [1]}, r"model.image_size must be a number of pixels or \[height, width\], got \[1\]"),
        ({"model.patch_size": 0}, "model.patch_size must be a number of pixels"),
        ({"model.pool": 3}, "model.pool must be one of cls, mean, got 3"),
        ({"model.id2label": "abc"}, "model.id2label must be a table of numbers and names"),
        ({"model.id2label": {0: True}}, "model.id2label must be a table of numbers and names"),
        ({"model.label2id": [1]}, "model.label2id must be a table of names and numbers"),
        ({"model.num_labels": -1}, "model.num_labels must be an integer above 0"),
        ({"model.problem_type": "x"}, "model.problem_type must be one of regression"),
        ({"model.dtype": "float99"}, "model.dtype must be a type of torch"),
        ({"model.attn_implementation": "flash"}, "model.attn_implementation must be one of eager, .*sdpa"),
        ({"model.ista_lambda": float("inf")}, "model.ista_lambda must be a finite number"),
        ({"model.size": 3}, r"model.size must be str \| None, got 3"),
        ({"model.from": 3}, r"model.from must be str \| None, got 3"),
        ({"model.family": "vit", "model.qkv_bias": 3}, "model.qkv_bias must be bool, got 3"),
    ],
)
def test_fields_of_a_wrong_kind_are_named_before_anything_is_read(settings, words):
    with pytest.raises(RecipeError, match=words) as caught:
        load_recipe("digits", settings)
    assert caught.value.key in settings


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("digits", {"model.hidden_size": 130}, "^model.hidden_size: hidden_size .130. is not a multiple"),
        ("digits", {"model.num_attention_heads": 7}, "^model.hidden_size, model.num_attention_heads: hidden_size"),
        ("digits", {"model.patch_size": 3}, "^model.image_size, model.patch_size: the image height 8 is not"),
        ("digits", {"model.size": "tinny"}, "^model.size: unknown size 'tinny'"),
        ("digits", {"model.hidden_dropout_prob": 1.5}, r"^model.hidden_dropout_prob: .* must be in \[0, 1\)"),
        ("digits", {"model.patch_size": 1, "model.num_channels": 1, "model.patch_embedding": "normalized"},
         "patch of one value.*patch_embedding=.conv"),
        ("digits", {"model.family": "vit", "model.num_attention_heads": 0}, "^model.num_attention_heads: .* positive"),
        ("digits", {"model.family": "vit", "model.hidden_size": 130}, "^model.hidden_size: hidden_size .130. is not"),
        ("digits", {"model.family": "vit", "model.patch_size": 3}, "^model.image_size, model.patch_size: the image"),
        ("clm", {"model.family": "gpt2", "model.n_inner": -1}, "^model.n_inner: n_inner must be positive"),
        ("mae-digits", {"model.family": "vit_mae", "model.decoder_hidden_size": 50, "model.num_attention_heads": 4},
         "^model.decoder_hidden_size"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_names_its_fields(name, settings, words):
    recipe = load_recipe(name, settings)
    with pytest.raises(UserError, match=words):
        recipe.family.build_config(recipe.model.get("size"), recipe.model_fields)


def test_two_names_of_one_field():
    with pytest.raises(RecipeError, match="model.n_embd and model.hidden_size are one field"):
        load_recipe("clm", {"model.family": "gpt2", "model.n_embd": 64})
    gpt2 = FAMILIES["gpt2"]
    assert gpt2.build_config(None, {"n_embd": 48}).n_inner == 4 * 48
    assert gpt2.build_config("tiny", {"n_embd": 48}).hidden_size == 48


def test_smoothing_is_of_classes():
    with pytest.raises(ValueError, match="label_smoothing_factor is of image-classification"):
        load_recipe("clm", {"train.label_smoothing_factor": 0.1})


def test_a_baseline_leaves_out_what_only_the_recipes_family_has(tmp_path):
    (tmp_path / "own.yaml").write_text("model: {family: crate_vision, pool: mean, ista_lambda: 0.2, hidden_size: 24}\n")
    own = str(tmp_path / "own.yaml")
    assert load_recipe(own, {"model.family": "vit"}).model == {"family": "vit", "hidden_size": 24}
    assert load_recipe(own, {"model.family": "crate_vision"}).model["pool"] == "mean"
    with pytest.raises(ValueError, match="unknown key model.pool"):
        load_recipe(own, {"model.pool": "cls", "model.family": "vit"})
    with pytest.raises(ValueError, match=r"model.family must be one of .*got \['vit'\]"):
        load_recipe(own, {"model.family": ["vit"]})


def test_an_empty_section_takes_settings(tmp_path):
    (tmp_path / "own.yaml").write_text("task: image-classification\ndata:\ntrain:\n")
    recipe = load_recipe(str(tmp_path / "own.yaml"), {"data.source": "digits", "train.max_steps": 3})
    assert (recipe.data.source, recipe.arguments) == ("digits", {"max_steps": 3})


def test_wrong_files(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        load_recipe("digit")
    (tmp_path / "a.yaml").write_text("model: {family: crate_vision}\nmodle: {}\n")
    with pytest.raises(ValueError, match="unknown key modle.*'model'"):
        load_recipe(str(tmp_path / "a.yaml"))
    (tmp_path / "b.yaml").write_text("model: [1")
    with pytest.raises(ValueError, match="not YAML"):
        load_recipe(str(tmp_path / "b.yaml"))
    with pytest.raises(ValueError, match="no recipe file"):
        load_recipe(str(tmp_path / "c.yaml"))


def test_a_damaged_recipe_beside_a_model(tmp_path):
    path = tmp_path / "recipe.yaml"
    for text, words in (("", "is empty"), ("task: image-cl", "recipe.yaml, line 1, column 1: task must be one of")):
        path.write_text(text)
        with pytest.raises(UserError, match=words) as caught:
            load_recipe(str(path))
        assert str(path) in str(caught.value)
    with pytest.raises(UserError, match="a recipe holds the sections model, data and train, got None"):
        recipe_of(None)
