"""Recorders that differ as real ones do: montage, labels, rates, units, filters, converter, hum.

A profile is *like* the device family it is named for. `compumedics` has the labels and rates of
SHHS 1 (its bits and ranges were not checked against a file), `sleep_edf` the header of a cassette
night of Sleep-EDF (Kemp et al. 2000), but for the temperature. `nox` and `embla` are ours, after
what exports of such systems look like; so are all noise, gain and hum.
"""

from dataclasses import dataclass
from typing import Final

from sleepmami.simulation.body import Source

Mix = tuple[tuple[Source, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensor:
    """One channel of a recorder.

    Attributes:
        label: as the file has it.
        unit: as the file has it.
        rate_hz: of the file.
        mix: weights of the body's signals; negative turns the polarity; none is a flat channel.
        scale: from the body's unit (uV, mV, %, arbitrary) to the file's.
        low: physical minimum in the file's unit; what lies below is clipped.
        high: physical maximum.
        highpass_hz: first-order corner of the amplifier, 0 for none.
        lowpass_hz: second-order Butterworth corner of the amplifier, 0 for none.
        noise: of electrode and amplifier, in the body's unit, root mean square.
        hum: of the mains, in the body's unit, root mean square; 0 where there is none.
        shared_hum: all of the recorder's such channels hum alike, so that a difference is cleaner.
        step: the sensor's own resolution in the file's unit, such as whole percents; 0 for none.
        rectified: the file holds the envelope, not the signal.
        digital: smallest and largest number of the converter.
    """

    label: str
    unit: str
    rate_hz: int
    mix: Mix
    low: float
    high: float
    scale: float = 1.0
    highpass_hz: float = 0.0
    lowpass_hz: float = 0.0
    noise: float = 0.0
    hum: float = 0.0
    shared_hum: bool = False
    step: float = 0.0
    rectified: bool = False
    digital: tuple[int, int] = (-32768, 32767)


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A recorder.

    Attributes:
        name: as in `simulate.devices`.
        sensors: in file order.
        mains_hz: of the country.
        plus: EDF+, or EDF as of 1992.
        record_duration_s: of a data record.
        gain_spread: how much a channel's gain differs from night to night, relative.
    """

    name: str
    sensors: tuple[Sensor, ...]
    mains_hz: float
    plus: bool
    record_duration_s: float
    gain_spread: float = 0.03


def _only(source: Source, weight: float = 1.0) -> Mix:
    return ((source, weight),)


def _plain(label: str, source: Source, unit: str, rate_hz: int, low: float, high: float) -> Sensor:
    return Sensor(label=label, unit=unit, rate_hz=rate_hz, mix=_only(source), low=low, high=high)


# The montage of SHHS through a faultless amplifier.
_REFERENCE = Device(
    name="reference",
    sensors=(
        _plain("EEG C4-A1", Source.C4, "uV", 125, -500, 500),
        _plain("EEG C3-A2", Source.C3, "uV", 125, -500, 500),
        _plain("EOG(L)", Source.LEFT_EYE, "uV", 125, -1000, 1000),
        _plain("EOG(R)", Source.RIGHT_EYE, "uV", 125, -1000, 1000),
        _plain("EMG chin", Source.CHIN, "uV", 125, -500, 500),
        _plain("ECG", Source.ECG, "mV", 125, -5, 5),
        _plain("AIRFLOW", Source.FLOW, "", 10, -2, 2),
        _plain("THOR RES", Source.THORAX, "", 10, -2, 2),
        _plain("ABDO RES", Source.ABDOMEN, "", 10, -2, 2),
        _plain("SaO2", Source.SATURATION, "%", 1, 0, 100),
    ),
    mains_hz=60.0,
    plus=True,
    record_duration_s=1.0,
    gain_spread=0.0,
)


def _compumedics() -> Device:
    """Labels, rates and order of SHHS 1: 8 bits, so that an EEG step is 1 uV, and 60 Hz."""
    eight = (-128, 127)

    def wired(label: str, source: Source, rate_hz: int, most: float, hum: float) -> Sensor:
        return Sensor(
            label=label,
            unit="uV",
            rate_hz=rate_hz,
            mix=_only(source),
            low=-most,
            high=most,
            highpass_hz=0.15,
            lowpass_hz=50.0 if rate_hz > 100 else 20.0,
            noise=1.0,
            hum=hum,
            digital=eight,
        )

    def slow(label: str, unit: str, rate_hz: int, mix: Mix, low: float, high: float) -> Sensor:
        return Sensor(
            label=label,
            unit=unit,
            rate_hz=rate_hz,
            mix=mix,
            low=low,
            high=high,
            highpass_hz=0.05 if rate_hz > 1 else 0.0,
            step=0.0 if rate_hz > 1 else 1.0,
            digital=eight,
        )

    sensors = (
        slow("SaO2", "%", 1, _only(Source.SATURATION), 0, 100),
        slow("H.R.", "BPM", 1, _only(Source.PULSE), 0, 250),
        wired("EEG(sec)", Source.C3, 125, 125, 1.5),
        Sensor(
            label="ECG",
            unit="mV",
            rate_hz=125,
            mix=_only(Source.ECG),
            low=-1.25,
            high=1.25,
            highpass_hz=0.15,
            lowpass_hz=50.0,
            noise=0.005,
            hum=0.01,
            digital=eight,
        ),
        wired("EMG", Source.CHIN, 125, 31.5, 1.0),
        wired("EOG(L)", Source.LEFT_EYE, 50, 125, 0.0),
        wired("EOG(R)", Source.RIGHT_EYE, 50, 125, 0.0),
        wired("EEG", Source.C4, 125, 125, 1.5),
        slow("THOR RES", "", 10, _only(Source.THORAX), -1, 1),
        slow("ABDO RES", "", 10, _only(Source.ABDOMEN), -1, 1),
        slow("POSITION", "", 1, (), 0, 3),
        slow("LIGHT", "", 1, (), 0, 1),
        slow("AIRFLOW", "", 10, _only(Source.FLOW), -1, 1),
    )
    return Device(
        name="compumedics", sensors=sensors, mains_hz=60.0, plus=False, record_duration_s=1.0
    )


def _nox() -> Device:
    """Unreferenced electrodes in volts at 200 Hz, coupled to DC, with a strong common 50-Hz hum."""

    def electrode(label: str, mix: Mix) -> Sensor:
        return Sensor(
            label=label,
            unit="V",
            rate_hz=200,
            mix=mix,
            low=-0.0032,
            high=0.0032,
            scale=1e-6,
            lowpass_hz=85.0,
            noise=0.5,
            hum=12.0,
            shared_hum=True,
        )

    def breath(label: str, unit: str, source: Source, scale: float) -> Sensor:
        return Sensor(
            label=label,
            unit=unit,
            rate_hz=25,
            mix=_only(source),
            low=-32,
            high=32,
            scale=scale,
            noise=0.003,
        )

    def chin(label: str) -> Sensor:
        return Sensor(
            label=label,
            unit="V",
            rate_hz=200,
            mix=_only(Source.CHIN),
            low=-0.0032,
            high=0.0032,
            scale=1e-6,
            highpass_hz=3.0,
            lowpass_hz=85.0,
            noise=0.4,
            hum=1.0,
        )

    ground = (Source.MASTOID, 1.0)
    sensors = (
        electrode("C3", ((Source.C3, 1.0), ground)),
        electrode("C4", ((Source.C4, 1.0), ground)),
        electrode("M1", (ground,)),
        electrode("M2", (ground,)),
        electrode("E1", ((Source.LEFT_EYE, 1.0), ground)),
        electrode("E2", ((Source.RIGHT_EYE, 1.0), ground)),
        *(chin(label) for label in ("1-F", "2-F")),
        Sensor(
            label="ECG",
            unit="V",
            rate_hz=200,
            mix=_only(Source.ECG),
            low=-0.0032,
            high=0.0032,
            scale=1e-3,
            lowpass_hz=85.0,
            noise=0.003,
            hum=0.02,
        ),
        breath("Nasal Pressure", "cmH2O", Source.FLOW, 1.5),
        breath("Thorax", "V", Source.THORAX, 1.0),
        breath("Abdomen", "V", Source.ABDOMEN, 1.0),
        Sensor(
            label="SpO2",
            unit="%",
            rate_hz=3,
            mix=_only(Source.SATURATION),
            low=0,
            high=102.3,
            lowpass_hz=0.2,
            step=0.1,
        ),
        Sensor(
            label="Pulse", unit="bpm", rate_hz=3, mix=_only(Source.PULSE), low=0, high=511, step=1
        ),
    )
    return Device(name="nox", sensors=sensors, mains_hz=50.0, plus=True, record_duration_s=1.0)


def _embla() -> Device:
    """Millivolts at 256 Hz after a 0.5-Hz high-pass; the ECG lead and the airflow upside down."""

    def wired(label: str, mix: Mix, noise: float, hum: float, scale: float = 1e-3) -> Sensor:
        return Sensor(
            label=label,
            unit="mV",
            rate_hz=256,
            mix=mix,
            low=-2.5,
            high=2.5,
            scale=scale,
            highpass_hz=0.5,
            lowpass_hz=90.0,
            noise=noise,
            hum=hum,
        )

    def breath(label: str, source: Source, weight: float) -> Sensor:
        return Sensor(
            label=label,
            unit="mV",
            rate_hz=32,
            mix=_only(source, weight),
            low=-2.5,
            high=2.5,
            highpass_hz=0.1,
            lowpass_hz=5.0,
            noise=0.01,
        )

    sensors = (
        wired("C4-M1", _only(Source.C4), 0.8, 2.0),
        wired("C3-M2", _only(Source.C3), 0.8, 2.0),
        wired("E1-M2", _only(Source.LEFT_EYE), 0.8, 2.0),
        wired("E2-M2", _only(Source.RIGHT_EYE), 0.8, 2.0),
        wired("Chin1-Chin2", _only(Source.CHIN), 0.6, 1.5),
        wired("ECG II", _only(Source.ECG, -1.0), 0.004, 0.02, scale=1.0),
        breath("Airflow", Source.FLOW, -1.0),
        breath("Chest", Source.THORAX, 1.4),
        breath("Abdomen", Source.ABDOMEN, 0.6),
        Sensor(
            label="SpO2",
            unit="%",
            rate_hz=1,
            mix=_only(Source.SATURATION),
            low=0,
            high=100,
            lowpass_hz=0.08,
            step=1.0,
        ),
    )
    return Device(name="embla", sensors=sensors, mains_hz=50.0, plus=True, record_duration_s=1.0)


def _sleep_edf() -> Device:
    """Sleep-EDF's cassette recorder: 100 Hz, 12 bits, chin and breath once a second, no heart.

    There are two derivations only. Fpz-Cz and Pz-Oz are stand-ins made of the central ones: the
    simulation has no scalp.
    """
    twelve = (-2048, 2047)

    def wired(label: str, mix: Mix, most: float) -> Sensor:
        return Sensor(
            label=label,
            unit="uV",
            rate_hz=100,
            mix=mix,
            low=-most,
            high=most,
            highpass_hz=0.5,
            lowpass_hz=100.0,
            noise=1.5,
            hum=0.8,
            digital=twelve,
        )

    fpz = ((Source.C4, 0.5), (Source.C3, 0.5), (Source.LEFT_EYE, 0.2), (Source.RIGHT_EYE, 0.2))
    sensors = (
        wired("EEG Fpz-Cz", fpz, 192),
        wired("EEG Pz-Oz", ((Source.C4, 0.9), (Source.C3, -0.4)), 197),
        wired("EOG horizontal", ((Source.LEFT_EYE, 1.0), (Source.RIGHT_EYE, -1.0)), 1009),
        Sensor(
            label="Resp oro-nasal",
            unit="",
            rate_hz=1,
            mix=_only(Source.FLOW),
            low=-2048,
            high=2047,
            scale=1000.0,
            highpass_hz=0.03,
            lowpass_hz=0.45,
            digital=twelve,
        ),
        Sensor(
            label="EMG submental",
            unit="uV",
            rate_hz=1,
            mix=_only(Source.CHIN, 0.4),
            low=-5,
            high=5,
            rectified=True,
            digital=(-2500, 2500),
        ),
        Sensor(label="Event marker", unit="", rate_hz=1, mix=(), low=-2047, high=2048),
    )
    return Device(
        name="sleep_edf", sensors=sensors, mains_hz=50.0, plus=True, record_duration_s=30.0
    )


_ALL: Final = {
    device.name: device for device in (_REFERENCE, _compumedics(), _nox(), _embla(), _sleep_edf())
}


def device(name: str) -> Device:
    """The profile of a name in `simulate.devices`; KeyError for any other."""
    return _ALL[name]


def device_of(devices: tuple[str, ...], index: int) -> Device:
    """The recorder of a subject: each sleeps both women and men, whose indices alternate."""
    return device(devices[index // 2 % len(devices)])
