"""Rows with a list of elements as one row for each element."""

import duckdb

from liftloop.contract.files import Explode
from liftloop.landing.readers import drop_rejects
from liftloop.landing.rejection import FileRejectedError
from liftloop.storage.duckdb import literal, quoted


def explode_view(connection: duckdb.DuckDBPyConnection, view: str, records: str, explode: Explode) -> int:
    """Create a view of the elements in a view of records; returns by how much it is longer.

    A record without elements stays a row, with null for the element. `landed_number` is the number of the record.

    Raises:
        FileRejectedError: the column is missing, or the file has one with the name of `position`.
    """
    kinds = {row[0]: row[1] for row in connection.execute(f"DESCRIBE {quoted(records)}").fetchall()}
    if explode.column not in kinds:
        raise FileRejectedError(f"landing.explode.column {explode.column!r} is missing; the file has {sorted(kinds)}")
    if explode.position in kinds:
        raise FileRejectedError(f"the file has a column {explode.position!r}: set landing.explode.position")
    column = quoted(explode.column)
    elements = _elements(column, kinds[explode.column], explode.separator)
    listed = f"CASE WHEN len({elements}) > 0 THEN {elements} ELSE [NULL] END"
    longer = connection.execute(f"SELECT sum(len({listed}) - 1) FROM {quoted(records)}").fetchone()
    drop_rejects(connection)
    connection.execute(f"""
        CREATE OR REPLACE TEMP VIEW {quoted(view)} AS
        SELECT * EXCLUDE ("landed elements") REPLACE (unnest("landed elements") AS {column}),
            generate_subscripts("landed elements", 1) AS {quoted(explode.position)}
        FROM (SELECT *, row_number() OVER () AS landed_number, {listed} AS "landed elements" FROM {quoted(records)})
    """)
    return int(longer[0] or 0) if longer else 0


def _elements(column: str, kind: str, separator: str | None) -> str:
    """A list in SQL; the elements of JSON are text."""
    if separator is not None:
        return f"list_filter(string_split({column}::VARCHAR, {literal(separator)}), lambda part: part <> '')"
    if kind.endswith("[]"):
        return column
    is_list = f"json_valid({column}) AND json_type({column}::JSON) = 'ARRAY'"
    texts = f"list_transform(from_json({column}, '[\"JSON\"]'), lambda part: part ->> '$')"
    return f"CASE WHEN {is_list} THEN {texts} WHEN {column} IS NOT NULL THEN [{column}] END"
