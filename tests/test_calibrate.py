"""Calibrating from labelled crops of one's own: one command, a report, a new card, and labels that make no sense."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from train import calibrate, evaluate
from train.__main__ import main
from train.fields import GAPS, plain
from train.labels import Crop, read_labels
from watcher.calibration import Calibration
from watcher.config import Settings
from watcher.model import Card, read_card
from watcher.pipeline import Reader
from watcher.results import Reading
from watcher.tasks import Job

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
LABELLED, OTHERS, UNLABELLED = 140, 10, 15


def written(text: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A crop with some printed sign on it, never twice the same."""
    page = rng.normal(232, 2, (110, 100)).clip(0, 255).astype(np.uint8)
    at = int(rng.integers(15, 35)), int(rng.integers(75, 90))
    cv2.putText(
        page, text, at, cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(1.8, 2.3), 40, int(rng.integers(4, 8)), cv2.LINE_AA
    )
    return page


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of labelled crops, some of no number, and some without a label."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(4)
    rows = []
    for number in range(LABELLED + OTHERS + UNLABELLED):
        value = str(rng.choice(list("01235")))
        text = value if number < LABELLED else "&OS@Z"[number % 5]
        data = cv2.imencode(".png", written(text, rng))[1].tobytes()
        (folder / f"{number:03d}.png").write_bytes(data)
        if number < LABELLED + OTHERS:
            rows.append(
                (f"{number:03d}.png", value if number < LABELLED else "-", "kitchen" if number % 4 else "attic")
            )
    label(folder, rows)
    return folder


def label(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    """Write labels.csv."""
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "value", "source"), *rows])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the model that ships, to calibrate."""
    return Path(shutil.copytree(ROOT / "model", tmp_path / "model"))


def drawn(tmp_path: Path) -> str:
    """A folder like MNIST's, of blank images."""
    folder = tmp_path / "drawn"
    folder.mkdir()
    labels = np.repeat(np.arange(10, dtype=np.uint8), 24)  # each digit is among those held back
    for part in ("train", "t10k"):
        for name, values in (("images-idx3", np.zeros((240, 28, 28), np.uint8)), ("labels-idx1", labels)):
            head = struct.pack(f">I{values.ndim}I", 0x800 + values.ndim, *values.shape)
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(head + values.tobytes()))
    return str(folder)


def config(tmp_path: Path, **settings: object) -> str:
    """A configuration file."""
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    return str(tmp_path / "config.yaml")


def test_one_command(labelled: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It reports, draws, names what to label next, writes a card that serves, and keeps the old one."""
    before = (model / "card.json").read_bytes()
    out = tmp_path / "report"
    arguments = [
        "--model",
        str(model),
        "--out",
        str(out),
        "--config",
        config(tmp_path, audit=1.0, accept={"max_error": 0.1}),
    ]
    assert main(["calibrate", str(labelled), *arguments]) == 0
    printed = capfd.readouterr().out
    assert f"{LABELLED + OTHERS} labelled crops: {LABELLED} numbers, 0 blank, {OTHERS} with something else" in printed
    for rate in ("0.1%", "0.5%", "1.0%", "2.0%"):
        assert f"\n{rate}" in printed
    assert "more crops are missing" in printed  # of so few
    assert "What to label next:" in printed
    assert "sources with too few numbers to say anything of them by themselves: attic (35)" in printed
    assert (out / "report.txt").read_text().strip() in printed

    assert f"fields: 0 crops are too few to calibrate with, it takes {calibrate.LEAST}: left as they were" in printed
    (kept,) = model.glob("card-*.json")
    assert kept.read_bytes() == before
    read = read_card(model)
    (trial,) = read.digit.trials
    scores = trial.curve[-1][1]
    assert 0.9 * LABELLED <= scores <= LABELLED + OTHERS  # less those that may be no digit
    assert trial.size == scores
    assert labelled.name in trial.on
    assert read.digit.threshold(0.001) > 1  # 150 crops cannot promise that
    row = Reader(Settings(model=model)).read([Job(str(labelled / "000.png"), "000.png")], None)[0]
    assert row.reading.score is not None
    assert row.reading.confidence == read.digit.probability(row.reading.score)

    with (out / "label-next.csv").open(newline="") as file:
        names = [line["file"] for line in csv.DictReader(file)]
    assert sorted(names) == [f"{number:03d}.png" for number in range(LABELLED + OTHERS, LABELLED + OTHERS + UNLABELLED)]
    assert names != sorted(names)
    for name in ("reliability-digit.png", "risk-coverage-digit.png"):
        image = cv2.imdecode(np.fromfile(out / name, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        assert image.std() > 5


def test_a_dry_run_leaves_the_card(labelled: Path, model: Path, tmp_path: Path) -> None:
    """`--dry-run` reports and writes no card."""
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    assert main(["calibrate", str(labelled), "--model", str(model), "--out", str(tmp_path / "r"), "--dry-run"]) == 0
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    assert (tmp_path / "r" / "report.txt").is_file()


def test_too_few_to_accept_anything_leave_the_card(
    labelled: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Crops that cannot promise `max_error` take nothing away that was promised before: a line says what is missing."""
    folder = Path(shutil.copytree(labelled, tmp_path / "numbers"))
    crops = read_labels(folder)
    label(folder, [(crop.file, crop.value, "") for crop in crops if crop.is_number][:127])
    before = (model / "card.json").read_bytes()
    arguments = ["--model", str(model), "--out", str(tmp_path / "report")]
    assert main(["calibrate", str(folder), *arguments]) == 0
    printed = capfd.readouterr().out
    (line,) = [line for line in printed.splitlines() if line.startswith("digits: ") and "max_error 0.01" in line]
    assert "more crops are missing: the calibration that was there stays; label more, or raise accept.max_error" in line
    assert "the model's card is left as it was" in printed
    assert (model / "card.json").read_bytes() == before
    assert not list(model.glob("card-*.json"))


@pytest.mark.parametrize(("wrong", "replaced"), [(0, False), (1, False), (3, False), (4, True), (30, True)])
def test_what_is_shown_to_be_wrong_is_replaced(wrong: int, replaced: bool) -> None:
    """A calibration that crops contradict does not stay, though the new one accepts nothing: 4 of 130 are not 1%."""
    right = np.arange(130) >= wrong
    entry = {
        "map": [[-4, 0.02], [4, 0.98]],
        "trials": [{"on": "", "size": 130, "floor": 0, "curve": [[1, 130, wrong]]}],
    }
    sure = {"map": [[-4, 0.02], [4, 0.98]], "trials": [{"on": "", "size": 999, "floor": 0, "curve": [[1, 999, 0]]}]}
    scores = np.full(130, 2.0)
    found = calibrate.Found("digit", entry, scores, right, scores, Calibration.of(sure))
    assert found.after.threshold(0.01) > 1
    assert calibrate.replaces(found, 0.01) == replaced
    card = Card(Path("x"), "x", ("0",), found.before, None)
    (line,) = calibrate.told([found], card, [], 0.01)
    assert (f"of 130 crops that the old one accepts {wrong} are wrong" in line) == replaced
    assert ("calibration that was there stays" in line) != replaced


def test_what_is_no_number_counts_as_wrong(labelled: Path, model: Path) -> None:
    """Whatever is read where there is no number is an error that the thresholds have to keep out."""
    crops = read_labels(labelled)
    results = evaluate.read_crops(labelled, crops, Reader(Settings(model=model)))
    (found,) = calibrate.find(results, read_card(model), "drawn", 0.01)
    judged = [r for r in results if r.reading.score is not None and r.reading.kind == "digit"]
    expected = [result.crop.is_number and result.reading.value == result.crop.value for result in judged]
    assert found.right.tolist() == expected
    assert 0 < sum(not result.crop.is_number for result in judged) <= OTHERS


def test_easy_crops_do_not_switch_the_safety_off(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where no crop is wrong nothing is learnt of lower scores: none is accepted that was not, and lines say why."""
    rng = np.random.default_rng(5)
    digits = np.zeros((200, 28, 28), np.uint8)
    for number, image in enumerate(digits):
        at = int(rng.integers(5, 8)), int(rng.integers(21, 24))
        cv2.putText(image, str(number % 10), at, cv2.FONT_HERSHEY_SIMPLEX, 0.75, 255, 2, cv2.LINE_AA)
    own = tmp_path / "own"
    own.mkdir()
    for number in range(380):
        page, value = plain(digits, np.arange(200, dtype=np.uint8) % 10, 6, rng, GAPS["spaced"])
        cv2.imwrite(str(own / f"{value}-{number}.png"), page)
    hello = np.full((80, 260), 240, np.uint8)
    cv2.putText(hello, "hello", (30, 55), cv2.FONT_HERSHEY_SCRIPT_SIMPLEX, 1.8, 40, 3, cv2.LINE_AA)
    cv2.imwrite(str(tmp_path / "hello.png"), hello)
    jobs = [Job(str(path), path.name) for path in sorted(own.iterdir())]
    before = read_card(model)
    rows = Reader(Settings(model=model)).read(jobs, None)
    right = [row.name for row in rows if row.reading.value == row.name[:6] and row.reading.kind == "field"]
    assert len(right) >= 320
    label(own, [(name, name[:6], "") for name in right[:320]])

    assert main(["calibrate", str(own), "--model", str(model), "--out", str(tmp_path / "report")]) == 0
    printed = capfd.readouterr().out
    assert (
        "fields: none is accepted from a lower score than before: of 320 crops 0 are read wrong and 0 hold" in printed
    )
    assert "the confidence stays as it was: 0 wrong values are too few to learn it from" in printed
    after = read_card(model)
    assert after.field is not None
    assert before.field is not None
    for rate in (0.01, 0.02, 0.05, 0.2):
        assert after.field.threshold(rate) >= before.field.threshold(rate)
    (row,) = Reader(Settings(model=model)).read([Job(str(tmp_path / "hello.png"), "hello.png")], None)
    assert row.reading.status == "review"
    assert row.reading.confidence < 0.9


def test_what_decided_before_goes_on_until_crops_tell(model: Path) -> None:
    """Calibrating twice on easy crops keeps what shipped; on crops that tell, they alone decide, and go on to do so."""
    shipped = read_card(model)
    easy = [judged(score, "1", "1") for score in np.linspace(0, 9, 400).tolist()]
    strays = [judged(score, "7", "-") for score in np.linspace(-2, 1, 12).tolist()]
    for results, held in ((easy, True), (easy, True), ([*easy, *strays], False), (easy, True)):
        before = read_card(model)
        (found,) = calibrate.find(results, before, "drawn", 0.01)
        calibrate.write_card(model, [found])
        after = read_card(model)
        assert after.digit.is_held(0.01) == held
        assert (after.digit.map == before.digit.map) == held  # no map is learnt from right values alone
        told = "\n".join(calibrate.told([found], after, results, 0.01))
        assert ("digits: none is accepted from a lower score" in told) == held
        if before.digit.trials == shipped.digit.trials or before.digit.is_held(0.01):
            assert after.digit.before == shipped.digit.trials
        else:
            assert after.digit.before == before.digit.trials
        (own,) = after.digit.trials
        assert after.digit.threshold(0.01) == after.digit.probability(
            max(trial.start(0.01) for trial in ((own, *after.digit.before) if held else (own,)))
        )


def judged(score: float, read: str, label: str) -> evaluate.Result:
    """What became of a crop."""
    return evaluate.Result(Crop("x.png", label), Reading("review", read, 0.5, kind="digit", score=score))


def test_cross_fitted_confidence_comes_from_other_crops() -> None:
    """A crop's own outcome does not raise its own confidence: with scores that tell nothing it lowers it."""
    rng = np.random.default_rng(2)
    right = rng.random(60) < 0.5
    confidence = calibrate.cross_fitted(np.zeros(60) + rng.normal(0, 1e-6, 60), right)
    assert confidence[right].mean() < confidence[~right].mean()


@pytest.mark.parametrize("command", ["calibrate", "evaluate", "fit"])
@pytest.mark.parametrize(
    "case",
    [
        ([("000.png", "seven", "")], "000.png ('seven') is no number"),
        ([("000.png", "7a", ""), ("001.png", "1 2", "")], "000.png ('7a'), 001.png ('1 2') are no number"),
        ([("000.png", "3.", "")], "000.png ('3.') is no number"),
        ([("000.png", "1", ""), ("000.png", "1", "")], "000.png is there twice"),
        ([("000.png", "1", ""), ("./000.png", "2", "")], "000.png is there twice"),
        ([("000.png", "1", ""), ("copy.png", "2", "")], "copy.png is '2', but they are the same picture"),
        ([("nowhere.png", "1", "")], "the first is nowhere.png"),
        ([("000.png", "1", ""), ("", "1", "")], "crop 2 of 2 has no name in the column file"),
    ],
)
def test_labels_that_make_no_sense_are_named(
    labelled: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    command: str,
    case: tuple[list[tuple[str, str, str]], str],
) -> None:
    """Whatever they are for, they are one line that names the crop and the label; nothing is written."""
    if command == "fit":
        pytest.importorskip("tensorflow")
    change, words = case
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("000.png", "001.png"):
        shutil.copy(labelled / name, folder)
    shutil.copy(labelled / "000.png", folder / "copy.png")
    label(folder, change)
    what = [command, str(folder)] if command != "fit" else ["fit", "--extra", str(folder), "--data", drawn(tmp_path)]
    assert main([*what, "--model", str(ROOT / "model"), "--out", str(tmp_path / "report")]) == 1
    error = [line for line in capfd.readouterr().err.splitlines() if line.startswith("digitdrop")]
    assert len(error) == 1
    assert words in error[0]
    assert not (tmp_path / "report").exists()


def test_a_single_crop_is_too_few(labelled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is refused in one line; nothing is written."""
    shutil.copy(labelled / "000.png", tmp_path)
    label(tmp_path, [("000.png", "1", "")])
    assert main(["calibrate", str(tmp_path), "--model", str(ROOT / "model"), "--out", str(tmp_path / "report")]) == 1
    assert "1 digits and 0 fields to calibrate with are too few" in capfd.readouterr().err
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("model", ["model", "model/digits.keras"])
def test_a_keras_file_stands_for_its_folder(
    labelled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], model: str
) -> None:
    """Where a model is tuned or calibrated as it shipped, too, it may be named so: here the data is not its own."""
    pytest.importorskip("tensorflow")
    data = ["--model", str(ROOT / model), "--data", drawn(tmp_path)]
    assert main(["fit", "--extra", str(labelled), "--out", str(tmp_path / "own"), *data]) == 1
    assert main(["calibrate", "--shipped", *data]) == 1
    error = [line for line in capfd.readouterr().err.splitlines() if line.startswith("digitdrop")]
    assert error == [f"digitdrop-train: {ROOT / 'model'} was trained on other data than this; its card says which."] * 2
    assert not (tmp_path / "own").exists()


def test_crops_that_the_model_was_tuned_on_are_left_out(
    labelled: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """They would promise too much: the others are what counts, and without others nothing is calibrated."""
    card = json.loads((model / "card.json").read_text())
    known = [hashlib.sha256((labelled / f"{number:03d}.png").read_bytes()).hexdigest()[:16] for number in range(150)]
    for some, code in ((known[:20], 0), (known, 1)):
        (model / "card.json").write_text(json.dumps(card | {"extra": {"crops": some}}))
        arguments = ["--model", str(model), "--out", str(tmp_path / "report"), "--dry-run"]
        assert main(["calibrate", str(labelled), *arguments]) == code
        told = capfd.readouterr()
        assert f"{len(some)} crops are left out: the model was tuned on them" in told.out
        assert ("130 labelled crops" in told.out) == (code == 0)
        assert ("has no other crops" in told.err) == (code == 1)


def test_copies_of_a_crop_count_once(
    labelled: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """However often a file lies there under other names, it is one piece of evidence."""
    folder = Path(shutil.copytree(labelled, tmp_path / "copies"))
    crops = read_labels(labelled)
    rows = [(crop.file, crop.value, crop.source) for crop in crops]
    for number in range(300):
        shutil.copy(folder / crops[0].file, folder / f"copy{number}.png")
        rows.append((f"copy{number}.png", crops[0].value, ""))
    label(folder, rows)
    arguments = ["--model", str(model), "--out", str(tmp_path / "report")]
    arguments += ["--config", config(tmp_path, accept={"max_error": 0.1})]
    assert main(["calibrate", str(folder), *arguments]) == 0
    assert "300 crops are copies of others" in capfd.readouterr().out
    assert max(trial.size for trial in read_card(model).digit.trials) <= len(crops)


def test_a_report_is_not_named_for_labelling(labelled: Path, model: Path, tmp_path: Path) -> None:
    """Pictures of an earlier report in the folder are no crops; a name that is no text does not stop the command."""
    folder = Path(shutil.copytree(labelled, tmp_path / "own"))
    shutil.copy(folder / "160.png", os.fsdecode(os.fsencode(folder) + b"/odd\xff.png"))
    for _ in range(2):
        assert main(["calibrate", str(folder), "--model", str(model), "--out", str(folder / "report")]) == 0
    with (folder / "report" / "label-next.csv").open(newline="", encoding="utf-8") as file:
        names = [line["file"] for line in csv.DictReader(file)]
    assert len(names) == UNLABELLED + 1
    assert "odd\\xff.png" in names
    assert not any(name.startswith("report/") for name in names)
    with (folder / "labels.csv").open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow(["odd\\xff.png", "-", ""])  # as it is named there
    assert os.fsencode(read_labels(folder)[-1].file) == b"odd\xff.png"
    out = tmp_path / "read"
    assert main(["evaluate", str(folder), "--model", str(model), "--out", str(out)]) == 0
    assert "odd\\xff.png,-," in (out / "crops.csv").read_text(encoding="utf-8")


def test_labels_of_other_crops_are_refused(
    labelled: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Labels shifted by one line contradict what is surely read: they are refused, the card is untouched."""
    folder = Path(shutil.copytree(labelled, tmp_path / "shifted"))
    crops = read_labels(labelled)
    values = [crop.value for crop in crops]
    label(folder, [(crop.file, value, "") for crop, value in zip(crops, [*values[1:], values[0]], strict=True)])
    before = (model / "card.json").read_bytes()
    assert main(["calibrate", str(folder), "--model", str(model), "--out", str(tmp_path / "report")]) == 1
    error = capfd.readouterr().err
    assert "are these the labels of other crops?" in error
    assert (model / "card.json").read_bytes() == before


def test_a_folder_or_what_ships(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither or both is wrong usage."""
    assert main(["calibrate"]) == 2
    assert main(["calibrate", "somewhere", "--shipped"]) == 2
    assert main(["calibrate", "--shipped", "--dry-run"]) == 2
    assert capfd.readouterr().err.count("\n") == 3


def test_a_full_disk_leaves_the_card(model: Path) -> None:
    """A card that cannot be written to its end leaves the one that is there."""
    before = (model / "card.json").read_bytes()
    program = (
        "import json, resource, sys, pathlib; from train import card; path = pathlib.Path(sys.argv[1])\n"
        "entry = json.loads(path.read_text()); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); card.write(path, entry)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(model / "card.json")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "File too large" in done.stderr
    assert (model / "card.json").read_bytes() == before
    assert read_card(model)
