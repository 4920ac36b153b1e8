"""What was drawn: describe, identify, replay."""
