"""The library that speaks to Qdrant; it comes with the extra `qdrant`."""

from ecliptic.errors import MissingExtraError

try:
    from qdrant_client import QdrantClient as QdrantClient, models as models
except ImportError as error:
    raise MissingExtraError(
        "a Qdrant server as a store needs qdrant-client; run `pip install ecliptic[qdrant]`."
    ) from error
