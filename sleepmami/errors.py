"""Every error the project raises on purpose, each with a stable machine-readable code."""

from enum import StrEnum


class SleepMaMiError(Exception):
    """Base of all our errors; `code` is stable across releases, the text is for people."""

    code: str = "internal_error"


class ConfigError(SleepMaMiError):
    """A setting that does not exist, is out of range, or could have no effect."""

    code = "config_invalid"


def require(ok: bool, name: str, value: object, expected: str) -> None:
    """ConfigError naming the setting, what was found and what was expected, unless `ok`."""
    if not ok:
        raise ConfigError(f"{name} must be {expected}, got {value!r}")


class TableError(SleepMaMiError):
    """A table that is missing, of another schema version, or does not hold what was asked for."""

    code = "table_invalid"


class CheckpointError(SleepMaMiError):
    """A bundle or checkpoint folder that is missing, incomplete, altered or of another kind."""

    code = "checkpoint_invalid"


class TrainingError(SleepMaMiError):
    """Training cannot go on: a non-finite loss, or not enough data or resources for one step."""

    code = "training_failed"


class ServiceError(SleepMaMiError):
    """A service that could not be started, reached, or did not answer as its contract says."""

    code = "service_failed"


class ApiError(ServiceError):
    """The service answered a client's request with an error, or not at all.

    Args:
        code: the service's, stable; of the client's own are no_answer, answer_invalid, and http_502
            and the like where something before the service answered.
        status: of HTTP; None when there was no answer.
        message: a sentence for people.
        request_id: to report to the service's operator.
        retry_after_s: seconds after which the service says to try again.
    """

    def __init__(
        self,
        code: str,
        status: int | None,
        message: str,
        request_id: str,
        retry_after_s: float | None = None,
    ) -> None:
        where = "no answer" if status is None else f"HTTP {status}"
        super().__init__(f"{code}: {message} ({where}, request {request_id})")
        self.code = code
        self.status = status
        self.message = message
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        """The default pickling would give the text for the code."""
        parts = (self.code, self.status, self.message, self.request_id, self.retry_after_s)
        return ApiError, parts


class ClientError(SleepMaMiError):
    """What a client was asked for cannot be done on its own side.

    Args:
        code: file_changed, weights_mixed, folder_mismatch or tls_refused.
        message: what was found and what was expected.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[object, ...]:
        """As of ApiError."""
        return ClientError, (self.code, self.message)


class RecordingCode(StrEnum):
    """Why a recording or its annotation was refused. Part of the HTTP and table contract."""

    UNREADABLE = "unreadable"
    NOT_AN_EDF = "not_an_edf"
    HEADER_INVALID = "header_invalid"
    TRUNCATED_RECORDING = "truncated_recording"
    DISCONTINUOUS_RECORDING = "discontinuous_recording"
    RECORDING_TOO_SHORT = "recording_too_short"
    RECORDING_TOO_LARGE = "recording_too_large"
    CHANNELS_MISSING = "channels_missing"
    SIGNAL_UNUSABLE = "signal_unusable"
    ANNOTATION_INVALID = "annotation_invalid"
    DUPLICATE_RECORDING = "duplicate_recording"


class RecordingError(SleepMaMiError):
    """A recording that cannot be used.

    Args:
        code: the stable reason.
        file: name of the file as the user gave it.
        found: what is there. May quote the file's header, so it never crosses the HTTP edge.
        expected: what would have been right.
    """

    def __init__(self, code: RecordingCode, *, file: str, found: str, expected: str) -> None:
        super().__init__(f"{file}: {code.value}: found {found}; expected {expected}")
        self.code = code.value
        self.file = file
        self.found = found
        self.expected = expected

    def __reduce__(self) -> tuple[object, ...]:
        """Keyword-only arguments do not survive the default pickling between processes."""
        return _rebuild_recording_error, (self.code, self.file, self.found, self.expected)


def _rebuild_recording_error(code: str, file: str, found: str, expected: str) -> RecordingError:
    return RecordingError(RecordingCode(code), file=file, found=found, expected=expected)
