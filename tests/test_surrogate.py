import itertools
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

import releq_gym  # noqa: F401
from releq_gym.cli import main
from releq_gym.evaluators.resolve import task_evaluator
from releq_gym.evaluators.surrogate import NoiseTable, SurrogateEvaluator
from releq_gym.tasks import TaskError, load_task, sampled
from releq_gym.tasks.format import Measurements
from releq_gym.tasks.plan import Plan, make_card
from releq_gym.tasks.sample import DRAWN, SEARCHED, SOURCES, ask_searchers, draw
from releq_gym.tasks.score import make_scorer
from releq_gym.tasks.surrogate import MODELS, Sample, compare, export, fit_noise, held_out
from releq_gym.tasks.verify import check_files, verify_cells

BITWIDTHS = tuple(range(1, 9))


def noise_table(layers=4, images=100):
    """A made-up surrogate: noise falls by four per bit, each image fails at a noise of its own."""
    noise = np.zeros((layers, 9), dtype=np.int64)
    noise[:, 1:] = (np.arange(layers)[:, None] + 1) * 4 ** (8 - np.arange(1, 9))
    return NoiseTable(noise, np.arange(images, dtype=np.int64) ** 3 - 1, BITWIDTHS)


def landscape(bitwidths, images=1000):
    """Images that a made-up network gets right: falling with noise that adds up."""
    noise = (np.arange(1, bitwidths.shape[1] + 1) * 4.0 ** (2.0 - bitwidths)).sum(axis=1)
    return np.rint(images * (0.1 + 0.85 / (1 + (noise / 8) ** 1.5))).astype(np.uint32)


def sample(rows=200, layers=4, seed=0):
    bitwidths = np.random.default_rng(seed).integers(1, 9, (rows, layers)).astype(np.uint8)
    # What is known beforehand is off by a factor per layer, and by some dB besides.
    sqnr = 6.0 * np.arange(1, 9) + np.random.default_rng(1).normal(0, 1, (layers, 8))
    return Sample(bitwidths, landscape(bitwidths), 1000, 950, sqnr)


def test_one_assignment_and_many_get_the_same_answer():
    table = noise_table()
    many = np.random.default_rng(0).integers(1, 9, (500, 4))
    assert [table.wrong_one(tuple(row)) for row in many.tolist()] == table.wrong(many).tolist()


def test_answers_are_those_of_every_other_machine():
    """By hand: noise 1 + 2 + 3 + 4 = 10 at 8 bits; limits below that are -1, 0 and 7."""
    table = noise_table()
    assert table.wrong_one((8, 8, 8, 8)) == 3
    assert table.wrong_one((7, 7, 7, 8)) == 4  # 28, above 3 ** 3 - 1 = 26
    assert table.wrong_one((1, 8, 8, 8)) == 26  # 4 ** 7 + 9 = 16,393 above 25 ** 3 - 1 = 15,624
    assert table.wrong_one((1, 1, 1, 1)) == 55  # 163,840 above 54 ** 3 - 1 = 157,463


@pytest.mark.parametrize("most_wrong", [3, 10, 20, 54, 99])
def test_the_cheapest_assignment_is_that_of_trying_all(most_wrong):
    table = noise_table()
    costs = np.random.default_rng(0).uniform(1, 3, 4)[:, None] * np.arange(1, 9)
    every = np.array(list(itertools.product(BITWIDTHS, repeat=4)))
    allowed = every[table.wrong(every) <= most_wrong]
    cheapest = costs[np.arange(4), allowed - 1].sum(axis=1).min()
    found = np.array(table.cheapest(costs, most_wrong))
    assert table.wrong_one(found.tolist()) <= most_wrong
    assert costs[np.arange(4), found - 1].sum() == pytest.approx(cheapest)


def test_what_the_solver_takes_for_allowed_is_tried_no_more():
    noise = np.zeros((2, 9), dtype=np.int64)
    noise[:, 2], noise[:, 4] = 10**9 + 1, 10**9  # nearer to the limit than solvers can tell
    table = NoiseTable(noise, np.array([2 * 10**9]), (2, 4, 8))
    assert table.cheapest([[2.0, 4.0, 8.0]] * 2, 0) == (4, 4)


def test_where_nothing_is_good_enough_a_sentence_says_so():
    with pytest.raises(ValueError, match="gets only 2 images wrong; 3 are the least"):
        noise_table().cheapest(np.ones((4, 8)), 2)


def test_where_every_loss_is_out_of_reach_a_build_keeps_its_sample(monkeypatch):
    bitwidths = np.array([[8, 8], [2, 2], [4, 8]], dtype=np.uint8)
    drawn = Sample(bitwidths, np.array([50, 10, 40]), 100, 95, np.zeros((2, 8)))
    evaluator = SimpleNamespace(bitwidths=BITWIDTHS, full_precision_accuracy=0.95, images=100)
    measurer = SimpleNamespace(evaluator=evaluator, measure=lambda split, assignments: None)
    monkeypatch.setattr(sampled, "_sample", lambda *_: drawn)
    monkeypatch.setattr(sampled, "optimised", lambda *_: [])
    assert sampled._refine(measurer, {(8, 8): "uniform"}) == ([], [])


def test_where_no_assignment_keeps_the_loss_the_optimum_loses_least(built):
    evaluator = task_evaluator(load_task(built / "1.0.0"))
    costs = np.outer(np.arange(1, len(evaluator.layers) + 1), evaluator.bitwidths)
    every = np.array(list(itertools.product(evaluator.bitwidths, repeat=len(evaluator.layers))))
    right = evaluator.evaluate_many(every, np.zeros(len(every), int)).accuracy
    best = every[right == right.max()]
    found = np.array(evaluator.optimum(costs, -50.0))
    assert evaluator.evaluate(found.tolist(), 0).accuracy == right.max()
    layers = np.arange(1, len(evaluator.layers) + 1)
    assert layers @ found == (best @ layers).min()


def test_on_report_images_nothing_random_is_claimed():
    plan = Plan("digits", quantizer="uniform", recipe="ptq")
    # What was drawn at random may be among the best, and so be measured on report images, too.
    ones = np.ones((2, 1), np.uint32)
    both = np.array([[2, 3, 4, 5], [8, 8, 8, 8]], np.uint8)
    source = np.full(2, SOURCES.index("uniform"), np.uint8)
    measured = Measurements(400 * ones, ones, ones * 0, ones[0], bitwidths=both, source=source)
    evaluator = plan.evaluator(None, memo=False)
    card = make_card(plan, evaluator, {"search": measured, "report": measured}, "")
    assert card["baselines"]["search"]["mean_accuracy"] == 400 / 450
    assert card["baselines"]["report"]["mean_accuracy"] is None


def test_arrays_of_another_kind_are_refused():
    table = noise_table()
    with pytest.raises(ValueError, match=r"noise is int64 \(4, 8\)"):
        NoiseTable(table.noise[:, 1:], table.limits, BITWIDTHS)
    with pytest.raises(ValueError, match="limits have to ascend"):
        NoiseTable(table.noise, table.limits[::-1].copy(), BITWIDTHS)
    with pytest.raises(ValueError, match="limits float64"):
        NoiseTable(table.noise, table.limits.astype(float), BITWIDTHS)


def test_the_noise_model_predicts_what_it_has_not_seen_better_than_the_others():
    seen, new = sample(), sample(rows=500, seed=5)
    errors = {
        name: compare(fit(seen)(new.bitwidths), new.accuracy, 0.95).rmse_points
        for name, fit in MODELS.items()
    }
    assert errors["noise"] < 1.5
    assert errors["noise"] < 0.5 * min(errors[name] for name in MODELS if name != "noise")


def test_the_integers_predict_what_the_model_predicts():
    seen = sample()
    model = fit_noise(seen)
    table = NoiseTable(**export(model, seen.images), bitwidths=BITWIDTHS)
    right = seen.images - table.wrong(seen.bitwidths)
    assert abs(right - seen.images * model.predict(seen.bitwidths)).max() <= 0.6
    # Without noise, full precision is what is left; never more than that.
    assert right.max() <= 950
    assert table.wrong_one((8, 8, 8, 8)) <= 55


def test_what_is_held_out_is_not_fitted_to():
    seen = sample()
    lie = seen.correct.copy()
    lie[:50] = 100  # one "searcher" has seen quite another network
    found = held_out(
        Sample(seen.bitwidths, lie, 1000, 950, seen.sqnr_db), np.arange(200) // 50, searched=[0]
    )
    assert found["noise"]["searchers"].rows == 50
    assert found["noise"]["searchers"].bias_points > 40
    assert set(found) == set(MODELS)


def test_quality_as_computed_by_hand():
    measured = np.array([0.9, 0.8, 0.7, 0.6])
    quality = compare(measured + 0.01, measured, full_precision=0.92)
    assert quality.rmse_points == pytest.approx(1.0) and quality.bias_points == pytest.approx(1.0)
    assert quality.near_rows == 1 and quality.kendall_tau == pytest.approx(1.0)
    assert quality.r2 == pytest.approx(1 - 1.0 / 125.0)


def test_a_draw_has_every_kind_in_its_share():
    drawn = draw(10, BITWIDTHS, 300, seed=0)
    assert [one.bitwidths for one in drawn[:8]] == [(bitwidth,) * 10 for bitwidth in BITWIDTHS]
    assert len({one.bitwidths for one in drawn}) == len(drawn)
    for source, share in DRAWN.items():
        assert sum(one.source == source for one in drawn) == round(300 * share)
    for one in drawn[8:30]:
        assert one.source == "one_layer" and sum(b < 8 for b in one.bitwidths) == 1
    assert draw(10, BITWIDTHS, 300, seed=0) == drawn != draw(10, BITWIDTHS, 300, seed=1)


def test_a_small_space_is_drawn_until_it_is_empty():
    assert len(draw(2, (4, 8), 1000, seed=0)) == 4


def test_all_searchers_are_asked_under_every_floor():
    env = gym.make("releq/QuantizeNet-v0", net="digits").unwrapped
    told = []
    found = ask_searchers(env.problem.evaluator, 60, 0, told.append)
    assert 60 <= len(found) < 80 and told[-1] == len(found)
    assert {one.source for one in found} == set(SEARCHED)
    assert len({one.bitwidths for one in found}) == len(found)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A task of digits that knows a fraction of its space, by the command line."""
    folder = tmp_path_factory.mktemp("tasks")
    options = "--quantizer uniform --recipe ptq --surrogate --rows 60 --search-images 200"
    command = f"task build digits {options} --output {folder} --workers 1"
    assert main(command.split()) == 0
    return folder / "digits-digits-uniform-ptq-w1to8"


def test_a_built_surrogate_is_a_task(built):
    task = load_task(built / "1.0.0")
    check_files(task)
    assert task.card["splits"]["search"]["images"] == 200 and not task.exhaustive
    assert "--output" not in task.card["generator"]["command"]
    env = gym.make("releq/QuantizeNet-v0", task=str(built))
    assert isinstance(env.unwrapped.problem.evaluator, SurrogateEvaluator)
    scorer = make_scorer(env.unwrapped.problem)
    every = list(itertools.product(BITWIDTHS, repeat=4))
    worths = [
        env.unwrapped.problem.objective(
            one, env.unwrapped.problem.evaluator.evaluate(one, 0).accuracy
        )
        for one in every
    ]
    assert scorer.best_worth == pytest.approx(max(worths))
    assert scorer.regret(scorer.optimum) == 0


def test_its_card_says_how_good_the_surrogate_is(built):
    quality = load_task(built / "1.0.0").card["surrogate"]
    assert set(quality["held_out"]) == set(MODELS)
    assert quality["fitted"]["rows"] == quality["rows"] >= 60
    assert quality["fitted"]["rmse_points"] < 5
    assert 1 <= len(quality["gap_points"]) <= 3
    assert quality["report"]["rows"] >= 8 + 17


def test_its_measurements_are_those_made_now(built):
    assert verify_cells(load_task(built / "1.0.0"), 10).holds


def test_an_altered_surrogate_is_refused(built, tmp_path):
    folder = tmp_path / "task"
    folder.mkdir()
    for file in (built / "1.0.0").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    with np.load(folder / "surrogate.npz") as archive:
        arrays = dict(archive)
    np.savez(folder / "surrogate.npz", **{**arrays, "noise": arrays["noise"] + 1})
    with pytest.raises(TaskError, match=r"surrogate\.npz has been altered: the sha256 of noise"):
        SurrogateEvaluator(load_task(folder))
    (folder / "surrogate.npz").unlink()
    with pytest.raises(TaskError, match=r"surrogate\.npz is missing"):
        check_files(load_task(folder))


def test_a_shipped_surrogate_gives_the_same_answers_on_every_machine():
    evaluator = gym.make("releq/QuantizeNet-v0", net="svhn10").unwrapped.problem.evaluator
    golden = {
        (8,) * 10: 1_976,
        (4,) * 10: 1_970,
        (6, 5, 5, 4, 4, 4, 4, 3, 1, 3): 1_971,
        (8, 7, 6, 5, 4, 3, 2, 1, 2, 3): 1_740,
        (1,) * 10: 134,
    }
    right = {each: round(2000 * evaluator.evaluate(each, 0).accuracy) for each in golden}
    assert right == golden
    many = evaluator.evaluate_many(np.array(list(golden)), np.zeros(5, dtype=np.intp))
    assert np.rint(2000 * many.accuracy).tolist() == list(golden.values())


def test_a_table_has_no_surrogate(built):
    env = gym.make("releq/QuantizeNet-v0", net="digits")
    with pytest.raises(TaskError, match="has no surrogate"):
        env.unwrapped.problem.evaluator.task.surrogate()
