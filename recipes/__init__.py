"""Ready runs of the whole: the demo."""
