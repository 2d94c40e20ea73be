"""What is known of a recipe's data before they are opened: how many samples, classes and tokens there are.

What the user says goes first, then what the data themselves say where they are at hand, then a table of public data
sets. What none of them knows is unknown, and a plan that needs it asks for it.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from ..data import load_image_source
from ..errors import UserError
from ..evaluation.language_models import load_tokenizer
from ..files import user_path
from ..recipes.schema import Recipe
from ..recipes.tasks.images import ImageData
from ..recipes.tasks.language_modeling import LanguageData
from ..recipes.tasks.text_heads import TextHeadData
from ..training.tasks.stand_in import DataFacts
from ..training.tasks.text_head import labelled_rows


@dataclass(frozen=True)
class Known:
    """A public data set: samples of its training part, classes, bytes of its files, and whether parts are held out."""

    samples: int
    classes: int
    size: int | None = None
    has_validation: bool = False


# by torchvision's name, or the usual name of its folder; figures of their publishers
PUBLIC: dict[str, Known] = {
    "imagenet": Known(1_281_167, 1000, 147_897_477_120),
    "imagenet1k": Known(1_281_167, 1000, 147_897_477_120),
    "imagenet-1k": Known(1_281_167, 1000, 147_897_477_120),
    "ilsvrc2012": Known(1_281_167, 1000, 147_897_477_120),
    "imagenet21k": Known(13_153_500, 19_167, 1_191_000_000_000),  # the release of winter 2021
    "cifar10": Known(50_000, 10, 170_498_071),
    "cifar100": Known(50_000, 100, 169_001_437),
    "fashionmnist": Known(60_000, 10, 30_878_645),
    "mnist": Known(60_000, 10, 11_594_722),
    "flowers102": Known(1_020, 102, 344_862_509, has_validation=True),
    "oxfordiiitpet": Known(3_680, 37, 791_918_971),
    "food101": Known(75_750, 101, 4_996_278_331),
    "svhn": Known(73_257, 10, 182_040_794),
    "stl10": Known(5_000, 10, 2_640_397_119),
}

# tokenizers of the hub -> tokens that they know
TOKENIZERS: dict[str, int] = {
    "FacebookAI/roberta-base": 50_265,
    "openai-community/gpt2": 50_257,
    "google-bert/bert-base-uncased": 30_522,
    "google-bert/bert-base-cased": 28_996,
}


@dataclass(frozen=True)
class Facts:
    """Facts of the data of a recipe.

    Attributes:
        data: what the tasks need. size: bytes of the files; None is unknown. source: where the numbers come from.
    """

    data: DataFacts
    size: int | None
    source: str


def facts_of(
    recipe: Recipe, samples: int | None = None, classes: int | None = None, vocabulary: int | None = None
) -> Facts:
    """What is known of a recipe's data; the arguments are what the user says of them.

    Raises:
        ValueError: data that are at hand and cannot be read.
    """
    found = _found(recipe)
    said = {"samples": samples, "classes": classes, "vocabulary": vocabulary}
    given = {name: value for name, value in said.items() if value is not None}
    source = "as said" if given else found.source
    return Facts(replace(found.data, **given), found.size, source)


def _found(recipe: Recipe) -> Facts:
    data = recipe.data
    if isinstance(data, ImageData):
        return _of_images(recipe, data)
    if isinstance(data, LanguageData | TextHeadData):
        vocabulary = _vocabulary(recipe, data)
        kind, _, place = data.source.partition(":")
        if isinstance(data, TextHeadData) and kind in ("csv", "json", "text") and user_path(place).exists():
            return _of_rows(recipe, data, vocabulary)
        return Facts(DataFacts(vocabulary=vocabulary), None, "the recipe")
    return Facts(DataFacts(), None, "nothing")


def _of_images(recipe: Recipe, data: ImageData) -> Facts:
    kind, _, place = data.source.partition(":")
    known = PUBLIC.get(Path(place).name.lower())
    is_folder = kind in ("imagefolder", "shards") and user_path(place).exists()
    if kind == "digits" or is_folder:
        splits = load_image_source(
            data.source, data.root, data.validation_fraction, data.test_fraction, recipe.seed, data.skip_unreadable
        )
        return Facts(DataFacts(len(splits.train), len(splits.classes)), None, f"{data.source}, opened")
    if known is None or kind == "hub":
        return Facts(DataFacts(), None, "nothing")
    held_out = 0.0 if known.has_validation else data.validation_fraction
    return Facts(
        DataFacts(known.samples - round(held_out * known.samples), known.classes),
        known.size,
        f"the publisher of {place}",
    )


def _of_rows(recipe: Recipe, data: TextHeadData, vocabulary: int | None) -> Facts:
    rows = labelled_rows(recipe, data)
    first = rows.parts["train"][0]
    classes = len(first["choices"]) if "choices" in first else len(rows.labels) if rows.labels else 1
    return Facts(DataFacts(len(rows.parts["train"]), classes, vocabulary), None, f"{data.source}, opened")


def _vocabulary(recipe: Recipe, data: LanguageData | TextHeadData) -> int | None:
    """Tokens that the tokenizer knows; of one that is trained on the data, those that it may learn."""
    if data.tokenizer is None:
        return None if recipe.model.get("from") else data.vocab_size
    if data.tokenizer in TOKENIZERS:
        return TOKENIZERS[data.tokenizer]
    try:
        return len(load_tokenizer(data.tokenizer))
    except UserError:
        return None


__all__ = ["PUBLIC", "TOKENIZERS", "Facts", "Known", "facts_of"]
