"""Models are called by what they are, and one is better only where that is clear."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from sleepmami.errors import TableError
from sleepmami.evaluation.bootstrap import Estimate
from sleepmami.evaluation.results import Figure
from sleepmami.evaluation.stored_results import StoredResult
from sleepmami.report.compared_models import compare_models, comparisons, model_name
from sleepmami.report.result_sections import headline_section

OWN = "sleepmami-1"


def result(
    task: str = "sex",
    level: str = "night",
    model_id: str = OWN,
    value: float = 0.5,
    half: float = 0.05,
    name: str = "auroc",
    file: str = "a.json",
    predictions: str | None = None,
) -> StoredResult:
    estimate = Estimate(value=value, low=value - half, high=value + half)
    return StoredResult(
        file=file,
        predictions=predictions,
        task=task,
        level=level,
        model_id=model_id,
        unit="epoch" if task in ("staging", "apnea") else "night",
        figures=(Figure(name, "", estimate),),
    )


@pytest.mark.parametrize(
    ("level", "model_id", "task", "expected"),
    [
        ("night", OWN, "sex", "Macro"),
        ("macro", OWN, "staging", "Macro"),
        ("macro", OWN, "sex", "Macro, mean of epochs"),
        ("micro", OWN, "sex", "Micro"),
        ("micro", "untrained-0", "sex", "Random Micro"),
        ("night", "band-powers-night-0", "sex", "Band powers"),
        ("macro", "band-powers-night-0", "staging", "Band powers"),
        ("micro", "band-powers-night-0", "staging", "Band powers, epochs alone"),
        ("micro", "other-2", "sex", "other-2 Micro"),
    ],
)
def test_names(level: str, model_id: str, task: str, expected: str) -> None:
    assert model_name(result(task, level, model_id), OWN) == expected


def test_the_runs_models_come_first_and_a_second_result_is_called_by_its_file() -> None:
    compared = compare_models(
        [
            result(model_id="band-powers-night-0"),
            result(level="micro"),
            result(file="x/seed_0.json"),
            result(file="x/seed_1.json"),
        ],
        OWN,
    )
    assert compared.models == ["Macro", "Macro [seed_1]", "Micro", "Band powers"]
    (asked,) = compared.questions
    assert list(asked.results) == compared.models


@pytest.mark.parametrize(
    ("name", "task", "own", "other", "better"),
    [
        ("auroc", "sex", 0.9, 0.6, True),
        ("auroc", "sex", 0.6, 0.9, False),
        ("auroc", "sex", 0.65, 0.6, None),  # intervals overlap
        ("mae", "age", 5.0, 6.0, True),
        ("mae", "age", 6.0, 5.0, False),
        ("auroc", "sex", math.nan, 0.6, None),
    ],
)
def test_without_predictions_only_intervals_that_do_not_overlap_are_clear(
    name: str, task: str, own: float, other: float, better: bool | None
) -> None:
    results = [
        result(task, value=own, name=name),
        result(task, level="micro", value=other, name=name),
    ]
    (one,) = comparisons(compare_models(results, OWN).questions[0])
    assert (one.other, one.better, one.estimate) == ("Micro", better, None)


def test_predictions_of_the_same_people_decide_what_intervals_do_not(tmp_path: Path) -> None:
    rows = "".join(f"r{n},s{n},{20 + n},{20 + n + (-1) ** n * n}\n" for n in range(20))
    worse = "".join(f"r{n},s{n},{20 + n},{20 + n + (-1) ** n * (n + 1)}\n" for n in range(20))
    files = []
    for name, table in (("one", rows), ("other", worse)):
        files.append(tmp_path / f"{name}.csv")
        files[-1].write_text("recording_id,subject_id,truth,guess\n" + table)
    results = [
        result("age", value=9.5, half=3, name="mae", predictions=str(files[0])),
        result("age", "micro", value=10.5, half=3, name="mae", predictions=str(files[1])),
    ]
    (one,) = comparisons(compare_models(results, OWN).questions[0])
    assert one.estimate is not None
    assert (one.better, one.num_subjects, one.estimate.value) == (True, 20, -1)


def test_results_of_other_people_decide_nothing(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.csv" for name in ("one", "other")]
    for number, file in enumerate(files):
        rows = "".join(f"r{number}{n},s{number}{n},{n},{n + number}\n" for n in range(20))
        file.write_text("recording_id,subject_id,truth,guess\n" + rows)
    tables = [
        result("age", value=1, name="mae", predictions=str(files[0])),
        result("age", "micro", value=9, name="mae", predictions=str(files[1])),
    ]
    numbers = [
        replace(result("age", value=1, name="mae"), num_subjects=20),
        replace(result("age", "micro", value=9, name="mae"), num_subjects=15),
    ]
    for results in (tables, numbers):
        compared = compare_models(results, OWN)
        (one,) = comparisons(compared.questions[0])
        assert (one.better, one.estimate, one.other_people) == (None, None, True)
        assert headline_section(compared).findings == [
            "Macro against Micro: tested on other people in age."
        ]
    (best,) = headline_section(compare_models(numbers, OWN)).tables[0].rows
    assert not any(cell.strong for cell in best)


def test_how_many_people_two_results_have_in_common_is_said(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.csv" for name in ("one", "other")]
    for number, file in enumerate(files):
        rows = "".join(f"r{n},s{n},{n},{n + 1 + number}\n" for n in range(10 * number, 20))
        file.write_text("recording_id,subject_id,truth,guess\n" + rows)
    results = [
        replace(result("age", level, value=1, name="mae", predictions=str(file)), num_subjects=20)
        for level, file in zip(("night", "micro"), files, strict=True)
    ]
    table = headline_section(compare_models(results, OWN)).tables[1]
    assert table.rows[0][1].text.endswith(", 10 in common")


def test_a_guess_that_is_no_number_is_refused_by_its_files(tmp_path: Path) -> None:
    file = tmp_path / "one.csv"
    file.write_text("recording_id,subject_id,truth,guess\nr1,s1,20,twenty\n")
    results = [result("age", level, predictions=str(file)) for level in ("night", "micro")]
    with pytest.raises(TableError, match=r"one\.csv.*twenty"):
        comparisons(compare_models(results, OWN).questions[0])


def test_apnea_by_epoch_and_by_second_are_two_questions() -> None:
    by_second = StoredResult(file="b", predictions=None, task="apnea", level="second",
                             unit="second", model_id=OWN)  # fmt: skip
    compared = compare_models([result("apnea", "macro", name="macro_f1"), by_second], OWN)
    titles = [asked.title for asked in compared.questions]
    assert titles == ["Apnea and hypopnea, by epoch", "Apnea and hypopnea, by second"]


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(TableError, match="dreams"):
        compare_models([result("dreams")], OWN)
