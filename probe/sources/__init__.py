"""The only room that touches the outside: Triton, NVML, processes, the container.

A source looks once and returns a reading; foreign errors become facts here and nowhere else.  It does
not judge, remember verdicts, or decide when to look again.
"""
