import pytest
import torch
from torch import nn

from releq_gym.layers import Layer
from releq_gym.networks import network_layers
from releq_gym.networks.profile import unquantized_parameters
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
        (nn.ConvTranspose1d(4, 4, 2, groups=4), (4, 7), ("transposed", 1, 8, 7 * 8)),
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


@pytest.mark.parametrize(
    ("module", "input_shape", "outputs", "inputs"),
    [
        (nn.Conv2d(6, 8, 3), (6, 4, 4), 8, 6),
        (nn.Conv2d(6, 8, 3, groups=2), (6, 4, 4), 8, 3),
        (nn.ConvTranspose2d(6, 8, 3), (6, 4, 4), 8, 6),
        (nn.ConvTranspose2d(6, 8, 3, groups=2), (6, 4, 4), 8, 3),
        (nn.ConvTranspose2d(6, 6, 3, groups=6), (6, 4, 4), 6, 1),
        (nn.Linear(6, 8), (6,), 8, 6),
    ],
    ids=str,
)
def test_dims_count_output_channels_and_the_inputs_that_one_of_them_sees(
    module, input_shape, outputs, inputs
):
    layer = only_layer(module, *input_shape)
    assert (layer.output_dim, layer.input_dim) == (outputs, inputs)
    assert layer.weights == layer.output_dim * layer.input_dim * layer.kernel_area
    assert Layer.from_dict(layer.to_dict()) == layer


def test_a_step_per_channel_of_a_grouped_transposed_convolution_is_refused():
    quantizer = make_quantizer("uniform", per_channel=True)
    module = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2))
    with pytest.raises(ValueError, match="Layer '0' is a transposed convolution of 2 channel"):
        network_layers(module, (4, 4, 4), quantizer)


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


class TiedPair(nn.Module):
    """A convolution and its transpose share a weight; the one defined last is executed first."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 2, 3)
        self.down = nn.Conv2d(2, 4, 3)
        self.up.weight = self.down.weight

    def forward(self, images):
        return self.up(self.down(images))


def test_modules_that_share_a_weight_are_one_layer_named_after_the_first_executed():
    (layer,) = network_layers(TiedPair(), (2, 5, 5), WRPN)
    assert layer.name == "down" and layer.kind == "conv"
    assert layer.output_positions == 9 + 25
    assert layer.weights == 72 and layer.macs == 2 * 9 * 72  # 9 positions between the two


def test_equal_weights_that_are_not_shared_are_two_layers():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].load_state_dict(module[0].state_dict())
    assert len(network_layers(module, (3,), WRPN)) == 2


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 3, 2, stride=2)
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.conv(input=self.up(input=images, output_size=(8, 8)))


def test_layers_called_by_keyword_are_profiled():
    up, conv = network_layers(Keywords(), (2, 4, 4), WRPN)
    assert (up.output_positions, up.macs) == (64, 16 * 24)
    assert (conv.output_positions, conv.macs) == (36, 36 * 108)


class Functional(nn.Module):
    """Whatever holds weights without being executed as a layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 8)
        self.position = nn.Parameter(torch.zeros(1, 3, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.by_function = nn.Linear(8, 8)
        self.head, self.tied = nn.Linear(8, 5), nn.Linear(8, 5, bias=False)
        self.tied.weight = self.embed.weight

    def forward(self, images):
        features = images + self.position
        features = self.attention(features, features, features)[0]
        features = nn.functional.linear(self.norm(features), self.by_function.weight)
        return self.head(features) + self.tied(features)


def test_parameters_that_no_layer_holds_are_named():
    module = Functional()
    layers = network_layers(module, (3, 8), WRPN)
    assert [layer.name for layer in layers] == ["head", "tied"]
    assert unquantized_parameters(module, layers) == (
        "position",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "by_function.weight",
    )
    assert unquantized_parameters(module, layers[:1])[:2] == ("position", "embed.weight")
    small = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    assert unquantized_parameters(small, network_layers(small, (3,), WRPN)) == ()


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


class TwoInputs(nn.Linear):
    def forward(self, one, other):
        return super().forward(one + other)


@pytest.mark.parametrize(
    ("module", "shape", "sentence"),
    [
        (nn.Sequential(TwoInputs(4, 4)), (4,), "cannot take one input of shape"),
        (nn.Sequential(nn.Flatten(2), nn.Linear(4, 4)), (4,), "cannot take one input of shape"),
        (nn.Sequential(nn.Linear(4, 4)), 4, "has to be a tuple of whole numbers"),
        (nn.Sequential(nn.Linear(4, 4)), (-4,), "has to be a tuple of whole numbers above 0"),
        (nn.Sequential(nn.Linear(4, 4)), (4.0,), "has to be a tuple of whole numbers"),
    ],
)
def test_what_cannot_be_executed_is_a_sentence(module, shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        network_layers(module, shape, WRPN)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(bad):
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        module[1].weight[0, 0] = bad
    with pytest.raises(ValueError, match="layer '1' hold NaN or infinity"):
        network_layers(module, (4,), WRPN)
