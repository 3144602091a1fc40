"""Placements on the real tritonserver: what models do, what NVML says of it, and what must be concluded."""
