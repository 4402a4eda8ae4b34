"""What tests share: servers, deployments, stores, clocks, and waiting for what comes true."""
