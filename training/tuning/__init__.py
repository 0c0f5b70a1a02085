"""Fine-tuning a teacher: a causal language model learns to give replies, under Ray Train."""
