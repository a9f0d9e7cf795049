"""Files that anybody may have written: located YAML, typed JSON, and whom to trust."""
