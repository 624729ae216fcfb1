"""Sampling with a ControlNet, and measuring whether it follows its condition. No Beam, no training loop."""
