"""The pages as they are written: commands that parse, links that lead somewhere, names that are all there."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer

import crate_transformers
from crate_transformers.cli.app import app
from crate_transformers.cli.settings import parse_settings
from crate_transformers.recipes import load_recipe, shipped_recipes

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text("utf-8") for path in sorted(DOCS.rglob("*.md"))}
ROOMS = [
    path.parent.name
    for path in sorted(Path(crate_transformers.__file__).parent.glob("*/__init__.py"))
    if "__all__" in path.read_text("utf-8")
]
COMMANDS = typer.main.get_command(app).commands

_FENCE = re.compile(r"^```(\S*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fences(text, kind):
    """(what stands after the kind, body) of every fence of a kind."""
    return [(rest.strip(), body) for found, rest, body in _FENCE.findall(text) if found == kind]


def without_fences(text):
    return re.sub(r"`[^`\n]+`", "", _FENCE.sub("", text))


def crate_commands(text):
    """The words after `crate` of every command in a ```bash fence; a line ends where the command does."""
    commands = []
    for _, body in fences(text, "bash"):
        for line in body.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\||;", line):
                words = shlex.split(part, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                    words.pop(0)
                if words[:1] == ["timeout"]:
                    words = words[words.index("crate") :]
                if words[:1] == ["torchrun"]:
                    words = words[words.index("crate_transformers") :]
                if words[:1] in (["crate"], ["crate_transformers"]):
                    commands.append(words[1:])
    return commands


WRITTEN = [(page, words) for page, text in PAGES.items() for words in crate_commands(text)]


def test_there_are_commands_to_check():
    assert len(WRITTEN) > 60
    assert {words[0] for _, words in WRITTEN} >= COMMANDS.keys() - {"bench"}


@pytest.mark.parametrize(("page", "words"), WRITTEN, ids=lambda part: part if isinstance(part, str) else " ".join(part))
def test_a_command_parses(page, words):
    name, *arguments = words
    assert name in COMMANDS, f"{page}: crate has no command {name}"
    context = COMMANDS[name].make_context(name, arguments)  # a UsageError names what does not exist
    if name == "train":
        recipe, settings = context.params["recipe"], parse_settings(list(context.params["settings"] or ()))
        if recipe in shipped_recipes():
            load_recipe(recipe, settings)
        else:
            assert f"`{recipe}`" in PAGES[page], f"{page}: what {recipe} holds is not said"


def yaml_recipes():
    return [(page, body) for page, text in PAGES.items() for _, body in fences(text, "yaml")]


@pytest.mark.parametrize(("page", "body"), yaml_recipes(), ids=lambda part: part[:20])
def test_a_recipe_on_a_page_can_be_loaded(page, body, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(body, "utf-8")
    assert load_recipe(str(file)).task


def test_no_command_stands_outside_of_bash():
    """A command of `crate` in an unnamed fence would not be checked; a synopsis with [options] or ... is none."""
    found = []
    for page, text in PAGES.items():
        bodies = [body for kind in ("", "text") for _, body in fences(text, kind)]
        bodies += re.findall(r"(?m)^    crate .*$", _FENCE.sub("", text))
        for body in bodies:
            lines = [line.strip().split("  ")[0] for line in body.splitlines()]
            commands = [line for line in lines if re.match(r"crate [a-z]", line)]
            found += [(page, line) for line in commands if not re.search(r"\[-|\.\.\.", line)]
    assert found == []


@pytest.mark.parametrize("page", PAGES)
def test_python_on_a_page_is_python(page):
    for _, body in fences(PAGES[page], "python"):
        ast.parse(body)


def slugs(text):
    headings = re.findall(r"(?m)^#{1,6} (.+)$", _FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_fences(PAGES[page])):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (DOCS / page).parent / path if path else DOCS / page
        if not file.exists() or (anchor and anchor not in slugs(file.read_text("utf-8"))):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_shown_are_there(page):
    text = PAGES[page]
    for file, body in fences(text, "{literalinclude}"):
        path = (DOCS / page).parent / file
        shown = path.read_text("utf-8")
        for name in re.findall(r":pyobject: (\S+)", body):
            assert re.search(rf"(?m)^ *(?:def|class) {name.rpartition('.')[2]}\b", shown), f"{file} has no {name}"


def test_every_page_is_in_the_tree():
    listed = {"index.md"}
    for page, text in PAGES.items():
        for _, body in fences(text, "{toctree}"):
            names = [line for line in body.splitlines() if line.strip() and not line.startswith(":")]
            listed |= {(Path(page).parent / f"{name}.md").as_posix() for name in names}
    included = {"notebooks/README.md"}  # of the index beside it
    notebooks = {path.relative_to(DOCS).with_suffix(".md").as_posix() for path in NOTEBOOKS}
    assert (set(PAGES) - included) | notebooks == listed


def documented(module):
    """The names of a module that stand in a fence of the pages of the API."""
    kinds = ("{names}", "{exports}")
    bodies = [
        body
        for page, text in PAGES.items()
        if page.startswith("api/")
        for kind in kinds
        for said, body in fences(text, kind)
        if said == module
    ]
    return [line.partition(":")[0].strip() for body in bodies for line in body.splitlines() if line.strip()]


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_every_public_name_is_on_a_page_of_the_api(room):
    module = f"crate_transformers.{room}".rstrip(".")
    names = documented(module)
    assert sorted(names) == sorted(importlib.import_module(module).__all__)
    assert len(ROOMS) >= 12


def test_every_door_has_its_line():
    """Package, version, what works, what does not, and a test that is there and names the package's parts."""
    table = re.findall(r"(?m)^\|(.+)\|$", PAGES["doors.md"].partition("\n## ")[0])
    rows = [[cell.strip() for cell in row.split(" | ")] for row in table[2:]]
    assert len(rows) >= 14
    for row in rows:
        assert len(row) == 5, row[0]
        assert all(row), row[0]
        tests = re.findall(r"`(tests/[\w/]+\.py)`", row[4])
        assert tests, row[0]
        assert [path for path in tests if not (DOCS.parent / path).is_file()] == []
        assert ("`make doors`" in row[4]) == ("tests/interop/test_doors.py" in tests), row[0]


def test_what_the_readme_points_to_is_there():
    root = DOCS.parent
    text = (root / "README.md").read_text("utf-8")
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    local = [target for target in targets if not re.match(r"https?:", target)]
    assert len(local) > 15
    assert [target for target in local if not (root / target).exists()] == []
