"""Log lines: set-up, masked secrets, and telling a lasting problem once."""
