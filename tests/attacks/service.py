"""The whole service in this process, with keys, a tiny model and jobs that run."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from serve_apps.keys import add_key
from serve_apps.local_app import local_app
from sleepmami.config import ServeConfig
from tests.bundles import random_bundle


def guarded_app(folder: Path, **settings: Any) -> tuple[FastAPI, str]:
    """The application and a key to it."""
    keys = folder / "keys.json"
    text, _ = add_key(keys, "clinic-a")
    config = ServeConfig(
        keys_file=str(keys), state_dir=str(folder / "state"), max_body_mb=16, **settings
    )
    return local_app(random_bundle(), config=config), text


def talk(app: FastAPI, steps: Callable[[httpx.AsyncClient], Awaitable[Any]], key: str = "") -> Any:
    """Run some requests while the application lives."""

    async def run() -> Any:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", headers=headers
            ) as client,
        ):
            return await steps(client)

    return asyncio.run(run())


def route_paths(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Method and path of every operation, with an id in the place of each parameter."""
    found = []
    for path, operations in document["paths"].items():
        filled = path
        for name in ("suffix",):
            filled = filled.replace(f"{{{name}}}", "npz")
        while "{" in filled:
            before, _, rest = filled.partition("{")
            filled = before + "a" * 26 + rest.partition("}")[2]
        found += [(method.upper(), filled) for method in operations]
    return found
