"""Labels that look like one of our signals and are another: which of them is taken for what."""

import pytest

from sleepmami.psg import Confidence, Modality
from sleepmami.signals.channels import plan_channels
from sleepmami.signals.edf import EdfChannel
from sleepmami.signals.labels import parse_label

# label lists, separated by |
NOT_OURS = (
    "Oesophageal pressure|Pression art\u00e9rielle|Intracranial pressure|Barometric pressure|Airway pressure"
    "|Epi pressure|Pharyngeal pressure|Press.2s|PressCheck|rSO2|rSO2 L|SvO2|SctO2|O2 Pleth|O2 conc|O2 suppl"
    "|SpO2 Wave|SaO2 Wave|Oxi Pulse|SpO2 pulse|Plethysmograph|Insp|Peak Flow|ECG-derived Resp|EKG Atmung"
    "|Resp ECG|FC ECG|EKG HF|EEG Delta power|EEG Alpha|EMG noga lewa|EMG Kiefer|EMG Wade|EMG Unterschenkel"
    "|EMG parasternal|EMG Gesicht|Chrapanie|D\u017awi\u0119k"
)
OURS = {
    Modality.EEG: "Elettroencefalogramma|O2|EEG O2|O2-A1|PSG O2|O2 Ref",
    Modality.EOG: "EOGsx|EOGdx|Oko lewe|EOG prawy|\u0153il gauche",
    Modality.EMG: "Broda|EMG Broda|Podbr\u00f3dek|Mentoniera|Houppe du menton|EMG Wobble",
    Modality.ECG: "Electrocardiograma|\u00c9lectrocardiogramme|Elettrocardiogramma|EKG II",
    Modality.RESP: "Przep\u0142yw|Atemflu\u00df|Kaniula|Thermistanz|Klatka piersiowa|Brzuch|Pas piersiowy|Brustband|Bauchband|TFLOW|Pressure|Pres",
    Modality.SPO2: "Saturacja|Saturacja O2|Pulsoksymetr|Pulse Ox",
}


@pytest.mark.parametrize("label", NOT_OURS.split("|"))
def test_what_only_sounds_like_one_of_our_signals_is_none(label: str) -> None:
    assert parse_label(label).modality is None


@pytest.mark.parametrize(
    ("label", "modality"),
    [(label, modality) for modality, text in OURS.items() for label in text.split("|")],
)
def test_signals_in_more_languages_are_found(label: str, modality: Modality) -> None:
    assert parse_label(label).modality is modality


def test_the_electrode_o2_beside_a_strange_word_needs_a_voltage() -> None:
    assert parse_label("O2 Wobble", "uV").modality is Modality.EEG
    assert parse_label("O2 Wobble").modality is None


@pytest.mark.parametrize("better", ["EMG", "EMG3", "Chin"])
def test_an_emg_of_an_unknown_muscle_is_the_last_choice(better: str) -> None:
    strange = parse_label("EMG Wobble")
    assert strange.confidence is Confidence.GUESS
    assert parse_label(better).rank < strange.rank


def test_a_bare_pressure_is_no_better_than_a_thermistor() -> None:
    assert parse_label("Therm").rank < parse_label("Pressure").rank < parse_label("Thorax").rank


def test_electrodes_of_a_numbered_net_are_no_eyes() -> None:
    def channel(index: int, label: str) -> EdfChannel:
        return EdfChannel(index, label, "uV", 250.0, 250, -500.0, 500.0, -32768, 32767)

    net = plan_channels([channel(i, f"E{i + 1}") for i in range(128)])
    assert net.sources == {}
    both = plan_channels([channel(0, "E1"), channel(1, "E2"), channel(2, "M2")])
    assert both.sources[Modality.EOG].label == "E1 - M2"
