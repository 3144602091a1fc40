"""Fixtures of what renders ``k8s/``: a kustomize, and a folder to make kustomizations in."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.manifests.kustomize import Kustomize, all_kustomizes
from testbed.manifests.overlays import Overlays


@pytest.fixture(scope="session")
def kustomizes() -> tuple[Kustomize, ...]:
    """Each that this machine has."""
    return all_kustomizes()


@pytest.fixture(scope="session")
def kustomize(kustomizes: tuple[Kustomize, ...]) -> Kustomize:
    """One that this machine has."""
    return kustomizes[0]


@pytest.fixture
def overlays(tmp_path: Path) -> Overlays:
    """The components in a folder of the test's own."""
    return Overlays(tmp_path / "k8s")
