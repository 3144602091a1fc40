"""Processes of a Triton, read from ``/proc``, and their exits, told by the kernel through pidfds.

Nothing here ever traces, stops or signals a process: a stub that is paused for a second in ``execute``
and then resumed can abort the whole tritonserver.
"""
