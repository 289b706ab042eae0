"""Stages and recipes of training, runs that can be resumed, and mined negatives."""
