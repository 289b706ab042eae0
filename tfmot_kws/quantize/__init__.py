"""Quantization-aware layers, and the schemes that put them in the place of float ones."""
