"""Every fault that a real Triton can be given here, and how long the daemon takes to say so."""
