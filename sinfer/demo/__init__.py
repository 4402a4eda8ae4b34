"""The demonstration: publish real messages, watch the results arrive, check every one of them."""
