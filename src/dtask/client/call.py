"""One call of `dtask.Executor`, on its worker: `python -m dtask.client.call NAME`.

The function and its arguments are pickles. They come in as text where they are short: the function
in a variable, the arguments in another or as the item of an array's element. Else the function is
a file, and the arguments are the standard input. What comes out is a pickle in the file named by
DTASK_RESULT: whether the function returned, and what; or what it raised, and the traceback.

A call that raises also ends with exit code 1 and the traceback in its log, so that it is a failed
task to everybody, and is retried like one. Imports little: each call waits for it.
"""

import binascii
import os
import pickle
import sys

TYPE_CHECKING = False  # what typing calls so; importing it takes longer than all the rest here
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final

#: Where the function is: a variable, else a file.
FUNCTION: "Final" = "_DTASK_FUNCTION"
FUNCTION_FILE: "Final" = "function.pickle"
#: Where the arguments are: a variable (of an array's element its item), else the standard input.
ARGUMENTS: "Final" = "_DTASK_ARGUMENTS"

#: Longest result that is taken.
RESULT_BYTES_MAX: "Final" = 1024 * 1024


def main() -> int:
    """Do the call; the exit code."""
    failed = False
    try:
        outcome = _packed(_call())
    except BaseException as error:  # noqa: BLE001 (whatever it is, the caller is told)
        failed = True
        told = _told(error)
        sys.stderr.write(told)
        outcome = _failure(error, told)
    with open(os.environ["DTASK_RESULT"], "wb") as file:  # noqa: PTH123 (see the top)
        file.write(outcome)
    return int(failed)


def run_all(function: "Callable[..., Any]", calls: "Iterable[tuple[Any, ...]]") -> "list[Any]":
    """Several calls in one: the results, in order."""
    return [function(*arguments) for arguments in calls]


def _call() -> "Any":  # noqa: ANN401 (whatever the function returns)
    function = pickle.loads(_function())  # noqa: S301 (it is what the task is)
    arguments, named = pickle.loads(_arguments())  # noqa: S301 (the same)
    return function(*arguments, **named)


def _function() -> bytes:
    text = os.environ.pop(FUNCTION, None)
    if text is not None:
        return binascii.a2b_base64(text)
    with open(FUNCTION_FILE, "rb") as file:  # noqa: PTH123 (see the top)
        return file.read()


def _arguments() -> bytes:
    text = os.environ.pop(ARGUMENTS, None)
    if text is None:
        text = os.environ.get("DTASK_ITEM")
    return sys.stdin.buffer.read() if text is None else binascii.a2b_base64(text)


def _packed(value: object) -> bytes:
    """The outcome that holds this result. Raises what the caller is to be told if it can't."""
    outcome = _pickled((True, value, None))
    if len(outcome) > RESULT_BYTES_MAX:
        from dtask.errors import InvalidRequest  # noqa: PLC0415 (seldom needed)

        raise InvalidRequest(
            f"The result takes {len(outcome):,} bytes as a pickle: expected at most "
            f"{RESULT_BYTES_MAX:,}. Write it where others can read it, and return its place.",
            code="too_large",
            limit_bytes=RESULT_BYTES_MAX,
        )
    return outcome


def _failure(error: BaseException, told: str) -> bytes:
    """The outcome of a call that raised; what can't be sent is told in words."""
    try:
        outcome = _pickled((False, error, told))
        pickle.loads(outcome)  # noqa: S301 (our own: an exception may refuse to be made again)
        if len(outcome) <= RESULT_BYTES_MAX:
            return outcome
    except Exception:  # noqa: BLE001, S110 (pickling runs code of anybody)
        pass
    words = f"{type(error).__qualname__}: {error}"
    return pickle.dumps((False, RuntimeError(words[:10_000]), told[-100_000:]))


def _pickled(value: object) -> bytes:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 (what pickle can't take, such as a function of the caller's)
        import cloudpickle  # noqa: PLC0415 (seldom needed)

        packed: bytes = cloudpickle.dumps(value)
        return packed


def _told(error: BaseException) -> str:
    """The traceback, from the function on."""
    import traceback  # noqa: PLC0415 (seldom needed)

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


if __name__ == "__main__":
    sys.exit(main())
