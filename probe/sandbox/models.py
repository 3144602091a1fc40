"""The sample python model: one source, whose parameters say how it behaves.

It answers what it was asked (FP32 ``INPUT`` to ``OUTPUT``) until its ``execute`` parameter wants otherwise.
"""

from __future__ import annotations

SAMPLE_SOURCE = '''\
"""A sample model.  Its parameters say how it behaves; by default it answers what it was asked."""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time

import triton_python_backend_utils as pb_utils

# Like a vLLM process, it carries its name (of which the kernel keeps 15 characters) in both places.
CHILD = """
import sys, time
name = open("/proc/self/cmdline").read().split(chr(0))[0]
if "::" in name:
    open("/proc/self/comm", "w").write(name[:15])
time.sleep(1e9)
"""


class TritonPythonModel:
    def initialize(self, args):
        written = json.loads(args["model_config"]).get("parameters", {})
        self.parameters = {name: value["string_value"] for name, value in written.items()}
        self.ballast = bytearray(b"x" * (int(self.get("memory_mib", "0")) << 20))
        python = sys.executable or "python3"
        self.children = [
            subprocess.Popen([self.get("child_name", python), "-c", CHILD], executable=python)
            for _ in range(int(self.get("children", "0")))
        ]
        time.sleep(float(self.get("initialize_seconds", "0")))
        while (awaited := self.get("initialize_until", "")) and not os.path.exists(awaited):
            time.sleep(0.02)
        self.misbehave(self.get("initialize", ""))

    def get(self, name, default):
        return self.parameters.get(name, default)

    def misbehave(self, how):
        if how == "raise":
            raise RuntimeError(self.get("message", "this sample model always fails"))
        if how == "exit":
            os._exit(3)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "segv":
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.kill(os.getpid(), signal.SIGSEGV)
        if how == "grow":
            self.ballast += b"x" * (int(self.get("grow_mib", "64")) << 20)
        if how == "hang":
            time.sleep(min(float(self.get("seconds", "inf")), 1e9))
        if how == "spin":
            until = time.monotonic() + float(self.get("seconds", "inf"))
            while time.monotonic() < until:
                pass
        if how == "hold_gil":
            sum(itertools.repeat(0))  # in C, for ever, without ever giving up the GIL
        if how == "poison":
            # From the first request that asks for it, every request fails, as with a broken CUDA context.
            self.parameters.update(execute="raise", execute_when="always")
            self.misbehave("raise")

    def execute(self, requests):
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
            time.sleep(float(self.get("execute_seconds", "0")))
            if self.get("execute_when", "always") == "always" or (values > 0).any():
                self.misbehave(self.get("execute", ""))
            output = pb_utils.Tensor("OUTPUT", values)
            responses.append(pb_utils.InferenceResponse(output_tensors=[output]))
        return responses

    def finalize(self):
        if self.get("finalize", "kill") == "kill":
            for child in self.children:
                child.kill()
'''
