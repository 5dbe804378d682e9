"""Words -> a checked RunConfig; with commands/sweep the only room that knows Hydra."""
