"""The command line: one door, typed errors as one line, exit codes that scripts can use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines import cli
from sleepmami import __version__

COMMANDS = [
    ["simulate"],
    ["inspect"],
    ["ingest"],
    ["ids"],
    ["verify"],
    ["deid"],
    ["pretrain", "micro"],
    ["pretrain", "macro"],
    ["tune", "dgcl"],
    ["tune", "micro"],
    ["embed", "micro"],
    ["embed", "cohort"],
    ["embed", "file"],
    ["probe"],
    ["serve"],
    ["serve-check"],
    ["keys", "add"],
    ["keys", "list"],
    ["keys", "revoke"],
    ["submit"],
    ["doctor"],
    ["demo"],
]


def sleepmami(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from pipelines.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str]) -> None:
    result = CliRunner().invoke(cli.app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_print_config_shows_the_changed_setting() -> None:
    arguments = ["pretrain", "macro", "c", "r", "--set", "dgcl.rho=0.25", "--print-config"]
    result = CliRunner().invoke(cli.app, arguments)
    assert json.loads(result.output)["dgcl"]["rho"] == 0.25


def test_a_misspelt_setting_is_one_line_and_exit_code_2() -> None:
    result = sleepmami("pretrain", "macro", "c", "r", "--set", "dgcl.roh=0.2")
    assert result.returncode == 2
    assert result.stderr.startswith("error: unknown setting 'dgcl.roh'")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--objective", "loss/total"], "moves with dgcl.v and dgcl.lambda_sex"),
        (["--search", "grid", "--trials", "9"], "--trials has no effect with --search grid"),
        (["--scheduler", "pbt"], "scheduler must be one of ('asha', 'none'), got 'pbt'"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused_before_ray_starts(
    arguments: list[str], complaint: str
) -> None:
    result = sleepmami("tune", "dgcl", "c", "r", "--out", "s", *arguments)
    assert result.returncode == 2
    assert complaint in result.stderr.replace("\n", " ")


def test_help_and_inspect_start_without_torch_or_ray() -> None:
    code = (
        "import sys; import pipelines.cli, sleepmami.signals.inspect; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'ray', 'lance')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_inspect_answers_json_for_good_and_bad_files_alike(tmp_path: Path) -> None:
    bad = tmp_path / "bad.edf"
    bad.write_bytes(b"%PDF-1.7 " * 100)
    result = CliRunner().invoke(cli.app, ["inspect", str(bad), "--json"])
    (report,) = json.loads(result.output)
    keys = {"file", "ok", "code", "reason", "duration_s", "gaps", "modalities", "channels"}
    assert set(report) == keys
    assert (report["ok"], report["code"]) == (False, "not_an_edf")
    assert result.exit_code == 65


def test_inspect_counts_a_folder_and_lists_it_as_one_json_text(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.edf").write_bytes(b"no")
    result = CliRunner().invoke(cli.app, ["inspect", str(tmp_path), "--json"])
    files = [Path(report["file"]).name for report in json.loads(result.output)]
    assert files == ["a.edf", "b.edf"]
    result = CliRunner().invoke(cli.app, ["inspect", str(tmp_path), "--json", "--summary"])
    assert json.loads(result.output)["codes"] == {"not_an_edf": 2}


def test_an_empty_folder_is_said_to_hold_no_recordings(tmp_path: Path) -> None:
    result = sleepmami("inspect", str(tmp_path))
    assert result.returncode == 2
    assert "expected recordings" in result.stderr


def test_the_version_needs_no_command() -> None:
    assert CliRunner().invoke(cli.app, ["--version"]).output.strip() == __version__


def light_install(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command where nothing of the `ray` extra is installed."""
    code = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(cli.DISTRIBUTED_MODULES)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from pipelines.cli import main
main()
"""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_the_light_install_inspects(tmp_path: Path) -> None:
    (tmp_path / "bad.edf").write_bytes(b"no")
    result = light_install("inspect", str(tmp_path / "bad.edf"), "--json")
    assert json.loads(result.stdout)[0]["code"] == "not_an_edf"


@pytest.mark.parametrize(
    "command",
    [
        ["ingest", "a", "b"],
        ["pretrain", "micro", "a", "b"],
        ["embed", "file", "a.edf", "b", "-o", "c.npz"],
        ["serve", "b"],
        ["submit", "http://127.0.0.1:1", "doctor"],
    ],
    ids=lambda command: command[0],
)
def test_the_light_install_says_what_to_install(command: list[str]) -> None:
    result = light_install(*command)
    assert result.returncode == 1
    assert "pip install 'sleepmami[ray]'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_inspect_takes_of_a_folder_what_an_ingest_takes(tmp_path: Path) -> None:
    names = ("SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf", "._SC4001E0-PSG.edf", ".old/a.edf")
    (tmp_path / "cohort" / ".old").mkdir(parents=True)
    for name in names:
        (tmp_path / "cohort" / name).write_bytes(b"no")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.EDF").write_bytes(b"no")
    (tmp_path / "cohort" / "linked").symlink_to(tmp_path / "elsewhere")
    result = CliRunner().invoke(cli.app, ["inspect", str(tmp_path / "cohort"), "--json"])
    files = [Path(report["file"]) for report in json.loads(result.output)]
    assert files == [tmp_path / "cohort" / name for name in ("SC4001E0-PSG.edf", "linked/b.EDF")]
