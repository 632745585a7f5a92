"""A rollout in words and tables for people: what is tried, what both versions did, and what speaks against one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from lensmount_client._show.table import Facts, Table
from lensmount_client._show.text import printable
from lensmount_client._types.results import AdapterInfo
from lensmount_client._types.rollouts import (
    Canary,
    RightAnswers,
    Rollout,
    RolloutComparison,
    RolloutEvent,
    RolloutLabels,
    RolloutReport,
    RolloutSide,
)

CLEAR = 0.01  # from this p-value down, a difference is called clear
MOST_LABELS, MOST_EVENTS = 8, 8  # of a table of labels, and of the newest events


def described_rollout(report: RolloutReport) -> RenderableType:
    """The report as a page for a terminal."""
    parts: list[RenderableType] = [_facts(report)]
    for title, table in _tables(report):
        parts += [Text(), Text(title, style="bold"), table]
    return Group(*parts)


def rollout_line(report: RolloutReport) -> str:
    """For example "malaria:prod  stable 7, canary 8 gets 10 % by client"."""
    return f"{report.name}:{report.alias}  {_what(report.rollout) if report.rollout else 'no rollout'}"


def alias_words(info: AdapterInfo) -> str:
    """The aliases of an adapter: "beta=9, prod=7 (trying 8)"."""
    words = []
    for alias, version in info.aliases.items():
        rollout = info.rollouts.get(alias)
        candidate = None if rollout is None else rollout.canary or rollout.shadow
        words.append(f"{alias}={version}" + ("" if candidate is None else f" (trying {candidate.version})"))
    return ", ".join(words)


def _what(rollout: Rollout) -> str:
    parts = [f"stable {rollout.stable}"]
    if rollout.canary:
        parts.append(f"canary {rollout.canary.version} gets {rollout.canary.percent:g} % by {rollout.canary.key}")
    if rollout.shadow:
        parts.append(f"shadow {rollout.shadow.version} sees {100 * rollout.shadow.sample:g} %")
    return ", ".join(parts)


def _facts(report: RolloutReport) -> Facts:
    facts, rollout = Facts(), report.rollout
    facts.add("alias", f"{report.name}:{report.alias}")
    if rollout is None:
        last = report.events[0] if report.events else None
        facts.add("rollout", "none" if last is None else f"ended: {_words(last.what)} {_time(last.at)}")
        return facts
    facts.add("stable", f"{report.name}@{rollout.stable}")
    if rollout.canary:
        facts.add("canary", f"{report.name}@{rollout.canary.version} {_asked(rollout.canary, report)}")
    if rollout.shadow:
        sample = f"{100 * rollout.shadow.sample:g} % of the images"
        facts.add("shadow", f"{report.name}@{rollout.shadow.version} computes {sample}; nobody gets its answers")
    if not rollout.ready:
        facts.add("not ready", "this server still loads it, and the stable version answers")
    by = f" by {rollout.started_by}" if rollout.started_by else ""
    facts.add("started", f"{_time(rollout.started_at)}{by}")
    facts.add("rules", ", ".join(f"{name} {_value(value)}" for name, value in rollout.rules.items()))
    return facts


def _asked(canary: Canary, report: RolloutReport) -> str:
    by = {"request": "of the requests", "client": "of the callers"}.get(canary.key)
    by = by or f"of the values of {canary.key.removeprefix('header:')}"
    text = f"gets {canary.percent:g} % {by}"
    if report.share is not None:
        text += f"; so far {100 * report.share:.1f} % of the requests"
    if report.without_key:
        text += f"; {report.without_key:,} requests had no such header, and the stable version answered"
    return text


def _tables(report: RolloutReport) -> Iterator[tuple[str, RenderableType]]:
    if report.sides:
        yield "Requests", _requests(report.sides)
    if report.compared is not None:
        yield "Stable and shadow on the same images", _compared(report.compared)
    if report.labelled is not None and report.labelled.images:
        yield f"Images that people labelled: {report.labelled.images:,}", _labelled(report.labelled)
    if report.findings:
        findings = Facts()
        for finding in report.findings:
            findings.add(finding.rule, f"found {finding.found}, expected {finding.expected}")
        yield "Findings", findings
    elif report.rollout is not None:
        yield "Findings", Text("none")
    if report.events:
        events = Facts()
        for event in report.events[:MOST_EVENTS]:
            events.add(_time(event.at), _happened(event))
        yield "Events", events


def _requests(sides: Mapping[str, RolloutSide]) -> RenderableType:
    decisions = [word for word in ("uncertain", "unfamiliar") if any(word in each.decisions for each in sides.values())]
    broken = ["not finite"] if any(each.not_finite for each in sides.values()) else []
    columns = ("version", "requests", "images", "errors", *broken, *decisions, "p50", "p99")
    table = Table(*columns, right=columns[1:])
    for word, side in sides.items():
        table.add_row(
            f"{side.version} {word}",
            f"{side.requests:,}",
            f"{side.images:,}",
            f"{sum(side.errors.values()):,}",
            *([f"{side.not_finite:,}"] if broken else []),
            *(_share(side.decisions.get(decision, 0), sum(side.decisions.values())) for decision in decisions),
            _milliseconds(side.p50_ms),
            _milliseconds(side.p99_ms),
        )
    errors = Facts()
    for word, side in sides.items():
        errors.add(f"errors of {word}", ", ".join(f"{count:,} {code}" for code, count in side.errors.items()))
    return Group(table, errors)


def _compared(compared: RolloutComparison) -> RenderableType:
    facts = Facts()
    facts.add("images", f"{compared.images:,}")
    facts.add("same label", "" if compared.agreement is None else f"{compared.agreement:.1%}")
    change = compared.mean_change_of_scores
    facts.add("mean change of scores", "" if change is None else f"{change:.4f}")
    facts.add("left out under load", f"{compared.shed:,}" if compared.shed else "")
    facts.add("without an answer", f"{compared.failed:,}" if compared.failed else "")
    sizes = {len(compared.labels), len(compared.counts), *map(len, compared.counts)}
    if len(sizes) > 1 or not 0 < len(compared.labels) <= MOST_LABELS:
        return facts
    table = Table("stable / shadow", *compared.labels, right=compared.labels)
    for label, counts in zip(compared.labels, compared.counts, strict=True):
        table.add_row(label, *(f"{count:,}" for count in counts))
    return Group(facts, table)


def _labelled(labelled: RolloutLabels) -> RenderableType:
    table = Table("version", "accuracy", "calibration error", "Brier score", "right alone")
    for word, right, alone in (
        ("stable", labelled.stable, labelled.only_stable_right),
        ("candidate", labelled.candidate, labelled.only_candidate_right),
    ):
        table.add_row(word, *_figures(right), f"{alone:,}")
    facts = Facts()
    facts.add("McNemar, exact", _difference(labelled))
    facts.add("worse labels?", _worse(labelled.sequential_p_accuracy))
    facts.add("worse scores?", _worse(labelled.sequential_p_brier))
    return Group(table, facts)


def _figures(right: RightAnswers) -> tuple[str, ...]:
    accuracy = "" if right.accuracy is None else f"{right.accuracy:.1%}"
    return accuracy, *("" if value is None else f"{value:.3f}" for value in (right.ece, right.brier))


def _difference(labelled: RolloutLabels) -> str:
    p = labelled.mcnemar_p
    if p is None:
        return ""
    if labelled.only_stable_right == labelled.only_candidate_right == 0:
        return "no image that only one of them has right"
    if p > CLEAR:
        return f"the difference may be chance ({_p(p)})"
    better = "candidate" if labelled.only_candidate_right > labelled.only_stable_right else "stable version"
    return f"the {better} is right more often ({_p(p)}, for one look)"


def _worse(p: float | None) -> str:
    """The sequential tests are about one direction: that the candidate is worse."""
    if p is None:
        return ""
    return f"{'yes, clearly' if p <= CLEAR else 'not shown'} ({_p(p)} at any time)"


def _p(value: float) -> str:
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.2g}"


def _happened(event: RolloutEvent) -> str:
    shown = {key: value for key, value in (event.evidence or {}).items() if value is not None and key != "rules"}
    evidence = f": {_value(shown)}" if shown else ""
    return f"{_words(event.what)} by {event.actor or 'the server'}{evidence}"


def _words(what: str) -> str:
    return what.replace("_", " ")


def _value(value: Any) -> str:
    """A value of the server's JSON in one line, without its braces."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(str(key))} {_value(each)}" for key, each in value.items())
    if isinstance(value, list):
        return "; ".join(map(_value, value))
    if value is None or isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return printable(str(value))


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else ""


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
