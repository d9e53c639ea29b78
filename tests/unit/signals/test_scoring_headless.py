"""Tables without a header: psg_utils, EDFbrowser and Grass Twin; the rows are made up."""

import pytest

from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.psg import EventKind, ScoredEvent
from sleepmami.signals.scorings import Scoring, read_scoring

CLOCK_S = 22 * 3600
W, N1, N2, N3, REM, UNKNOWN = 0, 1, 2, 3, 4, -1


def scored(text: str, num_epochs: int = 8, clock_s: int | None = CLOCK_S) -> Scoring:
    return read_scoring(text.encode(), num_epochs, name="night.txt", clock_s=clock_s)


def stages(text: str, clock_s: int | None = CLOCK_S) -> list[int]:
    hypnogram = scored(text, clock_s=clock_s).hypnogram
    assert hypnogram is not None
    return hypnogram.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "0,60,W\n60,30,N1\n90,120,N2\n210,30,REM\n",  # start, length
        "0,60,W\n60,90,N1\n90,210,N2\n210,240,REM\n",  # start, end
        "0\t60\tSleep stage W\n60\t30\tSleep stage 1\n90\t120\tSleep stage 2\n210\t30\tSleep stage R\n",
        '0,0;60,0;"W"\n60,0;30,0;"N1"\n90,0;120,0;"N2"\n210,0;30,0;"R"\n',
        "0 60 0\n60 30 1\n90 120 2\n210 30 5\n",  # a 5 without a 4: REM
        "2001-01-01T22:00:00.000000,60,W\n2001-01-01T22:01:00.000000,30,N1\n"
        "2001-01-01T22:01:30.000000,120,N2\n2001-01-01T22:03:30.000000,30,R\n",
    ],
)
def test_start_length_or_end_and_stage(text: str) -> None:
    assert stages(text) == [W, W, N1, N2, N2, N2, N2, REM]


def test_events_lie_where_their_numbers_say() -> None:
    found = scored("12.5,10.25,Hypopnea\n40,14,Central Apnea\n30,0,a remark on the patient\n")
    assert found.hypnogram is None
    assert found.events == (
        ScoredEvent(start_s=12.5, duration_s=10.25, kind=EventKind.HYPOPNEA),
        ScoredEvent(start_s=40.0, duration_s=14.0, kind=EventKind.CENTRAL_APNEA),
    )


def test_numbers_that_may_be_lengths_or_ends_are_refused() -> None:
    with pytest.raises(RecordingError, match="a length or an end") as caught:
        scored("10,25,Hypopnea\n40,55,Hypopnea\n")
    assert caught.value.code == RecordingCode.ANNOTATION_INVALID


TWIN = (
    "22:00:00.00\tSTART RECORDING\n"
    "22:00:00.00\tSTAGE - W\n"
    "22:01:00.00\tSTAGE - N1\n"
    "22:01:12.50\tRESPIRATORY EVENT - DUR: 12.3 SEC. - HYPOPNEA - DESAT 3.0 %\n"
    "22:01:30.00\tSTAGE - N2\n"
    "22:02:05.00\tAROUSAL - DUR: 5.0 SEC. - SPONTANEOUS\n"
    "22:02:30.00\tSTAGE - R\n"
)


def test_a_stage_of_a_list_of_changes_lasts_until_the_next_stage_not_the_next_event() -> None:
    assert stages(TWIN) == [W, W, N1, N2, N2, REM, UNKNOWN, UNKNOWN]
    assert scored(TWIN).events == (
        ScoredEvent(start_s=72.5, duration_s=pytest.approx(12.3), kind=EventKind.HYPOPNEA),
        ScoredEvent(start_s=125.0, duration_s=5.0, kind=EventKind.AROUSAL),
    )


def test_times_of_day_need_the_clock_of_the_recording() -> None:
    with pytest.raises(RecordingError, match="does not say when it starts"):
        scored(TWIN, clock_s=None)


def test_a_list_of_remarks_is_no_scoring() -> None:
    with pytest.raises(RecordingError, match="annotation_invalid"):
        scored("22:00:00\tlights off\n22:10:00\tpatient moves\n")
