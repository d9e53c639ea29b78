"""What layers do where no kernel can be made, and how a process keeps its memory."""

import logging
import platform
import shutil

import pytest
import torch

from sleepmami.models import fused
from sleepmami.models.cpu import keep_freed_memory

pytestmark = pytest.mark.usefixtures("own_kernel_cache")


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


def test_glibc_takes_the_memory_settings() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("needs glibc")
    assert keep_freed_memory()
