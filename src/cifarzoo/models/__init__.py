"""The models: one family a file, each with its cards at the end."""
