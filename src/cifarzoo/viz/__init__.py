"""Pictures: every function returns a matplotlib `Figure`, shows nothing and saves nothing.

Save one with `figure.savefig("name.png", dpi=150)`. In a notebook, run `%matplotlib inline` once;
the figure at the end of a cell is then shown. pyplot is never imported, so nothing asks for a
display and no figure stays in memory after its last use.
"""

from cifarzoo.viz.activations import plot_activations
from cifarzoo.viz.confusion import CellValue, plot_confusion
from cifarzoo.viz.filter_responses import plot_filter_responses
from cifarzoo.viz.filters import plot_filters
from cifarzoo.viz.gap import plot_gap
from cifarzoo.viz.histories import plot_histories
from cifarzoo.viz.history import plot_history
from cifarzoo.viz.images import plot_images
from cifarzoo.viz.patterns import orientation_pattern
from cifarzoo.viz.predictions import plot_predictions

__all__ = [
    "CellValue",
    "orientation_pattern",
    "plot_activations",
    "plot_confusion",
    "plot_filter_responses",
    "plot_filters",
    "plot_gap",
    "plot_histories",
    "plot_history",
    "plot_images",
    "plot_predictions",
]
