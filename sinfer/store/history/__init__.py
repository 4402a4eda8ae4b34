"""What ended: the ledger of finished windows, and dead letters."""
