"""The doctor looks and does not guess."""

import pytest

from pipelines import doctor
from sleepmami.models import compiled_c


def test_an_absent_required_package_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISTRIBUTED", ("torch", "no-such-package-xyz"))
    findings = {finding.name: finding for finding in doctor.examine()}
    assert findings["distributed stack"].status == "fail"
    assert "no-such-package-xyz" in findings["distributed stack"].found


def test_absent_gpu_kernels_are_only_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "GPU", ("no-such-kernel-xyz",))
    findings = {finding.name: finding for finding in doctor.examine()}
    assert findings["GPU kernels"].status == "note"


def test_a_missing_compiler_is_only_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    findings = {finding.name: finding for finding in doctor.examine()}
    assert findings["C compiler"].status == "note"
    assert "cc, gcc, clang" in findings["C compiler"].found


def test_the_doctor_looks_for_the_compilers_that_the_models_take() -> None:
    assert doctor.COMPILERS == compiled_c.COMPILERS
