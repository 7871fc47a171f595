"""The ledger: one champion whoever races, whatever is killed."""

import threading

import mlflow
import pytest

from training.promotion.ledger import PROMOTE, ROLLBACK, Ledger, Superseded
from training.promotion.registry import all_versions, ensure_registered
from training.tracking import follow_uri


@pytest.fixture
def client(database):
    follow_uri(database)
    return mlflow.MlflowClient(database, database)


@pytest.fixture
def name(client, request):
    """A registered model of eight versions, of this test alone."""
    name = request.node.name[:80]
    ensure_registered(client, name)
    for number in range(8):
        client.create_model_version(name, source=f"file:///nowhere/{number}")
    return name


def champions(client, name):
    return [str(client.get_model_version_by_alias(name, alias).version) for alias in ("champion", "previous")]


def test_each_entry_follows_the_one_before_and_the_aliases_follow_the_last(client, name):
    ledger = Ledger(client, name)
    assert ledger.head() is None
    first = ledger.append(PROMOTE, "1", expected=None, by="ann", why="the first")
    second = ledger.append(PROMOTE, "2", expected=first, by="bob", why="better")
    assert (second.previous, second.expected, second.by, second.why) == ("1", 1, "bob", "better")
    assert champions(client, name) == ["2", "1"]
    ledger.append(ROLLBACK, "1", expected=second, by="ann", why="worse at night")
    assert champions(client, name) == ["1", "2"]
    assert [(entry.action, entry.version, entry.valid) for entry in ledger.entries()] == [
        ("promote", "1", True),
        ("promote", "2", True),
        ("rollback", "1", True),
    ]


def test_who_comes_too_late_is_told_who_was_first_and_changes_nothing(client, name):
    ledger = Ledger(client, name)
    head = ledger.append(PROMOTE, "1", expected=None, by="ann", why="the first")
    ledger.append(PROMOTE, "2", expected=head, by="bob", why="better")
    with pytest.raises(Superseded, match=r"version 3: not made champion, since version 2 was first .* by bob: better"):
        ledger.append(PROMOTE, "3", expected=head, by="ann", why="better, too")
    assert champions(client, name) == ["2", "1"]
    assert [entry.valid for entry in ledger.entries()] == [True, True, False]
    ledger.append(PROMOTE, "4", expected=ledger.head(), by="ann", why="best")  # the void entry is in nobody's way
    assert champions(client, name) == ["4", "2"]


def test_of_many_who_decided_on_the_same_champion_one_is_promoted(client, name):
    head = Ledger(client, name).append(PROMOTE, "1", expected=None, by="ann", why="the first")
    won, lost = [], []

    def promote(version):
        try:
            won.append(Ledger(client, name).append(PROMOTE, version, expected=head, by=version, why="race").version)
        except Superseded:
            lost.append(version)

    threads = [threading.Thread(target=promote, args=(str(number),)) for number in range(2, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(lost) == 5
    assert champions(client, name) == [won[0], "1"]
    assert [entry.valid for entry in Ledger(client, name).entries()] == [True, True, *[False] * 5]


def test_aliases_that_a_killed_promotion_left_behind_are_mended(client, name):
    ledger = Ledger(client, name)
    head = ledger.append(PROMOTE, "1", expected=None, by="ann", why="the first")
    ledger.append(PROMOTE, "2", expected=head, by="ann", why="better")
    client.set_registered_model_alias(name, "champion", "1")  # as if killed before the aliases were set
    client.delete_registered_model_alias(name, "previous")
    Ledger(client, name).repair()
    assert champions(client, name) == ["2", "1"]


def test_entries_are_read_past_a_page(client, name, monkeypatch):
    pages = []
    search = client.search_model_versions

    def small(*args, max_results, **others):
        pages.append(1)
        return search(*args, max_results=3, **others)

    monkeypatch.setattr(client, "search_model_versions", small)
    assert len(all_versions(client, name)) == 8 and len(pages) == 3
