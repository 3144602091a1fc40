"""The orders that the probe may give Triton: to load a model, and to load it anew."""

from __future__ import annotations

import asyncio
from functools import partial

from probe.facts.triton import CallFailure
from probe.sources.triton.calls import Calls
from probe.sources.triton.protos import messages

PARTING = 0.3
"""Seconds for a load to reach Triton when the probe is told to stop between an unload and its load."""


async def load_model(calls: Calls, name: str, seconds: float) -> CallFailure | None:
    """Have Triton load this model and wait at most so long for the end of it; how it failed, or None.

    Triton runs loads and unloads on threads of their own (server, ``grpc_server.cc``): the series of the
    other calls need not wait for one.  It does nothing, and answers at once, where the model is loaded and
    its files did not change since (release 24.10).
    """
    failures: list[CallFailure] = []
    request = messages.RepositoryModelLoadRequest(model_name=name)
    answer = messages.RepositoryModelLoadResponse
    ask = partial(calls.unary, "RepositoryModelLoad", request, answer, deadline=seconds)
    await calls.attempt(f"load {name}", ask, failures)
    return failures[0] if failures else None


async def reload_model(calls: Calls, name: str, seconds: float) -> CallFailure | None:
    """Have Triton unload this model and load it again; how the load failed, or None.

    The answer to the unload matters little: Triton answers before it is done, and where an instance is
    dead it may never be done, while a load works all the same (release 24.10).
    """
    request = messages.RepositoryModelUnloadRequest(model_name=name)
    unload = partial(calls.unary, "RepositoryModelUnload", request, messages.RepositoryModelUnloadResponse)
    try:
        await calls.attempt(f"unload {name}", unload, [])
    except asyncio.CancelledError:
        # Whoever stops the probe now must find the model loaded.
        await load_model(calls, name, PARTING)
        raise
    loading = asyncio.ensure_future(load_model(calls, name, seconds))
    try:
        return await asyncio.shield(loading)
    except asyncio.CancelledError:
        await asyncio.wait((loading,), timeout=PARTING)
        loading.cancel()
        raise
