"""Augmentation, order and mixing are functions of (seed, epoch, sample)."""

import pickle
import random
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from crate_transformers import CrateVisionConfig
from crate_transformers.data import (
    EpochSampler,
    EvaluationTransform,
    ImageCollator,
    KeyedImages,
    MaskedImages,
    TrainingTransform,
    load_image_source,
)
from crate_transformers.data.images.rand_augment import rand_augment
from crate_transformers.errors import MissingPackageError
from crate_transformers.models.image_processing import image_processor_of

CONFIG = CrateVisionConfig(hidden_size=12, num_attention_heads=3, num_hidden_layers=1, image_size=8, patch_size=4)


def augmented(seed=0):
    processor = image_processor_of(CONFIG, center_crop=False)
    transform = TrainingTransform(processor, "random_resized", (0.3, 1.0), True, (2, 9), 0.5)
    return KeyedImages(load_image_source("digits").train, transform, seed=seed)


def test_items_are_functions_of_the_key():
    data = augmented()
    first = data[(4, 17)]["pixel_values"]
    torch.manual_seed(99)  # the global generator has no say
    data[(1, 3)]
    assert torch.equal(data[(4, 17)]["pixel_values"], first)
    assert not torch.equal(data[(5, 17)]["pixel_values"], first)
    assert not torch.equal(augmented(seed=1)[(4, 17)]["pixel_values"], first)


@pytest.mark.parametrize("fill", ["mean", "noise"])
def test_an_erased_rectangle_has_the_mean_colour_or_noise(fill):
    processor, pictures = image_processor_of(CONFIG, center_crop=False), load_image_source("digits").train
    transform = TrainingTransform(processor, random_erasing=1.0, erasing_fill=fill)
    found, plain = (
        KeyedImages(pictures, how, seed=0)[(0, 0)]["pixel_values"] for how in (transform, TrainingTransform(processor))
    )
    rectangle = (found != plain).all(dim=0)
    assert 0 < rectangle.sum() < rectangle.numel()
    assert torch.equal(found[:, ~rectangle], plain[:, ~rectangle])
    values = found[:, rectangle]
    assert values.unique().numel() == (1 if fill == "mean" else values.numel())  # noise: each number its own


def test_items_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    augmented()[(0, 0)]
    assert torch.equal(torch.get_rng_state(), state)


def test_sampler():
    sampler = EpochSampler(31, seed=5)
    first = list(sampler)
    assert sorted(index for _, index in first) == list(range(31))
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert [index for _, index in sampler] != [index for _, index in first]
    assert {epoch for epoch, _ in sampler} == {1}


def test_repetitions():
    """Every epoch has as many keys, all different, of a third of the samples; another epoch has other samples."""
    sampler = EpochSampler(100, seed=5, repetitions=3, batch=24)
    keys = list(sampler)
    assert len(keys) == len(set(keys)) == len(sampler) == 100
    times = {index: [key[2:] for key in keys if key[1] == index] for index in dict.fromkeys(key[1] for key in keys)}
    assert sorted(map(len, times.values())) == [1, *[3] * 33]
    assert all(found == [(), (2,), (3,)][: len(found)] for found in times.values())
    sampler.set_epoch(1)
    assert {key[1] for key in sampler} != set(times)
    assert all(a[1] != b[1] for a, b in pairwise(keys[:96]))  # in whole batches; they are mixed with each other


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 8])
def test_repetitions_go_to_different_processes(processes):
    """And a step has the same samples, however many the processes."""
    batch = 24
    sampler = EpochSampler(240, seed=5, repetitions=3, batch=batch)
    one = list(sampler)
    for step in range(0, 240, batch):
        part = batch // processes
        shards = [one[step + p * part : step + (p + 1) * part] for p in range(processes)]
        most = max(Counter(key[1] for key in shard).most_common(1)[0][1] for shard in shards)
        assert most == (1 if processes >= 3 else {1: 3, 2: 2}[processes])
        assert sorted(Counter(key[1] for key in one[step : step + batch]).values()) == [3] * 8


def test_a_repetition_is_augmented_anew():
    data = augmented()
    first, second, third = (data[key]["pixel_values"] for key in ((4, 17), (4, 17, 2), (4, 17, 3)))
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    assert torch.equal(data[(4, 17, 2)]["pixel_values"], second)
    masked = MaskedImages(data, 4)
    noise = [masked[key]["noise"] for key in ((4, 17), (4, 17, 2))]
    assert not torch.equal(*noise)


def test_mixing_is_the_same_for_one_process_and_two():
    data = augmented()
    items = [data[(0, index)] for index in range(12)]
    collate = ImageCollator(10, mixup_alpha=0.8, cutmix_alpha=1.0, seed=7)
    whole, halves = collate(items), [collate(items[:6]), collate(items[6:])]
    for name in ("pixel_values", "labels"):
        assert torch.equal(whole[name], torch.cat([half[name] for half in halves]))
    assert torch.allclose(whole["labels"].sum(dim=1), torch.ones(12))
    assert (whole["labels"].max(dim=1).values < 1).any()


def test_a_batch_is_mixed_with_one_share():
    data = augmented()
    items = [data[(3, index)] for index in range(9)]
    collate = ImageCollator(10, mixup_alpha=0.8, seed=7, mode="batch")
    plain, mixed, again = ImageCollator()(items)["pixel_values"], collate(items), collate(items)
    share = torch.linalg.lstsq(
        (plain - plain.roll(1, 0)).reshape(-1, 1), (mixed["pixel_values"] - plain.roll(1, 0)).reshape(-1, 1)
    ).solution.item()
    assert 0 < share < 1
    assert torch.allclose(mixed["pixel_values"], plain.roll(1, 0).lerp(plain, share), atol=1e-5)
    assert torch.allclose(mixed["labels"].sum(dim=1), torch.ones(9))
    assert all(torch.equal(mixed[name], again[name]) for name in mixed)


def test_evaluation_equals_the_saved_processor():
    processor = image_processor_of(CONFIG, center_crop=True)
    picture = load_image_source("digits").test.read(0, 3)
    expected = processor(picture, return_tensors="pt")["pixel_values"][0]
    assert torch.equal(EvaluationTransform(processor)(picture), expected)
    assert expected.shape == (3, 8, 8)


PUBLISHED = "rand-m9-mstd0.5-inc1"


def of_channels(channels, **options):
    config = CrateVisionConfig(
        hidden_size=12, num_attention_heads=3, num_hidden_layers=1, image_size=24, patch_size=4, num_channels=channels
    )
    return image_processor_of(config, **options)


def noise_picture(channels):
    shape = (24, 24) if channels == 1 else (24, 24, 3)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_timms_rand_augment_is_a_function_of_the_key(channels):
    """Whatever the generators that it draws from hold; and it leaves them alone."""
    transform = TrainingTransform(of_channels(channels), "none", rand_augment=PUBLISHED)
    images = load_image_source("digits").train
    first = KeyedImages(images, transform, channels, seed=3)[(4, 17)]["pixel_values"]
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    states = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    data = pickle.loads(pickle.dumps(transform)) if channels == 3 else transform  # as it goes to a loader's process
    again = KeyedImages(images, data, channels, seed=3)
    assert torch.equal(again[(4, 17)]["pixel_values"], first)
    assert states == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    others = [again[(epoch, 17)]["pixel_values"] for epoch in range(5, 15)]
    assert any(not torch.equal(other, first) for other in others)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_of_timm_takes_every_picture(channels):
    from timm.data.auto_augment import AugmentOp

    step = rand_augment(PUBLISHED, of_channels(channels))
    picture, changed = noise_picture(channels), {}
    for operation in step.augment.ops:
        assert isinstance(operation, AugmentOp)
        operation.prob, operation.magnitude_std = 1.0, 0.0
        for operation.magnitude in (0, 5, 10, 9):  # the least and the largest are drawn too
            out = pil_to_tensor(operation(picture))
            assert (out.shape, out.dtype) == ((channels, 24, 24), torch.uint8)
        changed[operation.name] = not torch.equal(out, pil_to_tensor(picture))
    assert sum(changed.values()) >= len(changed) - 3  # on noise the contrast is full; grey has no colour


def test_timms_rand_augment_is_set_up_as_its_scripts_do():
    step = rand_augment(PUBLISHED, of_channels(3, interpolation="bicubic"))
    (operation,) = [operation for operation in step.augment.ops if operation.name == "Rotate"]
    assert (operation.magnitude, operation.magnitude_std, operation.prob) == (9, 0.5, 0.5)
    assert operation.kwargs == {"fillcolor": (124, 116, 104), "resample": Image.Resampling.BICUBIC}
    assert operation.hparams["translate_const"] == 10
    assert {"PosterizeIncreasing", "SolarizeIncreasing", "ColorIncreasing"} < {o.name for o in step.augment.ops}


def test_without_timm_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.data.auto_augment", None)
    with pytest.raises(MissingPackageError, match=r"needs timm: pip install 'crate-transformers\[augment\]'"):
        TrainingTransform(of_channels(3), rand_augment=PUBLISHED)
