"""Tables 4, 11 and 12 of the paper: train each row's encoders, embed, probe, and write the table.

OUT/encoders/MICRO and OUT/encoders/MICRO/MACRO are runs as `pretrain micro` and `pretrain macro`
leave them, each trained once however many rows and tables name it. OUT/table_N/row_R is a row; it
is done when its row.json is there, and is not done again. OUT may be given to all three tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.embed_nights import embed_cohort, embed_micro_nights
from pipelines.pretrain_macro import pretrain_macro
from pipelines.pretrain_micro import pretrain_micro
from pipelines.progress import console
from pipelines.run_folder import remember_run, require_same_run
from sleepmami import storage
from sleepmami.config import (
    MACROS,
    MICROS,
    TABLES,
    AblateConfig,
    AblationRow,
    MacroPretrainConfig,
    MicroPretrainConfig,
    TableName,
    Task,
)
from sleepmami.config_edit import replace_at, to_dict
from sleepmami.errors import ConfigError, SleepMaMiError, TableError
from sleepmami.evaluation.ablation_table import RowOutcome, markdown, table_dict
from sleepmami.evaluation.probe import run_probe
from sleepmami.evaluation.task_settings import EPOCH_TASKS, with_effect
from sleepmami.tables import lance_io


def ablate(
    name: TableName,
    corpus: str,
    output: str,
    config: AblateConfig,
    rows: Sequence[str] = (),
    *,
    run: str | None = None,
) -> dict[str, Any]:  # Any: JSON values
    """Run the rows of a table that are not done yet; returns what OUT/table_N.json holds.

    Needs a Ray session. A row that fails is reported and the others go on; the next call tries it
    again, where its encoders were left.

    Args:
        name: 4, 11 or 12.
        corpus: of one or several cohorts.
        output: OUT, a folder or URI.
        config: what all rows have in common.
        rows: which to run; all that are defined where none is named.
        run: the folder of the model of all cohorts, as `pretrain micro` and `pretrain macro` of the
            same settings left it; in OUT/encoders where it is not given.

    Raises:
        ConfigError: an unknown row or cohort, or OUT holds rows of other settings or data.
        TableError: the corpus is missing.
    """
    wanted = _wanted(name, rows)
    facts = _facts(corpus, config)
    for part, settings in _settings(config, facts).items():
        require_same_run(output, f"ablate_{part}", settings)
    for part, settings in _settings(config, facts).items():
        remember_run(output, f"ablate_{part}", settings)
    encoders = _Encoders(corpus=corpus, output=output, config=config, facts=facts, run=run)
    outcomes = []
    for row in TABLES[name].rows:
        folder = storage.join(output, f"table_{name}", f"row_{row.row}")
        done = _read_row(folder, row)
        if done is None and row in wanted:
            console.rule(f"table {name}, row {row.row}: {row.title}")
            done = _run_row(name, row, folder, encoders)
        reason = row.note if not row.micro else "not asked for"
        outcomes.append(done or RowOutcome(row=row, state="not run", results={}, reason=reason))
        if outcomes[-1].state == "failed":
            console.print(f"row {row.row} failed: {outcomes[-1].reason}")
        outcomes[-1] = replace(outcomes[-1], notes=encoders.notes(row))
    plain = table_dict(name, outcomes, config, facts)
    _write(storage.join(output, f"table_{name}.json"), json.dumps(plain, indent=1) + "\n")
    _write(storage.join(output, f"table_{name}.md"), markdown(plain))
    return plain


def _wanted(name: TableName, rows: Sequence[str]) -> list[AblationRow]:
    defined = {row.row: row for row in TABLES[name].rows if row.micro}
    for row in rows:
        if row not in defined:
            raise ConfigError(f"--rows {row!r} of table {name}: there are {list(defined)}")
    return [defined[row] for row in dict.fromkeys(rows or defined)]


def _facts(corpus: str, config: AblateConfig) -> dict[str, Any]:
    """The data: which cohort is tested, which there are, and the versions of the tables."""
    uri = storage.join(corpus, "recordings.lance")
    table = lance_io.read_table(uri, ["cohort"], filter="rejected_code IS NULL")
    cohorts = sorted(set(table.column("cohort").to_pylist()))
    cohort = config.cohort or (cohorts[0] if len(cohorts) == 1 else "")
    if cohort not in cohorts:
        raise ConfigError(
            f"--set cohort={config.cohort!r}: found cohorts {cohorts}; expected the one that is "
            "tested, which rows of one cohort are trained on"
        )
    return {
        "corpus": corpus,
        "cohort": cohort,
        "cohorts": cohorts,
        "recordings_version": lance_io.version(uri),
        "segments_version": lance_io.version(storage.join(corpus, "segments.lance")),
    }


def _settings(config: AblateConfig, facts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What must be the same when OUT is continued, by part, so that messages name settings."""
    data = {name: value for name, value in facts.items() if name != "corpus"}
    vectors = {name: getattr(config.embed, name) for name in ("precision", "both_halves")}
    return {
        "micro": {**to_dict(config.micro), "data": data},
        "macro": to_dict(config.macro),
        "probe": {**to_dict(config.probe), "embed": vectors},
    }


@dataclass(slots=True)
class _Encoders:
    """Trains each encoder once; what failed is not tried again by the rows that share it."""

    corpus: str
    output: str
    config: AblateConfig
    facts: dict[str, Any]
    run: str | None = None
    made: dict[str, str] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)

    @property
    def cohort(self) -> str:
        return str(self.facts["cohort"])

    def notes(self, row: AblationRow) -> tuple[str, ...]:
        """What is special about a row's encoders in this corpus."""
        if row.micro and self._name(row.micro) != row.micro:
            return (f"the corpus has one cohort: trained on {self.cohort} alone",)
        return ()

    def vectors(self, row: AblationRow) -> tuple[str, str]:
        """Where a row's vectors are, and of which level its tasks of epochs are."""
        name = self._name(row.micro)
        given = self.run if name == self._name("full_all") else None
        micro_run = given or storage.join(self.output, "encoders", name)
        nights = self._once(name, lambda: self._train_micro(name, micro_run))
        if not row.macro:
            return nights, "micro"
        macro = self._name(row.macro)
        run = storage.join(self.output, "encoders", name, macro)
        if given and macro == self._name("dgcl_all"):
            run = given
        vectors = self._once(f"{name}/{macro}", lambda: self._train_macro(macro, micro_run, run))
        return vectors, "macro"

    def _once(self, name: str, make: Callable[[], str]) -> str:
        if name in self.failed:
            raise self.failed[name]
        try:
            if name not in self.made:
                self.made[name] = make()
        except Exception as error:  # remembered, and shown at the row
            self.failed[name] = error
            raise
        return self.made[name]

    def _name(self, encoder: str) -> str:
        """Where there is one cohort, all cohorts are no other training."""
        alone = len(self.facts["cohorts"]) == 1
        return encoder.replace("_all", "_one") if alone else encoder

    def _train_micro(self, name: str, run: str) -> str:
        variant = MICROS[name]
        settings = replace_at(self.config.micro, variant.changes)
        if variant.nights == "one":
            settings = self._of_one_cohort(settings)
        pretrain_micro(self.corpus, run, settings)
        return embed_micro_nights(self.corpus, run, self.config.embed)

    def _of_one_cohort(self, settings: MicroPretrainConfig) -> MicroPretrainConfig:
        """Others are read never; the weight of the one does not matter then."""
        others = [name for name in self.facts["cohorts"] if name != self.cohort]
        return replace(settings, mixing=tuple((name, 0.0) for name in others))

    def _train_macro(self, name: str, micro_run: str, run: str) -> str:
        variant = MACROS[name]
        settings: MacroPretrainConfig = replace_at(self.config.macro, variant.changes)
        if variant.nights == "one" and len(self.facts["cohorts"]) > 1:
            settings = replace(settings, cohorts=(self.cohort,))
        pretrain_macro(self.corpus, run, settings, micro_run=micro_run)
        embed = replace(self.config.embed, cohorts=(self.cohort,))  # nobody else is probed
        vectors = storage.join(self.output, "encoders", "vectors", name)
        embed_cohort(self.corpus, run, vectors, embed)
        return vectors


def _run_row(name: TableName, row: AblationRow, folder: str, encoders: _Encoders) -> RowOutcome:
    """Train what is missing and ask the table's tasks that have no answer yet."""
    results: dict[str, Any] = {}
    reasons = []
    try:
        vectors, level = encoders.vectors(row)
        for column in TABLES[name].columns:
            try:
                results[column.task] = _probe(column.task, vectors, level, folder, encoders)
            except TableError as error:  # such as nobody with an AHI: other tasks may have labels
                reasons.append(f"{column.task}: {error}")
    except Exception as error:  # one row costs itself at most
        known = isinstance(error, SleepMaMiError)
        reasons.append(str(error) if known else f"{type(error).__name__}: {error}")
    if reasons:
        return RowOutcome(row=row, state="failed", results=results, reason="; ".join(reasons))
    _write(storage.join(folder, "row.json"), json.dumps(results, indent=1) + "\n")
    return RowOutcome(row=row, state="done", results=results)


def _probe(
    task: Task, vectors: str, level: str, folder: str, encoders: _Encoders
) -> dict[str, Any]:
    """Fit and test one probe, or read what it said before."""
    uri = storage.join(folder, f"{task}.json")
    if storage.exists(uri):
        return dict(json.loads(storage.read_bytes(uri)))
    of_nights = level == "macro" and task not in EPOCH_TASKS
    config = with_effect(task, encoders.config.probe)
    config = replace_at(
        config, {"level": "night" if of_nights else level, "cohorts": [encoders.cohort]}
    )
    result = run_probe(task, vectors, [encoders.corpus], config).to_dict()
    figures = {figure["name"]: figure["value"] for figure in result["figures"]}
    console.print(f"{task}: " + ", ".join(f"{k} {v:.3f}" for k, v in figures.items() if v))
    _write(uri, json.dumps(result, indent=1) + "\n")
    return result


def _read_row(folder: str, row: AblationRow) -> RowOutcome | None:
    uri = storage.join(folder, "row.json")
    if not storage.exists(uri):
        return None
    return RowOutcome(row=row, state="done", results=json.loads(storage.read_bytes(uri)))


def _write(uri: str, text: str) -> None:
    storage.write_bytes(uri, text.encode())
