"""Settings come from one YAML file; what is wrong in it is said in a line that names key, value and remedy."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from watcher.config import Settings, load, worker_count
from watcher.errors import ConfigError

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "config.yaml"


def given(folder: Path, text: str | bytes) -> Path:
    """A configuration file of this text."""
    path = folder / "config.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def complaint(folder: Path, text: str | bytes) -> str:
    """What is said of a configuration, less the file's name in front."""
    path = given(folder, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.exit_code == 78
    message = str(caught.value)
    assert message.startswith(f"{path}: "), message
    return message.removeprefix(f"{path}: ")


def flat(settings: BaseModel, prefix: str = "") -> dict[str, object]:
    """Each setting by its dotted key."""
    found: dict[str, object] = {}
    for key, value in settings:
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, BaseModel) else {prefix + key: value}
    return found


def flat_yaml(values: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """Each value of a YAML document by its dotted key."""
    found: dict[str, object] = {}
    for key, value in values.items():
        found |= flat_yaml(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def as_yaml(value: object) -> object:
    """A setting as YAML writes it."""
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


# The file that ships


def test_shipped_file_holds_the_defaults() -> None:
    """config.yaml names each setting there is, in their order, with the value that holds without it."""
    defaults = {key: as_yaml(value) for key, value in flat(Settings()).items()}
    written = flat_yaml(yaml.safe_load(SHIPPED.read_text(encoding="utf-8")))
    assert written == defaults
    assert list(written) == list(defaults)


def test_each_setting_is_explained() -> None:
    """Each key of config.yaml has a comment on its line."""
    for line in SHIPPED.read_text(encoding="utf-8").splitlines():
        key, colon, rest = line.partition(":")
        if line.startswith("#") or not colon or not rest.strip():
            continue  # a comment, an empty line, or the head of a section whose keys follow
        assert len(rest.partition("#")[2].strip()) > 3, key


def test_shipped_file_loads() -> None:
    """The configuration that ships is fit, and its folders are the repository's."""
    settings = load(SHIPPED)
    assert (settings.inbox, settings.outbox, settings.model) == (ROOT / "inbox", ROOT / "outbox", ROOT / "model")
    assert settings.model_copy(update={key: Path(key) for key in ("inbox", "outbox", "model")}) == Settings()


def test_shipped_examples_can_be_uncommented(tmp_path: Path) -> None:
    """The example rules hold as they stand once their comment marks are gone, in the place of `fields: []`."""
    text = SHIPPED.read_text(encoding="utf-8")
    head, mark, examples = text.partition("\n#fields:\n")
    assert mark
    uncommented = "\nfields:\n" + "\n".join(line.removeprefix("#") for line in examples.splitlines())
    both = complaint(tmp_path, head + uncommented)
    assert re.match(r"'fields' is given twice, on lines \d+ and \d+; keep one$", both)
    rules = load(given(tmp_path, re.sub("^fields: .*$", "", head, flags=re.MULTILINE) + uncommented)).fields
    assert [rule.name for rule in rules] == ["zip", "mark", "amount", "card", "born"]


# What is left out


@pytest.mark.parametrize("text", ["", "\n\n", "# all defaults\n", "---\n", b"\xef\xbb\xbf"])
def test_empty_file(tmp_path: Path, text: str | bytes) -> None:
    """A file that sets nothing leaves all defaults."""
    assert (
        flat(load(given(tmp_path, text))).items() >= {"settle": 2.0, "batch.size": 256, "limits.seconds": 10.0}.items()
    )


def test_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a configuration the defaults hold, and the folders are those of the working folder."""
    monkeypatch.chdir(tmp_path)
    settings = load(None)
    assert (settings.inbox, settings.outbox) == (tmp_path / "inbox", tmp_path / "outbox")


def test_one_key_of_a_section(tmp_path: Path) -> None:
    """Setting one key of a section leaves the others at their defaults."""
    settings = load(given(tmp_path, "batch: {size: 3}\nlimits:\n  seconds: 2.5\n"))
    assert (settings.batch.size, settings.batch.wait) == (3, 0.2)
    assert (settings.limits.seconds, settings.limits.pixels) == (2.5, 40_000_000)


def test_whole_numbers_do_for_seconds(tmp_path: Path) -> None:
    """A whole number is fine where seconds are meant."""
    assert load(given(tmp_path, "settle: 3\n")).settle == 3.0


def test_frozen(tmp_path: Path) -> None:
    """Settings cannot be changed once they are read, nor those of a section."""
    settings = load(given(tmp_path, ""))
    with pytest.raises(ValidationError, match="frozen"):
        settings.settle = 1.0
    with pytest.raises(ValidationError, match="frozen"):
        settings.batch.size = 1


# Folders


def test_relative_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative folders are relative to the configuration file, wherever the program was started."""
    (tmp_path / "etc").mkdir()
    path = given(tmp_path / "etc", "inbox: scans/in\noutbox: ../out\nmodel: nets\nmetrics: x.prom\n")
    monkeypatch.chdir(tmp_path)
    for name in (path, path.relative_to(tmp_path)):
        settings = load(name)
        assert settings.inbox == tmp_path / "etc/scans/in"
        assert settings.outbox.resolve() == tmp_path / "out"
        assert settings.model == tmp_path / "etc/nets"
        assert settings.metrics == tmp_path / "etc/x.prom"
        assert settings.inbox.is_absolute()


def test_absolute_folders(tmp_path: Path) -> None:
    """Absolute folders stay as they are."""
    settings = load(given(tmp_path, "inbox: /srv/in\noutbox: /srv/out\nmodel: /srv/model\n"))
    assert (settings.inbox, settings.outbox, settings.model) == (Path("/srv/in"), Path("/srv/out"), Path("/srv/model"))


@pytest.mark.parametrize(
    ("inbox", "outbox"),
    [
        ("a", "a"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("a", "./a/../a"),
        ("a", "a/b/c/d"),
        (".", "out"),
        ("in", "."),
        ("/", "/a"),
    ],
)
def test_folders_within_each_other(tmp_path: Path, inbox: str, outbox: str) -> None:
    """An inbox in the outbox, or the other way round, is refused by both their names."""
    with pytest.raises(ConfigError, match=r"inbox .* and outbox .* lie within each other; give each") as caught:
        load(given(tmp_path, f"inbox: {inbox}\noutbox: {outbox}\n"))
    assert "\n" not in str(caught.value)


def test_folders_within_each_other_by_a_link(tmp_path: Path) -> None:
    """A symbolic link does not hide that the outbox lies in the inbox."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").symlink_to("in")
    with pytest.raises(ConfigError, match="lie within each other"):
        load(given(tmp_path, "inbox: in\noutbox: out\n"))


def test_similar_names_are_not_within(tmp_path: Path) -> None:
    """Folders whose names only begin alike are fine."""
    assert load(given(tmp_path, "inbox: scans\noutbox: scans-read\n")).outbox == tmp_path / "scans-read"


def test_model_of_the_wheel(tmp_path: Path) -> None:
    """With no model beside the configuration, the wheel's, or the clone's, serves the default; another is kept."""
    assert load(given(tmp_path, "")).model == ROOT / "model"
    assert load(given(tmp_path, "model: model\n")).model == ROOT / "model"
    assert load(given(tmp_path, "model: mine\n")).model == tmp_path / "mine"
    (tmp_path / "model").mkdir()
    assert load(given(tmp_path, "")).model == tmp_path / "model"


# What is wrong


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("settel: 1", "unknown key 'settel'; did you mean 'settle'?"),
        ("Inbox: in", "unknown key 'Inbox'; did you mean 'inbox'?"),
        ("thumbnail: all", "unknown key 'thumbnail'; did you mean 'thumbnails'?"),
        ("batch: {sise: 1}", "unknown key 'batch.sise'; did you mean 'size'?"),
        ("limits: {memmory: 1}", "unknown key 'limits.memmory'; did you mean 'memory'?"),
        ("max_error: 0.01", "unknown key 'max_error'; it belongs under accept:"),
        ("memory: 1", "unknown key 'memory'; it belongs under limits:"),
        ("batch: {zzz: 1}", "unknown key 'batch.zzz'; known here: size, wait"),
        ("zzz: 1", f"unknown key 'zzz'; known here: {', '.join(Settings.model_fields)}"),
    ],
)
def test_unknown_key(tmp_path: Path, text: str, expected: str) -> None:
    """An unknown key is refused with the one that was probably meant, or else with those there are."""
    assert complaint(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("settle: soon", "settle is 'soon': input should be a valid number"),
        ("settle: '2'", "settle is '2': input should be a valid number"),
        ("settle: [2]", "settle is [2]: input should be a valid number"),
        ("settle:", "settle is empty: input should be a valid number"),
        ("settle: true", "settle is True: input should be a valid number"),
        ("workers: 1.5", "workers is 1.5: input should be a valid integer"),
        ("workers: true", "workers is True: input should be a valid integer"),
        ("workers: two", "workers is 'two': input should be a valid integer"),
        ("contact_sheet: 1", "contact_sheet is 1: input should be a valid boolean"),
        ("contact_sheet: 'yes'", "contact_sheet is 'yes': input should be a valid boolean"),
        ("inbox: 5", "inbox is 5: should be the path of a folder"),
        ("outbox:", "outbox is empty: should be the path of a folder"),
        ("model: [a]", "model is ['a']: should be the path of a folder"),
        ("metrics: 5", "metrics is 5: should be the path of a file"),
        ("batch: 5", "batch is 5: should hold keys of its own: size, wait"),
        ("accept:", "accept is empty: should hold keys of its own: max_error"),
        ("limits: [1]", "limits is [1]: should hold keys of its own: bytes, pixels, seconds, memory"),
        ("limits: {bytes: 50 MB}", "limits.bytes is '50 MB': input should be a valid integer"),
    ],
)
def test_wrong_type(tmp_path: Path, text: str, expected: str) -> None:
    """A value of the wrong type is refused by its key and value, with what it should be; nothing is converted."""
    assert complaint(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "key", "value", "remedy"),
    [
        ("settle: -1", "settle", "-1", "greater than or equal to 0"),
        ("settle: 1000000", "settle", "1000000", "less than or equal to 86400"),
        ("settle: .nan", "settle", "nan", "finite number"),
        ("patience: .inf", "patience", "inf", "finite number"),
        ("scan_every: 0", "scan_every", "0", "greater than or equal to 0.05"),
        ("scan_every: .nan", "scan_every", "nan", "less than or equal to 3600"),
        ("workers: -1", "workers", "-1", "greater than or equal to 0"),
        ("workers: 1000", "workers", "1000", "less than or equal to 256"),
        ("batch: {size: 0}", "batch.size", "0", "greater than or equal to 1"),
        ("batch: {size: 10001}", "batch.size", "10001", "less than or equal to 10000"),
        ("batch: {wait: -0.1}", "batch.wait", "-0.1", "greater than or equal to 0"),
        ("watch: never", "watch", "'never'", "'auto', 'events' or 'scan'"),
        ("originals: remove", "originals", "'remove'", "'keep' or 'delete'"),
        ("thumbnails: no", "thumbnails", "False", "'all', 'review' or 'none'"),
        ("accept: {max_error: 0}", "accept.max_error", "0", "greater than 0"),
        ("accept: {max_error: 1}", "accept.max_error", "1", "less than or equal to 0.5"),
        ("accept: {max_error: .nan}", "accept.max_error", "nan", "less than or equal to 0.5"),
        ("audit: -0.1", "audit", "-0.1", "greater than or equal to 0"),
        ("audit: 2", "audit", "2", "less than or equal to 1"),
        ("keep_days: 0", "keep_days", "0", "greater than 0"),
        ("keep_days: -1", "keep_days", "-1", "greater than 0"),
        ("keep_days: 40000", "keep_days", "40000", "less than or equal to 36500"),
        ("limits: {bytes: 0}", "limits.bytes", "0", "greater than or equal to 1"),
        ("limits: {pixels: -5}", "limits.pixels", "-5", "greater than or equal to 1"),
        ("limits: {seconds: 0}", "limits.seconds", "0", "greater than 0"),
        ("limits: {seconds: .nan}", "limits.seconds", "nan", "less than or equal to 3600"),
        ("limits: {memory: 1000}", "limits.memory", "1000", "greater than or equal to 600000000"),
    ],
)
def test_impossible_value(tmp_path: Path, text: str, key: str, value: str, remedy: str) -> None:
    """A value that cannot work is refused in one line by its key and value, with what would."""
    message = complaint(tmp_path, text)
    assert message.startswith(f"{key} is {value}: ")
    assert remedy in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("length: 5, date: '%d%m%Y'", "a date as %d%m%Y has 8 digits, which its length does not allow"),
        ("length: 1, range: [10, 20]", "no number of 1 digits is as large as 10"),
        ("length: 5, check: isbn", "no number for isbn has 5 digits, says python-stdnum"),
        ("length: [3, 7], check: ean", "no number for ean has 3 to 7 digits, says python-stdnum"),
    ],
)
def test_rule_that_no_value_keeps(tmp_path: Path, what: str, words: str) -> None:
    """A rule whose parts contradict each other would put every value aside: it is refused."""
    message = complaint(tmp_path, f"fields: [{{name: a, files: '*', {what}}}]")
    assert message.startswith("fields[0] is ")
    assert message.endswith(words)


@pytest.mark.parametrize("what", ["length: [9, 10], check: isbn", "length: 5, range: [0, 9], check: luhn"])
def test_rule_that_a_value_keeps(tmp_path: Path, what: str) -> None:
    """A rule that some value keeps, be it 00000 alone, is taken."""
    (rule,) = load(given(tmp_path, f"fields: [{{name: a, files: '*', {what}}}]")).fields
    assert rule.example()


@pytest.mark.parametrize(
    ("first", "second"), [("*", "*_zip.*"), ("**", "marks/**"), ("**/*", "*"), ("marks/**", "marks/**")]
)
def test_a_rule_behind_one_that_takes_all(tmp_path: Path, first: str, second: str) -> None:
    """A rule that can never be reached is refused, with the one that hides it; in the other order both are taken."""
    rules = [f"{{name: a, files: '{first}'}}", f"{{name: b, files: '{second}'}}"]
    assert complaint(tmp_path, f"fields: [{', '.join(rules)}]") == (
        f"fields[1] 'b' can match nothing: all that '{second}' matches is taken by fields[0] 'a' with '{first}'; "
        "put it before that one, or take one of them out"
    )
    if first == "*":
        assert len(load(given(tmp_path, f"fields: [{', '.join(rules[::-1])}]")).fields) == 2


@pytest.mark.parametrize("files", ["/srv/marks/*", "marks/", "./marks/*", "../*", "a//b"])
def test_files_that_lie_in_no_inbox(tmp_path: Path, files: str) -> None:
    """A pattern that no path under an inbox can match is refused."""
    message = complaint(tmp_path, f"fields: [{{name: a, files: {files}}}]")
    assert message.startswith(f"fields[0].files is '{files}': should match paths under the inbox, as marks/** does")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("inbox: ~/in", "inbox {}/~/in: whose home '~' is"),
        ("metrics: out/a.prom\noutbox: out", "metrics {}/out/a.prom lies where scans or deliveries do"),
        ("metrics: inbox/deep/a.prom", "metrics {}/inbox/deep/a.prom lies where scans or deliveries do"),
        ("metrics: x.txt", "metrics {}/x.txt: node_exporter takes only files that end in .prom; name it so"),
    ],
)
def test_places_that_will_not_do(tmp_path: Path, text: str, words: str) -> None:
    """A home that depends on the user, and metrics among scans or where nobody collects them, are refused."""
    with pytest.raises(ConfigError, match=re.escape(words.format(tmp_path))):
        load(given(tmp_path, text))


@pytest.mark.parametrize("key", ["inbox", "outbox", "model", "metrics"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('""', " is '': should be the path of a f"),
        ("loop", "/loop': cannot be a path: Symlink loop"),
        ("loop/in", "/loop/in': cannot be a path: Symlink loop"),
        (r'"a\0b"', r"/a\x00b': cannot be a path: embedded null byte; name another"),
        (r'"\ud800"', r"/\ud800': cannot be a path: 'utf-8' codec"),
    ],
)
def test_no_paths(tmp_path: Path, key: str, value: str, words: str) -> None:
    """What can be no path, and an empty one, is refused by its key: it is not taken for the folder it stands in."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigError) as caught:
        load(given(tmp_path, f"{key}: {value}\n"))
    assert key in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nested_too_deeply(tmp_path: Path) -> None:
    """YAML that has no end to it is refused in one line."""
    message = complaint(tmp_path, "inbox: " + "[" * 3000)
    assert message.startswith("cannot be read as YAML: maximum recursion depth exceeded")
    assert "\n" not in message


def test_each_mistake_has_its_line(tmp_path: Path) -> None:
    """Several mistakes are told at once, each in a line that names the file."""
    path = given(tmp_path, "settle: -1\nworkers: x\nsettel: 1\nbatch: {size: 0}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert all(sum(key in line for line in lines) == 1 for key in ("settle is", "workers", "'settel'", "batch.size"))


@pytest.mark.parametrize(
    "text",
    [
        "a: b: c",
        "inbox: [",
        "\tsettle: 1",
        "settle: 2026-13-45",  # YAML takes it for a date
        "? [a]\n: 1",
        "inbox: !!python/object/apply:os.getcwd []",
        "\x01",
        b"\xff\xfe\xff",
        b"inbox: caf\xe9",
    ],
)
def test_not_yaml(tmp_path: Path, text: str | bytes) -> None:
    """What is no YAML, or no UTF-8, is refused in one line; nothing in it is ever run."""
    message = complaint(tmp_path, text)
    assert message.startswith("cannot be read as YAML: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("settle: 1\nworkers: 1\nsettle: 2\n", "'settle' is given twice, on lines 1 and 3; keep one"),
        ("settle: 1\n'settle': 1\n", "'settle' is given twice, on lines 1 and 2; keep one"),
        ("batch: {size: 3, wait: 1, size: 4}", "'size' is given twice, on lines 1 and 1; keep one"),
        (
            "fields:\n- {name: a}\n- name: b\n  files: y\n  name: c\n",
            "'name' is given twice, on lines 3 and 5",
        ),
        (
            "fields: [{name: zip, files: a}, {name: mark, files: b}, {name: zip, files: c}]",
            "fields[0] and fields[2] are both called 'zip'; give each rule a name of its own",
        ),
    ],
)
def test_given_twice(tmp_path: Path, text: str, expected: str) -> None:
    """A key that is given twice, or a name of two rules, is refused in one line: one of them would do nothing."""
    message = complaint(tmp_path, text)
    assert message.startswith(expected)
    assert "\n" not in message


def test_where_it_is_no_yaml(tmp_path: Path) -> None:
    """Where the YAML breaks is told by the file's name and the line."""
    message = complaint(tmp_path, "fields: []\n  - {name: zip}\n")
    assert f'in "{tmp_path}/config.yaml", line 2, column 3' in message, message


@pytest.mark.parametrize(("text", "kind"), [("- inbox\n", "list"), ("inbox\n", "str"), ("5\n", "int")])
def test_not_a_mapping(tmp_path: Path, text: str, kind: str) -> None:
    """A file that holds no keys is refused with what it should hold."""
    assert complaint(tmp_path, text) == f"should hold 'key: value' lines, not a {kind}"


def test_missing_file(tmp_path: Path) -> None:
    """A configuration that is not there is refused by its name, with the option that names another."""
    path = tmp_path / "no.yaml"
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: no such file; name the configuration with --config"


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    """A folder is no configuration, and is told to be one."""
    with pytest.raises(ConfigError, match="is a folder; name the file in it with --config"):
        load(tmp_path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """What the system has against it is told with its name."""
    path = tmp_path / ("x" * 300)
    with pytest.raises(ConfigError, match="cannot be read: File name too long") as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_worker_count(tmp_path: Path) -> None:
    """Workers are as many as set; 0 means one for each processor that this process may use."""
    assert worker_count(load(given(tmp_path, "workers: 3\n"))) == 3
    assert worker_count(load(given(tmp_path, "workers: 0\n"))) == len(os.sched_getaffinity(0))
