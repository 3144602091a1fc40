"""Triton's protocol messages, without what the client package would bring along.

``tritonclient.grpc`` imports numpy for building tensors, which costs about 17 MiB that a watcher has
no use for.  Its generated messages need only protobuf, so the package is registered by its path and
its ``__init__`` is never run.  An application that imported the whole client first keeps it.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

_PACKAGE = "tritonclient.grpc"


def _register() -> None:
    if _PACKAGE in sys.modules:
        return
    spec = importlib.util.find_spec("tritonclient")
    if spec is None or not spec.submodule_search_locations:  # pragma: no cover
        message = "the package tritonclient is not installed"
        raise ImportError(message)
    package = types.ModuleType(_PACKAGE)
    package.__path__ = [str(Path(spec.submodule_search_locations[0]) / "grpc")]
    sys.modules[_PACKAGE] = package


_register()

from tritonclient.grpc import model_config_pb2 as _config  # noqa: E402  (after the registration above)
from tritonclient.grpc import service_pb2 as _service  # noqa: E402  (likewise)

messages: Any = _service
"""The module of generated messages (``service_pb2``); generated code carries no types."""

configurations: Any = _config
"""The module of ``config.pbtxt``'s messages (``model_config_pb2``)."""

SERVICE = "/inference.GRPCInferenceService/"
"""Prefix of every method's full name."""
