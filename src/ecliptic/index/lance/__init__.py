"""The engine on Lance, the table format of LanceDB: a folder that is safe from kills and damage."""
