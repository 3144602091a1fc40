"""What the outside sees: HTTP, metrics, logs, the terminal.  Each reads the board, none writes it.

No request waits for a source: everything here is a rendering of the snapshot in memory.
"""
