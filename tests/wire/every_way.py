"""The ways in which the same bytes may come off a socket."""

from collections.abc import Iterator


def every_way(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """The bytes whole, one by one, and cut in two at every position, the empty halves included."""
    yield (data,)
    yield tuple(data[at : at + 1] for at in range(len(data)))
    for cut in range(len(data) + 1):
        yield data[:cut], data[cut:]
