"""Views of a dataset: rows, report, contact sheet, dataset card, verify."""
