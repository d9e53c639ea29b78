"""Run the commands of docs/reproduce_paper.md on a simulated SHHS-shaped folder, in their order.

The commands are taken from the page itself; this file holds only what its settings become here. It
says that the page works, and nothing about people.

    python benchmarks/reproduce_smoke.py FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reproduce_paper.md"
KINDS = ("", "settings", "simulated", "data")  # data: needs what is not simulated, so not run
# Each a setting of the page. Small enough for minutes on two cores; figures mean nothing.
SMOKE = {
    "PRESET": "tiny",
    "SPLIT": "--set split.test=0.3 --set split.validation=0.1",
    "MICRO": "--set loop.max_steps=20",
    "MACRO": "--set loop.num_passes=3",
    "EMBED": "",
    "ABLATE": "--set micro.loop.max_steps=20 --set macro.loop.num_passes=3"
    " --set probe.num_resamples=200",
    "PROBE": "--set num_resamples=200",
    "SECONDS_OF": "--set max_fit_epochs=20000 --set penalties=[0.1]",
    "SIMULATE": "--set num_subjects=24 --set duration_h=2 --set follow_up_years=15"
    " --set effects=published",
}


class Block(NamedTuple):
    """A fence of the page.

    Attributes:
        kind: of KINDS; empty for what everybody runs.
        commands: one a line, continued lines joined.
    """

    kind: str
    commands: tuple[str, ...]


def blocks(text: str) -> list[Block]:
    """The page's `sh` fences in order; ValueError for a kind that nobody knows."""
    found = []
    for kind, body in re.findall(r"^```sh ?(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if kind not in KINDS:
            raise ValueError(f"found a block of kind {kind!r}; expected one of {KINDS}")
        lines = body.replace("\\\n", " ").splitlines()
        found.append(Block(kind, tuple(line.strip() for line in lines if line.strip())))
    return found


def settings(text: str) -> dict[str, str]:
    """The page's `export NAME=VALUE` lines."""
    found = {}
    for block in blocks(text):
        for line in block.commands if block.kind == "settings" else ():
            match = re.fullmatch(r'export (\w+)=("[^"]*"|\S*)(?:\s+#.*)?', line)
            if match is None:
                raise ValueError(f"found {line!r} among the settings; expected export NAME=VALUE")
            found[match[1]] = match[2].strip('"')
    return found


def smoke_settings(text: str, folder: str) -> dict[str, str]:
    """The page's settings with the small ones in place; each small one must be on the page."""
    page = settings(text)
    small = {**SMOKE, "SHHS": f"{folder}/shhs", "OUT": f"{folder}/out"}
    unknown = sorted(small.keys() - page.keys())
    if unknown:
        raise ValueError(f"found no setting {unknown} on the page; expected those of SMOKE there")
    return page | small


def run(folder: Path) -> int:
    """Run all blocks but `data`; stops at the first command that fails. Returns its exit code.

    FOLDER/commands.json has each command that is done and its seconds; a later call goes on after
    them, unless the page's or the small settings are others by now.
    """
    text = PAGE.read_text()
    values = smoke_settings(text, str(folder))
    record = folder / "commands.json"
    done: dict[str, float] = {}
    if record.exists() and (there := json.loads(record.read_text()))["settings"] == values:
        done = there["seconds"]
    environment = os.environ | values
    environment["SLEEPMAMI_SITE_KEY_FILE"] = str(_site_key(folder / "site.key"))  # not the user's
    # `sleepmami` of the interpreter that runs this
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    for block in blocks(text):
        for command in block.commands if block.kind in ("", "simulated") else ():
            print(f"$ {command}", flush=True)
            if command in done:
                print("done before")
                continue
            began = time.monotonic()
            code = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command], env=environment, check=False
            ).returncode
            if code:
                print(f"exit code {code}: {command}", file=sys.stderr)
                return code
            done[command] = round(time.monotonic() - began, 1)
            record.write_text(json.dumps({"settings": values, "seconds": done}, indent=1) + "\n")
    print(f"{len(done)} commands in {sum(done.values()):.0f} s")
    return 0


def _site_key(file: Path) -> Path:
    """The same key each time, so that the same made-up people are in the same split."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_bytes(hashlib.sha256(b"made-up people").digest())
    return file


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="new, or of an earlier run, which goes on")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    sys.exit(run(arguments.folder.resolve()))
