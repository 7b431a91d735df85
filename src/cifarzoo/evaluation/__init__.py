"""Evaluation of models: predictions, scores with intervals, and comparisons."""
