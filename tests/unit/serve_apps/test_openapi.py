import json

from serve_apps.http_errors import ERRORS
from serve_apps.openapi import PINNED, openapi_text

DOCUMENT = json.loads(PINNED.read_text())


def test_the_pinned_contract_is_that_of_the_application() -> None:
    """After a change on purpose: `make openapi`."""
    assert PINNED.read_text() == openapi_text()


def test_every_status_of_an_embedding_is_in_the_contract() -> None:
    responses = DOCUMENT["paths"]["/v1/embeddings"]["post"]["responses"]
    elsewhere = {401, 403, 405, 412, 423, 460}  # of keys, of methods that are not there, and of tus
    assert {int(s) for s in responses} == {200} | {e.status for e in ERRORS.values()} - elsewhere


def test_what_passes_says_when_to_try_again() -> None:
    responses = DOCUMENT["paths"]["/v1/embeddings"]["post"]["responses"]
    assert {s for s, answer in responses.items() if "headers" in answer} == {"429", "503"}


def test_every_reference_of_the_contract_has_its_schema() -> None:
    named = {text.split('"')[0] for text in PINNED.read_text().split("#/components/schemas/")[1:]}
    assert named == set(DOCUMENT["components"]["schemas"])
