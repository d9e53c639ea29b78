"""The matrix of missing modalities: by hand, with planted modalities, and its JSON."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from sleepmami.config import ApneaConfig, EmbedConfig, MissingConfig, ProbeConfig
from sleepmami.errors import CheckpointError, ConfigError
from sleepmami.evaluation import missing
from sleepmami.evaluation.embeddings import ProbeNight
from sleepmami.evaluation.linear_probe import LinearProbe
from sleepmami.evaluation.missing import SUBSETS, WHOLE, NightTally, SubsetVectors, cosines
from sleepmami.evaluation.missing import TestNight as AskedNight
from sleepmami.psg import MODALITIES, Modality

CONFIG = MissingConfig(probe=ProbeConfig(num_resamples=100))
D = 5


def probe(weight_FO: Any, mean_F: Any) -> LinearProbe:
    return LinearProbe(
        mean_F=np.asarray(mean_F, np.float32),
        scale_F=np.ones(len(mean_F), np.float32),
        weight_FO=np.asarray(weight_FO, np.float64),
        bias_O=np.zeros(5),
    )


def eeg_knows(number: int, fill: missing.Fill = "mean") -> NightTally:
    """A night whose EEG block is its stage, one-hot; the five other blocks are noise nobody reads.

    Macro's vectors are the stage if EEG is there, else always N2.
    """
    rng = np.random.default_rng(number)
    stage_L = rng.integers(0, 5, 40)
    block_LMD = rng.normal(size=(40, 6, D)).astype(np.float32)
    block_LMD[:, 0] = np.eye(5)[stage_L]
    weight = np.zeros((6 * D, 5))
    weight[:D] = np.eye(5)
    micro = probe(weight, np.full(6 * D, 0.2))
    night = AskedNight(
        recording_id=f"r{number}",
        target_L=stage_L,
        probes=(micro, probe(np.eye(5), np.zeros(5))),
    )
    tally = NightTally(night, fill)
    for subset in (WHOLE, *range(WHOLE)):
        there_M = np.array([m in SUBSETS[subset] for m in MODALITIES])
        valid_LM = np.repeat(there_M[None], 40, 0)
        macro = np.eye(5)[stage_L if there_M[0] else np.full(40, 2)].astype(np.float32)
        vectors = SubsetVectors(
            micro_LMD=block_LMD * there_M[:, None],
            valid_LM=valid_LM,
            macro_LF=macro,
            night_F=np.array([1.0, float(there_M[0])]),
        )
        tally.add(subset, vectors)
    return tally


def matrix(tallies: list[NightTally]) -> list[dict[str, Any]]:
    nights = [
        ProbeNight(recording_id=f"r{n}", num_epochs=40, subject_id=f"s{n // 2}")
        for n in range(len(tallies))
    ]
    counts, cosine = (
        np.stack([getattr(tally, name) for tally in tallies]) for name in ("counts", "cosine")
    )
    return missing.matrix(nights, counts, cosine, CONFIG)


def test_there_are_all_subsets_once_and_the_whole_is_last() -> None:
    assert len(set(SUBSETS)) == 2**6 - 1
    assert SUBSETS[WHOLE] == MODALITIES


def test_the_one_modality_that_knows_the_stage_is_found() -> None:
    entries = matrix([eeg_knows(number) for number in range(6)])
    assert [tuple(e["modalities"]) for e in entries] == list(SUBSETS)
    for entry in entries:
        knows = "EEG" in entry["modalities"]
        for level in ("micro", "macro"):
            f1 = entry[level]["macro_f1"]
            assert f1["value"] == 1 if knows else f1["high"] < 0.3
            expected = 0 if knows else f1["value"] - 1
            assert entry[level]["macro_f1_change"]["value"] == pytest.approx(expected)
        assert (entry["num_epochs"], entry["num_subjects"]) == (240, 3)
        assert entry["micro"]["cosine"]["value"] == pytest.approx(1)  # no block changes here
        expected = 1 if knows else 1 / np.sqrt(2)
        assert entry["night"]["cosine"]["value"] == pytest.approx(expected)


def test_the_block_of_a_missing_modality_is_its_mean_or_zero() -> None:
    """With the mean it says nothing, and the other classes decide; the first is guessed at a tie.

    With zeros, 0.2 below the mean in every class alike, the same guess is made of other numbers:
    so a class whose mean is larger is pushed away.
    """
    weight = np.zeros((6 * D, 5))
    weight[0, 3] = -1.0  # N3 where the first number is below its mean of 0.2
    found = {}
    for fill in ("mean", "zero"):
        night = AskedNight(
            recording_id="r",
            target_L=np.array([0, 0]),
            probes=(probe(weight, np.full(6 * D, 0.2)), probe(np.eye(5), np.zeros(5))),
        )
        tally = NightTally(night, fill)  # type: ignore[arg-type]
        vectors = SubsetVectors(
            micro_LMD=np.zeros((2, 6, D), np.float32),
            valid_LM=np.repeat(np.arange(6)[None] > 0, 2, 0),
            macro_LF=np.eye(5, dtype=np.float32)[:2],
            night_F=np.ones(2),
        )
        tally.add(WHOLE, vectors)
        found[fill] = tally.counts[WHOLE, 0, 0].tolist()
    assert found == {"mean": [2, 0, 0, 0, 0], "zero": [0, 0, 0, 2, 0]}


def test_epochs_without_a_signal_or_a_stage_are_not_asked() -> None:
    night = AskedNight(
        recording_id="r",
        target_L=np.array([0, -1, 2, 3]),
        probes=(probe(np.zeros((6 * D, 5)), np.zeros(6 * D)), probe(np.eye(5), np.zeros(5))),
    )
    tally = NightTally(night, "mean")
    valid_LM = np.zeros((4, 6), np.bool_)
    valid_LM[:3, 1] = True
    block_LMD = np.where(valid_LM[..., None], 1.0, 0.0) * np.ones(D)
    macro = np.eye(5, dtype=np.float32)[[0, 1, 2, 3]]
    vectors = SubsetVectors(
        micro_LMD=block_LMD, valid_LM=valid_LM, macro_LF=macro, night_F=np.ones(2)
    )
    tally.add(WHOLE, vectors)
    assert tally.counts[WHOLE, 1].sum() == 2
    assert np.diagonal(tally.counts[WHOLE, 1]).tolist() == [1, 0, 1, 0, 0]
    assert tally.cosine[WHOLE, :, 1].tolist() == [3, 3, 1]


def test_a_night_without_a_modality_is_asked_nothing_by_it_alone() -> None:
    night = AskedNight(
        recording_id="r",
        target_L=np.array([0, 1]),
        probes=(probe(np.zeros((6 * D, 5)), np.zeros(6 * D)), probe(np.eye(5), np.zeros(5))),
    )
    tally = NightTally(night, "mean")
    for subset, valid_LM in ((WHOLE, np.ones((2, 6), np.bool_)), (0, np.zeros((2, 6), np.bool_))):
        tally.add(
            subset,
            SubsetVectors(
                micro_LMD=np.zeros((2, 6, D), np.float32),
                valid_LM=valid_LM,
                macro_LF=np.zeros((2, 5), np.float32),
                night_F=np.zeros(2),
            ),
        )
    assert tally.counts[:, 0].sum((1, 2))[[0, WHOLE]].tolist() == [0, 2]
    assert not tally.cosine[0].any()


def test_a_subset_that_no_night_has_is_null_and_the_rest_is_not() -> None:
    tallies = [eeg_knows(number) for number in range(4)]
    spo2 = SUBSETS.index((Modality.SPO2,))
    for tally in tallies:
        tally.counts[spo2], tally.cosine[spo2] = 0, 0
    entries = matrix(tallies)
    json.dumps(entries, allow_nan=False)
    assert entries[spo2]["num_epochs"] == entries[spo2]["num_subjects"] == 0
    assert entries[spo2]["micro"]["macro_f1"]["value"] is None
    others = [e["micro"]["macro_f1"]["value"] for n, e in enumerate(entries) if n != spo2]
    assert None not in others


def test_a_vector_that_is_not_finite_is_named() -> None:
    tally = eeg_knows(0)
    vectors = SubsetVectors(
        micro_LMD=np.full((40, 6, D), np.nan),
        valid_LM=np.ones((40, 6), np.bool_),
        macro_LF=np.zeros((40, 5)),
        night_F=np.zeros(2),
    )
    place = SUBSETS.index((Modality.EEG, Modality.ECG))
    with pytest.raises(CheckpointError, match=r"^r0: EEG\+ECG: found micro_LMD that is not finite"):
        tally.add(place, vectors)


def test_cosines_by_hand() -> None:
    one = np.array([[1.0, 0], [3, 4], [0, 0], [1, 1]], np.float32)
    other = np.array([[0.0, 2], [6, 8], [1, 1], [-2, -2]], np.float32)
    np.testing.assert_allclose(cosines(one, other), [0, 1, 0, -1], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"probe": ProbeConfig(level="micro")}, "level"),
        ({"probe": ProbeConfig(apnea=ApneaConfig(unit="second"))}, "apnea"),
        ({"probe": ProbeConfig(outcomes=("mi",))}, "outcomes"),
        ({"embed": EmbedConfig(nights_per_commit=3)}, "nights_per_commit"),
    ],
)
def test_a_setting_without_effect_is_refused(change: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} has no effect"):
        MissingConfig(**change)


def test_the_result_says_what_made_it() -> None:
    class Known:
        uri, model_id, weights_sha256 = "cohort", "untrained-0", "ab"

    nights = tuple(
        ProbeNight(recording_id=f"r{n}", num_epochs=4, subject_id=f"s{n // 2}", split="train")
        for n in range(4)
    )
    plan = missing.MissingPlan(labelled=nights, nights=nights, tests=(), left_out=Counter(x=1))
    found = missing.result(Known(), "corpus", plan, [], CONFIG)  # type: ignore[arg-type]
    json.dumps(found, allow_nan=False)
    assert (found["num_subjects"], found["num_nights"], found["left_out"]) == (2, 4, {"x": 1})
    assert found["notes"] == ["the encoder was never trained: its weights are random"]
    Known.model_id = "sleepmami-0"
    found = missing.result(Known(), "corpus", plan, [], CONFIG)  # type: ignore[arg-type]
    assert found["notes"][0].startswith("4 of 4 tested nights are in split train")
