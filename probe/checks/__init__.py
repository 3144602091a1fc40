"""One file per question; pure judgement from what was seen to claims.

A check has no ``try``, no lock, no clock and no loop of its own; its module docstring asks its question.
"""
