"""Backends pretended at Triton's own C API: the real tritonserver loads them, by any name, into its process."""
