"""Nothing is made on the CPU in the middle of a forward or backward pass, seen without a GPU.

torch's fake tensors have a device and a shape, and no numbers; an operation on two of them that lie on different
devices is refused. Of a fake GPU a torch without a GPU runs the forward pass alone: automatic differentiation asks the
driver. So the backward pass is run on a device that has no driver ("lazy", with its number: it has no current one).
"""

import pytest
import torch
from families import MODELS, ids, picture
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from zoo import BATCH, WIDTH, vision_config

from crate_transformers import CrateForImageClassification
from crate_transformers.objective import (
    coding_rate,
    coding_rate_distillation,
    hoyer_sparsity,
    ista_step,
    sparsity,
    subspace_coding_rate,
    variational_coding_rate,
)

DEVICES = ("cuda", "lazy:0")


def moved(model, device):
    """The model with its parameters and buffers on a device, and nothing else of it: what `.to` moves."""
    new: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is None:
                    continue
                if id(tensor) not in new:
                    there = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
                    new[id(tensor)] = nn.Parameter(there) if isinstance(tensor, nn.Parameter) else there
                held[name] = new[id(tensor)]
    return model


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_makes_nothing_elsewhere(name, device):
    kind, config, inputs = MODELS[name]
    for attention in ("sdpa", "eager")[: 1 + (device == "lazy:0")]:  # Triton's kernels have no numbers to read here
        model = kind._from_config(config(), attn_implementation=attention).train()
        with FakeTensorMode():
            outputs = moved(model, device)(**inputs(device))
            assert outputs.loss.device.type == torch.device(device).type
            if device == "lazy:0":
                outputs.loss.backward()
                assert {p.grad.device for p in model.parameters() if p.grad is not None} == {torch.device(device)}


@torch.no_grad()
@pytest.mark.parametrize("name", ["decoder", "over-complete decoder", "tost, text"])
def test_a_cache_lies_with_its_tokens(name):
    kind, config, _ = MODELS[name]
    model = kind(config()).eval()
    with FakeTensorMode():
        moved(model, "cuda")
        first = model(ids("cuda"), use_cache=True)
        second = model(ids("cuda", BATCH, 1), past_key_values=first.past_key_values, use_cache=True)
        assert second.logits.device.type == "cuda"


def test_the_objective_makes_nothing_elsewhere():
    device = "cuda"
    with FakeTensorMode():
        tokens = torch.randn(2, 7, 15, device=device)
        heads, code = torch.randn(2, 3, 7, 5, device=device), torch.randn(2, 7, 15, device=device)
        belongs = torch.rand(2, 7, 3, device=device)
        found = [
            coding_rate(tokens),
            *(subspace_coding_rate(heads, mode=mode) for mode in ("official", "paper")),
            variational_coding_rate(heads, belongs),
            *(sparsity(code), hoyer_sparsity(code)),
            coding_rate_distillation(tokens, tokens),
            ista_step(code, tokens, torch.randn(15, 15, device=device), 0.1, 0.1),
        ]
        assert {value.device.type for value in found} == {device}


def test_what_is_made_elsewhere_is_refused():
    """The test above can fail: a table that is no buffer stays where it was made."""
    model = CrateForImageClassification(vision_config())
    del model.crate.embeddings.position_embeddings
    with FakeTensorMode():
        model.crate.embeddings.position_embeddings = torch.zeros(1, 16, WIDTH)
        with pytest.raises(RuntimeError, match=r"device"):
            moved(model, "cuda")(**picture("cuda"))
