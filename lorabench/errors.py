"""One exception tree. Each error is one line for the user and knows the exit code that the command ends with."""

from __future__ import annotations

EXIT_OK = 0
EXIT_REGRESSION = 1
EXIT_BAD_INPUT = 2
EXIT_NOT_COMPARABLE = 3
EXIT_CASE_NOT_OK = 4
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130


class LorabenchError(Exception):
    """Base of what lorabench raises on purpose. Its text is one line: what is wrong, and what would be right."""

    exit_code = EXIT_INTERNAL


class InputError(LorabenchError):
    """What the user gave cannot be used: a scenario, a path, an option, a results file."""

    exit_code = EXIT_BAD_INPUT


class ScenarioError(InputError):
    """A scenario file that is refused. Its text is ``file:line: key: what is wrong, and what would be right``."""

    def __init__(self, file: str, line: int | None, key: str | None, message: str) -> None:
        self.file, self.line, self.key, self.message = file, line, key, message
        where = file if line is None else f"{file}:{line}"
        super().__init__(f"{where}: {key}: {message}" if key else f"{where}: {message}")


class UnfitModelError(ScenarioError):
    """A case that ``--model``'s model cannot be, and the file's own may."""


class ResultsError(InputError):
    """A results file that cannot be read, written or resumed."""


class NotComparableError(LorabenchError):
    """A baseline that is missing, or was made on other hardware or with other versions."""

    exit_code = EXIT_NOT_COMPARABLE


class InvalidCaseError(LorabenchError):
    """What ran is not what the case asked for; the record becomes ``invalid`` with this text.

    Raised on the worker side only: it never ends the run.
    """


class DeviceError(LorabenchError):
    """The device that a run asks for is not there or cannot be used."""

    exit_code = EXIT_BAD_INPUT
