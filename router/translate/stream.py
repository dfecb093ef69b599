"""A streamed chat completion, told as a Messages stream.

What may follow what, and what is done then, stands in one table: `order.TABLE`. Blocks come one after the other: where
a server mixes the pieces of several tool calls, the first is streamed and the others wait for its end. Tool arguments
that are no JSON object break the answer off: a client would run the tool with half of them. Only where the answer was
cut, by its length or a stop word, are the last call's left as they are, and `stop_reason` says so.
"""

import msgspec

from router.errors import RouterError, UpstreamBroke
from router.translate import render
from router.translate.answer import Usage
from router.translate.blocks import BlockWriter
from router.translate.calls import Call, Calls
from router.translate.counts import Counts
from router.translate.faults import read_fault, to_error
from router.translate.forced import ANY, as_call, chosen_call
from router.translate.mould import Mould, framed, key_of
from router.translate.order import TABLE, Do, Kind, State
from router.translate.response import unsaid
from router.translate.stops import GAVE_UP, stop_reason
from router.wire.openai import Chunk, ChunkChoice, Delta, Verbose, chunk_decoder, stop_word
from router.wire.reading import read
from router.wire.sse import EventSplitter, event_data, event_name

_NO_ERROR = frozenset({b"null", b"false", b'""', b"{}"})


class ChatToMessages:
    """One streamed answer; see `AnswerStream`.

    `committed`: message_start was given out. llama-server's progress alone does not do that, but its counts go into it.
    `events` counts the chunks that carried content. Errors are set, never raised, but for EventTooLarge.
    """

    __slots__ = (
        "_call",
        "_calls",
        "_cast_in",
        "_choosing",
        "_counts",
        "_finish_reason",
        "_forced",
        "_guess_tokens",
        "_instance_id",
        "_key",
        "_message_id",
        "_model",
        "_mould",
        "_omit_thinking",
        "_only",
        "_out",
        "_refused",
        "_silent",
        "_single",
        "_splitter",
        "_state",
        "_stop",
        "_stop_sequence",
        "_verbose",
        "_waiting",
        "_writer",
        "committed",
        "error",
        "events",
        "stop_reason",
    )  # fmt: skip

    def __init__(
        self,
        *,
        model: str,
        instance_id: str,
        message_id: str,
        guess_tokens: int = 0,
        omit_thinking: bool = False,
        silent: bool = False,
        stop: tuple[str, ...] = (),
        forced: str = "",
        single: bool = False,
    ) -> None:
        """`model`: the client's name for it. `guess_tokens`: input tokens to begin with if the server says none.

        `omit_thinking`: thinking is packed into its block's signature and not shown. `silent`: the client asked for no
        tokens at all (max_tokens 0) and the server had to make one. `stop`: the caller's own stop words. `forced`: the
        tool whose input the text is (see `translate.forced`); empty: text is text. `single`: the client takes one tool
        call at most, and what a server sends beyond that is left out.
        """
        self._model, self._instance_id, self._message_id = model, instance_id, message_id
        self._guess_tokens, self._omit_thinking, self._silent, self._stop = guess_tokens, omit_thinking, silent, stop
        self._forced, self._single = forced, single
        self._choosing: list[str] = []  # the text of an answer that has to choose a tool
        self._mould = Mould()
        self._cast_in: State | None = None  # the state in which what fits the mould goes the short way
        self._key = b""
        self._splitter = EventSplitter()
        self._out: list[bytes] = []  # what waits for the end of `feed`
        self._writer = BlockWriter(message_id, omit_thinking=omit_thinking, keep_ids=True)
        self._state = State.EMPTY
        self._calls = Calls(message_id)
        self._call: Call | None = None  # the last one whose block was opened
        self._only: Call | None = None  # the first, if no other is to follow
        self._waiting: list[Call] = []
        self._counts = Counts()
        self._verbose: Verbose | None = None
        self._refused = False
        self._finish_reason = ""
        self._stop_sequence: str | None = None
        self.committed = False
        self.error: RouterError | None = None
        self.events = 0
        self.stop_reason = ""

    def __repr__(self) -> str:
        return f"ChatToMessages({self._instance_id}, {self._state.name}, {self.events} events)"

    @property
    def ended(self) -> bool:
        """message_stop was given out."""
        return self._state is State.ENDED

    @property
    def usage(self) -> Usage:
        """As far as the server has said it; guesses are not in it."""
        return self._counts.for_record()

    def through(self, frame: bytes, start: int) -> bytes | None:
        """Take the common chunk the short way: text or reasoning for the block that is open. See `AnswerStream`."""
        if self._state is not self._cast_in or self._splitter.pending or self.error is not None:
            return None
        literal = self._mould.text(frame, start)
        if literal is None:
            return None
        self.events += 1
        return framed(b"%b%b}}\n\n" % (self._writer.head, literal))

    def feed(self, data: bytes) -> bytes:
        """Return the bytes for the client.

        Raises:
            EventTooLarge: the instance sends something without end.

        """
        if self._over():
            return b""
        for event in self._splitter.feed(data):
            if event.startswith(b"data: {") and event.find(b"\n") == len(event) - 2:
                self._read(event[6:-2])
                self._cast(event)
            else:
                self._read_odd(event)
            if self._over():
                break
        return self._take()

    def finish(self) -> bytes:
        """End the answer if only usage or `[DONE]` was missing; it is broken otherwise. A half event is dropped."""
        if self.error is None:
            self._last(Kind.END)
        return self._take()

    def _take(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _over(self) -> bool:
        return self.error is not None or self._state is State.ENDED

    # ---------------------------------------------------------------- one event

    def _read_odd(self, event: bytes) -> None:
        """An event that is not one line of `data: {...}`."""
        for line in event.split(b"\n"):
            if line.startswith(b"error:"):  # older llama-server
                return self._fault(line[6:])
        name, data = event_name(event), event_data(event).strip()
        if name == b"error":
            self._fault(data)
        elif data == b"[DONE]":
            self._last(Kind.DONE)
        elif data and (data.startswith(b"{") or not name):
            self._read(data)
        return None

    def _read(self, data: bytes) -> None:
        try:
            chunk = read(chunk_decoder, data)
        except msgspec.DecodeError:
            return self._break("sent something that is no chat completion")
        if bytes(chunk.error) not in _NO_ERROR or (chunk.choices is None and _is_fault(chunk, data)):
            return self._fault(data)
        if chunk.usage is not None or chunk.prompt_progress is not None or chunk.timings is not None:
            self._counts.take(chunk)  # in every state before the last
        if chunk.verbose is not None:
            self._verbose = chunk.verbose
        for choice in chunk.choices or ():
            if choice.index == 0 and self.error is None:
                self._choice(choice)
        self._key = key_of(chunk)
        return None

    def _cast(self, event: bytes) -> None:
        """Remember the shape of a chunk that was nothing but text, or reasoning, of the open block."""
        key, self._key = self._key, b""
        if key and not self._omit_thinking and not self._silent and not self._forced:
            self._cast_in = self._state if self._mould.cast(event, key) else None

    def _choice(self, choice: ChunkChoice) -> None:
        delta = choice.delta
        if delta is not None:
            if self._forced:
                delta = self._as_forced(delta)
            said = False
            if thinking := delta.reasoning_content or delta.reasoning:
                said = self._say(Kind.REASONING, thinking)
            if delta.content:
                said = self._say(Kind.TEXT, delta.content)
            if delta.refusal:
                self._refused = said = self._say(Kind.TEXT, delta.refusal)
            if delta.tool_calls or delta.function_call is not None:
                said = self._say_calls(delta) or said
            self.events += said
        if choice.finish_reason and self._choosing:
            self._say_chosen(choice.finish_reason)
        if choice.finish_reason and self.error is None:
            self._finish(choice.finish_reason, choice)

    def _as_forced(self, delta: Delta) -> Delta:
        if self._forced != ANY:
            # The name comes once: with a piece after a whole object it would begin another call.
            return as_call(delta, self._forced if self._only is None else "")
        if delta.content:
            self._choosing.append(delta.content)
            self.events += 1
        return msgspec.structs.replace(delta, content=None)

    def _say_chosen(self, why: str) -> None:
        called = chosen_call("".join(self._choosing))
        self._choosing.clear()
        if called is not None:
            self._say_calls(called)
        elif why == "stop" and not self._stop:
            self._break("sent a tool call that cannot be read")

    # ---------------------------------------------------------------- what the table says

    def _say(self, kind: Kind, text: str) -> bool:
        """Reasoning or text; True, since it is a token whatever becomes of it."""
        if self.error is not None:
            return True
        do = TABLE[self._state][kind]
        if do is Do.FAIL:
            self._break("went on after the end of its answer")
        elif self._silent:
            self._start()
        else:
            if do is Do.OPEN:
                self._open(kind)
            if self.error is None:
                self._out.append(self._writer.write(text))
        return True

    def _say_calls(self, delta: Delta) -> bool:
        said = False
        for call, added in self._calls.pieces(delta):
            if self.error is not None:
                break
            if self._single and call is not (self._only or call):
                continue
            self._only = call
            said = True
            if self._silent:
                self._say(Kind.TEXT, "")
            elif call.begun:
                self._say_more(call, added)
            else:
                call.arguments.add(added)
                if call not in self._waiting:
                    self._waiting.append(call)
                self._open_waiting()
        return said

    def _say_more(self, call: Call, added: str) -> None:
        if not added:
            return
        do = TABLE[self._state][Kind.TOOL_MORE]
        if do is Do.FAIL or call is not self._call:
            self._break("added to a tool call that was over")
            return
        arguments = call.arguments
        held = "" if arguments.begun else arguments.text  # blanks: alone they would be no JSON
        arguments.add(added)
        if arguments.broken:
            self._break("sent tool arguments that are no JSON object")
        elif arguments.begun:
            self._out.append(self._writer.write(held + added))
            self._open_waiting()

    def _open_waiting(self) -> None:
        """Open the blocks of those whose turn it is, in the order in which they came."""
        while self._waiting and self.error is None and self._waiting[0].name:
            do = TABLE[self._state][Kind.TOOL_FIRST]
            if do is Do.FAIL:
                self._break("went on after the end of its answer")
            elif do is Do.QUEUE and self._call is not None and not self._call.arguments.done:
                return
            else:
                self._close()
                if self.error is None:
                    self._open_call(self._waiting.pop(0))

    def _finish(self, why: str, choice: ChunkChoice) -> None:
        if TABLE[self._state][Kind.FINISH] is Do.AGAIN:
            if why != self._finish_reason:
                self._break("gave two reasons for its end")
            return
        if why in GAVE_UP:
            self._break("broke the answer off")
            return
        self._start()
        word = stop_word(choice, self._verbose)
        cut = why == "length" or word in self._stop
        if cut and self._forced not in {"", ANY} and self._only is None:
            self._say_calls(unsaid(self._forced))
        self._settle(cut=cut)
        if self.error is None:
            arguments = self._call.arguments if self._call is not None else None
            tools = arguments is not None and arguments.is_object() and (arguments.begun or not cut)
            reason, word = stop_reason(why, tools=tools, refused=self._refused, word=word, stop=self._stop)
            self.stop_reason, self._stop_sequence = ("max_tokens", None) if self._silent else (reason, word)
            self._finish_reason = why
            self._state = State.CLOSING

    def _last(self, kind: Kind) -> None:
        do = TABLE[self._state][kind]
        if do is Do.FAIL:
            self._break("ended its answer before it was whole")
        elif do is Do.SAY_END:
            ending = {"stop_reason": self.stop_reason, "stop_sequence": self._stop_sequence}
            usage = self._counts.at_end(self.events, self._silent)
            self._out += (render.message_delta(ending, usage), render.MESSAGE_STOP)
            self._state = State.ENDED

    # ---------------------------------------------------------------- blocks

    def _start(self) -> None:
        if not self.committed:
            usage = self._counts.at_start(self._guess_tokens)
            message = render.message(model=self._model, message_id=self._message_id, usage=usage)
            self._out.append(render.message_start(message))
            self.committed = True

    def _open(self, kind: Kind) -> None:
        self._settle()
        if self.error is None:
            self._start()
            if kind is Kind.REASONING:
                self._out.append(self._writer.open_thinking())
                self._state = State.THINKING
            else:
                self._out.append(self._writer.open_text())
                self._state = State.TEXT

    def _open_call(self, call: Call) -> None:
        if call.arguments.broken:
            self._break("sent tool arguments that are no JSON object")
            return
        self._start()
        self._out.append(self._writer.open_tool(self._calls.client_id(call), call.name))
        if call.arguments.begun:
            self._out.append(self._writer.write(call.arguments.text))
        self._state = State.TOOL
        self._call = call
        call.begun = True

    def _close(self, *, cut: bool = False) -> None:
        """Close the open block, if one is. `cut`: tool arguments may end in the middle."""
        if self._state is State.TOOL and self._call is not None:
            arguments = self._call.arguments
            if not arguments.is_object() and (arguments.done or not cut):
                self._break("sent tool arguments that are no JSON object")
                return
        if self._writer.kind:
            self._out.append(self._writer.close(cut=cut))
            self._state = State.EMPTY

    def _settle(self, *, cut: bool = False) -> None:
        """Close everything: the open block, and the calls that wait, one after the other."""
        self._close(cut=cut)
        while self._waiting and self.error is None:
            call = self._waiting.pop(0)
            if cut and self._call is not None and not self._call.arguments.is_object():
                break  # they were cut as well, and the last one shown is the one that may be unfinished
            if call.name:
                self._open_call(call)
                if self.error is None:
                    self._close(cut=cut)
            elif call.arguments.text and not cut:
                self._break("sent a tool call without a name")

    # ---------------------------------------------------------------- errors

    def _fault(self, data: bytes) -> None:
        self.error = to_error(200, read_fault(data), instance_id=self._instance_id)

    def _break(self, how: str) -> None:
        self.error = UpstreamBroke(f"instance {self._instance_id} {how}", instance_id=self._instance_id)


def _is_fault(chunk: Chunk, data: bytes) -> bool:
    """Whether an event without choices is a flat error, as llama-server's Messages side sends them."""
    return chunk.usage is None and chunk.prompt_progress is None and bool(read_fault(data).message)
