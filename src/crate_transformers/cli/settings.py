"""`--set key=value`: values are YAML, so 3 is a number, [24,16] a list, true a truth value."""

from typing import Any

import yaml

from ..errors import UserError


def parse_settings(settings: list[str] | None) -> dict[str, Any]:
    """["a.b=3", "c=[1,2]"] -> {"a.b": 3, "c": [1, 2]}.

    Raises:
        ValueError: no "=", or a value that is not YAML.
    """
    parsed: dict[str, Any] = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set takes key=value, got {setting!r}")
        try:
            parsed[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"--set {key.strip()}: {value!r} is not a YAML value ({error})") from error
        if isinstance(parsed[key.strip()], str) and _is_number(value):  # YAML 1.1 reads 1e-4 as text
            parsed[key.strip()] = float(value)
    return parsed


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip().lower() not in ("nan", "inf", "-inf", "infinity")


__all__ = ["parse_settings"]
