"""OpenAI-compatible servers: chat completions and embeddings."""
