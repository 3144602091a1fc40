"""What size does Triton's container need?  From the peaks that were seen to the lines of a manifest.

It makes no claims: a size is a proposal, and no finding.  What is said here rests on ``ledgers/peaks.py`` and on
nothing that was not seen; where that is too little, it says so.  Texts about a manifest live here, YAML does not.
"""
