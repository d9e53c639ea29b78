"""Every query of dashboard and alerts, answered by a real Prometheus that scrapes a real service."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from serve_apps.keys import add_key
from serve_apps.metrics import STAGES
from sleepmami.config import ServeConfig
from tests.local_service import tiny_service, write_recording
from tests.prometheus import (
    Prometheus,
    Series,
    dashboard_queries,
    everything_once,
    finite,
    scraping,
)

GONE = "ServiceGone"


class Observed(NamedTuple):
    """A service that has had traffic of each kind, and who watched it."""

    prometheus: Prometheus
    nights: int
    uploaded: int
    panels: dict[tuple[str, str], Series]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("observed")
    keys = folder / "keys.json"
    key, _ = add_key(keys, "clinic-a")
    poor_key, _ = add_key(keys, "poor", requests_per_minute=1)
    edf = write_recording(folder / "night.edf", 300)
    config = ServeConfig(keys_file=str(keys), state_dir=str(folder / "state"))
    with (
        tiny_service(config) as url,
        scraping(url, folder, key) as prometheus,
        httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60, trust_env=False
        ) as http,
    ):
        prometheus.until(lambda p: len(p.query("sleepmami_jobs offset 2s")) == 1, "three scrapes")
        nights = everything_once(http, edf, poor_key=poor_key)
        keys.chmod(0o644)  # open to others: nobody is let in
        assert http.get("/info").status_code == 503
        keys.chmod(0o600)
        prometheus.until(
            lambda p: (
                set(p.query("sleepmami_nights_embedded_total offset 2s").values()) == {nights}
                and 1 in p.query('sleepmami_requests_total{status="503",route="/info"}').values()
            ),
            "the traffic",
        )
        panels = {(title, name): prometheus.query(e) for title, name, e in dashboard_queries()}
        yield Observed(prometheus, nights, len(edf), panels)


def test_every_panel_shows_finite_series(observed: Observed) -> None:
    assert {panel for panel, series in observed.panels.items() if not series} == set()
    assert {panel for panel, series in observed.panels.items() if not finite(series)} == set()


def test_counts_are_those_of_the_traffic(observed: Observed) -> None:
    """Prometheus extends an increase to the window's ends, by at most a scrape on each side."""

    def shown(title: str, name: str, *labels: str) -> float:
        return observed.panels[title, name][labels]

    nights = observed.nights
    assert nights <= shown("Nights embedded, last 24 h", "nights") < 2 * nights
    assert 1 <= shown("Failed requests, last hour", "5xx") < 2
    assert shown("Jobs that wait or run", "jobs") == 0
    assert 1 <= shown("Recordings refused by code", "{{code}}", "not_an_edf") < 2
    assert 1 <= shown("Recordings refused by code", "{{code}}", "truncated_recording") < 2
    assert shown("Recordings refused by code", "{{code}}", "unreadable") == 0
    epochs = shown("Nights and epochs per hour", "30-s epochs")
    nights_per_hour = shown("Nights and epochs per hour", "nights")
    assert epochs == pytest.approx(10 * nights_per_hour, rel=0.01)  # asked a moment apart
    missing = observed.panels["Share of nights without a modality", "{{modality}}"]
    assert missing == {
        (name,): pytest.approx(float(name in ("ECG", "RESP", "SPO2")))
        for name in ("EEG", "EOG", "EMG", "ECG", "RESP", "SPO2")
    }
    statuses = {labels[0] for labels in observed.panels["Requests by status", "{{status}}"]}
    assert {"200", "201", "202", "204", "400", "401", "404", "429", "503"} <= statuses
    refused = observed.panels["Refused for keys or quotas", "{{status}}"]
    assert refused["429",] > refused["401",] > 0  # two and one
    assert shown("Upload bytes", "bytes") > 0


def test_latencies_are_between_nothing_and_the_traffic(observed: Observed) -> None:
    by_route = observed.panels["Latency by route, p95", "{{route}}"]
    assert {("/v1/embeddings",), ("/v1/encode",), ("/v1/jobs",)} <= by_route.keys()
    assert ("/v1/neighbors",) not in by_route
    quantiles = [
        observed.panels["Latency of an embedding", name][()] for name in ("p50", "p95", "p99")
    ]
    assert 0 < quantiles[0] <= quantiles[1] <= quantiles[2] < 60
    for title in ("Stages, p95", "Stages, mean"):
        stages = observed.panels[title, "{{stage}}"]
        assert {labels[0] for labels in stages} == set(STAGES)
    for name in ("mean", "median"):
        assert 1 <= observed.panels["Windows in a forward pass", name][()] <= 32


def test_every_alert_is_read_and_silent(observed: Observed) -> None:
    """But for the one failure in some thirty requests, which has not lasted."""
    rules = observed.prometheus.rules()
    assert {name for name, rule in rules.items() if rule["health"] != "ok"} == set()
    assert {name for name, rule in rules.items() if rule["state"] == "firing"} == set()
    assert rules[GONE]["state"] == "inactive"
    assert len(rules) == 7


def test_a_scrape_that_is_refused_is_noticed(observed: Observed, tmp_path: Path) -> None:
    with (
        tiny_service(
            ServeConfig(keys_file=str(_empty_keys(tmp_path / "keys.json"))), staging=False
        ) as url,
        scraping(url, tmp_path, "smm_none") as prometheus,
    ):
        prometheus.until(lambda p: 0 in p.query('up{job="sleepmami"}').values(), "a refusal")
        prometheus.until(lambda p: p.rules()[GONE]["state"] == "pending", "the alert")


def _empty_keys(path: Path) -> Path:
    add_key(path, "clinic-a")
    return path
