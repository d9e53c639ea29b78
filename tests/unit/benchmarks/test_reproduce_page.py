"""docs/reproduce_paper.md: every command, option, preset and setting on it exists."""

import os
import re
import shlex
import subprocess
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.reproduce_smoke import PAGE, SMOKE, blocks, settings, smoke_settings
from pipelines import cli

TEXT = PAGE.read_text()
FURTHER_DATA = {name: f"/data/{name.lower()}" for name in ("MESA", "MROS", "KISS", "ISRUC")}
VARIANTS = {"page": settings(TEXT), "smoke": smoke_settings(TEXT, "/tmp/smoke")}
COMMANDS = [
    (block.kind, command)
    for block in blocks(TEXT)
    if block.kind != "settings"
    for command in block.commands
]


def words(command: str, variant: str) -> list[str]:
    """What bash makes of it."""
    environment = {"PATH": os.environ["PATH"], **VARIANTS[variant], **FURTHER_DATA}
    code = f"set -fu; printf '%s\\0' {command}"
    done = subprocess.run(["bash", "-c", code], env=environment, capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def parsed(arguments: list[str]) -> click.Context:
    """The command that the arguments name, with its options parsed, and not run."""
    command: Any = typer.main.get_command(cli.app)
    name = "sleepmami"
    while hasattr(command, "commands"):
        name, *arguments = arguments
        assert name in command.commands, name
        command = command.commands[name]
    context: click.Context = command.make_context(name, arguments)
    return context


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("command", [command for _, command in COMMANDS])
def test_every_command_option_preset_and_setting_exists_and_has_an_allowed_value(
    command: str, variant: str
) -> None:
    first, *arguments = words(command, variant)
    assert first == "sleepmami"
    context = parsed(arguments)
    if "print_config" not in context.params:
        assert "--set" not in arguments
        return
    result = CliRunner().invoke(cli.app, [*arguments, "--print-config"])
    assert result.exit_code == 0, result.exception
    assert result.output.startswith("{")


def test_ablate_is_told_what_the_stages_are_told() -> None:
    """Else it would refuse the run that the stages leave."""
    for values in VARIANTS.values():
        told = set(re.findall(r"--set (\S+)", values["ABLATE"]))
        for stage in ("micro", "macro", "embed"):
            expected = re.findall(r"--set (\S+)", values[stage.upper()])
            assert {name for name in told if name.startswith(f"{stage}.")} == {
                f"{stage}.{setting}" for setting in expected
            }


def test_the_smoke_run_changes_settings_of_the_page_alone() -> None:
    assert set(SMOKE) <= set(settings(TEXT))
    with pytest.raises(ValueError, match=r"found no setting \['OUT', 'SHHS'\]"):
        smoke_settings(re.sub(r"export (SHHS|OUT)=.*\n", "", TEXT), "/tmp")


def test_every_variable_is_a_setting_or_further_data() -> None:
    for kind, command in COMMANDS:
        known = set(settings(TEXT)) | (set(FURTHER_DATA) if kind == "data" else set())
        assert set(re.findall(r"\$(\w+)", command)) <= known


def test_every_table_and_figure_of_the_paper_is_on_the_page() -> None:
    rows = TEXT[TEXT.index("| paper | command |") : TEXT.index("What cannot be the same")]
    for kind, count in (("Table", 12), ("Figure", 11)):
        named: set[int] = set()
        for cell in re.findall(rf"^\| {kind}s? ([^|]*?)(?:, [a-zS][^|]*)? \|", rows, re.MULTILINE):
            numbers = [int(number) for number in re.findall(r"\d+", cell)]
            named |= set(range(numbers[0], numbers[1] + 1)) if " to " in cell else set(numbers)
        assert named == set(range(1, count + 1))


def test_continued_lines_are_one_command_and_unknown_kinds_are_refused() -> None:
    (block,) = blocks("```sh\na \\\n  b\nc\n```\n")
    assert [shlex.split(command) for command in block.commands] == [["a", "b"], ["c"]]
    with pytest.raises(ValueError, match="'odd'"):
        blocks("```sh odd\na\n```\n")
