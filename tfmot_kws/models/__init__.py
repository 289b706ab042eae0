"""Float models: the spotters, layers that know time, low-rank pairs, a second head for phones."""
