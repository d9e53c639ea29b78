"""Probes of each subset: who is fitted on, what a fixed probe cannot do, and files of both."""

import dataclasses
import io
from collections import Counter
from typing import Any

import numpy as np
import pytest

from sleepmami.config import MissingConfig, ProbeConfig
from sleepmami.errors import CheckpointError, ConfigError
from sleepmami.evaluation import missing, missing_refit
from sleepmami.evaluation.embeddings import ProbeNight
from sleepmami.evaluation.folds import Fold
from sleepmami.evaluation.linear_probe import LinearProbe
from sleepmami.evaluation.missing import SUBSETS, WHOLE, NightTally, SubsetVectors
from sleepmami.evaluation.missing import TestNight as AskedNight
from sleepmami.psg import MODALITIES, Modality

D, NUM_NIGHTS, NUM_EPOCHS = 5, 8, 60
PROBE = ProbeConfig(penalties=(1e-3,), num_resamples=100, class_weights="none")
ECG = SUBSETS.index((Modality.ECG,))
EEG, SPO2 = SUBSETS.index((Modality.EEG,)), SUBSETS.index((Modality.SPO2,))
EEG_ECG = SUBSETS.index((Modality.EEG, Modality.ECG))


def stages(number: int) -> np.ndarray:
    stage_L = np.random.default_rng(number).integers(0, 5, NUM_EPOCHS)
    stage_L[:3] = -1
    return stage_L


def vectors(number: int, subset: int) -> SubsetVectors:
    """The EEG's block is the stage where the EEG is not alone; alone it is another code of it.

    Macro's vector is the same. No night has an SpO2. In the last ten epochs there is no ECG.
    """
    stage_L, own = np.maximum(stages(number), 0), SUBSETS[subset]
    valid_LM = np.repeat(np.isin(MODALITIES, own)[None], NUM_EPOCHS, 0)
    valid_LM[:, MODALITIES.index(Modality.SPO2)] = False
    valid_LM[-10:, MODALITIES.index(Modality.ECG)] = False
    code_L = stage_L if len(own) > 1 else (stage_L + 1) % 5
    block_LMD = np.zeros((NUM_EPOCHS, 6, D), np.float32)
    if Modality.EEG in own:
        block_LMD[:, 0] = np.eye(D)[code_L]
    return SubsetVectors(
        micro_LMD=block_LMD, valid_LM=valid_LM, macro_LF=block_LMD[:, 0], night_F=np.ones(2)
    )


def plan() -> missing.MissingPlan:
    nights = tuple(
        ProbeNight(recording_id=f"r{n}", num_epochs=NUM_EPOCHS, subject_id=f"s{n}")
        for n in range(NUM_NIGHTS)
    )
    even = np.arange(NUM_NIGHTS) % 2 == 0
    return missing.MissingPlan(
        labelled=nights,
        nights=nights,
        tests=(),
        left_out=Counter(),
        targets=tuple(stages(number) for number in range(NUM_NIGHTS)),
        folds=(Fold(fit_N=even, test_N=~even), Fold(fit_N=~even, test_N=even)),
    )


def probes_of(subset: int, lost: int = -1) -> list[missing.SubsetProbe]:
    """Fitted by the way through the files; the night `lost` has none."""
    asked = plan()
    nights = missing_refit.fit_nights(asked, 50, PROBE)
    files = {}
    for number, night in nights.items():
        buffer = io.BytesIO()
        arrays: dict[str, Any] = missing_refit.sample_of(night, subset, vectors(number, subset))
        np.savez(buffer, **arrays)
        files[number] = buffer.getvalue()

    def read(number: int, subset: int) -> missing_refit.SubsetSample | None:
        if number == lost:
            return None
        with np.load(io.BytesIO(files[number])) as stored:
            return missing_refit.read_sample(stored, subset)

    return missing_refit.fit_subset(subset, asked, nights, read, PROBE)


def test_epochs_to_fit_on_are_scored_ones_and_no_more_than_asked() -> None:
    found = missing_refit.fit_nights(plan(), 20, PROBE)
    assert sorted(found) == list(range(NUM_NIGHTS))
    for number, night in found.items():
        assert len(set(night.epoch_N.tolist())) == 20
        assert (stages(number)[night.epoch_N] >= 0).all()
        assert (np.diff(night.epoch_N) > 0).all()
    few = missing_refit.fit_nights(plan(), 500, dataclasses.replace(PROBE, max_fit_epochs=1000))
    assert {len(night.epoch_N) for night in few.values()} == {NUM_EPOCHS - 3}
    only_first = dataclasses.replace(plan(), folds=plan().folds[:1])
    assert sorted(missing_refit.fit_nights(only_first, 20, PROBE)) == [0, 2, 4, 6]


def test_a_night_s_file_has_the_epochs_with_a_signal_and_the_subsets_own_blocks() -> None:
    night = missing_refit.FitNight(recording_id="r", epoch_N=np.array([3, 40, 55]))
    arrays = missing_refit.sample_of(night, ECG, vectors(0, ECG))
    assert arrays[f"{ECG}_place"].tolist() == [0, 1]  # epoch 55 has no ECG
    assert arrays[f"{ECG}_micro"].shape == (2, D)
    both = missing_refit.sample_of(night, EEG_ECG, vectors(0, EEG_ECG))
    assert both[f"{EEG_ECG}_micro"].shape == (3, 2 * D)
    assert both[f"{EEG_ECG}_micro"][:, :D].argmax(1).tolist() == stages(0)[[3, 40, 55]].tolist()


def test_numbers_too_large_for_the_file_are_refused() -> None:
    night = missing_refit.FitNight(recording_id="r", epoch_N=np.array([3]))
    found = dataclasses.replace(vectors(0, EEG), macro_LF=np.full((NUM_EPOCHS, D), 1e6))
    with pytest.raises(CheckpointError, match="r: EEG: found macro vectors that are not finite in"):
        missing_refit.sample_of(night, EEG, found)


def test_a_probe_of_a_subset_reads_what_a_fixed_one_mistakes() -> None:
    """The fixed probe reads the EEG by the code of the whole; alone it is another."""
    weight = np.zeros((6 * D, 5))
    weight[:D] = np.eye(5)
    fixed = (linear(weight), linear(np.eye(5)))
    refit: list[missing.SubsetProbe] = [(None, None)] * len(SUBSETS)
    refit[WHOLE], refit[EEG] = probes_of(WHOLE)[0], probes_of(EEG)[0]
    refit[EEG_ECG] = probes_of(EEG_ECG)[0]
    tallies = []
    for number in range(1, NUM_NIGHTS, 2):  # tested by the probes of the others
        test = AskedNight(recording_id=f"r{number}", target_L=stages(number), probes=fixed)
        tally = NightTally(
            test, "mean", missing_refit.probes_of_bytes(missing_refit.probes_bytes(refit))
        )
        for subset in (WHOLE, EEG, EEG_ECG, SPO2):
            tally.add(subset, vectors(number, subset))
        tallies.append(tally)
    counts, cosine = (
        np.stack([getattr(t, name) for t in tallies]) for name in ("counts", "cosine")
    )
    nights = [night for night in plan().labelled if int(night.recording_id[1:]) % 2]
    entries = missing.matrix(nights, counts, cosine, MissingConfig(probe=PROBE))
    for level in ("micro", "macro"):
        said = entries[EEG][f"{level}_refit"]
        assert entries[EEG][level]["macro_f1"]["value"] == 0
        assert said["macro_f1"]["value"] == said["macro_f1_gain"]["value"] == 1
        assert said["macro_f1_gain"]["low"] == 1
        for subset in (WHOLE, EEG_ECG):
            found = entries[subset][f"{level}_refit"]
            assert (found["accuracy"]["value"], found["macro_f1_gain"]["value"]) == (1, 0)
        assert entries[SPO2][f"{level}_refit"]["macro_f1"]["value"] is None


def test_a_gain_is_of_the_people_whom_both_probes_answered() -> None:
    """One fold could not fit a probe: its person, whom the fixed one mistakes, is not compared."""
    counts = np.zeros((2, len(SUBSETS), 4, 5, 5), np.int64)
    counts[:, :, :, range(5), range(5)] = 7
    counts[1, EEG, :2] = 0
    counts[1, EEG, :2, 0, 1] = 35  # all wrong
    counts[1, EEG, 2:] = 0  # not answered
    cosine = np.ones((2, len(SUBSETS), 3, 2))
    entries = missing.matrix(plan().labelled[:2], counts, cosine, MissingConfig(probe=PROBE))
    assert entries[EEG]["micro"]["macro_f1"]["value"] < 0.9
    for level in ("micro_refit", "macro_refit"):
        assert entries[EEG][level]["macro_f1"]["value"] == 1
        assert entries[EEG][level]["macro_f1_gain"]["value"] == 0


def linear(weight_FO: np.ndarray) -> LinearProbe:
    return LinearProbe(
        mean_F=np.zeros(len(weight_FO), np.float32),
        scale_F=np.ones(len(weight_FO), np.float32),
        weight_FO=weight_FO,
        bias_O=np.zeros(5),
    )


def test_a_modality_that_no_night_has_makes_no_probe_and_that_is_said() -> None:
    none = probes_of(SPO2)
    assert none == [(None, None), (None, None)]
    by_fold = [[(linear(np.eye(5)),) * 2] * len(SUBSETS) for _ in range(2)]
    assert missing_refit.not_fitted(by_fold) == []
    by_fold[1] = [*by_fold[1][:SPO2], none[1], *by_fold[1][SPO2 + 1 :]]
    (note,) = missing_refit.not_fitted(by_fold)
    assert note.startswith("no probe could be fitted on SPO2 in each fold")


def test_a_night_that_could_not_be_embedded_is_not_fitted_on() -> None:
    whole, some = probes_of(EEG), probes_of(EEG, lost=1)
    same, other = (
        [np.array_equal(a.weight_FO, b.weight_FO) for a, b in pairs]
        for pairs in (zip(whole[0], some[0], strict=True), zip(whole[1], some[1], strict=True))
    )
    assert same == [True, True]  # the first fold does not fit on night 1
    assert other == [False, False]


def test_probes_come_back_from_their_file() -> None:
    refit: list[missing.SubsetProbe] = [(None, None)] * len(SUBSETS)
    refit[EEG] = probes_of(EEG)[0]
    found = missing_refit.probes_of_bytes(missing_refit.probes_bytes(refit))
    assert found[ECG] == (None, None)
    for mine, theirs in zip(refit[EEG], found[EEG], strict=True):
        assert mine is not None
        assert theirs is not None
        for name in ("mean_F", "scale_F", "weight_FO", "bias_O"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


def test_how_many_epochs_has_no_effect_without_refit() -> None:
    with pytest.raises(ConfigError, match="refit_epochs has no effect with refit=false"):
        MissingConfig(refit_epochs=7)
    with pytest.raises(ConfigError, match="refit_epochs"):
        MissingConfig(refit=True, refit_epochs=0)
