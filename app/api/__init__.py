"""What people and machines touch: health, sessions, repairs."""
