"""The collection of a store in Qdrant: how it is made, and whether it is as it was made.

The schema is in the metadata of the collection. Vectors are compared by inner product: they have
unit length already, and Qdrant's cosine would store them with other last digits.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ecliptic.errors import StorageError
from ecliptic.index.answers import Repaired, StoreProblem
from ecliptic.index.columns import ID, ColumnType
from ecliptic.index.declared import check_same_schema, print_schema, read_schema
from ecliptic.index.schema import StoreSchema
from ecliptic.index.servers.candidates import BLOCK
from ecliptic.index.servers.qdrant_driver import models
from ecliptic.index.servers.qdrant_link import QdrantLink
from ecliptic.index.servers.qdrant_rows import join_point_vectors, list_payload_keys, make_point_id

OLDEST = (1, 16)  # server that keeps metadata of a collection
SCHEMA_KEY = "ecliptic_schema"
_INDEXES: dict[ColumnType, models.PayloadSchemaType] = {
    "string": models.PayloadSchemaType.KEYWORD,
    "int": models.PayloadSchemaType.INTEGER,
    "float": models.PayloadSchemaType.INTEGER,  # of each half
    "bool": models.PayloadSchemaType.BOOL,
    "timestamp": models.PayloadSchemaType.DATETIME,
}


def read_version(link: QdrantLink) -> tuple[int, ...]:
    """Of the server: (1, 20).

    Raises:
        StorageError: no connection, or the server is too old.
    """
    with link.told():
        text = link.client.info().version
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if version < OLDEST:
        raise StorageError(
            f"{link.where} is Qdrant {text}, and a store needs 1.16 or newer; upgrade the server."
        )
    return version


def open_collection(link: QdrantLink, schema: StoreSchema | None) -> StoreSchema:
    """The schema of the store; with `schema`, the store is made if it is not there.

    Raises:
        StorageError: it is not there, or with another schema.
    """
    read_version(link)
    with link.told():
        there = link.client.collection_exists(link.collection)
    if not there and schema is None:
        raise StorageError(f"there is no store {link.where}; make it first, or look at the name.")
    if not there and schema is not None:
        _create(link, schema)
    with link.told():
        found = _declared(link)
    if schema is not None:
        check_same_schema(found, schema, link.where)
    return found


def _create(link: QdrantLink, schema: StoreSchema) -> None:
    try:
        with link.told("it was not made"):
            link.client.create_collection(
                link.collection,
                vectors_config=models.VectorParams(size=schema.width, distance=models.Distance.DOT),
                metadata={SCHEMA_KEY: print_schema(schema)},
            )
    except StorageError:
        with link.told():
            if not link.client.collection_exists(link.collection):
                raise
        return  # another process made it at the same time
    with link.told("it is not complete; run `repair`"):
        _build_indexes(link, schema)


def _declared(link: QdrantLink) -> StoreSchema:
    metadata = link.client.get_collection(link.collection).config.metadata or {}
    if SCHEMA_KEY not in metadata:
        raise StorageError(
            f"{link.where} is a collection that is no store of ecliptic; use another name."
        )
    return read_schema(metadata[SCHEMA_KEY], link.where)


def _missing_indexes(link: QdrantLink, schema: StoreSchema) -> dict[str, ColumnType]:
    """Key of the payload -> the type of its column."""
    there = link.client.get_collection(link.collection).payload_schema
    keys = {
        key: kind
        for name, kind in schema.columns.items()
        for key in list_payload_keys([name], schema)[1:]
    }
    return {key: kind for key, kind in keys.items() if key not in there}


def _build_indexes(link: QdrantLink, schema: StoreSchema) -> list[str]:
    """Index what filters look at and has no index; returns the keys."""
    missing = _missing_indexes(link, schema)
    for name, kind in missing.items():
        link.client.create_payload_index(link.collection, name, _INDEXES[kind], wait=True)
    return list(missing)


def restart_optimizer(link: QdrantLink) -> None:
    """Make the server look whether segments can be joined; a change of nothing does that."""
    link.client.update_collection(link.collection, optimizers_config=models.OptimizersConfigDiff())


def find_collection_problems(
    link: QdrantLink, schema: StoreSchema, *, deep: bool
) -> list[StoreProblem]:
    """Sentences for people, each with what to do; none if the store is sound."""
    if not link.client.collection_exists(link.collection):
        what = "it is gone; restore it from a snapshot."
        return [StoreProblem(f"collection {link.collection}", what)]
    problems = _find_changes(link, schema)
    if deep and not problems:
        bad = sum(len(points) for points in _find_bad_points(link, schema))
        if bad:
            problems.append(
                f"{bad} points are no rows of this store, so something else wrote them; `repair` "
                "deletes them."
            )
    return [StoreProblem(f"collection {link.collection}", what) for what in problems]


def _find_changes(link: QdrantLink, schema: StoreSchema) -> list[str]:
    try:
        if _declared(link) != schema:
            return ["it was made again with another schema; open it again."]
    except StorageError as error:
        return [str(error)]
    info = link.client.get_collection(link.collection)
    problems = []
    if info.status == models.CollectionStatus.RED:
        problems.append("the server has errors with it (status red); look into its log.")
    params = info.config.params.vectors
    fits = isinstance(params, models.VectorParams) and params.size == schema.width
    if not fits or getattr(params, "distance", None) != models.Distance.DOT:
        problems.append("its vectors have another size or distance; make the store again.")
    if missing := _missing_indexes(link, schema):
        problems.append(f"no index of {', '.join(missing)}, so filters are slow; run `repair`.")
    return problems


def _find_bad_points(link: QdrantLink, schema: StoreSchema) -> Iterator[list[Any]]:
    """Ids of points whose payload, id or vector is not as we write them, by page."""
    start: Any = None
    while True:
        points, start = link.client.scroll(
            link.collection, limit=BLOCK, offset=start, with_payload=[ID], with_vectors=True
        )
        lengths = np.linalg.norm(join_point_vectors(points, schema.width), axis=1)
        ids = [make_point_id((point.payload or {}).get(ID)) for point in points]
        yield [
            point.id
            for point, id_, length in zip(points, ids, lengths, strict=True)
            if str(point.id) != id_ or not abs(length - 1) < 1e-3
        ]
        if start is None:
            return


def mend_collection(link: QdrantLink, schema: StoreSchema) -> Repaired:
    """Mend what `find_collection_problems` finds and the server can mend."""
    actions = []
    if names := _build_indexes(link, schema):
        actions.append(f"built the index of {', '.join(names)}.")
    bad = [point for points in _find_bad_points(link, schema) for point in points]
    if bad:
        link.client.delete(link.collection, models.PointIdsList(points=bad), wait=True)
        actions.append(f"deleted {len(bad)} points that were no rows of this store.")
    return Repaired(tuple(actions), len(bad))
