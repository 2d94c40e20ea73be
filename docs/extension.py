"""What the pages of this site are made of beside their text.

    ```{drawn} NAME        a figure that figures.py drew, light and dark, with its caption below
    ```{names} MODULE      the documentation of public names, one a line; "NAME: text" describes a constant
    ```{exports} MODULE    a table of names that another room documents, with links
    <!-- made: WHAT -->    a part of the reference of recipes

Equations become MathML, which browsers draw themselves. Docstrings are plain text with `code` in single backticks;
they are made reStructuredText before Sphinx reads them.
"""

import importlib
import inspect
import os
import re
from pathlib import Path

import figures
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from plans import agreement_of_plans, plans
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util import logging

from crate_transformers.ops import Operator
from crate_transformers.recipes.families import FAMILIES
from crate_transformers.recipes.reference import as_table, meanings_of, recipe_reference
from crate_transformers.recipes.shipped import shipped_recipes, shipped_text
from crate_transformers.recipes.tasks import TASKS

logger = logging.getLogger(__name__)

# -- pages ------------------------------------------------------------------------------------------------------------

_FENCE = re.compile(r"^```\{(drawn|names|exports)\} (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MADE = re.compile(r"^<!-- made: ([a-z, ]+) -->$", re.MULTILINE)


def _expand(app: Sphinx, page: str, source: list[str]) -> None:
    """Put what is made in the place of its marks."""

    def fence(match: re.Match[str]) -> str:
        kind, argument, body = match.groups()
        if kind == "drawn":
            return _drawn(app, page, argument, body)
        return names_as_rst(argument, body) if kind == "names" else exports_as_table(argument, body)

    source[0] = _MADE.sub(lambda match: _RECIPES[match[1]](), _FENCE.sub(fence, source[0]))


def _drawn(app: Sphinx, page: str, name: str, caption: str) -> str:
    """A figure for either colour scheme; the theme shows one of them."""
    if name not in figures.FIGURES:
        raise ValueError(f"{page}: there is no figure {name!r} in docs/figures.py")
    caption = " ".join(caption.split())
    plain = re.sub(r"[`$\[\]]", "", caption).replace("\\", "")
    folder = Path("/", *[".."] * len(Path(app.srcdir).parts[1:]), *_figures_of(app).parts[1:])
    parts = []
    for scheme in ("light", "dark"):
        parts.append(
            f"```{{figure}} {folder}/{name}-{scheme}.svg\n:figclass: made only-{scheme}\n:alt: {plain}\n\n"
            f"{caption}\n```"
        )
    return "\n\n".join(parts)


def _figures_of(app: Sphinx) -> Path:
    return Path(app.doctreedir).resolve().parent / "figures"


def _draw(app: Sphinx) -> None:
    """Draw what the pages show; again only where the script has changed."""
    figures.draw_all(_figures_of(app))


# -- notebooks --------------------------------------------------------------------------------------------------------


def _offer_notebook(app: Sphinx, page: nodes.document) -> None:
    """Below the title of a page that is a notebook, the notebook as it was run here, to be downloaded."""
    name = app.env.docname
    if Path(app.env.doc2path(name)).suffix != ".py":
        return
    file = Path(app.env.mystnb_config.output_folder, f"{name}.ipynb")
    link = download_reference("", f"{file.stem}.ipynb", reftarget="/" + os.path.relpath(file, app.srcdir))
    next(page.findall(nodes.title)).parent.insert(1, nodes.paragraph("", "As it was run here: ", link))


# -- names ------------------------------------------------------------------------------------------------------------


def names_of(body: str) -> dict[str, str]:
    """The names in a `names` fence -> the text that describes a constant, "" for what has a docstring."""
    lines = [line.partition(":") for line in body.splitlines() if line.strip()]
    return {name.strip(): text.strip() for name, _, text in lines}


def names_as_rst(module: str, body: str) -> str:
    """The directives that document names of a module."""
    package = importlib.import_module(module)
    lines: list[str] = []
    for name, text in names_of(body).items():
        thing, place = getattr(package, name), f"{module}.{name}"
        if text:
            lines += [f".. py:data:: {place}", "", f"   {_as_rst(text)}", ""]
        elif isinstance(thing, Operator):
            lines += [f".. py:function:: {place}{inspect.signature(thing.equation)}", ""]
            lines += [f"   {line}" for line in _google(thing.equation)] + [""]
        else:
            kind = "autoclass" if inspect.isclass(thing) else "autofunction"
            lines += [f".. {kind}:: {place}", ""]
    return "\n".join(["```{eval-rst}", *lines, "```"])


def exports_as_table(module: str, body: str) -> str:
    """A table of names that a module has from other rooms, each with a link and its first sentence."""
    package = importlib.import_module(module)
    lines = ["| name | what it is |", "| --- | --- |"]
    for name, text in names_of(body).items():
        thing = getattr(package, name)
        room = next((room for room in _ROOMS if name in _public(room)), None)
        link = f"`{name}`" if room is None else f"{{py:obj}}`{name} <crate_transformers.{room}.{name}>`"
        said = text or inspect.cleandoc(thing.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
        said = _LINK.sub(r"`\1`", said).replace("|", "\\|")
        lines.append(f"| {link} | {said} |")
    return "\n".join(lines)


_LINK = re.compile(r"\[`([^`]+)`\]")
_ROOMS = ("models", "configuration", "interop", "recipes")  # which document what others export


def _public(room: str) -> list[str]:
    return importlib.import_module(f"crate_transformers.{room}").__all__


def _google(function: object) -> list[str]:
    lines = inspect.cleandoc(function.__doc__ or "").splitlines()
    _prepare(None, "function", "", function, None, lines)
    return str(GoogleDocstring(lines, Config(napoleon_use_rtype=False))).splitlines()


def _prepare(app: Sphinx | None, kind: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Make a docstring of this library reStructuredText: one entry a line under Args, code marked, signs escaped."""
    text = "\n".join(lines)
    for heading, section in re.findall(r"(?m)^(Args|Attributes):\n((?:(?: {4}.*)?(?:\n|\Z))+)", text):
        known = _names_in(thing)
        found = meanings_of(f"Summary.\n\n{heading}:\n{section}", known)
        if found:
            entries = "\n".join(f"    {entry}: {meaning}." for entry, meaning in found.items())
            text = text.replace(f"{heading}:\n{section}", f"{heading}:\n{entries}\n\n")
    lines[:] = [line if _is_code(line) else _as_rst(line) for line in text.splitlines()]


def _names_in(thing: object) -> list[str]:
    """The parameters of a function, the fields of a class."""
    try:
        names = list(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        names = []
    fields = list(getattr(thing, "__dataclass_fields__", ())) + list(getattr(thing, "_fields", ()))
    return list(dict.fromkeys([*names, *fields, *_annotated(thing)]))


def _annotated(thing: object) -> list[str]:
    return list(inspect.get_annotations(thing)) if inspect.isclass(thing) else []


def _skip(app: Sphinx, kind: str, name: str, thing: object, skip: bool, options: object) -> bool | None:
    """The fields of a named tuple, which its docstring explains."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def _is_code(line: str) -> bool:
    return line.lstrip().startswith((">>> ", "... "))


def _as_rst(text: str) -> str:
    """A line of a docstring with `code` as ``code``, and no sign that reStructuredText would read as markup."""
    text = _LINK.sub(r"`\1`", text)
    parts = re.split(r"`([^`]+)`", text)
    plain = [re.sub(r"([*|`\\])|(?<=\w)_(?!\w)", lambda sign: f"\\{sign[0]}", part) for part in parts[::2]]
    code = [f"``{part}``" for part in parts[1::2]]
    return "".join(part for pair in zip(plain, [*code, ""], strict=True) for part in pair)


# -- recipes ----------------------------------------------------------------------------------------------------------


def _table(section: str, is_ours: bool) -> str:
    keys = [key for key in recipe_reference() if key.section == section and key.is_ours == is_ours]
    families = [name for name, family in FAMILIES.items() if family.is_baseline != is_ours]
    return "{.stacked}\n" + as_table(keys, families if section == "model" else TASKS)


def _shipped() -> str:
    parts = []
    for name, header in shipped_recipes().items():
        recipe = "\n".join(line for line in shipped_text(name).splitlines() if not line.startswith("#"))
        parts.append(f"### {name}\n\n```text\n{header}\n```\n\n```yaml\n{recipe.strip()}\n```")
    return "\n\n".join(parts)


_RECIPES = {
    "model": lambda: _table("model", True),
    "model of the baselines": lambda: _table("model", False),
    "data": lambda: _table("data", True),
    "train": lambda: _table("train", True),
    "train of transformers": lambda: _table("train", False),
    "shipped recipes": _shipped,
    "agreement of plans": agreement_of_plans,
    "plans": plans,
}


# -- equations --------------------------------------------------------------------------------------------------------


def _inline(self: object, node: nodes.math) -> None:
    self.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _block(self: object, node: nodes.math_block) -> None:
    self.body.append(tex2mathml(node.astext(), as_block=True))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of it."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("builder-inited", _draw)
    app.connect("source-read", _expand)
    app.connect("doctree-read", _offer_notebook, priority=100)  # before downloads are collected
    app.connect("autodoc-process-docstring", _prepare, priority=100)  # before napoleon
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
