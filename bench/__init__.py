"""Measures the budgets on the machine at hand: ``python -m bench``, or ``make bench``.

One file a bench; ``harness`` holds what a measurement is, ``deployment`` what is measured (a real Triton in
a pod of its own, and the daemon beside it).  Nothing here judges health, and nothing of it is shipped.
"""
