"""What `sinfer new` writes."""
