import copy
import dataclasses

import pytest
import torch
from torch import nn

from releq_gym.datasets import load_splits
from releq_gym.datasets.normalise import PIXELS
from releq_gym.networks import Recipe
from releq_gym.quantizers import QUANTIZERS, make_quantizer
from releq_gym.training.loop import draw_batches
from releq_gym.training.retrain import retrain
from releq_gym.training.stacked import retrain_many

ASSIGNMENTS = [(4, 3, 2), (8, 8, 8), (4, 1, 5), (4, 3, 2)]
SEEDS = [0, 1, 2, 3]
PLAIN = Recipe(images=640, learning_rate=1e-2)
EVERYTHING = Recipe(
    images=640,
    learning_rate=5e-3,
    optimizer="adam",
    weight_decay=1e-2,
    schedule="cosine",
    warmup=0.2,
    augment="shift",
    label_smoothing=0.1,
    distillation=0.5,
    regularizer="sinreq",
    reestimate_batch_norm=100,
)


@pytest.fixture(scope="module")
def digits():
    return load_splits("digits")


def exactly(images):
    """In double precision, where noise is too small to move a weight to another level."""
    return PIXELS(images).double()


def build(*norms):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            *(nn.Conv2d(1, 6, 3), *norms, nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(96, 10)),
        )
    return module.double()


def names(module):
    return [
        name for name, part in module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)
    ]


def together_and_apart(module, digits, quantizer, recipe, **options):
    train = digits.train
    data = recipe, train.images, train.labels
    options = {"normalise": exactly, **options}
    arguments = (module, names(module))
    together = retrain_many(*arguments, ASSIGNMENTS, quantizer, *data, SEEDS, **options)
    apart = [
        retrain(*arguments, assignment, quantizer, *data, seed, **options)
        for assignment, seed in zip(ASSIGNMENTS, SEEDS, strict=True)
    ]
    return together, apart


def assert_equal(together, apart):
    for ours, theirs in zip(together, apart, strict=True):
        assert ours.diverged == theirs.diverged and not ours.module.training
        expected = theirs.module.state_dict()
        assert ours.module.state_dict().keys() == expected.keys()
        for name, tensor in ours.module.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("recipe", [PLAIN, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("norm", [False, True], ids=["bare", "batch norm"])
@pytest.mark.parametrize("name", QUANTIZERS.names())
def test_members_are_retrained_as_if_they_were_alone(digits, name, norm, recipe):
    module = build(nn.BatchNorm2d(6)) if norm else build()
    before = copy.deepcopy(module.state_dict())
    together, apart = together_and_apart(module, digits, make_quantizer(name), recipe)
    assert_equal(together, apart)
    assert not any(member.diverged for member in together)
    first, last = (together[position].module[-1].bias for position in (0, 3))
    assert not torch.equal(first, last)  # another seed, another order of images
    assert module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_steps_per_channel_are_learned_for_each_member(digits):
    quantizer = make_quantizer("lsq", per_channel=True)
    assert_equal(*together_and_apart(build(), digits, quantizer, PLAIN))


def test_own_loss_frozen_parameters_and_shared_weights_are_kept(digits):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = (nn.Linear(64, n) for n in (64, 64, 10))
            self.third = nn.Linear(64, 64)
            self.third.weight = self.second.weight
            self.head.bias.requires_grad_(False)

        def forward(self, images):
            features = self.first(images.flatten(1)).relu()
            return self.head(self.third(self.second(features).relu()).relu())

    def loss(outputs, labels):
        if labels.max() < 0:  # a condition that vmap does not know
            raise AssertionError
        return nn.functional.multi_margin_loss(outputs, labels)

    torch.manual_seed(0)
    module = Shared().double()
    arguments = (make_quantizer("wrpn"), PLAIN, digits.train.images, digits.train.labels)
    layers = ["first", "second", "head"]
    options = {"normalise": exactly, "loss": loss}
    together = retrain_many(module, layers, ASSIGNMENTS, *arguments, SEEDS, **options)
    apart = [
        retrain(module, layers, assignment, *arguments, seed, **options)
        for assignment, seed in zip(ASSIGNMENTS, SEEDS, strict=True)
    ]
    assert_equal(together, apart)
    for member in together:
        assert torch.equal(member.module.head.bias, module.head.bias)
        assert torch.equal(member.module.second.weight, member.module.third.weight)


def test_a_member_that_diverges_leaves_the_others_alone(digits):
    # One image is spoilt, which the first member sees in its only step and the second does not.
    recipe = dataclasses.replace(PLAIN, images=448, batch_size=448)
    first, second = (set(draw_batches(898, recipe, seed)[0].tolist()) for seed in SEEDS[:2])
    images = exactly(digits.train.images)
    images[min(first - second)] = torch.nan
    module, quantizer = build(), make_quantizer("lsq")
    arguments = (quantizer, recipe, images, digits.train.labels)
    options = {"normalise": lambda images: images}
    together = retrain_many(module, names(module), ASSIGNMENTS, *arguments, SEEDS, **options)
    apart = [
        retrain(module, names(module), assignment, *arguments, seed, **options)
        for assignment, seed in zip(ASSIGNMENTS, SEEDS, strict=True)
    ]
    diverged = [member.diverged for member in together]
    assert diverged == [member.diverged for member in apart]
    assert diverged[:2] == [True, False]
    sound = [position for position, bad in enumerate(diverged) if not bad]
    assert_equal([together[position] for position in sound], [apart[p] for p in sound])


def test_recipe_without_images_only_quantizes(digits):
    together, apart = together_and_apart(build(), digits, make_quantizer("uniform"), Recipe())
    assert_equal(together, apart)


def test_bfloat16_comes_close(digits):
    recipe = dataclasses.replace(PLAIN, precision="bfloat16")
    module = build().float()
    pairs = together_and_apart(module, digits, make_quantizer("uniform"), recipe, normalise=PIXELS)
    for ours, theirs in zip(*pairs, strict=True):
        left, right = (one.module[5].parametrizations.weight.original for one in (ours, theirs))
        assert (left - right).norm() < 0.1 * (right - module[5].weight).norm()


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["wrpn", "lsq", "lsq_midrise"])
def test_a_gpu_gives_what_a_cpu_gives(digits, name):
    def outcome(device):
        module = build(nn.BatchNorm2d(6)).to(device)
        data = (digits.train.images.to(device), digits.train.labels.to(device))
        arguments = (make_quantizer(name), PLAIN, *data, SEEDS)
        return retrain_many(module, names(module), ASSIGNMENTS, *arguments, normalise=exactly)

    here, there = outcome("cpu"), outcome("cuda")
    for member in there:
        member.module.cpu()
    assert_equal(there, here)


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (nn.Dropout(0.5), r"dropout \('1'\) cannot be trained together.*one after the other"),
        (nn.BatchNorm2d(6, momentum=None), r"batch norm without momentum \('1'\)"),
    ],
)
def test_what_cannot_be_stacked_is_a_sentence(digits, part, sentence):
    with pytest.raises(ValueError, match=sentence):
        together_and_apart(build(part), digits, make_quantizer("wrpn"), PLAIN)


def test_operations_that_cannot_be_stacked_are_a_sentence(digits):
    class Peeks(nn.Module):
        def forward(self, features):
            return features if features.sum() > 0 else -features

    with pytest.raises(ValueError, match=r"cannot be trained together.*torch\.func says"):
        together_and_apart(build(Peeks()), digits, make_quantizer("wrpn"), PLAIN)


def test_every_assignment_needs_a_seed(digits):
    train = digits.train
    arguments = (make_quantizer("wrpn"), PLAIN, train.images, train.labels)
    with pytest.raises(ValueError, match="4 assignments need as many seeds, one each; got 1"):
        retrain_many(build(), ["0", "2", "5"], ASSIGNMENTS, *arguments, [0])


def test_unknown_names_are_refused_as_by_retrain(digits):
    for field in ("optimizer", "schedule", "augment", "regularizer", "precision"):
        recipe = dataclasses.replace(PLAIN, **{field: "nonsense"})
        with pytest.raises(ValueError, match=r"Unknown .* 'nonsense'"):
            together_and_apart(build(), digits, make_quantizer("wrpn"), recipe)
