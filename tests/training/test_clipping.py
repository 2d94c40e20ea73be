"""`train.max_grad_norm_of`: whose gradient has the norm `train.max_grad_norm` at most."""

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from crate_transformers.training.trainer import CrateTrainer


def clipped(clips, most, folder):
    """(norm that is logged, gradient of each parameter) of a model whose gradients have the norms 3, 4 and 0.5."""
    model = nn.ParameterList(
        [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(1))]
    )
    for parameter, norm in zip(model, (3.0, 4.0, 0.5), strict=True):
        parameter.grad = torch.ones_like(parameter) * norm / parameter.numel() ** 0.5
    arguments = TrainingArguments(output_dir=str(folder), max_grad_norm=most, use_cpu=True, report_to=[])
    norm = CrateTrainer(model=model, args=arguments, clips=clips)._clip_grad_norm(model)
    return float(norm), [parameter.grad.norm().item() for parameter in model]


@pytest.mark.parametrize(("clips", "expected"), [("each", [2.0, 2.0, 0.5]), ("all", [3 * 0.4, 4 * 0.4, 0.2])])
def test_clipping(clips, expected, tmp_path):
    before = (3**2 + 4**2 + 0.5**2) ** 0.5
    norm, found = clipped(clips, 0.4 * before if clips == "all" else 2.0, tmp_path)
    assert norm == pytest.approx(before)
    assert found == pytest.approx(expected, rel=1e-5)
