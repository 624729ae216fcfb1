"""Images to maps: annotators and the networks they share. No Beam, no Parquet."""
