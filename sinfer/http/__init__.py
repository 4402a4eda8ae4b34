"""What all HTTP clients of sinfer share: limits, proxies, routes and Retry-After."""
