"""Base models: what differs between them. Loading, prompts, latents, noise, and how a ControlNet joins one."""
