"""The jetstream sink."""
