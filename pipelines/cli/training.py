"""Commands that train encoders and embed nights."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from pipelines.cli.options import (
    AddressOption,
    ChannelsOption,
    PresetOption,
    PrintOption,
    SetOption,
    configured,
    on_ray,
    out,
)
from sleepmami.config import BandPowersConfig
from sleepmami.presets import preset

SecondOption = Annotated[
    bool, typer.Option("--second", help="also a vector for each second: docs/evaluation.md")
]


def pretrain_micro(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS")],
    run: Annotated[str, typer.Argument(metavar="RUN", help="folder or URI; run again to resume")],
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Train the Micro-Encoder (section 3.1) on a corpus; writes RUN/micro."""
    config = configured(preset(preset_name).micro, assignments, print_config)
    from pipelines.pretrain_micro import pretrain_micro as start

    with on_ray(address):
        start(corpus, run, config)


def pretrain_macro(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS")],
    run: Annotated[str, typer.Argument(metavar="RUN", help="holds micro/ and micro_nights.lance")],
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Train the Macro-Encoder (section 3.2); RUN becomes a bundle."""
    config = configured(preset(preset_name).macro, assignments, print_config)
    from pipelines.pretrain_macro import pretrain_macro as start

    with on_ray(address):
        start(corpus, run, config)


def random_bundle(
    corpus: Annotated[
        str, typer.Argument(metavar="CORPUS", help="whose preprocessing it asks for")
    ],
    run: Annotated[str, typer.Argument(metavar="RUN", help="a new folder or URI")],
    preset_name: PresetOption = "paper",
    seed: Annotated[int, typer.Option(help="of the weights")] = 0,
) -> None:
    """Write untrained weights as a bundle: the baseline of `probe`; RUN is as after pretraining."""
    chosen = preset(preset_name)
    from pipelines.random_bundle import random_bundle as start

    start(corpus, run, chosen.micro, chosen.macro, seed)


def embed_micro(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS")],
    run: Annotated[str, typer.Argument(metavar="RUN", help="holds micro/")],
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Embed every epoch of a corpus for Macro pretraining; writes RUN/micro_nights.lance."""
    config = configured(preset(preset_name).embed, assignments, print_config)
    from pipelines.embed_nights import embed_micro_nights

    with on_ray(address):
        embed_micro_nights(corpus, run, config)


def embed_cohort(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS")],
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE")],
    output: Annotated[str, typer.Argument(metavar="OUT", help="folder or URI")],
    seconds: SecondOption = False,
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Embed every night of a corpus; writes OUT/night_embeddings.lance."""
    config = configured(preset(preset_name).embed, assignments, print_config)
    from pipelines.embed_nights import embed_cohort as start

    with on_ray(address):
        start(corpus, bundle, output, config, seconds=seconds)


def embed_band_powers(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS")],
    output: Annotated[str, typer.Argument(metavar="OUT", help="folder or URI")],
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """The baseline without an encoder: band powers of every night, for the same probes."""
    config = configured(BandPowersConfig(), assignments, print_config)
    from pipelines.embed_band_powers import embed_band_powers as start

    with on_ray(address):
        start(corpus, output, config)


def embed_file(
    edf: Annotated[str, typer.Argument(metavar="NIGHT.edf")],
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE")],
    output: Annotated[str, typer.Option("-o", "--output", help=".npz, .parquet or .arrow")],
    channels: ChannelsOption = None,
    seconds: SecondOption = False,
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
) -> None:
    """Embed one recording in this process, without Ray."""
    config = configured(preset(preset_name).embed, assignments, print_config)
    from pipelines.embed_file import embed_file as start
    from sleepmami.signals.channel_file import read_channel_file

    meanings = read_channel_file(channels) if channels else ()
    embedding = start(edf, bundle, output, config, channels=meanings, seconds=seconds)
    used = ", ".join(f"{c['modality']}={c['label']}" for c in embedding.info["channels_used"])
    missing = ", ".join(embedding.info["modalities_missing"]) or "none"
    out.print(
        Text(f"{output}: {embedding.info['num_epochs']} epochs, used {used}; missing {missing}")
    )
