"""The claims of the story, in its order; each module has one."""
