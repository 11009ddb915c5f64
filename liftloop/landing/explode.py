"""Rows with a list of elements as one row for each element."""

import duckdb

from liftloop.contract.files import Explode, FileFormat
from liftloop.landing.readers import drop_rejects, require_size_limit
from liftloop.landing.rejection import FileRejectedError
from liftloop.landing.values import list_elements
from liftloop.storage.duckdb import quoted


def explode_view(
    connection: duckdb.DuckDBPyConnection, view: str, records: str, explode: Explode, kind: FileFormat, limit: int
) -> int:
    """Create a view of the elements in a view of records; returns by how much it is longer.

    A record without elements stays a row, with null for the element. `landed number` is the number of the record.

    Args:
        kind: the format of the file.
        limit: the most bytes of all rows; each repeats the other columns of its record.

    Raises:
        FileRejectedError: the column is missing, the file has one with the name of `position`, or exceeds the limit.
    """
    kinds = {row[0]: row[1] for row in connection.execute(f"DESCRIBE {quoted(records)}").fetchall()}
    if explode.column not in kinds:
        raise FileRejectedError(f"landing.explode.column {explode.column!r} is missing; the file has {sorted(kinds)}")
    if explode.position in kinds:
        raise FileRejectedError(f"the file has a column {explode.position!r}: set landing.explode.position")
    column = quoted(explode.column)
    elements = list_elements(column, kinds[explode.column], explode.separator)
    listed = f"CASE WHEN len({elements}) > 0 THEN {elements} ELSE [NULL] END"
    record = "json_line" if kind == "jsonl" else '"landed record"::VARCHAR'
    sums = f"coalesce(sum(len({listed}) - 1), 0), coalesce(sum(len({listed}) * strlen({record})), 0)"
    longer, size_bytes = connection.execute(f'SELECT {sums} FROM {quoted(records)} AS "landed record"').fetchall()[0]
    drop_rejects(connection)
    require_size_limit(size_bytes, limit)
    connection.execute(f"""
        CREATE OR REPLACE TEMP VIEW {quoted(view)} AS
        SELECT * EXCLUDE ("landed elements") REPLACE (unnest("landed elements") AS {column}),
            generate_subscripts("landed elements", 1) AS {quoted(explode.position)}
        FROM (SELECT *, row_number() OVER () AS "landed number", {listed} AS "landed elements" FROM {quoted(records)})
    """)
    return int(longer)
