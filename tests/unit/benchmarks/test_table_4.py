"""What table_4.py compares: who is in which split, whose guesses differ by how much, true vectors."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))
from table_4 import VARIANTS, opened, true_vectors
from table_4_corpus import CorpusSettings, planned, split_of
from table_4_probes import difference, probed

from sleepmami.config import MacroPretrainConfig
from sleepmami.config_edit import replace_at


def test_each_split_has_both_sexes_and_its_share() -> None:
    splits = np.array([split_of(index) for index in range(180)])
    women = np.arange(180) % 2 == 0  # sexes alternate
    for split, share in (("train", 5 / 9), ("validation", 1 / 9), ("test", 1 / 3)):
        assert (splits == split).mean() == pytest.approx(share)
        assert women[splits == split].mean() == pytest.approx(0.5)


def people(guess: list[float]) -> dict[str, object]:
    row = {"subjects": ["a", "b", "c"], "truth": [10.0, 20.0, 60.0], "guess": guess}
    return {"tasks": {"age": row}}


def test_a_difference_is_that_of_the_same_people_and_less_error_is_better() -> None:
    near, far = people([11.0, 20.0, 60.0]), people([14.0, 20.0, 60.0])
    found = difference([near], [far], "age", "mae")
    assert found["value"] == pytest.approx(1.0, abs=1e-5)  # errors of 1 and 4 in one of three
    assert (found["low"], found["high"]) == (
        0.0,
        3.0,
    )  # resamples without that one, and of it alone
    assert difference([far], [near], "age", "mae")["value"] == -found["value"]
    assert difference([near], [near], "age", "r2")["high"] == 0.0
    half = difference([near, far], [far], "age", "mae")  # of two seeds, their mean
    assert half["value"] == pytest.approx(0.5, abs=1e-5)


def test_a_difference_of_f1_is_that_of_the_counts_of_all() -> None:
    right, wrong = [[2, 0], [0, 2]], [[1, 1], [1, 1]]
    rows = [
        {"tasks": {"staging": {"subjects": ["a", "b"], "counts": counts}}}
        for counts in ([right, right], [right, wrong])
    ]
    found = difference([rows[0]], [rows[1]], "staging", "macro_f1")
    assert found["value"] == pytest.approx(0.25)  # 6 of 8 right in both classes
    assert (found["low"], found["high"]) == (0.0, 0.5)


def test_rows_of_other_people_do_not_compare() -> None:
    other = people([0.0, 0.0, 0.0])
    other["tasks"]["age"]["subjects"] = ["a", "b", "d"]  # type: ignore[index]
    with pytest.raises(AssertionError):
        difference([people([0.0, 0.0, 0.0])], [other], "age", "mae")


def test_the_truth_about_epochs_stages_them_and_knows_the_ahi() -> None:
    nights = planned(CorpusSettings(hours=1.0), 45)
    found = probed(nights, true_vectors)["tasks"]
    assert found["staging"]["figures"]["macro_f1"]["value"] == 1.0
    assert len(found["staging"]["subjects"]) == len(found["sex_few"]["subjects"]) == 15
    assert found["ahi_all"]["figures"]["r2"]["value"] > 0.8
    assert found["age_few"]["num_fit_subjects"] == 5


def test_every_variant_is_settings_of_the_product() -> None:
    for name, variant in VARIANTS.items():
        changed = replace_at(MacroPretrainConfig(), variant.changes)
        means = "means" in name or "shuffled" in name
        assert changed.dgcl.reads == ("running_mean" if means else "state")


RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "table_4_2core_cpu.json"


def test_rows_from_before_a_setting_are_read_with_its_default() -> None:
    found = opened(RESULTS, CorpusSettings(), 180)
    assert found["settings"]["macro"]["dgcl"]["reads"] == "state"
    with pytest.raises(SystemExit, match="found rows of"):
        opened(RESULTS, CorpusSettings(hours=4.0), 180)
