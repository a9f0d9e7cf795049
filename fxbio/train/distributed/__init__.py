"""One process or many: who is who, what they agree on, and how they are started and stopped."""
