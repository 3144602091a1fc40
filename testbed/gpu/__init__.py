"""A GPU suite's rehearsal on a machine without a GPU: a torch that tells the NVML double what it would hold."""
