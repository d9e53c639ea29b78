import json

from serve_apps.http_errors import ERRORS
from serve_apps.openapi import PINNED, openapi_text

DOCUMENT = json.loads(PINNED.read_text())


def test_the_pinned_contract_is_that_of_the_application() -> None:
    """After a change on purpose: `make openapi`."""
    assert PINNED.read_text() == openapi_text()


def test_every_status_of_an_embedding_is_in_the_contract() -> None:
    responses = DOCUMENT["paths"]["/v1/embeddings"]["post"]["responses"]
    elsewhere = {405, 412, 423, 460}  # of methods that are not there, and of tus
    assert {int(s) for s in responses} == {200} | {e.status for e in ERRORS.values()} - elsewhere


def test_what_passes_says_when_to_try_again() -> None:
    responses = DOCUMENT["paths"]["/v1/embeddings"]["post"]["responses"]
    told = {s for s, answer in responses.items() if "Retry-After" in answer.get("headers", {})}
    assert told == {"429", "503"}


def test_every_reference_of_the_contract_has_its_schema() -> None:
    named = {text.split('"')[0] for text in PINNED.read_text().split("#/components/schemas/")[1:]}
    assert named == set(DOCUMENT["components"]["schemas"])


def test_every_route_but_the_open_ones_asks_for_a_key() -> None:
    assert set(DOCUMENT["components"]["securitySchemes"]) == {"key", "session"}
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            if path in ("/health", "/ready"):
                assert "security" not in operation
                assert "401" not in operation["responses"]
                continue
            assert operation["security"] == [{"key": []}, {"session": []}]
            assert {"401", "403", "429", "503"} <= set(operation["responses"])


def test_errors_of_v2_have_the_shape_of_its_protocol() -> None:
    for path, operations in DOCUMENT["paths"].items():
        expected = "V2Error" if path.startswith("/v2") else "ErrorAnswer"
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                if int(status) >= 400 and method != "head":
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema["$ref"].endswith(f"/{expected}"), (path, status)
