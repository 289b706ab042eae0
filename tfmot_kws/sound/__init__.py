"""Sound: files, streams, augmentation, downloads, and speech made by espeak-ng."""
