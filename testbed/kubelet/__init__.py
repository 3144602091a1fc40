"""A kubelet for one pod: the rules as Kubernetes' own source has them, and an actor that runs real containers by them.

The rules (``specs``, ``probing``, ``restarts``, ``pod_worker``) are told the time and what happened, and answer what
to do; they start no thread and read no clock.  ``virtual`` plays them against containers that are told, in virtual
time; ``kubelet`` and ``runtime`` against podman, in the pods of ``testbed.pods``.  Files named in docstrings are
those of the repository kubernetes/kubernetes, releases 1.28 to 1.33.
"""
