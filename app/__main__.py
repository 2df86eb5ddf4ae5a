"""The `atelier` command. It only starts things: whatever needs tensors is a process of the trainer."""

import json
import sys
from collections.abc import Callable
from typing import Any

import click
import typer

from app.commands import (
    adapters,
    asking,
    cache,
    captions,
    datasets,
    demo,
    grids,
    images,
    jobs,
    machine,
    recommending,
    runs,
    tools,
    users,
    webhook,
)
from trainer.contract.errors import EXIT_ASKED, UserError
from trainer.formats.header import shown

LONGEST = 1000  # signs of a line

cli = typer.Typer(
    name="atelier",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train a Stable Diffusion LoRA on your own pictures, watch it learn, and take a file that works everywhere.",
)
dataset_cli = typer.Typer(help="Sets of pictures.", no_args_is_help=True)
cli.add_typer(dataset_cli, name="dataset")
user_cli = typer.Typer(help="Who may log in to the page.", no_args_is_help=True)
cli.add_typer(user_cli, name="user")

COMMANDS: dict[str, Callable[..., Any]] = {
    "ui": machine.ui,
    "demo": demo.demo,
    "doctor": machine.doctor,
    "train": runs.train,
    "resume": runs.resume,
    "runs": runs.runs,
    "stop": runs.stop,
    "pause": jobs.pause,
    "delete": jobs.delete,
    "restore": jobs.restore,
    "sample": asking.sample,
    "save": asking.save,
    "presets": machine.presets,
    "settings": machine.settings,
    "cache": cache.cache,
    "generate": images.generate,
    "sweep": grids.sweep,
    "grid": grids.grid,
    "recommend": recommending.recommend,
    "inspect": adapters.inspect,
    "export": adapters.export,
    "analyze": tools.analyze,
    "resize": tools.resize,
    "merge": tools.merge,
    "convert": tools.convert,
    "webhook": webhook.webhook,
}
for _name, _command in COMMANDS.items():
    cli.command(_name)(_command)
dataset_cli.command("import")(datasets.import_)
dataset_cli.command("export")(datasets.export)
dataset_cli.command("check")(datasets.check)
dataset_cli.command("caption")(captions.caption)
user_cli.command("add")(users.add)
user_cli.command("list")(users.list_)
user_cli.command("passwd")(users.passwd)
user_cli.command("remove")(users.remove)


@cli.callback()
def _default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        machine.ui()


def _printable(text: str) -> str:
    """Lines without signs of names in files that would move the cursor."""
    return "\n".join(shown(line, LONGEST) for line in text.split("\n"))


def main() -> None:
    """Run the command line; a `UserError` is a sentence and exit code 2, with --json an object too."""
    try:
        cli()
    except UserError as error:
        click.echo(click.style("Error: ", fg="red") + _printable(str(error)), err=True)
        if "--json" in sys.argv:
            click.echo(json.dumps({"ok": False, "problem": error.problem, "where": error.where, "fix": error.fix}))
        sys.exit(EXIT_ASKED)


if __name__ == "__main__":
    main()
