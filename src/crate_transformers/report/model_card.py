"""The model card, README.md of a folder: what the model is, how it was made, what was measured, how to load it.

Its head is the metadata that the Hugging Face hub reads (pipeline tag, data sets, evaluation results); its body is
Markdown. Everything in it comes from the folder's own files or is said to be missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedConfig

from ..configuration.families import MODEL_FAMILIES

# the end of a class's name -> (pipeline of the hub, Auto class)
_USES = {
    "ForImageClassification": ("image-classification", "AutoModelForImageClassification"),
    "ForMaskedLM": ("fill-mask", "AutoModelForMaskedLM"),
    "ForCausalLM": ("text-generation", "AutoModelForCausalLM"),
    "LMHeadModel": ("text-generation", "AutoModelForCausalLM"),
    "ForSequenceClassification": ("text-classification", "AutoModelForSequenceClassification"),
    "ForTokenClassification": ("token-classification", "AutoModelForTokenClassification"),
    "ForQuestionAnswering": ("question-answering", "AutoModelForQuestionAnswering"),
    "ForMultipleChoice": ("multiple-choice", "AutoModelForMultipleChoice"),
    "ForPreTraining": (None, "AutoModelForPreTraining"),
}
_SHOWN_FIELDS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size", "num_labels",
                 "vocab_size", "max_position_embeddings", "compression", "sparsification", "dictionary_ratio",
                 "ista_step_size", "ista_lambda")  # fmt: skip
_SPLITS = ("test", "validation")


@dataclass(frozen=True)
class CardFacts:
    """What a card says.

    Attributes:
        title: its heading. config: of the model. parameters: how many numbers it has.
        origin: how the model was made, paragraphs of Markdown.
        metrics: the content of metrics.json: part -> metric -> number.
        data: what the model was trained on, as a name that others understand; "" where it is not known.
        layers: one row a layer: `layer` and the columns of `LayerMeasures`.
        figures: file of the folder -> caption.
        license: a name of the hub's list; None where none was chosen.
    """

    title: str
    config: PreTrainedConfig
    parameters: int
    origin: Sequence[str] = ()
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data: str = ""
    layers: Sequence[Mapping[str, Any]] = ()
    figures: Mapping[str, str] = field(default_factory=dict)
    license: str | None = None

    @property
    def class_name(self) -> str:
        """The model class that the folder was saved with."""
        return next(iter(self.config.architectures or ()), type(self.config).__name__.replace("Config", "Model"))

    @property
    def use(self) -> tuple[str | None, str]:
        """(pipeline of the hub or None, Auto class)."""
        return next((use for ending, use in _USES.items() if self.class_name.endswith(ending)), (None, "AutoModel"))


def model_card(facts: CardFacts) -> str:
    """The text of README.md.

    Args:
        facts: what it says.

    Returns:
        metadata of the hub between two lines of dashes, then Markdown.

    Example:
        >>> from crate_transformers import CrateVisionConfig
        >>> config = CrateVisionConfig.from_size("tiny", architectures=["CrateForImageClassification"])
        >>> "pipeline_tag: image-classification" in model_card(CardFacts("mine", config, 6_090_856))
        True
    """
    head = ModelCardData(
        library_name="transformers",
        pipeline_tag=facts.use[0],
        license=facts.license,
        tags=["white-box", "sparse-rate-reduction", facts.config.model_type],
        datasets=[facts.data.removeprefix("hub:")] if facts.data.startswith("hub:") else None,
        model_name=facts.title,
        eval_results=_evaluation_results(facts) or None,
    )
    parts = [f"# {facts.title}", _what(facts), "## Load it", _loading(facts)]
    parts += ["## How it was made", *(facts.origin or ["This folder does not say."])]
    parts += ["## Evaluation", _metric_table(facts)]
    if facts.layers:
        parts += ["## What the layers do", _layer_table(facts)]
    parts += [f"![{caption}]({file})" for file, caption in facts.figures.items()]
    parts += ["## Licence", _licence(facts)]
    return str(ModelCard(f"---\n{head.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n", ignore_metadata_errors=True))


def held_out(facts: CardFacts) -> tuple[str, Mapping[str, Any]] | None:
    """(name, metrics) of the part whose numbers stand for the model: the test part, else the validation part."""
    return next(((name, facts.metrics[name]) for name in _SPLITS if facts.metrics.get(name)), None)


def _what(facts: CardFacts) -> str:
    config = facts.config
    own = config.model_type in MODEL_FAMILIES
    kind = "a white-box transformer of *sparse rate reduction*" if own else "a baseline of transformers"
    fields = {name: getattr(config, name, None) for name in _SHOWN_FIELDS}
    rows = "\n".join(f"| `{name}` | {_value(value)} |" for name, value in fields.items() if value is not None)
    flops = facts.metrics.get("model", {}).get("flops")
    cost = f", {flops:,} floating-point operations a sample (a multiply-add is two)" if flops else ""
    return (
        f"`{facts.class_name}`, {kind}: {facts.parameters:,} parameters{cost}.\n\n| field | value |\n|---|---|\n{rows}"
    )


def _value(value: object) -> str:
    if isinstance(value, list | tuple) and len(set(map(str, value))) == 1 and not isinstance(value[0], int):
        return f"{value[0]}, all layers"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _loading(facts: CardFacts) -> str:
    auto = facts.use[1]
    if facts.config.model_type not in MODEL_FAMILIES:
        return f"```python\nfrom transformers import {auto}\n\nmodel = {auto}.from_pretrained(PATH_OR_NAME)\n```"
    return (
        "`pip install crate-transformers`, then\n\n```python\nimport crate_transformers\n"
        f"from transformers import {auto}\n\nmodel = {auto}.from_pretrained(PATH_OR_NAME)\n```\n\n"
        "or, in programs that do not import the package, `trust_remote_code=True`: the code file of this folder "
        "imports the classes from the installed package and holds nothing else."
    )


def _metric_table(facts: CardFacts) -> str:
    parts = {name: values for name, values in facts.metrics.items() if name != "model" and values}
    rows = [
        f"| {part} | {metric} | {_number(value)} |"
        for part, values in parts.items()
        for metric, value in values.items()
        if isinstance(value, int | float)
    ]
    if not rows:
        return "Not measured."
    where = f"Data: `{facts.data}`.\n\n" if facts.data else ""
    return where + "| part | measure | value |\n|---|---|---|\n" + "\n".join(rows)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _layer_table(facts: CardFacts) -> str:
    rows = [
        f"| {row['layer']} | {_number(row['coding_rate_mean'])} | {_number(row['nonzero_fraction_mean'])} |"
        for row in facts.layers
    ]
    text = (
        "Rᶜ is the coding rate of the tokens under the subspaces of a layer (nats, summed over heads, unit tokens, "
        "epsilon = 0.1), which compression lowers; the last column is the fraction of non-zero entries after the layer."
    )
    return f"{text}\n\n| layer | Rᶜ | non-zero |\n|---|---|---|\n" + "\n".join(rows)


def _licence(facts: CardFacts) -> str:
    if facts.license:
        return f"{facts.license} (of these weights; the package crate-transformers is under MIT)."
    return "No licence was chosen for these weights (`crate publish --license NAME`); the package itself is under MIT."


def _evaluation_results(facts: CardFacts) -> list[EvalResult]:
    part, task = held_out(facts), facts.use[0]
    if part is None or task is None or not facts.data:
        return []
    name, values = part
    return [
        EvalResult(
            task_type=task,
            dataset_type=facts.data.removeprefix("hub:").replace(":", "-"),
            dataset_name=facts.data,
            dataset_split=name,
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in values.items()
        if isinstance(value, int | float)
    ]


__all__ = ["CardFacts", "held_out", "model_card"]
