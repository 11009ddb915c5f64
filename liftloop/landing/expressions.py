"""A contract's SQL expressions over the landed columns of a file."""

import json
from dataclasses import replace

import duckdb

from liftloop.contract.expressions import Node, children_of, columns_of, nodes_of, parse_expression
from liftloop.landing.values import Landed

_ARITHMETIC = {"+", "-", "*", "/", "//", "%", "**", "^"}
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")
_COMPARISONS = {"COMPARISON", "BETWEEN"}
_CHOICES = {"COMPARE_IN", "COMPARE_NOT_IN", "OPERATOR_COALESCE", "nullif", "ifnull", "greatest", "least"}


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
    children = _of_one_type(node)
    texts = [each for each in children if id(each) in columns and columns[id(each)].kind in {"VARCHAR", "JSON"}]
    others = [_is_number(each, columns) for each in children if each not in texts]
    return texts if (all(others) if _is_arithmetic(node) else any(others)) else []


def _of_one_type(node: Node) -> list[Node]:
    """The children that DuckDB casts to a common type."""
    if node["class"] == "CASE":
        return [*(check["then_expr"] for check in node["case_checks"]), node["else_expr"]]
    is_choice = node["type"] in _CHOICES or node.get("function_name") in _CHOICES
    return [*children_of(node)] if is_choice or node["class"] in _COMPARISONS or _is_arithmetic(node) else []


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
