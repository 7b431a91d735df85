"""The models, one family per module, which ends with the cards of its models."""
