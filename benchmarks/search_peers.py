"""Other engines for `benchmarks.search`; one that is not installed is left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Search = Callable[[Array], Sequence[int]]  # numbers of the 10 best rows for a query
K = 10


@dataclass(frozen=True)
class Peer:
    """Another engine."""

    build: Callable[[Array, Path], Search | None]  # None: it is not installed
    slow: bool = False  # to build
    crawls: bool = False  # seconds for a query of a million rows


def _numpy(rows: Array, _: Path) -> Search:
    return lambda query: np.argpartition(-(rows @ query), K)[:K].tolist()


def _semantic_search(rows: Array, _: Path) -> Search | None:
    try:
        import torch
        from sentence_transformers.util import semantic_search
    except ImportError:
        return None
    corpus = torch.from_numpy(rows)

    def search(query: Array) -> list[int]:
        hits = semantic_search(torch.from_numpy(query[None]), corpus, top_k=K)[0]
        return [int(hit["corpus_id"]) for hit in hits]

    return search


def _faiss(kind: str, lists: int = 0) -> Callable[[Array, Path], Search | None]:
    def build(rows: Array, _: Path) -> Search | None:
        try:
            import faiss
        except ImportError:
            return None
        index: Any = faiss.index_factory(rows.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(rows[:: max(1, len(rows) // 200_000)])
        index.add(rows)
        if lists:
            index.nprobe = lists
        return lambda query: index.search(query[None], K)[1][0].tolist()

    return build


def _usearch(rows: Array, _: Path) -> Search | None:
    try:
        from usearch.index import Index
    except ImportError:
        return None
    index = Index(ndim=rows.shape[1], metric="ip", dtype="f16", expansion_search=768)
    index.add(np.arange(len(rows)), rows)
    return lambda query: index.search(query, K).keys.tolist()


def _hnswlib(rows: Array, _: Path) -> Search | None:
    try:
        import hnswlib
    except ImportError:
        return None
    index = hnswlib.Index("ip", rows.shape[1])
    index.init_index(len(rows), ef_construction=200, M=16)
    index.add_items(rows)
    index.set_ef(768)
    return lambda query: index.knn_query(query, K)[0][0].tolist()


def _lance(rows: Array, folder: Path) -> Search | None:
    try:
        import lance
        import pyarrow as pa
    except ImportError:
        return None
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    table = pa.table({"number": np.arange(len(rows)), "vector": values})
    dataset = lance.write_dataset(table, str(folder))

    def search(query: Array) -> list[int]:
        nearest = {"column": "vector", "q": query, "k": K, "metric": "cosine"}
        found = dataset.to_table(columns=["number", "_distance"], nearest=nearest)
        return found["number"].to_pylist()

    return search


PEERS = {
    "NumPy": Peer(_numpy),
    "semantic_search": Peer(_semantic_search),
    "FAISS Flat": Peer(_faiss("Flat")),
    "FAISS IVF1024 64 lists": Peer(_faiss("IVF1024,Flat", 64), slow=True),
    "FAISS IVF1024 256 lists": Peer(_faiss("IVF1024,Flat", 256), slow=True),
    "usearch f16": Peer(_usearch, slow=True),
    "hnswlib": Peer(_hnswlib, slow=True),
    "Lance scan": Peer(_lance, crawls=True),
}
