"""A contract's SQL expressions over the landed columns of a file."""

import json
from dataclasses import replace

import duckdb

from liftloop.contract.expressions import Node, children_of, columns_of, nodes_of, parse_expression
from liftloop.landing.values import Landed

_ARITHMETIC = {"+", "-", "*", "/", "//", "%", "**", "^"}
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")
_COMPARISONS = {"COMPARISON", "BETWEEN"}


def bound(connection: duckdb.DuckDBPyConnection, sql: str, available: dict[str, Landed]) -> str:
    """The expression over landed values.

    Texts that are calculated with, or compared with numbers, are read as numbers.
    """
    tree = parse_expression(sql)
    columns = {id(node): available[name] for node, name in columns_of(tree)}
    for node in nodes_of(tree):
        for child in _texts_read_as_numbers(node, columns):
            landed = columns[id(child)]
            columns[id(child)] = replace(landed, sql=f"({landed.plain_number})::DOUBLE", kind="DOUBLE")
    for node, _ in [*columns_of(tree)]:
        landed = columns[id(node)]
        node.clear()
        node.update(parse_expression(landed.sql))
    return _spelled(connection, tree)


def _texts_read_as_numbers(node: Node, columns: dict[int, Landed]) -> list[Node]:
    children = [*children_of(node)]
    texts = [each for each in children if id(each) in columns and columns[id(each)].kind in {"VARCHAR", "JSON"}]
    others = [_is_number(each, columns) for each in children if each not in texts]
    is_comparison = node["class"] in _COMPARISONS or node["type"] in {"COMPARE_IN", "COMPARE_NOT_IN"}
    if (_is_arithmetic(node) and all(others)) or (is_comparison and any(others)):
        return texts
    return []


def _is_arithmetic(node: Node) -> bool:
    return node["class"] == "FUNCTION" and node["function_name"] in _ARITHMETIC


def _is_number(node: Node, columns: dict[int, Landed]) -> bool:
    if id(node) in columns:
        return columns[id(node)].kind.startswith(_NUMBERS)
    if node["class"] in {"CONSTANT", "CAST"}:
        kind = node["value"]["type"] if node["class"] == "CONSTANT" else node["cast_type"]
        return str(kind["id"]).startswith(_NUMBERS)
    return _is_arithmetic(node) and all(id(each) in columns or _is_number(each, columns) for each in children_of(node))


def _spelled(connection: duckdb.DuckDBPyConnection, tree: Node) -> str:
    """The SQL of a syntax tree."""
    row = connection.execute("SELECT json_serialize_sql('SELECT 1')").fetchone()
    assert row is not None  # a function returns a row
    document = json.loads(row[0])
    document["statements"][0]["node"]["select_list"] = [tree]
    row = connection.execute("SELECT json_deserialize_sql($1::JSON)", [json.dumps(document)]).fetchone()
    assert row is not None
    return f"({str(row[0]).removeprefix('SELECT ')})"
