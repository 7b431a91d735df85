"""Numbers that make no sense: every public function says so in an error of cifarzoo's own."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cifarzoo as zoo
from cifarzoo.training.loss import mix

NAN, INF = math.nan, math.inf
IMAGES = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
LABELS = torch.tensor([0, 1, 2, 0])
SPARSE = IMAGES.float().to_sparse()


class Net(nn.Module):
    """A model that is no `ImageClassifier`: 3 classes from the channels' means."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.float().mean((2, 3)))
        return logits


def loader(images: Tensor = IMAGES, labels: Tensor = LABELS) -> zoo.TensorLoader:
    return zoo.TensorLoader(images, labels, batch_size=2)


def predictions(probabilities: Tensor, labels: Tensor | None = LABELS) -> zoo.Predictions:
    return zoo.Predictions(probabilities=probabilities, labels=labels)


def calls(
    name: str, function: Callable[[Any], object], values: Iterable[object]
) -> dict[str, Callable[[], object]]:
    return {f"{name} {value!r}": partial(function, value) for value in values}


def features(memory_limit_bytes: Any) -> object:  # noqa: ANN401 - anything
    loaders = zoo.Loaders(loader(), None)
    return zoo.feature_loaders(Net(), loaders, memory_limit_bytes=memory_limit_bytes)


def features_of(images: Any) -> object:  # noqa: ANN401 - anything
    made = zoo.feature_loaders(Net(), zoo.Loaders([(images, LABELS)], None), progress=False)
    return list(made.train)


def evaluated(images: Tensor) -> object:
    return zoo.evaluate(Net(), [(images, LABELS)])


def fitted(images: Tensor) -> object:
    return zoo.fit(Net(), zoo.Loaders([(images, LABELS)], None), progress=False)


def nested() -> Tensor:
    with warnings.catch_warnings(action="ignore"):  # nested tensors are a prototype
        return torch.nested.nested_tensor([IMAGES[0].float()] * 4)


VIZ: Any = zoo.viz
LOADERS = zoo.Loaders(loader(), None)
TAKERS: dict[str, Callable[[Tensor], object]] = {
    "evaluate": evaluated,
    "fit": fitted,
    "TensorLoader": loader,
    "plot_images": zoo.viz.plot_images,
    "predict": partial(zoo.predict, Net()),
}
CONV = nn.Conv2d(3, 8, 3)
EVEN = torch.full((4, 3), 1 / 3)
COUNTS = (NAN, INF, 0, -1, 1.5, True, "3", None)
INDICES = (NAN, INF, -1, 1.5, "3", None)
CALLS: dict[str, Callable[[], object]] = {
    **calls("shapes_loaders", lambda n: zoo.shapes_loaders(8, n_train=n), COUNTS),
    **calls("batch_size", lambda n: zoo.TensorLoader(IMAGES, LABELS, batch_size=n), COUNTS),
    **calls("first", lambda n: loader().first(n), COUNTS),
    **calls("shard", lambda n: loader().shard(0, n), COUNTS),
    **calls("set_epoch", lambda n: loader().set_epoch(n), INDICES),
    **calls("iter_from", lambda n: loader().iter_from(n), INDICES),
    **calls("order", lambda n: loader().order(n), INDICES),
    **calls("report_baseline", lambda n: zoo.build_model("report_baseline", num_classes=n), COUNTS),
    **calls("sprint_s", lambda n: zoo.build_model("sprint_s", num_classes=n), COUNTS),
    **calls("resnet20", lambda n: zoo.build_model("resnet20", num_classes=n), COUNTS),
    **calls("transfer", lambda n: zoo.build_model("resnet18_transfer", num_classes=n), COUNTS),
    **calls("size", lambda n: zoo.Preprocess(size=n), COUNTS[:-1]),
    **calls("std", lambda x: zoo.Preprocess(std=(x, 1.0, 1.0)), (NAN, INF, 0.0, -1.0)),
    **calls("mean", lambda x: zoo.Preprocess(mean=(x, 1.0, 1.0)), (NAN, INF)),
    **calls("filters", lambda n: zoo.Layout(filters=(n,)), COUNTS),
    **calls("kernel_size", lambda n: zoo.Layout(kernel_size=n), COUNTS),
    **calls("max_params", lambda n: zoo.list_models(max_params=n), (NAN, -1, "3")),
    **calls("correct", lambda n: zoo.accuracy_interval(n, 10), (NAN, INF, -1, 1.5, 11, "3", None)),
    **calls("total", lambda n: zoo.accuracy_interval(0, n), (NAN, INF, -1, 1.5, 0, "3", None)),
    **calls("mean_and_std", zoo.mean_and_std, ([NAN, 1], [INF, -INF], [1e308] * 2, ["a"], [None])),
    **calls("confidence", lambda x: zoo.mean_and_std([1, 2], confidence=x), (NAN, 0, 1, "a", None)),
    **calls(
        "mix",
        lambda images: mix(images, LABELS, zoo.Mixing()),
        (IMAGES.long(), IMAGES.bool(), IMAGES + 0j, IMAGES[0], IMAGES[..., :0]),
    ),
    **calls("orientation_pattern", zoo.viz.orientation_pattern, (NAN, INF, 64.5, 63, "64", None)),
    **calls("filters drawn", lambda i: zoo.viz.plot_filters(CONV, indices=[i]), (NAN, 1.5, 8, "1")),
    "images without pixels": lambda: zoo.viz.plot_images(IMAGES[..., :0]),
    "paired_difference": lambda: zoo.paired_difference([NAN], [1.0]),
    "compare probabilities of NaN": lambda: zoo.compare(predictions(EVEN * NAN), predictions(EVEN)),
    "compare labels outside": lambda: zoo.compare(*2 * [predictions(EVEN, LABELS + 77)]),
    "compare one dimension": lambda: zoo.compare(*2 * [predictions(EVEN[0])]),
    "compare shares that are none": lambda: zoo.compare(*2 * [predictions(EVEN * 2)]),
    "save_weights": lambda: zoo.save_weights("none", "a.safetensors"),  # type: ignore[arg-type]
    "transfer_classifier": lambda: zoo.transfer_classifier(
        "none",  # type: ignore[arg-type]
        head="fc",
        trainable=(),
        preprocess=zoo.Preprocess(),
    ),
    "labels without a dimension": lambda: zoo.evaluate(Net(), [(IMAGES, torch.tensor(1))]),
    "images without a dimension": lambda: zoo.evaluate(Net(), [(torch.tensor(1.0), LABELS)]),
    **calls("memory_limit_bytes", features, (NAN, INF, -1, "3", None)),
    "sparse images, forward": lambda: zoo.build_model("tiny_m")(SPARSE),
    "labels of no dimension": lambda: zoo.viz.plot_reliability(EVEN, LABELS[0]),
    **{f"sparse images, {name}": partial(f, SPARSE) for name, f in TAKERS.items()},
    **{f"meta images, {name}": partial(f, IMAGES.to("meta")) for name, f in TAKERS.items()},
    "nested images": lambda: evaluated(nested()),
    "sparse probabilities": lambda: VIZ.plot_reliability(EVEN.to_sparse(), LABELS),
    "labels that are text": lambda: VIZ.plot_reliability(EVEN, "abcd"),
    "images of one byte": lambda: VIZ.plot_images(IMAGES.to(torch.float8_e5m2)),
    "no images to augment": lambda: VIZ.plot_augmentation(None, zoo.Augmentation()),
    "a title that is none": lambda: VIZ.plot_images(IMAGES, title=5),
    "a layer without a name": lambda: VIZ.plot_activations(Net(), IMAGES[0], None),
    **calls("device", lambda name: zoo.evaluate(Net(), loader(), device=name), (None, 1.5, True)),
    **calls("callbacks", lambda x: zoo.fit(Net(), LOADERS, callbacks=x), ([3], [None], 5, None)),
    **calls("recipe", lambda x: zoo.train("resnet20", data=LOADERS, recipe=x), ("x", 3)),
    **calls("frozen", lambda x: zoo.feature_loaders(x, LOADERS), (None, "resnet20")),
    **calls("features of", features_of, (None, [])),
    "features of NaN": lambda: features_of(IMAGES.float() * NAN),
    "features of one number": lambda: features_of(torch.tensor(1.0)),
    "sparse labels": lambda: loader(labels=LABELS.to_sparse()),
    "convolve2d sparse": lambda: zoo.convolve2d(torch.eye(3).to_sparse(), torch.eye(3)),
    "convolve2d uint64": lambda: zoo.convolve2d(torch.tensor([[2**63]], dtype=torch.uint64), [[1]]),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_makes_no_sense_is_an_error_of_our_own(name: str) -> None:
    with pytest.raises(zoo.CifarZooError):
        CALLS[name]()


@pytest.mark.parametrize("labels", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_of_every_whole_type_are_taken(labels: torch.dtype) -> None:
    score: Any = zoo.evaluate(Net(), [(IMAGES, LABELS.to(labels))])
    assert score.n == 4


BAD_PATHS = ("~nobody-here/x", "x" * 5000, "a/" * 3000, "nul\0byte", 5)
TAKE_PATHS: dict[str, Callable[[Any], object]] = {
    "cifar10_loaders": lambda path: zoo.cifar10_loaders(root=path, download=False),
    "build_model": lambda path: zoo.build_model("resnet20", weights=path),
    "save_weights": lambda path: zoo.save_weights(Net(), path),
    "fit": lambda path: zoo.fit(Net(), zoo.Loaders(loader(), None), checkpoint=path),
}


@pytest.mark.parametrize("path", BAD_PATHS, ids=("user", "name", "folders", "nul", "number"))
@pytest.mark.parametrize("name", TAKE_PATHS)
def test_what_no_system_takes_as_a_path_is_told_briefly(name: str, path: object) -> None:
    with pytest.raises(zoo.OptionError) as caught:
        TAKE_PATHS[name](path)
    message = str(caught.value)
    assert len(message) < 400
    assert repr(path)[:20] in message


def test_the_folder_that_a_variable_names_is_judged_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CIFARZOO_DATA", "~nobody-here/x")
    with pytest.raises(zoo.OptionError, match="CIFARZOO_DATA is '~nobody-here/x'"):
        zoo.cifar10_loaders(download=False)


def test_a_checkpoint_may_lie_in_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe = zoo.Recipe(epochs=1, batch_size=2)
    loaders = zoo.Loaders(loader(), None)
    zoo.fit(Net(), loaders, recipe, checkpoint="~/a.pt", progress=False)
    assert (tmp_path / "a.pt").is_file()
