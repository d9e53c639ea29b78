"""Probes in bundles: found again, vouched for, and no part of the bundle's identity."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines import cli
from sleepmami import storage
from sleepmami.errors import CheckpointError
from sleepmami.evaluation.fitted_probe import FittedProbe, probe_bytes, save_probe
from sleepmami.training.bundle_probes import add_probe, read_probe
from sleepmami.training.checkpoint import load_bundle, save_bundle
from tests.unit.evaluation.test_fitted_probe import by_hand
from tests.unit.training.test_checkpoint import bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_bundle(str(tmp_path / "bundle"), bundle())
    return tmp_path / "bundle"


@pytest.fixture
def probe(folder: Path) -> FittedProbe:
    return replace(by_hand(), weights_sha256=load_bundle(str(folder)).weights_sha256)


def test_a_probe_comes_with_its_bundle_and_changes_nothing_else(
    folder: Path, probe: FittedProbe, tmp_path: Path
) -> None:
    before = load_bundle(str(folder))
    assert read_probe(str(folder), "staging") is None
    file = str(tmp_path / "probe")
    save_probe(file, probe)
    ran = CliRunner().invoke(cli.app, ["bundle", "add-probe", str(folder), file])
    assert ran.exit_code == 0, ran.output
    assert (folder / "probes" / "staging.safetensors").read_bytes() == Path(file).read_bytes()
    found = read_probe(str(folder), "staging")
    assert found is not None
    assert probe_bytes(found) == probe_bytes(probe)
    assert load_bundle(str(folder)).weights_sha256 == before.weights_sha256
    assert read_probe(str(folder), "apnea") is None


def test_a_second_probe_takes_the_place_of_the_first(folder: Path, probe: FittedProbe) -> None:
    add_probe(str(folder), probe)
    add_probe(str(folder), replace(probe, level="macro"))
    found = read_probe(str(folder), "staging")
    assert found is not None
    assert found.level == "macro"
    load_bundle(str(folder))


def test_an_interruption_leaves_a_bundle_without_the_probe(
    folder: Path, probe: FittedProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_probe(str(folder), probe)
    write = storage.write_bytes

    def full_disk(uri: str, data: bytes) -> None:
        if uri.endswith("safetensors"):
            raise OSError("no space left on device")
        write(uri, data)

    monkeypatch.setattr(storage, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space"):
        add_probe(str(folder), replace(probe, level="macro"))
    load_bundle(str(folder))
    assert read_probe(str(folder), "staging") is None


def test_a_probe_of_another_encoder_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="abababababab"):
        add_probe(str(folder), by_hand())
    assert not (folder / "probes").exists()


def test_an_altered_probe_is_found(folder: Path, probe: FittedProbe) -> None:
    add_probe(str(folder), probe)
    file = folder / "probes" / "staging.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    for read in (lambda: read_probe(str(folder), "staging"), lambda: load_bundle(str(folder))):
        with pytest.raises(CheckpointError, match="sha256"):
            read()


def test_a_new_bundle_in_the_same_place_has_no_old_probe(folder: Path, probe: FittedProbe) -> None:
    add_probe(str(folder), probe)
    save_bundle(str(folder), bundle())
    assert read_probe(str(folder), "staging") is None
