"""Commands that ask what embeddings are worth."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from pipelines.cli.options import (
    AddressOption,
    PrintOption,
    SetOption,
    configured,
    on_ray,
    out,
)
from sleepmami import storage
from sleepmami.config import TASKS, MissingConfig, ProbeConfig
from sleepmami.config_edit import replace_at
from sleepmami.errors import ConfigError

if TYPE_CHECKING:
    from sleepmami.evaluation.bootstrap import Estimate
    from sleepmami.evaluation.fitted_probe import FittedProbe
    from sleepmami.evaluation.results import Cell, Confusion, PredictionSink, ProbeResult


def probe(
    task: Annotated[str, typer.Argument(metavar="TASK", help=" | ".join(TASKS))],
    embeddings: Annotated[
        str,
        typer.Argument(metavar="EMBEDDINGS", help="OUT of `embed cohort`, or a folder of .npz"),
    ],
    labels: Annotated[
        list[str],
        typer.Option(
            help="corpus, or table of people (docs/people.md); may be given several times"
        ),
    ] = [],  # noqa: B006  # typer copies defaults
    level: Annotated[
        str | None,
        typer.Option(
            help="micro | macro | night | second; default macro for epochs, night for people"
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="write the whole result as JSON here")
    ] = None,
    predictions: Annotated[
        str | None, typer.Option("--csv", help="write the prediction of every tested row here")
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(help="of retrieval: other embeddings by the same encoder, to look in"),
    ] = None,
    save: Annotated[
        str | None, typer.Option(help="keep the fitted probe (staging, apnea) in this file")
    ] = None,
    save_into: Annotated[
        str | None, typer.Option(help="keep it in this bundle, for its service")
    ] = None,
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
) -> None:
    """Fit a linear probe on frozen embeddings and test it on other people (Table 10)."""
    config = ProbeConfig() if level is None else replace_at(ProbeConfig(), {"level": level})
    config = configured(config, assignments, print_config)
    known = next((name for name in TASKS if name == task), None)
    if known is None:
        raise ConfigError(f"unknown task {task!r}; there are {list(TASKS)}")
    from sleepmami.evaluation.probe import run_probe

    kept: list[FittedProbe] = []
    keep = kept.append if save or save_into else None
    with _csv_rows(predictions) as add:
        result = run_probe(known, embeddings, labels, config, add, keep, targets)
    if output:
        storage.write_bytes(output, (json.dumps(result.to_dict(), indent=1) + "\n").encode())
    for probe in kept:
        _keep(probe, save, save_into)
    _print_result(result)


def add_probe(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="folder or URI")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="of `probe --save`")],
) -> None:
    """Put a fitted probe into the bundle whose vectors it was fitted on."""
    from sleepmami.training.bundle_probes import add_probe as add

    out.print(Text(f"added {add(bundle, file)}"), soft_wrap=True)


def _keep(probe: FittedProbe, file: str | None, bundle: str | None) -> None:
    if file:
        from sleepmami.evaluation.fitted_probe import save_probe

        save_probe(file, probe)
    if bundle:
        from sleepmami.training.bundle_probes import add_probe as add

        add(bundle, probe)


def missing_modalities(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="signals and labels")],
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="that embedded the cohort")],
    cohort: Annotated[str, typer.Argument(metavar="COHORT", help="OUT of `embed cohort`")],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="folder; default COHORT/missing_modalities")
    ] = None,
    refit: Annotated[
        bool, typer.Option(help="also fit a probe on vectors of each subset's modalities")
    ] = False,
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Test staging on all 63 subsets of the six modalities; run it again to go on."""
    own = replace_at(MissingConfig(), {"refit": True}) if refit else MissingConfig()
    config = configured(own, assignments, print_config)
    from pipelines.missing_modalities import missing_modalities as start

    folder = output or storage.join(cohort, "missing_modalities")
    with on_ray(address):
        answer = start(corpus, bundle, cohort, folder, config)
    columns = [
        (level + suffix, part, title)
        for level in ("micro", "macro")
        for suffix, part, title in (
            ("", "macro_f1", f"F1 {level}"),
            *([("_refit", "macro_f1", "refit")] if config.refit else []),
            ("", "cosine", "cosine"),
        )
    ]
    titles = [title for *_, title in columns]
    table = Table("modalities", "epochs", *titles, box=None, padding=(0, 2))
    for entry in answer["subsets"]:
        cells = [entry[level][part] for level, part, _ in columns]
        shown = ["-" if cell["value"] is None else f"{cell['value']:.3f}" for cell in cells]
        table.add_row("+".join(entry["modalities"]), str(entry["num_epochs"]), *shown)
    out.print(table)
    for note in answer["notes"]:
        out.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
    out.print(Text(f"written: {folder}"), soft_wrap=True)


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="of `pretrain`: bundle and logs")],
    embeddings: Annotated[
        str | None, typer.Option(help="OUT of `embed cohort`, or a folder of .npz")
    ] = None,
    corpus: Annotated[str | None, typer.Option(help="of `ingest`")] = None,
    results: Annotated[
        str | None, typer.Option(help="folder of the files of `probe -o` and `--csv`")
    ] = None,
    output: Annotated[
        str, typer.Option("-o", "--output", help="folder of index.html and its pictures")
    ] = "report",
    maps: Annotated[str, typer.Option("--map", help="pca | umap | both")] = "pca",
    night: Annotated[
        str | None, typer.Option(help="recording id of the hypnogram; default a typical night")
    ] = None,
) -> None:
    """One page of pictures and tables about a run: what there is, and what is missing."""
    try:
        from sleepmami.report.evaluation_report import ReportOptions, write_report
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in ("jinja2", "lance", "matplotlib"):
            raise
        raise ConfigError(
            f"report: found no {name}; this needs: pip install 'sleepmami[report]'"
        ) from error
    page = write_report(
        run,
        output,
        embeddings=embeddings,
        corpus=corpus,
        results=results,
        options=ReportOptions(map=maps, night=night),
    )
    out.print(Text(f"report: {page}"), soft_wrap=True)


@contextmanager
def _csv_rows(uri: str | None) -> Iterator[PredictionSink]:
    """What writes predictions as they come, under one header; the file is there when all are."""
    if uri is None:
        yield None
        return
    with storage.writing(uri) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        header: list[str] = []

        def add(columns: Mapping[str, Sequence[Cell]]) -> None:
            if not header:
                header.extend(columns)
                writer.writerow(header)
            writer.writerows(zip(*columns.values(), strict=True))

        yield add
        text.detach()  # flushes, and leaves the file open


def _print_result(result: ProbeResult) -> None:
    tested = f"{result.num_subjects} subjects, {result.num_nights} nights"
    if result.unit != "night":
        unit = "queries" if result.unit == "query" else f"{result.unit}s"
        tested += f", {result.num_rows} {unit}"
    out.print(
        Text.assemble(
            (result.task, "bold"),
            f"  {result.level} vectors of {result.model_id}; tested on {tested}",
        ),
        soft_wrap=True,
    )
    percent = f"{100 * result.config.confidence:g} % interval over subjects"
    grouped = any(figure.group for figure in result.figures)
    table = Table(
        *(["of"] if grouped else []), "figure", "value", percent, box=None, padding=(0, 2)
    )
    for figure in result.figures:
        cells = [figure.name, _number(figure.estimate.value), _interval(figure.estimate)]
        events = result.num_events.get(figure.group)
        group = figure.group if events is None else f"{figure.group}, {events} events"
        table.add_row(*([group] if grouped else []), *cells)
    out.print(table)
    if result.confusion is not None:
        out.print(_confusion_table(result.confusion))
    for reason, count in sorted(result.left_out.items()):
        out.print(Text(f"left out: {count} nights: {reason}"), soft_wrap=True)
    for note in result.notes:
        out.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)


def _confusion_table(confusion: Confusion) -> Table:
    """Rows are the truth, in percent of their sum."""
    table = Table("truth \\ guess, %", *confusion.classes, "of", box=None, padding=(0, 2))
    for name, row in zip(confusion.classes, confusion.counts, strict=True):
        total = sum(row)
        shares = [f"{100 * count / total:.1f}" if total else "-" for count in row]
        table.add_row(name, *shares, str(total))
    return table


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _interval(found: Estimate) -> str:
    text = f"{_number(found.low)} .. {_number(found.high)}"
    return f"{text}  ({found.num_undefined} undefined)" if found.num_undefined else text
