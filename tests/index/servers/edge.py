"""`EdgeClient`: what `QdrantStore` calls of a client, answered by the engine of the server.

The package qdrant-edge-py has the Rust code that stores and searches in a Qdrant server, without
the server around it. Payloads go through JSON as they do on the wire. Its bindings take True for
the number 1, so truth values are stored as numbers here.
"""

import json
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import qdrant_edge as edge
from qdrant_client import models


def _translate(filter_: models.Filter | None) -> Any:
    if filter_ is None:
        return None
    parts = {
        name: None if given is None else [_condition(part) for part in given]
        for name in ("must", "should", "must_not")
        for given in [getattr(filter_, name)]
    }
    return edge.Filter(**parts)


def _condition(part: Any) -> Any:
    if isinstance(part, models.Filter):
        return _translate(part)
    if isinstance(part, models.IsEmptyCondition):
        return edge.IsEmptyCondition(part.is_empty.key)
    if part.match is not None:
        kind = getattr(edge, type(part.match).__name__)
        return edge.FieldCondition(part.key, match=kind(*dict(part.match).values()))
    return edge.FieldCondition(part.key, range=_range(part.range))


def _range(bounds: Any) -> Any:
    given = {name: value for name, value in bounds if value is not None}
    if any(isinstance(value, datetime) for value in given.values()):
        wire = json.loads(bounds.model_dump_json(exclude_none=True))
        return edge.RangeDateTime(**wire)
    return edge.RangeFloat(**given)


def _record(found: Any) -> Any:
    return SimpleNamespace(
        id=str(found.id),
        payload=found.payload,
        vector=found.vector,
        score=getattr(found, "score", 0),
    )


class EdgeClient:
    """One collection at a time, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shard: Any = None
        self._info: Any = None
        self.requests = 0  # of rows to write

    def info(self) -> Any:
        return SimpleNamespace(version="1.20.0")

    def close(self) -> None:
        if self._shard is not None:
            self._shard.close()
        self._shard = None

    def collection_exists(self, name: str) -> bool:
        return self._shard is not None

    def create_collection(self, name: str, vectors_config: Any, metadata: Any) -> None:
        self._folder.mkdir()
        params = edge.EdgeVectorParams(vectors_config.size, edge.Distance.Dot)
        self._shard = edge.EdgeShard.create(str(self._folder), edge.EdgeConfig(vectors=params))
        config = SimpleNamespace(
            metadata=json.loads(json.dumps(metadata)),
            params=SimpleNamespace(vectors=vectors_config),
        )
        self._info = SimpleNamespace(config=config, payload_schema={}, status="green")

    def get_collection(self, name: str) -> Any:
        return self._info

    def create_payload_index(self, name: str, field: str, kind: Any, wait: bool) -> None:
        known = "Integer" if kind.value == "bool" else kind.value.capitalize()
        schema = getattr(edge.PayloadSchemaType, known)
        self._shard.update(edge.UpdateOperation.create_field_index(field, schema))
        self._info.payload_schema[field] = kind

    def reload(self) -> None:
        """Write all to disk and read it again, as when the server starts anew."""
        self._shard.close()
        self._shard = edge.EdgeShard.load(str(self._folder))

    def upsert(self, name: str, points: models.Batch, wait: bool) -> None:
        self.requests += 1
        wire = json.loads(points.model_dump_json())
        payloads = [
            {
                key: int(value) if isinstance(value, bool) else value
                for key, value in payload.items()
            }
            for payload in wire["payloads"]
        ]
        rows = zip(wire["ids"], wire["vectors"], payloads, strict=True)
        self._shard.update(edge.UpdateOperation.upsert_points([edge.Point(*row) for row in rows]))

    def retrieve(self, name: str, ids: Any, with_payload: Any, with_vectors: bool) -> list[Any]:
        found = self._shard.retrieve(list(ids), with_payload or False, with_vectors)
        return [_record(point) for point in found]

    def count(self, name: str, count_filter: Any, exact: bool) -> Any:
        request = edge.CountRequest(exact, _translate(count_filter))
        return SimpleNamespace(count=self._shard.count(request))

    def delete(self, name: str, chosen: Any, wait: bool) -> None:
        if isinstance(chosen, models.PointIdsList):
            self._shard.update(edge.UpdateOperation.delete_points(list(chosen.points)))
        else:
            chosen = _translate(chosen.filter)
            self._shard.update(edge.UpdateOperation.delete_points_by_filter(chosen))

    def query_points(self, name: str, **how: Any) -> Any:
        request = edge.QueryRequest(
            how["limit"],
            query=edge.Query.Nearest(how["query"]),
            filter=_translate(how["query_filter"]),
            params=edge.SearchParams(exact=how["search_params"].exact),
        )
        return SimpleNamespace(points=[_record(point) for point in self._shard.query(request)])

    def scroll(self, name: str, **how: Any) -> tuple[list[Any], Any]:
        request = edge.ScrollRequest(
            how["offset"],
            how["limit"],
            _translate(how.get("scroll_filter")),
            how["with_payload"],
            how["with_vectors"],
        )
        points, start = self._shard.scroll(request)
        return [_record(point) for point in points], start
