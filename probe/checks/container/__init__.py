"""Is Triton's container large enough, and may the probe see it?  Memory, CPU, processes and ``/dev/shm``.

What to write into a manifest is decided here too (``manifest``, ``shm_remedies``).  A death is none of its
subjects: what killed a process, and how the container looked around it, is asked in ``deaths``.
"""
