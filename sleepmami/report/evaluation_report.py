"""`sleepmami report`: one self-contained page about a run, with its pictures beside it as PNGs.

The same inputs give the same bytes: there is no time in it, and nothing is drawn at random but by
a fixed seed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sleepmami import storage
from sleepmami.errors import ConfigError, require
from sleepmami.evaluation.stored_results import read_predictions
from sleepmami.report.compared_models import Compared, compare_models
from sleepmami.report.evaluation_inputs import ReportInputs, RunLog, read_inputs
from sleepmami.report.macro_structure import ScoredNight
from sleepmami.report.matrix_sections import hardware_section, missing_section, retrieval_section
from sleepmami.report.night_maps import MapKind
from sleepmami.report.page import page
from sleepmami.report.people_sections import (
    dataset_section,
    macro_structure_section,
    map_section,
    night_section,
)
from sleepmami.report.pictures import Picture
from sleepmami.report.result_sections import (
    confusion_section,
    few_shot_section,
    headline_section,
    results_section,
)
from sleepmami.report.sections import Missing, Section
from sleepmami.report.training_curves import MACRO_CURVES, MICRO_CURVES, curve_pictures

PAGE_NAME = "index.html"
MAPS: dict[str, tuple[MapKind, ...]] = {"pca": ("pca",), "umap": ("umap",), "both": ("pca", "umap")}
# tasks of `probe` whose headline belongs on the page, and those that need the corpus' labels
WITHOUT_PREDICTIONS = ("few-shot", "retrieval")
TELLING = ("micro_loss_total", "macro_loss_excess")  # curves that a sentence is about
PROBES = {"staging": False, "apnea": True, "age": False, "sex": False, "ahi": True,
          "survival": True}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportOptions:
    """What a page shows of what there is.

    Attributes:
        map: pca, umap or both.
        night: recording id of the hypnogram; None takes a night of median accuracy.
    """

    map: str = "pca"
    night: str | None = None

    def __post_init__(self) -> None:
        require(self.map in MAPS, "map", self.map, f"one of {', '.join(MAPS)}")


def write_report(
    run: str,
    output: str,
    *,
    embeddings: str | None = None,
    corpus: str | None = None,
    results: str | None = None,
    options: ReportOptions | None = None,
) -> str:
    """Write OUTPUT/index.html and its pictures; returns the page's address.

    Args:
        run: RUN of `pretrain`.
        output: folder of the page.
        embeddings: OUT of `embed cohort`.
        corpus: of `ingest`.
        results: folder of the files of `probe -o` and `--csv`.
        options: see ReportOptions.

    Raises:
        SleepMaMiError: something that was given is not there, or is not what it should be.
    """
    options = options or ReportOptions()
    if options.map != "pca" and embeddings is None:
        raise ConfigError(f"map={options.map!r} has no effect without embeddings")
    inputs = read_inputs(run, embeddings, corpus, results)
    sections = report_sections(inputs, options)
    for picture in pictures_of(sections):
        storage.write_bytes(storage.join(output, f"{picture.name}.png"), picture.light)
    uri = storage.join(output, PAGE_NAME)
    storage.write_bytes(uri, render(inputs, sections).encode())
    return uri


def render(inputs: ReportInputs, sections: Sequence[Section]) -> str:
    """The page as HTML; nothing in it is loaded from elsewhere."""
    given = [
        ("run", inputs.run.uri),
        ("embeddings", inputs.embeddings),
        ("corpus", inputs.corpus),
        ("results", inputs.results_folder),
    ]
    manifest = inputs.run.manifest
    about = [
        ("model", manifest.get("model_id", "no bundle yet")),
        ("weights SHA-256", manifest.get("weights_sha256", "-")),
        ("code version of the weights", manifest.get("code_version", "-")),
        *((name, uri) for name, uri in given if uri is not None),
    ]
    if inputs.not_read:
        about.append(("JSON files that are no results", ", ".join(inputs.not_read)))
    return page(
        "evaluation.html.j2",
        run=inputs.run.uri.rstrip("/").rpartition("/")[2],
        about=about,
        sections=sections,
    )


def pictures_of(sections: Sequence[Section]) -> list[Picture]:
    """All pictures, whose names are all different."""
    return [picture for section in sections for picture in section.pictures]


def report_sections(inputs: ReportInputs, options: ReportOptions) -> list[Section]:
    """All sections, in the order of the page; each says what it lacks."""
    compared = compare_models(inputs.results, inputs.run.model_id)
    commands = _Commands(inputs)
    matrices = compared.matrices
    return [
        headline_section(compared),
        results_section(compared, commands.probes(compared)),
        confusion_section(compared, [commands.probe("staging")]),
        few_shot_section(compared, [commands.probe("few-shot")]),
        _map_section(inputs, options, commands),
        macro_structure_section(_scored_nights(inputs), [commands.corpus()]),
        _night_section(compared, options, commands),
        _training_section(inputs.run),
        missing_section(matrices.get("missing", ()), [commands.missing_modalities()]),
        retrieval_section(matrices.get("retrieval", ()), [commands.probe("retrieval")]),
        hardware_section(matrices.get("hardware", ()), [commands.hardware()]),
        dataset_section(inputs.recordings, [commands.corpus()]),
    ]


def _map_section(inputs: ReportInputs, options: ReportOptions, commands: _Commands) -> Section:
    nights, model_id = inputs.nights, inputs.run.model_id
    if nights is None:
        return map_section(None, None, MAPS[options.map], [commands.embeddings()])
    section = map_section(nights.vectors, nights.people, MAPS[options.map], ())
    if nights.model_id == model_id:
        return section
    whose = f"These vectors are of {nights.model_id}, not of this run ({model_id or 'no bundle'})."
    return replace(section, findings=[whose, *section.findings])


def _scored_nights(inputs: ReportInputs) -> list[ScoredNight]:
    return [
        ScoredNight(
            subject_id=night.subject_id,
            hypnogram=night.hypnogram,
            age_years=night.age_years,
            sex=night.sex,
            bmi=night.bmi,
            ahi=night.ahi,
        )
        for night in inputs.recordings
        if night.rejected_code is None and night.hypnogram is not None
    ]


def _night_section(compared: Compared, options: ReportOptions, commands: _Commands) -> Section:
    found = [
        (model, result)
        for asked in compared.questions
        if asked.task == "staging"
        for model, result in asked.results.items()
        if result.predictions is not None
    ]
    if not found:
        return night_section(None, "", options.night, [commands.probe("staging")])
    model, result = found[0]
    predictions = read_predictions(result, likelihoods=True)
    return night_section(predictions, model, options.night, ())


def _training_section(run: RunLog) -> Section:
    micro = curve_pictures(run.micro, MICRO_CURVES, "micro")
    macro = curve_pictures(run.macro, MACRO_CURVES, "macro")
    missing = [
        Missing(what=f"{run.uri} has no log of the {name}-Encoder's training", command=command)
        for name, pictures, command in (
            ("Micro", micro, f"sleepmami pretrain micro CORPUS {run.uri}"),
            ("Macro", macro, f"sleepmami pretrain macro CORPUS {run.uri}"),
        )
        if not pictures
    ]
    return Section(
        key="training",
        title="How the encoders learned",
        findings=[drawn.alt for drawn in (*micro, *macro) if drawn.name in TELLING],
        pictures=[*micro, *macro],
        missing=missing,
    )


class _Commands:
    """What makes a part that is missing, with the folders that were given."""

    def __init__(self, inputs: ReportInputs) -> None:
        self._run, self._corpus, self._embeddings, self._results = (
            shlex.quote(place)
            for place in (
                inputs.run.uri,
                inputs.corpus or "CORPUS",
                inputs.embeddings or "COHORT",
                inputs.results_folder or "RESULTS",
            )
        )

    def probes(self, compared: Compared) -> list[Missing]:
        """The probes that nobody asked, and for those of one model a second to compare it with."""
        there = {asked.task: asked for asked in compared.questions}
        missing = [self.probe(task) for task in PROBES if task not in there]
        if there and all(len(asked.results) == 1 for asked in there.values()):
            missing.append(self.probe(next(iter(there)), level="micro"))
        return missing

    def probe(self, task: str, level: str = "") -> Missing:
        """`sleepmami probe`, with both files."""
        file = f"{self._results}/{task}_{level}".rstrip("_")
        labels = f" --labels {self._corpus}" if PROBES.get(task) else ""
        asked = f" --level {level}" if level else ""
        table = "" if task in WITHOUT_PREDICTIONS else f" --csv {file}.csv"
        return Missing(
            what=f"{task} of {level or 'any'} vectors was not asked",
            command=f"sleepmami probe {task} {self._embeddings}{labels}{asked} "
            f"-o {file}.json{table}",
        )

    def embeddings(self) -> Missing:
        """`embed cohort`."""
        return Missing(
            what="no embeddings were given (--embeddings)",
            command=f"sleepmami embed cohort {self._corpus} {self._run} {self._embeddings}",
        )

    def corpus(self) -> Missing:
        """`ingest` with people and scorings."""
        return Missing(
            what="no corpus with hypnograms and people was given (--corpus)",
            command=f"sleepmami ingest EDFS {self._corpus} --cohort NAME --metadata PEOPLE.csv "
            "--annotations SCORINGS",
        )

    def missing_modalities(self) -> Missing:
        """All 63 subsets."""
        return Missing(
            what="the sets of modalities were not tried",
            command=f"sleepmami missing-modalities {self._corpus} {self._run} {self._embeddings} "
            f"-o {self._results}/missing",
        )

    def hardware(self) -> Missing:
        """A probe per recorder."""
        return Missing(
            what="no probe was fitted on one recorder and tested on another",
            command=f"sleepmami probe staging {self._embeddings} --labels {self._corpus} "
            f"--set split.kind=device -o {self._results}/staging_device.json",
        )
