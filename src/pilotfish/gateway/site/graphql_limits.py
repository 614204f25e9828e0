"""What a GraphQL operation would take, known before any of it runs: its depth, its aliases, its cost.

Cost is one for each field and `READ_COST` for each that asks the log or the registry, times the sizes of the pages it
stands in. Fragments count as often as they are used, but each is measured once: to walk it anew at every use, as
Strawberry's own limiters do, takes time that doubles with every link of a chain of fragments. The document has been
validated before, so its fields are known and its fragments have no cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLList,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SchemaMetaFieldDef,
    SelectionNode,
    SelectionSetNode,
    TypeMetaFieldDef,
    TypeNameMetaFieldDef,
    get_argument_values,
    get_named_type,
    get_nullable_type,
    get_operation_ast,
    get_variable_values,
)

MAX_TOKENS = 1000
"""Words and signs of a document. To validate so many takes some 0.1 s at worst; what tools ask a schema by has 163."""

MAX_DEPTH = 8
MAX_ALIASES = 20
MAX_PAGE = 100
MAX_COST = 10_000

PAGE = "first"
"""The argument that says how long a page is."""

READ_COST = 10
READS = frozenset(("request", "requests", "certificates", "spend", "routed"))

_META = {"__schema": SchemaMetaFieldDef, "__type": TypeMetaFieldDef, "__typename": TypeNameMetaFieldDef}
_META_LIST = 5
"""How many entries a list of the schema is taken to have, below the types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a part of an operation takes. What tells of the schema has no depth, which GraphQL itself bounds there."""

    cost: int = 0
    depth: int = 0
    aliases: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(
            cost=self.cost + other.cost,
            depth=max(self.depth, other.depth),
            aliases=self.aliases + other.aliases,
        )


def check(schema: GraphQLSchema, document: DocumentNode, variables: dict[str, Any] | None, name: str | None) -> Taken:
    """What the operation of that name takes. Raises `GraphQLError` where that is too much, with the figure."""
    operation = get_operation_ast(document, name)
    assert operation is not None
    taken = _Walk(schema, document, operation, variables or {}).taken
    for what, found, most in (
        ("depth", taken.depth, MAX_DEPTH),
        ("aliases", taken.aliases, MAX_ALIASES),
        ("cost", taken.cost, MAX_COST),
    ):
        if found > most:
            said = f"This query has {what} {found:,}; at most {most:,} is allowed. Ask for less, or for smaller pages."
            raise GraphQLError(said, extensions={"code": f"too_much_{what}", what: found, "limit": most})
    return taken


class _Walk:
    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        operation: OperationDefinitionNode,
        variables: dict[str, Any],
    ) -> None:
        self._schema = schema
        self._fragments = {
            found.name.value: found for found in document.definitions if isinstance(found, FragmentDefinitionNode)
        }
        self._known: dict[str, Taken] = {}
        coerced = get_variable_values(schema, operation.variable_definitions or (), variables, max_errors=5)
        if isinstance(coerced, list):
            raise coerced[0]
        self._variables = coerced
        assert schema.query_type is not None
        self.taken = self._all(operation.selection_set, schema.query_type)

    def _all(self, selections: SelectionSetNode, parent: GraphQLNamedType | None) -> Taken:
        return sum((self._one(selection, parent) for selection in selections.selections), Taken())

    def _one(self, selection: SelectionNode, parent: GraphQLNamedType | None) -> Taken:
        if isinstance(selection, FragmentSpreadNode):
            return self._fragment(selection.name.value)
        if isinstance(selection, InlineFragmentNode):
            return self._all(selection.selection_set, self._narrowed(selection, parent))
        assert isinstance(selection, FieldNode)
        assert isinstance(parent, GraphQLObjectType)
        name = selection.name.value
        field = _META.get(name) or parent.fields[name]
        inner = Taken()
        if selection.selection_set is not None:
            inner = self._all(selection.selection_set, get_named_type(field.type))
        return Taken(
            cost=(READ_COST if name in READS else 1) + self._entries(field, selection) * inner.cost,
            depth=0 if parent.name.startswith("__") or name in _META else 1 + inner.depth,
            aliases=inner.aliases + (selection.alias is not None),
        )

    def _fragment(self, name: str) -> Taken:
        if name not in self._known:
            fragment = self._fragments[name]
            self._known[name] = self._all(fragment.selection_set, self._narrowed(fragment, None))
        return self._known[name]

    def _narrowed(
        self, fragment: FragmentDefinitionNode | InlineFragmentNode, parent: GraphQLNamedType | None
    ) -> GraphQLNamedType | None:
        condition = fragment.type_condition
        return self._schema.get_type(condition.name.value) if condition else parent

    def _entries(self, field: GraphQLField, node: FieldNode) -> int:
        """How many entries there can be below a field."""
        if PAGE in field.args:
            n = get_argument_values(field, node, self._variables)[PAGE]
            if not 1 <= n <= MAX_PAGE:
                raise GraphQLError(f"`{PAGE}` is {n:,}; it must be 1 to {MAX_PAGE}.", node)
            return int(n)
        is_meta = get_named_type(field.type).name.startswith("__")
        return _META_LIST if is_meta and isinstance(get_nullable_type(field.type), GraphQLList) else 1
