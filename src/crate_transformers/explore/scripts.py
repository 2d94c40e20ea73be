"""The Python that prints what is on the screen: it runs as it is, with this package alone."""

from .looking import has_code
from .service import Service
from .state import State


def script_of(service: Service, state: State, data: str | None) -> str:
    """A script that prints the ladder, the prediction and the code of the chosen token of the model that is changed.

    Args:
        data: how the pictures were named on the command line, or None for those of the demonstration.

    Returns:
        the text of the script. A picture that was opened on the page is read from "picture.png" in the current folder.
    """
    subject, run = service.look.subject(state, state.which), service.look.run(state, state.which)
    token = service.look.token(state, state.which)
    names = ["Edit", "edited", "measure_half_steps", "run_edited"]
    lines = [
        *subject.opening,
        'model.set_attn_implementation("eager")  # the attention that gives its weights, which the page runs',
        *_input(service, state, data),
        f"edit = {_edit(state)}",
        "run = run_edited(model, inputs, edit)",
        "with edited(model, edit):",
        f"    ladder = measure_half_steps(model, inputs, mode={state.mode!r})",
        "for row in ladder.rows():",
        '    print(row["layer"], row["point"], row["coding_rate"], row["rate"], row["nonzero_fraction"])',
    ]
    if run.outputs.get("logits") is not None and not hasattr(subject.model, "decoder"):
        place = "0" if subject.reads_images else f"0, {token}"
        lines.append(f'print(run.outputs["logits"][{place}].softmax(dim=-1).topk(3))')
    if has_code(subject, min(state.layer, len(run.trace.layers) - 1)):
        names.append("code_of_token")
        lines += [
            "with edited(model, edit):",
            f"    code = code_of_token(model, run.trace, layer={state.layer}, token={token})",
            "print(code.neurons[:5], code.values[:5], code.residuals[-1])",
        ]
    start = ["import torch", "import crate_transformers", f"from crate_transformers.analysis import {', '.join(names)}"]
    return "\n".join([*start, "", *lines, ""])


def _input(service: Service, state: State, data: str | None) -> list[str]:
    """Lines that make `inputs`."""
    subject = service.look.subject(state, state.which)
    if not subject.reads_images:
        return [
            f"text = {state.text!r}",
            'inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]',
        ]
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
        lines = [
            "from crate_transformers import demo",
            f'picture = demo.pictures().images[{state.picture}].convert("{mode}")',
        ]
    lines.append('inputs = processor(picture, return_tensors="pt")["pixel_values"]')
    if state.painted:
        grid = service.look.grid(service.look.subject(state, "model"), state)
        lines += [
            "from crate_transformers.explore.looking import paint",
            f"paint(inputs, {state.painted!r}, {grid!r})  # patches of the grid (rows, columns)",
        ]
    return lines


def _edit(state: State) -> str:
    edit = state.edit
    given = {
        "sparsity_weights": dict(edit.sparsity_weights),
        "step_sizes": dict(edit.step_sizes),
        "heads_off": edit.heads_off,
        "neurons": dict(edit.neurons),
        "tokens": edit.tokens,
    }
    return f"Edit({', '.join(f'{name}={value!r}' for name, value in given.items() if value)})"


__all__ = ["script_of"]
