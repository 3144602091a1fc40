"""triton-probe: health and device-placement probe for NVIDIA Triton Inference Server.

The way of a datum, in one direction: ``sources`` look outside and return readings, ``ledgers`` fold
readings over time, ``checks`` judge, the ``engine`` decides when to look and what to believe, and
``surfaces`` tell the outside.  ``ARCHITECTURE.md`` follows one datum along this way.
"""

__version__ = "0.1.0"
