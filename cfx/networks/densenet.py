"""The classifiers of DiME, ACE and STEEX: a DenseNet121 whose features feed one linear layer.

Files in this layout (CelebA's `classifier.pth` with the parts `feat_extract` and `classifier`; the `checkpoint.tar` of CelebA-HQ
and BDD with `model_state_dict`) name their weights alike, so one network reads them all. They see [-1, 1].
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import densenet121


class _Features(nn.Module):
    """torchvision's DenseNet121 up to its pooled features, (B, 3, H, W) to (B, 1024)."""

    def __init__(self) -> None:
        super().__init__()
        self.feat_extract = densenet121(weights=None)
        self.feat_extract.classifier = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.feat_extract(x)
        return features


class DenseNet121(nn.Module):
    """(B, 3, H, W) in [-1, 1] to logits (B, outputs), any H and W from 32 up.

    CelebA has 40 outputs in the order of its annotations (20 Male, 31 Smiling, 39 Young), CelebA-HQ 3 (Male, Smiling, Young),
    BDD 4 (0 move forward); each is the log-odds of yes: pick one with `output` and `head: sigmoid`.
    """

    def __init__(self, outputs: int = 40) -> None:
        super().__init__()
        self.feat_extract = _Features()
        self.classifier = nn.Linear(1024, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] to logits (B, outputs)."""
        logits: Tensor = self.classifier(self.feat_extract(x))
        return logits
