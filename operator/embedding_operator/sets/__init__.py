"""Which pods there should be, and how they take each other's place: pure decisions."""
