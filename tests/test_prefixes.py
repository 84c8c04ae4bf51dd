import copy
import pickle
from itertools import product

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from toys import ToyEvaluator, toy_problem

from releq_gym import prefixes
from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.synthetic import SyntheticEvaluator
from releq_gym.observation import OBSERVATIONS, Measured
from releq_gym.prefixes import ComputedPrefixes, TabledPrefixes, make_prefixes
from releq_gym.vector_env import QuantizeNetVectorEnv

PROBLEMS = [
    {},
    {"cost_budget": {"cost": 0.6}},
    {"bitwidths": [4]},
    {"fixed_bitwidths": {"middle": 2}},
    {"groups": [["last", "first"]], "cost_budget": {"cost": 0.5}},
]


def both(options, observation="layer"):
    problem = toy_problem(**options)
    observe = OBSERVATIONS[observation](problem)
    return TabledPrefixes(problem, observe), ComputedPrefixes(problem, observe)


def facts(prefixes, position, measured):
    """All that is true there."""
    return {
        "step": prefixes.step(position),
        "complete": prefixes.complete(position),
        "bitwidths": prefixes.bitwidths(position),
        "index": prefixes.index(position),
        "decided": prefixes.decided(position),
        "allowed": prefixes.allowed(position),
        "observation": prefixes.observation(position, measured),
        **prefixes.economics(position)._asdict(),
    }


def same(one, two):
    """Exactly, whatever numbers, arrays, tuples or dicts of them they are."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return (np.asarray(one) == np.asarray(two)).all()


@pytest.mark.parametrize("observation", OBSERVATIONS.names())
@pytest.mark.parametrize("options", PROBLEMS, ids=str)
def test_looking_up_gives_what_computing_gives(options, observation):
    tabled, computed = both(options, observation)
    problem = tabled.problem
    measured = Measured(0.93, 7.0, True)
    for length in range(len(problem.steps) + 1):
        for choices in product(range(len(problem.bitwidths)), repeat=length):
            number, standing = tabled.start(), computed.start()
            for choice in choices:
                number, standing = tabled.after(number, choice), computed.after(standing, choice)
            assert same(facts(tabled, number, measured), facts(computed, standing, measured))


@pytest.mark.parametrize("observation", OBSERVATIONS.names())
@pytest.mark.parametrize("options", PROBLEMS, ids=str)
def test_arrays_of_positions_give_what_single_ones_give(options, observation):
    rng = np.random.default_rng(0)
    for looked_at in both(options, observation):
        steps, count = len(looked_at.problem.steps), 9
        # Of different lengths: every third one starts anew after the first decision.
        choices = rng.integers(len(looked_at.problem.bitwidths), size=(steps, count))
        anew = np.arange(0, count, 3)
        many = looked_at.start(count)
        for step, chosen in enumerate(choices):
            many = looked_at.after(many, chosen)
            if step == 0:
                many = looked_at.replaced(many, anew, looked_at.start(len(anew)))
        measured = Measured(rng.random(count), 9 * rng.random(count), rng.random(count) < 0.5)
        seen = facts(looked_at, many, measured)
        for row in range(count):
            one = looked_at.start()
            for chosen in choices[1 if row in anew else 0 :]:
                one = looked_at.after(one, int(chosen[row]))
            alone = facts(looked_at, one, Measured(*(part.item(row) for part in measured)))
            assert same(_row(seen, row, count), alone)
            part = looked_at.part(many, np.array([row]))
            assert (looked_at.bitwidths(part)[0] == alone["bitwidths"]).all()


def _row(value, row, count):
    if isinstance(value, dict):
        return {key: _row(part, row, count) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_row(part, row, count) for part in value)
    return value[row] if np.shape(value)[:1] == (count,) else value


def test_few_prefixes_are_tabled_and_many_are_not():
    problem = toy_problem()
    assert isinstance(make_prefixes(problem, OBSERVATIONS["layer"](problem)), TabledPrefixes)
    deep = toy_problem().with_evaluator(SyntheticEvaluator(6, 0))
    assert isinstance(make_prefixes(deep, OBSERVATIONS["layer"](deep)), ComputedPrefixes)


def test_a_table_is_shared_by_copies_and_left_out_of_pickles():
    tabled, _ = both({})
    assert copy.deepcopy(tabled) is tabled
    measured = Measured(0.9, 1.0, True)
    twin = pickle.loads(pickle.dumps(tabled))
    assert same(facts(twin, 7, measured), facts(tabled, 7, measured))
    big = toy_problem().with_evaluator(SyntheticEvaluator(5, 0))
    observe = OBSERVATIONS["layer"](big)
    assert len(pickle.dumps(TabledPrefixes(big, observe))) < 100_000


def test_observations_may_be_written_to():
    for looked_at in both({}):
        nothing = Measured(np.ones(2), np.zeros(2), np.zeros(2, dtype=bool))
        for start, measured in ((None, Measured(1.0, 0.0, False)), (2, nothing)):
            position = looked_at.start(start)
            before = looked_at.observation(position, measured)
            looked_at.observation(position, measured)[:] = -1
            assert (looked_at.observation(position, measured) == before).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reward_timing": "telescoped", "gamma": 0.9},
        {"evaluate": "every_step", "cost_budget": {"cost": 0.5}, "observation": "full"},
        {"task": "synthetic-5-1", "reward": "releq", "reward_timing": "every_step"},
    ],
    ids=str,
)
def test_environments_do_not_differ_by_how_prefixes_are_known(options, monkeypatch):
    def episodes(tabled):
        monkeypatch.setattr(prefixes, "TABLED", tabled)
        rng, seen = np.random.default_rng(0), []
        single, vector = QuantizeNetEnv(**options), QuantizeNetVectorEnv(3, **options)
        for env in (single, vector):
            seen.append(env.reset(seed=4))
        kinds = {type(env._prefixes) for env in (single, vector)}
        for _ in range(25):
            seen.append(vector.step(rng.integers(7, size=3)))
            seen.append(single.step(int(rng.integers(7))))
            if seen[-1][2]:
                seen.append(single.reset())
        return kinds, seen

    kinds, looked_up = episodes(2**16)
    other_kinds, computed = episodes(0)
    assert kinds == {TabledPrefixes} and other_kinds == {ComputedPrefixes}
    assert all(map(data_equivalence, looked_up, computed))


def test_what_a_step_returns_is_not_overwritten_by_later_ones():
    for evaluator in (ToyEvaluator(), SyntheticEvaluator(6, 0)):
        envs = QuantizeNetVectorEnv(2, evaluator=evaluator, evaluate="every_step")
        returned = [envs.reset(seed=0)]
        kept = copy.deepcopy(returned)
        for action in (0, 2, 1, 1, 0, 2, 2):
            returned.append(envs.step([action, 2 - action]))
            kept.append(copy.deepcopy(returned[-1]))
        assert all(map(data_equivalence, returned, kept))
