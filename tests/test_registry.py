import dataclasses
import math
import pickle

import numpy as np
import pytest

from releq_gym.registry import Registry, UnknownNameError, typed
from releq_gym.searchers import SEARCHERS


def test_unknown_name_lists_choices_and_the_nearest():
    registry = Registry("colour")
    registry.register("green")(object())
    registry.register("grey")(object())
    with pytest.raises(UnknownNameError, match=r"Unknown colour 'gren'\. Did you mean 'green'"):
        registry["gren"]
    with pytest.raises(ValueError, match="Known: green, grey"):
        registry["xyz"]


def test_choices_of_a_list_stay_in_their_order():
    names = ["conv2", "conv10", "fc"]
    error = UnknownNameError("layer", "x", names)
    assert "Known: conv2, conv10, fc." in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert "Known: conv10, conv2, fc." in str(UnknownNameError("layer", "x", set(names)))


def test_the_nearest_name_is_found_whatever_the_case():
    with pytest.raises(UnknownNameError, match="Did you mean 'wrpn'"):
        raise UnknownNameError("quantizer", "WRPN", ["wrpn", "lsq"])


def test_a_name_that_begins_like_it_is_nearer_than_one_that_looks_like_it():
    names = ["weight_serial", "weighted_bitwidth"]
    assert "Did you mean 'weighted_bitwidth'" in str(UnknownNameError("cost", "weighted", names))


@pytest.mark.parametrize("name", ["red,Green", "red=8, green=8"])
def test_several_names_are_given_one_by_one(name):
    with pytest.raises(UnknownNameError, match="Several are given one by one, without commas"):
        raise UnknownNameError("colour", name, ["red", "green"])


def test_names_with_commas_are_told_apart():
    assert "Known: 'a', 'a, b'." in str(UnknownNameError("layer", "x", ["a", "a, b"]))


def test_unhashable_name_is_unknown_too():
    with pytest.raises(UnknownNameError, match="Known: none"):
        Registry("colour")[["green"]]


def test_a_name_is_given_once():
    registry = Registry("colour")
    registry.register("green")(dict)
    registry.register("green")(dict)
    with pytest.raises(ValueError, match="registered already"):
        registry.register("green")(list)


def test_every_module_of_the_package_is_discovered():
    from releq_gym.rewards import REWARDS

    assert REWARDS.names() == [
        "accuracy_floor",
        "difference",
        "lagrangian",
        "ratio",
        "releq",
        "releq_code",
    ]
    assert "releq" in REWARDS and "other" not in REWARDS


def test_unknown_name_error_survives_pickling():
    error = pickle.loads(pickle.dumps(UnknownNameError("net", "vgg", ["vgg11"], "A hint.")))
    assert "Did you mean 'vgg11'" in str(error)
    assert "A hint." in str(error)


def test_a_function_is_taken_as_it_is_and_a_plain_class_is_not():
    registry = Registry("reward")
    registry.register("mine")(abs)
    registry.register("class")(dict)
    assert registry.make("mine") is abs
    with pytest.raises(ValueError, match="'mine' is a function, which takes no parameters"):
        registry.make("mine", floor=1)
    with pytest.raises(ValueError, match="'class' is a plain class; make it a frozen dataclass"):
        registry.make("class")


def test_a_registry_lists_its_names():
    assert list(SEARCHERS) == SEARCHERS.names() and len(SEARCHERS) == len(SEARCHERS.names()) > 5


@dataclasses.dataclass(frozen=True)
class Tolerant:
    """A reward of one's own."""

    floor: float = 0.5

    def __call__(self, transition):
        return self.floor


def test_a_dataclass_of_ones_own_is_built_with_its_parameters():
    registry = Registry("reward")
    assert registry.make(Tolerant, floor=0.2) == Tolerant(0.2)
    assert registry.make(Tolerant) == Tolerant()
    with pytest.raises(ValueError, match="'Tolerant' has no parameter 'x'; it takes floor"):
        registry.make(Tolerant, x=1)
    with pytest.raises(ValueError, match="'Tolerant' has no parameter 'name'"):
        registry.make(Tolerant, name=1)
    with pytest.raises(ValueError, match="reward_kwargs go with a name"):
        registry.make(Tolerant(), floor=0.2)
    with pytest.raises(ValueError, match="'dict' is a plain class"):
        registry.make(dict)


def test_a_parameter_of_another_type_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Array:
        tiles: int = 4
        joules: float | None = None
        table: dict | None = None
        shared: bool = False

        def __post_init__(self):
            if self.tiles < 1:
                raise ValueError("tiles have to be there")

    registry = Registry("cost")
    made = registry.make(Array, tiles=np.int64(2), joules=None, table={}, shared=True)
    assert made == Array(2, None, {}, True)
    assert registry.make(Array, joules=2).joules == 2
    for name, value, sentence in (
        ("tiles", "4", "takes tiles='4', which has to be a whole number"),  # a TypeError of Array
        ("tiles", 4.5, "takes tiles=4.5, which has to be a whole number"),
        ("joules", "x", "takes joules='x', which has to be a number"),
        ("shared", "no", "takes shared='no', which has to be True or False"),
        ("tiles", 0, "tiles have to be there"),
    ):
        with pytest.raises(ValueError, match=sentence):
            registry.make(Array, **{name: value})


def test_what_is_typed_may_be_imported():
    assert typed("reward", "releq") == "releq"
    assert typed("reward", "math:sqrt") is math.sqrt
    for name in ("math:nothing", ":x", "no.such.module:x", "math:"):
        with pytest.raises(ValueError, match=r"It has to read 'package\.module:name'"):
            typed("reward", name)
    with pytest.raises(ValueError, match=r"math has no 'sqr'\. Did you mean 'sqrt'\?"):
        typed("reward", "math:sqr")
    with pytest.raises(ValueError, match=r"'math\.sqrt' has to be .*, with a colon"):
        typed("reward", "math.sqrt")
