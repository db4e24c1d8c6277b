"""Errors of Redis: which of them to retry, which connections to replace, and the message for the user."""

from __future__ import annotations

import os
import re
import ssl

from redis import exceptions as redis_exceptions

from taskfleet.errors import BrokerConnectionError, BrokerOutOfMemoryError, ReplyTooLargeError, TaskQueueError
from taskfleet.redis import replies, urls
from taskfleet.redis.credentials import AccessFileError

# These codes mean that this server is not, or no longer, the right one. All its connections are dropped, so that the
# client asks DNS, the Sentinels or the Cluster again.
_WRONG_SERVER = {"READONLY", "UNBLOCKED", "NOREPLICAS", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MISCONF"}
_MOVING = {"TRYAGAIN", "MOVED", "ASK"}
_REFUSED = {"NOAUTH", "WRONGPASS", "NOPERM"}

# Errors are known by their class where redis-py has removed the code from the text.
_CLASSES: tuple[tuple[type[Exception], str], ...] = (
    (redis_exceptions.ReadOnlyError, "READONLY"),
    (redis_exceptions.BusyLoadingError, "LOADING"),
    (redis_exceptions.MasterDownError, "MASTERDOWN"),
    (redis_exceptions.ClusterDownError, "CLUSTERDOWN"),
    (redis_exceptions.TryAgainError, "TRYAGAIN"),
    (redis_exceptions.MovedError, "MOVED"),
    (redis_exceptions.AskError, "ASK"),
    (redis_exceptions.OutOfMemoryError, "OOM"),
    (redis_exceptions.NoPermissionError, "NOPERM"),
    (redis_exceptions.NoScriptError, "NOSCRIPT"),
    (redis_exceptions.AuthenticationError, "NOAUTH"),
    (redis_exceptions.AuthorizationError, "NOPERM"),
)
# Redis 6.2 wraps the error of a command inside a script: "Error running script (call to f_…): @user_script:7:
# @user_script: 7: -READONLY You can't write against a read only replica."
_WRAPPED = re.compile(r"@user_script: ?\d+: -?([A-Z]{3,}) ")
_TOO_LARGE = re.compile("invalid (multi)?bulk length|exceeds maximum allowed size|too big m?bulk count")
_BARE = re.compile(r"-?([A-Z]{3,}) ")


class CallTooLargeError(BrokerConnectionError):
    """Redis refuses a call for its size; the caller that put it together can split it."""


class CallRefusedError(BrokerConnectionError):
    """Redis answers this call with an error, and may answer calls about other keys."""


def call_too_large(url: str, size: int) -> CallTooLargeError:
    return CallTooLargeError(
        f"Redis at {urls.address(url)} refuses a call of {size} bytes (proto-max-bulk-len, client-query-buffer-limit)"
    )


def _unwrapped(error: BaseException) -> BaseException:
    """The cause, where redis-py has wrapped an error of the handshake into an error of the connection."""
    inner = error.args[0] if error.args else None
    return inner if isinstance(inner, redis_exceptions.RedisError) else error


def code_of(error: BaseException) -> str:
    """The code at the beginning of an error of Redis, or an empty string."""
    error = _unwrapped(error)
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return code
    if isinstance(error, redis_exceptions.ResponseError):
        text = str(error)
        # A permission error inside a script has no code.
        if "ACL failure in script" in text or "The user executing the script can't" in text:
            return "NOPERM"
        found = _WRAPPED.search(text) or _BARE.match(text)
        if found:
            return found[1]
    return ""


def is_connection_lost(error: BaseException) -> bool:
    """Whether the call may or may not have been executed, because its connection was lost."""
    return isinstance(error, (redis_exceptions.ConnectionError, redis_exceptions.TimeoutError, OSError))


def is_connection_closed(error: BaseException) -> bool:
    """Whether the server, or a proxy in front of it, has closed the connection."""
    return is_connection_lost(error) and not isinstance(error, (redis_exceptions.TimeoutError, TimeoutError))


def is_too_large(error: BaseException) -> bool:
    """Whether Redis says that the call exceeds its limits. Often it can only close the connection."""
    return isinstance(error, redis_exceptions.ResponseError) and _TOO_LARGE.search(str(error)) is not None


def is_wrong_server(error: BaseException) -> bool:
    return code_of(error) in _WRONG_SERVER


def is_about_redis(error: BaseException) -> bool:
    """Whether a call failed for the state of Redis or of the connection, and not for its content."""
    return code_of(error) not in ("", "ERR") or is_connection_lost(error)


def is_stale(error: BaseException) -> bool:
    """Whether to reconnect: another server answers now, or other credentials are needed."""
    code = code_of(error)
    return code in _WRONG_SERVER or code in _REFUSED or is_connection_lost(error)


def is_transient(error: BaseException) -> bool:
    """Whether the same call can succeed later without a change to the program."""
    code = code_of(error)
    return code in _WRONG_SERVER or code in _MOVING or is_connection_lost(error)


def is_about_one_call(error: BaseException) -> bool:
    """Whether Redis itself is well, and refuses a call for its keys: another program uses one, or our user may not."""
    answered = isinstance(error, redis_exceptions.ResponseError) and not isinstance(error, replies.TooLongError)
    return answered and not is_transient(error) and code_of(error) not in ("NOAUTH", "WRONGPASS")


def connection_error(url: str, error: BaseException) -> TaskQueueError:
    """The one-line error for the user when Redis does not answer, or answers with an error."""
    where = urls.address(url)
    code = code_of(error)
    error = _unwrapped(error)
    if isinstance(error, replies.TooLongError):
        return ReplyTooLargeError(
            f"Redis at {where}: {error}; ask for fewer at a time, or raise max_payload_bytes and max_result_bytes here "
            "if what is stored there is meant to be so large"
        )
    if is_too_large(error):
        return CallTooLargeError(f"Redis at {where} refuses a call for its size: {_reason(error)}")
    if isinstance(error, AccessFileError):
        return BrokerConnectionError(f"cannot log in to Redis at {where}: {error}")
    if code == "OOM":
        return BrokerOutOfMemoryError(
            f"Redis at {where} is out of memory and accepts nothing new: raise maxmemory, drain or purge queues, "
            "or keep results for a shorter time"
        )
    if code == "NOPERM":
        return CallRefusedError(
            f"Redis at {where} does not permit this to our user: {_reason(error)}; "
            "give it the rule of docs/how-to/redis.md"
        )
    if code in _REFUSED:
        return BrokerConnectionError(
            f"Redis at {where} refuses the credentials: check user name and password "
            "(redis://USER:PASSWORD@host, TASKFLEET_REDIS__PASSWORD, or redis.password_file)"
        )
    if code or isinstance(error, redis_exceptions.ResponseError):
        prefix = f"{code} " if code and not str(error).startswith(code) else ""
        kind = BrokerConnectionError if is_transient(error) else CallRefusedError
        return kind(f"Redis at {where} answers with an error: {prefix}{_reason(error)}")
    certificate = _tls_error(error)
    if certificate is not None:
        return BrokerConnectionError(
            f"no TLS with Redis at {where}: {_tls_reason(certificate)}; check tls_ca_file, tls_cert_file and "
            "tls_server_name"
        )
    return BrokerConnectionError(f"cannot reach Redis at {where}: {_reason(error)}; start it, or set REDIS_URL")


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """The TLS error that redis-py has wrapped, if there is one."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".").lower()
    return (error.reason or str(error)).lower().replace("_", " ")


def _reason(error: BaseException) -> str:
    text = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    # redis-py writes "Error 111 connecting to host:port. …". The reader needs the meaning of the number.
    number = re.match(r"Error (-?\d+) connecting to \S+ ?(.*)$", text)
    if not number:
        return text
    if int(number[1]) > 0:
        return os.strerror(int(number[1])).lower()
    return number[2].lower() or text
