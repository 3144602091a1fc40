"""Would this model repository run as it is meant to?  Pure judgement of what its files say, before any Triton.

One file a question, as in the room around it; what is asked is a reading of files instead of an
``Observation``, so there is no moment and no history, and a finding names a line.
"""
