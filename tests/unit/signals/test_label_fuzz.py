"""Labels and montages that nobody wrote: spelt otherwise, mixed, cut and broken."""

import functools
import random
import re
from collections.abc import Callable

import pytest

from sleepmami.config import PreprocessConfig
from sleepmami.psg import LAYOUTS, Decision
from sleepmami.signals.channels import ChannelPlan, plan_channels
from sleepmami.signals.edf import EdfChannel
from sleepmami.signals.labels import unit_kind, volt_scale
from tests.unit.signals.montages import MONTAGES, Row
from tests.unit.signals.world import cases, channel, role_of
from tests.unit.signals.world_montages import WORLD_MONTAGES

ALL_MONTAGES = MONTAGES | WORLD_MONTAGES
# Spellings that change nothing. Glued typing errors (`CannnulaFlow`) are read by their capitals
# alone; without them such a label may be missed, and nothing else.
SAME: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
    "padded": lambda label: f"  {label} ",
    "two spaces": lambda label: label.replace(" ", "  "),
    "spaced hyphens": lambda label: re.sub(r"(?<=\w)-(?=\w)", " - ", label),
    "underscores": lambda label: label.replace(" ", "_"),
    "no underscores": lambda label: label.replace("_", " "),
    "colons": lambda label: re.sub(r"(?<=\w)-(?=[AaMm][12]\b)", ":", label),
    "slashes": lambda label: re.sub(r"(?<=\w)-(?=[AaMm][12]\b)", "/", label),
    "no-break spaces": lambda label: label.replace(" ", "\u00a0"),
    "UTF-8 read as Latin-1": lambda label: label.encode().decode("latin-1"),
    "zero bytes": lambda label: label + "\0\0",
    "brackets": lambda label: f"[{label}]",
    "decomposed": lambda label: label.replace("\u00f6", "o\u0308").replace("\u00e4", "a\u0308"),
}
UNITS = ["mV", "V", "nV", "uV", "\u00b5V", "\u03bcV", "\u00c2\u00b5V", "", "%", "mmHg", "L/min", "cmH2O", "counts", "bpm", "\u00e6V", "?V", "degC", "\ufffd"]  # fmt: skip


@functools.cache
def roles() -> dict[tuple[str, str], str]:
    return {(c.label, c.unit): role_of(c.label, c.unit) for c in cases()}


@pytest.mark.parametrize("way", SAME)
def test_another_spelling_is_the_same_signal_or_none(way: str) -> None:
    changed = {}
    for (label, unit), role in roles().items():
        after = role_of(SAME[way](label), unit)
        if after != role:
            changed[label] = (role, after)
    assert {label for label, (_, after) in changed.items() if after != "NONE"} == set()
    assert len(changed) <= 7  # of more than a thousand


def planned(rows: list[Row], config: PreprocessConfig | None = None) -> ChannelPlan:
    return plan_channels(
        [
            EdfChannel(i, label, unit, rate, max(int(rate), 1), 0.0, 100.0, -32768, 32767)
            for i, (label, unit, rate) in enumerate(rows)
        ],
        config,
    )


@pytest.mark.parametrize("seed", range(4))
def test_no_order_of_the_channels_changes_what_they_are(seed: int) -> None:
    draw = random.Random(seed)
    for rows, _ in ALL_MONTAGES.values():
        mixed = draw.sample(rows, len(rows))
        ours = {row: d for row, d in zip(rows, planned(rows).decisions, strict=True)}
        for row, decision in zip(mixed, planned(mixed).decisions, strict=True):
            assert decision.modality == ours[row].modality or rows.count(row) > 1, row
        assert planned(mixed).sources.keys() == planned(rows).sources.keys()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts_of_mixed_montages_plan_without_contradiction(layout: str) -> None:
    draw = random.Random(layout)
    everything = [row for rows, _ in ALL_MONTAGES.values() for row in rows]
    config = PreprocessConfig(layout=layout)
    for _ in range(80):
        rows = draw.sample(everything, draw.randint(0, 40))
        rows = [
            (SAME[draw.choice(list(SAME))](label)[:16], draw.choice([unit, unit, *UNITS]), rate)
            for label, unit, rate in rows
        ]
        plan = planned(rows, config)
        assert len(plan.decisions) == len(rows)
        for modality, source in plan.sources.items():
            assert source.modality is modality
            assert plan.decisions[source.index].decision is Decision.USED
            assert source.reference_index != source.index
            assert source.unit_scale != 0
        used = {source.index for source in plan.sources.values()}
        assert used == {i for i, d in enumerate(plan.decisions) if d.decision is Decision.USED}


def test_any_text_is_planned() -> None:
    draw = random.Random(5)
    pieces = [case.label for case in cases()]
    signs = [chr(draw.choice((draw.randrange(256), draw.randrange(0x2500), draw.randrange(0x1F9FF)))) for _ in range(400)]  # fmt: skip
    signs = [sign for sign in signs if not 0xD800 <= ord(sign) < 0xE000]
    for _ in range(600):
        label = "".join(draw.choice((draw.choice(pieces), draw.choice(signs))) for _ in range(4))
        unit = draw.choice((draw.choice(UNITS), draw.choice(signs) * 3))
        plan = plan_channels([channel(0, label, unit), channel(1, draw.choice(pieces), "uV")])
        assert len(plan.decisions) == 2


def test_a_unit_is_of_one_kind_and_volts_have_a_scale() -> None:
    for unit in UNITS:
        cased = (unit.lower(), unit.upper()) if unit.isascii() else ()  # bytes read wrongly
        for spelt in (unit, *cased, f" {unit} ", f"[{unit}]"):
            assert unit_kind(spelt) == unit_kind(unit), spelt
            assert (volt_scale(spelt) is not None) == (unit_kind(spelt) == "volt"), spelt
