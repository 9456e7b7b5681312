"""Calibrate from a user's own labelled crops: a map and thresholds for their paper, and what to label next."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from train import calibration, card, plots
from train.labels import LABELS, NO_DIGITS, LabelError
from train.percent import percent
from watcher.calibration import CONFIDENCE, Calibration, binomial_tail
from watcher.folder import scan
from watcher.names import escape

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from train.evaluate import Result
    from train.labels import Crop
    from watcher.calibration import Kind
    from watcher.model import Card

PROMISES = (0.001, 0.005, 0.01, 0.02)  # error rates that the report is about
LEAST = 100  # crops of a kind: from fewer nothing can be said
EVENTS = 10  # wrong values among them: from fewer no map can be learnt
FOLDS = 5
SURE, ODD = 0.99, 0.2  # of what is read with that confidence, so many labels may say otherwise
NAMED = 10  # crops whose labels may be wrong, in the report
NEXT = 500  # crops at most that are named for labelling


@dataclass(frozen=True, slots=True)
class Found:
    """What the labelled crops of one kind tell."""

    kind: Kind
    entry: dict[str, Any]  # the calibration, as the card holds it
    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    confidence: NDArray[np.float64]  # of each crop, by a map that was fitted on the other crops
    before: Calibration

    @property
    def after(self) -> Calibration:
        """The calibration, ready to judge."""
        return Calibration.of(self.entry)


def never_trained_on(model: Path, crops: Sequence[Crop]) -> list[Crop]:
    """The crops that the networks of `model` were not tuned on: the others are read better than what will come."""
    entry = json.loads((card.folder_of(model) / card.NAME).read_text(encoding="utf-8"))
    known = set(entry.get("extra", {}).get("crops", ()))
    return [crop for crop in crops if crop.sha256[: card.SHORT] not in known]


def check_readings(folder: Path, results: Sequence[Result]) -> None:
    """Raise LabelError where the labels contradict so many sure readings that they must belong to other crops."""
    wrong = suspects(results)
    sure = [r for r in results if r.crop.is_number and r.reading.score is not None and r.reading.confidence >= SURE]
    if len(sure) >= LEAST // 5 and len(wrong) > ODD * len(sure):
        first = wrong[0]
        raise LabelError(
            f"{folder / LABELS}: of {len(sure)} crops that are surely read {len(wrong)} are labelled otherwise; "
            f"the first is {first.crop.file}, labelled {first.crop.value}, read {first.reading.value}; "
            "are these the labels of other crops?"
        )


def suspects(results: Sequence[Result]) -> list[Result]:
    """The crops that are surely read as another number than their label says, the surest first."""
    sure = [r for r in results if r.crop.is_number and r.reading.score is not None and r.reading.confidence >= SURE]
    return sorted((result for result in sure if not result.right), key=lambda result: -result.reading.confidence)


def find(results: Sequence[Result], read: Card, on: str, max_error: float) -> list[Found]:
    """Calibrate each kind of which there are crops enough; `on` says in words what they are. Raises LabelError.

    What decides at `max_error` before goes on to where these crops do not tell enough to do without.

    The thresholds are counted on scores, which no map changes, so that the same crops may serve for both. What is said
    of the confidence is cross-fitted: each crop's comes from a map that was fitted on the others.
    """
    found: list[Found] = []
    counts: Counter[str] = Counter()
    for kind in read.kinds:
        some = [result for result in results if result.reading.kind == kind and result.reading.score is not None]
        counts[f"{kind}s"] = len(some)
        if len(some) < LEAST:
            continue
        scores = np.array([result.reading.score for result in some], np.float64)
        # Where there is nothing to read, whatever is read is wrong.
        right = np.array([result.reading.value == result.crop.value for result in some], np.bool_)
        name = f"{len(some):,} {kind}s of {on}"
        strays = sum(result.crop.value == NO_DIGITS for result in results if result.reading.kind == kind)
        before = read.calibration(kind)
        learnt = int((~right).sum()) >= EVENTS
        line = calibration.within(calibration.platt(scores, right), scores, before.steepness)
        entry = {
            "map": line if learnt else before.map,
            "trials": [calibration.trial(name, scores, right) | _known(scores, right, strays)],
            "before": [asdict(trial) for trial in before.guards(max_error)],
        }
        confidence = cross_fitted(scores, right) if learnt else _judged(before, scores)
        found.append(Found(kind, entry, scores, right, confidence, before))
    if not found:
        there = " and ".join(f"{count} {kind}" for kind, count in counts.items())
        raise LabelError(f"{there} to calibrate with are too few; label {LEAST} of a kind or more, best some 500.")
    return found


def _known(scores: NDArray[np.float64], right: NDArray[np.bool_], strays: int) -> dict[str, Any]:
    """What a trial says beside its counts where it is on labelled crops."""
    return {"least": float(scores[right].min()) if right.any() else None, "strays": strays}


def cross_fitted(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The confidence of each value by a map that was fitted on the values of the other folds."""
    fold = np.random.default_rng(1).permutation(len(scores)) % FOLDS
    confidence = np.zeros(len(scores))
    for number in range(FOLDS):
        apart = fold != number
        fitted = Calibration(tuple(calibration.platt(scores[apart], right[apart])), ())
        confidence[~apart] = _judged(fitted, scores[~apart])
    return confidence


def in_words(found: Sequence[Found], results: Sequence[Result], unlabelled: int) -> str:
    """The report: what each promise would accept, before and now, and what to label next."""
    numbers = sum(result.crop.is_number for result in results)
    blank = sum(not result.crop.value for result in results)
    lines = [
        f"{len(results):,} labelled crops: {numbers:,} numbers, {blank:,} blank, {len(results) - numbers - blank:,} "
        "with something else"
    ]
    for one in found:
        before = _judged(one.before, one.scores)
        lines += [
            "",
            f"{one.kind}s: {len(one.right):,} read, {int(one.right.sum()):,} right; expected calibration error "
            f"{calibration.expected_error(before, one.right):.4f} before, "
            f"{calibration.expected_error(one.confidence, one.right):.4f} now",
            f"{'max_error':<12}{'accepted':>9}{'wrong':>7}{'from':>9}   before: {'accepted':>8}{'wrong':>7}",
        ]
        for rate in PROMISES:
            now, then = _taken(one, one.after, rate), _taken(one, one.before, rate)
            start = one.after.threshold(rate)
            line = f"{f'{rate:.1%}':<12}{_percent(now, one):>9}{_wrong(now, one):>7}"
            line += f"{f'{start:.4f}' if start <= 1 else 'never':>9}   {_percent(then, one):>16}{_wrong(then, one):>7}"
            if start > 1:
                line += f"   {_wanting(one, rate)}"
            elif _is_held(one, rate):
                line += "   no lower than before"
            lines.append(line)
        wrong = int((~one.right).sum())
        if any(_is_held(one, rate) for rate in PROMISES):
            lines.append(
                f"no lower than before: {wrong:,} wrong values, and {one.after.trials[0].strays:,} crops with writing "
                "that is no number, do not tell from where on values are wrong"
            )
        if wrong < EVENTS:
            lines.append(f"the confidence stays as it was: {wrong:,} wrong values are too few to learn it from")
    if odd := suspects(results):
        lines += [
            "",
            f"Surely read, but labelled otherwise ({len(odd):,}); if it is the label that is wrong, correct it first:",
        ]
        lines += [
            f"- {escape(result.crop.file)}: labelled {result.crop.value}, read {result.reading.value} at "
            f"{percent(result.reading.confidence, 1)}"
            for result in odd[:NAMED]
        ]
    return "\n".join([*lines, "", "What to label next:", *(f"- {line}" for line in advice(found, results, unlabelled))])


def advice(found: Sequence[Found], results: Sequence[Result], unlabelled: int) -> list[str]:
    """What further labels would gain most, a line each."""
    lines = []
    for one in found:
        wanting = [(rate, one.after.trials[0].missing(rate)) for rate in reversed(PROMISES)]
        rate, missing = next(((rate, missing) for rate, missing in wanting if missing != 0), (0.0, 0))
        if missing:
            lines.append(f"about {_rounded(missing):,} more crops of {one.kind}s would support max_error {rate:g}")
        elif missing is None:
            lines.append(
                f"{one.kind}s: {rate:.1%} is beyond this network on these crops, more labels will not change it"
            )
    if all(result.crop.is_number for result in results):
        lines.append(
            "crops that are blank or hold no number, at the share in which they come: without any, nothing is known "
            "of what becomes of them"
        )
    sources = Counter(result.crop.group for result in results if result.crop.is_number)
    few = [f"{name} ({count})" for name, count in sources.items() if name and count < LEAST]
    if few:
        lines.append(f"sources with too few numbers to say anything of them by themselves: {', '.join(few)}")
    if unlabelled:
        lines.append(f"label-next.csv names {min(unlabelled, NEXT):,} of the {unlabelled:,} crops without a label")
    return [*lines, "choose at random, not the hard ones or the easy ones: the promise holds for crops like these"]


def next_labels(folder: Path, crops: Sequence[Crop], out: Path) -> list[str]:
    """Crops of `folder` without a label, in an order that is random and yet each time the same; no reports in `out`."""
    named = {os.path.normpath(crop.file) for crop in crops}
    report = out.resolve()
    files = [name for name in scan(folder)[0] if name not in named and report not in (folder / name).resolve().parents]
    return sorted(files, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())


def replaces(one: Found, max_error: float) -> bool:
    """Whether a new calibration takes the place of the one there is: where it accepts something at `max_error`.

    And where these crops show, at 95% confidence, that the one there is does not keep to it: better nothing accepted.
    """
    if one.after.threshold(max_error) <= 1:
        return True
    taken = _taken(one, one.before, max_error)
    wrong, size = int((taken & ~one.right).sum()), int(taken.sum())
    return wrong > 0 and 1 - binomial_tail(wrong - 1, size, max_error) <= 1 - CONFIDENCE


def told(found: Sequence[Found], read: Card, results: Sequence[Result], max_error: float) -> list[str]:
    """What becomes of the calibration of each kind whose new one accepts nothing, or that has none: a line each."""
    lines = []
    for kind in read.kinds:
        one = next((one for one in found if one.kind == kind), None)
        if one is None:
            size = sum(result.reading.kind == kind and result.reading.score is not None for result in results)
            lines.append(f"{kind}s: {size:,} crops are too few to calibrate with, it takes {LEAST}: left as they were")
        elif one.after.threshold(max_error) > 1:
            what = _wanting(one, max_error)
            more = one.after.trials[0].missing(max_error) is not None
            remedy = f"{'label more' if more else 'correct the labels that are wrong'}, or raise accept.max_error"
            if replaces(one, max_error):
                taken = _taken(one, one.before, max_error)
                lines.append(
                    f"{kind}s: the new calibration accepts none at accept.max_error {max_error:g}, since of "
                    f"{int(taken.sum()):,} crops that the old one accepts {_wrong(taken, one)} are wrong; {what}; "
                    f"{remedy}"
                )
            else:
                lines.append(
                    f"{kind}s: {len(one.right):,} crops cannot promise accept.max_error {max_error:g}, {what}: the "
                    f"calibration that was there stays; {remedy}"
                )
        elif one.after.is_held(max_error):
            strays = one.after.trials[0].strays
            lines.append(
                f"{kind}s: none is accepted from a lower score than before: of {len(one.right):,} crops "
                f"{int((~one.right).sum()):,} are read wrong and {strays:,} hold writing that is no number, which does "
                "not tell from where on values are wrong; label more, at random, with what is no number"
            )
    return lines


def write_card(model: Path, found: Sequence[Found]) -> Path:
    """Put the new calibrations into the card of the model's folder; the old card stays beside it: its path."""
    path = card.folder_of(model) / card.NAME
    entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    kept = card.keep(path)
    entry["calibration"] |= {one.kind: one.entry for one in found}
    card.write(path, entry)
    return kept


def write_report(out: Path, words: str, found: Sequence[Found], unlabelled: Sequence[str]) -> list[str]:
    """Write the report and its pictures into `out`; the names of the files."""
    out.mkdir(parents=True, exist_ok=True)
    names = ["report.txt"]
    (out / names[0]).write_text(words + "\n", encoding="utf-8")
    for one in found:
        before = _judged(one.before, one.scores)
        lines = {"before": (before, one.right), "now (cross-fitted)": (one.confidence, one.right)}
        names += [f"reliability-{one.kind}.png", f"risk-coverage-{one.kind}.png"]
        plots.save(plots.reliability(lines, f"Confidence and accuracy · {one.kind}s"), out / names[-2])
        now = _judged(one.after, one.scores)
        marks = {rate: calibration.accepted_at(now, one.right, one.after.threshold(rate)) for rate in PROMISES}
        title = f"What is given up for fewer errors · {one.kind}s"
        plots.save(plots.risk_coverage({"now": (now, one.right)}, {"now": marks}, title), out / names[-1])
    if unlabelled:
        names.append("label-next.csv")
        with (out / names[-1]).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file"])
            writer.writerows([escape(name)] for name in unlabelled[:NEXT])
    return names


def _taken(one: Found, judge: Calibration, rate: float) -> NDArray[np.bool_]:
    start = judge.threshold(rate)
    return np.asarray(_judged(judge, one.scores) >= start, np.bool_)


def _judged(judge: Calibration, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([judge.probability(score) for score in scores.tolist()], np.float64)


def _is_held(one: Found, rate: float) -> bool:
    """Whether something is accepted at a rate, but less than these crops alone would have accepted."""
    alone = one.after.trials[0].start(rate)
    return one.after.is_held(rate) and one.after.probability(alone) < one.after.threshold(rate) <= 1


def _wanting(one: Found, rate: float) -> str:
    """What it takes to accept any at a rate, where the new calibration accepts none."""
    missing = one.after.trials[0].missing(rate)
    if missing is None:
        return "even the surest are worse"
    return f"about {_rounded(missing):,} more crops are missing" if missing else "none could be accepted before either"


def _percent(taken: NDArray[np.bool_], one: Found) -> str:
    return percent(float(taken.mean()), 1) if len(one.right) else "-"


def _wrong(taken: NDArray[np.bool_], one: Found) -> str:
    return str(int((taken & ~one.right).sum()))


def _rounded(count: int) -> int:
    """Two figures, upwards: more would look as if it were known."""
    step = int(10 ** max(len(str(count)) - 2, 0))
    return int(-(-count // step) * step)
