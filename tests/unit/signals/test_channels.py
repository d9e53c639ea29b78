from collections.abc import Sequence

import pytest

from sleepmami.config import PreprocessConfig
from sleepmami.psg import MODALITIES, Confidence, Decision, Modality
from sleepmami.signals.channels import ChannelPlan, SignalSource, plan_channels
from sleepmami.signals.edf import EdfChannel
from sleepmami.signals.labels import parse_label, unit_kind, volt_scale, words
from tests.unit.signals.montages import MONTAGES, SHHS_LABELS

EEG, EOG, EMG, ECG, RESP, SPO2 = MODALITIES


def channel(
    index: int, label: str, unit: str = "uV", rate_hz: float = 256.0, top: float = 500.0
) -> EdfChannel:
    return EdfChannel(
        index=index, label=label, unit=unit, sample_rate_hz=rate_hz, samples_per_record=1,
        physical_min=-top, physical_max=top, digital_min=-32768, digital_max=32767,
    )  # fmt: skip


def plan(
    *channels: str | tuple[str, str] | tuple[str, str, float],
    config: PreprocessConfig | None = None,
) -> ChannelPlan:
    rows = [(c,) if isinstance(c, str) else c for c in channels]
    return plan_channels([channel(index, *row) for index, row in enumerate(rows)], config)


def used(*labels: str) -> dict[Modality, str]:
    return {modality: source.label for modality, source in plan(*labels).sources.items()}


def written(source: SignalSource, channels: Sequence[EdfChannel]) -> str:
    """The source in the file's own labels."""
    labels = [channels[source.index].label]
    if source.reference_index is not None:
        labels.append(channels[source.reference_index].label)
    return " - ".join(labels)


def chosen(rows: Sequence[tuple[str, str, float]]) -> dict[Modality, str]:
    channels = [
        channel(index, label, unit, rate_hz, 100.0 if unit == "%" else 500.0)
        for index, (label, unit, rate_hz) in enumerate(rows)
    ]
    return {m: written(s, channels) for m, s in plan_channels(channels).sources.items()}


@pytest.mark.parametrize(("rows", "expected"), MONTAGES.values(), ids=MONTAGES)
def test_public_montages_resolve(
    rows: list[tuple[str, str, float]], expected: dict[Modality, str]
) -> None:
    assert chosen(rows) == expected
    for same in (str.lower, str.upper):
        assert chosen([(same(label), unit, rate) for label, unit, rate in rows]).keys() == expected.keys()  # fmt: skip


@pytest.mark.parametrize(("modality", "labels"), SHHS_LABELS.items(), ids=str)
def test_every_spelling_of_shhs_is_understood(modality: Modality, labels: tuple[str, ...]) -> None:
    assert {label: parse_label(label).modality for label in labels} == dict.fromkeys(labels, modality)  # fmt: skip


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


# ------------------------------------------------------------------------- side, confidence, units


def test_side_and_confidence_say_what_the_label_says() -> None:
    rows = ["C4-M1", "C3", "EEG", "EOG(L)", "E2", "PG1", "L Chin", "EMG", "LEMG", "Flow", "Resp"]
    found = {label: plan(label).decisions[0] for label in rows}
    assert {label: (d.side, d.confidence) for label, d in found.items()} == {
        "C4-M1": ("right", Confidence.CERTAIN),
        "C3": ("left", Confidence.LIKELY),  # no reference
        "EEG": ("", Confidence.LIKELY),
        "EOG(L)": ("left", Confidence.CERTAIN),
        "E2": ("right", Confidence.LIKELY),
        "PG1": ("left", Confidence.GUESS),
        "L Chin": ("left", Confidence.LIKELY),
        "EMG": ("", Confidence.LIKELY),
        "LEMG": ("left", Confidence.GUESS),  # may be the leg
        "Flow": ("", Confidence.CERTAIN),
        "Resp": ("", Confidence.LIKELY),
    }


def test_a_lone_electrode_with_its_reference_is_certain() -> None:
    assert plan("C3", "M2").decisions[0].confidence is Confidence.CERTAIN


def test_a_channel_of_no_modality_has_no_confidence() -> None:
    assert plan("Snore").decisions[0].confidence is None


def test_what_only_the_montage_tells_is_a_guess() -> None:
    rows = ["EKG", "EEG1", "EEG2", "EEG3", "Thor", "Abdo"]
    assert plan(*rows).decisions[3].confidence is Confidence.GUESS


def test_a_derivation_recorded_with_its_reference_first_is_turned_over() -> None:
    source = plan("A1:O2").sources[EEG]
    assert (source.unit_scale, source.reference_index) == (-1.0, None)
    assert "upside down" in source.note
    assert plan("O2:A1").sources[EEG].unit_scale == 1.0


def test_a_reversed_derivation_is_no_reference_electrode() -> None:
    assert plan("C4", "A1:O2").sources[EEG].reference_index is None


@pytest.mark.parametrize("label", ["tcpO2", "tcpCO2", "etCO2", "PtcCO2", "PtcO2", "pO2", "PaO2", "O2 Flow", "Oral-CO2"])  # fmt: skip
@pytest.mark.parametrize("unit", ["", "mmHg", "%", "uV"])
def test_gases_are_no_scalp_electrode_and_no_saturation(label: str, unit: str) -> None:
    assert parse_label(label, unit).modality is None


@pytest.mark.parametrize(
    ("unit", "low", "high", "used"),
    [("V", -0.5, 0.5, False), ("V", 0.0, 1.0, True), ("V", 0.0, 100.0, True), ("mV", -3200.0, 3200.0, False),
     ("uV", -3276.8, 3276.7, True), ("uV", -50.0, 50.0, False), ("%", 0.0, 100.0, True), ("", 0.0, 100.0, True)],
)  # fmt: skip
def test_a_saturation_in_volts_is_judged_by_its_range(
    unit: str, low: float, high: float, used: bool
) -> None:
    found = plan_channels([EdfChannel(0, "SpO2", unit, 1.0, 1, low, high, -32768, 32767)])
    assert (SPO2 in found.sources) is used


# --------------------------------------------------------------------------------- sleep2vec layout

SLEEP2VEC = PreprocessConfig(layout="sleep2vec")
FLOW, BELT, IBI = Modality.FLOW, Modality.BELT, Modality.IBI


def sleep2vec(*labels: str) -> dict[Modality, str]:
    return {m: s.label for m, s in plan(*labels, config=SLEEP2VEC).sources.items()}


def test_sleep2vec_reads_effort_from_the_belt_and_beats_from_the_ecg() -> None:
    rows = ["EEG C4-M1", "ECG", "Thermistor", "Nasal Pressure", "Thorax", "Abdomen", "SpO2"]
    assert sleep2vec(*rows) == {
        EEG: "EEG C4-M1", ECG: "ECG", FLOW: "Nasal Pressure", BELT: "Abdomen", SPO2: "SpO2", IBI: "ECG",
        RESP: "Abdomen",
    }  # fmt: skip


def test_sleep2vec_reads_effort_from_airflow_where_there_is_no_belt() -> None:
    assert sleep2vec("Therm", "Flow") == {FLOW: "Flow", RESP: "Flow"}
    assert sleep2vec("Therm") == {FLOW: "Therm", RESP: "Therm"}


def test_sleep2vec_takes_no_belt_for_airflow() -> None:
    assert sleep2vec("Thorax", "cRIP Flow") == {BELT: "Thorax", RESP: "Thorax"}


def test_a_channel_of_several_modalities_shows_its_main_one_and_names_the_others() -> None:
    ecg, belt = plan("ECG", "Abdomen", config=SLEEP2VEC).decisions
    assert (ecg.modality, belt.modality) == (ECG, BELT)
    assert "also used for IBI" in ecg.reason
    assert "also used for RESP" in belt.reason


def test_sleep2vec_electrodes_keep_their_references() -> None:
    found = plan("ECG1", "ECG2", config=SLEEP2VEC)
    assert [(s.index, s.reference_index) for s in (found.sources[ECG], found.sources[IBI])] == [(0, 1)] * 2  # fmt: skip


# ------------------------------------------------------------------------------- user channel files


def with_rules(*rules: tuple[str, str]) -> PreprocessConfig:
    return PreprocessConfig(channels=rules)


def test_the_channel_file_comes_before_the_words_of_a_label() -> None:
    config = with_rules(("aux  3", "EOG left"), ("Flow", "ignore"))
    found = plan("Aux 3", "Flow", "Thorax", config=config)
    assert {m: s.label for m, s in found.sources.items()} == {EOG: "Aux 3", RESP: "Thorax"}
    eye, ignored, _ = found.decisions
    assert (eye.confidence, eye.side) == (Confidence.CERTAIN, "left")
    assert "by your channel file" in eye.reason
    assert (ignored.decision, ignored.modality) == (Decision.IGNORED, None)
    assert "by your channel file" in ignored.reason


def test_an_exact_rule_beats_one_with_a_star() -> None:
    config = with_rules(("Aux *", "ignore"), ("Aux 3", "ECG"))
    assert list(plan("AUX 3", "Aux 4", config=config).sources) == [ECG]


def test_brackets_in_a_rule_are_brackets() -> None:
    assert list(plan("C3[1]", "C31", config=with_rules(("c3[1]", "EMG chin"))).sources) == [EMG]


def test_a_meaning_that_is_not_understood_leaves_the_channel_out() -> None:
    found = plan("Flow", config=with_rules(("Flow", "the usual thing")))
    assert found.sources == {}
    assert "not understood" in found.decisions[0].reason
