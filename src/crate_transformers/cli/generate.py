"""`crate generate`: text from a causal language model."""

from typing import Annotated

import typer


def generate(
    model: Annotated[str, typer.Argument(help="A model folder, or a name on the Hugging Face hub.")],
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to add at most.")] = 100,
    temperature: Annotated[float, typer.Option(help="Of the sampling; 0 is greedy.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Sample from the k likeliest tokens; 0 is all.")] = 50,
    beams: Annotated[int, typer.Option(help="Search with this many beams instead of sampling.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    tokenizer: Annotated[
        str | None, typer.Option(help="A tokenizer's folder or hub name. Default: the model's.")
    ] = None,
    slide: Annotated[bool, typer.Option("--slide", help="Past the context, forget its first half.")] = False,
) -> None:
    """Continue a prompt, printing the text as it comes."""
    from ..evaluation.generation import GenerationSettings, generate_text

    unwritten = iter([prompt])  # it waits for the first token: an error stands alone

    def write(text: str) -> None:
        typer.echo(next(unwritten, "") + text, nl=False)

    settings = GenerationSettings(max_new_tokens, temperature, top_k, beams, seed, slide)
    generate_text(model, prompt, settings, write=write, tokenizer_source=tokenizer)
    write("\n")


__all__ = ["generate"]
