from benchmarks.surrogates import cards, recipe
from benchmarks.surrogates.__main__ import main
from releq_gym.tasks import shipped_tasks
from releq_gym.tasks.surrogate import MODELS


def test_a_recipe_is_compared_with_what_it_was_not_fitted_to():
    rows = recipe.measure("digits-digits-wrpn-short-w2to8")
    assert [row["model"] for row in rows] == list(MODELS)
    assert {row["fitted"] + row["rows"] for row in rows} == {7**4}
    assert rows[0]["rmse_points"] < rows[1]["rmse_points"]
    assert 0 <= rows[0]["optimum_search_regret"] < 2


def test_a_task_that_is_none_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv", ["surrogates", "--part", "recipe", "--task", "lenet-mnist-wrpn"]
    )
    assert main() == 2
    assert "Did you mean 'lenet-mnist-wrpn-short-w2to8'" in capsys.readouterr().err


def test_every_task_is_in_one_of_the_tables():
    assert sorted([*recipe.tables(), *cards.sampled()]) == sorted(shipped_tasks())
    for task in cards.sampled():
        rows = cards.read(task)
        assert {row["model"] for row in rows} == set(MODELS)
        assert all(set(row) <= set(cards.COLUMNS) for row in rows)
