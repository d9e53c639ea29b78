"""Schemathesis on the contract: whatever it makes up, no answer is a failure of the server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error

from serve_apps.openapi import PINNED
from tests.attacks.service import guarded_app

pytestmark = pytest.mark.slow

EXAMPLES = 30  # of each operation and kind; derandomized, so every run makes the same
OPERATIONS = [
    (method.upper(), path)
    for path, operations in json.loads(PINNED.read_text())["paths"].items()
    for method in operations
]
# sent as the bytes that are made up
schemathesis.serializer.alias(
    [
        "application/edf",
        "application/offset+octet-stream",
        "application/x-npz",
        "application/vnd.apache.arrow.stream",
        "application/vnd.safetensors",
    ],
    "application/octet-stream",
)
answered: list[Any] = []  # of all operations, to be counted
KINDS = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, str]]]:
    """The contract, and the header that lets in."""
    app, key = guarded_app(tmp_path_factory.mktemp("fuzzed"))
    headers = {"authorization": f"Bearer {key}"}
    answered.clear()
    yield schemathesis.openapi.from_asgi("/openapi.json", app, headers=headers), headers
    print(f"{len(answered)} made-up requests to {len(OPERATIONS)} operations")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: str(part))
def test_no_operation_fails(
    served: tuple[Any, dict[str, str]], method: str, path: str, kind: schemathesis.GenerationMode
) -> None:
    schema, headers = served
    cases = schema[path][method].as_strategy(generation_mode=kind)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def no_case_fails(data: st.DataObject) -> None:
        case = data.draw(cases)
        answered.append(case.call_and_validate(headers=headers, checks=[not_a_server_error]))

    before = len(answered)
    try:
        no_case_fails()
    except Unsatisfiable:
        pytest.skip("there is nothing in this operation to send wrongly")
    assert {answer.status_code for answer in answered[before:]} - {401, 403}  # the key was taken
