"""PEFT: which parts of a model LoRA adapts.

    W <- W + s B A,   s = alpha / r,   B (out, r), A (r, in)      W: U, O, and by option D, E, A and the maps of an MLP

What is a linear map is named in `target_modules`. Dictionaries are bare parameters, which PEFT's "all-linear" misses,
and the first map of an MLP has its gelu within; they are named in `target_parameters`, where the sum is made before the
block uses it. Everything merges into the weights of the model.

Source: arXiv 2106.09685.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from ...errors import MissingPackageError, UserError
from ...layers import ClassAttention, ClassAttentionLayer, CompressionOperator, LinearDictionary, SparsificationStep
from ...layers.adapters import refuse_adapters
from ...layers.sparsification.mlp import Activations
from ...models.modeling_base import CratePreTrainedModel

if TYPE_CHECKING:
    from peft import LoraConfig

_HEADS = ("classifier", "qa_outputs", "crate.pooler")  # what is new above a backbone
_E = "decoder_dictionary"  # the one bare matrix that has a map as well, `decoder`
# end of a class's name -> PEFT's name of its task; the other classes go without one, which is transparent
_TASKS = {
    "ForCausalLM": "CAUSAL_LM",
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}


def import_peft() -> Any:
    """PEFT.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingPackageError("LoRA needs an extra: pip install 'crate-transformers[peft]'") from error
    return peft


def _end(name: str) -> str:
    """The last segments of a path that say what a part is, in whatever layer: two words, and the numbers within."""
    *_, before, last = name.split(".")
    return ".".join(name.split(".")[-3:]) if before.isdecimal() else f"{before}.{last}"


def _compressing(model: nn.Module) -> Iterator[str]:
    """Ends of the names of the linear maps of all that compresses: U, queries, keys, the output projections."""
    for name, part in model.named_modules():
        if isinstance(part, CompressionOperator | ClassAttention):
            yield from (_end(f"{name}.{own}") for own, map_ in part.named_modules() if isinstance(map_, nn.Linear))


def _sparsifying(model: nn.Module) -> Iterator[tuple[str, bool]]:
    """(end of a name, whether it is a parameter's): dictionaries, the maps of an MLP."""
    for name, part in model.named_modules():
        if isinstance(part, ClassAttentionLayer):
            name, part = f"{name}.mlp", part.mlp
        elif not isinstance(part, SparsificationStep | LinearDictionary):
            continue
        for own, piece in part.named_modules(prefix=name):
            if isinstance(piece, nn.Linear) and not isinstance(piece, Activations):
                yield _end(own), False
            else:
                own_parameters = piece.named_parameters(recurse=False)
                yield from (
                    (_end(f"{own}.{of}"), True) for of, tensor in own_parameters if tensor.ndim == 2 and of != _E
                )


def _check(model: nn.Module, rank: int, alpha: float | None, dropout: float) -> None:
    if not isinstance(model, CratePreTrainedModel):
        raise UserError(f"crate_lora_config takes a CRATE model, got {type(model).__name__}")
    refuse_adapters(model, "crate_lora_config cannot describe")
    if model.is_fused:
        raise UserError("a fused model is closed: adapt the model that it was made from")
    if rank < 1 or not 0 <= dropout < 1 or (alpha is not None and alpha <= 0):
        raise UserError(f"rank must be at least 1, alpha positive, dropout in [0, 1); got {rank}, {alpha}, {dropout}")


def crate_lora_config(
    model: nn.Module,
    rank: int = 8,
    alpha: float | None = None,
    dropout: float = 0.0,
    dictionaries: bool = False,
    modules_to_save: Sequence[str] | None = None,
    **options: Any,
) -> "LoraConfig":
    """A `peft.LoraConfig` that adapts what a model of the library compresses with, and by option what it codes with.

    Args:
        model: any model of the library, without adapters.
        rank: r, at least 1. alpha: the sum is scaled by alpha / r; None is 2 r.
        dropout: of the tokens on their way into an adapter, in [0, 1). Not with dictionaries, or MLPs, in PEFT.
        dictionaries: also adapt the dictionaries of ISTA and of the autoencoder's decoder, and the maps of MLPs.
        modules_to_save: parts that are trained and saved as a whole; None is the head of labels, where there is one,
            and the BatchNorms of a stem, whose statistics move in training.
        options: further ones of LoraConfig, as `init_lora_weights` or `use_rslora`.

    Raises:
        MissingPackageError: PEFT is not installed.
        UserError: a model of another kind, one with adapters, a fused one, or values out of their range.

    Example:
        >>> from peft import get_peft_model
        >>> from crate_transformers import CrateForImageClassification, CrateVisionConfig
        >>> config = CrateVisionConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=32)
        >>> lora = crate_lora_config(CrateForImageClassification(config), rank=4, dictionaries=True)
        >>> sorted(lora.target_modules), lora.target_parameters
        (['attention.output', 'attention.subspaces'], ['coding.dictionary'])
        >>> model = get_peft_model(CrateForImageClassification(config), lora)
        >>> model(pixel_values=torch.zeros(1, 3, 32, 32)).logits.shape
        torch.Size([1, 2])
    """
    _check(model, rank, alpha, dropout)
    modules = list(dict.fromkeys(_compressing(model)))
    further = list(dict.fromkeys(_sparsifying(model))) if dictionaries else []
    modules += [name for name, is_parameter in further if not is_parameter]
    parameters = [name for name, is_parameter in further if is_parameter]
    if dictionaries and not further:
        raise UserError(f"this {type(model).__name__} has no dictionary and no MLP: leave dictionaries out")
    if parameters and dropout:
        raise UserError(
            f"PEFT has no dropout for parameters ({', '.join(parameters)}): set dropout=0, or dictionaries=False"
        )
    task = next((task for end, task in _TASKS.items() if type(model).__name__.endswith(end)), None)
    return import_peft().LoraConfig(
        **{
            "r": rank,
            "lora_alpha": 2 * rank if alpha is None else alpha,
            "lora_dropout": dropout,
            "target_modules": modules,
            "target_parameters": parameters or None,
            "modules_to_save": list(_whole(model) if modules_to_save is None else modules_to_save) or None,
            "task_type": task,
            **options,
        }
    )


def _whole(model: nn.Module) -> Iterator[str]:
    """Names of the parts that are trained as a whole."""
    for name, part in model.named_modules():
        if name in _HEADS or isinstance(part, nn.BatchNorm2d):
            yield name


__all__ = ["crate_lora_config", "import_peft"]
