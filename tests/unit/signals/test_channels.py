import pytest

from sleepmami.psg import Decision, Modality
from sleepmami.signals.channels import ChannelPlan, plan_channels
from sleepmami.signals.edf import EdfChannel
from sleepmami.signals.labels import parse_label, unit_kind, volt_scale, words

EEG, EOG, EMG, ECG, RESP, SPO2 = Modality


def channel(
    index: int, label: str, unit: str = "uV", rate_hz: float = 256.0, top: float = 500.0
) -> EdfChannel:
    return EdfChannel(
        index=index, label=label, unit=unit, sample_rate_hz=rate_hz, samples_per_record=1,
        physical_min=-top, physical_max=top, digital_min=-32768, digital_max=32767,
    )  # fmt: skip


def plan(*channels: str | tuple[str, str] | tuple[str, str, float]) -> ChannelPlan:
    rows = [(c,) if isinstance(c, str) else c for c in channels]
    return plan_channels([channel(index, *row) for index, row in enumerate(rows)])


def used(*labels: str) -> dict[Modality, str]:
    return {modality: source.label for modality, source in plan(*labels).sources.items()}


MONTAGES = {
    "SHHS1": (
        ["SaO2", "H.R.", "EEG(sec)", "ECG", "EMG", "EOG(L)", "EOG(R)", "EEG", "SOUND", "AIRFLOW", "THOR RES",
         "ABDO RES", "POSITION", "LIGHT", "OX stat"],
        {EEG: "EEG", EOG: "EOG(L)", EMG: "EMG", ECG: "ECG", RESP: "AIRFLOW", SPO2: "SaO2"},
    ),
    "SHHS spellings": (["EEG2", "EEG", "NEW A/F", "AIRFLOW", "PR"], {EEG: "EEG", RESP: "NEW A/F"}),
    "MESA": (
        ["EKG", "EOG-L", "EOG-R", "EMG", "EEG1", "EEG2", "EEG3", "Pres", "Flow", "Snore", "Thor", "Abdo", "Leg",
         "Therm", "Pos", "EKG_Off", "EEG1_Off", "Pleth", "OxStatus", "SpO2", "HR", "DHR"],
        {EEG: "EEG3", EOG: "EOG-L", EMG: "EMG", ECG: "EKG", RESP: "Flow", SPO2: "SpO2"},
    ),
    "MrOS visit 1": (
        ["C3", "C4", "A1", "A2", "LOC", "ROC", "ECG L", "ECG R", "L Chin", "R Chin", "Leg L", "Leg R",
         "Thoracic", "Abdominal", "Cannula Flow", "Airflow", "SaO2", "HR", "Position"],
        {EEG: "C4 - A1", EOG: "LOC - A2", EMG: "L Chin - R Chin", ECG: "ECG L - ECG R",
         RESP: "Cannula Flow", SPO2: "SaO2"},
    ),
    "MrOS visit 2": (
        ["C3", "C4", "M1", "M2", "E1", "E2", "LegL", "LegR", "Chest", "ABD", "SpO2"],
        {EEG: "C4 - M1", EOG: "E1 - M2", RESP: "Chest", SPO2: "SpO2"},
    ),
    "MrOS in Table 7": (["EMG (L)-EMG (R)", "ECG1-ECG2"], {EMG: "EMG (L)-EMG (R)", ECG: "ECG1-ECG2"}),
    "KISS": (
        ["C3-M2", "C4-M1", "O1-M2", "E1-M2", "E2-M1", "LAT", "RAT", "Chin EMG", "ECG", "Thermistor", "Flow",
         "Thorax", "Abdomen", "Snore", "Saturation", "Pleth"],
        {EEG: "C4-M1", EOG: "E1-M2", EMG: "Chin EMG", ECG: "ECG", RESP: "Flow", SPO2: "Saturation"},
    ),
    "CinC 2018": (
        ["F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1", "E1-M2", "Chin1-Chin2", "ABD", "CHEST", "AIRFLOW",
         "SaO2", "ECG"],
        {EEG: "C4-M1", EOG: "E1-M2", EMG: "Chin1-Chin2", ECG: "ECG", RESP: "AIRFLOW", SPO2: "SaO2"},
    ),
    "Sleep-EDF": (
        ["EEG Pz-Oz", "EEG Fpz-Cz", "EOG horizontal", "Resp oro-nasal", "EMG submental", "Temp rectal", "Event marker"],
        {EEG: "EEG Fpz-Cz", EOG: "EOG horizontal", EMG: "EMG submental", RESP: "Resp oro-nasal"},
    ),
    "HMC": (
        ["EEG F4-M1", "EEG C4-M1", "EEG O2-M1", "EEG C3-M2", "EMG chin", "EOG E1-M2", "EOG E2-M2", "ECG"],
        {EEG: "EEG C4-M1", EOG: "EOG E1-M2", EMG: "EMG chin", ECG: "ECG"},
    ),
    "DOD": (
        ["F3_F4", "C3_M2", "F4_M1", "FP1_M2", "EOG2", "EOG1", "EMG", "ECG"],
        {EEG: "C3_M2", EOG: "EOG1", EMG: "EMG", ECG: "ECG"},
    ),
    "ISRUC": (
        ["LOC-A2", "ROC-A1", "F3-A2", "C3-A2", "O1-A2", "F4-A1", "C4-A1", "O2-A1", "X1", "X2", "X3", "SaO2", "DC8"],
        {EEG: "C4-A1", EOG: "LOC-A2", EMG: "X1", ECG: "X2", SPO2: "SaO2"},
    ),
    "MASS": (
        ["EOG Right Horiz", "EOG Left Horiz", "EEG F3-CLE", "EEG C3-CLE", "EEG A2-CLE", "EMG Chin1", "EMG Chin2",
         "EMG Ant Tibial L", "ECG ECGI", "Resp Belt Thor"],
        {EEG: "EEG C3-CLE", EOG: "EOG Left Horiz", EMG: "EMG Chin1", ECG: "ECG ECGI", RESP: "Resp Belt Thor"},
    ),
    "MASS LER": (["EEG O1-LER", "EEG C3-LER"], {EEG: "EEG C3-LER"}),
    "Nox": (
        ["E1-M2", "F4-M1", "Chin 1-Chin 2", "Left Leg", "Right Leg", "Nasal Pressure", "RIP Sum", "cRIP Flow",
         "SpO2 B-B", "SpO2", "Pulse", "PosAngle", "Audio Volume", "X Axis"],
        {EEG: "F4-M1", EOG: "E1-M2", EMG: "Chin 1-Chin 2", RESP: "Nasal Pressure", SPO2: "SpO2"},
    ),
    "Alice and Embla": (
        ["EEG C3-A2", "EOG LOC-A2", "EMG Chin", "Leg 1", "ECG II", "Flow Patient", "Effort THO", "Effort ABD",
         "SpO2", "Body", "PulseRate", "CPAP Press"],
        {EEG: "EEG C3-A2", EOG: "EOG LOC-A2", EMG: "EMG Chin", ECG: "ECG II", RESP: "Flow Patient", SPO2: "SpO2"},
    ),
    "Natus": (
        ["EEG C3-Ref", "EEG C4-Ref", "EEG A1-Ref", "EEG A2-Ref", "EEG CHIN1-CHIN2", "ECG EKG2-EKG", "RESP PTAF",
         "POL X1", "OSAT", "ETCO2", "CAPNO", "TRIG"],
        {EEG: "EEG C4-Ref - EEG A1-Ref", EMG: "EEG CHIN1-CHIN2", ECG: "ECG EKG2-EKG", RESP: "RESP PTAF", SPO2: "OSAT"},
    ),
    "STAGES": (
        ["C3M2", "C4M1", "E1M2", "Lchin", "Cchin", "LEMG", "EKG", "PTAF", "Therm", "Chest", "Abd", "PLMl"],
        {EEG: "C4M1", EOG: "E1M2", EMG: "Lchin - Cchin", ECG: "EKG", RESP: "PTAF"},
    ),
    "German": (
        ["EEG C3:A2", "Kinn", "EKG", "Atemfluss", "Brust", "Bauch", "S\u00e4ttigung", "Schnarchen", "Lage", "Puls"],
        {EEG: "EEG C3:A2", EMG: "Kinn", ECG: "EKG", RESP: "Atemfluss", SPO2: "S\u00e4ttigung"},
    ),
    "Italian": (
        ["ROC-LOC", "TERMISTORE", "TORACE", "ADDOME", "SAO2", "tib sin", "MIC"],
        {EOG: "ROC-LOC", RESP: "TERMISTORE", SPO2: "SAO2"},
    ),
    "BIDS": (
        ["PSG_F4", "PSG_C3", "PSG_EOG", "PSG_EMG", "PSG_THER", "PSG_THOR", "PSG_ABD", "PSG_PULSE", "PSG_SPO2"],
        {EEG: "PSG_C3", EOG: "PSG_EOG", EMG: "PSG_EMG", RESP: "PSG_THER", SPO2: "PSG_SPO2"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("labels", "expected"), MONTAGES.values(), ids=MONTAGES)
def test_public_montages_resolve(labels: list[str], expected: dict[Modality, str]) -> None:
    assert used(*labels) == expected
    assert used(*(label.lower() for label in labels)).keys() == expected.keys()


@pytest.mark.parametrize(
    "label",
    ["Snore", "POSITION", "Pos", "H.R.", "PR", "Pulse", "Pleth", "EtCO2", "Temp rectal", "LIGHT", "Battery",
     "Event marker", "Hypnogram", "Leg L", "LAT", "EMG Ant Tibial L", "L Arm", "EKG_Off", "OX stat", "RespRate.2s",
     "Leak.2s", "Crc16", "EEG M2-M1", "Impedance", "stAtUs", "squarewave", "-", "", "\u8102"],
)  # fmt: skip
def test_other_channels_are_ignored_with_a_reason(label: str) -> None:
    result = plan(label)
    assert result.sources == {}
    assert result.decisions[0].decision is Decision.IGNORED
    assert result.decisions[0].reason


EEG_PRIORITY = ["C4-M1", "C3-M2", "Cz-M1", "F4-M1", "O2-M1", "EEG Fpz-Cz", "EEG Pz-Oz", "EEG", "EEG(sec)"]  # fmt: skip


@pytest.mark.parametrize("first", range(len(EEG_PRIORITY)))
def test_eeg_sites_are_preferred_in_order(first: int) -> None:
    result = plan(*reversed(EEG_PRIORITY[first:]))
    assert result.sources[EEG].label == EEG_PRIORITY[first]
    assert [s.label for s in result.spares[EEG]] == EEG_PRIORITY[first + 1 :]


def test_a_recorded_derivation_beats_one_made_from_electrodes() -> None:
    assert used("C4", "M1", "C3-M2")[EEG] == "C3-M2"


def test_contralateral_reference_is_preferred_and_ipsilateral_accepted() -> None:
    assert used("C3", "A1", "A2")[EEG] == "C3 - A2"
    assert used("C3", "A1")[EEG] == "C3 - A1"


def test_a_reference_at_another_rate_is_not_subtracted() -> None:
    result = plan(("C4", "uV", 256.0), ("M1", "uV", 128.0))
    assert result.sources[EEG].reference_index is None
    assert "no reference" in result.decisions[0].reason


def test_a_reference_without_a_unit_is_not_subtracted_from_one_in_microvolts() -> None:
    assert plan(("C4", "uV"), ("M1", "")).sources[EEG].reference_index is None


def test_electrodes_in_different_voltage_units_still_make_a_derivation() -> None:
    source = plan(("C4", "mV", 256.0), ("M1", "uV", 256.0)).sources[EEG]
    assert (source.index, source.reference_index, source.unit_scale) == (0, 1, 1000.0)


def test_the_subtracted_channel_says_so_and_its_twin_is_ignored() -> None:
    result = plan("C4", "M1", "M2")
    assert [d.decision for d in result.decisions] == [
        Decision.USED,
        Decision.REFERENCE,
        Decision.IGNORED,
    ]


def test_only_a_used_channel_names_its_reference() -> None:
    result = plan("C4", "M1", "C3", "M2", "ECG")  # C3 is a spare, so nothing is subtracted from it
    assert [d.reference for d in result.decisions] == ["M1", None, None, None, None]


def test_index_is_the_position_in_the_file_not_in_the_list() -> None:
    source = plan_channels([channel(4, "C4"), channel(7, "M1")]).sources[EEG]
    assert (source.index, source.reference_index) == (4, 7)


def test_resp_sensors_are_preferred_in_order() -> None:
    order = ["Flow", "Nasal Pressure", "CPAP Flow", "Thermistor", "XFlow", "Thorax", "Abdomen", "Resp"]  # fmt: skip
    result = plan(*reversed(order))
    assert [result.sources[RESP].label, *(s.label for s in result.spares[RESP])] == order


def test_device_pressure_is_no_breathing_signal_but_nasal_pressure_is() -> None:
    assert plan(("Press.40ms", "cmH2O")).sources == {}
    assert plan(("Nasal Pressure", "cmH2O")).sources[RESP].label == "Nasal Pressure"


@pytest.mark.parametrize(
    ("label", "unit", "rate_hz", "modality"),
    [("EEG C4-M1", "uV", 49.0, EEG), ("EMG submental", "uV", 1.0, EMG), ("Flow", "", 0.5, RESP),
     ("SpO2", "%", 0.05, SPO2), ("ECG", "uV", float("nan"), ECG), ("EEG", "degC", 100.0, EEG), ("ECG", "%", 256.0, ECG),
     ("EMG chin", "uV", 20_001.0, EMG), ("SpO2", "%", 1e6, SPO2)],
)  # fmt: skip
def test_a_known_label_with_an_impossible_rate_or_unit_is_rejected(
    label: str, unit: str, rate_hz: float, modality: Modality
) -> None:
    result = plan((label, unit, rate_hz))
    assert result.sources == {}
    assert (result.decisions[0].decision, result.decisions[0].modality) == (
        Decision.REJECTED,
        modality,
    )


def test_a_channel_without_a_scale_is_rejected() -> None:
    dead = EdfChannel(0, "EEG C4-M1", "uV", 256.0, 256, 0.0, 0.0, 0, 0)
    assert plan_channels([dead]).decisions[0].decision is Decision.REJECTED


@pytest.mark.parametrize(
    ("unit", "scale"),
    [("uV", 1), ("UV", 1), ("\u00b5V", 1), ("\u03bcV", 1), ("\u00c2\u00b5V", 1), ("\u00e6V", 1), ("?V", 1),
     ("microvolts", 1), (" uV. ", 1), ("mV", 1e3), ("MV", 1e3), ("Millivolt", 1e3), ("V", 1e6), ("v", 1e6),
     ("nV", 1e-3), ("%", None), ("", None), ("bpm", None)],
)  # fmt: skip
def test_voltages_are_read_in_any_spelling(unit: str, scale: float | None) -> None:
    assert volt_scale(unit) == scale


def test_a_missing_unit_is_taken_as_microvolts_and_said_so() -> None:
    result = plan(("ECG", ""))
    assert result.sources[ECG].unit_scale == 1.0
    assert "uV assumed" in result.decisions[0].reason


def test_a_range_of_500_volts_is_a_wrong_unit_not_a_big_signal() -> None:
    result = plan(("EEG C4-M1", "V"))
    assert result.sources[EEG].unit_scale == 1.0
    assert "cannot be right" in result.decisions[0].reason


def test_o2_is_a_scalp_site_or_oxygen_by_its_unit() -> None:
    assert parse_label("O2", "uV").modality is EEG
    assert parse_label("O2", "%").modality is SPO2


def test_saturation_in_beats_per_minute_is_a_pulse() -> None:
    assert plan(("SpO2", "bpm", 1.0)).sources == {}


def test_no_channels_is_an_empty_plan() -> None:
    assert plan_channels([]) == ChannelPlan({}, ())


def test_utf8_read_as_latin1_is_repaired() -> None:
    assert words("S\u00c3\u00a4ttigung") == words("S\u00e4ttigung") == ["sattigung"]


@pytest.mark.parametrize(
    ("unit", "kind"),
    [("%", "percent"), ("BPM", "rate"), ("DegC", "temperature"), ("cmH2O", "pressure"), ("L/s", "flow"), ("au", "")],
)  # fmt: skip
def test_units_of_other_quantities_are_told_apart(unit: str, kind: str) -> None:
    assert unit_kind(unit) == kind
