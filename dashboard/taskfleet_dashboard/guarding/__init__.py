"""What keeps other sites, other hosts and foreign markup away."""
