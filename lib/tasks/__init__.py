"""One module a task: its prompts, its disjoint splits, its metrics."""
