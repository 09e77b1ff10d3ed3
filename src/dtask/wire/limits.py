"""Limits of the wire, each with its name. The core's own limits stand in `core`."""

from typing import Final

#: Body of any request but a batch.
BODY_BYTES_MAX: Final = 64 * 1024
#: Body of a batch, and how many tasks it may hold.
BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
BATCH_TASKS_MAX: Final = 10_000
#: A batch that is placed whole or not at all is one step of the core, so it is shorter.
ALL_OR_NOTHING_TASKS_MAX: Final = 1_000

#: Body of a submit.
SUBMIT_BYTES_MAX: Final = 16 * 1024 * 1024

#: Characters of worker ids, task ids and incarnations.
ID_CHARS_MAX: Final = 128
#: Characters of an address; a full DNS name with a scheme and a port fits.
ADDRESS_CHARS_MAX: Final = 300
#: Slots of one worker.
MAX_TASKS_MAX: Final = 100_000
#: Elements of required_tags, preferred_tags; names in exclude_workers.
REQUIREMENTS_MAX: Final = 64
EXCLUDED_MAX: Final = 1_000
#: Tasks named in one heartbeat (the body's limit comes first for long names).
NAMED_TASKS_MAX: Final = 10_000
#: Entries of a heartbeat's metrics.
METRICS_MAX: Final = 64
#: Characters of a metric's name, and of one that is a word.
METRIC_CHARS_MAX: Final = 128
#: Fences stay below 2^53, where every JSON reader still counts exactly.
FENCE_MAX: Final = 2**53 - 1

#: How long an open lease may be asked for, and what it is by default.
TTL_S_MIN: Final = 1.0
TTL_S_MAX: Final = 3600.0
TTL_S_DEFAULT: Final = 30.0

#: Rows of GET /workers by default and at most. 100,000 workers are the whole table.
WORKERS_LIMIT_MAX: Final = 100_000

#: Jobs, elements and attempts of one answer, at most.
JOBS_LIMIT_MAX: Final = 1_000
ELEMENTS_LIMIT_MAX: Final = 10_000
ATTEMPTS_LIMIT_MAX: Final = 1_000
#: Spans in which the elements of an array are counted for one answer.
SPANS_MAX: Final = 10_000
#: And by default.
LIMIT_DEFAULT: Final = 100
#: Attempts that are shown with a task.
LAST_ATTEMPTS_MAX: Final = 10
#: Rows of an array that are looked at for one answer.
ROWS_LOOKED_AT_MAX: Final = 50_000

#: Bytes of a log in one answer by default.
LOG_ANSWER_BYTES: Final = 1024 * 1024
