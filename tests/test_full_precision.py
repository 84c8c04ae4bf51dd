import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import releq_gym
from releq_gym.datasets import Split, Splits
from releq_gym.evaluators.full_precision import warn_near_chance
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.evaluators.remembered import RememberedEvaluator
from releq_gym.evaluators.resolve import make_evaluator
from releq_gym.tasks.build import build_task
from releq_gym.tasks.plan import Plan

QUIET = {"evaluation_budget": 2, "progress": False, "memo": False, "report": False}


class Dropping(nn.Module):
    """Its functional dropout stays on in evaluation mode unless ``mended``."""

    def __init__(self, mended=False):
        super().__init__()
        self.layer, self.mended = nn.Linear(16, 4), mended

    def forward(self, images):
        training = self.training if self.mended else True
        return functional.dropout(self.layer(images.flatten(1)), 0.5, training=training)


class Masked(nn.Module):
    """One class can never be the answer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 4)

    def forward(self, images):
        outputs = self.layer(images.flatten(1))
        return outputs + torch.tensor([0.0, 0.0, 0.0, float("-inf")])


def untrained():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 4))


def own(module=None, images=80):
    """Inputs labelled by a network, or by chance."""
    inputs = torch.rand((images, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(images) % 4
    if module is not None:
        with torch.no_grad():
            labels = module.eval()(inputs).argmax(1)
    return Splits("own", None, Split(inputs, labels))


@pytest.fixture
def file(tmp_path):
    search = own().search
    arrays = {}
    for part, place in (("val", slice(40)), ("test", slice(40, None))):
        arrays[f"{part}_images"] = search.images[place].numpy()
        arrays[f"{part}_labels"] = search.labels[place].numpy()
    np.savez(tmp_path / "own.npz", **arrays)
    return tmp_path / "own.npz"


@pytest.mark.parametrize("module", [Dropping(mended=True), Masked()], ids=["mended", "masked"])
def test_a_network_that_answers_alike_is_measured(module):
    live = LiveEvaluator(module, data=own(module), precision="float32", memo=False)
    assert live.full_precision_accuracy == 1


def test_a_network_at_random_is_refused_whatever_it_is_scored_by():
    def near(outputs, targets):
        return 1 / (1 + (outputs[:, 0] - targets).abs())

    with pytest.raises(ValueError, match="answers the same images differently"):
        releq_gym.search(Dropping(), own(), metric=near, **QUIET)


@pytest.mark.parametrize("evaluator", ["search", "build", "env"])
def test_a_network_at_random_is_refused_everywhere(evaluator, file, tmp_path):
    net = "test_full_precision:Dropping"
    plan = Plan(net, "uniform", "ptq", bitwidths=(7, 8))
    begin = {
        "search": lambda: releq_gym.search(net, file, **QUIET),
        "build": lambda: build_task(plan, tmp_path / "tasks", data=file, workers=1),
        "env": lambda: make_evaluator("live", net=net, data=file),
    }
    with pytest.raises(ValueError, match=r"training=self\.training"):
        begin[evaluator]()
    assert not (tmp_path / "tasks").exists()


def test_a_task_of_an_untrained_network_is_warned_of_once(file, tmp_path):
    plan = Plan("test_full_precision:untrained", "uniform", "ptq", bitwidths=(7, 8))
    with pytest.warns(UserWarning, match="Are its weights loaded") as warned:
        build_task(plan, tmp_path / "tasks", data=file, workers=1)
    assert len(warned) == 1


def test_what_is_remembered_is_not_looked_at_again(tmp_path, monkeypatch):
    options = {"net": "digits", "recipe": "ptq", "memo": str(tmp_path / "memo.sqlite")}
    assert isinstance(make_evaluator("live", **options), LiveEvaluator)
    again = make_evaluator("live", **options)
    assert isinstance(again, RememberedEvaluator)
    warn_near_chance(again)
    assert "live" not in vars(again)
