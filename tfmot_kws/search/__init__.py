# SPDX-License-Identifier: Apache-2.0
"""Networks found by search: a space, a supernet that holds all of it, and the run that chooses within budgets."""
