"""Text encoders: tokens to hidden states."""
