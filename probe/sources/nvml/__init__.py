"""NVML, asked in a process of its own, because a driver's call can hang where no signal reaches.

``helper`` runs in that process and is the only code that loads the driver's library; ``source`` lives in
the daemon, asks it, and gives up waiting when it must.  The daemon never loads NVML itself.
"""
