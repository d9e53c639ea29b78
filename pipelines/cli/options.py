"""What the commands share: options, exit codes, the terminal."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from sleepmami.config import PreprocessConfig
from sleepmami.config_edit import parse_assignments, replace_at, to_dict
from sleepmami.presets import PRESETS

C = TypeVar("C")

# Exit codes of <sysexits.h>: scripts can tell bad input from a bad command line.
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_DATA = 65
PIPE_WIDTH = 160

# A table in a file or a pipe keeps one line per row
out = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)

PresetOption = Annotated[
    str,
    typer.Option(
        "--preset", help=f"complete configuration: {' | '.join(sorted(PRESETS))} | FILE.json"
    ),
]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="NAME=VALUE", help="change one setting: dgcl.rho=0.2")
]
PrintOption = Annotated[bool, typer.Option("--print-config", help="show the settings and stop")]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="running Ray cluster; default RAY_ADDRESS or a private one"),
]

ChannelsOption = Annotated[
    str | None,
    typer.Option("--channels", help="YAML of what your labels mean: docs/recordings.md"),
]
KeepNamesOption = Annotated[
    bool, typer.Option("--keep-names", help="file names in place of pseudonyms")
]
SiteKeyOption = Annotated[
    str | None, typer.Option("--site-key", help="key file of the pseudonyms: docs/privacy.md")
]
LinkageOption = Annotated[
    str | None, typer.Option("--linkage", help="write a CSV of files and their pseudonyms here")
]


def configured(config: C, assignments: list[str], print_config: bool) -> C:
    """The config with `--set` applied; prints it and stops where that is asked for."""
    config = replace_at(config, parse_assignments(assignments))
    if print_config:
        print(json.dumps(to_dict(config), indent=2))
        raise typer.Exit
    return config


def with_channels(config: PreprocessConfig, channels: str) -> PreprocessConfig:
    """The config with the meanings of a channel file; ConfigError when it cannot be read."""
    from sleepmami.signals.channel_file import read_channel_file

    return replace(config, channels=read_channel_file(channels))


@contextlib.contextmanager
def on_ray(address: str | None) -> Iterator[None]:
    """A Ray session; Ray is imported here and not before."""
    from pipelines.ray_session import ray_session

    with ray_session(address):
        yield
