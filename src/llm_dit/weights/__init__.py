"""Files to modules: folders, headers, single files, LoRA files, placement."""
