"""Which settings a task looks at, and which vectors; the others are refused."""

from __future__ import annotations

from sleepmami.config import TASKS, Level, ProbeConfig, Task
from sleepmami.config_edit import flatten, replace_at, to_dict
from sleepmami.errors import ConfigError
from sleepmami.evaluation.results import PredictionSink

EPOCH_TASKS: tuple[Task, ...] = ("staging", "few-shot", "apnea")
NOT_RETRIEVAL = tuple(task for task in TASKS if task != "retrieval")
# settings that only some tasks look at
ONLY_FOR: dict[str, tuple[Task, ...]] = {
    "class_weights": EPOCH_TASKS,
    "max_fit_epochs": (*EPOCH_TASKS, "retrieval"),
    "max_choice_epochs": EPOCH_TASKS,
    "penalties": NOT_RETRIEVAL,
    "inner_folds": NOT_RETRIEVAL,
    "retrieval.": ("retrieval",),
    "wake_min": ("staging", "few-shot"),
    "apnea.": ("apnea",),
    "few_shot.": ("few-shot",),
    "outcomes": ("survival",),
}


def level_of(task: Task, config: ProbeConfig) -> Level:
    """Whose vectors a task is asked of; ConfigError for a level it cannot be asked at."""
    if task == "retrieval" and config.level not in (None, "micro"):
        raise ConfigError(f"level={config.level!r} has no blocks of modalities; expected micro")
    if config.level == "second" and task != "apnea":
        raise ConfigError(
            f"level='second' has a vector for each second, {task} does not ask for it; expected "
            + ("micro or macro" if task in EPOCH_TASKS else "micro, macro or night")
        )
    if task not in EPOCH_TASKS:
        return config.level or ("micro" if task == "retrieval" else "night")
    if config.level == "night":
        raise ConfigError(f"level='night' has one vector per night, {task} asks for each epoch; "
                          "expected micro or macro")  # fmt: skip
    return config.level or "macro"


def refuse_without_effect(task: Task, config: ProbeConfig, sink: PredictionSink) -> None:
    """ConfigError for a setting the task does not look at, and for predictions it has none of."""
    default = dict(flatten(to_dict(ProbeConfig())))
    for name, value in flatten(to_dict(config)):
        tasks = next((only for key, only in ONLY_FOR.items() if name.startswith(key)), (task,))
        if task not in tasks and value != default[name]:
            raise ConfigError(f"{name} has no effect on {task}; it is for {', '.join(tasks)}")
    if config.split.kind == "device" and task not in ("staging", "apnea"):
        raise ConfigError(f"split.kind='device' is for staging and apnea; found {task}")
    if config.split.kind == "device" and sink is not None:
        raise ConfigError("split.kind='device' tests each epoch by many probes; write predictions "
                          "of split.kind=folds")  # fmt: skip
    if task == "retrieval" and sink is not None:
        raise ConfigError("retrieval has no predictions to write, only ranks")
    if task == "few-shot" and sink is not None:
        raise ConfigError("predictions of few-shot are of many probes; write those of staging")


def with_effect(task: Task, config: ProbeConfig) -> ProbeConfig:
    """The settings without those that the task does not look at, for many tasks of one config."""
    default = dict(flatten(to_dict(ProbeConfig())))
    reset = {
        name: default[name]
        for name in default
        if any(name.startswith(key) and task not in tasks for key, tasks in ONLY_FOR.items())
    }
    return replace_at(config, reset)


def refuse_to_keep(task: Task, config: ProbeConfig) -> None:
    """ConfigError where there is not one probe that could be kept and that the figures are of."""
    if task not in ("staging", "apnea") or config.apnea.unit != "epoch" or config.level == "second":
        raise ConfigError(f"found a probe of {task} to keep; expected staging, or apnea by epoch")
    if config.split.kind != "stored":
        raise ConfigError(
            f"split.kind={config.split.kind!r} fits several probes, each tested on others; "
            "expected split.kind=stored, whose one probe the figures are of"
        )
