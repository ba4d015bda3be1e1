"""The environment and the servers file, read once into typed settings."""
