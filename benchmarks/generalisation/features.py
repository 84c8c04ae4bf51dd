"""Which features a policy looks at: ``python -m benchmarks.generalisation.features``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from agents.policy_file import read_card
from agents.pretrained import PretrainedAgent, PretrainedSettings
from agents.walk import Walker
from benchmarks.generalisation.run import others, policy_file, tasks
from benchmarks.generalisation.sweep import DEVELOPMENT, REFERENCE, SEEDS
from benchmarks.options import positive
from benchmarks.rows import append_rows, read_rows
from benchmarks.runs import Job, judged
from benchmarks.statistics import interquartile_mean, summary
from benchmarks.tables import Table, markdown
from releq_gym.env import QuantizeNetEnv
from releq_gym.progress import ProgressBars

RESULTS = Path(__file__).parent / "results"

PLANNED = 3
"""Seeds, where nobody asks for more."""

COLUMNS = (
    *("net", "seed", "feature", "changed_percent", "regret", "regret_without"),
    *("bits", "bits_without"),
)

TOGETHER = ("kind", "sqnr")
"""What several numbers of the observation are about, by how their names begin."""


class Replaced(gym.ObservationWrapper):
    """Shows some numbers of an observation as they are elsewhere on average.

    Args:
        env: With an observation that is an array.
        columns: Which.
        values: What they show.
    """

    def __init__(self, env: gym.Env, columns: Sequence[int], values: NDArray[np.float32]):
        super().__init__(env)
        self._columns, self._values = list(columns), values

    def observation(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy with other values."""
        observation = observation.copy()
        observation[self._columns] = self._values
        return observation


class Recorded(gym.ObservationWrapper):
    """Keeps what it shows."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.seen: list[NDArray[np.float32]] = []

    def observation(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """As it is."""
        self.seen.append(observation.copy())
        return observation


def main(arguments: Sequence[str] | None = None) -> int:
    """Goes on where an earlier call was stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generalisation.features", description=__doc__
    )
    parser.add_argument("--seeds", type=positive, default=PLANNED, help=f"up to {len(SEEDS)}")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of what is made")
    parser.add_argument("--policies", type=Path, help="of pretrained ones (default: in results)")
    options = parser.parse_args(arguments)
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / "features.csv"
    done = {(row["net"], int(row["seed"])) for row in read_rows(path)}
    missing = [
        (net, seed) for seed in SEEDS[: options.seeds] for net in tasks() if (net, seed) not in done
    ]
    policies = options.policies or options.results / "policies"
    try:
        with ProgressBars() as bars:
            for net, seed in bars.track(missing, description="networks held out"):
                append_rows(path, list(importance(net, seed, policies)), COLUMNS)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    rows = pd.read_csv(path)
    text = markdown([table(rows)])
    (options.results / "features.md").write_text(text, encoding="utf-8")
    draw(rows).savefig(options.results / "features.png", dpi=110)
    print(text)
    return 0


def importance(net: str, seed: int, policies: Path) -> Iterator[dict[str, Any]]:
    """What each feature does to the answer without evaluations on a network that is held out.

    Args:
        net: Held out.
        seed: Of the pretraining.
        policies: Folder of the pretrained ones; what is missing is pretrained.
    """
    task = tasks()[net]
    path = policy_file(Job(task, REFERENCE, seed), policies)
    card = read_card(path)
    agent = PretrainedAgent(
        lambda: QuantizeNetEnv(task=task, observation=card.observation),
        PretrainedSettings(policy=str(path)),
        seed,
    )
    policy = agent.model.policy
    agent.close()

    def make_env(of_task: str) -> QuantizeNetEnv:
        return QuantizeNetEnv(task=of_task, observation=card.observation)

    def first_answer(env: gym.Env) -> tuple[float, float]:
        """Search regret and bits per weight."""
        row = judged(Job(task, REFERENCE, seed), 0, Walker(env, policy, card).first_answer())
        return row["search_regret"], row["weighted_bitwidth"]

    here, taught = Recorded(make_env(task)), []
    regret, bits = first_answer(here)
    for other in others(task).values():
        env = Recorded(make_env(other))
        Walker(env, policy, card).first_answer()
        taught.append(np.array(env.seen))
    elsewhere, seen = np.concatenate(taught), np.array(here.seen)
    mean = np.mean([part.mean(axis=0) for part in taught], axis=0).astype(np.float32)
    for feature, columns in grouped(make_env(task).feature_names).items():
        regret_without, bits_without = first_answer(
            Replaced(make_env(task), columns, mean[columns])
        )
        yield {
            "net": net,
            "seed": seed,
            "feature": feature,
            "changed_percent": 100 * changed(policy, seen, elsewhere, columns),
            "regret": regret,
            "regret_without": regret_without,
            "bits": bits,
            "bits_without": bits_without,
        }


def grouped(names: Sequence[str]) -> dict[str, list[int]]:
    """The columns of each feature; what `TOGETHER` names counts as one."""
    columns: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        of = name.partition("_")[0]
        columns.setdefault(of if of in TOGETHER else name, []).append(column)
    return columns


def changed(
    policy: Any, seen: NDArray[np.float32], elsewhere: NDArray[np.float32], columns: Sequence[int]
) -> float:
    """Total variation between a policy's choices with a feature and with that of another layer.

    Args:
        policy: Of stable-baselines3, without memory.
        seen: Observations, ``[steps, features]``.
        elsewhere: Those whose values are put in, likewise.
        columns: Of the feature.

    Returns:
        The mean over both, in [0, 1].
    """
    mixed = np.repeat(seen[:, None], len(elsewhere), axis=1)
    mixed[:, :, columns] = elsewhere[None, :, columns]
    before = probabilities(policy, seen)[:, None]
    after = probabilities(policy, mixed.reshape(-1, seen.shape[1]))
    distance = np.abs(after.reshape(len(seen), len(elsewhere), -1) - before).sum(axis=-1) / 2
    return float(distance.mean())


def probabilities(policy: Any, observations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each choice, ``[observations, bitwidths]``."""
    with torch.no_grad():
        return policy.get_distribution(torch.as_tensor(observations)).distribution.probs.numpy()


def table(rows: pd.DataFrame) -> Table:
    """A line per feature, the one first that choices depend on most; development is left out."""
    counted = rows[~rows["net"].isin(DEVELOPMENT)]
    lines: list[tuple[str, ...]] = []
    for feature in _order(counted):
        group = counted[counted["feature"] == feature]
        regret = _matrix(group, group["regret_without"] - group["regret"])
        by_net = regret.mean(axis=0)
        lines.append(
            (
                f"`{feature}`",
                summary(_matrix(group, group["changed_percent"]), ".1f"),
                summary(regret, "+.3f"),
                f"{by_net.min():+.3f} to {by_net.max():+.3f}",
                f"{_iqm(group, group['bits_without'] - group['bits']):+.2f}",
            )
        )
    nets = ", ".join(dict.fromkeys(counted["net"]))
    return Table(
        "What a policy looks at, on networks that it has never seen",
        f"Interquartile means over {counted['seed'].nunique()} seeds, means over {nets}, and "
        "stratified bootstrap 95 % intervals. Changed: by how many percent of the probability the "
        "choice moves (total variation) when the feature is that of a layer of another net. "
        "Regret: how much more the answer without evaluations has when the feature shows what it "
        "is on average elsewhere; below 0 the policy is better off without; then the least and "
        "the most that is on one network, mean over seeds. Bits per weight likewise.",
        ("feature", "changed", "regret", "on one network", "bits"),
        lines,
    )


def draw(rows: pd.DataFrame) -> Figure:
    """Bars of how far the choice moves."""
    counted = rows[~rows["net"].isin(DEVELOPMENT)]
    order = _order(counted)[::-1]
    figure = Figure(figsize=(6.4, 0.26 * len(order) + 1.2), layout="constrained")
    axes = figure.subplots()
    groups = [counted[counted["feature"] == feature] for feature in order]
    changes = [_iqm(group, group["changed_percent"]) for group in groups]
    axes.barh(order, np.array(changes), color="C0")
    for place, group in enumerate(groups):
        by_net = group.groupby("net")["changed_percent"].mean()
        axes.scatter(by_net, [place] * len(by_net), s=12, color="C1", zorder=3)
    axes.set(xlabel="the choice moves by so many percent (points: one network each)")
    axes.margins(y=0.01)
    return figure


def _order(rows: pd.DataFrame) -> list[str]:
    groups = rows.groupby("feature")
    means = {str(feature): _iqm(group, group["changed_percent"]) for feature, group in groups}
    return sorted(means, key=lambda feature: -means[feature])


def _iqm(group: pd.DataFrame, values: pd.Series) -> float:
    return float(interquartile_mean(_matrix(group, values)))


def _matrix(group: pd.DataFrame, values: pd.Series) -> NDArray[np.float64]:
    """``[seeds, nets]``."""
    by_seed = group.assign(value=values).pivot_table("value", "seed", "net").dropna()
    return by_seed.to_numpy(float)


if __name__ == "__main__":
    sys.exit(main())
