"""Run any sleepmami command as a Ray job on a running cluster."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from pathlib import Path

import yaml
from ray.job_submission import JobStatus, JobSubmissionClient

from sleepmami.errors import ServiceError


def submit(
    address: str,
    command: list[str],
    *,
    runtime_env: Path | None = None,
    on_log: Callable[[str], None],
) -> str:
    """Submit `sleepmami COMMAND...`, follow its log, and return the job's id when it succeeded.

    The cluster's token comes from `RAY_AUTH_TOKEN` or `RAY_AUTH_TOKEN_PATH`.

    Args:
        address: of the head's job server, such as http://head:8265.
        command: what would follow `sleepmami` on a command line.
        runtime_env: YAML file in Ray's runtime environment format; cluster/runtime_env.yaml is one.
        on_log: receives the job's output as it comes.

    Raises:
        ServiceError: the head cannot be reached, refuses the token, or the job did not succeed.
    """
    environment = yaml.safe_load(runtime_env.read_text()) if runtime_env else {}
    try:
        client = JobSubmissionClient(address)
        job = client.submit_job(
            entrypoint=shlex.join(["sleepmami", *command]), runtime_env=environment or {}
        )
    except (ConnectionError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ServiceError(
            f"{address}: found {reason}; expected a Ray head's job server and its token "
            "(RAY_AUTH_MODE=token with RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH)"
        ) from error
    asyncio.run(_follow(client, job, on_log))
    status = client.get_job_status(job)
    if status != JobStatus.SUCCEEDED:
        raise ServiceError(
            f"job {job} on {address}: found status {status.value}; expected SUCCEEDED"
        )
    return job


async def _follow(client: JobSubmissionClient, job: str, on_log: Callable[[str], None]) -> None:
    async for text in client.tail_job_logs(job):
        on_log(text)
    while not client.get_job_status(job).is_terminal():  # the log may close a moment before the job
        await asyncio.sleep(0.2)
