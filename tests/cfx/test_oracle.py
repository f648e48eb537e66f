"""The oracle: named probabilities, and no name without an output."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cfx.attributes.oracle import OracleConfig, load_oracle
from cfx.networks.convnet import ConvNet


class Mean(nn.Module):
    """The mean of each colour channel as its logit."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


MEAN = f"{__name__}:Mean"
RGB = ("red", "green", "blue")


def test_probabilities_are_the_sigmoid_of_the_logits():
    oracle = load_oracle(OracleConfig(module=MEAN, attributes=RGB))
    x = torch.tensor([0.0, math.log(3), -math.log(3)]).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    torch.testing.assert_close(oracle(x), torch.tensor([[0.5, 0.75, 0.25]] * 2))
    torch.testing.assert_close(oracle.logits(x).sigmoid(), oracle(x))


def test_gradients_of_the_logits_reach_the_image():
    x = torch.zeros(1, 3, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(load_oracle(OracleConfig(module=MEAN, attributes=RGB)).logits(x)[:, 1].sum(), x)
    assert torch.equal(gradient[0, 1], torch.full((4, 4), 1 / 16)) and not gradient[0, 0].any()


def test_an_oracle_reads_weights_through_the_classifiers_door(tmp_path):
    network = ConvNet(3, (4, 8)).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    config = OracleConfig(
        weights=tmp_path / "weights.safetensors",
        module="cfx.networks.convnet:ConvNet",
        kwargs={"outputs": 3, "widths": [4, 8]},
        attributes=RGB,
        input_size=16,
    )
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(load_oracle(config)(x), network(x).sigmoid())


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (None, "set `attributes`, in the order of its outputs"),
        (("red", "green"), r"gives 3 logits for 2 attributes \(red, green\)"),
        (("red", "green", "red"), "every attribute needs a name of its own"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(attributes, message):
    with pytest.raises(ValueError, match=message):
        load_oracle(OracleConfig(module=MEAN, attributes=attributes))
