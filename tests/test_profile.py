import pytest
import torch
from torch import nn

from releq_gym.networks import network_layers
from releq_gym.quantizers import make_quantizer, sqnr_db

WRPN = make_quantizer("wrpn")


def only_layer(module, *input_shape):
    (layer,) = network_layers(module, input_shape, WRPN)
    return layer


def facts(layer):
    return layer.kind, layer.stride, layer.output_positions, layer.macs


@pytest.mark.parametrize(
    ("module", "input_shape", "expected"),
    [
        (nn.Conv1d(3, 4, 5, stride=2), (3, 11), ("conv", 2, 4, 4 * 60)),
        (nn.Conv2d(3, 4, 3, stride=2, padding=1), (3, 8, 8), ("conv", 4, 16, 16 * 108)),
        (nn.Conv3d(2, 4, 2), (2, 3, 4, 5), ("conv", 1, 24, 24 * 64)),
        (nn.Conv2d(4, 8, 3, groups=2), (4, 5, 5), ("conv", 1, 9, 9 * 144)),
        (nn.Conv2d(4, 8, 3, groups=4), (4, 5, 5), ("depthwise", 1, 9, 9 * 72)),
        (nn.Conv2d(1, 8, 3), (1, 5, 5), ("conv", 1, 9, 9 * 72)),
        # 4x4 inputs each meet every weight once; the output is 9x9.
        (nn.ConvTranspose2d(3, 5, 3, stride=2), (3, 4, 4), ("transposed", 4, 81, 16 * 135)),
        (nn.ConvTranspose1d(4, 6, 2, groups=2), (4, 7), ("transposed", 1, 8, 7 * 24)),
        (nn.Linear(6, 5), (6,), ("linear", 1, 1, 30)),
        (nn.Linear(6, 5), (7, 2, 6), ("linear", 1, 14, 14 * 30)),
    ],
    ids=str,
)
def test_kind_stride_positions_and_macs(module, input_shape, expected):
    layer = only_layer(module, *input_shape)
    assert facts(layer) == expected
    assert layer.weight_shape == tuple(module.weight.shape)
    assert layer.weight_std == pytest.approx(module.weight.std(correction=0).item(), rel=1e-5)


def test_sqnr_uses_the_output_axis_of_a_transposed_convolution():
    quantizer = make_quantizer("uniform", per_channel=True)
    module = nn.ConvTranspose2d(3, 5, 3)
    (layer,) = network_layers(module, (3, 4, 4), quantizer)
    assert layer.sqnr_db == sqnr_db(module.weight.detach(), quantizer, axis=1)
    assert layer.sqnr_db != sqnr_db(module.weight.detach(), quantizer, axis=0)


class Tangled(nn.Module):
    """Executes in another order than it defines; one layer twice, one never."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.shared = nn.Linear(8, 8)
        self.unused = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.stem = nn.Conv1d(1, 2, 1)
        self.alias = self.shared

    def forward(self, images):
        features = self.stem(images).mean(1)
        return self.head(self.shared(self.norm(self.alias(features))))


def test_layers_come_in_order_of_execution_and_shared_ones_once():
    layers = network_layers(Tangled(), (1, 8), WRPN)
    assert [layer.name for layer in layers] == ["stem", "shared", "head"]
    assert [layer.macs for layer in layers] == [16, 2 * 64, 24]
    assert [layer.output_positions for layer in layers] == [8, 2, 1]


def test_the_module_is_left_as_it_was():
    module = Tangled()
    module.norm.eval()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    network_layers(module, (1, 8), WRPN)
    assert module.training and module.head.training and not module.norm.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert not module.head._forward_hooks
    assert module.head.weight.grad is None


def test_net_without_such_layers_is_refused():
    with pytest.raises(ValueError, match="Sequential executes no layer that can be quantized"):
        network_layers(nn.Sequential(nn.ReLU()), (3,), WRPN)


def test_input_of_the_wrong_shape_is_refused_and_hooks_are_removed():
    module = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(ValueError, match=r"cannot take one input of shape \(5,\)"):
        network_layers(module, (5,), WRPN)
    assert not module[0]._forward_hooks and module.training


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(bad):
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        module[1].weight[0, 0] = bad
    with pytest.raises(ValueError, match="layer '1' hold NaN or infinity"):
        network_layers(module, (4,), WRPN)
