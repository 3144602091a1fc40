"""Nouns only: readings, findings, the catalogue of reasons, gates, the status.

Everything here is frozen.  No I/O, no clock, no logging, no judgement may enter; a fact knows nothing
of how it was seen or what follows from it.  Seconds and bytes, always named so.
"""
