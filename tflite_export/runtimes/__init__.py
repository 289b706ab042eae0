"""One ``run`` over the numpy reference, TFLite, LiteRT and TensorFlow Lite Micro."""
