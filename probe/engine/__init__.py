"""When to look and what to believe: schedule, wake-ups, deadlines, debounce, gates, epochs, the board.

The engine owns time.  No foreign library, no rendering, and no judgement of its own may enter: it asks
``checks`` what a look means and decides only since when, for how long, and whether a gate moves.
"""
