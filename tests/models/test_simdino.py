"""SimDINO as a loss of self-distillation: its head, its teacher, its options and what refuses them."""

from functools import partial

import pytest
import torch

from crate_transformers import CrateVisionConfig, CrateVisionModel
from crate_transformers.errors import UserError
from crate_transformers.models.self_distillation import SelfDistillation, pooled
from crate_transformers.objective import coding_rate_distillation, distillation_terms
from crate_transformers.recipes import load_recipe

SIZES = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "image_size": 8, "patch_size": 4}


def distillation(loss="simdino", hidden=29, bottleneck=16):
    torch.manual_seed(0)
    return SelfDistillation(CrateVisionModel(CrateVisionConfig(**SIZES)), loss, 37, hidden, bottleneck)


def crops(batch=5):
    return torch.randn(batch, 2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", [{}, {"epsilon_squared": 0.5, "rate_of": "student", "alignment_weight": 2.0}])
def test_the_loss_is_that_of_the_features(options):
    model = distillation(partial(distillation_terms, **options) if options else "simdino").train()
    views = crops()
    features = torch.stack([model.student_head(pooled(model.student_backbone, views[:, view])) for view in range(2)])
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(2, 5))
    outputs = model(views)
    torch.testing.assert_close(outputs.loss, coding_rate_distillation(features, features, **options))
    assert set(model.latest) == {"teacher_entropy", "teacher_information", "alignment", "rate"}
    outputs.loss.backward()
    assert all(part.grad is None for part in model.teacher_head.parameters())
    assert all(part.grad is not None for part in model.student_head.parameters())


@pytest.mark.parametrize(("width", "count"), [(192, 5_116_160), (384, 5_509_376), (768, 6_295_808), (1024, 6_820_096)])
def test_the_published_head(width, count):
    backbone = CrateVisionModel(CrateVisionConfig(**{**SIZES, "hidden_size": width, "num_attention_heads": 1}))
    head = SelfDistillation(backbone, "simdino").student_head
    assert sum(parameter.numel() for parameter in head.parameters()) == count
    assert head[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not head[0].bias.any()


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("dino-digits", {"train.rate_of": "mean"}, "rate_of.*simdino"),
        ("simdino-digits", {"train.prototypes": 7}, "prototypes.*no prototypes"),
        ("simdino-digits", {"train.rate_weight": 2.0}, "rate_weight"),
        ("simdino-digits", {"train.rate_of": "teacher"}, "student"),
    ],
)
def test_options_of_another_loss_are_refused(recipe, settings, message):
    with pytest.raises(UserError, match=message):
        load_recipe(recipe, settings)
