"""Receptive fields, followed through everything that a forward pass computes.

`fields` knows what a layer does to the pixels that an element sees; `sliding`, `rearranging` and
`combining` say which torch operator does what; `tracing` watches a forward pass.
"""

from cifarzoo.arithmetic.receptive.fields import Field
from cifarzoo.arithmetic.receptive.tracing import FieldTracker

__all__ = ["Field", "FieldTracker"]
