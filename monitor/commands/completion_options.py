"""``gpumon completion``: what a shell has to read to complete commands, options and values."""

from __future__ import annotations

from pathlib import Path

import click

_PLACE = Path(__file__).parent.parent / "completion"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what SHELL has to read to complete gpumon's commands, options and values.

    \b
    gpumon completion bash > ~/.local/share/bash-completion/completions/gpumon
    gpumon completion zsh > ~/.local/share/zsh/site-functions/_gpumon
    gpumon completion fish > ~/.config/fish/completions/gpumon.fish

    For zsh the directory has to stand in $fpath before compinit runs. For this shell alone: eval "$(gpumon completion
    bash)".
    """
    click.echo((_PLACE / f"gpumon.{shell}").read_text(), nl=False)
