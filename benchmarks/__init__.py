"""What the README's figures on speed and memory come from."""
