"""The commands: one module per noun. What is heavy is imported inside the commands."""
