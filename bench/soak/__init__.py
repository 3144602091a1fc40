"""An hour of everyday life with a real Triton, in which no gate may move without a reason.

``plan`` is chance from a seed, ``driver`` does what it says, ``moves`` knows which moves of the gates are
to be expected, ``recorder`` reads what the daemon says happened.  No fault is ever put into a model here:
that is the bench of faults.
"""
