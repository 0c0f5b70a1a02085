"""Student fine-tuning and evaluation."""
