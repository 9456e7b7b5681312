"""The trainer's command line."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train import cache, calibrate, evaluate, mnist
from train.card import NAME, folder_of, keep
from train.labels import NO_DIGITS, Crop, LabelError, distinct, read_labels
from train.percent import percent
from train.stage import alone, staged
from watcher import config
from watcher.errors import DigitdropError, UsageError
from watcher.model import read_card
from watcher.pipeline import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONFIG = Path("config.yaml")
RECIPES = "paper", "compact", "seed"  # as `train.recipes` has them; the first, unless said otherwise
FOLDS = 5  # unless said otherwise
NOT_FOR = ("model", "folds"), ("only", "epochs", "recipe")  # options that fit does not take without, and with, --extra
REMEDY = "install it with 'make install-train', in the folder of the Makefile"
MOST = 2**31  # seeds: further networks of a recipe are trained with higher ones, and all have to be below 2³²
LEAST = 100  # training images: fewer cannot be split into something to train on and something to hold back


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 fine, 2 usage, 78 configuration or model, 1 the rest."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's greetings; before it is imported
    arguments = _parser().parse_args(_with_default_command(sys.argv[1:] if argv is None else list(argv)))
    try:
        return int(arguments.command(arguments))
    except DigitdropError as error:
        print(f"digitdrop-train: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("digitdrop-train: Stopped.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"digitdrop-train: {error}", file=sys.stderr)
        return 1


def _with_default_command(argv: list[str]) -> list[str]:
    """`fit` unless a command comes first."""
    if argv and (not argv[0].startswith("-") or argv[0] in ("-h", "--help")):
        return argv
    return ["fit", *argv]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="digitdrop-train",
        description="Train the network that Digitdrop serves, and measure it.",
        epilog="Without a command: fit. Exit codes: 0 fine, 2 wrong usage, 78 wrong model, 1 the rest.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    fit = commands.add_parser(
        "fit",
        help="train on MNIST, evaluate, plot, calibrate, export (the default)",
        description="Train the network for digits and, with the recipe paper, the one for fields: on MNIST, evaluated "
        "on its test set, calibrated on images held back, plotted, exported.",
        epilog="With --extra the networks that are there are fine-tuned instead, on labelled crops of one's own; what "
        "that brings is measured on crops held back.",
    )
    fit.set_defaults(command=_fit)
    fit.add_argument(
        "--recipe",
        choices=RECIPES,
        help="paper: the networks that serve; compact: a smaller one, for MNIST alone; seed: the reference network "
        "(default: paper)",
    )
    fit.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with MNIST's four IDX files, gzipped or not (default: the user's cache, else a download)",
    )
    fit.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder the model goes into (default: model; of another recipe, model-NAME; with --extra, model-extra)",
    )
    fit.add_argument("--only", choices=("digits", "fields"), help="train this network only; the other one stays")
    fit.add_argument("--extra", type=Path, metavar="DIR", help="fine-tune on the labelled crops in DIR (see evaluate)")
    fit.add_argument(
        "--model", type=Path, metavar="DIR", help="with --extra: the model to start from (default: the settings' own)"
    )
    fit.add_argument("--folds", type=_folds, metavar="N", help="with --extra: parts held back in turn (default: 5)")
    fit.add_argument("--epochs", type=_positive, metavar="N", help="times through the data (default: the recipe's)")
    fit.add_argument("--limit", type=_positive, metavar="N", help="use the first N images only (default: all)")
    fit.add_argument("--seed", type=_seed, metavar="N", default=1, help="seed of everything random (default: 1)")
    measure = commands.add_parser(
        "evaluate",
        help="read labelled crops with the serving pipeline and report how well",
        description="Read labelled crops as the watcher does; report accuracy, coverage against error, confusion.",
        epilog="DIR/labels.csv has the columns file, value and, to tell groups apart, source (up to a colon). An empty "
        f"value is a blank crop, {NO_DIGITS} one with writing that is no number.",
    )
    measure.set_defaults(command=_evaluate)
    measure.add_argument("folder", type=Path, metavar="DIR", help="folder with the crops and their labels.csv")
    measure.add_argument("--config", type=Path, metavar="FILE", help=f"settings (default: {CONFIG}, if there)")
    measure.add_argument("--model", type=Path, metavar="DIR", help="model to read with (default: the settings' own)")
    measure.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="also read them the way of the reference (grey, resize to 28×28, invert, predict) with the model in DIR, "
        "made by fit --recipe seed",
    )
    measure.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for report.json, crops.csv and the pictures (default: none)"
    )
    learn = commands.add_parser(
        "calibrate",
        help="set the accept thresholds from labelled crops of your own",
        description="Read labelled crops as the watcher does, set confidence and thresholds from them, say what to "
        "label next. The model gets a new card, the old one stays beside it.",
        epilog="DIR/labels.csv is as for evaluate. Take the crops at random from what comes in.",
    )
    learn.set_defaults(command=_calibrate)
    learn.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="folder with the crops and their labels.csv")
    learn.add_argument("--config", type=Path, metavar="FILE", help=f"settings (default: {CONFIG}, if there)")
    learn.add_argument("--model", type=Path, metavar="DIR", help="model to calibrate (default: the settings' own)")
    learn.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the report and its pictures (default: calibration)"
    )
    learn.add_argument("--dry-run", action="store_true", help="report only, leave the card as it is")
    learn.add_argument(
        "--shipped", action="store_true", help="instead, on MNIST, as the model that ships was calibrated"
    )
    learn.add_argument("--data", type=Path, metavar="DIR", help="with --shipped: folder with MNIST, as for fit")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _seed(text: str) -> int:
    number = int(text)
    if not 0 <= number < MOST:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to {MOST - 1}")
    return number


def _folds(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"{text} is not 2 or more")
    return number


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise UsageError where options of fit do not go together."""
    given = [f"--{name}" for name in NOT_FOR[arguments.extra is not None] if getattr(arguments, name) is not None]
    if given:
        which = "with --extra, which tunes all that it has crops for" if arguments.extra else "without --extra"
        raise UsageError(f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} not for fit {which}.")
    if arguments.limit is not None and arguments.limit < LEAST:
        raise UsageError(f"--limit {arguments.limit} leaves too little to train on; give {LEAST} or more.")
    if arguments.only == "fields" and arguments.recipe is not None:
        raise UsageError(f"--recipe {arguments.recipe} is of digits, and is not for --only fields.")


def _fit(arguments: argparse.Namespace) -> int:
    _check_options(arguments)
    data = mnist.load(arguments.data, cache.folder() / "mnist").limited(arguments.limit)
    with _quiet():
        try:  # here, since TensorFlow takes seconds to load and the other commands need none
            import tensorflow as tf  # noqa: PLC0415

            from train import recipes  # noqa: PLC0415
            from train.field_readings import HELD, calibrate_fields  # noqa: PLC0415
            from train.fit import fit  # noqa: PLC0415
            from train.fit_fields import EPOCHS as FIELD_EPOCHS  # noqa: PLC0415
            from train.fit_fields import FIELDS_MADE, check_beside, fit_fields  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise DigitdropError(f"Training needs {error.name}; {REMEDY}.") from error
        tf.config.list_logical_devices()  # the last greeting comes when the devices are first asked for
    recipe = recipes.RECIPES[arguments.recipe or RECIPES[0]]
    if not data.is_original:
        print("The data is not MNIST to the byte; the card will say what it was.", file=sys.stderr)
    count = FIELDS_MADE if arguments.limit is None else min(FIELDS_MADE, 2 * arguments.limit)
    checked = max(LEAST, HELD * count // FIELDS_MADE)
    out = arguments.out or Path("model" if recipe.name == RECIPES[0] else f"model-{recipe.name}")
    tunes = arguments.extra is not None
    with_fields = tunes or arguments.only == "fields" or (recipe.rendered > 0 and arguments.only is None)
    held_back = data.train_labels[recipe.held_back(len(data.train_labels))]
    if with_fields and len(np.unique(held_back)) < 10:
        raise UsageError(
            f"{len(data.train_labels)} images leave no held-back one of some digit, which fields to calibrate with are "
            f"made of; give --limit 1000 or more{'' if tunes else ', or --only digits'}."
        )
    if tunes:
        return _fit_extra(arguments, data, checked)
    check_beside(out, data, arguments.only)
    with staged(out) as stage:
        card: dict[str, Any] = {}
        if arguments.only != "fields":
            bar = sys.stdout.isatty()
            epochs = arguments.epochs or recipe.epochs
            card = fit(recipe, data, stage, epochs=epochs, seed=arguments.seed, bar=bar, say=_say)
            told, apart = card["accuracy"], card["parity"]["largest_difference"]
            _say(
                f"test {percent(told['test'])} right ({told['test_errors']} of {told['test_size']:,} wrong), "
                f"held back {percent(told['validation'])}; LiteRT differs by {apart:.1e} at most; "
                f"{card['seconds'] / 60:.1f} min"
            )
        if with_fields:
            epochs = arguments.epochs or FIELD_EPOCHS
            card = fit_fields(data, stage, epochs=epochs, seed=arguments.seed, say=_say, count=count)
            told, minutes = card["fields"]["accuracy"], card["fields"]["seconds"] / 60
            parts = ", ".join(f"{name} {percent(value)}" for name, value in told.items() if value <= 1)
            _say(f"fields right: {parts}; {minutes:.1f} min")
        elif "field" in card["calibration"]:  # of the network that stays: fields are read with this one's help
            calibrate_fields(stage, data, _say, checked)
    _say(f"{out}/: {', '.join(sorted(path.name for path in out.iterdir()))}")
    return 0


def _distinct(labelled: Sequence[Crop]) -> list[Crop]:
    """The crops without copies, and a word on those."""
    crops = distinct(labelled)
    if len(crops) < len(labelled):
        _say(f"{len(labelled) - len(crops):,} crops are copies of others to the byte: each of those counts once")
    return crops


def _fresh(folder: Path, model: Path, crops: Sequence[Crop]) -> Sequence[Crop]:
    """The crops that the model was not tuned on, and a word on the others. Raises LabelError where there are none."""
    fresh = calibrate.never_trained_on(model, crops)
    if len(fresh) < len(crops):
        _say(f"{len(crops) - len(fresh):,} crops are left out: the model was tuned on them and knows them")
    if not fresh:
        raise LabelError(f"{folder} has no other crops; label some that the model was not tuned on.")
    return fresh


def _fit_extra(arguments: argparse.Namespace, data: mnist.Mnist, checked: int) -> int:
    from train import extra  # noqa: PLC0415 - brings TensorFlow

    settings = config.load(CONFIG if CONFIG.exists() else None)
    model, out = folder_of(arguments.model or settings.model), arguments.out or Path("model-extra")
    folds = arguments.folds or FOLDS
    read_card(model)
    owned = extra.load(arguments.extra, _distinct(read_labels(arguments.extra)), settings.limits)
    if owned.lost:
        _say(f"{owned.lost:,} crops are left out: nothing was found on them")
    rows = extra.fit_extra(owned, data, model, out, folds=folds, seed=arguments.seed, say=_say, checked=checked)
    _say(f"\n{'kind':<10}{'crops':>8}{'before':>10}{'after':>10}   on crops held back, {folds} folds")
    for row in rows:
        _say(f"{row['kind']:<10}{row['crops']:>8,}{percent(row['before']):>10}{percent(row['after']):>10}")
    _say(
        f"\n{out}/ holds the networks tuned on all of them; serve them with 'model: {out}'. To calibrate on your paper "
        "label other crops: 'calibrate' leaves these out, since what is read of them promises nothing"
    )
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    card, reader = read_card(settings.model), Reader(settings)
    crops = _fresh(arguments.folder, settings.model, read_labels(arguments.folder))
    results = evaluate.read_crops(arguments.folder, crops, reader)
    summary = evaluate.report(results, settings.accept.max_error, card)
    if arguments.reference is not None:
        summary["reference"] = evaluate.reference_report(arguments.folder, crops, arguments.reference)
    _say(evaluate.table(summary))
    if arguments.out is not None:
        evaluate.write(arguments.out, arguments.folder, results, summary, card=card, limits=settings.limits)
        _say(f"\n{arguments.out}/: {', '.join(evaluate.FILES)}")
    return 0


def _settings(arguments: argparse.Namespace) -> config.Settings:
    """Those of the watcher, but that nothing is set aside for a person: here all is compared with labels."""
    settings = config.load(arguments.config or (CONFIG if CONFIG.exists() else None))
    model = arguments.model or settings.model
    return settings.model_copy(update={"model": model, "audit": 0.0})


def _calibrate(arguments: argparse.Namespace) -> int:
    if arguments.shipped == (arguments.folder is not None):
        raise UsageError("calibrate needs either a folder of labelled crops or --shipped.")
    if arguments.shipped and (arguments.dry_run or arguments.out is not None):
        raise UsageError("--dry-run and --out are not for --shipped, which makes the card and its pictures again.")
    settings = _settings(arguments)
    read_card(settings.model)
    model = folder_of(settings.model)
    if arguments.shipped:
        return _calibrate_shipped(model, arguments.data)
    with alone(model):
        return _calibrate_on(arguments, settings)


def _calibrate_on(arguments: argparse.Namespace, settings: config.Settings) -> int:
    folder, out = arguments.folder, arguments.out or Path("calibration")
    labelled = read_labels(folder)
    crops = _fresh(folder, settings.model, _distinct(labelled))
    results = evaluate.read_crops(folder, crops, Reader(settings))
    calibrate.check_readings(folder, results)
    read, max_error = read_card(settings.model), settings.accept.max_error
    found = calibrate.find(results, read, f"{folder.resolve().name}, {datetime.now(UTC):%Y-%m-%d}", max_error)
    unlabelled = calibrate.next_labels(folder, labelled, out)
    words = calibrate.in_words(found, results, len(unlabelled))
    _say(words)
    names = calibrate.write_report(out, words, found, unlabelled)
    _say(f"\n{out}/: {', '.join(names)}")
    for line in calibrate.told(found, read, results, max_error):
        _say(line)
    taken = [one for one in found if calibrate.replaces(one, max_error)]
    if taken and not arguments.dry_run:
        kept = calibrate.write_card(settings.model, taken)
        _say(
            f"{kept.with_name('card.json')} is new, a watcher takes it at its next start; to go back, copy the old "
            f"one, {kept.name}, over it"
        )
    elif not taken:
        _say("the model's card is left as it was")
    return 0


def _calibrate_shipped(model: Path, folder: Path | None) -> int:
    data = mnist.load(folder, cache.folder() / "mnist")
    with _quiet():
        try:
            from train.field_readings import calibrate_fields  # noqa: PLC0415 - brings TensorFlow
            from train.shipped import calibrate_shipped, recipe_of  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise DigitdropError(f"--shipped needs {error.name}; {REMEDY}.") from error
    recipe_of(json.loads((model / NAME).read_text(encoding="utf-8")), model, data)
    with staged(model) as stage:
        card = calibrate_shipped(stage, data, _say)
        if "field" in card["calibration"]:
            card = calibrate_fields(stage, data, _say)
        kept = keep(model / NAME)
    for kind, entry in card["calibration"].items():
        _say(f"{kind}: calibrated on {'; '.join(trial['on'] for trial in entry['trials'])}")
    _say(f"the card as it was is kept as {kept}")
    return 0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep TensorFlow's native greetings off the terminal: they come before any setting of its own is read."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
