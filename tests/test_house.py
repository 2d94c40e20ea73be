"""The house's numbers: short functions with few arguments, types that say something, docstrings, mirrored rooms.

Everything is read from the source text; nothing is imported.
"""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCES = TESTS.parent / "src" / "crate_transformers"
FILES = {path.relative_to(SOURCES).as_posix(): path.read_text("utf-8") for path in sorted(SOURCES.rglob("*.py"))}
TREES = {name: ast.parse(text) for name, text in FILES.items()}
FUNCTIONS = [
    (name, node)
    for name, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
]

MOST_LINES, MOST_PARAMETERS = 60, 8
MOST_ANY, MOST_IGNORES = 0.03, 7
# who may have more parameters, and why
SIGNATURES_OF_OTHERS = {
    "ops/mssa/triton.py": "a kernel: each pointer and stride is a parameter",
    "interop/constructors.py:__init__": "the signature of the public code",
    "models/modeling_crate.py:forward": "the signature of transformers",
    "layers/attention_names.py:sdpa_attention": "the signature of transformers' attention functions",
}


def parameters(function):
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [argument for argument in named if argument.arg not in ("self", "cls")]


def annotations(tree):
    """Of parameters, results and variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            rest = [argument for argument in (node.args.vararg, node.args.kwarg) if argument]
            found = [argument.annotation for argument in (*parameters(node), *rest)]
            yield from (annotation for annotation in (*found, node.returns) if annotation)
        elif isinstance(node, ast.AnnAssign):
            yield node.annotation


def is_command(function):
    """Whether a function's parameters are a command's arguments: each is Annotated for typer."""
    told = [ast.unparse(argument.annotation or ast.Constant(None)) for argument in parameters(function)]
    return any(annotation.startswith("Annotated[") for annotation in told)


def public_lists():
    """(room, names in its `__all__`), which is a list or the sorted keys of a table of places."""
    lists = []
    for room in ("", "analysis/", "objective/", "ops/"):
        tree = TREES[f"{room}__init__.py"]
        assigned = {}
        for node in tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                assigned[ast.unparse(target)] = node.value
        value = assigned["__all__"]
        if isinstance(value, ast.List):
            names = ast.literal_eval(value)
        else:  # sorted(_PUBLIC), whose entries are **dict.fromkeys((name, ...), place)
            names = [name for entry in assigned["_PUBLIC"].values for name in ast.literal_eval(entry.args[0])]
        lists.append((room, names))
    return lists


def test_functions_are_short():
    lengths = [(node.end_lineno - node.lineno + 1, f"{file}:{node.name}") for file, node in FUNCTIONS]
    assert [(lines, where) for lines, where in lengths if lines > MOST_LINES] == []


def test_functions_have_few_parameters():
    many = {f"{file}:{node.name}" for file, node in FUNCTIONS if len(parameters(node)) > MOST_PARAMETERS}
    commands = {f"{file}:{node.name}" for file, node in FUNCTIONS if file.startswith("cli/") and is_command(node)}
    told_apart = {where for where in many if {where, where.split(":")[0]} & SIGNATURES_OF_OTHERS.keys()}
    assert many - told_apart - commands == set()
    assert {where.split(":")[0] for where in told_apart} == {where.split(":")[0] for where in SIGNATURES_OF_OTHERS}


def test_types_say_something():
    found = [annotation for tree in TREES.values() for annotation in annotations(tree)]
    bare = [annotation for annotation in found if isinstance(annotation, ast.Name) and annotation.id == "Any"]
    assert len(found) > 1000
    assert len(bare) < MOST_ANY * len(found)


def test_few_types_are_ignored():
    assert sum(text.count("type: ignore") for text in FILES.values()) <= MOST_IGNORES


@pytest.mark.parametrize(("room", "names"), public_lists(), ids=lambda part: part if isinstance(part, str) else "")
def test_public_names_have_docstrings(room, names):
    said = {
        node.name
        for file, tree in TREES.items()
        for node in tree.body
        if not file.startswith("cli/") and isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node)
    }
    assert len(names) > 5
    assert set(names) - said - {"__version__", "OPERATORS"} == set()


def test_tests_mirror_the_rooms():
    rooms = {path.name for path in SOURCES.iterdir() if path.is_dir()}
    folders = {path.name for path in TESTS.iterdir() if any(path.glob("test_*.py"))}
    assert folders - rooms == {"docs"}  # the pages, which are no room of the package
