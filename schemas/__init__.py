"""What a dataset is: conditions, tables, the dataset folder, how its files are read and written. No torch, no Beam."""
