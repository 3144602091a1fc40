"""Triton's container as the kernel accounts it: its cgroups and its ``/dev/shm``.

Everything here is read through ``/proc/<pid>``, of any shape, and nothing read here raises.  No verdict
on what was read, and no memory of an earlier look, may enter.
"""
