"""The files in cluster/ are valid before anyone needs them."""

import importlib.util
import json
import subprocess
from pathlib import Path

import jsonschema
import yaml

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"


def ray_folder() -> Path:
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def test_on_prem_yaml_fits_rays_own_cluster_schema() -> None:
    schema = json.loads((ray_folder() / "autoscaler" / "ray-schema.json").read_text())
    config = yaml.safe_load((CLUSTER / "ray" / "on_prem.yaml").read_text())
    jsonschema.validate(config, schema)


def test_every_machine_of_the_cluster_file_starts_with_token_authentication() -> None:
    config = yaml.safe_load((CLUSTER / "ray" / "on_prem.yaml").read_text())
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert len(starts) == 2
    for command in starts:
        before, _, after = command.partition("ray start ")
        assert "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=" in before
        assert after.startswith(("--head", "--address"))


def test_the_single_node_script_starts_one_head_and_that_with_token_authentication() -> None:
    before, _, after = (CLUSTER / "ray" / "single_node.sh").read_text().partition("nohup ray start")
    assert "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=" in before
    assert "nohup" not in after


def test_the_single_node_script_is_valid_shell() -> None:
    subprocess.run(["bash", "-n", str(CLUSTER / "ray" / "single_node.sh")], check=True)


def test_the_runtime_environment_holds_only_variables() -> None:
    config = yaml.safe_load((CLUSTER / "runtime_env.yaml").read_text())
    assert set(config) == {"env_vars"}
    assert all(isinstance(value, str) for value in config["env_vars"].values())
