"""Scorings that would make a plausible hypnogram with wrong or missing stages, if nobody looked."""

import pytest

from sleepmami.errors import RecordingError
from sleepmami.psg import EventKind, Stage
from sleepmami.signals.edf import Annotation
from sleepmami.signals.events import event_of_text
from sleepmami.signals.scorings import hypnogram_from_annotations, read_scoring
from sleepmami.signals.stage_words import stage_of_text

UNKNOWN, WAKE, N1, N2, N3, REM = (int(stage) for stage in Stage)
NIGHT = ["W"] * 4 + ["N1"] * 2 + ["N2"] * 8 + ["N3"] * 4 + ["R"] * 2
CODES = {"W": WAKE, "N1": N1, "N2": N2, "N3": N3, "R": REM}


def stages(text: str, num_epochs: int = len(NIGHT)) -> list[int]:
    hypnogram = read_scoring(text.encode(), num_epochs, name="night.csv").hypnogram
    assert hypnogram is not None
    return hypnogram.tolist()


def refusal(text: str, num_epochs: int = len(NIGHT)) -> str:
    with pytest.raises(RecordingError, match="annotation_invalid") as caught:
        read_scoring(text.encode(), num_epochs, name="night.csv")
    return caught.value.found


def table(header: str, *rows: object) -> str:
    return "\n".join([header, *map(str, rows)])


def test_stages_of_which_only_some_words_are_known_are_refused() -> None:
    words = {"W": "awake", "N1": "light", "N2": "light", "N3": "deep", "R": "rem"}
    text = table("epoch,stage", *(f"{n},{words[s]}" for n, s in enumerate(NIGHT, start=1)))
    assert refusal(text) == "14 of 20 sleep stages in unknown words ['deep', 'light']"


def test_a_few_remarks_among_stages_are_passed_over() -> None:
    rows = [f"{n},{s}" for n, s in enumerate(NIGHT, start=1)]
    rows[3] = "4,technician in the room"
    assert stages(table("epoch,stage", *rows)) == [*map(CODES.get, NIGHT[:3]), UNKNOWN] + [
        CODES[s] for s in NIGHT[4:]
    ]


@pytest.mark.parametrize("unit", [6000, 30_000, 0.5])  # samples at 200 Hz, milliseconds, minutes
def test_times_that_are_no_seconds_are_refused(unit: float) -> None:
    rows = (f"{n * unit},{(n + 1) * unit},{s}" for n, s in enumerate(NIGHT))
    assert refusal(table("start,stop,stage", *rows)) == f"20 stages that typically last {unit:g} s"


def test_a_few_long_stages_are_no_error() -> None:
    assert (
        stages("onset,duration,stage\n0,6000,W\n6000,6000,N2\n", 400) == [WAKE] * 200 + [N2] * 200
    )


@pytest.mark.parametrize("title", ["[hypnogram]", "[Hypnogram]", "[hypnogramR&K]"])
def test_dreams_lists_are_known_by_any_of_their_titles(title: str) -> None:
    codes = {"W": 5, "N1": 3, "N2": 2, "N3": 1, "R": 4}
    text = table(title, *(codes[s] for s in NIGHT for _ in range(6)))
    assert stages(text) == [CODES[s] for s in NIGHT]


def test_edf_stages_written_only_where_they_change_last_until_the_next() -> None:
    marks = [Annotation(150.0 * n, 0.0, f"Sleep stage {'W12R'[n % 4]}") for n in range(12)]
    hypnogram = hypnogram_from_annotations(marks, 60)
    assert hypnogram is not None
    changes = [WAKE, N1, N2, REM] * 3
    assert hypnogram.tolist()[:55] == [stage for stage in changes[:11] for _ in range(5)]
    assert hypnogram.tolist()[55:] == [REM] + [UNKNOWN] * 4  # nobody knows until when


def test_edf_stages_without_duration_every_twenty_seconds_are_steps_of_twenty() -> None:
    marks = [Annotation(20.0 * n, 0.0, f"Sleep stage {'W' if n < 15 else '2'}") for n in range(30)]
    hypnogram = hypnogram_from_annotations(marks, 20)
    assert hypnogram is not None
    assert hypnogram.tolist() == [WAKE] * 10 + [N2] * 10


@pytest.mark.parametrize(
    ("text", "stage"),
    [("Fase 1", Stage.N1), ("Estadio N2", Stage.N2), ("Est\u00e1gio 3", Stage.N3), ("Etapa REM", Stage.REM),
     ("Faza 4", Stage.N3), ("Stadio W", Stage.WAKE), ("Sue\u00f1o REM", Stage.REM), ("Veglia", Stage.WAKE),
     ("Czuwanie", Stage.WAKE), ("Slow wave sleep", Stage.N3), ("S3+S4", Stage.N3)],
)  # fmt: skip
def test_stages_in_more_languages(text: str, stage: Stage) -> None:
    assert stage_of_text(text, bare=True) is stage


@pytest.mark.parametrize("text", ["Fase", "Fase transitoria", "Etapas", "Estadio final"])
def test_a_word_for_stage_alone_is_none(text: str) -> None:
    assert stage_of_text(text, bare=True) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [("Obstructieve apneu", EventKind.OBSTRUCTIVE_APNEA), ("Gemengde apneu", EventKind.MIXED_APNEA),
     ("Hypopneu", EventKind.HYPOPNEA), ("Bezdech centralny", EventKind.CENTRAL_APNEA),
     ("Bezdech obturacyjny", EventKind.OBSTRUCTIVE_APNEA), ("Bezdech mieszany", EventKind.MIXED_APNEA),
     ("Sp\u0142ycenie oddechu", EventKind.HYPOPNEA), ("Wybudzenie", EventKind.AROUSAL)],
)  # fmt: skip
def test_events_in_dutch_and_polish(text: str, kind: EventKind) -> None:
    assert event_of_text(text) is kind
