"""Hardware shift: a planted shift is found where it is, and nobody is on both sides."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepmami.config import ProbeConfig, ProbeSplitConfig
from sleepmami.config_edit import replace_at
from sleepmami.errors import ConfigError, TableError
from sleepmami.evaluation.device_shift import device_folds
from sleepmami.evaluation.labels import montage_name
from sleepmami.evaluation.probe import run_probe
from tests.unit.evaluation.planted import PlantedNight, write_corpus, write_embeddings

CONFIG = ProbeConfig(
    split=ProbeSplitConfig(kind="device", num_folds=3), penalties=(0.1,), num_resamples=100
)


def nights(turned: str = "c", people: int = 6, *, shared: bool = False) -> list[PlantedNight]:
    """Recorders a, b and c; the vectors of `turned` have their stages in another order."""
    rng = np.random.default_rng(0)
    made = []
    for device in "abc":
        for number in range(people):
            stage = rng.integers(0, 5, 40).astype(np.int8)
            shown = (stage + 2) % 5 if device == turned else stage
            made.append(
                PlantedNight(
                    recording_id=f"{device}{number}",
                    subject_id=f"p{number}" if shared else f"p{device}{number}",
                    cohort=device,
                    macro=np.eye(5)[shown] + 0.1 * rng.normal(size=(40, 5)),
                    hypnogram=stage,
                )
            )
    return made


def figures(folder: Path, made: list[PlantedNight], **changes: Any) -> dict[Any, Any]:
    result = run_probe("staging", write_embeddings(folder, made), [], replace(CONFIG, **changes))
    return {(f.group, f.name): f.estimate.value for f in result.figures}


@pytest.mark.parametrize("shared", [False, True], ids=["people of one recorder", "of all"])
def test_the_matrix_says_which_recorder_differs(tmp_path: Path, shared: bool) -> None:
    found = figures(tmp_path, nights(shared=shared))
    for source in "abc":
        for target in "abc":
            value = found[f"{source}->{target}", "macro_f1"]
            assert (value > 0.95) == ((source == "c") == (target == "c")), (source, target)
    assert found["within", "macro_f1"] > 0.95
    assert found["across", "macro_f1"] == pytest.approx(1 / 3, abs=0.1)  # a<->b of six cells
    assert found["within - across", "macro_f1"] == pytest.approx(
        found["within", "macro_f1"] - found["across", "macro_f1"]
    )
    assert found["others->c", "macro_f1"] < 0.2


def test_a_result_counts_every_epoch_once_and_says_who_slept_with_what(tmp_path: Path) -> None:
    result = run_probe("staging", write_embeddings(tmp_path, nights()), [], CONFIG)
    assert (result.num_subjects, result.num_nights, result.num_rows) == (18, 18, 18 * 40)
    assert result.notes[:3] == tuple(f"{d}: 6 subjects, 6 nights" for d in "abc")
    assert result.confusion is None
    assert {f.group for f in result.folds} == {*"abc", *(f"others than {d}" for d in "abc")}
    assert {(f.num_fit_subjects, f.num_test_subjects) for f in result.folds} == {(4, 6), (8, 6)}


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ab")), min_size=1, max_size=40),
    st.integers(2, 4),
    st.integers(0, 5),
)
def test_nobody_is_ever_on_both_sides_and_everybody_is_tested(
    slept: list[tuple[int, str]], num_folds: int, seed: int
) -> None:
    people, devices = [f"p{p}" for p, _ in slept], [d for _, d in slept]
    try:
        folds = device_folds(people, devices, num_folds, seed)
    except TableError:
        assert min(len({p for p, d in slept if d == device}) for device in devices) < num_folds
        return
    subjects = np.array(people)
    for fold in folds:
        assert not set(subjects[fold.fit_N]) & set(subjects[fold.test_N])
        assert (fold.fit_N ^ fold.test_N).all()
    assert np.sum([fold.test_N for fold in folds], axis=0).tolist() == [1] * len(people)


def test_the_people_of_each_recorder_are_spread_evenly() -> None:
    people = [f"{device}{number}" for device in "ab" for number in range(6)]
    devices = [name[0] for name in people]
    for fold in device_folds(people, devices, 3, 0):
        tested = [device for device, there in zip(devices, fold.test_N, strict=True) if there]
        assert sorted(tested) == ["a", "a", "b", "b"]


def channel(label: str, rate_hz: float, modality: str | None = "EEG") -> dict[str, Any]:
    return {"label": label, "sample_rate_hz": rate_hz, "modality": modality}


def test_a_montage_is_its_channels_and_rates_in_any_order() -> None:
    first = [channel("C4-M1", 256.0), channel("SpO2", 1.0, "SPO2")]
    assert montage_name(first).startswith("C4-M1 256 Hz ")
    assert montage_name(first) == montage_name(first[::-1])
    assert montage_name(first) != montage_name([channel("C4-M1", 128.0), first[1]])


def test_montages_come_from_the_corpus(tmp_path: Path) -> None:
    made = nights()
    for night in made:
        night.channels = [channel(f"EEG {night.cohort}", 100.0)]
    out, corpus = write_embeddings(tmp_path / "o", made), write_corpus(tmp_path / "c", made)
    by_montage = replace(CONFIG, split=replace(CONFIG.split, device="montage"))
    result = run_probe("staging", out, [corpus], by_montage)
    assert len({f.group for f in result.figures}) == 9 + 3 + 3
    with pytest.raises(TableError, match="found no montage of this night"):
        run_probe("staging", out, [], by_montage)


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    out = write_embeddings(tmp_path / "a", nights())
    with pytest.raises(ConfigError, match="is for staging and apnea"):
        run_probe("age", out, [], CONFIG)
    with pytest.raises(ConfigError, match="by many probes"):
        run_probe("staging", out, [], CONFIG, lambda _: None)
    few = replace_at(CONFIG, {"split.num_folds": 7})
    with pytest.raises(TableError, match="found 6 subjects of a; expected at least one for each"):
        run_probe("staging", out, [], few)
    alone = [night for night in nights() if night.cohort == "a"]
    with pytest.raises(TableError, match="the cohort 'a' alone"):
        run_probe("staging", write_embeddings(tmp_path / "b", alone), [], CONFIG)
    with pytest.raises(ConfigError, match=r"split\.device has no effect"):
        ProbeSplitConfig(kind="folds", device="montage")
