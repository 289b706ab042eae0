"""The executable specification: each integer and each float defined once, in numpy."""
