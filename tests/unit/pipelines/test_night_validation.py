from dataclasses import replace

import pytest

from pipelines.night_validation import held_out_nights
from pipelines.pretrain_macro import Subjects
from sleepmami.config import DGCLConfig, EngineConfig, LoopConfig, MacroPretrainConfig
from sleepmami.errors import TrainingError

CONFIG = MacroPretrainConfig(
    dgcl=DGCLConfig(cycle_epochs=4),
    batch_subjects=8,
    max_epochs=16,
    engine=EngineConfig(micro_batch=4),
    loop=LoopConfig(validate_every=1),
)


def subjects(first_row: int, num: int, *, nights_each: int = 1) -> Subjects:
    people = [n // nights_each for n in range(num * nights_each)]
    return Subjects(
        row=[first_row + n for n in range(len(people))],
        subject_id=[f"subject{first_row}_{n}" for n in people],
        num_epochs=[8 + n % 5 for n in range(len(people))],
        age_years=[30.0 + n for n in people],
        bmi=[20.0 + n % 9 for n in people],
        female=[bool(n % 2) for n in people],
    )


def test_probes_are_fitted_on_training_nights_and_scored_on_validation_nights() -> None:
    found = held_out_nights(subjects(0, 12), subjects(100, 9), CONFIG)
    assert found is not None
    assert found.probe.row == [*range(12), *range(100, 109)]
    assert found.probe.num_fit == 12
    assert found.probe.age_years[12:] == [30.0 + n for n in range(9)]


def test_a_subject_gives_one_night() -> None:
    found = held_out_nights(subjects(0, 12, nights_each=3), subjects(100, 9), CONFIG)
    assert found is not None
    assert found.probe.row[:12] == [*range(0, 36, 3)]


def test_contrasts_are_whole_batches_of_validation_nights_alone() -> None:
    found = held_out_nights(subjects(0, 12), subjects(100, 17), CONFIG)
    assert found is not None
    assert [len(batch) for batch in found.contrasts] == [8, 8, 8]
    assert {row for batch in found.contrasts for row in batch} == {*range(100, 117)}


def test_a_split_smaller_than_a_batch_is_one_contrast_that_workers_share_evenly() -> None:
    found = held_out_nights(subjects(0, 12), subjects(100, 9), replace(CONFIG, batch_subjects=40, engine=EngineConfig(micro_batch=20)))  # fmt: skip
    assert found is not None
    assert {len(batch) for batch in found.contrasts} == {8}


def test_no_more_subjects_than_asked_for_and_the_same_ones_each_time() -> None:
    config = replace(CONFIG, loop=LoopConfig(validate_every=1, validate_rows=10))
    found = held_out_nights(subjects(0, 40), subjects(100, 40), config)
    assert found is not None
    assert (found.probe.num_fit, len(found.probe.row)) == (10, 20)
    assert found == held_out_nights(subjects(0, 40), subjects(100, 40), config)


def test_nothing_is_held_out_where_nothing_is_validated() -> None:
    config = replace(CONFIG, loop=LoopConfig())
    assert held_out_nights(subjects(0, 3), subjects(100, 3), config) is None


def test_too_small_a_validation_split_is_refused_in_numbers() -> None:
    with pytest.raises(TrainingError, match="found 5 subjects of the validation split"):
        held_out_nights(subjects(0, 12), subjects(100, 5), CONFIG)
