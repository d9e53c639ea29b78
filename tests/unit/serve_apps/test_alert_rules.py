"""The alert rules as Prometheus reads them, and when each fires; needs promtool."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

RULES = Path(__file__).resolve().parents[3] / "cluster" / "prometheus"


def promtool(*arguments: str) -> None:
    """Run it on the rules; the test fails with what it says."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not there; Debian has it in the package prometheus")
    done = subprocess.run(
        [program, *arguments], cwd=RULES, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_can_read_the_rules() -> None:
    promtool("check", "rules", "alerts.yaml")


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    promtool("test", "rules", "alerts.test.yaml")


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    groups = yaml.safe_load((RULES / "alerts.yaml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    cases = [
        case
        for test in yaml.safe_load((RULES / "alerts.test.yaml").read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alerts
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == alerts
