import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.psg import Stage
from sleepmami.simulation.artefacts import Artefact, ArtefactKind, add_artefacts
from sleepmami.simulation.body import Body, BodySignal, Source
from sleepmami.simulation.events import NightPlan
from sleepmami.simulation.night import simulate_night
from sleepmami.simulation.subjects import Subject

PLAN = NightPlan(hypnogram=np.full(960, Stage.N2, np.int8), events=())  # 8 h, nobody moves
SLOW = (Source.FLOW, Source.THORAX, Source.ABDOMEN)


def body() -> Body:
    """Constant signals: whatever changes is a fault. No heart, so that nothing leaks."""
    rates = {**dict.fromkeys(SLOW, 10), Source.SATURATION: 1, Source.PULSE: 1}
    level = {Source.ECG: 0.0, Source.SATURATION: 96.0, Source.PULSE: 60.0}
    return {
        source: BodySignal(
            samples=np.full(PLAN.num_seconds * rates.get(source, 25), level.get(source, 2.0), "f4"),
            rate_hz=rates.get(source, 25),
        )
        for source in Source
        if source is not Source.MASTOID
    }


def faults(rate: float, seed: int) -> tuple[Body, tuple[Artefact, ...]]:
    return add_artefacts(body(), PLAN, rate, np.random.default_rng(seed))


def inside(signal: BodySignal, artefact: Artefact) -> NDArray[np.float32]:
    rate_hz = signal.rate_hz
    return signal.samples[round(artefact.start_s * rate_hz) : round(artefact.end_s * rate_hz)]


def test_faults_change_what_they_name_and_nothing_else() -> None:
    clean = body()
    faulty, found = faults(2.0, 0)
    assert {a.kind for a in found} == set(ArtefactKind)
    for source, signal in faulty.items():
        touched = np.zeros(signal.samples.size, bool)
        for a in found:
            heads = a.kind is ArtefactKind.SWEAT and source in list(Source)[:4]
            pulse = a.source is Source.SATURATION and source is Source.PULSE
            if a.source is source or heads or pulse:
                span = (round(at * signal.rate_hz) for at in (a.start_s, a.end_s))
                touched[slice(*span)] = True
        changed = signal.samples != clean[source].samples
        assert not changed[~touched].any(), source
        assert touched.any() == changed.any(), source


def test_a_lost_oximeter_reads_zero_and_takes_the_pulse_along() -> None:
    faulty, found = faults(3.0, 1)
    lost = [a for a in found if a.source is Source.SATURATION]
    assert lost
    for artefact in lost:
        assert (inside(faulty[Source.SATURATION], artefact) == 0).all()
        assert (inside(faulty[Source.PULSE], artefact) == 0).all()


def test_a_lost_electrode_shows_only_noise_even_where_it_pops() -> None:
    lost = []
    for seed in range(8):
        faulty, found = faults(10.0, seed)
        for artefact in found:
            if artefact.kind is ArtefactKind.LOST and artefact.source is Source.C4:
                part = inside(faulty[Source.C4], artefact)
                lost.append(part)
    assert len(lost) > 10
    for part in lost:
        assert np.abs(part).max() < 8.0
        assert abs(part.mean()) < 0.2  # not the 2 uV that were there


def test_a_pop_is_a_step_that_fades() -> None:
    faulty, found = faults(0.5, 3)
    pops = [a for a in found if a.kind is ArtefactKind.POP]
    lone = [a for a in pops if not any(
        o is not a and o.start_s < a.end_s and a.start_s < o.end_s for o in found
    )]  # fmt: skip
    assert lone
    for artefact in lone:
        part = np.abs(inside(faulty[artefact.source], artefact) - 2.0)
        assert part[0] >= 79.0
        assert part[0] == part.max()
        assert part[-1] < 0.2 * part[0]


def test_nights_differ_in_their_tendency_and_more_is_more() -> None:
    few, many = ([len(faults(rate, seed)[1]) for seed in range(12)] for rate in (0.5, 2.0))
    assert np.mean(many) == pytest.approx(4 * np.mean(few), rel=0.25)
    assert np.std(many) > 1.5 * np.sqrt(np.mean(many))  # more than chance makes


def test_without_faults_a_night_is_the_same_to_the_bit(sleeper: Subject) -> None:
    clean = simulate_night(sleeper, 0.2, 7)
    assert clean.artefacts == ()
    faulty = simulate_night(sleeper, 0.2, 7, artefacts=1.0)
    assert faulty.events == clean.events
    flow = [next(c for c in n.channels if c.label == "AIRFLOW").samples for n in (clean, faulty)]
    assert not any(a.source is Source.FLOW for a in faulty.artefacts)
    np.testing.assert_array_equal(*flow)


def test_the_heart_leaks_into_the_eeg(sleeper: Subject) -> None:
    faulty = simulate_night(sleeper, 0.5, 7, artefacts=1.0)
    clean = simulate_night(sleeper, 0.5, 7)
    eeg = [c.samples.astype(np.float64) for n in (clean, faulty) for c in n.channels[:1]]
    ecg = faulty.channels[5].samples.astype(np.float64)
    quiet = np.abs(eeg[1] - eeg[0]) < 20
    leak = (eeg[1] - eeg[0])[quiet]
    assert abs(np.corrcoef(leak, ecg[quiet])[0, 1]) > 0.8
    assert 0.1 < leak.std() < 5
