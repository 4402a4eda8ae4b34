"""What people and their monitoring do to running tasks, as ``sinfer`` commands wire it up."""
