"""What networks run on: devices and dtypes, weights, loading, batches of one size."""
