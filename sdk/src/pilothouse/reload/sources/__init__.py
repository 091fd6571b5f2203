"""Where configuration comes from, one file each."""
