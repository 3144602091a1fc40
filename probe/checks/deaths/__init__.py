"""Why did a process end, and would a larger container have kept it?  Causes, and the kernel's kills for want of memory.

That an instance, a worker or Triton is missing is found by ``stubs``, ``workers`` and ``server``; here is what they
say of the end: how it ended, what the container looked like around it, and what to change.
"""
