"""One run from its settings to its result: search, answer, report."""

from __future__ import annotations

import dataclasses
import inspect
import shlex
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from agents.args import Args
from agents.base import EPISODES_PER_EVALUATION, Agent, find_agent
from agents.folder import (
    AGENT_FILE,
    COMMAND_FILE,
    begin_folder,
    go_on_logging,
    restore_ledger,
    seed_of_part,
    take_up_folder,
)
from agents.pictures import draw_pictures
from agents.tables import print_answer, print_report
from agents.watch import TrainingWatch, live_progress
from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.full_precision import warn_near_chance
from releq_gym.evaluators.resolve import make_evaluator
from releq_gym.ledger import Ledger
from releq_gym.quantized import QUANTIZED_FILE
from releq_gym.registry import typed
from releq_gym.report import final_report
from releq_gym.result import LOG_FILE, RESULT_FILE, Report, Result, read_result, write_result
from releq_gym.searchers import confirm

TABLE_BUDGET, LIVE_BUDGET = 600, 150
"""Different assignments measured where no budget is stated."""


@contextmanager
def _faults_told(agent_type: type[Agent]) -> Iterator[None]:
    """What somebody raised for the user is a sentence; a fault of an agent's code is not.

    Raises:
        ValueError: What a ``raise`` statement has raised, with the agent's line.
        RuntimeError: From any other ValueError, such as one of numpy.
    """
    try:
        yield
    except ValueError as error:
        frames = traceback.extract_tb(error.__traceback__)
        if not (frames[-1].line or "").startswith("raise"):
            raise RuntimeError(f"The agent {agent_type.__name__} failed: {error}") from error
        if "found invalid values" in str(error):  # torch, of probabilities
            raise ValueError(
                "The policy's probabilities are no numbers any more: the training has diverged. "
                "A lower learning rate helps."
            ) from error
        own = [one for one in frames if one.filename == inspect.getfile(agent_type)]
        if not own or error.__cause__ is not None:  # it tells already where it comes from
            raise
        raise ValueError(f"{error} (line {own[-1].lineno} of {own[-1].filename})") from error


def is_finished(result: Result, args: Args[Any]) -> bool:
    """Whether a run has come to its end, and has the report that is wanted."""
    return result.finished and (result.report is not None or not args.report)


class Run:
    """A search by one agent, its settings and its folder.

    Args:
        args: What to do; with ``resume`` the folder's log and checkpoint are taken up.
        command: What was typed, for the record.
        console: Where everything is printed.

    Raises:
        ValueError: For anything the user has to correct; nothing is written then.
    """

    def __init__(self, args: Args[Any], command: str, console: Console):
        self.args, self.console = args, console
        if args.threads < 1:
            raise ValueError(f"--threads {args.threads} has to be at least 1.")
        torch.set_num_threads(args.threads)
        self.evaluator = make_evaluator(
            args.evaluator,
            net=args.net,
            task=args.task,
            quantizer=args.quantizer,
            recipe=args.recipe,
            bitwidths=args.bitwidths,
            # On a task the data serve the report alone.
            data=args.data if args.evaluator == "live" else None,
            weights=args.weights,
            repeats=1 if args.repeats is None and args.evaluator == "live" else args.repeats,
            search_from_train=args.search_from_train or None,
        )
        self.problem = self._make_env(Ledger()).problem
        self.folder = args.folder or Path()
        # Made once for nothing, so that what the agent refuses is refused while nothing is written.
        self._make_agent(Ledger(), args.seed).close()
        if args.evaluator == "live":
            warn_near_chance(self.evaluator)
        self.ledger = Ledger(self.budget)
        self._started = time.perf_counter()
        self._earlier: Result | None = None
        if args.resume:
            known = (self.folder / RESULT_FILE).is_file()
            earlier = read_result(self.folder) if known else None
            restore_ledger(self.ledger, self.folder / LOG_FILE, self.problem, earlier)
            self._earlier = take_up_folder(args, command, self._budget_of, earlier)
        else:
            self.folder = begin_folder(args, command)
        go_on_logging(self.ledger, self.folder / LOG_FILE)
        typed = self.folder / COMMAND_FILE
        self.command = ""
        if typed.is_file():
            self.command = " && ".join(typed.read_text(encoding="utf-8").splitlines())

    @property
    def is_finished(self) -> bool:
        """Whether a run that was taken up has nothing left to do."""
        return self._earlier is not None and is_finished(self._earlier, self.args)

    @property
    def budget(self) -> int:
        """What was asked for, or the default, but no more than there are assignments."""
        return self._budget_of(self.args)

    @property
    def continuation(self) -> str:
        """The command that takes this run up."""
        words = ["python", "-m", "agents.train", "--folder", f"{self.folder}", "--resume"]
        return shlex.join(words)

    def search(self) -> bool:
        """Learns until the budget is spent or the policy has converged, and confirms the answer.

        Returns:
            Whether the search came to its end; False after Ctrl-C.
        """
        if not self.ledger.spent and not self._learn():
            return False
        if self.evaluator.repeats > 1:
            env = self._make_env(self.ledger, reward_timing="final")
            env.reset(seed=self.args.seed)
            confirm(env)
            env.close()
            self.console.print(
                "The best were asked again, until all repeats of the answer were known."
            )
        return True

    def _learn(self) -> bool:
        seed = seed_of_part(self.args.seed, self.ledger.environments)
        agent = self._make_agent(self.ledger, seed)
        with live_progress(self.console) as progress:
            watch = TrainingWatch(
                self.ledger, self.problem, self.folder, progress, lambda: self._save(agent)
            )
            with watch.interruptible(self.console):
                steps = EPISODES_PER_EVALUATION * self.budget * len(self.problem.steps)
                if agent.steps < steps:
                    with _faults_told(type(agent)):
                        agent.learn(steps - agent.steps, watch)
            watch.show()
        with _faults_told(type(agent)):
            agent.close()
            watch.save()
        if not (watch.interrupted or self.ledger.spent):
            why = (
                f"the agent ended by itself, after {agent.steps} steps"
                if agent.steps < steps
                else f"{EPISODES_PER_EVALUATION} episodes for each of the budget have been played, "
                "most of them of assignments that were known: the policy has settled. Options such "
                "as --novelty or --ent-coef, where the agent has them, let it explore more"
            )
            self.console.print(
                f"Ended with {self.ledger.distinct} of {self.budget} assignments: {why}.",
                highlight=False,
            )
        return not watch.interrupted

    def result(self) -> Result | None:
        """What is known so far; None where nothing has been measured."""
        answer, earlier = self.ledger.best(self.problem), self._earlier
        if answer is None:
            return None
        seconds, report = time.perf_counter() - self._started, None
        if earlier is not None:
            seconds += earlier.seconds
            report = earlier.report if earlier.bitwidths == answer.bitwidths else None
        return Result.of(
            self.problem,
            self.ledger,
            answer,
            finished=False,
            data=self.args.data,
            searcher=self.args.agent,
            seed=self.args.seed,
            seconds=seconds,
            command=self.command,
            report=report,
        )

    def finish(self, result: Result) -> Result:
        """Retrains and reports the answer, unless that was done or declined, and closes the run."""
        report = result.report
        if report is not None:
            print_report(self.console, report)
        else:
            (self.folder / QUANTIZED_FILE).unlink(missing_ok=True)  # of an answer of before
            if self.args.report:
                with self.console.status("Retraining the answer for the report"):
                    report = self._report(result)
        finished = dataclasses.replace(result, finished=True, report=report)
        write_result(self.folder, finished)
        return finished

    def show(self, result: Result) -> None:
        """Prints the answer and draws the pictures."""
        print_answer(self.console, self.problem, result)
        shown = find_agent(self.args.agent).shown
        draw_pictures(self.folder, self.problem, result.bitwidths, shown)

    def _report(self, result: Result) -> Report | None:
        try:
            report = final_report(self.evaluator, result.bitwidths, self.folder, self.args.data)
        except ValueError as error:
            self.console.print(
                f"No report: {error}\nOnce that is mended: {self.continuation} [--data PATH]",
                highlight=False,
                soft_wrap=True,
            )
            return None
        if report is None:
            self.console.print(f"No report: {self.evaluator.name} has no report images.")
            return None
        print_report(self.console, report)
        return report

    def _budget_of(self, args: Args[Any]) -> int:
        stated = args.evaluation_budget
        default = LIVE_BUDGET if args.evaluator == "live" else TABLE_BUDGET
        return min(default if stated is None else stated, self.problem.size)

    def _make_env(self, ledger: Ledger, reward_timing: str | None = None) -> QuantizeNetEnv:
        args = self.args
        floor = args.max_loss_points
        return QuantizeNetEnv(
            evaluator=self.evaluator,
            bitwidths=args.bitwidths,
            fixed_bitwidths=args.fixed_bitwidths,
            groups=None if args.groups is None else [group.split(",") for group in args.groups],
            observation=args.observation,
            reward=typed("reward", args.reward),
            reward_kwargs=None if floor is None else {"max_loss_points": floor},
            reward_timing=reward_timing or args.reward_timing,
            gamma=args.settings.gamma,
            cost=typed("cost", args.cost),
            cost_kwargs=args.cost_kwargs,
            cost_budget=args.cost_budget,
            ledger=ledger,
        )

    def _make_agent(self, ledger: Ledger, seed: int) -> Agent:
        checkpoint = self.folder / AGENT_FILE
        agent_type = find_agent(self.args.agent)
        with _faults_told(agent_type):
            return agent_type(
                lambda: self._make_env(ledger),
                self.args.settings,
                seed,
                checkpoint if self.args.resume and checkpoint.is_file() else None,
            )

    def _save(self, agent: Agent) -> None:
        agent.save(self.folder / AGENT_FILE)
        if (result := self.result()) is not None:
            write_result(self.folder, result)
