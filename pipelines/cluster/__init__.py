"""A Dask cluster of this machine and others: started, joined, watched, ended, checked."""
