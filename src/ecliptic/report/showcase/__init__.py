"""The page of `ecliptic demo`: one model answers questions about drawings, or the user's images."""
