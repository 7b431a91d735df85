"""Models in files that other programs run: ONNX, with float or 8-bit weights, and torch.export.

The file contains the preprocessing: it maps images (N,3,32,32), uint8 or float32 in [0, 1], to
logits (N,K). Networks for another size of images, which the preprocessing does not resize, take
that size.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from pydantic import InstanceOf
from torch import Tensor, nn
from torch.export import ExportedProgram
from typing_extensions import override

import cifarzoo
from cifarzoo.data.loader import Loaders, TensorLoader
from cifarzoo.errors import InvalidTypeError, InvalidValueError, MissingExtraError
from cifarzoo.evaluation.evaluate import evaluate
from cifarzoo.files import replace_file
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.record import Evaluation
from cifarzoo.registry import packaged_weights_of
from cifarzoo.validation import expand_path, validate

if TYPE_CHECKING:
    import onnx
    import onnxruntime

__all__ = ["OPSET", "Exported", "to_onnx", "to_onnx_int8", "to_torch_export"]

Batch: TypeAlias = int | Literal["dynamic"]
Images: TypeAlias = Literal["uint8", "float"]
DType: TypeAlias = Literal["float32", "float16"]

OPSET = 18  # version of ONNX's operators
SIDE = 32  # of CIFAR's images, in pixels
CALIBRATION_IMAGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An exported model.

    Attributes:
        path: the file.
        largest_difference: the largest difference of a logit from the model's, on random images;
            None if ONNX Runtime is not installed.
        test: the file's score on the test images, if they were given.
        metadata: text by key, which is also in the file: version of cifarzoo, precision, model,
            JSON list of the classes; for weights in the package, their recipe, data and SHA-256.
            The accuracy on the test set, in [0, 1], and its 95 % interval are those of the weights
            in a float32 file, and those of `test` in an int8 file.
    """

    path: Path
    largest_difference: float | None
    test: Evaluation | None
    metadata: Mapping[str, str]


def to_onnx(
    model: ImageClassifier,
    path: str | Path,
    *,
    batch: Batch = "dynamic",
    images: Images = "uint8",
    dtype: DType = "float32",
) -> Exported:
    """Write a model to an ONNX file, with input "images" and output "logits".

    Args:
        model: the model, which is not changed; exported in evaluation mode.
        path: the file, with the suffix ".onnx"; replaced if it exists.
        batch: number of images per call, or "dynamic" for any.
        images: "uint8", or "float" for float32 in [0, 1], which is not checked but clamped.
        dtype: precision of the weights and the computation; logits are float32.

    Returns:
        The file, its metadata, and how much its logits differ from the model's.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted.
        MissingExtraError: onnx or onnxscript is not installed.
    """
    validate("dtype", dtype, DType)
    path = _check(model, path, ".onnx", batch, images)
    metadata = _metadata(model, dtype)
    content = _onnx_of(model, batch, images, getattr(torch, dtype))
    _write(path, content, metadata)
    return _verified(model, path, batch, images, metadata)


def to_onnx_int8(
    model: ImageClassifier,
    path: str | Path,
    loaders: Loaders,
    *,
    batch: Batch = "dynamic",
    images: Images = "uint8",
) -> Exported:
    """Write a model to an ONNX file with 8-bit weights and activations.

    The ranges of activations are those of the first 1,000 training images (ONNX Runtime's static
    quantization). The file is about a quarter as large, and loses some accuracy.

    Args:
        model: as in `to_onnx`.
        path: as in `to_onnx`.
        loaders: `train` is a `TensorLoader`; `test`, if any, scores the file.
        batch: as in `to_onnx`.
        images: as in `to_onnx`.

    Returns:
        The file, its metadata, its score, and how much its logits differ from the model's.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted.
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
    """
    validate("loaders", loaders, InstanceOf[Loaders])
    if not isinstance(loaders.train, TensorLoader):
        kind = type(loaders.train).__name__
        raise InvalidTypeError(f"loaders.train is a {kind}: expected a TensorLoader")
    path = _check(model, path, ".onnx", batch, images)
    metadata = _metadata(model, "int8")
    content = _onnx_of(model, batch, images, torch.float32)
    size = 100 if batch == "dynamic" else batch
    rows = loaders.train.images[: max(size, CALIBRATION_IMAGES // size * size)].cpu()
    if len(rows) < size:
        raise InvalidValueError(f"batch is {size}: expected at most {len(rows)} training images")
    parts = [_as(images, part).numpy() for part in torch.split(rows, size) if len(part) == size]
    quantized = _quantize(content, parts)
    test = None
    if loaders.test is not None:
        test = evaluate(_session(quantized.SerializeToString()), loaders.test, progress=False)
        metadata |= _accuracy(test)
    _write(path, quantized, metadata)
    return _verified(model, path, batch, images, metadata, test)


def to_torch_export(
    model: ImageClassifier,
    path: str | Path,
    *,
    batch: Batch = "dynamic",
    images: Images = "uint8",
) -> Exported:
    """Write a model as a program of `torch.export`, which `torch.export.load` reads.

    The metadata is in the extra file "metadata.json".

    Args:
        model: as in `to_onnx`.
        path: the file, with the suffix ".pt2"; replaced if it exists.
        batch: as in `to_onnx`.
        images: as in `to_onnx`.

    Returns:
        The file, its metadata, and how much its logits differ from the model's.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted.
    """
    path = _check(model, path, ".pt2", batch, images)
    metadata = _metadata(model, "float32")
    program = _traced(model, batch, images, torch.float32)
    extra = {"metadata.json": json.dumps(metadata)}
    with replace_file(path) as file:
        torch.export.save(program, file, extra_files=extra)
    return _verified(model, path, batch, images, metadata)


def _check(model: object, path: str | Path, suffix: str, batch: object, images: Images) -> Path:
    if not isinstance(model, ImageClassifier):
        kind = type(model).__name__
        raise InvalidTypeError(
            f"model is a {kind}: expected an ImageClassifier, such as "
            "ImageClassifier(Preprocess(), network)"
        )
    if isinstance(batch, bool) or not isinstance(batch, Integral | str):
        raise InvalidTypeError(f"batch is {batch!r}: expected 'dynamic', or an integer")
    if batch != "dynamic" and (isinstance(batch, str) or int(batch) < 1):
        raise InvalidValueError(f"batch is {batch!r}: expected 'dynamic', or 1 or more")
    validate("images", images, Images)
    path = expand_path("path", path)
    if path.suffix != suffix or path.is_dir():
        kind = "a folder" if path.is_dir() else f"without {suffix}"
        raise InvalidValueError(f"path is {path}, {kind}: expected the name of a file *{suffix}")
    return path


def _metadata(model: ImageClassifier, precision: str) -> dict[str, str]:
    """Return what is known about a model and its weights; accuracies hold for float32."""
    found = {"cifarzoo": cifarzoo.__version__, "precision": precision}
    if model.class_names is not None:
        found["classes"] = json.dumps(model.class_names)
    if model.name is not None:
        found["model"] = model.name
    if weights := packaged_weights_of(model):
        found |= {"recipe": weights.tag, "data": weights.data, "weights_sha256": weights.sha256}
        if precision == "float32" and weights.run.test is not None:
            found |= _accuracy(weights.run.test)
    return found


def _accuracy(test: Evaluation) -> dict[str, str]:
    low, high = test.interval
    interval = f"{low:.4f} to {high:.4f}"
    return {"accuracy": f"{test.accuracy:.4f}", "accuracy_interval": interval}


class _Network(nn.Module):
    """A copy of a model in another precision, with float32 logits."""

    def __init__(self, model: ImageClassifier, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().to(dtype)

    @override
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits.float()


def _traced(
    model: ImageClassifier, batch: Batch, images: Images, dtype: torch.dtype
) -> ExportedProgram:
    # An example with one image would fix the batch size.
    example = _random_images(model, 2 if batch == "dynamic" else batch, images)
    network, shapes = _Network(model, dtype).eval(), _shapes(batch)
    try:
        found = torch.export.export(network, (example,), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # depends on the network's code
        reason = str(error).partition("\n")[0]
        raise InvalidValueError(
            f"torch.export cannot trace the network with batch={batch!r}: {reason}"
        ) from error
    for node in found.graph.nodes:
        node.meta.pop("stack_trace", None)  # names paths on this machine
    return found


def _shapes(batch: Batch) -> Any:  # noqa: ANN401
    return ({0: torch.export.Dim("batch", min=1)},) if batch == "dynamic" else None


def _onnx_of(
    model: ImageClassifier, batch: Batch, images: Images, dtype: torch.dtype
) -> onnx.ModelProto:
    with _extra():
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    traced = _traced(model, batch, images, dtype)
    with _quiet():
        program = torch.onnx.export(
            traced,
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=_shapes(batch),  # for the name of the dimension
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    content: onnx.ModelProto = program.model_proto
    graph = content.graph
    # The origin of each node takes half as many bytes as the weights of small models.
    for each in (*graph.input, *graph.output, *graph.initializer, *graph.node, *graph.value_info):
        each.ClearField("metadata_props")
    return content


def _quantize(content: onnx.ModelProto, batches: list[np.ndarray]) -> onnx.ModelProto:
    with _extra(), _quiet(), tempfile.TemporaryDirectory() as name:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
            remaining = iter(batches)

            def get_next(self) -> dict[str, np.ndarray] | None:
                batch = next(self.remaining, None)
                return None if batch is None else {"images": batch}

        folded, quantized = Path(name) / "folded.onnx", Path(name) / "quantized.onnx"
        quant_pre_process(content, folded)
        quantization.quantize_static(folded, quantized, Reader(), per_channel=True)
        found = onnx.load(quantized)
    used = {node.domain for node in found.graph.node}
    domains = [each for each in found.opset_import if each.domain in used]
    found.ClearField("opset_import")
    found.opset_import.extend(domains)
    return found


def _verified(
    model: ImageClassifier,
    path: Path,
    batch: Batch,
    images: Images,
    metadata: Mapping[str, str],
    test: Evaluation | None = None,
) -> Exported:
    """Run a file once, and compare its logits with the model's."""
    example = _random_images(model, 3 if batch == "dynamic" else batch, images)
    network = copy.deepcopy(model).cpu().float().eval()
    with torch.inference_mode():
        expected = network(example)
        found = None
        if path.suffix == ".pt2":
            found = torch.export.load(path).module()(example)
        else:
            with contextlib.suppress(MissingExtraError):
                session = _session(str(path))
                found = torch.from_numpy(session.run(None, {"images": example.numpy()})[0])
    difference = None if found is None else float((found - expected).abs().max())
    return Exported(path=path, largest_difference=difference, test=test, metadata=metadata)


def _session(model: str | bytes) -> onnxruntime.InferenceSession:
    with _extra():
        import onnxruntime

        return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def _random_images(model: ImageClassifier, n: int, images: Images) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    side = SIDE if model.preprocess.size else model.image_size or SIDE
    shape = (n, 3, side, side)
    return _as(images, torch.randint(256, shape, generator=generator, dtype=torch.uint8))


def _as(images: Images, pixels: Tensor) -> Tensor:
    pixels = pixels.contiguous()
    return pixels if images == "uint8" else pixels / 255


def _write(path: Path, content: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    import onnx

    onnx.helper.set_model_props(content, dict(metadata))
    with replace_file(path) as file:
        file.write(content.SerializeToString())


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(f'{error}: pip install "cifarzoo[export]"') from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the libraries' notes on their own deprecations and defaults."""
    logger = logging.getLogger()
    before = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(before)
