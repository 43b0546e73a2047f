"""From a query to pictures: words and pictures as one vector, hits, copies."""
