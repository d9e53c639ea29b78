"""What the dashboard and the alerts ask for is what /metrics shows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from serve_apps.metrics import Metrics
from sleepmami.inference.embedder import NightEmbedding

ROOT = Path(__file__).resolve().parents[3]
DASHBOARD = json.loads((ROOT / "cluster" / "grafana" / "sleepmami.json").read_text())
ALERTS = yaml.safe_load((ROOT / "cluster" / "prometheus" / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
EXPRESSIONS = [
    *((panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]),
    *((rule["alert"], rule["expr"]) for rule in RULES),
]  # fmt: skip
NAME = re.compile(r"sleepmami_[a-z_]+")


@pytest.fixture
def shown(embedding: NightEmbedding) -> dict[str, set[str]]:
    """Every series /metrics shows after one of everything, with its labels."""
    metrics = Metrics(lambda: 1)
    metrics.watch_jobs(lambda: 0, 64)
    metrics.watch_queue(lambda: 0)
    metrics.observe_request("/v1/embeddings", 200, 0.1)
    metrics.observe_stages({"queued": 0.1, "encoding": 0.2}, 2, 10)
    metrics.observe_embedding(embedding)
    metrics.observe_refusal("not_an_edf")
    metrics.observe_upload(5)
    series: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
    return series


def selected_labels(expression: str) -> Iterator[tuple[str, str]]:
    """Metric and label of each selector, and of each `by (...)` with every metric in it."""
    for metric, inside in re.findall(r"(sleepmami_[a-z_]+)\{([^}]*)\}", expression):
        for label in re.findall(r"([a-z_]+) *=", inside):
            yield metric, label
    if re.search(r"\b(ignoring|on) *\(", expression):
        return  # two metrics of other labels
    for inside in re.findall(r"by \(([^)]*)\)", expression):
        for label in re.split(r", *", inside):
            for metric in NAME.findall(expression):
                yield metric, label


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_every_query_names_series_and_labels_that_exist(
    shown: dict[str, set[str]], title: str, expression: str
) -> None:
    names = NAME.findall(expression)
    assert names or 'up{job="sleepmami"}' in expression
    assert set(names) <= shown.keys()
    for metric, label in selected_labels(expression):
        assert label in shown[metric]
    assert expression.count("(") == expression.count(")")
    assert not re.search(r"group_(left|right) *\( *[^a-z) ]", expression)  # read as a label


def test_every_series_of_ours_is_on_the_dashboard(shown: dict[str, set[str]]) -> None:
    text = json.dumps(DASHBOARD)
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in shown}
    families = {name for name in families if not name.endswith("_created")}
    assert {name for name in families if name not in text} == set()


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_has_a_page_in_the_runbook(rule: dict[str, Any]) -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert rule["annotations"]["runbook"] in headings
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["labels"]["severity"] in ("page", "ticket")


def test_stages_and_batches_by_hand() -> None:
    metrics = Metrics(lambda: 0)
    metrics.observe_stages({"queued": 0.3, "encoding": 3.0, "total": 9.0}, 4, 40)
    lines = metrics.text().decode().splitlines()
    assert 'sleepmami_stage_seconds_sum{stage="encoding"} 3.0' in lines
    assert 'sleepmami_stage_seconds_bucket{le="2.0",stage="encoding"} 0.0' in lines
    assert 'sleepmami_stage_seconds_count{stage="night"} 0.0' in lines
    assert 'sleepmami_stage_seconds_sum{stage="total"} 9.0' in lines
    assert "sleepmami_batch_windows_sum 10.0" in lines


def test_before_the_first_request_what_may_go_wrong_is_shown_as_0() -> None:
    """What begins at 1 has not increased, and the first failure would be in no graph."""
    metrics = Metrics(lambda: 0)
    metrics.expect_routes(["/v1/jobs"])
    lines = metrics.text().decode().splitlines()
    assert 'sleepmami_requests_total{route="/v1/jobs",status="503"} 0.0' in lines
    assert 'sleepmami_request_seconds_count{class="2xx",route="/v1/jobs"} 0.0' in lines
    assert 'sleepmami_recordings_refused_total{code="not_an_edf"} 0.0' in lines
    metrics.observe_request("/v1/jobs", 503, 0.1)
    lines = metrics.text().decode().splitlines()
    assert 'sleepmami_requests_total{route="/v1/jobs",status="503"} 1.0' in lines
    assert 'sleepmami_request_seconds_count{class="2xx",route="/v1/jobs"} 0.0' in lines
    assert 'sleepmami_request_seconds_count{class="5xx",route="/v1/jobs"} 1.0' in lines
