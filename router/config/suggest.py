"""The nearest known word, for errors that name what was probably meant."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word most like `word`, whatever its case and dashes, or None when none is near."""
    by_folded = {_folded(name): name for name in known}
    matches = difflib.get_close_matches(_folded(word[:100]), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def suggestion(word: str, known: Iterable[str], *, kind: str) -> str:
    """Say what to write instead of `word`: the nearest known one, or all of them (`kind` is the plural)."""
    names = list(known)
    near = nearest(word, names)
    if near is not None:
        return f'did you mean "{near}"?'
    return f"known {kind}: {', '.join(names)}" if names else f"there are no {kind}"


def _folded(word: str) -> str:
    return word.lower().replace("-", "_")
