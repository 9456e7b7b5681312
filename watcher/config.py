"""Settings, read once from one YAML file and frozen."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from watcher.errors import ConfigError
from watcher.fields import Rule  # noqa: TC001 - pydantic looks it up

if TYPE_CHECKING:
    from collections.abc import Hashable

Seconds = Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _path(value: object) -> object:
    """Pass a path on, unless it is empty: pydantic takes that for the folder of the configuration."""
    if value == "":
        raise PydanticCustomError("path_type", "empty")
    return value


Place = Annotated[Path, Field(strict=False), BeforeValidator(_path)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


class Batch(_Section):
    """How many scans make a batch, and how long the first one waits for more."""

    size: Annotated[int, Field(ge=1, le=10_000)] = 256
    wait: Seconds = 0.2


class Accept(_Section):
    """The share of wrong values that accepted rows may hold."""

    max_error: Annotated[float, Field(gt=0, le=0.5)] = 0.01


class Limits(_Section):
    """What one scan may cost: bytes, pixels of a page, seconds, and bytes of a worker's address space."""

    bytes: Count = 50_000_000
    pixels: Count = 40_000_000
    seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    # A worker has some 400 MB of address space before it opens the first scan.
    memory: Annotated[int, Field(ge=600_000_000)] = 1_000_000_000


class Settings(_Section):
    """Everything that can be set; `config.yaml` says what each is for."""

    inbox: Place = Path("inbox")
    outbox: Place = Path("outbox")
    model: Place = Path("model")
    settle: Seconds = 2.0
    patience: Seconds = 60.0
    batch: Batch = Batch()
    watch: Literal["auto", "events", "scan"] = "auto"
    scan_every: Annotated[float, Field(ge=0.05, le=3600)] = 5.0
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    originals: Literal["keep", "delete"] = "keep"
    thumbnails: Literal["all", "review", "none"] = "all"
    contact_sheet: bool = True
    accept: Accept = Accept()
    audit: Annotated[float, Field(ge=0, le=1)] = 0.0
    limits: Limits = Limits()
    keep_days: Annotated[float, Field(gt=0, le=36500)] | None = None
    metrics: Place | None = None
    fields: Annotated[tuple[Rule, ...], Field(strict=False)] = ()


def load(path: Path | None) -> Settings:
    """Settings from `path`, or the defaults where None; relative folders are relative to its folder.

    Raises ConfigError, with one line for each wrong key.
    """
    values: object = {}
    if path is not None:
        try:
            with path.open(encoding="utf-8") as file:  # YAML's messages name it
                values = yaml.load(file, _Loader)  # noqa: S506 - it is a SafeLoader
        except _TwiceError as error:
            raise ConfigError(f"{path}: {error}") from None
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file; name the configuration with --config") from None
        except IsADirectoryError:
            raise ConfigError(f"{path}: is a folder; name the file in it with --config") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: not UTF-8, or a date that is none
            raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if values is None:  # an empty file: all defaults
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: should hold 'key: value' lines, not a {type(values).__name__}")
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_explain(problem)}" for problem in error.errors())) from None
    _check_rules(path, settings.fields)
    base = path.parent.absolute() if path is not None else Path.cwd()
    paths = {key: getattr(settings, key) for key in ("inbox", "outbox", "model", "metrics")}
    resolved = settings.model_copy(update={key: base / path for key, path in paths.items() if path is not None})
    _check_folders(resolved)
    if settings.model == Settings().model and not resolved.model.exists():
        # Where the configuration lies elsewhere there is no model/ beside it: the wheel, or the clone, carries its own.
        own = Path(__file__).with_name("model")
        resolved = resolved.model_copy(update={"model": own if own.exists() else own.parent.parent / "model"})
    return resolved


def worker_count(settings: Settings) -> int:
    """The number of worker processes: as set, or one for each processor this process may use."""
    return settings.workers or len(os.sched_getaffinity(0))


class _TwiceError(ValueError):
    """A key stands in the YAML twice."""


class _Loader(yaml.SafeLoader):
    """YAML as it should be: of a key that is given twice the last would win, and nobody would know."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise _TwiceError(f"{key.value!r} is given twice, on lines {lines[key.value]} and {line}; keep one")
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def _check_rules(path: Path | None, rules: tuple[Rule, ...]) -> None:
    for later, rule in enumerate(rules):
        for earlier, first in enumerate(rules[:later]):
            if first.name == rule.name:
                raise ConfigError(
                    f"{path}: fields[{earlier}] and fields[{later}] are both called {rule.name!r}; "
                    "give each rule a name of its own"
                )
            if first.hides(rule):
                raise ConfigError(
                    f"{path}: fields[{later}] {rule.name!r} can match nothing: all that {rule.files!r} matches is "
                    f"taken by fields[{earlier}] {first.name!r} with {first.files!r}; "
                    "put it before that one, or take one of them out"
                )


def _check_folders(settings: Settings) -> None:
    for key in ("inbox", "outbox", "model", "metrics"):
        path: Path | None = getattr(settings, key)
        if path is None:
            continue
        if "~" in path.parts:
            raise ConfigError(f"{key} {path}: whose home '~' is depends on who runs it; write the folder out")
        try:
            path.resolve()
        except (RuntimeError, ValueError) as error:  # a link to itself; a zero byte, or what is no text
            raise ConfigError(f"{key} {str(path)!a}: cannot be a path: {error}; name another") from None
    inbox, outbox = settings.inbox.resolve(), settings.outbox.resolve()
    if inbox == outbox or inbox in outbox.parents or outbox in inbox.parents:
        raise ConfigError(
            f"inbox {settings.inbox} and outbox {settings.outbox} lie within each other; give each a folder of its own"
        )
    if settings.metrics is not None:
        if {inbox, outbox} & {*settings.metrics.resolve().parents}:
            raise ConfigError(f"metrics {settings.metrics} lies where scans or deliveries do; put it elsewhere")
        if settings.metrics.suffix != ".prom":
            raise ConfigError(
                f"metrics {settings.metrics}: node_exporter takes only files that end in .prom; name it so"
            )


def _explain(problem: object) -> str:
    """One line for one of pydantic's errors: the key, its value, and what it should be."""
    assert isinstance(problem, dict)
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])[1:]
    if problem["type"] == "extra_forbidden":
        known = _keys(problem["loc"][:-1])
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        inner = {name: section for name, section in Settings() if isinstance(section, BaseModel)}
        sections = [name for name, section in inner.items() if problem["loc"][-1] in type(section).model_fields]
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
        if sections:
            hint = f"it belongs under {sections[0]}:"
        return f"unknown key {key!r}; {hint}"
    value = "empty" if problem["input"] is None else repr(problem["input"])
    if problem["type"] == "model_type":
        return f"{key} is {value}: should hold keys of its own: {', '.join(_keys(problem['loc']))}"
    if problem["type"] == "missing":
        return f"{key} is missing; an entry of its list holds {', '.join(_keys(problem['loc'][:-1]))}"
    if problem["type"] == "tuple_type":
        return f"{key} is {value}: should be a list"
    if problem["type"] == "path_type":
        return f"{key} is {value}: should be the path of a {'file' if key == 'metrics' else 'folder'}"
    message = str(problem["ctx"]["error"]) if problem["type"] == "value_error" else problem["msg"]
    return f"{key} is {value}: {message[0].lower()}{message[1:]}"


def _keys(section: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Settings
    for name in section:
        if isinstance(name, str):  # a number counts the entries of a list
            inner = model.model_fields[name].annotation
            inner = get_args(inner)[0] if get_origin(inner) is tuple else inner
            assert isinstance(inner, type)
            assert issubclass(inner, BaseModel)
            model = inner
    return list(model.model_fields)
