"""The category encoder: what it knows, what it takes for missing, and that it survives as JSON."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from liftloop.model.encoder import KNOWN_OCCURRENCES, KNOWN_VALUES, MINIMUM_OCCURRENCES, Encoder, Lookup

ENOUGH = MINIMUM_OCCURRENCES
ENCODER = Encoder.fit(
    {"device": {"phone": ENOUGH, "desk": 3 * ENOUGH, "fridge": ENOUGH - 1, "car": 1}, "ad_id": {"a1": ENOUGH}},
    ["hour", "bid"],
)
ROWS = pd.DataFrame(
    {
        "hour": [3, 4, 5, 6],
        "bid": [0.5, None, np.inf, -1e300],
        "device": ["phone", "desk", "fridge", None],
        "ad_id": ["a1", "a2", "a1", ""],
        "user_id": ["u1", "u2", "u3", "u4"],
    }
)
NAN = np.nan


def test_categories_become_codes_and_the_rest_numbers() -> None:
    encoded = ENCODER.encode(ROWS)
    assert list(encoded) == ENCODER.columns == ENCODER.raw_columns == ["ad_id", "device", "hour", "bid"]
    assert ENCODER.feature_types == ["c", "c", "q", "q"]
    assert (encoded.dtypes == np.float32).all()
    expected = [[0, 1, 3, 0.5], [NAN, 0, 4, NAN], [0, NAN, 5, NAN], [NAN, NAN, 6, NAN]]
    np.testing.assert_array_equal(encoded.to_numpy(), np.array(expected, dtype=np.float32))


def test_rare_categories_are_known_to_lookups_alone() -> None:
    assert ENCODER.categories["device"] == ("desk", "phone", "fridge")
    assert ENCODER.categorical == {"ad_id": 1, "device": 2}
    np.testing.assert_array_equal(ENCODER.to_codes(ROWS)[:, 1], np.array([1, 0, 2, NAN], dtype=np.float32))


LOOKUPS = {
    "rate(device)": Lookup(columns=("device",), codes=(0, 1, 2), values=(0.1, 0.2, 0.3)),
    "rate(ad_id, device)": Lookup(columns=("ad_id", "device"), codes=(1, KNOWN_VALUES), values=(0.5, 0.6)),
}
WITH_LOOKUPS = ENCODER.model_copy(update={"lookups": LOOKUPS})


def test_lookups_follow_the_codes_of_one_column_or_two() -> None:
    encoded = WITH_LOOKUPS.encode(ROWS)
    assert list(encoded) == WITH_LOOKUPS.columns == [*ENCODER.columns, *LOOKUPS]
    np.testing.assert_array_equal(encoded["rate(device)"], np.array([0.2, 0.1, 0.3, NAN], dtype=np.float32))
    np.testing.assert_array_equal(encoded["rate(ad_id, device)"], np.array([0.5, NAN, NAN, NAN], dtype=np.float32))


def test_of_some_columns_only_the_presence_counts() -> None:
    encoder = Encoder.fit({"ad_id": {"a1": ENOUGH}}, ["hour"], ["device"])
    assert encoder.columns == ["ad_id", "hour", "known(device)"]
    assert encoder.feature_types == ["c", "q", "q"]
    assert encoder.sources["known(device)"] == ("device",)
    np.testing.assert_array_equal(encoder.encode(ROWS)["known(device)"], [1, 1, 1, 0])
    assert encoder.select(["known(device)"]).raw_columns == ["device"]
    assert encoder.select(["hour"]).raw_columns == ["hour"]


def test_a_selection_reads_no_more_than_it_needs_and_encodes_alike() -> None:
    chosen = WITH_LOOKUPS.select(["rate(ad_id, device)", "hour", "ad_id"])
    assert chosen.raw_columns == ["ad_id", "device", "hour"]
    assert chosen.columns == ["ad_id", "hour", "rate(ad_id, device)"]
    assert chosen.feature_types == ["c", "q", "q"]
    assert chosen.sources["rate(ad_id, device)"] == ("ad_id", "device")
    whole = WITH_LOOKUPS.encode(ROWS)
    pd.testing.assert_frame_equal(chosen.encode(ROWS.drop(columns="bid")), whole[chosen.columns])


def test_rows_keep_their_index_and_may_come_in_any_type_and_order() -> None:
    rows = ROWS.iloc[::-1].astype({"device": "category", "ad_id": "string", "hour": "Int64"})[sorted(ROWS.columns)]
    pd.testing.assert_frame_equal(ENCODER.encode(rows), ENCODER.encode(ROWS).iloc[::-1])


def test_rows_as_they_come_from_json() -> None:
    """A request has None where the lake has NaN, and so columns of objects."""
    pd.testing.assert_frame_equal(ENCODER.encode(ROWS.astype(object).replace({np.nan: None})), ENCODER.encode(ROWS))


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match=r"columns \['device', 'bid'\] are missing"):
        ENCODER.encode(ROWS.drop(columns=["device", "bid"]))


def test_it_survives_as_json() -> None:
    again = Encoder.model_validate_json(WITH_LOOKUPS.model_dump_json())
    assert again == WITH_LOOKUPS
    pd.testing.assert_frame_equal(again.encode(ROWS), WITH_LOOKUPS.encode(ROWS))


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="extra"):
        Encoder.model_validate({"categories": {}, "numbers": [], "drop": True})


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 2 * ENOUGH), max_size=8), st.lists(st.text(max_size=3)))
def test_a_code_stands_for_one_category(counts: dict[str, int], values: list[str]) -> None:
    encoder = Encoder.fit({"ad_id": counts}, [])
    rows = pd.DataFrame({"ad_id": values}, dtype=object)
    for codes, needed in ((encoder.to_codes(rows)[:, 0], KNOWN_OCCURRENCES), (encoder.encode(rows)["ad_id"], ENOUGH)):
        decoded = [None if np.isnan(code) else encoder.categories["ad_id"][int(code)] for code in codes]
        assert decoded == [value if counts.get(value, 0) >= needed else None for value in values]
