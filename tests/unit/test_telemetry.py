"""Events and who hears of them; the log as lines for machines and for people."""

import io
import json
import sys
from pathlib import Path

import pytest

from image_processor.telemetry import emit, log_events, subscribe


@pytest.fixture
def heard():
    told = []
    unsubscribe = subscribe(lambda event, fields: told.append((event, fields)))
    yield told
    unsubscribe()


@pytest.fixture
def log(monkeypatch):
    """Starts a log of a form; gives what it was written to."""
    stops = []

    def start(target=None, **options):
        target = target or io.StringIO()
        monkeypatch.setattr(sys, "stderr", target)
        stops.append(log_events(**options))
        return target

    yield start
    for stop in stops:
        stop()


def test_every_subscriber_hears_every_event(heard):
    also = []
    unsubscribe = subscribe(lambda event, fields: also.append((event, fields)))
    emit("job.completed", job_id="1", seconds=0.5)
    unsubscribe()
    assert heard == also == [("job.completed", {"job_id": "1", "seconds": 0.5})]


def test_who_unsubscribed_hears_nothing_more(heard):
    late = []
    subscribe(lambda event, _fields: late.append(event))()
    emit("job.completed")
    assert late == []
    assert len(heard) == 1


def test_unsubscribing_while_hearing_takes_nothing_from_the_others(heard):
    ends = []
    ends.append(subscribe(lambda _event, _fields: ends.pop()()))
    after = []
    unsubscribe = subscribe(lambda event, _fields: after.append(event))
    emit("job.completed")
    unsubscribe()
    assert after == ["job.completed"]


def test_json_is_one_object_a_line(log):
    target = log(json=True)
    emit("job.completed", job_id="1", note='two\nlines and "quotes"')
    emit("job.failed", reason=None)
    first, second = map(json.loads, target.getvalue().splitlines())
    assert (first["event"], first["job_id"], first["level"]) == ("job.completed", "1", "info")
    assert first["note"] == 'two\nlines and "quotes"'
    assert first["timestamp"].endswith("Z")
    assert (second["event"], second["level"]) == ("job.failed", "warning")


@pytest.mark.parametrize(
    "event", ["job.failed", "job.lost", "job.retried", "process.died", "sweeper.reap.failed"]
)
def test_what_should_be_looked_at_is_a_warning(log, event):
    target = log(json=True)
    emit(event)
    assert json.loads(target.getvalue())["level"] == "warning"


def test_text_is_one_line_an_event_whatever_the_fields_hold(log):
    target = log(json=False)
    emit("job.failed", error="a name with\na line break and \x1b[31mcolour")
    (line,) = target.getvalue().splitlines()
    assert "job.failed" in line
    assert "\x1b" not in line


def test_a_log_that_cannot_be_written_does_not_stop_the_work(log, heard):
    with Path("/dev/full").open("wb", buffering=0) as full_disk:
        target = log(io.TextIOWrapper(full_disk, write_through=True), json=True)
        with pytest.raises(OSError, match="No space left"):
            target.write("it is full indeed")
        emit("job.completed")
        assert heard == [("job.completed", {})]


def test_the_end_of_a_log_is_its_end(log):
    target = io.StringIO()
    sys.stderr, kept = target, sys.stderr
    try:
        log_events(json=True)()
    finally:
        sys.stderr = kept
    emit("job.completed")
    assert target.getvalue() == ""
