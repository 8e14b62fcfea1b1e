"""Commands that live in other parts of the house, which are imported only when they are called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from bench.environment import check_variables, variables_of


class Elsewhere(click.Command):
    """Stands for the command at `place`, "module:attribute", under a `name` of tokenderby's, and hands its words on.

    `settings` are those of click's context.
    """

    def __init__(self, name: str, place: str, summary: str, settings: Mapping[str, Any]) -> None:
        own = {"ignore_unknown_options": True, "allow_interspersed_args": False}
        rest = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED, shell_complete=self._complete_argument)
        super().__init__(
            name, params=[rest], callback=self._call, help=summary, add_help_option=False, context_settings=own
        )
        self._place = place
        self._settings = {**settings, "auto_envvar_prefix": variables_of(name)}

    def real(self) -> click.Command:
        """The command itself, its help naming the variables."""
        module, _, attribute = self._place.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                parameter.show_envvar = True
                # By the option's name, which people know; click would take the function's argument.
                own_name = parameter.opts[0].lstrip("-").upper().replace("-", "_")
                parameter.envvar = parameter.envvar or f"{self._settings['auto_envvar_prefix']}_{own_name}"
        return command

    def _call(self, arguments: tuple[str, ...]) -> object:
        command = self.real()
        if not set(arguments) & set(self._settings["help_option_names"]):
            check_variables(str(self.name), command)
        return command.main(
            list(arguments), prog_name=f"tokenderby {self.name}", standalone_mode=False, **self._settings
        )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What a shell may complete where an option may stand: the options of the command itself."""
        command = self.real()
        context = click.Context(command, info_name=self.name, parent=ctx.parent, **self._settings)
        return command.shell_complete(context, incomplete)

    def _complete_argument(self, ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """And where a word may stand: what the command's first argument takes."""
        first = next((each for each in self.real().params if isinstance(each, click.Argument)), None)
        return first.shell_complete(ctx, incomplete) if first else []
