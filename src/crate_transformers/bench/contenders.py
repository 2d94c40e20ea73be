"""What is timed: one piece of work, done by this library and by what it is compared with.

A contender is a name: "crate" (this library), its other families "alpha", "cbt", "aot", "tost" of the same width and
depth, "public" (CRATE's public formulation), "vit", "bert", "gpt2" (transformers' own, of that width and depth), and
for loading "pipeline": pictures decoded, cropped and augmented in one process,
beside the training step that they feed. Images and decoding take forms after the name: "sdpa" (attention by torch's
operator instead of the library's) or "fused" (this library), then "bfloat16", "autocast" (weights in float32, products
in bfloat16), "int8" (weights of the linear maps, by torchao) or "int8-dynamic" (their inputs too), then "compiled".
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    ViTConfig,
    ViTForImageClassification,
)

from ..configuration import CrateConfig, CrateVisionConfig, TostConfig, TostVisionConfig
from ..configuration.sizes import SIZE_FAMILIES, size_fields
from ..data import ImageCollator, KeyedImages, LabelledImages, TrainingTransform, load_image
from ..errors import MissingPackageError, UserError
from ..interop import fuse
from ..models import (
    CrateForCausalLM,
    CrateForImageClassification,
    CrateModel,
    TostForCausalLM,
    TostForImageClassification,
)
from ..models.image_processing import image_processor_of
from ..objective import subspace_coding_rate
from ..upstream import CACHE
from .public_formulation import from_library, public_coding_rate

Task = Literal["vision", "encoder", "causal", "decoding", "rates", "loading"]
Result = TypeVar("Result")
_VOCABULARY = 50304
_PATCH = 16
# what makes another family of a CRATE for images of the same width; its published sizes have widths of their own
_FAMILY_FIELDS: dict[str, dict[str, Any]] = {
    "crate": {},
    "alpha": SIZE_FAMILIES["alpha"][1],
    "cbt": SIZE_FAMILIES["cbt"][1],
    "aot": {"sparsification": "none"},
}


@dataclass(frozen=True)
class Case:
    """One piece of work.

    Attributes:
        task: classify images; encode text; predict each next token of a text; continue a prompt with a cache; the
            rates of all layers; feed a training step with pictures.
        size: of the table of sizes. batch: images or sequences at once. training: forward and backward of a loss.
        image_size: pixels. tokens: of a text, or to be generated. layers: instead of the size's.
    """

    task: Task
    size: str = "base"
    batch: int = 1
    training: bool = False
    image_size: int = 224
    tokens: int = 128
    layers: int | None = None

    @property
    def label(self) -> str:
        """A line that names the case."""
        depth = f", {self.layers} layers" if self.layers else ""
        sort = "training step" if self.training else "inference"
        if self.task == "causal":
            return f"{self.size}, {self.tokens} tokens, batch {self.batch}{depth}, causal {sort}"
        if self.task == "vision":
            return f"{self.size}, {self.image_size} px, batch {self.batch}{depth}, {sort}"
        if self.task == "loading":
            return f"{self.size}, {self.image_size} px, batch {self.batch}{depth}, training step and its pictures"
        what = {"encoder": "tokens", "decoding": "tokens generated", "rates": "tokens, rates of all layers"}[self.task]
        return f"{self.size}, {self.tokens} {what}, batch {self.batch}{depth}"

    @property
    def unit(self) -> str:
        """What throughput counts."""
        return "tokens" if self.task in ("encoder", "causal", "decoding") else "images"

    @property
    def items(self) -> int:
        """How many images or tokens one run handles."""
        return self.batch * (1 if self.unit == "images" else self.tokens)

    def fields(self) -> dict[str, Any]:
        """The case as plain values."""
        return asdict(self)


@dataclass
class Work:
    """A contender made ready: `run` does the case once; `model` is what does it (None for the rates)."""

    run: Callable[[], Any]
    model: nn.Module | None = None


def build(name: str, case: Case, seed: int = 0) -> Work:
    """Make a contender ready for a case; models have random weights and inputs are random.

    Raises:
        ValueError: a contender that does not do such work.
    """
    torch.manual_seed(seed)
    builders = {
        "vision": _vision,
        "encoder": _encoder,
        "causal": _causal,
        "decoding": _decoding,
        "rates": _rates,
        "loading": _loading,
    }
    return builders[case.task](name, case)


def _unknown(name: str, case: Case) -> UserError:
    return UserError(f"{name!r} is no contender for {case.task}")


def _shape(case: Case) -> dict[str, Any]:
    fields = size_fields(case.size)
    return {**fields, "num_hidden_layers": case.layers or fields["num_hidden_layers"]}


def _vision(name: str, case: Case) -> Work:
    kind, _, form = name.partition(" ")
    shape = _shape(case)
    images: dict[str, Any] = {"image_size": case.image_size, "patch_size": _PATCH, "num_labels": 1000}
    model: nn.Module
    if kind == "vit":
        model = ViTForImageClassification(ViTConfig(**shape, **images, intermediate_size=4 * shape["hidden_size"]))
    elif kind == "public":
        model = from_library(CrateForImageClassification(CrateVisionConfig(**shape, **images)))
    elif kind == "tost":
        model = TostForImageClassification(TostVisionConfig(**shape, **images))
    elif kind in _FAMILY_FIELDS:
        model = CrateForImageClassification(CrateVisionConfig(**shape, **images, **_FAMILY_FIELDS[kind]))
    else:
        raise _unknown(name, case)
    model.train(case.training)
    model = _in_form(model, form)
    weights = next(model.parameters())
    pixels = torch.randn(case.batch, 3, case.image_size, case.image_size).to(weights.dtype)
    labels = torch.randint(0, 1000, (case.batch,))

    def logits() -> Tensor:
        """(B, 1000), of any contender."""
        output = model(pixels)
        return output if isinstance(output, Tensor) else output.logits

    return _forward_or_step(model, logits, labels, case)


def _forward_or_step(model: nn.Module, logits: Callable[[], Tensor], labels: Tensor, case: Case) -> Work:
    def step() -> None:
        """Forward and backward; no optimizer."""
        model.zero_grad()
        nn.functional.cross_entropy(logits().flatten(0, -2), labels.flatten()).backward()

    return Work(step if case.training else _without_gradients(logits), model)


def _in_form(model: Any, form: str) -> Any:
    """The model, fused, with weights of another kind, compiled: as the words of its form say.

    Raises:
        ValueError: an unknown word. ImportError: int8 without torchao.
    """
    for word in form.split():
        if word == "sdpa":
            model.set_attn_implementation("torch_sdpa")
        elif word == "mssa":  # Triton's kernels on a GPU
            model.set_attn_implementation("mssa")
        elif word == "fused":
            model = fuse(model)
        elif word == "bfloat16":
            model = model.bfloat16()
        elif word == "autocast":
            mixed = torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16)
            model.forward = mixed(model.forward)
        elif word in ("int8", "int8-dynamic"):
            if find_spec("torchao") is None:
                raise MissingPackageError("int8 weights need an extra: pip install 'crate-transformers[quantization]'")
            from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_

            quantize_(model, Int8WeightOnlyConfig() if word == "int8" else Int8DynamicActivationInt8WeightConfig())
        elif word == "compiled":
            model.compile()
        else:
            expected = "sdpa, mssa, fused, bfloat16, autocast, int8, int8-dynamic or compiled"
            raise UserError(f"unknown form {word!r}: expected {expected}")
    return model


def _encoder(name: str, case: Case) -> Work:
    shape = _shape(case)
    text: dict[str, Any] = {"vocab_size": _VOCABULARY, "max_position_embeddings": case.tokens + 2}
    model: nn.Module
    if name == "crate":
        model = CrateModel(CrateConfig(**shape, **text))
    elif name == "bert":
        model = BertModel(BertConfig(**shape, **text, intermediate_size=4 * shape["hidden_size"]))
    else:
        raise _unknown(name, case)
    model.eval()
    ids = torch.randint(5, _VOCABULARY, (case.batch, case.tokens))
    return Work(_without_gradients(lambda: model(ids)), model)


def _causal(name: str, case: Case) -> Work:
    kind, _, form = name.partition(" ")
    model: nn.Module = _in_form(_decoder(kind, case).train(case.training), form)
    ids = torch.randint(5, _VOCABULARY, (case.batch, case.tokens + 1))

    def logits() -> Tensor:
        """(B, tokens, vocabulary)."""
        output: Tensor = model(ids[:, :-1], use_cache=False).logits
        return output

    return _forward_or_step(model, logits, ids[:, 1:], case)


def _decoding(name: str, case: Case) -> Work:
    kind, _, form = name.partition(" ")
    model = _in_form(_decoder(kind, case).eval(), form)
    prompt = torch.randint(5, _VOCABULARY, (case.batch, 128))

    def run() -> Tensor:
        """(B, 128 + tokens): the prompt and what was generated."""
        attend = torch.ones_like(prompt)
        return model.generate(prompt, attention_mask=attend, do_sample=False, max_new_tokens=case.tokens)

    return Work(run, model)


def _decoder(name: str, case: Case) -> CrateForCausalLM | TostForCausalLM | GPT2LMHeadModel:
    shape = _shape(case)
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}  # nothing ends a text early
    if name == "crate":
        return CrateForCausalLM(CrateConfig.from_size(f"gpt2-{case.size}", **shape, vocab_size=_VOCABULARY, **ends))
    if name == "tost":
        return TostForCausalLM(TostConfig(**shape, vocab_size=_VOCABULARY, **ends))
    if name == "gpt2":
        no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # as the others have it
        ends |= no_dropout
        sizes: dict[str, Any] = {"n_embd": shape["hidden_size"], "n_layer": shape["num_hidden_layers"]}
        return GPT2LMHeadModel(GPT2Config(vocab_size=_VOCABULARY, n_head=shape["num_attention_heads"], **sizes, **ends))
    raise _unknown(name, case)


def cache_bytes(name: str, case: Case) -> int:
    """Bytes that the cache holds after `case.tokens` tokens; one tensor under two names counts once.

    Of keys and values, or of the statistics that tssa keeps in their place.
    """
    model = _decoder(name.partition(" ")[0], case).eval()  # a form changes weights, not the cache
    with torch.no_grad():
        cache = model(torch.ones(case.batch, case.tokens, dtype=torch.long), use_cache=True)[CACHE]
    kept = [getattr(layer, "statistics", None) or (layer.keys, layer.values) for layer in cache.layers]
    tensors = {t.data_ptr(): t.numel() * t.element_size() for layer in kept for t in layer}
    return sum(tensors.values())


def _rates(name: str, case: Case) -> Work:
    shape = _shape(case)
    heads = shape["num_attention_heads"]
    tokens = torch.randn(case.batch, heads, case.tokens, shape["hidden_size"] // heads)  # of one layer
    if name == "crate":
        rate = lambda: subspace_coding_rate(tokens, mode="official")  # noqa: E731
    elif name == "public":
        rate = lambda: public_coding_rate(tokens)  # noqa: E731
    else:
        raise _unknown(name, case)
    return Work(_without_gradients(lambda: [rate() for _ in range(shape["num_hidden_layers"])]))


def _loading(name: str, case: Case) -> Work:
    if name != "pipeline":
        return _vision(name, Case("vision", case.size, case.batch, True, case.image_size, layers=case.layers))
    photographs = [Path(str(files("sklearn.datasets.images") / name)) for name in ("china.jpg", "flower.jpg")]
    processor = image_processor_of(CrateVisionConfig(**_shape(case), image_size=case.image_size, patch_size=_PATCH))
    pictures = LabelledImages(  # 640 x 427 pixels each
        read=lambda i, channels: load_image(photographs[i % len(photographs)], channels),
        labels=np.zeros(case.batch, dtype=np.int64),
        name=str,
    )
    augmented = TrainingTransform(processor, "random_resized", flip=True, rand_augment=(2, 9), random_erasing=0.25)
    images, collate = KeyedImages(pictures, augmented), ImageCollator()
    return Work(lambda: collate([images[(0, index)] for index in range(case.batch)]))


def _without_gradients(run: Callable[[], Result]) -> Callable[[], Result]:
    def plain() -> Result:
        """`run`, in inference mode."""
        with torch.inference_mode():
            return run()

    return plain


__all__ = ["Case", "Task", "Work", "build", "cache_bytes"]
