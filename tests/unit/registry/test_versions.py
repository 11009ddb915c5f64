"""What the registry's records hold."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from liftloop.registry.versions import ModelVersion, Pointer
from liftloop.storage.store import ObjectRef

POINTER = Pointer(number=3, version="b" * 12, since=datetime.now(UTC), reason="better", previous="a" * 12, etag="e")
VERSION = ModelVersion(
    version="a" * 12,
    source="simulated",
    reward="click",
    feature_service="simulated_click_v1",
    training_fingerprint="f",
    frame_fingerprint="g",
    frame=(ObjectRef("features/x.parquet", "0" * 64, 7),),
    booster=ObjectRef("blobs/b", "1" * 64, 8),
    spec=ObjectRef("blobs/s", "2" * 64, 9),
    trained_until=datetime.now(UTC),
    metrics={"rounds": 3, "trials": [{"log_loss": 0.1}]},
    created_at=datetime.now(UTC),
    code_revision="abc",
)


def test_a_version_survives_as_json() -> None:
    again = ModelVersion.model_validate_json(VERSION.model_dump_json())
    assert again == VERSION
    assert again.blobs == (VERSION.booster, VERSION.spec)


def test_a_pointer_is_stored_without_the_etag_it_was_read_with() -> None:
    again = Pointer.model_validate_json(POINTER.model_dump_json())
    assert again.etag is None
    assert again == POINTER.model_copy(update={"etag": None})


@pytest.mark.parametrize("record", [VERSION, POINTER])
def test_unknown_keys_are_refused(record: ModelVersion | Pointer) -> None:
    with pytest.raises(ValidationError, match="extra"):
        type(record).model_validate(record.model_dump() | {"comment": "x"})
