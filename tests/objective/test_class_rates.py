"""The rate reduction of classes: closed forms, bounds, invariances, gradients."""

import math

import pytest
import torch

from crate_transformers.objective import (
    class_coding_rates,
    coding_rate,
    normalize_tokens,
    rate_reduction_loss,
    rate_reduction_of_classes,
)

LAYERS, SAMPLES, WIDTH, CLASSES = 2, 23, 7, 3


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def features():
    return torch.randn(LAYERS, SAMPLES, WIDTH, dtype=torch.float64)


@pytest.fixture
def labels():
    return torch.tensor([0, 2, 5])[torch.arange(SAMPLES) ** 2 % 3 + (torch.arange(SAMPLES) % 11 == 0)]  # unequal sizes


def orthogonal(width):
    return torch.linalg.qr(torch.randn(width, width, dtype=torch.float64)).Q


def by_formula(features, labels, epsilon_squared):
    """As the paper writes it, one matrix at a time."""
    (count, width), eye = features.shape, torch.eye(features.shape[1], dtype=features.dtype)
    total = torch.logdet(eye + width / (count * epsilon_squared) * features.T @ features) / 2
    for label in labels.unique():
        own = features[labels == label]
        inner = eye + width / (len(own) * epsilon_squared) * own.T @ own
        total = total - len(own) / (2 * count) * torch.logdet(inner)
    return total


@pytest.mark.parametrize("normalize", [True, False])
def test_it_is_the_papers_formula(features, labels, normalize):
    seen = normalize_tokens(features) if normalize else features
    expected = torch.stack([by_formula(layer, labels, 0.3) for layer in seen])
    torch.testing.assert_close(rate_reduction_of_classes(features, labels, 0.3, normalize), expected)


def test_orthogonal_classes_in_closed_form():
    """Classes that fill orthogonal subspaces of width w evenly: each rate is w/2 log(1 + d / (w eps^2))."""
    width, own, copies = 6, 2, 5
    features = 3 * orthogonal(width).repeat(copies, 1)  # 3 times too long: scaled to unit length
    labels = (torch.arange(width) // own).repeat(copies)
    rates = class_coding_rates(features, labels, epsilon_squared=0.5)
    of_class, of_all = own / 2 * math.log(1 + width / (own * 0.5)), width / 2 * math.log(1 + 1 / 0.5)
    assert rates.class_rates.tolist() == pytest.approx([of_class] * 3)
    assert rates.rate.item() == pytest.approx(of_all)
    assert rates.reduction.item() == pytest.approx(of_all - of_class)
    turned = features.roll(1, 0) @ orthogonal(width)
    assert rate_reduction_of_classes(turned, labels.roll(1)).item() == pytest.approx(rates.reduction.item())
    mixed = labels[torch.randperm(len(labels))]
    assert rate_reduction_of_classes(features, mixed) < rates.reduction - 0.1  # classes that share directions


def test_one_class_has_no_reduction(features):
    torch.testing.assert_close(
        rate_reduction_of_classes(features, [7] * SAMPLES), torch.zeros(LAYERS, dtype=torch.float64)
    )


def test_classes_are_told_by_their_labels(features, labels):
    rates = class_coding_rates(features, labels, epsilon_squared=0.2, normalize=False)
    assert rates.classes == (0, 2, 5)
    for place, label in enumerate(rates.classes):
        own = features[:, labels == label]
        torch.testing.assert_close(rates.class_rates[:, place], coding_rate(own, 0.2**0.5))
        assert rates.shares[:, place].tolist() == pytest.approx([int((labels == label).sum()) / SAMPLES] * LAYERS)


def test_invariant_to_rotation_to_the_order_and_to_the_names_of_classes(features, labels):
    expected = rate_reduction_of_classes(features, labels)
    order = torch.randperm(SAMPLES)
    torch.testing.assert_close(rate_reduction_of_classes(features @ orthogonal(WIDTH), labels), expected)
    torch.testing.assert_close(rate_reduction_of_classes(features[:, order], labels[order]), expected)
    torch.testing.assert_close(rate_reduction_of_classes(features, 9 - labels), expected)
    assert not torch.allclose(rate_reduction_of_classes(features, labels[order]), expected)


def test_never_negative(features):
    for tried in range(20):
        torch.manual_seed(tried)
        assert (rate_reduction_of_classes(features, torch.randint(0, 4, (SAMPLES,))) >= -1e-12).all()


def test_hard_memberships_are_labels(features, labels):
    hard = torch.stack([labels == label for label in (0, 2, 5)], dim=-1).double()
    of_labels, of_memberships = class_coding_rates(features, labels), class_coding_rates(features, hard)
    torch.testing.assert_close(of_memberships.class_rates, of_labels.class_rates)
    torch.testing.assert_close(of_memberships.shares, of_labels.shares)
    empty = torch.cat([hard, torch.zeros(SAMPLES, 1, dtype=torch.float64)], dim=-1)
    with_empty = class_coding_rates(features, empty)
    assert with_empty.class_rates[:, 3].tolist() == [0, 0]
    torch.testing.assert_close(with_empty.reduction, of_labels.reduction)


def test_memberships_that_say_nothing_have_no_reduction(features):
    even = torch.full((LAYERS, SAMPLES, 4), 0.25)
    torch.testing.assert_close(rate_reduction_of_classes(features, even), torch.zeros(LAYERS, dtype=torch.float64))


@pytest.mark.parametrize("weight", [1.0, 0.4])
@pytest.mark.parametrize("normalize", [True, False])
def test_gradients_by_finite_differences(features, labels, weight, normalize):
    own = features[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda z: rate_reduction_loss(z, labels, 0.5, weight, normalize), own)
    scores = torch.randn(SAMPLES, CLASSES, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, s: rate_reduction_loss(z, s.softmax(-1), 0.5, weight), (own, scores))


def test_memberships_of_zero_have_finite_gradients(features, labels):
    hard = torch.stack([labels == label for label in (0, 2, 5)], dim=-1).double().requires_grad_()
    rate_reduction_loss(features, hard).backward()
    assert hard.grad.isfinite().all()
    assert (hard.grad[hard.detach() > 0] != 0).any()


def test_the_loss_weighs_the_compression(features, labels):
    rates = class_coding_rates(features, labels)
    expected = (0.3 * rates.compressed_rate - rates.rate).mean()
    torch.testing.assert_close(rate_reduction_loss(features, labels, compression_weight=0.3), expected)
    torch.testing.assert_close(rate_reduction_loss(features, labels), -rates.reduction.mean())


def test_descent_of_the_loss_pulls_classes_apart():
    features, labels = torch.randn(40, 8), torch.arange(40) % 2
    features.requires_grad_()
    before = rate_reduction_loss(features, labels).item()
    optimizer = torch.optim.Adam([features], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        rate_reduction_loss(features, labels).backward()
        optimizer.step()
    unit = normalize_tokens(features.detach())
    assert rate_reduction_loss(features, labels).item() < before - 0.5
    assert (unit[labels == 0] @ unit[labels == 1].T).abs().mean() < 0.1


def test_half_precision_and_autocast_compute_in_float32(features, labels):
    expected = rate_reduction_of_classes(features.half().float(), labels)
    assert expected.dtype == torch.float32
    torch.testing.assert_close(rate_reduction_of_classes(features.half(), labels), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(rate_reduction_of_classes(features.half().float(), labels), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(5), torch.zeros(5, dtype=torch.long)), "features must be"),
        ((torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)), "features must be"),
        ((torch.zeros(5, 3), torch.zeros(4, dtype=torch.long)), "labels must be 5 integers"),
        ((torch.zeros(5, 3), torch.zeros(5, dtype=torch.bool)), "labels must be 5 integers"),
        ((torch.zeros(5, 3), torch.tensor([0, 1, -100, 0, 0])), "labels must be >= 0, got -100"),
        ((torch.zeros(5, 3), torch.zeros(5)), "memberships must be"),
        ((torch.zeros(5, 3), torch.full((5, 2), 0.3)), "must sum to 1"),
        ((torch.zeros(5, 3), torch.tensor([[1.5, -0.5]]).repeat(5, 1)), "must be >= 0"),
        ((torch.zeros(5, 3), [0] * 5, 0.0), "epsilon_squared must be"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        rate_reduction_of_classes(*arguments)
    with pytest.raises(ValueError, match="compression_weight must be"):
        rate_reduction_loss(torch.zeros(5, 3), [0] * 5, compression_weight=-1.0)
