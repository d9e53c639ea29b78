"""The page shows what is there, says what is missing, and is the same every time."""

import csv
import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sleepmami.errors import CheckpointError, ConfigError, TableError
from sleepmami.psg import MODALITIES
from sleepmami.report import people_sections
from sleepmami.report.evaluation_report import ReportOptions, write_report
from sleepmami.report.people_sections import night_section
from tests.unit.evaluation.csv_tables import as_predictions
from tests.unit.evaluation.planted import MODEL, PlantedNight, write_corpus, write_embeddings

STAGES = ("WAKE", "N1", "N2", "N3", "REM")
ODD = "<b>odd</b>"  # a recording's name that must stay text


class Inputs:
    """A run, embeddings, a corpus and results, without a model."""

    def __init__(self, folder: Path, odd: float | None = None) -> None:
        """`odd` stands for three numbers of one person."""
        self.folder = folder
        self.run = str(folder / "run")
        rng = np.random.default_rng(0)
        nights = [
            PlantedNight(
                recording_id=ODD if number == 0 else f"r{number}",
                subject_id=f"s{number}",
                split="test" if number % 2 else "train",
                macro=rng.normal(size=(60, 3)),
                night=rng.normal(size=3),
                hypnogram=rng.choice([0, 2, 3, 4], 60).astype(np.int8),
                age_years=30.0 + 5 * number,
                sex="female" if number % 2 else "male",
                bmi=20.0 + number,
                ahi=3.0 * number,
            )
            for number in range(8)
        ]
        if odd is not None:
            nights[2].age_years = nights[2].bmi = nights[2].ahi = odd
        self.embeddings = write_embeddings(folder / "cohort", nights)
        self.corpus = write_corpus(folder / "corpus", nights)
        self.results = folder / "results"
        self.results.mkdir()
        self._write_run()

    def _write_run(self) -> None:
        (self.folder / "run" / "micro").mkdir(parents=True)
        manifest = {"model_id": MODEL, "weights_sha256": "ab" * 32, "code_version": "0"}
        (self.folder / "run" / "manifest.json").write_text(json.dumps(manifest))
        rows = [{"step": 1, "loss/total": 2.0}, {"step": 2, "loss/total": 1.0}]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self.folder / "run" / "micro" / "metrics.jsonl").write_text(text)

    def staging(self, level: str, value: float, right: int) -> None:
        """A result of staging, whose predictions are right in the first epochs of each night."""
        figure = {"name": "macro_f1", "group": "", "value": value, "low": value - 0.1,
                  "high": value + 0.1, "num_undefined": 0}  # fmt: skip
        confusion = {"classes": STAGES, "counts": np.eye(5, dtype=int).tolist()}
        self.write(f"staging_{level}", task="staging", level=level, unit="epoch", figures=[figure],
                   confusion=confusion)  # fmt: skip
        with open(self.results / f"staging_{level}.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["recording_id", "subject_id", "epoch", "truth", "guess",
                           *(f"p_{s}" for s in STAGES)])  # fmt: skip
            for number in range(4):
                for epoch in range(10):
                    truth, guess = STAGES[epoch % 5], STAGES[(epoch + (epoch >= right)) % 5]
                    likely = [0.6 if stage == guess else 0.1 for stage in STAGES]
                    name = ODD if number == 0 else f"r{number}"
                    rows.writerow([name, f"s{number}", epoch, truth, guess, *likely])

    def write(self, name: str, **values: object) -> None:
        found = {"model_id": MODEL, "num_subjects": 4, "num_nights": 4, "num_rows": 40, **values}
        (self.results / f"{name}.json").write_text(json.dumps(found))

    def page(self, out: str = "report", **options: str) -> str:
        file = write_report(
            self.run,
            str(self.folder / out),
            embeddings=self.embeddings,
            corpus=self.corpus,
            results=str(self.results),
            options=ReportOptions(**options),
        )
        return Path(file).read_text()


@pytest.fixture(scope="module", autouse=True)
def few_grids() -> Iterator[None]:
    """One grid of areas on a page; test_macro_structure.py draws all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(people_sections, "GRIDS", people_sections.GRIDS[:1])
        yield


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    made = Inputs(tmp_path_factory.mktemp("inputs"))
    made.staging("macro", 0.9, 10)
    made.staging("micro", 0.7, 6)
    return made


@pytest.fixture(scope="module")
def page(inputs: Inputs) -> str:
    return inputs.page(night=ODD)


class Structure(HTMLParser):
    """Headings and pictures in their order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.images.append(dict(attrs))


def test_the_finding_is_said_first_and_is_paired(page: str) -> None:
    assert "Macro against Micro: better in sleep stages." in page
    before, after = page.index("Macro against Micro"), page.index("<img")
    assert before < after
    assert "better: +0.407" in page  # 1 - (4/5 + 2/3 + 3/2) / 5


def test_the_page_loads_nothing_and_every_picture_says_its_finding(
    page: str, inputs: Inputs
) -> None:
    sources = re.findall(r'(?:src|srcset)="([^"]*)"', page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', page))
    images = Structure(page).images
    assert all(len(image["alt"] or "") > 30 for image in images)
    assert len(list((inputs.folder / "report").glob("*.png"))) == len(images)


def test_headings_are_in_order_and_each_is_in_the_contents(page: str) -> None:
    headings = Structure(page).headings
    assert headings[0] == 1
    assert set(headings[1:]) == {2}
    linked = re.findall(r'<li><a href="#([^"]*)"', page)
    assert linked == re.findall(r'<section id="([^"]*)"', page)
    assert len(linked) == headings.count(2) - 1  # what it was made of stands at the end


def test_names_are_text_and_never_markup(page: str) -> None:
    assert ODD not in page
    assert "&lt;b&gt;odd&lt;/b&gt;" in page


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    run = Inputs(tmp_path).run
    first, second = (write_report(run, str(tmp_path / name)) for name in ("first", "second"))
    assert Path(first).read_bytes() == Path(second).read_bytes()
    picture = "micro_loss_total.png"
    assert (tmp_path / "first" / picture).read_bytes() == (
        tmp_path / "second" / picture
    ).read_bytes()


def test_a_corpus_that_says_unknown_by_nan_ends_no_page(tmp_path: Path) -> None:
    made = Inputs(tmp_path, odd=math.nan)
    page = made.page()
    # age, BMI and AHI of all, and of those in split train
    assert (page.count("(of 7)"), page.count("(of 3)")) == (3, 3)
    assert "nan" not in re.sub(r"data:[^\"]*", "", page).lower()


def test_an_unknown_night_is_refused() -> None:
    columns = ("recording_id", "subject_id", "epoch", "truth", "guess", *(f"p_{s}" for s in STAGES))
    row = ("r1", "s1", "0", "N1", "N1", *["0.2"] * 5)
    table = as_predictions({name: [value] for name, value in zip(columns, row, strict=True)})
    with pytest.raises(ConfigError, match=r"night='r9'.*r1"):
        night_section(table, "Macro", "r9", ())
    with pytest.raises(ConfigError, match="no effect without predictions"):
        night_section(None, "", "r9", ())


def test_what_is_missing_is_said_with_the_command_that_makes_it(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    html = Path(write_report(inputs.run, str(tmp_path / "out"))).read_text()
    text = re.sub(r"<[^>]*>", "", html)
    for command in (
        "sleepmami probe staging COHORT -o RESULTS/staging.json --csv RESULTS/staging.csv",
        "sleepmami probe few-shot COHORT -o RESULTS/few-shot.json",
        "sleepmami probe ahi COHORT --labels CORPUS -o RESULTS/ahi.json --csv RESULTS/ahi.csv",
        f"sleepmami embed cohort CORPUS {inputs.run} COHORT",
        f"sleepmami pretrain macro CORPUS {inputs.run}",
        f"sleepmami missing-modalities CORPUS {inputs.run} COHORT -o RESULTS/missing",
        "sleepmami probe retrieval COHORT -o RESULTS/retrieval.json",
        "--set split.kind=device -o RESULTS/staging_device.json",
        "sleepmami ingest EDFS CORPUS",
    ):
        assert command in text
    assert "There are no results yet." in text
    assert "Total loss" in text  # what is there is shown


def test_matrices_of_other_commands_are_shown(tmp_path: Path) -> None:
    own = Inputs(tmp_path)
    value = {"value": 0.25, "low": 0.2, "high": 0.3}
    own.write("device", task="staging", level="macro", unit="epoch", figures=[
        {"name": "macro_f1", "group": group, **value, "value": score} for group, score in
        (("nox->nox", 0.9), ("nox->embla", 0.4), ("embla->nox", 0.3), ("embla->embla", 0.8),
         ("within", 0.85), ("across", 0.35), ("within - across", 0.5))
    ])  # fmt: skip
    subsets = [{"modalities": ["EEG"], "macro": {"macro_f1": value}},
               {"modalities": list(MODALITIES), "macro": {"macro_f1": value | {"value": 0.8}}}]  # fmt: skip
    own.write("missing", task="staging", subsets=subsets)
    own.write("missing_config", preset="tiny")
    page = write_report(own.run, str(tmp_path / "out"), results=str(own.results))
    text = Path(page).read_text()
    assert "highest 0.90 (fitted on nox, tested on nox)" in text
    assert "lowest 0.30 (fitted on embla, tested on nox)" in text
    assert "macro F1 0.850 on the same recorder, 0.350 on another" in text
    assert "highest 0.80 (EEG EOG EMG + ECG RESP SPO2), lowest 0.25 (EEG)" in text


def test_a_matrix_without_a_number_or_a_figure_is_no_error(tmp_path: Path) -> None:
    own = Inputs(tmp_path)
    nothing = {"value": None, "low": None, "high": None}
    own.write("retrieval", task="retrieval", level="micro", figures=[
        {"name": "recall_at_1", "group": "EEG->EOG", **nothing}])  # fmt: skip
    subsets = [{"modalities": [m], "macro": {"macro_f1": value}} for m, value in
               (("EMG", nothing), ("EEG", {"value": 0.5}), ("EOG", {"value": 0.4}))]  # fmt: skip
    own.write("missing", task="staging", subsets=subsets)
    text = Path(write_report(own.run, str(tmp_path / "out"), results=str(own.results))).read_text()
    assert "recall at 1: no value is defined." in text
    assert "highest 0.50 (EEG), lowest 0.40 (EOG)" in text


def test_a_dollar_in_a_name_is_no_formula(tmp_path: Path) -> None:
    own = Inputs(tmp_path)
    value = {"name": "macro_f1", "value": 0.5, "low": 0.4, "high": 0.6}
    own.write("staging", task="staging", model_id="a$\\odd^$", figures=[value])
    page = write_report(own.run, str(tmp_path / "out"), results=str(own.results))
    assert "a$\\odd^$" in Path(page).read_text()


def test_vectors_of_another_model_than_the_runs_are_said_to_be(tmp_path: Path) -> None:
    own = Inputs(tmp_path)
    nights = [PlantedNight(recording_id=f"r{n}", subject_id=f"s{n}", model_id="sleepmami-other")
              for n in range(3)]  # fmt: skip
    others = write_embeddings(tmp_path / "others", nights)
    text = Path(write_report(own.run, str(tmp_path / "out"), embeddings=others)).read_text()
    assert f"These vectors are of sleepmami-other, not of this run ({MODEL})." in text


def test_a_log_without_steps_is_refused(tmp_path: Path) -> None:
    own = Inputs(tmp_path)
    (tmp_path / "run" / "micro" / "metrics.jsonl").write_text('{"loss/total": 2.0}\n')
    with pytest.raises(CheckpointError, match="expected metrics of a step"):
        write_report(own.run, str(tmp_path / "out"))


def test_what_is_given_and_is_not_there_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a bundle nor logs"):
        write_report(str(tmp_path / "nothing"), str(tmp_path / "out"))
    with pytest.raises(TableError, match="nowhere"):
        write_report(inputs.run, str(tmp_path / "out"), results=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="map must be one of pca, umap, both"):
        ReportOptions(map="tsne")
    with pytest.raises(ConfigError, match="no effect without embeddings"):
        write_report(inputs.run, str(tmp_path / "out"), options=ReportOptions(map="umap"))
    assert not (tmp_path / "out").exists()
