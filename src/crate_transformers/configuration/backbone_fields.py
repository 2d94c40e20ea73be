"""What a configuration says to `AutoBackbone`: the stages of a model, and which of them are given."""

from typing import Any, cast

from ..upstream import BackboneConfigMixin


class BackboneFields(BackboneConfigMixin):
    """Which stages an image model gives as a backbone.

    A stage is a layer: "stem" is what enters the first one, "stage1" what it gives. Only what was asked for is saved.

    Attributes:
        out_features, out_indices: names and numbers of stages; the last one where nothing is said.
        reshape_hidden_states: give maps (B, d, rows, columns); False: all tokens, (B, 1 + N, d), as DPT reads them.
    """

    num_hidden_layers: int
    reshape_hidden_states: bool
    _out_features: list[str] | None
    _out_indices: list[int] | None

    def __post_init__(self, **kwargs: object) -> None:
        features = cast(list[str] | None, kwargs.pop("out_features", None))
        indices = cast(list[int] | None, kwargs.pop("out_indices", None))
        kwargs.pop("stage_names", None)  # they follow from the layers
        self.reshape_hidden_states = bool(kwargs.pop("reshape_hidden_states", True))
        self._out_features = self._out_indices = None
        cast(Any, super()).__post_init__(**kwargs)  # of the configuration that this is mixed into
        if features is not None or indices is not None:
            self.set_output_features_output_indices(features, indices)

    @property
    def stage_names(self) -> list[str]:
        """The stem, and a stage a layer."""
        return ["stem", *(f"stage{number}" for number in range(1, self.num_hidden_layers + 1))]

    @property
    def out_features(self) -> list[str]:
        """Names of the stages that a backbone gives."""
        return self._out_features or self.stage_names[-1:]

    @out_features.setter
    def out_features(self, names: list[str] | None) -> None:
        self.set_output_features_output_indices(names, None)

    @property
    def out_indices(self) -> list[int]:
        """Numbers of the stages that a backbone gives, 0 for the stem."""
        return self._out_indices or [self.num_hidden_layers]

    @out_indices.setter
    def out_indices(self, numbers: list[int] | tuple[int, ...] | None) -> None:
        self.set_output_features_output_indices(None, None if numbers is None else list(numbers))

    def to_dict(self) -> dict[str, Any]:
        """All fields; the stages where some were asked for."""
        fields: dict[str, Any] = super().to_dict()
        if fields.get("reshape_hidden_states"):
            del fields["reshape_hidden_states"]
        return {name: value for name, value in fields.items() if value is not None or not name.startswith("out_")}


__all__ = ["BackboneFields"]
