"""Tables 4, 11 and 12 of the paper as rows of settings, and the settings of `sleepmami ablate`.

A row is a Micro-Encoder, perhaps a Macro-Encoder on top of it, and a probe of their vectors. Rows
name their encoders, so that rows with the same one train it once.

Table 11 contradicts itself: its rows 3 and 4 have the same marks, and Appendix D.1 says that rows
1 to 3 are pretrained on SHHS1 alone, while row 3's mark says large scale. Marks and text agree for
rows 1, 2, 4 and 5. Row 3 by its text is row 2, by its marks row 4: it is not run. Row "2a" is not
in the paper: what stands between rows 1 and 2, which differ in two things at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from sleepmami.config.embedding import EmbedConfig
from sleepmami.config.macro import FACTORS, MacroPretrainConfig
from sleepmami.config.micro import MicroPretrainConfig
from sleepmami.config.probe import (
    DISEASES,
    ApneaConfig,
    FewShotConfig,
    ProbeConfig,
    RetrievalConfig,
    Task,
)
from sleepmami.errors import ConfigError, require

TableName = Literal["4", "11", "12"]
Nights = Literal["one", "all"]  # train split of the cohort that is tested, or of every cohort


class MicroVariant(NamedTuple):
    """A Micro-Encoder: what differs from the settings, and which cohorts train it."""

    changes: Mapping[str, Any]
    nights: Nights


class MacroVariant(NamedTuple):
    """A Macro-Encoder, likewise."""

    changes: Mapping[str, Any]
    nights: Nights


class Column(NamedTuple):
    """A figure of a probe: `name` is as in its result, times `scale` it has the paper's unit."""

    task: Task
    name: str
    title: str
    scale: float


class AblationRow(NamedTuple):
    """One line of a table.

    Attributes:
        row: its number in the paper.
        title: what is trained.
        micro: of MICROS; empty where the row is not run.
        macro: of MACROS; empty for the Micro-Encoder alone.
        paper: the paper's figures, in the order of the columns; empty where it has none.
        note: what a reader has to know; why it is not run, where `micro` is empty.
    """

    row: str
    title: str
    micro: str
    macro: str = ""
    paper: tuple[float, ...] = ()
    note: str = ""


class AblationTable(NamedTuple):
    """One table of the paper."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[AblationRow, ...]


MICROS: dict[str, MicroVariant] = {
    "private_one": MicroVariant(
        {
            "model.shared_depth": 0,
            "model.fusion_depth": 0,
            "loss.lambda_cl": 0,
            "loss.lambda_koleo": 0,
        },
        "one",
    ),
    "no_contrast_one": MicroVariant({"loss.lambda_cl": 0, "loss.lambda_koleo": 0}, "one"),
    "full_one": MicroVariant({}, "one"),
    "full_all": MicroVariant({}, "all"),
}
MACROS: dict[str, MacroVariant] = {
    "dgcl_all": MacroVariant({}, "all"),
    "age_one": MacroVariant({"dgcl.factors": ["age"]}, "one"),
    "sex_one": MacroVariant({"dgcl.factors": ["sex"]}, "one"),
    "bmi_one": MacroVariant({"dgcl.factors": ["bmi"]}, "one"),
    "dgcl_one": MacroVariant({}, "one"),
}
_STAGING = Column("staging", "accuracy", "staging accuracy, %", 100.0)
TABLES: dict[TableName, AblationTable] = {
    "4": AblationTable(
        "Contribution of the Macro-Encoder",
        (
            _STAGING,
            Column("sex", "accuracy", "sex accuracy, %", 100.0),
            Column("age", "mae", "age MAE, years", 1.0),
            Column("ahi", "mae", "AHI MAE, 1/h", 1.0),
        ),
        (
            AblationRow("1", "Micro-Encoder only", "full_all", "", (79.8, 80.1, 9.45, 9.69)),
            AblationRow("2", "SleepMaMi", "full_all", "dgcl_all", (81.9, 88.2, 6.73, 8.40)),
        ),
    ),
    "11": AblationTable(
        "Components",
        (_STAGING,),
        (
            AblationRow("1", "private encoders, MAE", "private_one", "", (74.8,)),
            AblationRow(
                "2a",
                "private and shared encoders, MAE",
                "no_contrast_one",
                note="not in the paper: the step between its rows 1 and 2",
            ),
            AblationRow("2", "private and shared encoders, MAE, CL", "full_one", "", (75.7,)),
            AblationRow(
                "3",
                "as printed: row 2's or row 4's",
                "",
                "",
                (76.0,),
                "not run: its marks are row 4's, and Appendix D.1 says that it is trained as row 2",
            ),
            AblationRow("4", "row 2, large-scale pretraining", "full_all", "", (79.8,)),
            AblationRow("5", "row 4, DGCL", "full_all", "dgcl_all", (81.9,)),
        ),
    ),
    "12": AblationTable(
        "Demographic factors of DGCL",
        (_STAGING,),
        (
            AblationRow("1", "no DGCL: Micro-Encoder only", "full_all", "", (79.8,)),
            AblationRow("2", "age", "full_all", "age_one", (80.6,)),
            AblationRow("3", "sex", "full_all", "sex_one", (80.2,)),
            AblationRow("4", "BMI", "full_all", "bmi_one", (80.1,)),
            AblationRow("5", "age, sex, BMI", "full_all", "dgcl_one", (80.7,)),
        ),
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class AblateConfig:
    """What every row has in common; the settings that rows differ in must be left alone."""

    micro: MicroPretrainConfig = field(default_factory=MicroPretrainConfig)
    macro: MacroPretrainConfig = field(default_factory=MacroPretrainConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    cohort: str = ""  # that is tested, SHHS1 in the paper; may be left out where there is one

    def __post_init__(self) -> None:
        self._require_left_alone("probe.level", self.probe.level, None)
        self._require_left_alone("probe.cohorts", self.probe.cohorts, ())
        self._require_left_alone("embed.cohorts", self.embed.cohorts, ())
        self._require_left_alone("macro.cohorts", self.macro.cohorts, ())
        self._require_left_alone("macro.dgcl.factors", self.macro.dgcl.factors, FACTORS)
        unread: dict[str, tuple[object, object]] = {
            "probe.apnea": (self.probe.apnea, ApneaConfig()),
            "probe.few_shot": (self.probe.few_shot, FewShotConfig()),
            "probe.outcomes": (self.probe.outcomes, DISEASES),
            "probe.retrieval": (self.probe.retrieval, RetrievalConfig()),
        }
        for name, (value, default) in unread.items():
            ok = value == default
            require(ok, name, value, "left alone: no table asks for it")

    @staticmethod
    def _require_left_alone(name: str, value: object, default: object) -> None:
        if value != default:
            raise ConfigError(f"{name} is what rows differ in; found {value!r}, leave it out")
