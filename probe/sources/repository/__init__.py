"""Model repositories on disk: which models there are, what their files say, and the one edit of ``audit --fix``.

No server is asked.  What is wrong with what was read is judged elsewhere; nothing is written but by
``fixing``, and that only in a file which reads the same afterwards.
"""
