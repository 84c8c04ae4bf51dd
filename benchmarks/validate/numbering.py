"""Whether the accuracies of a log are all there, and in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.validate.records import Episode


def check_numbers(episodes: Sequence[Episode]) -> Iterator[tuple[int, str]]:
    """What is missing, told twice or out of order, by line.

    Args:
        episodes: Of a log, in its order.
    """
    lines: dict[int, int] = {}
    last: dict[int, int] = {}  # of an environment
    ended = 0
    for episode in episodes:
        numbers = [one[3] for one in episode.revealed]
        so_far = [last.get(episode.member, 0), *numbers]
        again = [number for number in numbers if number in lines]
        if again:
            yield episode.line, f"accuracy number {again[0]} again, as in line {lines[again[0]]}"
        elif so_far != sorted(so_far):
            yield episode.line, "accuracies out of order"
        elif not episode.cut:
            # Whatever ends an episode, an accuracy or a refusal, is the last of its questions.
            end = episode.refused if episode.refused is not None else max(numbers, default=ended)
            if end < ended:
                yield episode.line, f"it ended after {end} accuracies, a line before after {ended}"
            ended = max(ended, end)
        lines |= {number: episode.line for number in numbers}
        last[episode.member] = max(so_far)
    expected = 1
    for number in sorted(lines):
        if number > expected:
            which = f" {expected}" if number == expected + 1 else f"s {expected} to {number - 1}"
            yield lines[number], f"revealed before, and missing: accuracy number{which}"
        expected = number + 1
