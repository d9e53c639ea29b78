"""Labels that hold a word of a sleep signal and are none: a wrong signal is worse than none."""

import pytest

from sleepmami.psg import Modality
from sleepmami.signals.labels import parse_label

OF_OTHERS = """
Thor Acc|Thorax Acc X|Chest Accelerometer|Abd Acc|Chest Gyro|Thorax Phase|Thor-Abd Phase|Luftdruck
Air Pressure|Brustlage|Chest Position|Chest Temperature|Chest Sound|Nasal Temp|Nasal CO2|Nasal Snore
NPT Tip|NPT Base|Penile Tumescence|Resp EDR|EDR|ECG-derived respiration|Resp index|Resp amplitude
Resp Rate|Resp EMG|Resp Period|Flow Index|Flow Limitation|Mask Pressure|CPAP Temp|DC-O2|O2 Flow|FiO2
SpO2 PI|Sat PI|SpO2 Perf|SpO2 Perfusion|SpO2 IR|SpO2 Red|SpO2 PLS|Sat Amp|SpO2 signal strength|OxyHb
HbO2|SpO2 Wave|Oxi Pleth|Sat Status|EEG Arousal|EEG Photic|EEG Sync|EEG BIS|EEG Impedance|EEG Snore
EMG BIS|EMG RMS|EMG Thigh|EMG Calf|EMG Shin|EMG Ankle|EMG Knie|EMG Vastus|EMG Thenar|EMG Tongue
EMG Zunge|EMG Orbicularis|EMG Finger|EMG Back|EMG Paraspinal|EMG muslo|EMG cuisse|EMG Oberschenkel
Light|Lux|Battery|Trigger|Body Pos|Rectal Temp|pH|EtCO2|Leak|Tidal Volume|Heart Sound|Leg L|RAT
"""
OURS = {
    Modality.RESP: "Chest Movement|Abd Mov|Brustbewegung|Thorax motion|Air flow|Airflow Pressure|Sum"
    "|Nasal Pressure|NPT|PSG_CAN|Chest Belt|Resp|Luft|Luftfluss",
    Modality.SPO2: "SpO2|SpO2 Finger|SpO2 index finger|Pulse Ox|SaO2 %|SpO2 BB|Nonin SpO2|O2 Sat",
    Modality.EEG: "EEG|EEG2|EEG O2|O2-A1|EEG left",
    Modality.EMG: "EMG|EMG Chin|EMG2|EMG submental",
    Modality.ECG: "ECG Chest|ECG II|Thorax ECG",
}


@pytest.mark.parametrize("label", OF_OTHERS.strip().replace("\n", "|").split("|"))
def test_what_is_beside_a_signal_is_not_the_signal(label: str) -> None:
    assert parse_label(label).modality is None


@pytest.mark.parametrize(
    ("label", "modality"),
    [(label, modality) for modality, text in OURS.items() for label in text.split("|")],
)
def test_the_signal_itself_still_is(label: str, modality: Modality) -> None:
    assert parse_label(label).modality is modality
