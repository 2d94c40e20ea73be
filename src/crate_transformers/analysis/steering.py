"""What a language model writes when neurons of a sparsified layer are set to a value.

Shapes: B batch, N tokens of a sequence, m neurons.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .architectures import architecture_of, backbone_of
from .attention import resolve_layer
from .neurons import check_neuron


@contextmanager
def steered(
    model: nn.Module, layer: int, neurons: Mapping[int, float], tokens: Sequence[int] | None = None
) -> Iterator[None]:
    """Within the scope, a layer's neurons have the given values.

    Args:
        model: CRATE of any family, or a baseline. layer: from 0, negative from the end.
        neurons: neuron -> its value; a sparse code is >= 0, but any number is set.
        tokens: places of the tokens that it is about, from 0; None is every token.

    Raises:
        ValueError: a layer or neuron that does not exist.

    Example:
        >>> from crate_transformers import CrateConfig, CrateForCausalLM
        >>> sizes = {"vocab_size": 97, "num_hidden_layers": 2, "bos_token_id": 1, "eos_token_id": 1}
        >>> model = CrateForCausalLM(CrateConfig.from_size("gpt2-tiny", **sizes)).eval()
        >>> with steered(model, -1, {5: 3.0}):
        ...     ids = model.generate(torch.tensor([[1, 2]]), max_new_tokens=3, do_sample=False)
        >>> ids.shape
        torch.Size([1, 5])
    """
    backbone = backbone_of(model)
    architecture = architecture_of(backbone)
    layers = architecture.layers(backbone)
    layer = resolve_layer(layer, len(layers))
    width = architecture.code_width(layers[layer])
    places = [check_neuron(neuron, width) for neuron in neurons]

    def set_neurons(module: nn.Module, arguments: Any, code: Tensor) -> Tensor:
        code = code.clone()
        values = torch.tensor([float(v) for v in neurons.values()], dtype=code.dtype, device=code.device)
        if tokens is None:
            code[..., places] = values
            return code
        for token in tokens:
            code[:, token, places] = values
        return code

    handle = architecture.coding(layers[layer]).register_forward_hook(set_neurons, prepend=True)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def steer_and_generate(
    model: Any, input_ids: Tensor, layer: int, neurons: Mapping[int, float], **generation: Any
) -> tuple[Tensor, Tensor]:
    """What a language model writes as it is, and with neurons set.

    Args:
        input_ids: (B, N). layer, neurons: as in `steered`. generation: arguments of `generate`, e.g. max_new_tokens;
            the same random numbers are used for both.

    Returns:
        (as it is, steered), token ids (B, N + new) each.

    Raises:
        ValueError: a model that does not generate; a layer or neuron that does not exist.

    Example:
        >>> from crate_transformers import CrateConfig, CrateForCausalLM
        >>> sizes = {"vocab_size": 97, "num_hidden_layers": 2, "bos_token_id": 1, "eos_token_id": 1}
        >>> model = CrateForCausalLM(CrateConfig.from_size("gpt2-tiny", **sizes)).eval()
        >>> generation = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False, "pad_token_id": 1}
        >>> before, after = steer_and_generate(model, torch.tensor([[5, 7]]), -1, {5: 3.0}, **generation)
        >>> before.shape, after.shape
        (torch.Size([1, 5]), torch.Size([1, 5]))
    """
    if not hasattr(model, "generate") or not getattr(model, "can_generate", lambda: False)():
        raise UserError(f"{type(model).__name__} does not generate text: load a causal language model")
    seed = int(torch.randint(2**31, ()))

    def run() -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return model.generate(input_ids.to(model.device), **generation).cpu()

    plain = run()
    with steered(model, layer, neurons):
        return plain, run()


__all__ = ["steer_and_generate", "steered"]
