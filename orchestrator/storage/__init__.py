"""The store: parts of Parquet in a folder or an object store, their schema, and its lock."""
