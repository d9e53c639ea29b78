"""The whole HTTP application in one process, without Ray.

    python -m serve_apps.local_app BUNDLE --port 8000 --state-dir state --cohort OUT

For development, for the page's tests and for a laptop: the routes are those of the service on Ray
Serve, one model encodes one batch at a time.
"""

from __future__ import annotations

import argparse

import uvicorn
from fastapi import FastAPI

from serve_apps.admission import Admission, limits_of
from serve_apps.cohort import Cohort
from serve_apps.http_app import create_app
from serve_apps.keys import KeyRing
from serve_apps.local_backend import LocalBackend
from serve_apps.request_log import configure_logs
from serve_apps.state_folder import StateFolder
from sleepmami.config import ServeConfig
from sleepmami.evaluation.fitted_probe import FittedProbe
from sleepmami.inference.embedder import Embedder
from sleepmami.training.bundle_probes import read_probe
from sleepmami.training.checkpoint import Bundle, load_bundle


def local_app(
    bundle: Bundle,
    *,
    config: ServeConfig | None = None,
    staging: FittedProbe | None = None,
) -> FastAPI:
    """The application around one bundle.

    Args:
        bundle: with a Macro-Encoder.
        config: as of the service; its address is not used.
        staging: a staging probe of the bundle.

    Raises:
        CheckpointError: the bundle has no Macro-Encoder.
        ServiceError: the state folder cannot be made, or the cohort is of several models.
        TableError: the cohort cannot be read.
    """
    config = config or ServeConfig()
    embedder = Embedder(
        bundle,
        windows_per_batch=config.windows_per_batch,
        precision=config.precision,
        both_halves=config.both_halves,
    )
    state = StateFolder(config.state_dir)
    try:
        nights = Cohort(config.cohort, state.folder) if config.cohort else None
    except BaseException:
        state.close()
        raise
    backend = LocalBackend(embedder, threads=config.threads_per_replica)
    return create_app(
        backend,
        Admission(limits_of(config)),
        state,
        cohort=nights,
        probes={bundle.weights_sha256: staging} if staging is not None else None,
        keys=KeyRing(config.keys_file) if config.keys_file else None,
        local_only=config.keys_file is None and not config.behind_gateway,
    )


def main() -> None:
    """Serve a bundle until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("bundle", help="folder or URI of a bundle with a Macro-Encoder")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--state-dir", help="where uploads and jobs lie; else a private folder")
    parser.add_argument("--cohort", help="folder of `embed cohort`")
    arguments = parser.parse_args()
    configure_logs()
    app = local_app(
        load_bundle(arguments.bundle),
        config=ServeConfig(state_dir=arguments.state_dir, cohort=arguments.cohort),
        staging=read_probe(arguments.bundle, "staging"),
    )
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
