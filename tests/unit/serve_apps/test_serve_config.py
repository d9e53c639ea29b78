"""Serve files: a key that is misspelt is found, wherever it is."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipelines import cli
from serve_apps.keys import add_key
from serve_apps.serve_config import OURS, check_serve_file, problems_of
from sleepmami.errors import ConfigError
from sleepmami.training.checkpoint import save_bundle
from tests.bundles import random_bundle

SHIPPED = sorted((Path(__file__).resolve().parents[3] / "cluster" / "serve").glob("*.yaml"))

# Every part of a Serve file that has keys of its own.
FULL = yaml.safe_load("""
proxy_location: EveryNode
http_options:
  host: 0.0.0.0
  port: 8443
  request_timeout_s: 1800
  keep_alive_timeout_s: 5
  ssl_keyfile: /etc/tls/tls.key
  ssl_certfile: /etc/tls/tls.crt
logging_config:
  encoding: JSON
  log_level: INFO
  enable_access_log: false
applications:
  - name: sleepmami-embedding
    route_prefix: /
    import_path: serve_apps.embedding_app:build
    runtime_env:
      working_dir: s3://bucket/code.zip
      env_vars:
        OMP_NUM_THREADS: "1"
    args:
      bundle: s3://bucket/run
      models:
        next: s3://bucket/next
      canary:
        next: 0.1
      num_replicas: 2
      cpus_per_replica: 1.0
      threads_per_replica: 1
      precision: float32
      both_halves: false
      use_gpu: false
      max_body_mb: 1024
      keys_file: /etc/sleepmami/keys.json
    deployments:
      - name: Encoder-next
        num_replicas: 1
        max_ongoing_requests: 8
        health_check_period_s: 10
        health_check_timeout_s: 30
        graceful_shutdown_timeout_s: 60
        autoscaling_config:
          min_replicas: 1
          max_replicas: 2
          target_ongoing_requests: 2
        ray_actor_options:
          num_cpus: 1
          num_gpus: 0
          memory: 4000000000
          resources: {}
""")
del FULL["applications"][0]["deployments"][0]["num_replicas"]  # autoscaling decides

MISSPELLINGS: dict[str, Callable[[str], str]] = {
    "a letter less": lambda key: key[:-1],
    "a letter more": lambda key: key + key[-1],
    "two letters changed over": lambda key: key[0] + key[2:3] + key[1:2] + key[3:],
    "a capital": lambda key: key[0].upper() + key[1:],
    "a hyphen": lambda key: key.replace("_", "-") if "_" in key else key + "-",
}


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "serve.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each key is."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(value, dict):
            yield (*place, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*place, key))


def renamed(content: Any, place: tuple[Any, ...], name: str) -> Any:
    changed = copy.deepcopy(content)
    holder = changed
    for key in place[:-1]:
        holder = holder[key]
    holder[name] = holder.pop(place[-1])
    return changed


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_what_is_shipped_can_be_deployed(path: Path) -> None:
    assert check_serve_file(path) == []


def test_the_full_file_can_be_deployed(tmp_path: Path) -> None:
    assert check_serve_file(written(tmp_path, FULL)) == []


def test_at_least_95_percent_of_misspelt_keys_are_found() -> None:
    missed, total = [], 0
    for content in (FULL, *(yaml.safe_load(path.read_text()) for path in SHIPPED)):
        for place in places(content):
            for kind, misspell in MISSPELLINGS.items():
                name = misspell(place[-1])
                if name == place[-1]:
                    continue
                total += 1
                if not problems_of(renamed(content, place, name)):
                    missed.append((kind, ".".join(map(str, place)), name))
    print(f"{total - len(missed)} of {total} misspelt keys are found")
    assert len(missed) <= 0.05 * total, missed
    # What is left is a name that nobody but its reader knows.
    assert {place for _, place, _ in missed} == {
        "applications.0.runtime_env.env_vars.OMP_NUM_THREADS"
    }


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda c: c["applications"][0]["args"].update(num_replica=4), "args.num_replica: found an unknown key; expected num_replicas"),
        (lambda c: c["applications"][0]["args"].update(num_replicas="many"), "applications.0.args.num_replicas"),
        (lambda c: c["applications"][0]["args"].update(num_replicas=0), "num_replicas must be"),
        (lambda c: c["applications"][0]["args"].pop("bundle"), "args.bundle"),
        (lambda c: c["applications"][0]["args"].pop("keys_file"), "args.keys_file: found none, and http_options.host 0.0.0.0"),
        (lambda c: c["applications"][0].update(import_path="serve_apps.embeding_app:build"), "found no module 'serve_apps.embeding_app'"),
        (lambda c: c["applications"][0].update(import_path="serve_apps.embedding_app:biuld"), "has no 'biuld'"),
        (lambda c: c["applications"][0]["deployments"][0].update(name="Encoder-nxt"), "found 'Encoder-nxt'"),
        (lambda c: c["applications"][0]["deployments"].append({"name": "Ingress", "num_replicas": 2}), "deployments.1: found more than one Ingress"),
        (lambda c: c["applications"][0]["deployments"].append({"name": "Ingress", "num_replicas": "auto"}), "deployments.1: found more than one Ingress"),
        (lambda c: c["applications"][0].update(route_prefix="/sleep"), "route_prefix: found '/sleep'"),
        (lambda c: c["http_options"].update(prot=1), "http_options.prot: found an unknown key; expected port"),
        (lambda c: c["http_options"].update(port="x"), "http_options.port"),
        (lambda c: c["http_options"].pop("ssl_keyfile"), "ssl_certfile"),
        (lambda c: c["http_options"].update(ssl_keyfile=__file__), "http_options.ssl_certfile /etc/tls/tls.crt: No such file"),
        (lambda c: c.update(applications=[]), "applications: found none"),
        (lambda c: c["applications"][0]["deployments"][0]["autoscaling_config"].update(max_replica=1), "expected max_replicas"),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_its_place(
    tmp_path: Path, change: Callable[[Any], Any], found: str
) -> None:
    content = copy.deepcopy(FULL)
    change(content)
    assert any(found in problem for problem in check_serve_file(written(tmp_path, content)))


def test_on_this_machine_or_behind_a_gateway_no_keys_are_needed(tmp_path: Path) -> None:
    content = copy.deepcopy(FULL)
    args = content["applications"][0]["args"]
    del args["keys_file"]
    content["http_options"]["host"] = "127.0.0.1"
    assert check_serve_file(written(tmp_path, content)) == []
    content["http_options"]["host"] = "0.0.0.0"
    args["behind_gateway"] = True
    assert check_serve_file(written(tmp_path, content)) == []


def test_a_key_twice_is_found(tmp_path: Path) -> None:
    text = "proxy_location: HeadOnly\nproxy_location: EveryNode\napplications: []\n"
    with pytest.raises(ConfigError, match="no YAML"):
        check_serve_file(written(tmp_path, text))


@pytest.mark.parametrize("text", ["", "- a", "a: [", "!!python/object/apply:os.mkdir ['/nonexistent/x']"])  # fmt: skip
def test_what_is_no_serve_file_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    code = CliRunner().invoke(cli.app, ["serve-check", str(written(tmp_path, text))])
    assert code.exit_code == 1


def test_the_command_says_what_it_found(tmp_path: Path) -> None:
    good = CliRunner().invoke(cli.app, ["serve-check", str(SHIPPED[0])])
    assert good.exit_code == 0
    content = copy.deepcopy(FULL)
    content["application"] = content.pop("applications")
    bad = CliRunner().invoke(cli.app, ["serve-check", str(written(tmp_path, content))])
    assert bad.exit_code == 1
    assert "application: found an unknown key; expected applications" in bad.output


def test_what_a_file_names_is_read_when_that_is_asked_for(tmp_path: Path) -> None:
    """Serve finds a bundle that is not there when it replaces the replicas of one that is."""
    save_bundle(str(tmp_path / "whole"), random_bundle())
    micro = dataclasses.replace(random_bundle(), macro=None, macro_state=None)
    save_bundle(str(tmp_path / "micro"), micro)
    add_key(tmp_path / "keys.json", "clinic-a")
    args = {"bundle": f"{tmp_path}/whole", "keys_file": f"{tmp_path}/keys.json"}
    content = {"applications": [{"import_path": OURS, "args": args}]}

    def problems(**changes: Any) -> list[str]:
        changed = copy.deepcopy(content)
        changed["applications"][0]["args"] |= changes
        file = written(tmp_path, changed)
        assert check_serve_file(file) == []
        return check_serve_file(file, read=True)

    assert problems() == []
    (gone,) = problems(bundle=f"{tmp_path}/typo")
    assert gone.startswith(f"applications.0.args.bundle: {tmp_path}/typo: found nothing; expected")
    (half,) = problems(models={"next": f"{tmp_path}/micro"})
    assert half.startswith("applications.0.args.models.next: found no Macro-Encoder")
    (key,) = problems(keys_file=f"{tmp_path}/none.json")
    assert "applications.0.args.keys_file: keys" in key
    tls = {name: f"{tmp_path}/none.{name}" for name in ("ssl_certfile", "ssl_keyfile")}
    there = written(tmp_path, content | {"http_options": content.get("http_options", {}) | tls})
    assert check_serve_file(there) == []  # the proxy may be on another machine
    (absent,) = check_serve_file(there, read=True)
    assert absent.startswith(f"http_options.ssl_certfile {tmp_path}/none.ssl_certfile: No such")
    command = ["serve-check", "--read", str(written(tmp_path, content))]
    assert CliRunner().invoke(cli.app, command).exit_code == 0
