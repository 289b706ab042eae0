"""A model as C: arrays that hold a file, and code that runs without an interpreter."""
