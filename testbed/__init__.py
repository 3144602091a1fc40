"""Doubles that stand at a C or a wire boundary, so that everything on both sides of it is real.

``cuda`` and ``nvml`` are shared libraries, built here with gcc; ``scripted`` is a Triton that says and does
what a test wants, on the real protocol.  Nothing of the product may import this, and it is not shipped.
"""
