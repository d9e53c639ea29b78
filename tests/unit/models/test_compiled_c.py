"""Where compiled kernels come from, and what happens where none can be made."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sleepmami.models import compiled_c

pytestmark = pytest.mark.usefixtures("own_kernel_cache")

SOURCE = "cpu_kernels.c"
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, compiled_c.COMPILERS)), reason="needs a C compiler"
)


def test_without_a_compiler_there_is_no_library_and_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with caplog.at_level(logging.WARNING):
        for source in (SOURCE, SOURCE, "selective_scan.c"):
            assert compiled_c.load(source) is None
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
        assert compiled_c.load(SOURCE) is None
    assert "no such option" in caplog.text
    assert SOURCE in caplog.text


@needs_compiler
def test_the_library_is_compiled_once(tmp_path: Path) -> None:
    assert compiled_c.load(SOURCE)
    (library,) = (tmp_path / "sleepmami").glob("*.so")
    made = library.stat().st_mtime_ns
    compiled_c.forget()
    assert compiled_c.load(SOURCE)
    assert library.stat().st_mtime_ns == made
    assert [file.name for file in (tmp_path / "sleepmami").iterdir()] == [library.name]


@needs_compiler
def test_another_processor_gets_its_own_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compiled_c.load(SOURCE)
    monkeypatch.setattr(compiled_c, "processor", lambda: "another")
    compiled_c.forget()
    assert compiled_c.load(SOURCE)
    assert len(list((tmp_path / "sleepmami").glob("*.so"))) == 2


@needs_compiler
def test_constants_and_headers_make_another_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "answer.c").write_text('#include "answer.h"\nlong answer(void) { return A * B; }\n')
    (sources / "answer.h").write_text("#define B 6\n")
    monkeypatch.setattr(compiled_c, "FOLDER", sources)
    found = [compiled_c.load("answer.c", A=a) for a in (6, 7)]
    assert [library and library.answer() for library in found] == [36, 42]
    (sources / "answer.h").write_text("#define B 7\n")
    compiled_c.forget()
    changed = compiled_c.load("answer.c", A=7)
    assert changed is not None
    assert changed.answer() == 49


@needs_compiler
def test_many_processes_may_compile_at_once(tmp_path: Path) -> None:
    (tmp_path / "answer.c").write_text("int answer(void) { return 42; }\n")
    program = (
        "import pathlib\n"
        "from sleepmami.models import compiled_c\n"
        f"compiled_c.FOLDER = pathlib.Path({str(tmp_path)!r})\n"
        "print(compiled_c.load('answer.c').answer())\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", program]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate()[0] for process in running] == ["42\n"] * 4
    assert len(list((tmp_path / "sleepmami").iterdir())) == 1  # and nothing half made beside it


@needs_compiler
@pytest.mark.parametrize("content", [b"", b"no library"])
def test_a_damaged_library_is_compiled_again(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "answer.c").write_text("int answer(void) { return 42; }\n")
    monkeypatch.setattr(compiled_c, "FOLDER", tmp_path)
    compiler = compiled_c._compiler()
    assert compiler is not None
    file = compiled_c.compiled(compiler, "answer.c", {}, compiled_c.cache_folder())
    file.write_bytes(content)
    library = compiled_c.load("answer.c")
    assert library is not None
    assert library.answer() == 42


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
    compiled_c._folder_of_this_process.cache_clear()
    folder = compiled_c.cache_folder()
    compiled_c._folder_of_this_process.cache_clear()
    assert (folder.parent, folder.stat().st_mode & 0o777) == (tmp_path, 0o700)
