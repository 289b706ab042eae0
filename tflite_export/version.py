"""The version of the exporter, which files carry in their description."""

VERSION = "0.1.0"
