"""What is said to workflows and activities: one model a message, grown by optional fields."""
