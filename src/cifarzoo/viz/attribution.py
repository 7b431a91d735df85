"""Where a model looks: Grad-CAM and occlusion, computed by captum (an extra)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cifarzoo.errors import MissingExtraError, ShapeError
from cifarzoo.spec import require_whole
from cifarzoo.viz import _style
from cifarzoo.viz._inputs import check_labels, check_names, require_images, rgb
from cifarzoo.viz._layers import evaluating, find_layer, fitting, full_name, last_maps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

__all__ = ["plot_grad_cam", "plot_occlusion"]

MOST = 12  # images
COLUMNS = 6
TILE = 1.6  # inches
AT_ONCE = 64  # covered images that are run together
MOST_OPAQUE = 0.85


def plot_grad_cam(
    model: nn.Module,
    images: Tensor,
    targets: Tensor | None = None,
    layer: str | None = None,
    class_names: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw what in an image speaks for a class, as seen by one of the last layers (Grad-CAM).

    The maps of a layer are added up, each weighted by the mean gradient of the class's logit
    with regard to it; what is positive is drawn, stretched over the image. It is as coarse as the
    layer's maps are. The model is left as it was found.

    Args:
        model: an `ImageClassifier`, or any module that takes float (N,3,H,W) in [0, 1].
        images: uint8, or float in [0, 1], (N,3,H,W); the first 12 are drawn.
        targets: the class to explain for each image, integers (N,); None takes the likeliest.
        layer: its name, as `named_modules` gives it; of an `ImageClassifier` the leading
            "network." may be left out. None takes the last layer whose maps are larger than a
            pixel.
        class_names: K names; None writes the classes as numbers.
        title: above the figure; None says what is drawn.

    Returns:
        The figure: each image on an axis, and below it the same with what speaks for its class;
        last the colour bar, from none to the most in that image.

    Raises:
        MissingExtraError: captum is not installed; `pip install captum`.
        OptionError: there is no such layer, or there are not K names.
        ShapeError: images are not (N,3,H,W), targets not (N,), or the layer gives no maps.
        RangeError: images are neither uint8 nor float in [0, 1], or a map is not finite.
        LabelError: targets are not integers in 0..K-1.

    Source: arXiv 1610.02391, section 3, as implemented by captum.
    """
    attr = _captum()
    subject = _subject(model, images, targets, class_names)
    name = last_maps(model, images[:1]) if layer is None else layer
    grad_cam = attr.LayerGradCam(model, find_layer(model, full_name(model, name)))
    with evaluating(model), torch.enable_grad():
        coarse = grad_cam.attribute(subject.inputs, subject.targets, relu_attributions=True)
    if coarse.ndim != 4:
        raise ShapeError(
            f"layer {name!r} gives {tuple(coarse.shape)}; needed are maps (N, C, H, W): choose a "
            "convolution"
        )
    side = tuple(subject.inputs.shape[2:])
    maps = nn.functional.interpolate(coarse.detach().float(), side, mode="bilinear")[:, 0].cpu()
    what = f"Grad-CAM at {name}, {coarse.shape[2]}×{coarse.shape[3]} pixels"
    maps /= maps.amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    look = _Look(cmap="inferno", low=0, high=1, label="for the class (share of the image's most)")
    return _draw(subject, maps, look, what if title is None else title)


def plot_occlusion(
    model: nn.Module,
    images: Tensor,
    targets: Tensor | None = None,
    class_names: Sequence[str] | None = None,
    *,
    window: int = 8,
    stride: int = 2,
    title: str | None = None,
) -> Figure:
    """Draw how much of a class's probability is lost where a grey square covers the image.

    Every pixel shows the mean over the squares that cover it. Nothing about the network is
    assumed, so it can be compared with `plot_grad_cam`; a network that looks at many places loses
    little by any one of them. The model is left as it was found.

    Args:
        model: an `ImageClassifier`, or any module that takes float (N,3,H,W) in [0, 1].
        images: uint8, or float in [0, 1], (N,3,H,W); the first 12 are drawn.
        targets: the class to explain for each image, integers (N,); None takes the likeliest.
        class_names: K names; None writes the classes as numbers.
        window: side of the square in pixels.
        stride: pixels from one place of the square to the next, 1 to `window`.
        title: above the figure; None says what is drawn.

    Returns:
        The figure, laid out as that of `plot_grad_cam`.

    Raises:
        MissingExtraError: captum is not installed; `pip install captum`.
        OptionError: window or stride is not allowed, or there are not K names.
        ShapeError: images are not (N,3,H,W), or targets not (N,).
        RangeError: images are neither uint8 nor float in [0, 1].
        LabelError: targets are not integers in 0..K-1.

    Source: arXiv 1311.2901, section 4.2, as implemented by captum.
    """
    attr = _captum()
    require_images(images)
    smallest = min(images.shape[2:])
    require_whole("window", window, 1, smallest, f"1 to {smallest} pixels")
    require_whole("stride", stride, 1, window, f"1 to the window, {window} pixels")
    subject = _subject(model, images, targets, class_names)

    def probabilities(batch: Tensor) -> Tensor:
        return subject.run(batch).softmax(1)

    with evaluating(model), torch.no_grad():
        lost = attr.Occlusion(probabilities).attribute(
            subject.inputs,
            (3, window, window),
            (3, stride, stride),
            baselines=0.5,
            target=subject.targets,
            perturbations_per_eval=max(1, AT_ONCE // len(subject.inputs)),
        )
    maps = 100 * lost[:, 0].float().cpu()
    what = f"probability lost where a grey square of {window} pixels covers the image"
    most = float(maps.abs().max()) or 1.0
    look = _Look(
        cmap=_style.DIVERGING, low=-most, high=most, label="probability lost (percentage points)"
    )
    return _draw(subject, maps, look, what if title is None else title)


def _captum() -> Any:  # noqa: ANN401 - captum has no types
    try:
        from captum import attr
    except ImportError as error:
        raise MissingExtraError(
            "captum computes these pictures and is not installed; pip install captum"
        ) from error
    return attr


@dataclass(frozen=True, slots=True, eq=False)
class _Subject:
    """Images, and the classes that are explained.

    Attributes:
        pictures: the images as they were given.
        inputs: what the model takes, float (N,3,H,W).
        targets: int64 (N,), on the device of `inputs`.
        headings: what stands above each image.
        run: the model's logits.
    """

    pictures: Tensor
    inputs: Tensor
    targets: Tensor
    headings: list[str]
    run: Callable[[Tensor], Tensor]


def _subject(
    model: nn.Module, images: Tensor, targets: Tensor | None, class_names: Sequence[str] | None
) -> _Subject:
    require_images(images)
    shown = images[:MOST]
    inputs = fitting(model, shown)
    if inputs.dtype == torch.uint8:
        inputs = inputs / 255
    with evaluating(model), torch.no_grad():
        likely = model(inputs).float().softmax(1)
    classes = likely.shape[1]
    names = check_names(class_names, classes)
    if targets is None:
        chosen = likely.argmax(1)
    else:
        chosen = torch.tensor(check_labels(targets, len(images), classes=classes)[:MOST])
        chosen = chosen.to(inputs.device)
    shares = likely.gather(1, chosen[:, None]).flatten().tolist()
    headings = [
        f"{names[c]}, {share:.0%}" for c, share in zip(chosen.tolist(), shares, strict=True)
    ]
    return _Subject(shown, inputs, chosen, headings, model)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """How maps are coloured.

    Attributes:
        cmap: name of the colours.
        low: value at their lower end.
        high: value at their upper end.
        label: what the values are, with their unit.
    """

    cmap: str
    low: float
    high: float
    label: str


def _draw(subject: _Subject, maps: Tensor, look: _Look, title: str) -> Figure:
    count = len(maps)
    columns = min(COLUMNS, count)
    bands = math.ceil(count / columns)
    figure = _style.new_figure(TILE * columns + 0.9, (2 * TILE + 0.3) * bands + 0.4, title=title)
    axes = figure.subplots(2 * bands, columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    pictures = rgb(subject.pictures)
    for i in range(count):
        band, column = divmod(i, columns)
        upper, lower = axes[2 * band][column], axes[2 * band + 1][column]
        upper.imshow(pictures[i], interpolation=_style.PIXELS)
        upper.set_title(subject.headings[i], fontsize=_style.SMALL, pad=3)
        shown = _overlay(lower, pictures[i], maps[i].numpy(), look)
    bar = figure.colorbar(shown, ax=axes, shrink=min(1.0, 2.2 / figure.get_figheight()), pad=0.02)
    _style.dress_bar(bar, look.label)
    return figure


def _overlay(
    axis: Axes, picture: NDArray[np.float32], values: NDArray[np.float32], look: _Look
) -> ScalarMappable:
    """Draw a map over the image in grey, the stronger the less of the image is seen."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colours = ScalarMappable(Normalize(look.low, look.high), look.cmap)
    strength = np.abs(values) / max(look.high, -look.low)
    alpha = (MOST_OPAQUE * np.sqrt(strength.clip(0, 1)))[..., None]
    grey = 0.35 + 0.5 * picture.mean(2, keepdims=True).repeat(3, axis=2)
    over = colours.to_rgba(values)[..., :3]
    axis.imshow((1 - alpha) * grey + alpha * over, interpolation=_style.PIXELS)
    return colours
