"""Records: what was done to a model, kept with it, saved, replayed and undone."""
