import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtask.errors import InvalidRequest
from dtask.wire import frames
from dtask.wire.frames import Arrived, Down, EndedFrame, LogFrame, StartedFrame, Up
from dtask.worker import dialogue
from dtask.worker.dialogue import Dialogue

STREAMS = ("stdout", "stderr", "result")


def end_of(fence: int, stdout: int = 0, stderr: int = 0, result: int = 0) -> EndedFrame:
    return EndedFrame(
        fence=fence,
        exit_code=0,
        cause=None,
        error=None,
        started_at=1.0,
        ended_at=2.0,
        stdout_bytes=stdout,
        stderr_bytes=stderr,
        result_bytes=result,
        truncated=False,
        log_lost=False,
        cpu_s=None,
        max_rss_bytes=None,
    )


def sent(talk: Dialogue, available: int | None = None, *, now: float = 1.0) -> Up | None:
    """The next message; of each piece only so many bytes can be read. Nothing is put off at 1.0."""
    pieces = talk.wanted()
    return talk.message([(piece, bytes(piece.length)[:available]) for piece in pieces], now=now)


def told(up: Up | None) -> list[Any]:
    """What a message says, without the bytes."""
    assert up is not None
    return [
        (frame.fence, frame.stream, frame.offset, len(frame.data))
        if isinstance(frame, LogFrame)
        else (type(frame).__name__, frame.fence)
        for frame in up.frames
    ]


def test_silence_has_no_message() -> None:
    talk = Dialogue()
    assert sent(talk) is None
    talk.take(Down(1, 0), now=0.0)
    assert sent(talk) is None  # or two that hear each other would never stop


def test_orders_are_heard_even_with_nothing_else_to_say() -> None:
    talk = Dialogue()
    talk.take(Down(1, 0, (frames.DropFrame(1),)), now=0.0)
    assert sent(talk, now=0.0) is None
    assert talk.due() == dialogue.PUT_OFF_S
    talk.take(Down(2, 0, (frames.DropFrame(2),)), now=0.01)
    assert sent(talk, now=dialogue.PUT_OFF_S) == Up(1, 2)
    assert talk.due() is None
    assert sent(talk) is None


def test_start_is_told_when_it_has_been_put_off_long_enough() -> None:
    talk = Dialogue()
    talk.started(1, 1.0, now=0.0)
    talk.started(2, 1.0, now=0.005)
    assert sent(talk, now=0.019) is None
    assert talk.due() == dialogue.PUT_OFF_S
    assert told(sent(talk, now=dialogue.PUT_OFF_S)) == [("StartedFrame", 1)]
    assert talk.due() == 0.005 + dialogue.PUT_OFF_S
    assert told(sent(talk)) == [("StartedFrame", 2)]
    assert talk.due() is None


def test_end_that_comes_soon_tells_of_its_start_and_of_orders_taken_in() -> None:
    talk = Dialogue()
    talk.take(Down(1, 0, (frames.DropFrame(1),)), now=0.0)
    talk.started(7, 1.0, now=0.0)
    talk.ended(end_of(7))
    assert sent(talk, now=0.0) == Up(1, 1, (end_of(7),))
    assert talk.due() is None
    assert sent(talk) is None


def test_start_goes_before_the_log_and_not_after_it_is_forgotten() -> None:
    talk = Dialogue()
    talk.started(1, 1.0, now=0.0)
    talk.started(2, 1.0, now=0.0)
    talk.grown(1, 10, 0)
    talk.forget(2)
    assert told(sent(talk, now=0.0)) == [("StartedFrame", 1), (1, "stdout", 0, 10)]
    assert talk.due() is None


def test_one_message_holds_a_start_the_log_and_the_end() -> None:
    talk = Dialogue()
    talk.started(7, 1.0, now=0.0)
    talk.ended(end_of(7, 3, 2, 1))
    assert told(sent(talk)) == [
        ("StartedFrame", 7),
        (7, "stdout", 0, 3),
        (7, "stderr", 0, 2),
        (7, "result", 0, 1),
        ("EndedFrame", 7),
    ]
    assert sent(talk) is None
    assert talk.heard(1) == [7]
    assert talk.heard(1) == []


def test_what_was_sent_of_a_growing_log_is_not_sent_again() -> None:
    talk = Dialogue()
    talk.started(7, 1.0, now=0.0)
    assert not talk.grown(7, 0, 0)
    assert talk.grown(7, 10, 0)
    assert told(sent(talk))[1:] == [(7, "stdout", 0, 10)]
    assert not talk.grown(7, 10, 0)
    assert talk.running() == [7]
    talk.ended(end_of(7, 12))
    assert talk.running() == []
    assert told(sent(talk)) == [(7, "stdout", 10, 2), ("EndedFrame", 7)]


def test_logs_of_held_attempts_go_on_where_they_have_arrived() -> None:
    talk = Dialogue([1, 2])
    talk.ended(end_of(1, 100, 5))
    talk.ended(end_of(2, 9))
    talk.resume([Arrived(1, 60, 5, 0), Arrived(2, 9, 0, 0), Arrived(3, 1, 1, 1)])
    assert told(sent(talk)) == [(1, "stdout", 60, 40), ("EndedFrame", 1), ("EndedFrame", 2)]


def test_attempts_take_turns_with_a_chunk_each() -> None:
    talk = Dialogue()
    chunk = frames.CHUNK_BYTES_MAX
    talk.ended(end_of(1, 5 * chunk))
    talk.ended(end_of(2, 3 * chunk))
    talk.ended(end_of(3, 10))
    order = []
    while (up := sent(talk)) is not None:
        order.extend(told(up))
        talk.heard(up.number)
    logs = [entry[0] for entry in order if entry[0] in (1, 2, 3)]
    assert logs[:5] == [1, 2, 3, 1, 2]
    assert [entry[1] for entry in order if entry[0] == "EndedFrame"] == [3, 2, 1]


def test_words_need_no_window() -> None:
    talk = Dialogue()
    talk.ended(end_of(1, 2 * frames.WINDOW_BYTES))
    sizes = []
    while (up := sent(talk)) is not None:
        sizes.append(sum(size for *_, size in told(up)))
    assert sum(sizes) == frames.WINDOW_BYTES
    assert max(sizes) <= dialogue.LOG_BYTES_MAX
    talk.started(2, 1.0, now=0.0)
    talk.ended(end_of(3))
    assert told(sent(talk)) == [("EndedFrame", 3), ("StartedFrame", 2)]
    talk.heard(1)
    assert sum(size for *_, size in told(sent(talk))) == sizes[0]


def test_end_says_that_bytes_are_lost_that_could_not_be_read() -> None:
    talk = Dialogue()
    talk.ended(end_of(1, 10, 0, 5))
    up = sent(talk, available=4)
    assert up is not None
    end = up.frames[-1]
    assert isinstance(end, EndedFrame)
    assert (end.stdout_bytes, end.result_bytes, end.log_lost) == (4, 4, True)


def test_log_that_a_running_attempt_cut_itself_is_no_loss() -> None:
    talk = Dialogue()
    talk.started(1, 1.0, now=0.0)
    talk.grown(1, 10, 0)
    assert told(sent(talk, available=4)) == [("StartedFrame", 1), (1, "stdout", 0, 4)]
    talk.ended(end_of(1, 6))
    up = sent(talk)
    assert told(up) == [(1, "stdout", 4, 2), ("EndedFrame", 1)]
    assert up is not None
    assert up.frames[-1] == end_of(1, 6)


def test_forgotten_attempt_is_not_mentioned_even_if_it_was_its_turn() -> None:
    talk = Dialogue([1])
    talk.started(1, 1.0, now=0.0)
    talk.started(2, 1.0, now=0.0)
    talk.grown(1, 10, 0)
    pieces = talk.wanted()
    talk.forget(1)
    assert told(talk.message([(piece, b"x" * 10) for piece in pieces], now=1.0)) == [
        ("StartedFrame", 2)
    ]
    assert not talk.grown(1, 20, 0)
    talk.grown(2, 5, 0)
    talk.forget(2)
    talk.forget(2)
    assert sent(talk) is None


def test_messages_stay_below_the_limits_of_the_wire() -> None:
    talk = Dialogue()
    fences = range(1, 3_001)
    error = "\U0001f600" * 5_000
    for fence in fences:
        talk.started(fence, 1.0, now=0.0)
        talk.ended(frames.msgspec.structs.replace(end_of(fence, 700), error=error))
    ends = 0
    while (up := sent(talk)) is not None:
        assert len(up.frames) <= frames.FRAMES_MAX
        assert len(frames.encode(up)) <= frames.MESSAGE_BYTES_MAX
        ends += sum(isinstance(frame, EndedFrame) for frame in up.frames)
        talk.heard(up.number)
    assert ends == len(fences)


def test_scheduler_that_counts_wrong_is_refused() -> None:
    talk = Dialogue()
    with pytest.raises(InvalidRequest, match="only 0 were sent"):
        talk.heard(1)
    with pytest.raises(InvalidRequest, match="Message 2 of the scheduler follows its 0"):
        talk.take(Down(2, 0), now=0.0)


class Story:
    """Attempts that start, write and end, told over connections that are cut, to a scheduler that
    keeps what arrives. What it must find in every message is asserted as it comes."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.talk = Dialogue()
        #: What is on the worker: bytes by stream, and the end once there is one.
        self.sizes: dict[int, list[int]] = {}
        self.ends: dict[int, EndedFrame] = {}
        #: What the scheduler has.
        self.arrived: dict[int, list[int]] = {}
        self.started: set[int] = set()
        self.over: set[int] = set()
        self.last = 0
        self.unheard: dict[int, int] = {}

    def start(self) -> None:
        fence = len(self.arrived) + 1
        self.sizes[fence] = [0, 0, 0]
        self.arrived[fence] = [0, 0, 0]
        self.talk.started(fence, 1.0, now=0.0)

    def write(self) -> None:
        if running := sorted(self.sizes.keys() - self.ends.keys()):
            fence = self.draw.choice(running)
            self.sizes[fence][self.draw.randrange(2)] += self.draw.choice([1, 1_000, 900_000])
            self.talk.grown(fence, *self.sizes[fence][:2])

    def end(self) -> None:
        if running := sorted(self.sizes.keys() - self.ends.keys()):
            fence = self.draw.choice(running)
            self.sizes[fence][2] = self.draw.choice([0, 0, 5])
            self.ends[fence] = end_of(fence, *self.sizes[fence])
            self.talk.ended(self.ends[fence])

    def send(self) -> None:
        up = sent(self.talk)
        if up is None:
            return
        self.last += 1
        assert up.number == self.last
        for frame in up.frames:
            self.take(frame)
        assert sum(self.unheard.values()) <= frames.WINDOW_BYTES

    def take(self, frame: StartedFrame | LogFrame | EndedFrame) -> None:
        arrived = self.arrived[frame.fence]
        match frame:
            case StartedFrame():
                self.started.add(frame.fence)
            case LogFrame():
                at = STREAMS.index(frame.stream)
                assert frame.offset == arrived[at]
                assert 0 < len(frame.data) <= frames.CHUNK_BYTES_MAX
                arrived[at] += len(frame.data)
                self.unheard[self.last] = self.unheard.get(self.last, 0) + len(frame.data)
            case EndedFrame():
                assert frame == self.ends[frame.fence]
                assert [frame.stdout_bytes, frame.stderr_bytes, frame.result_bytes] == arrived
                self.over.add(frame.fence)

    def hear(self) -> None:
        number = self.draw.randint(0, self.last)
        for fence in self.talk.heard(number):
            assert fence in self.over
            del self.sizes[fence], self.ends[fence]
        self.unheard = {n: size for n, size in self.unheard.items() if n > number}

    def cut(self) -> None:
        """What was sent last may be lost: then it had not arrived."""
        self.last, self.unheard = 0, {}
        self.talk = Dialogue(self.sizes)
        for end in self.ends.values():
            self.talk.ended(end)
        self.talk.resume(Arrived(fence, *self.arrived[fence]) for fence in self.sizes)
        for fence in self.sizes.keys() - self.ends.keys():
            self.talk.grown(fence, *self.sizes[fence][:2])

    def settle(self) -> None:
        """Everything ends, and all of it is told and heard."""
        while self.sizes.keys() - self.ends.keys():
            self.end()
        while self.sizes:
            before = self.last
            self.send()
            heard = self.talk.heard(self.last)
            assert heard or self.last > before, "nothing is said, and something is not heard"
            for fence in heard:
                del self.sizes[fence]
            self.unheard = {}
        assert self.over == self.arrived.keys()
        assert sent(self.talk) is None
        assert not self.talk._tracks, "what is over is not remembered"


@given(st.randoms(use_true_random=False))
def test_every_story_is_told_whole_and_in_order(draw: random.Random) -> None:
    story = Story(draw)
    acts: list[Callable[[], None]] = [story.start, story.write, story.end, story.send, story.hear]
    for _ in range(60):
        draw.choice([*acts, story.send] if draw.random() > 0.05 else [story.cut])()
    story.settle()
