"""Settings of probes on frozen embeddings: who is tested, which loss, which penalty."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Literal, get_args

from sleepmami.errors import ConfigError, require

Task = Literal["staging", "few-shot", "apnea", "age", "bmi", "ahi", "sex", "survival", "retrieval"]
Level = Literal["micro", "macro", "night", "second"]
TASKS: tuple[Task, ...] = get_args(Task)
DISEASES = ("angina", "cvd_death", "chf", "chd_death", "mi", "stroke")  # Table 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeSplitConfig:
    """Who is tested. Of split train the encoder saw the nights, and DGCL age, sex and BMI."""

    # the corpus' own split; everybody in turn; or in turn by probes of each recorder
    kind: Literal["stored", "folds", "device"] = "stored"
    among: Literal["all", "held_out"] = "all"  # of folds: everybody, or those not in split train
    num_folds: int = 5
    device: Literal["cohort", "montage"] = "cohort"  # of device: what tells recorders apart

    def __post_init__(self) -> None:
        require(self.num_folds >= 2, "split.num_folds", self.num_folds, ">= 2")
        changed = (self.among, self.num_folds) != ("all", 5)
        if self.kind == "stored" and changed:
            raise ConfigError(
                "split.among and split.num_folds have no effect with split.kind='stored'; "
                "leave them out, or set split.kind=folds"
            )
        if self.kind != "device" and self.device != "cohort":
            raise ConfigError(f"split.device has no effect with split.kind={self.kind!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ApneaConfig:
    """What is normal and what is disordered breathing (section 4.1.2)."""

    unit: Literal["epoch", "second"] = "epoch"
    # of an epoch within apneas or hypopneas: half of the 10 s that an event lasts at least, so that
    # an event on a border marks one of the two epochs
    min_overlap_s: float = 5.0

    def __post_init__(self) -> None:
        require(0 < self.min_overlap_s <= 30, "apnea.min_overlap_s", self.min_overlap_s, "in 0..30")
        if self.unit == "second" and self.min_overlap_s != 5.0:
            raise ConfigError("apnea.min_overlap_s has no effect with apnea.unit='second'")


@dataclass(frozen=True, kw_only=True, slots=True)
class FewShotConfig:
    """Staging by the labels of few subjects (section 4.2, Fig. 5)."""

    num_subjects: tuple[int, ...] = (1, 5, 10, 20, 30, 50, 90)  # n of Fig. 5
    num_draws: int = 5  # of other subjects, for each n

    def __post_init__(self) -> None:
        n = self.num_subjects
        ok = bool(n) and n[0] >= 1 and all(a < b for a, b in itertools.pairwise(n))
        require(ok, "few_shot.num_subjects", n, "a list of rising numbers >= 1")
        require(self.num_draws >= 1, "few_shot.num_draws", self.num_draws, ">= 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalConfig:
    """Blocks of another modality of the same 30 s, among a pool: `evaluation/retrieval.py`."""

    match: Literal["cca", "ridge", "cosine"] = "cca"  # how blocks of two modalities are compared
    penalty: float = 0.1  # of both maps, on z-scored blocks, whose variances are 1
    pool: Literal["same_night", "other_people"] = "same_night"  # where the other epochs are from
    pool_size: int = 100  # the right epoch and 99 others

    def __post_init__(self) -> None:
        require(self.penalty > 0, "retrieval.penalty", self.penalty, "> 0")
        require(self.pool_size >= 2, "retrieval.pool_size", self.pool_size, ">= 2")
        if self.match == "cosine" and self.penalty != 0.1:
            raise ConfigError("retrieval.penalty has no effect with retrieval.match='cosine'")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeConfig:
    """One linear probe; losses and class weights are Table 10's."""

    # macro for tasks of epochs, night for tasks of people; second is for apnea
    level: Level | None = None
    split: ProbeSplitConfig = field(default_factory=ProbeSplitConfig)
    cohorts: tuple[str, ...] = ()  # whose nights are fitted and tested; none named: of all
    class_weights: Literal["table_10", "none"] = "table_10"
    wake_min: float = 30.0  # section 4.1.1: wake kept before and after sleep, minutes
    # of half the squared weights on z-scored features; Table 10 has early stopping instead
    penalties: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
    inner_folds: int = 3  # of the fit subjects, to choose the penalty
    # of epochs, or of seconds; more are thinned out evenly over the nights, and all are tested
    max_fit_epochs: int = 200_000
    # of those, to choose the penalty on: an even share of each subject's; it then fits all
    max_choice_epochs: int = 50_000
    num_resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0
    apnea: ApneaConfig = field(default_factory=ApneaConfig)
    few_shot: FewShotConfig = field(default_factory=FewShotConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    outcomes: tuple[str, ...] = DISEASES

    def __post_init__(self) -> None:
        require(self.wake_min >= 0, "wake_min", self.wake_min, ">= 0")
        ok = bool(self.penalties) and min(self.penalties) > 0
        require(ok, "penalties", self.penalties, "a list of numbers > 0")
        require(self.inner_folds >= 2, "inner_folds", self.inner_folds, ">= 2")
        require(self.max_fit_epochs >= 1000, "max_fit_epochs", self.max_fit_epochs, ">= 1000")
        require(
            self.max_choice_epochs >= 1000, "max_choice_epochs", self.max_choice_epochs, ">= 1000"
        )
        require(self.num_resamples >= 100, "num_resamples", self.num_resamples, ">= 100")
        require(0 < self.confidence < 1, "confidence", self.confidence, "within 0..1")
        require(self.seed >= 0, "seed", self.seed, ">= 0")
        once = len(set(self.cohorts)) == len(self.cohorts)
        require(once, "cohorts", self.cohorts, "a list of different names")
        if self.level == "second" and self.apnea != ApneaConfig():
            raise ConfigError(
                "apnea.unit and apnea.min_overlap_s have no effect with level='second', whose "
                "unit is the second; leave them out"
            )
        ok = bool(self.outcomes) and len(set(self.outcomes)) == len(self.outcomes)
        require(ok, "outcomes", self.outcomes, "a list of different names")
