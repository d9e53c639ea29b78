"""Run any sleepmami command as a Ray job on a running cluster."""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from ray.exceptions import RayError
from ray.job_submission import JobStatus, JobSubmissionClient

from sleepmami.errors import ConfigError, ServiceError

# What the client raises for an address, a token, a server or a reply that is wrong; the errors of
# requests are OSErrors.
_CLIENT_ERRORS = (OSError, RuntimeError, ValueError, RayError, aiohttp.ClientError)


def submit(
    address: str,
    command: list[str],
    *,
    runtime_env: Path | None = None,
    on_log: Callable[[str], None],
) -> str:
    """Submit `sleepmami COMMAND...`, follow its log, and return the job's id when it succeeded.

    The cluster's token comes from `RAY_AUTH_TOKEN` or `RAY_AUTH_TOKEN_PATH`, and is sent when
    `RAY_AUTH_MODE` is `token`. The job goes on when following it is interrupted.

    Args:
        address: of the head's job server, such as http://head:8265.
        command: what would follow `sleepmami` on a command line. The cluster runs it: paths in it
            are absolute, or URIs.
        runtime_env: YAML file in Ray's runtime environment format; cluster/runtime_env.yaml is one.
        on_log: receives the job's output as it comes.

    Raises:
        ConfigError: the runtime environment cannot be read.
        ServiceError: the head cannot be reached, refuses the token, or the job did not succeed.
    """
    environment = _read_environment(runtime_env) if runtime_env else {}
    if not address.startswith(("http://", "https://")):
        raise ServiceError(f"found address {address!r}; expected one like http://head:8265")
    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)  # ours is enough
    try:
        client = JobSubmissionClient(address)
        job = client.submit_job(
            entrypoint=shlex.join(["sleepmami", *command]), runtime_env=environment
        )
    except _CLIENT_ERRORS as error:
        raise ServiceError(
            f"{address}: found {_first_line(error)}; expected a Ray head's job server and its "
            "token (RAY_AUTH_MODE=token with RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH)"
        ) from error
    try:
        status = asyncio.run(_follow(client, job, on_log))
    except _CLIENT_ERRORS as error:
        raise ServiceError(
            f"{address}: found {_first_line(error)} while following job {job}, which may still "
            "run; expected its log"
        ) from error
    if status != JobStatus.SUCCEEDED:
        raise ServiceError(
            f"job {job} on {address}: found status {status.value}; expected SUCCEEDED"
        )
    return job


async def _follow(
    client: JobSubmissionClient, job: str, on_log: Callable[[str], None]
) -> JobStatus:
    async for text in client.tail_job_logs(job):
        on_log(text)
    while not (status := client.get_job_status(job)).is_terminal():
        await asyncio.sleep(0.2)  # the log may close a moment before the job
    return status


def _read_environment(file: Path) -> dict[str, Any]:  # Any: Ray's own format
    try:
        environment = yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: found {_first_line(error)}; expected a YAML file") from error
    if not isinstance(environment, dict):
        raise ConfigError(
            f"{file}: found {type(environment).__name__}; expected a mapping such as env_vars"
        )
    return environment


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
