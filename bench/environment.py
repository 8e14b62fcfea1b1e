"""Options that are given by the environment: `--streams` of `tokenderby run` is TOKENDERBY_RUN_STREAMS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import click

from servers.checks import nearest_word
from servers.user_errors import InputError

ENVIRONMENT = "TOKENDERBY"


def variables_of(name: str) -> str:
    """What the variables of `tokenderby <name>` begin with, but for a last underscore; click adds that."""
    return f"{ENVIRONMENT}_{name.upper()}"


class OwnCommand(click.Command):
    """A command of tokenderby's whose variables are looked at before it does anything."""

    def invoke(self, ctx: click.Context) -> Any:
        """See click. Raises InputError, too."""
        check_variables(self.name or "", self)
        return super().invoke(ctx)


def check_variables(name: str, command: click.Command) -> None:
    """Raise InputError for a variable that begins as those of `tokenderby <name>` do, and is none of them."""
    prefix = f"{variables_of(name)}_"
    known = {variable for parameter in command.params for variable in _variables(parameter, prefix)}
    for variable in sorted(os.environ):
        if variable.startswith(prefix) and variable not in known:
            meant = nearest_word(variable, sorted(known))
            remedy = f"did you mean {meant}?" if meant else f"`tokenderby {name} --help` has those that it knows"
            raise InputError(f"{variable}: no option of `tokenderby {name}` has this variable; {remedy}")


def _variables(parameter: click.Parameter, prefix: str) -> Iterator[str]:
    if isinstance(parameter.envvar, str):
        yield parameter.envvar
    elif parameter.envvar:
        yield from parameter.envvar
    elif isinstance(parameter, click.Option) and parameter.name:
        yield f"{prefix}{parameter.name.upper()}"
