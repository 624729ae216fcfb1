"""Results: pictures that were made for the rows of a dataset, as a dataset of their own."""
