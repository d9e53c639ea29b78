"""Simulated nights beside real ones: EEG spectra, stages, hearts, oxygen; two pictures, numbers.

Every real person has simulated sleepers of the same age, sex, BMI and apnea index beside them. Real
data: UCDDB (EEG, oxygen), MIT-BIH slpdb (beats), ds005555 (stages), in the folder given as --data.

    python benchmarks/simulation_vs_real.py --data ../shared/data --out docs
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S, Stage
from sleepmami.simulation import eeg, heart, respiration
from sleepmami.simulation.effects import PUBLISHED
from sleepmami.simulation.events import NightPlan
from sleepmami.simulation.night import plan_night
from sleepmami.simulation.subjects import Stream, Subject, random_stream, simulate_subject

Floats = NDArray[np.float64]
Stages = NDArray[np.int8]
STAGES = (Stage.WAKE, Stage.N1, Stage.N2, Stage.N3, Stage.REM)
NAMES = ("W", "N1", "N2", "N3", "REM")
REAL, SIMULATED = "#D55E00", "#0072B2"
SEED = 31
TWINS = 3  # simulated sleepers beside each real one
UCDDB_STAGE = {0: 0, 1: 4, 2: 1, 3: 2, 4: 3, 5: 3}
SLPDB_STAGE = {"W": 0, "1": 1, "2": 2, "3": 3, "4": 3, "R": 4}
SLPDB_EVENT = {"H", "HA", "OA", "X", "CA", "CAA", "A"}


class Person(NamedTuple):
    """Who slept; the AHI of ds005555 is not known and taken as low."""

    age_years: float
    sex: Literal["female", "male"]
    bmi: float
    ahi_per_h: float


def twins(person: Person, number: int) -> list[Subject]:
    """Simulated people like a real one, unlike each other in what is not known."""
    known = person._asdict()
    made = []
    for twin in range(TWINS):
        index = number * TWINS + twin
        drawn = simulate_subject(index, SEED, PUBLISHED)
        slower = PUBLISHED.alpha_hz_per_year * (drawn.age_years - person.age_years)
        made.append(dataclasses.replace(drawn, alpha_hz=drawn.alpha_hz + slower, **known))
    return made


def plan_of(subject: Subject, num_epochs: int) -> NightPlan:
    return plan_night(subject, num_epochs * EPOCH_S / 3600, SEED)


# ------------------------------------------------------------------------------------ real nights


def read_ucddb(data: Path) -> list[tuple[Person, Stages, NDArray[np.bool_], Floats]]:
    """(person, stages, epochs with EEG, EEG of all epochs at 128 Hz in an unknown unit)."""
    nights = []
    with (data / "ucddb/subjects_dev.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        sex: Literal["female", "male"] = "male" if row["sex"] == "M" else "female"
        person = Person(float(row["age"]), sex, float(row["bmi"]), float(row["ahi"]))
        held = np.load(data / f"ucddb/{row['id']}.npz")
        stages = np.array([UCDDB_STAGE.get(int(s), -1) for s in held["stage"]], np.int8)
        nights.append((person, stages, held["have"], held["eeg"].astype(np.float64)))
    return nights


def read_ds005555(data: Path) -> list[tuple[Person, Stages]]:
    """One night of each of the people, with stages by experts."""
    folder = data / "annotations/ds005555"
    with (folder / "participants.tsv").open() as stream:
        rows = {row["pid"]: row for row in csv.DictReader(stream, delimiter="\t")}
    nights = []
    for row in rows.values():
        name = row["participant_id"]
        file = folder / name / f"eeg/{name}_task-Sleep_acq-psg_events.tsv"
        if not file.exists() or not re.fullmatch(r"\d+", row["age"]):
            continue
        with file.open() as stream:
            codes = [line.get("stage_hum") or "" for line in csv.DictReader(stream, delimiter="\t")]
        stages = np.array([int(c) if c in "01234" and c else -1 for c in codes], np.int8)
        bmi = float(row["bmi"]) if re.fullmatch(r"[\d.]+", row["bmi"]) else 24.0
        sex: Literal["female", "male"] = "male" if row["sex"] == "M" else "female"
        nights.append((Person(float(row["age"]), sex, bmi, 3.0), stages))
    return nights


def read_slpdb(data: Path) -> list[tuple[Person, Stages, Floats]]:
    """(person, stages, times of beats in s); all are men with apnea."""
    nights = []
    for header in sorted((data / "annotations/slpdb").glob("*.hea")):
        about = re.search(r"^# (\d+) M", header.read_text(), re.M)
        rows = header.with_suffix(".an").read_text().splitlines()[1:]
        if about is None:
            continue
        notes = [row.split()[6:] for row in rows]
        stages = np.array([SLPDB_STAGE.get(n[0], -1) if n else -1 for n in notes], np.int8)
        count = sum(len(SLPDB_EVENT & {word}) for n in notes for word in n[1:])
        slept_h = max(int((stages > 0).sum()), 1) * EPOCH_S / 3600
        lines = header.with_suffix(".rr").read_text().splitlines()
        beats = [_seconds(line.split()[-1]) for line in lines]
        person = Person(float(about[1]), "male", 30.0, float(np.clip(count / slept_h, 0.2, 90.0)))
        nights.append((person, stages, np.array(beats)))
    return nights


def _seconds(clock: str) -> float:
    """Of h:mm:ss.mmm or m:ss.mmm."""
    seconds = 0.0
    for part in clock.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


# --------------------------------------------------------------------------------------- measures


def spectra(signal_ET: Floats, rate_hz: int, stages: Stages) -> Floats:
    """Power by stage, [stage, frequency], in dB of the night's mean in N3 over 0.5 to 30 Hz."""
    size = 4 * rate_hz
    windows = signal_ET[:, : signal_ET.shape[1] // size * size].reshape(len(signal_ET), -1, size)
    tapered = (windows - windows.mean(axis=2, keepdims=True)) * np.hanning(size)
    power = np.median(np.abs(np.fft.rfft(tapered, axis=2)) ** 2, axis=1)
    frequency_hz = np.arange(power.shape[1]) / 4
    kept = (frequency_hz >= 0.5) & (frequency_hz <= 30)
    missing = np.full(kept.sum(), np.nan)
    rows = [
        np.median(power[stages == s], axis=0)[kept] if (stages == s).sum() >= 5 else missing
        for s in STAGES
    ]
    found: Floats = 10 * np.log10(np.stack(rows) / np.mean(rows[int(Stage.N3)]))
    return found


def shares(stages: Stages) -> Floats:
    """Percent of the scored epochs, in the order of STAGES."""
    counts = np.bincount(stages[stages >= 0], minlength=5)
    found: Floats = 100 * counts / counts.sum()
    return found


def bouts_min(stages: Stages) -> list[tuple[int, float]]:
    """(stage, length) of every run of equal epochs."""
    return [(s, len(list(run)) * EPOCH_S / 60) for s, run in itertools.groupby(stages.tolist())]


def heart_by_stage(beat_s: Floats, stages: Stages) -> tuple[Floats, Floats]:
    """(median rate less that of N2 in beats a minute, median RMSSD in ms) by stage."""
    rates, variations = np.full(len(stages), np.nan), np.full(len(stages), np.nan)
    intervals, epoch = np.diff(beat_s), (beat_s[1:] // EPOCH_S).astype(int)
    for at in range(len(stages)):
        rr = intervals[epoch == at]
        rr = rr[(rr > 0.4) & (rr < 1.8)]
        if rr.size > 15:
            steps = np.diff(rr)
            steps = steps[np.abs(steps) < 0.25]  # a missed or an early beat
            rates[at], variations[at] = 60 / np.median(rr), 1e3 * np.sqrt(np.mean(steps**2))
    enough = [(stages == s) & ~np.isnan(rates) for s in STAGES]
    rate = np.array([np.median(rates[e]) if e.sum() >= 5 else np.nan for e in enough])
    variation = np.array([np.median(variations[e]) if e.sum() >= 5 else np.nan for e in enough])
    return rate - rate[int(Stage.N2)], variation


# ------------------------------------------------------------------------------------- simulated


def simulated_eeg(subject: Subject, num_epochs: int, *, measured: bool) -> tuple[Floats, Stages]:
    plan = plan_of(subject, num_epochs)
    rngs = [random_stream(SEED, subject.index, s) for s in (Stream.EEG, Stream.SPECTRA)]
    c4, _ = eeg.simulate_eeg(subject, plan, rngs[0], rngs[1] if measured else None)
    return c4.reshape(plan.hypnogram.size, -1).astype(np.float64), plan.hypnogram


def simulated_heart(subject: Subject, num_epochs: int) -> tuple[Floats, Stages]:
    plan = plan_of(subject, num_epochs)
    rng = random_stream(SEED, subject.index, Stream.HEART)
    breathing = respiration.simulate_breathing(subject, plan, rng)
    return heart.simulate_heart(subject, plan, breathing.phase, rng).beat_s, plan.hypnogram


def simulated_oxygen(subject: Subject, num_epochs: int) -> Floats:
    rng = random_stream(SEED, subject.index, Stream.RESPIRATION)
    return respiration.simulate_saturation(subject, plan_of(subject, num_epochs), rng).astype(float)


# --------------------------------------------------------------------------------------- pictures


def band(axes: Axes, x: Sequence[float] | Floats, rows: Floats, colour: str, label: str) -> Floats:
    """Median over people with the middle half shaded."""
    low, middle, high = np.nanpercentile(rows, [25, 50, 75], axis=0)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(x, middle, color=colour, label=label, linewidth=1.4)
    return np.asarray(middle)


def beside(axes: Axes, pairs: Iterable[tuple[Floats, str, str]], names: Sequence[str]) -> None:
    """Median and middle half of each column, real and simulated side by side."""
    for at, (rows, colour, label) in enumerate(pairs):
        low, middle, high = np.nanpercentile(rows, [25, 50, 75], axis=0)
        x = np.arange(len(names)) + 0.22 * (at - 0.5) * 1.2
        marks = "os"[at]
        errors = np.stack([middle - low, high - middle])
        axes.errorbar(x, middle, errors, fmt=marks, color=colour, label=label, capsize=3)
    axes.set_xticks(range(len(names)), names)


def draw_spectra(data: Path, out: Path) -> dict[str, Any]:
    real: list[Floats] = []
    smooth: list[Floats] = []
    measured: list[Floats] = []
    for number, (person, stages, have, signal) in enumerate(read_ucddb(data)):
        if (stages[have] == Stage.N3).sum() < 5:
            continue  # two people's EEG is of wake alone
        real.append(spectra(signal[have], 128, stages[have]))
        subject = twins(person, number)[0]
        for made, is_measured in ((smooth, False), (measured, True)):
            signal_ET, slept = simulated_eeg(subject, len(stages), measured=is_measured)
            made.append(spectra(signal_ET, eeg.RATE_HZ, slept))
    frequency_hz = np.arange(0.5, 30.1, 0.25)
    figure, panels = plt.subplots(1, 5, figsize=(11, 2.9), sharey=True, layout="constrained")
    numbers: dict[str, Any] = {}
    for at, (axes, name) in enumerate(zip(panels, NAMES, strict=True)):
        rows = np.stack(real)[:, at]
        count = int((~np.isnan(rows[:, 0])).sum())
        of_real = band(axes, frequency_hz, rows, REAL, "real (UCDDB)")
        even = np.nanmedian(np.stack(smooth)[:, at], axis=0)
        axes.plot(frequency_hz, even, color="0.4", linestyle=":", label="spectra=smooth")
        of_made = band(axes, frequency_hz, np.stack(measured)[:, at], SIMULATED, "spectra=measured")
        title = f"{name}: {count} people" if count > 1 else f"{name}: one man"
        axes.set(title=title, xlabel="Hz", xscale="log", xticks=[1, 3, 10, 30], ylim=(-32, 17))
        axes.set_xticklabels(["1", "3", "10", "30"])
        axes.minorticks_off()
        bands = ((0.5, 4), (4, 8), (8, 11), (11, 16), (16, 30))
        cuts = [(frequency_hz >= a) & (frequency_hz < b) for a, b in bands]
        numbers[name] = {
            f"{a:g}-{b:g} Hz": [round(float((x - of_real)[cut].mean()), 1) for x in (even, of_made)]
            for (a, b), cut in zip(bands, cuts, strict=True)
        }
    panels[0].set_ylabel("EEG power, dB re mean of N3")
    panels[0].legend(frameon=False, fontsize=8, loc="lower left")
    figure.savefig(out / "simulation_spectra.png", dpi=90)
    return numbers


def draw_rest(data: Path, out: Path) -> dict[str, Any]:
    figure, grid = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    numbers: dict[str, Any] = {}

    nights: dict[str, list[tuple[Person, Stages]]] = {
        "100 people (ds005555)": read_ds005555(data),
        "15 with apnea (UCDDB)": [(p, s) for p, s, _, _ in read_ucddb(data)],
    }
    for axes, (title, real) in zip(grid[0], nights.items(), strict=False):
        made = [
            plan_of(twin, len(stages)).hypnogram
            for number, (person, stages) in enumerate(real)
            for twin in twins(person, number)
        ]
        rows = [np.stack([shares(s) for s in group]) for group in ([s for _, s in real], made)]
        beside(axes, zip(rows, (REAL, SIMULATED), ("real", "simulated"), strict=True), NAMES)
        axes.set(title=f"stages: {title}", ylabel="% of the recording", ylim=(0, None))
        axes.legend(frameon=False)
        numbers[f"stage shares, {title}"] = _medians(rows)
        if title.startswith("100"):
            groups = ([s for _, s in real], made)
            lengths = [[bout for s in group for bout in bouts_min(s)] for group in groups]
            numbers["mean bout in min"] = _bouts(grid[0][2], lengths)

    beats = read_slpdb(data)
    real_heart = [heart_by_stage(beat_s, stages) for _, stages, beat_s in beats]
    made_heart = [
        heart_by_stage(*simulated_heart(twin, len(stages)))
        for number, (person, stages, _) in enumerate(beats)
        for twin in twins(person, number)
    ]
    titles = ("heart rate less that of N2, beats/min", "beat-to-beat variability (RMSSD), ms")
    for at, (axes, title) in enumerate(zip(grid[1], titles, strict=False)):
        rows = [np.stack([pair[at] for pair in group]) for group in (real_heart, made_heart)]
        labels = (f"{len(beats)} nights (slpdb)", "simulated")
        beside(axes, zip(rows, (REAL, SIMULATED), labels, strict=True), NAMES)
        axes.set_title(title)
        axes.margins(y=0.4)
        axes.legend(frameon=False, loc=("upper center", "upper left")[at])
        numbers[title] = _medians(rows)
    numbers["oxygen"] = _oxygen(data, grid[1][2])
    figure.savefig(out / "simulation_physiology.png", dpi=80)
    return numbers


def _bouts(axes: Axes, lengths: list[list[tuple[int, float]]]) -> dict[str, list[float]]:
    means = [[float(np.mean([m for s, m in group if s == stage])) for stage in STAGES]
             for group in lengths]  # fmt: skip
    for at, (row, colour, label) in enumerate(
        zip(means, (REAL, SIMULATED), ("real (ds005555)", "simulated"), strict=True)
    ):
        axes.bar(np.arange(5) + 0.4 * at - 0.2, row, 0.38, color=colour, label=label)
    axes.set_xticks(range(5), NAMES)
    axes.set(title="mean length of a stage's bouts, min")
    axes.legend(frameon=False)
    return {
        label: [round(v, 1) for v in row]
        for label, row in zip(("real", "simulated"), means, strict=True)
    }


def _oxygen(data: Path, axes: Axes) -> dict[str, Any]:
    with (data / "ucddb/spo2_pulse_1hz_ucddb027.csv").open() as stream:
        level = np.array([float(row["SpO2"]) for row in csv.DictReader(stream)])
    real = level[(level > 50) & (level <= 100)]
    subjects = twins(Person(45, "male", 28.1, 55.0), 90) + twins(Person(45, "male", 28.1, 55.0), 91)
    made = [simulated_oxygen(subject, len(level) // EPOCH_S) for subject in subjects]
    bins = np.arange(69.5, 101, 1.0)
    share: Callable[[Floats], Floats] = lambda values: (  # noqa: E731  # a name for two uses
        100 * np.histogram(values, bins)[0] / values.size
    )
    axes.stairs(share(real), bins, color=REAL, linewidth=1.6, label="one man, AHI 55 (UCDDB)")
    for at, values in enumerate(made):
        label = "simulated twins" if not at else None
        axes.stairs(share(values), bins, color=SIMULATED, alpha=0.5, linewidth=0.9, label=label)
    axes.set(title="SpO2, % of the night per %", xlabel="SpO2, %")
    axes.legend(frameon=False, loc="upper left")
    levels = (5, 25, 50, 75, 95)
    return {
        "percentiles": levels,
        "real": np.percentile(real, levels).round(1).tolist(),
        "simulated": np.mean([np.percentile(m, levels) for m in made], axis=0).round(1).tolist(),
    }


def _medians(rows: Sequence[Floats]) -> dict[str, list[float]]:
    return {
        label: np.nanmedian(values, axis=0).round(1).tolist()
        for label, values in zip(("real", "simulated"), rows, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if not (given.data / "ucddb").is_dir():
        raise SystemExit(
            f"--data {given.data}: found no folder ucddb; expected the real recordings"
        )
    numbers = {
        "simulated (smooth, measured) less real, dB": draw_spectra(given.data, given.out),
        **draw_rest(given.data, given.out),
    }
    print(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
