"""`crate neurons`: which tokens make a neuron fire, and what the model writes when it is set."""

import math
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .looking import Heads


def neurons(
    model: Annotated[str, typer.Argument(help="A language model's folder or hub name, or a public checkpoint file.")],
    text: Annotated[str, typer.Option(help="A text file, or words, to look for firing tokens in.")],
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    layer: Annotated[int, typer.Option(help="From 0, negative from the end.")] = -1,
    neuron: Annotated[
        list[int] | None, typer.Option(help="A neuron to show (may be repeated). Default: the most selective.")
    ] = None,
    count: Annotated[int, typer.Option(help="How many neurons to show where none is named.")] = 20,
    value: Annotated[
        float | None, typer.Option(help="Steer: set the neurons to this value and generate after --prompt.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Where to start writing. Default: the beginning of the text.")] = (
        None
    ),
    tokens: Annotated[int, typer.Option(help="How many tokens to write.")] = 40,
    limit: Annotated[int | None, typer.Option(help="Read no more stretches of 128 tokens than this.")] = None,
    heads: Heads = None,
) -> None:
    """Show what makes the neurons of a sparsified layer fire, in context; set one and let the model write."""
    from ..analysis.neurons import find_neurons
    from ..analysis.steering import steer_and_generate
    from ..analysis.text import neurons_html
    from ..files import write_bytes
    from ..report.page import page_html
    from ..report.tokens import steering_html
    from ..report.writing import write_csv
    from . import looking

    if value is not None and not neuron:
        raise UserError("--value needs a --neuron to set")
    if value is None and prompt is not None:
        raise UserError("--prompt starts what a steered model writes: pass --neuron and --value")
    if value is not None and not math.isfinite(value):
        raise UserError(f"--value must be a finite number, got {value}")
    if count < 1 or tokens < 1:
        raise UserError(f"--count and --tokens must be >= 1, got {count} and {tokens}")
    opened = looking.open_model(model, heads)
    if opened.main_input_name != "input_ids":
        raise UserError(f"{Path(model).name} reads {opened.main_input_name}, not text")
    tokenizer = looking.tokenizer_of(model)
    inputs = looking.text_inputs(opened, tokenizer, text, limit)
    found = find_neurons(opened, looking.with_progress(inputs.batches, inputs.count, "reading"), layer)
    chosen = [found.check(number) for number in neuron] if neuron else found.most_selective(count)
    sections = [(f"Neurons of layer {found.layer}", neurons_html(found, tokenizer, chosen))]
    if value is not None:
        words = prompt or looking.read_text(text)[1][:60]
        ids = tokenizer(words, return_tensors="pt", add_special_tokens=False)["input_ids"]
        settings = dict.fromkeys(chosen, value)
        plain, steered = steer_and_generate(
            opened,
            ids,
            found.layer,
            settings,
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
        )
        written = [tokenizer.decode(row[0, ids.shape[1] :]) for row in (plain, steered)]
        sections.insert(0, ("Steering", steering_html(words, written[0], written[1], found.layer, settings)))
        typer.echo(f"as it is: {written[0]!r}\nsteered:  {written[1]!r}")
    facts = {"model": Path(model).name, "text": inputs.name, "tokens": found.num_tokens, "neurons": len(found)}
    folder = looking.output_folder(output)
    write_csv(folder / "neurons.csv", found.rows())
    page = page_html(f"Neurons of layer {found.layer}", facts, sections)
    write_bytes(folder / "neurons.html", page.encode())
    typer.echo(f"{len(found)} neurons of layer {found.layer}: neurons.csv and neurons.html in {folder}")


__all__ = ["neurons"]
