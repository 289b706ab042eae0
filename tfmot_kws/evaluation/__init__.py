"""How good a spotter is: DET curves, streams, the detector, reports. Nothing here knows a model."""
