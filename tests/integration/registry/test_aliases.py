"""Challengers on a real object store: named by the flow, and against each other at once."""

from collections.abc import Callable
from functools import partial

import pytest
from lib.model_versions import crown_in_turn, put_judged, put_version
from lib.steps import with_step

from liftloop.gate.verdict import read_verdict
from liftloop.registry.aliases import aliases
from liftloop.registry.challenger import Challenge, challenge, challenger
from liftloop.registry.promotion import PromotionConflict
from liftloop.registry.registry import Registry
from liftloop.registry.versions import Pointer
from liftloop.storage.store import Store
from tasks.registry import challenge as challenge_of_flow


@pytest.fixture
def crown(store: Store, source: str) -> Callable[..., Pointer]:
    return partial(crown_in_turn, store, source)


def test_the_train_flow_names_a_challenger_where_the_hold_out_cannot_tell(
    store: Store, source: str, crown: Callable[..., Pointer], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in store.settings.as_environment().items():
        monkeypatch.setenv(name, value)
    crown("a")
    verdict = read_verdict(store, put_judged(store, source, "b", "inconclusive"))
    assert verdict is not None
    _, step = with_step(challenge_of_flow.fn, verdict, Registry(store, source).champion())
    assert step.name == "challenge"
    assert aliases(Registry(store, source)) == {"champion": "a", "challenger": "b"}
    made = challenger(Registry(store, source))
    assert made is not None
    assert made.reason == verdict.summary


class IsOvertaken(Store):
    """Between our reading of the challenger and our writing another one is named."""

    def swap(self, key: str, body: bytes, *, expected_etag: str | None) -> str:
        Store(self.settings).put(key, body.replace(b'"mine"', b'"theirs"'))
        return super().swap(key, body, expected_etag=expected_etag)


class LosesAnswers(Store):
    """The conditional write arrives, its answer does not, and it is sent again: so it meets its own object."""

    def swap(self, key: str, body: bytes, *, expected_etag: str | None) -> str:
        super().swap(key, body, expected_etag=expected_etag)
        return super().swap(key, body, expected_etag=expected_etag)


def test_of_two_challengers_at_once_one_wins(store: Store, source: str, crown: Callable[..., Pointer]) -> None:
    crown("a")
    put_version(store, source, "mine")
    put_version(store, source, "theirs")
    with pytest.raises(PromotionConflict, match="mine did not become challenger"):
        challenge(Registry(IsOvertaken(store.settings), source), "mine", "to be tried")
    assert aliases(Registry(store, source))["challenger"] == "theirs"
    won: Challenge = challenge(Registry(LosesAnswers(store.settings), source), "mine", "to be tried")
    assert challenger(Registry(store, source)) == won
