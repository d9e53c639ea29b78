"""Stage names, and bare numbers that may mean several things."""

import pytest

from sleepmami.psg import Stage
from sleepmami.signals.stage_words import codes_by_key, codes_that_fit, stage_of_text

W, N1, N2, N3, REM = Stage.WAKE, Stage.N1, Stage.N2, Stage.N3, Stage.REM


@pytest.mark.parametrize(
    ("codes", "stages"),
    [
        ([0], [W]),  # 0 is wake in all of them
        ([0, 9, -1, 7], [W]),  # the others are unscored in all of them
        ([0, 1, 2, 3, 5], [W, N1, N2, N3, REM]),  # a 5 without a 4 is the NSRR's or ISRUC's
        ([2, 3, 5], [N2, N3, REM]),
        ([0, 1], None),  # 1 is N1 or, at St. Vincent's, REM
        ([0, 1, 2, 3], None),
        ([0, 1, 2, 3, 4], None),  # 4 is S4, REM or S3
        ([0, 1, 2, 3, 4, 5], None),  # REM is 5 or 1
    ],
)
def test_numbers_are_believed_when_all_systems_that_fit_agree(
    codes: list[int], stages: list[Stage] | None
) -> None:
    system = codes_that_fit(codes)
    found = None if system is None else [system[code] for code in codes if 0 <= code < 6]
    assert found == stages


def test_a_key_in_a_comment_says_what_numbers_mean() -> None:
    key = codes_by_key("# 0=W, 1: REM, 2 = N1 3=S2 4=N3 7=Artifact")
    assert key == {0: W, 1: REM, 2: N1, 3: N2, 4: N3, 7: Stage.UNKNOWN}
    assert codes_by_key("# recorded 2001: night 2 of 5") is None


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("SLEEP-S0", W), ("SLEEP-S4", N3), ("SLEEP-REM", REM), ("SLEEP-MT", Stage.UNKNOWN),
        ("Wach", W), ("Stadium 2", N2), ("Éveil", W), ("NonREM3", N3), ("Stage 1 sleep", N1),
        ("REM sleep", REM), ("SDO:WakeState", W), ("sleep_stage_n2", N2), ("Sleep stage 3/4", N3),
        ("SLEEP-N2", N2), ("Sleep-wake", W), ("Wake|0", W), ("Stage 4 sleep|4", N3), ("N3 sleep", N3),
        ("Schlafstadium N1", N1), ("Sommeil paradoxal", REM), ("Schlafstadium ?", Stage.UNKNOWN),
        ("sleep", None), ("Arousal|2", None), ("Stage 3/4 shift", None), ("A", None), ("3", None),
    ],
)  # fmt: skip
def test_names(text: str, stage: Stage | None) -> None:
    assert stage_of_text(text, bare=True) is stage
