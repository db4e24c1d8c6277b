"""Traces by their W3C names, with and without OpenTelemetry."""

from __future__ import annotations

import contextvars
import subprocess
import sys

import pytest
from opentelemetry import trace

from taskfleet import tracing
from taskfleet.protocol import dead_letter, dead_record, result_record
from taskfleet.protocol.sealing import PLAIN

TRACEPARENT = f"00-{'a1' * 16}-{'b2' * 8}-01"


@pytest.mark.parametrize(
    "text",
    [
        "", "00", None, 7, b"x", TRACEPARENT.upper(), TRACEPARENT + "-x", TRACEPARENT.replace("00-", "01-", 1),
        f"00-{'0' * 32}-{'b2' * 8}-01", f"00-{'a1' * 16}-{'0' * 16}-01", TRACEPARENT[:-1] + "\n", "x" * 10_000_000,
        f"00-{'a1' * 16}-{'b2' * 8}-\u0660\u0661",
    ],
    ids=lambda text: repr(text)[:30],
)  # fmt: skip
def test_what_is_no_traceparent_names_no_span(text: object) -> None:
    assert tracing.parsed(text) is None


@pytest.mark.parametrize(("flags", "sampled"), [("01", True), ("00", False), ("03", True), ("02", False)])
def test_a_traceparent_is_read_and_written(flags: str, sampled: bool) -> None:
    span = tracing.parsed(TRACEPARENT[:-2] + flags)
    assert span == tracing.TraceSpan("a1" * 16, "b2" * 8, sampled)
    assert span is not None
    assert span.traceparent == TRACEPARENT[:-2] + ("01" if sampled else "00")


def test_the_active_span_comes_before_that_of_the_run() -> None:
    def inside() -> None:
        assert tracing.exemplar() is None
        tracing.RUN.set(tracing.parsed(TRACEPARENT))
        assert tracing.exemplar() == {"trace_id": "a1" * 16, "span_id": "b2" * 8}
        about = trace.SpanContext(1, 2, False, trace.TraceFlags(0))
        with trace.use_span(trace.NonRecordingSpan(about)):
            assert tracing.current() == tracing.TraceSpan(f"{1:032x}", f"{2:016x}", False)
            assert tracing.exemplar() is None  # the trace of an exemplar must be there to look at
        assert tracing.current() == tracing.parsed(TRACEPARENT)

    contextvars.copy_context().run(inside)


def test_the_trace_of_another_process_is_continued_for_opentelemetry_too() -> None:
    def inside() -> None:
        tracing.adopt(TRACEPARENT)
        about = trace.get_current_span().get_span_context()
        assert (about.trace_id, about.span_id, about.is_remote) == (int("a1" * 16, 16), int("b2" * 8, 16), True)
        assert tracing.exemplar() == {"trace_id": "a1" * 16, "span_id": "b2" * 8}
        assert about.trace_flags.sampled
        tracing.adopt(TRACEPARENT[:-1] + "0")
        assert not trace.get_current_span().get_span_context().trace_flags.sampled
        assert (tracing.RUN.get(), tracing.exemplar()) == (tracing.parsed(TRACEPARENT[:-1] + "0"), None)
        tracing.adopt("")
        assert tracing.RUN.get() is None

    contextvars.copy_context().run(inside)


def test_nothing_here_imports_opentelemetry() -> None:
    program = (
        "import sys; from taskfleet import logs, tracing, TaskQueue; TaskQueue('memory://x'); "
        "assert tracing.exemplar() is None; tracing.adopt('" + TRACEPARENT + "'); "
        "print(tracing.exemplar()['trace_id'], [m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{'a1' * 16} []\n"


def test_an_exemplar_fits_into_openmetrics() -> None:
    def inside() -> None:
        tracing.adopt(TRACEPARENT)
        labels = tracing.exemplar()
        assert labels is not None
        assert sum(len(name) + len(value) for name, value in labels.items()) <= 128

    contextvars.copy_context().run(inside)


@pytest.mark.parametrize("form", [b"", b"\xc7\x03\x02abc"])
def test_a_result_record_carries_a_trace_that_earlier_versions_pass_over(form: bytes) -> None:
    plain = result_record.pack_success(b"\x07", form)
    traced = result_record.with_trace(plain, TRACEPARENT)
    assert result_record.trace_in(traced) == TRACEPARENT
    assert result_record.trace_in(plain) == ""
    read = [result_record.unpack_end(record, queue="q", task_id="t") for record in (plain, traced)]
    assert read[0] == read[1]


@pytest.mark.parametrize(
    "record", [b"", b"\x92", b"\x93\xa9succeeded", b"\xd9\x37" + b"x" * 55, b"\x93" + b"\xff" * 80]
)
def test_a_damaged_result_record_has_no_trace(record: bytes) -> None:
    assert tracing.parsed(result_record.trace_in(record)) is None


@pytest.mark.parametrize(
    "text",
    [
        TRACEPARENT, TRACEPARENT[:-2] + "00", TRACEPARENT[:-2] + "fe", TRACEPARENT[:-2] + "ff", TRACEPARENT[:-1] + "g",
        f"00-{'0' * 32}-{'1' * 16}-00", f"00-{'1' * 32}-{'0' * 16}-00", f"01-{'1' * 32}-{'1' * 16}-00",
        f"00-{'1' * 32}-{'1' * 16}-00\n", "x" * 1_000_000, "", None, 7, b"00-" + b"1" * 52,
    ],
    ids=lambda text: repr(text)[:60],
)  # fmt: skip
def test_a_span_that_is_not_sampled_is_known_without_its_ids(text: object) -> None:
    found = tracing.parsed(text)
    assert tracing.is_unsampled(text) == (found is not None and not found.sampled)


@pytest.mark.parametrize("pack", [dead_record.pack_attempt, dead_record.pack_failure])
def test_an_error_record_carries_a_trace_that_earlier_versions_pass_over(pack: object) -> None:
    assert callable(pack)
    plain, traced = pack("exception", "boom", "trace", "w/0"), pack("exception", "boom", "trace", "w/0", TRACEPARENT)
    read = [dead_letter.read_error(record, queue="q", task_id="t", seal=PLAIN) for record in (plain, traced)]
    assert read == [("exception", "boom", "trace", "w/0")] * 2
    assert dead_letter.trace_in(traced, queue="q", task_id="t", seal=PLAIN) == TRACEPARENT
    for record in (plain, b"", b"\x95\x01", b"\x95\xa1a\xa1a\xa1a\xa1a\x07"):
        assert dead_letter.trace_in(record, queue="q", task_id="t", seal=PLAIN) == ""
