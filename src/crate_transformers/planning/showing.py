"""A plan in words: one line a figure, with its formula."""

from .plan import Figure, Plan

_STEPS = ("", "k", "M", "G", "T", "P", "E", "Z")


def in_words(figure: Figure) -> str:
    """The value of a figure with its unit: 1.5 GiB, 2.15 TFLOP, 3.2 h.

    Example:
        >>> in_words(Figure("disk", "data", 3 * 2**29, "B", "")), in_words(Figure("work", "time", 7200.0, "s", ""))
        ('1.5 GiB', '2 h')
    """
    value = figure.value
    if value is None:
        return "unknown"
    if figure.unit == "B":
        for size, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
            if value >= size:
                return f"{value / size:.4g} {unit}"
        return f"{value} B"
    if figure.unit == "FLOP":
        power = 0
        while value >= 1000 and power < len(_STEPS) - 1:
            value, power = value / 1000, power + 1
        return f"{value:.4g} {_STEPS[power]}FLOP"
    if figure.unit == "s":
        for size, unit in ((86400 * 2, "days"), (3600, "h"), (60, "min")):
            if value >= size:
                return f"{value / (86400 if unit == 'days' else size):.3g} {unit}"
        return f"{value:.3g} s"
    if isinstance(value, int):
        return f"{value:,}"
    number = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return number + (figure.unit if figure.unit.startswith("/") else f" {figure.unit}" if figure.unit else "")


def lines_of(plan: Plan) -> list[str]:
    """The lines of a plan, section by section, then its notes."""
    lines = [f"{plan.recipe} on {plan.device.name} ({plan.device.source})"]
    cells = [(figure, in_words(figure)) for figure in plan.figures]
    names, words = max(len(f.name) for f, _ in cells), max(len(word) for _, word in cells)
    section = ""
    for figure, word in cells:
        if figure.section != section:
            section = figure.section
            lines.append(section)
        lines.append(f"  {figure.name:<{names}}  {word:>{words}}  {figure.formula}".rstrip())
    return [*lines, *plan.notes]


__all__ = ["in_words", "lines_of"]
