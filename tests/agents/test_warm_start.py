import dataclasses
import json

import numpy as np
import pytest
import torch

from agents.warm_start import WarmStartAgent, WarmStartSettings
from releq_gym.env import QuantizeNetEnv
from releq_gym.ledger import Ledger
from releq_gym.registry import UnknownNameError
from releq_gym.searchers import SEARCHERS

TASK = "synthetic-8-0"
QUICK = WarmStartSettings(searched=20, n_envs=4, n_epochs=1)


def agent(ledger, settings=QUICK, seed=0, **options):
    return WarmStartAgent(
        lambda: QuantizeNetEnv(task=TASK, ledger=ledger, **options), settings, seed
    )


class Stopping:
    """Stops after so many steps; keeps the first probabilities."""

    def __init__(self, steps):
        self.steps, self.first = steps, None

    def after_step(self):
        self.steps -= 1
        return self.steps > 0

    def after_rollout(self, probabilities):
        self.first = probabilities if self.first is None else self.first


def revealed(log):
    records = map(json.loads, log.read_text().splitlines())
    return [record["bitwidths"] for record in records if record.get("revealed")]


@pytest.mark.parametrize("searcher", ["integer_program", "local_search"])
def test_it_asks_what_the_searcher_asks_at_first(searcher, tmp_path):
    alone = Ledger(20, tmp_path / "alone.jsonl")
    env = QuantizeNetEnv(task=TASK, ledger=alone)
    env.reset(seed=3)
    SEARCHERS[searcher](env, np.random.default_rng(3))
    env.close()
    both = agent(
        Ledger(60, tmp_path / "both.jsonl"), dataclasses.replace(QUICK, searcher=searcher), seed=3
    )
    both.learn(400, Stopping(600))
    both.close()
    asked = revealed(tmp_path / "both.jsonl")
    assert asked[:20] == revealed(tmp_path / "alone.jsonl")[:20] and len(asked) > 20


@pytest.mark.parametrize("observation", ["layer", "full"])
def test_the_policy_goes_on_from_the_answer(observation):
    ledger, watch = Ledger(), Stopping(20 * 8 + 40)
    made = agent(ledger, observation=observation)
    made.learn(400, watch)
    made.close()
    # What its first walks were drawn with: right but for two layers of eight.
    answer = made.problem
    places = [answer.bitwidths.index(one) for one in first_answer(observation)]
    chances = watch.first[np.arange(8), places]
    np.testing.assert_allclose(chances, 0.75, atol=0.05)
    wanted = made._around(first_answer(observation))
    np.testing.assert_allclose(watch.first, wanted, atol=0.05)


def first_answer(observation):
    """Of the searcher's part alone."""
    ledger = Ledger()
    made = agent(ledger, observation=observation)
    made._search(Stopping(10_000))
    made.close()
    return list(ledger.best(made.problem).bitwidths)


def test_probabilities_fall_to_both_sides():
    made = agent(Ledger(), dataclasses.replace(QUICK, changes=4.0))
    rows = made._around([2, 5, 8, 5, 5, 5, 5, 5])
    made.close()
    torch.testing.assert_close(rows.sum(dim=1), torch.ones(8))
    torch.testing.assert_close(rows.max(dim=1).values, torch.full((8,), 0.5))
    assert (rows.argmax(dim=1) + 2).tolist() == [2, 5, 8, 5, 5, 5, 5, 5]
    assert rows[0, 1] == 2 * rows[0, 2] and rows[1, 2] == rows[1, 4] == 2 * rows[1, 5]


def test_a_stopped_search_is_taken_up_again():
    ledger = Ledger()
    made = agent(ledger)
    made.learn(400, Stopping(50))
    assert 0 < ledger.distinct < 20 and made.steps == 0
    made.learn(40, Stopping(10_000))
    made.close()
    assert ledger.distinct >= 20 and made.steps >= 40


def test_a_search_that_was_saved_is_replayed_by_its_own_seed(tmp_path):
    ledger = Ledger()
    made = agent(ledger)
    made.learn(400, Stopping(50))
    made.save(tmp_path / "agent.zip")
    made.close()
    again = WarmStartAgent(
        lambda: QuantizeNetEnv(task=TASK, ledger=ledger), QUICK, 7, tmp_path / "agent.zip"
    )
    begun = ledger.distinct
    assert again._search(Stopping(10_000)) and ledger.distinct == 20 > begun
    whole = agent(alone := Ledger())
    assert whole._search(Stopping(10_000))
    assert ledger.cells(again.problem).keys() == alone.cells(whole.problem).keys()
    again.close(), whole.close()


def test_a_search_that_was_over_before_anything_was_learned_is_taken_up_again():
    ledger = Ledger()
    before = agent(ledger)
    assert before._search(Stopping(10_000)) and ledger.distinct == 20
    before.close()
    after = agent(ledger)
    after.learn(40, Stopping(10_000))
    after.close()
    assert after.steps >= 40


def test_an_unknown_searcher_gets_a_sentence():
    with pytest.raises(UnknownNameError, match="Did you mean 'greedy'"):
        agent(Ledger(), dataclasses.replace(QUICK, searcher="greed"))


@pytest.mark.parametrize("searcher", ["simulated_annealing", "pairwise_program"])
def test_a_searcher_that_plans_is_refused(searcher):
    with pytest.raises(ValueError, match="plans the whole budget beforehand"):
        agent(Ledger(100), dataclasses.replace(QUICK, searcher=searcher))
