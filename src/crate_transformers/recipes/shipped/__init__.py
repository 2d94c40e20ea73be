"""The recipes of the package: the YAML files of this folder. The header of a file is the recipe's description."""

from importlib import resources


def shipped_recipes() -> dict[str, str]:
    """The name of every recipe in the package -> the comment at the head of its file."""
    found = {}
    for file in sorted(resources.files(__package__).iterdir(), key=lambda item: item.name):
        if file.name.endswith(".yaml"):
            lines = file.read_text(encoding="utf-8").splitlines()
            header = [line.lstrip("# ").rstrip() for line in lines if line.startswith("#")]
            found[file.name.removesuffix(".yaml")] = "\n".join(header)
    return found


def shipped_text(name: str) -> str:
    """The YAML of a recipe in the package, by a name that `shipped_recipes` lists."""
    return (resources.files(__package__) / f"{name}.yaml").read_text(encoding="utf-8")


__all__ = ["shipped_recipes", "shipped_text"]
