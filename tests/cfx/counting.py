"""A network that counts: what was evaluated, what was back-propagated, what is being kept for the backward pass."""

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from cfx.diffusion.ddpm import DDPM, Schedule
from tests.toys import GaussianNetwork


class CountedNetwork(nn.Module):
    """The Gaussian network, counting images forward and vector-Jacobian products, and the activations alive at each forward."""

    def __init__(self, mean: float = 0.0, variance: float = 0.25) -> None:
        super().__init__()
        self.network = GaussianNetwork(mean, variance)
        self.forwards = self.backwards = self.most_alive = 0
        self._activations: list[StorageWeakRef] = []

    def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
        self.forwards += len(z)
        self.most_alive = max(self.most_alive, sum(not kept.expired() for kept in self._activations))
        if not (z.requires_grad and torch.is_grad_enabled()):
            return self.network(z, timesteps)
        z = z.view_as(z)
        z.register_hook(self._passed)
        bent = z.tanh()  # keeps its own result for the backward pass
        self._activations.append(StorageWeakRef(bent.untyped_storage()))
        return self.network(z, timesteps) + 0 * bent

    def _passed(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def counted_prior(steps: int = 50, clip: bool = True, variance: float = 0.25) -> tuple[DDPM, CountedNetwork]:
    """The Gaussian prior of the toys, and the network that counts its work."""
    network = CountedNetwork(variance=variance)
    return DDPM(network, Schedule(prediction_type="sample"), channels=3, steps=steps, clip=clip), network
