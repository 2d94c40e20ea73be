"""Maps, features, masks and their scores: planted objects, hand-computed values, awkward input."""

import pytest
import torch
from zoo import HEAD_DIM, HEADS, PATCHES, baseline, mae_model, text_model, vision_model

from crate_transformers.analysis import (
    AttentionMaps,
    BestHeadIoU,
    BestMaskIoU,
    attention_maps,
    attention_masks,
    average_precision,
    cluster_heads,
    iou,
    joint_pca,
    mask_cut,
    objects_of,
    patch_features,
    resize_masks,
    trace,
)
from crate_transformers.analysis.features import PatchFeatures
from crate_transformers.analysis.maskcut import _DENSE, second_eigenvector, similarity_graph


def planted(grid, boxes, noise=0.0, width=7):
    """Features with one direction for the background and one a box (top, left, height, width); and the masks."""
    labels = torch.zeros(grid, dtype=torch.long)
    for number, (top, left, height, across) in enumerate(boxes, start=1):
        labels[top : top + height, left : left + across] = number
    features = torch.eye(width)[labels.flatten()]
    generator = torch.Generator().manual_seed(0)
    features = features + noise * torch.randn(features.shape, generator=generator)
    return features, [labels == number for number in range(1, len(boxes) + 1)]


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("grid", [(11, 13), (23, 29)])  # a dense and an iterative eigensolver
def test_mask_cut_finds_planted_objects_exactly(grid, noise):
    assert 11 * 13 <= _DENSE < 23 * 29
    features, (first, second) = planted(grid, [(2, 2, 5, 3), (5, 8, 3, 4)], noise)
    found = mask_cut(features, grid, num_masks=5, threshold=0.5)
    assert len(found) == 2
    assert torch.equal(found.masks[0], first)
    assert torch.equal(found.masks[1], second)
    assert found.scores.min() > 0.9


def test_mask_cut_tells_two_parts_of_one_kind_apart():
    features, (first, second) = planted((11, 13), [(2, 2, 5, 3), (6, 8, 3, 3)])
    features[second.flatten()] = features[first.flatten()][0]
    found = mask_cut(features, (11, 13), num_masks=5)
    assert [mask.tolist() for mask in found.masks] == [first.tolist(), second.tolist()]


def test_mask_cut_finds_nothing_where_all_is_alike():
    assert len(mask_cut(torch.ones(35, 3), (5, 7))) == 0
    assert len(mask_cut(torch.zeros(35, 3), (5, 7), num_masks=1)) <= 1
    assert len(mask_cut(torch.ones(1, 3), (1, 1))) == 0


def test_mask_cut_takes_at_most_so_many():
    features, _ = planted((11, 13), [(1, 1, 4, 4), (1, 7, 3, 3), (7, 2, 2, 3), (7, 8, 2, 2)])
    assert len(mask_cut(features, (11, 13), num_masks=3)) == 3
    assert len(mask_cut(features, (11, 13), num_masks=9)) == 4
    assert len(mask_cut(features, (11, 13), num_masks=9, min_patches=5)) == 3


def test_second_eigenvector_solves_the_generalised_problem():
    features, _ = planted((5, 7), [(1, 1, 2, 2)], noise=0.3)
    weights = similarity_graph(features, 0.4)
    value, vector = second_eigenvector(weights)
    degree = weights.sum(axis=1)
    assert ((degree * vector - weights @ vector) - value * degree * vector).__abs__().max() < 1e-9
    assert abs(degree @ vector) < 1e-9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": (5, 6)}, "grid"),
        ({"num_masks": 0}, "num_masks"),
        ({"threshold": 1.0}, "cosine"),
        ({"features": torch.full((35, 3), torch.nan)}, "finite"),
    ],
)
def test_mask_cut_names_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        mask_cut(**{"features": torch.ones(35, 3), "grid": (5, 7), **arguments})


def test_both_readings_of_the_top_sixty_percent():
    maps = torch.tensor([[0.5, 0.05, 0.05], [0.2, 0.15, 0.05]])
    assert attention_masks(maps, 0.6, "mass").tolist() == [[True, False, False], [True, False, False]]
    assert attention_masks(maps, 0.5, "mass").tolist() == [[True, False, False], [False, False, False]]
    assert attention_masks(maps, 0.6, "entries").tolist() == [[True, True, False], [True, True, False]]
    assert attention_masks(maps, 1.0, "mass").all()
    assert attention_masks(torch.zeros(3, 2, 5, 7), 0.6, "entries").sum(dim=(-2, -1)).eq(21).all()
    assert attention_masks(torch.zeros(3, 2, 5, 7)).sum(dim=(-2, -1)).eq(1).all()
    for fraction, reading in ((0, "mass"), (1.1, "mass"), (0.5, "weight")):
        with pytest.raises(ValueError, match=r"fraction|reading"):
            attention_masks(maps, fraction, reading)


def test_masks_grow_by_whole_patches():
    mask = torch.tensor([[[True, False], [False, True], [False, False]]])
    grown = resize_masks(mask, (6, 10))
    assert torch.equal(grown[0], mask[0].repeat_interleave(2, 0).repeat_interleave(5, 1))
    assert resize_masks(mask[:0], (6, 10)).shape == (0, 6, 10)


def test_attention_maps_are_the_rows_of_the_attention(images):
    model = vision_model()
    record = trace(model, images, ("attention",))
    maps = attention_maps(model, images, batch_size=3)
    assert maps.maps.shape == (4, 2, 3, 3, 5)
    assert torch.allclose(maps.maps[:, 1].flatten(-2), record.layers[1].attention[:, :, 0, 1:], atol=1e-6)
    pointed = attention_maps(model, images, layers=[-1], query=(2, 1))
    assert pointed.layers == (1,)
    assert torch.allclose(pointed.maps[:, 0].flatten(-2), record.layers[1].attention[:, :, 1 + 11, 1:], atol=1e-6)
    assert attention_maps(model, torch.rand(1, 3, 30, 50)).grid == (6, 7)
    assert attention_maps(mae_model(num_channels=3), images).maps.shape == (4, 2, 5, 3, 5)
    assert attention_maps(baseline("vit"), images).maps.shape == (4, 2, 3, 3, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": [2]}, "no layer 2"),
        ({"layers": [-3]}, "no layer -3"),
        ({"query": (3, 0)}, "no patch"),
        ({"query": "patch"}, "'cls'"),
        ({"images": torch.rand(1, 3, 4, 35)}, "smaller than one patch"),
    ],
)
def test_maps_name_bad_input(arguments, message, images):
    with pytest.raises(ValueError, match=message):
        attention_maps(**{"model": vision_model(), "images": images, **arguments})


def test_text_has_no_patches(token_ids):
    for call in (attention_maps, patch_features):
        with pytest.raises(ValueError, match="images"):
            call(text_model(), token_ids)


def test_heads_that_look_at_the_same_parts_are_one_cluster():
    generator = torch.Generator().manual_seed(0)
    parts = torch.rand(2, 5, 3, 7, generator=generator)  # two kinds of map over five images
    kinds = [0, 1, 1, 0, 1, 1]
    maps = torch.stack([parts[kind] + 0.05 * torch.rand(5, 3, 7, generator=generator) for kind in kinds], dim=1)
    attention = AttentionMaps(maps.unflatten(1, (2, 3)) * 0.01, (4, 6), "cls")
    clusters = cluster_heads(attention, 2)
    assert clusters.labels == (1, 0, 0, 1, 0, 0)
    assert clusters.members(1) == [(4, 0), (6, 0)]
    assert clusters.similarity[0, 3] > 0.9
    assert len(set(cluster_heads(attention, 6).labels)) == 6
    with pytest.raises(ValueError, match="num_clusters"):
        cluster_heads(attention, 7)


def test_features_are_the_projections_of_the_patches(images):
    model = vision_model()
    record = trace(model, images, ("projections",))
    features = patch_features(model, images, batch_size=3)
    assert features.layer == 0  # the second-to-last of two
    assert features.features.shape == (4, PATCHES, HEADS * HEAD_DIM)
    assert torch.allclose(
        features.features[..., HEAD_DIM : 2 * HEAD_DIM], record.layers[0].projections[:, 1, 1:], atol=1e-6
    )
    one = patch_features(model, images, layer=1, head=2)
    assert torch.allclose(one.features, record.layers[1].projections[:, 2, 1:], atol=1e-6)
    with pytest.raises(ValueError, match="no head 3"):
        patch_features(model, images, head=3)


def test_joint_pca_parts_foreground_and_colours_it():
    labels = torch.zeros(3, 5, 7, dtype=torch.long)
    labels[:, 1:4, 2:5] = 1
    labels[2, 2, 3] = 2
    kinds = torch.tensor([[0.0, 0, 0, 0], [9, 1, 0, 0], [9, -1, 0, 0]])
    noise = 0.01 * torch.randn(3, 35, 4, generator=torch.Generator().manual_seed(0))
    components = joint_pca(PatchFeatures(kinds[labels].flatten(1, 2) + noise, (5, 7), 0))
    assert torch.equal(components.foreground, labels > 0)
    assert components.explained[0] > 0.9
    assert components.colors.min() >= 0
    assert components.colors.max() <= 1
    assert components.colors[labels == 0].eq(0).all()
    spread = components.colors[..., 0]
    assert (spread[labels == 2] - spread[labels == 1].mean()).abs().item() > 0.5


def test_joint_pca_of_one_patch_and_of_equal_patches():
    for shape in ((1, 1, 5), (2, 6, 3)):
        grid = (1, 1) if shape[1] == 1 else (2, 3)
        components = joint_pca(PatchFeatures(torch.ones(shape), grid, 0))
        assert torch.isfinite(components.first).all()
        assert torch.isfinite(components.colors).all()


def boxes(size, *corners):
    masks = torch.zeros(len(corners), *size, dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def test_iou_by_hand():
    first, second = boxes((7, 11), (0, 0, 2, 4), (1, 2, 3, 6))  # 8 pixels each, 2 shared
    assert iou(first, second).item() == pytest.approx(2 / 14)
    counted = torch.ones(7, 11, dtype=torch.bool)
    counted[0] = False
    assert iou(first, second, counted).item() == pytest.approx(2 / 10)
    nothing = torch.zeros(7, 11, dtype=torch.bool)
    assert iou(nothing, nothing).item() == 1
    with pytest.raises(ValueError, match="different sizes"):
        iou(first, second[:5])


def test_best_head_per_class_by_hand():
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    labels[0, :2] = 3  # class 3: the upper half of both images
    labels[1, :2] = 3
    labels[1, 3] = 5  # class 5: the last row of the second
    labels[1, 2] = 255
    heads = boxes((4, 4), (0, 0, 2, 4), (0, 0, 2, 2), (3, 0, 4, 2))
    score = BestHeadIoU()
    for image in labels:
        score.update(heads, image)
    result = score.result()
    assert result["classes"][3] == {"best_head": 0, "iou": 1.0, "images": 2}
    assert result["classes"][5] == {"best_head": 2, "iou": 0.5, "images": 1}
    assert result["mean_iou"] == 0.75
    swapped = BestHeadIoU()  # the best head is chosen once a class, not once an image
    swapped.update(heads[:2], labels[0])
    swapped.update(heads[:2].flip(0), labels[0])
    assert swapped.result()["mean_iou"] == pytest.approx(0.75)
    unordered = BestMaskIoU()
    unordered.update(heads[:2], labels[0])
    unordered.update(heads[:0], labels[0])
    assert unordered.result()["mean_iou"] == pytest.approx(0.5)


def test_average_precision_by_hand():
    pytest.importorskip("pycocotools")
    size = (20, 30)
    truth = [boxes(size, (0, 0, 10, 10), (10, 10, 20, 30)), boxes(size, (5, 5, 15, 15))]
    exact = [(masks, torch.ones(len(masks))) for masks in truth]
    assert average_precision(exact, truth)["mask"] == pytest.approx({"AP": 1, "AP50": 1, "AP75": 1})
    # one of two found with IoU 0.6: precision 1 up to recall 1/2, on 51 of the 101 recall levels, at IoU 0.5, 0.55, 0.6
    half = [(boxes(size, (0, 0, 10, 6)), torch.ones(1)), (boxes(size), torch.ones(0))]
    two = [truth[0], truth[1][:0]]
    result = average_precision(half, two)
    for kind in ("mask", "box"):
        assert result[kind]["AP50"] == pytest.approx(51 / 101)
        assert result[kind]["AP75"] == 0
        assert result[kind]["AP"] == pytest.approx(51 / 101 * 3 / 10)
    # a false alarm ranked above the hit: precision 1/2 at recall 1
    ranked = [(boxes(size, (15, 0, 18, 5), (5, 5, 15, 15)), torch.tensor([0.9, 0.8]))]
    assert average_precision(ranked, truth[1:])["mask"]["AP50"] == pytest.approx(0.5)
    # an L-shaped mask has the same box as the full one
    corner = boxes(size, (5, 5, 15, 15)) & ~boxes(size, (5, 9, 11, 15))
    result = average_precision([(corner, torch.ones(1))], truth[1:])
    assert (result["box"]["AP"], result["mask"]["AP75"]) == (pytest.approx(1), 0)
    assert average_precision([(truth[0][:0], torch.ones(0))], truth[:1])["mask"]["AP"] == 0
    assert average_precision(exact[:1], [truth[0][:0]])["mask"]["AP"] == -1
    with pytest.raises(ValueError, match="predicted masks"):
        average_precision([(boxes((4, 4), (0, 0, 2, 2)), torch.ones(1))], truth[1:])


def test_objects_of_a_label_map():
    labels = torch.tensor([[0, 7, 7], [255, 2, 0]])
    assert objects_of(labels).tolist() == [[[0, 0, 0], [0, 1, 0]], [[0, 1, 1], [0, 0, 0]]]
    assert objects_of(torch.zeros(2, 3, dtype=torch.long)).shape == (0, 2, 3)
