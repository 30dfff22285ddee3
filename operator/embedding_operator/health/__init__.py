"""What is the matter with pods and what they say of themselves: pure."""
