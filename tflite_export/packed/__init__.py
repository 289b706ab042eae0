""".tflite files with our ops on packed weights: bytes of weights and options, writer, reader."""
