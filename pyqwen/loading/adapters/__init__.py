"""Adapters (LoRA) as files: PEFT's directories and llama.cpp's GGUF, checked against their base model."""
