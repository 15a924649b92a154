"""What can be trained: models, data and the trainer. Knows nothing of Ray or of Parquet."""
