"""The row counts of one landed file, and whether it is held."""

from datetime import datetime

from liftloop.contract.suite import is_row_level, on_failure
from liftloop.lake.ledger import Entry
from liftloop.landing.batch import Batch
from liftloop.storage.duckdb import literal, quoted

_FEWEST_DUPLICATES = 10  # fewer hold no file, whatever their share


def counted(batch: Batch, entry: Entry) -> Entry:
    """The entry of a file that was read, with its row counts; its status is `held` if too many rows are bad."""
    if entry.status == "rejected":
        return entry
    reasons = dict(
        batch.connection.execute(
            """
            SELECT reason, count(*) FROM (
                SELECT unnest(reasons) AS reason FROM impressions WHERE object_id = $1
                UNION ALL SELECT reason FROM unread WHERE object_id = $1
            ) GROUP BY reason ORDER BY reason
            """,
            [entry.object_id],
        ).fetchall()
    )
    good, bad = row_counts(batch, entry.object_id)
    landed = good + bad + entry.rows_left_out + entry.rows_erased
    if landed == 0 and not batch.contract.is_of_outcomes:  # a day may be without clicks
        return entry.model_copy(update={"status": "rejected", "error": "the file has a header and no rows"})
    counts = {"rows_landed": landed, "rows_valid": good, "rows_quarantined": bad, "reasons": reasons}
    if error := _why_held(batch, entry.object_id, reasons, good, bad):
        counts |= {"status": "held", "error": error, "rows_valid": 0, "rows_quarantined": good + bad}
    return entry.model_copy(update=counts)


def _why_held(batch: Batch, object_id: str, reasons: dict[str, int], good: int, bad: int) -> str | None:
    """Why a file is held: too many of its rows are bad, or a rule is broken that holds files; None if it is not."""
    holding = [rule.reason for rule in batch.rules if rule.holds_file and rule.reason in reasons]
    by_row = f"{'; '.join(holding)}: this rule holds the whole file" if holding else None
    return _too_many(batch, object_id, good, bad) or by_row or _broken_by_file(batch, object_id)


def _broken_by_file(batch: Batch, object_id: str) -> str | None:
    """The expectations about a whole file that its good rows do not meet."""
    wanted = [
        each for each in batch.suite["expectations"] if not is_row_level(each) and on_failure(each) == "hold_file"
    ]
    if not wanted:
        return None
    from liftloop.landing.validation import validate  # noqa: PLC0415  (Great Expectations: seconds to import)

    good = f"FROM impressions WHERE object_id = {literal(object_id)} AND len(reasons) = 0"
    batch.connection.execute(f"CREATE OR REPLACE VIEW good_rows AS SELECT * EXCLUDE (object_id, reasons, raw) {good}")
    findings = validate(batch.connection, "good_rows", batch.suite | {"expectations": wanted})
    broken = [finding.expectation for finding in findings if not finding.is_met]
    return f"it does not meet: {'; '.join(broken)}" if broken else None


def _too_many(batch: Batch, object_id: str, good: int, bad: int) -> str | None:
    """Why a file is held: too many of its rows are bad, or repeat a key, which hides damaged ids."""
    share, limit = bad / max(good + bad, 1), batch.contract.quarantine_share_limit
    if share > limit:
        return f"{share:.1%} of its rows are bad, more than the contract's quarantine_share_limit of {limit:.1%}"
    names = batch.contract.deduplicate_by
    if not names:  # outcomes may land again
        return None
    keys = ", ".join(map(quoted, names))
    distinct = f"SELECT count(DISTINCT row({keys})) FROM impressions WHERE object_id = $1 AND len(reasons) = 0"
    row = batch.connection.execute(distinct, [object_id]).fetchone()
    repeated = good - (row[0] if row else 0)
    share, limit = repeated / max(good, 1), batch.contract.duplicate_share_limit
    if share > limit and repeated >= _FEWEST_DUPLICATES:
        return (
            f"{repeated} of its {good} rows repeat the {', '.join(names)} of an earlier row, more than the contract's"
            f" duplicate_share_limit of {limit:.1%}"
        )
    return None


def newest_event(batch: Batch, object_id: str) -> datetime | None:
    """Of its good rows; of outcomes, when the newest became known. None: no row has such a time."""
    name = "outcome_timestamp" if batch.contract.is_of_outcomes else "event_timestamp"
    query = f"SELECT max({name}) FROM impressions WHERE object_id = $1 AND len(reasons) = 0"
    row = batch.connection.execute(query, [object_id]).fetchone()
    return row[0] if row else None


def row_counts(batch: Batch, object_id: str) -> tuple[int, int]:
    row = batch.connection.execute(
        """
        SELECT count(*) FILTER (len(reasons) = 0),
            count(*) FILTER (len(reasons) > 0) + (SELECT count(*) FROM unread WHERE object_id = $1)
        FROM impressions WHERE object_id = $1
        """,
        [object_id],
    ).fetchone()
    assert row is not None  # an aggregate always returns a row
    return row[0], row[1]
