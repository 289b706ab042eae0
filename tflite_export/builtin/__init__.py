""".tflite files with stock ops only."""
