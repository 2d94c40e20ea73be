"""The families of the library, one entry each: what a model type is made of, and what it can be trained for.

Registration with transformers, the public names of the package, recipes, doors and docs are made from this table.
Classes are named by place and loaded when asked, so that the table can be read without torch.
"""

from typing import Any, Literal, NamedTuple

from .._lazy import load_by_name
from .sizes import SIZE_FAMILIES, SIZES, TOST_SIZES, TOST_VISION_SIZES, names_of_sizes


def load_class(place: str) -> Any:
    """The class at "module:Class", the module below this package."""
    return load_by_name(f"crate_transformers.{place}")


class ModelFamily(NamedTuple):
    """One model type.

    Attributes:
        model_type: as config.json says it, and as a recipe's `model.family` does.
        reads: what goes in.
        config: the place of the configuration class.
        models: Auto class of transformers -> the place of the model class that it gives.
        tasks: what the family can be trained for, by the names of recipes.
        size_prefix: what a bare size name is completed with; "" where none is needed.
        sizes: the names that its configuration takes, each after the prefix, where there is one.
        layouts: the public checkpoint layouts that become this family, by their names in interop.
    """

    model_type: str
    reads: Literal["images", "text"]
    config: str
    models: dict[str, str]
    tasks: tuple[str, ...]
    size_prefix: str = ""
    layouts: tuple[str, ...] = ()
    sizes: tuple[str, ...] = tuple(SIZES)

    def config_class(self) -> Any:
        """The configuration class."""
        return load_class(self.config)

    def public_names(self) -> dict[str, str]:
        """Name of every class that a user imports -> the room that holds it."""
        places = (self.config, *self.models.values())
        return {place.partition(":")[2]: place.partition(".")[0].partition(":")[0] for place in places}


_HEADS = {
    "sequence-classification": "SequenceClassification",
    "token-classification": "TokenClassification",
    "multiple-choice": "MultipleChoice",
    "question-answering": "QuestionAnswering",
}

MODEL_FAMILIES: dict[str, ModelFamily] = {
    family.model_type: family
    for family in (
        ModelFamily(
            "crate_vision",
            reads="images",
            config="configuration.configuration_crate_vision:CrateVisionConfig",
            models={
                "AutoModel": "models.modeling_crate_vision:CrateVisionModel",
                "AutoModelForImageClassification": "models.modeling_crate_vision:CrateForImageClassification",
                "AutoBackbone": "models.modeling_backbones:CrateVisionBackbone",
            },
            tasks=("image-classification", "self-distillation"),
            sizes=names_of_sizes(*SIZE_FAMILIES),
            layouts=("vision classifier", "CRATE-alpha", "CRATE-alpha of flax", "CBT"),
        ),
        ModelFamily(
            "crate_mae",
            reads="images",
            config="configuration.configuration_crate_mae:CrateMAEConfig",
            models={
                "AutoModel": "models.modeling_crate_mae:CrateMAEModel",
                "AutoModelForPreTraining": "models.modeling_crate_mae:CrateMAEForPreTraining",
                "AutoBackbone": "models.modeling_backbones:CrateMAEBackbone",
            },
            tasks=("masked-image-modeling",),
            layouts=("masked autoencoder",),
        ),
        ModelFamily(
            "crate",
            reads="text",
            config="configuration.configuration_crate:CrateConfig",
            models={
                "AutoModel": "models.modeling_crate:CrateModel",
                "AutoModelForMaskedLM": "models.modeling_crate:CrateForMaskedLM",
                "AutoModelForCausalLM": "models.modeling_crate:CrateForCausalLM",
                **{f"AutoModelFor{head}": f"models.modeling_crate_heads:CrateFor{head}" for head in _HEADS.values()},
            },
            tasks=("masked-language-modeling", "causal-language-modeling", *_HEADS),
            size_prefix="bert",
            layouts=("causal language model", "text encoder"),
        ),
        ModelFamily(
            "tost_vision",
            reads="images",
            config="configuration.configuration_tost_vision:TostVisionConfig",
            models={
                "AutoModel": "models.modeling_tost_vision:TostVisionModel",
                "AutoModelForImageClassification": "models.modeling_tost_vision:TostForImageClassification",
                "AutoBackbone": "models.modeling_backbones:TostVisionBackbone",
            },
            tasks=("image-classification", "self-distillation"),
            layouts=("ToST for images",),
            sizes=tuple(TOST_VISION_SIZES),
        ),
        ModelFamily(
            "tost",
            reads="text",
            config="configuration.configuration_tost:TostConfig",
            models={
                "AutoModel": "models.modeling_tost:TostModel",
                "AutoModelForCausalLM": "models.modeling_tost:TostForCausalLM",
            },
            tasks=("causal-language-modeling",),
            layouts=("ToST for text",),
            sizes=tuple(TOST_SIZES),
        ),
    )
}

__all__ = ["MODEL_FAMILIES", "ModelFamily", "load_class"]
