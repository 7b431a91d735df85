"""Faster layers for training on CPUs; without them, training is slower but otherwise the same."""
