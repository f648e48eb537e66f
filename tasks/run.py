"""`Run`: one audit at work. What was found out before it started, once; and the networks that its stages share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from cfx.attributes.oracle import Oracle, OracleConfig
from cfx.attributes.words import AnyOracle, WordsOracleConfig
from cfx.beside import look_beside
from cfx.classifiers import AnyClassifier, ClassifierConfig
from cfx.diffusion.ddpm import DDPM
from cfx.errors import UserError
from cfx.transfers import to_device
from cfx.types import Classifier
from tasks.advice.words_check import Worded
from tasks.black_boxes import answers_of
from tasks.config import AuditConfig
from tasks.networks import classifier_for, denoiser_for, fingerprint, kept, oracle_for
from tasks.understood import Understood


def _same(network: object) -> object:
    return network


@dataclass(frozen=True)
class Run:
    """One audit: its configuration, and what checking it found out (see `tasks.check.check`). Travels to other processes."""

    config: AuditConfig
    id: str
    device: str
    classes: tuple[str, ...]
    fingerprints: Mapping[str, str | None]  # SHA-256 of classifier, judge, oracle, prior, data, networks that measure
    prior: Path | None  # the folder where the prior is, or will be once it is trained
    warnings: tuple[str, ...] = ()
    sample: str | None = None  # how the images were chosen from the table, where they are not all of it
    labels: Mapping[str, str | None] = field(default_factory=dict)  # class by the table's label, where `check` matched them
    words: tuple[Worded, ...] = ()  # of an oracle by words: how its attributes were calibrated
    understood: Understood | None = None  # for people, before the audit starts

    @property
    def root(self) -> Path:
        """The warehouse."""
        return self.config.warehouse

    def classifier(self) -> Classifier:
        """The classifier under audit. Raises UserError if it is no longer the one that was checked."""
        return self._classifier("classifier", self.config.classifier)

    def judge(self) -> Classifier | None:
        """The second classifier of the same task, if there is one."""
        return None if self.config.judge is None else self._classifier("judge", self.config.judge)

    def oracle(self) -> Oracle:
        """The network that names attributes. Only for an audit that has one."""
        config = self.config.oracle
        assert config is not None

        def load() -> Oracle:
            look_beside(self.config.folder)
            oracle = oracle_for(config, self.device)
            self._unchanged("oracle", oracle.network)
            return oracle

        return kept(self._key("oracle", config), load)

    def denoiser(self) -> DDPM:
        """The prior. Only for an audit that has one, once it is trained."""
        folder, config = self.prior, self.config.prior
        assert folder is not None and config is not None
        key = "prior", str(folder), self.fingerprints["prior"], self.device, config.runtime, config.precision
        return kept(key, lambda: denoiser_for(folder, self.device, config.runtime, config))

    def surrogate(self, weights: Path) -> Classifier:
        """The network that was distilled from this run's black box."""
        config = ClassifierConfig(weights=weights)
        return kept(("surrogate", self.id, str(weights), self.device), lambda: classifier_for(config, self.device))

    def batched(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """What a network answers to x (N, 3, H, W), in batches of `batch_size` on the run's device; on the CPU again."""
        return torch.cat([network(to_device(part, self.device)) for part in x.split(self.config.batch_size)]).cpu()

    def probabilities(self, x: Tensor) -> Tensor:
        """The classifier's (N, K) probabilities for x (N, 3, H, W) in [-1, 1]; no gradient."""
        classifier = self.classifier()
        if not len(x):
            return torch.zeros(0, len(self.classes))
        with torch.no_grad():
            return self.batched(lambda part: classifier(part).softmax(1), x)

    def _classifier(self, role: str, config: AnyClassifier) -> Classifier:
        black = not isinstance(config, ClassifierConfig)
        answers = answers_of(self.root, self.id) if black else None

        def load() -> Classifier:
            look_beside(self.config.folder)
            network = classifier_for(config, self.device, answers)
            self._unchanged(role, network)
            return network

        return kept(self._key(role, config), load)

    def _key(self, role: str, config: AnyClassifier | AnyOracle) -> Hashable:
        """What a network is kept under. A black box belongs to its run's ledger: two connections would query twice as much."""
        ledger = None if isinstance(config, ClassifierConfig | OracleConfig | WordsOracleConfig) else self.id
        return type(config).__name__, config.model_dump_json(), self.fingerprints[role], ledger, self.device

    def keep(self, classifier: Classifier, judge: Classifier | None, oracle: Oracle | None) -> None:
        """Take over the networks that checking loaded; a black box is connected to again, by its run's ledger."""
        loaded = (("classifier", self.config.classifier, classifier), ("judge", self.config.judge, judge))
        for role, config, network in loaded:
            if isinstance(config, ClassifierConfig):
                kept(self._key(role, config), partial(_same, network))
        if self.config.oracle is not None:
            kept(self._key("oracle", self.config.oracle), partial(_same, oracle))

    def _unchanged(self, role: str, network: nn.Module | Classifier) -> None:
        """Raises UserError if a network loaded now is not the one that was checked."""
        if fingerprint(network) != self.fingerprints[role]:
            raise UserError(f"{role}: its weights changed while run {self.id!r} was at work; start the audit again")
