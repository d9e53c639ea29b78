from pathlib import Path

import pytest

from pipelines.submit import submit
from sleepmami.errors import ConfigError, ServiceError


def refuse_log(text: str) -> None:
    raise AssertionError("nothing runs")


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001", "auto", ""])
def test_an_address_that_is_no_url_is_refused_unasked(address: str) -> None:
    with pytest.raises(ServiceError, match="expected one like http://head:8265"):
        submit(address, ["doctor"], on_log=refuse_log)


@pytest.mark.parametrize("text", ["- a list", "{", "text"])
def test_a_runtime_environment_that_is_no_mapping_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "env.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"env\.yaml: found"):
        submit("http://head:8265", ["doctor"], runtime_env=file, on_log=refuse_log)


def test_a_runtime_environment_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: found"):
        submit("http://h:1", ["doctor"], runtime_env=tmp_path / "none.yaml", on_log=refuse_log)
