"""A small virtual machine with Debian's kernel and cgroup version 2, for what this machine's kernel can not show.

It mounts the folders of this machine that Python, the checkout and Triton lie in, read-only and by the same
paths: nothing is copied, no image is built, and what runs in it is what runs here.  ``host`` boots it and asks
it for plays, ``agent`` plays them, and ``kubelet`` makes pods in it as a node of Kubernetes does.
"""
