"""Policies as files that are safe to load: weights as safetensors, all else as JSON in them.

The archives of stable-baselines3 hold pickles, which run code when they are opened; these do not.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model

from releq_gym.whole_files import written_whole

RECORD = "releq_gym_policy"
"""Key of the safetensors metadata that holds the card."""


@dataclass(frozen=True)
class PolicyCard:
    """What a policy sees and chooses, and how it came about.

    Attributes:
        observation: ``"layer"``, ``"paper"`` or ``"full"``.
        memory: Whether it has an LSTM.
        bitwidths: Of its actions, ascending.
        groups: Networks, tasks and families that it was pretrained on, with repetitions.
        nets: Networks behind them by name.
        settings: Of the pretraining.
        seed: Likewise.
        steps: Of all environments together.
        version: Of this package.
        chooses: ``"bitwidths"``, or ``"changes"`` of an incumbent (`releq_gym.wrappers.Incumbent`).
    """

    observation: str
    memory: bool
    bitwidths: tuple[int, ...]
    groups: tuple[str, ...]
    nets: tuple[str, ...]
    settings: Mapping[str, Any]
    seed: int
    steps: int
    version: str
    chooses: str = "bitwidths"

    def check_observation(self, shown: str) -> None:
        """Refuses an environment that shows something else.

        Args:
            shown: Its observation by name.

        Raises:
            ValueError: Where it does.
        """
        if shown != self.observation:
            raise ValueError(
                f"This policy was pretrained on observation={self.observation!r}, and the "
                f"environment shows {shown!r}; pass observation={self.observation!r}."
            )


def check_ascending(bitwidths: tuple[int, ...]) -> None:
    """Refuses bitwidths that an environment would put into another order, as actions have it.

    Raises:
        ValueError: For any that do not ascend.
    """
    if list(bitwidths) != sorted(set(bitwidths)):
        raise ValueError(f"bitwidths={bitwidths!r} have to ascend, each of them once.")


def write_policy(path: Path, policy: torch.nn.Module, card: PolicyCard) -> None:
    """Writes weights and card, whole or not at all."""
    with written_whole(path) as partial:
        save_model(policy, str(partial), {RECORD: json.dumps(dataclasses.asdict(card))})


def read_card(path: Path, chooses: str | None = None) -> PolicyCard:
    """The card of a policy.

    Args:
        path: Of the file.
        chooses: What the policy has to choose; None means anything.

    Raises:
        ValueError: Where the file is missing, damaged, or no policy that chooses this.
    """
    card = _read(path)
    if chooses not in (None, card.chooses):
        agents = {"bitwidths": "pretrained", "changes": "improver"}
        hint = f"; --agent {agents[card.chooses]} takes it" if card.chooses in agents else ""
        raise ValueError(f"The policy {path} chooses {card.chooses}, not {chooses}{hint}.")
    return card


def _read(path: Path) -> PolicyCard:
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})[RECORD])
        lists = {name: tuple(record[name]) for name in ("bitwidths", "groups", "nets")}
        check_ascending(lists["bitwidths"])
        return PolicyCard(**{**record, **lists})
    except (OSError, SafetensorError) as error:
        raise ValueError(f"The policy {path} cannot be read: {error}.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no policy of `python -m agents.pretrain`: {error!r}."
        ) from None


def load_policy(path: Path, policy: torch.nn.Module) -> None:
    """Puts the weights of a file into a policy of the same architecture.

    Raises:
        ValueError: Where they do not fit.
    """
    try:
        load_model(policy, path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"The policy {path} cannot be read: {error}.") from None
    except RuntimeError as error:
        raise ValueError(
            f"The weights in {path} do not fit this policy, perhaps since the observation or the "
            f"architecture has changed in the meantime; pretrain it again. {error}"
        ) from None
