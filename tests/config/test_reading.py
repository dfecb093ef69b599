from router.config.reading import Reading


def test_a_problem_without_a_mark_of_its_own_stands_at_the_nearest_thing_around_it() -> None:
    reading = Reading(file="f")
    reading.marks = {(): (1, 1), ("models",): (2, 3)}
    reading.report(("models", "qwen", "url"), "is missing")
    reading.report(("listen",), "is odd", "write it", at=(9, 9))
    assert [str(problem) for problem in reading.problems] == [
        "f:2:3: models.qwen.url: is missing",
        "f:9:9: listen: is odd; write it",
    ]


def test_names_are_known_even_where_their_values_could_not_be_read() -> None:
    reading = Reading(file="f")
    reading.marks = {(): (1, 1), ("hosts",): (1, 1), ("hosts", "rig1"): (1, 2), ("hosts", "rig1", "x"): (1, 3)}
    assert reading.names("hosts") == ["rig1"]


def test_its_repr_is_a_line_that_one_can_read() -> None:
    assert repr(Reading(file="f")) == "Reading(f: 0 values, 0 problems)"
