"""A real tritonserver on this machine, in isolation: for the demo, the tests and the benches.

Nothing of the probe's own judgement may enter, and nothing but ``commands`` may import it.
"""
