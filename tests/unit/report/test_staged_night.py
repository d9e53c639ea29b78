"""One night's picture: what was scored, what is guessed, where it is unsure and where wrong."""

import numpy as np
import pytest

from sleepmami.errors import TableError
from sleepmami.evaluation.predictions import Predictions
from sleepmami.psg import Stage
from sleepmami.report.pictures import LIGHT
from sleepmami.report.staged_night import staged_night_figure, staged_nights, typical
from tests.unit.evaluation.csv_tables import as_predictions

COLUMNS = ("p_WAKE", "p_N1", "p_N2", "p_N3", "p_REM")


def predictions(*rows: tuple[str, int, str, str, float]) -> dict[str, list[str]]:
    """Recording, epoch, truth, guess and the guess's probability; N1 has the rest."""
    table: dict[str, list[str]] = {
        name: [] for name in ("recording_id", "subject_id", "epoch", "truth", "guess", *COLUMNS)
    }
    for recording, epoch, truth, guess, likely in rows:
        values = dict.fromkeys(COLUMNS, 0.0) | {"p_N1": 1 - likely} | {f"p_{guess}": likely}
        row = {"recording_id": recording, "subject_id": "s", "epoch": epoch, **values}
        row |= {"truth": truth, "guess": guess}
        for name, value in row.items():
            table[name].append(str(value))
    return table


def predicted(*rows: tuple[str, int, str, str, float]) -> Predictions:
    return as_predictions(predictions(*rows))


ONE = predictions(
    ("r", 2, "N2", "N2", 0.9), ("r", 3, "N3", "N2", 0.45), ("r", 5, "REM", "REM", 0.8)
)


def test_epochs_that_were_not_asked_stay_empty() -> None:
    (night,) = staged_nights(as_predictions(ONE))
    unknown = Stage.UNKNOWN
    assert night.truth.tolist() == [unknown, unknown, Stage.N2, Stage.N3, unknown, Stage.REM]
    assert night.wrong.tolist() == [False, False, False, True, False, False]
    assert np.flatnonzero(night.asked).tolist() == [2, 3, 5]


def test_the_finding_says_whether_doubt_tells() -> None:
    (night,) = staged_nights(predicted(
        ("r", 0, "N2", "N2", 0.9), ("r", 1, "N3", "N2", 0.55), ("r", 2, "WAKE", "REM", 0.9), ("r", 3, "N2", "N2", 0.9)
    ))  # fmt: skip
    assert night.finding() == "r: 50% of 4 epochs as scored; 0 epochs are unsure (below 50%)."
    table = ONE | {name: list(ONE[name]) for name in COLUMNS}
    table["p_N1"][1] = "0.30"
    (night,) = staged_nights(as_predictions(table))
    assert night.unsure.tolist() == [False, False, False, True, False, False]
    assert "1 epochs are unsure (below 50%), of which 100% are wrong, against 0%" in night.finding()


def test_wrong_and_unsure_epochs_are_marked_where_they_are() -> None:
    table = ONE | {"p_N1": ["0.1", "0.3", "0.2"]}
    (night,) = staged_nights(as_predictions(table))
    figure = staged_night_figure(night, LIGHT)
    wrong, unsure = figure.axes[1].lines
    assert wrong.get_xdata().tolist() == unsure.get_xdata().tolist() == [3.5 * 30 / 3600]
    assert figure.axes[0].get_xlim() == pytest.approx((2 * 30 / 3600, 6 * 30 / 3600))


def test_a_night_without_doubt_leaves_no_gap_where_its_marks_would_be() -> None:
    (night,) = staged_nights(predicted(("r", 0, "N2", "N2", 0.9), ("r", 1, "N3", "N2", 0.9)))
    figure = staged_night_figure(night, LIGHT)
    figure.draw_without_rendering()
    _, middle, bottom = (axes.get_position() for axes in figure.axes)
    assert 0 < middle.y0 - bottom.y1 < 0.15


def test_a_typical_night_is_of_median_accuracy() -> None:
    nights = staged_nights(predicted(
        ("best", 0, "N2", "N2", 0.9), ("worst", 0, "N2", "N3", 0.9),
        ("middle", 0, "N2", "N2", 0.9), ("middle", 1, "N2", "N3", 0.9),
    ))  # fmt: skip
    assert typical(nights).recording_id == "middle"


def test_predictions_of_something_else_are_refused() -> None:
    with pytest.raises(TableError, match="p_N1"):
        staged_nights(
            as_predictions({name: ONE[name] for name in ONE if not name.startswith("p_")})
        )
    with pytest.raises(TableError, match="DEEP"):
        staged_nights(as_predictions(ONE | {"truth": ["N2", "DEEP", "REM"]}))
