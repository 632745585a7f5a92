"""A change of all of a network's weights, stored in as few numbers as asked, with what that loses."""
