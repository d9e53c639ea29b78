"""Where compiled kernels come from, and what happens where none can be made."""

import logging
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sleepmami.models import cpu_kernels, fused
from sleepmami.models.cpu import keep_freed_memory


@pytest.fixture(autouse=True)
def forgotten_afterwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cpu_kernels._library.cache_clear()
    yield
    cpu_kernels._library.cache_clear()


def test_without_a_compiler_layers_run_as_plain_torch_and_say_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert fused.swiglu(torch.tensor([0.0, 3.0])).tolist() == [0.0]
    assert [record.message for record in caplog.records] == [
        "found no C compiler (cc, gcc, clang): layers run as plain torch"
    ]


def test_a_compiler_that_fails_is_quoted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho no such option >&2\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr(shutil, "which", lambda name: str(broken))
    with caplog.at_level(logging.WARNING):
        assert not cpu_kernels.available()
    assert "no such option" in caplog.text


def test_the_library_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not cpu_kernels.available():
        pytest.skip("needs a C compiler")
    (library,) = (tmp_path / "sleepmami").glob("*.so")
    made = library.stat().st_mtime_ns
    cpu_kernels._library.cache_clear()
    assert cpu_kernels.available()
    assert library.stat().st_mtime_ns == made
    assert [file.name for file in (tmp_path / "sleepmami").iterdir()] == [library.name]


def test_another_processor_gets_its_own_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not cpu_kernels.available():
        pytest.skip("needs a C compiler")
    monkeypatch.setattr(cpu_kernels, "_processor", lambda: "another")
    cpu_kernels._library.cache_clear()
    assert cpu_kernels.available()
    assert len(list((tmp_path / "sleepmami").glob("*.so"))) == 2


@pytest.mark.parametrize("where", ["nowhere", "a file"])
def test_without_a_home_to_write_to_the_library_is_of_this_process_alone(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file") if where == "a file" else "")
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = cpu_kernels._cache_folder()
    assert (folder.parent, folder.stat().st_mode & 0o777) == (tmp_path, 0o700)


def test_glibc_takes_the_memory_settings() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("needs glibc")
    assert keep_freed_memory()
