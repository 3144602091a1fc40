"""Pods with real limits: containers by podman and runc, as the kubelet would make them, on cgroup version 1 or 2.

A pod here is what Kubernetes makes of one: a first container that holds the pid and ipc namespaces and ``/dev/shm``,
and beside it Triton's container and the probe's, each with its own limits, user and capabilities, below one cgroup.
The network is the host's.  A container's root is an empty folder in which the host's own programs lie, read-only;
the probe's can be its image in place of that (``testbed.images``).
"""
