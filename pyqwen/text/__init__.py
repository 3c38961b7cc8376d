"""Text to tokens and back: vocabularies, chat templates, and what streams out of them."""
