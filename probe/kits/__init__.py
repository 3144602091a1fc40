"""Small asyncio, time and text tools that know nothing of GPUs, Triton or Kubernetes.

Each could be lifted out into a library of its own; nothing of the project's vocabulary may enter.
"""
