""".tflite files as such: building them, and reading them with every offset checked."""
