"""Scoring a model: every image once, and the interval that comes with it."""
