"""Every setting of the system: one frozen dataclass per stage, in pipeline order.

Defaults are the paper's numbers (Tables 8 and 9), each with its symbol or table. The same dotted
name (`dgcl.rho`) works in `--set`, in a Tune space and in a saved config.json; `config_edit.py` is
what reads and changes them. Torch-free.
"""

from sleepmami.config.ablations import (
    MACROS,
    MICROS,
    TABLES,
    AblateConfig,
    AblationRow,
    AblationTable,
    Column,
    TableName,
)
from sleepmami.config.corpus import IngestConfig, PreprocessConfig, SimulateConfig, SplitConfig
from sleepmami.config.embedding import BandPowersConfig, EmbedConfig, ServeConfig
from sleepmami.config.macro import (
    FACTORS,
    Crop,
    DGCLConfig,
    Factor,
    MacroEncoderConfig,
    MacroPretrainConfig,
    PartialCycle,
    Reads,
    half_cycle,
)
from sleepmami.config.micro import (
    MAX_WEIGHT,
    ContrastiveView,
    MaskingConfig,
    MicroEncoderConfig,
    MicroLossConfig,
    MicroPretrainConfig,
    SharedView,
)
from sleepmami.config.missing import MissingConfig
from sleepmami.config.probe import (
    DISEASES,
    TASKS,
    ApneaConfig,
    FewShotConfig,
    Level,
    ProbeConfig,
    ProbeSplitConfig,
    RetrievalConfig,
    Task,
)
from sleepmami.config.sweep import SweepConfig
from sleepmami.config.training import (
    VALIDATE_ROWS,
    EngineConfig,
    LoopConfig,
    OptimizerConfig,
    Precision,
    Tracker,
    WorkersConfig,
)

__all__ = [
    "DISEASES",
    "FACTORS",
    "MACROS",
    "MAX_WEIGHT",
    "MICROS",
    "TABLES",
    "TASKS",
    "VALIDATE_ROWS",
    "AblateConfig",
    "AblationRow",
    "AblationTable",
    "ApneaConfig",
    "BandPowersConfig",
    "Column",
    "ContrastiveView",
    "Crop",
    "DGCLConfig",
    "EmbedConfig",
    "EngineConfig",
    "Factor",
    "FewShotConfig",
    "IngestConfig",
    "Level",
    "LoopConfig",
    "MacroEncoderConfig",
    "MacroPretrainConfig",
    "MaskingConfig",
    "MicroEncoderConfig",
    "MicroLossConfig",
    "MicroPretrainConfig",
    "MissingConfig",
    "OptimizerConfig",
    "PartialCycle",
    "Precision",
    "PreprocessConfig",
    "ProbeConfig",
    "ProbeSplitConfig",
    "Reads",
    "RetrievalConfig",
    "ServeConfig",
    "SharedView",
    "SimulateConfig",
    "SplitConfig",
    "SweepConfig",
    "TableName",
    "Task",
    "Tracker",
    "WorkersConfig",
    "half_cycle",
]
