"""What a TaskQueue says about itself: fields, conditions, Events."""
