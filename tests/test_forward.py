"""Shared work changes nothing: every count equals that of the network run by itself."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from releq_gym.datasets import Split
from releq_gym.datasets.normalise import PIXELS
from releq_gym.evaluators.forward import SharedForward
from releq_gym.layers import FULL_PRECISION
from releq_gym.networks import network_layers
from releq_gym.quantized import bake, quantize_network
from releq_gym.quantizers import make_quantizer
from releq_gym.training.accuracy import sum_scores, top1

UNIFORM = make_quantizer("uniform")
SHAPE = (3, 8, 8)


class Chain(nn.Module):
    """Convolution, batch norm and ReLU twice, and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, images):
        features = functional.relu(self.norm1(self.conv1(images)))
        features = functional.relu(self.norm2(self.conv2(features)))
        return self.fc(features.mean(dim=(2, 3)))


class Residual(nn.Module):
    """A value that lives past two cuts, written to in place in every way that PyTorch knows."""

    def __init__(self):
        super().__init__()
        self.stem, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True)
        self.conv1, self.norm1 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6 * 8 * 8, 4)

    def forward(self, images):
        kept = self.relu(self.stem(images))
        inner = self.relu(self.norm1(self.conv1(kept)))
        inner = functional.relu(self.conv2(inner), inplace=True)
        inner += kept
        kept += inner
        return self.fc(kept.mul_(0.5).flatten(1))


class Overwriting(nn.Module):
    """A function writes to a value that a later layer's assignments start from."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, 4)

    def forward(self, images):
        kept = self.stem(images)
        inner = self.conv(kept)
        inner = functional.elu_(inner)
        return self.fc((inner + torch.relu_(kept)).mean(dim=(2, 3)))


class Twice(nn.Module):
    """A layer that is used before and after another one, its batch norm in between."""

    def __init__(self):
        super().__init__()
        self.stem, self.shared = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1)
        self.norm, self.other = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1)
        self.fc = nn.Linear(6, 4)

    def forward(self, images):
        features = self.norm(self.shared(self.stem(images)).relu())
        features = self.shared(self.other(features).relu())
        return self.fc(features.amax(dim=(2, 3)))


class Undecided(Chain):
    """Its path depends on the values, so that it cannot be traced."""

    def forward(self, images):
        features = functional.relu(self.norm1(self.conv1(images)))
        if features.sum() > 0:
            features = features + 1
        return self.fc(functional.relu(self.norm2(self.conv2(features))).mean(dim=(2, 3)))


class Direct(Chain):
    """Reads the weight of a layer past the layer."""

    def forward(self, images):
        return super().forward(images) + functional.linear(
            images.mean((2, 3)), self.fc.weight[:, :3]
        )


class Tied(Chain):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.again = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 8, 1)
        self.last.weight = self.again.weight

    def forward(self, images):
        features = functional.relu(self.norm1(self.conv1(images)))
        features = self.again(functional.relu(self.norm2(self.conv2(features))))
        return self.fc(self.last(features.relu()).mean(dim=(2, 3)))


class Halves(nn.Module):
    """Several values come out of what follows a layer."""

    def __init__(self):
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(4, 4)

    def forward(self, images):
        gate, value = self.stem(images).chunk(2, dim=1)
        return self.fc((gate.sigmoid() * value).mean(dim=(2, 3)))


class Clamped(nn.Module):
    """Goes on with what it has written to, which changes few values, if any."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, 4)

    def clamp(self, features):
        features.clamp_(-100, 100)

    def forward(self, images):
        features = self.stem(images)
        self.clamp(features)
        return self.fc(self.conv(features).mean(dim=(2, 3)))


class ClampedView(Clamped):
    """Likewise, of a part of it."""

    def clamp(self, features):
        features[:, :2].clamp_(-100, 100)


class ClampedByModule(Clamped):
    """Likewise, by a module."""

    def __init__(self):
        super().__init__()
        self.clamp = nn.Hardtanh(-100, 100, inplace=True)


WHOLE = {
    Undecided: "symbolically traced",
    Direct: "fc.weight",
    Tied: "share the weight",
    Clamped: "goes on with module_stem",
    ClampedView: "goes on with module_stem",
    ClampedByModule: "goes on with module_stem",
}
"""Those that cannot be cut, and why."""

NETS = [Chain, Residual, Overwriting, Twice, Halves, *WHOLE]


@pytest.fixture(params=NETS, ids=lambda net: net.__name__)
def module(request):
    return randomised(request.param())


def randomised(module):
    """Batch norms that do something, for none that does nothing shows whether it was folded."""
    torch.manual_seed(3)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return module.eval()


def some_images(count=600, shape=SHAPE, classes=4):
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(count, *shape, generator=generator)
    return Split(images, torch.randint(classes, (count,), generator=generator))


def names_of(module, shape=SHAPE):
    return [layer.name for layer in network_layers(module, shape)]


def shared_forward(module, split, **options):
    names = names_of(module, split.images.shape[1:])
    return SharedForward(module, names, UNIFORM, split.images[:8], score=top1, **options)


def alone(module, names, assignment, split):
    quantized = bake(quantize_network(module, names, assignment, UNIFORM))
    return sum_scores(quantized, split.images, split.labels, PIXELS)


def random_assignments(layers, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(1, 9, (count, layers), generator=generator)
    # From a few prefixes, so that there is something to share.
    drawn[:, :-1] = drawn[torch.randint(count // 4, (count,), generator=generator), :-1]
    return [tuple(row) for row in drawn.tolist()]


def test_many_at_once_count_what_each_counts_alone(module):
    names, split = names_of(module), some_images()
    assignments = random_assignments(len(names), 24)
    counts = shared_forward(module, split).scores(assignments, split, PIXELS)
    for assignment in assignments:
        assert counts[assignment] == alone(module, names, assignment, split)


@pytest.mark.parametrize("memory", [0, 400_000, 2**30])
def test_one_after_the_other_counts_what_each_counts_alone(module, memory):
    names, split = names_of(module), some_images()
    forward = shared_forward(module, split, memory=memory)
    for assignment in random_assignments(len(names), 24, seed=1):
        counts = forward.scores([assignment], split, PIXELS)
        assert counts[assignment] == alone(module, names, assignment, split)
        assert forward.bytes_kept <= max(memory, forward.largest_weight)


def test_what_cannot_be_cut_says_why():
    split = some_images(20)
    for net in NETS:
        reason = shared_forward(randomised(net()), split).reason
        assert bool(reason) == (net in WHOLE) and WHOLE.get(net, "") in reason


def test_nothing_before_the_first_changed_layer_runs_again(monkeypatch):
    module, split = randomised(Chain()), some_images(20)
    forward = shared_forward(module, split)
    runs = []
    for segment in forward._cut.segments:
        segment.run.register_forward_hook(lambda *_, layers=segment.layers: runs.append(layers))
    forward.scores([(8, 8, 8)], split, PIXELS)
    forward.scores([(8, 4, 8)], split, PIXELS)
    forward.scores([(8, 4, 2)], split, PIXELS)
    assert runs == [(0,), (1,), (2,), (1,), (2,), (2,)]
    runs.clear()
    forward.scores(itertools.product((2, 4), repeat=3), split, PIXELS)
    assert len(runs) == 2 + 4  # the last layer runs as one at both bitwidths


def test_full_precision_is_one_of_the_assignments(module):
    split = some_images()
    full = (FULL_PRECISION,) * len(names_of(module))
    counts = shared_forward(module, split).scores([full], split, PIXELS)
    assert counts[full] == sum_scores(module, split.images, split.labels, PIXELS)


def test_the_network_stays_as_it_is(module):
    before = copy.deepcopy(module.state_dict())
    split = some_images(20)
    forward = shared_forward(module, split, dtype=torch.bfloat16)
    forward.scores([(2,) * len(names_of(module))], split, PIXELS)
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def from_torchvision(name):
    return pytest.importorskip("torchvision.models").get_model(name, num_classes=10)


def from_timm(name):
    timm = pytest.importorskip("timm")
    return timm.create_model(name, num_classes=10, img_size=32, patch_size=8, depth=2)


@pytest.mark.parametrize(
    ("build", "net"),
    [
        (from_torchvision, "resnet18"),
        (from_torchvision, "mobilenet_v3_small"),
        (from_timm, "vit_tiny_patch16_224"),
    ],
)
def test_networks_from_elsewhere_are_cut(build, net):
    torch.manual_seed(0)
    module, split = build(net).eval(), some_images(8, (3, 32, 32), 10)
    names = names_of(module, (3, 32, 32))
    forward = shared_forward(module, split)
    assert not forward.reason
    for assignment in random_assignments(len(names), 4):
        assert forward.scores([assignment], split, PIXELS)[assignment] == alone(
            module, names, assignment, split
        )
