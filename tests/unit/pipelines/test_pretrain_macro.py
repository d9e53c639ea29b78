"""The nights a Macro step is made of; two workers are played by two processes' ranks."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.pretrain_macro import Subjects, _subjects, is_comparable, night_steps
from sleepmami.config import DGCLConfig, EngineConfig, MacroPretrainConfig
from sleepmami.config_edit import replace_at
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import DemographicStatistics
from sleepmami.training import collectives
from sleepmami.training.batches import MacroBatch
from tests.corpora import write_corpus, write_micro_nights

NUM_NIGHTS = 10  # three batches of four subjects a pass
STATISTICS = DemographicStatistics(age_mean=40.0, age_std=10.0, bmi_mean=25.0, bmi_std=5.0)
SETTINGS = MacroPretrainConfig(
    dgcl=DGCLConfig(cycle_epochs=4),
    batch_subjects=4,
    max_epochs=16,
    engine=EngineConfig(micro_batch=2),
)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("run")
    return write_micro_nights(folder, num_nights=NUM_NIGHTS, dim=3, model_id="made-up")


def steps(nights: str, start: int, num_steps: int) -> list[MacroBatch]:
    subjects = Subjects(
        row=[*range(NUM_NIGHTS)],
        subject_id=[f"subject{n}" for n in range(NUM_NIGHTS)],
        num_epochs=[13 + n for n in range(NUM_NIGHTS)],
        age_years=[30.0 + 3 * n for n in range(NUM_NIGHTS)],
        bmi=[20.0 + n for n in range(NUM_NIGHTS)],
        female=[bool(n % 2) for n in range(NUM_NIGHTS)],
    )
    batches = night_steps(
        nights, lance_io.version(nights), subjects, STATISTICS, SETTINGS, steps_per_pass=3
    )
    return [batch for (batch,) in islice(batches(start), num_steps)]


@pytest.mark.parametrize("start", [1, 3, 5])
def test_steps_after_a_restart_are_those_of_an_uninterrupted_run(nights: str, start: int) -> None:
    uninterrupted = steps(nights, 0, 8)[start:]
    for ours, theirs in zip(steps(nights, start, 8 - start), uninterrupted, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)


def test_two_workers_share_each_batch_without_overlap(
    nights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = steps(nights, 0, 6)
    monkeypatch.setattr(collectives, "num_workers", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(collectives, "rank", lambda rank=rank: rank)
        shares.append(steps(nights, 0, 6))
    for whole, first, second in zip(alone, *shares, strict=True):
        assert (whole.num_rows, first.num_rows, second.num_rows) == (4, 2, 2)
        together = torch.cat([first.age_B, second.age_B])
        assert torch.equal(together, whole.age_B)
        assert len(together.unique()) == 4


def test_a_pass_visits_every_night_and_the_next_one_in_another_order(nights: str) -> None:
    ages = [batch.age_B.numpy() for batch in steps(nights, 0, 6)]
    assert len(np.unique(np.concatenate(ages[:3]))) == NUM_NIGHTS
    assert len(np.unique(np.concatenate(ages[3:]))) == NUM_NIGHTS
    assert not np.array_equal(ages[0], ages[3])


def test_nights_are_cut_at_max_epochs(nights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = torch.cat([batch.length_B for batch in steps(nights, 0, 3)])
    assert lengths.max() == 22  # both ends of 16 epochs, together all of the longest night
    monkeypatch.setitem(globals(), "SETTINGS", replace_at(SETTINGS, {"crop": "start"}))
    lengths = torch.cat([batch.length_B for batch in steps(nights, 0, 3)])
    assert lengths.max() == 16
    assert lengths.min() == 13


@pytest.mark.parametrize(
    ("changes", "unknown", "expected"),
    [
        ({}, "bmi", False),
        ({}, "sex", False),
        ({"dgcl.factors": ["age", "sex"]}, "bmi", True),  # nobody is excluded for a BMI
        ({"dgcl.factors": ["age", "sex"]}, "sex", False),
        ({"dgcl.factors": ["bmi"]}, "age_years", True),
        ({"dgcl.missing": "available"}, "bmi", True),
        ({"dgcl.missing": "available"}, "sex", True),
        ({"dgcl.missing": "available", "dgcl.factors": ["age", "sex"]}, "age_years", False),
    ],
)
def test_a_night_takes_part_if_eq_5_can_compare_it(
    changes: dict[str, object], unknown: str, expected: bool
) -> None:
    row = {"age_years": 50.0, "sex": "male", "bmi": 25.0} | {unknown: None}
    assert is_comparable(row, replace_at(SETTINGS, changes).dgcl) is expected


def test_nights_without_a_bmi_train_where_bmi_is_no_factor(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", num_train=6, num_test=1, num_epochs=4)
    (tmp_path / "run").mkdir()
    uri = write_micro_nights(
        tmp_path / "run", num_nights=7, dim=3, model_id="made-up", without_bmi=(0, 3)
    )
    kept = {}
    for factors in (["age", "sex", "bmi"], ["age", "sex"]):
        config = replace_at(SETTINGS, {"dgcl.factors": factors})
        found = _subjects(corpus, uri, lance_io.version(uri), "made-up", config)
        kept[len(factors)] = (found.row, found.bmi)
    assert kept[3] == ([1, 2, 4, 5], [21.0, 22.0, 24.0, 25.0])
    assert kept[2] == ([0, 1, 2, 3, 4, 5], [None, 21.0, 22.0, None, 24.0, 25.0])


def test_nights_of_other_cohorts_are_left_out(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", num_train=3, num_test=1, num_epochs=4)
    uri = write_micro_nights(tmp_path, num_nights=4, dim=3, model_id="made-up")
    version = lance_io.version(uri)
    for cohorts, expected in (((), [0, 1, 2]), (("made-up",), [0, 1, 2]), (("another",), [])):
        config = replace_at(SETTINGS, {"cohorts": list(cohorts)})
        assert _subjects(corpus, uri, version, "made-up", config).row == expected
