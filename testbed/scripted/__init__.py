"""A Triton that says and does what a test wants, on the real protocol: gRPC, HTTP and metrics.

For what the real server at hand can not show: the readiness of newer releases, other backends, answers that
come late, never, or make no sense.  ``script`` holds what it is, ``server`` plays it, ``answers`` are the
rules in between, ``raw`` is something that listens and does not speak the protocol at all.
"""
