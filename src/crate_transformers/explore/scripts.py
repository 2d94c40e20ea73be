"""The Python that prints what is on the screen: it runs as it is, with this package alone."""

from typing import Any

from ..analysis import Edit
from .service import Service
from .state import State

_OPEN_FOLDER = """\
from crate_transformers.evaluation.opening import open_model{helper}

model = open_model({source!r})"""
_OPEN_DEMO = """\
from crate_transformers import demo

demonstration = demo.load({name!r})
model = demonstration.model"""


def script_of(service: Service, state: State, source: str, data: str | None) -> str:
    """A script that prints the prediction, the ladder and the code of the chosen token in this state.

    Args:
        source: how the model was named on the command line. data: the same of the pictures, or None.

    Returns:
        the text of the script. A picture that was uploaded is read from the file "picture.png" in the current folder.
    """
    subject = service.look.subject(state, "model")
    lines = ["import torch", "import crate_transformers"]
    lines += _opening(source, subject.reads_images)
    lines += _input(service, state, source, data)
    lines += _change(state)
    lines += [
        "",
        "run = run_edited(model, inputs, edit)",
        "with edited(model, edit):",
        f"    ladder = measure_half_steps(model, inputs, mode={state.mode!r})",
        "for row in ladder.rows():",
        '    print(row["layer"], row["point"], row["coding_rate"], row["rate"], row["nonzero_fraction"])',
    ]
    if "logits" in service.look.run(state, "model").outputs:
        place = "0" if subject.reads_images else f"0, {state.token}"
        lines.append(f'print(run.outputs["logits"][{place}].softmax(dim=-1).topk(3))')
    lines += [
        "# the code of one token in one layer",
        f"codes = run.trace.layers[{state.layer}].codes",
        "if codes is not None:",
        f"    print(codes[0, {state.token}].topk(5))",
    ]
    return "\n".join([*_imports(lines), ""])


def _imports(lines: list[str]) -> list[str]:
    """The lines with the imports of `analysis` after the first two."""
    names = "Edit, edited, measure_half_steps, run_edited"
    return [*lines[:2], f"from crate_transformers.analysis import {names}", *lines[2:]]


def _opening(source: str, reads_images: bool) -> list[str]:
    if source.startswith("demo:"):
        return _OPEN_DEMO.format(name=source.removeprefix("demo:")).split("\n")
    helper = ", processor_of" if reads_images else ", tokenizer_of"
    lines = _OPEN_FOLDER.format(source=source, helper=helper).split("\n")
    name = "processor" if reads_images else "tokenizer"
    return [*lines, f"{name} = {name}_of(" + ("model, " if reads_images else "") + f"{source!r})"]


def _input(service: Service, state: State, source: str, data: str | None) -> list[str]:
    is_demo, subject = source.startswith("demo:"), service.look.subject(state, "model")
    if not subject.reads_images:
        tokenizer = "demonstration.tokenizer" if is_demo else "tokenizer"
        return [
            f"text = {state.text!r}",
            f'inputs = {tokenizer}(text, return_tensors="pt", add_special_tokens=False)["input_ids"]',
        ]
    processor = "demonstration.processor" if is_demo else "processor"
    channels = subject.model.config.num_channels
    if isinstance(state.picture, str):
        lines = [
            "from crate_transformers.data import load_image",
            f'picture = load_image("picture.png", {channels})  # the picture that was opened on the page',
        ]
    elif data is not None:
        lines = [
            "from crate_transformers.evaluation.inputs import picture_source",
            f'_, _, read = picture_source({data!r}, "test", {channels})',
            f"picture = read({state.picture})",
        ]
    else:
        mode = "L" if channels == 1 else "RGB"
        own = "" if is_demo else "from crate_transformers import demo\n"
        lines = [*own.split("\n")[:-1], f'picture = demo.pictures().images[{state.picture}].convert("{mode}")']
    lines.append(f'inputs = {processor}(picture, return_tensors="pt")["pixel_values"]')
    if state.painted:
        lines += [
            "from crate_transformers.explore.looking import paint",
            "from crate_transformers.analysis.tracing import patch_grid",
            f"paint(inputs, {state.painted!r}, patch_grid(model.base_model, inputs))",
        ]
    return lines


def _change(state: State) -> list[str]:
    edit = state.edit if state.which == "model" else Edit()
    given: dict[str, Any] = {
        "sparsity_weights": dict(edit.sparsity_weights),
        "step_sizes": dict(edit.step_sizes),
        "heads_off": edit.heads_off,
        "neurons": dict(edit.neurons),
        "tokens": edit.tokens,
    }
    arguments = ", ".join(f"{name}={value!r}" for name, value in given.items() if value)
    return [f"edit = Edit({arguments})"]


__all__ = ["script_of"]
