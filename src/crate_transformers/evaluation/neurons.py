"""Show which tokens neurons fire on, and what a model writes when neurons are set to values: `crate neurons`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..analysis.neurons import Neurons, find_neurons
from ..analysis.steering import steer_and_generate
from ..analysis.text import show_neurons
from ..errors import UserError
from ..files import write_bytes
from ..report.page import page_html
from ..report.tokens import ShownNeuron, firing_html, steering_html
from ..report.writing import write_csv
from .inputs import read_text, text_inputs
from .opening import open_model, tokenizer_of

_PROMPT = 60  # characters of the text that stand for a prompt where none is given


@dataclass(frozen=True)
class NeuronRequest:
    """Which neurons to show, as a user names them.

    Attributes:
        model, heads: as in `open_model`.
        text: the name of a file, or words. limit: number of stretches of 128 tokens to read, at most.
        layer: from 0; a negative one counts from the end.
        neurons: numbers of the neurons; where there are none, the `count` most selective ones are shown.
    """

    model: str
    text: str
    layer: int = -1
    neurons: Sequence[int] = ()
    count: int = 20
    limit: int | None = None
    heads: int | None = None


@dataclass(frozen=True)
class Steering:
    """Settings for writing after a prompt with the neurons set to a value on every token.

    Attributes:
        value: any finite number. prompt: None takes the beginning of the text. tokens: number of tokens to write.
    """

    value: float
    prompt: str | None = None
    tokens: int = 40


@dataclass(frozen=True)
class Steered:
    """What the model wrote after a prompt: as it is (plain), and with neurons set to values (steered)."""

    prompt: str
    plain: str
    steered: str
    values: dict[int, float]


@dataclass(frozen=True, eq=False)
class NeuronLook:
    """Neurons of one layer on a text.

    Attributes:
        model, text: their names. neurons: all neurons of the layer.
        shown: some of the neurons, with the tokens that they fire on.
        steered: what the model wrote with neurons set; None where that was not asked for.
    """

    model: str
    text: str
    neurons: Neurons
    shown: tuple[ShownNeuron, ...]
    steered: Steered | None = None

    def to_html(self) -> str:
        """The whole page, which loads nothing from elsewhere."""
        layer, count = self.neurons.layer, self.neurons.num_tokens
        sections = [(f"Neurons of layer {layer}", firing_html(self.shown, count))]
        if self.steered is not None:
            text = self.steered
            sections.insert(0, ("Steering", steering_html(text.prompt, text.plain, text.steered, layer, text.values)))
        facts = {"model": self.model, "text": self.text, "tokens": count, "neurons": len(self.neurons)}
        return page_html(f"Neurons of layer {layer}", facts, sections)

    def write(self, folder: Path) -> list[Path]:
        """Write neurons.csv, which has all neurons, and neurons.html; the files written are returned."""
        table = write_csv(folder / "neurons.csv", self.neurons.rows())
        return [table, write_bytes(folder / "neurons.html", self.to_html().encode())]


def look_at_neurons(
    request: NeuronRequest,
    output: Path,
    steering: Steering | None = None,
    *,
    progress: Callable[[Any, int | None, str], Iterable[Any]] = lambda batches, count, what: batches,
    on_note: Callable[[str], None] = lambda line: None,
) -> NeuronLook:
    """Find what makes neurons fire, steer the model where that is asked for, and write a table and a page.

    Args:
        output: the folder to write, made where it is missing.
        progress: gets (batches, number of samples, what is done), passes the batches on, and may show how many were
            read.
        on_note: as in `open_model`.

    Raises:
        UserError: the model reads no text, or is to be steered and does not generate; a layer or neuron does not
            exist; there is no text.
    """
    model = open_model(request.model, request.heads, in_single=True, on_note=on_note)
    name = Path(request.model).name
    if model.main_input_name != "input_ids":
        raise UserError(f"{name} reads {model.main_input_name}, not text")
    tokenizer = tokenizer_of(request.model)
    inputs = text_inputs(model, tokenizer, request.text, request.limit)
    found = find_neurons(model, progress(inputs.batches, inputs.count, "reading"), request.layer)
    chosen = [found.check(n) for n in request.neurons] if request.neurons else found.most_selective(request.count)
    steered = None
    if steering is not None:
        words = steering.prompt or read_text(request.text)[1][:_PROMPT]
        steered = _steer(model, tokenizer, words, found.layer, dict.fromkeys(chosen, steering.value), steering.tokens)
    look = NeuronLook(name, inputs.name, found, show_neurons(found, tokenizer, chosen), steered)
    look.write(output)
    return look


def _steer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    layer: int,
    values: dict[int, float],
    tokens: int,
) -> Steered:
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]  # (1, N)
    both = steer_and_generate(
        model,
        ids,
        layer,
        values,
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
    )
    plain, steered = (str(tokenizer.decode(row[0, ids.shape[1] :])) for row in both)
    return Steered(prompt, plain, steered, values)


__all__ = ["NeuronLook", "NeuronRequest", "Steered", "Steering", "look_at_neurons"]
