import dataclasses
import math

import numpy as np
import pytest
import torch

from agents.improver import SHIPPED, ImproverAgent, ImproverSettings
from agents.policy_file import read_card
from agents.pretrain import Pretraining, pretrain
from agents.pretrain_improver import (
    LEAST_GAP,
    ImproverPretraining,
    Landscapes,
    main,
    pretrain_improver,
)
from agents.pretrained import PretrainedAgent, PretrainedSettings
from benchmarks.learning import learn_until_spent
from releq_gym.env import QuantizeNetEnv
from releq_gym.ledger import Ledger

TINY = ImproverPretraining(
    least_walks=2, most_walks=3, steps=64, copies=2, rollout=16, batch_size=32, n_epochs=1
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    path = tmp_path_factory.mktemp("policies") / "tiny.safetensors"
    pretrain_improver(TINY, path)
    return path


def agent(path=None, task="synthetic-6-0", ledger=None, seed=0, **settings):
    ledger = ledger or Ledger()
    chosen = ImproverSettings(policy=None if path is None else str(path), **settings)
    return ImproverAgent(lambda: QuantizeNetEnv(task=task, ledger=ledger), chosen, seed)


def test_the_same_plan_gives_the_same_policy(policy, tmp_path):
    pretrain_improver(TINY, tmp_path / "twin.safetensors")
    assert (tmp_path / "twin.safetensors").read_bytes() == policy.read_bytes()
    pretrain_improver(dataclasses.replace(TINY, seed=1), tmp_path / "other.safetensors")
    assert (tmp_path / "other.safetensors").read_bytes() != policy.read_bytes()
    card = read_card(policy)
    assert (card.chooses, card.nets, card.seed, card.steps) == ("changes", ("synthetic",), 0, 64)


def test_landscapes_pay_for_nearing_the_optimum():
    env = Landscapes(dataclasses.replace(TINY, least_walks=3, most_walks=3, patience=1.0))
    env.reset(seed=5)
    optimum, rewards, over = env._optimum, [], False
    while not over:
        _, reward, over, _, _ = env.step(5)  # two places up from 5 bits, which lose little
        rewards.append(reward)
    gap = optimum - env._env.best
    assert sum(rewards) == pytest.approx(
        math.log((optimum + LEAST_GAP) / (gap + LEAST_GAP)), abs=1e-9
    )
    assert 1 <= np.count_nonzero(rewards) <= 3 and gap >= 0


def test_an_optimum_is_what_its_assignment_earns():
    env = Landscapes(TINY)
    env.reset(seed=3)
    problem = env._env.get_wrapper_attr("problem")
    landscape = problem.evaluator
    costs = np.stack([problem.layer_costs(bits) for bits in problem.bitwidths], axis=1)
    best = landscape.optimum(costs)
    earned = problem.objective(best, landscape.evaluate(best, 0).accuracy)
    assert env._optimum == pytest.approx(earned)


def test_landscapes_are_drawn_anew():
    env = Landscapes(dataclasses.replace(TINY, most_walks=9))
    names = set()
    for seed in (1, None, None):
        env.reset(seed=seed)
        names.add((env._env.get_wrapper_attr("problem").evaluator.name, env._env.walks))
    assert len(names) == 3
    env.reset(seed=1)
    again = env._env.get_wrapper_attr("problem").evaluator.name, env._env.walks
    assert again in names


def test_it_searches_on_one_budget_and_the_seed_fixes_how(policy):
    found = []
    for seed in (0, 0, 1):
        ledger = Ledger(25)
        one = agent(policy, ledger=ledger, seed=seed)
        learn_until_spent(one, ledger, 10_000)
        assert ledger.distinct == 25
        found.append(list(ledger.cells(one.problem)))
    assert found[0] == found[1] != found[2]


def test_it_tells_of_the_bitwidths_that_changes_lead_to(policy):
    one = agent(policy, episodes_per_update=1)
    names = one._venv.get_attr("feature_names")[0]
    seen = torch.zeros(2, len(names))
    seen[:, names.index("incumbent_bitwidth")] = torch.tensor([2 / 8, 5 / 8])
    changes = one.model.policy.get_distribution(seen).distribution.probs
    bitwidths = one.choices(seen, None)
    assert bitwidths.shape == (2, 7)
    torch.testing.assert_close(bitwidths[1], changes[1])  # from 5 bits: 2 to 8
    torch.testing.assert_close(bitwidths[0, 0], changes[0, :4].sum())  # from 2 bits: none below
    torch.testing.assert_close(bitwidths[0, 1:4], changes[0, 4:])
    one.close()


def test_exploration_follows_the_novelty_of_walks(policy):
    class Watch:
        def after_step(self):
            return True

        def after_rollout(self, probabilities):
            assert probabilities.shape == (6, 7)

    one = agent(policy, episodes_per_update=2)
    novelty = one.novelty()
    novelty.locals = {"infos": [{"evaluated": True}, {"evaluated": False}], "dones": [False] * 2}
    novelty._on_step()
    assert novelty._episodes == 1
    one.learn(48, Watch())
    assert one.steps >= 48
    one.close()


def test_a_resumed_run_goes_on_with_what_was_learned(policy, tmp_path):
    one = agent(policy)
    one.save(tmp_path / "agent.zip")
    again = ImproverAgent(
        lambda: QuantizeNetEnv(task="synthetic-6-0"), one.settings, 1, tmp_path / "agent.zip"
    )
    ours, theirs = (each.model.policy.state_dict() for each in (again, one))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    one.close()
    again.close()


def test_policies_of_bitwidths_and_of_changes_are_told_apart(policy, tmp_path):
    path = tmp_path / "bitwidths.safetensors"
    pretrain(
        Pretraining(landscapes=1, steps=32, copies=2, rollout=16, batch_size=32, n_epochs=1), path
    )
    with pytest.raises(ValueError, match="chooses bitwidths, not changes"):
        agent(path)
    with pytest.raises(ValueError, match="chooses changes, not bitwidths"):
        PretrainedAgent(
            lambda: QuantizeNetEnv(task="synthetic-6-0"),
            PretrainedSettings(policy=str(policy)),
            0,
        )


def test_another_observation_gets_a_sentence(policy):
    settings = ImproverSettings(policy=str(policy))
    with pytest.raises(ValueError, match=r"on observation='layer'.*shows 'paper'"):
        ImproverAgent(
            lambda: QuantizeNetEnv(task="synthetic-6-0", observation="paper"), settings, 0
        )


def test_what_is_shipped_improves_on_a_landscape_with_few_evaluations():
    card = read_card(SHIPPED)
    assert card.chooses == "changes" and card.nets == ("synthetic",)
    ledger = Ledger(20)
    one = agent(task="synthetic-12-7", ledger=ledger)
    learn_until_spent(one, ledger, 10_000)
    answer, first = ledger.best(one.problem), next(iter(ledger.cells(one.problem).items()))
    assert answer.objective > one.problem.objective(first[0], first[1].accuracy) + 0.05


def test_the_command(tmp_path, capsys):
    path = tmp_path / "policy.safetensors"
    tiny = ["--steps", "64", "--copies", "2", "--rollout", "16", "--batch-size", "32"]
    assert main([*tiny, "--output", str(path)]) == 0
    assert "64 steps on synthetic" in capsys.readouterr().out
    assert main([*tiny, "--output", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*tiny, "--copies", "0", "--output", str(tmp_path / "x")]) == 2
    assert "copies=0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"patience": 1.5}, "patience=1.5"),
        ({"shift_db": -1.0}, "shift_db=-1.0"),
        ({"copies": 0}, "copies=0"),
        ({"most_walks": 3}, "least_walks=8 has to be at most most_walks=3"),
    ],
)
def test_wrong_plans_get_a_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        ImproverPretraining(**settings)
