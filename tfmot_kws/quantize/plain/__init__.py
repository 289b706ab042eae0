"""Models as people write them, as models of layers that ``rewrite`` knows: ``unfold.plain_model`` is the entry.

Nested models, wrappers and functions of tensors become the layers that they are made of; arithmetic with constants
becomes layers that cost the device little or nothing.
"""
