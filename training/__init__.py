"""Tables to a ControlNet: loader, transforms, trainer, convergence, sampling, evaluation, export."""
