"""Settings of what makes a corpus: simulated nights, and the ingest of section 3.3."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sleepmami.errors import ConfigError, require

Device = Literal["reference", "compumedics", "nox", "embla", "sleep_edf"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulateConfig:
    """Nights with known answers; docs/simulation.md says what is and is not realistic.

    `devices` are the recorders that subjects are spread over (simulation/devices.py); one may be
    named several times to be used more often. With `follow_up_years` metadata.csv has outcomes, and
    truth.csv has the risk that they were drawn from (simulation/follow_up.py). `layout=shhs` writes
    what a download of SHHS looks like, second visits included (simulation/shhs.py).
    """

    num_subjects: int = 24
    duration_h: float = 7.5  # time in bed
    seed: int = 20260210
    devices: tuple[Device, ...] = ("reference",)
    layout: Literal["plain", "shhs"] = "plain"  # shhs: folders, tables and recorders of SHHS
    effects: Literal["plain", "published"] = "plain"  # sizes of age and sex: simulation/effects.py
    # EEG: stages as even spectra, or as unlike as people's: simulation/measured_spectra.py
    spectra: Literal["smooth", "measured"] = "smooth"
    artefacts: float = 0.0  # how often sensors fail, relative to a usual night; 0: never
    follow_up_years: float = 0.0  # 0: nobody is followed

    def __post_init__(self) -> None:
        require(self.num_subjects >= 1, "num_subjects", self.num_subjects, ">= 1")
        require(0.1 <= self.duration_h <= 24, "duration_h", self.duration_h, "within 0.1..24")
        require(bool(self.devices), "devices", self.devices, "at least one recorder")
        if self.layout == "shhs" and self.devices != ("reference",):
            raise ConfigError(
                f"devices={list(self.devices)} has no effect with layout='shhs', whose recorders "
                "are those of SHHS; leave it out"
            )
        require(0 <= self.artefacts <= 20, "artefacts", self.artefacts, "within 0..20")
        require(
            0 <= self.follow_up_years <= 50, "follow_up_years", self.follow_up_years, "within 0..50"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessConfig:
    """Section 3.3. Pass bands in Hz; a notch of 0 switches it off.

    `channels` renames labels before they are read: pairs of a file's label and the words that it
    stands for, such as ("PG1", "EOG left") or ("Aux 3", "ignore").
    """

    layout: Literal["sleepmami", "sleep2vec"] = "sleepmami"  # which signals at which rates: psg.py
    eeg_eog_band_hz: tuple[float, float] = (0.3, 40.0)
    ecg_band_hz: tuple[float, float] = (0.3, 60.0)
    emg_highpass_hz: float = 10.0
    resp_lowpass_hz: float = 15.0
    notch_hz: float = 60.0
    notch_quality: float = 30.0
    detect_mains: bool = False  # notch at 50 or 60 Hz, whichever the recording shows, else notch_hz
    effort_band_hz: tuple[float, float] = (0.1, 0.7)  # RESP of layout sleep2vec: departures.md
    filter_order: int = 2  # Butterworth order of one of the two (zero-phase) passes
    min_duration_s: float = 60.0  # one segment
    max_duration_h: float = 72.0  # a longer file is refused as too large
    # keep: use the whole data records there are, as an ingest does; reject: a single file that is
    # embedded or sent, which was most likely cut off on its way
    truncated: Literal["reject", "keep"] = "reject"
    channels: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name in ("eeg_eog_band_hz", "ecg_band_hz", "effort_band_hz"):
            low, high = getattr(self, name)
            require(0 < low < high, f"preprocess.{name}", (low, high), "0 < low < high")
        if self.detect_mains and self.layout == "sleep2vec":
            raise ConfigError(
                "preprocess.detect_mains=True has no effect with preprocess.layout='sleep2vec', "
                "which has no notch; set it to False"
            )
        require(self.emg_highpass_hz > 0, "preprocess.emg_highpass_hz", self.emg_highpass_hz, "> 0")
        require(self.resp_lowpass_hz > 0, "preprocess.resp_lowpass_hz", self.resp_lowpass_hz, "> 0")
        require(self.notch_hz >= 0, "preprocess.notch_hz", self.notch_hz, ">= 0")
        require(self.notch_quality > 0, "preprocess.notch_quality", self.notch_quality, "> 0")
        require(1 <= self.filter_order <= 8, "preprocess.filter_order", self.filter_order, "1..8")
        require(
            self.min_duration_s >= 60, "preprocess.min_duration_s", self.min_duration_s, ">= 60"
        )
        require(self.max_duration_h > 0, "preprocess.max_duration_h", self.max_duration_h, "> 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitConfig:
    """Subject-wise split by a stable hash of the subject id."""

    validation: float = 0.1
    test: float = 0.1
    salt: str = "sleepmami-1"

    def __post_init__(self) -> None:
        ok = self.validation >= 0 and self.test >= 0 and self.validation + self.test < 1
        require(ok, "split", (self.validation, self.test), "two fractions that leave a train split")


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestConfig:
    """EDF folder -> recordings.lance and segments.lance."""

    cohort: str = "unnamed"
    recording_ids: Literal["pseudonym", "file_name"] = "pseudonym"  # tables/pseudonyms.py
    preprocess: PreprocessConfig = field(default_factory=lambda: PreprocessConfig(truncated="keep"))
    split: SplitConfig = field(default_factory=SplitConfig)
    nights_per_commit: int = 16
    num_cpus_per_task: float = 1.0

    def __post_init__(self) -> None:
        require(bool(self.cohort), "cohort", self.cohort, "a name")
        require(self.nights_per_commit >= 1, "nights_per_commit", self.nights_per_commit, ">= 1")
        require(self.num_cpus_per_task > 0, "num_cpus_per_task", self.num_cpus_per_task, "> 0")
