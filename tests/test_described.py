"""What tells one function of a user from another, and what cannot be told."""

import abc
import dataclasses
import enum
import functools
import json
import math
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from releq_gym.evaluators.described import describe_callable, why_indescribable

threshold = 0.5
box = [0.5]
table = {"near": torch.tensor([0.5])}
grid = np.linspace(0, 1, 5)
distance = nn.MSELoss(reduction="none")
teacher = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
own_module = types.ModuleType("own_module")


def reads_a_number(outputs, targets):
    return outputs < threshold


def helper(outputs):
    return outputs < threshold


def calls_a_helper(outputs, targets):
    return helper(outputs)


def reads_inside(outputs, targets):
    return [one for one in outputs if (lambda: one < threshold)()]


def reads_a_list(outputs, targets):
    return outputs < box[0]


def reads_a_tensor(outputs, targets):
    return outputs < table["near"]


def reads_an_array(outputs, targets):
    return np.searchsorted(grid, outputs)


def reads_weights(outputs, targets):
    return teacher(outputs)


def calls_itself(outputs, depth):
    return calls_itself(outputs, depth - 1) if depth else outputs < threshold


@torch.no_grad()
def decorated(outputs, targets):
    return outputs < threshold


class Base(abc.ABC):
    """Reads a global in a method that another one calls."""

    def near(self, outputs):
        return outputs < threshold

    @abc.abstractmethod
    def __call__(self, outputs, targets): ...


class Metric(Base):
    def __init__(self, power=1):
        self.power = power

    def __call__(self, outputs, targets):
        return self.near(outputs) ** self.power


@dataclasses.dataclass(frozen=True)
class Frozen:
    power: int = 1
    names: list = dataclasses.field(default_factory=list)

    def __call__(self, outputs, targets):
        return (outputs < threshold) ** self.power


@pytest.fixture(autouse=True)
def restored():
    kept = grid.copy(), teacher[0].weight.detach().clone()
    yield
    box[:] = [0.5]
    grid[:], teacher[0].weight.data[:] = kept


def change_list(monkeypatch):
    box[0] = 0.1


def change_tensor(monkeypatch):
    monkeypatch.setitem(table, "near", torch.tensor([0.1]))


def change_array(monkeypatch):
    grid[0] = 9.0


def change_weights(monkeypatch):
    teacher[0].weight.data[0, 0] = 9.0


def change_number(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "threshold", 0.1)


@pytest.mark.parametrize(
    ("function", "change"),
    [
        (reads_a_number, change_number),
        (calls_a_helper, change_number),
        (reads_inside, change_number),
        (calls_itself, change_number),
        (decorated, change_number),
        (Metric(), change_number),
        (Metric().near, change_number),
        (Frozen(), change_number),
        (functools.partial(helper), change_number),
        (reads_a_list, change_list),
        (reads_a_tensor, change_tensor),
        (reads_an_array, change_array),
        (reads_weights, change_weights),
    ],
)
def test_what_is_read_from_globals_changes_the_description(function, change, monkeypatch):
    before = describe_callable(function)
    assert before is not None and describe_callable(function) == before
    change(monkeypatch)
    assert describe_callable(function) not in (before, None)


def test_a_helper_that_is_replaced_changes_the_description(monkeypatch):
    before = describe_callable(calls_a_helper)
    monkeypatch.setattr(sys.modules[__name__], "helper", lambda outputs: outputs > threshold)
    assert describe_callable(calls_a_helper) not in (before, None)


def test_code_captured_values_defaults_and_attributes_tell_functions_apart():
    def power(n):
        return lambda outputs, targets: outputs**n

    def marked(mark):
        def function(outputs, targets, sign=mark):
            return outputs

        function.mark = mark
        return function

    functions = [
        *(lambda o, t: o + t, lambda o, t: o - t),  # of one line
        *(power(1), power(2), power(helper), power(True)),
        *(marked(1), marked(2)),
        *(Metric(1), Metric(2), Frozen(1), Frozen(2)),
        *(functools.partial(max, 1), functools.partial(max, 2)),
        *(nn.L1Loss(), nn.L1Loss(reduction="none")),
        *(functional.mse_loss, functional.l1_loss, math.sqrt, math.exp, np.exp, torch.abs),
    ]
    described = [describe_callable(function) for function in functions]
    assert None not in described and len(set(described)) == len(functions)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.frompyfunc(lambda one: one > 0.5, 1, 1), "ufunc '<lambda> (vectorized)'"),
        (np.ma.array([1.0, 2.0], mask=[False, True]), "a MaskedArray, which may hold more"),
    ],
)
def test_what_equals_others_of_its_name_or_values_is_not_described(value, told):
    assert told in why_indescribable(lambda outputs, targets: value)
    assert describe_callable(lambda outputs, targets: value) is None


def test_ufuncs_of_numpy_and_scipy_are_told_by_name():
    special = pytest.importorskip("scipy.special")
    assert len({describe_callable(one) for one in (np.exp, special.expit, special.erf, None)}) == 4


def test_equal_functions_are_described_alike():
    def power(n):
        return lambda outputs, targets: outputs**n

    for one, other in ((power(2), power(2)), (Metric(2), Metric(2)), (Frozen(2), Frozen(2))):
        assert describe_callable(one) == describe_callable(other) is not None
    assert describe_callable(None) == "none"


SCRIPT = """
import json, torch
from releq_gym.evaluators.described import describe_callable
names, net = {"a", "b", "c", "d"}, torch.nn.Linear(2, 2)
torch.nn.init.ones_(net.weight), torch.nn.init.ones_(net.bias)
class Own:
    def __init__(self): self.at = {1, 2}
    def __call__(self, o, t): return torch.nn.functional.relu(net(o)) if "a" in names else o in {3}
print(json.dumps([describe_callable(Own()), describe_callable(lambda o, t: len(names))]))
"""


def test_another_process_describes_the_same():
    answers = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1 and None not in json.loads(answers.pop())


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (
            lambda outputs, targets: own_module.metric(outputs),
            "the global 'own_module', the module",
        ),
        (lambda outputs, targets: eval("outputs"), "the global 'eval'"),
        (lambda outputs, targets: not_there(outputs), "the global 'not_there'"),  # noqa: F821
        (functools.partial(print, file=sys.stderr), "an object of the type"),
        (lambda outputs, targets: stream.read(), "the global 'stream', an object of the type"),
    ],
)
def test_what_cannot_be_told_from_another_is_not_described(function, why):
    assert describe_callable(function) is None
    assert why_indescribable(function).startswith(why)
    assert why_indescribable(helper) == ""


stream = iter(())


def test_describing_imports_no_torch():
    code = "import releq_gym.evaluators.described as d, sys; d.describe_callable(d._hash); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Counted:
    """Called in place of a method."""

    def __init__(self, number):
        self.number = number

    def __call__(self, *arguments):
        return self.number


def scaled(self, power, outputs):
    return outputs**power


def with_factory(value):
    @dataclasses.dataclass(frozen=True)
    class Config:
        tops: list = dataclasses.field(default_factory=lambda: [value])

        def __call__(self, outputs, targets):
            return outputs[:, self.tops[0]]

    return lambda outputs, targets: Config()(outputs, targets)


def with_object(value):
    return type("Called", (), {"__call__": Counted(value)})()


def with_partial(value):
    return type("Called", (), {"__call__": functools.partialmethod(scaled, value)})()


def with_cache(value):
    return type("Called", (), {"__call__": functools.lru_cache(lambda self, outputs: value)})()


def with_namespace(value):
    return functools.partial(helper, types.SimpleNamespace(power=value))


def executed(value):
    space = {"dataclass": dataclasses.dataclass, "__name__": __name__}
    exec(f"@dataclass\nclass Own:\n  def __call__(self, outputs): return {value}", space)
    return space["Own"]()


def with_member(value):
    kind = enum.Enum("Kind", {"NEAR": value})
    return functools.partial(helper, kind.NEAR)


@pytest.mark.parametrize(
    "make",
    [
        *(with_factory, with_object, with_partial, with_cache, with_namespace, executed),
        with_member,
    ],
    ids=lambda make: make.__name__,
)
def test_whatever_is_called_or_kept_counts(make):
    one, other, again = (describe_callable(make(value)) for value in (1, 5, 1))
    assert one != other or one is None
    assert one == again
    assert (one is None) == (make is with_cache)  # whose memory is nobody's to look into


def test_what_a_dataclass_generates_does_not_count():
    assert describe_callable(with_factory(1)) is not None


class Shape(enum.Enum):
    ROUND = 1

    def __str__(self):
        return helper(self.value)


def names_a_shape(outputs, targets):
    return str(Shape.ROUND)


def test_what_an_enum_defines_counts(monkeypatch):
    before = describe_callable(names_a_shape)
    assert before is not None
    change_number(monkeypatch)
    assert describe_callable(names_a_shape) != before
