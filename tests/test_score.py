import gymnasium as gym
import numpy as np
import pytest
from toys import toy_task

from releq_gym.evaluators.table import TableEvaluator
from releq_gym.tasks import load_task
from releq_gym.tasks.score import TableScorer, make_scorer


@pytest.fixture
def problem(tmp_path):
    folder = toy_task(tmp_path / "task")
    env = gym.make("releq/QuantizeNet-v0", task=str(folder), reward_kwargs={"max_loss_points": 2.0})
    return env.unwrapped.problem


def test_worth_is_the_objective_at_the_mean_report_accuracy(problem):
    scorer = make_scorer(problem)
    report = TableEvaluator(problem.evaluator.task, "report")
    index = scorer.assignments.index((4, 8))
    accuracy = report.evaluate((4, 8), -1).accuracy
    held = problem.with_evaluator(report)
    assert scorer.worth[index] == pytest.approx(held.objective((4, 8), accuracy))
    assert scorer.random_worth == pytest.approx(scorer.worth.mean())


def test_the_optimum_has_no_regret_and_a_random_assignment_one(problem):
    scorer = make_scorer(problem)
    assert scorer.optimum == (4, 4)
    assert scorer.regret(scorer.optimum) == 0
    regrets = [scorer.regret(assignment) for assignment in scorer.assignments]
    assert np.mean(regrets) == pytest.approx(1)


def test_the_oracle_has_seen_search_data_alone(problem, tmp_path):
    assert make_scorer(problem).oracle == (4, 4)


def test_the_shipped_tasks_optimum_holds_its_floor_beyond_doubt():
    problem = gym.make("releq/DigitsWRPN-v0").unwrapped.problem
    scorer = make_scorer(problem)
    report = TableEvaluator(problem.evaluator.task, "report")
    row = report.index(scorer.optimum)
    sure = report.mean_accuracies()[row] - 2 * report.standard_errors()[row]
    assert 100 * (report.full_precision_accuracy - sure) <= problem.max_loss_points
    assert scorer.regret(scorer.oracle) < 0.2


def test_what_has_no_known_optimum_is_refused(problem, tmp_path):
    fixed = gym.make(
        "releq/QuantizeNet-v0",
        task=str(problem.evaluator.task.folder),
        fixed_bitwidths={"first": 8},
    )
    with pytest.raises(ValueError, match="whole task"):
        TableScorer(fixed.unwrapped.problem)
    synthetic = gym.make("releq/QuantizeNet-v0", net="synthetic").unwrapped.problem
    with pytest.raises(ValueError, match="no table"):
        TableScorer(synthetic)
    assert load_task(problem.evaluator.task.folder).configurations == 9
