"""What a dataset is: conditions, table schemas, codecs, fingerprints, the dataset folder. No torch, no Beam."""
