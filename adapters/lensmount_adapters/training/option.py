"""One option of a training run or a job: its name, its type, its default, its range and its help text.

Pure data. `lensmount_client/_training_options.py` holds a copy of this class (training/options_copy.py writes it).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Option:
    """`Option("rank", "int", "Training", default=8, minimum=1, help="Rank of the low-rank deltas.")`.

    The default None means that the option may be left open; `unset` says what happens then. `minimum` and `maximum`
    are allowed values, `above` and `below` are the first ones that are not. `job_maximum` is a stricter limit for
    jobs only: a server bounds what one request may cost, a run on one's own machine needs no such bound. `longest`
    is likewise the number of characters that a job may send. `aliases` are pairs (short word, full word).
    `not_in_jobs` and `not_in_train` are the reason why the option is missing there; empty: it is there.
    """

    name: str  # of the field in TrainingConfig, POST /jobs and JobOptions
    type: str  # str, regex, int, float, bool, path, window (two numbers), prompts, table, names
    panel: str  # of the commands' help; empty: the first one
    _: KW_ONLY
    help: str
    default: str | int | float | None = None
    required: bool = False
    unset: str = ""
    minimum: int | float | None = None
    maximum: int | float | None = None
    above: int | float | None = None
    below: int | float | None = None
    job_maximum: int | float | None = None
    longest: int | None = None
    choices: tuple[str | int, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    flag: str = ""  # of the commands, where it is not --name
    metavar: str | None = None
    said: str = ""  # how a message puts a value, where it is not "name value"
    not_in_jobs: str = ""
    not_in_train: str = ""

    @property
    def command_flag(self) -> str:
        return self.flag or f"--{self.name.replace('_', '-')}"

    @property
    def lowest(self) -> int | float | None:
        """The lower end of the range, allowed or not."""
        return self.above if self.minimum is None else self.minimum

    @property
    def highest(self) -> int | float | None:
        """The upper end of the range, allowed or not."""
        return self.below if self.maximum is None else self.maximum

    @property
    def highest_in_jobs(self) -> int | float | None:
        return self.highest if self.job_maximum is None else self.job_maximum

    @property
    def shown_default(self) -> str:
        """For people: "8", "twice rank", or "" where there is nothing to say."""
        if self.default is None or self.default == "":
            return self.unset
        return "" if self.type == "bool" else str(self.default)

    @property
    def allowed(self) -> str:
        """The range in words: "at least 1", "16 to 1024"; "" where anything of the type is."""
        return "" if self.lowest is None else self._said_range()

    def full(self, value: Any) -> Any:
        """The full word for an alias; any other value as it is."""
        return dict(self.aliases).get(value, value) if isinstance(value, str) else value

    def expected_instead(self, value: Any) -> str | None:
        """What is expected where `value` is not allowed, such as "at least 1". None: it is allowed."""
        if value is None and self.default is None:
            return None
        if self.choices:
            return None if value in self.choices else self._said_choices()
        low_enough = self.minimum is None or value >= self.minimum
        low_enough = low_enough and (self.above is None or value > self.above)
        high_enough = self.maximum is None or value <= self.maximum
        high_enough = high_enough and (self.below is None or value < self.below)
        return None if low_enough and high_enough else self._said_range()  # NaN is neither: it is refused

    def found(self, value: Any) -> str:
        """How a message puts the value: "rank 0", "0 epochs", "resize 'stretch'"."""
        return (self.said or f"{self.name.replace('_', ' ')} {{!r}}").format(value)

    def _said_choices(self) -> str:
        *first, last = map(str, self.choices)
        return f"{', '.join(first)} or {last}"

    def _said_range(self) -> str:
        if self.highest is None:
            return f"more than {self.above}" if self.minimum is None else f"at least {self.minimum}"
        low = f"more than {self.above}" if self.minimum is None else str(self.minimum)
        return f"{low} to {self.maximum}" if self.below is None else f"{low} to below {self.below}"
