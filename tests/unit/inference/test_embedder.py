import dataclasses
import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sleepmami.config import PartialCycle
from sleepmami.config_edit import replace_at
from sleepmami.errors import CheckpointError, ConfigError, RecordingError
from sleepmami.inference.embedder import Embedder, channels_used
from sleepmami.inference.second_look import from_second_epoch
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.psg import MODALITIES, Modality, Night, segment_start_epochs
from sleepmami.signals.channels import plan_channels
from sleepmami.signals.edf import EdfChannel
from sleepmami.tables.cycle_vectors import cycle_vectors, night_vector
from sleepmami.training.batches import night_batch
from sleepmami.training.checkpoint import Bundle
from tests.unit.inference.conftest import MakeNight

SUBSETS = [s for n in range(1, 7) for s in itertools.combinations(MODALITIES, n)]


def unusable(night: Night, modality: Modality, epochs: slice) -> Night:
    usable = {m: u.copy() for m, u in night.usable.items()}
    usable[modality][epochs] = False
    return dataclasses.replace(night, usable=usable)


@pytest.fixture
def embedder(bundle: Bundle) -> Embedder:
    return Embedder(bundle, windows_per_batch=3)


def test_an_epochs_vector_is_the_models_for_its_segment(
    bundle: Bundle, embedder: Embedder, make_night: MakeNight
) -> None:
    night = make_night(4)
    model = MicroEncoder(bundle.micro.model)
    model.load_state_dict(bundle.micro_state)
    batch = night_batch(night, 1, 2)  # epochs 2 and 3
    with torch.no_grad():
        epoch_SBED = model.eval().embed(batch.signal_SBT, torch.arange(6), batch.valid_SB)
    micro_LMD = embedder.epochs(night).micro_LMD
    np.testing.assert_allclose(micro_LMD[2], epoch_SBED[:, 0, 0], atol=1e-5)
    np.testing.assert_allclose(micro_LMD[3], epoch_SBED[:, 0, 1], atol=1e-5)


@pytest.mark.parametrize("num_epochs", [2, 3, 7, 8])
def test_batching_does_not_change_the_numbers(
    bundle: Bundle, make_night: MakeNight, num_epochs: int
) -> None:
    night = unusable(make_night(num_epochs), Modality.EMG, slice(0, 2))
    one_by_one = Embedder(bundle, windows_per_batch=1).night(night)
    for windows_per_batch in (2, 3, 64):
        together = Embedder(bundle, windows_per_batch=windows_per_batch).night(night)
        for name in ("micro", "macro", "night"):
            np.testing.assert_allclose(
                getattr(together, name), getattr(one_by_one, name), atol=1e-5, rtol=0
            )


def test_the_odd_last_epoch_comes_from_the_overlapping_segment(
    embedder: Embedder, make_night: MakeNight
) -> None:
    """Change only the last segment: its second epoch alone may follow."""
    night = make_night(5)
    signals = {m: s.copy() for m, s in night.signals.items()}
    for signal in signals.values():
        signal[-1] = signal[-1][::-1]
    before = embedder.epochs(night).micro_LMD
    after = embedder.epochs(dataclasses.replace(night, signals=signals)).micro_LMD
    assert np.array_equal(before[:4], after[:4])
    assert (before[4] != after[4]).any(axis=-1).all()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_every_subset_of_modalities_gives_finite_answers(
    embedder: Embedder, make_night: MakeNight, size: int
) -> None:
    for subset in (s for s in SUBSETS if len(s) == size):
        answer = embedder.night(make_night(3, subset))
        for array in (answer.micro, answer.macro, answer.night):
            assert array.dtype == np.float32
            assert np.isfinite(array).all(), subset
        blocks = answer.micro.reshape(3, 6, -1)
        there = np.array([m in subset for m in MODALITIES])
        assert (answer.modality_valid == there).all(), subset
        assert not blocks[:, ~there].any(), subset
        assert np.abs(blocks[:, there]).max(axis=-1).min() > 0, subset


def test_a_modality_never_usable_is_as_good_as_absent(
    embedder: Embedder, make_night: MakeNight
) -> None:
    absent = embedder.night(make_night(4, MODALITIES[:3]))
    night = make_night(4, MODALITIES[:4])
    useless = embedder.night(unusable(night, Modality.ECG, slice(None)))
    assert np.array_equal(absent.micro, useless.micro)
    assert np.array_equal(absent.night, useless.night)


def test_a_modality_that_drops_out_is_masked_where_it_is_missing(
    embedder: Embedder, make_night: MakeNight
) -> None:
    """Epochs 0 and 1 without EMG are those of a night without EMG; the rest do not change."""
    full, without = make_night(6), make_night(6, [m for m in MODALITIES if m is not Modality.EMG])
    dropped = embedder.epochs(unusable(full, Modality.EMG, slice(0, 2))).micro_LMD
    np.testing.assert_allclose(dropped[:2], embedder.epochs(without).micro_LMD[:2], atol=1e-5)
    np.testing.assert_allclose(dropped[2:], embedder.epochs(full).micro_LMD[2:], atol=1e-5)


def test_one_unusable_epoch_is_zero_and_flagged(embedder: Embedder, make_night: MakeNight) -> None:
    answer = embedder.epochs(unusable(make_night(4), Modality.EEG, slice(1, 2)))
    assert answer.modality_valid_LM[:, 0].tolist() == [True, False, True, True]
    assert not answer.micro_LMD[1, 0].any()
    assert answer.epoch_valid_L.all()  # the other modalities were there


def test_an_epoch_without_any_modality_is_flagged(
    embedder: Embedder, make_night: MakeNight
) -> None:
    night = unusable(make_night(6, [Modality.EEG]), Modality.EEG, slice(2, 4))
    answer = embedder.night(night)
    assert answer.epoch_valid.tolist() == [True, True, False, False, True, True]
    assert not answer.micro[2:4].any()
    assert np.isfinite(answer.macro).all()


def test_a_night_without_a_usable_epoch_is_refused(
    embedder: Embedder, make_night: MakeNight
) -> None:
    night = unusable(make_night(4, [Modality.EEG]), Modality.EEG, slice(None))
    with pytest.raises(RecordingError) as caught:
        embedder.night(night)
    assert caught.value.code == "signal_unusable"


def test_the_cycles_follow_the_bundles_own_length_and_the_night_is_all_epochs(
    bundle: Bundle, make_night: MakeNight
) -> None:
    """With cycles of 3 epochs: the states after epochs 3 and 6 in each direction."""
    assert bundle.macro is not None
    dgcl = dataclasses.replace(bundle.macro.dgcl, cycle_epochs=3)
    other = dataclasses.replace(bundle, macro=dataclasses.replace(bundle.macro, dgcl=dgcl))
    answer = Embedder(other, windows_per_batch=4).night(make_night(7))
    forward, backward = np.split(answer.macro, 2, axis=1)
    cycles = np.concatenate([forward[[2, 5]], backward[[4, 1]]], axis=1)
    np.testing.assert_array_equal(answer.cycles, cycles)
    np.testing.assert_allclose(answer.night, answer.macro[answer.epoch_valid].mean(0), atol=1e-6)


def test_shapes_follow_the_configs(embedder: Embedder, make_night: MakeNight) -> None:
    answer = embedder.night(make_night(7))
    assert answer.micro.shape == (7, 6 * 16)
    assert answer.macro.shape == (7, 2 * 8)
    assert answer.night.shape == (2 * 8,)


def cosines(one_LD: NDArray[np.float32], two_LD: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of rows; those that are zero in both are left out."""
    one_LD, two_LD = one_LD.astype(np.float64), two_LD.astype(np.float64)
    there = one_LD.any(axis=-1) | two_LD.any(axis=-1)
    product = (one_LD * two_LD).sum(-1)[there]
    lengths = np.linalg.norm(one_LD, axis=-1) * np.linalg.norm(two_LD, axis=-1)
    return np.asarray(product / lengths[there])


@pytest.mark.parametrize("windows_per_batch", [1, 3, 64])
def test_bfloat16_keeps_the_direction_of_every_epoch_vector(
    bundle: Bundle, make_night: MakeNight, windows_per_batch: int
) -> None:
    night = unusable(make_night(9), Modality.EMG, slice(2, 5))
    exact = Embedder(bundle, windows_per_batch=4).epochs(night)
    half = Embedder(bundle, windows_per_batch=windows_per_batch, precision="bfloat16").epochs(night)
    assert half.micro_LMD.dtype == np.float32
    assert not np.array_equal(half.micro_LMD, exact.micro_LMD)
    assert cosines(half.micro_LMD, exact.micro_LMD).min() >= 0.9999
    assert np.array_equal(half.modality_valid_LM, exact.modality_valid_LM)
    assert not half.micro_LMD[~half.modality_valid_LM].any()


def test_the_macro_encoder_is_float32_at_every_precision(
    bundle: Bundle, make_night: MakeNight
) -> None:
    """From the same epoch vectors it makes the same night."""
    half = Embedder(bundle, windows_per_batch=4, precision="bfloat16")
    exact = Embedder(bundle, windows_per_batch=4)
    night = make_night(6)
    epochs = half.epochs(night)
    # stands in for the first stage
    exact.epochs = lambda _, seconds=False: epochs  # type: ignore[method-assign, misc]
    assert np.array_equal(exact.night(night).macro, half.night(night).macro)


def test_the_second_look_hears_every_epoch_in_the_other_half(make_night: MakeNight) -> None:
    for num_epochs in (3, 6, 7):
        night = make_night(num_epochs)
        later = from_second_epoch(night)
        assert later.num_epochs == num_epochs - 1
        for modality, stored in later.signals.items():
            even = epochs_of(night.signals[modality], num_epochs)
            assert np.array_equal(epochs_of(stored, num_epochs - 1), even[1:])
        again = epochs_of(later.signals[Modality.EEG], num_epochs - 1)
        first_segment = np.concatenate([again[0], again[1]])
        assert np.array_equal(later.signals[Modality.EEG][0], first_segment)


def epochs_of(stored: NDArray[np.int16], num_epochs: int) -> NDArray[np.int16]:
    """Stored segments as epochs, by the definition of segment_start_epochs."""
    epochs = np.zeros((num_epochs, stored.shape[1] // 2), np.int16)
    for start, segment in zip(segment_start_epochs(num_epochs), stored, strict=True):
        epochs[start], epochs[start + 1] = np.split(segment, 2)
    return epochs


def test_both_halves_is_the_mean_of_an_epochs_two_places(
    bundle: Bundle, make_night: MakeNight
) -> None:
    """By the model: epoch 3 as second half of epochs 2-3 and as first half of epochs 3-4."""
    night = unusable(make_night(6), Modality.EMG, slice(4, 6))
    model = MicroEncoder(bundle.micro.model)
    model.load_state_dict(bundle.micro_state)
    as_second, as_first = night_batch(night, 1, 2), night_batch(from_second_epoch(night), 1, 2)
    with torch.no_grad():
        second = model.embed(as_second.signal_SBT, torch.arange(6), as_second.valid_SB)[:, 0, 1]
        first = model.embed(as_first.signal_SBT, torch.arange(6), as_first.valid_SB)[:, 0, 0]
    assert (first - second).abs().max() > 1e-3
    found = Embedder(bundle, windows_per_batch=2, both_halves=True).epochs(night)
    np.testing.assert_allclose(found.micro_LMD[3], (first + second) / 2, atol=1e-5)
    once = Embedder(bundle, windows_per_batch=2).epochs(night)
    for edge in (0, 5):  # one place only
        np.testing.assert_allclose(found.micro_LMD[edge], once.micro_LMD[edge], atol=1e-5)
    assert np.array_equal(found.modality_valid_LM, once.modality_valid_LM)
    assert not found.micro_LMD[~found.modality_valid_LM].any()


def test_both_halves_of_a_night_with_nothing_but_its_first_epoch(
    bundle: Bundle, make_night: MakeNight
) -> None:
    night = unusable(make_night(4, [Modality.EEG]), Modality.EEG, slice(1, None))
    found = Embedder(bundle, windows_per_batch=2, both_halves=True).epochs(night)
    once = Embedder(bundle, windows_per_batch=2).epochs(night)
    assert np.array_equal(found.micro_LMD, once.micro_LMD)


def test_two_epochs_have_one_place_each(bundle: Bundle, make_night: MakeNight) -> None:
    found = Embedder(bundle, windows_per_batch=2, both_halves=True).epochs(make_night(2))
    once = Embedder(bundle, windows_per_batch=2).epochs(make_night(2))
    assert np.array_equal(found.micro_LMD, once.micro_LMD)


def test_info_says_what_made_the_numbers(
    bundle: Bundle, embedder: Embedder, make_night: MakeNight
) -> None:
    night = make_night(2, [Modality.EEG, Modality.RESP])
    info = embedder.night(night).info
    assert info["model_id"] == bundle.model_id
    assert info["weights_sha256"] == bundle.weights_sha256
    assert (info["precision"], info["both_halves"]) == ("float32", False)
    assert info["channels_used"] == [
        {"modality": "EEG", "label": "label EEG", "derivation": "as_recorded"},
        {"modality": "RESP", "label": "label RESP", "derivation": "as_recorded"},
    ]
    assert info["modalities_missing"] == ["EOG", "EMG", "ECG", "SPO2"]


def test_a_channel_with_a_mastoid_subtracted_is_called_rereferenced(make_night: MakeNight) -> None:
    channels = [
        EdfChannel(
            index=index,
            label=label,
            unit="uV",
            sample_rate_hz=100.0,
            samples_per_record=100,
            physical_min=-500.0,
            physical_max=500.0,
            digital_min=-2048,
            digital_max=2047,
        )
        for index, label in enumerate(["C4", "M1", "ECG"])
    ]
    night = dataclasses.replace(make_night(2), channels=plan_channels(channels).decisions)
    assert channels_used(night) == [
        {"modality": "EEG", "label": "C4", "derivation": "rereferenced"},
        {"modality": "ECG", "label": "ECG", "derivation": "as_recorded"},
    ]


def test_a_bundle_without_macro_embeds_epochs_but_not_nights(
    bundle: Bundle, make_night: MakeNight
) -> None:
    half = dataclasses.replace(bundle, macro=None, macro_state=None)
    embedder = Embedder(half, windows_per_batch=4)
    assert embedder.epochs(make_night(2)).epoch_valid_L.all()
    with pytest.raises(CheckpointError, match="no Macro-Encoder"):
        embedder.night(make_night(2))


def test_weights_of_another_config_are_refused(bundle: Bundle) -> None:
    wider = dataclasses.replace(bundle.micro.model, upsample_dim=16)
    other = dataclasses.replace(bundle, micro=dataclasses.replace(bundle.micro, model=wider))
    with pytest.raises(CheckpointError, match="micro weights do not fit"):
        Embedder(other, windows_per_batch=4)


def test_windows_per_batch_must_be_positive(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="windows_per_batch"):
        Embedder(bundle, windows_per_batch=0)


@pytest.mark.parametrize(
    ("cycle_epochs", "partial_cycle", "num_cycles"),
    [(3, "drop", 2), (3, "last", 2), (4, "drop", 1), (4, "last", 2), (180, "last", 0)],
)
def test_cycles_and_night_are_those_of_the_stored_macro_vectors(
    bundle: Bundle,
    make_night: MakeNight,
    cycle_epochs: int,
    partial_cycle: PartialCycle,
    num_cycles: int,
) -> None:
    """Of 7 epochs, cycles of 3 leave a rest of 1, too short; of 4 a rest of 3."""
    dgcl = {"dgcl.cycle_epochs": cycle_epochs, "dgcl.partial_cycle": partial_cycle}
    model = dataclasses.replace(bundle, macro=replace_at(bundle.macro, dgcl))
    answer = Embedder(model, windows_per_batch=3).night(make_night(7))
    assert len(answer.cycles) == num_cycles
    cycles = cycle_vectors(answer.macro, cycle_epochs=cycle_epochs, partial_cycle=partial_cycle)
    night = night_vector(answer.macro, answer.epoch_valid)
    np.testing.assert_array_equal(answer.cycles, cycles)
    np.testing.assert_allclose(answer.night, night, atol=1e-6)
