"""Fine-tuning: examples, recipes, training, and what came of it."""
