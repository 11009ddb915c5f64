"""SQL expressions of a contract: over the landed columns of one row, without subqueries and without side effects."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

Node = dict[str, Any]  # of DuckDB's syntax tree, as JSON

_CLASSES = {"BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION"}
_CLASSES |= {"LAMBDA", "OPERATOR"}
_SAME_FOR_EVER = "function_type IN ('scalar', 'macro') AND coalesce(stability, 'CONSISTENT') = 'CONSISTENT'"
_OF_THE_SESSION = {"current_setting", "getvariable"}


def require_expression(sql: str) -> str:
    """The expression.

    Raises:
        ValueError: it is no expression over one row, or its value depends on more than the row.
    """
    for node in nodes_of(parse_expression(sql)):
        if node["class"] not in _CLASSES:
            raise ValueError(f"{node['class'].lower()} is not allowed: an expression is over the columns of one row")
        name = node.get("function_name", "")
        if name and (name in _OF_THE_SESSION or name not in _functions()):
            raise ValueError(f"{name} is not allowed: the same row must always give the same value")
    return sql


def names_in(sql: str) -> list[str]:
    """The landed columns that an expression names, such as `price`, `item_context.price` or `imp[0].tagid`."""
    return list(dict.fromkeys(name for _, name in columns_of(parse_expression(sql))))


def columns_of(tree: Node) -> Iterator[tuple[Node, str]]:
    """Each node that stands for a landed column, with the name of that; the arguments of lambdas do not."""
    own = {name for node in nodes_of(tree) if node["class"] == "LAMBDA" for name in _parameters(node)}
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        name = _path(node)
        if name is None:
            waiting += reversed(list(children_of(node)))
        elif name.split(".")[0].split("[")[0] not in own:
            yield node, name


def nodes_of(tree: Node) -> Iterator[Node]:
    """Each node of a tree."""
    yield tree
    for child in children_of(tree):
        yield from nodes_of(child)


@cache
def _parsed(sql: str) -> str:
    import duckdb  # noqa: PLC0415  (decisions read contracts and need no DuckDB)

    with duckdb.connect() as connection:
        row = connection.execute("SELECT json_serialize_sql($1::VARCHAR)", [f"SELECT (\n{sql}\n)"]).fetchone()
    assert row is not None  # a function returns a row
    return str(row[0])


def parse_expression(sql: str) -> Node:
    """DuckDB's syntax tree of an expression; the caller may change it.

    Raises:
        ValueError: it is not an expression.
    """
    parsed = json.loads(_parsed(sql))
    if parsed["error"]:
        raise ValueError(
            f'not an SQL expression: {parsed["error_message"]}; a column whose name is a word of SQL needs quotes: "at"'
        )
    if len(parsed["statements"]) != 1 or len(parsed["statements"][0]["node"]["select_list"]) != 1:
        raise ValueError("give one SQL expression")
    tree: Node = parsed["statements"][0]["node"]["select_list"][0]
    return tree


@cache
def binding_error(sql: str, types: tuple[tuple[str, str], ...]) -> str | None:
    """Why an expression does not fit columns of these DuckDB types; None if it does."""
    import duckdb  # noqa: PLC0415

    quoted = ((name.replace('"', '""'), kind) for name, kind in types)
    columns = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in quoted)
    with duckdb.connect() as connection:
        try:
            connection.execute(f"DESCRIBE SELECT ({sql}) FROM (SELECT {columns})")
        except duckdb.Error as error:
            return str(error).splitlines()[0]
    return None


@cache
def _functions() -> frozenset[str]:
    import duckdb  # noqa: PLC0415

    with duckdb.connect() as connection:
        rows = connection.execute(f"SELECT function_name FROM duckdb_functions() WHERE {_SAME_FOR_EVER}").fetchall()
    return frozenset(name for (name,) in rows)


def children_of(node: Node) -> Iterator[Node]:
    """The nodes directly below; a value of a constant or a type is none."""
    for key, value in node.items():
        if key not in {"value", "cast_type"}:
            yield from _nodes_in(value)


def _nodes_in(value: Any) -> Iterator[Node]:
    if isinstance(value, dict) and "class" in value:
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _nodes_in(each)


def _parameters(node: Node) -> list[str]:
    return [each["column_names"][0] for each in nodes_of(node["lhs"]) if each["class"] == "COLUMN_REF"]


def _path(node: Node) -> str | None:
    """A column's name, or its path into JSON, as `from` spells it; None for any other node."""
    if node["class"] == "COLUMN_REF":
        return ".".join(node["column_names"])
    if node["type"] not in {"STRUCT_EXTRACT", "ARRAY_EXTRACT"}:
        return None
    inner, key = node["children"]
    root = _path(inner)
    if root is None or key["class"] != "CONSTANT":
        return None
    value = key["value"]["value"]
    return f"{root}[{value}]" if node["type"] == "ARRAY_EXTRACT" else f"{root}.{value}"
