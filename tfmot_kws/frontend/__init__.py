"""Features: log-mel energies as TensorFlow Lite Micro computes them, and textbook float ones."""
