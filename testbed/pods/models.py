"""A python model that takes what a container can run short of: memory, ``/dev/shm``, CPU, threads."""

from __future__ import annotations

from probe.sandbox.repositories import Repository

_SOURCE = '''\
"""Takes, when it is loaded and at each request, what its parameters say.  INPUT is how much: MiB, or seconds."""

import json
import threading
import time

import numpy
import triton_python_backend_utils as pb_utils

MIB = 1 << 20


def touched(mib):
    taken = bytearray(int(mib * MIB))
    taken[::4096] = b"x" * len(range(0, len(taken), 4096))
    return taken


class TritonPythonModel:
    def initialize(self, args):
        written = json.loads(args["model_config"]).get("parameters", {})
        self.parameters = {name: value["string_value"] for name, value in written.items()}
        self.loaded = touched(float(self.parameters.get("load_mib", "0")))
        self.ended = threading.Event()
        for _ in range(int(self.parameters.get("load_threads", "0"))):
            threading.Thread(target=self.ended.wait, daemon=True).start()
        self.held = b""

    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(each, "INPUT").as_numpy()) for each in requests]

    def answer(self, asked):
        takes, much = self.parameters.get("takes", "nothing"), float(asked[0])
        if takes == "memory":
            self.held = b""
            self.held = touched(much)
        if takes == "cpu":
            until = time.monotonic() + much
            while time.monotonic() < until:
                pass
        if takes == "shm":
            asked = numpy.zeros(int(much * MIB) // 4, dtype=numpy.float32)
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("OUTPUT", asked)])

    def finalize(self):
        self.ended.set()
'''


def add_greedy(
    repository: Repository,
    name: str,
    *,
    takes: str = "nothing",
    load_mib: float = 0,
    load_threads: int = 0,
    instances: int = 1,
) -> Repository:
    """Add a model that takes this much when it is loaded, and at each request as much as INPUT says.

    ``takes`` is ``memory`` (MiB, held until its next request), ``cpu`` (seconds), ``shm`` (MiB that it answers
    with, which its region must hold) or ``nothing``.
    """
    parameters = {"takes": takes, "load_mib": str(load_mib), "load_threads": str(load_threads)}
    return repository.add_python(
        name, source=_SOURCE, kind="KIND_CPU", instances=instances, parameters=parameters
    )
