"""One label at a time: spellings of devices, cohorts and languages, and what must not be taken."""

import pytest

from sleepmami.psg import Modality
from sleepmami.signals.labels import UNKNOWN, parse_label

# label lists, separated by |
UNDERSTOOD = {
    Modality.EEG: (
        "01-A2|A1:C4|A2:A1:C3|C2-Cz|C3:M1+M2|C3:M1-M2|C3A2|CZM2|EEG C3-A22|EEG C4-A12|EEG (SEC)|F3/A2"
        "|F3:M2:E1:M1|F4-M1:F3-M2|FZ-A1A2|FZA2|Fp1:E2|O1:E1:M1|O1-x|M2:M1:O1:M2|T3/A2|EEG C3-CLE"
        "|EEG Fp1-Ref|F7-|C3-AVG|C3-LM|C3A1A2|EEG Channel-1|EEG:F4-A1|C3AVG|eeg_c3_m2|C3 (M2)|EEG1-A2"
        "|PSG EEG C4-M1|P3-01|T6-02|CZ2-A1|C3-LinkedEars|Cz-A1+A2|EEGC3|EEG_C4_A1"
    ),
    Modality.EOG: (
        "A1:EOG1|EOG2:A1|E1 (LEOG)|E1-Cz|E1:Fp2|EOG LOC-A22|EOG(L)|EOGl|EOGr|EOGl:M1|EOGr512|L-EOG|LEOG"
        "|REOG|ROC-M1|M1:E1|M2:E2:M1|Oeil G|Oeil droit|Auge li|Auge re|Auge_links|linkes Auge|Ojo izq"
        "|Olho E|Occhio sx|Oog L|VOG|HOG|PG1|PG2|Lefteye|RightEye|EOG Left Horiz|EOG Upper Vertic|HEOG"
        "|EOG dx|EOG sin|EOG re|EOG_li|EOG gauche|E_1-M2|E 2-M1|EOGH|EOGV|EOGD|EOGli|eye_left|EOG izq"
    ),
    Modality.EMG: (
        "CHIN|CHIN1-C|CHINEMG|Chin 1-Chin 2|Chin-Ctr|Chin2:Chin|ChinL|Chin_Ctr-Cz|EMG #1|EMG+|EMG-|L Chin"
        "|cchin_l|Mentonnier|Menton|EMG Kinn|Kin|Queixo|EMG submental|EMG mento|EMGsubm|Barbilla|EMG Subm."
        "|Lower.Left-Uppe|Upper-Lower.Left|Chin+|EMG-Chin|EMG mentalis|EMG Ment|EMG1-EMG2|EMG_chin"
    ),
    Modality.ECG: (
        "ECG #1|ECG I2|ECG IIHF|ECG L-ECG R|ECGI|ECGI-0|ECGII-1|EKG_R-Cz|ECG V5|ecgII|MLII|EKG+"
        "|ECG (LL-RA)|Ecg Lead II|ECG_1|ECG ECGI|ECG EKG2-EKG"
    ),
    Modality.RESP: (
        "ABDM|ABDO EFFORT|AIRFLOW-0|Abd:Chest|AbdDC|ChestDC|Effort THO|NASAL P|N.Press|NEWAIR|NasOr"
        "|Nasal-AC|New A|Oral Therm|p.Abdomen|Sum RIP|RIP Thora|RIP.Thrx|RIP.Abdom|Flow Th|Druck Flow"
        "|VTH|VAB|NAF2P-A1|Torax|Addome|Atem|Atmung|Nasenkanuele|Nasenkan\u00fcle|Nasendruck|Neusdruk"
        "|Luchtstroom|Borst|Buik|Brustgurt|Bauchgurt|D\u00e9bit nasal|Lunettes|Sangle abdo|C\u00e1nula"
        "|Banda tor\u00e1cica|TERMISTORE|Resp oro-nasal|RESP PTAF|CannulaFlow|nas_pres|cRIP Flow|XFlow"
        "|CFlow|PAP Pt Flo|ribcage|Nasal Airflow|THOR RES|ThorRES|Summe RIPs|Str\u00f6mung|Effort Th"
        "|Esfor\u00e7o abdominal|Staudruck|Mundfluss|Poitrine|Ademhaling|Flow_DR|PNEUMOFLOW|EFFTHO"
        "|Sforzo toracico|Rib cage|Thermist.|Nasal Pr|Flow.40ms|Luftfluss|Flow-Pr|Flow (L/min)|altflow|Cinta tor\u00e1cica"
    ),
    Modality.SPO2: (
        "SPO2|Sa02|SaO2_Masimo|SentecSpO2|tcSpO2|O2-Masimo|OSAT|Sauerstoff|Oxy|SO2|Oxygen|Sp02|O2-Sat"
        "|S\u00e4ttigung|Saettigung|Saturazione|Saturaci\u00f3n|Saturatie|Zuurstof|SpO2BB|SpO2 B-B|SatO2|SAT"
        "|Oximetry|SpO2.1s|Pulsoxy|Sauerstoffs\u00e4ttig|%SpO2|Ossimetria|Oxym\u00e8tre|Blood Oxygen|PulseOx"
    ),
    None: (
        "Pos|Pleth|Snore|Light|HR|PR|PTT|CO2|Leg|Battery|MassFlow|Finger PPG|H.R.|MIC|Nasal Snore|O2_CO2"
        "|P-Snore|PulseRa|TcPPG|tcpO2|PtcCO2|etCO2|PaO2|Akku|Licht|Beweg.|Druck Snore|Schnarc|Lage|Puls"
        "|Polso|Ronflement|RespRate|TidVol.2s|Leak.2s|FlowLim.2s|MaskPress.2s|EprPress.2s|MinVent.2s"
        "|BlowFlow.50|xPAP EPAP|CPAP Press|DHR|OxStatus|OX stat|EKG_Off|XVolume|X Axis|Temp rectal|DC8|X1"
        "|Event marker|Status|Audio Volume|BP|PHONO|PCPAP|O2 Flow|Oxygen flow|Impedance|Hypnogram|Gyro"
        "|Atemfrequenz|Heart|EEG A1-A2|M1M2|Rectal|RIC EMG|Chin:RIC|LAT|PLMl|Bein li|Pierna izq|Legs"
        "|EMG Tib|DX1-DX2|Masset.|Abd Muscle|Neck EMG|SpO2 Status|ECG HR|Leak Flow|Mask Pressure|Pes|GSR"
        "|BloodPressure|Marker1|Patient temp|Flow Limitation|Flow Rate|Schnarchger\u00e4usch|SCM|Foot-L"
        "|OXY IR AC|OXY R DC|Pulse Oxy Red Infra|DX1-A2|X4-A1|BPOS|gravx|tvol|etco2w|annots|TIBD|QRS|Flores|Reyes"
        "|RR Interval|Diaphragm EMG|End tidal CO2|Ambient|XYZ|GND|square wave"
    ),
}


@pytest.mark.parametrize("modality", UNDERSTOOD, ids=str)
def test_labels_of_many_devices_and_languages(modality: Modality | None) -> None:
    labels = UNDERSTOOD[modality].split("|")
    assert {label: parse_label(label).modality for label in labels} == dict.fromkeys(labels, modality)  # fmt: skip


@pytest.mark.parametrize("label", ["Wobble", "Mueller", "PtcxO3", "DC8", "R\u00e9sum\u00e9", "\u5f20\u4f1f"])  # fmt: skip
def test_a_word_of_no_meaning_is_said_to_be_unknown_or_unreadable(label: str) -> None:
    assert parse_label(label).what in (UNKNOWN, "a channel without a readable name")


@pytest.mark.parametrize(
    ("label", "what", "reference"),
    [("C4-M1", "EEG C4-M1", "M1"), ("EEG C3-A2", "EEG C3-M2", "M2"), ("C3:M1:M2", "EEG C3-M1+M2", "M1+M2"),
     ("C3-CLE", "EEG C3-CLE", "CLE"), ("F4-C4", "EEG F4-C4", "C4"), ("C3", "EEG electrode C3", ""),
     ("E1-M2", "left EOG", "M2")],
)  # fmt: skip
def test_the_reference_of_a_derivation_is_told(label: str, what: str, reference: str) -> None:
    said = parse_label(label)
    assert (said.what, said.reference) == (what, reference)


def test_the_zero_of_01_is_an_o_only_before_another_electrode() -> None:
    assert parse_label("01").modality is None
    assert parse_label("01-A2").what == "EEG O1-M2"


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("C3:M1+M2", "F3:M1+M2"),  # a linked reference makes no site central
        ("C4:M1", "O2:M1:M2"),
        ("C3-M1", "C3-P3"),
        ("C3-P3", "F3-M2"),
        ("SpO2", "TcSpO2"),
        ("SpO2", "SpO2 Alt"),
        ("Flow", "altflow"),
        ("Nasal Pressure", "Nasal Backup"),
        ("Flow-Pr", "Flow-Th"),
        ("AIRFLOW(Pr)", "AIRFLOW(Th)"),
        ("EOG1:A2", "EOG2:A2"),
    ],
)
def test_of_two_channels_this_one_is_preferred(better: str, worse: str) -> None:
    first, second = parse_label(better, "uV"), parse_label(worse, "uV")
    assert first.modality is second.modality
    assert first.rank < second.rank


@pytest.mark.parametrize("label", ["DX1-A2", "X4-M1", "CZ2-A1", "E_1-M2", "XYZ-M2"])
def test_what_is_recorded_against_a_mastoid_is_not_the_mastoid(label: str) -> None:
    assert parse_label(label).electrode not in ("M1", "M2")
