"""The labels of `world_labels.txt`, and what the planner makes of one label alone."""

from pathlib import Path
from typing import NamedTuple

from sleepmami.psg import Decision, Modality
from sleepmami.signals.channels import plan_channels
from sleepmami.signals.edf import EdfChannel
from sleepmami.signals.labels import Sensor, parse_label

_TABLE = Path(__file__).with_name("world_labels.txt")
_SENSORS = {
    Sensor.FLOW: "FLOW",
    Sensor.THERMISTOR: "THERM",
    Sensor.BELT_FLOW: "BELT",
    Sensor.THORAX: "THORAX",
    Sensor.ABDOMEN: "ABDOMEN",
    Sensor.EFFORT: "EFFORT",
    Sensor.UNSTATED: "BREATH",
}


class Case(NamedTuple):
    """One label of a source, its unit, and the role that is right for it."""

    source: str
    label: str
    unit: str
    role: str
    only_if_known: bool

    def kept_by(self, found: str) -> bool:
        """Whether the role that was found is right, or missing where that is allowed."""
        if self.only_if_known and found == "NONE":
            return True
        return found == self.role or (self.role == "AIR" and found in ("FLOW", "THERM"))


def cases() -> list[Case]:
    found = []
    source = ""
    for line in _TABLE.read_text(encoding="ascii").splitlines():
        if line.startswith("= "):
            source = line[2:]
        elif line and not line.startswith("#"):
            role, labels = line.split(" ", 1)
            for written in labels.split("|"):
                text = written.encode("ascii").decode("unicode_escape")
                label, _, unit = text.partition("@")
                found.append(Case(source, label, unit, role.removesuffix("?"), role.endswith("?")))
    return found


def channel(index: int, label: str, unit: str = "") -> EdfChannel:
    """A channel that no rate or range rules out."""
    top = 100.0 if unit == "%" else 500.0
    low = 0.0 if "o2" in label.lower() else -top
    return EdfChannel(
        index, label, unit, 256.0, 256, low, 100.0 if low == 0 else top, -32768, 32767
    )


def role_of(label: str, unit: str = "") -> str:
    """The role of a file's only channel, as the table calls roles."""
    said = parse_label(label, unit)
    decision = plan_channels([channel(0, label, unit)]).decisions[0]
    if decision.decision is Decision.REJECTED:
        return "NONE"
    if said.modality is None:
        return "REF" if said.electrode else "NONE"
    if said.modality is not Modality.RESP:
        return said.modality.value
    assert said.sensor is not None
    return "PAP" if said.what == "CPAP flow" else _SENSORS[said.sensor]
