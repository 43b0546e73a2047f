"""`QdrantStore`: rows as points of a collection in a Qdrant server.

    qdrant://host:6333/photos          qdrant+https://host:6333/photos

The key of the server comes from the environment variable QDRANT_API_KEY. The hits of a server are
scored again in float64. With `exact=True` the answer is exact; otherwise Qdrant may use its graph,
which can miss rows. Qdrant has no transactions: rows of a call that fails can be there in part, and
counts of rows replaced or deleted are off where two write the same rows at once.

N rows, E vector size, Q queries, K hits.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import ConfigError
from ecliptic.index.answers import Hits, Repaired, SearchPlan, SearchResult, StoreProblem
from ecliptic.index.batches import RowBatch
from ecliptic.index.columns import ID
from ecliptic.index.filters.tree import Filter
from ecliptic.index.requests import ReadRequest, SearchRequest
from ecliptic.index.schema import RowBlock, StoreSchema
from ecliptic.index.servers.address import read_address
from ecliptic.index.servers.candidates import (
    BLOCK,
    find_candidates,
    rank_exactly,
    score_margin,
)
from ecliptic.index.servers.qdrant_collection import (
    find_collection_problems,
    mend_collection,
    open_collection,
    read_version,
    restart_optimizer,
)
from ecliptic.index.servers.qdrant_driver import models
from ecliptic.index.servers.qdrant_filters import filter_to_qdrant
from ecliptic.index.servers.qdrant_link import QdrantLink, connect
from ecliptic.index.servers.qdrant_rows import (
    list_payload_keys,
    make_point_id,
    read_points,
    split_batch,
)
from ecliptic.index.store import Store

_FORM = "qdrant://host:6333/photos or qdrant+https://host:6333/photos"
_COLLECTION = re.compile("[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_PARTLY = "some rows of this call may be stored; write them again, which does no harm"


class QdrantStore(Store):
    """A store in a Qdrant server; made by `QdrantStore.open`."""

    def __init__(self, link: QdrantLink, schema: StoreSchema) -> None:
        self.schema = schema
        self._link, self._client, self._name = link, link.client, link.collection
        self._version = read_version(link)

    @classmethod
    def open(
        cls,
        url: str,
        schema: StoreSchema | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """The store at `url`.

        Args:
            url: as in the head of this file.
            schema: make the store if it is not there; None: it must be there.
            environment: where the key of the server is; None: the environment of the process.

        Raises:
            ConfigError: another form of URL.
            StorageError: no connection, no such store, or one with another schema.
        """
        address = read_address(url, ("qdrant", "qdrant+https"), _FORM)
        if address.user or address.password:
            raise ConfigError(
                "Qdrant has no users or passwords in its address; put the key of the server into "
                "the environment variable QDRANT_API_KEY."
            )
        if not address.host or not _COLLECTION.fullmatch(address.path):
            raise ConfigError(f"the address names no host and collection; write {_FORM}.")
        client = connect(address, environment)
        try:
            link = QdrantLink(client, address.path, str(address))
            return cls(link, open_collection(link, schema))
        except BaseException:
            client.close()
            raise

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def __len__(self) -> int:
        return self._count(None)

    def check(self, *, deep: bool = False) -> list[StoreProblem]:
        """What is wrong with the collection.

        Args:
            deep: read every row, and compare its point and the length of its vector.
        """
        with self._link.told():
            return find_collection_problems(self._link, self.schema, deep=deep)

    def repair(self, *, drop: bool = False) -> Repaired:  # noqa: ARG002
        """Build indexes of columns that are gone, and delete points that are no rows.

        These are deleted with `drop` and without.
        """
        with self._link.told("some of it may be done; run it again"):
            return mend_collection(self._link, self.schema)

    def compact(self, *, now: bool = False) -> None:  # noqa: ARG002 - of files
        """Ask the server to look for work; it joins its segments by itself meanwhile."""
        with self._link.told("it was not done"):
            restart_optimizer(self._link)

    def _translate(self, tree: Filter | None) -> models.Filter | None:
        if tree is None:
            return None
        return filter_to_qdrant(tree, self.schema.columns, self._version)

    def _count(self, condition: models.Filter | None) -> int:
        with self._link.told():
            return self._client.count(self._name, count_filter=condition, exact=True).count

    def _write(self, batch: RowBatch) -> int:
        replaced = self._count_points(batch.ids)
        with self._link.told(_PARTLY):
            for points in split_batch(batch):
                self._client.upsert(self._name, points, wait=True)
        return replaced

    def _count_points(self, ids: Sequence[str]) -> int:
        return sum(len(points) for points in self._retrieve(_make_ids(ids), False))

    def _retrieve(
        self, points: Sequence[str], payload: list[str] | bool, *, vectors: bool = False
    ) -> Iterator[list[models.Record]]:
        for at in range(0, len(points), BLOCK):
            with self._link.told():
                found = self._client.retrieve(
                    self._name,
                    points[at : at + BLOCK],
                    with_payload=payload,
                    with_vectors=vectors,
                )
            yield found

    def _delete_ids(self, ids: tuple[str, ...]) -> int:
        there = self._count_points(ids)
        points: list[Any] = _make_ids(ids)
        for at in range(0, len(points), BLOCK):
            chosen = models.PointIdsList(points=points[at : at + BLOCK])
            self._delete(chosen)
        return there

    def _delete_where(self, tree: Filter) -> int:
        condition = filter_to_qdrant(tree, self.schema.columns, self._version)
        there = self._count(condition)
        self._delete(models.FilterSelector(filter=condition))
        return there

    def _delete(self, chosen: models.PointIdsList | models.FilterSelector) -> None:
        with self._link.told("some rows may be deleted; delete again, which does no harm"):
            self._client.delete(self._name, chosen, wait=True)

    def _search(self, wanted: SearchRequest) -> SearchResult:
        condition = self._translate(wanted.tree)
        candidates = self._count(condition)
        answers = [
            self._nearest(query, wanted.k, condition, exact=wanted.exact)
            for query in wanted.queries
        ]
        scored = sum(rows for _, rows in answers)
        plan = SearchPlan("scan" if wanted.exact else "graph", candidates, scored)
        return self._with_columns([hits for hits, _ in answers], plan, wanted.columns)

    def _nearest(
        self, query: NDArray[np.float32], k: int, condition: models.Filter | None, *, exact: bool
    ) -> tuple[Hits, int]:
        """The hits of one query, and how many rows were scored again."""

        def fetch(limit: int) -> list[tuple[str, float]]:
            with self._link.told():
                found = self._client.query_points(
                    self._name,
                    query=query.tolist(),
                    query_filter=condition,
                    search_params=models.SearchParams(exact=exact),
                    limit=limit,
                    with_payload=False,
                )
            return [(str(point.id), point.score) for point in found.points]

        keys = find_candidates(fetch, k, score_margin(self.schema.width))
        found = self._retrieve(keys, [ID], vectors=True)
        blocks = (read_points(points, (), self.schema, vectors=True) for points in found)
        pairs = ((block.ids, block.vectors) for block in blocks if block.vectors is not None)
        return rank_exactly(pairs, query, k)

    def _read(self, wanted: ReadRequest) -> Iterator[RowBlock]:
        keys = list_payload_keys(wanted.columns, self.schema)
        if wanted.ids is not None:
            pages = self._retrieve(_make_ids(wanted.ids), keys, vectors=wanted.vectors)
        else:
            pages = self._scroll(self._translate(wanted.tree), keys, vectors=wanted.vectors)
        empty = True
        for points in pages:
            empty = False
            yield read_points(points, wanted.columns, self.schema, vectors=wanted.vectors)
        if empty:
            yield read_points([], wanted.columns, self.schema, vectors=wanted.vectors)

    def _scroll(
        self, condition: models.Filter | None, keys: list[str], *, vectors: bool
    ) -> Iterator[list[models.Record]]:
        """Pages in the order of the points; rows that are written meanwhile may be in them."""
        start: Any = None
        while True:
            with self._link.told():
                points, start = self._client.scroll(
                    self._name,
                    scroll_filter=condition,
                    limit=BLOCK,
                    offset=start,
                    with_payload=keys,
                    with_vectors=vectors,
                )
            yield points
            if start is None:
                return


def _make_ids(ids: Sequence[object]) -> list[str]:
    return [point for point in map(make_point_id, ids) if point is not None]
