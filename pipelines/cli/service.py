"""Commands that serve, submit, show and check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from pipelines.cli.options import (
    EXIT_FAILURE,
    AddressOption,
    PresetOption,
    PrintOption,
    SetOption,
    configured,
    on_ray,
    out,
)
from sleepmami.errors import ConfigError
from sleepmami.presets import preset


def serve(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE")],
    port: Annotated[int | None, typer.Option(help="0 takes a free one")] = None,
    model: Annotated[
        list[str], typer.Option(metavar="NAME=BUNDLE", help="a further model, by name")
    ] = [],  # noqa: B006
    canary: Annotated[
        list[str],
        typer.Option(metavar="NAME=SHARE", help="of the requests that name no model, as 0.05"),
    ] = [],  # noqa: B006
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Answer embedding requests over HTTP until interrupted."""
    if port is not None:
        assignments = [*assignments, f"port={port}"]
    config = configured(preset(preset_name).serve, assignments, print_config)
    from pipelines.serve_environment import set_service_environment
    from serve_apps.embedding_app import run

    set_service_environment()
    models, shares = named(model, "--model"), named(canary, "--canary")
    with on_ray(address):
        run(
            bundle,
            config,
            ready=lambda url: out.print(f"ready: {url}  (docs at {url}/docs)"),
            models=models,
            canary={name: as_share(name, share) for name, share in shares.items()},
        )


def named(assignments: list[str], option: str) -> dict[str, str]:
    """NAME=VALUE of a repeated option; ConfigError for what is not, or comes twice."""
    found: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"{option}: found {assignment!r}; expected NAME=VALUE")
        if name in found:
            raise ConfigError(f"{option}: found {name!r} twice; expected each name once")
        found[name] = value
    return found


def as_share(name: str, text: str) -> float:
    """A number; ConfigError for what is none."""
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--canary {name}: found {text!r}; expected a number") from None


def serve_check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="as for `serve deploy`")],
    read: Annotated[
        bool,
        typer.Option("--read", help="also read the bundles, key file and certificate it names"),
    ] = False,
) -> None:
    """Check a Serve file: every key, every argument, what it imports, and who may reach it."""
    from serve_apps.serve_config import check_serve_file

    problems = check_serve_file(file, read=read)
    for problem in problems:
        out.print(problem, soft_wrap=True)
    if problems:
        raise typer.Exit(EXIT_FAILURE)
    out.print(f"{file}: every key is known and every value can be used")


def submit(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="http://head:8265")],
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="any sleepmami command")
    ],
    runtime_env: Annotated[Path | None, typer.Option(help="Ray runtime environment YAML")] = None,
) -> None:
    """Run a command as a Ray job on a running head, and follow its log."""
    from pipelines.submit import submit as start

    def show(text: str) -> None:
        print(text, end="", flush=True)

    job = start(address, command, runtime_env=runtime_env, on_log=show)
    out.print(f"job {job} succeeded")


def doctor() -> None:
    """Say what this machine can run."""
    from pipelines.doctor import examine

    findings = examine()
    style = {"ok": "green", "note": "yellow", "fail": "red"}
    table = Table("what", "state", "found", box=None, padding=(0, 2))
    for finding in findings:
        table.add_row(
            finding.name, Text(finding.status, style[finding.status]), Text(finding.found)
        )
    out.print(table)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(EXIT_FAILURE)


def demo(
    folder: Annotated[str, typer.Argument(metavar="OUT")] = "demo-out",
    edf: Annotated[Path | None, typer.Option(help="your own recording")] = None,
) -> None:
    """The whole walk on simulated nights, then one HTTP request and a report."""
    from pipelines.demo import run_demo

    run_demo(Path(folder), edf)
