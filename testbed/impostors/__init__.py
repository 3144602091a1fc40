"""Real processes that look like a Triton of any release: a server by name and port, and stubs below it.

For what the probe reads of processes: who is there, in which state, under which command line, and how it
ended.  They compute nothing and listen nowhere; a scripted Triton beside them does the talking.  ``lines``
has the command lines as each release writes them, ``server`` the processes, ``impostor.c`` what they run.
"""
