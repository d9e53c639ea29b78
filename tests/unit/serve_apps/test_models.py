"""Which model answers, and which names and shares may be configured."""

import pytest

from serve_apps.app_args import EmbeddingAppArgs
from serve_apps.model_choice import chosen_model
from sleepmami.errors import ConfigError

CANARY = {"new": 0.2, "newer": 0.1}


def test_a_request_that_names_a_model_gets_it() -> None:
    assert chosen_model("new", "r-1", "default", {}) == "new"
    assert chosen_model("default", "r-1", "default", {"new": 1.0}) == "default"


def test_canaries_get_their_shares_of_the_others() -> None:
    chosen = [chosen_model(None, f"r-{i}", "default", CANARY) for i in range(10_000)]
    shares = {name: chosen.count(name) / len(chosen) for name in ("default", "new", "newer")}
    assert shares == pytest.approx({"default": 0.7, "new": 0.2, "newer": 0.1}, abs=0.02)


def test_a_request_sent_again_meets_the_same_model() -> None:
    for i in range(100):
        first = chosen_model(None, f"r-{i}", "default", CANARY)
        assert chosen_model(None, f"r-{i}", "default", CANARY) == first


def test_a_canary_may_get_everything() -> None:
    assert {chosen_model(None, str(i), "default", {"new": 1.0}) for i in range(100)} == {"new"}


def test_the_default_model_comes_first() -> None:
    args = EmbeddingAppArgs(bundle="a", models={"new": "b"}, canary={"new": 0.1})
    assert list(args.bundles.items()) == [("default", "a"), ("new", "b")]
    assert args.config().num_replicas == 1


@pytest.mark.parametrize(
    ("models", "canary", "words"),
    [
        ({"default": "b"}, {}, "found the name 'default'"),
        ({"../b": "b"}, {}, "found the name '../b'"),
        ({"new": "b"}, {"old": 0.1}, "found a share for 'old'"),
        ({"new": "b"}, {"new": 0.0}, r"canary.new must be in \(0, 1\]"),
        ({"new": "b", "newer": "c"}, {"new": 0.6, "newer": 0.6}, "found shares of 1.2"),
    ],
)
def test_names_and_shares_that_mean_nothing_are_refused(
    models: dict[str, str], canary: dict[str, float], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        EmbeddingAppArgs(bundle="a", models=models, canary=canary)


def test_a_ceiling_without_effect_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_replicas must be > num_replicas"):
        EmbeddingAppArgs(bundle="a", num_replicas=2, max_replicas=2).config()
