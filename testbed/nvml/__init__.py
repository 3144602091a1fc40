"""A ``libnvidia-ml.so.1`` that says what a test wrote into a file; nothing of the product knows it."""
