"""What the Ingress reads of the bundles before it serves."""

from pathlib import Path

import pytest

from serve_apps.replicas import staging_probes
from sleepmami.training.bundle_probes import add_probe
from sleepmami.training.checkpoint import save_bundle
from tests.bundles import random_bundle
from tests.local_service import random_staging_probe


def test_a_bundle_that_cannot_be_read_does_not_keep_the_others_from_being_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = random_bundle()
    save_bundle(str(tmp_path / "probed"), bundle)
    add_probe(str(tmp_path / "probed"), random_staging_probe(bundle))
    save_bundle(str(tmp_path / "plain"), random_bundle(seed=12))
    bundles = {
        "default": str(tmp_path / "probed"),
        "plain": str(tmp_path / "plain"),
        "typo": str(tmp_path / "absent"),
    }
    assert staging_probes(bundles).keys() == {bundle.weights_sha256}
    assert "model typo: " in caplog.text
    assert "found nothing; expected a finished bundle" in caplog.text
