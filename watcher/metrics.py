"""Metrics for Prometheus: a text file that node_exporter's textfile collector picks up."""

from __future__ import annotations

import os
from collections import Counter as Count
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    disable_created_metrics,
    generate_latest,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from watcher.config import Settings
    from watcher.results import Row
    from watcher.status import State

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asks for

SECONDS = (0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)  # buckets of the time from drop to delivery
DOUBTS = ("low_confidence", "clipped", "not_digits", "struck_out", "not_promised")  # what puts a value up for review
FAULTS = ("empty", "truncated", "unsupported", "unreadable", "too_large", "timed_out", "crashed_decoder")
STAGES = ("read", "deliver")
STEPS = ("decode", "normalise", "predict", "line", "read", "draw")


class Metrics:
    """What a watcher counted since its start, and what it is doing."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self.registry = registry = CollectorRegistry()
        self.rows = Counter(
            "digitdrop_rows", "Rows delivered, by status and reason.", ["status", "reason"], registry=registry
        )
        self.scans = Counter("digitdrop_scans", "Scans delivered.", registry=registry)
        self.deliveries = Counter("digitdrop_deliveries", "Deliveries published.", registry=registry)
        self.latency = Histogram(
            "digitdrop_latency_seconds",
            "Time of a scan from when it was last seen to change to its delivery.",
            buckets=SECONDS,
            registry=registry,
        )
        self.stages = Summary(
            "digitdrop_batch_seconds", "Time a batch spends in each stage.", ["stage"], registry=registry
        )
        self.steps = Counter(
            "digitdrop_work_seconds",
            "Time the workers spend in each step, all workers together.",
            ["step"],
            registry=registry,
        )
        self.troubles = Counter("digitdrop_troubles", "Times that the environment stood in the way.", registry=registry)
        self.gauges = {
            name: Gauge(f"digitdrop_{name}", meaning, registry=registry)
            for name, meaning in (
                ("waiting_scans", "Scans in the inbox."),
                ("oldest_seconds", "Time that the longest waiting scan has looked the way it does."),
                ("in_flight_scans", "Scans claimed and not yet delivered."),
                ("other_files", "Files in the inbox whose names are not a scan's."),
                ("degraded", "1 while something hinders the watcher."),
                ("start_timestamp_seconds", "When the watcher started."),
                ("last_delivery_timestamp_seconds", "When the last delivery was published; 0 before the first."),
                ("report_timestamp_seconds", "When the watcher last wrote this file."),
            )
        }
        self.held = Gauge(
            "digitdrop_held_scans", "Scans that are not taken yet, by reason.", ["reason"], registry=registry
        )
        self.model = Gauge("digitdrop_model_info", "The network in force.", ["model"], registry=registry)
        # Prometheus sees a counter grow only from a value that it has seen: each that may come begins at 0.
        for status, reason in _reasons(settings):
            self.rows.labels(status, reason)
        for stage in STAGES:
            self.stages.labels(stage)
        for step in STEPS:
            self.steps.labels(step)

    def delivered(self, rows: Sequence[Row], latencies: Iterable[float], stages: Mapping[str, float]) -> None:
        """Count a delivery: its rows, the seconds each scan took from drop to delivery, those of each stage."""
        self.deliveries.inc()
        self.scans.inc(len({row.name for row in rows}))
        for (status, reason), count in Count((row.reading.status, row.reading.reason) for row in rows).items():
            self.rows.labels(status, reason).inc(count)
        for row in rows:
            for step, milliseconds in row.milliseconds.items():
                self.steps.labels(step).inc(milliseconds / 1000)
        for seconds in latencies:
            self.latency.observe(seconds)
        for stage, seconds in stages.items():
            self.stages.labels(stage).observe(seconds)

    def write(self, state: State, now: float) -> None:
        """Put the file in place of the last one, whole, and readable for whoever collects. Raises OSError."""
        gauges: dict[str, float] = {
            "waiting_scans": state.waiting,
            "oldest_seconds": state.oldest,
            "in_flight_scans": state.in_flight,
            "other_files": state.other,
            "degraded": bool(state.degraded),
            "start_timestamp_seconds": state.started,
            "last_delivery_timestamp_seconds": state.last_delivered,
            "report_timestamp_seconds": now,
        }
        for name, value in gauges.items():
            self.gauges[name].set(value)
        self.held.clear()
        for reason, count in state.held.items():
            self.held.labels(reason).set(count)
        self.model.clear()
        self.model.labels(state.model).set(1)
        fresh = self.path.with_name(f".{self.path.name}.new")  # the collector takes *.prom
        with fresh.open("wb") as file:
            file.write(generate_latest(self.registry))
            os.fchmod(file.fileno(), 0o644)
        fresh.replace(self.path)


def _reasons(settings: Settings) -> list[tuple[str, str]]:
    """Each status with each reason that a row may have for it under these settings."""
    rules = ["wrong_length", *(f"rule:{rule.name}" for rule in settings.fields)] if settings.fields else []
    doubts = [*DOUBTS, *(["audit"] if settings.audit else []), *rules]
    return [
        ("accepted", ""),
        ("blank", ""),
        *(("review", reason) for reason in doubts),
        *(("failed", reason) for reason in FAULTS),
    ]
