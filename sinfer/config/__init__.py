"""How anything is configured: models, units, plugins, files of secrets, TLS."""
