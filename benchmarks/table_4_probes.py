"""Probes of the corpus of table_4.py, and differences of two rows over the same test subjects.

The project's linear probes, fitted on split train and validation and tested on split test; those of
people also fitted on split validation alone. What was guessed of each test subject is kept.

Shapes: L epochs, F features, N nights, S test subjects, B resamples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from table_4_corpus import CorpusNight, split_of

from sleepmami.config import Level, ProbeConfig, Task
from sleepmami.evaluation import epoch_tasks, metrics, paired, person_tasks
from sleepmami.evaluation.bootstrap import resampled_counts
from sleepmami.evaluation.embeddings import NightVectors, ProbeNight
from sleepmami.evaluation.folds import Fold

EPOCH_TASKS: tuple[Task, ...] = ("staging", "apnea")
PERSON_TASKS: tuple[Task, ...] = ("age", "sex", "ahi", "bmi")
PROBE = ProbeConfig(max_fit_epochs=8000, penalties=(1e-3, 1e-2, 1e-1, 1.0, 10.0))
RESAMPLES = 2000
FIT_ON = {  # whose labels a probe of people sees
    "all": ("train", "validation"),
    "few": ("validation",),  # nobody that DGCL saw, and a sixth of the people
}
Vectors = Callable[[CorpusNight], NDArray[np.float32]]  # [L, F]
Row = dict[str, Any]  # Any: of the JSON


class MemoryEmbeddings:
    """Vectors in memory, as the probes read them."""

    uri = model_id = weights_sha256 = "memory"

    def __init__(self, nights: Sequence[CorpusNight], vectors: Vectors) -> None:
        self.nights = tuple(probe_night(night) for night in nights)
        self._x = [vectors(night) for night in nights]
        self._valid = [night.valid_LM.any(1) for night in nights]

    def read(self, places: Sequence[int], level: Level) -> Iterator[NightVectors]:
        """Of epochs, whatever the level."""
        for place in sorted(places):
            yield NightVectors(place, self._x[place], self._valid[place])


def probe_night(night: CorpusNight) -> ProbeNight:
    """What probes are told of a night."""
    subject = night.subject
    return ProbeNight(
        recording_id=subject.subject_id,
        subject_id=subject.subject_id,
        num_epochs=len(night.stage_L),
        split=split_of(subject.index),
        hypnogram=night.stage_L,
        events=night.events,
        age_years=subject.age_years,
        sex=subject.sex,
        bmi=subject.bmi,
        ahi=night.ahi,
    )


def probed(nights: Sequence[CorpusNight], vectors: Vectors) -> dict[str, Any]:
    """Figures of all tasks, and what was guessed of each test subject."""
    embeddings = MemoryEmbeddings(nights, vectors)
    places = list(range(len(nights)))
    tasks = {task: epoch_task(task, embeddings, places) for task in EPOCH_TASKS}
    x_NF, valid_N = person_tasks.night_features(embeddings, "macro", places)
    assert valid_N.all()
    people = {
        f"{task}_{who}": person_task(task, x_NF, embeddings.nights, splits)
        for task in PERSON_TASKS
        for who, splits in FIT_ON.items()
    }
    return {"num_features": x_NF.shape[1], "tasks": tasks | people}


def fold_of(nights: Sequence[ProbeNight], splits: Sequence[str]) -> Fold:
    """Fitted on these splits, tested on split test."""
    split_N = np.array([night.split for night in nights])
    return Fold(fit_N=np.isin(split_N, splits), test_N=split_N == "test")


def epoch_task(task: Task, embeddings: MemoryEmbeddings, places: list[int]) -> dict[str, Any]:
    """Figures, and confusion counts of each test subject."""
    targets, _ = epoch_tasks.epoch_targets(task, embeddings.nights, PROBE)
    kept = [place for place in places if targets[place] is not None]
    nights = [embeddings.nights[place] for place in kept]
    asked = epoch_tasks.AskedNights(
        embeddings=embeddings,
        level="macro",
        places=kept,
        nights=nights,
        targets=[target for target in targets if target is not None],
        folds=[fold_of(nights, FIT_ON["all"])],
    )
    counts: dict[str, list[list[int]]] = {}

    def sink(columns: Any) -> None:  # Any: the cells of a night
        order = names.setdefault("classes", list(dict.fromkeys(_classes(columns))))
        truth_N, guess_N = (
            np.array([order.index(c) for c in columns[which]]) for which in ("truth", "guess")
        )
        found_CC = metrics.confusion(truth_N, guess_N, len(order))
        counts[columns["subject_id"][0]] = found_CC.tolist()

    names: dict[str, list[str]] = {}
    answer = epoch_tasks.answer(task, asked, PROBE, sink)
    return {
        "figures": figures_of(answer.figures),
        "penalty": answer.folds[0].penalty,
        "num_fit_rows": answer.folds[0].num_fit_rows,
        "subjects": list(counts),
        "counts": list(counts.values()),
    }


def _classes(columns: Any) -> list[str]:  # Any: cells
    return [name.removeprefix("p_") for name in columns if name.startswith("p_")]


def person_task(
    task: Task, x_NF: NDArray[np.float32], nights: Sequence[ProbeNight], splits: Sequence[str]
) -> dict[str, Any]:
    """Figures, truth and guess of each test subject."""
    columns: dict[str, Any] = {}
    answer = person_tasks.answer(
        task, x_NF, nights, [fold_of(nights, splits)], PROBE, "", columns.update
    )
    guess = columns["p_male"] if task == "sex" else columns["guess"]
    return {
        "figures": figures_of(answer.figures),
        "penalty": answer.folds[0].penalty,
        "num_fit_subjects": answer.folds[0].num_fit_subjects,
        "subjects": columns["subject_id"],
        "truth": columns["truth"],
        "guess": [round(float(g), 5) for g in guess],
    }


def figures_of(figures: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Value and interval of each figure."""
    return {
        figure.name: {
            name: round(float(getattr(figure.estimate, name)), 5)
            for name in ("value", "low", "high")
        }
        for figure in figures
    }


# ------------------------------------------------------------------------------------- differences


def difference(
    one: Sequence[Row], other: Sequence[Row], task: str, figure: str
) -> dict[str, float]:
    """How much better `one` is in a figure, with an interval over the same test subjects.

    Args:
        one: a row, or those of several seeds, whose mean figure counts.
        other: another, of the same test subjects.
        task: of either.
        figure: macro_f1, mae, r2 or auroc; of MAE less is better.
    """
    subjects = one[0]["tasks"][task]["subjects"]
    assert all(row["tasks"][task]["subjects"] == subjects for row in (*one, *other))
    drawn_BS = resampled_counts(len(subjects), RESAMPLES, 0)
    values = [
        [figure_of(row["tasks"][task], figure, drawn_BS) for row in rows] for rows in (one, other)
    ]
    if figure == "mae":
        values.reverse()
    found = paired.less(*values, 0.95)
    return {name: round(value, 5) for name, value in asdict(found).items()}


def figure_of(found: dict[str, Any], figure: str, drawn_BS: Any) -> Any:
    """A figure of each resample of the test subjects [B], who have one row each."""
    if figure == "macro_f1":
        return paired.counts_figure(np.array(found["counts"]), drawn_BS)
    truth_S = np.array(found["truth"])
    truth_S = truth_S == "male" if figure == "auroc" else truth_S.astype(float)
    return paired.rows_figure(figure, truth_S, np.array(found["guess"], float), drawn_BS)
