"""Windows: what they are (specs, planning; pure) and where they are kept (store, Redis)."""
