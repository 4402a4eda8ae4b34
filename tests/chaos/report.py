"""What a storm is to be, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.faults import Fault
from tests.chaos.recovery import LONGEST_RECOVERY_S, Recovery
from tests.chaos.verdict import Verdict


@dataclass(frozen=True)
class Plan:
    """What a storm is to be.

    Attributes:
        seed: decides which faults come, when, and what they hit.
        faults: how many.
        messages: how many, in all tasks together.
        per_second: how fast they come.
        longest_s: the storm ends after so long, however many faults are left.
        kinds: the faults to draw from.
        settle_s: how long the system has to finish everything afterwards.
        is_timed: whether a recovery that takes longer than promised fails the run. Not where other
            work may take the processors away.
    """

    seed: int
    faults: int
    messages: int
    per_second: float
    longest_s: float
    kinds: Sequence[Fault]
    settle_s: float = 90.0
    is_timed: bool = False


@dataclass
class Report:
    """What happened.

    Attributes:
        injected: faults by name.
        recoveries: each recovery that was measured, and from what.
        settled_s: how long everything took to be finished after the storm.
        most_mib, most_files: what one process held at most at any time.
        verdict: what became of the messages.
        problems: what else is wrong.
    """

    injected: Counter[str] = field(default_factory=Counter)
    recoveries: list[tuple[Recovery, str]] = field(default_factory=list)
    settled_s: float = 0.0
    most_mib: float = 0.0
    most_files: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = "\n".join(f"  {count:4} {name}" for name, count in sorted(self.injected.items()))
        problems = "".join(f"\n  problem: {problem}" for problem in self.problems)
        return (
            f"{self.injected.total()} faults injected:\n{kinds}\n{self.verdict}\n"
            f"{self._recovered()}\nall was finished {self.settled_s:.1f} s after the storm;"
            f" one process had at most {self.most_mib:.0f} MiB"
            f" and {self.most_files} open files{problems}"
        )

    def _recovered(self) -> str:
        if not self.recoveries:
            return "no recovery was measured"
        moved = sorted(((found.moved_s, words) for found, words in self.recoveries), reverse=True)
        caught_up = sorted(found.caught_up_s for found, _ in self.recoveries)
        middle, most = len(moved) // 2, len(moved) // 20
        longest = "".join(f"\n  {took_s:5.1f} s after {words}" for took_s, words in moved[:5])
        return (
            f"{len(moved)} recoveries measured. All tasks moved again within"
            f" {moved[middle][0]:.1f} s (half of them), {moved[most][0]:.1f} s (95 %),"
            f" {moved[0][0]:.1f} s (all; promised: {LONGEST_RECOVERY_S:g} s), and had caught up"
            f" within {caught_up[middle]:.1f} s (half), {caught_up[-1 - most]:.1f} s (95 %),"
            f" {caught_up[-1]:.1f} s (all):{longest}"
        )

    @property
    def is_clean(self) -> bool:
        return self.verdict.is_clean and not self.problems
