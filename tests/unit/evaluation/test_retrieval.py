"""Retrieval: planted moments are found, chance is chance, and nobody sees what they should not."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from sleepmami.config import ProbeConfig, ProbeSplitConfig, RetrievalConfig
from sleepmami.errors import ConfigError, TableError
from sleepmami.evaluation import retrieval
from sleepmami.evaluation.folds import Fold
from sleepmami.evaluation.probe import run_probe
from sleepmami.evaluation.retrieval import NightBlocks, cca, ranks
from tests.unit.evaluation.planted import PlantedNight, write_embeddings

DIM, LENGTH, POOL = 8, 60, 20


@dataclass
class Nights:
    """Blocks that know a common moment of 4 numbers, each in a space of its own, under noise."""

    common: float = 1.0
    missing: int | None = None
    num: int = 8

    def read(self, numbers: Any) -> Any:
        space = np.random.default_rng(99).normal(size=(6, 4, DIM))
        for number in numbers:
            rng = np.random.default_rng(number)
            moment_L4 = rng.normal(size=(LENGTH, 4))
            noise_LMD = rng.normal(size=(LENGTH, 6, DIM))
            blocks = self.common * np.einsum("lk,mkd->lmd", moment_L4, space) + 0.1 * noise_LMD
            if self.missing is not None:
                blocks[:, self.missing] = 0
            yield NightBlocks(number, blocks.astype(np.float32), blocks.astype(np.float32))

    def figures(self, **settings: Any) -> dict[tuple[str, str], Any]:
        config = ProbeConfig(
            retrieval=RetrievalConfig(pool_size=POOL, **settings), num_resamples=100
        )
        fit_N = np.arange(self.num) < self.num // 2
        folds = [Fold(fit_N=fit_N, test_N=~fit_N)]
        found = retrieval.answer(self.read, np.arange(self.num), folds, config)
        return {(f.group, f.name): f.estimate for f in found.figures}


@pytest.mark.parametrize("match", ["cca", "ridge"])
@pytest.mark.parametrize("pool", ["same_night", "other_people"])
def test_a_common_moment_is_found_through_a_linear_map(match: str, pool: str) -> None:
    found = Nights().figures(match=match, pool=pool)
    assert found["mean", "recall_at_1"].value > 0.9
    assert found["EEG->SPO2", "median_rank"].value == 1
    assert len({group for group, _ in found}) == 30 + 2


def test_blocks_in_spaces_of_their_own_are_not_found_by_cosine() -> None:
    found = Nights().figures(match="cosine")
    assert found["mean", "recall_at_1"].value < 0.5


@pytest.mark.parametrize("match", ["cca", "ridge", "cosine"])
def test_blocks_that_share_nothing_are_found_by_chance(match: str) -> None:
    found = Nights(common=0.0, num=24).figures(match=match)
    for k in (1, 5, 10):
        chance = found["chance", f"recall_at_{k}"].value
        assert chance == pytest.approx(k / POOL)
        assert found["mean", f"recall_at_{k}"].value == pytest.approx(chance, rel=0.15)
    assert found["chance", "median_rank"].value == (POOL + 1) / 2
    assert found["mean", "median_rank"].value == pytest.approx(10.5, abs=1)


def test_vectors_that_are_all_alike_rank_as_chance() -> None:
    class Collapsed(Nights):
        def read(self, numbers: Any) -> Any:
            for number in numbers:
                blocks = np.full((LENGTH, 6, DIM), 0.3, np.float32)
                yield NightBlocks(number, blocks, blocks)

    found = Collapsed().figures(match="cosine")
    assert found["mean", "median_rank"].value == (POOL + 1) / 2


def test_a_modality_that_is_nowhere_has_no_pairs() -> None:
    found = Nights(missing=2).figures()
    groups = {group for group, _ in found}
    assert len(groups) == 20 + 2
    assert not any("EMG" in group for group in groups)


def test_ranks_are_counted_as_a_person_would() -> None:
    scores = np.array([[0.1, 0.9, 0.5], [0.5, 0.5, 0.2]])
    assert ranks(scores, np.array([0.6, 0.5])).tolist() == [2.0, 2.0]
    assert ranks(scores, np.array([1.0, 0.0])).tolist() == [1.0, 4.0]


def test_canonical_correlations_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    common = rng.normal(size=(4000, 2))
    x = common @ rng.normal(size=(2, 4)) + rng.normal(size=(4000, 4))
    y = common @ rng.normal(size=(2, 4)) + rng.normal(size=(4000, 4))
    x, y = ((a - a.mean(0)) / a.std(0) for a in (x, y))
    n = len(x)
    left, right = cca(x.T @ x / n, y.T @ y / n, x.T @ y / n, 1e-9)
    ours = [np.corrcoef(a, b)[0, 1] for a, b in zip((x @ left).T, (y @ right).T, strict=True)]
    theirs = CCA(n_components=2, max_iter=5000, tol=1e-12).fit(x, y).transform(x, y)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(theirs[0].T, theirs[1].T, strict=True)]
    np.testing.assert_allclose(ours[:2], expected, atol=1e-4)


def planted(num: int = 8) -> list[PlantedNight]:
    made = []
    for night in Nights(num=num).read(range(num)):
        length = len(night.query_LMD)
        macro = night.query_LMD.reshape(length, -1)[:, ::2]  # the writer doubles each number
        made.append(
            PlantedNight(
                recording_id=f"r{night.number}",
                subject_id=f"p{night.number}",
                split="test" if night.number % 2 else "train",
                macro=macro,
            )
        )
    return made


def test_a_run_says_what_the_pool_was_and_warns_of_copies(tmp_path: Path) -> None:
    out = write_embeddings(tmp_path / "a", planted())
    config = ProbeConfig(retrieval=RetrievalConfig(pool_size=POOL), num_resamples=100)
    result = run_probe("retrieval", out, [], config)
    assert (result.level, result.unit, result.num_subjects) == ("micro", "query", 4)
    assert result.num_rows == 4 * LENGTH * 30
    assert result.notes[0].startswith("pools of 20 epochs (same night); by chance: recall@1 0.05,")
    assert "embedded together" in result.notes[1]
    apart = run_probe(
        "retrieval", out, [], config, targets=write_embeddings(tmp_path / "b", planted(6))
    )
    assert not any("together" in note for note in apart.notes)
    assert apart.left_out == {"not among the targets": 2}
    assert {f.name for f in apart.figures} == {f.name for f in result.figures}


def test_features_without_an_encoder_have_heard_nothing(tmp_path: Path) -> None:
    made = [replace(night, model_id="band-powers-night-ab") for night in planted()]
    config = ProbeConfig(retrieval=RetrievalConfig(pool_size=POOL), num_resamples=100)
    result = run_probe("retrieval", write_embeddings(tmp_path, made), [], config)
    assert len(result.notes) == 1


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    out = write_embeddings(tmp_path, planted())
    base = ProbeConfig(num_resamples=100)
    with pytest.raises(TableError, match="a pool of 100 epochs"):
        run_probe("retrieval", out, [], base)
    with pytest.raises(ConfigError, match="no blocks of modalities"):
        run_probe("retrieval", out, [], replace(base, level="macro"))
    with pytest.raises(ConfigError, match="penalties has no effect on retrieval"):
        run_probe("retrieval", out, [], replace(base, penalties=(1.0,)))
    with pytest.raises(ConfigError, match="targets have no effect on age"):
        run_probe("age", out, [], base, targets=out)
    small = replace(base, retrieval=RetrievalConfig(pool_size=20))
    with pytest.raises(ConfigError, match=r"retrieval\.pool_size has no effect on staging"):
        run_probe("staging", out, [], small)
    with pytest.raises(ConfigError, match=r"retrieval\.penalty has no effect"):
        RetrievalConfig(match="cosine", penalty=1.0)
    alone = replace(base, split=ProbeSplitConfig(kind="folds", num_folds=9))
    with pytest.raises(TableError, match="8 subjects"):
        run_probe("retrieval", out, [], alone)


def test_targets_of_another_length_are_refused(tmp_path: Path) -> None:
    made = planted()
    shorter = [replace(night, macro=night.macro[:-1]) for night in made]
    out, targets = (
        write_embeddings(tmp_path / name, own) for name, own in (("a", made), ("b", shorter))
    )
    config = ProbeConfig(retrieval=RetrievalConfig(pool_size=POOL), num_resamples=100)
    with pytest.raises(TableError, match=rf"{targets}.*: r0: found {LENGTH - 1} epochs"):
        run_probe("retrieval", out, [], config, targets=targets)


def test_a_night_without_a_pool_is_left_out_and_not_counted_as_tested(tmp_path: Path) -> None:
    made = planted()
    made[1] = replace(made[1], macro=made[1].macro[: POOL - 1])
    config = ProbeConfig(retrieval=RetrievalConfig(pool_size=POOL), num_resamples=100)
    result = run_probe("retrieval", write_embeddings(tmp_path, made), [], config)
    assert (result.num_subjects, result.num_nights) == (3, 3)
    assert result.left_out == {f"fewer than {POOL} epochs of two modalities": 1}
