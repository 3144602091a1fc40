"""Kustomizations of a test's own: Triton's pod in a workload, and the components of ``k8s/`` listed for it."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[2] / "k8s"
_HEAD = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}


def triton(name: str = "triton") -> dict[str, Any]:
    """The least that a pod with Triton needs."""
    return {"containers": [{"name": name, "image": "tritonserver:24.10-py3"}]}


def workload(pod: dict[str, Any], kind: str = "Deployment", name: str = "triton") -> dict[str, Any]:
    """A workload with this pod, as the API server takes it."""
    labels = {"app": "triton"}
    spec: dict[str, Any] = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": copy.deepcopy(pod)},
    }
    if kind == "StatefulSet":
        spec["serviceName"] = "triton"
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


class Overlays:
    """A folder with the components, in which kustomizations are made."""

    def __init__(self, folder: Path, components: Path = K8S / "components") -> None:
        self.folder = folder
        shutil.copytree(components, folder / "components")
        self._made: list[str] = []

    def add(
        self,
        name: str,
        things: Iterable[dict[str, Any]],
        components: Iterable[str],
        **more: Any,  # noqa: ANN401 - whatever a kustomization can say
    ) -> Path:
        """A kustomization of these objects with these components in this order; its folder."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "things.yaml").write_text(yaml.safe_dump_all(things, sort_keys=False), "utf-8")
        lists = {"resources": ["things.yaml"], "components": [f"../components/{each}" for each in components]}
        self._write(folder, {**lists, **more})
        self._made.append(name)
        return folder

    def together(self) -> Path:
        """All of them in one, for one run of kustomize."""
        folder = self.folder / "together"
        folder.mkdir()
        self._write(folder, {"resources": [f"../{each}" for each in self._made]})
        return folder

    def _write(self, folder: Path, says: dict[str, Any]) -> None:
        text = yaml.safe_dump({**_HEAD, **says}, sort_keys=False)
        (folder / "kustomization.yaml").write_text(text, "utf-8")
