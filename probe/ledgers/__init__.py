"""What happened over time: pure folds from readings to histories.

A ledger is a frozen record with a method that takes a reading and returns the next record.  No I/O, no
clock of its own, no judgement: a ledger says what was, a check says what it means.
"""
