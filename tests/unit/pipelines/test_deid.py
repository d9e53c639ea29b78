"""A folder of recordings becomes a folder of clean copies, however often it is started."""

import csv
import os
from pathlib import Path

import pytest

from pipelines import deid as module
from pipelines.deid import DeidOptions, deid
from sleepmami.errors import ConfigError, RecordingError
from sleepmami.signals.edf import open_edf
from sleepmami.tables.pseudonyms import SiteKey
from tests.unit.signals.raw_edf import RawEdf, RawSignal, annotation_signal, int16

NAME = "Zqxvarga"
NAMED = DeidOptions(keep_names=True)


def recording(value: int) -> bytes:
    signals = [
        RawSignal([int16(value, 2)]),
        annotation_signal(b"+0\x14\x14" + NAME.encode() + b"\x14"),
    ]
    return RawEdf(signals, reserved="EDF+C", patient=NAME).to_bytes()


@pytest.fixture
def nights(tmp_path: Path) -> Path:
    """Three recordings and one broken file, all named after a person."""
    folder = tmp_path / "in"
    for k, file in enumerate((f"{NAME}.edf", f"{NAME}/night1.edf", f"{NAME}/night1.EDF")):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(recording(k))
    (folder / f"{NAME}_broken.edf").write_bytes(b"0       and no more of " + NAME.encode())
    (folder / f"{NAME}.txt").write_text("not a recording")
    return folder


@pytest.fixture(autouse=True)
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "site.key"
    file.write_bytes(bytes(32))
    file.chmod(0o600)
    monkeypatch.setenv("SLEEPMAMI_SITE_KEY_FILE", str(file))


def files_of(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())


def test_copies_are_clean_and_carry_pseudonyms(nights: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    summary = deid(str(nights), str(tmp_path / "out"), show=lines.append)
    assert (summary.written, summary.there, summary.texts_removed) == (3, 0, 3)
    assert summary.failed == ((f"{NAME}_broken.edf", "truncated_recording"),)
    assert str(summary) == "3 written, 0 there already, 3 annotation texts removed, 1 failed"
    assert lines == [f"{NAME}_broken.edf: truncated_recording"]
    copies = files_of(tmp_path / "out")
    assert len(copies) == 3
    key = SiteKey(bytes(32))
    assert f"{key.pseudonym('recording', NAME)}.edf" in copies
    for copy in copies:
        assert NAME.lower() not in copy.lower()
        assert NAME.encode() not in (tmp_path / "out" / copy).read_bytes()
    values = {
        int(edf.digital(edf.channels[0])[0])
        for edf in (open_edf(tmp_path / "out" / copy) for copy in copies)
    }
    assert values == {0, 1, 2}  # no two recordings share a name, and none is lost


def test_names_are_kept_when_asked_for(nights: Path, tmp_path: Path) -> None:
    deid(str(nights), str(tmp_path / "out"), NAMED, show=lambda _: None)
    assert files_of(tmp_path / "out") == [
        f"{NAME}.edf", f"{NAME}/night1.EDF", f"{NAME}/night1.edf"]  # fmt: skip


def test_a_stopped_run_goes_on_where_it_was(
    nights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def stops_at_the_second(source: str, *args: object, **keywords: object) -> object:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(source)
        return original(source, *args, **keywords)  # type: ignore[arg-type]  # passed through

    original = module.deidentify
    out = tmp_path / "out"
    monkeypatch.setattr(module, "deidentify", stops_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        deid(str(nights), str(out), show=lambda _: None)
    monkeypatch.setattr(module, "deidentify", original)
    stamp = os.stat(out / files_of(out)[0]).st_ino
    assert len(files_of(out)) == 1
    summary = deid(str(nights), str(out), show=lambda _: None)
    assert (summary.written, summary.there, len(summary.failed)) == (2, 1, 1)
    assert stamp in {os.stat(out / file).st_ino for file in files_of(out)}
    again = deid(str(nights), str(out), DeidOptions(overwrite=True), show=lambda _: None)
    assert (again.written, again.there) == (3, 0)


def test_the_linkage_is_written_on_request_and_never_among_the_copies(
    nights: Path, tmp_path: Path
) -> None:
    out, linkage = tmp_path / "out", tmp_path / "secret" / "linkage.csv"
    deid(str(nights), str(out), DeidOptions(linkage=str(linkage)), show=lambda _: None)
    with open(linkage, newline="") as stream:
        rows = {row["file"]: row["recording_id"] for row in csv.DictReader(stream)}
    assert rows[f"{NAME}.edf"] == SiteKey(bytes(32)).pseudonym("recording", NAME)
    assert {f"{name}.edf" for name in rows.values()} == set(files_of(out))
    assert len(rows) == 3
    with pytest.raises(ConfigError, match="inside"):
        deid(str(nights), str(out), DeidOptions(linkage=str(out / "linkage.csv")))


@pytest.mark.parametrize("target", ["in", "in/copies", "."])
def test_copies_lie_apart_from_the_originals(nights: Path, tmp_path: Path, target: str) -> None:
    before = files_of(nights)
    with pytest.raises(ConfigError):
        deid(str(nights), str(tmp_path / target))
    assert files_of(nights) == before


def test_one_recording_goes_where_it_is_told_or_into_a_folder(nights: Path, tmp_path: Path) -> None:
    source = str(nights / f"{NAME}.edf")
    deid(source, str(tmp_path / "copy.edf"))
    (tmp_path / "out").mkdir()
    deid(source, str(tmp_path / "out"))
    (name,) = files_of(tmp_path / "out")
    assert name == SiteKey(bytes(32)).pseudonym("recording", NAME) + ".edf"
    assert (tmp_path / "copy.edf").read_bytes() == (tmp_path / "out" / name).read_bytes()
    with pytest.raises(RecordingError):
        deid(str(nights / "absent.edf"), str(tmp_path / "another.edf"))
    with pytest.raises(ConfigError, match="already"):
        deid(source, str(tmp_path / "copy.edf"))


@pytest.mark.parametrize(("source", "target"), [("s3://a/b", "out"), ("in", "s3://a/b")])
def test_object_stores_are_refused(source: str, target: str) -> None:
    with pytest.raises(ConfigError, match="URI"):
        deid(source, target)


def test_settings_without_effect_are_refused(nights: Path, tmp_path: Path) -> None:
    for options in (
        DeidOptions(keep_names=True, linkage=str(tmp_path / "l.csv")),
        DeidOptions(keep_names=True, site_key=str(tmp_path / "site.key")),
    ):
        with pytest.raises(ConfigError):
            deid(str(nights), str(tmp_path / "out"), options)


def test_a_place_that_is_no_folder_is_refused(nights: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for target in ("file", "file/out"):
        with pytest.raises(ConfigError, match="expected a folder"):
            deid(str(nights), str(tmp_path / target))


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match="no file"):
        deid(str(tmp_path / "in"), str(tmp_path / "out"))
