# SPDX-License-Identifier: Apache-2.0
"""The steps of ``tfmot-kws phrase``, a module each: from a phrase to a file for a device, and how well it listens."""
