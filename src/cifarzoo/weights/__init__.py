"""Finds, verifies and loads weights: of the package, of a file, or a published backbone's.

The weights that come with the package lie in this folder, each file beside its description.
"""

from cifarzoo.models.state import read_state_dict, save_weights
from cifarzoo.weights.download import download_backbone
from cifarzoo.weights.hashes import sha256_of, verify
from cifarzoo.weights.loading import holds_backbone_alone, load_weights
from cifarzoo.weights.packaged import (
    LIMIT_BYTES,
    packaged_file,
    packaged_folder,
    packaged_weights,
    write_description,
)

__all__ = [
    "LIMIT_BYTES",
    "download_backbone",
    "holds_backbone_alone",
    "load_weights",
    "packaged_file",
    "packaged_folder",
    "packaged_weights",
    "read_state_dict",
    "save_weights",
    "sha256_of",
    "verify",
    "write_description",
]
