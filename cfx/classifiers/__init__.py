"""Classifiers under audit and their judges: adapters to one contract, `cfx.types.Classifier`."""

from cfx.classifiers.access import AnyClassifier, BlackBoxes, load_black_box, named
from cfx.classifiers.black_box import BlackBox
from cfx.classifiers.torch_module import ClassifierConfig, TorchClassifier, load_classifier

__all__ = [
    "AnyClassifier",
    "BlackBox",
    "BlackBoxes",
    "ClassifierConfig",
    "TorchClassifier",
    "load_black_box",
    "load_classifier",
    "named",
]
