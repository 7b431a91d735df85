"""Small, typed CIFAR models in PyTorch, with weights, recipes and honest numbers.

Public names are listed in `__init__.pyi` and imported on first use, so `import cifarzoo` is fast.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
__version__ = "0.2.0"
