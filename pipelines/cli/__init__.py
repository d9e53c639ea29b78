"""The `sleepmami` command: one front door to every stage.

Each command imports what it needs when it runs, so that `--help` and `inspect` start without torch
or Ray.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from pipelines.cli import ablation, evaluation, keys, recordings, service, training, tuning
from pipelines.cli.options import EXIT_DATA, EXIT_FAILURE, EXIT_USAGE
from sleepmami import __version__
from sleepmami.errors import ConfigError, RecordingError, SleepMaMiError

# Absent from the light install, which can inspect, simulate, and read and probe embeddings.
DISTRIBUTED_MODULES = frozenset(
    {
        "aiohttp",
        "fastapi",
        "jinja2",
        "lance",
        "matplotlib",
        "optuna",
        "ray",
        "safetensors",
        "torch",
        "xxhash",
    }
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Whole nights of polysomnography to embeddings: ingest, pretrain, embed, serve.",
)
pretrain = typer.Typer(no_args_is_help=True, help="Train an encoder with Ray Train.")
tune = typer.Typer(no_args_is_help=True, help="Search settings with Ray Tune.")
embed = typer.Typer(no_args_is_help=True, help="Turn nights into vectors.")
bundle = typer.Typer(no_args_is_help=True, help="Change what lies beside a bundle's weights.")

app.command()(recordings.simulate)
app.command()(recordings.inspect)
app.command()(recordings.ingest)
app.command()(recordings.ids)
app.command()(recordings.verify)
app.command()(recordings.deid)
app.add_typer(pretrain, name="pretrain")
app.add_typer(embed, name="embed")
app.add_typer(tune, name="tune")
app.add_typer(bundle, name="bundle")
pretrain.command("micro")(training.pretrain_micro)
pretrain.command("macro")(training.pretrain_macro)
app.command("random-bundle")(training.random_bundle)
tune.command("dgcl")(tuning.tune_dgcl)
tune.command("micro")(tuning.tune_micro)
embed.command("micro")(training.embed_micro)
embed.command("cohort")(training.embed_cohort)
embed.command("file")(training.embed_file)
embed.command("band-powers")(training.embed_band_powers)
app.command()(evaluation.probe)
app.command()(ablation.ablate)
bundle.command("add-probe")(evaluation.add_probe)
app.command("missing-modalities")(evaluation.missing_modalities)
app.command()(evaluation.report)
app.command()(service.serve)
app.command()(service.serve_check)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    service.submit
)
service_keys = typer.Typer(no_args_is_help=True, help="Keys of the embedding service.")
app.add_typer(service_keys, name="keys")
service_keys.command()(keys.add)
service_keys.command("list")(keys.list_keys)
service_keys.command()(keys.revoke)
app.command()(service.doctor)
app.command()(service.demo)


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
