"""What processes write down for one another and for people, apart from windows."""
