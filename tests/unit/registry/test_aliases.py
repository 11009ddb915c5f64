"""Champion, challenger and previous, and what a person may do to them."""

from collections.abc import Callable
from functools import partial

import pytest
from lib.memory_store import MemoryStore
from lib.model_versions import crown_in_turn, put_judged, put_version
from lib.steps import with_step

from liftloop.gate.override import challenge_by_hand, gate_words, promote_by_hand
from liftloop.gate.verdict import CheckVerdict, read_verdict
from liftloop.registry.aliases import aliases, find_version
from liftloop.registry.challenger import Challenge, challenge, challenger
from liftloop.registry.promotion import read_audit
from liftloop.registry.registry import Registry
from liftloop.registry.rollback import rollback
from liftloop.registry.versions import Pointer, RegistryError
from liftloop.storage.keys import challenger_key
from liftloop.storage.store import Store


@pytest.fixture
def store() -> Store:
    return MemoryStore()


@pytest.fixture
def crown(store: Store, source: str) -> Callable[..., Pointer]:
    return partial(crown_in_turn, store, source)


def test_each_alias_names_a_version_as_soon_as_there_is_one(
    store: Store, source: str, crown: Callable[..., Pointer]
) -> None:
    assert aliases(Registry(store, source)) == {}
    first = Registry(store, source).version(crown("a").version)
    assert aliases(Registry(store, source)) == {"champion": "a"}
    second = Registry(store, source).version(crown("b").version)
    third = put_version(store, source, "c")
    challenge(Registry(store, source), "c", "to be tried")
    assert aliases(Registry(store, source)) == {"champion": "b", "previous": "a", "challenger": "c"}
    found = [find_version(Registry(store, source), name) for name in ("champion", "previous", "challenger", "a")]
    assert found == [second, first, third, first]


def test_previous_is_what_a_rollback_restores(store: Store, source: str, crown: Callable[..., Pointer]) -> None:
    for name in ("a", "b", "c", "d"):
        crown(name)
    for _ in range(3):
        expected = aliases(Registry(store, source))["previous"]
        assert rollback(Registry(store, source), "clicks fell", to="previous").version == expected
    assert "previous" not in aliases(Registry(store, source))


def test_an_alias_that_names_nothing_is_said_so(store: Store, source: str) -> None:
    with pytest.raises(RegistryError, match=f"{source} has no challenger now"):
        find_version(Registry(store, source), "challenger")


def test_a_challenge_ends_when_the_champion_moves(store: Store, source: str, crown: Callable[..., Pointer]) -> None:
    crown("a")
    put_version(store, source, "b")
    made = challenge(Registry(store, source), "b", "to be tried")
    assert challenger(Registry(store, source)) == made
    crown("c")
    assert challenger(Registry(store, source)) is None
    rollback(Registry(store, source), "clicks fell")  # a is champion again, but b is not its challenger again
    assert challenger(Registry(store, source)) is None
    assert challenge(Registry(store, source), "b", "again").champion_move == 3


def test_the_newest_challenger_takes_the_place_of_the_one_before(
    store: Store, source: str, crown: Callable[..., Pointer]
) -> None:
    crown("a")
    for name in ("b", "c"):
        put_version(store, source, name)
        made = challenge(Registry(store, source), name, f"{name} may be better", "run 1")
    assert challenger(Registry(store, source)) == made
    again, step = with_step(challenge, Registry(store, source), "c", "said twice", "run 2")
    assert again == made
    assert [ref.key for ref in step.outputs] == [challenger_key(source)]
    assert step.metrics["reason"] == "c may be better"


def test_who_may_not_challenge(store: Store, source: str, crown: Callable[..., Pointer]) -> None:
    put_version(store, source, "b")
    with pytest.raises(RegistryError, match="no champion to challenge"):
        challenge(Registry(store, source), "b", "to be tried")
    damaged = Registry(store, source).version(crown("a").version)
    with pytest.raises(RegistryError, match=r"a of .* is the champion"):
        challenge(Registry(store, source), damaged.version, "to be tried")
    store.delete([find_version(Registry(store, source), "b").spec.key])
    with pytest.raises(RegistryError, match="b cannot be loaded"):
        challenge(Registry(store, source), "b", "to be tried")
    assert challenger(Registry(store, source)) is None


@pytest.mark.parametrize("found", ["pass", "inconclusive"])
def test_a_person_promotes_what_the_gate_has_nothing_against(
    store: Store, source: str, crown: Callable[..., Pointer], found: CheckVerdict
) -> None:
    crown("a")
    pointer = promote_by_hand(store, put_judged(store, source, "b", found), "the campaign starts today", "run 1")
    assert pointer == Registry(store, source).champion()
    assert (pointer.version, pointer.previous, pointer.overrides) == ("b", "a", None)
    assert read_audit(Registry(store, source))[-1].pointer.reason == "the campaign starts today"


@pytest.mark.parametrize("name_it", [promote_by_hand, challenge_by_hand])
@pytest.mark.parametrize(
    ("found", "words", "kept"),
    [
        (
            "fail",
            "the gate refused it .*accuracy: It is as it is",
            "refuse: accuracy: It is as it is. (compared with a)",
        ),
        (None, "the gate has not judged it", "not judged"),
    ],
)
def test_what_the_gate_refused_needs_a_word_more_and_that_stays_on_record(
    store: Store,
    source: str,
    crown: Callable[..., Pointer],
    name_it: Callable[..., Pointer | Challenge],
    found: CheckVerdict | None,
    words: str,
    kept: str,
) -> None:
    crown("a")
    version = put_judged(store, source, "b", found) if found else put_version(store, source, "b")
    with pytest.raises(RegistryError, match=rf"{words}.*--override-gate"):
        name_it(store, version, "I know better", "run 1")
    assert aliases(Registry(store, source)) == {"champion": "a"}
    made = name_it(store, version, "I know better", "run 1", override_gate=True)
    assert made.overrides == kept
    if name_it is promote_by_hand:
        assert read_audit(Registry(store, source))[-1].pointer.overrides == kept


def test_a_promotion_by_hand_needs_a_reason_and_another_version(
    store: Store, source: str, crown: Callable[..., Pointer]
) -> None:
    crown("a")
    with pytest.raises(RegistryError, match="a promotion needs a reason"):
        promote_by_hand(store, put_judged(store, source, "b", "pass"), " ", "run 1")
    with pytest.raises(RegistryError, match=r"a is the champion of .* already"):
        promote_by_hand(store, put_judged(store, source, "a", "pass"), "once more", "run 1")
    assert len(read_audit(Registry(store, source))) == 1


def test_a_verdict_that_cannot_be_read_counts_as_none(store: Store, source: str) -> None:
    version = put_judged(store, source, "b", "pass")
    assert gate_words(read_verdict(store, version)).startswith("promote: 1 checks passed")
    assert version.evidence is not None
    store.put(version.evidence.key, b"{}")
    assert read_verdict(store, version) is None
    assert gate_words(read_verdict(store, version)) == "not judged"
