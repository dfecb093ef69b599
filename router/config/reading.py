"""What a walk over the tree has found so far, by path: values, marks and problems.

It also serves files that are partly wrong, so that the checks across entries can speak about the rest.
"""

from router.config.problem import ConfigProblem, Path, path_text

Mark = tuple[int, int]


class Reading:
    """The one collector of a walk and of the checks after it."""

    def __init__(self, *, file: str) -> None:
        self.file = file
        self.values: dict[Path, object] = {}
        """Every value that could be read, in the order of the file: scalars, structs, collections."""
        self.marks: dict[Path, Mark] = {}
        """Line and column, from 1, of every value; also of those that could not be read."""
        self.key_marks: dict[Path, Mark] = {}
        """The same for the keys of mappings."""
        self.meant: set[Path] = set()
        """Keys that are missing, but probably there under a misspelt name, which has its own problem."""
        self.problems: list[ConfigProblem] = []

    def __repr__(self) -> str:
        return f"Reading({self.file}: {len(self.values)} values, {len(self.problems)} problems)"

    def report(self, path: Path, reason: str, hint: str | None = None, *, at: Mark | None = None) -> None:
        """Note a problem at `at`, else where `path` stands, else at the nearest thing around it."""
        line, column = at or self._nearest_mark(path)
        problem = ConfigProblem(
            file=self.file, line=line, column=column, path=path_text(path), reason=reason, hint=hint
        )
        self.problems.append(problem)

    def names(self, key: str) -> list[str]:
        """The keys directly under the top-level mapping `key`, whether or not their values could be read."""
        return [str(path[1]) for path in self.marks if len(path) == 2 and path[0] == key]

    def _nearest_mark(self, path: Path) -> Mark:
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, (1, 1))
