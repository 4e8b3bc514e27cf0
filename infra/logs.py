"""structlog events named noun_verb: JSON in files, readable on a terminal. Prompts, keys and votes never."""

import logging
import sys

import structlog

from infra.settings import InfraSettings


def configure_logging(settings: InfraSettings, *, process: str) -> None:
    """Called once by each process's composition root; every line names its process."""
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if not console:
        shared.append(structlog.processors.format_exc_info)
    renderer = _console() if console else structlog.processors.JSONRenderer()
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_to_stderr,
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[_libraries(shared, renderer)], force=True)


def log_as_command() -> None:
    """Commands answer on standard output and warn beside it; one that is a process sets its log up itself."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=_to_stderr,
        cache_logger_on_first_use=False,
    )


def _console() -> structlog.dev.ConsoleRenderer:
    """The fancy tracebacks show local variables: prompts and keys among them."""
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _libraries(shared: list[structlog.typing.Processor], renderer: structlog.typing.Processor) -> logging.Handler:
    """What libraries log becomes a line like ours."""
    handler = logging.StreamHandler(sys.stderr)
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[strip, renderer], foreign_pre_chain=shared))
    return handler


def _to_stderr(*_arguments: object) -> structlog.PrintLogger:
    """Whatever that is at the time: it may be replaced under a running program."""
    return structlog.PrintLogger(sys.stderr)
