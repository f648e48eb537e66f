"""Classifiers under audit and their judges: adapters to one contract, `cfx.types.Classifier`."""

from cfx.classifiers.torch_module import ClassifierConfig, TorchClassifier, load_classifier

__all__ = ["ClassifierConfig", "TorchClassifier", "load_classifier"]
