"""Pictures, returned as matplotlib figures that are neither shown nor saved.

Save a figure with `figure.savefig("name.png", dpi=150)`. In a notebook, the figure at the end of a
cell is shown. pyplot is never imported, so no display is needed and no figure stays in memory after
its last use. `with theme("dark"):` draws on a dark
background; matplotlib's own styles are followed as well.
"""

from cifarzoo.viz.activations import plot_activations
from cifarzoo.viz.augmentation import plot_augmentation
from cifarzoo.viz.confusion import CellValue, plot_confusion
from cifarzoo.viz.filter_responses import plot_filter_responses
from cifarzoo.viz.filters import plot_filters
from cifarzoo.viz.gap import plot_gap
from cifarzoo.viz.grad_cam import plot_grad_cam
from cifarzoo.viz.histories import plot_histories
from cifarzoo.viz.history import plot_history
from cifarzoo.viz.images import plot_images
from cifarzoo.viz.mistakes import plot_mistakes
from cifarzoo.viz.network import plot_network
from cifarzoo.viz.occlusion import plot_occlusion
from cifarzoo.viz.patterns import orientation_pattern
from cifarzoo.viz.per_class import plot_per_class
from cifarzoo.viz.predictions import plot_predictions
from cifarzoo.viz.receptive_field import plot_receptive_field
from cifarzoo.viz.reliability import plot_reliability
from cifarzoo.viz.sizes import ModelPoint, SizeName, plot_sizes
from cifarzoo.viz.theme import ThemeName, theme

__all__ = [
    "CellValue",
    "ModelPoint",
    "SizeName",
    "ThemeName",
    "orientation_pattern",
    "plot_activations",
    "plot_augmentation",
    "plot_confusion",
    "plot_filter_responses",
    "plot_filters",
    "plot_gap",
    "plot_grad_cam",
    "plot_histories",
    "plot_history",
    "plot_images",
    "plot_mistakes",
    "plot_network",
    "plot_occlusion",
    "plot_per_class",
    "plot_predictions",
    "plot_receptive_field",
    "plot_reliability",
    "plot_sizes",
    "theme",
]
