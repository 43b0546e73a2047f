"""From a name to a verified local file: paths, catalog names, repositories of the hub."""
