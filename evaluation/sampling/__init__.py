"""Pictures from a base with ControlNets, through the stock pipelines. Imports nothing heavy itself."""
