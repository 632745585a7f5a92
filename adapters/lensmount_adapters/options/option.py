"""One option of a training run or a job: its name, its type, its default, its range and its help text.

This module is pure data. options/copies.py copies its class to `lensmount_client/_types/training_options.py`.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Option:
    """`Option("rank", "int", "Training", default=8, minimum=1, help="Rank of the low-rank deltas.")`.

    The default None means that the option may be omitted; `unset` says what happens then. `minimum` and `maximum` are
    allowed values; `above` and `below` are the first values that are not. `job_maximum` is a stricter limit for jobs
    only: a server bounds what one request may cost, but a run on your own machine needs no such bound. `longest` is,
    likewise, the number of characters that a job may send. `aliases` are pairs (short word, full word).
    `not_in_jobs` and `not_in_train` say why jobs or `lensmount train` do not have the option; if empty, they have it.
    """

    name: str  # of the field in TrainingConfig, POST /jobs and JobOptions
    type: str  # str, regex, int, float, bool, path, window (two numbers), prompts, table, names
    panel: str  # the panel of the commands' help; empty: the first one
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
    flag: str = ""  # of the commands, if it is not --name
    metavar: str | None = None
    wording: str = ""  # how a message states a value, if it is not "name value"
    not_in_jobs: str = ""
    not_in_train: str = ""

    @property
    def command_flag(self) -> str:
        return self.flag or f"--{self.name.replace('_', '-')}"

    @property
    def lowest(self) -> int | float | None:
        """The lower end of the range, which may itself be excluded."""
        return self.above if self.minimum is None else self.minimum

    @property
    def highest(self) -> int | float | None:
        """The upper end of the range, which may itself be excluded."""
        return self.below if self.maximum is None else self.maximum

    @property
    def highest_in_jobs(self) -> int | float | None:
        return self.highest if self.job_maximum is None else self.job_maximum

    @property
    def shown_default(self) -> str:
        """The default for a reader: "8", "twice rank", or "" if there is nothing to show."""
        if self.default is None or self.default == "":
            return self.unset
        return "" if self.type == "bool" else str(self.default)

    @property
    def allowed(self) -> str:
        """The range in words: "at least 1", "16 to 1024"; "" if any value of the type is allowed."""
        return "" if self.lowest is None else self._range_in_words()

    def full_word(self, value: Any) -> Any:
        """The full word for an alias; any other value is returned unchanged."""
        return dict(self.aliases).get(value, value) if isinstance(value, str) else value

    def expected_instead(self, value: Any) -> str | None:
        """What is expected instead of a `value` that is not allowed, such as "at least 1". None if it is allowed."""
        if value is None and self.default is None:
            return None
        if self.choices:
            return None if value in self.choices else self._choices_in_words()
        low_enough = self.minimum is None or value >= self.minimum
        low_enough = low_enough and (self.above is None or value > self.above)
        high_enough = self.maximum is None or value <= self.maximum
        high_enough = high_enough and (self.below is None or value < self.below)
        return None if low_enough and high_enough else self._range_in_words()  # NaN is neither, so it is refused

    def in_words(self, value: Any) -> str:
        """The option and a value as a message states them: "rank 0", "0 epochs", "resize 'stretch'"."""
        return (self.wording or f"{self.name.replace('_', ' ')} {{!r}}").format(value)

    def _choices_in_words(self) -> str:
        *first, last = map(str, self.choices)
        return f"{', '.join(first)} or {last}"

    def _range_in_words(self) -> str:
        if self.highest is None:
            return f"more than {self.above}" if self.minimum is None else f"at least {self.minimum}"
        low = f"more than {self.above}" if self.minimum is None else str(self.minimum)
        return f"{low} to {self.maximum}" if self.below is None else f"{low} to below {self.below}"
