"""pyqwen: quantized inference of Qwen2.5 models on ordinary CPUs."""
