"""Sound: files, streams, augmentation, effects of devices, downloads, and speech made by espeak-ng."""
