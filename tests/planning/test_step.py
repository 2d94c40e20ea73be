"""A step counted on the meta device is the step that is taken."""

import pytest
import torch
from torch import nn

from crate_transformers import CrateForImageClassification, CrateVisionConfig
from crate_transformers.planning import LiveBytes, count_step

CONFIG = {"image_size": 12, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}


def counted(rows=5, **keywords):
    with torch.device("meta"):
        model = CrateForImageClassification(CrateVisionConfig(**CONFIG, num_labels=7))
        inputs = {
            "pixel_values": torch.empty(rows, 3, 12, 12),
            "labels": torch.empty(rows, dtype=torch.long),
        }
    return count_step(model, inputs, lambda p: torch.optim.AdamW(p, foreach=False), **keywords)


def test_bytes_are_counted_while_they_live():
    with LiveBytes() as live:
        a = torch.zeros(10)
        b = a.view(2, 5) + 1  # a view takes none
        assert live.now == 80
        del a
        assert (live.now, live.peak) == (40, 80)
        b.add_(1)  # in place neither
    assert live.peak == 80


def test_the_parts_of_the_memory():
    count = counted()
    assert count.weights == count.gradients == 4 * count.parameters
    assert count.weights * 2 <= count.optimizer <= count.weights * 2 + 8 * 200  # two moments, and step counters
    assert count.inputs == 5 * (3 * 12 * 12 * 4 + 8)
    assert count.peak > count.weights + count.optimizer + count.inputs + count.activations / 2


def test_activations_grow_with_the_batch_and_weights_do_not():
    small, large = counted(rows=4), counted(rows=8)
    assert small.weights == large.weights
    assert large.activations == pytest.approx(2 * small.activations, rel=0.05)
    assert 1.5 < large.flops / small.flops <= 2


def test_checkpointing_takes_less_memory_and_more_operations():
    plain, again = counted(rows=32), counted(rows=32, checkpointing=True)
    assert again.activations < plain.activations / 2
    assert again.peak < plain.peak
    assert 1.2 < again.flops / plain.flops < 1.4  # the layers once more: a forward pass is a third of a step


def test_mixed_precision_halves_what_products_keep():
    plain, mixed, cpu = (
        counted(rows=32),
        counted(rows=32, dtype=torch.bfloat16),
        counted(32, dtype=torch.bfloat16, on_cpu=True),
    )
    assert cpu.activations < mixed.activations < plain.activations
    assert mixed.weights == plain.weights
    assert mixed.flops == plain.flops


def test_accumulated_gradients_are_there_in_the_forward_pass():
    model, inputs = nn.Linear(64, 64, device="meta"), torch.empty(1, 64, device="meta")

    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return {"loss": self.inner(x).sum()}

    def peak(accumulates):
        return count_step(WithLoss(), {"x": inputs}, lambda p: torch.optim.SGD(p, lr=1.0), accumulates=accumulates).peak

    assert peak(True) - peak(False) == 4 * (64 * 64 + 64)


def test_a_model_that_cannot_compute_again_is_named():
    with pytest.raises(ValueError, match="Linear has no layer"):
        count_step(nn.Linear(2, 2, device="meta"), {"x": torch.empty(1, 2)}, torch.optim.SGD, checkpointing=True)
