"""What each feature costs: the cases, and the program that plays one of them."""
