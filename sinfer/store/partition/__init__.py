"""What is stored of one partition as a whole: its writer, its account, snapshots of it."""
