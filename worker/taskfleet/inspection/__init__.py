"""The life of tasks, read: a single task, pages of tasks, and the reason why one waits."""
