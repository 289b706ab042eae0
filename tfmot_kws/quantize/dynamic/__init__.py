"""Dynamic quantization: rows of inputs by their own range, while the model runs."""
