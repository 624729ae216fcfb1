"""A dataset's files: storage, Parquet, JSON, and checks of files from elsewhere."""
