"""Luna's `.annot`: every way of saying when, by the example in its documentation, and class names.

The example's recording starts at 21:23:23; its interval is 120 to 150 s, epoch 5.
"""

import pytest

from sleepmami.psg import EventKind, ScoredEvent
from sleepmami.signals.scorings import Scoring, read_scoring

CLOCK_S = 21 * 3600 + 23 * 60 + 23
N1, N2, REM, UNKNOWN = 1, 2, 4, -1


def luna(*lines: str, num_epochs: int = 8) -> Scoring:
    text = "\n".join(lines) + "\n"
    return read_scoring(text.encode(), num_epochs, name="night.annot", clock_s=CLOCK_S)


def stages(*lines: str) -> list[int]:
    hypnogram = luna(*lines).hypnogram
    assert hypnogram is not None
    return hypnogram.tolist()


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        ("e:5", "."),
        ("e:5", "e:5"),
        ("e:30:5", "e:30:5"),
        ("e:30:15:9", "e:30:15:9"),  # epochs of 30 s that start every 15 s
        ("120", "150"),
        ("120", "+30"),
        ("21:25:23", "21:25:53"),
        ("9:25:23pm", "9:25:53pm"),
        ("9:25:23 pm", "9:25:53 pm"),
        ("21:25:23", "+30"),
        ("0+00:02:00", "0+00:02:30"),
        ("0+00:02:00", "+30"),
        ("e:00:02:00", "e:00:02:30"),
        ("29-07-16-21:25:23", "29-07-16-21:25:53"),
        ("29-Jul-2016-21:25:23", "+30"),
        ("29/07/2016-21:25:23.000", "+30.0"),
    ],
)
@pytest.mark.parametrize("layout", ["N2\t.\t{}\t{}", "N2\t.\tC4\t{}\t{}\t.", "N2\t{}\t{}"])
def test_every_way_of_saying_when_is_the_fifth_epoch(start: str, stop: str, layout: str) -> None:
    expected = [UNKNOWN] * 4 + [N2] + [UNKNOWN] * 3
    assert stages("# N2", layout.format(start, stop)) == expected


def test_an_ellipsis_lasts_until_the_next_line_and_the_last_one_until_the_end() -> None:
    found = stages("N1\t.\t.\t0\t...\t.", "N2\t.\t.\t60\t...\t.", "R\t.\t.\t150\t...\t.")
    assert found == [N1, N1, N2, N2, N2, REM, REM, REM]


@pytest.mark.parametrize("header", ["class\tinstance\tchannel\tstart\tstop\tmeta", "# no header"])
def test_instances_say_which_stage_and_which_apnea(header: str) -> None:
    scoring = luna(
        header,
        "sleep_stage\tN2\t.\t0\t30\t.",
        "SS\tR\t.\t30\t60\t.",
        "apnea\tobstructive\tflow\t10\t+15.5\tdesat=3",
        "apnea_central\t.\tflow\t31\t45\t.",
        "arousal\tspontaneous\tC4\t40\t43\t.",
        "hypopnea\tHYP\tflow\t50\t+12\t.",
    )
    assert scoring.hypnogram is not None
    assert scoring.hypnogram.tolist() == [N2, REM] + [UNKNOWN] * 6
    assert scoring.events == (
        ScoredEvent(start_s=10.0, duration_s=15.5, kind=EventKind.OBSTRUCTIVE_APNEA),
        ScoredEvent(start_s=31.0, duration_s=14.0, kind=EventKind.CENTRAL_APNEA),
        ScoredEvent(start_s=40.0, duration_s=3.0, kind=EventKind.AROUSAL),
        ScoredEvent(start_s=50.0, duration_s=12.0, kind=EventKind.HYPOPNEA),
    )


def test_columns_may_be_separated_by_blanks() -> None:
    assert stages("N1 . . 0 30 .", "N2 . . 30 60 .")[:3] == [N1, N2, UNKNOWN]
