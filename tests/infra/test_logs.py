import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from infra.logs import configure_logging
from infra.settings import InfraSettings


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.basicConfig(level=level, handlers=handlers, force=True)


def configure(log_format: Literal["json", "console"]) -> None:
    configure_logging(InfraSettings(log_format=log_format), process="gateway")


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one line on standard error."""
    (line,) = capsys.readouterr().err.splitlines()
    return dict(json.loads(line))


def fail_with(key: str) -> None:
    raise ValueError(f"a key of {len(key)} characters")


def test_a_line_names_its_event_its_process_and_what_is_bound(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    structlog.contextvars.bind_contextvars(request_id="req-1")
    structlog.get_logger().info("engine_away", replica="r0")
    line = said(capsys)
    assert (line["event"], line["process"], line["request_id"], line["replica"]) == (
        "engine_away", "gateway", "req-1", "r0",
    )  # fmt: skip


def test_what_a_library_says_is_a_line_like_ours(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    try:
        fail_with("tw-secret")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Cancel %s task(s)", 2)
    line = said(capsys)
    assert (line["event"], line["level"], line["process"]) == ("Cancel 2 task(s)", "error", "gateway")
    assert "ValueError: a key of 9 characters" in line["exception"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_variables(
    capsys: pytest.CaptureFixture[str], log_format: Literal["json", "console"]
) -> None:
    configure(log_format)
    try:
        fail_with("tw-secret")
    except ValueError as error:
        structlog.get_logger().error("request_failed", exc_info=error)
    text = capsys.readouterr().err
    assert "fail_with" in text
    assert "tw-secret" not in text.replace('fail_with("tw-secret")', "").replace('fail_with(\\"tw-secret\\")', "")
