"""Examples: lists of clips and their splits, classes, labels, cached arrays of features, synthetic words."""
