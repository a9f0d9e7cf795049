"""Training any model under any policy: data, tasks, the loop, and what it leaves behind."""
