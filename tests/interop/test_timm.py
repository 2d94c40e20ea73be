"""The library's classifiers under timm's names: its contract, the numbers of Hugging Face, weights of either side."""

import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from reference import FOLDER, load_golden
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.models import load_checkpoint
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import CheckpointSaver, ModelEmaV3

import crate_transformers.timm as door
from crate_transformers import CrateForImageClassification, TostForImageClassification, convert_checkpoint
from crate_transformers.configuration.published import PUBLISHED
from crate_transformers.configuration.sizes import SIZE_FAMILIES
from crate_transformers.interop import load_state_dict
from crate_transformers.layers import resample_positions

# width, layers, heads, image, patch, classes
SMALL = {"embed_dim": 24, "depth": 3, "num_heads": 3, "img_size": 40, "patch_size": 8, "num_classes": 7}
NAMES = ("crate_tiny_patch16_224", "crate_alpha_tiny_patch16_224", "cbt_tiny_patch16_224", "tost_tiny_patch16_224")
EACH = pytest.mark.parametrize("name", NAMES)


def small(name, **keywords):
    torch.manual_seed(0)
    return timm.create_model(name, **{**SMALL, **keywords}).eval()


def hugging_face(model):
    kind = TostForImageClassification if model.is_tost else CrateForImageClassification
    return kind(model.crate.config).eval()


def pictures(size=40, batch=2):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("first", ["timm", "crate_transformers", "crate_transformers.timm"])
def test_timm_knows_the_names_and_is_not_imported_for_them(first):
    program = (
        "import sys, importlib\n"
        f"importlib.import_module({first!r})\n"
        "assert ('timm' in sys.modules) == ('timm' in sys.argv[1])\n"
        "import crate_transformers, timm\n"
        "assert 'crate_tiny_patch16_224' in timm.list_models('crate*')\n"
        "assert 'transformers' not in sys.modules\n"
        "assert 'crate_tiny_patch16_224' in crate_transformers.timm.__all__\n"
        "assert crate_transformers.timm.VARIANTS.keys() <= set(timm.list_models())\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program, first], check=True)


def test_without_timm_it_is_said_what_to_install():
    program = "import sys; sys.modules['timm'] = None; import crate_transformers; import crate_transformers.timm"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert 'pip install "crate-transformers[timm]"' in process.stderr.splitlines()[-1]


def test_the_names_are_those_of_the_tables():
    named = {variant.size for variant in door.VARIANTS.values() if variant.family == "crate_vision"}
    assert named == {
        f"{prefix}-{size}".removeprefix("-") for prefix in SIZE_FAMILIES for size in SIZE_FAMILIES[prefix][0]
    }
    assert {prefix for family, prefix in door.STEMS if family == "crate_vision"} == set(SIZE_FAMILIES)
    assert len(timm.list_models("tost*")) == 6  # a size has one name
    assert {"crate_alpha_large_patch14_224", "aot_tiny_patch16_224"} <= door.VARIANTS.keys()
    assert timm.list_models("crate*", pretrained=True) == []


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("crate_small_patch16_224", "CRATE-S"),
        ("crate_alpha_large_patch14_224", "CRATE-alpha-L/14"),
        ("cbt_tiny_patch16_224", "CBT-T"),
        ("tost_small_patch16_224", "ToST-S"),
        ("aot_tiny_patch16_224", "AoT"),
    ],
)
def test_a_published_model_by_its_name(name, published):
    row = next(row for row in PUBLISHED if row.name == published)
    with torch.device("meta"):
        model = timm.create_model(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == row.parameters


@torch.no_grad()
@pytest.mark.parametrize(  # ToST's classifier of Hugging Face reads the class token alone
    ("name", "pool"), [*((name, "token") for name in NAMES), *((name, "avg") for name in NAMES[:3])]
)
def test_numbers_are_those_of_hugging_face(name, pool):
    model = small(name, global_pool=pool)
    other = hugging_face(model)
    other.load_state_dict(model.state_dict())  # every name, without a word
    assert other.config.id2label.keys() == set(range(7))
    torch.testing.assert_close(model(pictures()), other(pictures()).logits, atol=1e-6, rtol=0)
    tokens = model.forward_features(pictures())
    expected = other.crate(pictures()).last_hidden_state
    torch.testing.assert_close(tokens, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.forward_head(tokens), model(pictures()), atol=1e-6, rtol=0)


@torch.no_grad()
@EACH
def test_heads(name):
    model = small(name)
    assert model.num_features == model.head_hidden_size == 24
    tokens = model.forward_features(pictures())
    before = model.forward_head(tokens, pre_logits=True)
    assert before.shape == (2, 24)
    torch.testing.assert_close(model.get_classifier()(before), model(pictures()), atol=1e-6, rtol=0)
    assert dict(model.named_modules())[model.default_cfg["classifier"]] is model.get_classifier()
    model.reset_classifier(11, "avg")
    assert model(pictures()).shape == (2, 11)
    assert model.crate.config.num_labels == 11
    model.reset_classifier(0, "")
    assert model(pictures()).shape == tokens.shape
    assert not list(model.get_classifier().parameters())
    with pytest.raises(ValueError, match="global_pool must be one of .*got 'map'"):
        model.reset_classifier(3, "map")


@torch.no_grad()
def test_the_class_token_is_averaged_or_not():
    model = small(NAMES[0], global_pool="avg", pool_include_prefix=False)
    tokens = model.forward_features(pictures())
    torch.testing.assert_close(model.pool(tokens), tokens[:, 1:].mean(dim=1))
    assert model.crate.config.pool == "cls"  # Hugging Face's mean is another
    assert small(NAMES[0], global_pool="avg").crate.config.pool == "mean"


@torch.no_grad()
@EACH
def test_intermediates(name):
    model = small(name)
    states = hugging_face(model)
    states.load_state_dict(model.state_dict())
    recorded = list(states.crate(pictures(), output_hidden_states=True).hidden_states[1:])
    if model.is_tost:  # transformers puts the result in the place of the last layer's
        recorded[2] = states.crate.layers[2](recorded[1])
    last, maps = model.forward_intermediates(pictures())
    torch.testing.assert_close(last, model.forward_features(pictures()))
    prefix = 0 if model.is_tost else 1
    assert [tuple(one.shape) for one in maps] == [(2, 24, 5, 5)] * 3
    for one, expected in zip(maps, recorded, strict=True):
        torch.testing.assert_close(one.flatten(2).mT, expected[:, prefix:], atol=1e-6, rtol=0)
    (tokens,) = model.forward_intermediates(
        pictures(), [-2], output_fmt="NLC", intermediates_only=True, stop_early=True, norm=True
    )
    norm = model.crate.norm if model.is_tost else model.norm
    torch.testing.assert_close(tokens, norm(recorded[1][:, prefix:]), atol=1e-6, rtol=0)
    given = model.forward_intermediates(pictures(), 1, return_prefix_tokens=True, intermediates_only=True)[0]
    if model.is_tost:
        assert given.shape == (2, 24, 5, 5)
    else:
        torch.testing.assert_close(given[1], recorded[2][:, :1], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="'NCHW' or 'NLC', got 'NHWC'"):
        model.forward_intermediates(pictures(), output_fmt="NHWC")
    with pytest.raises(ValueError, match="layers of 3.*got \\[3\\]"):
        model.forward_intermediates(pictures(), [3])


@torch.no_grad()
@pytest.mark.parametrize("name", [NAMES[0], NAMES[1], NAMES[3]])  # cbsa needs a square grid
def test_maps_of_images_that_are_not_square(name):
    model = small(name, img_size=(24, 40))
    x = torch.randn(2, 3, 24, 40, generator=torch.Generator().manual_seed(1))
    (tokens,) = model.forward_intermediates(x, [1], output_fmt="NLC", intermediates_only=True)
    (maps,) = model.forward_intermediates(x, [1], intermediates_only=True)
    assert maps.shape == (2, 24, 3, 5)
    torch.testing.assert_close(maps[:, :, 2, 1], tokens[:, 2 * 5 + 1])


@torch.no_grad()
@EACH
def test_features_only(name):
    model = small(name, features_only=True, out_indices=(0, 1))
    assert len(model.model.crate.layers) == model.model.crate.config.num_hidden_layers == 2
    maps = model(pictures())
    assert [tuple(one.shape) for one in maps] == [(2, 24, 5, 5)] * 2
    assert model.feature_info.channels() == [24, 24]
    assert model.feature_info.reduction() == [8, 8]
    assert model.feature_info.module_name() == ["crate.layers.0", "crate.layers.1"]
    whole = small(name)
    whole.crate.load_state_dict(model.model.crate.state_dict(), strict=False)
    for one, expected in zip(
        maps, whole.forward_intermediates(pictures(), [0, 1], intermediates_only=True), strict=True
    ):
        torch.testing.assert_close(one, expected)
    assert len(small(name, features_only=True)(pictures())) == 3  # the last three where nothing is said
    with pytest.raises(ValueError, match="feature_cls must be 'getter'"):
        small(name, features_only=True, feature_cls="list")


@EACH
def test_pruning(name):
    model = small(name)
    assert model.prune_intermediate_layers([0, -2], prune_norm=True) == [0, 1]
    assert len(model.crate.layers) == len(model.feature_info) == 2
    assert model.num_classes == 0
    assert isinstance(model.crate.norm if model.is_tost else model.norm, torch.nn.Identity)


def test_keywords():
    model = small(
        "crate_tiny_patch16_224", in_chans=2, img_size=(16, 24), drop_rate=0.3, drop_path_rate=0.2, pos_drop_rate=0.1,
        attn_drop_rate=0.4, proj_drop_rate=0.5, ista_lambda=0.7, dtype=torch.float64,
    )  # fmt: skip
    config = model.crate.config
    assert (config.num_channels, config.image_size, config.drop_path_rate) == (2, (16, 24), 0.2)
    assert (config.embedding_dropout_prob, config.attention_probs_dropout_prob) == (0.1, 0.4)
    assert (config.hidden_dropout_prob, config.ista_lambda, model.head_drop.p) == (0.5, 0.7, 0.3)
    assert model(torch.zeros(1, 2, 16, 24, dtype=torch.float64)).dtype is torch.float64


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"drop_pth_rate": 0.1}, "crate_tiny_patch16_224 does not know the keyword 'drop_pth_rate'; did you mean"),
        ({"hidden_size": 12}, "does not know the keyword 'hidden_size'"),
        ({"qk_norm": True}, "does not know the keyword 'qk_norm'"),
        ({"global_pool": "map"}, "global_pool must be one of"),
        ({"img_size": 41}, "41 is not a multiple of the patch height 8"),
        ({"pretrained": True}, "no weights are published under crate_tiny_patch16_224: leave pretrained out"),
    ],
)
def test_what_does_not_fit_is_refused(keywords, message):
    with pytest.raises(ValueError, match=message):
        small("crate_tiny_patch16_224", **keywords)


def test_a_keyword_that_one_family_lacks():
    with pytest.raises(ValueError, match="tost_tiny_patch16_224 does not know the keyword 'pos_drop_rate'"):
        small("tost_tiny_patch16_224", pos_drop_rate=0.1)


@torch.no_grad()
def test_images_of_another_size():
    model = small(NAMES[0], dynamic_img_size=True)
    other = hugging_face(model)
    other.load_state_dict(model.state_dict())
    larger = pictures(64)
    expected = other(larger, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(model(larger), expected, atol=1e-6, rtol=0)
    assert model.forward_intermediates(larger, intermediates_only=True)[0].shape == (2, 24, 8, 8)
    fixed = small(NAMES[0])
    with pytest.raises(ValueError, match="expected images of 40 x 40 pixels"):
        fixed(larger)
    fixed.set_input_size(64)
    torch.testing.assert_close(fixed(larger), expected, atol=1e-6, rtol=0)
    assert fixed.crate.config.num_patches == 64
    with pytest.raises(ValueError, match="leave patch_size out"):
        fixed.set_input_size(64, patch_size=4)
    assert small(NAMES[3])(larger).shape == (2, 7)  # of ToST any size is taken


def test_data_config_and_defaults():
    config = resolve_data_config(model=small("tost_tiny_patch16_224"))
    assert (config["crop_pct"], config["interpolation"], config["input_size"]) == (1.0, "bicubic", (3, 224, 224))
    config = resolve_data_config(model=small("cbt_tiny_patch16_224"))
    assert (config["crop_pct"], config["interpolation"]) == (0.875, "bilinear")
    assert config["mean"] == (0.485, 0.456, 0.406)
    for name in NAMES:
        model = small(name)
        first = model.pretrained_cfg["first_conv"]
        assert first is None or isinstance(model.get_submodule(first), torch.nn.Conv2d)


# ----- weights


@torch.no_grad()
@EACH
def test_a_folder_of_hugging_face_and_back(name, tmp_path):
    source = hugging_face(small(name))
    source.save_pretrained(tmp_path)
    model = small(name, checkpoint_path=tmp_path / "model.safetensors")
    torch.testing.assert_close(model(pictures()), source(pictures()).logits, atol=1e-6, rtol=0)
    source.crate.save_pretrained(tmp_path / "backbone")
    backbone = small(name, num_classes=0, global_pool="")
    missing = load_checkpoint(backbone, tmp_path / "backbone" / "model.safetensors", strict=False).missing_keys
    assert missing == ([] if model.is_tost else ["norm.weight", "norm.bias"])
    torch.testing.assert_close(
        backbone.forward_features(pictures()), source.crate(pictures()).last_hidden_state, atol=1e-6, rtol=0
    )


def fields_of(config):
    return {
        "img_size": config.image_size, "patch_size": config.patch_size, "embed_dim": config.hidden_size,
        "depth": config.num_hidden_layers, "num_heads": config.num_attention_heads, "head_dim": config.head_dim,
        "num_classes": config.num_labels, "in_chans": config.num_channels, "attention_output": config.attention_output,
    }  # fmt: skip


GOLDEN = {"crate_cls": NAMES[0], "crate_alpha": NAMES[1], "cbt_patch8": NAMES[2], "tost_patch16": NAMES[3]}


@torch.no_grad()
@pytest.mark.parametrize("case", GOLDEN)
def test_a_public_checkpoint(case, tmp_path):
    public = load_golden(case).state
    heads = {"crate_cls": 3, "crate_alpha": 2}.get(case)
    reference = convert_checkpoint(public, num_attention_heads=heads).eval()
    config = reference.config
    file = tmp_path / "public.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in public.items()}}, file)
    model = timm.create_model(GOLDEN[case], checkpoint_path=file, **fields_of(config)).eval()
    sides = (config.image_size,) * 2 if isinstance(config.image_size, int) else config.image_size
    x = torch.randn(2, config.num_channels, *sides, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(model(x), reference(x).logits, atol=1e-6, rtol=0)


def test_weights_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="ToST for images layout is no crate_vision"):
        small(NAMES[0]).load_state_dict(load_golden("tost_patch16").state)
    with pytest.raises(ValueError, match="not a CRATE checkpoint"):
        small(NAMES[0]).load_state_dict({"somewhere.weight": torch.zeros(2, 3)})
    state = small(NAMES[0]).state_dict()
    del state["norm.bias"]
    with pytest.raises(RuntimeError, match='Missing key.*"norm.bias"'):
        small(NAMES[0]).load_state_dict(state)


@torch.no_grad()
@EACH
def test_what_timm_saves_it_opens_again(name, tmp_path):
    model = small(name)
    model.set_input_size(56)
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    torch.testing.assert_close(again(pictures(56)), model(pictures(56)))


@torch.no_grad()
def test_weights_by_the_configuration_are_fitted(tmp_path):
    source = small(NAMES[2])
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model = small(
        NAMES[2], img_size=64, num_classes=5, in_chans=1, pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "weights.pth"), "num_classes": 7},
    )  # fmt: skip
    table = source.crate.embeddings.position_embeddings
    expected = resample_positions(table, (5, 5), (8, 8), 0.1)
    torch.testing.assert_close(model.crate.embeddings.position_embeddings, expected)
    assert model(torch.zeros(1, 1, 64, 64)).shape == (1, 5)


def test_a_file_of_flax():
    file = FOLDER / "alpha_flax.npz"
    reference = convert_checkpoint(file)
    model = timm.create_model(NAMES[1], checkpoint_path=file, **fields_of(reference.config))
    for name, tensor in reference.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    with pytest.raises(ValueError, match="no prefix"):
        model.load_pretrained(file, prefix="img/")


# ----- training


@EACH
def test_layer_decay_and_weight_decay(name):
    model = small(name)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.1, layer_decay=0.5)
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    assert count == len([parameter for parameter in model.parameters() if parameter.requires_grad])
    scale = {id(tensor): group["lr_scale"] for group in optimizer.param_groups for tensor in group["params"]}
    decay = {id(tensor): group["weight_decay"] for group in optimizer.param_groups for tensor in group["params"]}
    layers = [scale[id(layer.compression.norm.weight)] for layer in model.crate.layers]
    assert layers == sorted(layers)
    assert len(set(layers)) == 3
    stem = next(model.crate.embeddings.parameters())
    assert scale[id(stem)] * 2 == layers[0]
    assert scale[id(model.classifier.weight)] == 1.0
    assert decay[id(model.classifier.weight)] == 0.1
    named = dict(model.named_parameters())
    assert model.no_weight_decay() <= named.keys()
    assert {decay[id(named[tensor])] for tensor in model.no_weight_decay()} == {0.0}


@EACH
def test_checkpointed_gradients(name):
    plain, saving = small(name).train(), small(name).train()
    saving.set_grad_checkpointing()
    assert all(layer.gradient_checkpointing for layer in saving.crate.layers)
    for model in (plain, saving):
        model(pictures()).square().sum().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, other.grad)
    saving.set_grad_checkpointing(False)
    assert not any(layer.gradient_checkpointing for layer in saving.crate.layers)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_two_steps_as_the_training_script_takes_them(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("validation", 2)):
        for label in ("cat", "dog", "owl"):
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (50, 60, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    torch.manual_seed(0)
    model = timm.create_model(
        "crate_tiny_patch16_224", **{**SMALL, "num_classes": 3}, drop_rate=0.1, drop_path_rate=0.1
    )
    data = resolve_data_config({"img_size": 40}, model=model)
    parts = {"input_size": data["input_size"], "batch_size": 6, "mean": data["mean"], "std": data["std"]}
    parts |= {"interpolation": data["interpolation"], "num_workers": 0, "use_prefetcher": False}
    train = create_dataset("", str(tmp_path / "data"), split="train", is_training=True)
    loader = create_loader(train, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", re_prob=0.25, **parts)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.75)
    scheduler, _ = create_scheduler_v2(
        optimizer, "cosine", num_epochs=2, warmup_epochs=1, warmup_lr=1e-4, updates_per_epoch=2, step_on_epochs=False
    )
    ema = ModelEmaV3(model, decay=0.5)
    started = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    losses = []
    for step, (x, target) in enumerate(loader):
        loss = torch.nn.functional.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        timm.utils.dispatch_clip_grad(timm.models.model_parameters(model), 1.0)
        optimizer.step()
        ema.update(model, step=step)
        scheduler.step_update(step + 1, loss.item())
        losses.append(loss.item())
    assert len(losses) == 2
    assert all(np.isfinite(losses))
    assert all(not torch.equal(tensor, started[name]) for name, tensor in model.state_dict().items())
    (tmp_path / "out").mkdir()
    saver = CheckpointSaver(model, optimizer, model_ema=ema, checkpoint_dir=str(tmp_path / "out"))
    saver.save_checkpoint(0, metric=1.0)
    evaluation = create_dataset("", str(tmp_path / "data"), split="validation")
    x, _ = next(iter(create_loader(evaluation, is_training=False, crop_pct=data["crop_pct"], **parts)))
    again = small("crate_tiny_patch16_224", num_classes=3, checkpoint_path=tmp_path / "out" / "model_best.pth.tar")
    with torch.no_grad():
        torch.testing.assert_close(again(x), ema.module.eval()(x))  # timm loads the average
    other = hugging_face(again)
    other.load_state_dict(load_state_dict(tmp_path / "out" / "model_best.pth.tar")[0])
    with torch.no_grad():
        torch.testing.assert_close(other(x).logits, model.eval()(x), atol=1e-6, rtol=0)
