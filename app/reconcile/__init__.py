"""One pass, one repair, and the loop around them."""
