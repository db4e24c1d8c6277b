"""From what is in Redis to answers: one module for each subject. Nothing here changes anything."""
