from router.translate.order import TABLE, Do, Kind, State

OPEN_BLOCKS = (State.EMPTY, State.THINKING, State.TEXT, State.TOOL)


def test_every_state_says_something_about_every_kind() -> None:
    assert set(State) == set(TABLE)
    assert {len(Kind)} == {len(row) for row in TABLE.values()}


def test_nothing_but_a_finish_leads_to_an_end() -> None:
    for state in OPEN_BLOCKS:
        assert (Do.FAIL, Do.FAIL, Do.FINISH) == (
            TABLE[state][Kind.DONE], TABLE[state][Kind.END], TABLE[state][Kind.FINISH],
        )  # fmt: skip
    assert [State.CLOSING] == [state for state in State if Do.SAY_END in TABLE[state]]


def test_after_the_finish_no_content_is_taken() -> None:
    for kind in (Kind.REASONING, Kind.TEXT, Kind.TOOL_FIRST, Kind.TOOL_MORE):
        assert Do.FAIL is TABLE[State.CLOSING][kind]
        assert Do.IGNORE is TABLE[State.ENDED][kind]


def test_counts_are_kept_in_every_state_before_the_end() -> None:
    assert {Do.KEEP} == {TABLE[state][Kind.FACTS] for state in State if state is not State.ENDED}
