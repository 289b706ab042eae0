"""The graph of a clip as the graph of a step of a stream; memory and cost of both."""
