from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from cifarzoo import (
    ImageClassifier,
    Loaders,
    Predictions,
    TensorLoader,
    compare,
    evaluate,
    predict,
)
from cifarzoo.data.image_file import Images
from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.evaluation.predict import batches_to, compute_logits
from cifarzoo.recipe import TtaName

CPU = torch.device("cpu")
IMAGES = torch.rand(7, 3, 8, 8)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0])


class Means(nn.Module):
    """A model whose logits are a function of the mean of each colour."""

    def __init__(self, change: Callable[[Tensor], Tensor] = lambda logits: logits) -> None:
        super().__init__()
        self.change = change

    @override
    def forward(self, images: Tensor) -> Tensor:
        return self.change(images.mean((2, 3)))


def test_predictions_for_a_tensor_and_a_loader_are_the_same() -> None:
    alone = predict(Means(), IMAGES)
    both = predict(Means(), [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])])
    torch.testing.assert_close(alone.probabilities, IMAGES.mean((2, 3)).softmax(1))
    torch.testing.assert_close(alone.probabilities, both.probabilities)
    assert alone.labels is None
    assert both.labels is not None
    assert torch.equal(both.labels, LABELS)
    assert torch.equal(both.classes, IMAGES.mean((2, 3)).argmax(1))


PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
EXPECTED = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255


def _pictures() -> list[Image.Image]:
    return [Image.fromarray(each) for each in PIXELS]


@pytest.mark.parametrize(
    "several",
    [
        PIXELS,
        PIXELS[:, ::-1, ::-1][:, ::-1, ::-1],
        PIXELS.transpose(0, 3, 1, 2),
        PIXELS / 255,
        PIXELS.transpose(0, 3, 1, 2).astype(np.float32) / 255,
        list(PIXELS),
        _pictures(),
        tuple(EXPECTED),
        [PIXELS[0], _pictures()[1], EXPECTED[2]],
        [PIXELS[:2], PIXELS[2]],
    ],
)
def test_arrays_and_pictures_are_images(several: Any) -> None:  # noqa: ANN401
    found = predict(Means(), several)
    torch.testing.assert_close(found.probabilities, EXPECTED.mean((2, 3)).softmax(1))
    assert found.labels is None


def test_float_arrays_of_another_size_are_resized_as_their_files() -> None:
    picture = np.zeros((64, 40, 3), np.uint8)
    picture[:32, :, 0] = picture[32:, :20, 2] = 200
    for large in (picture, picture[..., 0]):
        expected = predict(Means(), large).probabilities
        assert torch.equal(predict(Means(), large / 255).probabilities, expected)
    with pytest.raises(InvalidValueError, match=r"\[0, 200\]: expected \[0, 1\]"):
        predict(Means(), picture.astype(np.float32))


@pytest.mark.parametrize("kind", ["array", "channels first", "tensor", "picture", "str", "path"])
def test_a_single_image_is_a_batch_of_one(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    _pictures()[0].save(path)
    kinds: dict[str, Any] = {
        "array": PIXELS[0],
        "channels first": PIXELS[0].transpose(2, 0, 1),
        "tensor": EXPECTED[0],
        "picture": _pictures()[0],
        "str": str(path),
        "path": path,
    }
    for one in (kinds[kind], [kinds[kind]]):
        found = predict(Means(), one).probabilities
        torch.testing.assert_close(found, EXPECTED[:1].mean((2, 3)).softmax(1))


@pytest.mark.parametrize("size", [None, 48, (64, 64)])
def test_pictures_are_cropped_and_resized_to_the_size_of_the_model(size: object) -> None:
    photo = np.zeros((60, 200, 3), np.uint8)
    photo[:, 70:130] = 255
    model, shapes = Means(), []
    model.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    model.image_size = size  # type: ignore[assignment]
    several: list[Images] = [
        photo,
        Image.fromarray(photo),
        [photo, Image.new("RGB", (7, 9), "white")],
    ]
    for data in several:
        found = predict(model, data).probabilities
        torch.testing.assert_close(found, torch.full_like(found, 1 / 3))
    assert {shape[1:] for shape in shapes} == {(3, 48, 48) if size == 48 else (3, 32, 32)}
    grey = predict(Means(lambda logits: logits * torch.tensor([1, 2, 3])), photo[..., 0])
    torch.testing.assert_close(grey.probabilities[0], torch.tensor([1.0, 2, 3]).softmax(0))


class Named(Means):
    """A model that knows the names of its classes."""

    class_names = ("red", "green", "blue")


def test_names_come_from_the_data_or_else_the_model() -> None:
    pixels, labels = (EXPECTED * 255).to(torch.uint8), torch.tensor([0, 1, 2])
    data = TensorLoader(pixels, labels, classes=("r", "g", "b"))
    dataset: Any = TensorDataset(EXPECTED, labels)
    dataset.classes = ["R", "G", "B"]
    for source, names in (
        (data, ("r", "g", "b")),
        (DataLoader(dataset), ("R", "G", "B")),
        ([(EXPECTED, labels)], ("red", "green", "blue")),
    ):
        found, score = predict(Named(), source), evaluate(Named(), source)
        assert found.class_names == score.class_names == names
        assert found.names == tuple(names[i] for i in found.classes)
        assert (names[1], f"{score.per_class[1]:.2%}") in score.table().rows
    other = TensorLoader(pixels, labels, classes=("r", "g", "b", "a"))
    assert predict(Named(), other).class_names == ("red", "green", "blue")
    for function in (evaluate, partial(compare, Named())):
        with pytest.raises(InvalidValueError, match="model has 3 classes and the data 4"):
            function(Named(), data=other)
    assert predict(Means(), EXPECTED).class_names is None
    assert predict(Means(), EXPECTED[:1]).names == (str(int(EXPECTED[0].mean((1, 2)).argmax())),)


def test_predictions_show_themselves() -> None:
    labels = torch.tensor([0, 1, 2, 0])
    found = Predictions(
        probabilities=torch.eye(3)[[0, 1, 1, 0]], labels=labels, class_names=Named.class_names
    )
    assert repr(found) == "Predictions(4 images, 3 classes, accuracy 75.00%)"
    assert found.table().rows[2] == ("2", "green", "100.00%", "blue")
    many = Predictions(probabilities=torch.eye(3).repeat(400, 1), labels=None)
    assert repr(many) == "Predictions(1,200 images, 3 classes)"
    assert many._repr_html_().count("<tr>") == 11


@pytest.mark.parametrize("function", [predict, evaluate])
def test_progress_bar_is_shown_on_a_terminal_after_a_second(
    function: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def slow(images: Tensor) -> Tensor:
        time.sleep(0.6)
        return images.mean((2, 3))

    data = [(IMAGES, LABELS)] * 3
    monkeypatch.setattr("cifarzoo.evaluation.predict.is_interactive", lambda: True)
    function(slow, data)
    assert "2/3" in capsys.readouterr().err
    function(slow, data, progress=False)
    function(Means(), data)
    monkeypatch.undo()
    function(slow, data)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("tta", ["none", "flip", "flip_translate"])
def test_predictions_agree_with_evaluate(
    model: ImageClassifier, loaders: Loaders, tta: TtaName
) -> None:
    found = predict(model, loaders.train, tta=tta)
    score = evaluate(model, loaders.train, tta=tta)
    assert found.labels is not None
    assert (found.classes == found.labels).float().mean().item() == pytest.approx(score.accuracy)
    chosen = found.probabilities.gather(1, found.labels[:, None])
    assert score.loss == pytest.approx(-chosen.log().mean().item(), rel=1e-5)


def test_logits_are_in_the_order_of_the_loader(model: ImageClassifier, loaders: Loaders) -> None:
    assert loaders.val is not None
    logits, labels = compute_logits(model, loaders.val, device=CPU, dtype=torch.float32)
    assert labels.tolist() == [i % 10 for i in range(20)]
    with torch.no_grad():
        parts = [model.eval()(images) for images, _ in loaders.val]
    torch.testing.assert_close(logits, torch.cat(parts))


def test_tensor_loader_is_moved_once(
    model: ImageClassifier, loaders: Loaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[object] = []

    def to(self: TensorLoader, device: torch.device) -> TensorLoader:
        moves.append(device)
        return self

    monkeypatch.setattr(TensorLoader, "to", to)
    evaluate(model, loaders.train, device="cpu")
    assert moves == [CPU]


def test_batches_are_channels_last() -> None:
    ((moved, _), (features, _)) = batches_to([(IMAGES, LABELS), (IMAGES.flatten(1), LABELS)], CPU)
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved, IMAGES)
    assert torch.equal(features, IMAGES.flatten(1))


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("tta", ["none", "flip"])
def test_logits_that_are_not_finite_are_rejected(number: float, tta: TtaName) -> None:
    broken = Means(lambda logits: logits.where(logits < 7, number))
    images = IMAGES.clone()
    images[3:5] = 7.0
    for function in (predict, evaluate):
        with pytest.raises(InvalidValueError, match="2 of 7 images are NaN or infinite"):
            function(broken, [(images, LABELS)], tta=tta)


def test_negative_infinity_excludes_a_class() -> None:
    found = predict(Means(lambda logits: logits.index_fill(1, LABELS[:1], -math.inf)), IMAGES)
    assert found.probabilities[:, 0].eq(0).all()
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(7))


@pytest.mark.parametrize(
    ("model", "data", "options", "error", "message"),
    [
        ("resnet20", IMAGES, {}, InvalidTypeError, "model is a str"),
        (Means, IMAGES, {}, InvalidTypeError, "model is a type"),
        (Means(), "cat.jpg", {}, InvalidValueError, r"cat\.jpg is not a file"),
        (Means(), [PIXELS[0], IMAGES[0]], {}, InvalidValueError, "have shapes"),
        (Means(), PIXELS[0].astype(object), {}, InvalidTypeError, "object"),
        (Means(), PIXELS[..., :2], {}, InvalidValueError, "shape"),
        (Means(), 3, {}, InvalidTypeError, "data is a int"),
        (Means(), Loaders([(IMAGES, LABELS)]), {}, InvalidTypeError, r"loaders\.test"),
        (Means(), [IMAGES], {}, InvalidTypeError, r"expected .* \[\(images, labels\)\]"),
        (Means(), [IMAGES.tolist()], {}, InvalidTypeError, "pair"),
        (Means(), [], {}, InvalidValueError, "empty"),
        (Means(), [(IMAGES[:0], LABELS[:0])], {}, InvalidValueError, r"shape \(0, 3, 8, 8\)"),
        (Means(lambda logits: logits[:, 0]), IMAGES, {}, InvalidValueError, "expected logits"),
        (nn.Conv2d(3, 2, 1), IMAGES.to(torch.uint8), {}, InvalidTypeError, "convert .* float32"),
        (Means(), IMAGES, {"tta": "flips"}, InvalidValueError, "did you mean 'flip'"),
        (Means(), IMAGES, {"precision": "float16"}, InvalidValueError, "precision"),
    ],
)
def test_errors_say_what_is_wrong(
    model: Any,  # noqa: ANN401
    data: Any,  # noqa: ANN401
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        predict(model, data, **options)
