"""What is measured rather than answered: speed, perplexity, and the state of this machine."""
