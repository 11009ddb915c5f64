"""Contracts as files of the project."""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from liftloop.contract.contract import Contract
from liftloop.contract.files import repeated_in
from liftloop.errors import UserError
from liftloop.project import find_project

_TAG = "tag:yaml.org,2002:"
_PLAIN = {  # as YAML 1.2's core schema resolves them; "null" and merges stay as they are
    "bool": ("(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": ("[-+]?(0|[1-9][0-9]*)$", "-+0123456789"),
    "float": (
        r"[-+]?((\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(inf|Inf|INF))$|\.(nan|NaN|NAN)$",
        "-+.0123456789",
    ),
}


class ContractError(UserError):
    """A contract is invalid; the message names file, key, value and what is allowed."""


class _Loader(yaml.SafeLoader):
    """YAML with plain values as in its version 1.2, where `yes`, `007`, `1:30` and dates are text; no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        own = [key for key, _ in node.value if key.tag != f"{_TAG}merge"]
        keys = [self.construct_object(key, deep=True) for key in own]
        lines = {str(key): each.start_mark.line + 1 for key, each in zip(keys, own, strict=True)}
        if repeated := repeated_in(map(str, keys)):
            raise yaml.YAMLError(f"line {lines[repeated[0]]}: {repeated} appear more than once; remove all but one")
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in {f"{_TAG}null", f"{_TAG}merge"}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(_pattern), [*_first])


def load_contract(source: str, folder: Path | None = None) -> Contract:
    """The contract of one source, in a folder or in the project.

    Raises:
        ContractError: there is no such contract, or it is invalid.
    """
    folder = folder or find_project().contracts_folder
    path = folder / f"{source}.yaml"
    if not path.is_file():
        raise ContractError(f"source {source!r} is not declared in {folder}/; declared: {declared_sources(folder)}")
    try:
        contract = Contract.model_validate(yaml.load(path.read_text(encoding="utf-8"), _Loader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ContractError(f"{path}: not readable as YAML: {error}") from None
    except ValidationError as error:
        raise ContractError("\n".join(_explain(path, problem) for problem in error.errors())) from None
    if contract.source != source:
        raise ContractError(f"{path}: source: {contract.source!r}: must equal the file's name, {source!r}")
    return contract


def load_contracts() -> tuple[list[Contract], dict[str, ContractError]]:
    """The valid contracts of the project, and the errors of the others by source."""
    contracts, errors = list[Contract](), dict[str, ContractError]()
    for source in declared_sources():
        try:
            contracts.append(load_contract(source))
        except ContractError as error:
            errors[source] = error
    return contracts, errors


def declared_sources(folder: Path | None = None) -> list[str]:
    """The names of the sources that have a contract, sorted, in a folder or in the project."""
    return sorted(path.stem for path in (folder or find_project().contracts_folder).glob("*.yaml"))


def _explain(path: Path, problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "contract"
    if problem["type"] == "extra_forbidden":
        return f"{path}: {key}: {problem['input']!r}: unknown key; allowed: {_allowed_beside(problem['loc'])}"
    shown = "" if isinstance(problem["input"], dict) else f" {problem['input']!r}:"
    return f"{path}: {key}:{shown} {problem['msg'].removeprefix('Value error, ')}"


def _allowed_beside(location: tuple[str | int, ...]) -> list[str]:
    model: type[BaseModel] = Contract
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = _model_within(field.annotation) or model
    return sorted(field.alias or name for name, field in model.model_fields.items())


def _model_within(annotation: Any) -> type[BaseModel] | None:
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
