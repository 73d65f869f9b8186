"""What a diagnosis says: `Finding` and `Report`."""

import html
import textwrap
from dataclasses import dataclass, field, replace

from labkit.clinic.causes import CAUSES


class Broken(AssertionError):
    """A contract is broken; `report` holds the findings."""

    def __init__(self, report: "Report"):
        super().__init__(str(report))
        self.report = report


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    `cause`: its name, a key of `labkit.clinic.CAUSES`.  `kind`: "contract", which holds or is
    broken, or "sign", a statistic past its threshold.  `measured`: the value, `threshold`: what
    it was compared with, `source`: where the threshold comes from.  `strength` orders signs:
    how many times the threshold was exceeded, or about that.
    """

    cause: str
    kind: str
    measured: str
    threshold: str
    source: str
    strength: float = 1.0

    @property
    def why(self) -> str:
        """Why it matters, in one sentence."""
        return CAUSES[self.cause].why

    @property
    def fix(self) -> str:
        """The fix, as a line of code."""
        return CAUSES[self.cause].fix


@dataclass
class Report:
    """The findings of `diagnose` or `watch`, the most likely cause first.

    `notes`: oddities that are harmless here, or that follow from a finding.
    `passed`: the checks that ran.  `not_run`: those that could not, and what they need.
    `seconds`: the time that the diagnosis took.
    """

    subject: str
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def causes(self) -> list[str]:
        """The names of the causes, the most likely one first."""
        return [finding.cause for finding in self.findings]

    @property
    def ok(self) -> bool:
        """True if nothing was found."""
        return not self.findings

    def raise_if_broken(self, signs: bool = False) -> None:
        """Raise `Broken`, an AssertionError, for a broken contract; with `signs`, any finding."""
        if any(signs or finding.kind == "contract" for finding in self.findings):
            raise Broken(self)

    def sort(self) -> None:
        """Contracts first, then the strongest sign; what follows from another becomes a note."""
        found = set(self.causes)
        symptoms = {name: cause for cause in found for name in CAUSES[cause].follows}
        for finding in self.findings:
            if finding.cause in symptoms:
                self.notes.append(
                    f"{finding.cause} ({finding.measured}): follows from {symptoms[finding.cause]}"
                )
        causes = dict.fromkeys(name for name in self.causes if name not in symptoms)
        merged = [_merge([f for f in self.findings if f.cause == name]) for name in causes]
        self.findings = sorted(merged, key=lambda f: (f.kind != "contract", -f.strength))

    def _headline(self) -> str:
        ran = f"{len(self.passed)} checks in {self.seconds:.1f} s"
        if self.ok:
            return f"{self.subject}: nothing found ({ran})"
        count = f"{len(self.findings)} finding{'s' if len(self.findings) > 1 else ''}"
        return f"{self.subject}: {count} ({ran})"

    def __str__(self) -> str:
        lines = [self._headline()]
        for number, finding in enumerate(self.findings, 1):
            lines += [
                f"{number}. {finding.cause.upper()} ({finding.kind})",
                *_wrapped("measured", finding.measured),
                *_wrapped("expected", f"{finding.threshold} ({finding.source})"),
                *_wrapped("why", finding.why),
                *_wrapped("fix", finding.fix),
            ]
        for note in self.notes:
            lines += _wrapped("note", note)
        for check, reason in self.not_run.items():
            lines += _wrapped("not run", f"{check}: {reason}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        names = ("", "cause", "measured", "expected", "why it matters", "fix")
        rows = []
        for number, finding in enumerate(self.findings, 1):
            cells = (
                str(number),
                f"<b>{_safe(finding.cause)}</b><br>{finding.kind}",
                _safe(finding.measured),
                f"{_safe(finding.threshold)}<br><small>{_safe(finding.source)}</small>",
                _safe(finding.why),
                f"<code>{_safe(finding.fix)}</code>",
            )
            rows.append("".join(f'<td style="text-align:left">{cell}</td>' for cell in cells))
        head = "".join(f'<th style="text-align:left">{name}</th>' for name in names)
        table = "".join(f"<tr>{row}</tr>" for row in rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{table}</tbody></table>"
        rest = [f"note: {note}" for note in self.notes]
        rest += [f"not run: {check}: {reason}" for check, reason in self.not_run.items()]
        small = "".join(f"<br><small>{_safe(line)}</small>" for line in rest)
        return f"<div><b>{_safe(self._headline())}</b>{table if rows else ''}{small}</div>"


def _merge(findings: list[Finding]) -> Finding:
    """One finding of several with the same cause, in two layers say."""
    if len(findings) == 1:
        return findings[0]
    worst = max(findings, key=lambda finding: finding.strength)
    return replace(worst, measured=f"{worst.measured}; and {len(findings) - 1} more like it")


def _safe(text: str) -> str:
    return html.escape(text)


def _wrapped(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, 96, initial_indent=f"   {name:<9}", subsequent_indent=12 * " ", break_on_hyphens=False
    )
