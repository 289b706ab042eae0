# SPDX-License-Identifier: Apache-2.0
"""The commands of ``tfmot-kws``, a module each. TensorFlow is imported inside them only."""
