"""`--set key=value`: values are YAML, so 3 is a number, [24,16] a list, true a truth value."""

from typing import Any

from ..errors import UserError


def parse_settings(settings: list[str] | None) -> dict[str, Any]:
    """["a.b=3", "c=[1,2]"] -> {"a.b": 3, "c": [1, 2]}.

    Raises:
        UserError: no "=", a key that is set twice, or a value that is not YAML, or has more meanings than one.
    """
    from ..recipes.reading import read_yaml  # yaml, which no help page needs

    parsed: dict[str, Any] = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UserError(f"--set takes key=value, got {setting!r}")
        if key in parsed:
            raise UserError(f"--set {key} is given twice: leave one out")
        parsed[key], _ = read_yaml(value, f"--set {key}", is_value=True)
    return parsed


__all__ = ["parse_settings"]
