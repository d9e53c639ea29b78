"""The `sleepmami` command: one front door to every stage.

Each command imports what it needs when it runs, so that `--help` and `inspect` start without torch
or Ray.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sleepmami import __version__
from sleepmami.config_edit import parse_assignments, replace_at, to_dict
from sleepmami.errors import ConfigError, RecordingError, SleepMaMiError
from sleepmami.presets import PRESETS, preset

C = TypeVar("C")

# Exit codes of <sysexits.h>: scripts can tell bad input from a bad command line.
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_DATA = 65
PIPE_WIDTH = 160

# Absent from the light install, which can inspect, simulate and read embeddings.
DISTRIBUTED_MODULES = frozenset(
    {
        "aiohttp",
        "fastapi",
        "jinja2",
        "lance",
        "matplotlib",
        "ray",
        "safetensors",
        "torch",
        "yaml",
    }
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Whole nights of polysomnography to embeddings: ingest, pretrain, embed, serve.",
)
pretrain = typer.Typer(no_args_is_help=True, help="Train an encoder with Ray Train.")
embed = typer.Typer(no_args_is_help=True, help="Turn nights into vectors.")
app.add_typer(pretrain, name="pretrain")
app.add_typer(embed, name="embed")
# A table in a file or a pipe keeps one line per row
out = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)

PresetOption = Annotated[
    str, typer.Option("--preset", help=f"complete configuration: {' | '.join(sorted(PRESETS))}")
]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="NAME=VALUE", help="change one setting: dgcl.rho=0.2")
]
PrintOption = Annotated[bool, typer.Option("--print-config", help="show the settings and stop")]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="running Ray cluster; default RAY_ADDRESS or a private one"),
]


def main() -> None:
    """Entry point: a project error is one line and an exit code, never a trace."""
    try:
        app()
    except (SleepMaMiError, OSError) as error:  # OSError: full disk, no permission, no network
        Console(stderr=True).print(Text(f"error: {error}", style="red"), soft_wrap=True)
        sys.exit(_exit_code(error))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in DISTRIBUTED_MODULES:
            raise
        Console(stderr=True).print(
            Text(f"error: found no {error.name}; this needs: pip install 'sleepmami[ray]'")
        )
        sys.exit(EXIT_FAILURE)


def _exit_code(error: Exception) -> int:
    if isinstance(error, ConfigError):
        return EXIT_USAGE
    return EXIT_DATA if isinstance(error, RecordingError) else EXIT_FAILURE


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _front_door(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="show the version and stop", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    pass


def _configured(config: C, assignments: list[str], print_config: bool) -> C:
    config = replace_at(config, parse_assignments(assignments))
    if print_config:
        print(json.dumps(to_dict(config), indent=2))
        raise typer.Exit
    return config


@contextlib.contextmanager
def _ray(address: str | None) -> Iterator[None]:
    from pipelines.ray_session import ray_session

    with ray_session(address):
        yield


@app.command()
def simulate(
    folder: Annotated[str, typer.Argument(metavar="OUT", help="folder for EDF, XML and CSV")],
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006  # typer copies defaults
    print_config: PrintOption = False,
) -> None:
    """Write nights of known truth: EDFs, NSRR-style XML scorings, and a metadata CSV."""
    config = _configured(preset(preset_name).simulate, assignments, print_config)
    from pipelines.simulate import simulate_cohort

    simulate_cohort(folder, config)


@app.command()
def inspect(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="EDFs, or folders of them")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="a JSON list, one object per file")
    ] = False,
    assignments: SetOption = [],  # noqa: B006
) -> None:
    """Show what would be done with each channel; reads headers only."""
    config = _configured(preset("paper").ingest, assignments, False)
    from sleepmami.signals.inspect import inspect_file

    paths = [inner for path in files for inner in _edfs_in(path)]
    reports = [inspect_file(path, config.preprocess) for path in paths]
    if as_json:
        print(json.dumps([report.to_dict() for report in reports], indent=2))
    else:
        for report in reports:
            _print_inspection(report.to_dict())
    if not all(report.ok for report in reports):
        raise typer.Exit(EXIT_DATA)


def _edfs_in(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in {".edf", ".bdf", ".rec"})
    if not found:
        raise ConfigError(
            f"{path}: found no .edf, .bdf or .rec in this folder; expected recordings"
        )
    return found


def _print_inspection(report: dict[str, Any]) -> None:  # Any: JSON
    state = Text("ok", style="green") if report["ok"] else Text(f"{report['code']}", style="red")
    minutes = f"{(report['duration_s'] or 0) / 60:.1f} min"
    out.print(Text.assemble((report["file"], "bold"), "  ", state, f"  {minutes}"), soft_wrap=True)
    if report["reason"]:
        out.print(Text(f"  {report['reason']}"), soft_wrap=True)
    if not report["channels"]:
        return
    table = Table("label", "modality", "unit", "Hz", "decision", "reason", box=None, padding=(0, 2))
    style = {"used": "green", "rejected": "red", "ignored": "dim"}
    for channel in report["channels"]:
        cells = (
            channel["label"],
            channel["modality"] or "-",
            channel["unit"] or "-",
            f"{channel['sample_rate_hz']:g}",
            channel["decision"],
            channel["reason"],
        )
        table.add_row(*map(Text, cells), style=style.get(channel["decision"], ""))
    out.print(table)


@app.command()
def ingest(
    edf_dir: Annotated[
        str, typer.Argument(metavar="EDF_DIR", help="folder or URI, searched recursively")
    ],
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="folder or URI of the tables")],
    cohort: Annotated[str | None, typer.Option(help="name stored with each recording")] = None,
    metadata: Annotated[
        str | None, typer.Option(help="CSV of age, sex, BMI (docs/data.md)")
    ] = None,
    annotations: Annotated[str | None, typer.Option(help="folder of scorings")] = None,
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """EDFs to recordings.lance and segments.lance; run it again after adding files."""
    if cohort is not None:
        assignments = [*assignments, f"cohort={json.dumps(cohort)}"]
    config = _configured(preset(preset_name).ingest, assignments, print_config)
    from pipelines.ingest_edf import ingest as run

    with _ray(address):
        summary = run(edf_dir, corpus, config, metadata=metadata, annotations=annotations)
    if set(summary.outcomes) <= {"rejected", "rejected earlier"}:
        raise typer.Exit(EXIT_DATA)


@pretrain.command("micro")
def pretrain_micro(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS")],
    run: Annotated[str, typer.Argument(metavar="RUN", help="folder or URI; run again to resume")],
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Train the Micro-Encoder (section 3.1) on a corpus; writes RUN/micro."""
    config = _configured(preset(preset_name).micro, assignments, print_config)
    from pipelines.pretrain_micro import pretrain_micro as start

    with _ray(address):
        start(corpus, run, config)


@pretrain.command("macro")
def pretrain_macro(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS")],
    run: Annotated[str, typer.Argument(metavar="RUN", help="holds micro/ and micro_nights.lance")],
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Train the Macro-Encoder (section 3.2); RUN becomes a bundle."""
    config = _configured(preset(preset_name).macro, assignments, print_config)
    from pipelines.pretrain_macro import pretrain_macro as start

    with _ray(address):
        start(corpus, run, config)


@embed.command("micro")
def embed_micro(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS")],
    run: Annotated[str, typer.Argument(metavar="RUN", help="holds micro/")],
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Embed every epoch of a corpus for Macro pretraining; writes RUN/micro_nights.lance."""
    config = _configured(preset(preset_name).embed, assignments, print_config)
    from pipelines.embed_nights import embed_micro_nights

    with _ray(address):
        embed_micro_nights(corpus, run, config)


@embed.command("cohort")
def embed_cohort(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS")],
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE")],
    output: Annotated[str, typer.Argument(metavar="OUT", help="folder or URI")],
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Embed every night of a corpus; writes OUT/night_embeddings.lance."""
    config = _configured(preset(preset_name).embed, assignments, print_config)
    from pipelines.embed_nights import embed_cohort as start

    with _ray(address):
        start(corpus, bundle, output, config)


@embed.command("file")
def embed_file(
    edf: Annotated[str, typer.Argument(metavar="NIGHT.edf")],
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE")],
    output: Annotated[str, typer.Option("-o", "--output", help=".npz, .parquet or .arrow")],
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
) -> None:
    """Embed one recording in this process, without Ray."""
    config = _configured(preset(preset_name).embed, assignments, print_config)
    from pipelines.embed_file import embed_file as start

    embedding = start(edf, bundle, output, config)
    used = ", ".join(f"{c['modality']}={c['label']}" for c in embedding.info["channels_used"])
    missing = ", ".join(embedding.info["modalities_missing"]) or "none"
    out.print(
        Text(f"{output}: {embedding.info['num_epochs']} epochs, used {used}; missing {missing}")
    )


@app.command()
def serve(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE")],
    port: Annotated[int | None, typer.Option(help="0 takes a free one")] = None,
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Answer embedding requests over HTTP until interrupted."""
    if port is not None:
        assignments = [*assignments, f"port={port}"]
    config = _configured(preset(preset_name).serve, assignments, print_config)
    from serve_apps.embedding_app import run

    with _ray(address):
        run(bundle, config, ready=lambda url: out.print(f"ready: {url}  (docs at {url}/docs)"))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
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


@app.command()
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


@app.command()
def demo(
    folder: Annotated[str, typer.Argument(metavar="OUT")] = "demo-out",
    edf: Annotated[Path | None, typer.Option(help="your own recording")] = None,
) -> None:
    """The whole walk on simulated nights, then one HTTP request and a report."""
    from pipelines.demo import run_demo

    run_demo(Path(folder), edf)
