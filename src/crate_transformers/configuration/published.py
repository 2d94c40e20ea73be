"""The published models of the family, one row each: what they are, what was published of them, what loads.

docs/family.md shows this table, and a test holds the page to it and counts the parameters.
"""

from dataclasses import dataclass, field
from typing import Any

from .families import MODEL_FAMILIES


@dataclass(frozen=True)
class Published:
    """One published model.

    Attributes:
        name, year, paper: as the paper has them; paper is the number at arXiv.
        operator: what compresses and what sparsifies. cost: of compression in N tokens.
        family, size, fields: the configuration, see `config`.
        parameters: as counted. accuracy: as published; "" where none is. loads: the public files that do.
        measured: what `crate inspect` measures of a layer.
    """

    name: str
    year: int
    paper: str
    operator: str
    cost: str
    family: str
    size: str
    parameters: int
    accuracy: str
    loads: str
    measured: str
    fields: dict[str, Any] = field(default_factory=dict)

    def config(self) -> Any:
        """The configuration, of 1000 classes where it classifies."""
        family = MODEL_FAMILIES[self.family]
        labels = {"num_labels": 1000} if "AutoModelForImageClassification" in family.models else {}
        return family.config_class().from_size(self.size, **labels, **self.fields)


_RATES = "R^c, Delta R, non-zeros"
_TOP1 = "ImageNet top-1 {} %"
PUBLISHED: tuple[Published, ...] = (
    Published(
        "CRATE-S", 2023, "2306.01129", "mssa + ista", "N^2", "crate_vision", "small", 13_116_328,
        _TOP1.format("69.2"), "classifier (.pth)", _RATES,
    ),
    Published(
        "CRATE-MAE-B", 2024, "2404.02446", "mssa + ista", "N^2", "crate_mae", "base", 43_745_280,
        "", "autoencoder (.pth)", _RATES,
    ),
    Published(
        "CRATE-GPT2-B", 2023, "2311.13110", "mssa + ista", "N^2", "crate", "gpt2-base", 60_699_648,
        "OpenWebText loss 3.37", "language model (.pt)", _RATES,
    ),
    Published(
        "CRATE-alpha-B/16", 2024, "2405.20299", "mssa + ista (4 d, two steps, decoupled, residual)", "N^2",
        "crate_vision", "alpha-base", 72_328_936, _TOP1.format("81.2") + " after IN-21K", "torch .pth, flax .npz",
        _RATES,
    ),
    Published(
        "CRATE-alpha-L/14", 2024, "2405.20299", "mssa + ista (4 d, two steps, decoupled, residual)", "N^2",
        "crate_vision", "alpha-large", 253_650_920, _TOP1.format("83.9") + " after IN-21K", "torch .pth, flax .npz",
        _RATES, {"patch_size": 14},
    ),
    Published(
        "ToST-S", 2024, "2412.17810", "tssa + mlp", "N", "tost_vision", "small", 22_589_944, _TOP1.format("77.9"),
        "classifier (.pth)", "variational rate, memberships",
    ),
    Published(
        "ToST-B (text)", 2024, "2412.17810", "causal tssa + mlp", "N, 2 d + K numbers kept", "tost", "base",
        110_384_016, "OpenWebText loss 3.20", "language model (.pt)", "variational rate, memberships",
    ),
    Published(
        "CBT-T", 2025, "2509.16875", "cbsa + ista", "N m", "crate_vision", "cbt-tiny", 1_789_192, _TOP1.format("63.2"),
        "classifier (.pth)", _RATES + ", A^T A",
    ),
    Published(
        "CBT-S", 2025, "2509.16875", "cbsa + ista", "N m", "crate_vision", "cbt-small", 6_667_048, _TOP1.format("71.4"),
        "classifier (.pth)", _RATES + ", A^T A",
    ),
    Published(
        "AoT", 2025, "2506.03790", "mssa or mhsa alone", "N^2", "crate_vision", "tiny", 4_312_168,
        "", "no public file", _RATES + " of the tokens", {"sparsification": "none"},
    ),
)  # fmt: skip


def published_table() -> str:
    """The rows as a table in Markdown.

    Example:
        >>> published_table().splitlines()[0].count("|")
        10
    """
    heads = ("model", "year", "paper", "operators", "cost in tokens", "parameters", "published", "loads", "measured")
    rows = [heads, ("---",) * len(heads)]
    for one in PUBLISHED:
        paper = f"[{one.paper}](https://arxiv.org/abs/{one.paper})"
        rows.append(
            (
                one.name, str(one.year), paper, one.operator, one.cost, f"{one.parameters:,}", one.accuracy or "none",
                one.loads, one.measured,
            )
        )  # fmt: skip
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def published_evaluation(model_type: str) -> tuple[str, float]:
    """(interpolation, crop_fraction) of the pictures on which the public code of a family is evaluated.

    ToST's README asks for the whole shorter side, resized bicubically (`--full_crop`, arXiv 2412.17810); the others
    take 224 of 256 pixels, bilinearly.

    Example:
        >>> published_evaluation("tost_vision"), published_evaluation("crate_vision")
        (('bicubic', 1.0), ('bilinear', 0.875))
    """
    return ("bicubic", 1.0) if model_type == "tost_vision" else ("bilinear", 224 / 256)


__all__ = ["PUBLISHED", "Published", "published_evaluation", "published_table"]
