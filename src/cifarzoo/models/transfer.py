"""The report's transfer model (task 4): ImageNet's ResNet-18, its last stage and head trained.

ResNet-18 is arXiv 1512.03385, table 1, as torchvision builds it, with the weights that torchvision
publishes. All of it is frozen but `layer4` and the new `fc`. The mechanism is in `backbone`.
"""

from __future__ import annotations

from cifarzoo.models.backbone import BackboneWeights, TransferClassifier, transfer_classifier
from cifarzoo.models.classifier import Preprocess
from cifarzoo.spec import EarlyStopping, ModelCard, Recipe

__all__ = [
    "CARDS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "RESNET18_IMAGENET",
    "resnet18_transfer",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

RESNET18_IMAGENET = BackboneWeights(
    tag="imagenet",
    url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
    sha256="f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    size_bytes=46_830_571,
)


def resnet18_transfer(num_classes: int = 10) -> TransferClassifier:
    """Build the report's transfer model, with random weights.

    Args:
        num_classes: length of the logits, 1 or more.

    Returns:
        A classifier of images (N,3,32,32): logits (N,num_classes). Of its 11,181,642 parameters
        `layer4` (8,393,728) and `fc` (5,130) are trainable.
    """
    from torchvision.models import resnet18

    return transfer_classifier(
        resnet18(weights=None),
        preprocess=Preprocess(IMAGENET_MEAN, IMAGENET_STD, size=224),
        trainable=("layer4", "fc"),
        head="fc",
        num_classes=num_classes,
        published=(RESNET18_IMAGENET,),
    )


CARDS = (
    ModelCard(
        name="resnet18_transfer",
        family="transfer",
        summary="ImageNet's ResNet-18 at 224 pixels, its last stage and head trained.",
        builder=resnet18_transfer,
        recipe=Recipe(
            epochs=10,
            batch_size=32,
            optimizer="adam",
            lr=5e-4,
            checks_per_epoch=2,
            early_stopping=EarlyStopping(patience=4),
        ),
        initial_weights=RESNET18_IMAGENET.tag,
        paper="arXiv 1512.03385, table 1",
    ),
)
