import itertools

from serving.turns import SPARE_LINES, Turns


def served(turns: Turns[str], costs: dict[str, float]) -> str:
    """Serve all that waits, and return it in order."""
    order = ""
    while (first := turns.first()) is not None:
        client, work = first
        turns.remove(client, work)
        turns.serve(client, costs[client])
        order += work
    return order


def filled(**lines: str) -> Turns[str]:
    turns: Turns[str] = Turns()
    for client, works in lines.items():
        for work in works:
            turns.add(client, work)
    return turns


def test_lines_take_turns_and_the_oldest_goes_first() -> None:
    assert served(filled(a="123", b="45"), {"a": 1, "b": 1}) == "14253"


def test_turns_that_cost_more_come_less_often() -> None:
    assert served(filled(a="1234", b="567"), {"a": 1, "b": 2}) == "1523647"


def test_of_clients_that_are_alike_none_goes_twice_before_another() -> None:
    turns = filled(a="1", b="2", c="3")
    noise = itertools.cycle((1.0, 1.3, 0.8, 1.2))
    order = ""
    for _ in range(60):
        first = turns.first()
        assert first is not None
        client, work = first
        turns.remove(client, work)
        turns.serve(client, next(noise))
        turns.add(client, work)
        order += client
    assert order == "abc" * 20


def test_nobody_saves_turns_up() -> None:
    turns = filled(a="1234")
    assert served(turns, {"a": 1}) == "1234"
    for work in "56":
        turns.add("a", work)
    for work in "789":
        turns.add("b", work)
    assert served(turns, {"a": 1, "b": 1}) == "75869"


def test_what_is_taken_out_costs_nothing() -> None:
    turns = filled(a="12", b="34")
    assert turns.remove("a", "1") and not turns.remove("a", "1") and not turns.remove("c", "1")
    assert len(turns) == 3 and sorted(turns) == ["2", "3", "4"]
    assert served(turns, {"a": 1, "b": 1}) == "234"


def test_clients_that_have_left_are_forgotten() -> None:
    turns: Turns[str] = Turns()
    for number in range(20 * SPARE_LINES):
        client = str(number)
        turns.add(client, "x")
        assert turns.first() == (client, "x")
        turns.remove(client, "x")
        turns.serve(client, 1e-3)
    assert len(turns._lines) <= 2 * SPARE_LINES + 2
