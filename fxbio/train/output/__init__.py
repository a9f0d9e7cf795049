"""What a run leaves behind and shows: its folder, its status, metrics and progress."""
