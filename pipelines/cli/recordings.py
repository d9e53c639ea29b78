"""Commands about recordings: simulate, inspect, ingest, verify, de-identify."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from pipelines.cli.options import (
    EXIT_DATA,
    AddressOption,
    ChannelsOption,
    KeepNamesOption,
    LinkageOption,
    PresetOption,
    PrintOption,
    SetOption,
    SiteKeyOption,
    configured,
    out,
    with_channels,
)
from pipelines.recording_names import RECORDING_SUFFIXES
from sleepmami import storage
from sleepmami.config import IngestConfig
from sleepmami.errors import ConfigError
from sleepmami.presets import preset

MAX_COUNTS = 40  # of one kind, in a summary

MetadataOption = Annotated[
    list[str], typer.Option(help="table of people; may be given several times (docs/people.md)")
]
AnnotationsOption = Annotated[
    str | None, typer.Option(help="folder of scorings; default beside the EDFs")
]


def simulate(
    folder: Annotated[str, typer.Argument(metavar="OUT", help="folder for EDF, XML and CSV")],
    layout: Annotated[
        str | None, typer.Option(help="plain | shhs: folders, names and tables of NSRR's SHHS")
    ] = None,
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006  # typer copies defaults
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Write nights of known truth: EDFs, NSRR-style XML scorings, and a metadata CSV."""
    if layout is not None:
        assignments = [*assignments, f"layout={json.dumps(layout)}"]
    config = configured(preset(preset_name).simulate, assignments, print_config)
    from pipelines.simulate import simulate_cohort

    simulate_cohort(folder, config, address=address)


def inspect(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="EDFs, or folders of them")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="a JSON list, one object per file")
    ] = False,
    summary_only: Annotated[
        bool, typer.Option("--summary", help="counts over all files instead of each file")
    ] = False,
    channels: ChannelsOption = None,
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
) -> None:
    """Show what would be done with each channel, without reading the signals."""
    config = _with_channels(configured(preset(preset_name).ingest, assignments, False), channels)
    from sleepmami.signals.inspect import InspectionSummary, inspect_files

    summary = InspectionSummary()
    paths = itertools.chain.from_iterable(_edfs_in(path) for path in files)
    for number, report in enumerate(inspect_files(paths, config.preprocess)):
        summary.add(report)
        if summary_only:
            continue
        if as_json:  # item by item: a folder may hold thousands
            print("," if number else "[", json.dumps(report.to_dict()), sep="\n")
        else:
            _print_inspection(report.to_dict(), first=number == 0)
    if as_json:
        print(json.dumps(summary.to_dict()) if summary_only else "]")
    elif summary_only or summary.num_files > 1:
        _print_summary(summary.to_dict())
    if summary.num_ok < summary.num_files:
        raise typer.Exit(EXIT_DATA)


def _with_channels(config: IngestConfig, channels: str | None) -> IngestConfig:
    if channels is None:
        return config
    return replace(config, preprocess=with_channels(config.preprocess, channels))


def _edfs_in(path: Path) -> Iterator[Path]:
    """A file itself, or of a folder what an ingest takes for recordings: no scorings of others."""
    if not path.is_dir():
        yield path
        return
    from sleepmami.signals.pairing import ANNOTATION_SUFFIXES, pair_annotations

    folder = str(path)
    files = storage.list_files(folder, RECORDING_SUFFIXES, any_name=True)
    if not files:
        raise ConfigError(
            f"{path}: found no .edf, .bdf or .rec in this folder; expected recordings"
        )
    scorings = storage.list_files(folder, ANNOTATION_SUFFIXES, any_name=True)
    of_others = set(pair_annotations(files, scorings).values())
    base = storage.absolute(folder)
    for file in files:
        if file not in of_others:
            yield Path(path, file.removeprefix(base).lstrip("/"))


def _print_inspection(report: dict[str, Any], *, first: bool) -> None:  # Any: JSON
    state = Text("ok", style="green") if report["ok"] else Text(f"{report['code']}", style="red")
    minutes = f"{(report['duration_s'] or 0) / 60:.1f} min"
    if not first:
        out.print()
    out.print(Text.assemble((report["file"], "bold"), "  ", state, f"  {minutes}"), soft_wrap=True)
    if report["reason"]:
        out.print(Text(f"  {report['reason']}"), soft_wrap=True)
    if report["gaps"]:
        absent_s = sum(stop_s - start_s for start_s, stop_s in report["gaps"])
        out.print(Text(f"  {len(report['gaps'])} gaps, {absent_s / 60:.1f} min without data"))
    if not report["channels"]:
        return
    headings = ("label", "modality", "unit", "Hz", "decision", "confidence", "reason")
    table = Table(*headings, box=None, padding=(0, 2))
    style = {"used": "green", "rejected": "red", "ignored": "dim"}
    for channel in report["channels"]:
        cells = (
            channel["label"],
            " ".join(filter(None, (channel["modality"], channel["side"]))) or "-",
            channel["unit"] or "-",
            f"{channel['sample_rate_hz']:g}",
            channel["decision"],
            channel["confidence"] or "-",
            channel["reason"],
        )
        table.add_row(*map(Text, cells), style=style.get(channel["decision"], ""))
    out.print(table)


def _print_summary(summary: dict[str, Any]) -> None:  # Any: JSON
    head = f"{summary['num_files']} files, {summary['num_ok']} usable by their headers, "
    unusual = f"{summary['num_unusual']} of them unusual, " if summary["num_unusual"] else ""
    out.print(f"\n{head}{unusual}{summary['num_label_sets']} sets of labels")
    for title, key in (
        ("usable files with", "modalities"),
        ("refused", "codes"),
        ("labels not understood", "unknown_labels"),
    ):
        counts = list(summary[key].items())
        if counts:
            shown = ", ".join(f"{name} {count}" for name, count in counts[:MAX_COUNTS])
            more = f", ... {len(counts) - MAX_COUNTS} more" if len(counts) > MAX_COUNTS else ""
            out.print(Text(f"{title}: {shown}{more}"), soft_wrap=True)


def ingest(
    edf_dir: Annotated[
        str, typer.Argument(metavar="EDF_DIR", help="folder or URI, searched recursively")
    ],
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="folder or URI of the tables")],
    cohort: Annotated[str | None, typer.Option(help="name stored with each recording")] = None,
    metadata: MetadataOption = [],  # noqa: B006
    annotations: AnnotationsOption = None,
    channels: ChannelsOption = None,
    keep_names: KeepNamesOption = False,
    site_key: SiteKeyOption = None,
    linkage: LinkageOption = None,
    rehash: Annotated[
        bool, typer.Option(help="read every byte again, whatever its file's time says")
    ] = False,
    retry: Annotated[bool, typer.Option(help="try again what was rejected")] = False,
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """EDFs to recordings.lance and segments.lance; run it again after adding files."""
    if cohort is not None:
        assignments = [*assignments, f"cohort={json.dumps(cohort)}"]
    if keep_names:
        assignments = [*assignments, "recording_ids=file_name"]
    config = configured(preset(preset_name).ingest, assignments, print_config)
    config = _with_channels(config, channels)
    from pipelines.ingest_edf import ingest as run

    summary = run(
        edf_dir,
        corpus,
        config,
        metadata=metadata,
        annotations=annotations,
        site_key=site_key,
        linkage=linkage,
        rehash=rehash,
        retry=retry,
        address=address,
    )
    if set(summary.outcomes) <= {"rejected", "rejected earlier"}:
        raise typer.Exit(EXIT_DATA)


def ids(
    edf_dir: Annotated[
        str, typer.Argument(metavar="EDF_DIR", help="folder or URI, searched recursively")
    ],
    metadata: MetadataOption = [],  # noqa: B006
    annotations: AnnotationsOption = None,
    site_key: SiteKeyOption = None,
) -> None:
    """Say which file an ingest calls what: file, recording_id and subject_id as CSV."""
    from pipelines.ingest_edf import recording_ids

    rows = recording_ids(
        edf_dir,
        preset("paper").ingest,
        metadata=metadata,
        annotations=annotations,
        site_key=site_key,
    )
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("file", "recording_id", "subject_id"))
    writer.writerows(rows)


def verify(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="folder or URI of the tables")],
) -> None:
    """Check every byte and every row of a corpus against its checksums."""
    from pipelines.verify import verify as run

    if run(corpus).problems:
        raise typer.Exit(EXIT_DATA)


def deid(
    source: Annotated[str, typer.Argument(metavar="IN", help="an EDF or BDF, or a folder of them")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="the copy, or a folder for copies")],
    keep_clock: Annotated[bool, typer.Option(help="keep the time of day of the start")] = True,
    keep_names: KeepNamesOption = False,
    overwrite: Annotated[bool, typer.Option(help="make copies again that are there")] = False,
    site_key: SiteKeyOption = None,
    linkage: LinkageOption = None,
) -> None:
    """Write clean copies: no names, dates or free text, samples bit for bit (docs/privacy.md)."""
    from pipelines.deid import DeidOptions
    from pipelines.deid import deid as run

    options = DeidOptions(
        keep_clock=keep_clock,
        keep_names=keep_names,
        overwrite=overwrite,
        site_key=site_key,
        linkage=linkage,
    )
    summary = run(source, target, options, show=lambda line: out.print(Text(line), soft_wrap=True))
    out.print(str(summary))
    if summary.failed:
        raise typer.Exit(EXIT_DATA)
