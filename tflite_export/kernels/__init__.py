"""C99 kernels, and the list of their sources."""
