"""Retrieval: which 30 s of another modality belong to these 30 s of one?

Of an epoch's Micro vector the block of modality A is the query; among a pool of blocks of modality
B, that of the same epoch is to be found. Ranks count from 1; equal scores count half. By chance it
is among the first k of a pool of P in k / P of the cases, and the median rank is (P + 1) / 2.

What eq. 2 contrasts are the means of the *shared* encoder's tokens. Exported blocks are the *fused*
vectors, which start from the private encoder and only attend to the shared one, so that the blocks
of two modalities lie in spaces of their own, and a cosine between them means little
(`match=cosine`). A linear map, fitted on other subjects, asks what the blocks know in common,
however they say it: `cca` (the default), or `ridge`, which guesses B's block from A's.

Blocks that were embedded together may have heard each other: the shared encoder reads all
modalities, so that a block may carry a copy of the epoch's other signals. Only with query and
target from exports of one modality each does a hit say that two signals were recognised as one
moment.

Shapes: L epochs, M modalities (6), D width of a block, P pool, S subjects, R ranks, B resamples.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sleepmami.config import ProbeConfig, RetrievalConfig
from sleepmami.errors import TableError
from sleepmami.evaluation.bootstrap import Estimate, estimate, resampled_counts
from sleepmami.evaluation.folds import Fold
from sleepmami.evaluation.linear_probe import z_scored
from sleepmami.evaluation.metrics import Array, Floats, Ints
from sleepmami.evaluation.results import Figure, FoldResult
from sleepmami.psg import MODALITIES

NUM_MODALITIES = len(MODALITIES)
PAIRS = tuple(itertools.permutations(range(NUM_MODALITIES), 2))
RECALL_AT = (1, 5, 10)
SAME = 1e-9  # cosines this near are one: vectors that are all alike differ by rounding
MEAN, CHANCE = "mean", "chance"


class NightBlocks(NamedTuple):
    """Blocks of one night [L, M, D]; all zeros where a modality is not there."""

    number: int  # among the nights that are asked
    query_LMD: Array
    target_LMD: Array


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalAnswer:
    """Figures of each ordered pair, their mean, and chance; see ProbeResult.

    Attributes:
        asked: numbers of the nights that had a pool; the others are in `left_out`.
    """

    num_rows: int
    asked: tuple[int, ...]
    figures: tuple[Figure, ...]
    folds: tuple[FoldResult, ...]
    left_out: Counter[str]
    notes: tuple[str, ...]


class PairMap(NamedTuple):
    """Maps blocks of two modalities to where their product is a score."""

    query_mean_D: Floats
    query_scale_D: Floats
    query_DK: Floats
    target_mean_D: Floats
    target_scale_D: Floats
    target_DK: Floats

    def queries(self, x_ND: Array) -> Floats:
        """Unit vectors [N, K]."""
        return _unit(z_scored(x_ND, self.query_mean_D, self.query_scale_D) @ self.query_DK)

    def targets(self, x_ND: Array) -> Floats:
        """Unit vectors [N, K]."""
        return _unit(z_scored(x_ND, self.target_mean_D, self.target_scale_D) @ self.target_DK)


def _unit(x_NK: Floats) -> Floats:
    length_N1 = np.linalg.norm(x_NK, axis=1, keepdims=True)
    return np.asarray(x_NK / np.maximum(length_N1, 1e-12))


class _Moments:
    """Sums over the epochs that have both blocks of a pair."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self._sum_2D = np.zeros((2, dim))
        self._products = np.zeros((3, dim, dim))  # query query, target target, query target

    def add(self, query_ND: Floats, target_ND: Floats) -> None:
        self.count += len(query_ND)
        self._sum_2D += query_ND.sum(0), target_ND.sum(0)
        for slot, (a_ND, b_ND) in enumerate(
            ((query_ND, query_ND), (target_ND, target_ND), (query_ND, target_ND))
        ):
            self._products[slot] += a_ND.T @ b_ND

    def fitted(self, config: RetrievalConfig) -> PairMap:
        mean_2D = self._sum_2D / self.count
        pairs = ((0, 0), (1, 1), (0, 1))
        covariance = [
            product / self.count - np.outer(mean_2D[a], mean_2D[b])
            for product, (a, b) in zip(self._products, pairs, strict=True)
        ]
        scales = []
        for slot in (0, 1):
            spread_D = np.sqrt(np.maximum(np.diagonal(covariance[slot]), 0))
            scales.append(np.where(spread_D > 1e-6 * (np.abs(mean_2D[slot]) + 1e-6), spread_D, 1.0))
        query_DD, target_DD, cross_DD = (
            matrix / np.outer(scales[a], scales[b])
            for matrix, (a, b) in zip(covariance, pairs, strict=True)
        )
        identity_DD = np.eye(len(cross_DD))
        if config.match == "cca":
            query_DK, target_DK = cca(query_DD, target_DD, cross_DD, config.penalty)
        elif config.match == "ridge":
            query_DK = np.linalg.solve(query_DD + config.penalty * identity_DD, cross_DD)
            target_DK = identity_DD
        else:
            query_DK = target_DK = identity_DD
        return PairMap(mean_2D[0], scales[0], query_DK, mean_2D[1], scales[1], target_DK)


def cca(
    query_DD: Floats, target_DD: Floats, cross_DD: Floats, penalty: float
) -> tuple[Floats, Floats]:
    """Canonical directions of both sides, each scaled by the root of its correlation.

    The product of two projections then weighs what is common by how common it is.

    Args:
        query_DD: covariance of the queries, z-scored.
        target_DD: of the targets.
        cross_DD: between both.
        penalty: added to the variances, which are 1.
    """
    white_query_DD, white_target_DD = _whitener(query_DD, penalty), _whitener(target_DD, penalty)
    left_DK, correlation_K, right_KD = np.linalg.svd(white_query_DD @ cross_DD @ white_target_DD)
    root_K = np.sqrt(correlation_K)
    return white_query_DD @ left_DK * root_K, white_target_DD @ right_KD.T * root_K


def _whitener(covariance_DD: Floats, penalty: float) -> Floats:
    value_D, vector_DD = np.linalg.eigh(covariance_DD + penalty * np.eye(len(covariance_DD)))
    return np.asarray((vector_DD / np.sqrt(np.maximum(value_D, 1e-9))) @ vector_DD.T)


def ranks(score_QP: Floats, own_Q: Floats) -> Floats:
    """Rank [Q] of a query's own target among it and the pool's others [Q, P - 1]."""
    ahead_QP = score_QP - own_Q[:, None]
    above_Q, level_Q = (ahead_QP > SAME).sum(1), (np.abs(ahead_QP) <= SAME).sum(1)
    return np.asarray(1 + above_Q + 0.5 * level_Q)


def answer(
    read: Callable[[Sequence[int]], Iterator[NightBlocks]],
    subject_N: Ints,
    folds: Sequence[Fold],
    config: ProbeConfig,
) -> RetrievalAnswer:
    """Fit the maps on some subjects, rank the epochs of others.

    Args:
        read: the blocks of nights by their numbers, in ascending order.
        subject_N: number of each night's subject.
        folds: of the nights.
        config: see ProbeConfig.

    Raises:
        TableError: no pair of modalities that fit and test nights have, or pools that are too
            large for all nights.
    """
    pool, num_subjects = config.retrieval.pool_size, int(subject_N.max()) + 1
    tally = _Tally(num_subjects, pool)
    results, ranked_by_night = [], Counter[int]()
    for fold in folds:
        fit, test = (np.flatnonzero(there_N).tolist() for there_N in (fold.fit_N, fold.test_N))
        maps, num_rows = _fitted(read, fit, config)
        others = _Others(read, test, subject_N, config) if _from_others(config) else None
        for night in read(test):
            rng = np.random.default_rng([config.seed, night.number])
            subject = int(subject_N[night.number])
            for pair, mapped in maps.items():
                found = _night_ranks(night, pair, mapped, pool, rng, others, subject)
                tally.add(pair, subject, found)
                ranked_by_night[night.number] += len(found)
        results.append(
            FoldResult(
                group="",
                num_fit_subjects=len(np.unique(subject_N[fit])),
                num_fit_rows=num_rows,
                num_test_subjects=len(np.unique(subject_N[test])),
                penalty=config.retrieval.penalty,
                penalty_chosen=False,
            )
        )
    empty = sum(not count for count in ranked_by_night.values())
    left_out = Counter({f"fewer than {pool} epochs of two modalities": empty} if empty else {})
    if not tally.num_ranked:
        raise TableError(
            f"found no test night with a pool of {pool} epochs that have two modalities; expected "
            "a smaller retrieval.pool_size, or more than one modality"
        )
    return RetrievalAnswer(
        num_rows=tally.num_ranked,
        asked=tuple(number for number, count in sorted(ranked_by_night.items()) if count),
        figures=tally.figures(config),
        folds=tuple(results),
        left_out=left_out,
        notes=(_about(config),),
    )


def _from_others(config: ProbeConfig) -> bool:
    return config.retrieval.pool == "other_people"


def _about(config: ProbeConfig) -> str:
    pool, size = config.retrieval.pool.replace("_", " "), config.retrieval.pool_size
    chances = ", ".join(f"recall@{k} {min(k / size, 1.0):.3g}" for k in RECALL_AT)
    return f"pools of {size} epochs ({pool}); by chance: {chances}, median rank {(size + 1) / 2:g}"


def _both(night: NightBlocks, pair: tuple[int, int]) -> tuple[Array, Array]:
    """Query and target blocks of the epochs that have both."""
    query_LD, target_LD = night.query_LMD[:, pair[0]], night.target_LMD[:, pair[1]]
    there_L = query_LD.any(1) & target_LD.any(1)
    return query_LD[there_L], target_LD[there_L]


def _fitted(
    read: Callable[[Sequence[int]], Iterator[NightBlocks]], fit: Sequence[int], config: ProbeConfig
) -> tuple[dict[tuple[int, int], PairMap], int]:
    """A map for each pair that some fit night has, and of how many epochs they are."""
    moments: dict[tuple[int, int], _Moments] = {}
    num_rows, most = 0, max(1, config.max_fit_epochs // len(fit))
    for night in read(fit):
        rng = np.random.default_rng([config.seed, night.number, 1])
        kept = np.sort(rng.permutation(len(night.query_LMD))[:most])
        num_rows += len(kept)
        few = NightBlocks(night.number, night.query_LMD[kept], night.target_LMD[kept])
        for pair in PAIRS:
            query_ND, target_ND = _both(few, pair)
            if len(query_ND):
                found = moments.setdefault(pair, _Moments(query_ND.shape[1]))
                found.add(query_ND.astype(np.float64), target_ND.astype(np.float64))
    maps = {pair: m.fitted(config.retrieval) for pair, m in moments.items() if m.count > 1}
    if not maps:
        raise TableError("found no epoch with two modalities to fit on; expected some")
    return maps, num_rows


class _Others:
    """Some epochs of every test night, for the pools of other people's nights."""

    def __init__(
        self,
        read: Callable[[Sequence[int]], Iterator[NightBlocks]],
        test: Sequence[int],
        subject_N: Ints,
        config: ProbeConfig,
    ) -> None:
        self._parts: list[tuple[int, Array]] = []
        size = config.retrieval.pool_size
        for night in read(test):
            rng = np.random.default_rng([config.seed, night.number, 2])
            kept = np.sort(rng.permutation(len(night.target_LMD))[:size])
            self._parts.append((int(subject_N[night.number]), night.target_LMD[kept]))

    def draw(
        self, subject: int, pair: tuple[int, int], num: int, rng: np.random.Generator
    ) -> Array:
        """Targets [num, D] of other people; fewer where there are not so many."""
        blocks = [part[:, pair[1]] for owner, part in self._parts if owner != subject]
        found_ND = np.concatenate(blocks) if blocks else self._parts[0][1][:0, pair[1]]
        found_ND = found_ND[found_ND.any(1)]
        return found_ND[rng.permutation(len(found_ND))[:num]]


def _night_ranks(
    night: NightBlocks,
    pair: tuple[int, int],
    mapped: PairMap,
    pool: int,
    rng: np.random.Generator,
    others: _Others | None,
    subject: int,
) -> Floats:
    """Ranks of a night's epochs, in groups that share a pool; what is left of them is not asked."""
    query_ND, target_ND = _both(night, pair)
    order = rng.permutation(len(query_ND))
    found = []
    for first in range(0, len(order) - pool + 1, pool):
        group = order[first : first + pool]
        query_QK, own_QK = mapped.queries(query_ND[group]), mapped.targets(target_ND[group])
        own_Q = (query_QK * own_QK).sum(1)
        if others is None:
            score_QP = query_QK @ own_QK.T
            apart = ~np.eye(pool, dtype=bool)  # a query's own is not one of the others
            found.append(ranks(score_QP[apart].reshape(pool, pool - 1), own_Q))
            continue
        drawn_PD = others.draw(subject, pair, pool - 1, rng)
        if len(drawn_PD) == pool - 1:
            found.append(ranks(query_QK @ mapped.targets(drawn_PD).T, own_Q))
    return np.concatenate(found) if found else np.empty(0)


class _Tally:
    """How often each subject's epochs had each rank; half ranks have places of their own."""

    def __init__(self, num_subjects: int, pool: int) -> None:
        self._count_FSR: dict[tuple[int, int], Ints] = {}
        self._shape = (num_subjects, 2 * pool + 1)
        self.num_ranked = 0

    def add(self, pair: tuple[int, int], subject: int, rank_N: Floats) -> None:
        if not len(rank_N):
            return
        own_SR = self._count_FSR.setdefault(pair, np.zeros(self._shape, np.int64))
        own_SR[subject] += np.bincount((2 * rank_N).astype(int), minlength=self._shape[1])
        self.num_ranked += len(rank_N)

    def figures(self, config: ProbeConfig) -> tuple[Figure, ...]:
        tested_S = np.any([count_SR.any(1) for count_SR in self._count_FSR.values()], axis=0)
        drawn_BS = resampled_counts(int(tested_S.sum()), config.num_resamples, config.seed)
        found: dict[str, dict[str, Floats]] = {}
        for (query, target), count_SR in sorted(self._count_FSR.items()):
            name = f"{MODALITIES[query]}->{MODALITIES[target]}"
            found[name] = _values(drawn_BS @ count_SR[tested_S])
        names = list(next(iter(found.values())))
        found[MEAN] = {n: np.mean([values[n] for values in found.values()], axis=0) for n in names}
        figures = [
            Figure(name, group, estimate(value_B, config.confidence))
            for group, values in found.items()
            for name, value_B in values.items()
        ]
        even = np.zeros((1, self._shape[1]))
        even[0, 2::2] = 1  # every rank as often as any other
        for name, value_B in _values(even).items():
            value = float(value_B[0])
            figures.append(Figure(name, CHANCE, Estimate(value=value, low=value, high=value)))
        return tuple(figures)


def _values(count_BR: Floats | Ints) -> dict[str, Floats]:
    """Recall at k and median rank of each resample; column r counts the rank r / 2."""
    total_B = count_BR.sum(1).astype(np.float64)
    total_B[total_B == 0] = np.nan
    values = {f"recall_at_{k}": count_BR[:, : 2 * k + 1].sum(1) / total_B for k in RECALL_AT}
    reached_BR = np.cumsum(count_BR, axis=1)
    low_B = (reached_BR >= (total_B / 2)[:, None]).argmax(1)
    high_B = (reached_BR > (total_B / 2)[:, None]).argmax(1)
    median_B = (low_B + high_B) / 4
    return values | {"median_rank": np.where(np.isfinite(total_B), median_B, np.nan)}
