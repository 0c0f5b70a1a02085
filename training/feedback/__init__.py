"""What a student teaches about the rows it learned from: influence, weights, agreement, errors."""
